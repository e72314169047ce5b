"""The request that sends a message through GOWA: its path, its content type and its body."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from wa_cli.domain.message import ContactCard, Location, Media, MediaKind, Poll, Reaction, Text, content_type
from wa_cli.transports.gowa.jids import spell_address
from wa_cli.transports.multipart import FilePart, build_form

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wa_cli.domain.message import Content
    from wa_cli.ports import Post

# The path of each kind of file, and the name of the field it goes into; a link goes into the same with `_url`.
_MEDIA: Final[Mapping[MediaKind, tuple[str, str]]] = {
    MediaKind.IMAGE: ("/send/image", "image"),
    MediaKind.VIDEO: ("/send/video", "video"),
    MediaKind.DOCUMENT: ("/send/file", "file"),
    MediaKind.AUDIO: ("/send/audio", "audio"),
    MediaKind.VOICE: ("/send/audio", "audio"),
    MediaKind.STICKER: ("/send/sticker", "sticker"),
}
_JSON: Final = "application/json"
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class GowaRequest:
    path: str
    content_type: str
    body: bytes


def build_request(post: Post, file: bytes | None = None) -> GowaRequest:
    """What is to be posted.  file: the bytes of a file of ours, where the content has one.

    Raises: ValueError for a type that GOWA has no route for.
    """
    content, phone = post.content, spell_address(post.address, post.kind)
    if isinstance(content, Media):
        return _build_media(content, phone, file)
    path, shape = _shape(content)
    return GowaRequest(path=path, content_type=_JSON, body=_encode({"phone": phone, **shape}).encode("ascii"))


def _shape(content: Content) -> tuple[str, dict[str, Any]]:
    match content:
        case Text():
            return "/send/message", {"message": content.body}
        case Location():
            # As strings: numbers are refused.
            return "/send/location", {"latitude": content.latitude, "longitude": content.longitude}
        case ContactCard():
            return "/send/contact", {
                "contact_name": content.name,
                "contact_phone": content.phone.removeprefix("+"),
            }
        case Poll():
            return "/send/poll", {
                "question": content.question,
                "options": list(content.options),
                "max_answer": content.max_answers or len(content.options),
            }
        case Reaction():
            return f"/message/{quote(content.message_id, safe='')}/reaction", {"emoji": content.emoji}
        case _:
            raise ValueError(f"GOWA has no message of type {content_type(content)}")


def _build_media(content: Media, phone: str, file: bytes | None) -> GowaRequest:
    """Multipart for links too: the gateway reads nothing else here."""
    path, field = _MEDIA[content.kind]
    fields = {"phone": phone}
    if content.caption:
        fields["caption"] = content.caption
    if content.kind is MediaKind.VOICE:
        fields["ptt"] = "true"
    part = None
    if content.file is not None:
        part = FilePart(
            field=field,
            filename=content.filename or _name_file(content.kind, content.file.mime_type),
            mime_type=content.file.mime_type,
            data=file if file is not None else b"",
        )
    else:
        fields[f"{field}_url"] = content.link
    kind, body = build_form(fields, part)
    return GowaRequest(path=path, content_type=kind, body=body)


def _name_file(kind: MediaKind, mime_type: str) -> str:
    import mimetypes

    return f"{kind.value}{mimetypes.guess_extension(mime_type) or ''}"
