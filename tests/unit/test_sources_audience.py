"""The people of a campaign's files: columns as variables, JSON Lines, memory.  Issue 5, points 2 and 3."""

from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wa_cli.domain.fields import normalise_name
from wa_cli.errors import UsageError
from wa_cli.sources.audience import BadRow, Row, read_audience_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

GOOD = "+6581234567"
OTHER = "+6581234568"


def read(
    folder: Path, content: str, *, name: str = "people.csv", columns: Mapping[str, str] | None = None
) -> list[Row | BadRow]:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return list(read_audience_file(path, columns=columns or {}, default_region="SG"))


def fields_of(rows: list[Row | BadRow]) -> list[Mapping[str, str]]:
    assert all(isinstance(row, Row) for row in rows), rows
    return [row.attributes for row in rows if isinstance(row, Row)]


@pytest.mark.parametrize("written", ["First name", "first-name", "FIRST_NAME", " First\u00a0Name ", "'first name'"])
def test_a_field_has_one_name_however_it_is_written(written: str) -> None:
    """Issue 5, point 2."""
    assert normalise_name(written) == "first_name"


def test_columns_become_variables_in_their_plain_spelling(tmp_path: Path) -> None:
    """Issue 5, point 2."""
    rows = read(tmp_path, f"Phone,First\u00a0Name,,CITY\n{GOOD},Ana,x,Pune\n81234568,Bo,,\n")
    assert fields_of(rows) == [{"first_name": "Ana", "column_3": "x", "city": "Pune"}, {"first_name": "Bo"}]


def test_a_column_fills_the_variable_that_it_is_mapped_to(tmp_path: Path) -> None:
    """Issue 5, point 2."""
    rows = read(
        tmp_path,
        f"phone,Name,Vorname\n{GOOD},Tan,Ana\n{OTHER},Lim,\n",
        columns={"name": "vorname", "family": "Name"},
    )
    assert fields_of(rows) == [{"name": "Ana", "family": "Tan"}, {"family": "Lim"}]


def test_one_column_may_fill_two_variables_and_a_variable_hides_a_column_of_its_name(tmp_path: Path) -> None:
    rows = read(tmp_path, f"phone,Name,Call\n{GOOD},Tan,Ana\n", columns={"name": "Call", "short": "Call"})
    assert fields_of(rows) == [{"name": "Ana", "short": "Ana"}]


def test_any_column_can_be_the_recipients(tmp_path: Path) -> None:
    rows = read(tmp_path, f"Phone;Mobile\nnone;{GOOD}\n", columns={"recipient": "mobile", "seen_as": "Mobile"})
    assert [row.recipient.address for row in rows if isinstance(row, Row)] == [GOOD]
    assert fields_of(rows) == [{"phone": "none", "seen_as": GOOD}]


def test_a_plain_list_has_nobodys_fields(tmp_path: Path) -> None:
    assert fields_of(read(tmp_path, f"{GOOD}\n{OTHER}\n", name="people.txt")) == [{}, {}]


@pytest.mark.parametrize("name", ["people.jsonl", "people.NDJSON", "people.csv"])
def test_json_lines_has_an_object_a_line(tmp_path: Path, name: str) -> None:
    """Issue 5, point 1."""
    content = (
        json.dumps({"Phone": GOOD, "First name": " Ana ", "seats": 2, "vip": True, "city": None})
        + "\n\n"
        + json.dumps({"recipient": "8123 4568", "first_name": "Bo"})
    )
    rows = read(tmp_path, content, name=name, columns={"call": "first-name"})
    assert fields_of(rows) == [{"seats": "2", "vip": "true", "call": "Ana"}, {"call": "Bo"}]
    assert [row.line for row in rows] == [1, 3]


def test_bad_rows_cost_themselves_alone(tmp_path: Path) -> None:
    """Promise P12."""
    lines = [
        '{"phone": "12"}',
        "nonsense",
        '["phone"]',
        '{"phone": "' + GOOD + '", "a b": "1", "A-B": "2"}',
        '{"name": "nobody"}',
        '{"phone": "' + GOOD + '", "tags": ["x"]}',
        '{"phone": "' + GOOD + '", "name": "\\ud800"}',
        '{"phone": "' + GOOD + '"}',
    ]
    rows = read(tmp_path, "\n".join(lines), name="people.jsonl")
    assert [row.line for row in rows if isinstance(row, BadRow)] == [1, 2, 3, 4, 5, 6, 7]
    assert "capitals and blanks" in rows[3].reason  # type: ignore[union-attr]
    assert isinstance(rows[7], Row)
    rows = read(tmp_path, f"phone,name\n12,A\n{GOOD},B\n{OTHER},C,D\n")
    assert [type(row) for row in rows] == [BadRow, Row, BadRow]


@pytest.mark.parametrize(
    ("content", "columns", "message", "hint"),
    [
        ("phone,First name\n1,2\n", {"name": "Frist name"}, "no column 'Frist name'", "did you mean 'First name'?"),
        ("phone,a\n1,2\n", {"name": "zzzz"}, "no column 'zzzz'", "its columns are 'phone', 'a'"),
        ("phone,a\n1,2\n", {"recipient": "mobile"}, "no column 'mobile'", "its columns are 'phone', 'a'"),
        ("Handy,a\n1,2\n", {}, "no column for recipients", 'columns = { recipient = "Mobile" }'),
        (f"{GOOD}\n", {"name": "First name"}, "no header", "recipient,First name"),
        ("phone,First name,first_name\n", {}, "two columns for 'first_name'", "rename one of them"),
        (
            '{"phone": "+6581234567", "vorname": "A"}\n',
            {"name": "vornam"},
            "no column 'vornam'",
            "did you mean 'vorname'?",
        ),
        ('[{"phone": 1}]', {}, "one JSON array", "jq -c"),
    ],
)
def test_a_column_that_is_not_there_is_told_with_the_nearest(
    tmp_path: Path, content: str, columns: dict[str, str], message: str, hint: str
) -> None:
    """Issue 5, point 2."""
    name = "people.jsonl" if content[0] in "[{" else "people.csv"
    with pytest.raises(UsageError) as caught:
        read(tmp_path, content, name=name, columns=columns)
    assert message in caught.value.message
    assert hint in str(caught.value.hint)


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(
            lambda name: name not in ("recipient", "phone", "number", "chat_id", "group_id")
        ),
        st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8),
        max_size=4,
    )
)
def test_json_lines_keep_every_value(tmp_path_factory: pytest.TempPathFactory, values: dict[str, str]) -> None:
    folder = tmp_path_factory.mktemp("audience", numbered=True)
    rows = read(folder, json.dumps({"phone": GOOD, **values}) + "\n", name="people.jsonl")
    assert fields_of(rows) == [{name: text.strip() for name, text in values.items() if text.strip()}]


@pytest.mark.parametrize("name", ["people.csv", "people.jsonl"])
def test_a_long_list_takes_no_more_memory_than_a_short_one(tmp_path: Path, name: str) -> None:
    """Issue 5, point 3."""
    path = tmp_path / name
    with path.open("w", encoding="utf-8") as out:
        if name.endswith(".csv"):
            out.write("phone,First name,city\n")
        for index in range(8_000):
            number = f"+6581{index:06d}"
            row = {"phone": number, "First name": f"P{index}", "city": "Pune"}
            out.write(json.dumps(row) + "\n" if name.endswith(".jsonl") else f"{number},P{index},Pune\n")
    tracemalloc.start()
    try:
        count = sum(1 for _row in read_audience_file(path, columns={"name": "First name"}, default_region=None))
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 8_000
    assert peak < 3 * 1024 * 1024  # kept, the rows would take several times that
