"""Our own files on the way to Meta: uploaded once, sent by id, uploaded again when Meta has lost them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING

import httpx
import pytest
from scripted_server import Exchange, ScriptedServer

from wa_cli.domain.message import LocalFile, Media, MediaKind, Poll
from wa_cli.domain.outcome import Accepted, ErrorClass, NotSent, Rejected
from wa_cli.domain.recipient import RecipientKind
from wa_cli.errors import UsageError
from wa_cli.ports import Post
from wa_cli.sandbox import Sandbox, SandboxSettings
from wa_cli.transports.cloud_api.transport import CloudApiTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from wa_cli.domain.outcome import Outcome

PNG = b"\x89PNG\r\n\x1a\n" + b"picture" * 9
FILE = LocalFile(digest=hashlib.sha256(PNG).hexdigest(), mime_type="image/png", size=len(PNG))
TOKEN = {"Authorization": "Bearer sandbox-token"}


class FakeFiles:
    """The files that there are, by digest."""

    def __init__(self, *contents: bytes) -> None:
        self.contents = {hashlib.sha256(one).hexdigest(): one for one in contents}

    def read(self, file: LocalFile) -> bytes:
        if file.digest not in self.contents:
            raise UsageError("the message's file is not there any more", code="file_missing")
        return self.contents[file.digest]


class FakeUploads:
    """What is remembered of uploads; outlives a transport as the database does."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[str, int | None]] = {}

    def find(self, digest: str, *, now_ms: int) -> str | None:
        media_id, expires_at_ms = self.kept.get(digest, (None, None))
        return None if expires_at_ms is not None and expires_at_ms <= now_ms else media_id

    def save(self, digest: str, media_id: str, *, now_ms: int, expires_at_ms: int | None) -> None:
        assert now_ms + 28 * 86_400_000 < (expires_at_ms or 0) < now_ms + 30 * 86_400_000
        self.kept[digest] = (media_id, expires_at_ms)

    def forget(self, digest: str) -> None:
        self.kept.pop(digest, None)


def picture(number: int = 1, file: LocalFile = FILE) -> Post:
    content = Media(kind=MediaKind.IMAGE, caption="Poster", file=file)
    return Post(
        tag=f"wa1.install.{number}", address=f"+65812300{number:02}", kind=RecipientKind.PERSON, content=content
    )


def open_transport(url: str, files: FakeFiles, uploads: FakeUploads) -> CloudApiTransport:
    return CloudApiTransport(api_url=url, access_token="sandbox-token", concurrency=8, files=files, uploads=uploads)


async def send_all(url: str, uploads: FakeUploads, *posts: Post, files: FakeFiles | None = None) -> list[Outcome]:
    """Send at once, through a transport of its own: as a process that has just started does."""
    transport = open_transport(url, files or FakeFiles(PNG), uploads)
    try:
        return list(await asyncio.gather(*(transport.send(post) for post in posts)))
    finally:
        await transport.close()


def test_many_sends_of_one_file_upload_it_once_and_a_restart_uploads_nothing() -> None:
    """Issue 6, point 3."""

    async def run() -> None:
        async with Sandbox(SandboxSettings(port=0)) as sandbox:
            uploads = FakeUploads()
            outcomes = await send_all(sandbox.messages_url, uploads, *(picture(n) for n in range(1, 7)))
            assert all(isinstance(one, Accepted) for one in outcomes)
            (upload,) = sandbox.media.list_all()
            assert (upload.sha256, upload.mime_type) == (FILE.digest, "image/png")
            assert uploads.kept[FILE.digest][0] == upload.media_id
            again = await send_all(sandbox.messages_url, uploads, picture(8))
            assert isinstance(again[0], Accepted)
            assert len(sandbox.media.list_all()) == 1
            assert [entry.verdict for entry in sandbox.ledger] == ["accepted"] * 7

    asyncio.run(run())


def test_a_file_that_meta_has_lost_is_uploaded_again_and_its_message_goes_out_once() -> None:
    """Fault 68.  Issue 6, point 3: the refused attempt posted nothing, the next one has a fresh upload."""

    async def run() -> None:
        async with Sandbox(SandboxSettings(port=0)) as sandbox, httpx.AsyncClient(trust_env=False) as client:
            uploads = FakeUploads()
            transport = open_transport(sandbox.messages_url, FakeFiles(PNG), uploads)
            assert isinstance(await transport.send(picture(1)), Accepted)
            answer = await client.post(f"{sandbox.url}/sandbox/media/expire", json={}, headers=TOKEN)
            assert answer.json() == {"expired": 1}
            refused = await transport.send(picture(2))
            assert isinstance(refused, Rejected)
            assert (refused.error_class, refused.code) == (ErrorClass.RETRY, "media_expired")
            assert uploads.kept == {}
            assert isinstance(await transport.send(picture(2)), Accepted)
            await transport.close()
            accepted = [entry.to for entry in sandbox.ledger if entry.verdict == "accepted"]
            assert accepted == ["6581230001", "6581230002"]
            assert len(sandbox.media.list_all()) == 2

    asyncio.run(run())


def test_a_file_that_is_gone_fails_its_message_and_nothing_is_posted() -> None:
    """Issue 6, point 3."""

    async def run() -> None:
        async with Sandbox(SandboxSettings(port=0)) as sandbox:
            (outcome,) = await send_all(sandbox.messages_url, FakeUploads(), picture(), files=FakeFiles())
            assert isinstance(outcome, Rejected)
            assert (outcome.error_class, outcome.code) == (ErrorClass.DEAD_MESSAGE, "file_missing")
            assert sandbox.ledger == []

    asyncio.run(run())


def test_a_poll_that_was_queued_for_another_provider_fails_and_nothing_is_posted() -> None:
    """Row H13.  Issue 6, point 3: as when a queue is moved to a number on the Cloud API."""

    async def run() -> None:
        async with Sandbox(SandboxSettings(port=0)) as sandbox:
            poll = Poll(question="Coming?", options=("Yes", "No"))
            post = Post(tag="wa1.install.1", address="+6581230001", kind=RecipientKind.PERSON, content=poll)
            (outcome,) = await send_all(sandbox.messages_url, FakeUploads(), post)
            assert isinstance(outcome, Rejected)
            assert (outcome.error_class, outcome.code) == (ErrorClass.DEAD_MESSAGE, "unsupported_type")
            assert sandbox.ledger == []

    asyncio.run(run())


def test_what_meta_would_not_take_is_refused_at_the_upload() -> None:
    """Issue 6, point 3: types and sizes, at the sandbox as at Meta."""

    async def run() -> None:
        async with Sandbox(SandboxSettings(port=0)) as sandbox:
            gif = LocalFile(digest=FILE.digest, mime_type="image/gif", size=9)
            (outcome,) = await send_all(sandbox.messages_url, FakeUploads(), picture(file=gif))
            assert isinstance(outcome, Rejected)
            assert (outcome.error_class, outcome.code) == (ErrorClass.DEAD_MESSAGE, "100")
            big = b"\x89PNG" + b"x" * 5 * 1024 * 1024
            file = LocalFile(digest=hashlib.sha256(big).hexdigest(), mime_type="image/png", size=len(big))
            (outcome,) = await send_all(sandbox.messages_url, FakeUploads(), picture(file=file), files=FakeFiles(big))
            assert isinstance(outcome, Rejected)
            assert outcome.code == "131053"
            assert sandbox.ledger == []

    asyncio.run(run())


def test_the_upload_of_another_sort_or_another_number_is_refused_by_the_sandbox() -> None:
    """Issue 6, point 3."""

    async def run() -> None:
        settings = SandboxSettings(port=0, other_phone_number_ids=("2",))
        async with Sandbox(settings) as sandbox, httpx.AsyncClient(trust_env=False) as client:
            await send_all(sandbox.messages_url, FakeUploads(), picture())
            (upload,) = sandbox.media.list_all()
            by_id = {"id": upload.media_id}
            body = {"messaging_product": "whatsapp", "to": "6581230001", "type": "video", "video": by_id}
            wrong = await client.post(sandbox.messages_url, json=body, headers=TOKEN)
            assert wrong.json()["error"]["code"] == 131053
            body = {**body, "type": "image", "image": by_id}
            foreign = await client.post(f"{sandbox.url}/v25.0/2/messages", json=body, headers=TOKEN)
            assert foreign.json()["error"]["code"] == 100
            found = await client.get(f"{sandbox.url}/v25.0/{upload.media_id}", headers=TOKEN)
            assert found.json()["sha256"] == FILE.digest
            gone = await client.delete(f"{sandbox.url}/v25.0/{upload.media_id}", headers=TOKEN)
            assert gone.json() == {"success": True}
            assert sandbox.media.list_all() == []

    asyncio.run(run())


async def cut(exchange: Exchange) -> None:
    exchange.reset()


async def half(exchange: Exchange) -> None:
    await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{")
    exchange.close()


async def html(exchange: Exchange) -> None:
    await exchange.answer(b"<html>", content_type="text/html")


async def odd(exchange: Exchange) -> None:
    await exchange.answer(b'{"id": 5}')


async def busy(exchange: Exchange) -> None:
    await exchange.answer(b"", status=503)


async def expired(exchange: Exchange) -> None:
    error = {"message": "gone", "type": "OAuthException", "code": 190, "error_subcode": 463}
    await exchange.answer(json.dumps({"error": error}).encode(), status=401)


@pytest.mark.parametrize("script", [cut, half, html, odd, busy])
def test_an_upload_without_a_verdict_is_never_an_unknown(script: Callable[..., object]) -> None:
    """Issue 6, point 3: nobody was written to, so the message is tried again."""

    async def run() -> None:
        async with ScriptedServer(script) as server:  # type: ignore[arg-type]  # each is an async script
            url = f"http://127.0.0.1:{server.port}/v25.0/1/messages"
            (outcome,) = await send_all(url, FakeUploads(), picture())
            assert isinstance(outcome, Rejected)
            assert (outcome.error_class, outcome.code) == (ErrorClass.RETRY, "upload_failed")

    asyncio.run(run())


def test_an_upload_that_meets_a_dead_token_stops_the_instance() -> None:
    """Issue 6, point 3."""

    async def run() -> None:
        async with ScriptedServer(expired) as server:
            url = f"http://127.0.0.1:{server.port}/v25.0/1/messages"
            (outcome,) = await send_all(url, FakeUploads(), picture())
            assert isinstance(outcome, Rejected)
            assert outcome.error_class is ErrorClass.STOP

    asyncio.run(run())


def test_an_upload_that_could_not_begin_was_not_sent() -> None:
    """Issue 6, point 3."""

    async def run() -> None:
        (outcome,) = await send_all("http://127.0.0.1:9/v25.0/1/messages", FakeUploads(), picture())
        assert isinstance(outcome, NotSent)

    asyncio.run(run())
