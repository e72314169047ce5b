"""Long answers and piped input, kept in anonymous temporary files so that memory stays bounded."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from wa_cli.cli.session import clean_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class JsonSpool:
    """The rows of a long answer, kept on disk until its counts are known, so that memory stays bounded."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=4_000_000, mode="w+", encoding="utf-8")  # noqa: SIM115 - __exit__ closes it
        self._is_empty = True

    def add(self, shape: dict[str, Any]) -> None:
        self._file.write(("" if self._is_empty else ", ") + clean_json(json.dumps(shape, ensure_ascii=False)))
        self._is_empty = False

    def write_to_stdout(self, fields: dict[str, Any]) -> None:
        """One document: the fields, and the rows under `messages`."""
        head = json.dumps(fields, ensure_ascii=False)
        sys.stdout.write(head[:-1] + ', "messages": [')
        self._file.seek(0)
        shutil.copyfileobj(self._file, sys.stdout)
        sys.stdout.write("]}\n")

    def __enter__(self) -> JsonSpool:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()


@contextmanager
def rewindable(file: str) -> Iterator[Callable[[], Path | BinaryIO]]:
    """A source that can be read twice: a path as it is, stdin through an anonymous temporary file."""
    if file != "-":
        yield lambda: Path(file)
        return
    if sys.stdin.isatty():
        sys.stderr.write("reading rows from the terminal; end with Ctrl-D\n")
    with tempfile.TemporaryFile() as spool:
        shutil.copyfileobj(sys.stdin.buffer, spool)

        def rewind() -> BinaryIO:
            spool.seek(0)
            return spool

        yield rewind
