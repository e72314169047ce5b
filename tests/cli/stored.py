"""Messages in a state of one's choice, put there the way the product does: through the intake and through turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wa_cli.domain.message import OnUnknown, Text, encode_content
from wa_cli.domain.outcome import Accepted, Ambiguous
from wa_cli.domain.recipient import RecipientKind
from wa_cli.domain.retry import RetryPolicy, judge
from wa_cli.ports import Finished, Lease, NewBatch, NewMessage, Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wa_cli.bootstrap import App
    from wa_cli.domain.outcome import Outcome
    from wa_cli.ports import Due

ADA, BEN, EVA = "+6581230001", "+6581230002", "+6581230003"


def enqueue(app: App, *addresses: str, text: str = "hello", in_ms: int = 0, now_ms: int | None = None) -> list[int]:
    """Queue one message for each address, due `in_ms` from now.  Returns their ids."""
    now_ms = app.clock.wall_ms() if now_ms is None else now_ms
    batch = NewBatch(
        kind="to",
        instance_id=app.find_instance().id,
        size=len(addresses),
        start_at_ms=now_ms + in_ms,
        at_words=None,
        delay_ms=0,
        priority=1,
        max_attempts=5,
        on_unknown=OnUnknown.HOLD,
        expires_at_ms=None,
        key=None,
        request_hash=b"",
        again=True,
        has_own_lane=False,
        lines_are_unique=False,
        duplicate_window_ms=86_400_000,
        key_days=7,
        max_queue_size=0,
    )
    lines = [
        NewMessage(address=address, kind=RecipientKind.PERSON, encoded=encode_content(Text(body=text)))
        for address in addresses
    ]
    return [one.message_id for one in app.intake.enqueue(batch, lines, now_ms=now_ms)]


def take_lease(app: App, *, role: str = "drain") -> Lease:
    lease = app.leases.acquire(app.find_instance().id, role=role, now_ms=app.clock.wall_ms())
    assert isinstance(lease, Lease)
    return lease


def start_all(app: App, lease: Lease) -> list[tuple[Due, int]]:
    """Start everything that is due: (message, attempt id)."""
    now_ms = app.clock.wall_ms()
    with app.queue.turn() as turn:
        due = [
            row
            for lane, _due_at in turn.lane_heads(lease.instance_id)
            for row in turn.read_due(lease.instance_id, lane, now_ms=now_ms, limit=1000)
        ]
        attempts = turn.start(due, lease=lease, now_ms=now_ms, spaced_batches=())
    return list(zip(due, attempts, strict=True))


def finish(app: App, started: Sequence[tuple[Due, int]], outcome: Outcome) -> None:
    """Record the same outcome for each of them, by the rules of the send loop."""
    now_ms = app.clock.wall_ms()
    records = []
    for due, attempt_id in started:
        verdict = judge(
            outcome,
            attempts=due.attempts,
            refusals=due.refusals,
            max_attempts=5,
            on_unknown=OnUnknown.HOLD,
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
            latency_ms=12,
            attempts=due.attempts,
            refusals=due.refusals,
            max_attempts=5,
            on_unknown=OnUnknown.HOLD,
        )
        records.append(
            Record(
                finished=finished,
                state=verdict.state,
                rule=verdict.rule,
                counted=verdict.counted,
                refusals=verdict.refusals,
                due_at_ms=now_ms + round(verdict.wait_seconds * 1000) if verdict.wait_seconds else None,
            )
        )
    with app.queue.turn() as turn:
        turn.record(records, now_ms=now_ms)


def send(app: App, *addresses: str, outcome: Outcome, text: str = "hello") -> list[int]:
    """Queue messages and let each meet this outcome.  Returns their ids."""
    ids = enqueue(app, *addresses, text=text)
    lease = take_lease(app)
    finish(app, start_all(app, lease), outcome)
    app.leases.release(lease)
    return ids


ACCEPTED = Accepted(provider_message_id="wamid.1", http_status=200)
UNREADABLE = Ambiguous(code="cut_answer", details="the answer ended in the middle", http_status=200)
