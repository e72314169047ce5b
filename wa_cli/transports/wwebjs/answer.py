"""Reads wwebjs-api's answer to a send: accepted, rejected, not ready, or no verdict.  Pure: bytes in, Outcome out.

What it refuses before it touches the browser is certain; an error of the browser (500) says nothing.
Source: `gateways` section 6.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from wa_cli.domain.connection import ConnectionState
from wa_cli.domain.outcome import Accepted, Ambiguous, ErrorClass, Rejected
from wa_cli.transports.gateway_calls import find_words
from wa_cli.transports.masking import mask
from wa_cli.transports.outcomes import read_retry_after
from wa_cli.transports.web_ids import read_message_id
from wa_cli.transports.wwebjs.states import STATES, make_connection, read_word

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wa_cli.domain.outcome import Outcome


def read_answer(http_status: int, headers: Mapping[str, str], body: bytes, *, secrets: tuple[str, ...] = ()) -> Outcome:
    """What a complete HTTP answer says about the message.  secrets: words that must not appear in the details."""
    try:
        shape = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        shape = None
    if 200 <= http_status < 300:
        return _read_success(http_status, shape, body)
    words = mask(find_words(shape), secrets=secrets)
    has_verdict = isinstance(shape, dict) and shape.get("success") is False
    if http_status == 404 and has_verdict:
        return _not_ready(find_words(shape), http_status)
    refusal = _find_class(http_status)
    if refusal is not None:
        error_class, code, standard = refusal
        return Rejected(
            error_class=error_class,
            code=code,
            details=standard if code == "gateway_key" else words or standard,
            http_status=http_status,
            wait_seconds=read_retry_after(headers) if error_class is ErrorClass.THROTTLE else None,
        )
    kind = mask(headers.get("Content-Type", ""), limit=60) or "no content type"
    details = words if has_verdict and words else f"no verdict in the answer: {len(body)} bytes, {kind}"
    return Ambiguous(code=f"http_{http_status}", details=details, http_status=http_status)


def find_bare_id(message: Any) -> str | None:
    """The bare id (`3EB0...`) of a message as the gateway shows it, or None."""
    whole = message.get("id") if isinstance(message, dict) else None
    candidates = (whole.get("_serialized"), whole.get("id")) if isinstance(whole, dict) else (whole,)
    for candidate in candidates:
        ref = read_message_id(candidate)
        if ref is not None:
            return ref.bare
    return None


def _read_success(http_status: int, shape: Any, body: bytes) -> Outcome:
    if not isinstance(shape, dict):
        details = f"no JSON object in the answer: {len(body)} bytes"
        return Ambiguous(code="unreadable_success", details=details, http_status=http_status)
    told = shape.get("message")
    if shape.get("success") is False and isinstance(told, str) and told in STATES:
        return _not_ready(told, http_status)
    bare = find_bare_id(told)
    if shape.get("success") is not True or shape.get("error"):
        return Ambiguous(code="contradictory", details="HTTP calls it a success, the body does not", http_status=200)
    if bare is None:
        # Seen where WhatsApp Web is newer than the gateway: it has gone out, or has not.
        return Ambiguous(
            code="no_message_id", details="a success without a readable message id", http_status=http_status
        )
    return Accepted(provider_message_id=bare, http_status=http_status)


def _find_class(http_status: int) -> tuple[ErrorClass, str, str] | None:
    """The class, the code and the words of a refusal that came before anything was sent."""
    match http_status:
        case 401 | 403:
            return ErrorClass.STOP, "gateway_key", "the gateway refuses our key"
        case 404 | 405:
            return ErrorClass.STOP, "gateway_url", "the gateway has no such route: its url is wrong"
        case 413:
            return ErrorClass.DEAD_MESSAGE, "too_large", "the file is larger than the gateway takes"
        case 400 | 415 | 422:
            return ErrorClass.DEAD_MESSAGE, f"http_{http_status}", "the gateway does not take such a message"
        case 429:
            return ErrorClass.THROTTLE, "http_429", "too many requests for the gateway"
        case _:
            return None


def _not_ready(told: str, http_status: int) -> Rejected:
    raw = read_word(told)
    connection = make_connection(raw)
    ready = connection.state is ConnectionState.READY  # it was not when it was asked, and is by now
    return Rejected(
        error_class=ErrorClass.NOT_READY,
        code=raw,
        details=connection.reason or "the session was not ready yet",
        http_status=http_status,
        connection=ConnectionState.CONNECTING if ready else connection.state,
    )
