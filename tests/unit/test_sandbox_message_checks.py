"""What the sandbox accepts as a message: published shapes pass, published limits hold, nothing crashes it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wa_cli.sandbox.message_checks import find_body_error, read_content, read_recipient, read_type

TO = "15550100123"


def _body(**parts: Any) -> dict[str, Any]:
    return {"messaging_product": "whatsapp", "to": TO, **parts}


def _code(body: dict[str, Any]) -> int | None:
    error = find_body_error(body, read_recipient(body), read_type(body))
    return error.code if error else None


def _interactive(**parts: Any) -> dict[str, Any]:
    return _body(type="interactive", interactive=parts)


def _template(*components: Any, name: Any = "spring_sale", code: Any = "en_US") -> dict[str, Any]:
    return _body(type="template", template={"name": name, "language": {"code": code}, "components": list(components)})


def _reply(identity: str = "y", title: str = "Yes") -> dict[str, Any]:
    return {"type": "reply", "reply": {"id": identity, "title": title}}


def _row(identity: str = "m9", **parts: Any) -> dict[str, Any]:
    return {"id": identity, "title": "09:00", **parts}


GOOD = {
    "text without a type": _body(text={"body": "hi"}),
    "longest text": _body(type="text", text={"body": "a" * 4096, "preview_url": True}),
    "spelled number": _body(to="+1 (555) 010-0123", type="text", text={"body": "hi"}),
    "number as a number": _body(to=15550100123, type="text", text={"body": "hi"}),
    "unknown fields": _body(type="text", text={"body": "hi", "colour": "red"}, mood="good"),
    "tag and reply": _body(
        type="text", text={"body": "hi"}, context={"message_id": "wamid.A"}, biz_opaque_callback_data="t" * 512
    ),
    "user id": {
        "messaging_product": "whatsapp",
        "recipient": "US.1349120865530274",
        "type": "text",
        "text": {"body": "hi"},
    },
    "image by link": _body(type="image", image={"link": "https://example.org/a.jpg", "caption": "c" * 1024}),
    "document": _body(type="document", document={"id": "1", "filename": "menu.pdf", "caption": "Menu"}),
    "audio": _body(type="audio", audio={"id": "1", "voice": True}),
    "sticker": _body(type="sticker", sticker={"id": "1"}),
    "location as text": _body(type="location", location={"latitude": "25.2048", "longitude": "55.2708"}),
    "contacts": _body(type="contacts", contacts=[{"name": {"formatted_name": "Ada L"}}]),
    "reaction removed": _body(type="reaction", reaction={"message_id": "wamid.A", "emoji": ""}),
    "buttons": _interactive(
        type="button", body={"text": "Coming?"}, footer={"text": "wa"}, action={"buttons": [_reply()]}
    ),
    "list": _interactive(
        type="list",
        header={"type": "text", "text": "Slots"},
        body={"text": "Pick"},
        action={"button": "Open", "sections": [{"title": "Mon", "rows": [_row(description="30 min")]}]},
    ),
    "link button": _interactive(
        type="cta_url",
        body={"text": "Book"},
        action={"name": "cta_url", "parameters": {"display_text": "Book", "url": "https://example.org"}},
    ),
    "location request": _interactive(
        type="location_request_message", body={"text": "Where?"}, action={"name": "send_location"}
    ),
    "flow": _interactive(
        type="flow",
        body={"text": "Form"},
        action={"name": "flow", "parameters": {"flow_id": "1", "flow_cta": "Open"}},
    ),
    "bare template": _body(type="template", template={"name": "hello_world", "language": {"code": "en_US"}}),
    "full template": _template(
        {"type": "header", "parameters": [{"type": "image", "image": {"id": "1"}}]},
        {
            "type": "body",
            "parameters": [
                {"type": "text", "parameter_name": "first_name", "text": "Ada"},
                {"type": "text", "parameter_name": "percent", "text": "10%"},
            ],
        },
        {"type": "button", "sub_type": "url", "index": "0", "parameters": [{"type": "text", "text": "a%20b"}]},
        {
            "type": "button",
            "sub_type": "quick_reply",
            "index": 1,
            "parameters": [{"type": "payload", "payload": "STOP"}],
        },
        {
            "type": "button",
            "sub_type": "copy_code",
            "index": "2",
            "parameters": [{"type": "coupon_code", "coupon_code": "SAVE10"}],
        },
    ),
    "template values": _template(
        {
            "type": "BODY",
            "parameters": [
                {"type": "currency", "currency": {"fallback_value": "$10", "code": "USD", "amount_1000": 10000}},
                {"type": "date_time", "date_time": {"fallback_value": "1 Dec"}},
            ],
        }
    ),
    "group": _body(to="Y2FwaV9ncm91cA==", recipient_type="group", type="text", text={"body": "hi"}),
    "pin": _body(
        to="Y2FwaV9ncm91cA==",
        recipient_type="group",
        type="pin",
        pin={"type": "pin", "message_id": "wamid.A", "expiration_days": 7},
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_published_shape_is_accepted(name: str) -> None:
    assert _code(GOOD[name]) is None


BAD: dict[str, tuple[int, dict[str, Any]]] = {
    "no product": (100, {"to": TO, "text": {"body": "hi"}}),
    "other product": (100, _body(messaging_product="telegram", text={"body": "hi"})),
    "nobody": (100, {"messaging_product": "whatsapp", "text": {"body": "hi"}}),
    "not a number": (131009, _body(to="everyone", text={"body": "hi"})),
    "empty number": (131009, _body(to="", text={"body": "hi"})),
    "too short": (131009, _body(to="123456", text={"body": "hi"})),
    "too long": (131009, _body(to="1" * 16, text={"body": "hi"})),
    "other digits": (131009, _body(to="١٥٥٥٠١٠٠١٢٣", text={"body": "hi"})),
    "bad user id": (131009, {"messaging_product": "whatsapp", "recipient": "ada", "text": {"body": "hi"}}),
    "odd recipient type": (100, _body(recipient_type="crowd", text={"body": "hi"})),
    "group with a phone": (131009, _body(recipient_type="group", text={"body": "hi"})),
    "location to a group": (131051, _body(to="g-1", recipient_type="group", type="location", location={})),
    "odd type": (100, _body(type="fax", fax={})),
    "type of another kind": (100, _body(type=["text"], text={"body": "hi"})),
    "tag too long": (100, _body(text={"body": "hi"}, biz_opaque_callback_data="t" * 513)),
    "tag not text": (100, _body(text={"body": "hi"}, biz_opaque_callback_data={"a": 1})),
    "context without id": (131008, _body(text={"body": "hi"}, context={})),
    "no text": (131008, _body(type="text")),
    "text not an object": (131009, _body(type="text", text="hi")),
    "empty text": (131008, _body(text={"body": ""})),
    "blank text": (131008, _body(text={"body": " \n"})),
    "text too long": (100, _body(text={"body": "a" * 4097})),
    "text not text": (131009, _body(text={"body": 5})),
    "image without source": (100, _body(type="image", image={})),
    "image with both": (100, _body(type="image", image={"id": "1", "link": "https://example.org/a"})),
    "image with a path": (131009, _body(type="image", image={"link": "/tmp/a.jpg"})),
    "image with a broken link": (131009, _body(type="image", image={"link": "http://[::1"})),
    "caption too long": (100, _body(type="image", image={"id": "1", "caption": "c" * 1025})),
    "audio with caption": (131009, _body(type="audio", audio={"id": "1", "caption": "c"})),
    "sticker with caption": (131009, _body(type="sticker", sticker={"id": "1", "caption": "c"})),
    "half a location": (131008, _body(type="location", location={"latitude": 1})),
    "off the globe": (131009, _body(type="location", location={"latitude": 91, "longitude": 0})),
    "no contacts": (131008, _body(type="contacts", contacts=[])),
    "six contacts": (131009, _body(type="contacts", contacts=[{"name": {"formatted_name": "A"}}] * 6)),
    "nameless contact": (131008, _body(type="contacts", contacts=[{"phones": []}])),
    "reaction to nothing": (131008, _body(type="reaction", reaction={"emoji": "x"})),
    "odd interactive": (100, _interactive(type="quiz", body={"text": "x"}, action={})),
    "no buttons": (131009, _interactive(type="button", body={"text": "x"}, action={"buttons": []})),
    "four buttons": (
        131009,
        _interactive(type="button", body={"text": "x"}, action={"buttons": [_reply(str(i), str(i)) for i in range(4)]}),
    ),
    "same button twice": (
        131009,
        _interactive(type="button", body={"text": "x"}, action={"buttons": [_reply(), _reply()]}),
    ),
    "button title too long": (
        100,
        _interactive(type="button", body={"text": "x"}, action={"buttons": [_reply(title="t" * 21)]}),
    ),
    "button body too long": (
        100,
        _interactive(type="button", body={"text": "x" * 1025}, action={"buttons": [_reply()]}),
    ),
    "list with an image header": (
        131009,
        _interactive(
            type="list",
            header={"type": "image", "image": {"id": "1"}},
            body={"text": "x"},
            action={"button": "Open", "sections": [{"rows": [_row()]}]},
        ),
    ),
    "eleven rows in two sections": (
        131009,
        _interactive(
            type="list",
            body={"text": "x"},
            action={
                "button": "Open",
                "sections": [
                    {"title": "a", "rows": [_row(str(i)) for i in range(6)]},
                    {"title": "b", "rows": [_row(str(i)) for i in range(6, 11)]},
                ],
            },
        ),
    ),
    "two sections, one nameless": (
        131008,
        _interactive(
            type="list",
            body={"text": "x"},
            action={"button": "Open", "sections": [{"title": "a", "rows": [_row("1")]}, {"rows": [_row("2")]}]},
        ),
    ),
    "footer too long": (
        100,
        _interactive(type="button", body={"text": "x"}, footer={"text": "f" * 61}, action={"buttons": [_reply()]}),
    ),
    "template without a name": (131008, _body(type="template", template={"language": {"code": "en"}})),
    "template name with capitals": (131009, _template(name="Spring Sale")),
    "template without language": (131008, _body(type="template", template={"name": "a"})),
    "odd language": (131009, _template(code="english please")),
    "odd component": (100, _template({"type": "tail"})),
    "component of another kind": (100, _template("body")),
    "button without a kind": (100, _template({"type": "button", "index": 0})),
    "button index too high": (131009, _template({"type": "button", "sub_type": "url", "index": 10})),
    "new line in a value": (132018, _template({"type": "body", "parameters": [{"type": "text", "text": "a\nb"}]})),
    "five spaces in a value": (
        132018,
        _template({"type": "body", "parameters": [{"type": "text", "text": "a     b"}]}),
    ),
    "value too long": (132005, _template({"type": "body", "parameters": [{"type": "text", "text": "a" * 1025}]})),
    "image in a body": (132012, _template({"type": "body", "parameters": [{"type": "image", "image": {"id": "1"}}]})),
    "value without type": (132012, _template({"type": "body", "parameters": [{"text": "a"}]})),
    "named and positional": (
        132012,
        _template(
            {
                "type": "body",
                "parameters": [{"type": "text", "text": "a", "parameter_name": "n"}, {"type": "text", "text": "b"}],
            }
        ),
    ),
    "pin to a person": (131009, _body(type="pin", pin={"type": "pin", "message_id": "wamid.A"})),
    "pin for ever": (
        131009,
        _body(
            to="g-1", recipient_type="group", type="pin", pin={"type": "pin", "message_id": "w", "expiration_days": 31}
        ),
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_body_outside_the_limits_is_refused_with_its_code(name: str) -> None:
    code, body = BAD[name]
    assert _code(body) == code


def test_the_ledger_remembers_what_was_said() -> None:
    assert read_content(GOOD["text without a type"], "text") == "hi"
    assert read_content(GOOD["bare template"], "template") == "hello_world"
    assert read_content(_body(image={"link": "https://example.org/a"}), "image") == "https://example.org/a"
    assert read_content(_body(text="odd"), "text") is None
    assert read_content(_body(), None) is None


def test_a_recipient_is_digits_however_it_is_spelled() -> None:
    assert read_recipient({"to": "+1 (555) 010-0123"}) == TO
    assert read_recipient({"to": "everyone"}) == "everyone"
    assert read_recipient({"recipient": "US.1"}) == "US.1"
    assert read_recipient({"to": TO, "recipient": "US.1"}) == TO
    assert read_recipient({"to": ["1"]}) is None


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_no_damage_to_a_body_breaks_the_checks(name: str, data: st.DataObject) -> None:
    body: Any = json.loads(json.dumps(GOOD[name]))
    part = body
    while True:
        keys = sorted(part) if isinstance(part, dict) else list(range(len(part)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(part[key], dict | list) and part[key] and data.draw(st.booleans()):
            part = part[key]
            continue
        part[key] = data.draw(_ANYTHING)
        break
    recipient, kind = read_recipient(body), read_type(body)
    read_content(body, kind)
    error = find_body_error(body, recipient, kind)
    assert error is None or error.details
