"""Running a sandbox: in the foreground until a signal, or in a thread beside synchronous code."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from typing import TYPE_CHECKING

from wa_cli.sandbox.server import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wa_cli.sandbox.settings import SandboxSettings


def run_sandbox(settings: SandboxSettings, *, announce: Callable[[Sandbox], None]) -> None:
    """Run until SIGINT or SIGTERM, then return.  Only from the main thread.

    announce: called once the sandbox listens.  Raises: WaError when it cannot start.
    """
    asyncio.run(_run_until_signal(settings, announce))


async def _run_until_signal(settings: SandboxSettings, announce: Callable[[Sandbox], None]) -> None:
    loop = asyncio.get_running_loop()
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Where loops take no signal handlers, Ctrl-C arrives as KeyboardInterrupt instead.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, asked_to_stop.set)
    async with Sandbox(settings) as sandbox:
        announce(sandbox)
        await asked_to_stop.wait()


@contextlib.contextmanager
def serve_in_thread(settings: SandboxSettings | None = None) -> Iterator[Sandbox]:
    """A running sandbox for synchronous code; it stops when the block ends.

    Reading `ledger`, `deliveries`, `url` and `settings` and calling `inject` are fine from outside; for the rest,
    such as another webhook URL, use the admin API. Raises: WaError when it cannot start.
    """
    sandbox = Sandbox(settings)
    is_ready = threading.Event()
    failed: list[BaseException] = []
    ending: list[Callable[[], object]] = []

    async def serve() -> None:
        asked_to_stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        ending.append(lambda: loop.call_soon_threadsafe(asked_to_stop.set))
        async with sandbox:
            is_ready.set()
            await asked_to_stop.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001 - carried over to the thread that asked
            failed.append(error)
        finally:
            is_ready.set()

    thread = threading.Thread(target=run, name="sandbox", daemon=True)
    thread.start()
    is_ready.wait()
    if failed:
        thread.join()
        raise failed[0]
    try:
        yield sandbox
    finally:
        ending[0]()
        thread.join()
    if failed:
        raise failed[0]
