"""Contacts: one row a person or group, found by the one address that all its spellings share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from wa_cli.domain.recipient import RecipientKind

ADDRESSES_PER_QUERY: Final = 500


def find_or_add_contacts(
    connection: sqlite3.Connection, people: Sequence[tuple[str, RecipientKind]], *, now_ms: int
) -> dict[str, int]:
    """The ids of these addresses, new rows for the unknown ones.  Inside the caller's transaction."""
    if not people:
        return {}
    connection.executemany(
        "INSERT INTO contact (address, kind, created_at) VALUES (?, ?, ?) ON CONFLICT (address) DO NOTHING",
        [(address, kind, now_ms) for address, kind in people],
    )
    ids: dict[str, int] = {}
    addresses = [address for address, _kind in people]
    for start in range(0, len(addresses), ADDRESSES_PER_QUERY):
        some = addresses[start : start + ADDRESSES_PER_QUERY]
        marks = ",".join("?" * len(some))
        ids.update(
            connection.execute(f"SELECT address, id FROM contact WHERE address IN ({marks})", some).fetchall()  # noqa: S608  # only marks
        )
    return ids
