"""The approved templates of an account, and whether a campaign's message fits the one that it names."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from wa_cli.domain.message import count_units
from wa_cli.domain.recipient import show_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from wa_cli.domain.campaign import MessageSpec
    from wa_cli.domain.message import Template

APPROVED: Final = "APPROVED"
MAX_BODY_UNITS: Final = 1024  # of a filled body
MAX_HEADER_UNITS: Final = 60

_PLACE: Final = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_MEDIA: Final = ("image", "video", "document")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredButton:
    """kind: `url`, `quick_reply`, `copy_code`, `phone_number` or another of the platform's.  url: with its place."""

    kind: str
    text: str
    url: str | None = None

    @property
    def sub_type(self) -> str | None:
        """What a message calls it that gives it a value, or None for one that takes none."""
        match self.kind:
            case "url":
                return "url" if self.url is not None and _PLACE.search(self.url) else None
            case "otp":
                return "url"
            case "quick_reply" | "copy_code":
                return self.kind
            case _:
                return None

    @property
    def needs_value(self) -> bool:
        """Whether the platform refuses a message without one.  A quick reply without one answers with its text."""
        return self.sub_type in ("url", "copy_code")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTemplate:
    """A template in one language, as the platform last told of it.

    status: `APPROVED`, `PAUSED`, `REJECTED` and the like.  header_kind: `text`, `image`, `video`, `document` or another
    that cannot be filled; None without a header.  others: parts that no message of ours can fill, such as `carousel`.
    quality: `GREEN`, `YELLOW`, `RED` or None.  held_reason: why the platform refuses it at present, by what came back
    from it since; held_until_ms: for how long, where that is known.
    """

    name: str
    language: str
    status: str
    category: str | None = None
    is_named: bool = False
    header_kind: str | None = None
    header_text: str | None = None
    body: str = ""
    footer: str | None = None
    buttons: tuple[StoredButton, ...] = ()
    others: tuple[str, ...] = ()
    quality: str | None = None
    rejected_reason: str | None = None
    synced_at_ms: int = 0
    held_reason: str | None = None
    held_until_ms: int | None = None

    @property
    def parameters(self) -> tuple[str, ...]:
        """The places in the body: by number, or by name in the order of the text."""
        places = find_places(self.body)
        return places if self.is_named else tuple(sorted(places, key=_by_number))


def find_places(text: str) -> tuple[str, ...]:
    """What stands between double braces, each once, in the order of the text."""
    return tuple(dict.fromkeys(_PLACE.findall(text)))


def _by_number(place: str) -> tuple[int, str]:
    return (int(place) if place.isascii() and place.isdigit() else 10**9, place)


def fill_template(stored: StoredTemplate, template: Template) -> str:
    """The words that people read, of all parts but the buttons; a place without a value stays as it is."""
    parts = []
    if stored.header_text is not None:
        value = template.header.value if template.header is not None else None
        parts.append(stored.header_text if value is None else _PLACE.sub(lambda _match: value, stored.header_text))
    values = _name_values(template)
    parts.append(_PLACE.sub(lambda match: values.get(match[1], match[0]), stored.body))
    if stored.footer is not None:
        parts.append(stored.footer)
    return "\n\n".join(parts)


def _name_values(template: Template) -> dict[str, str]:
    return {
        parameter.name if parameter.name is not None else str(place): parameter.value
        for place, parameter in enumerate(template.parameters, start=1)
    }


def make_length_check(stored: StoredTemplate) -> Callable[[Template], str | None]:
    """What tells why a filled template is too long, or None.  Made once, asked for each person."""
    body = count_units(_PLACE.sub("", stored.body))
    times = [
        (name, len(re.findall(rf"\{{\{{\s*{re.escape(name)}\s*\}}\}}", stored.body))) for name in stored.parameters
    ]
    header = count_units(_PLACE.sub("", stored.header_text or ""))

    def check(template: Template) -> str | None:
        values = _name_values(template)
        units = body + sum(count_units(values.get(name, "")) * often for name, often in times)
        if units > MAX_BODY_UNITS:
            over = units - MAX_BODY_UNITS
            return f"the filled template is {_count(over, 'character')} too long: {units:,} of {MAX_BODY_UNITS:,}"
        if template.header is not None and template.header.kind == "text":
            units = header + count_units(template.header.value)
            if units > MAX_HEADER_UNITS:
                over = units - MAX_HEADER_UNITS
                return f"the filled header is {_count(over, 'character')} too long: {units:,} of {MAX_HEADER_UNITS:,}"
        return None

    return check


# --- in the store --------------------------------------------------------------------------------------------------


def encode_components(stored: StoredTemplate) -> str:
    """What the template is made of, as JSON; name, language, status and category stand beside it."""
    shape: dict[str, Any] = {"body": stored.body}
    if stored.header_kind is not None:
        shape["header"] = [stored.header_kind, stored.header_text]
    if stored.footer is not None:
        shape["footer"] = stored.footer
    if stored.buttons:
        shape["buttons"] = [[button.kind, button.text, button.url] for button in stored.buttons]
    if stored.others:
        shape["others"] = list(stored.others)
    if stored.quality is not None:
        shape["quality"] = stored.quality
    if stored.rejected_reason is not None:
        shape["rejected_reason"] = stored.rejected_reason
    return json.dumps(shape, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def decode_template(
    encoded: str,
    *,
    name: str,
    language: str,
    status: str,
    category: str | None,
    is_named: bool,
    synced_at_ms: int,
    held_reason: str | None = None,
    held_until_ms: int | None = None,
) -> StoredTemplate:
    """The template whose components `encode_components` wrote.  Raises KeyError or ValueError on anything else."""
    shape = json.loads(encoded)
    header_kind, header_text = shape.get("header") or (None, None)
    return StoredTemplate(
        name=name,
        language=language,
        status=status,
        category=category,
        is_named=is_named,
        header_kind=header_kind,
        header_text=header_text,
        body=shape["body"],
        footer=shape.get("footer"),
        buttons=tuple(StoredButton(kind=kind, text=text, url=url) for kind, text, url in shape.get("buttons", ())),
        others=tuple(shape.get("others", ())),
        quality=shape.get("quality"),
        rejected_reason=shape.get("rejected_reason"),
        synced_at_ms=synced_at_ms,
        held_reason=held_reason,
        held_until_ms=held_until_ms,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateChanges:
    """What a new reading of an account's templates has changed.  Each is a name with its language.

    lifted: those that were held and are approved again.
    """

    added: tuple[tuple[str, str], ...] = ()
    changed: tuple[tuple[str, str], ...] = ()
    removed: tuple[tuple[str, str], ...] = ()
    lifted: tuple[tuple[str, str], ...] = ()


# --- does a message fit? -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateProblem:
    """Why the platform would refuse a message, or with is_warning what should be looked at.  hint: what to do."""

    message: str
    hint: str
    is_warning: bool = False


def find_template_problems(
    message: MessageSpec, found: Sequence[StoredTemplate], *, synced: bool, names: Iterable[str] = ()
) -> list[TemplateProblem]:
    """What is wrong with a campaign's message as to the template that it names; nothing for one without a template.

    found: the account's templates of that name, one a language.  synced: whether the account's templates were ever
    read; what is not known is not refused.  names: of all templates, to find the one that was meant.
    """
    if message.template is None:
        return []
    name = message.template
    if not synced:
        return [
            TemplateProblem(
                message=f"template '{name}' was not checked: the account's templates have not been read yet",
                hint="`wa template sync` reads them",
                is_warning=True,
            )
        ]
    if not found:
        near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
        meant = f"did you mean '{near[0]}'? " if near else ""
        return [
            TemplateProblem(
                message=f"the account has no template '{name}'",
                hint=f"{meant}`wa template list` shows those there are, `wa template sync` reads them anew",
            )
        ]
    stored = next((one for one in found if one.language == message.language), None)
    if stored is None:
        languages = sorted(one.language for one in found)
        return [
            TemplateProblem(
                message=f"template '{name}' does not exist in {message.language}, only in {', '.join(languages)}",
                hint=f'write template_language = "{_nearest(message.language, languages)}"',
            )
        ]
    return [
        *_check_status(stored),
        *_check_others(stored),
        *_check_parameters(message, stored),
        *_check_header(message, stored),
        *_check_buttons(message, stored),
    ]


def _nearest(language: str, languages: Sequence[str]) -> str:
    same = [one for one in languages if one.partition("_")[0] == language.partition("_")[0]]
    return (same or languages)[0]


_STATUS_HINTS: Final = {
    "PAUSED": "people blocked or reported it; WhatsApp Manager shows until when, then `wa template sync`",
    "DISABLED": "it was paused too often; make another one in WhatsApp Manager",
    "PENDING": "WhatsApp still looks at it; once it is approved, `wa template sync`",
    "IN_APPEAL": "WhatsApp still looks at it; once it is approved, `wa template sync`",
    "REJECTED": "change it in WhatsApp Manager; once it is approved, `wa template sync`",
}


def _check_status(stored: StoredTemplate) -> list[TemplateProblem]:
    words = stored.status.lower().replace("_", " ")
    if stored.status != APPROVED:
        why = f" ({stored.rejected_reason.lower().replace('_', ' ')})" if stored.rejected_reason else ""
        return [
            TemplateProblem(
                message=f"template '{stored.name}' ({stored.language}) is {words}{why}, and WhatsApp refuses it",
                hint=_STATUS_HINTS.get(stored.status, "use an approved one; `wa template list` shows them"),
            )
        ]
    if stored.held_reason is not None:
        return [
            TemplateProblem(
                message=f"template '{stored.name}' is held: the platform refuses it ({show_text(stored.held_reason)})",
                hint="its messages wait until it is taken again; `wa template sync` asks whether it is",
                is_warning=True,
            )
        ]
    if stored.quality == "RED":
        return [
            TemplateProblem(
                message=f"people block or report template '{stored.name}': its quality is red, and it may be paused",
                hint="write to fewer people, or to those who expect it",
                is_warning=True,
            )
        ]
    return []


def _check_others(stored: StoredTemplate) -> list[TemplateProblem]:
    parts = list(stored.others)
    if stored.header_kind not in (None, "text", *_MEDIA):
        parts.append(f"{stored.header_kind} as header")
    if stored.is_named and find_places(stored.header_text or ""):
        parts.append("named value in the header")
    return [
        TemplateProblem(
            message=f"template '{stored.name}' has a {part.replace('_', ' ')}, which wa cannot fill",
            hint="use a template without it",
        )
        for part in parts
    ]


def _check_parameters(message: MessageSpec, stored: StoredTemplate) -> list[TemplateProblem]:
    given = [name for name, _text in message.parameters]
    expected = stored.parameters
    what = f"template '{stored.name}'"
    if not expected:
        if not given:
            return []
        return [_problem(f"{what} takes no values, and {_is_given(len(given))}", "leave `parameters` out")]
    hint = f"write parameters = {_write_parameters(stored)}"
    takes = f"{what} takes {_count(len(expected), 'value')}: {', '.join(_brace(name) for name in expected)}"
    by_place = [name for name in given if name.isdigit()]
    if not given:
        return [_problem(f"{takes}; none is given", hint)]
    if not stored.is_named:
        if len(by_place) != len(given):
            return [_problem(f"{takes}, by their places, and they are given by names", hint)]
        if len(given) != len(expected):
            return [_problem(f"{takes}; {_is_given(len(given))}", hint)]
        return []
    if by_place:
        return [_problem(f"{takes}, by their names, and they are given by places", hint)]
    problems = [
        _problem(f"{what} takes no value named '{show_text(name)}': it takes {_list(expected)}", hint)
        for name in given
        if name not in expected
    ]
    return problems + [
        _problem(f"{what} needs a value for '{name}', and none is given", hint)
        for name in expected
        if name not in given
    ]


def _check_header(message: MessageSpec, stored: StoredTemplate) -> list[TemplateProblem]:
    kind = stored.header_kind
    given = message.header[0] if message.header is not None else None
    what = f"the header of template '{stored.name}'"
    if kind in _MEDIA:
        if given == kind:
            return []
        hint = f'write header = {{ {kind} = "https://..." }}'
        if given is None:
            return [_problem(f"{what} is {_with_article(kind)}, and none is given", hint)]
        return [_problem(f"{what} is {_with_article(kind)}, and {_with_article(given)} is given", hint)]
    takes_text = bool(kind == "text" and find_places(stored.header_text or ""))
    if takes_text and given != "text":
        said = "none is given" if given is None else f"{_with_article(given)} is given"
        return [_problem(f"{what} takes a text, and {said}", 'write header = { text = "..." }')]
    if not takes_text and given is not None and kind in (None, "text"):
        there = f"{what} takes no value" if kind == "text" else f"template '{stored.name}' has no header"
        return [_problem(f"{there}, and {_with_article(given)} is given", "leave `header` out")]
    return []


def _check_buttons(message: MessageSpec, stored: StoredTemplate) -> list[TemplateProblem]:
    what = f"template '{stored.name}'"
    given = {index: kind for index, kind, _text in message.buttons}
    problems = []
    for index, kind in given.items():
        if index >= len(stored.buttons):
            has = f"{_count(len(stored.buttons), 'button')}, counted from 0" if stored.buttons else "no buttons"
            problems.append(_problem(f"{what} has no button {index}: it has {has}", "leave that one out"))
            continue
        button = stored.buttons[index]
        if button.sub_type is None:
            problems.append(_problem(f"{_name(what, index, button)} takes no value", "leave that one out"))
        elif button.sub_type != kind:
            problems.append(
                _problem(
                    f"{_name(what, index, button)} is of the type {button.sub_type}, not {kind}",
                    _write_button(index, button),
                )
            )
    problems += [
        _problem(f"{_name(what, index, button)} needs a value, and none is given", _write_button(index, button))
        for index, button in enumerate(stored.buttons)
        if button.needs_value and index not in given
    ]
    return problems


def _name(what: str, index: int, button: StoredButton) -> str:
    return f"button {index} ('{show_text(button.text)}') of {what}"


def _write_button(index: int, button: StoredButton) -> str:
    return f'write buttons = [{{ index = {index}, type = "{button.sub_type}", value = "..." }}]'


def _write_parameters(stored: StoredTemplate) -> str:
    if stored.is_named:
        return "{ " + ", ".join(f'{name} = "..."' for name in stored.parameters) + " }"
    return "[" + ", ".join('"..."' for _name in stored.parameters) + "]"


def _problem(message: str, hint: str) -> TemplateProblem:
    return TemplateProblem(message=message, hint=hint)


def _brace(name: str) -> str:
    return f"{{{{{name}}}}}"


def _is_given(count: int) -> str:
    return "1 is given" if count == 1 else f"{count:,} are given"


def _with_article(kind: str) -> str:
    return f"an {kind}" if kind == "image" else f"a {kind}"


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
