"""The front page is true: its commands run, print what it shows, and its two set-up commands are the ones CI runs."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import pytest

from tests.readme import README, blocks, commands, normalise, play, stage
from wa_cli.cli.main import run

if TYPE_CHECKING:
    from pathlib import Path

TEXT = README.read_text(encoding="utf-8")
ROOT = README.parent


def test_every_console_block_prints_what_the_page_shows() -> None:
    with stage(blocks(TEXT, "csv")[0]):
        for block in blocks(TEXT, "console"):
            for command, shown in commands(block):
                assert normalise(play(command)) == normalise(shown), command


def test_every_python_block_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """As a script of its reader, with the settings of the page."""
    with stage(blocks(TEXT, "csv")[0]):
        for block in blocks(TEXT, "python"):
            exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out == "immediate m1\n"


def mentioned_commands() -> list[str]:
    """Every `wa ...` in running text and tables that is a whole command line."""
    prose = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
    fenced = [line for block in blocks(TEXT, "sh") for line in block.splitlines() if line.startswith("wa ")]
    found = [*re.findall(r"`(wa [a-z][^`]*)`", prose), *(line.partition("#")[0].strip() for line in fenced)]
    return sorted({words for words in found if "NAME" not in words})


@pytest.mark.parametrize("line", mentioned_commands())
def test_every_command_in_the_text_is_one_that_wa_knows(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its flags are parsed for real; --help then keeps it from doing anything."""
    monkeypatch.chdir(tmp_path)
    assert run([*shlex.split(line)[1:], "--help"]) == 0
    assert "Usage: wa" in capsys.readouterr().out


def test_ci_runs_the_pages_test_command() -> None:
    command = blocks(TEXT, "sh")[1].strip()
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").strip().splitlines()[-1] == command
