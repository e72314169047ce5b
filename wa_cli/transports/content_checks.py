"""What no transport takes, whatever its platform: broken letters, empty words, links that lead nowhere public."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from wa_cli.domain.message import count_units
from wa_cli.ports import Problem

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

MAX_LINK_BYTES = 2048  # ours: what proxies and browsers agree on
_NUMERIC = re.compile(r"\d+|0x[0-9a-f]*", re.ASCII)
_BROKEN_TEXT = re.compile(r"[\x00\ud800-\udfff]")
_LOCAL_ENDINGS = ("localhost", ".localhost", ".local", ".internal", ".lan", ".home.arpa", ".test", ".invalid")


def check_letters(what: str, text: str) -> Problem | None:
    """what: is called so in the message, such as `the caption`."""
    found = _BROKEN_TEXT.search(text)
    if found is None:
        return None
    name = "a NUL character" if found[0] == "\x00" else "half of a character (a lone surrogate)"
    return Problem(
        message=f"{what} holds {name} at position {found.start() + 1}",
        hint="save the source as UTF-8 and type that place again",
    )


def check_not_blank(what: str, text: str, hint: str) -> Problem | None:
    """hint: what to do about it."""
    # Not strip(): a text of zero-width characters alone is as empty to its reader.
    if any(letter.isprintable() and not letter.isspace() for letter in text):
        return None
    return Problem(message=f"{what} is empty", hint=hint)


def check_length(what: str, text: str, limit: int) -> Problem | None:
    """limit: in UTF-16 units."""
    if 2 * len(text) <= limit:  # most texts: a campaign asks this for each of a million people
        return None
    units = count_units(text)
    over = units - limit
    if over <= 0:
        return None
    noun = "character" if over == 1 else "characters"
    verb = "are" if what.startswith("all ") else "is"
    return Problem(
        message=f"{what} {verb} {over:,} {noun} too long: {units:,} of {limit:,}",
        hint="shorten it; an emoji counts as two or more",
    )


@lru_cache(maxsize=256)  # a campaign's people mostly get the same file
def check_link(what: str, link: str) -> Problem | None:
    """A public https link, as far as its words say.  Looks nothing up."""
    hint = "give an https:// link that anyone can open without logging in"
    if (problem := check_letters(what, link)) is not None:
        return problem
    try:
        parts = urlsplit(link)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return Problem(message=f"{what} is not a URL", hint=hint)
    if parts.scheme.lower() != "https" or not host:
        if parts.scheme.lower() == "http":
            return Problem(message=f"{what} is plain http, and WhatsApp fetches media over TLS only", hint=hint)
        return Problem(message=f"{what} is not a link that WhatsApp can fetch", hint=hint)
    if re.search(r"[\s\x00-\x1f\x7f]", link):
        return Problem(message=f"{what} holds a blank or a control character", hint="write a blank as %20")
    if parts.username is not None or parts.password is not None:
        return Problem(message=f"{what} holds a user or a password", hint=hint)
    if len(link.encode("utf-8")) > MAX_LINK_BYTES:
        over = len(link.encode("utf-8")) - MAX_LINK_BYTES
        return Problem(message=f"{what} is {over} bytes too long (at most {MAX_LINK_BYTES})", hint=hint)
    if is_private(host):
        return Problem(message=f"{what} points into a private network, where WhatsApp cannot fetch it", hint=hint)
    return None


def is_private(host: str) -> bool:
    """Whether a host is plainly not on the public internet, however it is spelt.  Looks nothing up (fault 76)."""
    import ipaddress

    # What a resolver makes of full-width digits and the full stops of other scripts.
    host = unicodedata.normalize("NFKC", host).replace("\u3002", ".").rstrip(".").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # No name ends in a number: what does is an address in octal, in hexadecimal, or with parts left out.
        ending = host.rpartition(".")[2]
        return "." not in host or "%" in host or host.endswith(_LOCAL_ENDINGS) or bool(_NUMERIC.fullmatch(ending))
    if isinstance(address, ipaddress.IPv6Address):
        address = _find_inner(address)
    return not address.is_global or address.is_multicast


def _find_inner(address: IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one leads to, or the address itself."""
    import ipaddress

    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and int(address) >> 32 in (0, 0x64FF9B << 64):  # ::a.b.c.d, and NAT64's 64:ff9b::a.b.c.d
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return inner or address
