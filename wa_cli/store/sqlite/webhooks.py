"""Webhooks as they came: kept before they are answered, read afterwards, for as long as the setting says."""

from __future__ import annotations

import json
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from wa_cli.errors import NotFound, StorageError, Temporary
from wa_cli.ports import StoredWebhook
from wa_cli.store.sqlite.leases import fold_log
from wa_cli.store.sqlite.messages import count_standings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from wa_cli.domain.webhook import WebhookRow, WebhookStatus
    from wa_cli.ports import NewWebhook
    from wa_cli.store.sqlite.database import Database

# In the order of `_row`.  The length of a body costs nothing: it stands at the head of its row.
COLUMNS: Final = """
    id, received_at, provider, is_signed, length(body), status, events, details, read_at,
    (SELECT name FROM instance WHERE id = webhook_logs.instance_id), instance_id
"""

INSERT: Final = """
    INSERT INTO webhook_logs (id, received_at, provider, is_signed, body, instance_id) VALUES (?, ?, ?, ?, ?, ?)
"""

READ_WAITING: Final = """
    SELECT id, received_at, body, instance_id FROM webhook_logs
    WHERE status = 'waiting' AND id > ?1 AND (?3 IS NULL OR id IN (SELECT value FROM json_each(?3)))
    ORDER BY id LIMIT ?2
"""

# What the events of webhooks can change, each in one number that costs a look at a few rows.
MARKS: Final = """
    SELECT (SELECT ifnull(max(id), 0) FROM receipt), (SELECT ifnull(max(id), 0) FROM inbound),
        (SELECT ifnull(max(id), 0) FROM consent), (SELECT ifnull(max(id), 0) FROM contact),
        (SELECT ifnull(max(id), 0) FROM decision),
        (SELECT count(*) FROM template_hold WHERE until IS NULL OR until > since),
        (SELECT count(*) FROM instance WHERE paused_at IS NOT NULL)
"""
MARK_NAMES: Final = (
    "receipts", "inbound_messages", "consent_changes", "people", "decisions", "held_templates", "paused_instances",
)  # fmt: skip

# The newest row stays, so that its number is not given out again.
PRUNE: Final = """
    DELETE FROM webhook_logs WHERE id IN
        (SELECT id FROM webhook_logs WHERE id < :first AND received_at < :before AND status <> 'waiting'
            AND id < (SELECT max(id) FROM webhook_logs) ORDER BY id LIMIT :limit)
"""
PRUNED_A_TURN: Final = 500

# What is wrong with the disk, the file or another process, and not with the statement at hand.
STORE_TROUBLE: Final = frozenset(
    (
        sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_SCHEMA,
    )
)  # fmt: skip


class SqliteWebhooks:
    """Implements Webhooks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- coming in ---

    def append(self, arrived: Sequence[NewWebhook]) -> list[int]:
        with self._database.write() as connection:
            (last_id,) = connection.execute("SELECT ifnull(max(id), 0) FROM webhook_logs").fetchone()
            ids = list(range(last_id + 1, last_id + 1 + len(arrived)))
            connection.executemany(
                INSERT,
                [
                    (webhook_id, one.received_at_ms, one.provider, one.is_signed, one.body, one.instance_id)
                    for webhook_id, one in zip(ids, arrived, strict=True)
                ],
            )
        return ids

    # --- being read ---

    def read_waiting(
        self, *, after_id: int, limit: int, most_bytes: int, only: Collection[int] | None = None
    ) -> list[StoredWebhook]:
        fold_log(self._database)
        chosen = None if only is None else json.dumps(list(only))
        waiting: list[StoredWebhook] = []
        size = 0
        with self._database.read() as connection:
            for webhook_id, received_at, body, instance_id in connection.execute(
                READ_WAITING, (after_id, limit, chosen)
            ):
                size += len(body)
                if waiting and size > most_bytes:
                    break
                waiting.append(
                    StoredWebhook(id=webhook_id, received_at_ms=received_at, body=body, instance_id=instance_id)
                )
        return waiting

    @contextmanager
    def turn(self) -> Iterator[SqliteWebhookTurn]:
        with self._database.write() as connection:
            yield SqliteWebhookTurn(connection)

    def reopen(self, webhook_ids: Sequence[int]) -> int:
        """Let these be read again.  Returns how many there are; those that wait already are among them.

        Raises: NotFound for the first that does not exist; then nothing has changed.
        """
        with self._database.write() as connection:
            known = {
                row[0]
                for row in connection.execute(
                    "SELECT id FROM webhook_logs WHERE id IN (SELECT value FROM json_each(?))",
                    (json.dumps(list(webhook_ids)),),
                )
            }
            for webhook_id in webhook_ids:
                if webhook_id not in known:
                    raise _not_found(webhook_id)
            _reopen(connection, sorted(known))
        return len(known)

    def reopen_failed(self) -> list[int]:
        """Let all that have failed be read again.  Returns their ids."""
        with self._database.write() as connection:
            ids = [row[0] for row in connection.execute("SELECT id FROM webhook_logs WHERE status = 'failed'")]
            _reopen(connection, ids)
        return ids

    # --- looking ---

    def find(self, webhook_id: int) -> tuple[WebhookRow, bytes]:
        """A webhook and its body.  Raises: NotFound."""
        with self._database.read() as connection:
            row = connection.execute(
                f"SELECT {COLUMNS}, body FROM webhook_logs WHERE id = ?",  # noqa: S608  # own words
                (webhook_id,),
            ).fetchone()
        if row is None:
            raise _not_found(webhook_id)
        return _row(row), row[-1]

    def list_newest(self, status: WebhookStatus | None, *, before_id: int | None, limit: int) -> list[WebhookRow]:
        """At most `limit` webhooks, newest first.  before_id: the last one of the page before."""
        conditions, values = ["1"], list[object]()
        if before_id is not None:
            conditions.append("id < ?")
            values.append(before_id)
        if status is not None:
            conditions.append("status = ?")
            values.append(status)
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {COLUMNS} FROM webhook_logs WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?",  # noqa: S608  # own words
                [*values, limit],
            ).fetchall()
        return [_row(row) for row in rows]

    def count_waiting(self) -> int:
        """How many wait to be read.  Quick, however many are kept."""
        with self._database.read() as connection:
            row = connection.execute("SELECT count(*) FROM webhook_logs WHERE status = 'waiting'").fetchone()
        return int(row[0])

    def count_failed(self) -> int:
        """How many could not be read.  Quick, however many are kept."""
        with self._database.read() as connection:
            row = connection.execute("SELECT count(*) FROM webhook_logs WHERE status = 'failed'").fetchone()
        return int(row[0])

    def count_by_status(self) -> dict[WebhookStatus, int]:
        """How many stand where, every status present.  Looks at every row that is kept."""
        from wa_cli.domain.webhook import WebhookStatus

        counts = dict.fromkeys(WebhookStatus, 0)
        with self._database.read() as connection:
            for status, count in connection.execute("SELECT status, count(*) FROM webhook_logs GROUP BY status"):
                counts[WebhookStatus(status)] = count
        return counts

    # --- being forgotten ---

    def prune(self, *, before_ms: int, most: int) -> int:
        with self._database.read() as connection:
            first = _first_since(connection, before_ms)
        pruned = 0
        while pruned < most:
            limit = min(PRUNED_A_TURN, most - pruned)
            with self._database.write() as connection:
                gone = connection.execute(PRUNE, {"first": first, "before": before_ms, "limit": limit})
            pruned += gone.rowcount
            if gone.rowcount < limit:
                break
            fold_log(self._database)
        return pruned


class SqliteWebhookTurn:
    """Implements WebhookTurn on an open transaction.  connection: where the effects of a webhook are written."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def keep_waiting(self, webhook_ids: Sequence[int]) -> set[int]:
        rows = self.connection.execute(
            "SELECT id FROM webhook_logs WHERE status = 'waiting' AND id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(webhook_ids)),),
        )
        return {row[0] for row in rows}

    def attempt(self, work: Callable[[], object]) -> Exception | None:
        self.connection.execute("SAVEPOINT attempt")
        try:
            work()
        except (StorageError, Temporary):
            raise
        except Exception as error:  # a fault of ours may cost one webhook, and not those behind it
            if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in STORE_TROUBLE:
                raise
            self.connection.execute("ROLLBACK TO attempt")
            self.connection.execute("RELEASE attempt")
            return error
        self.connection.execute("RELEASE attempt")
        return None

    def read_marks(self) -> dict[str, int]:
        return count_standings(self.connection) | dict(
            zip(MARK_NAMES, self.connection.execute(MARKS).fetchone(), strict=True)
        )

    def note_arrival(self, instance_id: int, *, at_ms: int) -> None:
        self.connection.execute(
            """UPDATE instance SET webhooks_since = min(ifnull(webhooks_since, ?1), ?1),
                last_webhook_at = max(ifnull(last_webhook_at, ?1), ?1)
            WHERE id = ?2 AND (webhooks_since IS NULL OR webhooks_since > ?1 OR last_webhook_at < ?1)""",
            (at_ms, instance_id),
        )

    def finish(
        self, webhook_id: int, *, status: WebhookStatus, events: int | None, details: str | None, now_ms: int
    ) -> None:
        self.connection.execute(
            "UPDATE webhook_logs SET status = ?, events = ?, details = ?, read_at = ? WHERE id = ?",
            (status, events, details, now_ms, webhook_id),
        )


def _reopen(connection: sqlite3.Connection, webhook_ids: Sequence[int]) -> None:
    connection.executemany(
        """UPDATE webhook_logs SET status = 'waiting', events = NULL, details = NULL, read_at = NULL
        WHERE id = ? AND status <> 'waiting'""",
        [(webhook_id,) for webhook_id in webhook_ids],
    )


def _first_since(connection: sqlite3.Connection, since_ms: int) -> int:
    """The id of the first webhook that came then or later, found by halving: ids follow the time, but for a clock that
    was set."""
    low, high = connection.execute(
        """SELECT ifnull((SELECT min(id) FROM webhook_logs), 1), ifnull((SELECT max(id) FROM webhook_logs), 0) + 1"""
    ).fetchone()
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(
            "SELECT received_at FROM webhook_logs WHERE id >= ? ORDER BY id LIMIT 1", (middle,)
        ).fetchone()
        if row is None or row[0] >= since_ms:
            high = middle
        else:
            low = middle + 1
    return int(low)


def _row(row: tuple[Any, ...]) -> WebhookRow:
    from wa_cli.domain.webhook import WebhookRow, WebhookStatus

    return WebhookRow(
        id=row[0],
        received_at_ms=row[1],
        provider=row[2],
        is_signed=bool(row[3]),
        size=row[4],
        status=WebhookStatus(row[5]),
        events=row[6],
        details=row[7],
        read_at_ms=row[8],
        instance=row[9],
        instance_id=row[10],
    )


def _not_found(webhook_id: int) -> NotFound:
    from wa_cli.domain.webhook import format_webhook_id

    return NotFound(
        f"there is no webhook {format_webhook_id(webhook_id)}",
        hint="`wa webhook list` shows those that are kept",
        code="no_webhook",
    )
