"""The client that goes straight to the server: its connections, beyond what the contract of a transport asks."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from scripted_server import Exchange, RawServer, ScriptedServer, format_answer, trusting_context

from wa_cli.daemon.loops import find_loop_factory
from wa_cli.transports.posting import Answer, Poster, PostFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@pytest.fixture(autouse=True, params=["asyncio", "uvloop"])
def _loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "uvloop":
        factory = find_loop_factory()
        if factory is None:
            pytest.skip("there is no uvloop here")
        monkeypatch.setattr(asyncio.events, "new_event_loop", factory)


async def post(poster: Poster, server: RawServer, path: str = "/messages", **headers: str) -> Answer | PostFailed:
    return await poster.post(f"http://127.0.0.1:{server.port}{path}", headers=headers, body=b"{}")


def run(
    script: Callable[[Exchange], Awaitable[None]],
    scenario: Callable[[Poster, ScriptedServer], Awaitable[None]],
    **settings: Any,
) -> None:
    async def main() -> None:
        async with ScriptedServer(script) as server:
            poster = Poster(**{"connections": 1, "read_timeout_seconds": 10.0, **settings})
            try:
                await scenario(poster, server)
            finally:
                await poster.close()

    asyncio.run(main())


async def answer_ok(exchange: Exchange) -> None:
    await exchange.answer(b"%d" % exchange.number)


def test_a_request_says_where_it_goes_and_how_long_it_is() -> None:
    async def scenario(poster: Poster, server: ScriptedServer) -> None:
        await post(poster, server, "/a b/ü?session=x y", Accept="text/plain")
        (request,) = server.requests
        assert request.request_line == "POST /a%20b/%C3%BC?session=x%20y HTTP/1.1"
        assert request.header("Host") == f"127.0.0.1:{server.port}"
        assert request.header("Content-Length") == "2"
        assert request.header("Accept") == "text/plain"
        assert request.header("Accept-Encoding") == "identity"

    run(answer_ok, scenario)


def test_a_user_in_the_address_becomes_an_authorization() -> None:
    async def scenario(poster: Poster, server: ScriptedServer) -> None:
        await poster.post(f"http://me:wo%20rd@127.0.0.1:{server.port}/", headers={}, body=b"{}")
        assert server.requests[0].header("Authorization") == "Basic bWU6d28gcmQ="

    run(answer_ok, scenario)


@pytest.mark.parametrize(
    "url", ["graph.facebook.com/messages", "ftp://127.0.0.1/", "http://", "http://127.0.0.1:port/"]
)
def test_what_is_not_a_url_is_not_posted_to(url: str) -> None:
    async def main() -> None:
        outcome = await Poster(connections=1).post(url, headers={}, body=b"{}")
        assert isinstance(outcome, PostFailed)
        assert not outcome.may_have_arrived
        assert outcome.code == "bad_url"

    asyncio.run(main())


def test_a_line_break_in_a_header_is_a_bug_and_reaches_nobody() -> None:
    async def scenario(poster: Poster, server: ScriptedServer) -> None:
        with pytest.raises(ValueError, match="line break"):
            await post(poster, server, **{"X-Name": "a\r\nX-Other: b"})
        assert server.connections == 0

    run(answer_ok, scenario)


def test_the_headers_of_an_answer_are_found_in_any_case_and_the_first_counts() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(b"{}", headers=(("Retry-After", "7"), ("retry-after", "9")))

    async def scenario(poster: Poster, server: ScriptedServer) -> None:
        answer = await post(poster, server)
        assert isinstance(answer, Answer)
        assert answer.headers["RETRY-AFTER"] == "7"
        assert answer.headers.get("missing") is None
        assert set(answer.headers) == {"retry-after", "content-type", "content-length"}
        assert len(answer.headers) == 3

    run(script, scenario)


def test_an_answer_that_ends_with_its_connection_is_whole() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.write(b"HTTP/1.1 200 OK\r\n\r\n{}")
        exchange.close()

    async def scenario(poster: Poster, server: ScriptedServer) -> None:
        for number in range(1, 4):
            answer = await post(poster, server)
            assert isinstance(answer, Answer)
            assert answer.body == b"{}"
            assert server.connections == number

    run(script, scenario)


def test_interim_answers_are_passed_over() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        await exchange.answer(b"{}")

    async def scenario(poster: Poster, server: ScriptedServer) -> None:
        for _ in range(2):
            answer = await post(poster, server)
            assert isinstance(answer, Answer)
            assert (answer.status, answer.body) == (200, b"{}")
            assert "link" not in answer.headers
        assert server.connections == 1

    run(script, scenario)


@pytest.mark.parametrize("head", ["HTTP/1.0 200 OK\r\n", "HTTP/1.1 200 OK\r\nConnection: close\r\n"])
def test_a_server_that_does_not_keep_its_connections_gets_new_ones(head: str) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.write(f"{head}Content-Length: 2\r\n\r\n{{}}".encode())

    async def scenario(poster: Poster, server: ScriptedServer) -> None:
        for number in range(1, 4):
            assert isinstance(await post(poster, server), Answer)
            assert server.connections == number

    run(script, scenario)


def test_an_idle_connection_is_closed_after_its_time() -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n{}")
            writer.write(format_answer(b"{}"))
            assert await reader.read() == b""
            ended.set()

        async with RawServer(serve) as server:
            poster = Poster(connections=1, keepalive_seconds=0.05)
            assert isinstance(await post(poster, server), Answer)
            await asyncio.wait_for(ended.wait(), 60.0)
            assert isinstance(await post(poster, server), Answer)
            assert server.connections == 2
            await poster.close()

    asyncio.run(main())


def test_an_old_connection_is_not_used_though_nobody_has_closed_it() -> None:
    """A laptop that slept: the loop's timers have not run, and the connection is from yesterday evening."""

    async def scenario(poster: Poster, server: ScriptedServer) -> None:
        assert isinstance(await post(poster, server), Answer)
        time.sleep(0.3)  # the loop stands still
        assert isinstance(await post(poster, server), Answer)
        assert server.connections == 2

    run(answer_ok, scenario, keepalive_seconds=0.2)


def test_a_server_that_says_how_long_it_waits_is_believed() -> None:
    """Node's servers close after 5 s and say so: a post at that moment would be an unknown."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer(b"{}", headers=(("Keep-Alive", "timeout=1, max=100"),))

    async def scenario(poster: Poster, server: ScriptedServer) -> None:
        for number in range(1, 3):
            assert isinstance(await post(poster, server), Answer)
            assert server.connections == number

    run(script, scenario)


def test_a_connection_that_was_closed_while_the_loop_stood_still_is_not_written_to() -> None:
    """The end is in the socket and the loop has not read it yet: written now, the request would be an unknown."""
    answered = threading.Event()
    close_first = threading.Event()
    closed = threading.Event()

    def serve(listener: socket.socket) -> None:
        for number in range(2):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(format_answer(b"%d" % number))
                answered.set()
                if number == 0:
                    close_first.wait(60.0)
                else:
                    connection.recv(1)
            closed.set()

    async def main(port: int) -> None:
        poster = Poster(connections=1)
        for number in range(2):
            answer = await poster.post(f"http://127.0.0.1:{port}/", headers={}, body=b"{}")
            assert isinstance(answer, Answer)
            assert answer.body == b"%d" % number
            close_first.set()
            closed.wait(60.0)  # the loop stands still meanwhile
            time.sleep(0.02)
        await poster.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        asyncio.run(main(listener.getsockname()[1]))
        server.join(60.0)


def test_who_waits_for_a_connection_gets_the_next_free_one_also_when_another_gives_up() -> None:
    release = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await release.wait()
        await exchange.answer(b"%d" % exchange.number)

    async def scenario(poster: Poster, server: ScriptedServer) -> None:
        first, second, third, fourth = (asyncio.create_task(post(poster, server)) for _ in range(4))
        await server.arrived.wait()
        second.cancel()
        release.set()
        assert isinstance(await first, Answer)
        third.cancel()  # it may have been given the connection by now
        await asyncio.gather(second, third, return_exceptions=True)
        assert isinstance(await fourth, Answer)
        assert server.connections <= 2

    run(script, scenario)


def test_a_connection_that_ends_makes_room_for_those_who_wait() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(b"{}", headers=(("Connection", "close"),))
        exchange.close()

    async def scenario(poster: Poster, server: ScriptedServer) -> None:
        answers = await asyncio.gather(*(post(poster, server) for _ in range(20)))
        assert all(isinstance(answer, Answer) for answer in answers)
        assert server.connections == 20

    run(script, scenario, connections=2)


def test_each_post_has_a_deadline_of_its_own() -> None:
    async def script(exchange: Exchange) -> None:
        if b"late" in exchange.body:
            await asyncio.Event().wait()
        await exchange.answer(b"{}")

    async def scenario(poster: Poster, server: ScriptedServer) -> None:
        url = f"http://127.0.0.1:{server.port}/"
        began = asyncio.get_running_loop().time()
        late = []
        for number in range(3):
            late.append(asyncio.create_task(poster.post(url, headers={}, body=b"late %d" % number)))
            await asyncio.sleep(0.1)
            assert isinstance(await poster.post(url, headers={}, body=b"{}"), Answer)
        for number, task in enumerate(late):
            outcome = await task
            assert isinstance(outcome, PostFailed)
            assert outcome.code == "no_answer_in_time"
            assert asyncio.get_running_loop().time() - began >= 3.0 + number * 0.1 - 0.01

    run(script, scenario, connections=4, read_timeout_seconds=3.0)


def test_an_encrypted_connection_is_kept_and_closed_in_bounded_time() -> None:
    async def main() -> None:
        async with ScriptedServer(answer_ok, certificate="trusted.pem") as server:
            poster = Poster(connections=1, tls=trusting_context())
            for _ in range(3):
                answer = await poster.post(f"https://localhost:{server.port}/", headers={}, body=b"{}")
                assert isinstance(answer, Answer)
            assert server.connections == 1
            await asyncio.wait_for(poster.close(), 30.0)
            answer = await poster.post(f"https://localhost:{server.port}/", headers={}, body=b"{}")
            assert isinstance(answer, Answer)
            await poster.close()

    asyncio.run(main())
