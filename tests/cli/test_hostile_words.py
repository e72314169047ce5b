"""Words of strangers on every screen: what people call themselves, what they write, what the platform says of them."""

from __future__ import annotations

import json
import time
import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from stored import ADA, BEN, EVA, UNREADABLE, enqueue, send

from wa_cli.config import load_settings
from wa_cli.domain.outcome import Accepted, ErrorClass, Rejected
from wa_cli.ports import NewWebhook

if TYPE_CHECKING:
    from tests.cli.conftest import Wa
    from wa_cli.bootstrap import App

# The clipboard, a window title, a cleared screen in 7 and in 8 bits, letters that run backwards, a line of ours.
HOSTILE = "x\x1b]52;c;aGk=\x07\x1b]0;t\x07\x1b[2J\x9b31m\u202eevil\u2066\x85\u2028\r\nqueued 1 message\x7f[red]"
NUMBER = ADA.removeprefix("+")


def put(app: App, *changes: tuple[str, dict[str, Any]]) -> None:
    listed = [{"field": field, "value": {"metadata": {"phone_number_id": "55"}, **value}} for field, value in changes]
    entry = {"id": "1", "time": int(time.time()), "changes": listed}
    body = json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()
    at_ms = app.clock.wall_ms()
    app.webhooks.append([NewWebhook(received_at_ms=at_ms, provider="cloud_api", is_signed=True, body=body)])


@pytest.fixture
def told(app: App) -> App:
    """A database in which every word that others choose is hostile."""
    now = str(int(time.time()))
    send(app, ADA, outcome=Accepted(provider_message_id="wamid.1", http_status=200), text=HOSTILE)
    send(
        app,
        BEN,
        outcome=Rejected(error_class=ErrorClass.DEAD_RECIPIENT, code="131026", details=HOSTILE, http_status=400),
        text=HOSTILE,
    )
    enqueue(app, EVA, text=HOSTILE)
    person = {"wa_id": NUMBER, "profile": {"name": HOSTILE}}
    said = {"id": "wamid.IN", "from": NUMBER, "timestamp": now, "type": "text", "text": {"body": HOSTILE}}
    error = {"code": 131000, "title": HOSTILE, "message": HOSTILE, "error_data": {"details": HOSTILE}}
    status = {"id": "wamid.1", "status": "failed", "timestamp": now, "recipient_id": NUMBER, "errors": [error]}
    template = {"message_template_name": HOSTILE, "message_template_language": HOSTILE, "reason": HOSTILE}
    put(app, ("messages", {"contacts": [person], "messages": [said]}))
    put(app, ("messages", {"contacts": [person], "messages": [{**said, "id": "wamid.IN2", "text": {"body": "STOP"}}]}))
    put(
        app,
        ("messages", {"statuses": [{**status, "biz_opaque_callback_data": f"wa1.{app.database.read_install()}.1"}]}),
    )
    put(app, ("message_template_status_update", {**template, "event": "PAUSED"}))
    put(
        app,
        (
            "user_preferences",
            {
                "contacts": [person],
                "user_preferences": [
                    {
                        "wa_id": NUMBER,
                        "detail": HOSTILE,
                        "category": "marketing_messages",
                        "value": "stop",
                        "timestamp": now,
                    }
                ],
            },
        ),
    )
    put(app, (HOSTILE, {HOSTILE: HOSTILE}))
    settings = load_settings({"WHATSAPP_API_URL": "https://graph.facebook.com/v25.0/55/messages"})
    replace(app, settings=settings).read_webhooks(limit=99)
    return app


def test_no_words_of_others_steer_a_terminal_on_any_screen(wa: Wa, told: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 82: raw ESC out = 0."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    csv = wa.write("people.csv", f'phone,name\n+6581230009,"{HOSTILE}"\nnonsense{HOSTILE[:9]},x\n')
    lines: list[tuple[object, ...]] = [
        ("message", "list"), ("message", "show", "m1"), ("message", "explain", "m1"), ("message", "show", "m2"),
        ("message", "explain", "m2"), ("message", "show", "m3"), ("message", "explain", "m3"),
        ("failed", "list"), ("failed", "show", "0"), ("failed", "show", "m2"), ("status",), ("reconcile",),
        ("contact", "import", csv), ("contact", "list"), ("contact", "show", ADA), ("contact", "show", "+6581230009"),
        ("contact", "opt-out", BEN, "--wording", HOSTILE), ("contact", "show", BEN), ("contact", "show", HOSTILE),
        ("webhook", "list"), *((("webhook", "show", f"w{number}")) for number in range(1, 7)),
        ("webhook", "show", HOSTILE), ("webhook", "replay", "w1", "w3", "w4"), ("instance", "list"),
        ("instance", "status"),
        ("doctor", "--offline"), ("resend", "--all", "--dry-run"), ("subgroup", "show", HOSTILE),
        ("message", "list", "--json"), ("contact", "show", ADA, "--json"), ("webhook", "show", "w1", "--json"),
        ("failed", "list", "--json"), ("message", "show", HOSTILE, "--json"),
        ("serve", "key", "add", HOSTILE), ("serve", "key", "revoke", HOSTILE), ("message", "show", HOSTILE),
    ]  # fmt: skip
    showed = False
    for words in lines:
        answer = wa(*words)
        assert answer.exit != 1, (words, answer.err)
        for letter in answer.out + answer.err:
            is_plain = letter in "\n\t" or unicodedata.category(letter) not in ("Cc", "Cf", "Zl", "Zp")
            assert is_plain, (words, hex(ord(letter)), answer)
        assert not any(line.startswith("queued 1 message") for line in (answer.out + answer.err).splitlines()), words
        showed = showed or "\\e[2J" in answer.out
    assert showed


@pytest.mark.parametrize("columns", [60, 80])
def test_what_webhooks_told_fits_a_narrow_terminal(
    wa: Wa, told: App, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """Words break between words, under their own column."""
    send(told, BEN, outcome=UNREADABLE, text="maybe")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    for words in (("reconcile", "--explain"), ("webhook", "show", "w1"), ("message", "show", "m1")):
        answer = wa(*words)
        head, *rest = answer.out.splitlines()
        assert max(map(len, rest + answer.err.splitlines())) <= columns, answer
        assert head
