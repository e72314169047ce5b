"""One waiting message at a time meets an outcome, through a real turn of the store and the send loop's own rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wa_cli.domain.message import parse_message_id
from wa_cli.domain.outcome import Accepted, Ambiguous, ErrorClass, Rejected
from wa_cli.domain.retry import RetryPolicy, judge
from wa_cli.ports import Finished, Lease, Record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wa_cli.bootstrap import App
    from wa_cli.domain.outcome import Outcome
    from wa_cli.ports import Due, QueueTurn

ACCEPTED = Accepted(provider_message_id="wamid.1", http_status=200)
# Passing, but with a cap of its own: one attempt and the message has failed for want of attempts.
BUSY = Rejected(error_class=ErrorClass.RETRY, code="131000", details="try later", http_status=500, max_attempts=1)
PASSING = Rejected(error_class=ErrorClass.RETRY, code="131016", details="service unavailable", http_status=500)
PERMANENT = Rejected(
    error_class=ErrorClass.DEAD_RECIPIENT, code="131026", details="message undeliverable", http_status=400
)
CUT = Ambiguous(code="answer_cut", details="the answer broke off", http_status=200)


def take_lease(app: App, *, role: str = "drain") -> Lease:
    lease = app.leases.acquire(app.find_instance().id, role=role, now_ms=app.clock.wall_ms())
    assert isinstance(lease, Lease)
    return lease


def start(app: App, lease: Lease, message_id: int) -> tuple[Due, int]:
    """Commit the start of one message, due or not: (its row, the attempt's id)."""
    with app.queue.turn() as turn:
        (due,) = [row for row in _waiting(turn, lease) if row.message_id == message_id]
        (attempt_id,) = turn.start([due], lease=lease, now_ms=app.clock.wall_ms(), spaced_batches=())
    return due, attempt_id


def finish(app: App, due: Due, attempt_id: int, outcome: Outcome) -> None:
    """Record what became of a started message."""
    now_ms = app.clock.wall_ms()
    with app.queue.turn() as turn:
        terms = turn.read_terms(due.batch_id)
        verdict = judge(
            outcome,
            attempts=due.attempts,
            refusals=due.refusals,
            max_attempts=terms.max_attempts,
            on_unknown=terms.on_unknown,
            policy=RetryPolicy(),
            jitter=0.0,
        )
        finished = Finished(
            attempt_id=attempt_id,
            message_id=due.message_id,
            contact_id=due.contact_id,
            address=due.address,
            lane=due.lane,
            outcome=outcome,
            latency_ms=87,
            attempts=due.attempts,
            refusals=due.refusals,
            max_attempts=terms.max_attempts,
            on_unknown=terms.on_unknown,
        )
        record = Record(
            finished=finished,
            state=verdict.state,
            rule=verdict.rule,
            counted=verdict.counted,
            refusals=verdict.refusals,
            due_at_ms=now_ms + round(verdict.wait_seconds * 1000) if verdict.wait_seconds else None,
        )
        turn.record([record], now_ms=now_ms)


def post(app: App, name: str, outcome: Outcome) -> None:
    """Post the waiting message of that id (`m3`) and record the outcome."""
    lease = take_lease(app)
    finish(app, *start(app, lease, parse_message_id(name)), outcome)
    app.leases.release(lease)


def _waiting(turn: QueueTurn, lease: Lease) -> Iterator[Due]:
    for lane, _due_at in turn.lane_heads(lease.instance_id):
        yield from turn.read_due(lease.instance_id, lane, now_ms=2**62, limit=1000)
