"""Which country a number belongs to."""

from __future__ import annotations

from functools import lru_cache

DIGITS_ASKED = 7  # North America has its countries in the first four digits of a number, others in up to seven


def region_of(address: str) -> str:
    """The ISO region of an E.164 address, or "" for a group, a person without a number, and numbers of no country."""
    return _region_of(address[: 1 + DIGITS_ASKED], len(address)) if address.startswith("+") else ""


@lru_cache(maxsize=65_536)
def _region_of(beginning: str, length: int) -> str:
    import phonenumbers

    parsed = phonenumbers.PhoneNumber()
    try:
        parsed = phonenumbers.parse(beginning + "0" * max(length - len(beginning), 0))
    except phonenumbers.NumberParseException:
        return ""
    known = phonenumbers.region_code_for_number(parsed)
    if known is None:  # made-up digits behind the beginning need not be a number: the country's main region then
        known = phonenumbers.region_code_for_country_code(parsed.country_code or 0)
    return "" if known in (None, "ZZ", "001") else str(known)
