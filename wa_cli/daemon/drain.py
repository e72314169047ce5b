"""One shot: send what is due inside the limits, then stop.  For cron, and for `wa send --wait`."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from wa_cli.daemon.campaigning import campaigns_looked_after, look_once
from wa_cli.daemon.linking import await_ready, connection_followed
from wa_cli.daemon.loops import run_in_loop
from wa_cli.daemon.sending import Interrupts, Loops, look_after_queue, new_writer_thread, open_sender, watch_file
from wa_cli.domain.connection import Connection
from wa_cli.errors import StorageBroken, Temporary, WaError
from wa_cli.ports import Holder, Sums
from wa_cli.services.connections import describe_loss
from wa_cli.services.turns import LeaseLost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    from wa_cli.bootstrap import App
    from wa_cli.ports import Instance, Record
    from wa_cli.services.dispatch import SendLoop

# Without --max-runtime a drain sits out the gaps between messages, but not an hourly limit.
PATIENCE_SECONDS: Final = 60.0
# How long a drain keeps outcomes in memory while the disk is full, before it gives up and says so.
STORE_PATIENCE_SECONDS: Final = 60.0
# And how long it tries to reach the other side, if no --max-runtime says otherwise: three tries, 1 and 2 s apart.
GATEWAY_PATIENCE_SECONDS: Final = 6.0
# One batch of the worker: shorter than the patience of cron services and of the proxies in between.
BATCH_SECONDS: Final = 25.0
BATCH_PATIENCE_SECONDS: Final = 1.0


@dataclass(slots=True, kw_only=True)
class DrainReport:
    """What a drain did.  holder: who was sending instead, if somebody was.

    unreachable: why the other side could not be reached when it was last tried, or None.
    """

    sums: Sums = field(default_factory=Sums)
    holder: Holder | None = None
    exit_code: int = 0
    trouble: WaError | None = None
    unreachable: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainTerms:
    """How a drain sends, for each of its instances alike; the fields as in `drain`.

    patience_seconds: what a gap between two messages may take.  gateway_patience_seconds: how long it tries to reach
    the other side, None for as long as it runs.
    """

    role: str
    max_runtime_seconds: float | None = None
    patience_seconds: float = PATIENCE_SECONDS
    gateway_patience_seconds: float | None = None
    only_batch: int | None = None
    until_settled: bool = False
    on_progress: Callable[[Record], None] | None = None


def drain(
    app: App,
    instances: Sequence[Instance],
    *,
    role: str = "drain",
    max_runtime_seconds: float | None = None,
    limit: int | None = None,
    only_batch: int | None = None,
    until_settled: bool = False,
    on_progress: Callable[[Record], None] | None = None,
) -> DrainReport:
    """Send for these instances until nothing is due, the limit is reached, or the time is over.

    until_settled: with only_batch, stay until every message of the batch has an outcome, however far it is scheduled.
    """
    terms = DrainTerms(
        role=role,
        max_runtime_seconds=max_runtime_seconds,
        gateway_patience_seconds=GATEWAY_PATIENCE_SECONDS
        if max_runtime_seconds is None and not until_settled
        else None,
        only_batch=only_batch,
        until_settled=until_settled,
        on_progress=on_progress,
    )
    return run_in_loop(_drain(app, instances, terms, limit=limit))


async def _drain(app: App, instances: Sequence[Instance], terms: DrainTerms, *, limit: int | None) -> DrainReport:
    interrupts = Interrupts()
    interrupts.install()
    executor = new_writer_thread()
    try:
        report = await _send_due(
            app,
            instances,
            terms,
            limit=limit,
            executor=executor,
            call_on_stop=interrupts.call_on_first,
            was_stopped=lambda: interrupts.received is not None,
        )
    finally:
        executor.shutdown(wait=True)
    report.exit_code = interrupts.exit_code
    return report


async def drain_in_loop(
    app: App, instances: Sequence[Instance], *, limit: int, executor: Executor, stop: asyncio.Event
) -> DrainReport:
    """One batch on a running event loop: what is due now, at most `limit` messages, and gaps of a second at most.

    executor: the one thread that uses the app.  stop: set when it has to come to its end.
    Source: rows Q1 and Q8.
    """
    loop = asyncio.get_running_loop()
    now_ms = app.clock.wall_ms()
    await loop.run_in_executor(executor, lambda: app.bury_dead(now_ms=now_ms))
    # An empty queue needs no client, no lease and no network: most calls of a cron service end here.
    await loop.run_in_executor(executor, look_once, app)
    due = await loop.run_in_executor(executor, find_due, app, instances, now_ms)
    if not due:
        return DrainReport()
    waiting: list[asyncio.Task[None]] = []

    async def call_then(callback: Callable[[], None]) -> None:
        await stop.wait()
        callback()

    terms = DrainTerms(
        role="drain",
        max_runtime_seconds=BATCH_SECONDS,
        patience_seconds=BATCH_PATIENCE_SECONDS,
        gateway_patience_seconds=BATCH_PATIENCE_SECONDS,
    )
    try:
        return await _send_due(
            app,
            due,
            terms,
            limit=limit,
            executor=executor,
            call_on_stop=lambda callback: waiting.append(loop.create_task(call_then(callback))),
            was_stopped=stop.is_set,
        )
    finally:
        for task in waiting:
            task.cancel()


def find_due(app: App, instances: Sequence[Instance], until_ms: int) -> list[Instance]:
    """Those for which something is due by then."""
    due_at_ms = {one.id: app.messages.next_due_at_ms(one.id) for one in instances}
    return [one for one in instances if (at_ms := due_at_ms[one.id]) is not None and at_ms <= until_ms]


async def _send_due(
    app: App,
    instances: Sequence[Instance],
    terms: DrainTerms,
    *,
    limit: int | None,
    executor: Executor,
    call_on_stop: Callable[[Callable[[], None]], None],
    was_stopped: Callable[[], bool],
) -> DrainReport:
    """All of them side by side; one after another where they share a limit."""
    in_thread = asyncio.get_running_loop().run_in_executor
    await in_thread(executor, look_after_queue, app)
    has_campaigns = await in_thread(executor, look_once, app)
    loops = Loops()
    call_on_stop(loops.stop)
    deadline_ms = None
    if terms.max_runtime_seconds is not None:
        deadline_ms = app.clock.steady_ms() + terms.max_runtime_seconds * 1000
        asyncio.get_running_loop().call_later(terms.max_runtime_seconds, loops.stop)
    watcher = asyncio.create_task(watch_file(app, loops, executor=executor))
    reports: list[DrainReport] = []

    async def send(instance: Instance, left: int | None) -> None:
        try:
            report = await _send_for(
                app, instance, terms, limit=left, deadline_ms=deadline_ms, loops=loops, executor=executor
            )
        except StorageBroken:  # ends all of them
            raise
        except WaError as error:  # the others go on
            report = DrainReport(trouble=error)
        if report.unreachable and report.trouble is None and not was_stopped():
            report.trouble = Temporary(
                f"{_name_far_end(app, instance)} could not be reached: {report.unreachable}",
                hint="nothing in the queue is lost; run the same command later, `wa doctor` looks for the reason",
                code="unreachable",
            )
        reports.append(report)

    try:
        async with campaigns_looked_after(app) if has_campaigns else nullcontext():
            if limit is None:
                async with asyncio.TaskGroup() as group:
                    for instance in instances:
                        group.create_task(send(instance, None))
            else:
                for instance in instances:
                    left = limit - sum(report.sums.started for report in reports)
                    if left > 0 and not loops.is_stopped:
                        await send(instance, left)
    except* StorageBroken as group_error:  # one of them found the store in such trouble that all have ended
        raise _first_error(group_error) from group_error
    finally:
        watcher.cancel()
    if has_campaigns:
        await in_thread(executor, look_once, app)
    return _merge(reports)


async def _send_for(
    app: App,
    instance: Instance,
    terms: DrainTerms,
    *,
    limit: int | None,
    deadline_ms: float | None,
    loops: Loops,
    executor: Executor,
) -> DrainReport:
    report = DrainReport()
    async with open_sender(
        app,
        instance,
        role=terms.role,
        executor=executor,
        only_batch=terms.only_batch,
        start_limit=limit,
        on_progress=terms.on_progress,
    ) as sender:
        if isinstance(sender, Holder):
            report.holder = sender
            return report
        loop = sender.loop
        await await_ready(app, instance, executor=executor)
        guards = [asyncio.create_task(_give_up_on_store(loop))]
        if terms.gateway_patience_seconds is not None:
            guards.append(asyncio.create_task(_give_up_on_gateway(loop, terms.gateway_patience_seconds)))
        try:
            async with connection_followed(app, instance, wake=loop.wake, executor=executor):
                with loops.holding(instance.id, loop):
                    await loop.run(
                        until_idle=True,
                        patience_seconds=terms.patience_seconds,
                        deadline_ms=deadline_ms,
                        waits_for_schedule=terms.until_settled,
                    )
        except LeaseLost as error:
            report.trouble = error
        finally:
            for guard in guards:
                guard.cancel()
            report.sums = loop.sums
        report.trouble = report.trouble or loop.trouble
        if report.trouble is None and loop.lost is not None and not loops.is_stopped:
            found = await asyncio.get_running_loop().run_in_executor(executor, app.instances.find, instance.name)
            raw, reason = found.connection_raw or "", found.connection_reason
            report.trouble = describe_loss(instance.name, Connection(state=loop.lost, raw=raw, reason=reason))
        report.unreachable = loop.unreachable
    return report


def _name_far_end(app: App, instance: Instance) -> str:
    is_linked = app.provider(instance).capabilities.is_linked_device
    return f"the gateway of '{instance.name}'" if is_linked else "WhatsApp"


def _first_error(group: BaseExceptionGroup[StorageBroken]) -> WaError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, WaError)
    return error


def _merge(reports: Sequence[DrainReport]) -> DrainReport:
    """One report of all.  holder: only when each of them had one."""
    whole = DrainReport()
    for report in reports:
        whole.sums.add(report.sums)
        whole.trouble = whole.trouble or report.trouble
    if reports and all(report.holder is not None for report in reports):
        whole.holder = reports[0].holder
    return whole


async def _give_up_on_store(loop: SendLoop) -> None:
    """A cron job must not wait for ever on a full disk: after a while the loop is told to stop."""
    troubled_for = 0.0
    while True:
        await asyncio.sleep(1.0)
        troubled_for = troubled_for + 1.0 if loop.trouble else 0.0
        if troubled_for >= STORE_PATIENCE_SECONDS:
            loop.abandon()
            return


async def _give_up_on_gateway(loop: SendLoop, patience_seconds: float) -> None:
    """Nor for a network that is down: the next run tries again, and the daemon is there for those who want to wait."""
    unreachable_for = 0.0
    while True:
        await asyncio.sleep(1.0)
        unreachable_for = unreachable_for + 1.0 if loop.unreachable else 0.0
        if unreachable_for >= patience_seconds:
            loop.stop()
            return
