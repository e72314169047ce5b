"""What the Cloud API takes, judged before anything is queued and without a network."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, assert_never
from urllib.parse import urlsplit

from wa_cli.domain.message import Media, MediaKind, Template, Text, content_type, count_units
from wa_cli.domain.recipient import RecipientKind
from wa_cli.ports import Problem

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

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
MAX_LINK_BYTES = 2048  # ours: what proxies and browsers agree on
MAX_BUTTONS = 10

_TEMPLATE_NAME = re.compile(r"[a-z0-9_]{1,512}", re.ASCII)
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:_[A-Z][a-z]{3})?(?:_(?:[A-Z]{2}|[0-9]{3}))?", re.ASCII)
_PARAMETER_NAME = re.compile(r"[a-z0-9_]{1,128}", re.ASCII)
_BROKEN_VALUE = re.compile(r"[\r\n\t\v\f\x85\u2028\u2029]| {5,}")
_NUMERIC = re.compile(r"\d+|0x[0-9a-f]*", re.ASCII)
_BROKEN_TEXT = re.compile(r"[\x00\ud800-\udfff]")
_LOCAL_ENDINGS = ("localhost", ".localhost", ".local", ".internal", ".lan", ".home.arpa", ".test", ".invalid")


class CloudApiRules:
    """The limits of a send call: text, media by public link, filled templates, people only."""

    def find_problem(self, content: Content) -> Problem | None:
        """The first thing the Cloud API would refuse in this content, or None."""
        match content:
            case Text():
                return _check_text(content)
            case Media():
                return _check_media(content)
            case Template():
                return _check_template(content)
            case _:
                return Problem(
                    message=f"the Cloud API cannot send a message of type {content_type(content)}",
                    hint="write it as text, or send through an instance of a gateway",
                )

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
        _check_letters("the text", content.body)
        or _check_not_blank("the text", content.body, "give it with --text, or a file with `wa send batch FILE`")
        or _check_length("the text", content.body, MAX_TEXT_UNITS)
    )


def _check_media(content: Media) -> Problem | None:
    kind = content.kind
    problem = _check_link("the media link", content.link)
    if problem is None and content.caption is not None:
        if kind in (MediaKind.AUDIO, MediaKind.STICKER):
            return Problem(
                message=f"{_with_article(kind)} cannot have a caption",
                hint="leave out --caption, or send the words as a message of their own",
            )
        problem = _check_letters("the caption", content.caption) or _check_length(
            "the caption", content.caption, MAX_CAPTION_UNITS
        )
    if problem is None and content.filename is not None:
        if kind is not MediaKind.DOCUMENT:
            return Problem(
                message=f"{_with_article(kind)} cannot have a file name, only a document can",
                hint="leave the file name out, or send it with --type document",
            )
        problem = (
            _check_letters("the file name", content.filename)
            or _check_not_blank("the file name", content.filename, "leave it out or give one")
            or _check_length("the file name", content.filename, MAX_FILENAME_UNITS)
        )
        if problem is None and re.search(r"[/\\\x00-\x1f\x7f]", content.filename):
            problem = Problem(
                message="the file name holds a slash or a control character",
                hint="give the bare name: menu.pdf",
            )
    return problem


@lru_cache(maxsize=256)  # a campaign's people mostly get the same file
def _check_link(what: str, link: str) -> Problem | None:
    hint = "give an https:// link that anyone can open without logging in"
    if (problem := _check_letters(what, link)) is not None:
        return problem
    try:
        parts = urlsplit(link)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return Problem(message=f"{what} is not a URL", hint=hint)
    if parts.scheme.lower() != "https" or not host:
        if parts.scheme.lower() == "http":
            return Problem(message=f"{what} is plain http, and WhatsApp fetches media over TLS only", hint=hint)
        return Problem(message=f"{what} is not a link that WhatsApp can fetch", hint=hint)
    if re.search(r"[\s\x00-\x1f\x7f]", link):
        return Problem(message=f"{what} holds a blank or a control character", hint="write a blank as %20")
    if parts.username is not None or parts.password is not None:
        return Problem(message=f"{what} holds a user or a password", hint=hint)
    if len(link.encode("utf-8")) > MAX_LINK_BYTES:
        over = len(link.encode("utf-8")) - MAX_LINK_BYTES
        return Problem(message=f"{what} is {over} bytes too long (at most {MAX_LINK_BYTES})", hint=hint)
    if _is_private(host):
        return Problem(message=f"{what} points into a private network, where WhatsApp cannot fetch it", hint=hint)
    return None


def _is_private(host: str) -> bool:
    """Whether a host is plainly not on the public internet, however it is spelt.  Looks nothing up (fault 76)."""
    import ipaddress

    # What a resolver makes of full-width digits and the full stops of other scripts.
    host = unicodedata.normalize("NFKC", host).replace("\u3002", ".").rstrip(".").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # No name ends in a number: what does is an address in octal, in hexadecimal, or with parts left out.
        ending = host.rpartition(".")[2]
        return "." not in host or "%" in host or host.endswith(_LOCAL_ENDINGS) or bool(_NUMERIC.fullmatch(ending))
    if isinstance(address, ipaddress.IPv6Address):
        address = _find_inner(address)
    return not address.is_global or address.is_multicast


def _find_inner(address: IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one leads to, or the address itself."""
    import ipaddress

    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and int(address) >> 32 in (0, 0x64FF9B << 64):  # ::a.b.c.d, and NAT64's 64:ff9b::a.b.c.d
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return inner or address


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
    return _check_length("all template values together", together, MAX_PARAMETERS_UNITS)


def _check_header(header: TemplateHeader) -> Problem | None:
    match header.kind:
        case "text":
            return _check_value("the header's value", header.value, MAX_HEADER_TEXT_UNITS)
        case "image" | "video" | "document":
            return _check_link("the header's link", header.value)
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
                    _check_letters(what, button.value)
                    or _check_not_blank(what, button.value, "give each button that you name a value")
                    or _check_length(what, button.value, MAX_PAYLOAD_UNITS)
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
    problem = _check_letters(what, value) or _check_not_blank(what, value, "give each value some text")
    if problem is None and _BROKEN_VALUE.search(value):
        problem = Problem(
            message=f"{what} holds a line break, a tab or more than four blanks in a row",
            hint="keep each value on one line",
        )
    return problem or _check_length(what, value, limit)


def _check_letters(what: str, text: str) -> Problem | None:
    found = _BROKEN_TEXT.search(text)
    if found is None:
        return None
    name = "a NUL character" if found[0] == "\x00" else "half of a character (a lone surrogate)"
    return Problem(
        message=f"{what} holds {name} at position {found.start() + 1}",
        hint="save the source as UTF-8 and type that place again",
    )


def _check_not_blank(what: str, text: str, hint: str) -> Problem | None:
    # Not strip(): a text of zero-width characters alone is as empty to its reader.
    if any(letter.isprintable() and not letter.isspace() for letter in text):
        return None
    return Problem(message=f"{what} is empty", hint=hint)


def _check_length(what: str, text: str, limit: int) -> Problem | None:
    if 2 * len(text) <= limit:  # most texts: a campaign asks this for each of a million people
        return None
    units = count_units(text)
    over = units - limit
    if over <= 0:
        return None
    noun = "character" if over == 1 else "characters"
    verb = "are" if what.startswith("all ") else "is"
    return Problem(
        message=f"{what} {verb} {over:,} {noun} too long: {units:,} of {limit:,}",
        hint="shorten it; an emoji counts as two or more",
    )


def _with_article(kind: MediaKind) -> str:
    return {
        MediaKind.IMAGE: "an image",
        MediaKind.VIDEO: "a video",
        MediaKind.DOCUMENT: "a document",
        MediaKind.AUDIO: "an audio message",
        MediaKind.STICKER: "a sticker",
    }[kind]
