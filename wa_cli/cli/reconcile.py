from __future__ import annotations


def reconcile() -> None:
    """reconcile."""
