"""What a message says, from its parts to a checked content.  Every door uses it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from wa_cli.domain.message import (
    CONTENT_TYPES,
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
    find_media_kind,
    is_link,
    kind_of_type,
    parse_message_id,
)
from wa_cli.errors import UsageError
from wa_cli.services.enqueue import check_content

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from wa_cli.domain.history import MessageRow
    from wa_cli.domain.message import (
        Content,
        ListSection,
        LocalFile,
        ReplyButton,
        TemplateButton,
        TemplateHeader,
        TemplateParameter,
    )
    from wa_cli.ports import ContentRules, FoundFile, Instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Menu:
    """A list to choose from, without the words around it.  button: the label of what opens it."""

    button: str
    sections: tuple[ListSection, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentWords:
    """The parts of one message, as a door has read them; None or empty where nothing was said.

    kind: of CONTENT_TYPES, found from the other parts unless given.  text: the body, or the caption of media.
    media: a public link, or the path of a local file.  buttons: of a template; reply_buttons: those that a person taps
    to answer.  header: of a template, or as `text` above buttons and lists.
    """

    text: str | None = None
    kind: str | None = None
    media: str | None = None
    caption: str | None = None
    filename: str | None = None
    template: str | None = None
    language: str = "en_US"
    parameters: tuple[TemplateParameter, ...] = ()
    header: TemplateHeader | None = None
    buttons: tuple[TemplateButton, ...] = ()
    link_preview: bool = False
    location: Location | None = None
    contact: ContactCard | None = None
    poll: Poll | None = None
    reaction: Reaction | None = None
    reply_buttons: tuple[ReplyButton, ...] = ()
    menu: Menu | None = None
    footer: str | None = None


class LocalFiles(Protocol):
    """The local files that a door may take."""

    def look(self, word: str) -> FoundFile:
        """Raises: UsageError for a path that leads to no file, or out of the folders that files are taken from."""
        ...

    def keep(self, found: FoundFile) -> LocalFile:
        """Take its bytes as they are now: whatever becomes of the file later, the message has them."""
        ...


# The parts of each kind that nothing else has: the part that makes it, and those that go along.
_OWN_PARTS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "template": ("template", ("header",)),
    "location": ("location", ()),
    "contact": ("contact", ()),
    "poll": ("poll", ()),
    "reaction": ("reaction", ()),
    "buttons": ("reply_buttons", ("text", "header", "footer")),
    "list": ("menu", ("text", "header", "footer")),
}
_PARTS: Final = (
    *("template", "location", "contact", "poll", "reaction", "reply_buttons", "menu"),
    *("media", "caption", "filename", "text", "header", "footer"),
)
_MEDIA_PARTS: Final = ("media", ("text", "caption", "filename"))
_TEXT_PARTS: Final = ("text", ())
_FLAGS: Final[Mapping[str, str]] = {
    "text": "TEXT",
    "location": "--latitude",
    "contact": "--contact-name",
    "poll": "--question",
    "reaction": "--emoji",
    "reply_buttons": "--reply-button",
    "menu": "--list",
}
_EXAMPLES: Final[Mapping[str, tuple[str, str]]] = {
    "template": ("--template NAME", "for example --template hello_world"),
    "location": ("--latitude and --longitude", "for example --latitude 25.2048 --longitude 55.2708"),
    "contact": ("--contact-name and --contact-phone", 'for example --contact-name "Ada" --contact-phone +6581234567'),
    "poll": ("--option", 'for example --question "Coming?" --option Yes --option No'),
    "reaction": ("--to-message and --emoji", "for example --to-message m42 --emoji 👍"),
    "buttons": ("--reply-button", "for example --reply-button yes=Yes --reply-button no=No"),
    "list": ("--list FILE", 'a file with {"button": "Choose", "sections": [{"rows": [{"id": "a", "title": "A"}]}]}'),
}


def build_content(rules: ContentRules, words: ContentWords, *, files: LocalFiles | None = None) -> Content:
    """The content that the parts make, checked against the platform's limits.

    files: where local files may be taken from; None where they cannot be.
    Raises: UsageError for parts that do not go together, and for what the platform would refuse.
    """
    kind = words.kind or _find_kind(words)
    if kind not in CONTENT_TYPES:
        raise UsageError(f"--type is '{kind}', which is no type of message", hint=f"one of: {', '.join(CONTENT_TYPES)}")
    if kind in set(MediaKind):
        return _build_media(rules, MediaKind(kind), words, files)
    content = _assemble(kind, words)
    check_content(content, rules)
    return content


def _find_kind(words: ContentWords) -> str:
    for kind, (part, _others) in _OWN_PARTS.items():
        if getattr(words, part):
            return kind
    if not words.media:
        return "text"
    return find_media_kind(words.media).value


def _assemble(kind: str, words: ContentWords) -> Content:
    _check_company(kind, words)
    match kind:
        case "template":
            assert words.template is not None
            return Template(
                name=words.template,
                language=words.language,
                parameters=words.parameters,
                header=words.header,
                buttons=words.buttons,
            )
        case "buttons":
            return Buttons(
                body=words.text or "", buttons=words.reply_buttons, header=_text_header(words), footer=words.footer
            )
        case "list":
            assert words.menu is not None
            return ListMenu(
                body=words.text or "",
                button=words.menu.button,
                sections=words.menu.sections,
                header=_text_header(words),
                footer=words.footer,
            )
        case "text":
            if words.text is None:
                raise UsageError(
                    "there is no message to send",
                    hint='add the text in quotes: wa send ... "Doors open at six"',
                    code="no_text",
                )
            return Text(body=words.text, preview_url=words.link_preview)
    content: Content = getattr(words, _OWN_PARTS[kind][0])
    return content


def _text_header(words: ContentWords) -> str | None:
    if words.header is None:
        return None
    if words.header.kind != "text":
        raise UsageError("above buttons and lists stands a text alone", hint='--header "text=Gala night"')
    return words.header.value


def _check_company(kind: str, words: ContentWords) -> None:
    """Raises: UsageError for a part that is missing, or that does not go with this kind."""
    own, others = _MEDIA_PARTS if kind in set(MediaKind) else _OWN_PARTS.get(kind, _TEXT_PARTS)
    if kind in _EXAMPLES and not getattr(words, own):
        needed, example = _EXAMPLES[kind]
        raise UsageError(f"--type {kind} needs {needed}", hint=example)
    for name in _PARTS:
        if getattr(words, name) and name != own and name not in others:
            flag = _FLAGS.get(name, f"--{name}")
            raise UsageError(f"{flag} does not go with a message of type {kind}", hint="drop it, or change --type")


def _build_media(rules: ContentRules, kind: MediaKind, words: ContentWords, files: LocalFiles | None) -> Media:
    _check_company(kind.value, words)
    if not words.media:
        raise UsageError(f"--type {kind} needs --media", hint="a public https link, or the path of a file")
    caption = words.caption or words.text or None
    if is_link(words.media):
        content = Media(kind=kind, link=words.media, caption=caption, filename=words.filename)
        check_content(content, rules)
        return content
    if files is None:
        raise UsageError("a file of this machine cannot be sent from here", hint="give a public https link")
    found = files.look(words.media)
    if words.kind is None:
        kind = kind_of_type(found.file.mime_type)
    filename = words.filename or (found.name if kind is MediaKind.DOCUMENT else None)
    content = Media(kind=kind, caption=caption, filename=filename, file=found.file)
    check_content(content, rules)  # before a copy is made of what cannot be sent
    return replace(content, file=files.keep(found))


# --- reactions -----------------------------------------------------------------------------------------------------


class Messages(Protocol):
    def find(self, message_id: int) -> MessageRow: ...


def find_reaction_target(messages: Messages, word: str, addresses: Collection[str], instance: Instance) -> str:
    """The platform's id of the message that a reaction is for.

    word: one of our ids, such as m42, or the platform's own.  addresses: whom the reaction is sent to.
    Raises: UsageError where that cannot be the chat of that message, or the message has no id yet.
    """
    if len(addresses) != 1:
        raise UsageError(
            "a reaction belongs to the chat of its message", hint="send it to one recipient: wa send to RECIPIENT ..."
        )
    if not (word.startswith("m") and word[1:].isdigit()):
        return word
    row = messages.find(parse_message_id(word))
    (address,) = addresses
    if row.address != address:
        raise UsageError(f"message {word} was sent to {row.address}", hint=f"react there: wa send to {row.address} ...")
    if row.instance != instance.name:
        raise UsageError(f"message {word} was sent by '{row.instance}'", hint=f"add --instance {row.instance}")
    if row.provider_message_id is None:
        raise UsageError(
            f"message {word} is {row.standing}: WhatsApp has given it no id",
            hint="a reaction needs a message that left",
        )
    return row.provider_message_id
