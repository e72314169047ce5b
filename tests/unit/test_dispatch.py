"""The send loop on a fake clock, a scripted WhatsApp and a real store: what leaves when, and what becomes of it."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from world import (
    FOREVER_MS,
    FakeClock,
    FakeTransport,
    InlineExecutor,
    TroubledQueue,
    Worker,
    World,
    accepted,
    ambiguous,
    line,
    not_sent,
    open_world,
    rejected,
    run,
)

from wa_cli.domain.message import OnUnknown, State
from wa_cli.domain.outcome import ErrorClass
from wa_cli.domain.pacing import PROFILES, Limits
from wa_cli.domain.retry import RetryKind, RetryPolicy
from wa_cli.errors import StorageBroken, StorageFull, Temporary
from wa_cli.services.turns import LeaseLost
from wa_cli.store.sqlite.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from world import Posted

    from wa_cli.domain.outcome import Outcome
    from wa_cli.ports import Post

SECOND = 1_000
MINUTE = 60_000
HOUR = 3_600_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as opened:
        yield opened
        assert opened.find_faults() == []


@pytest.fixture
def file_world(tmp_path: Path) -> Iterator[World]:
    """Its store is a file, for a second look from outside."""
    with open_world(tmp_path, on_disk=True) as opened:
        yield opened


# --- the plain way -------------------------------------------------------------------------------------------------


def test_every_due_message_is_posted_once_and_recorded_as_sent(world: World) -> None:
    ids = world.send_later(*(f"message {number}" for number in range(40)))
    loop = world.drain()
    assert sorted(world.transport.bodies) == sorted(f"message {number}" for number in range(40))
    assert [world.state(message_id) for message_id in ids] == [State.SENT] * 40
    assert (loop.sums.started, loop.sums.sent) == (40, 40)
    assert world.row(ids[0]).provider_message_id is not None


def test_a_start_is_on_the_disk_before_its_post_begins(file_world: World) -> None:
    """Promise P2: seen from a second connection at the moment of the post."""
    world = file_world
    ids = world.send_later("one", "two", "three")
    other = Database.open(world.database.path, create=False)
    seen: list[tuple[object, ...]] = []

    def look(posted: Posted) -> None:
        with other.read() as connection:
            seen.append(
                connection.execute(
                    """SELECT message.state, attempt.outcome, attempt.epoch, message.id FROM attempt
                    JOIN message ON message.id = attempt.message_id WHERE attempt.id = ?""",
                    (posted.attempt_id,),
                ).fetchone()
            )

    world.transport.on_post = look
    world.drain()
    other.close()
    assert seen == [("sending", None, 1, message_id) for message_id in ids]


def test_the_tag_names_the_attempt_and_holds_no_personal_data(world: World) -> None:
    """Promise P11."""
    (message_id,) = world.send_later("hello")
    world.drain()
    (attempt,) = world.attempts(message_id)
    tag = world.transport.posts[0].post.tag
    assert tag == attempt.tag == f"wa1.{world.database.read_install()}.{attempt.id}"
    assert tag.isascii()
    assert len(tag) < 64
    assert world.row(message_id).address.lstrip("+") not in tag


def test_a_message_leaves_when_it_is_due_and_not_before(world: World) -> None:
    """Row R2."""
    world.send_later("later", in_ms=90 * SECOND)
    world.drain()
    assert world.transport.posts == []
    world.drain(whole_schedule=True)
    assert world.transport.posts[0].at_ms == 90 * SECOND


def test_messages_of_one_call_leave_in_order_and_spaced(world: World) -> None:
    """Rows R1, T3."""
    world.send_later("a", "b", "c", "d", delay_ms=2_000)
    world.drain(whole_schedule=True)
    assert world.transport.bodies == ["a", "b", "c", "d"]
    assert world.transport.gaps_ms == [2_000, 2_000, 2_000]


@pytest.mark.parametrize("lateness_ms", [0.0, 2.0, 15.0])
def test_progressive_delay_does_not_drift_when_wake_ups_are_late(tmp_path: Path, lateness_ms: float) -> None:
    """Row R1: message i leaves at start + i * delay, however late each wake-up was."""
    with open_world(tmp_path) as world:
        world.send_later(*(str(number) for number in range(60)), delay_ms=2_000)
        world.drain(whole_schedule=True, lateness_ms=lateness_ms)
        starts = [posted.at_ms for posted in world.transport.posts]
        assert len(starts) == 60
        assert all(0 <= at - number * 2_000 <= 3 * lateness_ms + 1 for number, at in enumerate(starts))


def test_eighty_a_second_are_reached_with_late_wake_ups_and_a_slow_platform(tmp_path: Path) -> None:
    with open_world(tmp_path, limits=PROFILES["cloud"], latency_ms=120.0) as world:
        world.enqueue([line(number, "hi") for number in range(1_600)])
        world.drain(lateness_ms=2.0)
        starts = [posted.at_ms for posted in world.transport.posts]
        steady = [at for at in starts if at >= 2_000]  # the first seconds grow the slots
        assert (len(steady) - 1) / (steady[-1] - steady[0]) * 1000 >= 79.5
        assert max(sum(1 for at in starts if first <= at <= first + 1_000) for first in starts) <= 80


def test_no_more_posts_are_in_flight_than_the_setting_allows(tmp_path: Path) -> None:
    with open_world(tmp_path, latency_ms=50.0) as world:
        world.send_later(*(str(number) for number in range(20)))
        loop = world.new_loop(concurrency=3)
        flights: list[int] = []
        world.transport.on_post = lambda _posted: flights.append(loop.in_flight)
        run(world.clock, loop.run(until_idle=True))
        assert len(flights) == 20
        assert max(flights) == 3


# --- after an outage -----------------------------------------------------------------------------------------------


def test_after_an_outage_of_an_hour_overdue_messages_are_spaced_again(world: World) -> None:
    """Row R5, promise P8."""
    world.send_later(*(str(number) for number in range(200)), delay_ms=2_000)
    world.clock.advance(HOUR)
    world.drain(whole_schedule=True)
    assert world.transport.bodies == [str(number) for number in range(200)]
    assert world.transport.gaps_ms == [2_000] * 199


def test_a_crash_between_two_spaced_messages_does_not_shorten_their_spacing(world: World) -> None:
    """Row R5, promise P8."""
    world.send_later(*(str(number) for number in range(10)), delay_ms=2_000)
    world.clock.advance(HOUR)
    for _life in range(10):
        worker = Worker(world)
        worker.run_for(700)
        worker.stop()
    worker = Worker(world)
    worker.run_for(MINUTE)
    worker.stop()
    assert len(world.transport.posts) == 10
    assert min(world.transport.gaps_ms) >= 2_000


def test_limits_hold_across_a_restart(tmp_path: Path) -> None:
    """Rows H1, H4, promise P8."""
    with open_world(tmp_path, limits=Limits(per_minute=6, gap_ms=500)) as world:
        world.send_later(*(str(number) for number in range(20)))
        for _life in range(40):
            worker = Worker(world)
            worker.run_for(4_700)
            worker.stop()
        starts = [posted.at_ms for posted in world.transport.posts]
        assert len(starts) == 20
        assert max(sum(1 for at in starts if first <= at <= first + MINUTE) for first in starts) == 6
        assert min(world.transport.gaps_ms) >= 500


def test_a_wall_clock_that_is_set_back_brings_no_burst_and_no_second_post(tmp_path: Path) -> None:
    """Promise P8; fault 31."""
    with open_world(tmp_path, limits=Limits(per_minute=6)) as world:
        world.send_later(*(str(number) for number in range(12)))
        worker = Worker(world)
        worker.run_for(SECOND)
        world.clock.jump(-2 * HOUR)
        worker.wake()
        worker.run_for(50 * SECOND)
        assert len(world.transport.posts) == 6
        world.clock.jump(2 * HOUR)
        worker.wake()
        worker.run_for(2 * MINUTE)
        worker.stop()
        starts = [posted.at_ms for posted in world.transport.posts]
        assert len(starts) == 12
        assert max(sum(1 for at in starts if first <= at <= first + MINUTE) for first in starts) == 6


def test_a_wall_clock_that_is_set_back_does_not_draw_out_a_rest(tmp_path: Path) -> None:
    """Row S8; fault 31: back-off runs on the steady clock."""
    with open_world(tmp_path, script=[not_sent()]) as world:
        world.send_later("a", "b", delay_ms=100)
        worker = Worker(world)
        worker.run_for(500)
        world.execute("UPDATE message SET due_at = due_at - ?", 2 * HOUR)
        world.clock.jump(-2 * HOUR)
        worker.wake()
        worker.run_for(10 * SECOND)
        worker.stop()
        assert world.states() == [State.SENT] * 2


def test_a_rest_taken_before_a_restart_is_sat_out(tmp_path: Path) -> None:
    """Promise P8."""
    with open_world(tmp_path, script=[rejected(ErrorClass.THROTTLE, "130429", wait_seconds=60.0)]) as world:
        world.send_later("a")
        worker = Worker(world)
        worker.run_for(SECOND)
        worker.kill()
        world.drain(whole_schedule=True)
        assert world.transport.gaps_ms == [60_000]


def test_resume_ends_a_rest(tmp_path: Path) -> None:
    with open_world(tmp_path, script=[rejected(ErrorClass.THROTTLE, "130429", wait_seconds=3_600.0)]) as world:
        world.send_later("a")
        worker = Worker(world)
        worker.run_for(SECOND)
        assert world.instances.resume(1, now_ms=world.clock.wall_ms())
        worker.wake()
        assert len(world.transport.posts) == 2
        worker.stop()


# --- limits of one recipient and fairness --------------------------------------------------------------------------


def test_a_second_message_to_the_same_person_waits_and_the_others_overtake_it(tmp_path: Path) -> None:
    """Rows T1, S2."""
    with open_world(tmp_path, limits=Limits(recipient_gap_ms=2_000)) as world:
        ids = [answer.message_id for answer in world.enqueue([line(1, "a"), line(1, "b"), line(2, "c"), line(1, "d")])]
        world.drain(whole_schedule=True)
        assert world.transport.bodies == ["a", "c", "b", "d"]
        assert [posted.at_ms for posted in world.transport.posts] == [0, 0, 2_000, 4_000]
        assert world.decisions(ids[1]) == ["recipient_limit"]
        assert world.row(ids[1]).attempts == 1


class SlowedClock(FakeClock):
    """A wall clock that runs slow to be set right, as time servers do it: 500 parts in a million."""

    def wall_ms(self) -> int:
        return int(super().wall_ms() - self.steady_ms() * 500e-6)


def test_a_drain_sits_out_a_short_limit_though_the_wall_clock_lags_behind_the_steady_one(tmp_path: Path) -> None:
    """The limit ends on the steady clock, the message is due on the wall clock: between the two nothing may give up."""
    with open_world(tmp_path, limits=Limits(recipient_gap_ms=6_000), clock=SlowedClock()) as world:
        world.enqueue([line(1, "a"), line(1, "b")])
        run(world.clock, world.new_loop().run(until_idle=True, patience_seconds=60.0))
        assert world.transport.bodies == ["a", "b"]
        assert world.transport.gaps_ms[0] >= 6_000


def test_the_thirty_first_message_of_a_minute_to_one_number_leaves_in_the_next(tmp_path: Path) -> None:
    """Row S2."""
    with open_world(tmp_path, limits=Limits(recipient_per_minute=30)) as world:
        world.enqueue([line(1, str(number)) for number in range(31)])
        world.drain(whole_schedule=True)
        starts = [posted.at_ms for posted in world.transport.posts]
        assert starts[29] == 0
        assert MINUTE < starts[30] < MINUTE + 10


def test_people_beyond_the_budget_of_new_people_wait_for_the_next_day(tmp_path: Path) -> None:
    with open_world(tmp_path, limits=Limits(new_people_per_day=2)) as world:
        ids = world.send_later("a", "b", "c")
        world.enqueue([line(1, "again to the first")])
        worker = Worker(world)
        worker.run_for(HOUR)
        assert world.transport.bodies == ["a", "b", "again to the first"]
        assert world.decisions(ids[2]) == ["new_people_limit"]
        worker.run_for(25 * HOUR)
        worker.stop()
        assert world.transport.bodies[-1] == "c"


def test_two_spaced_calls_run_beside_each_other(world: World) -> None:
    world.send_later("a1", "a2", "a3", delay_ms=2_000)
    world.send_later("b1", "b2", "b3", delay_ms=2_000)
    world.drain(whole_schedule=True)
    assert [posted.at_ms for posted in world.transport.posts] == [0, 0, 2_000, 2_000, 4_000, 4_000]
    assert world.transport.bodies == ["a1", "b1", "a2", "b2", "a3", "b3"]


def test_two_calls_share_a_scarce_limit_fairly(tmp_path: Path) -> None:
    """Row H2: neither starves behind the other."""
    with open_world(tmp_path, limits=Limits(gap_ms=2_000)) as world:
        world.send_later(*(f"a{number}" for number in range(10)), delay_ms=1_000)
        world.send_later(*(f"b{number}" for number in range(10)), delay_ms=1_000)
        worker = Worker(world)
        worker.run_for(19_999)
        worker.stop()
        first_ten = "".join(body[0] for body in world.transport.bodies)
        assert (first_ten.count("a"), first_ten.count("b")) == (5, 5)


def test_under_a_scarce_limit_what_is_due_longest_goes_first(tmp_path: Path) -> None:
    with open_world(tmp_path, limits=Limits(gap_ms=500)) as world:
        world.enqueue([line(number, "bulk") for number in range(10)])
        world.clock.advance(10)
        world.send_later("s0", "s1", "s2", delay_ms=1_000)
        world.drain(whole_schedule=True)
        assert world.transport.bodies == ["bulk"] * 10 + ["s0", "s1", "s2"]
        assert min(world.transport.gaps_ms) >= 500


def test_immediate_jumps_the_queue_but_not_the_limits(tmp_path: Path) -> None:
    """Row S3."""
    with open_world(tmp_path, limits=Limits(gap_ms=1_000)) as world:
        world.send_later(*(f"old {number}" for number in range(5)))
        worker = Worker(world)
        worker.run_for(1_500)
        world.enqueue([line(99, "urgent")], immediate=True)
        worker.wake()
        worker.run_for(10 * SECOND)
        worker.stop()
        assert world.transport.bodies == ["old 0", "old 1", "urgent", "old 2", "old 3", "old 4"]
        assert world.transport.gaps_ms == [1_000] * 5


# --- outcomes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "state", "reason", "attempts"),
    [
        (accepted(), State.SENT, None, 1),
        (rejected(ErrorClass.DEAD_RECIPIENT, "131026"), State.FAILED, "permanent", 1),
        (rejected(ErrorClass.DEAD_MESSAGE, "132001"), State.FAILED, "permanent", 1),
        (rejected(ErrorClass.RETRY), State.QUEUED, "retry", 1),
        (rejected(ErrorClass.HOURS), State.QUEUED, "hours", 1),
        (rejected(ErrorClass.PAIR, "131056"), State.QUEUED, "pair_limit", 0),
        (rejected(ErrorClass.STOP, "190"), State.QUEUED, "instance_stopped", 0),
        (ambiguous(), State.UNKNOWN, "outcome_unknown", 1),
    ],
)
def test_one_post_ends_where_its_outcome_puts_it(
    world: World, outcome: Outcome, state: State, reason: str | None, attempts: int
) -> None:
    """Promises P3, P4."""
    world.transport.script = [outcome]
    (message_id,) = world.send_later("hello")
    world.new_loop()  # a lease of its own, released by nobody: the next one replaces it
    worker = Worker(world)
    worker.run_for(500)
    row = world.row(message_id)
    assert (row.state, row.reason, row.attempts) == (state, reason, attempts)
    assert len(world.transport.posts) == 1
    worker.stop()


def test_the_error_of_a_failed_message_is_kept_with_it(world: World) -> None:
    """Rows R6, H8."""
    world.transport.script = [rejected(ErrorClass.DEAD_RECIPIENT, "131026")]
    (message_id,) = world.send_later("hello")
    world.drain()
    row = world.row(message_id)
    assert (row.error_code, row.error_details) == ("131026", "refused: dead_recipient")
    (attempt,) = world.attempts(message_id)
    assert (attempt.outcome, attempt.http_status, attempt.error_code) == ("rejected", 400, "131026")


def test_the_ladder_is_climbed_at_its_due_times_and_then_the_message_has_failed(world: World) -> None:
    """Rows T5, T6: 1, 5, 15, 30 minutes after each failure, at the due time and not at the next poll."""
    world.transport.script = [rejected(ErrorClass.RETRY)] * 9
    (message_id,) = world.send_later("hello")
    world.drain(whole_schedule=True)
    assert world.transport.gaps_ms == [1 * MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE]
    row = world.row(message_id)
    assert (row.state, row.attempts, row.reason) == (State.FAILED, 5, "out_of_attempts")
    assert [attempt.outcome for attempt in world.attempts(message_id)] == ["rejected"] * 5


def test_exponential_retries_succeed_within_three_attempts(tmp_path: Path) -> None:
    """Rows S7, Q3."""
    script = [rejected(ErrorClass.RETRY), rejected(ErrorClass.RETRY)]
    with open_world(tmp_path, script=script, policy=RetryPolicy(kind=RetryKind.EXPONENTIAL)) as world:
        (message_id,) = world.send_later("hello", max_attempts=3)
        world.drain(whole_schedule=True)
        assert world.transport.gaps_ms == [5_000, 10_000]
        row = world.row(message_id)
        assert (row.state, row.attempts, row.error_code) == (State.SENT, 3, None)


def test_a_failing_message_does_not_hold_back_the_others(world: World) -> None:
    """Promise P12."""
    world.transport.script = [rejected(ErrorClass.RETRY)]
    world.send_later("bad", "good", "better", delay_ms=2_000)
    world.drain(whole_schedule=True)
    assert world.transport.bodies == ["bad", "good", "better", "bad"]


def test_a_pair_limit_delays_one_person_and_costs_no_attempt(world: World) -> None:
    """The platform's rule: 4 to the power of the refusals so far, in seconds."""
    refusals = iter(range(3))

    def answer(post: Post) -> Outcome:
        if post.address.endswith("1") and next(refusals, None) is not None:
            return rejected(ErrorClass.PAIR, "131056")
        return accepted()

    world.transport.script = [answer] * 9
    first, second = world.send_later("limited", "free")
    world.drain(whole_schedule=True)
    times = [posted.at_ms for posted in world.transport.posts if posted.body == "limited"]
    assert times == [0, 1_000, 5_000, 21_000]
    assert world.state(second) is State.SENT
    row = world.row(first)
    assert (row.state, row.attempts) == (State.SENT, 1)


def test_a_throttle_rests_the_instance_slows_it_down_and_costs_no_attempt(tmp_path: Path) -> None:
    """Fault 53: decided by the code; nobody fails for it."""
    script = [rejected(ErrorClass.THROTTLE, "130429", wait_seconds=5.0)]
    with open_world(tmp_path, script=script, limits=Limits(per_second=80)) as world:
        ids = world.send_later(*(str(number) for number in range(30)))
        world.drain(whole_schedule=True, concurrency=1)
        assert world.transport.posts[1].at_ms == 5_000
        assert min(later - earlier for earlier, later in pairwise(p.at_ms for p in world.transport.posts[4:14])) >= 20
        assert [world.row(message_id).attempts for message_id in ids] == [1] * 30


def test_a_stop_pauses_the_instance_says_why_and_keeps_the_queue(world: World) -> None:
    """Rows H9, H10; fault 61."""
    world.transport.script = [rejected(ErrorClass.STOP, "190")]
    ids = world.send_later("a", "b", "c")
    world.drain(concurrency=1)
    assert world.transport.bodies == ["a"]
    instance = world.instances.find("default")
    assert (instance.paused_by, instance.pause_code, instance.pause_reason) == ("platform", "190", "refused: stop")
    assert world.states() == [State.QUEUED] * 3
    assert world.row(ids[0]).attempts == 0
    world.instances.resume(1, now_ms=world.clock.wall_ms())
    world.drain()
    assert world.states() == [State.SENT] * 3


def test_after_a_stop_no_more_leaves_than_was_in_flight(tmp_path: Path) -> None:
    """Fault 62."""
    script = [rejected(ErrorClass.STOP, "368")] * 50
    with open_world(tmp_path, script=script, latency_ms=100.0) as world:
        world.send_later(*(str(number) for number in range(50)))
        world.drain(concurrency=4)
        assert len(world.transport.posts) == 4


def test_a_pause_by_hand_stops_new_starts_at_once_and_resume_goes_on(world: World) -> None:
    """Promise P7."""
    world.send_later(*(str(number) for number in range(10)), delay_ms=1_000)
    worker = Worker(world)
    worker.run_for(3_500)
    world.instances.pause(1, reason="by hand", now_ms=world.now_ms)
    posted = len(world.transport.posts)
    worker.run_for(MINUTE)
    assert len(world.transport.posts) == posted == 4
    world.instances.resume(1, now_ms=world.clock.wall_ms())
    worker.wake()
    worker.run_for(MINUTE)
    worker.stop()
    assert len(world.transport.posts) == 10
    assert min(world.transport.gaps_ms) >= 1_000


def test_a_cancelled_message_is_not_posted(world: World) -> None:
    """Promise P7."""
    ids = world.send_later("a", "b", "c", delay_ms=1_000)
    worker = Worker(world)
    assert world.messages.cancel(ids[1:], now_ms=world.now_ms).count == 2
    worker.run_for(MINUTE)
    worker.stop()
    assert world.transport.bodies == ["a"]
    assert world.states() == [State.SENT, State.CANCELLED, State.CANCELLED]


def test_an_unknown_outcome_is_held_and_never_posted_again_by_itself(world: World) -> None:
    """Promises P2, P4."""
    world.transport.script = [ambiguous()]
    (message_id,) = world.send_later("hello")
    worker = Worker(world)
    for _day in range(3):
        worker.run_for(24 * HOUR)
        assert world.queue.requeue_unknown(older_than_ms=world.now_ms, now_ms=world.now_ms) == 0
    worker.stop()
    assert len(world.transport.posts) == 1
    assert world.state(message_id) is State.UNKNOWN


def test_an_unknown_is_posted_again_after_the_waiting_time_where_its_policy_says_so(world: World) -> None:
    """Promise P2: somebody said so."""
    world.transport.script = [ambiguous()]
    (message_id,) = world.send_later("alarm", on_unknown=OnUnknown.RESEND)
    world.drain()
    world.clock.advance(14 * MINUTE)
    assert world.queue.requeue_unknown(older_than_ms=world.now_ms - 15 * MINUTE, now_ms=world.now_ms) == 0
    world.clock.advance(MINUTE)
    assert world.queue.requeue_unknown(older_than_ms=world.now_ms - 15 * MINUTE, now_ms=world.now_ms) == 1
    world.drain()
    assert len(world.transport.posts) == 2
    assert world.state(message_id) is State.SENT
    assert "unknown_resent" in world.decisions(message_id)


def test_an_unknown_is_skipped_where_its_policy_says_so(world: World) -> None:
    world.transport.script = [ambiguous()]
    (message_id,) = world.send_later("hello", on_unknown=OnUnknown.SKIP)
    world.drain()
    row = world.row(message_id)
    assert (row.state, row.reason) == (State.SKIPPED, "unknown_skipped")


def test_a_storm_of_unreadable_answers_makes_few_unknowns(tmp_path: Path) -> None:
    """Fault 51: after three in a row one message at a time feels the way, ever more seldom."""
    with open_world(tmp_path, script=[ambiguous("http_503")] * 1_000) as world:
        world.send_later(*(str(number) for number in range(200)), delay_ms=100)
        worker = Worker(world, concurrency=1)
        worker.run_for(30 * MINUTE)
        worker.stop()
        unknowns = world.states().count(State.UNKNOWN)
        assert unknowns == len(world.transport.posts)
        assert 3 < unknowns <= 10


def test_the_breaker_closes_at_the_first_readable_answer(tmp_path: Path) -> None:
    with open_world(tmp_path, script=[ambiguous("http_503")] * 3) as world:
        world.send_later(*(str(number) for number in range(10)), delay_ms=100)
        worker = Worker(world, concurrency=1)
        worker.run_for(MINUTE)
        worker.stop()
        assert [posted.at_ms for posted in world.transport.posts][:5] == [0, 100, 200, 30_200, 30_300]
        assert world.states().count(State.SENT) == 7


def test_without_a_network_nothing_is_lost_or_counted_and_recovery_takes_ten_seconds_at_most(tmp_path: Path) -> None:
    """Row S8; faults 57, 58."""
    with open_world(tmp_path, script=[not_sent()] * 12) as world:
        ids = world.send_later(*(str(number) for number in range(5)))
        world.drain(whole_schedule=True)
        assert max(world.transport.gaps_ms) == 10_000
        rows = [world.row(message_id) for message_id in ids]
        assert {(row.state, row.attempts, row.error_code) for row in rows} == {(State.SENT, 1, None)}
        assert world.value("SELECT count(*) FROM attempt WHERE outcome = 'not_sent' AND counted = 0") == 12


def test_while_nobody_answers_only_one_message_at_a_time_feels_the_way(tmp_path: Path) -> None:
    with open_world(tmp_path, script=[not_sent()] * 40) as world:
        world.send_later(*(str(number) for number in range(40)))
        worker = Worker(world, concurrency=8)
        worker.run_for(MINUTE)
        at_once = [posted for posted in world.transport.posts if posted.at_ms == 0]
        later = [posted.at_ms for posted in world.transport.posts if posted.at_ms > 0]
        worker.end()
        assert len(at_once) == 8
        assert len(later) == len(set(later))


def test_a_bug_in_a_transport_costs_one_unknown_and_not_the_loop(world: World) -> None:
    """Fault 11."""

    def explode(_post: Post) -> Outcome:
        raise RuntimeError("a bug")

    world.transport.script = [explode]
    ids = world.send_later("a", "b")
    world.drain()
    assert [world.state(message_id) for message_id in ids] == [State.UNKNOWN, State.SENT]
    assert world.row(ids[0]).error_code == "transport_bug"


# --- looked at again before the post -------------------------------------------------------------------------------


def test_a_message_past_its_time_is_expired_and_not_sent(world: World) -> None:
    ids = world.send_later("stale", "fresh")
    world.execute("UPDATE message SET expires_at = ? WHERE id = ?", world.now_ms + 5_000, ids[0])
    world.clock.advance(5_000)
    world.drain()
    assert world.transport.bodies == ["fresh"]
    assert world.row(ids[0]).state is State.EXPIRED
    assert world.decisions(ids[0]) == ["expired"]


def test_a_duplicate_that_got_into_the_queue_is_found_before_its_post(world: World) -> None:
    """Row H7."""
    first, second = world.send_later("same", "other")
    # What a race or a restored row could do: the same words to the same person wait twice.
    world.execute(
        """INSERT INTO message (instance_id, batch_id, contact_id, content_id, state, lane, due_at, scheduled_at,
            changed_at) SELECT instance_id, batch_id, contact_id, content_id, 'queued', lane, due_at, scheduled_at, 0
        FROM message WHERE id = ?""",
        first,
    )
    world.drain()
    twin = second + 1
    assert sorted(world.transport.bodies) == ["other", "same"]
    row = world.row(twin)
    assert (row.state, row.reason) == (State.SKIPPED, "duplicate")
    assert row.error_details is not None
    assert row.error_details.startswith(f"m{first} is ")


def test_a_duplicate_of_a_message_that_failed_is_sent(world: World) -> None:
    """Row H7: what never arrived is nobody's duplicate."""
    world.transport.script = [rejected(ErrorClass.DEAD_MESSAGE)]
    (first,) = world.send_later("same")
    world.drain()
    world.execute(
        """INSERT INTO message (instance_id, batch_id, contact_id, content_id, state, lane, due_at, scheduled_at,
            changed_at) SELECT instance_id, batch_id, contact_id, content_id, 'queued', lane, due_at, scheduled_at, 0
        FROM message WHERE id = ?""",
        first,
    )
    world.drain()
    assert world.transport.bodies == ["same", "same"]


def test_words_that_were_asked_for_again_are_no_duplicate(world: World) -> None:
    """Row H7."""
    world.enqueue([line(1, "reminder")])
    world.enqueue([line(1, "reminder")], again=True)
    world.drain()
    assert world.transport.bodies == ["reminder", "reminder"]


@pytest.mark.parametrize("damage", ["UPDATE content SET body = replace(body, 'six', 'ten')", "not json"])
def test_damaged_words_are_never_sent(tmp_path: Path, damage: str) -> None:
    """Fault 22: bytes flipped inside a row pass every check of SQLite, but not the checksum."""
    with open_world(tmp_path) as world:
        damaged, whole = (answer.message_id for answer in world.enqueue([line(1), line(2, "another")]))
        if damage == "not json":
            from wa_cli.domain.message import content_hash

            world.execute("UPDATE content SET body = '{', hash = ? WHERE id = 1", content_hash("{"))
        else:
            world.execute(damage)
        world.drain()
        assert world.transport.bodies == ["another"]
        row = world.row(damaged)
        assert (row.state, row.reason, row.error_code) == (State.FAILED, "content_damaged", "content_damaged")
        assert world.state(whole) is State.SENT


# --- ending --------------------------------------------------------------------------------------------------------


def test_a_start_limit_is_the_number_of_posts(world: World) -> None:
    world.send_later(*(str(number) for number in range(30)))
    loop = world.drain(start_limit=7)
    assert len(world.transport.posts) == loop.sums.started == 7
    assert world.states().count(State.QUEUED) == 23


def test_stop_finishes_what_is_in_flight_and_starts_nothing_more(tmp_path: Path) -> None:
    """Row T8; fault 4."""
    with open_world(tmp_path, latency_ms=5_000.0) as world:
        world.send_later(*(str(number) for number in range(30)))
        worker = Worker(world, concurrency=4)
        worker.run_for(2_000)
        worker.stop()
        assert len(world.transport.posts) == 4
        assert world.states().count(State.SENT) == 4
        assert world.states().count(State.QUEUED) == 26
        assert world.clock.steady_ms() == pytest.approx(5_000, abs=5)


def test_a_drain_ends_when_the_limits_would_make_it_wait_too_long(tmp_path: Path) -> None:
    """Row H4."""
    with open_world(tmp_path, limits=Limits(per_hour=5)) as world:
        world.send_later(*(str(number) for number in range(9)))
        run(world.clock, world.new_loop().run(until_idle=True, patience_seconds=60.0))
        assert len(world.transport.posts) == 5
        assert world.clock.steady_ms() < MINUTE


def test_a_drain_of_one_batch_leaves_the_rest_of_the_queue(world: World) -> None:
    world.send_later("other")
    answers = world.enqueue([line(7, "mine"), line(8, "mine too")], own_lane=True)
    world.drain(only_batch=world.row(answers[0].message_id).batch_id)
    assert world.transport.bodies == ["mine", "mine too"]


def test_an_empty_queue_ends_a_drain_at_once(world: World) -> None:
    world.drain()
    assert world.clock.steady_ms() == 0.0


def test_what_is_enqueued_while_the_loop_sleeps_leaves_when_it_is_woken(world: World) -> None:
    worker = Worker(world)
    worker.run_for(HOUR)
    world.send_later("now")
    worker.wake()
    assert world.transport.posts[0].at_ms == HOUR
    worker.stop()


def test_progress_is_told_only_after_it_was_stored(file_world: World) -> None:
    """Promise P3."""
    world = file_world
    world.send_later("a", "b")
    other = Database.open(world.database.path, create=False)
    seen: list[str] = []

    def look(record: object) -> None:
        with other.read() as connection:
            message_id = record.finished.message_id  # type: ignore[attr-defined]  # a Record
            seen.append(connection.execute("SELECT state FROM message WHERE id = ?", (message_id,)).fetchone()[0])

    world.drain(on_progress=look)
    other.close()
    assert seen == ["sent", "sent"]


# --- trouble with the store ----------------------------------------------------------------------------------------


def full() -> StorageFull:
    return StorageFull("no space left")


def test_nothing_is_posted_when_its_start_could_not_be_committed(world: World) -> None:
    """Promise P6; fault 14."""
    world.send_later("a", "b", "c")
    queue = TroubledQueue(world.queue, [full()] * 5)
    worker = Worker(world, queue=queue)
    worker.run_for(4_500)
    assert queue.refused == 5
    assert world.transport.posts == []
    assert isinstance(worker.sender.trouble, StorageFull)
    worker.run_for(10 * SECOND)
    assert sorted(world.transport.bodies) == ["a", "b", "c"]
    assert worker.sender.trouble is None
    worker.stop()


def test_outcomes_that_cannot_be_stored_are_kept_and_nothing_else_is_posted(tmp_path: Path) -> None:
    """Promise P6; fault 15."""
    with open_world(tmp_path, latency_ms=100.0) as world:
        world.send_later(*(str(number) for number in range(40)))
        queue = TroubledQueue(world.queue, [None, *[full()] * 20])
        worker = Worker(world, queue=queue, concurrency=5)
        worker.run_for(10 * SECOND)
        assert len(world.transport.posts) == 5
        assert world.states().count(State.SENDING) == 5
        worker.run_for(20 * SECOND)
        worker.stop()
        assert world.states() == [State.SENT] * 40
        assert len(world.transport.posts) == 40


def test_a_killed_process_that_could_not_store_its_outcomes_leaves_unknowns_and_no_lies(tmp_path: Path) -> None:
    """Promises P2, P3, P4; fault 15."""
    with open_world(tmp_path, latency_ms=100.0) as world:
        world.send_later(*(str(number) for number in range(10)))
        worker = Worker(world, queue=TroubledQueue(world.queue, [None, *[full()] * 99]), concurrency=5)
        worker.run_for(10 * SECOND)
        worker.kill()
        world.drain()
        states = world.states()
        assert (states.count(State.UNKNOWN), states.count(State.SENT)) == (5, 5)
        assert len(world.transport.posts) == 10


def test_a_busy_store_is_waited_for(world: World) -> None:
    """Fault 19."""
    world.send_later("a")
    world.drain(queue=TroubledQueue(world.queue, [Temporary("busy"), Temporary("busy")]))
    assert world.transport.posts[0].at_ms == 2 * SECOND


def test_an_outcome_that_is_stored_late_is_felt_only_once(tmp_path: Path) -> None:
    """One unreadable answer is one, however often the disk refused to take it."""
    with open_world(tmp_path, script=[ambiguous()]) as world:
        world.send_later("a", "b", delay_ms=5_000)
        worker = Worker(world, queue=TroubledQueue(world.queue, [None, *[full()] * 4]))
        worker.run_for(MINUTE)
        worker.stop()
        assert world.transport.bodies == ["a", "b"]
        assert world.transport.gaps_ms[0] < 10 * SECOND


def test_a_store_that_cannot_be_trusted_ends_the_loop(world: World) -> None:
    """Promise P6; fault 17."""
    world.send_later("a", "b")
    loop = world.new_loop(queue=TroubledQueue(world.queue, [StorageBroken("I/O error")]))
    with pytest.raises(StorageBroken):
        run(world.clock, loop.run(until_idle=True))
    assert world.transport.posts == []


def test_a_loop_that_is_given_up_ends_though_its_outcomes_cannot_be_stored(tmp_path: Path) -> None:
    with open_world(tmp_path, latency_ms=100.0) as world:
        world.send_later("a")
        loop = world.new_loop(queue=TroubledQueue(world.queue, [None, *[full()] * 10_000]))

        async def give_up_later() -> None:
            running = asyncio.create_task(loop.run(until_idle=True))
            await asyncio.sleep(60)
            assert not running.done()
            loop.abandon()
            await running

        run(world.clock, give_up_later())
        assert world.states() == [State.SENDING]
        world.drain()
        assert world.states() == [State.UNKNOWN]


# --- the lease -----------------------------------------------------------------------------------------------------


def test_a_holder_that_was_replaced_posts_nothing_more(world: World) -> None:
    """Promise P2; fault 8."""
    world.send_later("a", "b", delay_ms=60_000)
    worker = Worker(world)
    world.take_lease("drain")
    worker.run_for(2 * MINUTE)
    assert isinstance(worker.task.exception(), LeaseLost)
    assert world.transport.bodies == ["a"]
    worker.end()


def test_a_process_that_slept_between_commit_and_post_does_not_post(world: World) -> None:
    """Promise P2; fault 8."""
    lease = world.take_lease()
    (message_id,) = world.send_later("a")

    class SleepyExecutor(InlineExecutor):
        """The whole machine sleeps for a minute right after the first commit."""

        naps = 1

        def submit(self, work, /, *args, **kwargs):  # type: ignore[no-untyped-def]  # as its base does
            future = super().submit(work, *args, **kwargs)
            if self.naps:
                self.naps -= 1
                world.clock.advance(MINUTE)
            return future

    loop = world.new_loop(lease=lease, executor=SleepyExecutor())
    run(world.clock, loop.run(until_idle=True, patience_seconds=0.0))
    first, *_rest = world.attempts(message_id)
    assert (first.outcome, first.error_code, first.is_counted) == ("not_sent", "lease_ran_out", False)
    assert all(posted.attempt_id != first.id for posted in world.transport.posts)


def test_a_post_that_would_begin_long_after_its_start_is_given_back_so_that_limits_hold(tmp_path: Path) -> None:
    """Promise P8; fault 34: the process was stopped for ten seconds between the two, well within its lease."""
    with open_world(tmp_path, limits=Limits(gap_ms=1_000)) as world:
        ids = world.send_later("a", "b", "c")
        nap = iter([10 * SECOND])

        class Nap(InlineExecutor):
            def submit(self, work, /, *args, **kwargs):  # type: ignore[no-untyped-def]  # as its base does
                future = super().submit(work, *args, **kwargs)
                world.clock.advance(next(nap, 0))
                return future

        worker = Worker(world, executor=Nap())
        worker.run_for(MINUTE)
        worker.stop()
        assert sorted(world.transport.bodies) == ["a", "b", "c"]
        assert min(world.transport.gaps_ms) >= 1_000
        assert [attempt.error_code for attempt in world.attempts(ids[0])] == ["overslept", None]


@pytest.mark.parametrize("clock_stood_still", [True, False])
def test_a_start_whose_lease_ran_out_is_not_posted_whichever_clock_tells(world: World, clock_stood_still: bool) -> None:
    """Fault 34: while a laptop sleeps its steady clock stands still; a clock set back hides the time that passed."""
    world.send_later("a")

    class Nap(InlineExecutor):
        def submit(self, work, /, *args, **kwargs):  # type: ignore[no-untyped-def]  # as its base does
            future = super().submit(work, *args, **kwargs)
            if clock_stood_still:
                world.clock.jump(HOUR)
            else:
                world.clock.advance(HOUR)
                world.clock.jump(-HOUR)
            return future

    worker = Worker(world, executor=Nap())
    worker.end()
    assert world.transport.posts == []


def test_late_answers_of_a_replaced_holder_settle_its_unknowns_and_nothing_else(tmp_path: Path) -> None:
    """Promises P3, P4; fault 8."""
    outcomes = [accepted(1), rejected(ErrorClass.DEAD_RECIPIENT), ambiguous(), rejected(ErrorClass.RETRY)]
    with open_world(tmp_path, script=outcomes, latency_ms=20_000.0) as world:
        ids = world.send_later("accepted", "dead", "unclear", "retry")
        worker = Worker(world)
        worker.run_for(SECOND)
        world.take_lease("drain")
        assert world.states() == [State.UNKNOWN] * 4
        worker.run_for(MINUTE)
        assert isinstance(worker.task.exception(), LeaseLost)
        worker.end()
        assert world.states() == [State.SENT, State.FAILED, State.UNKNOWN, State.QUEUED]
        assert world.row(ids[0]).provider_message_id == "wamid.1"
        assert [world.row(message_id).attempts for message_id in ids] == [1, 1, 1, 1]
        assert world.find_faults() == []


def frozen_worker(world: World, outcome: Outcome, **options: object) -> tuple[Worker, int]:
    """A worker that stands still with one post in flight, whose answer it will read when it goes on."""
    world.transport.script = [outcome]
    world.transport.latency_ms = 5_000.0
    (message_id,) = world.send_later("hello", **options)
    worker = Worker(world)
    worker.run_for(SECOND)
    world.clock.advance(MINUTE)
    world.take_lease("drain")
    assert world.state(message_id) in (State.UNKNOWN, State.SKIPPED)
    return worker, message_id


def thaw(worker: Worker) -> None:
    worker.run_for(MINUTE)
    assert isinstance(worker.task.exception(), LeaseLost)
    worker.end()


def test_a_late_acceptance_stops_the_second_post_that_was_waiting(world: World) -> None:
    """Promises P2, P3; fault 8: a policy had queued it again, and now it is known that nobody needs that."""
    worker, message_id = frozen_worker(world, accepted(1), on_unknown=OnUnknown.RESEND)
    assert world.queue.requeue_unknown(older_than_ms=world.now_ms, now_ms=world.now_ms) == 1
    thaw(worker)
    row = world.row(message_id)
    assert (row.state, row.provider_message_id) == (State.SENT, "wamid.1")
    world.drain()
    assert len(world.transport.posts) == 1


def test_a_late_acceptance_shows_a_cancelled_message_as_what_it_is(world: World) -> None:
    """Promise P3."""
    worker, message_id = frozen_worker(world, accepted(1), on_unknown=OnUnknown.RESEND)
    world.queue.requeue_unknown(older_than_ms=world.now_ms, now_ms=world.now_ms)
    world.messages.cancel([message_id], now_ms=world.now_ms)
    thaw(worker)
    assert world.state(message_id) is State.SENT


def test_a_late_refusal_says_nothing_about_a_second_post_that_nobody_knows(world: World) -> None:
    """Promise P4: one of two posts was certainly refused, the other may have been accepted."""
    worker, message_id = frozen_worker(world, rejected(ErrorClass.RETRY), on_unknown=OnUnknown.RESEND)
    world.queue.requeue_unknown(older_than_ms=world.now_ms, now_ms=world.now_ms)
    world.transport.script = [ambiguous()]
    world.transport.latency_ms = 0.0
    world.drain()
    assert world.state(message_id) is State.UNKNOWN
    thaw(worker)
    assert world.state(message_id) is State.UNKNOWN
    assert [attempt.outcome for attempt in world.attempts(message_id)] == ["rejected", "ambiguous"]


def test_a_refused_second_post_cannot_deny_the_first_that_was_accepted(world: World) -> None:
    """Promises P2, P3: the late answer came in while the second post was on its way."""
    worker, message_id = frozen_worker(world, accepted(1), on_unknown=OnUnknown.RESEND)
    world.queue.requeue_unknown(older_than_ms=world.now_ms, now_ms=world.now_ms)
    world.transport.script = [rejected(ErrorClass.RETRY)]
    second = Worker(world)
    second.run_for(100)
    worker.run_for(1)
    assert [attempt.outcome for attempt in world.attempts(message_id)] == ["accepted", None]
    second.run_for(MINUTE)
    second.stop()
    worker.end()
    assert world.state(message_id) is State.SENT
    assert len(world.transport.posts) == 2


def test_a_late_acceptance_does_not_touch_a_second_post_on_its_way(tmp_path: Path) -> None:
    """Promise P3."""
    with open_world(tmp_path) as world:
        worker, message_id = frozen_worker(world, accepted(1), on_unknown=OnUnknown.RESEND)
        world.queue.requeue_unknown(older_than_ms=world.now_ms, now_ms=world.now_ms)
        second = Worker(world)
        second.run_for(100)
        assert world.state(message_id) is State.SENDING
        worker.run_for(1)
        assert world.state(message_id) is State.SENDING
        second.run_for(MINUTE)
        second.stop()
        worker.end()
        assert world.state(message_id) is State.SENT
        assert [attempt.outcome for attempt in world.attempts(message_id)] == ["accepted", "accepted"]
        assert world.find_faults() == []


def test_the_lease_is_renewed_while_the_loop_runs(world: World) -> None:
    worker = Worker(world)
    for _minute in range(30):
        worker.run_for(MINUTE)
        assert world.value("SELECT expires_at FROM lease") > world.now_ms + 15_000
    worker.stop()
    assert world.value("SELECT epoch FROM lease") == 1


def test_what_a_killed_process_had_in_flight_is_unknown_and_not_posted_again(tmp_path: Path) -> None:
    """Promises P1, P2, P4."""
    with open_world(tmp_path, latency_ms=5_000.0) as world:
        world.send_later(*(str(number) for number in range(20)))
        worker = Worker(world, concurrency=6)
        worker.run_for(7_000)
        worker.kill()
        world.drain(concurrency=6)
        states = world.states()
        assert (states.count(State.UNKNOWN), states.count(State.SENT)) == (6, 14)
        assert len({posted.body for posted in world.transport.posts}) == len(world.transport.posts) == 20
        assert world.find_faults() == []


def test_the_transport_sees_what_was_queued(world: World) -> None:
    world.enqueue([line("+4915112345678", "Grüße 👋")])
    world.drain()
    post = world.transport.posts[0].post
    assert (post.address, world.transport.bodies) == ("+4915112345678", ["Grüße 👋"])


def test_nothing_is_due_for_ever_and_the_loop_does_not_spin(world: World) -> None:
    """An idle daemon wakes for its lease and for nothing else."""
    world.send_later("in a thousand years", in_ms=FOREVER_MS)
    turns = TroubledQueue(world.queue, [None] * 10_000)
    worker = Worker(world, queue=turns)
    worker.run_for(10 * MINUTE)
    worker.stop()
    assert 10_000 - len(turns.troubles) <= 62


def test_a_transport_is_left_open_for_its_owner(world: World) -> None:
    world.drain()
    assert isinstance(world.transport, FakeTransport)
    assert not world.transport.is_closed
