"""Plain tables for a terminal: aligned columns, cut to its width, no boxes, no colour."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP: Final = "  "
LEAST_WIDTH: Final = 8


def layout(headers: Sequence[str], rows: Sequence[Sequence[str]], *, keep: Sequence[int] = (0,)) -> list[str]:
    """The lines of a table.  Columns in `keep` are never cut; of the others the widest gives way first."""
    from rich.cells import cell_len, set_cell_size

    width = max(shutil.get_terminal_size((80, 24)).columns, 40)
    table = [list(headers), *[list(row) for row in rows]]
    widths = [max(cell_len(row[column]) for row in table) for column in range(len(headers))]
    while sum(widths) + len(GAP) * (len(widths) - 1) > width:
        flexible = [column for column in range(len(widths)) if column not in keep and widths[column] > LEAST_WIDTH]
        if not flexible:
            break
        widest = max(flexible, key=lambda column: widths[column])
        widths[widest] -= 1
    lines = []
    for row in table:
        cells = []
        for column, cell in enumerate(row):
            length = cell_len(cell)
            if length > widths[column]:
                cells.append(set_cell_size(cell, widths[column] - 1) + "…")
            else:
                cells.append(cell + " " * (widths[column] - length))
        lines.append(GAP.join(cells).rstrip())
    return lines
