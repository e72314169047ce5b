"""Local files that messages carry: their bytes beside the database under their digest, and what providers keep of them.

A file is whole and on the disk before its row is there, and the row before any message that needs it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Final

from wa_cli.domain.message import LocalFile
from wa_cli.errors import StorageError, StorageFull, UsageError
from wa_cli.store.sqlite.database import Database

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

CHUNK_BYTES: Final = 1024 * 1024
DAY_MS: Final = 86_400_000
# A message that was taken may still be reported as failed, and be sent again.
NEEDED_FOR_DAYS: Final = 30

KEEP: Final = """
    INSERT INTO media_file (digest, name, mime_type, size, added_at) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET added_at = excluded.added_at
"""
# Whether a message that may still be posted, or a plan that may still be let go, carries the file of this mark.
IS_NEEDED: Final = """
    WITH carrying AS MATERIALIZED (SELECT id FROM content WHERE instr(body, :mark) > 0)
    SELECT EXISTS (SELECT 1 FROM message WHERE content_id IN (SELECT id FROM carrying) {spared}
            AND (state IN ('queued', 'sending', 'unknown', 'failed') OR due_at > :since))
        OR EXISTS (SELECT 1 FROM plan_line WHERE content_id IN (SELECT id FROM carrying)
            AND plan_id IN (SELECT id FROM plan WHERE applied_at IS NULL OR created_at > :since))
"""
# A file is looked for in the words of every message: in a large database that takes its time, and the sender waits.
SWEEP_SECONDS: Final = 0.2


class SqliteMedia:
    """The files of one database.  `read` may be called from any thread; the rest as the database itself."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.folder = folder_of(database.path)

    def keep(self, path: Path, *, name: str, mime_type: str, size: int, now_ms: int) -> LocalFile:
        """Take the bytes of a file in: from now on nothing that happens to it matters.

        size: as it was seen.  Raises: UsageError when it has changed since; StorageError when it cannot be written.
        """
        draft = self.folder / f".{os.getpid()}-{secrets.token_hex(6)}.new"
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            try:
                digest = self._copy(path, draft, name=name, size=size)
                final = self.folder / digest
                # Under the lock of the database: what is swept away meanwhile is not what was just taken in.
                with self._database.write() as connection:
                    if final.exists():
                        draft.unlink()
                    else:
                        draft.replace(final)
                        _flush_folder(self.folder)
                    connection.execute(KEEP, (digest, name, mime_type, size, now_ms))
            finally:
                with suppress(OSError):
                    draft.unlink()
        except OSError as error:
            raise _rename_error(error, self.folder) from error
        return LocalFile(digest=digest, mime_type=mime_type, size=size)

    def _copy(self, path: Path, draft: Path, *, name: str, size: int) -> str:
        digest = hashlib.sha256()
        copied = 0
        try:
            source = _open_plain(path)
        except OSError as error:
            raise _changed(name) from error
        with source, open(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as out:
            while chunk := source.read(CHUNK_BYTES):
                copied += len(chunk)
                if copied > size:
                    raise _changed(name)
                digest.update(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        if copied != size:
            raise _changed(name)
        return digest.hexdigest()

    def read(self, file: LocalFile) -> bytes:
        """The bytes of a file.  Raises: UsageError (code `file_missing`) when it is gone or no longer the same."""
        try:
            data = (self.folder / file.digest).read_bytes()
        except OSError as error:
            raise _missing("the message's file is not there any more") from error
        if hashlib.sha256(data).hexdigest() != file.digest:
            raise _missing("the message's file was changed on the disk")
        return data

    def list_damaged(self) -> tuple[int, list[str]]:
        """How many files there should be, and the digests of those that are missing or have another size."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT digest, size FROM media_file ORDER BY digest").fetchall()
        damaged = []
        for digest, size in rows:
            try:
                is_whole = (self.folder / digest).stat().st_size == size
            except OSError:
                is_whole = False
            if not is_whole:
                damaged.append(digest)
        return len(rows), damaged

    def sweep(self, *, now_ms: int, seconds: float = SWEEP_SECONDS) -> int:
        """Delete files that no message needs any more: none waits, is unknown or has failed, none was due within 30
        days, and no plan that may be let go has one.  Each is looked at once a day, some at a call.

        seconds: about how long a call may take.  Returns how many were deleted.
        """
        deleted = 0
        ends_at = time.monotonic() + seconds
        while (oldest := self._find_oldest(before_ms=now_ms - DAY_MS)) is not None:
            digest, added_at_ms, is_needed = oldest
            with self._database.write() as connection:
                if is_needed:
                    connection.execute("UPDATE media_file SET added_at = ? WHERE digest = ?", (now_ms, digest))
                # Whoever needs it from now on takes it in once more, and that is seen here.
                elif connection.execute(
                    "DELETE FROM media_file WHERE digest = ? AND added_at = ?", (digest, added_at_ms)
                ).rowcount:
                    connection.execute("DELETE FROM media_upload WHERE digest = ?", (digest,))
                    with suppress(OSError):
                        (self.folder / digest).unlink()
                    deleted += 1
            if time.monotonic() > ends_at:
                break
        return deleted

    def _find_oldest(self, *, before_ms: int) -> tuple[str, int, bool] | None:
        """(digest, when it was last known to be needed, whether it is) of one that has not been looked at since."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT digest, added_at FROM media_file WHERE added_at < ? ORDER BY added_at LIMIT 1", (before_ms,)
            ).fetchone()
            if row is None:
                return None
            is_needed = _is_needed(connection, row[0], now_ms=before_ms + DAY_MS)
        return str(row[0]), int(row[1]), is_needed

    def count_idle(self, *, now_ms: int, without: str, seconds: float) -> int:
        """How many files `sweep` would delete in that time if the messages in that table of ids were gone."""
        ends_at = time.monotonic() + seconds
        with self._database.read() as connection:
            digests = connection.execute(
                "SELECT digest FROM media_file WHERE added_at < ?", (now_ms - DAY_MS,)
            ).fetchall()
        count = 0
        for (digest,) in digests:
            with self._database.read() as connection:
                count += not _is_needed(connection, digest, now_ms=now_ms, without=without)
            if time.monotonic() > ends_at:
                break
        return count

    def copy_to(self, target: Path) -> int:
        """Copy every file into a folder, which is made; what is there already stays.  Returns how many there are."""
        with self._database.read() as connection:
            digests = [row[0] for row in connection.execute("SELECT digest FROM media_file")]
        if not digests:
            return 0
        copied = 0
        try:
            target.mkdir(mode=0o700, exist_ok=True)
            for digest in digests:
                source, final = self.folder / digest, target / digest
                if not source.exists():
                    continue  # `wa db check` says so
                if not final.exists():
                    draft = target / f".{os.getpid()}-{secrets.token_hex(6)}.new"
                    with (
                        source.open("rb") as bytes_in,
                        open(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as out,
                    ):
                        shutil.copyfileobj(bytes_in, out, CHUNK_BYTES)
                        out.flush()
                        os.fsync(out.fileno())
                    draft.replace(final)
                copied += 1
            _flush_folder(target)
        except OSError as error:
            raise _rename_error(error, target) from error
        return copied

    def uploads(self, instance_id: int) -> SqliteUploads:
        """What the provider of an instance keeps of our files."""
        return SqliteUploads(self._database.path, instance_id)


class SqliteUploads:
    """Uploads of one instance.  Each call opens a connection of its own: senders ask from threads of theirs, seldom."""

    def __init__(self, path: Path, instance_id: int) -> None:
        self._path = path
        self._instance_id = instance_id

    def find(self, digest: str, *, now_ms: int) -> str | None:
        """The provider's id of a file that it still keeps, or None."""
        database = Database.open(self._path, create=False)
        try:
            with database.read() as connection:
                row = connection.execute(
                    "SELECT media_id FROM media_upload WHERE instance_id = ? AND digest = ?"
                    " AND (expires_at IS NULL OR expires_at > ?)",
                    (self._instance_id, digest, now_ms),
                ).fetchone()
        finally:
            database.close()
        return None if row is None else str(row[0])

    def save(self, digest: str, media_id: str, *, now_ms: int, expires_at_ms: int | None) -> None:
        self._write(
            "INSERT OR REPLACE INTO media_upload (instance_id, digest, media_id, uploaded_at, expires_at)"
            " VALUES (?, ?, ?, ?, ?)",
            (self._instance_id, digest, media_id, now_ms, expires_at_ms),
        )

    def forget(self, digest: str) -> None:
        """The provider does not know it any more."""
        self._write("DELETE FROM media_upload WHERE instance_id = ? AND digest = ?", (self._instance_id, digest))

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        database = Database.open(self._path, create=False)
        try:
            with database.write() as connection:
                connection.execute(statement, values)
        finally:
            database.close()


def _is_needed(connection: sqlite3.Connection, digest: str, *, now_ms: int, without: str | None = None) -> bool:
    """See IS_NEEDED.  without: a table of ids of messages that do not count."""
    spared = f"AND id NOT IN (SELECT id FROM {without})" if without else ""  # noqa: S608  # own words
    values = {"mark": f'"file":["{digest}"', "since": now_ms - NEEDED_FOR_DAYS * DAY_MS}
    return bool(connection.execute(IS_NEEDED.format(spared=spared), values).fetchone()[0])


def folder_of(database: Path) -> Path:
    """Where the files of a database are: beside it, under its name."""
    return database.with_name(f"{database.name}.media")


def hash_file(path: Path, *, name: str, mime_type: str, size: int) -> LocalFile:
    """What `keep` would return, without taking anything in: for a dry run.  Raises: as `keep`."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise _changed(name) from error
    return LocalFile(digest=digest.hexdigest(), mime_type=mime_type, size=size)


def _open_plain(path: Path) -> BinaryIO:
    """Open a file that has just been looked at.  Raises: OSError when it has become a link or a pipe since."""
    more = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, os.O_RDONLY | more)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("no file any more")
    return os.fdopen(descriptor, "rb")


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename_error(error: OSError, folder: Path) -> StorageError:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"no space left in {folder}", hint="free some space on that disk, then run the same command")
    return StorageError(
        f"files cannot be kept in {folder}: {(error.strerror or 'unknown reason').lower()}",
        hint="check who owns the folder",
    )


def _changed(name: str) -> UsageError:
    return UsageError(f"the file '{name}' was changed while it was read", hint="try again", code="media_file")


def _missing(message: str) -> UsageError:
    return UsageError(message, hint="send it again with the file, which is taken in anew", code="file_missing")
