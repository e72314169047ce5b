"""Who of this machine is alive: a lock file for each process that sends, which the system drops when it dies."""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from filelock import BaseFileLock


def host_name() -> str:
    return socket.gethostname()


class Owner:
    """This process as a holder of leases.  The lock file lives from the first use of `token` until `close`."""

    def __init__(self, database_path: Path) -> None:
        self._database_path = database_path
        self._token = secrets.token_hex(6)
        self._lock: BaseFileLock | None = None

    @property
    def token(self) -> str:
        """The name under which this process holds leases; its lock is held from now on."""
        if self._lock is None:
            lock = _lock(self._database_path, self._token)
            lock.acquire(timeout=0)
            self._lock = lock
        return self._token

    def peek(self) -> str | None:
        """The token if this process has used it, without starting to."""
        return self._token if self._lock is not None else None

    def close(self) -> None:
        if self._lock is not None:
            # Remove the name while the lock is still held, so that nobody can lock a file that is about to vanish.
            _forget(self._database_path, self._token)
            self._lock.release()
            self._lock = None


def is_alive(database_path: Path, token: str) -> bool:
    """Whether the process behind a token of this machine still runs.  A stopped (not dead) process does."""
    from filelock import Timeout

    if not _lock_path(database_path, token).exists():
        return False
    lock = _lock(database_path, token)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    _forget(database_path, token)
    lock.release()
    return False


def list_living(database_path: Path) -> list[str]:
    """The tokens of the processes of this machine that send, queue or plan."""
    head, tail = f"{database_path.name}-owner-", ".lock"
    tokens = [
        path.name[len(head) : -len(tail)] for path in database_path.parent.glob("*.lock") if path.name.startswith(head)
    ]
    return [token for token in tokens if is_alive(database_path, token)]


def _lock_path(database_path: Path, token: str) -> Path:
    return database_path.with_name(f"{database_path.name}-owner-{token}.lock")


def _lock(database_path: Path, token: str) -> BaseFileLock:
    from filelock import FileLock

    return FileLock(_lock_path(database_path, token), mode=0o600, thread_local=False)


def _forget(database_path: Path, token: str) -> None:
    if os.name != "nt":  # an open file cannot be removed there; the next run finds it unlocked
        with suppress(OSError):
            _lock_path(database_path, token).unlink()
