"""`--wait`: send what was just queued, or follow the daemon that does, until each message has an outcome."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from wa_cli.cli.session import clean_text
from wa_cli.domain.message import format_message_id
from wa_cli.domain.outcome import Accepted
from wa_cli.ports import Holder

if TYPE_CHECKING:
    from wa_cli.bootstrap import App
    from wa_cli.cli.progress import ProgressLine
    from wa_cli.cli.session import Session
    from wa_cli.ports import Instance, Record

LOOK_SECONDS: Final = 0.1
# States in which nothing more will happen without a person or a receipt.
OPEN_STATES: Final = ("queued", "sending")
# What a rule of `domain.retry` means to somebody who watches.
STATE_WORDS: Final = {
    "accepted": "sent",
    "retry": "will be tried again",
    "hours": "will be tried again much later",
    "pair_limit": "too soon for this person, waits",
    "throttled": "too fast for this number, everything waits a little",
    "not_sent": "not sent, no connection",
    "instance_stopped": "the platform stopped this number; everything waits",
    "permanent": "failed for good",
    "out_of_attempts": "failed, out of attempts",
    "outcome_unknown": "unknown: it may or may not have arrived",
    "unknown_skipped": "unknown, skipped as you said",
}


def send_and_wait(session: Session, app: App, instance: Instance, batch_id: int, *, total: int) -> dict[str, Any]:
    """Stay until no message of the batch is waiting or on its way.

    Returns the counts by state, and under `exit` the exit code: 4 a paused instance, 5 unknowns, 3 failures, 130 or
    143 when interrupted.  Leaving early loses nothing: the work belongs to the queue.
    """
    from wa_cli.daemon.drain import drain

    progress = session.progress("sending", total) if not session.verbose else None
    exit_code = 0

    def show(record: Record) -> None:
        if progress is not None:
            progress.note(record.state)
        else:
            session.say(describe_record(record))

    try:
        while True:
            report = drain(app, instance, role="wait", only_batch=batch_id, until_settled=True, on_progress=show)
            exit_code = report.exit_code
            if not isinstance(report.holder, Holder):
                break
            # Somebody else sends for this instance: follow, and take over if they leave before we are done.
            counts = _follow(app, instance, batch_id, progress or session.progress("sending", total))
            if not any(counts.get(state) for state in OPEN_STATES):
                break
    finally:
        if progress is not None:
            progress.close()
    counts = app.intake.count_batch(batch_id)
    standing = app.instances.find(instance.name)
    if exit_code:
        session.say("left before the end; what is queued stays queued")
    elif any(counts.get(state) for state in OPEN_STATES) and standing.paused_at_ms is not None:
        session.say(f"paused: {standing.pause_reason}")
        session.hint(f"mend that, then `wa instance resume {instance.name}`")
        exit_code = 4
    elif counts.get("unknown"):
        session.hint("`wa reconcile` shows what is known about the unknown outcomes")
        exit_code = 5
    elif counts.get("failed"):
        session.hint("`wa failed list` says why")
        exit_code = 3
    if not session.json:
        order = sorted(counts.items(), key=lambda item: (item[0] != "sent", item[0]))
        session.show(", ".join(f"{count} {state}" for state, count in order if count))
    return {**counts, "exit": exit_code}


def describe_record(record: Record) -> str:
    """One line on what became of a post, for people who watch."""
    finished = record.finished
    meaning = STATE_WORDS.get(record.rule, record.state)
    line = f"  {format_message_id(finished.message_id)} to {finished.address}: {meaning}"
    if not isinstance(finished.outcome, Accepted):
        line += f" ({clean_text(finished.outcome.code)})"
    if record.due_at_ms is not None:
        line += f", again in {max(record.due_at_ms - int(time.time() * 1000), 0) / 1000:.1f} s"
    return line


def _follow(app: App, instance: Instance, batch_id: int, progress: ProgressLine) -> dict[str, int]:
    while True:
        counts: dict[str, int] = app.intake.count_batch(batch_id)
        progress.set(sum(count for state, count in counts.items() if state not in OPEN_STATES))
        if not any(counts.get(state) for state in OPEN_STATES):
            return counts
        if app.leases.find_holder(instance.id, now_ms=app.clock.wall_ms()) is None:
            return counts
        if app.instances.find(instance.name).paused_at_ms is not None:
            return counts
        time.sleep(LOOK_SECONDS)
