"""Which groups are meant by a pattern, which can be written to, and who is in several of them."""

from __future__ import annotations

import pytest

from wa_cli.domain.connection import GroupInfo
from wa_cli.domain.group import FRESH_MS, KnownGroup, count_in_several, find_obstacle, matches

GROUP = "120363025246125486@g.us"


@pytest.mark.parametrize(
    ("name", "pattern", "is_meant"),
    [
        ("Choir Köln", "KÖLN", True),
        ("Choir Köln", "köln", True),
        ("Choir Köln", "koeln", False),
        ("Choir Köln", "choir*", True),
        ("Choir Köln", "*choir", False),
        ("Team [A]", "team [a]", True),
        ("Team A", "team [ab]", True),
        ("Really?", "really?", True),
        ("anything", "", True),
    ],
)
def test_a_group_is_meant_by_a_part_of_its_name_or_by_a_pattern(name: str, pattern: str, is_meant: bool) -> None:
    assert matches(name, pattern) is is_meant


@pytest.mark.parametrize(("may_post", "reason"), [(None, None), (True, None), (False, "may_not_post")])
def test_a_group_can_be_written_to_unless_its_gateway_says_otherwise(may_post: bool | None, reason: str | None) -> None:
    assert find_obstacle(GroupInfo(address=GROUP, name="Choir", may_post=may_post)) == reason
    assert find_obstacle(None) == "not_in_group"


def test_what_was_seen_of_a_group_is_old_after_an_hour_and_after_a_clock_that_went_back() -> None:
    group = KnownGroup(info=GroupInfo(address=GROUP, name="Choir"), is_member=True, seen_at_ms=10_000_000)
    assert group.is_fresh(now_ms=10_000_000 + FRESH_MS - 1)
    assert not group.is_fresh(now_ms=10_000_000 + FRESH_MS)
    assert not group.is_fresh(now_ms=9_999_999)


@pytest.mark.parametrize(
    ("members", "own", "several"),
    [
        ([["us", "a"]], "us", None),
        ([["us", "a", "b"], ["us", "b", "c"]], "us", 1),
        ([["us", "a", "b"], ["us", "b", "c"]], None, 1),  # one of the two who are in both is us
        ([["us", "a"], ["us", "b"]], "+65", 0),
        ([["us", "a", "b"], ["us", "b", "c"], ["us", "c"]], None, 2),
        ([["a", "b"], ["b", "c"], ["d"]], None, 1),
    ],
)
def test_people_in_several_groups_are_counted_without_ourselves(
    members: list[list[str]], own: str | None, several: int | None
) -> None:
    assert count_in_several(members, own_address=own) == several
