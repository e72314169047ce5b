"""What WhatsApp's network says when it lets a number write less, in the words that GOWA passes on.

Source: section 8 of the gateways' sheet; the codes and their meanings are whatsmeow's.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from wa_cli.domain.connection import Restriction, RestrictionScope

if TYPE_CHECKING:
    from collections.abc import Mapping

TIME_LOCK: Final = "WA_REACHOUT_TIMELOCK"
_LOCKED: Final = re.compile(r"(?:error|code|status)\W{1,3}463\b|reach-?out time-?lock", re.I)
_BANNED: Final = re.compile(r"temporar\w* ban", re.I)
_BAN_CODE: Final = re.compile(r"\b(10[1-6])\b")
# Go's way to write a length of time, such as 23h59m12.5s.
_EXPIRES: Final = re.compile(
    r"expires? (?:in|after)\W{1,3}((?:\d{1,6}(?:\.\d{1,9})?(?:h|m(?!s)|s|ms|µs|us|ns)){1,6})", re.I
)
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|µs|us|ns)", re.I)
_SECONDS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_UNTIL_NAMES: Final = ("until", "expires_at", "expiry", "retry_at")
_MEANINGS: Final[Mapping[str, str]] = {
    "101": "too many messages to people who have not saved the number",
    "102": "too many people have blocked the number",
    "103": "too many groups made with people who have not saved the number",
    "104": "the same message to too many people",
    "106": "too many messages through a broadcast list",
}
_LATEST_SECONDS: Final = 10**10


def read_restriction(
    code: str, words: str, results: Any = None, *, retry_after: str = "", now: datetime
) -> Restriction | None:
    """The restriction that an error tells of, or None.

    words: the gateway's message.  results: what else it says.  retry_after: the header.  now: aware UTC.
    """
    if _BANNED.search(words):
        found = _BAN_CODE.search(words)
        ban = found[1] if found else "ban"
        why = _MEANINGS.get(ban)
        return Restriction(
            code=ban,
            reason="WhatsApp has banned the number for a time" + (f": {why}" if why else ""),
            scope=RestrictionScope.EVERYTHING,
            until_ms=_find_end(words, results, retry_after, now),
        )
    if code == TIME_LOCK or _LOCKED.search(words):
        return Restriction(
            code="463",
            reason="WhatsApp lets the number open no new chats for a time",
            scope=RestrictionScope.NEW_PEOPLE,
            until_ms=_find_end(words, results, retry_after, now),
        )
    return None


def _find_end(words: str, results: Any, retry_after: str, now: datetime) -> int | None:
    now_ms = int(now.timestamp() * 1000)
    if isinstance(results, dict):
        for name in _UNTIL_NAMES:
            at_ms = read_time_ms(results.get(name))
            if at_ms > now_ms:
                return at_ms
    found = _EXPIRES.search(words)
    if found:
        seconds = sum(float(number) * _SECONDS.get(unit.lower(), 0.0) for number, unit in _PART.findall(found[1]))
        return now_ms + int(seconds * 1000)
    if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 8:
        return now_ms + int(retry_after) * 1000
    return None


def read_time_ms(value: Any) -> int:
    """Milliseconds since 1970 from an RFC 3339 time or from seconds; 0 for what is no time."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value * 1000) if 0 < value < _LATEST_SECONDS else 0
    if not isinstance(value, str) or len(value) > 40:
        return 0
    try:
        # Go writes nanoseconds, of which Python reads no more than six digits.
        moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", value))
    except ValueError:
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return max(0, int(moment.timestamp() * 1000))
    except (OverflowError, ValueError):
        return 0
