"""`wa resend`: which failures go back into the queue, when they are due, and who is refused by name."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from posting import ACCEPTED, BUSY, CUT, PERMANENT, post

from wa_cli.domain.pacing import batch_of

if TYPE_CHECKING:
    from tests.cli.conftest import Wa
    from wa_cli.bootstrap import App

ADA, BEN, EVA = "+6581230001", "+6581230002", "+6581230003"


def send(wa: Wa, *recipients: str, text: str = "Doors open at six", flags: tuple[str, ...] = ()) -> list[str]:
    answer = wa("send", "to", *recipients, "--text", text, *flags, "--json").json()
    return [one["id"] for one in answer["messages"]]


def fail(wa: Wa, app: App, *recipients: str, flags: tuple[str, ...] = (), outcome: Any = BUSY) -> list[str]:
    names = send(wa, *recipients, flags=flags)
    for name in names:
        post(app, name, outcome)
    return names


def row(app: App, name: str) -> dict[str, Any]:
    with app.database.read() as connection:
        cursor = connection.execute("SELECT * FROM message WHERE id = ?", (int(name[1:]),))
        return dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))


def state(app: App, name: str) -> str:
    return str(row(app, name)["state"])


# --- what goes back ---


def test_indexes_go_back_spaced_by_the_delay(wa: Wa, app: App) -> None:
    """Row R7: `resend 0 1 2` with 3000 ms between them; the answer has the source systems' shape."""
    names = fail(wa, app, ADA, BEN, EVA)
    wa("failed", "list")
    answer = wa("resend", "0", "1", "2", "--json")
    assert answer.exit == 0
    document = answer.json()
    assert document["success"] is True
    assert document["message"] == "3 failed messages rescheduled for resending with 3000ms delay"
    assert (document["resend_count"], document["rate_limit_delay"], document["refused"]) == (3, 3000, [])
    assert [one["id"] for one in document["messages"]] == names
    due = [row(app, name)["due_at"] for name in names]
    assert [later - earlier for earlier, later in pairwise(due)] == [3000, 3000]
    assert abs(due[0] - app.clock.wall_ms()) < 60_000


def test_a_resent_message_keeps_its_metadata_and_loses_its_error(wa: Wa, app: App) -> None:
    """Row R9: same row, batch, subgroup, words and schedule; error, status and attempts begin anew."""
    wa("subgroup", "create", "vip")
    wa("subgroup", "add", "vip", ADA)
    wa("send", "subgroup", "vip", "Hello", "--key", "order:7")
    post(app, "m1", BUSY)
    before = row(app, "m1")
    wa("resend", "m1", "--delay", "1000")
    after = row(app, "m1")
    kept = ("id", "instance_id", "batch_id", "contact_id", "content_id", "scheduled_at", "expires_at")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert (after["state"], after["attempts"], after["refusals"]) == ("queued", 0, 0)
    assert (after["error_code"], after["error_details"]) == (None, None)
    shown = wa("message", "show", "m1", "--json").json()
    assert (shown["subgroup"], shown["key"], shown["reason"]) == ("vip", "order:7", "resent")


def test_earlier_attempts_stay_in_the_history(wa: Wa, app: App) -> None:
    """Row R9, promise P2: the history shows both posts and the decision between them."""
    fail(wa, app, ADA)
    wa("resend", "m1")
    post(app, "m1", ACCEPTED)
    shown = wa("message", "show", "m1", "--json").json()
    assert shown["state"] == "sent"
    assert [one["outcome"] for one in shown["attempts"]] == ["rejected", "accepted"]
    assert [one["rule"] for one in shown["decisions"]] == ["resent"]
    assert "queued again by `wa resend` (b2, number 1, 3000 ms apart)" in wa("message", "explain", "m1").out


def test_resent_messages_share_a_lane_that_is_spaced_again_when_they_leave(wa: Wa, app: App) -> None:
    """Row R9, promise P8: the spacing holds in the send loop too, not only in the due times."""
    names = fail(wa, app, ADA, BEN)
    document = wa("resend", *names, "--delay", "7000", "--json").json()
    lanes = {row(app, name)["lane"] for name in names}
    assert [f"b{batch_of(lane)}" for lane in lanes] == document["batch_ids"]
    with app.queue.turn() as turn:
        terms = turn.read_terms(batch_of(lanes.pop()))
    assert (terms.delay_ms, terms.is_released) == (7000, True)


def test_an_urgent_message_stays_urgent(wa: Wa, app: App) -> None:
    """Row S3."""
    fail(wa, app, ADA, flags=("--immediate",))
    wa("resend", "m1")
    assert row(app, "m1")["lane"] >> 40 == 0


def test_a_subgroups_failures_go_back_and_nobody_elses(wa: Wa, app: App) -> None:
    """Row R8."""
    wa("subgroup", "create", "vip")
    wa("subgroup", "add", "vip", ADA, BEN)
    wa("send", "subgroup", "vip", "Hello")
    post(app, "m1", BUSY)
    post(app, "m2", BUSY)
    fail(wa, app, EVA)
    document = wa("resend", "--subgroup", "vip", "--delay", "3000", "--json").json()
    assert [one["id"] for one in document["messages"]] == ["m1", "m2"]
    assert [state(app, name) for name in ("m1", "m2", "m3")] == ["queued", "queued", "failed"]


def test_all_takes_every_failure_that_was_not_dismissed(wa: Wa, app: App) -> None:
    fail(wa, app, ADA, BEN, EVA)
    wa("failed", "dismiss", "m2")
    document = wa("resend", "--all", "--json").json()
    assert [one["id"] for one in document["messages"]] == ["m1", "m3"]
    assert state(app, "m2") == "failed"


def test_all_of_nothing_is_done_already(wa: Wa, app: App) -> None:
    send(wa, ADA)
    answer = wa("resend", "--all", "--json")
    assert (answer.exit, answer.json()["resend_count"], answer.json()["success"]) == (0, 0, True)


def test_more_than_a_transaction_holds_still_keeps_one_order(wa: Wa, app: App) -> None:
    """Rows R8, R9: 5,001 messages in two transactions, one lane, 10 ms apart throughout."""
    fail(wa, app, ADA)
    with app.database.write() as connection:
        connection.execute(
            """WITH RECURSIVE number(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM number WHERE n < 5001)
            INSERT INTO contact (id, address, kind, created_at) SELECT n, '+6590' || n, 'person', 0 FROM number"""
        )
        connection.execute(
            """INSERT INTO message (instance_id, batch_id, contact_id, content_id, state, lane, due_at, scheduled_at,
                reason, changed_at)
            SELECT 1, 1, id, 1, 'failed', 1 << 40, 0, 0, 'out_of_attempts', 0 FROM contact WHERE id > 1"""
        )
    answer = wa("resend", "--all", "--delay", "10", "--json")
    assert "5001 messages, and nobody to ask here" in answer.err
    assert (answer.json()["resend_count"], len(answer.json()["batch_ids"])) == (5001, 1)
    with app.database.read() as connection:
        due = [at for (at,) in connection.execute("SELECT due_at FROM message WHERE state = 'queued' ORDER BY id")]
    assert [at - due[0] for at in due] == list(range(0, 50_010, 10))


def test_words_are_done_once_and_in_the_order_typed(wa: Wa, app: App) -> None:
    fail(wa, app, ADA, BEN)
    wa("failed", "list")
    document = wa("resend", "m2", "0", "1", "m2", "--json").json()
    assert [one["id"] for one in document["messages"]] == ["m2", "m1"]


def test_without_a_sender_it_says_what_will_send(wa: Wa, app: App) -> None:
    fail(wa, app, ADA)
    assert "`wa run` starts the daemon" in wa("resend", "m1").err


def test_a_dry_run_changes_nothing_and_says_the_same(wa: Wa, app: App) -> None:
    fail(wa, app, ADA)
    fail(wa, app, BEN, outcome=PERMANENT)
    before = [row(app, name) for name in ("m1", "m2")]
    dry = wa("resend", "--all", "--dry-run", "--json")
    assert [row(app, name) for name in ("m1", "m2")] == before
    assert dry.json()["dry_run"] is True
    real = wa("resend", "--all", "--json")
    assert dry.exit == real.exit == 3
    assert dry.json()["refused"] == real.json()["refused"]
    assert dry.json()["resend_count"] == real.json()["resend_count"] == 1


# --- which index means what ---


def test_a_stale_index_is_refused_not_guessed(wa: Wa, app: App) -> None:
    """Row R7: what the reader saw at 0 went back meanwhile; 0 must not become its neighbour."""
    fail(wa, app, ADA, BEN)
    wa("failed", "list")
    wa("resend", "m1")
    answer = wa("resend", "0", "1", "--json")
    assert answer.exit == 7
    error = answer.error()
    assert error["code"] == "stale_index"
    assert "m1" in error["message"]
    assert "queued" in error["message"]
    assert "wa failed list" in error["hint"]
    assert state(app, "m2") == "failed"


def test_an_index_is_stale_when_the_message_has_failed_again_since(wa: Wa, app: App) -> None:
    fail(wa, app, ADA)
    wa("failed", "list")
    wa("resend", "m1")
    post(app, "m1", PERMANENT)
    assert wa("resend", "0", "--force").exit == 7


def test_an_index_means_the_list_last_printed(wa: Wa, app: App) -> None:
    """Row R7."""
    fail(wa, app, ADA)
    wa("subgroup", "create", "vip")
    wa("subgroup", "add", "vip", BEN)
    wa("send", "subgroup", "vip", "Hello")
    post(app, "m2", BUSY)
    wa("failed", "list")
    wa("failed", "list", "--subgroup", "vip")
    assert [one["id"] for one in wa("resend", "0", "--json").json()["messages"]] == ["m2"]


def test_an_index_without_a_printed_list_is_a_usage_error(wa: Wa, app: App) -> None:
    fail(wa, app, ADA)
    answer = wa("resend", "0", "--json")
    assert answer.exit == 2
    assert "wa failed list" in answer.error()["hint"]


def test_an_index_past_the_end_names_the_last(wa: Wa, app: App) -> None:
    fail(wa, app, ADA, BEN)
    wa("failed", "list")
    answer = wa("resend", "2", "--json")
    assert answer.exit == 2
    assert "0 to 1" in answer.error()["message"]


@pytest.mark.parametrize("word", ["one", "-1", "1.5", "m", "٣"])
def test_a_word_that_is_neither_is_refused(wa: Wa, app: App, word: str) -> None:
    fail(wa, app, ADA)
    assert wa("resend", "--", word).exit == 2
    assert state(app, "m1") == "failed"


def test_an_id_that_does_not_exist_stops_the_call(wa: Wa, app: App) -> None:
    fail(wa, app, ADA)
    answer = wa("resend", "m1", "m99", "--json")
    assert (answer.exit, answer.error()["code"]) == (2, "no_message")
    assert state(app, "m1") == "failed"


@pytest.mark.parametrize("flags", [(), ("m1", "--all"), ("--all", "--subgroup", "vip")])
def test_it_wants_exactly_one_way_of_naming(wa: Wa, app: App, flags: tuple[str, ...]) -> None:
    fail(wa, app, ADA)
    assert wa("resend", *flags).exit == 2


def test_a_subgroup_that_never_was_is_refused_with_the_nearest(wa: Wa, app: App) -> None:
    fail(wa, app, ADA)
    wa("subgroup", "create", "vip")
    answer = wa("resend", "--subgroup", "vpi", "--json")
    assert answer.exit == 2
    assert "'vip'" in answer.error()["hint"]


# --- who is refused ---


def test_a_permanent_error_is_refused_by_name_unless_forced(wa: Wa, app: App) -> None:
    """Row R7: what would only fail again is not sent again unasked."""
    fail(wa, app, ADA, outcome=PERMANENT)
    fail(wa, app, BEN)
    answer = wa("resend", "--all", "--json")
    assert answer.exit == 3
    (refused,) = answer.json()["refused"]
    assert refused["id"] == "m1"
    assert "131026: message undeliverable" in refused["reason"]
    assert "--force" in refused["reason"]
    assert answer.json()["resend_count"] == 1
    assert wa("resend", "m1", "--force").exit == 0
    assert state(app, "m1") == "queued"


def test_a_dismissed_permanent_error_is_still_permanent(wa: Wa, app: App) -> None:
    fail(wa, app, ADA, outcome=PERMANENT)
    wa("failed", "dismiss", "m1")
    answer = wa("resend", "m1", "--json")
    assert answer.exit == 6
    assert "failed for good" in answer.json()["refused"][0]["reason"]


def test_a_dismissed_failure_can_be_resent_by_its_id(wa: Wa, app: App) -> None:
    fail(wa, app, ADA)
    wa("failed", "dismiss", "m1")
    assert wa("resend", "m1").exit == 0
    assert state(app, "m1") == "queued"


def test_when_all_are_refused_the_exit_says_so(wa: Wa, app: App) -> None:
    fail(wa, app, ADA, outcome=PERMANENT)
    answer = wa("resend", "--all", "--json")
    assert (answer.exit, answer.json()["success"], answer.json()["resend_count"]) == (6, False, 0)


def test_an_unknown_outcome_is_never_resent_even_by_force(wa: Wa, app: App) -> None:
    """Promise P2: only a person's word makes it `not sent`."""
    fail(wa, app, ADA, outcome=CUT)
    answer = wa("resend", "m1", "--force", "--json")
    assert answer.exit == 6
    assert "wa reconcile --mark not-sent m1" in answer.json()["refused"][0]["reason"]
    assert state(app, "m1") == "unknown"


def test_what_did_not_fail_is_refused_by_its_state(wa: Wa, app: App) -> None:
    """Promise P2."""
    fail(wa, app, ADA, outcome=ACCEPTED)
    send(wa, BEN, EVA)
    wa("message", "cancel", "m3")
    reasons = {one["id"]: one["reason"] for one in wa("resend", "m1", "m2", "m3", "--json").json()["refused"]}
    assert "it was accepted" in reasons["m1"]
    assert "waits in the queue already" in reasons["m2"]
    assert "it was cancelled" in reasons["m3"]


def test_a_message_whose_time_ran_out_is_refused(wa: Wa, app: App) -> None:
    fail(wa, app, ADA, flags=("--expires", "2h"))
    with app.database.write() as connection:
        connection.execute("UPDATE message SET expires_at = 1")
    answer = wa("resend", "m1", "--force", "--json")
    assert answer.exit == 6
    assert "--expires" in answer.json()["refused"][0]["reason"]


@pytest.mark.parametrize(("outcome", "word"), [(None, "queued"), (ACCEPTED, "sent"), (CUT, "unknown")])
def test_a_message_whose_words_went_out_anew_is_refused_by_their_name(
    wa: Wa, app: App, outcome: Any, word: str
) -> None:
    """Promise P2: sent again by hand meanwhile, a resend would write to the same person twice."""
    fail(wa, app, ADA)
    send(wa, ADA)
    if outcome is not None:
        post(app, "m2", outcome)
    answer = wa("resend", "m1", "--force", "--json")
    assert answer.exit == 6
    assert answer.json()["refused"] == [
        {"id": "m1", "reason": f"the same words to the same recipient are {word} as m2"}
    ]


@pytest.mark.parametrize("flags", [("--all",), ("m1", "m2"), ("--all", "--dry-run")])
def test_two_failures_of_the_same_words_go_back_as_one(wa: Wa, app: App, flags: tuple[str, ...]) -> None:
    """Promise P2: m1 failed, the words were sent again as m2, and that failed too."""
    fail(wa, app, ADA)
    fail(wa, app, ADA)
    document = wa("resend", *flags, "--json").json()
    assert [one["id"] for one in document["messages"]] == ["m1"]
    assert [one["id"] for one in document["refused"]] == ["m2"]


def test_a_resent_message_holds_its_words_against_a_new_send(wa: Wa, app: App) -> None:
    """Promise P2, row H7: m2 held the key and is dead; the resent m1 takes it over."""
    fail(wa, app, ADA)
    fail(wa, app, ADA)
    assert wa("resend", "m1").exit == 0
    again = wa("send", "to", ADA, "--text", "Doors open at six", "--json").json()
    assert (again["queued"], again["duplicates"]) == (0, 1)
    assert again["messages"][0]["id"] == "m1"
    assert wa("resend", "m2", "--json").json()["refused"][0]["reason"].endswith("queued as m1")


def test_words_that_were_meant_twice_are_resent_twice(wa: Wa, app: App) -> None:
    """Row H5: --again said that both are wanted."""
    fail(wa, app, ADA)
    fail(wa, app, ADA, flags=("--again",))
    assert wa("resend", "--all", "--json").json()["resend_count"] == 2


def test_words_that_were_meant_again_stand_in_nobodys_way(wa: Wa, app: App) -> None:
    """Row H5: m2 was sent with --again beside m1, so m1 may follow."""
    fail(wa, app, ADA)
    send(wa, ADA, flags=("--again",))
    assert wa("resend", "m1").exit == 0
    assert [state(app, name) for name in ("m1", "m2")] == ["queued", "queued"]


def test_each_instance_gets_a_lane_of_its_own(wa: Wa, app: App) -> None:
    fail(wa, app, ADA, BEN)
    with app.database.write() as connection:
        connection.execute("INSERT INTO instance (id, name, transport, created_at) VALUES (2, 'shop', 'cloud_api', 0)")
        connection.execute("UPDATE message SET instance_id = 2 WHERE id = 2")
    assert len(wa("resend", "--all", "--json").json()["batch_ids"]) == 2
    assert batch_of(row(app, "m1")["lane"]) != batch_of(row(app, "m2")["lane"])


def test_the_store_is_sound_after_every_kind_of_resend(wa: Wa, app: App) -> None:
    """Promises P10, P13."""
    fail(wa, app, ADA, BEN, EVA)
    fail(wa, app, ADA, BEN, outcome=PERMANENT)
    wa("resend", "--all")
    wa("resend", "--all", "--force")
    post(app, "m1", ACCEPTED)
    wa("message", "cancel", "m2")
    assert wa("db", "check").exit == 0
    assert sum(app.messages.read_stats().values()) == 5


def test_the_process_exits_with_the_same_code(wa: Wa, app: App) -> None:
    fail(wa, app, ADA, outcome=PERMANENT)
    command = [sys.executable, "-m", "wa_cli", "--db", str(wa.db), "resend", "--all"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 6
    assert "1 refused" in done.stdout
    assert "Traceback" not in done.stderr
