"""JSON Lines: one object a line, its values as the text that stands there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from wa_cli.domain.fields import normalise_name
from wa_cli.domain.recipient import show_text
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection

    from wa_cli.sources.tables import Lines


def first_character(lines: Lines) -> str:
    """What the first line that is not blank begins with; the lines stay to be read."""
    passed: list[Any] = []
    first = ""
    for line in lines:
        passed.append(line)
        if not isinstance(line, str):
            break
        if line.strip():
            first = line.lstrip()[0]
            break
    lines.give_back(passed)
    return first


def read_object(line: str, known: Collection[str]) -> dict[str, str]:
    """The object of a line, its values as text and its known names in lower case.  Raises: UsageError."""
    try:
        pairs = _DECODER.decode(line)
    except RecursionError as problem:
        raise UsageError("the JSON is nested too deeply") from problem
    except ValueError as problem:
        place = f" at character {problem.pos + 1}" if isinstance(problem, json.JSONDecodeError) else ""
        raise UsageError(f"not a JSON object{place}", hint="write one object a line, in double quotes") from problem
    if not isinstance(pairs, _Pairs):
        raise UsageError("not a JSON object", hint='write {"recipient": "+6581234567", "message": "Hello"}')
    row: dict[str, str] = {}
    for written, value in pairs:
        plain = normalise_name(written)
        name = plain if plain in known else written.strip()
        if name in row:
            raise UsageError(f"'{show_text(written, limit=30)}' stands there twice")
        if isinstance(value, str):
            row[name] = value
        elif isinstance(value, bool) and name not in known:
            row[name] = "true" if value else "false"
        elif value is not None:
            raise UsageError(f"'{show_text(written, limit=30)}' is not text", hint="put the value in double quotes")
    # The line itself has been decoded and holds neither: only an escape can bring them in.
    for value in (*row, *row.values()) if "\\u" in line else ():
        if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise UsageError(
                "a value holds half a character or a NUL", hint="write the text as UTF-8, not as \\u escapes"
            )
    return row


class _Pairs(list[tuple[str, Any]]):
    """An object's names and values as they stand, repeated names included."""


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


# Numbers stay as written: 9.19877E+11 would come back with digits that nobody typed.  One decoder for all lines:
# making one takes as long as a line.
_DECODER = json.JSONDecoder(object_pairs_hook=_Pairs, parse_constant=_refuse_constant, parse_float=str, parse_int=str)
