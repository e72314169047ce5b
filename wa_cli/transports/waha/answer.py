"""Reads the answer to a send: accepted, rejected, not ready, restricted, or no verdict.  Pure: bytes in, Outcome out.

A success is the engine's own object, in four shapes.  A refusal counts only where the body says so itself: somebody may
stand in front of WAHA, and the HTTP status alone is theirs as well.  Source: `gateways` section 2.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from wa_cli.domain.connection import ConnectionState
from wa_cli.domain.outcome import Accepted, Ambiguous, ErrorClass, Rejected
from wa_cli.transports.gateway_calls import find_words
from wa_cli.transports.masking import mask
from wa_cli.transports.outcomes import read_retry_after
from wa_cli.transports.waha.restrictions import TIME_LOCK, find_restriction
from wa_cli.transports.waha.states import STATES, STOPPED, UNKNOWN_SESSION, describe_state, map_state
from wa_cli.transports.web_ids import read_message_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wa_cli.domain.connection import Restriction
    from wa_cli.domain.outcome import Outcome

_NO_ROUTE: Final = re.compile(r"Cannot (?:POST|PUT) ")
_ABOUT_SESSION: Final = re.compile(r"\bsession\b", re.I)
_NO_SESSION: Final = re.compile(r"\bsession\b.*(?:not exist|not found|not (?:been )?started|stopped)", re.I | re.S)
# How the library behind two of the engines words the server's refusal; the message has certainly not gone out.
_TIME_LOCKED: Final = re.compile(r"server returned error 463\b|reach-?out[ _]?time-?lock", re.I)
_NAME: Final = re.compile(r"[A-Za-z]{1,40}", re.ASCII)


def read_answer(
    http_status: int, body: bytes, *, kind: str, tag: str, secrets: tuple[str, ...] = (), headers: Mapping[str, str]
) -> Outcome:
    """What a complete HTTP answer says about the message.

    kind: of CONTENT_TYPES.  tag: of the post; it stands in for the id of a reaction, which some engines do not give.
    secrets: words that must not appear in the details.
    """
    try:
        shape = json.loads(body.decode("utf-8")) if body else None
    except (ValueError, RecursionError):
        return _no_verdict(http_status, "unreadable_answer", f"no JSON in the answer: {len(body)} bytes")
    if 200 <= http_status < 300:
        return _read_success(http_status, shape, kind=kind, tag=tag)
    if not isinstance(shape, dict):
        return _no_verdict(http_status, f"http_{http_status}", "the answer is no error of WAHA's")
    restriction = _find_restriction(shape)
    if restriction is not None:
        return Rejected(
            error_class=ErrorClass.RESTRICTED,
            code=restriction.code,
            details=restriction.reason,
            http_status=http_status,
            restriction=restriction,
        )
    status = shape.get("status")
    if http_status == 422 and isinstance(status, str) and (status in STATES or "expected" in shape):
        return _not_ready(status, http_status)
    if shape.get("statusCode") == http_status:
        refused = _read_refusal(http_status, shape, kind=kind, secrets=secrets, headers=headers)
        if refused is not None:
            return refused
    # What follows a 500 echoes the request: nothing of it is shown but the name of the exception.
    exception = shape.get("exception")
    name = exception.get("name") if isinstance(exception, dict) else None
    named = f" ({name})" if isinstance(name, str) and _NAME.fullmatch(name) else ""
    return _no_verdict(http_status, f"http_{http_status}", f"WAHA's engine failed{named}: it may have gone out")


def find_bare_id(shape: Any) -> str | None:
    """The bare id (`3EB0...`) of the message in an engine's answer, or None.

    GOWS: `id` is the whole id.  NOWEB: `key.id` is the bare one.  WEBJS and WPP: `id` is an object with both.
    """
    if not isinstance(shape, dict):
        return None
    for place in (shape.get("key"), shape.get("id"), shape.get("_data")):
        if isinstance(place, dict):
            inner = place.get("id")
            found = find_bare_id(place) if isinstance(inner, dict) else None
            candidates = (inner, place.get("_serialized"))
        else:
            found, candidates = None, (place, None)
        for candidate in candidates:
            if found is None and (ref := read_message_id(candidate)) is not None:
                found = ref.bare
        if found is not None:
            return found
    return None


def _read_success(http_status: int, shape: Any, *, kind: str, tag: str) -> Outcome:
    if isinstance(shape, dict) and shape.get("error"):
        return _no_verdict(http_status, "contradictory", "the answer is a success that holds an error")
    bare = find_bare_id(shape)
    if bare is None and kind == "reaction":
        bare = tag
    if bare is None:
        return _no_verdict(http_status, "no_message_id", "a success without a readable message id")
    return Accepted(provider_message_id=bare, http_status=http_status)


def _find_restriction(shape: dict[str, Any]) -> Restriction | None:
    exception = shape.get("exception")
    for place in (shape, shape.get("error"), shape.get("payload"), exception):
        if (restriction := find_restriction(place)) is not None:
            return restriction
    words = exception.get("message") if isinstance(exception, dict) else shape.get("message")
    if isinstance(words, str) and _TIME_LOCKED.search(words):
        return find_restriction({"code": TIME_LOCK})
    return None


def _read_refusal(
    http_status: int, shape: dict[str, Any], *, kind: str, secrets: tuple[str, ...], headers: Mapping[str, str]
) -> Rejected | None:
    """What an error that names its own status says, or None where that leaves it open."""
    words = find_words(shape)
    details = mask(words, secrets=secrets) or f"WAHA answered HTTP {http_status}"
    wait_seconds = None
    match http_status:
        case 401:
            error_class, details = ErrorClass.STOP, "WAHA refuses the key: see the variable that the key is read from"
        case 403:
            error_class, details = ErrorClass.STOP, f"WAHA does not let this key send: {details}"
        case 404 if _NO_ROUTE.search(words):
            # A wrong url fails everything, an old WAHA only what it does not know yet.
            is_url = kind == "text"
            error_class = ErrorClass.STOP if is_url else ErrorClass.DEAD_MESSAGE
            what = (
                "nobody at the url knows WAHA's calls" if is_url else f"this WAHA cannot send a message of type {kind}"
            )
            details = f"{what}; nothing was sent"
        case 404 if kind == "reaction" and not _ABOUT_SESSION.search(words):
            error_class = ErrorClass.DEAD_MESSAGE
        case 404:
            return _not_ready(UNKNOWN_SESSION, http_status)
        case 422 if _NO_SESSION.search(words):
            return _not_ready(STOPPED, http_status)
        case 400 | 422:
            error_class = ErrorClass.DEAD_MESSAGE
        case 413:
            error_class, details = ErrorClass.DEAD_MESSAGE, "the file is larger than the gateway takes"
        case 429:
            error_class = ErrorClass.THROTTLE
            wait_seconds = read_retry_after(headers)
        case _:
            return None
    return Rejected(
        error_class=error_class,
        code=str(http_status),
        details=details,
        http_status=http_status,
        wait_seconds=wait_seconds,
    )


def _not_ready(raw: str, http_status: int) -> Rejected:
    """WAHA has not tried: the session is not connected."""
    word = mask(raw, limit=40)
    state = map_state(word)
    return Rejected(
        error_class=ErrorClass.NOT_READY,
        code=word,
        # It was not ready when it was asked and is by now: that passes by itself.
        details=describe_state(word) or "the session was not ready yet",
        http_status=http_status,
        connection=ConnectionState.CONNECTING if state is ConnectionState.READY else state,
    )


def _no_verdict(http_status: int, code: str, details: str) -> Ambiguous:
    return Ambiguous(code=code, details=details, http_status=http_status)
