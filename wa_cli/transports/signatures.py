"""Whether a body was signed by somebody who knows one of our secrets."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DIGEST_BYTES: Final[Mapping[str, int]] = {"sha256": 32, "sha512": 64}


def encode_keys(secrets: Sequence[str]) -> tuple[bytes, ...]:
    """The secrets as keys, without those that are empty: the old and the new one while it is changed."""
    return tuple(secret.encode("utf-8", "surrogatepass") for secret in secrets if secret)


def is_signed(body: bytes, told: str | None, *, keys: Sequence[bytes], algorithm: str) -> bool:
    """Whether `told` is the HMAC of these very bytes by one of the keys.  Takes the same time whichever fits, or none.

    told: the digest in hex, None where the header has none.  algorithm: `sha256` or `sha512`.
    """
    digest = bytes.fromhex(told) if told is not None else bytes(_DIGEST_BYTES[algorithm])
    fits = False
    for key in keys:  # all of them, so that the time says nothing of which one fits
        fits |= hmac.compare_digest(hmac.digest(key, body, algorithm), digest)
    return fits and told is not None
