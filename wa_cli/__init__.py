"""wa: a scheduler and campaign tool for WhatsApp that tells the truth about every message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wa_cli.door import Queued, Stats, Wa

__version__ = "0.1.0"
__all__ = ["Queued", "Stats", "Wa", "__version__"]


def __getattr__(name: str) -> Any:
    """The names of the Python door, imported when a script asks for one: the command line never does."""
    if name in ("Queued", "Stats", "Wa"):
        from wa_cli import door

        return getattr(door, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
