"""What a call of the send family asks for, from words and recipients to an order and its lines.  Every door uses it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from wa_cli.domain.message import OnUnknown, Text, encode_content
from wa_cli.domain.number import HOLDS_MS
from wa_cli.domain.recipient import RecipientKind
from wa_cli.domain.window import WindowPolicy
from wa_cli.errors import UsageError
from wa_cli.services.enqueue import SendOrder, describe_target, hash_request, line_for, lines_for_members

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from wa_cli.config import Settings
    from wa_cli.domain.message import Content
    from wa_cli.domain.pooling import PoolTerms
    from wa_cli.domain.recipient import Recipient
    from wa_cli.domain.subgroup import Subgroup
    from wa_cli.ports import ContentRules, Enqueued, NewMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderWords:
    """What the caller said about a call, as it was said; None where nothing was.

    at: a time that `domain.schedule` reads.  delay: milliseconds in digits, or `auto`.  expires: a time or a length of
    time after the start.  actor: who asks, as they call themselves.
    """

    at: str | None = None
    delay: str | None = None
    key: str | None = None
    again: bool = False
    max_attempts: int | None = None
    expires: str | None = None
    on_unknown: str = OnUnknown.HOLD.value
    immediate: bool = False
    is_waited_for: bool = False
    is_dry_run: bool = False
    campaign: str | None = None
    actor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """The messages of a call.

    read: gives them from the first, as often as it is called.  groups: the groups among their recipients.
    """

    size: int
    read: Callable[[], Iterable[NewMessage]]
    request_hash: bytes
    are_unique: bool
    groups: Callable[[], Sequence[str]] = tuple


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One recipient and their own words.  key: the caller's own for this line, or None."""

    recipient: Recipient
    text: str
    key: str | None = None


class Members(Protocol):
    def iterate_members(self, subgroup_id: int) -> Iterable[tuple[int, str, str, str | None]]: ...

    def list_groups(self, subgroup_id: int) -> Sequence[str]: ...


def read_order(
    words: OrderWords,
    *,
    kind: str,
    instance_id: int,
    settings: Settings,
    now_ms: int,
    subgroup: Subgroup | None = None,
    is_linked_device: bool = False,
    pool: PoolTerms | None = None,
) -> tuple[SendOrder, str | None]:
    """The order behind the words, and a note on how its time was understood where that is not plain.

    is_linked_device: it is sent through one, which is best kept from numbers that are not on WhatsApp.

    Raises: UsageError naming the flag that cannot be meant.
    """
    if words.at is not None and words.immediate:
        raise UsageError("--at and --immediate exclude each other", hint="--immediate means now, ahead of the rest")
    if words.on_unknown not in set(OnUnknown):
        raise UsageError(f"--on-unknown is '{words.on_unknown}'", hint="hold, resend or skip")
    start_at_ms, note = _read_start(words.at, settings=settings, now_ms=now_ms)
    delay_ms = None
    if words.delay is not None and words.delay != "auto":
        if not (words.delay.isascii() and words.delay.isdigit() and len(words.delay) < 12):
            raise UsageError(f"--delay is '{words.delay}'", hint="whole milliseconds such as 3000, or auto")
        delay_ms = int(words.delay)
    order = SendOrder(
        kind=kind,
        instance_id=instance_id,
        start_at_ms=start_at_ms,
        at_words=words.at,
        delay_ms=delay_ms,
        is_auto_delay=words.delay == "auto",
        is_immediate=words.immediate,
        expires_at_ms=_read_expiry(words.expires, start_at_ms=start_at_ms, settings=settings, now_ms=now_ms),
        key=words.key,
        again=words.again,
        max_attempts=words.max_attempts or max(settings.count("WA_MAX_ATTEMPTS"), 1),
        on_unknown=OnUnknown(words.on_unknown),
        is_waited_for=words.is_waited_for,
        is_dry_run=words.is_dry_run,
        subgroup_id=subgroup.id if subgroup else None,
        subgroup=subgroup.name if subgroup else None,
        campaign=words.campaign,
        actor=words.actor,
        duplicate_window_ms=settings.count("WA_DUPLICATE_WINDOW_HOURS") * 3_600_000,
        key_days=settings.count("WA_KEY_DAYS"),
        max_queue_size=settings.count("MAX_QUEUE_SIZE"),
        window=WindowPolicy(settings.text("WA_WINDOW")),
        checked_since_ms=now_ms - HOLDS_MS if is_linked_device else None,
        pool=pool,
    )
    return order, note


def _read_start(at: str | None, *, settings: Settings, now_ms: int) -> tuple[int, str | None]:
    if at is None:
        return now_ms, None
    from wa_cli.domain.schedule import parse_time

    instant = parse_time(at, now=datetime.fromtimestamp(now_ms / 1000, UTC), zone=settings.zone())
    return round(instant.at.timestamp() * 1000), instant.note


def _read_expiry(expires: str | None, *, start_at_ms: int, settings: Settings, now_ms: int) -> int | None:
    if expires is None:
        return None
    from wa_cli.domain.schedule import parse_duration, parse_time

    try:
        return start_at_ms + round(parse_duration(expires).total_seconds() * 1000)
    except UsageError:
        instant = parse_time(expires, now=datetime.fromtimestamp(now_ms / 1000, UTC), zone=settings.zone())
        return round(instant.at.timestamp() * 1000)


def lines_to_subgroup(members: Members, subgroup: Subgroup, content: Content, rules: ContentRules) -> Lines:
    """One message for every member, as they are when the lines are read.  Raises: UsageError when there is nobody."""
    if subgroup.members == 0:
        raise UsageError(
            f"the subgroup '{subgroup.name}' has no members",
            hint=f"`wa subgroup add {subgroup.name} +6581234567`, or `wa subgroup import {subgroup.name} people.csv`",
            code="empty_subgroup",
        )
    target = describe_target(kind="subgroup", subgroup=subgroup.name, addresses=(), encoded=encode_content(content))
    return Lines(
        size=subgroup.members,
        read=lambda: lines_for_members(members.iterate_members(subgroup.id), content, rules),
        request_hash=hash_request("subgroup", target),
        are_unique=True,
        groups=lambda: members.list_groups(subgroup.id),
    )


def judge_outcome(order: SendOrder, result: Enqueued, *, now_ms: int) -> str:
    """Row T2: `immediate` for what is due and has nothing ahead of it, else what the intake says."""
    is_due = result.due_at_ms is not None and result.due_at_ms <= now_ms
    if result.outcome == "queued" and is_due and (order.is_immediate or result.queue_position == 1):
        return "immediate"
    return result.outcome


def lines_to_recipients(recipients: Collection[Recipient], content: Content, rules: ContentRules) -> Lines:
    """One message for each of some recipients, none of whom stands there twice."""
    addresses = [recipient.address for recipient in recipients]
    target = describe_target(kind="to", subgroup=None, addresses=addresses, encoded=encode_content(content))
    return Lines(
        size=len(recipients),
        read=lambda: (line_for(one.address, one.kind, content, rules) for one in recipients),
        request_hash=hash_request("to", target),
        are_unique=True,
        groups=lambda: groups_among(recipients),
    )


def lines_of_pairs(pairs: Sequence[Pair], rules: ContentRules) -> Lines:
    """A message of their own for each of some recipients (row S4)."""
    return Lines(
        size=len(pairs),
        read=lambda: (line_of_pair(pair, rules) for pair in pairs),
        request_hash=hash_request("file", (part for pair in pairs for part in parts_of_pair(pair))),
        are_unique=False,
        groups=lambda: groups_among(pair.recipient for pair in pairs),
    )


def groups_among(recipients: Iterable[Recipient]) -> list[str]:
    """The addresses of the groups, each once."""
    return list(dict.fromkeys(one.address for one in recipients if one.kind is RecipientKind.GROUP))


def line_of_pair(pair: Pair, rules: ContentRules) -> NewMessage:
    recipient = pair.recipient
    return line_for(recipient.address, recipient.kind, Text(body=pair.text), rules, key=pair.key)


def parts_of_pair(pair: Pair) -> Iterator[str]:
    """What a caller's key is held to, of one line."""
    yield from (pair.recipient.address, pair.text, pair.key or "")
