"""When messages are due: the grammar of `--at` and of durations, and how a batch is spread over time.

Nothing here reads a clock: `now` and the user's zone are arguments.  A time that people read in two ways is
refused with both readings; what a change of the clocks makes impossible or double is resolved and noted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from difflib import get_close_matches
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from wa_cli.domain.wall_clock import (
    CLOCK,
    DAY_WORDS,
    DAYS,
    MONTH_WORDS,
    MONTHS,
    join_with_or,
    read_clock,
    settle_wall,
    show_clock,
    show_day,
    show_words,
    suggest_word,
    tidy_words,
)
from wa_cli.domain.wall_clock import InvalidTime as InvalidTime  # refused here, so it is found here, too

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class Instant:
    """A time as understood.

    at: aware UTC.  zone: the zone it is shown in: the one written, else the user's.  words: as typed.
    note: what was chosen where the words left a choice (a gap or overlap of the clocks), or None.
    """

    at: datetime
    zone: str
    words: str
    note: str | None


GRACE = timedelta(seconds=60)  # someone who types the current minute means now
FURTHEST = timedelta(days=20 * 366)  # beyond it a year was mistyped
LONGEST_DURATION = timedelta(days=3660)

_EXAMPLES = "write it like 2026-11-22T09:00, 18:30, tomorrow 9am, monday 9am, in 2h30m, or now"


def parse_time(text: str, *, now: datetime, zone: ZoneInfo) -> Instant:
    """The one instant that the words of `--at` can mean.

    Takes ISO 8601 with or without zone, `2026-11-22 09:00 Europe/Berlin`, epoch seconds (10 digits), `18:30`,
    `9am`, `noon`, `today|tomorrow|monday..sunday [at] TIME`, `next monday TIME`, `22 Nov 2026 09:00`,
    `in 2h30m`, `in 3 days` and `now`; a zone name or offset may end all that name a time of day.  Days and
    weeks of `in` keep the time of day, hours and less are exact.  now: aware.
    Raises: InvalidTime on anything else: past by over a minute, ambiguous, impossible, over 20 years ahead.
    Source: row R2 for epoch seconds; the rest is ours.
    """
    words = tidy_words(text)
    if not words:
        raise InvalidTime("the time is empty", hint=_EXAMPLES)
    if len(words) > 100:
        raise InvalidTime("the time is too long to be one", hint=_EXAMPLES)
    try:
        instant = _read(words, text.strip(), now.astimezone(UTC), zone)
    except OverflowError as problem:
        raise InvalidTime(f"'{show_words(text)}' is outside the years wa knows", hint=_EXAMPLES) from problem
    late = now - instant.at
    if late > GRACE:
        raise InvalidTime(
            f"'{show_words(text)}' was {show_span(late)} ago ({_stamp(instant.at, instant.zone)})",
            hint=_hint_for_the_past(words),
        )
    if -late > FURTHEST:
        raise InvalidTime(f"'{show_words(text)}' is more than 20 years ahead", hint="check the year")
    return instant


def check_time(text: str) -> str:
    """The same words, if they can mean an instant to somebody who reads them at the right time.

    For words that are read later and again, such as those in a file.  Raises: InvalidTime as `parse_time` does, except
    for what is past or far ahead.
    """
    words = tidy_words(text)
    if not words or len(words) > 100:
        raise InvalidTime("the time is empty or too long to be one", hint=_EXAMPLES)
    try:
        _read(words, text.strip(), _A_MONDAY, ZoneInfo("UTC"))
    except InvalidTime:
        # The name of today's weekday is read in two ways, so that a name that is one is read on another day.
        _read(words, text.strip(), _A_MONDAY + timedelta(days=1), ZoneInfo("UTC"))
    except OverflowError as problem:
        raise InvalidTime(f"'{show_words(text)}' is outside the years wa knows", hint=_EXAMPLES) from problem
    return text


_A_MONDAY = datetime(2026, 1, 5, tzinfo=UTC)


def parse_duration(text: str) -> timedelta:
    """A length of time above zero: `90s`, `2h30m`, `1.5h`, `3 days`, `2 hours and 5 min`.

    Units are weeks, days (of 24 hours), hours, minutes and seconds, largest first.  A lone `m` is refused,
    since it may be minutes or months; beside hours or seconds (`2h30m`, `1m30s`) it is minutes.
    Raises: InvalidTime, also above ten years.
    """
    days, seconds = _read_duration(tidy_words(text), text)
    return timedelta(days=days, seconds=seconds)


def parse_wait(text: str) -> timedelta:
    """A length of time during which something waits: nobody waits for months, so `30m` is half an hour here.

    Raises: InvalidTime as `parse_duration` does.
    """
    return parse_duration(re.sub(r"(\d\s?)m\b", r"\1min", text.strip().lower()))


def describe_instant(instant: datetime, *, zone: ZoneInfo, now: datetime) -> str:
    """One line for people: `Sun 22 Nov 2026 09:00 Europe/Berlin (08:00 UTC, in 8 h 49 min)`.

    The day is repeated before UTC where it differs.  instant, now: aware.
    """
    local, utc = instant.astimezone(zone), instant.astimezone(UTC)
    distance = _distance(instant - now)
    if str(zone) in _UTC_NAMES:
        return f"{show_day(utc.date())} {show_clock(utc)} UTC ({distance})"
    day = "" if local.date() == utc.date() else f"{show_day(utc.date())} "
    return f"{show_day(local.date())} {show_clock(local)} {zone} ({day}{show_clock(utc)} UTC, {distance})"


def progressive_due_times(start: datetime, *, count: int, delay_ms: int) -> Iterator[datetime]:
    """The due times of a batch, in order: message i at `start + i * delay_ms`.

    Raises: InvalidTime at once when the last one lies outside the calendar, ValueError on a negative delay.
    Source: rows R1 and T3.
    """
    if delay_ms < 0:
        raise ValueError("delay_ms is negative")
    try:
        _ = start + timedelta(milliseconds=max(count - 1, 0) * delay_ms)
    except OverflowError as problem:
        raise InvalidTime(
            f"{count} messages {delay_ms} ms apart would never end", hint="take a smaller --delay"
        ) from problem
    return (start + timedelta(milliseconds=index * delay_ms) for index in range(count))


def recommended_delay_ms(size: int) -> tuple[int, int]:
    """The least and the greatest delay advised between the messages of a batch of `size`.  Source: row R4."""
    if size < 10:
        return 1000, 2000
    if size <= 50:
        return 2000, 5000
    return 5000, 10000


def auto_delay_ms(size: int) -> int:
    """What `--delay auto` takes: a point inside the recommended range that grows with the batch.

    From 1000 ms for one to 2000 ms for ten, to 5000 ms for fifty, to 10000 ms for a thousand and beyond, in
    straight lines, rounded to 100 ms: batches of nearly one size get nearly one delay, across borders too.
    Source: row R4 for the ranges; the lines are ours.
    """
    corners = ((1, 1000), (10, 2000), (50, 5000), (1000, 10000))
    for (low, least), (high, most) in pairwise(corners):
        if size <= high:
            exact = least + (most - least) * (max(size, low) - low) / (high - low)
            return round(exact / 100) * 100
    return corners[-1][1]


# The words of --at

_KEYWORDS = [*DAYS, *MONTHS, "today", "tomorrow", "noon", "midnight", "next", "now"]

_OFFSET = r"(?:z|(?:utc|gmt)?[+-]\d{1,2}(?::?\d{2})?|utc|gmt)"
_ZONE = rf"(?:\s*(?P<offset>{_OFFSET})|\s+(?P<zone>[a-z][a-z0-9_+/-]*(?:\s[a-z]+)?))?"
_DATE = r"(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})"
_NAMED_DATE = (
    r"(?:(?P<dayname>[a-z]+),?\s)?(?:(?P<day1>\d{1,2})(?:st|nd|rd|th)?\s(?P<month1>[a-z]+)|"
    r"(?P<month2>[a-z]+)\s(?P<day2>\d{1,2})(?:st|nd|rd|th)?),?\s(?P<year>\d{4})"
)

_ISO = re.compile(rf"{_DATE}(?:t\s?|,?\s(?:at\s)?)(?P<clock>{CLOCK}){_ZONE}")
_NAMED = re.compile(rf"{_NAMED_DATE},?\s(?:at\s)?(?P<clock>{CLOCK}){_ZONE}")
_RELATIVE = re.compile(rf"(?P<next>next\s)?(?P<dayword>[a-z]+),?\s(?:at\s)?(?P<clock>{CLOCK}){_ZONE}")
_RELATIVE_LAST = re.compile(rf"(?:at\s)?(?P<clock>{CLOCK})\s(?:on\s)?(?P<next>next\s)?(?P<dayword>[a-z]+){_ZONE}")
_TODAY = re.compile(rf"(?:at\s)?(?P<clock>{CLOCK}){_ZONE}")
_DAY_ALONE = (re.compile(_DATE), re.compile(_NAMED_DATE), re.compile(r"(?:next\s)?(?P<dayword>[a-z]+)"))


def _read(words: str, typed: str, now: datetime, zone: ZoneInfo) -> Instant:
    if words == "now":
        return Instant(at=now, zone=str(zone), words=typed, note=None)
    if words.startswith("in "):
        return _read_distance(words[3:], typed, now, zone)
    if re.fullmatch(r"\d+", words):
        return _read_number(words, typed, zone)
    _refuse_slashes(words, typed)
    if match := _ISO.fullmatch(words):
        day = _calendar_day(int(match["year"]), int(match["month"]), int(match["day"]), typed)
        return _resolve(day, match, typed, now, zone)
    if match := _NAMED.fullmatch(words):
        return _resolve(_named_day(match, typed), match, typed, now, zone)
    for pattern in (_RELATIVE, _RELATIVE_LAST):
        match = pattern.fullmatch(words)
        if match and (match["dayword"] in {"today", "tomorrow"} or match["dayword"] in DAY_WORDS):
            return _read_relative(match, typed, now, zone)
    if match := _TODAY.fullmatch(words):
        return _resolve(None, match, typed, now, zone)
    raise _not_understood(words, typed)


def _read_distance(words: str, typed: str, now: datetime, zone: ZoneInfo) -> Instant:
    days, seconds = _read_duration(words, typed)
    if not days:
        return Instant(at=now + timedelta(seconds=seconds), zone=str(zone), words=typed, note=None)
    wall = now.astimezone(zone).replace(tzinfo=None, fold=0) + timedelta(days=days)
    at, note = settle_wall(wall, zone, not_before=now - GRACE)
    return Instant(at=at + timedelta(seconds=seconds), zone=str(zone), words=typed, note=note)


def _read_number(words: str, typed: str, zone: ZoneInfo) -> Instant:
    if len(words) == 10:
        return Instant(at=datetime.fromtimestamp(int(words), UTC), zone=str(zone), words=typed, note=None)
    unit = {13: "milliseconds", 16: "microseconds", 19: "nanoseconds"}.get(len(words))
    if unit:
        raise InvalidTime(f"'{typed}' looks like epoch {unit}", hint=f"epoch times are seconds: write {words[:10]}")
    if len(words) <= 2 and 1 <= int(words) <= 31:
        readings = f"{int(words):02}:00" if int(words) < 24 else f"the {int(words)}th of a month"
        if int(words) <= 12:
            readings = f"{int(words) % 12:02}:00 or {int(words) % 12 + 12:02}:00"
        raise InvalidTime(
            f"'{typed}' could be {readings}, or a day of the month",
            hint="write it like 09:00, 9pm or 2026-11-22T09:00",
        )
    if len(words) == 4 and int(words[:2]) < 24 and int(words[2:]) < 60:
        raise InvalidTime(f"'{typed}' could be a time of day or a year", hint=f"write {words[:2]}:{words[2:]}")
    raise InvalidTime(f"'{typed}' is not a time", hint="epoch times are seconds and have ten digits")


def _refuse_slashes(words: str, typed: str) -> None:
    match = re.match(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|\d{2})(?!\d)", words)
    if not match:
        return
    first, second, year = int(match[1]), int(match[3]), int(match[4])
    year += 2000 if year < 100 else 0
    readings = []
    for month, day in ((second, first), (first, second)):
        try:
            readings.append(date(year, month, day))
        except ValueError:
            continue
    if not readings:
        raise InvalidTime(f"'{show_words(typed)}' names a day that does not exist", hint=_EXAMPLES)
    if len(set(readings)) == 2:
        spelled = " or ".join(f"{day.day} {MONTHS[day.month - 1].capitalize()} {day.year}" for day in readings)
        raise InvalidTime(
            f"'{show_words(typed)}' could be {spelled}",
            hint=f"write {readings[0]} or {readings[1]} with the time after it, such as {readings[0]} 09:00",
        )
    raise InvalidTime(
        f"'{show_words(typed)}' is not how wa reads dates",
        hint=f"write {readings[0].isoformat()} with the time after it",
    )


def _named_day(match: re.Match[str], typed: str) -> date:
    month_word = match["month1"] or match["month2"]
    month = MONTH_WORDS.get(month_word)
    if month is None:
        raise InvalidTime(f"'{month_word}' is not a month", hint=suggest_word(month_word, MONTHS) or _EXAMPLES)
    day = _calendar_day(int(match["year"]), month, int(match["day1"] or match["day2"]), typed)
    dayname = match["dayname"]
    if dayname is None:
        return day
    if dayname not in DAY_WORDS:
        raise InvalidTime(f"'{dayname}' is not a day of the week", hint=suggest_word(dayname, DAYS) or _EXAMPLES)
    if DAY_WORDS[dayname] != day.weekday():
        raise InvalidTime(
            f"{show_day(day)[4:]} is a {DAYS[day.weekday()].capitalize()}",
            hint="leave the day of the week away, or correct one of the two",
        )
    return day


def _calendar_day(year: int, month: int, day: int, typed: str) -> date:
    try:
        return date(year, month, day)
    except ValueError as problem:
        if 1 <= month <= 12 and 1 <= day <= 31 and year:
            reason = f"{MONTHS[month - 1].capitalize()} {year} has no day {day}"
        else:
            reason = f"'{show_words(typed)}' names a day that does not exist"
        raise InvalidTime(reason, hint=_EXAMPLES) from problem


def _read_relative(match: re.Match[str], typed: str, now: datetime, zone: ZoneInfo) -> Instant:
    shown_zone = _zone_of(match, zone, typed)[0]
    today = now.astimezone(shown_zone).date()
    word = match["dayword"]
    if word in {"today", "tomorrow"}:
        if match["next"]:
            raise InvalidTime(f"'{show_words(typed)}' is not a day", hint=f"leave 'next' away: {word} {match['clock']}")
        return _resolve(today + timedelta(days=word == "tomorrow"), match, typed, now, zone)
    ahead = (DAY_WORDS[word] - today.weekday()) % 7
    name = DAYS[DAY_WORDS[word]]
    if ahead:
        instant = _resolve(today + timedelta(days=ahead), match, typed, now, zone)
        if not match["next"]:
            return instant
        note = f"next {name} is read as the coming one, {show_day(today + timedelta(days=ahead))}"
        return Instant(
            at=instant.at,
            zone=instant.zone,
            words=typed,
            note=f"{note}; {instant.note}" if instant.note else note,
        )
    first = _resolve(today, match, typed, now, zone)
    still_ahead = first.at > now
    if not still_ahead and not match["next"]:
        return _resolve(today + timedelta(days=7), match, typed, now, zone)
    near = today if still_ahead else today + timedelta(days=7)
    far, clock = near + timedelta(days=7), match["clock"]
    raise InvalidTime(
        f"today is {name.capitalize()}, so '{show_words(typed)}' could be {show_day(near)} or {show_day(far)}",
        hint=f"write {near} {clock} or {far} {clock}",
    )


def _resolve(day: date | None, match: re.Match[str], typed: str, now: datetime, zone: ZoneInfo) -> Instant:
    """day: None for the current one, in the zone that the words name."""
    clock = read_clock(match["clock"], typed)
    shown_zone, offset = _zone_of(match, zone, typed)
    place = offset or shown_zone
    wall = datetime.combine(day or now.astimezone(place).date(), clock)
    if offset is not None:
        at, note = wall.replace(tzinfo=offset).astimezone(UTC), None
    else:
        at, note = settle_wall(wall, shown_zone, not_before=now - GRACE)
    return Instant(at=at, zone=str(shown_zone), words=typed, note=note)


# Zones

_UTC_NAMES = frozenset({"UTC", "Etc/UTC", "Z"})
_ABBREVIATIONS = {
    "ist": ("Asia/Kolkata", "Asia/Jerusalem", "Europe/Dublin"),
    "cst": ("America/Chicago", "Asia/Shanghai"),
    "cdt": ("America/Chicago", "America/Havana"),
    "est": ("America/New_York", "America/Panama"),
    "edt": ("America/New_York",),
    "mst": ("America/Denver", "America/Phoenix"),
    "mdt": ("America/Denver",),
    "pst": ("America/Los_Angeles", "Asia/Manila"),
    "pdt": ("America/Los_Angeles",),
    "bst": ("Europe/London", "Asia/Dhaka"),
    "cet": ("Europe/Berlin", "Europe/Paris"),
    "cest": ("Europe/Berlin", "Europe/Paris"),
    "eet": ("Europe/Athens", "Africa/Cairo"),
    "eest": ("Europe/Athens",),
    "wet": ("Europe/Lisbon",),
    "msk": ("Europe/Moscow",),
    "ast": ("America/Halifax", "Asia/Riyadh"),
    "gst": ("Asia/Dubai",),
    "sgt": ("Asia/Singapore",),
    "hkt": ("Asia/Hong_Kong",),
    "jst": ("Asia/Tokyo",),
    "kst": ("Asia/Seoul",),
    "wib": ("Asia/Jakarta",),
    "brt": ("America/Sao_Paulo",),
    "art": ("America/Argentina/Buenos_Aires",),
    "aest": ("Australia/Sydney", "Australia/Brisbane"),
    "aedt": ("Australia/Sydney",),
    "hst": ("Pacific/Honolulu",),
    "sast": ("Africa/Johannesburg",),
    "wat": ("Africa/Lagos",),
    "cat": ("Africa/Maputo",),
    "eat": ("Africa/Nairobi",),
    "pkt": ("Asia/Karachi",),
}


def parse_zone(text: str) -> ZoneInfo:
    """A zone by its database name, in any case.  Raises: InvalidTime with the nearest names."""
    wanted = text.strip().lower().replace(" ", "_")
    if wanted in {"utc", "gmt", "z"}:
        return ZoneInfo("UTC")
    if wanted in _ABBREVIATIONS:
        names = _ABBREVIATIONS[wanted]
        several = (
            f"{wanted.upper()} could be {join_with_or(names)}"
            if len(names) > 1
            else f"{wanted.upper()} is no zone's name"
        )
        raise InvalidTime(several, hint=f"write {join_with_or(names)}, or an offset such as +05:30")
    name = _zone_names().get(wanted)
    if name is None or ("/" not in name and (name.isupper() or any(map(str.isdigit, name)))):
        raise InvalidTime(f"no time zone named '{show_words(text)}'", hint=_nearest_zones(wanted))
    return load_zone(name)


@lru_cache(maxsize=1024)
def load_zone(name: str) -> ZoneInfo:
    """A zone by its exact name.  Raises: InvalidTime when this machine does not have it."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as problem:
        raise InvalidTime(f"the time zone '{name}' cannot be read", hint="install the tzdata package") from problem


def _zone_of(match: re.Match[str], zone: ZoneInfo, typed: str) -> tuple[ZoneInfo, tzinfo | None]:
    """The zone to show a time in, and the offset that the words give instead of a zone."""
    if match["zone"]:
        return parse_zone(match["zone"]), None
    words = match["offset"]
    if words is None:
        return zone, None
    sign = re.fullmatch(r"(?:z|utc|gmt)?(?:([+-])(\d{1,2})(?::?(\d{2}))?)?", words)
    if sign is None or sign[1] is None:
        return (ZoneInfo("UTC"), None) if words in {"utc", "gmt"} else (zone, UTC)
    hours, minutes = int(sign[2]), int(sign[3] or 0)
    if minutes > 59 or hours * 60 + minutes > 14 * 60:
        raise InvalidTime(
            f"'{words}' is no offset from UTC ('{show_words(typed)}')", hint="they go from -12:00 to +14:00"
        )
    offset = timedelta(hours=hours, minutes=minutes)
    return zone, timezone(-offset if sign[1] == "-" else offset)


@lru_cache(maxsize=1)
def _zone_names() -> dict[str, str]:
    odd = {"localtime", "posixrules", "factory"}
    return {name.lower(): name for name in available_timezones() if name.lower() not in odd}


def _nearest_zones(wanted: str) -> str:
    names = _zone_names()
    cities: dict[str, str] = {}
    for lower, name in sorted(names.items()):
        if "/" in lower:
            cities.setdefault(lower.rsplit("/", 1)[1], name)
    last = wanted.rsplit("/", 1)[-1]
    near = [names[match] for match in get_close_matches(wanted, names, n=2, cutoff=0.75)]
    near += [cities[match] for match in get_close_matches(last, cities, n=2, cutoff=0.75)]
    if not near:
        return "zones look like Europe/Berlin, offsets like +05:30"
    return f"did you mean {join_with_or(tuple(dict.fromkeys(near))[:2])}?"


# Durations

_UNITS = {
    word: (rank, seconds)
    for rank, (seconds, words) in enumerate(
        (
            (604800, "w week weeks wk wks"),
            (86400, "d day days"),
            (3600, "h hour hours hr hrs"),
            (60, "min mins minute minutes m"),
            (1, "s sec secs second seconds"),
        )
    )
    for word in words.split()
}
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s?([a-z]+)")


def _read_duration(words: str, typed: str) -> tuple[int, float]:
    """Whole days (weeks included) and the seconds beside them."""
    shown = show_words(typed)
    plain = re.sub(r"(?:,\s?|\s)and\s|,\s", " ", words)
    parts = _PART.findall(plain)
    if not parts or _PART.sub("", plain).strip():
        if words.strip("0.") and re.fullmatch(r"\d+(?:\.\d+)?", words):
            raise InvalidTime(f"'{shown}' has no unit", hint=f"write {words}s, {words}min or {words}h")
        if words.strip("0.") == "" and words:
            raise InvalidTime(f"'{shown}' is no time at all", hint="write more than 0, or leave it away")
        if "-" in words:
            raise InvalidTime(f"'{shown}' is negative or a range", hint="write it like 90s, 45min or 2h30m")
        raise InvalidTime(f"'{shown}' is not a length of time", hint="write it like 90s, 45min, 2h30m or 3 days")
    days, seconds, last = 0, 0.0, -1
    for amount, unit in parts:
        if unit in {"mo", "mos", "month", "months", "y", "yr", "yrs", "year", "years"}:
            raise InvalidTime(f"'{shown}' counts in months or years, which differ in length", hint="count in days")
        if unit not in _UNITS:
            raise InvalidTime(
                f"'{show_words(unit)}' is not a unit of time",
                hint=suggest_word(unit, _UNITS) or "units are s, min, h, days and weeks",
            )
        if unit == "m" and not any(_UNITS[other][1] in {1, 3600} for _, other in parts if other in _UNITS):
            raise InvalidTime(
                f"'{shown}' could be minutes or months",
                hint=f"write {amount}min, or count in days",
            )
        rank, size = _UNITS[unit]
        if rank <= last:
            raise InvalidTime(f"'{shown}' mixes its units", hint="put each unit once, largest first: 2h30m")
        last = rank
        if size >= 86400 and "." not in amount:
            days += int(amount) * size // 86400
        else:
            seconds += float(amount) * size
    if days + seconds / 86400 > LONGEST_DURATION.days:
        raise InvalidTime(f"'{shown}' is longer than ten years", hint="check the number and its unit")
    if not days and seconds <= 0:
        raise InvalidTime(f"'{shown}' is no time at all", hint="write more than 0, or leave it away")
    return days, seconds


# Words for people


def _not_understood(words: str, typed: str) -> InvalidTime:
    shown = show_words(typed)
    if month := MONTH_WORDS.get(words):
        name = MONTHS[month - 1].capitalize()
        return InvalidTime(
            f"'{shown}' could be 1 {name} or today's day of the month in {name}",
            hint=f"write the date and the time, such as 2030-{month:02}-01 09:00",
        )
    days = (pattern.fullmatch(words) for pattern in _DAY_ALONE)
    day = next((match.groupdict() for match in days if match), {})
    if "year" in day or day.get("dayword") in {*DAY_WORDS, "today", "tomorrow"}:
        return InvalidTime(f"'{shown}' has no time of day", hint=f"write {words} 09:00")
    if words.startswith("-"):
        return InvalidTime(f"'{shown}' is negative", hint=_EXAMPLES)
    if re.search(r"\bw\d\d|\d{4}-\d{3}\b", words):
        return InvalidTime(f"'{shown}' counts weeks or days of a year", hint="write the date: 2026-11-22 09:00")
    for word in re.findall(r"[a-z]{3,}", words):
        if word not in _KEYWORDS and (near := suggest_word(word, _KEYWORDS)):
            return InvalidTime(f"'{shown}' is not a time", hint=near)
    if lone := re.fullmatch(r"(\d+)\s?m", words):
        return InvalidTime(
            f"'{shown}' could be minutes or months",
            hint=f"write in {lone[1]}min, or a date",
        )
    if _DURATION_SHAPE.fullmatch(words):
        return InvalidTime(f"'{shown}' is a length of time, not a time", hint=f"write in {words}")
    return InvalidTime(f"'{shown}' is not a time", hint=_EXAMPLES)


_DURATION_SHAPE = re.compile(r"(?:\d+(?:\.\d+)?\s?(?:s|sec|min|mins|minutes?|h|hours?|d|days?|weeks?|m)\s?)+")


def _hint_for_the_past(words: str) -> str:
    match = _TODAY.fullmatch(words) or re.fullmatch(rf"today\s(?:at\s)?(?P<clock>{CLOCK}).*", words)
    if match:
        rest = words.removeprefix("today ").removeprefix("at ")
        return f"write tomorrow {rest}, or now"
    return "write a time ahead, or now"


def _stamp(moment: datetime, zone: str) -> str:
    local = moment.astimezone(ZoneInfo(zone))
    return f"{show_day(local.date())} {show_clock(local)} {zone}"


def show_span(length: timedelta) -> str:
    """The two largest units of a length: `8 h 49 min`, `3 d`, `20 s`."""
    seconds = int(length.total_seconds())
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    for position, (amount, _) in enumerate(parts):
        if amount:
            # Seconds beside minutes are noise, except in the first hour.
            return " ".join(f"{number} {unit}" for number, unit in parts[position : position + 2] if number)
    return "0 s"


def _distance(ahead: timedelta) -> str:
    if abs(ahead) < timedelta(seconds=1):
        return "now"
    return f"in {show_span(ahead)}" if ahead > timedelta(0) else f"{show_span(-ahead)} ago"
