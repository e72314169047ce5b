"""Campaign files: from `campaigns/NAME.toml` to a `CampaignSpec`, or to all that is wrong in it, each with its line.

What a text says with its variables is understood by `domain.personal`, times and days by `domain.timetable`.
"""

from __future__ import annotations

import re
import stat
import tomllib
from dataclasses import fields
from datetime import date
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from wa_cli.domain.campaign import (
    Audience,
    AudienceSource,
    CampaignSpec,
    Canary,
    MessageSpec,
    Missed,
    Pacing,
    Priority,
    Quiet,
    ScheduleSpec,
    StopRules,
    check_campaign_name,
)
from wa_cli.domain.fields import normalise_name
from wa_cli.domain.message import MediaKind, OnUnknown, is_link
from wa_cli.domain.pacing import Limits
from wa_cli.domain.personal import find_mistake
from wa_cli.domain.recipient import show_text
from wa_cli.domain.recurrence import parse_rule
from wa_cli.domain.schedule import check_time, parse_duration, parse_wait, parse_zone
from wa_cli.domain.subgroup import check_subgroup_name
from wa_cli.domain.timetable import Openings, parse_clock, parse_days
from wa_cli.errors import FileMistakes, UsageError
from wa_cli.sources import campaign_kinds
from wa_cli.sources.recipients import explain
from wa_cli.sources.toml_lines import find_lines
from wa_cli.sources.toml_table import Mistakes, Table, describe_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from wa_cli.sources.toml_lines import Place

LARGEST_FILE: Final = 1024 * 1024  # bytes; lists of people stand in files of their own
LONGEST_DELAY_MS: Final = 86_400_000
LARGEST_COUNT: Final = 10**9
LONGEST_TITLE: Final = 200
RECIPIENT_ZONE: Final = "recipient"

# What may stand in each table, "" for the top of the file.
KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "": (
        *("name", "title", "instance", "priority", "expires", "on_unknown", "max_attempts", "language", "short_links"),
        *("message", "variant", "variables", "fallbacks", "audience", "schedule", "quiet", "pacing", "limits"),
        *("stop", "canary", "costs"),
    ),
    "message": (
        *("text", "media", "media_type", "filename", "link_preview"),
        *("template", "template_language", "parameters", "header", "buttons"),
        *(*campaign_kinds.KINDS, "footer"),
    ),
    "audience": ("any_of", "all_of", "none_of", "subgroups", "files", "contacts"),
    "schedule": ("at", "every", "until", "zone", "between", "missed", "grace"),
    "quiet": ("hours", "days", "dates"),
    "pacing": ("delay", "jitter", "seed"),
    # Nobody is written to twice in a run, so that limits for each recipient would mean nothing here.
    # And what a number owes to people whom it does not know is a matter of the number.
    "limits": tuple(
        limit.name
        for limit in fields(Limits)
        if not limit.name.startswith("recipient_") and limit.name not in ("new_chats_per_day", "unanswered_per_person")
    ),
    "stop": ("failure_rate", "opt_out_rate", "after"),
    "canary": ("size", "hold"),
    "costs": ("rates",),
}
VARIANT_KEYS: Final = ("name", "weight", *KEYS["message"])
SOURCE_KEYS: Final = ("subgroup", "file", "contacts", "columns")
BUTTON_KEYS: Final = ("index", "type", "value")
BUTTON_TYPES: Final = ("url", "quick_reply", "copy_code")
HEADER_KINDS: Final = ("text", "image", "video", "document")

_VARIANT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}", re.IGNORECASE)
_TEMPLATE_NAME = re.compile(r"[a-z0-9_]{1,512}")
_TEMPLATE_LANGUAGE = re.compile(r"[a-z]{2,3}(_[A-Za-z]{2,4})?")
_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)\s?%")


def read_campaign(path: Path) -> tuple[CampaignSpec, str]:
    """What a campaign file says, and its text.  The campaign is called as the file is.

    Raises: UsageError where there is no such file or it is no text; FileMistakes with all that is wrong in it, such as
    a list that it names and that is not there.
    """
    shown = show_text(str(path), limit=200)
    text = _read_text(path, shown)
    spec, mistakes = _parse(text, name=path.stem, file=shown)
    for place, written in _find_paths(mistakes.values):
        if (problem := _find_file_problem(path, written)) is not None:
            mistakes.note(place, problem)
    return _settle(spec, mistakes, path.stem), text


def parse_campaign(text: str, *, name: str, file: str) -> CampaignSpec:
    """What the text of a campaign file says.  Whether the lists are there that it names is not looked at.

    name: of the campaign.  file: what mistakes call the file.
    Raises: FileMistakes with everything that is wrong, each with file, line, key and what would be right.
    """
    spec, mistakes = _parse(text, name=name, file=file)
    return _settle(spec, mistakes, name)


class _FileMistakes(Mistakes):
    """values: the whole file as `tomllib` gives it."""

    __slots__ = ("values",)

    def __init__(self, file: str, lines: Mapping[Place, int], values: Mapping[str, Any]) -> None:
        super().__init__(file, lines)
        self.values = values


def _settle(spec: CampaignSpec, mistakes: _FileMistakes, name: str) -> CampaignSpec:
    if told := mistakes.tell():
        raise _refuse(told, name)
    return spec


def _refuse(mistakes: list[str], name: str) -> FileMistakes:
    what = "that line" if len(mistakes) == 1 else f"those {len(mistakes)} lines"
    return FileMistakes(
        mistakes, hint=f"correct {what}, then `wa campaign validate {show_text(name)}`", code="campaign_file"
    )


# The file


def _read_text(path: Path, shown: str) -> str:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UsageError(f"'{shown}' is a directory", hint="name a file in it", code="campaign_file")
        if not stat.S_ISREG(mode):
            raise UsageError(
                f"'{shown}' is a pipe or a device, not a file",
                hint="name a file that ends in .toml",
                code="campaign_file",
            )
        with path.open("rb") as file:
            raw = file.read(LARGEST_FILE + 1)
    except FileNotFoundError as problem:
        raise UsageError(
            f"there is no file '{shown}'", hint="check the path; `ls campaigns` shows what is there", code="no_campaign"
        ) from problem
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else str(problem)
        raise UsageError(f"'{shown}' cannot be read: {(reason or 'unknown reason').lower()}") from problem
    if len(raw) > LARGEST_FILE:
        raise UsageError(
            f"'{shown}' is larger than a campaign file can be (1 MB)",
            hint='name lists of people in it: [audience] files = ["people.csv"]',
            code="campaign_file",
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = raw.count(b"\n", 0, problem.start) + 1
        told = f"{shown}:{line}: the byte 0x{raw[problem.start]:02X} is not UTF-8; save the file as UTF-8"
        raise _refuse([told], path.stem) from problem


def _find_file_problem(campaign: Path, written: str) -> str | None:
    """Why a path that stands in the file leads to no list, or None."""
    try:
        mode = (campaign.parent / written).stat().st_mode
    except FileNotFoundError:
        return f"there is no file '{show_text(written)}'; paths begin where the campaign's file is"
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else str(problem)
        return f"'{show_text(written)}' cannot be read: {(reason or 'unknown reason').lower()}"
    if stat.S_ISDIR(mode):
        return f"'{show_text(written)}' is a directory; name a file in it"
    return None if stat.S_ISREG(mode) else f"'{show_text(written)}' is a pipe or a device; name a file"


def _find_paths(values: Mapping[str, Any]) -> list[tuple[Place, str]]:
    """Place and words of every path in a file, whatever else is right or wrong in it."""
    found: list[tuple[Place, Any]] = []
    audience = values.get("audience")
    if isinstance(audience, dict):
        for key in ("any_of", "all_of", "none_of"):
            for index, source in enumerate(_as_list(audience.get(key))):
                if isinstance(source, dict):
                    found.append((("audience", key, index, "file"), source.get("file")))
        found += [(("audience", "files", index), name) for index, name in enumerate(_as_list(audience.get("files")))]
    messages: list[tuple[Place, Any]] = [(("message",), values.get("message"))]
    messages += [(("variant", index), variant) for index, variant in enumerate(_as_list(values.get("variant")))]
    for place, message in messages:
        media = message.get("media") if isinstance(message, dict) else None
        if isinstance(media, str) and "{" not in media and not is_link(media):
            found.append(((*place, "media"), media))
    costs = values.get("costs")
    if isinstance(costs, dict):
        found.append((("costs", "rates"), costs.get("rates")))
    return [(place, path) for place, path in found if isinstance(path, str) and path.strip() and "\x00" not in path]


def _check_words(spec: CampaignSpec, mistakes: _FileMistakes, source: list[str]) -> None:
    """Note what no message could be made of: variables that are not closed, filters that do not exist."""
    variables = dict(spec.variables)
    for place, text, as_link in _find_words(mistakes.values):
        if isinstance(text, str) and "{" in text:
            found = find_mistake(text, variables=variables, language=spec.language, is_link=as_link)
            if found is not None:
                mistakes.note(
                    place, f"{found.words}; {found.hint}", below=_find_line(source, mistakes, place, found.line)
                )


def _find_words(values: Mapping[str, Any]) -> Iterator[tuple[Place, Any, bool]]:
    """Place and words of every text that is filled, and whether it is an address."""
    messages: list[tuple[Place, Any]] = [(("message",), values.get("message"))]
    messages += [(("variant", index), variant) for index, variant in enumerate(_as_list(values.get("variant")))]
    for place, message in messages:
        if not isinstance(message, dict):
            continue
        for key in ("text", "media", "filename"):
            yield (*place, key), message.get(key), key == "media"
        parameters = message.get("parameters")
        if isinstance(parameters, dict):
            for name, text in parameters.items():
                yield (*place, "parameters", name), text, False
        for number, text in enumerate(_as_list(parameters)):
            yield (*place, "parameters", number), text, False
        for found, text in campaign_kinds.find_texts(message, place):
            yield found, text, False
        header = message.get("header")
        for kind, text in header.items() if isinstance(header, dict) else ():
            yield (*place, "header", kind), text, kind != "text"
        for number, button in enumerate(_as_list(message.get("buttons"))):
            if isinstance(button, dict):
                yield (*place, "buttons", number, "value"), button.get("value"), button.get("type") == "url"


def _find_line(source: list[str], mistakes: Mistakes, place: Place, line: int) -> int:
    """How many lines below its key a line of a text stands in the file."""
    at = mistakes.lines[place] - 1
    opening = re.search(r"\"\"\"|'''", source[at])
    if opening is None:
        return 0  # on one line, with \\n in it
    if any(below.endswith("\\") for below in source[at : at + line + 1]):
        return 0  # lines that are joined cannot be told apart any more
    return line if source[at].endswith(opening[0]) else line - 1


def _as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _parse(text: str, *, name: str, file: str) -> tuple[CampaignSpec, _FileMistakes]:
    try:
        values = tomllib.loads(text)
        lines = find_lines(text)
    except RecursionError as problem:
        raise _refuse([f"{file}:1: lists and tables are nested too deeply"], name) from problem
    except ValueError as problem:
        raise _refuse([_explain_syntax(str(problem), text, file)], name) from problem
    mistakes = _FileMistakes(file, lines, values)
    try:
        check_campaign_name(name)
    except UsageError as error:
        mistakes.note((), f"{error.message}; {error.hint}; rename the file")
    spec = _read_spec(Table(values, (), mistakes), name)
    _check_words(spec, mistakes, text.replace("\r\n", "\n").split("\n"))
    return spec, mistakes


# What `tomllib` says, and what a person can do about it.  A comma or quote that is missing shows where the reader
# stumbled, which may be the line after.
_SYNTAX: Final = (
    ("Invalid value", "the value cannot be read; put texts in double quotes"),
    ("Invalid initial character for a key part", "a key is made of letters, digits, - and _"),
    ("Invalid statement", "this is neither a key with its value nor a [table]"),
    ("Expected '=' after a key", "a key and its value need a = between them"),
    ("Expected newline or end of document after a statement", "something stands behind the value; quote it, or # it"),
    ("Cannot overwrite a value", "this key stands here for the second time"),
    ("Cannot declare", "this table stands here for the second time; put its keys together"),
    ("Cannot mutate immutable namespace", "this table was closed before; put its keys together"),
    ("Duplicate inline table key", "a key stands in this table for the second time"),
    ("Unclosed array", "a list is not closed, or lacks a comma; add ] or ,"),
    ("Unclosed inline table", "a { } table is not closed on its line, or lacks a comma"),
    ('Expected \'"""\'', "a text is not closed; add the three quotes"),
    ("Expected \"'''\"", "a text is not closed; add the three quotes"),
    ("Unterminated string", "a text is not closed; add the quote"),
    ("Expected ']' at the end of a table declaration", "the [table] is not closed; add ]"),
    ("Expected ']]' at the end of an array declaration", "the [[table]] is not closed; add ]]"),
    ("Unescaped '\\' in a string", "\\ means something in double quotes; write \\\\, or use single quotes"),
    ("Illegal character '\\n'", "a text is not closed on its line; add the quote, or begin and end it with three"),
    ("Illegal character", "a character that cannot be seen stands here; type that place again"),
    ("Escaped character is not a Unicode scalar value", "\\u names no character"),
    ("Invalid hex value", "\\u needs four hexadecimal digits, \\U eight"),
    ("Invalid date or datetime", "there is no such date or time"),
)
_SYNTAX_PLACE = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")


def _explain_syntax(problem: str, text: str, file: str) -> str:
    match = _SYNTAX_PLACE.search(problem)
    last = text.rstrip().count("\n") + 1
    line = int(match[1]) if match and match[1] else last if match else 1
    words = problem[: match.start()] if match else problem
    told = next((told for begin, told in _SYNTAX if words.startswith(begin)), f"not TOML: {show_text(words)}")
    return f"{file}:{line}: {told}"


# The parts


def _read_spec(file: Table, name: str) -> CampaignSpec:
    elsewhere = {key: f"it belongs into [{table}]" for table, keys in KEYS.items() if table for key in keys}
    file.refuse_unknown(KEYS[""], elsewhere)
    if (said := file.text("name", example=f'"{name}"')) is not None and said != name:
        file.note("name", f"is not '{name}', and a campaign is called as its file is; a title may be anything")
    sections = {key: _read_section(file, key) for key in KEYS if key not in ("", "message")}
    title = file.text("title", example='"Gala night"')
    if title is not None and (len(title) > LONGEST_TITLE or not title.isprintable()):
        file.note("title", f"is one line of at most {LONGEST_TITLE} characters")
    expires = file.parsed("expires", _check_expiry, example='"2h"', takes_times=True)
    links = file.parsed("short_links", _check_base, example='"https://go.example.org"')
    rates = sections["costs"].text("rates", example='"rates.csv"')
    if "costs" in file and "rates" not in sections["costs"]:
        sections["costs"].note(None, 'names no rates; write rates = "rates.csv"')
    schedule, quiet = _read_schedule(sections["schedule"]), _read_quiet(sections["quiet"])
    _check_that_something_opens(file, schedule, quiet)
    return CampaignSpec(
        name=name,
        title=title or name,
        messages=_read_messages(file),
        audience=_read_audience(sections["audience"], is_there="audience" in file),
        schedule=schedule,
        quiet=quiet,
        pacing=_read_pacing(sections["pacing"]),
        variables=_read_fields(file, "variables", example='doors = "six"'),
        fallbacks=_read_fields(file, "fallbacks", example='name = "friend"'),
        language=file.choice("language", ("plain", "jinja"), "plain"),
        instance=file.text("instance", example='"default"') or "default",
        priority=Priority(file.choice("priority", tuple(Priority), Priority.NORMAL)),
        limits=_read_limits(sections["limits"]),
        stop=_read_stop(sections["stop"]),
        canary=_read_canary(sections["canary"]) if "canary" in file else None,
        expires=expires,
        on_unknown=OnUnknown(file.choice("on_unknown", tuple(OnUnknown), OnUnknown.HOLD)),
        max_attempts=file.whole("max_attempts", least=1, most=100, example="5") or 5,
        short_links=links,
        rates=rates,
    )


def _read_section(file: Table, key: str) -> Table:
    """A table of the file, its keys known; an empty one where there is none."""
    section = file.table(key, example=f"[{key}]") or Table({}, (key,), file.mistakes)
    section.refuse_unknown(KEYS[key], _find_homes(key))
    return section


def _find_homes(table: str) -> dict[str, str]:
    """Where each key belongs that has no meaning in this table."""
    top = "above the first [table]: what stands below one belongs to it"
    homes = {key: f"it belongs into [{home}]" for home, keys in KEYS.items() if home not in ("", table) for key in keys}
    return homes | dict.fromkeys(KEYS[""], f"it belongs to the top of the file, {top}")


def _check_expiry(text: str) -> str:
    try:
        parse_duration(text)
    except UsageError as no_duration:
        try:
            check_time(text)
        except UsageError as no_time:
            # Whoever began with a digit and a unit meant a length of time.
            raise (no_duration if re.match(r"\s*\d+(?:\.\d+)?\s*[a-z]", text, re.IGNORECASE) else no_time) from None
    return text


def _check_base(text: str) -> str:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    is_local = host in ("localhost", "127.0.0.1", "::1")
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and is_local)):
        raise UsageError(
            f"'{show_text(text)}' is no address that people can open", hint="write it like https://go.example.org"
        )
    if parts.query or parts.fragment or parts.username is not None or not text.isprintable() or " " in text:
        raise UsageError(f"'{show_text(text)}' holds more than an address", hint="write it like https://go.example.org")
    return text.rstrip("/")


def _read_fields(file: Table, key: str, *, example: str) -> tuple[tuple[str, str], ...]:
    """Names of variables, made alike, with their values."""
    table = file.table(key, example=f"[{key}] with {example}")
    if table is None:
        return ()
    found: dict[str, str] = {}
    for written, value in table.values_as_text():
        name = _read_variable(table, written)
        if name is None:
            continue
        if name in found:
            table.note(written, f"'{name}' stands here twice")
        elif not value.strip():
            table.note(written, "is empty: nobody would see it; leave the line out")
        elif re.search(r"\{\{|\{%", value):
            table.note(written, "holds braces, which would be sent as they are; write them into the message itself")
        else:
            found[name] = value
    return tuple(found.items())


def _read_variable(table: Table, written: str) -> str | None:
    """The name of a variable, or None where no text could use it."""
    name = normalise_name(written)
    if name.isidentifier():
        return name
    advice = "; write it without a dot and without a second level" if isinstance(table.values[written], dict) else ""
    table.note(
        written, f"no text can hold a variable of that name; use letters, digits and _, such as first_name{advice}"
    )
    return None


# What is said


def _read_messages(file: Table) -> tuple[MessageSpec, ...]:
    message = file.table("message", example='[message] with text = "Hello"')
    variants = file.tables("variant", example='[[variant]] with name = "a"')
    if "message" in file and "variant" in file:
        file.note("variant", "there is a [message] already; keep one [message], or only [[variant]]s")
    if "message" not in file and "variant" not in file:
        file.note(None, 'says nothing to anybody: there is no [message]; add one with text = "Hello"')
    if message is not None:
        message.refuse_unknown(KEYS["message"], {"name": "only a [[variant]] has one"} | _find_homes("message"))
        return (_read_message(message, name="", weight=1),)
    found: list[MessageSpec] = []
    for variant in variants:
        variant.refuse_unknown(VARIANT_KEYS, _find_homes("message"))
        name = variant.text("name", example='"a"') or ""
        weight = variant.whole("weight", least=1, most=1_000_000, example="1", why="; leave out a variant for nobody")
        if "name" not in variant:
            variant.note(None, 'has no name; add name = "a"')
        elif name and not _VARIANT_NAME.fullmatch(name):
            variant.note("name", "is made of letters, digits, - and _, at most 40")
        elif name and any(name.casefold() == other.name.casefold() for other in found):
            variant.note("name", f"there is a variant '{name}' already")
        found.append(_read_message(variant, name=name, weight=weight or 1))
    return tuple(found)


def _read_message(table: Table, *, name: str, weight: int) -> MessageSpec:
    text = table.text("text", example='"Hello {{ name }}"')
    media = table.text("media", example='"https://example.org/menu.pdf"')
    template = table.text("template", example='"sale_now"')
    _check_company(table)
    if template is not None and not _TEMPLATE_NAME.fullmatch(template):
        table.note("template", "a template's name is made of a-z, 0-9 and _, as WhatsApp Manager shows it")
    language = table.text("template_language", example='"en_US"')
    if language is not None and not _TEMPLATE_LANGUAGE.fullmatch(language):
        near = language.replace("-", "_")
        advice = f"write {near}" if _TEMPLATE_LANGUAGE.fullmatch(near) else "write it like en, en_US or pt_BR"
        table.note("template_language", f"'{show_text(language)}' is not a code that templates use; {advice}")
    kind = table.choice("media_type", tuple(MediaKind), "") or None
    filename = table.text("filename", example='"menu.pdf"')
    if kind in (MediaKind.AUDIO, MediaKind.VOICE, MediaKind.STICKER) and "text" in table:
        table.note("text", f"media of the type {kind} has no caption; leave the text out")
    if kind not in (None, MediaKind.DOCUMENT) and filename is not None:
        table.note("filename", f"only a document has a file name, and this is of the type {kind}")
    if media is not None and is_link(media) and not re.match(r"https://|\{", media, re.IGNORECASE):
        table.note("media", "must be a link that WhatsApp can fetch; write it with https:// in front")
    special = campaign_kinds.find_kind(table)
    return MessageSpec(
        name=name,
        weight=weight,
        text=text,
        media=media,
        media_type=kind,
        filename=filename,
        template=template,
        language=language or "en_US",
        parameters=_read_parameters(table),
        header=_read_header(table),
        buttons=_read_buttons(table),
        link_preview=table.flag("link_preview"),
        kind=campaign_kinds.KINDS[special] if special else None,
        parts=campaign_kinds.read_parts(table, special) if special else (),
    )


def _check_company(table: Table) -> None:
    """Note what does not go together in one message."""
    special = campaign_kinds.find_kind(table)
    if special is not None:
        campaign_kinds.check_company(table, special)
        return
    if "footer" in table:
        table.note("footer", "stands under buttons and lists; add reply_buttons, or leave it out")
    if not any(key in table for key in ("text", "media", "template")):
        table.note(None, 'says nothing; add text = "Hello", media = "https://..." or template = "name"')
        return
    if "template" in table:
        for key in ("text", "media", "media_type", "filename", "link_preview"):
            if key in table:
                table.note(key, "does not go with a template, which has its own words; leave one of the two out")
        return
    for key in ("template_language", "parameters", "header", "buttons"):
        if key in table:
            table.note(key, 'belongs to a template; add template = "name", or leave it out')
    if "media" not in table:
        for key in ("media_type", "filename"):
            if key in table:
                table.note(key, 'belongs to media; add media = "https://...", or leave it out')
    elif "link_preview" in table:
        table.note("link_preview", "belongs to a text without media; leave it out")


def _read_parameters(table: Table) -> tuple[tuple[str, str], ...]:
    value = table.values.get("parameters")
    place = (*table.place, "parameters")
    if isinstance(value, dict):
        named = Table(value, place, table.mistakes)
        for key in value:
            if not re.fullmatch(r"[a-z0-9_]+", key):
                named.note(key, "is named as in the template: a-z, 0-9 and _")
            elif key.isdigit():
                named.note(key, 'values by their place are a list: parameters = ["...", "..."]')
        return tuple((key, _filled(named.mistakes, (*place, key), text)) for key, text in named.values_as_text())
    texts = []
    for index, (item, part) in enumerate(
        table.items("parameters", example='["{{ name }}"] or { name = "{{ name }}" }')
    ):
        text = table.mistakes.value_as_text(item, part)
        if text is not None:
            texts.append((str(index + 1), _filled(table.mistakes, item, text)))
    return tuple(texts)


def _filled(mistakes: Mistakes, place: Place, text: str) -> str:
    if not text.strip():
        mistakes.note(place, "is empty, and WhatsApp takes no empty value")
    return text


def _read_header(table: Table) -> tuple[str, str] | None:
    example = '{ image = "https://..." }'
    header = table.table("header", example=example)
    if header is None:
        return None
    header.refuse_unknown(HEADER_KINDS, {})
    if len(header.values) != 1:
        header.note(None, f"has exactly one of {', '.join(HEADER_KINDS)}; write it like {example}")
        return None
    kind = next(iter(header.values))
    value = header.text(kind, example='"https://..."')
    if value is not None and kind in HEADER_KINDS[1:] and not re.match(r"https://|\{", value, re.IGNORECASE):
        header.note(kind, "must be a link that WhatsApp can fetch; write it with https:// in front")
    return None if value is None else (kind, value)


def _read_buttons(table: Table) -> tuple[tuple[int, str, str], ...]:
    found: dict[int, tuple[int, str, str]] = {}
    for button in table.tables("buttons", example='{ index = 0, type = "url", value = "{{ code }}" }'):
        button.refuse_unknown(BUTTON_KEYS, {})
        for key in BUTTON_KEYS:
            if key not in button:
                button.note(
                    None, f'has no {key}; write it like {{ index = 0, type = "url", value = "{{{{ code }}}}" }}'
                )
        index = button.whole("index", least=0, most=9, example="0", why="; all buttons of a template count, from 0")
        kind = button.choice("type", BUTTON_TYPES, BUTTON_TYPES[0])
        value = button.text("value", example='"{{ code }}"')
        if index is None:
            continue
        if index in found:
            button.note("index", f"button {index} stands there twice")
        found[index] = (index, kind, value or "")
    return tuple(found[index] for index in sorted(found))


# Who is meant


def _read_audience(table: Table, *, is_there: bool) -> Audience:
    if not is_there:
        table.mistakes.note((), 'is for nobody: there is no [audience]; add one with subgroups = ["vip"]')
    any_of = _read_sources(table, "any_of")
    any_of += [
        AudienceSource(kind="subgroup", name=name)
        for place, written in table.texts("subgroups", example='["vip"]')
        if (name := _check_subgroup(table.mistakes, place, written)) is not None
    ]
    any_of += [
        AudienceSource(kind="file", name=written) for _place, written in table.texts("files", example='["people.csv"]')
    ]
    if "contacts" in table:
        any_of.append(AudienceSource(kind="contacts", match=_read_match(table)))
    if is_there and not any(key in table for key in ("any_of", "subgroups", "files", "contacts")):
        table.note(None, 'names nobody; add subgroups = ["vip"], files = ["people.csv"] or contacts = true')
    return Audience(
        any_of=tuple(any_of),
        all_of=tuple(_read_sources(table, "all_of")),
        none_of=tuple(_read_sources(table, "none_of")),
    )


def _read_sources(table: Table, key: str) -> list[AudienceSource]:
    example = '{ subgroup = "vip" }'
    found = []
    for source in table.tables(key, example=example):
        source.refuse_unknown(SOURCE_KEYS, {})
        kinds = [kind for kind in ("subgroup", "file", "contacts") if kind in source]
        if len(kinds) != 1:
            which = "names nobody" if not kinds else f"has {' and '.join(kinds)}, and may have one of them"
            source.note(None, f'{which}; write {example}, {{ file = "people.csv" }} or {{ contacts = true }}')
        if "columns" in source and "file" not in source:
            source.note("columns", "belongs to a file; leave it out")
        if "subgroup" in source:
            written = source.text("subgroup", example='"vip"')
            name = written and _check_subgroup(source.mistakes, (*source.place, "subgroup"), written)
            found.append(AudienceSource(kind="subgroup", name=name or ""))
        elif "file" in source:
            path = source.text("file", example='"people.csv"') or ""
            found.append(AudienceSource(kind="file", name=path, columns=_read_columns(source)))
        elif "contacts" in source:
            found.append(AudienceSource(kind="contacts", match=_read_match(source)))
    return found


def _check_subgroup(mistakes: Mistakes, place: Place, written: str) -> str | None:
    try:
        return check_subgroup_name(written)
    except UsageError as error:
        mistakes.note(place, f"{error.message}; {error.hint}")
        return None


def _read_match(table: Table) -> tuple[tuple[str, str], ...]:
    """What contacts must have, or nothing for `contacts = true`."""
    value = table.values["contacts"]
    if value is True:
        return ()
    example = 'true for everybody, or { city = "Pune" }'
    if value is False:
        table.note("contacts", f"must be {example}; leave it out for nobody")
        return ()
    if not isinstance(value, dict):
        table.note("contacts", f"must be {example}, and is {describe_value(value)}")
        return ()
    if not value:
        table.note("contacts", f"is empty; write {example}")
    contacts = Table(value, (*table.place, "contacts"), table.mistakes)
    found: dict[str, str] = {}
    for written, text in contacts.values_as_text():
        if not text.strip():
            contacts.note(written, "is empty; leave it out")
        elif (name := normalise_name(written)) in found or not name:
            contacts.note(written, f"'{name}' stands here twice" if name else "is no attribute's name")
        else:
            found[name] = text.strip()
    return tuple(found.items())


def _read_columns(source: Table) -> tuple[tuple[str, str], ...]:
    columns = source.table("columns", example='{ name = "First name" }')
    if columns is None:
        return ()
    found: dict[str, str] = {}
    for written in columns.values:
        name = _read_variable(columns, written)
        column = columns.text(written, example='"First name"')
        if name in found:
            columns.note(written, f"'{name}' stands here twice")
        elif name is not None and column is not None:
            found[name] = column
    return tuple(found.items())


# When


def _read_schedule(table: Table) -> ScheduleSpec:
    at = table.parsed("at", check_time, example='"2026-12-24 18:00"', takes_times=True)
    every = table.parsed("every", _check_rule, example='"monday 09:00"')
    until = table.parsed("until", _check_last_day, example='"2027-03-31"', takes_times=True)
    if "at" in table and "every" in table:
        table.note("every", "there is an at already; keep at for one time, or every for a recurring campaign")
    if "until" in table and "every" not in table:
        table.note("until", 'only a recurring campaign has a last day; add every = "monday 09:00", or leave it out')
    written = table.text("zone", example='"Asia/Singapore"')
    is_local = written is not None and written.strip().lower() == RECIPIENT_ZONE
    zone = table.parsed("zone", _check_zone, example='"Asia/Singapore"') if written and not is_local else None
    grace = table.parsed("grace", _read_ms, example='"1h"')
    return ScheduleSpec(
        at=at,
        every=every,
        until=until,
        zone=zone,
        is_local=is_local,
        between=_read_clocks(table, "between", example='["10:00", "17:00"]'),
        missed=Missed(table.choice("missed", tuple(Missed), Missed.SEND)),
        grace_ms=ScheduleSpec().grace_ms if grace is None else grace,
    )


def _check_rule(text: str) -> str:
    return parse_rule(text).words


def _check_zone(text: str) -> str:
    return str(parse_zone(text))


def _check_last_day(text: str) -> str:
    try:
        return date.fromisoformat(text.strip()).isoformat()
    except ValueError as problem:
        raise UsageError(f"'{show_text(text)}' is not a day", hint="write it like 2027-03-31") from problem


def _read_ms(text: str) -> int:
    """A length of time in ms.  A lone `30m` is minutes here: nothing that is asked for can take months."""
    text = re.sub(r"(\d)\s?m$", r"\1min", text.strip(), flags=re.IGNORECASE)
    return round(parse_wait(text).total_seconds() * 1000)


def _read_clocks(table: Table, key: str, *, example: str) -> tuple[int, int] | None:
    """From and until, in minutes after midnight, or None."""
    if not isinstance(table.values.get(key, []), list):
        table.note(key, f"must be two times of day, such as {example}, and is {describe_value(table.values[key])}")
        return None
    if key not in table:
        return None
    words = table.texts(key, example=example, takes_times=True)
    if len(table.values[key]) not in (0, 2):
        table.note(key, f"has a begin and an end, such as {example}")
    minutes = []
    for place, text in words:
        try:
            minutes.append(parse_clock(re.sub(r"^(\d\d:\d\d):00$", r"\1", text)))
        except UsageError as error:
            table.mistakes.note(place, explain(error))
    if len(minutes) != 2 or len(table.values[key]) != 2:
        return None
    if minutes[0] == minutes[1]:
        table.note(key, "begins and ends at the same time; move one, or leave it out")
        return None
    return minutes[0], minutes[1]


def _read_quiet(table: Table) -> Quiet:
    hours = _read_clocks(table, "hours", example='["21:00", "09:00"]')
    days: set[int] = set()
    for place, text in table.texts("days", example='["sunday"]'):
        try:
            days |= parse_days([text])
        except UsageError as error:
            table.mistakes.note(place, explain(error))
    dates = set()
    for place, text in table.texts("dates", example='["2026-12-25"]', takes_times=True):
        try:
            dates.add(_check_last_day(text))
        except UsageError as error:
            table.mistakes.note(place, explain(error))
    return Quiet(
        start=hours[0] if hours else None,
        end=hours[1] if hours else None,
        days=frozenset(days),
        dates=frozenset(dates),
    )


def _check_that_something_opens(file: Table, schedule: ScheduleSpec, quiet: Quiet) -> None:
    if quiet.is_empty:
        return
    try:
        Openings(quiet=quiet, zone=ZoneInfo("UTC"), between=schedule.between).next_open(0)
    except UsageError as error:
        file.note("quiet", explain(error))


# How fast, how far, and at what price


def _read_pacing(table: Table) -> Pacing:
    delay = table.values.get("delay")
    delay_ms: int | None
    is_auto = False
    if isinstance(delay, str) and delay.strip().lower() == "auto":
        delay_ms, is_auto = None, True
    elif isinstance(delay, str) and re.search(r"[a-z]", delay, re.IGNORECASE):
        delay_ms = table.parsed("delay", _read_ms, example='2000 (ms), "2s" or "auto"')
        if delay_ms is not None and delay_ms > LONGEST_DELAY_MS:
            table.note("delay", "is more than a day; write less")
    else:
        delay_ms = table.whole("delay", least=0, most=LONGEST_DELAY_MS, example='2000 (ms) or "auto"', why=" ms")
    return Pacing(
        delay_ms=delay_ms,
        is_auto=is_auto,
        jitter=table.number("jitter", least=0.0, most=0.9, example="0.2") or 0.0,
        seed=table.whole("seed", least=0, most=2**53, example="7") or 0,
    )


def _read_limits(table: Table) -> tuple[tuple[str, int], ...]:
    found = []
    for name in KEYS["limits"]:
        why = "; a campaign can be slower than its instance, never faster" if table.values.get(name) == 0 else ""
        value = table.whole(name, least=1, most=LARGEST_COUNT, example="30", why=why)
        if value is not None:
            found.append((name, value))
    return tuple(found)


def _read_stop(table: Table) -> StopRules:
    standard = StopRules()
    return StopRules(
        failure_rate=_read_share(table, "failure_rate", standard.failure_rate),
        opt_out_rate=_read_share(table, "opt_out_rate", standard.opt_out_rate),
        after=table.whole("after", least=1, most=LARGEST_COUNT, example="50") or standard.after,
    )


def _read_share(table: Table, key: str, standard: float | None) -> float | None:
    """A share of 1.0 from `"10%"` or `0.1`; None for `false`, no rule."""
    value = table.values.get(key, standard)
    if value is False:
        return None
    share = None
    if isinstance(value, float):
        share = value
    elif isinstance(value, str) and (match := _SHARE.fullmatch(value.strip())):
        share = float(match[1]) / 100
    elif isinstance(value, int) and not isinstance(value, bool):
        table.note(
            key, f'is {show_text(str(value), limit=30)}; write "{show_text(str(value), limit=30)}%" with its sign'
        )
        return standard
    if share is None or not 0 < share <= 1:
        table.note(key, f'must be a share above 0, such as "10%", or false for no rule, and is {describe_value(value)}')
        return standard
    return share


def _read_canary(table: Table) -> Canary | None:
    size = table.whole("size", least=1, most=LARGEST_COUNT, example="50")
    hold = table.parsed("hold", _read_ms, example='"30m"')
    if "size" not in table:
        table.note(None, "has no size; add size = 50")
    if size is None:
        return None
    return Canary(size=size) if hold is None else Canary(size=size, hold_ms=hold)
