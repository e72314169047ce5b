"""How each provider speaks on the wire, for the tests that hold all of them to one contract.

Everything here is written from the gateways' sheet and Meta's pages, not from the transports.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wa_cli.domain.connection import ConnectionState
from wa_cli.domain.message import (
    Buttons,
    ContactCard,
    ListMenu,
    ListRow,
    ListSection,
    Location,
    Media,
    MediaKind,
    Poll,
    Reaction,
    ReplyButton,
    Template,
    Text,
)
from wa_cli.domain.receipt import Receipt
from wa_cli.provider import Account
from wa_cli.transports.providers import find_provider

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wa_cli.domain.message import Content, LocalFile
    from wa_cli.provider import Provider

NUMBER = "+6581234567"
DIGITS = NUMBER.removeprefix("+")
GROUP = "120363025246125486@g.us"
INSTALL = "inst0001"
BARE = "3EB0F00DF00DF00DF00D12"
KEY = "canary-key-0123456789"
SECRET = "canary-secret-9876543210"
SESSION = "shop"
NUMBER_ID = "106540352242922"
FILE_BYTES = b"\xff\xd8\xff\xe0 the bytes of a picture"

# The status and the body of an answer.
Answered = tuple[int, bytes]


def to_json(shape: Any) -> bytes:
    return json.dumps(shape).encode()


class OneFile:
    """The local files of a test: each has the same bytes."""

    def read(self, file: LocalFile) -> bytes:
        return FILE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """One provider's side of the contract.

    accepted: a good answer that carries this bare id.  refusal: a refusal of the message, in these words.
    sign: what the header says that vouches for a body.  acks: the webhook of a receipt, by bare id and chat.
    looks: every state of the map, as the answers (by path) that show it.
    """

    name: str
    path: str
    values: Mapping[str, str]
    rotated: Mapping[str, str]
    secret: str
    accepted: Callable[[str], Answered]
    bad_key: Answered
    refusal: Callable[[str], Answered]
    sign: Callable[[bytes, str], str]
    acks: Mapping[Receipt, Callable[[str, str], bytes]]
    not_ready: tuple[Answered, ConnectionState] | None = None
    other_session: bytes | None = None
    looks: tuple[tuple[str, Mapping[str, Answered], ConnectionState], ...] = ()
    reaction_to: str = BARE
    unchecked: Answered = field(default=(200, b"{}"))

    @property
    def provider(self) -> Provider:
        return find_provider(self.name, instance="shop")

    def account(self, base_url: str, **values: str) -> Account:
        return Account(
            instance_id=7,
            instance="shop",
            values={**self.values, "url": f"{base_url}{self.path}", **values},
            install=INSTALL,
            concurrency=4,
            read_timeout_seconds=20,
            files=OneFile(),
        )

    def contents(self) -> dict[str, Content]:
        """A good one of every type of message."""
        return {**CONTENTS, "reaction": Reaction(message_id=self.reaction_to, emoji="👍")}


CONTENTS: dict[str, Content] = {
    "text": Text(body="Doors open at six"),
    "image": Media(kind=MediaKind.IMAGE, link="https://example.com/a.jpg", caption="the hall"),
    "video": Media(kind=MediaKind.VIDEO, link="https://example.com/a.mp4"),
    "document": Media(kind=MediaKind.DOCUMENT, link="https://example.com/menu.pdf"),
    "audio": Media(kind=MediaKind.AUDIO, link="https://example.com/a.mp3"),
    "voice": Media(kind=MediaKind.VOICE, link="https://example.com/a.ogg"),
    "sticker": Media(kind=MediaKind.STICKER, link="https://example.com/a.webp"),
    "location": Location(latitude="1.2966", longitude="103.7764"),
    "contact": ContactCard(name="Ada", phone="+6581230001"),
    "poll": Poll(question="When?", options=("six", "seven")),
    "template": Template(name="hello_world", language="en_US"),
    "buttons": Buttons(body="Coming?", buttons=(ReplyButton(id="y", title="Yes"),)),
    "list": ListMenu(
        body="Which day?",
        button="Days",
        sections=(ListSection(title="This week", rows=(ListRow(id="1", title="Friday"),)),),
    ),
}


# --- Meta's Cloud API ----------------------------------------------------------------------------------------------


def _meta_signature(body: bytes, secret: str) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _meta_status(word: str) -> Callable[[str, str], bytes]:
    def build(message_id: str, _chat: str) -> bytes:
        one = {"id": message_id, "status": word, "timestamp": "1793900000", "recipient_id": DIGITS}
        value = {"metadata": {"phone_number_id": NUMBER_ID}, "statuses": [one]}
        change = {"field": "messages", "value": value}
        return to_json({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [change]}]})

    return build


CLOUD_API = Wire(
    name="cloud_api",
    path=f"/v25.0/{NUMBER_ID}/messages",
    values={"key": KEY, "webhook_secret": SECRET, "verify_token": "canary-word"},
    rotated={"webhook_secret": f"{SECRET},the new one"},
    secret=SECRET,
    accepted=lambda bare: (
        200,
        to_json({"messaging_product": "whatsapp", "messages": [{"id": bare}]}),
    ),
    bad_key=(401, to_json({"error": {"message": f"token {KEY}", "type": "OAuthException", "code": 190}})),
    refusal=lambda words: (400, to_json({"error": {"message": words, "code": 100}})),
    sign=_meta_signature,
    acks={
        Receipt.SENT: _meta_status("sent"),
        Receipt.DELIVERED: _meta_status("delivered"),
        Receipt.READ: _meta_status("read"),
    },
    reaction_to="wamid.HBgLNjU4MTIzMDAwMRUCABIYFA==",
)


# --- WAHA ----------------------------------------------------------------------------------------------------------


def _waha_event(event: str, payload: dict[str, Any], session: str = SESSION) -> bytes:
    return to_json({"id": "evt_1", "timestamp": 1767225600123, "event": event, "session": session, "payload": payload})


def _waha_ack(number: int) -> Callable[[str, str], bytes]:
    def build(bare: str, chat: str) -> bytes:
        payload = {"id": f"true_{chat}_{bare}", "from": chat, "fromMe": True, "ack": number}
        return _waha_event("message.ack.group" if chat.endswith("@g.us") else "message.ack", payload)

    return build


def _waha_look(status: str) -> Mapping[str, Answered]:
    return {f"/api/sessions/{SESSION}": (200, to_json({"name": SESSION, "status": status, "me": None}))}


WAHA = Wire(
    name="waha",
    path="",
    values={"key": KEY, "webhook_secret": SECRET, "session": SESSION},
    rotated={"webhook_secret": f"{SECRET},the new one"},
    secret=SECRET,
    accepted=lambda bare: (201, to_json({"id": f"true_{DIGITS}@c.us_{bare}", "_data": {}})),
    bad_key=(401, to_json({"message": f"Unauthorized {KEY}", "statusCode": 401})),
    refusal=lambda words: (422, to_json({"message": words, "error": "Unprocessable Entity", "statusCode": 422})),
    sign=lambda body, secret: hmac.new(secret.encode(), body, hashlib.sha512).hexdigest(),
    acks={
        Receipt.SENT: _waha_ack(1),
        Receipt.DELIVERED: _waha_ack(2),
        Receipt.READ: _waha_ack(3),
        Receipt.PLAYED: _waha_ack(4),
        Receipt.FAILED: _waha_ack(-1),
    },
    not_ready=(
        (
            422,
            to_json(
                {
                    "error": "Session status is not as expected",
                    "session": SESSION,
                    "status": "SCAN_QR_CODE",
                    "expected": ["WORKING"],
                }
            ),
        ),
        ConnectionState.NEEDS_QR,
    ),
    other_session=_waha_event("session.status", {"status": "FAILED"}, "another"),
    looks=(
        ("WORKING", _waha_look("WORKING"), ConnectionState.READY),
        ("SCAN_QR_CODE", _waha_look("SCAN_QR_CODE"), ConnectionState.NEEDS_QR),
        ("PASSKEY_REQUIRED", _waha_look("PASSKEY_REQUIRED"), ConnectionState.NEEDS_QR),
        ("PASSKEY_CONFIRMATION_REQUIRED", _waha_look("PASSKEY_CONFIRMATION_REQUIRED"), ConnectionState.NEEDS_QR),
        ("STARTING", _waha_look("STARTING"), ConnectionState.CONNECTING),
        ("STOPPED", _waha_look("STOPPED"), ConnectionState.DISCONNECTED),
        ("FAILED", _waha_look("FAILED"), ConnectionState.AUTH_FAILURE),
        ("SOMETHING_NEW", _waha_look("SOMETHING_NEW"), ConnectionState.ERROR),
        (
            "unknown session",
            {
                f"/api/sessions/{SESSION}": (
                    404,
                    to_json({"message": "Session not found", "error": "Not Found", "statusCode": 404}),
                )
            },
            ConnectionState.DISCONNECTED,
        ),
    ),
    unchecked=(500, to_json({"statusCode": 500, "exception": {"name": "Error"}})),
)


# --- GOWA ----------------------------------------------------------------------------------------------------------


def _gowa(results: Any, code: str = "SUCCESS", words: str = "done") -> bytes:
    return to_json({"code": code, "message": words, "results": results})


def _gowa_event(event: str, payload: dict[str, Any], session: str = SESSION) -> bytes:
    return to_json({"event": event, "session_id": session, "payload": payload})


def _gowa_ack(word: str) -> Callable[[str, str], bytes]:
    def build(bare: str, chat: str) -> bytes:
        payload = {
            "ids": [bare],
            "chat_id": chat.replace("@c.us", "@s.whatsapp.net"),
            "from": f"{DIGITS}@s.whatsapp.net",
            "receipt_type": word,
            "timestamp": "2026-11-05T17:33:20Z",
        }
        return _gowa_event("message.ack", payload)

    return build


def _gowa_look(state: str, jid: str, flags: tuple[bool, bool]) -> Mapping[str, Answered]:
    device = {"id": SESSION, "state": state, "jid": jid, "phone_number": "", "display_name": ""}
    status = {"device_id": SESSION, "is_connected": flags[0], "is_logged_in": flags[1]}
    return {"/devices": (200, _gowa([device])), f"/devices/{SESSION}/status": (200, _gowa(status))}


JID = "6581239999:12@s.whatsapp.net"
GOWA = Wire(
    name="gowa",
    path="",
    values={"key": f"shop:{KEY}", "webhook_secret": SECRET, "session": SESSION},
    rotated={"webhook_secret": f"{SECRET},the new one"},
    secret=SECRET,
    accepted=lambda bare: (200, _gowa({"message_id": bare, "status": "sent"})),
    bad_key=(401, b"Unauthorized"),
    refusal=lambda words: (400, _gowa(None, "VALIDATION_ERROR", words)),
    sign=_meta_signature,
    acks={
        Receipt.DELIVERED: _gowa_ack("delivered"),
        Receipt.READ: _gowa_ack("read"),
        Receipt.PLAYED: _gowa_ack("played"),
    },
    not_ready=(
        (401, _gowa(None, "AUTHENTICATION_ERROR", "you are not connected to services server")),
        ConnectionState.DISCONNECTED,
    ),
    other_session=_gowa_event("message.ack", {"ids": [BARE], "receipt_type": "read"}, "another"),
    looks=(
        ("logged_in", _gowa_look("logged_in", JID, (True, True)), ConnectionState.READY),
        ("both flags", _gowa_look("connected", JID, (True, True)), ConnectionState.READY),
        ("connected", _gowa_look("connected", "", (True, False)), ConnectionState.NEEDS_QR),
        ("disconnected, no jid", _gowa_look("disconnected", "", (False, False)), ConnectionState.NEEDS_QR),
        ("disconnected", _gowa_look("disconnected", JID, (False, False)), ConnectionState.DISCONNECTED),
        ("connecting", _gowa_look("connecting", JID, (False, False)), ConnectionState.CONNECTING),
        ("no device", {"/devices": (200, _gowa([]))}, ConnectionState.DISCONNECTED),
        ("500", {"/devices": (500, _gowa(None, "INTERNAL_SERVER_ERROR"))}, ConnectionState.ERROR),
    ),
    unchecked=(500, _gowa(None, "INTERNAL_SERVER_ERROR")),
)


# --- wwebjs-api ----------------------------------------------------------------------------------------------------


def _web(shape: Mapping[str, Any], *, success: bool = True) -> bytes:
    return to_json({"success": success, **shape})


def _web_event(event: str, data: dict[str, Any] | None, session: str = SESSION) -> bytes:
    return to_json({"dataType": event, "data": data, "sessionId": session})


def _web_ack(number: int) -> Callable[[str, str], bytes]:
    def build(bare: str, chat: str) -> bytes:
        key = {"fromMe": True, "remote": chat, "id": bare, "_serialized": f"true_{chat}_{bare}"}
        message = {"id": key, "fromMe": True, "from": "6581239999@c.us", "to": chat, "ack": number}
        return _web_event("message_ack", {"message": message, "ack": number})

    return build


def _web_look(state: str | None, message: str, *, qr: str | None = None) -> Mapping[str, Answered]:
    shown = _web({"qr": qr}) if qr else _web({"message": "qr code not ready or already scanned"}, success=False)
    return {
        f"/session/status/{SESSION}": (
            200,
            _web({"state": state, "message": message}, success=state == "CONNECTED"),
        ),
        f"/session/qr/{SESSION}": (200, shown),
        f"/client/getClassInfo/{SESSION}": (
            200,
            _web({"sessionInfo": {"wid": {"_serialized": "6581239999@c.us"}}}),
        ),
    }


WWEBJS = Wire(
    name="wwebjs_api",
    path="",
    values={"key": KEY, "session": SESSION},
    rotated={"key": f"{KEY},the-new-one"},
    secret=KEY,
    accepted=lambda bare: (
        200,
        _web({"message": {"id": {"id": bare, "_serialized": f"true_{DIGITS}@c.us_{bare}"}, "ack": 1}}),
    ),
    bad_key=(403, _web({"error": f"Invalid API key {KEY}"}, success=False)),
    refusal=lambda words: (400, _web({"error": words}, success=False)),
    sign=lambda _body, secret: secret,
    acks={
        Receipt.SENT: _web_ack(1),
        Receipt.DELIVERED: _web_ack(2),
        Receipt.READ: _web_ack(3),
        Receipt.PLAYED: _web_ack(4),
        Receipt.FAILED: _web_ack(-1),
    },
    not_ready=((404, _web({"error": "session_not_found"}, success=False)), ConnectionState.DISCONNECTED),
    other_session=_web_event("disconnected", {"reason": "LOGOUT"}, "another"),
    looks=(
        ("CONNECTED", _web_look("CONNECTED", "session_connected"), ConnectionState.READY),
        ("UNPAIRED", _web_look("UNPAIRED", "session_not_connected"), ConnectionState.NEEDS_QR),
        ("UNPAIRED_IDLE", _web_look("UNPAIRED_IDLE", "session_not_connected"), ConnectionState.NEEDS_QR),
        ("a code is shown", _web_look(None, "session_not_connected", qr="2@code"), ConnectionState.NEEDS_QR),
        ("not connected", _web_look(None, "session_not_connected"), ConnectionState.CONNECTING),
        ("OPENING", _web_look("OPENING", "session_not_connected"), ConnectionState.CONNECTING),
        ("PAIRING", _web_look("PAIRING", "session_not_connected"), ConnectionState.CONNECTING),
        ("not found", _web_look(None, "session_not_found"), ConnectionState.DISCONNECTED),
        ("session closed", _web_look(None, "session closed"), ConnectionState.DISCONNECTED),
        ("tab closed", _web_look(None, "browser tab closed"), ConnectionState.DISCONNECTED),
        ("CONFLICT", _web_look("CONFLICT", "session_not_connected"), ConnectionState.ERROR),
        ("TOS_BLOCK", _web_look("TOS_BLOCK", "session_not_connected"), ConnectionState.ERROR),
        ("PROXYBLOCK", _web_look("PROXYBLOCK", "session_not_connected"), ConnectionState.ERROR),
        ("TIMEOUT", _web_look("TIMEOUT", "session_not_connected"), ConnectionState.ERROR),
        (
            "500",
            {f"/session/status/{SESSION}": (500, _web({"error": "Protocol error"}, success=False))},
            ConnectionState.ERROR,
        ),
    ),
    unchecked=(500, _web({"error": "Evaluation failed"}, success=False)),
)

WIRES = (CLOUD_API, WAHA, GOWA, WWEBJS)
