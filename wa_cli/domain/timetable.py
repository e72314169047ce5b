"""Time in a campaign: times of day and days as words, the recipient's own zone, and when messages may leave.

Nothing here reads a clock.  What recurs is `domain.recurrence`; `--at` is `domain.schedule`.
The rule for changes of the clocks: a wall time that is skipped is as far after the gap as it was after its begin, one
that happens twice is the first of the two (fault 33).  Quiet hours go by what the wall clock shows: a quiet hour that
is repeated is quiet twice.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from wa_cli.domain.campaign import Missed, Quiet
from wa_cli.domain.schedule import load_zone, parse_zone
from wa_cli.domain.wall_clock import (
    CLOCK,
    DAY_WORDS,
    DAYS,
    InvalidTime,
    read_clock,
    settle_wall,
    show_day,
    show_words,
    suggest_word,
    tidy_words,
)
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from zoneinfo import ZoneInfo

FAR_FUTURE_MS: Final = 253_370_764_800_000  # the year 9999: where an opening ends that never ends
LOOK_AHEAD_DAYS: Final = 400  # more than a year of holidays
ON_TIME_MS: Final = 120_000  # a drain from cron comes by once a minute, and may itself be running

_DAY_MS: Final = 86_400_000
_MINUTE_MS: Final = 60_000


def parse_clock(text: str) -> int:
    """Minutes after midnight, from `09:00`, `9am`, `6:30 p.m.` or `noon`.

    Raises: InvalidTime on all else, on what is read in two ways (`9`, `12am`, `midnight`) with both readings.
    """
    words = tidy_words(text)
    shown = show_words(text)
    if words in {"midnight", "24:00"}:
        raise InvalidTime(f"'{shown}' is no time of a day by itself", hint="write 00:00, also where something ends")
    if re.fullmatch(r"\d{1,2}", words) and int(words) < 24:
        hour = int(words)
        readings = f"{hour % 12:02}:00 or {hour % 12 + 12:02}:00" if 0 < hour <= 12 else f"{hour:02}:00"
        raise InvalidTime(f"'{shown}' could be {readings}", hint=f"write {hour:02}:00, or am or pm after it")
    if re.fullmatch(r"\d{4}", words) and int(words[:2]) < 24 and int(words[2:]) < 60:
        raise InvalidTime(f"'{shown}' has no colon", hint=f"write {words[:2]}:{words[2:]}")
    if not re.fullmatch(CLOCK, words):
        raise InvalidTime(f"'{shown}' is not a time of day", hint="write it like 09:00, 9am or noon")
    clock = read_clock(words, text)
    if clock.second or clock.microsecond:
        raise InvalidTime(f"'{shown}' has seconds", hint=f"times here are whole minutes: {clock:%H:%M}")
    return clock.hour * 60 + clock.minute


def parse_days(words: Sequence[str]) -> frozenset[int]:
    """Weekdays, Monday as 0, from names, ranges such as `mon-fri` or `fri to mon`, `weekend` and `weekdays`.

    Each of the words may hold several, with commas or `and` between.  Raises: InvalidTime with the nearest name.
    """
    days: set[int] = set()
    for given in (words,) if isinstance(words, str) else words:
        for part in re.split(r"\s*,\s*(?:and\s)?|\s(?:and|or|&)\s", tidy_words(given)):
            days |= _read_days(part, given)
    return frozenset(days)


def _read_days(part: str, typed: str) -> set[int]:
    group = {"weekend": {5, 6}, "weekday": {0, 1, 2, 3, 4}, "every day": set(range(7))}
    if (days := group.get(part.removesuffix("s"))) is not None:
        return set(days)
    first, dash, last = re.sub(r"\s(?:to|until|through)\s", "-", part).partition("-")
    begin = _read_day(first.strip(), typed)
    if not dash:
        return {begin}
    end = _read_day(last.strip(), typed)
    return {(begin + step) % 7 for step in range((end - begin) % 7 + 1)}


def _read_day(word: str, typed: str) -> int:
    name = word.rstrip(".")
    day = DAY_WORDS.get(name, DAY_WORDS.get(name.removesuffix("s")))
    if day is not None:
        return day
    shown = show_words(word or typed)
    if word.isdigit():
        raise InvalidTime(f"'{shown}' is not a weekday, which some count from Sunday", hint="write its name: mon, tue")
    near = suggest_word(word, [*DAYS, "weekend", "weekdays"])
    raise InvalidTime(f"'{shown}' is not a day of the week", hint=near or "write days like mon, mon-fri or weekend")


def settle_local(day: date, minute: int, zone: ZoneInfo) -> tuple[int, str | None]:
    """The instant in ms of a wall time, and a note where the clocks skip it (moved) or repeat it (the first is taken).

    minute: after midnight.  Source: fault 33.
    """
    at, note = settle_wall(datetime.combine(day, time(*divmod(minute, 60))), zone)
    return (at - _EPOCH) // _MILLISECOND, note


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def judge_missed(occurrence_at_ms: int, now_ms: int, missed: Missed, grace_ms: int) -> bool:
    """Whether an occurrence is still to be sent now that somebody looks.

    One that is late by ON_TIME_MS at most was not missed, whatever the setting says.
    """
    late_ms = now_ms - occurrence_at_ms
    return late_ms <= (max(grace_ms, ON_TIME_MS) if missed is Missed.SEND else ON_TIME_MS)


# The recipient's own zone

ZONE_FIELDS: Final = ("timezone", "time_zone", "zone", "tz")


def zone_of(address: str, fields: Mapping[str, str], default: ZoneInfo) -> ZoneInfo:
    """Where a recipient lives, as far as is known: their field, else the region of their number, else the default.

    fields: what is known of them; the first filled one of ZONE_FIELDS counts, in any case.
    A number whose region has several zones gets the default where that is one of them, else the one of them where
    most people live.  Groups, satellite phones and numbers of no country get the default.
    Raises: InvalidTime on a field that names no zone.
    """
    for name in _zone_fields(tuple(fields)):
        if written := fields[name].strip():
            return _written_zone(written)
    if not address.startswith("+"):
        return default
    digits, (known, lengths) = address[1:], _zones_by_prefix()
    for length in lengths.get(digits[:3], ()):
        names = known.get(digits[:length])
        if names is not None:
            return default if default.key in names else load_zone(names[0])
    return default


# Where the table names a neighbour of the country, often with other rules for the summer.
_CORRECTED: Final = {
    "211": "Africa/Juba",
    "212": "Africa/Casablanca",
    "213": "Africa/Algiers",
    "218": "Africa/Tripoli",
    "231": "Africa/Monrovia",
    "245": "Africa/Bissau",
    "353": "Europe/Dublin",
    "370": "Europe/Vilnius",
    "371": "Europe/Riga",
    "372": "Europe/Tallinn",
    "375": "Europe/Minsk",
    "505": "America/Managua",
    "850": "Asia/Pyongyang",
    "853": "Asia/Macau",
    "970": "Asia/Hebron",
}
# One zone under one name, so that its people are in one part of a campaign.
_RENAMED: Final = {
    "Africa/Asmera": "Africa/Asmara",
    "America/Buenos_Aires": "America/Argentina/Buenos_Aires",
    "America/Godthab": "America/Nuuk",
    "Asia/Calcutta": "Asia/Kolkata",
    "Asia/Choibalsan": "Asia/Ulaanbaatar",
    "Asia/Katmandu": "Asia/Kathmandu",
    "Asia/Rangoon": "Asia/Yangon",
    "Asia/Saigon": "Asia/Ho_Chi_Minh",
    "Atlantic/Faeroe": "Atlantic/Faroe",
    "Europe/Kiev": "Europe/Kyiv",
    "Pacific/Enderbury": "Pacific/Kanton",
    "Pacific/Ponape": "Pacific/Pohnpei",
    "Pacific/Truk": "Pacific/Chuuk",
}
# Of the zones that one prefix can have: the one earliest in this list, else the first in the alphabet.
_MOST_PEOPLE: Final = (
    *("America/New_York", "America/Boise", "America/Phoenix", "America/North_Dakota/Center", "America/Anchorage"),
    *("America/St_Johns", "America/Mexico_City", "America/Sao_Paulo", "America/Guayaquil", "America/Nuuk"),
    *("Europe/London", "Europe/Moscow", "Europe/Madrid", "Europe/Rome", "Europe/Lisbon", "Europe/Oslo"),
    *("Europe/Helsinki", "Africa/Kinshasa", "Indian/Reunion", "Asia/Almaty", "Asia/Ulaanbaatar", "Asia/Jakarta"),
    *("Asia/Makassar", "Australia/Sydney", "Australia/Perth", "Pacific/Auckland", "Pacific/Tarawa"),
    *("Pacific/Tahiti", "Pacific/Chuuk"),
)


@lru_cache(maxsize=1)
def _zones_by_prefix() -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[int, ...]]]:
    """The zones that numbers with a prefix can have, the likeliest first; and the lengths of prefixes to try.

    The lengths stand under the first three digits, the longest first: most countries have one prefix.
    """
    from phonenumbers.tzdata import TIMEZONE_DATA

    def order(name: str) -> tuple[int, str]:
        return (_MOST_PEOPLE.index(name) if name in _MOST_PEOPLE else len(_MOST_PEOPLE), name)

    known = {
        prefix: tuple(sorted({_RENAMED.get(name, name) for name in names}, key=order))
        for prefix, names in TIMEZONE_DATA.items()
        if prefix[:3] not in _CORRECTED
    }
    known |= {code: (name,) for code, name in _CORRECTED.items()}
    lengths: dict[str, set[int]] = {f"{head:03}": set() for head in range(1000)}
    for prefix in known:
        open_digits = 3 - min(3, len(prefix))
        for rest in range(10**open_digits):
            lengths[prefix[:3] + (f"{rest:0{open_digits}}" if open_digits else "")].add(len(prefix))
    return known, {head: tuple(sorted(tried, reverse=True)) for head, tried in lengths.items()}


@lru_cache(maxsize=1024)
def _zone_fields(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the fields that may name a zone, in the order in which they count."""
    plain = {name: name.strip().lower().replace(" ", "_") for name in names}
    return tuple(name for wanted in ZONE_FIELDS for name in names if plain[name] == wanted)


@lru_cache(maxsize=1024)
def _written_zone(text: str) -> ZoneInfo:
    try:
        name = parse_zone(text).key
    except InvalidTime as problem:
        hint = (problem.hint or "").replace(", or an offset such as +05:30", "").replace(", offsets like +05:30", "")
        raise InvalidTime(problem.message, hint=hint) from problem
    return load_zone(_RENAMED.get(name, name))


# When messages may leave


@dataclass(frozen=True, slots=True, kw_only=True)
class Openings:
    """When messages may leave in one zone.

    between: minutes after midnight; nothing leaves outside them.  Like quiet hours they are over midnight where the
    end is not after the start.  An instant is open if the wall clock shows an open time of an open day then.
    """

    quiet: Quiet
    zone: ZoneInfo
    between: tuple[int, int] | None = None

    def is_open(self, moment_ms: int) -> bool:
        return self._state(moment_ms)[0]

    def next_open(self, moment_ms: int) -> tuple[int, int]:
        """The first open instant at or after the moment, and the instant at which that opening ends, in ms.

        The end is FAR_FUTURE_MS where none is in sight.
        Raises: UsageError when nothing opens in LOOK_AHEAD_DAYS, with the reason.
        """
        opens_at = self._first(moment_ms, wanted=True)
        if opens_at is None:
            raise self._never(moment_ms)
        is_whole_day = _open_spans(self.quiet.start, self.quiet.end, self.between) == ((0, 1440),)
        if is_whole_day and not self.quiet.days:
            closes_at = self._next_quiet_date(opens_at)
        else:
            closes_at = self._first(opens_at, wanted=False)
        return opens_at, FAR_FUTURE_MS if closes_at is None else closes_at

    def _first(self, moment_ms: int, *, wanted: bool) -> int | None:
        """The first instant at or after the moment that is open, or closed, as wanted."""
        at_ms, last_ms = moment_ms, moment_ms + LOOK_AHEAD_DAYS * _DAY_MS
        while at_ms <= last_ms:
            is_open, until_ms = self._state(at_ms)
            if is_open is wanted:
                return at_ms
            at_ms = until_ms
        return None

    def _next_quiet_date(self, moment_ms: int) -> int | None:
        """The first instant of the next quiet date, for when only dates are quiet; the moment itself is open."""
        starts = (settle_local(date.fromisoformat(text), 0, self.zone)[0] for text in self.quiet.dates)
        return min((start for start in starts if start > moment_ms), default=None)

    def _state(self, at_ms: int) -> tuple[bool, int]:
        """Whether an instant is open, and the instant up to which nothing changes; at most a day later."""
        offset_ms = _offset_ms(at_ms, self.zone)
        day, in_day_ms = divmod(at_ms + offset_ms, _DAY_MS)
        is_open, change_ms = False, _DAY_MS
        # The first day of 1970 was a Thursday.
        if (day + 3) % 7 not in self.quiet.days and day not in _day_numbers(self.quiet.dates):
            for start, end in _open_spans(self.quiet.start, self.quiet.end, self.between):
                if in_day_ms < end * _MINUTE_MS:
                    is_open = in_day_ms >= start * _MINUTE_MS
                    change_ms = (end if is_open else start) * _MINUTE_MS
                    break
        until_ms = at_ms + change_ms - in_day_ms
        if _offset_ms(until_ms, self.zone) != offset_ms:
            until_ms = _find_clock_change(at_ms, until_ms, self.zone)
        return is_open, until_ms

    def _never(self, moment_ms: int) -> UsageError:
        quiet = self.quiet
        if not _open_spans(quiet.start, quiet.end, self.between):
            hours = f"{_show_minute(quiet.start or 0)} to {_show_minute(quiet.end or 0)}"
            window = "the whole day"
            if self.between and self.between[0] != self.between[1]:
                window = f"all of {_show_minute(self.between[0])} to {_show_minute(self.between[1])}"
            reason, hint = f"the quiet hours {hours} cover {window}", "shorten the quiet hours, or move `between`"
        elif len(quiet.days) == 7:
            reason, hint = "all seven days of the week are quiet", "leave a day open"
        else:
            day = show_day((_EPOCH + moment_ms * _MILLISECOND).date())
            reason = f"no hour of the {LOOK_AHEAD_DAYS} days after {day} is open in {self.zone}"
            hint = "leave a day and an hour open"
        return UsageError(f"nothing could ever leave: {reason}", hint=hint, code="never_open")


@lru_cache(maxsize=256)
def _open_spans(
    quiet_start: int | None, quiet_end: int | None, between: tuple[int, int] | None
) -> tuple[tuple[int, int], ...]:
    """The open minutes of an open day, in order."""
    window = _ring(*between) if between else ((0, 1440),)
    waking: tuple[tuple[int, int], ...] = ((0, 1440),)
    if quiet_start is not None and quiet_end is not None:
        waking = () if quiet_start == quiet_end else _ring(quiet_end, quiet_start)
    both = ((max(a[0], b[0]), min(a[1], b[1])) for a in window for b in waking)
    return tuple(sorted((start, end) for start, end in both if start < end))


def _ring(start: int, end: int) -> tuple[tuple[int, int], ...]:
    """From start to end around the clock, cut at midnight; the whole day where they are the same."""
    if start == end:
        return ((0, 1440),)
    spans = ((start, end),) if start < end else ((0, end), (start, 1440))
    return tuple((first, last) for first, last in spans if first < last)


@lru_cache(maxsize=256)
def _day_numbers(dates: frozenset[str]) -> frozenset[int]:
    """Days since 1970."""
    return frozenset((date.fromisoformat(text) - _EPOCH.date()).days for text in dates)


def _offset_ms(moment_ms: int, zone: ZoneInfo) -> int:
    offset = datetime.fromtimestamp(moment_ms // 1000, zone).utcoffset()
    return (offset or timedelta()) // _MILLISECOND


def _find_clock_change(low_ms: int, high_ms: int, zone: ZoneInfo) -> int:
    """The instant between two, in ms, at which the clocks change: the first with another offset than the lower."""
    before = _offset_ms(low_ms, zone)
    low, high = low_ms // 1000, -(-high_ms // 1000)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_ms(middle * 1000, zone) == before:
            low = middle
        else:
            high = middle
    return high * 1000


def _show_minute(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def encode_quiet(quiet: Quiet, zone_name: str, between: tuple[int, int] | None) -> str | None:
    """What a batch keeps of its openings, as JSON, or None when everything is open."""
    if quiet.is_empty and between is None:
        return None
    kept: dict[str, object] = {"zone": zone_name}
    if quiet.start is not None:
        kept |= {"start": quiet.start, "end": quiet.end}
    if quiet.days:
        kept["days"] = sorted(quiet.days)
    if quiet.dates:
        kept["dates"] = sorted(quiet.dates)
    if between is not None:
        kept["between"] = list(between)
    return json.dumps(kept, separators=(",", ":"))


@lru_cache(maxsize=256)
def decode_quiet(text: str | None) -> Openings | None:
    """What `encode_quiet` wrote.

    Raises: InvalidTime when this machine lacks the zone, ValueError on a text that nobody here has written.
    """
    if not text:
        return None
    kept = json.loads(text)
    if not isinstance(kept, dict) or not isinstance(kept.get("zone"), str):
        raise ValueError(f"not the openings of a batch: {text!r}")
    return Openings(
        quiet=Quiet(
            start=kept.get("start"),
            end=kept.get("end"),
            days=frozenset(kept.get("days", ())),
            dates=frozenset(kept.get("dates", ())),
        ),
        zone=load_zone(kept["zone"]),
        between=tuple(kept["between"]) if kept.get("between") else None,
    )
