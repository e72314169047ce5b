"""`wa run` under a supervisor: what it tells the socket that systemd would have given it, and when it is silent."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rig import HELD, PATIENCE_SECONDS, Household, Running, until
from test_signals import is_stopped

from tests.unit_files import read_command, read_unit, split_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A process of wa's whose writer thread comes back from nothing any more once a file is there.
STUCK = """
import os, sys, threading
from wa_cli.cli.main import run
from wa_cli.store.sqlite.database import Database

begin = Database._begin

def begin_or_hang(self):
    if os.path.exists(sys.argv[1]) and threading.current_thread().name.startswith("wa-store"):
        print("hangs now", flush=True)
        threading.Event().wait()
    begin(self)

Database._begin = begin_or_hang
run(["run"])
"""


class Systemd:
    """The end of the socket at which systemd would sit."""

    def __init__(self, address: str) -> None:
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._listening.bind("\0" + address[1:] if address.startswith("@") else address)
        self.address = address
        self.heard: list[dict[str, str]] = []

    def environment(self, *, watchdog_seconds: float | None = None, pid: int | None = None) -> dict[str, str]:
        found = {"NOTIFY_SOCKET": self.address}
        if watchdog_seconds is not None:
            found["WATCHDOG_USEC"] = str(round(watchdog_seconds * 1e6))
        if pid is not None:
            found["WATCHDOG_PID"] = str(pid)
        return found

    def hear(self, seconds: float = PATIENCE_SECONDS) -> dict[str, str] | None:
        """What is told next, or None when nothing is for so long."""
        self._listening.settimeout(seconds)
        try:
            told = self._listening.recv(4096).decode()
        except (TimeoutError, BlockingIOError):
            return None
        self.heard.append(dict(line.split("=", 1) for line in told.split("\n")))
        return self.heard[-1]

    def wait_for(self, word: str, value: str | None = None) -> dict[str, str]:
        """What is told until this is, the last of it."""
        while (told := self.hear()) is not None:
            if word in told and value in (None, told[word]):
                return told
        raise AssertionError(f"{word} was never told, but {self.heard}")

    def forget(self) -> None:
        """What was told so far counts no more."""
        while self.hear(0) is not None:
            pass

    def close(self) -> None:
        self._listening.close()


@pytest.fixture
def systemd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systemd]:
    # A name of Linux's own, which needs no folder.
    made = Systemd(f"@wa-{os.getpid()}-{tmp_path_factory.mktemp('s').name}")
    yield made
    made.close()


def test_it_says_when_it_is_ready_alive_and_stopping(home: Household) -> None:
    """Through a socket that is a file, as those of systemd are."""
    with tempfile.TemporaryDirectory() as folder:  # a short one: the path of a socket has 107 signs at most
        systemd = Systemd(f"{folder}/notify")
        running = home.start("run", env=systemd.environment(watchdog_seconds=0.4))
        assert systemd.wait_for("READY")["READY"] == "1"
        ((owner,),) = home.read("SELECT owner FROM lease")
        assert owner is not None
        for _beat in range(3):
            systemd.wait_for("WATCHDOG", "1")
        systemd.wait_for("STATUS", "sending for default")
        assert not any("STOPPING" in told for told in systemd.heard)
        running.signal(signal.SIGTERM)
        systemd.wait_for("STOPPING", "1")
        assert running.wait().exit == 0
        systemd.close()


def test_with_serve_it_is_ready_once_the_server_takes_requests(home: Household, systemd: Systemd) -> None:
    running = home.start("run", "--serve", "--port", "0", "--json", env=systemd.environment())
    systemd.wait_for("READY")
    port = int(running.wait_for_line('"port"').partition('"port": ')[2].partition(",")[0])
    socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS).close()
    running.signal(signal.SIGTERM)
    systemd.wait_for("STOPPING")
    assert running.wait().exit == 0


def test_it_is_not_ready_while_somebody_else_sends_and_asks_for_more_time(
    make_home: Callable[..., Household], systemd: Systemd
) -> None:
    home = make_home(*HELD)
    home.queue(1)
    drain = home.start("drain")
    home.sandbox.wait_for_posts(1)
    running = home.start("run", env=systemd.environment(watchdog_seconds=0.4))
    assert int(systemd.wait_for("EXTEND_TIMEOUT_USEC")["EXTEND_TIMEOUT_USEC"]) == 800_000
    assert not any("READY" in told for told in systemd.heard)
    home.sandbox.answer()
    assert drain.wait().exit == 0
    systemd.wait_for("READY")
    running.signal(signal.SIGTERM)
    assert running.wait().exit == 0


def test_without_an_account_it_never_was_ready(home: Household, systemd: Systemd) -> None:
    ran = home.start("run", env={**systemd.environment(), "WHATSAPP_ACCESS_TOKEN": ""}).wait()
    assert ran.exit == 2  # among those after which a start anew makes no sense
    assert systemd.hear(0) is None


def test_a_second_daemon_says_who_sends(home: Household, systemd: Systemd) -> None:
    first = home.daemon()
    assert home.start("run", env=systemd.environment()).wait().exit == 0
    assert f"pid {first.pid}" in systemd.wait_for("STATUS")["STATUS"]
    assert "STOPPING" in systemd.heard[0]  # it ends by itself, and never was ready
    assert not any("READY" in told for told in systemd.heard)


def test_frozen_it_gives_no_sign_of_life(home: Household, systemd: Systemd) -> None:
    running = home.start("run", env=systemd.environment(watchdog_seconds=0.4))
    systemd.wait_for("READY")
    systemd.wait_for("WATCHDOG")
    running.signal(signal.SIGSTOP)
    until(lambda: is_stopped(running), "the freeze")
    systemd.forget()
    assert systemd.hear(1.2) is None  # thrice the time after which systemd would have ended it
    running.signal(signal.SIGCONT)
    systemd.wait_for("WATCHDOG")


def test_with_a_store_that_hangs_it_gives_no_sign_of_life_and_says_why(home: Household, systemd: Systemd) -> None:
    """Fault 10: the event loop turns as ever, the writer thread does not."""
    home.settings |= {"WA_LEASE_MS": "3000", **systemd.environment(watchdog_seconds=0.4)}
    hangs = home.folder / "hangs"
    running = start_python(home, STUCK, str(hangs))
    systemd.wait_for("READY")
    systemd.wait_for("WATCHDOG")
    hangs.touch()
    running.wait_for_line("hangs now")
    systemd.forget()
    systemd.wait_for("STATUS", "the store has not come back for 0.2 s")
    for _beat in range(5):
        told = systemd.hear()
        assert told == {"STATUS": "the store has not come back for 0.2 s"}
    running.wait_for_line("the store has not come back for 0.2 s: the watchdog is told nothing")


def start_python(home: Household, code: str, *words: str) -> Running:
    from rig import environment

    running = Running([sys.executable, "-c", code, *words], env=environment(**home.settings), cwd=home.folder)
    home._started.append(running)
    return running


def test_a_watchdog_that_waits_for_another_process_is_told_nothing(home: Household, systemd: Systemd) -> None:
    running = home.start("run", env=systemd.environment(watchdog_seconds=0.1, pid=1))
    systemd.wait_for("READY")
    home.queue(1)
    home.wait_for_states(sent=1)
    running.signal(signal.SIGTERM)
    systemd.wait_for("STOPPING")
    assert running.wait().exit == 0
    assert not any("WATCHDOG" in told for told in systemd.heard)


def test_what_it_sends_under_a_supervisor_is_what_it_sends_without(home: Household) -> None:
    """A socket that nobody reads from stops no message."""
    home.queue(2)
    running = home.start("run", env={"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "100000"})
    home.wait_for_states(sent=2)
    running.signal(signal.SIGTERM)
    assert running.wait().exit == 0
    home.audit().assert_sound()


def test_the_unit_that_is_printed_gets_a_daemon_going_in_an_environment_that_holds_nothing_else(
    home: Household, systemd: Systemd
) -> None:
    """As systemd would start it, by the words of the unit alone."""
    account = {name: home.settings.pop(name) for name in ("WHATSAPP_API_URL", "WHATSAPP_ACCESS_TOKEN")}
    (home.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in account.items()))
    home.queue(1)
    printed = home.wa("service", "install")
    assert printed.exit == 0, printed.err
    service = read_unit(printed.out)["Service"]
    settings = [word for line in service.get("Environment", []) for word in split_words(line, knows_escapes=True)]
    running = Running(
        read_command(service["ExecStart"][0]),
        env={"HOME": "/", "PATH": "/usr/bin:/bin", **dict(one.split("=", 1) for one in settings)}
        | systemd.environment(watchdog_seconds=0.4),
        cwd=Path(service["WorkingDirectory"][0]),
    )
    try:
        systemd.wait_for("READY")
        systemd.wait_for("WATCHDOG")
        home.wait_for_states(sent=1)
        running.signal(signal.SIGTERM)
        assert running.wait().exit == 0
    finally:
        running.end()
