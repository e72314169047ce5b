"""The systemd that keeps `wa run` alive: what it is told, and when it is told nothing, so that it starts us anew.

The words are those of sd_notify(3): some lines in one datagram.  Without a NOTIFY_SOCKET there is nobody to tell.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from concurrent.futures import Executor
from contextlib import suppress
from typing import TYPE_CHECKING, Final, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from concurrent.futures import Future

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("wa.daemon")

# A supervisor that takes nothing for so long is told nothing: the loop that tells it has messages to send.
TELL_SECONDS: Final = 0.5


class Supervisor:
    """Whoever started this process and wants to know how it is; or nobody, who is told nothing.

    watchdog_seconds: without a sign of life for so long it ends this process; None: it waits for none.
    """

    def __init__(self, address: str = "", *, watchdog_seconds: float | None = None) -> None:
        """address: of its socket; one that begins with @ is no file, but a name of Linux's own."""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_seconds = watchdog_seconds if address else None
        self._told: set[str] = set()

    @classmethod
    def take(cls, environment: MutableMapping[str, str]) -> Supervisor:
        """The one that the environment names, and no longer names then: a child may not speak for us."""
        address = environment.pop("NOTIFY_SOCKET", "")
        microseconds, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        is_ours = pid in ("", str(os.getpid()))
        has_watchdog = is_ours and microseconds.isascii() and microseconds.isdigit() and int(microseconds) > 0
        return cls(
            address if address.startswith(("/", "@")) else "",
            watchdog_seconds=int(microseconds) / 1e6 if has_watchdog else None,
        )

    def knows(self, word: str) -> bool:
        """Whether it was told this."""
        return word in self._told

    def tell(self, **words: object) -> None:
        """`tell(READY=1, STATUS="ready")`.  That nobody hears it stops no message."""
        if not self._address:
            return
        self._told.update(words)
        lines = (f"{name}={str(value).replace(chr(10), ' ')}" for name, value in words.items())
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaking:
            speaking.settimeout(TELL_SECONDS)
            speaking.sendto("\n".join(lines).encode(), self._address)


class HeardThread(Executor):
    """A thread that several share, for one of them: it notes when it last finished something for this one.

    turns: how often it has.
    """

    def __init__(self, shared: Executor, *, of: str) -> None:
        self._shared = shared
        self.of = of
        self.turns = 0
        self.heard_at = time.monotonic()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future = self._shared.submit(fn, *args, **kwargs)
        future.add_done_callback(self._hear)
        return future

    def _hear(self, future: Future[T]) -> None:
        if not future.cancelled():
            self.turns += 1
            self.heard_at = time.monotonic()


class Turning(Protocol):
    """Send loops that come to the writer thread again and again.  turns: how often they have been there."""

    @property
    def turns(self) -> int: ...

    def list_sending(self) -> list[str]:
        """The names of those who send."""
        ...

    def list_silent(self, seconds: float) -> list[str]:
        """The names of those who should send, and have not been there for so long."""
        ...


async def show_life(supervisor: Supervisor, sending: Turning, *, thread: Executor, silence_seconds: float) -> None:
    """Tell the supervisor twice in its time that we live, for as long as that is so.  Runs until cancelled.

    That this runs proves that the event loop turns.  The writer thread does if it comes to a question of ours, or to
    anything else meanwhile: a busy file costs each of its works 10 s, and is no reason to start anew.
    thread: the writer thread.  silence_seconds: how long a send loop may keep away from it.
    """
    if supervisor.watchdog_seconds is None:
        return
    half, more_time = supervisor.watchdog_seconds / 2, round(supervisor.watchdog_seconds * 2e6)
    loop = asyncio.get_running_loop()
    told = ""
    question, turns = loop.run_in_executor(thread, _answer), sending.turns
    while True:
        await asyncio.sleep(half)
        silent = sending.list_silent(silence_seconds)
        if not question.done() and sending.turns == turns:
            trouble = f"the store has not come back for {half:g} s"
        elif silent:
            trouble = f"the send loop of {_some(silent)} stands still"
        else:
            trouble = ""
        if trouble:
            if trouble != told:
                log.error("%s: the watchdog is told nothing", trouble)
            supervisor.tell(STATUS=trouble)
        elif supervisor.knows("STOPPING"):  # a large file may be on its way for minutes
            supervisor.tell(WATCHDOG=1, EXTEND_TIMEOUT_USEC=more_time)
        elif supervisor.knows("READY"):
            supervisor.tell(WATCHDOG=1, STATUS=f"sending for {_some(sending.list_sending())}")
        else:  # a drain may send for hours before it is our turn
            supervisor.tell(WATCHDOG=1, EXTEND_TIMEOUT_USEC=more_time, STATUS="waiting for its turn to send")
        told, turns = trouble, sending.turns
        if question.done():
            question = loop.run_in_executor(thread, _answer)


def _answer() -> None:
    """What the writer thread is asked, to see whether it comes to it."""


def _some(names: list[str]) -> str:
    return ", ".join(names) if 0 < len(names) <= 3 else f"{len(names)} instances"
