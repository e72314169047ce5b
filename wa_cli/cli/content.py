"""What a message says, from the flags of the send family to its parts."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from wa_cli.domain.message import TemplateButton, TemplateHeader, TemplateParameter
from wa_cli.errors import UsageError
from wa_cli.services.content import build_content

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
    return build_content(
        rules,
        text=_read_text(text) if text is not None else None,
        kind=kind,
        media=media,
        caption=caption,
        filename=filename,
        template=template,
        language=language,
        parameters=_read_params(param or []),
        header=_read_header(header),
        buttons=tuple(_read_button(word) for word in button or []),
        link_preview=link_preview,
    )


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
