"""Contacts: one row a person or group, found by the one address that all its spellings share."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from wa_cli.domain.recipient import RecipientKind

T = TypeVar("T")

ADDRESSES_PER_QUERY: Final = 500

# What WhatsApp calls a number that we know in another spelling; a group or a nameless person has none.
SPELLING: Final = "wa:"

# Whether new contacts need a second look: somebody was erased who had opted out, or numbers have other spellings.
NEEDS_A_LOOK: Final = """
    SELECT EXISTS (SELECT 1 FROM suppressed)
        OR EXISTS (SELECT 1 FROM contact_alias WHERE alias >= 'wa:' AND alias < 'wa;')
"""
HAS_UNREGISTERED: Final = "SELECT 1 FROM number_check WHERE verdict = 'no' LIMIT 1"
INSERT_CONTACT: Final = """
    INSERT INTO contact (address, kind, created_at) VALUES (?, ?, ?) ON CONFLICT (address) DO NOTHING
"""


def find_or_add_contacts(
    connection: sqlite3.Connection, people: Sequence[tuple[str, RecipientKind]], *, now_ms: int
) -> dict[str, int]:
    """The ids of these addresses, new rows for the unknown ones.  Inside the caller's transaction.

    A number that WhatsApp has called by another spelling is the contact of that one.  Somebody who had opted out
    before they were erased is opted out again.
    """
    if not people:
        return {}
    if not connection.execute(NEEDS_A_LOOK).fetchone()[0]:
        connection.executemany(INSERT_CONTACT, [(address, kind, now_ms) for address, kind in people])
        return find_contacts(connection, [address for address, _kind in people])
    ids = find_contacts(connection, [address for address, _kind in people])
    new = {address: kind for address, kind in people if address not in ids}
    spelled = _find_spellings(connection, list(new))
    ids.update(spelled)
    new = {address: kind for address, kind in new.items() if address not in spelled}
    connection.executemany(INSERT_CONTACT, [(address, kind, now_ms) for address, kind in new.items()])
    added = find_contacts(connection, list(new))
    suppress_again(connection, added)
    return {**ids, **added}


def find_opted_out(connection: sqlite3.Connection, contact_ids: Sequence[int]) -> set[int]:
    """Those of these contacts that nobody may write to."""
    if connection.execute("SELECT 1 FROM contact WHERE opted_out_at IS NOT NULL LIMIT 1").fetchone() is None:
        return set()
    found: set[int] = set()
    for some in _slices(contact_ids):
        found.update(row[0] for row in connection.execute(_find_opted_out(len(some)), some))
    return found


def find_unregistered(connection: sqlite3.Connection, contact_ids: Sequence[int], *, since_ms: int | None) -> set[int]:
    """Those of these contacts that a look-up since then has not found on WhatsApp; nobody for None."""
    if since_ms is None or not connection.execute(HAS_UNREGISTERED).fetchone():
        return set()
    found: set[int] = set()
    for some in _slices(contact_ids):
        found.update(row[0] for row in connection.execute(_find_unregistered(len(some)), (since_ms, *some)))
    return found


def read_talks(
    connection: sqlite3.Connection, instance_id: int, contact_ids: Sequence[int]
) -> dict[int, tuple[int | None, int | None]]:
    """(when they last wrote, when the platform said that their window was shut) of those who ever did, or were."""
    talks: dict[int, tuple[int | None, int | None]] = {}
    if connection.execute("SELECT 1 FROM conversation WHERE instance_id = ? LIMIT 1", (instance_id,)).fetchone():
        for some in _slices(contact_ids):
            for contact_id, wrote_at, closed_at in connection.execute(_read_talks(len(some)), (instance_id, *some)):
                talks[contact_id] = (wrote_at, closed_at)
    return talks


def suppress_again(connection: sqlite3.Connection, added: dict[str, int]) -> None:
    """Opt out those of these new contacts (by address) who had opted out before they were erased."""
    if not added or connection.execute("SELECT 1 FROM suppressed LIMIT 1").fetchone() is None:
        return
    install = read_install(connection)
    by_digest = {digest_of(install, address): contact_id for address, contact_id in added.items()}
    for some in _slices(list(by_digest)):
        for digest, at in connection.execute(_find_suppressed(len(some)), some).fetchall():
            contact_id = by_digest[digest]
            connection.execute("UPDATE contact SET opted_out_at = ? WHERE id = ?", (at, contact_id))
            connection.execute(
                """INSERT INTO consent (contact_id, at, change, source, wording, actor)
                VALUES (?, ?, 'opt_out', 'import', 'had opted out before they were erased', 'wa')""",
                (contact_id, at),
            )


def digest_of(install: str, address: str) -> bytes:
    """What is kept of an address whose owner was erased: enough to know it again, not to read it.

    Keyed by this database's name, so that two databases cannot be compared.  Whoever has this file can still try all
    numbers there are.
    """
    return hmac.digest(install.encode(), address.encode(), hashlib.sha256)


def read_install(connection: sqlite3.Connection) -> str:
    return str(connection.execute("SELECT value FROM meta WHERE key = 'install'").fetchone()[0])


def find_contacts(connection: sqlite3.Connection, addresses: Sequence[str]) -> dict[str, int]:
    """The ids of those of these addresses that are contacts."""
    ids: dict[str, int] = {}
    for some in _slices(addresses):
        marks = ",".join("?" * len(some))
        ids.update(
            connection.execute(f"SELECT address, id FROM contact WHERE address IN ({marks})", some).fetchall()  # noqa: S608  # only marks
        )
    return ids


def _find_spellings(connection: sqlite3.Connection, addresses: Sequence[str]) -> dict[str, int]:
    by_alias = {SPELLING + address[1:]: address for address in addresses if address.startswith("+")}
    found: dict[str, int] = {}
    for some in _slices(list(by_alias)):
        marks = ",".join("?" * len(some))
        for alias, contact_id in connection.execute(
            f"SELECT alias, contact_id FROM contact_alias WHERE alias IN ({marks})",  # noqa: S608  # only marks
            some,
        ):
            found[by_alias[alias]] = contact_id
    return found


def _find_opted_out(count: int) -> str:
    marks = ",".join("?" * count)
    return f"SELECT id FROM contact WHERE opted_out_at IS NOT NULL AND id IN ({marks})"  # noqa: S608  # only marks


def _find_unregistered(count: int) -> str:
    marks = ",".join("?" * count)
    return f"""SELECT contact_id FROM number_check
        WHERE verdict = 'no' AND checked_at > ? AND contact_id IN ({marks})"""  # noqa: S608  # only marks


def _read_talks(count: int) -> str:
    marks = ",".join("?" * count)
    return f"""SELECT contact_id, last_inbound_at, closed_at FROM conversation
        WHERE instance_id = ? AND contact_id IN ({marks})"""  # noqa: S608  # only marks


def _find_suppressed(count: int) -> str:
    marks = ",".join("?" * count)
    return f"SELECT digest, at FROM suppressed WHERE digest IN ({marks})"  # noqa: S608  # only marks


def _slices(values: Sequence[T]) -> Iterator[Sequence[T]]:
    return (values[start : start + ADDRESSES_PER_QUERY] for start in range(0, len(values), ADDRESSES_PER_QUERY))
