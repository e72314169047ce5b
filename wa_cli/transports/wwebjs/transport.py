"""Posts messages through wwebjs-api and says what became of each post."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from wa_cli.domain.message import Media
from wa_cli.domain.outcome import Ambiguous, NotSent
from wa_cli.errors import UsageError
from wa_cli.transports.outcomes import RecentIds, refuse_unposted
from wa_cli.transports.posting import READ_TIMEOUT_SECONDS, Poster, PostFailed
from wa_cli.transports.wwebjs.answer import read_answer
from wa_cli.transports.wwebjs.payload import build_body

if TYPE_CHECKING:
    from wa_cli.domain.outcome import Outcome
    from wa_cli.ports import Post
    from wa_cli.provider import Files

# It answers when WhatsApp's server has the message, and loads files into a browser before that.
LEAST_SECONDS: Final = 2 * READ_TIMEOUT_SECONDS


class WwebjsTransport:
    """The send call of one session.

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
        self._url = f"{url}/client/sendMessage/{quote(session, safe='')}"
        self._secrets = secrets
        self._files = files
        self._headers = {"Content-Type": "application/json", **({"x-api-key": key} if key else {})}
        self._poster = Poster(connections=concurrency, read_timeout_seconds=max(read_timeout_seconds, LEAST_SECONDS))
        self._poster.prepare(self._url)
        self._recent_ids = RecentIds()

    async def send(self, post: Post) -> Outcome:
        """Post once.  Never raises for what the other side or the network does: that is the Outcome.

        What the gateway has no message for, and a file that is gone, is Rejected without a post (http_status 0).
        """
        try:
            if isinstance(post.content, Media) and post.content.file is not None:
                body = await asyncio.to_thread(build_body, post, self._files)
            else:
                body = build_body(post)
        except UsageError as error:
            return refuse_unposted(error.code, f"{error.message}; nothing was posted")
        except ValueError as error:
            return refuse_unposted("unsupported_type", f"{error}; nothing was posted")
        result = await self._poster.post(self._url, headers=self._headers, body=body)
        if isinstance(result, PostFailed):
            if result.may_have_arrived:
                return Ambiguous(code=result.code, details=result.details, http_status=result.http_status)
            return NotSent(code=result.code, details=result.details)
        return self._recent_ids.judge(read_answer(result.status, result.headers, result.body, secrets=self._secrets))

    async def close(self) -> None:
        """Close all connections.  Posts in flight must be over."""
        await self._poster.close()
