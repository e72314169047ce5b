"""One text, taken apart into words and places for values: what a person writes between `{{` and `}}`.

Plain words know variables and a few filters; what goes beyond them is left to `domain.bounded_jinja`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote

from wa_cli.domain.fields import normalise_name
from wa_cli.domain.recipient import show_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jinja2 import nodes


LONGEST_OUTPUT: Final = 65_536  # characters; a message has 4,096 at most
_MANY_SLOTS: Final = 32  # so many of the longest fields still fit into memory


class CannotFill(Exception):
    """Why one person's message cannot be made.  details: one line, without their values."""

    def __init__(self, details: str) -> None:
        super().__init__(details)
        self.details = details


class MissingField(CannotFill):
    """A variable without a value and without a fallback.  name: of the field, as it is compared."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no value for {{{{ {name} }}}} and no fallback")
        self.name = name


# --- the filler ----------------------------------------------------------------------------------------------------


class Mistake(Exception):
    """What cannot be understood in a text.  line: of the text, from 1."""

    def __init__(self, line: int, words: str, hint: str) -> None:
        super().__init__(words)
        self.line = line
        self.words = words
        self.hint = hint


def is_blank(value: str) -> bool:
    """Whether nobody would see anything of it: zero-width characters alone are as empty as blanks."""
    if value[:1].isalnum():
        return False
    return not any(letter.isprintable() and not letter.isspace() for letter in value)


class Part(Protocol):
    """One text of a message.  names: of the fields it uses."""

    @property
    def names(self) -> frozenset[str]: ...

    def fill(self, values: Mapping[str, str], used: set[str]) -> str:
        """used: gets the names of the fields that needed a fallback of their own.  Raises: CannotFill."""
        ...


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for a value.  fallback: its own, or None.  change: what is done to a value, or to the fallback.

    link: `path` or `query` within an address, else "".
    """

    name: str
    change: Callable[[str], str] | None
    fallback: str | None
    link: str


class Words:
    """A text of literal words with slots between them; several times faster than Jinja's own rendering."""

    __slots__ = ("_pieces", "_slots", "_whole", "names")

    def __init__(self, pieces: Sequence[str], slots: Sequence[tuple[int, Slot]]) -> None:
        """pieces: words and empty places in turn; slots: each with its place among the pieces."""
        self._pieces = list(pieces)
        self._slots = tuple(slots)
        self._whole = "".join(pieces) if not slots else None
        self.names = frozenset(slot.name for _place, slot in slots)

    def fill(self, values: Mapping[str, str], used: set[str]) -> str:
        if self._whole is not None:
            return self._whole
        pieces = self._pieces.copy()
        for place, slot in self._slots:
            value = values.get(slot.name)
            if value is None:
                if slot.fallback is None:
                    raise MissingField(slot.name)
                used.add(slot.name)
                pieces[place] = slot.fallback
            else:
                if slot.change is not None:
                    value = slot.change(value)
                pieces[place] = encode_for_link(value, slot.link) if slot.link else value
        if len(self._slots) > _MANY_SLOTS and sum(map(len, pieces)) > LONGEST_OUTPUT:
            raise CannotFill(f"the text grows beyond {LONGEST_OUTPUT:,} characters")
        return "".join(pieces)


_LEGAL_IN_LINK: Final = "!$&'()*+,/:;=?@[]#%"  # and letters, digits, _.-~
_LONE_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


def encode_for_link(value: str, where: str) -> str:
    """A value as it may stand in an address: what cannot stand there is percent-encoded, what is encoded stays.

    where: in a `query`, what would begin another part of it is encoded too.
    """
    if value.isascii() and value.isalnum():
        return value
    value = _LONE_PERCENT.sub("%25", value)
    safe = _LEGAL_IN_LINK if where == "path" else _LEGAL_IN_LINK.translate({ord(sign): None for sign in "&#+"})
    return quote(value, safe=safe, errors="surrogatepass")


# --- taking texts apart --------------------------------------------------------------------------------------------


def _title(text: str) -> str:
    """Each word with a capital: `mary-ann o'neil` is `Mary-Ann O'neil`."""
    return re.sub(r"[^\W\d_][\w'’]*", lambda word: word[0][0].upper() + word[0][1:].lower(), text)


FILTERS: Final[Mapping[str, Callable[[str], str]]] = {
    "upper": str.upper,
    "lower": str.lower,
    "title": _title,
    "capitalize": str.capitalize,
    "trim": str.strip,
}
_PLAIN_HINT: Final = f'plain words know {{{{ name }}}} with default("..."), {", ".join(FILTERS)}'
_JINJA_HINT: Final = f'{_PLAIN_HINT}; for more put language = "jinja" at the top of the file'
_HEAD_OF_LINK: Final = re.compile(r"https?://[^\s<>\"]*\Z", re.IGNORECASE)


def take_apart(tree: nodes.Template, variables: Mapping[str, str], *, is_link: bool) -> Words:
    """The words and places of a text.  variables: values that are the same for everybody.

    Raises: Mistake for anything but words and plain variables.
    """
    from jinja2 import nodes

    pieces: list[str] = []
    slots: list[tuple[int, Slot]] = []
    before = ""
    for output in tree.body:
        if not isinstance(output, nodes.Output):
            raise Mistake(output.lineno, f"{name_statement(output)} is more than plain words", _JINJA_HINT)
        for node in output.nodes:
            if isinstance(node, nodes.TemplateData):
                pieces.append(node.data)
            else:
                slot = _read_slot(node, _place_in_link(before, is_link=is_link))
                constant = variables.get(slot.name)
                if constant is not None:
                    value = slot.change(constant) if slot.change is not None else constant
                    pieces.append(encode_for_link(value, slot.link) if slot.link else value)
                else:
                    slots.append((len(pieces), slot))
                    pieces.append("")
            # A value that is still to come goes on with the address that it stands in.
            before = (before + (pieces[-1] or "x"))[-2048:]
    return Words(pieces, slots)


def _place_in_link(before: str, *, is_link: bool) -> str:
    """Where in an address a slot stands, by the words before it: `path`, `query`, or "" for none."""
    if is_link:
        return "query" if "?" in before else "path"
    head = _HEAD_OF_LINK.search(before)
    return "" if head is None else "query" if "?" in head[0] else "path"


def _read_slot(node: nodes.Expr, link: str) -> Slot:
    """Raises: Mistake."""
    from jinja2 import nodes

    changes: list[Callable[[str], str]] = []
    fallback: str | None = None
    inner: nodes.Expr | None = node
    while isinstance(inner, nodes.Filter):
        if inner.name in ("default", "d"):
            fallback = _read_default(inner)
            for later in reversed(changes):  # those behind it change the fallback too
                fallback = later(fallback)
        elif inner.name not in FILTERS or inner.args or inner.kwargs:
            raise Mistake(
                node.lineno, f"the filter '{show_text(inner.name)}' is not one of the plain ones", _JINJA_HINT
            )
        else:
            changes.append(FILTERS[inner.name])
        inner = inner.node
    if isinstance(inner, nodes.Const):
        raise explain_constant(inner)
    if not isinstance(inner, nodes.Name):
        raise Mistake(node.lineno, f"{name_expression(inner)} is more than a plain variable", _JINJA_HINT)
    if fallback is not None and link:
        fallback = encode_for_link(fallback, link)
    change = changes[0] if len(changes) == 1 else _chain(tuple(reversed(changes))) if changes else None
    return Slot(name=normalise_name(inner.name), change=change, fallback=fallback, link=link)


def explain_constant(node: nodes.Const) -> Mistake:
    """What to write instead of `{{ 1 }}`, which the places of templates are called."""
    return Mistake(
        node.lineno,
        f"{{{{ {show_text(str(node.value), limit=30)} }}}} is no variable",
        "name a field, such as {{ first_name }}; the places of a template are filled by `parameters`",
    )


def _read_default(node: nodes.Filter) -> str:
    from jinja2 import nodes

    value = node.args[0] if node.args else None
    if not isinstance(value, nodes.Const) or node.kwargs or is_blank(str(value.value)):
        raise Mistake(
            node.lineno,
            "default takes one text that people see something of",
            'write {{ name | default("friend") }}',
        )
    return str(value.value)


def _chain(changes: tuple[Callable[[str], str], ...]) -> Callable[[str], str]:
    def change(value: str) -> str:
        for one in changes:
            value = one(value)
        return value

    return change


def explain_syntax(line: int, said: str, text: str) -> Mistake:
    """What a person can do about what Jinja could not read."""
    for match in re.finditer(r"\{\{[-+]?\s*([^{}|]*?)\s*(?:\|[^{}]*)?[-+]?\}\}", text):
        written = match[1]
        name = normalise_name(written)
        if re.search(r"[\s-]", written) and name.isidentifier() and text.count("\n", 0, match.start()) + 1 == line:
            return Mistake(line, f"{{{{ {show_text(written, limit=60)} }}}} is no variable", f"write {{{{ {name} }}}}")
    if "'}'" in said or "'{'" in said or said.startswith("unexpected end"):
        return Mistake(line, "a brace is missing", "write {{ name }}, with two braces on either side")
    if empty := re.search(r"\{\{[-+]?\s*[-+]?\}\}", text):
        return Mistake(line, f"{empty[0]} names nothing", "write {{ name }}, or leave the braces out")
    return Mistake(line, f"it cannot be read: {show_text(said, limit=120)}", _PLAIN_HINT)


# What things of Jinja are called, by the names of their nodes.
STATEMENTS: Final[Mapping[str, str]] = {
    "If": "{% if %}",
    "For": "{% for %}",
    "Assign": "{% set %}",
    "AssignBlock": "{% set %}",
    "Include": "{% include %}",
    "Import": "{% import %}",
    "FromImport": "{% from %}",
    "Extends": "{% extends %}",
    "Macro": "{% macro %}",
    "Block": "{% block %}",
    "CallBlock": "{% call %}",
    "FilterBlock": "{% filter %}",
    "With": "{% with %}",
}
EXPRESSIONS: Final[Mapping[str, str]] = {
    "Getattr": "a dot behind a name",
    "Getitem": "a [ ] behind a name",
    "Call": "a call such as name()",
    "Mul": "*",
    "Div": "/",
    "FloorDiv": "//",
    "Mod": "%",
    "Pow": "**",
    "Test": "a test",
    "CondExpr": "an if within {{ }}",
}


def name_statement(node: nodes.Node) -> str:
    return STATEMENTS.get(type(node).__name__, "a statement")


def name_expression(node: nodes.Node | None) -> str:
    return EXPRESSIONS.get(type(node).__name__, "an expression")
