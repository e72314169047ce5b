"""Short links and the clicks on them.

The key that signs their tokens lives here, in `meta`, and leaves this file for the making and reading of tokens alone.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from wa_cli.domain.click import AGAIN_MS, ClickKind, Clicks
from wa_cli.domain.link import KEY_BYTES

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from wa_cli.domain.click import Click
    from wa_cli.store.sqlite.database import Database

KEY_NAME: Final = "link_key"

# Once, if the same happens again within a few seconds.  Of people who were erased nothing new is kept.
RECORD: Final = """
    INSERT INTO click (plan_id, contact_id, number, at, kind, agent)
    SELECT :plan, :contact, :number, :at, :kind, :agent
    WHERE NOT EXISTS (SELECT 1 FROM click WHERE plan_id = :plan AND contact_id = :contact AND number = :number
            AND kind = :kind AND at > :at - :again AND at < :at + :again)
        AND NOT EXISTS (SELECT 1 FROM contact WHERE id = :contact AND erased_at IS NOT NULL)
"""
# A run that was planned anew has several plans; links of all of them are out there.
COUNT: Final = """
    SELECT click.kind, count(*), count(DISTINCT click.contact_id)
    FROM run CROSS JOIN plan ON plan.campaign_id = run.campaign_id AND plan.occurrence = run.occurrence
        CROSS JOIN click ON click.plan_id = plan.id
    WHERE run.id = ? GROUP BY click.kind
"""


class SqliteLinks:
    def __init__(self, database: Database) -> None:
        self._database = database

    # --- the key ---

    def find_key(self) -> bytes | None:
        """The key that signs tokens, or None while no link was ever made."""
        with self._database.read() as connection:
            return _read_key(connection)

    def take_key(self) -> bytes:
        """The key that signs tokens; made by the first who asks."""
        key = self.find_key()
        if key is None:
            with self._database.write() as connection:  # another process may have been faster
                connection.execute(
                    "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO NOTHING",
                    (KEY_NAME, secrets.token_hex(KEY_BYTES)),
                )
                key = _read_key(connection)
        assert key is not None
        return key

    # --- links ---

    def save(self, plan_id: int, urls: Iterable[tuple[int, str]]) -> None:
        """Store the links of a plan: (number, address), as `Shortener.take_new` gives them.  One transaction."""
        with self._database.write() as connection:
            save_links(connection, plan_id, urls)

    def find_url(self, plan_id: int, number: int) -> str | None:
        """Where a link leads, or None for one that is not there, or not any more."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT url FROM link WHERE plan_id = ? AND number = ?", (plan_id, number)
            ).fetchone()
        return row[0] if row else None

    # --- clicks ---

    def record(self, clicks: Sequence[Click]) -> int:
        """Write clicks down, repeated ones once.  One transaction.  Returns how many were new."""
        with self._database.write() as connection:
            return sum(
                connection.execute(
                    RECORD,
                    {
                        "plan": click.plan_id,
                        "contact": click.contact_id,
                        "number": click.number,
                        "at": click.at_ms,
                        "kind": click.kind,
                        "agent": click.agent,
                        "again": AGAIN_MS,
                    },
                ).rowcount
                for click in clicks
            )

    def count_clicks(self, run_id: int) -> Clicks:
        """How often the links of a run's messages were followed, by people and by programs."""
        with self._database.read() as connection:
            return count_clicks(connection, run_id)

    def newest_click_id(self) -> int:
        """Of the last click, 0 for none."""
        with self._database.read() as connection:
            return int(connection.execute("SELECT ifnull(max(id), 0) FROM click").fetchone()[0])

    def count_new_clicks(self, *, after_id: int, limit: int) -> tuple[int, dict[ClickKind, int]]:
        """The id of the last of the next clicks, and how many of them were of which kind."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT id, kind FROM click WHERE id > ? ORDER BY id LIMIT ?", (after_id, limit)
            ).fetchall()
        counts: dict[ClickKind, int] = {}
        for _id, word in rows:
            kind = ClickKind(word)
            counts[kind] = counts.get(kind, 0) + 1
        return (rows[-1][0] if rows else after_id), counts


def save_links(connection: sqlite3.Connection, plan_id: int, urls: Iterable[tuple[int, str]]) -> None:
    """The same as `SqliteLinks.save`, inside the caller's transaction."""
    connection.executemany(
        "INSERT INTO link (plan_id, number, url) VALUES (?, ?, ?)", ((plan_id, number, url) for number, url in urls)
    )


def count_clicks(connection: sqlite3.Connection, run_id: int) -> Clicks:
    """The same as `SqliteLinks.count_clicks`, inside the caller's transaction."""
    counts = {kind: (n, people) for kind, n, people in connection.execute(COUNT, (run_id,))}
    clicks, people = counts.get(ClickKind.PERSON.value, (0, 0))
    previews, _programs = counts.get(ClickKind.PREVIEW.value, (0, 0))
    return Clicks(people=people, clicks=clicks, previews=previews)


def count_clicks_of(connection: sqlite3.Connection, contact_id: int) -> int:
    """How often a person has followed a link; looks through all clicks."""
    row = connection.execute(
        "SELECT count(*) FROM click WHERE contact_id = ? AND kind = 'person'", (contact_id,)
    ).fetchone()
    return int(row[0])


def _read_key(connection: sqlite3.Connection) -> bytes | None:
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (KEY_NAME,)).fetchone()
    return bytes.fromhex(row[0]) if row else None
