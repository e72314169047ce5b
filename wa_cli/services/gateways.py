"""Asking a gateway something from a door that waits for the answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from wa_cli.domain.connection import ConnectionState
from wa_cli.errors import Temporary
from wa_cli.services.connections import describe_loss

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wa_cli.provider import Gateway

T = TypeVar("T")


def ask(open_gateway: Callable[[], Gateway], work: Callable[[Gateway], Awaitable[T]], *, seconds: float | None) -> T:
    """What the work returns, done on a gateway that is opened for it alone.

    seconds: for all of it, or None for as long as it takes.
    Raises: what the gateway does; Temporary (code `gateway_down`) when the time is over.
    """
    return asyncio.run(ask_within(open_gateway, work, seconds=seconds))


async def ask_within(
    open_gateway: Callable[[], Gateway], work: Callable[[Gateway], Awaitable[T]], *, seconds: float | None
) -> T:
    """The same for a door that has an event loop."""
    gateway = open_gateway()
    try:
        async with asyncio.timeout(seconds):
            return await work(gateway)
    except TimeoutError as error:
        raise Temporary(
            f"the gateway has not answered within {seconds:g} s" if seconds else "the gateway has not answered in time",
            hint="look whether it runs, then try again",
            code="gateway_down",
        ) from error
    finally:
        await gateway.close()


async def check_ready(gateway: Gateway, *, instance: str) -> None:
    """Raises: NeedsPerson where the device waits for somebody, Temporary where it is not connected for now."""
    connection = await gateway.look()
    if connection.state is ConnectionState.READY:
        return
    raise describe_loss(instance, connection)
