"""What WAHA takes, judged before anything is queued and without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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
from wa_cli.transports.content_checks import check_length, check_letters
from wa_cli.transports.linked_checks import (
    MAX_OPTION_UNITS,
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

MAX_ROWS: Final = 10
MAX_EMOJI_UNITS: Final = 32


class WahaRules:
    """Text, files, places, cards, polls, lists and reactions, to people and to groups."""

    def find_problem(self, content: Content) -> Problem | None:
        """The first thing WAHA would refuse in this content, or None."""
        match content:
            case Text():
                return check_words("the text", content.body, MAX_TEXT_UNITS)
            case Media(kind=MediaKind.STICKER) | Template() | Buttons():
                return Problem(
                    message=f"WAHA cannot send a message of type {content_type(content)}",
                    hint="write it as text, or send an image",
                )
            case Media():
                return check_media(content)
            case Location():
                return check_place(content)
            case ContactCard():
                return check_card(content)
            case Poll():
                return check_poll(content, whose="WAHA's")
            case ListMenu():
                return _check_list(content)
            case Reaction():
                return check_letters("the emoji", content.emoji) or check_length(
                    "the emoji", content.emoji, MAX_EMOJI_UNITS
                )

    def needs_window(self, content: Content) -> bool:
        """A linked device may write at any time."""
        return False

    def find_recipient_problem(self, kind: RecipientKind) -> Problem | None:
        """It reaches people and groups."""
        return None


def _check_list(content: ListMenu) -> Problem | None:
    rows = [row for section in content.sections for row in section.rows]
    problem = check_words("the text", content.body, MAX_TEXT_UNITS) or check_words(
        "the button", content.button, MAX_OPTION_UNITS
    )
    if problem is None and not 1 <= len(rows) <= MAX_ROWS:
        problem = Problem(message=f"a list has 1 to {MAX_ROWS} rows, not {len(rows)}", hint="change the rows")
    if problem is None and len({row.id for row in rows}) < len(rows):
        problem = Problem(message="two rows of the list have the same id", hint="give each row an id of its own")
    for row in rows:
        problem = problem or check_words("a row's title", row.title, MAX_OPTION_UNITS)
    return problem
