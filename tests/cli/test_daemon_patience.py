"""The daemon outlasts what passes by itself: a busy file, a clock that is behind or is set back while it waits."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from freezegun import freeze_time

from wa_cli.bootstrap import App, open_app
from wa_cli.config import load_settings
from wa_cli.daemon.service import _alarm_of, _new_scheduler, run_daemon
from wa_cli.errors import Temporary
from wa_cli.store.sqlite.leases import SqliteLeases

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wa_cli.ports import Holder, Lease


class BusyLeases(SqliteLeases):
    """Another program holds the file for the first two tries."""

    refusals = 2

    def acquire(self, instance_id: int, *, role: str, now_ms: int) -> Lease | Holder:
        if self.refusals:
            self.refusals -= 1
            raise Temporary("the database is busy", code="store_busy")
        return super().acquire(instance_id, role=role, now_ms=now_ms)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    settings = {"WHATSAPP_API_URL": "http://127.0.0.1:9/v25.0/1/messages", "WHATSAPP_ACCESS_TOKEN": "token"}
    opened = open_app(load_settings(settings, flags={"WA_DB": str(tmp_path / "wa.db")}), create=True)
    yield opened
    opened.close()


class Lines(logging.Handler):
    """Hears what the daemon says; leaves as soon as it sends."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())
        if "sending for" in self.said[-1]:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_daemon_that_finds_the_file_busy_says_so_once_and_tries_again(app: App) -> None:
    """Fault 19: the daemon carries on later."""
    app.leases = BusyLeases(app.database, app.owner)
    lines = Lines()
    logger = logging.getLogger("wa.daemon")
    logger.addHandler(lines)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        code, holder = asyncio.run(run_daemon(app, [app.find_instance()]))
    finally:
        logger.removeHandler(lines)
        logger.setLevel(level)
    assert (code, holder) == (0, None)
    assert [line for line in lines.said if "busy" in line] == ["the database is busy; trying again"]
    assert "sending for 'default', epoch 1" in lines.said


def test_an_alarm_rings_in_time_though_the_wall_clock_is_set_back_meanwhile() -> None:
    """Fault 31: what waits for a spacing or the end of a rest must not wait two hours more."""

    async def wait() -> float:
        scheduler = _new_scheduler()
        scheduler.start()
        rang = asyncio.Event()
        began = asyncio.get_running_loop().time()
        with freeze_time(real_asyncio=True) as wall:
            _alarm_of(scheduler, "one")(1.0, rang.set)
            await asyncio.sleep(0.1)
            wall.move_to(wall() - timedelta(hours=2))
            await asyncio.wait_for(rang.wait(), 60)
        scheduler.shutdown(wait=False)
        return asyncio.get_running_loop().time() - began

    assert 0.9 < asyncio.run(wait()) < 60  # two hours are 7,200


def test_an_alarm_that_was_taken_back_does_not_ring() -> None:
    async def wait() -> bool:
        scheduler = _new_scheduler()
        scheduler.start()
        rang = asyncio.Event()
        _alarm_of(scheduler, "one")(1.0, rang.set)()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(rang.wait(), 1.5)
        scheduler.shutdown(wait=False)
        return rang.is_set()

    assert not asyncio.run(wait())
