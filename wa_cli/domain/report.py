"""The ledger of one run of a campaign, and what is worked out from it: funnel, pace, end, times to read.

Everybody of the audience stands in exactly one bucket.  People who were left out before anything was queued are in it,
too: under `expired` when their time would have run out, under `skipped` for every other reason; so the audience is the
sum of the buckets, without a remainder (promise P13).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil
from typing import TYPE_CHECKING, Final

from wa_cli.domain.campaign import Reason
from wa_cli.domain.receipt import Receipt, Standing, derive_standing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from wa_cli.domain.message import State

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000

# A person answers a message when they write or leave within so long after it went out to them.
ANSWER_MS: Final = 7 * DAY_MS


class Bucket(StrEnum):
    """Where one of the audience stands.  held: it waits, and its campaign or its stage is stopped."""

    QUEUED = "queued"
    HELD = "held"
    SENDING = "sending"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"
    SKIPPED = "skipped"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


WAITING: Final = (Bucket.QUEUED, Bucket.HELD)
# What WhatsApp has taken, and how far it came.
ACCEPTED: Final = (Bucket.SENT, Bucket.DELIVERED, Bucket.READ)
ARRIVED: Final = (Bucket.DELIVERED, Bucket.READ)
# What was posted, whatever became of it.
POSTED: Final = (Bucket.SENDING, *ACCEPTED, Bucket.FAILED, Bucket.UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What people did after their message: people each, but for clicks and previews, which are counted one by one.

    replied: who wrote, those among them who left included.  previews: what fetched a link to draw a picture of it.
    has_links: the messages carried short links at all.
    """

    replied: int = 0
    opted_out: int = 0
    clicked: int = 0
    clicks: int = 0
    previews: int = 0
    has_links: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup:
    """Messages that failed alike.  code: the platform's or wa's own, else the rule that gave up.

    meaning, fix: in words, where they are known.  message_id: of one of them, to be looked at; None for pruned ones.
    """

    code: str
    count: int
    message_id: int | None
    meaning: str | None = None
    fix: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Counts over time, one for each step from the start on, without gaps."""

    start_ms: int
    step_ms: int
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        return sum(self.counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """How many took at most so long.  until_ms: None for all that took longer still."""

    until_ms: int | None
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadTimes:
    """How long people took from the post to reading, as far as they let it be known."""

    count: int
    median_ms: int
    p90_ms: int
    spans: tuple[Span, ...]

    @property
    def told(self) -> tuple[Span, ...]:
        """The spans up to the last that holds anybody: what is worth a line."""
        last = max(place for place, span in enumerate(self.spans) if span.count)
        return self.spans[: last + 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The messages of one variant, country or instance.  People who were left out have none, and are in no part.

    replied, clicked: people, of a variant only.
    """

    name: str
    buckets: Mapping[Bucket, int]
    replied: int = 0
    clicked: int = 0

    @property
    def total(self) -> int:
        return sum(self.buckets.values())

    def count(self, among: Iterable[Bucket]) -> int:
        return sum(self.buckets.get(bucket, 0) for bucket in among)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetails:
    """What only a look at every message can tell.

    countries: by their two letters; `groups`, `erased` and `unknown` for what has no country.
    unsent: messages that were skipped, expired or cancelled after they were queued, by the rule that did it.
    """

    variants: tuple[Part, ...]
    countries: tuple[Part, ...]
    instances: tuple[Part, ...]
    unsent: Mapping[str, int]
    read_times: ReadTimes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """One run at one moment.

    audience: counted by itself, so that the buckets can be held against it.  left_out: people and rows that got no
    message, by reason; they are in the buckets.  per_minute: posts begun in the last minute.
    net_per_minute: posted messages over the length of the run so far.  sends: posts begun.
    ends_at_ms: when the last one is expected to leave, or None where nothing waits or nothing moves.
    pruned_at_ms: when its messages were pruned, and its answers looked at for the last time, or None.
    """

    audience: int
    buckets: Mapping[Bucket, int]
    left_out: Mapping[str, int] = field(default_factory=dict)
    answers: Answers = field(default_factory=Answers)
    failures: tuple[FailureGroup, ...] = ()
    sends: Series | None = None
    per_minute: int = 0
    net_per_minute: float = 0.0
    ends_at_ms: int | None = None
    details: RunDetails | None = None
    pruned_at_ms: int | None = None

    def count(self, among: Iterable[Bucket]) -> int:
        return sum(self.buckets.get(bucket, 0) for bucket in among)

    @property
    def waiting(self) -> int:
        return self.count(WAITING)

    @property
    def accepted(self) -> int:
        return self.count(ACCEPTED)

    @property
    def unfinished(self) -> int:
        """Messages that something is still going to happen to, without a person."""
        return self.waiting + self.buckets.get(Bucket.SENDING, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One line of the funnel.  share: of the audience, 0.0 to 1.0.  is_stage: it holds all later stages, too."""

    name: str
    count: int
    share: float
    is_stage: bool


# --- the ledger ---


def fill_buckets(
    tally: Iterable[tuple[State, Receipt | None, int]], left_out: Mapping[str, int], *, held: int
) -> dict[Bucket, int]:
    """Every bucket, the empty ones too.

    tally: how many messages stand where.  left_out: people without a message, by reason.
    held: how many of the queued ones are held back.
    """
    buckets = dict.fromkeys(Bucket, 0)
    for state, receipt, count in tally:
        buckets[Bucket(derive_standing(state, receipt).value)] += count
    stopped = min(held, max(buckets[Bucket.QUEUED], 0))
    buckets[Bucket.QUEUED] -= stopped
    buckets[Bucket.HELD] += stopped
    for reason, count in left_out.items():
        buckets[bucket_of_reason(reason)] += count
    return buckets


def bucket_of_reason(reason: str) -> Bucket:
    """Where somebody stands who was left out."""
    return Bucket.EXPIRED if reason == Reason.EXPIRED else Bucket.SKIPPED


def bucket_of(state: State, receipt: Receipt | None, *, is_held: bool) -> Bucket:
    """Where a message stands."""
    standing = derive_standing(state, receipt)
    return Bucket.HELD if is_held and standing is Standing.QUEUED else Bucket(standing.value)


def find_ledger_error(figures: RunFigures) -> str | None:
    """What does not add up, in words, or None: everybody stands in exactly one bucket (promise P13)."""
    below = [bucket for bucket, count in figures.buckets.items() if count < 0]
    if below:
        return f"fewer than none are {' and '.join(below)}"
    total = sum(figures.buckets.values())
    if total != figures.audience:
        return f"the audience is {figures.audience:,} and the buckets hold {total:,}"
    if figures.details is None:
        return None
    messages = figures.audience - sum(figures.left_out.values())
    for name in ("variants", "countries", "instances"):
        parts: tuple[Part, ...] = getattr(figures.details, name)
        if sum(part.total for part in parts) != messages:
            return f"there are {messages:,} messages and the {name} hold {sum(part.total for part in parts):,}"
        for bucket, count in figures.buckets.items():
            left_out = sum(n for reason, n in figures.left_out.items() if bucket_of_reason(reason) is bucket)
            if sum(part.buckets.get(bucket, 0) for part in parts) != count - left_out:
                return f"{count - left_out:,} messages are {bucket}, and the {name} hold another number of them"
    return None


def make_funnel(figures: RunFigures) -> tuple[Step, ...]:
    """From everybody down to those who answered, and beside it those for whom it went another way."""
    answers = figures.answers
    stages = [
        ("recipients", figures.audience),
        ("sent", figures.accepted),
        ("delivered", figures.count(ARRIVED)),
        ("read", figures.buckets.get(Bucket.READ, 0)),
    ]
    others = [("clicked", answers.clicked)] if answers.has_links else []
    others += [
        ("replied", answers.replied),
        ("failed", figures.buckets.get(Bucket.FAILED, 0)),
        ("opted out", answers.opted_out),
        ("unknown", figures.buckets.get(Bucket.UNKNOWN, 0)),
    ]
    return tuple(
        Step(name=name, count=count, share=share_of(count, figures.audience), is_stage=is_stage)
        for steps, is_stage in ((stages, True), (others, False))
        for name, count in steps
    )


def share_of(count: int, whole: int) -> float:
    return count / whole if whole > 0 else 0.0


# --- time ---


def estimate_end(
    *, waiting: int, overdue: int, last_due_at_ms: int | None, per_minute: float, now_ms: int
) -> int | None:
    """When the last message is expected to leave.  None when none waits, or when what is due does not move.

    waiting: messages that are to leave.  overdue: those of them that are due.  last_due_at_ms: by the timetable.
    per_minute: the pace just now.  While nothing is late the timetable holds; what is late leaves at the present pace.
    """
    if waiting <= 0 or last_due_at_ms is None:
        return None
    if overdue <= 0:
        return max(last_due_at_ms, now_ms)
    if per_minute <= 0:
        return None
    return max(last_due_at_ms, now_ms + ceil(overdue / per_minute * MINUTE_MS))


STEPS_MS: Final = (
    MINUTE_MS, 2 * MINUTE_MS, 5 * MINUTE_MS, 10 * MINUTE_MS, 15 * MINUTE_MS, 30 * MINUTE_MS,
    HOUR_MS, 2 * HOUR_MS, 3 * HOUR_MS, 6 * HOUR_MS, 12 * HOUR_MS, DAY_MS, 7 * DAY_MS, 28 * DAY_MS,
)  # fmt: skip


def choose_step_ms(length_ms: int, *, most: int) -> int:
    """The shortest step, a minute or more, in which so long a time has at most so many steps."""
    for step_ms in STEPS_MS:
        if length_ms < step_ms * most:
            return step_ms
    return STEPS_MS[-1] * ceil((length_ms + 1) / (STEPS_MS[-1] * most))


def gather_series(by_minute: Mapping[int, int], *, until_ms: int | None = None, most: int = 60) -> Series | None:
    """Counts by minute (ms since 1970 // 60,000) as at most about `most` bars.  None where there is nothing.

    until_ms: where the series ends; None for its last count.
    """
    minutes = [minute for minute, count in by_minute.items() if count]
    if not minutes:
        return None
    first, last = min(minutes) * MINUTE_MS, max(minutes) * MINUTE_MS
    last = max(last, until_ms) if until_ms is not None else last
    step_ms = choose_step_ms(last - first, most=most)
    start_ms = first - first % step_ms
    counts = [0] * ((last - start_ms) // step_ms + 1)
    for minute, count in by_minute.items():
        if count:
            counts[(minute * MINUTE_MS - start_ms) // step_ms] += count
    return Series(start_ms=start_ms, step_ms=step_ms, counts=tuple(counts))


# Where the bars of the times to read end: what a person would say, from at once to days later.
READ_SPANS_MS: Final = (
    MINUTE_MS, 5 * MINUTE_MS, 15 * MINUTE_MS, HOUR_MS, 3 * HOUR_MS, 12 * HOUR_MS, DAY_MS, 3 * DAY_MS,
)  # fmt: skip


def measure_read_times(times_ms: Sequence[int]) -> ReadTimes | None:
    """times_ms: from the shortest on; WhatsApp rounds to seconds, so a negative one is none at all."""
    if not times_ms:
        return None
    bounds = [*READ_SPANS_MS, None]
    counts = [0] * len(bounds)
    place = 0
    for time_ms in times_ms:
        while place < len(READ_SPANS_MS) and time_ms > READ_SPANS_MS[place]:
            place += 1
        counts[place] += 1
    return ReadTimes(
        count=len(times_ms),
        median_ms=max(nearest_rank(times_ms, 0.5), 0),
        p90_ms=max(nearest_rank(times_ms, 0.9), 0),
        spans=tuple(Span(until_ms=until_ms, count=count) for until_ms, count in zip(bounds, counts, strict=True)),
    )


def nearest_rank(ordered: Sequence[int], share: float) -> int:
    """The smallest value that this share of them does not exceed.  ordered: smallest first, at least one."""
    return ordered[max(ceil(share * len(ordered)) - 1, 0)]


# --- parts ---

FEW: Final = 12
OTHERS: Final = "others"


def gather_parts(rows: Iterable[tuple[str, Bucket, int]]) -> tuple[Part, ...]:
    """(name, bucket, how many) as parts, the largest first."""
    parts: dict[str, Counter[Bucket]] = {}
    for name, bucket, count in rows:
        parts.setdefault(name, Counter())[bucket] += count
    gathered = [Part(name=name, buckets=dict(buckets)) for name, buckets in parts.items()]
    return tuple(sorted(gathered, key=lambda part: (-part.total, part.name)))


def keep_largest(parts: Sequence[Part], *, most: int = FEW) -> tuple[Part, ...]:
    """At most so many parts: the largest, and one for all the others."""
    if len(parts) <= most:
        return tuple(parts)
    rest: Counter[Bucket] = Counter()
    for part in parts[most - 1 :]:
        rest.update(part.buckets)
    return (*parts[: most - 1], Part(name=f"{len(parts) - most + 1} {OTHERS}", buckets=dict(rest)))


# --- countries ---

# So many characters of a number tell its country, where several share a calling code, too.
COUNTRY_PREFIX: Final = 8


def country_of(address: str, kind: str) -> str:
    """Two letters for a number, `groups` for a group, `erased` for who was erased, `unknown` for the rest."""
    if kind == "group":
        return "groups"
    if address.startswith("erased:"):
        return "erased"
    import phonenumbers

    try:
        region = phonenumbers.region_code_for_number(phonenumbers.parse(address))
    except phonenumbers.NumberParseException:
        return "unknown"
    return region if region and region.isalpha() else "unknown"
