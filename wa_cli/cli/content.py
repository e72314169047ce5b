"""What a message says, from the flags of the send family to a checked content."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from wa_cli.domain.message import Media, MediaKind, Template, TemplateButton, TemplateHeader, TemplateParameter, Text
from wa_cli.errors import UsageError
from wa_cli.services.enqueue import check_content

if TYPE_CHECKING:
    from wa_cli.domain.message import Content
    from wa_cli.ports import ContentRules


def read_content(
    rules: ContentRules,
    *,
    text: str | None,
    kind: str | None,
    media: str | None,
    caption: str | None,
    filename: str | None,
    template: str | None,
    language: str,
    param: list[str] | None,
    header: str | None,
    button: list[str] | None,
    link_preview: bool,
) -> Content:
    """The content that the flags describe, checked against the platform's limits."""
    wanted = kind or ("template" if template else _kind_of_link(media) if media else "text")
    content: Content
    if wanted == "template":
        if not template:
            raise UsageError("--type template needs --template NAME", hint="for example --template hello_world")
        _forbid("template", text=text, media=media, caption=caption, filename=filename)
        content = Template(
            name=template,
            language=language,
            parameters=_read_params(param or []),
            header=_read_header(header),
            buttons=tuple(_read_button(word) for word in button or []),
        )
    elif wanted == "text":
        _forbid("text", media=media, caption=caption, filename=filename, template=template, header=header)
        if text is None:
            raise UsageError(
                "there is no message to send",
                hint='add the text in quotes: wa send ... "Doors open at six"',
                code="no_text",
            )
        content = Text(body=_read_text(text), preview_url=link_preview)
    elif wanted in set(MediaKind):
        _forbid(wanted, template=template, header=header)
        if not media:
            raise UsageError(f"--type {wanted} needs --media URL", hint="a public https link to the file")
        content = Media(
            kind=MediaKind(wanted),
            link=media,
            caption=caption or (_read_text(text) if text else None),
            filename=filename,
        )
    else:
        kinds = ", ".join(["text", "template", *MediaKind])
        raise UsageError(f"--type is '{wanted}', which this instance cannot send", hint=f"one of: {kinds}")
    check_content(content, rules)
    return content


def _forbid(kind: str, **flags: str | None) -> None:
    for name, value in flags.items():
        if value:
            flag = "TEXT" if name == "text" else f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} does not go with a message of type {kind}", hint="drop it, or change --type")


def _read_text(text: str) -> str:
    if text != "-":
        return text
    if sys.stdin.isatty():
        sys.stderr.write("type the message; end with Ctrl-D\n")
    try:
        return sys.stdin.read().rstrip("\n")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the text on stdin is not {error.encoding.upper()}", hint="save it as UTF-8", code="content"
        ) from error


def _kind_of_link(link: str) -> str:
    ending = link.partition("?")[0].rpartition(".")[2].lower()
    kinds = {
        "image": ("jpg", "jpeg", "png"),
        "video": ("mp4", "3gp"),
        "audio": ("mp3", "ogg", "aac", "amr", "m4a"),
        "sticker": ("webp",),
    }
    return next((kind for kind, endings in kinds.items() if ending in endings), "document")


def _read_params(words: list[str]) -> tuple[TemplateParameter, ...]:
    """`--param Ada` by position, `--param first_name=Ada` by name; all of one call alike."""
    named = [re.fullmatch(r"([a-z_][a-z0-9_]*)=(.*)", word, re.DOTALL) for word in words]
    if words and all(named):
        return tuple(TemplateParameter(name=match[1], value=match[2]) for match in named if match)
    return tuple(TemplateParameter(value=word) for word in words)


def _read_header(word: str | None) -> TemplateHeader | None:
    if word is None:
        return None
    kind, equals, value = word.partition("=")
    if not equals or kind not in ("text", "image", "video", "document"):
        raise UsageError(f"--header is '{word}'", hint="KIND=VALUE, for example image=https://example.org/a.jpg")
    return TemplateHeader(kind=kind, value=value)


def _read_button(word: str) -> TemplateButton:
    place, equals, value = word.partition("=")
    index, _colon, sub_type = place.partition(":")
    if not equals or not index.isdigit() or (sub_type or "url") not in ("url", "quick_reply", "copy_code"):
        raise UsageError(f"--button is '{word}'", hint="INDEX=VALUE for a link, or INDEX:quick_reply=VALUE")
    return TemplateButton(index=int(index), sub_type=sub_type or "url", value=value)
