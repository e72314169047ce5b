"""What every transport says alike of a post: not posted at all, told to wait, accepted under an id that is not new."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from wa_cli.domain.outcome import Accepted, Ambiguous, ErrorClass, Rejected

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wa_cli.domain.outcome import Outcome

REMEMBERED_IDS: Final = 4096  # a repeated answer comes from a proxy's cache or a crossed connection, so soon or never


def refuse_unposted(code: str, details: str) -> Rejected:
    """A message that cannot be posted at all, and was not (http_status 0)."""
    return Rejected(error_class=ErrorClass.DEAD_MESSAGE, code=code, details=details, http_status=0)


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """How many seconds an answer asks to wait, or None where it does not say so in seconds."""
    written = headers.get("Retry-After", "").strip()
    return float(written) if written.isascii() and written.isdigit() and len(written) < 6 else None


class RecentIds:
    """The ids that the last posts of one transport were given (promise P3).

    One that comes again is a cached or crossed answer: it proves nothing of the message that it was given for.
    """

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def judge(self, outcome: Outcome) -> Outcome:
        """The outcome, or that nobody knows where it carries the id of an earlier message."""
        if not isinstance(outcome, Accepted):
            return outcome
        message_id = outcome.provider_message_id
        if message_id in self._ids:
            return Ambiguous(
                code="repeated_id",
                details="the answer carries the message id of an earlier message",
                http_status=outcome.http_status,
            )
        self._ids[message_id] = None
        if len(self._ids) > REMEMBERED_IDS:
            self._ids.popitem(last=False)
        return outcome
