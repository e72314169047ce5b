"""Leases: one holder sends for an instance at a time, and what a dead one left behind becomes unknown."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from wa_cli.cuts import cut
from wa_cli.errors import Temporary
from wa_cli.ports import LEASE_MS, Holder, Lease
from wa_cli.store.sqlite.database import LONG_LOG_BYTES
from wa_cli.store.sqlite.owners import Owner, host_name, is_alive

if TYPE_CHECKING:
    import sqlite3

    from wa_cli.store.sqlite.database import Database

CLOCK_TOLERANCE_MS: Final = 300_000

LATE_SECOND: Final = "the process that sent it ended before the answer was recorded"


class SqliteLeases:
    def __init__(self, database: Database, owner: Owner, *, lease_ms: int = LEASE_MS) -> None:
        """lease_ms: how long a lease that this process takes lasts without being renewed."""
        self._database = database
        self._owner = owner
        self._lease_ms = lease_ms

    def acquire(self, instance_id: int, *, role: str, now_ms: int) -> Lease | Holder:
        token, expires_at_ms = self._owner.token, now_ms + self._lease_ms
        with self._database.write() as connection:
            _check_clock(connection, now_ms)
            row = _read(connection, instance_id)
            if row is not None and row.owner != token and self._lives(row, now_ms):
                return _holder(row)
            epoch = (row.epoch if row else 0) + 1
            # Take the lease over: the old epoch may neither start nor record from this commit on.
            connection.execute(
                """INSERT INTO lease (instance_id, epoch, owner, role, pid, host, acquired_at, expires_at)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT DO UPDATE SET epoch = excluded.epoch, owner = excluded.owner, role = excluded.role,
                    pid = excluded.pid, host = excluded.host, acquired_at = excluded.acquired_at,
                    expires_at = excluded.expires_at""",
                (instance_id, epoch, token, role, os.getpid(), host_name(), now_ms, expires_at_ms),
            )
            bury(connection, instance_id, now_ms=now_ms)
            cut("lease_before_commit")
            name = connection.execute("SELECT name FROM instance WHERE id = ?", (instance_id,)).fetchone()[0]
        cut("lease_after_commit")
        self._database.may_checkpoint = True
        return Lease(
            instance_id=instance_id,
            instance=name,
            epoch=epoch,
            expires_at_ms=expires_at_ms,
            length_ms=self._lease_ms,
        )

    def release(self, lease: Lease) -> None:
        self._database.may_checkpoint = False
        with self._database.write() as connection:
            connection.execute(
                "UPDATE lease SET owner = NULL, expires_at = 0 WHERE instance_id = ? AND epoch = ?",
                (lease.instance_id, lease.epoch),
            )

    def find_holder(self, instance_id: int, *, now_ms: int) -> Holder | None:
        with self._database.read() as connection:
            row = _read(connection, instance_id)
        return _holder(row) if row is not None and self._lives(row, now_ms) else None

    def bury_dead(self, *, now_ms: int) -> int:
        with self._database.read() as connection:
            suspects = connection.execute(
                """SELECT DISTINCT message.instance_id FROM message WHERE state = 'sending'"""
            ).fetchall()
        buried = 0
        for (instance_id,) in suspects:
            with self._database.write() as connection:
                row = _read(connection, instance_id)
                if row is not None and self._lives(row, now_ms):
                    continue
                # A higher epoch without an owner: whoever was frozen may not record any more either.
                connection.execute(
                    "UPDATE lease SET owner = NULL, epoch = epoch + 1, expires_at = 0 WHERE instance_id = ?",
                    (instance_id,),
                )
                buried += bury(connection, instance_id, now_ms=now_ms)
        return buried

    def _lives(self, row: _Row, now_ms: int) -> bool:
        if row.owner is None or row.expires_at <= now_ms:
            return False
        # Only this machine's processes can be looked at; another machine's holder lives until its lease runs out.
        return row.host != host_name() or row.owner == self._owner.peek() or is_alive(self._database.path, row.owner)


def _check_clock(connection: sqlite3.Connection, now_ms: int) -> None:
    """A machine that boots in 1970 must not judge what is due."""
    row = connection.execute("SELECT started_at FROM attempt ORDER BY id DESC LIMIT 1").fetchone()
    if row is not None and row[0] > now_ms + CLOCK_TOLERANCE_MS:
        behind = (row[0] - now_ms) / 60_000
        raise Temporary(
            f"this computer's clock is {behind:.0f} min behind the last message that was sent",
            hint="set the clock (`date` shows it); nothing is sent until it is right",
            code="clock_behind",
        )


def fold_log(database: Database) -> None:
    """Keep the log of a long enqueue or import short, unless somebody who sends does so.  Between transactions."""
    if database.may_checkpoint or not database.is_log_longer_than(LONG_LOG_BYTES):
        return
    with database.read() as connection:
        holders = connection.execute("SELECT owner FROM lease WHERE owner IS NOT NULL").fetchall()
    if not any(is_alive(database.path, owner) for (owner,) in holders):
        database.may_checkpoint = True
        try:
            database.checkpoint()
        finally:
            database.may_checkpoint = False


def bury(connection: sqlite3.Connection, instance_id: int, *, now_ms: int) -> int:
    """Whatever an instance has in `sending` cannot be known any more.  Called by whoever holds the highest epoch."""
    connection.execute(
        """UPDATE attempt SET outcome = 'ambiguous', counted = 1, error_code = 'worker_died', details = ?
        WHERE outcome IS NULL AND message_id IN
            (SELECT id FROM message WHERE instance_id = ? AND state = 'sending')""",
        (LATE_SECOND, instance_id),
    )
    # A message whose policy is `skip` is closed at once, like any other unknown of that policy.
    changed = connection.execute(
        """UPDATE message SET
            state = CASE (SELECT on_unknown FROM batch WHERE batch.id = message.batch_id)
                WHEN 'skip' THEN 'skipped' ELSE 'unknown' END,
            reason = CASE reason WHEN 'cancel_requested' THEN reason ELSE 'outcome_unknown' END,
            error_code = 'worker_died', error_details = ?,
            attempts = attempts + 1, changed_at = ?
        WHERE instance_id = ? AND state = 'sending'""",
        (LATE_SECOND, now_ms, instance_id),
    )
    return changed.rowcount


class _Row(NamedTuple):
    epoch: int
    owner: str | None
    role: str
    pid: int
    host: str
    acquired_at: int
    expires_at: int


def _read(connection: sqlite3.Connection, instance_id: int) -> _Row | None:
    row = connection.execute(
        "SELECT epoch, owner, role, pid, host, acquired_at, expires_at FROM lease WHERE instance_id = ?", (instance_id,)
    ).fetchone()
    return _Row(*row) if row else None


def _holder(row: _Row) -> Holder:
    return Holder(role=row.role, pid=row.pid, host=row.host, since_ms=row.acquired_at)
