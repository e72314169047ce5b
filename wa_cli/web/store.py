"""The one thread in which a server talks to its store: the event loop never waits for the disk."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from wa_cli.bootstrap import App

T = TypeVar("T")


class StoreThread:
    """The app of a server, and the thread that uses it.  What is asked for is done in the order it came."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wa-web-store")

    async def run(self, work: Callable[[App], T]) -> T:
        """What the work returns or raises, done in the thread of the store.

        Raises: StorageBroken when the file was deleted or replaced: what is written to it then is lost (fault 23).
        """
        return await asyncio.get_running_loop().run_in_executor(self.executor, self._run, work)

    def _run(self, work: Callable[[App], T]) -> T:
        self.app.database.check_still_there()
        result = work(self.app)
        self.app.database.check_still_there()
        return result

    def close(self) -> None:
        """Finish what was begun.  The app stays open: it is its opener's."""
        self.executor.shutdown(wait=True)
