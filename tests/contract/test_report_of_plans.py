"""The report of campaigns that were planned, let go and sent as they really are: it says what the plan said."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tests.campaigning import open_office
from wa_cli.domain.report import Bucket, find_ledger_error

if TYPE_CHECKING:
    from pathlib import Path

    from tests.campaigning import Office
    from wa_cli.domain.campaign import Campaign
    from wa_cli.domain.report import RunFigures

BODY = """
[message]
text = "Hi {{ name }}, doors open at six"

[audience]
files = ["people.csv"]
subgroups = ["vip"]
"""


def read(office: Office, campaign: Campaign) -> RunFigures:
    return office.app.reports.read_figures(office.run_of(campaign), now_ms=office.clock.wall_ms(), is_deep=True)


def lines_of(office: Office, campaign: Campaign) -> Counter[str]:
    return Counter(line.bucket.value for line in office.app.reports.read_ledger(office.run_of(campaign)))


def fill(office: Office) -> Campaign:
    """Six people in two lists that overlap; one has no name, one has left, one row names nobody."""
    office.write_people(
        "people.csv",
        [{"recipient": f"+658123000{n}", "name": "" if n == 5 else f"Guest {n}"} for n in range(1, 6)]
        + [{"recipient": "no number", "name": "Nobody"}],
    )
    office.add_subgroup("vip", ["+6581230001", "+6581230002"])
    with office.app.database.write() as connection:
        connection.execute(
            "INSERT INTO contact (address, kind, created_at, opted_out_at) VALUES ('+6581230004', 'person', 0, 1)"
        )
    return office.create("gala", BODY)


def test_the_audience_of_a_report_is_that_of_its_plan(tmp_path: Path) -> None:
    """Promise P13; issue 5, points 3 and 9: overlapping lists, a bad row, an opt-out and a missing field."""
    with open_office(tmp_path) as office:
        campaign = fill(office)
        planned, summary = office.plan(campaign)
        office.apply(campaign, planned)
        waiting = read(office, campaign)
        assert (waiting.audience, waiting.buckets[Bucket.QUEUED]) == (summary.audience, summary.queued)
        assert find_ledger_error(waiting) is None
        office.pause(campaign)
        held = read(office, campaign)
        assert (held.buckets[Bucket.HELD], held.ends_at_ms) == (summary.queued, None)
        office.resume(campaign)
        office.drain()
        sent = read(office, campaign)
        assert sent.accepted == summary.queued == 3
        assert sent.left_out == {"opted_out": 1, "missing_field": 1, "invalid": 1}
        assert find_ledger_error(sent) is None
        assert lines_of(office, campaign) == {"sent": 3, "skipped": 3}


def test_a_campaign_that_is_planned_anew_has_everybody_once(tmp_path: Path) -> None:
    """Promise P13: who was written to by the first plan is not counted among those whom the second leaves out."""
    with open_office(tmp_path) as office:
        campaign = fill(office)
        office.start(campaign)
        office.drain(start_limit=1)
        office.pause(campaign)
        office.write_people(
            "people.csv", [{"recipient": f"+658123000{n}", "name": "" if n == 3 else f"Guest {n}"} for n in range(1, 8)]
        )
        office.start(campaign)
        figures = read(office, campaign)
        assert find_ledger_error(figures) is None
        people = [line.recipient for line in office.app.reports.read_ledger(office.run_of(campaign))]
        assert len(people) == len(set(people)) == figures.audience == 7
        office.drain()
        assert find_ledger_error(read(office, campaign)) is None
        assert len(office.addresses) == len(set(office.addresses))


def test_a_cancelled_campaign_still_adds_up(tmp_path: Path) -> None:
    """Promise P13."""
    with open_office(tmp_path) as office:
        campaign = fill(office)
        office.start(campaign)
        office.drain(start_limit=1)
        office.cancel(campaign)
        figures = read(office, campaign)
        assert (figures.buckets[Bucket.CANCELLED], figures.unfinished) == (2, 0)
        assert find_ledger_error(figures) is None
