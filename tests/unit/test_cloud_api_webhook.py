"""Meta's webhooks: only genuine bytes are believed, and whatever they hold becomes events without a crash."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wa_cli.domain.connection import Restriction, RestrictionScope
from wa_cli.domain.event import (
    AccountEvent,
    Event,
    IgnoredEvent,
    InboundEvent,
    NumberChangedEvent,
    Person,
    PreferenceEvent,
    StatusEvent,
    TemplateEvent,
)
from wa_cli.domain.outcome import ErrorClass, Rejected
from wa_cli.domain.receipt import Receipt
from wa_cli.domain.retry import Stop
from wa_cli.domain.webhook import LARGEST_BODY_BYTES
from wa_cli.errors import UsageError
from wa_cli.transports.bodies import MAX_DEPTH
from wa_cli.transports.cloud_api.webhook import MAX_EVENTS, CloudApiWebhooks

SECRET = "wa-test-secret"
READER = CloudApiWebhooks(secrets=(SECRET,), verify_token="let me in")
NUMBER_ID = "106540352242922"
ADA = "15550100123"
AT, AT_MS = 1_793_900_000, 1_793_900_000_000


def sign(body: bytes, secret: str = SECRET, algorithm: str = "sha256") -> str:
    return f"{algorithm}={hmac.new(secret.encode(), body, algorithm).hexdigest()}"


def write(*changes: tuple[str, Any], at: Any = AT) -> bytes:
    """A body with these changes, (field, value)."""
    entry = {"id": "102290129340398", "changes": [{"field": field, "value": value} for field, value in changes]}
    if at is not None:
        entry["time"] = at
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()


def read(field: str, value: dict[str, Any], **options: Any) -> list[Event]:
    metadata = {"display_phone_number": "15550783881", "phone_number_id": NUMBER_ID}
    return READER.read(write((field, {"messaging_product": "whatsapp", "metadata": metadata, **value}), **options))


def read_one(field: str, value: dict[str, Any], **options: Any) -> Any:
    (event,) = read(field, value, **options)
    return event


def read_status(**fields: Any) -> Any:
    status = {"id": "wamid.AAA=", "status": "delivered", "timestamp": str(AT), "recipient_id": ADA} | fields
    return read_one("messages", {"statuses": [{name: value for name, value in status.items() if value is not None}]})


def read_message(kind: str, **fields: Any) -> Any:
    message = {"from": ADA, "id": "wamid.IN=", "timestamp": str(AT), "type": kind} | fields
    return read_one("messages", {"messages": [{name: value for name, value in message.items() if value is not None}]})


# --- signatures ----------------------------------------------------------------------------------------------------

VECTORS = [
    (
        b'{"object":"whatsapp_business_account","entry":[{"id":"0","changes":[]}]}',
        "5333c3377859add10471f50eb06463d7a1cc07032382c38e5f1a897378607a2d",
    ),
    (rb'{"body":"caf\u00e9 a\/b"}', "cb99155cda80020aa168f08fe5fee232c0ce4ac7f81f9fa1d973897403b20bc7"),
    ('{"body":"café a/b"}'.encode(), "eea97468f2130e4f60f2c4133e3924280bb7bfcf5ad126db5f42cf1c239bb215"),
]


@pytest.mark.parametrize(("body", "digest"), VECTORS)
def test_the_signature_is_over_the_bytes_as_they_came(body: bytes, digest: str) -> None:
    """Fault 71: two of these bodies are the same JSON, and each fits its own signature alone."""
    assert READER.is_genuine(body, f"sha256={digest}")
    assert [READER.is_genuine(other, f"sha256={digest}") for other, _digest in VECTORS].count(True) == 1


BODY = write(("messages", {"messages": [{"text": {"body": "Ça va ? 👍🏽"}}]}))
GOOD = sign(BODY)
FORGED: dict[str, str | None] = {
    "missing": None,
    "empty": "",
    "no algorithm": GOOD.removeprefix("sha256="),
    "no digest": "sha256=",
    "one digit short": GOOD[:-1],
    "one digit long": GOOD + "0",
    "half of it": GOOD[:39],
    "one digit changed": GOOD[:-1] + ("0" if GOOD[-1] != "0" else "1"),
    "first digit changed": "sha256=" + ("0" if GOOD[7] != "0" else "1") + GOOD[8:],
    "upper-case algorithm": GOOD.replace("sha256", "SHA256"),
    "upper-case digits": "sha256=" + GOOD[7:].upper() + ("" if GOOD[7:].upper() != GOOD[7:] else "A"),
    "sha1, which Meta sends too": sign(BODY, algorithm="sha1"),
    "sha512": sign(BODY, algorithm="sha512"),
    "sha1 that calls itself sha256": "sha256=" + sign(BODY, algorithm="sha1")[5:],
    "md5 padded": "sha256=" + sign(BODY, algorithm="md5")[4:] + "0" * 32,
    "no key": sign(BODY, secret=""),
    "a secret that was withdrawn": sign(BODY, secret="last year's secret"),
    "the verify token as key": sign(BODY, secret="let me in"),
    "of another body": sign(b"{}"),
    "of the body with another line end": sign(BODY + b"\n"),
    "of the body written anew": sign(json.dumps(json.loads(BODY), ensure_ascii=False).encode()),
    "a plain hash without key": "sha256=" + hashlib.sha256(BODY).hexdigest(),
    "a blank before": " " + GOOD,
    "a line end after": GOOD + "\n",
    "two in one": f"{GOOD},{GOOD}",
    "two signs of equality": GOOD.replace("=", "=="),
    "no hex": "sha256=" + "z" * 64,
    "digits of another script": "sha256=" + "٣" * 64,
    "zeros": "sha256=" + "0" * 64,
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_a_forged_signature_is_refused(forged: str | None) -> None:
    """Fault 71."""
    assert not READER.is_genuine(BODY, forged)
    assert READER.is_genuine(BODY, GOOD)


@given(st.binary(max_size=80), st.text(max_size=80))
def test_no_other_text_is_a_signature(body: bytes, signature: str) -> None:
    """Fault 71."""
    assert READER.is_genuine(body, signature) == (signature == sign(body))


@given(st.binary(max_size=60), st.integers(0, 10**6))
def test_a_changed_byte_breaks_the_signature(body: bytes, place: int) -> None:
    """Fault 71."""
    if body:
        changed = bytearray(body)
        changed[place % len(body)] ^= 1
        assert not READER.is_genuine(bytes(changed), sign(body))


def test_while_a_secret_is_changed_both_are_good() -> None:
    """Fault 71."""
    reader = CloudApiWebhooks(secrets=("old", "new"), verify_token=None)
    assert reader.is_genuine(BODY, sign(BODY, "old"))
    assert reader.is_genuine(BODY, sign(BODY, "new"))
    assert not reader.is_genuine(BODY, sign(BODY, "older"))


@pytest.mark.parametrize("secrets", [(), ("",), ("", "")])
def test_without_a_secret_nothing_is_genuine(secrets: tuple[str, ...]) -> None:
    """Fault 71: an empty secret would make every body easy to sign."""
    reader = CloudApiWebhooks(secrets=secrets, verify_token=None)
    assert not reader.has_secret
    assert not any(reader.is_genuine(BODY, signature) for signature in (sign(BODY, secret=""), GOOD, None))


def test_every_secret_is_compared_in_constant_time_whatever_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 71."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    reader = CloudApiWebhooks(secrets=("old", "new", "newest"), verify_token=None)
    for signature in (sign(BODY, "old"), sign(BODY, "newest"), "sha256=oops", None):
        compared.clear()
        reader.is_genuine(BODY, signature)
        assert len(compared) == 3
        assert {len(one) for pair in compared for one in pair} == {32}


# --- the check of the address --------------------------------------------------------------------------------------


def challenge(**changed: str) -> str | None:
    query = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": "let me in"}
    return READER.answer_challenge(query | {name.replace("_", ".", 1): value for name, value in changed.items()})


def test_the_check_of_the_address_is_answered_with_its_challenge() -> None:
    assert challenge() == "1158201444"


@pytest.mark.parametrize(
    "changed",
    [
        {"hub_verify_token": "let me i"},
        {"hub_verify_token": ""},
        {"hub_verify_token": "let me in "},
        {"hub_verify_token": "l\udce9t me in"},
        {"hub_mode": "unsubscribe"},
        {"hub_mode": ""},
        {"hub_challenge": ""},
        {"hub_challenge": "<script>alert(1)</script>"},
        {"hub_challenge": "1\r\nSet-Cookie: a=b"},
        {"hub_challenge": "1" * 257},
    ],
)
def test_a_check_that_is_not_metas_is_refused(changed: dict[str, str]) -> None:
    assert challenge(**changed) is None


@pytest.mark.parametrize("token", [None, ""])
def test_without_a_verify_token_every_check_is_refused(token: str | None) -> None:
    reader = CloudApiWebhooks(secrets=(SECRET,), verify_token=token)
    query = {"hub.mode": "subscribe", "hub.challenge": "1", "hub.verify_token": token or ""}
    assert reader.answer_challenge(query) is None
    assert reader.answer_challenge({}) is None


# --- receipts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("receipt", [receipt for receipt in Receipt if receipt is not Receipt.FAILED])
def test_a_status_is_a_receipt_with_its_tag_and_person(receipt: Receipt) -> None:
    """Row Q4."""
    event = read_status(status=receipt.value, biz_opaque_callback_data="wa1.0a1b2c3d.17", recipient_user_id="US.1349")
    assert event == StatusEvent(
        number_id=NUMBER_ID,
        provider_message_id="wamid.AAA=",
        receipt=receipt,
        at_ms=AT_MS,
        tag="wa1.0a1b2c3d.17",
        person=Person(address=f"+{ADA}", user_id="US.1349"),
    )


def test_a_failed_status_is_a_refusal_by_the_same_table_as_an_answer() -> None:
    """Row S11, promise P11."""
    event = read_status(
        status="failed",
        errors=[
            {
                "code": 131049,
                "title": "Not delivered",
                "message": "Not delivered",
                "error_data": {"details": "to +1 555 010 0123, wamid.HBgLMTU1NTAxMDAxMjM=, key wa-test-secret"},
                "href": "https://developers.facebook.com/docs",
            }
        ],
    )
    assert event.receipt is Receipt.FAILED
    assert event.refusal == Rejected(
        error_class=ErrorClass.HOURS,
        code="131049",
        details="Not delivered: to …0123, [message id], key [secret]",
        http_status=0,
        wait_seconds=86_400.0,
        max_attempts=2,
    )


def test_a_failure_with_an_unknown_code_is_permanent_and_says_that_it_is_unknown() -> None:
    refusal = read_status(status="failed", errors=[{"code": 987_654, "title": "New"}]).refusal
    assert (refusal.error_class, refusal.code) == (ErrorClass.DEAD_MESSAGE, "987654")
    assert refusal.details == "New (a code this wa does not know)"


@pytest.mark.parametrize(
    "errors",
    [None, [], {}, [None], [[]], [{}], "131026", [{"code": None}], [{"code": 10**4000}], [{"code": True}]],
)
def test_a_failure_without_a_readable_reason_has_failed_all_the_same(errors: Any) -> None:
    """Promise P3."""
    refusal = read_status(status="failed", errors=errors).refusal
    assert (refusal.error_class, refusal.code) == (ErrorClass.DEAD_MESSAGE, "failed")
    assert refusal.details == "WhatsApp gave no reason"


def test_the_first_reason_with_a_code_is_the_reason() -> None:
    refusal = read_status(status="failed", errors=[{"title": "?"}, {"code": "131026"}, {"code": 131049}]).refusal
    assert refusal.code == "131026"
    assert read_status(status="failed", errors=[{"title": "a word"}]).refusal.details == "a word"


def test_only_a_failure_has_a_reason() -> None:
    assert read_status(status="delivered", errors=[{"code": 131026}]).refusal is None


def test_a_person_without_a_number_is_known_by_their_id() -> None:
    event = read_status(recipient_id=None, recipient_user_id="US.13491208655302741918")
    assert event.person == Person(address=None, user_id="US.13491208655302741918")


def test_a_status_about_nobody_is_still_a_receipt() -> None:
    assert read_status(recipient_id=None).person is None


def test_the_contacts_beside_a_status_tell_the_name_and_the_id() -> None:
    contacts = [
        {"profile": {"name": "Ben"}, "wa_id": "15550100999", "user_id": "US.9"},
        {"profile": {"name": "Ada"}, "wa_id": ADA, "user_id": "US.1"},
    ]
    statuses = [
        {"id": "wamid.1", "status": "read", "timestamp": str(AT), "recipient_id": ADA},
        {"id": "wamid.2", "status": "read", "timestamp": str(AT), "recipient_user_id": "US.9"},
    ]
    events = read("messages", {"contacts": contacts, "statuses": statuses})
    assert [event.person for event in events if isinstance(event, StatusEvent)] == [
        Person(address=f"+{ADA}", user_id="US.1", name="Ada"),
        Person(address="+15550100999", user_id="US.9", name="Ben"),
    ]


@pytest.mark.parametrize(
    ("fields", "participant"),
    [
        ({"recipient_participant_id": ADA, "recipient_participant_user_id": "US.1"}, f"+{ADA}"),
        ({"participant_recipient_id": ADA}, f"+{ADA}"),
        ({"recipient_participant_user_id": "US.1"}, "US.1"),
        ({"participant_recipient_user_id": "US.1"}, "US.1"),
        ({}, ""),
    ],
)
def test_a_status_of_a_group_names_its_member_and_no_person(fields: dict[str, str], participant: str) -> None:
    """The pages of Meta's spell the member both ways."""
    event = read_status(status="read", recipient_id="Y2FwaV9ncm91cDox", recipient_type="group", **fields)
    assert (event.participant, event.person, event.receipt) == (participant, None, Receipt.READ)


@pytest.mark.parametrize("status", ["warning", "deleted", "SENT", "", None, 7, ["sent"], {"sent": 1}])
def test_a_status_that_is_none_is_named_and_ignored(status: Any) -> None:
    event = read_one("messages", {"statuses": [{"id": "wamid.1", "status": status, "timestamp": "1"}]})
    assert isinstance(event, IgnoredEvent)
    assert event.what.startswith("statuses.")


@pytest.mark.parametrize("message_id", [None, "", "has a blank", "wamid.é", "x" * 513, {}, -1, "a\x00b", "a\n"])
def test_a_status_without_a_readable_id_is_ignored(message_id: Any) -> None:
    assert isinstance(
        read_one("messages", {"statuses": [{"id": message_id, "status": "read", "timestamp": "1"}]}), IgnoredEvent
    )


@pytest.mark.parametrize(
    ("told", "at_ms"),
    [
        (str(AT), AT_MS),
        (AT, AT_MS),
        (AT + 0.25, AT_MS + 250),
        (None, AT_MS + 60_000),  # the time of the whole entry
        ("soon", AT_MS + 60_000),
        ("-5", AT_MS + 60_000),
        (-5, AT_MS + 60_000),
        ("9" * 12, AT_MS + 60_000),
        (10**30, AT_MS + 60_000),
        (float("inf"), AT_MS + 60_000),
        (float("nan"), AT_MS + 60_000),
        (True, AT_MS + 60_000),
        ("١٧٩٣٩٠٠٠٠٠", AT_MS + 60_000),
    ],
)
def test_a_time_is_seconds_however_it_is_written(told: Any, at_ms: int) -> None:
    status = {"id": "wamid.1", "status": "read", "timestamp": told}
    assert read_one("messages", {"statuses": [status]}, at=AT + 60).at_ms == at_ms


def test_where_nobody_says_when_the_time_is_0() -> None:
    assert read_one("messages", {"statuses": [{"id": "wamid.1", "status": "read"}]}, at=None).at_ms == 0


@pytest.mark.parametrize("tag", [7, "", "a\nb", "é", "x" * 513, None, []])
def test_a_tag_that_cannot_be_ours_is_no_tag(tag: Any) -> None:
    assert read_status(biz_opaque_callback_data=tag).tag is None


# --- people who write ----------------------------------------------------------------------------------------------

INBOUND = [
    ("text", {"text": {"body": "Stop"}}, "Stop", None),
    ("button", {"button": {"payload": "STOP", "text": "Stop promotions"}}, "Stop promotions", "STOP"),
    (
        "interactive",
        {"interactive": {"type": "button_reply", "button_reply": {"id": "y", "title": "Yes"}}},
        "Yes",
        "y",
    ),
    (
        "interactive",
        {"interactive": {"type": "list_reply", "list_reply": {"id": "m9", "title": "09:00", "description": "30 min"}}},
        "09:00",
        "m9",
    ),
    (
        "interactive",
        {"interactive": {"type": "nfm_reply", "nfm_reply": {"name": "flow", "body": "Sent", "response_json": "{}"}}},
        "Sent",
        None,
    ),
    ("reaction", {"reaction": {"message_id": "wamid.AAA=", "emoji": "👍"}}, None, None),
    ("reaction", {"reaction": {"message_id": "wamid.AAA="}}, None, None),
    ("image", {"image": {"id": "1", "mime_type": "image/jpeg", "caption": "c"}}, "c", None),
    ("video", {"video": {"id": "1"}}, None, None),
    ("audio", {"audio": {"id": "1", "voice": True}}, None, None),
    ("document", {"document": {"id": "1", "filename": "a.pdf", "caption": "mine"}}, "mine", None),
    ("sticker", {"sticker": {"id": "1", "animated": False}}, None, None),
    ("location", {"location": {"latitude": 25.2, "longitude": 55.2, "name": "Office"}}, None, None),
    ("contacts", {"contacts": [{"name": {"formatted_name": "Ada L"}}]}, None, None),
    ("order", {"order": {"catalog_id": "1", "text": "two please", "product_items": []}}, "two please", None),
    ("unsupported", {"errors": [{"code": 131051, "title": "Message type unknown"}]}, None, None),
    ("poll_of_next_year", {"poll_of_next_year": {"text": "?"}}, None, None),
]


@pytest.mark.parametrize(("kind", "fields", "words", "payload"), INBOUND)
def test_every_kind_of_message_says_who_wrote_what(
    kind: str, fields: dict[str, Any], words: str | None, payload: str | None
) -> None:
    """Row Q10."""
    event = read_message(kind, **fields)
    assert event == InboundEvent(
        number_id=NUMBER_ID,
        provider_message_id="wamid.IN=",
        at_ms=AT_MS,
        person=Person(address=f"+{ADA}"),
        kind=kind,
        words=words,
        payload=payload,
        context_message_id="wamid.AAA=" if kind == "reaction" else None,
    )


def test_an_answer_names_the_message_it_answers() -> None:
    event = read_message("text", text={"body": "Yes"}, context={"from": "15550783881", "id": "wamid.AAA="})
    assert event.context_message_id == "wamid.AAA="


def test_somebody_who_shows_no_number_has_written_too() -> None:
    event = read_message("text", text={"body": "Hi"}, **{"from": None}, from_user_id="US.7")
    assert event.person == Person(address=None, user_id="US.7")


def test_a_message_from_nobody_is_ignored() -> None:
    assert read_message("text", text={"body": "Hi"}, **{"from": None}) == IgnoredEvent(what="messages.text")


def test_what_is_said_to_a_group_is_not_said_to_us() -> None:
    """It would open a window with the person that is not open."""
    assert read_message("text", text={"body": "Hi"}, group_id="g") == IgnoredEvent(what="messages.group_text")


@pytest.mark.parametrize("kind", ["revoke", "request_welcome"])
def test_where_nobody_wrote_there_is_no_message(kind: str) -> None:
    assert read_message(kind) == IgnoredEvent(what=f"messages.{kind}")


def test_words_that_no_file_can_hold_are_repaired_and_long_ones_cut() -> None:
    event = read_message("text", text={"body": "half \ud83d of a sign" + "x" * 5_000})
    assert event.words.startswith("half ? of a sign")
    assert len(event.words) == 4_096
    event.words.encode()


@pytest.mark.parametrize("kind", ["user_changed_number", "user_changed_user_id"])
@pytest.mark.parametrize(
    ("system", "new"),
    [
        ({"wa_id": "15550100999"}, Person(address="+15550100999")),
        ({"new_wa_id": "15550100999"}, Person(address="+15550100999")),
        (
            {"wa_id": "15550100999", "user_id": "US.2", "body": "changed"},
            Person(address="+15550100999", user_id="US.2"),
        ),
    ],
)
def test_a_new_number_joins_the_old_one(kind: str, system: dict[str, str], new: Person) -> None:
    event = read_message("system", system={"type": kind} | system)
    assert event == NumberChangedEvent(number_id=NUMBER_ID, at_ms=AT_MS, old=Person(address=f"+{ADA}"), new=new)


def test_a_new_id_of_a_person_keeps_their_number() -> None:
    event = read_message("system", system={"type": "user_changed_user_id", "user_id": "US.2"}, from_user_id="US.1")
    assert (event.old.user_id, event.new) == ("US.1", Person(address=f"+{ADA}", user_id="US.2"))


@pytest.mark.parametrize(
    "system",
    [
        {"type": "customer_identity_changed"},
        {"type": "user_changed_number"},
        {"type": "user_changed_number", "wa_id": ADA},
        {"type": "user_changed_number", "wa_id": "not a number"},
        {},
        None,
        "user_changed_number",
    ],
)
def test_a_system_message_that_changes_nothing_is_ignored_and_nobody_has_written(system: Any) -> None:
    assert isinstance(read_message("system", system=system), IgnoredEvent)


def preference(**changed: Any) -> Any:
    choice = {
        "wa_id": ADA,
        "detail": "User requested to stop",
        "category": "marketing_messages",
        "value": "stop",
        "timestamp": AT,
    } | changed
    return read_one("user_preferences", {"user_preferences": [choice]})


def test_a_person_who_stops_marketing_does_not_want_it_until_they_resume() -> None:
    """Row S10."""
    assert preference() == PreferenceEvent(
        number_id=NUMBER_ID,
        at_ms=AT_MS,
        person=Person(address=f"+{ADA}"),
        wants=False,
        wording="User requested to stop",
    )
    assert preference(value="resume").wants
    assert preference(detail=None).wording == "marketing_messages: stop"


def test_any_stop_is_an_opt_out_and_only_resumed_marketing_an_opt_in() -> None:
    """Row S10."""
    assert not preference(category="utility_messages").wants
    assert isinstance(preference(category="utility_messages", value="resume"), IgnoredEvent)


@pytest.mark.parametrize("changed", [{"value": "maybe"}, {"value": None}, {"wa_id": None}, {"value": ["stop"]}])
def test_a_preference_that_cannot_be_read_is_ignored(changed: dict[str, Any]) -> None:
    assert isinstance(preference(**changed), IgnoredEvent)


# --- templates and the account -------------------------------------------------------------------------------------


def template(event: Any, **fields: Any) -> Any:
    value = {
        "event": event,
        "message_template_id": 594425479261596,
        "message_template_name": "spring_sale",
        "message_template_language": "en_US",
        "reason": "NONE",
    }
    return read_one("message_template_status_update", value | fields)


@pytest.mark.parametrize(
    ("title", "hours"), [("FIRST_PAUSE", 3), ("SECOND_PAUSE", 6), ("RATE_LIMITING_PAUSE", None), (None, None)]
)
def test_a_paused_template_is_held_until_its_pause_is_over(title: str | None, hours: int | None) -> None:
    """Row S11."""
    until_ms = AT_MS + hours * 3_600_000 if hours else None
    for event in (
        template("PAUSED", other_info={"title": title, "description": "x"}),
        template("PAUSED", reason=title),
    ):
        assert isinstance(event, TemplateEvent)
        assert (event.account_id, event.name, event.language) == ("102290129340398", "spring_sale", "en_US")
        assert (event.held, event.until_ms, event.at_ms) == (True, until_ms, AT_MS)
        assert event.reason.startswith(f"PAUSED: {title}" if title else "PAUSED")


@pytest.mark.parametrize(
    "event", ["PAUSED", "DISABLED", "FLAGGED", "REJECTED", "PENDING", "PENDING_DELETION", "DELETED"]
)
def test_only_an_approved_template_is_not_held(event: str) -> None:
    assert template(event).held


@pytest.mark.parametrize("event", ["APPROVED", "UNPAUSED", "REINSTATED", "UNARCHIVED"])
def test_a_template_that_is_approved_again_is_held_no_longer(event: str) -> None:
    assert not template(event).held


def test_a_disabled_template_has_no_end() -> None:
    assert template("DISABLED", other_info={"title": "FIRST_PAUSE"}).until_ms is None


@pytest.mark.parametrize(
    "fields",
    [
        {"event": "SOMETHING_NEW"},
        {"event": None},
        {"message_template_name": None},
        {"message_template_name": "no name!"},
        {"message_template_language": None},
        {"message_template_language": ["en"]},
    ],
)
def test_what_cannot_be_read_about_a_template_is_ignored(fields: dict[str, Any]) -> None:
    assert isinstance(template(fields.pop("event", "PAUSED"), **fields), IgnoredEvent)


def account(event: Any, **fields: Any) -> Any:
    return read_one("account_update", {"event": event} | fields)


def test_a_restricted_account_may_only_answer_until_the_stated_end() -> None:
    """Issue 6, point 6: what Meta calls business-initiated waits, answers within the window go on."""
    restriction = {"restriction_type": "RESTRICTED_BIZ_INITIATED_MESSAGING", "expiration": 1_794_500_000}
    event = account("ACCOUNT_RESTRICTION", restriction_info=[restriction], violation_info={"violation_type": "SPAM"})
    reason = "Meta has restricted the account for SPAM, until 2026-11-12 16:13 UTC (RESTRICTED_BIZ_INITIATED_MESSAGING)"
    assert event == AccountEvent(
        account_id="102290129340398",
        at_ms=AT_MS,
        stop=None,
        words=reason,
        restriction=Restriction(
            code="account_restricted",
            reason=reason,
            scope=RestrictionScope.OUTSIDE_WINDOW,
            until_ms=1_794_500_000_000,
        ),
    )


@pytest.mark.parametrize(
    ("kinds", "ends", "scope", "until_ms"),
    [
        (["BIZ"], [0], RestrictionScope.OUTSIDE_WINDOW, None),
        (["BIZ", "CUSTOMER"], [1_794_500_000, 1_794_600_000], RestrictionScope.EVERYTHING, 1_794_600_000_000),
        (["CUSTOMER"], [1_794_500_000], RestrictionScope.EVERYTHING, 1_794_500_000_000),
    ],
)
def test_parts_of_a_restriction_come_to_the_widest_until_the_last_end(
    kinds: list[str], ends: list[int], scope: RestrictionScope, until_ms: int | None
) -> None:
    """Issue 6, point 6."""
    info = [
        {"restriction_type": f"RESTRICTED_{kind}_INITIATED_MESSAGING"} | ({"expiration": end} if end else {})
        for kind, end in zip(kinds, ends, strict=True)
    ]
    event = account("ACCOUNT_RESTRICTION", restriction_info=[*info, {"restriction_type": "ADD_PHONE_NUMBER"}])
    assert event.stop is None
    assert (event.restriction.scope, event.restriction.until_ms) == (scope, until_ms)


def test_one_that_holds_everything_back_without_an_end_stops_until_a_person_acts() -> None:
    """Fault 62."""
    info = [{"restriction_type": "RESTRICTED_CUSTOMER_INITIATED_MESSAGING"}]
    event = account("ACCOUNT_RESTRICTION", restriction_info=info)
    assert (event.stop.code, event.restriction) == ("account_restricted", None)


def test_a_restriction_that_does_not_touch_messages_stops_nothing() -> None:
    restriction = [{"restriction_type": "RESTRICTED_ADD_PHONE_NUMBER_ACTION"}]
    assert isinstance(account("ACCOUNT_RESTRICTION", restriction_info=restriction), IgnoredEvent)


@pytest.mark.parametrize("info", [None, [], [None], "?"])
def test_a_restriction_that_does_not_say_of_what_stops(info: Any) -> None:
    assert account("ACCOUNT_RESTRICTION", restriction_info=info).stop.code == "account_restricted"


@pytest.mark.parametrize(
    ("event", "fields", "code", "words"),
    [
        ("DISABLED_UPDATE", {"ban_info": {"waba_ban_state": "DISABLE"}}, "account_disabled", "has disabled"),
        (
            "DISABLED_UPDATE",
            {"ban_info": {"waba_ban_state": "SCHEDULE_FOR_DISABLE", "waba_ban_date": "2026-12-01"}},
            "account_disabled",
            "is going to disable the account, on 2026-12-01",
        ),
        ("ACCOUNT_DELETED", {}, "account_deleted", "deleted"),
        ("ACCOUNT_OFFBOARDED", {}, "account_deleted", "taken off"),
    ],
)
def test_an_account_that_is_disabled_or_gone_stops(event: str, fields: dict[str, Any], code: str, words: str) -> None:
    found = account(event, **fields)
    assert found.stop.code == code
    assert found.stop.by == "platform"
    assert words in found.stop.reason == found.words


@pytest.mark.parametrize(
    ("event", "fields"),
    [("DISABLED_UPDATE", {"ban_info": {"waba_ban_state": "REINSTATE"}}), ("ACCOUNT_RECONNECTED", {})],
)
def test_an_account_that_is_reinstated_may_send(event: str, fields: dict[str, Any]) -> None:
    assert account(event, **fields).stop is None


@pytest.mark.parametrize(
    "event", ["ACCOUNT_VIOLATION", "MM_LITE_TERMS_SIGNED", "PARTNER_ADDED", "SOMETHING_NEW", None, {}]
)
def test_other_news_of_the_account_stop_nothing_and_release_nothing(event: Any) -> None:
    assert isinstance(account(event), IgnoredEvent)
    assert isinstance(account("DISABLED_UPDATE", ban_info={"waba_ban_state": event}), IgnoredEvent)


# --- whole bodies --------------------------------------------------------------------------------------------------


def test_a_body_of_many_changes_is_read_in_order() -> None:
    value = {
        "statuses": [{"id": f"wamid.{n}", "status": "sent", "timestamp": str(AT)} for n in range(3)],
        "messages": [{"id": "wamid.in", "from": ADA, "type": "text", "text": {"body": "Hi"}, "timestamp": str(AT)}],
        "errors": [{"code": 130_429, "title": "Rate limit hit"}],
    }
    events = READER.read(write(("messages", value), ("calls", {}), ("messages", value)))
    kinds = [type(event).__name__ for event in events]
    one = ["StatusEvent"] * 3 + ["InboundEvent", "IgnoredEvent"]
    assert kinds == [*one, "IgnoredEvent", *one]
    assert [event.what for event in events if isinstance(event, IgnoredEvent)] == [
        "errors.130429",
        "calls",
        "errors.130429",
    ]


@pytest.mark.parametrize("field", ["calls", "history", "smb_message_echoes", "standby", "security", "of_next_year"])
def test_a_field_nobody_here_needs_is_ignored_by_name(field: str) -> None:
    """Fault 75."""
    assert read_one(field, {"anything": [1]}) == IgnoredEvent(what=field)


@pytest.mark.parametrize(
    ("field", "what"), [("\x1b[2J", "unknown"), (None, "none"), ({}, "unknown"), ("x" * 49, "unknown")]
)
def test_a_field_that_is_no_word_is_not_repeated(field: Any, what: str) -> None:
    """Faults 82 and 83."""
    assert READER.read(write((field, {}))) == [IgnoredEvent(what=what)]


@pytest.mark.parametrize("shape", [{"object": "page"}, {"object": None}, {}, {"object": ["whatsapp_business_account"]}])
def test_what_belongs_to_another_product_of_metas_is_ignored(shape: dict[str, Any]) -> None:
    """Fault 75."""
    (event,) = READER.read(json.dumps({"entry": [{"changes": [{"field": "messages", "value": {}}]}]} | shape).encode())
    assert isinstance(event, IgnoredEvent)
    assert event.what.startswith("object.")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"7", b"null", b'"text"', b"\xff\xfe{\x00}\x00", "\ufeff{}".encode(), b'{"a":\xff}', b"<html>"],
)
def test_what_is_not_metas_json_is_refused_whole(body: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        READER.read(body)
    assert caught.value.code == "webhook"


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 10_000, 300_000])
def test_a_deep_body_is_refused_before_it_is_parsed(opening: bytes, depth: int) -> None:
    """Fault 73."""
    closing = b"".join({b"[": b"]", b"{": b"}"}.get(bytes([sign]), b"") for sign in reversed(opening))
    for body in (opening * depth, opening * depth + b"1" + closing * depth):
        with pytest.raises(UsageError, match="deeper"):
            READER.read(body)


def test_brackets_inside_words_are_no_depth() -> None:
    event = read_message("text", text={"body": '"[{' * 500 + "\\"})
    assert event.words.startswith('"[{"[{')


@pytest.mark.parametrize(
    "body", [b'\\"' * 1_000_000, b'"' + b"\\\\" * 1_000_000, b'"\\' * 1_000_000, b"[]" * 1_500_000]
)
def test_a_body_made_to_be_slow_is_not(body: bytes) -> None:
    """Fault 73."""
    began = time.process_time()
    with pytest.raises(UsageError):
        READER.read(body)
    assert time.process_time() - began < 2.0  # a second reading of each byte would take hours


def test_a_body_above_metas_size_is_refused() -> None:
    """Fault 73."""
    with pytest.raises(UsageError, match="bytes"):
        READER.read(b" " * (LARGEST_BODY_BYTES + 1))


def test_a_body_of_too_many_events_is_refused_and_one_of_just_so_many_is_read() -> None:
    """Fault 73."""
    statuses = [{"id": "w", "status": "read"}] * MAX_EVENTS
    assert len(READER.read(write(("messages", {"statuses": statuses})))) == MAX_EVENTS
    with pytest.raises(UsageError, match="10,000"):
        READER.read(write(("messages", {"statuses": [*statuses, {}]})))


def read_or_refused(body: bytes) -> None:
    code = None
    try:
        READER.read(body)
    except UsageError as error:
        code = error.code
    assert code in (None, "webhook")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Fault 75."""
    read_or_refused(body)


VOCABULARY = """
    object entry changes field value time id metadata phone_number_id statuses messages errors contacts status
    recipient_id recipient_type recipient_user_id recipient_participant_id biz_opaque_callback_data timestamp code
    title message error_data details type text body button payload interactive button_reply list_reply nfm_reply
    reaction message_id context from from_user_id group_id system wa_id user_id profile name image caption
    user_preferences category detail event message_template_name message_template_language other_info reason
    restriction_info restriction_type expiration violation_info violation_type ban_info waba_ban_state
    waba_ban_date
"""
VALUES = """
    whatsapp_business_account messages user_preferences message_template_status_update account_update sent failed
    group text button interactive reaction system user_changed_number user_changed_user_id stop resume PAUSED
    APPROVED FIRST_PAUSE ACCOUNT_RESTRICTION DISABLED_UPDATE SCHEDULE_FOR_DISABLE 15550100123 1793900000 wamid.A
    US.1 spring_sale en_US
"""
KEYS = st.sampled_from(VOCABULARY.split())
WORDS = st.sampled_from(VALUES.split())
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=25
)
PARTS = st.dictionaries(KEYS, JSON, max_size=8)


@given(
    st.sampled_from(["messages", "user_preferences", "message_template_status_update", "account_update"]),
    PARTS | JSON,
    st.lists(PARTS, max_size=2) | JSON,
    JSON,
)
@example("messages", {"contacts": [{"profile": None, "wa_id": 5}], "metadata": []}, [{"from": "1"}], float("inf"))
def test_no_json_whatsoever_makes_the_reader_fail_or_pass_on_what_a_store_cannot_hold(
    field: str, value: Any, parts: Any, at: Any
) -> None:
    """Faults 75 and 82."""
    if isinstance(value, dict):
        value = {"statuses": parts, "messages": parts, "errors": parts, "user_preferences": parts} | value
    for event in READER.read(write((field, value), at=at)):
        for name in event.__slots__:
            _check_storable(getattr(event, name))


def _check_storable(value: Any) -> None:
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, int):
        assert -(2**63) <= value < 2**63
    elif isinstance(value, Person | Rejected | Stop | Restriction):
        for name in value.__slots__:
            _check_storable(getattr(value, name))


@given(JSON)
def test_any_json_at_all_is_read_or_refused(shape: Any) -> None:
    """Fault 75."""
    read_or_refused(json.dumps(shape).encode())


# --- calls ---------------------------------------------------------------------------------------------------------


def read_call(**fields: Any) -> Any:
    call = {
        "id": "wacid.CALL=", "from": ADA, "to": "15550783881", "event": "connect", "timestamp": str(AT),
        "direction": "USER_INITIATED", "session": {"sdp_type": "offer", "sdp": "v=0"},
    } | fields  # fmt: skip
    contacts = [{"profile": {"name": "Ada"}, "wa_id": ADA}]
    return read_one("calls", {"contacts": contacts, "calls": [call]})


def test_a_call_from_a_person_opens_their_window_as_a_message_does() -> None:
    """Issue 4, point 4: the window is opened by each message or call from the person."""
    assert read_call() == InboundEvent(
        number_id=NUMBER_ID,
        provider_message_id="wacid.CALL=",
        at_ms=AT_MS,
        person=Person(address=f"+{ADA}", name="Ada"),
        kind="call",
    )


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"event": "terminate", "status": "COMPLETED"}, "calls.terminate"),
        ({"direction": "BUSINESS_INITIATED"}, "calls.connect"),
        ({"direction": None}, "calls.connect"),
        ({"from": "a group"}, "calls.connect"),
        ({"id": None}, "calls.connect"),
        ({"event": ["connect"]}, "calls.unknown"),
    ],
)
def test_the_end_of_a_call_and_our_own_calls_open_nothing(fields: dict[str, Any], what: str) -> None:
    assert read_call(**fields) == IgnoredEvent(what=what)
