"""One HTTP POST, and how far it got: the seam under every transport that speaks HTTP.

Says only what happened on the wire; what an answer means is the transport's to read.  Two clients stand behind it:
`direct` goes straight to the server at a fifth of the processor time, `proxied` is aiohttp and knows proxies.  Their
names stop here, and neither is loaded before a Poster is made: importing this module stays cheap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

READ_TIMEOUT_SECONDS: Final = 60.0  # cutting a post short makes an unknown, so this is long
CONNECT_TIMEOUT_SECONDS: Final = 10.0  # pool wait, name, TCP, proxy and TLS together; nothing is written yet
KEEPALIVE_SECONDS: Final = 15.0  # under the idle expiry of usual servers, so that they rarely close as we write
MAX_ANSWER_BYTES: Final = 1_000_000
# Identity, since a short JSON gains nothing from being packed and loses when it arrives damaged.
OWN_HEADERS: Final = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "wa"}


@dataclass(slots=True, kw_only=True)  # not frozen: one is made a post, and freezing costs five times the making
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


ROUTES_KEPT: Final = 1000  # URLs whose way is remembered


class Client(Protocol):
    """What really posts: one of the two."""

    async def post(
        self, url: str, *, headers: Mapping[str, str], body: bytes, proxy: str | None
    ) -> Answer | PostFailed: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a client may post; as in Poster."""

    connections: int
    read_timeout_seconds: float
    connect_timeout_seconds: float
    keepalive_seconds: float
    tls: ssl.SSLContext | None


class Poster:
    """Posts bytes over kept-alive connections; follows no redirect, repeats nothing, keeps no cookie.

    connections: the most that are open at once to one server, also the most posts in flight; more wait for a free one.
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
        self._terms = Terms(
            connections=connections,
            read_timeout_seconds=read_timeout_seconds,
            connect_timeout_seconds=connect_timeout_seconds,
            keepalive_seconds=keepalive_seconds,
            tls=tls,
        )
        self._proxy = proxy
        self._routes: dict[str, tuple[Client, str | None]] = {}
        self._direct: Client | None = None
        self._proxied: Client | None = None

    def prepare(self, url: str) -> None:
        """Load what posts to this URL need, so that the first one does not wait for it."""
        self._find_route(url)

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Answer | PostFailed:
        """POST once.  body: not empty.  Raises only what a bug or a cancelled task raises."""
        if not body:
            raise ValueError("a post needs a body")
        route = self._routes.get(url)
        client, proxy = route if route is not None else self._find_route(url)
        if proxy is not None and not proxy.startswith(("http://", "https://")):
            return PostFailed(
                may_have_arrived=False,
                code="proxy_unsupported",
                details=f"only an HTTP proxy can be used, not {urlsplit(proxy).scheme or 'this one'}",
            )
        return await client.post(url, headers=headers, body=body, proxy=proxy)

    async def close(self) -> None:
        """Close all connections.  A later post opens new ones."""
        for client in (self._direct, self._proxied):
            if client is not None:
                await client.close()

    def _find_route(self, url: str) -> tuple[Client, str | None]:
        proxy = self._find_proxy(url)
        if len(self._routes) >= ROUTES_KEPT:
            self._routes.clear()
        route = self._routes[url] = (self._open_direct() if proxy is None else self._open_proxied(), proxy)
        return route

    def _open_direct(self) -> Client:
        if self._direct is None:
            from wa_cli.transports.direct import DirectClient

            self._direct = DirectClient(self._terms)
        return self._direct

    def _open_proxied(self) -> Client:
        if self._proxied is None:
            from wa_cli.transports.proxied import ProxiedClient

            self._proxied = ProxiedClient(self._terms)
        return self._proxied

    def _find_proxy(self, url: str) -> str | None:
        try:
            if self._proxy is None:
                return find_environment_proxy(url)
            return None if is_loopback(urlsplit(url).hostname or "") else self._proxy or None
        except ValueError:  # not a URL: the client says so
            return None


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
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host):
        return None
    from urllib.request import getproxies, proxy_bypass

    if proxy_bypass(parts.netloc.rpartition("@")[2]) or proxy_bypass(host):
        return None
    proxy = getproxies().get(parts.scheme)
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    return proxy or None
