"""Keys of the HTTP API: their digests, never the keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from wa_cli.domain.api_key import ApiKey, Scope
from wa_cli.errors import Conflict, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wa_cli.store.sqlite.database import Database

# In the order of `_api_key`.
COLUMNS: Final = "id, name, scopes, created_at, last_used_at, revoked_at"


class SqliteApiKeys:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, name: str, digest: bytes, scopes: Iterable[Scope], *, now_ms: int) -> ApiKey:
        """Store a new key.  Raises: Conflict when a key of that name is in use."""
        with self._database.write() as connection:
            if connection.execute("SELECT 1 FROM api_key WHERE name = ? AND revoked_at IS NULL", (name,)).fetchone():
                raise Conflict(
                    f"there is a key named '{name}' already",
                    hint=f"choose another name, or take that one back first: `wa serve key revoke {name}`",
                    code="key_exists",
                )
            cursor = connection.execute(
                "INSERT INTO api_key (name, digest, scopes, created_at) VALUES (?, ?, ?, ?)",
                (name, digest, " ".join(sorted(scopes)), now_ms),
            )
            row = connection.execute(f"SELECT {COLUMNS} FROM api_key WHERE id = ?", (cursor.lastrowid,)).fetchone()  # noqa: S608  # own words
        return _api_key(row)

    def find(self, digest: bytes) -> ApiKey | None:
        """The good key of that digest.  How long it takes says nothing about a key: its digest cannot be steered."""
        with self._database.read() as connection:
            row = connection.execute(
                f"SELECT {COLUMNS} FROM api_key WHERE digest = ? AND revoked_at IS NULL",  # noqa: S608  # own words
                (digest,),
            ).fetchone()
        return _api_key(row) if row else None

    def note_use(self, key_id: int, *, now_ms: int) -> None:
        with self._database.write() as connection:
            connection.execute("UPDATE api_key SET last_used_at = ? WHERE id = ?", (now_ms, key_id))

    def list_all(self) -> list[ApiKey]:
        """Every key there ever was, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(f"SELECT {COLUMNS} FROM api_key ORDER BY id").fetchall()  # noqa: S608  # own words
        return [_api_key(row) for row in rows]

    def count_good(self) -> int:
        with self._database.read() as connection:
            return int(connection.execute("SELECT count(*) FROM api_key WHERE revoked_at IS NULL").fetchone()[0])

    def revoke(self, name: str, *, now_ms: int) -> ApiKey:
        """Take a key back: from now on it opens nothing.  Raises: NotFound when no good key has that name."""
        with self._database.write() as connection:
            row = connection.execute(
                f"SELECT {COLUMNS} FROM api_key WHERE name = ? AND revoked_at IS NULL",  # noqa: S608  # own words
                (name,),
            ).fetchone()
            if row is None:
                raise NotFound(f"no key named '{name}' is in use", hint="`wa serve key list` shows them", code="no_key")
            connection.execute("UPDATE api_key SET revoked_at = ? WHERE id = ?", (now_ms, row[0]))
        return _api_key((*row[:5], now_ms))


def _api_key(row: tuple[Any, ...]) -> ApiKey:
    return ApiKey(
        id=row[0],
        name=row[1],
        scopes=frozenset(Scope(word) for word in row[2].split()),
        created_at_ms=row[3],
        last_used_at_ms=row[4],
        revoked_at_ms=row[5],
    )
