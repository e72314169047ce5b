"""`wa run`: the daemon, and with --serve the HTTP door beside it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from wa_cli.cli.logs import start_logging
from wa_cli.cli.serve import HOST, PORT, HostOption, LogJsonOption, PortOption
from wa_cli.cli.session import Session, format_time, session_of

if TYPE_CHECKING:
    from wa_cli.daemon.supervision import Supervisor
    from wa_cli.ports import Holder


def run(
    context: typer.Context,
    log_json: LogJsonOption = False,
    instance: Annotated[
        list[str] | None, typer.Option("--instance", metavar="NAME", help="Send for this one alone. Repeatable.")
    ] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Take webhooks and calls of the HTTP API, too.")] = False,
    host: HostOption = HOST,
    port: PortOption = PORT,
) -> None:
    """Send messages of all instances as they become due.

    It goes on until it is stopped: Ctrl-C or SIGTERM finishes what is in flight.
    """
    from wa_cli.daemon.supervision import Supervisor

    supervisor = Supervisor.take(os.environ)
    session = session_of(context)
    app = session.open_app(create=True)
    start_logging(
        as_json=log_json,
        is_verbose=session.verbose,
        is_quiet=session.quiet,
        secrets=app.accounts.list_secrets(),
    )
    chosen = [app.instances.find(name) for name in instance] if instance else None
    for one in chosen or app.list_senders():
        app.accounts.check(one)

    from wa_cli.daemon.loops import run_in_loop
    from wa_cli.daemon.service import run_daemon

    if not serve:
        _finish(session, *run_in_loop(run_daemon(app, chosen, supervisor=supervisor)), supervisor=supervisor)
        return

    from wa_cli.bootstrap import open_app
    from wa_cli.cli.serve import Door

    # Another daemon very likely has the port as well: say that it runs, not that the port is taken.
    now_ms = app.clock.wall_ms()
    holders = [app.leases.find_holder(one.id, now_ms=now_ms) for one in chosen or app.list_senders()]
    if holders[0] is not None and all(holder is not None and holder.role == "daemon" for holder in holders):
        _finish(session, 0, holders[0], supervisor=supervisor)
        return
    beside = open_app(session.settings, create=False)
    try:
        door = Door(session, beside, host=host, port=port)
        try:
            ended = run_in_loop(run_daemon(app, chosen, beside=door, supervisor=supervisor))
        finally:
            door.close()
    finally:
        beside.close()
    _finish(session, *ended, supervisor=supervisor)


def _finish(session: Session, code: int, holder: Holder | None, *, supervisor: Supervisor) -> None:
    if holder is not None:
        supervisor.tell(STATUS=f"a daemon runs already: pid {holder.pid} on {holder.host}")
        if session.json:
            since = format_time(holder.since_ms)
            session.show_json({"running": True, "pid": holder.pid, "host": holder.host, "since": since})
        else:
            since = session.describe_time(holder.since_ms)
            session.show(f"a daemon runs already: pid {holder.pid} on {holder.host}, since {since}")
    if code:
        raise typer.Exit(code)
