"""`wa drain`: send what is due now, then stop."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from wa_cli.cli.session import Session, format_time, parse_duration_flag, session_of
from wa_cli.ports import Sums

if TYPE_CHECKING:
    from wa_cli.ports import Record


def drain(
    context: typer.Context,
    max_runtime: Annotated[
        str | None, typer.Option("--max-runtime", metavar="DURATION", help="Stop after this long, e.g. 50s.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Start at most so many messages.")
    ] = None,
    instance: Annotated[str | None, typer.Option("--instance", metavar="NAME", help="The instance that sends.")] = None,
) -> None:
    """Send what is due now inside the limits, then stop. Safe at any overlap, made for cron.

    With --max-runtime it also stays for what becomes due in that time.

    Example: * * * * * wa drain --max-runtime 50s
    """
    session = session_of(context)
    app = session.open_app()
    seconds = parse_duration_flag(max_runtime, "--max-runtime") if max_runtime else None
    chosen = app.find_instance(instance)
    now_ms = app.clock.wall_ms()
    app.bury_dead(now_ms=now_ms)
    # Where there is no daemon, nobody else sends the unknowns again whose policy says so.
    patience_ms = round(app.retry_policy().resend_unknown_seconds * 1000)
    app.queue.requeue_unknown(older_than_ms=now_ms - patience_ms, now_ms=now_ms)

    # Nobody else does under cron: a turn of a recurring campaign begins, a sample is judged, with nothing due at all.
    if app.campaigns.has_work():
        from wa_cli.daemon.campaigning import look_once

        look_once(app)

    # An empty queue needs no client, no lease and no network: most cron runs end here.
    next_due_at_ms = app.messages.next_due_at_ms(chosen.id)
    if next_due_at_ms is None or next_due_at_ms > app.clock.wall_ms() + (seconds or 0.0) * 1000:
        _report(session, Sums(), chosen.id)
        return

    from wa_cli.cli.waiting import describe_record
    from wa_cli.daemon.drain import drain as send_what_is_due

    def show(record: Record) -> None:
        session.say(describe_record(record))

    is_watched = session.verbose or (sys.stderr.isatty() and not session.json)
    report = send_what_is_due(
        app, chosen, max_runtime_seconds=seconds, limit=limit, on_progress=show if is_watched else None
    )
    if report.holder is not None:
        holder = report.holder
        who = "another drain" if holder.role == "drain" else f"a {holder.role}"
        session.say(f"{who} is sending already (pid {holder.pid}, since {session.describe_time(holder.since_ms)})")
    _report(session, report.sums, chosen.id)
    if report.trouble is not None:
        raise report.trouble
    if report.exit_code:
        raise typer.Exit(report.exit_code)
    code = _exit_code_for(session, chosen.name, report.sums)
    if code:
        raise typer.Exit(code)


def _report(session: Session, sums: Sums, instance_id: int) -> None:
    app = session.open_app()
    remaining = app.messages.read_stats()["queued"]
    next_due_at_ms = app.messages.next_due_at_ms(instance_id)
    if session.json:
        session.show_json(
            {
                "sent": sums.sent,
                "failed": sums.failed,
                "retrying": sums.retrying,
                "unknown": sums.unknown,
                "skipped": sums.skipped,
                "remaining": remaining,
                "next_due_at": format_time(next_due_at_ms),
            }
        )
        return
    words = [f"{sums.sent} sent"]
    words += [f"{count} {name}" for name, count in _others(sums) if count]
    line = ", ".join(words) + f"; {remaining} waiting"
    if next_due_at_ms is not None:
        line += f", next due {session.describe_time(next_due_at_ms)}"
    session.show(line)


def _others(sums: Sums) -> list[tuple[str, int]]:
    return [
        ("failed", sums.failed),
        ("to be retried", sums.retrying),
        ("unknown", sums.unknown),
        ("skipped", sums.skipped),
    ]


def _exit_code_for(session: Session, instance: str, sums: Sums) -> int:
    """4 when the instance waits for a person, else 5 for unknown outcomes of this run, else 3 for failures."""
    from wa_cli.cli.waiting import say_paused

    app = session.open_app()
    standing = app.instances.find(instance)
    if standing.paused_at_ms is not None:
        say_paused(session, app, standing)
        if standing.paused_by != "person":
            return 4
    if sums.unknown:
        session.hint("`wa reconcile` shows what is known about the unknown outcomes")
        return 5
    if sums.failed:
        session.hint("`wa failed list` says why")
        return 3
    return 0
