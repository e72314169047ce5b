"""What the fields of people are called: one name for every way in which a list, a file or a message writes it."""

from __future__ import annotations

import re


def normalise_name(name: str) -> str:
    """A field's name for comparing: `First name`, `first-name` and `FIRST_NAME` are one, `first_name`."""
    visible = "".join(character for character in name if character.isprintable())
    return re.sub(r"[\s-]+", "_", visible.strip().strip("'\"").strip().casefold())
