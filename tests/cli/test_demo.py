"""`wa demo` as a newcomer runs it: in a process of its own, with nothing set up."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.processes import clean_environment

if TYPE_CHECKING:
    from pathlib import Path


def run_demo(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wa_cli", "demo", *flags],
        cwd=folder,
        env=clean_environment(folder),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_the_demo_shows_every_trouble_and_adds_up(tmp_path: Path) -> None:
    """P13; an injected failure, a retry, a pair-limit deferral, an unknown outcome and a resend, by real commands.

    Issue 4, point 8: the unknown settles by its tag, and the end has delivered and read counts that came by webhook.
    """
    done = run_demo(tmp_path)
    assert done.returncode == 0, done.stderr
    story = done.stdout + done.stderr
    for trouble in (
        "will be tried again (131000)",
        "too soon for this person, waits (131056)",
        "unknown: it may or may not have arrived (connection_reset)",
        "failed, out of attempts (131000)",
        "settled_by_receipt: WhatsApp's receipt shows that it was accepted (it was ambiguous, connection_reset",
        "1 failed message rescheduled for resending",
        "audience 8 = ",
        "the far end took 8 messages in 12 posts, 0 of them twice",
        "it adds up",
    ):
        assert trouble in story
    assert re.search(r"audience 8 = (\d sent \+ )?\d delivered", story)
    assert "Traceback" not in story


def test_the_demo_leaves_no_file_behind(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "wa_cli", "demo", "--json"],
        cwd=tmp_path,
        env={**clean_environment(tmp_path), "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    assert json.loads(done.stdout)["adds_up"] is True
    assert [path.name for path in tmp_path.rglob("*")] == ["tmp"]


def test_the_gateway_demo_pairs_sends_loses_the_phone_and_goes_on(tmp_path: Path) -> None:
    """Issue 6: pairing, a subgroup of groups, a disconnect half-way and the recovery; the ledger adds up."""
    shown = run_demo(tmp_path, "--gateway", "--json")
    assert shown.returncode == 0, shown.stderr
    ledger = json.loads(shown.stdout)
    assert (ledger["audience"], ledger["stats"]["sent"], ledger["accepted_twice"]) == (6, 6, 0)
    assert ledger["adds_up"]
    assert ledger["states"][-1] == "ready"
    assert ledger["states"].count("ready") >= 2
    assert list(tmp_path.iterdir()) == []
