"""Instances: the identities that send, and whether they may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, assert_never

from wa_cli.errors import NotFound
from wa_cli.ports import Instance

if TYPE_CHECKING:
    import sqlite3

    from wa_cli.domain.retry import Rest, Stop
    from wa_cli.store.sqlite.database import Database

# In the order of Instance's fields.
COLUMNS: Final = """
    id, name, transport, paused_at, paused_by, pause_code, pause_reason, rests_until, rest_reason, webhooks_since,
    last_webhook_at
"""


class SqliteInstances:
    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, name: str) -> Instance:
        with self._database.read() as connection:
            row = connection.execute(f"SELECT {COLUMNS} FROM instance WHERE name = ?", (name,)).fetchone()  # noqa: S608  # own words
        if row is None:
            known = [instance.name for instance in self.list_all()]
            raise NotFound(
                f"no instance named '{name}'",
                hint=f"there is: {', '.join(known)}" if known else "`wa init` sets one up",
                code="no_instance",
            )
        return _instance(row)

    def list_all(self) -> list[Instance]:
        with self._database.read() as connection:
            rows = connection.execute(f"SELECT {COLUMNS} FROM instance ORDER BY id").fetchall()  # noqa: S608  # own words
        return [_instance(row) for row in rows]

    def pause(self, instance_id: int, *, reason: str, now_ms: int) -> bool:
        with self._database.write() as connection:
            changed = connection.execute(
                """UPDATE instance SET paused_at = ?, paused_by = 'person', pause_code = NULL, pause_reason = ?
                WHERE id = ? AND paused_at IS NULL""",
                (now_ms, reason, instance_id),
            )
        return changed.rowcount == 1

    def resume(self, instance_id: int) -> bool:
        with self._database.write() as connection:
            changed = connection.execute(
                """UPDATE instance SET paused_at = NULL, paused_by = NULL, pause_code = NULL, pause_reason = NULL,
                    rests_until = 0, rest_reason = NULL
                WHERE id = ? AND (paused_at IS NOT NULL OR rests_until > 0)""",
                (instance_id,),
            )
        return changed.rowcount == 1

    def count_sending(self, instance_id: int) -> int:
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT count(*) FROM message WHERE state = 'sending' AND instance_id = ?", (instance_id,)
            ).fetchone()
        return int(row[0])


def apply_effect(connection: sqlite3.Connection, instance_id: int, effect: Rest | Stop, *, now_ms: int) -> None:
    """Rest or pause an instance, inside the caller's transaction."""
    from wa_cli.domain.retry import Rest, Stop  # not for those who only ask how it stands

    match effect:
        case Rest():
            connection.execute(
                "UPDATE instance SET rests_until = max(rests_until, ?), rest_reason = ? WHERE id = ?",
                (now_ms + round(effect.seconds * 1000), effect.reason, instance_id),
            )
        case Stop():
            # The first reason stays: it is the one a person has to act on.
            connection.execute(
                """UPDATE instance SET paused_at = ?, paused_by = ?, pause_code = ?, pause_reason = ?
                WHERE id = ? AND paused_at IS NULL""",
                (now_ms, effect.by, effect.code, effect.reason, instance_id),
            )
        case _:
            assert_never(effect)


def _instance(row: tuple[Any, ...]) -> Instance:
    return Instance(
        id=row[0],
        name=row[1],
        transport=row[2],
        paused_at_ms=row[3],
        paused_by=row[4],
        pause_code=row[5],
        pause_reason=row[6],
        rests_until_ms=row[7],
        rest_reason=row[8],
        webhooks_since_ms=row[9],
        last_webhook_at_ms=row[10],
    )
