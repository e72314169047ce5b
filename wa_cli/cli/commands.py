"""The command tree: every noun and verb, and the module that answers to it."""

from __future__ import annotations

from typing import Any, Final

import typer
from typer.core import TyperGroup

from wa_cli.cli import (
    config,
    contact,
    db,
    demo,
    doctor,
    drain,
    failed,
    init,
    instance,
    message,
    reconcile,
    resend,
    run,
    sandbox,
    send,
    serve,
    status,
    subgroup,
    webhook,
)

# In the order in which people meet them.
COMMANDS: Final[dict[str, Any]] = {
    "init": init.init,
    "demo": demo.demo,
    "doctor": doctor.doctor,
    "subgroup": subgroup.app,
    "contact": contact.app,
    "send": send.app,
    "run": run.run,
    "drain": drain.drain,
    "serve": serve.app,
    "status": status.status,
    "watch": status.watch,
    "message": message.app,
    "failed": failed.app,
    "resend": resend.resend,
    "reconcile": reconcile.reconcile,
    "instance": instance.app,
    "webhook": webhook.app,
    "db": db.app,
    "config": config.app,
    "sandbox": sandbox.sandbox,
}


def register(app: typer.Typer) -> None:
    """Add every command."""
    for name, answers in COMMANDS.items():
        if isinstance(answers, typer.Typer):
            app.add_typer(answers, name=name)
        else:
            app.command(name)(answers)


class InOrder(TyperGroup):
    """Lists the commands in our order; typer would put the single ones before the nouns."""

    def list_commands(self, ctx: Any) -> list[str]:
        known = super().list_commands(ctx)
        return sorted(known, key=list(COMMANDS).index)
