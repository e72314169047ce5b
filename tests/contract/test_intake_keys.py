"""What a key is held to when things take longer than planned, and taking back a call that died half-way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from world import SqliteIntake, World, ambiguous, line, open_world

from wa_cli.domain.history import CancelScope
from wa_cli.domain.message import OnUnknown, State
from wa_cli.errors import Refused
from wa_cli.ports import NewBatch
from wa_cli.store.sqlite.intake import CHUNK_ROWS, REMOVED_ROWS
from wa_cli.store.sqlite.owners import Owner

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from wa_cli.ports import Enqueued, NewMessage

DAY = 86_400_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path, on_disk=True) as opened:
        yield opened
        assert opened.find_faults() == []


def _batch(world: World, size: int, *, key: str | None = None, max_queue_size: int = 0) -> NewBatch:
    return NewBatch(
        kind="file",
        instance_id=1,
        size=size,
        start_at_ms=world.now_ms,
        at_words=None,
        delay_ms=0,
        priority=1,
        max_attempts=5,
        on_unknown=OnUnknown.HOLD,
        expires_at_ms=None,
        key=key,
        request_hash=b"request",
        again=False,
        has_own_lane=False,
        lines_are_unique=True,
        duplicate_window_ms=DAY,
        key_days=7,
        max_queue_size=max_queue_size,
    )


def _enqueue_and_die(world: World, lines: Iterable[NewMessage], *, read: int, key: str | None = None) -> None:
    """Another process queues these and is killed once so many answers are out."""
    listed = list(lines)
    owner = Owner(world.database.path)
    intake = SqliteIntake(world.database, owner)
    answers = intake.enqueue(_batch(world, len(listed), key=key), listed, now_ms=world.now_ms)
    for _answer in range(read):
        next(answers)
    owner.close()
    DEAD.append(answers)  # a killed process runs no `finally`


DEAD: list[Iterator[Enqueued]] = []


@pytest.fixture(autouse=True)
def _bury() -> Iterator[None]:
    yield
    DEAD.clear()


def test_cancelling_what_a_killed_call_left_behind_does_not_bar_the_way_for_others(world: World) -> None:
    """Promises P1, P10: its messages have a history by then, and all of it goes."""
    _enqueue_and_die(world, (line(number) for number in range(2 * CHUNK_ROWS + 1)), read=1)
    world.messages.cancel_all(CancelScope(), now_ms=world.now_ms)
    (answer,) = world.enqueue([line(1)])
    assert answer.outcome == "queued"
    assert world.states() == [State.QUEUED]


def test_a_killed_call_of_many_messages_is_taken_out_some_thousand_at_a_time(world: World) -> None:
    # How many rows a commit takes follows from how long it holds the file: CHUNK_ROWS at most.
    read = 2 * REMOVED_ROWS + 1
    _enqueue_and_die(world, (line(number) for number in range(read + 2 * CHUNK_ROWS)), read=read, key="night")
    commits_before = world.value("SELECT count(*) FROM message")
    SqliteIntake(world.database, world.owner).sweep_abandoned()
    assert commits_before >= read
    assert [
        world.value(f"SELECT count(*) FROM {table}") for table in ("message", "batch", "live_key", "caller_key")
    ] == [
        0,
        0,
        0,
        0,
    ]


def test_the_messages_of_a_living_call_in_between_survive_the_sweep_of_a_dead_one(world: World) -> None:
    _enqueue_and_die(world, (line(number) for number in range(2 * CHUNK_ROWS + 1)), read=1)
    (mine,) = world.enqueue([line(1, "mine")], intake=SqliteIntake(world.database, world.owner))
    assert world.states() == [State.QUEUED]
    assert world.row(mine.message_id).content is not None


def test_words_that_left_long_after_they_were_due_are_still_a_duplicate_the_day_after(world: World) -> None:
    """Row T4, promise P2: the window counts from the post when that was late."""
    world.send_later("hello")
    world.clock.advance(3 * DAY)
    world.drain()
    world.clock.advance(DAY - 1_000)
    assert world.enqueue([line(1, "hello")])[0].outcome == "duplicate"
    world.clock.advance(2_000)
    assert world.enqueue([line(1, "hello")])[0].outcome == "queued"


def test_words_skipped_because_their_outcome_is_unknown_are_still_a_duplicate(world: World) -> None:
    """Promise P2: they may have been accepted, and a person has not said to send them again."""
    world.transport.script = [ambiguous()]
    world.send_later("hello", on_unknown=OnUnknown.SKIP)
    world.drain()
    assert world.states() == [State.SKIPPED]
    assert world.enqueue([line(1, "hello")])[0].outcome == "duplicate"
    assert world.enqueue([line(1, "hello")], again=True)[0].outcome == "queued"


def test_words_cancelled_after_a_post_without_a_verdict_are_still_a_duplicate(world: World) -> None:
    """Promise P2."""
    world.transport.script = [ambiguous()]
    (message_id,) = world.send_later("hello", on_unknown=OnUnknown.RESEND)
    world.drain()
    world.clock.advance(1_000_000)
    world.queue.requeue_unknown(older_than_ms=world.now_ms, now_ms=world.now_ms)
    world.messages.cancel([message_id], now_ms=world.now_ms)
    assert world.enqueue([line(1, "hello")])[0].outcome == "duplicate"


def test_a_key_holds_for_as_long_as_its_messages_wait(world: World) -> None:
    """Row H5, promise P2: an outage of more than its seven days does not set a caller's key free, nor a late post."""
    world.send_later("hello", key="order:1")
    world.enqueue([line(2, "hi", key="order:2")])
    world.clock.advance(30 * DAY)
    assert world.enqueue([line(1, "hello")], key="order:1")[0].outcome == "duplicate"
    assert world.enqueue([line(2, "hi", key="order:2")])[0].outcome == "duplicate"
    world.drain()
    world.clock.advance(7 * DAY - 1_000)
    assert world.enqueue([line(1, "hello")], key="order:1")[0].outcome == "duplicate"
    assert world.enqueue([line(2, "hi", key="order:2")])[0].outcome == "duplicate"
    world.clock.advance(2_000)
    assert world.enqueue([line(1, "hello")], key="order:1")[0].outcome == "queued"
    assert world.enqueue([line(2, "hi", key="order:2")])[0].outcome == "queued"


def test_the_key_of_a_call_that_takes_weeks_is_kept_seven_days_longer_than_its_last_message(world: World) -> None:
    bodies = [f"day {number}" for number in range(20)]
    world.send_later(*bodies, delay_ms=DAY, key="campaign")
    world.clock.advance((19 + 6) * DAY)
    answers = world.enqueue([line(number, body) for number, body in enumerate(bodies, start=1)], key="campaign")
    assert {answer.outcome for answer in answers} == {"duplicate"}


@pytest.mark.parametrize("second", [9, CHUNK_ROWS + 9])
def test_a_line_given_twice_goes_in_once_however_far_apart_also_when_words_are_meant_again(
    world: World, second: int
) -> None:
    """Promise P2: --again is about earlier calls, a double in one list is a slip."""
    lines = [line(number) for number in range(CHUNK_ROWS + 10)]
    lines[second] = lines[5]
    for options in ({"again": True}, {"key": "k"}):
        answers = world.enqueue(lines, **options)
        assert [number for number, answer in enumerate(answers) if answer.outcome == "duplicate"] == [second]


def test_a_repeated_key_answers_for_every_message_of_a_long_call_once(world: World) -> None:
    """Row H5: page by page, so that a million of them need no memory."""
    lines = [line(number) for number in range(2 * CHUNK_ROWS + 1)]
    first = [answer.message_id for answer in world.enqueue(lines, key="k")]
    again = world.enqueue(lines, key="k")
    assert [answer.message_id for answer in again] == first
    assert {answer.outcome for answer in again} == {"duplicate"}


def test_two_calls_at_once_do_not_pass_the_size_of_the_queue_together(world: World) -> None:
    """The one that finds no room any more is taken back whole."""
    size = 2 * CHUNK_ROWS + 10

    def lines() -> Iterator[NewMessage]:
        for number in range(size):
            if number == size - 1:  # two chunks are read ahead, one of them is in: here the other call comes in
                world.enqueue([line(number, "other") for number in range(100)], max_queue_size=size)
            yield line(number)

    with pytest.raises(Refused):
        list(
            SqliteIntake(world.database, world.owner).enqueue(
                _batch(world, size, max_queue_size=size), lines(), now_ms=world.now_ms
            )
        )
    assert world.states() == [State.QUEUED] * 100
