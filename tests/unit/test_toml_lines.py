"""The line of every key of a TOML text.  Issue 5, point 1."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wa_cli.sources.toml_lines import find_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wa_cli.sources.toml_lines import Place

TEXT = """\
# A comment with = [and] brackets
title = "x = [1]"   # = 'not a key'

a.b . "c.d" = '# no comment'
long = \"\"\"
[no.table]
key = "\\\"\\\"\\\""
\"\"\"
'odd key' = '''x'''''
list = [
    1, # one
    [2,
     3], { x = 1, y.z = [
        4] },
]
when = 1979-05-27 07:32:00-07:00
[ table . inner ]
k = -1e5
[[item]]
n = 1
[[item]]

n = 2
[item.sub]
m = { } # empty
[[item.deep]]
[[item.deep]]
o = ["]", '}', ]
[table]
late = inf
"""


def test_lines_are_found_whatever_stands_in_texts_and_comments() -> None:
    lines = find_lines(TEXT)
    assert tomllib.loads(TEXT)
    expected: dict[Place, int] = {
        ("title",): 2,
        ("a",): 4,
        ("a", "b", "c.d"): 4,
        ("long",): 5,
        ("odd key",): 9,
        ("list",): 10,
        ("list", 0): 11,
        ("list", 1): 12,
        ("list", 1, 1): 13,
        ("list", 2): 13,
        ("list", 2, "y", "z"): 13,
        ("list", 2, "y", "z", 0): 14,
        ("when",): 16,
        ("table", "inner"): 17,
        ("table", "inner", "k"): 18,
        ("item",): 19,
        ("item", 0, "n"): 20,
        ("item", 1): 21,
        ("item", 1, "n"): 23,
        ("item", 1, "sub"): 24,
        ("item", 1, "sub", "m"): 25,
        ("item", 1, "deep", 0): 26,
        ("item", 1, "deep", 1): 27,
        ("item", 1, "deep", 1, "o", 1): 28,
        ("table",): 29,
        ("table", "late"): 30,
    }
    assert {place: lines.get(place) for place in expected} == expected


def test_line_ends_of_windows_count_once() -> None:
    assert find_lines(TEXT.replace("\n", "\r\n")) == find_lines(TEXT)


def list_places(value: Any, place: Place = ()) -> Iterator[Place]:
    yield place
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from list_places(part, (*place, key))


class Writer:
    """Writes values as TOML in the ways that are drawn, and keeps the line of everything it writes."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.text = ""
        self.lines: dict[Place, int] = {}

    @property
    def line(self) -> int:
        return self.text.count("\n") + 1

    def space(self, *, may_break: bool) -> None:
        kinds = ["", " ", "\t"] + (["\n", " # a ] } = ' \" comment\n", "\n\n  "] if may_break else [])
        self.text += self.draw(st.sampled_from(kinds))

    def key(self, name: str) -> None:
        bare = name.isascii() and name.replace("_", "a").replace("-", "a").isalnum()
        kinds = [json.dumps(name)] + ([name] if bare else []) + ([f"'{name}'"] if "'" not in name else [])
        self.text += self.draw(st.sampled_from(kinds))

    def value(self, value: Any, place: Place, *, is_flat: bool) -> None:
        """is_flat: inside an inline table, which stands on one line but for what is inside lists and texts."""
        if isinstance(value, str):
            kinds = [json.dumps(value), '"""' + json.dumps(value)[1:-1].replace("\\n", "\n") + '"""']
            if "'" not in value:
                kinds += [f"'''\n{value}'''"] + ([f"'{value}'"] if "\n" not in value else [])
            self.text += self.draw(st.sampled_from(kinds))
        elif isinstance(value, list):
            self.text += "["
            for index, item in enumerate(value):
                self.space(may_break=True)
                self.lines[(*place, index)] = self.line
                self.value(item, (*place, index), is_flat=False)
                self.space(may_break=True)
                self.text += "," if index < len(value) - 1 else self.draw(st.sampled_from(["", ","]))
            self.space(may_break=True)
            self.text += "]"
        elif isinstance(value, dict):
            self.text += "{"
            for index, (name, item) in enumerate(value.items()):
                self.text += ", " if index else " "
                self.pair(name, item, place)
            self.text += " }"
        else:
            self.text += str(value).lower()

    def pair(self, name: str, value: Any, place: Place) -> None:
        place = (*place, name)
        self.lines[place] = self.line
        self.key(name)
        while isinstance(value, dict) and len(value) == 1 and self.draw(st.booleans()):  # a dotted key
            ((name, value),) = value.items()
            self.text += self.draw(st.sampled_from([".", " . "]))
            place = (*place, name)
            self.lines[place] = self.line
            self.key(name)
        self.text += self.draw(st.sampled_from(["=", " = "]))
        self.value(value, place, is_flat=False)

    def table(self, values: dict[str, Any], place: Place, names: tuple[str, ...]) -> None:
        below = []
        for name, value in values.items():
            is_table = isinstance(value, dict) and self.draw(st.booleans())
            are_tables = isinstance(value, list) and value and all(isinstance(item, dict) for item in value)
            if is_table or (are_tables and self.draw(st.booleans())):
                below.append((name, value))
                continue
            self.space(may_break=True)
            self.pair(name, value, place)
            self.text += self.draw(st.sampled_from(["\n", " # done\n", "\n\n"]))
        for name, value in below:
            for index, item in enumerate(value if isinstance(value, list) else [value]):
                inner = (*place, name)
                self.lines.setdefault(inner, self.line)
                self.text += "[["[: 2 if isinstance(value, list) else 1]
                for step, part in enumerate((*names, name)):
                    self.text += "." if step else ""
                    self.key(part)
                self.text += "]]"[: 2 if isinstance(value, list) else 1] + "\n"
                if isinstance(value, list):
                    inner = (*inner, index)
                    self.lines[inner] = self.line - 1
                self.table(item, inner, (*names, name))


NAMES = st.one_of(
    st.from_regex(r"[a-z0-9_-]{1,4}", fullmatch=True), st.text(st.sampled_from("aé .'\"=[]#{}"), max_size=4)
)
WORDS = st.text(st.sampled_from("ab'\"#=[]{},\n\\ é"), max_size=6).filter(lambda text: not text.startswith("\n"))
VALUES = st.recursive(
    st.one_of(WORDS, st.integers(-9, 9), st.booleans()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(NAMES, VALUES, max_size=5), st.data())
def test_every_line_is_right_however_the_file_is_written(values: dict[str, Any], data: st.DataObject) -> None:
    """Issue 5, point 1: a property."""
    writer = Writer(data.draw)
    writer.table(values, (), ())
    assert tomllib.loads(writer.text) == values
    lines = find_lines(writer.text)
    assert {place: lines[place] for place in writer.lines} == writer.lines
    assert set(lines) == set(list_places(values))


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment", "a = 1", "[a]"])
def test_short_files_have_lines_too(text: str) -> None:
    assert find_lines(text)[()] == 1
