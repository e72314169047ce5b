"""What a campaign's message may be beside text, media and templates: places, cards, polls, buttons, lists.

Each text in them may hold variables; they go on under their place, such as `sections.0.rows.1.title`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from wa_cli.sources.toml_table import describe_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from wa_cli.sources.toml_lines import Place
    from wa_cli.sources.toml_table import Table

# The key in the file, and the type of message that it makes.
KINDS: Final[Mapping[str, str]] = {
    "location": "location",
    "contact": "contact",
    "poll": "poll",
    "reply_buttons": "buttons",
    "list": "list",
}
WITH_TEXT: Final = ("reply_buttons", "list")  # a text stands above them, and may have a header and a footer
EXAMPLES: Final[Mapping[str, str]] = {
    "location": '{ latitude = 25.2048, longitude = 55.2708, name = "Office" }',
    "contact": '{ name = "Ada", phone = "+6581234567" }',
    "poll": '{ question = "Coming?", options = ["Yes", "No"] }',
    "reply_buttons": '[{ id = "yes", title = "Yes" }]',
    "list": '{ button = "Choose", sections = [{ rows = [{ id = "a", title = "A" }] }] }',
}
# Keys of each table: those it must have, and those it may.
_KEYS: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "location": (("latitude", "longitude"), ("name", "address")),
    "contact": (("name", "phone"), ("organization",)),
    "poll": (("question", "options"), ("max_answers",)),
    "reply_buttons": (("id", "title"), ()),
    "list": (("button", "sections"), ()),
    "section": (("rows",), ("title",)),
    "row": (("id", "title"), ("description",)),
}


def find_kind(table: Table) -> str | None:
    """The key of the kind that a message is of, or None for one of text, media or a template."""
    return next((key for key in KINDS if key in table), None)


def check_company(table: Table, key: str) -> None:
    """Note what does not go together with this kind."""
    allowed = ("text", "header", "footer") if key in WITH_TEXT else ()
    others = (*KINDS, "text", "media", "media_type", "filename", "link_preview")
    others += ("template", "template_language", "parameters", "header", "buttons", "footer")
    for other in others:
        if other in table and other != key and other not in allowed:
            table.note(other, f"does not go with {key}; leave one of the two out")
    if key in WITH_TEXT and "text" not in table:
        table.note(None, f'needs a text above its {key.replace("_", " ")}; add text = "Coming?"')
    header = table.values.get("header")
    if key in WITH_TEXT and isinstance(header, dict) and set(header) - {"text"}:
        table.note("header", 'above buttons and lists stands a text alone: header = { text = "Gala night" }')


def read_parts(table: Table, key: str) -> tuple[tuple[str, str], ...]:
    """The texts of this kind under their places."""
    found: list[tuple[str, str]] = []
    if key == "reply_buttons":
        for index, button in enumerate(table.tables(key, example='{ id = "yes", title = "Yes" }')):
            found += _read_texts(button, "reply_buttons", f"buttons.{index}.")
    elif (part := table.table(key, example=EXAMPLES[key])) is not None:
        found += _read_texts(part, key, "")
        if key == "poll":
            found += [
                (f"options.{index}", text)
                for index, (_place, text) in enumerate(part.texts("options", example='["Yes", "No"]'))
            ]
            most = part.whole("max_answers", least=0, most=12, example="1", why="; 0 stands for any number")
            found += [("max_answers", str(most))] if most is not None else []
        if key == "list":
            for index, section in enumerate(part.tables("sections", example='{ title = "Monday", rows = [...] }')):
                found += _read_texts(section, "section", f"sections.{index}.")
                for number, row in enumerate(section.tables("rows", example='{ id = "a", title = "A" }')):
                    found += _read_texts(row, "row", f"sections.{index}.rows.{number}.")
    if "footer" in table:
        footer = table.text("footer", example='"Reply STOP to leave"')
        found += [("footer", footer)] if footer is not None else []
    return tuple(found)


def _read_texts(table: Table, kind: str, prefix: str) -> list[tuple[str, str]]:
    """The plain texts of one table, its keys known; degrees may be numbers."""
    needed, optional = _KEYS[kind]
    table.refuse_unknown((*needed, *optional), {})
    for key in needed:
        if key not in table:
            table.note(None, f"has no {key}")
    found = []
    for key in (*needed, *optional):
        value = table.values.get(key)
        if value is None or key in ("options", "max_answers", "sections", "rows"):
            continue
        if key in ("latitude", "longitude") and isinstance(value, int | float) and not isinstance(value, bool):
            found.append((f"{prefix}{key}", str(value)))
        elif not isinstance(value, str) and key in ("latitude", "longitude"):
            table.note(key, f"must be degrees, such as 25.2048, and is {describe_value(value)}")
        elif (text := table.text(key, example='"..."')) is not None:
            plain = re.sub(r"[ ()-]", "", text) if key == "phone" and "{" not in text else text
            if key == "phone" and "{" not in plain and not re.fullmatch(r"\+[1-9]\d{6,14}", plain):
                table.note(key, "must be a number in international form, such as +6581234567")
            found.append((f"{prefix}{key}", plain))
    return found


def find_texts(message: Mapping[str, Any], place: Place) -> Iterator[tuple[Place, str]]:
    """Place and words of every text that is filled."""
    for key in (*KINDS, "footer"):
        if key in message:
            yield from _walk(message[key], (*place, key))


def _walk(value: object, place: Place) -> Iterator[tuple[Place, str]]:
    match value:
        case str():
            yield place, value
        case dict():
            for key, part in value.items():
                yield from _walk(part, (*place, key))
        case list():
            for index, part in enumerate(value):
                yield from _walk(part, (*place, index))
