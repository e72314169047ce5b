"""HTTP/1.1 over kept connections, straight to the server: what a Poster uses where no proxy stands in between.

One request on a connection at a time, and none twice.  asyncio connects and encrypts, llhttp (in httptools) reads the
answers; what is left stands here: the pool, the deadlines, and the mark that says when a request was begun.
"""

from __future__ import annotations

import asyncio
import errno
import re
import select
import socket
import ssl
import time
import zlib
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import quote, unquote, urlsplit

import httptools
from aiohappyeyeballs import start_connection

from wa_cli.transports.posting import MAX_ANSWER_BYTES, OWN_HEADERS, Answer, PostFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohappyeyeballs import AddrInfoType

    from wa_cli.transports.posting import Terms

MAX_HEAD_BYTES: Final = 65_536
HEADS_KEPT: Final = 1_000  # beginnings of requests, kept for the next post like it
SECOND_ADDRESS_AFTER_SECONDS: Final = 0.25  # RFC 8305: how long the first address is tried alone
ADDRESSES_KEPT_SECONDS: Final = 10.0
KEEPALIVE_MARGIN_SECONDS: Final = 1.0  # so much sooner than the server says does an idle connection count as ended
CLOSE_PATIENCE_SECONDS: Final = 0.5
# Idle time goes by a clock that goes on while a laptop sleeps: what was open yesterday evening is not young today.
IDLE_CLOCK: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))

_SAFE_IN_PATH: Final = "/%:@!$&'()*+,;=~"
_PACKED: Final = (b"gzip", b"x-gzip", b"deflate")
_GZIP_OR_ZLIB: Final = 47  # zlib's word for: 32 kB of memory, and whichever of the two the first bytes show


def _idle_clock() -> float:
    return time.clock_gettime(IDLE_CLOCK) if IDLE_CLOCK is not None else time.monotonic()


class Headers(Mapping[str, str]):
    """The headers of an answer, by their names in any case; of several with one name the first counts."""

    __slots__ = ("_raw",)

    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        self._raw = raw

    def __getitem__(self, name: str) -> str:
        value = _find(self._raw, name.lower().encode("latin-1", "replace"))
        if value is None:
            raise KeyError(name)
        return value.decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.decode("latin-1").lower() for name, _value in self._raw))

    def __len__(self) -> int:
        return sum(1 for _name in self)


def _find(raw: list[tuple[bytes, bytes]], wanted: bytes) -> bytes | None:
    for name, value in raw:
        if len(name) == len(wanted) and name.lower() == wanted:
            return value
    return None


class BadUrl(Exception):
    """An address that is not an http or https URL."""


class DirectClient:
    """A Client that speaks HTTP/1.1 itself."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._pools: dict[tuple[str, str, int], _Pool] = {}
        self._heads: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[_Pool, bytes]] = {}
        self._deadlines: dict[_Connection, float] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0

    async def post(
        self, url: str, *, headers: Mapping[str, str], body: bytes, proxy: str | None = None
    ) -> Answer | PostFailed:
        if proxy is not None:
            raise ValueError("this client goes past every proxy")
        key = (url, tuple(headers.items()))
        prepared = self._heads.get(key)
        if prepared is None:
            try:
                prepared = self._prepare(url, headers)
            except BadUrl:
                return _not_sent("bad_url", "the address to post to is not a URL")
            if len(self._heads) >= HEADS_KEPT:
                self._heads.clear()
            self._heads[key] = prepared
        pool, head = prepared
        deadline = asyncio.get_running_loop().time() + self._terms.read_timeout_seconds
        connection = pool.take()
        if connection is None:
            try:
                async with asyncio.timeout(min(self._terms.connect_timeout_seconds, self._terms.read_timeout_seconds)):
                    connection = await pool.get()
            except Exception as error:  # noqa: BLE001 - whatever it was, nothing has been written
                return _not_sent(*_name_failed_connect(error, pool.host, pool.port))
        # From this check to the write nothing is awaited.  `begin` is the mark, and the only place that writes: until
        # it is called not one byte has left, from then on only an answer can tell what became of the request.
        if not connection.is_fit:
            connection.drop()
            return _not_sent("closed_before_write", "the connection was lost before anything was written")
        answer = connection.begin(b"%b%d\r\n\r\n%b" % (head, len(body), body))
        self._watch(connection, deadline)
        try:
            return await answer
        except asyncio.CancelledError:
            connection.abandon(answer)
            raise

    async def close(self) -> None:
        pools, self._pools = list(self._pools.values()), {}
        self._heads.clear()
        for pool in pools:
            await pool.close()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _prepare(self, url: str, headers: Mapping[str, str]) -> tuple[_Pool, bytes]:
        """The pool for a URL, and a request up to its length.  Raises: BadUrl; ValueError for an impossible header."""
        try:
            parts = urlsplit(url)
            usual_port = {"http": 80, "https": 443}[parts.scheme]
            port = parts.port or usual_port
            host = (parts.hostname or "").encode("ascii" if (parts.hostname or "x").isascii() else "idna").decode()
        except (ValueError, KeyError) as error:
            raise BadUrl from error
        if not host:
            raise BadUrl
        name = f"[{host}]" if ":" in host else host
        lines = {"Host": name if port == usual_port else f"{name}:{port}"}
        if parts.username is not None:
            from base64 import b64encode

            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            lines["Authorization"] = f"Basic {b64encode(pair.encode()).decode('ascii')}"
        lines |= OWN_HEADERS
        lines |= headers
        target = quote(parts.path or "/", safe=_SAFE_IN_PATH)
        if parts.query:
            target += "?" + quote(parts.query, safe=_SAFE_IN_PATH + "?")
        if any(sign in word for word in (*lines, *lines.values()) for sign in "\r\n\0"):
            raise ValueError("a header may not hold a line break")
        head = "\r\n".join([f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items())])
        place = (parts.scheme, host, port)
        pool = self._pools.get(place)
        if pool is None:
            pool = self._pools[place] = _Pool(self, self._terms, *place)
        return pool, head.encode("latin-1") + b"\r\nContent-Length: "

    # All posts have the same time, so one alarm for the oldest serves them all: most alarms are never needed.

    def _watch(self, connection: _Connection, deadline: float) -> None:
        self._deadlines[connection] = deadline
        if self._alarm is None or deadline < self._alarm_at:
            self._set_alarm(deadline)

    def unwatch(self, connection: _Connection) -> None:
        """The connection has nothing to wait for any more."""
        self._deadlines.pop(connection, None)

    def _set_alarm(self, at: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = asyncio.get_running_loop().call_at(at, self._look_for_late)

    def _look_for_late(self) -> None:
        self._alarm = None
        now = asyncio.get_running_loop().time()
        for connection in [connection for connection, deadline in self._deadlines.items() if deadline <= now]:
            connection.fail("no_answer_in_time", "the request was written and no complete answer came in time")
        if self._deadlines:
            self._set_alarm(min(self._deadlines.values()))


class _Pool:
    """The connections to one server, at most `connections` of them.  The one used last is used first, so that those
    which are not needed grow old and are closed."""

    def __init__(self, client: DirectClient, terms: Terms, scheme: str, host: str, port: int) -> None:
        self.client = client
        self.terms = terms
        self.host = host
        self.port = port
        self._is_encrypted = scheme == "https"
        self._tls: ssl.SSLContext | None = None
        self._open: set[_Connection] = set()
        self._ending: set[_Connection] = set()
        self._connecting = 0
        self._idle: list[_Connection] = []
        self._waiting: deque[asyncio.Future[_Connection | None]] = deque()
        self._look_up: asyncio.Future[list[AddrInfoType]] | None = None
        self._addresses_until = 0.0
        self._sweeper: asyncio.TimerHandle | None = None

    def take(self) -> _Connection | None:
        """A kept connection that can be written to, or None."""
        if not self._idle:
            return None
        now = _idle_clock()
        while self._idle:
            connection = self._idle.pop()
            if connection.may_be_used_again(now):
                return connection
            connection.drop()
        return None

    async def get(self) -> _Connection:
        """A connection, kept or new, as soon as there is one.  Raises: whatever making one can raise."""
        while True:
            connection = self.take()
            if connection is not None:
                return connection
            if len(self._open) + self._connecting < self.terms.connections:
                return await self._connect()
            waiter: asyncio.Future[_Connection | None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                connection = await waiter
            except BaseException:
                if waiter.done() and not waiter.cancelled():  # given to us as we gave up
                    self._give(waiter.result())
                raise
            if connection is not None and connection.is_fit:
                return connection

    def put_back(self, connection: _Connection) -> None:
        """Take a connection whose exchange has ended well."""
        if self._waiting and self._give(connection):
            return
        connection.idle_since = _idle_clock()
        self._idle.append(connection)
        if self._sweeper is None:
            self._set_sweeper()

    def admit(self, connection: _Connection) -> None:
        self._open.add(connection)

    def dismiss(self, connection: _Connection) -> None:
        """A connection is of no use any more: another may be opened in its place."""
        self._open.discard(connection)
        self._ending.add(connection)
        with suppress(ValueError):
            self._idle.remove(connection)
        self._give(None)

    def see_off(self, connection: _Connection) -> None:
        """A connection is closed."""
        self._open.discard(connection)
        self._ending.discard(connection)

    async def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        endings = [connection.end() for connection in (*self._open, *self._ending)]
        if endings:
            await asyncio.wait(endings, timeout=CLOSE_PATIENCE_SECONDS)
        for connection in list(self._open):  # the other side does not say good-bye
            connection.drop()
        for _ in range(3):  # uvloop lets go of a socket two rounds after it has reported the end
            await asyncio.sleep(0)

    def _give(self, connection: _Connection | None) -> bool:
        """Give a connection, or with None the right to open one, to the next who waits.  False: nobody does."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return True
        if connection is not None:
            connection.idle_since = _idle_clock()
            self._idle.append(connection)
        return False

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        self._connecting += 1
        try:
            addresses = await self._find_addresses()
            try:
                raw = await start_connection(addresses, happy_eyeballs_delay=SECOND_ADDRESS_AFTER_SECONDS, loop=loop)
            except BaseException:
                self._look_up = None  # whoever tries next asks for the name anew
                raise
            try:
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                context = self._find_context() if self._is_encrypted else None
                name = self.host if self._is_encrypted else None
                _, connection = await loop.create_connection(
                    lambda: _Connection(self), sock=raw, ssl=context, server_hostname=name
                )
            except BaseException:
                raw.close()  # the loop may not have taken it over yet
                raise
        except BaseException:
            self._connecting -= 1
            self._give(None)
            raise
        self._connecting -= 1
        return connection

    async def _find_addresses(self) -> list[AddrInfoType]:
        """The server's addresses.  Those who connect at once share one look-up, and its answer holds for a while."""
        now = _idle_clock()
        if self._look_up is None or self._addresses_until <= now:
            self._look_up = asyncio.ensure_future(self._ask_for_addresses())
            self._look_up.add_done_callback(lambda done: done.cancelled() or done.exception())  # it may be nobody's
            self._addresses_until = now + ADDRESSES_KEPT_SECONDS
        look_up = self._look_up
        try:
            return await asyncio.shield(look_up)
        except Exception:
            if self._look_up is look_up:
                self._look_up = None
            raise

    async def _ask_for_addresses(self) -> list[AddrInfoType]:
        return [*await asyncio.get_running_loop().getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)]

    def _find_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = self.terms.tls
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    def _set_sweeper(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(self.terms.keepalive_seconds, self._sweep)

    def _sweep(self) -> None:
        now = _idle_clock()
        overdue = [connection for connection in self._idle if connection.is_overdue(now)]
        for connection in overdue:
            self._idle.remove(connection)
            connection.end()
        self._sweeper = None
        if self._idle:
            self._set_sweeper()


class _Connection(asyncio.Protocol):
    """One connection: at most one request on its way, and what has come of its answer so far."""

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool
        self._client = pool.client
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._poll: select.poll | None = None
        self._keepalive_seconds = pool.terms.keepalive_seconds
        self._answer: asyncio.Future[Answer | PostFailed] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._is_dropped = False
        self.idle_since = 0.0

    # --- what its pool and its post ask ---

    @property
    def is_fit(self) -> bool:
        """Whether a request may be written: open, silent, and without one already."""
        return not self._is_dropped and self._answer is None and not self._transport.is_closing()

    def may_be_used_again(self, now: float) -> bool:
        """Whether an idle connection is still fit, as far as anybody can know without writing to it."""
        return self.is_fit and not self.is_overdue(now) and not self._has_news()

    def is_overdue(self, now: float) -> bool:
        return now - self.idle_since >= self._keepalive_seconds

    def begin(self, request: bytes) -> asyncio.Future[Answer | PostFailed]:
        """Write a request.  What comes of it is the future's result; it never raises but for being cancelled."""
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._size = self._received = 0
        self._has_head = self._is_whole = self._is_followed = self._may_stay = False
        self._answer = answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return answer

    def abandon(self, answer: asyncio.Future[Answer | PostFailed]) -> None:
        """Nobody waits for this answer any more."""
        if self._answer is answer:
            self._answer = None
            self._client.unwatch(self)
            self.drop()

    def fail(self, code: str, details: str) -> None:
        """The request was begun and no answer to it can be read."""
        status = self._status if self._has_head else None
        self._settle(PostFailed(may_have_arrived=True, code=code, details=details, http_status=status))
        self.drop()

    def end(self) -> asyncio.Future[None]:
        """Close politely.  The future is done when that is over."""
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_future()
            if not self._is_dropped:
                self._transport.close()
        return self._ended

    def drop(self) -> None:
        """Close at once.  Its place in the pool is free from now on."""
        if not self._is_dropped:
            self._is_dropped = True
            self._transport.abort()
            self._pool.dismiss(self)

    def _has_news(self) -> bool:
        """Whether something has come in that the loop has not read yet: bytes out of turn, or the end.

        A server may close as soon as it has answered, and after a pause of the loop or of the machine much may have
        ended: the question costs a system call, a request that is written in vain an unknown.
        """
        if not hasattr(select, "poll"):
            return False
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(self._poll.poll(0))

    # --- what the loop reports ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are of no class of asyncio's
        self._pool.admit(self)

    def data_received(self, data: bytes) -> None:
        if self._answer is None:  # nobody has asked: the next answer would be taken for another's
            self.drop()
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._is_followed = True
            if not self._is_whole or self._status < 200:
                self.fail("answer_unreadable", "the answer is not readable as HTTP")
                return
        if self._size > MAX_ANSWER_BYTES or self._received > MAX_ANSWER_BYTES + MAX_HEAD_BYTES:
            self.fail("answer_too_big", f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
        elif self._is_whole:
            self._finish()
        elif not self._has_head and self._received > MAX_HEAD_BYTES:
            self.fail("answer_unreadable", "the head of the answer does not end")

    def eof_received(self) -> None:
        if self._answer is not None and self._lasts_until_close():
            self._finish()

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None:
            if error is None and self._lasts_until_close():
                self._finish()
            elif self._has_head:
                self.fail("answer_cut", "the answer broke off")
            elif error is None:
                self.fail("closed_without_answer", "the connection was closed after the request was written")
            else:
                self.fail("connection_reset", "the connection broke after the request was begun")
        if not self._is_dropped:
            self._is_dropped = True
            self._pool.dismiss(self)
        self._pool.see_off(self)
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    # --- what the parser reads ---

    def on_message_begin(self) -> None:
        if self._is_whole:
            self._is_followed = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._is_whole:
            return
        self._status = self._parser.get_status_code()
        self._may_stay = self._parser.should_keep_alive()
        self._has_head = True

    def on_body(self, piece: bytes) -> None:
        if not self._is_whole:
            self._size += len(piece)
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        if self._is_whole:
            return
        if 100 <= self._status < 200 and self._status != 101:  # interim: the answer is still to come
            self._has_head = False
            self._headers = []
            return
        self._is_whole = True

    # --- the end of an exchange ---

    def _lasts_until_close(self) -> bool:
        """Whether the answer said nothing of its length, so that the end of the connection is its own."""
        return (
            self._has_head
            and not self._is_whole
            and _find(self._headers, b"content-length") is None
            and _find(self._headers, b"transfer-encoding") is None
        )

    def _finish(self) -> None:
        answer = self._read_answer()
        may_stay = (
            self._may_stay
            and not self._is_followed
            and not self._transport.is_closing()
            and not self._transport.get_write_buffer_size()
        )
        self._settle(answer)
        if may_stay:
            self._pool.put_back(self)
        else:
            self.drop()

    def _settle(self, result: Answer | PostFailed) -> None:
        answer, self._answer = self._answer, None
        self._client.unwatch(self)
        if answer is not None and not answer.done():
            answer.set_result(result)

    def _read_answer(self) -> Answer | PostFailed:
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        for name, value in self._headers:
            if len(name) == 16 and name.lower() == b"content-encoding" and value.strip().lower() in _PACKED:
                unpacked = _unpack(body)
                if unpacked is None or len(unpacked) > MAX_ANSWER_BYTES:
                    return PostFailed(
                        may_have_arrived=True,
                        code="answer_cut" if unpacked is None else "answer_too_big",
                        details="the answer could not be unpacked"
                        if unpacked is None
                        else f"the answer is longer than {MAX_ANSWER_BYTES} bytes",
                        http_status=self._status,
                    )
                body = unpacked
            elif len(name) == 10 and name.lower() == b"keep-alive":
                said = re.search(rb"timeout=(\d{1,6})", value.lower())
                if said:
                    seconds = int(said[1]) - KEEPALIVE_MARGIN_SECONDS
                    self._keepalive_seconds = min(self._pool.terms.keepalive_seconds, seconds)
        return Answer(status=self._status, headers=Headers(self._headers), body=body)


def _unpack(body: bytes) -> bytes | None:
    """The body without its gzip or zlib coding, at most one byte more of it than is allowed; None for a damaged one."""
    unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        unpacked = unpacker.decompress(body, MAX_ANSWER_BYTES + 1)
    except zlib.error:
        return None
    return unpacked if unpacker.eof or len(unpacked) > MAX_ANSWER_BYTES else None


def _not_sent(code: str, details: str) -> PostFailed:
    return PostFailed(may_have_arrived=False, code=code, details=details)


def _name_failed_connect(error: Exception, host: str, port: int) -> tuple[str, str]:
    match error:
        case TimeoutError() if error.errno is None:
            return "connect_timeout", "no connection within the time allowed"
        case socket.gaierror() | UnicodeError():
            return "dns_failed", f"the name {host} could not be looked up"
        case ssl.SSLCertVerificationError():
            reason = error.verify_message or "it cannot be trusted"
            return "tls_certificate", f"the certificate of {host} was refused: {reason}"
        case ssl.SSLError():
            return "tls_failed", f"no TLS with {host}: {error.strerror or 'handshake failed'}"
        case OSError() if error.errno in (errno.EMFILE, errno.ENFILE):
            return "no_file_descriptors", "too many open files on this machine"
        case OSError():
            word = "connect_refused" if error.errno == errno.ECONNREFUSED else "connect_failed"
            return word, f"{host} port {port}: {error.strerror or 'no connection'}"
        case _:
            return "connect_failed", f"no connection ({type(error).__name__})"
