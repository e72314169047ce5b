"""The people of a campaign's files: CSV, plain lists and JSON Lines, with their columns named as variables."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from wa_cli.domain.fields import normalise_name
from wa_cli.domain.recipient import parse_recipient, parse_region, show_text
from wa_cli.errors import UsageError
from wa_cli.sources.json_lines import first_character, read_object
from wa_cli.sources.recipients import (
    RECIPIENT_COLUMNS,
    Header,
    Headless,
    Row,
    explain,
    no_recipient_column,
    read_header,
    read_plain,
    read_table,
)
from wa_cli.sources.tables import COLUMN_LIMIT, BadRow, bad_row, open_lines

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from wa_cli.sources.tables import Lines

__all__ = ["BadRow", "Row", "read_audience_file"]

JSON_ENDINGS: Final = frozenset((".jsonl", ".ndjson"))


def read_audience_file(
    path: Path, *, columns: Mapping[str, str], default_region: str | None, encoding: str | None = None
) -> Iterator[Row | BadRow]:
    """The people of a file in its order, good rows and bad, read as they are asked for.

    As `read_recipients`, or, in a file that ends in .jsonl or .ndjson or begins with a brace, an object a line with the
    same names.  All names are as `normalise_name` makes them, so that they can be variables.
    columns: variable and the column that fills it, for those that are called otherwise; `recipient` is one of them.
    Raises: UsageError, with the first row or later, as `read_recipients` does; also for a column that is not there,
    with the nearest that is (of JSON Lines after the last row), and for two columns of one name.
    """
    region = parse_region(default_region)
    named = {variable: normalise_name(column) for variable, column in columns.items()}
    who = named.pop("recipient", None)
    wanted = (who,) if who is not None else RECIPIENT_COLUMNS
    with open_lines(path, encoding) as (lines, name):
        first = first_character(lines)
        if path.suffix.lower() in JSON_ENDINGS or first == "{":
            if first == "[":
                raise UsageError(f"{name} is one JSON array", hint="write one object a line: jq -c '.[]' FILE")
            yield from _read_json_lines(lines, name, wanted, named, columns, region)
            return
        header = read_header(lines, name, wanted=wanted)
        if isinstance(header, Headless):
            if columns:
                raise UsageError(
                    f"{name} has no header that names its columns",
                    hint=f"begin the file with a line such as recipient,{next(iter(columns.values()))}",
                )
            yield from read_plain(lines, header.delimiter, region)
            return
        column = header.find(wanted)
        if column is None:
            if who is not None:
                raise _no_column(name, columns["recipient"], header.names)
            error = no_recipient_column(header, name)
            raise UsageError(
                error.message, hint='name one of them recipient, or say which it is: columns = { recipient = "Mobile" }'
            )
        yield from read_table(lines, header, column, _choose_columns(header, name, column, named, columns), region)


def _choose_columns(
    header: Header, name: str, column: int, named: Mapping[str, str], columns: Mapping[str, str]
) -> list[tuple[int, str]]:
    """Place and variable of every column that is kept.  A column that fills a variable goes by that name alone."""
    places: dict[str, int] = {}
    for place, title in header.others({column}):
        field = normalise_name(title) or f"column_{place + 1}"
        if field in places:
            both = f"'{show_text(header.names[places[field]], limit=30)}' and '{show_text(title, limit=30)}'"
            raise UsageError(f"{name} has two columns for '{show_text(field)}': {both}", hint="rename one of them")
        places[field] = place
    places_of_all = places | {normalise_name(header.names[column]): column}
    for variable, field in named.items():
        if field not in places_of_all:
            raise _no_column(name, columns[variable], header.names)
    taken = set(named.values())
    kept = {field: place for field, place in places.items() if field not in taken}
    kept |= {variable: places_of_all[field] for variable, field in named.items()}
    return [(place, field) for field, place in kept.items()]


def _read_json_lines(
    lines: Lines,
    name: str,
    wanted: Sequence[str],
    named: Mapping[str, str],
    columns: Mapping[str, str],
    region: str | None,
) -> Iterator[Row | BadRow]:
    taken = set(named.values())
    missing = dict(named)  # variables whose column has not been seen yet
    seen: dict[str, None] = {}
    for line in lines:
        number = lines.number
        if not isinstance(line, str):
            yield BadRow(line=number, text=line.text, reason=line.reason)
            continue
        if not line.strip():
            continue
        try:
            found = _make_names_alike(read_object(line, wanted))
            address = next((found[field] for field in wanted if field in found), "")
            recipient = parse_recipient(address, default_region=region)
        except UsageError as error:
            yield bad_row(number, line, explain(error))
            continue
        if missing:
            missing = {variable: field for variable, field in missing.items() if field not in found}
            if len(seen) < COLUMN_LIMIT:
                seen |= dict.fromkeys(found)
        attributes = {
            field: value.strip()
            for field, value in found.items()
            if field not in taken and field not in wanted and value.strip()
        }
        for variable, field in named.items():
            attributes.pop(variable, None)
            if value := found.get(field, "").strip():
                attributes[variable] = value
        yield Row(line=number, recipient=recipient, attributes=attributes)
    if missing and seen:
        raise _no_column(name, columns[next(iter(missing))], seen)


def _make_names_alike(found: Mapping[str, str]) -> dict[str, str]:
    alike = {normalise_name(written): value for written, value in found.items()}
    if len(alike) < len(found):
        raise UsageError("two of its names are the same but for capitals and blanks", hint="rename one of them")
    return alike


def _no_column(name: str, column: str, known: Collection[str]) -> UsageError:
    by_name = {normalise_name(title): title for title in known if title}
    near = get_close_matches(normalise_name(column), by_name, n=1, cutoff=0.5)
    shown = ", ".join(f"'{show_text(title, limit=30)}'" for title in list(by_name.values())[:6])
    return UsageError(
        f"{name} has no column '{show_text(column)}'",
        hint=f"did you mean '{show_text(by_name[near[0]])}'?" if near else f"its columns are {shown}",
        code="no_column",
    )
