"""Groups as GOWA tells of them: whatsmeow's own records in the list, words of its own for one group.  Pure."""

from __future__ import annotations

from typing import Any

from wa_cli.domain.connection import GroupInfo
from wa_cli.transports.gowa.jids import read_group, read_hidden, read_number


def read_groups(shape: Any, own: str | None) -> list[GroupInfo]:
    """The groups of `GET /user/my/groups`, without participants.  own: the device's number, to see whether it may post.

    WhatsApp hands out the first 500 of them and no more.
    """
    results = shape.get("results") if isinstance(shape, dict) else None
    listed = results.get("data") if isinstance(results, dict) else None
    found = [read_one(one, own) for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return [
        GroupInfo(address=group.address, name=group.name, size=group.size, may_post=group.may_post)
        for group in found
        if group is not None
    ]


def read_one(record: Any, own: str | None) -> GroupInfo | None:
    """One record, in either spelling; None for what is no group."""
    if not isinstance(record, dict):
        return None
    address = read_group(_get(record, "JID", "jid", "group_id"))
    if address is None:
        return None
    name = _get(record, "Name", "name")
    members = _get(record, "Participants", "participants")
    listed = [one for one in members if isinstance(one, dict)] if isinstance(members, list) else None
    size = _get(record, "ParticipantCount", "participant_count")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0 or (size == 0 and listed):
        size = len(listed) if listed else None
    return GroupInfo(
        address=address,
        name=name if isinstance(name, str) else "",
        size=size,
        may_post=_may_post(record, listed or [], own),
        participants=None if listed is None else _read_members(listed),
    )


def _may_post(record: dict[str, Any], members: list[dict[str, Any]], own: str | None) -> bool | None:
    if _get(record, "Suspended", "suspended") is True or _get(record, "IsParent", "is_parent") is True:
        return False
    announces = _get(record, "IsAnnounce", "is_announce")
    if announces is not True:
        return True if announces is False else None
    if own is None:
        return None
    for member in members:
        if own == _number_of(member):
            return _get(member, "IsAdmin", "is_admin") is True or _get(member, "IsSuperAdmin", "is_super_admin") is True
    return None


def _read_members(members: list[dict[str, Any]]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for member in members:
        hidden = read_hidden(_get(member, "LID", "lid")) or read_hidden(_get(member, "JID", "jid"))
        name = _number_of(member) or hidden
        if name:
            found[name] = None
    return tuple(found)


def _number_of(member: dict[str, Any]) -> str | None:
    return read_number(_get(member, "PhoneNumber", "phone_number")) or read_number(_get(member, "JID", "jid"))


def _get(record: dict[str, Any], *names: str) -> Any:
    """The first of the names that the record has."""
    return next((record[name] for name in names if record.get(name) is not None), None)
