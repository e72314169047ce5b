"""The people of one audience while a plan is made: each once, with what is known of them and what they will get.

They stand in temporary tables, which cost nobody a lock and are gone with a crash.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from wa_cli.domain.plan import Draft, Person
from wa_cli.store.sqlite.contacts import find_or_add_contacts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from wa_cli.domain.recipient import Recipient
    from wa_cli.store.sqlite.database import Database

CHUNK_ROWS: Final = 2_000
_encode: Final = json.JSONEncoder(ensure_ascii=False, check_circular=False).encode

MAKE_PEOPLE: Final = (
    "DROP TABLE IF EXISTS temp.person",
    "DROP TABLE IF EXISTS temp.chosen",
    "DROP TABLE IF EXISTS temp.draft",
    """CREATE TEMP TABLE person (
        id INTEGER PRIMARY KEY, contact_id INTEGER NOT NULL UNIQUE, fields TEXT, times INTEGER NOT NULL DEFAULT 1)""",
    "CREATE TEMP TABLE chosen (contact_id INTEGER PRIMARY KEY) WITHOUT ROWID",
    """CREATE TEMP TABLE draft (
        id INTEGER PRIMARY KEY, contact_id INTEGER NOT NULL, content_id INTEGER, variant INTEGER NOT NULL,
        zone TEXT NOT NULL, region TEXT NOT NULL, stage TEXT NOT NULL DEFAULT 'main', reason TEXT, details TEXT,
        seat INTEGER)""",
)
DROP_PEOPLE: Final = tuple(f"DROP TABLE IF EXISTS temp.{name}" for name in ("person", "chosen", "draft"))
READ_DRAFTS: Final = """
    SELECT id, contact_id, variant, zone, region, content_id, reason, details, seat FROM temp.draft
"""
# As many of each country and variant as they have a share in the whole, to the person.
CHOOSE_CANARY: Final = """
    UPDATE temp.draft SET stage = 'canary' WHERE id IN (
        SELECT id FROM (
            SELECT id, row_number() OVER (ORDER BY region, variant, id) AS n, count(*) OVER () AS total
            FROM temp.draft WHERE reason IS NULL)
        WHERE n * :size / total > (n - 1) * :size / total)
"""
# Whoever is named again is the same person: what was said first of a field holds, the rest fills the gaps.
ADD_PERSON: Final = """
    INSERT INTO temp.person (contact_id, fields) VALUES (?, ?) ON CONFLICT (contact_id) DO UPDATE SET
        times = times + 1,
        fields = CASE WHEN excluded.fields IS NULL THEN fields WHEN fields IS NULL THEN excluded.fields
            ELSE json_patch(excluded.fields, fields) END
"""
ADD_MEMBERS: Final = """
    INSERT INTO temp.person (contact_id, fields)
    SELECT contact_id, attributes FROM main.member WHERE subgroup_id = ? ORDER BY id
    ON CONFLICT (contact_id) DO UPDATE SET
        times = times + 1,
        fields = CASE WHEN excluded.fields IS NULL THEN fields WHEN fields IS NULL THEN excluded.fields
            ELSE json_patch(excluded.fields, fields) END
"""
# Has been, or may have been, accepted by the platform: nobody like that is written to again.
MAY_HAVE_BEEN_WRITTEN: Final = """
    EXISTS (SELECT 1 FROM attempt AS a WHERE a.message_id = m.id
        AND (a.outcome IS NULL OR a.outcome IN ('accepted', 'ambiguous', 'marked_sent')))
"""
READ_PEOPLE: Final = f"""
    SELECT p.id, p.contact_id, c.address, c.kind, c.name, c.attributes, p.fields, c.opted_out_at IS NOT NULL,
        c.erased_at IS NOT NULL, CASE WHEN m.state = 'failed' OR {MAY_HAVE_BEEN_WRITTEN} THEN m.id END,
        v.last_inbound_at, v.closed_at, ifnull(n.verdict = 'no' AND n.checked_at > :since, 0), s.instance_id
    FROM temp.person AS p JOIN main.contact AS c ON c.id = p.contact_id
    LEFT JOIN main.pool_seat AS s ON s.pool_id = :pool AND s.contact_id = p.contact_id
    LEFT JOIN main.conversation AS v ON v.instance_id = ifnull(s.instance_id, :instance)
        AND v.contact_id = p.contact_id
    LEFT JOIN main.number_check AS n ON n.contact_id = p.contact_id
    LEFT JOIN main.message AS m ON m.run_id = :run AND m.contact_id = p.contact_id
    WHERE p.id > :after ORDER BY p.id LIMIT :limit
"""  # noqa: S608  # our own words
# Groups are few among the contacts: each is looked up among the people, instead of each of them in the contacts.
LIST_GROUPS: Final = """
    SELECT c.address FROM main.contact AS c CROSS JOIN temp.person AS p ON p.contact_id = c.id WHERE c.kind = 'group'
"""


class Gathering:
    """The people of one audience, each once, with what is known of them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- who they are ---

    def add_people(self, people: Sequence[tuple[Recipient, Mapping[str, str]]], *, now_ms: int) -> list[int]:
        """Add some rows of a file; unknown people become contacts.  Returns their ids, in order."""
        ids = self._know(people, now_ms=now_ms)
        with self._database.write_temporary() as connection:
            connection.executemany(
                ADD_PERSON,
                [
                    (contact_id, _encode(fields) if fields else None)
                    for contact_id, (_recipient, fields) in zip(ids, people, strict=True)
                ],
            )
        return ids

    def add_subgroup(self, subgroup_id: int) -> int:
        with self._database.write_temporary() as connection:
            return connection.execute(ADD_MEMBERS, (subgroup_id,)).rowcount

    def add_contacts(self, match: Sequence[tuple[str, str]]) -> int:
        where, values = match_contacts(match)
        with self._database.write_temporary() as connection:
            return connection.execute(
                f"""INSERT INTO temp.person (contact_id) SELECT id FROM main.contact WHERE {where} ORDER BY id
                ON CONFLICT (contact_id) DO UPDATE SET times = times + 1""",  # noqa: S608  # our own words
                values,
            ).rowcount

    def choose_none(self) -> None:
        """Begin a set for `choose_...`, `keep_chosen` and `drop_chosen`."""
        with self._database.write_temporary() as connection:
            connection.execute("DELETE FROM temp.chosen")

    def choose_people(self, people: Sequence[tuple[Recipient, Mapping[str, str]]], *, now_ms: int) -> None:
        ids = self._know(people, now_ms=now_ms)
        with self._database.write_temporary() as connection:
            connection.executemany("INSERT OR IGNORE INTO temp.chosen VALUES (?)", [(one,) for one in ids])

    def choose_subgroup(self, subgroup_id: int) -> None:
        with self._database.write_temporary() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO temp.chosen SELECT contact_id FROM main.member WHERE subgroup_id = ?",
                (subgroup_id,),
            )

    def choose_contacts(self, match: Sequence[tuple[str, str]]) -> None:
        where, values = match_contacts(match)
        with self._database.write_temporary() as connection:
            connection.execute(
                f"INSERT OR IGNORE INTO temp.chosen SELECT id FROM main.contact WHERE {where}",  # noqa: S608
                values,
            )

    def keep_chosen(self) -> None:
        with self._database.write_temporary() as connection:
            connection.execute("DELETE FROM temp.person WHERE contact_id NOT IN (SELECT contact_id FROM temp.chosen)")

    def drop_chosen(self) -> None:
        with self._database.write_temporary() as connection:
            connection.execute("DELETE FROM temp.person WHERE contact_id IN (SELECT contact_id FROM temp.chosen)")

    def count(self) -> tuple[int, int]:
        """(people, how often one of them was named again)."""
        with self._database.write_temporary() as connection:
            row = connection.execute("SELECT count(*), ifnull(sum(times - 1), 0) FROM temp.person").fetchone()
        return int(row[0]), int(row[1])

    def list_groups(self) -> list[str]:
        """The addresses of the groups among them."""
        with self._database.write_temporary() as connection:
            rows = connection.execute(LIST_GROUPS).fetchall()
        return [address for (address,) in rows]

    def iterate(
        self,
        run_id: int | None,
        *,
        instance_id: int,
        pool_id: int | None = None,
        checked_since_ms: int | None = None,
    ) -> Iterator[Person]:
        """The people in the order in which they were named first.

        run_id: of an earlier plan of this run, or None.  pool_id: of the pool whose numbers write to them, or None.
        checked_since_ms: look-ups of numbers since then count.
        """
        after = 0
        while True:
            with self._database.write_temporary() as connection:
                rows = connection.execute(
                    READ_PEOPLE,
                    {
                        "run": run_id,
                        "instance": instance_id,
                        "pool": pool_id,
                        "since": checked_since_ms,
                        "after": after,
                        "limit": CHUNK_ROWS,
                    },
                ).fetchall()
            for row in rows:
                yield _person(row)
            if len(rows) < CHUNK_ROWS:
                return
            after = rows[-1][0]

    def _know(self, people: Sequence[tuple[Recipient, Mapping[str, str]]], *, now_ms: int) -> list[int]:
        with self._database.write() as connection:
            known = find_or_add_contacts(
                connection, [(recipient.address, recipient.kind) for recipient, _fields in people], now_ms=now_ms
            )
        return [known[recipient.address] for recipient, _fields in people]

    # --- their messages, before they have a moment ---

    def add_drafts(self, drafts: Sequence[Draft]) -> None:
        with self._database.write_temporary() as connection:
            connection.executemany(
                """INSERT INTO temp.draft (contact_id, content_id, variant, zone, region, reason, details, seat)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
                [
                    (
                        one.contact_id,
                        one.content_id,
                        one.variant,
                        one.zone,
                        one.region,
                        one.reason,
                        one.details,
                        one.seat,
                    )
                    for one in drafts
                ],
            )

    def choose_canary(self, size: int) -> None:
        """Put a sample of that size into the first stage, like the whole in its countries and variants."""
        with self._database.write_temporary() as connection:
            connection.execute(CHOOSE_CANARY, {"size": size})

    def count_drafts(self, stage: str) -> dict[str, int]:
        """How many messages of a stage there will be, by zone."""
        with self._database.write_temporary() as connection:
            connection.execute("CREATE INDEX IF NOT EXISTS temp.draft_zone ON draft (stage, zone) WHERE reason IS NULL")
            return dict(
                connection.execute(
                    "SELECT zone, count(*) FROM temp.draft WHERE reason IS NULL AND stage = ? GROUP BY zone", (stage,)
                ).fetchall()
            )

    def iterate_drafts(self, stage: str, zone: str) -> Iterator[Draft]:
        yield from self._iterate_drafts("reason IS NULL AND stage = ? AND zone = ?", (stage, zone))

    def iterate_excluded(self) -> Iterator[Draft]:
        yield from self._iterate_drafts("reason IS NOT NULL", ())

    def _iterate_drafts(self, where: str, values: tuple[str, ...]) -> Iterator[Draft]:
        after = 0
        while True:
            with self._database.write_temporary() as connection:
                rows = connection.execute(
                    f"{READ_DRAFTS} WHERE {where} AND id > ? ORDER BY id LIMIT ?", (*values, after, CHUNK_ROWS)
                ).fetchall()
            for row in rows:
                yield Draft(
                    contact_id=row[1],
                    variant=row[2],
                    zone=row[3],
                    region=row[4],
                    content_id=row[5],
                    reason=row[6],
                    details=row[7],
                    seat=row[8],
                )
            if len(rows) < CHUNK_ROWS:
                return
            after = rows[-1][0]


def match_contacts(match: Sequence[tuple[str, str]]) -> tuple[str, list[str]]:
    """Contacts with these attributes, whatever the case of their letters; people who were erased are nobody."""
    where = ["erased_at IS NULL"]
    values: list[str] = []
    for name, value in match:
        if name == "name":
            where.append("lower(name) = lower(?)")
            values.append(value)
        else:
            where.append("lower(json_extract(attributes, ?)) = lower(?)")
            values += ['$."' + name.replace('"', "") + '"', value]
    return " AND ".join(where), values


def _person(row: tuple[Any, ...]) -> Person:
    fields: dict[str, str] = {}
    if row[4]:
        fields["name"] = row[4]
    for known in (row[5], row[6]):
        if known:
            fields.update({str(name): str(value) for name, value in json.loads(known).items() if value is not None})
    return Person(
        contact_id=row[1],
        address=row[2],
        kind=row[3],
        fields=fields,
        has_opted_out=bool(row[7]),
        is_erased=bool(row[8]),
        written_as=row[9],
        position=row[0],
        last_inbound_at_ms=row[10],
        closed_at_ms=row[11],
        is_unregistered=bool(row[12]),
        seat=row[13],
    )
