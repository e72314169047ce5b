"""JSON that came from outside, before anybody believes it: how large and how deep it may be, and what it must be."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from wa_cli.domain.webhook import LARGEST_BODY_BYTES
from wa_cli.errors import UsageError

MAX_DEPTH: Final = 32  # the deepest body of Meta's has about twelve levels, a gateway's with its raw message twenty

_WORD: Final = re.compile(r"[A-Za-z0-9_.\-]{1,48}", re.ASCII)
_STRINGS: Final = re.compile(
    rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.S
)  # an unfinished one too, so that no byte is read twice
_TO_PARENTHESES: Final = bytes.maketrans(b"[]{}", b"()()")
_NO_BRACKETS: Final = bytes(sign for sign in range(256) if sign not in b"[]{}")


def parse_body(body: bytes, *, whose: str) -> dict[str, Any]:
    """The object that a webhook's body is.  whose: who posts such bodies, for the hint.

    Raises: UsageError (code `webhook`).
    """
    if len(body) > LARGEST_BODY_BYTES:
        raise unreadable(f"the body has {len(body):,} bytes, more than the {LARGEST_BODY_BYTES:,} that are read", whose)
    if _is_deeper_than(body, MAX_DEPTH):
        raise unreadable(f"the body is nested deeper than {MAX_DEPTH} levels, or its brackets do not match", whose)
    try:
        shape = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise unreadable("the body is not JSON in UTF-8", whose) from error
    if not isinstance(shape, dict):
        raise unreadable("the body is JSON, but not an object", whose)
    return shape


def read_text(value: Any, limit: int) -> str | None:
    """Somebody's words, at most so many characters, without the halves of characters that no file can hold."""
    if not isinstance(value, str) or not value:
        return None
    words = value[:limit]
    return words if words.isascii() else words.encode("utf-8", "replace").decode()


def read_label(value: Any) -> str:
    """A word of the vocabulary of whoever posts, safe to show and to count by."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else "unknown"


def read_object(value: Any) -> dict[str, Any]:
    """An object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def unreadable(message: str, whose: str) -> UsageError:
    return UsageError(message, hint=f"only what {whose} posts can be read here", code="webhook")


def _is_deeper_than(body: bytes, depth: int) -> bool:
    """Whether brackets stand in more than so many levels, or do not match; found without parsing.

    A body with few brackets cannot be deep: there the parser may say that they do not match.
    """
    if body.count(b"[") + body.count(b"{") <= depth:
        return False
    brackets = _STRINGS.sub(b"", body).translate(_TO_PARENTHESES, _NO_BRACKETS)
    for _level in range(depth):
        if not brackets:
            return False
        brackets = brackets.replace(b"()", b"")
    return bool(brackets)
