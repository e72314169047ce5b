"""What is known about one message: its row, every attempt to post it, every decision about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wa_cli.domain.receipt import Receipt, Standing, derive_standing, further

if TYPE_CHECKING:
    from wa_cli.domain.message import Content, OnUnknown, State
    from wa_cli.domain.recipient import RecipientKind


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRow:
    """A message as it stands now.  Times are milliseconds since 1970 in UTC.

    content: None when the stored words no longer match their checksum.  scheduled_at_ms: when it was first meant to
    leave; due_at_ms: when it may leave next, retries and resends included.  subgroup, campaign: as named when queued.
    group_name: of the group that it is for, as the instance last saw it.
    """

    id: int
    state: State
    receipt: Receipt | None
    address: str
    kind: RecipientKind
    content: Content | None
    instance_id: int
    instance: str
    batch_id: int
    subgroup_id: int | None
    subgroup: str | None
    campaign: str | None
    scheduled_at_ms: int
    due_at_ms: int
    expires_at_ms: int | None
    attempts: int
    refusals: int
    reason: str | None
    error_code: str | None
    error_details: str | None
    provider_message_id: str | None
    changed_at_ms: int
    group_name: str | None = None

    @property
    def standing(self) -> Standing:
        return derive_standing(self.state, self.receipt)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One post.  outcome: None while it is on its way.  is_counted: it used up one of the message's attempts.

    tag: what went out with the post and comes back in receipts.
    """

    n: int
    id: int
    started_at_ms: int
    epoch: int
    tag: str
    outcome: str | None
    is_counted: bool
    latency_ms: int | None
    http_status: int | None
    error_code: str | None
    details: str | None
    provider_message_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRow:
    """A rule that was applied to a message beside its attempts."""

    at_ms: int
    rule: str
    details: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptRow:
    """What WhatsApp said about one post.  at_ms: by its clock, in whole seconds; received_at_ms: by ours.

    rule: what became of it: `applied`, `behind`, `noted` or `parked`.
    participant: the member of a group that it is of, "" otherwise.
    """

    attempt_id: int
    status: Receipt
    at_ms: int
    received_at_ms: int
    rule: str
    provider_message_id: str
    error_code: str | None
    details: str | None
    participant: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignPart:
    """Which part of a campaign a message is.

    occurrence: the local time of a recurring campaign's turn, "" for one that is sent once.  stage: `canary` or `main`.
    variant: "" for the only one.  held_reason: `canary`, or why the campaign is paused.
    """

    campaign: str
    run_id: int
    occurrence: str
    stage: str
    variant: str
    is_held: bool
    held_reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The call, or the campaign, that queued a message.

    kind: `subgroup`, `to` or `file`.  at_words: what was typed after --at, or None.
    position, size: of the message in its call, from 1.  key: the caller's own, of the call or of the line.
    actor: who asked for it over the HTTP API: the name of the key, and whom its holder named; or None.
    part: of the campaign that it belongs to, whatever its kind says; None for a call of the send family.
    """

    batch_id: int
    kind: str
    created_at_ms: int
    is_released: bool
    start_at_ms: int
    at_words: str | None
    delay_ms: int
    priority: int
    max_attempts: int
    on_unknown: OnUnknown
    position: int
    size: int
    key: str | None
    actor: str | None = None
    part: CampaignPart | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Everything that is stored about one message.

    encoded: the stored words, for the idempotency key.  group_size: of the group that it went to, ourselves included,
    where that is known.
    """

    message: MessageRow
    encoded: str
    origin: Origin
    attempts: tuple[AttemptRow, ...]
    decisions: tuple[DecisionRow, ...]
    receipts: tuple[ReceiptRow, ...] = ()
    group_size: int | None = None

    @property
    def is_proven_duplicate(self) -> bool:
        """It went out twice, and WhatsApp's receipts prove it."""
        return any(decision.rule == "proven_duplicate" for decision in self.decisions)

    @property
    def provider_message_ids(self) -> tuple[str, ...]:
        """Every id that WhatsApp has given it, in the order in which they are known."""
        known = [attempt.provider_message_id for attempt in self.attempts]
        known += [receipt.provider_message_id for receipt in self.receipts]
        return tuple(dict.fromkeys(one for one in known if one))

    @property
    def participants(self) -> tuple[ReceiptRow, ...]:
        """How far it has come for each member of a group that a receipt was of, in the order they were heard of."""
        furthest: dict[str, ReceiptRow] = {}
        for receipt in self.receipts:
            if receipt.participant:
                known = furthest.get(receipt.participant)
                if known is None or further(known.status, receipt.status) is not known.status:
                    furthest[receipt.participant] = receipt
        return tuple(furthest.values())

    def refused_later(self, attempt: AttemptRow) -> ReceiptRow | None:
        """What said that a post failed after it was accepted, or None where that was not so."""
        if attempt.outcome != "rejected":
            return None
        of_it = (one for one in self.receipts if one.attempt_id == attempt.id and one.rule != "noted")
        return next((one for one in of_it if one.status is Receipt.FAILED), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """Which messages a listing takes; None takes all."""

    standing: Standing | None = None
    subgroup: str | None = None
    campaign: str | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelScope:
    """Whose waiting messages are taken out.  Exactly one is given; all of them None means every message."""

    subgroup: str | None = None
    batch_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """What a cancel did.

    count: messages taken out now.  maybe_sent: those of them that an earlier attempt may have delivered.
    in_flight: on their way while the cancel ran, and so not stopped.
    """

    count: int
    maybe_sent: tuple[int, ...] = ()
    in_flight: tuple[int, ...] = ()
