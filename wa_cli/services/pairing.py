"""Linking a phone to a device: bring the session to where it can be paired, show the code, wait for the phone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from wa_cli.domain.connection import ConnectionState
from wa_cli.errors import GatewayRefused, Temporary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wa_cli.domain.connection import Connection, PairingQr
    from wa_cli.provider import Gateway

PATIENCE_SECONDS: Final = 300.0
LOOK_SECONDS: Final = 1.0
# A code that comes as text is read from a session that renews it by itself, some time within its life: it is read again
# this often.  A picture is made anew by asking for it, so the one that is shown is left to its whole life.
READ_AGAIN_SECONDS: Final = 5.0
# A session that was asked to run, and does not, is asked again after so long.
START_AGAIN_SECONDS: Final = 30.0
# How long a gateway may refuse or be away before that is the end of it: a session takes some seconds to come up.
TROUBLE_SECONDS: Final = 30.0


class PairingScreen(Protocol):
    """Where a person sees the code."""

    def show_qr(self, qr: PairingQr) -> None:
        """A code that was not shown before."""
        ...

    def show_code(self, code: str) -> None: ...

    def count_down(self, seconds: float, *, is_code: bool) -> None:
        """How long the code that is shown can still be used, or how long there is patience.  Each second."""
        ...


async def pair(
    gateway: Gateway,
    screen: PairingScreen,
    *,
    phone: str | None,
    note: Callable[[Connection], None],
    sleep: Callable[[float], Awaitable[None]],
    steady_ms: Callable[[], float],
    once: bool = False,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Connection:
    """The connection once the device is ready, however that came.

    phone: pair with a code for this number (E.164) instead of a QR code.  note: told of every look.  once: return as
    soon as a code has been shown.
    Raises: Temporary when nobody has paired it in time, or the gateway is away; GatewayRefused when it gives no code.
    """
    began = steady_ms()
    ends = began + patience_seconds * 1000
    trouble_since: float | None = None
    started_at: float | None = None
    shown: PairingQr | None = None
    has_code, is_first = False, True
    runs_out = read_at = began
    while True:
        now = steady_ms()
        try:
            found = await gateway.look()
            note(found)
            if found.state is ConnectionState.READY:
                return found
            if found.state is ConnectionState.NEEDS_QR:
                if phone is not None and not has_code:
                    screen.show_code(await gateway.request_code(phone))
                    has_code = True
                elif phone is None and now >= read_at:
                    qr = await gateway.fetch_qr()
                    now = steady_ms()
                    is_new = shown is None or (qr.text, qr.png) != (shown.text, shown.png)
                    if is_new:
                        shown, runs_out = qr, now + qr.lasts_seconds * 1000
                        screen.show_qr(qr)
                    read_at = now + min(READ_AGAIN_SECONDS, qr.lasts_seconds) * 1000 if qr.text else runs_out
                if once and (shown is not None or has_code):
                    return found
            elif found.state is not ConnectionState.CONNECTING and (
                started_at is None or now - started_at > START_AGAIN_SECONDS * 1000
            ):
                started_at = now
                await gateway.start()
            trouble_since = None
        except (Temporary, GatewayRefused):
            # A session that comes up gives no code yet, and a gateway may be restarting.
            if is_first:
                raise
            trouble_since = now if trouble_since is None else trouble_since
            if now - trouble_since > TROUBLE_SECONDS * 1000:
                raise
        is_first = False
        now = steady_ms()
        if now >= ends:
            raise Temporary(
                f"nobody has paired the phone within {patience_seconds / 60:.0f} min",
                hint="run the same command again when the phone is at hand",
                code="not_paired",
            )
        if shown is not None and runs_out > now:
            screen.count_down((runs_out - now) / 1000, is_code=True)
        else:
            screen.count_down((ends - now) / 1000, is_code=False)
        await sleep(LOOK_SECONDS)
