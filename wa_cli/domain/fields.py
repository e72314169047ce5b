"""What the fields of people are called: one name for every way in which a list, a file or a message writes it."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

LONGEST_REMEMBERED: Final = 100


def normalise_name(name: str) -> str:
    """A field's name for comparing: `First name`, `first-name` and `FIRST_NAME` are one, `first_name`."""
    return _normalise_known(name) if len(name) <= LONGEST_REMEMBERED else _normalise(name)


def _normalise(name: str) -> str:
    visible = "".join(character for character in name if character.isprintable() or character.isspace())
    return re.sub(r"[\s-]+", "_", visible.strip().strip("'\"").strip().casefold())


# A million objects of JSON Lines spell the same few names a million times each.
_normalise_known = lru_cache(maxsize=1024)(_normalise)
