"""Campaigns that come back: rules as words, their occurrences around changes of the clocks.  Issue 5, point 5."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wa_cli.domain.recurrence import Occurrence, Rule, describe_rule, falls_on, next_occurrence, parse_rule
from wa_cli.domain.wall_clock import InvalidTime
from wa_cli.errors import UsageError

BERLIN = ZoneInfo("Europe/Berlin")
WEDNESDAY = date(2026, 11, 25)
NOON_MS = int(datetime(2026, 11, 25, 12, tzinfo=BERLIN).timestamp()) * 1000
DAY_MS = 86_400_000


def occurrences(
    rule: Rule,
    *,
    count: int,
    after_ms: int = NOON_MS,
    zone: ZoneInfo = BERLIN,
    until: date | None = None,
    anchor: date = WEDNESDAY,
) -> list[Occurrence]:
    found: list[Occurrence] = []
    while len(found) < count:
        following = next_occurrence(rule, after_ms, zone, until, anchor)
        if following is None:
            break
        found.append(following)
        after_ms = following.at_ms
    return found


def keys(text: str, count: int = 3, **others: object) -> list[str]:
    return [occurrence.key for occurrence in occurrences(parse_rule(text), count=count, **others)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "first", "words"),
    [
        ("daily 09:00", "2026-11-26 2026-11-27 2026-11-28", "every day at 09:00"),
        ("every day at 6pm", "2026-11-25 2026-11-26 2026-11-27", "every day at 18:00"),
        ("monday 09:00", "2026-11-30 2026-12-07 2026-12-14", "every Monday at 09:00"),
        ("mon,wed,fri 18:30", "2026-11-25 2026-11-27 2026-11-30", "every Monday, Wednesday and Friday at 18:30"),
        ("weekdays 9am", "2026-11-26 2026-11-27 2026-11-30", "Monday to Friday at 09:00"),
        ("every weekend 10:00", "2026-11-28 2026-11-29 2026-12-05", "every Saturday and Sunday at 10:00"),
        ("every 2 weeks on monday 09:00", "2026-11-30 2026-12-14 2026-12-28", "every 2 weeks on Monday at 09:00"),
        # The weeks are counted from the one of the first such day.
        (
            "every other week on mon and fri 09:00",
            "2026-11-27 2026-12-07 2026-12-11",
            "every 2 weeks on Monday and Friday",
        ),
        ("1st of month 10:00", "2026-12-01 2027-01-01 2027-02-01", "on the 1st of every month at 10:00"),
        ("15th of the month 10:00", "2026-12-15 2027-01-15 2027-02-15", "on the 15th of every month"),
        ("1st and 15th of month 10:00", "2026-12-01 2026-12-15 2027-01-01", "on the 1st and 15th of every month"),
        ("monthly on the 2nd 10:00", "2026-12-02 2027-01-02 2027-02-02", "on the 2nd of every month"),
        ("last day of month 10:00", "2026-11-30 2026-12-31 2027-01-31 2027-02-28", "on the last day of every month"),
        ("31st of month 10:00", "2026-12-31 2027-01-31 2027-03-31 2027-05-31", "months without a 31st are left out"),
        ("30th of month 10:00", "2026-11-30 2026-12-30 2027-01-30 2027-03-30", "months without a 30th are left out"),
        ("first monday of month 09:00", "2026-12-07 2027-01-04 2027-02-01", "on the first Monday of every month"),
        ("2nd tuesday of month 09:00", "2026-12-08 2027-01-12 2027-02-09", "on the second Tuesday of every month"),
        (
            "last friday of month 17:00",
            "2026-11-27 2026-12-25 2027-01-29",
            "on the last Friday of every month at 17:00",
        ),
        ("fifth monday of month 09:00", "2026-11-30 2027-03-29 2027-05-31", "months without a fifth one are left out"),
        ("every 3 days 09:00", "2026-11-28 2026-12-01 2026-12-04", "every 3 days at 09:00"),
        ("every other day 18:00", "2026-11-25 2026-11-27 2026-11-29", "every 2 days at 18:00"),
        ("0 9 * * mon", "2026-11-30 2026-12-07 2026-12-14", "every Monday at 09:00"),
        ("0 9 * * MON-FRI", "2026-11-26 2026-11-27 2026-11-30", "Monday to Friday at 09:00"),
        ("0 9 29 feb *", "2028-02-29 2032-02-29 2036-02-29", "on the 29th of February at 09:00; months without a 29th"),
        ("0 9 31 jan,jul *", "2027-01-31 2027-07-31 2028-01-31", "on the 31st of January and July at 09:00"),
        ("0 9 1 * *", "2026-12-01 2027-01-01 2027-02-01", "on the 1st of every month at 09:00"),
        # Both kinds of days: either is enough.
        ("0 9 13 * fri", "2026-11-27 2026-12-04 2026-12-11 2026-12-13", "on the 13th of every month and every Friday"),
        (
            "0 9 */10 * sat",
            "2027-05-01 2027-07-31 2027-08-21",
            "1st, 11th, 21st and 31st of every month, where that is a Sat",
        ),
        ("30 18 * 12 6-7", "2026-12-05 2026-12-06 2026-12-12", "every Saturday and Sunday in December at 18:30"),
        ("0 9 * * fri-sun/2", "2026-11-27 2026-11-29 2026-12-04", "every Friday and Sunday at 09:00"),
    ],
)
def test_a_rule_falls_on_its_days_and_can_be_said_in_plain_words(text: str, first: str, words: str) -> None:
    rule = parse_rule(text)
    days = [key[:10] for key in keys(text, count=len(first.split()))]
    assert days == first.split()
    assert words in describe_rule(rule)


@pytest.mark.parametrize(
    ("number", "name"), [*enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"]), (7, "sun")]
)
def test_a_crontab_counts_its_weekdays_from_sunday_whatever_the_scheduler_does(number: int, name: str) -> None:
    assert parse_rule(f"0 9 * * {number}").days == parse_rule(f"{name} 09:00").days


def test_a_rule_may_have_several_times_of_a_day() -> None:
    assert keys("weekdays 09:00 and 17:00") == ["2026-11-25T17:00", "2026-11-26T09:00", "2026-11-26T17:00"]
    assert keys("daily 17:00, 9am") == ["2026-11-25T17:00", "2026-11-26T09:00", "2026-11-26T17:00"]
    assert keys("0,30 9-10 * * *", 4) == [f"2026-11-26T{clock}" for clock in ("09:00", "09:30", "10:00", "10:30")]
    assert describe_rule(parse_rule("*/15 9-17 * * *")) == "every day 36 times a day, from 09:00 to 17:45"


def test_nothing_falls_before_the_first_day_or_after_the_last() -> None:
    assert keys("daily 09:00", anchor=date(2026, 12, 1)) == [f"2026-12-0{day}T09:00" for day in (1, 2, 3)]
    assert keys("daily 09:00", until=date(2026, 11, 27)) == ["2026-11-26T09:00", "2026-11-27T09:00"]
    assert keys("daily 09:00", until=date(2026, 11, 24)) == []
    assert keys("every 3 days 09:00", anchor=date(2026, 11, 24))[0] == "2026-11-27T09:00"
    assert not falls_on(parse_rule("daily 09:00"), date(2026, 11, 24), WEDNESDAY)


def test_an_occurrence_is_not_after_itself() -> None:
    rule = parse_rule("daily 09:00")
    first = next_occurrence(rule, NOON_MS, BERLIN, None, WEDNESDAY)
    assert first is not None
    assert next_occurrence(rule, first.at_ms - 1, BERLIN, None, WEDNESDAY) == first
    assert next_occurrence(rule, first.at_ms, BERLIN, None, WEDNESDAY) != first


@pytest.mark.parametrize(
    ("text", "reason", "hint"),
    [
        ("", "empty", "daily 09:00"),
        ("daily", "no time of day", "daily 09:00"),
        ("monday", "no time of day", "monday 09:00"),
        ("dialy 09:00", "no rule", "daily"),
        ("wensday 09:00", "not a day", "wednesday"),
        ("daily 9", "09:00 or 21:00", "09:00"),
        ("daily 12am", "noon", "00:00"),
        ("daily midnight", "by itself", "00:00"),
        ("09:00", "no days", "daily 09:00"),
        ("09:00 monday", "begins with the time", "monday 09:00"),
        ("daily 09:00 Europe/Berlin", "not understood", "`zone`"),
        ("daily 09:00 until june", "not understood", "`until`"),
        ("every 15 minutes", "by the minute", "daily 09:00, 13:00"),
        ("hourly 09:00", "by the hour", "times"),
        ("every 2nd monday 09:00", "by weeks or within each month", "second monday of month 09:00"),
        ("every other friday 17:00", "by weeks or within", "every 2 weeks on friday 17:00"),
        ("every 2 weeks 09:00", "on which day", "every 2 weeks on monday 09:00"),
        ("every 3 days on monday 09:00", "mixes", "every 3 days 09:00"),
        ("every 0 days 09:00", "1 day to a year", "daily"),
        ("every 60 weeks on monday 09:00", "1 day to a year", "daily"),
        ("weekly 09:00", "on which day", "monday 09:00"),
        ("monthly 09:00", "on which day", "1st of month 09:00"),
        ("32nd of month 10:00", "no month has a day 32", "31st"),
        ("15th 10:00", "of what", "15th of month 10:00"),
        ("last weekday of month 09:00", "several days", "last friday of month 09:00"),
        ("25 december 09:00", "no rule", "0 9 25 dec *"),
        ("every 2 months 09:00", "no rule", "0 9 1 */2 *"),
        ("@daily", "no time", "daily"),
        ("0 9 * *", "4 fields", "minute, hour"),
        ("0 0 9 * * mon", "6 fields", "seconds"),
        ("60 9 * * *", "'60' is not a minute", "0 to 59"),
        ("0 9 0 * *", "'0' is not a day of the month", "1 to 31"),
        ("0 9 * * 8", "'8' is not a weekday", "0 to 7"),
        ("0 9 * foo *", "'foo' is not a month", "jan"),
        ("0 9 L * *", "do not know", "last day of month"),
        ("0 9 * * 1#1", "do not know", "first monday of month"),
        ("0 9 */0 * *", "no step", "*/2"),
        ("0 9 20-10 * *", "backwards", "10-20"),
        ("0 9 30 feb *", "February never has a day 30", "check"),
        ("x" * 300, "too long", "daily"),
    ],
)
def test_a_rule_that_is_none_is_refused_with_what_would_be_right(text: str, reason: str, hint: str) -> None:
    with pytest.raises(InvalidTime) as caught:
        parse_rule(text)
    assert reason in caught.value.message
    assert hint in (caught.value.hint or "")


WORDS = [
    *("every", "daily", "monday", "mon,fri", "last", "first", "of", "month", "on", "at", "2", "weeks", "days"),
    *("09:00", "9am", "and", ",", "-", "31st", "*", "*/2", "0"),
]


@settings(max_examples=250, deadline=None)
@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=4), max_size=7).map(" ".join))
def test_any_words_are_a_rule_that_can_be_used_and_described_or_a_refusal_with_a_hint(text: str) -> None:
    try:
        rule = parse_rule(text)
    except UsageError as problem:
        refusal = problem
    else:
        following = next_occurrence(rule, NOON_MS, BERLIN, None, WEDNESDAY)
        assert following is not None
        assert following.at_ms > NOON_MS
        assert describe_rule(rule)
        return
    assert refusal.hint


# Changes of the clocks


@lru_cache(maxsize=1)
def changes() -> list[tuple[str, int, int, int]]:
    """(zone, instant in s, offset before, offset after) of all transitions 2025 to 2031, one zone for each history."""
    step = 6 * 86400  # the shortest time between two is a month
    begin, end = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (2025, 2032))
    found: dict[tuple[tuple[int, int, int], ...], str] = {}
    for name in sorted(available_timezones() - {"localtime", "posixrules", "Factory"}):
        zone = ZoneInfo(name)

        def offset(at: int, zone: ZoneInfo = zone) -> int:
            return int((datetime.fromtimestamp(at, zone).utcoffset() or timedelta()).total_seconds())

        history = []
        offsets = [offset(start) for start in range(begin, end, step)]
        for index, (before, after) in enumerate(pairwise(offsets)):
            if before != after:
                low, high = begin + index * step, begin + (index + 1) * step
                while high - low > 1:
                    middle = (low + high) // 2
                    low, high = (middle, high) if offset(middle) == before else (low, middle)
                history.append((high, before, after))
        found.setdefault(tuple(history), name)
    return [(name, *change) for history, name in found.items() for change in history]


def expected(times: list[datetime], change: tuple[str, int, int, int]) -> list[tuple[int, str]]:
    """What fault 33 asks for, by arithmetic alone: each wall time once, or with the one that a gap made the same."""
    _name, at, before, after = change
    instants: dict[int, str] = {}
    for wall in times:
        stamp = int(wall.replace(tzinfo=UTC).timestamp())
        # By the old offset it is before the change, or in the gap, or the first of two.  Else by the new one.
        moment = stamp - before if stamp - before < at or stamp - after < at else stamp - after
        key = wall.strftime("%Y-%m-%dT%H:%M")
        instants[moment] = min(instants.get(moment, key), key)
    return sorted((moment * 1000, key) for moment, key in instants.items())


def test_each_occurrence_comes_once_at_every_change_of_the_clocks_from_2025_to_2031() -> None:
    """Fault 33.  Fault 36: whoever ticks, the time follows from the rule."""
    assert len(changes()) > 300
    assert {"gap", "fold"} == {"gap" if after > before else "fold" for _name, _at, before, after in changes()}
    for change in changes():
        name, at, before, after = change
        zone = ZoneInfo(name)
        edge = datetime.fromtimestamp(at + min(before, after), UTC).replace(tzinfo=None)  # begin of the gap or fold
        length = timedelta(seconds=abs(after - before))
        clocks = [edge - timedelta(minutes=30), edge, edge + length / 2, edge + length]
        for chosen in ([edge + length / 2], clocks):
            minutes = sorted({wall.hour * 60 + wall.minute for wall in chosen})
            rule = parse_rule(f"daily {', '.join(f'{minute // 60:02}:{minute % 60:02}' for minute in minutes)}")
            first = edge.date() - timedelta(days=1)
            days = [first + timedelta(days=index) for index in range(4)]
            wanted = expected(
                [datetime(day.year, day.month, day.day, *divmod(minute, 60)) for day in days for minute in minutes],
                change,
            )
            after_ms = (at - 4 * 86400) * 1000
            found = occurrences(rule, count=99, after_ms=after_ms, zone=zone, until=days[-1], anchor=days[0])
            assert [(occurrence.at_ms, occurrence.key) for occurrence in found] == wanted, (change, minutes)
            assert len({occurrence.key for occurrence in found}) == len(found)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), minute=st.integers(0, 1439), back=st.integers(0, 3 * 1440))
def test_whoever_asks_at_whatever_moment_is_told_the_same_occurrences(
    data: st.DataObject, minute: int, back: int
) -> None:
    """Fault 33, with a restart at any minute around the change."""
    name, at, _before, _after = data.draw(st.sampled_from(changes()))
    zone = ZoneInfo(name)
    rule = parse_rule(f"daily {minute // 60:02}:{minute % 60:02}")
    anchor = (datetime.fromtimestamp(at, UTC) - timedelta(days=5)).date()
    whole = occurrences(rule, count=9, after_ms=(at - 4 * 86400) * 1000, zone=zone, anchor=anchor)
    asked_ms = (at - back * 60) * 1000
    later = [occurrence for occurrence in whole if occurrence.at_ms > asked_ms]
    assert occurrences(rule, count=len(later), after_ms=asked_ms, zone=zone, anchor=anchor) == later
    gaps = [b.at_ms - a.at_ms for a, b in pairwise(whole)]
    assert all(DAY_MS * 7 // 8 <= gap <= DAY_MS * 9 // 8 for gap in gaps)


def test_the_cases_at_half_past_two() -> None:
    """Fault 33, the 02:30 cases."""
    gap = occurrences(
        parse_rule("sunday 02:30"), count=1, after_ms=int(datetime(2027, 3, 26, tzinfo=UTC).timestamp()) * 1000
    )[0]
    assert gap.key == "2027-03-28T02:30"
    assert datetime.fromtimestamp(gap.at_ms / 1000, BERLIN).strftime("%H:%M %z") == "03:30 +0200"
    fold = occurrences(
        parse_rule("sunday 02:30"), count=2, after_ms=int(datetime(2027, 10, 30, tzinfo=UTC).timestamp()) * 1000
    )
    assert [occurrence.key for occurrence in fold] == ["2027-10-31T02:30", "2027-11-07T02:30"]
    assert datetime.fromtimestamp(fold[0].at_ms / 1000, BERLIN).strftime("%H:%M %z") == "02:30 +0200"


def test_a_time_that_moves_behind_midnight_lets_an_earlier_one_of_the_next_day_go_first() -> None:
    """Fault 33: in Nuuk the clocks go from 23:00 to 00:00."""
    nuuk = ZoneInfo("America/Nuuk")
    after_ms = int(datetime(2027, 3, 27, 22, tzinfo=nuuk).timestamp()) * 1000
    found = occurrences(parse_rule("daily 00:15 and 23:30"), count=3, after_ms=after_ms, zone=nuuk)
    assert [occurrence.key for occurrence in found] == ["2027-03-28T00:15", "2027-03-27T23:30", "2027-03-28T23:30"]
    assert found[1].at_ms - found[0].at_ms == 15 * 60_000
