"""Progress on stderr: a bar on a terminal, a line now and then elsewhere, nothing with --quiet."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_EVERY_SECONDS: Final = 10.0
DRAW_EVERY: Final = 0.1


class ProgressLine:
    """Counts towards a total.  `note` counts by outcome, `advance` plainly, `set` from outside."""

    def __init__(self, what: str, total: int, *, is_quiet: bool, has_bar: bool = True) -> None:
        """has_bar: False for lines on a terminal, too."""
        self._what = what
        self._total = total
        self._done = 0
        self._outcomes: dict[str, int] = {}
        self._is_quiet = is_quiet
        self._drawn_at = self._began_at = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if not is_quiet and has_bar and sys.stderr.isatty():
            self._start_bar()

    def advance(self, count: int = 1) -> None:
        self._done += count
        self._draw()

    def set(self, done: int) -> None:
        self._done = done
        self._draw()

    def note(self, outcome: str) -> None:
        """One message has an outcome; one that goes back to the queue is not done."""
        self._outcomes[outcome] = self._outcomes.get(outcome, 0) + 1
        if outcome != "queued":
            self._done += 1
        self._draw(force=self._total <= 200)

    def close(self) -> None:
        if self._bar is not None:
            self._draw(force=True)
            self._bar.stop()
            self._bar = None

    def _start_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[outcomes]}", markup=False),
            console=Console(stderr=True),
            transient=False,
        )
        self._task = self._bar.add_task(self._what, total=self._total, outcomes="")
        self._bar.start()

    def _draw(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if self._bar is not None and self._task is not None:
            if force or now - self._drawn_at >= DRAW_EVERY:
                self._drawn_at = now
                self._bar.update(self._task, completed=self._done, outcomes=self._describe())
        elif not self._is_quiet and now - self._drawn_at >= LINE_EVERY_SECONDS:
            self._drawn_at = now
            rate = self._done / max(now - self._began_at, 0.001)
            sys.stderr.write(f"{self._what}: {self._done} of {self._total}, {rate:.1f}/s {self._describe()}\n")

    def _describe(self) -> str:
        words = {"queued": "to be retried"}
        return ", ".join(
            f"{count} {words.get(outcome, outcome)}" for outcome, count in self._outcomes.items() if outcome != "sent"
        )
