"""`wa run`: the daemon, and the lines it logs."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from wa_cli.cli.session import clean_text, format_time, session_of

# What our own code hands to a log line beside its words.
EXTRA_FIELDS: Final = ("message_id", "state", "rule", "latency_ms")


def run(
    context: typer.Context,
    log_json: Annotated[bool, typer.Option("--log-json", help="Log JSON lines instead of words.")] = False,
    instance: Annotated[str | None, typer.Option("--instance", metavar="NAME", help="The instance that sends.")] = None,
) -> None:
    """Send messages as they become due, until stopped. Ctrl-C or SIGTERM finishes what is in flight."""
    session = session_of(context)
    app = session.open_app(create=True)
    _start_logging(as_json=log_json, is_verbose=session.verbose, is_quiet=session.quiet)
    chosen = app.find_instance(instance)
    app.check_account()

    from wa_cli.daemon.loops import run_in_loop
    from wa_cli.daemon.service import run_daemon

    code, holder = run_in_loop(run_daemon(app, chosen))
    if holder is not None:
        if session.json:
            since = format_time(holder.since_ms)
            session.show_json({"running": True, "pid": holder.pid, "host": holder.host, "since": since})
        else:
            since = session.describe_time(holder.since_ms)
            session.show(f"a daemon runs already: pid {holder.pid} on {holder.host}, since {since}")
    if code:
        raise typer.Exit(code)


class _Words(logging.Formatter):
    """Lines for people: local time, level when it matters, one line whatever the text holds."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        return f"{at} {level}{clean_text(record.getMessage())}"


class _JsonLines(logging.Formatter):
    """One JSON object a line, for machines."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({name: getattr(record, name) for name in EXTRA_FIELDS if hasattr(record, name)})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _start_logging(*, as_json: bool, is_verbose: bool, is_quiet: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if as_json else _Words())
    logging.raiseExceptions = False  # a log that cannot be written must not stop a message
    root = logging.getLogger("wa")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(logging.DEBUG if is_verbose else logging.WARNING if is_quiet else logging.INFO)
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
