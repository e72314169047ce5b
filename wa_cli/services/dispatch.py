"""The send loop of one instance: take what is due inside the limits, post it, record what became of it.

What is stored is decided in turns on the writer thread (`services.turns`); this is the side of the event loop, which
posts and waits.  The daemon, a drain and a foreground wait all run this same loop; they differ in when it ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from wa_cli.cuts import cut
from wa_cli.domain.message import State
from wa_cli.domain.outcome import Accepted, Ambiguous, NotSent
from wa_cli.domain.pacing import SLOTS_AT_MOST, SLOTS_AT_START, next_slots
from wa_cli.errors import StorageBroken, StorageError, Temporary
from wa_cli.ports import Finished, Post, Sums
from wa_cli.services.turns import RENEWED_AT, LeaseLost, TurnTaker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor

    from wa_cli.domain.connection import ConnectionState
    from wa_cli.domain.outcome import Rejected
    from wa_cli.domain.pacing import Limits
    from wa_cli.domain.retry import RetryPolicy
    from wa_cli.errors import WaError
    from wa_cli.ports import Clock, Lease, Queue, Record, Transport
    from wa_cli.services.choosing import Started
    from wa_cli.services.turns import Turn

log = logging.getLogger("wa.dispatch")

# A post does not begin this close to the end of its lease: the next holder may already be looking at the row.
LEASE_MARGIN_MS: Final = 1_000
# Nor so long after its start: limits count starts, and a process that slept in between would send two at once.
LATEST_POST_MS: Final = 5_000
STORE_RETRY_SECONDS: Final = 1.0
# How long a loop that was told to stop goes on offering its outcomes to a store that takes none.
STOP_PATIENCE_MS: Final = 5_000
# An acceptance waits this long for others to share its commit, and less when due messages wait for its slot.  The last
# one in flight and everything but an acceptance are recorded at once.
GATHER_SECONDS: Final = 0.04
GATHER_STARVED_SECONDS: Final = 0.005
GATHER_STARVED_SHARE: Final = 0.8  # of the slots: what has landed by then is worth a commit of its own
GATHERED_AT_MOST: Final = 100  # acceptances that fill a commit by themselves


# Calls back after so many seconds, on the event loop's thread; what it returns cancels that.
Alarm = Callable[[float, Callable[[], None]], Callable[[], None]]


def _asyncio_alarm(seconds: float, ring: Callable[[], None]) -> Callable[[], None]:
    return asyncio.get_running_loop().call_later(seconds, ring).cancel


class SendLoop:
    """Sends for one instance while its lease holds."""

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

        executor: of one thread, on which all turns are taken.
        concurrency: posts in flight, or None to let it grow with the work.  start_limit: stop taking after so many.
        on_progress: told of each record once it is stored.  alarm: what wakes the loop, asyncio's timer by default.
        """
        self._turns = TurnTaker(
            queue=queue, clock=clock, lease=lease, limits=limits, policy=policy, jitter=jitter, only_batch=only_batch
        )
        self._transport = transport
        self._clock = clock
        self._executor = executor
        self._install = install
        self._adapts = concurrency is None
        self._slots = concurrency or SLOTS_AT_START
        self._start_limit = start_limit
        self._on_progress = on_progress
        self._alarm = alarm or _asyncio_alarm
        self._lease_ends_at_ms = lease.expires_at_ms
        self._lease_ends_at = clock.steady_ms() + lease.length_ms
        self._renew_seconds = lease.length_ms * RENEWED_AT / 1000
        self._finished: list[Finished] = []
        self._in_flight: dict[asyncio.Task[None], Started] = {}
        self._wake = asyncio.Event()
        self._next_turn_at_ms = float("-inf")  # on the steady clock; the turn that is being taken is one
        self._gathering: Callable[[], None] | None = None  # cancels the wait of what has landed
        self._is_urgent = False
        self._is_starved = False
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
        return self._turns.breaker.unreachable

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
                self._launch(turn.chosen.started)
                self._is_starved = turn.chosen.has_due and len(self._in_flight) >= self._slots
                self._tell(turn.records)
                if self._is_done(
                    turn,
                    until_idle=until_idle,
                    patience_seconds=patience_seconds,
                    deadline_ms=deadline_ms,
                    waits_for_schedule=waits_for_schedule,
                ):
                    return
                await self._rest_until(turn.chosen.wakes_at_ms)
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
        chosen = turn.chosen
        if waits_for_schedule:
            return not chosen.has_waiting or turn.waits_for_person
        if deadline_ms is not None and chosen.has_waiting:
            return chosen.wakes_at_ms is not None and chosen.wakes_at_ms > deadline_ms
        if not chosen.has_due:
            return True
        if patience_seconds is None or chosen.wakes_at_ms is None:
            return False
        return chosen.wakes_at_ms - self._clock.steady_ms() > patience_seconds * 1000

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
            take = partial(self._turns.take, finished, free=free, in_flight=len(self._in_flight))
            turn = await asyncio.get_running_loop().run_in_executor(self._executor, take)
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
            await self._rest_until(self._clock.steady_ms() + STORE_RETRY_SECONDS * 1000)
            return None
        if self.trouble is not None:
            log.info("store: answers again")
            self.trouble = None
        # Only now is the longer lease on the disk, and with it the right to post until then.
        self._lease_ends_at_ms, self._lease_ends_at = turn.lease_ends_at_ms, turn.lease_ends_at
        self.lost = turn.lost
        return turn

    def _free_slots(self) -> int:
        if self._turns.breaker.is_probing:
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
                settled = await loop.run_in_executor(self._executor, self._turns.settle_late, finished)
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
        enough = max(int(self._slots * GATHER_STARVED_SHARE), 1) if self._is_starved else GATHERED_AT_MOST
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
            began > self._lease_ends_at - LEASE_MARGIN_MS
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
