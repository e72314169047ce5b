"""Named points at which a test may kill the process, as kill -9 would: `WA_CUT=name:n` dies at the n-th passage.

`WA_CUT=name:n:stop` freezes it there instead, as a suspended machine would, until somebody sends SIGCONT.
Costs one dictionary look-up when nothing is armed.  The names are listed here, so that a test can visit all of them.
"""

from __future__ import annotations

import os
import signal
from typing import Final

NAMES: Final = (
    "migrate_before_commit",
    "migrate_after_commit",
    "intake_before_commit",
    "intake_after_commit",
    "turn_before_commit",
    "turn_after_commit",
    "post_before",
    "post_after",
    "record_before",
    "lease_before_commit",
    "lease_after_commit",
    "resend_before_commit",
    "resend_after_commit",
    "plan_lines_after_commit",
    "plan_before_commit",
    "plan_after_commit",
    "apply_opened",
    "take_back_after_commit",
    "apply_before_commit",
    "apply_after_commit",
    "release_before_commit",
    "release_after_commit",
    "cancel_after_step",
    "cancel_after_commit",
    "occurrence_claimed",
    "canary_before_commit",
    "canary_after_commit",
    "prune_report_after_commit",
    "prune_before_commit",
    "prune_after_commit",
    "prune_calls_after_commit",
    "prune_words_after_commit",
)

_armed: dict[str, int] = {}
_freezes: set[str] = set()


def arm(order: str | None) -> None:
    """Arm one cut: `name:n` or `name:n:stop`.  Anything unreadable arms nothing."""
    _armed.clear()
    _freezes.clear()
    if order:
        name, _colon, rest = order.partition(":")
        count, _colon, manner = rest.partition(":")
        if name in NAMES and count.isdigit() and manner in ("", "stop"):
            _armed[name] = int(count)
            if manner:
                _freezes.add(name)


def cut(name: str) -> None:
    """Die here if it is this passage's turn."""
    if name in _armed:
        _armed[name] -= 1
        if _armed[name] <= 0:
            del _armed[name]
            os.kill(os.getpid(), signal.SIGSTOP if name in _freezes else signal.SIGKILL)
