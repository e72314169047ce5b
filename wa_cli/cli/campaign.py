"""`wa campaign`: from a file to a plan, letting it go, and stopping it."""

from __future__ import annotations

import getpass
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from wa_cli.cli import campaign_report, campaign_show
from wa_cli.cli.campaign_plan import plan_document, show_plan, warn_of
from wa_cli.cli.commands import NOUNS
from wa_cli.cli.importing import count_of
from wa_cli.cli.session import Session, clean_text, format_time, session_of
from wa_cli.errors import Conflict, NotFound, Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wa_cli.bootstrap import App
    from wa_cli.domain.campaign import Campaign, CampaignSpec, Run
    from wa_cli.domain.plan import Plan, PlanSummary

# From so many messages on, a yes is not enough: the campaign's name has to be typed.
NAMED_FROM: Final = 51
OCCURRENCES_SHOWN: Final = 3
app = typer.Typer(no_args_is_help=True, help=NOUNS["campaign"])

Name = Annotated[str, typer.Argument(help="The campaign, or its file.", metavar="NAME")]
AtOption = Annotated[str | None, typer.Option("--at", metavar="TIME", help="Instead of the file's time.")]
CanaryOption = Annotated[
    int | None, typer.Option("--canary", min=1, metavar="N", help="Send to a sample of N people first.")
]
HoldOption = Annotated[
    str | None, typer.Option("--hold", metavar="TIME", help="How long the rest waits after the sample, such as 30m.")
]
ReasonOption = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why, for its history.")]
ConfirmOption = Annotated[
    str | None, typer.Option("--confirm", metavar="NAME", help="The campaign's name, instead of being asked for it.")
]


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
    campaign, spec, is_new = files.create(opened, files.find_file(file) or Path(file), actor=_actor())
    if session.json:
        session.show_json({**_describe(campaign), "created": is_new})
        return
    session.show(f"{'created' if is_new else 'read again:'} campaign {campaign.name}, {campaign.state}")
    if campaign.state == "draft":
        session.hint(f"`wa campaign plan {campaign.name}` shows exactly what would happen")
    elif spec.is_recurring and campaign.state == "scheduled":
        session.say("its occurrences to come go by this text; those that have begun stay as they are")


@app.command("validate")
def validate(context: typer.Context, name: Name) -> None:
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
                    {**_describe(campaign), "audience": progress.audience, "sent": progress.sent,
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


@app.command("plan")
def plan(
    context: typer.Context,
    name: Name,
    at: AtOption = None,
    canary: CanaryOption = None,
    hold: HoldOption = None,
    left_out: Annotated[
        str | None, typer.Option("--left-out", metavar="FILE", help="A new CSV of those who get nothing, and why.")
    ] = None,
) -> None:
    """Work out everybody's text and minute, and freeze it.

    Nothing is queued. It ends with a plan id; `wa campaign apply NAME --plan ID` sends precisely that.
    """
    from wa_cli.campaigns import files, planning

    session = session_of(context)
    opened = session.open_app(create=True)
    campaign, spec = files.read_again(files.find(opened, name, actor=_actor()))
    if campaign.state == "cancelled":
        raise _wrong_state(campaign)
    options = _read_options(at, canary, hold)
    planned, summary = _plan(session, opened, campaign, planning.with_options(spec, options), options)
    occurrences = planning.list_occurrences(opened, spec, count=OCCURRENCES_SHOWN)
    if left_out is not None:
        _write_left_out(opened, planned, left_out)
    if session.json:
        session.show_json(plan_document(campaign, planned, summary, occurrences))
        return
    show_plan(session, opened, campaign, spec, planned, summary, occurrences)
    if left_out is not None:
        session.say(f"wrote the {sum(summary.by_reason.values()):,} left out to {clean_text(left_out)}")
    session.say("nothing is queued yet")
    if campaign.state in ("scheduled", "running"):
        session.hint(f"it is {campaign.state}: `wa campaign pause {campaign.name}`, then plan again and apply that")
        return
    does = "puts it on the calendar" if spec.is_recurring else "sends precisely this"
    session.hint(f"`wa campaign apply {campaign.name} --plan {planned.word}` {does}")


@app.command("apply")
def apply(
    context: typer.Context,
    name: Name,
    plan_id: Annotated[str, typer.Option("--plan", metavar="ID", help="As `wa campaign plan` printed it.")],
) -> None:
    """Send precisely what was planned.

    If the file, a list or a limit has changed since then, nothing is queued and the difference is shown (exit 7).
    """
    from wa_cli.campaigns import files, starting

    session = session_of(context)
    opened = session.open_app()
    campaign = files.find(opened, name, actor=_actor())
    planned = starting.find_plan(opened, campaign, plan_id)
    progress = session.progress("queueing", int(planned.summary["audience"]))
    try:
        run = starting.apply(opened, campaign, planned, actor=_actor(), on_progress=progress.set)
    finally:
        progress.close()
    _say_started(session, opened, campaign, planned, run)


@app.command("start")
def start(
    context: typer.Context,
    name: Name,
    at: AtOption = None,
    canary: CanaryOption = None,
    hold: HoldOption = None,
    confirm: ConfirmOption = None,
) -> None:
    """Plan a campaign, show it, and send it once you confirm.

    Up to 50 messages a yes is enough (--yes in scripts); for more the campaign's name has to be typed (--confirm NAME).

    Example: wa campaign start gala --canary 50 --hold 30m
    """
    from wa_cli.campaigns import files, planning, starting

    session = session_of(context)
    opened = session.open_app(create=True)
    campaign, spec = files.read_again(files.find(opened, name, actor=_actor()))
    if campaign.state not in ("draft", "paused", "finished"):
        raise _wrong_state(campaign)
    options = _read_options(at, canary, hold)
    try:
        planned, summary = _plan(session, opened, campaign, planning.with_options(spec, options), options)
    except UsageError as error:
        if error.code != "all_written":
            raise
        _say_all_written(session, campaign, error)  # started a second time: it is done already
        return
    if not session.json:
        if session.yes or confirm is not None:  # nobody is asked, so nobody needs the page
            warn_of(session, summary)
        else:
            occurrences = planning.list_occurrences(opened, spec, count=OCCURRENCES_SHOWN)
            show_plan(session, opened, campaign, spec, planned, summary, occurrences)
    try:
        _confirm(session, campaign, summary, confirm=confirm, is_recurring=spec.is_recurring)
    except Refused:
        opened.plans.drop_plan(planned.id)
        raise
    progress = session.progress("queueing", summary.audience)
    try:
        run = starting.apply(opened, campaign, planned, actor=_actor(), on_progress=progress.set)
    finally:
        progress.close()
    _say_started(session, opened, campaign, planned, run)


@app.command("pause")
def pause(context: typer.Context, name: Name, reason: ReasonOption = None) -> None:
    """Hold everything of a campaign that has not left.

    From the moment this returns nothing more starts.
    """
    from wa_cli.campaigns import files

    session = session_of(context)
    opened = session.open_app()
    campaign = files.find_known(opened, name)
    changed = opened.campaigns.step(
        campaign.id, _state("paused"), actor=_actor(), reason=reason, now_ms=opened.clock.wall_ms()
    )
    in_flight = sum(opened.campaigns.count_sending(run.id) for run in opened.campaigns.list_runs(campaign.id))
    if session.json:
        session.show_json({"campaign": campaign.name, "state": "paused", "changed": changed, "in_flight": in_flight})
        return
    waiting = "" if not in_flight else f"; {count_of(in_flight, 'post')} on the way will still have an outcome"
    session.show(f"campaign {campaign.name} {'paused' if changed else 'was paused already'}{waiting}")
    session.hint(f"`wa campaign resume {campaign.name}` goes on, `wa campaign cancel {campaign.name}` ends it")


@app.command("resume")
def resume(context: typer.Context, name: Name, reason: ReasonOption = None) -> None:
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
    state = standing.resume(opened, campaign, actor=_actor(), reason=reason)
    if session.json:
        session.show_json({"campaign": campaign.name, "state": state})
        return
    session.show(f"campaign {campaign.name} goes on: {state}")
    _say_who_sends(session, opened, campaign, count=1)


@app.command("cancel")
def cancel(context: typer.Context, name: Name, reason: ReasonOption = None) -> None:
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
    cancelled = standing.cancel(opened, campaign, actor=_actor(), reason=reason)
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
    name: Name,
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
    campaign, spec = files.read_again(files.find(opened, name, actor=_actor()))
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
    name: Name,
    new_name: Annotated[str, typer.Argument(help="The new campaign.", metavar="NEW-NAME")],
) -> None:
    """Make a new campaign file with the text of another."""
    from wa_cli.campaigns import files

    session = session_of(context)
    opened = session.open_app()
    campaign = files.find(opened, name, actor=_actor())
    made, path = files.clone(opened, campaign, new_name, actor=_actor())
    if session.json:
        session.show_json({**_describe(made), "file": str(path)})
        return
    session.show(f"created campaign {made.name} in {clean_text(path)}")
    session.hint(f"edit the file, then `wa campaign plan {made.name}`")


@app.command("delete")
def delete(context: typer.Context, name: Name) -> None:
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


# --- shared ----------------------------------------------------------------------------------------------------------


def _wrong_state(campaign: Campaign) -> Conflict:
    return Conflict(
        f"the campaign '{campaign.name}' is {campaign.state}",
        hint=f"`wa campaign clone {campaign.name} NEW-NAME` makes one that can be sent"
        if campaign.state == "cancelled"
        else f"`wa campaign show {campaign.name}` lists what can be done now",
        code="campaign_state",
    )


def _actor() -> str:
    """Who takes a step, for the campaign's history."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container without a user list
        return "cli"


def _state(word: str) -> Any:
    from wa_cli.domain.campaign import CampaignState

    return CampaignState(word)


def _read_options(at: str | None, canary: int | None, hold: str | None) -> dict[str, Any]:
    """What was asked for beside the file."""
    if hold is not None and canary is None:
        raise UsageError("--hold goes with --canary", hint="for example --canary 50 --hold 30m")
    options: dict[str, Any] = {}
    if at is not None:
        options["at"] = at
    if canary is not None:
        options["canary"] = canary
        if hold is not None:
            options["hold_ms"] = _read_hold(hold)
    return options


def _write_left_out(opened: App, planned: Plan, file: str) -> None:
    """Everybody whom a plan leaves out, with whole numbers: the file is its reader's alone."""
    import csv
    from pathlib import Path

    from wa_cli.cli.private_file import new_private_file
    from wa_cli.sources.recipients import guard

    with new_private_file(Path(file), force=False) as out:
        writer = csv.writer(out)
        writer.writerow(("recipient", "reason", "details"))
        for address, reason, details in opened.plans.iterate_left_out(planned.id):
            writer.writerow((guard(address), reason, guard(details)))


def _read_hold(text: str) -> int:
    from wa_cli.domain.schedule import parse_wait

    try:
        return round(parse_wait(text).total_seconds() * 1000)
    except UsageError as error:
        raise UsageError(f"--hold: {error.message}", hint=error.hint, code=error.code) from error


def _plan(
    session: Session, opened: App, campaign: Campaign, spec: CampaignSpec, options: Mapping[str, Any]
) -> tuple[Plan, PlanSummary]:
    from wa_cli.campaigns import planning

    lines = _PlanProgress(session)
    try:
        return planning.plan(
            opened, campaign, spec, planning.next_turn(opened, spec), options=options, on_progress=lines.note
        )
    finally:
        lines.close()


class _PlanProgress:
    """Says how far a long plan has come: a line for each of its passes, drawn over itself on a terminal."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._what = ""
        self._line: Any = None

    def note(self, what: str, count: int) -> None:
        if what != self._what:
            self.close()
            self._what = what
            self._line = self._session.progress(what, 0) if count >= 1000 else None
        elif self._line is None and count >= 1000:
            self._line = self._session.progress(what, 0)
        if self._line is not None:
            self._line.set(count)

    def close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None


def _confirm(
    session: Session, campaign: Campaign, summary: PlanSummary, *, confirm: str | None, is_recurring: bool
) -> None:
    """The ladder: a yes for a few messages, the campaign's name for many."""
    if confirm is not None:
        if confirm != campaign.name:
            raise Refused(
                f"not confirmed: --confirm is '{confirm}', the campaign is '{campaign.name}'",
                hint=f"--confirm {campaign.name}",
                code="not_confirmed",
            )
        return
    messages = count_of(summary.queued, "message")
    what = f"send {messages} each time, as its audience stands now" if is_recurring else f"send {messages}"
    if summary.queued < NAMED_FROM:
        session.confirm(f"{what}?")
        return
    if not session.can_ask():
        sample = "" if is_recurring or summary.canary else ", or --canary 20 beside it to send a sample first"
        raise Refused(
            f"not confirmed: {messages} (from {NAMED_FROM} on a yes is not enough)",
            hint=f"add --confirm {campaign.name}{sample}",
            code="not_confirmed",
        )
    if not is_recurring and not summary.canary:
        session.hint("`--canary 20` sends a sample first, and the rest only if it goes well")
    typed = session.ask(f"type the campaign's name to {what}")
    if typed.strip() != campaign.name:
        raise Refused("stopped: that is not the campaign's name", hint="nothing was queued", code="not_confirmed")


def _say_started(session: Session, opened: App, campaign: Campaign, planned: Plan, run: Run | None) -> None:
    fresh = opened.campaigns.read(campaign.id)
    queued = 0 if run is None else int(planned.summary["queued"])
    if session.json:
        session.show_json(
            {
                **_describe(fresh),
                "plan_id": planned.word,
                "queued": queued,
                "excluded": 0 if run is None else sum(planned.summary["by_reason"].values()),
                "first_at": format_time(int(planned.summary["first_at_ms"])),
                "last_at": format_time(int(planned.summary["last_at_ms"])),
            }
        )
        return
    if run is None:
        assert fresh.next_occurrence_at_ms is not None
        session.show(f"campaign {fresh.name} is on the calendar; its audience is gathered anew each time")
        session.show_fields([("next", session.describe_time(fresh.next_occurrence_at_ms))], indent=2)
        session.hint("`wa run` starts each occurrence; `wa drain` from cron does so too")
        return
    session.show(f"campaign {fresh.name} is {fresh.state}: {count_of(queued, 'message')} queued")
    left_out = sum(planned.summary["by_reason"].values())
    session.show_fields(
        [
            *([("left out", f"{left_out:,}")] if left_out else []),
            ("first", session.describe_time(int(planned.summary["first_at_ms"]))),
            ("last", session.describe_time(int(planned.summary["last_at_ms"]))),
        ],
        indent=2,
    )
    session.hint(f"`wa campaign watch {fresh.name}` follows it, `wa campaign pause {fresh.name}` holds it")
    _say_who_sends(session, opened, fresh, count=queued)


def _say_who_sends(session: Session, opened: App, campaign: Campaign, *, count: int) -> None:
    from wa_cli.campaigns.files import read_kept
    from wa_cli.cli.waiting import say_who_sends

    with suppress(NotFound, UsageError):  # a pool that is gone, or empty: its numbers send what they have
        say_who_sends(session, opened, opened.find_instance(read_kept(campaign).instance), count=count)


def _say_all_written(session: Session, campaign: Campaign, error: UsageError) -> None:
    if session.json:
        session.show_json({**_describe(campaign), "plan_id": None, "queued": 0})
        return
    session.show(f"campaign {campaign.name} is {campaign.state}")
    session.show_fields([("nothing to do", error.message)], indent=2)
    session.hint(error.hint or "")


def _describe(campaign: Campaign) -> dict[str, Any]:
    return {
        "id": str(campaign.id),
        "campaign": campaign.name,
        "state": campaign.state,
        "file": campaign.path,
        "created_at": format_time(campaign.created_at_ms),
        "changed_at": format_time(campaign.changed_at_ms),
        "pause_reason": campaign.pause_reason,
        "next_occurrence_at": None
        if campaign.next_occurrence_at_ms is None
        else format_time(campaign.next_occurrence_at_ms),
    }
