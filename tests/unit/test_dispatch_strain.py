"""The send loop under strain: backlogs that nobody meant to pile up, and trouble that comes in twos."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from world import (
    Owner,
    SqliteLeases,
    TroubledQueue,
    Worker,
    World,
    accepted,
    ambiguous,
    line,
    not_sent,
    open_world,
    rejected,
    run,
)

from wa_cli.domain.message import State
from wa_cli.domain.outcome import ErrorClass
from wa_cli.domain.pacing import PROFILES, Limits, Windows
from wa_cli.errors import StorageFull, Temporary
from wa_cli.services.choosing import PASSED_OVER_AT_MOST, PASSED_OVER_PER_LANE
from wa_cli.services.pace import CACHED
from wa_cli.services.turns import LeaseLost

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from wa_cli.domain.outcome import Outcome
    from wa_cli.ports import Post, QueueTurn, Record

SECOND = 1_000
HOUR = 3_600_000
DAY = 86_400_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path, on_disk=True) as opened:
        yield opened
        assert opened.find_faults() == []


class CountingQueue(TroubledQueue):
    """Counts the messages that change in each turn."""

    def __init__(self, world: World) -> None:
        super().__init__(world.queue)
        self._world = world
        self.changes: list[int] = []

    @contextmanager
    def turn(self) -> Iterator[QueueTurn]:
        with super().turn() as turn:
            before = self._world.database.connection.total_changes
            yield turn
            self.changes.append(self._world.database.connection.total_changes - before)


async def _in_100_s(outcome: Outcome) -> Outcome:
    return await asyncio.sleep(100, outcome)


# --- backlogs ------------------------------------------------------------------------------------------------------


def test_a_backlog_past_its_time_expires_some_hundred_at_a_time(world: World) -> None:
    """A million of them in one transaction would keep every other process out for minutes."""
    ids = [answer.message_id for answer in world.enqueue([line(n) for n in range(1_500)], expires_in_ms=SECOND)]
    late = world.send_later("in time", in_ms=2 * SECOND)
    world.clock.advance(3 * SECOND)
    queue = CountingQueue(world)
    world.drain(queue=queue)
    assert {world.state(message_id) for message_id in ids} == {State.EXPIRED}
    assert world.state(late[0]) is State.SENT
    assert max(queue.changes) < 8 * PASSED_OVER_PER_LANE


def test_a_lane_that_cannot_move_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    """Thousands of messages wait for one recipient; somebody else's leaves at once."""
    with open_world(tmp_path, limits=Limits(recipient_gap_ms=6_000)) as world:
        world.enqueue([line(1, f"number {n}") for n in range(3_000)], own_lane=True)
        world.enqueue([line(2, "hello")], own_lane=True)
        worker = Worker(world)
        worker.run_for(100)
        assert "hello" in world.transport.bodies
        assert PASSED_OVER_PER_LANE < PASSED_OVER_AT_MOST
        worker.stop()


def test_a_text_that_ten_thousand_others_came_after_is_still_sent(tmp_path: Path) -> None:
    """Contents are forgotten in the order they came; one that has just been chosen to leave may be the oldest."""
    with open_world(tmp_path) as world:
        world.enqueue([line(1, "shared")])
        world.enqueue([line(n, f"of person {n}") for n in range(2, CACHED + 1)])
        worker = Worker(world)
        worker.run_for(60 * SECOND)
        assert len(world.transport.posts) == CACHED
        world.enqueue([line(1, "shared"), line(2, "new"), line(3, "newer")], again=True)
        worker.wake()
        worker.run_for(SECOND)
        worker.stop()
        assert world.transport.bodies[-3:] == ["shared", "new", "newer"]


# --- trouble in twos -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [BrokenPipeError(), ValueError("I/O operation on closed file")])
def test_a_screen_that_is_gone_costs_no_outcome(world: World, error: Exception) -> None:
    """Promise P4: what is in flight must not become unknown because nobody watches any more."""

    def show(_record: Record) -> None:
        raise error

    world.send_later(*map(str, range(30)))
    world.drain(on_progress=show, concurrency=5)
    assert world.states() == [State.SENT] * 30


def test_a_leap_of_the_clock_is_not_forgotten_when_the_store_is_busy_at_that_moment(world: World) -> None:
    """Fault 31: the turn that found it was rolled back."""
    world.send_later("due in ten hours", in_ms=10 * HOUR)
    queue = TroubledQueue(world.queue)
    worker = Worker(world, queue=queue)
    queue.troubles = [Temporary("busy")]
    world.clock.jump(DAY)
    worker.run_for(60 * SECOND)
    worker.stop()
    assert world.transport.posts == []
    assert world.instances.find("default").pause_code == "clock_leap"


def test_a_lease_is_lost_and_no_more_when_the_store_takes_no_evidence_either(world: World) -> None:
    """A daemon then waits for its turn; any other error would end it."""

    class DeafQueue(TroubledQueue):
        def settle_late(self, records: Sequence[Record], *, now_ms: int) -> int:
            raise StorageFull("no space left")

    world.transport.script = [lambda _post: _in_100_s(accepted())]
    world.send_later("hello")
    worker = Worker(world, queue=DeafQueue(world.queue))
    world.clock.advance(40 * SECOND)
    other = Owner(world.database.path)
    SqliteLeases(world.database, other).bury_dead(now_ms=world.now_ms)
    worker.run_for(150 * SECOND)
    assert isinstance(worker.task.exception(), LeaseLost)
    worker.end()
    other.close()
    assert world.states() == [State.UNKNOWN]


def test_one_throttle_that_meets_many_posts_halves_the_pace_once(tmp_path: Path) -> None:
    """Ten answers to posts that were under way together are one piece of news."""

    async def refuse(_post: Post) -> Outcome:
        return await asyncio.sleep(0.3, rejected(ErrorClass.THROTTLE, "130429", wait_seconds=1.0))

    with open_world(tmp_path, limits=PROFILES["cloud"], script=[refuse] * 10) as world:
        world.enqueue([line(number) for number in range(200)])
        world.drain()
        assert world.states() == [State.SENT] * 200
        assert world.clock.steady_ms() < 10 * SECOND  # 5 s at half the pace; at a 64th it would be minutes


# --- the budget of new people --------------------------------------------------------------------------------------


def test_a_person_of_the_day_before_counts_as_new_again() -> None:
    """Promise P8: no window of 24 h holds more people than the budget, the seconds after midnight included."""
    windows = Windows(Limits(new_people_per_day=2))
    windows.note(1, 0.0)
    windows.note(2, DAY - 10.0)
    windows.note(3, DAY + 1_000.0)
    assert windows.new_person_allowed_at(2, DAY + 1_000.0) == DAY + 1_000.0
    assert windows.new_person_allowed_at(1, DAY + 1_000.0) == 2 * DAY - 10.0 + 1.0


def test_the_budget_of_a_large_tier_is_asked_in_an_instant() -> None:
    """Ten thousand questions sort no hundred thousand people."""
    windows = Windows(Limits(new_people_per_day=100_000))
    windows.rebuild((person, float(person)) for person in range(100_000))
    began = time.process_time()
    for person in range(200_000, 210_000):
        assert windows.new_person_allowed_at(person, 200_000.0) == DAY + 1.0
    assert time.process_time() - began < 5.0  # 20 ms; sorting takes minutes


# --- the breaker ---------------------------------------------------------------------------------------------------


def test_a_blip_that_meets_many_posts_is_one_rest_of_half_a_minute(tmp_path: Path) -> None:
    """Promise P9: fifteen answers lost at the same moment are one piece of news, not thirteen."""
    limits = PROFILES["cloud"]
    with open_world(tmp_path, limits=limits, script=[ambiguous()] * 15, latency_ms=300.0) as world:
        world.enqueue([line(number) for number in range(60)])
        world.drain()
        assert 30 * SECOND < world.clock.steady_ms() < 40 * SECOND


def test_many_posts_that_find_no_network_are_one_rest_of_a_second(tmp_path: Path) -> None:
    """Row S8."""
    with open_world(tmp_path, limits=PROFILES["cloud"], script=[not_sent()] * 15, latency_ms=300.0) as world:
        world.enqueue([line(number) for number in range(30)])
        world.drain()
        assert world.clock.steady_ms() < 10 * SECOND


def test_a_storm_of_unreadable_answers_makes_few_unknowns_though_each_minute_brings_a_new_process(
    tmp_path: Path,
) -> None:
    """Promise P4, fault 51: half an hour of cron drains goes on where the one before stopped."""
    with open_world(tmp_path, limits=PROFILES["cloud"], script=[ambiguous()] * 5_000) as world:
        world.enqueue([line(number) for number in range(500)])
        for minute in range(30):
            world.clock.advance(max(0.0, minute * 60 * SECOND - world.clock.steady_ms()))
            loop = world.new_loop()
            run(world.clock, loop.run(until_idle=True, deadline_ms=world.clock.steady_ms() + 50 * SECOND))
        assert world.states().count(State.UNKNOWN) <= 3 * 15
