"""The file and its one connection: opening, transactions, and sqlite3's errors under our names."""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wa_cli.errors import NotFound, StorageBroken, StorageError, StorageFull, Temporary, WaError
from wa_cli.store.sqlite import schema

if TYPE_CHECKING:
    from collections.abc import Iterator

BUSY_TIMEOUT_MS: Final = 10_000
SHORTEST_WAIT_SECONDS: Final = 0.0005
LONGEST_WAIT_SECONDS: Final = 0.005
COMMITS_BETWEEN_LOOKS: Final = 32
# A long enqueue or import takes so many rows a transaction that others wait about so long for the file.
HELD_MS: Final = 30.0
MOST_ROWS: Final = 2_000  # 10 to 40 ms on an ordinary machine; from here on more rows a commit gain nothing
FEWEST_ROWS: Final = 250
# The time of a file's last change is coarse, 2 s on the coarsest file systems: one that is younger proves nothing,
# since a second change may have the same.
FILE_TIME_NS: Final = 2_000_000_000
CHECKPOINT_BYTES: Final = 4_000_000  # SQLite's own default: 1,000 pages
LONG_LOG_BYTES: Final = 64_000_000  # folding after every chunk made an import of a million rows a quarter slower
# SQLite before this version can, rarely, lose a WAL reset when two connections checkpoint at once.
SAFE_SQLITE_VERSION: Final = (3, 51, 3)


def rename_error(error: sqlite3.Error, path: Path) -> WaError:
    """The WaError that stands for a sqlite3 error."""
    code = getattr(error, "sqlite_errorcode", None) or 0
    primary = code & 0xFF
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Temporary(
            f"the database {path} is busy: another program has held it for {BUSY_TIMEOUT_MS // 1000} s",
            hint="try again; `wa status` shows who is sending",
            code="store_busy",
        )
    if primary == sqlite3.SQLITE_FULL:
        return StorageFull(
            f"no space left for the database {path}", hint="free some space on that disk, then run the same command"
        )
    if primary == sqlite3.SQLITE_READONLY:
        return StorageError(
            f"the database {path} cannot be written ({name})",
            hint="check who owns the file and its folder",
            code="storage_readonly",
        )
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StorageBroken(
            f"the file {path} is damaged or is not a wa database ({name})",
            hint="`wa db check` says more; restore a copy made by `wa db backup`",
        )
    if primary == sqlite3.SQLITE_IOERR:
        return StorageBroken(
            f"the disk refused to read or write {path} ({name})", hint="check the disk, its quota and its limits"
        )
    if primary == sqlite3.SQLITE_CANTOPEN:
        return StorageError(
            f"the database {path} cannot be opened ({name})", hint="check that its folder exists and is yours"
        )
    if isinstance(error, sqlite3.IntegrityError):
        return StorageBroken(f"the database {path} refused a row: {error}", hint="`wa db check`; this is a bug in wa")
    return StorageBroken(f"the database {path} failed: {error} ({name})", hint="`wa db check`")


class Database:
    """One connection to one wa database.  Used by one thread at a time.

    Every statement runs inside `read` or `write`, which rename sqlite3's errors.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.connection = connection
        self._identity = _file_identity(path)
        # SQLite has a rare race between writers that checkpoint: only one process does, the holder of a lease, or a
        # long enqueue while nobody holds one.  The last connection to close folds the rest in.
        self.may_checkpoint = False
        self._commits_until_look = COMMITS_BETWEEN_LOOKS
        self._log_mark: tuple[int, int] | None = None
        self.chunk_rows = MOST_ROWS
        self._held_ms = 0.0

    @classmethod
    def open(cls, path: Path, *, create: bool) -> Database:
        """Open the file, make it if `create`, bring it to our schema version.

        Raises: NotFound when it is missing and not to be made; StorageError family for everything else.
        """
        if not path.exists():
            if not create:
                raise NotFound(f"there is no database at {path}", hint="`wa init` creates it", code="no_database")
            _create_file(path)
        elif path.is_dir():
            raise StorageError(f"{path} is a folder, not a database", hint="give the file's name with --db")
        elif path.stat().st_size == 0:
            raise StorageBroken(
                f"the file {path} is empty: it is not a wa database any more",
                hint="restore a copy made by `wa db backup`, or delete the empty file to start anew",
            )
        try:
            connection = _connect(path)
            try:
                _check_and_migrate(connection, path)
                for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "mmap_size = 0"):
                    connection.execute(f"PRAGMA {pragma}").fetchone()
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise rename_error(error, path) from error
        return cls(path, connection)

    @classmethod
    def open_in_memory(cls) -> Database:
        """An empty database that vanishes with the process: for dry runs, and the fast store of the tests."""
        connection = _connect(":memory:")
        schema.migrate(connection, install=secrets.token_hex(4))
        connection.execute("PRAGMA foreign_keys = ON")
        return cls(Path(":memory:"), connection)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One durable transaction: committed to the disk when the block ends, rolled back when it raises."""
        connection = self.connection
        try:
            self._begin()
            began = time.perf_counter()
            try:
                yield connection
                connection.execute("COMMIT")
                self._held_ms = (time.perf_counter() - began) * 1000
            except BaseException:
                if connection.in_transaction:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise rename_error(error, self.path) from error
        if self.may_checkpoint:
            self._commits_until_look -= 1
            if self._commits_until_look <= 0:
                self.checkpoint()

    def note_chunk(self, rows: int) -> None:
        """The last transaction took in so many rows of many: `chunk_rows` says how many the next one should."""
        if rows:
            fitting = round(rows * HELD_MS / max(self._held_ms, 1.0))
            self.chunk_rows = min(max(fitting, FEWEST_ROWS, self.chunk_rows // 2), MOST_ROWS)

    def _begin(self) -> None:
        """Take the write lock, looking again within milliseconds while somebody else has it.

        SQLite's own waiting grows to 100 ms a look: two processes that write all the time would mostly sleep.
        """
        execute = self.connection.execute
        execute("PRAGMA busy_timeout = 0")
        try:
            wait, give_up_at = SHORTEST_WAIT_SECONDS, 0.0
            while True:
                try:
                    execute("BEGIN IMMEDIATE")
                    return
                except sqlite3.OperationalError as error:
                    now = time.monotonic()
                    give_up_at = give_up_at or now + BUSY_TIMEOUT_MS / 1000
                    if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or now >= give_up_at:
                        raise
                time.sleep(wait)
                wait = min(wait * 1.5, LONGEST_WAIT_SECONDS)
        finally:
            execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")

    def checkpoint(self) -> None:
        """Fold a long write-ahead log back into the file, if this process is the one that may."""
        self._commits_until_look = COMMITS_BETWEEN_LOOKS
        if self.may_checkpoint and self.is_log_longer_than(CHECKPOINT_BYTES):
            with suppress(sqlite3.Error):  # nothing depends on it: the next look tries again
                self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                if self.is_log_longer_than(LONG_LOG_BYTES):
                    self._cut_log()

    def _cut_log(self) -> None:
        """Fold the log in to its end and give its space back.

        Beside somebody who writes all the time it would grow for ever: what they write meanwhile is never folded in.
        Here they wait for it, which is little after a second look.  Nobody is waited for: the next look tries again.
        """
        self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self.connection.execute("PRAGMA busy_timeout = 0")
        try:
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            self.connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")

    def is_log_longer_than(self, size: int) -> bool:
        """Whether the write-ahead log has grown past so many bytes."""
        try:
            return self.path.with_name(self.path.name + "-wal").stat().st_size >= size
        except OSError:
            return False

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Statements that see one state of the file."""
        connection = self.connection
        try:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise rename_error(error, self.path) from error

    @contextmanager
    def write_temporary(self) -> Iterator[sqlite3.Connection]:
        """One state of the file, and writing to temporary tables alone: it waits for nobody, and nobody for it."""
        connection = self.connection
        connection.execute("BEGIN")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def read_install(self) -> str:
        """The random name of this database, part of every tag."""
        with self.read() as connection:
            return str(connection.execute("SELECT value FROM meta WHERE key = 'install'").fetchone()[0])

    def data_version(self) -> int:
        """A number that changes when another connection has committed.  Costs microseconds."""
        try:
            return int(self.connection.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error as error:
            raise rename_error(error, self.path) from error

    def is_log_untouched(self) -> bool:
        """Whether nobody can have committed anything since the last call.  A fifth of the price of `data_version`.

        False where that is not certain: after a change of late, or when the log cannot be looked at.
        """
        try:
            status = os.stat(f"{self.path}-wal")
        except OSError:
            self._log_mark = None
            return False
        seen, mark = self._log_mark, (status.st_mtime_ns, status.st_size)
        age_ns = time.time_ns() - status.st_mtime_ns
        self._log_mark = mark if age_ns > FILE_TIME_NS else None
        return mark == seen

    def check_still_there(self) -> None:
        """Raises: StorageBroken when the file was deleted or replaced since it was opened."""
        if _file_identity(self.path) != self._identity:
            raise StorageBroken(
                f"the database {self.path} was deleted or replaced while wa was using it",
                hint="stop wa, put the file back, start again",
                code="storage_replaced",
            )

    def close(self) -> None:
        self.connection.close()


def _connect(path: Path | str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.execute("PRAGMA cache_size = -16000")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


def _check_and_migrate(connection: sqlite3.Connection, path: Path) -> None:
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    if application_id != schema.APPLICATION_ID:
        raise StorageBroken(
            f"the file {path} is a SQLite database, but not one of wa's", hint="give another file with --db or WA_DB"
        )
    version = schema.read_version(connection)
    if version > schema.SCHEMA_VERSION:
        raise StorageError(
            f"the database {path} was written by a newer wa (schema {version}, this wa knows {schema.SCHEMA_VERSION})",
            hint="install the newer wa; nothing was changed",
            code="storage_newer",
        )
    if version < schema.SCHEMA_VERSION:
        schema.migrate(connection, install=secrets.token_hex(4))


def _create_file(path: Path) -> None:
    """Make a complete database beside its final name and link it there: no crash leaves half of one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        connection = sqlite3.connect(draft, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = DELETE").fetchone()
            connection.execute("PRAGMA synchronous = FULL")
            schema.migrate(connection, install=secrets.token_hex(4))
        finally:
            connection.close()
        _put_in_place(draft, path)
        _flush_folder(path.parent)
    except sqlite3.Error as error:
        raise rename_error(error, path) from error
    except OSError as error:
        raise StorageError(
            f"the database {path} cannot be created: {error.strerror}", hint="choose another place with --db or WA_DB"
        ) from error
    finally:
        with suppress(OSError):
            draft.unlink()


def _put_in_place(draft: Path, path: Path) -> None:
    try:
        os.link(draft, path)  # refuses to replace a file, unlike a rename
    except FileExistsError:
        return  # another process was faster: its file is as good
    except OSError:
        # Some file systems of memory sticks know no links.
        if not path.exists():
            draft.replace(path)


def _flush_folder(folder: Path) -> None:
    """The new name survives a power cut only once its folder is on the disk."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _file_identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
