"""A campaign laid out over the numbers of a pool: who sends what, and when.

Moments are ms since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wa_cli.domain.plan import Timetable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wa_cli.domain.pacing import Limits
    from wa_cli.domain.pooling import Seat

# Limits that hold for each recipient, and so are the same whoever of a pool writes to them.
FOR_EACH_PERSON: Final = ("recipient_gap_ms", "recipient_per_minute", "unanswered_per_person")


def divide_limits(own: Mapping[str, int], members: int) -> dict[str, int]:
    """A campaign's limits as each number of a pool keeps them, so that all of them together keep the whole.

    A limit smaller than the pool is one for each: then the times of the plan alone keep it.
    """
    divided: dict[str, int] = {}
    for name, value in own.items():
        if name in FOR_EACH_PERSON or not value:
            divided[name] = value
        elif name == "gap_ms":
            divided[name] = value * members
        else:
            divided[name] = max(value // members, 1)
    return divided


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """One number of a pool, while a campaign is laid out over all of them.

    limits: its own, tightened by its part of the campaign's.  starts: when it has sent lately, oldest first.
    """

    seat: Seat
    name: str
    limits: Limits
    starts: Sequence[float] = ()


class PoolTimetable:
    """When the next message may leave, and from which number of a pool.

    Each number keeps its own limits; what the campaign asks for on top holds for all of them together.
    """

    def __init__(self, desks: Sequence[Desk], *, own: Limits, gap_ms: float = 0.0) -> None:
        """own: the campaign's limits alone.  gap_ms: the least time between two of its messages."""
        self._seats = {desk.seat.instance_id: desk.seat for desk in desks}
        self._own = Timetable(own, gap_ms=gap_ms)
        self._tables = {desk.seat.instance_id: Timetable(desk.limits) for desk in desks}
        self._waiting = {desk.seat.instance_id: desk.seat.waiting for desk in desks}
        self._begins: float | None = None
        for desk in desks:
            self._tables[desk.seat.instance_id].remember(desk.starts)

    @property
    def is_shared(self) -> bool:
        """Whether one message makes the others wait, whoever sends them."""
        return self._own.pace_ms > 0

    @property
    def pace_ms(self) -> float:
        """The time that one message takes up in the long run."""
        paces = [table.pace_ms for table in self._tables.values()]
        together = 1 / sum(1 / pace for pace in paces) if all(paces) else 0.0
        return max(self._own.pace_ms, together)

    def free_at(self, moment: float) -> float:
        """The first moment from then on at which the campaign itself lets one leave, whoever sends it."""
        return self._own.allowed_at(moment)

    def find_place(self, moment: float, seat: int | None) -> tuple[float, int]:
        """(the first moment from then on, who sends).  seat: who writes to this person already, or None."""
        if self._begins is None:
            self._begins = moment
        if seat is not None and seat in self._tables:
            return self._allowed_at(seat, moment), seat

        def rank(instance_id: int) -> tuple[bool, float, float, int]:
            one = self._seats[instance_id]
            hours = (self._waiting[instance_id] + 1) / max(one.an_hour, 1e-6)
            return (not one.is_healthy, self._allowed_at(instance_id, moment), hours, instance_id)

        chosen = min(self._tables, key=rank)
        return self._allowed_at(chosen, moment), chosen

    def note(self, at: float, sender: int | None) -> None:
        """One leaves at this moment from the number that `find_place` has named."""
        assert sender is not None
        self._own.note(at)
        self._tables[sender].note(at)
        self._waiting[sender] += 1

    def _allowed_at(self, instance_id: int, moment: float) -> float:
        begins = (self._begins or moment) + self._seats[instance_id].phase_ms
        return max(self._own.allowed_at(moment), self._tables[instance_id].allowed_at(moment), begins)
