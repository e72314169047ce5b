"""Figures for a monitor: what has happened since it looked last, so that a look costs no more than what is new."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wa_cli.store.sqlite.upkeep import first_attempt_since

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wa_cli.store.sqlite.database import Database

READ_ATTEMPTS: Final = """
    SELECT a.id, a.outcome, a.error_code, a.latency_ms,
        CASE WHEN m.state <> 'queued' THEN a.started_at - m.due_at END
    FROM attempt AS a JOIN message AS m ON m.id = a.message_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFigure:
    """One post.  outcome: None while it is on its way.  late_ms: how long after its due time it began, if known."""

    id: int
    outcome: str | None
    error_code: str | None
    latency_ms: int | None
    late_ms: int | None


class SqliteFigures:
    def __init__(self, database: Database) -> None:
        self._database = database

    def newest_ids(self) -> tuple[int, int]:
        """Of the last attempt and the last receipt, 0 for none."""
        with self._database.read() as connection:
            row = connection.execute(
                """SELECT ifnull((SELECT max(id) FROM attempt), 0), ifnull((SELECT max(id) FROM receipt), 0)"""
            ).fetchone()
        return int(row[0]), int(row[1])

    def read_attempts(self, *, after_id: int, limit: int) -> list[AttemptFigure]:
        """The next attempts in the order they began."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"{READ_ATTEMPTS} WHERE a.id > ? ORDER BY a.id LIMIT ?",  # own words
                (after_id, limit),
            ).fetchall()
        return [_figure(row) for row in rows]

    def read_these_attempts(self, ids: Iterable[int]) -> list[AttemptFigure]:
        with self._database.read() as connection:
            rows = connection.execute(
                f"{READ_ATTEMPTS} WHERE a.id IN (SELECT value FROM json_each(?))",  # noqa: S608  # own words
                (json.dumps(list(ids)),),
            ).fetchall()
        return [_figure(row) for row in rows]

    def count_receipts(self, *, after_id: int, limit: int) -> tuple[int, dict[str, int]]:
        """The id of the last of the next receipts, and how many of them say what."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT id, status FROM receipt WHERE id > ? ORDER BY id LIMIT ?", (after_id, limit)
            ).fetchall()
        counts: dict[str, int] = {}
        for _id, status in rows:
            counts[status] = counts.get(status, 0) + 1
        return (rows[-1][0] if rows else after_id), counts

    def read_standings(self) -> list[tuple[int, str, str | None, int]]:
        """(instance id, state, receipt, how many), from the tally."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT instance_id, state, nullif(receipt, ''), n FROM tally").fetchall()
        return [(row[0], row[1], row[2], row[3]) for row in rows]

    def count_starts(self, instance_id: int, *, since_ms: int) -> int:
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT count(*) FROM attempt WHERE id >= ? AND instance_id = ? AND started_at >= ?",
                (first_attempt_since(connection, since_ms), instance_id, since_ms),
            ).fetchone()
        return int(row[0])

    def count_people(self, instance_id: int, *, since_ms: int) -> int:
        """Different people written to since then."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT count(DISTINCT contact_id) FROM attempt WHERE id >= ? AND instance_id = ? AND started_at >= ?",
                (first_attempt_since(connection, since_ms), instance_id, since_ms),
            ).fetchone()
        return int(row[0])

    def count_new_chats(self, instance_id: int, *, since_ms: int) -> int:
        """People written to for the first time since then, as far as a limit had them counted."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT count(*) FROM conversation WHERE instance_id = ? AND opened_at >= ?", (instance_id, since_ms)
            ).fetchone()
        return int(row[0])


def _figure(row: tuple[int, str | None, str | None, int | None, int | None]) -> AttemptFigure:
    return AttemptFigure(id=row[0], outcome=row[1], error_code=row[2], latency_ms=row[3], late_ms=row[4])
