"""Posts messages to Meta's Cloud API and says what became of each post."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wa_cli.domain.message import Media
from wa_cli.domain.outcome import Ambiguous, ErrorClass, NotSent, Rejected
from wa_cli.domain.recipient import RecipientKind
from wa_cli.transports.cloud_api.account import check_token, parse_api_url
from wa_cli.transports.cloud_api.answer import read_answer
from wa_cli.transports.cloud_api.payload import build_payload
from wa_cli.transports.outcomes import RecentIds
from wa_cli.transports.posting import (
    CONNECT_TIMEOUT_SECONDS,
    READ_TIMEOUT_SECONDS,
    Poster,
    PostFailed,
)

if TYPE_CHECKING:
    import ssl

    from wa_cli.domain.message import LocalFile
    from wa_cli.domain.outcome import Outcome
    from wa_cli.ports import Post
    from wa_cli.provider import Files, Uploads
    from wa_cli.transports.cloud_api.uploads import MediaUploader


class CloudApiTransport:
    """The send call of one business number.

    api_url: the whole messages URL, as WHATSAPP_API_URL has it.  access_token: a bearer token; sent to that
    host alone.  concurrency: posts in flight, and the connections kept for them.
    read_timeout_seconds: for a whole post; connect_timeout_seconds: until a connection is ready.
    proxy, tls: as in Poster.  files, uploads: our own files and what Meta keeps of them; without both none can be sent.
    Raises: UsageError on an address or a token that cannot be meant.
    """

    def __init__(
        self,
        *,
        api_url: str,
        access_token: str,
        concurrency: int,
        read_timeout_seconds: float = READ_TIMEOUT_SECONDS,
        connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
        proxy: str | None = None,
        tls: ssl.SSLContext | None = None,
        files: Files | None = None,
        uploads: Uploads | None = None,
    ) -> None:
        number = parse_api_url(api_url)
        self._url = number.messages_url
        token = check_token(access_token)
        self._secrets = (token,)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._poster = Poster(
            connections=concurrency,
            read_timeout_seconds=read_timeout_seconds,
            connect_timeout_seconds=connect_timeout_seconds,
            proxy=proxy,
            tls=tls,
        )
        self._poster.prepare(self._url)
        self._uploader: MediaUploader | None = None
        if files is not None and uploads is not None:
            from wa_cli.transports.cloud_api.uploads import MediaUploader  # it loads asyncio

            self._uploader = MediaUploader(
                media_url=f"{number.number_url}/media",
                authorization=self._headers["Authorization"],
                secrets=self._secrets,
                files=files,
                uploads=uploads,
                connect_timeout_seconds=connect_timeout_seconds,
                proxy=proxy,
                tls=tls,
            )
        self._recent_ids = RecentIds()

    async def send(self, post: Post) -> Outcome:
        """Post once.  Never raises for what the other side or the network does: that is the Outcome.

        A group, and a type of message that Meta does not have, is Rejected without a post (http_status 0): only a
        change of the instance's provider after the message was queued can bring one here.
        """
        if post.kind is not RecipientKind.PERSON:
            return Rejected(
                error_class=ErrorClass.DEAD_RECIPIENT,
                code="group_unreachable",
                details="the Cloud API cannot reach WhatsApp groups; nothing was posted",
                http_status=0,
            )
        content = post.content
        if isinstance(content, Media) and content.file is not None:
            return await self._send_file(post, content.file)
        try:
            payload = build_payload(post)
        except ValueError as error:
            return Rejected(
                error_class=ErrorClass.DEAD_MESSAGE,
                code="unsupported_type",
                details=f"{error}; nothing was posted",
                http_status=0,
            )
        return await self._post(payload)

    async def _send_file(self, post: Post, file: LocalFile) -> Outcome:
        """Send a file of ours by the id of its upload.  One that Meta has lost goes up again with the next attempt."""
        from wa_cli.transports.cloud_api.uploads import Uploaded, is_lost

        if self._uploader is None:
            return Rejected(
                error_class=ErrorClass.DEAD_MESSAGE,
                code="no_files",
                details="there is nowhere to read the message's file from; nothing was posted",
                http_status=0,
            )
        upload = await self._uploader.obtain(file)
        if not isinstance(upload, Uploaded):
            return upload
        outcome = await self._post(build_payload(post, media_id=upload.media_id))
        if upload.is_new or not isinstance(outcome, Rejected) or not is_lost(outcome):
            return outcome
        await self._uploader.forget(file, upload.media_id)
        return Rejected(
            error_class=ErrorClass.RETRY,
            code="media_expired",
            details=f"Meta does not have the file any more; it is uploaded again ({outcome.code} {outcome.details})",
            http_status=outcome.http_status,
        )

    async def _post(self, body: bytes) -> Outcome:
        result = await self._poster.post(self._url, headers=self._headers, body=body)
        if isinstance(result, PostFailed):
            if result.may_have_arrived:
                return Ambiguous(code=result.code, details=result.details, http_status=result.http_status)
            return NotSent(code=result.code, details=result.details)
        outcome = read_answer(result.status, result.headers, result.body, secrets=self._secrets)
        return self._recent_ids.judge(outcome)

    async def close(self) -> None:
        """Close all connections.  Posts in flight must be over."""
        await self._poster.close()
        if self._uploader is not None:
            await self._uploader.close()
