"""Subgroups and their members, in the order they came, each once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, TypeVar

from wa_cli.domain.recipient import RecipientKind
from wa_cli.domain.subgroup import (
    Joined,
    Subgroup,
    SubgroupSizes,
    encode_attributes,
    fold_name,
    merge_attributes,
    name_is_taken,
    no_such_subgroup,
)
from wa_cli.errors import NotFound
from wa_cli.store.sqlite.contacts import find_or_add_contacts
from wa_cli.store.sqlite.leases import fold_log

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence

    from wa_cli.domain.subgroup import Joining
    from wa_cli.store.sqlite.database import Database

T = TypeVar("T")

PAGE_ROWS: Final = 2_000
IDS_PER_QUERY: Final = 500

FIND: Final = """
    SELECT id, name, created_at, (SELECT count(*) FROM member WHERE subgroup_id = subgroup.id)
    FROM subgroup WHERE folded_name = ?
"""

# All subgroups with how many members and how many groups among them.  Groups are few, people are many: each group is
# looked up in the members' index, instead of each member in the contacts.
LIST_ALL: Final = """
    SELECT id, name, created_at,
        (SELECT count(*) FROM member WHERE subgroup_id = subgroup.id),
        (SELECT count(*) FROM contact CROSS JOIN member
            ON member.subgroup_id = subgroup.id AND member.contact_id = contact.id
         WHERE contact.kind = 'group')
    FROM subgroup
"""

# One page of members in their order: the index holds the row id behind the subgroup.
READ_MEMBERS: Final = """
    SELECT member.id, contact.id, contact.address, contact.kind, member.attributes
    FROM member CROSS JOIN contact ON contact.id = member.contact_id
    WHERE member.subgroup_id = ? AND member.id > ? AND member.id <= ?
    ORDER BY member.id LIMIT ?
"""

# The groups of one subgroup, each looked up as in LIST_ALL.
LIST_GROUPS: Final = """
    SELECT address FROM contact CROSS JOIN member
        ON member.subgroup_id = ? AND member.contact_id = contact.id
    WHERE contact.kind = 'group' ORDER BY member.id
"""

# Messages that a subgroup's sends have queued and that still wait.
COUNT_WAITING: Final = """
    SELECT count(*) FROM batch CROSS JOIN message
        ON message.id BETWEEN batch.first_message_id AND batch.last_message_id AND message.batch_id = batch.id
    WHERE batch.subgroup_id = ? AND message.state = 'queued'
"""


# A whole list on its way in, in this connection's own temporary file.  All attributes are strings, so json_patch, which
# takes away what is null, only ever adds and replaces: the same as merge_attributes.
MAKE_STAGED: Final = """
    CREATE TEMP TABLE IF NOT EXISTS staged (position INTEGER PRIMARY KEY, contact_id INTEGER UNIQUE, attributes TEXT)
"""
STAGE: Final = """
    INSERT INTO temp.staged (contact_id, attributes) VALUES (?, ?)
    ON CONFLICT (contact_id) DO UPDATE SET attributes = json_patch(ifnull(attributes, '{}'), excluded.attributes)
    WHERE excluded.attributes IS NOT NULL
"""

# How many of the staged are members already, and how many of them with other attributes.
COUNT_STAGED: Final = """
    SELECT count(*), ifnull(sum(json_patch(ifnull(member.attributes, '{}'), ifnull(staged.attributes, '{}'))
        <> ifnull(member.attributes, '{}')), 0)
    FROM temp.staged CROSS JOIN member
        ON member.subgroup_id = ? AND member.contact_id = staged.contact_id
"""
UPDATE_FROM_STAGED: Final = """
    UPDATE member SET attributes = json_patch(ifnull(attributes, '{}'),
        (SELECT staged.attributes FROM temp.staged WHERE staged.contact_id = member.contact_id))
    WHERE subgroup_id = :subgroup
        AND contact_id IN (SELECT contact_id FROM temp.staged WHERE attributes IS NOT NULL)
"""
ENTER_STAGED: Final = """
    INSERT INTO member (subgroup_id, contact_id, attributes)
    SELECT ?, contact_id, attributes FROM temp.staged ORDER BY position
    ON CONFLICT (subgroup_id, contact_id) DO NOTHING
"""


class SqliteSubgroups:
    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def chunk_rows(self) -> int:
        """How many rows the next `add_members` should take."""
        return self._database.chunk_rows

    # --- the lists ---

    def create(self, name: str, *, now_ms: int) -> tuple[Subgroup, bool]:
        """The subgroup of that checked name, and whether it is new."""
        with self._database.write() as connection:
            added = connection.execute(
                "INSERT INTO subgroup (name, folded_name, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (name, fold_name(name), now_ms),
            )
            row = connection.execute(FIND, (fold_name(name),)).fetchone()
        return _subgroup(row), added.rowcount == 1

    def find(self, name: str) -> Subgroup:
        """The subgroup of that name in any case.  Raises: NotFound with the name that was probably meant."""
        with self._database.read() as connection:
            row = connection.execute(FIND, (fold_name(_storable(name)),)).fetchone()
            if row is None:
                raise no_such_subgroup(name, [known for (known,) in connection.execute("SELECT name FROM subgroup")])
        return _subgroup(row)

    def list_all(self) -> list[SubgroupSizes]:
        """Every subgroup with its sizes, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(f"{LIST_ALL} ORDER BY id").fetchall()
        return [SubgroupSizes(subgroup=_subgroup(row), people=row[3] - row[4], groups=row[4]) for row in rows]

    def read_sizes(self, subgroup_id: int) -> SubgroupSizes:
        """One subgroup with its sizes.  Raises: NotFound when it was deleted meanwhile."""
        with self._database.read() as connection:
            row = connection.execute(f"{LIST_ALL} WHERE id = ?", (subgroup_id,)).fetchone()
        if row is None:
            raise _gone()
        return SubgroupSizes(subgroup=_subgroup(row), people=row[3] - row[4], groups=row[4])

    def rename(self, subgroup_id: int, name: str) -> None:
        """Give it another checked name; the batches sent to it follow.  Raises: Conflict when the name is taken."""
        with self._database.write() as connection:
            other = connection.execute(
                "SELECT name FROM subgroup WHERE folded_name = ? AND id <> ?", (fold_name(name), subgroup_id)
            ).fetchone()
            if other is not None:
                raise name_is_taken(other[0])
            connection.execute(
                "UPDATE subgroup SET name = ?, folded_name = ? WHERE id = ?", (name, fold_name(name), subgroup_id)
            )
            connection.execute("UPDATE batch SET subgroup = ? WHERE subgroup_id = ?", (name, subgroup_id))

    def delete(self, subgroup_id: int) -> int:
        """Take the list away, not its contacts and not its messages.  Returns how many members it had."""
        with self._database.write() as connection:
            members = connection.execute("DELETE FROM member WHERE subgroup_id = ?", (subgroup_id,))
            connection.execute("DELETE FROM subgroup WHERE id = ?", (subgroup_id,))
        return members.rowcount

    def count_waiting(self, subgroup_id: int) -> int:
        """How many messages of its sends are still queued."""
        with self._database.read() as connection:
            row = connection.execute(COUNT_WAITING, (subgroup_id,)).fetchone()
        return int(row[0])

    # --- the members ---

    def count(self, subgroup_id: int) -> int:
        with self._database.read() as connection:
            row = connection.execute("SELECT count(*) FROM member WHERE subgroup_id = ?", (subgroup_id,)).fetchone()
        return int(row[0])

    def iterate_members(self, subgroup_id: int) -> Iterator[tuple[int, str, RecipientKind, str | None]]:
        """(contact id, address, kind, attributes as JSON or None) of every member, in order.

        Reads a page at a time and holds no transaction between pages.  Whoever joins after the first page is not
        met; whoever leaves before its page is not either.
        """
        with self._database.read() as connection:
            (last_id,) = connection.execute(
                "SELECT ifnull(max(id), 0) FROM member WHERE subgroup_id = ?", (subgroup_id,)
            ).fetchone()
        position = 0
        kinds = {kind.value: kind for kind in RecipientKind}
        while position < last_id:
            with self._database.read() as connection:
                rows = connection.execute(READ_MEMBERS, (subgroup_id, position, last_id, PAGE_ROWS)).fetchall()
            if not rows:
                return
            position = rows[-1][0]
            for _member_id, contact_id, address, kind, attributes in rows:
                yield contact_id, address, kinds[kind], attributes

    def add_members(self, subgroup_id: int, joining: Sequence[Joining], *, now_ms: int) -> list[Joined]:
        """Take them in, in one transaction, and say of each what became of it.

        Attributes of somebody who is there already are merged into the stored ones.
        Raises: NotFound when the subgroup was deleted meanwhile.
        """
        with self._database.write() as connection:
            _require(connection, subgroup_id)
            contact_ids = _contact_ids(connection, joining, now_ms=now_ms)
            chunk = [(contact_ids[one.recipient.address], one.attributes) for one in joining]
            joined = _enter(connection, subgroup_id, chunk)
        self._database.note_chunk(len(joining))
        fold_log(self._database)
        return joined

    def stage_members(self, joining: Sequence[Joining], *, now_ms: int) -> None:
        """Keep these aside, seen by nobody, for `enter_staged`; the unknown among them become contacts.

        What is staged vanishes with this connection.
        """
        with self._database.write() as connection:
            connection.execute(MAKE_STAGED)
            contact_ids = _contact_ids(connection, joining, now_ms=now_ms)
            connection.executemany(
                STAGE,
                [(contact_ids[one.recipient.address], encode_attributes(one.attributes)) for one in joining],
            )
        fold_log(self._database)

    def enter_staged(self, subgroup_id: int) -> Counter[Joined]:
        """Make everybody who was staged a member, in one transaction.  Returns what became of them, each counted once.

        A million take the lock for about three seconds, which the others wait out.
        Raises: NotFound when the subgroup was deleted meanwhile.
        """
        with self._database.write() as connection:
            _require(connection, subgroup_id)
            connection.execute(MAKE_STAGED)
            there, updated = connection.execute(COUNT_STAGED, (subgroup_id,)).fetchone()
            staged = connection.execute("SELECT count(*) FROM temp.staged").fetchone()[0]
            if updated:
                connection.execute(UPDATE_FROM_STAGED, {"subgroup": subgroup_id})
            connection.execute(ENTER_STAGED, (subgroup_id,))
            connection.execute("DROP TABLE temp.staged")
        return Counter({Joined.ADDED: staged - there, Joined.ALREADY_THERE: there - updated, Joined.UPDATED: updated})

    def find_members(self, subgroup_id: int, addresses: Sequence[str]) -> set[str]:
        """Those of these addresses that are members."""
        found: set[str] = set()
        with self._database.read() as connection:
            for some in _slices(addresses):
                rows = connection.execute(_find_members(len(some)), (subgroup_id, *some))
                found.update(address for address, _member_id in rows)
        return found

    def list_groups(self, subgroup_id: int) -> list[str]:
        """The addresses of the groups among the members."""
        with self._database.read() as connection:
            rows = connection.execute(LIST_GROUPS, (subgroup_id,)).fetchall()
        return [address for (address,) in rows]

    def remove_members(self, subgroup_id: int, addresses: Sequence[str]) -> set[str]:
        """Take these out, in one transaction.  Returns the addresses that were members."""
        with self._database.write() as connection:
            found: dict[str, int] = {}
            for some in _slices(addresses):
                found.update(connection.execute(_find_members(len(some)), (subgroup_id, *some)).fetchall())
            connection.executemany("DELETE FROM member WHERE id = ?", [(member_id,) for member_id in found.values()])
        return set(found)


def _enter(
    connection: sqlite3.Connection, subgroup_id: int, chunk: Sequence[tuple[int, Mapping[str, str]]]
) -> list[Joined]:
    """Make these contacts members, inside the caller's transaction."""
    stored: dict[int, str | None] = {}
    for some in _slices([contact_id for contact_id, _attributes in chunk]):
        stored.update(connection.execute(_find_attributes(len(some)), (subgroup_id, *some)).fetchall())
    old = set(stored)
    changed: set[int] = set()
    results: list[Joined] = []
    for contact_id, attributes in chunk:
        if contact_id not in stored:
            stored[contact_id] = encode_attributes(attributes)
            results.append(Joined.ADDED)
            continue
        before = stored[contact_id]
        after = merge_attributes(before, attributes)
        if after == before:
            results.append(Joined.ALREADY_THERE)
        else:
            stored[contact_id] = after
            changed.add(contact_id)
            results.append(Joined.UPDATED)
    connection.executemany(
        "INSERT INTO member (subgroup_id, contact_id, attributes) VALUES (?, ?, ?)",
        [(subgroup_id, contact_id, attributes) for contact_id, attributes in stored.items() if contact_id not in old],
    )
    connection.executemany(
        "UPDATE member SET attributes = ? WHERE subgroup_id = ? AND contact_id = ?",
        [(stored[contact_id], subgroup_id, contact_id) for contact_id in changed & old],
    )
    return results


def _contact_ids(connection: sqlite3.Connection, joining: Sequence[Joining], *, now_ms: int) -> dict[str, int]:
    people = [(one.recipient.address, one.recipient.kind) for one in joining]
    return find_or_add_contacts(connection, people, now_ms=now_ms)


def _find_attributes(count: int) -> str:
    """(contact id, attributes) of those of these contacts that are members."""
    marks = ",".join("?" * count)
    return f"SELECT contact_id, attributes FROM member WHERE subgroup_id = ? AND contact_id IN ({marks})"  # noqa: S608  # only marks


def _find_members(count: int) -> str:
    """(address, member id) of those of these addresses that are members."""
    marks = ",".join("?" * count)
    return f"""SELECT contact.address, member.id FROM contact
        JOIN member ON member.subgroup_id = ? AND member.contact_id = contact.id
        WHERE contact.address IN ({marks})"""  # noqa: S608  # only marks


def _slices(values: Sequence[T]) -> Iterator[Sequence[T]]:
    return (values[start : start + IDS_PER_QUERY] for start in range(0, len(values), IDS_PER_QUERY))


def _require(connection: sqlite3.Connection, subgroup_id: int) -> None:
    if connection.execute("SELECT 1 FROM subgroup WHERE id = ?", (subgroup_id,)).fetchone() is None:
        raise _gone()


def _gone() -> NotFound:
    return NotFound(
        "the subgroup was deleted while it was in use",
        hint="`wa subgroup list` shows those there are",
        code="no_subgroup",
    )


def _subgroup(row: tuple[int, str, int, int]) -> Subgroup:
    return Subgroup(id=row[0], name=row[1], created_at_ms=row[2], members=row[3])


def _storable(name: str) -> str:
    """A name as typed may hold bytes that are no text; no stored name does."""
    return name.encode("utf-8", "replace").decode("utf-8")
