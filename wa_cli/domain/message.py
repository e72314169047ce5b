"""A message: what it says, where it stands, and how both are written down."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from dataclasses import dataclass, fields, is_dataclass
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
    VOICE = "voice"  # audio that was spoken: shown with its wave, played on a tap
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


def kind_of_type(mime_type: str) -> MediaKind:
    """What a file is sent as unless somebody says otherwise."""
    if mime_type == "image/webp":
        return MediaKind.STICKER
    family = mime_type.partition("/")[0]
    return MediaKind(family) if family in ("image", "video", "audio") else MediaKind.DOCUMENT


def is_link(word: str) -> bool:
    """Whether somebody means an address on the net, and not a file of ours."""
    scheme, mark, _rest = word.partition("://")
    return bool(mark) and scheme.isascii() and scheme.replace("+", "").replace("-", "").replace(".", "").isalnum()


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    body: str
    preview_url: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """A file of ours that goes along with a message.

    digest: SHA-256 of its bytes in hex, by which it is kept, uploaded once and found again.  size: in bytes.
    """

    digest: str
    mime_type: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """A file: one that the provider fetches itself from a public link, or one of ours.

    link: "" when `file` is given.
    """

    kind: MediaKind
    link: str = ""
    caption: str | None = None
    filename: str | None = None
    file: LocalFile | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A place on the map.  latitude, longitude: decimal degrees, as they were written."""

    latitude: str
    longitude: str
    name: str | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactCard:
    """Somebody's card.  phone: E.164 with its plus."""

    name: str
    phone: str
    organization: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """A question with options to tap (row H13).  max_answers: how many one person may choose, 0 for any."""

    question: str
    options: tuple[str, ...]
    max_answers: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """An emoji on a message of the same chat.  message_id: the provider's id of it.  emoji: "" takes it back."""

    message_id: str
    emoji: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyButton:
    """A button that answers with its title.  id: comes back with the answer."""

    id: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Buttons:
    """A text with buttons to tap."""

    body: str
    buttons: tuple[ReplyButton, ...]
    header: str | None = None
    footer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRow:
    """One choice of a list.  id: comes back with the answer."""

    id: str
    title: str
    description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListSection:
    title: str | None
    rows: tuple[ListRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListMenu:
    """A text with a button that opens a list to choose from.  button: its label."""

    body: str
    button: str
    sections: tuple[ListSection, ...]
    header: str | None = None
    footer: str | None = None


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


Content = Text | Media | Template | Location | ContactCard | Poll | Reaction | Buttons | ListMenu

# Every type of message, as `--type` and listings call it.
CONTENT_TYPES: Final = (
    "text",
    *(kind.value for kind in MediaKind),
    "location",
    "contact",
    "poll",
    "reaction",
    "template",
    "buttons",
    "list",
)


def count_units(text: str) -> int:
    """The text's length in UTF-16 units, the largest of what "characters" may mean: an emoji counts two or more."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def describe_bytes(size: int) -> str:
    """A size in the largest unit that keeps it above one, such as 5 MB."""
    for unit, name in ((1024 * 1024, "MB"), (1024, "KB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}".replace(".0 ", " ")
    return f"{size} bytes"


def content_type(content: Content) -> str:
    """One of CONTENT_TYPES: what listings call the type of a message."""
    match content:
        case Text():
            return "text"
        case Media():
            return content.kind.value
        case Template():
            return "template"
        case Location():
            return "location"
        case ContactCard():
            return "contact"
        case Poll():
            return "poll"
        case Reaction():
            return "reaction"
        case Buttons():
            return "buttons"
        case ListMenu():
            return "list"
        case _:
            assert_never(content)


def content_summary(content: Content) -> str:
    """One line of words for listings: the text, the caption or link, the template with its values."""
    match content:
        case Text():
            return content.body
        case Media():
            return content.caption or content.link or content.filename or f"a file ({content.kind})"
        case Template():
            values = ", ".join(parameter.value for parameter in content.parameters)
            return f"{content.name} ({content.language})" + (f": {values}" if values else "")
        case Location():
            return content.name or content.address or f"{content.latitude}, {content.longitude}"
        case ContactCard():
            return f"{content.name}, {content.phone}"
        case Poll():
            return f"{content.question} ({' / '.join(content.options)})"
        case Reaction():
            return content.emoji or "(reaction taken back)"
        case Buttons() | ListMenu():
            return content.body
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
            if content.file:
                del shape["link"]
                shape["file"] = [content.file.digest, content.file.mime_type, content.file.size]
        case Template():
            shape = {"type": "template", "name": content.name, "language": content.language}
            if content.parameters:
                shape["parameters"] = [[parameter.name, parameter.value] for parameter in content.parameters]
            if content.header:
                shape["header"] = [content.header.kind, content.header.value]
            if content.buttons:
                shape["buttons"] = [[button.index, button.sub_type, button.value] for button in content.buttons]
        case Location() | ContactCard() | Poll() | Reaction() | Buttons() | ListMenu():
            shape = {"type": content_type(content), **_named_parts(content)}
        case _:
            assert_never(content)
    encoded = _to_json(shape)
    if unicodedata.is_normalized("NFC", encoded):
        return encoded
    # Text by text: over the whole line a combining mark would melt into the escape of a line break before it.
    return _to_json(_normalize(shape))


def _named_parts(content: Any) -> dict[str, Any]:
    """The fields of a plain content by name, nested ones too, without those that are not set."""
    return {
        name: [_named_parts(part) if is_dataclass(part) else part for part in value]
        if isinstance(value, tuple)
        else value
        for name in (field.name for field in fields(content))
        if (value := getattr(content, name)) is not None
    }


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
    """The content that `encode_content` wrote.  Raises KeyError, TypeError or ValueError on anything else."""
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
    parts = {name: value for name, value in shape.items() if name != "type"}
    match kind:
        case "location":
            return Location(**parts)
        case "contact":
            return ContactCard(**parts)
        case "poll":
            return Poll(**{**parts, "options": tuple(parts["options"])})
        case "reaction":
            return Reaction(**parts)
        case "buttons":
            return Buttons(**{**parts, "buttons": tuple(ReplyButton(**button) for button in parts["buttons"])})
        case "list":
            sections = tuple(
                ListSection(title=part.get("title"), rows=tuple(ListRow(**row) for row in part["rows"]))
                for part in parts["sections"]
            )
            return ListMenu(**{**parts, "sections": sections})
    file = shape.get("file")
    return Media(
        kind=MediaKind(kind),
        link="" if file else shape["link"],
        caption=shape.get("caption"),
        filename=shape.get("filename"),
        file=LocalFile(digest=file[0], mime_type=file[1], size=file[2]) if file else None,
    )


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
