"""One transaction in which the events of a webhook take effect: everything that services may touch in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wa_cli.store.sqlite.receipts import SqliteReceiptTurn

if TYPE_CHECKING:
    import sqlite3


class SqliteEventTurn:
    """Implements EventTurn on a transaction that somebody else has opened."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._receipts = SqliteReceiptTurn(connection)

    @property
    def receipts(self) -> SqliteReceiptTurn:
        return self._receipts
