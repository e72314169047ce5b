"""The 24 hours in which a person who wrote may be answered with free text: open, closed, or not known."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

WINDOW_MS: Final = 24 * 3_600_000


class Window(StrEnum):
    """May free text reach this person now?  Not known: nobody tells this instance who writes to it."""

    OPEN = "open"
    CLOSED = "closed"
    UNKNOWN = "unknown"


class WindowPolicy(StrEnum):
    """What is done about free text to a closed window when it is queued (WA_WINDOW)."""

    WARN = "warn"
    REFUSE = "refuse"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearing:
    """Whether an instance hears what people write: since when webhooks come, and when the last one did."""

    webhooks_since_ms: int | None = None
    last_webhook_at_ms: int | None = None

    def hears_all(self, *, now_ms: int) -> bool:
        """Whether a message of the last 24 h would be known here."""
        return (
            self.webhooks_since_ms is not None
            and self.last_webhook_at_ms is not None
            and self.webhooks_since_ms <= now_ms - WINDOW_MS
            and self.last_webhook_at_ms >= now_ms - WINDOW_MS
        )


def judge_window(
    hearing: Hearing,
    *,
    last_inbound_at_ms: int | None,
    closed_at_ms: int | None,
    now_ms: int,
    due_at_ms: int | None = None,
) -> Window:
    """The window between one instance and one person, now or when a message is due that is queued now.

    last_inbound_at_ms: when they last wrote to it.  closed_at_ms: when the platform last said that it was shut.
    due_at_ms: later than now; that they may write again until then is not counted on.
    The platform's word ends with their next message, and is no longer believed once a day has passed in which such a
    message could have come without being heard.  Of the same moment the message counts.
    Source: section 9 of the Cloud API sheet, code 131047.
    """
    was_shut = closed_at_ms is not None and (last_inbound_at_ms is None or closed_at_ms > last_inbound_at_ms)
    since_ms = max(now_ms, due_at_ms or now_ms) - WINDOW_MS
    if not was_shut and last_inbound_at_ms is not None and last_inbound_at_ms > since_ms:
        return Window.OPEN
    if hearing.hears_all(now_ms=now_ms):
        return Window.CLOSED
    if was_shut and closed_at_ms is not None and closed_at_ms > now_ms - WINDOW_MS:
        return Window.CLOSED
    return Window.UNKNOWN
