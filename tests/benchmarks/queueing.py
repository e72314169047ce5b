"""Filling the queue and taking from it: rows a second, cost against depth, memory against depth."""

from __future__ import annotations

import shutil
import sqlite3
import statistics
import time
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any

from tests.benchmarks.measuring import Figure, peak_rss_mib, run_apart, take_turns
from tests.benchmarks.server import serving
from tests.benchmarks.world import DAY_MS, WORDS, app_for, daemon, fill, lines, queue_messages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.benchmarks.measuring import Bench

ROWS_A_COMMIT = 2_000  # as wa's own intake
TAKEN = 100

# The table of messages with the one index the send loop needs, and nothing else.
BARE_TABLE = """
    CREATE TABLE message (
        id INTEGER PRIMARY KEY, instance_id INTEGER NOT NULL, batch_id INTEGER NOT NULL, address TEXT NOT NULL,
        content_id INTEGER NOT NULL, state TEXT NOT NULL, lane INTEGER NOT NULL, due_at INTEGER NOT NULL,
        scheduled_at INTEGER NOT NULL, expires_at INTEGER, reason TEXT, changed_at INTEGER NOT NULL
    ) STRICT
"""
BARE_INDEX = "CREATE INDEX message_due ON message (instance_id, lane, due_at) WHERE state = 'queued'"


# --- enqueue ---------------------------------------------------------------------------------------------------------


def enqueue_once(path: Path, count: int, known: bool) -> float:
    """Rows a second through the use case.  known: the people are in the database already."""
    with closing(app_for(path)) as app:
        if known:
            queue_messages(app, count, words="an earlier message")
        began = time.perf_counter()
        queue_messages(app, count)
        return count / (time.perf_counter() - began)


def insert_once(path: Path, count: int) -> float:
    """Rows a second of a plain executemany of the same rows, as durable and in as many commits."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", BARE_TABLE, BARE_INDEX):
        connection.execute(statement).fetchone()
    now_ms = time.time_ns() // 1_000_000
    began = time.perf_counter()
    rows = ((1, 1, line.address, 1, "queued", 1 << 40, now_ms, now_ms, None, None, now_ms) for line in lines(count))
    while chunk := list(islice(rows, ROWS_A_COMMIT)):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            """INSERT INTO message (instance_id, batch_id, address, content_id, state, lane, due_at, scheduled_at,
                expires_at, reason, changed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            chunk,
        )
        connection.execute("COMMIT")
    took = time.perf_counter() - began
    connection.close()
    return count / took


def enqueue_single_once(path: Path, count: int) -> float:
    """Calls a second of one message each, each durable."""
    with closing(app_for(path)) as app:
        began = time.perf_counter()
        for number in range(count):
            queue_messages(app, 1, first=number)
        return count / (time.perf_counter() - began)


def insert_single_once(path: Path, count: int) -> float:
    """Commits a second of one plain row each."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", BARE_TABLE, BARE_INDEX):
        connection.execute(statement).fetchone()
    now_ms = time.time_ns() // 1_000_000
    began = time.perf_counter()
    for line in lines(count):
        connection.execute(
            """INSERT INTO message (instance_id, batch_id, address, content_id, state, lane, due_at, scheduled_at,
                expires_at, reason, changed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            (1, 1, line.address, 1, "queued", 1 << 40, now_ms, now_ms, None, None, now_ms),
        )
    took = time.perf_counter() - began
    connection.close()
    return count / took


def measure_enqueue(bench: Bench) -> Iterator[Figure]:
    """Durable rows a second into the queue, for new people and for known ones, and one call a message."""
    count = bench.size.rows
    new, known, bare = take_turns(
        min(bench.size.repeats, 3),
        lambda: run_apart(enqueue_once, bench.new_path(), count, False),
        lambda: run_apart(enqueue_once, bench.new_path(), count, True),
        lambda: run_apart(insert_once, bench.new_path("bare"), count),
    )
    against = "sqlite3 executemany, one table, one index"
    yield Figure(
        name="enqueue to new people",
        value=new,
        unit="rows/s",
        against=against,
        yardstick=bare,
        note=f"{count:,} rows, {ROWS_A_COMMIT:,} a commit, {len(WORDS)} characters each",
    )
    yield Figure(name="enqueue to known people", value=known, unit="rows/s", against=against, yardstick=bare)
    calls = max(count // 200, 20)
    single, bare_single = take_turns(
        min(bench.size.repeats, 3),
        lambda: run_apart(enqueue_single_once, bench.new_path(), calls),
        lambda: run_apart(insert_single_once, bench.new_path("bare"), calls),
    )
    yield Figure(
        name="enqueue, one message a call",
        value=single,
        unit="calls/s",
        against="sqlite3, one row a commit",
        yardstick=bare_single,
        note=f"{calls} calls",
    )


# --- depth -----------------------------------------------------------------------------------------------------------


def fill_and_weigh(path: Path, count: int) -> dict[str, float]:
    """Queue so many for tomorrow.  Seconds, and the most memory the process ever held, in MiB."""
    began = time.perf_counter()
    fill(path, count, start_in_ms=DAY_MS)
    return {"seconds": time.perf_counter() - began, "mib": peak_rss_mib()}


def filled(bench: Bench, depth: int) -> Path:
    """A database with so many messages queued for tomorrow; made once a run, by a process that is weighed."""
    path = bench.folder / f"depth-{depth}.db"
    if depth not in bench.filled:
        bench.filled[depth] = run_apart(fill_and_weigh, path, depth)
    return path


def copy_of(bench: Bench, path: Path) -> Path:
    copy = bench.new_path()
    shutil.copyfile(path, copy)
    return copy


def take_once(paths: list[Path], rounds: int) -> dict[str, list[float]]:
    """Milliseconds to take TAKEN due rows, in turns over the depths: whole transactions, and without their commits."""
    whole: list[list[float]] = [[] for _ in paths]
    apart: list[list[float]] = [[] for _ in paths]
    apps = [app_for(path) for path in paths]
    try:
        tomorrow_ms = time.time_ns() // 1_000_000 + 2 * DAY_MS
        leases: list[Any] = [app.leases.acquire(1, role="drain", now_ms=app.clock.wall_ms()) for app in apps]
        for number in range(rounds + 3):
            for app, lease, durable, work in zip(apps, leases, whole, apart, strict=True):
                began = time.perf_counter()
                with app.queue.turn() as turn:
                    inside = time.perf_counter()
                    turn.read_standing(1)
                    [(lane, _due_at), *_others] = turn.lane_heads(1)
                    rows = turn.read_due(1, lane, now_ms=tomorrow_ms, limit=TAKEN)
                    turn.start(rows, lease=lease, now_ms=tomorrow_ms, spaced_batches=())
                    worked = time.perf_counter()
                done = time.perf_counter()
                if number >= 3:  # the first ones fill caches
                    durable.append((done - began) * 1000)
                    work.append((worked - inside) * 1000)
                with app.database.write() as connection:  # and put them back
                    connection.execute("DELETE FROM attempt")
                    connection.executemany(
                        "UPDATE message SET state = 'queued' WHERE id = ?", [(row.message_id,) for row in rows]
                    )
    finally:
        for app in apps:
            app.close()
    return {
        "whole": [statistics.median(samples) for samples in whole],
        "apart": [statistics.median(samples) for samples in apart],
    }


def measure_take(bench: Bench) -> Iterator[Figure]:
    """Taking 100 due rows from queues of a thousand up to five million."""
    depths = bench.size.depths
    paths = [copy_of(bench, filled(bench, depth)) for depth in depths]
    taken = run_apart(take_once, paths, 10 * bench.size.repeats)
    for path in paths:
        path.unlink()
    for index, depth in enumerate(depths):
        is_last = index == len(depths) - 1
        yield Figure(
            name=f"take {TAKEN} due rows of {depth:,}",
            value=taken["apart"][index],
            unit="ms",
            against=f"the same at {depths[0]:,}" if index else "",
            yardstick=taken["apart"][0] if index else None,
            bar="<= 1.2" if is_last else "",
            note=f"with its commit {taken['whole'][index]:.2f} ms",
        )


def fill_instances(path: Path, instances: int, each: int) -> None:
    """A database with so many instances, each with so many messages for tomorrow."""
    with closing(app_for(path)) as app:
        with app.database.write() as connection:
            connection.executemany(
                "INSERT INTO instance (name, transport, created_at) VALUES (?, 'cloud_api', 0)",
                [(f"number-{number}",) for number in range(2, instances + 1)],
            )
        for instance in app.instances.list_all():
            queue_messages(app, each, start_in_ms=DAY_MS, instance_id=instance.id)


def measure_instances(bench: Bench) -> Iterator[Figure]:
    """Taking 100 due rows of one instance in a file that serves 1, 10 and 100 of them."""
    each = min(bench.size.depths[0], 1_000)
    paths = {count: bench.new_path("instances") for count in (1, 10, 100)}
    for count, path in paths.items():
        run_apart(fill_instances, path, count, each)
    taken = run_apart(take_once, list(paths.values()), 10 * bench.size.repeats)
    for index, count in enumerate(paths):
        if index:
            yield Figure(
                name=f"take {TAKEN} due rows beside {count - 1} other instances",
                value=taken["apart"][index],
                unit="ms",
                against="with one instance",
                yardstick=taken["apart"][0],
                bar="<= 1.2" if count == 100 else "",
                note=f"{each:,} messages queued for each; with its commit {taken['whole'][index]:.2f} ms",
            )


# --- memory ----------------------------------------------------------------------------------------------------------


def measure_memory(bench: Bench) -> Iterator[Figure]:
    """The most memory of an enqueue, and of a daemon that sends from a short and from a long queue."""
    shallow, deep = bench.size.depths[0], bench.size.depths[min(2, len(bench.size.depths) - 1)]
    paths = {depth: filled(bench, depth) for depth in (shallow, deep)}
    weighed = {depth: bench.filled[depth] for depth in (shallow, deep)}
    yield Figure(
        name=f"enqueue of {deep:,}, peak memory",
        value=weighed[deep]["mib"],
        unit="MiB",
        against=f"the same of {shallow:,}",
        yardstick=weighed[shallow]["mib"],
        bar="< 250 MB",
        note=f"in {weighed[deep]['seconds']:.1f} s (bar: 60 s for a million)",
    )
    sent = min(shallow, 1_000) // 2
    weights: dict[int, float] = {}
    with serving(records=True) as server:
        for depth, path in paths.items():
            copy = copy_of(bench, path)
            with closing(app_for(copy)) as app:
                with app.database.write() as connection:  # so many are due at once, the rest tomorrow
                    connection.execute("UPDATE message SET due_at = scheduled_at - ? WHERE id <= ?", (2 * DAY_MS, sent))
                server.take_arrivals()
                with daemon(copy, server.url) as pid:
                    arrived = 0
                    give_up_at = time.monotonic() + 120
                    while arrived < sent and time.monotonic() < give_up_at:
                        time.sleep(0.05)
                        arrived += len(server.take_arrivals())
                    if arrived < sent:
                        raise RuntimeError(f"{arrived} of {sent} were sent")
                    weights[depth] = peak_rss_mib(pid)
            copy.unlink()
    yield Figure(
        name=f"daemon with {deep:,} queued, peak memory",
        value=weights[deep],
        unit="MiB",
        against=f"with {shallow:,} queued",
        yardstick=weights[shallow],
        bar="<= 1.2",
        note=f"after sending {sent}",
    )
