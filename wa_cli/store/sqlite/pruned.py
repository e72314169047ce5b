"""What is remembered of history that was pruned, in `meta`: sums that must stay right without their messages.

How many messages went and where they stood; the report of each run that lost its messages; the sums of campaigns
that were queued by name alone.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from wa_cli.domain.kept_report import KeptReport

SUMS: Final = "pruned"
RUN: Final = "pruned_run:"
CAMPAIGN: Final = "pruned_campaign:"

# Of a row of `run`: whether its messages were pruned.
IS_RUN_PRUNED: Final = f"EXISTS (SELECT 1 FROM meta WHERE meta.key = '{RUN}' || run.id)"  # noqa: S608  # own words
WRITE: Final = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """Everything that was ever pruned.  counts: messages by the word they were shown with.

    before_ms: what went was older than this.  last_message_id: no message with a greater id is gone.
    """

    counts: Mapping[str, int]
    before_ms: int
    last_message_id: int

    @property
    def messages(self) -> int:
        return sum(self.counts.values())


def read_sums(connection: sqlite3.Connection) -> Pruned | None:
    """None while nothing was ever pruned."""
    document = _read(connection, SUMS)
    return None if document is None else Pruned(**json.loads(document))


def add_sums(connection: sqlite3.Connection, more: Pruned) -> None:
    known = read_sums(connection) or Pruned(counts={}, before_ms=0, last_message_id=0)
    document = {
        "counts": dict(Counter(known.counts) + Counter(more.counts)),
        "before_ms": max(known.before_ms, more.before_ms),
        "last_message_id": max(known.last_message_id, more.last_message_id),
    }
    connection.execute(WRITE, (SUMS, json.dumps(document)))


# --- runs ---


def find_report(connection: sqlite3.Connection, run_id: int) -> KeptReport | None:
    """What a run had come to when its messages were pruned; None for one that has them."""
    document = _read(connection, f"{RUN}{run_id}")
    if document is None:
        return None
    from wa_cli.domain.kept_report import decode_report

    return decode_report(document)


def keep_report(connection: sqlite3.Connection, run_id: int, kept: KeptReport) -> None:
    from wa_cli.domain.kept_report import encode_report

    connection.execute(WRITE, (f"{RUN}{run_id}", encode_report(kept)))


def list_runs(connection: sqlite3.Connection) -> list[int]:
    """The runs whose messages were pruned, or are being pruned."""
    return [int(name) for name in _list_names(connection, RUN)]


# --- campaigns that are a name alone ---


def read_campaign_sums(connection: sqlite3.Connection, name: str) -> dict[str, int] | None:
    """Pruned messages of that campaign by the word they were shown with, of no run; None where there are none."""
    document = _read(connection, f"{CAMPAIGN}{name}")
    return None if document is None else json.loads(document)


def add_campaign_sums(connection: sqlite3.Connection, name: str, counts: Mapping[str, int]) -> None:
    known = read_campaign_sums(connection, name) or {}
    connection.execute(WRITE, (f"{CAMPAIGN}{name}", json.dumps(dict(Counter(known) + Counter(counts)))))


def list_campaigns(connection: sqlite3.Connection) -> list[str]:
    return _list_names(connection, CAMPAIGN)


def _read(connection: sqlite3.Connection, key: str) -> str | None:
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def _list_names(connection: sqlite3.Connection, mark: str) -> list[str]:
    # The next sign after the colon ends the range.
    rows = connection.execute("SELECT key FROM meta WHERE key >= ? AND key < ?", (mark, f"{mark[:-1]};"))
    return [str(key).removeprefix(mark) for (key,) in rows]
