from __future__ import annotations


def sandbox() -> None:
    """sandbox."""
