"""The report of a campaign as one HTML page: charts as inline SVG, a table beside each, no script, nothing fetched.

Geometry is worked out here; every word goes through the template, which escapes it.  No number of a person is on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from wa_cli import __version__
from wa_cli.cli.campaign_lines import describe_step
from wa_cli.cli.campaign_view import View, duration_of
from wa_cli.cli.plots import format_share
from wa_cli.cli.status import describe_span
from wa_cli.domain.report import (
    Bucket,
    Part,
    RunDetails,
    RunFigures,
    Series,
    find_ledger_error,
    keep_largest,
    make_funnel,
    share_of,
)
from wa_cli.services.documents import format_local

if TYPE_CHECKING:
    from collections.abc import Sequence
    from zoneinfo import ZoneInfo

TEMPLATE: Final = "report.html.j2"

# All charts are drawn so wide: as a phone shows them one to one, and larger where there is room.
WIDTH: Final = 360.0
NAME_WIDTH: Final = 92.0
BAR_WIDTH: Final = 150.0
ROW_HEIGHT: Final = 24.0
BAR_HEIGHT: Final = 15.0
PLOT_HEIGHT: Final = 120.0
DIGIT_WIDTH: Final = 6.5
LONGEST_NAME: Final = 14

# How the messages of a part are drawn: the class of a colour, its words, and what it holds.
SHADES: Final = (
    ("read", "read", (Bucket.READ,)),
    ("delivered", "delivered", (Bucket.DELIVERED,)),
    ("sent", "sent", (Bucket.SENT,)),
    ("waiting", "waiting", (Bucket.QUEUED, Bucket.HELD, Bucket.SENDING)),
    ("failed", "failed", (Bucket.FAILED,)),
    ("unknown", "unknown", (Bucket.UNKNOWN,)),
    ("unsent", "not sent", (Bucket.SKIPPED, Bucket.EXPIRED, Bucket.CANCELLED)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A rectangle.  shade: the class of its colour.  words: what it stands for."""

    x: float
    y: float
    width: float
    height: float
    shade: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """Words at a place.  anchor: which end of them stands there."""

    x: float
    y: float
    words: str
    anchor: str = "start"
    is_faint: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart with its table.

    key: part of ids.  text: what the chart shows, in a sentence.  told: the same for those who cannot see it, where
    that takes more words.  is_long: the table scrolls.
    shades: (class, words) of the colours where there are several.  columns, rows: the table; its first column names.
    """

    key: str
    title: str
    text: str
    height: float
    bars: tuple[Bar, ...]
    labels: tuple[Label, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    told: str | None = None
    shades: tuple[tuple[str, str], ...] = ()
    note: str | None = None
    is_long: bool = False
    has_words: bool = False


def render_page(view: View, zone: ZoneInfo) -> str:
    """The whole page.  The view was read deep."""
    from jinja2 import Environment, StrictUndefined

    assert view.figures is not None
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("wa_cli.cli").joinpath(TEMPLATE).read_text(encoding="utf-8"))
    error = find_ledger_error(view.figures)
    page: str = template.render(
        name=view.campaign.name,
        state=view.campaign.state.value,
        run=view.run.occurrence if view.run else "",
        facts=make_facts(view, zone),
        tiles=make_tiles(view.figures),
        charts=make_charts(view.figures, zone),
        ledger=[(bucket.value, f"{count:,}") for bucket, count in view.figures.buckets.items()],
        audience=f"{view.figures.audience:,}",
        problems=[f"the ledger does not add up: {error}"] if error else [],
        made_at=format_local(view.at_ms, zone),
        version=__version__,
        width=WIDTH,
    )
    return page + "\n"


def make_facts(view: View, zone: ZoneInfo) -> list[tuple[str, str]]:
    """(name, value) of what stands in the head."""
    campaign, run, figures = view.campaign, view.run, view.figures
    facts = [("Created", format_local(campaign.created_at_ms, zone))]
    if run is not None and run.started_at_ms is not None:
        facts.append(("Started", format_local(run.started_at_ms, zone)))
        if run.ended_at_ms is not None:
            facts.append(("Ended", format_local(run.ended_at_ms, zone)))
        facts.append(("Took" if run.ended_at_ms is not None else "Running for", describe_span(duration_of(view))))
    if figures is not None:
        facts.append(("Pace over the run", f"{figures.net_per_minute:,.1f} a minute"))
        if figures.waiting and figures.ends_at_ms is not None:
            facts.append(("Ends about", format_local(figures.ends_at_ms, zone)))
    if figures is not None and figures.pruned_at_ms is not None:
        facts.append(("Messages pruned", f"{format_local(figures.pruned_at_ms, zone)}; these are the sums of then"))
    if campaign.pause_reason:
        facts.append(("Paused", campaign.pause_reason))
    return facts


def make_tiles(figures: RunFigures) -> list[tuple[str, str, str]]:
    """(name, count, share of the audience) of each step of the funnel, for the eye that only skims."""
    return [(step.name, f"{step.count:,}", format_share(step.share)) for step in make_funnel(figures)]


def make_charts(figures: RunFigures, zone: ZoneInfo) -> list[Chart]:
    charts = [_draw_funnel(figures)]
    if figures.sends is not None:
        charts.append(_draw_series(figures.sends, zone))
    details = figures.details
    if details is not None and details.read_times is not None:
        charts.append(_draw_read_times(details))
    if figures.failures:
        charts.append(_draw_failures(figures))
    unsent = _count_unsent(figures)
    if unsent:
        charts.append(_draw_unsent(unsent))
    if details is not None:
        if len(details.variants) > 1:
            charts.append(_draw_parts("variants", "By variant", details.variants, has_answers=True))
        charts.append(_draw_parts("countries", "By country", keep_largest(details.countries)))
        charts.append(_draw_parts("instances", "By instance", keep_largest(details.instances)))
    return charts


def describe_limit(until_ms: int | None, after_ms: int) -> str:
    return f"over {describe_span(after_ms)}" if until_ms is None else f"up to {describe_span(until_ms)}"


# --- charts ---


def _draw_funnel(figures: RunFigures) -> Chart:
    steps = make_funnel(figures)
    told = ", ".join(f"{step.count:,} {step.name} ({format_share(step.share)})" for step in steps)
    return _draw_rows(
        "funnel",
        "Funnel",
        "From everybody down to those who answered.",
        [
            (step.name, step.share, f"{step.count:,} · {format_share(step.share)}", _shade_of(step.name))
            for step in steps
        ],
        columns=("Step", "People", "Share"),
        rows=[(step.name, f"{step.count:,}", format_share(step.share)) for step in steps],
        told=f"From everybody down to those who answered: {told}.",
        note="Sent and delivered hold those who came further, too.",
    )


def _shade_of(step: str) -> str:
    return {"failed": "failed", "unknown": "unknown", "opted out": "unsent", "recipients": "waiting"}.get(step, "read")


def _draw_series(series: Series, zone: ZoneInfo) -> Chart:
    most = max(series.counts)
    left, bottom = DIGIT_WIDTH * len(f"{most:,}") + 8, PLOT_HEIGHT + 12
    slot = (WIDTH - left) / len(series.counts)
    # A blank column beside few bars, and none beside many, which would be all blanks.
    bar = slot - min(1.0, slot / 5)
    times = [series.start_ms + place * series.step_ms for place in range(len(series.counts))]
    bars = tuple(
        Bar(
            x=left + place * slot,
            y=bottom - PLOT_HEIGHT * count / most,
            width=bar,
            height=PLOT_HEIGHT * count / most,
            shade="read",
            words=f"{format_local(at_ms, zone)}: {count:,}",
        )
        for place, (at_ms, count) in enumerate(zip(times, series.counts, strict=True))
        if count
    )
    step = describe_step(series.step_ms)
    peak = format_local(times[series.counts.index(most)], zone)
    end_ms = series.start_ms + len(series.counts) * series.step_ms
    labels = (
        Label(x=left - 4, y=bottom - PLOT_HEIGHT + 8, words=f"{most:,}", anchor="end", is_faint=True),
        Label(x=left - 4, y=bottom, words="0", anchor="end", is_faint=True),
        Label(x=left, y=bottom + 15, words=format_local(series.start_ms, zone), is_faint=True),
        Label(x=WIDTH, y=bottom + 15, words=format_local(end_ms, zone), anchor="end", is_faint=True),
    )
    return Chart(
        key="sends",
        title="Sends over time",
        text=f"{series.total:,} posts, counted each {step}; most were begun at {peak}, {most:,} of them.",
        height=bottom + 20,
        bars=bars,
        labels=labels,
        columns=(f"From, each {step}", "Posts"),
        rows=tuple(
            (format_local(at_ms, zone), f"{count:,}") for at_ms, count in zip(times, series.counts, strict=True)
        ),
        is_long=len(series.counts) > 10,
    )


def _draw_read_times(details: RunDetails) -> Chart:
    times = details.read_times
    assert times is not None
    most = max(span.count for span in times.told)
    names = []
    after_ms = 0
    for span in times.told:
        names.append(describe_limit(span.until_ms, after_ms))
        after_ms = span.until_ms or after_ms
    shares = [format_share(share_of(span.count, times.count)) for span in times.told]
    median, p90 = describe_span(times.median_ms), describe_span(times.p90_ms)
    return _draw_rows(
        "read-times",
        "Time to read",
        f"Half of the {times.count:,} who read it did so within {median}, nine of ten within {p90}.",
        [
            (name, span.count / most, f"{span.count:,} · {share}", "read")
            for name, span, share in zip(names, times.told, shares, strict=True)
        ],
        columns=("After the post", "Read", "Share"),
        rows=[(name, f"{span.count:,}", share) for name, span, share in zip(names, times.told, shares, strict=True)],
        note="People who hide that they have read a message are not among them.",
    )


def _draw_failures(figures: RunFigures) -> Chart:
    groups, total = figures.failures, sum(group.count for group in figures.failures)
    most = groups[0].count
    return _draw_rows(
        "failures",
        "Failures by reason",
        f"{total:,} messages failed; the most frequent reason is {groups[0].code}, {most:,} times.",
        [
            (
                group.code,
                group.count / most,
                f"{group.count:,} · {format_share(share_of(group.count, total))}",
                "failed",
            )
            for group in groups[:12]
        ],
        columns=("Code", "Messages", "Meaning", "What to do"),
        rows=[(group.code, f"{group.count:,}", group.meaning or "–", group.fix or "–") for group in groups],
        has_words=True,
    )


def _count_unsent(figures: RunFigures) -> dict[str, int]:
    unsent: dict[str, int] = dict(figures.left_out)
    if figures.details is not None:
        for reason, count in figures.details.unsent.items():
            unsent[reason] = unsent.get(reason, 0) + count
    return dict(sorted(unsent.items(), key=lambda item: (-item[1], item[0])))


def _draw_unsent(unsent: dict[str, int]) -> Chart:
    total, most = sum(unsent.values()), max(unsent.values())
    named = [
        (reason.replace("_", " "), count, format_share(share_of(count, total))) for reason, count in unsent.items()
    ]
    return _draw_rows(
        "unsent",
        "Who got no message, and why",
        f"{total:,} of the audience got no message; the most frequent reason is: {named[0][0]}.",
        [(reason, count / most, f"{count:,} · {share}", "unsent") for reason, count, share in named[:12]],
        columns=("Reason", "People", "Share"),
        rows=[(reason, f"{count:,}", share) for reason, count, share in named],
    )


def _draw_parts(key: str, title: str, parts: Sequence[Part], *, has_answers: bool = False) -> Chart:
    """A bar for each part, as long as its share of the largest, in the shades of what became of its messages."""
    most = max((part.total for part in parts), default=0)
    bars: list[Bar] = []
    labels: list[Label] = []
    for place, part in enumerate(parts):
        y = place * ROW_HEIGHT
        x, whole = NAME_WIDTH, (WIDTH - NAME_WIDTH - 62) / max(most, 1)
        for shade, words, buckets in SHADES:
            count = part.count(buckets)
            if count > 0:
                bars.append(
                    Bar(
                        x=x,
                        y=y + 4,
                        width=count * whole,
                        height=BAR_HEIGHT,
                        shade=shade,
                        words=f"{part.name or 'the only one'}: {count:,} {words}",
                    )
                )
                x += count * whole
        labels.append(Label(x=NAME_WIDTH - 6, y=y + 16, words=_shorten(part.name or "the only one"), anchor="end"))
        labels.append(Label(x=x + 5, y=y + 16, words=f"{part.total:,}", is_faint=True))
    used = [
        (shade, words) for shade, words, buckets in SHADES if any(part.count(buckets) for part in parts)
    ]  # fmt: skip
    columns = ("Name", "Messages", *(words.capitalize() for _shade, words in used))
    by_shade = {shade: buckets for shade, _words, buckets in SHADES}
    rows = [
        (
            part.name or "the only one",
            f"{part.total:,}",
            *(f"{part.count(by_shade[shade]):,}" for shade, _words in used),
        )
        for part in parts
    ]
    if has_answers:
        columns += ("Replied", "Clicked")
        rows = [(*row, f"{part.replied:,}", f"{part.clicked:,}") for row, part in zip(rows, parts, strict=True)]
    told = "; ".join(f"{part.name or 'the only one'} {part.total:,}" for part in parts[:6])
    return Chart(
        key=key,
        title=title,
        text="What became of the messages of each." if parts else "No message yet.",
        told=f"What became of the messages of each: {told}." if parts else None,
        height=max(len(parts), 1) * ROW_HEIGHT,
        bars=tuple(bars),
        labels=tuple(labels),
        columns=columns,
        rows=tuple(rows),
        shades=tuple(used),
    )


def _draw_rows(
    key: str,
    title: str,
    text: str,
    lines: Sequence[tuple[str, float, str, str]],
    *,
    columns: tuple[str, ...],
    rows: Sequence[tuple[str, ...]],
    told: str | None = None,
    note: str | None = None,
    has_words: bool = False,
) -> Chart:
    """lines: (name, length from 0.0 to 1.0, what stands behind the bar, shade) each."""
    bars: list[Bar] = []
    labels: list[Label] = []
    for place, (name, share, words, shade) in enumerate(lines):
        y = place * ROW_HEIGHT
        width = max(share * BAR_WIDTH, 1.0) if share > 0 else 0.0
        if width:
            bars.append(
                Bar(x=NAME_WIDTH, y=y + 4, width=width, height=BAR_HEIGHT, shade=shade, words=f"{name}: {words}")
            )
        labels.append(Label(x=NAME_WIDTH - 6, y=y + 16, words=_shorten(name), anchor="end"))
        labels.append(Label(x=NAME_WIDTH + width + 5, y=y + 16, words=words, is_faint=True))
    return Chart(
        key=key,
        title=title,
        text=text,
        height=max(len(lines), 1) * ROW_HEIGHT,
        bars=tuple(bars),
        labels=tuple(labels),
        columns=columns,
        rows=tuple(rows),
        told=told,
        note=note,
        has_words=has_words,
    )


def _shorten(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
