"""The body of a send request, as the Cloud API wants it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, assert_never

from wa_cli.domain.message import Media, Template, Text
from wa_cli.domain.recipient import RecipientKind

if TYPE_CHECKING:
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
            assert_never(content)


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
