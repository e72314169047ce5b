"""A campaign at one moment as lines for people: the screen of `show` and `watch`, and the parts that reports share."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

from wa_cli.cli.campaign_view import RUNS_SHOWN, View, duration_of, find_commands
from wa_cli.cli.plots import Style, detect_style, draw_bar, draw_spark, format_share
from wa_cli.cli.session import Session, clean_text, format_time
from wa_cli.cli.status import describe_span
from wa_cli.domain.campaign import CampaignState
from wa_cli.domain.message import format_message_id
from wa_cli.domain.report import MINUTE_MS, Bucket, make_funnel
from wa_cli.services.documents import format_local

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from wa_cli.domain.campaign import Campaign
    from wa_cli.domain.report import RunFigures, Series

STEPS_SHOWN: Final = 4
BAR_WIDTH: Final = 48
TIED: Final = "\0"  # a blank at which no line is broken


def style_of(session: Session) -> Style:
    return detect_style(is_spoken=session.is_spoken)


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
    if figures is not None and figures.pruned_at_ms is not None:
        when = _moment(figures.pruned_at_ms, view, zone)
        fields.append(("pruned", f"{when}: these are its sums of then, its messages are gone"))
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
        if group.fix is not None:
            lines += wrap_line(f"{indent}{group.fix}", style, indent=indent)
        elif group.message_id is not None:
            fix = f"`wa message explain {format_message_id(group.message_id)}` says more"
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


def wrap_line(line: str, style: Style, *, indent: str = "  ") -> list[str]:
    """The line as lines that fit; their words stay whole where they can."""
    lines = textwrap.wrap(line, style.width, subsequent_indent=indent, break_on_hyphens=False) or [""]
    return [part.replace(TIED, " ") for part in lines]
