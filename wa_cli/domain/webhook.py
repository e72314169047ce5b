"""A webhook as it came: its standing, its name for people, and what it told in a few words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, assert_never

from wa_cli.domain.event import (
    AccountEvent,
    ConnectionEvent,
    IgnoredEvent,
    InboundEvent,
    NumberChangedEvent,
    PreferenceEvent,
    StatusEvent,
    TemplateEvent,
)
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wa_cli.domain.event import Event

LARGEST_BODY_BYTES: Final = 3 * 1024 * 1024  # Meta's own limit
NAMED_AT_MOST: Final = 6


class WebhookStatus(StrEnum):
    """Where a webhook stands.  Only those that wait are read; the others can be made to wait again."""

    WAITING = "waiting"  # stored, and not read yet
    DONE = "done"  # read, and everything in it has taken effect
    IGNORED = "ignored"  # read, and nothing in it concerns us
    FAILED = "failed"  # could not be read, or a fault in wa kept it from taking effect


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRow:
    """What is known about one webhook, without its body.  size: of the body, in bytes.

    events: how many were found in it, None before it was read.  details: what they were, or why it failed.
    instance: the name and the id of the one whose address it came to, None for the address that an account shares.
    """

    id: int
    received_at_ms: int
    provider: str
    is_signed: bool
    size: int
    status: WebhookStatus
    events: int | None
    details: str | None
    read_at_ms: int | None
    instance: str | None = None
    instance_id: int | None = None


def format_webhook_id(webhook_id: int) -> str:
    """The id that people and scripts see: `w` and the row's number."""
    return f"w{webhook_id}"


def is_webhook_id(text: str) -> bool:
    digits = text.removeprefix("w")
    return text != digits and digits.isascii() and digits.isdigit() and len(digits) < 19


def parse_webhook_id(text: str) -> int:
    """The row's number of a public id.  Raises: UsageError on anything but `w` and digits."""
    if is_webhook_id(text.strip()):
        return int(text.strip().removeprefix("w"))
    raise UsageError(f"'{text}' is not a webhook id", hint="ids look like w42; `wa webhook list` shows them")


def name_event(event: Event) -> str:
    """The kind of an event in a word or two, without anything personal."""
    match event:
        case StatusEvent():
            return event.receipt.value
        case InboundEvent():
            return "inbound"
        case PreferenceEvent():
            return "resume" if event.wants else "stop"
        case NumberChangedEvent():
            return "new number"
        case TemplateEvent():
            return "template held" if event.held else "template lifted"
        case AccountEvent():
            return "account stopped" if event.stop is not None else "account released"
        case ConnectionEvent():
            return f"connection {event.connection.state.replace('_', ' ')}"
        case IgnoredEvent():
            return f"ignored {event.what}"
        case _:
            assert_never(event)


def judge_events(events: Iterable[Event]) -> tuple[WebhookStatus, str | None]:
    """How a webhook that was read stands, and what was in it: `2 delivered, 1 read, 1 ignored calls`.

    Source: fault 75: what is ignored is counted.
    """
    counts: dict[str, int] = {}
    status = WebhookStatus.IGNORED
    for event in events:
        name = name_event(event)
        counts[name] = counts.get(name, 0) + 1
        if not isinstance(event, IgnoredEvent):
            status = WebhookStatus.DONE
    if not counts:
        return status, None
    most = sorted(counts.items(), key=lambda item: -item[1])
    words = [f"{count} {name}" for name, count in most[:NAMED_AT_MOST]]
    rest = sum(count for _name, count in most[NAMED_AT_MOST:])
    return status, ", ".join([*words, *([f"{rest} more"] if rest else [])])
