"""When the messages of one instance may leave: limits, budgets, the spacing of lanes, limits of campaigns, quiet hours.

The rules are pure and stand in `domain.pacing`; what they need to know of the past is read from the store here, and
remembered.  Only turns touch any of it, on the writer thread.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict, deque
from typing import TYPE_CHECKING, Final

from wa_cli.domain.pacing import Windows, batch_of, look_back_ms
from wa_cli.errors import WaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from wa_cli.domain.pacing import Limits
    from wa_cli.ports import BatchTerms, Due, QueueTurn

log = logging.getLogger("wa.dispatch")

# A start this late still counts as on time, so that a small lateness does not push the whole schedule back.
LATENESS_FORGIVEN_MS: Final = 50.0
# A drain sits out a limit of one recipient when it is shorter than this: longer ones are another run's business.
SHORT_LIMIT_MS: Final = 10_000.0
# A limit ends on the steady clock and the message it put off is due on the wall clock, which is rounded to milliseconds
# and may be running slow to be set right: so long after the limit's end the message may still not be due.
CLOCKS_APART_MS: Final = 100.0
QUIET_LOOK_MS: Final = 3_600_000
# So many of those who wait for a budget have a place of their own in it.
PLACES_AT_MOST: Final = 1_000
OPENINGS_REMEMBERED: Final = 1_000
RUNS_REMEMBERED: Final = 1_000  # campaigns with limits of their own; what one has sent can be read again
CACHED: Final = 10_000  # terms, lanes and contents kept in memory
SOMEBODY_NEW: Final = 0  # no contact has this number


class Pace:
    """What lets the messages of one instance leave, and when.

    Moments called `now` and those answered are ms on the steady clock; `now_ms` is the same moment on the wall clock.
    """

    def __init__(self, *, instance_id: int, limits: Limits | Callable[[int], Limits], now_ms: int) -> None:
        """limits: or what tells them for a moment (ms since 1970), where they change with the age of the number."""
        self._instance_id = instance_id
        self._find_limits = limits if callable(limits) else None
        self.limits = limits(now_ms) if callable(limits) else limits
        self.windows = Windows(self.limits)
        self._is_rebuilt = False
        self._must_recall = False
        # When those who wait for a budget of new people or new chats have their place in it, soonest first.
        self._places: dict[str, deque[float]] = {"new_people_limit": deque(), "new_chats_limit": deque()}
        self.chosen: Counter[int] = Counter()  # messages of this turn, by contact
        self.opening: set[int] = set()  # people with whom this turn opens a chat
        self._limited_until = float("-inf")
        self._terms: OrderedDict[int, BatchTerms] = OrderedDict()
        self._lane_free_at: dict[int, float] = {}
        # By the words of the batch: the moment asked about, the next opening from then, its end, the rule for waiting.
        self._openings: dict[str, tuple[int, int, int, str]] = {}
        self._run_windows: OrderedDict[int, Windows] = OrderedDict()

    # --- of the instance ---

    def begin_turn(self, store: QueueTurn, *, now_ms: int, now: float) -> None:
        """Take over the limits of this moment, and read the starts they count that were not kept.

        Under other limits, messages that wait for a place in a budget are due again: there may be more of them now.
        """
        if self._find_limits is not None:
            self._change_limits(self._find_limits(now_ms))
        if self._must_recall:
            store.recall(self._instance_id, tuple(self._places), now_ms=now_ms)
        if not self._is_rebuilt:
            self._rebuild_windows(store, now_ms=now_ms, now=now)
            self._is_rebuilt = True

    def end_turn(self) -> None:
        """What the turn has written is on the disk."""
        self._must_recall = False

    def _change_limits(self, limits: Limits) -> None:
        if limits == self.limits:
            return
        self.limits = limits
        self._must_recall = True
        for places in self._places.values():
            places.clear()
        if not self.windows.set_limits(limits):
            windows = Windows(limits)
            windows.take_pace(self.windows)
            self.windows, self._is_rebuilt = windows, False

    def _rebuild_windows(self, store: QueueTurn, *, now_ms: int, now: float) -> None:
        since_ms = now_ms - round(look_back_ms(self.limits)) - 1
        starts = store.read_starts(self._instance_id, since_ms=since_ms)
        openings = store.read_chats(self._instance_id, since_ms=since_ms) if self.limits.new_chats_per_day else ()
        # A start in the future means that the wall clock was set back: count it as made just now.
        self.windows.rebuild(
            ((contact_id, now - max(now_ms - at_ms, 0)) for contact_id, at_ms in starts),
            openings=[now - max(now_ms - at_ms, 0) for at_ms in openings],
        )

    # --- of one message ---

    def begin_choice(self) -> None:
        """Nothing has been chosen in this turn yet."""
        self.chosen.clear()
        self.opening.clear()

    def find_allowed(
        self, store: QueueTurn, row: Due, terms: BatchTerms, *, now_ms: int, now: float
    ) -> tuple[float, str]:
        """When limits and budgets let a message leave, its lane's aside, and the rule that makes it wait."""
        allowed_at = self.windows.recipient_allowed_at(row.contact_id, now)
        rule = "recipient_limit"
        person_at = self.windows.new_person_allowed_at(row.contact_id, now)
        if person_at > allowed_at:
            allowed_at, rule = person_at, "new_people_limit"
        if self.limits.new_chats_per_day and self._opens_chat(store, row):
            chat_at = self.windows.new_chat_allowed_at(now)
            if chat_at > allowed_at:
                allowed_at, rule = chat_at, "new_chats_limit"
        if terms.limits is not None:
            own_at = self._own_allowed_at(store, row, now_ms=now_ms, now=now)
            if own_at > allowed_at:
                allowed_at, rule = own_at, "campaign_limit"
        return allowed_at, rule

    def note_start(self, store: QueueTurn, row: Due, terms: BatchTerms, *, now_ms: int, now: float) -> None:
        """A message leaves at this moment."""
        opens_chat = bool(self.limits.new_chats_per_day) and self._opens_chat(store, row)
        if opens_chat:
            self.opening.add(row.contact_id)
        self.chosen[row.contact_id] += 1
        self.windows.note(row.contact_id, now, opens_chat=opens_chat)
        if terms.limits is not None:
            own = self.own_windows(store, row.batch_id, now_ms=now_ms, now=now)
            if own is not None:
                own.note(row.contact_id, now)

    def _opens_chat(self, store: QueueTurn, row: Due) -> bool:
        """Whether this message would be the first ever between the two; groups are nobody new."""
        return (
            row.kind == "person"
            and not self.chosen[row.contact_id]
            and store.opens_chat(self._instance_id, row.contact_id)
        )

    def take_place(self, rule: str, row: Due, *, allowed_at: float, now: float) -> float:
        """When a message that a limit keeps back is looked at again: behind those that wait for the same budget.

        Each has a place of its own, or all of them would be looked at whenever one place falls free.  A message that
        has lost its place to another one takes the next, and is not sent to the end of the row.
        allowed_at: when the limit itself would let it leave.
        """
        if rule not in self._places or row.reason == rule:
            return allowed_at
        places = self._places[rule]
        while places and places[0] <= now:
            places.popleft()
        behind = min(len(places), PLACES_AT_MOST)
        if rule == "new_chats_limit":
            at = self.windows.new_chat_allowed_at(now, behind=behind)
        else:
            at = self.windows.new_person_allowed_at(row.contact_id, now, behind=behind)
        if behind < PLACES_AT_MOST:
            places.append(at)
        return at

    def note_limited(self, until: float, *, now: float) -> None:
        """A message that was due has been put off by a limit: it still counts as due if that ends soon."""
        if until - now <= SHORT_LIMIT_MS:
            self._limited_until = max(self._limited_until, until)

    def is_limited_at(self, now: float) -> bool:
        """Whether some message is kept back at this moment that `note_limited` was told of."""
        return now <= self._limited_until + CLOCKS_APART_MS

    def opens_at_ms(self, quiet: str, now_ms: int) -> tuple[int, str]:
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

    # --- of a lane ---

    def read_terms(self, store: QueueTurn, batch_id: int) -> BatchTerms:
        """What a batch says of all its messages."""
        terms = self._terms.get(batch_id)
        if terms is None:
            terms = self._terms[batch_id] = store.read_terms(batch_id)
            if len(self._terms) > CACHED:
                self._terms.popitem(last=False)
        return terms

    def note_lane(self, lane: int, delay_ms: int, *, due_at: float, now: float) -> None:
        """A message of a spaced lane leaves: when may the next one?

        One that is nearly on time keeps the lane on its schedule; one that is late starts a new spacing from now, so
        that overdue messages never go out in a burst (row R5).
        """
        slot = max(due_at, self._lane_free_at.get(lane, due_at))
        if slot < now - min(LATENESS_FORGIVEN_MS, delay_ms / 4):
            slot = now
        self._lane_free_at[lane] = slot + delay_ms

    def lane_allowed_at(self, store: QueueTurn, lane: int, *, now_ms: int, now: float) -> float:
        """When a lane may start another message by its spacing and the limits of its campaign: `now` or later."""
        batch_id = batch_of(lane)
        if not batch_id:
            return now
        free_at = self._lane_free_at.get(lane)
        if free_at is None:
            terms = self.read_terms(store, batch_id)
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
        own = self.own_windows(store, batch_id, now_ms=now_ms, now=now)
        return max(now, free_at) if own is None else max(now, free_at, limit_ends_at(own, now))

    def lane_wakes_at(self, store: QueueTurn, lane: int, *, now_ms: int, now: float) -> float:
        """When to look at a lane again: when it may start, or a little later when more of it may leave together."""
        allowed_at = self.lane_allowed_at(store, lane, now_ms=now_ms, now=now)
        own = self.own_windows(store, batch_of(lane), now_ms=now_ms, now=now)
        return allowed_at if own is None else max(allowed_at, own.worth_waking_at(now))

    def is_long_limited(self, store: QueueTurn, lane: int, *, now_ms: int, now: float) -> bool:
        """Whether the limits of a campaign keep its lane back for longer than a drain sits out."""
        own = self.own_windows(store, batch_of(lane), now_ms=now_ms, now=now)
        return own is not None and limit_ends_at(own, now) - now > SHORT_LIMIT_MS

    def own_windows(self, store: QueueTurn, batch_id: int, *, now_ms: int, now: float) -> Windows | None:
        """What a campaign has sent, as far as limits of its own look back: None where it has no limits."""
        if not batch_id:
            return None
        terms = self.read_terms(store, batch_id)
        if terms.limits is None or terms.run_id is None:
            return None
        windows = self._run_windows.get(terms.run_id)
        if windows is None:
            since_ms = now_ms - round(look_back_ms(terms.limits)) - 1
            starts = store.read_starts(self._instance_id, since_ms=since_ms, run_id=terms.run_id)
            windows = self._run_windows[terms.run_id] = Windows(terms.limits)
            windows.rebuild((contact_id, now - max(now_ms - at_ms, 0)) for contact_id, at_ms in starts)
            if len(self._run_windows) > RUNS_REMEMBERED:
                self._run_windows.popitem(last=False)
        return windows

    def _own_allowed_at(self, store: QueueTurn, row: Due, *, now_ms: int, now: float) -> float:
        """When the limits of its campaign let a message leave, whichever lane it is in."""
        own = self.own_windows(store, row.batch_id, now_ms=now_ms, now=now)
        if own is None:
            return now
        return max(
            own.allowed_at(now),
            own.recipient_allowed_at(row.contact_id, now),
            own.new_person_allowed_at(row.contact_id, now),
        )


def limit_ends_at(windows: Windows, now: float) -> float:
    """When a campaign with limits of its own may start another message: `now` or later.

    A campaign hardly writes to anybody twice, so one that has used up its new people of the day waits as a whole.
    """
    return max(windows.allowed_at(now), windows.new_person_allowed_at(SOMEBODY_NEW, now))
