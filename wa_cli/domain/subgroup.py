"""Subgroups: named lists of people and groups, what they may be called, and who is in them."""

from __future__ import annotations

import difflib
import json
import unicodedata
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from wa_cli.domain.recipient import show_text
from wa_cli.errors import Conflict, NotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wa_cli.domain.recipient import Recipient

NAME_LENGTH: Final = 100

_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Subgroup:
    """A named list.  name: as it was first written.  members: how many, people and groups together."""

    id: int
    name: str
    members: int
    created_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SubgroupSizes:
    """A subgroup with its members told apart by kind."""

    subgroup: Subgroup
    people: int
    groups: int


class Joining(Protocol):
    """Somebody who is to be a member: a row of a file, or a recipient that was typed."""

    @property
    def recipient(self) -> Recipient: ...

    @property
    def attributes(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMember:
    """A recipient on the way in, with what is known of them."""

    recipient: Recipient
    attributes: Mapping[str, str] = field(default_factory=dict)


class Joined(StrEnum):
    """What became of somebody who was to be a member."""

    ADDED = "added"
    ALREADY_THERE = "already_there"
    UPDATED = "updated"  # was there already, with other attributes


def check_subgroup_name(text: str) -> str:
    """The name as it is stored: NFC, without the blanks around it.

    Raises: UsageError for an empty name, one over 100 characters, a leading `-` (it would read as a flag), and
    characters that cannot be seen.
    """
    name = unicodedata.normalize("NFC", text).strip()
    if not name:
        raise _bad_name("a subgroup needs a name")
    if len(name) > NAME_LENGTH:
        raise _bad_name(f"the name '{show_text(name)}' has {len(name)} characters and may have {NAME_LENGTH}")
    if name.startswith("-"):
        raise _bad_name(f"the name '{show_text(name)}' begins with '-', like a flag")
    if any(_is_unseen(character) for character in name):
        raise _bad_name(f"the name '{show_text(name)}' holds characters that cannot be seen")
    return name


def fold_name(name: str) -> str:
    """What two spellings of one name have in common: `VIP` and `vip` are the same subgroup."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).strip().casefold())


def no_such_subgroup(name: str, known: Sequence[str]) -> NotFound:
    """The error for a name that stands for nothing.  known: the names there are."""
    if not known:
        return NotFound(
            f"no subgroup named '{show_text(name)}'",
            hint="there is none yet: `wa subgroup create NAME` makes one",
            code="no_subgroup",
        )
    by_fold = {fold_name(other): other for other in known}
    near = difflib.get_close_matches(fold_name(name), by_fold, n=1, cutoff=0.6)
    shows = f"`wa subgroup list` shows {'what there is' if len(known) == 1 else f'all {len(known)}'}"
    return NotFound(
        f"no subgroup named '{show_text(name)}'",
        hint=f"did you mean '{by_fold[near[0]]}'? {shows}" if near else f"{shows}, `wa subgroup create` makes one",
        code="no_subgroup",
    )


def name_is_taken(name: str) -> Conflict:
    return Conflict(
        f"there is a subgroup named '{name}' already",
        hint="choose another name, or delete that one first: `wa subgroup delete`",
        code="subgroup_exists",
    )


def merge_attributes(stored: str | None, given: Mapping[str, str]) -> str | None:
    """The attributes of a member as JSON, after new ones came in; None for none.

    What is given wins; what is not given stays, so a list with fewer columns takes nothing away.
    """
    if not given:
        return stored
    if stored is None:
        return encode_attributes(given)
    before = decode_attributes(stored)
    after = {**before, **given}
    return stored if after == before else encode_attributes(after)


def encode_attributes(attributes: Mapping[str, str]) -> str | None:
    return _encode(dict(attributes)) if attributes else None


def decode_attributes(stored: str | None) -> dict[str, str]:
    return dict(json.loads(stored)) if stored else {}


def _is_unseen(character: str) -> bool:
    # A joiner stays: it holds the parts of one emoji together.
    return character != "\u200d" and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def _bad_name(message: str) -> UsageError:
    return UsageError(message, hint=f"a name has 1 to {NAME_LENGTH} visible characters, like vip", code="subgroup_name")
