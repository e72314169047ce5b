"""One transaction in which events take effect: everything that services may touch in it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from wa_cli.store.sqlite.people import SqlitePeopleTurn
from wa_cli.store.sqlite.receipts import SqliteReceiptTurn

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from wa_cli.store.sqlite.database import Database


class SqliteEventTurn:
    """Implements EventTurn on a transaction that somebody else has opened."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._receipts = SqliteReceiptTurn(connection)
        self._people = SqlitePeopleTurn(connection)

    @property
    def receipts(self) -> SqliteReceiptTurn:
        return self._receipts

    @property
    def people(self) -> SqlitePeopleTurn:
        return self._people


@contextmanager
def open_event_turn(database: Database) -> Iterator[SqliteEventTurn]:
    """A transaction of its own."""
    with database.write() as connection:
        yield SqliteEventTurn(connection)
