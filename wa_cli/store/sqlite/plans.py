"""Plans in the store: frozen timetables, and the people they are made from."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from wa_cli.cuts import cut
from wa_cli.domain.message import content_hash
from wa_cli.domain.plan import Plan
from wa_cli.errors import Conflict, NotFound
from wa_cli.store.sqlite.audiences import DROP_PEOPLE, MAKE_PEOPLE, Gathering, match_contacts
from wa_cli.store.sqlite.bulk import insert_rows
from wa_cli.store.sqlite.database import LONGEST_WAIT_SECONDS, rename_error
from wa_cli.store.sqlite.leases import fold_log
from wa_cli.store.sqlite.owners import is_alive

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from wa_cli.domain.plan import Part, PlanLine
    from wa_cli.store.sqlite.database import Database
    from wa_cli.store.sqlite.owners import Owner

LINES_READ: Final = 2_000
# Between two transactions of a long plan the file is free for so long, which is longer than those who wait let pass
# between two looks, since SQLite does not queue them.
BREATH_SECONDS: Final = 1.2 * LONGEST_WAIT_SECONDS

LINES_AT_ONCE: Final = 2_000
HASHES_A_LOOK: Final = 250
# Numbers of plans that have lines and need none: they are gone, or have become messages.  Steps from one number to the
# next along the index.
FIND_IDLE_LINES: Final = """
    WITH RECURSIVE known (id) AS (
        SELECT min(plan_id) FROM plan_line
        UNION ALL
        SELECT (SELECT min(plan_id) FROM plan_line WHERE plan_id > known.id) FROM known WHERE known.id IS NOT NULL)
    SELECT id FROM known WHERE id IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM plan WHERE plan.id = known.id AND plan.applied_at IS NULL)
"""
PLAN_COLUMNS: Final = "id, campaign_id, occurrence, digest, source, inputs, summary, created_at, applied_at"


class SqlitePlans:
    def __init__(self, database: Database, owner: Owner) -> None:
        self._database = database
        self._owner = owner

    # --- the audience ---

    @contextmanager
    def gather(self) -> Iterator[Gathering]:
        """A table of people for as long as a plan is made; nothing of it is in the file."""
        connection = self._database.connection
        try:
            for statement in MAKE_PEOPLE:
                connection.execute(statement)
            yield Gathering(self._database)
        except sqlite3.Error as error:
            raise rename_error(error, self._database.path) from error
        finally:
            for statement in DROP_PEOPLE:
                connection.execute(statement)

    def digest_subgroup(self, subgroup_id: int) -> tuple[int, str]:
        """(members, digest of who they are and what is known of them)."""
        digest = hashlib.sha256()
        count = 0
        with self._database.read() as connection:
            for row in connection.execute(
                "SELECT contact_id, ifnull(attributes, '') FROM member WHERE subgroup_id = ? ORDER BY id",
                (subgroup_id,),
            ):
                digest.update(f"{row[0]}\x1f{row[1]}\x1e".encode())
                count += 1
        return count, digest.hexdigest()

    def digest_contacts(self, match: Sequence[tuple[str, str]]) -> tuple[int, str]:
        """The same of the contacts with these attributes."""
        where, values = match_contacts(match)
        digest = hashlib.sha256()
        count = 0
        with self._database.read() as connection:
            for row in connection.execute(
                f"SELECT id, ifnull(name, ''), ifnull(attributes, '') FROM contact WHERE {where} ORDER BY id",  # noqa: S608
                values,
            ):
                digest.update(f"{row[0]}\x1f{row[1]}\x1f{row[2]}\x1e".encode())
                count += 1
        return count, digest.hexdigest()

    def find_joined(self, plan_id: int, subgroup_id: int, *, limit: int) -> list[str]:
        """Addresses of members of whom a plan knows nothing."""
        with self._database.read() as connection:
            return [
                address
                for (address,) in connection.execute(
                    """SELECT c.address FROM member AS m JOIN contact AS c ON c.id = m.contact_id
                    WHERE m.subgroup_id = ? AND m.contact_id NOT IN
                        (SELECT contact_id FROM plan_line WHERE plan_id = ? AND contact_id IS NOT NULL)
                    ORDER BY m.id LIMIT ?""",
                    (subgroup_id, plan_id, limit),
                )
            ]

    # --- plans ---

    def iterate_left_out(self, plan_id: int) -> Iterator[tuple[str, str, str]]:
        """(address or "", reason, details or "") of everybody whom a plan leaves out, a page at a time."""
        after = 0
        while True:
            with self._database.read() as connection:
                rows = connection.execute(
                    """SELECT l.id, ifnull(c.address, ''), l.reason, ifnull(l.details, '') FROM plan_line AS l
                        LEFT JOIN contact AS c ON c.id = l.contact_id
                    WHERE l.plan_id = ? AND l.id > ? AND l.reason IS NOT NULL ORDER BY l.id LIMIT ?""",
                    (plan_id, after, LINES_READ),
                ).fetchall()
            for row in rows:
                yield row[1], row[2], row[3]
            if len(rows) < LINES_READ:
                return
            after = rows[-1][0]

    def list_zones(self, plan_id: int) -> list[str]:
        with self._database.read() as connection:
            return [
                zone
                for (zone,) in connection.execute("SELECT DISTINCT zone FROM plan_part WHERE plan_id = ?", (plan_id,))
            ]

    def open_plan(
        self, campaign_id: int, *, occurrence: str, source: str, inputs: Mapping[str, Any], now_ms: int
    ) -> int:
        """Begin a plan; plans of the campaign that were never let go are forgotten.  Returns its number.

        One that another process is making, or letting go, at this moment stays.
        """
        with self._database.write() as connection:
            for plan_id, owner in connection.execute(
                "SELECT id, owner FROM plan WHERE campaign_id = ? AND occurrence = ? AND applied_at IS NULL",
                (campaign_id, occurrence),
            ).fetchall():
                if owner is None or owner == self._owner.peek() or not is_alive(self._database.path, owner):
                    forget_plan(connection, plan_id)
            cursor = connection.execute(
                """INSERT INTO plan (campaign_id, occurrence, source, inputs, created_at, owner)
                VALUES (?, ?, ?, ?, ?, ?)""",
                (campaign_id, occurrence, source, json.dumps(inputs), now_ms, self._owner.token),
            )
            opened = int(cursor.lastrowid or 0)
        self.forget_lines()
        return opened

    def store_contents(self, encoded: Sequence[str]) -> list[int]:
        """The ids of these contents, in their order; one transaction."""
        digests = [content_hash(one) for one in encoded]
        new = list(dict(zip(digests, encoded, strict=True)).items())
        with self._database.write() as connection:
            connection.executemany("INSERT INTO content (hash, body) VALUES (?, ?) ON CONFLICT DO NOTHING", new)
            ids: dict[bytes, int] = {}
            for first in range(0, len(digests), HASHES_A_LOOK):
                some = digests[first : first + HASHES_A_LOOK]
                marks = ", ".join("?" * len(some))
                ids.update(connection.execute(f"SELECT hash, id FROM content WHERE hash IN ({marks})", some))  # noqa: S608  # only marks
        return [ids[digest] for digest in digests]

    def add_lines(self, plan_id: int, lines: Sequence[PlanLine]) -> None:
        """Some lines of a plan, in the order in which they leave; one transaction."""
        rows = [
            (
                plan_id,
                line.contact_id,
                line.content_id,
                line.part,
                line.due_at_ms,
                line.expires_at_ms,
                line.reason,
                line.details,
            )
            for line in lines
        ]
        with self._database.write() as connection:
            insert_rows(
                connection,
                "INSERT INTO plan_line (plan_id, contact_id, content_id, part, due_at, expires_at, reason, details)",
                rows,
            )
        cut("plan_lines_after_commit")
        fold_log(self._database)
        time.sleep(BREATH_SECONDS)

    def finish_plan(
        self, plan_id: int, *, parts: Sequence[Part], digest: str, summary: Mapping[str, Any], now_ms: int
    ) -> Plan:
        with self._database.write() as connection:
            if connection.execute("SELECT 1 FROM plan WHERE id = ?", (plan_id,)).fetchone() is None:
                raise Conflict(
                    "this plan was forgotten while it was made: its campaign is gone",
                    hint="`wa campaign list` shows which there are",
                    code="no_plan",
                )
            connection.executemany(
                "INSERT INTO plan_part (plan_id, part, stage, variant, zone, instance_id) VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (plan_id, number, part.stage, part.variant, part.zone, part.instance_id)
                    for number, part in enumerate(parts)
                ],
            )
            connection.execute(
                "UPDATE plan SET digest = ?, summary = ?, finished_at = ?, owner = NULL WHERE id = ?",
                (digest, json.dumps(summary), now_ms, plan_id),
            )
            plan = _read_plan(connection, plan_id)
            cut("plan_before_commit")
        cut("plan_after_commit")
        return plan

    def drop_plan(self, plan_id: int) -> None:
        """Forget a plan.  From the first transaction on it cannot be let go."""
        with self._database.write() as connection:
            forget_plan(connection, plan_id)
        self.forget_lines()

    def sweep(self) -> None:
        """Forget what processes that died while they planned have left; a whole plan stays, for it can be let go."""
        with self._database.read() as connection:
            owned = connection.execute("SELECT id, owner FROM plan WHERE owner IS NOT NULL").fetchall()
        for plan_id, owner in owned:
            if owner == self._owner.peek() or is_alive(self._database.path, owner):
                continue
            with self._database.write() as connection:
                connection.execute(
                    "UPDATE plan SET owner = NULL WHERE id = ? AND owner = ? AND finished_at IS NOT NULL",
                    (plan_id, owner),
                )
                if connection.execute("SELECT 1 FROM plan WHERE id = ? AND owner = ?", (plan_id, owner)).fetchone():
                    forget_plan(connection, plan_id)
        self.forget_lines()

    def forget_lines(self) -> None:
        """Remove the lines of plans that are gone, or have been let go, some thousand a transaction."""
        with self._database.read() as connection:
            idle = [plan_id for (plan_id,) in connection.execute(FIND_IDLE_LINES)]
        for plan_id in idle:
            gone = LINES_AT_ONCE
            while gone == LINES_AT_ONCE:
                with self._database.write() as connection:
                    gone = connection.execute(
                        "DELETE FROM plan_line WHERE id IN (SELECT id FROM plan_line WHERE plan_id = ? LIMIT ?)",
                        (plan_id, LINES_AT_ONCE),
                    ).rowcount
                fold_log(self._database)
                time.sleep(BREATH_SECONDS)

    def find_plan(self, campaign_id: int, plan_id: int) -> Plan:
        """Raises: NotFound for a plan that is not this campaign's, or was never finished."""
        with self._database.read() as connection:
            row = connection.execute(
                f"SELECT {PLAN_COLUMNS} FROM plan WHERE id = ? AND campaign_id = ? AND finished_at IS NOT NULL",  # noqa: S608
                (plan_id, campaign_id),
            ).fetchone()
        if row is None:
            raise NotFound(
                f"there is no plan p{plan_id} of this campaign",
                hint="`wa campaign plan NAME` makes one",
                code="no_plan",
            )
        return _plan(row)

    def read_plan(self, plan_id: int) -> Plan:
        with self._database.read() as connection:
            return _read_plan(connection, plan_id)

    def find_clashes(
        self, plan_id: int, *, campaign_id: int, instance_ids: Collection[int], first_ms: int, last_ms: int
    ) -> list[tuple[str, int]]:
        """Other campaigns that send for one of these instances then, each with how many people are in both."""
        marks = ", ".join("?" * len(instance_ids))
        with self._database.read() as connection:
            others = connection.execute(
                f"""SELECT DISTINCT campaign.name, run.id FROM campaign JOIN run ON run.campaign_id = campaign.id
                    JOIN batch ON batch.run_id = run.id AND batch.instance_id IN ({marks})
                WHERE campaign.id <> ? AND campaign.state IN ('scheduled', 'running', 'paused') AND EXISTS (
                    SELECT 1 FROM message WHERE message.id BETWEEN batch.first_message_id AND batch.last_message_id
                        AND message.batch_id = batch.id AND message.state = 'queued'
                        AND message.due_at BETWEEN ? AND ?)""",  # noqa: S608  # marks alone
                (*instance_ids, campaign_id, first_ms, last_ms),
            ).fetchall()
            return [
                (
                    name,
                    connection.execute(
                        """SELECT count(*) FROM plan_line AS l WHERE l.plan_id = ? AND l.reason IS NULL AND EXISTS
                            (SELECT 1 FROM message AS m WHERE m.run_id = ? AND m.contact_id = l.contact_id)""",
                        (plan_id, run_id),
                    ).fetchone()[0],
                )
                for name, run_id in others
            ]


def _read_plan(connection: sqlite3.Connection, plan_id: int) -> Plan:
    return _plan(connection.execute(f"SELECT {PLAN_COLUMNS} FROM plan WHERE id = ?", (plan_id,)).fetchone())  # noqa: S608


def _plan(row: tuple[Any, ...]) -> Plan:
    return Plan(
        id=row[0],
        campaign_id=row[1],
        occurrence=row[2],
        digest=row[3] or "",
        source=row[4],
        inputs=json.loads(row[5]),
        summary=json.loads(row[6] or "{}"),
        created_at_ms=row[7],
        applied_at_ms=row[8],
    )


def forget_plan(connection: sqlite3.Connection, plan_id: int) -> None:
    """Take a plan out; its lines, which may be a million, are left to `SqlitePlans.forget_lines`."""
    for table in ("plan_part", "link"):
        connection.execute(f"DELETE FROM {table} WHERE plan_id = ?", (plan_id,))  # noqa: S608  # our own words
    connection.execute("DELETE FROM plan WHERE id = ?", (plan_id,))
