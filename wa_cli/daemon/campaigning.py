"""Looking after campaigns beside the send loop: on its own thread and connection, since a plan may take minutes."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from wa_cli.bootstrap import open_app
from wa_cli.errors import WaError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from wa_cli.bootstrap import App

log = logging.getLogger("wa.campaigns")

# How often campaigns are looked at: stop rules and occurrences are about this late, beside what a look takes.
LOOK_SECONDS: Final = 1.0
# And while there is none that has been let go.
IDLE_LOOK_SECONDS: Final = 5.0


@asynccontextmanager
async def campaigns_looked_after(app: App) -> AsyncIterator[None]:
    """Look after campaigns for as long as the block runs."""
    from concurrent.futures import ThreadPoolExecutor

    loop = asyncio.get_running_loop()
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wa-campaigns")
    keeper = asyncio.create_task(_keep(app, executor))
    try:
        yield
    finally:
        keeper.cancel()
        await loop.run_in_executor(executor, _say_nothing)  # a look that is under way comes to its end
        executor.shutdown()


async def _keep(app: App, executor: object) -> None:
    from concurrent.futures import Executor

    assert isinstance(executor, Executor)
    loop = asyncio.get_running_loop()
    own = await loop.run_in_executor(executor, lambda: open_app(app.settings, create=False))
    try:
        while True:
            is_busy = await loop.run_in_executor(executor, look_once, own)
            await asyncio.sleep(LOOK_SECONDS if is_busy else IDLE_LOOK_SECONDS)
    finally:
        executor.submit(own.close)


def look_once(app: App) -> bool:
    """One look at every campaign that has been let go.  True: there are some."""
    if not app.campaigns.has_work():
        return False
    from wa_cli.campaigns.upkeep import look_after

    try:
        look_after(app)
    except WaError as error:  # a busy or full store: the next look will tell
        log.warning("campaigns: %s", error.message)
    return True


def _say_nothing() -> None:
    """Runs behind everything that was asked of the thread before."""
