"""The sandbox's own calls about linked devices: make one, scan its QR code, break its connection, write to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from wa_cli.errors import UsageError
from wa_cli.sandbox.devices import Device, DeviceGroup

if TYPE_CHECKING:
    from wa_cli.sandbox.server import Sandbox


def answer_devices(sandbox: Sandbox, method: str, path: str, raw_body: bytes) -> tuple[int, dict[str, Any]]:
    """HTTP status and JSON shape for one call.  Raises: UsageError for what cannot be understood."""
    parts = path.removeprefix("/sandbox").strip("/").split("/")
    order = _read_order(raw_body) if method == "POST" else {}
    match method, parts:
        case "GET", ["devices"]:
            return 200, {
                "devices": [describe_device(device) for device in sandbox.devices.list_all()],
                "absent": sorted(sandbox.devices.absent),
                "updates_waiting": sandbox.devices.waiting + sandbox.hooks.waiting,
            }
        case "POST", ["devices"]:
            return 200, {"device": describe_device(make_device(sandbox, order))}
        case "POST", ["absent"]:
            sandbox.devices.absent = set(_read_texts(order, "numbers"))
            return 200, {"absent": sorted(sandbox.devices.absent)}
        case "POST", ["devices", name]:
            device = _find(sandbox, name)
            _do(sandbox, device, order)
            return 200, {"device": describe_device(device)}
        case "POST", ["devices", name, "inbound"]:
            sender, text, group = order.get("from"), order.get("text"), order.get("group")
            if not isinstance(sender, str) or not isinstance(text, str) or not isinstance(group, str | None):
                raise UsageError("a message says who wrote what", hint='{"from": "15550100123", "text": "STOP"}')
            return 200, {"message_id": sandbox.devices.receive(_find(sandbox, name), sender, text, group=group)}
        case _:
            return 404, {"error": {"message": f"no {method} {path} here", "hint": "see GET /sandbox/devices"}}


def describe_device(device: Device) -> dict[str, Any]:
    return {
        "name": device.name,
        "number": device.number,
        "state": device.state.value,
        "paired": device.is_paired,
        "qr_text": device.qr_text,
        "restarts": device.restarts,
        "sent": len(device.sent),
        "restricted_until": device.restricted_until,
        "groups": [
            {
                "id": group.group_id,
                "name": group.name,
                "participants": list(group.participants),
                "announcement": group.is_announcement,
            }
            for group in device.groups.values()
        ],
    }


def make_device(sandbox: Sandbox, order: dict[str, Any]) -> Device:
    """Make the device of that name, or change what the order says about it.  Raises: UsageError."""
    name, number = order.get("name"), order.get("number")
    if not isinstance(name, str) or not name or not isinstance(number, str | None):
        raise UsageError("a device has a name", hint='{"name": "default", "paired": true, "start": true}')
    groups = [_read_group(shape) for shape in order.get("groups", [])]
    device = sandbox.devices.find(name) or sandbox.devices.add(name)
    device.number = number or device.number
    if "groups" in order:
        device.groups = {group.group_id: group for group in groups}
    if "paired" in order:
        device.is_paired = bool(order["paired"])
    if order.get("start"):
        sandbox.devices.start(device)
    return device


def _do(sandbox: Sandbox, device: Device, order: dict[str, Any]) -> None:
    devices = sandbox.devices
    seconds = order.get("seconds")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float | None):
        raise UsageError("seconds is a number", hint='{"do": "lose", "seconds": 5}')
    match order.get("do"):
        case "scan":
            devices.scan(device)
        case "start":
            devices.start(device)
        case "stop":
            devices.stop(device)
        case "restart":
            devices.restart(device)
        case "fail":
            devices.fail(device)
        case "log_out":
            devices.log_out(device)
        case "renew_qr":
            devices.renew_qr(device)
        case "lose":
            devices.lose(device, seconds=seconds)
        case "restrict":
            device.restricted_until = None if seconds is None else sandbox.now() + seconds
        case what:
            raise UsageError(
                f"a device cannot be told to {json.dumps(what)}",
                hint="scan, start, stop, restart, fail, log_out, renew_qr, lose or restrict",
            )


def _find(sandbox: Sandbox, name: str) -> Device:
    device = sandbox.devices.find(name)
    if device is None:
        raise UsageError(f"there is no device '{name}'", hint="GET /sandbox/devices lists them")
    return device


def _read_group(shape: Any) -> DeviceGroup:
    if not isinstance(shape, dict) or not str(shape.get("id", "")).endswith("@g.us"):
        raise UsageError("a group has an id", hint='{"id": "120363041234567890@g.us", "name": "Runners"}')
    return DeviceGroup(
        group_id=shape["id"],
        name=str(shape.get("name", "")),
        participants=tuple(_read_texts(shape, "participants")),
        is_announcement=bool(shape.get("announcement")),
    )


def _read_texts(shape: dict[str, Any], name: str) -> list[str]:
    value = shape.get(name, [])
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise UsageError(f"{name} is a list of texts", hint=f'"{name}": ["15550100123"]')
    return value


def _read_order(raw_body: bytes) -> dict[str, Any]:
    try:
        order = json.loads(raw_body)
    except (ValueError, RecursionError):
        order = None
    if not isinstance(order, dict):
        raise UsageError("the body is not a JSON object", hint='{"name": "default"}')
    return order
