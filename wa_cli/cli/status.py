"""`wa status` and `wa watch`: what is going on, what is wrong, what to type next.

A report, not a verdict: it exits 0 whatever it has to say.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from wa_cli.cli.session import Session, clean_text, format_time, session_of
from wa_cli.services.documents import instance_document as instance_document

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wa_cli.bootstrap import App
    from wa_cli.domain.campaign import Campaign
    from wa_cli.domain.pacing import Limits
    from wa_cli.ports import Holder, Instance
    from wa_cli.services.instances import InstanceReport
    from wa_cli.services.status import Trouble
    from wa_cli.store.sqlite.pruned import Pruned

WIDEST: Final = 80
FAILURES_COUNTED: Final = 10_000
CAMPAIGNS_SHOWN: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignLine:
    """A campaign that has been let go and has not ended.  total: its messages; done: those that wait no more."""

    name: str
    state: str
    done: int
    total: int
    next_occurrence_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that `wa status` shows, read at one moment.  database_bytes: None without a database."""

    at_ms: int
    database: str
    database_bytes: int | None
    stats: dict[str, int]
    retries: int
    limited_recipients: int
    limits: dict[str, Limits]
    instances: list[InstanceReport]
    started_last_minute: dict[str, int]
    troubles: list[Trouble]
    campaigns: list[CampaignLine] = field(default_factory=list)
    pruned: Pruned | None = None

    @property
    def daemon(self) -> Holder | None:
        return next((one.holder for one in self.instances if one.holder and one.holder.role == "daemon"), None)


def status(context: typer.Context) -> None:
    """Show what is going on, what is wrong, and what to type next."""
    session = session_of(context)
    report = read_report(session)
    if session.json:
        session.show_json(report_document(report))
        return
    for line in report_lines(report):
        session.show(line)


def watch(
    context: typer.Context,
    every: Annotated[str, typer.Option("--every", metavar="DURATION", help="Time between two looks.")] = "1s",
    count: Annotated[
        int, typer.Option("--count", metavar="N", min=0, help="Looks to take; 0 goes on until Ctrl-C.")
    ] = 0,
) -> None:
    """Show the status again each second until Ctrl-C. Without a terminal: one line per change, or JSON Lines."""
    from wa_cli.cli.session import parse_duration_flag

    session = session_of(context)
    seconds = max(parse_duration_flag(every, "--every"), 0.1)
    try:
        if sys.stdout.isatty() and not session.json and not session.is_spoken:
            _redraw(session, seconds=seconds, count=count)
        else:
            _follow(session, seconds=seconds, count=count)
    except KeyboardInterrupt:
        return  # the way one leaves it


def _redraw(session: Session, *, seconds: float, count: int) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(), auto_refresh=False) as live:
        looks = 0
        while True:
            live.update(Text("\n".join(report_lines(read_report(session)))), refresh=True)
            looks += 1
            if looks == count:
                return
            time.sleep(seconds)


def _follow(session: Session, *, seconds: float, count: int) -> None:
    shown: object = None
    looks = 0
    while True:
        report = read_report(session)
        line = summary_line(report)
        if line != shown:
            shown = line
            if session.json:
                session.show_json(report_document(report))
            else:
                session.show(f"{format_time(report.at_ms - report.at_ms % 1000)} {line}")
            sys.stdout.flush()
        looks += 1
        if looks == count:
            return
        time.sleep(seconds)


# --- reading ---


def read_report(session: Session) -> Report:
    """Look once.  What a dead process left on its way is turned into unknowns first, so that no number lies."""
    from wa_cli.services.status import DOUBLES_SHOWN_MS, find_troubles, read_pace

    path = session.settings.database_path()
    if not path.exists():
        return _report_without_database(session)
    app = session.open_app()
    now_ms = app.clock.wall_ms()
    app.bury_dead(now_ms=now_ms)
    instances = [read_instance(app, instance, now_ms=now_ms) for instance in known_instances(app)]
    pace = read_pace(app.upkeep, [one.instance for one in instances], app.limits, now_ms=now_ms)
    stats = app.messages.read_stats()
    undismissed = app.upkeep.count_undismissed(most=FAILURES_COUNTED) if stats["failed"] else 0
    active = app.campaigns.list_active()
    return Report(
        at_ms=now_ms,
        database=str(path),
        database_bytes=path.stat().st_size,
        stats=stats,
        retries=app.messages.count_waiting_retries(),
        limited_recipients=pace.limited,
        limits={one.instance.name: app.limits(one.instance) for one in instances},
        instances=instances,
        started_last_minute=pace.started,
        troubles=find_troubles(
            stats,
            instances,
            undismissed=undismissed,
            fixes=_find_fixes(app, instances),
            now_ms=now_ms,
            doubles=app.upkeep.read_doubles(since_ms=now_ms - DOUBLES_SHOWN_MS),
            held_templates=app.upkeep.read_held_templates(now_ms=now_ms),
            unreadable_webhooks=app.webhooks.count_failed(),
            campaigns=active,
        ),
        campaigns=[_read_campaign(app, campaign) for campaign in active],
        pruned=app.messages.read_pruned(),
    )


def _read_campaign(app: App, campaign: Campaign) -> CampaignLine:
    counts: Counter[str] = Counter()
    for (state, _receipt), n in app.campaigns.count_newest_run(campaign.id).items():
        counts[state] += n
    total = counts.total()
    return CampaignLine(
        name=campaign.name,
        state=campaign.state,
        done=total - counts["queued"] - counts["sending"],
        total=total,
        next_occurrence_at_ms=campaign.next_occurrence_at_ms,
    )


def _find_fixes(app: App, instances: list[InstanceReport]) -> dict[str, str]:
    codes = {one.instance.pause_code for one in instances if one.instance.pause_code is not None}
    meanings = {code: app.explain_error(code) for code in codes}
    return {code: meaning.hint for code, meaning in meanings.items() if meaning is not None and meaning.hint}


def _report_without_database(session: Session) -> Report:
    from wa_cli.bootstrap import SystemClock
    from wa_cli.domain.receipt import Standing
    from wa_cli.services.status import Trouble

    path = str(session.settings.database_path())
    return Report(
        at_ms=SystemClock().wall_ms(),
        database=path,
        database_bytes=None,
        stats={standing.value: 0 for standing in Standing},
        retries=0,
        limited_recipients=0,
        limits={},
        instances=[],
        started_last_minute={},
        troubles=[Trouble(code="no_database", message=f"there is no database at {path}", hint="wa init")],
    )


def known_instances(app: App) -> list[Instance]:
    """Every instance; the default one stands in until anything has been stored for it."""
    from wa_cli.accounts import DEFAULT_INSTANCE
    from wa_cli.ports import Instance

    return app.instances.list_all() or [Instance(id=0, name=DEFAULT_INSTANCE, transport="cloud_api")]


def read_instance(app: App, instance: Instance, *, now_ms: int) -> InstanceReport:
    from wa_cli.services.instances import read_instance

    return read_instance(
        instance,
        missing=app.accounts.find_missing(instance),
        depths=app.upkeep,
        due_times=app.messages,
        leases=app.leases,
        now_ms=now_ms,
    )


# --- JSON ---


def report_document(report: Report) -> dict[str, Any]:
    daemon = report.daemon
    return {
        "stats": report.stats,
        "throttling": {"activeRateLimits": report.limited_recipients},
        "deliveryFailures": {"pending": report.retries},
        "queue": {"waiting": report.stats["queued"]},
        "daemon": {
            "running": daemon is not None,
            "pid": daemon.pid if daemon else None,
            "host": daemon.host if daemon else None,
            "since": format_time(daemon.since_ms) if daemon else None,
        },
        "instances": [
            instance_document(one)
            | {
                "limits": asdict(report.limits[one.instance.name]),
                "started_last_minute": report.started_last_minute[one.instance.name],
            }
            for one in report.instances
        ],
        "campaigns": [
            {
                "campaign": one.name,
                "state": one.state,
                "done": one.done,
                "total": one.total,
                "next_occurrence_at": None
                if one.next_occurrence_at_ms is None
                else format_time(one.next_occurrence_at_ms),
            }
            for one in report.campaigns
        ],
        "problems": [asdict(trouble) for trouble in report.troubles],
        "pruned": None
        if report.pruned is None
        else {
            "messages": report.pruned.messages,
            "stats": dict(report.pruned.counts),
            "before": format_time(report.pruned.before_ms),
        },
        "database": {"path": report.database, "bytes": report.database_bytes},
        "checked_at": format_time(report.at_ms),
    }


# --- lines for people ---


def report_lines(report: Report) -> list[str]:
    """The screen, at most 80 columns wide; what does not fit into a narrower one goes on below, and nothing is cut."""
    daemon = report.daemon
    running = (
        f"running (pid {daemon.pid}, {describe_span(report.at_ms - daemon.since_ms)})" if daemon else "not running"
    )
    ready = sum(one.standing == "ready" for one in report.instances)
    size = "none yet" if report.database_bytes is None else _describe_bytes(report.database_bytes)
    instances = f"instances {ready}/{len(report.instances)} ready"
    lines = _fit("wa  ", (running, f"database {size}", instances))
    width = max((len(one.instance.name) for one in report.instances), default=0)
    lines += [line for one in report.instances for line in _instance_lines(report, one, width)]
    stats = report.stats
    ends = ("failed", "skipped", "expired", "cancelled")
    lines += ["", *_fit("queue    ", _numbers(stats, queued="waiting", sending="sending", unknown="unknown"))]
    lines += _fit("done     ", _numbers(stats, sent="sent", delivered="delivered", read="read"))
    lines += _fit("not sent ", _numbers(stats, **{word: word for word in ends}))
    if report.pruned is not None:
        day = str(format_time(report.pruned.before_ms))[:10]
        lines += _fit("pruned   ", (f"{report.pruned.messages:,} more, older than {day}",))
    if report.retries or report.limited_recipients:
        pace = (f"{report.retries:,} waiting for a retry", f"{report.limited_recipients:,} written to just now")
        lines += _fit("pace     ", pace)
    if report.campaigns:
        lines.append("")
        lines += [line for one in report.campaigns[:CAMPAIGNS_SHOWN] for line in _campaign_lines(report, one)]
        if len(report.campaigns) > CAMPAIGNS_SHOWN:
            lines.append(f"  and {len(report.campaigns) - CAMPAIGNS_SHOWN} more: wa campaign list")
    if report.troubles:
        lines += ["", "problems"]
        for trouble in report.troubles:
            lines += _trouble_lines(clean_text(trouble.message), trouble.hint)
    return lines


def summary_line(report: Report) -> str:
    """One line that changes when anything worth knowing does."""
    words = [f"{number:,} {name}" for name, number in report.stats.items() if number] or ["nothing queued"]
    words.append("daemon running" if report.daemon else "no daemon")
    words += [f"{clean_text(one.instance.name)} {one.standing}" for one in report.instances if one.standing != "ready"]
    return ", ".join(words)


def _instance_lines(report: Report, one: InstanceReport, width: int) -> list[str]:
    pace = f"{report.started_last_minute[one.instance.name]:,}/min"
    most = _most_a_minute(report.limits[one.instance.name])
    pace += f" of {most:,}" if most else ""
    if one.standing == "paused" and one.instance.paused_at_ms is not None:
        doing = f"for {describe_span(report.at_ms - one.instance.paused_at_ms)}, {one.waiting:,} waiting"
    elif one.instance.connection is not None and one.standing.value == one.instance.connection.value != "ready":
        doing = one.reason or ""
    elif one.standing == "restricted" and one.restriction is not None:
        until_ms = one.restriction.until_ms
        end = f"for {describe_span(until_ms - report.at_ms)} more" if until_ms is not None else "until somebody resumes"
        doing = f"{end}: {one.reason}"
    elif one.standing == "resting":
        doing = f"until {describe_span(one.instance.rests_until_ms - report.at_ms)} from now: {one.reason}"
    elif one.next_due_at_ms is None:
        doing = "idle"
    elif one.next_due_at_ms <= report.at_ms:
        doing = "next send now" if one.holder else "due, nobody sends"
    else:
        doing = f"next send in {describe_span(one.next_due_at_ms - report.at_ms)}"
    head = f"  {one.instance.name:<{width}}   {one.standing.replace('_', ' '):<10} {pace:<18}"
    return _fold(head, f" {doing}")


def _campaign_lines(report: Report, one: CampaignLine) -> list[str]:
    doing = f"{one.done * 100 // one.total:>3} %  {one.done:,} of {one.total:,}" if one.total else ""
    if one.next_occurrence_at_ms is not None:
        doing += f"   next in {describe_span(one.next_occurrence_at_ms - report.at_ms)}"
    return _fold(f"campaign {one.name:<18}  {one.state:<10}", f" {doing.strip()}")


def _most_a_minute(limits: Limits) -> int:
    """The greatest number of messages a minute that the limits of an instance leave, 0 for no limit."""
    bounds = [60_000 // limits.gap_ms] if limits.gap_ms else []
    bounds += [limits.per_second * 60] if limits.per_second else []
    bounds += [limits.per_minute] if limits.per_minute else []
    return min(bounds, default=0)


def _numbers(stats: dict[str, int], **words: str) -> list[str]:
    return [f"{stats[key]:,} {word}" for key, word in words.items()]


def _fit(label: str, parts: Iterable[str]) -> list[str]:
    """The parts side by side behind their label, on as many lines as they need."""
    lines, start = [], label
    for part in parts:
        if start != label and len(start) + len(part) + 3 > _width():
            lines.append(start)
            start = " " * len(label) + part
        else:
            start += part if start == label else f"   {part}"
    return [*lines, start]


def _fold(head: str, rest: str) -> list[str]:
    """Both on one line, or, where there is no room, the rest below what it is about."""
    head, rest = clean_text(head), clean_text(rest)
    line = (head + rest).rstrip()
    if len(line) <= _width():
        return [line]
    indent = " " * (len(head) - len(head.lstrip()))
    lines = []
    for words, before in ((head.strip(), indent), (rest.strip(), f"{indent}  ")):
        lines += textwrap.wrap(words, _width(), initial_indent=before, subsequent_indent=before)
    return lines


def _trouble_lines(message: str, hint: str) -> list[str]:
    line = f"  ! {message:<40}  {hint}"
    if len(line) <= _width():
        return [line]
    return [
        *textwrap.wrap(f"  ! {message}", _width(), subsequent_indent="    ", break_on_hyphens=False),
        *textwrap.wrap(hint, _width(), initial_indent="      ", subsequent_indent="      ", break_on_hyphens=False),
    ]


def _width() -> int:
    return min(max(shutil.get_terminal_size((WIDEST, 24)).columns, 40), WIDEST)


def describe_span(ms: int) -> str:
    """A length of time in its two largest units: `3 h 12 min`, `20 s`."""
    seconds = max(ms, 0) // 1000
    units = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
    for place, (size, unit) in enumerate(units):
        if seconds >= size:
            words = f"{seconds // size} {unit}"
            rest = seconds % size
            if place + 1 < len(units) and rest >= units[place + 1][0]:
                words += f" {rest // units[place + 1][0]} {units[place + 1][1]}"
            return words
    return "0 s"


def _describe_bytes(size: int) -> str:
    return f"{size / 1024**2:.1f} MB" if size < 10 * 1024**2 else f"{size // 1024**2:,} MB"
