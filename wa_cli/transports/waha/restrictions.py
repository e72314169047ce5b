"""What WAHA tells of a number that WhatsApp holds back.

The fields are newer than the published contract and all optional.  Source: `gateways` section 8.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

from wa_cli.domain.connection import Restriction, RestrictionScope
from wa_cli.transports.masking import mask

TIME_LOCK: Final = "463"
TIME_LOCK_WORDS: Final = "WhatsApp lets the number open no new chats for a time"
# Temporary bans, by the codes of the library behind two of the engines: nothing at all may be sent.
_BANS: Final = {
    "101": "WhatsApp has banned the number for a time: too many people do not have it saved",
    "102": "WhatsApp has banned the number for a time: too many people have blocked it",
    "103": "WhatsApp has banned the number for a time: it has made too many groups",
    "104": "WhatsApp has banned the number for a time: it sent the same message to too many people",
    "106": "WhatsApp has banned the number for a time: it sent too many broadcasts",
}
_UNTIL_AT: Final = ("until", "timeEnforcementEnds", "time_enforcement_ends", "endsAt", "expiresAt")
_LATEST_MS: Final = 10**14


def find_restriction(error: Any) -> Restriction | None:
    """The restriction that an error object tells of, or None.

    error: with `code` and where WAHA is new enough `blocked`, `reason` and `until`.
    """
    if not isinstance(error, dict):
        return None
    code = read_code(error.get("code"))
    reason = error.get("reason")
    words = mask(reason, limit=200) if isinstance(reason, str) else ""
    if code == TIME_LOCK:
        return _restriction(code, words or TIME_LOCK_WORDS, RestrictionScope.NEW_PEOPLE, error)
    if error.get("blocked") is True:
        standard = _BANS.get(code or "", "WhatsApp has blocked the number for a time")
        return _restriction(code or "blocked", words or standard, RestrictionScope.EVERYTHING, error)
    return None


def read_time_lock(lock: Any, *, now_ms: int) -> Restriction | None:
    """The time-lock that a session's `me` tells of; None when there is none, or it is over."""
    if not isinstance(lock, dict) or any(lock.get(name) is False for name in ("isActive", "is_active", "active")):
        return None
    until_ms = _read_until(lock)
    is_active = any(lock.get(name) is True for name in ("isActive", "is_active", "active"))
    if (until_ms is None and not is_active) or (until_ms is not None and until_ms <= now_ms):
        return None
    return _restriction(TIME_LOCK, TIME_LOCK_WORDS, RestrictionScope.NEW_PEOPLE, lock)


def read_code(value: Any) -> str | None:
    """A code of an error: an integer, or a short word."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**9:
        return str(value)
    return value if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_\-]{1,40}", value, re.ASCII) else None


def _restriction(code: str, reason: str, scope: RestrictionScope, told: dict[str, Any]) -> Restriction:
    return Restriction(code=code, reason=reason, scope=scope, until_ms=_read_until(told))


def _read_until(told: dict[str, Any]) -> int | None:
    """The stated end in milliseconds since 1970, from seconds, milliseconds or ISO 8601; None where there is none."""
    for name in _UNTIL_AT:
        value = told.get(name)
        if isinstance(value, str) and value.isdigit() and len(value) <= 14:
            value = int(value)
        if isinstance(value, str):
            try:
                at = datetime.fromisoformat(value)
            except ValueError:
                continue
            return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _LATEST_MS:
            return int(value * 1000 if value < 10**11 else value)
    return None
