"""`wa db`: its place, its soundness, copies of it."""

from __future__ import annotations

import hashlib
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from stored import ACCEPTED, ADA, BEN, UNREADABLE, enqueue, send, start_all, take_lease

from wa_cli.bootstrap import back_up, open_app
from wa_cli.store.sqlite.schema import SCHEMA_VERSION
from wa_cli.store.sqlite.upkeep import find_file_system, judge_file_system

if TYPE_CHECKING:
    from conftest import Wa

    from wa_cli.bootstrap import App


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def change(wa: Wa, *statements: str) -> None:
    """Alter the file behind wa's back."""
    with closing(sqlite3.connect(wa.db, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for statement in statements:
            connection.execute(statement)


def failed_checks(wa: Wa) -> dict[str, str]:
    result = wa("db", "check", "--json")
    document = result.json()
    assert (result.exit == 0) == document["ok"]
    assert result.exit in (0, 9)
    return {check["name"]: check["message"] for check in document["checks"] if check["level"] == "fail"}


# --- path and migrate ---


def test_the_path_is_printed_even_when_nothing_is_there(wa: Wa) -> None:
    assert wa("db", "path").out == f"{wa.db}\n"
    assert wa("db", "path", "--json").json() == {"path": str(wa.db), "exists": False}
    assert not wa.db.exists()


def test_migrate_names_both_versions_and_is_repeatable(wa: Wa, app: App) -> None:
    for _time in range(2):
        document = wa("db", "migrate", "--json").json()
        assert document == {"path": str(wa.db), "from": SCHEMA_VERSION, "to": SCHEMA_VERSION, "migrated": False}


def test_a_newer_schema_is_refused_and_left_byte_for_byte(wa: Wa, app: App) -> None:
    """Fault 29."""
    app.close()
    change(wa, "PRAGMA user_version = 99")
    before = hashlib.sha256(wa.db.read_bytes()).digest()
    for command in (("db", "migrate"), ("db", "check"), ("status",), ("doctor", "--offline")):
        result = wa(*command)
        assert result.exit == 9
        assert "schema 99" in result.err + result.out
    assert hashlib.sha256(wa.db.read_bytes()).digest() == before


# --- check ---


def test_a_database_in_use_is_sound(wa: Wa, app: App) -> None:
    """Promise P10."""
    send(app, ADA, outcome=ACCEPTED)
    send(app, BEN, outcome=UNREADABLE)
    enqueue(app, ADA, text="later", in_ms=60_000)
    result = wa("db", "check")
    assert result.exit == 0
    assert "fail" not in result.out
    assert failed_checks(wa) == {}


@pytest.mark.parametrize(
    ("statement", "check", "words"),
    [
        ('UPDATE content SET body = \'{"type":"text","body":"hullo"}\'', "contents", "checksums"),
        ("DELETE FROM attempt", "states", "without an acceptance: m1"),
        ("UPDATE message SET state = 'failed' WHERE id = 1", "states", "not shown as sent: m1"),
        ("UPDATE message SET state = 'unknown' WHERE id = 2", "states", "without the attempt that made it so: m2"),
        ("UPDATE message SET state = 'sending' WHERE id = 2", "states", "without exactly one start: m2"),
        ("UPDATE attempt SET outcome = NULL", "states", "never finished"),
        ("UPDATE tally SET n = n + 1 WHERE state = 'sent'", "tally", "sent"),
        ("INSERT INTO run_tally VALUES (7, 'sent', '', 1)", "run_tally", "of their messages: run 7"),
        ("DELETE FROM contact WHERE id = 1", "foreign_keys", "contact that is gone"),
        ("UPDATE message SET receipt = 'seen' WHERE id = 1", "integrity", "CHECK constraint failed"),
        ("UPDATE live_key SET message_id = 77", "states", "named by a key and missing: m77"),
    ],
)
def test_what_does_not_fit_together_is_found_and_named(
    wa: Wa, app: App, statement: str, check: str, words: str
) -> None:
    """Promises P3, P4, P10, P13; fault 22 (a text that was changed)."""
    send(app, ADA, outcome=ACCEPTED)
    enqueue(app, BEN, in_ms=60_000)
    change(wa, statement)
    found = failed_checks(wa)
    assert words in found[check]


def test_a_message_left_by_a_dead_process_is_no_damage(wa: Wa, app: App) -> None:
    """Promise P10: the file is sound after a kill; the next command that looks turns the message unknown."""
    enqueue(app, ADA)
    other = open_app(app.settings, create=False)
    start_all(other, take_lease(other))
    assert wa("db", "check").exit == 0
    other.close()
    result = wa("db", "check", "--json")
    assert result.exit == 0
    assert [check["name"] for check in result.json()["checks"] if check["level"] == "warn"] == ["sending"]


@pytest.mark.parametrize("damage", ["empty", "not_a_database", "header", "page", "truncated"])
def test_a_damaged_file_is_refused_and_never_made_anew(wa: Wa, app: App, damage: str) -> None:
    """Fault 22."""
    for number in range(30):
        enqueue(app, ADA, BEN, text=f"words {number} " * 50, in_ms=60_000)
    app.close()
    content = bytearray(wa.db.read_bytes())
    page = 4096
    match damage:
        case "empty":
            content.clear()
        case "not_a_database":
            content[:] = b"people,numbers\n" * 1000
        case "header":
            content[0:16] = b"\0" * 16
        case "page":
            for start in range(page * 2, len(content) - page, page):
                content[start : start + 64] = b"\xff" * 64
        case _:
            del content[len(content) // 2 :]
    wa.db.write_bytes(content)
    result = wa("db", "check")
    assert result.exit == 9
    assert "Traceback" not in result.err
    assert wa("doctor", "--offline").exit == 9
    assert wa.db.read_bytes()[:100] == bytes(content[:100])


# --- backup ---


def test_a_backup_is_whole_private_and_alone(wa: Wa, app: App) -> None:
    """Faults 26, 85."""
    send(app, ADA, outcome=ACCEPTED)
    target = wa.folder / "copy.db"
    answer = wa("db", "backup", target, "--json").json()
    assert answer["path"] == str(target)
    assert answer["bytes"] == target.stat().st_size
    assert mode(target) == 0o600
    assert sorted(path.name for path in wa.folder.iterdir() if "copy" in path.name) == ["copy.db"]
    assert target.read_bytes()[18:20] == b"\1\1"  # no write-ahead log: readable from a disk that cannot be written
    assert wa("db", "check", "--db", target).exit == 0
    assert wa("status", "--json", "--db", target).json()["stats"]["sent"] == 1


def test_without_a_name_the_backup_is_put_beside_the_database_with_its_date(wa: Wa, app: App) -> None:
    result = wa("db", "backup")
    (copy,) = wa.folder.glob("wa-backup-*.db")
    assert result.out == f"{copy}\n"
    assert len(copy.stem) == len("wa-backup-20260101-120000")


def test_a_backup_never_replaces_a_file_unasked(wa: Wa, app: App) -> None:
    target = wa.write("copy.db", "something of mine")
    refused = wa("db", "backup", target, "--json")
    assert refused.exit == 2
    assert refused.error()["code"] == "file_exists"
    assert target.read_text() == "something of mine"
    assert wa("db", "backup", target, "--force").exit == 0
    assert wa("db", "check", "--db", target).exit == 0


@pytest.mark.parametrize("name", ["wa.db", "wa.db-wal", "./wa.db", "link.db"])
def test_a_backup_onto_the_database_itself_is_refused_even_with_force(wa: Wa, app: App, name: str) -> None:
    (wa.folder / "link.db").symlink_to(wa.db)
    result = wa("db", "backup", name, "--force")
    assert result.exit == 2
    assert "the database itself" in result.err
    assert wa("db", "check").exit == 0


def test_a_backup_that_cannot_be_written_leaves_nothing_behind(wa: Wa, app: App) -> None:
    result = wa("db", "backup", wa.folder / "no" / "such" / "folder.db")
    assert result.exit == 9
    assert wa("db", "backup", wa.folder).exit == 2
    assert not list(wa.folder.glob("*.new"))


def test_backups_taken_while_others_write_are_each_one_moment_of_the_file(wa: Wa, app: App) -> None:
    """Fault 26: a hundred copies beside a busy writer; every one adds up."""
    enough = threading.Event()

    def write() -> None:
        with closing(open_app(app.settings, create=False)) as writer:
            number = 0
            while not enough.is_set():
                number += 1
                send(writer, ADA, BEN, outcome=ACCEPTED, text=f"t{number}")

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for _number in range(100):
            target = wa.folder / "copy.db"
            back_up(app.database, target, force=True)
            with closing(sqlite3.connect(target)) as copy:
                assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                (counted,) = copy.execute("SELECT count(*) FROM message").fetchone()
                (tally,) = copy.execute("SELECT ifnull(sum(n), 0) FROM tally").fetchone()
                assert counted == tally
    finally:
        enough.set()
        writing.join()
    assert counted > 0


# --- where the file is ---


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/ada/wa.db", "ext4"),
        ("/mnt/share/wa.db", "nfs4"),
        ("/mnt/my share/wa.db", "cifs"),
        ("/mnt2/wa.db", "ext4"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(path: str, kind: str) -> None:
    mounts = "/dev/a / ext4 rw 0 0\nhost:/x /mnt/share nfs4 rw 0 0\n//host/y /mnt/my\\040share cifs rw 0 0\n"
    assert find_file_system(Path(path), mounts) == kind


@pytest.mark.parametrize(
    ("kind", "level"),
    [("nfs4", "fail"), ("fuse.sshfs", "fail"), ("9p", "fail"), ("tmpfs", "warn"), ("overlay", "warn"), ("ext4", "ok")],
)
def test_a_file_system_that_two_machines_share_is_a_fault(kind: str, level: str) -> None:
    """Fault 24."""
    assert judge_file_system(kind).level == level
