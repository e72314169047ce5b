"""What pruning takes out of a database, what it leaves, and how old history has to be for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

DAY_MS: Final = 86_400_000

# Everything that looks back, by how far.  Nothing younger than the longest of these may go, and what may still come
# about a message needs its row:
#   24 h     limits of a day, new people and chats, the window of free text, restrictions, silent numbers
#   2 days   receipts without a tag of ours, matched by their id; a day more until they are forgotten
#   7 days   Meta offers a webhook that was not taken again for so long; answers count for their message for so long;
#            proven duplicates are shown in `wa status`
#   28 days  a young number is warmed up
#   29 days  what Meta keeps of an uploaded file
#   30 days  WhatsApp keeps a message for a phone that is off, and then fails it; a message that was taken may until
#            then be sent again, and needs its files; a look-up of a number holds
# A message can thus be spoken of for the first time 37 days after it was posted: 30 on its way, 7 as a webhook.
LONGEST_LOOK_BACK_DAYS: Final = 30 + 7
# Half as much again for clocks, for a server that was down, and for whoever reads yesterday's list.
LEAST_DAYS: Final = 60


def least_days(*, duplicate_window_hours: int, key_days: int, webhook_days: int) -> int:
    """How old the youngest history is that may be pruned, by what the settings add to LEAST_DAYS.

    duplicate_window_hours: WA_DUPLICATE_WINDOW_HOURS.  key_days: WA_KEY_DAYS.  webhook_days: WA_WEBHOOK_DAYS, since raw
    webhooks that are kept may be read again, and find their messages then; 0 keeps them for ever, and asks for nothing.
    """
    return max(LEAST_DAYS, -(-duplicate_window_hours // 24) + 1, key_days + 1, webhook_days + 1)


# Why old messages stay, in words for people, in the order in which they are told.
KEPT_WORDS: Final = {
    "waiting": "waiting or on their way",
    "unknown": "of unknown outcome: wa reconcile",
    "failed": "failed and not dismissed: wa failed list",
    "campaign": "of campaigns that have not ended, or ended with failures, unknowns or later news",
    "answered": "answered, of a campaign by name: its sums need them",
    "guard": "still needed: by a key, another message, later news, or as the newest of all",
}


@dataclass(slots=True, kw_only=True)
class PruneSums:
    """What went, or would go.

    messages: by the word they are shown with.  keys: idempotency keys that guard nothing any more.  runs: of campaigns,
    whose reports were kept.  left_out: lines of their ledgers for people who got no message.
    kept: old messages that stay, by the reason, see KEPT_WORDS.  has_all_contents: False while words that belong to
    nothing could not be told from words that are being queued or planned at this moment.
    """

    messages: dict[str, int] = field(default_factory=dict)
    attempts: int = 0
    receipts: int = 0
    decisions: int = 0
    keys: int = 0
    batches: int = 0
    contents: int = 0
    files: int = 0
    runs: int = 0
    left_out: int = 0
    kept: dict[str, int] = field(default_factory=dict)
    has_all_contents: bool = True

    @property
    def message_count(self) -> int:
        return sum(self.messages.values())
