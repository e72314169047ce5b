"""Time in a campaign: words for times and days, zones of recipients, openings.  Issue 5, point 5."""

from __future__ import annotations

import importlib.resources
import json
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wa_cli.domain.campaign import Missed, Quiet
from wa_cli.domain.timetable import (
    FAR_FUTURE_MS,
    ON_TIME_MS,
    Openings,
    decode_quiet,
    encode_quiet,
    judge_missed,
    parse_clock,
    parse_days,
    settle_local,
    zone_of,
)
from wa_cli.domain.wall_clock import InvalidTime
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

BERLIN = ZoneInfo("Europe/Berlin")
SINGAPORE = ZoneInfo("Asia/Singapore")
HOUR_MS = 3_600_000
NIGHT = Quiet(start=21 * 60, end=8 * 60)


def ms(text: str, zone: ZoneInfo = BERLIN) -> int:
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()) * 1000


def shown(moment_ms: int, zone: ZoneInfo = BERLIN) -> str:
    return datetime.fromtimestamp(moment_ms / 1000, zone).strftime("%Y-%m-%d %H:%M %z")


# Words


@pytest.mark.parametrize(
    ("text", "minute"),
    [
        *(("09:00", 540), ("9am", 540), ("9:05 P.M.", 1265), ("noon", 720), ("00:00", 0), ("23:59", 1439)),
        *((" 9:00:00 ", 540), ("٠٩:٣٠", 570)),
    ],
)
def test_a_time_of_day_is_minutes_after_midnight(text: str, minute: int) -> None:
    assert parse_clock(text) == minute


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("9", "09:00 or 21:00"),
        ("12", "00:00 or 12:00"),
        ("0", "00:00"),
        ("12am", "noon by some"),
        ("midnight", "by itself"),
        ("24:00", "by itself"),
        ("0930", "no colon"),
        ("25:00", "no time"),
        ("9:5", "one digit"),
        ("09:00:30", "seconds"),
        ("soon", "not a time of day"),
        ("", "not a time of day"),
        ("09:00 Europe/Berlin", "not a time of day"),
    ],
)
def test_a_time_of_day_that_is_none_or_two_is_refused_with_what_would_be_right(text: str, reason: str) -> None:
    with pytest.raises(InvalidTime, match=reason) as caught:
        parse_clock(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("words", "days"),
    [
        (["monday"], {0}),
        (["Mon", "tues", "Fri."], {0, 1, 4}),
        (["mon-fri"], {0, 1, 2, 3, 4}),
        (["sat to mon"], {5, 6, 0}),
        (["weekend"], {5, 6}),
        (["weekdays", "sunday"], {0, 1, 2, 3, 4, 6}),
        (["mon, wed and fri"], {0, 2, 4}),
        (["Sundays"], {6}),
        (["every day"], set(range(7))),
        ("tuesday", {1}),
        ([], set()),
    ],
)
def test_weekdays_are_read_from_names_and_ranges(words: Sequence[str], days: set[int]) -> None:
    assert parse_days(words) == days


@pytest.mark.parametrize(
    ("word", "hint"), [("tuseday", "tuesday"), ("wekend", "weekend"), ("1", "name"), ("mon-", "mon"), ("", "mon")]
)
def test_a_word_that_is_no_weekday_is_refused_with_the_nearest(word: str, hint: str) -> None:
    with pytest.raises(InvalidTime) as caught:
        parse_days(["tue", word])
    assert hint in (caught.value.hint or "")


# Gaps and folds


@pytest.mark.parametrize(
    ("day", "at", "words"),
    [
        (date(2027, 3, 28), "2027-03-28 03:30 +0200", "does not exist"),
        (date(2027, 10, 31), "2027-10-31 02:30 +0200", "happens twice"),
        (date(2027, 4, 1), "2027-04-01 02:30 +0200", None),
    ],
)
def test_a_wall_time_in_a_gap_moves_behind_it_and_in_a_fold_is_the_first(day: date, at: str, words: str | None) -> None:
    """Fault 33, the 02:30 cases."""
    moment, note = settle_local(day, 150, BERLIN)
    assert shown(moment) == at
    assert (note is None) if words is None else (words in (note or ""))


# Zones of recipients


@pytest.mark.parametrize(
    ("address", "zone"),
    [
        ("+6581234567", "Asia/Singapore"),
        ("+919876543210", "Asia/Kolkata"),
        ("+491701234567", "Europe/Berlin"),
        ("+447911123456", "Europe/London"),
        ("+12125550100", "America/New_York"),
        ("+14155552671", "America/Los_Angeles"),
        ("+16025550100", "America/Phoenix"),
        ("+18005550100", "America/New_York"),
        ("+5511961234567", "America/Sao_Paulo"),
        ("+5592961234567", "America/Manaus"),
        ("+79161234567", "Europe/Moscow"),
        ("+61412345678", "Australia/Sydney"),
        ("+6281234567890", "Asia/Jakarta"),
        ("+34612345678", "Europe/Madrid"),
        ("+212650123456", "Africa/Casablanca"),
        ("+50581234567", "America/Managua"),
        ("+353850123456", "Europe/Dublin"),
        ("+88213123456", "Asia/Dubai"),
        ("120363025246125486@g.us", "Asia/Dubai"),
        ("4915112345@s.whatsapp.net", "Asia/Dubai"),
    ],
)
def test_a_recipient_without_a_zone_has_that_of_their_number(address: str, zone: str) -> None:
    assert zone_of(address, {"name": "Ana"}, ZoneInfo("Asia/Dubai")).key == zone


def test_where_a_number_can_have_several_zones_the_campaigns_own_is_taken_if_it_is_one_of_them() -> None:
    assert zone_of("+18005550100", {}, ZoneInfo("America/Chicago")).key == "America/Chicago"
    assert zone_of("+14155552671", {}, ZoneInfo("America/New_York")).key == "America/Los_Angeles"


def test_a_field_of_the_recipient_comes_before_their_number() -> None:
    fields = {"tz": "Asia/Tokyo", "Time Zone": " ", "TimeZone": "america/sao paulo"}
    assert zone_of("+6581234567", fields, BERLIN).key == "America/Sao_Paulo"
    assert zone_of("+6581234567", {"tz": "asia/calcutta"}, BERLIN).key == "Asia/Kolkata"
    assert zone_of("1203630@g.us", {"zone": "Asia/Tokyo"}, BERLIN).key == "Asia/Tokyo"


@pytest.mark.parametrize(
    ("value", "hint"), [("Europe/Berln", "Europe/Berlin"), ("IST", "Asia/Kolkata"), ("+05:30", "Europe/Berlin")]
)
def test_a_field_that_names_no_zone_is_an_error_that_says_what_would_be_right(value: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        zone_of("+6581234567", {"timezone": value}, BERLIN)
    assert hint in (caught.value.hint or "")
    assert "+05" not in (caught.value.hint or "")


def test_each_countrys_numbers_have_a_zone_of_that_country() -> None:
    """By the time zone database's own list of countries; their clocks agree, whatever the zone is called."""
    of_country: dict[str, list[str]] = defaultdict(list)
    table = importlib.resources.files("tzdata").joinpath("zoneinfo/zone.tab").read_text(encoding="utf-8")
    for line in table.splitlines():
        if line and not line.startswith("#"):
            country, _place, zone = line.split("\t")[:3]
            of_country[country].append(zone)
    days = [datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(days=4 * index) for index in range(180)]

    def clock(name: str) -> tuple[object, ...]:
        return tuple(day.astimezone(ZoneInfo(name)).utcoffset() for day in days)

    # Two islands share Australia's mobile prefix; the tz database lists no zone of Ascension, Tristan and Kosovo.
    wrong = {}
    for country in phonenumbers.SUPPORTED_REGIONS - {"CC", "CX", "AC", "TA", "XK"}:
        for kind in (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE):
            if (number := phonenumbers.example_number_for_type(country, kind)) is None:
                continue
            address = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
            zone = zone_of(address, {}, ZoneInfo("Antarctica/Troll")).key
            if clock(zone) not in {clock(name) for name in of_country[country]}:
                wrong[country] = (address, zone, of_country[country])
    assert wrong == {}


def test_no_zone_has_two_names() -> None:
    """What the table of prefixes still calls by an old name would be a part of its own."""
    from phonenumbers.tzdata import TIMEZONE_DATA

    table = importlib.resources.files("tzdata").joinpath("zoneinfo/zone.tab").read_text(encoding="utf-8")
    current = {line.split("\t")[2] for line in table.splitlines() if line and not line.startswith("#")}
    seen = {zone_of(f"+{prefix}", {}, ZoneInfo("Antarctica/Troll")).key for prefix in TIMEZONE_DATA}
    assert seen <= current


def test_a_campaign_without_local_times_loads_no_table_of_numbers() -> None:
    code = "import sys, wa_cli.domain.timetable; print('phonenumbers' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"


# Openings


@pytest.mark.parametrize(
    ("quiet", "between", "moment", "opens", "closes"),
    [
        (NIGHT, None, "2026-11-25 22:00", "2026-11-26 08:00 +0100", "2026-11-26 21:00 +0100"),
        (NIGHT, None, "2026-11-25 07:59", "2026-11-25 08:00 +0100", "2026-11-25 21:00 +0100"),
        (NIGHT, None, "2026-11-25 12:34", "2026-11-25 12:34 +0100", "2026-11-25 21:00 +0100"),
        (NIGHT, None, "2026-11-25 21:00", "2026-11-26 08:00 +0100", "2026-11-26 21:00 +0100"),
        (NIGHT, (600, 1020), "2026-11-25 08:00", "2026-11-25 10:00 +0100", "2026-11-25 17:00 +0100"),
        (Quiet(), (600, 1020), "2026-11-25 17:00", "2026-11-26 10:00 +0100", "2026-11-26 17:00 +0100"),
        (Quiet(), (1320, 60), "2026-11-25 12:00", "2026-11-25 22:00 +0100", "2026-11-26 01:00 +0100"),
        (Quiet(start=0, end=0), (600, 600), "2026-11-25 12:00", None, None),
        (
            Quiet(days=frozenset({5, 6}), dates=frozenset({"2026-11-30"})),
            None,
            "2026-11-28 12:00",
            "2026-12-01 00:00 +0100",
            "2026-12-05 00:00 +0100",
        ),
        (
            Quiet(dates=frozenset({"2026-12-25", "2026-12-26"})),
            None,
            "2026-12-24 10:00",
            "2026-12-24 10:00 +0100",
            "2026-12-25 00:00 +0100",
        ),
        # The day of 23 hours: quiet until a time that is skipped.  That of 25 hours: the repeated hour is quiet twice.
        (Quiet(start=0, end=150), None, "2027-03-28 01:00", "2027-03-28 03:00 +0200", "2027-03-29 00:00 +0200"),
        (
            Quiet(start=120, end=150),
            None,
            "2027-10-31 02:10+02:00",
            "2027-10-31 02:30 +0200",
            "2027-10-31 02:00 +0100",
        ),
        (Quiet(start=0, end=180), None, "2027-10-31 00:00", "2027-10-31 03:00 +0100", "2027-11-01 00:00 +0100"),
        (NIGHT, None, "2027-03-27 21:00", "2027-03-28 08:00 +0200", "2027-03-28 21:00 +0200"),
    ],
)
def test_the_next_opening_is_found(
    quiet: Quiet, between: tuple[int, int] | None, moment: str, opens: str | None, closes: str | None
) -> None:
    openings = Openings(quiet=quiet, zone=BERLIN, between=between)
    if opens is None:
        with pytest.raises(UsageError):
            openings.next_open(ms(moment))
        return
    begin, end = openings.next_open(ms(moment))
    assert (shown(begin), shown(end)) == (opens, closes)
    assert openings.is_open(begin)
    assert not openings.is_open(end)


def test_what_never_closes_ends_in_the_far_future() -> None:
    moment = ms("2026-11-25 12:00")
    assert Openings(quiet=Quiet(), zone=BERLIN).next_open(moment) == (moment, FAR_FUTURE_MS)
    past = Quiet(dates=frozenset({"2020-12-25"}))
    assert Openings(quiet=past, zone=BERLIN).next_open(moment) == (moment, FAR_FUTURE_MS)


@pytest.mark.parametrize(
    ("quiet", "between", "reason"),
    [
        (Quiet(start=540, end=540), None, "09:00 to 09:00 cover the whole day"),
        (NIGHT, (22 * 60, 23 * 60), "21:00 to 08:00 cover all of 22:00 to 23:00"),
        (Quiet(days=frozenset(range(7))), None, "all seven days"),
        (
            Quiet(
                days=frozenset(range(1, 7)),
                dates=frozenset(str(date(2026, 11, 23) + timedelta(weeks=week)) for week in range(70)),
            ),
            None,
            "400 days after Wed 25 Nov 2026",
        ),
    ],
)
def test_what_never_opens_is_refused_with_the_reason(
    quiet: Quiet, between: tuple[int, int] | None, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        Openings(quiet=quiet, zone=BERLIN, between=between).next_open(ms("2026-11-25 12:00"))
    assert caught.value.code == "never_open"
    assert caught.value.hint


MINUTES = st.integers(0, 1439)
CHANGES = [
    *((ZoneInfo("Europe/Berlin"), ms("2027-03-28 00:00Z")), (ZoneInfo("Europe/Berlin"), ms("2027-10-30 20:00Z"))),
    (ZoneInfo("Australia/Lord_Howe"), ms("2027-04-03 12:00Z")),  # half an hour
    (ZoneInfo("America/Santiago"), ms("2027-09-04 20:00Z")),  # at midnight
    (ZoneInfo("Africa/Casablanca"), ms("2027-02-06 20:00Z")),
    (ZoneInfo("Asia/Beirut"), ms("2027-10-30 20:00Z")),  # from midnight back into the day before
    (ZoneInfo("Asia/Kolkata"), ms("2027-02-06 20:00Z")),
]


@settings(max_examples=150, deadline=None)
@given(
    place=st.sampled_from(CHANGES),
    shift=st.integers(-48 * 60, 48 * 60),
    hours=st.none() | st.tuples(MINUTES, MINUTES),
    between=st.none() | st.tuples(MINUTES, MINUTES),
    days=st.frozensets(st.integers(0, 6), max_size=3),
    dates=st.frozensets(st.integers(-2, 4), max_size=2),
)
def test_nothing_between_the_moment_and_its_opening_was_open_and_all_of_the_opening_is(
    place: tuple[ZoneInfo, int],
    shift: int,
    hours: tuple[int, int] | None,
    between: tuple[int, int] | None,
    days: frozenset[int],
    dates: frozenset[int],
) -> None:
    """Fault 33, for openings: judged minute by minute by what the wall clock shows."""
    zone, around = place
    moment = around + shift * 60_000
    start, end = hours or (None, None)
    resting = {(datetime.fromtimestamp(around / 1000, UTC) + timedelta(days=ahead)).date() for ahead in dates}
    quiet = Quiet(start=start, end=end, days=days, dates=frozenset(map(str, resting)))
    openings = Openings(quiet=quiet, zone=zone, between=between)

    def within(minute: int, span: tuple[int, int]) -> bool:
        first, last = span
        return first <= minute < last if first < last else minute >= first or minute < last

    def is_open(at_ms: int) -> bool:
        wall = datetime.fromtimestamp(at_ms / 1000, zone)
        minute = wall.hour * 60 + wall.minute
        is_quiet = (hours is not None and within(minute, hours)) or wall.weekday() in days or wall.date() in resting
        return not is_quiet and (between is None or within(minute, between))

    try:
        opens, closes = openings.next_open(moment)
    except UsageError:
        assert not any(is_open(moment + minute * 60_000) for minute in range(0, 8 * 1440, 7))
        return
    assert is_open(opens)
    if opens > moment:
        assert not is_open(opens - 1000)
        assert not any(is_open(at) for at in range(moment, opens, 7 * 60_000))
    if closes != FAR_FUTURE_MS:
        assert not is_open(closes)
        assert is_open(closes - 1000)
    assert all(is_open(at) for at in range(opens, min(closes, opens + 3 * 24 * HOUR_MS), 7 * 60_000))


def test_openings_survive_the_store() -> None:
    quiet = Quiet(start=1260, end=480, days=frozenset({6}), dates=frozenset({"2026-12-25", "2026-12-24"}))
    text = encode_quiet(quiet, "Europe/Berlin", (600, 1020))
    assert text is not None
    assert json.loads(text)["dates"] == ["2026-12-24", "2026-12-25"]
    assert decode_quiet(text) == Openings(quiet=quiet, zone=BERLIN, between=(600, 1020))
    only = encode_quiet(Quiet(), "Asia/Singapore", (0, 60))
    assert decode_quiet(only) == Openings(quiet=Quiet(), zone=SINGAPORE, between=(0, 60))
    assert encode_quiet(Quiet(), "Europe/Berlin", None) is None
    assert decode_quiet(None) is None
    assert decode_quiet("") is None


def test_openings_of_a_zone_that_this_machine_lacks_are_an_error_that_says_so() -> None:
    """Fault 35."""
    with pytest.raises(UsageError, match="cannot be read") as caught:
        decode_quiet('{"zone":"Europe/Atlantis","start":0,"end":60}')
    assert "tzdata" in (caught.value.hint or "")


# Missed occurrences


def test_a_late_occurrence_is_sent_within_its_grace_or_left_out_as_the_campaign_says() -> None:
    """Fault 34."""
    at = ms("2026-11-25 09:00")
    assert judge_missed(at, at + HOUR_MS, Missed.SEND, HOUR_MS)
    assert not judge_missed(at, at + HOUR_MS + 1, Missed.SEND, HOUR_MS)
    assert judge_missed(at, at + ON_TIME_MS, Missed.SKIP, HOUR_MS)
    assert not judge_missed(at, at + ON_TIME_MS + 1, Missed.SKIP, HOUR_MS)
    assert judge_missed(at, at + ON_TIME_MS, Missed.SEND, 0)
    assert judge_missed(at, at - 1, Missed.SKIP, 0)
