"""What a message costs, by country and category, as the user's own price list says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

ANY: Final = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Prices by (country, category): two letters in upper case and a word in lower case, or `*` for any."""

    prices: Mapping[tuple[str, str], tuple[str, Decimal]]

    def price(self, region: str | None, category: str) -> tuple[str, Decimal] | None:
        """Currency and price of one message, or None where the list has none.

        What is said of a country goes before what is said of all.  region: None where nobody knows it.
        """
        kind = category.lower()
        for country in (region.upper(), ANY) if region else (ANY,):
            for word in (kind, ANY):
                if (found := self.prices.get((country, word))) is not None:
                    return found
        return None
