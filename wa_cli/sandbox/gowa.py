"""Plays GOWA, a gateway to linked devices, in its own wire format: devices, pairing, groups, sends, webhooks.

Its routes stand beside the Cloud API's on the sandbox's port, and again under `/gowa`, as behind a base path.  The
setting `gateway_key` is `user:password` for HTTP Basic, or "" for an open door.  A person becomes unknown by
`POST /sandbox/absent`, a device loses its connection by `POST /sandbox/devices/NAME`.  Faults mean here:

    reject:463      429 WA_REACHOUT_TIMELOCK; so does a device that was told to be restricted
    reject:101      500 with the words of a temporary ban, as do 102, 103, 104 and 106
    reject:401      not logged in; reject:404: no such device; reject:503: still starting
    reject:131026   not on WhatsApp
    503_empty       accepted, and answered 504 GATEWAY_TIMEOUT, as GOWA does when its own 45 s are over
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import io
import secrets
import uuid
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from aiohttp import BodyPartReader, web

from wa_cli.errors import StorageError
from wa_cli.sandbox.bell import Bell
from wa_cli.sandbox.devices import DeviceState, SentMessage, draw_message_id
from wa_cli.sandbox.faults import REFUSING, FaultKind
from wa_cli.sandbox.gowa_hooks import CONFIG, GowaListener, format_time, jid_of
from wa_cli.sandbox.gowa_sends import (
    ROUTES,
    GowaSend,
    PostedFile,
    PostedForm,
    read_form_send,
    read_json_send,
    read_phone,
)
from wa_cli.sandbox.gowa_words import GowaRefusal, envelope, refuse, success
from wa_cli.sandbox.ledger import LedgerEntry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wa_cli.sandbox.devices import Device, DeviceGroup
    from wa_cli.sandbox.faults import Fault
    from wa_cli.sandbox.server import Sandbox

BASE_PATH: Final = "/gowa"
MOST_GROUPS: Final = 500  # WhatsApp hands out no more
QR_SECONDS: Final = 30
QR_PATH: Final = "/statics/images/qrcode/"
# A gateway in a container knows itself by no other address than this one.
OWN_ADDRESS: Final = "http://localhost:3000"
_ROOMS: Final = ("devices", "send", "message", "user", "group", "statics", "health")
_QR_CODES_KEPT: Final = 16
_PAIRING_SECONDS: Final = 10.0
_WEBHOOK_NAMES: Final = ("webhook_url", "webhook_secret", "webhook_events")


class PlayedGowa:
    """Implements PlayedGateway."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._qr_codes: dict[str, bytes] = {}
        self._changes = Bell()
        sandbox.devices.listen(GowaListener(sandbox.hooks, self._changes))

    def owns(self, path: str) -> bool:
        first, _, rest = path.lstrip("/").partition("/")
        return rest.partition("/")[0] in _ROOMS if f"/{first}" == BASE_PATH else first in _ROOMS

    async def answer(self, request: web.BaseRequest, path: str, query: Mapping[str, str]) -> web.StreamResponse:
        base = BASE_PATH if path.startswith(f"{BASE_PATH}/") else ""
        parts = [unquote(part) for part in path.removeprefix(base).split("/") if part]
        if parts == ["health"]:
            await request.read()
            return web.Response(text="OK")
        if not self._may_enter(request):
            await request.release()
            return web.Response(status=401, text="Unauthorized", headers={"WWW-Authenticate": "Basic realm=Restricted"})
        try:
            match request.method, parts:
                case "POST", ["send", route] if route in ROUTES and route != "reaction":
                    return await self._send(request, query, route)
                case "POST", ["message", _, "reaction"]:
                    return await self._send(request, query, "reaction")
                case _, ["devices", *rest]:
                    return await self._answer_devices(request, rest, query, base)
                case "GET", ["statics", *_] if (code := self._qr_codes.get(path.removeprefix(base))) is not None:
                    return web.Response(body=code, content_type="image/png")
                case "GET", ["user" | "group", *_]:
                    return self._look_up(self._find_working(request, query), parts, query)
                case _:
                    await request.release()
                    return web.Response(status=404, text=f"Cannot {request.method} {path}")
        except GowaRefusal as refusal:
            await request.release()
            return refusal.answer()

    def _may_enter(self, request: web.BaseRequest) -> bool:
        key = self._sandbox.settings.gateway_key
        told = request.headers.get("Authorization", "")
        return not key or hmac.compare_digest(told, "Basic " + base64.b64encode(key.encode()).decode())

    # --- devices ---

    async def _answer_devices(
        self, request: web.BaseRequest, parts: list[str], query: Mapping[str, str], base: str
    ) -> web.StreamResponse:
        devices = self._sandbox.devices
        order = await _read_object(request)
        if not parts:
            if request.method == "GET":
                return success("List devices", [self._describe(device) for device in devices.list_all()])
            name = str(order.get("device_id") or uuid.uuid4())
            device = devices.find(name) or devices.add(name)
            self._keep_webhook(device, order)
            return success("Device added", {**self._describe(device), **device.config.get(CONFIG, {})})
        found = devices.find(parts[0])
        if found is None:
            if len(parts) == 1 and request.method == "GET":
                raise GowaRefusal.broken("device not found")  # although its published contract says 404
            raise GowaRefusal.no_device()
        match request.method, parts[1:]:
            case "GET", []:
                return success("Device info", self._describe(found))
            case "DELETE", []:
                devices.remove(found.name)
                return success("Device removed")
            case "GET", ["status"]:
                is_working = found.state is DeviceState.WORKING
                is_connected = is_working or found.state is DeviceState.NEEDS_QR
                flags = {"is_connected": is_connected, "is_logged_in": is_working}
                return success("Device status", {"device_id": found.name, **flags})
            case "GET", ["login"]:
                await self._begin_pairing(found)
                link = f"{OWN_ADDRESS}{base}{self._draw_qr(found)}"
                return success("Login success", {"device_id": found.name, "qr_link": link, "qr_duration": QR_SECONDS})
            case "POST", ["login", "code"]:
                read_phone(query.get("phone", ""))
                await self._begin_pairing(found)
                code = f"{secrets.token_hex(2)}-{secrets.token_hex(2)}".upper()
                return success("Login with code started", {"device_id": found.name, "pair_code": code})
            case "POST", ["logout"]:
                devices.log_out(found)
                devices.stop(found)
                return success("Device logged out")
            case "POST", ["reconnect"]:
                devices.restart(found)
                return success("Device reconnected")
            case "GET" | "PATCH", ["webhook"]:
                if request.method == "PATCH":
                    if not isinstance(order.get("webhook_url"), str):
                        raise GowaRefusal.invalid("webhook_url: cannot be blank.")
                    self._keep_webhook(found, order)
                return success("Device webhook", {"device_id": found.name, **found.config.get(CONFIG, {})})
            case _:
                raise GowaRefusal(status=404, code="NOT_FOUND", message="no such route")

    def _describe(self, device: Device) -> dict[str, Any]:
        """`connecting` is declared in the contract, and never said."""
        match device.state:
            case DeviceState.WORKING:
                state = "logged_in"
            case DeviceState.NEEDS_QR:
                state = "connected"
            case _:
                state = "disconnected"
        return {
            "id": device.name,
            "phone_number": device.number if device.is_paired else "",
            "display_name": "Sandbox" if device.is_paired else "",
            "state": state,
            "jid": jid_of(device.number) if device.is_paired else "",
            "created_at": format_time(self._sandbox.now()),
        }

    def _keep_webhook(self, device: Device, order: Mapping[str, Any]) -> None:
        kept = device.config.setdefault(CONFIG, {})
        kept.update({name: order[name] for name in _WEBHOOK_NAMES if isinstance(order.get(name), str)})

    async def _begin_pairing(self, device: Device) -> None:
        self._sandbox.devices.start(device)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PAIRING_SECONDS):
                while device.state is DeviceState.STARTING:
                    await self._changes.wait()
        if device.state is DeviceState.WORKING:
            raise GowaRefusal(status=400, code="ALREADY_LOGGED_IN", message="you are already logged in")
        if device.state is not DeviceState.NEEDS_QR:
            raise GowaRefusal.broken("the QR channel is closed")

    def _draw_qr(self, device: Device) -> str:
        """The path of a fresh picture of the device's code."""
        import segno

        drawn = io.BytesIO()
        segno.make(device.qr_text, error="m", micro=False).save(drawn, kind="png", scale=8, border=4)
        path = f"{QR_PATH}scan-qr-{uuid.uuid4()}.png"
        self._qr_codes[path] = drawn.getvalue()
        while len(self._qr_codes) > _QR_CODES_KEPT:
            del self._qr_codes[next(iter(self._qr_codes))]
        return path

    # --- what needs a device that is connected ---

    def _find_working(self, request: web.BaseRequest, query: Mapping[str, str]) -> Device:
        devices = self._sandbox.devices
        name = request.headers.get("X-Device-Id") or query.get("device_id")
        if name:
            device = devices.find(name)
        else:
            listed = devices.list_all()
            if len(listed) > 1:
                raise GowaRefusal(
                    status=400, code="DEVICE_ID_REQUIRED", message="several devices: name one in X-Device-Id"
                )
            device = listed[0] if listed else None
        if device is None:
            raise GowaRefusal.no_device()
        if device.state is not DeviceState.WORKING:
            raise GowaRefusal.not_connected()
        return device

    def _look_up(self, device: Device, parts: list[str], query: Mapping[str, str]) -> web.Response:
        match parts:
            case ["user", "check"]:
                chat = read_phone(query.get("phone", ""))
                answer = {"is_on_whatsapp": self._sandbox.devices.is_on_whatsapp(chat)}
                return success("Success check user", answer)
            case ["user", "my", "groups"]:
                records = [_describe_group(device, group) for group in list(device.groups.values())[:MOST_GROUPS]]
                return success("Success get list groups", {"data": records})
            case ["group", "info" | "participants" as what]:
                group = device.groups.get(query.get("group_id", ""))
                if group is None:
                    raise GowaRefusal.broken("info query returned status 404: item-not-found")
                if what == "info":
                    return success("Success get group info", _describe_group(device, group))
                listed = [
                    {"jid": jid_of(number), "phone_number": jid_of(number), "is_admin": False, "is_super_admin": False}
                    for number in group.participants
                ]
                results = {"group_id": group.group_id, "name": group.name, "participants": listed}
                return success("Success getting group participants", results)
            case _:
                raise GowaRefusal(status=404, code="NOT_FOUND", message="no such route")

    # --- sends ---

    async def _send(self, request: web.BaseRequest, query: Mapping[str, str], route: str) -> web.StreamResponse:
        sandbox = self._sandbox
        is_form, kind = ROUTES[route]
        device, send, fault = None, None, None
        try:
            device = self._find_working(request, query)
            if is_form:
                send = read_form_send(route, await _read_form(request))
            else:
                if request.content_type != "application/json":
                    raise GowaRefusal.invalid(f"{request.content_type} is not what this route reads")
                send = read_json_send(route, await request.read())
            self._check_chat(device, send)
            fault = sandbox.choose_fault(send.chat)
            if fault is not None and fault.kind in REFUSING:
                raise refuse(fault, send.chat)
        except GowaRefusal as refusal:
            self._note(device, send, kind, f"rejected:{refusal.code}", fault=fault)
            await sandbox.wait_latency()
            raise
        if fault is not None and (fault.is_lost or fault.kind is FaultKind.REDIRECT):
            self._note(device, send, kind, "redirected" if fault.kind is FaultKind.REDIRECT else "lost", fault=fault)
            return await sandbox.spoil(request, fault, _accepted(draw_message_id(), send))
        message_id = draw_message_id()
        try:
            self._note(device, send, kind, "accepted", message_id=message_id, fault=fault)
        except StorageError as problem:
            raise GowaRefusal.broken(problem.message) from problem
        sandbox.devices.take_on(
            device,
            SentMessage(
                device=device.name,
                message_id=message_id,
                chat=send.chat,
                kind=send.kind,
                content=send.content,
                accepted_at=sandbox.now(),
            ),
            fault,
        )
        await sandbox.wait_latency()
        if fault is None:
            return _accepted(message_id, send)
        if fault.kind is FaultKind.EMPTY_503:
            return envelope("GATEWAY_TIMEOUT", "the request took longer than 45s", None, status=504)
        return await sandbox.spoil(request, fault, _accepted(message_id, send))

    def _check_chat(self, device: Device, send: GowaSend) -> None:
        devices = self._sandbox.devices
        if send.chat.endswith("@g.us"):
            if send.chat not in device.groups:
                raise GowaRefusal.broken("info query returned status 404: item-not-found")
        elif not devices.is_on_whatsapp(send.chat):
            raise GowaRefusal.not_on_whatsapp(send.chat)
        if not devices.may_write_to(device, send.chat):
            raise GowaRefusal.time_locked()

    def _note(
        self,
        device: Device | None,
        send: GowaSend | None,
        kind: str,
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
                phone_number_id=device.number if device else None,
                to=send.chat if send else None,
                type=send.kind if send else kind,
                content=send.content if send else None,
                tag=None,
                verdict=verdict,
                wamid=message_id,
                fault=None if fault is None else str(fault),
            )
        )


def _accepted(message_id: str, send: GowaSend) -> web.Response:
    words = f"Message sent to {send.chat} (server timestamp: now)"
    return success("Success", {"message_id": message_id, "status": words})


def _describe_group(device: Device, group: DeviceGroup) -> dict[str, Any]:
    """A group as whatsmeow's own record, whose names begin in upper case.  Its first member is its admin."""
    members = [
        {
            "JID": f"{int.from_bytes(hashlib.sha256(number.encode()).digest()[:6], 'big')}@lid",
            "PhoneNumber": jid_of(number),
            "LID": "",
            "IsAdmin": place == 0,
            "IsSuperAdmin": False,
            "DisplayName": "",
        }
        for place, number in enumerate((*group.participants, device.number))
    ]
    return {
        "JID": group.group_id,
        "Name": group.name,
        "OwnerJID": "",
        "IsAnnounce": group.is_announcement,
        "IsLocked": False,
        "IsParent": False,
        "Suspended": False,
        "ParticipantCount": len(members),
        "Participants": members,
    }


async def _read_object(request: web.BaseRequest) -> dict[str, Any]:
    import json

    raw_body = await request.read()
    if not raw_body:
        return {}
    try:
        shape = json.loads(raw_body)
    except (ValueError, RecursionError):
        shape = None
    if not isinstance(shape, dict):
        raise GowaRefusal.invalid("the body is not a JSON object")
    return shape


async def _read_form(request: web.BaseRequest) -> PostedForm:
    """Every part of a form.  Files are counted and hashed as they come, and kept nowhere.  Raises: GowaRefusal."""
    if request.content_type != "multipart/form-data":
        raise GowaRefusal.invalid(f"{request.content_type} is not what this route reads: post a form of parts")
    form = PostedForm()
    try:
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            if not isinstance(part, BodyPartReader) or not part.name:
                raise ValueError("a part without a name")
            if part.filename is None:
                form.fields[part.name] = (await part.read(decode=True)).decode()
                continue
            digest, size = hashlib.sha256(), 0
            while chunk := await part.read_chunk(65_536):
                digest.update(chunk)
                size += len(chunk)
            form.files[part.name] = PostedFile(
                filename=part.filename,
                mime_type=part.headers.get("Content-Type", "application/octet-stream"),
                size=size,
                digest=digest.hexdigest(),
            )
    except (ValueError, AssertionError, RuntimeError) as error:
        raise GowaRefusal.invalid("the form cannot be read") from error
    return form
