"""Batches of recipient and message, from CSV and JSON Lines."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wa_cli.domain.recipient import Recipient, RecipientKind
from wa_cli.errors import UsageError
from wa_cli.sources.batch import BadRow, BatchRow, read_batch

if TYPE_CHECKING:
    from pathlib import Path

GOOD = "+6581234567"
OTHER = "+6581234568"


def read(content: bytes | str, *, format: str | None = None, encoding: str | None = None) -> list[BatchRow | BadRow]:
    raw = content.encode() if isinstance(content, str) else content
    return list(read_batch(io.BytesIO(raw), default_region="SG", format=format, encoding=encoding))


def person(address: str) -> Recipient:
    return Recipient(kind=RecipientKind.PERSON, address=address)


def messages(rows: list[BatchRow | BadRow]) -> list[tuple[str, str]]:
    return [(row.recipient.address, row.message) for row in rows if isinstance(row, BatchRow)]


def reasons(rows: list[BatchRow | BadRow]) -> list[tuple[int, str]]:
    return [(row.line, row.reason) for row in rows if isinstance(row, BadRow)]


def test_a_csv_batch_has_recipients_messages_keys_and_attributes(tmp_path: Path) -> None:
    """Row S4."""
    file = tmp_path / "batch.csv"
    file.write_text(f'Phone,Text,Key,name\n{GOOD},"Hello, ""you""\nthere",order:1,Bob\n81234568,  Hi ,,\n')
    assert list(read_batch(file, default_region="SG")) == [
        BatchRow(
            line=2, recipient=person(GOOD), message='Hello, "you"\nthere', attributes={"name": "Bob"}, key="order:1"
        ),
        BatchRow(line=4, recipient=person(OTHER), message="  Hi ", attributes={}, key=None),
    ]


@pytest.mark.parametrize("name", ["message", "Text", "BODY"])
def test_the_message_may_be_named_in_three_ways(name: str) -> None:
    """Row S4."""
    assert messages(read(f"chat_id;{name}\n6581234567@c.us;Hello\n")) == [(GOOD, "Hello")]
    assert messages(read(json.dumps({"chat_id": "6581234567@c.us", name: "Hello"}))) == [(GOOD, "Hello")]


def test_json_lines_are_told_by_their_first_character() -> None:
    """Row S4."""
    rows = read(
        f'\n{{"recipient": "{GOOD}", "message": "Hi 😀\\nyou", "idempotency_key": "k1", "name": "Bob", "age": 7,'
        f' "vip": true, "none": null}}\r\n\n{{"phone": 6581234568, "body": "x"}}'
    )
    assert messages(rows) == [(GOOD, "Hi 😀\nyou"), (OTHER, "x")]
    assert isinstance(rows[0], BatchRow)
    assert rows[0].key == "k1"
    assert rows[0].attributes == {"name": "Bob", "age": "7", "vip": "true"}
    assert [row.line for row in rows] == [2, 4]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not a JSON object at character 2"),
        ("[1]", "not a JSON object"),
        ('"text"', "not a JSON object"),
        ("x", "not a JSON object at character 1"),
        ("{'recipient': 'x'}", "not a JSON object at character 2"),
        ('{"recipient": "+6581234567"}', "the message is empty"),
        ('{"message": "Hello"}', "the recipient is empty"),
        ('{"recipient": "+6581234567", "message": ""}', "the message is empty"),
        ('{"recipient": "+6581234567", "message": null}', "the message is empty"),
        ('{"recipient": "+6581234567", "message": ["a"]}', "'message' is not text"),
        ('{"recipient": "+6581234567", "message": true}', "'message' is not text"),
        ('{"recipient": {"a": 1}, "message": "x"}', "'recipient' is not text"),
        ('{"recipient": "+6581234567", "message": "x", "list": [1]}', "'list' is not text"),
        ('{"recipient": "+6581234567", "message": "x", "message": "y"}', "'message' stands there twice"),
        ('{"recipient": 9.19877E+11, "message": "x"}', "last digits are lost"),
        ('{"recipient": "+6581234567", "message": "\\ud800"}', "half a character"),
        ('{"recipient": "+6581234567", "message": "a\\u0000"}', "NUL"),
        ('{"recipient": "+6581234567", "message": "x", "n": NaN}', "not a JSON object"),
        ('{"recipient": "+6581234567", "message": "x", "key": "a\\nb"}', "control character"),
        ('{"recipient": "+6581234567", "message": "' + "x" * 70_000 + '"}', "70,000 characters"),
        ("[" * 100_000, "JSON"),
        ('{"recipient": ' + "9" * 5000 + ', "message": "x"}', "too long"),
    ],
)
def test_a_bad_line_of_json_is_a_bad_row_and_the_others_are_read(line: str, reason: str) -> None:
    """Promise P12."""
    good = json.dumps({"recipient": GOOD, "message": "Hello"})
    rows = read(f"{good}\n{line}\n{good}\n")
    assert messages(rows) == [(GOOD, "Hello"), (GOOD, "Hello")]
    [(number, found)] = reasons(rows)
    assert number == 2
    assert reason in found


def test_a_json_array_is_refused_with_the_way_to_lines() -> None:
    with pytest.raises(UsageError, match="one JSON array") as caught:
        read('[{"recipient": "x"}]')
    assert caught.value.hint is not None
    assert "jq -c" in caught.value.hint


def test_the_format_can_be_said_and_must_be_known() -> None:
    assert reasons(read("recipient,message\n", format="jsonl"))[0][0] == 1
    assert messages(read(f'"recipient",message\n{GOOD},"{{x}}"\n', format="csv")) == [(GOOD, "{x}")]
    with pytest.raises(UsageError, match="no format 'xml'"):
        read("x", format="xml")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (f"{GOOD}\n", "no header with a column for recipients"),
        ("name,message\n", "no header with a column for recipients"),
        ("phone,name\n", "no header with a column for messages"),
        ("phone\n", "no header with a column for messages"),
        ("phone,message,message\n", "two columns named 'message'"),
        ("", "is empty"),
        ("\n\n", "no header"),
    ],
)
def test_a_batch_without_its_columns_is_refused(content: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        read(content)


def test_a_row_with_cells_too_few_or_too_many_is_bad_since_its_message_may_be_cut() -> None:
    """Promise P12."""
    rows = read(
        f"phone,message,name\n{GOOD},Hello\n{GOOD},Hello, you,Bob\n{OTHER},Hi,Al\n{OTHER},Hi,\n{OTHER},Hi,Al,\n"
    )
    assert messages(rows) == [(OTHER, "Hi")] * 3
    assert [line for line, _ in reasons(rows)] == [2, 3]
    assert all("cells where the header has 3" in reason for _, reason in reasons(rows))


def test_a_message_keeps_what_looks_like_a_formula_or_a_guard() -> None:
    assert messages(read(f"phone,message\n{GOOD},'=1+1\n{GOOD},=1\n")) == [(GOOD, "'=1+1"), (GOOD, "=1")]


def test_an_empty_message_is_a_bad_row() -> None:
    assert reasons(read(f'phone,message\n{GOOD},\n{GOOD},"  \n "\n')) == [
        (2, "the message is empty"),
        (3, "the message is empty"),
    ]


def test_a_batch_in_another_encoding_is_refused_until_it_is_said() -> None:
    """Fault 81."""
    content = f"phone,message\n{GOOD},Größe\n".encode("cp1252")
    with pytest.raises(UsageError, match="not UTF-8"):
        read(content)
    assert messages(read(content, encoding="cp1252")) == [(GOOD, "Größe")]


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(alphabet='{}[]":,\\u0d8 recipntmsag+6581234567\n', max_size=120),
        st.dictionaries(st.text(max_size=9), st.text(max_size=9) | st.integers() | st.none() | st.floats()).map(
            json.dumps
        ),
    )
)
def test_any_line_of_json_is_a_row_or_a_bad_row(text: str) -> None:
    """Promise P12."""
    rows = read('{"recipient": "+6581234567", "message": "x"}\n' + text, format="jsonl")
    assert messages(rows)[0] == (GOOD, "x")
    assert all(row.text.isprintable() and row.reason.isprintable() for row in rows if isinstance(row, BadRow))
