"""The way in for webhooks: kept first, answered then, read afterwards.

A body is on the disk before it is answered, so that nothing is lost by a crash after the answer.  Reading it may be
broken off and begun anew at any moment: every effect of a webhook happens once, however often it is read.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from wa_cli.domain.event import (
    ConnectionEvent,
    Event,
    IgnoredEvent,
    InboundEvent,
    NumberChangedEvent,
    PreferenceEvent,
    StatusEvent,
)
from wa_cli.domain.webhook import WebhookStatus, format_webhook_id, judge_events
from wa_cli.errors import Temporary, UsageError
from wa_cli.ports import NewWebhook, WebhookTurn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Executor

    from wa_cli.ports import Clock, StoredWebhook, WebhookReader, Webhooks

log = logging.getLogger("wa.webhooks")

# Waiting for their commit in memory: more than twenty of Meta's largest, or some hundred thousand usual ones.
WAITING_BYTES: Final = 64 * 1024 * 1024
COMMIT_BYTES: Final = 8 * 1024 * 1024

# What takes effect in one transaction.  A send loop that waits for the file meanwhile is held up for some 20 ms.
EVENTS_A_TURN: Final = 100
BODIES_A_TURN: Final = 100
BODIES_A_LOOK: Final = 500
BYTES_A_LOOK: Final = 4 * 1024 * 1024

DAY_MS: Final = 86_400_000
PRUNED_AT_ONCE: Final = 20_000


# --- coming in -----------------------------------------------------------------------------------------------------


class WebhookInbox:
    """Keeps bodies as they come: those that come at once share a commit, and each is answered once it is on the disk.

    Used on one event loop; the store is called on the executor alone.
    """

    def __init__(
        self,
        *,
        webhooks: Webhooks[Any],
        executor: Executor,
        clock: Clock,
        on_stored: Callable[[], None] = lambda: None,
        most_waiting_bytes: int = WAITING_BYTES,
    ) -> None:
        """on_stored: called after each commit, on the event loop: there is something to read.

        most_waiting_bytes: of bodies in memory that are not on the disk yet.
        """
        self._webhooks = webhooks
        self._executor = executor
        self._clock = clock
        self._on_stored = on_stored
        self._most_waiting_bytes = most_waiting_bytes
        self._waiting: deque[tuple[NewWebhook, asyncio.Future[int]]] = deque()
        self._bytes = 0
        self._storing: asyncio.Task[None] | None = None

    async def accept(self, body: bytes, *, is_signed: bool, provider: str, instance_id: int | None = None) -> int:
        """Keep a body.  Returns the id of its row, which is on the disk by then.

        instance_id: whose address it came to, None for the one that a whole account shares.

        Raises: Temporary when too much waits already or the store is busy; StorageError when it takes nothing.  After
        an error the body is not kept, and its sender has to be told so.
        """
        if self._bytes + len(body) > self._most_waiting_bytes:
            raise Temporary(
                "too many webhooks wait to be written to the disk",
                hint="their sender comes again; the disk or another program is slow",
                code="webhooks_waiting",
            )
        arrived = NewWebhook(
            received_at_ms=self._clock.wall_ms(),
            provider=provider,
            is_signed=is_signed,
            body=bytes(body),
            instance_id=instance_id,
        )
        kept: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((arrived, kept))
        self._bytes += len(body)
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store())
        return await kept

    async def close(self) -> None:
        """Wait until what has come is on the disk or was refused."""
        while self._storing is not None and not self._storing.done():
            await asyncio.wait([self._storing])

    async def _store(self) -> None:
        """Write what waits, one commit after the other, until nothing does."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            some = self._take()
            try:
                ids = await loop.run_in_executor(self._executor, self._webhooks.append, [one for one, _kept in some])
            except BaseException as error:
                for _one, kept in some:
                    if not kept.done():  # its sender may have gone meanwhile
                        kept.set_exception(error if isinstance(error, Exception) else _stopped())
                if not isinstance(error, Exception):
                    self._refuse_rest()
                    raise
            else:
                for (_one, kept), webhook_id in zip(some, ids, strict=True):
                    if not kept.done():
                        kept.set_result(webhook_id)
                self._on_stored()
            finally:
                self._bytes -= sum(len(one.body) for one, _kept in some)

    def _take(self) -> list[tuple[NewWebhook, asyncio.Future[int]]]:
        """The next ones, as many as one commit takes."""
        some = [self._waiting.popleft()]
        size = len(some[0][0].body)
        while self._waiting and size + len(self._waiting[0][0].body) <= COMMIT_BYTES:
            some.append(self._waiting.popleft())
            size += len(some[-1][0].body)
        return some

    def _refuse_rest(self) -> None:
        while self._waiting:
            one, kept = self._waiting.popleft()
            self._bytes -= len(one.body)
            if not kept.done():
                kept.set_exception(_stopped())


def _stopped() -> Temporary:
    return Temporary("wa is stopping: it is not known whether the webhook was kept", hint="its sender comes again")


# --- being read ----------------------------------------------------------------------------------------------------


AnyTurn = TypeVar("AnyTurn", bound=WebhookTurn)
# Lets events take effect inside a transaction, and says how often what happened.
Settle = Callable[[AnyTurn, Sequence[Event]], Mapping[str, int]]
# What reads the bodies that came to an instance's address, by its id; None: to the shared one.  None for an instance
# that has been removed: its webhooks concern nobody any more.
ReaderOf = Callable[[int | None], "WebhookReader | None"]


@dataclass(slots=True, kw_only=True)
class ReadSums:
    """What one reading brought.  Each webhook is in one of the first three.  effects: how often what happened."""

    done: int = 0
    ignored: int = 0
    failed: int = 0
    events: int = 0
    effects: Counter[str] = field(default_factory=Counter)

    @property
    def webhooks(self) -> int:
        return self.done + self.ignored + self.failed


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parsed:
    """A webhook with what it says, or why that cannot be found out.  settled: how many events took effect already."""

    stored: StoredWebhook
    events: Sequence[Event] = ()
    settled: int = 0
    failure: str | None = None


def read_waiting(
    webhooks: Webhooks[AnyTurn],
    reader_of: ReaderOf,
    settle: Settle[AnyTurn],
    *,
    numbers: Mapping[str, int],
    now_ms: int,
    limit: int,
    only: Collection[int] | None = None,
) -> ReadSums:
    """Read what waits, in the order it came, and let it take effect.  At most `limit` webhooks.

    reader_of: each body is read by the provider of the instance whose address it came to.
    only: leave all others waiting.  numbers: the instance behind each of the provider's number ids, so that it is known
    to be heard from.
    One that cannot be read, or whose effects fail by a fault of ours, is kept as failed with the reason, and those
    behind it are read.
    Raises: Temporary and StorageError when the store is in trouble; what was not finished still waits then.
    """
    sums = ReadSums()
    left, after_id = limit, 0
    while left > 0:
        page = webhooks.read_waiting(
            after_id=after_id, limit=min(left, BODIES_A_LOOK), most_bytes=BYTES_A_LOOK, only=only
        )
        if not page:
            break
        left, after_id = left - len(page), page[-1].id
        # Parsed before the file is locked: that takes longer than settling does.
        for group in _group(_parse(stored, reader_of) for stored in page):
            _settle_group(webhooks, group, settle, sums, numbers=numbers, now_ms=now_ms)
    return sums


def replay(
    webhooks: Webhooks[AnyTurn],
    reader_of: ReaderOf,
    settle: Settle[AnyTurn],
    *,
    only: Collection[int],
    numbers: Mapping[str, int],
    now_ms: int,
) -> tuple[ReadSums, dict[str, int]]:
    """Read these webhooks and find out what that changes: the sums, and by how much which count is another now.

    Whatever others change at the same time is not among it.
    """
    changed: Counter[str] = Counter()

    def settle_watched(turn: AnyTurn, events: Sequence[Event]) -> Mapping[str, int]:
        before = turn.read_marks()
        effects = settle(turn, events)
        for name, mark in turn.read_marks().items():
            changed[name] += mark - before[name]
        return effects

    sums = read_waiting(webhooks, reader_of, settle_watched, numbers=numbers, now_ms=now_ms, limit=len(only), only=only)
    return sums, {name: by for name, by in changed.items() if by}


def _parse(stored: StoredWebhook, reader_of: ReaderOf) -> _Parsed:
    try:
        reader = reader_of(stored.instance_id)
        if reader is None:
            return _Parsed(stored=stored, events=(IgnoredEvent(what="removed instance"),))
        return _Parsed(stored=stored, events=[_date(event, stored) for event in reader.read(stored.body)])
    except UsageError as error:
        return _Parsed(stored=stored, failure=error.message)
    except Exception as error:  # noqa: BLE001  # whatever it is, those behind it must be read
        return _Parsed(stored=stored, failure=_describe_fault(error))


def _date(event: Event, stored: StoredWebhook) -> Event:
    """The event with a time: some gateways say of nothing when it was, and it was shortly before the webhook came."""
    if isinstance(event, ConnectionEvent | StatusEvent) and event.at_ms == 0:
        return replace(event, at_ms=stored.received_at_ms)
    return event


def _group(parsed: Iterable[_Parsed]) -> Iterator[list[_Parsed]]:
    """Neighbours whose events fit into one transaction; one with more of them stands alone."""
    group: list[_Parsed] = []
    events = 0
    for one in parsed:
        if group and (events + len(one.events) > EVENTS_A_TURN or len(group) >= BODIES_A_TURN):
            yield group
            group, events = [], 0
        group.append(one)
        events += len(one.events)
    if group:
        yield group


def _settle_group(
    webhooks: Webhooks[AnyTurn],
    group: Sequence[_Parsed],
    settle: Settle[AnyTurn],
    sums: ReadSums,
    *,
    numbers: Mapping[str, int],
    now_ms: int,
) -> None:
    if len(group) == 1 and len(group[0].events) > EVENTS_A_TURN:
        group = [_settle_in_slices(webhooks, group[0], settle, sums)]
    with webhooks.turn() as turn:
        waiting = turn.keep_waiting([one.stored.id for one in group])
        group = [one for one in group if one.stored.id in waiting]
        # All at once, which is nearly always well; only when it is not, each by itself, to find out whose fault it is.
        events = [event for one in group for event in one.events[one.settled :]]
        if _attempt(turn, settle, events, sums) is not None:
            group = [_settle_alone(turn, one, settle, sums) for one in group]
        _note_arrivals(turn, group, numbers)
        for one in group:
            _finish(turn, one, sums, now_ms=now_ms)


def _settle_alone(turn: AnyTurn, one: _Parsed, settle: Settle[AnyTurn], sums: ReadSums) -> _Parsed:
    fault = _attempt(turn, settle, one.events[one.settled :], sums)
    return one if fault is None else replace(one, events=(), failure=_describe_fault(fault))


def _settle_in_slices(webhooks: Webhooks[AnyTurn], one: _Parsed, settle: Settle[AnyTurn], sums: ReadSums) -> _Parsed:
    """Let all but the last events of a large body take effect, some in each transaction.

    Broken off here, it is read from its beginning another time.
    """
    last = (len(one.events) - 1) // EVENTS_A_TURN * EVENTS_A_TURN
    for start in range(0, last, EVENTS_A_TURN):
        with webhooks.turn() as turn:
            if not turn.keep_waiting([one.stored.id]):
                break
            fault = _attempt(turn, settle, one.events[start : start + EVENTS_A_TURN], sums)
        if fault is not None:
            return replace(one, events=(), failure=_describe_fault(fault))
    return replace(one, settled=last)


def _note_arrivals(turn: WebhookTurn, group: Sequence[_Parsed], numbers: Mapping[str, int]) -> None:
    """Remember that these instances were heard from, and when."""
    heard: dict[int, list[int]] = {}
    for one in group:
        if one.failure is None:
            for number_id in _numbers_of(one.events):
                if number_id in numbers:
                    heard.setdefault(numbers[number_id], []).append(one.stored.received_at_ms)
    for instance_id, times in heard.items():
        for at_ms in {min(times), max(times)}:
            turn.note_arrival(instance_id, at_ms=at_ms)


def _finish(turn: WebhookTurn, one: _Parsed, sums: ReadSums, *, now_ms: int) -> None:
    """Write down that a webhook was read, and what came of it."""
    if one.failure is not None:
        log.error("webhook %s cannot be read: %s", format_webhook_id(one.stored.id), one.failure)
        turn.finish(one.stored.id, status=WebhookStatus.FAILED, events=None, details=one.failure, now_ms=now_ms)
        sums.failed += 1
        return
    status, details = judge_events(one.events)
    turn.finish(one.stored.id, status=status, events=len(one.events), details=details, now_ms=now_ms)
    sums.events += len(one.events)
    if status is WebhookStatus.DONE:
        sums.done += 1
    else:
        sums.ignored += 1


def _attempt(turn: AnyTurn, settle: Settle[AnyTurn], events: Sequence[Event], sums: ReadSums) -> Exception | None:
    return turn.attempt(lambda: sums.effects.update(settle(turn, events)))


def _numbers_of(events: Sequence[Event]) -> set[str]:
    return {
        event.number_id
        for event in events
        if isinstance(event, StatusEvent | InboundEvent | PreferenceEvent | NumberChangedEvent)
    }


def _describe_fault(error: Exception) -> str:
    """A fault of wa's own: where it is, and not its words, which may hold what somebody wrote."""
    trace = error.__traceback__
    place = ""
    while trace is not None:
        place = f" at {trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"a fault in wa: {type(error).__name__}{place}"


# --- being forgotten -----------------------------------------------------------------------------------------------


def prune(webhooks: Webhooks[Any], *, days: int, now_ms: int) -> int:
    """Forget what was read and came more than so many days ago; 0 keeps everything.  Returns how many.

    What still waits stays, and so does some of the rest when there is very much of it: another call takes that.
    """
    return webhooks.prune(before_ms=now_ms - days * DAY_MS, most=PRUNED_AT_ONCE) if days else 0
