"""What the imports of lists share: rows that were refused, a counter while it runs, and the words for the end."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import typer

from wa_cli.cli.session import Session, clean_text
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType
    from typing import BinaryIO

    from wa_cli.sources.tables import BadRow

T = TypeVar("T")

REFUSED_ROWS_SHOWN: Final = 20
REFUSED_ROWS_IN_JSON: Final = 10_000  # a report, not a copy of the file; --errors has them all


def open_list(session: Session, file: str, errors: Path | None) -> Path | BinaryIO:
    """The list to read.  Raises: UsageError when --errors would write over it."""
    if file == "-":
        if sys.stdin.isatty():
            session.say("reading recipients from the terminal, one a line; Ctrl-D ends the list")
        return sys.stdin.buffer
    source = Path(file)
    if errors is not None and errors.exists() and source.exists() and errors.samefile(source):
        raise UsageError("--errors names the file that is imported", hint="give it another name")
    return source


def leave(*, refused: int, taken: int, verb: str) -> None:
    """Exit 3 when some rows were refused.  Raises: UsageError when all were."""
    if refused and not taken:
        raise UsageError(
            f"nothing was {verb}: {'the only row' if refused == 1 else f'all {refused:,} rows'} cannot be read",
            hint="numbers need their country code, such as +6581234567, or set WA_DEFAULT_REGION (such as SG)",
            code="rows_refused",
        )
    if refused:
        raise typer.Exit(3)


def refuse_whole(refusals: Refusals) -> UsageError:
    """The error of a strict import that met rows it cannot read."""
    return UsageError(
        f"{count_of(refusals.count, 'row')} of {refusals.read:,} cannot be read, so none was imported",
        hint="mend them, or leave --strict away to import the others",
        code="rows_refused",
    )


def summarize(**counts: int) -> str:
    """`2 added, 1 already there, 0 refused` without its zeros, the first excepted."""
    words = [
        f"{count:,} {name.replace('_', ' ')}"
        for index, (name, count) in enumerate(counts.items())
        if count or not index
    ]
    return ", ".join(words)


def count_of(number: int, noun: str, plural: str | None = None) -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


class NotAllGood(Exception):
    """A strict import met a row that cannot be read."""


class Refusals:
    """The rows of an import that were not taken: counted, the first ones kept, all of them written to --errors."""

    def __init__(self, session: Session, errors: Path | None, *, force: bool) -> None:
        self._session = session
        self._errors = errors
        self._force = force
        self._stack = ExitStack()
        self._write: Callable[[list[str]], object] | None = None
        self.rows: list[dict[str, object]] = []
        self.count = 0
        self.read = 0

    def __enter__(self) -> Refusals:
        if self._errors is not None:
            import csv

            from wa_cli.cli.private_file import new_private_file

            self._write = csv.writer(
                self._stack.enter_context(new_private_file(self._errors, force=self._force)), lineterminator="\n"
            ).writerow
            self._write(["line", "reason", "text"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def sort_out(self, rows: Iterable[T | BadRow], *, strict: bool) -> Iterator[T]:
        """The good rows; the bad ones stay here.  Raises: NotAllGood after the last row, if strict and any was bad."""
        from wa_cli.sources.tables import BadRow

        for row in rows:
            self.read += 1
            if isinstance(row, BadRow):
                self._note(row)
            else:
                yield row
        if strict and self.count:
            raise NotAllGood

    def _note(self, row: BadRow) -> None:
        from wa_cli.sources.recipients import guard

        self.count += 1
        if len(self.rows) < REFUSED_ROWS_IN_JSON:
            self.rows.append({"line": row.line, "reason": row.reason, "text": row.text})
        if self._write is not None:
            self._write([str(row.line), guard(row.reason), guard(row.text)])

    def report(self, described: Mapping[str, object], taken: Mapping[str, int], *, was_taken: bool) -> None:
        """Say what became of the rows.

        described: what of, for JSON.  taken: how many were taken in, by what became of them.  was_taken: False when
        a strict import was refused as a whole.
        """
        session = self._session
        if session.json:
            session.show_json(
                {
                    **described,
                    "read": self.read,
                    **taken,
                    "refused": self.count,
                    "rows": self.rows,
                    "rows_omitted": self.count - len(self.rows),
                }
            )
            return
        for row in self.rows[:REFUSED_ROWS_SHOWN]:
            session.say(f"line {row['line']}: {clean_text(row['reason'])}")
        if self.count > REFUSED_ROWS_SHOWN:
            session.say(f"… and {self.count - REFUSED_ROWS_SHOWN:,} more")
        if self.count and self._errors is not None:
            session.say(f"all refused rows are in {clean_text(self._errors)}")
        elif self.count > REFUSED_ROWS_SHOWN:
            session.hint("--errors FILE writes all of them to a CSV")
        if not self.read:
            session.warn("the list is empty")
        if was_taken:
            session.show(f"read {count_of(self.read, 'row')}: {summarize(**taken, refused=self.count)}")


class RowCounter:
    """How many rows are in, redrawn on a terminal and silent elsewhere."""

    def __init__(self, session: Session) -> None:
        self.rows = 0
        self._stop: Callable[[], None] | None = None
        self._draw: Callable[[int], object] | None = None
        self._is_shown = sys.stderr.isatty() and not session.quiet and not session.json

    def __enter__(self) -> RowCounter:
        if self._is_shown:
            from rich.console import Console
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            bar = Progress(
                SpinnerColumn("line"),
                TextColumn("{task.completed:,.0f} rows", markup=False),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            task = bar.add_task("import", total=None)
            self._draw = lambda rows: bar.update(task, completed=rows)
            self._stop = bar.stop
            bar.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self.stop()

    def show(self, rows: int) -> None:
        self.rows = rows
        if self._draw is not None:
            self._draw(rows)

    def stop(self) -> None:
        if self._stop is not None:
            self._stop()
            self._stop = None
