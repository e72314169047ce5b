"""Use case: work out a campaign to the minute, and freeze it.

Three passes, each in bounded memory: gather the people, fill in the words for each, lay the messages out in time.
A plan writes nothing that could be sent; letting it go is the store's business (`store.sqlite.applying`).
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from wa_cli.domain.campaign import Reason
from wa_cli.domain.message import Template, Text, encode_content
from wa_cli.domain.pacing import Limits
from wa_cli.domain.personal import CannotFill, MissingField, choose_variant
from wa_cli.domain.plan import (
    STAGE_CANARY,
    STAGE_MAIN,
    Draft,
    Part,
    PlanLine,
    PlanSummary,
    Sample,
    Timetable,
    show_content,
)
from wa_cli.domain.pool_timetable import PoolTimetable
from wa_cli.domain.recipient import RecipientKind, mask_address
from wa_cli.domain.schedule import auto_delay_ms
from wa_cli.domain.template import make_length_check
from wa_cli.domain.window import Hearing, Window, WindowPolicy, judge_window
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from wa_cli.domain.campaign import AudienceSource, Campaign, CampaignSpec
    from wa_cli.domain.message import Content
    from wa_cli.domain.personal import Filler
    from wa_cli.domain.plan import Person, Plan
    from wa_cli.domain.pool_timetable import Desk
    from wa_cli.domain.recipient import Recipient
    from wa_cli.domain.template import StoredTemplate
    from wa_cli.ports import ContentRules, Instance
    from wa_cli.services.groups import Preflight

T = TypeVar("T")

ROWS_AT_ONCE: Final = 1_000
SAMPLES: Final = 3
FAR_MS: Final = 2**53
# A person whose words cannot be filled in is named in the findings; so many of them at most.
DETAILS_CHARACTERS: Final = 300
# People whose number is busy and who let others go first; so many of them at most are kept in memory.
ASIDE_AT_MOST: Final = 50_000
LONGEST_CAMPAIGN_MS: Final = 400 * 86_400_000


class Opening(Protocol):
    """When messages to one zone may leave."""

    def next_open(self, moment_ms: int) -> tuple[int, int]:
        """(the first open moment from then on, when that opening ends)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneTerms:
    """One zone of a campaign.  starts_at_ms: its first possible moment.  opening: None where all moments are open."""

    name: str
    starts_at_ms: int
    opening: Opening | None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """A row of an audience file: whom it names and what it says about them, or why it names nobody."""

    recipient: Recipient | None
    fields: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None


class Gathering(Protocol):
    def add_people(self, people: Sequence[tuple[Recipient, Mapping[str, str]]], *, now_ms: int) -> list[int]: ...

    def add_subgroup(self, subgroup_id: int) -> int: ...

    def add_contacts(self, match: Sequence[tuple[str, str]]) -> int: ...

    def choose_none(self) -> None: ...

    def choose_people(self, people: Sequence[tuple[Recipient, Mapping[str, str]]], *, now_ms: int) -> None: ...

    def choose_subgroup(self, subgroup_id: int) -> None: ...

    def choose_contacts(self, match: Sequence[tuple[str, str]]) -> None: ...

    def keep_chosen(self) -> None: ...

    def drop_chosen(self) -> None: ...

    def count(self) -> tuple[int, int]: ...

    def list_groups(self) -> list[str]: ...

    def iterate(
        self,
        run_id: int | None,
        *,
        instance_id: int,
        pool_id: int | None = None,
        checked_since_ms: int | None = None,
    ) -> Iterator[Person]: ...

    def add_drafts(self, drafts: Sequence[Draft]) -> None: ...

    def choose_canary(self, size: int) -> None: ...

    def count_drafts(self, stage: str) -> dict[str, int]: ...

    def iterate_drafts(self, stage: str, zone: str) -> Iterator[Draft]: ...

    def iterate_excluded(self) -> Iterator[Draft]: ...


class PlanStore(Protocol):
    def gather(self) -> AbstractContextManager[Gathering]: ...

    def open_plan(
        self, campaign_id: int, *, occurrence: str, source: str, inputs: Mapping[str, Any], now_ms: int
    ) -> int: ...

    def store_contents(self, encoded: Sequence[str]) -> list[int]: ...

    def add_lines(self, plan_id: int, lines: Sequence[PlanLine]) -> None: ...

    def finish_plan(
        self, plan_id: int, *, parts: Sequence[Part], digest: str, summary: Mapping[str, Any], now_ms: int
    ) -> Plan: ...

    def drop_plan(self, plan_id: int) -> None: ...

    def find_clashes(
        self, plan_id: int, *, campaign_id: int, instance_ids: Collection[int], first_ms: int, last_ms: int
    ) -> list[tuple[str, int]]: ...


class Linker(Protocol):
    """Makes short links of a plan; see `domain.link`."""

    def shorten_for(self, contact_id: int) -> Callable[[str], str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """What a plan is made with.

    templates: of the variants, by their places, where they are known.  read_file: the rows of an audience file.
    find_subgroup: the id of a subgroup.  region_of: the ISO region of an address, "" where it has none.  zone_of: the
    name of somebody's zone.  zone_terms: of a zone by its name.  starts: (contact id, at) of what the instance sent
    lately, oldest first.  linker: for the number of a plan, or None.  price: (currency, amount) of one message to a
    region, or None where the rate file has none.  limits: of the instance, tightened by the campaign's own.
    desks: the numbers of the pool for which the instance stands, none where it stands for itself.  own: the campaign's
    limits alone, which hold for all of them together.
    look_at_groups: what is known of groups, or None.  checked_since_ms: numbers that a look-up since then has not found
    on WhatsApp are left out; None: they are not.
    """

    store: PlanStore
    rules: ContentRules
    filler: Filler
    templates: Mapping[int, StoredTemplate] = field(default_factory=dict)
    instance: Instance
    limits: Limits
    window: WindowPolicy
    read_file: Callable[[AudienceSource], Iterator[FileRow]]
    find_subgroup: Callable[[str], int]
    region_of: Callable[[str], str]
    zone_of: Callable[[str, Mapping[str, str]], str]
    zone_terms: Callable[[str], ZoneTerms]
    starts: Sequence[tuple[int, int]] = ()
    desks: Sequence[Desk] = ()
    own: Limits = field(default_factory=Limits)
    linker: Callable[[int], Linker] | None = None
    price: Callable[[str], tuple[str, float] | None] | None = None
    save_links: Callable[[int], None] | None = None
    read_expiry: Callable[[int], int | None] = lambda _due_at_ms: None
    look_at_groups: Callable[[Callable[[], Sequence[str]]], Preflight | None] = lambda _groups: None
    checked_since_ms: int | None = None


def make_plan(
    pieces: Pieces,
    campaign: Campaign,
    spec: CampaignSpec,
    *,
    inputs: Mapping[str, Any],
    occurrence: str = "",
    run_id: int | None = None,
    warnings: Sequence[str] = (),
    now_ms: int,
    on_progress: Callable[[str, int], None] = lambda _what, _count: None,
) -> tuple[Plan, PlanSummary]:
    """Plan a campaign.  run_id: of the run that the plan would go on with, whose people are not written to twice.

    on_progress: told what is being done and how far it has come.
    Raises: UsageError for an audience of nobody, or one of which nobody can be sent anything.
    """
    store = pieces.store
    plan_id = store.open_plan(campaign.id, occurrence=occurrence, source=campaign.source, inputs=inputs, now_ms=now_ms)
    try:
        summary = PlanSummary(warnings=list(warnings))
        with store.gather() as people:
            bad_rows = gather(pieces, people, spec, now_ms=now_ms, on_progress=on_progress)
            known, again = people.count()
            summary.audience, summary.merged = known + len(bad_rows), again
            if not summary.audience:
                raise UsageError(
                    f"the audience of '{campaign.name}' is empty",
                    hint="`wa subgroup list` shows who is where; look at [audience] in the file",
                    code="empty_audience",
                )
            planner = _Planner(pieces, spec, summary, plan_id=plan_id, now_ms=now_ms)
            planner.note_groups(pieces.look_at_groups(people.list_groups))
            planner.draft_all(people, run_id=run_id, on_progress=on_progress)
            planner.lay_out(people, bad_rows, on_progress=on_progress)
        if pieces.save_links:
            pieces.save_links(plan_id)
        if summary.first_at_ms is not None and summary.last_at_ms is not None:
            summary.clashes = store.find_clashes(
                plan_id,
                campaign_id=campaign.id,
                instance_ids=[desk.seat.instance_id for desk in pieces.desks] or [pieces.instance.id],
                first_ms=summary.first_at_ms,
                last_ms=summary.last_at_ms,
            )
        plan = store.finish_plan(
            plan_id, parts=planner.parts, digest=planner.digest(), summary=asdict(summary), now_ms=now_ms
        )
    except BaseException:
        store.drop_plan(plan_id)
        raise
    return plan, summary


def delay_of(spec: CampaignSpec, size: int) -> int:
    """The spacing of a campaign with so many messages, in ms; 0 for as fast as the limits allow."""
    if spec.pacing.is_auto:
        return auto_delay_ms(size) if size > 1 else 0
    return spec.pacing.delay_ms or 0


def lane_spacing_ms(spec: CampaignSpec, summary: Mapping[str, Any]) -> int:
    """How far apart messages leave at least, so that late ones come as they were spread and not all at once, in ms.

    Jitter moves neighbours towards each other, and those that are on time leave when they are due: so the spacing of
    the plan less its jitter, but no less than half of it.
    """
    planned = delay_of(spec, int(summary["queued"])) or int(summary.get("spread_ms", 0))
    return int(planned * max(1.0 - spec.pacing.jitter, 0.5))


# --- who -------------------------------------------------------------------------------------------------------------


def gather(
    pieces: Pieces,
    people: Gathering,
    spec: CampaignSpec,
    *,
    now_ms: int,
    on_progress: Callable[[str, int], None] = lambda _what, _count: None,
) -> list[str]:
    """Fill the table of people by the audience's set algebra.  Returns what is wrong with rows that name nobody."""
    bad_rows: list[str] = []
    count = 0
    for source in spec.audience.any_of:
        if source.kind == "subgroup":
            count += people.add_subgroup(pieces.find_subgroup(source.name))
        elif source.kind == "contacts":
            count += people.add_contacts(source.match)
        else:
            for rows in _chunks(_good_rows(pieces, source, bad_rows)):
                people.add_people(rows, now_ms=now_ms)
                count += len(rows)
                on_progress("reading", count)
        on_progress("reading", count)
    for source in spec.audience.all_of:
        _choose(pieces, people, source, now_ms=now_ms)
        people.keep_chosen()
    for source in spec.audience.none_of:
        _choose(pieces, people, source, now_ms=now_ms)
        people.drop_chosen()
    return bad_rows


def _choose(pieces: Pieces, people: Gathering, source: AudienceSource, *, now_ms: int) -> None:
    people.choose_none()
    if source.kind == "subgroup":
        people.choose_subgroup(pieces.find_subgroup(source.name))
    elif source.kind == "contacts":
        people.choose_contacts(source.match)
    else:
        ignored: list[str] = []
        for rows in _chunks(_good_rows(pieces, source, ignored)):
            people.choose_people(rows, now_ms=now_ms)


def _good_rows(
    pieces: Pieces, source: AudienceSource, bad_rows: list[str]
) -> Iterator[tuple[Recipient, Mapping[str, str]]]:
    for row in pieces.read_file(source):
        if row.recipient is None:
            bad_rows.append(f"{source.name} {row.problem}"[:DETAILS_CHARACTERS])
        else:
            yield row.recipient, row.fields


def _chunks(rows: Iterable[T]) -> Iterator[list[T]]:
    source = iter(rows)
    while chunk := list(islice(source, ROWS_AT_ONCE)):
        yield chunk


# --- what and when ---------------------------------------------------------------------------------------------------


class _Planner:
    """The second and the third pass of one plan."""

    def __init__(self, pieces: Pieces, spec: CampaignSpec, summary: PlanSummary, *, plan_id: int, now_ms: int) -> None:
        self._pieces = pieces
        self._spec = spec
        self._summary = summary
        self._plan_id = plan_id
        self._now_ms = now_ms
        self._weights = [message.weight for message in spec.messages]
        self._names = [message.name for message in spec.messages]
        self._linker = pieces.linker(plan_id) if pieces.linker else None
        self._draw = random.Random(spec.pacing.seed)  # noqa: S311  # the same plan twice, no secret
        self._digest = hashlib.sha256()
        self._terms: dict[str, ZoneTerms] = {}
        self._part_numbers: dict[tuple[str, int, str, int | None], int] = {}
        self._desk_names = {desk.seat.instance_id: desk.name for desk in pieces.desks}
        self._hearing = Hearing(
            webhooks_since_ms=pieces.instance.webhooks_since_ms,
            last_webhook_at_ms=pieces.instance.last_webhook_at_ms,
        )
        self._closed_windows = 0
        self._fallbacks: Counter[str] = Counter()
        self._length_checks = {place: make_length_check(stored) for place, stored in pieces.templates.items()}
        self._obstacles: Mapping[str, str] = {}
        self.parts: list[Part] = []

    def digest(self) -> str:
        """Of all lines, and of who writes them where there are several."""
        for part in self.parts if self._desk_names else ():
            self._digest.update(f"{part.instance_id}\x1e".encode())
        return self._digest.hexdigest()

    def note_groups(self, preflight: Preflight | None) -> None:
        """What is known of the groups among the people."""
        if preflight is not None:
            self._obstacles = preflight.obstacles
            self._summary.groups = preflight.describe()
            if (warning := preflight.find_warning()) is not None:
                self._summary.warnings.append(warning)

    # --- the second pass: words ---

    def draft_all(self, people: Gathering, *, run_id: int | None, on_progress: Callable[[str, int], None]) -> None:
        done = 0
        for chunk in _chunks(self._iterate(people, run_id)):
            drafts = [self._draft(person) for person in chunk]
            encoded = [encode_content(content) for _draft, content in drafts if content is not None]
            ids = iter(self._pieces.store.store_contents(encoded) if encoded else ())
            for draft, content in drafts:
                if content is not None:
                    draft.content_id = next(ids)
            people.add_drafts([draft for draft, _content in drafts])
            done += len(drafts)
            on_progress("filling in", done)
        summary = self._summary
        summary.fallbacks = dict(self._fallbacks)
        if self._closed_windows:
            summary.warnings.append(
                f"{self._closed_windows:,} people have not written within 24 h: WhatsApp refuses free text to them"
                " (131047); an approved template reaches them"
            )

    def _iterate(self, people: Gathering, run_id: int | None) -> Iterator[Person]:
        pieces = self._pieces
        pool = pieces.instance.pool
        return people.iterate(
            run_id,
            instance_id=pieces.instance.id,
            pool_id=None if pool is None else pool.id,
            checked_since_ms=pieces.checked_since_ms,
        )

    def _draft(self, person: Person) -> tuple[Draft, Content | None]:
        pieces = self._pieces
        variant = choose_variant(self._weights, seed=self._spec.pacing.seed, contact_id=person.contact_id)
        region = pieces.region_of(person.address)
        draft = Draft(contact_id=person.contact_id, variant=variant, zone="", region=region, seat=person.seat)
        if person.is_erased:
            return self._refuse(draft, Reason.ERASED), None
        if person.written_as is not None:
            return self._refuse(draft, Reason.ALREADY_WRITTEN, f"m{person.written_as}"), None
        if person.has_opted_out:
            return self._refuse(draft, Reason.OPTED_OUT), None
        problem = pieces.rules.find_recipient_problem(RecipientKind(person.kind))
        if problem is not None:
            return self._refuse(draft, Reason.UNSENDABLE, problem.message), None
        if person.is_unregistered:
            return self._refuse(draft, Reason.NOT_ON_WHATSAPP), None
        if person.address in self._obstacles:
            return self._refuse(draft, Reason(self._obstacles[person.address])), None
        try:
            draft.zone = pieces.zone_of(person.address, person.fields)
            shorten = self._linker.shorten_for(person.contact_id) if self._linker else None
            content = pieces.filler.fill(variant, person.fields, shorten=shorten, used=self._fallbacks)
        except MissingField as missing:
            self._count(self._summary.missing_fields, missing.name)
            return self._refuse(draft, Reason.MISSING_FIELD, missing.name), None
        except CannotFill as failed:
            return self._refuse(draft, Reason.UNSENDABLE, failed.details), None
        except UsageError as error:  # a value that cannot be meant, such as a zone that there is not
            return self._refuse(draft, Reason.UNSENDABLE, error.message), None
        problem = pieces.rules.find_problem(content)
        if problem is not None:
            return self._refuse(draft, Reason.UNSENDABLE, problem.message), None
        check_length = self._length_checks.get(variant)
        if check_length is not None and isinstance(content, Template) and (words := check_length(content)):
            return self._refuse(draft, Reason.UNSENDABLE, words), None
        if self._is_closed(person, content):
            if pieces.window is WindowPolicy.REFUSE:
                return self._refuse(draft, Reason.WINDOW_CLOSED), None
            self._closed_windows += 1
        self._note_words(person, variant, content)
        return draft, content

    def _is_closed(self, person: Person, content: Content) -> bool:
        pieces = self._pieces
        if pieces.window is WindowPolicy.IGNORE or person.kind != RecipientKind.PERSON:
            return False
        if not pieces.rules.needs_window(content):
            return False
        window = judge_window(
            self._hearing,
            last_inbound_at_ms=person.last_inbound_at_ms,
            closed_at_ms=person.closed_at_ms,
            now_ms=self._now_ms,
        )
        return window is Window.CLOSED

    def _refuse(self, draft: Draft, reason: Reason, details: str | None = None) -> Draft:
        draft.reason = reason
        draft.details = details[:DETAILS_CHARACTERS] if details else None
        return draft

    def _note_words(self, person: Person, variant: int, content: Content) -> None:
        """Keep some of the messages to show; a million pass here, and few are kept."""
        summary = self._summary
        words = (
            content.body if isinstance(content, Text) else show_content(content, self._pieces.templates.get(variant))
        )
        if len(summary.samples) < SAMPLES:
            summary.samples.append(self._sample(person, variant, words))
        elif self._draw.random() * (person.position or 1) < SAMPLES:
            summary.samples[self._draw.randrange(SAMPLES)] = self._sample(person, variant, words)
        if summary.longest is None or len(words) > len(summary.longest.words):
            summary.longest = self._sample(person, variant, words)

    def _sample(self, person: Person, variant: int, words: str) -> Sample:
        return Sample(address=mask_address(person.address), variant=self._names[variant], words=words)

    @staticmethod
    def _count(counts: dict[str, int], name: str, n: int = 1) -> None:
        counts[name] = counts.get(name, 0) + n

    # --- the third pass: moments ---

    def lay_out(self, people: Gathering, bad_rows: Sequence[str], *, on_progress: Callable[[str, int], None]) -> None:
        spec, summary = self._spec, self._summary
        for reasons in _chunks(bad_rows):
            self._store_lines(
                [PlanLine(contact_id=None, reason=Reason.INVALID, details=details) for details in reasons]
            )
        for drafts in _chunks(people.iterate_excluded()):
            self._store_lines(
                [PlanLine(contact_id=draft.contact_id, reason=draft.reason, details=draft.details) for draft in drafts]
            )
        if spec.canary is not None:
            people.choose_canary(spec.canary.size)
        sizes = {stage: people.count_drafts(stage) for stage in (STAGE_CANARY, STAGE_MAIN)}
        total = sum(sum(by_zone.values()) for by_zone in sizes.values())
        if not total:
            self._refuse_all()
        summary.canary = sum(sizes[STAGE_CANARY].values())
        timetable = self._make_timetable(gap_ms=float(delay_of(spec, total)))
        not_before = self._now_ms
        done = 0
        for stage in (STAGE_CANARY, STAGE_MAIN):
            if not sizes[stage]:
                continue
            for lines in _chunks(self._moments(people, stage, sizes[stage], timetable, not_before=not_before)):
                self._store_lines(lines)
                done += len(lines)
                on_progress("laying out", done)
            if stage == STAGE_CANARY and spec.canary is not None and summary.last_at_ms is not None:
                not_before = summary.canary_until_ms = summary.last_at_ms + spec.canary.hold_ms
        if not summary.queued:
            self._refuse_all()
        if self._pieces.price:
            self._add_up_cost()

    def _make_timetable(self, *, gap_ms: float) -> _Single | PoolTimetable:
        pieces = self._pieces
        if pieces.desks:
            return PoolTimetable(pieces.desks, own=pieces.own, gap_ms=gap_ms)
        timetable = Timetable(pieces.limits, gap_ms=gap_ms)
        timetable.remember([float(at) for _contact_id, at in pieces.starts])
        return _Single(timetable)

    def _refuse_all(self) -> None:
        reasons = ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in self._summary.by_reason.items())
        if self._summary.by_reason.get(Reason.ALREADY_WRITTEN):
            name = self._spec.name
            raise UsageError(
                f"nobody is left to write to: {reasons}",
                hint=f"`wa campaign clone {name} NEW-NAME` makes a campaign that writes to them again",
                code="all_written",
            )
        missing = ", ".join(self._summary.missing_fields)
        raise UsageError(
            f"nobody of the audience can be sent this: {reasons}",
            hint=self._advise(missing),
            code="nobody_left",
        )

    def _advise(self, missing: str) -> str:
        if missing:
            return f"give the fields {missing} a value or a fallback"
        if Reason.EXPIRED in self._summary.by_reason:
            return "give a later `expires`, raise the limits, or choose a smaller audience"
        return "`wa contact list` shows who may"

    def _moments(
        self,
        people: Gathering,
        stage: str,
        sizes: Mapping[str, int],
        timetable: _Single | PoolTimetable,
        *,
        not_before: int,
    ) -> Iterator[PlanLine]:
        """The lines of one stage in the order in which they leave.

        Each zone waits for its own hours; the limits are shared, and whoever could leave first does.  Where more could
        leave than the limits let through, the zone goes first whose hours are the shortest for what it has left.
        Where several numbers send, each at its own pace, the lines are in the order of each of them.
        """
        summary, spec = self._summary, self._spec
        queues = {zone: people.iterate_drafts(stage, zone) for zone in sizes}
        gaps: dict[str, float] = {}
        begins: dict[str, float] = {}
        heap: list[tuple[float, int, str, Draft]] = []
        order = 0
        for zone, drafts in queues.items():
            terms = self._zone(zone)
            start = max(terms.starts_at_ms, not_before)
            begins[zone] = float(start)
            gaps[zone] = self._spread(terms, start, sizes[zone])
            first = next(drafts, None)
            if first is not None:
                heapq.heappush(heap, (float(start), order, zone, first))
                order += 1
        rate = sum(1 / gap for gap in gaps.values() if gap)
        if rate:
            summary.spread_ms = min(summary.spread_ms or int(1 / rate), int(1 / rate))
        moved: set[int] = set()
        spacing = float(delay_of(spec, summary.audience))
        rush: _Rush | None = None
        if len(heap) > 1 and not rate and any(self._zone(zone).opening for zone in sizes):
            starts = {zone: max(self._zone(zone).starts_at_ms, not_before) for zone in sizes}
            rush = _Rush({zone: self._zone(zone).opening for zone in sizes}, starts, sizes, pace_ms=timetable.pace_ms)
        busy = _Busy()

        def waits_aside(wanted: float, zone: str, draft: Draft, at: float, sender: int | None) -> bool:
            """Whether somebody waits for a busy number by themselves, so that people of other numbers go on."""
            nonlocal order
            if draft.seat is None or sender is None or at <= timetable.free_at(wanted):
                return False
            if busy.is_head(draft):
                heapq.heappush(heap, (at, order, zone, draft))
                order += 1
                return True
            if not (timetable.is_shared or gaps[zone]) or busy.is_full:
                return False
            if busy.add(sender, zone, draft):
                heapq.heappush(heap, (at, order, zone, draft))
                order += 1
            following = next(queues[zone], None)
            if following is not None:
                heapq.heappush(heap, (wanted, order, zone, following))
                order += 1
            return True

        turn = 0  # how many of the zone that was chosen go before the next choice
        going: tuple[float, str, Draft] | None = None
        while heap or going:
            if going is not None:
                (wanted, zone, draft), going = going, None
            else:
                wanted, _order, zone, draft = heapq.heappop(heap)
                turn = 0
            at, sender = timetable.find_place(wanted, draft.seat)
            if waits_aside(wanted, zone, draft, at, sender):
                continue
            terms = self._zone(zone)
            closes_at = FAR_MS
            if terms.opening is not None:
                opens_at, closes_at = terms.opening.next_open(int(at))
                if opens_at > at:  # others may go first
                    moved.add(draft.contact_id)
                    heapq.heappush(heap, (float(opens_at), order, zone, draft))
                    order += 1
                    continue
            if rush is not None and turn <= 0:
                turn = rush.turn
                rivals = [(wanted, order, zone, draft)]
                order += 1
                while heap and heap[0][0] <= at:
                    rivals.append(heapq.heappop(heap))
                if len(rivals) > 1:
                    best = min(rivals, key=lambda rival: (rush.slack(rival[2], at), rival[:2]))
                    for rival in rivals:
                        if rival is not best:
                            heapq.heappush(heap, rival)
                    wanted, _order, zone, draft = best
                    at, sender = timetable.find_place(wanted, draft.seat)
                    if waits_aside(wanted, zone, draft, at, sender):
                        continue
                    terms = self._zone(zone)
                    if terms.opening is not None:
                        opens_at, closes_at = terms.opening.next_open(int(at))
                        if opens_at > at:  # the number that writes to this person is busy until then
                            moved.add(draft.contact_id)
                            heapq.heappush(heap, (float(opens_at), order, zone, draft))
                            order += 1
                            continue
            if at - self._now_ms > LONGEST_CAMPAIGN_MS:
                raise UsageError(
                    "under its limits this campaign would take more than 400 days",
                    hint="raise the limits, shorten the delay, or choose a smaller audience",
                    code="too_long",
                )
            timetable.note(at, sender)
            if draft.contact_id in moved:
                moved.discard(draft.contact_id)
                summary.shifted += 1
            due = at
            gap = gaps[zone] or spacing
            if spec.pacing.jitter and gap:
                due = min(at + self._draw.random() * spec.pacing.jitter * gap, closes_at - 1)
            yield self._line(draft, stage, round(due), sender=sender)
            is_aside = busy.is_head(draft)
            if is_aside and (after := busy.take_next(draft)) is not None:
                heapq.heappush(heap, (at, order, *after))
                order += 1
            following = None if is_aside else next(queues[zone], None)
            if rush is not None:
                turn -= 1
                rush.left[zone] -= 1
            # Whoever has another number does not wait for this one, unless the campaign spaces them all.
            follows_at = at + gaps[zone] if timetable.is_shared or gaps[zone] else begins[zone]
            if following is not None and rush is not None and turn > 0:
                going = (follows_at, zone, following)
            elif following is not None:
                heapq.heappush(heap, (follows_at, order, zone, following))
                order += 1

    def _spread(self, terms: ZoneTerms, start: float, size: int) -> float:
        """The spacing that fills a window with so many messages; 0 where none is wanted."""
        spec = self._spec
        if spec.schedule.between is None or terms.opening is None or size < 2 or delay_of(spec, size):
            return 0.0
        opens_at, closes_at = terms.opening.next_open(int(start))
        return max(closes_at - opens_at - 1, 0) / size

    def _zone(self, name: str) -> ZoneTerms:
        terms = self._terms.get(name)
        if terms is None:
            terms = self._terms[name] = self._pieces.zone_terms(name)
            if terms.note:
                self._summary.warnings.append(terms.note)
        return terms

    def _line(self, draft: Draft, stage: str, due_at_ms: int, *, sender: int | None) -> PlanLine:
        summary = self._summary
        expires_at_ms = self._pieces.read_expiry(due_at_ms)
        if expires_at_ms is not None and expires_at_ms <= due_at_ms:
            return PlanLine(contact_id=draft.contact_id, reason=Reason.EXPIRED, details="its turn would come too late")
        variant = self._names[draft.variant]
        key = (stage, draft.variant, draft.zone, sender)
        number = self._part_numbers.get(key)
        if number is None:
            number = self._part_numbers[key] = len(self.parts)
            self.parts.append(Part(stage=stage, variant=variant, zone=draft.zone, instance_id=sender))
        summary.queued += 1
        summary.first_at_ms = due_at_ms if summary.first_at_ms is None else min(summary.first_at_ms, due_at_ms)
        summary.last_at_ms = due_at_ms if summary.last_at_ms is None else max(summary.last_at_ms, due_at_ms)
        zone = self._zone(draft.zone).name
        first, last = summary.by_zone.get(zone, (due_at_ms, due_at_ms))
        summary.by_zone[zone] = (min(first, due_at_ms), max(last, due_at_ms))
        self._count(summary.by_country, draft.region or "-")
        self._count(summary.by_variant, variant)
        if sender is not None:
            self._count(summary.by_instance, self._desk_names[sender])
        return PlanLine(
            contact_id=draft.contact_id,
            content_id=draft.content_id,
            part=number,
            due_at_ms=due_at_ms,
            expires_at_ms=expires_at_ms,
        )

    def _store_lines(self, lines: Sequence[PlanLine]) -> None:
        for line in lines:
            if line.reason is not None:
                self._count(self._summary.by_reason, line.reason)
            self._digest.update(
                f"{line.contact_id}\x1f{line.content_id}\x1f{line.part}\x1f{line.due_at_ms}\x1f{line.reason}\x1e".encode()
            )
        self._pieces.store.add_lines(self._plan_id, lines)

    def _add_up_cost(self) -> None:
        summary = self._summary
        assert self._pieces.price is not None
        for region, count in summary.by_country.items():
            price = self._pieces.price(region)
            if price is None:
                summary.unpriced[region] = count
            else:
                currency, amount = price
                summary.cost[currency] = summary.cost.get(currency, 0.0) + amount * count


class _Busy:
    """People who wait for a number of a pool that is busy: of each number the first is in the heap, as its head."""

    def __init__(self) -> None:
        self._behind: dict[int, deque[tuple[str, Draft]]] = {}
        self._heads: dict[int, int] = {}
        self._count = 0

    @property
    def is_full(self) -> bool:
        return self._count >= ASIDE_AT_MOST

    def is_head(self, draft: Draft) -> bool:
        return draft.contact_id in self._heads

    def add(self, sender: int, zone: str, draft: Draft) -> bool:
        """Take somebody in.  True: they are the head of their number now."""
        self._count += 1
        if sender in self._behind:
            self._behind[sender].append((zone, draft))
            return False
        self._behind[sender] = deque()
        self._heads[draft.contact_id] = sender
        return True

    def take_next(self, head: Draft) -> tuple[str, Draft] | None:
        """(zone, draft) of the new head of a number whose head has its moment; None when nobody is behind."""
        self._count -= 1
        sender = self._heads.pop(head.contact_id)
        if not self._behind[sender]:
            del self._behind[sender]
            return None
        zone, draft = self._behind[sender].popleft()
        self._heads[draft.contact_id] = sender
        return zone, draft


class _Single:
    """The timetable of one number, asked as that of a pool is."""

    is_shared = True

    def __init__(self, timetable: Timetable) -> None:
        self._timetable = timetable

    @property
    def pace_ms(self) -> float:
        return self._timetable.pace_ms

    def free_at(self, moment: float) -> float:
        return self._timetable.allowed_at(moment)

    def find_place(self, moment: float, _seat: int | None) -> tuple[float, None]:
        return self._timetable.allowed_at(moment), None

    def note(self, at: float, _sender: int | None) -> None:
        self._timetable.note(at)


class _Rush:
    """Which zone has the least time to spare, when the limits let through fewer than are ready.

    left: messages by zone.  turn: how many of a zone go at a time, a thousandth of all.
    """

    def __init__(
        self,
        openings: Mapping[str, Opening | None],
        starts: Mapping[str, int],
        sizes: Mapping[str, int],
        *,
        pace_ms: float,
    ) -> None:
        self._openings = openings
        self._starts = starts
        self._pace_ms = max(pace_ms, 0.001)
        self.left = dict(sizes)
        self.turn = max(sum(sizes.values()) // 1_000, 1)
        self._current: dict[str, tuple[int, int]] = {}
        self._after: dict[tuple[str, int], float] = {}
        needs = [({zone}, size) for zone, size in sizes.items()] + [(set(sizes), sum(sizes.values()))]
        self._ends_at = max(self._find_end(zones, size * self._pace_ms) for zones, size in needs)

    def slack(self, zone: str, at: float) -> float:
        """How many messages more than it has left could leave of a zone until the end; infinite while it is closed."""
        opens_at, closes_at = self._opening(zone, at)
        if opens_at > at:
            return float("inf")
        rest = self._after.get((zone, closes_at))
        if rest is None:
            rest = self._after[zone, closes_at] = self._open_time(zone, closes_at)
        return (min(closes_at, self._ends_at) - at + rest) / self._pace_ms - self.left[zone]

    def _opening(self, zone: str, at: float) -> tuple[int, int]:
        """(from, until) of the opening at a moment, or of the next one."""
        known = self._current.get(zone)
        if known is None or not known[0] <= at < known[1]:
            opening = self._openings[zone]
            begin = max(int(at), self._starts[zone])
            known = self._current[zone] = (begin, FAR_MS) if opening is None else opening.next_open(begin)
        return known

    def _open_time(self, zone: str, after: int) -> float:
        opening, total = self._openings[zone], 0.0
        while opening is not None and after < self._ends_at:
            begin, end = opening.next_open(after)
            total += max(min(end, self._ends_at) - begin, 0)
            after = end
        return total

    def _find_end(self, zones: Iterable[str], needed_ms: float) -> float:
        """When any of these zones has been open for so long altogether, bounded by a campaign's longest time."""
        at = float(min(self._starts[zone] for zone in zones))
        end = at + LONGEST_CAMPAIGN_MS
        while needed_ms > 0 and at < end:
            known = [self._opening(zone, at) for zone in zones]
            changes = [moment for pair in known for moment in pair if moment > at]
            until = float(min(changes, default=FAR_MS))
            if any(begin <= at for begin, _end in known):
                if until - at >= needed_ms:
                    return at + needed_ms
                needed_ms -= until - at
            at = until
        return at
