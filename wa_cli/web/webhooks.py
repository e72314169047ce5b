"""The address that webhooks come to (rows Q4, Q5): judged by the raw bytes, on the disk before the answer, read after.

What a body says is nothing to this module.  Whoever sends one hears only whether it was kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from starlette.responses import PlainTextResponse, Response

from wa_cli.accounts import DEFAULT_INSTANCE
from wa_cli.domain.recipient import show_text
from wa_cli.errors import NotFound, StorageError, Temporary, WaError
from wa_cli.provider import KEY, WEBHOOK_SECRET
from wa_cli.services.webhooks import WebhookInbox, prune
from wa_cli.web.errors import Forbidden, Unauthorized
from wa_cli.web.listening import is_loopback
from wa_cli.web.reading import WEBHOOK_BYTES, WEBHOOK_SECONDS, Budget, read_body

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from wa_cli.bootstrap import App
    from wa_cli.ports import Instance, NewWebhook, WebhookReader
    from wa_cli.services.webhooks import ReadSums
    from wa_cli.web.store import StoreThread

log = logging.getLogger("wa.web")

PATH: Final = "/api/webhooks/whatsapp/status"
# Each instance has one of its own, too; behind a gateway it is the only one.
INSTANCES_PATH: Final = "/api/webhooks/instances/"
INSTANCE_PATH: Final = INSTANCES_PATH + "{instance}"
# How old what is known of the instances may be: for one that is known, and before a name is called unknown.
KNOWN_SECONDS: Final = 5.0
NEW_SECONDS: Final = 0.5
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Address:
    """What takes the webhooks of one instance.  instance_id: None for the address that an account shares."""

    instance_id: int | None
    provider: str
    reader: WebhookReader
    secret_name: str


class WebhookDoor:
    """Takes webhooks for one server.  Made on its event loop."""

    def __init__(self, store: StoreThread) -> None:
        self._store = store
        self._takes_unsigned = store.app.settings.text("WA_UNSIGNED_WEBHOOKS") == "loopback"
        self._addresses: dict[str | None, _Address] = {}
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()
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

    async def answer_challenge(self, request: Request, instance: str | None = None) -> Response:
        """Meta's check of the address: its own word back, or 403.  instance: whose address it is, None for PATH."""
        address = await self._find(instance)
        word = address.reader.answer_challenge(dict(request.query_params))
        if word is None:
            name = "WHATSAPP_VERIFY_TOKEN" if instance is None else f"the verify token of '{show_text(instance)}'"
            self._hint(f"a check of the webhook address was refused: {name} is not what the caller said")
            raise Forbidden("this is not the check of an address that this server knows", hint=None)
        return PlainTextResponse(word, headers={"X-Content-Type-Options": "nosniff"})

    async def take(self, request: Request, instance: str | None = None) -> Response:
        """Keep one body.  It is on the disk when this returns.  instance: whose address it is, None for PATH."""
        address = await self._find(instance)
        signature = self._check_head(request, address)
        body = await read_body(request, most=WEBHOOK_BYTES, seconds=WEBHOOK_SECONDS, budget=self._budget)
        has_secret = address.reader.has_secret
        if has_secret and not address.reader.is_genuine(body, signature):
            self._hint(f"a webhook was refused: it is not vouched for by {address.secret_name}")
            raise Forbidden("the signature does not fit the body", hint=None)
        await self._inbox.accept(body, is_signed=has_secret, provider=address.provider, instance_id=address.instance_id)
        return Response(RECEIVED, media_type="application/json")

    async def _find(self, instance: str | None) -> _Address:
        """The address of an instance.  They are looked at anew every few seconds: instances come and go.

        Raises: NotFound (404).
        """
        async with self._looking:
            age = time.monotonic() - self._looked_at
            if age >= (KNOWN_SECONDS if instance in self._addresses else NEW_SECONDS):
                try:
                    self._addresses = await self._store.run(_read_addresses)
                    self._looked_at = time.monotonic()
                except (Temporary, StorageError):
                    if instance not in self._addresses:
                        raise  # else the keeping of the body says what the trouble is, if it lasts
        address = self._addresses.get(instance)
        if address is None:
            self._hint(f"a webhook was refused: there is no instance '{show_text(instance or DEFAULT_INSTANCE)}'")
            raise NotFound("no instance has this address", code="no_instance")
        return address

    def _check_head(self, request: Request, address: _Address) -> str | None:
        """The signature, before the body is read.  Raises: Unauthorized without one, Forbidden without a secret."""
        if address.reader.has_secret:
            name = address.reader.signature_header
            signatures = request.headers.getlist(name)
            if len(signatures) != 1:
                raise Unauthorized(f"a webhook needs one {name}", hint=None)
            return signatures[0]
        if self._takes_unsigned and comes_from_here(request):
            return None
        how = " or WA_UNSIGNED_WEBHOOKS=loopback to try it on this machine" if not self._takes_unsigned else ""
        self._hint(f"a webhook was refused: set {address.secret_name} to the secret that vouches for them,{how}")
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


def _read_addresses(app: App) -> dict[str | None, _Address]:
    """The address of every instance by its name, and under None the one that the account of `default` shares."""
    addresses: dict[str | None, _Address] = {}
    for instance in app.instances.list_all():
        try:
            reader = app.webhook_reader(instance)
        except WaError as error:  # a transport of a newer wa, a secret that cannot be meant: the others go on
            log.warning("webhooks of instance '%s' are refused: %s", instance.name, error.message)
            continue
        address = _Address(
            instance_id=instance.id,
            provider=instance.transport,
            reader=reader,
            secret_name=_name_secret(app, instance),
        )
        addresses[instance.name] = address
        if instance.name == DEFAULT_INSTANCE:
            addresses[None] = replace(address, instance_id=None)
    return addresses


def _name_secret(app: App, instance: Instance) -> str:
    """What a person has to set so that webhooks of the instance can be vouched for."""
    if instance.name == DEFAULT_INSTANCE and not instance.secrets:
        return "WHATSAPP_APP_SECRET"
    # A gateway that signs nothing sends its key along.
    has_own = any(setting.name == WEBHOOK_SECRET for setting in app.provider(instance).settings)
    name = WEBHOOK_SECRET if has_own else KEY
    return instance.secrets.get(name) or f"the {name} of instance '{instance.name}'"


def _read_some(app: App, *, limit: int) -> ReadSums:
    return app.read_webhooks(limit=limit)


def _prune(app: App) -> int:
    return prune(app.webhooks, days=app.settings.count("WA_WEBHOOK_DAYS"), now_ms=app.clock.wall_ms())


def comes_from_here(request: Request) -> bool:
    """Whether the caller is a program of this machine, and no proxy that speaks for somebody else."""
    if request.client is None or any(name in request.headers for name in FORWARDED):
        return False
    return is_loopback(request.client.host.removeprefix("::ffff:"))
