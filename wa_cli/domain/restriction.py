"""What a restriction keeps back, and what two of them come to.

The platform lets a number write less for a time.  A number can be held back for several reasons at once; `wa` keeps
one restriction, which covers them all: too wide for a while costs time, too narrow deepens them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from wa_cli.domain.connection import Restriction, RestrictionScope
from wa_cli.domain.window import WINDOW_MS

# What a restriction without a stated end keeps back is looked at once a day; lifting it makes it due at once.
RESTRICTION_LOOK_MS: Final = 86_400_000

# From the narrowest to the widest: each keeps back all that the one before it does.
_BY_WIDTH: Final = (RestrictionScope.NEW_PEOPLE, RestrictionScope.OUTSIDE_WINDOW, RestrictionScope.EVERYTHING)


def in_force(restriction: Restriction | None, *, now_ms: int) -> Restriction | None:
    """The restriction if it holds at this moment.  A stated end ends it by itself, no end waits for a person."""
    is_over = restriction is not None and restriction.until_ms is not None and restriction.until_ms <= now_ms
    return None if is_over else restriction


def known_since_ms(restriction: Restriction, *, now_ms: int) -> int | None:
    """Since when somebody must have written to the number to be written to; None where nobody may be."""
    match restriction.scope:
        case RestrictionScope.NEW_PEOPLE:
            return 0
        case RestrictionScope.OUTSIDE_WINDOW:
            return now_ms - WINDOW_MS
        case RestrictionScope.EVERYTHING:
            return None


def put_off_until_ms(restriction: Restriction, *, now_ms: int) -> int:
    """When what a restriction keeps back is looked at again.  One that is over by now keeps nothing back."""
    return max(restriction.until_ms, now_ms) if restriction.until_ms is not None else now_ms + RESTRICTION_LOOK_MS


def combine(one: Restriction, other: Restriction) -> Restriction:
    """What both say together: the wider scope until the latest end that is stated.

    A stated end is worth more than none: whoever says nothing of it has not said that there is none.
    """
    wider = max(one, other, key=lambda each: (_BY_WIDTH.index(each.scope), each.until_ms or 0))
    ends = [end for end in (one.until_ms, other.until_ms) if end is not None]
    return replace(wider, until_ms=max(ends, default=None))


def widen(restriction: Restriction) -> Restriction:
    """The same for everybody: it has met a message that it was not said to keep back, so nothing else is tried."""
    return replace(
        restriction,
        scope=RestrictionScope.EVERYTHING,
        reason=f"{restriction.reason}; it holds back answers and groups too",
    )
