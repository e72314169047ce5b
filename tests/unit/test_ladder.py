"""The ladder on which a linked device comes back: decisions alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wa_cli.domain.connection import Connection, ConnectionState, RestartKind
from wa_cli.domain.ladder import (
    FIRST_LOOK_MS,
    LONGEST_LOOK_MS,
    READY_LOOK_MS,
    TOLD_LOOK_MS,
    LadderTerms,
    Past,
    PastRestart,
    Rung,
    Step,
    choose_step,
    find_free_at_ms,
    wait_for_belief_ms,
    wait_for_look_ms,
)
from wa_cli.domain.retry import Stop

NOW_MS = 1_800_000_000_000
MINUTE_MS = 60_000
TERMS = LadderTerms()


def found(state: ConnectionState, *, is_doubtful: bool = False) -> Connection:
    return Connection(state=state, raw="RAW", is_doubtful=is_doubtful)


def past(*taken: tuple[int, Rung], lost: int = 100 * MINUTE_MS, **fields: Any) -> Past:
    """taken: (ms ago, rung).  lost: ms ago; the gateway answers since then unless `answered` says otherwise."""
    since_ms = NOW_MS - lost
    settings: dict[str, Any] = {"lost_since_ms": since_ms, "answered_since_ms": since_ms, "state_since_ms": since_ms}
    restarts = [PastRestart(at_ms=NOW_MS - ago, rung=rung) for ago, rung in taken]
    return Past(restarts=restarts, **(settings | fields))


def step(state: ConnectionState | None, before: Past, terms: LadderTerms = TERMS) -> Step:
    return choose_step(found(state) if state else None, before, terms, now_ms=NOW_MS, jitter=0.0)


def test_a_ready_device_is_looked_at_often_enough_to_stop_within_a_second() -> None:
    """Issue 6, point 5.  Row H9."""
    assert step(ConnectionState.READY, past()) == Step(look_in_ms=READY_LOOK_MS)
    assert READY_LOOK_MS < 1_000
    assert step(ConnectionState.READY, past(is_told=True)) == Step(look_in_ms=TOLD_LOOK_MS)


@pytest.mark.parametrize("state", [ConnectionState.NEEDS_QR, ConnectionState.AUTH_FAILURE])
def test_a_device_that_needs_a_person_is_never_restarted(state: ConnectionState) -> None:
    """Issue 6, point 5.  Row H10.  Fault 64."""
    assert step(state, past()).act is None


def test_a_failure_that_may_mean_less_is_left_to_one_restart() -> None:
    """WAHA's FAILED says everything from a crash to a logout: a second one is taken at its word."""
    doubtful = found(ConnectionState.AUTH_FAILURE, is_doubtful=True)
    first = choose_step(doubtful, past(), TERMS, now_ms=NOW_MS, jitter=0.0)
    assert first.act is Rung.SOFT
    # Also when the gateway itself was away in between.
    again = past((30 * MINUTE_MS, Rung.SOFT), answered_since_ms=NOW_MS - MINUTE_MS)
    assert choose_step(doubtful, again, TERMS, now_ms=NOW_MS, jitter=0.0).act is None


def test_a_gateway_that_does_not_answer_is_only_looked_at() -> None:
    """Row S8: its return is seen, whatever it takes; a look is no restart."""
    assert step(None, past(looks=50)) == Step(look_in_ms=LONGEST_LOOK_MS)


def test_waits_between_looks_double_and_jitter_only_shortens_them() -> None:
    """Row S8."""
    assert [wait_for_look_ms(looks, jitter=0.0) for looks in range(5)] == [500, 1_000, 2_000, 4_000, 4_000]
    assert wait_for_look_ms(0, jitter=1.0) == FIRST_LOOK_MS / 2


@pytest.mark.parametrize(
    ("state", "taken", "patience_ms", "rung"),
    [
        (ConnectionState.DISCONNECTED, [], 1_500, Rung.START),
        (ConnectionState.ERROR, [], 10_000, Rung.SOFT),
        (ConnectionState.CONNECTING, [], 60_000, Rung.SOFT),
        (ConnectionState.DISCONNECTED, [Rung.START], 30_000, Rung.SOFT),
        (ConnectionState.CONNECTING, [Rung.START], 60_000, Rung.SOFT),
        (ConnectionState.CONNECTING, [Rung.START, Rung.SOFT], 180_000, Rung.HARD),
        (ConnectionState.DISCONNECTED, [Rung.SOFT], 180_000, Rung.HARD),
        (ConnectionState.DISCONNECTED, [Rung.START, Rung.SOFT, Rung.HARD], 180_000, Rung.HARD),
        (ConnectionState.DISCONNECTED, [Rung.START, Rung.SOFT, Rung.HARD, Rung.HARD], 360_000, Rung.HARD),
        (ConnectionState.ERROR, [Rung.START, Rung.SOFT, *[Rung.HARD] * 12], 1_800_000, Rung.HARD),
    ],
)
def test_each_rung_has_its_time(state: ConnectionState, taken: list[Rung], patience_ms: int, rung: Rung) -> None:
    """Issue 6, point 5.  Row H11: 180 s each for a soft and a hard restart, then with growing waits."""
    spaced = 700_000  # outside the window of one another: this is about patience alone
    for early_ms, act in ((1, None), (0, rung)):
        ages = [patience_ms - early_ms + spaced * place for place in reversed(range(len(taken)))]
        before = past(*zip(ages, taken, strict=True), lost=100_000_000 if taken else patience_ms - early_ms)
        assert step(state, before).act is act


def test_the_climb_begins_again_when_the_gateway_comes_back() -> None:
    """Row S8: it has another session to offer, and that does not wait for the time of a hard restart."""
    before = past((100_000, Rung.START), (60_000, Rung.SOFT), answered_since_ms=NOW_MS - 2_000)
    assert step(ConnectionState.DISCONNECTED, before).act is Rung.START


def test_a_fifth_restart_in_the_window_pauses_the_instance_instead() -> None:
    """Issue 6, point 5.  Row H11.  Fault 65."""
    flaps = [(age * MINUTE_MS, Rung.START) for age in (8, 6, 4, 2)]
    lost_again = past(*flaps, lost=20_000)
    act = step(ConnectionState.DISCONNECTED, lost_again).act
    assert isinstance(act, Stop)
    assert (act.code, act.by) == ("too_many_restarts", "wa")
    assert act.reason == "the device was restarted 4 times in 10 min and is lost again: RAW"
    # Three of them leave room for one more.
    assert step(ConnectionState.DISCONNECTED, past(*flaps[1:], lost=20_000)).act is Rung.START


def test_after_a_resume_the_next_restart_waits_for_room_in_the_window() -> None:
    """A person's word lifts the pause, not the limit."""
    flaps = [(age * MINUTE_MS, Rung.START) for age in (8, 6, 4, 2)]
    assert step(ConnectionState.DISCONNECTED, past(*flaps, lost=20_000, resumed_at_ms=NOW_MS - 1_000)).act is None
    older = [(age + 3 * MINUTE_MS, rung) for age, rung in flaps]
    assert step(ConnectionState.DISCONNECTED, past(*older, lost=20_000, resumed_at_ms=NOW_MS)).act is Rung.START


def test_two_restarts_never_follow_at_once_on_each_other() -> None:
    """Fault 65: a device that is lost as soon as it is back is restarted with growing gaps."""
    for count, gap_ms in ((1, 5_000), (2, 10_000), (3, 20_000)):
        ages = [gap_ms - 1 + 1_000 * place for place in reversed(range(count))]
        before = past(*[(age, Rung.START) for age in ages], lost=1_600)
        assert step(ConnectionState.DISCONNECTED, before).act is None
        before = past(*[(age + 1, Rung.START) for age in ages], lost=1_600)
        assert step(ConnectionState.DISCONNECTED, before).act is Rung.START


def test_nothing_is_restarted_while_paused_nor_where_no_restart_is_allowed() -> None:
    """Issue 6, point 5."""
    assert step(ConnectionState.DISCONNECTED, past(may_act=False)).act is None
    assert step(ConnectionState.DISCONNECTED, past(), LadderTerms(restarts_at_most=0)).act is None


def test_a_gateway_without_a_kind_of_restart_gets_the_nearest_that_it_has() -> None:
    """GOWA reconnects and has no stop; another has no restart at all."""
    only_soft = LadderTerms(kinds=frozenset({RestartKind.SOFT}))
    assert step(ConnectionState.ERROR, past((200_000, Rung.SOFT)), only_soft).act is Rung.SOFT
    assert step(ConnectionState.ERROR, past(), LadderTerms(kinds=frozenset())).act is Rung.START


def test_a_device_that_is_denied_again_and_again_is_believed_later() -> None:
    """gateways.md section 1: READY can lie."""
    assert [wait_for_belief_ms(times) for times in (0, 1, 2, 3, 20)] == [0, 0, 2_000, 4_000, 60_000]


@given(st.lists(st.integers(0, 1_200_000), max_size=12), st.integers(1, 6))
def test_a_free_moment_has_room_and_none_before_it_has(ages: list[int], at_most: int) -> None:
    """Row H11."""
    terms = LadderTerms(restarts_at_most=at_most)
    restarts = [PastRestart(at_ms=NOW_MS - age, rung=Rung.SOFT) for age in sorted(ages, reverse=True)]

    def used(at_ms: int) -> int:
        return sum(one.at_ms >= at_ms - terms.window_ms for one in restarts)

    free_at_ms = find_free_at_ms(restarts, terms, now_ms=NOW_MS)
    assert used(free_at_ms) < at_most
    assert free_at_ms == NOW_MS or used(free_at_ms - 1) >= at_most
