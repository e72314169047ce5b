"""Addresses as WhatsApp's own network spells them, and back."""

from __future__ import annotations

import re
from typing import Any, Final

from wa_cli.domain.recipient import RecipientKind

PERSON_SERVER: Final = "@s.whatsapp.net"
GROUP_SERVER: Final = "@g.us"
HIDDEN_SERVER: Final = "@lid"
# A number may carry the device it came from: 6012...:17@s.whatsapp.net.
_PERSON: Final = re.compile(r"([1-9]\d{4,14})(?:[.:]\d{1,5})*(?:@s\.whatsapp\.net|@c\.us)?", re.ASCII)
_HIDDEN: Final = re.compile(r"(\d{3,20})(?:[.:]\d{1,5})*@lid", re.ASCII)
_GROUP: Final = re.compile(r"\d{5,25}(?:-\d{1,20})?@g\.us", re.ASCII)


def spell_address(address: str, kind: RecipientKind) -> str:
    """The whole id of a chat.  Always whole: a bare number of more than 15 digits is taken for a group."""
    return address if kind is RecipientKind.GROUP else address.removeprefix("+") + PERSON_SERVER


def read_number(value: Any) -> str | None:
    """The E.164 number of a person's id, or None for what is none."""
    found = _PERSON.fullmatch(value) if isinstance(value, str) else None
    return f"+{found[1]}" if found else None


def read_hidden(value: Any) -> str | None:
    """The id of a person who hides the number (`...@lid`), without the device, or None."""
    found = _HIDDEN.fullmatch(value) if isinstance(value, str) else None
    return f"{found[1]}{HIDDEN_SERVER}" if found else None


def read_group(value: Any) -> str | None:
    """The id of a group, or None."""
    return value if isinstance(value, str) and _GROUP.fullmatch(value) else None
