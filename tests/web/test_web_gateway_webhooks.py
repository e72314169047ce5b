"""Webhooks of gateways through the real door: who is believed, whose state they change, and that sending follows."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from door import ADA, BEN
from test_web_webhooks import until

from tests.cli.stored import finish, start_all
from tests.contract.scripted_server import Exchange, ScriptedServer
from tests.contract.wires import BARE, DIGITS, GOWA, WAHA, WIRES, WWEBJS, Wire
from wa_cli.bootstrap import open_app
from wa_cli.daemon.sending import new_writer_thread, open_sender, watch_file
from wa_cli.domain.connection import ConnectionState
from wa_cli.domain.message import OnUnknown, Text, encode_content
from wa_cli.domain.outcome import Accepted
from wa_cli.domain.receipt import Receipt
from wa_cli.domain.recipient import RecipientKind
from wa_cli.ports import Lease, NewBatch, NewInstance, NewMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx
    from door import Api

    from wa_cli.ports import Instance

LINKED = tuple(wire for wire in WIRES if wire.provider.capabilities.is_linked_device)
every_gateway = pytest.mark.parametrize("wire", LINKED, ids=lambda wire: wire.name)
PATH = "/api/webhooks/instances/shop"
VARIABLES: Mapping[str, str] = {"key": "SHOP_KEY", "webhook_secret": "SHOP_SECRET"}


@pytest.fixture
def open_shop(make_api: Callable[..., Api]) -> Callable[..., Api]:
    """A server with one instance behind a gateway, and no other."""

    def opened(wire: Wire, url: str = "http://127.0.0.1:9", **settings: str) -> Api:
        named = {name: VARIABLES[name] for name in VARIABLES if name in wire.values}
        api = make_api(**{named[name]: wire.values[name] for name in named}, **settings)
        new = NewInstance(
            name="shop",
            transport=wire.name,
            settings={"url": url, "session": wire.values["session"]},
            secrets=named,
            profile=None,
            limits={},
            connection=ConnectionState.READY,
        )
        api.app.instances.add(new, now_ms=api.app.clock.wall_ms())
        return api

    return opened


def shop_of(api: Api) -> Instance:
    return api.app.instances.find("shop")


def post(api: Api, wire: Wire, body: bytes, signature: str | None = "") -> httpx.Response:
    """signature: the right one unless given; None for none."""
    header = wire.provider.webhook_reader(wire.account("http://127.0.0.1:9")).signature_header
    signed = wire.sign(body, wire.secret) if signature == "" else signature
    headers = {} if signed is None else {header: signed}
    return api.call("POST", PATH, key=None, content=body, headers=headers)


def queue(api: Api, *addresses: str) -> list[int]:
    now_ms = api.app.clock.wall_ms()
    batch = NewBatch(
        kind="to",
        instance_id=shop_of(api).id,
        size=len(addresses),
        start_at_ms=now_ms,
        at_words=None,
        delay_ms=0,
        priority=1,
        max_attempts=5,
        on_unknown=OnUnknown.HOLD,
        expires_at_ms=None,
        key=None,
        request_hash=b"",
        again=True,
        has_own_lane=False,
        lines_are_unique=False,
        duplicate_window_ms=86_400_000,
        key_days=7,
        max_queue_size=0,
    )
    lines = [
        NewMessage(address=address, kind=RecipientKind.PERSON, encoded=encode_content(Text(body="hello")))
        for address in addresses
    ]
    return [one.message_id for one in api.app.intake.enqueue(batch, lines, now_ms=now_ms)]


def send_one(api: Api, bare: str = BARE) -> int:
    """A message that the gateway has accepted under that id."""
    (message_id,) = queue(api, ADA)
    lease = api.app.leases.acquire(shop_of(api).id, role="drain", now_ms=api.app.clock.wall_ms())
    assert isinstance(lease, Lease)
    finish(api.app, start_all(api.app, lease), Accepted(provider_message_id=bare, http_status=200))
    api.app.leases.release(lease)
    return message_id


@every_gateway
def test_only_the_gateway_itself_is_believed(open_shop: Callable[..., Api], wire: Wire) -> None:
    """Issue 6, point 2; fault 71; promise P11: the secret is kept nowhere."""
    api = open_shop(wire)
    body = wire.acks[Receipt.READ](BARE, f"{DIGITS}@c.us")
    assert post(api, wire, body, None).status_code == 401
    assert post(api, wire, body, wire.sign(body, "another")).status_code == 403
    assert api.value("SELECT count(*) FROM webhook_logs") == 0
    assert post(api, wire, body).status_code == 200
    assert api.rows("SELECT provider, is_signed, instance_id FROM webhook_logs") == [(wire.name, 1, shop_of(api).id)]
    assert b"canary" not in api.value("SELECT body FROM webhook_logs")


@every_gateway
def test_a_receipt_finds_the_message_by_the_bare_id(open_shop: Callable[..., Api], wire: Wire) -> None:
    """Row Q4: at once, without waiting for upkeep; and the instance was heard from."""
    api = open_shop(wire)
    send_one(api)
    for word in (Receipt.DELIVERED, Receipt.READ, Receipt.DELIVERED):
        assert post(api, wire, wire.acks[word](BARE, f"{DIGITS}@c.us")).status_code == 200
    until(lambda: api.value("SELECT receipt FROM message") == "read")
    assert shop_of(api).last_webhook_at_ms is not None


CONNECTIONS = (
    (
        WAHA,
        b'{"event":"session.status","session":"shop","timestamp":%d,"payload":{"status":"SCAN_QR_CODE"}}',
        "needs_qr",
    ),
    (WWEBJS, b'{"dataType":"disconnected","data":{"reason":"LOGOUT"},"sessionId":"shop"}', "auth_failure"),
    (WWEBJS, b'{"dataType":"qr","data":{"qr":"2@x"},"sessionId":"shop"}', "needs_qr"),
    (WWEBJS, b'{"dataType":"change_state","data":{"state":"TIMEOUT"},"sessionId":"shop"}', "error"),
)


@pytest.mark.parametrize(("wire", "body", "state"), CONNECTIONS, ids=lambda value: getattr(value, "name", None))
def test_news_of_the_connection_is_the_instances_state(
    open_shop: Callable[..., Api], wire: Wire, body: bytes, state: str
) -> None:
    """Issue 6, point 5; row H9."""
    api = open_shop(wire)
    if b"%d" in body:
        body %= time.time_ns() // 1_000_000
    assert post(api, wire, body).status_code == 200
    until(lambda: shop_of(api).connection == state)


def test_a_gateway_that_tells_no_states_changes_none(open_shop: Callable[..., Api]) -> None:
    api = open_shop(GOWA)
    assert not GOWA.provider.capabilities.state_events
    assert post(api, GOWA, GOWA.acks[Receipt.READ](BARE, f"{DIGITS}@c.us")).status_code == 200
    until(lambda: api.value("SELECT count(*) FROM webhook_logs WHERE status <> 'waiting'") == 1)
    assert shop_of(api).connection is ConnectionState.READY


class Daemon(threading.Thread):
    """A send loop of a process of its own, as far as the store can tell, posting to a scripted gateway."""

    def __init__(self, api: Api, gateway: ScriptedServer) -> None:
        super().__init__(daemon=True)
        self._settings = api.app.settings
        self.gateway = gateway
        self.is_waiting = threading.Event()
        self.loop: asyncio.AbstractEventLoop | None = None

    def run(self) -> None:
        asyncio.run(self._send())

    async def _send(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.stopping = asyncio.Event()
        app = open_app(self._settings, create=False)
        executor = new_writer_thread()
        async with self.gateway:
            instance = app.instances.find("shop")
            with app.database.write() as connection:
                connection.execute(
                    "UPDATE instance SET settings = json_set(settings, '$.url', ?) WHERE id = ?",
                    (f"http://127.0.0.1:{self.gateway.port}", instance.id),
                )
            async with open_sender(app, app.instances.find("shop"), role="daemon", executor=executor) as sender:
                watcher = asyncio.create_task(watch_file(app, sender.loop, executor=executor))
                sending = asyncio.create_task(sender.loop.run(until_idle=False))
                self.is_waiting.set()
                await self.stopping.wait()
                sender.loop.stop()
                await sending
                watcher.cancel()
                with suppress(asyncio.CancelledError):
                    await watcher
        executor.shutdown()
        app.close()

    def stop(self) -> None:
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self.stopping.set)
        self.join(120)


def test_a_webhook_that_says_ready_wakes_the_send_loop(open_shop: Callable[..., Api]) -> None:
    """Issue 6, point 5: sending follows the state within a second, on any of the two sides of one file."""
    api = open_shop(WWEBJS, WA_PROFILE="cloud")

    async def accept(exchange: Exchange) -> None:
        status, body = WWEBJS.accepted(f"3EB0{exchange.number:018X}")
        await exchange.answer(body, status)

    gateway = ScriptedServer(accept)
    assert post(api, WWEBJS, b'{"dataType":"change_state","data":{"state":"TIMEOUT"},"sessionId":"shop"}').is_success
    until(lambda: shop_of(api).connection == "error")
    queue(api, ADA, BEN)
    daemon = Daemon(api, gateway)
    daemon.start()
    assert daemon.is_waiting.wait(120)
    time.sleep(0.3)  # nothing to wait for: it must not post
    assert gateway.requests == []
    assert post(api, WWEBJS, b'{"dataType":"ready","data":{},"sessionId":"shop"}').is_success
    until(lambda: shop_of(api).connection == "ready")
    began = time.monotonic()
    until(lambda: len(gateway.requests) == 2)
    assert time.monotonic() - began < 10  # the mark is one second on a machine that is not busy
    until(lambda: api.value("SELECT count(*) FROM message WHERE state = 'sent'") == 2)
    daemon.stop()
