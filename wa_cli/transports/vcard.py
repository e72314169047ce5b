"""A contact as the vCard that WhatsApp's clients send."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wa_cli.domain.message import ContactCard


def write_card(card: ContactCard) -> str:
    """The contact as a vCard 3.0 with the number that WhatsApp knows it by."""
    lines = [
        "BEGIN:VCARD",
        "VERSION:3.0",
        f"FN:{_escape(card.name)}",
        f"N:;{_escape(card.name)};;;",
        *([f"ORG:{_escape(card.organization)};"] if card.organization else []),
        f"TEL;type=CELL;type=VOICE;waid={card.phone.removeprefix('+')}:{card.phone}",
        "END:VCARD",
    ]
    return "\n".join(lines)


def _escape(text: str) -> str:
    escaped = re.sub(r"([\\;,])", r"\\\1", text)
    return re.sub(r"\r\n|[\r\n]", r"\\n", escaped)
