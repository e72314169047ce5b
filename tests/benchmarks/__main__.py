"""The command: `python -m tests.benchmarks [names] [--quick|--full] [--json|--readme]`."""

from __future__ import annotations

import argparse
import re
import sys
import time
from datetime import date
from typing import TYPE_CHECKING, Final

from tests.benchmarks import campaigns, hearing, importing, peers, pruning, queueing, sending, starting
from tests.benchmarks.measuring import ROOT, SIZES, TINY, Figure, as_json, describe_machine, open_bench, start_cheaply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tests.benchmarks.measuring import Bench

BENCHMARKS: Final[dict[str, Callable[[Bench], Iterator[Figure]]]] = {
    "enqueue": queueing.measure_enqueue,
    "drain": sending.measure_drain,
    "peers": peers.measure_peers,
    "paced": sending.measure_paced,
    "lateness": sending.measure_lateness,
    "wake": sending.measure_wake,
    "webhooks": hearing.measure_webhooks,
    "flow": hearing.measure_flow,
    "beside": hearing.measure_beside,
    "idle": starting.measure_idle,
    "start": starting.measure_start,
    "take": queueing.measure_take,
    "instances": queueing.measure_instances,
    "memory": queueing.measure_memory,
    "import": importing.measure_import,
    "prune": pruning.measure_prune,
    "timetable": campaigns.measure_timetable,
    "campaign": campaigns.measure_campaign,
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
    size.add_argument("--full", dest="size", action="store_const", const="full", help="long runs")
    size.add_argument("--size", choices=sorted(SIZES), help=argparse.SUPPRESS)
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    shape.add_argument("--readme", action="store_true", help="also write the figures that have a bar into README.md")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark named {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    if options.readme and options.names:
        parser.error("--readme writes the whole table, so it takes no names")
    chosen = SIZES[options.size or "default"]
    figures: list[Figure] = []
    if chosen is TINY:
        start_cheaply()
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
    if options.readme:
        page = README.read_text(encoding="utf-8")
        README.write_text(fill_page(page, figures, machine=describe_machine(), today=date.today()), encoding="utf-8")


README: Final = ROOT / "README.md"
MARKS: Final = ("<!-- figures of `python -m tests.benchmarks --readme` -->\n", "<!-- end of figures -->\n")


def fill_page(page: str, figures: Iterable[Figure], *, machine: str, today: date) -> str:
    """The page with the figures that have a bar between its marks, dated, and nothing else changed."""
    rows = ["| figure | wa | beside it | ratio | bar |", "|---|---|---|---|---|"]
    for figure in figures:
        if figure.bar:
            beside = "" if figure.yardstick is None else f"{_number(figure.yardstick)} ({figure.against})"
            ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
            value = f"{_number(figure.value)} {figure.unit}"
            rows.append(f"| {figure.name} | {value} | {beside} | {ratio} | {figure.bar} |")
    text = f"{today.day} {today:%B %Y}, {machine}:\n\n" + "\n".join(rows) + "\n"
    first, last = MARKS
    found = re.search(f"{re.escape(first)}.*?{re.escape(last)}", page, re.DOTALL)
    if found is None:
        raise ValueError(f"the page has no place for the figures: {first.strip()} and {last.strip()}")
    return f"{page[: found.start()]}{first}\n{text}\n{last}{page[found.end() :]}"


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
