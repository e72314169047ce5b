"""Several send loops in one process: one for each instance, all on one writer thread, each with a lease of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from wa_cli.daemon.linking import connection_followed
from wa_cli.daemon.sending import Loops, open_sender
from wa_cli.daemon.supervision import HeardThread
from wa_cli.errors import StorageBroken, Temporary, UsageError, WaError
from wa_cli.ports import Holder, Sums
from wa_cli.services.turns import LeaseLost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from concurrent.futures import Executor

    from wa_cli.bootstrap import App
    from wa_cli.ports import Instance, Record
    from wa_cli.services.dispatch import Alarm, SendLoop

log = logging.getLogger("wa.daemon")

LEASE_RETRY_SECONDS: Final = 1.0
# How often the list of instances is read again after something has changed in the file.
LOOK_FOR_NEW_SECONDS: Final = 1.0


class Fleet:
    """Keeps a sender going for each instance until it is stopped.

    names: those to send for, or None for all, also those that are added later.
    on_first_lease: what the process does as soon as it sends for anybody; entered once, left at the end.
    """

    def __init__(
        self,
        app: App,
        *,
        names: frozenset[str] | None,
        executor: Executor,
        alarm_of: Callable[[Instance], Alarm],
        on_first_lease: Callable[[AsyncExitStack], Awaitable[None]],
        on_progress: Callable[[Record], None],
    ) -> None:
        self._app = app
        self._names = names
        self._executor = executor
        self._alarm_of = alarm_of
        self._on_first_lease = on_first_lease
        self._on_progress = on_progress
        self._loops = Loops()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._threads: dict[int, HeardThread] = {}  # the writer thread, for each that has a task
        self._elsewhere: dict[int, Holder] = {}
        self._unfit: set[str] = set()
        self._has_changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._has_begun = False
        self._beginning = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._trouble: WaError | None = None
        self.sums = Sums()

    # --- what the file's watcher sees ---

    def wake(self) -> None:
        """Something was committed elsewhere: every loop looks, and the list of instances may be another."""
        self._has_changed.set()
        self._loops.wake()

    def looks_within(self, ms: float) -> bool:
        """Whether every loop will look by itself in so many milliseconds."""
        return self._loops.looks_within(ms)

    def stop(self) -> None:
        """Start nothing more; `run` returns once what is in flight is recorded."""
        self._stopping.set()
        self._has_changed.set()
        self._loops.stop()

    # --- what its supervisor sees ---

    @property
    def turns(self) -> int:
        """How often anyone of those who send was at the writer thread."""
        return sum(thread.turns for thread in self._threads.values())

    def list_sending(self) -> list[str]:
        """The names of those who send."""
        return [thread.of for instance_id, thread in self._threads.items() if self._loops.has(instance_id)]

    def list_silent(self, seconds: float) -> list[str]:
        """The names of those who should send, or wait for their turn to, and were not at the store for so long."""
        since = time.monotonic() - seconds
        return [self._threads[one].of for one in self._tasks if self._threads[one].heard_at < since]

    # --- its life ---

    async def run(self) -> Holder | None:
        """Until stopped.  Returns who sends instead, when another daemon does so for every instance.

        Raises: StorageBroken when the file cannot be trusted any more; StorageError or Temporary when it was told to
        stop while the store took no outcomes.
        """
        async with self._stack:
            try:
                return await self._supervise()
            finally:
                self._stopping.set()
                for task in self._tasks.values():
                    task.cancel()
                await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _supervise(self) -> Holder | None:
        while True:
            self._has_changed.clear()
            if not self._stopping.is_set():
                self._adjust(await asyncio.get_running_loop().run_in_executor(self._executor, self._read_instances))
            changed = asyncio.create_task(self._has_changed.wait())
            try:
                await asyncio.wait({changed, *self._tasks.values()}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
            for instance_id, task in list(self._tasks.items()):
                if task.done():
                    del self._tasks[instance_id]
                    self._note_end(task)
            if self._stopping.is_set() and not self._tasks:
                if self._trouble is not None:
                    raise self._trouble
                return None
            if not self._has_begun and self._tasks and self._elsewhere.keys() >= self._tasks.keys():
                return next(iter(self._elsewhere.values()))
            if not self._stopping.is_set():
                await self._sleep(LOOK_FOR_NEW_SECONDS)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        """What ends one of them for good ends all, but nobody is cut off who is finishing already."""
        error = task.exception()
        if error is None:
            return
        if not self._stopping.is_set() or isinstance(error, StorageBroken) or not isinstance(error, WaError):
            raise error
        self._trouble = self._trouble or error

    def _read_instances(self) -> list[tuple[Instance, list[str]]] | None:
        """Each with what it lacks; None where the file does not tell just now."""
        try:
            known = self._app.instances.list_all()
            wanted = [one for one in known if self._names is None or one.name in self._names]
            return [(one, self._app.accounts.find_missing(one)) for one in wanted]
        except StorageBroken:
            raise
        except WaError:  # the next look will tell
            return None

    def _adjust(self, listed: Sequence[tuple[Instance, list[str]]] | None) -> None:
        """Begin for those that are new, end for those that are gone."""
        if listed is None:
            return
        for instance, missing in listed:
            if missing and instance.name not in self._unfit:
                self._unfit.add(instance.name)
                log.info("not sending for '%s': %s not set", instance.name, " and ".join(missing))
            if missing or instance.id in self._tasks or instance.name in self._unfit:
                continue
            thread = self._threads[instance.id] = HeardThread(self._executor, of=instance.name)
            self._tasks[instance.id] = asyncio.create_task(self._keep_sending(instance, thread))
        gone = self._tasks.keys() - {instance.id for instance, _missing in listed}
        for instance_id in gone:
            if not self._loops.stop_one(instance_id):
                self._tasks[instance_id].cancel()
                del self._tasks[instance_id]

    async def _keep_sending(self, instance: Instance, thread: HeardThread) -> None:
        """Send for one instance as often as its lease can be had."""
        trouble, waits_for = "", None
        while not self._stopping.is_set():
            try:
                async with open_sender(
                    self._app,
                    instance,
                    role="daemon",
                    executor=thread,
                    on_progress=self._on_progress,
                    alarm=self._alarm_of(instance),
                ) as sender:
                    if isinstance(sender, Holder):
                        if sender.role == "daemon":
                            self._elsewhere[instance.id] = sender
                            self._has_changed.set()
                        if waits_for != sender.pid and (sender.role != "daemon" or self._has_begun):
                            log.info("%s is sending (pid %d); waiting for it to finish", sender.role, sender.pid)
                            waits_for = sender.pid
                    else:
                        self._elsewhere.pop(instance.id, None)
                        await self._begin()
                        log.info("sending for '%s', epoch %d", instance.name, sender.lease.epoch)
                        trouble = ""
                        if await self._send(instance, sender.loop):
                            return
            except StorageBroken:
                raise
            except UsageError as error:  # an account that cannot be meant
                if self._names is not None and len(self._names) == 1:
                    raise
                log.error("not sending for '%s': %s", instance.name, error.message)
                self._unfit.add(instance.name)
                return
            except Temporary as error:  # the file is busy, or the clock is behind: both pass
                if self._stopping.is_set():
                    raise
                if error.code != trouble:
                    log.warning("%s; trying again", error.message)
                trouble = error.code
            await self._sleep(LEASE_RETRY_SECONDS)

    async def _send(self, instance: Instance, loop: SendLoop) -> bool:
        """True: it has ended as it was told to.  False: somebody else has taken over."""
        try:
            with self._loops.holding(instance.id, loop):
                async with connection_followed(self._app, instance, wake=loop.wake, executor=self._executor):
                    await loop.run(until_idle=False)
        except LeaseLost as error:
            log.warning("%s", error.message)
            return False
        finally:
            self.sums.add(loop.sums)
        if loop.trouble is not None:
            raise loop.trouble
        return True

    async def _begin(self) -> None:
        async with self._beginning:
            if not self._has_begun:
                self._has_begun = True
                await self._on_first_lease(self._stack)

    async def _sleep(self, seconds: float) -> None:
        """At most so long; a stop ends it."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
