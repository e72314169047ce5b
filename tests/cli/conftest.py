"""What the tests of the command line share: `wa(...)` runs one command line on a database of the test's own."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from wa_cli.bootstrap import App, open_app
from wa_cli.cli.main import run
from wa_cli.config import BY_NAME, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one command line gave: its exit code, its stdout and its stderr."""

    exit: int
    out: str
    err: str

    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)

    def error(self) -> dict[str, Any]:
        """The error that `--json` writes as the last line of stderr."""
        error: dict[str, Any] = json.loads(self.err.splitlines()[-1])["error"]
        return error


class Wa:
    """Runs command lines in this process, through the real argument parser."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.db = folder / "wa.db"
        self._capture = capture

    def __call__(self, *arguments: object) -> Result:
        self._capture.readouterr()
        code = run(["--db", str(self.db), *map(str, arguments)])
        out, err = self._capture.readouterr()
        return Result(exit=code, out=out, err=err)

    def write(self, name: str, text: str | bytes) -> Path:
        """A file of the test, in its folder."""
        path = self.folder / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path


@pytest.fixture
def wa(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Wa:
    """`wa("subgroup", "create", "vip")` with a database in tmp_path, no settings, and tmp_path as working directory."""
    for name in list(os.environ):
        if name in BY_NAME or name.startswith(("WA_", "WHATSAPP_")):
            monkeypatch.delenv(name)
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):  # of whoever runs the tests
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WA_TIMEZONE", "UTC")
    monkeypatch.chdir(tmp_path)
    return Wa(tmp_path, capsys)


@pytest.fixture
def app(wa: Wa) -> Iterator[App]:
    """The wired app on the same database, to put rows in and look at them."""
    opened = open_app(load_settings({"WA_TIMEZONE": "UTC"}, flags={"WA_DB": str(wa.db)}), create=True)
    yield opened
    opened.close()
