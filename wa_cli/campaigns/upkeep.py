"""Looking after campaigns that have been let go: occurrences, samples, stop rules, beginnings and ends.

The daemon and a drain do this; every step is safe to be tried by several processes at once.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING, Final

from wa_cli.campaigns.files import read_kept
from wa_cli.campaigns.planning import Turn, find_occurrence, plan, zone_of_campaign
from wa_cli.campaigns.standing import read_outcomes
from wa_cli.campaigns.starting import let_go
from wa_cli.domain.campaign import Campaign, CampaignState
from wa_cli.domain.stopping import Stopped, decode_outcomes, judge_outcomes
from wa_cli.errors import NotFound, UsageError, WaError

if TYPE_CHECKING:
    from wa_cli.bootstrap import App
    from wa_cli.domain.campaign import CampaignSpec, Run
    from wa_cli.domain.recurrence import Occurrence
    from wa_cli.ports import Instance

OURSELVES: Final = "wa"
RECALL_MS: Final = 2 * 86_400_000  # before a wall time, whatever its zone does to it
log = logging.getLogger("wa.campaigns")


def look_after(app: App) -> int:
    """Upkeep: move each campaign on.  Returns how many steps were taken.

    Starts occurrences that are due, once each however many processes look; judges stop rules and samples; writes down
    what has begun and what has ended.
    """
    steps = 0
    app.applying.sweep()
    app.plans.sweep()
    for run_id in app.campaigns.find_left_over():
        steps += app.campaigns.cancel_waiting(run_id, now_ms=app.clock.wall_ms()) > 0
    steps += wake(app)
    steps += app.campaigns.wake(actor=OURSELVES, now_ms=app.clock.wall_ms())
    for campaign in app.campaigns.list_active():
        try:
            steps += _look_after_one(app, campaign)
        except WaError as error:
            log.warning("campaign %s: %s", campaign.name, error.message)
    return steps


def wake(app: App) -> int:
    """Let campaigns go on that had ended and of which messages wait again.  Returns how many."""
    woken = 0
    for campaign_id, run_id in app.campaigns.list_woken():
        if not app.campaigns.reopen_run(run_id):
            continue
        woken += 1
        if app.campaigns.read(campaign_id).state is CampaignState.FINISHED:
            app.campaigns.step(
                campaign_id,
                CampaignState.RUNNING,
                actor=OURSELVES,
                reason="messages of it wait again",
                now_ms=app.clock.wall_ms(),
            )
    return woken


def _look_after_one(app: App, campaign: Campaign) -> int:
    now_ms = app.clock.wall_ms()
    spec = read_kept(campaign)
    steps = 0
    if campaign.state is not CampaignState.PAUSED and spec.is_recurring:
        steps += _start_occurrences(app, campaign, spec, now_ms=now_ms)
    for run in app.campaigns.list_runs(campaign.id):
        if run.state == "running":
            steps += _look_after_run(app, app.campaigns.read(campaign.id), spec, run, now_ms=now_ms)
    return steps + _settle(app, app.campaigns.read(campaign.id), spec, now_ms=now_ms)


def _start_occurrences(app: App, campaign: Campaign, spec: CampaignSpec, *, now_ms: int) -> int:
    """Start the occurrence that is due, if one is; those before it that nobody started are missed."""
    from wa_cli.domain.timetable import judge_missed

    steps = 0
    for run in app.campaigns.find_given_up(campaign.id):
        occurrence = _recall(app, spec, run.occurrence)
        if occurrence is not None and judge_missed(
            occurrence.at_ms, now_ms, spec.schedule.missed, spec.schedule.grace_ms
        ):
            if app.campaigns.claim_again(run.id):
                steps += 1
                _send_occurrence(app, campaign, spec, Turn(key=occurrence.key, occurrence=occurrence))
        else:
            app.campaigns.note_run_ended(run.id, state="missed", now_ms=now_ms)
            log.warning("campaign %s: the occurrence of %s was missed", campaign.name, run.occurrence)
    due_at_ms = campaign.next_occurrence_at_ms
    if due_at_ms is None or due_at_ms > now_ms:
        return steps
    occurrence = find_occurrence(app, spec, after_ms=due_at_ms - 1)
    while occurrence is not None and occurrence.at_ms <= now_ms:
        following = find_occurrence(app, spec, after_ms=occurrence.at_ms)
        is_latest = following is None or following.at_ms > now_ms
        may_send = is_latest and judge_missed(occurrence.at_ms, now_ms, spec.schedule.missed, spec.schedule.grace_ms)
        run_of_it = app.campaigns.claim_occurrence(
            campaign.id, occurrence.key, state="planning" if may_send else "missed", now_ms=now_ms
        )
        if run_of_it is not None:
            steps += 1
            if may_send:
                _send_occurrence(app, campaign, spec, Turn(key=occurrence.key, occurrence=occurrence))
            else:
                log.warning("campaign %s: the occurrence of %s was missed", campaign.name, occurrence.key)
        occurrence = following
    app.campaigns.set_next_occurrence(campaign.id, occurrence.at_ms if occurrence else None)
    return steps


def _recall(app: App, spec: CampaignSpec, key: str) -> Occurrence | None:
    """The occurrence of that key, from the campaign's rule."""
    wall = datetime.fromisoformat(key).replace(tzinfo=zone_of_campaign(app, spec))
    after_ms = round(wall.timestamp() * 1000) - RECALL_MS
    occurrence = find_occurrence(app, spec, after_ms=after_ms)
    while occurrence is not None and occurrence.key < key:
        occurrence = find_occurrence(app, spec, after_ms=occurrence.at_ms)
    return occurrence if occurrence is not None and occurrence.key == key else None


def _send_occurrence(app: App, campaign: Campaign, spec: CampaignSpec, turn: Turn) -> None:
    """Plan an occurrence that was claimed, and let it go.  What hinders it for now is tried again within its grace."""
    run = app.campaigns.find_run(campaign.id, turn.key)
    assert run is not None
    try:
        # What was read of the templates may be old: the platform itself says what it takes now.
        planned, _summary = plan(app, campaign, spec, turn, must_fit=False)
        let_go(app, campaign, spec, planned, shift_ms=0, actor=OURSELVES)
    except (UsageError, NotFound) as error:
        # Nobody to send it to is no fault of the next occurrence: it is written down, and the calendar goes on.
        app.campaigns.note_run_ended(run.id, state="finished", now_ms=app.clock.wall_ms())
        log.warning("campaign %s, %s: nothing was sent: %s", campaign.name, turn.key, error.message)
    except WaError as error:
        app.campaigns.give_up(run.id)
        log.warning("campaign %s, %s: not started yet: %s", campaign.name, turn.key, error.message)


def _look_after_run(app: App, campaign: Campaign, spec: CampaignSpec, run: Run, *, now_ms: int) -> int:
    counts = app.campaigns.count_run(run.id)
    if campaign.state is not CampaignState.PAUSED:
        stopped = find_stop(app, campaign, spec, run, now_ms=now_ms)
        if stopped is not None:
            app.campaigns.step(
                campaign.id,
                CampaignState.PAUSED,
                actor=OURSELVES,
                reason=stopped.reason,
                code=stopped.code,
                now_ms=now_ms,
            )
            log.warning("campaign %s paused: %s", campaign.name, stopped.reason)
            return 1
        if _judge_canary(app, campaign, spec, run, now_ms=now_ms):
            return 1
    if not any(state in ("queued", "sending") for state, _receipt in counts):
        app.campaigns.note_run_ended(run.id, state="finished", now_ms=now_ms)
        return 1
    first_due_ms = app.campaigns.read_first_due_ms(run.id)
    if campaign.state is CampaignState.SCHEDULED and first_due_ms is not None and first_due_ms <= now_ms:
        return app.campaigns.step(
            campaign.id, CampaignState.RUNNING, actor=OURSELVES, reason="its first message is due", now_ms=now_ms
        )
    return 0


def _settle(app: App, campaign: Campaign, spec: CampaignSpec, *, now_ms: int) -> int:
    """Write down that a campaign has nothing left that waits."""
    if campaign.state not in (CampaignState.RUNNING, CampaignState.SCHEDULED):
        return 0
    if any(run.state in ("planning", "running") for run in app.campaigns.list_runs(campaign.id)):
        return 0
    goes_on = spec.is_recurring and campaign.next_occurrence_at_ms is not None
    return app.campaigns.step(
        campaign.id,
        CampaignState.SCHEDULED if goes_on else CampaignState.FINISHED,
        actor=OURSELVES,
        reason="nothing of it waits any more",
        now_ms=now_ms,
    )


def find_stop(
    app: App, campaign: Campaign, spec: CampaignSpec, run: Run, *, now_ms: int, is_canary: bool = False
) -> Stopped | None:
    """Why a run has to pause at this moment, or None."""
    outcomes = read_outcomes(app, run).since(decode_outcomes(run.baseline))
    stopped = judge_outcomes(spec.stop, outcomes, is_canary=is_canary)
    if stopped is not None or is_canary:
        return stopped
    banned = _find_banned(app, spec)
    if banned is not None:
        return Stopped(
            code="number",
            reason=f"the number '{banned.name}' may not send: {banned.pause_reason or 'see wa status'}",
        )
    wanted = {(message.template, message.language) for message in spec.messages if message.template}
    for name, language, until_ms, reason in app.upkeep.read_held_templates(now_ms=now_ms) if wanted else ():
        if (name, language) in wanted and until_ms is None:
            return Stopped(code="template", reason=f"the template {name} ({language}) is held: {reason}")
    return None


def _find_banned(app: App, spec: CampaignSpec) -> Instance | None:
    """The number that the platform lets send no more, when the campaign has no other."""
    try:
        members = app.list_members(app.find_instance(spec.instance))
    except (NotFound, UsageError):  # a pool that is gone or empty: what it gave out is still its numbers' to send
        return None
    allowed = [one for one in members if one.paused_at_ms is None or one.paused_by != "platform"]
    return None if allowed else members[0]


def _judge_canary(app: App, campaign: Campaign, spec: CampaignSpec, run: Run, *, now_ms: int) -> bool:
    """Judge a sample whose time is over, and let the rest go or pause."""
    if run.canary_until_ms is None or run.canary_judged_at_ms is not None or run.canary_until_ms > now_ms:
        return False
    if app.campaigns.count_stage_waiting(run.id, "canary"):
        return False
    stopped = find_stop(app, campaign, spec, run, now_ms=now_ms, is_canary=True)
    if stopped is not None:
        app.campaigns.step(
            campaign.id,
            CampaignState.PAUSED,
            actor=OURSELVES,
            reason=f"the sample: {stopped.reason}",
            code=f"canary_{stopped.code}",
            now_ms=now_ms,
        )
        log.warning("campaign %s paused after its sample: %s", campaign.name, stopped.reason)
        return True
    app.campaigns.note_canary_judged(run.id, now_ms=now_ms)
    log.info("campaign %s: the sample went well, the rest goes on", campaign.name)
    return True
