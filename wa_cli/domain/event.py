"""What a provider tells us afterwards, in our words: receipts, people who write, templates and numbers that change.

A transport's webhook reader makes these of the provider's JSON; the services act on them.  Addresses are E.164 with
the plus, times are milliseconds since 1970 in UTC, details are masked already.  `at_ms` is 0 where the provider does
not say when; an address is spelled as the provider spells it, which for some countries is not how it was written to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wa_cli.domain.connection import Connection, Restriction
    from wa_cli.domain.outcome import Rejected
    from wa_cli.domain.receipt import Receipt
    from wa_cli.domain.retry import Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Whom an event is about.  At least one of the two is there: people with a username may show no number.

    user_id: the provider's own id of the person.  name: as the person has set it, or None.
    """

    address: str | None
    user_id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusEvent:
    """How far one message has come.

    number_id: the provider's id of our number.  tag: what we sent with the post, where the provider echoes it.
    person: whom it was for, None for a group.  participant: the member of a group that the receipt is of, ""
    otherwise.  refusal: with `failed` only.
    """

    number_id: str
    provider_message_id: str
    receipt: Receipt
    at_ms: int
    tag: str | None = None
    person: Person | None = None
    participant: str = ""
    refusal: Rejected | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundEvent:
    """Somebody wrote, tapped a button, reacted or called (kind `call`).

    words: the text, or the label of the button, or None.  payload: what the button carries.
    context_message_id: of the message of ours that it answers.
    """

    number_id: str
    provider_message_id: str
    at_ms: int
    person: Person
    kind: str
    words: str | None = None
    payload: str | None = None
    context_message_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceEvent:
    """Somebody told the provider whether they want our marketing.  wants: False is an opt-out."""

    number_id: str
    at_ms: int
    person: Person
    wants: bool
    wording: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberChangedEvent:
    """A person has another number now: what we know of the old one is theirs."""

    number_id: str
    at_ms: int
    old: Person
    new: Person


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateEvent:
    """A template may be used (again), or may not.  held: it may not.  until_ms: where an end is known."""

    account_id: str
    name: str
    language: str
    at_ms: int
    held: bool
    reason: str
    until_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountEvent:
    """The platform has restricted or released the account or one of its numbers.

    stop: until a person acts.  restriction: of some messages, or with an end.  Both are None when it was released.
    """

    account_id: str
    at_ms: int
    stop: Stop | None
    words: str
    restriction: Restriction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionEvent:
    """A gateway says how the linked device is connected now.  number_id: as in StatusEvent."""

    number_id: str
    at_ms: int
    connection: Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnoredEvent:
    """Something that changes nothing here.  what: its kind, for the count."""

    what: str


Event = (
    StatusEvent
    | InboundEvent
    | PreferenceEvent
    | NumberChangedEvent
    | TemplateEvent
    | AccountEvent
    | ConnectionEvent
    | IgnoredEvent
)
