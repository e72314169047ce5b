"""Campaigns: how near the shortest possible time a timetable comes, and what planning a million people costs."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import combinations, pairwise
from math import floor
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from tests.benchmarks.importing import bystander, weigh, write_list
from tests.benchmarks.measuring import Figure, environment, percentile, run_apart, time_process
from tests.benchmarks.world import app_for, settings_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.benchmarks.measuring import Bench

RECIPIENTS: Final = 10_000
# Where half of the recipients live each, by the numbers they have: their nights do not fall together.
ZONES: Final = {"Asia/Singapore": "+659", "Europe/Berlin": "+491512"}
QUIET: Final = (21, 9)
WORDS: Final = "Hi {{ name }}, the summer sale in {{ city }} begins tomorrow at nine. Reply STOP to leave."
MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Limits of one timetable.  hourly, minutely: messages in any such time; gap_ms: between two of them."""

    name: str
    settings: dict[str, str]
    file: str
    hourly: int = 0
    minutely: int = 0
    gap_ms: float = 0.0

    @property
    def rolling(self) -> list[tuple[int, int]]:
        return [(size, span) for size, span in ((self.hourly, HOUR_MS), (self.minutely, MINUTE_MS)) if size]


MIXED: Final = (
    Terms(
        name="80/s, 600 an hour, 40 a minute of its own",
        settings={"MAX_SENDS_PER_HOUR_PER_INSTANCE": "600", "MAX_SENDS_PER_SECOND_PER_INSTANCE": "80"},
        file="[limits]\nper_minute = 40\n",
        hourly=600,
        minutely=40,
        gap_ms=12.5,
    ),
    Terms(
        name="100 a minute, one in 2 s",
        settings={"MAX_SENDS_PER_MINUTE_PER_INSTANCE": "100", "MAX_SENDS_PER_SECOND_PER_INSTANCE": "0"},
        file="[pacing]\ndelay = 2000\n",
        minutely=100,
        gap_ms=2_000.0,
    ),
)


# --- the shortest possible time ------------------------------------------------------------------------------------


def openings(zones: Sequence[str], start_ms: int, days: int) -> list[tuple[int, int]]:
    """When messages to any of the zones may leave, as (from, until), from the start on."""
    stretches: list[tuple[int, int]] = []
    for zone in map(ZoneInfo, zones):
        first = datetime.fromtimestamp(start_ms / 1000, UTC).astimezone(zone).date() - timedelta(days=1)
        for day in (first + timedelta(days=number) for number in range(days)):
            begin, end = (
                round(datetime(day.year, day.month, day.day, hour, tzinfo=zone).timestamp() * 1000)
                for hour in (QUIET[1], QUIET[0])
            )
            if end > start_ms:
                stretches.append((max(begin, start_ms), end))
    joined: list[tuple[int, int]] = []
    for begin, end in sorted(stretches):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def room(length_ms: float, terms: Terms) -> int:
    """The most messages that fit into so much open time by each of the limits alone."""
    sizes = [size * (floor(length_ms / span) + 1) for size, span in terms.rolling]
    if terms.gap_ms:
        sizes.append(floor(length_ms / terms.gap_ms) + 1)
    return min(sizes)


def shortest_ms(counts: dict[str, int], terms: Terms, start_ms: int) -> int:
    """No timetable of these messages ends earlier: ms from the start until the last of them.

    Worked out apart from the planner: for any set of the zones, its messages have to fit into its open time by each
    limit alone.  Whatever else binds only makes it longer.
    """
    longest = 0
    for size in range(1, len(counts) + 1):
        for zones in combinations(counts, size):
            left = sum(counts[zone] for zone in zones)
            for begin, end in openings(zones, start_ms, days=40):
                fitting = room(end - begin - 1, terms)
                if fitting < left:
                    left -= fitting
                    continue
                low, high = 0, end - begin - 1
                while low < high:
                    middle = (low + high) // 2
                    low, high = (low, middle) if room(middle, terms) >= left else (middle + 1, high)
                longest = max(longest, begin + low - start_ms)
                break
    return longest


def count_breaches(posts: Sequence[tuple[int, str]], terms: Terms) -> int:
    """Posts that the limits or somebody's night would not have allowed.  posts: (wall time, address), in order."""
    breaches = 0
    times = [at for at, _address in posts]
    for size, span in terms.rolling:
        breaches += sum(later - earlier < span for earlier, later in zip(times, times[size:], strict=False))
    breaches += sum(later - earlier < floor(terms.gap_ms) for earlier, later in pairwise(times))
    for at, address in posts:
        zone = next(zone for zone, prefix in ZONES.items() if address.startswith(prefix))
        hour = datetime.fromtimestamp(at / 1000, ZoneInfo(zone)).hour
        breaches += hour >= QUIET[0] or hour < QUIET[1]
    return breaches


def play_once(folder: Path, terms: Terms, recipients: int) -> tuple[float, float, float, int]:
    """(shortest possible, planned, sent) makespan in hours, and how often the other side would have refused."""
    from tests.campaigning import open_office

    folder.mkdir()
    prefixes = list(ZONES.values())
    people = [
        {"name": f"P{number}", "city": "Pune", "phone": f"{prefixes[number % 2]}{number:07d}"}
        for number in range(recipients)
    ]
    text = (
        f'[message]\ntext = "{WORDS}"\n[audience]\nfiles = ["people.csv"]\n[schedule]\nzone = "recipient"\n'
        f'[quiet]\nhours = ["{QUIET[0]}:00", "0{QUIET[1]}:00"]\n{terms.file}'
    )
    with open_office(folder, RATE_LIMIT_MS="0", MAX_SENDS_PER_MINUTE_PER_RECIPIENT="0", **terms.settings) as office:
        office.app.database.connection.execute("PRAGMA synchronous = OFF")
        office.write_people("people.csv", people)
        office.world.limits = office.app.limits()
        campaign = office.create("sale", text)
        start_ms = office.clock.wall_ms()
        planned, summary = office.plan(campaign)
        assert summary.queued == recipients, summary
        office.apply(campaign, planned)
        office.drain(whole_schedule=True)
        posts = [(posted.wall_ms, posted.post.address) for posted in office.world.transport.posts]
        assert len({address for _at, address in posts}) == len(posts) == recipients
        counts = Counter(zone for _at, to in posts for zone, prefix in ZONES.items() if to.startswith(prefix))
        shortest = shortest_ms(dict(counts), terms, start_ms)
        spans = (shortest, (summary.last_at_ms or 0) - start_ms, posts[-1][0] - start_ms)
        hours = tuple(span / HOUR_MS for span in spans)
        return hours[0], hours[1], hours[2], count_breaches(posts, terms)


def measure_timetable(bench: Bench) -> Iterator[Figure]:
    """A campaign of 10,000 in two zones under mixed limits: its time against the shortest possible one."""
    recipients = RECIPIENTS if bench.size.name != "tiny" else bench.size.drained
    for number, terms in enumerate(MIXED):
        shortest, planned, sent, breaches = run_apart(
            play_once, bench.folder / f"timetable-{number}", terms, recipients
        )
        yield Figure(
            name=f"timetable of {recipients:,}, {terms.name}",
            value=planned,
            unit="h",
            against="the shortest that its limits allow",
            yardstick=shortest,
            bar="<= 1.05",
            note=f"sent in {sent:.2f} h by the send loop on a clock that runs ahead",
        )
        yield Figure(
            name=f"timetable of {recipients:,}, {terms.name}: refusals",
            value=float(breaches),
            unit="posts",
            bar="0",
        )


# --- a million -------------------------------------------------------------------------------------------------------


def _word_of_plan(path: Path) -> str:
    with closing(app_for(path)) as app:
        (plan_id,) = app.database.connection.execute(
            "SELECT max(id) FROM plan WHERE finished_at IS NOT NULL"
        ).fetchone()
        return app.plans.read_plan(plan_id).word


def measure_campaign(bench: Bench) -> Iterator[Figure]:
    """A million people from a CSV, and from a subgroup, planned and let go: time, memory, and others who write."""
    count = bench.size.depths[min(2, len(bench.size.depths) - 1)]
    path = bench.new_path()
    folder = bench.folder / f"campaigns-{path.stem}"
    folder.mkdir()
    write_list(folder / "people.csv", count)
    for name, audience in (("csv", 'files = ["people.csv"]'), ("subgroup", 'subgroups = ["everybody"]')):
        (folder / f"{name}.toml").write_text(f'[message]\ntext = "{WORDS}"\n[audience]\n{audience}\n')
    app_for(path).close()
    env = environment(**settings_for(path))
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    wa = [sys.executable, "-m", "wa_cli", "-q"]
    for name in ("csv", "subgroup"):
        if name == "subgroup":
            weigh([*wa, "subgroup", "import", "everybody", str(folder / "people.csv"), "--create"], env, bench.folder)
        with bystander(path) as waits:
            took, most = weigh([*wa, "campaign", "plan", str(folder / f"{name}.toml")], env, bench.folder)
        yield from _figures(f"plan of {count:,} from a {name}", count, took, most, waits)
        if name == "csv":
            word = _word_of_plan(path)
            with bystander(path) as waits:
                took, most = weigh([*wa, "campaign", "apply", name, "--plan", word], env, bench.folder)
            yield from _figures(f"apply of {count:,}", count, took, most, waits)
    for words in (["campaign", "list"], ["campaign", "show", "csv"]):
        times = [time_process([*wa, *words], env, bench.folder) for _turn in range(bench.size.starts)]
        yield Figure(
            name=f"wa {' '.join(words[:2])} beside {count:,} messages", value=percentile(times, 0.5), unit="ms"
        )


def _figures(what: str, count: int, took: float, most: float, waits: list[float]) -> Iterator[Figure]:
    yield Figure(
        name=what,
        value=count / took,
        unit="rows/s",
        note=f"{took:.1f} s for the whole command, beside another writer",
    )
    yield Figure(name=f"{what}, peak memory", value=most, unit="MiB", bar="< 250 MB")
    yield Figure(
        name=f"{what}, longest wait of another writer",
        value=max(waits, default=0.0),
        unit="ms",
        bar="<= 200 ms",
        note=f"p99 {percentile(waits, 0.99):.1f} of {len(waits):,} writes" if waits else "",
    )
