"""What GOWA takes, judged before anything is queued and without a network."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from wa_cli.domain.message import ContactCard, Location, Media, MediaKind, Poll, Reaction, Text, content_type
from wa_cli.ports import Problem
from wa_cli.transports.content_checks import check_length, check_letters, check_link, check_not_blank

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wa_cli.domain.message import Content
    from wa_cli.domain.recipient import RecipientKind

MAX_TEXT_UNITS: Final = 65_536
MAX_CAPTION_UNITS: Final = 1_024
MAX_NAME_UNITS: Final = 240
MAX_QUESTION_UNITS: Final = 255
MAX_OPTION_UNITS: Final = 100
LEAST_OPTIONS, MOST_OPTIONS = 2, 12  # WhatsApp's own
# The gateway's own limits, unless somebody has changed them there.
MAX_BYTES: Final[Mapping[str, int]] = {"image": 20_000_000, "document": 50_000_000, "video": 100_000_000}
_WITHOUT_CAPTION: Final = (MediaKind.AUDIO, MediaKind.VOICE, MediaKind.STICKER)
_IMAGES: Final = ("image/jpeg", "image/png")
_MESSAGE_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_DEGREES: Final = re.compile(r"-?\d{1,3}(?:\.\d{1,15})?", re.ASCII)


class GowaRules:
    """The limits of GOWA's send calls."""

    def find_problem(self, content: Content) -> Problem | None:
        """The first thing that GOWA would refuse in this content, or drop without a word; or None."""
        match content:
            case Text():
                return (
                    check_letters("the text", content.body)
                    or check_not_blank("the text", content.body, "give it with --text")
                    or check_length("the text", content.body, MAX_TEXT_UNITS)
                )
            case Media():
                return _check_media(content)
            case Location():
                return _check_location(content)
            case ContactCard():
                return _check_card(content)
            case Poll():
                return _check_poll(content)
            case Reaction():
                return _check_reaction(content)
            case _:
                return Problem(
                    message=f"GOWA cannot send a message of type {content_type(content)}",
                    hint="write it as text, or send through an instance of another transport",
                )

    def needs_window(self, content: Content) -> bool:
        """Never: a linked device may always write."""
        return False

    def find_recipient_problem(self, kind: RecipientKind) -> Problem | None:
        """None: people and groups can both be reached."""
        return None


def _check_media(content: Media) -> Problem | None:
    kind = content.kind
    if content.file is None:
        problem = check_link("the media link", content.link)
        if problem is None and content.filename is not None:
            problem = Problem(
                message="GOWA names a file by its link, and takes no other name",
                hint="leave the file name out, or send a local file",
            )
    else:
        most = MAX_BYTES.get(kind.value)
        problem = None
        if most is not None and content.file.size > most:
            problem = Problem(
                message=f"the file has {content.file.size:,} bytes, more than the {most:,} that GOWA takes",
                hint="make it smaller, or send a link to it as text",
            )
        elif kind is MediaKind.IMAGE and content.file.mime_type not in _IMAGES:
            problem = Problem(
                message=f"GOWA sends JPEG and PNG as images, not {content.file.mime_type}",
                hint="send it with --type document",
            )
        elif content.filename is not None:
            problem = check_letters("the file name", content.filename) or check_length(
                "the file name", content.filename, MAX_NAME_UNITS
            )
    if problem is None and content.caption is not None:
        if kind in _WITHOUT_CAPTION:
            return Problem(
                message=f"a message of type {kind} cannot have a caption",
                hint="leave out --caption, or send the words as a message of their own",
            )
        problem = check_letters("the caption", content.caption) or check_length(
            "the caption", content.caption, MAX_CAPTION_UNITS
        )
    return problem


def _check_location(content: Location) -> Problem | None:
    for what, written, most in (("latitude", content.latitude, 90.0), ("longitude", content.longitude, 180.0)):
        if not _DEGREES.fullmatch(written) or abs(float(written)) > most:
            return Problem(
                message=f"the {what} is not in degrees from -{most:.0f} to {most:.0f}", hint="such as 3.1390"
            )
    if content.name or content.address:
        return Problem(
            message="GOWA sends a place without a name and an address",
            hint="leave them out, and send the words as a message of their own",
        )
    return None


def _check_card(content: ContactCard) -> Problem | None:
    if content.organization:
        return Problem(
            message="GOWA sends a card without an organization", hint="leave it out, or write it behind the name"
        )
    return (
        check_letters("the card's name", content.name)
        or check_not_blank("the card's name", content.name, "give the card a name")
        or check_length("the card's name", content.name, MAX_NAME_UNITS)
    )


def _check_poll(content: Poll) -> Problem | None:
    problem = (
        check_letters("the question", content.question)
        or check_not_blank("the question", content.question, "give the poll a question")
        or check_length("the question", content.question, MAX_QUESTION_UNITS)
    )
    if problem is not None:
        return problem
    if not LEAST_OPTIONS <= len(content.options) <= MOST_OPTIONS:
        return Problem(
            message=f"a poll has {LEAST_OPTIONS} to {MOST_OPTIONS} options, not {len(content.options)}",
            hint="give --option once for each",
        )
    if len(set(content.options)) < len(content.options):
        return Problem(message="the poll has an option twice", hint="give each option once")
    for place, option in enumerate(content.options, start=1):
        problem = (
            check_letters(f"option {place}", option)
            or check_not_blank(f"option {place}", option, "give each option some text")
            or check_length(f"option {place}", option, MAX_OPTION_UNITS)
        )
        if problem is not None:
            return problem
    if not 0 <= content.max_answers <= len(content.options):
        return Problem(
            message=f"of {len(content.options)} options nobody can choose {content.max_answers}",
            hint="0 allows any number",
        )
    return None


def _check_reaction(content: Reaction) -> Problem | None:
    if not _MESSAGE_ID.fullmatch(content.message_id):
        return Problem(
            message="the id of the message to react to cannot be one of WhatsApp's",
            hint="`wa message show` tells the provider's id of a message",
        )
    if not content.emoji:
        return Problem(message="GOWA cannot take a reaction back", hint="react with another emoji")
    return check_letters("the emoji", content.emoji)
