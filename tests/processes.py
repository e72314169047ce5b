"""Running `wa` as a process of its own in tests."""

from __future__ import annotations

import os
from pathlib import Path

from wa_cli.config import BY_NAME

ROOT = Path(__file__).parent.parent


def clean_environment(home: Path) -> dict[str, str]:
    """The environment of a newcomer: no settings of wa, a home of the test's own, this checkout importable."""
    kept = {name: value for name, value in os.environ.items() if name not in BY_NAME and not name.startswith("WA_")}
    return {**kept, "HOME": str(home), "PYTHONPATH": str(ROOT), "TZ": "UTC", "PYTHONDONTWRITEBYTECODE": "1"}
