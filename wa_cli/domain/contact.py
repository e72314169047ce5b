"""A contact as people see one: who it is, what is known of them, what they wish, when they last wrote."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from wa_cli.domain.consent import Wish

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wa_cli.domain.consent import Source
    from wa_cli.domain.recipient import Recipient, RecipientKind
    from wa_cli.domain.window import Hearing


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """One person or group.  Times are milliseconds since 1970 in UTC.

    address: E.164 with its plus, a group id, or `user:ID` for somebody who shows no number and cannot be written to.
    whatsapp_name: as they have set it.  attributes: as imported here.  opted_out_at_ms: None while they may be written
    to.  last_inbound_at_ms: when they last wrote, to any instance.
    """

    id: int
    address: str
    kind: RecipientKind
    created_at_ms: int
    whatsapp_name: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    opted_out_at_ms: int | None = None
    last_inbound_at_ms: int | None = None

    @property
    def name(self) -> str | None:
        """What to call them: our own word for them first."""
        return self.attributes.get("name") or self.whatsapp_name


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentRow:
    """A change of mind in the ledger.  address: under which it was heard, where that was an earlier number."""

    at_ms: int
    wish: Wish
    source: Source
    wording: str | None
    actor: str | None
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """What one instance has heard from a contact, and what the platform said of its window."""

    instance: str
    transport: str
    hearing: Hearing
    last_inbound_at_ms: int | None
    closed_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Everything that is known of a contact.

    messages: how many of theirs stand where.  moved_from, moved_to: numbers before and after, as WhatsApp told us.
    clicks: how often they followed a short link.
    """

    contact: Contact
    aliases: tuple[str, ...]
    subgroups: tuple[str, ...]
    consent: tuple[ConsentRow, ...]
    talks: tuple[Talk, ...]
    messages: Mapping[str, int]
    moved_from: tuple[str, ...] = ()
    moved_to: tuple[str, ...] = ()
    clicks: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPerson:
    """Somebody on a list, with what it says of them.

    wish: None where the list says nothing of their consent.  said_at_ms: when they said so; None where it is not told.
    """

    recipient: Recipient
    attributes: Mapping[str, str] = field(default_factory=dict)
    whatsapp_name: str | None = None
    wish: Wish | None = None
    said_at_ms: int | None = None
    wording: str | None = None


class TakenIn(StrEnum):
    """What became of somebody on a list.  The first three count everybody once, the others what was entered."""

    ADDED = "added"
    ALREADY_THERE = "already_there"
    UPDATED = "updated"
    OPTED_OUT = "opted_out"
    OPTED_IN = "opted_in"
    KEPT_OPTED_OUT = "kept_opted_out"  # the list says yes, they have said no


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What an erase took out.

    names: the addresses they were known by.  messages: rows that stay without a name.  cancelled: those of them that
    waited.  contents: texts that nobody else had got.  webhooks: raw ones that spoke of them.  is_suppressed: they had
    opted out, and are kept from coming back by a digest of their address.
    """

    names: tuple[str, ...]
    messages: int = 0
    cancelled: int = 0
    contents: int = 0
    webhooks: int = 0
    is_suppressed: bool = False

    def with_webhooks(self, webhooks: int) -> Erased:
        return replace(self, webhooks=webhooks)


def last_word(consent: Sequence[ConsentRow]) -> ConsentRow | None:
    """The row that decides now: the latest, and of several at that time one that opts out.  None without any."""
    return max(consent, key=lambda row: (row.at_ms, row.wish is Wish.OPT_OUT), default=None)
