"""What the messages endpoint thinks of a body: the published shapes and limits, checked without any state.

Unknown fields are ignored, as the platform does.  Lengths are counted in code points.  Templates are
compared with the account's own in `template_checks`.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from wa_cli.sandbox.graph_errors import GraphError

TEXT_LIMIT = 4096
CAPTION_LIMIT = 1024
TAG_LIMIT = 512
FOOTER_LIMIT = 60
MEDIA_TYPES = frozenset({"image", "video", "document", "audio", "sticker"})
CAPTIONED_TYPES = frozenset({"image", "video", "document"})
MESSAGE_TYPES = MEDIA_TYPES | {
    "text",
    "location",
    "contacts",
    "reaction",
    "interactive",
    "template",
    "pin",
}
GROUP_TYPES = MEDIA_TYPES | {"text", "template", "pin"}

_FORMATTING = str.maketrans("", "", "+-() ")
_TEMPLATE_NAME = re.compile(r"[a-z0-9_]{1,512}")
_LANGUAGE = re.compile(r"[a-z]{2,3}(_[A-Za-z]{2,4})?")


class BodyFault(Exception):
    """A body is not acceptable; carries the refusal."""

    def __init__(self, error: GraphError) -> None:
        super().__init__(error.details)
        self.error = error


def read_recipient(body: dict[str, Any]) -> str | None:
    """Whom a body is for: digits for a person, the id for a group or user id, None when it does not say."""
    to = body.get("to")
    if to is None:
        to = body.get("recipient")
    if isinstance(to, int) and not isinstance(to, bool):
        to = str(to)
    if not isinstance(to, str):
        return None
    if body.get("recipient_type") == "group":
        return to
    bare = to.translate(_FORMATTING)
    return bare if bare.isascii() and bare.isdigit() else to


def read_type(body: dict[str, Any]) -> str | None:
    """The declared type, `text` when left out, None when it is not a string."""
    kind = body.get("type", "text")
    return kind if isinstance(kind, str) else None


def read_content(body: dict[str, Any], kind: str | None) -> str | None:
    """What the ledger remembers of a body: text, caption or link or media id, template name, place, name, emoji."""
    part = body.get(kind) if kind else None
    if kind == "contacts" and isinstance(part, list) and part and isinstance(part[0], dict):
        part = part[0].get("name")
    if not isinstance(part, dict):
        return None
    if kind == "text":
        words = part.get("body")
    elif kind == "template":
        words = part.get("name")
    elif kind in MEDIA_TYPES:
        words = part.get("caption") or part.get("link") or part.get("id")
    elif kind == "contacts":
        words = part.get("formatted_name")
    elif kind == "location":
        words = part.get("name") or f"{part.get('latitude')},{part.get('longitude')}"
    elif kind == "reaction":
        words = part.get("emoji")
    elif kind == "interactive":
        holder = part.get("body")
        words = holder.get("text") if isinstance(holder, dict) else None
    else:
        return None
    return words if isinstance(words, str) else None


def find_body_error(body: dict[str, Any], recipient: str | None, kind: str | None) -> GraphError | None:
    """The first thing that is wrong with a parsed body, or None.

    recipient, kind: what `read_recipient` and `read_type` made of it.
    """
    try:
        _check_envelope(body, recipient, kind)
        # The two everyday shapes first: they are the hot path.
        if kind == "text":
            _check_text(_part(body, "text"))
        elif kind == "template":
            _check_template(_part(body, "template"))
        elif kind in MEDIA_TYPES:
            _check_media(_part(body, kind), kind)
        elif kind == "location":
            _check_location(_part(body, "location"))
        elif kind == "contacts":
            _check_contacts(body.get("contacts"))
        elif kind == "reaction":
            _check_reaction(_part(body, "reaction"))
        elif kind == "interactive":
            _check_interactive(_part(body, "interactive"))
        elif kind == "pin":
            _check_pin(_part(body, "pin"), body)
    except BodyFault as fault:
        return fault.error
    return None


def _check_envelope(body: dict[str, Any], recipient: str | None, kind: str | None) -> None:
    if body.get("messaging_product") != "whatsapp":
        raise _parameter("messaging_product is required and must be whatsapp")
    if recipient is None:
        raise _parameter("the parameter to is required")
    recipient_type = body.get("recipient_type", "individual")
    if recipient_type not in ("individual", "group"):
        raise _parameter("recipient_type must be one of individual, group")
    looks_like_a_phone = recipient.isascii() and recipient.isdigit()
    if recipient_type == "group":
        if looks_like_a_phone:
            raise _invalid("recipient_type group does not go with a phone number in to")
        if kind in MESSAGE_TYPES and kind not in GROUP_TYPES:
            raise _fault(131051, f"{kind} cannot be sent to a group")
    elif looks_like_a_phone:
        if not 7 <= len(recipient) <= 15:
            raise _invalid("to is not a phone number in international format")
    elif body.get("to") is not None or not re.fullmatch(r"[A-Z]{2}\.(ENT\.)?[A-Za-z0-9]{1,128}", recipient):
        raise _invalid("to is not a phone number in international format")
    if kind not in MESSAGE_TYPES:
        raise _parameter("type must be one of " + ", ".join(sorted(MESSAGE_TYPES)))
    tag = body.get("biz_opaque_callback_data")
    if tag is not None and (not isinstance(tag, str) or len(tag) > TAG_LIMIT):
        raise _parameter(f"biz_opaque_callback_data must be text of at most {TAG_LIMIT} characters")
    context = body.get("context")
    if context is not None and not (isinstance(context, dict) and isinstance(context.get("message_id"), str)):
        raise _missing("context.message_id")


def _check_text(text: dict[str, Any]) -> None:
    words = _words(text, "body", "text.body", TEXT_LIMIT)
    if not words.strip():
        raise _missing("text.body")
    if not isinstance(text.get("preview_url", False), bool | str):
        raise _invalid("text.preview_url must be true or false")


def _check_media(media: dict[str, Any], kind: str) -> None:
    identity, link = media.get("id"), media.get("link")
    if (identity is None) == (link is None):
        raise _parameter(f"{kind} needs exactly one of id and link")
    if identity is not None and not (isinstance(identity, str) and identity):
        raise _invalid(f"{kind}.id is not a media id")
    if link is not None:
        _check_link(link, f"{kind}.link")
    if media.get("caption") is not None:
        if kind not in CAPTIONED_TYPES:
            raise _invalid(f"{kind} cannot have a caption")
        _words(media, "caption", f"{kind}.caption", CAPTION_LIMIT)
    if kind == "audio" and not isinstance(media.get("voice", False), bool):
        raise _invalid("audio.voice must be true or false")
    if kind == "document" and media.get("filename") is not None and not isinstance(media["filename"], str):
        raise _invalid("document.filename must be text")


def _check_link(link: object, name: str) -> None:
    try:
        parts = urlsplit(link) if isinstance(link, str) else None
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise _invalid(f"{name} is not a web address")


def _check_location(location: dict[str, Any]) -> None:
    for name, bound in (("latitude", 90.0), ("longitude", 180.0)):
        if location.get(name) is None:
            raise _missing(f"location.{name}")
        try:
            degrees = float(location[name])
        except (TypeError, ValueError):
            degrees = 1e9
        if not -bound <= degrees <= bound:
            raise _invalid(f"location.{name} is not a number of degrees")


def _check_contacts(contacts: object) -> None:
    if not isinstance(contacts, list) or not contacts:
        raise _missing("contacts")
    if len(contacts) > 5:
        raise _invalid("contacts holds more than 5")
    for contact in contacts:
        name = contact.get("name") if isinstance(contact, dict) else None
        if not isinstance(name, dict) or not name.get("formatted_name"):
            raise _missing("contacts.name.formatted_name")


def _check_reaction(reaction: dict[str, Any]) -> None:
    if not isinstance(reaction.get("message_id"), str) or not reaction["message_id"]:
        raise _missing("reaction.message_id")
    if not isinstance(reaction.get("emoji"), str):
        raise _missing("reaction.emoji")


def _check_pin(pin: dict[str, Any], body: dict[str, Any]) -> None:
    if body.get("recipient_type") != "group":
        raise _invalid("pin is for groups")
    if pin.get("type") not in ("pin", "unpin"):
        raise _invalid("pin.type must be pin or unpin")
    if not isinstance(pin.get("message_id"), str):
        raise _missing("pin.message_id")
    if pin["type"] == "pin" and pin.get("expiration_days") not in range(1, 31):
        raise _invalid("pin.expiration_days must be 1 to 30")


# interactive.type: (longest body, header types allowed)
_INTERACTIVE: dict[str, tuple[int, frozenset[str]]] = {
    "button": (1024, frozenset({"text", "image", "video", "document"})),
    "list": (4096, frozenset({"text"})),
    "cta_url": (1024, frozenset({"text", "image", "video", "document"})),
    "flow": (1024, frozenset({"text", "image", "video", "document"})),
    "location_request_message": (1024, frozenset()),
    "request_contact_info": (1024, frozenset()),
    "call_permission_request": (1024, frozenset()),
    "product": (1024, frozenset()),
    "product_list": (1024, frozenset({"text"})),
    "catalog_message": (1024, frozenset()),
}
_BODY_OPTIONAL = frozenset({"call_permission_request", "product"})


def _check_interactive(interactive: dict[str, Any]) -> None:
    shape = interactive.get("type")
    if not isinstance(shape, str) or shape not in _INTERACTIVE:
        raise _parameter("interactive.type must be one of " + ", ".join(sorted(_INTERACTIVE)))
    longest, headers = _INTERACTIVE[shape]
    if interactive.get("body") is not None or shape not in _BODY_OPTIONAL:
        _words(_part(interactive, "body", "interactive.body"), "text", "interactive.body.text", longest)
    if interactive.get("footer") is not None:
        footer = _part(interactive, "footer", "interactive.footer")
        _words(footer, "text", "interactive.footer.text", FOOTER_LIMIT)
    header = interactive.get("header")
    if header is not None:
        kind = header.get("type") if isinstance(header, dict) else None
        if not isinstance(kind, str) or kind not in headers:
            raise _invalid(f"interactive.header of type {kind} does not go with {shape}")
        if kind == "text":
            _words(header, "text", "interactive.header.text", 60)
        else:
            _check_media(_part(header, kind, f"interactive.header.{kind}"), kind)
    action = _part(interactive, "action", "interactive.action")
    if shape == "button":
        _check_buttons(action)
    elif shape == "list":
        _check_sections(action)
    elif shape == "cta_url":
        parameters = _part(action, "parameters", "interactive.action.parameters")
        _words(parameters, "display_text", "interactive.action.parameters.display_text", 20)
        _check_link(parameters.get("url"), "interactive.action.parameters.url")
    elif shape == "flow":
        parameters = _part(action, "parameters", "interactive.action.parameters")
        _words(parameters, "flow_cta", "interactive.action.parameters.flow_cta", 30)
        if not (parameters.get("flow_id") or parameters.get("flow_name")):
            raise _missing("interactive.action.parameters.flow_id")


def _check_buttons(action: dict[str, Any]) -> None:
    buttons = action.get("buttons")
    if not isinstance(buttons, list) or not 1 <= len(buttons) <= 3:
        raise _invalid("interactive.action.buttons must hold 1 to 3 buttons")
    replies = [_part(button, "reply", "interactive.action.buttons.reply") for button in buttons]
    for reply in replies:
        _words(reply, "id", "interactive.action.buttons.reply.id", 256)
        _words(reply, "title", "interactive.action.buttons.reply.title", 20)
    for name in ("id", "title"):
        if len({reply[name] for reply in replies}) != len(replies):
            raise _invalid(f"interactive.action.buttons: every {name} must be different")


def _check_sections(action: dict[str, Any]) -> None:
    _words(action, "button", "interactive.action.button", 20)
    sections = action.get("sections")
    if not isinstance(sections, list) or not 1 <= len(sections) <= 10:
        raise _invalid("interactive.action.sections must hold 1 to 10 sections")
    rows: list[Any] = []
    for section in sections:
        if not isinstance(section, dict):
            raise _invalid("interactive.action.sections holds something that is no section")
        if len(sections) > 1 or section.get("title") is not None:
            _words(section, "title", "interactive.action.sections.title", 24)
        rows.extend(section.get("rows") or [])
    if not 1 <= len(rows) <= 10:
        raise _invalid("interactive.action.sections must hold 1 to 10 rows in total")
    for row in rows:
        if not isinstance(row, dict):
            raise _invalid("interactive.action.sections.rows holds something that is no row")
        _words(row, "id", "interactive.action.sections.rows.id", 200)
        _words(row, "title", "interactive.action.sections.rows.title", 24)
        if row.get("description") is not None:
            _words(row, "description", "interactive.action.sections.rows.description", 72)
    if len({row["id"] for row in rows}) != len(rows):
        raise _invalid("interactive.action.sections: every row id must be different")


# component type: parameter types it takes
_COMPONENTS: dict[str, frozenset[str]] = {
    "header": frozenset({"text", "image", "video", "document", "location"}),
    "body": frozenset({"text", "currency", "date_time"}),
    "button": frozenset({"text", "payload", "coupon_code", "action"}),
}
_BUTTON_SUB_TYPES = frozenset(
    {
        "url",
        "quick_reply",
        "copy_code",
        "flow",
        "catalog",
        "mpm",
        "spm",
        "voice_call",
        "otp",
        "request_contact_info",
    }
)


def _check_template(template: dict[str, Any]) -> None:
    name = template.get("name")
    if name is None:
        raise _missing("template.name")
    if not isinstance(name, str) or not _TEMPLATE_NAME.fullmatch(name):
        raise _invalid("template.name is not a template name")
    code = _part(template, "language", "template.language").get("code")
    if code is None:
        raise _missing("template.language.code")
    if not isinstance(code, str) or not _LANGUAGE.fullmatch(code):
        raise _invalid("template.language.code is not a language")
    components = template.get("components")
    if components is None:
        return
    if not isinstance(components, list):
        raise _invalid("template.components must be a list")
    for component in components:
        _check_component(component)


def _check_component(component: object) -> None:
    kind = component.get("type") if isinstance(component, dict) else None
    kind = kind.lower() if isinstance(kind, str) else ""
    if not isinstance(component, dict) or kind not in _COMPONENTS:
        raise _parameter("template.components.type must be one of " + ", ".join(sorted(_COMPONENTS)))
    if kind == "button":
        sub_type = component.get("sub_type")
        if not isinstance(sub_type, str) or sub_type.lower() not in _BUTTON_SUB_TYPES:
            raise _parameter("template.components.sub_type is not a kind of button")
        if str(component.get("index")) not in {str(index) for index in range(10)}:
            raise _invalid("template.components.index must be 0 to 9")
    parameters = component.get("parameters", [])
    if not isinstance(parameters, list):
        raise _invalid("template.components.parameters must be a list")
    names = 0
    for parameter in parameters:
        _check_parameter(parameter, kind)
        names += parameter.get("parameter_name") is not None
    if kind == "body" and names not in (0, len(parameters)):
        raise _fault(132012, "named and positional parameters are mixed")


def _check_parameter(parameter: object, component: str) -> None:
    kind = parameter.get("type") if isinstance(parameter, dict) else None
    if not isinstance(parameter, dict) or not isinstance(kind, str) or kind not in _COMPONENTS[component]:
        raise _fault(132012, f"a parameter of type {kind} does not go into a {component}")
    if kind == "text":
        words = parameter.get("text")
        if not isinstance(words, str) or not words:
            raise _missing("template.components.parameters.text")
        if "\n" in words or "\t" in words or "     " in words:
            raise _fault(132018, "parameter text holds a new line, a tab or more than four spaces in a row")
        if len(words) > 1024:
            raise _fault(132005, "parameter text is longer than a template body can be")
        if component == "header" and len(words) > 60:
            raise _fault(132005, "header text is longer than 60 characters")
    elif kind in MEDIA_TYPES:
        _check_media(_part(parameter, kind, f"template.components.parameters.{kind}"), kind)
    elif kind in ("currency", "date_time"):
        part = _part(parameter, kind, f"template.components.parameters.{kind}")
        if not part.get("fallback_value"):
            raise _missing(f"template.components.parameters.{kind}.fallback_value")
    elif kind in ("payload", "coupon_code") and not isinstance(parameter.get(kind), str):
        raise _missing(f"template.components.parameters.{kind}")


def _part(holder: Any, key: str, name: str | None = None) -> dict[str, Any]:
    part = holder.get(key) if isinstance(holder, dict) else None
    if part is None:
        raise _missing(name or key)
    if not isinstance(part, dict):
        raise _invalid(f"{name or key} must be an object")
    return part


def _words(holder: dict[str, Any], key: str, name: str, limit: int) -> str:
    words = holder.get(key)
    if words is None or words == "":
        raise _missing(name)
    if not isinstance(words, str):
        raise _invalid(f"{name} must be text")
    if len(words) > limit:
        raise _parameter(f"{name} must be at most {limit} characters long, this is {len(words)}")
    return words


def _fault(code: int, details: str) -> BodyFault:
    return BodyFault(GraphError(code=code, details=details))


def _parameter(details: str) -> BodyFault:
    return _fault(100, details)


def _missing(name: str) -> BodyFault:
    return _fault(131008, f"{name} is required")


def _invalid(details: str) -> BodyFault:
    return _fault(131009, details)
