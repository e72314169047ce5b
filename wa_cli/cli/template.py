"""`wa template`: the approved templates of the account, as they were last read from the platform."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wa_cli.cli.commands import NOUNS
from wa_cli.cli.session import Session, clean_text, format_time, session_of, suggest
from wa_cli.errors import NotFound, UsageError

if TYPE_CHECKING:
    from wa_cli.domain.template import StoredButton, StoredTemplate

app = typer.Typer(no_args_is_help=True, help=NOUNS["template"])

InstanceName = Annotated[
    str | None, typer.Option("--instance", metavar="NAME", help="Of this instance; the default one without it.")
]


# --- sync ---


@app.command("sync")
def sync(context: typer.Context, instance: InstanceName = None) -> None:
    """Read the account's templates from the platform. Nothing is sent."""
    from wa_cli.domain.template import APPROVED

    session = session_of(context)
    opened = session.open_app(create=True)
    found = opened.find_instance(instance)
    templates = opened.fetch_templates(found)
    now_ms = opened.clock.wall_ms()
    changes = opened.templates.replace(found.id, templates, now_ms=now_ms)
    statuses = Counter(one.status for one in templates)
    if session.json:
        session.show_json(
            {
                "templates": len(templates),
                "by_status": {status.lower(): count for status, count in sorted(statuses.items())},
                "added": [_document_name(key) for key in changes.added],
                "changed": [_document_name(key) for key in changes.changed],
                "removed": [_document_name(key) for key in changes.removed],
                "no_longer_held": [_document_name(key) for key in changes.lifted],
                "synced_at": format_time(now_ms),
            }
        )
        return
    from wa_cli.services.status import count

    ranked = sorted(statuses.items(), key=lambda item: (item[0] != APPROVED, -item[1], item[0]))
    by_status = ", ".join(f"{number:,} {_word(status)}" for status, number in ranked)
    session.show(clean_text(f"{count(len(templates), 'template')} read" + (f": {by_status}" if by_status else "")))
    for words, keys in (
        ("new", changes.added),
        ("changed", changes.changed),
        ("gone", changes.removed),
        ("no longer held", changes.lifted),
    ):
        if keys:
            names = ", ".join(f"{name} ({language})" for name, language in keys[:10])
            more = f" and {len(keys) - 10:,} more" if len(keys) > 10 else ""
            session.show(clean_text(f"  {words}: {names}{more}"))
    if statuses and statuses[APPROVED] == 0:
        session.warn("none of them is approved, so that no message can be made of one")
    if templates:
        session.hint("`wa template list` shows them")


def _document_name(key: tuple[str, str]) -> dict[str, str]:
    return {"name": key[0], "language": key[1]}


# --- list ---


@app.command("list")
def list_templates(
    context: typer.Context,
    instance: InstanceName = None,
    status: Annotated[
        str | None, typer.Option("--status", metavar="STATUS", help="Only those: approved, paused, rejected, ...")
    ] = None,
) -> None:
    """List the templates and the values that each takes."""
    session = session_of(context)
    opened = session.open_app()
    found = opened.find_instance(instance)
    rows = opened.templates.list_all(found.id, now_ms=opened.clock.wall_ms())
    if status is not None:
        rows = _choose(rows, status)
    synced_at_ms = opened.templates.last_synced_at_ms(found.id)
    if session.json:
        session.show_json(
            {
                "templates": [template_document(one) for one in rows],
                "count": len(rows),
                "synced_at": format_time(synced_at_ms),
            }
        )
    else:
        session.show_table(
            ("NAME", "LANGUAGE", "STATUS", "CATEGORY", "VALUES"),
            [
                (one.name, one.language, _standing(one), (one.category or "").lower(), _describe_values(one))
                for one in rows
            ],
            keep=(0, 1),
        )
    _tell_age(session, synced_at_ms, is_empty=not rows)


def _choose(rows: list[StoredTemplate], status: str) -> list[StoredTemplate]:
    wanted = status.strip().lower().replace(" ", "_")
    chosen = [one for one in rows if wanted in (one.status.lower(), "held" if one.held_reason is not None else "")]
    known = sorted({one.status.lower() for one in rows})
    if not chosen and rows and wanted not in ("approved", "paused", "rejected", "pending", "disabled", "held"):
        near = suggest(wanted, known)
        raise UsageError(
            f"no template has the status '{status}'",
            hint=f"did you mean {near}?" if near else f"there are: {', '.join(known)}",
        )
    return chosen


def _tell_age(session: Session, synced_at_ms: int | None, *, is_empty: bool) -> None:
    if synced_at_ms is None:
        session.say("the account's templates have not been read yet")
        session.hint("`wa template sync` reads them")
    elif not session.json:
        if is_empty:
            session.say("no templates")
        session.say(f"as of {session.describe_time(synced_at_ms)}")


# --- show ---


@app.command("show")
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The template's name.")],
    language: Annotated[
        str | None, typer.Option("--language", metavar="CODE", help="Only in this language, such as en_US.")
    ] = None,
    instance: InstanceName = None,
) -> None:
    """Show a template: its words in each language, and its values."""
    session = session_of(context)
    opened = session.open_app()
    found = opened.find_instance(instance)
    now_ms = opened.clock.wall_ms()
    rows = opened.templates.find(found.id, name, now_ms=now_ms)
    if not rows:
        if opened.templates.last_synced_at_ms(found.id) is None:
            raise NotFound(
                "the account's templates have not been read yet",
                hint="`wa template sync` reads them",
                code="not_synced",
            )
        names = [one.name for one in opened.templates.list_all(found.id, now_ms=now_ms)]
        near = suggest(name, names)
        meant = f"did you mean '{near}'? " if near else ""
        raise NotFound(f"there is no template '{name}'", hint=f"{meant}`wa template list` shows them")
    if language is not None:
        languages = [one.language for one in rows]
        rows = [one for one in rows if one.language.lower() == language.strip().replace("-", "_").lower()]
        if not rows:
            raise NotFound(
                f"template '{name}' does not exist in {language}", hint=f"it is there in: {', '.join(languages)}"
            )
    if session.json:
        session.show_json({"templates": [template_document(one) for one in rows], "count": len(rows)})
        return
    for place, one in enumerate(rows):
        if place:
            session.show()
        _show_one(session, one)


def _show_one(session: Session, one: StoredTemplate) -> None:
    category = f", {one.category.lower()}" if one.category else ""
    session.show(clean_text(f"{one.name}  {one.language}  {_standing(one)}{category}"))
    if one.rejected_reason:
        session.show(clean_text(f"  refused    {_word(one.rejected_reason)}"))
    if one.held_reason is not None:
        until = f", until {session.describe_time(one.held_until_ms)}" if one.held_until_ms is not None else ""
        session.show(clean_text(f"  held       {one.held_reason}{until}"))
    if one.quality:
        session.show(f"  quality    {one.quality.lower()}")
    if one.header_kind is not None:
        header = one.header_text if one.header_text is not None else f"({one.header_kind})"
        _show_words(session, "header", header)
    _show_words(session, "body", one.body)
    if one.footer:
        _show_words(session, "footer", one.footer)
    for index, button in enumerate(one.buttons):
        session.show(clean_text(f"  button {index}   {_describe_button(button)}"))
    for part in one.others:
        session.show(clean_text(f"  beyond wa  {_word(part)}"))
    session.show(clean_text(f"  values     {_describe_values(one) or 'none'}"))
    session.show(f"  read       {session.describe_time(one.synced_at_ms)}")
    _show_words(session, "in a file", "\n".join(_write_use(one)))


def _show_words(session: Session, name: str, words: str) -> None:
    for place, line in enumerate(words.split("\n")):
        session.show(f"  {name if place == 0 else '':<9}  {clean_text(line)}".rstrip())


def _describe_button(button: StoredButton) -> str:
    kind = _word(button.kind)
    where = f" {button.url}" if button.url else ""
    needs = ", takes a value" if button.sub_type else ""
    return f"{button.text} ({kind}{needs}){where}"


def _describe_values(one: StoredTemplate) -> str:
    """What a message has to give, in the words of `parameters`, `header` and `buttons`."""
    from wa_cli.domain.template import find_places

    parts = []
    if one.header_kind not in (None, "text"):
        parts.append(f"{one.header_kind} header")
    elif find_places(one.header_text or ""):
        parts.append("text header")
    if one.parameters:
        places = ", ".join(one.parameters) if one.is_named else f"{len(one.parameters)} by place"
        parts.append(places)
    parts += [f"button {index}" for index, button in enumerate(one.buttons) if button.needs_value]
    return "; ".join(parts)


def _write_use(one: StoredTemplate) -> list[str]:
    """The lines of a campaign file that name the template and give it values."""
    from wa_cli.domain.template import find_places

    lines = [f'template = "{one.name}"', f'template_language = "{one.language}"']
    if one.is_named and one.parameters:
        lines.append("parameters = { " + ", ".join(f'{name} = "..."' for name in one.parameters) + " }")
    elif one.parameters:
        lines.append("parameters = [" + ", ".join('"..."' for _name in one.parameters) + "]")
    if one.header_kind in ("image", "video", "document"):
        lines.append(f'header = {{ {one.header_kind} = "https://..." }}')
    elif find_places(one.header_text or ""):
        lines.append('header = { text = "..." }')
    buttons = [
        f'{{ index = {index}, type = "{button.sub_type}", value = "..." }}'
        for index, button in enumerate(one.buttons)
        if button.needs_value
    ]
    if buttons:
        lines.append(f"buttons = [{', '.join(buttons)}]")
    return lines


def _standing(one: StoredTemplate) -> str:
    from wa_cli.domain.template import APPROVED

    return "held" if one.status == APPROVED and one.held_reason is not None else _word(one.status)


def _word(status: str) -> str:
    return status.lower().replace("_", " ")


def template_document(one: StoredTemplate) -> dict[str, Any]:
    """A template as JSON."""
    return {
        "name": one.name,
        "language": one.language,
        "status": one.status.lower(),
        "category": one.category.lower() if one.category else None,
        "quality": one.quality.lower() if one.quality else None,
        "rejected_reason": one.rejected_reason,
        "held_reason": one.held_reason,
        "held_until": format_time(one.held_until_ms),
        "parameter_format": "named" if one.is_named else "positional",
        "parameters": list(one.parameters),
        "header": {"kind": one.header_kind, "text": one.header_text} if one.header_kind is not None else None,
        "body": one.body,
        "footer": one.footer,
        "buttons": [
            {
                "index": index,
                "kind": button.kind,
                "text": button.text,
                "url": button.url,
                "needs_value": button.needs_value,
            }
            for index, button in enumerate(one.buttons)
        ],
        "other_parts": list(one.others),
        "synced_at": format_time(one.synced_at_ms),
    }
