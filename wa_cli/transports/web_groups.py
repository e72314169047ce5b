"""Groups as gateways' engines show them: four shapes of a group, two of a list of them, three of a member."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from wa_cli.domain.connection import GroupInfo
from wa_cli.transports.web_ids import is_group, read_member

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_NAME: Final = 256


def read_groups(shape: Any) -> list[GroupInfo]:
    """The groups of a list.  NOWEB answers with a mapping of id to group, the others with a list."""
    return [group for one in _list_groups(shape) if (group := read_group(one)) is not None]


def count_groups(shape: Any) -> int:
    """How many entries an answer holds, readable or not: a short page is the last one."""
    return sum(1 for _ in _list_groups(shape))


def read_group(shape: Any, members: Any = None, *, own: str | None = None) -> GroupInfo | None:
    """One group; None for what is none.

    members: the answer of the call that lists them, where it was made.  own: our own address, to see what we may do.
    """
    if not isinstance(shape, dict):
        return None
    metadata = _dict(shape.get("groupMetadata"))
    address = next((text for text in (_id(shape.get("JID")), _id(shape.get("id"))) if is_group(text)), None)
    if address is None:
        return None
    listed = next(
        (
            value
            for value in (members, shape.get("Participants"), shape.get("participants"), metadata.get("participants"))
            if isinstance(value, list)
        ),
        None,
    )
    people = [] if listed is None else [one for one in map(_read_member, listed) if one is not None]
    told_size = next(
        (
            value
            for value in (shape.get("ParticipantCount"), shape.get("size"), metadata.get("size"))
            if isinstance(value, int) and not isinstance(value, bool) and value > 0
        ),
        None,
    )
    announces = next(
        (
            value
            for value in (shape.get("IsAnnounce"), shape.get("announce"), metadata.get("announce"))
            if isinstance(value, bool)
        ),
        None,
    )
    return GroupInfo(
        address=address,
        name=_name(shape),
        size=len(people) or told_size,
        may_post=_may_post(announces, dict(people), own),
        participants=tuple(name for name, _ in people) if people else None,
    )


def _may_post(announces: bool | None, people: dict[str, bool], own: str | None) -> bool | None:
    """Where only admins may write, it takes knowing that we are one, or are none."""
    if announces is not True:
        return None if announces is None else True
    return people.get(own) if own is not None else None


def _list_groups(shape: Any) -> Iterator[Any]:
    if isinstance(shape, dict):
        yield from shape.values()
    elif isinstance(shape, list):
        yield from shape


def _read_member(shape: Any) -> tuple[str, bool] | None:
    """A member by number where it is told, else by the hidden id, and whether they are an admin.  None: has left."""
    if not isinstance(shape, dict) or shape.get("role") == "left":
        return None
    names = (shape.get("pn"), shape.get("PhoneNumber"), shape.get("phoneNumber"), shape.get("JID"), shape.get("id"))
    known = [name for name in (read_member(_id(value)) for value in names) if name is not None]
    if not known:
        return None
    is_admin = (
        shape.get("role") in ("admin", "superadmin")
        or shape.get("admin") in ("admin", "superadmin")
        or any(shape.get(name) is True for name in ("IsAdmin", "IsSuperAdmin", "isAdmin", "isSuperAdmin"))
    )
    return next((name for name in known if name.startswith("+")), known[0]), is_admin


def _name(shape: dict[str, Any]) -> str:
    for key in ("Name", "subject", "name"):
        value = shape.get(key)
        if isinstance(value, str) and value:
            words = "".join(letter if letter.isprintable() else " " for letter in value[:MAX_NAME])
            return " ".join(words.split())
    return ""


def _id(value: Any) -> Any:
    """An id as text; two engines wrap theirs."""
    return value.get("_serialized") if isinstance(value, dict) else value


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
