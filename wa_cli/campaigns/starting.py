"""Letting a plan go: precisely what was planned, or nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from wa_cli.campaigns.drift import find_drift
from wa_cli.campaigns.files import keep_text, read_again
from wa_cli.campaigns.planning import next_turn, sweep, with_options, zone_of_campaign
from wa_cli.campaigns.templates import check_templates
from wa_cli.domain.campaign import WEIGHTS, Campaign, CampaignState
from wa_cli.domain.plan import DIGEST_SHOWN, parse_plan_id
from wa_cli.errors import Conflict, NotFound, UsageError
from wa_cli.services.planning import lane_spacing_ms

if TYPE_CHECKING:
    from collections.abc import Callable

    from wa_cli.bootstrap import App
    from wa_cli.domain.campaign import CampaignSpec, Run
    from wa_cli.domain.plan import Plan

STARTABLE: Final = (CampaignState.DRAFT, CampaignState.PAUSED, CampaignState.FINISHED)


def find_plan(app: App, campaign: Campaign, word: str) -> Plan:
    """The plan that a person names by its id.  Raises: UsageError, NotFound."""
    parts = parse_plan_id(word)
    if parts is None:
        raise UsageError(
            f"'{word}' is no plan id", hint=f"`wa campaign plan {campaign.name}` ends with one, such as p12-4f9a3c"
        )
    try:
        planned = app.plans.find_plan(campaign.id, parts[0])
    except NotFound as missing:
        raise NotFound(
            f"the campaign '{campaign.name}' has no plan {word}: it is another's, applied, or replaced by a newer one",
            hint=f"`wa campaign plan {campaign.name}` makes a new one",
            code=missing.code,
        ) from None
    if planned.digest[:DIGEST_SHOWN] != parts[1]:
        raise NotFound(
            f"the plan p{parts[0]} is {planned.word}, not {word}", hint="copy the id as it was printed", code="no_plan"
        )
    return planned


def apply(
    app: App,
    campaign: Campaign,
    planned: Plan,
    *,
    actor: str,
    on_progress: Callable[[int], None] = lambda _count: None,
) -> Run | None:
    """Send precisely what was planned.  None for a recurring campaign: it is on the calendar now.

    Raises: Conflict when anything the plan was made from has changed, or its time has passed; UsageError for a template
    that would not be taken any more.  Nothing is queued then.
    """
    sweep(app)
    campaign, spec = read_again(app.campaigns.read(campaign.id))
    drift = find_drift(app, campaign, spec, planned)
    if drift:
        raise Conflict(
            f"the plan {planned.word} no longer fits",
            below=drift,
            hint=f"`wa campaign plan {campaign.name}` makes a new one",
            code="plan_drifted",
        )
    check_templates(app, spec)  # they may have been read anew since
    spec = with_options(spec, planned.inputs.get("options", {}))
    now_ms = app.clock.wall_ms()
    if spec.is_recurring:
        _check_startable(campaign)
        keep_text(app, campaign, actor=actor)
        turn = next_turn(app, spec)
        assert turn.occurrence is not None
        app.campaigns.set_next_occurrence(campaign.id, turn.occurrence.at_ms)
        app.plans.drop_plan(planned.id)
        app.campaigns.step(campaign.id, CampaignState.SCHEDULED, actor=actor, reason=f"next: {turn.key}", now_ms=now_ms)
        return None
    return let_go(
        app,
        campaign,
        spec,
        planned,
        shift_ms=_find_shift(campaign, spec, planned, now_ms),
        actor=actor,
        on_progress=on_progress,
    )


def _check_startable(campaign: Campaign) -> None:
    if campaign.state not in STARTABLE:
        raise Conflict(
            f"the campaign '{campaign.name}' is {campaign.state}",
            hint=f"`wa campaign show {campaign.name}` lists what can be done now",
            code="campaign_state",
        )


def _find_shift(campaign: Campaign, spec: CampaignSpec, planned: Plan, now_ms: int) -> int:
    """How much later than planned all of it leaves.

    What was planned for at once may be applied later, as it is; a timetable that goes by the clock may not.
    """
    first_at_ms = int(planned.summary["first_at_ms"])
    goes_by_clock = (
        spec.schedule.at is not None
        or spec.schedule.between is not None
        or not spec.quiet.is_empty
        or spec.expires is not None
    )
    late_ms = now_ms - first_at_ms
    if not goes_by_clock:
        return max(late_ms, 0)
    if late_ms > spec.schedule.grace_ms:
        raise Conflict(
            f"the time of the plan {planned.word} has passed",
            hint=f"`wa campaign plan {campaign.name}` makes a new one",
            code="plan_late",
        )
    return 0


def let_go(
    app: App,
    campaign: Campaign,
    spec: CampaignSpec,
    planned: Plan,
    *,
    shift_ms: int,
    actor: str,
    on_progress: Callable[[int], None] = lambda _count: None,
) -> Run:
    """Put a plan's messages into the queue; all of them or none may leave."""
    from wa_cli.domain.timetable import encode_quiet

    instance = app.find_instance(spec.instance)
    pool = instance.pool
    own = dict(spec.limits)
    if pool is not None:
        from wa_cli.domain.pool_timetable import divide_limits

        own = divide_limits(own, len(pool.members))
    zones = {zone: zone or zone_of_campaign(app, spec).key for zone in app.plans.list_zones(planned.id)}
    canary_until_ms = planned.summary.get("canary_until_ms")
    return app.applying.apply(
        planned,
        spec,
        instance_id=instance.id,
        pool_id=None if pool is None else pool.id,
        quiet_by_zone={zone: encode_quiet(spec.quiet, name, spec.schedule.between) for zone, name in zones.items()},
        delay_ms=lane_spacing_ms(spec, planned.summary),
        weight=WEIGHTS[spec.priority],
        limits=json.dumps(own) if own else None,
        shift_ms=shift_ms,
        canary_until_ms=None if canary_until_ms is None else int(canary_until_ms) + shift_ms,
        duplicate_window_ms=app.settings.count("WA_DUPLICATE_WINDOW_HOURS") * 3_600_000,
        max_queue_size=app.settings.count("MAX_QUEUE_SIZE"),
        actor=actor,
        now_ms=app.clock.wall_ms(),
        on_progress=on_progress,
    )
