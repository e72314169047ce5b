"""The approved templates of an account, as they were last read from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from wa_cli.domain.template import APPROVED, StoredTemplate, TemplateChanges, decode_template, encode_components

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from wa_cli.store.sqlite.database import Database

# In the order of `_template`.  A hold is what came back from the platform since: a refusal, or a webhook.
SELECT: Final = """
    SELECT template.name, template.language, category, status, parameter_format, components, synced_at,
        template_hold.reason, template_hold.until
    FROM template LEFT JOIN template_hold ON template_hold.instance_id = template.instance_id
        AND template_hold.name = template.name AND template_hold.language = template.language
        AND (template_hold.until IS NULL OR template_hold.until > :now)
    WHERE template.instance_id = :instance
"""
IN_ORDER: Final = " ORDER BY template.name, template.language"
FIND: Final = f"{SELECT} AND template.name = :name{IN_ORDER}"
LIST: Final = f"{SELECT}{IN_ORDER}"


class SqliteTemplates:
    def __init__(self, database: Database) -> None:
        self._database = database

    def replace(self, instance_id: int, templates: Sequence[StoredTemplate], *, now_ms: int) -> TemplateChanges:
        """Put these in the place of all that were known of the instance, in one transaction.

        A hold on one that is approved now ends: that is younger than whatever put it there.
        """
        rows = {
            (one.name, one.language): (
                one.category,
                one.status,
                "named" if one.is_named else "positional",
                encode_components(one),
            )
            for one in templates
        }
        with self._database.write() as connection:
            before = {
                (row[0], row[1]): row[2:]
                for row in connection.execute(
                    """SELECT name, language, category, status, parameter_format, components FROM template
                    WHERE instance_id = ?""",
                    (instance_id,),
                )
            }
            connection.execute("DELETE FROM template WHERE instance_id = ?", (instance_id,))
            connection.executemany(
                "INSERT INTO template VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                ((instance_id, *key, *row, now_ms) for key, row in rows.items()),
            )
            lifted = [
                (one.name, one.language)
                for one in templates
                if one.status == APPROVED and _lift(connection, instance_id, one, now_ms=now_ms)
            ]
            connection.execute(
                "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
                (_mark(instance_id), str(now_ms)),
            )
        return TemplateChanges(
            added=tuple(sorted(rows.keys() - before.keys())),
            changed=tuple(sorted(key for key in rows.keys() & before.keys() if rows[key] != before[key])),
            removed=tuple(sorted(before.keys() - rows.keys())),
            lifted=tuple(sorted(lifted)),
        )

    def list_all(self, instance_id: int, *, now_ms: int) -> list[StoredTemplate]:
        """By name, then by language."""
        with self._database.read() as connection:
            rows = connection.execute(LIST, {"instance": instance_id, "now": now_ms}).fetchall()
        return [_template(row) for row in rows]

    def find(self, instance_id: int, name: str, *, now_ms: int) -> list[StoredTemplate]:
        """The template in each of its languages."""
        with self._database.read() as connection:
            rows = connection.execute(FIND, {"instance": instance_id, "name": name, "now": now_ms}).fetchall()
        return [_template(row) for row in rows]

    def last_synced_at_ms(self, instance_id: int) -> int | None:
        """When the account's templates were last read, or None: then nothing is known of them."""
        with self._database.read() as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (_mark(instance_id),)).fetchone()
        return int(row[0]) if row else None


def _mark(instance_id: int) -> str:
    return f"templates_synced:{instance_id}"


def _lift(connection: sqlite3.Connection, instance_id: int, template: StoredTemplate, *, now_ms: int) -> bool:
    lifted = connection.execute(
        """UPDATE template_hold SET since = :now, until = :now
        WHERE instance_id = :instance AND name = :name AND language = :language
            AND since <= :now AND (until IS NULL OR until > :now)""",
        {"instance": instance_id, "name": template.name, "language": template.language, "now": now_ms},
    )
    return lifted.rowcount == 1


def _template(row: tuple[Any, ...]) -> StoredTemplate:
    return decode_template(
        row[5],
        name=row[0],
        language=row[1],
        category=row[2],
        status=row[3],
        is_named=row[4] == "named",
        synced_at_ms=row[6],
        held_reason=row[7],
        held_until_ms=row[8],
    )
