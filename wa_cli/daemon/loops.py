"""Which event loop sends: uvloop where it is installed and loads, asyncio's own elsewhere (Windows)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

T = TypeVar("T")

log = logging.getLogger("wa.daemon")

# uvloop counts whole milliseconds, from a clock that it reads once a round.  A timer that rings a little early would
# cost a turn that finds nothing to start yet, as much as one that does: so all of them ring so much later.
GRAIN_SECONDS: Final = 0.001


def run_in_loop(main: Coroutine[Any, Any, T]) -> T:
    """What `asyncio.run` does, on the fastest loop there is."""
    with asyncio.Runner(loop_factory=find_loop_factory()) as runner:
        return runner.run(main)


def find_loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the loop, or None for asyncio's own.  Loads uvloop, so it waits until something is to be sent."""
    try:
        import uvloop
    except ImportError as error:  # on Windows there is none; elsewhere its binary may not fit the machine
        log.debug("asyncio's own loop sends: %s", error)
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def ring_later(seconds: float, ring: Callable[[], None]) -> Callable[[], None]:
    """Call back from the running loop's own timer, a little late rather than early.  Returns what cancels it."""
    return asyncio.get_running_loop().call_later(seconds + GRAIN_SECONDS, ring).cancel
