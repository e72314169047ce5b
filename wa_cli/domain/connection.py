"""How a linked device stands: its connection, what restricts it, what its gateway can tell of groups and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class ConnectionState(StrEnum):
    """How an instance that lives behind a gateway is connected.  Nothing is posted unless it is READY (row H9)."""

    READY = "ready"
    CONNECTING = "connecting"
    NEEDS_QR = "needs_qr"
    DISCONNECTED = "disconnected"
    AUTH_FAILURE = "auth_failure"
    ERROR = "error"


# Row H10: sending stops, and nothing but a person brings it back.
NEEDS_A_PERSON: Final = frozenset({ConnectionState.NEEDS_QR, ConnectionState.AUTH_FAILURE})


class RestartKind(StrEnum):
    """soft: the gateway's own restart.  hard: stop, wait, start (row H11).  Neither ever logs out."""

    SOFT = "soft"
    HARD = "hard"


class RestrictionScope(StrEnum):
    """Which messages a restriction keeps back.

    NEW_PEOPLE: those to people who have never written to the number.  OUTSIDE_WINDOW: those to people who have not
    written within 24 h (the Cloud API's business-initiated ones).  Groups are never new.
    """

    NEW_PEOPLE = "new_people"
    OUTSIDE_WINDOW = "outside_window"
    EVERYTHING = "everything"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restriction:
    """The platform lets a number write less, or not at all.  until_ms: None where no end was stated."""

    code: str
    reason: str
    scope: RestrictionScope
    until_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """What a gateway says of one session at one moment.

    raw: its own word for the state.  reason: for people, masked, or None.  address: of the paired number in E.164.
    engine: what runs behind the gateway, where it says.  restriction: where it tells of one.
    is_doubtful: an AUTH_FAILURE in a word that the gateway also has for lesser troubles: one restart tells.
    """

    state: ConnectionState
    raw: str
    reason: str | None = None
    address: str | None = None
    engine: str | None = None
    restriction: Restriction | None = None
    is_doubtful: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingQr:
    """A QR code to scan: its text, or a PNG where the gateway gives nothing else; at least one of the two is there.

    lasts_seconds: how long it can be scanned, as far as the gateway says or is known.
    """

    text: str | None
    png: bytes | None
    lasts_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupInfo:
    """A group as an instance sees it.

    address: the whole id, `...@g.us`.  size, may_post, participants: None where the gateway does not tell;
    participants are E.164 numbers, or the provider's ids of people who hide theirs.
    """

    address: str
    name: str
    size: int | None = None
    may_post: bool | None = None
    participants: tuple[str, ...] | None = None


class OnWhatsApp(StrEnum):
    """Whether a number is on WhatsApp.  UNKNOWN: the look-up itself failed, or the gateway cannot tell it from a no."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberCheck:
    """chat: the address under which WhatsApp knows the person, E.164, where it differs from the one asked about."""

    verdict: OnWhatsApp
    chat: str | None = None
    details: str | None = None
