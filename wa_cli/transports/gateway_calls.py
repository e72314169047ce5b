"""The calls that steer a gateway, as distinct from posts of messages: one request, one whole answer, or one error.

Posts of messages go through `posting`, which knows how far a request got; here nothing is sent to anybody, so a call
that broke off may simply be made again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from wa_cli.errors import GatewayRefused, Temporary, UsageError
from wa_cli.transports.content_checks import is_private
from wa_cli.transports.masking import mask
from wa_cli.transports.posting import CONNECT_TIMEOUT_SECONDS, find_environment_proxy

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    import httpx

CALL_TIMEOUT_SECONDS: Final = 30.0  # some gateways wait five seconds for a state by themselves, and list groups slowly
MAX_ANSWER_BYTES: Final = 64_000_000  # some thousand groups with their members
_WORDS_AT: Final = ("message", "error", "details")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole answer.  shape: its JSON, None where it is none."""

    status: int
    content_type: str
    body: bytes
    shape: Any

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


class GatewayCalls:
    """Calls one gateway over kept connections; follows no redirect, repeats nothing.

    base_url: as `parse_gateway_url` gives it.  headers: with the key.  secrets: words that may appear in no error.
    Must be used from one event loop.
    """

    def __init__(
        self,
        *,
        base_url: str,
        headers: Mapping[str, str],
        secrets: tuple[str, ...],
        timeout_seconds: float = CALL_TIMEOUT_SECONDS,
    ) -> None:
        self._base_url = base_url
        self._headers = {"User-Agent": "wa", "Accept": "application/json", **headers}
        self._secrets = secrets
        self._timeout_seconds = timeout_seconds
        self._client: httpx.AsyncClient | None = None

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One call that the gateway is expected to take; see `exchange`.

        Raises: Temporary (code `gateway_down`) also for the answer of a gateway that is starting or overloaded (502 to
        504); UsageError (code `gateway_key`) for 401 and 403.
        """
        reply = await self.exchange(method, path, query=query, body=body, headers=headers)
        if reply.status in (401, 403):
            raise UsageError(
                f"the gateway at {self.host} refuses the key (HTTP {reply.status})",
                hint="set the variable that the instance's key is read from, then `wa doctor`",
                code="gateway_key",
            )
        if reply.status in (502, 503, 504):
            raise self.down(f"it answers HTTP {reply.status}")
        return reply

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> Reply:
        """One call with its answer, whatever that says.  path: percent-encoded.  body: what becomes the JSON of the
        request.  seconds: how long to wait, where that is not the usual.

        Raises: Temporary (code `gateway_down`) without an answer; GatewayRefused for one that is too large.
        """
        import httpx

        timeout = httpx.Timeout(seconds or self._timeout_seconds, connect=CONNECT_TIMEOUT_SECONDS)
        parts: list[bytes] = []
        size = 0
        try:
            async with self._open().stream(
                method, f"{self._base_url}{path}", params=query, json=body, headers=headers, timeout=timeout
            ) as answer:
                async for part in answer.aiter_bytes():
                    size += len(part)
                    if size > MAX_ANSWER_BYTES:
                        raise GatewayRefused(
                            f"the gateway answers with more than {MAX_ANSWER_BYTES:,} bytes", code="gateway_answer"
                        )
                    parts.append(part)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise self.down(
                "it does not answer" if isinstance(error, httpx.TimeoutException) else _say(error)
            ) from error
        read = b"".join(parts)
        return Reply(
            status=answer.status_code,
            content_type=answer.headers.get("Content-Type", ""),
            body=read,
            shape=parse_json(read),
        )

    @property
    def host(self) -> str:
        """The host and port of the gateway, for people."""
        return urlsplit(self._base_url).netloc

    def down(self, why: str) -> Temporary:
        return Temporary(
            f"the gateway at {self.host} cannot be reached: {why}",
            hint="see that it runs and that the instance's url leads to it",
            code="gateway_down",
        )

    def refused(self, what: str, reply: Reply, *, hint: str | None = None) -> GatewayRefused:
        """The error for an answer that is a no.  what: that it will not do, such as `restart the session`."""
        words = mask(find_words(reply.shape), secrets=self._secrets, limit=200)
        because = f": {words}" if words else f" (HTTP {reply.status})"
        return GatewayRefused(f"the gateway would not {what}{because}", hint=hint)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            import httpx

            self._client = httpx.AsyncClient(
                headers=self._headers,
                trust_env=False,
                proxy=find_environment_proxy(self._base_url),
                verify=open_tls(self._base_url),
            )
        return self._client


def find_words(shape: Any) -> str:
    """What an error object says for people; "" where there is nothing.  Never the request that some of them echo."""
    if not isinstance(shape, dict):
        return ""
    for name in _WORDS_AT:
        words = shape.get(name)
        if isinstance(words, list):
            words = ", ".join(word for word in words if isinstance(word, str))
        if isinstance(words, str) and words:
            return words
    return ""


def parse_gateway_url(url: str, *, example: str) -> str:
    """The address of a gateway without a final slash.

    Plain http is allowed on this machine and inside a private network, where gateways mostly run; over the public
    internet it would show the key and every message.  Raises: UsageError that says what to write instead.
    """
    text = url.strip()
    hint = f"it looks like {example}"
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise UsageError("the url of the gateway is not a URL", hint=hint, code="invalid_gateway_url") from None
    if parts.scheme not in ("http", "https") or not host or any(sign.isspace() for sign in text):
        raise UsageError("the url of the gateway is not an http or https URL", hint=hint, code="invalid_gateway_url")
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            "the url of the gateway must not hold a user or a password",
            hint="name the variable that holds the key instead",
            code="invalid_gateway_url",
        )
    if parts.query or parts.fragment:
        raise UsageError("the url of the gateway must not hold ? or #", hint=hint, code="invalid_gateway_url")
    if parts.scheme == "http" and not is_private(host):
        raise UsageError(
            f"the key and every message would go to {host} in clear text",
            hint="write https://, or an address inside your own network",
            code="insecure_gateway_url",
        )
    return text.rstrip("/")


def check_key(key: str) -> str:
    """The key without blanks around it.  Raises: UsageError, which never shows it."""
    text = key.strip()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise UsageError("the key of the gateway holds a character that no key has", hint="copy it again, whole")
    return text


def open_tls(url: str) -> ssl.SSLContext | bool:
    """This machine's certificates, loaded only where the address needs them."""
    if not url.startswith("https://"):
        return True
    import ssl

    return ssl.create_default_context()


def parse_json(body: bytes) -> Any:
    """The JSON of a body, or None."""
    try:
        return json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return None


def _say(error: Exception) -> str:
    return {"ConnectError": "nothing listens there", "ProxyError": "the proxy does not let it through"}.get(
        type(error).__name__, "the connection broke off"
    )
