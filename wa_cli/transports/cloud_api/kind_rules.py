"""What the Cloud API takes of places, contacts, reactions, buttons, lists and uploaded files.

Texts, links and templates are in `rules`, which asks here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from wa_cli.domain.message import MediaKind, count_units, describe_bytes
from wa_cli.ports import Problem
from wa_cli.transports.content_checks import check_length, check_letters, check_not_blank

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wa_cli.domain.message import Buttons, ContactCard, ListMenu, ListSection, LocalFile, Location, Reaction

MAX_PLACE_UNITS = 1000  # ours: of a place's name and address, and of a contact's
MAX_EMOJI_UNITS = 32  # ours: the longest emoji there are have half as many
MAX_REPLY_BUTTONS = 3
MAX_BUTTONS_BODY_UNITS = 1024
MAX_LIST_BODY_UNITS = 4096
MAX_FRAME_UNITS = 60  # of the header above and the footer below
MAX_BUTTON_TITLE_UNITS = 20
MAX_BUTTON_ID_UNITS = 256
MAX_ROWS = 10  # in all sections together
MAX_ROW_ID_UNITS = 200
MAX_ROW_TITLE_UNITS = 24
MAX_ROW_DESCRIPTION_UNITS = 72

_OFFICE: Final = "application/vnd.openxmlformats-officedocument"
# What an uploaded file of each kind may be, and how people say it.
FILE_TYPES: Final[Mapping[MediaKind, tuple[str, ...]]] = {
    MediaKind.IMAGE: ("image/jpeg", "image/png"),
    MediaKind.VIDEO: ("video/mp4", "video/3gpp"),
    MediaKind.AUDIO: ("audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg"),
    MediaKind.VOICE: ("audio/ogg",),
    MediaKind.STICKER: ("image/webp",),
    MediaKind.DOCUMENT: (
        *("text/plain", "application/pdf"),
        *("application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint"),
        *(f"{_OFFICE}.wordprocessingml.document", f"{_OFFICE}.spreadsheetml.sheet"),
        f"{_OFFICE}.presentationml.presentation",
    ),
}
_FILE_WORDS: Final[Mapping[MediaKind, str]] = {
    MediaKind.IMAGE: "JPEG or PNG",
    MediaKind.VIDEO: "MP4 or 3GP",
    MediaKind.AUDIO: "AAC, AMR, MP3, M4A or OGG",
    MediaKind.VOICE: "OGG with Opus",
    MediaKind.STICKER: "WebP",
    MediaKind.DOCUMENT: "PDF, plain text, Word, Excel or PowerPoint",
}
_MEGABYTE: Final = 1024 * 1024
MAX_FILE_BYTES: Final[Mapping[str, int]] = {
    "image": 5 * _MEGABYTE,
    "video": 16 * _MEGABYTE,
    "audio": 16 * _MEGABYTE,
    "voice": 16 * _MEGABYTE,
    "document": 100 * _MEGABYTE,
    "sticker": 500 * 1024,  # an animated one; a still one may have a fifth of it
}

_DEGREES = re.compile(r"[+-]?\d{1,3}(?:\.\d{1,15})?", re.ASCII)
_PHONE = re.compile(r"\+[1-9]\d{6,14}", re.ASCII)
_MESSAGE_ID = re.compile(r"[\x21-\x7e]{1,512}")


def check_file(kind: MediaKind, file: LocalFile) -> Problem | None:
    """Whether an upload of this kind may be such a file."""
    if file.mime_type in FILE_TYPES[kind]:
        most = MAX_FILE_BYTES[kind.value]
        if file.size <= most:
            return None
        return Problem(
            message=f"{with_article(kind)} may have {describe_bytes(most)}, and the file has"
            f" {describe_bytes(file.size)}",
            hint="make it smaller",
        )
    fitting = [one.value for one in MediaKind if file.mime_type in FILE_TYPES[one]]
    return Problem(
        message=f"WhatsApp takes {with_article(kind)} as {_FILE_WORDS[kind]}, and the file is {file.mime_type}",
        hint=f"send it with --type {fitting[0]}" if fitting else f"save it as {_FILE_WORDS[kind]}",
    )


def check_voice_link(link: str) -> Problem | None:
    """Whether a link to a voice message ends like another sort of sound."""
    ending = link.partition("?")[0].rpartition(".")[2].lower()
    if ending not in ("mp3", "m4a", "aac", "amr", "mp4", "wav"):
        return None
    return Problem(
        message=f"a voice message is {_FILE_WORDS[MediaKind.VOICE]}, and the link ends in .{ending}",
        hint="send it with --type audio",
    )


def check_location(content: Location) -> Problem | None:
    for what, degrees, bound in (("latitude", content.latitude, 90), ("longitude", content.longitude, 180)):
        if not _DEGREES.fullmatch(degrees) or abs(float(degrees)) > bound:
            return Problem(
                message=f"the {what} is '{degrees[:40]}', not degrees from -{bound} to {bound}",
                hint="write it with a point: 25.2048; south and west are negative",
            )
    return _check_optional("the place's name", content.name, MAX_PLACE_UNITS) or _check_optional(
        "the place's address", content.address, MAX_PLACE_UNITS
    )


def check_card(content: ContactCard) -> Problem | None:
    if not _PHONE.fullmatch(content.phone):
        return Problem(message="the contact's number is not in international form", hint="write it like +6581234567")
    return _check_words(
        "the contact's name", content.name, MAX_PLACE_UNITS, "say whose number it is"
    ) or _check_optional("the contact's organization", content.organization, MAX_PLACE_UNITS)


def check_reaction(content: Reaction) -> Problem | None:
    if not _MESSAGE_ID.fullmatch(content.message_id):
        return Problem(
            message="a reaction needs the id of the message that it is for",
            hint="`wa message list` shows ours; the platform's own begins with wamid.",
        )
    emoji = content.emoji
    if emoji and (
        emoji.isascii()
        or any(letter.isalpha() or letter.isspace() for letter in emoji)
        or count_units(emoji) > MAX_EMOJI_UNITS
        or check_letters("the reaction", emoji) is not None
    ):
        return Problem(message="a reaction is one emoji, or nothing to take it back", hint="for example 👍")
    return None


def check_buttons(content: Buttons) -> Problem | None:
    if not 1 <= len(content.buttons) <= MAX_REPLY_BUTTONS:
        return Problem(
            message=f"there are {len(content.buttons)} buttons, and WhatsApp shows 1 to {MAX_REPLY_BUTTONS}",
            hint=f"a list holds up to {MAX_ROWS} choices",
        )
    problem = _check_frame(content, MAX_BUTTONS_BODY_UNITS)
    for button in content.buttons:
        what = f"the title of button '{button.id[:40]}'"
        problem = (
            problem
            or _check_words("the id of a button", button.id, MAX_BUTTON_ID_UNITS, "each button has an id and a title")
            or _check_words(what, button.title, MAX_BUTTON_TITLE_UNITS, "each button has an id and a title")
        )
    return (
        problem
        or _check_unique("button ids", (button.id for button in content.buttons))
        or _check_unique("button titles", (button.title for button in content.buttons))
    )


def check_list(content: ListMenu) -> Problem | None:
    rows = [row for section in content.sections for row in section.rows]
    if not 1 <= len(rows) <= MAX_ROWS or not all(section.rows for section in content.sections):
        return Problem(
            message=f"the list has {len(rows)} rows in {len(content.sections)} sections, and WhatsApp shows"
            f" 1 to {MAX_ROWS} rows in all, at least one in each section",
            hint="split the list, or ask in two steps",
        )
    problem = _check_frame(content, MAX_LIST_BODY_UNITS) or _check_words(
        "the label of the list's button", content.button, MAX_BUTTON_TITLE_UNITS, "for example Choose"
    )
    for section in content.sections:
        problem = problem or _check_section(section, is_only=len(content.sections) == 1)
    return problem or _check_unique("row ids", (row.id for row in rows))


def _check_section(section: ListSection, *, is_only: bool) -> Problem | None:
    problem = None
    if section.title is not None or not is_only:
        problem = _check_words(
            "the title of a section", section.title or "", MAX_ROW_TITLE_UNITS, "each of several sections has a title"
        )
    for row in section.rows:
        what = f"row '{row.id[:40]}'"
        problem = (
            problem
            or _check_words("the id of a row", row.id, MAX_ROW_ID_UNITS, "each row has an id and a title")
            or _check_words(f"the title of {what}", row.title, MAX_ROW_TITLE_UNITS, "each row has an id and a title")
            or _check_optional(f"the description of {what}", row.description, MAX_ROW_DESCRIPTION_UNITS)
        )
    return problem


def _check_frame(content: Buttons | ListMenu, limit: int) -> Problem | None:
    """The words around the choices."""
    return (
        _check_words("the text", content.body, limit, "say what the choices are about")
        or _check_optional("the header", content.header, MAX_FRAME_UNITS)
        or _check_optional("the footer", content.footer, MAX_FRAME_UNITS)
    )


def _check_unique(what: str, words: Iterable[str]) -> Problem | None:
    seen: set[str] = set()
    for word in words:
        if word in seen:
            return Problem(message=f"two {what} are '{word[:40]}'", hint="each has to be different")
        seen.add(word)
    return None


def _check_words(what: str, text: str, limit: int, hint: str) -> Problem | None:
    return check_letters(what, text) or check_not_blank(what, text, hint) or check_length(what, text, limit)


def _check_optional(what: str, text: str | None, limit: int) -> Problem | None:
    return None if text is None else _check_words(what, text, limit, "leave it out or give one")


def with_article(kind: MediaKind) -> str:
    return {
        MediaKind.IMAGE: "an image",
        MediaKind.VIDEO: "a video",
        MediaKind.DOCUMENT: "a document",
        MediaKind.AUDIO: "an audio message",
        MediaKind.VOICE: "a voice message",
        MediaKind.STICKER: "a sticker",
    }[kind]
