"""A loopback HTTP server that does exactly what a test tells it, byte by byte, and remembers what it got.

The keys in `tls/` were made for these tests and open nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TLS_FOLDER = Path(__file__).parent / "tls"


class Exchange:
    """One request as it arrived, and the means to answer it or not."""

    def __init__(self, number: int, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        self.number = number  # from 1, over all connections
        self.head = head
        self.body = body
        self.writer = writer

    @property
    def request_line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode()

    def header(self, name: str) -> str | None:
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None

    async def write(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def answer(
        self,
        body: bytes,
        status: int = 200,
        content_type: str | None = "application/json; charset=UTF-8",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        await self.write(format_answer(body, status, content_type, headers))

    def reset(self) -> None:
        """End the connection with a RST instead of a FIN."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()


def format_answer(
    body: bytes,
    status: int = 200,
    content_type: str | None = "application/json; charset=UTF-8",
    headers: tuple[tuple[str, str], ...] = (),
) -> bytes:
    lines = [f"HTTP/1.1 {status} Words"]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    if not any(name.lower() in ("content-length", "transfer-encoding") for name, _ in headers):
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


class RawServer:
    """`async with RawServer(handle) as server`: every connection is given to `handle`, and ended at the exit."""

    def __init__(
        self,
        handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
        *,
        certificate: str | None = None,
    ) -> None:
        self._handle = handle
        self._certificate = certificate
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0

    async def __aenter__(self) -> Self:
        context = None
        if self._certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(TLS_FOLDER / self._certificate, TLS_FOLDER / "test-only-key.pem")
        self._server = await asyncio.start_server(self._run, "127.0.0.1", 0, ssl=context, limit=2**22)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # an aborted transport closes its socket one turn later
        await asyncio.sleep(0)

    async def wait_until_closed(self) -> None:
        """Until no connection is left: what was closed here has reached the other side."""
        while self._tasks:
            await asyncio.sleep(0)

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._handle(reader, writer)
            if writer.is_closing():
                await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()


class ScriptedServer(RawServer):
    """`async with ScriptedServer(script) as server`: `script` is awaited once for each request.

    A script that returns keeps the connection open for the next request, unless it closed it.
    """

    def __init__(self, script: Callable[[Exchange], Awaitable[None]], *, certificate: str | None = None) -> None:
        super().__init__(self._serve, certificate=certificate)
        self._script = script
        self.requests: list[Exchange] = []
        self.bytes_read = 0
        self.arrived = asyncio.Event()  # set by each request; clear it to wait for the next

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            head = await reader.readuntil(b"\r\n\r\n")
            self.bytes_read += len(head)
            exchange = Exchange(len(self.requests) + 1, head, b"", writer)
            length = int(exchange.header("Content-Length") or 0)
            exchange.body = await reader.readexactly(length)
            self.bytes_read += length
            self.requests.append(exchange)
            self.arrived.set()
            await self._script(exchange)


def trusting_context() -> ssl.SSLContext:
    """What a machine would verify with whose only authority is the test's own."""
    return ssl.create_default_context(cafile=str(TLS_FOLDER / "trusted.pem"))
