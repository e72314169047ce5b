"""Plain tables for a terminal: aligned columns, cut to its width, no boxes, no colour."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP: Final = "  "
LEAST_WIDTH: Final = 8


def layout(headers: Sequence[str], rows: Sequence[Sequence[str]], *, keep: Sequence[int] = (0,)) -> list[str]:
    """The lines of a table.

    keep: columns that are never cut.  Of the others the widest gives way first; when all are short and the terminal is
    narrower still, they are left out from the right.
    """
    from rich.cells import cell_len, set_cell_size

    table = [list(headers), *[list(row) for row in rows]]
    widths = _fit([max(cell_len(row[column]) for row in table) for column in range(len(headers))], keep)
    lines = []
    for row in table:
        cells = []
        for column, width in widths.items():
            cell = row[column]
            length = cell_len(cell)
            if length > width:
                cells.append(set_cell_size(cell, width - 1) + "…")
            else:
                cells.append(cell + " " * (width - length))
        lines.append(GAP.join(cells).rstrip())
    return lines


def _fit(wanted: Sequence[int], keep: Sequence[int]) -> dict[int, int]:
    """The width of each column that is shown."""
    room = max(shutil.get_terminal_size((80, 24)).columns, 40)
    shown = list(range(len(wanted)))
    while True:
        widths = {column: wanted[column] for column in shown}
        flexible = [column for column in shown if column not in keep]
        while _total(widths) > room:
            long = [column for column in flexible if widths[column] > LEAST_WIDTH]
            if not long:
                break
            widths[max(long, key=widths.__getitem__)] -= 1
        if _total(widths) <= room or not flexible:
            return widths
        shown.remove(flexible[-1])


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + len(GAP) * (len(widths) - 1)
