"""wwebjs-api's webhooks: whether a body is genuine, and what it says, as events in our words.

Nothing signs a body: the gateway sends its own API key along, and whoever knows that is believed.  It never says when
something was, but for what people write; the time at which the webhook came stands in for that.
Source: `gateways` section 6.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any, Final

from wa_cli.domain.connection import Connection, ConnectionState
from wa_cli.domain.event import ConnectionEvent, IgnoredEvent, InboundEvent, StatusEvent
from wa_cli.domain.outcome import ErrorClass, Rejected
from wa_cli.domain.receipt import Receipt
from wa_cli.transports.bodies import parse_body, read_label, read_object, read_text
from wa_cli.transports.masking import mask
from wa_cli.transports.web_ids import is_group, read_message_id, read_person
from wa_cli.transports.wwebjs.answer import find_bare_id
from wa_cli.transports.wwebjs.states import CONNECTED, LOGOUTS, NEEDS_SCAN, make_connection, read_word

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wa_cli.domain.event import Event

MAX_WORDS: Final = 4_096
MAX_NAME: Final = 256
_LATEST_SECONDS: Final = 10**10

# 0, PENDING, says no more than the answer to the send.
_RECEIPTS: Final[Mapping[int, Receipt]] = {
    -1: Receipt.FAILED,
    1: Receipt.SENT,
    2: Receipt.DELIVERED,
    3: Receipt.READ,
    4: Receipt.PLAYED,
}
# What people send, in our words where WhatsApp Web has others.
_KINDS: Final[Mapping[str, str]] = {"chat": "text", "ptt": "audio", "vcard": "contacts", "multi_vcard": "contacts"}
NO_REASON: Final = Rejected(
    error_class=ErrorClass.DEAD_MESSAGE, code="failed", details="WhatsApp gave no reason", http_status=0
)


class WwebjsWebhooks:
    """Implements WebhookReader for one session.

    keys: the gateway's API key, or the new and the old one while it is changed.  number_id: goes into every event.
    """

    def __init__(self, *, keys: tuple[str, ...], session: str, number_id: str) -> None:
        self._secrets = tuple(key for key in keys if key)
        self._keys = tuple(key.encode("utf-8", "surrogatepass") for key in self._secrets)
        self._session = session
        self._number_id = number_id

    @property
    def has_secret(self) -> bool:
        return bool(self._keys)

    @property
    def signature_header(self) -> str:
        return "x-api-key"

    def is_genuine(self, body: bytes, signature: str | None) -> bool:
        told = (signature or "").encode("utf-8", "surrogatepass")
        fits = False
        for key in self._keys:  # all of them, so that the time says nothing of which one fits
            fits |= hmac.compare_digest(key, told)
        return fits

    def answer_challenge(self, query: Mapping[str, str]) -> str | None:
        """The gateway checks no address before it posts there."""
        return None

    def read(self, body: bytes) -> list[Event]:
        shape = parse_body(body, whose="wwebjs-api")
        event, data = read_label(shape.get("dataType")), shape.get("data")
        if shape.get("sessionId") != self._session:
            return [IgnoredEvent(what="session.other")]
        read = _EVENTS.get(event)
        return [IgnoredEvent(what=event) if read is None else read(self, data if isinstance(data, dict) else {})]

    def _read_ack(self, data: dict[str, Any]) -> Event:
        """A receipt.  In a group it is of all members at once: WhatsApp Web counts them by itself."""
        message = read_object(data.get("message"))
        number, bare = data.get("ack"), find_bare_id(message)
        is_number = isinstance(number, int) and not isinstance(number, bool)
        receipt = _RECEIPTS.get(int(number or 0)) if is_number else None
        if bare is None or receipt is None:
            return IgnoredEvent(what=f"message_ack.{number if is_number else 'unknown'}")
        if message.get("fromMe") is False or read_object(message.get("id")).get("fromMe") is False:
            return IgnoredEvent(what="message_ack.foreign")
        chat = message.get("to")
        return StatusEvent(
            number_id=self._number_id,
            provider_message_id=bare,
            receipt=receipt,
            at_ms=0,
            person=None if is_group(chat) else read_person(chat),
            refusal=NO_REASON if receipt is Receipt.FAILED else None,
        )

    def _read_state(self, data: dict[str, Any]) -> Event:
        return self._connected(make_connection(read_word(data.get("state"))))

    def _read_ready(self, _data: dict[str, Any]) -> Event:
        return self._connected(make_connection(CONNECTED))

    def _read_qr(self, _data: dict[str, Any]) -> Event:
        return self._connected(make_connection(NEEDS_SCAN))

    def _read_authenticated(self, _data: dict[str, Any]) -> Event:
        return self._connected(make_connection("OPENING"))

    def _read_disconnected(self, data: dict[str, Any]) -> Event:
        raw = read_word(data.get("reason"))
        if raw in LOGOUTS:
            return self._failed(raw, "the phone has logged the session out")
        reason = f"the session was disconnected: {raw.lower()}"
        return self._connected(Connection(state=ConnectionState.DISCONNECTED, raw=raw, reason=reason))

    def _read_failure(self, data: dict[str, Any]) -> Event:
        words = data.get("msg")
        told = mask(words, secrets=self._secrets, limit=200) if isinstance(words, str) else ""
        return self._failed("auth_failure", told or "WhatsApp does not let the session in any more")

    def _failed(self, raw: str, reason: str) -> Event:
        return self._connected(Connection(state=ConnectionState.AUTH_FAILURE, raw=raw, reason=reason))

    def _connected(self, connection: Connection) -> Event:
        return ConnectionEvent(number_id=self._number_id, at_ms=0, connection=connection)

    def _read_message(self, data: dict[str, Any]) -> Event:
        message = read_object(data.get("message"))
        whole = read_object(message.get("id")).get("_serialized")
        if message.get("fromMe") is not False:
            return IgnoredEvent(what="message.own")
        if is_group(message.get("from")) or message.get("author"):
            return IgnoredEvent(what="message.group")  # said to the group: nobody answered us
        raw = read_object(message.get("_data"))
        person = read_person(message.get("from"), name=read_text(raw.get("notifyName"), MAX_NAME))
        if person is None or read_message_id(whole) is None:
            return IgnoredEvent(what="message.other")
        kind = read_label(message.get("type"))
        quoted = read_message_id(read_object(raw.get("quotedMsg")).get("id") or raw.get("quotedStanzaID"))
        return InboundEvent(
            number_id=self._number_id,
            provider_message_id=str(whole),
            at_ms=_time_ms(message.get("timestamp")),
            person=person,
            kind=_KINDS.get(kind, kind),
            words=read_text(message.get("body"), MAX_WORDS),
            context_message_id=quoted.bare if quoted else None,
        )

    def _read_reaction(self, data: dict[str, Any]) -> Event:
        reaction = read_object(data.get("reaction"))
        own_id, about = read_object(reaction.get("id")), read_object(reaction.get("msgId"))
        person, whole = read_person(reaction.get("senderId")), own_id.get("_serialized")
        target = read_message_id(about.get("_serialized"))
        if own_id.get("fromMe") is not False or is_group(own_id.get("remote")):
            return IgnoredEvent(what="message_reaction.own")
        if person is None or read_message_id(whole) is None:
            return IgnoredEvent(what="message_reaction.other")
        return InboundEvent(
            number_id=self._number_id,
            provider_message_id=str(whole),
            at_ms=_time_ms(reaction.get("timestamp")),
            person=person,
            kind="reaction",
            words=read_text(reaction.get("reaction"), MAX_WORDS),
            context_message_id=target.bare if target else None,
        )

    def _read_call(self, data: dict[str, Any]) -> Event:
        call = read_object(data.get("call"))
        person, call_id = read_person(call.get("from")), call.get("id")
        if call.get("fromMe") is True or call.get("isGroup") is True:
            return IgnoredEvent(what="call.other")
        if person is None or read_message_id(call_id) is None:
            return IgnoredEvent(what="call.other")
        return InboundEvent(
            number_id=self._number_id,
            provider_message_id=str(call_id),
            at_ms=_time_ms(call.get("timestamp")),
            person=person,
            kind="call",
        )


_EVENTS: Final[Mapping[str, Callable[[WwebjsWebhooks, dict[str, Any]], Event]]] = {
    "message_ack": WwebjsWebhooks._read_ack,
    "change_state": WwebjsWebhooks._read_state,
    "ready": WwebjsWebhooks._read_ready,
    "qr": WwebjsWebhooks._read_qr,
    "authenticated": WwebjsWebhooks._read_authenticated,
    "disconnected": WwebjsWebhooks._read_disconnected,
    "status": WwebjsWebhooks._read_failure,
    "message": WwebjsWebhooks._read_message,
    "message_reaction": WwebjsWebhooks._read_reaction,
    "call": WwebjsWebhooks._read_call,
}


def _time_ms(value: Any) -> int:
    """Milliseconds since 1970 from seconds; 0 for what is no time."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _LATEST_SECONDS:
        return 0
    return int(value * 1000)
