"""Where a campaign stands, and the steps that people take: resume and cancel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wa_cli.domain.campaign import Campaign, CampaignState
from wa_cli.domain.stopping import Outcomes

if TYPE_CHECKING:
    from wa_cli.bootstrap import App
    from wa_cli.domain.campaign import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a campaign has come, over all its runs.  sent: accepted, whatever came of it; waiting: held ones too."""

    audience: int = 0
    sent: int = 0
    failed: int = 0
    waiting: int = 0


def read_progress(app: App, campaign: Campaign) -> Progress:
    audience = sent = failed = waiting = 0
    for run in app.campaigns.list_runs(campaign.id):
        counts = app.campaigns.count_run(run.id)
        audience += sum(counts.values()) + app.campaigns.count_excluded(run.id)
        sent += sum(n for (state, _receipt), n in counts.items() if state == "sent")
        failed += sum(n for (state, _receipt), n in counts.items() if state == "failed")
        waiting += sum(n for (state, _receipt), n in counts.items() if state in ("queued", "sending"))
    return Progress(audience=audience, sent=sent, failed=failed, waiting=waiting)


def read_outcomes(app: App, run: Run) -> Outcomes:
    counts = app.campaigns.count_run(run.id)
    return Outcomes(
        accepted=sum(n for (state, _receipt), n in counts.items() if state == "sent"),
        failed=sum(n for (state, _receipt), n in counts.items() if state == "failed"),
        opted_out=app.campaigns.count_opted_out(run.id),
    )


def resume(app: App, campaign: Campaign, *, actor: str, reason: str | None) -> CampaignState:
    """End a pause.  What its stop rules have seen so far is accepted by whoever resumes.

    Returns where it stands now.
    """
    now_ms = app.clock.wall_ms()
    for run in app.campaigns.list_runs(campaign.id):
        if run.state == "running":
            app.campaigns.set_baseline(run.id, read_outcomes(app, run).encode())
    has_begun = any(
        run.state == "running" and (app.campaigns.read_first_due_ms(run.id) or 0) <= now_ms
        for run in app.campaigns.list_runs(campaign.id)
    )
    state = CampaignState.RUNNING if has_begun else CampaignState.SCHEDULED
    app.campaigns.step(campaign.id, state, actor=actor, reason=reason, now_ms=now_ms)
    return state


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What a cancel came to.  in_flight: posts that were on their way and will still have an outcome."""

    count: int
    in_flight: int


def cancel(app: App, campaign: Campaign, *, actor: str, reason: str | None) -> Ended:
    """End a campaign for good.  From its first transaction on nothing more starts."""
    now_ms = app.clock.wall_ms()
    app.campaigns.step(campaign.id, CampaignState.CANCELLED, actor=actor, reason=reason, now_ms=now_ms)
    count = in_flight = 0
    for run in app.campaigns.list_runs(campaign.id):
        in_flight += app.campaigns.count_sending(run.id)
        count += app.campaigns.cancel_waiting(run.id, now_ms=now_ms)
        app.campaigns.note_run_ended(run.id, state="cancelled", now_ms=now_ms)
    return Ended(count=count, in_flight=in_flight)
