"""Which failed messages may be sent again, and why the others may not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never

from wa_cli.domain.message import State, format_message_id
from wa_cli.domain.receipt import Standing

if TYPE_CHECKING:
    from wa_cli.domain.message import MessageId

DEFAULT_DELAY_MS: Final = 3000  # row R7

# Rules whose failure the same message would meet again.
PERMANENT_RULES: Final = frozenset({"permanent", "content_damaged"})

# A message in one of these holds its words for its person: a second one would be a duplicate.
HOLDING_STATES: Final = frozenset({State.QUEUED, State.SENDING, State.SENT, State.UNKNOWN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A message that somebody wants to send again.

    rule: why it failed, also when it was dismissed since.  holder_id, holder_state: of the message that holds the
    idempotency key of these words for this person, itself included; None when nobody does.  holder_is_meant: that one
    was sent with --again or a key of its caller, so it stands in nobody's way.  is_opted_out, is_erased: the person.
    cancelled_campaign: the one that it belongs to, if that was ended for good.
    """

    message_id: MessageId
    standing: Standing
    rule: str | None
    error_code: str | None
    error_details: str | None
    expires_at_ms: int | None
    instance_id: int
    contact_id: int
    content_id: int
    priority: int
    holder_id: int | None
    holder_state: State | None
    holder_is_meant: bool
    is_opted_out: bool = False
    is_erased: bool = False
    cancelled_campaign: str | None = None

    @property
    def words(self) -> tuple[int, int, int]:
        """What the default idempotency key stands for: equal means the same words to the same person."""
        return self.content_id, self.contact_id, self.instance_id

    @property
    def is_held_by_other(self) -> bool:
        """Whether another message that is alive holds the key."""
        return self.holder_id not in (None, self.message_id) and self.holder_state in HOLDING_STATES


@dataclass(frozen=True, slots=True, kw_only=True)
class Requeue:
    """One message on its way back into the queue.

    batch_id: whose lane it shares.  details: for its history.  claims_key: it becomes the holder of its words.
    """

    candidate: Candidate
    batch_id: int
    due_at_ms: int
    details: str
    claims_key: bool


def find_refusal(candidate: Candidate, *, force: bool, now_ms: int) -> str | None:
    """Why the message is not sent again, in words for people, or None when it may be.

    force: take permanent errors too.  It lifts nothing else: what may have been delivered stays where it is.
    Source: row R7, promise P2.
    """
    name = format_message_id(candidate.message_id)
    if candidate.standing is not Standing.FAILED:
        return _refuse_standing(candidate.standing, name)
    if candidate.is_erased:
        return "the person was erased"
    if candidate.is_opted_out:
        return "the person has opted out"
    if candidate.cancelled_campaign is not None:
        return f"its campaign {candidate.cancelled_campaign} was cancelled: send it anew"
    if candidate.expires_at_ms is not None and candidate.expires_at_ms <= now_ms:
        return "its time ran out (--expires): send it anew"
    if candidate.is_held_by_other and not candidate.holder_is_meant:
        return f"the same words to the same recipient are {candidate.holder_state} as m{candidate.holder_id}"
    if candidate.rule in PERMANENT_RULES and not force:
        # The details in brackets are for a support case; the history has them.
        details = (candidate.error_details or "").partition(" [")[0]
        what = ": ".join(part for part in (candidate.error_code, details) if part)
        return f"failed for good ({what or candidate.rule}); --force tries it all the same"
    return None


def _refuse_standing(standing: Standing, name: str) -> str:
    match standing:
        case Standing.QUEUED:
            return "it waits in the queue already"
        case Standing.SENDING:
            return "it is on its way"
        case Standing.SENT | Standing.DELIVERED | Standing.READ:
            return f"it is {standing}: it was accepted"
        case Standing.UNKNOWN:
            return f"it may have been accepted: find out, then `wa reconcile --mark not-sent {name}` first"
        case Standing.SKIPPED | Standing.EXPIRED | Standing.CANCELLED:
            return f"it was {standing}, it did not fail: send it anew"
        case Standing.FAILED:
            raise ValueError("failed messages are judged by their error")
        case _:
            assert_never(standing)
