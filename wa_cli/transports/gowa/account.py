"""What an account of GOWA says: where the gateway is, which device of it is meant, and what opens its door."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final

from wa_cli.errors import UsageError
from wa_cli.provider import KEY, SESSION, URL, WEBHOOK_SECRET
from wa_cli.transports.gateway_calls import parse_gateway_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wa_cli.provider import Account

DEFAULT_DEVICE: Final = "default"
DEFAULT_WEBHOOK_SECRET: Final = "secret"  # noqa: S105  # what GOWA signs with until it is told another word
DEVICE_HEADER: Final = "X-Device-Id"
_DEVICE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:\-]{0,99}", re.ASCII)
_SHORTEST_MASKED: Final = 4  # a shorter password would black out half of every word


def check_values(values: Mapping[str, str]) -> None:
    """Raises: UsageError for an address, a device or a key that cannot be meant."""
    if values.get(URL):
        parse_url(values[URL])
    device = values.get(SESSION)
    if device and not _DEVICE.fullmatch(device):
        raise UsageError(
            "the device's id is made of letters, digits and . _ - @ :", hint="such as default", code="session"
        )
    key = values.get(KEY)
    if key and (":" not in key or not key.partition(":")[0] or not key.isprintable()):
        raise UsageError(
            "GOWA's key is a user and a password with a colon in between",
            hint="user:password, as APP_BASIC_AUTH has it",
            code="gateway_key",
        )


def parse_url(url: str) -> str:
    """Where the gateway is, with its base path and without a final slash.  Raises: UsageError."""
    return parse_gateway_url(url, example="http://127.0.0.1:3000")


def device_of(account: Account) -> str:
    return account.value(SESSION) or DEFAULT_DEVICE


def headers_of(account: Account) -> dict[str, str]:
    """The device is always named: with two of them GOWA would ask which, and with one it would not ask."""
    headers = {DEVICE_HEADER: device_of(account)}
    key = account.value(KEY)
    if key:
        headers["Authorization"] = "Basic " + base64.b64encode(key.encode()).decode()
    return headers


def secrets_of(account: Account) -> tuple[str, ...]:
    """The words that may appear nowhere."""
    key = account.value(KEY)
    parts = [key, base64.b64encode(key.encode()).decode(), key.partition(":")[2], *webhook_secrets_of(account)]
    return tuple(part for part in parts if len(part) >= _SHORTEST_MASKED and part != DEFAULT_WEBHOOK_SECRET)


def webhook_secrets_of(account: Account) -> tuple[str, ...]:
    """The secret that signs, or the new one and the old one while it is changed."""
    return tuple(secret.strip() for secret in account.value(WEBHOOK_SECRET).split(",") if secret.strip())
