"""Batches: rows of recipient and message, from CSV or JSON Lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from wa_cli.domain.recipient import InvalidRecipient, Recipient, parse_recipient, parse_region, show_text
from wa_cli.errors import UsageError
from wa_cli.sources.json_lines import first_character, read_object
from wa_cli.sources.recipients import (
    RECIPIENT_COLUMNS,
    Headless,
    explain,
    read_attributes,
    read_header,
)
from wa_cli.sources.tables import CELL_LIMIT, BadRow, Lines, bad_row, open_lines, read_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["BadRow", "BatchRow", "read_batch"]

MESSAGE_COLUMNS = ("message", "text", "body")
KEY_COLUMNS = ("key", "idempotency_key")
KNOWN = frozenset((*RECIPIENT_COLUMNS, *MESSAGE_COLUMNS, *KEY_COLUMNS))


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRow:
    """One message of a batch.

    line: where the row begins, from 1.  message: as it stands, line ends as newlines.
    attributes: the other columns, without the blank ones.  key: the caller's idempotency key, or None.
    """

    line: int
    recipient: Recipient
    message: str
    attributes: Mapping[str, str]
    key: str | None


def read_batch(
    source: Path | BinaryIO, *, default_region: str | None, encoding: str | None = None, format: str | None = None
) -> Iterator[BatchRow | BadRow]:
    """The rows of a batch in their order, good and bad, read as they are asked for.

    Needs a column for the recipient as `read_recipients` does and one named message, text or body; key or
    idempotency_key is the caller's key.  JSON Lines has one object a line with the same names.  Every row of a CSV
    must have as many cells as the header: a short one is a message cut by its own line end.
    format: `csv`, `jsonl`, or None to tell by the first character.
    Raises: UsageError, with the first row or later, as `read_recipients` does.
    Source: row S4.
    """
    if format not in {None, "csv", "jsonl"}:
        raise UsageError(f"there is no format '{show_text(str(format))}'", hint="formats are csv and jsonl")
    region = parse_region(default_region)
    with open_lines(source, encoding) as (lines, name):
        first = first_character(lines)
        if first == "[" and format != "csv":
            raise UsageError(
                f"{name} is one JSON array", hint="write one object a line: jq -c '.[]' FILE | wa send batch -"
            )
        if format == "jsonl" or (format is None and first == "{"):
            yield from _read_json_lines(lines, region)
        else:
            yield from _read_csv(lines, name, region)


def _read_csv(lines: Lines, name: str, region: str | None) -> Iterator[BatchRow | BadRow]:
    header = read_header(lines, name, wanted=(*RECIPIENT_COLUMNS, *MESSAGE_COLUMNS))
    who = None if isinstance(header, Headless) else header.find(RECIPIENT_COLUMNS)
    what = None if isinstance(header, Headless) else header.find(MESSAGE_COLUMNS)
    if isinstance(header, Headless) or who is None or what is None:
        missing = "recipients" if who is None else "messages"
        raise UsageError(
            f"{name} has no header with a column for {missing}", hint="begin the file with a line: recipient,message"
        )
    keyed = header.find(KEY_COLUMNS)
    attributes = header.others({who, what} | ({keyed} if keyed is not None else set()))
    width = len(header.names)
    for record in read_records(lines, header.delimiter, single_line_column=who):
        if isinstance(record, BadRow):
            yield record
            continue
        cells = record.cells
        if len(cells) < width or any(map(str.strip, cells[width:])):
            yield bad_row(
                record.line,
                record.text,
                f"{len(cells)} cells where the header has {width}; a text with delimiters or line ends needs quotes",
            )
            continue
        key = cells[keyed].strip() if keyed is not None else ""
        yield _as_row(
            record.line, record.text, cells[who], cells[what], read_attributes(cells, attributes), key or None, region
        )


def _read_json_lines(lines: Lines, region: str | None) -> Iterator[BatchRow | BadRow]:
    for line in lines:
        number = lines.number
        if not isinstance(line, str):
            yield BadRow(line=number, text=line.text, reason=line.reason)
            continue
        if not line.strip():
            continue
        try:
            row = read_object(line, KNOWN)
        except UsageError as error:
            yield bad_row(number, line, explain(error))
            continue
        who = next((row.pop(name) for name in RECIPIENT_COLUMNS if name in row), "")
        what = next((row.pop(name) for name in MESSAGE_COLUMNS if name in row), "")
        key = next((row.pop(name) for name in KEY_COLUMNS if name in row), "").strip()
        attributes = {name: value for name, value in row.items() if value.strip()}
        yield _as_row(number, line, who, what, attributes, key or None, region)


def _as_row(
    line: int,
    text: str,
    who: str,
    message: str,
    attributes: Mapping[str, str],
    key: str | None,
    region: str | None,
) -> BatchRow | BadRow:
    try:
        recipient = parse_recipient(who, default_region=region)
    except InvalidRecipient as error:
        return bad_row(line, text, explain(error))
    if not message.strip():
        return bad_row(line, text, "the message is empty")
    if len(message) > CELL_LIMIT:
        return bad_row(line, text, f"the message has {len(message):,} characters and may have {CELL_LIMIT:,}")
    if key is not None and not key.isprintable():
        return bad_row(line, text, "the key holds a control character")
    return BatchRow(line=line, recipient=recipient, message=message, attributes=attributes, key=key)
