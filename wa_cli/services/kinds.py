"""What an instance can send at all, by the capabilities of its provider: asked before the platform's own rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wa_cli.domain.message import Media, Text, content_type, describe_bytes
from wa_cli.ports import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wa_cli.domain.message import Content
    from wa_cli.domain.recipient import RecipientKind
    from wa_cli.ports import ContentRules
    from wa_cli.provider import Provider

PLURALS: Final[Mapping[str, str]] = {
    "text": "texts",
    "image": "images",
    "video": "videos",
    "document": "documents",
    "audio": "audio messages",
    "voice": "voice messages",
    "sticker": "stickers",
    "location": "locations",
    "contact": "contact cards",
    "poll": "polls",
    "reaction": "reactions",
    "template": "templates",
    "buttons": "buttons",
    "list": "lists",
}
FILES: Final = "local files"
# What asks nearly the same, where a kind is missing.
_INSTEAD: Final[Mapping[str, tuple[str, ...]]] = {
    "poll": ("buttons", "list"),
    "buttons": ("list", "poll"),
    "list": ("buttons", "poll"),
    "voice": ("audio",),
    "sticker": ("image",),
}


class KindRules:
    """The rules of a provider, behind the question whether it has such messages.

    find_others: names of the other instances that can send a kind, or `FILES`.
    """

    def __init__(self, provider: Provider, find_others: Callable[[str], Sequence[str]]) -> None:
        self._title = provider.title
        self._capabilities = provider.capabilities
        self._kinds = provider.capabilities.kinds
        self._rules: ContentRules = provider.rules()
        self._find_others = find_others

    def find_problem(self, content: Content) -> Problem | None:
        if isinstance(content, Text):  # most messages of most campaigns
            return self._rules.find_problem(content)
        kind = content_type(content)
        if (lack := self.find_lack(kind)) is not None:
            return lack
        if isinstance(content, Media) and content.file is not None:
            if not self._capabilities.takes_files:
                return self._lack(FILES, f"{FILES}: it fetches media from public links")
            most = self._capabilities.max_bytes.get(kind)
            if most is not None and content.file.size > most:
                return Problem(
                    message=f"the file has {describe_bytes(content.file.size)}, and {self._title} takes"
                    f" {PLURALS[kind]} up to {describe_bytes(most)}",
                    hint="make it smaller, or send it with another --type",
                )
        return self._rules.find_problem(content)

    def find_lack(self, kind: str) -> Problem | None:
        """Why no message of this kind can be sent at all, or None.  kind: of CONTENT_TYPES."""
        return None if kind in self._kinds else self._lack(kind, PLURALS[kind])

    def needs_window(self, content: Content) -> bool:
        return self._rules.needs_window(content)

    def find_recipient_problem(self, kind: RecipientKind) -> Problem | None:
        return self._rules.find_recipient_problem(kind)

    def _lack(self, kind: str, what: str) -> Problem:
        others = self._find_others(kind)
        instead = [PLURALS[one] for one in _INSTEAD.get(kind, ()) if one in self._kinds]
        if others:
            hint = f"these instances have them: {', '.join(f'--instance {name}' for name in others)}"
        elif instead:
            hint = f"it has {' and '.join(instead)}; an instance of another provider may have {PLURALS.get(kind, kind)}"
        else:
            hint = f"it has {', '.join(PLURALS[one] for one in PLURALS if one in self._kinds)}"
        return Problem(message=f"{self._title} has no {what}", hint=hint)
