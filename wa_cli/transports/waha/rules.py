"""What WAHA takes, judged before anything is queued and without a network."""

from __future__ import annotations

import re
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
from wa_cli.transports.content_checks import check_length, check_letters, check_link, check_not_blank

if TYPE_CHECKING:
    from wa_cli.domain.message import Content
    from wa_cli.domain.recipient import RecipientKind

MAX_TEXT_UNITS: Final = 65_536  # what WhatsApp's own clients let people write
MAX_CAPTION_UNITS: Final = 1024
MAX_QUESTION_UNITS: Final = 255
MAX_OPTION_UNITS: Final = 100
MAX_OPTIONS: Final = 12
MAX_ROWS: Final = 10
MAX_NAME_UNITS: Final = 240
MAX_EMOJI_UNITS: Final = 32


class WahaRules:
    """Text, files, places, cards, polls, lists and reactions, to people and to groups."""

    def find_problem(self, content: Content) -> Problem | None:
        """The first thing WAHA would refuse in this content, or None."""
        match content:
            case Text():
                return _check_words("the text", content.body, MAX_TEXT_UNITS)
            case Media(kind=MediaKind.STICKER) | Template() | Buttons():
                return Problem(
                    message=f"WAHA cannot send a message of type {content_type(content)}",
                    hint="write it as text, or send an image",
                )
            case Media():
                return _check_media(content)
            case Location():
                return _check_degrees("the latitude", content.latitude, 90) or _check_degrees(
                    "the longitude", content.longitude, 180
                )
            case ContactCard():
                return _check_card(content)
            case Poll():
                return _check_poll(content)
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


def _check_words(what: str, text: str, limit: int) -> Problem | None:
    return (
        check_letters(what, text) or check_not_blank(what, text, "write something") or check_length(what, text, limit)
    )


def _check_media(content: Media) -> Problem | None:
    problem = check_link("the media link", content.link) if content.file is None else None
    if problem is None and content.caption is not None:
        if content.kind is MediaKind.VOICE:
            return Problem(
                message="a voice message cannot have a caption",
                hint="leave out --caption, or send the words as a message of their own",
            )
        problem = check_letters("the caption", content.caption) or check_length(
            "the caption", content.caption, MAX_CAPTION_UNITS
        )
    if problem is None and content.filename is not None:
        problem = _check_words("the file name", content.filename, MAX_NAME_UNITS)
        if problem is None and re.search(r"[/\\\x00-\x1f\x7f]", content.filename):
            problem = Problem(
                message="the file name holds a slash or a control character", hint="give the bare name: menu.pdf"
            )
    return problem


def _check_degrees(what: str, written: str, most: int) -> Problem | None:
    try:
        fits = -most <= float(written) <= most
    except ValueError:
        fits = False
    if fits:
        return None
    return Problem(message=f"{what} is not a number from -{most} to {most}", hint="decimal degrees: 1.2966,103.7764")


def _check_card(content: ContactCard) -> Problem | None:
    problem = _check_words("the contact's name", content.name, MAX_NAME_UNITS)
    if problem is None and not re.fullmatch(r"\+[1-9]\d{4,14}", content.phone, re.ASCII):
        problem = Problem(message="the contact's number is not an international one", hint="write it as +6581234567")
    if problem is None and content.organization is not None:
        problem = _check_words("the contact's organization", content.organization, MAX_NAME_UNITS)
    return problem


def _check_poll(content: Poll) -> Problem | None:
    count = len(content.options)
    if (problem := _check_words("the question", content.question, MAX_QUESTION_UNITS)) is not None:
        return problem
    if not 2 <= count <= MAX_OPTIONS:
        return Problem(message=f"a poll has 2 to {MAX_OPTIONS} options, not {count}", hint="change the options")
    for place, option in enumerate(content.options, start=1):
        if (problem := _check_words(f"option {place}", option, MAX_OPTION_UNITS)) is not None:
            return problem
    if len(set(content.options)) < count:
        return Problem(message="an option of the poll is there twice", hint="give each option once")
    if content.max_answers not in (0, 1) and content.max_answers < count:
        return Problem(
            message=f"WAHA's polls allow one answer or any number of them, not {content.max_answers}",
            hint="let people choose 1, or 0 for any",
        )
    return None


def _check_list(content: ListMenu) -> Problem | None:
    rows = [row for section in content.sections for row in section.rows]
    problem = _check_words("the text", content.body, MAX_TEXT_UNITS) or _check_words(
        "the button", content.button, MAX_OPTION_UNITS
    )
    if problem is None and not 1 <= len(rows) <= MAX_ROWS:
        problem = Problem(message=f"a list has 1 to {MAX_ROWS} rows, not {len(rows)}", hint="change the rows")
    if problem is None and len({row.id for row in rows}) < len(rows):
        problem = Problem(message="two rows of the list have the same id", hint="give each row an id of its own")
    for row in rows:
        problem = problem or _check_words("a row's title", row.title, MAX_OPTION_UNITS)
    return problem
