"""The limits of an instance: windows that are exact, gaps that hold, a pace that does not drift."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wa_cli.domain.pacing import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    PRIORITY_NORMAL,
    PRIORITY_URGENT,
    PROFILES,
    SECOND_MS,
    SLOTS_AT_MOST,
    SLOTS_AT_START,
    Breaker,
    Limits,
    Windows,
    batch_of,
    lane_of,
    look_back_ms,
    next_slots,
    priority_of,
    tick_ms,
)


def most_in_any_window(starts: list[float], span: float) -> int:
    """The largest number of starts that a window of this length, edges included, can hold."""
    most = first = 0
    for last, at in enumerate(starts):
        while starts[first] < at - span:
            first += 1
        most = max(most, last - first + 1)
    return most


def run_flat_out(limits: Limits, *, recipients: int, until: float, lateness: float = 0.0) -> list[tuple[int, float]]:
    """Start whenever the limits allow, waking so much too late each time; (recipient, moment) of each start."""
    windows, starts, now, turn = Windows(limits), [], 0.0, 0
    while now < until:
        contact = turn % recipients
        allowed = max(windows.allowed_at(now), windows.recipient_allowed_at(contact, now))
        if allowed > now:
            now = allowed + lateness
            continue
        windows.note(contact, now)
        starts.append((contact, now))
        turn += 1
    return starts


# Pauses between two looks at the limits: from bursts to half an hour, with the odd values in between.
PAUSES = st.lists(
    st.one_of(
        st.sampled_from([0.0, 0.5, 1.0, 999.0, 1000.0, 1001.0, 59_999.0, 60_000.0, 60_001.0]),
        st.floats(min_value=0.0, max_value=2_000.0),
        st.floats(min_value=0.0, max_value=1_800_000.0),
    ),
    min_size=1,
    max_size=200,
)


@settings(max_examples=150, deadline=None)
@given(pauses=PAUSES, per_second=st.integers(1, 5), per_minute=st.integers(1, 8), per_hour=st.integers(1, 12))
def test_no_sliding_window_ever_holds_more_than_its_limit(
    pauses: list[float], per_second: int, per_minute: int, per_hour: int
) -> None:
    """Row H1, promise P8."""
    windows = Windows(Limits(per_second=per_second, per_minute=per_minute, per_hour=per_hour))
    now, starts = 0.0, []
    for pause in pauses:
        now += pause
        while windows.allowed_at(now) <= now:
            windows.note(len(starts), now)
            starts.append(now)
    assert starts
    for size, span in ((per_second, SECOND_MS), (per_minute, MINUTE_MS), (per_hour, HOUR_MS)):
        assert most_in_any_window(starts, span) <= size


@settings(max_examples=100, deadline=None)
@given(pauses=PAUSES, gap=st.integers(0, 7_000), per_minute=st.integers(1, 6), people=st.integers(1, 3))
def test_one_recipient_is_never_written_to_too_often(
    pauses: list[float], gap: int, per_minute: int, people: int
) -> None:
    """Rows T1, S2."""
    windows = Windows(Limits(recipient_gap_ms=gap, recipient_per_minute=per_minute))
    now = 0.0
    starts: dict[int, list[float]] = {contact: [] for contact in range(people)}
    for turn, pause in enumerate(pauses):
        now += pause
        contact = turn % people
        if windows.recipient_allowed_at(contact, now) <= now:
            windows.note(contact, now)
            starts[contact].append(now)
    for times in starts.values():
        assert most_in_any_window(times, MINUTE_MS) <= per_minute
        assert all(later - earlier >= gap for earlier, later in pairwise(times))


@settings(max_examples=100, deadline=None)
@given(pauses=PAUSES, per_minute=st.integers(1, 8), restart_after=st.integers(0, 199))
def test_windows_rebuilt_from_stored_starts_are_the_windows_that_were_lost(
    pauses: list[float], per_minute: int, restart_after: int
) -> None:
    """Row H1, promise P8."""
    limits = Limits(per_minute=per_minute, per_hour=20, gap_ms=300, recipient_gap_ms=2_000)
    windows, now, starts = Windows(limits), 0.0, []
    for turn, pause in enumerate(pauses):
        now += pause
        if turn == restart_after:
            windows = Windows(limits)
            windows.rebuild((contact, at) for contact, at in starts if at >= now - look_back_ms(limits))
        contact = turn % 3
        if windows.allowed_at(now) <= now and windows.recipient_allowed_at(contact, now) <= now:
            windows.note(contact, now)
            starts.append((contact, now))
    times = [at for _contact, at in starts]
    assert most_in_any_window(times, MINUTE_MS) <= per_minute
    assert most_in_any_window(times, HOUR_MS) <= 20
    assert all(later - earlier >= 300 for earlier, later in pairwise(times))


def test_the_allowed_moment_is_the_earliest_and_not_only_a_safe_one() -> None:
    """Row H1."""
    windows = Windows(Limits(per_minute=2))
    windows.note(1, 0.0)
    windows.note(2, 10_000.0)
    assert windows.allowed_at(20_000.0) == 60_001.0
    assert windows.allowed_at(70_000.0) == 70_000.0


def test_six_a_minute_and_sixty_an_hour_hold_over_a_day_flat_out() -> None:
    """Row H1."""
    starts = [at for _contact, at in run_flat_out(Limits(per_minute=6, per_hour=60), recipients=7, until=DAY_MS)]
    assert most_in_any_window(starts, MINUTE_MS) == 6
    assert most_in_any_window(starts, HOUR_MS) == 60
    assert len(starts) == 24 * 60


def test_messages_leave_half_a_second_apart_even_when_the_queue_is_full() -> None:
    """Row H2."""
    starts = [at for _contact, at in run_flat_out(Limits(gap_ms=500), recipients=100, until=60_000.0)]
    assert [later - earlier for earlier, later in pairwise(starts)] == [500.0] * (len(starts) - 1)


def test_a_message_that_comes_after_a_quiet_time_does_not_wait_for_the_gap() -> None:
    """Row H2."""
    windows = Windows(Limits(gap_ms=500))
    windows.note(1, 0.0)
    assert windows.allowed_at(499.0) == 500.0
    assert windows.allowed_at(750.0) == 750.0


def test_the_gap_to_one_recipient_leaves_the_others_alone() -> None:
    """Row T1."""
    windows = Windows(Limits(recipient_gap_ms=2_000))
    windows.note(1, 0.0)
    assert windows.recipient_allowed_at(1, 100.0) == 2_000.0
    assert windows.recipient_allowed_at(2, 100.0) == 100.0
    assert windows.allowed_at(100.0) == 100.0


def test_the_thirty_first_message_of_a_minute_to_one_number_waits() -> None:
    """Row S2."""
    windows = Windows(Limits(recipient_per_minute=30))
    for at in range(30):
        assert windows.recipient_allowed_at(1, float(at)) == at
        windows.note(1, float(at))
    assert windows.recipient_allowed_at(1, 30.0) == 60_001.0


@pytest.mark.parametrize("lateness", [0.0, 1.0, 2.0, 5.0])
def test_eighty_a_second_is_reached_though_every_wake_up_is_late(lateness: float) -> None:
    starts = run_flat_out(PROFILES["cloud"], recipients=100_000, until=60_000.0, lateness=lateness)
    times = [at for _contact, at in starts]
    assert len(times) / 60 >= 79.5
    assert most_in_any_window(times, SECOND_MS) <= 80


def test_eighty_a_second_are_spread_over_the_second_and_not_sent_at_its_start() -> None:
    starts = run_flat_out(PROFILES["cloud"], recipients=1_000, until=1_000.0)
    times = [at for _contact, at in starts]
    assert most_in_any_window(times, 100.0) <= 13


@pytest.mark.parametrize(
    ("per_second", "wake_ups", "at_once"), [(1, 1, 1), (20, 20, 1), (80, 20, 5), (320, 80, 8), (1_000, 200, 15)]
)
def test_a_fast_instance_wakes_for_several_messages_at_once(per_second: int, wake_ups: int, at_once: int) -> None:
    windows, now, wakes, most = Windows(Limits(per_second=per_second)), 0.0, [], 0
    while now < 10 * SECOND_MS:
        released = 0
        while windows.allowed_at(now) <= now:
            windows.note(released, now)
            released += 1
        if released:
            wakes.append(now)
        most = max(most, released)
        now = max(windows.worth_waking_at(now), now + 0.001)
    assert len(wakes) / 10 <= wake_ups * 1.05
    assert most <= at_once


def test_an_instance_that_was_told_to_go_slower_sends_each_message_by_itself() -> None:
    windows = Windows(PROFILES["cloud"])
    windows.slow_down()
    windows.note(1, 0.0)
    assert windows.allowed_at(0.0) > 0.0
    for _acceptance in range(1_000):
        windows.recover()
    windows.note(2, 1_000.0)
    assert windows.allowed_at(1_000.0) == 1_000.0


def test_nobody_leaves_more_than_a_tick_before_his_place() -> None:
    assert tick_ms(0.0) == 0.0
    for per_second in range(1, 2_000):
        spacing = SECOND_MS / per_second
        assert tick_ms(spacing) <= 50.0
        assert tick_ms(spacing) == 0.0 or tick_ms(spacing) > spacing


@pytest.mark.parametrize("per_second", [1, 20, 80, 1_000])
def test_the_pace_never_lets_more_start_together_than_it_says(per_second: int) -> None:
    """So many are read from the store for a turn, and no more."""
    windows, now, said, started = Windows(Limits(per_second=per_second)), 0.0, [], []
    while now < 3 * SECOND_MS:
        said.append(windows.room_at(now))
        released = 0
        while windows.allowed_at(now) <= now:
            windows.note(released, now)
            released += 1
        started.append(released)
        now = max(windows.worth_waking_at(now), now + 0.001)
    assert all(released <= room for released, room in zip(started, said, strict=True))
    assert max(said) <= max(started) + 1


def test_the_pace_without_a_rate_leaves_room_for_all_and_with_a_gap_for_one() -> None:
    assert Windows(Limits()).room_at(0.0) > 10_000
    assert Windows(Limits(gap_ms=500)).room_at(0.0) == 1


def test_an_idle_hour_earns_no_burst() -> None:
    """Promise P8."""
    windows = Windows(PROFILES["cloud"])
    windows.note(0, 0.0)
    now, burst = HOUR_MS, 0
    while windows.allowed_at(now) <= now:
        burst += 1
        windows.note(burst, now)
    assert burst <= 5  # one tick's worth, and what a late wake-up may make good


def test_a_rate_refusal_halves_the_pace_and_success_wins_it_back() -> None:
    windows = Windows(PROFILES["cloud"])

    def rate(contact: int, now: float) -> float:
        start, count = now, 0
        while now < start + 1_000.0:
            allowed = windows.allowed_at(now)
            if allowed > now:
                now = allowed
                continue
            windows.note(contact + count, now)
            count += 1
        return count

    assert rate(0, 0.0) >= 79
    windows.slow_down()
    assert 38 <= rate(1_000, 10_000.0) <= 42
    windows.slow_down()
    assert 19 <= rate(2_000, 20_000.0) <= 22
    for _success in range(300):
        windows.recover()
    assert rate(3_000, 30_000.0) >= 79


def test_the_pace_is_never_slower_than_a_sixty_fourth() -> None:
    windows = Windows(Limits(per_second=64))
    for _refusal in range(50):
        windows.slow_down()
    windows.note(1, 0.0)
    assert windows.allowed_at(0.0) <= 1_000.0


def test_an_instance_without_limits_can_be_slowed_down_too() -> None:
    windows = Windows(Limits())
    windows.slow_down()
    windows.note(1, 0.0)
    assert windows.allowed_at(0.1) > 0.1


def test_new_people_are_counted_once_in_a_moving_day() -> None:
    windows = Windows(Limits(new_people_per_day=2))
    windows.note(1, 0.0)
    windows.note(2, 1_000.0)
    assert windows.new_person_allowed_at(1, 2_000.0) == 2_000.0
    assert windows.new_person_allowed_at(3, 2_000.0) == DAY_MS + 1.0
    windows.note(1, 3_000.0)
    # Person 1 was written to again: person 2 is the first whose day is over.
    assert windows.new_person_allowed_at(3, 4_000.0) == 1_000.0 + DAY_MS + 1.0


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 6), st.floats(0.0, DAY_MS / 3)), min_size=1, max_size=60),
    budget=st.integers(1, 4),
)
def test_no_moving_day_sees_more_people_than_the_budget(steps: list[tuple[int, float]], budget: int) -> None:
    windows, now, starts = Windows(Limits(new_people_per_day=budget)), 0.0, []
    for contact, pause in steps:
        now += pause
        if windows.new_person_allowed_at(contact, now) <= now:
            windows.note(contact, now)
            starts.append((contact, now))
    for _contact, end in starts:
        assert len({contact for contact, at in starts if end - DAY_MS < at <= end}) <= budget


def test_memory_stays_flat_however_many_people_are_written_to() -> None:
    """Row S6."""
    windows = Windows(PROFILES["cloud"])
    for number in range(50_000):
        windows.note(number, number * 20.0)
    # A minute's worth (3,000 people), and what came since the last clearing.
    assert len(windows._recipients) <= 6_100


def test_limited_recipients_are_counted_for_the_status() -> None:
    windows = Windows(Limits(recipient_gap_ms=2_000))
    windows.note(1, 0.0)
    windows.note(2, 1_500.0)
    assert windows.count_limited_recipients(1_600.0) == 2
    assert windows.count_limited_recipients(2_100.0) == 1


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(), 0.0),
        (Limits(gap_ms=500), 500.0),
        (Limits(per_second=80), SECOND_MS),
        (Limits(recipient_gap_ms=90_000, recipient_per_minute=3), 90_000.0),
        (Limits(per_hour=60, per_minute=6), HOUR_MS),
        (Limits(new_people_per_day=250), DAY_MS),
    ],
)
def test_the_look_back_covers_the_longest_limit(limits: Limits, expected: float) -> None:
    """Promise P8."""
    assert look_back_ms(limits) == expected


def test_the_profiles_are_the_documented_ones() -> None:
    """Rows T1, S2, H1, H2."""
    assert PROFILES["cloud"] == Limits(recipient_gap_ms=6_000, recipient_per_minute=30, per_second=80)
    assert PROFILES["gateway"] == Limits(
        recipient_gap_ms=2_000, recipient_per_minute=30, gap_ms=500, per_minute=6, per_hour=60
    )


def test_a_setting_overrides_one_limit_and_zero_lifts_it() -> None:
    limits = PROFILES["gateway"].override({"per_minute": 0, "gap_ms": 100})
    assert (limits.per_minute, limits.gap_ms, limits.per_hour) == (0, 100, 60)
    windows = Windows(limits.override({"gap_ms": 0, "per_hour": 0, "recipient_gap_ms": 0, "recipient_per_minute": 0}))
    for _turn in range(1_000):
        windows.note(1, 0.0)
    assert windows.allowed_at(0.0) == 0.0


@given(priority=st.sampled_from([PRIORITY_URGENT, PRIORITY_NORMAL]), batch=st.integers(0, 2**40 - 1))
def test_a_lane_holds_its_priority_and_its_batch(priority: int, batch: int) -> None:
    """Row S3."""
    lane = lane_of(priority, batch)
    assert (priority_of(lane), batch_of(lane)) == (priority, batch)
    assert lane_of(PRIORITY_URGENT, batch) < lane_of(PRIORITY_NORMAL, 0)


# --- the breaker ---


def test_no_network_rests_longer_each_time_but_never_more_than_ten_seconds() -> None:
    """Row S8."""
    breaker = Breaker()
    rests = [breaker.note_not_sent("dns") for _turn in range(8)]
    assert rests == [1_000.0, 2_000.0, 4_000.0, 8_000.0, 10_000.0, 10_000.0, 10_000.0, 10_000.0]
    assert breaker.is_probing
    assert breaker.reason == "not reachable: dns"


def test_a_readable_answer_closes_the_breaker_and_forgets_the_waits() -> None:
    """Row S8."""
    breaker = Breaker()
    breaker.note_not_sent("dns")
    breaker.note_not_sent("dns")
    breaker.note_answer()
    assert not breaker.is_probing
    assert breaker.note_not_sent("dns") == 1_000.0


def test_only_the_third_unreadable_answer_in_a_row_opens_the_breaker() -> None:
    breaker = Breaker()
    assert [breaker.note_unreadable("html") for _turn in range(2)] == [0.0, 0.0]
    assert not breaker.is_probing
    assert breaker.note_unreadable("html") == 30_000.0
    assert breaker.is_probing


def test_unreadable_answers_apart_from_each_other_never_open_the_breaker() -> None:
    breaker = Breaker()
    for _turn in range(20):
        assert breaker.note_unreadable("html") == 0.0
        assert breaker.note_unreadable("html") == 0.0
        breaker.note_answer()
    assert not breaker.is_probing


def test_a_storm_of_unreadable_answers_is_felt_at_most_every_quarter_of_an_hour() -> None:
    breaker = Breaker()
    rests = [breaker.note_unreadable("503") for _turn in range(10)]
    assert rests[2:] == [30_000.0, 60_000.0, 120_000.0, 240_000.0, 480_000.0, 900_000.0, 900_000.0, 900_000.0]


def test_slots_start_at_fifteen_and_grow_only_while_all_are_busy() -> None:
    """Row Q1."""
    assert SLOTS_AT_START == 15
    assert next_slots(15, all_busy=False, ceiling=SLOTS_AT_MOST) == 15
    grown = [15]
    while grown[-1] < SLOTS_AT_MOST:
        grown.append(next_slots(grown[-1], all_busy=True, ceiling=SLOTS_AT_MOST))
    assert grown == [15, 22, 33, 49, 73, 109, 163, 244, 256]
    assert next_slots(256, all_busy=True, ceiling=SLOTS_AT_MOST) == 256
