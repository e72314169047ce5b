"""Where each key of a TOML text stands: the line numbers that `tomllib` keeps to itself.

The text has been read by `tomllib` before, so that what stands here can trust its grammar and look at nothing but
names, brackets and the ends of values.  That is a page of code; the libraries that keep positions bring a document
model of their own, or give no lines at all.
"""

from __future__ import annotations

import re
import tomllib
from typing import TypeAlias

Place: TypeAlias = "tuple[str | int, ...]"

_PART = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*'""")
_SCALAR = re.compile(r"[^\s,\]}#]+(?: \d[\d:.]*(?:Z|z|[+-]\d\d:\d\d)?)?")  # the blank is of a date and its time
_BLANK = re.compile(r"[ \t]*")
_SPACE = re.compile(r"(?:\s|#[^\n]*)*")
_LONG_TEXT = re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}' + r"|'''.*?'{3,5}", re.DOTALL)


def find_lines(text: str) -> dict[Place, int]:
    """The line of every table, key and item, by its place: `("variant", 0, "buttons", 1, "index")`.

    text: sound TOML.  A table is where its header stands, or the first key that goes through it; an item where its
    value begins.  Lines count from 1.
    """
    return _Scanner(text.replace("\r\n", "\n")).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._counted = 0  # how far lines have been counted
        self._lines: dict[Place, int] = {(): 1}
        self._items: dict[Place, int] = {}  # how many tables each array of tables has

    def scan(self) -> dict[Place, int]:
        table: Place = ()
        while True:
            self._skip(_SPACE)
            if self._at >= len(self._text):
                return self._lines
            if self._text[self._at] == "[":
                table = self._read_header()
            else:
                self._read_pair(table)

    def _read_header(self) -> Place:
        is_item = self._text.startswith("[[", self._at)
        self._at += 2 if is_item else 1
        line = self._count()
        parts = self._read_key()
        self._at += 2 if is_item else 1
        place: Place = ()
        for index, part in enumerate(parts):
            place = (*place, part)
            self._lines.setdefault(place, line)
            is_last = index == len(parts) - 1
            if is_last and is_item:
                self._items[place] = self._items.get(place, 0) + 1
            if place in self._items:
                place = (*place, self._items[place] - 1)
                self._lines.setdefault(place, line)
        if not is_item:
            self._lines[place] = line  # its own header, though keys of a table inside it may have come before
        return place

    def _read_pair(self, table: Place) -> None:
        line = self._count()
        place = table
        for part in self._read_key():
            place = (*place, part)
            self._lines.setdefault(place, line)
        self._at += 1  # the equals sign
        self._skip(_BLANK)
        self._read_value(place)

    def _read_key(self) -> list[str]:
        """The parts of a dotted key; what follows it is next."""
        parts = []
        while True:
            self._skip(_BLANK)
            match = _PART.match(self._text, self._at)
            assert match is not None, "tomllib lets no other key through"
            self._at = match.end()
            parts.append(_unquote(match[0]))
            self._skip(_BLANK)
            if not self._text.startswith(".", self._at):
                return parts
            self._at += 1

    def _read_value(self, place: Place) -> None:
        text, at = self._text, self._at
        first = text[at]
        if text.startswith(('"""', "'''"), at):
            self._skip(_LONG_TEXT)
        elif first in "\"'":
            self._skip(_PART)
        elif first == "[":
            self._read_array(place)
        elif first == "{":
            self._read_inline_table(place)
        else:
            self._skip(_SCALAR)

    def _read_array(self, place: Place) -> None:
        self._at += 1
        index = 0
        while True:
            self._skip(_SPACE)
            sign = self._text[self._at]
            if sign == "]":
                self._at += 1
                return
            if sign == ",":
                self._at += 1
                continue
            item = (*place, index)
            self._lines[item] = self._count()
            self._read_value(item)
            index += 1

    def _read_inline_table(self, place: Place) -> None:
        self._at += 1
        while True:
            self._skip(_SPACE)
            sign = self._text[self._at]
            if sign == "}":
                self._at += 1
                return
            if sign == ",":
                self._at += 1
                continue
            self._read_pair(place)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        assert match is not None, "tomllib lets nothing else through"
        self._at = match.end()

    def _count(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line


def _unquote(part: str) -> str:
    if part[0] == "'":
        return part[1:-1]
    return next(iter(tomllib.loads(f"{part} = 0"))) if part[0] == '"' else part
