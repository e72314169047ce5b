"""Personal words: what a campaign's messages say to one person, filled from their fields.

A text is taken apart once and filled many times.  `plain` knows variables and a few filters, `jinja` loops and
conditions too.  A field that is missing is never a blank: it has a fallback, or `MissingField` says which one it is.
What people's fields hold is data: braces in it stay braces.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from wa_cli.domain.fields import normalise_name
from wa_cli.domain.message import (
    Media,
    MediaKind,
    Template,
    TemplateButton,
    TemplateHeader,
    TemplateParameter,
    Text,
    find_media_kind,
    kind_of_type,
)
from wa_cli.domain.personal_kinds import assemble
from wa_cli.domain.wording import CannotFill as CannotFill
from wa_cli.domain.wording import MissingField as MissingField
from wa_cli.domain.wording import Mistake, Words, is_blank, take_apart
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from wa_cli.domain.bounded_jinja import Workshop
    from wa_cli.domain.campaign import MessageSpec
    from wa_cli.domain.message import Content, LocalFile
    from wa_cli.domain.wording import Part

PLAIN: Final = "plain"
JINJA: Final = "jinja"
NAMES_REMEMBERED: Final = 10_000
_ONE_BRACE: Final = re.compile(r"(?<!\{)\{ ?([A-Za-z][\w ]{0,39}?) ?\}(?!\})")


class Filler:
    """Fills the messages of a campaign, person by person.

    A variable's value is what the campaign says for everybody, else the person's own field, else the fallback.
    """

    def __init__(
        self,
        messages: Sequence[MessageSpec],
        *,
        variables: Iterable[tuple[str, str]] = (),
        fallbacks: Iterable[tuple[str, str]] = (),
        language: str = PLAIN,
        files: Mapping[str, LocalFile] | None = None,
    ) -> None:
        """messages: the variants, in order.  language: `plain` or `jinja`.  What is wrong is told by `check`.

        files: those of this machine that the messages carry, by the paths that stand there.
        """
        self._files = files or {}
        self._variables = {normalise_name(name): value for name, value in variables}
        self._fallbacks = {normalise_name(name): value for name, value in fallbacks}
        self._names: dict[str, str] = {}
        self._mistakes: list[UsageError] = []
        self._warnings: dict[str, None] = {}
        for what, values in (("variable", self._variables), ("fallback", self._fallbacks)):
            for name, value in values.items():
                if re.search(r"\{\{|\{%", value):
                    self._note(
                        f"the {what} '{name}' holds braces, which would be sent as they are",
                        "write the variable into the message itself",
                    )
        compiler = _Compiler(language, self._variables)
        self._messages = [self._compile(message, compiler, len(messages)) for message in messages]
        self._variants = [
            frozenset(name for part in _list_parts(message) for name in part.names) for message in self._messages
        ]

    @property
    def variables(self) -> frozenset[str]:
        """The names of all fields that any variant uses, without those that the campaign fills for everybody."""
        return frozenset().union(*self._variants)

    def variables_of(self, variant: int) -> frozenset[str]:
        """The names of the fields that one variant uses."""
        return self._variants[variant]

    def check(self) -> None:
        """Raises: UsageError for what cannot be understood, naming the variant, the part and the line of it."""
        if self._mistakes:
            raise self._mistakes[0]

    @property
    def mistakes(self) -> tuple[UsageError, ...]:
        """Everything that `check` would tell."""
        return tuple(self._mistakes)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is sent as it stands and looks like a variable of another program."""
        return tuple(self._warnings)

    def fill(
        self,
        variant: int,
        fields: Mapping[str, str],
        *,
        shorten: Callable[[str], str] | None = None,
        used: Counter[str] | None = None,
    ) -> Content:
        """What one person is sent.

        variant: from 0.  fields: the person's, under names in any spelling.  shorten: gets every http or https address
        in what people read and in the values of link buttons, and gives what stands there instead.
        used: a field whose fallback was needed is counted here, once a person.
        Raises: MissingField; CannotFill where the text itself fails for them; UsageError as `check` does.
        """
        if self._mistakes:
            raise self._mistakes[0]
        needed: set[str] = set()
        values = self._find_values(self._variants[variant], fields, needed)
        content = _fill_message(self._messages[variant], values, shorten, needed)
        if needed and used is not None:
            used.update(needed)
        return content

    def _find_values(self, names: frozenset[str], fields: Mapping[str, str], used: set[str]) -> dict[str, str]:
        """The value of each name that has one, from the fields or the fallbacks."""
        values = {}
        folded: dict[str, str] | None = None
        for name in names:
            value = fields.get(name)
            if value is None or is_blank(value):
                if folded is None:
                    folded = self._fold(fields)
                value = folded.get(name)
                if value is None:
                    value = self._fallbacks.get(name)
                    if value is None:
                        continue
                    used.add(name)
            values[name] = value
        return values

    def _fold(self, fields: Mapping[str, str]) -> dict[str, str]:
        """The fields that hold something, under their names for comparing."""
        names = self._names
        folded: dict[str, str] = {}
        for written, value in fields.items():
            if is_blank(value):
                continue
            name = names.get(written)
            if name is None:
                name = normalise_name(written)
                if len(names) < NAMES_REMEMBERED:
                    names[written] = name
            folded.setdefault(name, value)
        return folded

    def _compile(self, message: MessageSpec, compiler: _Compiler, variants: int) -> _Message:
        owner = f"variant '{message.name}'" if message.name and variants > 1 else "the message"

        def take(what: str, text: str, *, is_link: bool = False) -> Part:
            try:
                part = compiler.compile(text, is_link=is_link)
                for match in _ONE_BRACE.finditer(text):
                    name = normalise_name(match[1])
                    words = f"{owner}, {what}: {match[0]} is sent as it stands; a variable is written {{{{ {name} }}}}"
                    self._warnings[words] = None
                return part
            except Mistake as mistake:
                line = f", line {mistake.line}" if "\n" in text.strip() else ""
                self._note(f"{owner}, {what}{line}: {mistake.words}", mistake.hint)
                return Words((text,), ())

        return _Message(
            spec=message,
            text=take("text", message.text) if message.text is not None else None,
            media=take("media", message.media, is_link=True) if message.media is not None else None,
            file=self._files.get(message.media) if message.media is not None else None,
            parts=tuple((place, take(place, text)) for place, text in message.parts),
            filename=take("filename", message.filename) if message.filename is not None else None,
            template=message.template,
            parameters=tuple(
                (None if key.isdigit() else key, take(f"parameter {key}", text)) for key, text in message.parameters
            ),
            header=(
                (message.header[0], take("header", message.header[1], is_link=message.header[0] != "text"))
                if message.header is not None
                else None
            ),
            buttons=tuple(
                (index, kind, take(f"button {index}", text, is_link=kind == "url"))
                for index, kind, text in message.buttons
            ),
        )

    def _note(self, message: str, hint: str) -> None:
        self._mistakes.append(UsageError(message, hint=hint, code="campaign_text"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    """A variant, taken apart."""

    spec: MessageSpec
    text: Part | None
    media: Part | None
    file: LocalFile | None
    parts: tuple[tuple[str, Part], ...]
    filename: Part | None
    template: str | None
    parameters: tuple[tuple[str | None, Part], ...]
    header: tuple[str, Part] | None
    buttons: tuple[tuple[int, str, Part], ...]


def _list_parts(message: _Message) -> Iterator[Part]:
    yield from (part for part in (message.text, message.media, message.filename) if part is not None)
    yield from (part for _place, part in message.parts)
    yield from (part for _name, part in message.parameters)
    if message.header is not None:
        yield message.header[1]
    yield from (part for _index, _kind, part in message.buttons)


def _fill_message(
    message: _Message, values: Mapping[str, str], shorten: Callable[[str], str] | None, used: set[str]
) -> Content:
    if message.template is not None:
        return _fill_template(message, values, shorten, used)
    text = message.text.fill(values, used) if message.text is not None else None
    if shorten is not None and text is not None:
        text = shorten_links(text, shorten)
    if message.spec.kind is not None:
        parts = {place: part.fill(values, used) for place, part in message.parts}
        header = message.header[1].fill(values, used) if message.header is not None else None
        return assemble(message.spec.kind, parts, text=text or "", header=header)
    if message.file is not None:
        return _fill_file(message, message.file, text, values, used)
    if message.media is None:
        return Text(body=text or "", preview_url=message.spec.link_preview)
    link = message.media.fill(values, used)
    kind = MediaKind(message.spec.media_type) if message.spec.media_type else find_media_kind(link)
    filename = message.filename.fill(values, used) if message.filename is not None else None
    return Media(kind=kind, link=link, caption=text, filename=filename)


def _fill_file(
    message: _Message, file: LocalFile, text: str | None, values: Mapping[str, str], used: set[str]
) -> Media:
    kind = MediaKind(message.spec.media_type) if message.spec.media_type else kind_of_type(file.mime_type)
    filename = message.filename.fill(values, used) if message.filename is not None else None
    if filename is None and kind is MediaKind.DOCUMENT:
        filename = (message.spec.media or "").replace("\\", "/").rpartition("/")[2] or None
    return Media(kind=kind, caption=text, filename=filename, file=file)


def _fill_template(
    message: _Message, values: Mapping[str, str], shorten: Callable[[str], str] | None, used: set[str]
) -> Template:
    parameters = [(name, part.fill(values, used)) for name, part in message.parameters]
    buttons = [(index, kind, part.fill(values, used)) for index, kind, part in message.buttons]
    if shorten is not None:
        parameters = [(name, shorten_links(value, shorten)) for name, value in parameters]
        buttons = [
            (index, kind, shorten_links(value, shorten) if kind == "url" else value) for index, kind, value in buttons
        ]
    header = None
    if message.header is not None:
        kind, part = message.header
        header = TemplateHeader(kind=kind, value=part.fill(values, used))
    return Template(
        name=message.template or "",
        language=message.spec.language,
        parameters=tuple(TemplateParameter(name=name, value=value) for name, value in parameters),
        header=header,
        buttons=tuple(TemplateButton(index=index, sub_type=kind, value=value) for index, kind, value in buttons),
    )


class _Compiler:
    """Takes texts apart.  variables: values that are the same for everybody."""

    def __init__(self, language: str, variables: Mapping[str, str]) -> None:
        self._language = language
        self._variables = variables
        self._made: Workshop | None = None

    @property
    def _workshop(self) -> Workshop:
        """Made when the first text with a brace comes by: Jinja takes its time to load."""
        if self._made is None:
            from wa_cli.domain.bounded_jinja import Workshop

            self._made = Workshop()
        return self._made

    def compile(self, text: str, *, is_link: bool) -> Part:
        """Raises: Mistake."""
        if "{" not in text:
            return Words((text.removesuffix("\n"),), ())  # as Jinja does: the end of a text in three quotes
        tree = self._workshop.parse(text)
        try:
            return take_apart(tree, self._variables, is_link=is_link)
        except Mistake:
            if self._language != JINJA:
                raise
        return self._workshop.make_program(tree, self._variables, length=len(text), is_link=is_link)


def find_mistake(
    text: str, *, variables: Mapping[str, str], language: str = PLAIN, is_link: bool = False
) -> Mistake | None:
    """What cannot be understood in one text, with its line, or None.

    For whoever reads a campaign's file, and knows where in it the text stands.
    """
    try:
        _Compiler(language, variables).compile(text, is_link=is_link)
    except Mistake as mistake:
        return mistake
    return None


# --- links ---------------------------------------------------------------------------------------------------------

_LINK: Final = re.compile(
    r"(?<![A-Za-z0-9])https?://[^\s<>\"“”„«»‹›。，、！？；：（）［］【】「」『』\u200b-\u200f\u2028-\u202e]+", re.I
)
_BEHIND_LINK: Final = ".,;:!?'’*~…|"
_BRACKETS: Final = {")": "(", "]": "[", "}": "{"}


def shorten_links(text: str, shorten: Callable[[str], str]) -> str:
    """The text with every http and https address given through `shorten`.

    What closes a sentence, a bracket or WhatsApp's own markup behind an address does not belong to it.
    """
    if "://" not in text:
        return text

    def replace(match: re.Match[str]) -> str:
        before = text[match.start() - 1] if match.start() else ""
        url = _cut_ending(match[0], before)
        return (shorten(url) if url.partition("://")[2] else url) + match[0][len(url) :]

    return _LINK.sub(replace, text)


def _cut_ending(url: str, before: str) -> str:
    while url:
        last = url[-1]
        opening = _BRACKETS.get(last)
        is_behind = last in _BEHIND_LINK or (last == "_" and before == "_")
        if not is_behind and (opening is None or url.count(last) <= url.count(opening)):
            break
        url = url[:-1]
    return url


# --- variants ------------------------------------------------------------------------------------------------------


def choose_variant(weights: Sequence[int], *, seed: int, contact_id: int) -> int:
    """Which variant a person gets, from 0: always the same one, and each as often as its weight says.

    weights: one at least, each 0 or more, and not all 0.  Raises: ValueError.
    """
    if len(weights) == 1:
        return 0
    bounds = list(accumulate(weights))
    if not bounds or bounds[-1] <= 0 or min(weights) < 0:
        raise ValueError("weights are whole numbers from 0, one of them above")
    drawn = hashlib.blake2b(f"{seed}:{contact_id}".encode(), digest_size=8, person=b"wa variant").digest()
    return bisect_right(bounds, int.from_bytes(drawn, "big") % bounds[-1])
