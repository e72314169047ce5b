"""`wa instance`: the identities that send, and whether they may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from wa_cli.cli import instance_device, instance_setup
from wa_cli.cli.commands import NOUNS
from wa_cli.cli.groups import groups
from wa_cli.cli.session import Session, clean_text, format_time, session_of
from wa_cli.cli.status import describe_span, instance_document, read_instance
from wa_cli.services.documents import limits_document, reconnection_document

if TYPE_CHECKING:
    from wa_cli.bootstrap import App
    from wa_cli.ports import Instance
    from wa_cli.services.connections import Reconnection
    from wa_cli.services.instances import InstanceReport, LimitInForce
    from wa_cli.store.sqlite.upkeep import Counters

app = typer.Typer(no_args_is_help=True, help=NOUNS["instance"])

app.command("add")(instance_setup.add)
app.command("remove")(instance_setup.remove)
app.command("groups")(groups)
app.command("pair")(instance_device.pair)
app.command("restart")(instance_device.restart)

Name = Annotated[str | None, typer.Argument(metavar="NAME", help="The instance; the default one without a name.")]


@app.command("list")
def list_instances(context: typer.Context) -> None:
    """List the instances and where each stands."""
    session = session_of(context)
    app_ = session.open_app()
    now_ms = app_.clock.wall_ms()
    app_.bury_dead(now_ms=now_ms)
    reports = [read_instance(app_, instance, now_ms=now_ms) for instance in app_.instances.list_all()]
    if session.json:
        session.show_json({"instances": [instance_document(report) for report in reports], "count": len(reports)})
        return
    session.show_table(
        ("NAME", "STATE", "WAITING", "SENDING", "SENDER", "REASON"),
        [
            (
                report.instance.name,
                report.standing.value,
                str(report.waiting),
                str(report.sending),
                f"{report.holder.role} {report.holder.pid}" if report.holder else "",
                report.reason or "",
            )
            for report in reports
        ],
    )


@app.command("show")
def show(context: typer.Context, name: Name = None) -> None:
    """Show one instance: where it stands, its counters, its limits."""
    session = session_of(context)
    app_ = session.open_app()
    now_ms = app_.clock.wall_ms()
    app_.bury_dead(now_ms=now_ms)
    report = read_instance(app_, app_.find_instance(name), now_ms=now_ms)
    counters = app_.upkeep.read_counters(report.instance.id, now_ms=now_ms)
    limits = _read_limits(app_, report.instance)
    from wa_cli.services.instances import find_next_start_ms, note_used, start_look_back_ms

    in_force = app_.limits(report.instance)
    starts = app_.upkeep.read_starts(report.instance.id, since_ms=now_ms - start_look_back_ms(in_force))
    limits = note_used(limits, starts, now_ms=now_ms)
    next_ms = find_next_start_ms(report, in_force, starts, now_ms=now_ms)
    from wa_cli.services.connections import read_reconnection

    lost = read_reconnection(app_.instances, report.instance, app_.ladder_terms(report.instance), now_ms=now_ms)
    if session.json:
        session.show_json(
            _document(report, counters, limits)
            | {"next_allowed_send_at": format_time(next_ms), "reconnection": reconnection_document(lost)}
        )
        return
    _show_people(session, report, counters, limits, lost, next_ms, now_ms=now_ms)


@app.command("status")
def status(context: typer.Context, name: Name = None) -> None:
    """The same as show."""
    show(context, name)


def _read_limits(app_: App, instance: Instance) -> list[LimitInForce]:
    from wa_cli.services.instances import read_limits_in_force

    return read_limits_in_force(
        app_.settings,
        app_.limits(instance),
        profile=app_.profile(instance),
        instance=instance,
        now_ms=app_.clock.wall_ms(),
    )


def _document(report: InstanceReport, counters: Counters, limits: list[LimitInForce]) -> dict[str, Any]:
    return instance_document(report) | {
        "counters": {
            "sent24h": counters.sent_24h,
            "sent1h": counters.sent_1h,
            "failures1h": counters.failures_1h,
            "disconnects1h": counters.disconnects_1h,
            "started1m": counters.started_1m,
        },
        "limits": limits_document(limits),
    }


def _show_people(
    session: Session,
    report: InstanceReport,
    counters: Counters,
    limits: list[LimitInForce],
    lost: Reconnection,
    next_ms: int | None,
    *,
    now_ms: int,
) -> None:
    from wa_cli.services.status import count

    instance = report.instance
    lines = [f"{instance.name}  {report.standing.replace('_', ' ')}  ({instance.transport})"]
    if report.reason:
        lines.append(f"  reason     {report.reason}")
    if instance.connection is not None:
        since = f", for {describe_span(now_ms - instance.connection_since_ms)}" if instance.connection_since_ms else ""
        raw = f"  (it says {instance.connection_raw})" if instance.connection_raw else ""
        lines.append(f"  device     {instance.connection.replace('_', ' ')}{since}{raw}")
        lines.append(f"  number     {instance.address or 'not known yet'}")
        lines.append(
            f"  restarts   {lost.used} of {lost.at_most} in {round(lost.window_ms / 60_000)} min"
            f"   {count(counters.disconnects_1h, 'disconnect')} in 1 h"
        )
        if lost.next_rung is not None and lost.next_at_ms is not None and report.holder is not None:
            wait_ms = lost.next_at_ms - now_ms
            when = f"in {describe_span(wait_ms)}" if wait_ms > 0 else "now"
            lines.append(f"  next       {'start' if lost.next_rung == 'start' else f'{lost.next_rung} restart'} {when}")
    if instance.paused_at_ms is not None:
        by = "by hand" if instance.paused_by == "person" else "not by hand"
        lines.append(f"  paused     {format_time(instance.paused_at_ms)}, {by}")
    if report.restriction is not None:
        until_ms = report.restriction.until_ms
        ends = f"until {format_time(until_ms)}" if until_ms is not None else "no end was stated"
        lines.append(f"  restricted {ends}; `wa instance resume {instance.name}` ends it by hand")
    if instance.rests_until_ms > now_ms:
        lines.append(f"  rests      {describe_span(instance.rests_until_ms - now_ms)} more")
    holder = report.holder
    lines.append(
        f"  sender     {holder.role}, pid {holder.pid} on {holder.host}, for {describe_span(now_ms - holder.since_ms)}"
        if holder
        else "  sender     nobody at present"
    )
    lines.append(f"  messages   {report.waiting:,} waiting   {report.sending:,} sending")
    lines.append(
        f"  counters   {counters.sent_24h:,} sent in 24 h   {counters.sent_1h:,} in 1 h   "
        f"{count(counters.failures_1h, 'failure')} in 1 h"
    )
    if next_ms is not None and next_ms > now_ms:
        lines.append(f"  next send  in {describe_span(next_ms - now_ms)} at the earliest")
    lines.append("  limits")
    for limit in limits:
        value = f"{limit.value:,}" if limit.value else "none"
        used = f"   {limit.used:,} used" if limit.used is not None else ""
        lines.append(f"    {limit.name:<22} {value:>9}   {limit.origin}{used}")
    for line in lines:
        session.show(clean_text(line))


@app.command("pause")
def pause(
    context: typer.Context,
    name: Name = None,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why, for whoever looks later.")
    ] = "paused by hand",
) -> None:
    """Stop sending. When this returns, no further message starts; the queue is kept."""
    from wa_cli.services.instances import pause as pause_instance
    from wa_cli.services.status import count

    session = session_of(context)
    app_ = session.open_app()
    instance = app_.find_instance(name)
    paused = pause_instance(instance, reason=reason, instances=app_.instances, leases=app_.leases, clock=app_.clock)
    report = read_instance(app_, app_.find_instance(name), now_ms=app_.clock.wall_ms())
    if session.json:
        session.show_json(instance_document(report) | {"was_paused": paused.was_paused, "in_flight": paused.in_flight})
    elif paused.was_paused:
        since = format_time(report.instance.paused_at_ms)
        session.show(clean_text(f"{instance.name} was paused already, since {since}: {report.reason}"))
    else:
        session.show(
            clean_text(f"{instance.name} is paused; {count(report.waiting, 'message')} waiting, each in its place")
        )
    if paused.in_flight:
        session.warn(
            f"{count(paused.in_flight, 'post')} begun before the pause and not landed yet; no other will begin"
        )
    if not session.json:
        session.hint(f"`wa instance resume {instance.name}` goes on")


@app.command("resume")
def resume(context: typer.Context, name: Name = None) -> None:
    """Go on sending after a pause, a rest or a restriction. It is spaced as the limits allow."""
    from wa_cli.domain.restriction import in_force

    session = session_of(context)
    app_ = session.open_app()
    instance = app_.find_instance(name)
    now_ms = app_.clock.wall_ms()
    restriction = in_force(instance.restriction, now_ms=now_ms)
    released = app_.instances.release(instance.id, now_ms=now_ms) and restriction is not None
    resumed = app_.instances.resume(instance.id, now_ms=now_ms) or released
    report = read_instance(app_, app_.find_instance(name), now_ms=now_ms)
    if session.json:
        session.show_json(instance_document(report) | {"resumed": resumed})
        return
    if not resumed:
        session.show(clean_text(f"{instance.name} was not paused; nothing changed"))
        return
    freed = "restricted" if released and instance.paused_at_ms is None else "paused"
    session.show(clean_text(f"{instance.name} is no longer {freed}: {_what_follows(report, now_ms=now_ms)}"))
    if released:
        session.warn("WhatsApp may still hold it back: the first refusal restricts it again, and may draw that out")
    if instance.paused_at_ms is not None and instance.paused_by != "person":
        session.warn(clean_text(f"it had been stopped: {instance.pause_reason}; unless that is mended it stops again"))
    if report.waiting and not report.holder:
        session.hint("`wa run` sends them (or from cron: `wa drain --max-runtime 50s`)")


def _what_follows(report: InstanceReport, *, now_ms: int) -> str:
    from wa_cli.services.status import count

    if not report.waiting:
        return "nothing waits"
    sender = f"the {report.holder.role} (pid {report.holder.pid}) sends" if report.holder else "nobody sends yet"
    if report.next_due_at_ms is not None and report.next_due_at_ms > now_ms:
        first = f"the first is due in {describe_span(report.next_due_at_ms - now_ms)}"
        return f"{count(report.waiting, 'message')} waiting, {first}"
    return f"{count(report.waiting, 'message')} waiting, overdue ones leave one by one with their spacing; {sender}"
