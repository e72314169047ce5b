"""Who of a pool writes to whom."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from wa_cli.domain.pacing import PROFILES, Limits
from wa_cli.domain.pooling import PoolTerms, Seat, Seating, choose_phases, count_an_hour


def seating(*seats: Seat) -> Seating:
    return Seating(PoolTerms(pool_id=1, seats=seats))


def seat(number: int, **values: object) -> Seat:
    return Seat(**{"instance_id": number, "is_healthy": True, "an_hour": 60.0, "waiting": 0, **values})  # type: ignore[arg-type]


def test_whoever_has_a_number_keeps_it_whatever_its_health() -> None:
    """Issue 6, point 7."""
    seats = seating(seat(1, is_healthy=False, waiting=500), seat(2)).seat([10, 11], {10: 1})
    assert seats == {10: 1, 11: 2}


def test_new_people_go_where_they_would_be_served_soonest() -> None:
    """Issue 6, point 7; row S9: by the limits and what waits already."""
    chosen = seating(seat(1, an_hour=60.0), seat(2, an_hour=180.0)).seat(range(400), {})
    assert Counter(chosen.values()) == {1: 100, 2: 300}
    chosen = seating(seat(1, waiting=50), seat(2)).seat(range(50), {})
    assert set(chosen.values()) == {2}


def test_a_spent_budget_of_new_people_sends_them_to_others() -> None:
    """Issue 6, point 7."""
    chosen = seating(seat(1, new_people_left=3), seat(2, an_hour=1.0)).seat(range(10), {})
    assert Counter(chosen.values())[1] == 3


def test_where_all_are_ill_they_wait_with_one_all_the_same() -> None:
    """Nothing is lost: somebody has them."""
    chosen = seating(seat(1, is_healthy=False), seat(2, is_healthy=False)).seat(range(10), {})
    assert Counter(chosen.values()) == {1: 5, 2: 5}


def test_a_member_that_has_left_has_nobody() -> None:
    assert seating(seat(2)).seat([10], {10: 1}) == {10: 2}


@given(
    st.lists(st.tuples(st.booleans(), st.floats(1, 1000), st.integers(0, 99)), min_size=1, max_size=5),
    st.lists(st.integers(1, 30), max_size=60),
    st.dictionaries(st.integers(1, 30), st.integers(1, 8), max_size=10),
)
def test_everybody_has_exactly_one_number(
    drawn: list[tuple[bool, float, int]], people: list[int], known: dict[int, int]
) -> None:
    """Issue 6, point 7: over calls, too, when what was chosen is remembered."""
    seats = [seat(n, is_healthy=h, an_hour=a, waiting=w) for n, (h, a, w) in enumerate(drawn, start=1)]
    first = seating(*seats).seat(people, known)
    assert set(first) == set(people)
    again = seating(*seats).seat(reversed(people), {**known, **first})
    assert again == first


def test_their_clocks_are_not_in_step() -> None:
    """Issue 6, point 7."""
    assert choose_phases([500, 500]) == [0, 250]
    assert choose_phases([600, 600, 600]) == [0, 200, 400]
    assert choose_phases([0, 0]) == [0, 0]


def test_the_tightest_limit_says_how_many_an_hour() -> None:
    assert count_an_hour(PROFILES["gateway"]) == 60
    assert count_an_hour(PROFILES["cloud"]) == 80 * 3600
    assert count_an_hour(Limits(gap_ms=500)) == 7200
