"""What WhatsApp's own clients let people send, and so what any gateway to a linked device can be asked for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from wa_cli.domain.message import MediaKind
from wa_cli.ports import Problem
from wa_cli.transports.content_checks import check_length, check_letters, check_link, check_not_blank

if TYPE_CHECKING:
    from wa_cli.domain.message import ContactCard, Location, Media, Poll

MAX_TEXT_UNITS: Final = 65_536
MAX_CAPTION_UNITS: Final = 1024
MAX_QUESTION_UNITS: Final = 255
MAX_OPTION_UNITS: Final = 100
MAX_OPTIONS: Final = 12
MAX_NAME_UNITS: Final = 240


def check_words(what: str, text: str, limit: int) -> Problem | None:
    return (
        check_letters(what, text) or check_not_blank(what, text, "write something") or check_length(what, text, limit)
    )


def check_media(content: Media) -> Problem | None:
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
        problem = check_words("the file name", content.filename, MAX_NAME_UNITS)
        if problem is None and re.search(r"[/\\\x00-\x1f\x7f]", content.filename):
            problem = Problem(
                message="the file name holds a slash or a control character", hint="give the bare name: menu.pdf"
            )
    return problem


def check_place(content: Location) -> Problem | None:
    return _check_degrees("the latitude", content.latitude, 90) or _check_degrees(
        "the longitude", content.longitude, 180
    )


def _check_degrees(what: str, written: str, most: int) -> Problem | None:
    try:
        fits = -most <= float(written) <= most
    except ValueError:
        fits = False
    if fits:
        return None
    return Problem(message=f"{what} is not a number from -{most} to {most}", hint="decimal degrees: 1.2966,103.7764")


def check_card(content: ContactCard) -> Problem | None:
    problem = check_words("the contact's name", content.name, MAX_NAME_UNITS)
    if problem is None and not re.fullmatch(r"\+[1-9]\d{4,14}", content.phone, re.ASCII):
        problem = Problem(message="the contact's number is not an international one", hint="write it as +6581234567")
    if problem is None and content.organization is not None:
        problem = check_words("the contact's organization", content.organization, MAX_NAME_UNITS)
    return problem


def check_poll(content: Poll, *, whose: str) -> Problem | None:
    """whose: the gateway in the genitive, for gateways that know one answer or any number of them."""
    count = len(content.options)
    if (problem := check_words("the question", content.question, MAX_QUESTION_UNITS)) is not None:
        return problem
    if not 2 <= count <= MAX_OPTIONS:
        return Problem(message=f"a poll has 2 to {MAX_OPTIONS} options, not {count}", hint="change the options")
    for place, option in enumerate(content.options, start=1):
        if (problem := check_words(f"option {place}", option, MAX_OPTION_UNITS)) is not None:
            return problem
    if len(set(content.options)) < count:
        return Problem(message="an option of the poll is there twice", hint="give each option once")
    if content.max_answers not in (0, 1) and content.max_answers < count:
        return Problem(
            message=f"{whose} polls allow one answer or any number of them, not {content.max_answers}",
            hint="let people choose 1, or 0 for any",
        )
    return None
