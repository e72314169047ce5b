"""Short links of our own: `BASE/r/TOKEN`, one token a recipient and link.

A token says which plan, which person and which link, and proves that this database made it.  So nothing has to be
stored for each recipient, nothing can be guessed, and where a token leads is looked up in the store alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections import OrderedDict
from hmac import compare_digest
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATH: Final = "/r/"
KEY_BYTES: Final = 32
MARK_BYTES: Final = 8
# Links of one person's own, beside those that others get too: a message has room for a few hundred.
PERSONAL_BITS: Final = 10
MOST_PERSONAL: Final = 1 << PERSONAL_BITS
# Addresses whose numbers are remembered while a plan is made; one that is forgotten gets another number.
URLS_REMEMBERED: Final = 10_000
SAVED_AT_ONCE: Final = 1_000

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{15,54}")
_URL: Final = re.compile(r"https?://[^\s\x00-\x20\x7f<>\"]+", re.IGNORECASE)
_BIGGEST: Final = 2**63 - 1


# --- tokens --------------------------------------------------------------------------------------------------------


def make_token(key: bytes, plan_id: int, contact_id: int, number: int) -> str:
    """The token of one person's link: 15 characters for the smallest ids, 18 for the millionth person.

    It is a mark of 8 bytes over the three numbers, and then the numbers under a pad that is drawn from the mark, so
    that nobody reads ids out of a link.  The same numbers always give the same token.

    Why 8 bytes: a mark can only be tried by asking this server.  A thousand tries a second for a year meet a good one
    with a chance of 2^-29, and a hit is worth one click too many on a link that its sender has published.  Two tokens
    of equal marks would show how their numbers differ, and are not to be expected among fewer than 2^32.

    Raises: ValueError for ids below 1, and for the own link of somebody else.
    """
    if plan_id < 1 or contact_id < 1 or max(plan_id, contact_id, number) > _BIGGEST:
        raise ValueError("ids are whole numbers from 1 on")
    if number < 0:
        if owner_of(number) != contact_id:
            raise ValueError(f"link {number} belongs to another person")
        word = (-number & (MOST_PERSONAL - 1)) << 1 | 1
    else:
        word = number << 1
    plain = _pack(plan_id) + _pack(contact_id) + _pack(word)
    mark = hashlib.blake2b(plain, key=key, digest_size=MARK_BYTES, person=b"wa link mark").digest()
    return base64.urlsafe_b64encode(mark + _cover(key, mark, plain)).rstrip(b"=").decode("ascii")


def read_token(key: bytes, token: str) -> tuple[int, int, int] | None:
    """(plan id, contact id, number of the link), or None for what this key has not made.

    How long it takes says nothing about how near a forged one came: what was read is made again, and compared as a
    whole.  So there is one spelling of a token, too.
    """
    if _TOKEN.fullmatch(token) is None:
        return None
    try:
        sealed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError):
        return None
    mark, covered = sealed[:MARK_BYTES], sealed[MARK_BYTES:]
    numbers = _unpack(_cover(key, mark, covered))
    if numbers is None:
        return None
    plan_id, contact_id, word = numbers
    number = own_number(contact_id, word >> 1 & (MOST_PERSONAL - 1)) if word & 1 else word >> 1
    try:
        again = make_token(key, plan_id, contact_id, number)
    except ValueError:
        return None
    return (plan_id, contact_id, number) if compare_digest(again, token) else None


def own_number(contact_id: int, index: int) -> int:
    """The number of a person's own link, which nobody else gets: below 0.  index: from 0."""
    return -(contact_id << PERSONAL_BITS | index)


def owner_of(number: int) -> int | None:
    """Whose own link it is, or None for one that several people may get."""
    return -number >> PERSONAL_BITS if number < 0 else None


def own_numbers(contact_id: int) -> tuple[int, int]:
    """The first and the last of the numbers that a person's own links can have."""
    return own_number(contact_id, MOST_PERSONAL - 1), own_number(contact_id, 0)


def _cover(key: bytes, mark: bytes, words: bytes) -> bytes:
    """Words under the pad of this mark; doing it twice takes it off."""
    pad = hashlib.blake2b(mark, key=key, digest_size=max(len(words), 1), person=b"wa link pad").digest()
    return bytes(one ^ other for one, other in zip(words, pad, strict=False))


def _pack(number: int) -> bytes:
    """7 bits a byte, the lowest first; the top bit says that more follow."""
    packed = bytearray()
    while number > 0x7F:
        packed.append(number & 0x7F | 0x80)
        number >>= 7
    packed.append(number)
    return bytes(packed)


def _unpack(packed: bytes) -> tuple[int, int, int] | None:
    numbers = []
    number = shift = 0
    for byte in packed:
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            numbers.append(number)
            number = shift = 0
    return (numbers[0], numbers[1], numbers[2]) if len(numbers) == 3 and not shift else None


# --- making them ---------------------------------------------------------------------------------------------------


class Shortener:
    """Gives the links of one plan their numbers and each person their own tokens.

    The first person who gets an address gets it under a number of their own, and everybody after them under one that
    they share: so an address that only one person got, which may hold their name, can be forgotten with them.
    Whoever makes the plan stores what `take_new` gives, before anything is sent.
    """

    def __init__(
        self,
        base: str,
        key: bytes,
        plan_id: int,
        *,
        save: Callable[[list[tuple[int, str]]], None] | None = None,
    ) -> None:
        """base: where `wa serve` is reached from outside.

        save: stores some links, called whenever a thousand are new, so that a plan with an address for each of a
        million people needs no more memory; `finish` gives it the rest.
        Raises: UsageError for a base that would not work.
        """
        self._base = check_base(base)
        self._key = key
        self._plan_id = plan_id
        self._save = save
        self._numbers: OrderedDict[str, int] = OrderedDict()
        self._new: dict[int, str] = {}
        self._next_shared = 1

    def shorten_for(self, contact_id: int) -> Callable[[str], str]:
        """What makes a person's short link of an address.  Called once a person and plan.

        An address that is no http or https, or one of our own short links already, comes back as it is.
        """
        indexes: Iterator[int] = iter(range(MOST_PERSONAL))

        def shorten(url: str) -> str:
            if url not in self._numbers and (not may_lead_to(url) or url.startswith(self._base + PATH)):
                return url
            number = self._number_of(url, contact_id, indexes)
            return f"{self._base}{PATH}{make_token(self._key, self._plan_id, contact_id, number)}"

        return shorten

    def take_new(self) -> list[tuple[int, str]]:
        """(number, address) of the links that were numbered since the last call, for the store."""
        new = list(self._new.items())
        self._new.clear()
        return new

    def finish(self) -> None:
        """Store the links that were not stored yet."""
        if self._save is not None and self._new:
            self._save(self.take_new())

    def _number_of(self, url: str, contact_id: int, indexes: Iterator[int]) -> int:
        known = self._numbers.get(url)
        if known is not None and owner_of(known) in (None, contact_id):
            self._numbers.move_to_end(url)
            return known
        index = next(indexes, None) if known is None else None
        if index is None:
            number = self._next_shared
            self._next_shared += 1
        else:
            number = own_number(contact_id, index)
        self._numbers[url] = number
        self._numbers.move_to_end(url)
        if len(self._numbers) > URLS_REMEMBERED:
            self._numbers.popitem(last=False)
        self._new[number] = url
        if self._save is not None and len(self._new) >= SAVED_AT_ONCE:
            self._save(self.take_new())
        return number


def may_lead_to(url: str) -> bool:
    """Whether a short link may lead there: to a page of the web alone, without blanks and control characters."""
    if _URL.fullmatch(url) is None:
        return False
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def check_base(base: str) -> str:
    """The base without its last slash.

    Raises: UsageError for one that no phone could open safely: not https (but for this machine), with a query, a
    fragment or a password in it.
    """
    trimmed = base.strip().rstrip("/")
    hint = "the address under which `wa serve` is reached from outside, such as https://go.example.com"
    if not may_lead_to(trimmed):
        raise UsageError(f"'{base[:80]}' is no address for short links", hint=hint, code="short_links")
    parts = urlsplit(trimmed)
    if parts.query or parts.fragment or "?" in trimmed or "#" in trimmed or "@" in parts.netloc:
        raise UsageError(
            f"short links cannot be made under '{base[:80]}': it holds more than a host and a path",
            hint=hint,
            code="short_links",
        )
    if parts.scheme.lower() != "https" and not _is_loopback(parts.hostname or ""):
        raise UsageError(
            f"short links under '{base[:80]}' would travel in the open",
            hint=f"use https: {hint}",
            code="short_links",
        )
    return trimmed


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None
