"""Wall clocks: the words for days and times of day, and the instant that a wall time is.

What `--at` and the times of a campaign have in common.  A wall time that the clocks skip or repeat is settled and said.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, date, datetime, time
from difflib import get_close_matches
from typing import TYPE_CHECKING

from wa_cli.domain.recipient import show_text
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from zoneinfo import ZoneInfo


class InvalidTime(UsageError):
    default_code = "invalid_time"


DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
DAY_WORDS = {word: number for number, name in enumerate(DAYS) for word in (name, name[:3])} | {
    "tues": 1,
    "weds": 2,
    "thur": 3,
    "thurs": 3,
}
MONTH_WORDS = {word: number for number, name in enumerate(MONTHS, 1) for word in (name, name[:3])} | {"sept": 9}

# What a time of day looks like, once tidied.
CLOCK = r"(?:\d{1,2}:\d{1,2}(?::\d{1,2}(?:[.,]\d+)?)?\s?(?:[ap]\.?m\.?)?|\d{1,2}\s?[ap]\.?m\.?|noon|midnight)"


def read_clock(words: str, typed: str) -> time:
    if words == "noon":
        return time(12)
    if words == "midnight":
        raise InvalidTime(
            f"'{show_words(typed)}' could be the midnight that begins the day or the one that ends it",
            hint="write 00:00 with its date, such as tomorrow 00:00",
        )
    match = re.fullmatch(r"(\d{1,2})(?::(\d{1,2})(?::(\d{1,2})(?:[.,](\d+))?)?)?\s?([ap])?(?:\.?m\.?)?", words)
    if match is None:  # pragma: no cover - CLOCK admits nothing else
        raise InvalidTime(f"'{show_words(typed)}' is not a time", hint="write it like 09:00, 9am or noon")
    hour, minute, second = int(match[1]), int(match[2] or 0), int(match[3] or 0)
    if any(part is not None and len(part) == 1 for part in (match[2], match[3])):
        raise InvalidTime(f"'{words}' has minutes or seconds of one digit", hint="write two, such as 09:05")
    if match[5]:
        if hour == 12:
            raise InvalidTime(
                f"'{words}' is read as noon by some and as midnight by others",
                hint=f"write 12:{minute:02} or 00:{minute:02}",
            )
        if not 1 <= hour <= 11:
            raise InvalidTime(f"'{words}' is not a time", hint="the hours of am and pm go from 1 to 12")
        hour += 12 if match[5] == "p" else 0
    if (hour, minute, second) == (24, 0, 0):
        raise InvalidTime(f"'{words}' is the end of a day", hint="write 00:00 of the day after")
    if hour > 23 or minute > 59 or second > 59:
        raise InvalidTime(f"there is no time '{words}'", hint="times go from 00:00 to 23:59")
    return time(hour, minute, second, int((match[4] or "0")[:6].ljust(6, "0")))


def settle_wall(wall: datetime, zone: ZoneInfo, *, not_before: datetime | None = None) -> tuple[datetime, str | None]:
    """The instant of a wall time, and what was chosen where the clocks skip or repeat it.

    Skipped: as far after the gap as it was after its begin.  Repeated: the first, unless it lies before not_before.
    wall: naive.  not_before: aware.
    """
    first = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    second = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if first == second:
        return first, None
    where = f"on {wall.day} {MONTHS[wall.month - 1][:3].capitalize()} {wall.year} in {zone}"
    if first.astimezone(zone).replace(tzinfo=None, fold=0) != wall:
        used = first.astimezone(zone)
        return first, f"{show_clock(wall)} does not exist {where}, the clocks go forward; using {show_clock(used)}"
    chosen, name, other = (second, "second", first) if not_before and first < not_before else (first, "first", second)
    text = f"{show_clock(wall)} happens twice {where}; using the {name}, {show_clock(chosen)} UTC"
    return chosen, f"{text} (the other is {show_utc(other)})"


# Words for people


def tidy_words(text: str) -> str:
    """Lower case, plain digits and punctuation, single spaces."""
    folded = unicodedata.normalize("NFKC", text).replace("−", "-")
    digits = "".join(
        str(unicodedata.decimal(character)) if unicodedata.category(character) == "Nd" else character
        for character in folded
        if unicodedata.category(character) != "Cf"
    )
    return " ".join(digits.lower().split())


def suggest_word(word: str, known: Iterable[str]) -> str | None:
    near = get_close_matches(word, list(known), n=1, cutoff=0.7)
    return f"did you mean {near[0]}?" if near else None


def join_with_or(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def join_with_and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def show_words(text: str) -> str:
    return show_text(text.strip())


def show_day(day: date) -> str:
    weekday, month = DAYS[day.weekday()][:3].capitalize(), MONTHS[day.month - 1][:3].capitalize()
    return f"{weekday} {day.day} {month} {day.year}"


def show_clock(moment: datetime) -> str:
    return f"{moment.hour:02}:{moment.minute:02}" + (f":{moment.second:02}" if moment.second else "")


def show_utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
