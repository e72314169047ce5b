"""What every command shares: the global flags, the settings behind them, and how a result is shown.

stdout is for results, stderr for talk.  Users' words are shown as text, never as markup, with control characters made
visible; tables are aligned on a terminal and tab-separated everywhere else.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from wa_cli.errors import Refused, UsageError
from wa_cli.services.documents import format_time as format_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import typer

    from wa_cli.bootstrap import App
    from wa_cli.cli.progress import ProgressLine
    from wa_cli.config import Settings


@dataclass(slots=False, kw_only=True)
class Session:
    """One run of `wa`: its global flags, and the app once a command asks for it."""

    db: str | None = None
    env_file: Path | None = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    no_input: bool = False
    yes: bool = False
    debug: bool = False
    _app: App | None = field(default=None, repr=False)

    @cached_property
    def settings(self) -> Settings:
        from wa_cli.config import load_settings

        settings = load_settings(env_file=self.env_file, flags={"WA_DB": self.db} if self.db else None)
        if self.debug and settings.env_file:
            self.say(f"settings from {settings.env_file}")
        return settings

    def open_app(self, *, create: bool = False) -> App:
        """The wired app.  create: make the database if there is none."""
        if self._app is None:
            from wa_cli.bootstrap import open_app

            self._app = open_app(self.settings, create=create)
        return self._app

    def open_dry_app(self) -> App:
        """The app for a run that may write nothing: on the database if there is one, else on an empty one in memory."""
        if self._app is None:
            from wa_cli.bootstrap import open_dry_app

            self._app = open_dry_app(self.settings)
        return self._app

    def close(self) -> None:
        if self._app is not None:
            self._app.close()
            self._app = None

    def describe_time(self, at_ms: int) -> str:
        """A moment for people: in their zone, in UTC, and how far away it is."""
        from datetime import UTC, datetime

        from wa_cli.domain.schedule import describe_instant

        return describe_instant(
            datetime.fromtimestamp(at_ms / 1000, UTC), zone=self.settings.zone(), now=datetime.now(UTC)
        )

    # --- results, on stdout ---

    def show_json(self, document: Any) -> None:
        """One document on stdout, UTF-8, indented on a terminal."""
        if sys.stdout.isatty():
            written = "\n".join(map(clean_json, json.dumps(document, ensure_ascii=False, indent=2).split("\n")))
        else:
            written = json.dumps(document, ensure_ascii=False)
        sys.stdout.write(written + "\n")

    def show(self, line: str = "") -> None:
        """One line of the result."""
        sys.stdout.write(line + "\n")

    def show_table(self, headers: Sequence[str], rows: Iterable[Sequence[str]], *, keep: Sequence[int] = (0,)) -> None:
        """Rows under headers.  On a terminal aligned, the widest columns cut to the width; else tab-separated.

        keep: the columns that are never cut, such as ids.
        """
        if not sys.stdout.isatty():
            for row in rows:
                self.show("\t".join(clean_text(cell) for cell in row))
            return
        from wa_cli.cli.table import layout

        for line in layout(headers, [[clean_text(cell) for cell in row] for row in rows], keep=keep):
            self.show(line)

    def show_fields(self, fields: Sequence[tuple[str, str]], *, indent: int = 0) -> None:
        """Names and values, one a line, aligned; long values go on under themselves on a terminal.

        indent: how far to the right all of it stands.
        """
        import shutil
        import textwrap

        width = max((len(name) for name, _value in fields), default=0)
        for name, value in fields:
            words = clean_text(value)
            if sys.stdout.isatty():
                space = max(shutil.get_terminal_size((80, 24)).columns, 40) - width - 2 - indent
                lines = textwrap.wrap(words, space, break_on_hyphens=False) or [""]
            else:
                lines = [words]
            for number, line in enumerate(lines):
                self.show(f"{'':<{indent}}{name if number == 0 else '':<{width}}  {line}".rstrip())

    # --- talk, on stderr ---

    def say(self, line: str) -> None:
        """A line for people: what was done, what to do next.  Silent with --quiet."""
        if not self.quiet:
            sys.stderr.write(fold(clean_text(line), indent=2) + "\n")

    def hint(self, line: str) -> None:
        """What to type next."""
        if not self.quiet:
            sys.stderr.write(fold(f"hint: {clean_text(line)}") + "\n")

    def warn(self, line: str) -> None:
        sys.stderr.write(fold(f"warning: {clean_text(line)}", indent=9) + "\n")

    def progress(self, what: str, total: int) -> ProgressLine:
        """A bar on a terminal, a line every ten seconds elsewhere."""
        from wa_cli.cli.progress import ProgressLine

        return ProgressLine(what, total, is_quiet=self.quiet or self.json, has_bar=not self.is_spoken)

    @property
    def is_spoken(self) -> bool:
        """Whether the user listens to the screen (WA_ACCESSIBLE=1): no plots, and nothing is drawn over."""
        return self.settings.text("WA_ACCESSIBLE") == "1"

    # --- questions ---

    def can_ask(self) -> bool:
        return sys.stdin.isatty() and sys.stderr.isatty() and not self.no_input

    def confirm(self, question: str, *, flag: str = "--yes") -> None:
        """Go on after a yes.  Raises: Refused after anything else, and where nobody can be asked."""
        if self.yes:
            return
        if not self.can_ask():
            raise Refused(
                f"not confirmed: {question}", hint=f"add {flag} to go on without being asked", code="not_confirmed"
            )
        sys.stderr.write(fold(f"{clean_text(question)} [y/N]", indent=2) + " ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise Refused("stopped: you did not say yes", hint="nothing was changed", code="not_confirmed")

    def ask(self, question: str) -> str:
        """A line that a person types.  Only where `can_ask`."""
        sys.stderr.write(fold(f"{clean_text(question)}:", indent=2) + " ")
        sys.stderr.flush()
        return sys.stdin.readline()


def session_of(context: typer.Context) -> Session:
    session = context.obj
    if not isinstance(session, Session):
        raise UsageError("no session", hint="run the `wa` command")
    return session


def fold(line: str, *, indent: int = 6) -> str:
    """A line of talk, broken between words where a terminal is too narrow for it; unchanged elsewhere.

    indent: of the lines after the first, which stand under the words of a hint unless told otherwise.
    A command in backticks stays in one piece, so that it can be copied.
    """
    if not sys.stderr.isatty():
        return line
    import re
    import shutil
    import textwrap

    width = max(shutil.get_terminal_size((80, 24)).columns, 40)
    if len(line) <= width:
        return line
    whole = re.sub(r"`[^`]*`", lambda command: command[0].replace(" ", "\0"), line)
    lines = textwrap.wrap(whole, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\0", " ")


def clean_text(text: object) -> str:
    """Text that cannot steer a terminal: control and direction characters as escapes, one line.

    Joiners inside emoji stay: they change how a sign looks, not where the cursor goes.
    """
    value = str(text)
    if value.isprintable():  # then there is nothing to escape, and each line of a log comes by here
        return value
    return "".join(character if _is_harmless(character) else _escape(character) for character in value)


def clean_json(line: str) -> str:
    """A line of JSON that says the same and cannot steer a terminal: what could stands in it as an escape."""
    if line.isascii() and line.isprintable():
        return line
    return "".join(letter if _is_harmless(letter) else json.dumps(letter)[1:-1] for letter in line)


def _is_harmless(character: str) -> bool:
    """Whether a terminal only shows it."""
    if character == "\u200d":
        return True
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def _escape(character: str) -> str:
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\x1b": "\\e"}.get(character)
    return short or f"\\u{ord(character):04x}"


def parse_duration_flag(text: str, flag: str) -> float:
    """Seconds of a duration typed for a flag.  Raises: UsageError naming the flag."""
    from wa_cli.domain.schedule import parse_duration

    try:
        return parse_duration(text).total_seconds()
    except UsageError as error:
        raise UsageError(f"{flag}: {error.message}", hint=error.hint, code=error.code) from error


def suggest(word: str, known: Sequence[str]) -> str | None:
    """The known word that was probably meant, or None."""
    import difflib

    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return matches[0] if matches else None
