"""From the filled parts of a campaign's message to what it is: a place, a card, a poll, buttons or a list."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wa_cli.domain.message import (
    Buttons,
    ContactCard,
    ListMenu,
    ListRow,
    ListSection,
    Location,
    Poll,
    ReplyButton,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wa_cli.domain.message import Content


def assemble(kind: str, parts: Mapping[str, str], *, text: str, header: str | None) -> Content:
    """The message of a kind.

    parts: its filled texts by their places, such as `options.0` or `sections.0.rows.1.title`.  text: above buttons and
    lists, as the header is.  Raises: ValueError for another kind.
    """
    match kind:
        case "location":
            return Location(
                latitude=parts.get("latitude", "").strip(),
                longitude=parts.get("longitude", "").strip(),
                name=parts.get("name"),
                address=parts.get("address"),
            )
        case "contact":
            return ContactCard(
                name=parts.get("name", ""),
                phone=re.sub(r"[ ()-]", "", parts.get("phone", "")),
                organization=parts.get("organization"),
            )
        case "poll":
            return Poll(
                question=parts.get("question", ""),
                options=tuple(words for place, words in parts.items() if place.startswith("options.")),
                max_answers=int(parts.get("max_answers", "1")),
            )
        case "buttons":
            return Buttons(
                body=text,
                buttons=tuple(
                    ReplyButton(id=one.get("id", ""), title=one.get("title", "")) for one in _list(parts, "buttons")
                ),
                header=header,
                footer=parts.get("footer"),
            )
        case "list":
            return ListMenu(
                body=text,
                button=parts.get("button", ""),
                sections=tuple(_read_section(section) for section in _list(parts, "sections")),
                header=header,
                footer=parts.get("footer"),
            )
        case _:
            raise ValueError(f"no message of a campaign is of type {kind}")


def _read_section(parts: Mapping[str, str]) -> ListSection:
    rows = tuple(
        ListRow(id=row.get("id", ""), title=row.get("title", ""), description=row.get("description"))
        for row in _list(parts, "rows")
    )
    return ListSection(title=parts.get("title"), rows=rows)


def _list(parts: Mapping[str, str], name: str) -> list[dict[str, str]]:
    """The items below `name.0.`, `name.1.` ..., each with its parts by the rest of their places."""
    items: dict[str, dict[str, str]] = {}
    for place, words in parts.items():
        head, _dot, rest = place.partition(".")
        number, _dot, key = rest.partition(".")
        if head == name:
            items.setdefault(number, {})[key] = words
    return list(items.values())
