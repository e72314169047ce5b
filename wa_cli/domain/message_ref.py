"""Message ids of our own choosing, for gateways that take one: the attempt is written into the id.

An id is `3EB0` and 18 upper-case hex digits, as WhatsApp's web clients make them.  A receipt that carries such an id
proves which attempt went out, although its answer was never seen (promise P5), and nothing beside the attempt itself
has to be stored before the post.  Source: `gateways` section 1, the caller-chosen id.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

PREFIX: Final = "3EB0"
_ID: Final = re.compile(r"3EB0([0-9A-F]{18})\Z")
_TAG: Final = re.compile(r"wa1\.([^.]+)\.(\d{1,14})\Z", re.ASCII)


def choose_message_id(tag: str) -> str:
    """The id of the post with this tag (`wa1.<install>.<attempt id>`).  Equal tags, equal ids.

    Raises: ValueError for what is no tag of ours.
    """
    found = _TAG.fullmatch(tag)
    if found is None:
        raise ValueError("not the tag of a post")
    install, number = found[1], int(found[2])
    hidden = number ^ _mask(install)
    return f"{PREFIX}{_check(install, number)}{hidden:012X}"


def find_tag(message_id: str, install: str) -> str | None:
    """The tag of the post that was given this id by this database, or None for ids that others have chosen."""
    found = _ID.fullmatch(message_id)
    if found is None:
        return None
    check, hidden = found[1][:6], int(found[1][6:], 16)
    number = hidden ^ _mask(install)
    return f"wa1.{install}.{number}" if check == _check(install, number) else None


def _mask(install: str) -> int:
    return int.from_bytes(hashlib.sha256(f"mask {install}".encode()).digest()[:6], "big")


def _check(install: str, number: int) -> str:
    """Six digits that one in sixteen million foreign ids has by chance."""
    return hashlib.sha256(f"check {install} {number}".encode()).hexdigest()[:6].upper()
