"""A campaign for a pool: planned over all of its numbers, each person from one of them, once."""

from __future__ import annotations

import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.campaigning import Office, open_office
from tests.world import accepted, address, rejected
from wa_cli.domain.finding import Level
from wa_cli.domain.outcome import ErrorClass
from wa_cli.domain.pacing import Limits
from wa_cli.domain.plan import Timetable
from wa_cli.domain.pool_timetable import Desk, PoolTimetable, divide_limits
from wa_cli.domain.pooling import Seat
from wa_cli.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from wa_cli.domain.campaign import Campaign

SALE = """
instance = "club"
[message]
text = "The sale begins"
[audience]
subgroups = ["vip"]
"""
NO_LIMITS = {"per_minute": 0, "per_hour": 0, "gap_ms": 0}


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with open_office(tmp_path) as opened:
        yield opened


def open_club(office: Office, **limits: Mapping[str, int]) -> dict[str, int]:
    """The pool `club` of numbers with these limits; their ids by name."""
    ids = {name: office.world.add_instance(name, limits={**NO_LIMITS, **own}) for name, own in limits.items()}
    for name in ids:
        account = f'{{"url": "http://127.0.0.1:9", "session": "{name}"}}'
        office.world.execute("UPDATE instance SET settings = ? WHERE name = ?", account, name)
    office.app.pools.create("club", list(ids.values()), now_ms=office.world.now_ms)
    return ids


def invite(office: Office, count: int) -> None:
    office.add_subgroup("vip", [address(number) for number in range(count)])


def senders(office: Office, campaign: Campaign) -> dict[str, int]:
    """Which instance has the message of whom."""
    return dict(
        office.world.rows(
            """SELECT c.address, m.instance_id FROM message AS m JOIN contact AS c ON c.id = m.contact_id
            WHERE m.run_id = ?""",
            office.run_of(campaign).id,
        )
    )


def work(office: Office, *instance_ids: int, most: int | None = None) -> None:
    """Each number sends what it has, or so many at most."""
    every = {one.id: one for one in office.app.instances.list_all()}
    for one in instance_ids:
        lease = office.world.take_lease("drain", instance_id=one)
        limits = office.app.limits(every[one])
        options = {} if most is None else {"start_limit": most}
        office.drain(lease=lease, limits=limits, whole_schedule=True, **options)


def is_sound(office: Office) -> bool:
    found = office.app.upkeep.check(is_held=lambda _id: False)
    return all(one.level is Level.OK for one in found)


def test_two_numbers_share_a_campaign_and_everybody_is_written_to_once(office: Office) -> None:
    """Issue 5, point 1; issue 6, point 7; row S9."""
    ids = open_club(office, a={"gap_ms": 1_000}, b={"gap_ms": 1_000})
    invite(office, 200)
    sale = office.create("sale", SALE)
    plan, summary = office.plan(sale)
    assert summary.by_instance == {"a": 100, "b": 100}
    assert summary.first_at_ms is not None
    assert summary.last_at_ms is not None
    assert 99_000 <= summary.last_at_ms - summary.first_at_ms <= 100_000  # half as long as one of them would take
    office.apply(sale, plan)
    assert Counter(senders(office, sale).values()) == {ids["a"]: 100, ids["b"]: 100}
    assert is_sound(office)
    begun = office.world.now_ms
    work(office, ids["a"])
    assert office.world.now_ms - begun <= 100_500  # it takes no longer than was planned
    work(office, ids["b"])
    assert sorted(office.addresses) == sorted(address(number) for number in range(200))
    assert office.counts(sale) == {"sent": 200}
    office.look_after()
    assert office.state(sale) == "finished"
    figures = office.app.reports.read_figures(office.run_of(sale), now_ms=office.world.now_ms, is_deep=True)
    assert figures.details is not None
    assert {part.name: sum(part.buckets.values()) for part in figures.details.instances} == {"a": 100, "b": 100}
    assert is_sound(office)


def test_whoever_has_a_number_keeps_it(office: Office) -> None:
    """Issue 6, point 7: by a campaign's messages, too."""
    ids = open_club(office, a={}, b={})
    invite(office, 20)
    first = office.create("first", SALE)
    office.start(first)
    before = senders(office, first)
    assert Counter(before.values()) == {ids["a"]: 10, ids["b"]: 10}
    invite_again = office.create("second", SALE.replace("begins", "ends"))
    office.start(invite_again)
    assert senders(office, invite_again) == before


def test_who_got_a_number_after_the_plan_keeps_that_one(office: Office) -> None:
    """Issue 6, point 7."""
    ids = open_club(office, a={}, b={})
    invite(office, 4)
    sale = office.create("sale", SALE)
    plan, _summary = office.plan(sale)
    contacts = [one for (one,) in office.world.rows("SELECT id FROM contact")]
    pool_id = office.app.pools.get("club").id
    for one in contacts:
        office.world.execute("INSERT INTO pool_seat VALUES (?, ?, ?)", pool_id, one, ids["b"])
    office.apply(sale, plan)
    assert set(senders(office, sale).values()) == {ids["b"]}
    assert is_sound(office)
    work(office, ids["a"], ids["b"])
    assert office.counts(sale) == {"sent": 4}


def test_a_pause_stops_all_numbers_and_a_cancel_takes_all_back(office: Office) -> None:
    """Issue 5, point 9."""
    ids = open_club(office, a={}, b={})
    invite(office, 20)
    sale = office.create("sale", SALE)
    office.start(sale)
    office.pause(sale)
    work(office, *ids.values())
    assert office.addresses == []
    office.resume(sale)
    work(office, ids["a"])
    assert len(office.addresses) == 10
    office.cancel(sale)
    work(office, *ids.values())
    assert office.counts(sale) == {"sent": 10, "cancelled": 10}
    assert is_sound(office)


def test_the_share_of_a_lost_number_goes_to_the_other(office: Office) -> None:
    """Issue 6, point 7; promise P2: only what is provably unsent."""
    ids = open_club(office, a={}, b={})
    invite(office, 20)
    sale = office.create("sale", SALE)
    office.start(sale)
    office.app.instances.pause(ids["a"], reason="gone", now_ms=office.world.now_ms)
    assert office.app.look_after_pools() == 10
    assert set(senders(office, sale).values()) == {ids["b"]}
    office.pause(sale)
    figures = office.app.reports.read_figures(office.run_of(sale), now_ms=office.world.now_ms)
    assert sum(figures.buckets.values()) == 20
    work(office, ids["b"])
    assert office.addresses == []
    office.resume(sale)
    work(office, ids["b"])
    assert office.counts(sale) == {"sent": 20}
    assert is_sound(office)


def test_a_new_plan_of_a_paused_campaign_moves_nobody_to_another_number(office: Office) -> None:
    """Issue 5, point 9; issue 6, point 7."""
    ids = open_club(office, a={}, b={})
    invite(office, 20)
    sale = office.create("sale", SALE)
    office.start(sale)
    before = senders(office, sale)
    work(office, ids["a"])
    office.pause(sale)
    office.start(sale)
    assert senders(office, sale) == before
    work(office, *ids.values())
    assert office.counts(sale) == {"sent": 20}
    assert is_sound(office)


def test_a_sample_goes_out_from_all_numbers_before_the_rest(office: Office) -> None:
    """Issue 5, point 8."""
    ids = open_club(office, a={}, b={})
    invite(office, 20)
    sale = office.create("sale", SALE + '[canary]\nsize = 4\nhold = "10m"\n')
    office.start(sale)
    work(office, *ids.values())
    assert len(office.addresses) == 4
    office.clock.advance(11 * 60_000)
    office.look_after()
    work(office, *ids.values())
    assert office.counts(sale) == {"sent": 20}


def test_failures_of_all_numbers_count_together(office: Office) -> None:
    """Issue 5, point 10: the rules to stop by look at the campaign, whoever sends it."""
    ids = open_club(office, a={}, b={})
    invite(office, 40)
    sale = office.create("sale", SALE + '[stop]\nfailure_rate = "20%"\nafter = 20\n')
    office.start(sale)
    office.world.transport.script = [rejected(ErrorClass.DEAD_RECIPIENT, "131026")] * 2 + [accepted()] * 8
    work(office, ids["a"], most=10)
    office.look_after()
    assert office.state(sale) == "running"
    office.world.transport.script = [rejected(ErrorClass.DEAD_RECIPIENT, "131026")] * 3 + [accepted()] * 7
    work(office, ids["b"], most=10)
    office.look_after()
    assert office.state(sale) == "paused"
    work(office, *ids.values())
    assert len(office.addresses) == 20


def test_the_platform_has_to_stop_all_numbers_before_the_campaign_pauses(office: Office) -> None:
    """Issue 5, point 10; issue 6, point 7."""
    ids = open_club(office, a={}, b={})
    invite(office, 4)
    sale = office.create("sale", SALE)
    office.start(sale)
    ban = "UPDATE instance SET paused_at = 1, paused_by = 'platform', pause_reason = 'banned' WHERE id = ?"
    office.world.execute(ban, ids["a"])
    office.look_after()
    assert office.state(sale) == "running"
    office.world.execute(ban, ids["b"])
    office.look_after()
    assert office.state(sale) == "paused"


def test_a_plan_no_longer_fits_when_the_pool_has_changed(office: Office) -> None:
    """Issue 5, point 5."""
    open_club(office, a={}, b={})
    other = office.world.add_instance("c")
    invite(office, 4)
    sale = office.create("sale", SALE)
    plan, _summary = office.plan(sale)
    office.app.pools.add(office.app.pools.get("club").id, [other])
    with pytest.raises(Conflict) as refused:
        office.apply(sale, plan)
    assert any("the pool 'club' has other numbers" in line for line in refused.value.below)
    assert office.world.value("SELECT count(*) FROM message") == 0


def test_a_pool_that_is_gone_keeps_no_campaign_from_its_end(office: Office) -> None:
    """Issue 6, point 7: what it gave out is still its numbers' to send."""
    ids = open_club(office, a={}, b={})
    invite(office, 10)
    sale = office.create("sale", SALE)
    office.start(sale)
    office.app.pools.delete(office.app.pools.get("club").id)
    work(office, *ids.values())
    office.look_after()
    assert (office.state(sale), office.counts(sale)) == ("finished", {"sent": 10})
    assert is_sound(office)


def test_the_limits_of_a_campaign_hold_for_all_numbers_together(office: Office) -> None:
    """Issue 5, point 7."""
    ids = open_club(office, a={}, b={})
    invite(office, 40)
    sale = office.create("sale", SALE + "[limits]\nper_minute = 10\n")
    office.start(sale)
    dues = [due for (due,) in office.world.rows("SELECT scheduled_at FROM message ORDER BY scheduled_at")]
    assert all(later - earlier >= 60_000 for earlier, later in zip(dues, dues[10:], strict=False))
    kept = {text for (text,) in office.world.rows("SELECT DISTINCT limits FROM batch")}
    assert kept == {'{"per_minute": 5}'}
    work(office, *ids.values())
    assert office.counts(sale) == {"sent": 40}


def test_limits_are_divided_among_the_numbers_and_never_grow() -> None:
    assert divide_limits({"per_hour": 7, "gap_ms": 100, "recipient_gap_ms": 9, "per_day": 1, "per_second": 0}, 3) == {
        "per_hour": 2,
        "gap_ms": 300,
        "recipient_gap_ms": 9,
        "per_day": 1,
        "per_second": 0,
    }


LIMITS = st.builds(
    Limits, gap_ms=st.sampled_from([0, 700, 5_000]), per_minute=st.integers(0, 7), per_hour=st.sampled_from([0, 40])
)


@given(
    limits=st.lists(LIMITS, min_size=1, max_size=4),
    seats=st.lists(st.one_of(st.none(), st.integers(1, 5)), min_size=1, max_size=120),
    own=LIMITS,
    healthy=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_no_number_is_ever_planned_faster_than_it_may_send(
    limits: list[Limits], seats: list[int | None], own: Limits, healthy: list[bool]
) -> None:
    """Issue 6, point 7; promise P8: each by its own limits, the campaign's own over all of them."""
    desks = [
        Desk(
            seat=Seat(instance_id=number, is_healthy=healthy[number - 1], an_hour=60.0, waiting=0, phase_ms=number),
            name=str(number),
            limits=one,
        )
        for number, one in enumerate(limits, start=1)
    ]
    timetable = PoolTimetable(desks, own=own)
    moment = 1_000.0
    placed: list[tuple[float, int]] = []
    for seat in seats:
        at, sender = timetable.find_place(moment, seat)
        timetable.note(at, sender)
        placed.append((at, sender))
        assert sender == seat or seat is None or seat > len(limits)
        moment = at if timetable.is_shared else moment
    for number, one in enumerate(limits, start=1):
        check_pace(one, [at for at, sender in placed if sender == number])
    check_pace(own, sorted(at for at, _sender in placed))


def check_pace(limits: Limits, moments: list[float]) -> None:
    alone = Timetable(limits)
    for at in moments:
        assert alone.allowed_at(at) <= at
        alone.note(at)


@settings(max_examples=12)
@given(
    sizes=st.tuples(st.integers(1, 25), st.integers(0, 25)),
    rates=st.tuples(st.sampled_from([0, 3, 30]), st.sampled_from([0, 3, 30])),
    lost=st.booleans(),
    variants=st.booleans(),
)
def test_everybody_is_in_the_ledger_once(
    sizes: tuple[int, int], rates: tuple[int, int], lost: bool, variants: bool
) -> None:
    """Promise P1; issue 5, point 12; issue 6, point 7."""
    text = SALE
    if variants:
        text = text.replace('[message]\ntext = "The sale begins"', "") + (
            '[[variant]]\nname = "x"\ntext = "One"\n[[variant]]\nname = "y"\ntext = "Two"\n'
        )
    with tempfile.TemporaryDirectory() as folder, open_office(Path(folder)) as office:
        ids = open_club(office, a={"per_minute": rates[0]}, b={"per_minute": rates[1]})
        invite(office, sizes[0] + sizes[1])
        sale = office.create("sale", text)
        plan, summary = office.plan(sale)
        assert sum(summary.by_instance.values()) == summary.queued == sum(sizes)
        office.apply(sale, plan)
        work(office, ids["a"], most=sizes[1])
        if lost:
            office.app.instances.pause(ids["a"], reason="gone", now_ms=office.world.now_ms)
            office.app.look_after_pools()
            work(office, ids["b"])
            office.app.instances.resume(ids["a"], now_ms=office.world.now_ms)
        work(office, *ids.values())
        assert sorted(office.addresses) == sorted(address(number) for number in range(sum(sizes)))
        assert office.counts(sale) == {"sent": sum(sizes)}
        assert is_sound(office)


def test_people_of_a_busy_number_keep_nobody_else_waiting(office: Office) -> None:
    """Issue 6, point 7: also where the campaign spaces its messages over all numbers."""
    ids = open_club(office, slow={"per_day": 2}, quick={})
    invite(office, 20)
    first = office.create("first", SALE)
    office.plan(first)
    pool_id = office.app.pools.get("club").id
    for (contact_id,) in office.world.rows("SELECT id FROM contact"):
        seat = ids["slow"] if contact_id % 2 else ids["quick"]
        office.world.execute("INSERT INTO pool_seat VALUES (?, ?, ?)", pool_id, contact_id, seat)
    sale = office.create("sale", SALE + '[pacing]\ndelay = "10s"\n')
    plan, summary = office.plan(sale)
    assert summary.by_instance == {"quick": 10, "slow": 10}
    office.apply(sale, plan)
    dues = office.world.rows("SELECT instance_id, due_at - ? FROM message", summary.first_at_ms)
    assert max(due for sender, due in dues if sender == ids["quick"]) <= 120_000
    days = Counter(due // 86_400_000 for sender, due in dues if sender == ids["slow"])
    assert days == {0: 2, 1: 2, 2: 2, 3: 2, 4: 2}
    every = sorted(due for _sender, due in dues)
    assert all(later - earlier >= 10_000 for earlier, later in pairwise(every))
