"""What can go wrong around a plan: the disk, the files, the lists, the clock.  Nothing is left by halves."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING
from zoneinfo import available_timezones

import pytest

from tests.campaigning import Office, open_office
from tests.world import FakeClock, address, rejected
from wa_cli.domain.outcome import ErrorClass
from wa_cli.errors import Conflict, NotFound, Refused, StorageFull, UsageError
from wa_cli.services.resend import ResendOrder, resend

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wa_cli.domain.campaign import Campaign

GALA = '[message]\ntext = "Hi {{ name }}"\n[fallbacks]\nname = "friend"\n[audience]\n'
LISTED = GALA + 'files = ["people.csv"]\n'
HOUR_MS = 3_600_000
PEOPLE = 3_000


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with open_office(tmp_path) as opened:
        opened.app.database.connection.execute("PRAGMA synchronous = OFF")
        yield opened


def list_people(office: Office, count: int, *, first: int = 0, name: str = "people.csv") -> None:
    office.write_people(
        name, [{"name": f"P{number}", "phone": address(number)} for number in range(first, first + count)]
    )


def fill_disk(office: Office, *, spare_pages: int) -> None:
    (pages,) = office.app.database.connection.execute("PRAGMA page_count").fetchone()
    office.app.database.connection.execute(f"PRAGMA max_page_count = {pages + spare_pages}").fetchone()


def free_disk(office: Office) -> None:
    office.app.database.connection.execute("PRAGMA max_page_count = 1000000").fetchone()


def assert_nothing_is_queued(office: Office) -> None:
    assert office.world.rows("SELECT (SELECT count(*) FROM message), (SELECT count(*) FROM batch)") == [(0, 0)]
    assert office.world.rows("SELECT (SELECT count(*) FROM run), (SELECT count(*) FROM exclusion)") == [(0, 0)]


@pytest.mark.parametrize("spare_pages", [0, 30, 100])
def test_a_disk_that_is_full_while_planning_leaves_no_plan(office: Office, spare_pages: int) -> None:
    """Issue 5, point 4; promise P10; row 12: the same command works when there is room."""
    list_people(office, PEOPLE)
    gala = office.create("gala", LISTED)
    fill_disk(office, spare_pages=spare_pages)
    with pytest.raises(StorageFull):
        office.plan(gala)
    free_disk(office)
    planned, _summary = office.plan(gala)
    assert office.world.rows("SELECT count(*), count(DISTINCT plan_id) FROM plan_line") == [(PEOPLE, 1)]
    office.apply(gala, planned)
    assert office.counts(gala) == {"queued": PEOPLE}
    assert office.world.find_faults() == []


@pytest.mark.parametrize("spare_pages", [0, 20, 60])
def test_a_disk_that_is_full_while_applying_queues_nothing(office: Office, spare_pages: int) -> None:
    """Issue 5, point 4; promises P6, P10; row 12: the same plan can be applied when there is room."""
    list_people(office, PEOPLE)
    gala = office.create("gala", LISTED)
    planned, _summary = office.plan(gala)
    fill_disk(office, spare_pages=spare_pages)
    with pytest.raises(StorageFull):
        office.apply(gala, planned)
    office.drain()
    assert office.addresses == []
    free_disk(office)
    office.apply(gala, planned)
    assert office.counts(gala) == {"queued": PEOPLE}
    assert office.world.find_faults() == []


def test_a_list_that_grows_while_it_is_planned_makes_a_plan_that_no_longer_fits(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 5, point 4: drift is seen from the moment before the file is read."""
    list_people(office, PEOPLE)
    gala = office.create("gala", LISTED)
    with open_office(office.folder, clock=office.clock) as other:

        def grow(name: str) -> None:
            if name == "plan_lines_after_commit":
                list_people(other, PEOPLE + 1)

        monkeypatch.setattr("wa_cli.store.sqlite.plans.cut", grow)
        planned, _summary = office.plan(gala)
    with pytest.raises(Conflict, match="no longer fits"):
        office.apply(gala, planned)
    assert_nothing_is_queued(office)


@pytest.mark.parametrize("kind", ["folder", "pipe", "gone", "hole"])
def test_a_list_that_is_no_list_is_refused_at_once(office: Office, kind: str) -> None:
    """Issue 5, points 1 and 4: a pipe is not waited for, gigabytes of nothing are not read."""
    list_people(office, 3)
    gala = office.create("gala", LISTED)
    path = office.folder / "campaigns" / "people.csv"
    path.unlink()
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "hole":
            with path.open("wb") as out:
                out.truncate(10 * 2**30)
    began = time.process_time()
    with pytest.raises(UsageError, match=r"people\.csv"):
        office.plan(gala)
    assert time.process_time() - began < 5.0
    assert office.world.value("SELECT count(*) FROM plan") == 0


def test_a_list_that_is_gone_when_the_plan_is_applied_queues_nothing(office: Office) -> None:
    """Issue 5, point 4."""
    office.add_subgroup("vip", [address(1)])
    gala = office.create("gala", GALA + 'subgroups = ["vip"]\n')
    planned, _summary = office.plan(gala)
    office.app.subgroups.delete(office.app.subgroups.find("vip").id)
    with pytest.raises((NotFound, Conflict)):
        office.apply(gala, planned)
    assert_nothing_is_queued(office)


def test_a_queue_without_room_takes_nothing_and_a_new_plan_needs_room_only_for_what_is_new(tmp_path: Path) -> None:
    """Row Q8: MAX_QUEUE_SIZE."""
    clock = FakeClock()
    with open_office(tmp_path, clock=clock, MAX_QUEUE_SIZE="3") as small:
        list_people(small, 4)
        gala = small.create("gala", LISTED)
        planned, _summary = small.plan(gala)
        with pytest.raises(Refused, match="full"):
            small.apply(gala, planned)
        assert_nothing_is_queued(small)
        list_people(small, 3)
        small.start(gala)
        small.pause(gala)
        list_people(small, 3, first=1)
        small.start(gala)
        assert small.counts(gala) == {"queued": 3, "cancelled": 1}


def test_a_clock_that_is_set_back_between_plan_and_apply_keeps_the_spacing(office: Office) -> None:
    """Row 30."""
    list_people(office, 3)
    gala = office.create("gala", LISTED + "[pacing]\ndelay = 1000\n")
    planned, _summary = office.plan(gala)
    office.clock.jump(-HOUR_MS)
    office.apply(gala, planned)
    office.drain(whole_schedule=True)
    assert office.world.transport.gaps_ms == [1_000.0, 1_000.0]


def test_what_would_come_too_late_for_everybody_is_refused_as_a_plan(office: Office) -> None:
    """Issue 5, point 5: expires."""
    list_people(office, 3)
    gala = office.create("gala", f'expires = "2027-01-15 17:00"\n{LISTED}[schedule]\nat = "2027-01-15 18:00"\n')
    with pytest.raises(UsageError) as caught:
        office.plan(gala)
    assert "expired" in caught.value.message
    assert office.world.value("SELECT count(*) FROM plan") == 0


def test_sixty_zones_with_nights_of_their_own_are_laid_out_and_nobody_is_woken(office: Office) -> None:
    """Issue 5, point 5."""
    zones = [zone for zone in sorted(available_timezones()) if zone.startswith(("America/", "Asia/"))][:60]
    rows = [{"name": "P", "phone": address(number), "timezone": zones[number % 60]} for number in range(240)]
    office.write_people("people.csv", rows)
    gala = office.create(
        "gala",
        LISTED + '[schedule]\nzone = "recipient"\n[quiet]\nhours = ["20:00", "09:00"]\n[limits]\nper_minute = 2\n',
    )
    _planned, summary = office.plan(gala)
    assert summary.queued == 240
    assert len(summary.by_zone) > 30
    # Under 2 a minute alone they take 2 h; nowhere is it day for less than 11 h, so a day does for all of the world.
    assert (summary.last_at_ms or 0) - office.clock.wall_ms() < 26 * HOUR_MS


def test_a_zone_whose_evening_is_near_goes_before_one_that_has_the_day_before_it(office: Office) -> None:
    """Issue 5, schedule optimality: 450 people 5 h before their night, as many with 12 h; 120 an hour may go."""
    rows = [{"name": "P", "phone": address(number)} for number in range(450)]
    rows += [{"name": "P", "phone": f"+491512{number:07d}"} for number in range(450)]
    office.write_people("people.csv", rows)
    gala = office.create(
        "gala",
        LISTED + '[schedule]\nzone = "recipient"\n[quiet]\nhours = ["21:00", "09:00"]\n[limits]\nper_minute = 2\n',
    )
    _planned, summary = office.plan(gala)
    assert (summary.queued, set(summary.by_zone)) == (900, {"Asia/Singapore", "Europe/Berlin"})
    assert (summary.last_at_ms or 0) - office.clock.wall_ms() < 7.55 * HOUR_MS


def test_a_campaign_that_is_paused_while_its_last_message_leaves_is_finished_when_it_is_resumed(
    office: Office,
) -> None:
    """Issue 5, point 6."""
    list_people(office, 1)
    gala = office.create("gala", LISTED)
    office.start(gala)
    office.world.transport.on_post = lambda _posted: office.pause(gala)
    office.drain()
    office.look_after()
    office.resume(gala)
    office.look_after()
    assert office.state(gala) == "finished"


def test_a_finished_campaign_whose_failures_are_sent_again_can_be_paused(office: Office) -> None:
    """Issue 5, point 6; promise P7."""
    list_people(office, 2)
    gala = office.create("gala", LISTED)
    office.world.transport.script = [rejected(ErrorClass.DEAD_RECIPIENT, "131026")]
    office.start(gala)
    office.drain()
    office.look_after()
    assert (office.state(gala), office.counts(gala)) == ("finished", {"failed": 1, "sent": 1})
    with pytest.raises(Conflict):
        office.pause(gala)
    send_again(office, gala)
    office.pause(gala)
    office.drain()
    assert office.counts(gala) == {"queued": 1, "sent": 1}
    office.resume(gala)
    office.drain()
    office.look_after()
    assert (office.state(gala), office.counts(gala)) == ("finished", {"sent": 2})


def test_a_campaign_goes_on_while_its_failures_are_sent_again(office: Office) -> None:
    """Issue 5, point 6."""
    list_people(office, 1)
    gala = office.create("gala", LISTED)
    office.world.transport.script = [rejected(ErrorClass.DEAD_RECIPIENT, "131026")]
    office.start(gala)
    office.drain()
    office.look_after()
    send_again(office, gala)
    assert office.app.campaigns.has_work()
    office.look_after()
    assert office.state(gala) == "running"
    office.drain()
    office.look_after()
    assert office.state(gala) == "finished"
    assert office.world.find_faults() == []


def send_again(office: Office, campaign: Campaign) -> None:
    order = ResendOrder(
        message_ids=None, campaign=campaign.name, delay_ms=0, force=True, is_dry_run=False, duplicate_window_ms=0
    )
    resend(office.app.failures, order, now_ms=office.clock.wall_ms())


def test_a_campaign_with_two_open_occurrences_ends_with_the_later_one(office: Office) -> None:
    """Issue 5, point 5: the first of them ends while the second still sends."""
    list_people(office, 2)
    until = "2027-01-17"
    gala = office.create("gala", LISTED + f'[schedule]\nevery = "daily 09:00"\nuntil = "{until}"\n')
    office.start(gala)
    for turn in range(2):
        reach(office, gala)
        if turn == 1:
            office.look_after()
        else:
            office.world.transport.script = [rejected(ErrorClass.DEAD_RECIPIENT, "131026")] * 2
            office.look_after()
    assert len(office.app.campaigns.list_runs(gala.id)) == 2
    assert office.state(gala) == "running"
    office.drain()
    office.look_after()
    assert office.state(gala) == "finished"
    assert {run.state for run in office.app.campaigns.list_runs(gala.id)} == {"finished"}


def reach(office: Office, campaign: Campaign) -> None:
    due = office.app.campaigns.read(campaign.id).next_occurrence_at_ms
    assert due is not None
    office.clock.advance(due - office.clock.wall_ms() + 500)
