"""Instances as their keeper sees them: where each stands, which limits hold and why, and the pause that is kept."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from wa_cli.domain.connection import ConnectionState, RestrictionScope
from wa_cli.domain.pacing import MINUTE_MS, Limits, Windows
from wa_cli.domain.restriction import in_force

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wa_cli.config import Settings
    from wa_cli.domain.connection import Restriction
    from wa_cli.ports import Clock, Holder, Instance, Instances, Leases

# How long `pause` waits for posts that had begun before it.
PAUSE_PATIENCE_SECONDS: Final = 5.0
PAUSE_LOOK_SECONDS: Final = 0.02


class Standing(StrEnum):
    """May an instance send?  READY says nothing about whether anybody sends for it at present.

    RESTRICTED: some of its messages wait for the end of a restriction, or all of them.
    """

    READY = "ready"
    CONNECTING = "connecting"
    NEEDS_QR = "needs_qr"
    DISCONNECTED = "disconnected"
    AUTH_FAILURE = "auth_failure"
    ERROR = "error"
    RESTRICTED = "restricted"
    PAUSED = "paused"
    RESTING = "resting"
    NO_ACCOUNT = "no_account"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceReport:
    """One instance at one moment.

    reason: why it is not ready, or None.  next_due_at_ms: of its first waiting message.  holder: who sends for it.
    restriction: in force now, beside whatever else keeps it from sending.
    """

    instance: Instance
    standing: Standing
    reason: str | None
    waiting: int
    sending: int
    next_due_at_ms: int | None
    holder: Holder | None
    restriction: Restriction | None = None


def judge_standing(instance: Instance, *, missing: Sequence[str] = (), now_ms: int) -> tuple[Standing, str | None]:
    """Where an instance stands, and why.  What needs a person weighs more than what passes by itself.

    missing: the variables that it lacks, for its reason.
    """
    if instance.paused_at_ms is not None:
        code = f" (code {instance.pause_code})" if instance.pause_code else ""
        return Standing.PAUSED, f"{instance.pause_reason or 'paused by hand'}{code}"
    if missing:
        return Standing.NO_ACCOUNT, f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set"
    if instance.connection is not None and instance.connection is not ConnectionState.READY:
        return Standing(instance.connection), instance.connection_reason or WORDS[instance.connection]
    if is_restricted(instance, now_ms=now_ms):
        assert instance.restriction is not None
        kept_back, code = KEPT_BACK[instance.restriction.scope], instance.restriction.code
        return Standing.RESTRICTED, f"{kept_back}: {instance.restriction.reason} (code {code})"
    if instance.rests_until_ms > now_ms:
        return Standing.RESTING, instance.rest_reason or "resting"
    return Standing.READY, None


# What waits while a number is restricted.
KEPT_BACK: Final = {
    RestrictionScope.NEW_PEOPLE: "people who have never written to it wait",
    RestrictionScope.OUTSIDE_WINDOW: "people who have not written within 24 h wait",
    RestrictionScope.EVERYTHING: "everything waits",
}

# What a state says where its gateway gives no reason.
WORDS: Final = {
    ConnectionState.CONNECTING: "the device is connecting",
    ConnectionState.NEEDS_QR: "the device is not paired: somebody has to scan a QR code",
    ConnectionState.DISCONNECTED: "the device is not connected",
    ConnectionState.AUTH_FAILURE: "the phone has logged the device out",
    ConnectionState.ERROR: "the gateway is in trouble",
}


def is_restricted(instance: Instance, *, now_ms: int) -> bool:
    """Whether the platform holds the number back at this moment."""
    return in_force(instance.restriction, now_ms=now_ms) is not None


class Depths(Protocol):
    def read_depths(self) -> Mapping[int, tuple[int, int]]: ...


class DueTimes(Protocol):
    def next_due_at_ms(self, instance_id: int) -> int | None: ...


def read_instance(
    instance: Instance, *, missing: Sequence[str], depths: Depths, due_times: DueTimes, leases: Leases, now_ms: int
) -> InstanceReport:
    """Look at one instance.  missing: the variables and settings that it lacks."""
    standing, reason = judge_standing(instance, missing=missing, now_ms=now_ms)
    waiting, sending = depths.read_depths().get(instance.id, (0, 0))
    return InstanceReport(
        instance=instance,
        standing=standing,
        reason=reason,
        waiting=waiting,
        sending=sending,
        next_due_at_ms=due_times.next_due_at_ms(instance.id),
        holder=leases.find_holder(instance.id, now_ms=now_ms),
        restriction=in_force(instance.restriction, now_ms=now_ms),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitInForce:
    """One limit by its name in `Limits`.  value: 0 when nothing limits.  origin: a setting's name or `profile NAME`.

    used: how much of it has gone, where it is one of the whole instance in a window of time that was looked at.
    """

    name: str
    value: int
    origin: str
    used: int | None = None

    @property
    def left(self) -> int | None:
        """How many messages it lets out yet; None where nothing limits, or it is not known."""
        return max(self.value - self.used, 0) if self.value and self.used is not None else None


def explain_limits(profile: str, limits: Limits, setting_of: Mapping[str, str]) -> list[LimitInForce]:
    """Every limit with where it comes from.  setting_of: the setting that replaced it, by the limit's name."""
    return [
        LimitInForce(
            name=field.name, value=getattr(limits, field.name), origin=setting_of.get(field.name, f"profile {profile}")
        )
        for field in fields(Limits)
    ]


def read_limits_in_force(
    settings: Settings, limits: Limits, *, profile: str, instance: Instance, now_ms: int
) -> list[LimitInForce]:
    """Every limit with where it comes from: the instance's warm-up, the instance, a setting or the profile."""
    from wa_cli.config import LIMIT_SETTINGS
    from wa_cli.domain.warm_up import day_of, find_step

    origins = {field: name for name, field in LIMIT_SETTINGS.items() if settings.text(name) != ""}
    origins |= dict.fromkeys(instance.limits, "instance")
    if instance.warm_up_since_ms is not None:
        step = find_step(instance.warm_up_since_ms, now_ms=now_ms)
        words = f"warm-up, day {day_of(instance.warm_up_since_ms, now_ms=now_ms)}"
        tightened = step.limits if step is not None else {}
        origins |= {name: words for name, value in tightened.items() if getattr(limits, name) == value}
    return explain_limits(profile, limits, origins)


SPANS_MS: Final = {"per_second": 1_000, "per_minute": 60_000, "per_hour": 3_600_000, "per_day": 86_400_000}


def note_used(limits: Sequence[LimitInForce], starts: Sequence[tuple[int, int]], *, now_ms: int) -> list[LimitInForce]:
    """The same limits with how much of each has gone.  starts: (contact id, started at), as far back as they matter."""
    used = {name: sum(at > now_ms - span_ms for _contact, at in starts) for name, span_ms in SPANS_MS.items()}
    return [replace(limit, used=used[limit.name]) if limit.name in used and limit.value else limit for limit in limits]


def count_limited_recipients(limits: Limits, starts: Sequence[tuple[int, int]], *, now_ms: int) -> int:
    """How many recipients have to wait now.  starts: (contact id, started at) of the last minute.  Source: row T7."""
    windows = Windows(
        Limits(recipient_gap_ms=limits.recipient_gap_ms, recipient_per_minute=limits.recipient_per_minute)
    )
    windows.rebuild((contact_id, float(min(started_at, now_ms))) for contact_id, started_at in starts)
    return windows.count_limited_recipients(float(now_ms))


def find_next_start_ms(
    report: InstanceReport, limits: Limits, starts: Sequence[tuple[int, int]], *, now_ms: int
) -> int | None:
    """When the next post may begin, as far as the limits of the whole instance go; None while nothing may leave.

    starts: (contact id, started at), as far back as they matter.  Source: row H12.
    """
    if report.standing not in (Standing.READY, Standing.RESTING, Standing.RESTRICTED):
        return None
    windows = Windows(limits)
    windows.rebuild((contact_id, float(min(started_at, now_ms))) for contact_id, started_at in starts)
    return max(now_ms, report.instance.rests_until_ms, math.ceil(windows.allowed_at(float(now_ms))))


def start_look_back_ms(limits: Limits) -> int:
    """How far back starts matter to `find_next_start_ms`."""
    return 86_400_000 if limits.per_day else 3_600_000


def recipient_look_back_ms(limits: Limits) -> int:
    """How far back starts matter to `count_limited_recipients`."""
    return max(round(MINUTE_MS) if limits.recipient_per_minute else 0, limits.recipient_gap_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """was_paused: it stood still already, and its first reason stays.  in_flight: posts that have not landed yet."""

    was_paused: bool
    in_flight: int


def pause(
    instance: Instance,
    *,
    reason: str,
    instances: Instances,
    leases: Leases,
    clock: Clock,
    wait: Callable[[float], None] = time.sleep,
) -> Paused:
    """Pause by hand.  Once this returns no post starts, and those that had begun have landed or are counted.

    wait: called with seconds between two looks.  Source: promise P7.
    """
    was_running = instances.pause(instance.id, reason=reason, now_ms=clock.wall_ms())
    until = clock.steady_ms() + PAUSE_PATIENCE_SECONDS * 1000
    leases.bury_dead(now_ms=clock.wall_ms())  # what a dead process left would never land
    # Nothing new can join these: the send loop reads the pause in the transaction that would start a message.
    while (in_flight := instances.count_sending(instance.id)) and clock.steady_ms() < until:
        wait(PAUSE_LOOK_SECONDS)
    return Paused(was_paused=not was_running, in_flight=in_flight)
