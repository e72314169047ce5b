"""The flags of the send family.  Each is said once, in a set of those that go together; commands take whole sets."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from typing import Annotated, Any, Final

import typer

from wa_cli.domain.message import CONTENT_TYPES

# What the options of one message are grouped under in the help.
A_FILE: Final = "A file"
A_TEMPLATE: Final = "A template"
A_PLACE: Final = "A location"
A_CONTACT: Final = "A contact card"
CHOICES: Final = "Polls, buttons, lists"


def unfold_flags(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer can read it: each flag of the sets that it takes is a parameter, where the set stands.

    typer has no sets of flags, and reads a command's flags off its signature: it is given one that lists them all.
    """
    parameters = inspect.signature(command, eval_str=True).parameters.values()
    sets: dict[str, Any] = {one.name: one.annotation for one in parameters if is_dataclass(one.annotation)}
    flat: list[inspect.Parameter] = []
    for one in parameters:
        flags = inspect.signature(sets[one.name], eval_str=True).parameters.values() if one.name in sets else [one]
        flat += (flag.replace(kind=inspect.Parameter.KEYWORD_ONLY) for flag in flags)

    @wraps(command)
    def run(**given: Any) -> None:
        for name, kind in sets.items():
            given[name] = kind(**{flag.name: given.pop(flag.name) for flag in fields(kind)})
        command(**given)

    run.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]  # where `inspect` looks first
    return run


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceFlags:
    """When the first message leaves, and how far apart they are."""

    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="When: 18:30, 'tomorrow 9am', 'in 2h30m', ISO.")
    ] = None
    delay: Annotated[
        str | None,
        typer.Option("--delay", metavar="MS|auto", help="Milliseconds between two messages. [default: 2000]"),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentFlags:
    """What one message says beside its text."""

    kind: Annotated[
        str | None,
        typer.Option("--type", metavar="KIND", help=f"Found from the rest unless given: {', '.join(CONTENT_TYPES)}."),
    ] = None
    media: Annotated[
        str | None,
        typer.Option(
            "--media",
            metavar="URL|PATH",
            help="A public https link, or a file of this machine.",
            rich_help_panel=A_FILE,
        ),
    ] = None
    caption: Annotated[
        str | None, typer.Option("--caption", metavar="TEXT", help="Words under the file.", rich_help_panel=A_FILE)
    ] = None
    filename: Annotated[
        str | None,
        typer.Option("--filename", metavar="NAME", help="Name shown for a document.", rich_help_panel=A_FILE),
    ] = None
    template: Annotated[
        str | None,
        typer.Option("--template", metavar="NAME", help="An approved template.", rich_help_panel=A_TEMPLATE),
    ] = None
    language: Annotated[
        str, typer.Option("--language", metavar="CODE", help="The template's language.", rich_help_panel=A_TEMPLATE)
    ] = "en_US"
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            metavar="[NAME=]VALUE",
            help="A value for the template's body, in order or by name.",
            rich_help_panel=A_TEMPLATE,
        ),
    ] = None
    header: Annotated[
        str | None,
        typer.Option(
            "--header",
            metavar="KIND=VALUE",
            help="Header: text, image, video or document; above buttons and lists text alone.",
            rich_help_panel=A_TEMPLATE,
        ),
    ] = None
    button: Annotated[
        list[str] | None,
        typer.Option(
            "--button",
            metavar="INDEX[:KIND]=VALUE",
            help="A template button's value; KIND is url by default.",
            rich_help_panel=A_TEMPLATE,
        ),
    ] = None
    link_preview: Annotated[bool, typer.Option("--link-preview", help="Let WhatsApp preview the first link.")] = False
    latitude: Annotated[
        str | None, typer.Option("--latitude", metavar="DEGREES", help="Such as 25.2048.", rich_help_panel=A_PLACE)
    ] = None
    longitude: Annotated[
        str | None, typer.Option("--longitude", metavar="DEGREES", help="Such as 55.2708.", rich_help_panel=A_PLACE)
    ] = None
    place_name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="What the place is called.", rich_help_panel=A_PLACE)
    ] = None
    address: Annotated[
        str | None, typer.Option("--address", metavar="TEXT", help="The place's address.", rich_help_panel=A_PLACE)
    ] = None
    contact_name: Annotated[
        str | None, typer.Option("--contact-name", metavar="NAME", help="Whose card it is.", rich_help_panel=A_CONTACT)
    ] = None
    contact_phone: Annotated[
        str | None, typer.Option("--contact-phone", metavar="NUMBER", help="Their number.", rich_help_panel=A_CONTACT)
    ] = None
    contact_org: Annotated[
        str | None, typer.Option("--contact-org", metavar="NAME", help="Where they work.", rich_help_panel=A_CONTACT)
    ] = None
    question: Annotated[
        str | None,
        typer.Option(
            "--question", metavar="TEXT", help="What a poll asks; the text does as well.", rich_help_panel=CHOICES
        ),
    ] = None
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="TEXT", help="An answer of a poll; give each.", rich_help_panel=CHOICES),
    ] = None
    max_answers: Annotated[
        int | None,
        typer.Option(
            "--max-answers",
            metavar="N",
            min=0,
            help="Answers a person may give; 0: any. [default: 1]",
            rich_help_panel=CHOICES,
        ),
    ] = None
    reply_button: Annotated[
        list[str] | None,
        typer.Option(
            "--reply-button",
            metavar="ID=TITLE",
            help="A button that answers; give each, 3 at most.",
            rich_help_panel=CHOICES,
        ),
    ] = None
    menu: Annotated[
        str | None,
        typer.Option(
            "--list", metavar="FILE", help="A list to choose from, as JSON; - is stdin.", rich_help_panel=CHOICES
        ),
    ] = None
    footer: Annotated[
        str | None,
        typer.Option("--footer", metavar="TEXT", help="Small words under buttons or a list.", rich_help_panel=CHOICES),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFlags:
    """Who sends, what of it may be queued, and what becomes of it."""

    instance: Annotated[str | None, typer.Option("--instance", metavar="NAME", help="The instance that sends.")] = None
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="KEY", help="A name for this call: the same call with it queues nothing more."),
    ] = None
    again: Annotated[
        bool, typer.Option("--again", help="Queue it although the same words went out or wait already.")
    ] = False
    max_attempts: Annotated[
        int | None,
        typer.Option(
            "--max-attempts", metavar="N", min=1, help="Attempts before it has failed. [default: WA_MAX_ATTEMPTS]"
        ),
    ] = None
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="TIME|DURATION", help="Never send after this.")
    ] = None
    on_unknown: Annotated[
        str,
        typer.Option(
            "--on-unknown", metavar="POLICY", help="When nobody can know whether it went out: hold, resend or skip."
        ),
    ] = "hold"
    immediate: Annotated[
        bool, typer.Option("--immediate", help="Ahead of everything that waits; limits still hold.")
    ] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would happen; write and send nothing.")] = False
    wait: Annotated[bool, typer.Option("--wait", help="Send now and stay until every message has an outcome.")] = False
