"""How the send loop shares turns: outcomes that may wait for company, and those that may not."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest
from world import CountingQueue, TroubledQueue, Worker, World, accepted, line, open_world, rejected

from wa_cli.domain.message import State
from wa_cli.domain.outcome import ErrorClass
from wa_cli.domain.pacing import Limits, Windows

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from wa_cli.domain.outcome import Outcome
    from wa_cli.ports import Due, Post, QueueTurn


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as opened:
        yield opened
        assert opened.find_faults() == []


class ReadingQueue(TroubledQueue):
    """Counts the rows that the turns read to choose from."""

    rows = 0

    @contextmanager
    def turn(self) -> Iterator[QueueTurn]:
        with super().turn() as turn:
            yield cast("QueueTurn", ReadingTurn(self, turn))


class ReadingTurn:
    def __init__(self, queue: ReadingQueue, turn: QueueTurn) -> None:
        self._queue = queue
        self._turn = turn

    def __getattr__(self, name: str) -> Any:
        return getattr(self._turn, name)

    def read_due(self, instance_id: int, lane: int, *, now_ms: int, limit: int) -> list[Due]:
        rows = self._turn.read_due(instance_id, lane, now_ms=now_ms, limit=limit)
        self._queue.rows += len(rows)
        return rows


def answer_after(milliseconds: float, outcome: Outcome) -> Callable[[Post], Awaitable[Outcome]]:
    async def answer(_post: Post) -> Outcome:
        await asyncio.sleep(milliseconds / 1000)
        return outcome

    return answer


def test_an_acceptance_waits_a_little_for_others_and_then_is_recorded(world: World) -> None:
    soon, late = world.send_later("soon", "late")
    world.transport.script = [answer_after(10, accepted(1)), answer_after(5_000, accepted(2))]
    worker = Worker(world)
    worker.run_for(45)
    assert world.state(soon) is State.SENDING
    worker.run_for(10)
    assert (world.state(soon), world.state(late)) == (State.SENT, State.SENDING)
    worker.stop()
    assert world.state(late) is State.SENT


def test_the_last_one_in_flight_is_recorded_at_once(world: World) -> None:
    (only,) = world.send_later("only")
    world.transport.script = [answer_after(50, accepted())]
    worker = Worker(world)
    worker.run_for(51)
    assert world.state(only) is State.SENT
    worker.stop()


def test_a_refusal_acts_at_once_even_while_acceptances_wait_for_company(world: World) -> None:
    """Promise P7 for a pause that the platform asks for: a stop may not wait in memory."""
    ids = world.send_later("fine", "stopped", "late")
    world.transport.script = [
        answer_after(10, accepted(1)),
        answer_after(11, rejected(ErrorClass.STOP, "190")),
        answer_after(5_000, accepted(3)),
    ]
    worker = Worker(world)
    worker.run_for(12)
    assert [world.state(message_id) for message_id in ids] == [State.SENT, State.QUEUED, State.SENDING]
    assert world.instances.find("default").paused_by == "platform"
    worker.stop()


def test_a_slot_that_due_messages_wait_for_is_used_again_within_milliseconds(world: World) -> None:
    world.enqueue([line(number, "hi") for number in range(9)])
    world.transport.script = [answer_after(10, accepted(1))] + [
        answer_after(1_000, accepted(number)) for number in range(2, 9)
    ]
    worker = Worker(world, concurrency=8)
    worker.run_for(20)
    assert len(world.transport.posts) == 9
    assert 10 <= world.transport.posts[8].at_ms <= 16
    worker.stop()


def test_most_of_the_slots_do_not_wait_for_the_last_of_them(world: World) -> None:
    world.enqueue([line(number, "hi") for number in range(14)])
    world.transport.script = [answer_after(10 if number < 6 else 1_000, accepted(number)) for number in range(8)]
    worker = Worker(world, concurrency=8)
    worker.run_for(11)
    assert [posted.at_ms for posted in world.transport.posts[8:]] == [10.0] * 6
    worker.stop()


def test_slots_grow_while_due_messages_wait_for_them_and_not_otherwise(world: World) -> None:
    """Row Q1: from the source system's batch of 15 upwards."""
    world.transport.latency_ms = 100.0
    world.enqueue([line(number, "hi") for number in range(400)])
    worker = Worker(world)
    in_flight = []
    for _round in range(6):
        worker.run_for(105)
        in_flight.append(worker.sender.in_flight)
    assert in_flight[0] > 15
    assert max(in_flight) > 80
    worker.stop()


def test_slots_stay_few_when_a_limit_holds_the_messages_back(tmp_path: Path) -> None:
    with open_world(tmp_path, limits=Limits(per_second=20), latency_ms=100.0) as world:
        world.enqueue([line(number, "hi") for number in range(100)])
        worker = Worker(world)
        most = 0
        for _tenth in range(20):
            worker.run_for(100)
            most = max(most, worker.sender.in_flight)
        assert most <= 3
        worker.stop()


@pytest.mark.parametrize(("limit", "turns_a_second"), [(80, 25), (200, 60), (1_000, 250)])
def test_starts_and_outcomes_share_turns_at_a_steady_rate(tmp_path: Path, limit: int, turns_a_second: int) -> None:
    """The price of a paced second: a turn for each start, or for each tick of a fast instance, and few more."""
    with open_world(tmp_path, limits=Limits(per_second=limit), latency_ms=100.0) as world:
        seconds = 4
        world.enqueue([line(number, "hi") for number in range(limit * seconds)])
        queue = CountingQueue(world.queue)
        world.drain(queue=queue)
        settled = world.transport.posts[limit:]  # in the first second the slots grow
        took = (settled[-1].at_ms - settled[0].at_ms) / 1000
        assert queue.turns <= turns_a_second * seconds
        assert len(settled) / took >= 0.99 * limit


def test_a_turn_reads_about_as_many_rows_as_its_pace_lets_leave(tmp_path: Path) -> None:
    with open_world(tmp_path, limits=Limits(per_second=1_000), latency_ms=100.0) as world:
        world.enqueue([line(number, "hi") for number in range(2_000)])
        queue = ReadingQueue(world.queue)
        world.drain(queue=queue)
        assert len(world.transport.posts) == 2_000
        assert queue.rows <= 3 * 2_000


def test_a_fast_instance_is_woken_for_a_ticks_worth_and_a_slow_one_for_each_message() -> None:
    fast, slow = Windows(Limits(per_second=1_000)), Windows(Limits(per_second=20))
    now = 5_000.0
    started = 0
    while fast.allowed_at(now) <= now:
        fast.note(started, now)
        started += 1
    assert started >= 10
    assert fast.allowed_at(now) < fast.worth_waking_at(now)
    assert 3.0 <= fast.worth_waking_at(now) - now <= 5.0
    slow.note(1, now)
    assert slow.worth_waking_at(now) == slow.allowed_at(now)
