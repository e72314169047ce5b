"""Settling unknown outcomes by hand: only what is unknown can be marked, everything else is named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wa_cli.domain.history import MessageRow
    from wa_cli.domain.message import MessageId


class MessageReader(Protocol):
    def find_many(self, message_ids: Sequence[int]) -> list[MessageRow]: ...


class UnknownStore(Protocol):
    def mark_unknown(
        self, message_ids: Sequence[int], *, was_sent: bool, note: str | None, now_ms: int
    ) -> list[int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """marked: settled now.  refused: (message id, why it could not be marked)."""

    marked: list[MessageId]
    refused: list[tuple[MessageId, str]]


def settle(
    messages: MessageReader,
    unknowns: UnknownStore,
    message_ids: Sequence[MessageId],
    *,
    was_sent: bool,
    note: str | None,
    now_ms: int,
) -> Settled:
    """Write a person's word over an unknown outcome.

    Only a person or a receipt may do so: `wa` itself never guesses (promises P2, P3, P4).
    Raises: NotFound for an id that does not exist; nothing was changed then.
    """
    wanted = list(dict.fromkeys(message_ids))
    messages.find_many(wanted)
    marked = set(unknowns.mark_unknown(wanted, was_sent=was_sent, note=note, now_ms=now_ms))
    left_over = [message_id for message_id in wanted if message_id not in marked]
    return Settled(
        marked=[message_id for message_id in wanted if message_id in marked],
        refused=[
            (message_id, f"it is {row.standing}, not unknown")
            for message_id, row in zip(left_over, messages.find_many(left_over), strict=True)
        ],
    )
