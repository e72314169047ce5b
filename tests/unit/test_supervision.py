"""Telling a supervisor: the socket, whose watchdog it is, and what counts as life."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from world import InlineExecutor

from wa_cli.bootstrap import open_app
from wa_cli.config import load_settings
from wa_cli.daemon.fleet import Fleet
from wa_cli.daemon.loops import ring_later
from wa_cli.daemon.service import run_daemon
from wa_cli.daemon.supervision import HeardThread, Supervisor, show_life

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor
    from contextlib import AsyncExitStack
    from pathlib import Path

    from wa_cli.bootstrap import App


class Ear:
    """A socket that a supervisor listens on."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.address = f"@wa-ear-{os.getpid()}-{path.name}"
        self._socket.bind("\0" + self.address[1:])
        self._socket.setblocking(False)

    def hear(self) -> list[dict[str, str]]:
        """All that was told since the last time."""
        told = []
        while True:
            try:
                words = self._socket.recv(4096).decode()
            except BlockingIOError:
                return told
            told.append(dict(line.split("=", 1) for line in words.split("\n")))

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[Ear]:
    made = Ear(tmp_path)
    yield made
    made.close()


def open_account(folder: Path, **settings: str) -> App:
    """A database with an account that leads nowhere."""
    account = {"WHATSAPP_API_URL": "http://127.0.0.1:9/v25.0/1/messages", "WHATSAPP_ACCESS_TOKEN": "token"}
    return open_app(load_settings({**account, **settings}, flags={"WA_DB": str(folder / "wa.db")}), create=True)


class PlayedFleet:
    """Send loops that turn when the test says so."""

    def __init__(self) -> None:
        self.turns = 0
        self.silent: list[str] = []

    def list_sending(self) -> list[str]:
        return ["default"]

    def list_silent(self, seconds: float) -> list[str]:
        return self.silent


def test_words_go_out_as_lines_of_one_datagram(ear: Ear) -> None:
    Supervisor(ear.address).tell(READY=1, STATUS="all\nis well")
    assert ear.hear() == [{"READY": "1", "STATUS": "all is well"}]


def test_without_a_socket_nothing_happens() -> None:
    supervisor = Supervisor.take({})
    assert supervisor.watchdog_seconds is None
    supervisor.tell(READY=1)


@pytest.mark.parametrize(
    "address", ["/nowhere/at/all", "@nobody-listens-here", "vsock:2:1234", "", "x" * 300, "/" * 300]
)
def test_a_socket_that_nobody_listens_on_harms_nothing(address: str) -> None:
    Supervisor.take({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}).tell(READY=1)


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WATCHDOG_USEC": "2500000"}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": str(os.getpid())}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_a_watchdog_is_heeded_if_it_is_ours(variables: dict[str, str], seconds: float | None) -> None:
    assert Supervisor.take({"NOTIFY_SOCKET": "/run/notify", **variables}).watchdog_seconds == seconds


def test_a_watchdog_without_a_socket_is_nobodys() -> None:
    assert Supervisor.take({"WATCHDOG_USEC": "2500000"}).watchdog_seconds is None


def test_no_child_inherits_the_right_to_speak(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address is gone from the environment, and no socket stays open."""
    for name, value in (("NOTIFY_SOCKET", ear.address), ("WATCHDOG_USEC", "1"), ("WATCHDOG_PID", str(os.getpid()))):
        monkeypatch.setenv(name, value)
    supervisor = Supervisor.take(os.environ)
    supervisor.tell(READY=1)
    code = "import os; print(sorted(set(os.environ) & {'NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID'}))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout == "[]\n"
    assert ear.hear() == [{"READY": "1"}]


async def beats(
    ear: Ear, supervisor: Supervisor, fleet: PlayedFleet, thread: Executor, *, count: int = 1, until: str = "STATUS"
) -> list[dict[str, str]]:
    """What is told, from the beginning until that word has been for so many times."""
    showing = asyncio.create_task(show_life(supervisor, fleet, thread=thread, silence_seconds=60))
    told: list[dict[str, str]] = []
    async with asyncio.timeout(60):
        while sum(until in one for one in told) < count:
            await asyncio.sleep(0.01)
            told += ear.hear()
    showing.cancel()
    return told


@pytest.fixture
def free() -> Iterator[threading.Event]:
    """What hangs is to wait for this."""
    made = threading.Event()
    yield made
    made.set()


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    made = ThreadPoolExecutor(max_workers=1)
    yield made
    made.shutdown()


@pytest.fixture
def supervisor(ear: Ear) -> Supervisor:
    """One that waits for a sign of life each half second, and was told that all is ready."""
    made = Supervisor(ear.address, watchdog_seconds=0.5)
    made.tell(READY=1)
    ear.hear()
    return made


def test_life_is_shown_while_the_thread_answers(ear: Ear, supervisor: Supervisor) -> None:
    told = asyncio.run(beats(ear, supervisor, PlayedFleet(), InlineExecutor(), count=2))
    assert told == [{"WATCHDOG": "1", "STATUS": "sending for default"}] * 2


def test_before_it_is_ready_and_while_it_stops_more_time_is_asked_for(ear: Ear) -> None:
    supervisor = Supervisor(ear.address, watchdog_seconds=0.5)
    (told,) = asyncio.run(beats(ear, supervisor, PlayedFleet(), InlineExecutor()))
    assert told == {"WATCHDOG": "1", "EXTEND_TIMEOUT_USEC": "1000000", "STATUS": "waiting for its turn to send"}
    supervisor.tell(READY=1)
    supervisor.tell(STOPPING=1)
    ear.hear()
    (told,) = asyncio.run(beats(ear, supervisor, PlayedFleet(), InlineExecutor(), until="WATCHDOG"))
    assert told == {"WATCHDOG": "1", "EXTEND_TIMEOUT_USEC": "1000000"}


def test_none_is_shown_while_the_thread_hangs_and_it_is_again_when_it_comes_back(
    ear: Ear, supervisor: Supervisor, thread: ThreadPoolExecutor, free: threading.Event
) -> None:
    thread.submit(free.wait)
    told = asyncio.run(beats(ear, supervisor, PlayedFleet(), thread, count=3))
    assert told == [{"STATUS": "the store has not come back for 0.25 s"}] * 3
    free.set()
    asyncio.run(beats(ear, supervisor, PlayedFleet(), thread, until="WATCHDOG"))


def test_a_thread_that_is_slow_with_much_to_do_is_alive(
    ear: Ear, supervisor: Supervisor, thread: ThreadPoolExecutor, free: threading.Event
) -> None:
    """A busy file costs each work 10 s, and the question waits behind those of many instances."""

    class Busy(PlayedFleet):
        @property
        def turns(self) -> int:  # type: ignore[override]
            self.looks += 1
            return self.looks

        @turns.setter
        def turns(self, value: int) -> None:
            self.looks = value

    thread.submit(free.wait)
    told = asyncio.run(beats(ear, supervisor, Busy(), thread, count=2))
    assert [one.get("WATCHDOG") for one in told] == ["1", "1"]


def test_none_is_shown_while_a_send_loop_stands_still(ear: Ear, supervisor: Supervisor) -> None:
    fleet = PlayedFleet()
    fleet.silent = ["club"]
    told = asyncio.run(beats(ear, supervisor, fleet, InlineExecutor(), count=2))
    assert told == [{"STATUS": "the send loop of club stands still"}] * 2


def test_it_is_ready_once_the_lease_is_taken_and_the_server_listens(tmp_path: Path) -> None:
    order: list[str] = []

    class Server:
        def start(self) -> None:
            order.append("listens")

        def stop(self) -> None:
            order.append("stops")

    class Noting(Supervisor):
        def tell(self, **words: object) -> None:
            super().tell(**words)
            order.extend(words.keys() - {"STATUS"})
            if "READY" in words:
                with closing(sqlite3.connect(tmp_path / "wa.db")) as connection:
                    order.extend(role for (role,) in connection.execute("SELECT role FROM lease"))
                os.kill(os.getpid(), signal.SIGTERM)

    app = open_account(tmp_path)
    assert asyncio.run(asyncio.wait_for(run_daemon(app, beside=Server(), supervisor=Noting()), 60)) == (0, None)
    app.close()
    assert order == ["listens", "READY", "daemon", "STOPPING", "stops"]


def test_a_thread_notes_what_it_has_finished_for_one_of_those_who_share_it(
    thread: ThreadPoolExecutor, free: threading.Event
) -> None:
    one, other = HeardThread(thread, of="one"), HeardThread(thread, of="other")
    other.heard_at = 0.0
    one.submit(lambda: None).result()
    with pytest.raises(ZeroDivisionError):
        one.submit(lambda: 1 / 0).result()
    first = thread.submit(free.wait)
    waiting = one.submit(lambda: None)
    assert waiting.cancel()
    free.set()
    first.result()
    thread.submit(lambda: None).result()
    assert (one.turns, other.turns, other.heard_at) == (2, 0, 0.0)


def test_a_send_loop_is_heard_of_each_time_it_comes_to_the_store(tmp_path: Path, thread: ThreadPoolExecutor) -> None:
    """A real one with nothing to send: it renews its lease each second, and nothing else brings it there."""
    app = open_account(tmp_path, WA_LEASE_MS="3000")

    async def begin(_stack: AsyncExitStack) -> None: ...

    async def main() -> None:
        fleet = Fleet(
            app,
            names=None,
            executor=thread,
            alarm_of=lambda _instance: ring_later,
            on_first_lease=begin,
            on_progress=lambda _record: None,
        )
        running = asyncio.create_task(fleet.run())
        async with asyncio.timeout(60):
            while fleet.list_sending() != ["default"]:
                await asyncio.sleep(0.01)
            (heard,) = fleet._threads.values()
            heard.heard_at -= 1_000
            turns = fleet.turns
            assert fleet.list_silent(900) == ["default"]
            while fleet.list_silent(900):
                await asyncio.sleep(0.01)
            assert fleet.turns > turns
            fleet.stop()
            await running

    asyncio.run(main())
    app.close()
