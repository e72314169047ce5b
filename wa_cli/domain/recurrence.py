"""Campaigns that come back: the rule as words, when it is next, and the rule in plain words.

A rule is a pattern of days and one or more times of day, in the campaign's zone.  Each wall time is one occurrence: in
a gap of the clocks it moves behind it, in a fold it is the first of the two (fault 33).  Nothing here reads a clock or
keeps a state: the next occurrence follows from the rule, the last one and the campaign's first day (fault 36).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final, assert_never

from wa_cli.domain.timetable import parse_clock, parse_days, settle_local
from wa_cli.domain.wall_clock import (
    CLOCK,
    DAYS,
    MONTH_WORDS,
    MONTHS,
    InvalidTime,
    join_with_and,
    join_with_or,
    show_words,
    suggest_word,
    tidy_words,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from zoneinfo import ZoneInfo

LAST: Final = -1  # the last day of a month, or its last such weekday
LONGEST_STEP_DAYS: Final = 366
_LOOK_AHEAD_DAYS: Final = 9 * 366  # two 29ths of February may be eight years apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Daily:
    """Every so many days, from the campaign's first day."""

    every: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Weekly:
    """Some days (Monday is 0) of every so many weeks, from the week of the first such day of the campaign."""

    days: frozenset[int]
    every: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthDays:
    """Some days of each month that has them, 1 to 31 or LAST."""

    days: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthWeekday:
    """The nth (1 to 5, or LAST) such weekday of each month that has it."""

    nth: int
    day: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Crontab:
    """Days, months (1 to 12) and weekdays (Monday is 0) of a crontab line.

    is_either: both kinds of days are given, and one of them is enough, as in every cron.
    """

    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    is_either: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """words: as typed.  minutes: after midnight, ascending."""

    words: str
    days: Daily | Weekly | MonthDays | MonthWeekday | Crontab
    minutes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """key: the wall time as the rule has it, `2027-03-28T02:30`; it names the occurrence, also in a gap or a fold."""

    at_ms: int
    key: str


def next_occurrence(rule: Rule, after_ms: int, zone: ZoneInfo, until: date | None, anchor: date) -> Occurrence | None:
    """The first occurrence after an instant, or None when there is none any more.

    until: the last day that counts, in the zone.  anchor: the first one, from which days and weeks are counted.
    Two times of one rule that a gap of the clocks makes one instant are one occurrence, under the earlier's key.
    """
    local = datetime.fromtimestamp(after_ms // 1000, UTC).astimezone(zone).date()
    first = max(local - timedelta(days=1), anchor)  # a time before midnight may lie in a gap that ends after it
    best: Occurrence | None = None
    for ahead in range(_LOOK_AHEAD_DAYS):
        day = first + timedelta(days=ahead)
        if until is not None and day > until:
            return best
        if falls_on(rule, day, anchor):
            for minute in rule.minutes:
                at_ms, _note = settle_local(day, minute, zone)
                if at_ms > after_ms and (best is None or at_ms < best.at_ms):
                    best = Occurrence(at_ms=at_ms, key=f"{day}T{_show_minute(minute)}")
                    found_on = day
        # The day after the one that has it may still be earlier, for the same reason.
        if best is not None and day > found_on:
            return best
    return best


def falls_on(rule: Rule, day: date, anchor: date) -> bool:
    """Whether a rule has an occurrence on a day.  anchor: the first day that counts."""
    if day < anchor:
        return False
    pattern = rule.days
    match pattern:
        case Daily():
            return (day - anchor).days % pattern.every == 0
        case Weekly():
            if day.weekday() not in pattern.days:
                return False
            if pattern.every == 1:
                return True
            begin = anchor + timedelta(days=min((wanted - anchor.weekday()) % 7 for wanted in pattern.days))
            return ((_monday(day) - _monday(begin)).days // 7) % pattern.every == 0
        case MonthDays():
            return day.day in pattern.days or (LAST in pattern.days and _is_last(day))
        case MonthWeekday():
            if day.weekday() != pattern.day:
                return False
            return day.day + 7 > _length(day) if pattern.nth == LAST else (day.day + 6) // 7 == pattern.nth
        case Crontab():
            fits = (day.day in pattern.days, day.weekday() in pattern.weekdays)
            return day.month in pattern.months and (any(fits) if pattern.is_either else all(fits))
        case _:  # pragma: no cover
            assert_never(pattern)


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def _is_last(day: date) -> bool:
    return day.day == _length(day)


def _length(day: date) -> int:
    """Days of its month."""
    following = date(day.year + day.month // 12, day.month % 12 + 1, 1)
    return (following - timedelta(days=1)).day


# The words of a rule

_EXAMPLES = (
    "write it like daily 09:00, mon,wed,fri 18:30, every 2 weeks on monday 09:00, 1st of month 10:00, "
    "last friday of month 17:00, or a crontab line such as 0 9 * * mon"
)
_NTH = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "last": LAST}
_KEYWORDS = [*DAYS, "daily", "weekdays", "weekend", "every", "weeks", "days", "month", *_NTH]

_CLOCKS = re.compile(rf"(?:(?P<days>.+?),?\s)?(?:at\s)?(?P<clocks>{CLOCK}(?:\s?(?:,\s?|and\s){CLOCK})*)(?P<rest>.*)")
_STEP = re.compile(r"every\s(?P<count>other|\d{1,4})\s?(?P<unit>days?|weeks?)(?:\son\s(?P<on>.+))?")
_OF_MONTH = r"(?:\sof\s(?:(?:the|every|each|a)\s)?month)"
_NUMBER = r"(?:\d{1,2}(?:st|nd|rd|th)?|last(?:\sday)?)"
_MONTH_DAYS = re.compile(
    rf"(?:(?:monthly|every month)\s)?(?:on\s)?(?:the\s)?"
    rf"(?P<numbers>{_NUMBER}(?:(?:\s?,\s?|\sand\s)(?:the\s)?{_NUMBER})*)(?:\sdays?)?(?P<of>{_OF_MONTH})?"
)
_MONTH_WEEKDAY = re.compile(
    rf"(?:(?:monthly|every month)\s)?(?:on\s)?(?:the\s)?(?P<nth>{'|'.join(_NTH)}|[1-5](?:st|nd|rd|th))\s"
    rf"(?P<day>[a-z]+){_OF_MONTH}"
)


def parse_rule(text: str) -> Rule:
    """The rule behind words such as `daily 09:00`, `every 2 weeks on monday 09:00`, `last day of month 10:00`.

    Or behind a crontab line of five fields; its weekdays are names, or numbers where 0 and 7 are Sunday.  Several times
    of a day may stand at the end: `weekdays 09:00 and 17:00`.  Raises: InvalidTime with what would be right.
    """
    words = tidy_words(text)
    typed = text.strip()
    fields = words.split()
    if len(words) > 200:
        raise InvalidTime("the rule is too long to be one", hint=_EXAMPLES)
    if words.startswith("@"):
        raise InvalidTime(f"'{show_words(text)}' has no time of day", hint=_EXAMPLES)
    if len(fields) > 1 and all(re.fullmatch(r"[\d*?][\d*?,/-]*", field) for field in fields[:2]):
        return _read_crontab(fields, typed)
    match = _CLOCKS.fullmatch(words)
    if match is None:
        raise _without_clock(words, typed)
    days, clocks, rest = match["days"], match["clocks"].strip(), match["rest"].strip(" ,")
    if rest:
        raise _with_rest(days, clocks, rest, typed)
    if not days:
        raise InvalidTime(f"'{show_words(text)}' names no days", hint=f"write daily {clocks}")
    minutes = sorted({parse_clock(clock) for clock in re.split(r"\s?,\s?|\s?and\s", clocks)})
    return Rule(words=typed, days=_read_pattern(days, clocks, typed), minutes=tuple(minutes))


def _without_clock(words: str, typed: str) -> InvalidTime:
    shown, last = show_words(typed), words.rsplit(" ", 1)[-1]
    if not words:
        return InvalidTime("the rule is empty", hint=_EXAMPLES)
    if re.fullmatch(r"\d{1,4}", last):
        try:
            parse_clock(last)
        except InvalidTime as problem:
            return problem
    for word in re.findall(r"[a-z]{4,}", words):
        if word not in _KEYWORDS and (near := suggest_word(word, _KEYWORDS)):
            return InvalidTime(f"'{shown}' is no rule", hint=near)
    try:
        _read_pattern(words, "09:00", typed)
    except InvalidTime as problem:
        return problem
    return InvalidTime(f"'{shown}' has no time of day", hint=f"write {words} 09:00")


def _with_rest(days: str | None, clocks: str, rest: str, typed: str) -> InvalidTime:
    if not days:
        return InvalidTime(f"'{show_words(typed)}' begins with the time", hint=f"write {rest} {clocks}")
    hint = "end the rule with its time; a zone is given by `zone`, a last day by `until`, beside the rule"
    return InvalidTime(f"'{show_words(rest)}' after the time is not understood", hint=hint)


def _read_pattern(words: str, clocks: str, typed: str) -> Daily | Weekly | MonthDays | MonthWeekday:
    plain = re.sub(r"^each\s", "every ", words)
    if plain in {"daily", "every day"}:
        return Daily()
    if match := _STEP.fullmatch(plain):
        return _read_step(match, clocks, typed)
    if match := _MONTH_WEEKDAY.fullmatch(plain):
        nth = _NTH.get(match["nth"]) or int(match["nth"][0])
        if match["day"] != "day":
            days = parse_days([match["day"]])
            if len(days) == 1:
                return MonthWeekday(nth=nth, day=next(iter(days)))
            raise InvalidTime(
                f"'{show_words(typed)}' names several days", hint=f"write {match['nth']} friday of month {clocks}"
            )
        return MonthDays(days=frozenset({nth}))
    if match := _MONTH_DAYS.fullmatch(plain):
        return _read_month_days(match, plain, clocks, typed)
    if unit := re.search(r"hour|minute|second", plain):
        raise InvalidTime(f"a campaign does not come back by the {unit[0]}", hint="write its times: daily 09:00, 13:00")
    if re.search(r"year|annual", plain) or any(word in MONTH_WORDS for word in re.findall(r"[a-z]+", plain)):
        raise InvalidTime(
            f"'{show_words(typed)}' is no rule", hint="for some months write a crontab line such as 0 9 25 dec *"
        )
    if re.search(r"every (?:other|\d+) months?|quarter", plain):
        raise InvalidTime(
            f"'{show_words(typed)}' is no rule", hint="for every second month write the crontab line 0 9 1 */2 *"
        )
    if odd := re.fullmatch(r"every\s(?:\d(?:nd|rd|th)|other|second|third|fourth)\s([a-z]+)", plain):
        raise InvalidTime(
            f"'{show_words(typed)}' could be by weeks or within each month",
            hint=f"write every 2 weeks on {odd[1]} {clocks}, or second {odd[1]} of month {clocks}",
        )
    if plain in {"weekly", "every week", "monthly", "every month"}:
        such = f"monday {clocks}" if "week" in plain else f"1st of month {clocks}"
        raise InvalidTime(f"'{show_words(typed)}' does not say on which day", hint=f"write {such}")
    days_alone = re.sub(r"^(?:(?:weekly|every week)\s)?(?:on\s)?(?:every\s)?", "", plain)
    try:
        return Weekly(days=parse_days([days_alone]))
    except InvalidTime as problem:
        near = suggest_word(plain, _KEYWORDS) or problem.hint
        raise InvalidTime(
            f"'{show_words(typed)}' is no rule: {problem.message}",
            hint=near if near and near.startswith("did you mean") else _EXAMPLES,
        ) from problem


def _read_step(match: re.Match[str], clocks: str, typed: str) -> Daily | Weekly:
    every = 2 if match["count"] == "other" else int(match["count"])
    is_weeks = match["unit"].startswith("week")
    if not 1 <= every <= LONGEST_STEP_DAYS // (7 if is_weeks else 1):
        raise InvalidTime(f"'{show_words(typed)}' is not from 1 day to a year", hint=_EXAMPLES)
    if not is_weeks:
        if match["on"]:
            raise InvalidTime(
                f"'{show_words(typed)}' mixes days and weeks",
                hint=f"write every {every} days {clocks}, or {match['on']} {clocks}",
            )
        return Daily(every=every)
    if not match["on"]:
        raise InvalidTime(
            f"'{show_words(typed)}' does not say on which day", hint=f"write every {every} weeks on monday {clocks}"
        )
    return Weekly(days=parse_days([match["on"]]), every=every)


def _read_month_days(match: re.Match[str], words: str, clocks: str, typed: str) -> MonthDays:
    if not match["of"] and not re.match(r"monthly|every month", words):
        numbers = match["numbers"]
        raise InvalidTime(f"'{show_words(typed)}' does not say of what", hint=f"write {numbers} of month {clocks}")
    days = set()
    for number in re.split(r"\s?,\s?|\sand\s", match["numbers"]):
        digits = re.search(r"\d+", number)
        day = int(digits[0]) if digits else LAST
        if digits and not 1 <= day <= 31:
            raise InvalidTime(f"no month has a day {day}", hint="days go from 1st to 31st; the last one is: last day")
        days.add(day)
    return MonthDays(days=frozenset(days))


# Crontab lines

_MONTH_NUMBERS = {name[:3]: number for number, name in enumerate(MONTHS, 1)}
_CRON_DAYS = {name[:3]: (number + 1) % 7 for number, name in enumerate(DAYS)}
_FIELDS: Final[tuple[tuple[str, int, int, Mapping[str, int]], ...]] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, _MONTH_NUMBERS),
    ("weekday", 0, 7, _CRON_DAYS),
)
_DAYS_OF_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _read_crontab(fields: list[str], typed: str) -> Rule:
    if len(fields) != 5:
        known = "there is none for seconds or years" if len(fields) > 5 else "such as 0 9 * * mon"
        raise InvalidTime(
            f"'{show_words(typed)}' has {len(fields)} fields, a crontab line has five",
            hint=f"they are minute, hour, day of the month, month and weekday: {known}",
        )
    read = [
        _read_field(text, name, low, high, names, typed)
        for text, (name, low, high, names) in zip(fields, _FIELDS, strict=True)
    ]
    clock_minutes, hours, days, months, cron_weekdays = read
    weekdays = frozenset((number - 1) % 7 for number in cron_weekdays)  # Sunday is 0 or 7 there, and 6 here
    minutes = tuple(sorted(hour * 60 + minute for hour in hours for minute in clock_minutes))
    # Cron's own rule: a field that begins with a star does not choose days by itself.
    by_day, by_weekday = not fields[2].startswith("*"), not fields[4].startswith("*")
    if by_day and not by_weekday and not any(day <= _DAYS_OF_MONTHS[month - 1] for day in days for month in months):
        named = join_with_and([MONTHS[month - 1].capitalize() for month in sorted(months)])
        raise InvalidTime(f"{named} never has a day {min(days)}", hint="check the day and the month")
    pattern: Daily | Weekly | MonthDays | Crontab = Crontab(
        days=days, months=months, weekdays=weekdays, is_either=by_day and by_weekday
    )
    if len(months) == 12 and not (by_day and by_weekday):
        if len(days) == 31:
            pattern = Daily() if len(weekdays) == 7 else Weekly(days=weekdays)
        elif len(weekdays) == 7:
            pattern = MonthDays(days=days)
    return Rule(words=typed, days=pattern, minutes=minutes)


def _read_field(text: str, name: str, low: int, high: int, names: Mapping[str, int], typed: str) -> frozenset[int]:
    def read_value(word: str) -> int:
        value = names.get(word[:3]) if word.isalpha() and len(word) >= 3 else None
        if value is None and word.isdecimal():
            value = int(word)
        if value is None or not low <= value <= high:
            if re.fullmatch(r"\?|\d*l|\d*w|lw|\d#\d", word):
                raise InvalidTime(
                    f"'{show_words(typed)}' holds '{show_words(word)}', which crontab lines do not know",
                    hint="write last day of month 10:00, or first monday of month 10:00",
                )
            spelled = f", or names such as {next(iter(names))}" if names else ""
            raise InvalidTime(
                f"'{show_words(word)}' is not a {name} ('{show_words(typed)}')",
                hint=f"the {name} goes from {low} to {high}{spelled}",
            )
        return value

    found: set[int] = set()
    for item in text.split(","):
        span, slash, step = item.partition("/")
        if slash and (not step.isdecimal() or int(step) == 0):
            raise InvalidTime(f"'{show_words(item)}' has no step", hint="write it like */2, a number above 0")
        if span == "*":
            first, last = low, 6 if name == "weekday" else high
        else:
            begin, dash, end = span.partition("-")
            first = read_value(begin)
            last = read_value(end) if dash else high if slash else first
        if last < first and name == "weekday":
            last += 7  # fri-mon
        if last < first:
            raise InvalidTime(f"'{show_words(item)}' goes backwards", hint=f"write {last}-{first}, or two ranges")
        found |= {value % 7 if name == "weekday" else value for value in range(first, last + 1, int(step or 1))}
    return frozenset(found)


# Plain words


def describe_rule(rule: Rule) -> str:
    """The rule as a person would say it: `every Monday and Friday at 18:30`, `on the 31st of every month ...`."""
    days, note = _describe_days(rule.days)
    return f"{days} {_describe_clocks(rule.minutes)}{f'; {note}' if note else ''}"


def _describe_days(pattern: Daily | Weekly | MonthDays | MonthWeekday | Crontab) -> tuple[str, str | None]:
    match pattern:
        case Daily():
            return ("every day" if pattern.every == 1 else f"every {pattern.every} days"), None
        case Weekly():
            if pattern.every == 1:
                return _describe_weekdays(pattern.days), None
            named = join_with_and([DAYS[day].capitalize() for day in sorted(pattern.days)])
            return f"every {pattern.every} weeks on {named}", None
        case MonthDays():
            return f"on {_describe_numbers(pattern.days)} of every month", _describe_left_out(pattern.days)
        case MonthWeekday():
            nth = next(word for word, number in _NTH.items() if number == pattern.nth)
            note = "months without a fifth one are left out" if pattern.nth == 5 else None
            return f"on the {nth} {DAYS[pattern.day].capitalize()} of every month", note
        case Crontab():
            return _describe_crontab(pattern)
        case _:  # pragma: no cover
            assert_never(pattern)


def _describe_crontab(pattern: Crontab) -> tuple[str, str | None]:
    months = join_with_and([MONTHS[month - 1].capitalize() for month in sorted(pattern.months)])
    of_months, in_months = ("every month", "") if len(pattern.months) == 12 else (months, f" in {months}")
    by_number = f"on {_describe_numbers(pattern.days)} of {of_months}"
    by_weekday = f"{_describe_weekdays(pattern.weekdays)}{in_months}"
    if pattern.is_either:
        return f"{by_number} and {by_weekday}", _describe_left_out(pattern.days)
    if len(pattern.days) == 31:
        return by_weekday, None
    if len(pattern.weekdays) == 7:
        shortest = min(_DAYS_OF_MONTHS[month - 1] for month in pattern.months)
        is_short = 29 in pattern.days and 2 in pattern.months
        note = _describe_left_out(pattern.days) if is_short or max(pattern.days) > shortest else None
        return by_number, note
    named = join_with_or([DAYS[day].capitalize() for day in sorted(pattern.weekdays)])
    return f"{by_number}, where that is a {named},", None


def _describe_weekdays(days: frozenset[int]) -> str:
    if len(days) == 7:
        return "every day"
    if days == {0, 1, 2, 3, 4}:
        return "Monday to Friday"
    return f"every {join_with_and([DAYS[day].capitalize() for day in sorted(days)])}"


def _describe_numbers(days: frozenset[int]) -> str:
    numbers = [_ordinal(day) for day in sorted(days - {LAST})]
    if len(numbers) > 6:
        return f"{len(numbers)} days from the {numbers[0]} to the {numbers[-1]}"
    return f"the {join_with_and([*numbers, 'last day'] if LAST in days else numbers)}"


def _describe_left_out(days: frozenset[int]) -> str | None:
    longest = max(days)
    if longest < 29:
        return None
    return (
        f"months without a {_ordinal(longest)} are left out"
        if len(days) == 1
        else "days that a month lacks are left out"
    )


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _describe_clocks(minutes: tuple[int, ...]) -> str:
    if len(minutes) > 4:
        return f"{len(minutes)} times a day, from {_show_minute(minutes[0])} to {_show_minute(minutes[-1])}"
    return f"at {join_with_and([_show_minute(minute) for minute in minutes])}"


def _show_minute(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
