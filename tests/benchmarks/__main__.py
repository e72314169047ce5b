"""The command: `python -m tests.benchmarks [names] [--quick|--full] [--json]`."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Final

from tests.benchmarks import hearing, queueing, sending, starting
from tests.benchmarks.measuring import SIZES, Figure, as_json, describe_machine, open_bench

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tests.benchmarks.measuring import Bench

BENCHMARKS: Final[dict[str, Callable[[Bench], Iterator[Figure]]]] = {
    "enqueue": queueing.measure_enqueue,
    "drain": sending.measure_drain,
    "paced": sending.measure_paced,
    "lateness": sending.measure_lateness,
    "wake": sending.measure_wake,
    "webhooks": hearing.measure_webhooks,
    "flow": hearing.measure_flow,
    "idle": starting.measure_idle,
    "start": starting.measure_start,
    "take": queueing.measure_take,
    "memory": queueing.measure_memory,
    "status": starting.measure_status,
}


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="What wa costs beside the bare thing it is built on. Never passes or fails by wall time.",
        epilog="\n".join(f"  {name:10} {measure.__doc__}" for name, measure in BENCHMARKS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="name", help="which ones; all of them without a name")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="size", action="store_const", const="quick", help="a first look, about a minute")
    size.add_argument("--full", dest="size", action="store_const", const="full", help="long runs and 5M rows")
    size.add_argument("--size", choices=sorted(SIZES), help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark named {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    chosen = SIZES[options.size or "default"]
    figures: list[Figure] = []
    with open_bench(chosen) as bench:
        for name in options.names or BENCHMARKS:
            began = time.monotonic()
            figures += BENCHMARKS[name](bench)
            sys.stderr.write(f"{name}: {time.monotonic() - began:.1f} s\n")
    if options.json:
        print(as_json(figures, size=chosen))
        return
    print(f"{describe_machine()}; size {chosen.name}; medians\n")
    for line in table(figures):
        print(line)


def table(figures: Iterable[Figure]) -> list[str]:
    """Markdown, aligned, so that it can be read here and pasted into a page."""
    rows = [["figure", "wa", "yardstick", "ratio", "bar", "of"]]
    for figure in figures:
        yardstick = "" if figure.yardstick is None else _number(figure.yardstick)
        of = ". ".join(word for word in (figure.against and f"yardstick: {figure.against}", figure.note) if word)
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        rows.append([figure.name, f"{_number(figure.value)} {figure.unit}", yardstick, ratio, figure.bar, of])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows.insert(1, ["-" * width for width in widths])
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


if __name__ == "__main__":
    main(sys.argv[1:])
