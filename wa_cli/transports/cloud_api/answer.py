"""Reads the answer to a send: accepted, rejected, or no verdict.  Pure: bytes in, Outcome out."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from wa_cli.domain.outcome import Accepted, Ambiguous, Rejected
from wa_cli.transports.cloud_api.error_table import classify
from wa_cli.transports.cloud_api.masking import MAX_DETAILS_CHARS, mask

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from wa_cli.domain.outcome import Outcome

# The Graph API has been seen to name its JSON text/javascript.
_JSON_TYPES = re.compile(r"(?:application|text)/(?:[a-z0-9.\-]+\+)?(?:json|javascript)\Z", re.I)
_MESSAGE_ID = re.compile(r"[\x21-\x7e]{1,512}\Z")
_TRACE_ID = re.compile(r"[A-Za-z0-9_\-]{1,64}\Z")


def read_answer(
    http_status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    secrets: tuple[str, ...] = (),
    now: datetime | None = None,
) -> Outcome:
    """What a complete HTTP answer says about the message.

    Accepted wants a 2xx, JSON by name and by content, and one readable message id.  Rejected wants an error
    object with a code, whatever the HTTP status.  All else is Ambiguous: somebody answered who may stand in
    front of Meta, so nothing is known of the message.
    secrets: words that must not appear in the details.
    """
    try:
        # As UTF-8 and nothing else: json.loads would also guess UTF-16 and swallow a byte-order mark,
        # neither of which Meta sends.
        shape = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return _no_verdict(http_status, _name_unread(http_status), _describe_unread(headers, body))
    error = shape.get("error") if isinstance(shape, dict) else None
    message_id = _find_message_id(shape)
    if error is not None:
        if message_id is not None:
            return _no_verdict(http_status, "contradictory", "the answer holds an error and a message id")
        code = _as_code(error.get("code")) if isinstance(error, dict) else None
        if code is None:
            words = mask(json.dumps(error, ensure_ascii=False), secrets=secrets, limit=200)
            return _no_verdict(http_status, "error_without_code", f"an error without a code: {words}")
        return _read_refusal(code, error, http_status, headers, secrets, now)
    if not 200 <= http_status < 300:
        return _no_verdict(http_status, _name_unread(http_status), "the answer is JSON without an error object")
    if message_id is None:
        return _no_verdict(http_status, "no_message_id", "a success without a readable message id")
    kind = headers.get("Content-Type", "").partition(";")[0].strip()
    if kind and not _JSON_TYPES.match(kind):
        return _no_verdict(http_status, "wrong_content_type", f"a success that calls itself {mask(kind, limit=60)}")
    return Accepted(provider_message_id=message_id, http_status=http_status)


def _find_message_id(shape: Any) -> str | None:
    """The one id in `messages`, or None when it is missing, not one, or not plain visible ASCII."""
    messages = shape.get("messages") if isinstance(shape, dict) else None
    if not isinstance(messages, list) or len(messages) != 1 or not isinstance(messages[0], dict):
        return None
    message_id = messages[0].get("id")
    return message_id if isinstance(message_id, str) and _MESSAGE_ID.match(message_id) else None


def _read_refusal(
    code: int,
    error: dict[str, Any],
    http_status: int,
    headers: Mapping[str, str],
    secrets: tuple[str, ...],
    now: datetime | None,
) -> Rejected:
    subcode = _as_code(error.get("error_subcode"))
    is_transient = error.get("is_transient")
    words = _collect_words(error)
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
    return Rejected(
        error_class=rule.error_class,
        code=str(code),
        details=(details or rule.title) + ending,
        http_status=http_status,
        wait_seconds=rule.wait_seconds,
        max_attempts=rule.max_attempts,
        consequence=rule.consequence,
    )


def _collect_words(error: dict[str, Any]) -> str:
    """Everything the vendor wrote for people, each sentence once.  error_data is a dict or a bare string."""
    extra = error.get("error_data")
    if isinstance(extra, dict):
        extra = extra.get("details")
    words: list[str] = []
    for part in (error.get("message"), extra, error.get("error_user_title"), error.get("error_user_msg")):
        if isinstance(part, str):
            plain = re.sub(r"^\(#\d+\)\s*", "", part.strip(), count=1)  # the code has a field of its own
            if plain and plain not in words:
                words.append(plain)
    return ": ".join(words)


def _as_code(value: Any) -> int | None:
    """A vendor's code: an integer, or one spelled as a string."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value, re.ASCII):
        return int(value)
    return None


def _name_unread(http_status: int) -> str:
    if 200 <= http_status < 300:
        return "unreadable_success"
    if 300 <= http_status < 400:
        return "redirect"
    return f"http_{http_status}_without_verdict"


def _describe_unread(headers: Mapping[str, str], body: bytes) -> str:
    kind = mask(headers.get("Content-Type", ""), limit=60) or "no content type"
    return f"no JSON in the answer: {len(body)} bytes, {kind}"


def _no_verdict(http_status: int, code: str, details: str) -> Ambiguous:
    return Ambiguous(code=code, details=details, http_status=http_status)
