"""The body of a send request as the Cloud API wants it, and what such a body says for callers who write their own."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, assert_never

from wa_cli.domain.message import (
    Buttons,
    ContactCard,
    ListMenu,
    ListRow,
    ListSection,
    Location,
    Media,
    MediaKind,
    Poll,
    Reaction,
    ReplyButton,
    Template,
    TemplateButton,
    TemplateHeader,
    TemplateParameter,
    Text,
)
from wa_cli.domain.recipient import RecipientKind
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wa_cli.domain.message import Content
    from wa_cli.ports import Post

# ASCII escapes rather than UTF-8: text that is not valid Unicode stays something the other side can refuse.
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode

CONTENTS_KEPT: Final = 64

# What callers may write as the type of a payload of their own.
PAYLOAD_TYPES: Final = (
    *("text", "template", "image", "video", "document", "audio", "sticker"),
    *("location", "contacts", "reaction", "interactive"),
)


def build_payload(post: Post, *, media_id: str | None = None) -> bytes:
    """The request body as compact ASCII JSON.

    media_id: Meta's id of the file that the content carries, where it is one of ours.
    The number goes out as digits: a plus is only tolerated, and without the country code Meta would
    put the business's own in front.  Raises: ValueError for a group, which this API cannot reach, and for a poll.
    """
    if post.kind is not RecipientKind.PERSON:
        raise ValueError("the Cloud API reaches people only")
    to, tag = _encode(post.address.removeprefix("+")), _encode(post.tag)
    return (
        f'{{"messaging_product":"whatsapp","recipient_type":"individual","to":{to},'
        f'{_encode_content(post.content, media_id)},"biz_opaque_callback_data":{tag}}}'
    ).encode("ascii")


@lru_cache(maxsize=CONTENTS_KEPT)
def _encode_content(content: Content, media_id: str | None) -> str:
    """The two members of a body that say what is sent.  Most posts of a campaign share them."""
    kind, shape = _shape_content(content, media_id)
    return f'"type":{_encode(kind)},{_encode(kind)}:{_encode(shape)}'


def _shape_content(content: Content, media_id: str | None) -> tuple[str, Any]:
    match content:
        case Text():
            text: dict[str, Any] = {"body": content.body}
            if content.preview_url:
                text["preview_url"] = True
            return "text", text
        case Media():
            return _shape_media(content, media_id)
        case Template():
            return "template", _shape_template(content)
        case Location():
            place = {"latitude": content.latitude, "longitude": content.longitude}
            if content.name:
                place["name"] = content.name
            if content.address:
                place["address"] = content.address
            return "location", place
        case ContactCard():
            return "contacts", [_shape_card(content)]
        case Reaction():
            return "reaction", {"message_id": content.message_id, "emoji": content.emoji}
        case Buttons():
            replies = [{"type": "reply", "reply": {"id": one.id, "title": one.title}} for one in content.buttons]
            return "interactive", _shape_interactive("button", content, {"buttons": replies})
        case ListMenu():
            sections = [_shape_section(section) for section in content.sections]
            return "interactive", _shape_interactive("list", content, {"button": content.button, "sections": sections})
        case Poll():
            raise ValueError("the Cloud API has no polls")
        case _:
            assert_never(content)


def _shape_media(media: Media, media_id: str | None) -> tuple[str, dict[str, Any]]:
    if media.file is None:
        shape: dict[str, Any] = {"link": media.link}
    elif media_id is None:
        raise ValueError("a file of ours has to be uploaded first")
    else:
        shape = {"id": media_id}
    if media.caption:
        shape["caption"] = media.caption
    if media.filename:
        shape["filename"] = media.filename
    if media.kind is MediaKind.VOICE:
        return "audio", shape | {"voice": True}
    return media.kind.value, shape


def _shape_card(card: ContactCard) -> dict[str, Any]:
    # Meta wants one more part of the name beside the whole.
    shape: dict[str, Any] = {
        "name": {"formatted_name": card.name, "first_name": card.name.split(maxsplit=1)[0]},
        "phones": [{"phone": card.phone, "wa_id": card.phone.removeprefix("+")}],
    }
    if card.organization:
        shape["org"] = {"company": card.organization}
    return shape


def _shape_interactive(kind: str, content: Buttons | ListMenu, action: dict[str, Any]) -> dict[str, Any]:
    shape: dict[str, Any] = {"type": kind, "body": {"text": content.body}, "action": action}
    if content.header:
        shape["header"] = {"type": "text", "text": content.header}
    if content.footer:
        shape["footer"] = {"text": content.footer}
    return shape


def _shape_section(section: ListSection) -> dict[str, Any]:
    rows = []
    for row in section.rows:
        shape = {"id": row.id, "title": row.title}
        if row.description:
            shape["description"] = row.description
        rows.append(shape)
    return {"title": section.title, "rows": rows} if section.title else {"rows": rows}


def _shape_template(template: Template) -> dict[str, Any]:
    components: list[dict[str, Any]] = []
    if template.header is not None:
        kind, value = template.header.kind, template.header.value
        parameter = {"type": kind, kind: value if kind == "text" else {"link": value}}
        components.append({"type": "header", "parameters": [parameter]})
    if template.parameters:
        parameters = []
        for filled in template.parameters:
            parameter = {"type": "text", "text": filled.value}
            if filled.name is not None:
                parameter["parameter_name"] = filled.name
            parameters.append(parameter)
        components.append({"type": "body", "parameters": parameters})
    for button in template.buttons:
        word, key = _BUTTON_PARAMETERS[button.sub_type]
        components.append(
            {
                "type": "button",
                "sub_type": button.sub_type,
                "index": str(button.index),
                "parameters": [{"type": word, key: button.value}],
            }
        )
    shape: dict[str, Any] = {"name": template.name, "language": {"code": template.language}}
    if components:
        shape["components"] = components
    return shape


# sub_type: (type of its one parameter, the key its value stands under)
_BUTTON_PARAMETERS = {
    "url": ("text", "text"),
    "quick_reply": ("payload", "payload"),
    "copy_code": ("coupon_code", "coupon_code"),
}


# --- the other way round ---


def read_payload(kind: str, payload: Mapping[str, Any]) -> Content:
    """The content that a payload of Meta's stands for (row Q2).  kind: its `type`.

    Raises: UsageError naming the first part that is missing, of another type, or more than wa can send.
    """
    if kind not in PAYLOAD_TYPES:
        raise UsageError(
            f"messages of type '{kind}' cannot be sent", hint=f"one of: {', '.join(PAYLOAD_TYPES)}", code="content"
        )
    _expect(payload, "payload", {kind}, {"type", "messaging_product", "recipient_type"})
    if payload.get("type", kind) != kind:
        raise _wrong("payload", f"its type is not '{kind}'")
    part = payload[kind]
    match kind:
        case "text":
            _expect(part, "text", {"body"}, {"preview_url"})
            return Text(body=_text(part, "text", "body"), preview_url=_flag(part, "text", "preview_url"))
        case "template":
            return _read_template(part)
        case "location":
            _expect(part, "location", {"latitude", "longitude"}, {"name", "address"})
            return Location(
                latitude=_degrees(part, "latitude"),
                longitude=_degrees(part, "longitude"),
                name=_maybe_text(part, "location", "name"),
                address=_maybe_text(part, "location", "address"),
            )
        case "contacts":
            return _read_card(part)
        case "reaction":
            _expect(part, "reaction", {"message_id", "emoji"}, set())
            return Reaction(message_id=_text(part, "reaction", "message_id"), emoji=_text(part, "reaction", "emoji"))
        case "interactive":
            return _read_interactive(part)
    _expect(part, kind, {"link"}, {"caption", "filename"} | ({"voice"} if kind == "audio" else set()))
    is_voice = kind == "audio" and _flag(part, kind, "voice")
    return Media(
        kind=MediaKind.VOICE if is_voice else MediaKind(kind),
        link=_text(part, kind, "link"),
        caption=_maybe_text(part, kind, "caption"),
        filename=_maybe_text(part, kind, "filename"),
    )


def _read_card(part: Any) -> ContactCard:
    if not isinstance(part, list) or len(part) != 1:
        raise _wrong("contacts", "is no list of one contact, which is what wa can send")
    _expect(part[0], "contacts.0", {"name", "phones"}, {"org"})
    name, phones, org = part[0]["name"], part[0]["phones"], part[0].get("org")
    _expect(name, "contacts.0.name", {"formatted_name"}, {"first_name", "last_name"})
    whole = _text(name, "contacts.0.name", "formatted_name")
    for key in ("first_name", "last_name"):
        if (_maybe_text(name, "contacts.0.name", key) or "") not in whole:
            raise _wrong("contacts.0.name", f"{key} is no part of formatted_name")
    if not isinstance(phones, list) or len(phones) != 1:
        raise _wrong("contacts.0.phones", "is no list of one number, which is what wa can send")
    _expect(phones[0], "contacts.0.phones.0", {"phone"}, {"wa_id"})
    phone = re.sub(r"[ ()-]", "", _text(phones[0], "contacts.0.phones.0", "phone"))
    if phones[0].get("wa_id", phone.removeprefix("+")) != phone.removeprefix("+"):
        raise _wrong("contacts.0.phones.0", "wa_id is another number")
    if org is not None:
        _expect(org, "contacts.0.org", {"company"}, set())
    return ContactCard(
        name=whole, phone=phone, organization=None if org is None else _text(org, "contacts.0.org", "company")
    )


def _read_interactive(part: Any) -> Buttons | ListMenu:
    place = "interactive"
    _expect(part, place, {"type", "body", "action"}, {"header", "footer"})
    _expect(part["body"], f"{place}.body", {"text"}, set())
    body = _text(part["body"], f"{place}.body", "text")
    header, footer = part.get("header"), part.get("footer")
    if header is not None:
        _expect(header, f"{place}.header", {"type", "text"}, set())
        if header["type"] != "text":
            raise _wrong(f"{place}.header", "wa sends a header of text alone")
        header = _text(header, f"{place}.header", "text")
    if footer is not None:
        _expect(footer, f"{place}.footer", {"text"}, set())
        footer = _text(footer, f"{place}.footer", "text")
    action, place = part["action"], f"{place}.action"
    match part["type"]:
        case "button":
            _expect(action, place, {"buttons"}, set())
            buttons = tuple(_read_reply(one, f"{place}.buttons") for one in _items(action, place, "buttons"))
            return Buttons(body=body, buttons=buttons, header=header, footer=footer)
        case "list":
            _expect(action, place, {"button", "sections"}, set())
            sections = tuple(_read_section(one, f"{place}.sections") for one in _items(action, place, "sections"))
            return ListMenu(
                body=body, button=_text(action, place, "button"), sections=sections, header=header, footer=footer
            )
        case _:
            raise _wrong("interactive", "its type is neither button nor list")


def _read_reply(one: Any, place: str) -> ReplyButton:
    _expect(one, place, {"type", "reply"}, set())
    if one["type"] != "reply":
        raise _wrong(place, "the type of such a button is reply")
    reply = one["reply"]
    _expect(reply, f"{place}.reply", {"id", "title"}, set())
    return ReplyButton(id=_text(reply, f"{place}.reply", "id"), title=_text(reply, f"{place}.reply", "title"))


def _read_section(one: Any, place: str) -> ListSection:
    _expect(one, place, {"rows"}, {"title"})
    rows = []
    for row in _items(one, place, "rows"):
        _expect(row, f"{place}.rows", {"id", "title"}, {"description"})
        rows.append(
            ListRow(
                id=_text(row, f"{place}.rows", "id"),
                title=_text(row, f"{place}.rows", "title"),
                description=_maybe_text(row, f"{place}.rows", "description"),
            )
        )
    return ListSection(title=_maybe_text(one, place, "title"), rows=tuple(rows))


def _read_template(part: Any) -> Template:
    _expect(part, "template", {"name", "language"}, {"components"})
    language = part["language"]
    if isinstance(language, dict):
        _expect(language, "template.language", {"code"}, {"policy"})
        language = language["code"]
    if not isinstance(language, str):
        raise _wrong("template.language", "code is no text")
    components = part.get("components") or []
    if not isinstance(components, list):
        raise _wrong("template.components", "is no list")
    header: TemplateHeader | None = None
    parameters: tuple[TemplateParameter, ...] = ()
    buttons: list[TemplateButton] = []
    for number, component in enumerate(components):
        place = f"template.components.{number}"
        _expect(component, place, {"type"}, {"parameters", "sub_type", "index"})
        given = component.get("parameters") or []
        if not isinstance(given, list):
            raise _wrong(place, "parameters is no list")
        word = str(component["type"]).lower()
        if word == "header" and header is None:
            header = _read_header(given, place)
        elif word == "body" and not parameters:
            parameters = tuple(_read_parameter(one, f"{place}.parameters") for one in given)
        elif word == "button":
            buttons.append(_read_button(component, given, place))
        else:
            raise _wrong(place, f"'{word[:40]}' is no part of a template, or stands there twice")
    return Template(
        name=_text(part, "template", "name"),
        language=language,
        parameters=parameters,
        header=header,
        buttons=tuple(buttons),
    )


def _read_header(given: list[Any], place: str) -> TemplateHeader | None:
    if not given:
        return None
    if len(given) > 1:
        raise _wrong(place, "a header has one parameter")
    _expect(given[0], place, {"type"}, {"text", "image", "video", "document", "parameter_name"})
    kind = given[0]["type"]
    if kind not in ("text", "image", "video", "document"):
        raise _wrong(place, "a header is text, image, video or document")
    value = given[0].get(kind)
    if kind != "text":
        _expect(value, f"{place}.{kind}", {"link"}, {"filename"})
        return TemplateHeader(kind=kind, value=_text(value, f"{place}.{kind}", "link"))
    return TemplateHeader(kind=kind, value=_text(given[0], place, "text"))


def _read_parameter(one: Any, place: str) -> TemplateParameter:
    _expect(one, place, {"type", "text"}, {"parameter_name"})
    if one["type"] != "text":
        raise _wrong(place, "wa fills in text alone")
    name = one.get("parameter_name")
    return TemplateParameter(
        value=_text(one, place, "text"), name=None if name is None else _text(one, place, "parameter_name")
    )


def _read_button(component: Mapping[str, Any], given: list[Any], place: str) -> TemplateButton:
    sub_type, index = component.get("sub_type"), str(component.get("index", ""))
    if sub_type not in _BUTTON_PARAMETERS or not (index.isascii() and index.isdigit() and len(index) < 3):
        raise _wrong(place, "a button has a sub_type (url, quick_reply or copy_code) and an index")
    if len(given) != 1:
        raise _wrong(place, "a button has one parameter")
    word, key = _BUTTON_PARAMETERS[sub_type]
    _expect(given[0], place, {"type", key}, set())
    if given[0]["type"] != word:
        raise _wrong(place, f"the parameter of such a button is a {word}")
    return TemplateButton(index=int(index), sub_type=sub_type, value=_text(given[0], place, key))


def _expect(part: Any, place: str, needed: set[str], allowed: set[str]) -> None:
    """Hold an object to its names: one that wa would not send on must not vanish in silence."""
    if not isinstance(part, dict):
        raise _wrong(place, "is no object")
    missing = sorted(needed - part.keys())
    if missing:
        raise _wrong(place, f"{missing[0]} is missing")
    more = sorted(str(name)[:40] for name in part.keys() - needed - allowed)
    if more:
        raise _wrong(place, f"'{more[0]}' is nothing that wa can send")


def _text(part: Mapping[str, Any], place: str, name: str) -> str:
    value = part.get(name)
    if not isinstance(value, str):
        raise _wrong(place, f"{name} is no text")
    return value


def _maybe_text(part: Mapping[str, Any], place: str, name: str) -> str | None:
    return None if part.get(name) is None else _text(part, place, name)


def _items(part: Mapping[str, Any], place: str, name: str) -> list[Any]:
    value = part.get(name)
    if not isinstance(value, list):
        raise _wrong(place, f"{name} is no list")
    return value


def _degrees(part: Mapping[str, Any], name: str) -> str:
    """Degrees as they were written, which may be as a number or as a text."""
    value = part[name]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return _text(part, "location", name)


def _flag(part: Mapping[str, Any], place: str, name: str) -> bool:
    value = part.get(name, False)
    if not isinstance(value, bool):
        raise _wrong(place, f"{name} is neither true nor false")
    return value


def _wrong(place: str, what: str) -> UsageError:
    return UsageError(f"{place}: {what}", hint='for example {"text": {"body": "Doors open at six"}}', code="content")
