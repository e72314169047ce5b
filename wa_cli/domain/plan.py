"""A plan: who gets what and when, worked out to the minute before anything is sent.

Pure values and the pacing of a timetable.  `services.planning` fills them, the store keeps them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, assert_never

from wa_cli.domain.message import (
    Buttons,
    ContactCard,
    ListMenu,
    Location,
    Media,
    Poll,
    Reaction,
    Template,
    Text,
    content_summary,
)
from wa_cli.domain.pacing import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from wa_cli.domain.template import fill_template

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wa_cli.domain.message import Content
    from wa_cli.domain.pacing import Limits
    from wa_cli.domain.template import StoredTemplate

DIGEST_SHOWN: Final = 6
STAGE_CANARY: Final = "canary"
STAGE_MAIN: Final = "main"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What some lines share: their stage, variant and zone.  zone is "" where the campaign's own holds for all.

    instance_id: the member of the campaign's pool that writes to them, None where the campaign has one instance.
    """

    stage: str
    variant: str
    zone: str
    instance_id: int | None = None


@dataclass(slots=True, kw_only=True)  # not frozen: one is made a line, and freezing costs five times the making
class PlanLine:
    """One of the audience: with a content and a due time, or with a reason why not.

    contact_id: None for a row that names nobody.  details: what a person needs to know about the reason.
    """

    contact_id: int | None
    content_id: int | None = None
    part: int | None = None
    due_at_ms: int | None = None
    expires_at_ms: int | None = None
    reason: str | None = None
    details: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody of an audience, as the planner meets them.

    fields: everything that is known about them, the most particular last: attributes of the contact, of the subgroup's
    member, of the file's row.  written_as: the message of this very run that has been or may have been accepted.
    position: in the order in which they were named, from 1.  last_inbound_at_ms, closed_at_ms: of the conversation
    with the instance, see `domain.window`.  is_unregistered: a look-up has not found their number on WhatsApp.
    seat: the member of the campaign's pool that writes to them already, or None.
    """

    contact_id: int
    address: str
    kind: str
    fields: Mapping[str, str]
    has_opted_out: bool
    is_erased: bool
    written_as: int | None = None
    position: int = 0
    last_inbound_at_ms: int | None = None
    closed_at_ms: int | None = None
    is_unregistered: bool = False
    seat: int | None = None


@dataclass(slots=True, kw_only=True)  # not frozen, for the same reason as PlanLine
class Draft:
    """One person's message before it has a moment.  variant: its number.  zone: "" for the campaign's own.

    region: ISO region of the number, or "".  reason: why there is none, or None.  seat: the member of the campaign's
    pool that writes to them already, or None.
    """

    contact_id: int
    variant: int
    zone: str
    region: str
    content_id: int | None = None
    reason: str | None = None
    details: str | None = None
    seat: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One message as it would leave."""

    address: str
    variant: str
    words: str


@dataclass(slots=True, kw_only=True)
class PlanSummary:
    """What a plan comes to.  Times are ms since 1970.

    by_zone: (first, last) by zone name.  cost: by currency, as far as the rate file goes; unpriced: countries it lacks.
    shifted: messages that quiet hours moved.  warnings: what is worth a second look.  clashes: other campaigns that
    send for the same instance at the same time, with how many people are in both.  spread_ms: between the messages that
    fill a window, all zones together; 0 without a window to fill.  groups: one sentence on who is in its groups.
    by_instance: messages by the name of the number that sends them, empty where there is only one.
    """

    audience: int = 0
    queued: int = 0
    merged: int = 0
    first_at_ms: int | None = None
    last_at_ms: int | None = None
    by_reason: dict[str, int] = field(default_factory=dict)
    by_country: dict[str, int] = field(default_factory=dict)
    by_variant: dict[str, int] = field(default_factory=dict)
    by_zone: dict[str, tuple[int, int]] = field(default_factory=dict)
    missing_fields: dict[str, int] = field(default_factory=dict)
    fallbacks: dict[str, int] = field(default_factory=dict)
    shifted: int = 0
    spread_ms: int = 0
    canary: int = 0
    canary_until_ms: int | None = None
    cost: dict[str, float] = field(default_factory=dict)
    unpriced: dict[str, int] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    longest: Sample | None = None
    warnings: list[str] = field(default_factory=list)
    clashes: list[tuple[str, int]] = field(default_factory=list)
    groups: str | None = None
    by_instance: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A plan in the store.  inputs: digests of all that it was made from, by name; see `find_drift`."""

    id: int
    campaign_id: int
    occurrence: str
    digest: str
    source: str
    inputs: Mapping[str, Any]
    summary: Mapping[str, Any]
    created_at_ms: int
    applied_at_ms: int | None

    @property
    def word(self) -> str:
        return format_plan_id(self.id, self.digest)


def format_plan_id(plan_id: int, digest: str) -> str:
    """What a person types: the number and the beginning of the digest, so that a wrong one is noticed."""
    return f"p{plan_id}-{digest[:DIGEST_SHOWN]}"


def parse_plan_id(word: str) -> tuple[int, str] | None:
    """(number, beginning of the digest), or None for a word that is no plan id."""
    number, dash, digest = word.removeprefix("p").partition("-")
    if not (word.startswith("p") and number.isascii() and number.isdigit() and len(number) < 16):
        return None
    return (int(number), digest) if dash and len(digest) == DIGEST_SHOWN else None


def show_content(content: Content, stored: StoredTemplate | None = None) -> str:
    """A whole message in words, as somebody would read it.  stored: its template, where that is known."""
    match content:
        case Text():
            return content.body
        case Media():
            file = f"{content.filename or 'a file'} ({content.kind})" if content.file else content.link
            return "\n".join(filter(None, (file, content.caption)))
        case Template():
            if stored is None:
                parts = [content_summary(content)]
            else:
                parts = [f"{content.name} ({content.language})", fill_template(stored, content)]
            if content.header and (stored is None or content.header.kind != "text"):
                parts.append(f"{content.header.kind}: {content.header.value}")
            parts += [f"button {button.index}: {button.value}" for button in content.buttons]
            return "\n".join(parts)
        case Location():
            return "\n".join(filter(None, (content.name, content.address, f"{content.latitude}, {content.longitude}")))
        case ContactCard():
            return "\n".join(filter(None, (content.name, content.organization, content.phone)))
        case Poll():
            few = {0: "any number of answers", 1: "one answer"}
            return "\n".join(
                [
                    content.question,
                    *(f"( ) {option}" for option in content.options),
                    few.get(content.max_answers, f"up to {content.max_answers} answers"),
                ]
            )
        case Reaction():
            return f"{content_summary(content)} to {content.message_id}"
        case Buttons():
            return _show_frame(content, [f"[{button.title}]" for button in content.buttons])
        case ListMenu():
            lines = [f"[{content.button}]"]
            for section in content.sections:
                lines += [section.title] if section.title else []
                lines += [" - ".join(filter(None, (f"( ) {row.title}", row.description))) for row in section.rows]
            return _show_frame(content, lines)
        case _:
            assert_never(content)


def _show_frame(content: Buttons | ListMenu, choices: list[str]) -> str:
    return "\n".join(filter(None, (content.header, content.body, *choices, content.footer)))


class Timetable:
    """When the next message may leave by the limits of its instance: the same rolling windows, ahead of time.

    Moments are ms since 1970.  They are asked for in order: each at or after the last one noted.
    """

    def __init__(self, limits: Limits, *, gap_ms: float = 0.0) -> None:
        """gap_ms: the least time between two messages, beside the limits'."""
        self._gap_ms = max(gap_ms, limits.gap_ms, SECOND_MS / limits.per_second if limits.per_second else 0.0)
        spans = (
            (limits.per_minute, MINUTE_MS),
            (limits.per_hour, HOUR_MS),
            (limits.per_day, DAY_MS),
            # Ahead of time nobody knows who will have written by then: each one counts as somebody new.
            (limits.new_people_per_day, DAY_MS),
            (limits.new_chats_per_day, DAY_MS),
        )
        self._rolling = [(span, deque[float](maxlen=size)) for size, span in spans if size]
        self._next = float("-inf")

    @property
    def pace_ms(self) -> float:
        """The time that one message takes up in the long run."""
        return max(self._gap_ms, *(span / (starts.maxlen or 1) for span, starts in self._rolling), 0.0)

    def remember(self, starts: Iterable[float]) -> None:
        """What the instance has sent already, oldest first."""
        for at in starts:
            self.note(at)

    def allowed_at(self, moment: float) -> float:
        """The first moment from then on at which one may leave."""
        at = max(moment, self._next)
        for span, starts in self._rolling:
            if len(starts) == starts.maxlen:
                at = max(at, starts[0] + span)
        return at

    def note(self, at: float) -> None:
        """One leaves at this moment."""
        self._next = at + self._gap_ms
        for _span, starts in self._rolling:
            starts.append(at)
