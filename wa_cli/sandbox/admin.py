"""The sandbox's own API under `/sandbox/`: read the ledger, queue faults, turn knobs.  Imitates nothing.

    GET  /sandbox/ledger     {"entries": [...], "last_seq": N}; ?after=SEQ, ?limit=N, ?verdict=accepted, and
                             ?wait=SECONDS to hold the answer until an entry after SEQ exists
    GET  /sandbox/stats      counts over the entries in memory, see `ledger.summarise`
    GET  /sandbox/magic      the endings that mean something
    GET  /sandbox/settings   the knobs as they stand (without the token and the two webhook secrets)
    POST /sandbox/settings   {"throughput_per_second": 0, "chaos": {"cut_body": 0.01}, ...}; names of `SandboxSettings`
    POST /sandbox/faults     {"fault": "reject:131026", "times": 3, "recipient": "15550100123"}, or a list of such
    GET  /sandbox/media      {"media": [...]}: the uploads, each with id, mime_type, size, sha256, expires_at
    POST /sandbox/media/expire  {"id": "1013..."}, or {} for all: from now on they are too old, as after 30 days
    POST /sandbox/reset      forget entries, queued faults, webhooks, people, devices and everything measured

The rest is for a receiver of webhooks, and needs the setting `webhook_url`:

    POST /sandbox/webhook/verify      ask the receiver for the challenge: {"verified", "http_status", "reason"};
                                      {"verify_token": "wrong"} asks with another token
    POST /sandbox/inbound             somebody writes: {"from": "15550100123", "text": "STOP"}, or a list of such; see
                                      `inbound` for buttons, replies, reactions, media.  Answers {"message_ids": [...]}
    POST /sandbox/preferences         {"from": "15550100123", "value": "stop"}, or "resume", or a list of such
    POST /sandbox/events              {"field": "account_update", "value": {...}} as it is, or a list of such
    GET  /sandbox/deliveries          {"deliveries": [...], "last_seq": N, "updates_waiting": N}, each with seq, kind,
                                      attempts, last_status, delivered_at, ...; ?after=SEQ, ?limit=N, ?kind=statuses,
                                      ?bodies=1 to see the bodies; ?wait=SECONDS to hold the answer until a delivery
                                      after SEQ exists, with ?until=quiet until nothing waits to be delivered any more
    POST /sandbox/deliveries/replay   {"seq": 7, "times": 2}: the same bytes again

Devices that gateways keep linked, whichever gateway it is:

    GET  /sandbox/devices             {"devices": [...], "absent": [...], "updates_waiting": N}: state, QR code, groups
    POST /sandbox/devices             {"name": "shop", "number": "15550783881", "paired": true, "start": true,
                                      "groups": [{"id": "1203...@g.us", "name": "Runners", "participants": ["1555..."],
                                      "announcement": false}]}: makes it, or changes what is named
    POST /sandbox/devices/NAME        {"do": "scan"}: somebody scans its QR code; or "start", "stop", "restart", "fail",
                                      "log_out", "renew_qr", "lose" ({"seconds": 5}: back by itself after that),
                                      "restrict" ({"seconds": 3600}: nobody new may be written to until then)
    POST /sandbox/devices/NAME/inbound  {"from": "15550100123", "text": "STOP", "group": null}: somebody writes to it
    POST /sandbox/absent              {"numbers": ["15550100123"]}: these are not on WhatsApp

A call that cannot be understood is answered 400 with {"error": {"message", "hint"}} and changes nothing.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import MISSING, asdict, fields, replace
from typing import TYPE_CHECKING, Any

from wa_cli.errors import UsageError, WaError
from wa_cli.sandbox.device_admin import answer_devices
from wa_cli.sandbox.faults import MAGIC_NUMBERS, parse_fault
from wa_cli.sandbox.ledger import summarise
from wa_cli.sandbox.settings import (
    FIXED_ONCE_RUNNING,
    SECRETS,
    NumberState,
    SandboxSettings,
    SandboxTemplate,
    TemplateStatus,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wa_cli.sandbox.media import StoredMedia
    from wa_cli.sandbox.server import Sandbox

_LONGEST_WAIT_SECONDS = 60.0
_NOT_SHOWN = SECRETS | {"clock"}


async def answer_admin(
    sandbox: Sandbox, method: str, path: str, query: Mapping[str, str], raw_body: bytes
) -> tuple[int, dict[str, Any]]:
    """HTTP status and JSON shape for one admin call."""
    try:
        match method, path.removeprefix("/sandbox").strip("/"):
            case "GET", "ledger":
                return 200, await _read_ledger(sandbox, query)
            case "GET", "stats":
                return 200, {
                    **summarise(sandbox.ledger),
                    "faults_waiting": sandbox.scripted_faults,
                    "updates_waiting": sandbox.updates_waiting,
                }
            case "GET", "magic":
                return 200, {"magic": list_magic()}
            case "GET", "settings":
                return 200, {"settings": describe_settings(sandbox.settings)}
            case "POST", "settings":
                sandbox.apply(read_settings(sandbox.settings, _read_json(raw_body)))
                return 200, {"settings": describe_settings(sandbox.settings)}
            case "POST", "faults":
                return 200, _queue_faults(sandbox, _read_json(raw_body))
            case "GET", "media":
                return 200, {"media": [_describe_media(one) for one in sandbox.media.list_all()]}
            case "POST", "media/expire":
                return 200, {"expired": _expire_media(sandbox, _read_json(raw_body))}
            case "POST", "reset":
                sandbox.reset()
                return 200, {"last_seq": sandbox.last_seq}
            case "POST", "webhook/verify":
                return 200, await _verify(sandbox, raw_body)
            case "POST", "inbound":
                return 200, {"message_ids": sandbox.receive(_read_json(raw_body))}
            case "POST", "preferences":
                return 200, {"updates": sandbox.receive_preferences(_read_json(raw_body))}
            case "POST", "events":
                return 200, {"updates": sandbox.receive_events(_read_json(raw_body))}
            case "GET", "deliveries":
                return 200, await _read_deliveries(sandbox, query)
            case "POST", "deliveries/replay":
                return 200, _replay(sandbox, _read_json(raw_body))
            case _, "devices" | "absent":
                return answer_devices(sandbox, method, path, b"" if method == "GET" else raw_body)
            case "POST", name if name.startswith("devices/"):
                return answer_devices(sandbox, method, path, raw_body)
            case _:
                return 404, {"error": {"message": f"no {method} {path} here", "hint": "see GET /sandbox/settings"}}
    except WaError as error:
        return 400, {"error": {"message": error.message, "hint": error.hint}}


def _describe_media(media: StoredMedia) -> dict[str, Any]:
    shape = asdict(media)
    return {"id": shape.pop("media_id"), **shape}


def _expire_media(sandbox: Sandbox, order: object) -> int:
    media_id = order.get("id") if isinstance(order, dict) else 0
    if media_id is not None and not isinstance(media_id, str):
        raise UsageError("an upload has an id, or all are meant", hint='{"id": "1013859600285441"} or {}')
    return sandbox.media.expire(media_id)


def list_magic() -> list[dict[str, str]]:
    """The magic endings as rows: ending, fault, meaning."""
    return [{"ending": magic.ending, "fault": str(magic.fault), "meaning": magic.meaning} for magic in MAGIC_NUMBERS]


def describe_settings(settings: SandboxSettings) -> dict[str, Any]:
    """The settings as JSON; the secrets and the clock function are left out."""
    shape: dict[str, Any] = {}
    for item in fields(settings):
        value = getattr(settings, item.name)
        if item.name in _NOT_SHOWN:
            continue
        if item.name == "templates":
            value = [asdict(template) for template in value]
        elif isinstance(value, frozenset):
            value = sorted(value)
        elif isinstance(value, tuple):
            value = list(value)
        elif item.name == "ledger_path":
            value = None if value is None else str(value)
        elif item.name == "chaos":
            value = dict(value)
        shape[item.name] = value
    return shape


def read_settings(settings: SandboxSettings, changes: object, *, is_running: bool = True) -> SandboxSettings:
    """The settings with changes from JSON.

    is_running: what needs a restart is refused.  Raises: UsageError on an unknown name or a value of another type.
    """
    if not isinstance(changes, dict):
        raise UsageError("settings come as an object", hint='{"throughput_per_second": 0}')
    known = {item.name: item for item in fields(settings)}
    read: dict[str, Any] = {}
    for name, value in changes.items():
        if name not in known or name == "clock":
            raise UsageError(f"the sandbox has no setting '{name}'", hint="GET /sandbox/settings lists them")
        if is_running and name in FIXED_ONCE_RUNNING:
            raise UsageError(f"{name} cannot change while the sandbox runs", hint="start another sandbox")
        try:
            read[name] = _read_value(name, value, known[name].default)
        except (TypeError, ValueError, KeyError, AttributeError):
            shown = "that" if name in SECRETS else json.dumps(value)
            raise UsageError(f"{name} does not take {shown}", hint="GET /sandbox/settings shows it") from None
    return replace(settings, **read)


def read_assignments(settings: SandboxSettings, pairs: Iterable[str]) -> SandboxSettings:
    """The settings with changes such as `read_share=1` or `other_phone_number_ids=["2"]`; the value is JSON, or text.

    Raises: UsageError, also for a secret: what stands in a command line is there for everybody to read.
    """
    changes: dict[str, Any] = {}
    for pair in pairs:
        name, separator, written = pair.partition("=")
        if not separator:
            raise UsageError(f"'{pair}' sets nothing", hint="write NAME=VALUE, read_share=1")
        if name in SECRETS:
            raise UsageError(f"{name} cannot be set by a flag of this kind", hint="--help lists the flag for it")
        try:
            changes[name] = json.loads(written)
        except (ValueError, RecursionError):
            changes[name] = written
    return read_settings(settings, changes, is_running=False)


def _read_value(name: str, value: Any, default: Any) -> Any:
    match name:
        case "number_state":
            return NumberState(value)
        case "templates":
            return tuple(_read_template(template) for template in value)
        case "chaos":
            return {str(spelling): float(probability) for spelling, probability in value.items()}
        case "allowed_recipients":
            return None if value is None else frozenset(_read_texts(value))
        case "group_ids":
            return frozenset(_read_texts(value))
        case "other_phone_number_ids":
            return tuple(_read_texts(value))
        case "ledger_path" | "ledger_keep":
            # Paths and None have flags of their own.
            raise TypeError(name)
        case "webhook_url":
            if value is not None and not isinstance(value, str):
                raise TypeError(name)
            return value
        case "sent_after_seconds" | "delivered_after_seconds" | "read_after_seconds":
            least, most = value
            return _read_number(least, float), _read_number(most, float)
        case "retry_after_seconds" | "token_expires_after":
            return None if value is None else _read_number(value, int)
        case "device_scan_seconds":
            return None if value is None else _read_number(value, float)
    if default is MISSING or isinstance(default, bool | str):
        if type(value) is not type(default):
            raise TypeError(name)
        return value
    return _read_number(value, type(default))


def _read_template(given: dict[str, Any]) -> SandboxTemplate:
    buttons = given.get("buttons", [])
    for button in buttons:
        if not isinstance(button["type"], str):
            raise TypeError(button)
    words = {name: value for name, value in given.items() if name not in ("status", "buttons")}
    if not all(isinstance(value, str) for value in words.values()):
        raise TypeError(given)
    return SandboxTemplate(**words, status=TemplateStatus(given.get("status", "APPROVED")), buttons=tuple(buttons))


def _read_number(value: Any, kind: type[Any]) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(value)
    if kind is int and value != int(value):
        raise ValueError(value)
    return kind(value)


def _read_texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise TypeError(value)
    return value


async def _read_ledger(sandbox: Sandbox, query: Mapping[str, str]) -> dict[str, Any]:
    after = _read_query_number(query, "after", 0)
    limit = _read_query_number(query, "limit", 0)
    wait = _read_query_number(query, "wait", 0)
    if wait:
        try:
            async with asyncio.timeout(min(wait, _LONGEST_WAIT_SECONDS)):
                await sandbox.wait_for_posts(int(after) + 1)
        except TimeoutError:
            pass
    verdict = query.get("verdict")
    entries = [
        entry.as_json()
        for entry in sandbox.ledger
        if entry.seq > after and (verdict is None or entry.verdict == verdict)
    ]
    return {"entries": entries[: int(limit)] if limit else entries, "last_seq": sandbox.last_seq}


async def _verify(sandbox: Sandbox, raw_body: bytes) -> dict[str, Any]:
    order = _read_json(raw_body) if raw_body.strip() else {}
    token = order.get("verify_token") if isinstance(order, dict) else 0
    if token is not None and not (isinstance(token, str) and token):
        raise UsageError("verify_token is text", hint='{"verify_token": "another one"}, or no body at all')
    return await sandbox.verify_webhook(token)


async def _read_deliveries(sandbox: Sandbox, query: Mapping[str, str]) -> dict[str, Any]:
    after = int(_read_query_number(query, "after", 0))
    limit = int(_read_query_number(query, "limit", 0))
    wait = _read_query_number(query, "wait", 0)
    until = query.get("until", "next")
    if until not in ("next", "quiet"):
        raise UsageError(f"until={until} is nothing to wait for", hint="?wait=10&until=quiet")
    if wait:
        try:
            async with asyncio.timeout(min(wait, _LONGEST_WAIT_SECONDS)):
                await (sandbox.wait_until_quiet() if until == "quiet" else sandbox.wait_for_deliveries(after + 1))
        except TimeoutError:
            pass
    kind, with_body = query.get("kind"), query.get("bodies", "") not in ("", "0")
    found = [one for one in sandbox.deliveries if one.seq > after and (kind is None or one.kind == kind)]
    return {
        "deliveries": [one.as_json(with_body=with_body) for one in (found[:limit] if limit else found)],
        "last_seq": sandbox.last_delivery_seq,
        "updates_waiting": sandbox.updates_waiting,
    }


def _replay(sandbox: Sandbox, order: object) -> dict[str, Any]:
    if not isinstance(order, dict) or not _is_count(order.get("seq")):
        raise UsageError("a replay names the delivery", hint='{"seq": 7}')
    times = order.get("times", 1)
    if not _is_count(times) or times > 10_000:
        raise UsageError(f"times cannot be {json.dumps(times)}", hint="times is 1 or more")
    return {"replayed_as": [copy.seq for copy in sandbox.replay(order["seq"], times=times)]}


def _is_count(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 1


def _read_query_number(query: Mapping[str, str], name: str, otherwise: float) -> float:
    try:
        number = float(query.get(name, otherwise))
    except ValueError:
        number = -1
    if not 0 <= number < 1e15:
        raise UsageError(f"{name}={query.get(name)} is not a number from 0", hint=f"?{name}=10")
    return number


def _queue_faults(sandbox: Sandbox, orders: object) -> dict[str, Any]:
    listed = orders if isinstance(orders, list) else [orders]
    read = []
    for order in listed:
        if not isinstance(order, dict) or not isinstance(order.get("fault"), str):
            raise UsageError("a fault comes as an object", hint='{"fault": "reject:131026", "times": 1}')
        times, recipient = order.get("times", 1), order.get("recipient")
        if not isinstance(times, int) or isinstance(times, bool) or not 1 <= times <= 1_000_000:
            raise UsageError(f"times cannot be {json.dumps(times)}", hint="times is 1 or more")
        if recipient is not None and not isinstance(recipient, str):
            raise UsageError("recipient is text", hint='"recipient": "15550100123"')
        read.append((parse_fault(order["fault"]), times, recipient))
    for fault, times, recipient in read:
        sandbox.inject(fault, times=times, recipient=recipient)
    return {"faults_waiting": sandbox.scripted_faults}


def _read_json(raw_body: bytes) -> object:
    try:
        shape: object = json.loads(raw_body)
    except (ValueError, RecursionError):
        raise UsageError("the body is not JSON", hint="send one JSON document") from None
    return shape
