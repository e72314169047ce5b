"""One turn of a send loop: a single transaction that records finished posts and starts new ones.

Starts and outcomes share commits.  A start is durable before its post begins.  Turns are taken on the writer thread,
one at a time; between them the event loop looks at the breaker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wa_cli.cuts import cut
from wa_cli.domain.connection import NEEDS_A_PERSON, RestrictionScope
from wa_cli.domain.outcome import Accepted, Ambiguous, ErrorClass, NotSent, Rejected
from wa_cli.domain.restriction import RESTRICTION_LOOK_MS, in_force, known_since_ms, widen
from wa_cli.domain.retry import Down, Rest, Restrict, Stop, restriction_of
from wa_cli.errors import WaError
from wa_cli.services.choosing import Chooser, Chosen
from wa_cli.services.judging import Judge
from wa_cli.services.pace import Pace
from wa_cli.services.receipts import apply_consequence, apply_parked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wa_cli.domain.connection import ConnectionState, Restriction
    from wa_cli.domain.pacing import Limits
    from wa_cli.domain.retry import Effect, RetryPolicy
    from wa_cli.ports import Clock, Finished, InstanceStanding, Lease, Queue, QueueTurn, Record

# Of a lease, renewed when so much has passed: two renewals may fail before another holder can take over.
RENEWED_AT: Final = 1 / 3
LEAP_MS: Final = 300_000.0  # fault 31


class LeaseLost(WaError):  # it is a state of affairs, caught by whoever runs the loop
    """Another holder has taken over; this one may neither post nor record."""

    exit_code = 8
    default_code = "lease_lost"


@dataclass(slots=True, kw_only=True)
class Turn:
    """What one turn brought: the records it made, and what it has chosen to leave.

    lease_ends_at_ms, lease_ends_at: until when its starts may be posted, on the wall clock and on the steady one.
    is_paused: nothing leaves before a person or the end of a restriction changes that.  lost: the state of a linked
    device that is not connected.  waits_for_person: nothing is left but what a restriction keeps back that has no end.
    """

    records: list[Record]
    chosen: Chosen
    lease_ends_at_ms: int
    lease_ends_at: float
    is_paused: bool
    lost: ConnectionState | None
    waits_for_person: bool

    @property
    def is_lost(self) -> bool:
        """Whether nothing leaves only because the device is not connected: it may be again at any moment."""
        return self.lost is not None and not self.is_paused


@dataclass(slots=True, kw_only=True)
class Situation:
    """How the instance stands in one turn, the outcomes of this turn included.

    is_paused: by a person or the platform.  lost: as in Turn.
    now_ms, now: the moment of the turn, on the wall clock and on the steady one; so for the two ends of its rest.
    lease_ends_at_ms: on the wall clock, when the lease is to end once this turn is stored.
    """

    now_ms: int
    now: float
    lease_ends_at_ms: int
    rests_until_ms: int
    rests_until: float
    is_paused: bool
    lost: ConnectionState | None
    restriction: Restriction | None

    @property
    def is_held(self) -> bool:
        """Whether nothing leaves before a person or the end of a restriction changes that."""
        holds_everything = self.restriction is not None and self.restriction.scope is RestrictionScope.EVERYTHING
        return self.is_paused or holds_everything or self.lost in NEEDS_A_PERSON


class TurnTaker:
    """Takes the turns of one instance while its lease holds."""

    def __init__(
        self,
        *,
        queue: Queue,
        clock: Clock,
        lease: Lease,
        limits: Limits | Callable[[int], Limits],
        policy: RetryPolicy,
        jitter: Callable[[], float],
        only_batch: int | None,
    ) -> None:
        """As in SendLoop."""
        self._queue = queue
        self._clock = clock
        self._lease = lease
        self._policy = policy
        now_ms = clock.wall_ms()
        self._pace = Pace(instance_id=lease.instance_id, limits=limits, now_ms=now_ms)
        self._judge = Judge(policy=policy, clock=clock, jitter=jitter, pace=self._pace)
        self._chooser = Chooser(queue=queue, lease=lease, pace=self._pace, only_batch=only_batch)
        self._rest = (0, float("-inf"))  # the last one it took: its end on the wall clock and on the steady one
        self._clock_offset = now_ms - clock.steady_ms()  # of the wall clock against the steady one
        self._leap: Stop | None = None  # found, and perhaps not on the disk yet
        self._is_resumed = False  # the breaker, where an earlier process has left it
        self.breaker = self._judge.breaker

    def take(self, finished: Sequence[Finished], *, free: int, in_flight: int) -> Turn:
        """Record what has finished and start what may start.  free: how many.  in_flight: posts that are not over.

        Raises: LeaseLost when another holder has taken over; StorageError and Temporary when nothing of it was stored.
        """
        try:
            turn = self._take(finished, free=free, in_flight=in_flight)
        except BaseException:
            self._chooser.forget_turn()
            raise
        cut("turn_after_commit")
        self._pace.end_turn()
        self._judge.forget()
        self._leap = None
        return turn

    def settle_late(self, finished: Sequence[Finished]) -> int:
        """Offer outcomes to the store whose lease is gone, as evidence.  How many unknowns they have settled."""
        now_ms = self._clock.wall_ms()
        records, _effects = self._judge.judge(finished, now_ms=now_ms)
        return self._queue.settle_late(records, now_ms=now_ms)

    def _take(self, finished: Sequence[Finished], *, free: int, in_flight: int) -> Turn:
        with self._queue.turn() as store:
            situation = self._take_stock(store)
            records = self._record(store, finished, situation) if finished else []
            if self.breaker.is_probing:
                free = 0 if in_flight else min(free, 1)
            chosen = self._choose(store, situation, free=free)
            if finished:
                cut("record_before")
            if chosen.started:
                cut("turn_before_commit")
        return Turn(
            records=records,
            chosen=chosen,
            lease_ends_at_ms=situation.lease_ends_at_ms,
            lease_ends_at=situation.now + (situation.lease_ends_at_ms - situation.now_ms),
            is_paused=situation.is_held,
            lost=situation.lost,
            waits_for_person=_waits_for_person(situation, chosen),
        )

    def _take_stock(self, store: QueueTurn) -> Situation:
        """How the instance stands, after what time has changed by itself: limits, and a lease that is to be renewed.

        A clock that has leapt pauses the instance.  Raises: LeaseLost.
        """
        lease, now_ms, now = self._lease, self._clock.wall_ms(), self._clock.steady_ms()
        standing = store.read_standing(lease.instance_id)
        if standing.epoch != lease.epoch:
            raise LeaseLost(f"another process sends for '{lease.instance}' now", hint="`wa status` shows which")
        self._pace.begin_turn(store, now_ms=now_ms, now=now)
        if not self._is_resumed:
            self.breaker.resume(store.read_unreadable(lease.instance_id))
            self._is_resumed = True
        lease_ends_at_ms = standing.expires_at_ms
        if now_ms > lease_ends_at_ms - lease.length_ms * (1 - RENEWED_AT):
            lease_ends_at_ms = now_ms + lease.length_ms
            store.renew_lease(lease, expires_at_ms=lease_ends_at_ms)
        situation = Situation(
            now_ms=now_ms,
            now=now,
            lease_ends_at_ms=lease_ends_at_ms,
            rests_until_ms=standing.rests_until_ms,
            rests_until=self._rests_until(standing, now_ms=now_ms, now=now),
            is_paused=standing.is_paused,
            lost=standing.lost,
            restriction=in_force(standing.restriction, now_ms=now_ms),
        )
        self._leap = self._find_leap(now_ms, now) or self._leap
        if self._leap is not None and not situation.is_paused:
            store.apply_effect(lease.instance_id, self._leap, now_ms=now_ms)
            situation.is_paused = True
        return situation

    def _record(self, store: QueueTurn, finished: Sequence[Finished], situation: Situation) -> list[Record]:
        """Record what became of these posts, for their messages and for the instance."""
        now_ms = situation.now_ms
        records, effects = self._judge.judge(finished, now_ms=now_ms)
        effects += self._find_wider(store, records, now_ms=now_ms)
        store.record(records, now_ms=now_ms)
        self._follow_up(store, records, now_ms=now_ms)
        self._note_talks(store, records)
        for effect in effects:
            self._apply(store, effect, situation)
        return records

    def _apply(self, store: QueueTurn, effect: Effect, situation: Situation) -> None:
        instance_id, now_ms = self._lease.instance_id, situation.now_ms
        store.apply_effect(instance_id, effect, now_ms=now_ms)
        if isinstance(effect, Rest):
            situation.rests_until_ms = max(situation.rests_until_ms, now_ms + round(effect.seconds * 1000))
            situation.rests_until = max(situation.rests_until, situation.now + effect.seconds * 1000)
            self._rest = (situation.rests_until_ms, situation.rests_until)
        elif isinstance(effect, Restrict):
            situation.restriction = in_force(store.read_standing(instance_id).restriction, now_ms=now_ms)
        elif isinstance(effect, Down):
            situation.lost = effect.state
        else:
            situation.is_paused = True

    def _choose(self, store: QueueTurn, situation: Situation, *, free: int) -> Chosen:
        """Start what may start, if the instance lets anything leave at all."""
        now_ms, now, restriction = situation.now_ms, situation.now, situation.restriction
        self._chooser.begin_turn(store)
        if situation.is_held or situation.lost is not None:
            chosen = self._chooser.look(store, now_ms=now_ms, now=now)
            if restriction is not None and restriction.until_ms is not None:
                chosen.wakes_at_ms = now + (restriction.until_ms - now_ms)
            return chosen
        if situation.rests_until > now:
            chosen = self._chooser.look(store, now_ms=now_ms, now=now)
            chosen.wakes_at_ms = situation.rests_until
            return chosen
        return self._chooser.choose(store, free=free, restriction=restriction, now_ms=now_ms, now=now)

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
        limits = self._pace.limits
        if limits.new_chats_per_day:
            unsent = [one for one in records if isinstance(one.finished.outcome, Rejected | NotSent)]
            if unsent:
                store.forget_chats(self._lease.instance_id, unsent)
        if limits.unanswered_per_person:
            # One whose outcome is unknown may have arrived.
            arrived = [one for one in records if isinstance(one.finished.outcome, Accepted | Ambiguous)]
            store.note_unanswered(self._lease.instance_id, [one.finished.contact_id for one in arrived])

    # --- clocks ---

    def _find_leap(self, now_ms: int, now: float) -> Stop | None:
        """A wall clock that leaps ahead makes much due at once that nobody meant to send now: ask first.

        One that is set back only makes messages wait, and comes back without a leap.
        """
        offset = now_ms - now
        leap_ms = offset - self._clock_offset
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


def _waits_for_person(situation: Situation, chosen: Chosen) -> bool:
    """Whether nothing is left but what a restriction keeps back that has no end."""
    if situation.restriction is None or situation.restriction.until_ms is not None or chosen.wakes_at_ms is None:
        return False
    return chosen.wakes_at_ms - situation.now > RESTRICTION_LOOK_MS / 2
