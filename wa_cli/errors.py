"""Every error that `wa` can explain, with its exit code and the next thing to type.

    WaError                       1   never raised itself
    ├── UsageError                2   the call is wrong: a flag, a date, a number, a setting
    │   ├── FileMistakes          2   a file says what it may not: a line for each mistake
    │   └── NotFound              2   no such subgroup, message or instance
    ├── PartlyDone                3   some rows were refused, skipped or failed
    ├── NeedsPerson               4   an instance waits for a person: token, restriction
    ├── UnknownOutcomes           5   outcomes exist that only a person or time can settle
    ├── Refused                   6   a safety rule said no: not confirmed, queue full
    ├── Conflict                  7   a key was used for other content, a list has moved on
    ├── Temporary                 8   the store is busy, the gateway is down: the same call may work later
    └── StorageError              9   full, read-only, corrupt, or written by a newer wa
        ├── StorageFull
        └── StorageBroken             cannot be trusted any more: stop

Anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class WaError(Exception):
    """Something `wa` can explain.

    message: what happened, one line, no full stop.  hint: what to type or do next, or None.
    code: a stable word for scripts; the class's own unless given.  below: more lines, shown under the message.
    """

    exit_code: ClassVar[int] = 1
    default_code: ClassVar[str] = "error"

    def __init__(
        self, message: str, *, hint: str | None = None, code: str | None = None, below: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.below = tuple(below)
        self.hint = hint
        self.code = code or self.default_code


class UsageError(WaError):
    exit_code = 2
    default_code = "usage"


class NotFound(UsageError):
    default_code = "not_found"


class FileMistakes(UsageError):
    """All that is wrong in one file: the message has a line for each mistake, with the file and its line first."""

    default_code = "file"

    def __init__(self, mistakes: Sequence[str], *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__("\n".join(mistakes), hint=hint, code=code)
        self.mistakes = tuple(mistakes)


class PartlyDone(WaError):
    exit_code = 3
    default_code = "partly_done"


class NeedsPerson(WaError):
    exit_code = 4
    default_code = "instance_needs_person"


class GatewayRefused(NeedsPerson):
    """A gateway has answered, and will not do what it was asked; nothing has changed there."""

    default_code = "gateway_refused"


class UnknownOutcomes(WaError):
    exit_code = 5
    default_code = "unknown_outcomes"


class Refused(WaError):
    exit_code = 6
    default_code = "refused"


class Conflict(WaError):
    exit_code = 7
    default_code = "conflict"


class Temporary(WaError):
    exit_code = 8
    default_code = "temporary"


class StorageError(WaError):
    exit_code = 9
    default_code = "storage"


class StorageFull(StorageError):
    default_code = "storage_full"


class StorageBroken(StorageError):
    default_code = "storage_broken"
