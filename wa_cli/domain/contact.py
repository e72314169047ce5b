"""A contact as people see one: who it is, what is known of them, what they wish, when they last wrote."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wa_cli.domain.consent import Source, Wish
    from wa_cli.domain.recipient import RecipientKind
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
    """

    contact: Contact
    aliases: tuple[str, ...]
    subgroups: tuple[str, ...]
    consent: tuple[ConsentRow, ...]
    talks: tuple[Talk, ...]
    messages: Mapping[str, int]
    moved_from: tuple[str, ...] = ()
    moved_to: tuple[str, ...] = ()


def last_own_word(consent: tuple[ConsentRow, ...]) -> ConsentRow | None:
    """The row that decides now: the latest, and of several at that time one that opts out.  None without any."""
    return max(consent, key=lambda row: (row.at_ms, row.wish == "opt_out"), default=None)
