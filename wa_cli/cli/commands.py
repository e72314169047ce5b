"""The command tree: every noun and verb, and the module that answers to it.

A command line needs one of them, and making the others ready costs more than most commands: each is loaded by name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from collections.abc import Iterable

# The module and what in it answers, in the order in which people meet them.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "init": ("init", "init"),
    "demo": ("demo", "demo"),
    "doctor": ("doctor", "doctor"),
    "subgroup": ("subgroup", "app"),
    "contact": ("contact", "app"),
    "send": ("send", "app"),
    "campaign": ("campaign", "app"),
    "template": ("template", "app"),
    "run": ("run", "run"),
    "drain": ("drain", "drain"),
    "serve": ("serve", "app"),
    "status": ("status", "status"),
    "watch": ("status", "watch"),
    "message": ("message", "app"),
    "failed": ("failed", "app"),
    "resend": ("resend", "resend"),
    "reconcile": ("reconcile", "reconcile"),
    "instance": ("instance", "app"),
    "pool": ("pool", "app"),
    "webhook": ("webhook", "app"),
    "db": ("db", "app"),
    "config": ("config", "app"),
    "service": ("service", "app"),
    "sandbox": ("sandbox", "sandbox"),
}


# What the nouns are about: the list of all commands needs no more of them than this.
NOUNS: Final[dict[str, str]] = {
    "subgroup": "Named lists of people and groups.",
    "contact": "People: what is known of them, and what they wish.",
    "send": "Queue messages: for a subgroup, for recipients, or from a file.",
    "campaign": "Campaigns from files: planned, sent, stopped.",
    "template": "The approved templates of a Cloud API account.",
    "message": "Single messages: where they stand, why, and cancelling them.",
    "failed": "What failed and why; `wa resend` sends it again.",
    "instance": "The WhatsApp identities that send.",
    "pool": "Several instances behind one name.",
    "webhook": "What WhatsApp tells us, as it came; reading it again.",
    "db": "The database: its place, its soundness, copies of it, pruning.",
    "config": "The settings in force, and where each comes from.",
    "service": "What keeps `wa run` alive: systemd, launchd, or cron.",
    "serve": "Take webhooks and calls of the HTTP API; `serve key` makes keys.",
}


def register(app: typer.Typer, names: Iterable[str] = COMMANDS, *, is_listing: bool = False) -> None:
    """Add these commands, all of them by default.  is_listing: nouns by their words alone, to be listed and not run."""
    for name in names:
        if is_listing and name in NOUNS:
            app.command(name, short_help=NOUNS[name])(_listed)
            continue
        module, answers_to = COMMANDS[name]
        answers: Any = getattr(import_module(f"wa_cli.cli.{module}"), answers_to)
        if isinstance(answers, typer.Typer):
            app.add_typer(answers, name=name)
        else:
            app.command(name)(answers)


def _listed() -> None:
    """Stands for a noun in the list of all commands."""


class InOrder(TyperGroup):
    """Lists the commands in our order; typer would put the single ones before the nouns."""

    def list_commands(self, ctx: Any) -> list[str]:
        known = super().list_commands(ctx)
        return sorted(known, key=list(COMMANDS).index)
