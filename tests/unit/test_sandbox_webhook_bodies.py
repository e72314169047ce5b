"""What the sandbox's webhooks look like: shapes, spelling, signature, price."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wa_cli.sandbox.ladder import Rung
from wa_cli.sandbox.people import People, derive_user_id
from wa_cli.sandbox.webhook_bodies import (
    AcceptedMessage,
    Update,
    build_body,
    describe_pricing,
    describe_status,
    encode_body,
    sign_body,
)

AT = 1_793_900_000.25
CONTACT = {"profile": {"name": "Ada"}, "wa_id": "15550100123", "user_id": "US.1"}
PRICING = {"billable": True, "pricing_model": "PMP", "type": "regular", "category": "marketing"}


def _message(**changes: Any) -> AcceptedMessage:
    parts: dict[str, Any] = {
        "wamid": "wamid.AAA=",
        "accepted_at": AT,
        "phone_number_id": "106",
        "recipient": "15550100123",
        "tag": "att_01J",
        "pricing": PRICING,
        "contact": CONTACT,
    }
    return AcceptedMessage(**{**parts, **changes})


def _body(*updates: Update, apart: bool = False) -> Any:
    raw = build_body(updates, waba_id="102", display_phone_number="15550783881", sent_at=AT, apart=apart)
    return json.loads(raw)


@pytest.mark.parametrize(
    ("raw", "signature"),
    [
        (
            b'{"object":"whatsapp_business_account","entry":[{"id":"0","changes":[]}]}',
            "5333c3377859add10471f50eb06463d7a1cc07032382c38e5f1a897378607a2d",
        ),
        (rb'{"body":"caf\u00e9 a\/b"}', "cb99155cda80020aa168f08fe5fee232c0ce4ac7f81f9fa1d973897403b20bc7"),
        ('{"body":"café a/b"}'.encode(), "eea97468f2130e4f60f2c4133e3924280bb7bfcf5ad126db5f42cf1c239bb215"),
    ],
)
def test_the_signature_is_the_published_one(raw: bytes, signature: str) -> None:
    """Row Q5: the vectors that receivers are checked with too."""
    assert sign_body("wa-test-secret", raw) == f"sha256={signature}"


def test_a_body_is_written_compact_in_ascii_with_slashes_escaped() -> None:
    assert encode_body({"body": "café a/b"}) == rb'{"body":"caf\u00e9 a\/b"}'
    assert encode_body({"a": ["\ud83d", "👍", '"']}) == rb'{"a":["\ud83d","\ud83d\udc4d","\""]}'


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)))
def test_the_spelling_changes_no_meaning(shape: dict[str, Any]) -> None:
    raw = encode_body(shape)
    assert json.loads(raw) == shape
    assert raw.isascii()
    assert raw.count(b"/") == raw.count(rb"\/")


def test_a_status_has_the_published_shape() -> None:
    """Row Q6: field `messages`, list `statuses`."""
    update = describe_status(_message(), Rung(1.0, "delivered", None, True))
    assert _body(update) == {
        "object": "whatsapp_business_account",
        "entry": [
            {
                "id": "102",
                "changes": [
                    {
                        "field": "messages",
                        "value": {
                            "messaging_product": "whatsapp",
                            "metadata": {"display_phone_number": "15550783881", "phone_number_id": "106"},
                            "contacts": [CONTACT],
                            "statuses": [
                                {
                                    "id": "wamid.AAA=",
                                    "status": "delivered",
                                    "timestamp": "1793900001",
                                    "recipient_id": "15550100123",
                                    "recipient_user_id": "US.1",
                                    "biz_opaque_callback_data": "att_01J",
                                    "pricing": PRICING,
                                }
                            ],
                        },
                    }
                ],
            }
        ],
    }


def test_a_failure_says_why_and_costs_nothing() -> None:
    value = _body(describe_status(_message(), Rung(2.0, "failed", 131026)))["entry"][0]["changes"][0]["value"]
    assert "contacts" not in value
    [status] = value["statuses"]
    assert (status["status"], status["biz_opaque_callback_data"]) == ("failed", "att_01J")
    assert "pricing" not in status
    [error] = status["errors"]
    assert set(error) == {"code", "title", "message", "error_data", "href"}
    assert (error["code"], error["title"], error["message"]) == (
        131026,
        "Message undeliverable",
        "Message undeliverable",
    )
    assert error["error_data"]["details"]


def test_a_message_without_a_tag_gets_none_back() -> None:
    update = describe_status(_message(tag=None), Rung(0.1, "sent", None, True))
    assert "biz_opaque_callback_data" not in update.item


def test_a_person_known_by_user_id_alone_shows_no_number() -> None:
    people = People()
    update = describe_status(
        _message(recipient="US.777", contact=people.describe("US.777")), Rung(0.1, "sent", None, True)
    )
    assert "recipient_id" not in update.item
    assert update.item["recipient_user_id"] == "US.777"
    assert update.contact is not None
    assert "wa_id" not in update.contact


def test_a_groups_status_names_the_group() -> None:
    update = describe_status(_message(recipient="Y2Fw", contact=None), Rung(0.1, "sent", None, True))
    assert (update.item["recipient_type"], update.item["recipient_id"]) == ("group", "Y2Fw")


def test_statuses_of_one_number_share_a_value_and_each_person_stands_in_it_once() -> None:
    rungs = [Rung(0.1, "sent", None, True), Rung(1.0, "delivered", None, True)]
    [change] = _body(*(describe_status(_message(), rung) for rung in rungs))["entry"][0]["changes"]
    assert [status["status"] for status in change["value"]["statuses"]] == ["sent", "delivered"]
    assert change["value"]["contacts"] == [CONTACT]


def test_statuses_of_two_numbers_never_share_a_value() -> None:
    updates = [describe_status(_message(phone_number_id=number), Rung(0.1, "sent")) for number in ("1", "2", "1")]
    changes = _body(*updates)["entry"][0]["changes"]
    assert [change["value"]["metadata"]["phone_number_id"] for change in changes] == ["1", "2"]
    assert [len(change["value"]["statuses"]) for change in changes] == [2, 1]


def test_a_batch_may_also_come_as_one_change_each() -> None:
    updates = [describe_status(_message(), Rung(0.1, status)) for status in ("sent", "delivered", "read")]
    changes = _body(*updates, apart=True)["entry"][0]["changes"]
    assert [[status["status"] for status in change["value"]["statuses"]] for change in changes] == [
        ["sent"],
        ["delivered"],
        ["read"],
    ]


def test_an_event_of_the_account_stands_as_it_is_with_the_time_of_its_entry() -> None:
    event = Update(field="account_update", kind="account_update", item={"event": "ACCOUNT_VIOLATION"})
    [entry] = _body(event)["entry"]
    assert entry["time"] == 1793900000
    assert entry["changes"] == [{"field": "account_update", "value": {"event": "ACCOUNT_VIOLATION"}}]


BEFORE = datetime(2026, 9, 30, 23, 59, tzinfo=UTC).timestamp()
AFTER = datetime(2026, 10, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("category", "is_window_open", "at", "type_"),
    [
        ("service", True, BEFORE, "free_customer_service"),
        ("group_service", True, BEFORE, "free_customer_service"),
        ("utility", True, BEFORE, "free_customer_service"),
        ("utility", False, BEFORE, "regular"),
        ("marketing", True, BEFORE, "regular"),
        ("authentication", True, BEFORE, "regular"),
        ("service", True, AFTER, "regular"),
        ("utility", True, AFTER, "regular"),
        ("marketing", False, AFTER, "regular"),
    ],
)
def test_the_price_follows_the_policy_of_the_day(category: str, is_window_open: bool, at: float, type_: str) -> None:
    assert describe_pricing(category, is_window_open=is_window_open, at=at) == {
        "billable": type_ == "regular",
        "pricing_model": "PMP",
        "type": type_,
        "category": category,
    }


def test_a_window_opens_for_24_hours_for_the_number_written_to_alone() -> None:
    people = People()
    assert not people.is_window_open("1", "15550100123", 0.0)
    people.note_message("1", derive_user_id("15550100123"), 100.0)
    assert people.is_window_open("1", "15550100123", 100.0 + 86_399)
    assert people.is_window_open("1", derive_user_id("15550100123"), 100.0)
    assert not people.is_window_open("1", "15550100123", 100.0 + 86_400)
    assert not people.is_window_open("2", "15550100123", 100.0)
    assert not people.is_window_open("1", "15550100124", 100.0)


def test_a_person_with_a_user_id_of_their_own_is_the_same_under_both() -> None:
    people = People()
    people.note_name("15550100123", "US.9", "Ada")
    people.note_message("1", "US.9", 100.0)
    assert people.is_window_open("1", "15550100123", 100.0)
    assert people.describe("15550100123") == {"profile": {"name": "Ada"}, "wa_id": "15550100123", "user_id": "US.9"}
    people.note_preference("US.9", wants_marketing=False)
    assert people.has_stopped("15550100123")
    people.note_preference("US.9", wants_marketing=True)
    assert not people.has_stopped("15550100123")
