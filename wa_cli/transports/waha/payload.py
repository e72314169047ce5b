"""The request that sends one message through WAHA: its method, its path and its JSON body."""

from __future__ import annotations

import base64
import json
import mimetypes
from typing import TYPE_CHECKING, Any, Final, NamedTuple, assert_never
from urllib.parse import unquote, urlsplit

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
from wa_cli.domain.message_ref import choose_message_id
from wa_cli.transports.vcard import write_card
from wa_cli.transports.web_ids import chat_id, read_message_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wa_cli.domain.message import Content, LocalFile
    from wa_cli.ports import Post
    from wa_cli.provider import Files

# The kinds whose message id is ours to choose; bodies with a file have no place for one.
CUSTOM_ID_KINDS: Final = frozenset({"text", "poll", "location", "contact"})

_PATHS: Final[Mapping[MediaKind, str]] = {
    MediaKind.IMAGE: "/api/sendImage",
    MediaKind.VIDEO: "/api/sendVideo",
    MediaKind.DOCUMENT: "/api/sendFile",
    MediaKind.AUDIO: "/api/sendFile",  # a voice message is spoken; music goes as the file that it is
    MediaKind.VOICE: "/api/sendVoice",
}
_TYPES: Final[Mapping[MediaKind, str]] = {
    MediaKind.IMAGE: "image/jpeg",
    MediaKind.VIDEO: "video/mp4",
    MediaKind.DOCUMENT: "application/octet-stream",
    MediaKind.AUDIO: "audio/mpeg",
    MediaKind.VOICE: "audio/ogg; codecs=opus",
}
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class Request(NamedTuple):
    """method: `POST`, or `PUT` for a reaction.  body: compact ASCII JSON."""

    method: str
    path: str
    body: bytes


def build_request(post: Post, session: str, files: Files | None = None) -> Request:
    """The request of a post.  Reads the local file that it carries, so not in the event loop when there is one.

    Raises: ValueError for a type of message that WAHA does not have, UsageError (code `file_missing`) when the file is
    gone.
    """
    content = post.content
    common: dict[str, Any] = {"session": session, "chatId": chat_id(post)}
    match content:
        case Text():
            path, rest = "/api/sendText", {"text": content.body, "linkPreview": content.preview_url}
        case Media():
            path, rest = _shape_media(content, files)
        case Location():
            title = ", ".join(part for part in (content.name, content.address) if part)
            numbers = {"latitude": float(content.latitude), "longitude": float(content.longitude)}
            path, rest = "/api/sendLocation", {**numbers, "title": title}
        case ContactCard():
            path, rest = "/api/sendContactVcard", {"contacts": [{"vcard": write_card(content)}]}
        case Poll():
            poll = {
                "name": content.question,
                "options": list(content.options),
                "multipleAnswers": content.max_answers != 1,
            }
            path, rest = "/api/sendPoll", {"poll": poll}
        case ListMenu():
            path, rest = "/api/sendList", {"message": _shape_list(content)}
        case Reaction():
            shape = {
                "session": session,
                "messageId": _whole_id(content.message_id, common["chatId"]),
                "reaction": content.emoji,
            }
            return Request("PUT", "/api/reaction", _encode(shape).encode("ascii"))
        case Template() | Buttons():
            raise ValueError("WAHA has no message of this type")
        case _:
            assert_never(content)
    if chosen := find_chosen_id(post):
        rest["id"] = chosen
    return Request("POST", path, _encode({**common, **rest}).encode("ascii"))


def find_chosen_id(post: Post) -> str | None:
    """The id that the message is given by us, or None for a kind that takes none."""
    takes_one = isinstance(post.content, Text | Poll | Location | ContactCard)
    return choose_message_id(post.tag) if takes_one else None


def needs_file(content: Content) -> bool:
    """Whether the request carries bytes of ours."""
    return isinstance(content, Media) and content.file is not None


def _shape_media(content: Media, files: Files | None) -> tuple[str, dict[str, Any]]:
    kind = content.kind
    path = _PATHS.get(kind)
    if path is None:
        raise ValueError("WAHA has no message of this type")
    rest: dict[str, Any] = {"file": _shape_file(content, content.file, files)}
    if content.caption:
        rest["caption"] = content.caption
    if kind is MediaKind.VIDEO:
        rest["convert"] = False
    elif kind is MediaKind.VOICE:
        rest["convert"] = True
    return path, rest


def _shape_file(content: Media, file: LocalFile | None, files: Files | None) -> dict[str, Any]:
    if file is None:
        last = unquote(urlsplit(content.link).path.rpartition("/")[2])
        guessed = mimetypes.guess_type(last)[0] if last else None
        # By the ending only where it is of the same sort: an image at a link that ends in .php is still one.
        sort = _TYPES[content.kind].partition("/")[0]
        fits = guessed is not None and (content.kind is MediaKind.DOCUMENT or guessed.startswith(f"{sort}/"))
        mime_type = guessed if fits and guessed else _TYPES[content.kind]
        return {"mimetype": mime_type, "filename": content.filename or last or _name(mime_type), "url": content.link}
    if files is None:
        raise ValueError("there is nothing to read local files with")
    data = base64.b64encode(files.read(file)).decode("ascii")
    return {"mimetype": file.mime_type, "filename": content.filename or _name(file.mime_type), "data": data}


def _name(mime_type: str) -> str:
    """A file's name where nobody gave one."""
    bare = mime_type.partition(";")[0].strip()
    return f"file{mimetypes.guess_extension(bare) or ''}"


def _shape_list(menu: ListMenu) -> dict[str, Any]:
    return {
        "title": menu.header or "",
        "description": menu.body,
        "footer": menu.footer or "",
        "button": menu.button,
        "sections": [
            {
                "title": section.title or "",
                "rows": [{"title": row.title, "rowId": row.id, "description": row.description} for row in section.rows],
            }
            for section in menu.sections
        ],
    }


def _whole_id(message_id: str, chat: str) -> str:
    """The id as WAHA's reactions want it.  What people wrote is known by its whole id, what we sent by the bare one."""
    ref = read_message_id(message_id)
    return message_id if ref is None or ref.chat is not None else f"true_{chat}_{ref.bare}"
