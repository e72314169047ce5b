"""A campaign: what its file says, where it stands, and what may become of it.

The file is read by `sources.campaigns`; times of day and days are understood by `domain.timetable`, personal words by
`domain.personal`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from wa_cli.domain.message import OnUnknown
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_NAME: Final = 60
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]*", re.IGNORECASE)


class CampaignState(StrEnum):
    """Where a campaign stands.

    scheduled: let go, and its first message is still to come.  finished: nothing of it waits any more.
    """

    DRAFT = "draft"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    CANCELLED = "cancelled"


# Which steps there are.  Whoever takes one writes down who they are and why.
STEPS: Final[Mapping[CampaignState, frozenset[CampaignState]]] = {
    CampaignState.DRAFT: frozenset({CampaignState.SCHEDULED, CampaignState.RUNNING, CampaignState.CANCELLED}),
    CampaignState.SCHEDULED: frozenset(
        {CampaignState.RUNNING, CampaignState.PAUSED, CampaignState.FINISHED, CampaignState.CANCELLED}
    ),
    CampaignState.RUNNING: frozenset(
        {CampaignState.SCHEDULED, CampaignState.PAUSED, CampaignState.FINISHED, CampaignState.CANCELLED}
    ),
    CampaignState.PAUSED: frozenset(
        {CampaignState.SCHEDULED, CampaignState.RUNNING, CampaignState.FINISHED, CampaignState.CANCELLED}
    ),
    # A resend, or the next turn of a recurring one, wakes it up again.
    CampaignState.FINISHED: frozenset({CampaignState.RUNNING, CampaignState.SCHEDULED}),
    CampaignState.CANCELLED: frozenset(),
}


class Priority(StrEnum):
    """A campaign's share of its instance beside others: 4, 2 or 1 parts."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


WEIGHTS: Final[Mapping[Priority, int]] = {Priority.HIGH: 4, Priority.NORMAL: 2, Priority.LOW: 1}


class Missed(StrEnum):
    """What becomes of an occurrence that nobody could start in time: send it within the grace, or leave it out."""

    SEND = "send"
    SKIP = "skip"


class Reason(StrEnum):
    """Why somebody of the audience gets no message.  Each is counted, and listed by `wa campaign export`."""

    INVALID = "invalid"  # a row that names nobody who can be reached
    OPTED_OUT = "opted_out"
    MISSING_FIELD = "missing_field"  # a variable without a value and without a fallback
    UNSENDABLE = "unsendable"  # the platform would refuse the filled words, or the kind of recipient
    WINDOW_CLOSED = "window_closed"
    ALREADY_WRITTEN = "already_written"  # by this very run, before it was planned anew
    EXPIRED = "expired"  # its time would be over before the limits let it leave
    ERASED = "erased"
    NOT_ON_WHATSAPP = "not_on_whatsapp"  # as a look-up of the last 30 days has found
    NOT_IN_GROUP = "not_in_group"
    MAY_NOT_POST = "may_not_post"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSpec:
    """What one variant says.  All words may hold variables.

    name: of the variant, "" for the only one.  weight: its share beside the other variants.
    text: the body, or the caption with media.  media: a link, or the path of a file that is the same for everybody.
    kind: `location`, `contact`, `poll`, `buttons` or `list`, None for the others; parts are its texts by their places.
    parameters, header, buttons: of a template, as written in the file;
    the keys of parameters are their names, or "1", "2" ... for the positional kind.
    """

    name: str = ""
    weight: int = 1
    text: str | None = None
    media: str | None = None
    media_type: str | None = None
    filename: str | None = None
    template: str | None = None
    language: str = "en_US"
    parameters: tuple[tuple[str, str], ...] = ()
    header: tuple[str, str] | None = None
    buttons: tuple[tuple[int, str, str], ...] = ()
    link_preview: bool = False
    kind: str | None = None
    parts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AudienceSource:
    """Some people: a subgroup, a file beside the campaign file, or contacts by their attributes.

    kind: `subgroup`, `file` or `contacts`.  name: of the subgroup, or the file's path as written.
    match: attribute and value each, all of which a contact must have; empty for every contact.
    columns: for a file, which column fills which variable where the names differ.
    """

    kind: str
    name: str = ""
    match: tuple[tuple[str, str], ...] = ()
    columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """Who is meant: everybody in any of the first, and in all of the second, and in none of the third."""

    any_of: tuple[AudienceSource, ...]
    all_of: tuple[AudienceSource, ...] = ()
    none_of: tuple[AudienceSource, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """When nothing leaves.  start and end: minutes after midnight, over midnight where end <= start; None for no hours.

    days: weekdays with Monday as 0.  dates: ISO days, for holidays.
    """

    start: int | None = None
    end: int | None = None
    days: frozenset[int] = frozenset()
    dates: frozenset[str] = frozenset()

    @property
    def is_empty(self) -> bool:
        return self.start is None and not self.days and not self.dates


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSpec:
    """When.  at: as typed, None for at once.  every: a recurring rule, as typed.

    zone: the campaign's zone, or None for the settings'.  is_local: at, between and quiet hours are the recipients' own
    local times.  between: minutes after midnight, from and until, over which the messages are spread.
    until: the last day of a recurring one, as typed.  grace_ms: how late an occurrence may still be sent.
    """

    at: str | None = None
    every: str | None = None
    until: str | None = None
    zone: str | None = None
    is_local: bool = False
    between: tuple[int, int] | None = None
    missed: Missed = Missed.SEND
    grace_ms: int = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacing:
    """How far apart.  delay_ms: None for as fast as the limits allow.  jitter: 0.0 to 0.9 of the spacing."""

    delay_ms: int | None = None
    is_auto: bool = False
    jitter: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRules:
    """When a campaign pauses itself.  Rates are shares from 0.0 to 1.0 of what has an outcome, None for no rule.

    after: outcomes that must be there before a rate counts.
    """

    failure_rate: float | None = 0.25
    opt_out_rate: float | None = 0.05
    after: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A sample that goes first.  hold_ms: how long the rest waits after the sample's last message."""

    size: int
    hold_ms: int = 1_800_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignSpec:
    """A campaign file, read and understood.  Nothing in it depends on the time or on who is in a list.

    variables: values for everybody; fallbacks: for those who lack one.  language: `plain` for variables alone, `jinja`
    for all of it.  limits: by the names of `pacing.Limits`.  expires: as typed, a length of time after a message is
    due, or a time.  short_links: the base of own short links, or None.  rates: a file of prices, or None.
    """

    name: str
    title: str
    messages: tuple[MessageSpec, ...]
    audience: Audience
    schedule: ScheduleSpec = field(default_factory=ScheduleSpec)
    quiet: Quiet = field(default_factory=Quiet)
    pacing: Pacing = field(default_factory=Pacing)
    variables: tuple[tuple[str, str], ...] = ()
    fallbacks: tuple[tuple[str, str], ...] = ()
    language: str = "plain"
    instance: str = "default"
    priority: Priority = Priority.NORMAL
    limits: tuple[tuple[str, int], ...] = ()
    stop: StopRules = field(default_factory=StopRules)
    canary: Canary | None = None
    expires: str | None = None
    on_unknown: OnUnknown = OnUnknown.HOLD
    max_attempts: int = 5
    short_links: str | None = None
    rates: str | None = None

    @property
    def is_recurring(self) -> bool:
        return self.schedule.every is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """A campaign as it stands in the store.  source: the file's text when it was last read in.

    next_occurrence_at_ms: of a recurring one that is let go.
    """

    id: int
    name: str
    path: str
    source: str
    state: CampaignState
    created_at_ms: int
    changed_at_ms: int
    paused_by: str | None = None
    pause_code: str | None = None
    pause_reason: str | None = None
    next_occurrence_at_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignChange:
    """One step of a campaign's life."""

    at_ms: int
    from_state: CampaignState | None
    to_state: CampaignState
    actor: str
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One sending of a campaign, with a ledger of its own.  occurrence: "" for a campaign that is sent once.

    baseline: the outcomes that a person has accepted by resuming, as JSON; stop rules look at what came after.
    """

    id: int
    campaign_id: int
    occurrence: str
    plan_id: int | None
    state: str
    created_at_ms: int
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    canary_until_ms: int | None = None
    canary_judged_at_ms: int | None = None
    baseline: str | None = None
    first_message_id: int | None = None
    last_message_id: int | None = None


def check_campaign_name(name: str) -> str:
    """Raises: UsageError for a name that could not be typed or be the name of a file."""
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise UsageError(
            f"'{name[:80]}' cannot be the name of a campaign",
            hint=f"letters, digits, - and _, at most {LONGEST_NAME}: such as summer-sale",
            code="campaign_name",
        )
    return name


def may_step(old: CampaignState, new: CampaignState) -> bool:
    return new in STEPS[old]
