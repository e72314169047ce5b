"""Groups as each instance last saw them.  Who is in them is never stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from wa_cli.domain.connection import GroupInfo
from wa_cli.domain.group import KnownGroup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wa_cli.store.sqlite.database import Database

ADDRESSES_PER_QUERY: Final = 500

COLUMNS: Final = "address, name, size, may_post, is_member, seen_at"

# A group that cannot be seen any more keeps the name and the size by which it was known.
SAVE: Final = """
    INSERT INTO group_chat (instance_id, address, name, size, may_post, is_member, seen_at)
    VALUES (?, ?, ?, ?, ?, 1, ?)
    ON CONFLICT (instance_id, address) DO UPDATE SET name = excluded.name, size = ifnull(excluded.size, size),
        may_post = excluded.may_post, is_member = 1, seen_at = excluded.seen_at
"""
SAVE_GONE: Final = """
    INSERT INTO group_chat (instance_id, address, name, size, may_post, is_member, seen_at)
    VALUES (?, ?, '', NULL, NULL, 0, ?)
    ON CONFLICT (instance_id, address) DO UPDATE SET is_member = 0, seen_at = excluded.seen_at
"""


class SqliteGroups:
    """Implements Groups."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list_all(self, instance_id: int) -> list[KnownGroup]:
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {COLUMNS} FROM group_chat WHERE instance_id = ? ORDER BY name COLLATE NOCASE, address",  # noqa: S608  # own words
                (instance_id,),
            ).fetchall()
        return [_group(row) for row in rows]

    def find(self, instance_id: int, addresses: Sequence[str]) -> dict[str, KnownGroup]:
        found = {}
        with self._database.read() as connection:
            for start in range(0, len(addresses), ADDRESSES_PER_QUERY):
                some = addresses[start : start + ADDRESSES_PER_QUERY]
                marks = ",".join("?" * len(some))
                for row in connection.execute(
                    f"SELECT {COLUMNS} FROM group_chat WHERE instance_id = ? AND address IN ({marks})",  # noqa: S608  # only marks
                    (instance_id, *some),
                ):
                    found[row[0]] = _group(row)
        return found

    def save_list(self, instance_id: int, groups: Sequence[GroupInfo], *, now_ms: int) -> None:
        with self._database.write() as connection:
            # Those that are not on the list get the time of the list: that they were not on it is known as of then.
            connection.execute(
                "UPDATE group_chat SET is_member = 0, seen_at = ? WHERE instance_id = ?", (now_ms, instance_id)
            )
            connection.executemany(SAVE, [_values(instance_id, info, now_ms) for info in groups])

    def save(self, instance_id: int, address: str, info: GroupInfo | None, *, now_ms: int) -> None:
        with self._database.write() as connection:
            if info is None:
                connection.execute(SAVE_GONE, (instance_id, address, now_ms))
            else:
                connection.execute(SAVE, _values(instance_id, info, now_ms))

    def read_names(self, addresses: Sequence[str]) -> dict[str, str]:
        """The names of those of these groups that any instance has seen; of two names the one seen last."""
        names: dict[str, str] = {}
        with self._database.read() as connection:
            for start in range(0, len(addresses), ADDRESSES_PER_QUERY):
                some = addresses[start : start + ADDRESSES_PER_QUERY]
                marks = ",".join("?" * len(some))
                names.update(
                    connection.execute(
                        f"""SELECT address, name FROM instance JOIN group_chat ON group_chat.instance_id = instance.id
                        WHERE address IN ({marks}) AND group_chat.name <> '' ORDER BY seen_at""",  # noqa: S608  # only marks
                        tuple(some),
                    ).fetchall()
                )
        return names


def _values(instance_id: int, info: GroupInfo, now_ms: int) -> tuple[object, ...]:
    may_post = None if info.may_post is None else int(info.may_post)
    return instance_id, info.address, info.name, info.size, may_post, now_ms


def _group(row: tuple[Any, ...]) -> KnownGroup:
    address, name, size, may_post, is_member, seen_at = row
    info = GroupInfo(address=address, name=name, size=size, may_post=None if may_post is None else bool(may_post))
    return KnownGroup(info=info, is_member=bool(is_member), seen_at_ms=seen_at)
