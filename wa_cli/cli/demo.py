"""`wa demo`: the main job on the built-in sandbox, with everything that can go wrong on the way.

Each step is the real command, run on a database of its own that is removed at the end.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from wa_cli.cli.session import Session, session_of

if TYPE_CHECKING:
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
"""


def demo(context: typer.Context) -> None:
    """Show the main job on a local WhatsApp: no account, no network."""
    session = session_of(context)
    from wa_cli.sandbox import Sandbox, SandboxSettings, parse_fault, serve_in_thread

    settings = SandboxSettings(phone_number_id="106540352242922")
    with tempfile.TemporaryDirectory(prefix="wa-demo-") as folder, serve_in_thread(settings) as sandbox:
        assert isinstance(sandbox, Sandbox)
        for recipient, fault, times, _meaning in FAULTS:
            sandbox.inject(parse_fault(fault), times=times, recipient=recipient)
        show = _Show(session, Path(folder), sandbox)
        show.play()
        ledger = show.add_up()
    if session.json:
        session.show_json(ledger)
    if not ledger["adds_up"]:
        raise typer.Exit(1)


class _Show:
    """The steps of the demo, on one database and one sandbox."""

    def __init__(self, session: Session, folder: Path, sandbox: Sandbox) -> None:
        self._session = session
        self._folder = folder
        self._sandbox = sandbox
        self._env_file = folder / "demo.env"
        zone = session.settings.zone().key
        self._env_file.write_text(
            SETTINGS.format(url=sandbox.messages_url, token=sandbox.settings.token, zone=zone), encoding="utf-8"
        )
        self._people = folder / "people.csv"
        self._people.write_text(PEOPLE, encoding="utf-8")

    def play(self) -> None:
        """Every step in turn, each the command a person would type."""
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
        say("Eva's message is unknown: it is held, not sent again. The far end's own book has it, so a person says so:")
        self._run("reconcile")
        self._run("reconcile", "--mark", "sent", "m5", "--note", "the other side's ledger has it")
        say("Farid's message has failed. Its cause has passed, so it goes out again, and its history stays:")
        self._run("failed", "list")
        self._run("resend", "0", "--delay", "500")
        self._run("drain", "--verbose")
        self._run("message", "explain", "m6")

    def add_up(self) -> dict[str, Any]:
        """Compare our ledger with the far end's: everybody in one bucket, nobody written to twice."""
        from wa_cli.bootstrap import open_app
        from wa_cli.config import load_settings

        app = open_app(load_settings({}, env_file=self._env_file, flags={"WA_DB": str(self._database)}), create=False)
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
        ledger["adds_up"] = (
            sum(stats.values()) == AUDIENCE == stats["sent"] == len(set(accepted)) and ledger["accepted_twice"] == 0
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
