"""One storm: a platform with a ledger of its own, a world of processes that die, and the checks afterwards.

The ledger is written by the platform alone, at the moment a post arrives; what the sender is told about it, and when,
is another matter.  The checks compare three accounts: the ledger, the store, and what the storm itself has done.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from world import (
    FakeClock,
    InlineExecutor,
    VirtualLoop,
    World,
    accepted,
    ambiguous,
    line,
    not_sent,
    open_world,
    rejected,
)

from wa_cli.domain.connection import Connection, ConnectionState
from wa_cli.domain.message import OnUnknown, State
from wa_cli.domain.outcome import Accepted, Ambiguous, ErrorClass, NotSent, Rejected
from wa_cli.domain.pacing import HOUR_MS, MINUTE_MS, PROFILES, SECOND_MS, Limits
from wa_cli.domain.retry import RetryKind, RetryPolicy
from wa_cli.errors import Conflict, Refused, StorageFull, Temporary
from wa_cli.services.turns import LeaseLost, Turn
from wa_cli.store.sqlite.owners import Owner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from wa_cli.domain.outcome import Outcome
    from wa_cli.ports import Post, QueueTurn

PEOPLE = 12
WORDS = ("Doors open at six", "Doors open at seven", "Bring a coat", "Grüße 👋", "Your order is ready")
LIMITS = (
    Limits(),
    PROFILES["cloud"],
    PROFILES["gateway"].override({"per_hour": 0}),
    PROFILES["gateway"].override({"per_minute": 20, "per_hour": 200}),
    Limits(recipient_gap_ms=3_000, gap_ms=200),
    Limits(per_second=3, recipient_per_minute=4),
)
POLICIES = (
    RetryPolicy(),
    RetryPolicy(kind=RetryKind.EXPONENTIAL),
    RetryPolicy(kind=RetryKind.EXPONENTIAL, base_seconds=1.0, cap_seconds=4.0),
)
UNKNOWN_WAIT_MS = 60_000
# How long, and for how many looks at it, the queue may take to send what is left after the storm.
MERCY_MS = 14 * 86_400_000
MERCY_ROUNDS = 2_000
# What every state may be shown for a message that the platform has accepted.
MAY_BE_ACCEPTED = {State.SENT, State.UNKNOWN}


# --- the platform --------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Entry:
    """One post in the platform's ledger.  told: what its sender has read, or None while nothing was."""

    tag: str
    address: str
    body: str
    at_ms: float
    wall_ms: int
    was_accepted: bool
    segment: int
    told: Outcome | None = None

    @property
    def attempt_id(self) -> int:
        return int(self.tag.rsplit(".", 1)[1])


class Platform:
    """Accepts, refuses, stalls, cuts and lies by dice; writes down what it accepted before it says a word."""

    def __init__(self, storm: Storm) -> None:
        self._storm = storm
        self._dice = storm.dice
        self.ledger: list[Entry] = []
        self.is_mild = False
        self.is_cut_off = False
        self.weather = self._dice.choice(("fair", "fair", "rough", "rough", "throttling", "unreadable"))

    async def receive(self, post: Post) -> Outcome:
        storm, dice = self._storm, self._dice
        storm.check_post(post)
        if self.is_cut_off and not self.is_mild:
            await asyncio.sleep(dice.choice((0.0, 0.003, 0.5)))
            return self._tell(None, not_sent())
        outcome, was_accepted, delay = self._decide()
        if isinstance(outcome, NotSent):
            await asyncio.sleep(delay)
            return self._tell(None, outcome)
        entry = Entry(
            tag=post.tag,
            address=post.address,
            body=post.content.body,  # type: ignore[union-attr]  # the storm sends texts
            at_ms=storm.clock.steady_ms(),
            wall_ms=storm.clock.wall_ms(),
            was_accepted=was_accepted,
            segment=storm.segment,
        )
        self.ledger.append(entry)
        storm.seen["posts"] += 1
        await asyncio.sleep(delay)
        return self._tell(entry, outcome)

    def _tell(self, entry: Entry | None, outcome: Outcome) -> Outcome:
        if entry is not None:
            entry.told = outcome
        if isinstance(outcome, Ambiguous):
            self._storm.seen["ambiguous_accepted" if entry and entry.was_accepted else "ambiguous_refused"] += 1
        else:
            self._storm.seen[type(outcome).__name__.lower().replace("notsent", "not_sent")] += 1
        return outcome

    def _decide(self) -> tuple[Outcome, bool, float]:
        """What the sender will read, whether the message was accepted, and after how many seconds."""
        dice = self._dice
        delay = dice.choice((0.0, 0.01, 0.08, 0.2, 0.9))
        if self.is_mild:
            return accepted(len(self.ledger) + 1), True, delay
        roll = dice.random()
        fair = {"fair": 0.8, "rough": 0.45, "throttling": 0.5, "unreadable": 0.4}[self.weather]
        if roll < fair:
            return accepted(len(self.ledger) + 1), True, delay
        if self.weather == "throttling" and roll < 0.9:
            error_class = dice.choice((ErrorClass.THROTTLE, ErrorClass.PAIR))
            return rejected(error_class, wait_seconds=dice.choice((None, None, 2.0, 20.0))), False, delay
        if self.weather == "unreadable" and roll < 0.9:
            return ambiguous("http_503"), dice.random() < 0.5, delay
        kind = dice.choice(("reject", "reject", "reject", "lost answer", "lost request", "not sent", "stall"))
        if kind == "reject":
            others = [error_class for error_class in ErrorClass if error_class is not ErrorClass.STOP]
            error_class = ErrorClass.STOP if dice.random() < 0.08 else dice.choice(others)
            self._storm.seen["stop"] += error_class is ErrorClass.STOP
            limit = dice.choice((None, None, 1, 2))
            return rejected(error_class, max_attempts=limit, wait_seconds=dice.choice((None, 5.0))), False, delay
        if kind == "lost answer":
            return ambiguous(), True, delay
        if kind == "lost request":
            return ambiguous(), False, delay
        if kind == "not sent":
            return not_sent(), False, delay
        return ambiguous("stalled"), dice.random() < 0.5, 60.0


# --- the processes -------------------------------------------------------------------------------------------------


class MortalExecutor(InlineExecutor):
    """The writer thread of a process that may be killed right before or right after a turn, or stopped after it."""

    def __init__(self, on_death: Callable[[], None], on_stop: Callable[[], None]) -> None:
        super().__init__()
        self._on_death = on_death
        self._on_stop = on_stop
        self.dies: str | None = None
        self.stops_after_start = False

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.stops_after_start and not self.is_dead:
            future = super().submit(work, *args, **kwargs)
            turn = future.result() if future.exception() is None else None
            if isinstance(turn, Turn) and turn.chosen.started:
                self.stops_after_start = False
                self._on_stop()
            return future
        if self.is_dead or self.dies is None:
            return super().submit(work, *args, **kwargs)
        if self.dies == "after":
            super().submit(work, *args, **kwargs)
        self.is_dead = True
        self._on_death()
        return super().submit(work)


class StormyQueue:
    """The store's queue on a disk that is full, or locked by somebody, for a while."""

    def __init__(self, storm: Storm) -> None:
        self._storm = storm
        self._queue = storm.world.queue

    @contextmanager
    def turn(self) -> Iterator[QueueTurn]:
        storm = self._storm
        if storm.disk == "busy":
            storm.seen["busy"] += 1
            raise Temporary("busy")
        with self._queue.turn() as turn:
            yield turn
            if storm.disk == "full":
                storm.seen["disk_full"] += 1
                raise StorageFull("no space left")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)


class Process:
    """A process that holds, or held, the lease."""

    def __init__(self, storm: Storm) -> None:
        self.storm = storm
        self.owner = Owner(storm.folder / "wa.db")
        storm.world.owner = self.owner
        self.lease = storm.world.take_lease(storm.dice.choice(("daemon", "drain", "wait")))
        storm.epoch = self.lease.epoch
        self.loop = VirtualLoop(storm.clock)
        self.is_dead = False
        self.executor = MortalExecutor(self._die, self.loop.stop)
        self.sender = storm.world.new_loop(
            lease=self.lease,
            queue=StormyQueue(storm),
            executor=self.executor,
            transport=Line(self),
            jitter=storm.dice.random,
            concurrency=storm.dice.choice((None, 1, 2, 4)),
        )
        self.task = self.loop.create_task(self.sender.run(until_idle=False))
        self.loop.settle()

    def run_for(self, milliseconds: float) -> None:
        if not self.is_dead and not self.task.done():
            self.loop.run_for(milliseconds)
        else:
            self.storm.clock.advance(milliseconds)

    def run_until_started(self, milliseconds: float) -> None:
        """Run until a start was committed, at most for that long, and stand still before its post begins."""
        self.executor.stops_after_start = True
        alarm = self.loop.call_at(self.loop.time() + milliseconds / 1000, self.loop.stop)
        self.loop.run_forever()
        alarm.cancel()
        self.executor.stops_after_start = False

    def wake(self) -> None:
        if not self.is_dead and not self.task.done():
            self.sender.wake()
            self.loop.settle()

    def _die(self) -> None:
        self.is_dead = True
        self.loop.stop()

    def kill(self) -> None:
        self.is_dead = self.executor.is_dead = True
        self.bury()

    def bury(self) -> None:
        """Free what the dead process held in this one."""
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(self.task, *tasks, return_exceptions=True))
        self.loop.close()
        self.owner.close()

    def finish(self) -> None:
        """As SIGTERM: what is in flight is recorded, then the lease is given back."""
        self.sender.stop()
        self.loop.run_until_complete(self.task)
        self.storm.world.leases.release(self.lease)
        self.loop.close()
        self.owner.close()


class Line:
    """The line from one process to the platform."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def send(self, post: Post) -> Outcome:
        if self._process.executor.is_dead:
            await asyncio.Event().wait()
        return await self._process.storm.platform.receive(post)

    async def close(self) -> None: ...


# --- the storm -----------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Asked:
    """A message that a call has queued, as its caller knows it."""

    message_id: int
    address: str
    body: str
    on_unknown: OnUnknown
    is_meant: bool
    expires_at_ms: int | None


@dataclass(slots=True)
class Storm:
    """One seed.  `run` returns what is wrong, which should be nothing."""

    seed: int
    folder: Path
    clock: FakeClock = field(default_factory=FakeClock)
    seen: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    asked: dict[int, Asked] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    orphans: dict[int, int] = field(default_factory=dict)
    settled: set[int] = field(default_factory=set)
    resent: set[int] = field(default_factory=set)
    disk: str = "sound"
    segment: int = 0
    epoch: int = 0
    jumped: bool = False
    paused: bool = False
    in_flight_at_pause: set[int] = field(default_factory=set)
    keys: dict[str, Any] = field(default_factory=dict)
    named: set[int] = field(default_factory=set)
    dice: random.Random = field(init=False)
    world: World = field(init=False)
    platform: Platform = field(init=False)
    process: Process | None = field(init=False, default=None)
    limits: Limits = field(init=False)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.limits = self.dice.choice(LIMITS)

    def run(self) -> list[str]:
        on_disk = self.seed % 50 == 49
        folder = self.folder / f"seed-{self.seed}"
        folder.mkdir(exist_ok=True)
        self.folder = folder
        with open_world(
            folder, on_disk=on_disk, limits=self.limits, policy=self.dice.choice(POLICIES), clock=self.clock
        ) as world:
            self.world = world
            self.platform = Platform(self)
            self._enqueue()
            for _step in range(self.dice.randint(8, 26)):
                self._do_something()
                if self.faults:
                    break
            else:
                self._calm_down()
            if not self.faults:
                self._check()
            if self.process is not None:
                self.process.kill()
        return self.faults

    # --- what happens ---

    def _do_something(self) -> None:
        dice = self.dice
        if self.process is None:
            if dice.random() < 0.2:
                self.clock.advance(dice.choice((1_000, 20_000, 40_000, 3_600_000)))
                self.seen["outage"] += 1
            if dice.random() < 0.2:
                self._bury_from_outside()
            self._start()
        step = dice.choices(
            (
                self._pass_time,
                self._enqueue,
                self._kill,
                self._kill_in_a_turn,
                self._freeze,
                self._finish,
                self._trouble_disk,
                self._jump,
                self._pause,
                self._resume,
                self._cancel,
                self._look_after,
                self._change_weather,
                self._enqueue_long,
            ),
            weights=(40, 22, 5, 7, 5, 3, 6, 4, 3, 7, 4, 8, 5, 0.4),
        )[0]
        step()

    def _pass_time(self) -> None:
        assert self.process is not None
        self.process.run_for(self.dice.choice((5, 100, 700, 2_500, 9_000, 61_000, 400_000)))
        self._after_run()

    def _after_run(self) -> None:
        process = self.process
        if process is None:
            return
        if process.is_dead:
            self._note_orphans()
            process.bury()
            self.process = None
        elif process.task.done():
            error = process.task.exception()
            if error is not None:
                raise AssertionError(f"seed {self.seed}: the loop ended with {error!r}") from error
            self.faults.append("the send loop ended by itself")

    def _start(self) -> None:
        try:
            self._start_once()
        except Temporary as error:
            if error.code != "clock_behind":
                raise
            self.seen["clock_refused"] += 1
            self.clock.jump(7_200_000)  # somebody sets it right
            self.jumped = True
            self._start()

    def _start_once(self) -> None:
        if self.jumped:
            # Stored starts tell the wall clock's time: what it did before this moment cannot be known any more.
            self.segment += 1
            self.jumped = False
        self.process = Process(self)

    def _note_orphans(self) -> None:
        """What a process leaves on its way when it dies must be found unknown."""
        for message_id, attempt_id in self.world.rows(
            """SELECT message.id, attempt.id FROM message JOIN attempt ON attempt.message_id = message.id
            WHERE message.state = 'sending' AND attempt.outcome IS NULL"""
        ):
            self.orphans[attempt_id] = message_id

    def _kill(self) -> None:
        assert self.process is not None
        self.seen["killed_in_flight"] += bool(self.process.sender.in_flight)
        self._note_orphans()
        self.process.kill()
        self.process = None

    def _kill_in_a_turn(self) -> None:
        process = self.process
        assert process is not None
        process.executor.dies = self.dice.choice(("before", "after"))
        self.seen[f"killed_{process.executor.dies}_turn"] += 1
        process.wake()
        if not process.is_dead:
            process.run_for(self.dice.choice((1, 3_000, 40_000)))
        process.executor.dies = None
        self._after_run()

    def _finish(self) -> None:
        if self.disk != "sound":
            return
        assert self.process is not None
        self.process.finish()
        self.process = None
        self.seen["finished"] += 1

    def _freeze(self) -> None:
        """SIGSTOP for longer than the lease, another process takes over, SIGCONT."""
        frozen = self.process
        if frozen is None or self.disk != "sound":
            return
        if self.dice.random() < 0.5:
            frozen.run_until_started(self.dice.choice((1_000, 10_000, 70_000)))
        self.clock.advance(self.dice.choice((31_000, 45_000, 600_000)))
        if self.dice.random() < 0.3:
            frozen.run_for(1_000)  # nobody has taken over: it goes on with the lease it still has
            self.seen["thawed"] += 1
            self._after_run()
            return
        # A clock that was set back has left a lease that lasts longer: who takes over comes back until it has run out.
        lasts_ms = self.world.rows("SELECT max(expires_at) FROM lease")[0][0] - self.world.now_ms
        self.clock.advance(max(lasts_ms + 1, 0))
        self._note_orphans()
        mine = {attempt for attempt, message in self.orphans.items() if self._is_open(attempt)}
        self._start()
        self.seen["replaced"] += 1
        assert self.process is not None
        second = self.process
        for _turn in range(self.dice.randint(0, 3)):
            second.run_for(self.dice.choice((0, 50, 2_000)))
            frozen.run_for(self.dice.choice((0, 1, 40)))
        frozen.loop.run_for(0)
        if not frozen.task.done():
            second_posts = len(self.platform.ledger)
            frozen.loop.run_until_complete(asyncio.wait([frozen.task]))
            if len(self.platform.ledger) > second_posts:
                self.faults.append("a replaced process has posted")
        if not isinstance(frozen.task.exception(), LeaseLost):
            self.faults.append(f"a replaced process ended with {frozen.task.exception()!r}")
        frozen.bury()
        told = {entry.attempt_id: entry.told for entry in self.platform.ledger}
        for attempt_id in mine:
            # What never reached the ledger was not sent, and its sender has said so by now.
            if not isinstance(told.get(attempt_id), Ambiguous) and attempt_id in self.orphans:
                self.settled.add(attempt_id)
                self.seen["settled_late"] += 1
        self._after_run()

    def _is_open(self, attempt_id: int) -> bool:
        return bool(self.world.rows("SELECT 1 FROM attempt WHERE id = ? AND outcome IS NULL", attempt_id))

    def _bury_from_outside(self) -> None:
        self.seen["bury_dead"] += 1
        self.world.leases.bury_dead(now_ms=self.world.now_ms)

    def _trouble_disk(self) -> None:
        self.disk = self.dice.choice(("full", "busy"))
        assert self.process is not None
        before = len(self.platform.ledger)
        self.process.run_for(self.dice.choice((500, 3_000, 15_000)))
        if len(self.platform.ledger) > before:
            self.faults.append("posted while nothing could be recorded")
        self._after_run()
        if self.process is not None and self.dice.random() < 0.3:
            self._kill()
        self.disk = "sound"

    def _jump(self) -> None:
        jump = self.dice.choice((-7_200_000, -60_000, -3_000, 3_000, 60_000, 7_200_000))
        self.seen["clock_back" if jump < 0 else "clock_forward"] += 1
        assert self.process is not None
        self.clock.jump(jump)
        self.jumped = True
        self.process.wake()
        self._after_run()

    def _pause(self) -> None:
        if self.world.instances.pause(1, reason="storm", now_ms=self.world.now_ms):
            self.seen["paused"] += 1
        self.paused = True
        self.in_flight_at_pause = {row[0] for row in self.world.rows("SELECT id FROM attempt WHERE outcome IS NULL")}

    def _resume(self) -> None:
        self.paused = False
        self.world.instances.resume(1, now_ms=self.world.clock.wall_ms())
        self.world.instances.release(1, now_ms=self.world.now_ms)  # as `wa instance resume` does
        # And a look finds the device there again, where a post was told that it was not.
        back = Connection(state=ConnectionState.READY, raw="WORKING")
        self.world.instances.note_connection(1, back, now_ms=self.world.now_ms)
        if self.process is not None:
            self.process.wake()
            self._after_run()

    def _cancel(self) -> None:
        waiting = [row[0] for row in self.world.rows("SELECT id FROM message WHERE state = 'queued'")]
        if not waiting:
            return
        chosen = self.dice.sample(waiting, min(len(waiting), self.dice.randint(1, 3)))
        self.seen["cancelled"] += self.world.messages.cancel(chosen, now_ms=self.world.now_ms).count

    def _look_after(self) -> None:
        now_ms = self.world.now_ms
        self.world.queue.expire(now_ms=now_ms)
        due = {
            row[0]
            for row in self.world.rows(
                """SELECT message.id FROM message JOIN batch ON batch.id = batch_id
                WHERE state = 'unknown' AND on_unknown = 'resend'"""
            )
        }
        self.seen["requeued_unknown"] += self.world.queue.requeue_unknown(
            older_than_ms=now_ms - UNKNOWN_WAIT_MS, now_ms=now_ms
        )
        self.resent |= {message_id for message_id in due if self.world.state(message_id) is State.QUEUED}
        if self.process is not None:
            self.process.wake()
            self._after_run()

    def _change_weather(self) -> None:
        self.platform.weather = self.dice.choice(("fair", "rough", "throttling", "unreadable"))
        self.platform.is_cut_off = self.dice.random() < 0.25

    def _enqueue(self) -> None:
        dice, world = self.dice, self.world
        body = dice.choice(WORDS)
        lines = []
        for _line in range(dice.choice((1, 1, 3, 6, 10))):
            words = body if dice.random() < 0.8 else dice.choice(WORDS)
            key = f"line-{dice.randint(1, 30)}" if dice.random() < 0.06 else None
            skip = "cannot be reached" if dice.random() < 0.05 else None
            lines.append(line(dice.randint(1, PEOPLE), words, key=key, skip_reason=skip))
        options: dict[str, Any] = {
            "delay_ms": dice.choice((0, 0, 500, 2_000, 2_000, 7_000)),
            "in_ms": dice.choice((0, 0, 0, 5_000, 90_000)),
            "immediate": dice.random() < 0.1,
            "again": dice.random() < 0.1,
            "on_unknown": dice.choice(
                (OnUnknown.HOLD, OnUnknown.HOLD, OnUnknown.HOLD, OnUnknown.RESEND, OnUnknown.SKIP)
            ),
            "max_attempts": dice.choice((1, 2, 5)),
            "expires_in_ms": dice.choice((None, None, None, 100_000, 600_000)),
            "max_queue_size": dice.choice((0, 0, 0, 20)),
        }
        if not options["again"] and dice.random() < 0.25:
            options["key"] = f"order:{dice.randint(1, 6)}"
            if dice.random() < 0.5 and options["key"] in self.keys:
                lines = self.keys[options["key"]]
        is_known_key = options.get("key") in self.keys
        waiting = self.world.value("SELECT count(*) FROM message WHERE state = 'queued'")
        before = self.world.value("SELECT ifnull(sum(n), 0) FROM tally")
        try:
            answers = world.enqueue(lines, **options)
        except (Conflict, Refused) as error:
            self.seen["conflict" if isinstance(error, Conflict) else "refused"] += 1
            if self.world.value("SELECT ifnull(sum(n), 0) FROM tally") != before:
                self.faults.append(f"a refused call has written something: {error}")
            return
        key = options.get("key")
        if key and lines != self.keys.setdefault(key, lines):
            self.faults.append(f"the key {key} was taken for other content")
        room = options["max_queue_size"]
        if room and not (key and is_known_key) and waiting + len(lines) > room:
            self.faults.append(f"{len(lines)} lines went into a queue of {waiting} that holds {room}")
        self._take_down(answers, lines, options)
        if self.process is not None:
            self.process.wake()
            self._after_run()

    def _enqueue_long(self) -> None:
        """A call of two chunks, with the send loop at work between them."""
        from wa_cli.store.sqlite.intake import CHUNK_ROWS, SqliteIntake

        words = f"long {len(self.asked)}"
        lines = [line(1_000 + number, words) for number in range(CHUNK_ROWS + 3)]
        overlapping = [line(1_000 + number, words) for number in (0, 2, CHUNK_ROWS + 1)]
        options: dict[str, Any] = {"expires_in_ms": 300_000, "on_unknown": OnUnknown.HOLD}
        overlaps: list[Any] = []
        storm = self

        class Watched(SqliteIntake):
            """Lets the send loop run after every chunk, and the same words come in by another call."""

            @contextmanager
            def _transaction(self, *, is_dry_run: bool) -> Iterator[Any]:
                with super()._transaction(is_dry_run=is_dry_run) as connection:
                    yield connection
                if overlapping and storm.dice.random() < 0.7:
                    mine, overlapping[:] = list(overlapping), []
                    overlaps.append((storm.world.enqueue(mine, **options), mine))
                if storm.process is not None:
                    storm.process.run_for(storm.dice.choice((10, 5_000)))

        watched = Watched(self.world.database, self.world.owner)
        answers = self.world.enqueue(lines, intake=watched, unique=True, **options)
        self.seen["batch_released_late"] += 1
        self._take_down(answers, lines, options)
        for their_answers, mine in overlaps:
            self._take_down(their_answers, mine, options)
        # Two thousand messages would take the storm's whole time: most of them are called off again.
        surplus = [answer.message_id for answer in answers if answer.outcome == "queued"][5:-3]
        self.world.messages.cancel(surplus, now_ms=self.world.now_ms)
        self._after_run()

    def _take_down(self, answers: list[Any], lines: list[Any], options: dict[str, Any]) -> None:
        """What the caller was told."""
        is_repeat = bool(options.get("key")) and all(answer.outcome == "duplicate" for answer in answers)
        if len(answers) != len(lines) and not is_repeat:  # a repeated key is answered with what it had queued
            self.faults.append(f"{len(lines)} lines were given and {len(answers)} answered")
        expires_in = options.get("expires_in_ms")
        for answer, one in zip(answers, lines, strict=False):
            self.seen[answer.outcome] += 1
            self.answers[answer.outcome] += 1
            if answer.outcome == "duplicate":
                self.named.add(answer.message_id)
                continue
            if answer.message_id in self.asked:
                self.faults.append(f"m{answer.message_id} was given out twice")
            self.asked[answer.message_id] = Asked(
                message_id=answer.message_id,
                address=one.address,
                body=one.encoded,
                on_unknown=options["on_unknown"],
                is_meant=bool(options.get("again") or options.get("key") or one.key),
                expires_at_ms=None if expires_in is None else self.world.now_ms + expires_in,
            )

    # --- looked at while it happens ---

    def check_post(self, post: Post) -> None:
        """At the moment of a post its start must be in the store, under the epoch that may send."""
        attempt_id = int(post.tag.rsplit(".", 1)[1])
        rows = self.world.rows(
            """SELECT message.state, attempt.outcome, attempt.epoch, contact.address, batch.released_at IS NOT NULL
            FROM attempt JOIN message ON message.id = attempt.message_id
            JOIN contact ON contact.id = message.contact_id JOIN batch ON batch.id = message.batch_id
            WHERE attempt.id = ?""",
            attempt_id,
        )
        if rows != [("sending", None, self.epoch, post.address, 1)]:
            self.faults.append(f"posted attempt {attempt_id} while the store says {rows} (epoch {self.epoch})")
        if self.paused and attempt_id not in self.in_flight_at_pause:
            self.faults.append(f"attempt {attempt_id} was started after the pause")

    # --- afterwards ---

    def _calm_down(self) -> None:
        """The storm is over: everything that can still be sent is sent, by a process that nobody disturbs."""
        self.platform.is_mild = True
        self.disk = "sound"
        self._resume()
        if self.process is not None and self.dice.random() < 0.5:
            self._kill()
        if self.process is None:
            self._start()
        process = self.process
        assert process is not None
        end = self.clock.steady_ms() + MERCY_MS
        for _round in range(MERCY_ROUNDS):
            if self.clock.steady_ms() > end:
                break
            waiting = self.world.rows("SELECT min(due_at) FROM message WHERE state IN ('queued', 'sending')")[0][0]
            if waiting is None:
                break
            self._resume()  # an answer from the storm may still have stopped the instance
            process.run_for(min(max(waiting - self.world.now_ms, 1_000), 3_600_000))
            self._after_run()
            if self.faults or self.process is None:
                return
        process.finish()
        self.process = None

    def _check(self) -> None:
        self._check_store()
        self._check_messages()
        self._check_words()
        if self.limits != Limits():
            self._check_limits()
        self._check_spacing()

    def _check_store(self) -> None:
        self.faults += self.world.find_faults()
        kept = dict(self.world.rows("SELECT state, sum(n) FROM tally GROUP BY state HAVING sum(n) <> 0"))
        counted = dict(self.world.rows("SELECT state, count(*) FROM message GROUP BY state"))
        if kept != counted:
            self.faults.append(f"tally {kept} is not {counted}")
        if sum(kept.values()) != self.answers["queued"] + self.answers["skipped"]:
            self.faults.append(f"LOST or invented: {self.answers} asked, {kept} kept")

    def _check_messages(self) -> None:
        told = {entry.attempt_id: entry for entry in self.platform.ledger}
        if len(told) != len(self.platform.ledger):
            self.faults.append("DUP: one attempt was posted twice")
        rows = {row[0]: (State(row[1]), row[2]) for row in self.world.rows("SELECT id, state, reason FROM message")}
        attempts: dict[int, list[tuple[int, str | None]]] = defaultdict(list)
        for attempt_id, message_id, outcome in self.world.rows(
            "SELECT id, message_id, outcome FROM attempt ORDER BY id"
        ):
            attempts[message_id].append((attempt_id, outcome))
        if self.named - self.asked.keys():
            self.faults.append(f"LOST: {sorted(self.named - self.asked.keys())} were named as duplicates, never queued")
        missing = self.asked.keys() - rows.keys()
        if missing:
            self.faults.append(f"LOST: {sorted(missing)} were queued and are gone")
        known_attempts = {attempt_id for listed in attempts.values() for attempt_id, _outcome in listed}
        if told.keys() - known_attempts:
            self.faults.append(f"posts without an attempt: {sorted(told.keys() - known_attempts)}")
        for message_id, (state, reason) in rows.items():
            asked = self.asked[message_id]
            entries = [told[attempt_id] for attempt_id, _outcome in attempts[message_id] if attempt_id in told]
            self.seen[str(state)] += 1
            self._check_one(asked, state, reason, entries, attempts[message_id])

    def _check_one(
        self,
        asked: Asked,
        state: State,
        reason: str | None,
        entries: list[Entry],
        attempts: list[tuple[int, str | None]],
    ) -> None:
        name = f"m{asked.message_id}"
        acceptances = sum(entry.was_accepted for entry in entries)
        was_resent = asked.message_id in self.resent
        if any(entry.address != asked.address for entry in entries):
            self.faults.append(f"LIE: {name} went to somebody else")
        if asked.expires_at_ms is not None and any(entry.wall_ms >= asked.expires_at_ms for entry in entries):
            self.faults.append(f"LATE: {name} was posted after it had expired")
        if acceptances > 1 and not was_resent:
            self.faults.append(f"DUP: {name} was accepted {acceptances} times")
        if was_resent and asked.on_unknown is not OnUnknown.RESEND:
            self.faults.append(f"DUP: {name} was queued again though its policy is {asked.on_unknown}")
        if state in (State.QUEUED, State.SENDING):
            self.faults.append(f"LOST: {name} is {state} ({reason}) long after the storm")
        if state is State.SENT and not acceptances:
            self.faults.append(f"LIE: {name} is sent and was never accepted")
        was_skipped_unknown = state is State.SKIPPED and asked.on_unknown is OnUnknown.SKIP
        if acceptances and state not in MAY_BE_ACCEPTED and not was_skipped_unknown and not was_resent:
            self.faults.append(f"LIE: {name} is {state} ({reason}) and was accepted")
        open_ends = [
            attempt_id
            for attempt_id, _outcome in attempts
            if (attempt_id in self.orphans and attempt_id not in self.settled)
            or any(entry.attempt_id == attempt_id and isinstance(entry.told, Ambiguous) for entry in entries)
        ]
        should_be_open = bool(open_ends) and asked.on_unknown is not OnUnknown.SKIP and not was_resent
        if should_be_open and state is not State.UNKNOWN:
            self.faults.append(f"UNKNOWN: {name} is {state} ({reason}), but attempt {open_ends} is open")
        if open_ends and asked.on_unknown is OnUnknown.SKIP and state is not State.SKIPPED:
            self.faults.append(f"UNKNOWN: {name} is {state} ({reason}), but its policy is to skip it")
        if state is State.UNKNOWN and not open_ends:
            self.faults.append(f"UNKNOWN: {name} is unknown, but every attempt is clear: {attempts}")
        for attempt_id, outcome in attempts:
            if outcome is None:
                self.faults.append(f"attempt {attempt_id} of {name} has no end")
            entry = next((entry for entry in entries if entry.attempt_id == attempt_id), None)
            if outcome == "accepted" and not (entry and entry.was_accepted and isinstance(entry.told, Accepted)):
                self.faults.append(f"LIE: attempt {attempt_id} of {name} is accepted, and the ledger knows nothing")
            if outcome == "rejected" and not (entry and isinstance(entry.told, Rejected)):
                self.faults.append(f"LIE: attempt {attempt_id} of {name} is rejected, and nobody rejected it")
            if outcome == "not_sent" and entry is not None:
                self.faults.append(f"LIE: attempt {attempt_id} of {name} is not_sent, and it arrived")

    def _check_words(self) -> None:
        """Nobody was written the same words twice who was not meant to be."""
        by_tag = {entry.attempt_id: entry for entry in self.platform.ledger if entry.was_accepted}
        accepted_ids: dict[tuple[str, str], set[int]] = defaultdict(set)
        for attempt_id, message_id in self.world.rows("SELECT id, message_id FROM attempt"):
            asked = self.asked[message_id]
            if attempt_id in by_tag and not asked.is_meant:
                accepted_ids[asked.address, asked.body].add(message_id)
        for (address, body), message_ids in accepted_ids.items():
            if len(message_ids) < 2 or self.clock.steady_ms() > 80_000_000 or self.seen["clock_forward"]:
                continue  # the window of a day may be over
            self.faults.append(f"DUP: {address} got {body} as {sorted(message_ids)}")

    def _check_limits(self) -> None:
        limits = self.limits
        segments: dict[int, list[Entry]] = defaultdict(list)
        for entry in self.platform.ledger:
            segments[entry.segment].append(entry)
        for entries in segments.values():
            times = [entry.at_ms for entry in entries]
            for size, span in (
                (limits.per_second, SECOND_MS),
                (limits.per_minute, MINUTE_MS),
                (limits.per_hour, HOUR_MS),
            ):
                if size:
                    self._check_window("the instance", times, size, span)
            if limits.gap_ms:
                self._check_gap("the instance", times, limits.gap_ms)
            people: dict[str, list[float]] = defaultdict(list)
            for entry in entries:
                people[entry.address].append(entry.at_ms)
            for address, theirs in people.items():
                if limits.recipient_per_minute:
                    self._check_window(address, theirs, limits.recipient_per_minute, MINUTE_MS)
                if limits.recipient_gap_ms:
                    self._check_gap(address, theirs, limits.recipient_gap_ms)

    def _check_window(self, whose: str, times: list[float], size: int, span: float) -> None:
        for first, last in zip(times, times[size:], strict=False):
            if last - first <= span - 0.5:
                self.faults.append(f"RATE: {whose} had {size + 1} posts within {last - first:.1f} of {span:.0f} ms")
                return

    def _check_gap(self, whose: str, times: list[float], gap: float) -> None:
        for earlier, later in pairwise(times):
            if later - earlier < gap - 1.5:
                self.faults.append(f"RATE: {whose} had two posts {later - earlier:.1f} ms apart, not {gap}")
                return

    def _check_spacing(self) -> None:
        """Messages of one spaced call leave spaced, whatever happened (row R5)."""
        spaced: dict[tuple[int, int], list[float]] = defaultdict(list)
        delays: dict[int, int] = {}
        batches = {
            row[0]: (row[1], row[2])
            for row in self.world.rows(
                """SELECT attempt.id, batch.id, batch.delay_ms FROM attempt JOIN message ON message.id = message_id
                JOIN batch ON batch.id = message.lane & 1099511627775"""
            )
        }
        for entry in self.platform.ledger:
            if entry.attempt_id in batches:
                batch_id, delays[batch_id] = batches[entry.attempt_id]
                spaced[batch_id, entry.segment].append(entry.at_ms)
        for (batch_id, _segment), times in spaced.items():
            if delays[batch_id]:
                self._check_gap(f"batch {batch_id}", times, delays[batch_id] - min(50.0, delays[batch_id] / 4))
