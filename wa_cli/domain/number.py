"""Whether numbers are on WhatsApp, as it was looked up: how long that holds and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wa_cli.domain.connection import OnWhatsApp

if TYPE_CHECKING:
    from wa_cli.domain.connection import NumberCheck

# A look-up holds for so long: numbers change hands, and whoever asks about many at once is slowed down.
HOLDS_MS: Final = 30 * 86_400_000

# Why nothing is queued for a number, as the store writes it.
NOT_ON_WHATSAPP: Final = "not_on_whatsapp"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedNumber:
    """What was found out about a number, and when."""

    check: NumberCheck
    checked_at_ms: int

    def holds(self, *, now_ms: int) -> bool:
        """Whether it need not be looked up again.  A look-up that told nothing never holds."""
        return self.check.verdict is not OnWhatsApp.UNKNOWN and 0 <= now_ms - self.checked_at_ms < HOLDS_MS
