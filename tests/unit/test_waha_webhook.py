"""WAHA's webhooks: only genuine bytes are believed, and whatever they hold becomes events without a crash."""

from __future__ import annotations

import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wa_cli.domain.connection import ConnectionState
from wa_cli.domain.event import ConnectionEvent, IgnoredEvent, InboundEvent, Person, StatusEvent
from wa_cli.domain.message_ref import choose_message_id
from wa_cli.domain.outcome import ErrorClass
from wa_cli.domain.receipt import Receipt
from wa_cli.errors import UsageError
from wa_cli.transports.waha.webhook import WahaWebhooks

INSTALL, TAG = "4f7h2k9q", "wa1.4f7h2k9q.77"
OURS = choose_message_id(TAG)
ADA, GROUP, HIDDEN = "15550100123@c.us", "120363041234567890@g.us", "123456789012345@lid"
AT_MS = 1_793_900_000_123


def make_reader(*secrets: str) -> WahaWebhooks:
    return WahaWebhooks(secrets=secrets, session="shop", number_id="instance 7", install=INSTALL)


READER = make_reader("my-secret-key")


def read(event: str, payload: Any, **envelope: Any) -> Any:
    shape = {"id": "evt_01", "timestamp": AT_MS, "event": event, "session": "shop", "payload": payload} | envelope
    (found,) = READER.read(json.dumps(shape).encode())
    return found


def read_ack(ack: Any, *, event: str = "message.ack", message_id: str = f"true_{ADA}_{OURS}", **fields: Any) -> Any:
    payload = {"id": message_id, "from": ADA, "participant": None, "fromMe": True, "ack": ack} | fields
    return read(event, payload, me={"id": "15550783881@c.us", "lid": "999999999999999@lid"})


def read_message(**fields: Any) -> Any:
    payload = {"id": f"false_{ADA}_ABCDEF", "timestamp": 1_793_900_000, "from": ADA, "fromMe": False, "body": "Hi"}
    return read("message", payload | fields)


# --- signatures ----------------------------------------------------------------------------------------------------

# As WAHA's own pages have it.
DOCUMENTED = b'{"event":"message","session":"default","engine":"WEBJS"}'
DOCUMENTED_HMAC = (
    "208f8a55dde9e05519e898b10b89bf0d0b3b0fdf11fdbf09b6b90476301b98d8"
    "097c462b2b17a6ce93b6b47a136cf2e78a33a63f6752c2c1631777076153fa89"
)


def test_the_documented_example_is_genuine_and_nothing_near_it() -> None:
    """Fault 71."""
    assert READER.signature_header == "X-Webhook-Hmac"
    assert READER.is_genuine(DOCUMENTED, DOCUMENTED_HMAC)
    assert not READER.is_genuine(DOCUMENTED + b" ", DOCUMENTED_HMAC)
    assert not make_reader("my-other-key").is_genuine(DOCUMENTED, DOCUMENTED_HMAC)


@pytest.mark.parametrize(
    "signature", [None, "", DOCUMENTED_HMAC[:-1], f"sha512={DOCUMENTED_HMAC}", "0" * 128, "é" * 128]
)
def test_anything_else_is_not_genuine(signature: str | None) -> None:
    assert not READER.is_genuine(DOCUMENTED, signature)


def test_while_a_secret_is_changed_both_are_good_and_without_one_nothing_is() -> None:
    for reader in (make_reader("new", "my-secret-key"), make_reader("my-secret-key", "new")):
        assert reader.is_genuine(DOCUMENTED, DOCUMENTED_HMAC)
    assert make_reader("my-secret-key").has_secret
    assert not make_reader().has_secret
    assert not make_reader().is_genuine(DOCUMENTED, hmac.new(b"", DOCUMENTED, "sha512").hexdigest())
    assert READER.answer_challenge({"hub.challenge": "1"}) is None


# --- receipts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ack", "receipt"),
    [(-1, Receipt.FAILED), (1, Receipt.SENT), (2, Receipt.DELIVERED), (3, Receipt.READ), (4, Receipt.PLAYED)],
)
def test_a_receipt_names_the_message_the_attempt_and_the_person(ack: int, receipt: Receipt) -> None:
    """Promise P5."""
    event = read_ack(ack)
    assert isinstance(event, StatusEvent)
    assert (event.number_id, event.provider_message_id, event.receipt) == ("instance 7", OURS, receipt)
    assert (event.tag, event.at_ms, event.participant) == (TAG, AT_MS, "")
    assert event.person == Person(address="+15550100123")
    assert (event.refusal is not None) is (receipt is Receipt.FAILED)


def test_the_name_of_an_ack_is_as_good_as_its_number() -> None:
    assert read_ack(None, ackName="READ").receipt is Receipt.READ


def test_a_clock_and_a_strange_ack_say_nothing() -> None:
    assert [read_ack(ack) for ack in (0, 9, "2", None, True)] == [
        IgnoredEvent(what=what) for what in ("message.ack.0", "message.ack.9", *["message.ack.unknown"] * 3)
    ]


def test_an_id_that_others_have_chosen_brings_no_tag() -> None:
    event = read_ack(2, message_id=f"true_{ADA}_3EB0C0FFEE0123456789AB")
    assert (event.provider_message_id, event.tag) == ("3EB0C0FFEE0123456789AB", None)


def test_what_we_have_read_of_others_is_no_receipt() -> None:
    assert isinstance(read_ack(3, message_id=f"false_{ADA}_{OURS}"), IgnoredEvent)
    assert isinstance(read_ack(3, fromMe=False), IgnoredEvent)


def test_a_hidden_person_is_known_by_the_hidden_id() -> None:
    event = read_ack(2, message_id=f"true_{HIDDEN}_{OURS}", **{"from": HIDDEN})
    assert event.person == Person(address=None, user_id=HIDDEN)


@pytest.mark.parametrize("event", ["message.ack", "message.ack.group"])
@pytest.mark.parametrize(
    ("participant", "ending", "expected"),
    [
        ("15550100124@c.us", "", "+15550100124"),
        ("15550100124:12@s.whatsapp.net", "_15550783881@c.us", "+15550100124"),
        (HIDDEN, "_999999999999999@lid", HIDDEN),
        (None, "_15550783881@c.us", ""),  # ourselves: what we sent, and no receipt of a member's
        (None, "_999999999999999@lid", ""),
        (None, "_15550100124@c.us", "+15550100124"),
    ],
)
def test_a_groups_receipt_is_of_one_member(event: str, participant: str | None, ending: str, expected: str) -> None:
    """Issue 6, point 4: told by the chat in the id, since the name of the event is not to be relied on."""
    found = read_ack(3, event=event, message_id=f"true_{GROUP}_{OURS}{ending}", participant=participant)
    assert (found.participant, found.person, found.tag) == (expected, None, TAG)


def test_a_failure_tells_its_reason_where_it_is_told() -> None:
    plain = read_ack(-1).refusal
    assert (plain.error_class, plain.code, plain.restriction) == (ErrorClass.DEAD_MESSAGE, "failed", None)
    told = read_ack(-1, error={"code": 479, "reason": "no for 15550100123"}).refusal
    assert (told.code, "15550100123" in told.details) == ("479", False)
    locked = read_ack(-1, error={"code": 463, "blocked": True, "reason": "slow down", "until": 1_793_903_600}).refusal
    assert locked.error_class is ErrorClass.RESTRICTED
    assert locked.restriction.until_ms == 1_793_903_600_000


# --- states, people ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("WORKING", ConnectionState.READY),
        ("SCAN_QR_CODE", ConnectionState.NEEDS_QR),
        ("PASSKEY_CONFIRMATION_REQUIRED", ConnectionState.NEEDS_QR),
        ("STARTING", ConnectionState.CONNECTING),
        ("STOPPED", ConnectionState.DISCONNECTED),
        ("FAILED", ConnectionState.AUTH_FAILURE),
        ("DANCING", ConnectionState.ERROR),
        (None, ConnectionState.ERROR),
    ],
)
def test_a_state_is_mapped_with_its_raw_word(status: Any, state: ConnectionState) -> None:
    """Issue 6, point 5: the state map."""
    event = read("session.status", {"status": status}, engine="GOWS", me={"id": "15550783881@c.us"})
    assert isinstance(event, ConnectionEvent)
    connection = event.connection
    assert (connection.state, connection.raw) == (state, status or "unknown")
    assert (connection.address, connection.engine, event.at_ms) == ("+15550783881", "GOWS", AT_MS)
    assert (connection.reason is None) is (status == "WORKING")


def test_what_a_person_writes_is_theirs() -> None:
    event = read_message(_data={"Info": {"PushName": "Ada"}}, body="STOP", replyTo={"id": OURS})
    assert isinstance(event, InboundEvent)
    assert event.person == Person(address="+15550100123", name="Ada")
    assert (event.words, event.kind, event.at_ms) == ("STOP", "text", 1_793_900_000_000)
    assert event.context_message_id == OURS
    assert event.provider_message_id == f"false_{ADA}_ABCDEF"


@pytest.mark.parametrize(
    "raw",
    [
        {"key": {"remoteJidAlt": "15550100123@s.whatsapp.net"}},
        {"Info": {"SenderAlt": "15550100123:4@s.whatsapp.net"}},
    ],
)
def test_a_hidden_person_with_a_number_beside_it_is_known_by_both(raw: dict[str, Any]) -> None:
    event = read_message(id=f"false_{HIDDEN}_ABCDEF", _data=raw, **{"from": HIDDEN})
    assert event.person == Person(address="+15550100123", user_id=HIDDEN)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"fromMe": True}, "message.own"),
        ({"from": GROUP, "participant": ADA}, "message.group"),
        ({"from": "status@broadcast"}, "message.other"),
        ({"from": "120363041234567890@newsletter"}, "message.other"),
        ({"id": None}, "message.other"),
    ],
)
def test_noise_is_named_and_ignored(fields: dict[str, Any], what: str) -> None:
    assert read_message(**fields) == IgnoredEvent(what=what)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"hasMedia": True, "media": {"mimetype": "image/jpeg"}}, "image"),
        ({"hasMedia": True, "media": {"mimetype": "application/pdf"}}, "document"),
        ({"hasMedia": True, "media": None}, "document"),
        ({"location": {"latitude": 1}}, "location"),
        ({"vCards": ["BEGIN:VCARD"]}, "contacts"),
    ],
)
def test_what_was_written_has_a_kind(fields: dict[str, Any], kind: str) -> None:
    assert read_message(**fields).kind == kind


def test_a_reaction_and_a_call_are_from_a_person() -> None:
    reaction = read(
        "message.reaction",
        {
            "id": f"false_{ADA}_REACT", "from": ADA, "fromMe": False, "timestamp": 1,
            "reaction": {"text": "👍", "messageId": f"true_{ADA}_{OURS}"},
        },
    )  # fmt: skip
    assert (reaction.kind, reaction.words, reaction.context_message_id) == ("reaction", "👍", OURS)
    call = read("call.received", {"id": "CALL1", "from": ADA, "timestamp": 1_793_900_000, "isGroup": False})
    assert (call.kind, call.person) == ("call", Person(address="+15550100123"))
    assert isinstance(read("call.received", {"id": "CALL1", "from": ADA, "isGroup": True}), IgnoredEvent)


# --- whatever comes ------------------------------------------------------------------------------------------------


def test_another_session_is_somebody_elses() -> None:
    shape = {"event": "session.status", "session": "other", "payload": {"status": "FAILED"}}
    assert READER.read(json.dumps(shape).encode()) == [IgnoredEvent(what="session.other")]


def test_what_is_not_known_is_named() -> None:
    assert read("group.v2.join", {}) == IgnoredEvent(what="group.v2.join")
    assert read("message.ack", []) == IgnoredEvent(what="message.ack")
    assert read("<script>", {}) == IgnoredEvent(what="unknown")


@pytest.mark.parametrize("body", [b"", b"no", b"[]", b"\xff\xfe", b'{"a":' * 99 + b"1" + b"}" * 99])
def test_what_is_no_body_of_wahas_is_refused(body: bytes) -> None:
    with pytest.raises(UsageError) as refused:
        READER.read(body)
    assert refused.value.code == "webhook"
    assert "WAHA" in (refused.value.hint or "")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from([ADA, GROUP, HIDDEN]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "from", "fromMe", "ack", "participant", "error", "code", "status", "_data", "Info", "key"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@given(
    event=st.sampled_from(["message.ack", "session.status", "message", "message.reaction", "call.received"]),
    payload=VALUES,
    me=VALUES,
    timestamp=VALUES,
)  # fmt: skip
def test_no_body_makes_it_fail(event: str, payload: Any, me: Any, timestamp: Any) -> None:
    shape = {"event": event, "session": "shop", "payload": payload, "me": me, "timestamp": timestamp}
    assert len(READER.read(json.dumps(shape).encode())) == 1
