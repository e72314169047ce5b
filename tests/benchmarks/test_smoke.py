"""Every benchmark still runs, at a size that says nothing about speed."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import MARKS, README, fill_page
from tests.benchmarks.measuring import Figure

ROOT = Path(__file__).resolve().parents[2]


def test_every_benchmark_runs_at_a_tiny_size_and_yields_its_figures() -> None:
    """The suite of issue 3, point 7, in one run."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "--size", "tiny", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=560,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    figures = json.loads(run.stdout)["figures"]
    names = {figure["name"] for figure in figures}
    assert len(names) == len(figures)
    assert {"drain, 50 in flight", "paced 80/s, core", "enqueue to first byte, daemon idle, p99"} <= names
    assert all(figure["value"] >= 0 for figure in figures)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "dreaming"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "drain" in run.stderr


def test_the_page_takes_the_figures_that_have_a_bar_and_keeps_everything_else() -> None:
    first, last = MARKS
    page = f"# wa\n\n{first}old figures\n{last}\nthe end\n"
    figures = [
        Figure(name="drain", value=2_500.0, unit="msg/s", against="a bare loop", yardstick=2_000.0, bar=">= 0.75"),
        Figure(name="idle", value=0.29, unit="% of a core", bar="< 1 %"),
        Figure(name="an aside", value=1.0, unit="ms"),
    ]
    filled = fill_page(page, figures, machine="2 cores", today=date(2026, 11, 25))
    assert filled.startswith(f"# wa\n\n{first}")
    assert filled.endswith(f"{last}\nthe end\n")
    assert "25 November 2026, 2 cores:" in filled
    assert "| drain | 2,500 msg/s | 2,000 (a bare loop) | 1.25 | >= 0.75 |" in filled
    assert "| idle | 0.29 % of a core |  |  | < 1 % |" in filled
    assert "old figures" not in filled
    assert "an aside" not in filled
    assert fill_page(filled, figures, machine="2 cores", today=date(2026, 11, 25)) == filled
    with pytest.raises(ValueError, match="no place"):
        fill_page("# wa\n", figures, machine="", today=date(2026, 11, 25))


def test_the_front_page_has_a_place_for_the_figures() -> None:
    page = README.read_text(encoding="utf-8")
    assert page.count(MARKS[0]) == page.count(MARKS[1]) == 1
    assert "| drain, 50 in flight |" in page
