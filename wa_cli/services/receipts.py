"""What a receipt does to the message it is about: it moves it forward, settles what was unknown, or fails it late.

Every receipt takes effect once, however often and in whatever order receipts come.  One that overtakes the record of
its own post is parked, and applied as soon as that is written.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol, assert_never

from wa_cli.domain.message import State
from wa_cli.domain.outcome import Consequence, ErrorClass, Rejected
from wa_cli.domain.receipt import Receipt, further
from wa_cli.domain.restriction import known_since_ms, widen
from wa_cli.domain.retry import Restrict, judge
from wa_cli.services.people import apply_refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from wa_cli.domain.event import StatusEvent
    from wa_cli.domain.retry import Effect, RetryPolicy, Verdict
    from wa_cli.ports import PeopleTurn, Posted, Receipts, ReceiptTurn

# A failure that is older says nothing any more about whether the instance may send now.
EFFECT_LASTS_MS: Final = 3_600_000
PARKED_A_TURN: Final = 500
# Gateways give no tag back for most kinds, and their first receipts come within seconds: looked for at once.
FRESH_MS: Final = 600_000
# Receipts that carry no tag of ours are held against the posts of two days, and kept for one.
MATCHED_FOR_MS: Final = 172_800_000
UNMATCHED_KEPT_MS: Final = 86_400_000

NO_REASON: Final = Rejected(
    error_class=ErrorClass.DEAD_MESSAGE, code="failed", details="failed without a reason", http_status=0
)


def parse_tag(tag: str | None, *, install: str) -> int | None:
    """The attempt that a tag of ours names, or None for one of somebody else's."""
    parts = (tag or "").split(".")
    if len(parts) != 3 or parts[:2] != ["wa1", install]:
        return None
    digits = parts[2]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 19 else None


class ReceiptsAndPeople(Protocol):
    """One transaction in which receipts take effect: on messages, and on the people they are of."""

    @property
    def receipts(self) -> ReceiptTurn: ...

    @property
    def people(self) -> PeopleTurn: ...


def apply_status(
    turn: ReceiptsAndPeople, event: StatusEvent, *, install: str, policy: RetryPolicy, now_ms: int
) -> tuple[str, Posted | None]:
    """Take one receipt.  Returns what became of it, and the post that it is of, if it is of one of ours.

    The word is `applied`, `behind` (nothing new), `noted` (kept, not applied), `repeated`, `parked` or `unmatched`.
    Source: promises P4, P5, the send protocol's steps 7 and 8.
    """
    receipts = turn.receipts
    attempt_id = parse_tag(event.tag, install=install)
    posted = receipts.find_post(attempt_id) if attempt_id is not None else None
    if posted is None:
        known = receipts.add_receipt(event, attempt_id=None, rule="unmatched", now_ms=now_ms) is None
        return ("repeated" if known else "unmatched"), None
    if posted.is_erased:
        event = _without_person(event, posted)
    rule = "parked" if posted.state is State.SENDING else "applied"
    receipt_id = receipts.add_receipt(event, attempt_id=posted.attempt_id, rule=rule, now_ms=now_ms)
    if receipt_id is None:
        return "repeated", posted
    if rule == "applied":
        rule = _apply(turn, posted, event, policy=policy, now_ms=now_ms)
        if rule != "applied":
            receipts.set_rule(receipt_id, rule)
    return rule, posted


def _without_person(event: StatusEvent, posted: Posted) -> StatusEvent:
    """What a receipt says of the message alone: the provider's id spells the number, and details may."""
    refusal = event.refusal and replace(event.refusal, details="erased")
    name = f"erased:a{posted.attempt_id}"  # the same for each receipt of a post, so that none counts twice
    return replace(event, provider_message_id=name, person=None, refusal=refusal)


def apply_parked(turn: ReceiptsAndPeople, *, policy: RetryPolicy, now_ms: int) -> int:
    """Apply the receipts that had overtaken the record of their post.  Returns how many."""
    applied = 0
    while parked := turn.receipts.read_parked(limit=PARKED_A_TURN):
        for receipt_id, event, posted in parked:
            fresh = turn.receipts.find_post(posted.attempt_id) or posted  # an earlier one of these may have changed it
            turn.receipts.set_rule(receipt_id, _apply(turn, fresh, event, policy=policy, now_ms=now_ms))
        applied += len(parked)
    return applied


def look_after(
    receipts: Receipts,
    open_turn: Callable[[], AbstractContextManager[ReceiptsAndPeople]],
    *,
    policy: RetryPolicy,
    now_ms: int,
    posts_of_ms: int = MATCHED_FOR_MS,
) -> int:
    """Upkeep: apply what was parked for a sender that died, and match what came without a tag.  Returns how many.

    posts_of_ms: how far back the posts go that receipts without a tag are held against.
    """
    receipts.match_by_id(since_ms=now_ms - posts_of_ms)
    applied = 0
    if receipts.has_parked():
        with open_turn() as turn:
            applied = apply_parked(turn, policy=policy, now_ms=now_ms)
    receipts.forget_unmatched(before_ms=now_ms - UNMATCHED_KEPT_MS)
    return applied


def _apply(turn: ReceiptsAndPeople, posted: Posted, event: StatusEvent, *, policy: RetryPolicy, now_ms: int) -> str:
    if event.receipt is Receipt.FAILED:
        return _apply_failure(turn, posted, event, policy=policy, now_ms=now_ms)
    return _apply_arrival(turn.receipts, posted, event, now_ms=now_ms)


def _apply_arrival(turn: ReceiptTurn, posted: Posted, event: StatusEvent, *, now_ms: int) -> str:
    """Whatever was thought of this post before: it was accepted."""
    if event.receipt is Receipt.SENT and turn.has_failed(posted.attempt_id):
        return "behind"  # it came late: that this post was sent and then failed is known
    message_id = posted.message_id
    others = frozenset[str]() if posted.is_only else turn.find_other_outcomes(posted)
    if posted.provider_message_id not in (None, event.provider_message_id) or "accepted" in others:
        turn.note(message_id, "proven_duplicate", "WhatsApp has two ids for it", now_ms=now_ms, once=True)
    attempts = posted.attempts
    if posted.outcome != "accepted":
        attempts += 0 if posted.is_counted else 1
        turn.settle_attempt(
            posted,
            outcome="accepted",
            is_counted=True,
            provider_message_id=event.provider_message_id,
            code=None,
            details=None,
        )
        # The evidence of the doubt gives way to the acceptance in the attempt itself; here it stays.
        doubt = f"{posted.outcome}, {posted.error_code}" if posted.error_code else posted.outcome
        turn.note(message_id, "settled_by_receipt", f"it was {doubt} until then", now_ms=now_ms)
    if posted.state is State.SENT:
        news = further(posted.receipt, event.receipt)
        if news is posted.receipt:
            return "behind"
        turn.advance(message_id, news, now_ms=now_ms)
        return "applied"
    # `failed` by a receipt of this kind weighs less than an arrival; by anything else it was not a receipt at all.
    turn.place(
        posted,
        state=State.SENT,
        receipt=further(posted.receipt, event.receipt) if posted.receipt is Receipt.FAILED else event.receipt,
        rule="settled_by_receipt",
        due_at_ms=None,
        attempts=attempts,
        refusals=posted.refusals,
        provider_message_id=event.provider_message_id,
        code=None,
        details=None,
        now_ms=now_ms,
    )
    return "applied"


def _apply_failure(
    both: ReceiptsAndPeople, posted: Posted, event: StatusEvent, *, policy: RetryPolicy, now_ms: int
) -> str:
    """WhatsApp took it, or may have, and did not deliver it: the post is over, and the message judged by its code."""
    turn = both.receipts
    if event.participant or turn.has_arrived(posted.attempt_id):
        return "noted"  # one member of a group; or it contradicts what somebody has in their hands
    refusal = event.refusal or NO_REASON
    others = frozenset[str]() if posted.is_only else turn.find_other_outcomes(posted)
    verdict = judge(
        refusal,
        attempts=posted.attempts - (1 if posted.is_counted else 0),
        refusals=posted.refusals,
        max_attempts=posted.max_attempts,
        on_unknown=posted.on_unknown,
        policy=policy,
        jitter=0.0,
    )
    turn.settle_attempt(
        posted,
        outcome="rejected",
        is_counted=verdict.counted,
        provider_message_id=event.provider_message_id,
        code=refusal.code,
        details=refusal.details,
    )
    if verdict.effect is not None:
        _apply_effect(both, posted, verdict.effect, at_ms=event.at_ms, now_ms=now_ms)
    apply_consequence(
        both,
        refusal,
        instance_id=posted.instance_id,
        contact_id=posted.contact_id,
        message_id=posted.message_id,
        evidence=event.provider_message_id,
        at_ms=event.at_ms,
    )
    if posted.state not in (State.SENT, State.UNKNOWN):
        return "applied"  # it waits already, was closed by its policy, or was taken out: only its history changes
    turn.note(posted.message_id, "failed_late", f"{refusal.code}: {refusal.details}", now_ms=now_ms)
    if others & {"accepted", "marked_sent"}:
        return "applied"
    state, receipt = verdict.state, Receipt.FAILED if verdict.state is State.FAILED else None
    if "ambiguous" in others:
        state, receipt = State.UNKNOWN, None  # this post failed, and nobody knows about the other (promise P3)
    elif state is State.QUEUED and posted.reason == "cancel_requested":
        state = State.CANCELLED
    turn.place(
        posted,
        state=state,
        receipt=receipt,
        rule=verdict.rule,
        due_at_ms=_due_again_ms(verdict, at_ms=event.at_ms, now_ms=now_ms),
        attempts=posted.attempts - (1 if posted.is_counted and not verdict.counted else 0),
        refusals=verdict.refusals,
        provider_message_id=None,
        code=refusal.code,
        details=refusal.details,
        now_ms=now_ms,
    )
    return "applied"


def _due_again_ms(verdict: Verdict, *, at_ms: int, now_ms: int) -> int:
    until_ms = verdict.effect.restriction.until_ms if isinstance(verdict.effect, Restrict) else None
    return max(now_ms, at_ms + round(verdict.wait_seconds * 1000), until_ms or 0)


def _apply_effect(both: ReceiptsAndPeople, posted: Posted, effect: Effect, *, at_ms: int, now_ms: int) -> None:
    """What a late refusal means for the whole instance, unless it is too old to say anything of the present."""
    has_end = isinstance(effect, Restrict) and effect.restriction.until_ms is not None
    if not has_end and now_ms - at_ms >= EFFECT_LASTS_MS:
        return
    if isinstance(effect, Restrict):
        since_ms = known_since_ms(effect.restriction, now_ms=at_ms or now_ms)
        if since_ms is not None and both.people.knows(posted.instance_id, posted.contact_id, since_ms=since_ms):
            effect = Restrict(restriction=widen(effect.restriction))
    both.receipts.apply_effect(posted.instance_id, effect, now_ms=now_ms)


def apply_consequence(
    turn: ReceiptsAndPeople,
    refusal: Rejected,
    *,
    instance_id: int,
    contact_id: int,
    message_id: int,
    evidence: str,
    at_ms: int,
) -> None:
    """What a refusal means beyond its own message: for the person, for the template.

    evidence: what names the refused post, so that it counts once.
    """
    match refusal.consequence:
        case None:
            return
        case Consequence.OPTED_OUT:
            apply_refusal(turn.people, contact_id, at_ms=at_ms, wording=refusal.details, evidence=evidence)
        case Consequence.WINDOW_CLOSED:
            turn.people.note_window_closed(instance_id, contact_id, at_ms=at_ms)
        case Consequence.TEMPLATE_HELD:
            template = turn.receipts.read_template(message_id)
            if template is None:
                return
            until_ms = None
            if refusal.error_class is ErrorClass.HOURS and refusal.wait_seconds:
                until_ms = at_ms + round(refusal.wait_seconds * 1000)
            turn.receipts.hold_template(
                instance_id, template, at_ms=at_ms, until_ms=until_ms, reason=f"{refusal.code} {refusal.details}"
            )
        case _:
            assert_never(refusal.consequence)
