"""Which messages of one instance leave now, of those that wait: by lane, priority, share, and what each row says.

A row that may not leave is put off, parked or dropped with its reason, which costs a write: how many of those one turn
takes on is bounded.  Only turns touch any of it, on the writer thread.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from typing import TYPE_CHECKING, Final

from wa_cli.domain.message import AttemptId, State, Template
from wa_cli.domain.pacing import PRIORITY_BULK, Shares, batch_of, priority_of
from wa_cli.domain.restriction import known_since_ms, put_off_until_ms
from wa_cli.services.pace import CACHED, limit_ends_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wa_cli.domain.connection import Restriction
    from wa_cli.domain.message import Content
    from wa_cli.ports import BatchTerms, Due, Lease, Queue, QueueTurn
    from wa_cli.services.pace import Pace

# Messages of a template that is held without a known end are looked at again this often.
TEMPLATE_LOOK_MS: Final = 3_600_000
# Of one lane, looked at together when a restriction keeps strangers back; putting them off so costs an eighth each.
STRANGERS_TOGETHER: Final = 2_000
# What becomes of a message is known soon whose turn depends on others to the same person that are on their way.
UNANSWERED_LOOK_MS: Final = 5_000
ROWS_PER_LOOK: Final = 100
# Messages put off or dropped in one turn, of one lane and in all: a backlog of expired ones may not hold the store for
# minutes, nor one lane keep the others waiting.  Between two such turns the store is free for others for a while.
PASSED_OVER_PER_LANE: Final = 250
PASSED_OVER_AT_MOST: Final = 1_000
BREATH_MS: Final = 5.0
# Parked messages put back in one turn: some tens of milliseconds of the store's time.
UNPARKED_AT_MOST: Final = 5_000
DONE: Final = object()


@dataclass(slots=True, kw_only=True)
class Started:
    """A message whose start is on the disk and whose post may begin.  at_ms, at: of the start, on both clocks."""

    attempt_id: AttemptId
    at_ms: int
    at: float
    due: Due
    terms: BatchTerms
    content: Content


@dataclass(slots=True, kw_only=True)
class Chosen:
    """What leaves, and what waits.

    wakes_at_ms: on the steady clock, when something may be startable next, or None.
    has_due: some message is due and waits only for a limit, a rest or a free slot.  has_waiting: some message waits.
    """

    started: list[Started] = field(default_factory=list)
    wakes_at_ms: float | None = None
    has_due: bool = False
    has_waiting: bool = False


@dataclass(slots=True, kw_only=True)
class Choice:
    """What one turn has chosen so far.

    free: how many it may.  spaced: batches with a delay of which one leaves.  touched: lanes whose first waiting
    message may be another now.  passed_over: rows put off or dropped.  has_swept: rows that were read are no longer
    due and have to be read again.  held: templates and until when, once one wants to leave.
    """

    free: int
    now_ms: int
    now: float
    restriction: Restriction | None
    rows: list[tuple[Due, BatchTerms, Content]] = field(default_factory=list)
    spaced: set[int] = field(default_factory=set)
    touched: set[int] = field(default_factory=set)
    passed_over: int = 0
    has_swept: bool = False
    held: dict[tuple[str, str], int | None] | None = None


class Chooser:
    """Chooses for one instance, turn by turn."""

    def __init__(self, *, queue: Queue, lease: Lease, pace: Pace, only_batch: int | None) -> None:
        """only_batch: look at the messages of this batch alone."""
        self._queue = queue
        self._lease = lease
        self._pace = pace
        self._only_batch = only_batch
        self._shares = Shares()
        self._contents: OrderedDict[int, Content] = OrderedDict()
        self._held_runs: dict[int, bool] = {}  # of this turn, those that were asked about
        self._parked_runs: set[int] | None = None  # those that have parked messages; None before it has been read

    def begin_turn(self, store: QueueTurn) -> None:
        """Ask anew which campaigns are held, and put the parked messages of the others back into their lanes.

        Before anything is looked at or chosen.
        """
        self._held_runs.clear()
        if self._parked_runs is None:
            self._parked_runs = set(store.list_parked_runs(self._lease.instance_id))
        if self._parked_runs:
            self._unpark(store, self._parked_runs)

    def forget_turn(self) -> None:
        """The turn came to nothing: what it has parked or put back is read again."""
        self._parked_runs = None

    def look(self, store: QueueTurn, *, now_ms: int, now: float) -> Chosen:
        """What waits while nothing may leave."""
        chosen = Chosen()
        self._note_waiting(store, chosen, self._heads(store), now_ms=now_ms, now=now)
        return chosen

    def choose(
        self, store: QueueTurn, *, free: int, restriction: Restriction | None, now_ms: int, now: float
    ) -> Chosen:
        """Start what may start, and find out when to look again.  free: how many may start.

        restriction: of the number, that is in force and may keep some messages back.
        """
        choice = Choice(free=free, now_ms=now_ms, now=now, restriction=restriction)
        self._pace.begin_choice()
        heads = self._heads(store)
        self._fill(store, heads, choice)
        chosen = Chosen(started=self._start(store, choice) if choice.rows else [])
        if len(choice.rows) >= free:
            # No slot is left: the next landing wakes the loop.
            self._note_waiting(store, chosen, heads, now_ms=now_ms, now=now)
            return chosen
        heads = self._read_again(store, heads, choice.touched)
        self._note_waiting(store, chosen, heads, now_ms=now_ms, now=now)
        if heads:
            chosen.wakes_at_ms = max(self._find_first(store, heads, choice), self._pace.windows.worth_waking_at(now))
            if choice.passed_over >= PASSED_OVER_PER_LANE:
                chosen.wakes_at_ms = max(chosen.wakes_at_ms, now + BREATH_MS)
        if any(not self._is_run_held(store, run_id) for run_id in self._parked_runs or ()):
            chosen.wakes_at_ms = now + BREATH_MS  # more than one turn's worth goes back to its lanes
        return chosen

    # --- lanes ---

    def _heads(self, store: QueueTurn) -> list[tuple[int, int]]:
        heads = store.lane_heads(self._lease.instance_id)
        if self._only_batch is None:
            return heads
        return [(lane, due) for lane, due in heads if batch_of(lane) == self._only_batch]

    def _fill(self, store: QueueTurn, heads: Sequence[tuple[int, int]], choice: Choice) -> None:
        """Choose from the lanes, the most urgent first; campaigns share what is left."""
        sharing: list[int] = []
        for lane, head_ms in sorted(heads, key=lambda head: (priority_of(head[0]), head[1])):
            if self._is_full(choice):
                break
            if head_ms > choice.now_ms:
                continue
            if priority_of(lane) >= PRIORITY_BULK:
                sharing.append(lane)
                continue
            if self._pace.lane_allowed_at(store, lane, now_ms=choice.now_ms, now=choice.now) > choice.now:
                continue
            for _start in self._take_from(store, lane, choice, want=choice.free - len(choice.rows)):
                if self._is_full(choice):
                    break
        if sharing:
            self._share(store, sharing, choice)

    def _share(self, store: QueueTurn, lanes: Sequence[int], choice: Choice) -> None:
        """Choose from several campaigns, each by its weight, one message at a time."""
        weights = {lane: self._pace.read_terms(store, batch_of(lane)).weight for lane in lanes}
        free, sum_of_weights = choice.free - len(choice.rows), sum(weights.values())
        order = [(self._shares.place(lane), number, lane) for number, lane in enumerate(lanes)]
        heapify(order)
        takers: dict[int, Iterator[None]] = {}
        while order and not self._is_full(choice):
            _place, number, lane = order[0]
            taker = takers.get(lane)
            if taker is None:
                if self._pace.lane_allowed_at(store, lane, now_ms=choice.now_ms, now=choice.now) > choice.now:
                    heappop(order)
                    continue
                want = -(-free * weights[lane] // sum_of_weights)
                taker = takers[lane] = self._take_from(store, lane, choice, want=want)
            if next(taker, DONE) is DONE:
                heappop(order)
                continue
            self._shares.note(lane, weights[lane])
            heapreplace(order, (self._shares.place(lane), number, lane))

    def _take_from(self, store: QueueTurn, lane: int, choice: Choice, *, want: int) -> Iterator[None]:
        """Choose from one lane, another one each time it is asked.  want: how many are asked for, most likely."""
        now_ms, now, pace = choice.now_ms, choice.now, self._pace
        lane_batch = batch_of(lane)
        delay_ms = pace.read_terms(store, lane_batch).delay_ms if lane_batch else 0
        own = pace.own_windows(store, lane_batch, now_ms=now_ms, now=now)
        want = 1 if delay_ms else min(want, pace.windows.room_at(now))
        taken: set[int] = set()
        most = choice.passed_over + PASSED_OVER_PER_LANE
        choice.touched.add(lane)
        while True:
            rows = store.read_due(
                self._lease.instance_id, lane, now_ms=now_ms, limit=min(max(want, 8), ROWS_PER_LOOK) + len(taken)
            )
            fresh = [row for row in rows if row.message_id not in taken]
            for row in fresh:
                if own is not None and limit_ends_at(own, now) > now:
                    return
                terms = pace.read_terms(store, row.batch_id)
                content = self._may_start(store, row, terms, choice)
                if content is None:
                    choice.passed_over += 1
                    has_swept, choice.has_swept = choice.has_swept, False
                    if choice.passed_over >= most:
                        return
                    if has_swept:
                        break
                    continue
                taken.add(row.message_id)
                choice.rows.append((row, terms, content))
                pace.note_start(store, row, terms, now_ms=now_ms, now=now)
                if delay_ms:
                    choice.spaced.add(lane_batch)
                    pace.note_lane(lane, delay_ms, due_at=now + (row.due_at_ms - now_ms), now=now)
                yield
                if delay_ms:
                    return
            if not fresh:
                return

    def _is_full(self, choice: Choice) -> bool:
        """Whether nothing more may start in this turn, from whatever lane."""
        return (
            len(choice.rows) >= choice.free
            or self._pace.windows.allowed_at(choice.now) > choice.now
            or choice.passed_over >= PASSED_OVER_AT_MOST
        )

    def _start(self, store: QueueTurn, choice: Choice) -> list[Started]:
        attempt_ids = store.start(
            [due for due, _terms, _content in choice.rows],
            lease=self._lease,
            now_ms=choice.now_ms,
            spaced_batches=choice.spaced,
        )
        if self._pace.opening:
            store.note_chats(self._lease.instance_id, self._pace.opening, now_ms=choice.now_ms)
        return [
            Started(
                attempt_id=AttemptId(attempt_id),
                at_ms=choice.now_ms,
                at=choice.now,
                due=due,
                terms=terms,
                content=content,
            )
            for attempt_id, (due, terms, content) in zip(attempt_ids, choice.rows, strict=True)
        ]

    # --- what waits ---

    def _read_again(
        self, store: QueueTurn, heads: Sequence[tuple[int, int]], touched: set[int]
    ) -> list[tuple[int, int]]:
        """The heads after this turn: only those of lanes that it has touched have changed."""
        again: list[tuple[int, int]] = []
        for lane, head_ms in heads:
            due_ms = store.read_head(self._lease.instance_id, lane) if lane in touched else head_ms
            if due_ms is not None:
                again.append((lane, due_ms))
        return again

    def _note_waiting(
        self, store: QueueTurn, chosen: Chosen, heads: Sequence[tuple[int, int]], *, now_ms: int, now: float
    ) -> None:
        chosen.has_waiting = bool(heads)
        is_limited = bool(heads) and self._pace.is_limited_at(now)
        chosen.has_due = is_limited or any(
            due <= now_ms and not self._pace.is_long_limited(store, lane, now_ms=now_ms, now=now) for lane, due in heads
        )

    def _find_first(self, store: QueueTurn, heads: Sequence[tuple[int, int]], choice: Choice) -> float:
        """When the first of these lanes may start another message."""
        now_ms, now = choice.now_ms, choice.now
        first = float("inf")
        for lane, head_ms in heads:
            if now + (head_ms - now_ms) < first:
                wakes_at = self._pace.lane_wakes_at(store, lane, now_ms=now_ms, now=now)
                first = min(first, max(now + (head_ms - now_ms), wakes_at))
            if first <= now:
                break
        return first

    # --- campaigns that are held back ---

    def _is_run_held(self, store: QueueTurn, run_id: int) -> bool:
        is_held = self._held_runs.get(run_id)
        if is_held is None:
            is_held = self._held_runs[run_id] = store.is_run_held(run_id)
        return is_held

    def _unpark(self, store: QueueTurn, runs: set[int]) -> None:
        left = UNPARKED_AT_MOST
        for run_id in [run_id for run_id in runs if not self._is_run_held(store, run_id)]:
            unparked = store.unpark(self._lease.instance_id, run_id, limit=left)
            left -= unparked
            if left <= 0:
                return
            runs.discard(run_id)

    # --- one row ---

    def _may_start(self, store: QueueTurn, row: Due, terms: BatchTerms, choice: Choice) -> Content | None:
        """What the row says, if it may leave now; if not, it has been put off or dropped with its reason.

        terms: of the batch it was queued by.
        """
        now_ms, now = choice.now_ms, choice.now
        if row.expires_at_ms is not None and row.expires_at_ms <= now_ms:
            store.drop(row, state=State.EXPIRED, rule="expired", details=None, now_ms=now_ms)
            return None
        if row.run_id is not None and self._is_run_held(store, row.run_id):
            store.park(row, rule="campaign_paused", now_ms=now_ms)
            self._parked_runs = {*(self._parked_runs or ()), row.run_id}
            return None
        if terms.quiet is not None:
            opens_at_ms, rule = self._pace.opens_at_ms(terms.quiet, now_ms)
            if opens_at_ms > now_ms:
                store.defer(row, until_ms=opens_at_ms, rule=rule, now_ms=now_ms)
                return None
        if self._keeps_back(store, row, choice):
            return None
        if row.has_opted_out:
            store.drop(row, state=State.SKIPPED, rule="opted_out", details=None, now_ms=now_ms)
            return None
        content = self._content(row.content_id)
        if content is None:
            details = "the stored words no longer match their checksum"
            store.drop(row, state=State.FAILED, rule="content_damaged", details=details, now_ms=now_ms)
            return None
        if row.twin_id is not None:
            twin_state = store.read_state(row.twin_id)
            if twin_state in (State.QUEUED, State.SENDING, State.SENT, State.UNKNOWN):
                store.drop(
                    row, state=State.SKIPPED, rule="duplicate", details=f"m{row.twin_id} is {twin_state}", now_ms=now_ms
                )
                return None
        if isinstance(content, Template) and self._is_template_held(store, row, content, choice):
            return None
        if self._pace.limits.unanswered_per_person and self._is_unanswered(store, row, now_ms=now_ms):
            return None
        allowed_at, rule = self._pace.find_allowed(store, row, terms, now_ms=now_ms, now=now)
        if allowed_at > now:
            allowed_at = self._pace.take_place(rule, row, allowed_at=allowed_at, now=now)
            store.defer(row, until_ms=now_ms + max(1, round(allowed_at - now)), rule=rule, now_ms=now_ms)
            self._pace.note_limited(allowed_at, now=now)
            return None
        return content

    def _content(self, content_id: int) -> Content | None:
        content = self._contents.get(content_id)
        if content is None:
            content = self._queue.read_content(content_id)
            if content is not None:
                self._contents[content_id] = content
                if len(self._contents) > CACHED:
                    self._contents.popitem(last=False)
        return content

    def _is_template_held(self, store: QueueTurn, row: Due, template: Template, choice: Choice) -> bool:
        """Whether the template is held; then the message has been put off."""
        if choice.held is None:
            choice.held = store.read_held_templates(self._lease.instance_id, now_ms=choice.now_ms)
        key = (template.name, template.language)
        if key not in choice.held:
            return False
        until_ms = choice.held[key] or choice.now_ms + TEMPLATE_LOOK_MS
        store.defer(row, until_ms=until_ms, rule="template_held", now_ms=choice.now_ms)
        return True

    def _is_unanswered(self, store: QueueTurn, row: Due, *, now_ms: int) -> bool:
        """Whether enough was said to a person who does not answer; then the message is dropped, or waits for others."""
        if row.kind != "person":
            return False
        most = self._pace.limits.unanswered_per_person
        unanswered, on_their_way = store.count_unanswered(self._lease.instance_id, row.contact_id)
        if unanswered >= most:
            details = f"{unanswered} in a row without an answer"
            store.drop(row, state=State.SKIPPED, rule="unanswered", details=details, now_ms=now_ms)
            return True
        if unanswered + on_their_way + self._pace.chosen[row.contact_id] < most:
            return False
        store.defer(row, until_ms=now_ms + UNANSWERED_LOOK_MS, rule="recipient_limit", now_ms=now_ms)
        return True

    def _keeps_back(self, store: QueueTurn, row: Due, choice: Choice) -> bool:
        """Whether a restriction keeps this message back; then it has been put off, and with it others like it."""
        restriction, now_ms = choice.restriction, choice.now_ms
        if restriction is None:
            return False
        since_ms = known_since_ms(restriction, now_ms=now_ms)
        if since_ms is None or store.people.knows(self._lease.instance_id, row.contact_id, since_ms=since_ms):
            return False  # what holds everything back is no matter of single messages
        put_off = store.defer_strangers(
            self._lease.instance_id,
            row.lane,
            known_since_ms=since_ms,
            until_ms=put_off_until_ms(restriction, now_ms=now_ms),
            rule="restricted",
            now_ms=now_ms,
            limit=STRANGERS_TOGETHER,
        )
        choice.passed_over += put_off * PASSED_OVER_PER_LANE // STRANGERS_TOGETHER
        choice.has_swept = True
        return True
