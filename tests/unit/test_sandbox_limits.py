"""The sandbox's two measured limits, on given times."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wa_cli.sandbox.limits import PairLimit, ThroughputWindow

PAIR = ("1", "15550100123")


def _send(limit: PairLimit, now: float) -> bool:
    if not limit.may_send(PAIR, now):
        return False
    limit.charge(PAIR, now)
    return True


def test_eighty_posts_fit_into_a_second_and_the_next_one_does_not() -> None:
    """Row H1: the platform's own window, measured."""
    window = ThroughputWindow(80)
    assert all(window.admit(10 + index / 200) for index in range(80))
    assert not window.admit(10.999)
    assert window.admit(11.0)


def test_a_refused_post_takes_no_place_in_the_window() -> None:
    window = ThroughputWindow(1)
    assert window.admit(0.0)
    assert not any(window.admit(0.1 * step) for step in range(1, 10))
    assert window.admit(1.0)


@given(st.lists(st.floats(0, 20), max_size=200), st.integers(1, 5))
def test_no_sliding_second_ever_holds_more_than_the_limit(times: list[float], limit: int) -> None:
    window = ThroughputWindow(limit)
    admitted = [at for at in sorted(times) if window.admit(at)]
    for end in admitted:
        assert sum(end - 1.0 < at <= end for at in admitted) <= limit


def test_a_throughput_of_zero_is_no_limit() -> None:
    window = ThroughputWindow(0)
    assert all(window.admit(1.0) for _ in range(10_000))


def test_without_a_burst_a_person_gets_one_message_in_six_seconds() -> None:
    limit = PairLimit(6.0, 1)
    assert _send(limit, 0.0)
    assert not _send(limit, 5.99)
    assert _send(limit, 6.0)
    assert not _send(limit, 11.99)


def test_twenty_at_once_are_paid_back_with_two_minutes_of_silence() -> None:
    limit = PairLimit(6.0, 45)
    assert all(_send(limit, index * 0.1) for index in range(20))
    assert not _send(limit, 6.0)
    assert not _send(limit, 119.9)
    assert _send(limit, 120.0)


def test_the_forty_sixth_message_of_a_burst_is_refused() -> None:
    limit = PairLimit(6.0, 45)
    assert all(_send(limit, 1.0) for _ in range(45))
    assert not _send(limit, 1.0)


def test_a_message_every_six_seconds_never_meets_the_limit() -> None:
    limit = PairLimit(6.0, 1)
    assert all(_send(limit, index * 6.0) for index in range(1000))


def test_one_person_does_not_slow_another_nor_another_number() -> None:
    limit = PairLimit(6.0, 1)
    assert _send(limit, 0.0)
    assert limit.may_send(("1", "15550100124"), 0.0)
    assert limit.may_send(("2", "15550100123"), 0.0)


def test_people_who_owe_nothing_are_forgotten() -> None:
    limit = PairLimit(6.0, 1)
    for index in range(50_000):
        limit.charge(("1", str(index)), index * 1.0)
    assert len(limit._pairs) <= PairLimit._SWEEP_AT_LEAST


def test_no_pace_at_all_is_no_limit() -> None:
    limit = PairLimit(0.0, 1)
    assert all(_send(limit, 1.0) for _ in range(100))
