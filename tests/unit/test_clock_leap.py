"""A wall clock that leaps ahead: what it makes due waits for a person; what it never touched goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.world import InlineExecutor, VirtualLoop, Worker, open_world
from wa_cli.domain.message import State

if TYPE_CHECKING:
    from pathlib import Path

MINUTE = 60_000
HOUR = 60 * MINUTE


def test_a_clock_that_leaps_ahead_pauses_instead_of_sending_what_became_due(tmp_path: Path) -> None:
    """Promise P8; fault 31."""
    with open_world(tmp_path) as world:
        world.send_later("tomorrow", in_ms=24 * HOUR, expires_in_ms=25 * HOUR)
        worker = Worker(world)
        worker.run_for(1_000)
        world.clock.jump(365 * 24 * HOUR)
        worker.run_for(MINUTE)
        (instance,) = world.instances.list_all()
        assert world.transport.posts == []
        assert world.states() == [State.QUEUED]
        assert instance.pause_code == "clock_leap"
        assert "525600 min ahead" in str(instance.pause_reason)
        worker.stop()


def test_a_leap_before_the_first_turn_is_seen_as_well(tmp_path: Path) -> None:
    """Promise P8; fault 31: the lease is had, the loop is made, and then somebody sets the clock."""
    with open_world(tmp_path) as world:
        world.send_later("tomorrow", in_ms=24 * HOUR)
        sender = world.new_loop(executor=InlineExecutor())
        world.clock.jump(25 * HOUR)
        asyncio_loop = VirtualLoop(world.clock)
        asyncio_loop.run_until_complete(asyncio_loop.create_task(sender.run(until_idle=True)))
        asyncio_loop.close()
        assert world.transport.posts == []
        assert world.instances.list_all()[0].pause_code == "clock_leap"


def test_after_a_person_has_looked_it_goes_on(tmp_path: Path) -> None:
    """Fault 31: asked once, not again and again."""
    with open_world(tmp_path) as world:
        world.send_later("tomorrow", in_ms=24 * HOUR)
        worker = Worker(world)
        worker.run_for(1_000)
        world.clock.jump(25 * HOUR)
        worker.run_for(MINUTE)
        world.instances.resume(1, now_ms=world.clock.wall_ms())
        worker.wake()
        worker.run_for(MINUTE)
        assert world.states() == [State.SENT]
        worker.stop()


def test_a_clock_that_is_kept_right_by_small_steps_pauses_nothing(tmp_path: Path) -> None:
    """Fault 31: steps under five minutes are a time service at work."""
    with open_world(tmp_path) as world:
        worker = Worker(world)
        for _step in range(10):
            world.clock.jump(4 * MINUTE)
            worker.run_for(MINUTE)
        assert world.instances.list_all()[0].paused_at_ms is None
        worker.stop()
