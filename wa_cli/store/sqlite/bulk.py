"""Many rows into one table with few statements.

Each statement that fires a trigger begins by keeping a copy of every page it may have to restore.  One statement a row
spends more on that than on the row; fifty rows a statement halve the price of a message.
"""

from __future__ import annotations

from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

ROWS_A_STATEMENT: Final = 50  # of up to 19 columns: SQLite before 3.32 takes 999 values


def insert_rows(
    connection: sqlite3.Connection, into: str, rows: Sequence[tuple[object, ...]], *, then: str = ""
) -> None:
    """Insert the rows in their order.  into: `INSERT INTO table (columns)`; then: an `ON CONFLICT` clause, or "".

    Inside the caller's transaction.
    """
    whole = len(rows) - len(rows) % ROWS_A_STATEMENT
    if whole:
        statement = _write(into, len(rows[0]), ROWS_A_STATEMENT, then)
        for first in range(0, whole, ROWS_A_STATEMENT):
            connection.execute(statement, tuple(chain.from_iterable(rows[first : first + ROWS_A_STATEMENT])))
    if whole < len(rows):
        connection.executemany(_write(into, len(rows[0]), 1, then), rows[whole:])


@cache
def _write(into: str, width: int, count: int, then: str) -> str:
    row = f"({', '.join('?' * width)})"
    return f"{into} VALUES {', '.join([row] * count)} {then}"
