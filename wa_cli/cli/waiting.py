"""`--wait`: send what was just queued, or follow the daemon that does, until each message has an outcome."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wa_cli.cli.session import clean_text
from wa_cli.domain.connection import NEEDS_A_PERSON
from wa_cli.domain.message import format_message_id
from wa_cli.domain.outcome import Accepted
from wa_cli.ports import Holder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wa_cli.bootstrap import App
    from wa_cli.cli.progress import ProgressLine
    from wa_cli.cli.session import Session
    from wa_cli.errors import WaError
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """How a wait ended.

    counts: messages of the batch by state.  exit_code: 4 a paused instance, 5 unknowns, 3 failures, 130 or 143 when
    interrupted.  trouble: what ended it early, to be raised once the report is out.
    """

    counts: dict[str, int]
    exit_code: int
    trouble: WaError | None


def send_and_wait(session: Session, app: App, instance: Instance, batch_id: int, *, total: int) -> Waited:
    """Stay until no message of the batch is waiting or on its way, or the instance is paused.

    Leaving early loses nothing: the work belongs to the queue.
    """
    from wa_cli.daemon.drain import drain
    from wa_cli.services.turns import LeaseLost

    progress = session.progress("sending", total) if not session.verbose else None
    exit_code = 0
    trouble: WaError | None = None

    def show(record: Record) -> None:
        if progress is not None:
            progress.note(record.state)
        else:
            session.say(describe_record(record))

    members = app.list_members(instance)
    try:
        while True:
            report = drain(app, members, role="wait", only_batch=batch_id, until_settled=True, on_progress=show)
            exit_code = report.exit_code
            trouble = None if isinstance(report.trouble, LeaseLost) else report.trouble
            if not isinstance(report.holder, Holder) and not isinstance(report.trouble, LeaseLost):
                break
            if exit_code:
                break
            # Somebody else sends for this instance: follow, and take over if they leave before we are done.
            progress = progress or session.progress("sending", total)
            counts = _follow(app, members, batch_id, progress)
            if not any(counts.get(state) for state in OPEN_STATES) or _stand_still(app, members):
                break
    finally:
        if progress is not None:
            progress.close()
    counts = app.intake.count_batch(batch_id)
    paused = [one for one in (app.instances.find(one.name) for one in members) if one.paused_at_ms is not None]
    if exit_code:
        session.say("left before the end; what is queued stays queued")
    elif any(counts.get(state) for state in OPEN_STATES) and paused:
        say_paused(session, app, paused[0])
        exit_code = 4
    elif any(counts.get(state) for state in OPEN_STATES) and _stand_still(app, members):
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
    return Waited(counts=counts, exit_code=exit_code, trouble=trouble)


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


def _follow(app: App, members: Sequence[Instance], batch_id: int, progress: ProgressLine) -> dict[str, int]:
    while True:
        counts: dict[str, int] = app.intake.count_batch(batch_id)
        progress.set(sum(count for state, count in counts.items() if state not in OPEN_STATES))
        if not any(counts.get(state) for state in OPEN_STATES):
            return counts
        now_ms = app.clock.wall_ms()
        if all(app.leases.find_holder(one.id, now_ms=now_ms) is None for one in members):
            return counts
        if _stand_still(app, members) and not counts.get("sending"):
            return counts
        time.sleep(LOOK_SECONDS)


def _stand_still(app: App, members: Sequence[Instance]) -> bool:
    """Whether every one of them is paused, or its device waits for a person."""
    found = [app.instances.find(one.name) for one in members]
    return all(one.paused_at_ms is not None or one.connection in NEEDS_A_PERSON for one in found)


def say_paused(session: Session, app: App, standing: Instance) -> None:
    """Why the instance stands still, and what to do about it."""
    code = f" ({standing.pause_code})" if standing.pause_code else ""
    session.say(f"{standing.name} is paused: {clean_text(standing.pause_reason or 'by hand')}{code}")
    meaning = app.explain_error(standing.pause_code) if standing.pause_code else None
    fix = meaning.hint if meaning is not None and meaning.hint else "mend that"
    first = "" if standing.paused_by == "person" else f"{fix}, then "
    session.hint(f"{first}`wa instance resume {standing.name}`; nothing in the queue is lost")


def say_who_sends(session: Session, app: App, instance: Instance, *, count: int) -> None:
    """Who will send what was just queued, or what to type so that somebody does."""
    # The daemon sends for all numbers of a pool, or for none: one that is not paused stands for them.
    members = [app.instances.find(one.name) for one in app.list_members(instance)]
    standing = next((one for one in members if one.paused_at_ms is None), members[0])
    holder = app.leases.find_holder(standing.id, now_ms=app.clock.wall_ms())
    if standing.paused_at_ms is not None:
        say_paused(session, app, standing)
    elif holder is None:
        session.hint("nothing is sending: `wa run` starts the daemon, `wa drain` sends what is due once")
    elif holder.role == "daemon":
        session.say(f"the daemon with pid {holder.pid} sends {'it' if count == 1 else 'them'}")
    else:
        session.hint(f"a {holder.role} is sending now; what it does not reach needs `wa run`, or another `wa drain`")
