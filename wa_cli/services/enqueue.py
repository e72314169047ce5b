"""Use case: put messages into the queue, spaced, each at most once, all of a call or none."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from wa_cli.domain.group import MAY_NOT_POST, NOT_IN_GROUP
from wa_cli.domain.message import OnUnknown, encode_content
from wa_cli.domain.number import NOT_ON_WHATSAPP
from wa_cli.domain.pacing import PRIORITY_NORMAL, PRIORITY_URGENT
from wa_cli.domain.recipient import RecipientKind
from wa_cli.domain.schedule import auto_delay_ms
from wa_cli.domain.window import WindowPolicy
from wa_cli.errors import Refused, UsageError
from wa_cli.ports import NewBatch, NewMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from wa_cli.domain.message import Content
    from wa_cli.domain.pooling import PoolTerms
    from wa_cli.ports import ContentRules, Enqueued, Intake

DEFAULT_DELAY_MS: Final = 2_000  # rows R1 and T3
LONGEST_DELAY_MS: Final = 86_400_000
LONGEST_KEY: Final = 255

# Why the intake skips people who could be reached.
SAFETY_RULES: Final = ("opted_out", "window_closed")
# Why the platform could not deliver, as far as that is known before.
OBSTACLES: Final = (NOT_IN_GROUP, MAY_NOT_POST, NOT_ON_WHATSAPP)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendOrder:
    """What a call of the send family asks for, whatever its recipients are.

    delay_ms: None for the default.  is_auto_delay: pick by size (row R4).  is_waited_for: its caller will send or
    follow it, so it needs a lane of its own.  actor: who asked for it over the HTTP API, or None.
    """

    kind: str
    instance_id: int
    start_at_ms: int
    at_words: str | None = None
    delay_ms: int | None = None
    is_auto_delay: bool = False
    is_immediate: bool = False
    expires_at_ms: int | None = None
    key: str | None = None
    again: bool = False
    max_attempts: int = 5
    on_unknown: OnUnknown = OnUnknown.HOLD
    is_waited_for: bool = False
    is_dry_run: bool = False
    subgroup_id: int | None = None
    subgroup: str | None = None
    campaign: str | None = None
    actor: str | None = None
    duplicate_window_ms: int = 86_400_000
    key_days: int = 7
    max_queue_size: int = 0
    window: WindowPolicy = WindowPolicy.IGNORE
    checked_since_ms: int | None = None
    pool: PoolTerms | None = None


@dataclass(slots=True, kw_only=True)
class Tally:
    """What became of a call's lines, counted as they went in.

    by_state: duplicates by the state of the message they repeat.  by_reason: skipped ones by why.  closed_windows:
    queued ones that the platform will refuse unless the person writes before.
    """

    batch_id: int | None = None
    delay_ms: int = 0
    queued: int = 0
    duplicates: int = 0
    skipped: int = 0
    first: Enqueued | None = None
    last: Enqueued | None = None
    first_duplicate: Enqueued | None = None
    by_state: dict[str, int] = field(default_factory=dict)
    by_reason: dict[str, int] = field(default_factory=dict)
    closed_windows: int = 0

    def find_warning(self) -> str | None:
        """What to say of people whose window is closed, on one line however many they are; None when there are none."""
        if not self.closed_windows:
            return None
        who = "the recipient has" if self.queued == 1 else f"{self.closed_windows:,} of {self.queued:,} people have"
        return (
            f"{who} not written within 24 h before this is due, and WhatsApp refuses free text to them (131047):"
            " send an approved template, --template NAME"
        )

    def find_refusal(self) -> Refused | None:
        """The error of a call that put nothing into the queue since nobody of its people may be written to."""
        if not self.skipped or self.queued or self.duplicates or set(self.by_reason) - set(SAFETY_RULES):
            return None
        who = "the recipient has" if self.skipped == 1 else f"all {self.skipped:,} recipients have"
        if "window_closed" not in self.by_reason:
            return Refused(
                f"nothing was queued: {who} opted out",
                hint="`wa contact show RECIPIENT` says when and how",
                code="opted_out",
            )
        return Refused(
            f"nothing was queued: {who} {'opted out or ' if 'opted_out' in self.by_reason else ''}"
            "not written within 24 h, and WA_WINDOW is refuse",
            hint="send an approved template: --template NAME",
            code="window_closed",
        )


def choose_delay_ms(order: SendOrder, size: int) -> int:
    """The spacing of a call with so many lines: as given, by size, or 2 s (rows R1, R4)."""
    if order.is_auto_delay:
        return auto_delay_ms(size) if size > 1 else 0
    if order.delay_ms is not None:
        return order.delay_ms
    return DEFAULT_DELAY_MS if size > 1 else 0


def check_content(content: Content, rules: ContentRules) -> None:
    """Raises: UsageError when the platform would refuse these words, naming why and what to type."""
    problem = rules.find_problem(content)
    if problem is not None:
        raise UsageError(problem.message, hint=problem.hint, code="content")


def check_order(order: SendOrder) -> None:
    """Raises: UsageError for what cannot be meant."""
    if order.key is not None and not (0 < len(order.key) <= LONGEST_KEY and order.key.isprintable()):
        raise UsageError(
            f"--key must be 1 to {LONGEST_KEY} printable characters", hint="for example order:shop:1234:confirm:v1"
        )
    if order.key is not None and order.again:
        raise UsageError(
            "--key and --again exclude each other", hint="a key means once; use a new key to send the words again"
        )
    if order.delay_ms is not None and not 0 <= order.delay_ms <= LONGEST_DELAY_MS:
        raise UsageError(
            f"--delay {order.delay_ms} is out of range", hint="milliseconds from 0 to 86400000 (a day), or auto"
        )
    if order.max_attempts < 1:
        raise UsageError("--max-attempts must be at least 1", hint="5 is the default")
    if order.expires_at_ms is not None and order.expires_at_ms <= order.start_at_ms:
        raise UsageError(
            "the messages would expire before the first of them is due",
            hint="give a later --expires, or an earlier --at",
        )


def hash_request(kind: str, target: Iterable[str]) -> bytes:
    """What a caller's key is held to: the kind of call, its target and its words.  32 bytes.

    The schedule is left out: a cron job that says `--at 'in 5 min'` repeats the same request.
    """
    digest = hashlib.sha256(kind.encode())
    for part in target:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return digest.digest()


def enqueue(
    intake: Intake,
    order: SendOrder,
    lines: Iterable[NewMessage],
    *,
    size: int,
    request_hash: bytes,
    lines_are_unique: bool,
    now_ms: int,
    report: Callable[[Enqueued], None] | None = None,
) -> Tally:
    """Queue the lines of one call.  size: how many there are.  report: told what became of each, in order.

    Raises: Conflict for a key that was used for other content; Refused when the queue has no room.
    """
    check_order(order)
    delay_ms = choose_delay_ms(order, size)
    batch = NewBatch(
        kind=order.kind,
        instance_id=order.instance_id,
        subgroup_id=order.subgroup_id,
        subgroup=order.subgroup,
        campaign=order.campaign,
        actor=order.actor,
        size=size,
        start_at_ms=order.start_at_ms,
        at_words=order.at_words,
        delay_ms=delay_ms,
        priority=PRIORITY_URGENT if order.is_immediate else PRIORITY_NORMAL,
        max_attempts=order.max_attempts,
        on_unknown=order.on_unknown,
        expires_at_ms=order.expires_at_ms,
        key=order.key,
        request_hash=request_hash,
        again=order.again,
        has_own_lane=(delay_ms > 0 and size > 1) or order.is_waited_for,
        lines_are_unique=lines_are_unique,
        duplicate_window_ms=order.duplicate_window_ms,
        key_days=order.key_days,
        max_queue_size=order.max_queue_size,
        window=order.window,
        checked_since_ms=order.checked_since_ms,
        pool=order.pool,
    )
    tally = Tally(delay_ms=delay_ms)
    for result in intake.enqueue(batch, lines, now_ms=now_ms, is_dry_run=order.is_dry_run):
        if result.outcome == "queued":
            tally.queued += 1
            tally.closed_windows += result.window_is_closed
            tally.first = tally.first or result
            tally.last = result
        elif result.outcome == "duplicate":
            tally.duplicates += 1
            tally.first_duplicate = tally.first_duplicate or result
            tally.by_state[result.state] = tally.by_state.get(result.state, 0) + 1
        else:
            tally.skipped += 1
            reason = result.reason if result.reason in (*SAFETY_RULES, *OBSTACLES) else "unreachable"
            tally.by_reason[reason] = tally.by_reason.get(reason, 0) + 1
        if report:
            report(result)
    tally.batch_id = intake.last_batch_id()
    return tally


def lines_for_members(
    members: Iterable[tuple[int, str, str, str | None]], content: Content, rules: ContentRules
) -> Iterator[NewMessage]:
    """One line a member: (contact id, address, kind, attributes) each.  The unreachable are skipped with a reason."""
    encoded = encode_content(content)
    is_free = rules.needs_window(content)
    reasons = {kind: _unreachable(kind, rules) for kind in RecipientKind}
    for contact_id, address, kind, _attributes in members:
        recipient_kind = RecipientKind(kind)
        yield NewMessage(
            address=address,
            kind=recipient_kind,
            encoded=encoded,
            contact_id=contact_id,
            skip_reason=reasons[recipient_kind],
            is_free=is_free,
        )


def line_for(
    address: str, kind: RecipientKind, content: Content, rules: ContentRules, *, key: str | None = None
) -> NewMessage:
    """The line of one recipient."""
    return NewMessage(
        address=address,
        kind=kind,
        encoded=encode_content(content),
        skip_reason=_unreachable(kind, rules),
        key=key,
        is_free=rules.needs_window(content),
    )


def _unreachable(kind: RecipientKind, rules: ContentRules) -> str | None:
    problem = rules.find_recipient_problem(kind)
    return problem.message if problem else None


def describe_target(*, kind: str, subgroup: str | None, addresses: Iterable[str], encoded: str) -> Iterator[str]:
    """The parts that `hash_request` takes for a subgroup or for single recipients."""
    yield subgroup or ""
    yield json.dumps(sorted(addresses)) if kind == "to" else ""
    yield encoded
