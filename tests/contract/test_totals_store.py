"""A campaign in numbers over all its runs: everybody of the audience once, and who answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.ledger import MINUTE, NOW, Ledger, number
from tests.world import FakeClock, World, open_world
from wa_cli.errors import NotFound
from wa_cli.store.sqlite.reports import SqliteReports
from wa_cli.store.sqlite.totals import SqliteTotals

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOBODY = {"replied": 0, "opted_out": 0, "clicked": 0}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path, clock=FakeClock(NOW)) as made:
        yield made


def answers(world: World, name: str = "spring-sale") -> dict[str, int]:
    totals = SqliteTotals(world.database).read(name)
    return {"replied": totals.replied, "opted_out": totals.opted_out, "clicked": totals.clicked}


def fill_run(ledger: Ledger, occurrence: str = "", *, people: int = 6) -> None:
    """One of each: read, delivered, sent, failed, unknown, queued; two left out and one who was written to before."""
    ledger.start_run(occurrence)
    batch = ledger.add_batch()
    standings = [("sent", "read"), ("sent", "delivered"), ("sent", None), ("failed", None), ("unknown", None)]
    for index in range(people):
        state, receipt = standings[index] if index < len(standings) else ("queued", None)
        ledger.add(number(index), batch, state, receipt)
    ledger.leave_out(number(90), "opted_out")
    ledger.leave_out(None, "invalid", "row 7")
    ledger.leave_out(number(91), "expired")
    ledger.leave_out(number(0), "already_written")


def test_everybody_of_every_run_stands_in_one_place(world: World) -> None:
    """Issue 5, point 8; rows Q6, Q7; promise P13."""
    ledger = Ledger(world.database)
    fill_run(ledger, "2027-01-01T09:00")
    fill_run(ledger, "2027-01-08T09:00", people=8)
    totals = SqliteTotals(world.database).read("Spring-Sale")
    assert (totals.name, totals.state) == ("spring-sale", "running")
    assert {word: n for word, n in totals.stats.items() if n} == {
        "read": 2, "delivered": 2, "sent": 2, "failed": 2, "unknown": 2, "queued": 4, "skipped": 4, "expired": 2,
    }  # fmt: skip
    assert sum(totals.stats.values()) == 6 + 3 + 8 + 3


def test_the_totals_of_one_run_are_those_of_its_report(world: World) -> None:
    """Rows Q6, Q7: whoever asks, over HTTP or in the terminal, hears the same."""
    ledger = Ledger(world.database)
    fill_run(ledger, people=9)
    for index, minutes in ((0, 3), (1, 200), (3, 3)):
        ledger.write_back(number(index), at=NOW - 10 * MINUTE + minutes * MINUTE)
    ledger.write_back(number(2), at=NOW - 11 * MINUTE)  # before the message
    ledger.opt_out(number(1), at=NOW)
    ledger.opt_out(number(2), at=NOW, source="import")
    ledger.click(number(0), at=NOW)
    ledger.click(number(0), at=NOW + MINUTE)
    ledger.click(number(1), at=NOW, kind="preview")
    figures = SqliteReports(world.database).read_figures(ledger.run(), now_ms=NOW)
    totals = SqliteTotals(world.database).read("spring-sale")
    assert sum(totals.stats.values()) == figures.audience
    buckets = {bucket.value: n for bucket, n in figures.buckets.items()}
    buckets["queued"] += buckets.pop("held")
    assert dict(totals.stats) == buckets
    found = figures.answers
    assert answers(world) == {
        "replied": found.replied, "opted_out": found.opted_out, "clicked": found.clicked,
    }  # fmt: skip
    assert answers(world) == {"replied": 2, "opted_out": 1, "clicked": 1}


def test_answers_are_counted_for_the_run_that_they_answer(world: World) -> None:
    """Row Q6."""
    ledger = Ledger(world.database)
    for occurrence in ("first", "second"):
        ledger.start_run(occurrence)
        batch = ledger.add_batch()
        for index in range(3):
            posted_at = NOW - 50 * MINUTE if occurrence == "first" else NOW - 5 * MINUTE
            ledger.add(number(index), batch, "sent", "read", posted_at=posted_at)
    ledger.write_back(number(0), at=NOW - 40 * MINUTE)
    assert answers(world) == {**NOBODY, "replied": 1}
    ledger.click(number(2), at=NOW)  # of the second
    assert answers(world) == {**NOBODY, "replied": 1, "clicked": 1}


def test_a_campaign_that_was_never_let_go_has_nobody_yet(world: World) -> None:
    Ledger(world.database, state="draft")
    totals = SqliteTotals(world.database).read("spring-sale")
    assert (totals.state, sum(totals.stats.values())) == ("draft", 0)


def test_other_campaigns_do_not_count(world: World) -> None:
    fill_run(Ledger(world.database, name="other"))
    fill_run(Ledger(world.database))
    assert sum(SqliteTotals(world.database).read("spring-sale").stats.values()) == 9
    with pytest.raises(NotFound, match="no campaign named 'autumn'"):
        SqliteTotals(world.database).read("autumn")
