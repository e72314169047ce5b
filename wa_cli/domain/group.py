"""Groups as an instance last saw them: which are meant, which can be written to, and who is in several of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from wa_cli.domain.connection import GroupInfo

# What was seen of a group holds for so long: people leave groups, and groups are closed to them.
FRESH_MS: Final = 3_600_000

# Why nothing is queued for a group, as the store writes it.
NOT_IN_GROUP: Final = "not_in_group"
MAY_NOT_POST: Final = "may_not_post"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownGroup:
    """A group as it was seen last.  is_member: whether the instance was in it then."""

    info: GroupInfo
    is_member: bool
    seen_at_ms: int

    def is_fresh(self, *, now_ms: int) -> bool:
        return 0 <= now_ms - self.seen_at_ms < FRESH_MS


def find_obstacle(info: GroupInfo | None) -> str | None:
    """Why an instance cannot write to a group, or None.  info: None for one that it is not in."""
    if info is None:
        return NOT_IN_GROUP
    return MAY_NOT_POST if info.may_post is False else None


def matches(name: str, pattern: str) -> bool:
    """Whether a group is meant: by a part of its name, or by a pattern with `*`, `?` and `[...]`; in any case."""
    folded, wanted = name.casefold(), pattern.casefold()
    return wanted in folded or fnmatchcase(folded, wanted)


def count_in_several(participants: Sequence[Collection[str]], *, own_address: str | None) -> int | None:
    """How many people are in more than one of some groups, ourselves not counted; None for fewer than two groups.

    participants: of each group.  own_address: of the number that is in all of them.  Where it goes by another id there,
    one of those who are in all of them is us.
    """
    if len(participants) < 2:
        return None
    groups = Counter(one for members in participants for one in set(members))
    several = {one for one, n in groups.items() if n > 1}
    if own_address in several:
        return len(several) - 1
    return len(several) - any(groups[one] == len(participants) for one in several)
