"""Lists of recipients from CSV and plain text, and back to CSV."""

from __future__ import annotations

import csv
import json
import re
import tempfile
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, TextIO

from wa_cli.domain.fields import normalise_name
from wa_cli.domain.recipient import InvalidRecipient, Recipient, parse_recipient, parse_region, show_text
from wa_cli.errors import UsageError
from wa_cli.sources.tables import (
    COLUMN_LIMIT,
    BadRow,
    Lines,
    bad_row,
    find_delimiter,
    open_lines,
    read_records,
    split_line,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["BadRow", "Row", "read_recipients", "write_recipients"]

RECIPIENT_COLUMNS = ("recipient", "phone", "number", "chat_id", "group_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One recipient of a list.

    line: where the row begins, from 1.  attributes: the other columns by their names, without the blank cells.
    """

    line: int
    recipient: Recipient
    attributes: Mapping[str, str]


def read_recipients(
    source: Path | BinaryIO, *, default_region: str | None, encoding: str | None = None
) -> Iterator[Row | BadRow]:
    """The rows of a list in their order, good and bad, read as they are asked for.

    The first line is a header when one of its cells is named recipient, phone, number, chat_id or group_id (in this
    order of preference, any case); its other columns are attributes.  Without a header the file has one recipient a
    line.  Cells are parted by commas, semicolons or tabs.  A row with fewer cells than the header is taken, one with
    more is not.  Repeated recipients come as often as they stand there.
    source: a file, or an open binary stream, which stays open.  encoding: as `--encoding` says; None finds UTF-8 and
    UTF-16 and refuses the rest.
    Raises: UsageError, with the first row or later: no such file, no text file, another encoding, a header without
    recipients or with two columns of one name.
    """
    region = parse_region(default_region)
    with open_lines(source, encoding) as (lines, name):
        header = read_header(lines, name, wanted=RECIPIENT_COLUMNS)
        if isinstance(header, Headless):
            yield from read_plain(lines, header.delimiter, region)
            return
        column = header.find(RECIPIENT_COLUMNS)
        if column is None:
            raise no_recipient_column(header, name)
        yield from read_table(lines, header, column, header.others({column}), region)


def read_table(
    lines: Lines, header: Header, column: int, attributes: list[tuple[int, str]], region: str | None
) -> Iterator[Row | BadRow]:
    """The rows below a header.  column: the recipient's.  attributes: the columns that are kept, with their names."""
    width = len(header.names)
    for record in read_records(lines, header.delimiter, single_line_column=column):
        if isinstance(record, BadRow):
            yield record
            continue
        cells = record.cells
        if len(cells) > width and any(map(str.strip, cells[width:])):
            yield bad_row(record.line, record.text, f"{len(cells)} cells where the header has {width}")
            continue
        text = cells[column] if column < len(cells) else ""
        try:
            recipient = parse_recipient(text, default_region=region)
        except InvalidRecipient as error:
            yield bad_row(record.line, record.text, explain(error))
            continue
        yield Row(line=record.line, recipient=recipient, attributes=read_attributes(cells, attributes))


def read_plain(lines: Lines, delimiter: str, region: str | None) -> Iterator[Row | BadRow]:
    """The rows of a list without a header."""
    for record in read_records(lines, delimiter):
        if isinstance(record, BadRow):
            yield record
            continue
        filled = [cell for cell in record.cells if cell.strip()]
        text = filled[0] if len(filled) == 1 else record.text
        try:
            recipient = parse_recipient(text, default_region=region)
        except InvalidRecipient as error:
            yield bad_row(record.line, record.text, explain(error))
            continue
        yield Row(line=record.line, recipient=recipient, attributes={})


def explain(error: UsageError) -> str:
    return f"{error.message}; {error.hint}" if error.hint else error.message


# Headers


@dataclass(frozen=True, slots=True)
class Header:
    delimiter: str
    names: list[str]
    line: int

    def find(self, wanted: Sequence[str]) -> int | None:
        """The column of the first of these names that the header has."""
        normalised = [normalise_name(name) for name in self.names]
        return next((normalised.index(name) for name in wanted if name in normalised), None)

    def others(self, taken: set[int]) -> list[tuple[int, str]]:
        """The columns beside the taken ones, with their names; nameless ones are called by their place."""
        return [(index, name or f"column_{index + 1}") for index, name in enumerate(self.names) if index not in taken]


@dataclass(frozen=True, slots=True)
class Headless:
    """A list without a header: one recipient a line.  delimiter: what may trail behind it."""

    delimiter: str


def read_header(lines: Lines, name: str, *, wanted: Sequence[str]) -> Header | Headless:
    """The header, read and passed, or Headless, with the first line still to come.

    Raises: UsageError on a first line that cannot be read, has two columns of one name, or too many columns.
    """
    delimiter = None
    for line in lines:
        if not isinstance(line, str):
            raise UsageError(f"the first line of {name} cannot be read: {line.reason}")
        if not line.strip():
            continue
        marked = re.fullmatch(r'"?sep=(.)"?', line.strip(" \ufeff"), re.IGNORECASE)  # what Excel writes above a table
        if marked:
            delimiter = marked[1]
            continue
        delimiter = delimiter or find_delimiter(line, wanted)
        return _as_header(lines, line, delimiter, name, wanted)
    return Headless(",")


def _as_header(lines: Lines, line: str, delimiter: str, name: str, wanted: Sequence[str]) -> Header | Headless:
    number = lines.number
    cells = split_line(line, delimiter)
    if not any(normalise_name(cell) in wanted for cell in cells):
        filled = [cell for cell in cells if cell.strip()]
        if len(filled) <= 1:
            lines.give_back([line])
            return Headless(delimiter)
        return Header(delimiter, [clean_name(cell) for cell in cells], number)
    if len(cells) > COLUMN_LIMIT:
        raise UsageError(f"{name} has {len(cells):,} columns", hint=f"keep those you need, {COLUMN_LIMIT:,} at most")
    names = [clean_name(cell) for cell in cells]
    for index, column in enumerate(names):
        if column and column in names[:index]:
            raise UsageError(f"{name} has two columns named '{show_text(column)}'", hint="rename or remove one of them")
    while names and not names[-1]:  # the empty columns a spreadsheet appends
        names.pop()
    return Header(delimiter, names, number)


def clean_name(name: str) -> str:
    # A blank that does not break counts as not printable, and parts words as any other.
    visible = "".join(
        " " if character.isspace() else character if character.isprintable() else "" for character in name
    )
    return unguard(unicodedata.normalize("NFC", visible).strip())


def no_recipient_column(header: Header, name: str) -> UsageError:
    if sum(map(str.isdigit, "".join(header.names))) >= 7:
        return UsageError(
            f"{name} has several columns and no header that names them",
            hint="begin the file with a line such as recipient,name; or leave one recipient on each line",
        )
    columns = ", ".join(f"'{show_text(column, limit=30)}'" for column in header.names[:6])
    return UsageError(
        f"{name} has no column for recipients: line {header.line} has {columns}",
        hint=f"name one of them {', '.join(RECIPIENT_COLUMNS[:-1])} or {RECIPIENT_COLUMNS[-1]}",
    )


def read_attributes(cells: list[str], columns: list[tuple[int, str]]) -> dict[str, str]:
    attributes = {}
    count = len(cells)
    for index, name in columns:
        if index < count and (value := cells[index].strip()):
            attributes[name] = unguard(value) if value[0] == "'" else value
    return attributes


# Writing

# What a spreadsheet would run as a formula, in half and full width, behind any blanks and guards.
_LIVE = re.compile(r"'*(?:[\t\r\n]|\s*[=+\-@＝＋－＠])")


def guard(value: str) -> str:
    """The value as a spreadsheet shows it and never runs it; `unguard` takes it back."""
    return f"'{value}" if _LIVE.match(value) else value


def _shown_as_text(value: str) -> str:
    return guard(value.strip())  # the reader strips cells: a guard in front of a blank would be left over


def unguard(value: str) -> str:
    return value[1:] if value.startswith("'") and _LIVE.match(value[1:]) else value


def write_recipients(
    rows: Iterable[tuple[str, Mapping[str, str]]],
    out: TextIO,
    *,
    raw: bool = False,
    columns: Sequence[str] | None = None,
) -> int:
    """Write a list as CSV that `read_recipients` reads back the same; returns how many rows.

    rows: addresses with their attributes.  raw: leave away the apostrophes that keep spreadsheets from running cells
    that begin like a formula (which E.164's plus does).  columns: the attributes' names, where known, or None: then
    all rows pass through an unnamed temporary file first, since the header needs the names of all.
    """
    if columns is not None:
        return _write(rows, out, columns, raw=raw)
    names: dict[str, None] = {}
    with tempfile.SpooledTemporaryFile(max_size=8 * 1024 * 1024, mode="w+", encoding="utf-8") as spool:
        for address, attributes in rows:
            names.update(dict.fromkeys(attributes))
            spool.write(json.dumps([address, dict(attributes)]) + "\n")
        spool.seek(0)
        return _write(((line[0], line[1]) for line in map(json.loads, spool)), out, list(names), raw=raw)


def _write(rows: Iterable[tuple[str, Mapping[str, str]]], out: TextIO, columns: Sequence[str], *, raw: bool) -> int:
    shield = str if raw else _shown_as_text
    writer = csv.writer(out, lineterminator="\n")
    # A second column of that name would be refused on the way back.
    titles = [f"{name}_" if normalise_name(name) == "recipient" else name for name in columns]
    writer.writerow(["recipient", *map(shield, titles)])
    count = 0
    for address, attributes in rows:
        writer.writerow([shield(address), *(shield(attributes.get(name, "")) for name in columns)])
        count += 1
    return count
