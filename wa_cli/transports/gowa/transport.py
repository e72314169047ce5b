"""Posts messages to GOWA and says what became of each post."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from wa_cli.domain.message import Media
from wa_cli.domain.outcome import Ambiguous, NotSent
from wa_cli.errors import UsageError
from wa_cli.provider import URL
from wa_cli.transports.gowa.account import check_values, headers_of, parse_url, secrets_of
from wa_cli.transports.gowa.answer import read_answer
from wa_cli.transports.gowa.payload import build_request
from wa_cli.transports.outcomes import RecentIds, refuse_unposted
from wa_cli.transports.posting import READ_TIMEOUT_SECONDS, Poster, PostFailed

if TYPE_CHECKING:
    from wa_cli.domain.outcome import Outcome
    from wa_cli.ports import Post
    from wa_cli.provider import Account

# GOWA gives up by itself after 45 s, and what is cut short before that is an unknown.
LEAST_SECONDS: Final = READ_TIMEOUT_SECONDS
UPLOAD_SECONDS: Final = 240.0  # on top, for the way of a large file to the gateway


class GowaTransport:
    """The send calls of one device.  Raises: UsageError on an account that cannot be meant."""

    def __init__(self, account: Account) -> None:
        check_values(account.values)
        self._base = parse_url(account.value(URL))
        self._headers = headers_of(account)
        self._secrets = secrets_of(account)
        self._files = account.files
        seconds = max(LEAST_SECONDS, account.read_timeout_seconds)
        self._poster = Poster(connections=account.concurrency, read_timeout_seconds=seconds)
        self._uploader = Poster(connections=account.concurrency, read_timeout_seconds=seconds + UPLOAD_SECONDS)
        self._poster.prepare(f"{self._base}/send/message")
        self._recent_ids = RecentIds()

    async def send(self, post: Post) -> Outcome:
        """Post once.  Never raises for what the other side or the network does: that is the Outcome.

        What GOWA has no route for, and a file that is gone, is Rejected without a post (http_status 0).
        """
        content, data = post.content, None
        if isinstance(content, Media) and content.file is not None:
            if self._files is None:
                return refuse_unposted("no_files", "nowhere to read the message's file from; nothing was posted")
            try:
                data = await asyncio.to_thread(self._files.read, content.file)
            except UsageError as error:
                return refuse_unposted(error.code, f"{error.message}; nothing was posted")
        try:
            request = build_request(post, data)
        except ValueError as error:
            return refuse_unposted("unsupported_type", f"{error}; nothing was posted")
        poster = self._poster if data is None else self._uploader
        result = await poster.post(
            self._base + request.path,
            headers={**self._headers, "Content-Type": request.content_type},
            body=request.body,
        )
        if isinstance(result, PostFailed):
            if result.may_have_arrived:
                return Ambiguous(code=result.code, details=result.details, http_status=result.http_status)
            return NotSent(code=result.code, details=result.details)
        outcome = read_answer(result.status, result.headers, result.body, secrets=self._secrets)
        return self._recent_ids.judge(outcome)

    async def close(self) -> None:
        """Close all connections.  Posts in flight must be over."""
        await self._poster.close()
        await self._uploader.close()
