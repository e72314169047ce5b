"""A small world for tests: two clocks that move when told, a scripted WhatsApp, and a real store with messages in it.

Nothing here sleeps.  `run` drives asyncio on the world's own steady clock: a wait of an hour takes no time, and a test
that waits for something that never comes fails at once.
"""

from __future__ import annotations

import asyncio
import json
import selectors
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from wa_cli.domain.connection import ConnectionState
from wa_cli.domain.event import InboundEvent, Person
from wa_cli.domain.message import OnUnknown, State, Text, encode_content, parse_message_id
from wa_cli.domain.outcome import Accepted, Ambiguous, ErrorClass, NotSent, Outcome, Rejected
from wa_cli.domain.pacing import PRIORITY_BULK, Limits, lane_of
from wa_cli.domain.recipient import RecipientKind
from wa_cli.domain.retry import RetryPolicy
from wa_cli.ports import Enqueued, Lease, NewInstance, NewMessage, Post, QueueTurn, Record
from wa_cli.services.dispatch import SendLoop
from wa_cli.services.enqueue import SendOrder, enqueue, hash_request
from wa_cli.services.people import apply_inbound
from wa_cli.store.sqlite.database import Database
from wa_cli.store.sqlite.instances import SqliteInstances
from wa_cli.store.sqlite.intake import SqliteIntake
from wa_cli.store.sqlite.leases import SqliteLeases
from wa_cli.store.sqlite.messages import SqliteMessages
from wa_cli.store.sqlite.owners import Owner
from wa_cli.store.sqlite.people import SqlitePeople
from wa_cli.store.sqlite.queue import SqliteQueue
from wa_cli.store.sqlite.upkeep import SqliteUpkeep

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Coroutine, Iterable, Iterator, Sequence
    from pathlib import Path

    from wa_cli.domain.history import AttemptRow, DecisionRow, MessageRow
    from wa_cli.errors import WaError
    from wa_cli.ports import Content, Queue

START_MS = 1_800_000_000_000  # some morning in 2027
FOREVER_MS = 10**15
NO_LIMITS = Limits()

EVERYTHING = "message", "attempt", "decision", "batch", "contact", "content", "live_key", "caller_key", "lease", "tally"


# --- time ----------------------------------------------------------------------------------------------------------


class FakeClock:
    """A wall clock and a steady one.  Both advance together; the wall clock alone can jump."""

    def __init__(self, wall_ms: float = START_MS) -> None:
        self._steady = 0.0
        self._offset = float(wall_ms)

    def wall_ms(self) -> int:
        return int(self._steady + self._offset)

    def steady_ms(self) -> float:
        return self._steady

    def advance(self, milliseconds: float) -> None:
        """Time passes."""
        self._steady += milliseconds

    def jump(self, milliseconds: float) -> None:
        """Somebody sets the wall clock, or the machine slept while its steady clock stood still."""
        self._offset += milliseconds


class _Selector(selectors.DefaultSelector):
    """Where asyncio would wait, time passes instead."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock
        self.lateness_ms = 0.0
        self.waits_forever = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            self.waits_forever = True
            raise AssertionError("everything waits for something that never comes")
        if timeout > 0:
            self._clock.advance(timeout * 1000 + self.lateness_ms)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio on a fake clock: it never waits.  lateness_ms: how much too late every wake-up comes."""

    def __init__(self, clock: FakeClock, *, lateness_ms: float = 0.0) -> None:
        self._world_clock = clock
        selector = _Selector(clock)
        selector.lateness_ms = lateness_ms
        super().__init__(selector)

    def time(self) -> float:
        return self._world_clock.steady_ms() / 1000

    def run_for(self, milliseconds: float) -> None:
        """Let that much time pass, with everything that falls due in it."""
        self.call_at(self.time() + milliseconds / 1000, self.stop)
        self.run_forever()
        self.settle()

    def settle(self) -> None:
        """Run what is ready, and what that makes ready, without letting time pass."""
        for _turn in range(6):
            self.call_soon(self.stop)
            self.run_forever()


def run(clock: FakeClock, coroutine: Coroutine[Any, Any, Any], *, lateness_ms: float = 0.0) -> Any:
    """What the coroutine returns, run on the fake clock."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock, lateness_ms=lateness_ms)) as runner:
        return runner.run(coroutine)


class InlineExecutor(Executor):
    """Runs the writer thread's work on the spot."""

    def __init__(self) -> None:
        self.is_dead = False

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if self.is_dead:
            return future
        try:
            future.set_result(work(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  # what a thread would pass on, this passes on
            future.set_exception(error)
        return future


# --- outcomes ------------------------------------------------------------------------------------------------------


def accepted(number: int = 1) -> Accepted:
    return Accepted(provider_message_id=f"wamid.{number}", http_status=200)


def rejected(
    error_class: ErrorClass, code: str = "131000", *, wait_seconds: float | None = None, max_attempts: int | None = None
) -> Rejected:
    return Rejected(
        error_class=error_class,
        code=code,
        details=f"refused: {error_class}",
        http_status=400,
        wait_seconds=wait_seconds,
        max_attempts=max_attempts,
    )


def not_sent(code: str = "connect") -> NotSent:
    return NotSent(code=code, details="nobody answers")


def ambiguous(code: str = "read_timeout") -> Ambiguous:
    return Ambiguous(code=code, details="no answer came")


# --- a transport ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """One post as the other side saw it.  at_ms: on the steady clock."""

    post: Post
    at_ms: float
    wall_ms: int

    @property
    def attempt_id(self) -> int:
        return int(self.post.tag.rsplit(".", 1)[1])

    @property
    def body(self) -> str:
        content = self.post.content
        return content.body if isinstance(content, Text) else str(content)


Answer = Callable[[Post], "Outcome | Awaitable[Outcome]"]


class FakeTransport:
    """Answers by a script, one entry a post, and accepts whatever comes after it.  Remembers every post.

    An entry is an Outcome, or a function of the post that gives one or awaits it.
    """

    def __init__(self, clock: FakeClock, script: Iterable[Outcome | Answer] = (), *, latency_ms: float = 0.0) -> None:
        self._clock = clock
        self.script: list[Outcome | Answer] = list(script)
        self.latency_ms = latency_ms
        self.posts: list[Posted] = []
        self.on_post: Callable[[Posted], None] | None = None
        self.is_closed = False

    async def send(self, post: Post) -> Outcome:
        posted = Posted(post=post, at_ms=round(self._clock.steady_ms(), 3), wall_ms=self._clock.wall_ms())
        self.posts.append(posted)
        number = len(self.posts)
        if self.on_post is not None:
            self.on_post(posted)
        entry = self.script.pop(0) if self.script else accepted(number)
        if self.latency_ms:
            await asyncio.sleep(self.latency_ms / 1000)
        if isinstance(entry, Accepted | Rejected | NotSent | Ambiguous):
            return entry
        answer = entry(post)
        return await answer if isinstance(answer, Awaitable) else answer

    async def close(self) -> None:
        self.is_closed = True

    @property
    def addresses(self) -> list[str]:
        return [posted.post.address for posted in self.posts]

    @property
    def bodies(self) -> list[str]:
        return [posted.body for posted in self.posts]

    @property
    def gaps_ms(self) -> list[float]:
        """The time between each post and the one before it."""
        return [round(later.at_ms - earlier.at_ms, 3) for earlier, later in pairwise(self.posts)]


class TroubledQueue:
    """A queue whose disk gives trouble: it raises the next error in `troubles` instead of committing a turn.

    An entry of None lets a turn through.  `late_troubles` does the same to `settle_late`.
    """

    def __init__(self, queue: SqliteQueue, troubles: Iterable[WaError | None] = ()) -> None:
        self._queue = queue
        self.troubles: list[WaError | None] = list(troubles)
        self.refused = 0

    @contextmanager
    def turn(self) -> Iterator[QueueTurn]:
        with self._queue.turn() as turn:
            yield turn
            trouble = self.troubles.pop(0) if self.troubles else None
            if trouble is not None:
                self.refused += 1
                raise trouble

    def read_content(self, content_id: int) -> Content | None:
        return self._queue.read_content(content_id)

    def settle_late(self, records: Sequence[Record], *, now_ms: int) -> int:
        return self._queue.settle_late(records, now_ms=now_ms)

    def requeue_unknown(self, *, older_than_ms: int, now_ms: int) -> int:
        return self._queue.requeue_unknown(older_than_ms=older_than_ms, now_ms=now_ms)

    def expire(self, *, now_ms: int) -> int:
        return self._queue.expire(now_ms=now_ms)

    def data_version(self) -> int:
        return self._queue.data_version()


class CountingQueue(TroubledQueue):
    """Counts the turns that are taken."""

    turns = 0

    @contextmanager
    def turn(self) -> Iterator[QueueTurn]:
        self.turns += 1
        with super().turn() as turn:
            yield turn


# --- people and messages -------------------------------------------------------------------------------------------


def address(number: int) -> str:
    """One of a million people in Singapore."""
    return f"+659{number:07d}"


def line(
    to: int | str = 1,
    body: str = "Doors open at six",
    *,
    key: str | None = None,
    skip_reason: str | None = None,
    contact_id: int | None = None,
) -> NewMessage:
    return NewMessage(
        address=address(to) if isinstance(to, int) else to,
        kind=RecipientKind.GROUP if isinstance(to, str) and to.endswith("@g.us") else RecipientKind.PERSON,
        encoded=encode_content(Text(body=body)),
        contact_id=contact_id,
        skip_reason=skip_reason,
        key=key,
    )


# --- the world -----------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class World:
    """A store, its clock and its transport.  Made by `open_world`."""

    folder: Path
    clock: FakeClock
    database: Database
    owner: Owner
    transport: FakeTransport
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    limits: Limits = NO_LIMITS
    progress: list[Record] = field(default_factory=list)

    @property
    def now_ms(self) -> int:
        return self.clock.wall_ms()

    @property
    def queue(self) -> SqliteQueue:
        return SqliteQueue(self.database)

    @property
    def leases(self) -> SqliteLeases:
        return SqliteLeases(self.database, self.owner)

    @property
    def instances(self) -> SqliteInstances:
        return SqliteInstances(self.database)

    @property
    def messages(self) -> SqliteMessages:
        return SqliteMessages(self.database)

    # --- putting in ---

    def enqueue(
        self,
        lines: Iterable[NewMessage],
        *,
        delay_ms: int = 0,
        in_ms: int = 0,
        size: int | None = None,
        immediate: bool = False,
        key: str | None = None,
        again: bool = False,
        expires_in_ms: int | None = None,
        max_attempts: int = 5,
        on_unknown: OnUnknown = OnUnknown.HOLD,
        own_lane: bool = False,
        unique: bool = False,
        dry_run: bool = False,
        max_queue_size: int = 0,
        intake: SqliteIntake | None = None,
        instance_id: int = 1,
    ) -> list[Enqueued]:
        """Queue the lines through the use case; what became of each, in order."""
        listed = list(lines)
        order = SendOrder(
            kind="file",
            instance_id=instance_id,
            start_at_ms=self.now_ms + in_ms,
            delay_ms=delay_ms,
            is_immediate=immediate,
            expires_at_ms=None if expires_in_ms is None else self.now_ms + expires_in_ms,
            key=key,
            again=again,
            max_attempts=max_attempts,
            on_unknown=on_unknown,
            is_waited_for=own_lane,
            is_dry_run=dry_run,
            max_queue_size=max_queue_size,
        )
        answers: list[Enqueued] = []
        enqueue(
            intake or SqliteIntake(self.database, self.owner),
            order,
            listed,
            size=len(listed) if size is None else size,
            request_hash=hash_request("file", [part for one in listed for part in (one.address, one.encoded)]),
            lines_are_unique=unique,
            now_ms=self.now_ms,
            report=answers.append,
        )
        return answers

    def send_later(self, *bodies: str, **options: Any) -> list[int]:
        """Queue one message to a person of its own for each body; their ids."""
        lines = [line(number, body) for number, body in enumerate(bodies, start=1)]
        return [answer.message_id for answer in self.enqueue(lines, **options)]

    def add_to_campaign(
        self,
        lines: Iterable[NewMessage],
        *,
        name: str = "sale",
        stage: str = "main",
        shares_lane_of: int | None = None,
        weight: int = 1,
        limits: dict[str, int] | None = None,
        quiet: str | None = None,
        **options: Any,
    ) -> list[int]:
        """Queue the lines as a batch of a campaign that has been let go; their ids.

        shares_lane_of: a message whose lane they go into.  The other options are those of `enqueue`.
        """
        ids = [answer.message_id for answer in self.enqueue(lines, own_lane=True, **options)]
        batch_id = self.row(ids[0]).batch_id
        lane = lane_of(PRIORITY_BULK, batch_id)
        if shares_lane_of is not None:
            lane = self.value("SELECT lane FROM message WHERE id = ?", shares_lane_of)
        with self.database.write() as connection:
            connection.execute(
                """INSERT INTO campaign (name, folded_name, path, source, state, created_at, changed_at)
                VALUES (?1, ?1, 'campaigns/sale.toml', '', 'running', ?2, ?2) ON CONFLICT DO NOTHING""",
                (name, self.now_ms),
            )
            connection.execute(
                """INSERT INTO run (campaign_id, state, created_at)
                SELECT id, 'running', ? FROM campaign WHERE name = ? ON CONFLICT DO NOTHING""",
                (self.now_ms, name),
            )
            run_id = self._run_of(connection, name)
            connection.execute(
                """UPDATE batch SET run_id = ?, stage = ?, variant = '', zone = '', weight = ?, limits = ?, quiet = ?,
                    priority = ? WHERE id = ?""",
                (run_id, stage, weight, None if limits is None else json.dumps(limits), quiet, PRIORITY_BULK, batch_id),
            )
            connection.execute("UPDATE message SET run_id = ?, lane = ? WHERE batch_id = ?", (run_id, lane, batch_id))
            connection.execute(
                """UPDATE run SET first_message_id = (SELECT min(id) FROM message WHERE run_id = ?1),
                    last_message_id = (SELECT max(id) FROM message WHERE run_id = ?1) WHERE id = ?1""",
                (run_id,),
            )
            connection.execute("DELETE FROM run_tally WHERE run_id = ?", (run_id,))
            connection.execute(
                """INSERT INTO run_tally SELECT run_id, state, ifnull(receipt, ''), count(*) FROM message
                WHERE run_id = ? GROUP BY 1, 2, 3""",
                (run_id,),
            )
        return ids

    def hold(self, name: str = "sale", *, reason: str = "paused", stage: str = "%") -> None:
        """As pausing a campaign does, or with another reason as its canary does."""
        with self.database.write() as connection:
            connection.execute(
                "UPDATE batch SET held_at = ?, held_reason = ? WHERE run_id = ? AND stage LIKE ?",
                (self.now_ms, reason, self._run_of(connection, name), stage),
            )
            if reason == "paused":
                connection.execute("UPDATE campaign SET state = 'paused' WHERE name = ?", (name,))

    def let_go(self, name: str = "sale") -> None:
        """As resuming it does."""
        with self.database.write() as connection:
            connection.execute(
                "UPDATE batch SET held_at = NULL, held_reason = NULL WHERE run_id = ?",
                (self._run_of(connection, name),),
            )
            connection.execute("UPDATE campaign SET state = 'running' WHERE name = ? AND state = 'paused'", (name,))

    def _run_of(self, connection: sqlite3.Connection, name: str) -> int:
        statement = "SELECT run.id FROM run JOIN campaign ON campaign.id = run.campaign_id WHERE campaign.name = ?"
        return int(connection.execute(statement, (name,)).fetchone()[0])

    # --- sending ---

    def add_instance(self, name: str, *, limits: dict[str, int] | None = None, is_linked: bool = True) -> int:
        """Another number that sends; its id.  is_linked: its device is connected, and stays so."""
        new = NewInstance(
            name=name,
            transport="waha" if is_linked else "cloud_api",
            settings={},
            secrets={},
            profile=None,
            limits=limits or {},
            connection=ConnectionState.READY if is_linked else None,
        )
        return self.instances.add(new, now_ms=self.now_ms).id

    def hear(self, to: int | str, *, ago_ms: int = 0, instance_id: int = 1, name: str | None = None) -> None:
        """Somebody writes to a number of ours.  name: the provider's id, where it is one that was heard before."""
        event = InboundEvent(
            number_id="1",
            provider_message_id=name or f"in.{self.value('SELECT count(*) FROM inbound')}",
            at_ms=self.now_ms - ago_ms,
            person=Person(address=address(to) if isinstance(to, int) else to),
            kind="text",
            words="Thank you",
        )
        with SqlitePeople(self.database).turn() as turn:
            apply_inbound(turn, event, instance_id=instance_id, now_ms=self.now_ms)

    def take_lease(self, role: str = "daemon", *, instance_id: int = 1) -> Lease:
        lease = self.leases.acquire(instance_id, role=role, now_ms=self.now_ms)
        assert isinstance(lease, Lease), lease
        return lease

    def new_loop(self, *, queue: Queue | None = None, lease: Lease | None = None, **options: Any) -> SendLoop:
        """A send loop on this world, with a lease of its own unless given."""
        settings: dict[str, Any] = {
            "queue": queue or self.queue,
            "transport": self.transport,
            "clock": self.clock,
            "executor": InlineExecutor(),
            "lease": lease or self.take_lease(),
            "limits": self.limits,
            "policy": self.policy,
            "install": self.database.read_install(),
            "jitter": lambda: 0.0,
            "on_progress": self.progress.append,
        }
        return SendLoop(**(settings | options))

    def drain(self, *, lateness_ms: float = 0.0, whole_schedule: bool = False, **options: Any) -> SendLoop:
        """Send what is due, as `wa drain` does; whole_schedule: stay until nothing waits any more."""
        loop = self.new_loop(**options)
        coroutine = loop.run(until_idle=True, waits_for_schedule=whole_schedule)
        run(self.clock, coroutine, lateness_ms=lateness_ms)
        return loop

    # --- looking ---

    def row(self, message_id: int) -> MessageRow:
        return self.messages.find(message_id)

    def state(self, message_id: int) -> State:
        return self.row(message_id).state

    def states(self) -> list[State]:
        """Of every message, in the order of ids."""
        return [State(row[0]) for row in self.rows("SELECT state FROM message ORDER BY id")]

    def attempts(self, message_id: int) -> tuple[AttemptRow, ...]:
        return tuple(self.messages.read_history(message_id).attempts)

    def decisions(self, message_id: int) -> list[str]:
        """The rules that were applied to it, in order."""
        decisions: Sequence[DecisionRow] = self.messages.read_history(message_id).decisions
        return [decision.rule for decision in decisions]

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self.database.read() as connection:
            return connection.execute(statement, values).fetchall()

    def value(self, statement: str, *values: object) -> Any:
        return self.rows(statement, *values)[0][0]

    def execute(self, statement: str, *values: object) -> None:
        """Change the store behind wa's back."""
        with self.database.write() as connection:
            connection.execute(statement, values)

    def picture(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table, to compare before and after."""
        return {table: self.rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in EVERYTHING}

    def find_faults(self, *, ignore: Iterable[str] = ()) -> list[str]:
        """What the store's own check finds wrong: pages, keys, states, tally, checksums.  Empty is good."""
        findings = SqliteUpkeep(self.database).check(is_held=lambda _instance: True)
        return [
            finding.message
            for finding in findings
            if finding.level != "ok" and not any(words in finding.message for words in ignore)
        ]

    def close(self) -> None:
        self.owner.close()
        self.database.close()


class Worker:
    """A process that sends: a send loop of its own that the test lets run for a while, freezes, or kills.

    Between two calls it stands still, as if it were stopped.
    """

    def __init__(self, world: World, *, executor: InlineExecutor | None = None, **options: Any) -> None:
        self.loop = VirtualLoop(world.clock)
        self._executor = executor or InlineExecutor()
        self.sender: SendLoop = world.new_loop(executor=self._executor, **options)
        self.task = self.loop.create_task(self.sender.run(until_idle=False))
        self.loop.settle()

    def run_for(self, milliseconds: float) -> None:
        self.loop.run_for(milliseconds)

    def wake(self) -> None:
        """Its watcher has seen that somebody wrote to the store."""
        self.sender.wake()
        self.loop.settle()

    def stop(self) -> None:
        """As SIGTERM does; returns when the loop has ended."""
        self.sender.stop()
        self.loop.run_until_complete(self.task)
        self.loop.close()

    def kill(self) -> None:
        """As kill -9 does: from here on it writes nothing and posts nothing."""
        self._executor.is_dead = True
        self.end()

    def end(self) -> None:
        """Give it up in whatever state it is."""
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(self.task, *tasks, return_exceptions=True))
        self.loop.close()


@contextmanager
def open_world(
    folder: Path,
    *,
    on_disk: bool = False,
    script: Iterable[Outcome | Answer] = (),
    limits: Limits = NO_LIMITS,
    policy: RetryPolicy | None = None,
    latency_ms: float = 0.0,
    clock: FakeClock | None = None,
) -> Iterator[World]:
    """A fresh world.  on_disk: its store is `wa.db` in the folder, not in memory."""
    clock = clock or FakeClock()
    path = folder / "wa.db"
    database = Database.open(path, create=True) if on_disk else Database.open_in_memory()
    world = World(
        folder=folder,
        clock=clock,
        database=database,
        owner=Owner(path),
        transport=FakeTransport(clock, script, latency_ms=latency_ms),
        policy=policy or RetryPolicy(),
        limits=limits,
    )
    try:
        yield world
    finally:
        world.close()


def message_id(text: str) -> int:
    return int(parse_message_id(text))
