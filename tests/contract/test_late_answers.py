"""What a message is called once more than one post was made for it: no screen may deny the one that was accepted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from world import (
    FakeTransport,
    Owner,
    SqliteLeases,
    Worker,
    World,
    accepted,
    ambiguous,
    line,
    not_sent,
    open_world,
    rejected,
)

from wa_cli.domain.message import OnUnknown, State
from wa_cli.domain.outcome import ErrorClass
from wa_cli.ports import Lease
from wa_cli.services.resend import ResendOrder, resend
from wa_cli.store.sqlite.failures import SqliteFailures

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from wa_cli.domain.outcome import Outcome
    from wa_cli.ports import Post

SECOND = 1_000
PERMANENT = rejected(ErrorClass.DEAD_RECIPIENT, "131026")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path, on_disk=True) as opened:
        yield opened
        assert opened.find_faults() == []


def _after(seconds: float, outcome: Outcome) -> Callable[[Post], Awaitable[Outcome]]:
    async def answer(_post: Post) -> Outcome:
        return await asyncio.sleep(seconds, outcome)

    return answer


def _resend_by_policy(world: World) -> None:
    world.clock.advance(1_000 * SECOND)
    assert world.queue.requeue_unknown(older_than_ms=world.now_ms, now_ms=world.now_ms) == 1


@pytest.fixture
def other(world: World) -> Iterator[SqliteLeases]:
    """Another process of this machine."""
    owner = Owner(world.database.path)
    yield SqliteLeases(world.database, owner)
    owner.close()


def test_a_second_post_that_is_refused_for_good_leaves_the_first_as_unknown_as_it_was(world: World) -> None:
    """Promises P2, P3, P4: called failed, a resend would send it a third time."""
    world.transport.script = [ambiguous(), PERMANENT]
    (message_id,) = world.send_later("hello", on_unknown=OnUnknown.RESEND)
    world.drain()
    _resend_by_policy(world)
    world.drain()
    assert world.state(message_id) is State.UNKNOWN
    world.clock.advance(1_000 * SECOND)
    assert world.queue.requeue_unknown(older_than_ms=world.now_ms, now_ms=world.now_ms) == 0
    assert len(world.transport.posts) == 2


def test_a_second_post_that_is_accepted_makes_it_sent(world: World) -> None:
    world.transport.script = [ambiguous()]
    (message_id,) = world.send_later("hello", on_unknown=OnUnknown.RESEND)
    world.drain()
    _resend_by_policy(world)
    world.drain()
    assert world.state(message_id) is State.SENT


@pytest.mark.parametrize("by_upkeep", [True, False])
def test_an_unknown_whose_second_post_would_come_too_late_is_not_called_expired(world: World, by_upkeep: bool) -> None:
    """Promise P3: expired says that it was not sent."""
    world.transport.script = [ambiguous()]
    (message_id,) = world.send_later("hello", on_unknown=OnUnknown.RESEND, expires_in_ms=2_000 * SECOND)
    world.drain()
    _resend_by_policy(world)
    world.clock.advance(1_000 * SECOND)
    if by_upkeep:
        assert world.queue.expire(now_ms=world.now_ms) == 1
    world.drain()
    assert world.state(message_id) is State.UNKNOWN
    assert len(world.transport.posts) == 1


def test_an_unknown_past_its_time_is_not_sent_again_by_its_policy(world: World) -> None:
    world.transport.script = [ambiguous()]
    world.send_later("hello", on_unknown=OnUnknown.RESEND, expires_in_ms=500 * SECOND)
    world.drain()
    world.clock.advance(1_000 * SECOND)
    assert world.queue.requeue_unknown(older_than_ms=world.now_ms, now_ms=world.now_ms) == 0


def _freeze_and_bury(world: World, other: SqliteLeases, outcome: Outcome) -> tuple[int, Worker]:
    """A message whose sender stands still while its answer is on the way; it is unknown meanwhile."""
    world.transport.script = [_after(100, outcome)]
    (message_id,) = world.send_later("hello")
    frozen = Worker(world)
    world.clock.advance(40 * SECOND)
    other.bury_dead(now_ms=world.now_ms)
    assert world.state(message_id) is State.UNKNOWN
    return message_id, frozen


def test_a_late_acceptance_counts_although_a_person_had_it_sent_again_and_that_was_refused(
    world: World, other: SqliteLeases
) -> None:
    """Promise P3."""
    message_id, frozen = _freeze_and_bury(world, other, accepted(7))
    failures = SqliteFailures(world.database)
    failures.mark_unknown([message_id], was_sent=False, note=None, now_ms=world.now_ms)
    order = ResendOrder(message_ids=[message_id], delay_ms=0, force=False, is_dry_run=False, duplicate_window_ms=1)  # type: ignore[list-item]  # plain numbers do
    resend(failures, order, now_ms=world.now_ms)
    lease = other.acquire(1, role="drain", now_ms=world.now_ms)
    assert isinstance(lease, Lease)
    second = Worker(world, lease=lease, transport=FakeTransport(world.clock, [_after(200, PERMANENT)]))
    assert world.state(message_id) is State.SENDING
    frozen.run_for(150 * SECOND)  # it wakes up, and its answer comes in
    second.run_for(250 * SECOND)
    assert [attempt.outcome for attempt in world.attempts(message_id)] == ["accepted", "rejected"]
    assert world.state(message_id) is State.SENT
    second.stop()
    frozen.end()


def test_a_late_refusal_does_not_take_away_what_a_person_has_said(world: World, other: SqliteLeases) -> None:
    """Promise P3: no `sent` without an acceptance or a person's word; the history shows the refusal beside it."""
    message_id, frozen = _freeze_and_bury(world, other, PERMANENT)
    SqliteFailures(world.database).mark_unknown([message_id], was_sent=True, note=None, now_ms=world.now_ms)
    frozen.run_for(150 * SECOND)
    frozen.end()
    assert world.state(message_id) is State.SENT
    assert [attempt.outcome for attempt in world.attempts(message_id)] == ["marked_sent"]
    assert world.decisions(message_id) == ["marked_sent", "settled_late"]


def test_a_message_that_was_called_off_in_flight_does_not_come_back_by_a_late_answer(
    world: World, other: SqliteLeases
) -> None:
    """Promise P7."""
    world.transport.script = [_after(100, not_sent())]
    (message_id,) = world.send_later("hello")
    frozen = Worker(world)
    world.messages.cancel([message_id], now_ms=world.now_ms)
    world.clock.advance(40 * SECOND)
    other.bury_dead(now_ms=world.now_ms)
    frozen.run_for(150 * SECOND)
    frozen.end()
    assert world.state(message_id) is State.CANCELLED
    world.enqueue([line(2)])
    world.drain()
    assert len(world.transport.posts) == 2
