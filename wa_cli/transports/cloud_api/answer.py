"""Reads the answer to a send: accepted, rejected, or no verdict.  Pure: bytes in, Outcome out."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from wa_cli.domain.outcome import Accepted, Ambiguous
from wa_cli.transports.cloud_api.refusal import read_code, read_refusal
from wa_cli.transports.masking import mask

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from wa_cli.domain.outcome import Outcome

_decode = json.JSONDecoder().decode
# The Graph API has been seen to name its JSON text/javascript.
_JSON_TYPES = re.compile(r"(?:application|text)/(?:[a-z0-9.\-]+\+)?(?:json|javascript)\Z", re.I)
_MESSAGE_ID = re.compile(r"[\x21-\x7e]{1,512}\Z")


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
        shape = _decode(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return _no_verdict(http_status, _name_unread(http_status), _describe_unread(headers, body))
    error = shape.get("error") if isinstance(shape, dict) else None
    message_id = _find_message_id(shape)
    if error is not None:
        if message_id is not None:
            return _no_verdict(http_status, "contradictory", "the answer holds an error and a message id")
        if not isinstance(error, dict) or read_code(error.get("code")) is None:
            words = mask(json.dumps(error, ensure_ascii=False), secrets=secrets, limit=200)
            return _no_verdict(http_status, "error_without_code", f"an error without a code: {words}")
        return read_refusal(error, http_status=http_status, headers=headers, secrets=secrets, now=now)
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
