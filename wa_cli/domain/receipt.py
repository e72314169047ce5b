"""The one word a person sees for a message, derived from our own state and WhatsApp's receipt."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, assert_never

from wa_cli.domain.message import State


class Receipt(StrEnum):
    """How far WhatsApp says a message has come.  Only a message that was accepted has one."""

    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    PLAYED = "played"
    FAILED = "failed"


# How far each receipt is: a failure weighs less than any arrival, so that the order they come in does not matter.
RANK: Final = {Receipt.SENT: 1, Receipt.FAILED: 2, Receipt.DELIVERED: 3, Receipt.READ: 4, Receipt.PLAYED: 5}
ARRIVALS: Final = (Receipt.DELIVERED, Receipt.READ, Receipt.PLAYED)


def further(known: Receipt | None, news: Receipt) -> Receipt:
    """Whichever of the two is further along: receipts only move a message forward (promise: the send protocol, 8)."""
    return news if known is None or RANK[news] > RANK[known] else known


# How long after a post its receipt may take before its absence says anything: WhatsApp sends the first within seconds.
RECEIPT_TAKES_MS: Final = 600_000


def presume_not_sent(
    started_at_ms: int | None, *, webhooks_since_ms: int | None, last_webhook_at_ms: int | None, now_ms: int
) -> bool:
    """Whether the absence of any receipt speaks against a post: they came before it, and still come long after it.

    A label with its evidence, never a fact: only `--on-unknown` or a person acts on it.
    """
    if started_at_ms is None or webhooks_since_ms is None or last_webhook_at_ms is None:
        return False
    heard_long_enough = last_webhook_at_ms >= started_at_ms + RECEIPT_TAKES_MS
    return webhooks_since_ms <= started_at_ms and heard_long_enough and now_ms >= started_at_ms + RECEIPT_TAKES_MS


class Standing(StrEnum):
    """Where a message stands, as listings and counts show it.  Every message is in exactly one."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


def derive_standing(state: State, receipt: Receipt | None) -> Standing:
    """The word for a message.  A receipt counts only on top of `sent`: anywhere else our own state is the truth.

    Source: rows Q4 and H5, promise P13.
    """
    if state is not State.SENT or receipt is None:
        return Standing(state.value)
    match receipt:
        case Receipt.SENT:
            return Standing.SENT
        case Receipt.DELIVERED:
            return Standing.DELIVERED
        case Receipt.READ | Receipt.PLAYED:
            return Standing.READ
        case Receipt.FAILED:
            return Standing.FAILED
        case _:
            assert_never(receipt)


def pairs_of(standing: Standing) -> tuple[tuple[State, Receipt | None], ...]:
    """Every (state, receipt) that is shown as this word: what a store filters by."""
    return tuple(
        (state, receipt)
        for state in State
        for receipt in (None, *Receipt)
        if derive_standing(state, receipt) is standing
    )
