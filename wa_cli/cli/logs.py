"""The lines that the daemon and the server log, for people or as JSON."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Final

from wa_cli.cli.session import clean_text

# What our own code hands to a log line beside its words.
EXTRA_FIELDS: Final = ("message_id", "state", "rule", "latency_ms")
NUMBER: Final = re.compile(r"\d{7,}")


class _Words(logging.Formatter):
    """Lines for people: local time, level when it matters, one line whatever the text holds."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        lines = [f"{at} {level}{clean_text(record.getMessage())}"]
        if record.exc_info:  # set off, so that no word of an error can pass for a line of ours
            traceback = NUMBER.sub(_mask, self.formatException(record.exc_info))
            lines += [f"         | {clean_text(line)}" for line in traceback.splitlines()]
        return "\n".join(lines)


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
            line["traceback"] = NUMBER.sub(_mask, self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def _mask(found: re.Match[str]) -> str:
    return "…" + found[0][-4:]


def start_logging(*, as_json: bool, is_verbose: bool, is_quiet: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if as_json else _Words())
    logging.raiseExceptions = False  # a log that cannot be written must not stop a message
    root = logging.getLogger("wa")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(logging.DEBUG if is_verbose else logging.WARNING if is_quiet else logging.INFO)
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    server = logging.getLogger("uvicorn")
    server.handlers[:] = [handler]
    server.propagate = False
    server.setLevel(logging.WARNING)  # who came and went is in our own lines
