"""The body of a send request as the Cloud API wants it, and what such a body says for callers who write their own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from wa_cli.domain.message import Media, MediaKind, Template, TemplateButton, TemplateHeader, TemplateParameter, Text
from wa_cli.domain.recipient import RecipientKind
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wa_cli.domain.message import Content
    from wa_cli.ports import Post

# ASCII escapes rather than UTF-8: text that is not valid Unicode stays something the other side can refuse.
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def build_payload(post: Post) -> bytes:
    """The request body as compact ASCII JSON.

    The number goes out as digits: a plus is only tolerated, and without the country code Meta would
    put the business's own in front.  Raises: ValueError for a group, which this API cannot reach.
    """
    if post.kind is not RecipientKind.PERSON:
        raise ValueError("the Cloud API reaches people only")
    kind, content = _shape_content(post.content)
    return _encode(
        {
            "messaging_product": "whatsapp",
            "recipient_type": "individual",
            "to": post.address.removeprefix("+"),
            "type": kind,
            kind: content,
            "biz_opaque_callback_data": post.tag,
        }
    ).encode("ascii")


def _shape_content(content: Content) -> tuple[str, dict[str, Any]]:
    match content:
        case Text():
            text: dict[str, Any] = {"body": content.body}
            if content.preview_url:
                text["preview_url"] = True
            return "text", text
        case Media():
            media = {"link": content.link}
            if content.caption:
                media["caption"] = content.caption
            if content.filename:
                media["filename"] = content.filename
            return content.kind.value, media
        case Template():
            return "template", _shape_template(content)
        case _:
            raise ValueError("the Cloud API has no message of this type")


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
    known = ("text", "template", *MediaKind)
    if kind not in known:
        raise UsageError(
            f"messages of type '{kind}' cannot be sent", hint=f"one of: {', '.join(known)}", code="content"
        )
    _expect(payload, "payload", {kind}, {"type", "messaging_product", "recipient_type"})
    if payload.get("type", kind) != kind:
        raise _wrong("payload", f"its type is not '{kind}'")
    part = payload[kind]
    if kind == "text":
        _expect(part, "text", {"body"}, {"preview_url"})
        return Text(body=_text(part, "text", "body"), preview_url=_flag(part, "text", "preview_url"))
    if kind == "template":
        return _read_template(part)
    _expect(part, kind, {"link"}, {"caption", "filename"})
    return Media(
        kind=MediaKind(kind),
        link=_text(part, kind, "link"),
        caption=_text(part, kind, "caption") if part.get("caption") is not None else None,
        filename=_text(part, kind, "filename") if part.get("filename") is not None else None,
    )


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


def _flag(part: Mapping[str, Any], place: str, name: str) -> bool:
    value = part.get(name, False)
    if not isinstance(value, bool):
        raise _wrong(place, f"{name} is neither true nor false")
    return value


def _wrong(place: str, what: str) -> UsageError:
    return UsageError(f"{place}: {what}", hint='for example {"text": {"body": "Doors open at six"}}', code="content")
