"""What GOWA tells of its devices by webhook: receipts and messages, and never that a connection was lost."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from wa_cli.sandbox.devices import Listener
from wa_cli.sandbox.gateways import GatewayHook

if TYPE_CHECKING:
    from wa_cli.sandbox.bell import Bell
    from wa_cli.sandbox.devices import Device, DeviceInbound, DeviceReceipt
    from wa_cli.sandbox.gateways import GatewayHooks

CONFIG: Final = "gowa"  # where a device keeps GOWA's settings for it
DEFAULT_SECRET: Final = "secret"  # noqa: S105  # GOWA's own, known to everybody
SIGNATURE_HEADER: Final = "X-Hub-Signature-256"
RETRY_SECONDS: Final = (1.0, 2.0, 4.0, 8.0)
_RECEIPTS: Final = {"delivered": "delivered", "read": "read", "failed": "server-error"}


class GowaListener(Listener):
    """Posts what happens to each device's own webhook, if it has one."""

    def __init__(self, hooks: GatewayHooks, changes: Bell) -> None:
        """changes: rung when the state of a device has changed."""
        self._hooks = hooks
        self._changes = changes

    def on_state(self, device: Device) -> None:
        self._changes.ring()

    def on_receipt(self, device: Device, receipt: DeviceReceipt) -> None:
        receipt_type = _RECEIPTS.get(receipt.status)
        if receipt_type is None:
            return
        message = receipt.message
        self._tell(
            device,
            "message.ack",
            {
                "ids": [message.message_id],
                "chat_id": message.chat if message.is_group else jid_of(message.chat),
                "from": jid_of(receipt.participant or message.chat),
                "receipt_type": receipt_type,
            },
            at=receipt.at,
        )

    def on_inbound(self, device: Device, inbound: DeviceInbound) -> None:
        self._tell(
            device,
            "message",
            {
                "id": inbound.message_id,
                "chat_id": inbound.group or jid_of(inbound.sender),
                "from": jid_of(inbound.sender),
                "from_name": inbound.name or f"Person {inbound.sender[-4:]}",
                "timestamp": format_time(inbound.at),
                "is_from_me": False,
                "body": inbound.text,
            },
            at=inbound.at,
        )

    def _tell(self, device: Device, event: str, payload: dict[str, Any], *, at: float) -> None:
        config = device.config.get(CONFIG, {})
        url, wanted = config.get("webhook_url", ""), config.get("webhook_events", "")
        events = {name.strip().lower() for name in wanted.split(",") if name.strip()}
        if not url or (events and event not in events):
            return
        body = json.dumps(
            {
                "event": event,
                "device_id": jid_of(device.number),
                "session_id": device.name,
                "timestamp": format_time(at),
                "payload": payload,
            },
            ensure_ascii=False,
            separators=(",", ":"),
        ).encode()
        secret = config.get("webhook_secret") or DEFAULT_SECRET
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        self._hooks.post(
            GatewayHook(url=url, body=body, headers={SIGNATURE_HEADER: f"sha256={signature}"}, waits=RETRY_SECONDS)
        )


def jid_of(number: str) -> str:
    return f"{number}@s.whatsapp.net"


def format_time(at: float) -> str:
    """Epoch seconds as GOWA writes times."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
