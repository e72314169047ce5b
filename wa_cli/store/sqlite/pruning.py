"""Pruning: old history leaves the file, and nothing that a promise rests on goes with it.

A message goes with its attempts, receipts, decisions and keys in one transaction of some hundred messages; who may go
is looked for before the file is locked, and judged once more under the lock.  What a report needs is written down
before the first message of a run goes.  Killed at any moment, the file is sound, and the same command goes on.

Numbers are never given out twice: the rows with the highest ids stay, since the tag of an attempt that is gone may
still come back in a receipt, and a reader of `wa message show` may have an old id.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from wa_cli.cuts import cut
from wa_cli.domain.message import State
from wa_cli.domain.pacing import LANE_SHIFT
from wa_cli.domain.pruning import PruneSums
from wa_cli.domain.receipt import Receipt, derive_standing
from wa_cli.domain.report import ANSWER_MS, fill_buckets
from wa_cli.errors import Temporary
from wa_cli.store.sqlite.campaigns import read_run
from wa_cli.store.sqlite.database import LONG_LOG_BYTES, LONGEST_WAIT_SECONDS, rename_error
from wa_cli.store.sqlite.leases import fold_log
from wa_cli.store.sqlite.media import SqliteMedia
from wa_cli.store.sqlite.owners import is_alive, list_living
from wa_cli.store.sqlite.pruned import (
    IS_RUN_PRUNED,
    RUN,
    Pruned,
    add_campaign_sums,
    add_sums,
    keep_report,
)
from wa_cli.store.sqlite.reports import ROUNDED_MS, SENT_AT, SqliteReports, read_tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from wa_cli.store.sqlite.database import Database

    OnProgress = Callable[[str, int, int], None]

LOOKED_AT: Final = 2_000  # rows a look, outside any lock of the file
FIRST_ROWS: Final = 250  # the first transaction has half of them; the others follow from how long it held the file
FEWEST_ROWS: Final = 100
ROWS_AT_ONCE: Final = 2_000  # of lines of ledgers, which have neither triggers nor companions
# Longer than anybody who waits for the file lets pass between two looks: each of them gets in.
BREATH_SECONDS: Final = 1.2 * LONGEST_WAIT_SECONDS
LONG_BREATH_SECONDS: Final = 0.1
MOST_LOG_BYTES: Final = 1_000_000_000
LOG_WAIT_SECONDS: Final = 60.0
MARKED_AGAIN: Final = 3
# Each file is looked for in all words; upkeep sees to those that there is no time for.
MEDIA_SECONDS: Final = 20.0

# going: messages of the present page that may go (all of them in a dry run).  gone: those of the present transaction.
# kept_message, kept_batch: what guards something.  odd_key: keys of messages that have other words by now.
# newest: the messages behind the highest ids.  used_content, used_batch: what something refers to.
LISTS: Final = (
    "going", "gone", "kept_message", "kept_batch", "newest", "pruned_run", "used_content", "used_batch",
)  # fmt: skip
MAKE_ODD_KEYS: Final = """
    CREATE TEMP TABLE odd_key (message_id INTEGER, content_id INTEGER, contact_id INTEGER, instance_id INTEGER,
        PRIMARY KEY (message_id, content_id, contact_id, instance_id)) WITHOUT ROWID
"""

FIND_NEWEST: Final = """
    INSERT OR IGNORE INTO temp.newest
    SELECT id FROM (SELECT id FROM message ORDER BY id DESC LIMIT 1)
    UNION SELECT message_id FROM (SELECT message_id FROM attempt ORDER BY id DESC LIMIT 1)
    UNION SELECT message_id FROM (SELECT message_id FROM decision ORDER BY id DESC LIMIT 1)
    UNION SELECT message_id FROM attempt WHERE id = (SELECT attempt_id FROM receipt ORDER BY id DESC LIMIT 1)
"""

# --- what guards ---

# The words of a message that may yet leave: whoever else holds their key shows that they would be said twice.
GUARD_BY_WORDS: Final = """
    INSERT OR IGNORE INTO temp.kept_message
    SELECT k.message_id FROM message AS m CROSS JOIN live_key AS k
        ON k.content_id = m.content_id AND k.contact_id = m.contact_id AND k.instance_id = m.instance_id
    WHERE m.id > :after AND m.id <= :last AND m.state IN ('queued', 'sending', 'unknown', 'failed')
        AND k.message_id <> m.id
"""
# A message that was planned anew has other words now, and is still named by the key of the old ones.
FIND_ODD_KEYS: Final = """
    INSERT OR IGNORE INTO temp.odd_key
    SELECT k.message_id, k.content_id, k.contact_id, k.instance_id FROM live_key AS k
    JOIN message AS m ON m.id = k.message_id
    WHERE (k.content_id, k.contact_id, k.instance_id) > (:content, :contact, :instance)
        AND (k.content_id, k.contact_id, k.instance_id) <= (:last_content, :last_contact, :last_instance)
        AND (m.content_id <> k.content_id OR m.contact_id <> k.contact_id OR m.instance_id <> k.instance_id)
"""
KEY_PAGE: Final = """
    SELECT content_id, contact_id, instance_id FROM (SELECT * FROM live_key
        WHERE (content_id, contact_id, instance_id) > (?, ?, ?) ORDER BY 1, 2, 3 LIMIT ?)
    ORDER BY 1 DESC, 2 DESC, 3 DESC LIMIT 1
"""
KEY_SPAN: Final = "content", "contact", "instance", "last_content", "last_contact", "last_instance"
# A call is repeated as a whole: while its key holds, or anything of it may leave or was touched of late, all of it
# stays.
GUARD_BY_CALLER_KEY: Final = """
    INSERT OR IGNORE INTO temp.kept_batch
    SELECT b.id FROM caller_key AS k CROSS JOIN batch AS b ON b.id = k.batch_id
    WHERE k.key > :after AND k.key <= :last AND k.message_id IS NULL AND (k.expires_at > :now OR EXISTS
        (SELECT 1 FROM message AS m WHERE m.id BETWEEN b.first_message_id AND b.last_message_id AND m.batch_id = b.id
            AND (m.state IN ('queued', 'sending', 'unknown') OR m.changed_at >= :before)))
"""
GUARD_BY_LINE_KEY: Final = """
    INSERT OR IGNORE INTO temp.kept_message SELECT message_id FROM caller_key
    WHERE key > :after AND key <= :last AND message_id IS NOT NULL AND expires_at > :now
"""

# --- what goes ---

IS_OLD: Final = "m.changed_at < :before"
IS_FINAL: Final = """
    (m.state IN ('sent', 'skipped', 'expired', 'cancelled') OR (m.state = 'failed' AND m.reason IS 'dismissed'))
"""
IS_DONE_WITH: Final = f"""
    {IS_OLD} AND {IS_FINAL}
    AND m.id NOT IN (SELECT id FROM temp.kept_message) AND m.batch_id NOT IN (SELECT id FROM temp.kept_batch)
    AND NOT EXISTS (SELECT 1 FROM batch AS b WHERE b.id = m.batch_id AND b.released_at IS NULL)
    AND NOT EXISTS (SELECT 1 FROM live_key AS k WHERE k.content_id = m.content_id AND k.contact_id = m.contact_id
        AND k.instance_id = m.instance_id AND k.message_id = m.id AND k.expires_at > :now)
    AND NOT EXISTS (SELECT 1 FROM temp.odd_key AS o CROSS JOIN live_key AS k
            ON k.content_id = o.content_id AND k.contact_id = o.contact_id AND k.instance_id = o.instance_id
        WHERE o.message_id = m.id AND k.message_id = m.id AND k.expires_at > :now)
    AND NOT EXISTS (SELECT 1 FROM attempt AS a WHERE a.message_id = m.id AND (a.started_at >= :before
        OR a.outcome IS NULL OR EXISTS (SELECT 1 FROM receipt AS r WHERE r.attempt_id = a.id
            AND (r.received_at >= :before OR r.rule = 'parked'))))
    AND NOT EXISTS (SELECT 1 FROM decision AS d WHERE d.message_id = m.id AND d.at >= :before)
"""  # noqa: S608  # own words
# Of a campaign that is a name alone: who has answered it is counted by its messages, each person once.
IS_ANSWERED: Final = f"""
    (m.run_id IS NULL AND m.state = 'sent'
    AND EXISTS (SELECT 1 FROM batch AS b WHERE b.id = m.batch_id AND b.campaign IS NOT NULL)
    AND (EXISTS (SELECT 1 FROM inbound AS n WHERE n.contact_id = m.contact_id AND n.instance_id = m.instance_id
            AND n.at BETWEEN {SENT_AT} - {ROUNDED_MS} AND {SENT_AT} + {ANSWER_MS})
        OR EXISTS (SELECT 1 FROM consent AS n WHERE n.contact_id = m.contact_id AND n.change = 'opt_out'
            AND n.source <> 'import' AND n.at BETWEEN {SENT_AT} - {ROUNDED_MS} AND {SENT_AT} + {ANSWER_MS})))
"""  # noqa: S608  # own words
IS_FREE: Final = "(m.run_id IS NULL OR m.run_id IN (SELECT id FROM temp.pruned_run))"
GOES: Final = f"""
    {IS_FREE} AND m.id NOT IN (SELECT id FROM temp.newest) AND {IS_DONE_WITH} AND NOT {IS_ANSWERED}
"""  # noqa: S608  # own words
FIND_GOING: Final = f"""
    INSERT INTO temp.going SELECT m.id FROM message AS m WHERE m.id > :after AND m.id <= :last AND {GOES}
"""  # noqa: S608  # own words
# Judged again under the lock: a message may have been resent meanwhile, a receipt may have come.
TAKE_GONE: Final = f"""
    INSERT INTO temp.gone SELECT m.id FROM temp.going AS g CROSS JOIN message AS m ON m.id = g.id
    WHERE g.id <= :last AND {GOES}
"""  # noqa: S608  # own words
COUNT_KEPT: Final = f"""
    SELECT CASE WHEN m.state IN ('queued', 'sending') THEN 'waiting' WHEN m.state = 'unknown' THEN 'unknown'
            WHEN m.state = 'failed' AND m.reason IS NOT 'dismissed' THEN 'failed' WHEN NOT {IS_FREE} THEN 'campaign'
            WHEN {IS_ANSWERED} THEN 'answered' ELSE 'guard' END, count(*)
    FROM message AS m WHERE m.id > :after AND m.id <= :last AND {IS_OLD} AND m.id NOT IN (SELECT id FROM temp.going)
    GROUP BY 1
"""  # noqa: S608  # own words
COUNT_STANDINGS: Final = """
    SELECT m.state, m.receipt, count(*) FROM temp.{list} AS g CROSS JOIN message AS m ON m.id = g.id GROUP BY 1, 2
"""
COUNT_NAMED: Final = """
    SELECT b.campaign, m.state, m.receipt, count(*) FROM temp.gone AS g CROSS JOIN message AS m ON m.id = g.id
    JOIN batch AS b ON b.id = m.batch_id WHERE m.run_id IS NULL AND b.campaign IS NOT NULL GROUP BY 1, 2, 3
"""
# Whoever was written to stays known to that number: its pool does not give them another one.
REMEMBER_PEOPLE: Final = """
    INSERT OR IGNORE INTO conversation (instance_id, contact_id)
    SELECT m.instance_id, m.contact_id FROM temp.gone AS g CROSS JOIN message AS m ON m.id = g.id
    JOIN contact AS c ON c.id = m.contact_id WHERE m.state = 'sent' AND c.erased_at IS NULL
"""
READ_KEYS: Final = """
    SELECT m.content_id, m.contact_id, m.instance_id, m.id FROM temp.gone AS g CROSS JOIN message AS m ON m.id = g.id
    UNION SELECT o.content_id, o.contact_id, o.instance_id, o.message_id
    FROM temp.gone AS g CROSS JOIN temp.odd_key AS o ON o.message_id = g.id
"""
DELETE_KEY: Final = """
    DELETE FROM live_key WHERE content_id = ? AND contact_id = ? AND instance_id = ? AND message_id = ?
"""
# In this order: what points at something goes before it.
DELETE: Final = (
    (
        "receipts",
        """DELETE FROM receipt WHERE attempt_id IN
            (SELECT a.id FROM temp.gone AS g CROSS JOIN attempt AS a ON a.message_id = g.id)""",
    ),
    ("attempts", "DELETE FROM attempt WHERE message_id IN (SELECT id FROM temp.gone)"),
    ("decisions", "DELETE FROM decision WHERE message_id IN (SELECT id FROM temp.gone)"),
    ("", "DELETE FROM message WHERE id IN (SELECT id FROM temp.gone)"),
)
COUNT: Final = (
    (
        "receipts",
        """SELECT count(*) FROM temp.going AS g CROSS JOIN attempt AS a ON a.message_id = g.id
            CROSS JOIN receipt AS r ON r.attempt_id = a.id""",
    ),
    ("attempts", "SELECT count(*) FROM temp.going AS g CROSS JOIN attempt AS a ON a.message_id = g.id"),
    ("decisions", "SELECT count(*) FROM temp.going AS g CROSS JOIN decision AS d ON d.message_id = g.id"),
    (
        "keys",
        """SELECT count(*) FROM temp.going AS g CROSS JOIN message AS m ON m.id = g.id
            CROSS JOIN live_key AS k ON k.content_id = m.content_id AND k.contact_id = m.contact_id
                AND k.instance_id = m.instance_id AND k.message_id = m.id""",
    ),
)

# --- runs ---

# Ended, and nothing of it waits, is on its way or cannot be known.
FIND_ENDED_RUNS: Final = f"""
    SELECT run.id, {IS_RUN_PRUNED} FROM run WHERE run.state IN ('finished', 'cancelled') AND run.owner IS NULL
        AND (run.ended_at < :before OR {IS_RUN_PRUNED})
        AND (run.first_message_id IS NOT NULL OR EXISTS (SELECT 1 FROM exclusion WHERE exclusion.run_id = run.id))
        AND NOT EXISTS (SELECT 1 FROM batch WHERE batch.run_id = run.id AND batch.released_at IS NULL)
        AND NOT EXISTS (SELECT 1 FROM run_tally AS t WHERE t.run_id = run.id
            AND t.state IN ('queued', 'sending', 'unknown') AND t.n > 0)
    ORDER BY run.id
"""  # noqa: S608  # own words
FIND_HOLDING: Final = f"""
    SELECT 1 FROM message AS m WHERE m.id > :after AND m.id <= :last AND +m.run_id = :run AND NOT ({IS_DONE_WITH})
    LIMIT 1
"""  # noqa: S608  # own words

# --- what nothing refers to any more ---

LANE_BATCH: Final = (1 << LANE_SHIFT) - 1
# A resent message shares the lane of its resend, whose spacing it needs while it waits.
USE_BY_MESSAGES: Final = (
    """INSERT OR IGNORE INTO temp.used_content SELECT content_id FROM message
    WHERE id > :after AND id <= :last AND id NOT IN (SELECT id FROM temp.going)""",
    f"""INSERT OR IGNORE INTO temp.used_batch SELECT batch_id FROM message
    WHERE id > :after AND id <= :last AND id NOT IN (SELECT id FROM temp.going)
    UNION SELECT lane & {LANE_BATCH} FROM message
    WHERE id > :after AND id <= :last AND id NOT IN (SELECT id FROM temp.going)""",  # noqa: S608  # own words
)
USE_BY_PLANS: Final = """
    INSERT OR IGNORE INTO temp.used_content SELECT content_id FROM plan_line
    WHERE id > :after AND id <= :last AND content_id IS NOT NULL
"""
USE_BY_KEYS: Final = """
    INSERT OR IGNORE INTO temp.used_content SELECT k.content_id FROM live_key AS k
    WHERE (k.content_id, k.contact_id, k.instance_id) > (:content, :contact, :instance)
        AND (k.content_id, k.contact_id, k.instance_id) <= (:last_content, :last_contact, :last_instance)
        AND k.message_id NOT IN (SELECT id FROM temp.going)
"""
FIND_BATCHES: Final = f"""
    SELECT b.id FROM batch AS b WHERE b.id > :after AND b.id < :newest AND b.released_at IS NOT NULL
        AND b.created_at < :before AND b.id NOT IN (SELECT id FROM temp.used_batch)
        AND b.id NOT IN (SELECT id FROM temp.kept_batch)
        AND (b.run_id IS NULL OR b.run_id IN (SELECT id FROM temp.pruned_run)
            OR EXISTS (SELECT 1 FROM meta WHERE meta.key = '{RUN}' || b.run_id))
    ORDER BY b.id LIMIT :limit
"""  # noqa: S608  # own words
FIND_CONTENTS: Final = """
    SELECT id FROM content WHERE id > :after AND id < :newest AND id NOT IN (SELECT id FROM temp.used_content)
    ORDER BY id LIMIT :limit
"""
COUNT_CONTENTS: Final = """
    SELECT count(*) FROM content WHERE id < ? AND id NOT IN (SELECT id FROM temp.used_content)
"""
USE_NEWER: Final = "INSERT OR IGNORE INTO temp.used_content SELECT content_id FROM message WHERE id > ?"
LAST_PLAN: Final = "SELECT seq FROM sqlite_sequence WHERE name = 'plan'"
DELETE_CALLER_KEYS: Final = """
    DELETE FROM caller_key WHERE key > :after AND key <= :last AND expires_at <= :now AND CASE WHEN message_id IS NULL
        THEN batch_id NOT IN (SELECT id FROM batch) ELSE message_id NOT IN (SELECT id FROM message) END
"""


class SqlitePruning:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._values: dict[str, int] = {}

    def survey(self, *, before_ms: int, now_ms: int, on_progress: OnProgress = lambda *_news: None) -> PruneSums:
        """What `prune` would take out.  Nothing is written, and nobody waits for it."""
        sums = PruneSums()
        with self._lists(before_ms=before_ms, now_ms=now_ms):
            self._find_guards()
            runs, half_done = self._find_runs()
            self._choose(runs)
            sums.runs = len([run_id for run_id in runs if run_id not in half_done])
            last_old, total = self._last_old()
            for after, last, done in self._pages(last_old):
                self._find_going(sums, after, last)
                on_progress("messages", done, total)
            with self._database.write_temporary() as connection:
                sums.messages = _count_standings(connection, "going")
                for name, statement in COUNT:
                    setattr(sums, name, connection.execute(statement).fetchone()[0])
                for run_id in runs:
                    (left_out,) = connection.execute(
                        "SELECT count(*) FROM exclusion WHERE run_id = ?", (run_id,)
                    ).fetchone()
                    sums.left_out += left_out
            mark = self._mark_used()
            sums.batches = sum(len(ids) for ids in self._find_in_pages(FIND_BATCHES, newest=mark.batch))
            sums.contents = sum(len(ids) for ids in self._find_in_pages(FIND_CONTENTS, newest=mark.content))
            sums.files = SqliteMedia(self._database).count_idle(
                now_ms=now_ms, without="temp.going", seconds=MEDIA_SECONDS
            )
        return sums

    def prune(self, *, before_ms: int, now_ms: int, on_progress: OnProgress = lambda *_news: None) -> PruneSums:
        """Take out what is older than that moment and guards nothing.  Can be cut short, and called again.

        on_progress: told how many `messages` have been looked at, and then `texts`, and of how many.
        Raises: Temporary when another program keeps the log from being folded in.
        """
        sums = PruneSums()
        # Words in freed pages could never be erased: `wa contact erase` knows only of rows.
        self._database.connection.execute("PRAGMA secure_delete = ON").fetchone()
        self._database.chunk_rows = FIRST_ROWS
        with self._lists(before_ms=before_ms, now_ms=now_ms):
            self._find_guards()
            runs, half_done = self._find_runs()
            runs = [run_id for run_id in runs if run_id in half_done or self._keep_report(run_id)]
            self._choose(runs)
            last_old, total = self._last_old()
            for after, last, done in self._pages(last_old):
                self._find_going(sums, after, last)
                self._delete_going(sums)
                on_progress("messages", done, total)
            for run_id in runs:
                self._end_run(sums, run_id)
            sums.runs = len([run_id for run_id in runs if run_id not in half_done])
            self._sweep(sums, on_progress)
            sums.files = SqliteMedia(self._database).sweep(now_ms=now_ms, seconds=MEDIA_SECONDS)
        return sums

    def is_used_by_others(self, token: str | None) -> bool:
        """Whether another process of this machine sends, queues or plans.  token: of this one, if it has one."""
        return any(one != token for one in list_living(self._database.path))

    def count_free_bytes(self) -> tuple[int, int]:
        """(bytes of the file that are free for new rows, bytes of the file)."""
        with self._database.read() as connection:
            free, pages, size = (
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("freelist_count", "page_count", "page_size")
            )
        return free * size, pages * size

    def vacuum(self) -> None:
        """Write the file anew without its free pages.  Everybody else who writes waits until it is done.

        Raises: StorageFull where there is no room for a second copy.
        """
        try:
            self._database.connection.execute("VACUUM")
            self._database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            raise rename_error(error, self._database.path) from error

    # --- looking ---

    @contextmanager
    def _lists(self, *, before_ms: int, now_ms: int) -> Iterator[None]:
        """Temporary tables, which are on the disk where they are long, and gone with a crash."""
        self._values = {"before": before_ms, "now": now_ms}
        connection = self._database.connection
        try:
            for name in (*LISTS, "odd_key"):
                connection.execute(f"DROP TABLE IF EXISTS temp.{name}")
            for name in LISTS:
                connection.execute(f"CREATE TEMP TABLE {name} (id INTEGER PRIMARY KEY)")
            connection.execute(MAKE_ODD_KEYS)
            yield
        except sqlite3.Error as error:
            raise rename_error(error, self._database.path) from error
        finally:
            for name in (*LISTS, "odd_key"):
                connection.execute(f"DROP TABLE IF EXISTS temp.{name}")

    def _pages(self, last_id: int, *, table: str = "message", after: int = 0) -> Iterator[tuple[int, int, int]]:
        """(after, last, rows so far) of the rows up to an id, some at a time."""
        done = 0
        while True:
            with self._database.write_temporary() as connection:
                last, rows = connection.execute(
                    f"""SELECT max(id), count(*) FROM
                        (SELECT id FROM {table} WHERE id > ? AND id <= ? ORDER BY id LIMIT ?)""",  # noqa: S608  # own words
                    (after, last_id, LOOKED_AT),
                ).fetchone()
            if last is None:
                return
            done += rows
            yield after, last, done
            after = last

    def _last_old(self) -> tuple[int, int]:
        """The last message that can be old enough, and how many there are up to it.

        Those of the first call since then are younger, and all after it.
        """
        with self._database.write_temporary() as connection:
            row = connection.execute(
                """SELECT first_message_id - 1 FROM batch
                WHERE created_at >= ? AND first_message_id IS NOT NULL ORDER BY id LIMIT 1""",
                (self._values["before"],),
            ).fetchone()
            last = row[0] if row is not None else _newest(connection, "message")
            (count,) = connection.execute("SELECT count(*) FROM message WHERE id <= ?", (last,)).fetchone()
        return last, count

    def _find_guards(self) -> None:
        """Which messages and calls guard against a second send, see GUARD_BY_WORDS and GUARD_BY_CALLER_KEY."""
        with self._database.write_temporary() as connection:
            newest = _newest(connection, "message")
        for after, last, _done in self._pages(newest):
            with self._database.write_temporary() as connection:
                connection.execute(GUARD_BY_WORDS, {"after": after, "last": last})
        for span in self._key_pages():
            with self._database.write_temporary() as connection:
                connection.execute(FIND_ODD_KEYS, span)
        for key_span in self._caller_key_pages():
            with self._database.write_temporary() as connection:
                connection.execute(GUARD_BY_CALLER_KEY, {**self._values, **key_span})
                connection.execute(GUARD_BY_LINE_KEY, {**self._values, **key_span})

    def _key_pages(self) -> Iterator[dict[str, int]]:
        at = (-1, -1, -1)
        while True:
            with self._database.write_temporary() as connection:
                last = connection.execute(KEY_PAGE, (*at, LOOKED_AT)).fetchone()
            if last is None:
                return
            yield dict(zip(KEY_SPAN, (*at, *last), strict=True))
            at = last

    def _caller_key_pages(self) -> Iterator[dict[str, str]]:
        after = ""
        while True:
            with self._database.write_temporary() as connection:
                (last,) = connection.execute(
                    "SELECT max(key) FROM (SELECT key FROM caller_key WHERE key > ? ORDER BY key LIMIT ?)",
                    (after, LOOKED_AT),
                ).fetchone()
            if last is None:
                return
            yield {"after": after, "last": last}
            after = last

    def _find_going(self, sums: PruneSums, after: int, last: int) -> None:
        """Add to `going` those of a page that may go, and count the old ones that may not."""
        values = {**self._values, "after": after, "last": last}
        with self._database.write_temporary() as connection:
            _note_newest(connection)
            connection.execute(FIND_GOING, values)
            kept = Counter(sums.kept)
            for reason, count in connection.execute(COUNT_KEPT, values):
                kept[reason] += count
            sums.kept = dict(kept)

    # --- runs of campaigns ---

    def _find_runs(self) -> tuple[list[int], set[int]]:
        """The runs that go as a whole, and those of them whose report is kept already: a pruning was cut short."""
        with self._database.write_temporary() as connection:
            ended = connection.execute(FIND_ENDED_RUNS, self._values).fetchall()
        half_done = {run_id for run_id, is_pruned in ended if is_pruned}
        return [run_id for run_id, is_pruned in ended if is_pruned or self._is_done_with(run_id)], half_done

    def _is_done_with(self, run_id: int) -> bool:
        """Whether every message of a run is old, final, and guards nothing."""
        with self._database.write_temporary() as connection:
            run = read_run(connection, run_id)
        for after, last, _done in self._pages(run.last_message_id or 0, after=(run.first_message_id or 1) - 1):
            with self._database.write_temporary() as connection:
                values = {**self._values, "after": after, "last": last, "run": run_id}
                if connection.execute(FIND_HOLDING, values).fetchone() is not None:
                    return False
        return True

    def _choose(self, run_ids: Sequence[int]) -> None:
        with self._database.write_temporary() as connection:
            connection.executemany("INSERT INTO temp.pruned_run VALUES (?)", [(run_id,) for run_id in run_ids])

    def _keep_report(self, run_id: int) -> bool:
        """Write down what a run has come to, before the first of its messages goes.  False: it has just changed."""
        from wa_cli.domain.kept_report import KeptReport

        reports = SqliteReports(self._database)
        with self._database.write_temporary() as connection:
            run = read_run(connection, run_id)
        now_ms = self._values["now"]
        figures = reports.read_figures(run, now_ms=now_ms, is_deep=True)
        lately = reports.read_figures(run, now_ms=now_ms).sends
        with self._database.write() as connection:
            is_same = (
                read_run(connection, run_id) == run
                and fill_buckets(read_tally(connection, run), figures.left_out, held=0) == figures.buckets
            )
            if is_same:
                keep_report(connection, run_id, KeptReport(at_ms=now_ms, figures=figures, lately=lately))
        cut("prune_report_after_commit")
        return is_same

    def _end_run(self, sums: PruneSums, run_id: int) -> None:
        """Take out the lines of a ledger without a message, and note that none with one are left."""
        gone = ROWS_AT_ONCE
        while gone == ROWS_AT_ONCE:
            with self._database.write() as connection:
                gone = connection.execute(
                    "DELETE FROM exclusion WHERE id IN (SELECT id FROM exclusion WHERE run_id = ? LIMIT ?)",
                    (run_id, ROWS_AT_ONCE),
                ).rowcount
            sums.left_out += gone
            self._breathe()
        with self._database.write() as connection:
            connection.execute(
                """UPDATE run SET first_message_id = NULL, last_message_id = NULL
                WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM message WHERE message.run_id = ?1)""",
                (run_id,),
            )

    # --- taking out ---

    def _delete_going(self, sums: PruneSums) -> None:
        """Take out what `going` names, some hundred messages a transaction, and empty it."""
        while True:
            with self._database.write() as connection:
                (last,) = connection.execute(
                    "SELECT max(id) FROM (SELECT id FROM temp.going ORDER BY id LIMIT ?)", (self._rows_at_once(),)
                ).fetchone()
                if last is None:
                    return
                _note_newest(connection)
                connection.execute("DELETE FROM temp.gone")
                taken = connection.execute(TAKE_GONE, {**self._values, "last": last}).rowcount
                connection.execute("DELETE FROM temp.going WHERE id <= ?", (last,))
                counts = self._delete_gone(connection)
                cut("prune_before_commit")
            cut("prune_after_commit")
            self._database.note_chunk(taken)
            messages = Counter(sums.messages)
            messages.update(counts.pop("messages"))
            sums.messages = dict(messages)
            for name, count in counts.items():
                setattr(sums, name, getattr(sums, name) + count)
            self._breathe()

    def _delete_gone(self, connection: sqlite3.Connection) -> dict[str, Any]:
        standings = _count_standings(connection, "gone")
        (last_id,) = connection.execute("SELECT ifnull(max(id), 0) FROM temp.gone").fetchone()
        before_ms = self._values["before"]
        if last_id:
            add_sums(connection, Pruned(counts=standings, before_ms=before_ms, last_message_id=last_id))
        named: dict[str, Counter[str]] = {}
        for name, state, receipt, count in connection.execute(COUNT_NAMED).fetchall():
            named.setdefault(name, Counter())[_standing(state, receipt)] += count
        for name, counts in named.items():
            add_campaign_sums(connection, name, counts)
        connection.execute(REMEMBER_PEOPLE)
        keys = connection.execute(READ_KEYS).fetchall()
        gone: dict[str, Any] = {"messages": standings, "keys": connection.executemany(DELETE_KEY, keys).rowcount}
        for name, statement in DELETE:
            count = connection.execute(statement).rowcount
            if name:
                gone[name] = count
        return gone

    def _rows_at_once(self) -> int:
        """Half of what others take: nobody waits for the end of a pruning, and each row is in many places."""
        return max(self._database.chunk_rows // 2, FEWEST_ROWS)

    def _breathe(self) -> None:
        """Let others in.  Where somebody sends, it is they who fold the log into the file: they get time for it.

        Raises: Temporary when the log grows all the same, since a full disk would stop whoever sends.
        """
        fold_log(self._database)
        time.sleep(BREATH_SECONDS)
        if self._database.is_log_longer_than(LONG_LOG_BYTES):
            time.sleep(LONG_BREATH_SECONDS)
        gives_up_at = time.monotonic() + LOG_WAIT_SECONDS
        while self._database.is_log_longer_than(MOST_LOG_BYTES):
            if time.monotonic() > gives_up_at:
                raise Temporary(
                    f"the log of the database has grown past {MOST_LOG_BYTES // 1_000_000:,} MB: some program keeps"
                    " reading the file",
                    hint="close it, then run the same command again: it goes on where it stopped",
                    code="long_log",
                )
            time.sleep(LONG_BREATH_SECONDS)
            fold_log(self._database)

    # --- what nothing refers to any more ---

    def _sweep(self, sums: PruneSums, on_progress: OnProgress) -> None:
        """Take out calls, keys and words that nothing refers to any more.

        No table has an index on the calls and the words that its rows refer to, since each would cost every send: what
        is used is marked in one walk, and SQLite's own look for a row that refers to one, a scan for each, is left out.
        """
        mark = self._mark_used()
        with self._without_foreign_keys():
            sums.batches = self._delete_in_pages("batch", FIND_BATCHES, newest=mark.batch)
        for span in self._caller_key_pages():
            with self._database.write() as connection:
                sums.keys += connection.execute(DELETE_CALLER_KEYS, {**self._values, **span}).rowcount
            self._breathe()
        cut("prune_calls_after_commit")
        with self._without_foreign_keys():
            for _time in range(MARKED_AGAIN):
                count, is_whole = self._delete_contents(mark, on_progress)
                sums.contents += count
                if is_whole:
                    return
                mark = self._mark_used()
        sums.has_all_contents = False

    def _mark_used(self) -> _Mark:
        """Fill `used_batch` and `used_content`.  Returns what was there when it began: only of that may anything go."""
        with self._database.write_temporary() as connection:
            mark = _Mark(
                message=_newest(connection, "message"),
                batch=_newest(connection, "batch"),
                content=_newest(connection, "content"),
                plan=connection.execute(LAST_PLAN).fetchone(),
            )
            last_line = _newest(connection, "plan_line")
            for name in ("used_content", "used_batch"):
                connection.execute(f"DELETE FROM temp.{name}")  # noqa: S608  # own words
        for after, last, _done in self._pages(mark.message):
            with self._database.write_temporary() as connection:
                for statement in USE_BY_MESSAGES:
                    connection.execute(statement, {"after": after, "last": last})
        for after, last, _done in self._pages(last_line, table="plan_line"):
            with self._database.write_temporary() as connection:
                connection.execute(USE_BY_PLANS, {"after": after, "last": last})
        for span in self._key_pages():
            with self._database.write_temporary() as connection:
                connection.execute(USE_BY_KEYS, span)
        return mark

    def _find_in_pages(self, statement: str, *, newest: int) -> Iterator[list[int]]:
        after = 0
        while True:
            with self._database.write_temporary() as connection:
                values = {**self._values, "after": after, "newest": newest, "limit": self._rows_at_once()}
                ids = [row[0] for row in connection.execute(statement, values)]
            if not ids:
                return
            yield ids
            after = ids[-1]

    def _delete_in_pages(self, table: str, statement: str, *, newest: int) -> int:
        """A call that is empty stays so: messages never come into one that was released."""
        count = 0
        for ids in self._find_in_pages(statement, newest=newest):
            with self._database.write() as connection:
                connection.executemany(f"DELETE FROM {table} WHERE id = ?", [(one,) for one in ids])  # noqa: S608  # own words
            self._database.note_chunk(len(ids))
            count += len(ids)
            self._breathe()
        return count

    def _delete_contents(self, mark: _Mark, on_progress: OnProgress) -> tuple[int, bool]:
        """Returns how many words went, and whether all of them could: others may be queueing or planning with them."""
        count = 0
        with self._database.write_temporary() as connection:
            (total,) = connection.execute(COUNT_CONTENTS, (mark.content,)).fetchone()
        newest = mark.message
        for ids in self._find_in_pages(FIND_CONTENTS, newest=mark.content):
            with self._database.write() as connection:
                if self._is_being_written(connection) or connection.execute(LAST_PLAN).fetchone() != mark.plan:
                    return count, False
                connection.execute(USE_NEWER, (newest,))  # the same words may have been queued meanwhile
                newest = max(newest, _newest(connection, "message"))
                count += connection.executemany(
                    "DELETE FROM content WHERE id = ? AND id NOT IN (SELECT id FROM temp.used_content)",
                    [(one,) for one in ids],
                ).rowcount
            self._database.note_chunk(len(ids))
            on_progress("texts", count, total)
            cut("prune_words_after_commit")
            self._breathe()
        return count, True

    def _is_being_written(self, connection: sqlite3.Connection) -> bool:
        """Whether a call is being queued or a plan made, whose words belong to nothing yet."""
        owners = connection.execute(
            "SELECT owner FROM batch WHERE released_at IS NULL UNION SELECT owner FROM plan WHERE finished_at IS NULL"
        ).fetchall()
        return any(owner is not None and is_alive(self._database.path, owner) for (owner,) in owners)

    @contextmanager
    def _without_foreign_keys(self) -> Iterator[None]:
        connection = self._database.connection
        connection.execute("PRAGMA foreign_keys = OFF")
        try:
            yield
        finally:
            connection.execute("PRAGMA foreign_keys = ON")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    """The highest numbers at the moment when marking began, and the last plan that was made."""

    message: int
    batch: int
    content: int
    plan: tuple[int] | None


def _newest(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f"SELECT ifnull(max(id), 0) FROM {table}").fetchone()[0])  # noqa: S608  # own words


def _note_newest(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM temp.newest")
    connection.execute(FIND_NEWEST)


def _standing(state: str, receipt: str | None) -> str:
    return derive_standing(State(state), Receipt(receipt) if receipt else None).value


def _count_standings(connection: sqlite3.Connection, name: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for state, receipt, count in connection.execute(COUNT_STANDINGS.format(list=name)):
        counts[_standing(state, receipt)] += count
    return counts
