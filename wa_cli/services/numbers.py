"""Use case: look up whether numbers are on WhatsApp, one after the other, each at most once in 30 days."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from wa_cli.services.gateways import check_ready

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from wa_cli.domain.number import CheckedNumber
    from wa_cli.ports import Numbers
    from wa_cli.provider import Gateway

LOOK_UP_SECONDS: Final = 30.0
GAP_MS: Final = 1_000
CHUNK_ROWS: Final = 500


class Asking(Protocol):
    """Lets some calls of a gateway run.  seconds: None for as long as they take."""

    def __call__(self, work: Callable[[Gateway], Awaitable[None]], /, *, seconds: float | None) -> None: ...


def check_numbers(
    addresses: Iterable[str],
    store: Numbers,
    ask: Asking,
    *,
    instance: str,
    refresh: bool,
    gap_ms: int,
    now_ms: Callable[[], int],
    report: Callable[[str, CheckedNumber, bool], None],
) -> None:
    """Look up those of these numbers (E.164) of which it is not known.  Each is stored as soon as it is known.

    refresh: look up all of them.  gap_ms: between two look-ups.  report: is told the number, what is known of it, and
    whether it was looked up now, in order.
    Raises: Temporary and what else the gateway does; what was found out until then is kept.
    """
    source = iter(addresses)
    asked = 0

    async def look_up(gateway: Gateway, chunk: list[str]) -> None:
        nonlocal asked
        known = {} if refresh else store.find(chunk)
        for address in chunk:
            found = known.get(address)
            if found is not None and found.holds(now_ms=now_ms()):
                report(address, found, False)
                continue
            if not asked:
                await check_ready(gateway, instance=instance)
            else:
                await asyncio.sleep(gap_ms / 1000)
            asked += 1
            async with asyncio.timeout(LOOK_UP_SECONDS):
                check = await gateway.check_number(address)
            report(address, store.save(address, check, now_ms=now_ms()), True)

    async def work(gateway: Gateway) -> None:
        while chunk := list(islice(source, CHUNK_ROWS)):
            await look_up(gateway, list(dict.fromkeys(chunk)))

    ask(work, seconds=None)
