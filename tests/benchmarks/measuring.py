"""What every benchmark shares: figures, medians taken in turns, a process of its own for each sample, and its core."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table.

    yardstick: the bare thing's value in the same unit, or None.  ratio: wa's value over the yardstick's.
    bar: what issue 3 asks for, in words, or "".  note: what the value is made of.
    """

    name: str
    value: float
    unit: str
    against: str = ""
    yardstick: float | None = None
    bar: str = ""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.value / self.yardstick if self.yardstick else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much work a run does.  Counts are rows or messages, spans are seconds."""

    name: str
    repeats: int
    rows: int
    drained: int
    paced_seconds: float
    spaced: int
    wakes: int
    idle_seconds: float
    starts: int
    depths: tuple[int, ...]
    warms_up: bool = True


TINY: Final = Size(
    name="tiny",
    repeats=1,
    rows=500,
    drained=100,
    paced_seconds=0.3,
    spaced=1,
    wakes=1,
    idle_seconds=0.2,
    starts=1,
    depths=(100, 200),
    warms_up=False,
)
QUICK: Final = Size(
    name="quick",
    repeats=2,
    rows=20_000,
    drained=2_000,
    paced_seconds=2.0,
    spaced=3,
    wakes=10,
    idle_seconds=2.0,
    starts=5,
    depths=(1_000, 100_000),
)
DEFAULT: Final = Size(
    name="default",
    repeats=5,
    rows=30_000,
    drained=5_000,
    paced_seconds=3.0,
    spaced=6,
    wakes=40,
    idle_seconds=5.0,
    starts=5,
    depths=(1_000, 100_000, 1_000_000, 5_000_000),
)
FULL: Final = Size(
    name="full",
    repeats=7,
    rows=300_000,
    drained=20_000,
    paced_seconds=60.0,
    spaced=30,
    wakes=200,
    idle_seconds=30.0,
    starts=15,
    depths=(1_000, 100_000, 1_000_000, 5_000_000),
)
SIZES: Final = {size.name: size for size in (TINY, QUICK, DEFAULT, FULL)}


@dataclass(slots=True, kw_only=True)
class Bench:
    """One run of the suite: its size, its folder, and the queues it has already filled, by their depth."""

    size: Size
    folder: Path
    filled: dict[int, dict[str, float]] = field(default_factory=dict)
    _names: int = 0

    def new_path(self, word: str = "wa") -> Path:
        self._names += 1
        return self.folder / f"{word}-{self._names}.db"


@contextmanager
def open_bench(size: Size) -> Iterator[Bench]:
    folder = Path(tempfile.mkdtemp(prefix="wa-bench-"))
    try:
        yield Bench(size=size, folder=folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- cores -----------------------------------------------------------------------------------------------------------


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


CORES: Final = _cores()
SENDER_CORE: Final = CORES[0] if len(CORES) > 1 else None
SERVER_CORE: Final = CORES[-1] if len(CORES) > 1 else None


def pin(core: int | None, pid: int = 0) -> None:
    """Keep a process on one core, where the system can."""
    if core is not None:
        os.sched_setaffinity(pid, {core})


def describe_machine() -> str:
    import platform
    import sqlite3

    memory = ""
    if hasattr(os, "sysconf"):
        memory = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB, "
    pinned = "sender and server on a core each" if SENDER_CORE is not None else "not pinned"
    return (
        f"{os.cpu_count()} cores, {memory}{platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}; {pinned}"
    )


# --- samples ---------------------------------------------------------------------------------------------------------


# How a fresh process is made: at the size that measures nothing, from one that has loaded the modules already.
_context: Any = multiprocessing.get_context("spawn")


def start_cheaply() -> None:
    """Make each further process from one that stands ready: what it holds and takes then means nothing."""
    global _context
    _context = multiprocessing.get_context("forkserver")
    _context.set_forkserver_preload(["tests.benchmarks.__main__", "wa_cli.daemon.sending", "aiohttp"])


def run_apart(function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
    """What the function returns, called in a fresh process on the sender's core."""
    ours, theirs = _context.Pipe(duplex=False)
    process = _context.Process(target=_answer, args=(theirs, function, arguments, named))
    process.start()
    theirs.close()
    try:
        is_good, answer = ours.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"{function.__name__} ended without an answer, exit code {process.exitcode}") from None
    process.join()
    if not is_good:
        raise RuntimeError(f"{function.__name__} failed apart:\n{answer}")
    return answer


def _answer(pipe: Any, function: Callable[..., Any], arguments: Sequence[Any], named: Mapping[str, Any]) -> None:
    pin(SENDER_CORE)
    try:
        pipe.send((True, function(*arguments, **named)))
    except BaseException:  # noqa: BLE001 - whatever went wrong there has to be told here
        pipe.send((False, traceback.format_exc()))


def take_turns(repeats: int, *samplers: Callable[[], float]) -> list[float]:
    """The median of each sampler, called in turns so that the machine's moods fall on all alike."""
    taken: list[list[float]] = [[] for _ in samplers]
    for _ in range(repeats):
        for samples, sampler in zip(taken, samplers, strict=True):
            samples.append(sampler())
    return [statistics.median(samples) for samples in taken]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that the given share (0.0 to 1.0) of all values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


# --- processes -------------------------------------------------------------------------------------------------------


def peak_rss_mib(pid: int | str = "self") -> float:
    """The most memory the process has held, in MiB."""
    status = Path(f"/proc/{pid}/status")
    if status.exists():  # getrusage would count what the parent held when it forked
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def cpu_seconds(pid: int) -> float:
    """Processor time a process has used so far, all its living threads together.  Linux only."""
    try:  # to the nanosecond; the other source counts ticks of 10 ms and misses what is over before the next one
        return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
    except (OSError, IndexError):
        pass
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def environment(**settings: str) -> dict[str, str]:
    """The environment of a `wa` process: ours without any setting of wa, plus the given ones."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("WA_", "WHATSAPP_", "MAX_", "RETRY_", "RATE_"))
    }
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "", "WA_TIMEZONE": "UTC", **settings}


def time_process(command: Sequence[str], env: Mapping[str, str], cwd: Path) -> float:
    """Wall milliseconds of a whole process on the sender's core."""
    import time

    began = time.perf_counter()
    process = subprocess.Popen(
        command, env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    pin(SENDER_CORE, process.pid)
    _out, err = process.communicate()
    took = (time.perf_counter() - began) * 1000
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} exited {process.returncode}: {err.decode(errors='replace')[-2000:]}")
    return took


def as_json(figures: Sequence[Figure], *, size: Size) -> str:
    return json.dumps(
        {
            "machine": describe_machine(),
            "size": size.name,
            "figures": [
                {
                    "name": figure.name,
                    "value": figure.value,
                    "unit": figure.unit,
                    "against": figure.against or None,
                    "yardstick": figure.yardstick,
                    "ratio": figure.ratio,
                    "bar": figure.bar or None,
                    "note": figure.note or None,
                }
                for figure in figures
            ],
        },
        indent=2,
    )
