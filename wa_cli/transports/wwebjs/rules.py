"""What wwebjs-api takes, judged before anything is queued and without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wa_cli.domain.message import (
    Buttons,
    ContactCard,
    ListMenu,
    Location,
    Media,
    MediaKind,
    Poll,
    Reaction,
    Template,
    Text,
    content_type,
)
from wa_cli.ports import Problem
from wa_cli.transports.linked_checks import (
    MAX_TEXT_UNITS,
    check_card,
    check_media,
    check_place,
    check_poll,
    check_words,
)

if TYPE_CHECKING:
    from wa_cli.domain.message import Content
    from wa_cli.domain.recipient import RecipientKind


class WwebjsRules:
    """Text, files, places, cards and polls, to people and to groups."""

    def find_problem(self, content: Content) -> Problem | None:
        """The first thing the gateway would refuse in this content, or None."""
        match content:
            case Text():
                return check_words("the text", content.body, MAX_TEXT_UNITS)
            case Media():
                if content.kind is MediaKind.STICKER and content.caption is not None:
                    return Problem(message="a sticker cannot have a caption", hint="send the words as a message")
                return check_media(content)
            case Location():
                return check_place(content)
            case ContactCard():
                return check_card(content)
            case Poll():
                return check_poll(content, whose="wwebjs-api's")
            case Template() | Reaction() | Buttons() | ListMenu():
                return Problem(
                    message=f"wwebjs-api cannot send a message of type {content_type(content)}",
                    hint="write it as text, or make it a poll",
                )

    def needs_window(self, content: Content) -> bool:
        """A linked device may write at any time."""
        return False

    def find_recipient_problem(self, kind: RecipientKind) -> Problem | None:
        """It reaches people and groups."""
        return None
