"""`wa campaign show` and `wa campaign watch`: how far a campaign has come, what is wrong, and what to type next.

Reports, not verdicts: show exits 0 whatever it has to say; watch, which stays to the end, says by its exit code how the
campaign went.
"""

from __future__ import annotations

import sys
import time
from typing import Annotated, Final

import typer

from wa_cli.cli.campaign_lines import style_of, summary_line, view_lines
from wa_cli.cli.campaign_view import NameArgument, RunOption, View, read_view, view_document
from wa_cli.cli.session import Session, clean_text, format_time, parse_duration_flag, session_of
from wa_cli.domain.campaign import CampaignState
from wa_cli.domain.report import Bucket

# Answers, failures and sends are looked up again once so many times the last look has passed: a twentieth of the time.
REST_FACTOR: Final = 20


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
