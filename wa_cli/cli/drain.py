"""`wa drain`: send what is due now, then stop."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from wa_cli.cli.session import Session, clean_text, format_time, parse_duration_flag, session_of

if TYPE_CHECKING:
    from wa_cli.ports import Instance, Record, Sums


def drain(
    context: typer.Context,
    max_runtime: Annotated[
        str | None, typer.Option("--max-runtime", metavar="DURATION", help="Stop after this long, e.g. 50s.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Start at most so many messages.")
    ] = None,
    instance: Annotated[
        list[str] | None, typer.Option("--instance", metavar="NAME", help="Send for this one alone. Repeatable.")
    ] = None,
) -> None:
    """Send what is due now, of all instances and inside the limits. Safe at any overlap, made for cron.

    With --max-runtime it also stays for what becomes due in that time.

    Example: * * * * * wa drain --max-runtime 50s
    """
    session = session_of(context)
    app = session.open_app()
    seconds = parse_duration_flag(max_runtime, "--max-runtime") if max_runtime else None
    chosen = [app.instances.find(name) for name in instance] if instance else app.instances.list_all()
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
    until_ms = app.clock.wall_ms() + round((seconds or 0.0) * 1000)
    next_due_at_ms = app.messages.find_next_due_at_ms([one.id for one in chosen])
    if next_due_at_ms is None or next_due_at_ms > until_ms:
        from wa_cli.ports import Sums

        _report(session, Sums(), chosen)
        return

    from wa_cli.cli.waiting import describe_record
    from wa_cli.daemon.drain import drain as send_what_is_due
    from wa_cli.daemon.drain import find_due

    senders = _leave_out_unfit(session, find_due(app, chosen, until_ms))

    def show(record: Record) -> None:
        session.say(describe_record(record))

    is_watched = session.verbose or (sys.stderr.isatty() and not session.json)
    report = send_what_is_due(
        app, senders, max_runtime_seconds=seconds, limit=limit, on_progress=show if is_watched else None
    )
    if report.holder is not None:
        holder = report.holder
        who = "another drain" if holder.role == "drain" else f"a {holder.role}"
        session.say(f"{who} is sending already (pid {holder.pid}, since {session.describe_time(holder.since_ms)})")
    _report(session, report.sums, chosen)
    if report.trouble is not None:
        raise report.trouble
    if report.exit_code:
        raise typer.Exit(report.exit_code)
    code = _exit_code_for(session, senders, report.sums)
    if code:
        raise typer.Exit(code)


def _leave_out_unfit(session: Session, due: list[Instance]) -> list[Instance]:
    """Those that can send.  Raises: UsageError when none of them can, for want of an account."""
    app = session.open_app()
    missing = {one.id: app.accounts.find_missing(one) for one in due}
    senders = [one for one in due if not missing[one.id]]
    if not senders:
        app.accounts.check(due[0])
    for one in due:
        if missing[one.id]:
            session.warn(f"{one.name} cannot send: {' and '.join(missing[one.id])} not set")
    return senders


def _report(session: Session, sums: Sums, instances: list[Instance]) -> None:
    app = session.open_app()
    remaining = app.messages.read_stats()["queued"]
    next_due_at_ms = app.messages.find_next_due_at_ms([one.id for one in instances])
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


def _exit_code_for(session: Session, instances: list[Instance], sums: Sums) -> int:
    """4 when an instance waits for a person, else 5 for unknown outcomes of this run, else 3 for failures."""
    from wa_cli.cli.waiting import say_paused

    app = session.open_app()
    needs_person = False
    for one in instances:
        standing = app.instances.find(one.name)
        if standing.paused_at_ms is not None:
            say_paused(session, app, standing)
            needs_person |= standing.paused_by != "person"
        elif standing.restriction is not None and standing.restriction.until_ms is None:
            session.say(f"{one.name} is restricted, no end was stated: {clean_text(standing.restriction.reason)}")
            session.hint(f"once WhatsApp has lifted that: `wa instance resume {one.name}`")
            needs_person = True
    if needs_person:
        return 4
    if sums.unknown:
        session.hint("`wa reconcile` shows what is known about the unknown outcomes")
        return 5
    if sums.failed:
        session.hint("`wa failed list` says why")
        return 3
    return 0
