"""Sending failed messages again: which ones an index or a name means, who is refused, and when the rest are due."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from wa_cli.domain.message import MessageId, State, format_batch_id, format_message_id, parse_message_id
from wa_cli.domain.resend import Requeue, find_refusal
from wa_cli.errors import Conflict, NotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from wa_cli.domain.receipt import Standing
    from wa_cli.domain.resend import Candidate

# Messages a transaction: what a person chooses by hand always fits into one.
CHUNK_ROWS: Final = 5_000
PRINT_AGAIN: Final = "run `wa failed list` again: indexes count in the list last printed"


class PrintedEntry(Protocol):
    """One entry of the list last printed, and whether its message is still as it was then."""

    @property
    def message_id(self) -> MessageId: ...
    @property
    def is_current(self) -> bool: ...
    @property
    def standing(self) -> Standing: ...


class PrintedList(Protocol):
    def count_printed(self) -> int: ...

    def find_printed(self, positions: Sequence[int]) -> Mapping[int, PrintedEntry]: ...


class ResendTurn(Protocol):
    """One transaction of a resend."""

    def read_candidates(self, message_ids: Sequence[int]) -> list[Candidate]: ...

    def next_failed(self, *, subgroup: str | None, campaign: str | None, after_id: int, limit: int) -> list[int]: ...

    def add_batch(
        self, instance_id: int, *, delay_ms: int, priority: int, now_ms: int, actor: str | None = None
    ) -> int: ...

    def requeue(self, goes: Sequence[Requeue], *, duplicate_window_ms: int, now_ms: int) -> None: ...


class FailureStore(Protocol):
    def resend_turn(self, *, is_dry_run: bool = False) -> AbstractContextManager[ResendTurn]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ResendOrder:
    """What is asked for.  message_ids: these, in this order; None for all listed failures of the subgroup and campaign.

    delay_ms: between two messages.  force: permanent errors too.  actor: who asked for it over the HTTP API, or None.
    """

    message_ids: Sequence[MessageId] | None
    subgroup: str | None = None
    campaign: str | None = None
    delay_ms: int
    force: bool
    is_dry_run: bool
    duplicate_window_ms: int
    actor: str | None = None


@dataclass(slots=True, kw_only=True)
class Resent:
    """What a resend did.

    due: (message id, due time) of those that went back, in their order.  refused: (message id, reason).
    batches: batch id by instance id.
    """

    due: list[tuple[MessageId, int]] = field(default_factory=list)
    refused: list[tuple[MessageId, str]] = field(default_factory=list)
    batches: dict[int, int] = field(default_factory=dict)


def resolve_words(words: Sequence[str], printed: PrintedList) -> list[MessageId]:
    """The messages that indexes (`0`) and ids (`m12`) stand for, each once, in the order given.

    Raises: UsageError for a word that is neither or an index outside the list; Conflict for one whose message has
    changed since the list was printed: it would not be what the reader saw.
    """
    positions = {word: int(word) for word in words if re.fullmatch(r"\d{1,9}", word, re.ASCII)}
    entries = printed.find_printed(list(positions.values())) if positions else {}
    chosen: list[MessageId] = []
    for word in words:
        position = positions.get(word)
        if position is None:
            chosen.append(_parse_id(word))
            continue
        entry = entries.get(position)
        if entry is None:
            raise _no_index(position, printed.count_printed())
        if not entry.is_current:
            name = format_message_id(entry.message_id)
            raise Conflict(
                f"{position} of the printed list was {name}, which has changed since: it is {entry.standing} now",
                hint=PRINT_AGAIN,
                code="stale_index",
            )
        chosen.append(entry.message_id)
    return list(dict.fromkeys(chosen))


def resend(store: FailureStore, order: ResendOrder, *, now_ms: int) -> Resent:
    """Put failed messages back into the queue, progressively delayed from now.

    What an order names is done in one transaction, up to 5,000 messages; more are done 5,000 at a time, and a call
    that is cut short is finished by the same call.
    Raises: NotFound for an id, subgroup or campaign that does not exist; nothing was changed then.
    Source: rows R7, R8, R9.
    """
    result = Resent()
    claimed: dict[tuple[int, int, int], MessageId] = {}
    after_id = 0
    remaining = list(order.message_ids) if order.message_ids is not None else None
    while True:
        with store.resend_turn(is_dry_run=order.is_dry_run) as turn:
            if remaining is None:
                chunk = turn.next_failed(
                    subgroup=order.subgroup, campaign=order.campaign, after_id=after_id, limit=CHUNK_ROWS
                )
            else:
                chunk, remaining = list(remaining[:CHUNK_ROWS]), remaining[CHUNK_ROWS:]
            candidates = turn.read_candidates(chunk)
            _check_all_found(chunk, candidates)
            if not order.is_dry_run:
                claimed.clear()  # the store knows them by now
            _resend_chunk(turn, order, candidates, result, claimed, now_ms=now_ms)
        after_id = chunk[-1] if chunk else after_id
        if len(chunk) < CHUNK_ROWS or remaining == []:
            return result


def _resend_chunk(
    turn: ResendTurn,
    order: ResendOrder,
    candidates: Sequence[Candidate],
    result: Resent,
    claimed: dict[tuple[int, int, int], MessageId],
    *,
    now_ms: int,
) -> None:
    goes: list[Requeue] = []
    for candidate in candidates:
        reason = find_refusal(candidate, force=order.force, now_ms=now_ms)
        twin = claimed.get(candidate.words)
        if reason is None and twin is not None and not candidate.holder_is_meant:
            reason = f"the same words to the same recipient are {State.QUEUED} as {format_message_id(twin)}"
        if reason is not None:
            result.refused.append((candidate.message_id, reason))
            continue
        claimed[candidate.words] = candidate.message_id
        goes.append(_requeue(turn, order, candidate, result, now_ms=now_ms))
    if goes and not order.is_dry_run:
        turn.requeue(goes, duplicate_window_ms=order.duplicate_window_ms, now_ms=now_ms)


def _requeue(turn: ResendTurn, order: ResendOrder, candidate: Candidate, result: Resent, *, now_ms: int) -> Requeue:
    instance_id = candidate.instance_id
    if instance_id not in result.batches:
        # An instance spaces its own lane, so each gets a batch of its own.
        result.batches[instance_id] = (
            0
            if order.is_dry_run
            else turn.add_batch(
                instance_id, delay_ms=order.delay_ms, priority=candidate.priority, now_ms=now_ms, actor=order.actor
            )
        )
    batch_id = result.batches[instance_id]
    due_at_ms = now_ms + len(result.due) * order.delay_ms
    result.due.append((candidate.message_id, due_at_ms))
    details = f"{format_batch_id(batch_id)}, number {len(result.due)}, {order.delay_ms} ms apart"
    if order.actor is not None:
        details += f", asked for by {order.actor}"
    return Requeue(
        candidate=candidate,
        batch_id=batch_id,
        due_at_ms=due_at_ms,
        details=f"{details}, forced" if order.force else details,
        claims_key=not candidate.is_held_by_other,
    )


def _check_all_found(message_ids: Sequence[int], candidates: Sequence[Candidate]) -> None:
    found = {candidate.message_id for candidate in candidates}
    for message_id in message_ids:
        if message_id not in found:
            raise NotFound(
                f"there is no message {format_message_id(message_id)}",
                hint="`wa failed list` shows the failed ones",
                code="no_message",
            )


def _parse_id(word: str) -> MessageId:
    try:
        return parse_message_id(word)
    except UsageError as error:
        raise UsageError(
            f"'{word}' is neither an index nor a message id",
            hint="`wa failed list` prints both: an index is 0, 1, 2, an id is m42",
            code="no_index",
        ) from error


def _no_index(position: int, size: int) -> UsageError:
    if size == 0:
        return UsageError(
            f"there is no printed list that {position} could count in",
            hint="run `wa failed list` first, or give ids like m42",
            code="no_index",
        )
    last = "only 0" if size == 1 else f"0 to {size - 1}"
    return UsageError(f"the printed list has no {position}: it has {last}", hint=PRINT_AGAIN, code="no_index")
