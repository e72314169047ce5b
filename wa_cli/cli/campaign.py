"""`wa campaign`: taking campaigns in, and the steps of their life.  Planning and showing have rooms of their own."""

from __future__ import annotations

from typing import Annotated

import typer

from wa_cli.cli import campaign_report, campaign_show, campaign_start
from wa_cli.cli.campaign_start import actor, say_who_sends_it
from wa_cli.cli.campaign_view import NameArgument, campaign_document
from wa_cli.cli.commands import NOUNS
from wa_cli.cli.importing import count_of
from wa_cli.cli.session import clean_text, session_of
from wa_cli.domain.campaign import CampaignState
from wa_cli.errors import Conflict, UsageError

app = typer.Typer(no_args_is_help=True, help=NOUNS["campaign"])

ReasonOption = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why, for its history.")]


@app.command("create")
def create(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="The campaign file, such as campaigns/gala.toml.", metavar="FILE")],
) -> None:
    """Take a campaign file in, or its new text.

    Nothing is sent.

    Example: wa campaign create campaigns/gala.toml
    """
    from pathlib import Path

    from wa_cli.campaigns import files

    session = session_of(context)
    opened = session.open_app(create=True)
    campaign, spec, is_new = files.create(opened, files.find_file(file) or Path(file), actor=actor())
    if session.json:
        session.show_json({**campaign_document(campaign), "created": is_new})
        return
    session.show(f"{'created' if is_new else 'read again:'} campaign {campaign.name}, {campaign.state}")
    if campaign.state == "draft":
        session.hint(f"`wa campaign plan {campaign.name}` shows exactly what would happen")
    elif spec.is_recurring and campaign.state == "scheduled":
        session.say("its occurrences to come go by this text; those that have begun stay as they are")


@app.command("validate")
def validate(context: typer.Context, name: NameArgument) -> None:
    """Check a campaign file and all that it names.

    Nothing is written. Every mistake is named with its line and with what would be right (exit 2).
    """
    from wa_cli.campaigns import validity
    from wa_cli.domain.campaign_words import describe_spec

    session = session_of(context)
    opened = session.open_dry_app()
    report = validity.validate(opened, name)
    described = describe_spec(report.spec)
    if session.json:
        session.show_json(
            {
                "valid": not report.problems,
                "campaign": report.spec.name,
                "fields": [{"name": name, "value": words} for name, words in described],
                "problems": list(report.problems),
                "warnings": list(report.warnings),
            }
        )
    else:
        session.show_fields(described)
        for warning in report.warnings:
            session.warn(warning)
    if report.problems:
        raise UsageError(f"{report.spec.name} cannot be sent as it is", below=report.problems, hint=report.hint)
    if not session.json:
        session.show(f"{report.spec.name} can be sent as it is")
        session.hint(f"`wa campaign plan {report.spec.name}` shows exactly what would happen")


@app.command("list")
def list_all(context: typer.Context) -> None:
    """Show every campaign and where it stands."""
    from wa_cli.campaigns import standing

    session = session_of(context)
    opened = session.open_app()
    rows = [(campaign, standing.read_progress(opened, campaign)) for campaign in opened.campaigns.list_all()]
    if session.json:
        session.show_json(
            {
                "campaigns": [
                    {**campaign_document(campaign), "audience": progress.audience, "sent": progress.sent,
                     "failed": progress.failed, "waiting": progress.waiting}
                    for campaign, progress in rows
                ],
                "count": len(rows),
            }
        )  # fmt: skip
        return
    if not rows:
        session.hint("there is no campaign yet: `wa campaign create campaigns/NAME.toml` takes a file in")
        return
    from wa_cli.cli.message import format_listed

    zone = session.settings.zone()
    session.show_table(
        ("NAME", "STATE", "AUDIENCE", "SENT", "FAILED", "WAITING", "CHANGED"),
        [
            (
                campaign.name,
                campaign.state,
                *(
                    f"{number:,}" if progress.audience else "-"  # nothing of it has been let go
                    for number in (progress.audience, progress.sent, progress.failed, progress.waiting)
                ),
                format_listed(campaign.changed_at_ms, zone),
            )
            for campaign, progress in rows
        ],
        keep=(0, 1),
    )


app.command("plan")(campaign_start.plan)
app.command("apply")(campaign_start.apply)
app.command("start")(campaign_start.start)


@app.command("pause")
def pause(context: typer.Context, name: NameArgument, reason: ReasonOption = None) -> None:
    """Hold everything of a campaign that has not left.

    From the moment this returns nothing more starts.
    """
    from wa_cli.campaigns import files

    session = session_of(context)
    opened = session.open_app()
    campaign = files.find_known(opened, name)
    changed = opened.campaigns.step(
        campaign.id, CampaignState.PAUSED, actor=actor(), reason=reason, now_ms=opened.clock.wall_ms()
    )
    in_flight = sum(opened.campaigns.count_sending(run.id) for run in opened.campaigns.list_runs(campaign.id))
    if session.json:
        session.show_json({"campaign": campaign.name, "state": "paused", "changed": changed, "in_flight": in_flight})
        return
    waiting = "" if not in_flight else f"; {count_of(in_flight, 'post')} on the way will still have an outcome"
    session.show(f"campaign {campaign.name} {'paused' if changed else 'was paused already'}{waiting}")
    session.hint(f"`wa campaign resume {campaign.name}` goes on, `wa campaign cancel {campaign.name}` ends it")


@app.command("resume")
def resume(context: typer.Context, name: NameArgument, reason: ReasonOption = None) -> None:
    """Go on with a paused campaign.

    What its stop rules have seen until now counts as seen by you.
    """
    from wa_cli.campaigns import files, standing

    session = session_of(context)
    opened = session.open_app()
    campaign = files.find_known(opened, name)
    if campaign.state != "paused":
        raise Conflict(
            f"the campaign '{campaign.name}' is {campaign.state}, not paused",
            hint=f"`wa campaign show {campaign.name}` lists what can be done now",
            code="campaign_state",
        )
    state = standing.resume(opened, campaign, actor=actor(), reason=reason)
    if session.json:
        session.show_json({"campaign": campaign.name, "state": state})
        return
    session.show(f"campaign {campaign.name} goes on: {state}")
    say_who_sends_it(session, opened, campaign, count=1)


@app.command("cancel")
def cancel(context: typer.Context, name: NameArgument, reason: ReasonOption = None) -> None:
    """End a campaign for good.

    What has not left is cancelled; nobody who was written to is written to again.
    """
    from wa_cli.campaigns import files, standing

    session = session_of(context)
    opened = session.open_app()
    campaign = files.find_known(opened, name)
    if campaign.state != "cancelled":
        waiting = standing.read_progress(opened, campaign).waiting
        with_them = f" and its {count_of(waiting, 'waiting message')}" if waiting else ""
        session.confirm(f"cancel campaign {campaign.name}{with_them} for good?")
    cancelled = standing.cancel(opened, campaign, actor=actor(), reason=reason)
    if session.json:
        session.show_json(
            {
                "campaign": campaign.name,
                "state": "cancelled",
                "cancelled": cancelled.count,
                "in_flight": cancelled.in_flight,
            }
        )
        return
    on_way = (
        ""
        if not cancelled.in_flight
        else f"; {count_of(cancelled.in_flight, 'post')} on the way will still have an outcome"
    )
    words = (
        f"{count_of(cancelled.count, 'message')} will not be sent" if cancelled.count else "nothing of it was waiting"
    )
    session.show(f"campaign {campaign.name} cancelled: {words}{on_way}")


@app.command("test")
def send_test(
    context: typer.Context,
    name: NameArgument,
    to: Annotated[str, typer.Option("--to", metavar="NUMBER", help="Who gets the sample: you.")],
    like: Annotated[
        str | None, typer.Option("--like", metavar="RECIPIENT", help="Filled in as for this one of its audience.")
    ] = None,
    variant: Annotated[str | None, typer.Option("--variant", metavar="NAME", help="Which variant.")] = None,
) -> None:
    """Send one sample of a campaign to yourself.

    Filled in as somebody of its audience would get it. It goes ahead of everything that waits, and is no part of the
    campaign's ledger.

    Example: wa campaign test gala --to +6581234567
    """
    from wa_cli.campaigns import files, samples
    from wa_cli.domain.message import format_message_id
    from wa_cli.domain.plan import show_content

    session = session_of(context)
    opened = session.open_app(create=True)
    campaign, spec = files.read_again(files.find(opened, name, actor=actor()))
    sample = samples.send_sample(opened, campaign, spec, to=to, variant=variant, like=like)
    if session.json:
        session.show_json(
            {
                "id": format_message_id(sample.message_id),
                "recipient": sample.address,
                "like": sample.like,
                "text": show_content(sample.content),
            }
        )
        return
    session.show(
        f"queued a sample to {sample.address}, filled in as for {sample.like}: {format_message_id(sample.message_id)}"
    )
    from wa_cli.cli.waiting import say_who_sends

    say_who_sends(session, opened, opened.find_instance(spec.instance), count=1)


@app.command("clone")
def clone(
    context: typer.Context,
    name: NameArgument,
    new_name: Annotated[str, typer.Argument(help="The new campaign.", metavar="NEW-NAME")],
) -> None:
    """Make a new campaign file with the text of another."""
    from wa_cli.campaigns import files

    session = session_of(context)
    opened = session.open_app()
    campaign = files.find(opened, name, actor=actor())
    made, path = files.clone(opened, campaign, new_name, actor=actor())
    if session.json:
        session.show_json({**campaign_document(made), "file": str(path)})
        return
    session.show(f"created campaign {made.name} in {clean_text(path)}")
    session.hint(f"edit the file, then `wa campaign plan {made.name}`")


@app.command("delete")
def delete(context: typer.Context, name: NameArgument) -> None:
    """Forget a campaign that was never sent.

    Its file stays; the ledger of one that was sent is kept.
    """
    from wa_cli.campaigns import files

    session = session_of(context)
    opened = session.open_app()
    campaign = files.find_known(opened, name)
    session.confirm(f"forget campaign {campaign.name}? Its file stays")
    opened.campaigns.delete(campaign.id)
    if session.json:
        session.show_json({"campaign": campaign.name, "deleted": True})
    else:
        session.show(f"forgot campaign {campaign.name}")


app.command("show")(campaign_show.show)
app.command("watch")(campaign_show.watch)
app.command("report")(campaign_report.report)
app.command("export")(campaign_report.export)
