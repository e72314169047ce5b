"""Single messages: what is stored about each, how many stand where, and taking waiting ones out of the queue."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from wa_cli.domain.message import OnUnknown, State, content_hash, decode_content
from wa_cli.domain.receipt import Receipt, Standing, derive_standing
from wa_cli.store.sqlite.queue import FIRST_LANE

if TYPE_CHECKING:
    import sqlite3

    from wa_cli.store.sqlite.database import Database


class SqliteMessages:
    def __init__(self, database: Database) -> None:
        self._database = database

    # --- counts: a few rows each, however many messages there are ---

    def read_stats(self) -> dict[str, int]:
        """How many messages stand where, every word present, each message in exactly one (promise P13)."""
        stats = {standing.value: 0 for standing in Standing}
        with self._database.read() as connection:
            for state, receipt, n in connection.execute("SELECT state, receipt, sum(n) FROM tally GROUP BY 1, 2"):
                standing = derive_standing(State(state), Receipt(receipt) if receipt else None)
                stats[standing.value] += n
        return stats

    def count_waiting_retries(self) -> int:
        """Messages that failed at least once and wait for their next attempt."""
        with self._database.read() as connection:
            row = connection.execute("SELECT count(*) FROM message WHERE state = 'queued' AND attempts > 0").fetchone()
        return int(row[0])

    def next_due_at_ms(self, instance_id: int) -> int | None:
        """When the first waiting message of the instance is due, or None when none waits."""
        first: int | None = None
        lane = -1
        with self._database.read() as connection:
            while (head := connection.execute(FIRST_LANE, (instance_id, lane)).fetchone()) is not None:
                lane, due_at = head
                first = due_at if first is None else min(first, due_at)
        return first
