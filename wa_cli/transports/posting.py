"""One HTTP POST, and how far it got: the seam under every transport that speaks HTTP.

Says only what happened on the wire; what an answer means is the transport's to read.  aiohttp's names stop
here, and aiohttp itself is loaded when a Poster is made: importing this module stays cheap, and no post waits for it.
"""

from __future__ import annotations

import errno
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    import aiohttp
    from aiohttp.connector import Connection

READ_TIMEOUT_SECONDS = 60.0  # cutting a post short makes an unknown, so this is long
CONNECT_TIMEOUT_SECONDS = 10.0  # pool wait, name, TCP, proxy and TLS together; nothing is written yet
KEEPALIVE_SECONDS = 15.0  # under the idle expiry of usual servers, so that they rarely close as we write
MAX_ANSWER_BYTES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A complete HTTP answer.  headers: names in any case.  body: without transfer and content coding."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PostFailed:
    """A post without a complete answer.

    may_have_arrived: False only when it is certain that not one byte of the request was written.
    code: a stable word.  details: for people; holds no header and no body.
    http_status: of the answer that broke off, or None when none had begun.
    """

    may_have_arrived: bool
    code: str
    details: str
    http_status: int | None = None


class Poster:
    """Posts bytes over kept-alive connections; follows no redirect, repeats nothing, keeps no cookie.

    connections: the most that are open at once, also the most posts in flight; more wait for a free one.
    read_timeout_seconds: for a whole post, from asking for a connection to the last byte of the answer.
    connect_timeout_seconds: for its first part, until a connection is ready to be written to.
    proxy: a proxy's http URL; None reads HTTPS_PROXY, HTTP_PROXY and NO_PROXY once a host, "" uses none.
      A loopback address is always reached directly.
    tls: None verifies against the machine's certificates.  It cannot be told not to verify.
    Must be used from one event loop.
    """

    def __init__(
        self,
        *,
        connections: int,
        read_timeout_seconds: float = READ_TIMEOUT_SECONDS,
        connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
        keepalive_seconds: float = KEEPALIVE_SECONDS,
        proxy: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if connections < 1:
            raise ValueError("a poster needs at least one connection")
        if tls is not None and (not tls.check_hostname or not tls.verify_mode):
            raise ValueError("a poster verifies certificates and host names")
        self._connections = connections
        self._read_timeout_seconds = read_timeout_seconds
        self._connect_timeout_seconds = connect_timeout_seconds
        self._keepalive_seconds = keepalive_seconds
        self._proxy = proxy
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._body_class: Any
        self._request_class, self._body_class = _marking_classes()
        self._proxies: dict[tuple[str, str], str | None] = {}

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Answer | PostFailed:
        """POST once.  body: not empty.  Raises only what a bug or a cancelled task raises."""
        if not body:
            raise ValueError("a post needs a body")
        session = self._session or self._open()
        proxy = self._find_proxy(url)
        if proxy is not None and not proxy.startswith(("http://", "https://")):
            return PostFailed(
                may_have_arrived=False,
                code="proxy_unsupported",
                details=f"only an HTTP proxy can be used, not {urlsplit(proxy).scheme or 'this one'}",
            )
        marked = self._body_class(body)
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
        import aiohttp

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections,
                keepalive_timeout=self._keepalive_seconds,
                ssl=self._tls if self._tls is not None else True,
            ),
            request_class=self._request_class,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._read_timeout_seconds, connect=self._connect_timeout_seconds),
            # Identity, since a short JSON gains nothing from being packed and loses when it arrives damaged.
            headers={"Accept-Encoding": "identity", "User-Agent": "wa"},
            # aiohttp's own trust_env asks a thread for the proxy at every post (4 times the CPU of the post)
            # and would add credentials from ~/.netrc.
            trust_env=False,
        )
        return self._session

    def _find_proxy(self, url: str) -> str | None:
        if self._proxy is not None:
            proxy = self._proxy or None
            return None if proxy is None or is_loopback(urlsplit(url).hostname or "") else proxy
        parts = urlsplit(url)
        key = (parts.scheme, parts.netloc)
        if key not in self._proxies:
            self._proxies[key] = find_environment_proxy(url)
        return self._proxies[key]


def is_loopback(host: str) -> bool:
    """Whether a host name or literal address is this machine itself.  Looks nothing up."""
    import ipaddress

    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def find_environment_proxy(url: str) -> str | None:
    """The proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name for this URL, with credentials, or None."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or proxy_bypass(parts.netloc.rpartition("@")[2]) or proxy_bypass(host):
        return None
    proxy = getproxies().get(parts.scheme)
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    return proxy or None


@functools.cache
def _marking_classes() -> tuple[type[aiohttp.ClientRequest], type[aiohttp.BytesPayload]]:
    """aiohttp's request and body, with a mark that is set before the first byte can be written.

    The mark is structural: `send` gets a connection that is ready (name, TCP, proxy and TLS are done) and is
    the only place that writes the request.  Exception names would not do: a reset before and after the write
    raise the same one, and aiohttp's trace hooks say the same as this for a fifth more CPU a post.
    """
    import aiohttp

    class MarkedBody(aiohttp.BytesPayload):
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

    return MarkingRequest, MarkedBody


class _UnfitConnection(Exception):
    """The connection was closed, or spoke out of turn, before the request was begun."""


def _explain_failure(error: Exception, *, may_have_arrived: bool, http_status: int | None) -> PostFailed:
    code, details = (
        _name_broken_answer(error, begun=http_status is not None) if may_have_arrived else _name_failed_connect(error)
    )
    return PostFailed(may_have_arrived=may_have_arrived, code=code, details=details, http_status=http_status)


def _name_failed_connect(error: Exception) -> tuple[str, str]:
    import aiohttp

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
    import aiohttp

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
