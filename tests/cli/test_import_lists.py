"""What a command loads is frozen: a heavy import in the wrong place is found here, with the line that asked for it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Wa

# What typer loads by itself, for its help and for the values of flags.
BY_HELP: Final = {"typer", "annotated_doc", "shellingham"}
BY_TYPER: Final = BY_HELP | {"pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}

# Rooms and modules of ours, and of Python's own, that cost much.  An entry stands for all below it.
NEVER: Final = {"wa_cli.web", "wa_cli.sandbox", "wa_cli.sources", "wa_cli.door", "http.server", "urllib.request"}
NOT_FOR_READING: Final = NEVER | {"wa_cli.daemon", "wa_cli.transports", "asyncio", "ssl", "multiprocessing"}
NOT_FOR_HELP: Final = NOT_FOR_READING | {"wa_cli.store", "wa_cli.bootstrap", "wa_cli.config", "sqlite3", "zoneinfo"}

# The words of a command, the packages of others that it may load, and what of ours and Python's it must not.
LISTS: Final[dict[str, tuple[set[str], set[str]]]] = {
    "--help": (BY_HELP, NOT_FOR_HELP),
    "send --help": (BY_TYPER, NOT_FOR_HELP - {"zoneinfo"}),  # pydantic knows time zones
    "send to +6581230001 --text again": (
        BY_TYPER | {"phonenumbers", "tzlocal", "tzdata"},
        # Whether WhatsApp would take these words is asked of its own rules, before they are queued.
        NOT_FOR_READING - {"wa_cli.transports"} | {"wa_cli.transports.direct", "wa_cli.transports.cloud_api.transport"},
    ),
    "status": (BY_TYPER, NOT_FOR_READING),
    "drain": (BY_TYPER | {"uvloop", "cython_runtime"}, NEVER | {"wa_cli.transports", "multiprocessing"}),
}

# Runs one command line, and says which line of ours first asked for each module.
SPY: Final = """
import json, sys
asked = {}
class Spy:
    def find_spec(self, name, path=None, target=None):
        frame = sys._getframe(1)
        while frame is not None and not frame.f_globals.get("__name__", "").startswith("wa_cli"):
            frame = frame.f_back
        if frame is not None:
            asked.setdefault(name, f"{frame.f_globals['__name__']}, line {frame.f_lineno}")
sys.meta_path.insert(0, Spy())
words, planted = json.loads(sys.argv[1])
from wa_cli.cli.main import run
if planted:
    __import__(planted)
sys.stdout = sys.stderr
try:
    code = run(words)
except SystemExit as leaving:
    code = leaving.code
loaded = {name: asked.get(name, "") for name in sys.modules}
json.dump([code, loaded], sys.__stdout__)
"""


def find_strangers(
    words: str, db: Path, *, allowed: set[str], forbidden: set[str], planted: str | None = None
) -> list[str]:
    """What the command loaded against its list, each with the line of ours that asked for it.

    planted: a module that is loaded on the way as well.
    """
    order = json.dumps([["--db", str(db), *words.split()], planted])
    ran = subprocess.run([sys.executable, "-c", SPY, order], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    code, loaded = json.loads(ran.stdout)
    assert not code, ran.stderr
    strangers = []
    for name, asked_by in sorted(loaded.items()):
        top = name.partition(".")[0]
        if top == "wa_cli" or top in sys.stdlib_module_names or top.startswith("_"):
            is_strange = any(name == root or name.startswith(f"{root}.") for root in forbidden)
        else:
            is_strange = top not in allowed and name == top
        if is_strange:
            strangers.append(f"{name}, asked for by {asked_by or 'others'}")
    return strangers


@pytest.fixture
def used(wa: Wa) -> Path:
    """A database that is up to date, with nothing due."""
    assert wa("send", "to", "+6581230001", "--text", "once", "--at", "in 2h").exit == 0
    return wa.db


@pytest.mark.parametrize("words", LISTS)
def test_a_command_loads_nothing_that_is_not_on_its_list(words: str, used: Path) -> None:
    """Issue 3, point 4."""
    allowed, forbidden = LISTS[words]
    strangers = find_strangers(words, used, allowed=allowed, forbidden=forbidden)
    told = "\n".join(strangers)
    assert not strangers, f"`wa {words}` loads what it does not use; import it in the function that needs it:\n{told}"


@pytest.mark.parametrize(("planted", "told"), [("httpx", "others"), ("wa_cli.web.server", "wa_cli.web.")])
def test_a_wrong_import_is_named_with_the_line_that_asked_for_it(planted: str, told: str, used: Path) -> None:
    allowed, forbidden = LISTS["status"]
    strangers = find_strangers("status", used, allowed=allowed, forbidden=forbidden, planted=planted)
    named = {"wa_cli.web.server": "uvicorn"}.get(planted, planted)
    (found,) = [line for line in strangers if line.startswith(f"{named},")]
    assert found.startswith(f"{named}, asked for by {told}")
