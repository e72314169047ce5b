"""From a campaign file to a plan: which sending is meant, and everything that `services.planning` needs for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from wa_cli.campaigns.drift import read_inputs
from wa_cli.campaigns.kinds import take_files
from wa_cli.campaigns.templates import check_templates, look_at_templates
from wa_cli.domain.campaign import Campaign, Canary
from wa_cli.domain.number import HOLDS_MS
from wa_cli.domain.pacing import Limits, look_back_ms, tighten
from wa_cli.domain.window import WindowPolicy
from wa_cli.errors import NotFound, UsageError
from wa_cli.services.planning import FileRow, Pieces, ZoneTerms, make_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from wa_cli.bootstrap import App
    from wa_cli.domain.campaign import AudienceSource, CampaignSpec
    from wa_cli.domain.link import Shortener
    from wa_cli.domain.plan import Plan, PlanSummary
    from wa_cli.domain.pool_timetable import Desk
    from wa_cli.domain.recurrence import Occurrence
    from wa_cli.domain.template import StoredTemplate
    from wa_cli.ports import Instance

DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Which sending of a campaign is meant.  occurrence: None for a campaign that is sent once."""

    key: str = ""
    occurrence: Occurrence | None = None


def next_turn(app: App, spec: CampaignSpec, *, after_ms: int | None = None) -> Turn:
    """The next sending.  Raises: UsageError when a recurring campaign has none left."""
    if not spec.is_recurring:
        return Turn()
    occurrence = find_occurrence(app, spec, after_ms=app.clock.wall_ms() if after_ms is None else after_ms)
    if occurrence is None:
        raise UsageError(
            f"'{spec.name}' has no occurrence left",
            hint="give [schedule] a later until, or drop it",
            code="no_occurrence",
        )
    return Turn(key=occurrence.key, occurrence=occurrence)


def find_occurrence(app: App, spec: CampaignSpec, *, after_ms: int) -> Occurrence | None:
    """The first occurrence after a moment, or None when there is none left."""
    from wa_cli.domain.recurrence import next_occurrence, parse_rule

    zone = zone_of_campaign(app, spec)
    assert spec.schedule.every is not None
    return next_occurrence(
        parse_rule(spec.schedule.every),
        after_ms,
        zone,
        until=_last_day(spec),
        anchor=datetime.fromtimestamp(_created_ms(app, spec) / 1000, zone).date(),
    )


def list_occurrences(app: App, spec: CampaignSpec, *, count: int) -> list[Occurrence]:
    """The next so many occurrences of a recurring campaign; fewer where it ends before; none of one sent once."""
    found: list[Occurrence] = []
    after_ms = app.clock.wall_ms()
    while spec.is_recurring and len(found) < count:
        occurrence = find_occurrence(app, spec, after_ms=after_ms)
        if occurrence is None:
            break
        found.append(occurrence)
        after_ms = occurrence.at_ms
    return found


def _last_day(spec: CampaignSpec) -> Any:
    from datetime import date

    return date.fromisoformat(spec.schedule.until) if spec.schedule.until else None


def _created_ms(app: App, spec: CampaignSpec) -> int:
    """When the campaign was taken in: `every 3 days` counts from there."""
    try:
        return app.campaigns.find(spec.name).created_at_ms
    except NotFound:
        return app.clock.wall_ms()


def zone_of_campaign(app: App, spec: CampaignSpec) -> ZoneInfo:
    return ZoneInfo(spec.schedule.zone) if spec.schedule.zone else app.settings.zone()


def with_options(spec: CampaignSpec, options: Mapping[str, Any]) -> CampaignSpec:
    """The spec with what was asked for beside the file: `at`, and the sample's `canary` and `hold_ms`.

    Raises: UsageError for what does not go together.
    """
    if "at" in options:
        if spec.is_recurring:
            raise UsageError("--at does not go with a recurring campaign", hint="[schedule] every says when")
        spec = replace(spec, schedule=replace(spec.schedule, at=options["at"]))
    if "canary" in options:
        if spec.is_recurring:
            raise UsageError(
                "--canary does not go with a recurring campaign",
                hint="[canary] in its file holds for each occurrence",
            )
        held = spec.canary.hold_ms if spec.canary else Canary(size=1).hold_ms
        spec = replace(spec, canary=Canary(size=options["canary"], hold_ms=options.get("hold_ms", held)))
    return spec


def plan(
    app: App,
    campaign: Campaign,
    spec: CampaignSpec,
    turn: Turn,
    *,
    options: Mapping[str, Any] | None = None,
    must_fit: bool = True,
    on_progress: Callable[[str, int], None] = lambda _what, _count: None,
) -> tuple[Plan, PlanSummary]:
    """Plan one sending of a campaign, and keep the plan.

    options: those that `with_options` has put into the spec; kept, so that applying the plan knows them.
    must_fit: refuse what does not fit the account's templates as they were last read.
    Raises: UsageError for what could not be sent at all.
    """
    now_ms = app.clock.wall_ms()
    sweep(app)
    run = app.campaigns.find_run(campaign.id, turn.key)
    pool = app.find_instance(spec.instance).pool
    if pool is not None:
        app.pools.refresh_seats(pool.id)
    templates = check_templates(app, spec) if must_fit else look_at_templates(app, spec)
    pieces = assemble_pieces(app, campaign, spec, turn, templates=templates.stored, now_ms=now_ms, keep_files=True)
    for source in (*spec.audience.any_of, *spec.audience.all_of, *spec.audience.none_of):
        if source.kind == "file":  # one that cannot be read at all says so before gigabytes of it are digested
            next(read_audience(app, campaign, source), None)
    return make_plan(
        pieces,
        campaign,
        spec,
        # Before it is read: what changes meanwhile makes the plan one that no longer fits.
        inputs={**read_inputs(app, campaign, spec), "options": dict(options or {})},
        occurrence=turn.key,
        run_id=run.id if run else None,
        warnings=(*templates.warnings, *pieces.filler.warnings),
        now_ms=now_ms,
        on_progress=on_progress,
    )


def sweep(app: App) -> None:
    """Take out what processes that died half-way through a plan, or through letting one go, have left."""
    app.applying.sweep()
    app.plans.sweep()
    app.intake.sweep_abandoned()


def assemble_pieces(
    app: App,
    campaign: Campaign,
    spec: CampaignSpec,
    turn: Turn,
    *,
    templates: Mapping[int, StoredTemplate] | None = None,
    now_ms: int,
    keep_files: bool = False,
) -> Pieces:
    """templates: of the variants, by their places, where they are known.  keep_files: see `kinds.take_files`."""
    from wa_cli.domain.personal import Filler
    from wa_cli.domain.regions import region_of

    instance = app.find_instance(spec.instance)
    limits = limits_of_campaign(app, spec)
    linker = None
    save_links = None
    if spec.short_links:
        linker, save_links = _linkers(app, spec.short_links)
    return Pieces(
        store=app.plans,
        rules=app.rules(instance),
        filler=Filler(
            spec.messages,
            variables=spec.variables,
            fallbacks=spec.fallbacks,
            language=spec.language,
            files=take_files(app, campaign, spec, keep=keep_files),
        ),
        templates=templates or {},
        instance=instance,
        limits=limits,
        window=WindowPolicy(app.settings.text("WA_WINDOW")),
        read_file=partial(read_audience, app, campaign),
        find_subgroup=lambda name: app.subgroups.find(name).id,
        region_of=region_of,
        zone_of=_zone_finder(app, spec),
        zone_terms=partial(_zone_terms, app, spec, turn, now_ms=now_ms),
        starts=_read_starts(app, instance, limits, now_ms=now_ms),
        desks=_find_desks(app, spec, instance, now_ms=now_ms),
        own=Limits(**dict(spec.limits)),
        linker=linker,
        save_links=save_links,
        price=_price_finder(campaign, spec),
        read_expiry=_expiry_reader(app, spec, now_ms=now_ms),
        look_at_groups=partial(app.look_at_groups, instance),
        checked_since_ms=now_ms - HOLDS_MS if app.provider(instance).capabilities.is_linked_device else None,
    )


def limits_of_campaign(app: App, spec: CampaignSpec) -> Limits:
    """The instance's limits, tightened by the campaign's own."""
    return tighten(app.limits(app.find_instance(spec.instance)), dict(spec.limits))


def _read_starts(app: App, instance: Instance, limits: Limits, *, now_ms: int) -> Sequence[tuple[int, int]]:
    """What the instance sent lately, as far as limits of a day ask for it."""
    return app.upkeep.read_starts(instance.id, since_ms=now_ms - DAY_MS) if look_back_ms(limits) >= DAY_MS else ()


def _find_desks(app: App, spec: CampaignSpec, instance: Instance, *, now_ms: int) -> Sequence[Desk]:
    """The numbers of the pool for which the instance stands; none where it stands for itself."""
    terms = app.pool_terms(instance, now_ms=now_ms)
    if terms is None:
        return ()
    from wa_cli.domain.pool_timetable import Desk, divide_limits

    own = divide_limits(dict(spec.limits), len(terms.seats))
    members = {one.id: one for one in app.list_members(instance)}
    desks = []
    for seat in terms.seats:
        member = members[seat.instance_id]
        limits = tighten(app.limits(member), own)
        starts = [float(at) for _contact_id, at in _read_starts(app, member, limits, now_ms=now_ms)]
        desks.append(Desk(seat=seat, name=member.name, limits=limits, starts=starts))
    return desks


def read_audience(app: App, campaign: Campaign, source: AudienceSource) -> Iterator[FileRow]:
    """The rows of an audience file, which stands beside the campaign file."""
    from wa_cli.sources.audience import read_audience_file
    from wa_cli.sources.tables import BadRow

    path = Path(campaign.path).parent / source.name
    for row in read_audience_file(
        path, columns=dict(source.columns), default_region=app.settings.text("WA_DEFAULT_REGION") or None
    ):
        if isinstance(row, BadRow):
            yield FileRow(recipient=None, problem=f"line {row.line}: {row.reason}")
        else:
            yield FileRow(recipient=row.recipient, fields=row.attributes)


def _linkers(app: App, base: str) -> tuple[Callable[[int], Any], Callable[[int], None]]:
    """What makes the short links of a plan, and what stores the last of them; the others are stored as they come."""
    made: dict[int, Shortener] = {}

    def linker(plan_id: int) -> Shortener:
        return made.setdefault(plan_id, app.shortener(base, plan_id))

    def save(plan_id: int) -> None:
        made[plan_id].finish()

    return linker, save


def _zone_finder(app: App, spec: CampaignSpec) -> Callable[[str, Mapping[str, str]], str]:
    if not spec.schedule.is_local:
        return lambda _address, _fields: ""
    from wa_cli.domain.timetable import zone_of

    default = zone_of_campaign(app, spec)
    return lambda address, fields: zone_of(address, fields, default).key


def _zone_terms(app: App, spec: CampaignSpec, turn: Turn, name: str, *, now_ms: int) -> ZoneTerms:
    from wa_cli.domain.schedule import InvalidTime, parse_time
    from wa_cli.domain.timetable import Openings, settle_local

    zone = ZoneInfo(name) if name else zone_of_campaign(app, spec)
    note = None
    starts_at_ms = now_ms
    if turn.occurrence is not None:
        wall = datetime.fromisoformat(turn.occurrence.key)
        starts_at_ms = turn.occurrence.at_ms
        if name:
            starts_at_ms, note = settle_local(wall.date(), wall.hour * 60 + wall.minute, zone)
        starts_at_ms = max(starts_at_ms, now_ms)
    elif spec.schedule.at is not None:
        try:
            instant = parse_time(spec.schedule.at, now=datetime.fromtimestamp(now_ms / 1000, UTC), zone=zone)
            starts_at_ms, note = round(instant.at.timestamp() * 1000), instant.note
        except InvalidTime:
            if not name:
                raise
            note = f"in {name} the time {spec.schedule.at} has passed: people there get it at once"
    has_hours = not spec.quiet.is_empty or spec.schedule.between is not None
    opening = Openings(quiet=spec.quiet, zone=zone, between=spec.schedule.between) if has_hours else None
    return ZoneTerms(name=zone.key, starts_at_ms=starts_at_ms, opening=opening, note=note)


def _price_finder(campaign: Campaign, spec: CampaignSpec) -> Callable[[str], tuple[str, float] | None] | None:
    if spec.rates is None:
        return None
    from wa_cli.sources.rates import read_rates

    rates = read_rates(Path(campaign.path).parent / spec.rates)
    category = "marketing" if any(message.template for message in spec.messages) else "service"

    def price(region: str) -> tuple[str, float] | None:
        found = rates.price(region, category)
        return None if found is None else (found[0], float(found[1]))

    return price


def _expiry_reader(app: App, spec: CampaignSpec, *, now_ms: int) -> Callable[[int], int | None]:
    if spec.expires is None:
        return lambda _due_at_ms: None
    from wa_cli.domain.schedule import parse_duration, parse_time

    try:
        length_ms = round(parse_duration(spec.expires).total_seconds() * 1000)
    except UsageError:
        zone = zone_of_campaign(app, spec)
        instant = parse_time(spec.expires, now=datetime.fromtimestamp(now_ms / 1000, UTC), zone=zone)
        ends_at_ms = round(instant.at.timestamp() * 1000)
        return lambda _due_at_ms: ends_at_ms
    return lambda due_at_ms: due_at_ms + length_ms
