"""What every request passes: one line in the log, with every number masked (promise P11), and a count of answers."""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import ClientDisconnect, Request

from wa_cli.domain.link import PATH as LINKS
from wa_cli.domain.recipient import show_text
from wa_cli.errors import WaError
from wa_cli.web.errors import answer_bug, answer_error
from wa_cli.web.webhooks import INSTANCES_PATH
from wa_cli.web.webhooks import PATH as WEBHOOKS

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from wa_cli.web.application import Web

log = logging.getLogger("wa.web")

# Asked for every few seconds by machines, or hundreds of times a second: shown with --verbose, or when they fail.
QUIET: Final = ("/metrics", "/health/whatsapp", WEBHOOKS)
_NUMBER: Final = re.compile(r"\d{7,}")


def show_safely(words: str) -> str:
    """Words from outside for the log: one line, no whole number in it."""
    return _NUMBER.sub(lambda found: "…" + found[0][-4:], show_text(words, limit=120))


def show_path(path: str) -> str:
    """A path for the log.  A short link's token stands for a person: whoever reads it could click in their name."""
    return LINKS + "…" if path.startswith(LINKS) else show_safely(path)


class Front:
    """Around the application: the log, the count of the answers, and the short way for webhooks."""

    def __init__(self, application: ASGIApp, web: Web) -> None:
        self._application = application
        self._web = web

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

        route = WEBHOOKS if scope["path"] == WEBHOOKS and scope["method"] == "POST" else None
        try:
            if route is None:
                await self._application(scope, receive, note)
            else:
                await self._take_webhook(scope, receive, note)
        except ClientDisconnect:
            log.debug("%s %s: the caller left", scope["method"], show_path(scope["path"]))
            return
        except Exception:  # the answer was given; what is left is to say what happened
            log.exception("a bug in wa, at %s %s", scope["method"], show_path(scope["path"]))
        # Paths are shown without their queries, which may hold a secret.
        milliseconds = round((time.perf_counter() - began) * 1000)
        shown = route or str(getattr(scope.get("route"), "path_format", "other"))
        self._web.requests[scope["method"] if shown != "other" else "other", shown, status] += 1
        self._log(scope, status, milliseconds)

    async def _take_webhook(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The same as by the router, whose way costs as much as keeping a webhook; hundreds may come in a second."""
        assert self._web.webhooks is not None
        try:
            answer = await self._web.webhooks.take(Request(scope, receive))
        except WaError as error:
            answer = answer_error(error)
        except ClientDisconnect:
            raise
        except Exception:
            await answer_bug()(scope, receive, send)
            raise
        await answer(scope, receive, send)

    def _log(self, scope: Scope, status: int, milliseconds: int) -> None:
        caller: Any = scope.get("wa.caller")
        level = logging.WARNING if status >= 500 else logging.INFO
        if (scope["path"] in QUIET or scope["path"].startswith((LINKS, INSTANCES_PATH))) and status < 400:
            level = logging.DEBUG
        log.log(
            level,
            "%s %s %d in %d ms%s",
            scope["method"],
            show_path(scope["path"]),
            status,
            milliseconds,
            f" ({show_safely(caller.actor)})" if caller is not None else "",
        )
