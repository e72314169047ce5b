"""Webhooks that wait while no server runs: whoever sends reads them first, and forgets old ones."""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING

import pytest

from tests.cli.stored import ACCEPTED, ADA, BEN, UNREADABLE, enqueue, send
from wa_cli.bootstrap import App, open_app
from wa_cli.config import load_settings
from wa_cli.daemon import sending
from wa_cli.daemon.sending import look_after_queue
from wa_cli.ports import NewWebhook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY_MS = 86_400_000


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    settings = {
        "WA_DB": str(tmp_path / "wa.db"),
        "WA_WEBHOOK_DAYS": "2",
        "WHATSAPP_API_URL": "https://graph.facebook.com/v25.0/55/messages",
    }
    opened = open_app(load_settings(settings), create=True)
    yield opened
    opened.close()


def put(app: App, value: dict[str, object], *, days_ago: int = 0) -> None:
    changes = [{"field": "messages", "value": {"metadata": {"phone_number_id": "55"}, **value}}]
    body = json.dumps({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": changes}]}).encode()
    at_ms = app.clock.wall_ms() - days_ago * DAY_MS
    app.webhooks.append([NewWebhook(received_at_ms=at_ms, provider="cloud_api", is_signed=True, body=body)])


def status(app: App, word: str, *, attempt_id: int, wamid: str = "wamid.1") -> dict[str, object]:
    one = {
        "id": wamid,
        "status": word,
        "timestamp": str(int(time.time())),
        "recipient_id": ADA.removeprefix("+"),
        "biz_opaque_callback_data": f"wa1.{app.database.read_install()}.{attempt_id}",
    }
    return {"statuses": [one]}


def test_upkeep_reads_what_a_dead_server_left(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """Row Q4, fault 75; promise P5: receipts count, and an unknown is settled, without a server."""
    (seen,) = send(app, ADA, outcome=ACCEPTED)
    (doubtful,) = send(app, ADA, outcome=UNREADABLE, text="another")
    put(app, status(app, "read", attempt_id=1))
    put(app, status(app, "delivered", attempt_id=2, wamid="wamid.2"))
    with caplog.at_level(logging.INFO, "wa.daemon"):
        look_after_queue(app)
        look_after_queue(app)  # there is nothing to do and nothing to say
    assert app.messages.find(seen).standing == "read"
    assert app.messages.find(doubtful).standing == "delivered"
    assert app.webhooks.count_waiting() == 0
    (line,) = caplog.messages
    assert "2 webhooks read" in line


def test_a_wish_to_leave_that_nobody_has_read_is_heard_before_anything_is_sent(app: App) -> None:
    """Promise P7, fault 88: a STOP that came before the crash of the server."""
    enqueue(app, ADA, BEN)
    said = {"id": "wamid.IN", "from": ADA.removeprefix("+"), "timestamp": str(int(time.time())), "type": "text"}
    put(app, {"messages": [{**said, "text": {"body": "STOP"}}]})
    look_after_queue(app)
    assert app.people.find(ADA).opted_out_at_ms is not None
    assert app.people.find(BEN).opted_out_at_ms is None


def test_upkeep_forgets_old_webhooks(app: App) -> None:
    """Row S11: the log of events does not grow for ever, also where a cron job is all that runs."""
    for days_ago in (9, 9, 3, 1, 0):
        put(app, {"statuses": []}, days_ago=days_ago)
    look_after_queue(app)
    now_ms = app.clock.wall_ms()
    kept = [row.received_at_ms for row in app.webhooks.list_newest(None, before_id=None, limit=9)]
    assert [(now_ms - at_ms) // DAY_MS for at_ms in kept] == [0, 1]


def test_a_large_backlog_does_not_keep_the_queue_waiting(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise P9: some now, the rest at the next look."""
    monkeypatch.setattr(sending, "READ_SECONDS", 0.0)
    for _number in range(sending.READ_AT_ONCE + 5):
        put(app, {"statuses": []})
    look_after_queue(app)
    assert app.webhooks.count_waiting() == 5
    look_after_queue(app)
    assert app.webhooks.count_waiting() == 0
