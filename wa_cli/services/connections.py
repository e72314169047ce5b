"""The connections of linked devices: the restarts that are taken, how far up the ladder one is, what a loss means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wa_cli.domain.connection import NEEDS_A_PERSON, ConnectionState, RestartKind
from wa_cli.domain.ladder import Past, PastRestart, Rung, choose_rung, find_free_at_ms
from wa_cli.errors import NeedsPerson, Refused, Temporary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wa_cli.domain.connection import Connection
    from wa_cli.domain.ladder import LadderTerms
    from wa_cli.errors import WaError
    from wa_cli.ports import Instance, Instances
    from wa_cli.provider import Gateway

# How far back restarts matter: the slowest rungs are half an hour apart, and the window may be longer by the settings.
LOOK_BACK_MS: Final = 86_400_000
RESTART_LOOK_SECONDS: Final = 1.0


def read_restarts(
    instances: Instances, instance_id: int, terms: LadderTerms, *, now_ms: int
) -> tuple[list[PastRestart], int | None]:
    """The restarts of the last day and of the window, oldest first; and when a pause was last lifted, or None."""
    since_ms = now_ms - max(LOOK_BACK_MS, terms.window_ms)
    events = instances.read_events(instance_id, since_ms=since_ms)
    restarts = [PastRestart(at_ms=one.at_ms, rung=Rung(one.word)) for one in events if one.kind == "restart"]
    resumed = [one.at_ms for one in events if one.kind == "resumed"]
    return restarts, resumed[-1] if resumed else None


def take_rung(
    instances: Instances, instance_id: int, rung: Rung, terms: LadderTerms, *, details: str | None, now_ms: int
) -> bool:
    """Note a rung before it is climbed.  False: the window has no room for it."""
    return instances.take_restart(
        instance_id,
        word=rung.value,
        details=details,
        at_most=terms.restarts_at_most,
        window_ms=terms.window_ms,
        now_ms=now_ms,
    )


def take_restart(
    instances: Instances, instance: Instance, kind: RestartKind, terms: LadderTerms, *, now_ms: int
) -> int:
    """Note a restart that a person asks for, before the gateway is asked.  Returns how many are left in the window.

    Raises: Refused when the window is full (code `too_many_restarts`, with the moment from which on there is room) or
    the gateway has no such restart (code `no_such_restart`).
    Source: row H11.
    """
    if kind not in terms.kinds:
        known = ", ".join(sorted(terms.kinds))
        raise Refused(
            f"the gateway of '{instance.name}' has no {kind} restart",
            hint=f"it has: {known}" if known else "restart it where it runs",
            code="no_such_restart",
        )
    if not take_rung(instances, instance.id, Rung(kind.value), terms, details="asked for", now_ms=now_ms):
        restarts, _resumed = read_restarts(instances, instance.id, terms, now_ms=now_ms)
        seconds = max(1, -(-(find_free_at_ms(restarts, terms, now_ms=now_ms) - now_ms) // 1000))
        minutes = round(terms.window_ms / 60_000)
        wait = f"{seconds} s" if seconds < 120 else f"{seconds // 60} min {seconds % 60} s"
        raise Refused(
            f"'{instance.name}' was restarted {terms.restarts_at_most} times in {minutes} min: no more for {wait}",
            hint=f"look at what is wrong meanwhile: `wa instance status {instance.name}`"
            if terms.restarts_at_most
            else "MAX_RESTARTS_PER_WINDOW is 0",
            code="too_many_restarts",
        )
    restarts, _resumed = read_restarts(instances, instance.id, terms, now_ms=now_ms)
    return terms.restarts_at_most - count_in_window(restarts, terms, now_ms=now_ms)


def count_in_window(restarts: list[PastRestart], terms: LadderTerms, *, now_ms: int) -> int:
    return sum(one.at_ms >= now_ms - terms.window_ms for one in restarts)


def describe_loss(name: str, found: Connection) -> WaError:
    """The error that says why nothing can be sent now, and what to type."""
    reason = f": {found.reason}" if found.reason else ""
    if found.state in NEEDS_A_PERSON:
        what = "is not paired" if found.state is ConnectionState.NEEDS_QR else "is logged out"
        return NeedsPerson(f"'{name}' {what}{reason}", hint=f"`wa instance pair {name}`", code=found.state.value)
    return Temporary(
        f"'{name}' is not connected ({found.state.value}){reason}",
        hint=f"nothing in the queue is lost; run the same command later, `wa instance status {name}` shows more",
        code="not_ready",
    )


async def wait_until_ready(
    gateway: Gateway,
    *,
    name: str,
    note: Callable[[Connection], None],
    sleep: Callable[[float], Awaitable[None]],
    steady_ms: Callable[[], float],
    patience_seconds: float,
) -> Connection:
    """The connection once the device is ready after a restart.  note: told of every look.

    Raises: NeedsPerson when it has to be paired, Temporary when it is not ready in time.
    """
    ends = steady_ms() + patience_seconds * 1000
    while True:
        await sleep(RESTART_LOOK_SECONDS)  # first: until the gateway has begun, it says what was
        try:
            found = await gateway.look()
        except Temporary:  # some gateways go away themselves
            if steady_ms() >= ends:
                raise
            continue
        note(found)
        if found.state is ConnectionState.READY:
            return found
        trouble = describe_loss(name, found)
        if isinstance(trouble, NeedsPerson) or steady_ms() >= ends:
            raise trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconnection:
    """How a lost device is being brought back.

    attempts: restarts since it was lost.  used, at_most, window_ms: of the restarts in the window.
    next_rung, next_at_ms: what comes next and from when on, unless it is ready by then; None where nothing does.
    """

    is_reconnecting: bool
    attempts: int
    used: int
    at_most: int
    window_ms: int
    next_rung: Rung | None
    next_at_ms: int | None


def read_reconnection(instances: Instances, instance: Instance, terms: LadderTerms, *, now_ms: int) -> Reconnection:
    """Row H12.  As far as the file knows it: a monitor knows better since when its gateway answers."""
    restarts, _resumed = read_restarts(instances, instance.id, terms, now_ms=now_ms)
    used = count_in_window(restarts, terms, now_ms=now_ms)
    state = instance.connection
    is_lost = state is not None and state is not ConnectionState.READY
    since_ms = instance.connection_since_ms or now_ms
    if is_lost:
        for event in reversed(instances.read_events(instance.id, since_ms=now_ms - LOOK_BACK_MS, kind="state")):
            if event.word == ConnectionState.READY:
                break
            since_ms = min(since_ms, event.at_ms)
    attempts = sum(one.at_ms >= since_ms for one in restarts) if is_lost else 0
    climbs = (
        is_lost
        and state not in NEEDS_A_PERSON
        and instance.connection_raw != "unreachable"
        and instance.paused_at_ms is None
        and terms.restarts_at_most > 0
    )
    rung, at_ms = None, None
    if climbs:
        assert state is not None
        past = Past(
            lost_since_ms=since_ms,
            answered_since_ms=since_ms,
            state_since_ms=instance.connection_since_ms or now_ms,
            restarts=restarts,
        )
        rung, due_at_ms = choose_rung(state, past, terms, now_ms=now_ms)
        at_ms = max(due_at_ms, find_free_at_ms(restarts, terms, now_ms=now_ms))
    return Reconnection(
        is_reconnecting=is_lost and state not in NEEDS_A_PERSON and instance.paused_at_ms is None,
        attempts=attempts,
        used=used,
        at_most=terms.restarts_at_most,
        window_ms=terms.window_ms,
        next_rung=rung,
        next_at_ms=at_ms,
    )
