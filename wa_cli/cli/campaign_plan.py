"""The plan of a campaign as a page for people, and as a document for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from wa_cli.cli.importing import count_of
from wa_cli.cli.session import Session, clean_text, format_time
from wa_cli.cli.status import describe_span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wa_cli.bootstrap import App
    from wa_cli.domain.campaign import Campaign, CampaignSpec
    from wa_cli.domain.plan import Plan, PlanSummary, Sample
    from wa_cli.domain.recurrence import Occurrence


REASONS: Final[Mapping[str, str]] = {
    "invalid": "not readable",
    "opted_out": "opted out",
    "missing_field": "lack a field",
    "unsendable": "would be refused by the platform",
    "window_closed": "have not written within 24 h",
    "already_written": "written to by this campaign already",
    "expired": "their turn would come too late",
    "erased": "erased",
    "not_on_whatsapp": "are not on WhatsApp",
    "not_in_group": "groups that the instance is not in",
    "may_not_post": "groups that only admins write to",
}


def show_plan(
    session: Session,
    opened: App,
    campaign: Campaign,
    spec: CampaignSpec,
    planned: Plan,
    summary: PlanSummary,
    occurrences: Sequence[Occurrence],
) -> None:
    """The plan as a page: who, when, how much, and what it looks like."""
    from wa_cli.campaigns import standing

    session.show(f"plan {planned.word} of campaign {campaign.name}")
    fields: list[tuple[str, str]] = []
    merged = f"; {count_of(summary.merged, 'more mention')} of the same people" if summary.merged else ""
    rows = summary.by_reason.get("invalid", 0)
    people = count_of(summary.audience - rows, "person", "people")
    names_nobody = f"{count_of(rows, 'row')} that name{'s' if rows == 1 else ''} nobody"
    without = f" and {names_nobody}" if rows else ""
    fields.append(("audience", f"{people}{without}{merged}"))
    if summary.by_reason:
        reasons = ", ".join(f"{n:,} {REASONS.get(reason, reason)}" for reason, n in summary.by_reason.items())
        missing = ", ".join(f"{name} {n:,}" for name, n in summary.missing_fields.items())
        fields.append(("leaves out", reasons + (f" ({missing})" if missing else "")))
    if summary.groups:
        fields.append(("groups", summary.groups))
    fields.append(("sends", f"{count_of(summary.queued, 'message')} from '{spec.instance}'"))
    if summary.by_instance:
        fields.append(("numbers", _show_counts(summary.by_instance)))
    replaced = 0 if spec.is_recurring else standing.read_progress(opened, campaign).waiting
    if replaced:
        fields.append(("instead of", f"{count_of(replaced, 'waiting message')} of it"))
    if summary.canary:
        fields.append(("sample first", _describe_canary(session, summary)))
    if summary.first_at_ms is not None and summary.last_at_ms is not None:
        fields.append(("first", session.describe_time(summary.first_at_ms)))
        fields.append(("last", session.describe_time(summary.last_at_ms)))
        fields.append(("takes", _describe_length(summary.last_at_ms - summary.first_at_ms)))
    for place, occurrence in enumerate(occurrences):
        fields.append(("occurrences" if place == 0 else "", session.describe_time(occurrence.at_ms)))
    if occurrences:
        fields.append(("each time", "the audience is gathered anew; this is as it stands now"))
    if len(summary.by_zone) > 1:
        fields += _zone_fields(summary)
    if summary.shifted:
        fields.append(("quiet hours", f"{count_of(summary.shifted, 'message')} wait for the next opening"))
    fields.append(("countries", _show_counts(summary.by_country)))
    if len(spec.messages) > 1:
        fields.append(("variants", _show_counts(summary.by_variant)))
    if summary.fallbacks:
        fields.append(("fallbacks", _show_counts(summary.fallbacks)))
    if summary.cost or summary.unpriced:
        fields.append(("cost", _show_cost(summary)))
    session.show_fields(fields, indent=2)
    for number, sample in enumerate(summary.samples, start=1):
        _show_sample(session, f"sample {number}", sample)
    if summary.longest is not None and summary.longest not in summary.samples:
        _show_sample(session, "the longest", summary.longest)
    warn_of(session, summary)


def warn_of(session: Session, summary: PlanSummary) -> None:
    for name, shared in summary.clashes:
        people = f", {count_of(shared, 'person', 'people')} in both" if shared else ""
        session.warn(f"campaign {name} sends from the same number in that time{people}")
    for warning in summary.warnings:
        session.warn(warning)


def _show_sample(session: Session, title: str, sample: Sample) -> None:
    variant = f", {sample.variant}" if sample.variant else ""
    session.show(f"  {title}, to {sample.address}{clean_text(variant)}")
    for line in sample.words.splitlines() or [""]:
        for part in _wrap(clean_text(line)):
            session.show(f"    {part}".rstrip())


def _wrap(line: str) -> list[str]:
    """A line of a message, broken between words where a terminal is too narrow for it."""
    import shutil
    import sys
    import textwrap

    if not sys.stdout.isatty():
        return [line]
    width = max(shutil.get_terminal_size((80, 24)).columns, 40) - 4
    return textwrap.wrap(line, width, break_on_hyphens=False) or [""]


def _describe_canary(session: Session, summary: PlanSummary) -> str:
    if summary.canary >= summary.queued:
        return f"everybody ({count_of(summary.canary, 'person', 'people')}): the sample takes all, and nothing is held"
    until = (
        "" if summary.canary_until_ms is None else f"; the rest from {session.describe_time(summary.canary_until_ms)}"
    )
    return f"{count_of(summary.canary, 'person', 'people')}{until}"


def _zone_fields(summary: PlanSummary) -> list[tuple[str, str]]:
    """First and last send in the recipients' own zones."""
    from datetime import datetime
    from zoneinfo import ZoneInfo

    def show(at_ms: int, zone: str) -> str:
        return f"{datetime.fromtimestamp(at_ms / 1000, ZoneInfo(zone)):%a %d %b %Y %H:%M}"

    zones = sorted(summary.by_zone.items(), key=lambda item: item[1])
    shown = [(f"in {zone}", f"{show(first, zone)} to {show(last, zone)}") for zone, (first, last) in zones[:8]]
    return shown + ([("", f"and {len(zones) - 8} more zones")] if len(zones) > 8 else [])


def _show_counts(counts: Mapping[str, int], *, most: int = 8) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    more = sum(n for _name, n in ordered[most:])
    shown = ", ".join(f"{name or '-'} {n:,}" for name, n in ordered[:most])
    return f"{shown}, others {more:,}" if more else shown


def _show_cost(summary: PlanSummary) -> str:
    amounts = ", ".join(f"about {amount:,.2f} {currency}" for currency, amount in summary.cost.items())
    missing = f"no price for {_show_counts(summary.unpriced)}" if summary.unpriced else ""
    return "; ".join(filter(None, (amounts, missing)))


def _describe_length(ms: int) -> str:
    seconds = round(ms / 1000)
    return describe_span(seconds * 1000) if seconds else "a moment"


def plan_document(
    campaign: Campaign, planned: Plan, summary: PlanSummary, occurrences: Sequence[Occurrence]
) -> dict[str, Any]:
    def sample(one: Sample | None) -> dict[str, str] | None:
        return None if one is None else {"recipient": one.address, "variant": one.variant, "text": one.words}

    def moment(at_ms: int | None) -> str | None:
        return None if at_ms is None else format_time(at_ms)

    return {
        "plan_id": planned.word,
        "campaign": campaign.name,
        "occurrence": planned.occurrence or None,
        "occurrences": [format_time(one.at_ms) for one in occurrences],
        "audience": summary.audience,
        "queued": summary.queued,
        "merged": summary.merged,
        "excluded": summary.by_reason,
        "missing_fields": summary.missing_fields,
        "fallbacks": summary.fallbacks,
        "first_at": moment(summary.first_at_ms),
        "last_at": moment(summary.last_at_ms),
        "canary": summary.canary,
        "canary_until": moment(summary.canary_until_ms),
        "shifted": summary.shifted,
        "groups": summary.groups,
        "by_country": summary.by_country,
        "by_variant": summary.by_variant,
        "by_instance": summary.by_instance,
        "by_zone": {
            zone: {"first_at": moment(first), "last_at": moment(last)}
            for zone, (first, last) in summary.by_zone.items()
        },
        "cost": summary.cost,
        "unpriced": summary.unpriced,
        "samples": [sample(one) for one in summary.samples],
        "longest": sample(summary.longest),
        "clashes": [{"campaign": name, "people_in_both": shared} for name, shared in summary.clashes],
        "warnings": summary.warnings,
    }
