"""What the store says about single messages, failures and unknown outcomes, and what it changes about them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from world import World, accepted, address, ambiguous, line, not_sent, open_world, rejected

from wa_cli.domain.history import CancelScope, MessageFilter
from wa_cli.domain.message import MessageId, OnUnknown, State
from wa_cli.domain.outcome import ErrorClass
from wa_cli.domain.receipt import Receipt, Standing, derive_standing, pairs_of
from wa_cli.errors import NotFound
from wa_cli.services.reconcile import settle
from wa_cli.services.resend import ResendOrder, Resent, resend
from wa_cli.store.sqlite import messages as messages_module
from wa_cli.store.sqlite.failures import SqliteFailures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSING = rejected(ErrorClass.RETRY, "131016")
PERMANENT = rejected(ErrorClass.DEAD_RECIPIENT, "131026")
DAY_MS = 86_400_000
EVERYTHING = CancelScope()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as opened:
        yield opened


def failures(world: World) -> SqliteFailures:
    return SqliteFailures(world.database)


def resend_now(
    world: World, *message_ids: int, delay_ms: int = 3000, force: bool = False, window_ms: int = DAY_MS
) -> Resent:
    order = ResendOrder(
        message_ids=[MessageId(one) for one in message_ids] if message_ids else None,
        delay_ms=delay_ms,
        force=force,
        is_dry_run=False,
        duplicate_window_ms=window_ms,
    )
    return resend(failures(world), order, now_ms=world.now_ms)


# --- the one word for a message ---


@pytest.mark.parametrize(
    ("state", "receipt", "word"),
    [
        (State.QUEUED, None, Standing.QUEUED),
        (State.SENT, None, Standing.SENT),
        (State.SENT, Receipt.SENT, Standing.SENT),
        (State.SENT, Receipt.DELIVERED, Standing.DELIVERED),
        (State.SENT, Receipt.READ, Standing.READ),
        (State.SENT, Receipt.PLAYED, Standing.READ),
        (State.SENT, Receipt.FAILED, Standing.FAILED),
        (State.UNKNOWN, Receipt.DELIVERED, Standing.UNKNOWN),
        (State.FAILED, Receipt.FAILED, Standing.FAILED),
    ],
)
def test_the_word_is_our_state_until_a_receipt_tops_an_acceptance(
    state: State, receipt: Receipt | None, word: Standing
) -> None:
    """Promises P3, P13."""
    assert derive_standing(state, receipt) is word


def test_every_state_and_receipt_is_in_exactly_one_word() -> None:
    """Promise P13."""
    pairs = [pair for standing in Standing for pair in pairs_of(standing)]
    assert sorted(pairs, key=str) == sorted(((s, r) for s in State for r in (None, *Receipt)), key=str)


# --- counts ---


def test_the_counts_add_up_after_every_kind_of_outcome(world: World) -> None:
    """Promise P13: kept by the tally, equal to a count of the rows."""
    world.transport.script = [accepted(), PERMANENT, PASSING, ambiguous(), accepted()]
    world.send_later("a", "b", "c", "d", "e")
    world.drain()
    world.execute("UPDATE message SET receipt = 'delivered' WHERE id = 5")
    world.send_later("f", "g", in_ms=DAY_MS)
    world.messages.cancel([6], now_ms=world.now_ms)
    stats = world.messages.read_stats()
    assert stats == {
        "queued": 2, "sending": 0, "sent": 1, "delivered": 1, "read": 0,
        "failed": 1, "unknown": 1, "skipped": 0, "expired": 0, "cancelled": 1,
    }  # fmt: skip
    assert sum(stats.values()) == world.value("SELECT count(*) FROM message")
    assert world.messages.count_waiting_retries() == 1


def test_the_next_due_time_is_the_earliest_of_all_lanes(world: World) -> None:
    world.send_later("late", in_ms=10_000)
    world.send_later("a", "b", in_ms=5_000, delay_ms=1_000)
    assert world.messages.next_due_at_ms(1) == world.now_ms + 5_000
    assert world.messages.next_due_at_ms(2) is None


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count(*) FROM message WHERE state = 'queued' AND attempts > 0",
        "SELECT m.id FROM message AS m WHERE m.state = 'failed' AND m.reason IS NOT 'dismissed' ORDER BY m.id",
        "SELECT m.id FROM message AS m WHERE m.state = 'unknown' AND m.id > 1 ORDER BY m.id",
    ],
)
def test_what_screens_ask_often_reads_an_index_of_its_own(world: World, statement: str) -> None:
    """A million messages must not be looked through to find the few that failed."""
    plan = " ".join(row[3] for row in world.rows(f"EXPLAIN QUERY PLAN {statement}"))
    assert "INDEX message_" in plan


# --- failures are stored (row T5) ---


def test_five_failed_attempts_on_the_ladder_are_all_stored(world: World) -> None:
    """Rows T5, T6, Q3: tried again after 1, 5, 15 and 30 minutes, then failed with its error."""
    world.transport.script = [PASSING] * 5
    (message_id,) = world.send_later("hello")
    world.drain(whole_schedule=True)
    row = world.row(message_id)
    assert (row.state, row.attempts, row.error_code, row.reason) == (State.FAILED, 5, "131016", "out_of_attempts")
    attempts = world.attempts(message_id)
    assert [one.error_code for one in attempts] == ["131016"] * 5
    waits = [later.started_at_ms - earlier.started_at_ms for earlier, later in pairwise(attempts)]
    assert [round(wait / 60_000) for wait in waits] == [1, 5, 15, 30]
    assert failures(world).count_failed() == 1


def test_an_attempt_that_was_never_written_does_not_count(world: World) -> None:
    world.transport.script = [not_sent(), accepted()]
    (message_id,) = world.send_later("hello")
    world.drain(whole_schedule=True)
    assert [(one.outcome, one.is_counted) for one in world.attempts(message_id)] == [
        ("not_sent", False),
        ("accepted", True),
    ]


# --- the printed list ---


def test_a_list_that_was_refused_leaves_the_one_before(world: World) -> None:
    """Row R7."""
    world.transport.script = [PERMANENT]
    world.send_later("a")
    world.drain()
    store = failures(world)
    assert store.store_printed_list(subgroup=None, campaign=None, limit=None) == 1
    with pytest.raises(NotFound):
        store.store_printed_list(subgroup="nobody", campaign=None, limit=None)
    assert store.count_printed() == 1
    assert store.find_printed([0])[0].is_current


def test_an_entry_that_changed_is_not_printed_and_keeps_the_other_indexes(world: World) -> None:
    """Row R7."""
    world.transport.script = [PERMANENT] * 3
    world.send_later("a", "b", "c")
    world.drain()
    store = failures(world)
    store.store_printed_list(subgroup=None, campaign=None, limit=None)
    world.clock.advance(1)
    store.dismiss([2], now_ms=world.now_ms)
    assert [(index, row.id) for index, row in store.read_printed_list(after=-1, limit=10)] == [(0, 1), (2, 3)]
    assert not store.find_printed([1])[1].is_current


def test_a_failure_that_failed_anew_before_it_was_printed_is_left_out(world: World) -> None:
    """Row R7: what is printed at an index is what the index means, never a newer failure of the same message."""
    world.transport.script = [PERMANENT] * 3
    world.send_later("a", "b")
    world.drain()
    store = failures(world)
    store.store_printed_list(subgroup=None, campaign=None, limit=None)
    world.clock.advance(1)
    resend_now(world, 1, force=True)
    world.drain()
    assert world.states() == [State.FAILED, State.FAILED]
    assert [index for index, _row in store.read_printed_list(after=-1, limit=10)] == [1]


# --- resending ---


def test_a_resend_is_sent_once_and_spaced(world: World) -> None:
    """Rows R7, R9, promise P2: one post more for each, 3 s apart."""
    world.transport.script = [PASSING] * 3
    ids = world.send_later("a", "b", "c", max_attempts=1)
    world.drain()
    result = resend_now(world)
    assert [message_id for message_id, _due in result.due] == ids
    world.transport.posts.clear()
    world.drain(whole_schedule=True)
    assert world.transport.bodies == ["a", "b", "c"]
    assert world.transport.gaps_ms == [3000, 3000]
    assert world.states() == [State.SENT] * 3
    assert world.find_faults() == []


def test_overdue_resends_keep_their_spacing(world: World) -> None:
    """Row R5, promise P8: an hour without a sender, and still 3 s apart."""
    world.transport.script = [PASSING] * 3
    world.send_later("a", "b", "c", max_attempts=1)
    world.drain()
    resend_now(world)
    world.clock.advance(3_600_000)
    world.transport.posts.clear()
    world.drain(whole_schedule=True)
    assert world.transport.gaps_ms == [3000, 3000]


def test_a_resent_message_has_all_its_attempts_again(world: World) -> None:
    """Row R9."""
    world.transport.script = [PASSING] * 5
    world.send_later("a")
    world.drain(whole_schedule=True)
    resend_now(world)
    world.transport.script = [PASSING] * 4
    world.drain(whole_schedule=True)
    assert world.state(1) is State.SENT
    assert len(world.attempts(1)) == 10
    assert world.row(1).attempts == 5


def test_a_resent_message_is_never_skipped_as_the_duplicate_of_the_dead(world: World) -> None:
    """Row H7: what is checked again before the post is the holder of the words, and that is the resent one now."""
    world.transport.script = [PERMANENT, PERMANENT]
    for _time in range(2):
        world.enqueue([line(1, "hello")])
        world.drain()
    resend_now(world, 1, force=True)
    world.drain()
    assert world.states() == [State.SENT, State.FAILED]


def test_a_resent_message_holds_its_words_for_the_whole_window(world: World) -> None:
    """Row T4: 24 h from when it is due again, not from when it was first."""
    world.transport.script = [PERMANENT]
    world.enqueue([line(1, "hello")])
    world.drain()
    world.clock.advance(DAY_MS - 1000)
    resend_now(world, 1, force=True)
    world.drain()
    world.clock.advance(DAY_MS - 1000)
    assert [one.outcome for one in world.enqueue([line(1, "hello")])] == ["duplicate"]
    world.clock.advance(2000)
    assert [one.outcome for one in world.enqueue([line(1, "hello")])] == ["queued"]


def test_a_resend_that_is_refused_has_written_nothing(world: World) -> None:
    world.transport.script = [PERMANENT, PASSING]
    world.send_later("a", "b", max_attempts=1)
    world.drain()
    before = world.picture()
    with pytest.raises(NotFound):
        resend_now(world, 1, 2, 99)
    assert world.picture() == before


def test_a_damaged_message_is_refused_and_never_leaves_even_by_force(world: World) -> None:
    world.send_later("hello")
    world.execute("UPDATE content SET body = replace(body, 'hello', 'hullo')")
    world.drain()
    assert world.row(1).reason == "content_damaged"
    assert "failed for good" in resend_now(world, 1).refused[0][1]
    assert len(resend_now(world, 1, force=True).due) == 1
    world.drain()
    assert (world.state(1), world.transport.posts) == (State.FAILED, [])


# --- unknown outcomes ---


def test_a_marked_outcome_is_evidence_and_the_message_is_never_posted_again(world: World) -> None:
    """Promises P2, P3, P4."""
    world.transport.script = [ambiguous(), ambiguous()]
    world.send_later("a", "b", on_unknown=OnUnknown.RESEND)
    world.drain()
    result = settle(
        world.messages,
        failures(world),
        [MessageId(1)],
        was_sent=True,
        note=None,
        now_ms=world.now_ms,
    )
    assert (result.marked, result.refused) == ([1], [])
    world.clock.advance(DAY_MS)
    world.queue.requeue_unknown(older_than_ms=world.now_ms, now_ms=world.now_ms)
    world.transport.posts.clear()
    world.drain()
    assert world.transport.bodies == ["b"]
    assert world.decisions(1) == ["marked_sent"]
    assert world.find_faults() == []


def test_marked_as_not_sent_and_resent_it_is_posted_once_more(world: World) -> None:
    """Promise P2: because a person said so for that unknown."""
    world.transport.script = [ambiguous()]
    world.send_later("a")
    world.drain()
    settle(world.messages, failures(world), [MessageId(1)], was_sent=False, note="asked her", now_ms=world.now_ms)
    resend_now(world, 1)
    world.drain()
    assert [one.outcome for one in world.attempts(1)] == ["marked_not_sent", "accepted"]
    assert world.decisions(1) == ["marked_not_sent", "resent"]
    assert world.find_faults() == []


# --- cancelling ---


def test_what_was_cancelled_is_never_posted(world: World) -> None:
    """Promise P7."""
    world.send_later("a", "b", "c", in_ms=1000)
    assert world.messages.cancel([1, 3], now_ms=world.now_ms).count == 2
    world.drain(whole_schedule=True)
    assert world.transport.bodies == ["b"]


def test_a_cancel_of_more_than_one_transaction_takes_all(world: World) -> None:
    """Promise P7: when it returns, nothing that waited is left."""
    count = messages_module.CANCELLED_ROWS + 1
    world.enqueue([line(1, f"text {number}") for number in range(count)], in_ms=1000, unique=True)
    assert world.messages.count_waiting(EVERYTHING) == count
    assert world.messages.cancel_all(EVERYTHING, now_ms=world.now_ms).count == count
    assert world.messages.read_stats()["cancelled"] == count
    assert world.messages.next_due_at_ms(1) is None


def test_a_cancelled_message_frees_its_words(world: World) -> None:
    world.enqueue([line(1, "hello")], in_ms=1000)
    world.messages.cancel([1], now_ms=world.now_ms)
    assert [one.outcome for one in world.enqueue([line(1, "hello")])] == ["queued"]


# --- reading ---


def test_pages_of_the_list_meet_without_gap_or_overlap(world: World) -> None:
    world.send_later(*(f"text {number}" for number in range(25)))
    seen: list[int] = []
    before_id: int | None = None
    while page := world.messages.list_newest(MessageFilter(), before_id=before_id, limit=10):
        seen += [row.id for row in page]
        before_id = page[-1].id
    assert seen == list(range(25, 0, -1))


def test_a_message_knows_its_place_in_its_call(world: World) -> None:
    world.send_later("a", "b", "c", in_ms=1000, delay_ms=2000)
    world.enqueue([line(9, "other")])
    origin = world.messages.read_history(2).origin
    assert (origin.position, origin.size, origin.delay_ms, origin.kind) == (2, 3, 2000, "file")


def test_a_message_to_somebody_is_found_by_the_address(world: World) -> None:
    world.send_later("a", "b")
    (found,) = world.messages.list_newest(MessageFilter(address=address(2)), before_id=None, limit=10)
    assert found.id == 2
