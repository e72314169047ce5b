"""Budgets of a young number: a slow beginning that grows with its days, strangers, people who do not answer."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import TroubledQueue, Worker, accepted, address, ambiguous, line, not_sent, open_world, rejected

from wa_cli.domain.message import State
from wa_cli.domain.outcome import ErrorClass
from wa_cli.domain.pacing import DAY_MS, HOUR_MS, PROFILES, Limits, Windows, tighten
from wa_cli.domain.plan import Timetable
from wa_cli.domain.warm_up import WARM_UP, day_of, find_step, warm_up
from wa_cli.errors import Temporary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from world import World

DAY = round(DAY_MS)
HOUR = round(HOUR_MS)
GROUP = "120363020000000001@g.us"
GATEWAY = PROFILES["gateway"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def work(world: World, **options: Any) -> Worker:
    """A worker that looks at its lease every few hours, so that days pass quickly."""
    return Worker(world, lease=replace(world.take_lease(), length_ms=6 * HOUR), **options)


def most_within(moments: Sequence[float], span: float) -> int:
    """The greatest number of these moments that any window of so many ms holds, both its edges included."""
    return max((sum(start <= other <= start + span for other in moments) for start in moments), default=0)


# --- the plan --------------------------------------------------------------------------------------------------------
def test_each_step_of_a_warm_up_allows_more_than_the_one_before() -> None:
    """Issue 6, point 6."""
    names = {name for step in WARM_UP for name in step.limits}
    for earlier, later in pairwise(WARM_UP):
        assert earlier.until_day < later.until_day
        assert all(earlier.limits[name] <= later.limits[name] for name in names)


@pytest.mark.parametrize(("after_ms", "day"), [(0, 1), (DAY - 1, 1), (DAY, 2), (28 * DAY, 29), (-5, 1)])
def test_a_day_in_the_life_of_a_number_is_24_hours_from_its_beginning(after_ms: int, day: int) -> None:
    assert day_of(1_000, now_ms=1_000 + after_ms) == day


def test_after_four_weeks_the_limits_are_those_of_the_number() -> None:
    assert find_step(0, now_ms=28 * DAY - 1) is WARM_UP[-1]
    assert warm_up(GATEWAY, since_ms=0, now_ms=28 * DAY) == GATEWAY


@given(st.integers(0, 40 * DAY), st.builds(Limits, per_hour=st.integers(0, 100), per_day=st.integers(0, 1_000)))
def test_a_warm_up_never_loosens_a_limit(now_ms: int, limits: Limits) -> None:
    young = warm_up(limits, since_ms=0, now_ms=now_ms)
    assert tighten(young, {"per_hour": limits.per_hour, "per_day": limits.per_day}) == young


def test_the_day_rolls_over_while_the_loop_runs_and_no_start_is_forgotten(folder: Path) -> None:
    """Issue 6, point 6; promise P8: at the change of the day the rolling windows still hold what was sent before."""
    since_ms = 0
    with open_world(folder) as world:
        since_ms = world.now_ms
        world.enqueue([line(number) for number in range(1, 301)])
        worker = work(world, limits=lambda now_ms: warm_up(GATEWAY, since_ms=since_ms, now_ms=now_ms))
        worker.run_for(5 * DAY)
        worker.stop()
        first = [posted.wall_ms - since_ms for posted in world.transport.posts]
        assert len([at for at in first if at < 3 * DAY]) == 60
        assert most_within([at for at in first if at < 3 * DAY], DAY) == 20
        assert most_within(first, DAY) == 35
        assert most_within(first, HOUR) <= 30
        assert world.find_faults() == []


def test_a_plan_promises_nothing_faster_than_the_warm_up() -> None:
    """Issue 6, point 6: a timetable keeps the budgets of strangers and of the day."""
    timetable = Timetable(warm_up(GATEWAY, since_ms=0, now_ms=0))
    moments: list[float] = []
    at = 0.0
    for _message in range(100):
        at = timetable.allowed_at(at)
        timetable.note(at)
        moments.append(at)
    assert most_within(moments, DAY - 1) == 20


# --- strangers -------------------------------------------------------------------------------------------------------
def test_only_people_who_never_wrote_and_were_never_written_to_count_as_new(folder: Path) -> None:
    """Issue 6, point 6: answers, groups and the second message to somebody use nothing up."""
    with open_world(folder, limits=Limits(new_chats_per_day=2)) as world:
        world.hear(3, ago_ms=200 * DAY)
        world.enqueue([line(1, "a"), line(1, "b"), line(2, "c"), line(3, "d"), line(GROUP, "e"), line(4, "f")])
        world.drain()
        assert world.transport.bodies == ["a", "b", "c", "d", "e"]
        waiting = world.row(6)
        assert (waiting.reason, waiting.due_at_ms - world.now_ms) == ("new_chats_limit", pytest.approx(DAY, abs=10))
        world.clock.advance(DAY - HOUR)
        world.enqueue([line(1, "g")])
        world.drain()
        assert world.transport.bodies[-1] == "g"


def test_a_restart_remembers_the_chats_that_were_opened(folder: Path) -> None:
    """Promise P8."""
    with open_world(folder, limits=Limits(new_chats_per_day=2)) as world:
        world.send_later("a", "b")
        world.drain()
        world.enqueue([line(7, "c")])
        world.drain()
        assert world.transport.bodies == ["a", "b"]
        world.clock.advance(DAY + 10)
        world.drain()
        assert world.transport.bodies == ["a", "b", "c"]


@pytest.mark.parametrize("outcome", [rejected(ErrorClass.DEAD_RECIPIENT), not_sent()])
def test_a_post_that_did_not_go_out_opened_no_chat(folder: Path, outcome: object) -> None:
    with open_world(folder, limits=Limits(new_chats_per_day=1), script=[outcome]) as world:  # type: ignore[list-item]  # one of the two
        world.send_later("a")
        world.drain()
        if world.states() != [State.SENT]:
            assert world.value("SELECT count(*) FROM conversation WHERE opened_at IS NOT NULL") == 0


def test_each_that_waits_for_the_budget_has_a_place_of_its_own(folder: Path) -> None:
    """Issue 6, point 6: a backlog of strangers is put off once each, and not whenever a place falls free."""
    with open_world(folder, limits=Limits(new_chats_per_day=10)) as world:
        world.hear(9_999)
        ids = [one.message_id for one in world.enqueue([line(number) for number in range(1, 2_001)])]
        world.enqueue([line(9_999, "answer")])
        worker = work(world)
        worker.run_for(2_000)
        assert world.transport.bodies[-1] == "answer"
        assert len(world.transport.posts) == 11
        dues = [world.row(message_id).due_at_ms for message_id in ids[10:1_000]]
        assert dues == sorted(dues)
        assert most_within(dues[:200], DAY - 1_000) == 10
        worker.run_for(5 * DAY + HOUR)
        worker.stop()
        assert len(world.transport.posts) == 61
        assert world.transport.addresses[11:] == [world.row(message_id).address for message_id in ids[10:60]]


@settings(max_examples=20, deadline=None)
@given(
    st.builds(
        Limits,
        per_hour=st.integers(0, 4),
        per_day=st.integers(0, 9),
        new_chats_per_day=st.integers(1, 4),
        new_people_per_day=st.integers(0, 5),
    ),
    st.lists(st.tuples(st.integers(1, 12), st.integers(0, 6 * HOUR)), min_size=1, max_size=25),
    st.lists(st.integers(1, 12), max_size=3),
    st.lists(st.booleans(), max_size=25),
    st.integers(0, 3 * DAY),
)
def test_no_window_of_a_day_ever_holds_more_than_a_budget_allows(
    limits: Limits, wishes: list[tuple[int, int]], friends: list[int], fates: list[bool], killed_at: int
) -> None:
    """Issue 6, point 6; promise P8: in any sliding window, through a restart, whatever is refused."""
    with TemporaryDirectory() as folder, open_world(Path(folder), limits=limits) as world:
        for friend in friends:
            world.hear(friend)
        refusal = rejected(ErrorClass.RETRY)
        world.transport.script[:] = [accepted(n) if fate else refusal for n, fate in enumerate(fates)]
        for number, (to, in_ms) in enumerate(wishes):
            world.enqueue([line(to, f"m{number}")], in_ms=in_ms)
        worker = work(world)
        worker.run_for(killed_at)
        worker.kill()
        world.clock.advance(60_000)
        worker = work(world)
        worker.run_for(4 * DAY)
        worker.stop()
        posts = world.transport.posts
        moments = [posted.at_ms for posted in posts]
        assert not limits.per_hour or most_within(moments, HOUR) <= limits.per_hour
        assert not limits.per_day or most_within(moments, DAY) <= limits.per_day
        if limits.new_people_per_day:
            for first in posts:
                people = {one.post.address for one in posts if first.at_ms <= one.at_ms <= first.at_ms + DAY}
                assert len(people) <= limits.new_people_per_day
        known = {address(friend) for friend in friends}
        opened: dict[str, float] = {}
        for posted, row in zip(posts, world.rows("SELECT outcome FROM attempt ORDER BY id"), strict=True):
            if row[0] == "accepted" and posted.post.address not in known:
                opened.setdefault(posted.post.address, posted.at_ms)
        assert most_within(list(opened.values()), DAY) <= limits.new_chats_per_day


# --- people who do not answer ----------------------------------------------------------------------------------------
def test_a_person_who_does_not_answer_is_left_alone_after_so_many_messages(folder: Path) -> None:
    """Issue 6, point 6: what is too much is skipped with its reason; an answer makes room again."""
    with open_world(folder, limits=Limits(unanswered_per_person=2)) as world:
        ids = [one.message_id for one in world.enqueue([line(1, body) for body in "abcd"])]
        world.enqueue([line(GROUP, f"g{number}") for number in range(4)])
        world.drain(whole_schedule=True)
        assert sorted(world.transport.bodies) == ["a", "b", "g0", "g1", "g2", "g3"]
        assert [world.state(message_id) for message_id in ids] == [State.SENT] * 2 + [State.SKIPPED] * 2
        assert {world.row(message_id).reason for message_id in ids[2:]} == {"unanswered"}
        world.hear(1)
        world.enqueue([line(1, body) for body in "xyz"])
        world.drain(whole_schedule=True)
        assert world.transport.bodies[-2:] == ["x", "y"]
        assert world.find_faults() == []


def test_an_answer_that_is_heard_again_makes_no_room_again(folder: Path) -> None:
    with open_world(folder, limits=Limits(unanswered_per_person=1)) as world:
        world.hear(1)
        world.enqueue([line(1, "a")])
        world.drain()
        world.hear(1, name="in.0")
        world.enqueue([line(1, "b")])
        world.drain()
        assert world.transport.bodies == ["a"]


def test_one_whose_outcome_is_unknown_counts_as_said(folder: Path) -> None:
    with open_world(folder, limits=Limits(unanswered_per_person=1), script=[ambiguous()]) as world:
        world.enqueue([line(1, "a"), line(1, "b")])
        world.drain(whole_schedule=True)
        assert world.transport.bodies == ["a"]
        assert world.states() == [State.UNKNOWN, State.SKIPPED]


def test_messages_on_their_way_are_waited_for(folder: Path) -> None:
    """Two that leave together are not one too many."""
    with open_world(folder, limits=Limits(unanswered_per_person=2), latency_ms=1_000) as world:
        world.enqueue([line(1, body) for body in "abcde"])
        world.drain(whole_schedule=True)
        assert world.transport.bodies == ["a", "b"]


# --- windows that go on under other limits ---------------------------------------------------------------------------
@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, HOUR_MS), st.integers(1, 6), st.integers(2, 12)),
        min_size=5,
        max_size=60,
    )
)
def test_windows_whose_limits_change_hold_the_one_of_the_moment(steps: list[tuple[float, int, int]]) -> None:
    """Promise P8: at each start its own limits hold over all starts of the window that ends with it."""
    windows = Windows(Limits(per_hour=6, per_day=12))
    now = 0.0
    starts: list[float] = []
    for wait, per_hour, per_day in steps:
        assert windows.set_limits(Limits(per_hour=per_hour, per_day=per_day))
        now = windows.allowed_at(now + wait)
        windows.note(1, now)
        starts.append(now)
        assert sum(now - HOUR_MS <= at <= now for at in starts) <= per_hour
        assert sum(now - DAY_MS <= at <= now for at in starts) <= per_day


@pytest.mark.parametrize(
    "limits", [Limits(per_day=5), Limits(new_chats_per_day=5), Limits(gap_ms=5), Limits(recipient_per_minute=2)]
)
def test_windows_say_when_they_have_not_kept_what_other_limits_count(limits: Limits) -> None:
    windows = Windows(Limits(per_hour=6))
    assert not windows.set_limits(limits)
    assert windows.limits == Limits(per_hour=6)


def test_limits_that_begin_to_hold_while_the_loop_runs_count_what_was_sent_before(folder: Path) -> None:
    """Promise P8."""
    with open_world(folder) as world:
        since_ms = world.now_ms
        worker = work(world, limits=lambda now_ms: Limits(per_day=3 if now_ms - since_ms > HOUR else 0))
        world.enqueue([line(number) for number in (1, 2)])
        worker.wake()
        worker.run_for(HOUR + 1_000)
        world.enqueue([line(number) for number in (3, 4)])
        worker.wake()
        worker.run_for(HOUR)
        assert len(world.transport.posts) == 3
        worker.run_for(DAY)
        worker.stop()
        assert len(world.transport.posts) == 4


def test_messages_that_wait_for_a_budget_learn_of_a_greater_one_although_the_store_was_busy(folder: Path) -> None:
    """Promise P7: the turn in which the limits change may come to nothing."""
    with open_world(folder) as world:
        since_ms = world.now_ms
        queue = TroubledQueue(world.queue)
        troubles = [Temporary("busy")]

        def limits(now_ms: int) -> Limits:
            is_young = now_ms - since_ms <= HOUR
            if not is_young and troubles:
                queue.troubles.append(troubles.pop())
            return Limits(new_chats_per_day=1 if is_young else 5)

        world.enqueue([line(number) for number in (1, 2, 3)])
        worker = work(world, limits=limits, queue=queue)
        worker.run_for(HOUR - 1_000)
        assert len(world.transport.posts) == 1
        worker.run_for(3 * HOUR)
        worker.stop()
        assert (queue.refused, len(world.transport.posts)) == (1, 3)


def test_what_is_posted_is_what_was_queued_byte_for_byte(folder: Path) -> None:
    """Issue 6, point 6: no disguise; nobody's words are varied, padded or marked on their way."""
    bodies = [
        "Hello",
        "Hello",
        " two  blanks ",
        "zero\u200bwidth",
        "\u00e9",
        "line\nbreak\r\n",
        "\U0001f44b",
    ]
    with open_world(folder, limits=warm_up(GATEWAY, since_ms=0, now_ms=0)) as world:
        world.enqueue([line(number, body) for number, body in enumerate(bodies, start=1)])
        world.enqueue([line(GROUP, body) for body in bodies[2:]])
        worker = work(world)
        worker.run_for(3 * HOUR)
        worker.stop()
        assert [body.encode() for body in world.transport.bodies] == [body.encode() for body in bodies + bodies[2:]]
