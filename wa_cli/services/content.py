"""What a message says, from its parts to a checked content.  Every door uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wa_cli.domain.message import Media, MediaKind, Template, Text, find_media_kind
from wa_cli.errors import UsageError
from wa_cli.services.enqueue import check_content

if TYPE_CHECKING:
    from wa_cli.domain.message import Content, TemplateButton, TemplateHeader, TemplateParameter
    from wa_cli.ports import ContentRules


def build_content(
    rules: ContentRules,
    *,
    text: str | None,
    kind: str | None = None,
    media: str | None = None,
    caption: str | None = None,
    filename: str | None = None,
    template: str | None = None,
    language: str = "en_US",
    parameters: tuple[TemplateParameter, ...] = (),
    header: TemplateHeader | None = None,
    buttons: tuple[TemplateButton, ...] = (),
    link_preview: bool = False,
) -> Content:
    """The content that the parts make, checked against the platform's limits.

    kind: found from the parts unless given.  media: the link of a file.
    Raises: UsageError for parts that do not go together, and for what the platform would refuse.
    """
    wanted = kind or ("template" if template else find_media_kind(media) if media else "text")
    content: Content
    if wanted == "template":
        if not template:
            raise UsageError("--type template needs --template NAME", hint="for example --template hello_world")
        _forbid("template", text=text, media=media, caption=caption, filename=filename)
        content = Template(name=template, language=language, parameters=parameters, header=header, buttons=buttons)
    elif wanted == "text":
        _forbid("text", media=media, caption=caption, filename=filename, template=template, header=header)
        if text is None:
            raise UsageError(
                "there is no message to send",
                hint='add the text in quotes: wa send ... "Doors open at six"',
                code="no_text",
            )
        content = Text(body=text, preview_url=link_preview)
    elif wanted in set(MediaKind):
        _forbid(wanted, template=template, header=header)
        if not media:
            raise UsageError(f"--type {wanted} needs --media URL", hint="a public https link to the file")
        content = Media(kind=MediaKind(wanted), link=media, caption=caption or text or None, filename=filename)
    else:
        kinds = ", ".join(["text", "template", *MediaKind])
        raise UsageError(f"--type is '{wanted}', which this instance cannot send", hint=f"one of: {kinds}")
    check_content(content, rules)
    return content


def _forbid(kind: str, **parts: object) -> None:
    for name, value in parts.items():
        if value:
            flag = "TEXT" if name == "text" else f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} does not go with a message of type {kind}", hint="drop it, or change --type")
