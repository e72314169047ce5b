"""What the Cloud API takes, judged before anything is queued and without a network."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, assert_never

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
)
from wa_cli.domain.recipient import RecipientKind
from wa_cli.ports import Problem
from wa_cli.transports.cloud_api.kind_rules import (
    check_buttons,
    check_card,
    check_file,
    check_list,
    check_location,
    check_reaction,
    check_voice_link,
    with_article,
)
from wa_cli.transports.content_checks import check_length, check_letters, check_link, check_not_blank

if TYPE_CHECKING:
    from wa_cli.domain.message import Content, TemplateButton, TemplateHeader, TemplateParameter

# Meta counts "characters" without saying of what; we count UTF-16 units, the largest of the likely meanings,
# so an emoji counts two and nothing that passes here is refused there.
MAX_TEXT_UNITS = 4096
MAX_CAPTION_UNITS = 1024
MAX_HEADER_TEXT_UNITS = 60
MAX_PARAMETERS_UNITS = 1024  # a filled template body holds no more, so neither do its values together
MAX_PAYLOAD_UNITS = 256  # of a reply button's id; a template's payload has no published limit of its own
MAX_COUPON_UNITS = 15
MAX_BUTTON_URL_UNITS = 2000
MAX_FILENAME_UNITS = 240  # ours: file systems stop at 255 bytes
MAX_BUTTONS = 10

_TEMPLATE_NAME = re.compile(r"[a-z0-9_]{1,512}", re.ASCII)
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:_[A-Z][a-z]{3})?(?:_(?:[A-Z]{2}|[0-9]{3}))?", re.ASCII)
_PARAMETER_NAME = re.compile(r"[a-z0-9_]{1,128}", re.ASCII)
_BROKEN_VALUE = re.compile(r"[\r\n\t\v\f\x85\u2028\u2029]| {5,}")


class CloudApiRules:
    """The limits of a send call: everything but polls, and people only."""

    def find_problem(self, content: Content) -> Problem | None:
        """The first thing the Cloud API would refuse in this content, or None."""
        match content:
            case Text():
                return _check_text(content)
            case Media():
                return _check_media(content)
            case Template():
                return _check_template(content)
            case Location():
                return check_location(content)
            case ContactCard():
                return check_card(content)
            case Reaction():
                return check_reaction(content)
            case Buttons():
                return check_buttons(content)
            case ListMenu():
                return check_list(content)
            case Poll():
                return Problem(
                    message="the Cloud API has no polls",
                    hint="ask with buttons or a list, or send it through an instance of a gateway",
                )
            case _:
                assert_never(content)

    def needs_window(self, content: Content) -> bool:
        """Everything but a template: code 131047 refuses it once a person has not written for a day."""
        return not isinstance(content, Template)

    def find_recipient_problem(self, kind: RecipientKind) -> Problem | None:
        """Why the Cloud API cannot reach such recipients, or None."""
        match kind:
            case RecipientKind.PERSON:
                return None
            case RecipientKind.GROUP:
                return Problem(
                    message="the Cloud API cannot send to WhatsApp groups",
                    hint="list the group's members as numbers, or send through an instance of a gateway",
                )
            case _:
                assert_never(kind)


def _check_text(content: Text) -> Problem | None:
    return (
        check_letters("the text", content.body)
        or check_not_blank("the text", content.body, "give it with --text, or a file with `wa send batch FILE`")
        or check_length("the text", content.body, MAX_TEXT_UNITS)
    )


def _check_media(content: Media) -> Problem | None:
    kind = content.kind
    if content.file is not None:
        problem = check_file(kind, content.file)
    else:
        problem = check_link("the media link", content.link)
        if problem is None and kind is MediaKind.VOICE:
            problem = check_voice_link(content.link)
    if problem is None and content.caption is not None:
        if kind in (MediaKind.AUDIO, MediaKind.VOICE, MediaKind.STICKER):
            return Problem(
                message=f"{with_article(kind)} cannot have a caption",
                hint="leave out --caption, or send the words as a message of their own",
            )
        problem = check_letters("the caption", content.caption) or check_length(
            "the caption", content.caption, MAX_CAPTION_UNITS
        )
    if problem is None and content.filename is not None:
        if kind is not MediaKind.DOCUMENT:
            return Problem(
                message=f"{with_article(kind)} cannot have a file name, only a document can",
                hint="leave the file name out, or send it with --type document",
            )
        problem = (
            check_letters("the file name", content.filename)
            or check_not_blank("the file name", content.filename, "leave it out or give one")
            or check_length("the file name", content.filename, MAX_FILENAME_UNITS)
        )
        if problem is None and re.search(r"[/\\\x00-\x1f\x7f]", content.filename):
            problem = Problem(
                message="the file name holds a slash or a control character",
                hint="give the bare name: menu.pdf",
            )
    return problem


def _check_template(template: Template) -> Problem | None:
    if not _TEMPLATE_NAME.fullmatch(template.name):
        return Problem(
            message="a template's name is made of a-z, 0-9 and _, at most 512 of them",
            hint="use the name that WhatsApp Manager shows",
        )
    if not _LANGUAGE.fullmatch(template.language):
        return Problem(
            message="the template's language is not a code that Meta uses",
            hint="write it as en, en_US or pt_BR",
        )
    if (problem := _check_parameters(template.parameters)) is not None:
        return problem
    if template.header is not None and (problem := _check_header(template.header)) is not None:
        return problem
    return _check_buttons(template.buttons)


def _check_parameters(parameters: tuple[TemplateParameter, ...]) -> Problem | None:
    names = [parameter.name for parameter in parameters if parameter.name is not None]
    if names and len(names) != len(parameters):
        return Problem(
            message="the template's values are partly named and partly by position",
            hint="name all of them or none, as the template itself does",
        )
    seen: set[str] = set()
    for name in names:
        if not _PARAMETER_NAME.fullmatch(name):
            return Problem(
                message="a template value's name is made of a-z, 0-9 and _",
                hint="use the name inside the template's {{ }}",
            )
        if name in seen:
            return Problem(message=f"the template value '{name}' is given twice", hint="give each name once")
        seen.add(name)
    for place, parameter in enumerate(parameters, start=1):
        what = f"the template value '{parameter.name}'" if parameter.name else f"template value {place}"
        if (problem := _check_value(what, parameter.value, MAX_PARAMETERS_UNITS)) is not None:
            return problem
    together = "".join(parameter.value for parameter in parameters)
    return check_length("all template values together", together, MAX_PARAMETERS_UNITS)


def _check_header(header: TemplateHeader) -> Problem | None:
    match header.kind:
        case "text":
            return _check_value("the header's value", header.value, MAX_HEADER_TEXT_UNITS)
        case "image" | "video" | "document":
            return check_link("the header's link", header.value)
        case _:
            return Problem(
                message="a template's header is a text, an image, a video or a document",
                hint="write it as image=https://...",
            )


def _check_buttons(buttons: tuple[TemplateButton, ...]) -> Problem | None:
    seen: set[int] = set()
    for button in buttons:
        what = f"the value of button {button.index}"
        if not 0 <= button.index < MAX_BUTTONS:
            return Problem(
                message=f"there is no button {button.index}: they count from 0 to {MAX_BUTTONS - 1}",
                hint="count all buttons of the template, from 0",
            )
        if button.index in seen:
            return Problem(message=f"button {button.index} is given twice", hint="give each button once")
        seen.add(button.index)
        match button.sub_type:
            case "url":
                problem = _check_value(what, button.value, MAX_BUTTON_URL_UNITS)
                if problem is None and not re.fullmatch(r"(?:[\x21-\x24\x26-\x7e]|%[0-9A-Fa-f]{2})+", button.value):
                    problem = Problem(
                        message=f"{what} is not percent-encoded",
                        hint="write a blank as %20, and other letters alike",
                    )
            case "quick_reply":
                problem = (
                    check_letters(what, button.value)
                    or check_not_blank(what, button.value, "give each button that you name a value")
                    or check_length(what, button.value, MAX_PAYLOAD_UNITS)
                )
            case "copy_code":
                problem = _check_value(what, button.value, MAX_COUPON_UNITS)
            case _:
                problem = Problem(
                    message="a button's kind is url, quick_reply or copy_code",
                    hint="only buttons with a variable need a value",
                )
        if problem is not None:
            return problem
    return None


def _check_value(what: str, value: str, limit: int) -> Problem | None:
    """Template values: one line, no tab, no run of five blanks."""
    problem = check_letters(what, value) or check_not_blank(what, value, "give each value some text")
    if problem is None and _BROKEN_VALUE.search(value):
        problem = Problem(
            message=f"{what} holds a line break, a tab or more than four blanks in a row",
            hint="keep each value on one line",
        )
    return problem or check_length(what, value, limit)
