"""Sending through GOWA, against the played one over loopback HTTP.  Issue 6: every kind, every answer of its table."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from gowa_world import GROUP, SECRET, gowa_account, playing_gowa
from scripted_server import Exchange, ScriptedServer
from webhook_receiver import Receiver

from wa_cli.domain.connection import RestrictionScope
from wa_cli.domain.event import InboundEvent, StatusEvent
from wa_cli.domain.message import (
    Buttons,
    ContactCard,
    Content,
    LocalFile,
    Location,
    Media,
    MediaKind,
    Poll,
    Reaction,
    ReplyButton,
    Text,
)
from wa_cli.domain.outcome import Accepted, Ambiguous, ErrorClass, NotSent, Outcome, Rejected
from wa_cli.domain.recipient import RecipientKind
from wa_cli.errors import UsageError
from wa_cli.ports import Post
from wa_cli.provider import number_id_of
from wa_cli.sandbox import SandboxSettings, parse_fault
from wa_cli.transports.gowa.provider import PROVIDER
from wa_cli.transports.providers import find_provider, parse_transport

if TYPE_CHECKING:
    from wa_cli.provider import Account

NUMBER = "+15550100001"
DATA = bytes(range(256)) * 8192  # 2 MB, more than the server takes into memory at once


class OneFile:
    """Files that hold one."""

    def __init__(self, data: bytes | None = DATA) -> None:
        self._data = data

    def read(self, file: LocalFile) -> bytes:
        if self._data is None:
            raise UsageError("the file is gone", code="file_missing")
        return self._data


def post(content: Content, address: str = NUMBER) -> Post:
    kind = RecipientKind.GROUP if address.endswith("@g.us") else RecipientKind.PERSON
    return Post(tag="wa1.abc.7", address=address, kind=kind, content=content)


async def send(account: Account, content: Content, address: str = NUMBER) -> Outcome:
    transport = PROVIDER.open_transport(account)
    try:
        return await transport.send(post(content, address))
    finally:
        await transport.close()


def file_of(kind: MediaKind, mime_type: str) -> Media:
    return Media(kind=kind, file=LocalFile(digest="d" * 64, mime_type=mime_type, size=len(DATA)))


@pytest.mark.parametrize(
    ("content", "kind", "shown"),
    [
        (Text(body="Grüße 👋"), "text", "Grüße 👋"),
        (Location(latitude="3.1390", longitude="-101.6"), "location", "3.1390, -101.6"),
        (ContactCard(name="Ana", phone="+6581234567"), "contact", "Ana, 6581234567"),
        (Poll(question="When?", options=("now", "then"), max_answers=0), "poll", "When? (now / then)"),
        (Reaction(message_id="3EB0AA", emoji="👍"), "reaction", "👍"),
        (Media(kind=MediaKind.IMAGE, link="https://example.com/a.png", caption="Look"), "image", "Look"),
        (Media(kind=MediaKind.VIDEO, link="https://example.com/a.mp4"), "video", "https://example.com/a.mp4"),
        (Media(kind=MediaKind.DOCUMENT, link="https://example.com/a.pdf"), "document", "https://example.com/a.pdf"),
        (Media(kind=MediaKind.AUDIO, link="https://example.com/a.mp3"), "audio", "https://example.com/a.mp3"),
        (Media(kind=MediaKind.VOICE, link="https://example.com/a.ogg"), "voice", "https://example.com/a.ogg"),
        (Media(kind=MediaKind.STICKER, link="https://example.com/a.webp"), "sticker", "https://example.com/a.webp"),
    ],
)
@pytest.mark.parametrize("address", [NUMBER, GROUP.group_id])
def test_every_kind_arrives_at_people_and_groups(content: Content, kind: str, shown: str, address: str) -> None:
    async def story() -> None:
        async with playing_gowa() as (sandbox, account):
            outcome = await send(account, content, address)
            (entry,) = sandbox.ledger

            assert outcome == Accepted(provider_message_id=entry.wamid or "", http_status=200)
            assert (entry.to, entry.type, entry.content) == (address.removeprefix("+"), kind, shown)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("kind", "mime_type", "name"),
    [
        (MediaKind.IMAGE, "image/png", "image.png"),
        (MediaKind.DOCUMENT, "application/pdf", "document.pdf"),
        (MediaKind.VIDEO, "video/mp4", "video.mp4"),
        (MediaKind.VOICE, "audio/ogg", "voice"),
        (MediaKind.STICKER, "image/webp", "sticker.webp"),
    ],
)
def test_a_file_of_ours_arrives_whole(kind: MediaKind, mime_type: str, name: str) -> None:
    async def story() -> None:
        async with playing_gowa(files=OneFile()) as (sandbox, account):
            outcome = await send(account, file_of(kind, mime_type))
            (entry,) = sandbox.ledger

            assert isinstance(outcome, Accepted)
            assert entry.content is not None
            assert entry.content.startswith(name)
            assert entry.content.endswith(hashlib.sha256(DATA).hexdigest())

    asyncio.run(story())


def test_a_file_that_is_gone_is_never_posted() -> None:
    async def story() -> None:
        async with playing_gowa(files=OneFile(None)) as (sandbox, account):
            outcome = await send(account, file_of(MediaKind.IMAGE, "image/png"))

            assert isinstance(outcome, Rejected)
            assert (outcome.error_class, outcome.code) == (ErrorClass.DEAD_MESSAGE, "file_missing")
            assert not sandbox.ledger

    asyncio.run(story())


def test_what_gowa_has_no_route_for_is_never_posted() -> None:
    async def story() -> None:
        async with playing_gowa() as (sandbox, account):
            outcome = await send(account, Buttons(body="Hi", buttons=(ReplyButton(id="1", title="Yes"),)))

            assert isinstance(outcome, Rejected)
            assert outcome.error_class is ErrorClass.DEAD_MESSAGE
            assert not sandbox.ledger

    asyncio.run(story())


@pytest.mark.parametrize(
    ("fault", "error_class", "code"),
    [
        ("reject:463", ErrorClass.RESTRICTED, "463"),
        ("reject:101", ErrorClass.RESTRICTED, "101"),
        ("reject:401", ErrorClass.NOT_READY, "AUTHENTICATION_ERROR"),
        ("reject:404", ErrorClass.NOT_READY, "DEVICE_NOT_FOUND"),
        ("reject:503", ErrorClass.NOT_READY, "DEVICE_MANAGER_UNAVAILABLE"),
        ("reject:131026", ErrorClass.RETRY, "INVALID_JID"),
        ("reject:100", ErrorClass.DEAD_MESSAGE, "VALIDATION_ERROR"),
    ],
)
def test_a_refusal_is_known_by_its_code(fault: str, error_class: ErrorClass, code: str) -> None:
    """Fault 62."""

    async def story() -> None:
        async with playing_gowa() as (sandbox, account):
            sandbox.inject(parse_fault(fault))
            outcome = await send(account, Text(body="Hi"))

            assert isinstance(outcome, Rejected)
            assert (outcome.error_class, outcome.code) == (error_class, code)
            assert not sandbox.ledger[0].is_accepted

    asyncio.run(story())


@pytest.mark.parametrize(
    "fault", ["503_empty", "hang", "reset", "cut_headers", "cut_body", "html_200", "empty_200", "lost:reset"]
)
def test_a_message_that_may_have_gone_out_is_an_unknown(fault: str) -> None:
    """Promise P2: a 504 of GOWA's comes after its own 45 s, with the message on its way."""

    async def story() -> None:
        async with playing_gowa() as (sandbox, account):
            sandbox.inject(parse_fault(fault))
            if fault == "hang":
                task = asyncio.ensure_future(send(account, Text(body="Hi")))
                await sandbox.wait_for_posts(1)
                await sandbox.stop()
                outcome = await task
            else:
                outcome = await send(account, Text(body="Hi"))

            assert isinstance(outcome, Ambiguous)
            assert sandbox.ledger[0].is_accepted is not fault.startswith("lost:")

    asyncio.run(story())


def test_a_gateway_that_is_down_was_sent_nothing() -> None:
    async def story() -> None:
        async with playing_gowa() as (sandbox, account):
            await sandbox.stop()

            assert isinstance(await send(account, Text(body="Hi")), NotSent)

    asyncio.run(story())


def test_a_restricted_number_may_answer_where_a_chat_is_open() -> None:
    """Fault 62: people who are new to the number wait, others do not."""

    async def story() -> None:
        async with playing_gowa() as (sandbox, account):
            await send(account, Text(body="before"))
            device = sandbox.devices.find("shop")
            assert device is not None
            device.restricted_until = sandbox.now() + 3600

            assert isinstance(await send(account, Text(body="again")), Accepted)
            assert isinstance(await send(account, Text(body="group"), GROUP.group_id), Accepted)
            stranger = await send(account, Text(body="new"), "+15550100009")
            assert isinstance(stranger, Rejected)
            assert stranger.restriction is not None
            assert stranger.restriction.scope is RestrictionScope.NEW_PEOPLE

    asyncio.run(story())


def test_a_device_that_lost_its_connection_sends_nothing() -> None:
    """Row H9."""

    async def story() -> None:
        async with playing_gowa() as (sandbox, account):
            device = sandbox.devices.find("shop")
            assert device is not None
            sandbox.devices.lose(device)
            lost = await send(account, Text(body="Hi"))
            gone = await send(gowa_account(sandbox.url, session="other"), Text(body="Hi"))

            for outcome in (lost, gone):
                assert isinstance(outcome, Rejected)
                assert outcome.error_class is ErrorClass.NOT_READY
            assert [entry.verdict for entry in sandbox.ledger] == [
                "rejected:AUTHENTICATION_ERROR",
                "rejected:DEVICE_NOT_FOUND",
            ]

    asyncio.run(story())


def test_the_door_opens_to_the_right_user_alone() -> None:
    async def story() -> None:
        settings = SandboxSettings(gateway_key="wa:hunter2-hunter2", ladder_speed=0)
        async with playing_gowa(settings) as (sandbox, account):
            assert isinstance(await send(account, Text(body="Hi")), Accepted)
            for key in ("", "wa:other-password"):
                outcome = await send(gowa_account(sandbox.url, key=key), Text(body="Hi"))
                assert isinstance(outcome, Rejected)
                assert (outcome.error_class, outcome.code) == (ErrorClass.STOP, "gateway_key")

    asyncio.run(story())


def test_a_base_path_stands_before_every_route() -> None:
    async def story() -> None:
        async with playing_gowa() as (sandbox, _):
            for url in (f"{sandbox.url}/gowa", f"{sandbox.url}/gowa/"):
                assert isinstance(await send(gowa_account(url), Text(body="Hi")), Accepted)
            wrong = await send(gowa_account(f"{sandbox.url}/gowa/gowa"), Text(body="Hi"))
            assert isinstance(wrong, Rejected | Ambiguous)

    asyncio.run(story())


def test_an_id_that_came_before_is_no_success() -> None:
    answer = json.dumps({"code": "SUCCESS", "message": "", "results": {"message_id": "3EB0AA"}}).encode()

    async def script(exchange: Exchange) -> None:
        await exchange.answer(answer)

    async def story() -> list[Outcome]:
        async with ScriptedServer(script) as server:
            transport = PROVIDER.open_transport(gowa_account(f"http://127.0.0.1:{server.port}"))
            try:
                return [await transport.send(post(Text(body="Hi"))) for _ in range(2)]
            finally:
                await transport.close()

    first, second = asyncio.run(story())

    assert isinstance(first, Accepted)
    assert isinstance(second, Ambiguous)


# --- what comes back ---


async def subscribe(account: Account, url: str) -> None:
    gateway = PROVIDER.open_gateway(account)
    try:
        await gateway.subscribe(url)
    finally:
        await gateway.close()


def read_all(account: Account, receiver: Receiver) -> list[Any]:
    reader = PROVIDER.webhook_reader(account)
    events = []
    for arrival in receiver.arrivals:
        assert reader.is_genuine(arrival.raw, arrival.headers[reader.signature_header])
        assert arrival.is_signed_with(SECRET)
        events += reader.read(arrival.raw)
    return events


def test_receipts_come_signed_and_of_each_member_of_a_group() -> None:
    """Promise P3."""

    async def story() -> None:
        async with Receiver() as receiver, playing_gowa() as (sandbox, account):
            await subscribe(account, receiver.url)
            person = await send(account, Text(body="Hi"))
            group = await send(account, Text(body="All"), GROUP.group_id)
            await sandbox.wait_until_quiet()
            events = read_all(account, receiver)

        assert isinstance(person, Accepted)
        assert isinstance(group, Accepted)
        assert all(isinstance(event, StatusEvent) and event.number_id == number_id_of(7) for event in events)
        told = {(event.provider_message_id, event.participant, event.receipt.value) for event in events}
        members = [f"+{number}" for number in GROUP.participants]
        assert told == {
            (message_id, participant, receipt)
            for message_id, participants in ((person.provider_message_id, [""]), (group.provider_message_id, members))
            for participant in participants
            for receipt in ("delivered", "read")
        }

    asyncio.run(story())


def test_a_receiver_that_is_not_there_yet_is_told_again() -> None:
    async def story() -> None:
        async with Receiver(503) as receiver, playing_gowa() as (sandbox, account):
            await subscribe(account, receiver.url)
            sandbox.apply(replace(sandbox.settings, read_share=0.0))
            await send(account, Text(body="Hi"))
            await sandbox.wait_until_quiet()

            assert [hook.attempts for hook in sandbox.hooks.told] == [2]
            assert len({arrival.raw for arrival in receiver.arrivals}) == 1

    asyncio.run(story())


def test_who_answers_is_heard() -> None:
    async def story() -> None:
        async with Receiver() as receiver, playing_gowa() as (sandbox, account):
            await subscribe(account, receiver.url)
            sandbox.devices.receive(sandbox.devices.list_all()[0], "15550100001", "STOP")
            await sandbox.wait_until_quiet()
            (event,) = read_all(account, receiver)

        assert isinstance(event, InboundEvent)
        assert (event.person.address, event.words) == (NUMBER, "STOP")

    asyncio.run(story())


def test_people_call_it_gowa() -> None:
    assert find_provider(parse_transport("gowa"), instance="shop") is PROVIDER
    assert PROVIDER.capabilities.server_ack_on_send
    assert not PROVIDER.capabilities.custom_id_kinds
