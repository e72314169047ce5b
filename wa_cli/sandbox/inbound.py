"""What people and the platform send us on request: orders of the admin API, read into updates.  Nothing is sent here.

A message order names who writes and what: {"from": "15550100123", "text": "STOP"} or
{"from": ..., "type": "button", "button": {"text": "Stop promotions", "payload": "STOP"}}.  Beside it may stand `name`,
`username`, `user_id`, `context` (the id of the message answered, or an object), `referral`, `group_id`, `id`,
`timestamp`, `phone_number_id` (whom of us it is for), and `"hide_number": true` for somebody with a username.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wa_cli.errors import UsageError
from wa_cli.sandbox.message_checks import MEDIA_TYPES, read_recipient
from wa_cli.sandbox.people import derive_user_id
from wa_cli.sandbox.webhook_bodies import Update, describe_error, draw_inbound_id

if TYPE_CHECKING:
    from wa_cli.sandbox.settings import SandboxSettings
    from wa_cli.sandbox.webhook_bodies import AcceptedMessage

_PERSON_KEYS = frozenset({"from", "user_id", "name", "username", "hide_number", "phone_number_id", "timestamp"})
_MESSAGE_KEYS = _PERSON_KEYS | {"type", "context", "referral", "group_id", "id"}
_PREFERENCE_KEYS = _PERSON_KEYS | {"value", "category", "detail"}
_EVENT_KEYS = frozenset({"field", "value"})
_EXAMPLE = '{"from": "15550100123", "text": "STOP"}'

_MEDIA: dict[str, dict[str, Any]] = {
    "image": {"mime_type": "image/jpeg"},
    "video": {"mime_type": "video/mp4"},
    "audio": {"mime_type": "audio/ogg; codecs=opus", "voice": True},
    "document": {"mime_type": "application/pdf", "filename": "document.pdf"},
    "sticker": {"mime_type": "image/webp", "animated": False},
}
_REPLIES = ("button_reply", "list_reply", "nfm_reply")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who an order is about.  number: digits, None when only the user id is known.  is_hidden: it is not shown."""

    number: str | None
    user_id: str
    name: str
    username: str | None
    is_hidden: bool

    @property
    def shown_number(self) -> str | None:
        return None if self.is_hidden else self.number

    def describe(self) -> dict[str, Any]:
        """The person as an entry of `contacts`."""
        profile = {"name": self.name}
        if self.username is not None:
            profile["username"] = self.username
        contact: dict[str, Any] = {"profile": profile}
        if self.shown_number is not None:
            contact["wa_id"] = self.shown_number
        contact["user_id"] = self.user_id
        return contact


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """One order, read: the update to send and whom it is from.

    opens_window: the person wrote, so that 24 h begin.  wants_marketing: what a preference says, None for others.
    """

    update: Update
    sender: Sender
    opens_window: bool = False
    wants_marketing: bool | None = None


def read_messages(orders: object, settings: SandboxSettings, *, now: float) -> list[Incoming]:
    """One order or a list of such, each a message from a person.  Raises: UsageError; then none counts."""
    return [_read_message(order, settings, now) for order in _as_list(orders, _EXAMPLE)]


def read_preferences(orders: object, settings: SandboxSettings, *, now: float) -> list[Incoming]:
    """{"from": NUMBER, "value": "stop" | "resume"}, one or a list.  Raises: UsageError; then none counts."""
    return [
        _read_preference(order, settings, now) for order in _as_list(orders, '{"from": "1555...", "value": "stop"}')
    ]


def read_events(orders: object) -> list[Update]:
    """{"field": NAME, "value": OBJECT} as it is, one or a list.  Raises: UsageError; then none counts."""
    example = '{"field": "account_update", "value": {"event": "ACCOUNT_VIOLATION"}}'
    read = []
    for order in _as_list(orders, example):
        _refuse_unknown(order, _EVENT_KEYS, example)
        field, value = order.get("field"), order.get("value")
        if not isinstance(field, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", field):
            raise UsageError("an event needs the name of a webhook field", hint=example)
        if not isinstance(value, dict):
            raise UsageError(f"the value of {field} is an object", hint=example)
        read.append(Update(field=field, kind=field, item=value))
    return read


def describe_answer(message: AcceptedMessage, how: str, *, at: float, business: str) -> Update:
    """The update in which the recipient of a message says stop.

    how: `stop`, `stop:button` or `stop:preferences`.  business: our number as people see it.
    """
    contact = message.contact or {"profile": {"name": "A member"}, "user_id": derive_user_id(message.recipient)}
    number = contact.get("wa_id")
    if how == "stop:preferences":
        return _build_preference(contact, "stop", at=at, phone_number_id=message.phone_number_id)
    item: dict[str, Any] = {"from": number} if number is not None else {}
    item["from_user_id"] = contact["user_id"]
    item["id"] = draw_inbound_id(number or contact["user_id"])
    item["timestamp"] = str(int(at))
    if how == "stop:button":
        item["type"] = "button"
        item["button"] = {"payload": "STOP", "text": "Stop promotions"}
        item["context"] = {"from": business, "id": message.wamid}
    else:
        item["type"] = "text"
        item["text"] = {"body": "STOP"}
    return Update(
        field="messages", kind="messages", item=item, phone_number_id=message.phone_number_id, contact=contact
    )


def _read_message(order: dict[str, Any], settings: SandboxSettings, now: float) -> Incoming:
    kind = order.get("type", "text")
    if not isinstance(kind, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", kind) or kind in _MESSAGE_KEYS:
        raise UsageError("type is the name of a message type", hint=_EXAMPLE)
    _refuse_unknown(order, _MESSAGE_KEYS | {kind, "errors", "identity"}, _EXAMPLE)
    sender = _read_sender(order)
    item: dict[str, Any] = {}
    if sender.shown_number is not None:
        item["from"] = sender.shown_number
    item["from_user_id"] = sender.user_id
    item["id"] = _read_text(order, "id") or draw_inbound_id(sender.shown_number or sender.user_id)
    item["timestamp"] = str(_read_timestamp(order, now))
    item["type"] = kind
    part = _read_part(order, kind)
    if part is not None:
        item[kind] = part
    if kind in ("unsupported", "unknown"):
        item["errors"] = order.get("errors", [describe_error(131051)])
    elif "errors" in order:
        item["errors"] = order["errors"]
    if "identity" in order:
        item["identity"] = _read_object(order, "identity")
    context = order.get("context")
    if isinstance(context, str):
        context = {"from": settings.display_phone_number, "id": context}
    if context is not None:
        if not isinstance(context, dict):
            raise UsageError("context is the id of a message, or an object", hint='"context": "wamid..."')
        item["context"] = context
    if "referral" in order:
        item["referral"] = _read_object(order, "referral")
    if "group_id" in order:
        item["group_id"] = _read_text(order, "group_id")
    update = Update(
        field="messages",
        kind="messages",
        item=item,
        phone_number_id=_read_phone_number_id(order, settings),
        # The platform names nobody beside a change of number or identity.
        contact=None if kind == "system" else sender.describe(),
    )
    return Incoming(update=update, sender=sender, opens_window=kind != "system")


def _read_part(order: dict[str, Any], kind: str) -> Any:
    """What stands under the message's own type, filled up where the platform always says more."""
    given = order.get(kind)
    match kind:
        case "text":
            if isinstance(given, str):
                given = {"body": given}
            if not isinstance(given, dict) or not isinstance(given.get("body"), str):
                raise UsageError("a text needs its words", hint=_EXAMPLE)
        case "button":
            given = _need_object(given, kind, '"button": {"text": "Stop promotions", "payload": "STOP"}')
            if not isinstance(given.get("text"), str):
                raise UsageError("a button needs its text", hint='"button": {"text": "Stop promotions"}')
            given = {"payload": given["text"], **given}
        case "interactive":
            example = '"interactive": {"type": "button_reply", "button_reply": {"id": "y", "title": "Yes"}}'
            given = _need_object(given, kind, example)
            reply = given.get("type")
            if reply not in _REPLIES or not isinstance(given.get(reply), dict):
                raise UsageError("an interactive answer is a " + ", ".join(_REPLIES), hint=example)
            if reply != "nfm_reply" and not all(isinstance(given[reply].get(key), str) for key in ("id", "title")):
                raise UsageError(f"a {reply} has an id and a title", hint=example)
        case "reaction":
            example = '"reaction": {"message_id": "wamid...", "emoji": "..."}'
            given = _need_object(given, kind, example)
            if not isinstance(given.get("message_id"), str) or not isinstance(given.get("emoji", ""), str):
                raise UsageError("a reaction names the message it is for", hint=example)
        case "location":
            example = '"location": {"latitude": 25.2, "longitude": 55.2}'
            given = _need_object(given, kind, example)
            for name in ("latitude", "longitude"):
                if isinstance(given.get(name), bool) or not isinstance(given.get(name), int | float):
                    raise UsageError("a location has a latitude and a longitude", hint=example)
        case "contacts":
            if not isinstance(given, list) or not given:
                raise UsageError("contacts is a list", hint='"contacts": [{"name": {"formatted_name": "Ada L"}}]')
        case "unsupported" | "unknown":
            return given
        case _ if kind in MEDIA_TYPES:
            media = {} if given is None else _need_object(given, kind, f'"{kind}": {{"caption": "..."}}')
            known = json.dumps(media, sort_keys=True).encode()
            return {
                "id": str(1_000_000_000_000_000 + zlib.crc32(known)),
                "sha256": base64.b64encode(bytes(32)).decode(),
                **_MEDIA[kind],
                **media,
            }
        case _:
            given = _need_object(given, kind, f'"{kind}": {{...}}')
    return given


def _read_preference(order: dict[str, Any], settings: SandboxSettings, now: float) -> Incoming:
    example = '{"from": "15550100123", "value": "stop"}'
    _refuse_unknown(order, _PREFERENCE_KEYS, example)
    value = order.get("value")
    if value not in ("stop", "resume"):
        raise UsageError("a preference is stop or resume", hint=example)
    sender = _read_sender(order)
    update = _build_preference(
        sender.describe(),
        value,
        at=_read_timestamp(order, now),
        phone_number_id=_read_phone_number_id(order, settings),
        category=_read_text(order, "category") or "marketing_messages",
        detail=_read_text(order, "detail"),
    )
    return Incoming(update=update, sender=sender, wants_marketing=value == "resume")


def _build_preference(
    contact: dict[str, Any],
    value: str,
    *,
    at: float,
    phone_number_id: str,
    category: str = "marketing_messages",
    detail: str | None = None,
) -> Update:
    item: dict[str, Any] = {"wa_id": contact["wa_id"]} if "wa_id" in contact else {}
    item["user_id"] = contact["user_id"]
    item["detail"] = detail or f"the person chose to {value} marketing messages"
    item["category"] = category
    item["value"] = value
    # A number here, a text in every other place.
    item["timestamp"] = int(at)
    return Update(
        field="user_preferences",
        kind="user_preferences",
        item=item,
        phone_number_id=phone_number_id,
        contact=contact,
    )


def _read_sender(order: dict[str, Any]) -> Sender:
    number = order.get("from")
    if number is not None:
        number = read_recipient({"to": number})
        if number is None or not (number.isascii() and number.isdigit() and 7 <= len(number) <= 15):
            raise UsageError("from is not a phone number in international format", hint=_EXAMPLE)
    user_id = _read_text(order, "user_id")
    if number is None and user_id is None:
        raise UsageError("an order says who it is from", hint=_EXAMPLE)
    is_hidden = order.get("hide_number", False)
    if not isinstance(is_hidden, bool):
        raise UsageError("hide_number is true or false", hint='"hide_number": true')
    identity = user_id or derive_user_id(number or "")
    return Sender(
        number=number,
        user_id=identity,
        name=_read_text(order, "name") or f"Person {identity[-4:]}",
        username=_read_text(order, "username"),
        is_hidden=is_hidden,
    )


def _read_phone_number_id(order: dict[str, Any], settings: SandboxSettings) -> str:
    number = order.get("phone_number_id", settings.phone_number_id)
    if number not in (settings.phone_number_id, *settings.other_phone_number_ids):
        raise UsageError("phone_number_id is none of this account's", hint=f"it is {settings.phone_number_id}")
    assert isinstance(number, str)
    return number


def _read_timestamp(order: dict[str, Any], now: float) -> int:
    given = order.get("timestamp", now)
    if isinstance(given, str) and given.isascii() and given.isdigit():
        given = int(given)
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given < 1e11:
        raise UsageError("timestamp is in seconds since 1970", hint='"timestamp": 1793900000')
    return int(given)


def _read_text(order: dict[str, Any], key: str) -> str | None:
    given = order.get(key)
    if given is not None and (not isinstance(given, str) or not given):
        raise UsageError(f"{key} is text", hint=f'"{key}": "..."')
    return given


def _read_object(order: dict[str, Any], key: str) -> dict[str, Any]:
    return _need_object(order[key], key, f'"{key}": {{...}}')


def _need_object(given: object, name: str, example: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise UsageError(f"{name} is an object", hint=example)
    return given


def _refuse_unknown(order: dict[str, Any], known: frozenset[str], example: str) -> None:
    unknown = sorted(key for key in order if key not in known)
    if unknown:
        raise UsageError(f"an order has no '{unknown[0]}'", hint=example)


def _as_list(orders: object, example: str) -> list[dict[str, Any]]:
    listed: list[Any] = orders if isinstance(orders, list) else [orders]
    for order in listed:
        if not isinstance(order, dict):
            raise UsageError("an order is an object", hint=example)
    if not listed:
        raise UsageError("there is no order in the list", hint=example)
    return listed
