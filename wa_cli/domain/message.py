"""A message: what it says, where it stands, and how both are written down."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NewType, assert_never

from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

MessageId = NewType("MessageId", int)
BatchId = NewType("BatchId", int)
ContentId = NewType("ContentId", int)
AttemptId = NewType("AttemptId", int)


class State(StrEnum):
    """Where a message stands in `wa`.  Receipts (delivered, read) are WhatsApp's own scale beside it."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class OnUnknown(StrEnum):
    """What happens to a message whose outcome cannot be known."""

    HOLD = "hold"
    RESEND = "resend"
    SKIP = "skip"


class MediaKind(StrEnum):
    IMAGE = "image"
    VIDEO = "video"
    DOCUMENT = "document"
    AUDIO = "audio"
    STICKER = "sticker"


_KINDS_OF_ENDINGS: Final[Mapping[str, MediaKind]] = {
    **dict.fromkeys(("jpg", "jpeg", "png"), MediaKind.IMAGE),
    **dict.fromkeys(("mp4", "3gp"), MediaKind.VIDEO),
    **dict.fromkeys(("mp3", "ogg", "aac", "amr", "m4a"), MediaKind.AUDIO),
    "webp": MediaKind.STICKER,
}


def find_media_kind(link: str) -> MediaKind:
    """What a file is by the ending of its link; a document where that says nothing."""
    return _KINDS_OF_ENDINGS.get(link.partition("?")[0].rpartition(".")[2].lower(), MediaKind.DOCUMENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    body: str
    preview_url: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """A file that WhatsApp fetches itself from a public link."""

    kind: MediaKind
    link: str
    caption: str | None = None
    filename: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateParameter:
    """One value of a template.  name is None for the positional kind ({{1}}, {{2}})."""

    value: str
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateHeader:
    """The header of a template: kind is `text`, `image`, `video` or `document`; media values are links."""

    kind: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateButton:
    """The variable of one button.  index counts over all buttons from 0; sub_type is `url`, `quick_reply`
    or `copy_code`."""

    index: int
    sub_type: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """An approved template, filled."""

    name: str
    language: str
    parameters: tuple[TemplateParameter, ...] = ()
    header: TemplateHeader | None = None
    buttons: tuple[TemplateButton, ...] = ()


Content = Text | Media | Template


def count_units(text: str) -> int:
    """The text's length in UTF-16 units, the largest of what "characters" may mean: an emoji counts two or more."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def content_type(content: Content) -> str:
    """`text`, `template` or the media kind: what listings call the type of a message."""
    match content:
        case Text():
            return "text"
        case Media():
            return content.kind.value
        case Template():
            return "template"
        case _:
            assert_never(content)


def content_summary(content: Content) -> str:
    """One line of words for listings: the text, the caption or link, the template with its values."""
    match content:
        case Text():
            return content.body
        case Media():
            return content.caption or content.link
        case Template():
            values = ", ".join(parameter.value for parameter in content.parameters)
            return f"{content.name} ({content.language})" + (f": {values}" if values else "")
        case _:
            assert_never(content)


def encode_content(content: Content) -> str:
    """The content as canonical JSON: NFC text, sorted keys, no spaces.  Equal content, equal bytes."""
    match content:
        case Text():
            shape: dict[str, Any] = {"type": "text", "body": content.body}
            if content.preview_url:
                shape["preview_url"] = True
        case Media():
            shape = {"type": content.kind.value, "link": content.link}
            if content.caption:
                shape["caption"] = content.caption
            if content.filename:
                shape["filename"] = content.filename
        case Template():
            shape = {"type": "template", "name": content.name, "language": content.language}
            if content.parameters:
                shape["parameters"] = [[parameter.name, parameter.value] for parameter in content.parameters]
            if content.header:
                shape["header"] = [content.header.kind, content.header.value]
            if content.buttons:
                shape["buttons"] = [[button.index, button.sub_type, button.value] for button in content.buttons]
        case _:
            assert_never(content)
    encoded = _to_json(shape)
    if unicodedata.is_normalized("NFC", encoded):
        return encoded
    # Text by text: over the whole line a combining mark would melt into the escape of a line break before it.
    return _to_json(_normalize(shape))


def _to_json(shape: Any) -> str:
    return json.dumps(shape, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _normalize(shape: Any) -> Any:
    match shape:
        case str():
            return unicodedata.normalize("NFC", shape)
        case list():
            return [_normalize(part) for part in shape]
        case dict():
            return {name: _normalize(part) for name, part in shape.items()}
        case _:
            return shape


def decode_content(encoded: str) -> Content:
    """The content that `encode_content` wrote.  Raises KeyError or ValueError on anything else."""
    shape: Mapping[str, Any] = json.loads(encoded)
    kind = shape["type"]
    if kind == "text":
        return Text(body=shape["body"], preview_url=shape.get("preview_url", False))
    if kind == "template":
        header = shape.get("header")
        return Template(
            name=shape["name"],
            language=shape["language"],
            parameters=tuple(TemplateParameter(name=name, value=value) for name, value in shape.get("parameters", ())),
            header=TemplateHeader(kind=header[0], value=header[1]) if header else None,
            buttons=tuple(
                TemplateButton(index=index, sub_type=sub_type, value=value)
                for index, sub_type, value in shape.get("buttons", ())
            ),
        )
    return Media(kind=MediaKind(kind), link=shape["link"], caption=shape.get("caption"), filename=shape.get("filename"))


def content_hash(encoded: str) -> bytes:
    """SHA-256 over the canonical bytes: 32 bytes.  A stored text that no longer matches it is never sent."""
    return hashlib.sha256(encoded.encode("utf-8", "surrogatepass")).digest()


def generate_idempotency_key(instance: str, address: str, encoded: str) -> str:
    """The key a message has when its caller gives none: SHA-256 over instance, recipient and content, in hex.

    Source: rows T4 and H5; the instance is ours, since two numbers are two senders.
    """
    return hashlib.sha256("\x1f".join((instance, address, encoded)).encode("utf-8", "surrogatepass")).hexdigest()


def format_message_id(message_id: int) -> str:
    """The id that people and scripts see: `m` and the row's number."""
    return f"m{message_id}"


def parse_message_id(text: str) -> MessageId:
    """The row's number of a public id.  Raises: UsageError on anything but `m` and digits."""
    digits = text.strip().removeprefix("m")
    if text.strip().startswith("m") and digits.isascii() and digits.isdigit() and len(digits) < 19:
        return MessageId(int(digits))
    raise UsageError(f"'{text}' is not a message id", hint="ids look like m42; `wa message list` shows them")


def format_batch_id(batch_id: int) -> str:
    return f"b{batch_id}"
