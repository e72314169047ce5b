"""Several numbers behind one name: which of them writes to whom.

Somebody who has a number that wrote to them keeps it.  Somebody new goes to the healthy number that would be free for
them soonest, as long as its budget of new people lasts.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from wa_cli.domain.pacing import HOUR_MS, MINUTE_MS, SECOND_MS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from wa_cli.domain.pacing import Limits

# What a number without any limit is taken to send an hour, so that it can be compared.
UNLIMITED_AN_HOUR: Final = 3_600_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """One number of a pool, as it stands when somebody is to be given to it.

    an_hour: how many messages its limits let out.  waiting: messages that wait for it already.
    new_people_left: how many it may write to for the first time today, None for any number.
    phase_ms: how much later than asked its messages are due, so that the numbers do not send in step.
    """

    instance_id: int
    is_healthy: bool
    an_hour: float
    waiting: int
    new_people_left: int | None = None
    phase_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolTerms:
    """A pool, and its numbers as they stand now.  There is at least one."""

    pool_id: int
    seats: tuple[Seat, ...]


def count_an_hour(limits: Limits) -> float:
    """How many messages these limits let out in an hour."""
    rates = [UNLIMITED_AN_HOUR]
    rates += [limits.per_hour] if limits.per_hour else []
    rates += [limits.per_minute * HOUR_MS / MINUTE_MS] if limits.per_minute else []
    rates += [limits.per_second * HOUR_MS / SECOND_MS] if limits.per_second else []
    rates += [HOUR_MS / limits.gap_ms] if limits.gap_ms else []
    return float(min(rates))


def choose_phases(gaps_ms: Sequence[int]) -> list[int]:
    """How much later each of some numbers sends, so that their gaps do not begin together."""
    return [gap_ms * place // len(gaps_ms) for place, gap_ms in enumerate(gaps_ms)]


class Seating:
    """Gives people to the numbers of a pool, over one call."""

    def __init__(self, terms: PoolTerms) -> None:
        self._seats = {seat.instance_id: seat for seat in terms.seats}
        self._waiting = {seat.instance_id: seat.waiting for seat in terms.seats}
        self._new = dict.fromkeys(self._seats, 0)

    def seat(
        self,
        contact_ids: Iterable[int],
        known: Mapping[int, int],
        barred: Mapping[int, Collection[int]] = MappingProxyType({}),
    ) -> dict[int, int]:
        """The instance for each contact.

        known: the one that wrote to them before, which they keep.  barred: those that cannot write to a group.
        """
        chosen: dict[int, int] = {}
        for contact_id in contact_ids:
            if contact_id in chosen:
                self._waiting[chosen[contact_id]] += 1
                continue
            instance_id = known.get(contact_id)
            out = barred.get(contact_id, ())
            if instance_id is None or instance_id not in self._seats or instance_id in out:
                instance_id = self._choose(out)
                self._new[instance_id] += 1
            self._waiting[instance_id] += 1
            chosen[contact_id] = instance_id
        return chosen

    def phase_ms(self, instance_id: int) -> int:
        return self._seats[instance_id].phase_ms

    def _choose(self, out: Collection[int]) -> int:
        """Healthy before ill, with budget before without, then who would be free soonest."""

        def rank(seat: Seat) -> tuple[bool, bool, float, int]:
            used = self._new[seat.instance_id]
            is_spent = seat.new_people_left is not None and used >= seat.new_people_left
            hours = (self._waiting[seat.instance_id] + 1) / max(seat.an_hour, 1e-6)
            return (not seat.is_healthy, is_spent, hours, seat.instance_id)

        able = [seat for seat in self._seats.values() if seat.instance_id not in out]
        return min(able or self._seats.values(), key=rank).instance_id
