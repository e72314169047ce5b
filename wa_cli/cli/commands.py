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
    "sandbox": ("sandbox", "sandbox"),
}


def register(app: typer.Typer, names: Iterable[str] = COMMANDS) -> None:
    """Add these commands, all of them by default."""
    for name in names:
        module, answers_to = COMMANDS[name]
        answers: Any = getattr(import_module(f"wa_cli.cli.{module}"), answers_to)
        if isinstance(answers, typer.Typer):
            app.add_typer(answers, name=name)
        else:
            app.command(name)(answers)


class InOrder(TyperGroup):
    """Lists the commands in our order; typer would put the single ones before the nouns."""

    def list_commands(self, ctx: Any) -> list[str]:
        known = super().list_commands(ctx)
        return sorted(known, key=list(COMMANDS).index)
