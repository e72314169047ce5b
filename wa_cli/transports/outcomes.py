"""The message ids of the last answers: one that comes again is cached or crossed, and proves nothing (promise P3)."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from wa_cli.domain.outcome import Accepted, Ambiguous

if TYPE_CHECKING:
    from wa_cli.domain.outcome import Outcome

REMEMBERED_IDS: Final = 4096  # a repeated answer comes from a proxy's cache or a crossed connection, so soon or never


class RecentIds:
    """The ids that the last posts of one transport were given."""

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
