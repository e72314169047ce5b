"""A number that the platform holds back: strangers wait for the end, answers and groups go on, nothing deepens it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from world import FakeTransport, Worker, World, accepted, line, open_world

from wa_cli.domain.connection import Restriction, RestrictionScope
from wa_cli.domain.message import State
from wa_cli.domain.outcome import ErrorClass, Rejected
from wa_cli.domain.pacing import Limits
from wa_cli.domain.retry import Restrict, Stop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wa_cli.ports import Post

HOUR = 3_600_000
GROUP = "120363020000000001@g.us"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world


def restriction(
    until_ms: int | None = None, scope: RestrictionScope = RestrictionScope.NEW_PEOPLE, reason: str = "time-locked"
) -> Restriction:
    return Restriction(code="463", reason=reason, scope=scope, until_ms=until_ms)


def refusal(until_ms: int | None = None, scope: RestrictionScope = RestrictionScope.NEW_PEOPLE) -> Rejected:
    return Rejected(
        error_class=ErrorClass.RESTRICTED,
        code="463",
        details="time-locked",
        http_status=429,
        restriction=restriction(until_ms, scope),
    )


def restrict(world: World, until_ms: int | None = None, scope: RestrictionScope = RestrictionScope.NEW_PEOPLE) -> None:
    world.instances.restrict(1, Restrict(restriction=restriction(until_ms, scope)), now_ms=world.now_ms)


def in_force(world: World) -> tuple[str, int | None] | None:
    found = world.instances.find("default").restriction
    return None if found is None else (found.scope.value, found.until_ms)


# --- the first refusal -----------------------------------------------------------------------------------------------


def test_the_first_refusal_keeps_every_other_stranger_back_until_the_stated_end(world: World) -> None:
    """Issue 6, point 6; fault 62: no post to a stranger after those in flight, and no attempt is used up."""
    until_ms = world.now_ms + 6 * HOUR
    ids = world.send_later("a", "b", "c", "d")
    world.transport.script[:] = [refusal(until_ms)]
    world.drain(concurrency=1)
    assert world.transport.bodies == ["a"]
    assert [world.row(message_id).due_at_ms for message_id in ids] == [until_ms] * 4
    assert [world.row(message_id).attempts for message_id in ids] == [0] * 4
    assert [world.row(message_id).reason for message_id in ids] == ["restricted"] * 4
    assert world.messages.next_due_at_ms(1) == until_ms
    assert world.decisions(ids[1]) == ["restricted"]


def test_answers_and_groups_go_on_while_strangers_wait(world: World) -> None:
    """Issue 6, point 6: people who have written before and groups are nobody new."""
    world.hear(2, ago_ms=90 * 24 * HOUR)
    restrict(world, world.now_ms + HOUR)
    lines = [line(1, "stranger"), line(2, "friend"), line(3, "stranger"), line(GROUP, "group")]
    world.enqueue(lines)
    world.drain()
    assert world.transport.bodies == ["friend", "group"]


def test_it_lifts_by_itself_and_what_waited_leaves_in_order_and_re_paced(tmp_path: Path) -> None:
    """Issue 6, point 6; promise P8: the end of a restriction is no burst."""
    with open_world(tmp_path, limits=Limits(per_minute=2)) as world:
        restrict(world, world.now_ms + HOUR)
        world.send_later("a", "b", "c", "d", "e")
        started = world.clock.steady_ms()
        world.drain(whole_schedule=True)
        assert world.transport.bodies == ["a", "b", "c", "d", "e"]
        at = [posted.at_ms - started for posted in world.transport.posts]
        assert at[0] >= HOUR
        assert at[2] - at[0] > 60_000
        assert at[4] - at[2] > 60_000


def test_without_a_stated_end_strangers_wait_for_a_person(world: World) -> None:
    """Issue 6, point 6."""
    ids = world.send_later("a", "b", "c")
    world.transport.script[:] = [refusal()]
    worker = Worker(world, concurrency=1)
    worker.run_for(5 * HOUR)
    assert world.transport.bodies == ["a"]
    assert [world.state(message_id) for message_id in ids] == [State.QUEUED] * 3
    assert world.instances.release(1, now_ms=world.now_ms)
    worker.wake()
    worker.run_for(1_000)
    assert world.transport.bodies == ["a", "a", "b", "c"]
    worker.stop()


def test_who_waits_for_a_whole_schedule_does_not_wait_for_a_person(world: World) -> None:
    """`wa send --wait` comes back; what may leave has left."""
    world.hear(2)
    restrict(world)
    world.enqueue([line(1, "stranger"), line(2, "friend")], delay_ms=60_000)
    world.drain(whole_schedule=True)
    assert world.transport.bodies == ["friend"]


def test_a_person_may_end_it_early_and_the_order_is_kept(tmp_path: Path) -> None:
    """Issue 6, point 6."""
    with open_world(tmp_path, limits=Limits(gap_ms=1_000)) as world:
        restrict(world, world.now_ms + 100 * HOUR)
        world.send_later("a", "b", "c")
        world.drain()
        assert world.transport.posts == []
        world.clock.advance(HOUR)
        world.instances.release(1, now_ms=world.now_ms)
        world.drain()
        assert world.transport.bodies == ["a", "b", "c"]
        assert min(world.transport.gaps_ms) >= 1_000


def test_a_retry_never_deepens_it(world: World) -> None:
    """Issue 6, point 6: a message that hit it is not tried again before the end, however long the loop runs."""
    until_ms = world.now_ms + 3 * HOUR
    world.send_later("a")
    world.transport.script[:] = [refusal(until_ms), refusal(until_ms + HOUR)]
    worker = Worker(world)
    worker.run_for(3 * HOUR - 1)
    assert len(world.transport.posts) == 1
    worker.run_for(1_000)
    assert len(world.transport.posts) == 2
    worker.run_for(HOUR - 2_000)
    assert len(world.transport.posts) == 2
    worker.run_for(10_000)
    assert len(world.transport.posts) == 3
    worker.stop()
    assert world.states() == [State.SENT]


def test_one_that_is_drawn_out_keeps_them_longer(world: World) -> None:
    """Issue 6, point 6: what was due at the first end waits for the second."""
    restrict(world, world.now_ms + HOUR)
    world.send_later("a")
    world.drain()
    later_ms = world.now_ms + 5 * HOUR
    restrict(world, later_ms)
    assert in_force(world) == ("new_people", later_ms)
    restrict(world, world.now_ms + 2 * HOUR)
    assert in_force(world) == ("new_people", later_ms)
    worker = Worker(world)
    worker.run_for(5 * HOUR - 10)
    assert world.transport.posts == []
    worker.run_for(1_000)
    assert world.transport.bodies == ["a"]
    worker.stop()


# --- how wide it is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whom", [2, GROUP])
def test_one_that_meets_an_answer_or_a_group_holds_everything_back(world: World, whom: int | str) -> None:
    """Issue 6, point 6: it is wider than was said, and trying who else it leaves alone would deepen it."""
    world.hear(2)
    until_ms = world.now_ms + HOUR
    world.enqueue([line(whom, "a"), line(2, "b"), line(GROUP, "c")])
    world.transport.script[:] = [refusal(until_ms)]
    world.drain(concurrency=1)
    assert world.transport.bodies == ["a"]
    assert in_force(world) == ("everything", until_ms)
    assert world.messages.next_due_at_ms(1) == until_ms


def test_one_of_everything_stops_all_until_its_end_and_the_forecast_says_so(world: World) -> None:
    """Issue 6, point 6; fault 62."""
    until_ms = world.now_ms + 2 * HOUR
    world.hear(2)
    world.enqueue([line(1, "a"), line(2, "b"), line(GROUP, "c")])
    world.transport.script[:] = [refusal(until_ms, RestrictionScope.EVERYTHING)]
    worker = Worker(world, concurrency=1)
    worker.run_for(2 * HOUR - 1_000)
    assert world.transport.bodies == ["a"]
    assert world.messages.next_due_at_ms(1) == until_ms
    worker.run_for(2_000)
    worker.stop()
    assert sorted(world.transport.bodies) == ["a", "a", "b", "c"]


def test_one_of_everything_without_an_end_has_no_forecast(world: World) -> None:
    restrict(world, None, RestrictionScope.EVERYTHING)
    world.send_later("a")
    assert world.messages.next_due_at_ms(1) is None


def test_outside_the_window_only_people_who_wrote_today_are_answered(world: World) -> None:
    """Issue 6, point 6: what Meta calls business-initiated goes to everybody who has not written within 24 h."""
    world.hear(1, ago_ms=23 * HOUR)
    world.hear(2, ago_ms=25 * HOUR)
    restrict(world, world.now_ms + 3 * HOUR, RestrictionScope.OUTSIDE_WINDOW)
    world.send_later("today", "yesterday", "never")
    world.drain()
    assert world.transport.bodies == ["today"]


def test_the_wider_of_two_holds_until_the_later_end(world: World) -> None:
    """A wide one that ends early is not taken off by a narrow one that ends late."""
    soon_ms, later_ms = world.now_ms + HOUR, world.now_ms + 2 * HOUR
    restrict(world, soon_ms, RestrictionScope.EVERYTHING)
    restrict(world, later_ms, RestrictionScope.NEW_PEOPLE)
    assert in_force(world) == ("everything", later_ms)


def test_a_stated_end_is_worth_more_than_none(world: World) -> None:
    restrict(world, None)
    until_ms = world.now_ms + HOUR
    restrict(world, until_ms)
    assert in_force(world) == ("new_people", until_ms)
    restrict(world, None)
    assert in_force(world) == ("new_people", until_ms)


def test_one_that_is_over_by_the_time_it_is_heard_of_changes_nothing(world: World) -> None:
    restrict(world, world.now_ms - 1)
    assert in_force(world) is None
    ids = world.send_later("a")
    world.transport.script[:] = [refusal(world.now_ms - HOUR)]
    world.drain()
    assert world.state(ids[0]) is State.SENT


# --- many ------------------------------------------------------------------------------------------------------------


def test_ten_thousand_strangers_do_not_stand_before_answers_and_groups(world: World) -> None:
    """Issue 6, point 6; promise P13: they are put off together, and the few behind them leave within a second."""
    world.hear(20_001)
    strangers = [line(number, f"to {number}") for number in range(1, 10_001)]
    world.enqueue([*strangers, line(20_001, "answer"), line(GROUP, "group")])
    until_ms = world.now_ms + HOUR
    restrict(world, until_ms)
    worker = Worker(world)
    worker.run_for(1_000)
    assert world.transport.bodies == ["answer", "group"]
    assert world.value("SELECT count(*) FROM message WHERE due_at = ? AND reason = 'restricted'", until_ms) == 10_000
    assert world.value("SELECT count(*) FROM decision") == 10_000
    worker.run_for(HOUR + 60_000)
    assert world.transport.bodies[2:] == [f"to {number}" for number in range(1, 10_001)]
    worker.stop()
    assert world.find_faults() == []


def test_a_campaign_of_strangers_does_not_hold_up_one_of_friends(world: World) -> None:
    """Issue 6, point 6: lanes beside each other."""
    for number in range(5_001, 5_051):
        world.hear(number)
    world.add_to_campaign([line(number, "stranger") for number in range(1, 5_001)], name="one")
    world.add_to_campaign([line(number, "friend") for number in range(5_001, 5_051)], name="two")
    restrict(world, world.now_ms + HOUR)
    worker = Worker(world)
    worker.run_for(1_000)
    worker.stop()
    assert world.transport.bodies == ["friend"] * 50


def test_a_stranger_who_writes_meanwhile_is_answered(world: World) -> None:
    """What is queued for them from then on goes on."""
    restrict(world, world.now_ms + HOUR)
    world.send_later("a")
    worker = Worker(world)
    worker.run_for(1_000)
    world.hear(1)
    world.enqueue([line(1, "answer")])
    worker.wake()
    worker.run_for(1_000)
    worker.stop()
    assert world.transport.bodies == ["answer"]


# --- several numbers -------------------------------------------------------------------------------------------------


def test_of_three_numbers_the_restricted_one_waits_and_the_others_go_on(world: World) -> None:
    """Issue 6, point 6; fault 62: each number has its own state, its own posts and its own end."""
    until_ms = world.now_ms + HOUR
    numbers = [1, world.add_instance("second"), world.add_instance("third")]
    transports = [FakeTransport(world.clock) for _number in numbers]
    transports[1].script[:] = [refusal(until_ms)]
    for number in numbers:
        world.enqueue([line(to, f"n{number} {to}") for to in range(1, 31)], delay_ms=1_000, instance_id=number)
    workers = [
        Worker(world, lease=world.take_lease(instance_id=number), transport=transport)
        for number, transport in zip(numbers, transports, strict=True)
    ]
    for worker in workers:
        worker.run_for(40_000)
    assert [len(transport.posts) for transport in transports] == [30, 1, 30]
    for worker in workers:
        worker.run_for(2 * HOUR)
        worker.stop()
    assert [len(transport.posts) for transport in transports] == [30, 31, 30]
    assert world.states() == [State.SENT] * 90
    assert min(posted.wall_ms for posted in transports[1].posts[1:]) >= until_ms


# --- a token that expires --------------------------------------------------------------------------------------------


def test_a_token_that_expires_half_way_pauses_the_number_and_costs_no_message(world: World) -> None:
    """Fault 61: no row fails, one reason stands, and a person who has replaced the token lets it go on."""
    ids = world.send_later(*(f"m{number}" for number in range(1, 21)), delay_ms=1_000)
    dead = Rejected(error_class=ErrorClass.STOP, code="190", details="Session has expired", http_status=401)
    is_dead = True

    def answer(post: Post) -> Rejected | object:
        return dead if is_dead else accepted(9)

    world.transport.script[:] = [*(accepted(number) for number in range(1, 9)), *[answer] * 5]  # type: ignore[list-item]  # a plain function of the post
    worker = Worker(world)
    worker.run_for(10 * 60_000)
    assert len(world.transport.posts) == 9
    assert world.states() == [State.SENT] * 8 + [State.QUEUED] * 12
    paused = world.instances.find("default")
    assert (paused.paused_by, paused.pause_code) == ("platform", "190")
    is_dead = False
    world.instances.resume(1, now_ms=world.now_ms)
    worker.wake()
    worker.run_for(60_000)
    worker.stop()
    assert world.states() == [State.SENT] * 20
    assert [world.row(message_id).attempts for message_id in ids] == [1] * 20


def test_a_pause_stands_beside_a_restriction(world: World) -> None:
    """Lifting the one leaves the other."""
    restrict(world, world.now_ms + HOUR)
    world.instances.stop(1, Stop(code="190", reason="token"), now_ms=world.now_ms)
    world.instances.resume(1, now_ms=world.now_ms)
    world.send_later("a")
    world.drain()
    assert world.transport.posts == []
