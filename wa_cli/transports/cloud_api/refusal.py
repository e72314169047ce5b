"""Reads an error object of Meta's, in an answer or in a `failed` status: one reading for both roads it comes by."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from wa_cli.domain.connection import Restriction
from wa_cli.domain.outcome import ErrorClass, Rejected
from wa_cli.transports.cloud_api.error_table import classify
from wa_cli.transports.masking import MAX_DETAILS_CHARS, mask

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_TRACE_ID = re.compile(r"[A-Za-z0-9_\-]{1,64}\Z")
_LARGEST_CODE = 10**12


def read_refusal(
    error: dict[str, Any],
    *,
    http_status: int,
    headers: Mapping[str, str],
    secrets: tuple[str, ...] = (),
    now: datetime | None = None,
) -> Rejected:
    """What an error object says, with its class and its waits by the error table.

    http_status: 0 for an error that came in a webhook.  secrets: words that must not appear in the details.
    An object without a readable code is a refusal without one: the message has failed, and nobody says why.
    """
    code = read_code(error.get("code"))
    subcode = read_code(error.get("error_subcode"))
    is_transient = error.get("is_transient")
    words = _collect_words(error)
    if code is None:
        return Rejected(
            error_class=ErrorClass.DEAD_MESSAGE,
            code="failed",
            details=mask(words, secrets=secrets) or "WhatsApp gave no reason",
            http_status=http_status,
        )
    rule = classify(
        code,
        subcode,
        http_status,
        is_transient if isinstance(is_transient, bool) else None,
        headers,
        details=words,
        now=now,
    )
    ending = f" ({rule.title})" if not rule.known else ""
    trace_id = error.get("fbtrace_id")
    if isinstance(trace_id, str) and _TRACE_ID.match(trace_id):
        ending += f" [fbtrace_id {trace_id}]"  # what Meta's support asks for first, so the cut spares it
    if subcode is not None:
        ending = f" [subcode {subcode}]{ending}"
    details = mask(words, secrets=secrets, limit=MAX_DETAILS_CHARS - len(ending))
    restriction = None
    if rule.restricts is not None:
        restriction = Restriction(code=str(code), reason=(details or rule.title) + ending, scope=rule.restricts)
    return Rejected(
        error_class=rule.error_class,
        code=str(code),
        details=(details or rule.title) + ending,
        http_status=http_status,
        wait_seconds=rule.wait_seconds,
        max_attempts=rule.max_attempts,
        consequence=rule.consequence,
        restriction=restriction,
    )


def read_code(value: Any) -> int | None:
    """A vendor's code: an integer, or one spelled as a string."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) < _LARGEST_CODE else None
    if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value, re.ASCII):
        return int(value)
    return None


def _collect_words(error: dict[str, Any]) -> str:
    """Everything the vendor wrote for people, each sentence once.  error_data is a dict or a bare string.

    A webhook has a title too, mostly the same as the message.
    """
    extra = error.get("error_data")
    if isinstance(extra, dict):
        extra = extra.get("details")
    words: list[str] = []
    for part in (
        error.get("message"),
        error.get("title"),
        extra,
        error.get("error_user_title"),
        error.get("error_user_msg"),
    ):
        if isinstance(part, str):
            plain = re.sub(r"^\(#\d+\)\s*", "", part.strip(), count=1)  # the code has a field of its own
            if plain and plain not in words:
                words.append(plain)
    return ": ".join(words)
