"""A day of a whole fleet on a clock that takes no time: three linked devices that get into trouble by a plan.

Everything of `wa` is real: the file, the fleet with its send loops, the connections that are followed, the upkeep.
Played are the far end (three devices behind their gateways, and what WhatsApp answers), the people who queue messages,
write to us, scan a code or lift a pause, and whoever kills the process.  All of it is drawn from a seed.

Its provider stands in `providers.MODULES` under the name `played` for as long as a test wants it.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import Counter, defaultdict
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from scripted_device import open_phone_app
from world import FakeClock, InlineExecutor, accepted, address, ambiguous, line, not_sent, rejected, run

from wa_cli.daemon.fleet import Fleet
from wa_cli.daemon.loops import ring_later
from wa_cli.daemon.sending import look_after_queue
from wa_cli.domain.connection import Connection, ConnectionState, RestartKind, Restriction, RestrictionScope
from wa_cli.domain.event import ConnectionEvent, InboundEvent, Person
from wa_cli.domain.message import Text
from wa_cli.domain.outcome import ErrorClass, Outcome, Rejected
from wa_cli.errors import Temporary
from wa_cli.ports import NewInstance
from wa_cli.provider import AccountSetting, Capabilities, number_id_of
from wa_cli.services.enqueue import SendOrder, enqueue, hash_request
from wa_cli.transports.providers import MODULES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AsyncExitStack
    from pathlib import Path

    import pytest

    from wa_cli.bootstrap import App
    from wa_cli.ports import Post
    from wa_cli.provider import Account

SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000
READY = ConnectionState.READY
UPKEEP_SECONDS = 120.0
# How long a gateway's webhook is on its way.
WEBHOOK_MS = 200
STORM_MS = 10 * MINUTE
FLAP_MS = 20 * SECOND
GROUPS = 40
TEXTS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One post as the far end saw it begin.  true: how the device stood, None with its gateway away.

    stored, is_paused: what the file said in that moment.  knows: whether this person had written to the number.
    """

    at_ms: int
    instance: str
    address: str
    body: str
    attempt_id: int
    true: ConnectionState | None
    stored: ConnectionState | None
    is_paused: bool
    knows: bool

    @property
    def is_group(self) -> bool:
        return self.address.endswith("@g.us")


@dataclass(slots=True, kw_only=True)
class Phone:
    """One linked device behind its gateway.

    people: how many there are to write to; the first `friends` of them have written before.  is_told: its gateway
    posts changes to us, otherwise we have to look.  waits_for_scan: nothing but a person brings it back.
    troubles: (from, to, why) of the plan, in ms on the wall clock; turns: (ms, state) as it really went.
    """

    day: Day
    name: str
    limits: dict[str, int]
    messages: int
    first_person: int
    people: int
    friends: int
    is_told: bool = True
    state: ConnectionState = READY
    is_up: bool = True
    restricted_until_ms: int = 0
    instance_id: int = 0
    returns: int = 0
    turns: list[tuple[int, ConnectionState | None]] = field(default_factory=list)
    acts: list[tuple[int, str, ConnectionState]] = field(default_factory=list)
    troubles: list[tuple[int, int, str]] = field(default_factory=list)

    @property
    def true(self) -> ConnectionState | None:
        return self.state if self.is_up else None

    def turn(self, state: ConnectionState | None) -> None:
        """From now on it is in this state; None: its gateway is away."""
        self.returns += 1  # whatever was bringing it back has been overtaken
        self.is_up = state is not None
        if state is not None:
            self.state = state
        self.turns.append((self.day.now_ms, state))
        if self.is_told and self.is_up:
            self.day.at(self.day.now_ms + WEBHOOK_MS, self._tell)

    def _tell(self) -> None:
        if not self.is_up:
            return
        now_ms = self.day.now_ms
        found = Connection(state=self.state, raw=self.state.value.upper())
        event = ConnectionEvent(number_id=number_id_of(self.instance_id), at_ms=now_ms, connection=found)
        self.day.hear(self, event)

    # --- its gateway ---

    def _answer(self) -> None:
        if not self.is_up:
            raise Temporary("nobody answers at the gateway's address", code="gateway_down")

    async def look(self) -> Connection:
        self._answer()
        return Connection(state=self.state, raw=self.state.value.upper())

    async def start(self) -> None:
        self._act("start")

    async def restart(self, kind: RestartKind) -> None:
        self._act(kind.value)

    def _act(self, word: str) -> None:
        self._answer()
        self.acts.append((self.day.now_ms, word, self.state))
        if self.state in (ConnectionState.NEEDS_QR, ConnectionState.AUTH_FAILURE, READY):
            return
        self.turn(ConnectionState.CONNECTING)
        returns = self.returns

        def come_back() -> None:
            if self.returns == returns:
                self.turn(READY)

        self.day.at(self.day.now_ms + self.day.draw.randrange(1_000, 4_000), come_back)

    async def close(self) -> None:
        pass


class Line:
    """What posts through one device."""

    def __init__(self, phone: Phone) -> None:
        self._phone = phone

    async def send(self, post: Post) -> Outcome:
        return await self._phone.day.take(self._phone, post)

    async def close(self) -> None:
        pass


class _Provider:
    name = "played"
    title = "a gateway of the tests"
    settings: tuple[AccountSetting, ...] = ()
    # Nobody acknowledges anything here: whether that is believed has tests of its own.
    capabilities = Capabilities(
        kinds=frozenset({"text"}),
        is_linked_device=True,
        groups=True,
        receipts=False,
        state_events=True,
        restarts=frozenset(RestartKind),
    )
    day: Day | None = None

    def check(self, values: object) -> None:
        pass

    def _phone(self, account: Account) -> Phone:
        assert self.day is not None
        return next(one for one in self.day.phones if one.name == account.instance)

    def open_gateway(self, account: Account) -> Phone:
        return self._phone(account)

    def open_transport(self, account: Account) -> Line:
        return Line(self._phone(account))


PROVIDER = _Provider()


class Killed(Exception):  # what the threads of a dead process would say if they could
    """The process is gone."""


class MortalExecutor(InlineExecutor):
    """One writer for all instances, until the process dies: from then on nothing reaches the file."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if not self.is_dead:
            return super().submit(work, *args, **kwargs)
        gone: Future[Any] = Future()
        gone.set_exception(Killed())
        return gone


class Day:
    """The fleet, its far end, and a heap of what happens when."""

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        *,
        seed: int,
        hours: float,
        size: float = 1.0,
        hourly: float = 1.0,
    ) -> None:
        """size: 1.0 for 5,000 messages.  hourly: how much of each limit of an hour there is."""
        monkeypatch.setitem(MODULES, "played", "fleet_world")  # type: ignore[arg-type]
        monkeypatch.setattr(PROVIDER, "day", self)
        random.seed(seed)  # what wa draws itself
        self.draw = random.Random(seed)
        self.folder, self.clock = folder, FakeClock()
        self.began_ms = self.clock.wall_ms()
        self.ends_ms = self.began_ms + round(hours * HOUR)
        self.night = (self.ends_ms, self.ends_ms)
        self.posts: list[Sent] = []
        self.outcomes: dict[int, Outcome] = {}
        self.delivered: Counter[tuple[str, str]] = Counter()
        self.friends: set[tuple[str, str]] = set()
        self.queued: dict[int, tuple[str, str, str]] = {}  # id: instance, address, body
        self.cut_off: set[int] = set()  # messages that were on their way when the process died
        self.executor = MortalExecutor()
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._number = count()
        self._more = asyncio.Event()
        self._is_doomed = False
        self._dead = asyncio.Event()
        self._fleet: Fleet | None = None
        self.app: App = self._open()
        self.phones = self._add_phones(size, hourly)

    def _open(self) -> App:
        app = open_phone_app(self.folder, self.clock)
        # A kill is no power cut: what is committed need not be on the disk, only in the file.
        app.database.connection.execute("PRAGMA synchronous = OFF")
        return app

    def _add_phones(self, size: float, hourly: float) -> list[Phone]:
        """Three of them, each with limits of its own that a day's messages fill."""
        pace = {"gap_ms": 500, "recipient_gap_ms": 15_000, "recipient_per_minute": 3}
        asia = {**pace, "per_minute": 12, "per_hour": round(240 * hourly)}
        berlin = {**pace, "per_minute": 10, "per_hour": round(200 * hourly), "new_people_per_day": round(700 * size)}
        cairo = {**pace, "per_minute": 6, "per_hour": round(120 * hourly), "new_chats_per_day": round(150 * size)}
        few = round(1_000 * size)
        phones = [
            Phone(day=self, name="asia", limits=asia, messages=2 * few, first_person=0, people=few, friends=few // 2),
            Phone(day=self, name="berlin", limits=berlin, messages=round(1.8 * few), first_person=20_000,
                  people=round(0.8 * few), friends=few // 4),
            Phone(day=self, name="cairo", limits=cairo, messages=round(1.2 * few), first_person=40_000,
                  people=round(0.4 * few), friends=few // 5),
        ]  # fmt: skip
        for phone in phones:
            new = NewInstance(
                name=phone.name,
                transport="played",
                settings={},
                secrets={},
                profile=None,
                limits=phone.limits,
                connection=READY,
            )
            phone.instance_id = self.app.instances.add(new, now_ms=self.now_ms).id
            phone.turns.append((self.now_ms, READY))
        return phones

    # --- time ---

    @property
    def now_ms(self) -> int:
        return self.clock.wall_ms()

    def at(self, at_ms: int, happen: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (at_ms, next(self._number), happen))
        self._more.set()

    def at_hour(self, hour: float, happen: Callable[[], None]) -> int:
        """hour: of the day, also in parts.  Returns the moment."""
        at_ms = self.began_ms + round(hour * HOUR)
        self.at(at_ms, happen)
        return at_ms

    async def _live(self) -> None:
        """Let everything happen in its time."""
        while True:
            self._more.clear()
            while self._heap and self._heap[0][0] <= self.now_ms:
                heapq.heappop(self._heap)[2]()
            wait_ms = self._heap[0][0] - self.now_ms if self._heap else HOUR
            try:
                async with asyncio.timeout(max(wait_ms, 1) / 1000):
                    await self._more.wait()
            except TimeoutError:
                pass

    # --- what the far end does ---

    async def take(self, phone: Phone, post: Post) -> Outcome:
        """One post, as WhatsApp and the gateway before it answer."""
        instance = self.app.find_instance(phone.name)
        assert isinstance(post.content, Text)
        sent = Sent(
            at_ms=self.now_ms,
            instance=phone.name,
            address=post.address,
            body=post.content.body,
            attempt_id=int(post.tag.rsplit(".", 1)[1]),
            true=phone.true,
            stored=instance.connection,
            is_paused=instance.paused_at_ms is not None,
            knows=(phone.name, post.address) in self.friends,
        )
        self.posts.append(sent)
        try:
            if self._is_doomed:
                self.executor.is_dead = True
                self._dead.set()
            await asyncio.sleep(self.draw.uniform(0.05, 1.5))
            outcome = self._judge(phone, sent)
            self.outcomes[sent.attempt_id] = outcome
            return outcome
        except asyncio.CancelledError:  # our process is gone; the message may have arrived all the same
            if phone.true is READY and self.draw.random() < 0.5:
                self.delivered[sent.address, sent.body] += 1
            raise

    def _judge(self, phone: Phone, sent: Sent) -> Outcome:
        if not phone.is_up:
            return not_sent()
        if phone.state is not READY:
            return Rejected(
                error_class=ErrorClass.NOT_READY,
                code=phone.state.value.upper(),
                details="the device is not connected",
                http_status=422,
                connection=phone.state,
            )
        if self.now_ms < phone.restricted_until_ms and not sent.is_group and not sent.knows:
            held_back = Restriction(
                code="463",
                reason="too many new chats",
                scope=RestrictionScope.NEW_PEOPLE,
                until_ms=phone.restricted_until_ms,
            )
            return Rejected(
                error_class=ErrorClass.RESTRICTED,
                code="463",
                details="too many new chats",
                http_status=500,
                restriction=held_back,
            )
        chance = self.draw.random()
        if chance < 0.004:
            return ambiguous()
        if chance < 0.008:
            self.delivered[sent.address, sent.body] += 1
            return ambiguous()
        if chance < 0.018:
            return rejected(ErrorClass.RETRY)
        if chance < 0.022:
            return rejected(ErrorClass.DEAD_RECIPIENT, "131026")
        if chance < 0.026:
            return not_sent()
        self.delivered[sent.address, sent.body] += 1
        return accepted(sent.attempt_id)

    def hear(self, phone: Phone, *events: Any) -> None:
        """A webhook comes for this instance, through the same transaction as every webhook's effects."""
        terms = self.app.read_event_terms()
        with self.app.webhooks.turn() as turn:
            turn.note_arrival(phone.instance_id, at_ms=self.now_ms)
            self.app.settle_events(turn, events, terms=terms, now_ms=self.now_ms)
        self._wake()

    def _wake(self) -> None:
        """The daemon's watcher has seen that something was committed."""
        if self._fleet is not None:
            self._fleet.wake()

    # --- what people do ---

    def write_in(self, phone: Phone, numbers: Sequence[int]) -> None:
        """These people write to the number."""
        events = []
        for number in numbers:
            self.friends.add((phone.name, address(number)))
            events.append(
                InboundEvent(
                    number_id=number_id_of(phone.instance_id),
                    provider_message_id=f"in.{number}",
                    at_ms=self.now_ms,
                    person=Person(address=address(number)),
                    kind="text",
                    words="Hello",
                )
            )
        terms = self.app.read_event_terms()
        with self.app.webhooks.turn() as turn:
            self.app.settle_events(turn, events, terms=terms, now_ms=self.now_ms)

    def queue(self, phone: Phone, pairs: Sequence[tuple[str, str]], *, delay_ms: int) -> None:
        """Somebody queues these (address, text), so far apart."""
        lines = [line(to, body) for to, body in pairs]
        order = SendOrder(kind="file", instance_id=phone.instance_id, start_at_ms=self.now_ms, delay_ms=delay_ms)
        ids: list[int] = []
        enqueue(
            self.app.intake,
            order,
            lines,
            size=len(lines),
            request_hash=hash_request("file", [part for pair in pairs for part in pair]),
            lines_are_unique=True,
            now_ms=self.now_ms,
            report=lambda answer: ids.append(answer.message_id),
        )
        for message_id, (to, body) in zip(ids, pairs, strict=True):
            self.queued[message_id] = (phone.name, to, body)
        self._wake()

    def plan_messages(self, *, until_hour: float, orders: int) -> None:
        """Every instance gets its messages in some orders over the day; one of them is a burst to a few people."""
        for phone in self.phones:
            self.write_in(phone, range(phone.first_person, phone.first_person + phone.friends))
            pairs: dict[tuple[str, str], None] = {}
            few = [address(phone.first_person + number) for number in range(3)]
            burst = [(to, f"Reminder {number}") for number in range(12) for to in few]
            while len(pairs) < phone.messages - len(burst):
                is_group = self.draw.random() < 0.1
                to = (
                    f"1203630{phone.first_person + self.draw.randrange(GROUPS):08d}@g.us"
                    if is_group
                    else address(phone.first_person + self.draw.randrange(phone.people))
                )
                pairs[to, f"News {self.draw.randrange(TEXTS)}"] = None
            listed = list(pairs)
            shares = [listed[start::orders] for start in range(orders)]
            for share in [*shares, burst]:
                delay_ms = 1 if share is burst else self.draw.choice((1_000, 2_000, 5_000))
                hour = self.draw.uniform(0, until_hour)
                self.at_hour(hour, lambda one=phone, some=share, ms=delay_ms: self.queue(one, some, delay_ms=ms))

    # --- what goes wrong ---

    def lose(self, phone: Phone, state: ConnectionState | None, *, hour: float, hours: float, why: str) -> None:
        """The device is lost for so long, unless a restart brings it back sooner."""
        began_ms = self.at_hour(hour, lambda: phone.turn(state))
        ended_ms = self.at_hour(hour + hours, lambda: phone.turn(READY))
        phone.troubles.append((began_ms, ended_ms, why))

    def restrict(self, phone: Phone, *, hour: float, hours: float) -> None:
        ended_ms = self.began_ms + round((hour + hours) * HOUR)
        began_ms = self.at_hour(hour, lambda: setattr(phone, "restricted_until_ms", ended_ms))
        phone.troubles.append((began_ms, ended_ms, "restricted"))

    def flap(self, phone: Phone, *, hour: float) -> None:
        """The device is lost every 20 seconds for ten minutes, and then stays away until it is started."""
        began_ms = self.began_ms + round(hour * HOUR)
        for at_ms in range(began_ms, began_ms + STORM_MS, FLAP_MS):
            self.at(at_ms, lambda: phone.turn(ConnectionState.DISCONNECTED))
        phone.troubles.append((began_ms, began_ms + STORM_MS, "storm"))

    def resume(self, phone: Phone) -> None:
        """A person lifts the pause."""
        if self.app.instances.resume(phone.instance_id, now_ms=self.now_ms):
            self._wake()

    def doom(self) -> None:
        """The process will be killed as soon as something is on its way."""
        self._is_doomed = True

    def stop_for_the_night(self, *, hour: float, until_hour: float) -> None:
        """The daemon is stopped as by SIGTERM, and started again in the morning."""
        self.night = (self.began_ms + round(hour * HOUR), self.began_ms + round(until_hour * HOUR))

    # --- the daemon ---

    def live(self) -> None:
        """The whole day, with as many lives of our process as it takes."""
        run(self.clock, self._live_through())

    async def _live_through(self) -> None:
        world = asyncio.create_task(self._arrive())
        try:
            while self.now_ms < self.ends_ms:
                evening_ms, morning_ms = self.night
                if evening_ms <= self.now_ms < morning_ms:
                    await asyncio.sleep((morning_ms - self.now_ms) / 1000)
                await self._one_life(evening_ms if self.now_ms < evening_ms else self.ends_ms)
        finally:
            world.cancel()

    async def _arrive(self) -> None:
        """Webhooks of other things come all day long, from every gateway that is up and posts to us."""
        while True:
            for phone in self.phones:
                if phone.is_told and phone.is_up and not self.executor.is_dead:
                    with self.app.webhooks.turn() as turn:
                        turn.note_arrival(phone.instance_id, at_ms=self.now_ms)
            await asyncio.sleep(300)

    async def _one_life(self, ends_ms: int) -> None:
        self._dead.clear()
        fleet = self._fleet = Fleet(
            self.app,
            names=None,
            executor=self.executor,
            alarm_of=lambda _instance: ring_later,
            on_first_lease=self._begin,
            on_progress=lambda _record: None,
        )
        tasks = {
            "fleet": asyncio.create_task(fleet.run()),
            "world": asyncio.create_task(self._live()),
            "upkeep": asyncio.create_task(self._look_after()),
            "dead": asyncio.create_task(self._dead.wait()),
            "evening": asyncio.create_task(asyncio.sleep((ends_ms - self.now_ms) / 1000)),
        }
        done, _running = await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        is_dead = tasks["dead"] in done
        if tasks["evening"] in done:
            fleet.stop()
            await tasks["fleet"]
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        if is_dead:
            await self._rise()
            return
        for task in done:
            task.result()
        assert tasks["evening"] in done, "the daemon has ended by itself"

    async def _begin(self, _stack: AsyncExitStack) -> None:
        """What the daemon does with its first lease; the upkeep has a task of its own here."""

    async def _look_after(self) -> None:
        while True:
            await asyncio.get_running_loop().run_in_executor(self.executor, look_after_queue, self.app)
            await asyncio.sleep(UPKEEP_SECONDS)

    async def _rise(self) -> None:
        """The process is gone, with all that it had in memory; somebody starts another one."""
        self._is_doomed = False
        self.app.close()
        self.app = self._open()
        with self.app.database.read() as reader:
            rows = reader.execute("SELECT id FROM message WHERE state = 'sending'").fetchall()
        self.cut_off |= {row[0] for row in rows}
        await asyncio.sleep(20)
        self.executor = MortalExecutor()

    # --- looking ---

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self.app.database.read() as reader:
            return reader.execute(statement, values).fetchall()

    def posts_of(self, phone: Phone) -> list[Sent]:
        return [post for post in self.posts if post.instance == phone.name]

    def read_outcomes(self) -> dict[int, list[Outcome]]:
        """What the far end answered to each message, in order, as far as anybody was there to hear it."""
        message_of = dict(self.rows("SELECT id, message_id FROM attempt"))
        heard: dict[int, list[Outcome]] = defaultdict(list)
        for attempt_id, outcome in sorted(self.outcomes.items()):
            heard[message_of[attempt_id]].append(outcome)
        return heard
