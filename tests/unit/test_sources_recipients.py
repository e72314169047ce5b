"""Lists of recipients: what is read, what is refused by name, what comes back from an export."""

from __future__ import annotations

import gzip
import io
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wa_cli.domain.recipient import RecipientKind
from wa_cli.errors import UsageError
from wa_cli.sources.recipients import BadRow, Row, read_recipients, write_recipients

GOOD = "+6581234567"
OTHER = "+6581234568"


def read(content: bytes | str, *, region: str | None = None, encoding: str | None = None) -> list[Row | BadRow]:
    raw = content.encode() if isinstance(content, str) else content
    return list(read_recipients(io.BytesIO(raw), default_region=region, encoding=encoding))


def addresses(rows: list[Row | BadRow]) -> list[str]:
    return [row.recipient.address for row in rows if isinstance(row, Row)]


def bad(rows: list[Row | BadRow]) -> list[BadRow]:
    return [row for row in rows if isinstance(row, BadRow)]


def refusal(content: bytes | str, *, encoding: str | None = None) -> UsageError:
    with pytest.raises(UsageError) as caught:
        read(content, encoding=encoding)
    assert caught.value.exit_code == 2
    return caught.value


@pytest.mark.parametrize(
    "column", ["recipient", "Phone", "NUMBER", "chat_id", "Chat ID", "group-id", '"phone"', " phone "]
)
def test_a_header_names_the_column_of_recipients_in_any_case(column: str) -> None:
    rows = read(f"name,{column}\nBob,{GOOD}\n")
    assert addresses(rows) == [GOOD]
    assert isinstance(rows[0], Row)
    assert rows[0].line == 2
    assert rows[0].attributes == {"name": "Bob"}


def test_a_file_without_header_has_one_recipient_a_line() -> None:
    rows = read(f"{GOOD}\n\n  \n120363025246125486@g.us\n'{OTHER}\r\n")
    assert addresses(rows) == [GOOD, "120363025246125486@g.us", OTHER]
    assert [row.line for row in rows] == [1, 4, 5]
    assert [row.recipient.kind for row in rows if isinstance(row, Row)] == [
        RecipientKind.PERSON,
        RecipientKind.GROUP,
        RecipientKind.PERSON,
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_commas_semicolons_and_tabs_part_the_cells(delimiter: str) -> None:
    """Fault 81."""
    rows = read(delimiter.join(("phone", "name", "city")) + "\n" + delimiter.join((GOOD, "Bob", "Ulm")) + "\n")
    assert isinstance(rows[0], Row)
    assert rows[0].attributes == {"name": "Bob", "city": "Ulm"}


def test_the_line_that_excel_writes_above_a_table_names_the_delimiter() -> None:
    rows = read(f"sep=;\nphone;name\n{GOOD};Bob, Junior\n")
    assert isinstance(rows[0], Row)
    assert rows[0].attributes == {"name": "Bob, Junior"}
    assert rows[0].line == 3


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"], ids=lambda name: name
)
def test_utf_8_and_utf_16_are_found_with_and_without_their_marks(encoding: str) -> None:
    """Fault 81."""
    rows = read(f"phone,name\r\n{GOOD},Änne 😀\r\n{OTHER},Ömer\r\n".encode(encoding))
    assert addresses(rows) == [GOOD, OTHER]
    assert [row.attributes for row in rows if isinstance(row, Row)] == [{"name": "Änne 😀"}, {"name": "Ömer"}]


def test_utf_16_with_big_ends_first_is_found_by_its_mark() -> None:
    """Fault 81."""
    rows = read(b"\xfe\xff" + f"phone,name\n{GOOD},Änne\n".encode("utf-16-be"))
    assert isinstance(rows[0], Row)
    assert rows[0].attributes == {"name": "Änne"}


def test_another_encoding_is_refused_by_name_until_it_is_said() -> None:
    """Fault 81."""
    content = f"phone,name\n{GOOD},Bob\n{OTHER},Änne\n".encode("cp1252")
    error = refusal(content)
    assert "not UTF-8: line 3 holds the byte 0xC4" in error.message
    assert error.hint is not None
    assert "--encoding cp1252" in error.hint
    rows = read(content, encoding="cp1252")
    assert isinstance(rows[1], Row)
    assert rows[1].attributes == {"name": "Änne"}


def test_in_a_file_of_good_utf_8_only_the_damaged_rows_are_bad() -> None:
    """Fault 81, promise P12."""
    rows = read(f"phone,name\n{GOOD},Änne\n".encode() + b"+6581234569,\xc4nne\n" + f"{OTHER},Bob\n".encode())
    assert addresses(rows) == [GOOD, OTHER]
    assert [row.line for row in bad(rows)] == [3]
    assert "0xC4 is not utf-8" in bad(rows)[0].reason
    assert "--encoding" in bad(rows)[0].reason


def test_damage_far_inside_a_long_file_costs_its_own_row_only() -> None:
    """Fault 81, promise P12."""
    line = f"{GOOD},Bob\n".encode()
    rows = read(b"phone,name\n" + line * 60_000 + b"+6581234569,\xc4\n" + line * 10)
    assert len(addresses(rows)) == 60_010
    assert [row.line for row in bad(rows)] == [60_002]


def test_a_row_with_half_a_character_of_utf_16_is_bad() -> None:
    """Fault 81."""
    broken = f"phone,name\n{GOOD},".encode("utf-16") + b"\x00\xd8" + f"\n{OTHER},Bob\n".encode("utf-16-le")
    rows = read(broken)
    assert addresses(rows) == [OTHER]
    assert "half a character" in bad(rows)[0].reason


@pytest.mark.parametrize("encoding", ["klingon", "utf-7", "rot13", "base64", "unicode_escape", "idna", "cp037"])
def test_an_encoding_that_is_none_of_text_files_is_refused(encoding: str) -> None:
    assert "is not an encoding" in refusal("phone\n", encoding=encoding).message


def test_an_encoding_against_the_mark_of_the_file_is_refused() -> None:
    assert "mark of utf-16-le" in refusal("phone\n".encode("utf-16"), encoding="cp1252").message
    assert addresses(read(f"phone\n{GOOD}".encode("utf-16"), encoding="utf-16")) == [GOOD]
    assert addresses(read(f"phone\n{GOOD}".encode("utf-16-le"), encoding="utf-16")) == [GOOD]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (gzip.compress(b"phone\n+6581234567\n", mtime=0), "gzip"),
        (b"PK\x03\x04rest", "workbook or a zip"),
        (b"\xd0\xcf\x11\xe0rest", "Excel"),
        (b"%PDF-1.7", "PDF"),
        (b"\x89PNG\r\n", "image"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b'<?xml version="1.0"?><svg/>', "web page or XML"),
        (b"\x80\x81\x82\n", "not UTF-8"),
    ],
)
def test_what_is_no_list_is_refused_by_name(content: bytes, reason: str) -> None:
    error = refusal(content)
    assert reason in error.message
    assert error.hint


def test_files_that_cannot_be_lists_are_refused_without_waiting(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path, reason in (
        (tmp_path / "missing.csv", "there is no file"),
        (tmp_path, "is a directory"),
        (fifo, "a pipe or a device"),
        (Path("/dev/zero"), "a pipe or a device"),
        (tmp_path / "nul\x00name", "cannot be opened"),
        (tmp_path / ("x" * 300), "cannot be opened"),
    ):
        with pytest.raises(UsageError, match=reason):
            list(read_recipients(path, default_region=None))


def test_a_file_is_read_from_disk_through_a_link(tmp_path: Path) -> None:
    file = tmp_path / "people ☺\n.csv"
    file.write_text(f"phone\n{GOOD}\n")
    link = tmp_path / "link.csv"
    link.symlink_to(file)
    assert addresses(list(read_recipients(link, default_region=None))) == [GOOD]


def test_an_open_stream_is_left_open() -> None:
    stream = io.BytesIO(f"{GOOD}\n".encode())
    assert addresses(list(read_recipients(stream, default_region=None))) == [GOOD]
    assert not stream.closed


def test_a_stream_without_line_ends_is_given_up() -> None:
    class Zeros(io.RawIOBase):
        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]  # any writable buffer
            buffer[:] = b"0" * len(buffer)
            return len(buffer)

    with pytest.raises(UsageError, match="no line ends"):
        list(read_recipients(Zeros(), default_region=None))  # type: ignore[arg-type]  # a raw stream reads bytes too


def test_the_default_region_is_checked_before_the_first_row() -> None:
    with pytest.raises(UsageError, match="not a country code"):
        list(read_recipients(io.BytesIO(b"phone\n"), default_region="XX"))
    assert addresses(read("phone\n81234567\n", region="SG")) == [GOOD]


def test_a_bad_row_has_its_line_its_text_and_a_reason_with_a_way_out() -> None:
    """Promise P12."""
    rows = read(f"phone,name\n{GOOD},Bob\n9.19877E+11,E\x1b[31mve\n{OTHER},Al\n")
    assert addresses(rows) == [GOOD, OTHER]
    assert bad(rows) == [
        BadRow(
            line=3,
            text="9.19877E+11,E\\x1b[31mve",
            reason="'9.19877E+11' was shortened by a spreadsheet and its last digits are lost; "
            "format the column as text in the spreadsheet, enter the numbers again and export once more",
        )
    ]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("name,mobile", "no column for recipients"),
        ("phone,name,name", "two columns named 'name'"),
        ("phone,phone", "two columns named 'phone'"),
        ("phone" + ",x" * 10_000, "10,001 columns"),
        (f"{GOOD},Bob", "no header"),
    ],
)
def test_a_header_that_cannot_be_meant_is_refused(header: str, reason: str) -> None:
    error = refusal(f"{header}\n{GOOD},Bob\n")
    assert reason in error.message
    assert error.hint


def test_of_two_columns_of_recipients_the_first_name_on_the_list_is_taken() -> None:
    rows = read(f"number,phone\n17,{GOOD}\n")
    assert isinstance(rows[0], Row)
    assert rows[0].recipient.address == GOOD
    assert rows[0].attributes == {"number": "17"}


def test_nameless_columns_are_called_by_their_place_and_empty_ones_vanish() -> None:
    rows = read(f"phone,,name,,\n{GOOD},x,Bob,,\n{OTHER},,Al\n")
    assert [row.attributes for row in rows if isinstance(row, Row)] == [
        {"column_2": "x", "name": "Bob"},
        {"name": "Al"},
    ]


def test_a_short_row_is_taken_and_a_long_one_is_not() -> None:
    rows = read(f"phone,name,city\n{GOOD}\n{OTHER},Al,Ulm,more\n{OTHER},Al,Ulm,,\n\n,,,\n")
    assert addresses(rows) == [GOOD, OTHER]
    assert [(row.line, row.reason) for row in bad(rows)] == [(3, "4 cells where the header has 3")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_end_counts_as_one(end: str) -> None:
    """Fault 81."""
    rows = read(f"phone,name{end}{GOOD},Bob{end}nobody,x{end}{OTHER},Al")
    assert addresses(rows) == [GOOD, OTHER]
    assert [row.line for row in bad(rows)] == [3]


def test_line_ends_are_found_across_the_blocks_of_a_long_file() -> None:
    """Fault 81."""
    for end in ("\n", "\r\n", "\r"):
        for encoding in ("utf-8", "utf-16"):
            content = f"phone,name{end}" + "".join(f"{GOOD},{'x' * (i % 97)}ä{end}" for i in range(20_000))
            rows = read(content.encode(encoding))
            assert len(rows) == 20_000
            assert not bad(rows)
            assert rows[-1].line == 20_001


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_a_line_end_cut_by_a_block_is_one_line_end(encoding: str) -> None:
    """Fault 81."""
    start = f"phone,name\r{GOOD},"
    width = 2 if encoding == "utf-16-le" else 1
    padding = "x" * (64 * 1024 // width - len(start) - 1)
    rows = read(f"{start}{padding}\r\nnobody\r\n".encode(encoding))
    assert addresses(rows) == [GOOD]
    assert [row.line for row in bad(rows)] == [3]


def test_a_line_end_in_quotes_belongs_to_the_cell() -> None:
    rows = read(f'phone,note\n{GOOD},"one, ""two""\nthree"\n{OTHER},x\n')
    assert isinstance(rows[0], Row)
    assert rows[0].attributes == {"note": 'one, "two"\nthree'}
    assert [row.line for row in rows] == [2, 4]


@pytest.mark.parametrize(
    "damaged",
    [
        f'"{OTHER},Al',
        f'{OTHER},"Al',
        f'{OTHER},"Al" Capone',
        f'"{OTHER}"x,Al',
    ],
)
def test_a_quote_that_is_not_closed_costs_its_own_row_only(damaged: str) -> None:
    """Fault 81, promise P12."""
    for tail in ("", f'{OTHER},"quoted"\n'):
        rows = read(f"phone,name\n{GOOD},Bob\n{damaged}\n{GOOD},Eve\n{GOOD},Ann\n{tail}")
        assert addresses(rows) == [GOOD] * 3 + [OTHER] * bool(tail)
        assert [row.line for row in bad(rows)] == [3]
        assert "quote" in bad(rows)[0].reason


def test_a_quote_that_would_swallow_rows_into_the_recipient_is_not_believed() -> None:
    """Promise P12."""
    rows = read(f'phone,name\n"{OTHER}\n{GOOD},Bob\n{GOOD}",Al\n{GOOD},Eve\n')
    assert addresses(rows) == [GOOD, GOOD]
    assert [row.line for row in bad(rows)] == [2, 4]


def test_a_cell_without_bounds_is_a_bad_row_and_the_next_row_is_read() -> None:
    """Fault 81."""
    for size in (70_000, 200_000, 10_000_000):
        for cell in ("x" * size, f'"{"x" * size}"'):
            rows = read(f"phone,name\n{GOOD},{cell}\n{OTHER},Al\n")
            assert addresses(rows) == [OTHER], (size, cell[0])
            assert [row.line for row in bad(rows)] == [2]
            assert len(bad(rows)[0].text) <= 80
            assert "and may have" in bad(rows)[0].reason or "may have 65,536" in bad(rows)[0].reason


def test_a_row_with_a_nul_is_bad() -> None:
    """Fault 81."""
    rows = read(f"phone,name\n{GOOD},B\x00b\n{OTHER},Al\n")
    assert addresses(rows) == [OTHER]
    assert "NUL" in bad(rows)[0].reason


def test_a_header_alone_is_an_empty_list() -> None:
    assert read("phone,name\n") == []
    assert read("\n\n") == []


def test_a_million_rows_need_the_memory_of_a_few(tmp_path: Path) -> None:
    """Fault 80, promise P12: a tenth of the length here, one row in ten bad; the memory does not grow with it."""
    file = tmp_path / "many.csv"
    with file.open("w") as out:
        out.write("phone,name\n")
        for number in range(100_000):
            out.write(f"{'nobody' if number % 10 == 3 else f'+65{81000000 + number}'},Änne {number}\n")
    next(iter(read_recipients(io.BytesIO(f"{GOOD}\nnobody\n".encode()), default_region=None)))  # load the number plans
    tracemalloc.start()
    good = wrong = 0
    for row in read_recipients(file, default_region=None):
        if isinstance(row, Row):
            good += 1
        else:
            wrong += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (good, wrong) == (90_000, 10_000)
    assert peak < 8 * 1024 * 1024


# Exports

LIVE_CELLS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    " =1",
    "＝1",
    "＋1",
    "－1",
    "＠x",
    "'=1",
    "''+1",
    "=cmd|'/c'!A1",
]


def export(rows: list[tuple[str, dict[str, str]]], *, raw: bool = False, columns: list[str] | None = None) -> str:
    out = io.StringIO()
    assert write_recipients(rows, out, raw=raw, columns=columns) == len(rows)
    return out.getvalue()


def test_no_exported_cell_begins_like_a_formula() -> None:
    """Fault 79."""
    text = export([(GOOD, {"name": cell, "=header": cell}) for cell in LIVE_CELLS])
    for line in text.split("\n"):
        for cell in line.split(","):
            assert cell.strip('" ')[:1] not in set("=+-@\t\r＝＋－＠") or not cell


def test_an_export_reads_back_the_same() -> None:
    """Fault 79."""
    wanted = [
        (GOOD, {"name": "Änne, Ulm", "note": 'one\n"two"'}),
        ("120363025246125486@g.us", {"name": "Bob", "city": "Ulm"}),
        (OTHER, {}),
        *((OTHER, {"name": cell}) for cell in LIVE_CELLS if cell == cell.strip()),
    ]
    for columns in (None, ["name", "note", "city"]):
        rows = read(export(wanted, columns=columns))
        assert [(row.recipient.address, dict(row.attributes)) for row in rows if isinstance(row, Row)] == wanted
        assert not bad(rows)


def test_a_raw_export_leaves_numbers_as_they_are_and_reads_back_too() -> None:
    """Fault 79."""
    text = export([(GOOD, {"name": "=1"})], raw=True)
    assert text == f"recipient,name\n{GOOD},=1\n"
    assert addresses(read(text)) == [GOOD]


def test_an_attribute_named_like_the_recipient_does_not_spoil_the_export() -> None:
    rows = read(export([(GOOD, {"Recipient": "x"})]))
    assert isinstance(rows[0], Row)
    assert rows[0].attributes == {"Recipient_": "x"}


def test_an_empty_list_is_exported_as_its_header() -> None:
    assert export([]) == "recipient\n"


NAMES = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8)
VALUES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00\r"), max_size=20)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(["name", "Ort", "=x", "'q", "a;b", "tag,2"]), VALUES, max_size=4))
def test_any_attributes_survive_export_and_import(attributes: dict[str, str]) -> None:
    """Fault 79."""
    rows = read(export([(GOOD, attributes)]))
    kept = {name: value.strip() for name, value in attributes.items() if value.strip()}
    assert [row.attributes for row in rows if isinstance(row, Row)] == [kept]


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200), st.text(alphabet="+65812345,;\t\"\n\r'=phoneä\x00 ", max_size=120).map(str.encode)
    )
)
def test_any_bytes_are_rows_bad_rows_or_one_usage_error(content: bytes) -> None:
    """Promise P12."""
    try:
        rows = read(content, region="SG")
    except UsageError as error:
        rows = [BadRow(line=1, text="", reason=error.message)]
    lines = [row.line for row in rows]
    assert lines == sorted(set(lines)), "each line is told once, in order"
    assert all(row.text.isprintable() and row.reason.isprintable() for row in bad(rows))
