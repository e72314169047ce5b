"""Calls to GOWA beside its sends: short JSON questions, each with a whole answer or the error that none came."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from wa_cli.errors import Temporary
from wa_cli.transports.gowa.account import parse_url
from wa_cli.transports.masking import mask
from wa_cli.transports.posting import find_environment_proxy

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    import httpx

ANSWER_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 5.0
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024  # five hundred groups with all their members


@dataclass(frozen=True, slots=True, kw_only=True)
class GowaReply:
    """A complete answer.  shape: the JSON of its body, None where it is none."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    shape: Any = None

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


class GowaCalls:
    """Asks one gateway.  Follows no redirect, and reaches a loopback address past every proxy.

    name: of the gateway, for errors.  headers: with every call.  secrets: words that may appear nowhere.
    Must be used from one event loop, and closed.
    """

    def __init__(self, base_url: str, *, name: str, headers: Mapping[str, str], secrets: tuple[str, ...] = ()) -> None:
        self.base_url = parse_url(base_url)
        self.name = name
        self._headers = dict(headers)
        self._secrets = secrets
        self._client: httpx.AsyncClient | None = None

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = ANSWER_SECONDS,
    ) -> GowaReply:
        """One call.  path: from `/` on, percent-encoded, or a whole URL.  body: sent as JSON, None for none.

        Raises: Temporary (code `gateway_down`) when no complete answer comes.
        """
        import httpx

        client = self._open()
        url = path if "://" in path else f"{self.base_url}{path}"
        try:
            async with client.stream(
                method,
                url,
                params=dict(query) if query else None,
                json=body,
                headers=dict(headers or {}),
                timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS),
            ) as answer:
                parts: list[bytes] = []
                size = 0
                async for part in answer.aiter_bytes():
                    size += len(part)
                    if size > MAX_ANSWER_BYTES:
                        raise self._down(f"answers with more than {MAX_ANSWER_BYTES // 1024 // 1024} MB")
                    parts.append(part)
        except httpx.TimeoutException as error:
            raise self._down("does not answer in time") from error
        except httpx.HTTPError as error:
            words = mask(str(error), secrets=self._secrets, limit=120)
            raise self._down(f"cannot be reached: {words or type(error).__name__}") from error
        raw = b"".join(parts)
        return GowaReply(status=answer.status_code, headers=answer.headers, body=raw, shape=read_json(raw))

    def mask(self, words: str, *, limit: int = 200) -> str:
        """Words of the gateway's, safe to show."""
        return mask(words, secrets=self._secrets, limit=limit)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            import httpx

            self._client = httpx.AsyncClient(
                headers={**self._headers, "User-Agent": "wa"},
                follow_redirects=False,
                trust_env=False,
                proxy=find_environment_proxy(self.base_url),
                verify=open_tls(self.base_url),
            )
        return self._client

    def _down(self, words: str) -> Temporary:
        return Temporary(
            f"{self.name} at {self.base_url} {words}",
            hint="start the gateway, or correct the address; `wa doctor` looks again",
            code="gateway_down",
        )


def open_tls(url: str) -> ssl.SSLContext | bool:
    """This machine's certificates, loaded only where the address needs them."""
    if not url.startswith("https://"):
        return True
    import ssl

    return ssl.create_default_context()


def read_json(body: bytes) -> Any:
    """The JSON of a body, or None."""
    try:
        return json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
