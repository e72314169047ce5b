"""Tables of text from files and pipes: what may be opened, which encoding it has, where its rows begin and end.

Reads in blocks, so that a file of any length takes a fixed amount of memory, and never guesses: what is not clearly
UTF-8 or UTF-16 is refused by name until the caller says what it is.  A row that cannot be read is a BadRow and the
next row is read as if it had not been there; only what concerns the whole file raises.
"""

from __future__ import annotations

import codecs
import csv
import os
import re
import stat
import sys
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from wa_cli.domain.fields import normalise_name
from wa_cli.domain.recipient import show_text
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CELL_LIMIT = 64 * 1024  # characters; a message has 4,096 at most
LINE_LIMIT = 1024 * 1024  # bytes; room for a thousand long columns
COLUMN_LIMIT = 1000
GIVE_UP_AT = 64 * 1024 * 1024  # bytes without a line end: /dev/zero, not a list
_BLOCK = 256 * 1024
_HEAD = 64 * 1024
_RECORD_LIMIT = 4 * CELL_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """A row that was not taken.

    line: where it begins, from 1.  text: the row as it stands, shortened, control characters made visible.
    reason: what is wrong and, after a semicolon, what to write instead.
    """

    line: int
    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that is no text."""

    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class Record:
    """One row: its cells, the first of its lines as it stands, and the number of that line."""

    line: int
    cells: list[str]
    text: str


class Lines:
    """The lines of a source without their ends, with their numbers; lines can be given back and come again."""

    def __init__(self, lines: Iterator[str | Unreadable]) -> None:
        self._lines = lines
        self._returned: deque[str | Unreadable] = deque()
        self.number = 0

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str | Unreadable:
        line = self._returned.popleft() if self._returned else next(self._lines)
        self.number += 1
        return line

    def give_back(self, lines: Sequence[str | Unreadable]) -> None:
        self._returned.extendleft(reversed(lines))
        self.number -= len(lines)


def bad_row(line: int, text: str, reason: str) -> BadRow:
    return BadRow(line=line, text=show_text(text, limit=80), reason=reason)


@contextmanager
def open_lines(source: Path | BinaryIO, encoding: str | None) -> Iterator[tuple[Lines, str]]:
    """The lines of a file or an open stream, and the source's name for messages.

    A stream that was given open stays open.  encoding: what `--encoding` says, or None to find out.
    Raises: UsageError on what is no readable text file.
    """
    if encoding is not None:
        _check_encoding(encoding)
    if isinstance(source, Path):
        name = f"'{show_text(str(source), limit=200)}'"
        stream: BinaryIO = _open_file(source, name)
        own = True
    else:
        name, stream, own = "standard input", source, False
    try:
        reader = _Blocks(stream, name)
        chosen = _choose_encoding(reader.head, reader.head_is_all, encoding, name)
        yield Lines(_decode(reader, chosen)), name
    finally:
        if own:
            stream.close()


def read_records(lines: Lines, delimiter: str, *, single_line_column: int = 0) -> Iterator[Record | BadRow]:
    """The rows of a delimited table; blank lines are passed over.

    A cell in quotes may hold line ends, except the one in single_line_column: a line end there means that a quote
    was never closed.  The row that opened it is bad, and the lines it would have swallowed are read as rows.
    """
    for line in lines:
        number = lines.number
        if not isinstance(line, str):
            yield BadRow(line=number, text=line.text, reason=line.reason)
            continue
        if '"' in line:
            cells = _read_quoted(lines, line, delimiter, single_line_column)
            if isinstance(cells, str):
                yield bad_row(number, line, cells)
                continue
        else:
            cells = line.split(delimiter)
        if not any(cells) or not any(map(str.strip, cells)):
            continue
        if len(line) > CELL_LIMIT or '"' in line:
            longest = max(map(len, cells))
            if longest > CELL_LIMIT:
                yield bad_row(number, line, f"a cell has {longest:,} characters and may have {CELL_LIMIT:,}")
                continue
        yield Record(number, cells, line)


def find_delimiter(line: str, known: Sequence[str]) -> str:
    """The delimiter of a table by its first line: the one that uncovers most known column names, else most cells."""

    def worth(delimiter: str) -> tuple[int, int]:
        names = [normalise_name(cell) for cell in split_line(line, delimiter)]
        return sum(name in known for name in names), len(names)

    return max((",", ";", "\t"), key=worth)


def split_line(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:
        return line.split(delimiter)


# Opening


def _open_file(path: Path, name: str) -> BinaryIO:
    try:
        # Non-blocking, since a FIFO without a writer would hold us here; regular files take no notice of it.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError as problem:
        raise UsageError(f"there is no file {name}", hint="check the path; - reads standard input") from problem
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else str(problem)
        raise UsageError(f"{name} cannot be opened: {(reason or 'unknown reason').lower()}") from problem
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb", buffering=0)
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise UsageError(f"{name} is a directory", hint="name a file in it")
    raise UsageError(f"{name} is a pipe or a device, not a file", hint="pipe it in and write - for the file")


class _Blocks:
    """The source's bytes: the first in `head`, then all of them block by block."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self.head = b""
        while len(self.head) < _HEAD and (block := self._read(_HEAD - len(self.head))):
            self.head += block
        self.head_is_all = len(self.head) < _HEAD

    def __iter__(self) -> Iterator[bytes]:
        yield self.head
        while block := self._read(_BLOCK):
            yield block

    def refuse(self, reason: str) -> UsageError:
        return UsageError(f"{self._name} {reason}", hint="lists are text, one recipient or row a line")

    def _read(self, size: int) -> bytes:
        try:
            return self._stream.read(size) or b""
        except OSError as problem:
            raise UsageError(f"{self._name} cannot be read: {problem.strerror}") from problem


# Encodings

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_FOREIGN = (
    (b"\x1f\x8b", "is compressed with gzip", "unpack it first: gunzip FILE"),
    (b"\xfd7zXZ", "is compressed with xz", "unpack it first: unxz FILE"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd", "unpack it first: unzstd FILE"),
    (b"PK\x03\x04", "is a workbook or a zip archive", "save the sheet as CSV UTF-8, or unpack the archive"),
    (b"\xd0\xcf\x11\xe0", "is an old Excel workbook", "save the sheet as CSV UTF-8"),
    (b"%PDF", "is a PDF", "save the list as CSV UTF-8"),
    (b"\x89PNG", "is an image", "give a list as CSV"),
    (b"\xff\xd8\xff", "is an image", "give a list as CSV"),
    (b"SQLite format 3\x00", "is a database", "give a list as CSV"),
    (b"\x7fELF", "is a program", "give a list as CSV"),
)


@dataclass(frozen=True, slots=True)
class _Encoding:
    name: str
    mark: int  # bytes of the byte order mark


def _check_encoding(encoding: str) -> None:
    try:
        name = codecs.lookup(encoding).name
        plain = "a,1\n".encode(name)
        whole = plain == b"a,1\n" or name.startswith(("utf-16", "utf-32", "utf-8-sig"))
    except (LookupError, ValueError, TypeError):
        name, whole = "", False
    stateful = name.startswith(("utf-7", "iso2022", "hz", "idna", "punycode", "unicode_escape", "raw_unicode"))
    if not whole or stateful:
        raise UsageError(
            f"'{show_text(encoding)}' is not an encoding of text files that wa reads",
            hint="try utf-8, utf-16, cp1252 (Windows, western) or mac-roman",
        )


def _choose_encoding(head: bytes, head_is_all: bool, wanted: str | None, name: str) -> _Encoding:
    if not head:
        raise UsageError(f"{name} is empty", hint="put one recipient or one row on each line")
    for magic, what, hint in _FOREIGN:
        if head.startswith(magic):
            raise UsageError(f"{name} {what}", hint=hint)
    found = next((_Encoding(encoding, len(mark)) for mark, encoding in _MARKS if head.startswith(mark)), None)
    if wanted is not None:
        chosen = codecs.lookup(wanted).name.removesuffix("-sig")
        if found is None:
            if chosen in {"utf-16", "utf-32"}:
                return _Encoding(f"{chosen}-{sys.byteorder[:1]}e", 0)
            return _Encoding(chosen, 0)
        if not found.name.startswith(chosen):
            raise UsageError(f"{name} begins with the mark of {found.name}", hint="leave --encoding away")
        return found
    found = found or _Encoding(_encoding_by_zeros(head) or "utf-8", 0)
    if found == _Encoding("utf-8", 0):
        _refuse_other_encodings(head, head_is_all, name)
    start = head[found.mark :].decode(found.name, "ignore").lstrip()[:100].lower()
    if start.startswith(("<?xml", "<!doctype", "<html", "<svg")):
        raise UsageError(f"{name} is a web page or XML", hint="give a list as CSV")
    return found


def _encoding_by_zeros(head: bytes) -> str | None:
    """UTF-16 without its mark, known by the zero half of every plain letter."""
    even, odd = head[0::2], head[1::2]
    low, high = even.count(0), odd.count(0)
    if high > 0.3 * len(odd) and low < 0.05 * len(even):
        return "utf-16-le"
    if low > 0.3 * len(even) and high < 0.05 * len(odd):
        return "utf-16-be"
    return None


def _refuse_other_encodings(head: bytes, head_is_all: bool, name: str) -> None:
    """Refuse a file whose only letters beyond ASCII are not UTF-8: all of it is in another encoding.

    Where some lines are good UTF-8 and some are not, the others are rows that went bad, and are reported as such.
    """
    if head.isascii():
        return
    lines = re.split(rb"\r\n|\n|\r", head)
    first_bad = None
    for number, line in enumerate(lines if head_is_all else lines[:-1], 1):
        if line.isascii():
            continue
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as problem:
            first_bad = first_bad or (number, line[problem.start])
        else:
            return
    if first_bad:
        raise UsageError(
            f"{name} is not UTF-8: line {first_bad[0]} holds the byte 0x{first_bad[1]:02X}",
            hint="save it as CSV UTF-8; or add --encoding cp1252 if it comes from Excel on Windows",
            code="encoding",
        )


def _decode(blocks: _Blocks, encoding: _Encoding) -> Iterator[str | Unreadable]:
    if encoding.name.startswith(("utf-16", "utf-32")):
        return _decode_wide(blocks, encoding)
    return _decode_narrow(blocks, encoding)


def _decode_narrow(blocks: _Blocks, encoding: _Encoding) -> Iterator[str | Unreadable]:
    """Lines of encodings in which the bytes of line ends mean nothing else."""
    rest = b""
    skip = encoding.mark
    dropped = 0  # bytes of a line too long to keep
    for block in blocks:
        rest += block[skip:]
        skip = 0
        cut = rest.rfind(b"\n") + 1 or rest.rfind(b"\r", 0, -1) + 1  # a last \r may be half of \r\n
        if not cut:
            if len(rest) > LINE_LIMIT:
                dropped += len(rest)
                rest = b""
                if dropped > GIVE_UP_AT:
                    raise blocks.refuse("has no line ends")
            continue
        whole, rest = rest[:cut], rest[cut:]
        if dropped:
            tail = re.split(rb"\r\n|\n|\r", whole, maxsplit=1)
            yield _too_long(dropped + len(tail[0]))
            whole = tail[1]
            dropped = 0
            if not whole:
                continue
        yield from _split(whole, encoding.name)
    if dropped:
        yield _too_long(dropped + len(rest))
    elif rest:
        yield from _split(rest, encoding.name)


def _split(whole: bytes, encoding: str) -> Iterator[str | Unreadable]:
    if b"\r" in whole:
        whole = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    whole = whole.removesuffix(b"\n")
    try:
        text = whole.decode(encoding)
    except UnicodeDecodeError:
        text = None
    if text is not None and "\x00" not in text and len(whole) <= LINE_LIMIT:
        yield from text.split("\n")
        return
    for line in whole.split(b"\n"):
        yield _decode_line(line, encoding)


def _decode_line(line: bytes, encoding: str) -> str | Unreadable:
    if len(line) > LINE_LIMIT:
        return _too_long(len(line))
    try:
        text = line.decode(encoding)
    except UnicodeDecodeError as problem:
        shown = show_text(line.decode("ascii", "backslashreplace"), limit=80)
        byte = f"the byte 0x{line[problem.start]:02X} is not {encoding}"
        return Unreadable(shown, f"{byte}; save the file as CSV UTF-8, or say what it is with --encoding")
    return _check_text(text)


def _decode_wide(blocks: _Blocks, encoding: _Encoding) -> Iterator[str | Unreadable]:
    """Lines of UTF-16 and UTF-32."""
    decoder = codecs.getincrementaldecoder(encoding.name)("replace")
    rest = ""
    skip = encoding.mark
    dropped = 0
    for block in blocks:
        rest += decoder.decode(block[skip:])
        skip = 0
        cut = rest.rfind("\n") + 1 or rest.rfind("\r", 0, -1) + 1
        if not cut:
            if len(rest) > LINE_LIMIT:
                dropped += len(rest)
                rest = ""
                if dropped > GIVE_UP_AT:
                    raise blocks.refuse("has no line ends")
            continue
        whole, rest = rest[:cut], rest[cut:]
        lines = whole.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
        if dropped:
            yield _too_long(dropped + len(lines.pop(0)))
            dropped = 0
        yield from map(_check_wide_text, lines)
    rest += decoder.decode(b"", final=True)
    if dropped:
        yield _too_long(dropped + len(rest))
    elif rest:
        lines = rest.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
        yield from map(_check_wide_text, lines)


def _check_text(text: str) -> str | Unreadable:
    if len(text) > LINE_LIMIT:
        return _too_long(len(text))
    if "\x00" in text:
        return Unreadable(show_text(text, limit=80), "the row holds a NUL character; it is damaged or no text")
    return text


def _check_wide_text(text: str) -> str | Unreadable:
    if "\ufffd" in text:  # what the decoder puts for halves of characters
        return Unreadable(show_text(text, limit=80), "the row holds half a character; save the file as CSV UTF-8")
    return _check_text(text)


def _too_long(size: int) -> Unreadable:
    return Unreadable("…", f"the line has {size:,} bytes and may have {LINE_LIMIT:,}")


# Quotes


class _RunawayError(Exception):
    pass


def _read_quoted(lines: Lines, first: str, delimiter: str, single_line_column: int) -> list[str] | str:
    """The cells of the row that begins with `first`, or why there is none; then only that line was taken."""
    taken: list[str | Unreadable] = []

    def feed() -> Iterator[str]:
        yield f"{first}\n"
        size = len(first)
        for line in lines:
            taken.append(line)
            if not isinstance(line, str):
                raise _RunawayError
            size += len(line) + 1
            if size > _RECORD_LIMIT:
                raise _RunawayError
            yield f"{line}\n"

    try:
        cells = next(csv.reader(feed(), delimiter=delimiter, strict=True, skipinitialspace=True))
    except (csv.Error, _RunawayError) as problem:
        lines.give_back(taken)
        if "field limit" in str(problem) and not taken:
            return f"a cell may have {CELL_LIMIT:,} characters and this one has more"
        return "a quote is not closed, or text follows it; double a quote that belongs to the text"
    if taken and len(cells) > single_line_column and "\n" in cells[single_line_column].strip():
        lines.give_back(taken)
        return "a quote is not closed; double a quote that belongs to the text"
    return cells
