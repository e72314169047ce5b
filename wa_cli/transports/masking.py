"""Takes secrets, whole phone numbers and control characters out of words that came from outside."""

from __future__ import annotations

import re
import unicodedata

MAX_DETAILS_CHARS = 500

# Seven digits or more, however they are grouped, is read as a phone number: a masked error code costs little.
_NUMBER = re.compile(r"\+?\d(?:[ ().\-\u00a0/]{0,2}\d){6,}")
_LONGEST_NUMBER = 60  # fifteen digits with two separators between each, and some more
# A message id of Meta's is base64 with the recipient's number inside.
_WAMID = re.compile(r"wamid\.[A-Za-z0-9+/=_\-]*")
_TOKEN = re.compile(r"\bEAA[A-Za-z0-9]{8,}|(?<=[Bb]earer )\S+")
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def mask(words: str, *, secrets: tuple[str, ...] = (), limit: int = MAX_DETAILS_CHARS) -> str:
    """One safe line: secrets gone, numbers cut to their last four digits, at most `limit` characters.

    Control, format (bidirectional) and unassigned characters become spaces; runs of spaces become one.
    """
    for secret in secrets:
        if secret:
            words = words.replace(secret, "[secret]")
    # Cut before the patterns run, so that a megabyte of answer costs no more than a line of it; four times
    # the limit, since what is masked grows shorter.
    was_cut = len(words) > limit * 4
    words = words[: limit * 4]
    words = "".join(" " if unicodedata.category(letter) in _UNSEEN else letter for letter in words)
    words = _TOKEN.sub("[secret]", words)
    words = _WAMID.sub("[message id]", words)
    words = _NUMBER.sub(_mask_number, words)
    if was_cut:
        words = words[:-_LONGEST_NUMBER]  # the cut may have left too little of a number to be known as one
    words = " ".join(words.split())
    return words if len(words) <= limit else words[: limit - 1] + "…"


def _mask_number(found: re.Match[str]) -> str:
    digits = [letter for letter in found[0] if letter.isdigit()]
    return "…" + "".join(digits[-4:])
