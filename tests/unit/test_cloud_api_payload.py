"""The request body, kind by kind, as Meta's reference shows it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from wa_cli.domain.message import (
    Content,
    Media,
    MediaKind,
    Template,
    TemplateButton,
    TemplateHeader,
    TemplateParameter,
    Text,
)
from wa_cli.domain.recipient import RecipientKind
from wa_cli.errors import UsageError
from wa_cli.ports import Post
from wa_cli.transports.cloud_api.payload import build_payload, read_payload


def build(content: Content) -> bytes:
    return build_payload(Post(tag="wa1.install.7", address="+6581234567", kind=RecipientKind.PERSON, content=content))


def test_every_body_carries_the_envelope_and_our_tag() -> None:
    shape = json.loads(build(Text(body="hi")))
    assert shape == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "6581234567",
        "type": "text",
        "text": {"body": "hi"},
        "biz_opaque_callback_data": "wa1.install.7",
    }


def test_the_body_is_compact_ascii() -> None:
    raw = build(Text(body="naïve 👩 مرحبا"))
    assert raw.isascii()
    assert b'": ' not in raw
    assert json.loads(raw)["text"]["body"] == "naïve 👩 مرحبا"


def test_half_a_character_is_still_a_body_the_other_side_can_refuse() -> None:
    assert json.loads(build(Text(body="a\ud800b")))["text"]["body"] == "a\ud800b"


@pytest.mark.parametrize(
    ("content", "shape"),
    [
        (Text(body="https://example.org", preview_url=True), {"body": "https://example.org", "preview_url": True}),
        (Media(kind=MediaKind.IMAGE, link="https://e.org/a.png"), {"link": "https://e.org/a.png"}),
        (
            Media(kind=MediaKind.VIDEO, link="https://e.org/a.mp4", caption="Look"),
            {"link": "https://e.org/a.mp4", "caption": "Look"},
        ),
        (
            Media(kind=MediaKind.DOCUMENT, link="https://e.org/a", caption="Menu", filename="menu.pdf"),
            {"link": "https://e.org/a", "caption": "Menu", "filename": "menu.pdf"},
        ),
        (Media(kind=MediaKind.AUDIO, link="https://e.org/a.ogg"), {"link": "https://e.org/a.ogg"}),
        (Media(kind=MediaKind.STICKER, link="https://e.org/a.webp"), {"link": "https://e.org/a.webp"}),
        (Template(name="hello_world", language="en_US"), {"name": "hello_world", "language": {"code": "en_US"}}),
        (
            Template(
                name="spring_sale",
                language="en_US",
                header=TemplateHeader(kind="image", value="https://e.org/a.png"),
                parameters=(TemplateParameter(value="Ada"), TemplateParameter(value="10%")),
                buttons=(
                    TemplateButton(index=0, sub_type="url", value="a%20b"),
                    TemplateButton(index=1, sub_type="quick_reply", value="STOP"),
                    TemplateButton(index=2, sub_type="copy_code", value="SAVE10"),
                ),
            ),
            {
                "name": "spring_sale",
                "language": {"code": "en_US"},
                "components": [
                    {
                        "type": "header",
                        "parameters": [{"type": "image", "image": {"link": "https://e.org/a.png"}}],
                    },
                    {
                        "type": "body",
                        "parameters": [{"type": "text", "text": "Ada"}, {"type": "text", "text": "10%"}],
                    },
                    {
                        "type": "button",
                        "sub_type": "url",
                        "index": "0",
                        "parameters": [{"type": "text", "text": "a%20b"}],
                    },
                    {
                        "type": "button",
                        "sub_type": "quick_reply",
                        "index": "1",
                        "parameters": [{"type": "payload", "payload": "STOP"}],
                    },
                    {
                        "type": "button",
                        "sub_type": "copy_code",
                        "index": "2",
                        "parameters": [{"type": "coupon_code", "coupon_code": "SAVE10"}],
                    },
                ],
            },
        ),
        (
            Template(
                name="t",
                language="en",
                header=TemplateHeader(kind="text", value="Sale"),
                parameters=(TemplateParameter(name="first_name", value="Ada"),),
            ),
            {
                "name": "t",
                "language": {"code": "en"},
                "components": [
                    {"type": "header", "parameters": [{"type": "text", "text": "Sale"}]},
                    {
                        "type": "body",
                        "parameters": [{"type": "text", "text": "Ada", "parameter_name": "first_name"}],
                    },
                ],
            },
        ),
    ],
)
def test_each_kind_of_content_has_its_documented_shape(content: Content, shape: dict[str, Any]) -> None:
    """Rows R2, S4: text, media by link, templates."""
    sent = json.loads(build(content))
    assert sent[sent["type"]] == shape
    # Row Q2: a caller who writes such a body means the same content.
    assert read_payload(sent["type"], {sent["type"]: shape}) == content


def test_a_group_is_never_put_into_a_body() -> None:
    with pytest.raises(ValueError, match="people only"):
        build_payload(Post(tag="t", address="1203@g.us", kind=RecipientKind.GROUP, content=Text(body="hi")))


TEMPLATE = {"name": "t", "language": {"code": "en"}}


@pytest.mark.parametrize(
    ("kind", "payload", "words"),
    [
        ("text", {}, "payload: text is missing"),
        ("text", [], "payload: is no object"),
        ("text", {"text": {"body": "a"}, "context": {}}, "'context' is nothing that wa can send"),
        ("text", {"text": {"body": "a"}, "type": "image"}, "its type is not 'text'"),
        ("text", {"text": {"body": ["a"]}}, "text: body is no text"),
        ("text", {"text": {"body": "a", "preview_url": "yes"}}, "preview_url is neither"),
        ("poll", {"poll": {}}, "type 'poll' cannot be sent"),
        ("image", {"image": {"id": "1"}}, "image: link is missing"),
        ("template", {"template": {"name": "t"}}, "language is missing"),
        ("template", {"template": {"name": "t", "language": 5}}, "code is no text"),
        ("template", {"template": {**TEMPLATE, "components": "x"}}, "is no list"),
        ("template", {"template": {**TEMPLATE, "components": [{"type": "footer"}]}}, "'footer' is no part"),
        ("template", {"template": {**TEMPLATE, "components": [{"type": "body", "parameters": 5}]}}, "is no list"),
        (
            "template",
            {"template": {**TEMPLATE, "components": [{"type": "body", "parameters": [{"type": "currency"}]}]}},
            "text is missing",
        ),
        (
            "template",
            {"template": {**TEMPLATE, "components": [{"type": "header", "parameters": [{"type": "location"}]}]}},
            "a header is text, image",
        ),
        (
            "template",
            {"template": {**TEMPLATE, "components": [{"type": "header", "parameters": [{"type": "image"}]}]}},
            "image: is no object",
        ),
        (
            "template",
            {"template": {**TEMPLATE, "components": [{"type": "button", "sub_type": "url", "index": "x"}]}},
            "a button has a sub_type",
        ),
    ],
)
def test_a_payload_that_wa_would_not_send_whole_is_refused(kind: str, payload: Any, words: str) -> None:
    """Row Q2; promise P12: nothing that was asked for vanishes in silence."""
    with pytest.raises(UsageError, match=re.escape(words)):
        read_payload(kind, payload)


def test_a_language_may_be_given_as_a_word() -> None:
    assert read_payload("template", {"template": {"name": "t", "language": "en"}}) == Template(name="t", language="en")
