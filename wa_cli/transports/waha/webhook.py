"""WAHA's webhooks: whether a body is genuine, and what it says, as events in our words.

Pure: bytes in, events out.  One body is one event.  The engines fill the fields differently, so each of them is
optional: what is not known is named and ignored, and no JSON at all makes this fail.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from wa_cli.domain.event import ConnectionEvent, IgnoredEvent, InboundEvent, StatusEvent
from wa_cli.domain.message_ref import find_tag
from wa_cli.domain.outcome import ErrorClass, Rejected
from wa_cli.domain.receipt import Receipt
from wa_cli.transports.bodies import parse_body, read_label, read_object, read_text
from wa_cli.transports.masking import mask
from wa_cli.transports.signatures import encode_keys, is_signed
from wa_cli.transports.waha.restrictions import find_restriction, read_code
from wa_cli.transports.waha.states import read_connection
from wa_cli.transports.web_ids import is_group, read_member, read_message_id, read_person

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wa_cli.domain.event import Event

MAX_WORDS: Final = 4_096
MAX_NAME: Final = 256
_SIGNATURE: Final = re.compile(r"[0-9a-fA-F]{128}")
_LATEST_MS: Final = 10**13

# 0, PENDING, says no more than the answer to the send.
_RECEIPTS: Final[Mapping[int, Receipt]] = {
    -1: Receipt.FAILED,
    1: Receipt.SENT,
    2: Receipt.DELIVERED,
    3: Receipt.READ,
    4: Receipt.PLAYED,
}
_NAMES: Final[Mapping[str, int]] = {"ERROR": -1, "PENDING": 0, "SERVER": 1, "DEVICE": 2, "READ": 3, "PLAYED": 4}
# What a file is by the first half of its type.
_SORTS: Final = frozenset(("image", "video", "audio"))


class WahaWebhooks:
    """Implements WebhookReader for one session of a WAHA."""

    def __init__(self, *, secrets: tuple[str, ...], session: str, number_id: str, install: str) -> None:
        """secrets: the HMAC key, or the old and the new one while it is changed.  number_id: goes into every event.
        install: whose message ids are ours, see `message_ref`."""
        self._keys = encode_keys(secrets)
        self._secrets = tuple(secret for secret in secrets if secret)
        self._session = session
        self._number_id = number_id
        self._install = install

    @property
    def has_secret(self) -> bool:
        return bool(self._keys)

    @property
    def signature_header(self) -> str:
        return "X-Webhook-Hmac"

    def is_genuine(self, body: bytes, signature: str | None) -> bool:
        found = _SIGNATURE.fullmatch(signature or "")
        return is_signed(body, found[0] if found else None, keys=self._keys, algorithm="sha512")

    def answer_challenge(self, query: Mapping[str, str]) -> str | None:
        """WAHA checks no address before it posts there."""
        return None

    def read(self, body: bytes) -> list[Event]:
        shape = parse_body(body, whose="WAHA")
        event, payload = read_label(shape.get("event")), shape.get("payload")
        if shape.get("session") != self._session:
            return [IgnoredEvent(what="session.other")]
        read = _EVENTS.get(event)
        if read is None or not isinstance(payload, dict):
            return [IgnoredEvent(what=event)]
        return [read(self, shape, payload)]

    def _read_ack(self, shape: dict[str, Any], payload: dict[str, Any]) -> Event:
        """A receipt.  What is of a group shows in the chat of the id, whatever the event is called."""
        ref = read_message_id(payload.get("id"))
        number = payload.get("ack")
        if not isinstance(number, int) or isinstance(number, bool):
            name = payload.get("ackName")
            number = _NAMES.get(name) if isinstance(name, str) else None
        receipt = _RECEIPTS.get(number) if number is not None else None
        if ref is None or receipt is None:
            return IgnoredEvent(what=f"message.ack.{'unknown' if number is None else number}")
        if ref.from_me is False or payload.get("fromMe") is False:
            return IgnoredEvent(what="message.ack.foreign")
        chat = ref.chat or payload.get("to") or payload.get("from")
        participant = ""
        if is_group(chat):
            own = read_object(shape.get("me"))
            known = {read_member(own.get("id")), read_member(own.get("lid"))}
            told = read_member(payload.get("participant")) or read_member(ref.participant)
            # The last part of the id is ours in some engines: what we sent, no receipt of a member's.
            participant = told if told is not None and told not in known else ""
        return StatusEvent(
            number_id=self._number_id,
            provider_message_id=ref.bare,
            receipt=receipt,
            at_ms=_time_ms(shape.get("timestamp")),
            tag=find_tag(ref.bare, self._install),
            person=None if is_group(chat) else read_person(chat),
            participant=participant,
            refusal=self._read_failure(payload) if receipt is Receipt.FAILED else None,
        )

    def _read_failure(self, payload: dict[str, Any]) -> Rejected:
        error = read_object(payload.get("error"))
        restriction = find_restriction(error)
        words = next((error[name] for name in ("reason", "message") if isinstance(error.get(name), str)), "")
        return Rejected(
            error_class=ErrorClass.DEAD_MESSAGE if restriction is None else ErrorClass.RESTRICTED,
            code=read_code(error.get("code")) or "failed",
            details=(restriction.reason if restriction else mask(words, secrets=self._secrets))
            or "WhatsApp gave no reason",
            http_status=0,
            restriction=restriction,
        )

    def _read_state(self, shape: dict[str, Any], payload: dict[str, Any]) -> Event:
        return ConnectionEvent(
            number_id=self._number_id,
            at_ms=_time_ms(shape.get("timestamp")),
            connection=read_connection(payload.get("status"), me=shape.get("me"), engine=shape.get("engine")),
        )

    def _read_message(self, shape: dict[str, Any], payload: dict[str, Any]) -> Event:
        chat, message_id = payload.get("from"), payload.get("id")
        if payload.get("fromMe") is not False:
            return IgnoredEvent(what="message.own")
        if is_group(chat) or payload.get("participant"):
            return IgnoredEvent(what="message.group")  # said to the group: nobody answered us
        raw = read_object(payload.get("_data"))
        person = read_person(chat, other=_find_other(raw), name=_find_name(raw))
        if person is None or read_message_id(message_id) is None:
            return IgnoredEvent(what="message.other")  # a channel, a status, an id in no known shape
        reply = read_object(payload.get("replyTo"))
        context = read_message_id(reply.get("id"))
        return InboundEvent(
            number_id=self._number_id,
            provider_message_id=str(message_id),  # whole, as a reaction to it wants it
            at_ms=_time_ms(payload.get("timestamp")) or _time_ms(shape.get("timestamp")),
            person=person,
            kind=_find_kind(payload),
            words=read_text(payload.get("body"), MAX_WORDS),
            context_message_id=context.bare if context else None,
        )

    def _read_reaction(self, shape: dict[str, Any], payload: dict[str, Any]) -> Event:
        reaction = read_object(payload.get("reaction"))
        about = read_message_id(reaction.get("messageId"))
        event = self._read_message(shape, {**payload, "body": reaction.get("text")})
        if not isinstance(event, InboundEvent):
            return event
        return InboundEvent(
            number_id=event.number_id,
            provider_message_id=event.provider_message_id,
            at_ms=event.at_ms,
            person=event.person,
            kind="reaction",
            words=event.words,
            context_message_id=about.bare if about else None,
        )

    def _read_call(self, shape: dict[str, Any], payload: dict[str, Any]) -> Event:
        person, call_id = read_person(payload.get("from")), payload.get("id")
        if person is None or payload.get("isGroup") is True or read_message_id(call_id) is None:
            return IgnoredEvent(what="call.other")
        return InboundEvent(
            number_id=self._number_id,
            provider_message_id=str(call_id),
            at_ms=_time_ms(payload.get("timestamp")) or _time_ms(shape.get("timestamp")),
            person=person,
            kind="call",
        )


_EVENTS: Final[Mapping[str, Callable[[WahaWebhooks, dict[str, Any], dict[str, Any]], Event]]] = {
    "message.ack": WahaWebhooks._read_ack,
    "message.ack.group": WahaWebhooks._read_ack,
    "session.status": WahaWebhooks._read_state,
    "message": WahaWebhooks._read_message,
    "message.any": WahaWebhooks._read_message,
    "message.reaction": WahaWebhooks._read_reaction,
    "call.received": WahaWebhooks._read_call,
}


def _find_kind(payload: dict[str, Any]) -> str:
    if payload.get("location"):
        return "location"
    if payload.get("vCards"):
        return "contacts"
    if payload.get("hasMedia") is True:
        mime_type = read_object(payload.get("media")).get("mimetype")
        sort = mime_type.partition("/")[0] if isinstance(mime_type, str) else ""
        return sort if sort in _SORTS else "document"
    return "text"


def _find_other(raw: dict[str, Any]) -> Any:
    """The number beside a hidden id, where the engine tells it."""
    key, info = read_object(raw.get("key")), read_object(raw.get("Info"))
    return key.get("remoteJidAlt") or key.get("senderPn") or info.get("SenderAlt")


def _find_name(raw: dict[str, Any]) -> str | None:
    """What the person is called, where the engine tells it."""
    for name in (raw.get("pushName"), raw.get("notifyName"), read_object(raw.get("Info")).get("PushName")):
        if text := read_text(name, MAX_NAME):
            return text
    return None


def _time_ms(value: Any) -> int:
    """Milliseconds since 1970 from seconds or milliseconds; 0 for what is no time."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _LATEST_MS:
        return 0
    return int(value if value >= 10**11 else value * 1000)
