"""Looking after campaigns beside the send loop: on its own thread and connection, since a plan may take minutes."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from wa_cli.errors import WaError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from wa_cli.bootstrap import App

log = logging.getLogger("wa.campaigns")

# How often campaigns are looked at: stop rules and occurrences are about this late, beside what a look takes.
LOOK_SECONDS: Final = 1.0
# And while there is none that has been let go.
IDLE_LOOK_SECONDS: Final = 5.0
# A stop does not wait longer than this for a look that is under way: whatever it leaves half, nobody may send.
STOP_SECONDS: Final = 5.0


@asynccontextmanager
async def campaigns_looked_after(app: App) -> AsyncIterator[None]:
    """Look after campaigns for as long as the block runs."""
    stop = threading.Event()
    keeper = threading.Thread(target=_keep, args=(app, stop), name="wa-campaigns", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        stop.set()
        await asyncio.to_thread(keeper.join, STOP_SECONDS)


def _keep(app: App, stop: threading.Event) -> None:
    try:
        own = app.open_again()
    except WaError as error:  # the send loop meets the same trouble, and says so
        log.warning("campaigns: %s", error.message)
        return
    try:
        while not stop.wait(LOOK_SECONDS if look_once(own) else IDLE_LOOK_SECONDS):
            pass
    finally:
        own.close()


def look_once(app: App) -> bool:
    """One look at every campaign that has been let go.  True: there are some."""
    try:
        if not app.campaigns.has_work():
            return False
        from wa_cli.campaigns.upkeep import look_after

        look_after(app)
    except WaError as error:  # a busy or full store: the next look will tell
        log.warning("campaigns: %s", error.message)
    return True
