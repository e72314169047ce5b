"""What a message says, from the flags of the send family to its parts."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from wa_cli.domain.message import (
    ContactCard,
    ListRow,
    ListSection,
    Location,
    Poll,
    Reaction,
    ReplyButton,
    TemplateButton,
    TemplateHeader,
    TemplateParameter,
)
from wa_cli.errors import UsageError
from wa_cli.services.content import ContentWords, Menu, find_reaction_target

if TYPE_CHECKING:
    from collections.abc import Collection

    from wa_cli.bootstrap import App
    from wa_cli.cli.send_flags import ContentFlags
    from wa_cli.ports import Instance


def read_words(text: str | None, flags: ContentFlags, *, region: str | None) -> ContentWords:
    """The parts of the message that its text and the flags describe.  region: of numbers without a country code."""
    text = _read_text(text) if text is not None else None
    poll = _read_poll(flags, text)
    return ContentWords(
        text=None if poll is not None and flags.question is None else text,
        kind=flags.kind,
        media=flags.media,
        caption=flags.caption,
        filename=flags.filename,
        template=flags.template,
        language=flags.language,
        parameters=_read_params(flags.param or []),
        header=_read_header(flags.header),
        buttons=tuple(_read_button(word) for word in flags.button or []),
        link_preview=flags.link_preview,
        location=_read_location(flags),
        contact=_read_contact(flags, region),
        poll=poll,
        reply_buttons=tuple(_read_reply_button(word) for word in flags.reply_button or []),
        menu=_read_menu(flags.menu) if flags.menu is not None else None,
        footer=flags.footer,
    )


def read_reaction(
    app: App, instance: Instance, target: str | None, emoji: str | None, *, addresses: Collection[str]
) -> Reaction:
    """The reaction that two flags describe.  addresses: whom it is sent to."""
    if target is None or emoji is None:
        missing = "--to-message ID" if target is None else "--emoji"
        raise UsageError(f"a reaction needs {missing}", hint="for example --to-message m42 --emoji 👍")
    return Reaction(message_id=find_reaction_target(app.messages, target, addresses, instance), emoji=emoji)


def _read_location(flags: ContentFlags) -> Location | None:
    latitude, longitude = flags.latitude, flags.longitude
    if latitude is None and longitude is None:
        for flag, value in (("--name", flags.place_name), ("--address", flags.address)):
            if value is not None:
                raise UsageError(f"{flag} belongs to a location", hint="add --latitude and --longitude")
        return None
    if latitude is None or longitude is None:
        raise UsageError(
            f"a location needs {'--latitude' if latitude is None else '--longitude'} too",
            hint="for example --latitude 25.2048 --longitude 55.2708",
        )
    return Location(latitude=latitude, longitude=longitude, name=flags.place_name, address=flags.address)


def _read_contact(flags: ContentFlags, region: str | None) -> ContactCard | None:
    name, phone = flags.contact_name, flags.contact_phone
    if name is None and phone is None and flags.contact_org is None:
        return None
    if name is None or phone is None:
        raise UsageError(
            f"a contact card needs {'--contact-name' if name is None else '--contact-phone'} too",
            hint='for example --contact-name "Ada" --contact-phone +6581234567',
        )
    return ContactCard(name=name, phone=read_phone(phone, region=region), organization=flags.contact_org)


def read_phone(word: str, *, region: str | None) -> str:
    """A number on a contact card, as E.164."""
    from wa_cli.domain.recipient import RecipientKind, parse_recipient

    found = parse_recipient(word, default_region=region)
    if found.kind is not RecipientKind.PERSON:
        raise UsageError(f"'{word}' is no number", hint="a contact card holds a number such as +6581234567")
    return found.address


def _read_poll(flags: ContentFlags, text: str | None) -> Poll | None:
    options = flags.option or []
    question = flags.question if flags.question is not None else text
    if not options:
        for flag, value in (("--question", flags.question), ("--max-answers", flags.max_answers)):
            if value is not None:
                raise UsageError(f"{flag} belongs to a poll", hint="add its answers: --option Yes --option No")
        return None
    if question is None:
        raise UsageError("the poll asks nothing", hint="add --question TEXT")
    most = flags.max_answers
    return Poll(question=question, options=tuple(options), max_answers=1 if most is None else most)


def _read_reply_button(word: str) -> ReplyButton:
    identity, equals, title = word.partition("=")
    if not equals:
        raise UsageError(f"--reply-button is '{word}'", hint="ID=TITLE, for example yes=Yes")
    return ReplyButton(id=identity, title=title)


def _read_menu(file: str) -> Menu:
    """The list in a JSON file: {"button", "sections": [{"title", "rows": [{"id", "title", "description"}]}]}."""
    import json
    from pathlib import Path

    hint = 'for example {"button": "Choose", "sections": [{"rows": [{"id": "a", "title": "A"}]}]}'
    try:
        shape = json.loads(sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(
            f"--list cannot read {file}: {(error.strerror or 'unknown reason').lower()}", hint=hint
        ) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--list {file} is not JSON in UTF-8", hint=hint) from error
    try:
        if extra := sorted(set(shape) - {"button", "sections"}):
            raise UsageError(f"--list {file}: '{extra[0]}' is no part of a list", hint=hint)
        sections = tuple(
            ListSection(title=part.get("title"), rows=tuple(ListRow(**row) for row in part["rows"]))
            for part in shape["sections"]
        )
        menu = Menu(button=shape["button"], sections=sections)
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"--list {file} does not describe a list", hint=hint) from error
    words = [menu.button, *(section.title for section in sections)]
    words += [word for section in sections for row in section.rows for word in (row.id, row.title, row.description)]
    if not all(word is None or isinstance(word, str) for word in words):
        raise UsageError(f"--list {file} holds something that is no text", hint=hint)
    return menu


def _read_text(text: str) -> str:
    if text != "-":
        return text
    if sys.stdin.isatty():
        sys.stderr.write("type the message; end with Ctrl-D\n")
    try:
        return sys.stdin.read().rstrip("\n")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the text on stdin is not {error.encoding.upper()}", hint="save it as UTF-8", code="content"
        ) from error


def _read_params(words: list[str]) -> tuple[TemplateParameter, ...]:
    """`--param Ada` by position, `--param first_name=Ada` by name; all of one call alike."""
    named = [re.fullmatch(r"([a-z_][a-z0-9_]*)=(.*)", word, re.DOTALL) for word in words]
    if words and all(named):
        return tuple(TemplateParameter(name=match[1], value=match[2]) for match in named if match)
    return tuple(TemplateParameter(value=word) for word in words)


def _read_header(word: str | None) -> TemplateHeader | None:
    if word is None:
        return None
    kind, equals, value = word.partition("=")
    if not equals or kind not in ("text", "image", "video", "document"):
        raise UsageError(f"--header is '{word}'", hint="KIND=VALUE, for example image=https://example.org/a.jpg")
    return TemplateHeader(kind=kind, value=value)


def _read_button(word: str) -> TemplateButton:
    place, equals, value = word.partition("=")
    index, _colon, sub_type = place.partition(":")
    if not equals or not index.isdigit() or (sub_type or "url") not in ("url", "quick_reply", "copy_code"):
        raise UsageError(f"--button is '{word}'", hint="INDEX=VALUE for a link, or INDEX:quick_reply=VALUE")
    return TemplateButton(index=int(index), sub_type=sub_type or "url", value=value)
