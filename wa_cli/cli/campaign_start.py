"""`wa campaign plan`, `apply` and `start`: everybody's text and minute are worked out, confirmed, and let go."""

from __future__ import annotations

import getpass
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from wa_cli.cli.campaign_plan import plan_document, show_plan, warn_of
from wa_cli.cli.campaign_view import NameArgument, campaign_document
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

AtOption = Annotated[str | None, typer.Option("--at", metavar="TIME", help="Instead of the file's time.")]
CanaryOption = Annotated[
    int | None, typer.Option("--canary", min=1, metavar="N", help="Send to a sample of N people first.")
]
HoldOption = Annotated[
    str | None, typer.Option("--hold", metavar="TIME", help="How long the rest waits after the sample, such as 30m.")
]
ConfirmOption = Annotated[
    str | None, typer.Option("--confirm", metavar="NAME", help="The campaign's name, instead of being asked for it.")
]


def plan(
    context: typer.Context,
    name: NameArgument,
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
    campaign, spec = files.read_again(files.find(opened, name, actor=actor()))
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


def apply(
    context: typer.Context,
    name: NameArgument,
    plan_id: Annotated[str, typer.Option("--plan", metavar="ID", help="As `wa campaign plan` printed it.")],
) -> None:
    """Send precisely what was planned.

    If the file, a list or a limit has changed since then, nothing is queued and the difference is shown (exit 7).
    """
    from wa_cli.campaigns import files, starting

    session = session_of(context)
    opened = session.open_app()
    campaign = files.find(opened, name, actor=actor())
    planned = starting.find_plan(opened, campaign, plan_id)
    progress = session.progress("queueing", int(planned.summary["audience"]))
    try:
        run = starting.apply(opened, campaign, planned, actor=actor(), on_progress=progress.set)
    finally:
        progress.close()
    _say_started(session, opened, campaign, planned, run)


def start(
    context: typer.Context,
    name: NameArgument,
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
    campaign, spec = files.read_again(files.find(opened, name, actor=actor()))
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
        run = starting.apply(opened, campaign, planned, actor=actor(), on_progress=progress.set)
    finally:
        progress.close()
    _say_started(session, opened, campaign, planned, run)


# --- what was asked for ---


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


def _read_hold(text: str) -> int:
    from wa_cli.domain.schedule import parse_wait

    try:
        return round(parse_wait(text).total_seconds() * 1000)
    except UsageError as error:
        raise UsageError(f"--hold: {error.message}", hint=error.hint, code=error.code) from error


# --- working it out ---


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


def _wrong_state(campaign: Campaign) -> Conflict:
    return Conflict(
        f"the campaign '{campaign.name}' is {campaign.state}",
        hint=f"`wa campaign clone {campaign.name} NEW-NAME` makes one that can be sent"
        if campaign.state == "cancelled"
        else f"`wa campaign show {campaign.name}` lists what can be done now",
        code="campaign_state",
    )


# --- letting it go ---


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
                **campaign_document(fresh),
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
    say_who_sends_it(session, opened, fresh, count=queued)


def _say_all_written(session: Session, campaign: Campaign, error: UsageError) -> None:
    if session.json:
        session.show_json({**campaign_document(campaign), "plan_id": None, "queued": 0})
        return
    session.show(f"campaign {campaign.name} is {campaign.state}")
    session.show_fields([("nothing to do", error.message)], indent=2)
    session.hint(error.hint or "")


def actor() -> str:
    """Who takes a step, for the campaign's history."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container without a user list
        return "cli"


def say_who_sends_it(session: Session, opened: App, campaign: Campaign, *, count: int) -> None:
    """Who will send what the campaign just queued, or what to type so that somebody does."""
    from wa_cli.campaigns.files import read_kept
    from wa_cli.cli.waiting import say_who_sends

    with suppress(NotFound, UsageError):  # a pool that is gone, or empty: its numbers send what they have
        say_who_sends(session, opened, opened.find_instance(read_kept(campaign).instance), count=count)
