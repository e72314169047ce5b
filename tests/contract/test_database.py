"""The file: made whole or not at all, refused when it is not ours, kept private, and its errors in our words."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest
from world import Worker, line, open_world

from wa_cli.errors import NotFound, StorageBroken, StorageError, StorageFull, Temporary
from wa_cli.store.sqlite import schema
from wa_cli.store.sqlite.database import BUSY_TIMEOUT_MS, Database, rename_error

if TYPE_CHECKING:
    from pathlib import Path

# Runs `work` and dies, as kill -9 would, at the n-th statement that SQLite is given.
DIE_AT_STATEMENT = """
import os, signal, sqlite3, sys
from pathlib import Path

path, left = Path(sys.argv[1]), int(sys.argv[2])

def count(_statement):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

connect = sqlite3.connect

def watched(*arguments, **options):
    connection = connect(*arguments, **options)
    connection.set_trace_callback(count)
    return connection

sqlite3.connect = watched
from wa_cli.store.sqlite.database import Database
Database.open(path, create=sys.argv[3] == "create").close()
print(left)
"""


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def describe(path: Path) -> list[tuple[str, str]]:
    """Every table, index and trigger of a file."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
    connection.close()
    return rows


def die_at(statement: int, path: Path, how: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", DIE_AT_STATEMENT, str(path), str(statement), how], capture_output=True, text=True
    )


def old_file(path: Path) -> None:
    """A file of ours from before the first version of the tables."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.execute("PRAGMA user_version = 0")
    connection.execute("CREATE TABLE keepsake (words TEXT)")
    connection.execute("INSERT INTO keepsake VALUES ('still here')")
    connection.close()


# --- making it -----------------------------------------------------------------------------------------------------


def test_a_new_file_is_complete_and_sound(tmp_path: Path) -> None:
    """Promise P10."""
    with open_world(tmp_path, on_disk=True) as world:
        assert world.find_faults() == []
        assert world.instances.find("default").transport == "cloud_api"
        assert len(world.database.read_install()) == 8
        pragmas = {
            name: world.database.connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "user_version", "application_id", "mmap_size")
        }
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "user_version": schema.SCHEMA_VERSION,
        "application_id": schema.APPLICATION_ID,
        "mmap_size": 0,
    }


def test_the_file_in_memory_has_the_same_tables(tmp_path: Path) -> None:
    """What the fast tests run on is the same store."""
    Database.open(tmp_path / "wa.db", create=True).close()
    database = Database.open_in_memory()
    with database.read() as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
    database.close()
    assert rows == describe(tmp_path / "wa.db")


@pytest.mark.skipif(os.name == "nt", reason="modes of files are POSIX")
def test_every_file_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    """Promise P11."""
    before = os.umask(0)
    try:
        with open_world(tmp_path / "new" / "folders", on_disk=True) as world:
            world.send_later("a")
            world.drain()
            modes = {path.name: path.stat().st_mode & 0o777 for path in world.folder.iterdir()}
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}
    assert {"wa.db", "wa.db-wal"} <= modes.keys()
    assert (tmp_path / "new" / "folders").stat().st_mode & 0o077 == 0


def test_a_missing_file_is_made_only_when_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        Database.open(tmp_path / "wa.db", create=False)
    assert "wa init" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_made_says_where_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError) as caught:
        Database.open(tmp_path / "file" / "wa.db", create=True)
    assert "--db" in str(caught.value.hint)


def test_two_processes_that_make_it_at_once_end_with_one_file(tmp_path: Path) -> None:
    """Fault 28."""
    path = tmp_path / "wa.db"
    found: list[str] = []

    def make() -> None:
        database = Database.open(path, create=True)
        found.append(database.read_install())
        database.close()

    threads = [threading.Thread(target=make) for _thread in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".new")] == []


@pytest.mark.parametrize("statement", [1, 2, 4, 9, 20, 33, 45, 55])
def test_a_process_killed_while_making_the_file_leaves_none_or_a_whole_one(tmp_path: Path, statement: int) -> None:
    """Fault 28; promise P10."""
    path = tmp_path / "wa.db"
    killed = die_at(statement, path, "create")
    assert killed.returncode == -signal.SIGKILL, "fewer statements than that: lower the number"
    database = Database.open(path, create=True)
    with database.read() as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
    assert describe(path) == describe_fresh(tmp_path)


def describe_fresh(folder: Path) -> list[tuple[str, str]]:
    fresh = folder / "fresh.db"
    Database.open(fresh, create=True).close()
    return describe(fresh)


@pytest.mark.parametrize("statement", [3, 6, 12, 25, 40, 50])
def test_a_migration_that_is_killed_leaves_the_old_tables_and_can_be_repeated(tmp_path: Path, statement: int) -> None:
    """Fault 28: old or new, never between."""
    path = tmp_path / "wa.db"
    old_file(path)
    before = describe(path)
    killed = die_at(statement, path, "migrate")
    assert killed.returncode == -signal.SIGKILL, "fewer statements than that: lower the number"
    assert describe(path) == before
    database = Database.open(path, create=False)
    with database.read() as connection:
        assert connection.execute("SELECT words FROM keepsake").fetchone() == ("still here",)
        assert schema.read_version(connection) == schema.SCHEMA_VERSION
    database.close()


# --- its versions --------------------------------------------------------------------------------------------------


def file_of_version(path: Path, version: int) -> sqlite3.Connection:
    """A file as a wa of that version made it, with nothing in it."""
    versions = {1: schema.VERSION_1, 2: schema.VERSION_2, 3: schema.VERSION_3, 4: schema.VERSION_4}
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.execute(
        "CREATE TABLE _sqlite_migrations (id INTEGER PRIMARY KEY, migration_set TEXT, name TEXT, applied_at TEXT)"
    )
    for number in range(1, version + 1):
        for statement in versions[number]:
            connection.execute(statement)
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('wa', ?, '')",
            (f"version_{number}",),
        )
    connection.execute("INSERT INTO instance (id, name, transport, created_at) VALUES (1, 'default', 'cloud_api', 0)")
    connection.execute("INSERT INTO meta (key, value) VALUES ('install', '0a1b2c3d')")
    return connection


def describe_in_one_line(path: Path) -> dict[str, str]:
    """The same without the layout of the words, and without what belongs to sqlite-utils."""
    return {name: "".join((sql or "").split()) for name, sql in describe(path) if "_sqlite_migrations" not in name}


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_a_file_of_every_version_comes_to_what_a_new_one_is(tmp_path: Path, version: int) -> None:
    """The tables are written down twice: as they are, and as they came to be."""
    file_of_version(tmp_path / "old.db", version).close()
    Database.open(tmp_path / "old.db", create=False).close()
    Database.open(tmp_path / "new.db", create=True).close()
    assert describe_in_one_line(tmp_path / "old.db") == describe_in_one_line(tmp_path / "new.db")


def test_a_new_file_counts_as_migrated(tmp_path: Path) -> None:
    """The next version's migration must not begin with the first."""
    Database.open(tmp_path / "wa.db", create=True).close()
    file_of_version(tmp_path / "old.db", 4).close()
    Database.open(tmp_path / "old.db", create=False).close()
    applied = []
    for name in ("wa.db", "old.db"):
        with sqlite3.connect(tmp_path / name) as connection:
            applied.append(connection.execute("SELECT migration_set, name FROM _sqlite_migrations").fetchall())
        connection.close()
    assert applied[0] == applied[1] != []


def test_the_fifth_version_keeps_every_row_and_every_check(tmp_path: Path) -> None:
    """Its checks are written out, and come to the same; another program that has the file open sees them, too."""
    path = tmp_path / "wa.db"
    connection = file_of_version(path, 4)
    connection.execute("INSERT INTO contact (id, address, kind, created_at) VALUES (1, '+6581230001', 'person', 0)")
    connection.execute("INSERT INTO content (id, hash, body) VALUES (1, x'00', '{}')")
    connection.execute(
        """INSERT INTO batch (id, kind, instance_id, created_at, start_at, delay_ms, priority, max_attempts, on_unknown)
        VALUES (1, 'to', 1, 0, 0, 0, 1, 3, 'hold')"""
    )
    connection.execute(
        """INSERT INTO message (id, instance_id, batch_id, contact_id, content_id, state, lane, due_at, scheduled_at,
        changed_at) VALUES (7, 1, 1, 1, 1, 'queued', 1, 0, 0, 0)"""
    )
    connection.execute(
        "INSERT INTO attempt (id, message_id, instance_id, contact_id, epoch, started_at) VALUES (1, 7, 1, 1, 1, 0)"
    )
    Database.open(path, create=False).close()
    assert connection.execute("SELECT id, state FROM message").fetchall() == [(7, "queued")]
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    steps = [row[1] for row in connection.execute("EXPLAIN UPDATE message SET state = 'sent' WHERE id = 7")]
    assert "OpenEphemeral" not in steps[steps.index("TypeCheck") :]  # a table in memory for each row
    for statement in (
        "UPDATE message SET state = 'lost'",
        "UPDATE message SET receipt = 'lost'",
        "UPDATE attempt SET outcome = 'lost'",
        "INSERT INTO receipt (status, provider_message_id, at, received_at, rule) VALUES ('lost', '', 0, 0, '')",
        "INSERT INTO webhook_logs (received_at, provider, is_signed, body, status) VALUES (0, '', 1, x'', 'lost')",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="CHECK constraint failed"):
            connection.execute(statement)
    connection.execute("UPDATE message SET state = 'sending', receipt = 'read'")
    connection.close()


def test_a_migration_that_fails_leaves_the_old_tables(tmp_path: Path) -> None:
    """Fault 28."""
    path = tmp_path / "wa.db"
    old_file(path)
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE caller_key (in_the_way TEXT)")
    connection.close()
    before = describe(path)
    with pytest.raises(StorageBroken):
        Database.open(path, create=False)
    assert describe(path) == before


# --- the log -------------------------------------------------------------------------------------------------------


def test_a_long_log_is_cut_although_others_write_all_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes much beside a sender would fill the disk: what comes while the log is folded in keeps it long."""
    monkeypatch.setattr("wa_cli.store.sqlite.database.CHECKPOINT_BYTES", 50_000)
    monkeypatch.setattr("wa_cli.store.sqlite.database.LONG_LOG_BYTES", 100_000)
    log = tmp_path / "wa.db-wal"
    with (
        closing(Database.open(tmp_path / "wa.db", create=True)) as sender,
        closing(Database.open(tmp_path / "wa.db", create=False)) as other,
    ):
        sender.may_checkpoint = True
        write_much(other)
        assert log.stat().st_size > 100_000
        sender.checkpoint()
        assert log.stat().st_size == 0
        write_much(other)
        with other.read() as connection:  # a reader keeps what it looks at, and the sender does not wait for it
            connection.execute("SELECT count(*) FROM meta").fetchone()
            sender.checkpoint()
            assert log.stat().st_size > 100_000
        assert sender.connection.execute("PRAGMA busy_timeout").fetchone()[0] == BUSY_TIMEOUT_MS
        sender.checkpoint()
        assert log.stat().st_size == 0


def write_much(database: Database) -> None:
    for number in range(40):
        with database.write() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"much {number}", "x" * 4_000))


# --- not ours ------------------------------------------------------------------------------------------------------


def test_a_file_of_a_newer_wa_is_refused_and_not_a_byte_is_changed(tmp_path: Path) -> None:
    """Fault 29."""
    path = tmp_path / "wa.db"
    Database.open(path, create=True).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    before = digest(path)
    for create in (True, False):
        with pytest.raises(StorageError) as caught:
            Database.open(path, create=create)
        assert caught.value.code == "storage_newer"
        assert caught.value.exit_code == 9
        assert f"schema {schema.SCHEMA_VERSION + 1}" in caught.value.message
    assert digest(path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["wa.db"]


def garbage(path: Path) -> None:
    path.write_bytes(b"these are not the bytes you are looking for" * 200)


def empty(path: Path) -> None:
    path.touch()


def other_database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE moz_places (id INTEGER)")
    connection.close()


def truncated(path: Path) -> None:
    Database.open(path, create=True).close()
    path.write_bytes(path.read_bytes()[:5_000])


def broken_header(path: Path) -> None:
    Database.open(path, create=True).close()
    path.write_bytes(b"SQLite format 9" + path.read_bytes()[15:])


@pytest.mark.parametrize("make", [garbage, empty, other_database, truncated, broken_header])
@pytest.mark.parametrize("create", [True, False])
def test_a_file_that_is_not_a_sound_database_of_ours_is_refused_and_left_alone(
    tmp_path: Path, make: object, create: bool
) -> None:
    """Fault 22: never recreated in silence."""
    path = tmp_path / "wa.db"
    make(path)  # type: ignore[operator]  # one of the functions above
    before = digest(path)
    with pytest.raises(StorageBroken) as caught:
        Database.open(path, create=create)
    assert caught.value.exit_code == 9
    assert caught.value.hint
    assert digest(path) == before


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        Database.open(tmp_path, create=True)
    assert "folder" in caught.value.message


# --- while it is used ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
def test_a_file_that_vanishes_under_a_sender_stops_it(tmp_path: Path, how: str) -> None:
    """Fault 23: no post goes out whose start nobody will ever find."""
    (tmp_path / "other").mkdir()
    with open_world(tmp_path / "other", on_disk=True):
        pass
    with open_world(tmp_path, on_disk=True) as world:
        world.send_later("a", "b", "c", delay_ms=2_000)
        worker = Worker(world)
        worker.run_for(2_500)
        path = world.database.path
        if how == "deleted":
            path.unlink()
        elif how == "moved":
            path.rename(tmp_path / "elsewhere.db")
        else:
            shutil.move(tmp_path / "other" / "wa.db", path)
        worker.run_for(60_000)
        assert world.transport.bodies == ["a", "b"]
        error = worker.task.exception()
        assert isinstance(error, StorageBroken)
        assert error.code == "storage_replaced"
        worker.end()
        if how == "deleted":
            assert not path.exists()


def test_a_transaction_that_raises_leaves_nothing(tmp_path: Path) -> None:
    with open_world(tmp_path, on_disk=True) as world:
        before = world.picture()
        with suppress(ZeroDivisionError), world.database.write() as connection:
            connection.execute("INSERT INTO contact (address, kind, created_at) VALUES ('+1', 'person', 0)")
            raise ZeroDivisionError
        assert world.picture() == before
        assert not world.database.connection.in_transaction


def test_another_connection_sees_a_commit_and_the_number_that_changes_with_it(tmp_path: Path) -> None:
    with open_world(tmp_path, on_disk=True) as world:
        other = Database.open(world.database.path, create=False)
        before = other.data_version()
        assert other.data_version() == before
        world.send_later("a")
        assert other.data_version() != before
        with other.read() as connection:
            assert connection.execute("SELECT count(*) FROM message").fetchone() == (1,)
        other.close()


def test_a_log_that_nobody_has_touched_for_a_while_is_known_without_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 3, point 3: what a daemon asks 25 times a second, all day long."""
    monkeypatch.setattr("wa_cli.store.sqlite.database.FILE_TIME_NS", 3_600 * 10**9)  # no step here takes an hour
    path = tmp_path / "wa.db"
    log = tmp_path / "wa.db-wal"
    ours, theirs = Database.open(path, create=True), Database.open(path, create=False)

    def write(number: int) -> None:
        with theirs.write() as connection:
            connection.execute("UPDATE meta SET value = ? WHERE key = 'install'", (str(number),))

    def grow_old(seconds: float) -> None:
        moment = log.stat().st_mtime - seconds
        os.utime(log, (moment, moment))

    write(1)
    assert not ours.is_log_untouched()
    assert not ours.is_log_untouched()  # a change this young may have a second one beside it
    grow_old(7_200)
    assert not ours.is_log_untouched()
    assert ours.is_log_untouched()
    assert ours.is_log_untouched()
    write(2)
    assert not ours.is_log_untouched()
    moment = log.stat().st_mtime
    assert not ours.is_log_untouched()
    write(3)
    os.utime(log, (moment, moment))  # a file system whose times are coarse
    assert not ours.is_log_untouched()
    ours.close()
    theirs.close()
    assert not log.exists()
    assert not ours.is_log_untouched()


def test_a_disk_that_is_full_is_said_to_be_full_and_nothing_is_half_written(tmp_path: Path) -> None:
    """Promise P1; fault 14: what was queued before is still there, what did not fit is not."""
    with open_world(tmp_path, on_disk=True) as world:
        world.send_later("before")
        pages = world.database.connection.execute("PRAGMA page_count").fetchone()[0]
        world.database.connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StorageFull) as caught:
            world.enqueue([line(number, f"words {number}" * 50) for number in range(1_500)])
        assert caught.value.exit_code == 9
        assert world.value("SELECT count(*) FROM message") == 1
        world.database.connection.execute("PRAGMA max_page_count = 1000000")
        assert len(world.enqueue([line(9, "after")])) == 1
        assert world.find_faults() == []


def test_what_was_committed_survives_a_kill_at_any_moment_after_it(tmp_path: Path) -> None:
    """Promise P1: the process is killed with its connection open, and the log was never folded in."""
    child = """
import os, signal, sys
from pathlib import Path
from wa_cli.store.sqlite.database import Database
database = Database.open(Path(sys.argv[1]), create=True)
with database.write() as connection:
    connection.execute("INSERT INTO contact (address, kind, created_at) VALUES ('+6590000001', 'person', 0)")
os.kill(os.getpid(), signal.SIGKILL)
"""
    path = tmp_path / "wa.db"
    killed = subprocess.run([sys.executable, "-c", child, str(path)])
    assert killed.returncode == -signal.SIGKILL
    database = Database.open(path, create=False)
    with database.read() as connection:
        assert connection.execute("SELECT address FROM contact").fetchall() == [("+6590000001",)]
    database.close()


# --- errors in our words -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind", "word", "exit_code"),
    [
        (sqlite3.SQLITE_BUSY, Temporary, "store_busy", 8),
        (sqlite3.SQLITE_LOCKED, Temporary, "store_busy", 8),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, Temporary, "store_busy", 8),
        (sqlite3.SQLITE_FULL, StorageFull, "storage_full", 9),
        (sqlite3.SQLITE_READONLY, StorageError, "storage_readonly", 9),
        (sqlite3.SQLITE_READONLY_DBMOVED, StorageError, "storage_readonly", 9),
        (sqlite3.SQLITE_CORRUPT, StorageBroken, "storage_broken", 9),
        (sqlite3.SQLITE_NOTADB, StorageBroken, "storage_broken", 9),
        (sqlite3.SQLITE_IOERR, StorageBroken, "storage_broken", 9),
        (sqlite3.SQLITE_IOERR_FSYNC, StorageBroken, "storage_broken", 9),
        (sqlite3.SQLITE_CANTOPEN, StorageError, "storage", 9),
        (sqlite3.SQLITE_MISUSE, StorageBroken, "storage_broken", 9),
    ],
)
def test_every_error_of_sqlite_has_a_name_an_exit_code_and_a_way_out(
    tmp_path: Path, code: int, kind: type, word: str, exit_code: int
) -> None:
    """Faults 14, 16, 17, 19, 21, 22."""
    error = sqlite3.OperationalError("said by SQLite")
    error.sqlite_errorcode = code
    error.sqlite_errorname = "SQLITE_SOMETHING"
    renamed = rename_error(error, tmp_path / "wa.db")
    assert type(renamed) is kind
    assert (renamed.code, renamed.exit_code) == (word, exit_code)
    assert renamed.hint
    assert str(tmp_path / "wa.db") in renamed.message


def test_the_numbers_of_the_status_are_kept_by_the_file_itself(tmp_path: Path) -> None:
    """Promise P13: whoever changes a state, the tally follows."""
    with open_world(tmp_path) as world:
        world.send_later("a", "b", "c", "d")
        world.execute("UPDATE message SET state = 'failed' WHERE id = 1")
        world.execute("UPDATE message SET receipt = 'read', state = 'sent' WHERE id = 2")
        world.execute("UPDATE message SET receipt = 'played' WHERE id = 2")
        world.execute("DELETE FROM live_key WHERE message_id = 3")
        world.execute("DELETE FROM message WHERE id = 3")
        kept = world.rows("SELECT state, receipt, n FROM tally WHERE n <> 0 ORDER BY state")
        assert kept == [("failed", "", 1), ("queued", "", 1), ("sent", "played", 1)]
