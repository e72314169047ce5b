"""What a check found: how grave it is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


# What a person has to do, as an exit code of the command line; the later one is the graver.
FIX_LATER: Final = 8  # it may pass by itself
FIX_ACCOUNT: Final = 4
FIX_CALL: Final = 2  # a setting, a missing file
FIX_MACHINE: Final = 9
GRAVITY: Final = (0, FIX_LATER, FIX_ACCOUNT, FIX_CALL, FIX_MACHINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of a report.

    group, name: words for scripts, such as `store` and `integrity`.  message: one line, no full stop.
    fix: what to type or do, or None.  exit_code: one of GRAVITY; counts only for a FAIL.
    """

    group: str
    name: str
    level: Level
    message: str
    fix: str | None = None
    exit_code: int = 0


def ok(group: str, name: str, message: str) -> Finding:
    return Finding(group=group, name=name, level=Level.OK, message=message)


def warn(group: str, name: str, message: str, fix: str | None = None) -> Finding:
    return Finding(group=group, name=name, level=Level.WARN, message=message, fix=fix)


def fail(group: str, name: str, message: str, fix: str | None = None, *, exit_code: int) -> Finding:
    return Finding(group=group, name=name, level=Level.FAIL, message=message, fix=fix, exit_code=exit_code)


def gravest_exit_code(findings: Iterable[Finding]) -> int:
    """The exit code of a report: that of its gravest failure, 0 when nothing failed."""
    codes = [finding.exit_code for finding in findings if finding.level is Level.FAIL]
    return max(codes, key=GRAVITY.index, default=0)
