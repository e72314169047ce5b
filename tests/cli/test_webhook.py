"""`wa webhook`: what came, what it said, and reading it again."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from stored import ACCEPTED, ADA, UNREADABLE, send

from tests.processes import clean_environment
from wa_cli.ports import NewInstance, NewWebhook

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Wa
    from wa_cli.bootstrap import App

AT = 1_793_900_000
WAMID = "wamid.HBgLNjU4MTIzMDAwMQ=="
NUMBER = ADA.removeprefix("+")


def body(*changes: tuple[str, dict[str, Any]]) -> bytes:
    listed = [{"field": field, "value": value} for field, value in changes]
    entry = {"id": "1", "time": AT, "changes": listed}
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}, separators=(",", ":")).encode()


def statuses(*words: str, tag: str | None = None, message_id: str = WAMID, **fields: Any) -> bytes:
    listed = [
        {
            "id": message_id,
            "status": word,
            "timestamp": str(AT),
            "recipient_id": NUMBER,
            "biz_opaque_callback_data": tag,
        }
        | fields
        for word in words
    ]
    return body(("messages", {"metadata": {"phone_number_id": "55"}, "statuses": listed}))


def inbound(text: str, name: str = "Ada") -> bytes:
    message = {"id": "wamid.IN", "from": NUMBER, "timestamp": str(AT), "type": "text", "text": {"body": text}}
    contact = {"wa_id": NUMBER, "profile": {"name": name}}
    return body(("messages", {"metadata": {"phone_number_id": "55"}, "contacts": [contact], "messages": [message]}))


def put(app: App, *bodies: bytes, is_signed: bool = True) -> list[str]:
    arrived = [
        NewWebhook(received_at_ms=AT * 1000, provider="cloud_api", is_signed=is_signed, body=one) for one in bodies
    ]
    return [f"w{number}" for number in app.webhooks.append(arrived)]


def tag_of(app: App, attempt_id: int = 1) -> str:
    return f"wa1.{app.database.read_install()}.{attempt_id}"


def statuses_of(wa: Wa) -> dict[str, str]:
    return {one["id"]: one["status"] for one in wa("webhook", "list", "--json").json()["webhooks"]}


# --- list ---


def test_the_list_is_newest_first_of_one_status_and_its_cursor_goes_on(wa: Wa, app: App) -> None:
    """Row Q4."""
    put(app, statuses("read"), b"{", body(("calls", {})), statuses("sent"))
    app.read_webhooks(limit=3)

    def ids(*flags: str) -> list[str]:
        return [one["id"] for one in wa("webhook", "list", *flags, "--json").json()["webhooks"]]

    assert ids() == ["w4", "w3", "w2", "w1"]
    assert ids("--status", "done") == ["w1"]
    assert ids("--status", "IGNORED") == ["w3"]
    assert ids("--status", "failed") == ["w2"]
    assert ids("--status", "waiting") == ["w4"]
    first = wa("webhook", "list", "--limit", "2", "--json").json()
    assert (first["count"], first["next"]) == (2, "w3")
    assert ids("--limit", "2", "--after", "w3") == ["w2", "w1"]
    assert wa("webhook", "list", "--limit", "2", "--after", "w3", "--json").json()["next"] is None


def test_a_listed_webhook_says_what_it_told(wa: Wa, app: App) -> None:
    put(app, statuses("delivered", "read", "read"), is_signed=False)
    (one,) = wa("webhook", "list", "--json").json()["webhooks"]
    assert (one["status"], one["events"], one["details"], one["read_at"]) == ("waiting", None, None, None)
    app.read_webhooks(limit=9)
    (one,) = wa("webhook", "list", "--json").json()["webhooks"]
    assert one | {"read_at": None, "size": 0} == {
        "id": "w1",
        "received_at": "2026-11-05T17:33:20Z",
        "instance": None,
        "provider": "cloud_api",
        "signed": False,
        "size": 0,
        "status": "done",
        "events": 3,
        "details": "2 read, 1 delivered",
        "read_at": None,
    }
    assert wa("webhook", "list").out.split("\t")[::5] == ["w1", "2 read, 1 delivered\n"]


def test_a_list_of_nothing_says_so(wa: Wa, app: App) -> None:
    answer = wa("webhook", "list")
    assert (answer.exit, answer.out, answer.err) == (0, "", "no webhooks\n")


def test_the_list_fits_a_terminal(wa: Wa, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    put(app, body(*[(f"a_field_with_quite_a_long_name_{n}", {}) for n in range(9)]) + b" " * 2_000_000)
    app.read_webhooks(limit=9)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    lines = wa("webhook", "list").out.splitlines()
    assert lines[0].split() == ["ID", "RECEIVED", "STATUS", "SIZE", "INSTANCE", "WHAT"]
    assert max(map(len, lines)) <= 80


# --- show ---


def test_one_webhook_is_shown_with_its_numbers_masked(wa: Wa, app: App) -> None:
    """Promise P11."""
    put(app, inbound(f"call {ADA} or 8123 0001 99, code 4711", name=f"Ada {NUMBER}"), statuses("read", tag="t.1"))
    app.read_webhooks(limit=9)
    for flags in ((), ("--json",)):
        shown = wa("webhook", "show", "w1", *flags).out + wa("webhook", "show", "w2", *flags).out
        assert NUMBER not in shown
        assert "0001" in shown
        assert "8123 0001 99" not in shown
        assert "HBgLNjU4MTIzMDAwMQ" not in shown
        assert "4711" in shown
    human = wa("webhook", "show", "w1").out
    assert "w1 done: 1 inbound\n" in human
    assert "  from      cloud_api, signed\n" in human
    assert "  told      text from +65…0001 (Ada …0001): call +…0001 or …1 99, code 4711\n" in human
    assert "  told      read +65…0001 tag t.1\n" in wa("webhook", "show", "w2").out


def test_every_kind_of_event_has_a_line_and_a_shape(wa: Wa, app: App) -> None:
    people = {
        "metadata": {"phone_number_id": "55"},
        "user_preferences": [{"wa_id": NUMBER, "value": "stop", "category": "marketing_messages", "detail": "no more"}],
    }
    system = {"from": NUMBER, "type": "system", "system": {"type": "user_changed_number", "wa_id": "6581239999"}}
    template = {
        "event": "PAUSED",
        "message_template_name": "sale",
        "message_template_language": "en",
        "other_info": {"title": "FIRST_PAUSE"},
    }
    failed = statuses("failed", errors=[{"code": 131026, "title": "Message undeliverable"}])
    put(
        app,
        body(
            ("user_preferences", people),
            ("messages", {"messages": [system]}),
            ("message_template_status_update", template),
            ("account_update", {"event": "ACCOUNT_DELETED"}),
            ("calls", {}),
        ),
        failed,
        statuses("read", recipient_id="G", recipient_type="group", recipient_participant_id=NUMBER),
    )
    lines = [line.removeprefix("  told      ") for line in wa("webhook", "show", "w1").out.splitlines()[4:]]
    assert lines == [
        "stop +65…0001: no more",
        "new number +65…0001 -> +65…9999",
        "template held sale (en) until 2026-11-05T20:33:20Z: PAUSED: FIRST_PAUSE",
        "account stopped: the business account was deleted",
        "ignored calls",
    ]
    assert "  told      failed +65…0001: 131026 Message undeliverable\n" in wa("webhook", "show", "w2").out
    assert "  told      read member +65…0001\n" in wa("webhook", "show", "w3").out
    told = wa("webhook", "show", "w1", "--json").json()["told"]
    assert [one["event"] for one in told] == [
        "stop",
        "new number",
        "template held",
        "account stopped",
        "ignored calls",
    ]
    assert told[1]["new_person"] == {"address": "+65…9999", "user_id": None, "name": None}
    assert wa("webhook", "show", "w1", "--json", "--raw").json()["told"][1]["new_person"]["address"] == "+6581239999"


def test_the_raw_body_is_given_byte_for_byte(wa: Wa, app: App, tmp_path: Path) -> None:
    """Row Q4."""
    raw = rb'{"object":"\u00e9\/"}' + "é\x1b]0;x\x07".encode() + b"\xff\r\n"
    put(app, raw)
    command = [sys.executable, "-m", "wa_cli", "--db", str(wa.db), "webhook", "show", "w1", "--raw"]
    done = subprocess.run(command, env=clean_environment(tmp_path), cwd=tmp_path, check=True, capture_output=True)
    assert done.stdout == raw


def test_json_with_raw_holds_the_body_too(wa: Wa, app: App) -> None:
    put(app, statuses("read"), b"\xff{}")
    shown = wa("webhook", "show", "w1", "--raw", "--json").json()
    assert shown["body"].encode() == statuses("read")
    assert shown["told"][0]["person"]["address"] == ADA
    shown = wa("webhook", "show", "w2", "--raw", "--json").json()
    assert (shown["body"], shown["told"], shown["unreadable"]) == ("\\xff{}", [], "the body is not JSON in UTF-8")
    assert "body" not in wa("webhook", "show", "w1", "--json").json()


HOSTILE = "\x1b]52;c;aGk=\x07 \x1b[2J \u202eevil\u202c \r\n\x9b31m \x00"


@pytest.mark.parametrize("flags", [(), ("--raw",)])
def test_nothing_in_a_webhook_steers_the_terminal(
    wa: Wa, app: App, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 82."""
    put(app, inbound(HOSTILE, name=HOSTILE), HOSTILE.encode(), body((HOSTILE, {})))
    app.read_webhooks(limit=9)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    shown = "".join(wa("webhook", "show", name, *flags).out for name in ("w1", "w2", "w3"))
    shown += wa("webhook", "list").out
    assert not set(shown) & set("\x1b\x07\x9b\x00\r\u202e\u202c")


def test_of_a_large_webhook_the_first_events_are_shown(wa: Wa, app: App) -> None:
    put(app, statuses(*["read"] * 60))
    answer = wa("webhook", "show", "w1")
    assert answer.out.count("told") == 50
    assert "10 more; --json shows all" in answer.err
    assert len(wa("webhook", "show", "w1", "--json").json()["told"]) == 60


@pytest.mark.parametrize("word", ["w9", "9", "m1", "w", "w-1", "'; DROP TABLE webhook_logs; --", "w1 OR 1=1", "w٣"])
def test_what_is_no_webhook_is_an_error_of_the_call(wa: Wa, app: App, word: str) -> None:
    """Fault 86."""
    put(app, statuses("read"))
    answer = wa("webhook", "show", word)
    assert answer.exit == 2
    assert answer.out == ""
    assert "hint: " in answer.err
    assert wa("webhook", "show", "w1").exit == 0


@pytest.mark.parametrize("words", [("--status", "bad"), ("--after", "7"), ("--limit", "0")])
def test_a_list_that_cannot_be_is_an_error_of_the_call(wa: Wa, app: App, words: tuple[str, ...]) -> None:
    assert wa("webhook", "list", *words).exit == 2


# --- replay ---


def test_reading_again_changes_nothing_that_is_known(wa: Wa, app: App) -> None:
    """Faults 69 and 72."""
    send(app, ADA, outcome=ACCEPTED)
    put(app, statuses("delivered", "read", tag=tag_of(app), message_id="wamid.1"))
    first = wa("webhook", "replay", "w1", "--json").json()
    assert first["changed"] == {"sent": -1, "read": 1, "receipts": 2}
    assert (first["count"], first["events"], first["replayed"][0]["status"]) == (1, 2, "done")
    for _again in range(3):
        again = wa("webhook", "replay", "w1", "--json").json()
        assert (again["changed"], again["events"]) == ({}, 2)
    answer = wa("webhook", "replay", "w1")
    assert answer.exit == 0
    assert answer.out == "w1 done: 1 delivered, 1 read\nnothing has changed: all of it was known already\n"
    assert wa("message", "show", "m1", "--json").json()["state"] == "read"


def test_a_replay_reads_what_it_was_told_to_and_leaves_the_others_waiting(wa: Wa, app: App) -> None:
    put(app, *[statuses("read")] * 3)
    assert wa("webhook", "replay", "w3", "w1", "w3", "--json").json()["count"] == 2
    assert statuses_of(wa) == {"w3": "done", "w2": "waiting", "w1": "done"}


def test_a_body_in_a_file_settles_what_was_unknown(wa: Wa, app: App) -> None:
    """Promise P5: the way out when webhooks went astray."""
    send(app, ADA, outcome=UNREADABLE)
    file = wa.write("body.json", statuses("delivered", tag=tag_of(app)))
    answer = wa("webhook", "replay", file)
    assert answer.exit == 0
    assert answer.out.startswith("w1 done: 1 delivered\nchanged: ")
    assert "unknown -1" in answer.out
    assert "delivered +1" in answer.out
    assert wa("message", "show", "m1", "--json").json()["state"] == "delivered"
    assert wa("webhook", "list", "--json").json()["webhooks"][0]["signed"] is False


def test_a_body_from_a_file_does_not_prove_that_webhooks_come(
    wa: Wa, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise P5."""
    monkeypatch.setenv("WHATSAPP_API_URL", "https://graph.facebook.com/v25.0/55/messages")

    def heard() -> Any:
        with app.database.read() as connection:
            return connection.execute("SELECT last_webhook_at FROM instance").fetchone()[0]

    wa("webhook", "replay", wa.write("body.json", statuses("read")))
    assert heard() is None
    put(app, statuses("read"))
    wa("webhook", "replay", "w2")
    assert heard() == AT * 1000


def test_a_body_may_come_on_stdin(wa: Wa, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(statuses("read"))))
    assert wa("webhook", "replay", "-").out.startswith("w1 done: 1 read\n")


def test_a_raw_body_that_was_saved_is_a_file_to_replay(wa: Wa, app: App, tmp_path: Path) -> None:
    put(app, statuses("read"))
    saved = wa.write("saved.json", wa("webhook", "show", "w1", "--raw").out)
    assert wa("webhook", "replay", saved, "--json").json()["replayed"][0]["details"] == "1 read"


def test_the_failed_ones_are_read_again_and_exit_3_while_they_fail(wa: Wa, app: App) -> None:
    """Promise P12."""
    put(app, b"{", statuses("read"))
    app.read_webhooks(limit=9)
    answer = wa("webhook", "replay", "--failed")
    assert answer.exit == 3
    assert answer.out == "w1 failed: the body is not JSON in UTF-8\nnothing has changed\n"
    assert statuses_of(wa) == {"w2": "done", "w1": "failed"}
    with app.database.write() as connection:
        connection.execute("UPDATE webhook_logs SET body = ? WHERE id = 1", (statuses("sent"),))
    assert wa("webhook", "replay", "--failed", "--json").json()["replayed"][0]["details"] == "1 sent"
    answer = wa("webhook", "replay", "--failed")
    assert (answer.exit, answer.out) == (0, "no webhook has failed\n")


@pytest.mark.parametrize("words", [(), ("w1", "--failed"), ("w7",), ("nowhere.json",), (".",), ("a\x00b",), ("large",)])
def test_a_replay_of_what_is_not_there_changes_nothing(wa: Wa, app: App, words: tuple[str, ...]) -> None:
    """Fault 86."""
    put(app, statuses("read"))
    app.read_webhooks(limit=9)
    wa.write("large", b" " * (3 * 1024 * 1024 + 1))
    answer = wa("webhook", "replay", *words)
    assert answer.exit == 2
    assert answer.err.startswith("error: ")
    assert statuses_of(wa) == {"w1": "done"}


def test_no_secret_is_shown_whatever_a_webhook_says(wa: Wa, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise P11, fault 84."""
    monkeypatch.setenv("WHATSAPP_APP_SECRET", "canary-one,canary-two")
    monkeypatch.setenv("WHATSAPP_VERIFY_TOKEN", "canary-three")
    errors = [{"code": 131000, "title": "canary-one", "error_data": {"details": "canary-two"}}]
    put(app, statuses("failed", errors=errors), b"canary")
    shown = ""
    for line in (
        "webhook replay w1 w2",
        "webhook list",
        "webhook show w1",
        "webhook show w1 --json",
        "webhook show w2",
    ):
        answer = wa(*line.split())
        shown += answer.out + answer.err
    assert "canary-" not in shown


# --- of several instances ---

GATEWAY_BODY = json.dumps({"dataType": "message_ack", "data": {}, "sessionId": "shop"}).encode()


@pytest.fixture
def shop(app: App) -> int:
    """An instance behind a gateway, beside `default`; its id."""
    settings = {"url": "http://127.0.0.1:9", "session": "shop"}
    new = NewInstance(
        name="shop",
        transport="wwebjs_api",
        settings=settings,
        secrets={},
        profile=None,
        limits={},
        connection=None,
    )
    return app.instances.add(new, now_ms=AT * 1000).id


def test_a_webhook_says_whose_it_is_and_is_read_by_its_own_provider(wa: Wa, app: App, shop: int) -> None:
    """Issue 6, point 2."""
    put(app, statuses("read"))
    app.webhooks.append(
        [
            NewWebhook(
                received_at_ms=AT * 1000, provider="wwebjs_api", is_signed=True, body=GATEWAY_BODY, instance_id=shop
            )
        ]
    )
    app.read_webhooks(limit=9)
    listed = wa("webhook", "list", "--json").json()["webhooks"]
    assert [(one["instance"], one["provider"], one["status"]) for one in listed] == [
        ("shop", "wwebjs_api", "ignored"),
        (None, "cloud_api", "done"),
    ]
    assert [line.split("\t")[4] for line in wa("webhook", "list").out.splitlines()] == ["shop", "-"]
    shown = wa("webhook", "show", "w2").out
    assert "wwebjs_api of instance 'shop', signed" in shown
    assert "ignored message_ack.unknown" in shown
    assert "of instance" not in wa("webhook", "show", "w1").out


def test_a_body_of_a_file_is_read_as_the_named_instance_would(wa: Wa, app: App, shop: int) -> None:
    file = wa.write("body.json", GATEWAY_BODY)
    read = "ignored: 1 ignored message_ack.unknown\n"
    assert wa("webhook", "replay", file).out.startswith(f"w1 {read}")  # the only one that is set up
    assert wa("webhook", "replay", file, "--instance", "shop").out.startswith(f"w2 {read}")
    assert wa("webhook", "replay", file, "--instance", "default").out.startswith("w3 ignored: 1 ignored object.none\n")
    answer = wa("webhook", "replay", file, "--instance", "sohp", "--json")
    assert (answer.exit, answer.error()["code"]) == (2, "no_instance")


def test_a_webhook_of_an_instance_that_is_gone_still_shows(wa: Wa, app: App, shop: int) -> None:
    app.webhooks.append(
        [
            NewWebhook(
                received_at_ms=AT * 1000, provider="wwebjs_api", is_signed=True, body=GATEWAY_BODY, instance_id=shop
            )
        ]
    )
    app.instances.remove(shop, move_to=None, now_ms=AT * 1000)
    assert wa("webhook", "replay", "w1").out.startswith("w1 ignored: 1 ignored removed instance\n")
    assert "its instance has been removed" in wa("webhook", "show", "w1").out


def test_a_message_to_a_group_shows_how_far_it_has_come_for_whom(wa: Wa, app: App) -> None:
    """Issue 6, point 4; promise P11: masked for people, whole for scripts."""
    send(app, ADA, outcome=ACCEPTED)
    members = ("6581230002", "6581230003", "6581230004")
    group = {"recipient_id": "120363@g.us", "recipient_type": "group"}
    words = [("delivered", members[0]), ("read", members[1]), ("delivered", members[1]), ("delivered", members[2])]
    put(
        app,
        *(
            statuses(word, tag=tag_of(app), message_id="wamid.1", recipient_participant_id=who, **group)
            for word, who in words
        ),
    )
    app.read_webhooks(limit=9)
    with app.database.write() as connection:
        connection.execute(
            """INSERT INTO group_chat (instance_id, address, name, size, is_member, seen_at)
            SELECT instance_id, ?, 'Choir', 6, 1, 0 FROM message""",
            (ADA,),
        )
    shown = wa("message", "show", "m1").out
    assert "reached 3 of 5: 2 delivered, 1 read" in shown
    assert sum(line.strip().startswith("member") for line in shown.splitlines()) == 3
    assert not any(who in shown for who in members)
    document = wa("message", "show", "m1", "--json").json()
    assert document["group_size"] == 6
    assert {one["participant"].removeprefix("+"): one["receipt"] for one in document["participants"]} == {
        members[0]: "delivered",
        members[1]: "read",
        members[2]: "delivered",
    }
