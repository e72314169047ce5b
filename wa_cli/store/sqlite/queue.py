"""The hot path: the statements of one turn of the send loop, each a batch, none a query per message."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, assert_never

from wa_cli.domain.message import OnUnknown, State, content_hash, decode_content
from wa_cli.domain.outcome import Accepted, Ambiguous, NotSent, Rejected
from wa_cli.domain.pacing import LANE_SHIFT, PARKED, Limits
from wa_cli.domain.recipient import RecipientKind
from wa_cli.ports import BatchTerms, Due, InstanceStanding
from wa_cli.store.sqlite.instances import apply_effect, read_restriction

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

    from wa_cli.domain.message import Content
    from wa_cli.domain.retry import Effect
    from wa_cli.ports import Finished, Lease, Record
    from wa_cli.store.sqlite.database import Database
    from wa_cli.store.sqlite.people import SqlitePeopleTurn
    from wa_cli.store.sqlite.receipts import SqliteReceiptTurn

# The next lane that has waiting messages, and whether its batch is held or still being queued.  Parked messages stand
# above all lanes, so that looking for the next one never meets them.
FIRST_LANE: Final = f"""
    SELECT lane, due_at,
        (SELECT released_at IS NULL OR held_at IS NOT NULL FROM batch WHERE id = lane & {(1 << LANE_SHIFT) - 1})
    FROM message WHERE state = 'queued' AND instance_id = ? AND lane > ? AND lane < {PARKED}
    ORDER BY lane, due_at LIMIT 1
"""  # noqa: S608  # own words

IS_RUN_HELD: Final = """
    SELECT 1 FROM batch WHERE run_id = ? AND held_at IS NOT NULL AND held_reason IS NOT 'canary' LIMIT 1
"""

LIST_PARKED_RUNS: Final = f"""
    SELECT DISTINCT run_id FROM message WHERE state = 'queued' AND instance_id = ? AND lane >= {PARKED}
        AND run_id IS NOT NULL
"""  # noqa: S608  # own words
UNPARK: Final = f"""
    UPDATE message SET lane = lane - {PARKED} WHERE id IN (
        SELECT id FROM message INDEXED BY message_due
        WHERE state = 'queued' AND instance_id = ? AND lane >= {PARKED} AND run_id = ? LIMIT ?)
"""  # noqa: S608  # own words

# Waiting rows of one lane in the order they are due, with what decides about them.  A twin is another message that
# holds the same idempotency key without having been asked for (`--again`).  They are written to under the address that
# WhatsApp has for them, where a look-up has told of another one.
DUE_ROWS: Final = """
    SELECT m.id, m.contact_id, ifnull(n.chat, c.address), c.kind, m.content_id, m.batch_id, m.lane, m.due_at,
        m.expires_at, m.attempts, m.refusals, m.reason,
        CASE WHEN k.message_id <> m.id AND k.again = 0 THEN k.message_id END, c.opted_out_at IS NOT NULL, m.run_id
    FROM message AS m
    JOIN contact AS c ON c.id = m.contact_id
    LEFT JOIN live_key AS k
        ON k.content_id = m.content_id AND k.contact_id = m.contact_id AND k.instance_id = m.instance_id
    LEFT JOIN number_check AS n ON n.contact_id = m.contact_id
    WHERE m.state = 'queued' AND m.instance_id = ? AND m.lane = ? AND m.due_at <= ?
    ORDER BY m.due_at, m.id LIMIT ?
"""

# Of the first due rows of a lane, those to people who have not written to the instance: a restriction keeps all of them
# back at once, so that a campaign to strangers does not stand before answers and groups in the same lane.
LIST_STRANGERS: Final = """
    SELECT first.id, first.reason FROM (
        SELECT id, instance_id, contact_id, reason FROM message INDEXED BY message_due
        WHERE state = 'queued' AND instance_id = ?1 AND lane = ?2 AND due_at <= ?3 ORDER BY due_at, id LIMIT ?4
    ) AS first JOIN contact AS c ON c.id = first.contact_id
    WHERE c.kind = 'person' AND NOT EXISTS (SELECT 1 FROM conversation AS v
        WHERE v.instance_id = first.instance_id AND v.contact_id = first.contact_id AND v.last_inbound_at > ?5)
"""
DEFER_TOGETHER: Final = "UPDATE message SET due_at = ?, reason = ? WHERE id IN (SELECT value FROM json_each(?))"

# A person who has never written and was never written to, from now on one who was.
NOTE_CHAT: Final = """
    INSERT INTO conversation (instance_id, contact_id, opened_at) VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET opened_at = ifnull(opened_at, excluded.opened_at)
"""
# A post that did not go out has opened no chat; the next one does, and is counted anew.
FORGET_CHAT: Final = """
    UPDATE conversation SET opened_at = NULL WHERE instance_id = ? AND contact_id = ?
        AND opened_at = (SELECT started_at FROM attempt WHERE id = ?)
"""
COUNT_UNANSWERED: Final = """
    SELECT ifnull((SELECT unanswered FROM conversation WHERE instance_id = ?1 AND contact_id = ?2), 0),
        (SELECT count(*) FROM message WHERE state = 'sending' AND instance_id = ?1 AND contact_id = ?2)
"""
NOTE_UNANSWERED: Final = """
    INSERT INTO conversation (instance_id, contact_id, unanswered) SELECT ?1, id, 1 FROM contact
    WHERE id = ?2 AND kind = 'person' ON CONFLICT DO UPDATE SET unanswered = unanswered + 1
"""

INSERT_ATTEMPT: Final = """
    INSERT INTO attempt (id, message_id, instance_id, contact_id, epoch, started_at) VALUES (?, ?, ?, ?, ?, ?)
"""

# One statement for many rows where all change alike: it takes half the time of one a row.  A list is filled up to the
# next of these lengths by repeating its last id, so that a few prepared statements do for all.
LIST_LENGTHS: Final = (1, 4, 16, 64, 256)
MARK_SENDING: Final = {
    length: f"UPDATE message SET state = 'sending', changed_at = ? WHERE id IN ({', '.join('?' * length)})"  # noqa: S608  # question marks
    for length in LIST_LENGTHS
}

RECORD_ATTEMPT: Final = """
    UPDATE attempt SET outcome = ?, counted = ?, latency_ms = ?, http_status = ?, error_code = ?, details = ?,
        provider_message_id = ?
    WHERE id = ?
"""

# A cancel that came while the post was on its way is remembered in `reason`: the message does not go back to the queue.
RECORD_MESSAGE: Final = """
    UPDATE message SET
        state = CASE WHEN reason = 'cancel_requested' AND ?1 = 'queued' THEN 'cancelled' ELSE ?1 END,
        due_at = ifnull(?2, due_at), attempts = attempts + ?3, refusals = ?4,
        reason = CASE WHEN reason = 'cancel_requested' AND ?1 IN ('queued', 'unknown') THEN reason ELSE ?5 END,
        error_code = ?6, error_details = ?7, provider_message_id = ifnull(?8, provider_message_id), changed_at = ?9
    WHERE id = ?10 AND state = 'sending'
"""

# The plain end of nearly all posts: what RECORD_ATTEMPT and RECORD_MESSAGE come to for an acceptance.
RECORD_ACCEPTED_ATTEMPT: Final = """
    UPDATE attempt SET outcome = 'accepted', counted = 1, latency_ms = ?, http_status = ?, error_code = NULL,
        details = NULL, provider_message_id = ?
    WHERE id = ?
"""
RECORD_ACCEPTED: Final = """
    UPDATE message SET state = 'sent', attempts = attempts + 1, refusals = 0, reason = NULL, error_code = NULL,
        error_details = NULL, provider_message_id = ?, changed_at = ?
    WHERE id = ? AND state = 'sending'
"""
RECORD_ACCEPTED_TOGETHER: Final = """
    UPDATE message SET state = 'sent', attempts = attempts + 1, refusals = 0, reason = NULL, error_code = NULL,
        error_details = NULL, provider_message_id = json_extract(one.value, '$[0]'), changed_at = ?
    FROM json_each(?) AS one WHERE message.id = json_extract(one.value, '$[1]') AND message.state = 'sending'
"""
WORTH_TOGETHER: Final = 8  # rows from which reading a JSON array costs less than one statement a row

# One post that was accepted makes a message sent, whatever was thought of it meanwhile or came of a second post.
SETTLE_ACCEPTED: Final = """
    UPDATE message SET state = 'sent', reason = 'settled_late', error_code = NULL, error_details = NULL,
        provider_message_id = (SELECT provider_message_id FROM attempt
            WHERE attempt.message_id = message.id AND outcome = 'accepted' ORDER BY attempt.id LIMIT 1),
        changed_at = ?
    WHERE id = ? AND state NOT IN ('sending', 'sent')
        AND EXISTS (SELECT 1 FROM attempt WHERE attempt.message_id = message.id AND outcome = 'accepted')
"""

# A refusal speaks for its own post: where another one may have been accepted, the message stays unknown.  The burial
# counted the attempt; that is undone where the outcome does not count.
SETTLE_REFUSED: Final = """
    UPDATE message SET
        state = CASE WHEN reason = 'cancel_requested' AND ?1 = 'queued' THEN 'cancelled' ELSE ?1 END,
        due_at = ifnull(?2, due_at), attempts = attempts - ?3, reason = ?4,
        error_code = ?5, error_details = ?6, changed_at = ?7
    WHERE id = ?8 AND state = 'unknown'
        AND NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.message_id = message.id AND outcome = 'ambiguous')
"""

# The same for the second post of an unknown, which was sent again by its policy: that one failed, the first is as
# unknown as before (promise P3).  Its reason is no longer `outcome_unknown`, so its policy does not send it once more.
REMAIN_UNKNOWN: Final = """
    UPDATE message SET state = 'unknown' WHERE id = ? AND state = 'failed'
        AND EXISTS (SELECT 1 FROM attempt WHERE attempt.message_id = message.id AND outcome = 'ambiguous')
"""

# A message that is not sent after all ends in a state that says so, unless an earlier post may have been accepted.
DROP: Final = """
    UPDATE message SET
        state = CASE WHEN EXISTS (SELECT 1 FROM attempt WHERE attempt.message_id = message.id AND outcome = 'ambiguous')
            THEN 'unknown' ELSE ? END,
        reason = ?, error_code = ?, error_details = ?, changed_at = ?
    WHERE id = ?
"""

READ_LAST_OUTCOMES: Final = """
    SELECT started_at, outcome, error_code FROM (SELECT * FROM attempt ORDER BY id DESC LIMIT 200)
    WHERE instance_id = ? ORDER BY id DESC LIMIT 50
"""

READ_STARTS: Final = "SELECT contact_id, started_at, instance_id, NULL FROM attempt ORDER BY id DESC"
READ_STARTS_WITH_RUN: Final = """
    SELECT a.contact_id, a.started_at, a.instance_id, m.run_id
    FROM attempt AS a CROSS JOIN message AS m ON m.id = a.message_id ORDER BY a.id DESC
"""

INSERT_DECISION: Final = "INSERT INTO decision (message_id, at, rule, details) VALUES (?, ?, ?, ?)"


class SqliteQueue:
    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def turn(self) -> Iterator[SqliteTurn]:
        self._database.check_still_there()
        with self._database.write() as connection:
            yield SqliteTurn(connection)

    def read_content(self, content_id: int) -> Content | None:
        # Runs inside a turn: the same connection, no transaction of its own.
        row = self._database.connection.execute("SELECT hash, body FROM content WHERE id = ?", (content_id,)).fetchone()
        if row is None or content_hash(row[1]) != row[0]:
            return None
        try:
            return decode_content(row[1])
        except (KeyError, ValueError, TypeError):  # one that cannot be read may not stop those behind it
            return None

    def settle_late(self, records: Sequence[Record], *, now_ms: int) -> int:
        settled = 0
        with self._database.write() as connection:
            for record in records:
                finished = record.finished
                known = connection.execute(
                    "SELECT outcome FROM attempt WHERE id = ? AND error_code = 'worker_died'", (finished.attempt_id,)
                ).fetchone()
                if known is None or isinstance(finished.outcome, Ambiguous):
                    continue
                connection.execute(
                    INSERT_DECISION,
                    (finished.message_id, now_ms, "settled_late", f"{record.state}: a late answer came in"),
                )
                if known[0] == "marked_sent" and not isinstance(finished.outcome, Accepted):
                    continue  # a person has said otherwise: the history shows both
                connection.execute(RECORD_ATTEMPT, _attempt_values(record))
                if isinstance(finished.outcome, Accepted):
                    changed = connection.execute(SETTLE_ACCEPTED, (now_ms, finished.message_id))
                else:
                    changed = connection.execute(
                        SETTLE_REFUSED,
                        (
                            record.state,
                            record.due_at_ms or (now_ms if record.state is State.QUEUED else None),
                            0 if record.counted else 1,
                            record.rule,
                            *_error_of(finished),
                            now_ms,
                            finished.message_id,
                        ),
                    )
                settled += changed.rowcount
            connection.execute(
                """INSERT INTO meta VALUES ('refused_commits', ?)
                ON CONFLICT DO UPDATE SET value = CAST(CAST(value AS INTEGER) + excluded.value AS TEXT)""",
                (str(len(records)),),
            )
        return settled

    def requeue_unknown(self, *, older_than_ms: int, now_ms: int) -> int:
        with self._database.read() as connection:
            unknown = connection.execute("SELECT 1 FROM message WHERE state = 'unknown' LIMIT 1").fetchone()
        if unknown is None:
            return 0
        with self._database.write() as connection:
            rows = connection.execute(
                """SELECT message.id FROM message JOIN batch ON batch.id = message.batch_id
                WHERE message.state = 'unknown' AND batch.on_unknown = 'resend' AND message.changed_at <= ?
                    AND message.reason = 'outcome_unknown'
                    AND (message.expires_at IS NULL OR message.expires_at > ?)
                    AND message.attempts < batch.max_attempts
                LIMIT 5000""",
                (older_than_ms, now_ms),
            ).fetchall()
            connection.executemany(
                """UPDATE message SET state = 'queued', due_at = ?, reason = 'unknown_resent', changed_at = ?
                WHERE id = ?""",
                [(now_ms, now_ms, message_id) for (message_id,) in rows],
            )
            connection.executemany(
                INSERT_DECISION,
                [(message_id, now_ms, "unknown_resent", "its policy is --on-unknown resend") for (message_id,) in rows],
            )
        return len(rows)

    def expire(self, *, now_ms: int) -> int:
        with self._database.read() as connection:
            overdue = connection.execute(
                "SELECT 1 FROM message WHERE state = 'queued' AND expires_at <= ? LIMIT 1", (now_ms,)
            ).fetchone()
        if overdue is None:
            return 0
        with self._database.write() as connection:
            ids = connection.execute(
                "SELECT id FROM message WHERE state = 'queued' AND expires_at <= ? LIMIT 5000", (now_ms,)
            ).fetchall()
            connection.executemany(
                DROP, [(State.EXPIRED, "expired", None, None, now_ms, message_id) for (message_id,) in ids]
            )
        return len(ids)

    def data_version(self) -> int:
        return self._database.data_version()


class SqliteTurn:
    """Implements QueueTurn on an open transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def read_standing(self, instance_id: int) -> InstanceStanding:
        epoch, expires_at, paused_at, rests_until, connection, *restriction = self._connection.execute(
            """SELECT lease.epoch, lease.expires_at, instance.paused_at, instance.rests_until, instance.connection,
                restricted_at, restricted_until, restriction_code, restriction_reason, restriction_scope
            FROM instance JOIN lease ON lease.instance_id = instance.id WHERE instance.id = ?""",
            (instance_id,),
        ).fetchone()
        return InstanceStanding(
            epoch=epoch,
            expires_at_ms=expires_at,
            is_paused=paused_at is not None,
            rests_until_ms=rests_until,
            connection=connection,
            restriction=read_restriction(tuple(restriction)) if restriction[0] is not None else None,
        )

    def renew_lease(self, lease: Lease, *, expires_at_ms: int) -> None:
        self._connection.execute(
            "UPDATE lease SET expires_at = ? WHERE instance_id = ? AND epoch = ?",
            (expires_at_ms, lease.instance_id, lease.epoch),
        )

    def record(self, records: Sequence[Record], *, now_ms: int) -> None:
        accepted: list[Record] = []
        others: list[Record] = []
        for record in records:
            is_plain = record.state is State.SENT and isinstance(record.finished.outcome, Accepted)
            (accepted if is_plain else others).append(record)
        if accepted:
            self._record_accepted(accepted, now_ms=now_ms)
        if others:
            self._record_others(others, now_ms=now_ms)

    def _record_accepted(self, records: Sequence[Record], *, now_ms: int) -> None:
        attempts: list[tuple[int, int | None, str, int]] = []
        messages: list[tuple[str, int]] = []
        for record in records:
            finished = record.finished
            outcome = finished.outcome
            assert isinstance(outcome, Accepted)
            attempts.append(
                (finished.latency_ms, outcome.http_status, outcome.provider_message_id, finished.attempt_id)
            )
            messages.append((outcome.provider_message_id, finished.message_id))
        self._connection.executemany(RECORD_ACCEPTED_ATTEMPT, attempts)
        if len(messages) < WORTH_TOGETHER:
            self._connection.executemany(RECORD_ACCEPTED, [(given, now_ms, number) for given, number in messages])
        else:
            self._connection.execute(RECORD_ACCEPTED_TOGETHER, (now_ms, json.dumps(messages)))

    def _record_others(self, records: Sequence[Record], *, now_ms: int) -> None:
        self._connection.executemany(RECORD_ATTEMPT, [_attempt_values(record) for record in records])
        self._connection.executemany(
            RECORD_MESSAGE,
            [
                (
                    record.state,
                    record.due_at_ms,
                    1 if record.counted else 0,
                    record.refusals,
                    None if record.state is State.SENT else record.rule,
                    *_error_of(record.finished),
                    _provider_id(record.finished),
                    now_ms,
                    record.finished.message_id,
                )
                for record in records
            ],
        )
        # The answer to an earlier post may have come in while this one was on its way.
        self._connection.executemany(
            SETTLE_ACCEPTED,
            [
                (now_ms, record.finished.message_id)
                for record in records
                if not isinstance(record.finished.outcome, Accepted)
            ],
        )
        self._connection.executemany(
            REMAIN_UNKNOWN, [(record.finished.message_id,) for record in records if record.state is State.FAILED]
        )

    def apply_effect(self, instance_id: int, effect: Effect, *, now_ms: int) -> None:
        apply_effect(self._connection, instance_id, effect, now_ms=now_ms)

    @property
    def receipts(self) -> SqliteReceiptTurn:
        from wa_cli.store.sqlite.receipts import SqliteReceiptTurn  # not for those who only look at the queue

        return SqliteReceiptTurn(self._connection)

    @property
    def people(self) -> SqlitePeopleTurn:
        from wa_cli.store.sqlite.people import SqlitePeopleTurn

        return SqlitePeopleTurn(self._connection)

    def read_held_templates(self, instance_id: int, *, now_ms: int) -> dict[tuple[str, str], int | None]:
        rows = self._connection.execute(
            "SELECT name, language, until FROM template_hold WHERE instance_id = ? AND (until IS NULL OR until > ?)",
            (instance_id, now_ms),
        )
        return {(name, language): until for name, language, until in rows}

    def lane_heads(self, instance_id: int) -> list[tuple[int, int]]:
        return read_heads(self._connection, instance_id)

    def is_run_held(self, run_id: int) -> bool:
        return self._connection.execute(IS_RUN_HELD, (run_id,)).fetchone() is not None

    def read_head(self, instance_id: int, lane: int) -> int | None:
        head = self._connection.execute(FIRST_LANE, (instance_id, lane - 1)).fetchone()
        return head[1] if head is not None and head[0] == lane else None

    def read_due(self, instance_id: int, lane: int, *, now_ms: int, limit: int) -> list[Due]:
        return [
            Due(
                message_id=row[0],
                contact_id=row[1],
                address=row[2],
                kind=RecipientKind(row[3]),
                content_id=row[4],
                batch_id=row[5],
                lane=row[6],
                due_at_ms=row[7],
                expires_at_ms=row[8],
                attempts=row[9],
                refusals=row[10],
                reason=row[11],
                twin_id=row[12],
                has_opted_out=row[13] == 1,
                run_id=row[14],
            )
            for row in self._connection.execute(DUE_ROWS, (instance_id, lane, now_ms, limit))
        ]

    def read_terms(self, batch_id: int) -> BatchTerms:
        (
            delay_ms,
            max_attempts,
            on_unknown,
            released_at,
            last_started_at,
            run_id,
            weight,
            quiet,
            limits,
        ) = self._connection.execute(
            """SELECT delay_ms, max_attempts, on_unknown, released_at, last_started_at, run_id, weight, quiet, limits
            FROM batch WHERE id = ?""",
            (batch_id,),
        ).fetchone()
        return BatchTerms(
            delay_ms=delay_ms,
            max_attempts=max_attempts,
            on_unknown=OnUnknown(on_unknown),
            is_released=released_at is not None,
            last_started_at_ms=last_started_at,
            run_id=run_id,
            weight=weight,
            quiet=quiet,
            limits=Limits(**json.loads(limits)) if limits else None,
        )

    def read_state(self, message_id: int) -> State | None:
        row = self._connection.execute("SELECT state FROM message WHERE id = ?", (message_id,)).fetchone()
        return State(row[0]) if row else None

    def opens_chat(self, instance_id: int, contact_id: int) -> bool:
        known = self._connection.execute(
            """SELECT 1 FROM conversation WHERE instance_id = ? AND contact_id = ?
            AND (last_inbound_at IS NOT NULL OR opened_at IS NOT NULL)""",
            (instance_id, contact_id),
        ).fetchone()
        return known is None

    def note_chats(self, instance_id: int, contact_ids: Iterable[int], *, now_ms: int) -> None:
        self._connection.executemany(NOTE_CHAT, [(instance_id, contact_id, now_ms) for contact_id in contact_ids])

    def forget_chats(self, instance_id: int, records: Sequence[Record]) -> None:
        self._connection.executemany(
            FORGET_CHAT, [(instance_id, one.finished.contact_id, one.finished.attempt_id) for one in records]
        )

    def read_chats(self, instance_id: int, *, since_ms: int) -> list[int]:
        rows = self._connection.execute(
            "SELECT opened_at FROM conversation WHERE instance_id = ? AND opened_at >= ? ORDER BY opened_at",
            (instance_id, since_ms),
        )
        return [opened_at for (opened_at,) in rows]

    def count_unanswered(self, instance_id: int, contact_id: int) -> tuple[int, int]:
        row = self._connection.execute(COUNT_UNANSWERED, (instance_id, contact_id)).fetchone()
        return row[0], row[1]

    def note_unanswered(self, instance_id: int, contact_ids: Iterable[int]) -> None:
        self._connection.executemany(NOTE_UNANSWERED, [(instance_id, contact_id) for contact_id in contact_ids])

    def start(self, rows: Sequence[Due], *, lease: Lease, now_ms: int, spaced_batches: Iterable[int]) -> list[int]:
        (last_id,) = self._connection.execute("SELECT ifnull(max(id), 0) FROM attempt").fetchone()
        attempt_ids = list(range(last_id + 1, last_id + 1 + len(rows)))
        self._connection.executemany(
            INSERT_ATTEMPT,
            [
                (attempt_id, row.message_id, lease.instance_id, row.contact_id, lease.epoch, now_ms)
                for attempt_id, row in zip(attempt_ids, rows, strict=True)
            ],
        )
        self._mark_sending([row.message_id for row in rows], now_ms=now_ms)
        self._connection.executemany(
            "UPDATE batch SET last_started_at = ? WHERE id = ?", [(now_ms, batch_id) for batch_id in spaced_batches]
        )
        return attempt_ids

    def _mark_sending(self, ids: Sequence[int], *, now_ms: int) -> None:
        for first in range(0, len(ids), LIST_LENGTHS[-1]):
            some = ids[first : first + LIST_LENGTHS[-1]]
            length = next(length for length in LIST_LENGTHS if length >= len(some))
            self._connection.execute(MARK_SENDING[length], (now_ms, *some, *[some[-1]] * (length - len(some))))

    def defer(self, row: Due, *, until_ms: int, rule: str, now_ms: int) -> None:
        self._connection.execute(
            "UPDATE message SET due_at = ?, reason = ? WHERE id = ?", (until_ms, rule, row.message_id)
        )
        if row.reason != rule:  # said once, however often it has to wait
            self._connection.execute(INSERT_DECISION, (row.message_id, now_ms, rule, None))

    def defer_strangers(
        self, instance_id: int, lane: int, *, known_since_ms: int, until_ms: int, rule: str, now_ms: int, limit: int
    ) -> int:
        rows = self._connection.execute(LIST_STRANGERS, (instance_id, lane, now_ms, limit, known_since_ms)).fetchall()
        ids = json.dumps([message_id for message_id, _reason in rows])
        self._connection.execute(DEFER_TOGETHER, (until_ms, rule, ids))
        self._connection.executemany(
            INSERT_DECISION, [(message_id, now_ms, rule, None) for message_id, reason in rows if reason != rule]
        )
        return len(rows)

    def recall(self, instance_id: int, rules: Sequence[str], *, now_ms: int) -> None:
        self._connection.execute(
            """UPDATE message SET due_at = ?, reason = NULL WHERE state = 'queued' AND instance_id = ? AND due_at > ?
            AND reason IN (SELECT value FROM json_each(?))""",
            (now_ms, instance_id, now_ms, json.dumps(rules)),
        )

    def drop(self, row: Due, *, state: State, rule: str, details: str | None, now_ms: int) -> None:
        self._connection.execute(
            DROP, (state, rule, rule if state is State.FAILED else None, details, now_ms, row.message_id)
        )
        self._connection.execute(INSERT_DECISION, (row.message_id, now_ms, rule, details))

    def park(self, row: Due, *, rule: str, now_ms: int) -> None:
        self._connection.execute(
            "UPDATE message SET lane = ?, reason = ? WHERE id = ?", (row.lane | PARKED, rule, row.message_id)
        )
        if row.reason != rule:
            self._connection.execute(INSERT_DECISION, (row.message_id, now_ms, rule, None))

    def list_parked_runs(self, instance_id: int) -> list[int]:
        return [run_id for (run_id,) in self._connection.execute(LIST_PARKED_RUNS, (instance_id,))]

    def unpark(self, instance_id: int, run_id: int, *, limit: int) -> int:
        return self._connection.execute(UNPARK, (instance_id, run_id, limit)).rowcount

    def read_starts(self, instance_id: int, *, since_ms: int, run_id: int | None = None) -> list[tuple[int, int]]:
        starts: list[tuple[int, int]] = []
        # Attempts are numbered in the order they start, so the newest are read first and the reading stops early.
        statement = READ_STARTS if run_id is None else READ_STARTS_WITH_RUN
        for contact_id, started_at, of_instance, of_run in self._connection.execute(statement):
            if started_at < since_ms:
                break
            if of_instance == instance_id and of_run == run_id:
                starts.append((contact_id, started_at))
        starts.reverse()
        return starts

    def read_unreadable(self, instance_id: int) -> list[int]:
        started: list[int] = []
        for started_at, outcome, error_code in self._connection.execute(READ_LAST_OUTCOMES, (instance_id,)):
            if outcome != "ambiguous" or error_code == "worker_died":
                break
            started.append(started_at)
        return started


def read_heads(connection: sqlite3.Connection, instance_id: int) -> list[tuple[int, int]]:
    """(lane, due time of its first waiting message), in the order of lanes that may be sent from.

    A batch whose enqueue has not ended is not there yet, and nothing leaves of one that is held: nobody waits for them.
    """
    heads: list[tuple[int, int]] = []
    lane = -1
    while True:
        head = connection.execute(FIRST_LANE, (instance_id, lane)).fetchone()
        if head is None:
            return heads
        lane, due_at, is_closed = head
        if not is_closed:
            heads.append((lane, due_at))


def _attempt_values(record: Record) -> tuple[object, ...]:
    outcome = record.finished.outcome
    counted = 1 if record.counted else 0
    latency, attempt_id = record.finished.latency_ms, record.finished.attempt_id
    match outcome:
        case Accepted():
            return (
                "accepted",
                counted,
                latency,
                outcome.http_status,
                None,
                None,
                outcome.provider_message_id,
                attempt_id,
            )
        case Rejected():
            return "rejected", counted, latency, outcome.http_status, outcome.code, outcome.details, None, attempt_id
        case NotSent():
            return "not_sent", counted, latency, None, outcome.code, outcome.details, None, attempt_id
        case Ambiguous():
            return "ambiguous", counted, latency, outcome.http_status, outcome.code, outcome.details, None, attempt_id
        case _:
            assert_never(outcome)


def _error_of(finished: Finished) -> tuple[str | None, str | None]:
    outcome = finished.outcome
    return (None, None) if isinstance(outcome, Accepted) else (outcome.code, outcome.details)


def _provider_id(finished: Finished) -> str | None:
    return finished.outcome.provider_message_id if isinstance(finished.outcome, Accepted) else None
