"""Reads GOWA's answer to a send: accepted, rejected, or no verdict.  Pure: bytes in, Outcome out."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from wa_cli.domain.connection import ConnectionState
from wa_cli.domain.outcome import Accepted, Ambiguous, ErrorClass, Rejected
from wa_cli.transports.gateway_calls import parse_json
from wa_cli.transports.gowa.restrictions import read_restriction
from wa_cli.transports.masking import mask
from wa_cli.transports.outcomes import read_retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wa_cli.domain.outcome import Outcome

SUCCESS: Final = "SUCCESS"
DEVICE_NOT_FOUND: Final = "DEVICE_NOT_FOUND"
AUTHENTICATION_ERROR: Final = "AUTHENTICATION_ERROR"
INVALID_JID: Final = "INVALID_JID"
MANAGER_UNAVAILABLE: Final = "DEVICE_MANAGER_UNAVAILABLE"
_CODE: Final = re.compile(r"[A-Za-z0-9_.\-]{1,64}\Z", re.ASCII)
_MESSAGE_ID: Final = re.compile(r"[\x21-\x7e]{1,128}\Z")
_NOT_ON_WHATSAPP: Final = re.compile(r"not (?:registered )?on whatsapp", re.I)


def read_answer(
    http_status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    secrets: tuple[str, ...] = (),
    now: datetime | None = None,
) -> Outcome:
    """What a complete HTTP answer says about the message.

    Accepted wants a 200, the envelope's own word for success and a readable message id.  Rejected wants an envelope
    with a code that is known to come before anything is sent.  A server error says nothing: GOWA gives up on its own
    side after 45 s, and busy groups take longer.
    secrets: words that must not appear in the details.
    """
    shape = parse_json(body)
    code = read_code(shape)
    if code is None:
        return _read_bare(http_status, headers, body)
    words = read_words(shape, secrets)
    if 200 <= http_status < 300:
        message_id = _find_message_id(shape)
        if code == SUCCESS and message_id is not None:
            return Accepted(provider_message_id=message_id, http_status=http_status)
        name = "no_message_id" if code == SUCCESS else "unreadable_success"
        return Ambiguous(code=name, details=words or "a success without a message id", http_status=http_status)
    restriction = read_restriction(
        code, words, shape.get("results"), retry_after=headers.get("Retry-After", ""), now=now or datetime.now(UTC)
    )
    if restriction is not None:
        return Rejected(
            error_class=ErrorClass.RESTRICTED,
            code=restriction.code,
            details=words or restriction.reason,
            http_status=http_status,
            restriction=restriction,
        )
    match http_status:
        case 401:
            return _read_unauthorized(code, words, http_status)
        case 404 if code == DEVICE_NOT_FOUND:
            return _not_ready(ConnectionState.DISCONNECTED, code, words or "the gateway knows no such device", 404)
        case 503 if code == MANAGER_UNAVAILABLE:
            return _not_ready(ConnectionState.CONNECTING, code, words or "the gateway is starting", 503)
        case 400 | 404 | 413 | 415 | 422 | 429:
            return _read_refusal(code, words, http_status, headers)
        case _:
            return Ambiguous(code=code, details=words or f"HTTP {http_status}", http_status=http_status)


def read_code(shape: Any) -> str | None:
    """The code of GOWA's envelope, or None when the answer is somebody else's."""
    code = shape.get("code") if isinstance(shape, dict) else None
    return code if isinstance(code, str) and _CODE.match(code) else None


def read_words(shape: Any, secrets: tuple[str, ...] = ()) -> str:
    """What the envelope says to people, masked; "" when it says nothing."""
    words = shape.get("message") if isinstance(shape, dict) else None
    return mask(words, secrets=secrets) if isinstance(words, str) else ""


def _read_unauthorized(code: str, words: str, http_status: int) -> Rejected:
    if code == AUTHENTICATION_ERROR:
        return _not_ready(ConnectionState.DISCONNECTED, code, words or "the device is not connected", http_status)
    return _wrong_key(http_status)


def _read_refusal(code: str, words: str, http_status: int, headers: Mapping[str, str]) -> Rejected:
    """A refusal by the gateway itself, before anything went to WhatsApp."""
    error_class, attempts, wait = ErrorClass.DEAD_MESSAGE, None, None
    if code == INVALID_JID:
        error_class = ErrorClass.DEAD_RECIPIENT
        if _NOT_ON_WHATSAPP.search(words):
            # It says so as well when its own look-up has failed: asked once more before it is believed.
            error_class, attempts = ErrorClass.RETRY, 2
    elif code in ("DEVICE_ID_REQUIRED", DEVICE_NOT_FOUND):
        error_class = ErrorClass.STOP
    elif http_status == 429:
        error_class, wait = ErrorClass.THROTTLE, read_retry_after(headers)
    return Rejected(
        error_class=error_class,
        code=code,
        details=words or f"HTTP {http_status}",
        http_status=http_status,
        max_attempts=attempts,
        wait_seconds=wait,
    )


def _read_bare(http_status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """An answer without GOWA's envelope: its front door's, a proxy's, or one that was cut."""
    match http_status:
        case 401 | 403:
            return _wrong_key(http_status)
        case 404 | 405:
            return Rejected(
                error_class=ErrorClass.STOP,
                code="gateway_url",
                details="the gateway has no such route: its url is wrong, or it has a base path",
                http_status=http_status,
            )
        case 413:
            return Rejected(
                error_class=ErrorClass.DEAD_MESSAGE,
                code="too_large",
                details="the file is larger than the gateway takes",
                http_status=http_status,
            )
        case 429:
            return Rejected(
                error_class=ErrorClass.THROTTLE,
                code="http_429",
                details="too many requests for what stands before the gateway",
                http_status=http_status,
                wait_seconds=read_retry_after(headers),
            )
    kind = mask(headers.get("Content-Type", ""), limit=60) or "no content type"
    name = "unreadable_success" if 200 <= http_status < 300 else f"http_{http_status}_without_verdict"
    return Ambiguous(code=name, details=f"no answer of GOWA's: {len(body)} bytes, {kind}", http_status=http_status)


def _wrong_key(http_status: int) -> Rejected:
    return Rejected(
        error_class=ErrorClass.STOP,
        code="gateway_key",
        details="the gateway refuses our user and password",
        http_status=http_status,
    )


def _not_ready(state: ConnectionState, code: str, words: str, http_status: int) -> Rejected:
    return Rejected(
        error_class=ErrorClass.NOT_READY, code=code, details=words, http_status=http_status, connection=state
    )


def _find_message_id(shape: Any) -> str | None:
    results = shape.get("results")
    message_id = results.get("message_id") if isinstance(results, dict) else None
    return message_id if isinstance(message_id, str) and _MESSAGE_ID.match(message_id) else None
