"""Who may use the HTTP API: a key, what it is called, and what its holder may do."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX: Final = "wak_"
# Well above what `new_key` makes, and far below what would cost anything to hash.
LONGEST_KEY: Final = 200


class Scope(StrEnum):
    """What a key is good for."""

    SEND = "send"
    READ = "read"
    WORKER = "worker"


# A key without --scope: what a program needs that sends and looks; running the queue has to be said.
DEFAULT_SCOPES: Final = frozenset((Scope.SEND, Scope.READ))


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is stored: its digest stands for it.  revoked_at_ms: None while it is good."""

    id: int
    name: str
    scopes: frozenset[Scope]
    created_at_ms: int
    last_used_at_ms: int | None = None
    revoked_at_ms: int | None = None


def digest_key(key: str) -> bytes:
    """What is stored of a key: SHA-256, 32 bytes.  The key holds 256 random bits, so no salt is needed."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def check_key_name(text: str) -> str:
    """The name of a key.  Raises: UsageError for what could not be told apart in a log line."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", text, re.ASCII):
        raise UsageError(
            "the name of a key has 1 to 64 letters, digits, dots, dashes and underscores",
            hint="call it after the program that uses it, like shop or cron",
            code="key_name",
        )
    return text


def read_scopes(words: Iterable[str]) -> frozenset[Scope]:
    """The scopes that the words name; the default ones for none.  Raises: UsageError for another word."""
    chosen = frozenset(words)
    unknown = sorted(chosen - set(Scope))
    if unknown:
        raise UsageError(f"there is no scope '{unknown[0]}'", hint=f"one of: {', '.join(Scope)}", code="scope")
    return frozenset(Scope(word) for word in chosen) or DEFAULT_SCOPES
