"""The sandbox as a WAHA: its sessions, its send calls and its webhooks, in its own JSON, under `/api/` and `/ping`.

The devices behind the sessions are those of `devices`.  `waha_engine` chooses whose answers are given, since each of
the four engines answers in a shape of its own, and two of them drop a message id that the caller has chosen.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from aiohttp import web

from wa_cli.errors import StorageError, UsageError
from wa_cli.sandbox.devices import (
    TIME_LOCK,
    Device,
    DeviceState,
    Listener,
    SentMessage,
    draw_message_id,
)
from wa_cli.sandbox.faults import FaultKind
from wa_cli.sandbox.gateways import GatewayHook
from wa_cli.sandbox.ledger import LedgerEntry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wa_cli.sandbox.devices import DeviceGroup, DeviceInbound, DeviceReceipt
    from wa_cli.sandbox.faults import Fault
    from wa_cli.sandbox.server import Sandbox

VERSION: Final = "2026.7.1"
# The kind in the ledger, and the fields without which the call is no send.
SENDS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "/api/sendText": ("text", ("text",)),
    "/api/sendImage": ("image", ("file",)),
    "/api/sendFile": ("document", ("file",)),
    "/api/sendVideo": ("video", ("file", "convert")),
    "/api/sendVoice": ("voice", ("file", "convert")),
    "/api/sendLocation": ("location", ("latitude", "longitude", "title")),
    "/api/sendContactVcard": ("contact", ("contacts",)),
    "/api/sendPoll": ("poll", ("poll",)),
    "/api/sendList": ("list", ("message",)),
    "/api/reaction": ("reaction", ("messageId", "reaction")),
}
_TAKES_ID: Final = frozenset({"text", "location", "contact", "poll"})
_HONOURS_ID: Final = frozenset({"GOWS", "NOWEB"})
_WORDS: Final = {
    DeviceState.STOPPED: "STOPPED",
    DeviceState.STARTING: "STARTING",
    DeviceState.NEEDS_QR: "SCAN_QR_CODE",
    DeviceState.WORKING: "WORKING",
    DeviceState.FAILED: "FAILED",
}
_ACKS: Final = {"failed": (-1, "ERROR"), "sent": (1, "SERVER"), "delivered": (2, "DEVICE"), "read": (3, "READ")}
_DEFAULT_RETRIES: Final = {"policy": "linear", "delaySeconds": 2, "attempts": 15}


class Waha(Listener):
    """One WAHA on the sandbox's port."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        sandbox.devices.listen(self)

    def owns(self, path: str) -> bool:
        return path == "/ping" or path.startswith("/api/")

    async def answer(self, request: web.BaseRequest, path: str, query: Mapping[str, str]) -> web.StreamResponse:
        try:
            raw_body = await request.read()
        except ConnectionError:
            return web.Response()  # nobody is there any more
        if path == "/ping":
            return web.json_response({"message": "pong"})
        key = self._sandbox.settings.gateway_key
        if key and key not in (request.headers.get("X-Api-Key"), query.get("x-api-key")):
            return _json(401, {"message": "Unauthorized", "statusCode": 401})
        if (path in SENDS and request.method == "POST") or (path == "/api/reaction" and request.method == "PUT"):
            return await self._send(request, path, _parse(raw_body))
        parts = [unquote(part) for part in path.removeprefix("/api/").strip("/").split("/")]
        return self._steer(request.method, path, parts, query, _parse(raw_body))

    # What steers a session

    def _steer(
        self, method: str, path: str, parts: list[str], query: Mapping[str, str], body: dict[str, Any]
    ) -> web.Response:
        devices = self._sandbox.devices
        match method, parts:
            case "GET", ["server", "version"]:
                return _json(200, self._describe_server())
            case "GET", ["sessions"]:
                shown = [one for one in devices.list_all() if query.get("all") or one.state is not DeviceState.STOPPED]
                return _json(200, [self._describe(device) for device in shown])
            case "POST", ["sessions"]:
                return self._create(body)
            case "GET", ["contacts", "check-exists"]:
                return self._check(query)
        name = parts[1] if parts[0] == "sessions" and len(parts) > 1 else parts[0]
        device = devices.find(name)
        is_known = len(parts) > 1 and (parts[0] == "sessions" or parts[1] in ("auth", "groups", "new-message-id"))
        if not is_known:
            return _not_found(f"Cannot {method} {path}")
        if device is None:
            return _not_found(f'Session "{name}" does not exist')
        match method, parts:
            case "GET", ["sessions", _]:
                return _json(200, self._describe(device))
            case "PUT", ["sessions", _]:
                device.config["waha"] = body.get("config") or {}
                if device.state is not DeviceState.STOPPED:
                    devices.restart(device)
                return _json(200, self._describe(device))
            case "DELETE", ["sessions", _]:
                devices.remove(name)
                return _json(200, {})
            case "POST", ["sessions", _, "start"]:
                devices.start(device)
                return _json(201, self._describe(device))
            case "POST", ["sessions", _, "stop"]:
                devices.stop(device)
                return _json(201, self._describe(device))
            case "POST", ["sessions", _, "restart"]:
                devices.restart(device)
                return _json(201, self._describe(device))
            case "POST", ["sessions", _, "logout"]:
                devices.log_out(device)
                return _json(201, self._describe(device))
            case "GET", [_, "auth", "qr"]:
                if device.state is not DeviceState.NEEDS_QR:
                    return _not_ready(device, "SCAN_QR_CODE")
                return _json(200, {"value": device.qr_text})
            case "POST", [_, "auth", "request-code"]:
                if device.state is not DeviceState.NEEDS_QR:
                    return _not_ready(device, "SCAN_QR_CODE")
                code = hashlib.sha256(f"{name} {body.get('phoneNumber')}".encode()).hexdigest()[:8].upper()
                return _json(201, {"code": f"{code[:4]}-{code[4:]}"})
        if device.state is not DeviceState.WORKING:
            return _not_ready(device, "WORKING")
        match method, parts:
            case "GET", [_, "new-message-id"]:
                return _json(200, {"id": draw_message_id()})
            case "GET", [_, "groups"]:
                return self._list_groups(device, query)
            case "GET", [_, "groups", group_id] if group_id in device.groups:
                return _json(200, self._describe_group(device, device.groups[group_id]))
            case "GET", [_, "groups", group_id, "participants", "v2"] if group_id in device.groups:
                return _json(200, _describe_members(device, device.groups[group_id]))
            case "GET", [_, "groups", *_]:
                return _not_found("Group not found")
            case _:
                return _not_found(f"Cannot {method} {path}")

    def _create(self, body: dict[str, Any]) -> web.Response:
        try:
            device = self._sandbox.devices.add(str(body.get("name") or "default"))
        except UsageError:
            return _json(422, {"message": "Session already exists", "error": "Unprocessable Entity", "statusCode": 422})
        device.config["waha"] = body.get("config") or {}
        if body.get("start", True):
            self._sandbox.devices.start(device)
        return _json(201, self._describe(device))

    def _check(self, query: Mapping[str, str]) -> web.Response:
        device = self._sandbox.devices.find(query.get("session", "default"))
        if device is None:
            return _not_found("Session not found")
        if device.state is not DeviceState.WORKING:
            return _not_ready(device, "WORKING")
        number = query.get("phone", "").removeprefix("+")
        if not self._sandbox.devices.is_on_whatsapp(number):
            return _json(200, {"numberExists": False})
        return _json(200, {"numberExists": True, "chatId": f"{number}@c.us"})

    def _describe(self, device: Device) -> dict[str, Any]:
        return {
            "name": device.name,
            "status": _WORDS[device.state],
            "me": self._describe_me(device),
            "engine": {"engine": self._engine},
            "config": device.config.get("waha", {}),
            "presence": None,
            "timestamps": {"activity": None},
        }

    def _describe_me(self, device: Device) -> dict[str, Any] | None:
        if not device.is_paired:
            return None
        me: dict[str, Any] = {"id": f"{device.number}@c.us", "pushName": "Sandbox", "lid": _lid(device.number)}
        until = device.restricted_until
        if until is not None and until > self._sandbox.now():
            me["reachoutTimelock"] = {"isActive": True, "until": int(until * 1000)}
        return me

    def _describe_server(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "engine": self._engine,
            "tier": "CORE",
            "browser": None,
            "platform": "linux/x64",
            "worker": {"id": None},
        }

    @property
    def _engine(self) -> str:
        return self._sandbox.settings.waha_engine

    # Groups

    def _list_groups(self, device: Device, query: Mapping[str, str]) -> web.Response:
        try:
            limit, offset = int(query.get("limit", "1000")), int(query.get("offset", "0"))
        except ValueError:
            return _failed("limit is not a number")
        groups = list(device.groups.values())[offset : offset + limit]
        is_short = "participants" in query.get("exclude", "")
        shapes = [self._describe_group(device, group, is_short=is_short) for group in groups]
        if self._engine == "NOWEB":
            return _json(200, {shape["id"]: shape for shape in shapes})
        return _json(200, shapes)

    def _describe_group(self, device: Device, group: DeviceGroup, *, is_short: bool = False) -> dict[str, Any]:
        people = () if is_short else (device.number, *group.participants)
        size = len(group.participants) + 1
        match self._engine:
            case "GOWS":
                return {
                    "JID": group.group_id,
                    "Name": group.name,
                    "IsAnnounce": group.is_announcement,
                    "ParticipantCount": size,
                    "Participants": [
                        {"JID": _lid(number), "PhoneNumber": f"{number}@s.whatsapp.net", "IsAdmin": False}
                        for number in people
                    ],
                }
            case "NOWEB":
                return {
                    "id": group.group_id,
                    "subject": group.name,
                    "announce": group.is_announcement,
                    "size": size,
                    "participants": [{"id": f"{number}@s.whatsapp.net", "admin": None} for number in people],
                }
            case "WEBJS":
                return {
                    "id": {"server": "g.us", "_serialized": group.group_id},
                    "name": group.name,
                    "groupMetadata": {
                        "announce": group.is_announcement,
                        "size": size,
                        "participants": [
                            {"id": {"_serialized": f"{number}@c.us"}, "isAdmin": False} for number in people
                        ],
                    },
                }
            case _:
                return {"id": group.group_id, "name": group.name}

    # Sends

    async def _send(self, request: web.BaseRequest, path: str, body: dict[str, Any]) -> web.StreamResponse:
        sandbox = self._sandbox
        kind, needed = SENDS[path]
        name, chat_id = str(body.get("session", "default")), body.get("chatId")
        if kind == "reaction":
            chat_id = [*str(body.get("messageId")).split("_"), ""][1]
        chat = _read_chat(chat_id)
        content = _read_content(kind, body)
        device = sandbox.devices.find(name)
        try:
            if device is None:
                self._note(name, chat, kind, content, "rejected:404")
                return _not_found(f'Session "{name}" does not exist')
            if device.state is not DeviceState.WORKING:
                self._note(name, chat, kind, content, "rejected:422")
                return _not_ready(device, "WORKING")
            if any(field not in body for field in needed) or chat is None:
                # No body is looked at before the engine falls over it.
                self._note(name, chat, kind, content, "rejected:500")
                return _failed("Cannot read properties of undefined", body)
            if chat.endswith("@g.us") and (group := device.groups.get(chat)) is not None and group.is_announcement:
                self._note(name, chat, kind, content, "rejected:500")
                return _failed("server returned error 420", body)
            if not self._may_reach(device, chat):
                self._note(name, chat, kind, content, "rejected:500")
                return _failed("no LID found for the number" if chat.isdigit() else "item-not-found", body)
            fault = sandbox.choose_fault(chat)
            if fault is not None and (refused := self._refuse(name, chat, kind, content, fault, body)) is not None:
                return refused
            is_lost = fault is not None and (fault.is_lost or fault.kind is FaultKind.REDIRECT)
            chosen = body.get("id") if kind in _TAKES_ID and self._engine in _HONOURS_ID else None
            message = SentMessage(
                device=name,
                message_id=chosen if isinstance(chosen, str) and chosen else draw_message_id(),
                chat=chat,
                kind=kind,
                content=content,
                accepted_at=sandbox.now(),
                is_chosen=bool(chosen),
            )
            self._note(
                name, chat, kind, content, "lost" if is_lost else "accepted", message_id=message.message_id, fault=fault
            )
        except StorageError as problem:
            return _failed(problem.message, body)
        if not is_lost:
            self._follow(device, message, fault)
        answer = _json(200 if kind == "reaction" else 201, self._describe_sent(device, message))
        return answer if fault is None else await sandbox.spoil(request, fault, answer)

    def _may_reach(self, device: Device, chat: str) -> bool:
        return chat in device.groups if chat.endswith("@g.us") else self._sandbox.devices.is_on_whatsapp(chat)

    def _follow(self, device: Device, message: SentMessage, fault: Fault | None) -> None:
        from wa_cli.sandbox.faults import Fault

        if not self._sandbox.devices.may_write_to(device, message.chat):
            fault = Fault(kind=FaultKind.LATER, code=TIME_LOCK)
        self._sandbox.devices.take_on(device, message, fault)

    def _refuse(
        self, name: str, chat: str, kind: str, content: str | None, fault: Fault, body: dict[str, Any]
    ) -> web.Response | None:
        match fault.kind:
            case FaultKind.REJECT:
                status = fault.http_status or 422
                self._note(name, chat, kind, content, f"rejected:{fault.code}", fault=fault)
                shape: dict[str, Any] = {"message": "refused on request", "statusCode": status, "code": fault.code}
                return _failed("refused on request", body) if status >= 500 else _json(status, shape)
            case FaultKind.THROTTLE | FaultKind.PAIR:
                self._note(name, chat, kind, content, "rejected:429", fault=fault)
                return _json(429, {"message": "rate-overlimit", "statusCode": 429})
            case FaultKind.ERROR_500 | FaultKind.FLAKY:
                self._note(name, chat, kind, content, "rejected:500", fault=fault)
                return _failed("something went wrong (on request)", body)
            case _:
                return None

    def _note(
        self,
        name: str,
        chat: str | None,
        kind: str,
        content: str | None,
        verdict: str,
        *,
        message_id: str | None = None,
        fault: Fault | None = None,
    ) -> None:
        sandbox = self._sandbox
        sandbox.note(
            LedgerEntry(
                seq=sandbox.last_seq + 1,
                received_at=sandbox.now(),
                phone_number_id=name,
                to=chat,
                type=kind,
                content=content,
                tag=None,
                verdict=verdict,
                wamid=message_id if verdict == "accepted" else None,
                fault=None if fault is None else str(fault),
            )
        )

    def _describe_sent(self, device: Device, message: SentMessage) -> dict[str, Any]:
        """The engine's own object."""
        bare, chat = message.message_id, _chat_id(message.chat)
        whole = _whole_id(device, message, is_answer=True)
        match self._engine:
            case "GOWS":
                return {"id": whole, "_data": {}}
            case "NOWEB":
                remote = chat.replace("@c.us", "@s.whatsapp.net")
                key = {"remoteJid": remote, "fromMe": True, "id": bare}
                return {"key": key, "status": "PENDING", "messageTimestamp": str(int(message.accepted_at))}
            case _:
                wrapped = {"fromMe": True, "remote": chat, "id": bare, "_serialized": whole}
                return {"id": wrapped, "ack": 0, "timestamp": int(message.accepted_at)}

    # Webhooks

    def on_state(self, device: Device) -> None:
        now = int(self._sandbox.now() * 1000)
        payload = {
            "name": device.name,
            "status": _WORDS[device.state],
            "statuses": [{"status": _WORDS[device.state], "timestamp": now}],
        }
        self._tell(device, "session.status", payload)

    def on_receipt(self, device: Device, receipt: DeviceReceipt) -> None:
        message = receipt.message
        ack, name = _ACKS[receipt.status]
        payload: dict[str, Any] = {
            "id": _whole_id(device, message),
            "from": f"{device.number}@c.us",
            "to": _chat_id(message.chat),
            "participant": None if receipt.participant is None else f"{receipt.participant}@c.us",
            "fromMe": True,
            "ack": ack,
            "ackName": name,
        }
        if receipt.code is not None:
            payload["error"] = {"code": receipt.code}
            if receipt.code == TIME_LOCK:
                payload["error"] |= {"blocked": True, "reason": "reach-out time-lock"}
                if device.restricted_until is not None:
                    payload["error"]["until"] = int(device.restricted_until * 1000)
        self._tell(device, "message.ack.group" if receipt.participant is not None else "message.ack", payload)

    def on_inbound(self, device: Device, inbound: DeviceInbound) -> None:
        chat = inbound.group or f"{inbound.sender}@c.us"
        suffix = f"_{inbound.sender}@c.us" if inbound.group else ""
        payload = {
            "id": f"false_{chat}_{inbound.message_id}{suffix}",
            "timestamp": int(inbound.at),
            "from": chat,
            "fromMe": False,
            "to": f"{device.number}@c.us",
            "participant": f"{inbound.sender}@c.us" if inbound.group else None,
            "body": inbound.text,
            "hasMedia": False,
            "ack": 2,
            "_data": {"Info": {"PushName": inbound.name or f"Person {inbound.sender[-4:]}"}},
        }
        self._tell(device, "message", payload)

    def _tell(self, device: Device, event: str, payload: dict[str, Any]) -> None:
        config = device.config.get("waha")
        hooks = config.get("webhooks") if config else None
        for hook in hooks if isinstance(hooks, list) else ():
            if event not in hook.get("events", ()) and "*" not in hook.get("events", ()):
                continue
            body = json.dumps(
                {
                    "id": f"evt_01{os.urandom(12).hex()}",
                    "timestamp": int(self._sandbox.now() * 1000),
                    "event": event,
                    "session": device.name,
                    "metadata": {},
                    "me": self._describe_me(device),
                    "payload": payload,
                    "engine": self._engine,
                    "environment": self._describe_server(),
                },
                separators=(",", ":"),
                ensure_ascii=False,
            ).encode()
            headers = {"X-Webhook-Request-Id": os.urandom(8).hex(), "X-Webhook-Timestamp": str(time.time_ns() // 10**6)}
            key = (hook.get("hmac") or {}).get("key")
            if key:
                headers["X-Webhook-Hmac"] = sign_body(key, body)
                headers["X-Webhook-Hmac-Algorithm"] = "sha512"
            waits = _read_waits(hook.get("retries") or _DEFAULT_RETRIES)
            self._sandbox.hooks.post(GatewayHook(url=hook["url"], body=body, headers=headers, waits=waits))


def sign_body(key: str, body: bytes) -> str:
    """The signature of a webhook: HMAC-SHA-512 in hex over the bytes as they leave."""
    return hmac.new(key.encode(), body, hashlib.sha512).hexdigest()


def _read_waits(retries: dict[str, Any]) -> list[float]:
    delay, attempts = float(retries.get("delaySeconds", 2)), int(retries.get("attempts", 15))
    match retries.get("policy"):
        case "exponential":
            return [delay * 2**number for number in range(attempts)]
        case "constant":
            return [delay] * attempts
        case _:
            return [delay * (number + 1) for number in range(attempts)]


def _describe_members(device: Device, group: DeviceGroup) -> list[dict[str, Any]]:
    return [
        {"id": _lid(number), "pn": f"{number}@c.us", "role": "participant"}
        for number in (device.number, *group.participants)
    ]


def _whole_id(device: Device, message: SentMessage, *, is_answer: bool = False) -> str:
    """The id in an answer or a webhook; in a group each names us differently at its end."""
    sender = f"{device.number}@c.us" if is_answer else _lid(device.number)
    return f"true_{_chat_id(message.chat)}_{message.message_id}" + (f"_{sender}" if message.is_group else "")


def _lid(number: str) -> str:
    """The hidden id of a number."""
    return f"{int.from_bytes(hashlib.sha256(number.encode()).digest()[:6], 'big'):015}@lid"


def _chat_id(chat: str) -> str:
    return chat if "@" in chat else f"{chat}@c.us"


def _read_chat(chat_id: Any) -> str | None:
    """Digits of a person or the id of a group; None for anything else."""
    if not isinstance(chat_id, str):
        return None
    name, _, server = chat_id.partition("@")
    if server == "g.us":
        return chat_id
    return name if server in ("c.us", "s.whatsapp.net") and name.isdigit() else None


def _read_content(kind: str, body: dict[str, Any]) -> str | None:
    """What the ledger keeps of a message: its words, the link or the name of its file, its question."""
    file = body.get("file")
    match kind:
        case "text":
            found: Any = body.get("text")
        case "location":
            found = f"{body.get('latitude')},{body.get('longitude')}"
        case "contact":
            found = json.dumps(body.get("contacts"))
        case "poll":
            found = body["poll"].get("name") if isinstance(body.get("poll"), dict) else None
        case "list":
            found = body["message"].get("description") if isinstance(body.get("message"), dict) else None
        case "reaction":
            found = body.get("reaction")
        case _:
            found = file.get("url") or file.get("filename") if isinstance(file, dict) else None
    return found if isinstance(found, str) else None


def _parse(raw_body: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw_body)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _json(status: int, shape: Any) -> web.Response:
    return web.Response(
        status=status,
        body=json.dumps(shape, separators=(",", ":")).encode(),
        headers={"Content-Type": "application/json; charset=utf-8"},
    )


def _not_found(message: str) -> web.Response:
    return _json(404, {"message": message, "error": "Not Found", "statusCode": 404})


def _not_ready(device: Device, expected: str) -> web.Response:
    words = "Session status is not as expected. Try again later or restart the session"
    return _json(422, {"error": words, "session": device.name, "status": _WORDS[device.state], "expected": [expected]})


def _failed(message: str, body: dict[str, Any] | None = None) -> web.Response:
    """What any failure of an engine looks like; it shows the request again."""
    return _json(
        500,
        {
            "statusCode": 500,
            "timestamp": "2026-07-01T00:00:00.000Z",
            "exception": {"name": "Error", "message": message, "stack": "Error: at somewhere"},
            "request": {"path": "/api/send", "method": "POST", "body": body or {}, "query": {}},
            "version": {"version": VERSION},
        },
    )
