"""Whether what a number is said to have sent is believed: posts that were taken, and nothing was heard of since.

A gateway can say that it is connected and take every post while nothing reaches WhatsApp.  The messages stay `sent`,
which says no more than that they were taken; what must not go on is the sending.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

# A receipt usually comes within seconds; a phone that is off for a while must not look like a liar.
NORMAL_DELAY_MS: Final = 600_000
# So many posts have to be past that delay before anything is said about them, the last ones alone.
JUDGED_FROM: Final = 20
JUDGED_AT_MOST: Final = 40
# Of them that may have been acknowledged for a number still to be called silent.
SILENT_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A post that the other side took.  at_ms: when it began.  is_acknowledged: some receipt has come for it."""

    at_ms: int
    is_acknowledged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """So many posts between these moments, and how many of them were acknowledged."""

    taken: int
    acknowledged: int
    since_ms: int
    until_ms: int


def find_silence(posts: Sequence[Taken], *, now_ms: int) -> Silence | None:
    """The silence after these posts, or None while they are acknowledged as usual, or too few to tell.

    posts: those of one number since it was last let go, newest first.
    A receipt for one of the posts that are too young to be judged shows that the number is heard again.
    """
    if any(post.is_acknowledged for post in posts if post.at_ms > now_ms - NORMAL_DELAY_MS):
        return None
    judged = [post for post in posts if post.at_ms <= now_ms - NORMAL_DELAY_MS][:JUDGED_AT_MOST]
    acknowledged = sum(post.is_acknowledged for post in judged)
    if len(judged) < JUDGED_FROM or acknowledged > len(judged) * SILENT_SHARE:
        return None
    return Silence(taken=len(judged), acknowledged=acknowledged, since_ms=judged[-1].at_ms, until_ms=judged[0].at_ms)
