"""`POST /instances/ID/restart`: ask for a restart of a linked device, and answer at once (row H11)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from wa_cli.domain.connection import RestartKind
from wa_cli.errors import UsageError, WaError
from wa_cli.services.connections import take_restart
from wa_cli.services.gateways import ask_within
from wa_cli.web.health import find_instance

if TYPE_CHECKING:
    from wa_cli.bootstrap import App
    from wa_cli.provider import Gateway
    from wa_cli.web.store import StoreThread

log = logging.getLogger("wa.web")

ASK_SECONDS: Final = 30.0


class Restarts:
    """The restarts that are being asked for.  Made on the server's event loop."""

    def __init__(self, store: StoreThread) -> None:
        self._store = store
        self._asking: set[asyncio.Task[None]] = set()

    async def begin(self, word: str, kind: RestartKind) -> dict[str, Any]:
        """Note the restart and have the gateway asked for it behind the caller's back.

        Raises: NotFound; UsageError for an instance without a device; Refused when the window is full.
        """

        def prepare(app: App) -> tuple[str, Gateway, dict[str, Any]]:
            instance = find_instance(app, word)
            if not app.provider(instance).capabilities.is_linked_device:
                raise UsageError(
                    f"'{instance.name}' has no device to restart",
                    hint="this is for instances behind a gateway",
                    code="no_device",
                )
            terms = app.ladder_terms(instance)
            gateway = app.gateway(instance)
            left = take_restart(app.instances, instance, kind, terms, now_ms=app.clock.wall_ms())
            answer = {
                "success": True,
                "message": f"{kind} restart of {instance.name} asked for",
                "instance": instance.name,
                "type": kind.value,
                "restartsLeft": left,
                "windowMinutes": round(terms.window_ms / 60_000),
            }
            return instance.name, gateway, answer

        name, gateway, answer = await self._store.run(prepare)
        task = asyncio.create_task(_ask(name, gateway, kind), name=f"restart {name}")
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        return answer

    async def close(self) -> None:
        """Wait for what was begun: a hard restart that is cut off half-way leaves the device stopped."""
        if self._asking:
            await asyncio.wait(self._asking, timeout=ASK_SECONDS)


async def _ask(name: str, gateway: Gateway, kind: RestartKind) -> None:
    try:
        await ask_within(lambda: gateway, lambda opened: opened.restart(kind), seconds=ASK_SECONDS)
    except WaError as error:
        log.warning("the gateway of '%s' did not take the %s restart: %s", name, kind, error.message)
    except Exception:
        log.exception("a restart of '%s' failed in an unforeseen way", name)
