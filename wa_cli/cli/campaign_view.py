"""A campaign at one moment: what is read for it, what is wrong, what to type next, and all of it as a document."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from wa_cli.cli.session import Session, format_time
from wa_cli.domain.campaign import CampaignState
from wa_cli.domain.message import format_message_id
from wa_cli.domain.report import Bucket, find_ledger_error, make_funnel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wa_cli.bootstrap import App
    from wa_cli.domain.campaign import Campaign, CampaignChange, Run
    from wa_cli.domain.report import RunFigures, Series
    from wa_cli.store.sqlite.reports import RunLine

RUNS_SHOWN: Final = 8
CHANGES_SHOWN: Final = 20

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


def duration_of(view: View) -> int:
    if view.run is None or view.run.started_at_ms is None:
        return 0
    return max((view.run.ended_at_ms or view.at_ms) - view.run.started_at_ms, 0)


# --- as a document ---


def campaign_document(campaign: Campaign) -> dict[str, Any]:
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
                "example": None if group.message_id is None else format_message_id(group.message_id),
            }
            for group in figures.failures
        ],
        "sends": series_document(figures.sends),
        "pruned_at": format_time(figures.pruned_at_ms),
    }


def series_document(series: Series | None) -> dict[str, Any] | None:
    if series is None:
        return None
    return {
        "from": format_time(series.start_ms),
        "step_seconds": series.step_ms // 1000,
        "counts": list(series.counts),
    }
