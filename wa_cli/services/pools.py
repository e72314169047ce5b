"""Pools at work: how their numbers stand, and what is taken from one that cannot send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from wa_cli.domain.connection import NEEDS_A_PERSON, ConnectionState, RestrictionScope
from wa_cli.domain.pooling import PoolTerms, Seat, Seating, choose_phases, count_an_hour
from wa_cli.services.instances import is_restricted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from wa_cli.domain.message import Content
    from wa_cli.domain.pacing import Limits
    from wa_cli.domain.recipient import RecipientKind
    from wa_cli.ports import Instance, Pool, Problem, SendRules

# A connection that comes back within this long keeps its messages.
LOST_FOR_MS: Final = 60_000
DAY_MS: Final = 86_400_000


class Pools(Protocol):
    def list_known(self, instance_id: int) -> set[int]: ...

    def move_from(self, pool_id: int, instance_id: int, *, known: Collection[int]) -> list[tuple[int, int]]: ...

    def move(self, pool_id: int, moves: Sequence[tuple[int, int, int]], *, reason: str, now_ms: int) -> int: ...


class Instances(Protocol):
    def find(self, name: str) -> Instance: ...


class Depths(Protocol):
    def read_depths(self) -> Mapping[int, tuple[int, int]]: ...


class Figures(Protocol):
    def count_people(self, instance_id: int, *, since_ms: int) -> int: ...

    def count_new_chats(self, instance_id: int, *, since_ms: int) -> int: ...


class Accounts(Protocol):
    def find_missing(self, instance: Instance) -> list[str]: ...


class Parts(Protocol):
    """What this needs of the app."""

    @property
    def pools(self) -> Pools: ...

    @property
    def instances(self) -> Instances: ...

    @property
    def upkeep(self) -> Depths: ...

    @property
    def figures(self) -> Figures: ...

    def limits(self, instance: Instance) -> Limits: ...

    @property
    def accounts(self) -> Accounts: ...


class CommonRules:
    """What every instance of a pool accepts."""

    def __init__(self, rules: Sequence[SendRules]) -> None:
        self._rules = rules

    def find_problem(self, content: Content) -> Problem | None:
        """The first thing that one of them would refuse, or None."""
        return next(filter(None, (rules.find_problem(content) for rules in self._rules)), None)

    def find_lack(self, kind: str) -> Problem | None:
        """Why no message of this kind can be sent by all of them, or None."""
        return next(filter(None, (rules.find_lack(kind) for rules in self._rules)), None)

    def needs_window(self, content: Content) -> bool:
        """Whether any of them wants that the person has written within 24 h."""
        return any(rules.needs_window(content) for rules in self._rules)

    def find_recipient_problem(self, kind: RecipientKind) -> Problem | None:
        return next(filter(None, (rules.find_recipient_problem(kind) for rules in self._rules)), None)


def is_ill(instance: Instance, *, missing: Collection[str], now_ms: int) -> bool:
    """Whether an instance cannot send, and will not by itself within a minute."""
    if instance.paused_at_ms is not None or missing:
        return True
    state = instance.connection
    if state is None or state is ConnectionState.READY:
        restriction = instance.restriction
        return (
            is_restricted(instance, now_ms=now_ms)
            and restriction is not None
            and restriction.scope is RestrictionScope.EVERYTHING
        )
    return state in NEEDS_A_PERSON or now_ms - (instance.connection_since_ms or 0) >= LOST_FOR_MS


def read_terms(parts: Parts, pool: Pool, *, now_ms: int) -> PoolTerms:
    """How the numbers of a pool stand now."""
    members = [parts.instances.find(name) for name in pool.members]
    limits = [parts.limits(one) for one in members]
    depths = parts.upkeep.read_depths()
    phases = choose_phases([one.gap_ms for one in limits])
    seats = [
        Seat(
            instance_id=member.id,
            is_healthy=_is_healthy(parts, member, now_ms=now_ms),
            an_hour=count_an_hour(limit),
            waiting=depths.get(member.id, (0, 0))[0],
            new_people_left=_count_left(parts, member, limit, now_ms=now_ms),
            phase_ms=phase,
        )
        for member, limit, phase in zip(members, limits, phases, strict=True)
    ]
    return PoolTerms(pool_id=pool.id, seats=tuple(seats))


def _is_healthy(parts: Parts, instance: Instance, *, now_ms: int) -> bool:
    """Whether somebody new may be given to it: it can send, and new people are not kept back."""
    if is_restricted(instance, now_ms=now_ms):
        return False
    return not is_ill(instance, missing=parts.accounts.find_missing(instance), now_ms=now_ms)


def _count_left(parts: Parts, instance: Instance, limits: Limits, *, now_ms: int) -> int | None:
    since_ms = now_ms - DAY_MS
    left: list[int] = []
    if limits.new_people_per_day:
        left.append(limits.new_people_per_day - parts.figures.count_people(instance.id, since_ms=since_ms))
    if limits.new_chats_per_day:
        left.append(limits.new_chats_per_day - parts.figures.count_new_chats(instance.id, since_ms=since_ms))
    return max(min(left), 0) if left else None


def move_from_ill(parts: Parts, pools: Iterable[Pool], *, now_ms: int) -> int:
    """Give what waits for numbers that cannot send to healthy ones of their pools.  Returns how many were moved.

    Only people whom that number has never written to: the others would be written to by a stranger.
    """
    moved = 0
    for pool in pools:
        members = [parts.instances.find(name) for name in pool.members]
        ill = [one for one in members if is_ill(one, missing=parts.accounts.find_missing(one), now_ms=now_ms)]
        if not ill or len(ill) == len(members):
            continue
        terms = read_terms(parts, pool, now_ms=now_ms)
        healthy = tuple(seat for seat in terms.seats if seat.is_healthy)
        if not healthy:
            continue
        for one in ill:
            waiting = parts.pools.move_from(pool.id, one.id, known=parts.pools.list_known(one.id))
            if not waiting:
                continue
            seating = Seating(PoolTerms(pool_id=pool.id, seats=healthy))
            seats = seating.seat((contact_id for _message_id, contact_id in waiting), {})
            moves = [(message_id, contact_id, seats[contact_id]) for message_id, contact_id in waiting]
            moved += parts.pools.move(pool.id, moves, reason=f"{one.name} cannot send", now_ms=now_ms)
    return moved
