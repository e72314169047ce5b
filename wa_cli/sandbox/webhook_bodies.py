"""What a webhook of the platform looks like: updates, the body they travel in, and its signature.

Bytes matter here: compact, everything outside ASCII as `\\uXXXX`, and `/` as `\\/`.  A receiver that signs what it
parsed and wrote again gets another signature, as with the real platform.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from wa_cli.sandbox.graph_errors import KNOWN_ERRORS, UNKNOWN_TITLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wa_cli.sandbox.ladder import Rung

SIGNATURE_HEADER = "X-Hub-Signature-256"
ERRORS_PAGE = "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/"

# From here on everything that is no free entry point has a price; before, answers within the window had none.
ALL_CHARGED_FROM = datetime(2026, 10, 1, tzinfo=UTC).timestamp()

_ENCODER = json.JSONEncoder(separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One thing to tell the receiver.

    field: the webhook field.  kind: the list in `value` that `item` belongs to (`statuses`, `messages`,
    `user_preferences`), or the field itself when `item` is the whole value.
    phone_number_id: whose it is, None when it is the account's.  contact: the person, where the platform shows them.
    """

    field: str
    kind: str
    item: dict[str, Any]
    phone_number_id: str | None = None
    contact: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedMessage:
    """What statuses have to say about a message.

    accepted_at: epoch seconds.  recipient: digits, a user id, or a group's id.  contact: None for a group.
    pricing: see `describe_pricing`.
    """

    wamid: str
    accepted_at: float
    phone_number_id: str
    recipient: str
    tag: str | None
    pricing: dict[str, Any]
    contact: dict[str, Any] | None


def describe_status(message: AcceptedMessage, rung: Rung) -> Update:
    """A status of a message.  rung: `sent`, `delivered`, `read` or `failed`."""
    recipient, contact = message.recipient, message.contact
    status: dict[str, Any] = {
        "id": message.wamid,
        "status": rung.status,
        "timestamp": str(int(message.accepted_at + rung.after)),
    }
    if contact is None:
        status["recipient_id"] = recipient
        status["recipient_type"] = "group"
    else:
        if "wa_id" in contact:
            status["recipient_id"] = recipient
        status["recipient_user_id"] = contact["user_id"]
    if message.tag is not None:
        status["biz_opaque_callback_data"] = message.tag
    if rung.code is not None:
        status["errors"] = [describe_error(rung.code)]
        contact = None
    elif rung.is_priced:
        status["pricing"] = message.pricing
    return Update(
        field="messages", kind="statuses", item=status, phone_number_id=message.phone_number_id, contact=contact
    )


def describe_error(code: int, details: str | None = None) -> dict[str, Any]:
    """An error as webhooks write it, which is another shape than in answers."""
    known = KNOWN_ERRORS.get(code)
    title = known[1] if known else UNKNOWN_TITLE
    return {
        "code": code,
        "title": title,
        "message": title,
        "error_data": {"details": details or title},
        "href": ERRORS_PAGE,
    }


def describe_pricing(category: str, *, is_window_open: bool, at: float) -> dict[str, Any]:
    """What a message costs by the platform's policy at `at` (epoch seconds).

    category: `service` for everything that is no template, else the template's own; `group_` in front for groups.
    Until 30 Sep 2026 service messages, and utility templates within the 24 h window, are free; later nothing is.
    The monthly allowance of free service messages is left to the invoice: how it would show here is not published.
    """
    bare = category.removeprefix("group_")
    is_free = at < ALL_CHARGED_FROM and (bare == "service" or (bare == "utility" and is_window_open))
    return {
        "billable": not is_free,
        "pricing_model": "PMP",
        "type": "free_customer_service" if is_free else "regular",
        "category": category,
    }


def build_body(
    updates: Sequence[Update], *, waba_id: str, display_phone_number: str, sent_at: float, apart: bool = False
) -> bytes:
    """The bytes of one webhook.  updates: of one kind.

    Those of one number share a `value`; apart gives each a change of its own, which receivers must read as well.
    """
    groups: list[list[Update]]
    if apart or updates[0].phone_number_id is None:
        groups = [[update] for update in updates]
    else:
        by_number: dict[str | None, list[Update]] = {}
        for update in updates:
            by_number.setdefault(update.phone_number_id, []).append(update)
        groups = list(by_number.values())
    entry: dict[str, Any] = {"id": waba_id}
    if updates[0].field != "messages":
        entry["time"] = int(sent_at)
    entry["changes"] = [
        {"field": group[0].field, "value": _build_value(group, display_phone_number)} for group in groups
    ]
    return encode_body({"object": "whatsapp_business_account", "entry": [entry]})


def _build_value(group: list[Update], display_phone_number: str) -> dict[str, Any]:
    first = group[0]
    if first.phone_number_id is None:
        return first.item
    value: dict[str, Any] = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": display_phone_number, "phone_number_id": first.phone_number_id},
    }
    contacts = _each_once(update.contact for update in group)
    if contacts:
        value["contacts"] = contacts
    value[first.kind] = [update.item for update in group]
    return value


def _each_once(contacts: Iterable[dict[str, Any] | None]) -> list[dict[str, Any]]:
    return list({contact["user_id"]: contact for contact in contacts if contact is not None}.values())


def encode_body(shape: dict[str, Any]) -> bytes:
    """JSON in the platform's own spelling."""
    # A slash can only stand inside a string, so this never touches the structure.
    return _ENCODER.encode(shape).replace("/", "\\/").encode("ascii")


def sign_body(app_secret: str, raw_body: bytes) -> str:
    """The value of `X-Hub-Signature-256`: HMAC-SHA256 over exactly these bytes."""
    return "sha256=" + hmac.new(app_secret.encode(), raw_body, hashlib.sha256).hexdigest()


def draw_inbound_id(sender: str) -> str:
    """A fresh id of a message from a person, in the published shape.  sender: digits or user id."""
    name = sender.encode()[:255]
    unique = os.urandom(10).hex().upper().encode()
    packed = b"\x1c\x18" + bytes((len(name),)) + name + b"\x15\x02\x00\x12\x18\x14" + unique + b"\x00"
    return "wamid." + base64.b64encode(packed).decode()
