"""A list of people on its way in: `wa subgroup import`, then `wa send subgroup`, and who has to wait meanwhile."""

from __future__ import annotations

import csv
import multiprocessing
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from tests.benchmarks.measuring import (
    SENDER_CORE,
    SERVER_CORE,
    Figure,
    environment,
    peak_rss_mib,
    percentile,
    pin,
    run_apart,
)
from tests.benchmarks.queueing import ROWS_A_COMMIT
from tests.benchmarks.world import WORDS, app_for, settings_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.benchmarks.measuring import Bench

LOOK_SECONDS = 0.02
WRITES_EVERY_SECONDS = 0.02
# A step that visits each number of a mobile network once, in no order: real lists are not sorted by number.
STEP, NUMBERS = 7_919, 999_999_937


def phone(number: int) -> str:
    return f"+91{9_000_000_000 + number * STEP % NUMBERS}"


def write_list(path: Path, count: int) -> None:
    """A CSV of so many people with a name and a town each."""
    with path.open("w", encoding="utf-8", newline="") as out:
        out.write("name,phone,city\n")
        out.writelines(f"Person {number},{phone(number)},Pune\n" for number in range(count))


# --- the one who waits -----------------------------------------------------------------------------------------------


def _write_now_and_then(pipe: Any, path: Path) -> None:
    """Another writer on the other core: a small durable transaction now and then, and how long each took, in ms."""
    pin(SERVER_CORE)
    waits: list[float] = []
    with closing(app_for(path)) as app:
        pipe.send("ready")
        while not pipe.poll(WRITES_EVERY_SECONDS):
            began = time.perf_counter()
            with app.database.write() as connection:
                connection.execute("INSERT OR REPLACE INTO meta VALUES ('benchmark', ?)", (str(len(waits)),))
            waits.append((time.perf_counter() - began) * 1000)
    pipe.send(waits)


@contextmanager
def bystander(path: Path) -> Iterator[list[float]]:
    """Fills the list with the waits of another writer, in ms, once the block has ended."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_write_now_and_then, args=(theirs, path), daemon=True)
    process.start()
    waits: list[float] = []
    try:
        ours.recv()
        yield waits
        ours.send("stop")
        waits += ours.recv()
    finally:
        process.join(5)
        process.terminate()


# --- the measured ----------------------------------------------------------------------------------------------------


def weigh(command: list[str], env: dict[str, str], cwd: Path) -> tuple[float, float]:
    """(seconds, most MiB held) of a whole process on the sender's core."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    pin(SENDER_CORE, process.pid)
    most = 0.0
    while process.poll() is None:
        try:
            most = max(most, peak_rss_mib(process.pid))
        except OSError:  # it has just ended
            break
        time.sleep(LOOK_SECONDS)
    _out, err = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} exited {process.returncode}: {err.decode(errors='replace')[-2000:]}")
    return time.perf_counter() - began, most


def bare_import_once(path: Path, people: Path) -> float:
    """Rows a second of csv.reader and executemany into one table, checking and comparing nothing."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection, people.open(encoding="utf-8") as lines:
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE contact (id INTEGER PRIMARY KEY, address TEXT NOT NULL UNIQUE, name, city)")
        rows = csv.reader(lines)
        next(rows)
        count, began = 0, time.perf_counter()
        while chunk := [(address, name, city) for name, address, city in islice(rows, ROWS_A_COMMIT)]:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO contact (address, name, city) VALUES (?, ?, ?)", chunk)
            connection.execute("COMMIT")
            count += len(chunk)
        return count / (time.perf_counter() - began)


def measure_import(bench: Bench) -> Iterator[Figure]:
    """A million people from a CSV into a subgroup and then into the queue: time, memory, and others who write."""
    count = bench.size.depths[min(2, len(bench.size.depths) - 1)]
    path, people = bench.new_path(), bench.folder / "people.csv"
    write_list(people, count)
    app_for(path).close()
    env = environment(**settings_for(path))
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    bare = run_apart(bare_import_once, bench.new_path("bare"), people)
    commands = {
        "import": ["subgroup", "import", "everybody", str(people), "--create", "--quiet"],
        "queueing": ["send", "subgroup", "everybody", WORDS, "--at", "tomorrow 9am", "--delay", "10", "-q", "--yes"],
    }
    for name, words in commands.items():
        with bystander(path) as waits:
            seconds, mib = weigh([sys.executable, "-m", "wa_cli", *words], env, bench.folder)
        yield Figure(
            name=f"{name} of {count:,} people",
            value=count / seconds,
            unit="rows/s",
            against="csv.reader and executemany, one table" if name == "import" else "",
            yardstick=bare if name == "import" else None,
            bar="1M in 60 s",
            note=f"{seconds:.1f} s for the whole command, beside another writer",
        )
        yield Figure(name=f"{name} of {count:,}, peak memory", value=mib, unit="MiB", bar="< 250 MB")
        yield Figure(
            name=f"{name} of {count:,}, longest wait of another writer",
            value=max(waits, default=0.0),
            unit="ms",
            bar="<= 200 ms",
            note=f"p99 {percentile(waits, 0.99):.1f} of {len(waits):,} writes" if waits else "",
        )
    people.unlink()
