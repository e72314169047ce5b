from __future__ import annotations


def resend() -> None:
    """resend."""
