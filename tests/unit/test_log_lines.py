"""The lines of the log: one a record, whatever the record holds."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING

import pytest

from wa_cli.cli.logs import start_logging

if TYPE_CHECKING:
    from collections.abc import Iterator

NASTY = "\x1b[2J\x07\x9b31m \u202eevil \x85 \u2028 \x7f \n12:00:00 forged"
NAMES = ("wa", "uvicorn", "asyncio", "concurrent.futures", "apscheduler")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Loggers belong to the whole process: leave them as they were."""
    loggers = [logging.getLogger(name) for name in NAMES]
    before = [(one.handlers[:], one.propagate, one.level) for one in loggers]
    yield
    for one, (handlers, propagate, level) in zip(loggers, before, strict=True):
        one.handlers[:] = handlers
        one.propagate = propagate
        one.setLevel(level)
    logging.raiseExceptions = True


def start(*, as_json: bool, secrets: tuple[str, ...] = ()) -> None:
    start_logging(as_json=as_json, is_verbose=False, is_quiet=False, secrets=secrets)


@pytest.mark.parametrize("as_json", [False, True])
def test_nothing_in_a_record_steers_a_terminal_or_begins_a_line(
    as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Faults 82, 83: for readers that end a line at U+2028 or U+0085, too."""
    start(as_json=as_json)
    logging.getLogger("wa.web").warning("%s", NASTY)
    written = capsys.readouterr().err
    (line,) = written.splitlines()
    assert line.isprintable()
    if as_json:
        assert json.loads(line)["message"] == NASTY  # escaped, not lost
    else:
        assert "\\e[2J" in line


@pytest.mark.parametrize("as_json", [False, True])
def test_no_secret_and_no_key_is_shown_in_words_or_in_a_traceback(
    as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault 84; promise P11."""
    key = "wak_" + "a" * 43
    start(as_json=as_json, secrets=("canary-one", "canary-one-and-more", "abc"))
    try:
        raise RuntimeError(f"canary-one-and-more {key} +6581230001")
    except RuntimeError:
        logging.getLogger("wa.web").exception("at /x/canary-one/%s abc", key)
    written = capsys.readouterr().err
    assert "canary" not in written
    assert "and-more" not in written
    assert key not in written
    assert "81230001" not in written
    assert "[secret]" in written
    assert " abc" in written  # too short to be told from a word


@pytest.mark.parametrize("as_json", [False, True])
def test_what_libraries_complain_of_looks_like_the_rest(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault 83: a task that nobody awaited is reported by asyncio, in many lines."""
    start(as_json=as_json)

    async def main() -> None:
        asyncio.get_running_loop().call_exception_handler({"message": "first\nsecond", "exception": ValueError("x")})

    asyncio.run(main())
    lines = capsys.readouterr().err.splitlines()
    assert lines
    for line in lines:
        if as_json:
            json.loads(line)
        else:
            assert line[2] == ":" or line.startswith("         | ")
