"""Posts messages through WAHA and says what became of each post."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from wa_cli.domain.message import Reaction, content_type
from wa_cli.domain.outcome import Ambiguous, NotSent
from wa_cli.errors import UsageError
from wa_cli.transports.outcomes import RecentIds, refuse_unposted
from wa_cli.transports.posting import (
    CONNECT_TIMEOUT_SECONDS,
    Answer,
    Poster,
    PostFailed,
    find_environment_proxy,
)
from wa_cli.transports.waha.answer import read_answer
from wa_cli.transports.waha.payload import build_request, needs_file

if TYPE_CHECKING:
    import httpx

    from wa_cli.domain.outcome import Outcome
    from wa_cli.ports import Post
    from wa_cli.provider import Files
    from wa_cli.transports.waha.payload import Request


class WahaTransport:
    """The send calls of one session.

    url: of the gateway, without a final slash.  session: its name there.  key: "" where the gateway wants none.
    files: reads the local files that messages carry; None where there are none.
    concurrency, read_timeout_seconds: as in Poster.
    """

    def __init__(
        self,
        *,
        url: str,
        session: str,
        key: str,
        secrets: tuple[str, ...],
        files: Files | None,
        concurrency: int,
        read_timeout_seconds: float,
    ) -> None:
        self._url = url
        self._session = session
        self._secrets = secrets
        self._files = files
        self._headers = {"Content-Type": "application/json", **({"X-Api-Key": key} if key else {})}
        self._timeout_seconds = read_timeout_seconds
        self._poster = Poster(connections=concurrency, read_timeout_seconds=read_timeout_seconds)
        self._poster.prepare(f"{url}/api/sendText")
        self._putter: httpx.AsyncClient | None = None
        self._recent_ids = RecentIds()

    async def send(self, post: Post) -> Outcome:
        """Post once.  Never raises for what the other side or the network does: that is the Outcome.

        What WAHA has no message for is Rejected without a post (http_status 0): only a change of the instance's
        provider after the message was queued can bring it here.
        """
        try:
            if needs_file(post.content):
                request = await asyncio.to_thread(build_request, post, self._session, self._files)
            else:
                request = build_request(post, self._session)
        except UsageError as error:
            return refuse_unposted("file_missing", error.message)
        except ValueError as error:
            return refuse_unposted("unsupported", f"{error}; nothing was posted")
        result = await self._exchange(request)
        if isinstance(result, PostFailed):
            if result.may_have_arrived:
                return Ambiguous(code=result.code, details=result.details, http_status=result.http_status)
            return NotSent(code=result.code, details=result.details)
        outcome = read_answer(
            result.status,
            result.body,
            kind=content_type(post.content),
            tag=post.tag,
            secrets=self._secrets,
            headers=result.headers,
        )
        # Of a reaction the id may be that of the message it is on.
        return outcome if isinstance(post.content, Reaction) else self._recent_ids.judge(outcome)

    async def close(self) -> None:
        """Close all connections.  Posts in flight must be over."""
        await self._poster.close()
        putter, self._putter = self._putter, None
        if putter is not None:
            await putter.aclose()

    async def _exchange(self, request: Request) -> Answer | PostFailed:
        url = f"{self._url}{request.path}"
        if request.method == "POST":
            return await self._poster.post(url, headers=self._headers, body=request.body)
        return await self._put(url, request.body)

    async def _put(self, url: str, body: bytes) -> Answer | PostFailed:
        """A reaction: the one call that is no POST.  Only what failed before the connection stood was not written."""
        import httpx

        if self._putter is None:
            self._putter = httpx.AsyncClient(
                timeout=httpx.Timeout(self._timeout_seconds, connect=CONNECT_TIMEOUT_SECONDS),
                trust_env=False,
                proxy=find_environment_proxy(self._url),
            )
        try:
            answer = await self._putter.put(url, headers=self._headers, content=body)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            return PostFailed(may_have_arrived=False, code="connect_failed", details=_say(error))
        except (httpx.HTTPError, OSError) as error:
            return PostFailed(may_have_arrived=True, code="no_answer", details=_say(error))
        return Answer(status=answer.status_code, headers=answer.headers, body=answer.content)


def _say(error: Exception) -> str:
    return f"the reaction got no answer ({type(error).__name__})"
