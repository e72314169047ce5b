"""What a plan has spread stays spread when it leaves, on time or late."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.campaigning import Office, open_office
from tests.world import Worker, address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SALE = """
[message]
text = "The sale begins"
[audience]
subgroups = ["vip"]
"""
MINUTE_MS = 60_000
HOUR_MS = 3_600_000


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with open_office(tmp_path) as opened:
        yield opened


def planned_gaps(office: Office) -> list[int]:
    dues = [due for (due,) in office.world.rows("SELECT scheduled_at FROM message ORDER BY scheduled_at, id")]
    return [later - earlier for earlier, later in pairwise(dues)]


def test_jitter_is_kept_when_messages_leave(office: Office) -> None:
    """Issue 5, point 7: everybody is written to at the planned minute, not at the even spacing under it."""
    office.add_subgroup("vip", [address(number) for number in range(30)])
    sale = office.create("sale", SALE + '[pacing]\ndelay = "60s"\njitter = 0.4\nseed = 7\n')
    office.start(sale)
    gaps = planned_gaps(office)
    assert max(gaps) - min(gaps) > 15_000
    office.drain(whole_schedule=True)
    left = office.world.transport.gaps_ms
    assert len(left) == 29
    assert all(abs(one - planned) <= 2 for one, planned in zip(left, gaps, strict=True))


def test_what_fills_a_window_is_no_burst_when_it_is_late(office: Office) -> None:
    """Promise P8; row R5: the machine slept through the first two hours of the window."""
    office.add_subgroup("vip", [address(number) for number in range(120)])
    sale = office.create("sale", SALE + '[schedule]\nbetween = ["16:00", "20:00"]\n')
    office.start(sale)
    spread = min(planned_gaps(office))
    assert spread >= 110_000
    office.clock.advance(2 * HOUR_MS)
    worker = Worker(office.world)
    worker.run_for(2 * HOUR_MS + 5 * MINUTE_MS)
    worker.stop()
    assert min(office.world.transport.gaps_ms) >= spread - 1
    assert 59 <= len(office.addresses) <= 61
    # The window has closed: those who were not reached are written to when it opens again.
    assert office.world.value("SELECT count(*) FROM message WHERE state = 'queued' AND reason = 'quiet_hours'") >= 59
