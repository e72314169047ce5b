"""A played GOWA and an account of it: what every test of the transport `gowa` begins with."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from wa_cli.provider import KEY, SESSION, URL, WEBHOOK_SECRET, Account
from wa_cli.sandbox import Sandbox, SandboxSettings
from wa_cli.sandbox.devices import Device, DeviceGroup

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from wa_cli.provider import Files

OWN_NUMBER = "15550783881"
GROUP = DeviceGroup(group_id="120363025982934543@g.us", name="Runners", participants=("15550100001", "15550100002"))
SECRET = "a-webhook-secret"


def gowa_account(
    url: str,
    *,
    session: str = "shop",
    key: str = "",
    secret: str = SECRET,
    files: Files | None = None,
    read_timeout_seconds: float = 60.0,
) -> Account:
    """An account of the GOWA at this address."""
    given = {URL: url, SESSION: session, KEY: key, WEBHOOK_SECRET: secret}
    return Account(
        instance_id=7,
        instance="shop",
        values={name: value for name, value in given.items() if value},
        install="abc",
        concurrency=4,
        read_timeout_seconds=read_timeout_seconds,
        files=files,
    )


def add_paired(sandbox: Sandbox, name: str = "shop") -> Device:
    """A device that works and is in one group."""
    device = sandbox.devices.add(name, number=OWN_NUMBER, is_paired=True, groups=[GROUP])
    sandbox.devices.start(device)
    return device


@asynccontextmanager
async def playing_gowa(
    settings: SandboxSettings | None = None, *, is_paired: bool = True, files: Files | None = None
) -> AsyncIterator[tuple[Sandbox, Account]]:
    """A running sandbox, and the account of its device `shop`.  is_paired: the device is there and works."""
    settings = settings or SandboxSettings(ladder_speed=0, read_share=1.0, undelivered_share=0, webhook_duplicates=0)
    async with Sandbox(settings) as sandbox:
        if is_paired:
            add_paired(sandbox)
        yield sandbox, gowa_account(sandbox.url, key=settings.gateway_key, files=files)
