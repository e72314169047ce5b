"""The WAHA transport, its gateway and its webhooks against a WAHA on loopback, in its own wire format."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from scripted_server import Exchange, ScriptedServer
from waha_world import ADA, BOB, KEY, NEWS, NUMBER, RUNNERS, SECRET, make_account, shop, waha_running
from webhook_receiver import Receiver

from wa_cli.domain.connection import ConnectionState, OnWhatsApp, RestartKind, RestrictionScope
from wa_cli.domain.event import ConnectionEvent, InboundEvent, StatusEvent
from wa_cli.domain.finding import Level
from wa_cli.domain.message import (
    Buttons,
    ContactCard,
    ListMenu,
    ListRow,
    ListSection,
    LocalFile,
    Location,
    Media,
    MediaKind,
    Poll,
    Reaction,
    ReplyButton,
    Template,
    Text,
    content_type,
)
from wa_cli.domain.message_ref import choose_message_id
from wa_cli.domain.outcome import Accepted, Ambiguous, ErrorClass, NotSent, Rejected
from wa_cli.domain.receipt import Receipt
from wa_cli.domain.recipient import RecipientKind
from wa_cli.errors import GatewayRefused, Temporary, UsageError
from wa_cli.ports import Post
from wa_cli.sandbox import parse_fault
from wa_cli.transports.providers import find_provider
from wa_cli.transports.waha.provider import PROVIDER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from wa_cli.domain.event import Event
    from wa_cli.domain.message import Content
    from wa_cli.domain.outcome import Outcome
    from wa_cli.ports import Transport
    from wa_cli.provider import Account
    from wa_cli.transports.waha.gateway import WahaGateway

PICTURE = b"\x89PNG picture of ours"
FILE = LocalFile(digest="ab" * 32, mime_type="image/png", size=len(PICTURE))

KINDS: list[Content] = [
    Text(body="Doors open at six"),
    Media(kind=MediaKind.IMAGE, link="https://example.org/a.png", caption="Look"),
    Media(kind=MediaKind.IMAGE, file=FILE, caption="Ours"),
    Media(kind=MediaKind.DOCUMENT, link="https://example.org/menu.pdf", filename="menu.pdf"),
    Media(kind=MediaKind.VIDEO, link="https://example.org/a.mp4"),
    Media(kind=MediaKind.AUDIO, link="https://example.org/a.mp3"),
    Media(kind=MediaKind.VOICE, link="https://example.org/a.ogg"),
    Location(latitude="1.2966", longitude="103.7764", name="Hall", address="Kent Ridge"),
    ContactCard(name="Ada; Lovelace", phone="+15550100123"),
    Poll(question="When?", options=("Six", "Seven")),
    Reaction(message_id="3EB0AAAAAAAAAAAAAAAAAA", emoji="👍"),
    ListMenu(body="Choose", button="Open", sections=(ListSection(title="All", rows=(ListRow(id="1", title="One"),)),)),
]
WITH_ID = {"text", "location", "contact", "poll"}

# What the published contract requires of each body, as of version 2026.7.1.
REQUIRED = {
    "/api/sendText": {"chatId", "text", "session"},
    "/api/sendImage": {"chatId", "file", "session"},
    "/api/sendFile": {"chatId", "file", "session"},
    "/api/sendVideo": {"chatId", "file", "convert", "session"},
    "/api/sendVoice": {"chatId", "file", "convert", "session"},
    "/api/sendLocation": {"chatId", "latitude", "longitude", "title", "session"},
    "/api/sendContactVcard": {"chatId", "contacts", "session"},
    "/api/sendPoll": {"chatId", "poll", "session"},
    "/api/sendList": {"chatId", "message", "session"},
    "/api/reaction": {"messageId", "reaction", "session"},
}
ALLOWED = {
    "/api/sendText": {"id", "reply_to", "linkPreview", "linkPreviewHighQuality"},
    "/api/sendImage": {"reply_to", "caption"},
    "/api/sendFile": {"reply_to", "caption"},
    "/api/sendVideo": {"reply_to", "asNote", "caption"},
    "/api/sendVoice": {"reply_to"},
    "/api/sendLocation": {"id", "reply_to"},
    "/api/sendContactVcard": {"id", "reply_to"},
    "/api/sendPoll": {"id", "reply_to"},
    "/api/sendList": {"reply_to"},
    "/api/reaction": set(),
}


def in_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test to its end, in a loop of its own."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(60):
                await test(*arguments, **named)

        asyncio.run(bounded())

    return run


class OurFiles:
    """One file."""

    def read(self, file: LocalFile) -> bytes:
        if file != FILE:
            raise UsageError("the file is gone", code="file_missing")
        return PICTURE


def make_post(content: Content, *, to: str = f"+{ADA}", number: int = 1) -> Post:
    kind = RecipientKind.GROUP if to.endswith("@g.us") else RecipientKind.PERSON
    return Post(tag=f"wa1.4f7h2k9q.{number}", address=to, kind=kind, content=content)


@asynccontextmanager
async def opened(account: Account) -> AsyncIterator[Transport]:
    transport = PROVIDER.open_transport(account)
    try:
        yield transport
    finally:
        await transport.close()


@asynccontextmanager
async def steering(account: Account) -> AsyncIterator[WahaGateway]:
    gateway = PROVIDER.open_gateway(account)
    try:
        yield gateway
    finally:
        await gateway.close()


async def send(account: Account, *posts: Post) -> list[Outcome]:
    async with opened(account) as transport:
        return [await transport.send(post) for post in posts]


def read_all(receiver: Receiver, account: Account) -> list[Event]:
    """What the genuine webhooks say, in order."""
    reader = PROVIDER.webhook_reader(account)
    events = []
    for arrival in receiver.arrivals:
        assert reader.is_genuine(arrival.raw, arrival.headers[reader.signature_header])
        events += reader.read(arrival.raw)
    return events


# --- sends ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["GOWS", "NOWEB", "WEBJS", "WPP"])
@in_a_loop
async def test_every_kind_goes_out_and_is_known_by_its_bare_id(engine: str) -> None:
    """Issue 6, points 2 and 3: with the id of our choosing where the engine takes one."""
    posts = [make_post(content, number=number) for number, content in enumerate(KINDS, start=1)]
    async with waha_running(files=OurFiles(), waha_engine=engine) as (sandbox, account):
        outcomes = await send(account, *posts)
        entries = sandbox.ledger
    assert [entry.verdict for entry in entries] == ["accepted"] * len(KINDS)
    for post, outcome, entry in zip(posts, outcomes, entries, strict=True):
        assert isinstance(outcome, Accepted)
        assert outcome.provider_message_id == entry.wamid
        is_ours = content_type(post.content) in WITH_ID and engine in ("GOWS", "NOWEB")
        assert (outcome.provider_message_id == choose_message_id(post.tag)) is is_ours
    assert {entry.to for entry in entries} == {ADA}


@in_a_loop
async def test_a_group_is_written_to_by_its_own_id() -> None:
    """Issue 6, point 2."""
    async with waha_running() as (sandbox, account):
        (outcome,) = await send(account, make_post(Text(body="Hi all"), to=RUNNERS.group_id))
        assert isinstance(outcome, Accepted)
        assert outcome.provider_message_id == choose_message_id("wa1.4f7h2k9q.1")
        assert [entry.to for entry in sandbox.ledger] == [RUNNERS.group_id]


@pytest.mark.parametrize("content", KINDS, ids=lambda content: content_type(content))
@in_a_loop
async def test_the_bodies_are_those_of_the_published_contract(content: Content) -> None:
    """Issue 6, point 2: every required field, and none that is not in it."""

    async def answer(exchange: Exchange) -> None:
        await exchange.answer(b'{"id":"true_15550100123@c.us_3EB0AA"}', 201)

    async with ScriptedServer(answer) as server:
        (outcome,) = await send(make_account(f"http://127.0.0.1:{server.port}", files=OurFiles()), make_post(content))
        (request,) = server.requests
    assert isinstance(outcome, Accepted)
    method, path, _ = request.request_line.split(" ")
    body = json.loads(request.body)
    assert request.header("X-Api-Key") == KEY
    assert method == ("PUT" if path == "/api/reaction" else "POST")
    assert set(body) >= REQUIRED[path]
    assert set(body) <= REQUIRED[path] | ALLOWED[path]
    if "file" in body:
        assert set(body["file"]) >= {"mimetype", "filename"}
        assert ("url" in body["file"]) is not ("data" in body["file"])
    if "data" in body.get("file", ()):
        assert base64.b64decode(body["file"]["data"]) == PICTURE
        assert body["file"]["mimetype"] == "image/png"
    if path == "/api/sendLocation":
        assert (body["latitude"], body["longitude"], body["title"]) == (1.2966, 103.7764, "Hall, Kent Ridge")
    if path == "/api/sendPoll":
        assert body["poll"] == {"name": "When?", "options": ["Six", "Seven"], "multipleAnswers": False}
    if path == "/api/sendContactVcard":
        assert "waid=15550100123:+15550100123" in body["contacts"][0]["vcard"]
        assert "FN:Ada\\; Lovelace" in body["contacts"][0]["vcard"]
    if path == "/api/reaction":
        assert body["messageId"] == "true_15550100123@c.us_3EB0AAAAAAAAAAAAAAAAAA"


@in_a_loop
async def test_what_it_has_no_message_for_is_refused_without_a_post() -> None:
    """Issue 6, point 3; a file that is gone is one of them."""
    lost = LocalFile(digest="cd" * 32, mime_type="image/png", size=3)
    contents: list[Content] = [
        Media(kind=MediaKind.STICKER, link="https://example.org/a.webp"),
        Template(name="hello", language="en"),
        Buttons(body="Yes?", buttons=(ReplyButton(id="y", title="Yes"),)),
        Media(kind=MediaKind.IMAGE, file=lost),
    ]
    async with waha_running(files=OurFiles()) as (sandbox, account):
        outcomes = await send(account, *map(make_post, contents))
        assert sandbox.ledger == []
    for outcome in outcomes:
        assert isinstance(outcome, Rejected)
        assert (outcome.error_class, outcome.http_status) == (ErrorClass.DEAD_MESSAGE, 0)


@in_a_loop
async def test_a_session_that_is_not_connected_says_so_and_takes_nothing() -> None:
    """Row H9: the message keeps its place, and the instance learns its state by it."""
    expected = [
        ("scan", ConnectionState.NEEDS_QR, "SCAN_QR_CODE"),
        ("stop", ConnectionState.DISCONNECTED, "STOPPED"),
        ("fail", ConnectionState.AUTH_FAILURE, "FAILED"),
        ("lose", ConnectionState.CONNECTING, "STARTING"),
        ("remove", ConnectionState.DISCONNECTED, "NOT_FOUND"),
    ]
    async with waha_running() as (sandbox, account), opened(account) as transport:
        for what, state, raw in expected:
            device = shop(sandbox)
            match what:
                case "scan":
                    sandbox.devices.log_out(device)
                case "remove":
                    sandbox.devices.remove("shop")
                case _:
                    getattr(sandbox.devices, what)(device)
            outcome = await transport.send(make_post(Text(body="Hi")))
            assert isinstance(outcome, Rejected)
            assert (outcome.error_class, outcome.connection, outcome.code) == (ErrorClass.NOT_READY, state, raw)
        assert [entry.is_accepted for entry in sandbox.ledger] == [False] * len(expected)


@in_a_loop
async def test_a_wrong_key_stops_the_instance_and_is_shown_nowhere() -> None:
    """Promise P11."""
    async with waha_running(gateway_key="another-key") as (sandbox, account):
        (outcome,) = await send(account, make_post(Text(body="Hi")))
        assert isinstance(outcome, Rejected)
        assert (outcome.error_class, outcome.code) == (ErrorClass.STOP, "401")
        assert KEY not in repr(outcome)
        async with steering(account) as gateway:
            with pytest.raises(UsageError) as refused:
                await gateway.look()
        assert refused.value.code == "gateway_key"
        assert KEY not in f"{refused.value} {refused.value.hint}"
        assert sandbox.ledger == []


@pytest.mark.parametrize("fault", ["reset", "cut_body", "html_200", "empty_200", "503_empty", "lost:reset"])
@in_a_loop
async def test_an_answer_that_cannot_be_read_leaves_it_unknown(fault: str) -> None:
    """Promise P4."""
    async with waha_running() as (sandbox, account):
        sandbox.inject(parse_fault(fault))
        (outcome,) = await send(account, make_post(Text(body="Hi")))
        assert isinstance(outcome, Ambiguous)
        assert [entry.is_accepted for entry in sandbox.ledger] == [not fault.startswith("lost")]


@in_a_loop
async def test_a_failing_engine_leaves_it_unknown_and_echoes_nothing() -> None:
    """Promises P4 and P11: the answer holds the whole request."""
    async with waha_running() as (sandbox, account):
        sandbox.inject(parse_fault("500_131000"))
        (outcome,) = await send(account, make_post(Text(body="canary words")))
        assert isinstance(outcome, Ambiguous)
        assert "canary" not in repr(outcome)
        assert ADA not in repr(outcome)


@in_a_loop
async def test_where_nobody_listens_nothing_was_sent() -> None:
    """Fault 61: a gateway that is down costs no message, not even a reaction, which takes another road."""
    async with Receiver() as receiver:
        port = receiver.port
    account = make_account(f"http://127.0.0.1:{port}")
    outcomes = await send(account, make_post(Text(body="Hi")), make_post(KINDS[10]))
    assert all(isinstance(outcome, NotSent) for outcome in outcomes)
    async with steering(account) as gateway:
        with pytest.raises(Temporary) as down:
            await gateway.look()
    assert down.value.code == "gateway_down"


# --- steering ------------------------------------------------------------------------------------------------------


@in_a_loop
async def test_the_state_is_true_through_a_whole_pairing() -> None:
    """Issue 6, points 2 and 5: made when it is not there, shown to the phone, scanned, connected, and who it is."""
    async with waha_running() as (sandbox, account), steering(account) as gateway:
        sandbox.devices.remove("shop")
        assert (await gateway.look()).raw == "NOT_FOUND"
        assert (await gateway.look()).state is ConnectionState.DISCONNECTED
        await gateway.start()
        assert (await gateway.look()).state is ConnectionState.NEEDS_QR
        qr = await gateway.fetch_qr()
        assert qr.text == shop(sandbox).qr_text
        code = await gateway.request_code(f"+{NUMBER}")
        assert len(code) == 9
        sandbox.devices.scan(shop(sandbox), number=NUMBER)
        connection = await gateway.look()
        assert (connection.state, connection.address, connection.engine) == (
            ConnectionState.READY,
            f"+{NUMBER}",
            "GOWS",
        )
        await gateway.start()  # harmless
        assert (await gateway.look()).state is ConnectionState.READY
        with pytest.raises(GatewayRefused):
            await gateway.fetch_qr()


@pytest.mark.parametrize("kind", RestartKind)
@in_a_loop
async def test_a_restart_brings_a_lost_device_back_and_keeps_its_pairing(kind: RestartKind) -> None:
    """Row H11: soft and hard, and neither logs out."""
    async with waha_running() as (sandbox, account), steering(account) as gateway:
        sandbox.devices.lose(shop(sandbox))
        assert (await gateway.look()).state is ConnectionState.CONNECTING
        await gateway.restart(kind)
        assert (await gateway.look()).state is ConnectionState.READY
        assert shop(sandbox).is_paired


@in_a_loop
async def test_a_failed_session_is_started_by_a_restart() -> None:
    """The state map's note: FAILED is a hard stop, and after one restart the next state says which kind it was."""
    async with waha_running() as (sandbox, account), steering(account) as gateway:
        shop(sandbox).is_paired = False
        sandbox.devices.fail(shop(sandbox))
        assert (await gateway.look()).state is ConnectionState.AUTH_FAILURE
        await gateway.start()
        assert (await gateway.look()).state is ConnectionState.NEEDS_QR


@pytest.mark.parametrize("engine", ["GOWS", "NOWEB", "WEBJS", "WPP"])
@in_a_loop
async def test_groups_are_read_in_every_engines_shape(engine: str) -> None:
    """Row R1; issue 6, point 4."""
    async with waha_running(waha_engine=engine) as (sandbox, account), steering(account) as gateway:
        many = {
            f"12036300000000{number:04}@g.us": RUNNERS.__class__(
                group_id=f"12036300000000{number:04}@g.us", name=f"Group {number:04}"
            )
            for number in range(230)
        }
        shop(sandbox).groups.update(many)
        groups = await gateway.list_groups()
        assert len(groups) == len({group.address for group in groups}) == 232
        runners = next(group for group in groups if group.address == RUNNERS.group_id)
        assert runners.name == "Runners"
        whole = await gateway.read_group(RUNNERS.group_id)
        assert whole is not None
        assert whole.participants is not None
        assert set(whole.participants) == {f"+{NUMBER}", f"+{ADA}", f"+{BOB}"}
        assert whole.size == 3
        news = await gateway.read_group(NEWS.group_id)
        assert news is not None
        if engine != "WPP":
            assert (whole.may_post, news.may_post) == (True, False)
        assert await gateway.read_group("120363000000000999@g.us") is None


@in_a_loop
async def test_a_number_is_on_whatsapp_or_not_or_nobody_knows() -> None:
    """Issue 6, point 2: a look-up that fails is no no."""
    async with waha_running() as (sandbox, account), steering(account) as gateway:
        sandbox.devices.absent.add(BOB)
        assert (await gateway.check_number(f"+{ADA}")).verdict is OnWhatsApp.YES
        assert (await gateway.check_number(f"+{BOB}")).verdict is OnWhatsApp.NO
        sandbox.devices.stop(shop(sandbox))
        unknown = await gateway.check_number(f"+{ADA}")
        assert unknown.verdict is OnWhatsApp.UNKNOWN
        assert unknown.details


@in_a_loop
async def test_a_restricted_number_says_so_with_its_end() -> None:
    """Issue 6, point 6."""
    async with waha_running() as (sandbox, account), steering(account) as gateway:
        until = shop(sandbox).restricted_until = int(sandbox.now()) + 3600
        restriction = (await gateway.look()).restriction
        assert restriction is not None
        assert restriction.scope is RestrictionScope.NEW_PEOPLE
        assert restriction.until_ms == until * 1000


# --- webhooks ------------------------------------------------------------------------------------------------------


@in_a_loop
async def test_receipts_come_signed_and_name_the_attempt() -> None:
    """Promise P5: the id that we chose brings the tag back, through to the member of a group."""
    async with Receiver() as receiver, waha_running() as (sandbox, account), steering(account) as gateway:
        await gateway.subscribe(receiver.url)
        await send(
            account,
            make_post(Text(body="Hi")),
            make_post(Text(body="Hi all"), to=RUNNERS.group_id, number=2),
        )
        await sandbox.wait_until_quiet()
        events = read_all(receiver, account)
    statuses = [event for event in events if isinstance(event, StatusEvent)]
    assert {status.number_id for status in statuses} == {"instance 7"}
    one = [status for status in statuses if status.tag == "wa1.4f7h2k9q.1"]
    assert [status.receipt for status in one] == [Receipt.SENT, Receipt.DELIVERED, Receipt.READ]
    assert {status.provider_message_id for status in one} == {choose_message_id("wa1.4f7h2k9q.1")}
    assert {status.person.address for status in one if status.person} == {f"+{ADA}"}
    group = [status for status in statuses if status.tag == "wa1.4f7h2k9q.2"]
    assert len(one) + len(group) == len(statuses)
    assert [(status.participant, status.receipt) for status in group if not status.participant] == [("", Receipt.SENT)]
    for member in (ADA, BOB):
        receipts = [status.receipt for status in group if status.participant == f"+{member}"]
        assert receipts == [Receipt.DELIVERED, Receipt.READ]


@in_a_loop
async def test_a_time_lock_comes_back_as_a_restriction() -> None:
    """Issue 6, point 6: somebody new is refused by webhook, somebody known is not."""
    async with Receiver() as receiver, waha_running() as (sandbox, account), steering(account) as gateway:
        await gateway.subscribe(receiver.url)
        await send(account, make_post(Text(body="Hi")))
        until = shop(sandbox).restricted_until = int(sandbox.now()) + 3600
        await send(account, make_post(Text(body="Hi again"), number=2))
        await send(account, make_post(Text(body="Hi"), to=f"+{BOB}", number=3))
        await sandbox.wait_until_quiet()
        failed = [
            event
            for event in read_all(receiver, account)
            if isinstance(event, StatusEvent) and event.receipt is Receipt.FAILED
        ]
    (event,) = failed
    assert event.tag == "wa1.4f7h2k9q.3"
    assert event.refusal is not None
    assert event.refusal.error_class is ErrorClass.RESTRICTED
    assert event.refusal.restriction is not None
    assert event.refusal.restriction.until_ms == until * 1000


@in_a_loop
async def test_states_and_answers_come_by_webhook() -> None:
    """Issue 6, point 5: within the second, and without asking."""
    async with Receiver() as receiver, waha_running() as (sandbox, account), steering(account) as gateway:
        await gateway.subscribe(receiver.url)
        sandbox.devices.lose(shop(sandbox))
        sandbox.devices.restart(shop(sandbox))
        sandbox.devices.receive(shop(sandbox), ADA, "STOP", name="Ada")
        sandbox.devices.receive(shop(sandbox), ADA, "noise", group=RUNNERS.group_id)
        sandbox.devices.log_out(shop(sandbox))
        await sandbox.wait_until_quiet()
        events = read_all(receiver, account)
    states = [event.connection.state for event in events if isinstance(event, ConnectionEvent)]
    assert states[-3:] == [ConnectionState.CONNECTING, ConnectionState.READY, ConnectionState.NEEDS_QR]
    (inbound,) = [event for event in events if isinstance(event, InboundEvent)]
    assert (inbound.person.address, inbound.person.name, inbound.words) == (f"+{ADA}", "Ada", "STOP")


@in_a_loop
async def test_subscribing_keeps_other_receivers_and_is_written_once() -> None:
    """A written configuration restarts the session, so it is not written again for nothing."""
    async with waha_running() as (sandbox, account), steering(account) as gateway:
        other = {"url": "http://127.0.0.1:9/other", "events": ["message"]}
        shop(sandbox).config["waha"] = {"debug": True, "webhooks": [other]}
        for _ in range(2):
            await gateway.subscribe("http://127.0.0.1:9/ours")
        assert shop(sandbox).restarts == 1
        config = shop(sandbox).config["waha"]
        assert config["debug"] is True
        assert config["webhooks"][0] == other
        assert config["webhooks"][1]["hmac"] == {"key": SECRET}
        await gateway.subscribe("http://127.0.0.1:9/ours")
        assert len(config["webhooks"]) == 2


@in_a_loop
async def test_a_receiver_that_is_down_gets_the_same_bytes_again_in_their_order() -> None:
    """Fault 61: the sandbox repeats as it was told to, gives up after that, and posts to no other machine."""
    retries = {"policy": "constant", "delaySeconds": 0.01, "attempts": 2}
    async with Receiver(500, 503, 200, 500, 500, 500) as receiver, waha_running() as (sandbox, _account):
        hook = {"url": receiver.url, "events": ["*"], "retries": retries}
        shop(sandbox).config["waha"] = {"webhooks": [hook, {**hook, "url": "http://192.0.2.1/hook"}]}
        for words in ("one", "two", "three"):
            sandbox.devices.receive(shop(sandbox), ADA, words)
        await sandbox.wait_until_quiet()
        told = [json.loads(arrival.raw)["payload"]["body"] for arrival in receiver.arrivals]
        assert told == ["one"] * 3 + ["two"] * 3 + ["three"]
        assert receiver.arrivals[0].raw == receiver.arrivals[2].raw
        states = [hook.state for hook in sandbox.hooks.told if hook.url == receiver.url]
        assert states == ["delivered", "given_up", "delivered"]
        assert {hook.attempts for hook in sandbox.hooks.told if hook.url != receiver.url} == {0}


# --- doctor, and the sandbox's own calls ---------------------------------------------------------------------------


@in_a_loop
async def test_doctor_tells_how_the_session_stands() -> None:
    """Issue 6, point 8: what answers, in which version, and whether the device is connected."""
    async with waha_running() as (sandbox, account):
        good = await asyncio.to_thread(PROVIDER.inspect, account, online=True)
        assert {finding.level for finding in good} == {Level.OK}
        assert "2026.7.1" in " ".join(finding.message for finding in good)
        sandbox.devices.log_out(shop(sandbox))
        bad = await asyncio.to_thread(PROVIDER.inspect, account, online=True)
        assert [(finding.name, finding.exit_code) for finding in bad if finding.level is Level.FAIL] == [("session", 4)]
        wrong = await asyncio.to_thread(PROVIDER.inspect, make_account(sandbox.url, key="wrong"), online=True)
        assert [finding.name for finding in wrong if finding.level is Level.FAIL] == ["key"]


@in_a_loop
async def test_a_device_is_made_scanned_and_broken_by_calls_to_the_sandbox() -> None:
    """Issue 6, point 2: the sandbox plays sessions, QR codes, disconnects and groups for anybody who asks it."""
    async with waha_running(is_paired=False) as (sandbox, account), httpx.AsyncClient(base_url=sandbox.url) as client:
        group = {"id": "120363040000000001@g.us", "name": "Shop", "participants": [ADA]}
        made = await client.post("/sandbox/devices", json={"name": "two", "start": True, "groups": [group]})
        assert made.json()["device"]["state"] == "needs_qr"
        scanned = await client.post("/sandbox/devices/two", json={"do": "scan"})
        assert scanned.json()["device"]["state"] == "working"
        lost = await client.post("/sandbox/devices/two", json={"do": "lose", "seconds": 3600})
        assert lost.json()["device"]["state"] == "starting"
        assert (await client.post("/sandbox/devices/two", json={"do": "dance"})).status_code == 400
        assert (await client.post("/sandbox/devices/none", json={"do": "scan"})).status_code == 400
        assert (await client.post("/sandbox/absent", json={"numbers": [BOB]})).json() == {"absent": [BOB]}
        told = await client.post("/sandbox/devices/two/inbound", json={"from": ADA, "text": "Hi"})
        assert told.json()["message_id"].startswith("3EB0")
        listed = (await client.get("/sandbox/devices")).json()
        assert [device["name"] for device in listed["devices"]] == ["shop", "two"]
        assert (await client.get("/api/nobody/groups", headers={"X-Api-Key": KEY})).status_code == 404
        assert (await client.post(f"/v25.0/{sandbox.settings.phone_number_id}/messages")).status_code in (400, 401)
        async with steering(account) as gateway:
            assert (await gateway.look()).state is ConnectionState.NEEDS_QR


def test_it_is_known_by_its_name() -> None:
    """Issue 6, point 1."""
    assert find_provider("waha", instance="shop") is PROVIDER
