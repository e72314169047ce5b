"""`wa demo --gateway`: a phone is linked, groups are written to, the connection is lost half-way and comes back.

Each step is the real command, run on a database of its own that is removed at the end.
"""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from wa_cli.bootstrap import App
    from wa_cli.cli.session import Session
    from wa_cli.sandbox import Sandbox

NUMBER: Final = "6581239999"
SETTINGS: Final = """WA_TIMEZONE={zone}
WAHA_KEY={key}
"""
# What the phone is in: six groups of a choir, and two that have nothing to do with it.
GROUPS: Final = (
    "Choir",
    "Choir parents",
    "Choir tenors",
    "Choir altos",
    "Choir basses",
    "Choir tour",
    "Board",
    "Bakers",
)
WANTED: Final = sum(name.startswith("Choir") for name in GROUPS)
DEVICE: Final = "default"
SCANNED_AFTER_SECONDS: Final = 2.0
LOST_AFTER_POSTS: Final = 3
LOST_FOR_SECONDS: Final = 3.0
LONGEST_WAIT_SECONDS: Final = 60.0


def play(session: Session) -> None:
    """The whole show.  Leaves with 1 when the ledger does not add up, which would be a bug."""
    from wa_cli.sandbox import Sandbox, SandboxSettings, serve_in_thread

    settings = SandboxSettings(gateway_key="demo-key")
    with tempfile.TemporaryDirectory(prefix="wa-demo-") as folder, serve_in_thread(settings) as sandbox:
        assert isinstance(sandbox, Sandbox)
        ledger = _Show(session, Path(folder), sandbox).play()
    if session.json:
        session.show_json(ledger)
    if not ledger["adds_up"]:
        raise typer.Exit(1)


class _Show:
    """The steps, on one database and one sandbox."""

    def __init__(self, session: Session, folder: Path, sandbox: Sandbox) -> None:
        self._session = session
        self._folder = folder
        self._sandbox = sandbox
        self._env_file = folder / "demo.env"
        self._env_file.write_text(SETTINGS.format(zone=session.settings.zone().key, key="demo-key"), encoding="utf-8")

    def play(self) -> dict[str, Any]:
        """Every step in turn, each the command a person would type.  Returns the ledger."""
        say = self._tell
        say("A local WAHA is running on this machine, a gateway like the one you would host yourself.")
        say("No phone is linked to it yet. An instance stores where it is, and the name of its key's variable:")
        self._run(
            *("instance", "add", "club", "--transport", "waha", "--url", self._sandbox.url, "--key-from", "WAHA_KEY"),
            *("--limit", "per_minute=0", "--limit", "gap_ms=700"),
        )
        say("Pairing shows a QR code, as WhatsApp Web does. Here, somebody scans it after two seconds:")
        with _Meanwhile(self._scan):
            self._run("instance", "pair", "club")
        self._order("", {"name": DEVICE, "groups": [_group(number, name) for number, name in enumerate(GROUPS, 1)]})
        say("The phone is in some groups. Those whose names begin with Choir become a subgroup:")
        self._run("instance", "groups", "club")
        self._run("subgroup", "import", "choir", "--create", "--from-instance", "club", "--match", "Choir*")
        say(f"After {LOST_AFTER_POSTS} messages the phone loses its connection, for {LOST_FOR_SECONDS:.0f} seconds.")
        say("Nothing is sent meanwhile, and nothing is lost:")
        with _Meanwhile(self._lose):
            self._run(
                *("send", "subgroup", "choir", "Rehearsal moves to seven", "--delay", "1000", "--instance", "club"),
                *("--wait", "--verbose"),
            )
        self._run("instance", "status", "club")
        return self._add_up()

    def _scan(self, is_over: threading.Event) -> None:
        """Somebody takes the phone and scans the code, once it is there."""
        ends = time.monotonic() + LONGEST_WAIT_SECONDS
        while time.monotonic() < ends and not is_over.wait(0.1):
            if any(one["state"] == "needs_qr" for one in self._ask("devices")["devices"]):
                is_over.wait(SCANNED_AFTER_SECONDS)
                self._order(DEVICE, {"do": "scan"})
                return

    def _lose(self, is_over: threading.Event) -> None:
        ends = time.monotonic() + LONGEST_WAIT_SECONDS
        while time.monotonic() < ends and not is_over.wait(0.05):
            if any(one["sent"] >= LOST_AFTER_POSTS for one in self._ask("devices")["devices"]):
                self._order(DEVICE, {"do": "lose", "seconds": LOST_FOR_SECONDS})
                return

    def _add_up(self) -> dict[str, Any]:
        """Compare our ledger with the far end's: every group in one bucket, none written to twice."""
        app = self._open_app()
        try:
            stats = app.messages.read_stats()
            instance = app.instances.find("club")
            states = [event.word for event in app.instances.read_events(instance.id, since_ms=0, kind="state")]
        finally:
            app.close()
        taken = [entry.to for entry in self._sandbox.ledger if entry.is_accepted]
        ledger = {
            "audience": WANTED,
            "stats": stats,
            "accepted_by_sandbox": len(taken),
            "accepted_twice": len(taken) - len(set(taken)),
            "states": states,
        }
        came_back = len(states) >= 3 and states[-1] == "ready" and "ready" in states[:-2]
        arrived = stats["sent"] + stats["delivered"] + stats["read"]
        ledger["adds_up"] = (
            came_back and sum(stats.values()) == WANTED == arrived == len(set(taken)) and not ledger["accepted_twice"]
        )
        if not self._session.json:
            self._tell("The ledger:")
            buckets = " + ".join(f"{count} {state}" for state, count in stats.items() if count)
            self._session.show(f"  audience {WANTED} = {buckets}")
            self._session.show(f"  the gateway took {len(taken)} messages, {ledger['accepted_twice']} of them twice")
            self._session.show(f"  the phone was {', then '.join(state.replace('_', ' ') for state in states)}")
            self._session.show("  it adds up" if ledger["adds_up"] else "  IT DOES NOT ADD UP: this is a bug in wa")
        return ledger

    def _open_app(self) -> App:
        from wa_cli.bootstrap import open_app
        from wa_cli.config import load_settings

        flags = {"WA_DB": str(self._folder / "demo.db")}
        return open_app(load_settings({}, env_file=self._env_file, flags=flags), create=False)

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One call of the sandbox's own."""
        request = urllib.request.Request(  # noqa: S310  # our own address
            f"{self._sandbox.url}/sandbox/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as answer:
            shape: dict[str, Any] = json.loads(answer.read())
        return shape

    def _order(self, device: str, order: dict[str, Any]) -> None:
        self._ask(f"devices/{device}" if device else "devices", order)

    def _tell(self, line: str) -> None:
        if not self._session.json:
            self._session.show(("" if line.startswith(" ") else "\n") + line)

    def _run(self, *words: str) -> None:
        from wa_cli.cli.main import run

        self._tell(f"$ wa {shlex.join(words)}")
        sys.stdout.flush()
        arguments = ["--db", str(self._folder / "demo.db"), "--env-file", str(self._env_file), "--no-input", *words]
        if self._session.json:
            with redirect_stdout(sys.stderr):
                run(arguments)
        else:
            run(arguments)
        sys.stdout.flush()
        sys.stderr.flush()


class _Meanwhile:
    """What happens at the far end while a command runs."""

    def __init__(self, work: Callable[[threading.Event], None]) -> None:
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=work, args=(self._is_over,), name="wa-demo", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_error: object) -> None:
        self._is_over.set()
        self._thread.join(10)


def _group(number: int, name: str) -> dict[str, Any]:
    members = [f"65812300{number:02}", f"65812300{number + 1:02}", NUMBER]
    return {"id": f"12036304000000{number:04}@g.us", "name": name, "participants": members}
