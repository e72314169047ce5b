"""`wa serve`: the HTTP API and the address that webhooks come to, and the keys of those who may use the API."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Final

import typer

from wa_cli.cli.commands import NOUNS
from wa_cli.cli.logs import start_logging
from wa_cli.cli.session import Session, format_time, session_of
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from wa_cli.bootstrap import App
    from wa_cli.domain.api_key import ApiKey

HOST: Final = "127.0.0.1"
PORT: Final = 8080

log = logging.getLogger("wa.web")

app = typer.Typer(short_help=NOUNS["serve"])
keys = typer.Typer(no_args_is_help=True, help="Keys of the HTTP API: making, listing, taking back.")
app.add_typer(keys, name="key")

HostOption = Annotated[str, typer.Option("--host", metavar="ADDRESS", help="The address to listen on.")]
PortOption = Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="The port; 0 takes a free one.")]
LogJsonOption = Annotated[bool, typer.Option("--log-json", help="Log JSON lines instead of words.")]


@app.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    host: HostOption = HOST,
    port: PortOption = PORT,
    log_json: LogJsonOption = False,
) -> None:
    """Take webhooks and calls of the HTTP API until stopped. Ctrl-C or SIGTERM finishes what was begun.

    It queues; sending is the daemon's work: `wa run` beside it, or `wa run --serve` for both in one.
    """
    if context.invoked_subcommand is not None:
        return
    session = session_of(context)
    opened = session.open_app(create=True)
    start_logging(
        as_json=log_json,
        is_verbose=session.verbose,
        is_quiet=session.quiet,
        secrets=opened.accounts.list_secrets(),
    )
    door = Door(session, opened, host=host, port=port)

    import asyncio

    try:
        asyncio.run(_serve_until_stopped(door))
    finally:
        door.close()
    log.info("stopped")


class Door:
    """A server that says what it cannot do, and where it is.  The app is the server's from now on."""

    def __init__(self, session: Session, opened: App, *, host: str, port: int) -> None:
        """Raises: UsageError when the address cannot be listened on."""
        from wa_cli.daemon.drain import drain_in_loop
        from wa_cli.web.listening import is_loopback, open_socket
        from wa_cli.web.server import WebServer

        self._session = session
        self._server = WebServer(opened, open_socket(host, port), drain=drain_in_loop)
        for line in _find_gaps(opened):
            log.warning(line)
        if not is_loopback(host):
            log.warning(
                "%s can be reached by other machines, in plain HTTP: put a proxy with TLS in front, or keep to %s",
                host,
                HOST,
            )

    def start(self) -> None:
        """Serve, and say so.  Whoever starts it listens to signals already."""
        server = self._server
        server.start()
        log.info("serving on %s, pid %d", server.url, os.getpid())
        if self._session.json:
            host, port = server.address
            self._session.show_json({"url": server.url, "host": host, "port": port, "pid": os.getpid()})
            sys.stdout.flush()

    def stop(self) -> None:
        """Take nothing new.  Returns at once."""
        self._server.stop()

    def wait(self) -> None:
        """Until it has ended; raises what ended it if nobody did."""
        self._server.wait()

    def close(self) -> None:
        """End it, whether it was started or not."""
        self._server.stop()
        self._server.join()


def _find_gaps(opened: App) -> list[str]:
    """What is not set, and what that switches off."""
    from wa_cli.accounts import DEFAULT_INSTANCE

    settings = opened.settings
    instances = opened.instances.list_all()
    others = [one for one in instances if one.name != DEFAULT_INSTANCE]
    # Beside gateways `default` may be left without an account, and then misses nothing.
    has_default = not others or any(not opened.accounts.find_missing(one) for one in instances if one not in others)
    gaps = []
    if has_default and not settings.text("WHATSAPP_APP_SECRET"):
        if settings.text("WA_UNSIGNED_WEBHOOKS") == "loopback":
            gaps.append("WHATSAPP_APP_SECRET is not set: webhooks are taken from this machine alone, unsigned")
        else:
            gaps.append("WHATSAPP_APP_SECRET is not set: every webhook is refused, so no receipt arrives")
    if has_default and not settings.text("WHATSAPP_VERIFY_TOKEN"):
        gaps.append("WHATSAPP_VERIFY_TOKEN is not set: Meta's check of the webhook address is refused")
    for instance in others:
        with suppress(UsageError):  # a transport of a newer wa: what sends says so
            if not opened.webhook_reader(instance).has_secret:
                gaps.append(f"instance '{instance.name}' has nothing to judge webhooks by: its receipts are refused")
    if not settings.text("WORKER_SECRET"):
        gaps.append("WORKER_SECRET is not set: POST /api/queue/worker takes keys with the scope worker alone")
    if not opened.api_keys.count_good():
        gaps.append("there is no API key yet: every call of the API is refused; `wa serve key add NAME` makes one")
    return gaps


async def _serve_until_stopped(door: Door) -> None:
    import asyncio

    from wa_cli.daemon.sending import Interrupts

    interrupts = Interrupts()
    interrupts.install()
    interrupts.call_on_first(door.stop)
    door.start()
    await asyncio.to_thread(door.wait)


# --- keys ---


@keys.command("add")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="After the program that uses it, like shop.")],
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", metavar="SCOPE", help="send, read or worker; several times. [default: send, read]"),
    ] = None,
) -> None:
    """Make a key and print it, this once: only its digest is stored.

    Example: wa serve key add shop --scope send
    """
    from wa_cli.services.api_keys import make_key

    session = session_of(context)
    opened = session.open_app(create=True)
    key, stored = make_key(opened.api_keys, name, scope or (), now_ms=opened.clock.wall_ms())
    if session.json:
        session.show_json({"key": key, **_document(stored)})
        return
    session.show(key)
    session.say(f"the key '{stored.name}' may {_words(stored)}; it is not stored, so keep it now")
    session.hint("a caller sends it as  Authorization: Bearer KEY")


@keys.command("list")
def list_keys(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Those that were taken back, too.")] = False,
) -> None:
    """List the keys, what each is good for, and when it was used last."""
    session = session_of(context)
    shown = [key for key in session.open_app().api_keys.list_all() if everything or key.revoked_at_ms is None]
    if session.json:
        session.show_json({"keys": [_document(key) for key in shown], "count": len(shown)})
        return
    session.show_table(
        ("NAME", "SCOPES", "MADE", "LAST USED", "TAKEN BACK"),
        [
            (
                key.name,
                " ".join(sorted(key.scopes)),
                format_time(key.created_at_ms - key.created_at_ms % 1000) or "",
                format_time(_whole_seconds(key.last_used_at_ms)) or "never",
                format_time(_whole_seconds(key.revoked_at_ms)) or "",
            )
            for key in shown
        ],
    )
    if not shown:
        session.say("no keys")
        session.hint("`wa serve key add NAME` makes one")


@keys.command("revoke")
def revoke(
    context: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the key.")]
) -> None:
    """Take a key back: from now on it opens nothing."""
    session = session_of(context)
    opened = session.open_app()
    stored = opened.api_keys.revoke(name, now_ms=opened.clock.wall_ms())
    if session.json:
        session.show_json(_document(stored))
        return
    session.show(f"the key '{stored.name}' opens nothing any more")


def _document(key: ApiKey) -> dict[str, object]:
    return {
        "name": key.name,
        "scopes": sorted(key.scopes),
        "created_at": format_time(key.created_at_ms),
        "last_used_at": format_time(key.last_used_at_ms),
        "revoked_at": format_time(key.revoked_at_ms),
    }


def _words(key: ApiKey) -> str:
    meanings = {"send": "send", "read": "look", "worker": "run the queue"}
    return " and ".join(meanings[scope] for scope in sorted(key.scopes, reverse=True))


def _whole_seconds(at_ms: int | None) -> int | None:
    return None if at_ms is None else at_ms - at_ms % 1000
