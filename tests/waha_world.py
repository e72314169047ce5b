"""A WAHA for tests: the sandbox on a free port with one session, and the account of an instance that uses it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from wa_cli.provider import Account
from wa_cli.sandbox import Sandbox, SandboxSettings
from wa_cli.sandbox.devices import DeviceGroup

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from wa_cli.provider import Files
    from wa_cli.sandbox.devices import Device

INSTALL: Final = "4f7h2k9q"
KEY: Final = "canary-waha-key-0123456789"
SECRET: Final = "canary-waha-hmac-0123456789"
NUMBER: Final = "15550783881"
ADA, BOB = "15550100123", "15550100124"
RUNNERS: Final = DeviceGroup(group_id="120363041234567890@g.us", name="Runners", participants=(ADA, BOB))
NEWS: Final = DeviceGroup(group_id="120363049999999999@g.us", name="News", participants=(ADA,), is_announcement=True)


@asynccontextmanager
async def waha_running(
    *, is_paired: bool = True, files: Files | None = None, **settings: Any
) -> AsyncIterator[tuple[Sandbox, Account]]:
    """The sandbox with the session `shop`, which works unless `is_paired` is False, and an account for `waha`.

    settings: of the sandbox, beside ones that make everybody read everything at once.
    """
    standard = {
        "gateway_key": KEY,
        "ladder_speed": 0,
        "read_share": 1,
        "undelivered_share": 0,
        "delivered_skipped_share": 0,
    }
    async with Sandbox(SandboxSettings(**{**standard, **settings})) as sandbox:
        device = sandbox.devices.add("shop", number=NUMBER, is_paired=is_paired, groups=(RUNNERS, NEWS))
        sandbox.devices.start(device)
        yield sandbox, make_account(sandbox.url, files=files)


def make_account(url: str, *, files: Files | None = None, **changes: str) -> Account:
    """The account of instance 7, `shop`.  changes: values; "" leaves one out."""
    values = {"url": url, "session": "shop", "key": KEY, "webhook_secret": SECRET} | changes
    return Account(
        instance_id=7,
        instance="shop",
        values={name: value for name, value in values.items() if value},
        install=INSTALL,
        concurrency=4,
        read_timeout_seconds=20.0,
        files=files,
    )


def shop(sandbox: Sandbox) -> Device:
    device = sandbox.devices.find("shop")
    assert device is not None
    return device
