"""The command tree: every noun and verb, and the module that answers to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wa_cli.cli import (
    config,
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
    status,
    subgroup,
)

if TYPE_CHECKING:
    import typer


def register(app: typer.Typer) -> None:
    """Add every command, in the order in which people meet them."""
    app.command("init")(init.init)
    app.command("demo")(demo.demo)
    app.command("doctor")(doctor.doctor)
    app.add_typer(send.app, name="send")
    app.add_typer(subgroup.app, name="subgroup")
    app.command("run")(run.run)
    app.command("drain")(drain.drain)
    app.command("status")(status.status)
    app.command("watch")(status.watch)
    app.add_typer(message.app, name="message")
    app.add_typer(failed.app, name="failed")
    app.command("resend")(resend.resend)
    app.command("reconcile")(reconcile.reconcile)
    app.add_typer(instance.app, name="instance")
    app.add_typer(db.app, name="db")
    app.add_typer(config.app, name="config")
    app.command("sandbox")(sandbox.sandbox)
