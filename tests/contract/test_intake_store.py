"""The way in: what is queued, what is a duplicate, what a key stands for, and that a refused call writes nothing."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from world import Worker, World, address, ambiguous, line, open_world, rejected

from wa_cli.domain.message import OnUnknown, State
from wa_cli.domain.outcome import ErrorClass
from wa_cli.errors import Conflict, Refused, StorageFull, Temporary, UsageError
from wa_cli.ports import NewBatch
from wa_cli.services.enqueue import SendOrder, enqueue, hash_request
from wa_cli.store.sqlite.database import Database
from wa_cli.store.sqlite.intake import CHUNK_ROWS, SqliteIntake, _Entry, _note_range
from wa_cli.store.sqlite.owners import Owner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wa_cli.ports import NewMessage

HOUR = 3_600_000
DAY = 24 * HOUR


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as opened:
        yield opened
        assert opened.find_faults() == []


@pytest.fixture
def file_world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path, on_disk=True) as opened:
        yield opened


def outcomes(answers: list[object]) -> list[str]:
    return [answer.outcome for answer in answers]  # type: ignore[attr-defined]  # Enqueued


# --- ids, positions, times -----------------------------------------------------------------------------------------


def test_messages_get_rising_ids_positions_and_due_times(world: World) -> None:
    """Rows R1, S1, T2."""
    answers = world.enqueue([line(1), line(2), line(3)], delay_ms=2_000, in_ms=10_000)
    start = world.now_ms + 10_000
    assert outcomes(answers) == ["queued"] * 3
    assert [answer.queue_position for answer in answers] == [1, 2, 3]
    assert [answer.due_at_ms for answer in answers] == [start, start + 2_000, start + 4_000]
    assert answers[0].message_id < answers[1].message_id < answers[2].message_id
    later = world.enqueue([line(4)])
    assert later[0].queue_position == 4
    assert later[0].message_id > answers[2].message_id


def test_an_urgent_message_has_only_urgent_ones_ahead_of_it(world: World) -> None:
    """Rows S1, S3: the position is the one it will leave in."""
    world.enqueue([line(1), line(2), line(3)])
    assert [answer.queue_position for answer in world.enqueue([line(4), line(5)], immediate=True)] == [1, 2]
    assert [answer.queue_position for answer in world.enqueue([line(6)], immediate=True)] == [3]
    assert [answer.queue_position for answer in world.enqueue([line(7)])] == [7]


def test_a_line_that_cannot_be_sent_is_kept_with_its_reason_and_takes_no_place_in_the_spacing(world: World) -> None:
    """Promise P12."""
    answers = world.enqueue([line(1), line(2, skip_reason="groups cannot be reached"), line(3)], delay_ms=2_000)
    assert outcomes(answers) == ["queued", "skipped", "queued"]
    assert answers[2].due_at_ms == world.now_ms + 2_000
    row = world.row(answers[1].message_id)
    assert (row.state, row.reason) == (State.SKIPPED, "groups cannot be reached")


def test_equal_words_and_people_are_stored_once(world: World) -> None:
    """Row S6."""
    world.enqueue([line(number) for number in range(10)])
    world.enqueue([line(number) for number in range(5, 15)])
    assert world.value("SELECT count(*) FROM content") == 1
    assert world.value("SELECT count(*) FROM contact") == 15


def test_every_line_ends_in_exactly_one_bucket(world: World) -> None:
    """Promise P13."""
    lines = [line(1), line(1), line(2, skip_reason="no"), line(3), line(3, "other"), line(1)]
    answers = world.enqueue(lines)
    assert outcomes(answers) == ["queued", "duplicate", "skipped", "queued", "queued", "duplicate"]
    assert world.value("SELECT sum(n) FROM tally") == 4


# --- the default key -----------------------------------------------------------------------------------------------


def test_the_same_words_to_the_same_person_are_queued_once(world: World) -> None:
    """Rows T2, T4, H6."""
    (first,) = world.enqueue([line(1)])
    (again,) = world.enqueue([line(1)])
    assert (again.outcome, again.message_id, again.state) == ("duplicate", first.message_id, State.QUEUED)
    assert again.reason is not None
    assert f"m{first.message_id}" in again.reason
    assert world.value("SELECT count(*) FROM message") == 1


def test_a_duplicate_of_a_sent_message_answers_with_the_first_result(world: World) -> None:
    """Row H6."""
    (first,) = world.enqueue([line(1)])
    world.drain()
    (again,) = world.enqueue([line(1)])
    assert (again.outcome, again.message_id, again.state) == ("duplicate", first.message_id, State.SENT)


@pytest.mark.parametrize(("hours", "outcome"), [(23, "duplicate"), (25, "queued")])
def test_the_window_of_the_default_key_is_a_day_after_the_message_was_due(
    world: World, hours: int, outcome: str
) -> None:
    """Row T4."""
    world.enqueue([line(1)], in_ms=HOUR)
    world.clock.advance(HOUR)
    world.drain()
    world.clock.advance(hours * HOUR)
    assert outcomes(world.enqueue([line(1)])) == [outcome]


def test_a_message_that_still_waits_is_a_duplicate_however_old_it_is(world: World) -> None:
    """Row H6."""
    world.enqueue([line(1)])
    world.clock.advance(30 * DAY)
    assert outcomes(world.enqueue([line(1)])) == ["duplicate"]


def test_an_unknown_message_blocks_its_words_for_ever(world: World) -> None:
    """Promise P2: it may have arrived."""
    world.transport.script = [ambiguous()]
    world.enqueue([line(1)])
    world.drain()
    world.clock.advance(30 * DAY)
    (again,) = world.enqueue([line(1)])
    assert (again.outcome, again.state) == ("duplicate", State.UNKNOWN)


@pytest.mark.parametrize("end", ["failed", "cancelled", "expired"])
def test_a_message_that_never_arrived_blocks_nothing(world: World, end: str) -> None:
    """Row H5."""
    world.transport.script = [rejected(ErrorClass.DEAD_MESSAGE)]
    (first,) = world.enqueue([line(1)], expires_in_ms=HOUR)
    if end == "failed":
        world.drain()
    elif end == "cancelled":
        world.messages.cancel([first.message_id], now_ms=world.now_ms)
    else:
        world.clock.advance(HOUR)
        world.queue.expire(now_ms=world.now_ms)
    assert world.state(first.message_id) == end
    assert outcomes(world.enqueue([line(1)])) == ["queued"]


def test_again_means_it(world: World) -> None:
    """Tomorrow's reminder with the same words must not vanish in silence."""
    world.enqueue([line(1)])
    assert outcomes(world.enqueue([line(1)], again=True)) == ["queued"]
    assert outcomes(world.enqueue([line(1)])) == ["duplicate"]
    world.drain()
    assert len(world.transport.posts) == 2


def test_again_does_not_mean_twice_in_one_call(world: World) -> None:
    assert outcomes(world.enqueue([line(1), line(1)], again=True)) == ["queued", "duplicate"]


# --- keys of the caller --------------------------------------------------------------------------------------------


KEY = "order:shop:1234:confirmPoll:v1"


def test_a_repeated_key_gives_the_same_answer_and_queues_nothing(world: World) -> None:
    """Rows H5, H6."""
    first = world.enqueue([line(1), line(2)], key=KEY)
    again = world.enqueue([line(1), line(2)], key=KEY)
    assert outcomes(again) == ["duplicate", "duplicate"]
    assert [answer.message_id for answer in again] == [answer.message_id for answer in first]
    assert world.value("SELECT count(*) FROM message") == 2


def test_a_repeated_key_names_the_first_batch(world: World) -> None:
    """Row H6."""
    intake = SqliteIntake(world.database, world.owner)
    world.enqueue([line(1)], key=KEY, intake=intake)
    batch_id = intake.last_batch_id()
    world.enqueue([line(2)], intake=intake)
    world.enqueue([line(1)], key=KEY, intake=intake)
    assert intake.last_batch_id() == batch_id


def test_a_key_that_stands_for_other_content_is_a_conflict_and_writes_nothing(world: World) -> None:
    """Row H6."""
    world.enqueue([line(1)], key=KEY)
    before = world.picture()
    for lines in ([line(1, "other words")], [line(2)], [line(1), line(2)]):
        with pytest.raises(Conflict) as caught:
            world.enqueue(lines, key=KEY)
        assert KEY in caught.value.message
    assert world.picture() == before


def test_a_new_key_sends_the_same_words_again(world: World) -> None:
    """Row H5: the caller has said what counts as the same."""
    world.enqueue([line(1)], key=KEY)
    assert outcomes(world.enqueue([line(1)], key=KEY + "2")) == ["queued"]
    world.drain()
    assert len(world.transport.posts) == 2


@pytest.mark.parametrize(("days", "outcome"), [(6, "duplicate"), (8, "queued")])
def test_a_key_is_kept_for_seven_days_after_its_message_was_due(world: World, days: int, outcome: str) -> None:
    """Row H5."""
    world.enqueue([line(1)], key=KEY, in_ms=DAY)
    world.clock.advance(DAY)
    world.drain()
    world.clock.advance(days * DAY)
    assert outcomes(world.enqueue([line(1)], key=KEY)) == [outcome]


def test_a_key_survives_a_restart(tmp_path: Path) -> None:
    """Row H5."""
    with open_world(tmp_path, on_disk=True) as world:
        (first,) = world.enqueue([line(1)], key=KEY)
    with open_world(tmp_path, on_disk=True) as world:
        (again,) = world.enqueue([line(1)], key=KEY)
        assert (again.outcome, again.message_id) == ("duplicate", first.message_id)


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\tin it", "line\nbreak", "bell\a"])
def test_a_key_that_cannot_be_meant_is_refused(world: World, key: str) -> None:
    with pytest.raises(UsageError):
        world.enqueue([line(1)], key=key)


def test_a_line_has_a_key_of_its_own(world: World) -> None:
    """Rows H5, S4."""
    first = world.enqueue([line(1, "a", key="k1"), line(2, "b", key="k2")])
    again = world.enqueue([line(2, "b", key="k2"), line(3, "c", key="k3")])
    assert outcomes(again) == ["duplicate", "queued"]
    assert again[0].message_id == first[1].message_id


def test_a_line_key_used_twice_in_one_file_queues_once(world: World) -> None:
    """Row H5."""
    assert outcomes(world.enqueue([line(1, "a", key="k"), line(1, "a", key="k")])) == ["queued", "duplicate"]


def test_a_line_key_with_other_content_refuses_the_whole_call(world: World) -> None:
    """Row H6; a call is queued as a whole or not at all."""
    world.enqueue([line(1, "a", key="k1")])
    before = world.picture()
    with pytest.raises(Conflict):
        world.enqueue([line(5, "new"), line(1, "other", key="k1")])
    assert world.picture() == before


# --- a full queue, a dry run ---------------------------------------------------------------------------------------


def test_a_queue_that_would_be_too_full_refuses_all_and_writes_nothing(world: World) -> None:
    """Row H3."""
    world.enqueue([line(number) for number in range(8)], max_queue_size=10)
    before = world.picture()
    with pytest.raises(Refused) as caught:
        world.enqueue([line(number) for number in range(10, 13)], max_queue_size=10)
    assert "MAX_QUEUE_SIZE=10" in caught.value.message
    assert world.picture() == before
    assert outcomes(world.enqueue([line(20), line(21)], max_queue_size=10)) == ["queued", "queued"]


def test_room_is_made_by_sending(world: World) -> None:
    """Row H3."""
    world.enqueue([line(number) for number in range(10)], max_queue_size=10)
    world.drain()
    assert outcomes(world.enqueue([line(99)], max_queue_size=10)) == ["queued"]


def test_a_repeated_key_is_answered_even_when_the_queue_is_full(world: World) -> None:
    """Rows H3, H6."""
    world.enqueue([line(1)], key=KEY, max_queue_size=1)
    assert outcomes(world.enqueue([line(1)], key=KEY, max_queue_size=1)) == ["duplicate"]


@pytest.mark.parametrize("count", [3, CHUNK_ROWS + 50])
def test_a_dry_run_answers_the_same_and_writes_no_byte(file_world: World, count: int) -> None:
    world = file_world
    world.enqueue([line(1), line(2)])
    lines = [line(number) for number in range(count)]
    world.execute("PRAGMA user_version")  # fold nothing in between: the picture is of what is there now
    before, digests = world.picture(), digests_of(world)
    dry = world.enqueue(lines, dry_run=True, delay_ms=1_000)
    assert (world.picture(), digests_of(world)) == (before, digests)
    real = world.enqueue(lines, delay_ms=1_000)
    assert [(one.outcome, one.message_id, one.due_at_ms, one.queue_position) for one in dry] == [
        (one.outcome, one.message_id, one.due_at_ms, one.queue_position) for one in real
    ]


def digests_of(world: World) -> dict[str, str]:
    """Of the database and its log."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(world.folder.glob("wa.db*"))
        if not path.name.endswith(("-shm", ".lock"))
    }


# --- calls of many chunks ------------------------------------------------------------------------------------------


def interrupted(lines: list[NewMessage], error: Exception) -> Iterator[NewMessage]:
    yield from lines
    raise error


def many(count: int = 5_000) -> list[NewMessage]:
    return [line(number, "bulk") for number in range(count)]


def test_a_long_call_is_invisible_to_the_send_loop_until_all_of_it_is_there(file_world: World) -> None:
    """Promise P1; fault 42: no half-imported list is sent."""
    world = file_world
    other = Database.open(world.database.path, create=False)
    worker = Worker(world)
    seen: list[int] = []

    def watched() -> Iterator[NewMessage]:
        for number, one in enumerate(many()):
            if number in (2_500, 4_500, 4_999):
                worker.run_for(5_000)
                with other.read() as connection:
                    waiting = connection.execute("SELECT count(*) FROM message WHERE state = 'queued'").fetchone()[0]
                seen.append(waiting)
                assert world.transport.posts == []
            yield one

    answers = enqueue_stream(world, watched(), size=5_000)
    assert seen == [0, 2_000, 2_000]
    assert len(answers) == 5_000
    worker.wake()
    assert len(world.transport.posts) >= 15
    worker.stop()
    other.close()


def enqueue_stream(world: World, lines: Iterator[NewMessage], *, size: int, key: str | None = None) -> list[object]:
    """Queue lines that come one by one, as from a file."""
    answers: list[object] = []
    enqueue(
        SqliteIntake(world.database, world.owner),
        SendOrder(kind="file", instance_id=1, start_at_ms=world.now_ms, delay_ms=0, key=key),
        lines,
        size=size,
        request_hash=hash_request("file", ["bulk"]),
        lines_are_unique=False,
        now_ms=world.now_ms,
        report=answers.append,
    )
    return answers


def test_positions_and_times_run_on_across_chunks(world: World) -> None:
    """Rows R1, S1."""
    answers = world.enqueue(many(), delay_ms=10)
    assert [answer.queue_position for answer in answers] == list(range(1, 5_001))
    assert [answer.due_at_ms for answer in answers] == [world.now_ms + 10 * step for step in range(5_000)]
    assert len({answer.message_id for answer in answers}) == 5_000
    first, last = world.rows("SELECT first_message_id, last_message_id FROM batch")[0]
    assert (first, last) == (answers[0].message_id, answers[-1].message_id)


def test_a_duplicate_is_found_across_chunks(world: World) -> None:
    """Row T4."""
    answers = world.enqueue([*many(2_500), line(7, "bulk")])
    assert answers[-1].outcome == "duplicate"
    assert answers[-1].message_id == answers[7].message_id


@pytest.mark.parametrize("count", [1_000, 2_500, 4_500])
def test_a_call_whose_lines_end_in_an_error_leaves_nothing_behind(world: World, count: int) -> None:
    before = world.picture()
    with pytest.raises(UsageError):
        enqueue_stream(world, interrupted(many(count), UsageError("line 4501 is broken")), size=9_999, key=KEY)
    after = world.picture()
    for table in ("message", "batch", "live_key", "caller_key"):
        assert after[table] == before[table]


class FullAfter(SqliteIntake):
    """An intake whose disk is full after so many commits."""

    commits = 0

    def _transaction(self, *, is_dry_run: bool):  # type: ignore[no-untyped-def]  # as its base does
        if self.commits == 0:
            raise StorageFull("no space left")
        self.commits -= 1
        return super()._transaction(is_dry_run=is_dry_run)


@pytest.mark.parametrize("commits", [0, 1, 2])
def test_a_disk_that_is_full_half_way_leaves_nothing_that_could_be_sent_or_answered(world: World, commits: int) -> None:
    """Promise P1: the same call works once there is space, and its key does not stand for half of it."""
    intake = FullAfter(world.database, world.owner)
    intake.commits = commits
    with pytest.raises(StorageFull):
        world.enqueue(many(), key=KEY, intake=intake)
    assert world.value("SELECT count(*) FROM message") == 0
    assert world.value("SELECT count(*) FROM batch") == 0
    answers = world.enqueue(many(), key=KEY)
    assert set(outcomes(answers)) == {"queued"}
    assert world.value("SELECT count(*) FROM batch WHERE released_at IS NULL") == 0


def test_a_reader_that_walks_away_leaves_nothing_that_is_never_sent(world: World) -> None:
    intake = SqliteIntake(world.database, world.owner)

    class Enough(Exception):
        """The caller has had enough."""

    def stop_reading(_answer: object) -> None:
        raise Enough

    with pytest.raises(Enough):
        enqueue(
            intake,
            SendOrder(kind="file", instance_id=1, start_at_ms=world.now_ms),
            many(),
            size=5_000,
            request_hash=b"",
            lines_are_unique=False,
            now_ms=world.now_ms,
            report=stop_reading,
        )
    assert world.value("SELECT count(*) FROM batch WHERE released_at IS NULL") == 0


def test_what_a_dead_process_left_half_way_is_swept_at_the_next_call(file_world: World) -> None:
    """Promise P1; fault 3."""
    world = file_world
    stranger = Owner(world.database.path)
    half = SqliteIntake(world.database, stranger)
    leave_half(world, half)
    assert world.value("SELECT count(*) FROM message") == CHUNK_ROWS
    (mine,) = world.enqueue([line(1, "mine")])
    assert mine.outcome == "queued"
    assert world.value("SELECT count(*) FROM message") == CHUNK_ROWS + 1, "its owner is alive: nothing is swept"
    stranger.close()
    world.enqueue([line(2, "mine too")])
    assert world.value("SELECT count(*) FROM message") == 2
    assert world.value("SELECT count(*) FROM live_key") == 2
    assert world.find_faults() == []


def new_batch(world: World, *, key: str | None = KEY, request: bytes = b"half", unique: bool = False) -> NewBatch:
    return NewBatch(
        kind="file",
        instance_id=1,
        size=5_000,
        start_at_ms=world.now_ms,
        at_words=None,
        delay_ms=0,
        priority=1,
        max_attempts=5,
        on_unknown=OnUnknown.HOLD,
        expires_at_ms=None,
        key=key,
        request_hash=request,
        again=False,
        has_own_lane=False,
        lines_are_unique=unique,
        duplicate_window_ms=DAY,
        key_days=7,
        max_queue_size=0,
    )


def leave_half(world: World, intake: SqliteIntake, *, request: bytes = b"half", key: str | None = KEY) -> None:
    """What a process leaves that is killed after the first chunk of a call: the insides of `enqueue`, up to there."""
    order = new_batch(world, key=key, request=request)
    with world.database.write() as connection:
        batch_id = intake._insert_batch(connection, order, now_ms=world.now_ms, is_whole=False)
        entry = _Entry(order, batch_id, position=0, is_spread=True)
        entry.add(connection, many()[:CHUNK_ROWS], now_ms=world.now_ms)
        _note_range(connection, batch_id, first=entry.first_id, last=entry.last_id)


def test_the_key_of_a_call_that_died_half_way_is_free_again(file_world: World) -> None:
    """Row H5, promise P1."""
    world = file_world
    stranger = Owner(world.database.path)
    leave_half(world, SqliteIntake(world.database, stranger))
    stranger.close()
    answers = world.enqueue([line(1)], key=KEY)
    assert outcomes(answers) == ["queued"]


def test_a_key_that_is_being_used_this_moment_is_neither_free_nor_answered(file_world: World) -> None:
    """Fault 41: the other call may yet come to nothing."""
    world = file_world
    stranger = Owner(world.database.path)
    leave_half(world, SqliteIntake(world.database, stranger), request=hash_request("file", ["bulk"]))
    with pytest.raises(Temporary) as caught:
        enqueue_stream(world, iter(many(10)), size=10, key=KEY)
    assert caught.value.code == "key_busy"
    stranger.close()


def test_words_that_another_call_is_still_queueing_are_queued_and_sent_once(file_world: World) -> None:
    """Rows T4, H4, H7, promises P1, P2: the other call may die, or end and find its duplicates before their posts."""
    world = file_world
    stranger = Owner(world.database.path)
    leave_half(world, SqliteIntake(world.database, stranger), key=None)
    answers = world.enqueue(many(20))
    assert outcomes(answers) == ["queued"] * 20
    world.execute("UPDATE batch SET released_at = ? WHERE released_at IS NULL", world.now_ms)
    world.drain()
    assert len(world.transport.posts) == CHUNK_ROWS
    assert len(set(world.transport.addresses)) == CHUNK_ROWS
    stranger.close()


def test_a_call_that_was_overtaken_by_the_same_words_finds_its_duplicates(world: World) -> None:
    """Rows T4, H4, promise P2: two runs of one cron line overlap, and the second one is the faster."""
    intake = SqliteIntake(world.database, world.owner)

    def overtaken() -> Iterator[NewMessage]:
        for number, one in enumerate(many(4_500)):
            if number == 4_200:
                world.enqueue([line(4_100, "bulk")])
                world.drain()
            yield one

    batch = new_batch(world, key=None, unique=True)
    answers = list(intake.enqueue(batch, overtaken(), now_ms=world.now_ms))
    world.drain()
    assert world.transport.addresses.count(address(4_100)) == 1
    assert len(set(world.transport.addresses)) == 4_500
    assert len(answers) == 4_500


def test_addresses_of_many_lines_are_those_that_were_given(world: World) -> None:
    answers = world.enqueue(many(2_100))
    assert [answer.address for answer in answers] == [address(number) for number in range(2_100)]
