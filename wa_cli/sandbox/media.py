"""Files that were uploaded to the local WhatsApp: held to the published types and sizes, kept for thirty days.

Only what describes a file is kept; its bytes are counted and digested as they come.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiohttp import BodyPartReader, web

from wa_cli.sandbox.graph_errors import GraphError
from wa_cli.sandbox.message_checks import MEDIA_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT_SECONDS: Final = 30 * 86_400.0
_MEGABYTE: Final = 1024 * 1024
_OFFICE: Final = "application/vnd.openxmlformats-officedocument"

# MIME type: (which sort of message may carry it, the largest size)
TYPES: Final[dict[str, tuple[str, int]]] = {
    **dict.fromkeys(("audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg"), ("audio", 16 * _MEGABYTE)),
    **dict.fromkeys(("image/jpeg", "image/png"), ("image", 5 * _MEGABYTE)),
    **dict.fromkeys(("video/mp4", "video/3gpp"), ("video", 16 * _MEGABYTE)),
    "image/webp": ("sticker", 500 * 1024),
    **dict.fromkeys(
        (
            *("text/plain", "application/pdf", "application/msword"),
            *("application/vnd.ms-excel", "application/vnd.ms-powerpoint"),
            *(f"{_OFFICE}.wordprocessingml.document", f"{_OFFICE}.spreadsheetml.sheet"),
            f"{_OFFICE}.presentationml.presentation",
        ),
        ("document", 100 * _MEGABYTE),
    ),
}


@dataclass(slots=True, kw_only=True)
class StoredMedia:
    """number: whose upload it is.  expires_at: epoch seconds."""

    media_id: str
    number: str
    mime_type: str
    size: int
    sha256: str
    expires_at: float

    @property
    def kind(self) -> str:
        return TYPES[self.mime_type][0]


class MediaShelf:
    """The uploads of one account.  now: epoch seconds by the sandbox's own clock."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._kept: dict[str, StoredMedia] = {}
        self._chance = random.SystemRandom()

    def list_all(self) -> list[StoredMedia]:
        return list(self._kept.values())

    def clear(self) -> None:
        self._kept.clear()

    def expire(self, media_id: str | None) -> int:
        """Let one upload, or all of them, be too old from now on.  Returns how many."""
        chosen = [one for one in self._kept.values() if media_id in (None, one.media_id)]
        for one in chosen:
            one.expires_at = self._now()
        return len(chosen)

    def find(self, media_id: str) -> StoredMedia | None:
        """An upload that is still kept, or None."""
        found = self._kept.get(media_id)
        return found if found is not None and found.expires_at > self._now() else None

    def delete(self, media_id: str) -> bool:
        return self._kept.pop(media_id, None) is not None

    async def take(self, request: web.BaseRequest, number: str) -> StoredMedia | GraphError:
        """Read an upload to its end, and keep it or say what is wrong with it."""
        if not request.content_type.startswith("multipart/"):
            await request.read()
            return GraphError(code=100, details="an upload is multipart/form-data")
        fields: dict[str, str] = {}
        declared, size, digest = None, 0, hashlib.sha256()
        try:
            async for part in await request.multipart():
                if not isinstance(part, BodyPartReader):
                    return GraphError(code=100, details="parts within parts")
                if part.name == "file":
                    declared = part.headers.get("Content-Type", "").partition(";")[0].strip().lower()
                    while chunk := await part.read_chunk(65_536):
                        size += len(chunk)
                        digest.update(chunk)
                else:
                    fields[part.name or ""] = await part.text()
        except ValueError as error:
            return GraphError(code=100, details=f"the parts cannot be read: {error}")
        if fields.get("messaging_product") != "whatsapp":
            return GraphError(code=100, details="messaging_product is required and must be whatsapp")
        if declared is None:
            return GraphError(code=100, details="the parameter file is required")
        mime_type = (fields.get("type") or declared).partition(";")[0].strip().lower()
        if mime_type not in TYPES or (declared and declared != mime_type):
            return GraphError(
                code=100, details=f"Param file must be a file with one of the supported types, this is {declared}"
            )
        if not size or size > TYPES[mime_type][1]:
            return GraphError(code=131053, details=f"a {TYPES[mime_type][0]} of {size} bytes cannot be taken")
        stored = StoredMedia(
            media_id=str(self._chance.randrange(10**15, 10**16)),
            number=number,
            mime_type=mime_type,
            size=size,
            sha256=digest.hexdigest(),
            expires_at=self._now() + KEPT_SECONDS,
        )
        self._kept[stored.media_id] = stored
        return stored

    def find_error(self, body: dict[str, Any], kind: str | None, number: str) -> GraphError | None:
        """Why a message that goes by the id of an upload cannot be sent, or None."""
        part = body.get(kind) if kind in MEDIA_TYPES else None
        media_id = part.get("id") if isinstance(part, dict) else None
        if not isinstance(media_id, str):
            return None
        found = self.find(media_id)
        if found is None or found.number != number:
            return GraphError(code=100, details=f"Param {kind}['id'] is not a valid media attachment ID of this number")
        if kind not in (found.kind, "document"):
            return GraphError(code=131053, details=f"the media is {found.mime_type}, which is no {kind}")
        if kind == "audio" and isinstance(part, dict) and part.get("voice") and found.mime_type != "audio/ogg":
            return GraphError(code=131053, details=f"a voice message is audio/ogg, this is {found.mime_type}")
        return None


def describe_media(media: StoredMedia, address: str) -> dict[str, Any]:
    """An upload as a look-up shows it.  address: where it was looked up."""
    return {
        "messaging_product": "whatsapp",
        "url": f"{address}/download",
        "mime_type": media.mime_type,
        "sha256": media.sha256,
        "file_size": str(media.size),
        "id": media.media_id,
    }
