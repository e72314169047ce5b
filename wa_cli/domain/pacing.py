"""When the next message may leave: the limits of an instance, in rolling windows.

The schedule spaces messages when they are enqueued; this spaces them again when they leave.  Times here are
milliseconds on a clock that never jumps, given by the caller: the wall clock may be set back, a window may not.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SECOND_MS: Final = 1_000.0
MINUTE_MS: Final = 60_000.0
HOUR_MS: Final = 3_600_000.0
DAY_MS: Final = 86_400_000.0

# A fast instance releases some messages at once, since each wake-up costs a transaction: about four of them a tick,
# in ticks between these lengths.  At 80 a second it wakes 20 times instead of 80, at 1,000 a second 220 times.
SHORTEST_TICK_MS: Final = 4.0
LONGEST_TICK_MS: Final = 50.0
MESSAGES_A_TICK: Final = 4.0
# A wake-up that comes a little late is made good by the next one, or every one would lose some of the rate.
LATENESS_MADE_GOOD_MS: Final = 10.0

LANE_SHIFT: Final = 40
PRIORITY_URGENT: Final = 0
PRIORITY_NORMAL: Final = 1
PRIORITY_BULK: Final = 2  # campaigns: they share what single messages and calls leave
# Set in the lane of a message that waits outside the queue because its campaign is paused: nobody looks at those lanes.
PARKED: Final = 1 << (LANE_SHIFT + 2)

UNLIMITED: Final = 1_000_000
REMEMBERED_SHARES: Final = 1_000  # campaigns; more only while more send at the same time


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How fast one instance may send.  0 lifts a limit.

    recipient_gap_ms and recipient_per_minute hold for each recipient, the rest for the whole instance.
    new_people_per_day counts distinct people written to in a moving 24 h (Meta's tiers), new_chats_per_day those among
    them who had never written and never been written to.  unanswered_per_person: messages in a row to one person who
    does not answer; it needs webhooks, or nobody ever answers.
    """

    recipient_gap_ms: int = 0
    recipient_per_minute: int = 0
    gap_ms: int = 0
    per_second: int = 0
    per_minute: int = 0
    per_hour: int = 0
    per_day: int = 0
    new_people_per_day: int = 0
    new_chats_per_day: int = 0
    unanswered_per_person: int = 0

    def override(self, values: Mapping[str, int]) -> Limits:
        """The same limits with some replaced by name."""
        return replace(self, **values)


# Sources: Meta's pair limit and throughput; rows T1 and S2 (recipient), H1 (minute and hour), H2 (gap).
PROFILES: Final[Mapping[str, Limits]] = {
    "cloud": Limits(recipient_gap_ms=6_000, recipient_per_minute=30, per_second=80),
    "gateway": Limits(recipient_gap_ms=2_000, recipient_per_minute=30, gap_ms=500, per_minute=6, per_hour=60),
}


def tighten(limits: Limits, own: Mapping[str, int]) -> Limits:
    """These limits with others by name: the tighter of the two, each.

    Rates are tighter when smaller, gaps when larger; 0 lifts a limit and is never tighter.
    """
    values: dict[str, int] = {}
    for name, wanted in own.items():
        present = int(getattr(limits, name))
        if name.endswith("_gap_ms") or name == "gap_ms":
            values[name] = max(present, wanted)
        else:
            values[name] = min(present, wanted) if present and wanted else present or wanted
    return limits.override(values)


def lane_of(priority: int, batch_id: int) -> int:
    """The number that sorts lanes: urgent before normal, then older batches first."""
    return priority << LANE_SHIFT | batch_id


def priority_of(lane: int) -> int:
    return lane >> LANE_SHIFT


def batch_of(lane: int) -> int:
    """The batch whose spacing a lane keeps; 0 for the lane of single messages."""
    return lane & ((1 << LANE_SHIFT) - 1)


class Shares:
    """Whose turn it is among lanes that share what is left, each by its weight (start-time fair queueing).

    Each start of a lane moves it on by the inverse of its weight, and who is furthest back goes next.  Nobody saves
    anything up: a lane that had nothing to send joins where the others are.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._next: dict[int, float] = {}
        self._most = REMEMBERED_SHARES

    def place(self, lane: int) -> float:
        """Where the lane stands: the lowest goes next."""
        return max(self._now, self._next.get(lane, 0.0))

    def note(self, lane: int, weight: int) -> None:
        """Record one start of a lane, which had the lowest place of those that could start."""
        self._now = self.place(lane)
        self._next[lane] = self._now + 1.0 / max(weight, 1)
        if len(self._next) > self._most:  # those behind stand where they would stand without an entry
            self._next = {other: place for other, place in self._next.items() if place > self._now}
            self._most = max(REMEMBERED_SHARES, 2 * len(self._next))


class Windows:
    """The starts an instance has made, as far as its limits look back.

    `allowed_at` and `recipient_allowed_at` answer with the earliest moment; `note` records a start.  Rebuilt from
    stored starts when a lease is taken, so limits hold across restarts.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._rolling = [(size, span, deque[float](maxlen=size)) for size, span in _spans_of(limits)]
        self._gap_slot = float("-inf")
        self._rate_spacing_ms = SECOND_MS / limits.per_second if limits.per_second else 0.0
        self._tick_ms = tick_ms(self._rate_spacing_ms)
        self._rate_slot = float("-inf")
        self._slow_factor = 1.0
        self._recipients: dict[int, deque[float]] = {}
        self._recipient_memory_ms = MINUTE_MS if limits.recipient_per_minute else float(limits.recipient_gap_ms)
        self._people: dict[int, float] = {}  # in the order of their last starts
        self._chats = deque[float](maxlen=limits.new_chats_per_day)
        self._last_forgotten = float("-inf")

    def set_limits(self, limits: Limits) -> bool:
        """Go on under other limits, every start remembered.  False: they count what was not kept until now.

        Then nothing has changed, and new windows have to be rebuilt from the stored starts.
        """
        before = self.limits
        kept = {span: starts for _size, span, starts in self._rolling}
        is_kept = all(span in kept for _size, span in _spans_of(limits)) and not (
            (limits.new_people_per_day and not before.new_people_per_day)
            or (limits.new_chats_per_day and not before.new_chats_per_day)
            or limits.gap_ms > before.gap_ms
            or limits.recipient_gap_ms > self._recipient_memory_ms
            or limits.recipient_per_minute > before.recipient_per_minute
        )
        if not is_kept:
            return False
        # A longer memory does no harm: what a smaller limit forgets now, a greater one would miss tomorrow.
        self._rolling = [
            (size, span, deque(kept[span], maxlen=max(size, kept[span].maxlen or 0)))
            for size, span in _spans_of(limits)
        ]
        self._chats = deque(self._chats, maxlen=max(limits.new_chats_per_day, self._chats.maxlen or 0))
        if limits.per_second != before.per_second:
            self._rate_spacing_ms = SECOND_MS / limits.per_second if limits.per_second else 0.0
            self._tick_ms = tick_ms(self._rate_spacing_ms) if self._slow_factor == 1.0 else 0.0
        self.limits = limits
        return True

    def take_pace(self, other: Windows) -> None:
        """Be as slow as other windows of the same instance have become."""
        self._slow_factor = other._slow_factor
        if self._slow_factor > 1.0:
            self._rate_spacing_ms = self._rate_spacing_ms or SECOND_MS / 80
            self._tick_ms = 0.0

    def note(self, contact_id: int, at: float, *, opens_chat: bool = False) -> None:
        """Record one start to a recipient.  Starts are noted in the order they happen.

        opens_chat: the first one ever between the two.
        """
        limits = self.limits
        if opens_chat and limits.new_chats_per_day:
            self._chats.append(at)
        for _size, _span, starts in self._rolling:
            starts.append(at)
        if limits.gap_ms:
            self._gap_slot = at + limits.gap_ms * self._slow_factor
        if self._rate_spacing_ms:
            caught_up = max(self._rate_slot, at - LATENESS_MADE_GOOD_MS)
            self._rate_slot = caught_up + self._rate_spacing_ms * self._slow_factor
        if limits.recipient_gap_ms or limits.recipient_per_minute:
            starts_to = self._recipients.get(contact_id)
            if starts_to is None:
                keep = max(limits.recipient_per_minute, 1)
                starts_to = self._recipients[contact_id] = deque(maxlen=keep)
            starts_to.append(at)
        if limits.new_people_per_day:
            self._people.pop(contact_id, None)
            self._people[contact_id] = at
        if at - self._last_forgotten > MINUTE_MS:
            self._forget(at)

    def rebuild(self, starts: Iterable[tuple[int, float]], *, openings: Iterable[float] = ()) -> None:
        """Take over (contact id, moment) pairs of earlier starts, oldest first.  openings: of chats, likewise."""
        for contact_id, at in starts:
            self.note(contact_id, at)
        if self.limits.new_chats_per_day:
            self._chats.extend(openings)

    def allowed_at(self, now: float) -> float:
        """The earliest moment at which the instance may start another message: `now` or later."""
        # Fast instances release a tick's worth at once; the rolling windows below stay exact.
        earliest = max(now, self._gap_slot, self._rate_slot - self._tick_ms)
        for size, span, starts in self._rolling:
            if len(starts) >= size:
                # One millisecond more than the span: a start exactly one span later still shares the window's edge.
                earliest = max(earliest, starts[-size] + span + 1.0)
        return earliest

    def room_at(self, now: float) -> int:
        """How many the pace lets start together at this moment, at most; the other limits may allow fewer."""
        if self.limits.gap_ms:
            return 1
        if not self._rate_spacing_ms:
            return UNLIMITED
        behind = now + self._tick_ms - max(self._rate_slot, now - LATENESS_MADE_GOOD_MS)
        return max(int(behind / (self._rate_spacing_ms * self._slow_factor)) + 1, 1)

    def worth_waking_at(self, now: float) -> float:
        """When to look again: the earliest moment; for a fast instance, the one that lets a tick's worth leave."""
        earliest = self.allowed_at(now)
        return max(earliest, self._rate_slot) if self._tick_ms else earliest

    def recipient_allowed_at(self, contact_id: int, now: float) -> float:
        """The earliest moment at which this recipient may be written to again."""
        starts = self._recipients.get(contact_id)
        earliest = now
        if starts:
            limits = self.limits
            earliest = max(earliest, starts[-1] + limits.recipient_gap_ms)
            if limits.recipient_per_minute and len(starts) >= limits.recipient_per_minute:
                earliest = max(earliest, starts[-limits.recipient_per_minute] + MINUTE_MS + 1.0)
        return earliest

    def new_person_allowed_at(self, contact_id: int, now: float, *, behind: int = 0) -> float:
        """The earliest moment at which this person may be written to under the daily budget of people.

        behind: so many others wait for the budget already, each for a place of its own.
        """
        budget = self.limits.new_people_per_day
        if not budget or self._people.get(contact_id, float("-inf")) > now - DAY_MS:
            return now
        self._forget_people(now)
        surplus = len(self._people) - budget
        if surplus < 0:
            return now
        days, place = divmod(behind, budget)
        return next(islice(self._people.values(), surplus + place, None)) + (days + 1) * (DAY_MS + 1.0)

    def new_chat_allowed_at(self, now: float, *, behind: int = 0) -> float:
        """The earliest moment at which a chat may be opened with a stranger.  behind: as in new_person_allowed_at."""
        budget = self.limits.new_chats_per_day
        if not budget or len(self._chats) < budget or self._chats[-budget] + DAY_MS < now:
            return now
        days, place = divmod(behind, budget)
        return max(now, self._chats[place - budget] + (days + 1) * (DAY_MS + 1.0))

    def slow_down(self) -> None:
        """The platform said too fast: halve the pace.  Every start that goes well wins a little back."""
        if self._rate_spacing_ms == 0.0:
            self._rate_spacing_ms = SECOND_MS / 80
        self._slow_factor = min(self._slow_factor * 2.0, 64.0)
        self._tick_ms = 0.0  # each message by itself until the pace is back

    def recover(self) -> None:
        """One message was accepted: come back towards the full pace, over some hundreds of them."""
        if self._slow_factor > 1.0:
            self._slow_factor = max(1.0, self._slow_factor * 0.995)
            if self._slow_factor == 1.0:
                self._tick_ms = tick_ms(self._rate_spacing_ms)

    def count_limited_recipients(self, now: float) -> int:
        """How many recipients have to wait at this moment."""
        return sum(1 for contact_id in self._recipients if self.recipient_allowed_at(contact_id, now) > now)

    def _forget(self, now: float) -> None:
        """Drop what no limit can see any more, so that memory stays flat for ever (row S11)."""
        self._last_forgotten = now
        horizon = now - self._recipient_memory_ms
        stale = [contact_id for contact_id, starts in self._recipients.items() if starts[-1] < horizon]
        for contact_id in stale:
            del self._recipients[contact_id]
        self._forget_people(now)

    def _forget_people(self, now: float) -> None:
        while self._people:
            contact_id = next(iter(self._people))
            if self._people[contact_id] > now - DAY_MS:
                return
            del self._people[contact_id]


def _spans_of(limits: Limits) -> list[tuple[int, float]]:
    """(most starts, in how long) of the limits that count every start."""
    spans = (
        (limits.per_second, SECOND_MS),
        (limits.per_minute, MINUTE_MS),
        (limits.per_hour, HOUR_MS),
        (limits.per_day, DAY_MS),
    )
    return [(size, span) for size, span in spans if size > 0]


def tick_ms(spacing_ms: float) -> float:
    """How long before its place in the second a message may leave together with others: 0.0 for a slow instance."""
    tick = min(max(MESSAGES_A_TICK * spacing_ms, SHORTEST_TICK_MS), LONGEST_TICK_MS)
    return tick if 0.0 < spacing_ms < tick else 0.0


def look_back_ms(limits: Limits) -> float:
    """How far back stored starts matter to these limits."""
    spans = [0.0, float(limits.recipient_gap_ms), float(limits.gap_ms)]
    spans += [SECOND_MS] if limits.per_second else []
    spans += [MINUTE_MS] if limits.per_minute or limits.recipient_per_minute else []
    spans += [HOUR_MS] if limits.per_hour else []
    spans += [DAY_MS] if limits.per_day or limits.new_people_per_day or limits.new_chats_per_day else []
    return max(spans)


class Breaker:
    """Stops an instance that is talking into the void, and lets one message at a time feel the way back.

    Nothing written (no network) opens it at once; answers that cannot be read open it after three in a row, so that a
    storm of them makes few unknowns.  The wait doubles from 1 s to 10 s without a network (row S8: back within 10 s),
    and from 30 s to 15 min for unreadable answers.
    """

    UNREADABLE_IN_A_ROW: Final = 3
    SHORTEST_REST_MS: Final = 30 * SECOND_MS

    def __init__(self) -> None:
        self._unreadable = 0
        self._unreachable = 0
        self._openings = 0
        self.reason: str | None = None
        self.unreachable: str | None = None  # why nothing could be written, the last time it was tried

    @property
    def is_probing(self) -> bool:
        """True while only one message at a time may be in flight."""
        return self.reason is not None

    def note_answer(self) -> None:
        """The other side gave a readable answer, of whatever kind."""
        self._unreadable = self._unreachable = self._openings = 0
        self.reason = self.unreachable = None

    def resume(self, unreadable_at: Sequence[int]) -> None:
        """Go on where an earlier process stopped, or each one would make as many unknowns as it has slots.

        unreadable_at: when the last posts in a row began whose answers could not be read, newest first, in ms.
        """
        self._unreadable = len(unreadable_at)
        if self._unreadable >= self.UNREADABLE_IN_A_ROW:
            rests = sum(later - earlier >= self.SHORTEST_REST_MS for later, earlier in pairwise(unreadable_at))
            self._openings = 1 + rests
            self.reason = "answers could not be read"

    def note_not_sent(self, details: str) -> float:
        """Nothing could be written.  Returns how many ms to rest."""
        self._unreachable += 1
        self.reason, self.unreachable = f"not reachable: {details}", details
        return min(SECOND_MS * 2.0 ** min(self._unreachable - 1, 10), 10 * SECOND_MS)

    def note_unreadable(self, details: str) -> float:
        """The answer could not be read.  Returns how many ms to rest: 0.0 until three in a row."""
        self._unreadable += 1
        self.unreachable = None
        if self._unreadable < self.UNREADABLE_IN_A_ROW:
            return 0.0
        self._openings += 1
        self.reason = f"answers cannot be read: {details}"
        return min(self.SHORTEST_REST_MS * 2.0 ** min(self._openings - 1, 10), 15 * MINUTE_MS)


SLOTS_AT_START: Final = 15  # row Q1: the source system's batch
SLOTS_AT_MOST: Final = 256


def next_slots(slots: int, *, all_busy: bool, ceiling: int) -> int:
    """How many posts may be in flight next: half as many again while all are busy and more is due."""
    return min(ceiling, slots + max(1, slots // 2)) if all_busy else slots
