"""Following the connection of a linked device beside its send loop, and climbing the ladder when it is lost.

The loop sends only while the stored state says READY; this keeps that state true, and decides nothing that
`domain.ladder` has not decided.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from wa_cli.domain.connection import Connection, ConnectionState, RestartKind
from wa_cli.domain.ladder import (
    LONGEST_LOOK_MS,
    LOOK_PATIENCE_SECONDS,
    TOLD_LATELY_MS,
    Past,
    Rung,
    Step,
    choose_step,
    wait_for_belief_ms,
)
from wa_cli.domain.retry import Restrict, Stop
from wa_cli.errors import GatewayRefused, NeedsPerson, NotFound, StorageBroken, Temporary, UsageError, WaError
from wa_cli.services.connections import describe_loss, read_restarts, take_rung

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from concurrent.futures import Executor

    from wa_cli.bootstrap import App
    from wa_cli.ports import Clock, Instance
    from wa_cli.provider import Gateway

log = logging.getLogger("wa.connection")

# How long a drain waits for a device that is about to be ready: a session that has to be started takes some seconds.
READY_PATIENCE_SECONDS: Final = 8.0
# How long a gateway may take to accept a start or a restart.  Some answer only when the session is up.
RESTART_PATIENCE_SECONDS: Final = 30.0
# Looking again at once, when something else has written the state while we looked.
OVERTAKEN_LOOK_MS: Final = 250.0
DENIALS_REMEMBERED_MS: Final = 600_000


@asynccontextmanager
async def connection_followed(
    app: App,
    instance: Instance,
    *,
    wake: Callable[[], None],
    executor: Executor,
    clock: Clock | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    jitter: Callable[[], float] = random.random,
) -> AsyncIterator[None]:
    """Follow the instance's connection for as long as the block runs; nothing to do where it has none to lose.

    For whoever holds the lease.  wake: called when the state has changed.  executor: the thread that uses the app.
    clock: the app's unless given; sleep: takes seconds.
    Raises: UsageError at once when the account is not set up.
    """
    if not app.provider(instance).capabilities.is_linked_device:
        yield
        return
    gateway = app.gateway(instance)
    follower = Follower(
        app, instance, gateway, executor=executor, clock=clock or app.clock, jitter=jitter, on_change=wake
    )
    following = asyncio.create_task(_follow(follower, sleep), name=f"follow {instance.name}")
    # The loop meets the same trouble with the store; it should not wait for its next alarm to do so.
    following.add_done_callback(lambda task: None if task.cancelled() else wake())
    try:
        yield
    finally:
        following.cancel()
        await asyncio.wait([following])
        await gateway.close()
        if not following.cancelled():
            following.result()  # the store cannot be trusted any more: say why


async def _follow(follower: Follower, sleep: Callable[[float], Awaitable[None]]) -> None:
    while not follower.is_over:
        await sleep(await follower.look() / 1000)


async def await_ready(
    app: App,
    instance: Instance,
    *,
    executor: Executor,
    patience_seconds: float = READY_PATIENCE_SECONDS,
    clock: Clock | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    jitter: Callable[[], float] = random.random,
) -> None:
    """Look at the instance's connection and give it some seconds to be ready: for a drain, before its first post.

    A session that does not run is started, within the limits of the ladder.  Returns at once for an instance that has
    no connection to lose, and for one that is paused.
    Raises: NeedsPerson when the device has to be paired; Temporary when it is not ready in time; UsageError when the
    gateway refuses our key or the account is not set up.
    """
    if instance.paused_at_ms is not None or not app.provider(instance).capabilities.is_linked_device:
        return
    clock = clock or app.clock
    gateway = app.gateway(instance)
    follower = Follower(app, instance, gateway, executor=executor, clock=clock, jitter=jitter)
    ends_ms = clock.steady_ms() + patience_seconds * 1000
    try:
        while True:
            look_in_ms = await follower.look()
            if follower.key_refusal is not None:
                raise follower.key_refusal
            found = follower.found or _gone("it could not be looked at in time")
            if follower.is_over or follower.is_paused or found.state is ConnectionState.READY:
                return
            trouble = describe_loss(instance.name, found)
            left_ms = ends_ms - clock.steady_ms()
            if isinstance(trouble, NeedsPerson) or left_ms <= 0:
                raise trouble
            await sleep(min(look_in_ms, left_ms) / 1000)
    finally:
        await gateway.close()


class Follower:
    """One look after the other at a device, and what follows from each.

    on_change: called when the stored state has changed, on the event loop's thread.
    found: what the last look that counted has found.  key_refusal: the gateway does not know our key.
    is_over: the instance has been removed.  is_paused: it was, at the last look.
    """

    def __init__(
        self,
        app: App,
        instance: Instance,
        gateway: Gateway,
        *,
        executor: Executor,
        clock: Clock,
        jitter: Callable[[], float],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._app = app
        self._instance = instance
        self._gateway = gateway
        self._executor = executor
        self._clock = clock
        self._jitter = jitter
        self._on_change = on_change
        self._terms = app.ladder_terms(instance)
        self._has_events = app.provider(instance).capabilities.state_events
        self._looks = 0
        self._lost_since_ms: int | None = None
        self._answered_since_ms = 0
        self._state_since: tuple[ConnectionState | None, int] = (None, 0)
        self._was_overtaken = False
        self._believed_ready = False  # what we wrote last
        self._denied_at_ms: list[int] = []  # when others found it not ready although we had
        self.found: Connection | None = None
        self.key_refusal: UsageError | None = None
        self.is_over = False
        self.is_paused = False

    async def look(self) -> float:
        """Look, remember, and do what the ladder says.  Returns in how many ms to look again.

        Raises: StorageBroken.
        """
        loop = asyncio.get_running_loop()
        began_ms = self._clock.wall_ms()
        found, is_answer = await self._ask()
        try:
            step, has_changed = await loop.run_in_executor(self._executor, self._settle, found, is_answer, began_ms)
        except NotFound:
            log.info("'%s' has been removed: its connection is no longer followed", self._instance.name)
            self.is_over = True
            return 0.0
        except StorageBroken:
            raise
        except WaError as error:  # a busy or full store: the next look will tell
            log.warning("connection of '%s': %s", self._instance.name, error.message)
            return float(LONGEST_LOOK_MS)
        if has_changed:
            self._on_change()
        if isinstance(step.act, Rung):
            await self._climb(step.act)
        return step.look_in_ms

    async def _ask(self) -> tuple[Connection, bool]:
        """What the gateway says, in our words also where it says nothing; and whether it answered at all."""
        self.key_refusal = None
        try:
            async with asyncio.timeout(LOOK_PATIENCE_SECONDS):
                return await self._gateway.look(), True
        except TimeoutError:
            return _gone("the gateway does not answer in time"), False
        except Temporary as error:
            return _gone(error.message), False
        except UsageError as error:
            self.key_refusal = error
            return Connection(state=ConnectionState.ERROR, raw=error.code, reason=error.message), False
        except GatewayRefused as error:
            return Connection(state=ConnectionState.ERROR, raw=error.code, reason=error.message), True
        except Exception as error:  # a bug in a gateway's reading may not leave the state untold
            is_new = self.found is None or self.found.raw != "unreadable"
            log.warning("a look at '%s' failed in an unforeseen way", self._instance.name, exc_info=is_new)
            words = f"what the gateway says cannot be read ({type(error).__name__})"
            return Connection(state=ConnectionState.ERROR, raw="unreadable", reason=words), False

    async def _climb(self, rung: Rung) -> None:
        """Ask the gateway to bring the device back.  What it says now matters less than what the next look finds."""
        words = "starting it" if rung is Rung.START else f"{rung} restart"
        log.warning("'%s' is not connected: %s", self._instance.name, words)
        try:
            async with asyncio.timeout(RESTART_PATIENCE_SECONDS):
                if rung is Rung.START:
                    await self._gateway.start()
                else:
                    await self._gateway.restart(RestartKind(rung.value))
        except TimeoutError:
            log.warning("the gateway of '%s' has not answered the %s", self._instance.name, rung)
        except WaError as error:
            log.warning("the gateway of '%s' did not take the %s: %s", self._instance.name, rung, error.message)
        except Exception:
            log.exception("a %s of '%s' failed in an unforeseen way", rung, self._instance.name)

    # --- on the writer thread ---

    def _settle(self, found: Connection, is_answer: bool, began_ms: int) -> tuple[Step, bool]:
        """Store what was found, and decide.  True: the stored state is another one now."""
        instances = self._app.instances
        now_ms = self._clock.wall_ms()
        instance = instances.find(self._instance.name)
        if instance.id != self._instance.id:
            raise NotFound(f"no instance named '{self._instance.name}'")
        self.is_paused = instance.paused_at_ms is not None
        if self._is_overtaken(instance, began_ms=began_ms):
            return Step(look_in_ms=OVERTAKEN_LOOK_MS), False
        if found.state is ConnectionState.READY:
            doubt_ms = self._doubt_ms(instance, now_ms=now_ms)
            if doubt_ms > 0:
                return Step(look_in_ms=min(doubt_ms, LONGEST_LOOK_MS)), False
        self.found = found
        self._keep_times(instance, found, is_answer=is_answer, now_ms=now_ms)
        has_changed = instances.note_connection(instance.id, found, now_ms=now_ms)
        self._believed_ready = found.state is ConnectionState.READY
        if found.restriction is not None:
            has_changed |= instances.restrict(instance.id, Restrict(restriction=found.restriction), now_ms=now_ms)
        if has_changed:
            log.info("'%s' is %s%s", instance.name, found.state, f": {found.reason}" if found.reason else "")
        past = self._read_past(instance, now_ms=now_ms)
        step = choose_step(found if is_answer else None, past, self._terms, now_ms=now_ms, jitter=self._jitter())
        if self._believed_ready:
            self._looks = 0
            return step, has_changed
        self._looks += 1
        if isinstance(step.act, Stop):
            log.warning("'%s' is paused: %s", instance.name, step.act.reason)
            instances.stop(instance.id, step.act, now_ms=now_ms)
            return Step(look_in_ms=step.look_in_ms), True
        if isinstance(step.act, Rung):
            if not take_rung(instances, instance.id, step.act, self._terms, details=found.raw, now_ms=now_ms):
                return Step(look_in_ms=step.look_in_ms), has_changed  # a person was faster
            self._looks = 0
        return step, has_changed

    def _is_overtaken(self, instance: Instance, *, began_ms: int) -> bool:
        """Whether a webhook or a post has told of a change while we looked: then what we saw may be older."""
        was_overtaken, self._was_overtaken = self._was_overtaken, False
        if instance.connection_since_ms is None or instance.connection_since_ms <= began_ms or was_overtaken:
            return False
        self._was_overtaken = True
        return True

    def _doubt_ms(self, instance: Instance, *, now_ms: int) -> int:
        """How much longer not to believe that the device is ready, since posts or webhooks keep saying otherwise."""
        if self._believed_ready and instance.connection is not ConnectionState.READY:
            self._believed_ready = False
            self._denied_at_ms = [at for at in self._denied_at_ms if at > now_ms - DENIALS_REMEMBERED_MS]
            self._denied_at_ms.append(instance.connection_since_ms or now_ms)
        if not self._denied_at_ms or instance.connection is ConnectionState.READY:
            return 0
        return self._denied_at_ms[-1] + wait_for_belief_ms(len(self._denied_at_ms)) - now_ms

    def _keep_times(self, instance: Instance, found: Connection, *, is_answer: bool, now_ms: int) -> None:
        if found.state is ConnectionState.READY:
            self._lost_since_ms = None
        elif self._lost_since_ms is None:
            self._lost_since_ms = self._answered_since_ms = self._find_loss(instance, now_ms=now_ms)
        if not is_answer:
            self._answered_since_ms = now_ms
        if self._state_since[0] is not found.state:
            self._state_since = (found.state, now_ms)

    def _find_loss(self, instance: Instance, *, now_ms: int) -> int:
        """Since when the device is not ready, as far as it is known: an earlier process may have seen it go."""
        if instance.connection is None or instance.connection is ConnectionState.READY:
            return now_ms
        since_ms = min(instance.connection_since_ms or now_ms, now_ms)
        for event in reversed(self._app.instances.read_events(instance.id, since_ms=0, kind="state")):
            if event.word == ConnectionState.READY:
                break
            since_ms = min(since_ms, event.at_ms)
        return since_ms

    def _read_past(self, instance: Instance, *, now_ms: int) -> Past:
        heard_ms = instance.last_webhook_at_ms
        is_told = self._has_events and heard_ms is not None and now_ms - heard_ms < TOLD_LATELY_MS
        if self._lost_since_ms is None:
            return Past(lost_since_ms=now_ms, answered_since_ms=now_ms, state_since_ms=now_ms, is_told=is_told)
        restarts, resumed_at_ms = read_restarts(self._app.instances, instance.id, self._terms, now_ms=now_ms)
        return Past(
            looks=self._looks,
            lost_since_ms=self._lost_since_ms,
            answered_since_ms=self._answered_since_ms,
            state_since_ms=self._state_since[1],
            restarts=restarts,
            resumed_at_ms=resumed_at_ms,
            is_told=is_told,
            may_act=instance.paused_at_ms is None,
        )


def _gone(reason: str) -> Connection:
    return Connection(state=ConnectionState.DISCONNECTED, raw="unreachable", reason=reason)
