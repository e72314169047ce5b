"""Small plots of characters: bars and sparklines that fit their width, in ASCII where the terminal is not UTF-8."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDEST: Final = 80
NARROWEST: Final = 40
EIGHTHS: Final = "▏▎▍▌▋▊▉█"
LEVELS: Final = "▁▂▃▄▅▆▇█"
PLAIN_LEVELS: Final = "_.-=+*#@"


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a screen is drawn.  is_plain: ASCII alone.  is_spoken: for a screen reader, so no plots at all."""

    width: int = WIDEST
    is_plain: bool = False
    is_spoken: bool = False


def detect_style(*, is_spoken: bool) -> Style:
    """For the terminal that is there."""
    columns = shutil.get_terminal_size((WIDEST, 24)).columns
    return Style(width=min(max(columns, NARROWEST), WIDEST), is_plain=not speaks_utf_8(), is_spoken=is_spoken)


def speaks_utf_8() -> bool:
    """Whether the locale does; what is written is UTF-8 in any case, this is about what will be seen."""
    if sys.platform == "win32":
        return True
    named = next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := os.environ.get(name))), "C")
    return named.lower().replace("-", "").rpartition(".")[2].startswith("utf8")


def draw_bar(value: float, most: float, style: Style, *, width: int) -> str:
    """A bar as long as value is of most; the smallest thing there is has one, too."""
    if value <= 0 or most <= 0 or style.is_spoken:
        return ""
    if style.is_plain:
        return "#" * max(round(min(value / most, 1.0) * width), 1)
    eighths = max(round(min(value / most, 1.0) * width * 8), 1)
    return "█" * (eighths // 8) + (EIGHTHS[eighths % 8 - 1] if eighths % 8 else "")


def draw_spark(counts: Sequence[int], style: Style) -> str:
    """One character for each count, a blank for none.  More counts than the width: neighbours are added up first."""
    if style.is_spoken or not counts:
        return ""
    together = -(-len(counts) // style.width)
    sums = [sum(counts[start : start + together]) for start in range(0, len(counts), together)]
    most = max(sums)
    levels = PLAIN_LEVELS if style.is_plain else LEVELS
    return "".join(levels[(count * len(levels) - 1) // most] if count > 0 else " " for count in sums)


def format_share(share: float) -> str:
    """`61.2%`.  Never 0% for something and never 100% for less than all."""
    if 0 < share < 0.001:
        return "<0.1%"
    if 0.999 < share < 1:
        return ">99.9%"
    return f"{share * 100:.1f}%"
