"""What a message does after its post: one decision for every outcome and policy."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wa_cli.domain.message import OnUnknown, State
from wa_cli.domain.outcome import Accepted, Ambiguous, ErrorClass, NotSent, Outcome, Rejected
from wa_cli.domain.retry import Rest, RetryKind, RetryPolicy, Stop, Verdict, judge

ACCEPTED = Accepted(provider_message_id="wamid.1", http_status=200)
NOT_SENT = NotSent(code="connect", details="refused")
AMBIGUOUS = Ambiguous(code="read_timeout", details="no answer")
LADDER = RetryPolicy()
EXPONENTIAL = RetryPolicy(kind=RetryKind.EXPONENTIAL)


def refused(error_class: ErrorClass, **fields: Any) -> Rejected:
    return Rejected(error_class=error_class, code="131000", details="refused", http_status=400, **fields)


def verdict(outcome: Outcome, **changes: Any) -> Verdict:
    terms: dict[str, Any] = {
        "attempts": 0,
        "refusals": 0,
        "max_attempts": 5,
        "on_unknown": OnUnknown.HOLD,
        "policy": LADDER,
        "jitter": 0.0,
    }
    return judge(outcome, **(terms | changes))


def follow(policy: RetryPolicy, max_attempts: int, *, jitter: float = 0.0) -> list[float]:
    """The waits of a message whose every attempt fails, until it has failed for good."""
    waits: list[float] = []
    for attempts in range(100):
        one = verdict(
            refused(ErrorClass.RETRY), attempts=attempts, max_attempts=max_attempts, policy=policy, jitter=jitter
        )
        if one.state is State.FAILED:
            assert one.rule == "out_of_attempts"
            return waits
        assert (one.state, one.rule, one.counted) == (State.QUEUED, "retry", True)
        waits.append(one.wait_seconds)
    raise AssertionError("it never failed")


def test_the_ladder_waits_1_5_15_30_minutes_and_fails_after_five_attempts() -> None:
    """Row T5."""
    assert follow(LADDER, 5) == [60.0, 300.0, 900.0, 1800.0]


def test_the_ladder_has_a_fifth_rung_of_an_hour_that_repeats_when_more_attempts_are_allowed() -> None:
    """Row T5."""
    assert follow(LADDER, 8) == [60.0, 300.0, 900.0, 1800.0, 3600.0, 3600.0, 3600.0]


def test_exponential_waits_double_from_five_seconds_to_two_minutes() -> None:
    """Rows S7, H8."""
    assert follow(EXPONENTIAL, 9) == [5.0, 10.0, 20.0, 40.0, 80.0, 120.0, 120.0, 120.0]


def test_exponential_waits_take_the_settings_of_base_and_cap() -> None:
    """Row H8."""
    policy = RetryPolicy(kind=RetryKind.EXPONENTIAL, base_seconds=1.0, cap_seconds=3.0)
    assert follow(policy, 5) == [1.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize(("attempts", "waits"), [(1, []), (3, [5.0, 10.0])])
def test_max_attempts_is_the_number_of_posts_and_not_of_retries(attempts: int, waits: list[float]) -> None:
    """Rows Q3, S7."""
    assert follow(EXPONENTIAL, attempts) == waits


def test_jitter_lengthens_an_exponential_wait_by_a_tenth_at_most() -> None:
    """Row H8."""
    assert follow(EXPONENTIAL, 3, jitter=1.0) == [5.5, 11.0]


@given(attempts=st.integers(1, 10_000), jitter=st.floats(0.0, 1.0))
def test_no_wait_is_ever_longer_than_its_cap(attempts: int, jitter: float) -> None:
    assert 5.0 <= EXPONENTIAL.wait_seconds(attempts, jitter=jitter) <= 132.0
    assert 60.0 <= LADDER.wait_seconds(attempts, jitter=jitter) <= 3600.0


def test_an_acceptance_is_sent_and_never_more_than_that() -> None:
    """Promise P3."""
    assert verdict(ACCEPTED) == Verdict(state=State.SENT, rule="accepted")


@given(attempts=st.integers(0, 50), refusals=st.integers(0, 50), max_attempts=st.integers(1, 10))
def test_what_was_not_sent_costs_no_attempt_and_is_due_at_once(attempts: int, refusals: int, max_attempts: int) -> None:
    """Promise P2: not a byte left, so it is safe to post again, for ever if need be."""
    one = verdict(NOT_SENT, attempts=attempts, refusals=refusals, max_attempts=max_attempts)
    assert one == Verdict(state=State.QUEUED, rule="not_sent", counted=False, refusals=refusals)


@pytest.mark.parametrize("on_unknown", [OnUnknown.HOLD, OnUnknown.RESEND])
@pytest.mark.parametrize("attempts", [0, 4, 9])
def test_an_ambiguous_answer_is_unknown_however_many_attempts_are_left(on_unknown: OnUnknown, attempts: int) -> None:
    """Promises P2, P4."""
    one = verdict(AMBIGUOUS, attempts=attempts, on_unknown=on_unknown)
    assert one == Verdict(state=State.UNKNOWN, rule="outcome_unknown")


def test_an_ambiguous_answer_is_skipped_where_the_policy_says_so() -> None:
    assert verdict(AMBIGUOUS, on_unknown=OnUnknown.SKIP) == Verdict(state=State.SKIPPED, rule="unknown_skipped")


def test_a_wait_that_the_platform_asks_for_is_kept_when_it_is_longer_than_ours() -> None:
    assert verdict(refused(ErrorClass.RETRY, wait_seconds=90.0)).wait_seconds == 90.0
    assert verdict(refused(ErrorClass.RETRY, wait_seconds=3.0)).wait_seconds == 60.0


def test_a_class_with_fewer_attempts_of_its_own_fails_earlier() -> None:
    assert verdict(refused(ErrorClass.RETRY, max_attempts=2), attempts=0).state is State.QUEUED
    assert verdict(refused(ErrorClass.RETRY, max_attempts=2), attempts=1).state is State.FAILED
    assert verdict(refused(ErrorClass.RETRY, max_attempts=9), attempts=4).state is State.FAILED


def test_hours_waits_an_hour_or_what_the_table_says_and_counts() -> None:
    assert verdict(refused(ErrorClass.HOURS)) == Verdict(state=State.QUEUED, rule="hours", wait_seconds=3600.0)
    assert verdict(refused(ErrorClass.HOURS, wait_seconds=86_400.0)).wait_seconds == 86_400.0
    assert verdict(refused(ErrorClass.HOURS), attempts=4).rule == "out_of_attempts"


@given(attempts=st.integers(0, 100), refusals=st.integers(0, 100))
def test_a_throttled_message_keeps_its_attempts_and_slows_the_instance(attempts: int, refusals: int) -> None:
    one = verdict(refused(ErrorClass.THROTTLE), attempts=attempts, refusals=refusals)
    assert (one.state, one.counted, one.wait_seconds, one.refusals) == (State.QUEUED, False, 0.0, refusals)
    assert one.effect == Rest(seconds=1.5, reason="131000 refused", slow=True)


def test_a_throttle_rests_as_long_as_the_platform_asks() -> None:
    one = verdict(refused(ErrorClass.THROTTLE, wait_seconds=30.0))
    assert isinstance(one.effect, Rest)
    assert one.effect.seconds == 30.0


def test_the_pair_limit_waits_four_times_longer_each_time_up_to_an_hour_and_costs_no_attempt() -> None:
    """The platform's own rule: 4 to the power of the tries so far."""
    waits = [verdict(refused(ErrorClass.PAIR), refusals=refusals, attempts=4) for refusals in range(9)]
    assert [one.wait_seconds for one in waits] == [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 3600.0, 3600.0, 3600.0]
    assert [one.refusals for one in waits] == list(range(1, 10))
    assert {(one.state, one.counted, one.effect) for one in waits} == {(State.QUEUED, False, None)}


def test_the_pair_wait_stays_finite_after_any_number_of_refusals() -> None:
    assert verdict(refused(ErrorClass.PAIR), refusals=100_000).wait_seconds == 3600.0


def test_the_count_of_refusals_starts_anew_once_a_message_got_another_answer() -> None:
    assert verdict(refused(ErrorClass.RETRY), refusals=7).refusals == 0
    assert verdict(ACCEPTED, refusals=7).refusals == 0


def test_a_stop_pauses_the_instance_and_keeps_the_message() -> None:
    """Row H10: a person must act; nothing is lost meanwhile."""
    one = verdict(refused(ErrorClass.STOP), attempts=4)
    assert (one.state, one.counted) == (State.QUEUED, False)
    assert one.effect == Stop(code="131000", reason="refused")


@pytest.mark.parametrize("error_class", [ErrorClass.DEAD_RECIPIENT, ErrorClass.DEAD_MESSAGE])
def test_what_is_dead_fails_at_the_first_attempt(error_class: ErrorClass) -> None:
    assert verdict(refused(error_class)) == Verdict(state=State.FAILED, rule="permanent")


@pytest.mark.parametrize("error_class", list(ErrorClass))
def test_no_refusal_ever_becomes_sent_or_unknown(error_class: ErrorClass) -> None:
    """Promises P3, P4."""
    for attempts in range(7):
        assert verdict(refused(error_class), attempts=attempts).state in (State.QUEUED, State.FAILED)
