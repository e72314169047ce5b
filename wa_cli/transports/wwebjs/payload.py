"""The body of the one call that sends: which of wwebjs-api's content types a message becomes."""

from __future__ import annotations

import base64
import json
import mimetypes
from typing import TYPE_CHECKING, Any, assert_never

from wa_cli.domain.message import (
    Buttons,
    ContactCard,
    ListMenu,
    Location,
    Media,
    MediaKind,
    Poll,
    Reaction,
    Template,
    Text,
)
from wa_cli.transports.vcard import write_card
from wa_cli.transports.web_ids import chat_id

if TYPE_CHECKING:
    from wa_cli.ports import Post
    from wa_cli.provider import Files

# So that accepted means accepted by WhatsApp's server: older gateways would answer as soon as the browser has it.
ON_SERVER = {"waitUntilMsgSent": True}
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def build_body(post: Post, files: Files | None = None) -> bytes:
    """Compact ASCII JSON.  Reads the local file that the post carries, so not in the event loop when there is one.

    Raises: ValueError for a type of message that the gateway does not have, UsageError (code `file_missing`) when the
    file is gone.
    """
    content = post.content
    said: Any
    options: dict[str, Any] = {}
    match content:
        case Text():
            # Words that look like a card stay words.
            sort, said = "string", content.body
            options = {"linkPreview": content.preview_url, "parseVCards": False}
        case Media():
            sort, said = _shape_media(content, files)
            options = _media_options(content)
        case Location():
            sort = "Location"
            said = {
                "latitude": float(content.latitude),
                "longitude": float(content.longitude),
                "description": "\n".join(part for part in (content.name, content.address) if part),
            }
        case ContactCard():
            # `Contact` takes an id alone and shows whatever the phone calls it; a card that is written out has a name.
            sort, said, options = "string", write_card(content), {"parseVCards": True}
        case Poll():
            sort = "Poll"
            said = {
                "pollName": content.question,
                "pollOptions": list(content.options),
                "options": {"allowMultipleAnswers": content.max_answers != 1},
            }
        case Template() | Reaction() | Buttons() | ListMenu():
            raise ValueError("wwebjs-api has no message of this type")
        case _:
            assert_never(content)
    shape = {"chatId": chat_id(post), "contentType": sort, "content": said, "options": {**ON_SERVER, **options}}
    return _encode(shape).encode("ascii")


def _shape_media(content: Media, files: Files | None) -> tuple[str, Any]:
    if content.file is None:
        return "MessageMediaFromURL", content.link
    if files is None:
        raise ValueError("there is nothing to read local files with")
    data = base64.b64encode(files.read(content.file)).decode("ascii")
    mime_type = content.file.mime_type
    return "MessageMedia", {"mimetype": mime_type, "data": data, "filename": content.filename or _name(mime_type)}


def _name(mime_type: str) -> str:
    """A file's name where nobody gave one."""
    return f"file{mimetypes.guess_extension(mime_type.partition(';')[0].strip()) or ''}"


def _media_options(content: Media) -> dict[str, Any]:
    options: dict[str, Any] = {"caption": content.caption} if content.caption else {}
    match content.kind:
        case MediaKind.DOCUMENT:
            options["sendMediaAsDocument"] = True
        case MediaKind.VOICE:
            options["sendAudioAsVoice"] = True
        case MediaKind.STICKER:
            options["sendMediaAsSticker"] = True
        case MediaKind.IMAGE | MediaKind.VIDEO | MediaKind.AUDIO:
            pass
        case _:
            assert_never(content.kind)
    return options
