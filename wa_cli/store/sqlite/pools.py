"""Pools: several instances behind one name, and who of them writes to whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wa_cli.errors import Conflict, NotFound
from wa_cli.ports import Pool

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Sequence

    from wa_cli.store.sqlite.database import Database

# Whoever writes to a person outside the pool, by its own name, has that person from then on.
SEAT_EARLIER: Final = """
    INSERT OR IGNORE INTO pool_seat (pool_id, contact_id, instance_id)
    SELECT :pool, message.contact_id, message.instance_id FROM message
    JOIN pool_member ON pool_member.pool_id = :pool AND pool_member.instance_id = message.instance_id
    WHERE message.id > :seen AND message.state IN ('queued', 'sending', 'sent', 'unknown')
    ORDER BY message.id DESC
"""
SEAT_TALKS: Final = """
    INSERT OR IGNORE INTO pool_seat (pool_id, contact_id, instance_id)
    SELECT :pool, conversation.contact_id, conversation.instance_id FROM conversation
    JOIN pool_member ON pool_member.pool_id = :pool AND pool_member.instance_id = conversation.instance_id
    WHERE conversation.last_inbound_at IS NOT NULL ORDER BY conversation.last_inbound_at DESC
"""
# Whoever was written to by a message that was pruned has no more than a row without news in it.
SEAT_KNOWN: Final = """
    INSERT OR IGNORE INTO pool_seat (pool_id, contact_id, instance_id)
    SELECT :pool, conversation.contact_id, conversation.instance_id FROM conversation
    JOIN pool_member ON pool_member.pool_id = :pool AND pool_member.instance_id = conversation.instance_id
    WHERE conversation.closed_at IS NULL ORDER BY conversation.instance_id
"""
MOVED_AT_ONCE: Final = 2_000

# What another number of the pool may send as well; a message to a group only where every other one was seen in it.
MOVABLE: Final = """
    SELECT message.id, message.contact_id FROM message
    JOIN batch ON batch.id = message.batch_id
    JOIN contact ON contact.id = message.contact_id
    WHERE message.state = 'queued' AND message.instance_id = ? AND batch.pool_id = ?
        AND (contact.kind = 'person' OR NOT EXISTS (
            SELECT 1 FROM pool_member
            LEFT JOIN group_chat AS g ON g.instance_id = pool_member.instance_id AND g.address = contact.address
            WHERE pool_member.pool_id = batch.pool_id AND pool_member.instance_id <> message.instance_id
                AND (g.is_member IS NOT 1 OR g.may_post IS 0)))
"""


class SqlitePools:
    def __init__(self, database: Database) -> None:
        self._database = database

    def list_all(self) -> list[Pool]:
        with self._database.read() as connection:
            rows = connection.execute(
                """SELECT pool.id, pool.name, instance.name FROM pool
                LEFT JOIN pool_member ON pool_member.pool_id = pool.id
                LEFT JOIN instance ON instance.id = pool_member.instance_id
                ORDER BY pool.name, instance.id"""
            ).fetchall()
        members: dict[tuple[int, str], list[str]] = {}
        for pool_id, name, member in rows:
            members.setdefault((pool_id, name), []).extend([member] if member is not None else [])
        return [Pool(id=pool_id, name=name, members=tuple(names)) for (pool_id, name), names in members.items()]

    def find(self, name: str) -> Pool | None:
        return next((pool for pool in self.list_all() if pool.name == name), None)

    def get(self, name: str) -> Pool:
        """Raises: NotFound."""
        found = self.find(name)
        if found is None:
            known = ", ".join(pool.name for pool in self.list_all())
            hint = f"there is: {known}" if known else "`wa pool create NAME INSTANCE...` makes one"
            raise NotFound(f"no pool named '{name}'", hint=hint, code="no_pool")
        return found

    def create(self, name: str, instance_ids: Sequence[int], *, now_ms: int) -> None:
        """Raises: Conflict when an instance or a pool has the name."""
        with self._database.write() as connection:
            taken = connection.execute(
                """SELECT 'an instance' FROM instance WHERE name = ?1
                UNION ALL SELECT 'a pool' FROM pool WHERE name = ?1""",
                (name,),
            ).fetchone()
            if taken is not None:
                raise Conflict(
                    f"there is {taken[0]} named '{name}' already", hint="choose another name", code="pool_exists"
                )
            pool_id = connection.execute("INSERT INTO pool (name, created_at) VALUES (?, ?)", (name, now_ms)).lastrowid
            assert pool_id is not None
            _join(connection, pool_id, instance_ids)

    def add(self, pool_id: int, instance_ids: Iterable[int]) -> None:
        with self._database.write() as connection:
            _join(connection, pool_id, instance_ids)

    def remove(self, pool_id: int, instance_id: int) -> bool:
        """Take a member out; those it wrote to are free for others.  False: it was none."""
        with self._database.write() as connection:
            left = connection.execute(
                "DELETE FROM pool_member WHERE pool_id = ? AND instance_id = ?", (pool_id, instance_id)
            )
            connection.execute("DELETE FROM pool_seat WHERE pool_id = ? AND instance_id = ?", (pool_id, instance_id))
        return left.rowcount == 1

    def delete(self, pool_id: int) -> None:
        with self._database.write() as connection:
            connection.execute("DELETE FROM pool WHERE id = ?", (pool_id,))

    def refresh_seats(self, pool_id: int) -> None:
        """Note who has been written to, by the members' own names too, so that they keep their number."""
        with self._database.write() as connection:
            read_seats(connection, pool_id, ())

    def count_seats(self, pool_id: int) -> dict[int, int]:
        """How many people each member writes to."""
        with self._database.read() as connection:
            return dict(
                connection.execute(
                    "SELECT instance_id, count(*) FROM pool_seat WHERE pool_id = ? GROUP BY instance_id", (pool_id,)
                ).fetchall()
            )

    def move_from(self, pool_id: int, instance_id: int, *, known: Collection[int]) -> list[tuple[int, int]]:
        """(message id, contact id) of what waits for a member that cannot send, and that another may send as well.

        A message that waits was provably not sent: whatever may have been accepted is `sent` or `unknown`.
        A message to a group only where every other member is known to be in it.
        known: people who stay, since that member has written to them or they to it.
        """
        with self._database.read() as connection:
            rows = connection.execute(
                MOVABLE,
                (instance_id, pool_id),
            ).fetchall()
        return [(message_id, contact_id) for message_id, contact_id in rows if contact_id not in known]

    def list_known(self, instance_id: int) -> set[int]:
        """Everybody whom an instance has written to, or may have, or who has written to it."""
        with self._database.read() as connection:
            rows = connection.execute(
                """SELECT contact_id FROM message WHERE instance_id = ?1 AND state IN ('sending', 'sent', 'unknown')
                UNION SELECT contact_id FROM conversation
                WHERE instance_id = ?1 AND (last_inbound_at IS NOT NULL OR closed_at IS NULL)""",
                (instance_id,),
            ).fetchall()
        return {contact_id for (contact_id,) in rows}

    def move(self, pool_id: int, moves: Sequence[tuple[int, int, int]], *, reason: str, now_ms: int) -> int:
        """Give waiting messages to other members, with their keys and their people.  Returns how many were moved.

        moves: (message id, contact id, instance id).  One that no longer waits stays where it is.
        """
        moved = 0
        for start in range(0, len(moves), MOVED_AT_ONCE):
            with self._database.write() as connection:
                for message_id, contact_id, instance_id in moves[start : start + MOVED_AT_ONCE]:
                    changed = connection.execute(
                        "UPDATE message SET instance_id = ? WHERE id = ? AND state = 'queued'",
                        (instance_id, message_id),
                    )
                    if changed.rowcount != 1:
                        continue
                    moved += 1
                    connection.execute(
                        """UPDATE OR REPLACE live_key SET instance_id = ?1 WHERE message_id = ?2 AND contact_id = ?3
                        AND content_id = (SELECT content_id FROM message WHERE id = ?2)""",
                        (instance_id, message_id, contact_id),
                    )
                    connection.execute(
                        "UPDATE pool_seat SET instance_id = ? WHERE pool_id = ? AND contact_id = ?",
                        (instance_id, pool_id, contact_id),
                    )
                    connection.execute(
                        "INSERT INTO decision (message_id, at, rule, details) VALUES (?, ?, 'moved', ?)",
                        (message_id, now_ms, reason),
                    )
        return moved


def read_seats(connection: sqlite3.Connection, pool_id: int, contact_ids: Collection[int]) -> dict[int, int]:
    """The member that each of these people has, for those who have one; inside the caller's transaction."""
    (seen,) = connection.execute("SELECT seen_message_id FROM pool WHERE id = ?", (pool_id,)).fetchone()
    (newest,) = connection.execute("SELECT ifnull(max(id), 0) FROM message").fetchone()
    if newest > seen:
        connection.execute(SEAT_TALKS, {"pool": pool_id})
        connection.execute(SEAT_EARLIER, {"pool": pool_id, "seen": seen})
        connection.execute(SEAT_KNOWN, {"pool": pool_id})
        connection.execute("UPDATE pool SET seen_message_id = ? WHERE id = ?", (newest, pool_id))
    wanted = list(contact_ids)
    seats: dict[int, int] = {}
    for start in range(0, len(wanted), 500):
        some = wanted[start : start + 500]
        marks = ", ".join("?" * len(some))
        rows = connection.execute(
            f"SELECT contact_id, instance_id FROM pool_seat WHERE pool_id = ? AND contact_id IN ({marks})",  # noqa: S608  # marks alone
            (pool_id, *some),
        ).fetchall()
        seats.update(rows)
    return seats


def save_seats(connection: sqlite3.Connection, pool_id: int, seats: Iterable[tuple[int, int]]) -> None:
    """Remember (contact id, instance id), inside the caller's transaction."""
    connection.executemany(
        "INSERT OR IGNORE INTO pool_seat (pool_id, contact_id, instance_id) VALUES (?, ?, ?)",
        [(pool_id, contact_id, instance_id) for contact_id, instance_id in seats],
    )


def _join(connection: sqlite3.Connection, pool_id: int, instance_ids: Iterable[int]) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO pool_member (pool_id, instance_id) VALUES (?, ?)",
        [(pool_id, instance_id) for instance_id in instance_ids],
    )
    connection.execute("UPDATE pool SET seen_message_id = 0 WHERE id = ?", (pool_id,))
