"""Receipts, each once, and what they change about the messages they are of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from wa_cli.domain.connection import Restriction, RestrictionScope
from wa_cli.domain.event import StatusEvent
from wa_cli.domain.message import OnUnknown, State, Template, decode_content
from wa_cli.domain.outcome import Consequence, ErrorClass, Rejected
from wa_cli.domain.receipt import ARRIVALS, Receipt
from wa_cli.ports import Posted
from wa_cli.store.sqlite.instances import apply_effect, note_connection

if TYPE_CHECKING:
    import sqlite3

    from wa_cli.domain.connection import Connection
    from wa_cli.domain.retry import Effect
    from wa_cli.domain.truth import Taken
    from wa_cli.store.sqlite.database import Database

POSTED: Final = """
    a.id, m.id, m.instance_id, m.contact_id, a.outcome, a.counted, a.provider_message_id, m.state, m.receipt, m.reason,
        m.attempts, m.refusals, b.max_attempts, b.on_unknown,
        NOT EXISTS (SELECT 1 FROM attempt WHERE message_id = m.id AND id <> a.id), a.error_code,
        (SELECT erased_at IS NOT NULL FROM contact WHERE id = m.contact_id)
    FROM attempt AS a JOIN message AS m ON m.id = a.message_id JOIN batch AS b ON b.id = m.batch_id
"""
FIND_POST: Final = f"SELECT {POSTED} WHERE a.id = ?"

ADD_RECEIPT: Final = """
    INSERT INTO receipt (attempt_id, status, participant, provider_message_id, at, received_at, rule,
        error_class, error_code, details, wait_seconds, max_attempts, consequence, restriction)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""

# Parked ones whose post has been recorded, or whose sender has died.
READ_PARKED: Final = """
    SELECT r.id, r.status, r.participant, r.provider_message_id, r.at, r.error_class, r.error_code, r.details,
        r.wait_seconds, r.max_attempts, r.consequence, r.attempt_id, r.restriction
    FROM receipt AS r JOIN attempt AS a ON a.id = r.attempt_id JOIN message AS m ON m.id = a.message_id
    WHERE r.rule = 'parked' AND m.state <> 'sending' ORDER BY r.id LIMIT ?
"""

PLACE: Final = """
    UPDATE message SET state = ?, receipt = ?, reason = ?, due_at = ifnull(?, due_at), attempts = ?, refusals = ?,
        provider_message_id = ifnull(?, provider_message_id), error_code = ?, error_details = ?, changed_at = ?
    WHERE id = ?
"""

# Receipts without a tag of ours, of posts that have got their id since.  The posts are walked and the receipts looked
# up: the ids of posts have no index, since it would cost every send.
MATCH_BY_ID: Final = """
    SELECT r.id, a.id FROM attempt AS a CROSS JOIN receipt AS r
        ON r.provider_message_id = a.provider_message_id AND r.attempt_id IS NULL
    WHERE a.id >= ? AND a.provider_message_id IS NOT NULL LIMIT ?
"""
MATCHED_A_TURN: Final = 500

# The last posts of an instance that were taken, with whether any receipt came: walked from the newest, since attempts
# are numbered in the order they start, and not further than a bound.
READ_TAKEN: Final = """
    SELECT a.started_at, m.receipt IS NOT NULL FROM (
        SELECT id, message_id, instance_id, started_at, outcome FROM attempt WHERE id BETWEEN ? AND ?
        ORDER BY id DESC LIMIT ?
    ) AS a JOIN message AS m ON m.id = a.message_id
    WHERE a.instance_id = ? AND a.started_at >= ? AND a.outcome = 'accepted' ORDER BY a.id DESC LIMIT ?
"""
LOOKED_AT: Final = 2_000
LATEST_ID: Final = 2**62

_ARRIVED: Final = ", ".join(f"'{receipt}'" for receipt in ARRIVALS)


class SqliteReceipts:
    def __init__(self, database: Database) -> None:
        self._database = database

    def has_parked(self) -> bool:
        with self._database.read() as connection:
            return SqliteReceiptTurn(connection).has_parked()

    def match_by_id(self, *, since_ms: int) -> int:
        """Park the receipts whose post is known by its id alone, among posts since then.  Returns how many."""
        with self._database.read() as connection:
            row = connection.execute("SELECT 1 FROM receipt WHERE attempt_id IS NULL LIMIT 1").fetchone()
            if row is None:
                return 0
            first = connection.execute(
                "SELECT id FROM attempt WHERE started_at < ? ORDER BY id DESC LIMIT 1", (since_ms,)
            ).fetchone()
            pairs = connection.execute(MATCH_BY_ID, (first[0] if first else 0, MATCHED_A_TURN)).fetchall()
        if not pairs:
            return 0
        with self._database.write() as connection:
            connection.executemany(
                "UPDATE OR REPLACE receipt SET attempt_id = ?, rule = 'parked' WHERE id = ? AND attempt_id IS NULL",
                [(attempt_id, receipt_id) for receipt_id, attempt_id in pairs],
            )
        return len(pairs)

    def read_taken(self, instance_id: int, *, since_ms: int, settled_ms: int, limit: int) -> list[Taken]:
        """The last posts of an instance since then that were taken, newest first.

        So many that began before the settled moment and so many after it, each among the last LOOKED_AT of all.
        """
        from wa_cli.domain.truth import Taken

        with self._database.read() as connection:
            settled = connection.execute(
                "SELECT id FROM attempt WHERE started_at <= ? ORDER BY id DESC LIMIT 1", (settled_ms,)
            ).fetchone()
            settled_id = settled[0] if settled is not None else 0
            rows = [
                row
                for first, last in ((settled_id + 1, LATEST_ID), (1, settled_id))
                for row in connection.execute(READ_TAKEN, (first, last, LOOKED_AT, instance_id, since_ms, limit))
            ]
        return [Taken(at_ms=at_ms, is_acknowledged=is_acknowledged == 1) for at_ms, is_acknowledged in rows]

    def has_receipts(self, instance_id: int) -> bool:
        """Whether any receipt has ever come for a message of the instance."""
        with self._database.read() as connection:
            found = connection.execute(
                # A count stays when it falls to none: the messages may have been pruned.
                "SELECT 1 FROM tally WHERE instance_id = ? AND receipt <> '' LIMIT 1",
                (instance_id,),
            ).fetchone()
        return found is not None

    def forget_unmatched(self, *, before_ms: int) -> int:
        """Drop the receipts of other people's messages.  Returns how many."""
        with self._database.write() as connection:
            gone = connection.execute("DELETE FROM receipt WHERE attempt_id IS NULL AND received_at < ?", (before_ms,))
        return gone.rowcount


class SqliteReceiptTurn:
    """Implements ReceiptTurn on a transaction that somebody else has opened."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def find_post(self, attempt_id: int) -> Posted | None:
        row = self._connection.execute(FIND_POST, (attempt_id,)).fetchone()
        return None if row is None else _posted(row)

    def add_receipt(self, event: StatusEvent, *, attempt_id: int | None, rule: str, now_ms: int) -> int | None:
        refusal = event.refusal
        added = self._connection.execute(
            ADD_RECEIPT,
            (
                attempt_id,
                event.receipt,
                event.participant,
                event.provider_message_id,
                event.at_ms,
                now_ms,
                rule,
                *(
                    (None,) * 7
                    if refusal is None
                    else (
                        refusal.error_class,
                        refusal.code,
                        refusal.details,
                        refusal.wait_seconds,
                        refusal.max_attempts,
                        refusal.consequence,
                        _write_restriction(refusal.restriction),
                    )
                ),
            ),
        )
        return added.lastrowid if added.rowcount == 1 else None

    def set_rule(self, receipt_id: int, rule: str) -> None:
        self._connection.execute("UPDATE receipt SET rule = ? WHERE id = ?", (rule, receipt_id))

    def has_arrived(self, attempt_id: int) -> bool:
        row = self._connection.execute(
            f"SELECT 1 FROM receipt WHERE attempt_id = ? AND status IN ({_ARRIVED}) LIMIT 1",  # noqa: S608  # own words
            (attempt_id,),
        ).fetchone()
        return row is not None

    def has_failed(self, attempt_id: int) -> bool:
        row = self._connection.execute(
            "SELECT 1 FROM receipt WHERE attempt_id = ? AND status = 'failed' LIMIT 1", (attempt_id,)
        ).fetchone()
        return row is not None

    def find_other_outcomes(self, posted: Posted) -> frozenset[str]:
        rows = self._connection.execute(
            "SELECT DISTINCT outcome FROM attempt WHERE message_id = ? AND id <> ? AND outcome IS NOT NULL",
            (posted.message_id, posted.attempt_id),
        )
        return frozenset(outcome for (outcome,) in rows)

    def settle_attempt(
        self,
        posted: Posted,
        *,
        outcome: str,
        is_counted: bool,
        provider_message_id: str,
        code: str | None,
        details: str | None,
    ) -> None:
        self._connection.execute(
            """UPDATE attempt SET outcome = ?, counted = ?, error_code = ?, details = ?,
                provider_message_id = ifnull(provider_message_id, ?) WHERE id = ?""",
            (outcome, is_counted, code, details, provider_message_id, posted.attempt_id),
        )

    def advance(self, message_id: int, receipt: Receipt, *, now_ms: int) -> None:
        self._connection.execute(
            "UPDATE message SET receipt = ?, changed_at = ? WHERE id = ? AND state = 'sent'",
            (receipt, now_ms, message_id),
        )

    def place(
        self,
        posted: Posted,
        *,
        state: State,
        receipt: Receipt | None,
        rule: str | None,
        due_at_ms: int | None,
        attempts: int,
        refusals: int,
        provider_message_id: str | None,
        code: str | None,
        details: str | None,
        now_ms: int,
    ) -> None:
        self._connection.execute(
            PLACE,
            (
                state,
                receipt,
                rule,
                due_at_ms,
                max(attempts, 0),
                refusals,
                provider_message_id,
                code,
                details,
                now_ms,
                posted.message_id,
            ),
        )

    def note(self, message_id: int, rule: str, details: str | None, *, now_ms: int, once: bool = False) -> None:
        if once:
            known = self._connection.execute(
                "SELECT 1 FROM decision WHERE message_id = ? AND rule = ?", (message_id, rule)
            ).fetchone()
            if known is not None:
                return
        self._connection.execute(
            "INSERT INTO decision (message_id, at, rule, details) VALUES (?, ?, ?, ?)",
            (message_id, now_ms, rule, details),
        )

    def apply_effect(self, instance_id: int, effect: Effect, *, now_ms: int) -> None:
        apply_effect(self._connection, instance_id, effect, now_ms=now_ms)

    def note_connection(self, instance_id: int, connection: Connection, *, now_ms: int) -> bool:
        return note_connection(self._connection, instance_id, connection, now_ms=now_ms)

    def read_template(self, message_id: int) -> tuple[str, str] | None:
        row = self._connection.execute(
            "SELECT body FROM content WHERE id = (SELECT content_id FROM message WHERE id = ?)", (message_id,)
        ).fetchone()
        try:
            content = decode_content(row[0])
        except (KeyError, ValueError, TypeError):
            return None
        return (content.name, content.language) if isinstance(content, Template) else None

    def hold_template(
        self, instance_id: int, template: tuple[str, str], *, at_ms: int, until_ms: int | None, reason: str
    ) -> None:
        self._connection.execute(
            """INSERT INTO template_hold (instance_id, name, language, since, until, reason) VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET since = excluded.since, until = excluded.until, reason = excluded.reason
            WHERE excluded.since > template_hold.since""",
            (instance_id, *template, at_ms, until_ms, reason),
        )

    def is_news(self, topic: str, *, at_ms: int) -> bool:
        changed = self._connection.execute(
            """INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value
            WHERE CAST(excluded.value AS INTEGER) > CAST(meta.value AS INTEGER)""",
            (f"heard:{topic}", str(at_ms)),
        )
        return changed.rowcount == 1

    def has_parked(self) -> bool:
        return self._connection.execute("SELECT 1 FROM receipt WHERE rule = 'parked' LIMIT 1").fetchone() is not None

    def read_parked(self, *, limit: int) -> list[tuple[int, StatusEvent, Posted]]:
        parked = []
        for row in self._connection.execute(READ_PARKED, (limit,)).fetchall():
            posted = self.find_post(row[11])
            if posted is not None:
                parked.append((row[0], _event(row), posted))
        return parked


def _posted(row: tuple[Any, ...]) -> Posted:
    return Posted(
        attempt_id=row[0],
        message_id=row[1],
        instance_id=row[2],
        contact_id=row[3],
        outcome=row[4],
        is_counted=bool(row[5]),
        provider_message_id=row[6],
        state=State(row[7]),
        receipt=Receipt(row[8]) if row[8] else None,
        reason=row[9],
        attempts=row[10],
        refusals=row[11],
        max_attempts=row[12],
        on_unknown=OnUnknown(row[13]),
        is_only=bool(row[14]),
        error_code=row[15],
        is_erased=bool(row[16]),
    )


def _write_restriction(restriction: Restriction | None) -> str | None:
    if restriction is None:
        return None
    return json.dumps([restriction.reason, restriction.scope.value, restriction.until_ms])


def _read_restriction(code: str, written: str | None) -> Restriction | None:
    if written is None:
        return None
    reason, scope, until_ms = json.loads(written)
    return Restriction(code=code, reason=reason, scope=RestrictionScope(scope), until_ms=until_ms)


def _event(row: tuple[Any, ...]) -> StatusEvent:
    """A parked receipt as it came.  Its number and tag have done their work."""
    refusal = None
    if row[5] is not None:
        refusal = Rejected(
            error_class=ErrorClass(row[5]),
            code=row[6],
            details=row[7],
            http_status=0,
            wait_seconds=row[8],
            max_attempts=row[9],
            consequence=Consequence(row[10]) if row[10] else None,
            restriction=_read_restriction(row[6], row[12]),
        )
    return StatusEvent(
        number_id="",
        provider_message_id=row[3],
        receipt=Receipt(row[1]),
        at_ms=row[4],
        participant=row[2],
        refusal=refusal,
    )
