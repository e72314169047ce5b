"""The Cloud API transport against a real server on loopback that does each thing a network can do.

The question behind every test: could the other side have accepted the message?
"""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from scripted_server import Exchange, RawServer, ScriptedServer, format_answer, trusting_context

from wa_cli.daemon.loops import find_loop_factory
from wa_cli.domain.message import Text
from wa_cli.domain.outcome import Accepted, Ambiguous, ErrorClass, NotSent, Rejected
from wa_cli.domain.recipient import RecipientKind
from wa_cli.ports import Post
from wa_cli.transports.cloud_api.transport import CloudApiTransport
from wa_cli.transports.outcomes import REMEMBERED_IDS, RecentIds
from wa_cli.transports.posting import Poster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from wa_cli.domain.outcome import Outcome


@pytest.fixture(autouse=True, params=["direct on asyncio", "direct on uvloop", "aiohttp on uvloop"])
def _kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test here runs on both kinds of loop that wa sends on, and with the client that knows proxies."""
    client, _, loop = request.param.partition(" on ")
    if loop == "uvloop":
        factory = find_loop_factory()
        if factory is None:
            pytest.skip("there is no uvloop here")
        monkeypatch.setattr(asyncio.events, "new_event_loop", factory)
    if client == "aiohttp":
        monkeypatch.setattr(Poster, "_open_direct", Poster._open_proxied)


TOKEN = "EAAcanaryTOKENcanary0123456789"
NUMBER = "+6581234567"
PATH = "/v25.0/106540352242922/messages"


def make_post(tag: str = "wa1.install.1", *, body: str = "Doors open at six") -> Post:
    return Post(tag=tag, address=NUMBER, kind=RecipientKind.PERSON, content=Text(body=body))


def success(message_id: str = "wamid.HBgKAAA=") -> bytes:
    return json.dumps(
        {
            "messaging_product": "whatsapp",
            "contacts": [{"input": "6581234567", "wa_id": "6581234567"}],
            "messages": [{"id": message_id}],
        }
    ).encode()


def error(code: int, **rest: Any) -> bytes:
    return json.dumps(
        {"error": {"message": f"(#{code}) words", "type": "OAuthException", "code": code, **rest}}
    ).encode()


@asynccontextmanager
async def connected(
    server: ScriptedServer, *, scheme: str = "http", host: str = "127.0.0.1", **settings: Any
) -> AsyncIterator[CloudApiTransport]:
    settings = {"concurrency": 4, "read_timeout_seconds": 20.0, **settings}
    transport = CloudApiTransport(api_url=f"{scheme}://{host}:{server.port}{PATH}", access_token=TOKEN, **settings)
    try:
        yield transport
    finally:
        await transport.close()


async def send_once(script: Callable[[Exchange], Awaitable[None]], **settings: Any) -> tuple[Outcome, ScriptedServer]:
    async with ScriptedServer(script) as server:
        async with connected(server, **settings) as transport:
            outcome = await transport.send(make_post())
        return outcome, server


def run_once(script: Callable[[Exchange], Awaitable[None]], **settings: Any) -> Outcome:
    """The outcome of one post, which arrived exactly once."""
    outcome, server = asyncio.run(send_once(script, **settings))
    assert len(server.requests) == 1
    return outcome


def answering(*args: Any, **kwargs: Any) -> Callable[[Exchange], Awaitable[None]]:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(*args, **kwargs)

    return script


# What an accepted message is.


def test_a_success_with_an_id_is_accepted_and_the_request_is_what_meta_documents() -> None:
    outcome, server = asyncio.run(send_once(answering(success("wamid.ONE="))))
    assert outcome == Accepted(provider_message_id="wamid.ONE=", http_status=200)
    (request,) = server.requests
    assert request.request_line == f"POST {PATH} HTTP/1.1"
    assert request.header("Authorization") == f"Bearer {TOKEN}"
    assert request.header("Content-Type") == "application/json"
    assert request.header("Cookie") is None
    assert json.loads(request.body) == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "6581234567",
        "type": "text",
        "text": {"body": "Doors open at six"},
        "biz_opaque_callback_data": "wa1.install.1",
    }


@pytest.mark.parametrize("kind", ["application/json", "text/javascript; charset=UTF-8", "application/vnd.x+json", None])
def test_a_success_may_name_its_json_in_any_of_the_usual_ways(kind: str | None) -> None:
    assert isinstance(run_once(answering(success(), 200, kind)), Accepted)


def test_an_answer_in_pieces_is_read_whole() -> None:
    async def script(exchange: Exchange) -> None:
        for byte in format_answer(success()):
            await exchange.write(bytes([byte]))
            await asyncio.sleep(0)

    assert isinstance(run_once(script), Accepted)


def test_a_packed_answer_is_read() -> None:
    packed = gzip.compress(success())
    assert isinstance(run_once(answering(packed, headers=(("Content-Encoding", "gzip"),))), Accepted)


def test_connections_are_kept_and_shared_within_the_concurrency() -> None:
    async def scenario() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.answer(success(f"wamid.{exchange.number}"))

        async with ScriptedServer(script) as server, connected(server, concurrency=3) as transport:
            outcomes = await asyncio.gather(*(transport.send(make_post(f"wa1.i.{n}")) for n in range(60)))
            assert all(isinstance(outcome, Accepted) for outcome in outcomes)
            assert len({request.body for request in server.requests}) == 60
            assert server.connections <= 3

    asyncio.run(scenario())


def test_cookies_are_not_kept() -> None:
    async def scenario() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.answer(success(f"wamid.{exchange.number}"), headers=(("Set-Cookie", "a=b; Path=/"),))

        async with ScriptedServer(script) as server, connected(server, host="localhost") as transport:
            await transport.send(make_post())
            await transport.send(make_post())
            assert [request.header("Cookie") for request in server.requests] == [None, None]

    asyncio.run(scenario())


# Nothing was written: safe to send again.


def test_a_refused_connection_is_not_sent() -> None:
    """Row 58 of the faults: refused."""

    async def scenario() -> Outcome:
        with socket.socket() as unheard:
            unheard.bind(("127.0.0.1", 0))  # taken, but nobody listens
            port = unheard.getsockname()[1]
            transport = CloudApiTransport(api_url=f"http://127.0.0.1:{port}{PATH}", access_token=TOKEN, concurrency=1)
            try:
                return await transport.send(make_post())
            finally:
                await transport.close()

    outcome = asyncio.run(scenario())
    assert isinstance(outcome, NotSent)
    assert outcome.code == "connect_refused"


def test_a_name_that_cannot_be_looked_up_is_not_sent() -> None:
    """Row 57 of the faults; the name is too long for DNS, so that no resolver is asked."""

    async def scenario() -> Outcome:
        host = ".".join(["a" * 60] * 5)
        transport = CloudApiTransport(api_url=f"https://{host}{PATH}", access_token=TOKEN, concurrency=1, proxy="")
        try:
            return await transport.send(make_post())
        finally:
            await transport.close()

    outcome = asyncio.run(scenario())
    assert isinstance(outcome, NotSent)
    assert outcome.code == "dns_failed"


def test_a_stalled_handshake_is_not_sent() -> None:
    """Row 56 of the faults: the server takes the connection and never speaks TLS."""

    async def scenario() -> None:
        accepted = asyncio.Event()

        async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.set()
            await reader.read()
            writer.close()

        async with RawServer(stall) as silent:
            transport = CloudApiTransport(
                api_url=f"https://127.0.0.1:{silent.port}{PATH}",
                access_token=TOKEN,
                concurrency=1,
                connect_timeout_seconds=0.2,
            )
            outcome = await transport.send(make_post())
            await transport.close()
        assert accepted.is_set()
        assert isinstance(outcome, NotSent)
        assert outcome.code == "connect_timeout"

    asyncio.run(scenario())


def test_the_whole_deadline_in_the_connect_phase_is_not_sent() -> None:
    async def scenario() -> None:
        async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async with RawServer(stall) as silent:
            transport = CloudApiTransport(
                api_url=f"https://127.0.0.1:{silent.port}{PATH}",
                access_token=TOKEN,
                concurrency=1,
                read_timeout_seconds=0.2,
            )
            outcome = await transport.send(make_post())
            await transport.close()
        assert isinstance(outcome, NotSent)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("certificate", "host", "trusts", "reason"),
    [
        ("trusted.pem", "localhost", False, "self"),
        ("trusted.pem", "127.0.0.1", True, "IP address mismatch"),
        ("expired.pem", "localhost", True, "expired"),
    ],
)
def test_a_certificate_that_does_not_hold_is_not_sent(certificate: str, host: str, trusts: bool, reason: str) -> None:
    """Row 56 of the faults: self-signed, wrong name, expired; no fallback without verification."""

    async def scenario() -> None:
        async with (
            ScriptedServer(answering(success()), certificate=certificate) as server,
            connected(server, scheme="https", host=host, tls=trusting_context() if trusts else None) as transport,
        ):
            outcome = await transport.send(make_post())
            assert isinstance(outcome, NotSent)
            assert outcome.code == "tls_certificate"
            assert reason in outcome.details
            assert server.bytes_read == 0

    asyncio.run(scenario())


def test_a_server_that_does_not_speak_tls_is_not_sent() -> None:
    async def scenario() -> None:
        async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        async with RawServer(babble) as plain:
            transport = CloudApiTransport(
                api_url=f"https://127.0.0.1:{plain.port}{PATH}", access_token=TOKEN, concurrency=1
            )
            outcome = await transport.send(make_post())
            await transport.close()
        assert isinstance(outcome, NotSent)

    asyncio.run(scenario())


def test_a_trusted_certificate_is_sent() -> None:
    async def scenario() -> None:
        async with (
            ScriptedServer(answering(success()), certificate="trusted.pem") as server,
            connected(server, scheme="https", host="localhost", tls=trusting_context()) as transport,
        ):
            assert isinstance(await transport.send(make_post()), Accepted)

    asyncio.run(scenario())


def test_verification_cannot_be_switched_off() -> None:
    lax = trusting_context()
    lax.check_hostname = False
    with pytest.raises(ValueError, match="verifies"):
        Poster(connections=1, tls=lax)


def test_waiting_for_a_free_connection_in_vain_is_not_sent() -> None:
    async def scenario() -> None:
        release = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            await release.wait()
            await exchange.answer(success())

        async with (
            ScriptedServer(script) as server,
            connected(server, concurrency=1, connect_timeout_seconds=0.2) as transport,
        ):
            first = asyncio.create_task(transport.send(make_post("wa1.i.1")))
            await server.arrived.wait()
            second = await transport.send(make_post("wa1.i.2"))
            release.set()
            assert isinstance(second, NotSent)
            assert isinstance(await first, Accepted)
            assert len(server.requests) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["407", "503", "reset", "close", "garbage", "hang"])
def test_a_proxy_that_lets_nothing_through_is_not_sent_and_never_sees_the_token(how: str) -> None:
    """Row 58 of the faults: proxy 407 and its kin."""

    async def scenario() -> None:
        async def script(exchange: Exchange) -> None:
            if how.isdigit():
                await exchange.answer(b"no", int(how), "text/plain")
            elif how == "reset":
                exchange.reset()
            elif how == "close":
                exchange.close()
            elif how == "garbage":
                await exchange.write(b"\x00\x01\x02 not http at all\r\n\r\n")
            else:
                await asyncio.Event().wait()

        async with ScriptedServer(script) as proxy:
            transport = CloudApiTransport(
                api_url=f"https://graph.facebook.com{PATH}",
                access_token=TOKEN,
                concurrency=1,
                proxy=f"http://me:word@127.0.0.1:{proxy.port}",
                connect_timeout_seconds=0.3,
            )
            outcome = await transport.send(make_post())
            await transport.close()
            assert isinstance(outcome, NotSent)
            (request,) = proxy.requests
            assert request.request_line == "CONNECT graph.facebook.com:443 HTTP/1.1"
            assert request.header("Proxy-Authorization") == "Basic bWU6d29yZA=="
            assert TOKEN.encode() not in request.head
            assert "word" not in outcome.details

    asyncio.run(scenario())


def test_a_proxy_that_is_down_is_not_sent() -> None:
    async def scenario() -> Outcome:
        with socket.socket() as unheard:
            unheard.bind(("127.0.0.1", 0))
            transport = CloudApiTransport(
                api_url=f"https://graph.facebook.com{PATH}",
                access_token=TOKEN,
                concurrency=1,
                proxy=f"http://127.0.0.1:{unheard.getsockname()[1]}",
            )
            try:
                return await transport.send(make_post())
            finally:
                await transport.close()

    outcome = asyncio.run(scenario())
    assert isinstance(outcome, NotSent)
    assert outcome.code == "proxy_unreachable"


@pytest.mark.parametrize("certificate", ["trusted.pem", "expired.pem"])
def test_tls_is_verified_through_a_proxy_too(certificate: str) -> None:
    async def scenario() -> None:
        async with ScriptedServer(answering(success()), certificate=certificate) as server:

            async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))

            async with RawServer(tunnel) as proxy:
                transport = CloudApiTransport(
                    api_url=f"https://wa.test{PATH}",
                    access_token=TOKEN,
                    concurrency=1,
                    proxy=f"http://127.0.0.1:{proxy.port}",
                    tls=trusting_context(),
                )
                outcome = await transport.send(make_post())
                await transport.close()
            assert isinstance(outcome, Accepted if certificate == "trusted.pem" else NotSent)
            assert len(server.requests) == (1 if certificate == "trusted.pem" else 0)

    asyncio.run(scenario())


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(65536):
            writer.write(chunk)
    except OSError:
        pass
    finally:
        writer.close()


def test_a_kind_of_proxy_that_cannot_be_used_is_not_sent() -> None:
    async def scenario() -> Outcome:
        transport = CloudApiTransport(
            api_url=f"https://graph.facebook.com{PATH}",
            access_token=TOKEN,
            concurrency=1,
            proxy="socks5://127.0.0.1:9",
        )
        try:
            return await transport.send(make_post())
        finally:
            await transport.close()

    outcome = asyncio.run(scenario())
    assert isinstance(outcome, NotSent)
    assert outcome.code == "proxy_unsupported"


def test_a_loopback_server_is_reached_past_any_proxy() -> None:
    outcome = run_once(answering(success()), proxy="http://127.0.0.1:9")
    assert isinstance(outcome, Accepted)


def test_not_sent_is_only_said_when_the_server_read_nothing() -> None:
    """A server that ends each connection as it comes: either word may be right, but never a false not-sent."""

    async def scenario() -> None:
        read: list[int] = []

        async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                if len(read) % 2:
                    writer.close()
                    read.append(0)
                else:
                    read.append(len(await reader.read(10)))
                    writer.transport.abort()
            except OSError:
                read.append(1)

        async with RawServer(slam) as door:
            transport = CloudApiTransport(
                api_url=f"http://127.0.0.1:{door.port}{PATH}", access_token=TOKEN, concurrency=1
            )
            for turn in range(60):
                outcome = await transport.send(make_post())
                assert isinstance(outcome, NotSent | Ambiguous)
                while len(read) <= turn:
                    await asyncio.sleep(0)
                if isinstance(outcome, NotSent):
                    assert read[turn] == 0
            await transport.close()

    asyncio.run(scenario())


# Something was written, and no verdict came: it may have been accepted.


def test_no_answer_in_time_is_ambiguous() -> None:
    """Row 47 of the faults: accepted, and never answered."""

    async def script(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    outcome = run_once(script, read_timeout_seconds=2.0)
    assert isinstance(outcome, Ambiguous)
    assert outcome.code == "no_answer_in_time"


@pytest.mark.parametrize("ending", ["reset", "close"])
def test_a_connection_that_ends_after_the_request_is_ambiguous(ending: str) -> None:
    """Row 48 of the faults."""

    async def script(exchange: Exchange) -> None:
        getattr(exchange, ending)()

    outcome = run_once(script)
    assert isinstance(outcome, Ambiguous)
    assert outcome.http_status is None


@pytest.mark.parametrize("ending", ["reset", "close"])
@pytest.mark.parametrize("framing", ["length", "chunked", "until close"])
def test_an_answer_cut_at_any_byte_is_ambiguous(ending: str, framing: str) -> None:
    """Row 49 of the faults: an id that arrived in part is never taken for one."""
    body = success("wamid.HALF=")
    if framing == "length":
        whole = format_answer(body)
    elif framing == "chunked":
        pieces = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:50], body[50:90], body[90:]))
        whole = format_answer(pieces + b"0\r\n\r\n", headers=(("Transfer-Encoding", "chunked"),))
    else:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
        whole = head + body

    async def scenario() -> None:
        cut = 0

        async def script(exchange: Exchange) -> None:
            await exchange.write(whole[:cut])
            getattr(exchange, ending)()

        async with ScriptedServer(script) as server, connected(server) as transport:
            for cut in range(len(whole)):
                outcome = await transport.send(make_post())
                # A last chunk may be missing its own end: the JSON is whole, yet the answer is not.
                assert isinstance(outcome, Ambiguous), (cut, outcome)
            assert len(server.requests) == len(whole)

    asyncio.run(scenario())


@pytest.mark.parametrize("dripped", ["head", "body"])
def test_a_dripping_answer_ends_at_the_deadline_and_blocks_nobody(dripped: str) -> None:
    """Row 54 of the faults."""

    async def scenario() -> None:
        async def script(exchange: Exchange) -> None:
            if json.loads(exchange.body)["biz_opaque_callback_data"] != "wa1.i.slow":
                await exchange.answer(success(f"wamid.{exchange.number}"))
                return
            whole = format_answer(b" " * 500 + success())
            start = whole.index(b"\r\n\r\n") + 4 if dripped == "body" else 0
            await exchange.write(whole[:start])
            for byte in whole[start:]:
                await exchange.write(bytes([byte]))
                await asyncio.sleep(0.02)

        async with ScriptedServer(script) as server, connected(server, read_timeout_seconds=4.0) as transport:
            slow = asyncio.create_task(transport.send(make_post("wa1.i.slow")))
            await server.arrived.wait()
            others = await asyncio.gather(*(transport.send(make_post(f"wa1.i.{n}")) for n in range(20)))
            assert not slow.done()
            assert all(isinstance(outcome, Accepted) for outcome in others)
            outcome = await slow
            assert isinstance(outcome, Ambiguous)
            assert outcome.code == "no_answer_in_time"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("status", "content_type", "body", "code"),
    [
        (200, "text/html", b"<html>hello</html>", "unreadable_success"),
        (200, "application/json", b"", "unreadable_success"),
        (200, "application/json", success()[:-3], "unreadable_success"),
        (200, "application/json", b"\xef\xbb\xbf" + success(), "unreadable_success"),
        (200, "application/json", success().decode().encode("utf-16"), "unreadable_success"),
        (200, "application/json", b"[" * 100_000, "unreadable_success"),
        (200, "application/json", b'{"messages":[{"id":' + b"9" * 5000 + b"}]}", "unreadable_success"),
        (200, "text/html", success(), "wrong_content_type"),
        (200, "application/json", b"null", "no_message_id"),
        (200, "application/json", b'{"success":true}', "no_message_id"),
        (200, "application/json", b'{"messages":[]}', "no_message_id"),
        (200, "application/json", b'{"messages":[{}]}', "no_message_id"),
        (200, "application/json", b'{"messages":[{"id":""}]}', "no_message_id"),
        (200, "application/json", b'{"messages":[{"id":7}]}', "no_message_id"),
        (200, "application/json", b'{"messages":[{"id":"a\\nb"}]}', "no_message_id"),
        (200, "application/json", b'{"messages":[{"id":"a"},{"id":"b"}]}', "no_message_id"),
        (200, "application/json", b'{"error":"no"}', "error_without_code"),
        (400, "application/json", b'{"error":{"message":"no"}}', "error_without_code"),
        (400, "application/json", b'{"error":{"code":true}}', "error_without_code"),
        (200, "application/json", b'{"error":{"code":1},"messages":[{"id":"a"}]}', "contradictory"),
        (204, None, b"", "unreadable_success"),
        (500, "text/html", b"<html>oops</html>", "http_500_without_verdict"),
        (502, "text/html", b"", "http_502_without_verdict"),
        (503, "application/json", b"{}", "http_503_without_verdict"),
        (504, None, b"", "http_504_without_verdict"),
        (400, "text/plain", b"Bad Request", "http_400_without_verdict"),
        (401, "text/plain", b"", "http_401_without_verdict"),
        (404, "text/html", b"<html></html>", "http_404_without_verdict"),
        (408, "text/html", b"", "http_408_without_verdict"),
        (429, "text/html", b"slow down", "http_429_without_verdict"),
    ],
)
def test_an_answer_without_a_verdict_is_ambiguous(
    status: int, content_type: str | None, body: bytes, code: str
) -> None:
    """Rows 50 and 51 of the faults; promise P4."""
    outcome = run_once(answering(body, status, content_type))
    assert isinstance(outcome, Ambiguous)
    assert (outcome.code, outcome.http_status) == (code, status)


def test_a_damaged_packed_answer_is_ambiguous() -> None:
    """Row 50 of the faults: bad gzip."""
    packed = bytearray(gzip.compress(success()))
    packed[15] ^= 0xFF
    outcome = run_once(answering(bytes(packed), headers=(("Content-Encoding", "gzip"),)))
    assert isinstance(outcome, Ambiguous)


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nbroken header\x00\r\n\r\n",
        b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
        b"\x00" * 2000,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello",
    ],
)
def test_an_answer_that_is_not_http_is_ambiguous(raw: bytes) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.write(raw)
        exchange.close()

    assert isinstance(run_once(script, read_timeout_seconds=20.0), Ambiguous)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(status: int) -> None:
    """Row 55 of the faults; promise P11: the token goes nowhere else."""

    async def scenario() -> None:
        async with ScriptedServer(answering(success())) as elsewhere:
            place = f"http://127.0.0.1:{elsewhere.port}{PATH}"
            outcome, server = await send_once(answering(b"", status, None, (("Location", place),)))
            assert isinstance(outcome, Ambiguous)
            assert (outcome.code, outcome.http_status) == ("redirect", status)
            assert len(server.requests) == 1
            assert elsewhere.connections == 0

    asyncio.run(scenario())


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize("kind", ["length", "endless", "chunked", "packed"])
def test_a_giant_answer_is_cut_short_in_bounded_memory(kind: str) -> None:
    """Row 59 of the faults."""
    written = 0

    async def script(exchange: Exchange) -> None:
        nonlocal written
        megabyte = b" " * 1_000_000
        if kind == "packed":
            packed = gzip.compress(megabyte * 200, 9)
            await exchange.answer(packed, headers=(("Content-Encoding", "gzip"),))
            return
        headers = {
            "length": "Content-Length: 300000000\r\n",
            "endless": "",
            "chunked": "Transfer-Encoding: chunked\r\n",
        }[kind]
        await exchange.write(f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{headers}\r\n".encode())
        while written < 300_000_000:
            await exchange.write(b"f4240\r\n" + megabyte + b"\r\n" if kind == "chunked" else megabyte)
            written += len(megabyte)

    before = _peak_megabytes()
    outcome = run_once(script)
    assert isinstance(outcome, Ambiguous)
    assert outcome.code == "answer_too_big"
    assert written < 150_000_000  # what the two sockets' buffers hold, which no system makes as large, and no more
    assert _peak_megabytes() - before < (280 if kind == "packed" else 60)  # the server packs 200 MB itself


@pytest.mark.parametrize("kind", ["many", "long", "endless line", "interim"])
def test_a_header_bomb_is_ambiguous(kind: str) -> None:
    """Row 59 of the faults."""

    async def script(exchange: Exchange) -> None:
        await exchange.write(b"HTTP/1.1 100 Continue\r\n\r\n" if kind == "interim" else b"HTTP/1.1 200 OK\r\n")
        for turn in range(20_000):
            if kind == "many":
                await exchange.write(b"X-%d: y\r\n" % turn)
            elif kind == "long":
                await exchange.write(b"X-%d: " % turn + b"y" * 100_000 + b"\r\n")
            elif kind == "interim":
                await exchange.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
                await asyncio.sleep(0.001)
            else:
                await exchange.write(b"y" * 1000)

    assert isinstance(run_once(script, read_timeout_seconds=3.0), Ambiguous)


def test_a_kept_connection_that_closes_as_we_write_is_ambiguous_and_not_repeated() -> None:
    """Row 60 of the faults: the client repeats no POST, and no byte back is no proof."""

    async def scenario() -> None:
        async def script(exchange: Exchange) -> None:
            if exchange.number == 1:
                await exchange.answer(success())
            else:
                exchange.close()

        async with ScriptedServer(script) as server, connected(server, concurrency=1) as transport:
            assert isinstance(await transport.send(make_post("wa1.i.1")), Accepted)
            second = await transport.send(make_post("wa1.i.2"))
            assert isinstance(second, Ambiguous)
            assert len(server.requests) == 2
            assert server.connections == 1

    asyncio.run(scenario())


def test_a_kept_connection_that_closed_while_idle_is_replaced() -> None:
    async def scenario() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.answer(success(f"wamid.{exchange.number}"))
            exchange.close()

        async with ScriptedServer(script) as server, connected(server, concurrency=1) as transport:
            for _ in range(5):
                assert isinstance(await transport.send(make_post()), Accepted)
                await server.wait_until_closed()  # the FIN is in our socket by now
            assert server.connections == 5

    asyncio.run(scenario())


@pytest.mark.parametrize("at_once", [True, False])
def test_an_answer_nobody_asked_for_is_not_taken_for_the_next_ones(at_once: bool) -> None:
    """A stray answer on a kept connection must not become the outcome of another message."""

    async def scenario() -> None:
        has_strayed = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            answer = format_answer(success(f"wamid.{exchange.number}"))
            stray = format_answer(success(f"wamid.stray{exchange.number}"))
            if exchange.number > 1:
                await exchange.write(answer)
            elif at_once:
                await exchange.write(answer + stray)
            else:
                await exchange.write(answer)
                await asyncio.sleep(0.05)  # apart from the answer, as a packet of its own
                await exchange.write(stray)
            has_strayed.set()

        async with ScriptedServer(script) as server, connected(server, concurrency=1) as transport:
            assert isinstance(await transport.send(make_post("wa1.i.1")), Accepted)
            await has_strayed.wait()
            await asyncio.sleep(0.1)  # the stray answer has been read by now
            for _ in range(3):
                outcome = await transport.send(make_post("wa1.i.2"))
                assert isinstance(outcome, Accepted | NotSent)
                if isinstance(outcome, Accepted):
                    assert "stray" not in outcome.provider_message_id
            assert len(server.requests) >= 3

    asyncio.run(scenario())


def test_the_id_of_an_earlier_message_is_ambiguous() -> None:
    """Row 50 of the faults: a repeated id raises an alarm."""

    async def scenario() -> None:
        async with ScriptedServer(answering(success("wamid.SAME="))) as server, connected(server) as transport:
            assert isinstance(await transport.send(make_post("wa1.i.1")), Accepted)
            outcome = await transport.send(make_post("wa1.i.2"))
            assert isinstance(outcome, Ambiguous)
            assert outcome.code == "repeated_id"

    asyncio.run(scenario())


def test_the_memory_for_ids_is_bounded() -> None:
    recent = RecentIds()
    for number in range(REMEMBERED_IDS * 2):
        answer = Accepted(provider_message_id=f"wamid.{number}", http_status=200)
        assert recent.judge(answer) is answer
    assert len(recent._ids) == REMEMBERED_IDS
    assert isinstance(recent.judge(answer), Ambiguous)


def test_a_cancelled_post_lets_go_of_its_connection() -> None:
    async def scenario() -> None:
        async def script(exchange: Exchange) -> None:
            if exchange.number == 1:
                await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")
                await asyncio.Event().wait()
            await exchange.answer(success())

        async with ScriptedServer(script) as server, connected(server, concurrency=1) as transport:
            task = asyncio.create_task(transport.send(make_post("wa1.i.1")))
            await server.arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert isinstance(await transport.send(make_post("wa1.i.2")), Accepted)

    asyncio.run(scenario())


# The vendor's own refusal.


@pytest.mark.parametrize(
    ("status", "code", "error_class"),
    [
        (400, 131056, ErrorClass.PAIR),
        (403, 131056, ErrorClass.PAIR),
        (429, 131056, ErrorClass.PAIR),
        (200, 131056, ErrorClass.PAIR),
        (400, 130429, ErrorClass.THROTTLE),
        (403, 130429, ErrorClass.THROTTLE),
        (429, 130429, ErrorClass.THROTTLE),
        (403, 80007, ErrorClass.THROTTLE),
        (500, 131000, ErrorClass.RETRY),
        (503, 2, ErrorClass.RETRY),
        (401, 190, ErrorClass.STOP),
        (400, 190, ErrorClass.STOP),
        (403, 131031, ErrorClass.STOP),
        (400, 368, ErrorClass.STOP),
        (500, 131026, ErrorClass.DEAD_RECIPIENT),
        (400, 131047, ErrorClass.DEAD_MESSAGE),
        (404, 132001, ErrorClass.DEAD_MESSAGE),
        (400, 131049, ErrorClass.HOURS),
    ],
)
def test_a_refusal_is_judged_by_its_code_whatever_the_http_status(
    status: int, code: int, error_class: ErrorClass
) -> None:
    """Rows 51, 53, 61, 62 and 63 of the faults; promise P3."""
    outcome = run_once(answering(error(code), status))
    assert isinstance(outcome, Rejected)
    assert (outcome.error_class, outcome.code, outcome.http_status) == (error_class, str(code), status)


def test_retry_after_reaches_the_outcome() -> None:
    """Row 52 of the faults."""
    outcome = run_once(answering(error(130429), 429, headers=(("Retry-After", "17"),)))
    assert isinstance(outcome, Rejected)
    assert outcome.wait_seconds == 17.0


def test_details_hold_neither_the_token_nor_a_whole_number() -> None:
    """Promise P11."""
    message = f"bad {TOKEN} for {NUMBER} and wamid.HBgLNjU4MTIzNDU2NxUC\x1b[31m\u202e"
    body = error(131009, message=message, error_data=f"to: 65 8123-4567, token {TOKEN}", fbtrace_id="AbC_1")
    outcome = run_once(answering(body, 400))
    assert isinstance(outcome, Rejected)
    for canary in (TOKEN, "81234567", "8123-4567", "HBgL", "\x1b", "\u202e"):
        assert canary not in outcome.details
    assert "4567" in outcome.details
    assert "fbtrace_id AbC_1" in outcome.details


def test_a_group_is_refused_without_a_post() -> None:
    async def scenario() -> None:
        async with ScriptedServer(answering(success())) as server, connected(server) as transport:
            outcome = await transport.send(
                Post(
                    tag="wa1.i.1",
                    address="120363000000000000@g.us",
                    kind=RecipientKind.GROUP,
                    content=Text(body="hello"),
                )
            )
            assert isinstance(outcome, Rejected)
            assert outcome.error_class is ErrorClass.DEAD_RECIPIENT
            assert server.connections == 0

    asyncio.run(scenario())


def test_text_in_any_script_arrives_as_it_was() -> None:
    words = 'naïve 👩‍👩‍👧 مرحبا 你好 \u2028 \\ " </script> \x7f'

    async def scenario() -> None:
        async with ScriptedServer(answering(success())) as server, connected(server) as transport:
            await transport.send(make_post(body=words))
            assert json.loads(server.requests[0].body)["text"]["body"] == words

    asyncio.run(scenario())
