"""What `--help` and a mistyped line say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import typer

from wa_cli.cli.commands import COMMANDS, NOUNS
from wa_cli.cli.main import build_app

if TYPE_CHECKING:
    from tests.cli.conftest import Wa


def test_the_commands_are_listed_in_the_order_in_which_people_meet_them(wa: Wa) -> None:
    listed = wa("--help").out.partition("Commands:\n")[2].partition("\n\n")[0]
    assert re.findall(r"^  (\w+)", listed, re.MULTILINE) == list(COMMANDS)


@pytest.mark.parametrize("noun", ["", *NOUNS])
def test_no_summary_of_a_command_is_cut_at_80_columns(wa: Wa, noun: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    summaries = wa(*noun.split(), "--help").out.partition("Commands:\n")[2].partition("\n\n")[0]
    assert summaries
    assert "..." not in summaries


@pytest.mark.parametrize("noun", NOUNS)
def test_values_and_arguments_have_names_instead_of_types(wa: Wa, noun: str) -> None:
    verbs = re.findall(r"^  (\w+)", wa(noun, "--help").out.partition("Commands:\n")[2], re.MULTILINE)
    assert verbs
    for verb in verbs:
        options = wa(noun, verb, "--help").out.partition("Options:\n")[2]
        assert not re.search(r"--[\w-]+ <", options), f"wa {noun} {verb}"


@pytest.mark.parametrize("line", ["bogus", "send subgrup vip hi", "message show", "status --bogus"])
def test_a_mistyped_line_is_two_lines_like_every_other_error(wa: Wa, line: str) -> None:
    answer = wa(*line.split())
    assert answer.exit == 2
    assert answer.out == ""
    assert re.fullmatch(r"error: [a-z].*\nhint: `wa.*--help` shows what it takes\n", answer.err)


def test_the_list_of_commands_is_that_of_the_whole_tree(wa: Wa) -> None:
    """Issue 3, point 4: the list loads no noun, and says what each of them says itself."""
    whole = typer.main.get_command(build_app())
    listed = typer.main.get_command(build_app(is_listing=True))
    assert isinstance(whole, typer.core.TyperGroup)
    assert isinstance(listed, typer.core.TyperGroup)
    names = whole.list_commands(None)
    assert listed.list_commands(None) == names
    for name in names:
        assert listed.commands[name].get_short_help_str(200) == whole.commands[name].get_short_help_str(200), name
    nouns = {name for name, (_module, answers) in COMMANDS.items() if answers == "app"}
    assert nouns == set(NOUNS)
