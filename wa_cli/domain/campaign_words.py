"""What a campaign file says, in plain words: what `wa campaign validate` shows."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from wa_cli.domain.campaign import Missed
from wa_cli.domain.message import OnUnknown
from wa_cli.domain.recipient import show_text
from wa_cli.domain.recurrence import describe_rule, parse_rule
from wa_cli.domain.schedule import parse_duration, show_span
from wa_cli.domain.wall_clock import DAYS, join_with_and, join_with_or
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wa_cli.domain.campaign import Audience, AudienceSource, CampaignSpec, MessageSpec, Quiet, StopRules

LONGEST_WORDS: Final = 300

_LIMITS: Final = {
    "gap_ms": "{:,} ms between two messages",
    "per_second": "{:,} a second",
    "per_minute": "{:,} a minute",
    "per_hour": "{:,} an hour",
    "per_day": "{:,} in 24 h",
    "new_people_per_day": "{:,} people in 24 h",
}
_ON_UNKNOWN: Final = {
    OnUnknown.HOLD: "held until somebody decides",
    OnUnknown.RESEND: "sent again after a while",
    OnUnknown.SKIP: "left as they are",
}


def describe_spec(spec: CampaignSpec) -> list[tuple[str, str]]:
    """Field and words for each thing that holds, in the order in which people ask; one line each."""
    return list(_describe(spec))


def _describe(spec: CampaignSpec) -> Iterator[tuple[str, str]]:
    yield "campaign", spec.name if spec.title == spec.name else f"{spec.name} ({spec.title})"
    total = sum(message.weight for message in spec.messages)
    for message in spec.messages:
        share = f"to {message.weight} of {total}: " if message.name else ""
        yield f"says {message.name}".rstrip(), share + _describe_message(message)
    if spec.language != "plain":
        yield "language", spec.language
    yield from _list_fields("for everybody", spec.variables)
    yield from _list_fields("if missing", spec.fallbacks)
    yield from _describe_audience(spec.audience)
    yield from _describe_time(spec)
    yield from _describe_pace(spec)
    if spec.canary is not None:
        people = "person" if spec.canary.size == 1 else "people"
        yield "canary", f"{spec.canary.size:,} {people} first, the rest {_span(spec.canary.hold_ms)} after them"
    yield "stops", _describe_stop(spec.stop)
    yield "sends by", f"instance {spec.instance}, priority {spec.priority}"
    yield "attempts", f"{spec.max_attempts} at most; unknown outcomes are {_ON_UNKNOWN[spec.on_unknown]}"
    if spec.short_links:
        yield "links", f"replaced by short ones under {spec.short_links}"
    if spec.rates:
        yield "prices", f"from {show_text(spec.rates)}"


def _list_fields(label: str, fields: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    if fields:
        yield label, _cut(", ".join(f"{name} = {_quote(value)}" for name, value in fields))


# What is said


def _describe_message(message: MessageSpec) -> str:
    if message.template is not None:
        values = [f"{_name_parameter(name)} {_quote(value)}" for name, value in message.parameters]
        values += [f"{message.header[0]} {_quote(message.header[1])}"] if message.header else []
        values += [f"button {index} {_quote(value)}" for index, _kind, value in message.buttons]
        filled = f" with {', '.join(values)}" if values else ""
        return _cut(f"template {message.template} ({message.language}){filled}")
    if message.kind is not None:
        texts = [message.text] if message.text else []
        texts += [text for place, text in message.parts if not place.endswith(".id") and place != "max_answers"]
        return _cut(f"{message.kind} {', '.join(map(_quote, texts))}")
    if message.media is not None:
        kind = message.media_type or "file"
        caption = f", {_quote(message.text)}" if message.text else ""
        return _cut(f"{kind} {_quote(message.media)}{caption}")
    return _cut(_quote(message.text or ""))


def _name_parameter(name: str) -> str:
    return f"value {name}" if name.isdigit() else name


def _quote(text: str) -> str:
    """A text on one line, in quotes, its line ends as \\n."""
    return json.dumps(text, ensure_ascii=False)


def _cut(words: str) -> str:
    return show_text(words, limit=LONGEST_WORDS)


# Who is meant


def _describe_audience(audience: Audience) -> Iterator[tuple[str, str]]:
    yield "to", _cut(" or ".join(map(_describe_source, audience.any_of)))
    if audience.all_of:
        yield "but only", _cut(" and ".join(map(_describe_source, audience.all_of)))
    if audience.none_of:
        yield "but not", _cut(" or ".join(map(_describe_source, audience.none_of)))


def _describe_source(source: AudienceSource) -> str:
    if source.kind == "subgroup":
        return f"subgroup {source.name}"
    if source.kind == "file":
        mapped = ", ".join(f"{variable} from {_quote(column)}" for variable, column in source.columns)
        return f"file {source.name}{f' ({mapped})' if mapped else ''}"
    if not source.match:
        return "every contact"
    return "contacts with " + " and ".join(f"{name} {_quote(value)}" for name, value in source.match)


# When


def _describe_time(spec: CampaignSpec) -> Iterator[tuple[str, str]]:
    schedule = spec.schedule
    if schedule.every is not None:
        last = f", until {schedule.until}" if schedule.until else ""
        yield "when", describe_rule(parse_rule(schedule.every)) + last
        late = f"sent up to {_span(schedule.grace_ms)} late" if schedule.missed is Missed.SEND else "left out"
        yield "if missed", late
    else:
        yield "when", schedule.at or "as soon as it is started"
    if schedule.is_local:
        yield "time zone", "everybody's own"
    elif schedule.zone:
        yield "time zone", schedule.zone
    if schedule.between is not None:
        yield "spread over", _hours(*schedule.between)
    if not spec.quiet.is_empty:
        yield "quiet", _describe_quiet(spec.quiet)
    if spec.expires:
        yield "expires", _describe_expiry(spec.expires)


def _describe_expiry(words: str) -> str:
    try:
        parse_duration(words)
    except UsageError:
        return words
    return f"{words} after a message was due"


def _describe_quiet(quiet: Quiet) -> str:
    parts = [_hours(quiet.start, quiet.end)] if quiet.start is not None and quiet.end is not None else []
    if quiet.days:
        parts.append(f"on {join_with_and(tuple(DAYS[day].capitalize() for day in sorted(quiet.days)))}")
    if quiet.dates:
        parts.append(f"on {join_with_and(tuple(sorted(quiet.dates)))}")
    return _cut(", ".join(parts))


def _hours(start: int, end: int) -> str:
    return f"{start // 60:02}:{start % 60:02} to {end // 60:02}:{end % 60:02}"


# How fast


def _describe_pace(spec: CampaignSpec) -> Iterator[tuple[str, str]]:
    pacing = spec.pacing
    if pacing.is_auto:
        pace = "by the number of people"
    elif pacing.delay_ms:
        pace = f"{pacing.delay_ms:,} ms between two messages"
    elif spec.schedule.between is not None:
        pace = "evenly over its hours"
    else:
        pace = "as fast as the limits allow"
    jitter = f", shaken by {pacing.jitter:.0%} (seed {pacing.seed})" if pacing.jitter else ""
    yield "pace", pace + jitter
    if spec.limits:
        yield "limits", "at most " + join_with_and(tuple(_LIMITS[name].format(value) for name, value in spec.limits))


def _describe_stop(stop: StopRules) -> str:
    rules = [
        f"over {_share(rate)} {what}"
        for rate, what in ((stop.failure_rate, "failed"), (stop.opt_out_rate, "opted out"))
        if rate is not None
    ]
    if not rules:
        return "never by itself"
    return f"by itself when {join_with_or(tuple(rules))}, from {stop.after:,} outcomes on"


def _share(rate: float) -> str:
    return f"{rate * 100:.6g}%"


def _span(ms: int) -> str:
    return show_span(timedelta(milliseconds=ms))
