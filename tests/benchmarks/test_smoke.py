"""Every benchmark still runs, at a size that says nothing about speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_benchmark_runs_at_a_tiny_size_and_yields_its_figures() -> None:
    """The suite of issue 3, point 7, in one run."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "--size", "tiny", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
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
