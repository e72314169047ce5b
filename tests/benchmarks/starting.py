"""What a command costs before and beside its work: whole processes, and a daemon that has nothing to do."""

from __future__ import annotations

import statistics
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.measuring import Figure, cpu_seconds, environment, take_turns, time_process
from tests.benchmarks.queueing import filled
from tests.benchmarks.server import serving
from tests.benchmarks.world import app_for, daemon, settings_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.benchmarks.measuring import Bench

BARE_TYPER = Path(__file__).with_name("bare_typer.py")


def _timer(bench: Bench, db: Path, *command: str) -> Callable[[], float]:
    # Bytecode is written and kept, as an installed wa has it.
    env = environment(**settings_for(db, "http://127.0.0.1:9/v25.0/106540352242922/messages"))
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return lambda: time_process([sys.executable, *command], env, bench.folder)


def measure_start(bench: Bench) -> Iterator[Figure]:
    """Whole-process time of `wa --help`, `wa status` and `wa drain` with nothing to send."""
    empty = bench.new_path()
    app_for(empty).close()
    timers = (
        _timer(bench, empty, "-m", "wa_cli", "--help"),
        _timer(bench, empty, "-m", "wa_cli", "status"),
        _timer(bench, empty, "-m", "wa_cli", "drain"),
        _timer(bench, empty, str(BARE_TYPER), "--help"),
        _timer(bench, empty, str(BARE_TYPER), "greet", "Ada"),
        _timer(bench, empty, "-c", "pass"),
    )
    for warm_up in timers if bench.size.warms_up else ():
        warm_up()
    help_, status, drain, bare_help, bare_command, python = take_turns(bench.size.starts, *timers)
    note = f"python -c pass takes {python:.0f} ms"
    against = "a command of a bare Typer app"
    yield Figure(
        name="wa --help",
        value=help_,
        unit="ms",
        against="bare Typer app --help",
        yardstick=bare_help,
        bar="<= 1.3",
        note=note,
    )
    yield Figure(name="wa status, empty", value=status, unit="ms", against=against, yardstick=bare_command, note=note)
    yield Figure(name="wa drain, empty", value=drain, unit="ms", against=against, yardstick=bare_command, note=note)


def measure_status(bench: Bench) -> Iterator[Figure]:
    """`wa status` on the longest queue against an empty one."""
    depth = bench.size.depths[min(2, len(bench.size.depths) - 1)]
    empty = bench.new_path()
    app_for(empty).close()
    full = filled(bench, depth)
    for words in (("status",), ("message", "list", "--limit", "20"), ("failed", "list")):
        on_full = _timer(bench, full, "-m", "wa_cli", *words)
        on_empty = _timer(bench, empty, "-m", "wa_cli", *words)
        for warm_up in (on_full, on_empty) if bench.size.warms_up else ():
            warm_up()
        value, yardstick = take_turns(bench.size.starts, on_full, on_empty)
        yield Figure(
            name=f"wa {' '.join(words[:2])} with {depth:,} rows",
            value=value,
            unit="ms",
            against="with none",
            yardstick=yardstick,
            bar="< 2" if words == ("status",) else "",
        )


def measure_idle(bench: Bench) -> Iterator[Figure]:
    """Processor share of a daemon that waits for something to do."""
    path = bench.new_path()
    shares: list[float] = []
    with serving() as server, closing(app_for(path)), daemon(path, server.url) as pid:
        time.sleep(min(bench.size.idle_seconds, 2.5))  # what was written of late is looked at more closely
        for _ in range(min(bench.size.repeats, 3)):
            began, used = time.monotonic(), cpu_seconds(pid)
            time.sleep(bench.size.idle_seconds)
            shares.append(100 * (cpu_seconds(pid) - used) / (time.monotonic() - began))
    yield Figure(
        name="daemon, idle",
        value=statistics.median(shares),
        unit="% of a core",
        bar="well under 1 %",
        note=f"{bench.size.idle_seconds:.0f} s each",
    )
