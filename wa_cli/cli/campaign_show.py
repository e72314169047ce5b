"""`wa campaign show` and `wa campaign watch`: how far a campaign has come, what is wrong, and what to type next.

Reports, not verdicts: show exits 0 whatever it has to say; watch, which stays to the end, says by its exit code how the
campaign went.
"""

from __future__ import annotations

import sys
import textwrap
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from wa_cli.cli.plots import Style, detect_style, draw_bar, draw_spark, format_share
from wa_cli.cli.session import Session, clean_text, format_time, parse_duration_flag, session_of
from wa_cli.cli.status import describe_span
from wa_cli.domain.campaign import CampaignState
from wa_cli.domain.message import format_message_id
from wa_cli.domain.report import MINUTE_MS, Bucket, find_ledger_error, make_funnel
from wa_cli.services.documents import format_local

if TYPE_CHECKING:
    from collections.abc import Sequence
    from zoneinfo import ZoneInfo

    from wa_cli.bootstrap import App
    from wa_cli.domain.campaign import Campaign, CampaignChange, Run
    from wa_cli.domain.report import RunFigures, Series
    from wa_cli.store.sqlite.reports import RunLine

RUNS_SHOWN: Final = 8
CHANGES_SHOWN: Final = 20
STEPS_SHOWN: Final = 4
BAR_WIDTH: Final = 48
TIED: Final = "\0"  # a blank at which no line is broken
# Answers, failures and sends are looked up again once so many times the last look has passed: a twentieth of the time.
REST_FACTOR: Final = 20

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The campaign, or its file.")]
RunOption = Annotated[
    str | None, typer.Option("--run", metavar="OCCURRENCE", help="This run of a recurring one, not the newest.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A campaign and one of its runs at one moment.  run, figures: None where nothing has been let go.

    problems: (what is wrong, what to type) each.  is_run_named: the run was asked for by its occurrence.
    """

    at_ms: int
    campaign: Campaign
    run: Run | None
    figures: RunFigures | None
    runs: Sequence[RunLine]
    changes: Sequence[CampaignChange]
    problems: Sequence[tuple[str, str]]
    is_run_named: bool

    @property
    def is_recurring(self) -> bool:
        return self.campaign.next_occurrence_at_ms is not None or any(line.run.occurrence for line in self.runs)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it by itself."""
        if self.is_run_named and self.run is not None:
            return self.run.ended_at_ms is not None
        if self.campaign.state in (CampaignState.DRAFT, CampaignState.FINISHED, CampaignState.CANCELLED):
            return True
        return (
            not self.is_recurring
            and self.run is not None
            and self.run.state == "running"
            and self.figures is not None
            and self.figures.audience > 0
            and self.figures.unfinished == 0
        )


def show(context: typer.Context, name: NameArgument, run: RunOption = None) -> None:
    """Show how far a campaign has come, and what to type next.

    Its funnel, pace and end, its failures by reason, and the ledger in which everybody stands once.
    """
    session = session_of(context)
    view = read_view(session, name, run)
    if session.json:
        session.show_json(view_document(view))
        return
    for line in view_lines(view, session.settings.zone(), style_of(session)):
        session.show(line)


def watch(
    context: typer.Context,
    name: NameArgument,
    run: RunOption = None,
    every: Annotated[str, typer.Option("--every", metavar="DURATION", help="Time between two looks.")] = "1s",
    count: Annotated[int, typer.Option("--count", metavar="N", min=0, help="Looks to take; 0 for no end.")] = 0,
) -> None:
    """Follow a campaign to its end; leave with Ctrl-C at any time.

    Without a terminal, or with WA_ACCESSIBLE=1: one line per change; with --json one document per change.
    """
    session = session_of(context)
    seconds = max(parse_duration_flag(every, "--every"), 0.1)
    try:
        if sys.stdout.isatty() and not session.json and not session.is_spoken:
            view = _redraw(session, name, run, seconds=seconds, count=count)
        else:
            view = _follow(session, name, run, seconds=seconds, count=count)
    except KeyboardInterrupt:
        session.say(f"left; `wa campaign watch {clean_text(name)}` comes back to it")
        return
    if view.campaign.state is CampaignState.DRAFT:
        session.hint(f"nothing of it has been let go: `wa campaign start {view.campaign.name}`")
    if view.has_ended:
        raise typer.Exit(exit_code_of(view))


def exit_code_of(view: View) -> int:
    """How it went: 0 all well, 3 not everybody who was queued was written to, 5 unknown outcomes."""
    if view.figures is None:
        return 0
    buckets = view.figures.buckets
    if buckets[Bucket.UNKNOWN]:
        return 5
    unsent = sum(buckets[bucket] for bucket in (Bucket.FAILED, Bucket.SKIPPED, Bucket.EXPIRED, Bucket.CANCELLED))
    return 3 if unsent > sum(view.figures.left_out.values()) else 0


def style_of(session: Session) -> Style:
    return detect_style(is_spoken=session.is_spoken)


class _Looks:
    """One look after another.  What takes long to count is counted again only now and then."""

    def __init__(self, session: Session, name: str, run: str | None) -> None:
        self._session, self._name, self._run = session, name, run
        self._known: View | None = None
        self._again_at = 0.0

    def look(self) -> View:
        began = time.monotonic()
        if self._known is not None and began < self._again_at:
            view = read_view(self._session, self._name, self._run, known=self._known)
            if not view.has_ended:
                return view
        view = read_view(self._session, self._name, self._run)
        now = time.monotonic()
        self._known, self._again_at = view, now + (now - began) * REST_FACTOR
        return view


def _redraw(session: Session, name: str, run: str | None, *, seconds: float, count: int) -> View:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    looks, taken = _Looks(session, name, run), 0
    with Live(console=Console(), auto_refresh=False) as live:
        while True:
            view = looks.look()
            # A screen that is taller than the terminal cannot be redrawn.
            lines = view_lines(view, session.settings.zone(), style_of(session), most=live.console.height - 1)
            live.update(Text("\n".join(lines)), refresh=True)
            taken += 1
            if taken == count or view.has_ended:
                return view
            time.sleep(seconds)


def _follow(session: Session, name: str, run: str | None, *, seconds: float, count: int) -> View:
    looks, taken = _Looks(session, name, run), 0
    shown: object = None
    while True:
        view = looks.look()
        line = summary_line(view)
        if line != shown:
            shown = line
            if session.json:
                session.show_json(view_document(view))
            else:
                session.show(f"{format_time(view.at_ms - view.at_ms % 1000)} {line}")
            sys.stdout.flush()
        taken += 1
        if taken == count or view.has_ended:
            return view
        time.sleep(seconds)


# --- reading ---


def read_view(
    session: Session, name: str, occurrence: str | None, *, known: View | None = None, is_deep: bool = False
) -> View:
    """Look once.  What a dead process left on its way is turned into unknowns first, so that no number lies.

    known: an earlier look, see `read_figures`.  Raises: NotFound for a name or an occurrence that never was.
    """
    app = session.open_app()
    now_ms = app.clock.wall_ms()
    app.bury_dead(now_ms=now_ms)
    campaign = find_campaign(app, name)
    run = app.reports.find_run(campaign, occurrence)
    figures = None
    if run is not None:
        is_same = known is not None and known.run is not None and known.run.id == run.id
        figures = app.reports.read_figures(
            run, now_ms=now_ms, is_deep=is_deep, known=known.figures if known is not None and is_same else None
        )
        figures = replace(figures, failures=tuple(_explained(app, group) for group in figures.failures))
    return View(
        at_ms=now_ms,
        campaign=campaign,
        run=run,
        figures=figures,
        runs=app.reports.list_runs(campaign, limit=RUNS_SHOWN + 1),
        changes=app.campaigns.read_changes(campaign.id)[-CHANGES_SHOWN:],
        problems=_find_problems(app, campaign, run, figures, now_ms=now_ms),
        is_run_named=occurrence is not None,
    )


def find_campaign(app: App, word: str) -> Campaign:
    """The campaign of that name, or of that file; a file that is not known yet is taken in.  Raises: NotFound."""
    from pathlib import Path

    from wa_cli.campaigns import files
    from wa_cli.errors import NotFound

    try:
        return app.campaigns.find(Path(word).stem if word.endswith(".toml") else word)
    except NotFound:
        return files.find(app, word)


def _explained(app: App, group: Any) -> Any:
    from wa_cli.domain.explanation import RULE_WORDS

    if group.meaning is not None:
        return group
    meaning = app.explain_error(group.code)
    if meaning is not None:
        return replace(group, meaning=meaning.message, fix=meaning.hint)
    return replace(group, meaning=RULE_WORDS.get(group.code))


def _find_problems(
    app: App, campaign: Campaign, run: Run | None, figures: RunFigures | None, *, now_ms: int
) -> list[tuple[str, str]]:
    """What a person should act on, the gravest first."""
    problems: list[tuple[str, str]] = []
    if figures is None or run is None:
        return problems
    error = find_ledger_error(figures)
    if error is not None and run.state != "planning":
        problems.append((f"the ledger does not add up: {error}", "wa db check"))
    if campaign.state in (CampaignState.RUNNING, CampaignState.PAUSED) and figures.unfinished:
        ids = set(app.reports.find_instances(run))
        for instance in app.instances.list_all():
            if instance.id not in ids:
                continue
            if instance.paused_at_ms is not None:
                why = instance.pause_reason or "by hand"
                problems.append((f"{instance.name} is paused: {why}", f"wa instance resume {instance.name}"))
            elif campaign.state is CampaignState.RUNNING and app.leases.find_holder(instance.id, now_ms=now_ms) is None:
                problems.append((f"nobody sends for {instance.name}", "wa run   (or from cron: wa drain)"))
    if figures.buckets[Bucket.UNKNOWN]:
        problems.append((f"{figures.buckets[Bucket.UNKNOWN]:,} with an unknown outcome", "wa reconcile"))
    return problems


def find_commands(view: View) -> list[str]:
    """The commands that apply now, the likeliest first."""
    name = view.campaign.name
    verbs = {
        CampaignState.DRAFT: ("plan", "start"),
        CampaignState.SCHEDULED: ("watch", "pause", "cancel"),
        CampaignState.RUNNING: ("watch", "pause", "cancel"),
        CampaignState.PAUSED: ("resume", "cancel"),
        CampaignState.FINISHED: (),
        CampaignState.CANCELLED: (),
    }[view.campaign.state]
    commands = [f"wa campaign {verb} {name}" for verb in verbs]
    if view.campaign.state is CampaignState.DRAFT:
        commands.append(f"wa campaign test {name} --to NUMBER")
    if view.campaign.state is CampaignState.CANCELLED:
        commands.append(f"wa campaign clone {name} NEW-NAME")
    if view.figures is not None and view.run is not None:
        which = f" --run {view.run.occurrence}" if view.is_run_named else ""
        commands.append(f"wa campaign report {name}{which}")
        if view.figures.buckets[Bucket.FAILED]:
            commands += [f"wa failed list --campaign {name}", f"wa resend --campaign {name}"]
        commands.append(f"wa campaign export {name}{which}")
    return commands


# --- JSON ---


def view_document(view: View) -> dict[str, Any]:
    campaign, run, figures = view.campaign, view.run, view.figures
    return {
        "name": campaign.name,
        "state": campaign.state.value,
        "path": campaign.path,
        "created_at": format_time(campaign.created_at_ms),
        "started_at": format_time(run.started_at_ms) if run else None,
        "ended_at": format_time(run.ended_at_ms) if run else None,
        "eta": format_time(figures.ends_at_ms) if figures else None,
        "duration_seconds": duration_of(view) // 1000 if run and run.started_at_ms else None,
        "paused": {"by": campaign.paused_by, "code": campaign.pause_code, "reason": campaign.pause_reason}
        if campaign.state is CampaignState.PAUSED
        else None,
        "next_occurrence_at": format_time(campaign.next_occurrence_at_ms),
        "run": run_document(run) if run else None,
        **(figures_document(figures) if figures else {}),
        "runs": [
            {
                **run_document(line.run),
                "audience": line.audience,
                "accepted": line.accepted,
                "waiting": line.waiting,
                "failed": line.failed,
                "unknown": line.unknown,
            }
            for line in view.runs
        ],
        "changes": [
            {
                "at": format_time(change.at_ms),
                "from": change.from_state.value if change.from_state else None,
                "to": change.to_state.value,
                "actor": change.actor,
                "reason": change.reason,
            }
            for change in view.changes
        ],
        "problems": [{"message": message, "hint": hint} for message, hint in view.problems],
        "commands": find_commands(view),
        "checked_at": format_time(view.at_ms),
    }


def run_document(run: Run) -> dict[str, Any]:
    return {
        "occurrence": run.occurrence or None,
        "state": run.state,
        "created_at": format_time(run.created_at_ms),
        "started_at": format_time(run.started_at_ms),
        "ended_at": format_time(run.ended_at_ms),
        "canary_until": format_time(run.canary_until_ms),
    }


def figures_document(figures: RunFigures) -> dict[str, Any]:
    answers = figures.answers
    return {
        "audience": figures.audience,
        "buckets": {bucket.value: count for bucket, count in figures.buckets.items()},
        "left_out": dict(figures.left_out),
        "ledger_error": find_ledger_error(figures),
        "funnel": [
            {"step": step.name.replace(" ", "_"), "count": step.count, "share": round(step.share, 6)}
            for step in make_funnel(figures)
        ],
        "replied": answers.replied,
        "opted_out": answers.opted_out,
        "clicked": answers.clicked,
        "clicks": answers.clicks,
        "previews": answers.previews,
        "rate": {"per_minute": figures.per_minute, "net_per_minute": round(figures.net_per_minute, 2)},
        "failures": [
            {
                "code": group.code,
                "count": group.count,
                "meaning": group.meaning,
                "fix": group.fix,
                "example": format_message_id(group.message_id),
            }
            for group in figures.failures
        ],
        "sends": series_document(figures.sends),
    }


def series_document(series: Series | None) -> dict[str, Any] | None:
    if series is None:
        return None
    return {
        "from": format_time(series.start_ms),
        "step_seconds": series.step_ms // 1000,
        "counts": list(series.counts),
    }


# --- lines for people ---


def view_lines(view: View, zone: ZoneInfo, style: Style, *, most: int | None = None) -> list[str]:
    """The screen, no line wider than the style's width.

    most: lines there is room for, or None for all; what matters least goes first.
    """
    figures = view.figures
    # Each with its weight: the head is always there.
    sections: list[tuple[int, list[str]]] = [(9, head_lines(view, zone, style))]
    if figures is None:
        sections.append((8, [describe_nothing(view.campaign)]))
    else:
        sections.append((8, funnel_lines(figures, style)))
        sections.append((6, ledger_lines(figures, style)))
        if figures.sends is not None:
            sections.append((5, series_lines(figures.sends, zone, style)))
        if figures.failures:
            sections.append((4, failure_lines(figures, style)))
    if view.is_recurring:
        sections.append((2, _run_lines(view, style)))
    if len(view.changes) > 1:
        sections.append((1, _history_lines(view, zone, style)))
    if view.problems:
        sections.append((7, _problem_lines(view, style)))
    commands = [f"  {clean_text(command)}" for command in find_commands(view)]
    if commands:
        sections.append((3, ["what you can type", *commands]))
    while most is not None and len(sections) > 1 and sum(len(lines) + 1 for _weight, lines in sections) - 1 > most:
        sections.remove(min(sections, key=lambda section: section[0]))
    return [line for _weight, lines in sections for line in ("", *lines)][1:]


def _history_lines(view: View, zone: ZoneInfo, style: Style) -> list[str]:
    """The last steps of its life, who took each, and why."""
    lines = ["its last steps"]
    for change in view.changes[-STEPS_SHOWN:]:
        why = f": {change.reason}" if change.reason else ""
        words = f"  {format_local(change.at_ms, zone)}  {change.to_state}, by {change.actor}{why}"
        lines += wrap_line(clean_text(words), style, indent=" " * 6)
    return lines


def _problem_lines(view: View, style: Style) -> list[str]:
    lines = ["problems"]
    for message, hint in view.problems:
        lines += wrap_line(f"  ! {clean_text(message)}", style, indent="    ")
        lines += wrap_line(f"      {clean_text(hint)}", style, indent="      ")
    return lines


def describe_nothing(campaign: Campaign) -> str:
    """Why there is no run to show."""
    is_to_come = campaign.state in (CampaignState.SCHEDULED, CampaignState.PAUSED)
    return "its first run is still to come" if is_to_come else "nothing of it has been let go yet"


def summary_line(view: View) -> str:
    """One line that changes when anything worth knowing does."""
    figures = view.figures
    if figures is None:
        return f"{view.campaign.state}: {describe_nothing(view.campaign)}"
    share = format_share(figures.accepted / figures.audience if figures.audience else 0.0)
    words = [f"{figures.accepted:,} of {figures.audience:,} sent ({share})"]
    words += [
        f"{figures.buckets[bucket]:,} {bucket}"
        for bucket in Bucket
        if figures.buckets[bucket] and bucket is not Bucket.SENT
    ]
    if figures.ends_at_ms is not None:
        words.append(f"ends {format_time(-(-figures.ends_at_ms // MINUTE_MS) * MINUTE_MS)}")
    reason = f" ({clean_text(view.campaign.pause_reason)})" if view.campaign.pause_reason else ""
    return f"{view.campaign.state}{reason}: {', '.join(words)}"


def head_lines(view: View, zone: ZoneInfo, style: Style) -> list[str]:
    """Which campaign, which run, and its times."""
    campaign, run, figures = view.campaign, view.run, view.figures
    title = f"{campaign.name}  {campaign.state}"
    if run is not None and run.occurrence:
        title += f"  run {run.occurrence}" + (f" ({run.state})" if run.state != campaign.state else "")
    fields = [("created", _moment(campaign.created_at_ms, view, zone))]
    if campaign.state is CampaignState.PAUSED:
        who = "by wa" if campaign.paused_by == "wa" else "by hand"
        fields.append(("paused", f"{who}: {campaign.pause_reason}" if campaign.pause_reason else who))
    if campaign.next_occurrence_at_ms is not None:
        fields.append(("next run", _moment(campaign.next_occurrence_at_ms, view, zone)))
    has_begun = run is None or run.started_at_ms is None or run.started_at_ms <= view.at_ms
    if run is not None and run.started_at_ms is not None:
        fields.append(("started" if has_begun else "begins", _moment(run.started_at_ms, view, zone)))
        if run.ended_at_ms is not None:
            fields.append(("ended", _moment(run.ended_at_ms, view, zone)))
            fields.append(("took", describe_span(duration_of(view))))
        elif has_begun:
            fields.append(("running", f"for {describe_span(duration_of(view))}"))
    if run is not None and run.canary_until_ms is not None and run.canary_judged_at_ms is None:
        fields.append(("canary", f"the rest waits until {_moment(run.canary_until_ms, view, zone)}"))
    if figures is not None and figures.waiting and figures.ends_at_ms is not None:
        fields.append(("ends", f"about {_moment(figures.ends_at_ms, view, zone)}"))
    if figures is not None and has_begun:
        now = "" if run is not None and run.ended_at_ms is not None else f"{figures.per_minute:,} a minute now, "
        each = " a minute" if not now else ""
        fields.append(("pace", f"{now}{figures.net_per_minute:,.1f}{each} over the run"))
    width = max(len(name) for name, _value in fields)
    return wrap_line(title, style) + [
        line
        for name, value in fields
        for line in wrap_line(f"{name:<{width}}  {clean_text(value)}", style, indent=" " * (width + 2))
    ]


def funnel_lines(figures: RunFigures, style: Style) -> list[str]:
    """Counts and shares of the audience, with bars as far as there is room."""
    steps = make_funnel(figures)
    numbers = [f"{step.count:,}" for step in steps]
    width = max(len(number) for number in numbers)
    names = max(len(step.name) for step in steps)
    room = min(style.width - names - width - 12, BAR_WIDTH)
    return [
        f"{step.name:<{names}}  {number:>{width}}  {format_share(step.share):>6}  "
        f"{draw_bar(step.share, 1.0, style, width=room)}".rstrip()
        for step, number in zip(steps, numbers, strict=True)
    ]


def ledger_lines(figures: RunFigures, style: Style) -> list[str]:
    """The buckets that are not empty, and who was left out: together everybody."""
    words = [f"{count:,}{TIED}{bucket}" for bucket, count in figures.buckets.items() if count] or ["nobody"]
    total = f"={TIED}{sum(figures.buckets.values()):,}"
    lines = wrap_line(f"ledger  {f' +{TIED}'.join(words)} {total}", style, indent=" " * 8)
    if figures.left_out:
        reasons = sorted(figures.left_out.items(), key=lambda item: (-item[1], item[0]))
        told = ", ".join(f"{count:,}{TIED}{clean_text(reason).replace('_', TIED)}" for reason, count in reasons)
        lines += wrap_line(f"        of these left out before sending: {told}", style, indent=" " * 8)
    return lines


def series_lines(series: Series, zone: ZoneInfo, style: Style) -> list[str]:
    """Posts over time as a sparkline between its two ends."""
    step = describe_step(series.step_ms)
    most = max(series.counts)
    peak_at = series.start_ms + series.counts.index(most) * series.step_ms
    what = f"posts each {step}: {series.total:,} in all, most {most:,} at {format_local(peak_at, zone)}"
    lines = wrap_line(what, style)
    if style.is_spoken or len(series.counts) < 2:
        return lines
    first = format_local(series.start_ms, zone)
    last = format_local(series.start_ms + len(series.counts) * series.step_ms, zone)
    spark = draw_spark(series.counts, style)
    return [*lines, spark, f"{first} {'to':^{max(len(spark) - len(first) - len(last) - 2, 2)}} {last}"]


def describe_step(step_ms: int) -> str:
    """`minute`, `5 min`, `hour`: how long each count of a series lasts."""
    return {"1 min": "minute", "1 h": "hour", "1 d": "day"}.get(words := describe_span(step_ms), words)


def failure_lines(figures: RunFigures, style: Style) -> list[str]:
    """What failed, grouped by its code, with what each means and what to do about it."""
    width = max(len(f"{group.count:,}") for group in figures.failures)
    lines = ["failed because of"]
    for group in figures.failures:
        meaning = f": {group.meaning}" if group.meaning else ""
        indent = " " * (width + 4)
        lines += wrap_line(f"  {group.count:>{width},}  {clean_text(group.code)}{meaning}", style, indent=indent)
        fix = group.fix or f"`wa message explain {format_message_id(group.message_id)}` says more"
        lines += wrap_line(f"{indent}{fix}", style, indent=indent)
    return lines


def _run_lines(view: View, style: Style) -> list[str]:
    lines = ["runs, the newest first"]
    width = max((len(line.run.occurrence) for line in view.runs), default=0)
    for line in view.runs[:RUNS_SHOWN]:
        words = f"  {line.run.occurrence:<{width}}  {line.run.state}"
        if line.audience:
            words += f"  {line.accepted:,} of {line.audience:,} sent"
            words += f", {line.failed:,} failed" if line.failed else ""
            words += f", {line.unknown:,} unknown" if line.unknown else ""
        lines += wrap_line(words, style, indent=" " * (width + 4))
    if len(view.runs) > RUNS_SHOWN:
        lines.append("  and earlier ones")
    if not view.runs:
        lines.append("  none yet")
    return lines


def _moment(at_ms: int, view: View, zone: ZoneInfo) -> str:
    away = at_ms - view.at_ms
    how = f"in {describe_span(away)}" if away >= 1000 else f"{describe_span(-away)} ago" if away <= -1000 else "now"
    return f"{format_local(at_ms, zone)} ({how})"


def duration_of(view: View) -> int:
    if view.run is None or view.run.started_at_ms is None:
        return 0
    return max((view.run.ended_at_ms or view.at_ms) - view.run.started_at_ms, 0)


def wrap_line(line: str, style: Style, *, indent: str = "  ") -> list[str]:
    """The line as lines that fit; their words stay whole where they can."""
    lines = textwrap.wrap(line, style.width, subsequent_indent=indent, break_on_hyphens=False) or [""]
    return [part.replace(TIED, " ") for part in lines]
