"""What went wrong: the failed messages and the list of them last printed, the unknown ones, and their ways out."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from wa_cli.cuts import cut
from wa_cli.domain.message import MessageId, OnUnknown, State
from wa_cli.domain.pacing import LANE_SHIFT, lane_of
from wa_cli.domain.receipt import Receipt, derive_standing
from wa_cli.domain.resend import Candidate
from wa_cli.store.sqlite.messages import MESSAGE_COLUMNS, MESSAGE_JOINS, batch_condition, message_row
from wa_cli.store.sqlite.queue import INSERT_DECISION

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from wa_cli.domain.history import MessageRow
    from wa_cli.domain.receipt import Standing
    from wa_cli.domain.resend import Requeue
    from wa_cli.store.sqlite.database import Database

# Dismissed failures stay failed, so that the ledger adds up, and leave the list.
IS_LISTED: Final = "m.state = 'failed' AND m.reason IS NOT 'dismissed'"

COLUMN_COUNT: Final = MESSAGE_COLUMNS.count(",") + 1

# The rule by which a dismissed message failed is what its dismissal noted.
READ_CANDIDATES: Final = f"""
    SELECT m.id, m.state, m.receipt,
        CASE WHEN m.reason = 'dismissed' THEN
            (SELECT details FROM decision WHERE message_id = m.id AND rule = 'dismissed' ORDER BY id DESC LIMIT 1)
            ELSE m.reason END,
        m.error_code, m.error_details, m.expires_at, m.instance_id, m.contact_id, m.content_id, m.lane >> {LANE_SHIFT},
        k.message_id, holder.state, k.again, c.opted_out_at IS NOT NULL, c.erased_at IS NOT NULL,
        (SELECT campaign.name FROM run JOIN campaign ON campaign.id = run.campaign_id
            WHERE run.id = m.run_id AND campaign.state = 'cancelled')
    FROM message AS m JOIN contact AS c ON c.id = m.contact_id
    LEFT JOIN live_key AS k
        ON k.content_id = m.content_id AND k.contact_id = m.contact_id AND k.instance_id = m.instance_id
    LEFT JOIN message AS holder ON holder.id = k.message_id
    WHERE m.id IN (SELECT value FROM json_each(?))
"""  # noqa: S608  # own words

# The message itself stays what it was: same row, batch, words and schedule; only its next departure is new (row R9).
REQUEUE: Final = """
    UPDATE message SET state = 'queued', lane = ?, due_at = ?, attempts = 0, refusals = 0, reason = 'resent',
        receipt = NULL, error_code = NULL, error_details = NULL, provider_message_id = NULL, changed_at = ?
    WHERE id = ? AND state = 'failed'
"""

CLAIM_KEY: Final = """
    INSERT INTO live_key (content_id, contact_id, instance_id, message_id, expires_at, again) VALUES (?, ?, ?, ?, ?, 0)
    ON CONFLICT DO UPDATE SET message_id = excluded.message_id, expires_at = max(expires_at, excluded.expires_at)
"""

# The last attempt that nobody knows the outcome of is the evidence.
READ_UNKNOWNS: Final = f"""
    SELECT {MESSAGE_COLUMNS}, b.on_unknown, a.id, a.started_at, a.error_code, a.details, a.http_status, a.latency_ms,
        (SELECT count(*) FROM attempt WHERE message_id = m.id), i.webhooks_since, i.last_webhook_at
    FROM message AS m {MESSAGE_JOINS}
    LEFT JOIN attempt AS a ON a.id = (SELECT max(id) FROM attempt WHERE message_id = m.id AND outcome = 'ambiguous')
    WHERE m.state = 'unknown' AND m.id > ? ORDER BY m.id LIMIT ?
"""  # noqa: S608  # own words


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintedRow:
    """An entry of the list last printed.  is_current: the message is as it was then.  standing: what it is now."""

    position: int
    message_id: MessageId
    is_current: bool
    standing: Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known about a message of unknown outcome: its last attempt that got no verdict.

    started_at_ms, tag: None when a hand-edited file has no such attempt.  attempts: posts made for it so far.
    webhooks_since_ms, last_webhook_at_ms: since when webhooks come for its instance and when the last did, or None.
    """

    message: MessageRow
    on_unknown: OnUnknown
    started_at_ms: int | None
    tag: str | None
    code: str | None
    details: str | None
    http_status: int | None
    latency_ms: int | None
    attempts: int
    webhooks_since_ms: int | None
    last_webhook_at_ms: int | None


class SqliteFailures:
    def __init__(self, database: Database) -> None:
        self._database = database

    # --- failed messages ---

    def count_failed(self, *, subgroup: str | None = None, campaign: str | None = None) -> int:
        """How many are on the list of failures.  Raises: NotFound for a subgroup or campaign that never was."""
        with self._database.read() as connection:
            condition, values = _listed(connection, subgroup=subgroup, campaign=campaign)
            row = connection.execute(f"SELECT count(*) FROM message AS m WHERE {condition}", values).fetchone()  # noqa: S608  # own words
        return int(row[0])

    def store_printed_list(self, *, subgroup: str | None, campaign: str | None, limit: int | None) -> int:
        """Number the failed messages from 0, oldest first, as the list that indexes refer to.  Returns how many.

        Raises: NotFound for a subgroup or campaign that never was; the list before it then stays.
        """
        with self._database.write() as connection:
            condition, values = _listed(connection, subgroup=subgroup, campaign=campaign)
            connection.execute("DELETE FROM printed_list")
            connection.execute(
                f"""INSERT INTO printed_list (position, message_id, changed_at)
                SELECT row_number() OVER (ORDER BY id) - 1, id, changed_at FROM
                    (SELECT m.id, m.changed_at FROM message AS m WHERE {condition} ORDER BY m.id LIMIT ?)""",  # noqa: S608  # own words
                [*values, -1 if limit is None else limit],
            )
            row = connection.execute("SELECT count(*) FROM printed_list").fetchone()
        return int(row[0])

    def read_printed_list(self, *, after: int, limit: int) -> list[tuple[int, MessageRow]]:
        """Entries after a position (-1 to begin), as long as they are what was numbered."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"""SELECT p.position, {MESSAGE_COLUMNS}
                FROM printed_list AS p JOIN message AS m ON m.id = p.message_id {MESSAGE_JOINS}
                WHERE p.position > ? AND m.changed_at = p.changed_at AND {IS_LISTED} ORDER BY p.position LIMIT ?""",  # noqa: S608  # own words
                (after, limit),
            ).fetchall()
        return [(row[0], message_row(row[1:])) for row in rows]

    def list_failed(self, *, subgroup: str | None, campaign: str | None, after_id: int, limit: int) -> list[MessageRow]:
        """Failed messages by id, oldest first, for reading all of them in pages.  Raises: NotFound as above."""
        with self._database.read() as connection:
            condition, values = _listed(connection, subgroup=subgroup, campaign=campaign)
            rows = connection.execute(
                f"""SELECT {MESSAGE_COLUMNS} FROM message AS m {MESSAGE_JOINS}
                WHERE {condition} AND m.id > ? ORDER BY m.id LIMIT ?""",  # noqa: S608  # own words
                [*values, after_id, limit],
            ).fetchall()
        return [message_row(row) for row in rows]

    def count_printed(self) -> int:
        """How many entries the list last printed has."""
        with self._database.read() as connection:
            return int(connection.execute("SELECT count(*) FROM printed_list").fetchone()[0])

    def find_printed(self, positions: Sequence[int]) -> dict[int, PrintedRow]:
        """The entries at these positions that exist."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"""SELECT p.position, m.id, {IS_LISTED} AND m.changed_at = p.changed_at, m.state, m.receipt
                FROM printed_list AS p JOIN message AS m ON m.id = p.message_id
                WHERE p.position IN (SELECT value FROM json_each(?))""",  # noqa: S608  # own words
                (json.dumps(list(positions)),),
            ).fetchall()
        return {
            row[0]: PrintedRow(
                position=row[0],
                message_id=MessageId(row[1]),
                is_current=bool(row[2]),
                standing=derive_standing(State(row[3]), Receipt(row[4]) if row[4] else None),
            )
            for row in rows
        }

    def dismiss(self, message_ids: Sequence[int], *, now_ms: int) -> list[int]:
        """Take failed messages off the list; they stay failed.  Returns those that were on it."""
        with self._database.write() as connection:
            listed = connection.execute(
                f"""SELECT m.id, m.reason FROM message AS m
                WHERE m.id IN (SELECT value FROM json_each(?)) AND {IS_LISTED}""",  # noqa: S608  # own words
                (json.dumps(list(message_ids)),),
            ).fetchall()
            connection.executemany(
                "UPDATE message SET reason = 'dismissed', changed_at = ? WHERE id = ?",
                [(now_ms, message_id) for message_id, _reason in listed],
            )
            connection.executemany(
                INSERT_DECISION, [(message_id, now_ms, "dismissed", reason) for message_id, reason in listed]
            )
        return [message_id for message_id, _reason in listed]

    # --- unknown messages ---

    def list_unknown(self, *, after_id: int, limit: int) -> list[Evidence]:
        """Messages of unknown outcome by id, with the evidence, for reading all of them in pages."""
        with self._database.read() as connection:
            (install,) = connection.execute("SELECT value FROM meta WHERE key = 'install'").fetchone()
            rows = connection.execute(READ_UNKNOWNS, (after_id, limit)).fetchall()
        return [_evidence(row, install=install) for row in rows]

    def mark_unknown(self, message_ids: Sequence[int], *, was_sent: bool, note: str | None, now_ms: int) -> list[int]:
        """Settle unknown outcomes by a person's word; one transaction.  Returns those that were unknown.

        Marked as sent, the last attempt counts as the one that arrived; marked as not sent, none of them did.
        """
        with self._database.write() as connection:
            rows = connection.execute(
                "SELECT id FROM message WHERE state = 'unknown' AND id IN (SELECT value FROM json_each(?))",
                (json.dumps(list(message_ids)),),
            ).fetchall()
            chosen = [row[0] for row in rows]
            values = [(message_id,) for message_id in chosen]
            if was_sent:
                connection.executemany(
                    """UPDATE attempt SET outcome = 'marked_sent' WHERE id =
                        (SELECT max(id) FROM attempt WHERE message_id = ? AND outcome = 'ambiguous')""",
                    values,
                )
                connection.executemany(
                    """UPDATE message SET state = 'sent', reason = 'marked_sent', error_code = NULL,
                        error_details = NULL, changed_at = ? WHERE id = ?""",
                    [(now_ms, message_id) for message_id in chosen],
                )
            else:
                connection.executemany(
                    "UPDATE attempt SET outcome = 'marked_not_sent' WHERE message_id = ? AND outcome = 'ambiguous'",
                    values,
                )
                connection.executemany(
                    """UPDATE message SET state = 'failed', reason = 'marked_not_sent', error_code = 'not_sent',
                        error_details = 'marked as not sent by a person', changed_at = ? WHERE id = ?""",
                    [(now_ms, message_id) for message_id in chosen],
                )
            rule = "marked_sent" if was_sent else "marked_not_sent"
            connection.executemany(INSERT_DECISION, [(message_id, now_ms, rule, note) for message_id in chosen])
        return chosen

    # --- sending again ---

    @contextmanager
    def resend_turn(self, *, is_dry_run: bool = False) -> Iterator[SqliteResendTurn]:
        """One transaction in which messages are judged and go back into the queue together.

        is_dry_run: everything is read, nothing may be written.
        """
        with self._database.read() if is_dry_run else self._database.write() as connection:
            yield SqliteResendTurn(connection)
            cut("resend_before_commit")
        cut("resend_after_commit")


class SqliteResendTurn:
    """Reads and writes on an open transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def read_candidates(self, message_ids: Sequence[int]) -> list[Candidate]:
        """These messages in this order; one that does not exist is left out."""
        rows = self._connection.execute(READ_CANDIDATES, (json.dumps(list(message_ids)),)).fetchall()
        found = {row[0]: _candidate(row) for row in rows}
        return [found[message_id] for message_id in message_ids if message_id in found]

    def next_failed(self, *, subgroup: str | None, campaign: str | None, after_id: int, limit: int) -> list[int]:
        """The ids of the next failed messages on the list, oldest first.  Raises: NotFound as above."""
        condition, values = _listed(self._connection, subgroup=subgroup, campaign=campaign)
        rows = self._connection.execute(
            f"SELECT m.id FROM message AS m WHERE {condition} AND m.id > ? ORDER BY m.id LIMIT ?",  # noqa: S608  # own words
            [*values, after_id, limit],
        ).fetchall()
        return [row[0] for row in rows]

    def add_batch(
        self, instance_id: int, *, delay_ms: int, priority: int, now_ms: int, actor: str | None = None
    ) -> int:
        """A batch for the resent messages of one instance: the lane they share and its spacing.

        It is released at once: unlike an enqueue, a resend that is cut short has sent nothing by halves, and the same
        call takes up the rest.
        """
        cursor = self._connection.execute(
            """INSERT INTO batch (kind, instance_id, actor, created_at, released_at, start_at, delay_ms, priority,
                max_attempts, on_unknown)
            VALUES ('resend', ?, ?, ?, ?, ?, ?, ?, 1, 'hold')""",
            (instance_id, actor, now_ms, now_ms, now_ms, delay_ms, priority),
        )
        return int(cursor.lastrowid or 0)

    def requeue(self, goes: Sequence[Requeue], *, duplicate_window_ms: int, now_ms: int) -> None:
        """Put failed messages back into the queue, with their claim on their words and a line in their history."""
        connection = self._connection
        connection.executemany(
            REQUEUE,
            [
                (lane_of(go.candidate.priority, go.batch_id), go.due_at_ms, now_ms, go.candidate.message_id)
                for go in goes
            ],
        )
        connection.executemany(
            CLAIM_KEY,
            [
                (*go.candidate.words, go.candidate.message_id, go.due_at_ms + duplicate_window_ms)
                for go in goes
                if go.claims_key
            ],
        )
        connection.executemany(
            INSERT_DECISION, [(go.candidate.message_id, now_ms, "resent", go.details) for go in goes]
        )


def _listed(connection: sqlite3.Connection, *, subgroup: str | None, campaign: str | None) -> tuple[str, list[object]]:
    batches = batch_condition(connection, subgroup=subgroup, campaign=campaign)
    if batches is None:
        return IS_LISTED, []
    return f"{IS_LISTED} AND {batches[0]}", batches[1]


def _candidate(row: tuple[Any, ...]) -> Candidate:
    return Candidate(
        message_id=MessageId(row[0]),
        standing=derive_standing(State(row[1]), Receipt(row[2]) if row[2] else None),
        rule=row[3],
        error_code=row[4],
        error_details=row[5],
        expires_at_ms=row[6],
        instance_id=row[7],
        contact_id=row[8],
        content_id=row[9],
        priority=row[10],
        holder_id=row[11],
        holder_state=State(row[12]) if row[12] else None,
        holder_is_meant=bool(row[13]),
        is_opted_out=bool(row[14]),
        is_erased=bool(row[15]),
        cancelled_campaign=row[16],
    )


def _evidence(row: tuple[Any, ...], *, install: str) -> Evidence:
    on_unknown, attempt_id, started_at, code, details, http_status, latency_ms, attempts, since, last = row[
        COLUMN_COUNT:
    ]
    return Evidence(
        message=message_row(row),
        on_unknown=OnUnknown(on_unknown),
        started_at_ms=started_at,
        tag=f"wa1.{install}.{attempt_id}" if attempt_id is not None else None,
        code=code,
        details=details,
        http_status=http_status,
        latency_ms=latency_ms,
        attempts=attempts,
        webhooks_since_ms=since,
        last_webhook_at_ms=last,
    )
