"""What GOWA's webhooks say.  Issue 6: signed receipts, several in one body; rows of the gateway's sheet, section 3."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wa_cli.domain.event import Event, IgnoredEvent, InboundEvent, Person, StatusEvent
from wa_cli.domain.receipt import Receipt
from wa_cli.errors import UsageError
from wa_cli.provider import number_id_of
from wa_cli.transports.gowa.webhook import GowaWebhooks

READER = GowaWebhooks(number_id=number_id_of(4), device="a", secrets=("new", "old"))
AT_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
GROUP = "120363025982934543@g.us"


def body(event: str, payload: dict[str, Any], **more: Any) -> bytes:
    return json.dumps(
        {
            "event": event,
            "device_id": "60123@s.whatsapp.net",
            "session_id": "a",
            "timestamp": "2026-01-01T00:00:00Z",
            "payload": payload,
            **more,
        }
    ).encode()


def read(event: str, payload: dict[str, Any], **more: Any) -> list[Event]:
    return READER.read(body(event, payload, **more))


def ack(receipt_type: str = "delivered", **more: Any) -> dict[str, Any]:
    return {
        "ids": ["3EB0AA", "3EB0BB"],
        "chat_id": "60119876543@s.whatsapp.net",
        "from": "60119876543@s.whatsapp.net",
        "receipt_type": receipt_type,
        **more,
    }


@pytest.mark.parametrize(
    ("word", "receipt"), [("delivered", Receipt.DELIVERED), ("read", Receipt.READ), ("played", Receipt.PLAYED)]
)
def test_one_body_moves_several_messages(word: str, receipt: Receipt) -> None:
    assert read("message.ack", ack(word)) == [
        StatusEvent(
            number_id=number_id_of(4),
            provider_message_id=message_id,
            receipt=receipt,
            at_ms=AT_MS,
            person=Person(address="+60119876543"),
        )
        for message_id in ("3EB0AA", "3EB0BB")
    ]


@pytest.mark.parametrize("word", ["retry", "sender", "read-self", "played-self", "server-error", "", "new", None, 7])
def test_other_receipts_are_noise(word: Any) -> None:
    (event,) = read("message.ack", ack(word))

    assert isinstance(event, IgnoredEvent)


@pytest.mark.parametrize(
    ("sender", "participant"),
    [
        ({"from": "60119876543:12@s.whatsapp.net"}, "+60119876543"),
        ({"from": "251556368777322@lid"}, "251556368777322@lid"),
        ({"from": "60119876543@s.whatsapp.net", "from_lid": "251556368777322@lid"}, "+60119876543"),
    ],
)
def test_a_receipt_in_a_group_is_of_the_member_who_gave_it(sender: dict[str, str], participant: str) -> None:
    for event in read("message.ack", ack(chat_id=GROUP, **sender)):
        assert isinstance(event, StatusEvent)
        assert (event.participant, event.person) == (participant, None)


def message(**more: Any) -> dict[str, Any]:
    return {
        "id": "3EB0C127D7BACC83D6A1",
        "chat_id": "60119876543@s.whatsapp.net",
        "from": "60119876543@s.whatsapp.net",
        "from_name": "Ana",
        "timestamp": "2026-01-01T00:00:01.5Z",
        "is_from_me": False,
        "body": "STOP",
        **more,
    }


def test_somebody_writes() -> None:
    assert read("message", message(replied_to_id="3EB0AA")) == [
        InboundEvent(
            number_id=number_id_of(4),
            provider_message_id="3EB0C127D7BACC83D6A1",
            at_ms=AT_MS + 1500,
            person=Person(address="+60119876543", name="Ana"),
            kind="text",
            words="STOP",
            context_message_id="3EB0AA",
        )
    ]


def test_who_hides_the_number_is_known_by_the_other_id() -> None:
    (event,) = read("message", message(**{"from": "251556368777322@lid"}))

    assert isinstance(event, InboundEvent)
    assert event.person == Person(address=None, user_id="251556368777322@lid", name="Ana")


def test_a_picture_is_no_text_and_a_reaction_names_its_message() -> None:
    (picture,) = read("message", message(image={"path": "x"}, body="Look"))
    (reaction,) = read("message.reaction", message(reaction="👍", reacted_message_id="3EB0AA"))

    assert isinstance(picture, InboundEvent)
    assert isinstance(reaction, InboundEvent)
    assert (picture.kind, picture.words) == ("image", "Look")
    assert (reaction.kind, reaction.words, reaction.context_message_id) == ("reaction", "👍", "3EB0AA")


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        ("message", message(is_from_me=True)),
        ("message", message(chat_id=GROUP)),
        ("message", message(chat_id="status@broadcast")),
        ("message", message(**{"from": "x"})),
        ("message", message(id=None)),
        ("message.revoked", message()),
        ("group.participants", {"type": "join"}),
        ("newsletter.message", {}),
        ("brand.new", {}),
    ],
)
def test_what_is_no_word_to_us_changes_nothing(event: str, payload: dict[str, Any]) -> None:
    (read_event,) = read(event, payload)

    assert isinstance(read_event, IgnoredEvent)


@pytest.mark.parametrize(("event", "payload"), [("message.ack", ack()), ("message", message())])
def test_another_device_of_the_same_gateway_is_not_ours(event: str, payload: dict[str, Any]) -> None:
    (read_event,) = read(event, payload, session_id="b")

    assert isinstance(read_event, IgnoredEvent)
    assert READER.read(body(event, payload, session_id=None)) == READER.read(body(event, payload))


# --- signatures ---

BODY = body("message.ack", {"ids": ["3EB0"], "emoji": "👍"})


def sign(secret: str, over: bytes = BODY, algorithm: str = "sha256") -> str:
    return hmac.new(secret.encode(), over, algorithm).hexdigest()


@pytest.mark.parametrize("secret", ["new", "old"])
def test_the_old_and_the_new_secret_both_vouch(secret: str) -> None:
    """Fault 71."""
    assert READER.is_genuine(BODY, f"sha256={sign(secret)}")


@pytest.mark.parametrize(
    "signature",
    [
        None,
        "",
        "sha256=",
        sign("new"),
        f"sha256={sign('other')}",
        f"sha256={sign('')}",
        f"sha256={sign('new', BODY + b' ')}",
        f"sha256={sign('new')[:-1]}",
        f"sha256={sign('new').upper()}",
        f"sha256={sign('new')}\n",
        f"sha1={sign('new', algorithm='sha1')}",
        f"sha512={sign('new', algorithm='sha512')}",
        f"sha256={hashlib.sha256(BODY).hexdigest()}",
    ],
)
def test_no_forgery_is_genuine(signature: str | None) -> None:
    """Fault 71."""
    assert not READER.is_genuine(BODY, signature)


def test_without_a_secret_nothing_is_genuine() -> None:
    reader = GowaWebhooks(number_id="n", device="a", secrets=())

    assert not reader.has_secret
    assert not reader.is_genuine(BODY, f"sha256={sign('')}")


# --- whatever comes ---


@pytest.mark.parametrize("raw", [b"", b"[]", b'"x"', b"{", b"\xff", b"[" * 100_000, b" " * (3 * 1024 * 1024 + 1)])
def test_what_is_no_body_of_gowas_is_refused(raw: bytes) -> None:
    """Fault 73."""
    with pytest.raises(UsageError) as refused:
        READER.read(raw)
    assert refused.value.code == "webhook"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


@given(
    st.sampled_from(["message", "message.ack", "message.reaction", "call.offer", "x"]),
    st.fixed_dictionaries(
        {},
        optional={
            name: JSON | st.sampled_from(["read", GROUP, "60119876543@s.whatsapp.net", "3EB0AA"])
            for name in ("ids", "id", "chat_id", "from", "from_lid", "receipt_type", "timestamp", "body", "call_id")
        },
    ),
    JSON,
)
def test_no_json_makes_it_fail(event: str, payload: dict[str, Any], session: Any) -> None:
    for read_event in READER.read(body(event, payload, session_id=session)):
        assert isinstance(read_event, IgnoredEvent | StatusEvent | InboundEvent)
