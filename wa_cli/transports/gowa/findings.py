"""A device of GOWA in the words of `wa doctor`: its gateway, its door, its secret, and how the device stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from wa_cli.domain.connection import ConnectionState
from wa_cli.domain.finding import FIX_ACCOUNT, FIX_CALL, FIX_LATER, Finding, fail, ok, warn
from wa_cli.errors import UsageError
from wa_cli.provider import URL
from wa_cli.transports.gateway_calls import open_tls, parse_json
from wa_cli.transports.gowa.account import (
    DEFAULT_WEBHOOK_SECRET,
    check_values,
    device_of,
    headers_of,
    parse_url,
    webhook_secrets_of,
)
from wa_cli.transports.gowa.answer import read_code
from wa_cli.transports.gowa.connection import find_device, judge_device, read_flags
from wa_cli.transports.masking import mask
from wa_cli.transports.posting import find_environment_proxy

if TYPE_CHECKING:
    from wa_cli.domain.connection import Connection
    from wa_cli.provider import Account

ACCOUNT: Final = "account"
SECONDS: Final = 10.0


def inspect(account: Account, *, online: bool) -> list[Finding]:
    """online: also ask the gateway for its health and the device's state, which sends and changes nothing."""
    if not account.value(URL):
        message = f"no account yet: '{account.instance}' has no url"
        return [fail(ACCOUNT, "settings", message, "`wa instance add` asks for it", exit_code=FIX_CALL)]
    try:
        check_values(account.values)
    except UsageError as error:
        return [fail(ACCOUNT, "settings", error.message, error.hint, exit_code=FIX_CALL)]
    findings = [ok(ACCOUNT, "settings", "the gateway's address and the device have the right shape")]
    findings += _judge_words(account)
    if online:
        findings += _ask(account)
    return findings


def _judge_words(account: Account) -> list[Finding]:
    findings: list[Finding] = []
    secrets = webhook_secrets_of(account)
    if DEFAULT_WEBHOOK_SECRET in secrets:
        message = "webhooks are signed with GOWA's default secret, which everybody knows"
        fix = "give GOWA a WHATSAPP_WEBHOOK_SECRET of its own, and the same to the instance"
        findings.append(warn(ACCOUNT, "webhook_secret", message, fix))
    elif not secrets:
        message = "no webhook secret: receipts and answers are not taken in"
        findings.append(warn(ACCOUNT, "webhook_secret", message, "set webhook_secret to WHATSAPP_WEBHOOK_SECRET"))
    return findings


def _ask(account: Account) -> list[Finding]:
    import httpx

    base, device = parse_url(account.value(URL)), device_of(account)
    try:
        with httpx.Client(
            headers={**headers_of(account), "User-Agent": "wa"},
            timeout=SECONDS,
            follow_redirects=False,
            trust_env=False,
            proxy=find_environment_proxy(base),
            verify=open_tls(base),
        ) as client:
            # The one route that no base path stands before.
            health = client.get(httpx.URL(base).copy_with(path="/health"))
            listed = client.get(f"{base}/devices")
            status = client.get(f"{base}/devices/{quote(device, safe='')}/status") if listed.is_success else None
    except httpx.HTTPError as error:
        message = f"GOWA at {base} does not answer: {mask(str(error), limit=120) or type(error).__name__}"
        return [fail(ACCOUNT, "unreachable", message, "start the gateway, or correct the url", exit_code=FIX_LATER)]
    if listed.status_code in (401, 403):
        message = "GOWA refuses our user and password"
        return [fail(ACCOUNT, "gateway_key", message, "set the key to user:password", exit_code=FIX_ACCOUNT)]
    shape = parse_json(listed.content)
    if not listed.is_success or read_code(shape) is None:
        message = f"what answers at {base} is not GOWA (HTTP {listed.status_code})"
        fix = "correct the url; it has to end with the gateway's base path if that has one"
        return [fail(ACCOUNT, "gateway_url", message, fix, exit_code=FIX_CALL)]
    findings = [ok(ACCOUNT, "reachable", f"GOWA answers at {base}")]
    if not health.is_success:
        findings.append(warn(ACCOUNT, "health", f"GOWA says that it is not well (HTTP {health.status_code})"))
    return [*findings, _judge_device(account, shape, status)]


def _judge_device(account: Account, shape: Any, status: Any) -> Finding:
    device = device_of(account)
    pair = f"`wa instance pair {account.instance}`"
    entry = find_device(shape, device)
    if entry is None:
        message = f"GOWA has no device '{device}'"
        return fail(ACCOUNT, "device", message, f"{pair} makes it, and pairs it with a phone", exit_code=FIX_ACCOUNT)
    flags = read_flags(parse_json(status.content)) if status is not None and status.is_success else None
    return judge_connection(judge_device(entry, flags, was_paired=False), device, pair)


def judge_connection(connection: Connection, device: str, pair: str) -> Finding:
    """pair: what to type to pair it."""
    words = f"device '{device}' is {connection.state.value.replace('_', ' ')}"
    if connection.reason:
        words += f": {connection.reason}"
    match connection.state:
        case ConnectionState.READY:
            return ok(ACCOUNT, "device", f"device '{device}' is connected to WhatsApp")
        case ConnectionState.CONNECTING:
            return warn(ACCOUNT, "device", words, "`wa doctor` again in a minute")
        case ConnectionState.NEEDS_QR | ConnectionState.AUTH_FAILURE:
            return fail(ACCOUNT, "device", words, f"{pair} shows the code to scan", exit_code=FIX_ACCOUNT)
        case _:
            return fail(ACCOUNT, "device", words, "`wa instance restart` connects it anew", exit_code=FIX_LATER)
