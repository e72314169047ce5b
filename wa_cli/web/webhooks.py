"""The address that webhooks come to (rows Q4, Q5): judged by the raw bytes, on the disk before the answer, read after.

What a body says is nothing to this module.  Whoever sends one hears only whether it was kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from starlette.responses import PlainTextResponse, Response

from wa_cli.errors import StorageError, Temporary
from wa_cli.services.webhooks import WebhookInbox, prune
from wa_cli.web.errors import Forbidden, Unauthorized
from wa_cli.web.listening import is_loopback
from wa_cli.web.reading import WEBHOOK_BYTES, WEBHOOK_SECONDS, Budget, read_body

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from wa_cli.bootstrap import App
    from wa_cli.ports import NewWebhook, WebhookReader
    from wa_cli.services.webhooks import ReadSums
    from wa_cli.web.store import StoreThread

log = logging.getLogger("wa.web")

PATH: Final = "/api/webhooks/whatsapp/status"
PROVIDER: Final = "cloud_api"
SIGNATURE: Final = "x-hub-signature-256"
# A proxy on this machine makes every caller look like one of this machine; these headers give it away.
FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via", "cf-connecting-ip")
RECEIVED: Final = b'{"received":true}'
HINT_SECONDS: Final = 60.0

# One reading may keep the store from others for about so long, whatever the size of what waits.
SLICE_SECONDS: Final = 0.2
FIRST_SLICE: Final = 50
MOST_A_SLICE: Final = 500
# A look now and then, since another process may have put something back (`wa webhook replay`).
LOOK_SECONDS: Final = 30.0
TROUBLE_SECONDS: Final = 2.0
PRUNE_SECONDS: Final = 3600.0


class WebhookDoor:
    """Takes webhooks for one server.  Made on its event loop."""

    def __init__(self, store: StoreThread, reader: WebhookReader) -> None:
        settings = store.app.settings
        self._store = store
        self._reader = reader
        self._has_secret = bool(settings.text("WHATSAPP_APP_SECRET"))
        self._takes_unsigned = settings.text("WA_UNSIGNED_WEBHOOKS") == "loopback"
        self._news = asyncio.Event()
        self._news.set()  # something may be left of the last time
        self._hinted_at = float("-inf")
        self._budget = Budget()
        self._inbox = WebhookInbox(
            webhooks=_Kept(store.app),  # type: ignore[arg-type]  # of the store the inbox asks for `append` alone
            executor=store.executor,
            clock=store.app.clock,
            on_stored=self._news.set,
        )

    def answer_challenge(self, request: Request) -> Response:
        """Meta's check of the address: its own word back, or 403."""
        word = self._reader.answer_challenge(dict(request.query_params))
        if word is None:
            self._hint("a check of the webhook address was refused: WHATSAPP_VERIFY_TOKEN is not what the caller said")
            raise Forbidden("this is not the check of an address that this server knows", hint=None)
        return PlainTextResponse(word, headers={"X-Content-Type-Options": "nosniff"})

    async def take(self, request: Request) -> Response:
        """Keep one body.  It is on the disk when this returns."""
        signature = self._check_head(request)
        body = await read_body(request, most=WEBHOOK_BYTES, seconds=WEBHOOK_SECONDS, budget=self._budget)
        if self._has_secret and not self._reader.is_genuine(body, signature):
            self._hint("a webhook was refused: its signature is not by WHATSAPP_APP_SECRET")
            raise Forbidden("the signature does not fit the body", hint=None)
        await self._inbox.accept(body, is_signed=self._has_secret, provider=PROVIDER)
        return Response(RECEIVED, media_type="application/json")

    def _check_head(self, request: Request) -> str | None:
        """The signature, before the body is read.  Raises: Unauthorized without one, Forbidden without a secret."""
        if self._has_secret:
            signatures = request.headers.getlist(SIGNATURE)
            if len(signatures) != 1:
                raise Unauthorized("a webhook needs one X-Hub-Signature-256", hint=None)
            return signatures[0]
        if self._takes_unsigned and comes_from_here(request):
            return None
        how = " or WA_UNSIGNED_WEBHOOKS=loopback to try it on this machine" if not self._takes_unsigned else ""
        self._hint(f"a webhook was refused: set WHATSAPP_APP_SECRET to the secret of your app,{how}")
        raise Forbidden("this server takes no webhooks that nobody has signed", hint=None)

    def _hint(self, words: str) -> None:
        """A line about what to set, once a minute: the refusals themselves stand in the log anyway."""
        now = time.monotonic()
        if now - self._hinted_at >= HINT_SECONDS:
            self._hinted_at = now
            log.warning("%s", words)

    # --- afterwards ---

    async def read(self) -> None:
        """Read what waits, whenever there is any, until cancelled.  Trouble passes; what was not read still waits."""
        while True:
            try:
                await self._read_on()
            except (Temporary, StorageError) as error:
                log.warning("webhooks wait to be read: %s", error.message)
            except Exception:  # whatever it is, receipts must not stop for good
                log.exception("a bug in wa, at the reading of webhooks")
            await asyncio.sleep(TROUBLE_SECONDS)

    async def _read_on(self) -> None:
        limit = FIRST_SLICE
        pruned_at = float("-inf")
        while True:
            self._news.clear()
            began = time.monotonic()
            sums = await self._store.run(partial(_read_some, limit=limit))
            took = time.monotonic() - began
            if sums.webhooks:
                log.debug("%d webhooks read, %d events", sums.webhooks, sums.events)
            if time.monotonic() - pruned_at > PRUNE_SECONDS:
                pruned_at = time.monotonic()
                await self._store.run(_prune)
            # A slice grows and shrinks with what the bodies hold, so that a request between two of them waits little.
            if took > SLICE_SECONDS:
                limit = max(limit // 2, 1)
            elif sums.webhooks >= limit and took < SLICE_SECONDS / 2:
                limit = min(limit * 2, MOST_A_SLICE)
            if not sums.webhooks:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), LOOK_SECONDS)

    async def close(self) -> None:
        await self._inbox.close()


class _Kept:
    """The store's way in for webhooks, which first makes sure that the file is still the one that was opened."""

    def __init__(self, app: App) -> None:
        self._app = app

    def append(self, arrived: Sequence[NewWebhook]) -> list[int]:
        self._app.database.check_still_there()
        ids = self._app.webhooks.append(arrived)
        self._app.database.check_still_there()
        return ids


def _read_some(app: App, *, limit: int) -> ReadSums:
    return app.read_webhooks(limit=limit)


def _prune(app: App) -> int:
    return prune(app.webhooks, days=app.settings.count("WA_WEBHOOK_DAYS"), now_ms=app.clock.wall_ms())


def comes_from_here(request: Request) -> bool:
    """Whether the caller is a program of this machine, and no proxy that speaks for somebody else."""
    if request.client is None or any(name in request.headers for name in FORWARDED):
        return False
    return is_loopback(request.client.host.removeprefix("::ffff:"))
