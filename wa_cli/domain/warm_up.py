"""How a young number begins: slowly, and a little faster as it grows old, until its own limits are the tighter ones.

A new linked device that writes to many strangers is what WhatsApp restricts first.  Nothing here hides that it is one:
it writes less.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from wa_cli.domain.pacing import DAY_MS, tighten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wa_cli.domain.pacing import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What holds until the end of one day in the life of a number, the first one being 1.  limits: by their names."""

    until_day: int
    limits: Mapping[str, int] = field(default_factory=dict)


# Sources: vendors of gateways advise 2 messages a minute, 10 in a quarter of an hour, a break every day and a slow
# growth over weeks (section 8 of the gateways' sheet); the numbers of the steps are ours, each some 1.7 times the last.
WARM_UP: Final = (
    Step(until_day=3, limits={"new_chats_per_day": 20, "per_minute": 2, "per_hour": 20, "per_day": 60}),
    Step(until_day=7, limits={"new_chats_per_day": 35, "per_minute": 2, "per_hour": 30, "per_day": 120}),
    Step(until_day=14, limits={"new_chats_per_day": 60, "per_minute": 3, "per_hour": 40, "per_day": 240}),
    Step(until_day=21, limits={"new_chats_per_day": 100, "per_minute": 4, "per_hour": 50, "per_day": 400}),
    Step(until_day=28, limits={"new_chats_per_day": 170, "per_minute": 6, "per_hour": 60, "per_day": 700}),
)


def day_of(since_ms: int, *, now_ms: int) -> int:
    """The day in the life of a number, from 1: a day is 24 h from the moment it began."""
    return max(now_ms - since_ms, 0) // round(DAY_MS) + 1


def find_step(since_ms: int, *, now_ms: int) -> Step | None:
    """What holds on this day; None once the number is grown up."""
    day = day_of(since_ms, now_ms=now_ms)
    return next((step for step in WARM_UP if day <= step.until_day), None)


def warm_up(limits: Limits, *, since_ms: int, now_ms: int) -> Limits:
    """The limits of this day: those of the number itself and of its warm-up, the tighter of the two, each."""
    step = find_step(since_ms, now_ms=now_ms)
    return limits if step is None else tighten(limits, step.limits)
