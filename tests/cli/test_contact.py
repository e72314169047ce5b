"""`wa contact` and what opting out does to sends and lists: flags, words, JSON and exit codes.  Issue 4, point 4."""

from __future__ import annotations

import csv
import io
import stat
from typing import TYPE_CHECKING, Any

import pytest
from stored import ACCEPTED, send

from tests.cli.test_subgroup import run_on_terminal
from wa_cli.domain.event import InboundEvent, NumberChangedEvent, Person
from wa_cli.services.people import apply_inbound, apply_number_change

if TYPE_CHECKING:
    from conftest import Wa

    from wa_cli.bootstrap import App

ANN, BOB, CAT = "+6581234567", "+6581234568", "+6581234569"
GROUP = "120363025246125486@g.us"
HOUR = 3_600_000


def write_in(app: App, address: str, words: str = "hello", *, ago_ms: int = 0, name: str | None = None) -> None:
    """They wrote to the default instance."""
    now_ms = app.clock.wall_ms()
    event = InboundEvent(
        number_id="1",
        provider_message_id=f"wamid.{address}.{words}.{ago_ms}",
        at_ms=now_ms - ago_ms,
        person=Person(address=address, name=name),
        kind="text",
        words=words,
    )
    with app.people.turn() as turn:
        apply_inbound(turn, event, instance_id=1, now_ms=now_ms)


def move(app: App, old: str, new: str) -> None:
    now_ms = app.clock.wall_ms()
    event = NumberChangedEvent(number_id="1", at_ms=now_ms, old=Person(address=old), new=Person(address=new))
    with app.people.turn() as turn:
        apply_number_change(turn, event, now_ms=now_ms)


def hear_webhooks(app: App) -> None:
    now_ms = app.clock.wall_ms()
    with app.database.write() as connection:
        connection.execute(
            "UPDATE instance SET webhooks_since = ?, last_webhook_at = ?", (now_ms - 48 * HOUR, now_ms - HOUR)
        )


def shown(wa: Wa, who: str) -> Any:
    answer = wa("contact", "show", who, "--json")
    assert answer.exit == 0, answer.err
    return answer.json()


# opt-out and opt-in


def test_somebody_who_opts_out_is_skipped_by_every_send_and_the_call_says_so(wa: Wa, app: App) -> None:
    """Fault 88: in any spelling, known before or not."""
    done = wa("contact", "opt-out", "+65 8123 4567", "--reason", "by phone")
    assert (done.exit, done.out) == (0, "1 person opted out\n")
    answer = wa("send", "to", ANN, BOB, "--text", "hi")
    assert answer.exit == 3
    assert "1 skipped (1 opted out)" in answer.out
    assert f"{ANN}: the person has opted out" in answer.err
    document = wa("send", "to", "whatsapp:+6581234567", CAT, "--text", "hi", "--json").json()
    assert (document["queued"], document["skipped"], document["skipped_by_reason"]) == (1, 1, {"opted_out": 1})
    assert [(one["outcome"], one.get("reason")) for one in document["messages"]] == [
        ("skipped", "opted_out"),
        ("queued", None),
    ]


def test_a_call_whose_every_recipient_has_opted_out_is_refused_by_the_safety_rule(wa: Wa, app: App) -> None:
    wa("contact", "opt-out", ANN, BOB)
    refused = wa("send", "to", ANN, "--text", "hi")
    assert refused.exit == 6
    assert "error: nothing was queued: the recipient has opted out\nhint: `wa contact show" in refused.err
    document = wa("send", "to", ANN, BOB, "--text", "hi", "--json")
    assert document.exit == 6
    assert document.json()["skipped"] == 2
    assert document.error()["code"] == "opted_out"
    assert wa("status", "--json").json()["stats"]["skipped"] == 3


def test_a_subgroup_keeps_who_has_opted_out_and_says_how_many(wa: Wa, app: App) -> None:
    """Fault 88: added back by hand, by a list, under an earlier spelling."""
    wa("contact", "opt-out", ANN)
    wa("subgroup", "create", "vip")
    added = wa("subgroup", "add", "vip", ANN, BOB)
    assert (added.exit, added.out) == (0, "2 added\n")
    assert "1 member has opted out: a send skips them" in added.err
    assert wa("subgroup", "add", "vip", ANN, "--json").json()["opted_out"] == 1
    people = wa.write("people.csv", f"phone\n{ANN}\n{CAT}\n")
    assert wa("subgroup", "import", "vip", people, "--json").json()["opted_out"] == 1
    assert "1 member has opted out" in wa("subgroup", "show", "vip").err
    document = wa("send", "subgroup", "vip", "hello", "--json").json()
    assert (document["queued"], document["skipped"]) == (2, 1)


def test_the_message_says_why_it_was_skipped_and_what_to_look_at(wa: Wa, app: App) -> None:
    wa("contact", "opt-out", ANN)
    wa("send", "to", ANN, "--text", "hi")
    explained = wa("message", "explain", "m1")
    assert "the person has opted out" in explained.out
    assert f"wa contact show {ANN}" in explained.out
    assert wa("message", "list", "--state", "skipped", "--json").json()["messages"][0]["reason"] == "opted_out"


def test_waiting_messages_are_counted_when_somebody_opts_out(wa: Wa, app: App) -> None:
    wa("send", "to", ANN, "--text", "hi", "--at", "in 2h")
    assert "1 message waiting for them will not be sent" in wa("contact", "opt-out", ANN).err


def test_opting_out_twice_changes_nothing(wa: Wa, app: App) -> None:
    wa("contact", "opt-out", ANN)
    again = wa("contact", "opt-out", ANN, "--json")
    assert again.json() == {
        "opted_out": 0,
        "already": 1,
        "contacts": [{"recipient": ANN, "changed": False, "waiting": 0}],
        "rows": [],
    }
    assert len(shown(wa, ANN)["consent"]) == 1


def test_who_was_opted_out_here_is_brought_back_here(wa: Wa, app: App) -> None:
    wa("contact", "opt-out", ANN)
    assert wa("contact", "opt-in", ANN).out == "1 person opted in\n"
    assert wa("send", "to", ANN, "--text", "hi").exit == 0


def test_who_left_by_their_own_word_comes_back_with_a_reason_and_a_yes_alone(wa: Wa, app: App) -> None:
    write_in(app, ANN, "STOP", ago_ms=HOUR)
    without = wa("contact", "opt-in", ANN)
    assert without.exit == 6
    assert "opted out by a message" in without.err
    assert "STOP" in without.err
    assert f"wa contact opt-in {ANN} --reason WHY" in without.err
    unasked = wa("contact", "opt-in", ANN, "--reason", "form 17")
    assert (unasked.exit, "--yes" in unasked.err) == (6, True)
    assert shown(wa, ANN)["opted_out"] is True
    assert wa("contact", "opt-in", ANN, "--reason", "form 17", "--yes").exit == 0
    document = shown(wa, ANN)
    assert document["opted_out"] is False
    last = document["consent"][-1]
    assert (last["change"], last["source"], last["wording"]) == ("opt_in", "person", "form 17")
    assert last["actor"]


def test_a_word_from_a_clock_ahead_of_ours_is_still_overruled_by_what_is_typed_later(wa: Wa, app: App) -> None:
    write_in(app, ANN, "STOP", ago_ms=-HOUR)
    wa("contact", "opt-in", ANN, "--reason", "asked", "--yes")
    assert shown(wa, ANN)["opted_out"] is False
    wa("contact", "opt-out", ANN)
    assert shown(wa, ANN)["opted_out"] is True


def test_the_question_can_be_answered_on_a_terminal(wa: Wa, app: App) -> None:
    write_in(app, ANN, "STOP")
    code, screen = run_on_terminal(wa.folder, "contact", "opt-in", ANN, "--reason", "form 17", typed="n\n")
    assert code == 6
    assert "Write to them again?" in " ".join(screen.split())  # wherever the line is broken
    assert shown(wa, ANN)["opted_out"] is True


@pytest.mark.parametrize("word", ["12", GROUP, "user:\x1b[2J"])
def test_what_is_no_person_is_refused(wa: Wa, app: App, word: str) -> None:
    refused = wa("contact", "opt-out", word)
    assert refused.exit == 2
    assert "\x1b" not in refused.err
    mixed = wa("contact", "opt-out", word, ANN, "--json")
    assert (mixed.exit, mixed.json()["opted_out"], len(mixed.json()["rows"])) == (3, 1, 1)


# windows


def test_free_text_to_people_who_have_not_written_is_one_warning_with_the_way_out(wa: Wa, app: App) -> None:
    hear_webhooks(app)
    write_in(app, ANN)
    answer = wa("send", "to", ANN, BOB, CAT, "--text", "hi")
    assert answer.exit == 0
    warnings = [line for line in answer.err.splitlines() if line.startswith("warning:")]
    assert len(warnings) == 1
    assert "2 of 3 people have not written within 24 h" in warnings[0]
    assert "--template" in warnings[0]
    document = wa("send", "to", BOB, "--text", "other", "--json")
    assert document.json()["closed_windows"] == 1
    assert document.json()["messages"][0]["window"] == "closed"
    assert "warning" not in wa("send", "to", BOB, "--template", "sale").err
    assert "warning" not in wa("send", "to", ANN, "--text", "again").err


def test_free_text_to_a_closed_window_is_refused_where_the_setting_says_so(
    wa: Wa, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WA_WINDOW", "refuse")
    hear_webhooks(app)
    write_in(app, ANN)
    assert wa("send", "to", ANN, BOB, "--text", "hi", "--json").json()["skipped_by_reason"] == {"window_closed": 1}
    refused = wa("send", "to", BOB, "--text", "hi")
    assert refused.exit == 6
    assert "--template" in refused.err
    assert "WA_WINDOW=refuse" in wa("message", "explain", "m2").out
    monkeypatch.setenv("WA_WINDOW", "ignore")
    assert "warning" not in wa("send", "to", BOB, "--text", "hi").err


def test_without_webhooks_nothing_is_said_of_windows(wa: Wa, app: App) -> None:
    assert "warning" not in wa("send", "to", ANN, "--text", "hi").err


# list and show


def test_the_list_says_who_may_be_written_to(wa: Wa, app: App) -> None:
    write_in(app, ANN, "STOP", name="Ann\x1b[2J")
    write_in(app, BOB)
    document = wa("contact", "list", "--json").json()
    assert [(one["recipient"], one["opted_out"]) for one in document["contacts"]] == [(ANN, True), (BOB, False)]
    assert [one["recipient"] for one in wa("contact", "list", "--opted-out", "--json").json()["contacts"]] == [ANN]
    text = wa("contact", "list")
    assert text.out.splitlines()[0].split("\t")[1] == "no, opted out"
    assert "\x1b" not in text.out
    assert "2 people, 1 opted out" in text.err


def test_the_list_goes_on_page_by_page(wa: Wa, app: App) -> None:
    wa("contact", "import", wa.write("p.csv", "phone\n" + "".join(f"+658123{n:04d}\n" for n in range(5))))
    first = wa("contact", "list", "--limit", 2, "--json").json()
    second = wa("contact", "list", "--limit", 2, "--after", first["next"], "--json").json()
    last = wa("contact", "list", "--limit", 2, "--after", second["next"], "--json").json()
    seen = [one["recipient"] for page in (first, second, last) for one in page["contacts"]]
    assert seen == [f"+658123{n:04d}" for n in range(5)]
    assert last["next"] is None
    assert wa("contact", "list", "--after", "m5").exit == 2


def test_a_person_is_shown_with_consent_windows_lists_and_messages(wa: Wa, app: App) -> None:
    wa("subgroup", "create", "vip")
    wa("subgroup", "add", "vip", ANN)
    send(app, ANN, outcome=ACCEPTED)
    hear_webhooks(app)
    write_in(app, ANN, "Stop promotions", name="Ann")
    document = shown(wa, ANN)
    assert (document["whatsapp_name"], document["subgroups"], document["messages"]) == ("Ann", ["vip"], {"sent": 1})
    assert document["windows"][0]["window"] == "open"
    row = document["consent"][0]
    assert (row["change"], row["source"], row["wording"]) == ("opt_out", "message", "Stop promotions")
    text = wa("contact", "show", ANN)
    assert "OPTED OUT" in text.out
    assert "opted out by a message" in text.out
    assert "Stop promotions" in text.out
    assert "open until" in text.out
    assert "not known" in wa("contact", "show", ANN).out or "open until" in text.out


def test_a_person_who_moved_is_shown_with_both_numbers(wa: Wa, app: App) -> None:
    write_in(app, ANN, "stop")
    move(app, ANN, BOB)
    new, old = shown(wa, BOB), shown(wa, ANN)
    assert (new["opted_out"], new["moved_from"], old["moved_to"]) == (True, [ANN], [BOB])
    assert new["consent"][0]["recipient"] == ANN
    assert f"(as {ANN})" in wa("contact", "show", BOB).out


def test_a_window_that_nobody_can_know_is_called_that(wa: Wa, app: App) -> None:
    wa("contact", "opt-out", ANN)
    assert "not known: without webhooks" in wa("contact", "show", ANN).out
    assert shown(wa, ANN)["windows"] == [
        {"instance": "default", "window": "unknown", "last_inbound_at": None, "closed_at": None}
    ]


def test_somebody_who_is_not_known_is_not_found(wa: Wa, app: App) -> None:
    missing = wa("contact", "show", ANN, "--json")
    assert missing.exit == 2
    assert missing.error()["code"] == "no_contact"


# import and export


def test_a_list_brings_attributes_and_consent(wa: Wa, app: App) -> None:
    people = wa.write(
        "people.csv",
        "Phone,name,Opted Out,consent_at,wording\n"
        f"{ANN},Ann,yes,2026-01-02T10:00:00Z,said stop by mail\n"
        f"{BOB},Bob,no,2026-03-04,form 17\n"
        f"{CAT},Cat,,,\n",
    )
    answer = wa("contact", "import", people)
    assert answer.exit == 0, answer.err
    assert answer.out == "read 3 rows: 3 added, 1 opted out, 1 opted in\n"
    ann, bob = shown(wa, ANN), shown(wa, BOB)
    assert (ann["opted_out_at"], ann["attributes"]) == ("2026-01-02T10:00:00Z", {"name": "Ann"})
    assert (bob["consent"][0]["at"], bob["consent"][0]["wording"]) == ("2026-03-04T00:00:00Z", "form 17")
    again = wa("contact", "import", people)
    assert again.out == "read 3 rows: 0 added, 3 already there\n"
    assert len(shown(wa, ANN)["consent"]) == 1


def test_a_list_never_brings_back_somebody_who_has_opted_out(wa: Wa, app: App) -> None:
    """Fault 88."""
    write_in(app, ANN, "STOP", ago_ms=HOUR)
    for row in (f"{ANN},no,2026-01-02", f"{ANN},no,{_tomorrow_is_not_yet(app)}"):
        answer = wa("contact", "import", wa.write("people.csv", f"phone,opted_out,consent_at\n{row}\n"), "--json")
        assert answer.exit == 0, answer.err
        assert answer.json()["kept_opted_out"] == 1
    assert shown(wa, ANN)["opted_out"] is True


def _tomorrow_is_not_yet(app: App) -> str:
    from wa_cli.cli.session import format_time

    return str(format_time(app.clock.wall_ms()))


def test_rows_that_cannot_be_read_are_named_and_the_others_go_in(wa: Wa, app: App) -> None:
    """Promise P12."""
    people = wa.write(
        "people.csv",
        f"phone,opted_out,consent_at\n{ANN},maybe,\n{BOB},yes,01/02/2026\n{CAT},yes,2999-01-01\n{GROUP},,\n+6581111111,,\n",
    )
    answer = wa("contact", "import", people, "--json")
    assert answer.exit == 3
    assert answer.json()["added"] == 1
    reasons = [row["reason"] for row in answer.json()["rows"]]
    assert [row["line"] for row in answer.json()["rows"]] == [2, 3, 4, 5]
    assert "yes or no" in reasons[0]
    assert "2026-11-25" in reasons[1]
    assert "in the future" in reasons[2]
    assert "subgroup" in reasons[3]
    strict = wa("contact", "import", people, "--strict")
    assert strict.exit == 2
    assert "none was imported" in strict.err
    nothing = wa("contact", "import", wa.write("bad.csv", "phone\n12\n"))
    assert nothing.exit == 2


def test_an_export_is_read_back_the_same(wa: Wa, app: App) -> None:
    wa(
        "contact",
        "import",
        wa.write(
            "people.csv",
            f"phone,city,opted_out,consent_at,wording,name\n{ANN},=1+1,yes,2026-01-02T10:00:00Z,'-bye,Ann\n{BOB},Riga,,,,\n",
        ),
    )
    write_in(app, BOB, name="Bob")
    out = wa("contact", "export")
    rows = list(csv.DictReader(io.StringIO(out.out)))
    assert rows[0]["city"] == "'=1+1"
    assert rows[0]["recipient"] == f"'{ANN}"
    assert (rows[0]["opted_out"], rows[0]["consent_at"]) == ("yes", "2026-01-02T10:00:00Z")
    assert rows[1]["whatsapp_name"] == "Bob"
    first = {one["recipient"]: one for one in wa("contact", "list", "--json").json()["contacts"]}
    saved = wa.write("saved.csv", out.out)
    wa.db = wa.folder / "other.db"
    assert wa("contact", "import", saved).exit == 0
    for address, before in first.items():
        after = shown(wa, address)
        for key in ("attributes", "whatsapp_name", "opted_out", "opted_out_at"):
            assert after[key] == before[key], key
    assert wa("contact", "export").out == out.out


def test_an_exported_file_is_private_and_never_overwritten_unasked(wa: Wa, app: App) -> None:
    wa("contact", "opt-out", ANN)
    target = wa.folder / "out.csv"
    assert wa("contact", "export", target, "--opted-out").out.startswith("exported 1 person to")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert wa("contact", "export", target).exit == 2
    assert wa("contact", "export", target, "--force", "--json").json()["exported"] == 1
    assert wa("contact", "export", "--json").exit == 2


# erase


def test_an_erase_asks_first_and_keeps_the_counts(wa: Wa, app: App) -> None:
    """Promise P13."""
    wa("subgroup", "create", "vip")
    wa("subgroup", "add", "vip", ANN)
    send(app, ANN, outcome=ACCEPTED, text="Dear Ann")
    wa("send", "to", ANN, "--text", "tomorrow", "--at", "in 20h")
    before = wa("status", "--json").json()["stats"]
    unasked = wa("contact", "erase", ANN)
    assert unasked.exit == 6
    assert f"erase {ANN}?" in unasked.err
    done = wa("contact", "erase", ANN, "--yes")
    assert done.exit == 0, done.err
    assert done.out == f"erased {ANN}: 2 messages stay in the counts without a name, 1 of them cancelled now\n"
    assert "wa db backup" in done.err
    after = wa("status", "--json").json()["stats"]
    assert after == {**before, "queued": 0, "cancelled": 1}
    assert wa("db", "check").exit == 0
    assert wa("contact", "list", "--json").json()["count"] == 0
    assert wa("subgroup", "show", "vip", "--json").json()["count"] == 0
    assert wa("contact", "show", ANN).exit == 2
    assert wa("contact", "erase", ANN, "--yes").exit == 2


def test_the_messages_of_an_erased_person_can_still_be_looked_at(wa: Wa, app: App) -> None:
    send(app, ANN, outcome=ACCEPTED, text="Dear Ann")
    wa("send", "to", ANN, "--text", "tomorrow", "--at", "in 20h")
    wa("contact", "erase", ANN, "--yes")
    listed = wa("message", "list", "--json").json()["messages"]
    assert [(one["state"], one["recipient"]) for one in listed] == [("cancelled", "erased:1"), ("sent", "erased:1")]
    for name in ("m1", "m2"):
        for verb in ("show", "explain"):
            text = wa("message", verb, name)
            assert text.exit == 0, text.err
            assert ANN not in text.out
            assert "Dear Ann" not in text.out
            assert "damaged" not in text.out
    assert "the person was erased" in wa("message", "explain", "m2").out


def test_an_erased_person_who_had_opted_out_cannot_be_brought_back_by_a_list(wa: Wa, app: App) -> None:
    """Fault 88."""
    write_in(app, ANN, "STOP")
    erased = wa("contact", "erase", ANN, "--yes", "--json")
    assert erased.json()["erased"][0]["suppressed"] is True
    wa("subgroup", "create", "vip")
    added = wa("subgroup", "import", "vip", wa.write("p.csv", f"phone\n{ANN}\n"), "--json").json()
    assert (added["added"], added["opted_out"]) == (1, 1)
    assert wa("send", "subgroup", "vip", "hi").exit == 6
    assert shown(wa, ANN)["consent"][0]["wording"] == "had opted out before they were erased"


def test_an_erase_names_the_other_number_of_the_same_person(wa: Wa, app: App) -> None:
    write_in(app, ANN)
    move(app, ANN, BOB)
    assert f"wa contact erase {BOB}" in wa("contact", "erase", ANN, "--yes").err


def test_the_check_finds_an_opt_out_that_is_not_in_force_and_what_an_erase_left(wa: Wa, app: App) -> None:
    """Promises P3, P10."""
    write_in(app, ANN, "STOP")
    write_in(app, BOB, "stop", ago_ms=HOUR)
    write_in(app, BOB, "unstop")
    move(app, BOB, CAT)
    wa("contact", "erase", CAT, "--yes")
    assert wa("db", "check").exit == 0
    with app.database.write() as connection:
        connection.execute("UPDATE contact SET opted_out_at = NULL WHERE address = ?", (ANN,))
        connection.execute("UPDATE contact SET name = 'Cat' WHERE erased_at IS NOT NULL")
    checked = wa("db", "check", "--json")
    assert checked.exit == 9
    wrong = [check["message"] for check in checked.json()["checks"] if check["level"] == "fail"]
    assert wrong == [
        "1 person is opted out by the ledger, and yet may be written to: contact 1",
        "1 person is erased, and yet something of them is left: contact 3",
    ]


def test_a_stranger_is_opted_in_with_a_reason_alone(wa: Wa, app: App) -> None:
    assert wa("contact", "opt-in", ANN, "--json").error()["code"] == "no_contact"
    wa("contact", "opt-out", BOB)
    mixed = wa("contact", "opt-in", ANN, BOB, "--json")
    assert (mixed.exit, mixed.json()["opted_in"], mixed.json()["rows"][0]["text"]) == (3, 1, ANN)
    assert wa("contact", "list", "--json").json()["count"] == 1
    assert wa("contact", "opt-in", ANN, "--reason", "form 18").out == "1 person opted in\n"
    assert shown(wa, ANN)["consent"][0]["wording"] == "form 18"
