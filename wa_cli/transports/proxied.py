"""aiohttp behind the posting seam: for posts that go through a proxy."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import aiohttp

from wa_cli.transports.posting import MAX_ANSWER_BYTES, OWN_HEADERS, Answer, PostFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.connector import Connection

    from wa_cli.transports.posting import Terms


class ProxiedClient:
    """A Client that is aiohttp.  It can post without a proxy too."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._session: aiohttp.ClientSession | None = None

    async def post(
        self, url: str, *, headers: Mapping[str, str], body: bytes, proxy: str | None
    ) -> Answer | PostFailed:
        session = self._session or self._open()
        marked = MarkedBody(body)
        response: aiohttp.ClientResponse | None = None
        try:
            response = await session.post(url, data=marked, headers=headers, allow_redirects=False, proxy=proxy)
            content = response.content
            answer = await content.readany()
            while not content.at_eof():
                if len(answer) > MAX_ANSWER_BYTES:
                    response.close()
                    return PostFailed(
                        may_have_arrived=True,
                        code="answer_too_big",
                        details=f"the answer is longer than {MAX_ANSWER_BYTES} bytes",
                        http_status=response.status,
                    )
                answer += await content.readany()
        except Exception as error:  # noqa: BLE001 - whatever the client raises, the question is what was written
            if response is not None:
                response.close()
            return _explain_failure(
                error,
                may_have_arrived=marked.handed_over,
                http_status=response.status if response is not None else None,
            )
        except BaseException:
            if response is not None:
                response.close()
            raise
        return Answer(status=response.status, headers=response.headers, body=answer)

    async def close(self) -> None:
        """Close all connections.  A later post opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        terms = self._terms
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=terms.connections,
                keepalive_timeout=terms.keepalive_seconds,
                ssl=terms.tls if terms.tls is not None else True,
            ),
            request_class=MarkingRequest,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=terms.read_timeout_seconds, connect=terms.connect_timeout_seconds),
            headers=OWN_HEADERS,
            # aiohttp's own trust_env asks a thread for the proxy at every post (4 times the CPU of the post)
            # and would add credentials from ~/.netrc.
            trust_env=False,
        )
        return self._session


class MarkedBody(aiohttp.BytesPayload):
    """A body that knows whether its request was begun: the mark is set before the first byte can be written.

    The mark is structural: `MarkingRequest.send` gets a connection that is ready (name, TCP, proxy and TLS are done)
    and is the only place that writes the request.  Exception names would not do: a reset before and after the write
    raise the same one, and aiohttp's trace hooks say the same as this for a fifth more CPU a post.
    """

    handed_over = False


class MarkingRequest(aiohttp.ClientRequest):
    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        body = self.body
        if isinstance(body, MarkedBody):
            transport, protocol = conn.transport, conn.protocol
            if transport is None or transport.is_closing() or protocol is None or protocol.should_close:
                # should_close: bytes came in on an idle connection.  Posting now would read them as the
                # answer to this request, whoever they were meant for.
                raise _UnfitConnection
            body.handed_over = True
        return await super().send(conn)


class _UnfitConnection(Exception):
    """The connection was closed, or spoke out of turn, before the request was begun."""


def _explain_failure(error: Exception, *, may_have_arrived: bool, http_status: int | None) -> PostFailed:
    code, details = (
        _name_broken_answer(error, begun=http_status is not None) if may_have_arrived else _name_failed_connect(error)
    )
    return PostFailed(may_have_arrived=may_have_arrived, code=code, details=details, http_status=http_status)


def _name_failed_connect(error: Exception) -> tuple[str, str]:
    match error:
        case _UnfitConnection():
            return "closed_before_write", "the connection was lost before anything was written"
        case aiohttp.ClientConnectorDNSError():
            return "dns_failed", f"the name {error.host} could not be looked up"
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(error.certificate_error, "verify_message", "") or "it cannot be trusted"
            return "tls_certificate", f"the certificate of {error.host} was refused: {reason}"
        case aiohttp.ClientConnectorSSLError():
            return "tls_failed", f"no TLS with {error.host}: {error.strerror or 'handshake failed'}"
        case aiohttp.ClientProxyConnectionError():
            return "proxy_unreachable", f"the proxy cannot be reached: {error.strerror}"
        case aiohttp.ClientHttpProxyError():
            return "proxy_refused", f"the proxy answered {error.status}"
        case aiohttp.ClientConnectorError():
            if error.errno in (errno.EMFILE, errno.ENFILE):
                return "no_file_descriptors", "too many open files on this machine"
            word = "connect_refused" if error.errno == errno.ECONNREFUSED else "connect_failed"
            return word, f"{error.host} port {error.port}: {error.strerror or 'no connection'}"
        case TimeoutError():
            return "connect_timeout", "no connection within the time allowed"
        case aiohttp.InvalidURL():
            return "bad_url", "the address to post to is not a URL"
        case _:
            return "connect_failed", f"no connection ({type(error).__name__})"


def _name_broken_answer(error: Exception, *, begun: bool) -> tuple[str, str]:
    match error:
        case TimeoutError():
            return "no_answer_in_time", "the request was written and no complete answer came in time"
        case aiohttp.ServerDisconnectedError():
            return "closed_without_answer", "the connection was closed after the request was written"
        case aiohttp.ClientPayloadError():
            return "answer_cut", "the answer broke off or could not be decoded"
        case aiohttp.ClientResponseError():
            return "answer_unreadable", "the answer is not readable as HTTP"
        case OSError() if begun:
            return "answer_cut", "the connection broke inside the answer"
        case OSError() | aiohttp.ClientConnectionError():
            return "connection_reset", "the connection broke after the request was begun"
        case _:
            return "answer_unreadable", f"the answer could not be read ({type(error).__name__})"
