"""Our own files at Meta: uploaded once for a number, and sent by their id for as long as Meta keeps them.

An upload is not a post of a message: whatever becomes of it, nobody has been written to.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from wa_cli.domain.outcome import ErrorClass, NotSent, Rejected
from wa_cli.errors import UsageError, WaError
from wa_cli.transports.cloud_api.refusal import read_code, read_refusal
from wa_cli.transports.masking import mask
from wa_cli.transports.multipart import FilePart, build_form
from wa_cli.transports.posting import Poster, PostFailed

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from wa_cli.domain.message import LocalFile
    from wa_cli.provider import Files, Uploads
    from wa_cli.transports.posting import Answer

UPLOADS_AT_ONCE: Final = 2
UPLOAD_SECONDS: Final = 300.0  # 100 MB over a slow line
# Meta keeps an upload for 30 days; a day less, so that none ends between the look and the send.
KEPT_MS: Final = 29 * 86_400_000
_MEDIA_ID = re.compile(r"[\x21-\x7e]{1,200}\Z")
# What a send is refused with when Meta does not have the file any more.
_LOST_CODES: Final = frozenset({"100", "131009", "131052", "131053"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """is_new: it was uploaded for this very message, so that a refusal of it is about the file itself."""

    media_id: str
    is_new: bool


class MediaUploader:
    """Uploads files for one number.  media_url: where to.  headers: with the token.  now_ms: wall clock."""

    def __init__(
        self,
        *,
        media_url: str,
        authorization: str,
        secrets: tuple[str, ...],
        files: Files,
        uploads: Uploads,
        connect_timeout_seconds: float,
        proxy: str | None = None,
        tls: ssl.SSLContext | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._url = media_url
        self._authorization = authorization
        self._secrets = secrets
        self._files = files
        self._uploads = uploads
        self._now_ms = now_ms
        self._poster = Poster(
            connections=UPLOADS_AT_ONCE,
            read_timeout_seconds=UPLOAD_SECONDS,
            connect_timeout_seconds=connect_timeout_seconds,
            proxy=proxy,
            tls=tls,
        )
        self._known: dict[str, tuple[str, int]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def obtain(self, file: LocalFile) -> Uploaded | Rejected | NotSent:
        """Meta's id of a file, which is uploaded unless Meta has it.  Many who ask at once share one upload."""
        media_id = self._recall(file.digest)
        if media_id is not None:
            return Uploaded(media_id=media_id, is_new=False)
        lock = self._locks.setdefault(file.digest, asyncio.Lock())
        async with lock:
            media_id = self._recall(file.digest)
            if media_id is not None:
                return Uploaded(media_id=media_id, is_new=False)
            try:
                return await self._find_or_upload(file)
            except UsageError as error:  # the file is gone, or not what it was
                return Rejected(
                    error_class=ErrorClass.DEAD_MESSAGE,
                    code=error.code,
                    details=f"{error.message}; nothing was posted",
                    http_status=0,
                )
            except WaError as error:  # the store could not be asked: nothing has left
                return NotSent(code=error.code, details=error.message)

    async def forget(self, file: LocalFile, media_id: str) -> None:
        """Meta does not know this id any more; the next send uploads the file anew."""
        known = self._known.get(file.digest)
        if known is None or known[0] == media_id:  # unless somebody else was faster
            self._known.pop(file.digest, None)
            with suppress(WaError):  # it is met once more then
                await asyncio.to_thread(self._uploads.forget, file.digest)

    async def close(self) -> None:
        await self._poster.close()

    def _recall(self, digest: str) -> str | None:
        known = self._known.get(digest)
        return known[0] if known is not None and known[1] > self._now_ms() else None

    async def _find_or_upload(self, file: LocalFile) -> Uploaded | Rejected | NotSent:
        now_ms = self._now_ms()
        stored = await asyncio.to_thread(self._find, file.digest, now_ms)
        if stored is not None:
            self._known[file.digest] = (stored, now_ms + 3_600_000)  # its real end is looked up again
            return Uploaded(media_id=stored, is_new=False)
        data = await asyncio.to_thread(self._files.read, file)
        ending = file.mime_type.rpartition("/")[2]
        content_type, body = build_form(
            {"messaging_product": "whatsapp", "type": file.mime_type},
            FilePart(field="file", filename=f"file.{ending}", mime_type=file.mime_type, data=data),
        )
        result = await self._poster.post(
            self._url, headers={"Authorization": self._authorization, "Content-Type": content_type}, body=body
        )
        if isinstance(result, PostFailed):
            if not result.may_have_arrived:
                return NotSent(code=result.code, details=f"before the upload: {result.details}")
            return _try_again(f"the upload broke off: {result.details}", result.http_status or 0)
        read = read_upload(result, secrets=self._secrets)
        if isinstance(read, Rejected):
            return read
        expires_at_ms = now_ms + KEPT_MS
        self._known[file.digest] = (read, expires_at_ms)
        with suppress(WaError):  # Meta has it; only the next process uploads it once more
            await asyncio.to_thread(self._uploads.save, file.digest, read, now_ms=now_ms, expires_at_ms=expires_at_ms)
        return Uploaded(media_id=read, is_new=True)

    def _find(self, digest: str, now_ms: int) -> str | None:
        return self._uploads.find(digest, now_ms=now_ms)


def read_upload(answer: Answer, *, secrets: tuple[str, ...] = ()) -> str | Rejected:
    """Meta's id of the file, or why there is none.  What cannot be read is tried again: nobody was written to."""
    try:
        shape = json.loads(answer.body.decode("utf-8"))
    except (ValueError, RecursionError):
        return _try_again(f"the answer to the upload (HTTP {answer.status}) cannot be read", answer.status)
    error: Any = shape.get("error") if isinstance(shape, dict) else None
    if isinstance(error, dict) and read_code(error.get("code")) is not None:
        return read_refusal(error, http_status=answer.status, headers=answer.headers, secrets=secrets)
    media_id = shape.get("id") if isinstance(shape, dict) else None
    if error is None and 200 <= answer.status < 300 and isinstance(media_id, str) and _MEDIA_ID.match(media_id):
        return media_id
    words = mask(json.dumps(shape, ensure_ascii=False), secrets=secrets, limit=120)
    return _try_again(f"the answer to the upload (HTTP {answer.status}) holds no id: {words}", answer.status)


def is_lost(outcome: object) -> bool:
    """Whether a send was refused in words that fit a file that Meta does not have any more."""
    return (
        isinstance(outcome, Rejected)
        and outcome.code in _LOST_CODES
        and outcome.error_class in (ErrorClass.DEAD_MESSAGE, ErrorClass.RETRY)
    )


def _try_again(details: str, http_status: int) -> Rejected:
    return Rejected(
        error_class=ErrorClass.RETRY,
        code="upload_failed",
        details=f"{details}; the message was not posted",
        http_status=http_status,
    )
