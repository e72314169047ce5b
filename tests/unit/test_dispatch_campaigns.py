"""Campaigns in the send loop, on a fake clock and a real store: what is held, whose turn it is, what limits do."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from world import CountingQueue, TroubledQueue, Worker, World, line, open_world, rejected

from wa_cli.domain.campaign import Quiet
from wa_cli.domain.explanation import Surroundings, explain_next, explain_origin, explain_rule
from wa_cli.domain.history import CancelScope
from wa_cli.domain.message import MessageId, State
from wa_cli.domain.outcome import ErrorClass
from wa_cli.domain.pacing import Limits, Shares
from wa_cli.domain.timetable import encode_quiet
from wa_cli.errors import StorageFull
from wa_cli.services import choosing
from wa_cli.services.resend import ResendOrder, resend
from wa_cli.store.sqlite.failures import SqliteFailures
from wa_cli.store.sqlite.queue import FIRST_LANE, IS_RUN_HELD, LIST_PARKED_RUNS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wa_cli.ports import NewMessage

SECOND = 1_000
MINUTE = 60_000
HOUR = 3_600_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as opened:
        yield opened
        assert opened.find_faults() == []


def people(first: int, count: int, body: str = "Sale") -> list[NewMessage]:
    return [line(number, body) for number in range(first, first + count)]


def order_resent(world: World, *ids: int, delay_ms: int = 0) -> None:
    order = ResendOrder(
        message_ids=[MessageId(one) for one in ids],
        delay_ms=delay_ms,
        force=True,
        is_dry_run=False,
        duplicate_window_ms=HOUR,
    )
    assert resend(SqliteFailures(world.database), order, now_ms=world.now_ms).refused == []


def fail(world: World, *ids: int) -> None:
    """As if WhatsApp had refused them for good."""
    world.transport.script = [rejected(ErrorClass.DEAD_MESSAGE)] * len(ids)
    world.drain()
    assert {world.state(message_id) for message_id in ids} == {State.FAILED}


# --- held ----------------------------------------------------------------------------------------------------------


def test_nothing_of_a_held_campaign_starts_until_it_is_let_go(world: World) -> None:
    """Promise P7; issue 5, point 6: spacing holds on both sides of the pause."""
    world.add_to_campaign(people(1, 10), delay_ms=SECOND)
    worker = Worker(world)
    worker.run_for(3_500)
    world.hold()
    worker.run_for(MINUTE)
    assert len(world.transport.posts) == 4
    world.let_go()
    worker.wake()
    worker.run_for(MINUTE)
    worker.stop()
    assert len(world.transport.posts) == 10
    assert min(world.transport.gaps_ms) >= SECOND


def test_a_held_campaign_keeps_nobody_else_waiting_and_does_not_wake_the_loop(world: World) -> None:
    """Promise P7: due work that is held costs no turns."""
    world.add_to_campaign(people(1, 50))
    world.hold()
    queue = CountingQueue(world.queue)
    worker = Worker(world, queue=queue)
    world.send_later("hello", in_ms=MINUTE)
    worker.wake()
    worker.run_for(10 * MINUTE)
    worker.stop()
    assert world.transport.bodies == ["hello"]
    assert queue.turns < 100  # those that renew the lease


def test_held_work_is_not_due_so_a_drain_ends_and_status_calls_nothing_overdue(world: World) -> None:
    """Promise P7; issue 5, point 6."""
    (first, *_others) = world.add_to_campaign(people(1, 5))
    world.hold()
    world.clock.advance(HOUR)
    world.drain()
    world.drain(whole_schedule=True)
    assert world.transport.posts == []
    assert world.messages.next_due_at_ms(1) is None
    world.let_go()
    assert world.messages.next_due_at_ms(1) == world.row(first).due_at_ms
    world.drain()
    assert len(world.transport.posts) == 5


def test_a_message_of_a_held_campaign_that_was_resent_waits_too_and_blocks_nobody(world: World) -> None:
    """Promise P7; issue 5, point 6: it sits in another lane, and keeps its place and spacing there."""
    ids = world.add_to_campaign(people(1, 3))
    others = world.add_to_campaign(people(11, 2), name="other")
    fail(world, *ids, *others)
    world.hold()
    order_resent(world, ids[0], others[0], ids[1], others[1], ids[2], delay_ms=SECOND)
    worker = Worker(world)
    worker.run_for(MINUTE)
    assert [world.state(message_id) for message_id in (*others, *ids)] == [State.SENT] * 2 + [State.QUEUED] * 3
    assert world.decisions(ids[0])[-1] == "campaign_paused"
    assert world.messages.next_due_at_ms(1) is None
    before = len(world.transport.posts)
    world.let_go()
    worker.wake()
    assert len(world.transport.posts) == before + 1
    worker.run_for(MINUTE)
    worker.stop()
    assert [world.state(message_id) for message_id in ids] == [State.SENT] * 3
    assert world.transport.gaps_ms[-2:] == [SECOND, SECOND]
    assert [world.decisions(message_id).count("campaign_paused") for message_id in ids] == [1, 1, 1]


def test_resent_messages_go_on_although_the_store_was_full_when_they_were_let_go(world: World) -> None:
    """Promise P7: the turn that put them back into their lanes came to nothing."""
    ids = world.add_to_campaign(people(1, 2))
    fail(world, *ids)
    world.hold()
    order_resent(world, *ids, delay_ms=SECOND)
    queue = TroubledQueue(world.queue)
    worker = Worker(world, queue=queue)
    worker.run_for(MINUTE)
    world.let_go()
    queue.troubles = [StorageFull("no space left")]
    worker.wake()
    worker.run_for(MINUTE)
    worker.stop()
    assert queue.refused == 1
    assert [world.state(message_id) for message_id in ids] == [State.SENT] * 2


def test_resent_messages_that_were_put_off_are_found_again_by_another_process(world: World) -> None:
    """Promise P7: the campaign was resumed while nobody sent."""
    ids = world.add_to_campaign(people(1, 3))
    fail(world, *ids)
    world.hold()
    order_resent(world, *ids)
    world.drain()
    world.let_go()
    world.drain()
    assert [world.state(message_id) for message_id in ids] == [State.SENT] * 3


def test_a_resend_that_waits_for_its_campaign_can_still_be_cancelled(world: World) -> None:
    """Promise P7: cancelling the batch of the resend finds what the pause has put off."""
    ids = world.add_to_campaign(people(1, 3))
    fail(world, *ids)
    world.hold()
    order_resent(world, *ids)
    batch_id = world.value("SELECT max(id) FROM batch")
    world.drain()
    assert world.messages.cancel_all(CancelScope(batch_id=batch_id), now_ms=world.now_ms).count == 3
    world.let_go()
    world.drain()
    assert [world.state(message_id) for message_id in ids] == [State.CANCELLED] * 3


def test_what_waits_for_the_verdict_on_a_canary_does_not_hold_the_canary(world: World) -> None:
    """Issue 5, point 6: nor a canary message that is resent meanwhile."""
    canary = world.add_to_campaign(people(1, 2), stage="canary")
    main = world.add_to_campaign(people(11, 3), stage="main")
    world.hold(reason="canary", stage="main")
    fail(world, *canary)
    order_resent(world, canary[0])
    world.drain()
    assert world.state(canary[0]) is State.SENT
    assert [world.state(message_id) for message_id in main] == [State.QUEUED] * 3
    world.let_go()
    world.drain()
    assert [world.state(message_id) for message_id in main] == [State.SENT] * 3


def test_a_message_past_its_time_expires_while_its_campaign_is_held(world: World) -> None:
    """Promise P13."""
    ids = world.add_to_campaign(people(1, 2), expires_in_ms=MINUTE)
    world.hold()
    world.clock.advance(2 * MINUTE)
    world.queue.expire(now_ms=world.now_ms)
    world.let_go()
    world.drain()
    assert [world.state(message_id) for message_id in ids] == [State.EXPIRED] * 2


# --- whose turn it is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [(4, 1), (2, 1), (4, 2), (1, 1)])
def test_campaigns_share_an_instance_by_their_weights(tmp_path: Path, weights: tuple[int, int]) -> None:
    """Issue 5, point 7: within any small window, and whoever was there first."""
    with open_world(tmp_path, limits=Limits(per_second=20)) as world:
        world.add_to_campaign(people(1, 400, "heavy"), name="heavy", weight=weights[0])
        world.add_to_campaign(people(1001, 400, "light"), name="light", weight=weights[1])
        worker = Worker(world)
        worker.run_for(10 * SECOND)
        worker.stop()
        bodies = world.transport.bodies
        size = sum(weights) * 2
        for first in range(0, len(bodies) - size, size):
            counted = Counter(bodies[first : first + size])
            assert abs(counted["heavy"] - weights[0] * 2) <= 1
        assert len(bodies) >= 200


def test_a_campaign_that_comes_later_gets_its_share_and_no_more(tmp_path: Path) -> None:
    """Issue 5, point 7: nobody saves up turns while having nothing to send."""
    with open_world(tmp_path, limits=Limits(per_second=20)) as world:
        world.add_to_campaign(people(1, 800, "early"), name="early")
        worker = Worker(world)
        worker.run_for(10 * SECOND)
        world.add_to_campaign(people(1001, 100, "late"), name="late")
        worker.wake()
        before = len(world.transport.posts)
        worker.run_for(2 * SECOND)
        worker.stop()
        counted = Counter(world.transport.bodies[before:])
        assert abs(counted["late"] - counted["early"]) <= 2


@pytest.mark.parametrize("immediate", [True, False])
def test_a_single_message_leaves_at_the_next_start_although_campaigns_wait(tmp_path: Path, immediate: bool) -> None:
    """Issue 5, point 7."""
    with open_world(tmp_path, limits=Limits(per_second=10)) as world:
        for number in range(3):
            world.add_to_campaign(people(1 + number * 1000, 300), name=f"c{number}", weight=4)
        worker = Worker(world)
        worker.run_for(5 * SECOND)
        world.enqueue([line(9_001, "hello")], immediate=immediate)
        asked_at = world.clock.steady_ms()
        worker.wake()
        worker.run_for(SECOND)
        worker.stop()
        posted = next(posted for posted in world.transport.posts if posted.body == "hello")
        assert posted.at_ms - asked_at <= 100
        assert all(posted.at_ms <= other.at_ms for other in world.transport.posts if other.at_ms > asked_at)


def test_spaced_campaigns_keep_their_spacing_beside_one_that_takes_all_it_can_get(tmp_path: Path) -> None:
    """Issue 5, point 7; row R1."""
    with open_world(tmp_path, limits=Limits(per_second=20)) as world:
        world.add_to_campaign(people(1, 600, "fast"), name="fast", weight=4)
        world.add_to_campaign(people(1001, 8, "slow"), name="slow", delay_ms=2 * SECOND)
        worker = Worker(world)
        worker.run_for(20 * SECOND)
        worker.stop()
        slow = [posted.at_ms for posted in world.transport.posts if posted.body == "slow"]
        assert len(slow) == 8
        assert all(abs(at - number * 2 * SECOND) <= 200 for number, at in enumerate(slow))


def test_the_batches_of_a_stage_share_the_spacing_of_their_lane_and_keep_their_own_terms(world: World) -> None:
    """Issue 5, point 5: variants and zones of one campaign are not spaced apart from each other."""
    (first, *_more) = world.add_to_campaign(people(1, 5, "a"), delay_ms=2 * SECOND)
    world.add_to_campaign(people(11, 5, "b"), delay_ms=2 * SECOND, shares_lane_of=first, max_attempts=1)
    world.transport.script = [rejected(ErrorClass.RETRY)] * 2
    world.drain(whole_schedule=True)
    assert min(world.transport.gaps_ms) >= 2 * SECOND
    assert Counter(world.states())[State.FAILED] == 1  # of the batch that may try only once


def test_shares_are_exact_over_any_stretch_and_forget_who_is_gone() -> None:
    """Issue 5, point 7."""
    shares = Shares()
    weights = {1: 4, 2: 2, 3: 1}
    served: list[int] = []
    for _start in range(700):
        lane = min(weights, key=lambda lane: (shares.place(lane), lane))
        shares.note(lane, weights[lane])
        served.append(lane)
    for first in range(0, 700, 7):
        assert Counter(served[first : first + 7]) == {1: 4, 2: 2, 3: 1}
    for lane in range(10, 20_000):  # each a campaign of one message, beside one that goes on
        shares.note(lane, 1)
        shares.note(1, 1)
    assert len(shares._next) <= 1_001


# --- limits of a campaign's own ------------------------------------------------------------------------------------


def test_a_campaign_keeps_limits_of_its_own_and_others_do_not_feel_them(tmp_path: Path) -> None:
    """Promise P8; issue 5, point 7."""
    with open_world(tmp_path, limits=Limits(per_second=20)) as world:
        world.add_to_campaign(people(1, 30, "few"), name="few", limits={"per_minute": 6})
        world.add_to_campaign(people(1001, 300, "many"), name="many")
        worker = Worker(world)
        worker.run_for(3 * MINUTE)
        worker.stop()
        few = [posted.at_ms for posted in world.transport.posts if posted.body == "few"]
        assert len(few) == 18
        assert all(later - earlier > MINUTE for earlier, later in zip(few, few[6:], strict=False))
        many = [posted.at_ms for posted in world.transport.posts if posted.body == "many"]
        assert len(many) == 300
        assert many[-1] < 20 * SECOND


def test_the_limits_of_a_campaign_hold_across_restarts_canaries_and_resends(tmp_path: Path) -> None:
    """Promise P8: all lanes of a run count together, and what an earlier process sent counts too."""
    with open_world(tmp_path) as world:
        world.send_later("not of the campaign")
        world.drain()
        ids = world.add_to_campaign(people(1, 4, "canary"), stage="canary", limits={"per_hour": 5})
        world.add_to_campaign(people(11, 10, "main"), limits={"per_hour": 5})
        fail(world, *ids[:1])
        assert len(world.transport.posts) == 6  # five of the campaign
        order_resent(world, ids[0])
        worker = Worker(world)
        worker.run_for(HOUR - SECOND)
        assert len(world.transport.posts) == 6
        worker.run_for(2 * SECOND)
        worker.stop()
        assert len(world.transport.posts) == 11


def test_a_campaign_that_has_used_up_its_new_people_of_the_day_ends_a_drain_and_defers_nobody(tmp_path: Path) -> None:
    """Promise P8: it waits as a whole, not row by row."""
    with open_world(tmp_path) as world:
        ids = world.add_to_campaign(people(1, 40), limits={"new_people_per_day": 10})
        world.drain()
        assert len(world.transport.posts) == 10
        assert all(world.decisions(message_id) == [] for message_id in ids)
        world.clock.advance(24 * HOUR + SECOND)
        world.drain()
        assert len(world.transport.posts) == 20


# --- quiet hours ---------------------------------------------------------------------------------------------------

# The world begins at 08:00 UTC on a Friday.
NIGHT = encode_quiet(Quiet(start=21 * 60, end=8 * 60), "UTC", None)
DAY_MS = 24 * HOUR


def hours_of_posts(world: World) -> list[float]:
    """The time of day of each post, in hours."""
    return [posted.wall_ms % DAY_MS / HOUR for posted in world.transport.posts]


def test_nothing_leaves_in_quiet_hours_and_the_rest_follows_in_the_morning_with_its_spacing(world: World) -> None:
    """Promise P8; row R5; issue 5, point 5: the schedule forgot the night, and some were late before it."""
    ids = world.add_to_campaign(people(1, 60), delay_ms=MINUTE, in_ms=12 * HOUR, quiet=NIGHT)
    world.clock.advance(12 * HOUR + 40 * MINUTE)
    worker = Worker(world)
    worker.run_for(12 * HOUR)
    worker.stop()
    assert Counter(int(hour) for hour in hours_of_posts(world)) == {20: 20, 8: 40}
    assert min(world.transport.gaps_ms) >= MINUTE
    assert Counter(tuple(world.decisions(message_id)) for message_id in ids) == {(): 20, ("quiet_hours",): 40}


def test_what_an_outage_made_late_waits_for_the_morning_and_ends_a_drain(world: World) -> None:
    """Fault 34; promise P8: nobody sent until 23:00."""
    (message_id, *_others) = world.add_to_campaign(people(1, 5), delay_ms=MINUTE, quiet=NIGHT)
    world.clock.advance(15 * HOUR)
    world.drain()
    world.drain()
    assert world.transport.posts == []
    assert world.decisions(message_id) == ["quiet_hours"]
    assert world.row(message_id).due_at_ms == world.now_ms + 9 * HOUR
    world.clock.advance(9 * HOUR)
    world.drain()
    assert [round(hour * 60) for hour in hours_of_posts(world)] == [480, 481, 482, 483, 484]


def test_a_machine_that_sleeps_into_the_night_sends_nothing_when_it_wakes(world: World) -> None:
    """Fault 34: its steady clock stood still meanwhile."""
    world.clock.advance(12 * HOUR + 50 * MINUTE)
    world.add_to_campaign(people(1, 20), delay_ms=MINUTE, quiet=NIGHT)
    worker = Worker(world)
    worker.run_for(5 * MINUTE)
    world.clock.jump(8 * HOUR)
    worker.wake()
    world.instances.resume(
        1, now_ms=world.clock.wall_ms()
    )  # the leap of the clock has paused it, and a person has looked
    worker.wake()
    worker.run_for(4 * HOUR)
    worker.stop()
    assert Counter(int(hour) for hour in hours_of_posts(world)) == {20: 6, 8: 14}
    assert min(world.transport.gaps_ms) >= MINUTE


def test_a_retry_that_falls_into_the_night_waits_for_the_morning(world: World) -> None:
    """Promise P8."""
    world.clock.advance(13 * HOUR - 2 * SECOND)
    (message_id,) = world.add_to_campaign(people(1, 1), quiet=NIGHT)
    world.transport.script = [rejected(ErrorClass.RETRY)]
    world.drain()
    for wait in (MINUTE, 11 * HOUR):
        world.clock.advance(wait)
        world.drain()
    assert world.state(message_id) is State.SENT
    assert [int(hour) for hour in hours_of_posts(world)] == [20, 8]


def test_a_campaign_that_is_resumed_at_night_waits_for_the_morning(world: World) -> None:
    """Promise P8."""
    world.add_to_campaign(people(1, 5), quiet=NIGHT)
    world.hold()
    world.clock.advance(15 * HOUR)
    world.let_go()
    world.drain()
    assert world.transport.posts == []
    world.clock.advance(10 * HOUR)
    world.drain()
    assert len(world.transport.posts) == 5


def test_a_message_that_would_have_to_wait_past_its_time_expires(world: World) -> None:
    """Promise P8; row R5: expiry wins over waiting."""
    world.clock.advance(14 * HOUR)
    (message_id,) = world.add_to_campaign(people(1, 1), expires_in_ms=2 * HOUR, quiet=NIGHT)
    world.drain()
    assert world.state(message_id) is State.QUEUED
    world.clock.advance(11 * HOUR)
    world.drain()
    assert world.transport.posts == []
    assert world.state(message_id) is State.EXPIRED


def test_each_zone_has_its_own_night_and_none_holds_up_another_in_the_same_lane(world: World) -> None:
    """Issue 5, point 5: in Tokyo it is 17:00, in Honolulu 22:00 the day before."""
    hours = Quiet(start=21 * 60, end=8 * 60)
    (first, *_others) = world.add_to_campaign(people(1, 3, "late"), quiet=encode_quiet(hours, "Pacific/Honolulu", None))
    world.add_to_campaign(people(11, 3, "day"), quiet=encode_quiet(hours, "Asia/Tokyo", None), shares_lane_of=first)
    world.send_later("not of a campaign")
    world.drain()
    assert Counter(world.transport.bodies) == {"day": 3, "not of a campaign": 1}
    world.clock.advance(10 * HOUR)
    world.drain()
    assert Counter(world.transport.bodies)["late"] == 3


@pytest.mark.parametrize(
    "quiet",
    [encode_quiet(Quiet(days=frozenset(range(7))), "UTC", None), '{"zone": "Mars/Olympus"}', '{"zone": 1}', "nonsense"],
)
def test_quiet_hours_that_never_end_or_are_not_understood_keep_their_messages_back_and_nobody_else(
    world: World, quiet: str
) -> None:
    """Promise P8."""
    (message_id, *_others) = world.add_to_campaign(people(1, 3), quiet=quiet)
    world.send_later("hello")
    worker = Worker(world)
    worker.run_for(2 * HOUR)
    worker.stop()
    assert world.transport.bodies == ["hello"]
    assert world.decisions(message_id) == ["quiet_unknown"]


# --- in words ------------------------------------------------------------------------------------------------------


def test_a_message_of_a_campaign_says_of_which_part_and_what_it_waits_for(world: World) -> None:
    """Issue 5, point 6: campaign, run, stage and variant, and the command that lets it go on."""
    ids = world.add_to_campaign(people(1, 2), name="spring", stage="canary")
    around = Surroundings(
        now_ms=world.now_ms,
        holder="daemon",
        pause_reason=None,
        rests_until_ms=0,
        rest_reason=None,
        resend_refusal=None,
        resend_unknown_seconds=0.0,
    )
    origin = world.messages.read_history(ids[1]).origin
    said = explain_origin(origin, subgroup=None, campaign="spring")
    assert said == "campaign spring, run r1, stage canary: batch b1, 2 of 2"
    world.hold("spring")
    step = explain_next(world.messages.read_history(ids[1]), around)
    assert "is paused" in step.words
    assert step.commands[0] == "wa campaign resume spring"
    world.hold("spring", reason="canary")
    assert "canary" in explain_next(world.messages.read_history(ids[1]), around).words


@pytest.mark.parametrize("rule", ["campaign_paused", "campaign_limit", "quiet_hours", "quiet_unknown"])
def test_every_rule_of_a_campaign_has_words(rule: str) -> None:
    assert explain_rule(rule).startswith("put off: ")


# --- what it costs -------------------------------------------------------------------------------------------------


def test_a_hundred_campaigns_cost_a_turn_one_look_each_and_read_the_rows_of_few(tmp_path: Path) -> None:
    """Issue 5, point 7: a turn asks once a lane; only those whose turn it is are read further."""
    with open_world(tmp_path, limits=Limits(per_second=80)) as world:
        for number in range(100):
            world.add_to_campaign(people(1 + number * 10, 10), name=f"c{number}")
        queue = CountingQueue(world.queue)
        worker = Worker(world, queue=queue)
        worker.run_for(3 * SECOND)
        statements: list[str] = []
        turns_before = queue.turns
        before = len(world.transport.posts)
        world.database.connection.set_trace_callback(statements.append)
        worker.run_for(2 * SECOND)
        world.database.connection.set_trace_callback(None)
        posted, turns = len(world.transport.posts) - before, queue.turns - turns_before
        worker.stop()
        assert abs(posted - 160) <= 4
        questions = [statement for statement in statements if statement.strip().startswith("SELECT")]
        looks = sum("lane > " in question for question in questions)
        assert looks <= turns * 101 + posted  # and once more for each lane that a message was taken from
        assert len(questions) - looks <= turns * 5 + posted * 4


def test_holds_of_the_past_cost_nothing(world: World) -> None:
    """Promise P7: whether a run is held is answered from its own batches, however many others are held."""
    world.add_to_campaign(people(1, 1))
    plan = world.rows(f"EXPLAIN QUERY PLAN {IS_RUN_HELD}", 1)
    assert any("batch_run" in row[3] for row in plan)
    plan = world.rows(f"EXPLAIN QUERY PLAN {FIRST_LANE}", 1, -1)
    assert not any("SCAN" in row[3] and "batch" in row[3] for row in plan)
    plan = world.rows(f"EXPLAIN QUERY PLAN {LIST_PARKED_RUNS}", 1)
    assert any("message_due (instance_id=? AND lane>?)" in row[3] for row in plan)


def test_thousands_of_parked_messages_go_back_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 5, point 6: no turn holds the store for long, and none is forgotten."""
    monkeypatch.setattr(choosing, "UNPARKED_AT_MOST", 10)
    with open_world(tmp_path) as world:
        ids = world.add_to_campaign(people(1, 45))
        fail(world, *ids)
        world.hold()
        order_resent(world, *ids)
        world.drain()
        world.let_go()
        world.drain()
        assert world.states() == [State.SENT] * 45
