from __future__ import annotations


def status() -> None:
    """status."""


def watch() -> None:
    """watch."""
