"""A session of a WAHA in the words of `wa doctor`: its address, the server behind it, and how the device stands."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from wa_cli.domain.connection import NEEDS_A_PERSON, ConnectionState
from wa_cli.domain.finding import FIX_ACCOUNT, FIX_CALL, FIX_LATER, Finding, fail, ok, warn
from wa_cli.errors import GatewayRefused, Temporary, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wa_cli.domain.connection import Connection
    from wa_cli.transports.waha.gateway import WahaGateway

ACCOUNT: Final = "account"


def inspect(gateway: WahaGateway, *, instance: str, has_secret: bool) -> list[Finding]:
    """Ask the gateway how it and the session stand; nothing is sent or changed.  Not inside a running event loop."""
    findings = []
    if not has_secret:
        findings.append(
            warn(
                ACCOUNT,
                "webhook_secret",
                "no webhook secret: receipts of this instance are not believed",
                "name the variable that holds WAHA's HMAC key",
            )
        )
    try:
        is_there, version, connection = asyncio.run(_ask(gateway))
    except UsageError as error:
        return [*findings, fail(ACCOUNT, "key", error.message, error.hint, exit_code=FIX_ACCOUNT)]
    except (Temporary, GatewayRefused) as error:
        return [*findings, fail(ACCOUNT, "unreachable", error.message, error.hint, exit_code=FIX_LATER)]
    if not is_there:
        message = "somebody answers at the url, but it is no WAHA"
        return [*findings, fail(ACCOUNT, "unreachable", message, "see the instance's url", exit_code=FIX_CALL)]
    words = ", ".join(f"{name} {version[name]}" for name in ("version", "engine") if name in version)
    findings.append(ok(ACCOUNT, "reachable", f"WAHA answers{f': {words}' if words else ''}"))
    return [*findings, _judge(connection, instance)]


async def _ask(gateway: WahaGateway) -> tuple[bool, Mapping[str, str], Connection]:
    try:
        return await gateway.ping(), await gateway.read_version(), await gateway.look()
    finally:
        await gateway.close()


def _judge(connection: Connection, instance: str) -> Finding:
    if connection.state is ConnectionState.READY:
        return ok(ACCOUNT, "session", "the linked device is connected")
    message = f"the linked device is not connected: {connection.reason or connection.raw}"
    if connection.state in NEEDS_A_PERSON:
        return fail(ACCOUNT, "session", message, f"`wa instance pair {instance}`", exit_code=FIX_ACCOUNT)
    return fail(ACCOUNT, "session", message, f"`wa instance restart {instance}`", exit_code=FIX_LATER)
