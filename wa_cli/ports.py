"""What the core asks of the world: a transport that posts, a store that remembers, a clock.

The store's ports stand in `wa_cli.ports` by noun as they are needed by services; adapters never import each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from wa_cli.domain.message import Content
    from wa_cli.domain.outcome import Outcome
    from wa_cli.domain.recipient import RecipientKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """One message, ready to leave.

    tag: `wa1.<install>.<attempt id>`, ASCII, holds no personal data; comes back in receipts where the
    provider echoes it.  address: E.164 with its plus for a person, the group id for a group.
    """

    tag: str
    address: str
    kind: RecipientKind
    content: Content


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a message cannot be sent by a transport: what is wrong, and what to type instead."""

    message: str
    hint: str | None = None


class ContentRules(Protocol):
    """What a transport accepts, judged without a network: read before anything is queued."""

    def find_problem(self, content: Content) -> Problem | None:
        """The first thing the platform would refuse in this content, or None."""
        ...

    def find_recipient_problem(self, kind: RecipientKind) -> Problem | None:
        """Why this transport cannot reach such recipients, or None."""
        ...


class Transport(Protocol):
    """Posts messages for one instance.  Holds its connections until closed."""

    async def send(self, post: Post) -> Outcome:
        """Post once.  Never raises for what the other side or the network does: that is the Outcome."""
        ...

    async def close(self) -> None: ...
