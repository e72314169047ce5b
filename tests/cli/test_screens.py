"""What a narrow terminal shows, what reaches a full disk, and text that is no text."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.cells import cell_len

from tests.ledger import Ledger, number
from tests.processes import clean_environment
from wa_cli.cli.session import clean_text, fold
from wa_cli.cli.table import layout

if TYPE_CHECKING:
    from tests.cli.conftest import Wa
    from wa_cli.bootstrap import App

HEADERS = ("#", "ID", "TO", "SCHEDULED", "ERROR", "WHY", "TEXT")
KEEP = (0, 1, 2, 3, 4)
ROWS = [
    ("0", "m1234567", "+6581230001", "2026-11-22 11:12", "131026", "message undeliverable", "👩‍👩‍👧‍👦 مرحبا " * 9),
    ("10", "m7", "120363025246125486@g.us", "2026-11-22 11:12", "131047", "outside the window", "门六点开" * 20),
]


@pytest.mark.parametrize("columns", [60, 70, 80, 100, 200])
def test_a_table_fits_its_terminal_and_never_cuts_what_must_be_kept(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = layout(HEADERS, ROWS, keep=KEEP)
    widest_kept = sum(max(cell_len(row[column]) for row in (HEADERS, *ROWS)) for column in KEEP) + 2 * (len(KEEP) - 1)
    assert max(map(cell_len, lines)) <= max(columns, widest_kept)
    for line, row in zip(lines[1:], ROWS, strict=True):
        assert line.split("  ")[0].strip() == row[0]
        assert all(row[column] in line for column in KEEP)


def test_columns_are_left_out_from_the_right_before_a_line_overflows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    short = [(index, "m7", "+6581230001", *row[3:]) for index, row in zip("01", ROWS, strict=True)]
    headers = layout(HEADERS, short, keep=KEEP)[0].split()
    assert headers == ["#", "ID", "TO", "SCHEDULED", "ERROR", "WHY"]


def wa_process(tmp_path: Path, *words: str, **streams: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "wa_cli", "--db", str(tmp_path / "wa.db"), *words]
    environment = clean_environment(tmp_path) | {"PYTHONIOENCODING": "utf-8:strict"}
    return subprocess.run(command, env=environment, cwd=tmp_path, check=False, stderr=subprocess.PIPE, **streams)  # type: ignore[call-overload, no-any-return]  # streams are those of run()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_an_output_that_finds_no_space_exits_9_without_a_traceback(tmp_path: Path, flags: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = wa_process(tmp_path, "status", *flags, stdout=full)
    assert done.returncode == 9
    assert b"no space left to write the output" in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


def test_a_text_on_stdin_that_is_not_utf_8_is_an_error_of_the_call(tmp_path: Path) -> None:
    """Promise P12."""
    done = wa_process(tmp_path, "send", "to", "+6581230001", "--text", "-", input=b"caf\xe9", stdout=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr == b"error: the text on stdin is not UTF-8\nhint: save it as UTF-8\n"


def test_every_table_has_its_headers_in_capitals(wa: Wa, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal; elsewhere a table has no header."""

    class Terminal:
        def __init__(self) -> None:
            self.lines: list[str] = []

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> int:
            self.lines.append(text)
            return len(text)

        def flush(self) -> None: ...

    wa("subgroup", "create", "vip")
    for line in (
        "subgroup list",
        "message list",
        "failed list",
        "instance list",
        "webhook list",
        "config show",
        "sandbox --magic",
    ):
        terminal = Terminal()
        with contextlib.redirect_stdout(terminal):  # type: ignore[type-var]  # it has what is written to
            wa(*line.split())
        assert terminal.lines[0] == terminal.lines[0].upper(), line


def test_a_long_hint_breaks_between_words_on_a_terminal_and_never_inside_a_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    line = "hint: `wa resend 0` sends one again, `wa resend --all` all; `wa failed show 0 --and more words` says why"
    monkeypatch.setenv("COLUMNS", "60")
    with contextlib.redirect_stderr(Terminal()):
        folded = fold(line)
    assert all(len(part) <= 60 for part in folded.splitlines())
    assert "`wa failed show 0 --and more words`" in folded
    assert " ".join(folded.split()) == line
    with contextlib.redirect_stderr(io.StringIO()):
        assert fold(line) == line


def test_no_character_there_is_can_steer_a_terminal() -> None:
    steering = [
        sign
        for sign in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") and sign != "\u200d"
    ]
    assert not [sign for sign in steering if sign.isprintable()]  # such a line would be passed as it is
    assert clean_text("…".join(["+65", "0001", *steering[:500]])).isprintable()


@pytest.mark.parametrize("command", [("watch",), ("campaign", "watch", "spring-sale")])
def test_a_user_who_listens_gets_a_line_per_change_on_a_terminal_too(
    command: tuple[str, ...], wa: Wa, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WA_ACCESSIBLE=1: nothing is drawn over, since a screen reader would begin anew each second."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    ledger = Ledger(app.database, now_ms=app.clock.wall_ms())
    ledger.start_run()
    ledger.add(number(1), ledger.add_batch())
    monkeypatch.setenv("WA_ACCESSIBLE", "1")
    terminal = Terminal()
    with contextlib.redirect_stdout(terminal):
        wa(*command, "--count", "1")
    (line,) = terminal.getvalue().splitlines()
    assert "1 queued" in line
    assert "\x1b" not in line
