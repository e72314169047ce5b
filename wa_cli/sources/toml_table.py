"""The tables of a TOML file, read key by key, with everything that is wrong collected on the way.

Nothing raises: a value that cannot be taken is noted with file, line and key, and something harmless stands in for it,
so that one reading finds all that there is to put right.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from wa_cli.domain.recipient import show_text
from wa_cli.errors import UsageError
from wa_cli.sources.recipients import explain

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from typing import TypeVar

    from wa_cli.sources.toml_lines import Place

    Found = TypeVar("Found")


@dataclass(slots=True)
class Mistakes:
    """What is wrong in one file.  lines: where its keys stand."""

    file: str
    lines: Mapping[Place, int]
    found: list[tuple[int, str]] = field(default_factory=list)

    def note(self, place: Place, problem: str, *, below: int = 0) -> None:
        """below: how many lines under the key."""
        at = place
        while at not in self.lines:
            at = at[:-1]
        where = _name_place(place)
        line = self.lines[at] + below
        self.found.append((line, f"{self.file}:{line}: {f'{where}: ' if where else ''}{problem}"))

    def value_as_text(self, place: Place, value: object) -> str | None:
        """A text, or a whole number as one."""
        if isinstance(value, str):
            if problem := find_broken_letter(value):
                self.note(place, problem)
                return None
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        self.note(place, f"must be a text in quotes, and is {describe_value(value)}")
        return None

    def tell(self) -> list[str]:
        """One line for each, in the order of the file."""
        return list(dict.fromkeys(text for _line, text in sorted(self.found, key=lambda found: found[0])))


def _name_place(place: Place) -> str:
    """`[schedule] at`, `[[variant]] text`, `[audience] any_of, item 2, file`."""
    if not place:
        return ""
    if len(place) == 1:
        return show_text(str(place[0]))
    head = f"[[{place[0]}]]" if isinstance(place[1], int) and place[0] == "variant" else f"[{place[0]}]"
    rest = place[2:] if head.startswith("[[") else place[1:]
    words = [f"item {part + 1}" if isinstance(part, int) else show_text(part) for part in rest]
    return f"{head} {', '.join(words)}".rstrip()


def describe_value(value: object) -> str:
    """A value as a mistake names it, with its type in plain words."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f"the text '{show_text(value, limit=40)}'"
        case int() | float():
            return f"the number {show_text(str(value), limit=40)}"
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return f"the date or time {value}"


class Table:
    """One table of the file.  What is asked for and is not there, or cannot be taken, comes back as the default."""

    def __init__(self, values: Mapping[str, Any], place: Place, mistakes: Mistakes) -> None:
        self.values = values
        self.place = place
        self.mistakes = mistakes

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def note(self, key: str | None, problem: str) -> None:
        """key: None for the table as a whole."""
        self.mistakes.note(self.place if key is None else (*self.place, key), problem)

    def refuse_unknown(self, known: Collection[str], elsewhere: Mapping[str, str]) -> None:
        """Note every key that has no meaning here.  elsewhere: where a key belongs that is known, but not here."""
        for key in self.values:
            if key in known:
                continue
            near = get_close_matches(key.lower(), known, n=1, cutoff=0.7)
            if near:
                advice = f"did you mean '{near[0]}'?"
            elif key in elsewhere:
                advice = elsewhere[key]
            else:
                advice = f"what may stand here: {', '.join(sorted(known))}"
            self.note(key, f"there is no such key; {advice}")

    def text(self, key: str, *, example: str, takes_times: bool = False) -> str | None:
        """A text that is not blank, or None.  takes_times: a date or time that was written without quotes is one."""
        value = self.values.get(key)
        if value is None:
            return None
        if takes_times and isinstance(value, dt.datetime | dt.date | dt.time):
            return value.isoformat(*((" ",) if isinstance(value, dt.datetime) else ()))
        if not isinstance(value, str):
            self.note(key, f"must be a text in quotes, such as {example}, and is {describe_value(value)}")
            return None
        if not value.strip():
            self.note(key, f"is empty; write it like {example}, or leave the line out")
            return None
        if problem := find_broken_letter(value):
            self.note(key, problem)
            return None
        return value

    def parsed(
        self, key: str, parse: Callable[[str], Found], *, example: str, takes_times: bool = False
    ) -> Found | None:
        """A text that `parse` understands, or None.  parse raises UsageError."""
        text = self.text(key, example=example, takes_times=takes_times)
        return None if text is None else self.attempt(key, parse, text)

    def attempt(self, key: str, parse: Callable[[str], Found], text: str) -> Found | None:
        try:
            return parse(text)
        except UsageError as error:
            self.note(key, explain(error))
            return None

    def choice(self, key: str, choices: Collection[str], default: str) -> str:
        value = self.values.get(key)
        if value is None:
            return default
        if isinstance(value, str) and value in choices:
            return value
        options = ", ".join(f'"{choice}"' for choice in choices)
        near = get_close_matches(value.lower(), choices, n=1, cutoff=0.6) if isinstance(value, str) else []
        advice = f"; did you mean '{near[0]}'?" if near else ""
        self.note(key, f"must be one of {options}, and is {describe_value(value)}{advice}")
        return default

    def whole(self, key: str, *, least: int, most: int, example: str, why: str = "") -> int | None:
        """A whole number within its bounds, or None.  why: what to add where it lies outside."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            quoted = isinstance(value, str) and value.strip().lstrip("-").isdigit()
            advice = "; leave the quotes away" if quoted else ""
            self.note(key, f"must be a whole number, such as {example}, and is {describe_value(value)}{advice}")
            return None
        if not least <= value <= most:
            self.note(key, f"is {show_text(str(value), limit=30)} and goes from {least:,} to {most:,}{why}")
            return None
        return value

    def number(self, key: str, *, least: float, most: float, example: str) -> float | None:
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            self.note(key, f"must be a number, such as {example}, and is {describe_value(value)}")
            return None
        if not least <= value <= most:  # not a number is refused here, too
            self.note(key, f"is {show_text(str(value), limit=30)} and goes from {least:g} to {most:g}")
            return None
        return float(value)

    def flag(self, key: str) -> bool:
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            self.note(key, f"must be true or false, without quotes, and is {describe_value(value)}")
            return False
        return value

    def table(self, key: str, *, example: str) -> Table | None:
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.note(key, f"must be a table, such as {example}, and is {describe_value(value)}")
            return None
        return Table(value, (*self.place, key), self.mistakes)

    def tables(self, key: str, *, example: str) -> list[Table]:
        """The tables of a list, without what is none."""
        return [
            Table(value, place, self.mistakes)
            for place, value in self.items(key, example=f"[{example}]")
            if self._is_table(place, value, example)
        ]

    def _is_table(self, place: Place, value: object, example: str) -> bool:
        if isinstance(value, dict):
            return True
        self.mistakes.note(place, f"must be a table, such as {example}, and is {describe_value(value)}")
        return False

    def items(self, key: str, *, example: str) -> Iterator[tuple[Place, Any]]:
        """Place and value of each item of a list."""
        value = self.values.get(key)
        if value is None:
            return
        if not isinstance(value, list):
            self.note(key, f"must be a list, such as {example}, and is {describe_value(value)}")
            return
        if not value:
            self.note(key, f"is empty; write it like {example}, or leave the line out")
        for index, item in enumerate(value):
            yield (*self.place, key, index), item

    def texts(self, key: str, *, example: str, takes_times: bool = False) -> list[tuple[Place, str]]:
        """Place and text of each item of a list, without what is no text."""
        found = []
        for place, value in self.items(key, example=example):
            if takes_times and isinstance(value, dt.date | dt.time):
                found.append((place, value.isoformat()))
            elif not isinstance(value, str):
                self.mistakes.note(place, f"must be a text in quotes, and is {describe_value(value)}")
            elif not value.strip():
                self.mistakes.note(place, "is empty")
            elif problem := find_broken_letter(value):
                self.mistakes.note(place, problem)
            else:
                found.append((place, value))
        return found

    def values_as_text(self) -> list[tuple[str, str]]:
        """All keys with their values, which are texts or whole numbers; fit for what fills a message."""
        found = []
        for key, value in self.values.items():
            if (text := self.mistakes.value_as_text((*self.place, key), value)) is not None:
                found.append((key, text))
        return found


def find_broken_letter(text: str) -> str | None:
    # TOML knows no lone surrogates, but it does know \u0000.
    return "holds a NUL character, which no message can carry" if "\x00" in text else None
