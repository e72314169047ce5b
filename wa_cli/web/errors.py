"""Errors as the API shows them: one shape, whatever went wrong, and a status that follows the family of the error.

{"error": {"code": "no_subgroup", "message": "no subgroup named 'vpi'", "hint": "did you mean 'vip'?", "exit": 2}}
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, overload

from starlette.responses import JSONResponse

from wa_cli.errors import Conflict, NeedsPerson, NotFound, Refused, StorageError, Temporary, UsageError, WaError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Codes whose status is not their family's.
STATUS_OF_CODE: Final[Mapping[str, int]] = {
    "unauthorized": 401,
    "forbidden": 403,
    "timeout": 408,
    "key_busy": 409,  # the first call with this Idempotency-Key has not ended
    "too_large": 413,
    "media_type": 415,
    "invalid": 422,
    "key_conflict": 422,  # an Idempotency-Key that stands for something else
    "queue_full": 429,
    "too_many_restarts": 429,
}
STATUS_OF_FAMILY: Final[Sequence[tuple[type[WaError], int]]] = (
    (NotFound, 404),
    (UsageError, 400),
    (Conflict, 409),
    (Refused, 422),
    (Temporary, 503),
    (StorageError, 503),
    (NeedsPerson, 503),
)
RETRY_SECONDS: Final = 5

# Our errors name flags, since most people meet them on the command line.  What the API calls the same thing:
FIELDS: Final[Mapping[str, str]] = {
    "--again": "again",
    "--at": "send_at",
    "--button": "buttons",
    "--caption": "caption",
    "--delay": "rate_limit_delay",
    "--contact-name": "contact.name",
    "--contact-phone": "contact.phone",
    "--emoji": "reaction.emoji",
    "--expires": "expires",
    "--filename": "filename",
    "--footer": "footer",
    "--header": "header",
    "--immediate": "immediate",
    "--instance": "instance",
    "--key": "Idempotency-Key",
    "--latitude": "location.latitude",
    "--list": "list",
    "--longitude": "location.longitude",
    "--max-attempts": "max_attempts",
    "--media": "media",
    "--on-unknown": "on_unknown",
    "--option": "poll.options",
    "--question": "poll.question",
    "--reply-button": "reply_buttons",
    "--param": "parameters",
    "--template": "template",
    "--text": "body",
    "--to-message": "reaction.to_message",
    "--type": "type",
    "TEXT": "body",
}
_FLAG: Final = re.compile(r"`[^`]*`|(?<![\w-])(?:" + "|".join(map(re.escape, FIELDS)) + r")(?![\w-])")


class Unauthorized(UsageError):
    default_code = "unauthorized"


class Forbidden(Refused):
    default_code = "forbidden"


class Invalid(UsageError):
    """The body or the query does not have the shape that /openapi.json says."""

    default_code = "invalid"


def status_of(error: WaError) -> int:
    if error.code in STATUS_OF_CODE:
        return STATUS_OF_CODE[error.code]
    return next((status for family, status in STATUS_OF_FAMILY if isinstance(error, family)), 500)


def answer_error(error: WaError) -> JSONResponse:
    """The answer for something that wa can explain."""
    status = status_of(error)
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="wa"'
    if status in (429, 503) or error.code == "key_busy":
        headers["Retry-After"] = str(RETRY_SECONDS)
    document = describe(error.code, name_fields(error.message), hint=name_fields(error.hint), exit=error.exit_code)
    return JSONResponse(document, status_code=status, headers=headers)


def answer_bug() -> JSONResponse:
    """The answer for what nobody expected.  What it was stands in the log alone."""
    hint = "the server's log has the rest; please report it"
    return JSONResponse(describe("bug", "this is a bug in wa", hint=hint, exit=1), status_code=500)


def describe(code: str, message: str | None, *, hint: str | None = None, exit: int | None = None) -> dict[str, Any]:
    """The one shape.  exit: what the command line would exit with, for the errors that it knows too."""
    error: dict[str, Any] = {"code": code, "message": message, "hint": hint}
    if exit is not None:
        error["exit"] = exit
    return {"error": error}


@overload
def name_fields(words: str) -> str: ...


@overload
def name_fields(words: None) -> None: ...


def name_fields(words: str | None) -> str | None:
    """The same words with fields instead of flags.  Commands in backticks stay: they are for the server's keeper."""
    return _FLAG.sub(lambda found: FIELDS.get(found[0], found[0]), words) if words else words
