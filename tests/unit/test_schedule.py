"""The grammar of --at and of durations, and the spreading of a batch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wa_cli.domain.schedule import (
    Instant,
    InvalidTime,
    auto_delay_ms,
    describe_instant,
    parse_duration,
    parse_time,
    progressive_due_times,
    recommended_delay_ms,
)

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 22, 0, 11, 20, tzinfo=UTC)  # a Sunday, 01:11:20 in Berlin


def read(text: str, *, now: datetime = NOW, zone: ZoneInfo = BERLIN) -> Instant:
    return parse_time(text, now=now, zone=zone)


def refusal(text: str, *, now: datetime = NOW, zone: ZoneInfo = BERLIN) -> InvalidTime:
    with pytest.raises(InvalidTime) as caught:
        parse_time(text, now=now, zone=zone)
    return caught.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-22T09:00:00+01:00", "2026-11-22T08:00:00Z"),
        ("2026-11-22T09:00Z", "2026-11-22T09:00:00Z"),
        ("2026-11-22T09:00:30.250Z", "2026-11-22T09:00:30.250000Z"),
        ("2026-11-22t09:00:30.123456789z", "2026-11-22T09:00:30.123456Z"),
        ("2026-11-22T09:00-00:00", "2026-11-22T09:00:00Z"),
        ("2026-11-22T09:00+05:45", "2026-11-22T03:15:00Z"),
        ("2026-11-22T09:00+0545", "2026-11-22T03:15:00Z"),
        ("2026-11-22T09:00", "2026-11-22T08:00:00Z"),
        ("2026-11-22 09:00", "2026-11-22T08:00:00Z"),
        ("2026-11-22 09:00 America/New_York", "2026-11-22T14:00:00Z"),
        ("2026-11-22 09:00 asia/singapore", "2026-11-22T01:00:00Z"),
        ("2026-11-22 09:00 UTC", "2026-11-22T09:00:00Z"),
        ("2026-11-22 9am", "2026-11-22T08:00:00Z"),
        ("２０２６-11-22 ٠٩:٠٠", "2026-11-22T08:00:00Z"),
        ("1795400000", "2026-11-23T02:13:20Z"),
        ("18:30", "2026-11-22T17:30:00Z"),
        ("9am", "2026-11-22T08:00:00Z"),
        ("6:30pm", "2026-11-22T17:30:00Z"),
        ("6:30 P.M.", "2026-11-22T17:30:00Z"),
        ("noon", "2026-11-22T11:00:00Z"),
        ("today at 9am", "2026-11-22T08:00:00Z"),
        ("tomorrow 18:30", "2026-11-23T17:30:00Z"),
        ("  Tomorrow\u00a0 9AM ", "2026-11-23T08:00:00Z"),
        ("9am tomorrow", "2026-11-23T08:00:00Z"),
        ("tomorrow 9am GMT+2", "2026-11-23T07:00:00Z"),
        ("monday 9am", "2026-11-23T08:00:00Z"),
        ("tue at 9am", "2026-11-24T08:00:00Z"),
        ("sunday 1am", "2026-11-29T00:00:00Z"),
        ("22 Nov 2026 09:00", "2026-11-22T08:00:00Z"),
        ("Sun 22 Nov 2026 09:00 Europe/Berlin", "2026-11-22T08:00:00Z"),
        ("November 22nd, 2026 at 9am", "2026-11-22T08:00:00Z"),
        ("in 2h30m", "2026-11-22T02:41:20Z"),
        ("in 3 days", "2026-11-25T00:11:20Z"),
        ("in 1 week and 2 hours", "2026-11-29T02:11:20Z"),
        ("now", "2026-11-22T00:11:20Z"),
        ("2028-02-29 09:00", "2028-02-29T08:00:00Z"),
        ("2038-01-20 00:00", "2038-01-19T23:00:00Z"),
    ],
)
def test_a_time_that_can_mean_one_thing_is_understood(text: str, expected: str) -> None:
    """Row R2."""
    instant = read(text)
    assert instant.at.tzinfo is UTC
    assert instant.at.isoformat().replace("+00:00", "Z") == expected
    assert instant.words == text.strip()
    assert instant.note is None


@pytest.mark.parametrize(
    ("text", "reading", "other"),
    [
        ("01/02/2026", "1 February 2026", "2 January 2026"),
        ("1.2.26 09:00", "1 February 2026", "2 January 2026"),
        ("9", "09:00", "21:00"),
        ("12", "00:00", "12:00"),
        ("may", "1 May", "today's day"),
        ("midnight", "begins the day", "ends it"),
        ("tomorrow midnight", "begins the day", "ends it"),
        ("12am", "noon", "midnight"),
        ("12pm", "noon", "midnight"),
        ("1m", "minutes", "months"),
        ("in 30m", "minutes", "months"),
        ("1830", "time of day", "year"),
        ("sunday 9am", "Sun 22 Nov 2026", "Sun 29 Nov 2026"),
        ("next sunday 9am", "Sun 22 Nov 2026", "Sun 29 Nov 2026"),
        ("next sunday 1am", "Sun 29 Nov 2026", "Sun 6 Dec 2026"),
        ("09:00 IST", "Asia/Kolkata", "Asia/Jerusalem"),
        ("2026-12-01 09:00 CST", "America/Chicago", "Asia/Shanghai"),
    ],
)
def test_an_ambiguous_time_is_refused_with_both_readings(text: str, reading: str, other: str) -> None:
    error = refusal(text)
    assert reading in error.message
    assert other in error.message
    assert error.hint
    assert error.exit_code == 2


@pytest.mark.parametrize(
    ("text", "reason", "hint"),
    [
        ("", "empty", "tomorrow 9am"),
        (" \t ", "empty", "tomorrow 9am"),
        ("x" * 101, "too long", "tomorrow 9am"),
        ("tomorow 9am", "not a time", "did you mean tomorrow?"),
        ("2027-02-30 09:00", "February 2027 has no day 30", ""),
        ("2027-02-29 09:00", "February 2027 has no day 29", ""),
        ("2027-13-01 09:00", "does not exist", ""),
        ("24:00", "end of a day", "00:00"),
        ("25:00", "no time '25:00'", "23:59"),
        ("23:60", "no time '23:60'", "23:59"),
        ("13pm", "not a time", "1 to 12"),
        ("9:5", "one digit", "09:05"),
        ("9999-01-01 09:00", "20 years", "year"),
        ("0001-01-01 00:00", "outside the years", ""),
        ("0001-06-01 00:00", "ago", "ahead"),
        ("1970-01-01 00:00", "ago", "ahead"),
        ("1795300000000", "milliseconds", "write 1795300000"),
        ("1795300000000000", "microseconds", "write 1795300000"),
        ("1795300000000000000", "nanoseconds", "write 1795300000"),
        ("123456", "not a time", "ten digits"),
        ("9999999999", "20 years", "year"),
        ("2026-12-01", "no time of day", "2026-12-01 09:00"),
        ("friday", "no time of day", "friday 09:00"),
        ("22 Nov 2026", "no time of day", "09:00"),
        ("22/11/2026 09:00", "not how wa reads dates", "2026-11-22"),
        ("31/31/2026", "does not exist", ""),
        ("Sat 22 Nov 2026 09:00", "is a Sunday", "correct"),
        ("22 Novembr 2026 09:00", "not a month", "november"),
        ("2026-W53-1", "weeks", "write the date"),
        ("2h", "length of time", "in 2h"),
        ("-5m", "negative", ""),
        ("in -5 min", "negative", ""),
        ("in 0s", "no time at all", ""),
        ("in 1 month", "differ in length", "days"),
        ("in 1e9d", "not a unit", "units"),
        ("in 999999999 weeks", "ten years", "check"),
        ("09:00 Berlin", "no time zone named", "Europe/Berlin"),
        ("09:00 Europe/Berln", "no time zone named", "Europe/Berlin"),
        ("09:00 Nowhere/Atall", "no time zone named", "zones look like"),
        ("09:00+15:00", "no offset", "+14:00"),
        ("09:00 SGT", "no zone's name", "Asia/Singapore"),
        ("0 0 31 2 *", "not a time", ""),
        ("@reboot", "not a time", ""),
        ("tonight", "not a time", ""),
        ("next tomorrow 9am", "not a day", "tomorrow 9am"),
    ],
)
def test_a_time_that_means_nothing_is_refused_with_its_reason(text: str, reason: str, hint: str) -> None:
    error = refusal(text)
    assert reason in error.message
    assert error.hint is not None
    assert hint in error.hint


def test_a_past_time_of_today_says_how_long_ago_and_offers_tomorrow() -> None:
    error = refusal("00:30")
    assert "41 min 20 s ago" in error.message
    assert error.hint == "write tomorrow 00:30, or now"


def test_the_current_minute_is_not_past() -> None:
    assert read("01:11").at == datetime(2026, 11, 22, 0, 11, tzinfo=UTC)


def test_the_zone_that_was_written_is_the_zone_that_is_shown() -> None:
    assert read("09:00 Asia/Singapore").zone == "Asia/Singapore"
    assert read("09:00").zone == "Europe/Berlin"
    assert read("2026-11-22T09:00+05:45").zone == "Europe/Berlin"


def test_a_time_alone_means_the_day_it_is_in_the_zone_written() -> None:
    late = datetime(2026, 11, 22, 23, 30, tzinfo=UTC)  # already Monday in Singapore
    assert read("09:00 Asia/Singapore", now=late).at == datetime(2026, 11, 23, 1, 0, tzinfo=UTC)


def test_next_weekday_on_another_day_is_the_coming_one_and_says_so() -> None:
    instant = read("next monday 9am")
    assert instant.at == datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
    assert instant.note == "next monday is read as the coming one, Mon 23 Nov 2026"


def test_a_time_in_a_gap_of_the_clocks_moves_behind_it_and_says_so() -> None:
    """Fault 33."""
    instant = read("2027-03-28 02:30")
    assert instant.at == datetime(2027, 3, 28, 1, 30, tzinfo=UTC)
    assert instant.note is not None
    assert "02:30 does not exist on 28 Mar 2027 in Europe/Berlin" in instant.note
    assert "using 03:30" in instant.note


def test_a_time_that_happens_twice_is_the_first_and_says_so() -> None:
    """Fault 33."""
    instant = read("2027-10-31 02:30")
    assert instant.at == datetime(2027, 10, 31, 0, 30, tzinfo=UTC)
    assert instant.note is not None
    assert "happens twice" in instant.note
    assert "2027-10-31T01:30:00Z" in instant.note
    assert read("2027-10-31T01:30:00Z").at == datetime(2027, 10, 31, 1, 30, tzinfo=UTC)


def test_a_time_that_happens_twice_is_the_second_once_the_first_is_past() -> None:
    """Fault 33."""
    between = datetime(2027, 10, 31, 1, 10, tzinfo=UTC)
    instant = read("02:30", now=between)
    assert instant.at == datetime(2027, 10, 31, 1, 30, tzinfo=UTC)
    assert instant.note is not None
    assert "using the second" in instant.note


def test_days_ahead_keep_the_time_of_day_and_hours_ahead_are_exact() -> None:
    """Fault 33."""
    evening = datetime(2027, 3, 27, 12, 0, tzinfo=UTC)  # 13:00 in Berlin, the clocks change at night
    assert read("in 1 day", now=evening).at == evening + timedelta(hours=23)
    assert read("in 24h", now=evening).at == evening + timedelta(hours=24)


def zone_transitions(name: str) -> list[tuple[ZoneInfo, datetime]]:
    """Every hour from 2025 to 2031 after which the offset differs, as aware UTC."""
    zone, found = ZoneInfo(name), []
    moment, last = datetime(2025, 1, 1, tzinfo=UTC), None
    while moment.year < 2032:
        offset = moment.astimezone(zone).utcoffset()
        if last is not None and offset != last:
            found.append((zone, moment))
        last, moment = offset, moment + timedelta(minutes=30)
    return found


TRANSITIONS = [
    transition
    for name in ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "America/Nuuk")
    for transition in zone_transitions(name)
]


def test_there_are_transitions_to_try() -> None:
    assert len(TRANSITIONS) > 60


@settings(max_examples=300, deadline=None)
@given(transition=st.sampled_from(TRANSITIONS), minutes=st.integers(-180, 180))
def test_around_every_change_of_the_clocks_a_wall_time_becomes_one_instant(
    transition: tuple[ZoneInfo, datetime], minutes: int
) -> None:
    """Fault 33."""
    zone, change = transition
    wall = change.astimezone(zone).replace(tzinfo=None, fold=0) + timedelta(minutes=minutes)
    now = change - timedelta(days=2)
    instant = read(f"{wall:%Y-%m-%d %H:%M}", now=now, zone=zone)
    shown = instant.at.astimezone(zone).replace(tzinfo=None, fold=0)
    earlier = (instant.at - timedelta(hours=1)).astimezone(zone).replace(tzinfo=None, fold=0)
    assert earlier != wall, "the first of two was chosen"
    if shown == wall:
        twice = any(
            (instant.at + timedelta(minutes=step)).astimezone(zone).replace(tzinfo=None, fold=0) == wall
            for step in (30, 60)
        )
        assert (instant.note is not None) == twice
    else:
        assert change <= instant.at, "a skipped time moves behind the gap"
        assert shown - wall in {timedelta(minutes=30), timedelta(hours=1)}
        assert instant.note is not None
        assert "does not exist" in instant.note


@settings(max_examples=300, deadline=None)
@given(
    moment=st.datetimes(datetime(2026, 11, 23), datetime(2036, 1, 1)).map(lambda value: value.replace(microsecond=0)),
    name=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia"]),
)
def test_any_instant_written_as_iso_is_read_back(moment: datetime, name: str) -> None:
    zone = ZoneInfo(name)
    aware = moment.replace(tzinfo=UTC)
    assert read(aware.astimezone(zone).isoformat(), zone=BERLIN).at == aware
    assert read(str(int(aware.timestamp())), zone=zone).at == aware


FRAGMENTS = """now in at next today tomorrow monday fri noon midnight may 22 9 12 9am 12pm 18:30 24:00 2026 2026-11-22
2026-02-30T 02:30 1e9 -5m 30m 2h 3 days 9999999999 999999999w IST UTC GMT+99 Z +05:30 Europe/Berlin / * T \x00"""
WORDS = st.sampled_from(FRAGMENTS.split())


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.text(max_size=40), st.lists(WORDS, max_size=6).map(" ".join), st.lists(WORDS).map("".join)))
def test_garbage_is_refused_and_never_crashes(text: str) -> None:
    refusals = []
    for parse in (lambda: read(text), lambda: parse_duration(text)):
        try:
            parse()
        except InvalidTime as error:
            refusals.append(error)
    for refused in refusals:
        assert refused.message.isprintable()
        assert refused.hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", timedelta(seconds=90)),
        ("50 sec", timedelta(seconds=50)),
        ("2h30m", timedelta(hours=2, minutes=30)),
        ("1m30s", timedelta(seconds=90)),
        ("1d 2h", timedelta(days=1, hours=2)),
        ("2 hours and 5 min", timedelta(hours=2, minutes=5)),
        ("3 days", timedelta(days=3)),
        ("1.5h", timedelta(minutes=90)),
        ("2W", timedelta(days=14)),
    ],
)
def test_a_length_of_time_is_understood(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1m", "minutes or months"),
        ("1d 5m", "minutes or months"),
        ("0", "no time at all"),
        ("0h0m", "no time at all"),
        ("50", "no unit"),
        ("-5m", "negative"),
        ("1e9d", "not a unit"),
        ("999999999d", "ten years"),
        ("2 months", "differ in length"),
        ("2h 2h", "mixes"),
        ("5min 2h", "mixes"),
        ("5 parsecs", "not a unit"),
        ("", "not a length"),
    ],
)
def test_a_length_that_means_nothing_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidTime, match=reason):
        parse_duration(text)


@pytest.mark.parametrize(
    ("at", "zone", "expected"),
    [
        (
            "2026-11-22T08:00:00+00:00",
            "Europe/Berlin",
            "Sun 22 Nov 2026 09:00 Europe/Berlin (08:00 UTC, in 7 h 48 min)",
        ),
        (
            "2026-11-22T20:00:30+00:00",
            "Asia/Singapore",
            "Mon 23 Nov 2026 04:00:30 Asia/Singapore (Sun 22 Nov 2026 20:00:30 UTC, in 19 h 49 min)",
        ),
        ("2026-11-22T08:00:00+00:00", "UTC", "Sun 22 Nov 2026 08:00 UTC (in 7 h 48 min)"),
        ("2026-11-22T00:11:20+00:00", "UTC", "Sun 22 Nov 2026 00:11:20 UTC (now)"),
        ("2026-11-22T00:08:00+00:00", "UTC", "Sun 22 Nov 2026 00:08 UTC (3 min 20 s ago)"),
        ("2026-11-25T00:11:20+00:00", "UTC", "Wed 25 Nov 2026 00:11:20 UTC (in 3 d)"),
    ],
)
def test_an_instant_is_described_in_the_zone_and_in_utc(at: str, zone: str, expected: str) -> None:
    assert describe_instant(datetime.fromisoformat(at), zone=ZoneInfo(zone), now=NOW) == expected


def test_messages_are_due_one_delay_apart_from_the_start() -> None:
    """Rows R1, T3."""
    assert list(progressive_due_times(NOW, count=3, delay_ms=2000)) == [
        NOW,
        NOW + timedelta(seconds=2),
        NOW + timedelta(seconds=4),
    ]
    assert list(progressive_due_times(NOW, count=0, delay_ms=2000)) == []
    last = list(islice(progressive_due_times(NOW, count=1_000_001, delay_ms=2000), 1_000_000, None))
    assert last == [NOW + timedelta(seconds=2_000_000)]


def test_a_batch_that_would_outlast_the_calendar_is_refused() -> None:
    with pytest.raises(InvalidTime, match="never end"):
        progressive_due_times(NOW, count=10**6, delay_ms=10**12)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, (1000, 2000)),
        (9, (1000, 2000)),
        (10, (2000, 5000)),
        (50, (2000, 5000)),
        (51, (5000, 10000)),
        (10**6, (5000, 10000)),
    ],
)
def test_the_recommended_delay_follows_the_size(size: int, expected: tuple[int, int]) -> None:
    """Row R4."""
    assert recommended_delay_ms(size) == expected


def test_the_automatic_delay_is_inside_the_recommended_range_and_never_falls() -> None:
    """Row R4."""
    delays = [auto_delay_ms(size) for size in range(1, 3000)]
    assert delays == sorted(delays)
    for size, delay in enumerate(delays, 1):
        low, high = recommended_delay_ms(size)
        assert low <= delay <= high
    assert auto_delay_ms(0) == 1000
