"""The lines that the daemon and the server log, for people or as JSON.

Whatever a record holds, it is one line, it steers no terminal, and no secret of the settings stands in it.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from wa_cli.cli.session import clean_json, clean_text

if TYPE_CHECKING:
    from collections.abc import Iterable

# What our own code hands to a log line beside its words.
EXTRA_FIELDS: Final = ("message_id", "state", "rule", "latency_ms")
NUMBER: Final = re.compile(r"\d{7,}")
API_KEY: Final = re.compile(r"wak_[\w-]{16,}", re.ASCII)
# A shorter one is part of too many words.
SHORTEST_SECRET: Final = 6


class _Formatter(logging.Formatter):
    """What both kinds of lines have in common.  secrets: values that must not be shown."""

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__()
        known = sorted({one for one in secrets if len(one) >= SHORTEST_SECRET}, key=len, reverse=True)
        self._secret = re.compile("|".join([*map(re.escape, known), API_KEY.pattern]), re.ASCII)

    def words(self, record: logging.LogRecord) -> str:
        return self._secret.sub("[secret]", record.getMessage())

    def traceback(self, record: logging.LogRecord) -> str:
        if not record.exc_info:
            return ""
        return NUMBER.sub(_mask, self._secret.sub("[secret]", self.formatException(record.exc_info)))


class _Words(_Formatter):
    """Lines for people: local time, level when it matters, one line whatever the text holds."""

    _second = -1
    _time = ""  # of that second: a busy sender logs many lines in one

    def format(self, record: logging.LogRecord) -> str:
        second = int(record.created)
        if second != self._second:
            self._second, self._time = second, time.strftime("%H:%M:%S", time.localtime(second))
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        lines = [f"{self._time} {level}{clean_text(self.words(record))}"]
        # Set off, so that no word of an error can pass for a line of ours.
        lines += [f"         | {clean_text(line)}" for line in self.traceback(record).splitlines()]
        return "\n".join(lines)


class _JsonLines(_Formatter):
    """One JSON object a line, for machines."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.words(record),
        }
        line.update({name: getattr(record, name) for name in EXTRA_FIELDS if hasattr(record, name)})
        if record.exc_info:
            line["traceback"] = self.traceback(record)
        # Readers that take U+2028 or U+0085 for the end of a line, and terminals that obey U+009B, are there too.
        return clean_json(json.dumps(line, ensure_ascii=False))


def _mask(found: re.Match[str]) -> str:
    return "…" + found[0][-4:]


def start_logging(*, as_json: bool, is_verbose: bool, is_quiet: bool, secrets: Iterable[str] = ()) -> None:
    """Log to stderr from now on.  secrets: values that no line may show."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter((_JsonLines if as_json else _Words)(secrets))
    logging.raiseExceptions = False  # a log that cannot be written must not stop a message
    root = logging.getLogger("wa")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(logging.DEBUG if is_verbose else logging.WARNING if is_quiet else logging.INFO)
    # Who came and went is in our own lines; what these say is trouble, and must look like the rest.
    for name in ("uvicorn", "asyncio", "concurrent.futures", "apscheduler"):
        theirs = logging.getLogger(name)
        theirs.handlers[:] = [handler]
        theirs.propagate = False
        theirs.setLevel(logging.ERROR if name == "apscheduler" else logging.WARNING)
