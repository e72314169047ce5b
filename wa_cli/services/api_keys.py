"""Keys of the HTTP API: making one, and finding out whose key a caller holds."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, Protocol

from wa_cli.domain.api_key import LONGEST_KEY, PREFIX, check_key_name, digest_key, read_scopes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wa_cli.domain.api_key import ApiKey, Scope

KEY_BYTES: Final = 32
# How exactly the last use is remembered: a write a minute and key, not one a request.
USE_STEP_MS: Final = 60_000


class ApiKeys(Protocol):
    def add(self, name: str, digest: bytes, scopes: Iterable[Scope], *, now_ms: int) -> ApiKey: ...

    def find(self, digest: bytes) -> ApiKey | None: ...

    def note_use(self, key_id: int, *, now_ms: int) -> None: ...


def make_key(keys: ApiKeys, name: str, scopes: Iterable[str], *, now_ms: int) -> tuple[str, ApiKey]:
    """A new key and what is stored of it.  The key itself exists in the answer alone.

    Raises: UsageError for a name or a scope that cannot be; Conflict when the name is in use.
    """
    chosen = read_scopes(scopes)
    check_key_name(name)
    key = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    return key, keys.add(name, digest_key(key), chosen, now_ms=now_ms)


def find_key(keys: ApiKeys, key: str, *, now_ms: int) -> ApiKey | None:
    """Whose key it is, or None for one that was never made or was taken back."""
    if not key.startswith(PREFIX) or len(key) > LONGEST_KEY:
        return None
    found = keys.find(digest_key(key))
    if found is not None and (found.last_used_at_ms is None or now_ms - found.last_used_at_ms >= USE_STEP_MS):
        keys.note_use(found.id, now_ms=now_ms)
    return found
