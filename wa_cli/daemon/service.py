"""`wa run`: APScheduler is the alarm clock, the send loop works, upkeep runs.  It decides nothing itself."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from wa_cli.daemon.campaigning import campaigns_looked_after
from wa_cli.daemon.fleet import Fleet
from wa_cli.daemon.loops import ring_later
from wa_cli.daemon.sending import Interrupts, look_after_queue, new_writer_thread, watch_file
from wa_cli.daemon.supervision import Supervisor, show_life
from wa_cli.domain.message import State, format_message_id
from wa_cli.domain.recipient import mask_address
from wa_cli.errors import StorageBroken, WaError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor
    from contextlib import AsyncExitStack

    from apscheduler.schedulers.asyncio import AsyncIOScheduler

    from wa_cli.bootstrap import App
    from wa_cli.ports import Holder, Instance, Record, Sums

log = logging.getLogger("wa.daemon")

# Nearer alarms are left to asyncio's own timer: a job costs four times as much, and 80 messages a second set 80.
SHORTEST_JOB_SECONDS: Final = 1.0
# Jobs go by the wall clock.  When that is set back, asyncio's timer rings in their place, this much after their time.
BACKSTOP_SECONDS: Final = 0.25
# A send loop that comes to the store so much later than it has to does not come any more: the longest upload takes
# 300 s, and each work on a busy file 10 s.
SILENCE_SECONDS: Final = 400.0


class Companion(Protocol):
    """What runs in the daemon's process, on a thread of its own.  Neither call takes long."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


async def run_daemon(
    app: App,
    instances: Sequence[Instance] | None = None,
    *,
    beside: Companion | None = None,
    supervisor: Supervisor | None = None,
) -> tuple[int, Holder | None]:
    """Send until a signal comes: for these instances, or for all, also those that are added meanwhile.

    beside: started first, and stopped with the first signal.  supervisor: told how the daemon is, if there is one.
    Returns the exit code, and who holds the leases if another daemon already runs.
    Raises: StorageBroken when the database cannot be trusted any more; StorageError or Temporary when it was told to
    stop while the store took no outcomes, so that some are unknown now.
    """
    interrupts = Interrupts()
    interrupts.install()
    supervisor = supervisor or Supervisor()
    interrupts.call_on_first(lambda: supervisor.tell(STOPPING=1, STATUS="finishing what is in flight"))
    if beside is not None:
        interrupts.call_on_first(beside.stop)
        beside.start()
    executor = new_writer_thread()
    scheduler = _new_scheduler()
    upkeep_seconds = max(app.settings.count("RETRY_INTERVAL_MS") / 1000, 1.0)

    async def upkeep() -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(executor, look_after_queue, app)
        except StorageBroken:
            raise
        except WaError as error:
            log.warning("upkeep: %s", error.message)

    async def begin(stack: AsyncExitStack) -> None:
        scheduler.add_job(upkeep, "interval", seconds=upkeep_seconds, id="upkeep")
        scheduler.start()
        await upkeep()
        await stack.enter_async_context(campaigns_looked_after(app))
        if interrupts.received is None:
            supervisor.tell(READY=1, STATUS="ready")

    fleet = Fleet(
        app,
        names=frozenset(one.name for one in instances) if instances is not None else None,
        executor=executor,
        alarm_of=lambda instance: _alarm_of(scheduler, f"next-due-{instance.id}"),
        on_first_lease=begin,
        on_progress=log_record,
    )
    interrupts.call_on_first(fleet.stop)
    try:
        holder = await _run_watched(app, fleet, executor=executor, supervisor=supervisor)
        if holder is None:
            log.info("stopped: %s", _describe_sums(fleet.sums))
        return 0, holder
    finally:
        if interrupts.received is None:  # it ends by itself, and says why elsewhere
            supervisor.tell(STOPPING=1)
        if scheduler.running:
            scheduler.shutdown(wait=False)
        executor.shutdown(wait=True)


async def _run_watched(app: App, fleet: Fleet, *, executor: Executor, supervisor: Supervisor) -> Holder | None:
    """The fleet, told of what others write, and watched by its supervisor."""
    showing = asyncio.create_task(
        show_life(supervisor, fleet, thread=executor, silence_seconds=longest_silence_seconds(app))
    )
    watcher = asyncio.create_task(watch_file(app, fleet, executor=executor))
    watcher.add_done_callback(lambda task: None if task.cancelled() else fleet.stop())
    try:
        holder = await fleet.run()
    finally:
        watcher.cancel()
        showing.cancel()
    if watcher.done() and not watcher.cancelled():
        watcher.result()  # the file could not be watched any more: say why
    return holder


def longest_silence_seconds(app: App) -> float:
    """How long a send loop that is well may keep away from the store: it renews its lease at a third of it at the
    latest, and one that has lost it waits for what is in flight first."""
    settings = app.settings
    return (settings.count("WA_LEASE_MS") / 3 + settings.count("WA_READ_TIMEOUT_MS")) / 1000 + SILENCE_SECONDS


def _describe_sums(sums: Sums) -> str:
    counts = {"failed": sums.failed, "to be retried": sums.retrying, "unknown": sums.unknown, "skipped": sums.skipped}
    return ", ".join([f"{sums.sent} sent", *(f"{count} {name}" for name, count in counts.items() if count)])


def _new_scheduler() -> AsyncIOScheduler:
    from apscheduler.schedulers.asyncio import AsyncIOScheduler

    # Its defaults drop a run that is a second late and pile up missed ones: an alarm clock may do neither.
    return AsyncIOScheduler(
        timezone=UTC, job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
    )


def _alarm_of(scheduler: AsyncIOScheduler, name: str) -> Callable[[float, Callable[[], None]], Callable[[], None]]:
    """An alarm of the daemon's: a date job for what is a second away or more, asyncio's timer for the rest.

    name: of its jobs, one at a time.
    """

    def set_alarm(seconds: float, ring: Callable[[], None]) -> Callable[[], None]:
        if seconds < SHORTEST_JOB_SECONDS:
            return ring_later(seconds, ring)
        at = datetime.now(UTC) + timedelta(seconds=seconds)

        async def fire() -> None:
            ring()

        job = scheduler.add_job(fire, "date", run_date=at, id=name, replace_existing=True)
        backstop = asyncio.get_running_loop().call_later(seconds + BACKSTOP_SECONDS, ring)

        def cancel() -> None:
            backstop.cancel()
            if scheduler.get_job(job.id) is not None:
                scheduler.remove_job(job.id)

        return cancel

    return set_alarm


def log_record(record: Record) -> None:
    """One line for each post that has an outcome.  Numbers are masked, ids are not."""
    finished = record.finished
    outcome = finished.outcome
    details = "" if record.state == State.SENT else f" {getattr(outcome, 'code', '')} {getattr(outcome, 'details', '')}"
    log.log(
        logging.INFO if record.state == State.SENT else logging.WARNING,
        "%s %s to %s in %d ms%s",
        format_message_id(finished.message_id),
        record.state,
        mask_address(finished.address),
        finished.latency_ms,
        details,
        extra={
            "message_id": format_message_id(finished.message_id),
            "state": str(record.state),
            "rule": record.rule,
            "latency_ms": finished.latency_ms,
        },
    )
