"""kill -9 while webhooks come in and while they are read: the answered are kept, the half read are read again."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.processes import clean_environment
from wa_cli.bootstrap import App, open_app
from wa_cli.config import load_settings
from wa_cli.ports import NewWebhook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Takes bodies from many senders at once, and prints the row of each as soon as it may be answered.
TAKES_IN = """
import asyncio, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from wa_cli.bootstrap import SystemClock
from wa_cli.services.webhooks import WebhookInbox
from wa_cli.store.sqlite.database import Database
from wa_cli.store.sqlite.webhooks import SqliteWebhooks

async def send(inbox, sender):
    for turn in range(10_000):
        row = await inbox.accept(b'"%d.%d"' % (sender, turn), is_signed=True, provider="cloud_api")
        sys.stdout.write(f"{row} {sender}.{turn}\\n")
        sys.stdout.flush()

async def main():
    webhooks = SqliteWebhooks(Database.open(Path(sys.argv[1]), create=False))
    inbox = WebhookInbox(webhooks=webhooks, executor=ThreadPoolExecutor(1), clock=SystemClock())
    await asyncio.gather(*[send(inbox, sender) for sender in range(20)])

asyncio.run(main())
"""

READS = """
import sys
from wa_cli.bootstrap import open_app
from wa_cli.config import load_settings

app = open_app(load_settings({"WA_DB": sys.argv[1]}), create=False)
while app.read_webhooks(limit=7).webhooks:
    sys.stdout.write("read\\n")
    sys.stdout.flush()
"""


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    opened = open_app(load_settings({"WA_DB": str(tmp_path / "wa.db")}), create=True)
    yield opened
    opened.close()


def run_and_kill(tmp_path: Path, script: str, *, after_lines: int) -> list[str]:
    """Run it until it has printed so many lines, kill it, and give back every line it printed."""
    command = [sys.executable, "-c", script, str(tmp_path / "wa.db")]
    with subprocess.Popen(
        command, env=clean_environment(tmp_path), cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if len(lines) == after_lines:
                process.send_signal(signal.SIGKILL)
        process.wait(60)
        assert process.returncode in (-signal.SIGKILL, 0)
    return [line.rstrip("\n") for line in lines if line.endswith("\n")]


def test_what_was_answered_before_a_kill_is_kept_byte_for_byte(tmp_path: Path, app: App) -> None:
    """Promise P1, fault 75: crash after 200."""
    dice = random.Random(75)
    answered: dict[int, str] = {}
    for _round in range(3):
        for line in run_and_kill(tmp_path, TAKES_IN, after_lines=dice.randrange(1, 400)):
            row, _blank, body = line.partition(" ")
            assert int(row) not in answered
            answered[int(row)] = body
    assert answered
    kept = {}
    after_id = 0
    while page := app.webhooks.read_waiting(after_id=after_id, limit=500, most_bytes=10**9):
        kept.update({one.id: one.body.decode().strip('"') for one in page})
        after_id = page[-1].id
    assert {row: kept.get(row) for row in answered} == answered
    with app.database.read() as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_reader_that_is_killed_leaves_every_effect_once_or_still_to_come(tmp_path: Path, app: App) -> None:
    """Faults 69 and 75."""

    def body(number: int) -> bytes:
        statuses = [
            {"id": f"wamid.{number}.{part}", "status": "read", "timestamp": "1793900000"} for part in range(350)
        ]
        value = {"metadata": {"phone_number_id": "55"}, "statuses": statuses}
        entry = {"id": "1", "changes": [{"field": "messages", "value": value}]}
        return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()

    app.webhooks.append(
        [NewWebhook(received_at_ms=1, provider="cloud_api", is_signed=True, body=body(n)) for n in range(60)]
    )
    for _round in range(3):
        run_and_kill(tmp_path, READS, after_lines=2)
    while app.read_webhooks(limit=1_000).webhooks:
        pass
    assert {row.status.value for row in app.webhooks.list_newest(None, before_id=None, limit=100)} == {"done"}
    with app.database.read() as connection:
        receipts = connection.execute("SELECT count(*), count(DISTINCT provider_message_id) FROM receipt").fetchone()
        assert receipts == (60 * 350, 60 * 350)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
