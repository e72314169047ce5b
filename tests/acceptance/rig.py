"""What the acceptance tests share: the real `wa` process, the sandbox as a process of its own, and the audit of both.

Everything waits for events (a log line, a ledger line, an exit); a time-out here is a failure, never a pace.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
import weakref
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import wa_cli
from wa_cli.config import BY_NAME
from wa_cli.domain.message import State, parse_message_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import IO

# Long, since a loaded machine is not a defect; what must be quick is asserted where speed is the claim.
PATIENCE_SECONDS = 120.0
ROOT = Path(wa_cli.__file__).parents[1]
KILLED = -signal.SIGKILL
# Points inside the steps of a campaign, which `test_campaign_kill` visits.
CAMPAIGN_CUTS = (
    "plan_lines_after_commit",
    "plan_before_commit",
    "plan_after_commit",
    "apply_opened",
    "take_back_after_commit",
    "apply_before_commit",
    "apply_after_commit",
    "release_before_commit",
    "release_after_commit",
    "cancel_after_step",
    "cancel_after_commit",
    "occurrence_claimed",
    "canary_before_commit",
    "canary_after_commit",
)


def number(index: int) -> str:
    """A valid number that means nothing to the sandbox, another for each index below 9,000."""
    assert 0 <= index < 9_000
    return f"+658123{index:04d}"


def magic(ending: str) -> str:
    """A valid number whose last four digits make the sandbox misbehave."""
    return f"+658124{ending}"


def until(claim: Callable[[], Any], what: str, *, timeout: float = PATIENCE_SECONDS) -> Any:
    """The first true answer of `claim`, which is asked 50 times a second."""
    ends = time.monotonic() + timeout
    while not (answer := claim()):
        assert time.monotonic() < ends, f"not within {timeout:g} s: {what}"
        time.sleep(0.02)
    return answer


def keep_port(owner: object) -> str:
    """A port of 127.0.0.1 that a server may take, leave and take again while the owner lives: nobody else is given it.

    A port that is free for some seconds may go to any of the connections that other tests open meanwhile.
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))  # bound and never listening: whoever connects is refused until the server is there
    port = str(kept.getsockname()[1])
    weakref.finalize(owner, os.close, kept.detach())
    return port


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What one `wa` gave.  exit is negative for a signal, as subprocess has it."""

    exit: int
    out: str
    err: str

    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)

    def error(self) -> dict[str, Any]:
        """The error that `--json` writes as the last line of stderr."""
        error: dict[str, Any] = json.loads(self.err.splitlines()[-1])["error"]
        return error


class Running:
    """A process whose lines are read as they come."""

    def __init__(self, command: Sequence[str], *, env: dict[str, str], cwd: Path, **options: Any) -> None:
        self.process = subprocess.Popen(
            command,
            env=env,
            cwd=cwd,
            stdin=options.pop("stdin", subprocess.DEVNULL),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            **options,
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self._news = threading.Condition()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._threads = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, stream: IO[str], lines: list[str]) -> None:
        for line in stream:
            with self._news:
                lines.append(line)
                self._news.notify_all()
        stream.close()
        with self._news:
            self._news.notify_all()

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_for_line(self, words: str, *, timeout: float = PATIENCE_SECONDS) -> str:
        """The first line of either stream that holds these words."""

        def find() -> str | None:
            return next((line for line in (*self.err, *self.out) if words in line), None)

        with self._news:
            self._news.wait_for(lambda: find() or not any(t.is_alive() for t in self._threads), timeout)
            found = find()
        assert found is not None, f"no line with {words!r} in:\n{''.join(self.err)}{''.join(self.out)}"
        return found

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_until_heard(self, number: signal.Signals) -> None:
        """Until the process has taken a signal that was sent: it waits for none of that number any more."""

        def is_heard() -> bool:
            with open(f"/proc/{self.pid}/status") as status:
                waiting = [int(line.split()[1], 16) for line in status if line.startswith(("SigPnd", "ShdPnd"))]
            return not any(mask >> (number - 1) & 1 for mask in waiting)

        until(is_heard, f"{number.name} to be taken")

    def kill(self) -> None:
        """As a power cut would end it."""
        self.process.kill()
        self.wait()

    def wait(self, *, timeout: float = PATIENCE_SECONDS) -> Ran:
        """Wait for the end by itself."""
        code = self.process.wait(timeout)
        for thread in self._threads:
            thread.join(timeout)
        return Ran(exit=code, out="".join(self.out), err="".join(self.err))

    def end(self) -> None:
        """Whatever the test left: gone."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_SECONDS)
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without any setting of wa's, and with this checkout on the path."""
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in BY_NAME and not name.startswith(("WA_", "WHATSAPP_")) and not name.lower().endswith("_proxy")
    }
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), env.get("PYTHONPATH"))))
    return {**env, "WA_TIMEZONE": "UTC", **changes}


# A latency that no test waits for: `sandbox.answer()` lets the answers go when the test has seen what it waited for.
HELD = ("--latency-ms", "600000")


class Sandbox:
    """The local WhatsApp in a process of its own, and its ledger file."""

    def __init__(self, folder: Path, *flags: str, token: str = "sandbox-token") -> None:
        self.ledger = folder / "ledger.jsonl"
        self.token = token
        self._folder = folder
        # The platform's own limits are off unless a test is about them: wa's have tests of their own.
        self._flags = ("--pair-seconds", "0", "--throughput", "0", "--token", token, *flags)
        self._running: Running | None = None
        self._port = keep_port(self)
        self.url = ""
        self.messages_url = ""
        self.start()

    def start(self) -> None:
        """Listen, each time on the same port."""
        self._running = Running(
            [
                sys.executable, "-m", "wa_cli.sandbox", "--ledger", str(self.ledger), "--port", self._port, *self._flags
            ],
            # It speaks plain HTTP here: reading the system's certificates takes a fifth of its start.
            env=environment(SSL_CERT_FILE=os.devnull),
            cwd=self._folder,
        )  # fmt: skip
        address = json.loads(self._running.wait_for_line("messages_url"))
        self.url, self.messages_url = address["url"], address["messages_url"]

    def stop(self) -> None:
        if self._running is not None:
            self._running.end()
            self._running = None

    def entries(self) -> list[dict[str, Any]]:
        """Every post so far, oldest first, as the file has them."""
        if not self.ledger.exists():
            return []
        return [json.loads(line) for line in self.ledger.read_text().splitlines()]

    def accepted(self) -> list[dict[str, Any]]:
        return [entry for entry in self.entries() if entry["verdict"] == "accepted"]

    def posts_to(self, address: str) -> list[dict[str, Any]]:
        return [entry for entry in self.entries() if entry["to"] == address.removeprefix("+")]

    def wait_for(
        self, claim: Callable[[list[dict[str, Any]]], Any], what: str, *, timeout: float = PATIENCE_SECONDS
    ) -> list[dict[str, Any]]:
        """The ledger once the claim holds; the sandbox itself says when there is something new."""
        ends = time.monotonic() + timeout
        while True:
            entries = self.entries()
            if claim(entries):
                return entries
            left = ends - time.monotonic()
            assert left > 0, f"not in the ledger within {timeout:g} s: {what}; it has {len(entries)} posts"
            last = entries[-1]["seq"] if entries else 0
            self._call("GET", f"ledger?after={last}&limit=1&wait={min(left, 10.0):.2f}")

    def wait_for_posts(self, count: int, *, timeout: float = PATIENCE_SECONDS) -> list[dict[str, Any]]:
        """The ledger once it has so many posts.  The sandbox is asked for the last of them, and the file read once."""
        ends = time.monotonic() + timeout
        while (left := ends - time.monotonic()) > 0:
            if self._call("GET", f"ledger?after={count - 1}&limit=1&wait={min(left, 10.0):.2f}")["last_seq"] >= count:
                break
        entries = self.entries()
        assert len(entries) >= count, f"not in the ledger within {timeout:g} s: {count} posts; it has {len(entries)}"
        return entries

    def set(self, **settings: Any) -> None:
        self._call("POST", "settings", settings)

    def answer(self) -> None:
        """Let go of every answer that is HELD, and answer at once from now on."""
        self.set(latency_ms=0)

    def fault(self, spelling: str, *, times: int = 1, to: str | None = None) -> None:
        self._call("POST", "faults", {"fault": spelling, "times": times, "recipient": to})

    def steer(self, path: str, **order: Any) -> None:
        """A call about the linked devices, such as `steer("devices/shop", do="scan")`."""
        self._call("POST", path, order)

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"{self.url}/sandbox/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=PATIENCE_SECONDS) as answer:
            return json.loads(answer.read())


class Household:
    """One database, one sandbox, and every `wa` that runs on them.

    acknowledged: ids of the messages that an enqueue answered for with `queued`.
    """

    def __init__(self, folder: Path, sandbox: Sandbox, *, db: Path | None = None, **settings: str) -> None:
        self.folder = folder
        self.db = db or folder / "wa.db"
        self.sandbox = sandbox
        self.acknowledged: set[str] = set()
        self.settings = {
            "WA_DB": str(self.db),
            "WHATSAPP_API_URL": sandbox.messages_url,
            "WHATSAPP_ACCESS_TOKEN": sandbox.token,
            **settings,
        }
        self._started: list[Running] = []

    def start(
        self, *words: object, env: dict[str, str] | None = None, under: Sequence[str] = (), **options: Any
    ) -> Running:
        """A `wa` that runs beside the test; it is ended with the test at the latest.  under: a tool that runs it."""
        running = Running(
            [*under, sys.executable, "-m", "wa_cli", *map(str, words)],
            env=environment(**{**self.settings, **(env or {})}),
            cwd=self.folder,
            **options,
        )
        self._started.append(running)
        return running

    def wa(
        self, *words: object, env: dict[str, str] | None = None, timeout: float = PATIENCE_SECONDS, **options: Any
    ) -> Ran:
        """One `wa`, to its end."""
        return self.start(*words, env=env, **options).wait(timeout=timeout)

    def daemon(self, *words: object, env: dict[str, str] | None = None, **options: Any) -> Running:
        """`wa run`, once it holds the lease."""
        running = self.start("run", *words, env=env, **options)
        running.wait_for_line("sending for")
        return running

    def rows(self, texts: Sequence[str], *, first: int = 0) -> Path:
        """A file for `wa send batch`: one text for each number from `first` on."""
        path = self.folder / f"rows-{first}-{len(texts)}.csv"
        lines = [f"{number(first + index)},{text}" for index, text in enumerate(texts)]
        path.write_text("recipient,message\n" + "\n".join(lines) + "\n")
        return path

    def queue(self, count: int, *flags: object, first: int = 0, words: str = "hello") -> list[str]:
        """Queue one message for each of some numbers; their ids, in order."""
        texts = [f"{words} {first + index}" for index in range(count)]
        delay = () if "--delay" in flags else ("--delay", "0")
        ran = self.wa("send", "batch", self.rows(texts, first=first), *delay, "--json", *flags)
        assert ran.exit == 0, ran.err
        return self.acknowledge(ran)

    def send(self, address: str, text: str, *flags: object) -> str:
        """Queue one message; its id."""
        ran = self.wa("send", "to", address, "--text", text, "--json", *flags)
        assert ran.exit == 0, ran.err
        (message_id,) = self.acknowledge(ran)
        return message_id

    def acknowledge(self, ran: Ran) -> list[str]:
        """Hold wa to what an enqueue has answered."""
        ids = [message["id"] for message in ran.json()["messages"] if message["outcome"] == "queued"]
        self.acknowledged.update(ids)
        return ids

    def read(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Look into the database as it stands."""
        with closing(sqlite3.connect(self.db, timeout=30.0)) as connection:
            connection.execute("PRAGMA query_only = ON")
            return connection.execute(statement, values).fetchall()

    def state(self, message_id: str) -> str:
        ((state,),) = self.read("SELECT state FROM message WHERE id = ?", parse_message_id(message_id))
        return str(state)

    def states(self) -> Counter[str]:
        return Counter(dict(self.read("SELECT state, count(*) FROM message GROUP BY state")))

    def wait_for_states(self, timeout: float = PATIENCE_SECONDS, **expected: int) -> None:
        """Until the messages stand exactly so."""
        wanted = Counter(expected)
        try:
            until(lambda: self.states() == wanted, f"{expected}", timeout=timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; they are {dict(self.states())}") from None

    def wait_until_landed(self) -> None:
        """Until no message is on its way."""
        until(lambda: not self.states()["sending"], "everything on its way to land")

    def audit(self) -> Audit:
        return audit(self.db, self.sandbox.entries(), acknowledged=self.acknowledged)

    def end(self) -> None:
        for running in self._started:
            running.end()
        self.sandbox.stop()


@dataclass(slots=True, kw_only=True)
class Audit:
    """The database held against the ledger.  Each list names what is wrong; unknown names messages whose fate is open.

    open: messages that are queued or sending.  posts: how often anything was posted.
    """

    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    lies: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    posts: int = 0

    def assert_sound(self, *, unknown: int | None = 0, open: int | None = 0) -> None:
        """Promises P1, P2, P3, P10, P13, and P4 where the number of unknowns is given.  None: any number."""
        assert (self.lost, self.duplicated, self.lies, self.findings) == ([], [], [], [])
        assert unknown is None or len(self.unknown) == unknown, f"unknown: {self.unknown}"
        assert open is None or len(self.open) == open, f"open: {self.open}, {dict(self.states)}"


def audit(db: Path, entries: Iterable[dict[str, Any]], *, acknowledged: Iterable[str]) -> Audit:
    """Hold a database against a ledger.  acknowledged: ids that an enqueue has answered for."""
    found = Audit()
    with closing(sqlite3.connect(db, timeout=30.0)) as connection:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("BEGIN")
        messages = {
            row[0]: row[1:]
            for row in connection.execute(
                """SELECT message.id, message.state, message.provider_message_id, contact.address, message.reason
                FROM message JOIN contact ON contact.id = message.contact_id"""
            )
        }
        attempts = {
            row[0]: row[1:] for row in connection.execute("SELECT id, message_id, outcome, error_code FROM attempt")
        }
        ((install,),) = connection.execute("SELECT value FROM meta WHERE key = 'install'")
        found.findings += _check_file(connection)
        found.findings += _check_attempts(messages, attempts)
    found.states = Counter(row[0] for row in messages.values())
    accepted: dict[int, list[str]] = {}
    said: Counter[tuple[str, str]] = Counter()
    posted: Counter[str] = Counter()
    for entry in entries:
        found.posts += 1
        posted[entry["tag"]] += 1
        prefix, _dot, attempt = str(entry["tag"]).rpartition(".")
        if prefix != f"wa1.{install}" or int(attempt) not in attempts:
            found.findings.append(f"posted without a start on the disk: {entry}")
            continue
        message_id = attempts[int(attempt)][0]
        if messages[message_id][2] != f"+{entry['to']}":
            found.findings.append(f"m{message_id} went to {entry['to']}")
        if entry["verdict"] == "accepted":
            accepted.setdefault(message_id, []).append(entry["wamid"])
            said[entry["to"], entry["content"]] += 1
    found.duplicated += [f"{tag} was posted {count} times" for tag, count in posted.items() if count > 1]
    found.duplicated += [f"m{key} was accepted {len(ids)} times" for key, ids in accepted.items() if len(ids) > 1]
    found.duplicated += [f"{words} was accepted {count} times" for words, count in said.items() if count > 1]
    found.lost += [name for name in acknowledged if parse_message_id(name) not in messages]
    for key, (state, provider_message_id, _address, reason) in messages.items():
        wamids = accepted.get(key, [])
        match State(state):
            case State.SENT:
                # A person may settle an unknown; the id of the message stays unknown even then.
                if provider_message_id not in wamids and not (reason == "marked_sent" and wamids):
                    found.lies.append(f"m{key} is sent as {provider_message_id}, accepted were {wamids}")
            case State.UNKNOWN:
                found.unknown.append(f"m{key}")
            case State.QUEUED | State.SENDING:
                found.open.append(f"m{key}")
                if wamids and state == State.QUEUED:
                    found.lies.append(f"m{key} is queued, and was accepted")
            case State.FAILED | State.EXPIRED | State.CANCELLED | State.SKIPPED:
                if wamids and reason != "unknown_skipped":
                    found.lies.append(f"m{key} is {state}, and was accepted")
    return found


def _check_file(connection: sqlite3.Connection) -> list[str]:
    findings = [line for (line,) in connection.execute("PRAGMA integrity_check") if line != "ok"]
    findings += [f"foreign key: {row}" for row in connection.execute("PRAGMA foreign_key_check")]
    counted = Counter(dict(connection.execute("SELECT state, count(*) FROM message GROUP BY state").fetchall()))
    tally = Counter(dict(connection.execute("SELECT state, sum(n) FROM tally GROUP BY state").fetchall()))
    if +tally != counted:
        findings.append(f"the tally says {dict(tally)}, the rows say {dict(counted)}")
    return findings


def _check_attempts(messages: dict[int, Any], attempts: dict[int, Any]) -> list[str]:
    """One open attempt for each message on its way, none for any other; an unknown has an attempt that explains it."""
    begun = Counter(message_id for message_id, outcome, _code in attempts.values() if outcome is None)
    doubtful = {message_id for message_id, outcome, _code in attempts.values() if outcome == "ambiguous"}
    findings = [f"m{key} does not exist" for key in begun if key not in messages]
    for key, (state, *_rest) in messages.items():
        if begun[key] != (state == State.SENDING):
            findings.append(f"m{key} is {state} with {begun[key]} open attempts")
        if state == State.UNKNOWN and key not in doubtful:
            findings.append(f"m{key} is unknown without an attempt that could be")
    return findings
