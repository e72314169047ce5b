"""A campaign from its file to its end: planned, let go, stopped, and never written twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.campaigning import Office, open_office
from tests.world import accepted, address, ambiguous, rejected
from wa_cli.domain.outcome import ErrorClass
from wa_cli.errors import Conflict, Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GALA = """
[message]
text = "Hi {{ name }}, doors open at six"
[fallbacks]
name = "friend"
[audience]
subgroups = ["vip"]
"""
MINUTE_MS = 60_000
HOUR_MS = 3_600_000


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with open_office(tmp_path) as opened:
        yield opened


def people(count: int, first: int = 1) -> list[str]:
    return [address(number) for number in range(first, first + count)]


# --- planning ---


def test_a_plan_sends_nothing_and_an_apply_sends_precisely_the_plan(office: Office) -> None:
    """Issue 5, point 4."""
    office.add_subgroup("vip", people(3))
    gala = office.create("gala", GALA + "[pacing]\ndelay = 2000\n")
    planned, summary = office.plan(gala)
    assert (summary.audience, summary.queued) == (3, 3)
    assert summary.last_at_ms == (summary.first_at_ms or 0) + 4_000
    assert office.world.value("SELECT count(*) FROM message") == 0
    office.clock.advance(10 * MINUTE_MS)  # what was meant for at once leaves later as it is
    office.apply(gala, planned)
    office.drain(whole_schedule=True)
    assert office.bodies == ["Hi friend, doors open at six"] * 3
    assert office.addresses == people(3)
    assert office.world.transport.gaps_ms == [2_000.0, 2_000.0]


def test_one_person_in_many_lists_and_spellings_gets_one_message(office: Office) -> None:
    """Issue 5, point 3."""
    office.add_subgroup("vip", people(2))
    office.write_people(
        "people.csv",
        [
            {"name": "Ada", "phone": "+65 9000 0001"},
            {"name": "Ben", "phone": "0065-90000003"},
            {"name": "X", "phone": "12"},
        ],
    )
    gala = office.create("gala", GALA.replace('subgroups = ["vip"]', 'subgroups = ["vip"]\nfiles = ["people.csv"]'))
    planned, summary = office.plan(gala)
    assert (summary.audience, summary.queued, summary.merged) == (4, 3, 1)
    assert summary.by_reason == {"invalid": 1}
    office.apply(gala, planned)
    office.drain()
    assert sorted(zip(office.addresses, office.bodies, strict=True)) == [
        (address(1), "Hi Ada, doors open at six"),
        (address(2), "Hi friend, doors open at six"),
        (address(3), "Hi Ben, doors open at six"),
    ]
    assert office.excluded(gala) == {"invalid": 1}


def test_set_algebra_of_an_audience(office: Office) -> None:
    """Issue 5, point 1: union, intersection, minus."""
    office.add_subgroup("vip", people(6))
    office.add_subgroup("crew", people(4, first=5))
    office.add_subgroup("consented", people(6, first=3))
    office.add_subgroup("staff", people(1, first=8))
    audience = """any_of = [{ subgroup = "vip" }, { subgroup = "crew" }]
all_of = [{ subgroup = "consented" }]
none_of = [{ subgroup = "staff" }]"""
    gala = office.create("gala", GALA.replace('subgroups = ["vip"]', audience))
    office.start(gala)
    office.drain()
    assert sorted(office.addresses) == people(5, first=3)


@pytest.mark.parametrize("change", ["file", "member", "limit"])
def test_an_apply_refuses_a_plan_whose_inputs_have_drifted(office: Office, change: str) -> None:
    """Issue 5, point 4: exit 7 with a diff, and nothing is queued."""
    office.add_subgroup("vip", people(3))
    gala = office.create("gala", GALA)
    planned, _summary = office.plan(gala)
    if change == "file":
        office.write("gala.toml", GALA.replace("six", "seven"))
        shown = '+text = "Hi {{ name }}, doors open at seven"'
    elif change == "member":
        office.add_subgroup("vip", people(1, first=9))
        shown = f"subgroup vip: 4 people, planned with 3; new since then: {address(9)}"
    else:
        office.write("gala.toml", GALA + "[limits]\nper_minute = 3\n")
        shown = "+per_minute = 3"
    with pytest.raises(Conflict) as caught:
        office.apply(gala, planned)
    assert caught.value.exit_code == 7
    assert shown in "\n".join(caught.value.below)
    assert office.world.value("SELECT count(*) FROM message") == 0


def test_a_missing_field_without_a_fallback_is_left_out_with_its_name_never_sent_as_a_blank(office: Office) -> None:
    """Issue 5, point 2."""
    office.write_people("people.csv", [{"name": "Ada", "phone": address(1)}, {"name": " ", "phone": address(2)}])
    body = GALA.replace('[fallbacks]\nname = "friend"\n', "").replace('subgroups = ["vip"]', 'files = ["people.csv"]')
    gala = office.create("gala", body)
    _planned, summary = office.plan(gala)
    assert (summary.queued, summary.by_reason, summary.missing_fields) == (1, {"missing_field": 1}, {"name": 1})


def test_an_audience_of_nobody_is_an_error_that_leaves_no_plan(office: Office) -> None:
    office.add_subgroup("vip", [])
    gala = office.create("gala", GALA)
    with pytest.raises(UsageError, match="empty"):
        office.plan(gala)
    assert office.world.value("SELECT count(*) FROM plan") == 0


# --- stopping ---


def test_after_a_pause_nothing_starts_and_a_resume_writes_to_nobody_twice(office: Office) -> None:
    """Issue 5, point 6; promise P7."""
    office.add_subgroup("vip", people(5))
    gala = office.create("gala", GALA + "[pacing]\ndelay = 1000\n")
    office.start(gala)
    office.world.transport.on_post = lambda _posted: office.pause(gala) if len(office.addresses) == 2 else None
    office.drain(whole_schedule=True)
    assert office.addresses == people(2)
    office.clock.advance(HOUR_MS)
    office.drain()
    assert office.counts(gala) == {"sent": 2, "queued": 3}
    office.world.transport.on_post = None
    office.resume(gala)
    office.drain(whole_schedule=True)
    assert office.addresses == people(5)
    assert office.look_after()
    assert office.state(gala) == "finished"


def test_a_cancel_ends_a_campaign_for_good(office: Office) -> None:
    """Issue 5, point 6."""
    office.add_subgroup("vip", people(5))
    gala = office.create("gala", GALA + "[pacing]\ndelay = 1000\n")
    office.start(gala)
    office.world.transport.on_post = lambda _posted: office.cancel(gala) if len(office.addresses) == 2 else None
    office.drain(whole_schedule=True)
    assert office.counts(gala) == {"sent": 2, "cancelled": 3}
    with pytest.raises(Conflict):
        office.resume(gala)
    with pytest.raises(Conflict):
        office.start(gala)
    assert len(office.addresses) == 2


def test_an_edited_campaign_goes_on_with_those_who_have_not_been_written_to(office: Office) -> None:
    """Issue 5, point 3: not even after edits."""
    office.add_subgroup("vip", people(4))
    gala = office.create("gala", GALA + "[pacing]\ndelay = 1000\n")
    office.start(gala)
    office.world.transport.script = [accepted(), ambiguous()]
    office.world.transport.on_post = lambda _posted: office.pause(gala) if len(office.addresses) == 2 else None
    office.drain(whole_schedule=True)
    office.world.transport.on_post = None
    office.add_subgroup("vip", people(1, first=9))
    office.write("gala.toml", GALA.replace("six", "seven"))
    planned, summary = office.plan(gala)
    assert (summary.queued, summary.by_reason) == (3, {"already_written": 2})
    office.apply(gala, planned)
    office.drain()
    assert office.addresses == [*people(4), address(9)]
    assert [body[-3:] for body in office.bodies] == ["six", "six", "ven", "ven", "ven"]
    assert office.counts(gala) == {"sent": 4, "unknown": 1}


def test_a_campaign_pauses_itself_when_too_many_messages_fail(office: Office) -> None:
    """Issue 5, point 6: stop rules, with a reason."""
    office.add_subgroup("vip", people(30))
    gala = office.create("gala", GALA + '[stop]\nfailure_rate = "20%"\nafter = 10\n[pacing]\ndelay = 1000\n')
    office.start(gala)
    office.world.transport.script = [rejected(ErrorClass.DEAD_RECIPIENT, "131026")] * 3 + [accepted()] * 7
    office.world.transport.on_post = lambda posted: office.look_after() and None
    office.drain(whole_schedule=True)
    paused = office.app.campaigns.read(gala.id)
    assert (paused.state, paused.paused_by, paused.pause_code) == ("paused", "wa", "failure_rate")
    assert paused.pause_reason == "3 of 10 failed, more than 20 %"
    office.resume(gala)  # whoever resumes has seen these: only what comes after counts
    office.drain(whole_schedule=True)
    office.look_after()
    assert office.state(gala) == "finished"


def test_a_canary_goes_first_and_the_rest_follows_only_when_it_went_well(office: Office) -> None:
    """Issue 5, point 6: --canary 5 --hold 30m."""
    office.add_subgroup("vip", people(20))
    gala = office.create("gala", GALA)
    office.start(gala, canary=5, hold_ms=30 * MINUTE_MS)
    office.drain()
    assert len(office.addresses) == 5
    office.clock.advance(29 * MINUTE_MS)
    office.look_after()
    office.drain()
    assert len(office.addresses) == 5
    office.clock.advance(2 * MINUTE_MS)
    office.look_after()
    office.drain()
    assert sorted(office.addresses) == people(20)


def test_the_rest_of_a_bad_canary_never_leaves_by_itself(office: Office) -> None:
    """Issue 5, point 6."""
    office.add_subgroup("vip", people(20))
    gala = office.create("gala", GALA)
    office.world.transport.script = [rejected(ErrorClass.DEAD_RECIPIENT, "131026")] * 4
    office.start(gala, canary=4, hold_ms=MINUTE_MS)
    office.drain()
    office.clock.advance(HOUR_MS)
    office.look_after()
    office.drain()
    paused = office.app.campaigns.read(gala.id)
    assert (paused.state, paused.pause_code) == ("paused", "canary_failure_rate")
    assert len(office.addresses) == 4
    office.resume(gala)  # a person has looked at it
    office.drain()
    assert len(office.addresses) == 20


def test_every_step_is_written_down_with_who_took_it_and_why(office: Office) -> None:
    """Issue 5, point 6."""
    office.add_subgroup("vip", people(1))
    gala = office.create("gala", GALA)
    office.start(gala)
    office.drain()
    office.look_after()
    steps = [(one.from_state, one.to_state, one.actor) for one in office.app.campaigns.read_changes(gala.id)]
    assert steps == [(None, "draft", "tester"), ("draft", "running", "tester"), ("running", "finished", "wa")]


def test_a_campaign_that_was_sent_keeps_its_ledger(office: Office) -> None:
    office.add_subgroup("vip", people(1))
    gala = office.create("gala", GALA)
    office.start(gala)
    with pytest.raises(Refused, match="ledger"):
        office.app.campaigns.delete(gala.id)


# --- occurrences ---


def test_each_occurrence_is_a_run_of_its_own_and_is_started_once(office: Office) -> None:
    """Issue 5, point 5."""
    office.add_subgroup("vip", people(2))
    gala = office.create("gala", GALA + '[schedule]\nevery = "daily 09:00"\n')
    assert office.start(gala) is None
    assert office.state(gala) == "scheduled"
    for _day in range(3):
        due = office.app.campaigns.read(gala.id).next_occurrence_at_ms
        assert due is not None
        office.clock.advance(due - office.clock.wall_ms() + 500)
        office.look_after()
        office.look_after()  # another process looks, too
        office.drain()
        office.look_after()
    assert office.addresses == people(2) * 3
    assert len(office.app.campaigns.list_runs(gala.id)) == 3
    assert office.state(gala) == "scheduled"


@pytest.mark.parametrize(("missed", "sent"), [("send", 1), ("skip", 0)])
def test_an_occurrence_that_was_slept_through(office: Office, missed: str, sent: int) -> None:
    """Issue 5, point 5: sent within the grace, or left out; those before it never."""
    office.add_subgroup("vip", people(1))
    gala = office.create("gala", GALA + f'[schedule]\nevery = "daily 09:00"\nmissed = "{missed}"\ngrace = "3h"\n')
    office.start(gala)
    due = office.app.campaigns.read(gala.id).next_occurrence_at_ms
    assert due is not None
    office.clock.advance(due - office.clock.wall_ms() + 2 * 24 * HOUR_MS + 2 * HOUR_MS)
    office.look_after()
    office.drain()
    assert len(office.addresses) == sent
    states = [run.state for run in office.app.campaigns.list_runs(gala.id)]
    assert states.count("missed") == 3 - sent
