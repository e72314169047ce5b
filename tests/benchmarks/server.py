"""The cheapest server that answers a send as Meta does, in a process and on a core of its own.

It parses as little as HTTP allows, so that what is measured is the client.  `GET /arrivals` gives back, and forgets,
when the first byte of each post came in.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from tests.benchmarks.measuring import SERVER_CORE, pin

if TYPE_CHECKING:
    from collections.abc import Iterator

TAG: Final = b'"biz_opaque_callback_data":"'
PATH: Final = "/v25.0/106540352242922/messages"


class Answering(asyncio.Protocol):
    """One connection: whole requests in, one answer each, in their order."""

    accepted = 0  # of all connections together: every message id is a new one

    def __init__(self, arrivals: list[tuple[str, int]], *, latency_seconds: float, records: bool) -> None:
        self._arrivals = arrivals
        self._latency_seconds = latency_seconds
        self._records = records
        self._buffer = b""
        self._first_byte_ns = 0
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, chunk: bytes) -> None:
        if self._records and not self._buffer:
            self._first_byte_ns = time.time_ns()
        self._buffer += chunk
        while True:
            head_end = self._buffer.find(b"\r\n\r\n")
            if head_end < 0:
                return
            head = self._buffer[:head_end]
            body_length = 0
            at = head.lower().find(b"content-length:")
            if at >= 0:
                body_length = int(head[at + 15 :].split(b"\r\n", 1)[0])
            end = head_end + 4 + body_length
            if len(self._buffer) < end:
                return
            body, self._buffer = self._buffer[head_end + 4 : end], self._buffer[end:]
            if head.startswith(b"GET"):
                self._write(json.dumps(self._arrivals).encode())
                self._arrivals.clear()
                continue
            if self._records:
                tag_at = body.find(TAG) + len(TAG)
                tag = body[tag_at : body.find(b'"', tag_at)].decode("ascii")
                self._arrivals.append((tag, self._first_byte_ns))
            Answering.accepted += 1
            answer = (
                b'{"messaging_product":"whatsapp","contacts":[{"input":"+15550100000","wa_id":"15550100000"}],'
                b'"messages":[{"id":"wamid.HBgLMTU1NTAxMDAwMDAVAgARGBI%016d"}]}' % Answering.accepted
            )
            if self._latency_seconds:
                asyncio.get_running_loop().call_later(self._latency_seconds, self._write, answer)
            else:
                self._write(answer)

    def _write(self, body: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=UTF-8\r\nContent-Length: %d\r\n\r\n%b"
                % (len(body), body)
            )


def _serve(pipe: Any, latency_seconds: float, records: bool) -> None:
    pin(SERVER_CORE)

    async def serve() -> None:
        arrivals: list[tuple[str, int]] = []
        server = await asyncio.get_running_loop().create_server(
            lambda: Answering(arrivals, latency_seconds=latency_seconds, records=records), "127.0.0.1", 0
        )
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


class Server:
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}{PATH}"
        self._arrivals_url = f"http://127.0.0.1:{port}/arrivals"

    def take_arrivals(self) -> list[tuple[str, int]]:
        """(tag, first byte in ns since 1970) of every post since the last call."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self._arrivals_url, timeout=30) as answer:
            return [(tag, at_ns) for tag, at_ns in json.load(answer)]


@contextmanager
def serving(*, latency_ms: float = 0.0, records: bool = False) -> Iterator[Server]:
    """A running server.  latency_ms: between a post and its answer.  records: whether arrivals are noted."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(theirs, latency_ms / 1000, records), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Server(ours.recv())
    finally:
        process.terminate()
        process.join()
