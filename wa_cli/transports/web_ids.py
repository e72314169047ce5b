"""How gateways spell chats and messages: `6012...@c.us`, `1203...@g.us`, `true_<chat>_<bare id>[_<participant>]`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wa_cli.domain.event import Person
from wa_cli.domain.recipient import RecipientKind

if TYPE_CHECKING:
    from wa_cli.ports import Post

# Engines name people by their number or by a hidden id, with or without the number of one of their devices.
_PERSON: Final = re.compile(r"([1-9]\d{4,14})(?::\d{1,4})?@(?:c\.us|s\.whatsapp\.net)", re.ASCII)
_HIDDEN: Final = re.compile(r"(\d{1,20})(?::\d{1,4})?@lid", re.ASCII)
_GROUP: Final = re.compile(r"[\d\-]{5,64}@g\.us", re.ASCII)
_MESSAGE: Final = re.compile(r"(true|false)_([^_\s]{1,100}@[^_\s]{1,40})_([^_\s]{1,200})(?:_(\S{1,200}))?", re.ASCII)
_BARE: Final = re.compile(r"[\x21-\x3f\x41-\x5e\x60-\x7e]{1,200}")  # visible ASCII but `@` and `_`


class MessageRef(NamedTuple):
    """What the id of a message says.  from_me, chat: None where the id is a bare one."""

    bare: str
    chat: str | None = None
    from_me: bool | None = None
    participant: str | None = None


def chat_id_of(address: str, kind: RecipientKind) -> str:
    """Where a gateway is to send: E.164 becomes `digits@c.us`, the id of a group stays as it is."""
    return address if kind is RecipientKind.GROUP else f"{address.removeprefix('+')}@c.us"


def chat_id(post: Post) -> str:
    return chat_id_of(post.address, post.kind)


def read_message_id(value: Any) -> MessageRef | None:
    """The parts of a message id, whole or bare; None for anything else."""
    if not isinstance(value, str):
        return None
    found = _MESSAGE.fullmatch(value)
    if found is not None:
        return MessageRef(bare=found[3], chat=found[2], from_me=found[1] == "true", participant=found[4])
    return MessageRef(bare=value) if _BARE.fullmatch(value) else None


def is_group(chat: Any) -> bool:
    return isinstance(chat, str) and _GROUP.fullmatch(chat) is not None


def read_address(chat: Any) -> str | None:
    """The E.164 address of a person's id; None where it hides the number, or is none of a person."""
    found = _PERSON.fullmatch(chat) if isinstance(chat, str) else None
    return f"+{found[1]}" if found else None


def read_member(chat: Any) -> str | None:
    """A person as E.164, or by the hidden id; None for what is no person."""
    address = read_address(chat)
    if address is not None:
        return address
    found = _HIDDEN.fullmatch(chat) if isinstance(chat, str) else None
    return f"{found[1]}@lid" if found else None


def read_person(chat: Any, *, other: Any = None, name: str | None = None) -> Person | None:
    """Who an id means; None for what is no person.  other: a second id of the same person, where there is one."""
    address = read_address(chat) or read_address(other)
    hidden = next((one for one in (read_member(chat), read_member(other)) if one and one.endswith("@lid")), None)
    return Person(address=address, user_id=hidden, name=name) if address or hidden else None
