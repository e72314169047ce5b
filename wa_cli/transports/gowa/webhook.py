"""GOWA's webhooks: whether a body is genuine, and what it says, as events in our words.

Pure: bytes in, events out.  There is no event for a connection that is lost: that is asked for.
Source: section 3 of the gateways' sheet, and the page on webhooks of GOWA's own documentation.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from wa_cli.domain.event import IgnoredEvent, InboundEvent, Person, StatusEvent
from wa_cli.domain.receipt import Receipt
from wa_cli.transports.bodies import parse_body, read_label, read_text, unreadable
from wa_cli.transports.gowa.jids import GROUP_SERVER, read_hidden, read_number
from wa_cli.transports.gowa.restrictions import read_time_ms
from wa_cli.transports.signatures import encode_keys, is_signed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wa_cli.domain.event import Event

MAX_IDS: Final = 10_000
MAX_WORDS: Final = 4_096
MAX_NAME: Final = 256
_SIGNATURE: Final = re.compile(r"sha256=([0-9a-f]{64})")
_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
# `retry` came, and could not be read there; the rest is of our own devices, or a server's complaint.
_RECEIPTS: Final[Mapping[str, Receipt]] = {
    "delivered": Receipt.DELIVERED,
    "read": Receipt.READ,
    "played": Receipt.PLAYED,
}
# What a message is that has no text, by the field it comes in.
_KINDS: Final = (
    *("image", "video", "audio", "document", "sticker", "video_note", "contact", "contacts_array", "location"),
    *("live_location", "list", "order"),
)


class GowaWebhooks:
    """Implements WebhookReader for one device.

    number_id: what its events carry.  device: its id at the gateway.
    secrets: the word that signs, or the old and the new one while it is changed.
    """

    def __init__(self, *, number_id: str, device: str, secrets: tuple[str, ...]) -> None:
        self._number_id = number_id
        self._device = device
        self._keys = encode_keys(secrets)

    @property
    def has_secret(self) -> bool:
        return bool(self._keys)

    @property
    def signature_header(self) -> str:
        return "X-Hub-Signature-256"

    def is_genuine(self, body: bytes, signature: str | None) -> bool:
        found = _SIGNATURE.fullmatch(signature or "")
        return is_signed(body, found[1] if found else None, keys=self._keys, algorithm="sha256")

    def answer_challenge(self, query: Mapping[str, str]) -> str | None:
        """None: GOWA checks no address."""
        return None

    def read(self, body: bytes) -> list[Event]:
        shape = parse_body(body, whose="GOWA")
        event, payload = _word(shape.get("event")), shape.get("payload")
        session = shape.get("session_id")
        if isinstance(session, str) and session and session != self._device:
            return [IgnoredEvent(what=f"{event}.other_device")]
        if not isinstance(payload, dict):
            return [IgnoredEvent(what=event)]
        at_ms = read_time_ms(payload.get("timestamp")) or read_time_ms(shape.get("timestamp"))
        match event:
            case "message.ack":
                return self._read_receipts(payload, at_ms)
            case "message" | "message.reaction":
                return [self._read_message(event, payload, at_ms)]
            case "call.offer":
                return [self._read_call(payload, at_ms)]
            case _:
                return [IgnoredEvent(what=event)]

    def _read_receipts(self, payload: dict[str, Any], at_ms: int) -> list[Event]:
        word = _word(payload.get("receipt_type"))
        receipt = _RECEIPTS.get(word)
        ids = payload.get("ids")
        if receipt is None or not isinstance(ids, list):
            return [IgnoredEvent(what=f"message.ack.{word}")]
        if len(ids) > MAX_IDS:
            raise unreadable(f"the body holds more than {MAX_IDS:,} receipts", "GOWA")
        person = _read_person(payload)
        is_group = _is_group(payload.get("chat_id"))
        participant = (person.address or person.user_id or "") if person and is_group else ""
        return [
            StatusEvent(
                number_id=self._number_id,
                provider_message_id=message_id,
                receipt=receipt,
                at_ms=at_ms,
                person=None if is_group else person,
                participant=participant,
            )
            if isinstance(message_id, str) and _ID.fullmatch(message_id)
            else IgnoredEvent(what="message.ack.no_id")
            for message_id in ids
        ]

    def _read_message(self, event: str, payload: dict[str, Any], at_ms: int) -> Event:
        message_id, person = payload.get("id"), _read_person(payload)
        if payload.get("is_from_me") is True:
            return IgnoredEvent(what=f"{event}.own")
        if person is None or not isinstance(message_id, str) or not _ID.fullmatch(message_id):
            return IgnoredEvent(what=event)
        chat = payload.get("chat_id")
        if _is_group(chat):
            return IgnoredEvent(what=f"{event}.group")  # said to the group: it is no word to us
        if isinstance(chat, str) and chat.endswith(("@newsletter", "@broadcast")):
            return IgnoredEvent(what=f"{event}.broadcast")
        if event == "message.reaction":
            kind, words, context = "reaction", payload.get("reaction"), payload.get("reacted_message_id")
        else:
            kind = next((name for name in _KINDS if payload.get(name)), "text")
            words, context = payload.get("body"), payload.get("replied_to_id")
        return InboundEvent(
            number_id=self._number_id,
            provider_message_id=message_id,
            at_ms=at_ms,
            person=person,
            kind=kind,
            words=read_text(words, MAX_WORDS),
            context_message_id=context if isinstance(context, str) and _ID.fullmatch(context) else None,
        )

    def _read_call(self, payload: dict[str, Any], at_ms: int) -> Event:
        call_id, person = payload.get("call_id"), _read_person(payload)
        if person is None or payload.get("group_jid") or not isinstance(call_id, str) or not _ID.fullmatch(call_id):
            return IgnoredEvent(what="call.offer")
        return InboundEvent(
            number_id=self._number_id, provider_message_id=call_id, at_ms=at_ms, person=person, kind="call"
        )


def _read_person(payload: dict[str, Any]) -> Person | None:
    """Who it is of: by number where it is told, else by the id that stands for people who hide theirs."""
    written = payload.get("from")
    address = read_number(written)
    hidden = read_hidden(payload.get("from_lid")) or read_hidden(written)
    if address is None and hidden is None:
        return None
    return Person(address=address, user_id=hidden, name=read_text(payload.get("from_name"), MAX_NAME))


def _is_group(chat: Any) -> bool:
    return isinstance(chat, str) and chat.endswith(GROUP_SERVER)


def _word(value: Any) -> str:
    """A word of GOWA's vocabulary, safe to show and to count by."""
    if value is None or value == "":
        return "none"
    return read_label(value)
