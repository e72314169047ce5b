"""Texts with loops and conditions, made by Jinja in its sandbox and inside bounds that hold whatever stands in them.

The sandbox alone is not enough: its escapes keep coming, and it stops no loop (fault 77).  So a text may be made of a
few kinds of parts only: no calls, no attributes, no other files, nothing that makes much out of little.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from wa_cli.domain.fields import normalise_name
from wa_cli.domain.recipient import show_text
from wa_cli.domain.wording import (
    EXPRESSIONS,
    FILTERS,
    LONGEST_OUTPUT,
    STATEMENTS,
    CannotFill,
    MissingField,
    Mistake,
    encode_for_link,
    explain_constant,
    explain_syntax,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from jinja2 import Environment, nodes

LONGEST_SOURCE: Final = 16_384  # characters of a text, and of the fields that go into it
MOST_ROUNDS: Final = 1_000  # of all loops of one text together


class Workshop:
    """Reads texts, and makes programs of those that plain words cannot say."""

    def __init__(self) -> None:
        self._bounds = _Bounds()
        self._environment = _make_environment(self._bounds)

    def parse(self, text: str) -> nodes.Template:
        """Raises: Mistake."""
        from jinja2 import TemplateSyntaxError

        try:
            return self._environment.parse(text)
        except TemplateSyntaxError as error:
            raise explain_syntax(error.lineno, error.message or "", text) from error
        except RecursionError as error:
            raise Mistake(1, "it is nested too deeply", "write it in fewer steps") from error

    def make_program(
        self, tree: nodes.Template, variables: Mapping[str, str], *, length: int, is_link: bool
    ) -> Program:
        """length: of the text, in characters.  Raises: Mistake for what a text may not be made of."""
        if length > LONGEST_SOURCE:
            raise Mistake(
                1, f"it has {length:,} characters", f"with loops or conditions it may have {LONGEST_SOURCE:,}"
            )
        names = _guard(tree)
        template = self._environment.from_string(tree)
        return Program(template, names - variables.keys(), variables, self._bounds, is_link=is_link)


class Program:
    """A text with loops or conditions, rendered by Jinja in its sandbox."""

    __slots__ = ("_bounds", "_is_link", "_template", "_variables", "names")

    def __init__(
        self, template: Any, names: frozenset[str], variables: Mapping[str, str], bounds: _Bounds, *, is_link: bool
    ) -> None:
        self._template = template
        self._variables = variables
        self._bounds = bounds
        self._is_link = is_link
        self.names = names

    def fill(self, values: Mapping[str, str], used: set[str]) -> str:
        from jinja2 import TemplateError, UndefinedError

        if sum(map(len, values.values())) > LONGEST_SOURCE:
            raise CannotFill(f"the fields in the text have more than {LONGEST_SOURCE:,} characters")
        self._bounds.begin(used)
        pieces: list[str] = []
        length = 0
        try:
            for piece in self._template.generate({**values, **self._variables}):
                length += len(piece)
                if length > LONGEST_OUTPUT:
                    raise CannotFill(f"the text grows beyond {LONGEST_OUTPUT:,} characters")
                pieces.append(piece)
        except UndefinedError as error:
            match = re.match(r"'(\w+)' is undefined", str(error))
            missing = match[1] if match else next(iter(sorted(self.names - values.keys())), None)
            if missing is None:
                raise CannotFill(f"the text cannot be made: {show_text(str(error))}") from error
            raise MissingField(missing) from error
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, RecursionError) as error:
            raise CannotFill(f"the text cannot be made: {type(error).__name__}") from error
        text = "".join(pieces)
        return encode_for_link(text, "path") if self._is_link else text


# What a text may be made of.  No calls, no attributes, nothing that makes much out of little.
_ALLOWED: Final = frozenset(
    {
        *("Template", "Output", "TemplateData", "Name", "Const", "Filter", "Test", "If", "For", "CondExpr"),
        *("Compare", "Operand", "And", "Or", "Not", "Add", "Sub", "Neg", "Concat", "List", "Tuple"),
        *("Getattr", "Getitem", "Slice"),
    }
)
_OF_LOOPS: Final = frozenset({"index", "index0", "revindex", "first", "last", "length"})
_COUNTED: Final = "each one counted"  # a filter that nobody can type


class _Bounds:
    """What one text may still do while it is made: how many rounds its loops have taken."""

    __slots__ = ("_rounds", "_used")

    def __init__(self) -> None:
        self._rounds = 0
        self._used: set[str] = set()

    def begin(self, used: set[str]) -> None:
        self._rounds = 0
        self._used = used

    def count(self, values: Iterable[Any]) -> list[Any]:
        """What a loop goes through.  Raises: CannotFill once all loops have gone through too much."""
        taken = list(values)
        self._rounds += len(taken)
        if self._rounds > MOST_ROUNDS:
            raise CannotFill(f"the loops of the text go round more than {MOST_ROUNDS:,} times")
        return taken

    def fall_back(self, value: Any, fallback: Any = "", is_boolean: bool = False) -> Any:
        from jinja2 import Undefined

        if isinstance(value, Undefined):
            name = value._undefined_name
            if isinstance(name, str):
                self._used.add(name)
            return fallback
        return fallback if is_boolean and not value else value


def _make_environment(bounds: _Bounds) -> Environment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # Not optimised: a loop over a list that stands in the text would be counted once, when it is taken apart.
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True, cache_size=0, optimized=False
    )
    environment.globals.clear()
    environment.tests = {name: environment.tests[name] for name in ("defined", "undefined")}
    environment.filters = {
        **{name: _on_text(change) for name, change in FILTERS.items()},
        "default": bounds.fall_back,
        "d": bounds.fall_back,
        "first": lambda values: values[0],
        "last": lambda values: values[-1],
        "length": len,
        "count": len,
        "int": _read_whole,
        "join": _join,
        "replace": _replace,
        "split": _split,
        "truncate": _truncate,
        _COUNTED: bounds.count,
    }
    return environment


def _on_text(change: Callable[[str], str]) -> Callable[[Any], str]:
    return lambda value: change(str(value))


def _read_whole(value: Any) -> int:
    text = str(value).strip()
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise CannotFill("a value that has to be a whole number is none")
    return int(text)


def _join(values: Any, between: Any = "") -> str:
    taken, glue = [str(value) for value in values], str(between)
    _check_growth(sum(map(len, taken)) + len(glue) * len(taken))
    return glue.join(taken)


def _replace(value: Any, old: Any, new: Any) -> str:
    text, old, new = str(value), str(old), str(new)
    if not old:
        return text
    _check_growth(len(text) + text.count(old) * max(0, len(new) - len(old)))
    return text.replace(old, new)


def _split(value: Any, between: Any = ",") -> list[str]:
    """The parts between the signs, without blanks around them and without empty ones."""
    return [part.strip() for part in str(value).split(str(between)) if part.strip()]


def _truncate(value: Any, length: int = 80) -> str:
    text = str(value)
    return text if len(text) <= length else text[: max(0, length - 1)].rstrip() + "…"


def _check_growth(length: int) -> None:
    if length > LONGEST_OUTPUT:
        raise CannotFill(f"the text grows beyond {LONGEST_OUTPUT:,} characters")


def _guard(tree: nodes.Template) -> frozenset[str]:
    """Hold a text to what it may be made of, make its names alike, count its rounds.  Returns the fields it uses.

    Raises: Mistake.
    """
    from jinja2 import meta, nodes

    known = (
        "default",
        "d",
        *FILTERS,
        "first",
        "last",
        "length",
        "count",
        "int",
        "join",
        "replace",
        "split",
        "truncate",
    )
    hint = "texts know if, for and the filters " + ", ".join(name for name in known if name not in ("d", "count"))
    for node in tree.find_all(nodes.Node):
        kind = type(node).__name__
        if kind not in _ALLOWED:
            told = STATEMENTS.get(kind) or EXPRESSIONS.get(kind) or f"'{kind}'"
            raise Mistake(node.lineno, f"{told} is not allowed in a message", hint)
        if isinstance(node, nodes.Output):
            for constant in (part for part in node.nodes if isinstance(part, nodes.Const)):
                raise explain_constant(constant)
        elif isinstance(node, nodes.Name):
            node.name = normalise_name(node.name)
            if node.name == "self":  # Jinja's own word for the text
                raise Mistake(node.lineno, "a field cannot be called self here", "give it another name")
        elif isinstance(node, nodes.Filter) and node.name not in known:
            raise Mistake(node.lineno, f"there is no filter '{show_text(node.name)}'", hint)
        elif isinstance(node, nodes.Filter) and node.node is None:
            raise Mistake(node.lineno, "{% filter %} is not allowed in a message", hint)
        elif isinstance(node, nodes.Test) and node.name not in ("defined", "undefined"):
            raise Mistake(node.lineno, f"there is no test '{show_text(node.name)}'", "write: is defined")
        elif isinstance(node, nodes.Getattr) and not (
            isinstance(node.node, nodes.Name) and node.node.name == "loop" and node.attr in _OF_LOOPS
        ):
            raise Mistake(node.lineno, "a dot behind a name is not allowed in a message", hint)
        elif isinstance(node, nodes.Getitem) and not _is_plain_index(node.arg):
            raise Mistake(node.lineno, "[ ] takes whole numbers", "write {{ name[0] }} or {{ name[:20] }}")
        elif isinstance(node, nodes.For) and node.recursive:
            raise Mistake(node.lineno, "a recursive loop is not allowed in a message", hint)
    for loop in list(tree.find_all(nodes.For)):
        loop.iter = nodes.Filter(loop.iter, _COUNTED, [], [], None, None, lineno=loop.lineno)
    return frozenset(meta.find_undeclared_variables(tree))


def _is_plain_index(node: nodes.Expr) -> bool:
    from jinja2 import nodes

    if isinstance(node, nodes.Slice):
        return all(part is None or _is_plain_index(part) for part in (node.start, node.stop, node.step))
    if isinstance(node, nodes.Neg):
        node = node.node
    return isinstance(node, nodes.Const) and isinstance(node.value, int)
