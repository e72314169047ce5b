"""The send loop of one instance: take what is due inside the limits, post it, record what became of it.

One `turn` is one transaction on the writer thread: it records finished posts and starts new ones, so that starts and
outcomes share commits.  A start is durable before its post begins.  The daemon, a drain and a foreground wait all run
this same loop; they differ in when it ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from typing import TYPE_CHECKING, Final

from wa_cli.cuts import cut
from wa_cli.domain.connection import NEEDS_A_PERSON, ConnectionState, Restriction, RestrictionScope
from wa_cli.domain.message import AttemptId, State, Template
from wa_cli.domain.outcome import Accepted, Ambiguous, ErrorClass, NotSent, Rejected
from wa_cli.domain.pacing import (
    PRIORITY_BULK,
    SLOTS_AT_MOST,
    SLOTS_AT_START,
    Breaker,
    Shares,
    Windows,
    batch_of,
    look_back_ms,
    next_slots,
    priority_of,
)
from wa_cli.domain.restriction import in_force, known_since_ms, widen
from wa_cli.domain.retry import ACCEPTED, Down, Effect, Rest, Restrict, RetryPolicy, Stop, judge, restriction_of
from wa_cli.errors import StorageBroken, StorageError, Temporary, WaError
from wa_cli.ports import Finished, Post, Record, Sums
from wa_cli.services.receipts import apply_consequence, apply_parked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Executor

    from wa_cli.domain.message import Content
    from wa_cli.domain.pacing import Limits
    from wa_cli.domain.retry import Verdict
    from wa_cli.ports import BatchTerms, Clock, Due, InstanceStanding, Lease, Queue, QueueTurn, Transport

log = logging.getLogger("wa.dispatch")

# Of a lease, renewed when so much has passed: two renewals may fail before another holder can take over.
RENEWED_AT: Final = 1 / 3
# A post does not begin this close to the end of its lease: the next holder may already be looking at the row.
LEASE_MARGIN_MS: Final = 1_000
# Nor so long after its start: limits count starts, and a process that slept in between would send two at once.
LATEST_POST_MS: Final = 5_000
STORE_RETRY_SECONDS: Final = 1.0
# How long a loop that was told to stop goes on offering its outcomes to a store that takes none.
STOP_PATIENCE_MS: Final = 5_000
# A start this late still counts as on time, so that a small lateness does not push the whole schedule back.
LATENESS_FORGIVEN_MS: Final = 50.0
LEAP_MS: Final = 300_000.0  # fault 31
# A drain sits out a limit of one recipient when it is shorter than this: longer ones are another run's business.
SHORT_LIMIT_MS: Final = 10_000.0
# A limit ends on the steady clock and the message it put off is due on the wall clock, which is rounded to milliseconds
# and may be running slow to be set right: so long after the limit's end the message may still not be due.
CLOCKS_APART_MS: Final = 100.0
# Messages of a template that is held without a known end are looked at again this often.
TEMPLATE_LOOK_MS: Final = 3_600_000
QUIET_LOOK_MS: Final = 3_600_000
# And those that a restriction without a stated end keeps back, once a day; lifting it makes them due at once.
RESTRICTION_LOOK_MS: Final = 86_400_000
# Of one lane, looked at together when a restriction keeps strangers back; putting them off so costs an eighth each.
STRANGERS_TOGETHER: Final = 2_000
# What becomes of a message is known soon whose turn depends on others to the same person that are on their way.
UNANSWERED_LOOK_MS: Final = 5_000
# So many of those who wait for a budget have a place of their own in it.
PLACES_AT_MOST: Final = 1_000
OPENINGS_REMEMBERED: Final = 1_000
ROWS_PER_LOOK: Final = 100
# Messages put off or dropped in one turn, of one lane and in all: a backlog of expired ones may not hold the store for
# minutes, nor one lane keep the others waiting.  Between two such turns the store is free for others for a while.
PASSED_OVER_PER_LANE: Final = 250
PASSED_OVER_AT_MOST: Final = 1_000
BREATH_MS: Final = 5.0
# Parked messages put back in one turn: some tens of milliseconds of the store's time.
UNPARKED_AT_MOST: Final = 5_000
# An acceptance waits this long for others to share its commit, and less when due messages wait for its slot.  The last
# one in flight and everything but an acceptance are recorded at once.
GATHER_SECONDS: Final = 0.04
GATHER_STARVED_SECONDS: Final = 0.005
GATHER_STARVED_SHARE: Final = 0.8  # of the slots: what has landed by then is worth a commit of its own
CACHED: Final = 10_000  # contents, terms and lanes kept in memory
RUNS_REMEMBERED: Final = 1_000  # campaigns with limits of their own; what one has sent can be read again
SOMEBODY_NEW: Final = 0  # no contact has this number
DONE: Final = object()


# Calls back after so many seconds, on the event loop's thread; what it returns cancels that.
Alarm = Callable[[float, Callable[[], None]], Callable[[], None]]


def _asyncio_alarm(seconds: float, ring: Callable[[], None]) -> Callable[[], None]:
    return asyncio.get_running_loop().call_later(seconds, ring).cancel


class LeaseLost(WaError):  # it is a state of affairs, caught by whoever runs the loop
    """Another holder has taken over; this one may neither post nor record."""

    exit_code = 8
    default_code = "lease_lost"


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
class Turn:
    """What one turn brought.

    wakes_at_ms: on the steady clock, when something may be startable next, or None.
    has_due: some message is due and waits only for a limit, a rest or a free slot.  has_waiting: some message waits.
    is_paused: nothing leaves before a person or the end of a restriction changes that.  is_lost: the linked device is
    not connected, and may be again at any moment.
    """

    started: list[Started] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    wakes_at_ms: float | None = None
    has_due: bool = False
    has_waiting: bool = False
    is_paused: bool = False
    is_lost: bool = False


@dataclass(slots=True, kw_only=True)
class Choice:
    """What one turn starts.  free: how many it may.  touched: lanes whose first waiting message may be another now."""

    free: int
    now_ms: int
    now: float
    rows: list[tuple[Due, BatchTerms, Content]] = field(default_factory=list)
    spaced: set[int] = field(default_factory=set)
    touched: set[int] = field(default_factory=set)


class SendLoop:
    """Sends for one instance while its lease holds.

    The decisions of a turn run on the executor's only thread; everything they touch (windows, lanes, breaker) is
    touched there alone.
    """

    def __init__(
        self,
        *,
        queue: Queue,
        transport: Transport,
        clock: Clock,
        executor: Executor,
        lease: Lease,
        limits: Limits | Callable[[int], Limits],
        policy: RetryPolicy,
        install: str,
        jitter: Callable[[], float],
        concurrency: int | None = None,
        only_batch: int | None = None,
        start_limit: int | None = None,
        on_progress: Callable[[Record], None] | None = None,
        alarm: Alarm | None = None,
    ) -> None:
        """limits: or what tells them for a moment (ms since 1970), where they change with the age of the number.

        concurrency: posts in flight, or None to let it grow with the work.  start_limit: stop taking after so many.

        on_progress: told of each record once it is stored.  alarm: what wakes the loop, asyncio's timer by default.
        """
        self._queue = queue
        self._transport = transport
        self._clock = clock
        self._executor = executor
        self._lease = lease
        self._find_limits = limits if callable(limits) else None
        self._limits = limits(clock.wall_ms()) if callable(limits) else limits
        self._policy = policy
        self._install = install
        self._jitter = jitter
        self._adapts = concurrency is None
        self._slots = concurrency or SLOTS_AT_START
        self._only_batch = only_batch
        self._start_limit = start_limit
        self._on_progress = on_progress
        self._alarm = alarm or _asyncio_alarm
        self._windows = Windows(self._limits)
        # When those who wait for a budget of new people or new chats have their place in it, soonest first.
        self._places: dict[str, deque[float]] = {"new_people_limit": deque(), "new_chats_limit": deque()}
        self._chosen: Counter[int] = Counter()  # messages of this turn, by contact
        self._opening: set[int] = set()  # people with whom this turn opens a chat
        self._is_rebuilt = False
        self._restriction: Restriction | None = None  # in force in this turn
        self._breaker = Breaker()
        self._lane_free_at: dict[int, float] = {}
        self._terms: OrderedDict[int, BatchTerms] = OrderedDict()
        self._contents: OrderedDict[int, Content] = OrderedDict()
        self._lease_ends_at_ms = lease.expires_at_ms
        self._lease_ends_steady_ms = clock.steady_ms() + lease.length_ms
        self._renew_seconds = lease.length_ms * RENEWED_AT / 1000
        self._finished: list[Finished] = []
        self._judged: dict[int, tuple[Verdict, Sequence[Effect]]] = {}
        self._rest = (0, float("-inf"))  # the last one it took: its end on the wall clock and on the steady one
        self._in_flight: dict[asyncio.Task[None], Started] = {}
        self._wake = asyncio.Event()
        self._next_turn_at_ms = float("-inf")  # on the steady clock; the turn that is being taken is one
        self._gathering: Callable[[], None] | None = None  # cancels the wait of what has landed
        self._is_urgent = False
        self._is_starved = False
        self._limited_until = float("-inf")
        self._clock_offset: float | None = None
        self._leap: Stop | None = None  # found, and perhaps not on the disk yet
        self._slowed_at = float("-inf")
        self._opened_at = float("-inf")  # when the breaker last asked for a rest
        self._passed_over = 0
        self._has_swept = False  # rows that were read are no longer due: they are read again
        self._held: dict[tuple[str, str], int | None] | None = None  # of this turn, once a template wants to leave
        self._held_runs: dict[int, bool] = {}  # of this turn, those that were asked about
        self._parked_runs: set[int] | None = None  # those that have parked messages; None before it has been read
        self._shares = Shares()
        # By the words of the batch: the moment asked about, the next opening from then, its end, the rule for waiting.
        self._openings: dict[str, tuple[int, int, int, str]] = {}
        self._run_windows: OrderedDict[int, Windows] = OrderedDict()
        self._is_stopping = False
        self._stopped_at_ms = 0.0
        self._is_abandoned = False
        self.sums = Sums()
        self.lost: ConnectionState | None = None  # of a linked device that was not ready at the last turn
        self.trouble: WaError | None = None

    # --- steering, from the event loop's thread ---

    def wake(self) -> None:
        """Look again now: something was enqueued, resumed or settled."""
        self._wake.set()

    def looks_within(self, ms: float) -> bool:
        """Whether the loop will look at the queue in so many milliseconds by itself."""
        return self._next_turn_at_ms - self._clock.steady_ms() <= ms

    def stop(self) -> None:
        """Start nothing more; `run` returns once what is in flight is recorded.

        With a store in trouble it returns 5 s later at the latest, and `trouble` says why.
        """
        if not self._is_stopping:
            self._stopped_at_ms = self._clock.steady_ms()
        self._is_stopping = True
        self._wake.set()

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def unreachable(self) -> str | None:
        """Why the other side could not be reached when it was last tried, or None."""
        return self._breaker.unreachable

    def abandon(self) -> None:
        """Stop even though the store takes no outcomes: what is in memory is given up, and will be found unknown."""
        self._is_abandoned = True
        self.stop()

    async def run(
        self,
        *,
        until_idle: bool,
        patience_seconds: float | None = None,
        deadline_ms: float | None = None,
        waits_for_schedule: bool = False,
    ) -> None:
        """Send until stopped, or until nothing is due.

        until_idle: return when no message is due any more.  patience_seconds: with until_idle, also return when the
        limits would make the next message wait longer than this.  deadline_ms: with until_idle, stay for what can leave
        before this moment of the steady clock, whether it is due already or not.  waits_for_schedule: with until_idle,
        stay as long as any message waits, whenever it is due.
        Raises: LeaseLost when another holder has taken over; StorageError when the store cannot be trusted.
        """
        try:
            while True:
                turn = await self._take_turn()
                if turn is None:
                    if self._may_give_up():
                        return
                    continue
                self._launch(turn.started)
                self._is_starved = turn.has_due and len(self._in_flight) >= self._slots
                self._tell(turn.records)
                if self._is_done(
                    turn,
                    until_idle=until_idle,
                    patience_seconds=patience_seconds,
                    deadline_ms=deadline_ms,
                    waits_for_schedule=waits_for_schedule,
                ):
                    return
                await self._rest_until(turn.wakes_at_ms)
        finally:
            for task in self._in_flight:
                task.cancel()

    def _may_give_up(self) -> bool:
        """Whether to end although the store takes nothing: what is still in memory will be found unknown."""
        if self._in_flight or not self._is_stopping:
            return False
        waited_ms = self._clock.steady_ms() - self._stopped_at_ms
        return self._is_abandoned or not self._finished or waited_ms >= STOP_PATIENCE_MS

    def _is_done(
        self,
        turn: Turn,
        *,
        until_idle: bool,
        patience_seconds: float | None,
        deadline_ms: float | None,
        waits_for_schedule: bool,
    ) -> bool:
        if self._in_flight or self._finished:
            return False
        if self._is_stopping or (self._start_limit is not None and self.sums.started >= self._start_limit):
            return True
        if not until_idle:
            return False
        if turn.is_paused:
            return True
        if turn.is_lost and not waits_for_schedule:  # it may be back any moment, but not for a drain without time
            return deadline_ms is None
        if waits_for_schedule:
            return not turn.has_waiting or self._waits_for_person(turn)
        if deadline_ms is not None and turn.has_waiting:
            return turn.wakes_at_ms is not None and turn.wakes_at_ms > deadline_ms
        if not turn.has_due:
            return True
        if patience_seconds is None or turn.wakes_at_ms is None:
            return False
        return turn.wakes_at_ms - self._clock.steady_ms() > patience_seconds * 1000

    def _waits_for_person(self, turn: Turn) -> bool:
        """Whether nothing is left but what a restriction keeps back that has no end."""
        is_endless = self._restriction is not None and self._restriction.until_ms is None
        if not is_endless or turn.wakes_at_ms is None:
            return False
        return turn.wakes_at_ms - self._clock.steady_ms() > RESTRICTION_LOOK_MS / 2

    async def _take_turn(self) -> Turn | None:
        """One turn on the writer thread, or None when the store was in trouble and has been waited for."""
        finished, self._finished = self._finished, []
        self._next_turn_at_ms = float("-inf")
        self._wake.clear()
        self._is_urgent = False
        if self._gathering is not None:
            self._gathering()
            self._gathering = None
        free = 0 if self._is_stopping else self._free_slots()
        try:
            turn = await asyncio.get_running_loop().run_in_executor(self._executor, self._turn, finished, free)
        except LeaseLost:
            self._finished = finished + self._finished
            await self._hand_over_evidence()
            raise
        except StorageBroken:
            raise
        except (StorageError, Temporary) as error:
            # The outcomes stay in memory and nothing new starts until they are on the disk.
            self._finished = finished + self._finished
            if self.trouble is None:
                log.error("store: %s; nothing is sent until it answers again", error.message)
            self.trouble = error
            self._parked_runs = None
            await self._rest_until(self._clock.steady_ms() + STORE_RETRY_SECONDS * 1000)
            return None
        if self.trouble is not None:
            log.info("store: answers again")
            self.trouble = None
        return turn

    def _free_slots(self) -> int:
        if self._breaker.is_probing:
            return 0 if self._in_flight else 1
        if self._adapts:
            self._slots = next_slots(self._slots, all_busy=self._is_starved, ceiling=SLOTS_AT_MOST)
        free = self._slots - len(self._in_flight)
        if self._start_limit is not None:
            free = min(free, self._start_limit - self.sums.started)
        return max(free, 0)

    async def _rest_until(self, wakes_at_ms: float | None) -> None:
        now = self._clock.steady_ms()
        longest = self._renew_seconds
        wait = longest if wakes_at_ms is None else min(max(wakes_at_ms - now, 0.0) / 1000, longest)
        if wait <= 0.0:
            return
        self._next_turn_at_ms = now + wait * 1000
        cancel = self._alarm(wait, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            cancel()

    async def _hand_over_evidence(self) -> None:
        """The lease is gone: wait for what is in flight and offer the outcomes as evidence."""
        while self._in_flight:
            await asyncio.wait(self._in_flight)
        finished, self._finished = self._finished, []
        if finished:
            loop = asyncio.get_running_loop()
            try:
                settled = await loop.run_in_executor(self._executor, self._settle_late, finished)
            except StorageBroken:
                raise
            except (StorageError, Temporary) as error:
                log.warning("lease lost: %d outcomes could not be handed over: %s", len(finished), error.message)
                return
            log.warning("lease lost: %d outcomes refused, %d unknowns settled by them", len(finished), settled)

    # --- posting ---

    def _launch(self, started: Sequence[Started]) -> None:
        loop = asyncio.get_running_loop()
        for start in started:
            task = loop.create_task(self._post(start))
            self._in_flight[task] = start
            task.add_done_callback(self._land)
        self.sums.started += len(started)

    def _land(self, task: asyncio.Task[None]) -> None:
        self._in_flight.pop(task, None)
        enough = max(int(self._slots * GATHER_STARVED_SHARE), 1) if self._is_starved else ROWS_PER_LOOK
        if self._is_urgent or not self._in_flight or len(self._finished) >= enough:
            self._wake.set()
        elif self._gathering is None:
            seconds = GATHER_STARVED_SECONDS if self._is_starved else GATHER_SECONDS
            self._gathering = self._alarm(seconds, self._wake.set)

    async def _post(self, start: Started) -> None:
        due = start.due
        began = self._clock.steady_ms()
        outcome: Accepted | Rejected | NotSent | Ambiguous
        if self._clock.wall_ms() > self._lease_ends_at_ms - LEASE_MARGIN_MS or (
            began > self._lease_ends_steady_ms - LEASE_MARGIN_MS
        ):
            # This process slept between the commit and now; another holder may have taken over.
            outcome = NotSent(code="lease_ran_out", details="the lease ran out before the post began")
        elif max(began - start.at, self._clock.wall_ms() - start.at_ms) > LATEST_POST_MS:
            # It still has its lease, but the next starts are spaced from a moment that is long past.
            outcome = NotSent(code="overslept", details="the post would have begun long after its start")
        else:
            post = Post(
                tag=f"wa1.{self._install}.{start.attempt_id}",
                address=due.address,
                kind=due.kind,
                content=start.content,
            )
            try:
                cut("post_before")
                outcome = await self._transport.send(post)
                cut("post_after")
            except Exception as error:  # a bug in a transport may cost one outcome, never the loop
                log.exception("transport failed in an unforeseen way")
                outcome = Ambiguous(code="transport_bug", details=type(error).__name__)
        if not isinstance(outcome, Accepted):
            self._is_urgent = True  # it may slow, stop or rest the instance: nothing may leave before that is known
        self._finished.append(
            Finished(
                attempt_id=start.attempt_id,
                message_id=due.message_id,
                contact_id=due.contact_id,
                lane=due.lane,
                address=due.address,
                outcome=outcome,
                latency_ms=round(self._clock.steady_ms() - began),
                attempts=due.attempts,
                refusals=due.refusals,
                max_attempts=start.terms.max_attempts,
                on_unknown=start.terms.on_unknown,
            )
        )

    def _tell(self, records: Sequence[Record]) -> None:
        sums = self.sums
        for record in records:
            match record.state:
                case State.SENT:
                    sums.sent += 1
                case State.FAILED:
                    sums.failed += 1
                case State.UNKNOWN:
                    sums.unknown += 1
                case State.SKIPPED:
                    sums.skipped += 1
                case _:
                    sums.retrying += 1
            if self._on_progress is None:
                continue
            try:
                self._on_progress(record)
            except Exception as error:  # a screen that is gone may not cost the outcomes of what is in flight
                log.warning("progress is not shown any more", exc_info=not isinstance(error, OSError))
                self._on_progress = None

    # --- the turn, on the writer thread ---

    def _turn(self, finished: Sequence[Finished], free: int) -> Turn:
        clock, lease = self._clock, self._lease
        turn = Turn()
        with self._queue.turn() as store:
            now_ms, now = clock.wall_ms(), clock.steady_ms()
            standing = store.read_standing(lease.instance_id)
            if standing.epoch != lease.epoch:
                raise LeaseLost(f"another process sends for '{lease.instance}' now", hint="`wa status` shows which")
            if self._find_limits is not None:
                self._change_limits(store, self._find_limits(now_ms), now_ms=now_ms)
            if not self._is_rebuilt:
                self._rebuild_windows(store, now_ms=now_ms, now=now)
            if now_ms > standing.expires_at_ms - lease.length_ms * (1 - RENEWED_AT):
                expires_at_ms = now_ms + lease.length_ms
                store.renew_lease(lease, expires_at_ms=expires_at_ms)
            else:
                expires_at_ms = standing.expires_at_ms
            rests_until_ms, rests_until = standing.rests_until_ms, self._rests_until(standing, now_ms=now_ms, now=now)
            is_paused, lost = standing.is_paused, standing.lost
            self._restriction = in_force(standing.restriction, now_ms=now_ms)
            self._leap = self._find_leap(now_ms, now) or self._leap
            if self._leap is not None and not is_paused:
                store.apply_effect(lease.instance_id, self._leap, now_ms=now_ms)
                is_paused = True
            if finished:
                turn.records, effects = self._judge(finished, now_ms=now_ms)
                effects += self._find_wider(store, turn.records, now_ms=now_ms)
                store.record(turn.records, now_ms=now_ms)
                self._follow_up(store, turn.records, now_ms=now_ms)
                self._note_talks(store, turn.records)
                for effect in effects:
                    store.apply_effect(lease.instance_id, effect, now_ms=now_ms)
                    if isinstance(effect, Rest):
                        rests_until_ms = max(rests_until_ms, now_ms + round(effect.seconds * 1000))
                        rests_until = max(rests_until, now + effect.seconds * 1000)
                        self._rest = (rests_until_ms, rests_until)
                    elif isinstance(effect, Restrict):
                        standing = store.read_standing(lease.instance_id)
                        self._restriction = in_force(standing.restriction, now_ms=now_ms)
                    elif isinstance(effect, Down):
                        lost = effect.state
                    else:
                        is_paused = True
            turn.is_paused = is_paused or self._holds_everything or lost in NEEDS_A_PERSON
            turn.is_lost = lost is not None and not turn.is_paused
            self.lost = lost
            stands_still = turn.is_paused or turn.is_lost
            if self._breaker.is_probing:
                free = 0 if self._in_flight else min(free, 1)
            self._held_runs.clear()
            if self._parked_runs is None:
                self._parked_runs = set(store.list_parked_runs(lease.instance_id))
            if self._parked_runs:
                self._unpark(store, self._parked_runs)
            if stands_still or rests_until > now:
                self._note_waiting(store, turn, self._heads(store), now_ms=now_ms, now=now)
                if not stands_still:
                    turn.wakes_at_ms = rests_until
                elif self._restriction is not None and self._restriction.until_ms is not None:
                    turn.wakes_at_ms = now + (self._restriction.until_ms - now_ms)
            else:
                self._choose(store, turn, free=free, now_ms=now_ms, now=now)
            if finished:
                cut("record_before")
            if turn.started:
                cut("turn_before_commit")
        cut("turn_after_commit")
        self._judged.clear()
        self._leap = None
        # Only now is the longer lease on the disk, and with it the right to post until then.
        self._lease_ends_at_ms = expires_at_ms
        self._lease_ends_steady_ms = now + (expires_at_ms - now_ms)
        return turn

    def _follow_up(self, store: QueueTurn, records: Sequence[Record], *, now_ms: int) -> None:
        """What the outcomes just recorded bring with them: for people and templates, and receipts that were faster."""
        for record in records:
            outcome = record.finished.outcome
            if isinstance(outcome, Rejected) and outcome.consequence is not None:
                finished = record.finished
                apply_consequence(
                    store,
                    outcome,
                    instance_id=self._lease.instance_id,
                    contact_id=finished.contact_id,
                    message_id=finished.message_id,
                    evidence=f"attempt {finished.attempt_id}",
                    at_ms=now_ms,
                )
        if store.receipts.has_parked():
            apply_parked(store, policy=self._policy, now_ms=now_ms)

    def _find_wider(self, store: QueueTurn, records: Sequence[Record], *, now_ms: int) -> list[Effect]:
        """Restrictions that have met somebody whom they were said to leave alone: nothing more is tried then."""
        wider: list[Effect] = []
        for record in records:
            outcome = record.finished.outcome
            if not isinstance(outcome, Rejected) or outcome.error_class is not ErrorClass.RESTRICTED:
                continue
            restriction = restriction_of(outcome)
            since_ms, contact_id = known_since_ms(restriction, now_ms=now_ms), record.finished.contact_id
            if since_ms is not None and store.people.knows(self._lease.instance_id, contact_id, since_ms=since_ms):
                wider.append(Restrict(restriction=widen(restriction)))
        return wider

    def _note_talks(self, store: QueueTurn, records: Sequence[Record]) -> None:
        """What the posts just recorded were to the people they went to, as far as limits ask for it."""
        if self._limits.new_chats_per_day:
            unsent = [one for one in records if isinstance(one.finished.outcome, Rejected | NotSent)]
            if unsent:
                store.forget_chats(self._lease.instance_id, unsent)
        if self._limits.unanswered_per_person:
            # One whose outcome is unknown may have arrived.
            arrived = [one for one in records if isinstance(one.finished.outcome, Accepted | Ambiguous)]
            store.note_unanswered(self._lease.instance_id, [one.finished.contact_id for one in arrived])

    def _change_limits(self, store: QueueTurn, limits: Limits, *, now_ms: int) -> None:
        """Go on under other limits; starts that they count and that were not kept are read from the store.

        Messages that wait for a place in a budget find a new one: there may be more of them now.
        """
        if limits == self._limits:
            return
        self._limits = limits
        store.recall(self._lease.instance_id, tuple(self._places), now_ms=now_ms)
        for places in self._places.values():
            places.clear()
        if not self._windows.set_limits(limits):
            windows = Windows(limits)
            windows.take_pace(self._windows)
            self._windows, self._is_rebuilt = windows, False

    def _find_leap(self, now_ms: int, now: float) -> Stop | None:
        """A wall clock that leaps ahead makes much due at once that nobody meant to send now: ask first.

        One that is set back only makes messages wait, and comes back without a leap.
        """
        offset = now_ms - now
        leap_ms = offset - self._clock_offset if self._clock_offset is not None else 0.0
        if leap_ms > -LEAP_MS:
            self._clock_offset = offset  # small steps are a clock being kept right
        if leap_ms <= LEAP_MS:
            return None
        return Stop(
            code="clock_leap",
            by="wa",
            reason=f"this computer's clock leapt {leap_ms / 60_000:.0f} min ahead; check it before anything is sent",
        )

    def _rests_until(self, standing: InstanceStanding, *, now_ms: int, now: float) -> float:
        """When the rest ends, on the steady clock: a wall clock that is set may not draw out our own rests."""
        if standing.rests_until_ms == self._rest[0]:
            return self._rest[1]
        return now + (standing.rests_until_ms - now_ms)

    def _rebuild_windows(self, store: QueueTurn, *, now_ms: int, now: float) -> None:
        since_ms = now_ms - round(look_back_ms(self._limits)) - 1
        starts = store.read_starts(self._lease.instance_id, since_ms=since_ms)
        # A start in the future means that the wall clock was set back: count it as made just now.
        openings = (
            store.read_chats(self._lease.instance_id, since_ms=since_ms) if self._limits.new_chats_per_day else ()
        )
        self._windows.rebuild(
            ((contact_id, now - max(now_ms - at_ms, 0)) for contact_id, at_ms in starts),
            openings=[now - max(now_ms - at_ms, 0) for at_ms in openings],
        )
        self._breaker.resume(store.read_unreadable(self._lease.instance_id))
        self._is_rebuilt = True

    def _judge(self, finished: Sequence[Finished], *, now_ms: int) -> tuple[list[Record], list[Effect]]:
        records: list[Record] = []
        effects: list[Effect] = []
        for one in finished:
            # Once for each post: an outcome that the store would not take comes by here again.
            judged = self._judged.get(one.attempt_id)
            if judged is None:
                judged = self._judged[one.attempt_id] = self._judge_one(one)
            verdict, its_effects = judged
            due_at_ms = None
            if verdict is not ACCEPTED:
                effects += its_effects
                if verdict.state is State.QUEUED:
                    due_at_ms = now_ms + round(verdict.wait_seconds * 1000)
                if isinstance(verdict.effect, Restrict):
                    due_at_ms = _put_off_until_ms(verdict.effect.restriction, now_ms=now_ms)
                if verdict.rule == "pair_limit":
                    now = self._clock.steady_ms()
                    self._note_limited(now + verdict.wait_seconds * 1000, now=now)
            records.append(
                Record(
                    finished=one,
                    state=verdict.state,
                    rule=verdict.rule,
                    counted=verdict.counted,
                    refusals=verdict.refusals,
                    due_at_ms=due_at_ms,
                )
            )
        return records, effects

    def _judge_one(self, one: Finished) -> tuple[Verdict, Sequence[Effect]]:
        outcome = one.outcome
        if isinstance(outcome, Accepted):  # nearly all of them
            self._breaker.note_answer()
            self._windows.recover()
            return ACCEPTED, ()
        verdict = judge(
            outcome,
            attempts=one.attempts,
            refusals=one.refusals,
            max_attempts=one.max_attempts,
            on_unknown=one.on_unknown,
            policy=self._policy,
            jitter=self._jitter(),
        )
        effects = [verdict.effect] if verdict.effect else []
        if isinstance(verdict.effect, Rest) and verdict.effect.slow:
            now = self._clock.steady_ms()
            if now - one.latency_ms > self._slowed_at:  # those that were under way by then say nothing new
                self._slowed_at = now
                self._windows.slow_down()
        rest = self._feel(outcome, latency_ms=one.latency_ms)
        if rest:
            effects.append(rest)
        return verdict, effects

    def _note_limited(self, until: float, *, now: float) -> None:
        """A message that was due has been put off by a limit: it still counts as due if that ends soon."""
        if until - now <= SHORT_LIMIT_MS:
            self._limited_until = max(self._limited_until, until)

    def _feel(self, outcome: Rejected | NotSent | Ambiguous, *, latency_ms: int) -> Rest | None:
        """Tell the breaker of a post that was not accepted; the rest it asks for, if any."""
        if isinstance(outcome, Rejected):
            self._breaker.note_answer()
            return None
        now = self._clock.steady_ms()
        if self._breaker.is_probing and now - latency_ms <= self._opened_at:
            return None  # it was under way when the breaker opened: the same trouble, and no longer rest for it
        if isinstance(outcome, NotSent):
            rest_ms = self._breaker.note_not_sent(outcome.details)
        else:
            rest_ms = self._breaker.note_unreadable(outcome.details)
        if rest_ms <= 0.0:
            return None
        self._opened_at = now
        return Rest(seconds=rest_ms / 1000, reason=self._breaker.reason or outcome.details)

    @property
    def _holds_everything(self) -> bool:
        return self._restriction is not None and self._restriction.scope is RestrictionScope.EVERYTHING

    def _heads(self, store: QueueTurn) -> list[tuple[int, int]]:
        heads = store.lane_heads(self._lease.instance_id)
        if self._only_batch is None:
            return heads
        return [(lane, due) for lane, due in heads if batch_of(lane) == self._only_batch]

    def _is_run_held(self, store: QueueTurn, run_id: int) -> bool:
        is_held = self._held_runs.get(run_id)
        if is_held is None:
            is_held = self._held_runs[run_id] = store.is_run_held(run_id)
        return is_held

    def _unpark(self, store: QueueTurn, runs: set[int]) -> None:
        """Put the parked messages of campaigns that are no longer held back into their lanes."""
        left = UNPARKED_AT_MOST
        for run_id in [run_id for run_id in runs if not self._is_run_held(store, run_id)]:
            unparked = store.unpark(self._lease.instance_id, run_id, limit=left)
            left -= unparked
            if left <= 0:
                return
            runs.discard(run_id)

    def _choose(self, store: QueueTurn, turn: Turn, *, free: int, now_ms: int, now: float) -> None:
        """Start what may start, and find out when to look again."""
        choice = Choice(free=free, now_ms=now_ms, now=now)
        self._passed_over = 0
        self._held = None
        self._chosen.clear()
        self._opening.clear()
        heads = self._heads(store)
        sharing: list[int] = []
        for lane, head_ms in sorted(heads, key=lambda head: (priority_of(head[0]), head[1])):
            if self._is_full(choice):
                break
            if head_ms > now_ms:
                continue
            if priority_of(lane) >= PRIORITY_BULK:
                sharing.append(lane)
                continue
            if self._lane_allowed_at(store, lane, now_ms=now_ms, now=now) > now:
                continue
            for _start in self._take_from(store, lane, choice, want=free - len(choice.rows)):
                if self._is_full(choice):
                    break
        if sharing:
            self._share(store, sharing, choice)
        if choice.rows:
            attempt_ids = store.start(
                [due for due, _terms, _content in choice.rows],
                lease=self._lease,
                now_ms=now_ms,
                spaced_batches=choice.spaced,
            )
            if self._opening:
                store.note_chats(self._lease.instance_id, self._opening, now_ms=now_ms)
            turn.started = [
                Started(
                    attempt_id=AttemptId(attempt_id),
                    at_ms=now_ms,
                    at=now,
                    due=due,
                    terms=terms,
                    content=content,
                )
                for attempt_id, (due, terms, content) in zip(attempt_ids, choice.rows, strict=True)
            ]
        if len(choice.rows) >= free > 0 or free == 0:
            # No slot is left: the next landing wakes the loop.
            self._note_waiting(store, turn, heads, now_ms=now_ms, now=now)
            return
        heads = self._read_again(store, heads, choice.touched)
        self._note_waiting(store, turn, heads, now_ms=now_ms, now=now)
        if heads:
            first = float("inf")
            for lane, head_ms in heads:
                if now + (head_ms - now_ms) < first:
                    wakes_at = self._lane_wakes_at(store, lane, now_ms=now_ms, now=now)
                    first = min(first, max(now + (head_ms - now_ms), wakes_at))
                if first <= now:
                    break
            turn.wakes_at_ms = max(first, self._windows.worth_waking_at(now))
            if self._passed_over >= PASSED_OVER_PER_LANE:
                turn.wakes_at_ms = max(turn.wakes_at_ms, now + BREATH_MS)
        if any(not self._is_run_held(store, run_id) for run_id in self._parked_runs or ()):
            turn.wakes_at_ms = now + BREATH_MS  # more than one turn's worth goes back to its lanes

    def _is_full(self, choice: Choice) -> bool:
        """Whether nothing more may start in this turn, from whatever lane."""
        return (
            len(choice.rows) >= choice.free
            or self._windows.allowed_at(choice.now) > choice.now
            or self._passed_over >= PASSED_OVER_AT_MOST
        )

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
        self, store: QueueTurn, turn: Turn, heads: Sequence[tuple[int, int]], *, now_ms: int, now: float
    ) -> None:
        turn.has_waiting = bool(heads)
        is_limited = bool(heads) and now <= self._limited_until + CLOCKS_APART_MS
        turn.has_due = is_limited or any(
            due <= now_ms and not self._is_long_limited(store, lane, now_ms=now_ms, now=now) for lane, due in heads
        )

    def _is_long_limited(self, store: QueueTurn, lane: int, *, now_ms: int, now: float) -> bool:
        """Whether the limits of a campaign keep its lane back for longer than a drain sits out."""
        windows = self._own_windows(store, batch_of(lane), now_ms=now_ms, now=now)
        return windows is not None and _lane_limit_ends_at(windows, now) - now > SHORT_LIMIT_MS

    def _share(self, store: QueueTurn, lanes: Sequence[int], choice: Choice) -> None:
        """Start messages of several campaigns, each by its weight, one at a time."""
        weights = {lane: self._read_terms(store, batch_of(lane)).weight for lane in lanes}
        free, sum_of_weights = choice.free - len(choice.rows), sum(weights.values())
        order = [(self._shares.place(lane), number, lane) for number, lane in enumerate(lanes)]
        heapify(order)
        takers: dict[int, Iterator[None]] = {}
        while order and not self._is_full(choice):
            _place, number, lane = order[0]
            taker = takers.get(lane)
            if taker is None:
                if self._lane_allowed_at(store, lane, now_ms=choice.now_ms, now=choice.now) > choice.now:
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
        """Start messages of one lane, another one each time it is asked.  want: how many are asked for, most likely."""
        now_ms, now = choice.now_ms, choice.now
        lane_batch = batch_of(lane)
        delay_ms = self._read_terms(store, lane_batch).delay_ms if lane_batch else 0
        own = self._own_windows(store, lane_batch, now_ms=now_ms, now=now)
        want = 1 if delay_ms else min(want, self._windows.room_at(now))
        taken: set[int] = set()
        most = self._passed_over + PASSED_OVER_PER_LANE
        choice.touched.add(lane)
        while True:
            rows = store.read_due(
                self._lease.instance_id, lane, now_ms=now_ms, limit=min(max(want, 8), ROWS_PER_LOOK) + len(taken)
            )
            fresh = [row for row in rows if row.message_id not in taken]
            for row in fresh:
                if own is not None and _lane_limit_ends_at(own, now) > now:
                    return
                terms = self._read_terms(store, row.batch_id)
                content = self._may_start(store, row, terms, now_ms=now_ms, now=now)
                if content is None:
                    self._passed_over += 1
                    if self._passed_over >= most:
                        return
                    if self._has_swept:
                        self._has_swept = False
                        break
                    continue
                taken.add(row.message_id)
                choice.rows.append((row, terms, content))
                self._note_start(store, row, now=now)
                if terms.limits is not None:
                    self._note_own(store, row, now_ms=now_ms, now=now)
                if delay_ms:
                    choice.spaced.add(lane_batch)
                    self._note_lane(lane, delay_ms, due_at=now + (row.due_at_ms - now_ms), now=now)
                yield
                if delay_ms:
                    return
            if not fresh:
                return

    def _may_start(self, store: QueueTurn, row: Due, terms: BatchTerms, *, now_ms: int, now: float) -> Content | None:
        """What the row says, if it may leave now; if not, it has been put off or dropped with its reason.

        terms: of the batch it was queued by.
        """
        if row.expires_at_ms is not None and row.expires_at_ms <= now_ms:
            store.drop(row, state=State.EXPIRED, rule="expired", details=None, now_ms=now_ms)
            return None
        if row.run_id is not None and self._is_run_held(store, row.run_id):
            store.park(row, rule="campaign_paused", now_ms=now_ms)
            self._parked_runs = {*(self._parked_runs or ()), row.run_id}
            return None
        if terms.quiet is not None:
            opens_at_ms, rule = self._opens_at_ms(terms.quiet, now_ms)
            if opens_at_ms > now_ms:
                store.defer(row, until_ms=opens_at_ms, rule=rule, now_ms=now_ms)
                return None
        if self._restriction is not None and self._keeps_back(store, row, self._restriction, now_ms=now_ms):
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
        if isinstance(content, Template):
            if self._held is None:
                self._held = store.read_held_templates(self._lease.instance_id, now_ms=now_ms)
            template = (content.name, content.language)
            if template in self._held:
                until_ms = self._held[template] or now_ms + TEMPLATE_LOOK_MS
                store.defer(row, until_ms=until_ms, rule="template_held", now_ms=now_ms)
                return None
        if self._limits.unanswered_per_person and self._is_unanswered(store, row, now_ms=now_ms):
            return None
        allowed_at = self._windows.recipient_allowed_at(row.contact_id, now)
        rule = "recipient_limit"
        person_at = self._windows.new_person_allowed_at(row.contact_id, now)
        if person_at > allowed_at:
            allowed_at, rule = person_at, "new_people_limit"
        if self._limits.new_chats_per_day and self._opens_chat(store, row):
            chat_at = self._windows.new_chat_allowed_at(now)
            if chat_at > allowed_at:
                allowed_at, rule = chat_at, "new_chats_limit"
        if terms.limits is not None:
            own_at = self._own_allowed_at(store, row, now_ms=now_ms, now=now)
            if own_at > allowed_at:
                allowed_at, rule = own_at, "campaign_limit"
        if allowed_at > now:
            if rule in self._places and row.reason != rule:
                allowed_at = self._take_place(rule, row, now=now)
            store.defer(row, until_ms=now_ms + max(1, round(allowed_at - now)), rule=rule, now_ms=now_ms)
            self._note_limited(allowed_at, now=now)
            return None
        return content

    def _opens_chat(self, store: QueueTurn, row: Due) -> bool:
        """Whether this message would be the first ever between the two; groups are nobody new."""
        return (
            row.kind == "person"
            and not self._chosen[row.contact_id]
            and store.opens_chat(self._lease.instance_id, row.contact_id)
        )

    def _note_start(self, store: QueueTurn, row: Due, *, now: float) -> None:
        opens_chat = bool(self._limits.new_chats_per_day) and self._opens_chat(store, row)
        if opens_chat:
            self._opening.add(row.contact_id)
        self._chosen[row.contact_id] += 1
        self._windows.note(row.contact_id, now, opens_chat=opens_chat)

    def _take_place(self, rule: str, row: Due, *, now: float) -> float:
        """When a message may leave for which its budget has no room today: behind those that wait for it already.

        Each has a place of its own, or all of them would be looked at whenever one place falls free.  A message that
        has lost its place to another one takes the next, and is not sent to the end of the row.
        """
        places = self._places[rule]
        while places and places[0] <= now:
            places.popleft()
        behind = min(len(places), PLACES_AT_MOST)
        if rule == "new_chats_limit":
            at = self._windows.new_chat_allowed_at(now, behind=behind)
        else:
            at = self._windows.new_person_allowed_at(row.contact_id, now, behind=behind)
        if behind < PLACES_AT_MOST:
            places.append(at)
        return at

    def _is_unanswered(self, store: QueueTurn, row: Due, *, now_ms: int) -> bool:
        """Whether enough was said to a person who does not answer; then the message is dropped, or waits for others."""
        if row.kind != "person":
            return False
        most = self._limits.unanswered_per_person
        unanswered, on_their_way = store.count_unanswered(self._lease.instance_id, row.contact_id)
        if unanswered >= most:
            details = f"{unanswered} in a row without an answer"
            store.drop(row, state=State.SKIPPED, rule="unanswered", details=details, now_ms=now_ms)
            return True
        if unanswered + on_their_way + self._chosen[row.contact_id] < most:
            return False
        store.defer(row, until_ms=now_ms + UNANSWERED_LOOK_MS, rule="recipient_limit", now_ms=now_ms)
        return True

    def _keeps_back(self, store: QueueTurn, row: Due, restriction: Restriction, *, now_ms: int) -> bool:
        """Whether a restriction keeps this message back; then it has been put off, and with it others like it."""
        since_ms = known_since_ms(restriction, now_ms=now_ms)
        if since_ms is None or store.people.knows(self._lease.instance_id, row.contact_id, since_ms=since_ms):
            return False  # what holds everything back is no matter of single messages
        put_off = store.defer_strangers(
            self._lease.instance_id,
            row.lane,
            known_since_ms=since_ms,
            until_ms=_put_off_until_ms(restriction, now_ms=now_ms),
            rule="restricted",
            now_ms=now_ms,
            limit=STRANGERS_TOGETHER,
        )
        self._passed_over += put_off * PASSED_OVER_PER_LANE // STRANGERS_TOGETHER
        self._has_swept = True
        return True

    def _opens_at_ms(self, quiet: str, now_ms: int) -> tuple[int, str]:
        """When messages with these quiet hours may leave, now or at the next opening, and the rule for waiting.

        Quiet hours that cannot be read here, or never end, keep everything back: they are looked at again each hour.
        """
        known = self._openings.get(quiet)
        if known is None or not known[0] <= now_ms < known[2]:
            from wa_cli.domain.timetable import decode_quiet  # campaigns alone need it

            try:
                openings = decode_quiet(quiet)
                opens_at_ms, closes_at_ms = openings.next_open(now_ms) if openings else (now_ms, now_ms + QUIET_LOOK_MS)
                known = (now_ms, opens_at_ms, closes_at_ms, "quiet_hours")
            except (WaError, ValueError, TypeError) as error:
                log.warning("quiet hours that are not understood keep messages back: %s", error)
                known = (now_ms, now_ms + QUIET_LOOK_MS, now_ms + QUIET_LOOK_MS, "quiet_unknown")
            if len(self._openings) >= OPENINGS_REMEMBERED:
                self._openings.clear()
            self._openings[quiet] = known
        return max(now_ms, known[1]), known[3]

    def _note_lane(self, lane: int, delay_ms: int, *, due_at: float, now: float) -> None:
        """A message of a spaced lane leaves: when may the next one?

        One that is nearly on time keeps the lane on its schedule; one that is late starts a new spacing from now, so
        that overdue messages never go out in a burst (row R5).
        """
        slot = max(due_at, self._lane_free_at.get(lane, due_at))
        if slot < now - min(LATENESS_FORGIVEN_MS, delay_ms / 4):
            slot = now
        self._lane_free_at[lane] = slot + delay_ms

    def _lane_allowed_at(self, store: QueueTurn, lane: int, *, now_ms: int, now: float) -> float:
        batch_id = batch_of(lane)
        if not batch_id:
            return now
        free_at = self._lane_free_at.get(lane)
        if free_at is None:
            terms = self._read_terms(store, batch_id)
            if not terms.is_released:
                self._terms.pop(batch_id, None)
                return now + 1000.0
            free_at = float("-inf")
            if terms.last_started_at_ms is not None:
                free_at = now - max(now_ms - terms.last_started_at_ms, 0) + terms.delay_ms
            self._lane_free_at[lane] = free_at
            if len(self._lane_free_at) > CACHED:
                oldest = next(iter(self._lane_free_at))
                del self._lane_free_at[oldest]
                self._terms.pop(batch_of(oldest), None)  # when it started last is read anew with it
        own = self._own_windows(store, batch_id, now_ms=now_ms, now=now)
        return max(now, free_at) if own is None else max(now, free_at, _lane_limit_ends_at(own, now))

    def _lane_wakes_at(self, store: QueueTurn, lane: int, *, now_ms: int, now: float) -> float:
        """When to look at a lane again: when it may start, or a little later when more of it may leave together."""
        allowed_at = self._lane_allowed_at(store, lane, now_ms=now_ms, now=now)
        own = self._own_windows(store, batch_of(lane), now_ms=now_ms, now=now)
        return allowed_at if own is None else max(allowed_at, own.worth_waking_at(now))

    def _own_windows(self, store: QueueTurn, batch_id: int, *, now_ms: int, now: float) -> Windows | None:
        """What a campaign has sent, as far as limits of its own look back: None where it has no limits."""
        if not batch_id:
            return None
        terms = self._read_terms(store, batch_id)
        if terms.limits is None or terms.run_id is None:
            return None
        windows = self._run_windows.get(terms.run_id)
        if windows is None:
            since_ms = now_ms - round(look_back_ms(terms.limits)) - 1
            starts = store.read_starts(self._lease.instance_id, since_ms=since_ms, run_id=terms.run_id)
            windows = self._run_windows[terms.run_id] = Windows(terms.limits)
            windows.rebuild((contact_id, now - max(now_ms - at_ms, 0)) for contact_id, at_ms in starts)
            if len(self._run_windows) > RUNS_REMEMBERED:
                self._run_windows.popitem(last=False)
        return windows

    def _own_allowed_at(self, store: QueueTurn, row: Due, *, now_ms: int, now: float) -> float:
        """When the limits of its campaign let a message leave, whichever lane it is in."""
        own = self._own_windows(store, row.batch_id, now_ms=now_ms, now=now)
        if own is None:
            return now
        return max(
            own.allowed_at(now),
            own.recipient_allowed_at(row.contact_id, now),
            own.new_person_allowed_at(row.contact_id, now),
        )

    def _note_own(self, store: QueueTurn, row: Due, *, now_ms: int, now: float) -> None:
        own = self._own_windows(store, row.batch_id, now_ms=now_ms, now=now)
        if own is not None:
            own.note(row.contact_id, now)

    def _read_terms(self, store: QueueTurn, batch_id: int) -> BatchTerms:
        terms = self._terms.get(batch_id)
        if terms is None:
            terms = self._terms[batch_id] = store.read_terms(batch_id)
            if len(self._terms) > CACHED:
                self._terms.popitem(last=False)
        return terms

    def _content(self, content_id: int) -> Content | None:
        content = self._contents.get(content_id)
        if content is None:
            content = self._queue.read_content(content_id)
            if content is not None:
                self._contents[content_id] = content
                if len(self._contents) > CACHED:
                    self._contents.popitem(last=False)
        return content

    def _settle_late(self, finished: Sequence[Finished]) -> int:
        now_ms = self._clock.wall_ms()
        records, _effects = self._judge(finished, now_ms=now_ms)
        return self._queue.settle_late(records, now_ms=now_ms)


def _put_off_until_ms(restriction: Restriction, *, now_ms: int) -> int:
    """When what a restriction keeps back is looked at again.  One that is over by now keeps nothing back."""
    return max(restriction.until_ms, now_ms) if restriction.until_ms is not None else now_ms + RESTRICTION_LOOK_MS


def _lane_limit_ends_at(windows: Windows, now: float) -> float:
    """When a campaign may start another message.

    A campaign hardly writes to anybody twice, so one that has used up its new people of the day waits as a whole.
    """
    return max(windows.allowed_at(now), windows.new_person_allowed_at(SOMEBODY_NEW, now))
