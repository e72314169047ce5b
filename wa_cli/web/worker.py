"""`POST /api/queue/worker`: one batch of the queue, for the cron services of the source systems (rows Q1, Q8)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol

from starlette.responses import JSONResponse

from wa_cli.errors import Temporary
from wa_cli.services.documents import format_time

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor

    from wa_cli.bootstrap import App
    from wa_cli.errors import WaError
    from wa_cli.ports import Holder, Instance, Sums
    from wa_cli.web.store import StoreThread

BATCH_SIZE: Final = 15  # row Q1


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
        self, app: App, instances: Sequence[Instance], *, limit: int, executor: Executor, stop: asyncio.Event
    ) -> Drained: ...


class Worker:
    """Runs one batch at a time.  Made on the server's event loop."""

    def __init__(self, store: StoreThread, drain: Drain) -> None:
        self._store = store
        self._drain = drain
        self._is_running = False
        self.stopping = asyncio.Event()

    async def run(self, instance_name: str | None, *, limit: int) -> JSONResponse:
        """Send what is due, at most `limit` messages.

        That somebody else sends is fine: the queue moves, which is what the caller wants (row H4).
        Raises: UsageError without an account; Temporary when WhatsApp or the store cannot be reached.
        """
        instances = await self._store.run(lambda app: _find_senders(app, instance_name))
        if self._is_running:
            return JSONResponse(await self._store.run(lambda app: _document(app, instances, None, "another call")))
        if self.stopping.is_set():
            raise Temporary("the server is stopping", hint="call again later", code="stopping")
        self._is_running = True
        try:
            drained = await self._drain(
                self._store.app, instances, limit=limit, executor=self._store.executor, stop=self.stopping
            )
        finally:
            self._is_running = False
        if drained.trouble is not None:
            raise drained.trouble
        holder = drained.holder
        sender = f"a {holder.role} with pid {holder.pid}" if holder is not None else None
        return JSONResponse(await self._store.run(lambda app: _document(app, instances, drained.sums, sender)))


def _find_senders(app: App, name: str | None) -> list[Instance]:
    """The one of that name, or all that can send.  Raises: UsageError when its account is missing, or all are."""
    if name is None:
        return app.list_senders()
    instance = app.instances.find(name)
    app.accounts.check(instance)
    return [instance]


def _document(app: App, instances: Sequence[Instance], sums: Sums | None, sender: str | None) -> dict[str, Any]:
    counts = {
        name: getattr(sums, name) if sums is not None else 0
        for name in ("sent", "failed", "retrying", "unknown", "skipped")
    }
    processed = sums.started if sums is not None else 0
    return {
        "success": True,
        "message": f"{sender} is sending already" if sender is not None else f"{processed} processed",
        "processed": processed,
        **counts,
        "remaining": app.messages.read_stats()["queued"],
        "next_due_at": format_time(app.messages.find_next_due_at_ms([one.id for one in instances])),
        "is_sending_elsewhere": sender is not None,
    }
