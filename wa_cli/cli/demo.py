"""`wa demo`: the main job on the built-in sandbox, with everything that can go wrong on the way.

Each step is the real command, run on a database of its own that is removed at the end.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
import time
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from wa_cli.cli.session import Session, session_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from socket import socket

    from wa_cli.bootstrap import App
    from wa_cli.sandbox import Sandbox

# Ten rows: eight people, one of them again in another spelling, and one number that cannot be.
PEOPLE: Final = """name,phone
Ada,+6581230001
Ben,+65 8123 0002
Chen,+6581230003
Devi,+6581230004
Eva,+6581230005
Farid,+6581230006
Grace,+6581230007
Hugo,+6581230008
Ben again,0065-8123-0002
Ivo,12345
"""
AUDIENCE: Final = 8

# What the sandbox does to whom, so that every kind of trouble is met once.
FAULTS: Final = (
    ("6581230003", "500_131000", 1, "Chen's first post fails with a passing error: it is tried again"),
    ("6581230004", "pair", 1, "Devi's first post meets the pair limit: only she waits"),
    ("6581230005", "reset", 1, "Eva's post is accepted, then the connection breaks: nobody can know"),
    ("6581230006", "500_131000", 2, "Farid's posts fail twice: out of attempts, then resent"),
)

SETTINGS: Final = """WHATSAPP_API_URL={url}
WHATSAPP_ACCESS_TOKEN={token}
WA_RETRY=exponential
RETRY_BASE_BACKOFF_MS=1000
RATE_LIMIT_MS=1000
WA_TIMEZONE={zone}
WHATSAPP_APP_SECRET={app_secret}
WHATSAPP_VERIFY_TOKEN={verify_token}
"""

WEBHOOK_PATH: Final = "/api/webhooks/whatsapp/status"
LADDER_SPEED: Final = 20.0  # people read within three seconds instead of a minute
QUIET_SECONDS: Final = 15.0


def demo(
    context: typer.Context,
    gateway: Annotated[bool, typer.Option("--gateway", help="Show a linked phone and its groups instead.")] = False,
) -> None:
    """Show the main job on a local WhatsApp: no account, no network."""
    session = session_of(context)
    if gateway:
        from wa_cli.cli.demo_gateway import play

        play(session)
        return
    from wa_cli.sandbox import Sandbox, SandboxSettings, parse_fault, serve_in_thread
    from wa_cli.web.listening import open_socket

    # The door for webhooks is there from the start, and opens half-way: until then WhatsApp waits in front of it.
    door = open_socket("127.0.0.1", 0)
    settings = SandboxSettings(
        webhook_url=f"http://127.0.0.1:{door.getsockname()[1]}{WEBHOOK_PATH}", ladder_speed=LADDER_SPEED
    )
    with tempfile.TemporaryDirectory(prefix="wa-demo-") as folder, serve_in_thread(settings) as sandbox, door:
        assert isinstance(sandbox, Sandbox)
        for recipient, fault, times, _meaning in FAULTS:
            sandbox.inject(parse_fault(fault), times=times, recipient=recipient)
        show = _Show(session, Path(folder), sandbox, door)
        ledger = show.play()
    if session.json:
        session.show_json(ledger)
    if not ledger["adds_up"]:
        raise typer.Exit(1)


class _Show:
    """The steps of the demo, on one database and one sandbox."""

    def __init__(self, session: Session, folder: Path, sandbox: Sandbox, door: socket) -> None:
        self._session = session
        self._folder = folder
        self._sandbox = sandbox
        self._door = door
        self._env_file = folder / "demo.env"
        zone = session.settings.zone().key
        self._env_file.write_text(
            SETTINGS.format(
                url=sandbox.messages_url,
                token=sandbox.settings.token,
                zone=zone,
                app_secret=sandbox.settings.app_secret,
                verify_token=sandbox.settings.verify_token,
            ),
            encoding="utf-8",
        )
        self._people = folder / "people.csv"
        self._people.write_text(PEOPLE, encoding="utf-8")

    def play(self) -> dict[str, Any]:
        """Every step in turn, each the command a person would type.  Returns the ledger."""
        say = self._tell
        say("A local WhatsApp is running on this machine. It will misbehave on purpose:")
        for _recipient, _fault, _times, meaning in FAULTS:
            say(f"  - {meaning}")
        self._run("subgroup", "create", "vip")
        self._run("subgroup", "import", "vip", str(self._people))
        self._run(
            *("send", "subgroup", "vip", "Doors open at six", "--delay", "500", "--max-attempts", "2"),
            *("--wait", "--verbose"),
        )
        self._run("status")
        say("Eva's message is unknown: it is held, not sent again. Perhaps she has it, perhaps not:")
        self._run("reconcile")
        say("WhatsApp reports by webhook what became of each message. `wa serve` lets it in; what has come waits:")
        with self._serve():
            self._wait_for_receipts()
            say("The receipt of Eva's message carries the tag of its post, so nobody has to decide:")
            self._run("message", "explain", "m5")
            say("Farid's message has failed. Its cause has passed, so it goes out again, and its history stays:")
            self._run("failed", "list")
            self._run("resend", "0", "--delay", "500")
            self._run("drain", "--verbose")
            self._wait_for_receipts()
            self._run("status")
            return self.add_up()

    @contextmanager
    def _serve(self) -> Iterator[None]:
        """What `wa serve` does, in this process."""
        from wa_cli.web.server import WebServer

        app = self._open_app()
        server = WebServer(app, self._door)
        self._tell(f"$ wa serve --port {self._door.getsockname()[1]}")
        server.start()
        self._session.say(f"serving on {server.url}")
        try:
            yield
        finally:
            server.stop()
            server.join()
            app.close()

    def _wait_for_receipts(self) -> None:
        """Until WhatsApp has told everything, and all of it has been read."""
        import urllib.request

        address = f"{self._sandbox.url}/sandbox/deliveries?limit=1&wait={QUIET_SECONDS}&until=quiet&after=1000000"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(address, timeout=QUIET_SECONDS + 10) as answer:
            answer.read()
        app = self._open_app()
        try:
            give_up_at = time.monotonic() + QUIET_SECONDS
            while app.webhooks.count_waiting() and time.monotonic() < give_up_at:
                time.sleep(0.02)
        finally:
            app.close()

    def _open_app(self) -> App:
        from wa_cli.bootstrap import open_app
        from wa_cli.config import load_settings

        return open_app(load_settings({}, env_file=self._env_file, flags={"WA_DB": str(self._database)}), create=False)

    def add_up(self) -> dict[str, Any]:
        """Compare our ledger with the far end's: everybody in one bucket, nobody written to twice."""
        app = self._open_app()
        try:
            stats = app.messages.read_stats()
        finally:
            app.close()
        accepted = [entry.to for entry in self._sandbox.ledger if entry.is_accepted]
        ledger = {
            "audience": AUDIENCE,
            "stats": stats,
            "accepted_by_sandbox": len(accepted),
            "accepted_twice": len(accepted) - len(set(accepted)),
            "posts": len(self._sandbox.ledger),
        }
        arrived = stats["sent"] + stats["delivered"] + stats["read"]
        ledger["adds_up"] = (
            sum(stats.values()) == AUDIENCE == arrived == len(set(accepted))
            and stats["delivered"] + stats["read"] > 0
            and ledger["accepted_twice"] == 0
        )
        if not self._session.json:
            self._tell("The ledger:")
            buckets = " + ".join(f"{count} {state}" for state, count in stats.items() if count)
            self._session.show(f"  audience {AUDIENCE} = {buckets}")
            self._session.show(
                f"  the far end took {len(accepted)} messages in {ledger['posts']} posts,"
                f" {ledger['accepted_twice']} of them twice"
            )
            self._session.show("  it adds up" if ledger["adds_up"] else "  IT DOES NOT ADD UP: this is a bug in wa")
        return ledger

    @property
    def _database(self) -> Path:
        return self._folder / "demo.db"

    def _tell(self, line: str) -> None:
        if not self._session.json:
            self._session.show(("" if line.startswith(" ") else "\n") + line)

    def _run(self, *words: str) -> None:
        from wa_cli.cli.main import run

        shown = " ".join(shlex.quote(Path(word).name if word == str(self._people) else word) for word in words)
        self._tell(f"$ wa {shown}")
        sys.stdout.flush()
        arguments = ["--db", str(self._database), "--env-file", str(self._env_file), "--no-input", *words]
        if self._session.json:
            with redirect_stdout(sys.stderr):
                run(arguments)
        else:
            run(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
