"""The queue as the send loop sees it: one turn is one transaction, and every number follows from the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from world import (
    START_MS,
    World,
    accepted,
    ambiguous,
    line,
    not_sent,
    open_world,
    rejected,
)

from wa_cli.domain.message import OnUnknown, State, Text
from wa_cli.domain.outcome import ErrorClass
from wa_cli.domain.pacing import PRIORITY_NORMAL, PRIORITY_URGENT, batch_of, lane_of
from wa_cli.domain.retry import Rest, Stop
from wa_cli.ports import Finished, Record
from wa_cli.store.sqlite.database import Database
from wa_cli.store.sqlite.queue import SqliteQueue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wa_cli.domain.outcome import Outcome
    from wa_cli.ports import Due, Lease

SINGLE = lane_of(PRIORITY_NORMAL, 0)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as opened:
        yield opened
        assert opened.find_faults() == []


def start(world: World, lease: Lease, count: int = 100) -> tuple[list[Due], list[int]]:
    with world.queue.turn() as turn:
        rows = turn.read_due(1, SINGLE, now_ms=world.now_ms, limit=count)
        return rows, turn.start(rows, lease=lease, now_ms=world.now_ms, spaced_batches=())


def finished(due: Due, attempt_id: int, outcome: Outcome) -> Finished:
    return Finished(
        attempt_id=attempt_id,
        message_id=due.message_id,
        contact_id=due.contact_id,
        address=due.address,
        lane=due.lane,
        outcome=outcome,
        latency_ms=87,
        attempts=due.attempts,
        refusals=due.refusals,
        max_attempts=5,
        on_unknown=OnUnknown.HOLD,
    )


def record(
    world: World,
    due: Due,
    attempt_id: int,
    outcome: Outcome,
    state: State,
    *,
    rule: str = "rule",
    counted: bool = True,
    due_at_ms: int | None = None,
) -> None:
    one = Record(
        finished=finished(due, attempt_id, outcome),
        state=state,
        rule=rule,
        counted=counted,
        refusals=0,
        due_at_ms=due_at_ms,
    )
    with world.queue.turn() as turn:
        turn.record([one], now_ms=world.now_ms)


# --- reading -------------------------------------------------------------------------------------------------------


def test_due_rows_come_in_the_order_they_are_due_and_only_those(world: World) -> None:
    world.send_later("later", in_ms=5_000)
    world.enqueue([line(2, "second")], in_ms=1_000)
    world.enqueue([line(3, "first")])
    with world.queue.turn() as turn:
        assert turn.read_due(1, SINGLE, now_ms=START_MS - 1, limit=10) == []
        due = turn.read_due(1, SINGLE, now_ms=START_MS + 1_000, limit=10)
        assert [row.message_id for row in due] == [3, 2]
        assert [row.due_at_ms for row in due] == [START_MS, START_MS + 1_000]
        assert turn.read_due(1, SINGLE, now_ms=START_MS + 5_000, limit=2) == due


def test_each_lane_shows_the_due_time_of_its_first_waiting_message(world: World) -> None:
    world.send_later("a", "b", delay_ms=2_000, in_ms=500)
    world.enqueue([line(9, "single")])
    world.enqueue([line(9, "urgent")], immediate=True)
    with world.queue.turn() as turn:
        heads = turn.lane_heads(1)
    assert heads == [
        (lane_of(PRIORITY_URGENT, 0), START_MS),
        (SINGLE, START_MS),
        (lane_of(PRIORITY_NORMAL, 1), START_MS + 500),
    ]


def test_another_instance_sees_nothing_of_it(world: World) -> None:
    world.execute("INSERT INTO instance (id, name, transport, created_at) VALUES (2, 'second', 'cloud_api', 0)")
    world.send_later("a")
    with world.queue.turn() as turn:
        assert turn.lane_heads(2) == []
        assert turn.read_due(2, SINGLE, now_ms=world.now_ms, limit=10) == []


def test_a_batch_tells_its_terms_and_when_it_last_sent(world: World) -> None:
    world.send_later("a", "b", delay_ms=2_000, max_attempts=3, on_unknown=OnUnknown.RESEND)
    lease = world.take_lease()
    with world.queue.turn() as turn:
        terms = turn.read_terms(1)
        assert (terms.delay_ms, terms.max_attempts, terms.on_unknown) == (2_000, 3, OnUnknown.RESEND)
        assert (terms.is_released, terms.last_started_at_ms) == (True, None)
        rows = turn.read_due(1, lane_of(PRIORITY_NORMAL, 1), now_ms=world.now_ms, limit=1)
        turn.start(rows, lease=lease, now_ms=world.now_ms, spaced_batches=[1])
        assert turn.read_terms(1).last_started_at_ms == world.now_ms


def test_content_that_does_not_match_its_checksum_is_none(world: World) -> None:
    """Fault 22."""
    world.send_later("hello")
    assert world.queue.read_content(1) == Text(body="hello")
    world.execute("UPDATE content SET body = replace(body, 'hello', 'hell!')")
    assert world.queue.read_content(1) is None
    assert world.queue.read_content(99) is None
    world.execute("UPDATE content SET body = replace(body, 'hell!', 'hello')")


def test_starts_are_read_oldest_first_of_one_instance_since_a_moment(world: World) -> None:
    """Promise P8: limits are rebuilt from these."""
    world.send_later("a", "b", "c", "d")
    lease = world.take_lease()
    for _message in range(4):
        start(world, lease, 1)
        world.clock.advance(1_000)
    with world.queue.turn() as turn:
        starts = turn.read_starts(1, since_ms=START_MS + 1_000)
        assert turn.read_starts(2, since_ms=0) == []
    assert [at for _contact, at in starts] == [START_MS + 1_000, START_MS + 2_000, START_MS + 3_000]
    assert len({contact for contact, _at in starts}) == 3


# --- a start and its record ----------------------------------------------------------------------------------------


def test_a_start_marks_the_message_and_writes_one_attempt(world: World) -> None:
    """Promise P2."""
    ids = world.send_later("a", "b")
    lease = world.take_lease()
    _rows, attempt_ids = start(world, lease)
    assert world.states() == [State.SENDING, State.SENDING]
    assert len(set(attempt_ids)) == 2
    (attempt,) = world.attempts(ids[0])
    assert (attempt.id, attempt.epoch, attempt.outcome, attempt.started_at_ms) == (
        attempt_ids[0],
        lease.epoch,
        None,
        world.now_ms,
    )
    assert world.instances.count_sending(1) == 2


def test_attempt_ids_are_never_given_twice(world: World) -> None:
    """Promise P2: each is part of a tag."""
    world.send_later(*"abcdef")
    lease = world.take_lease()
    seen: list[int] = []
    for _turn in range(3):
        seen += start(world, lease, 2)[1]
    assert seen == sorted(set(seen))


@pytest.mark.parametrize(
    ("outcome", "state", "word", "code"),
    [
        (accepted(), State.SENT, "accepted", None),
        (rejected(ErrorClass.DEAD_MESSAGE, "132001"), State.FAILED, "rejected", "132001"),
        (ambiguous("read_timeout"), State.UNKNOWN, "ambiguous", "read_timeout"),
    ],
)
def test_a_record_keeps_the_outcome_with_the_attempt_and_the_state_with_the_message(
    world: World, outcome: Outcome, state: State, word: str, code: str | None
) -> None:
    """Row H8."""
    (message_id,) = world.send_later("a")
    rows, attempt_ids = start(world, world.take_lease())
    record(world, rows[0], attempt_ids[0], outcome, state)
    row, (attempt,) = world.row(message_id), world.attempts(message_id)
    assert (row.state, row.attempts, row.error_code) == (state, 1, code)
    assert (attempt.outcome, attempt.is_counted, attempt.latency_ms, attempt.error_code) == (word, True, 87, code)
    assert row.provider_message_id == ("wamid.1" if state is State.SENT else None)


def test_a_retry_is_due_later_and_counts_only_when_told_to(world: World) -> None:
    (message_id,) = world.send_later("a")
    lease = world.take_lease()
    rows, attempt_ids = start(world, lease)
    record(
        world, rows[0], attempt_ids[0], not_sent(), State.QUEUED, rule="not_sent", counted=False, due_at_ms=START_MS + 9
    )
    row = world.row(message_id)
    assert (row.state, row.attempts, row.due_at_ms, row.reason) == (State.QUEUED, 0, START_MS + 9, "not_sent")
    world.clock.advance(9)
    rows, attempt_ids = start(world, lease)
    record(world, rows[0], attempt_ids[0], rejected(ErrorClass.RETRY), State.QUEUED, due_at_ms=START_MS + 99)
    assert world.row(message_id).attempts == 1


def test_an_outcome_that_is_recorded_twice_moves_the_message_once(world: World) -> None:
    """Promises P2, P3: a commit may have reached the disk although it was reported as failed, and is then repeated."""
    (message_id,) = world.send_later("a")
    lease = world.take_lease()
    (due,), (attempt_id,) = start(world, lease)
    refused = rejected(ErrorClass.DEAD_RECIPIENT)
    for state in (State.FAILED, State.QUEUED):
        record(world, due, attempt_id, refused, state)
        row = world.row(message_id)
        assert (row.state, row.attempts) == (State.FAILED, 1)


def test_a_turn_that_raises_starts_nothing_and_records_nothing(world: World) -> None:
    """Promise P6."""
    world.send_later("a", "b")
    lease = world.take_lease()
    before = world.picture()
    with pytest.raises(ZeroDivisionError), world.queue.turn() as turn:  # noqa: PT012  # the turn is what raises
        rows = turn.read_due(1, SINGLE, now_ms=world.now_ms, limit=2)
        turn.start(rows, lease=lease, now_ms=world.now_ms, spaced_batches=())
        raise ZeroDivisionError
    assert world.picture() == before


def test_a_turn_is_seen_by_others_only_as_a_whole(tmp_path: Path) -> None:
    with open_world(tmp_path, on_disk=True) as world:
        world.send_later("a", "b")
        lease = world.take_lease()
        other = SqliteQueue(Database.open(world.database.path, create=False))
        with world.queue.turn() as turn:
            rows = turn.read_due(1, SINGLE, now_ms=world.now_ms, limit=2)
            turn.start(rows, lease=lease, now_ms=world.now_ms, spaced_batches=())
            with other._database.read() as connection:
                assert connection.execute("SELECT count(*) FROM attempt").fetchone() == (0,)
        with other._database.read() as connection:
            assert connection.execute("SELECT count(*) FROM attempt").fetchone() == (2,)
        other._database.close()


def test_a_deferral_moves_the_due_time_and_is_told_once(world: World) -> None:
    (message_id,) = world.send_later("a")
    for seconds in (1, 2, 3):
        with world.queue.turn() as turn:
            (row,) = turn.read_due(1, SINGLE, now_ms=world.now_ms + 10_000, limit=1)
            turn.defer(row, until_ms=world.now_ms + seconds, rule="recipient_limit", now_ms=world.now_ms)
    assert world.row(message_id).due_at_ms == world.now_ms + 3
    assert world.decisions(message_id) == ["recipient_limit"]
    assert world.row(message_id).scheduled_at_ms == world.now_ms


@pytest.mark.parametrize("state", [State.EXPIRED, State.SKIPPED, State.FAILED])
def test_a_dropped_message_keeps_its_reason(world: World, state: State) -> None:
    """Promise P12."""
    (message_id,) = world.send_later("a")
    with world.queue.turn() as turn:
        (row,) = turn.read_due(1, SINGLE, now_ms=world.now_ms, limit=1)
        turn.drop(row, state=state, rule="some_rule", details="because", now_ms=world.now_ms)
    stored = world.row(message_id)
    assert (stored.state, stored.reason, stored.error_details) == (state, "some_rule", "because")
    assert world.decisions(message_id) == ["some_rule"]


# --- the instance --------------------------------------------------------------------------------------------------


def test_a_rest_is_never_shortened_by_a_later_one(world: World) -> None:
    """Promise P8."""
    world.take_lease()
    with world.queue.turn() as turn:
        turn.apply_effect(1, Rest(seconds=60.0, reason="long"), now_ms=world.now_ms)
        turn.apply_effect(1, Rest(seconds=1.0, reason="short"), now_ms=world.now_ms)
        assert turn.read_standing(1).rests_until_ms == world.now_ms + 60_000


def test_the_first_reason_of_a_stop_is_kept(world: World) -> None:
    """Row H10: it is the one a person has to act on."""
    world.take_lease()
    with world.queue.turn() as turn:
        turn.apply_effect(1, Stop(code="190", reason="token expired"), now_ms=world.now_ms)
        turn.apply_effect(1, Stop(code="368", reason="blocked"), now_ms=world.now_ms)
        assert turn.read_standing(1).is_paused
    instance = world.instances.find("default")
    assert (instance.paused_by, instance.pause_code, instance.pause_reason) == ("platform", "190", "token expired")


def test_a_pause_by_hand_and_its_end_are_said_to_have_changed_something_only_once(world: World) -> None:
    """Promise P7."""
    assert world.instances.pause(1, reason="holiday", now_ms=world.now_ms)
    assert not world.instances.pause(1, reason="again", now_ms=world.now_ms)
    assert world.instances.find("default").pause_reason == "holiday"
    assert world.instances.resume(1, now_ms=world.clock.wall_ms())
    assert not world.instances.resume(1, now_ms=world.clock.wall_ms())
    assert world.instances.find("default").paused_at_ms is None


# --- upkeep --------------------------------------------------------------------------------------------------------


def test_waiting_messages_past_their_time_expire_and_the_others_do_not(world: World) -> None:
    """Promise P8: after an outage they are expired, not sent."""
    world.send_later("a", "b", expires_in_ms=1_000)
    world.enqueue([line(7, "c")], expires_in_ms=2_000)
    world.enqueue([line(8, "d")])
    assert world.queue.expire(now_ms=world.now_ms + 999) == 0
    assert world.queue.expire(now_ms=world.now_ms + 1_000) == 2
    assert world.states() == [State.EXPIRED, State.EXPIRED, State.QUEUED, State.QUEUED]


def test_a_message_on_its_way_does_not_expire(world: World) -> None:
    """Promise P3."""
    world.send_later("a", expires_in_ms=1_000)
    start(world, world.take_lease())
    assert world.queue.expire(now_ms=world.now_ms + 5_000) == 0
    assert world.states() == [State.SENDING]


@pytest.mark.parametrize(
    ("policy", "waited", "requeued"),
    [(OnUnknown.RESEND, 60_000, 1), (OnUnknown.RESEND, 59_999, 0), (OnUnknown.HOLD, 10**9, 0)],
)
def test_only_unknowns_of_the_resend_policy_are_queued_again_and_only_after_their_wait(
    world: World, policy: OnUnknown, waited: int, requeued: int
) -> None:
    """Promise P2."""
    world.transport.script = [ambiguous()]
    world.send_later("a", on_unknown=policy)
    world.drain()
    now_ms = world.now_ms + waited
    assert world.queue.requeue_unknown(older_than_ms=now_ms - 60_000, now_ms=now_ms) == requeued


def test_an_unknown_out_of_attempts_is_not_queued_again(world: World) -> None:
    """Row Q3."""
    world.transport.script = [ambiguous()]
    world.send_later("a", on_unknown=OnUnknown.RESEND, max_attempts=1)
    world.drain()
    assert world.queue.requeue_unknown(older_than_ms=world.now_ms, now_ms=world.now_ms) == 0
    assert world.states() == [State.UNKNOWN]


def test_the_tally_follows_every_way_a_message_can_go(world: World) -> None:
    """Promise P13."""
    outcomes = [accepted(), rejected(ErrorClass.DEAD_MESSAGE), ambiguous(), rejected(ErrorClass.RETRY), not_sent()]
    world.transport.script = [*outcomes]
    ids = world.send_later("sent", "failed", "unknown", "retried", "network", "expired", "cancelled", "waiting")
    world.execute("UPDATE message SET expires_at = ? WHERE id = ?", world.now_ms + 1, ids[5])
    world.messages.cancel([ids[6]], now_ms=world.now_ms)
    world.enqueue([line(50, "skipped", skip_reason="no")])
    world.clock.advance(1)
    world.drain(concurrency=5, start_limit=5)
    world.queue.expire(now_ms=world.now_ms)
    stats = {name: count for name, count in world.messages.read_stats().items() if count}
    assert stats == {
        "sent": 1,
        "failed": 1,
        "unknown": 1,
        "queued": 3,
        "expired": 1,
        "cancelled": 1,
        "skipped": 1,
    }
    assert sum(stats.values()) == len(world.states()) == 9


def test_a_lane_knows_its_batch(world: World) -> None:
    """Row R5."""
    ids = world.send_later("a", "b", delay_ms=1_000)
    lane = world.value("SELECT lane FROM message WHERE id = ?", ids[0])
    assert batch_of(lane) == world.row(ids[0]).batch_id
