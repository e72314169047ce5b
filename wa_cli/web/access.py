"""One line in the log for each request, with every number masked (promise P11), and a count of the answers."""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import ClientDisconnect

from wa_cli.domain.recipient import show_text

if TYPE_CHECKING:
    from collections import Counter

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("wa.web")

# Asked for every few seconds by machines, or hundreds of times a second: shown with --verbose, or when they fail.
QUIET: Final = ("/metrics", "/health/whatsapp", "/api/webhooks/whatsapp/status")
_NUMBER: Final = re.compile(r"\d{7,}")


def show_safely(words: str) -> str:
    """Words from outside for the log: one line, no whole number in it."""
    return _NUMBER.sub(lambda found: "…" + found[0][-4:], show_text(words, limit=120))


class AccessLog:
    """Around the application.  counts: where the answers are counted, by method, route and status."""

    def __init__(self, application: ASGIApp, counts: Counter[tuple[str, str, int]]) -> None:
        self._application = application
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._application(scope, receive, note)
        except ClientDisconnect:
            log.debug("%s %s: the caller left", scope["method"], show_safely(scope["path"]))
            return
        except Exception:  # the answer was given; what is left is to say what happened
            log.exception("a bug in wa, at %s %s", scope["method"], show_safely(scope["path"]))
        # Paths are shown without their queries, which may hold a secret.
        milliseconds = round((time.perf_counter() - began) * 1000)
        route = getattr(scope.get("route"), "path", "other")
        self._counts[scope["method"] if route != "other" else "other", route, status] += 1
        self._log(scope, status, milliseconds)

    def _log(self, scope: Scope, status: int, milliseconds: int) -> None:
        caller: Any = scope.get("wa.caller")
        level = logging.WARNING if status >= 500 else logging.INFO
        if scope["path"] in QUIET and status < 400:
            level = logging.DEBUG
        log.log(
            level,
            "%s %s %d in %d ms%s",
            scope["method"],
            show_safely(scope["path"]),
            status,
            milliseconds,
            f" ({show_safely(caller.actor)})" if caller is not None else "",
        )
