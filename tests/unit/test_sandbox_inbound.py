"""Orders of the admin API read into what people and the platform send."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from wa_cli.errors import UsageError
from wa_cli.sandbox.inbound import describe_answer, read_events, read_messages, read_preferences
from wa_cli.sandbox.people import derive_user_id
from wa_cli.sandbox.settings import SandboxSettings
from wa_cli.sandbox.webhook_bodies import AcceptedMessage

SETTINGS = SandboxSettings(other_phone_number_ids=("2",))
NOW = 1_793_900_000.75
ADA = "15550100123"


def _item(order: dict[str, Any]) -> dict[str, Any]:
    [incoming] = read_messages({"from": ADA, **order}, SETTINGS, now=NOW)
    return incoming.update.item


def test_a_text_has_the_published_shape() -> None:
    [incoming] = read_messages({"from": "+1 555 010 0123", "text": "Hi", "name": "Ada"}, SETTINGS, now=NOW)
    item = incoming.update.item
    packed = base64.b64decode(item.pop("id").removeprefix("wamid."))
    assert packed[:20] == b"\x1c\x18\x0b15550100123\x15\x02\x00\x12\x18\x14"
    assert item == {
        "from": ADA,
        "from_user_id": derive_user_id(ADA),
        "timestamp": "1793900000",
        "type": "text",
        "text": {"body": "Hi"},
    }
    assert incoming.update.contact == {"profile": {"name": "Ada"}, "wa_id": ADA, "user_id": derive_user_id(ADA)}
    assert (incoming.update.field, incoming.update.kind) == ("messages", "messages")
    assert incoming.update.phone_number_id == SETTINGS.phone_number_id
    assert incoming.opens_window


@pytest.mark.parametrize(
    ("order", "part"),
    [
        ({"type": "text", "text": {"body": "Hi"}}, {"body": "Hi"}),
        ({"type": "button", "button": {"text": "Stop"}}, {"text": "Stop", "payload": "Stop"}),
        ({"type": "button", "button": {"text": "Stop", "payload": "S"}}, {"text": "Stop", "payload": "S"}),
        (
            {
                "type": "interactive",
                "interactive": {"type": "button_reply", "button_reply": {"id": "y", "title": "Yes"}},
            },
            {"type": "button_reply", "button_reply": {"id": "y", "title": "Yes"}},
        ),
        (
            {
                "type": "interactive",
                "interactive": {"type": "list_reply", "list_reply": {"id": "m9", "title": "09:00"}},
            },
            {"type": "list_reply", "list_reply": {"id": "m9", "title": "09:00"}},
        ),
        (
            {"type": "reaction", "reaction": {"message_id": "wamid.A", "emoji": "👍"}},
            {"message_id": "wamid.A", "emoji": "👍"},
        ),
        ({"type": "reaction", "reaction": {"message_id": "wamid.A"}}, {"message_id": "wamid.A"}),
        ({"type": "location", "location": {"latitude": 25.2, "longitude": 55}}, {"latitude": 25.2, "longitude": 55}),
        ({"type": "revoke", "revoke": {"original_message_id": "wamid.A"}}, {"original_message_id": "wamid.A"}),
        ({"type": "newer_than_us", "newer_than_us": {"x": 1}}, {"x": 1}),
    ],
)
def test_every_kind_of_answer_can_be_given(order: dict[str, Any], part: dict[str, Any]) -> None:
    assert _item(order)[order["type"]] == part


@pytest.mark.parametrize("kind", ["image", "video", "audio", "document", "sticker"])
def test_media_is_filled_up_to_what_the_platform_says(kind: str) -> None:
    media = _item({"type": kind})[kind]
    assert {"id", "mime_type", "sha256"} <= set(media)
    assert _item({"type": kind, kind: {"id": "7", "caption": "c"}})[kind]["id"] == "7"


def test_a_type_nobody_knows_comes_with_its_error() -> None:
    item = _item({"type": "unsupported"})
    assert item["errors"][0]["code"] == 131051
    assert "unsupported" not in item


def test_an_answer_names_the_message_it_is_for() -> None:
    assert _item({"text": "Yes", "context": "wamid.A"})["context"] == {
        "from": SETTINGS.display_phone_number,
        "id": "wamid.A",
    }
    assert _item({"text": "Yes", "context": {"forwarded": True}})["context"] == {"forwarded": True}


def test_a_person_may_show_no_number() -> None:
    orders = [
        {"user_id": "US.7", "text": "Hi", "username": "ada"},
        {"from": ADA, "hide_number": True, "text": "Hi"},
    ]
    for incoming, user_id in zip(read_messages(orders, SETTINGS, now=NOW), ("US.7", derive_user_id(ADA)), strict=True):
        item, contact = incoming.update.item, incoming.update.contact
        assert "from" not in item
        assert item["from_user_id"] == user_id
        assert contact is not None
        assert "wa_id" not in contact
        assert ADA.encode() not in base64.b64decode(item["id"].removeprefix("wamid."))
    assert read_messages(orders[0], SETTINGS, now=NOW)[0].update.contact["profile"]["username"] == "ada"  # type: ignore[index]


def test_a_change_of_number_names_nobody_and_opens_no_window() -> None:
    system = {"type": "user_changed_number", "body": "changed", "wa_id": "15550100999"}
    [incoming] = read_messages({"from": ADA, "type": "system", "system": system}, SETTINGS, now=NOW)
    assert incoming.update.contact is None
    assert not incoming.opens_window
    assert incoming.update.item["system"] == system


def test_a_message_can_be_for_another_number_and_of_another_time() -> None:
    [incoming] = read_messages(
        {"from": ADA, "text": "Hi", "phone_number_id": "2", "timestamp": 17, "id": "wamid.X"}, SETTINGS, now=NOW
    )
    assert incoming.update.phone_number_id == "2"
    assert (incoming.update.item["timestamp"], incoming.update.item["id"]) == ("17", "wamid.X")


@pytest.mark.parametrize(
    "order",
    [
        5,
        [],
        {},
        {"text": "Hi"},
        {"from": "Ada", "text": "Hi"},
        {"from": "12", "text": "Hi"},
        {"from": ADA},
        {"from": ADA, "text": 5},
        {"from": ADA, "txt": "Hi"},
        {"from": ADA, "type": 5},
        {"from": ADA, "type": "from"},
        {"from": ADA, "type": "button", "button": {"payload": "S"}},
        {"from": ADA, "type": "interactive", "interactive": {"type": "button_reply"}},
        {"from": ADA, "type": "interactive", "interactive": {"type": "button_reply", "button_reply": {"id": "y"}}},
        {"from": ADA, "type": "reaction", "reaction": {"emoji": "x"}},
        {"from": ADA, "type": "location", "location": {"latitude": "x", "longitude": 1}},
        {"from": ADA, "type": "contacts", "contacts": []},
        {"from": ADA, "type": "image", "image": 5},
        {"from": ADA, "type": "order"},
        {"from": ADA, "text": "Hi", "context": 5},
        {"from": ADA, "text": "Hi", "timestamp": "soon"},
        {"from": ADA, "text": "Hi", "hide_number": "yes"},
        {"from": ADA, "text": "Hi", "phone_number_id": "999"},
        {"from": ADA, "text": "Hi", "user_id": 5},
        [{"from": ADA, "text": "Hi"}, {"from": ADA}],
    ],
)
def test_a_message_that_makes_no_sense_is_refused_with_an_example(order: object) -> None:
    with pytest.raises(UsageError) as raised:
        read_messages(order, SETTINGS, now=NOW)
    assert raised.value.hint


def test_a_preference_has_the_published_shape() -> None:
    [stop] = read_preferences({"from": ADA, "value": "stop", "detail": "d"}, SETTINGS, now=NOW)
    assert stop.update.item == {
        "wa_id": ADA,
        "user_id": derive_user_id(ADA),
        "detail": "d",
        "category": "marketing_messages",
        "value": "stop",
        "timestamp": 1793900000,
    }
    assert stop.update.field == stop.update.kind == "user_preferences"
    assert stop.wants_marketing is False
    [resume] = read_preferences([{"user_id": "US.7", "value": "resume"}], SETTINGS, now=NOW)
    assert resume.wants_marketing is True
    assert "wa_id" not in resume.update.item


@pytest.mark.parametrize("order", [5, {"from": ADA}, {"from": ADA, "value": "maybe"}, {"value": "stop"}])
def test_a_preference_that_makes_no_sense_is_refused(order: object) -> None:
    with pytest.raises(UsageError):
        read_preferences(order, SETTINGS, now=NOW)


def test_an_event_is_passed_on_as_it_is() -> None:
    [update] = read_events({"field": "account_update", "value": {"event": "X"}})
    assert (update.field, update.kind, update.item) == ("account_update", "account_update", {"event": "X"})


@pytest.mark.parametrize(
    "order", [5, {"field": "X", "value": {}}, {"field": "a"}, {"value": {}}, {"field": "a", "value": {}, "more": 1}]
)
def test_an_event_that_makes_no_sense_is_refused(order: object) -> None:
    with pytest.raises(UsageError):
        read_events(order)


@pytest.mark.parametrize("how", ["stop", "stop:button", "stop:preferences"])
def test_a_person_can_say_stop_in_three_ways(how: str) -> None:
    message = AcceptedMessage(
        wamid="wamid.A",
        accepted_at=NOW,
        phone_number_id="1",
        recipient=ADA,
        tag=None,
        pricing={},
        contact={"profile": {"name": "Ada"}, "wa_id": ADA, "user_id": "US.1"},
    )
    update = describe_answer(message, how, at=NOW, business="15550783881")
    assert update.contact == message.contact
    match how:
        case "stop":
            assert update.item["text"] == {"body": "STOP"}
        case "stop:button":
            assert update.item["button"]["payload"] == "STOP"
            assert update.item["context"] == {"from": "15550783881", "id": "wamid.A"}
        case _:
            assert (update.field, update.item["value"]) == ("user_preferences", "stop")
