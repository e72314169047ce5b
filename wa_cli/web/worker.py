"""`POST /api/queue/worker`: one batch of the queue, for the cron services of the source systems (rows Q1, Q8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Executor

    from wa_cli.bootstrap import App
    from wa_cli.errors import WaError
    from wa_cli.ports import Holder, Instance, Sums


class Drained(Protocol):
    """What a drain did.  holder: who was sending instead.  trouble: what ended it early."""

    @property
    def sums(self) -> Sums: ...
    @property
    def holder(self) -> Holder | None: ...
    @property
    def trouble(self) -> WaError | None: ...


class Drain(Protocol):
    """Sends what is due, on the store's own thread.  Whoever opens the server hands it in."""

    async def __call__(
        self, app: App, instance: Instance, *, limit: int, executor: Executor, stop: asyncio.Event
    ) -> Drained: ...
