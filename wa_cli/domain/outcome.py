"""What became of one post, sorted by a single question: could the other side have accepted it?"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wa_cli.domain.connection import ConnectionState, Restriction


class ErrorClass(StrEnum):
    """What the queue does after a refusal.  The transport names the class; the domain acts on it."""

    RETRY = "retry"  # the same message again, with growing waits
    THROTTLE = "throttle"  # slow the whole instance; the message keeps its attempts
    PAIR = "pair"  # wait for this recipient only; the message keeps its attempts
    HOURS = "hours"  # not before some hours have passed
    DEAD_RECIPIENT = "dead_recipient"  # permanent for this recipient
    DEAD_MESSAGE = "dead_message"  # permanent for this message or template
    STOP = "stop"  # a person must act: pause the instance, keep the queue
    NOT_READY = "not_ready"  # the linked device is not connected: the message keeps its place and its attempts
    RESTRICTED = "restricted"  # the platform lets the number write less for a time; the message keeps its attempts


class Consequence(StrEnum):
    """What a refusal says beyond its own message.  The transport knows the vendor's codes, the domain these words."""

    OPTED_OUT = "opted_out"  # the person wants no more from us
    WINDOW_CLOSED = "window_closed"  # they have not written within the vendor's window: templates only
    TEMPLATE_HELD = "template_held"  # no message of this template is taken for now, or ever


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A parsed success with a message id.  Never more than that: delivery is another matter."""

    provider_message_id: str
    http_status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A parsed refusal in the vendor's own words; it was certainly not accepted.

    code: the vendor's code as text.  details: for people, with numbers and tokens already masked.
    wait_seconds: what the vendor or the error table asks for (Retry-After, hours), or None.
    max_attempts: the class's own cap on attempts, or None for the message's.
    consequence: what it means for the recipient or the template beside this message, or None.
    connection: how the device is connected, with NOT_READY.  restriction: what holds the number back, with RESTRICTED.
    """

    error_class: ErrorClass
    code: str
    details: str
    http_status: int
    wait_seconds: float | None = None
    max_attempts: int | None = None
    consequence: Consequence | None = None
    connection: ConnectionState | None = None
    restriction: Restriction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSent:
    """Not one byte of the request was written: DNS, connect, TLS, proxy or pool.  Safe to send again."""

    code: str
    details: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambiguous:
    """Some of the request was written and no verdict can be read: it may or may not have been accepted."""

    code: str
    details: str
    http_status: int | None = None


Outcome = Accepted | Rejected | NotSent | Ambiguous
