from __future__ import annotations


def drain() -> None:
    """drain."""
