"""What the daemon, a drain and a foreground wait have in common: a send loop around the app's pieces."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import signal
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from wa_cli.daemon.loops import ring_later
from wa_cli.errors import Temporary, WaError
from wa_cli.ports import Holder, Lease
from wa_cli.services.dispatch import Alarm, SendLoop
from wa_cli.services.webhooks import prune

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from concurrent.futures import Executor

    from wa_cli.bootstrap import App
    from wa_cli.ports import Instance, Record, Transport

log = logging.getLogger("wa.daemon")

# How often the file is asked whether somebody else has written to it, so that new work is seen within 50 ms.  Waking up
# for the question costs ten times the question.
LOOK_SECONDS: Final = 0.04
# Webhooks that nobody has read are read between sends, some at a time, for about so long: meanwhile nothing is sent.
READ_SECONDS: Final = 0.5
READ_AT_ONCE: Final = 20
# After how many new objects the collector looks for cycles, while we send.  A post makes hundreds that die with it, so
# that Python's default (700) costs a tenth of a message's processor time.
COLLECT_AFTER: Final = 10_000


@dataclass(slots=True, kw_only=True)
class Sender:
    """A lease and the loop that uses it."""

    lease: Lease
    loop: SendLoop
    transport: Transport


class Interrupts:
    """SIGINT and SIGTERM: the first asks the loops to finish, the second leaves at once."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._on_first: list[Callable[[], None]] = []

    def call_on_first(self, stop: Callable[[], None]) -> None:
        self._on_first.append(stop)
        if self.received is not None:
            stop()

    def install(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(NotImplementedError):  # Windows: Ctrl-C arrives as KeyboardInterrupt there
                loop.add_signal_handler(number, self._receive, number)
        if hasattr(signal, "SIGHUP"):
            # A closed terminal or a log rotation must not stop a daemon; its settings are read at its start only.
            loop.add_signal_handler(signal.SIGHUP, lambda: log.info("SIGHUP: nothing to reload"))

    @property
    def exit_code(self) -> int:
        """What the shell expects of an interrupted program: 130 or 143, 0 when nothing came."""
        return 0 if self.received is None else 128 + self.received

    def _receive(self, number: signal.Signals) -> None:
        if self.received is not None:
            # What is in flight has its start on the disk: the next process finds it and calls it unknown.
            import os

            os._exit(128 + number)
        self.received = number
        log.info("%s: finishing what is in flight; a second one leaves at once", number.name)
        for stop in self._on_first:
            stop()


@asynccontextmanager
async def open_sender(
    app: App,
    instance: Instance,
    *,
    role: str,
    executor: Executor,
    only_batch: int | None = None,
    start_limit: int | None = None,
    on_progress: Callable[[Record], None] | None = None,
    alarm: Alarm | None = None,
) -> AsyncIterator[Sender | Holder]:
    """Take the instance's lease and build its loop, or say who holds it.  The lease is given back at the end."""
    loop = asyncio.get_running_loop()
    account = await loop.run_in_executor(executor, app.accounts.find, instance)
    app.accounts.check(instance)
    transport = app.provider(instance).open_transport(account)
    thresholds = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER, *thresholds[1:])
    try:
        answer = await loop.run_in_executor(
            executor, lambda: app.leases.acquire(instance.id, role=role, now_ms=app.clock.wall_ms())
        )
        if isinstance(answer, Holder):
            yield answer
            return
        try:
            # Taking the lease has turned what a dead holder left into unknowns: their receipts may have come.
            await loop.run_in_executor(executor, app.look_after_receipts)
            yield Sender(
                lease=answer,
                transport=transport,
                loop=SendLoop(
                    queue=app.queue,
                    transport=transport,
                    clock=app.clock,
                    executor=executor,
                    lease=answer,
                    limits=app.pace(instance),
                    policy=app.retry_policy(),
                    install=account.install,
                    jitter=random.random,
                    concurrency=app.concurrency(),
                    only_batch=only_batch,
                    start_limit=start_limit,
                    on_progress=on_progress,
                    alarm=alarm or ring_later,
                ),
            )
        finally:
            with suppress(WaError):
                await loop.run_in_executor(executor, app.leases.release, answer)
    finally:
        gc.set_threshold(*thresholds)
        await transport.close()


class Woken(Protocol):
    """What is told that the file has changed: a send loop, or several as one."""

    def wake(self) -> None: ...

    def looks_within(self, ms: float) -> bool: ...


class Loops:
    """The send loops of several instances, woken and stopped as one."""

    def __init__(self) -> None:
        self._loops: dict[int, SendLoop] = {}
        self.is_stopped = False

    def wake(self) -> None:
        for loop in self._loops.values():
            loop.wake()

    def looks_within(self, ms: float) -> bool:
        """Whether every one of them will look by itself in so many milliseconds."""
        return bool(self._loops) and all(loop.looks_within(ms) for loop in self._loops.values())

    def stop(self) -> None:
        """Stop those that run, and those that are still to come."""
        self.is_stopped = True
        for loop in self._loops.values():
            loop.stop()

    def stop_one(self, instance_id: int) -> bool:
        """Stop the loop of one instance.  False: none runs for it."""
        loop = self._loops.get(instance_id)
        if loop is not None:
            loop.stop()
        return loop is not None

    def has(self, instance_id: int) -> bool:
        """Whether the loop of an instance is one of them."""
        return instance_id in self._loops

    @contextmanager
    def holding(self, instance_id: int, loop: SendLoop) -> Iterator[None]:
        """The loop is one of them for as long as the block runs."""
        self._loops[instance_id] = loop
        if self.is_stopped:
            loop.stop()
        try:
            yield
        finally:
            del self._loops[instance_id]


async def watch_file(app: App, sending: Woken, *, executor: Executor) -> None:
    """Wake what sends soon after another process has committed something.  Runs until cancelled."""
    loop = asyncio.get_running_loop()
    reader = await loop.run_in_executor(executor, app.open_reader)
    try:
        seen = reader.data_version()
        seen_by_writer = None
        while True:
            await _next_touch(sending, reader.is_log_untouched)
            try:
                version = reader.data_version()
                if version == seen:
                    continue
                # The reader cannot tell our own commits from others'; the writer's connection counts others' alone.
                theirs = await loop.run_in_executor(executor, app.queue.data_version)
            except Temporary:  # the next look will tell
                continue
            seen = version
            if theirs != seen_by_writer:
                seen_by_writer = theirs
                sending.wake()
    finally:
        reader.close()


def _next_touch(sending: Woken, is_untouched: Callable[[], bool]) -> asyncio.Future[None]:
    """Done when the file may hold something new that the loop does not come to see by itself.

    A chain of timers: a coroutine that sleeps between its looks would cost a third more, all day long.
    """
    loop = asyncio.get_running_loop()
    touched: asyncio.Future[None] = loop.create_future()

    def look() -> None:
        if touched.done():  # cancelled
            return
        if sending.looks_within(LOOK_SECONDS * 1000) or is_untouched():
            loop.call_later(LOOK_SECONDS, look)
        else:
            touched.set_result(None)

    loop.call_later(LOOK_SECONDS, look)
    return touched


def look_after_queue(app: App) -> None:
    """Upkeep between sends: read the webhooks that wait and forget old ones, expire what is past its time, send again
    the unknowns whose policy says so, and take out what a killed enqueue left unfinished."""
    now_ms = app.clock.wall_ms()
    app.database.checkpoint()
    app.intake.sweep_abandoned()
    # First, since a receipt may settle what would be sent again, and a wish to leave stops what is due.
    read = _read_webhooks(app)
    settled = app.look_after_receipts()
    expired = app.queue.expire(now_ms=now_ms)
    moved = app.look_after_pools()
    if moved:
        log.info("upkeep: %d messages moved to other instances of their pools", moved)
    wait_ms = round(app.retry_policy().resend_unknown_seconds * 1000)
    requeued = app.queue.requeue_unknown(older_than_ms=now_ms - wait_ms, now_ms=now_ms)
    app.media.sweep(now_ms=now_ms)
    if not app.webhooks.count_waiting():  # a receipt that nobody has read yet is no silence
        for name in app.look_after_numbers():
            log.warning("%s is paused: its messages are taken and not acknowledged; `wa status` says more", name)
    prune(app.webhooks, days=app.settings.count("WA_WEBHOOK_DAYS"), now_ms=now_ms)
    if expired or requeued or settled or read:
        log.info(
            "upkeep: %d expired, %d unknown queued again by their policy, %d receipts applied late, %d webhooks read",
            expired,
            requeued,
            settled,
            read,
        )


def _read_webhooks(app: App) -> int:
    """Read webhooks that wait: a server that was killed has left them, and none may be running now.

    Returns how many.  Beside a server that runs there are hardly any, and what both take hold of is read once.
    """
    if not app.webhooks.count_waiting():
        return 0
    ends_ms = app.clock.steady_ms() + READ_SECONDS * 1000
    read = 0
    while (some := app.read_webhooks(limit=READ_AT_ONCE).webhooks) and app.clock.steady_ms() < ends_ms:
        read += some
    return read + some


def new_writer_thread() -> Executor:
    """The one thread that talks to the store."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="wa-store")
