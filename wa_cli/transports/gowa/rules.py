"""What GOWA takes, judged before anything is queued and without a network."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from wa_cli.domain.message import ContactCard, Location, Media, MediaKind, Poll, Reaction, Text, content_type
from wa_cli.ports import Problem
from wa_cli.transports.content_checks import check_letters
from wa_cli.transports.linked_checks import (
    MAX_TEXT_UNITS,
    check_card,
    check_media,
    check_place,
    check_poll,
    check_words,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wa_cli.domain.message import Content
    from wa_cli.domain.recipient import RecipientKind

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
                return check_words("the text", content.body, MAX_TEXT_UNITS)
            case Media():
                return _check_media(content)
            case Location():
                return _check_place(content)
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
    if content.caption is not None and kind in _WITHOUT_CAPTION:
        return Problem(
            message=f"a message of type {kind} cannot have a caption",
            hint="leave out --caption, or send the words as a message of their own",
        )
    if content.file is None:
        if content.filename is not None:
            return Problem(
                message="GOWA names a file by its link, and takes no other name",
                hint="leave the file name out, or send a local file",
            )
        return check_media(content)
    most = MAX_BYTES.get(kind.value)
    if most is not None and content.file.size > most:
        return Problem(
            message=f"the file has {content.file.size:,} bytes, more than the {most:,} that GOWA takes",
            hint="make it smaller, or send a link to it as text",
        )
    if kind is MediaKind.IMAGE and content.file.mime_type not in _IMAGES:
        return Problem(
            message=f"GOWA sends JPEG and PNG as images, not {content.file.mime_type}",
            hint="send it with --type document",
        )
    return check_media(content)


def _check_place(content: Location) -> Problem | None:
    problem = check_place(content)
    if problem is None and not (_DEGREES.fullmatch(content.latitude) and _DEGREES.fullmatch(content.longitude)):
        problem = Problem(message="the place is not in plain decimal degrees", hint="such as 1.2966,103.7764")
    if problem is None and (content.name or content.address):
        problem = Problem(
            message="GOWA sends a place without a name and an address",
            hint="leave them out, and send the words as a message of their own",
        )
    return problem


def _check_card(content: ContactCard) -> Problem | None:
    if content.organization:
        return Problem(
            message="GOWA sends a card without an organization", hint="leave it out, or write it behind the name"
        )
    return check_card(content)


def _check_poll(content: Poll) -> Problem | None:
    count = len(content.options)
    if not 0 <= content.max_answers <= count:
        return Problem(
            message=f"of {count} options nobody can choose {content.max_answers}", hint="0 allows any number"
        )
    return check_poll(replace(content, max_answers=0), whose="GOWA's")  # any number of answers between is fine


def _check_reaction(content: Reaction) -> Problem | None:
    if not _MESSAGE_ID.fullmatch(content.message_id):
        return Problem(
            message="the id of the message to react to cannot be one of WhatsApp's",
            hint="`wa message show` tells the provider's id of a message",
        )
    if not content.emoji:
        return Problem(message="GOWA cannot take a reaction back", hint="react with another emoji")
    return check_letters("the emoji", content.emoji)
