"""Looking after the file: is it sound, is it where it should be, a copy of it, and what went through it of late."""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import stat
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wa_cli.domain.finding import FIX_CALL, FIX_MACHINE, Finding, fail, ok, warn
from wa_cli.domain.message import content_hash, format_message_id
from wa_cli.errors import NotFound, StorageBroken, StorageError, UsageError, WaError
from wa_cli.store.sqlite import pruned
from wa_cli.store.sqlite.database import Database, rename_error
from wa_cli.store.sqlite.media import SqliteMedia
from wa_cli.store.sqlite.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wa_cli.domain.kept_report import KeptReport

STORE: Final = "store"
LARGE_WAL_BYTES: Final = 64 * 1024 * 1024  # fault 20: a reader keeps the log from being folded in
LOW_DISK_BYTES: Final = 200 * 1024 * 1024
NO_DISK_BYTES: Final = 10 * 1024 * 1024
NAMED_AT_MOST: Final = 5
CONTENTS_A_LOOK: Final = 5_000
RESTORE: Final = "stop wa and put back a copy made by `wa db backup`"

# WAL needs shared memory between the processes, which these do not give across machines.
NETWORK_FILE_SYSTEMS: Final = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ncpfs", "ceph", "glusterfs", "lustre", "beegfs", "virtiofs")
)
NETWORK_FUSE: Final = ("fuse.sshfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.gcsfuse", "fuse.ceph")
# What lives only as long as a container or the machine's power.
PASSING_FILE_SYSTEMS: Final = frozenset(("overlay", "tmpfs", "ramfs", "aufs"))

# --- what must hold between the tables, beyond what their own constraints say ---

# P3: shown as sent, and nobody ever accepted it.
SENT_UNPROVED: Final = """
    SELECT id FROM message WHERE state = 'sent' AND NOT EXISTS
        (SELECT 1 FROM attempt WHERE attempt.message_id = message.id AND outcome IN ('accepted', 'marked_sent'))
"""
# P3: shown as not sent, although it was accepted.
ACCEPTED_DENIED: Final = """
    SELECT DISTINCT message.id FROM attempt JOIN message ON message.id = attempt.message_id
    WHERE attempt.outcome IN ('accepted', 'marked_sent')
        AND message.state IN ('queued', 'failed', 'expired', 'cancelled')
"""
# P4: unknown without the attempt that made it so.
UNKNOWN_UNPROVED: Final = """
    SELECT id FROM message WHERE state = 'unknown' AND NOT EXISTS
        (SELECT 1 FROM attempt WHERE attempt.message_id = message.id AND outcome = 'ambiguous')
"""
SENDING_WITHOUT_START: Final = """
    SELECT id FROM message WHERE state = 'sending' AND 1 <>
        (SELECT count(*) FROM attempt WHERE attempt.message_id = message.id AND outcome IS NULL)
"""
START_WITHOUT_END: Final = """
    SELECT DISTINCT message.id FROM attempt JOIN message ON message.id = attempt.message_id
    WHERE attempt.outcome IS NULL AND message.state <> 'sending'
"""
WRONG_INSTANCE: Final = """
    SELECT message.id FROM message JOIN batch ON batch.id = message.batch_id
    WHERE message.instance_id <> batch.instance_id AND batch.pool_id IS NULL
        AND NOT EXISTS (SELECT 1 FROM decision WHERE decision.message_id = message.id AND rule = 'moved')
"""
KEY_WITHOUT_MESSAGE: Final = """
    SELECT message_id FROM live_key WHERE message_id NOT IN (SELECT id FROM message)
"""
RULES: Final = (
    (SENT_UNPROVED, "shown as sent without an acceptance"),
    (ACCEPTED_DENIED, "accepted once, and yet not shown as sent"),
    (UNKNOWN_UNPROVED, "unknown without the attempt that made it so"),
    (SENDING_WITHOUT_START, "being sent without exactly one start"),
    (START_WITHOUT_END, "started and never finished, and yet not being sent"),
    (WRONG_INSTANCE, "in a batch of another instance"),
    (KEY_WITHOUT_MESSAGE, "named by a key and missing"),
)

# Somebody's last word was to leave, and yet they may be written to.  Who is also known by an earlier number is left
# out: what was said there may be younger.
OPT_OUT_LOST: Final = """
    SELECT contact.id FROM contact WHERE opted_out_at IS NULL AND erased_at IS NULL
        AND id IN (SELECT contact_id FROM consent WHERE change = 'opt_out')
        AND (SELECT change FROM consent WHERE contact_id = contact.id ORDER BY at DESC, change = 'opt_out' DESC LIMIT 1)
            = 'opt_out'
        AND NOT EXISTS (SELECT 1 FROM contact_alias
            WHERE contact_alias.contact_id = contact.id AND alias >= 'moved:' AND alias < 'moved;')
"""
# Nothing of an erased person may be left, and nothing may still be on its way to them.
ERASED_BADLY: Final = """
    SELECT contact.id FROM contact WHERE erased_at IS NOT NULL AND (opted_out_at IS NULL OR name IS NOT NULL
        OR attributes IS NOT NULL OR address <> 'erased:' || id
        OR EXISTS (SELECT 1 FROM contact_alias WHERE contact_alias.contact_id = contact.id)
        OR EXISTS (SELECT 1 FROM consent WHERE consent.contact_id = contact.id))
"""
PEOPLE_RULES: Final = (
    (OPT_OUT_LOST, "opted out by the ledger, and yet may be written to", "wa contact opt-out RECIPIENT"),
    (ERASED_BADLY, "erased, and yet something of them is left", "wa contact erase RECIPIENT"),
)

RUN_TALLY: Final = "SELECT run_id, state, receipt, n FROM run_tally WHERE n <> 0 ORDER BY 1, 2, 3"
RUN_COUNTS: Final = """
    SELECT run_id, state, ifnull(receipt, ''), count(*) FROM message WHERE run_id IS NOT NULL
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
TALLY: Final = "SELECT instance_id, state, receipt, n FROM tally WHERE n <> 0 ORDER BY 1, 2, 3"
COUNTS: Final = """
    SELECT instance_id, state, ifnull(receipt, ''), count(*) FROM message GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""

# A campaign's state against its runs, its pauses against what is held, and rows that nothing refers to any more.
CAMPAIGN_RULES: Final = (
    (
        """SELECT DISTINCT campaign.name FROM campaign JOIN run ON run.campaign_id = campaign.id
        WHERE run.state = 'running' AND campaign.state NOT IN ('scheduled', 'running', 'paused')""",
        "has a run that goes on, and yet is not running",
    ),
    (
        """SELECT DISTINCT campaign.name FROM campaign JOIN run ON run.campaign_id = campaign.id
            JOIN batch ON batch.run_id = run.id
        WHERE campaign.state IN ('paused', 'cancelled') AND run.state IN ('running', 'cancelled')
            AND batch.released_at IS NOT NULL AND batch.held_at IS NULL""",
        "is stopped, and yet not all of it is held",
    ),
    (
        """SELECT DISTINCT campaign.name FROM campaign JOIN run ON run.campaign_id = campaign.id
            JOIN batch ON batch.run_id = run.id AND batch.held_at IS NOT NULL
        WHERE campaign.state IN ('scheduled', 'running') AND run.state = 'running' AND batch.held_reason <> 'canary'""",
        "goes on, and yet a part of it is held",
    ),
    (
        """SELECT DISTINCT campaign.name FROM message CROSS JOIN batch ON batch.id = message.batch_id
            CROSS JOIN run ON run.id = message.run_id CROSS JOIN campaign ON campaign.id = run.campaign_id
        WHERE message.run_id IS NOT NULL AND batch.run_id IS NOT NULL AND batch.run_id <> message.run_id""",
        "has a message in a batch of another run",
    ),
    (
        """SELECT DISTINCT campaign.name FROM message CROSS JOIN run ON run.id = message.run_id
            CROSS JOIN campaign ON campaign.id = run.campaign_id
        WHERE message.run_id IS NOT NULL AND
            (run.first_message_id IS NULL OR message.id NOT BETWEEN run.first_message_id AND run.last_message_id)""",
        "has a message outside the range of its run",
    ),
    (
        """SELECT DISTINCT 'plan ' || plan_id FROM plan_part WHERE plan_id NOT IN (SELECT id FROM plan)
        UNION SELECT DISTINCT 'plan ' || plan_id FROM link WHERE plan_id NOT IN (SELECT id FROM plan)""",
        "is gone, and yet something of it is left",
    ),
)

RECENT: Final = """
    SELECT ifnull(sum(outcome = 'accepted'), 0),
        ifnull(sum(outcome = 'accepted' AND started_at >= :hour), 0),
        ifnull(sum(outcome IN ('rejected', 'not_sent', 'ambiguous') AND started_at >= :hour), 0),
        ifnull(sum(started_at >= :minute), 0)
    FROM attempt WHERE id >= :first AND instance_id = :instance AND started_at >= :since
"""


# The changes of a connection since then that led away from ready.
DISCONNECTS: Final = """
    SELECT count(*) FROM instance_event AS lost
    WHERE instance_id = ?1 AND at >= ?2 AND kind = 'state' AND word <> 'ready'
        AND (SELECT word FROM instance_event AS earlier
            WHERE earlier.instance_id = ?1 AND earlier.kind = 'state' AND earlier.id < lost.id
            ORDER BY earlier.id DESC LIMIT 1) = 'ready'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Posts of one instance in moving windows that end now.  Source: row H12.

    failures_1h: attempts that were refused, could not leave or ended unknown.  started_1m: all that began.
    disconnects_1h: how often its device was ready and then no longer.
    """

    sent_24h: int
    sent_1h: int
    failures_1h: int
    started_1m: int
    disconnects_1h: int = 0


class SqliteUpkeep:
    def __init__(self, database: Database) -> None:
        self._database = database

    def check(self, *, is_held: Callable[[int], bool]) -> Iterator[Finding]:
        """Look at everything in the file; takes seconds for a million messages, and changes nothing.

        is_held: whether anybody alive sends for an instance, by its id.
        """
        yield from self.check_pages(whole=True)
        for look in (
            self._check_rules,
            self._check_people,
            self._check_tally,
            self._check_run_tally,
            self._check_campaigns,
            self._check_contents,
            self._check_media,
        ):
            yield from self._survive(look)
        yield from self._survive(lambda: self._check_sending(is_held))

    def check_pages(self, *, whole: bool) -> Iterator[Finding]:
        """SQLite's own checks.  whole: the indexes too."""
        yield from self._survive(lambda: self._check_integrity("integrity_check" if whole else "quick_check"))
        yield from self._survive(self._check_foreign_keys)

    def _survive(self, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
        """A page that cannot be read is a finding, and the other checks go on."""
        try:
            yield from look()
        except WaError as error:
            yield fail(STORE, "readable", error.message, error.hint, exit_code=error.exit_code)

    def _check_integrity(self, pragma: str) -> Iterator[Finding]:
        with self._database.read() as connection:
            lines = [str(row[0]) for row in connection.execute(f"PRAGMA {pragma}({NAMED_AT_MOST})")]
        if lines == ["ok"]:
            yield ok(STORE, "integrity", "every page is sound")
            return
        for line in lines:
            yield fail(STORE, "integrity", f"SQLite finds: {' '.join(line.split())}", RESTORE, exit_code=FIX_MACHINE)

    def _check_foreign_keys(self) -> Iterator[Finding]:
        with self._database.read() as connection:
            rows = connection.execute("PRAGMA foreign_key_check").fetchmany(NAMED_AT_MOST)
        if not rows:
            yield ok(STORE, "foreign_keys", "every row points at rows that exist")
        for table, row_id, parent, _number in rows:
            message = f"row {row_id} of table {table} points at a row of {parent} that is gone"
            yield fail(STORE, "foreign_keys", message, RESTORE, exit_code=FIX_MACHINE)

    def _check_rules(self) -> Iterator[Finding]:
        findings = []
        with self._database.read() as connection:
            for statement, what in RULES:
                ids = [int(row[0]) for row in connection.execute(statement).fetchmany(1_000)]
                if ids:
                    message = f"{_count(len(ids), 1_000)} {what}: {_name(ids)}"
                    hint = f"`wa message explain {format_message_id(ids[0])}`"
                    findings.append(fail(STORE, "states", message, hint, exit_code=FIX_MACHINE))
        yield from findings or [ok(STORE, "states", "every state is one its history allows")]

    def _check_people(self) -> Iterator[Finding]:
        findings = []
        with self._database.read() as connection:
            for statement, what, fix in PEOPLE_RULES:
                ids = [int(row[0]) for row in connection.execute(statement).fetchmany(1_000)]
                if ids:
                    who = "1 person is" if len(ids) == 1 else f"{len(ids)} people are"
                    rows = ", ".join(map(str, ids[:NAMED_AT_MOST]))
                    findings.append(fail(STORE, "people", f"{who} {what}: contact {rows}", fix, exit_code=FIX_MACHINE))
            (opted_out,) = connection.execute(
                "SELECT count(*) FROM contact WHERE opted_out_at IS NOT NULL AND erased_at IS NULL"
            ).fetchone()
        yield from findings or [ok(STORE, "people", f"nobody is written to who has opted out ({opted_out} have)")]

    def _check_tally(self) -> Iterator[Finding]:
        with self._database.read() as connection:
            kept = connection.execute(TALLY).fetchall()
            counted = connection.execute(COUNTS).fetchall()
        if kept == counted:
            yield ok(STORE, "tally", f"the numbers of `wa status` add up: {sum(row[3] for row in counted)} messages")
            return
        wrong = sorted({row[1] for row in set(kept) ^ set(counted)})
        message = f"the numbers of `wa status` are not those of the messages: {', '.join(wrong)}"
        yield fail(STORE, "tally", message, RESTORE, exit_code=FIX_MACHINE)

    def _check_run_tally(self) -> Iterator[Finding]:
        """The ledgers of campaigns (promise P13)."""
        with self._database.read() as connection:
            kept = connection.execute(RUN_TALLY).fetchall()
            counted = connection.execute(RUN_COUNTS).fetchall()
            reports = {run_id: pruned.find_report(connection, run_id) for run_id in pruned.list_runs(connection)}
        runs = {row[0] for row in set(kept) ^ set(counted)} - reports.keys()
        runs |= {run_id for run_id, report in reports.items() if not _adds_up(run_id, report, kept, counted)}
        if not runs:
            messages = sum(row[3] for row in kept)
            yield ok(STORE, "run_tally", f"the ledgers of campaigns add up: {messages} messages")
            return
        message = f"the counts of campaigns are not those of their messages: {_count_runs(sorted(runs))}"
        yield fail(STORE, "run_tally", message, RESTORE, exit_code=FIX_MACHINE)

    def _check_campaigns(self) -> Iterator[Finding]:
        """A campaign's state against its runs, and what is held against its pauses."""
        findings = []
        with self._database.read() as connection:
            for statement, what in CAMPAIGN_RULES:
                names = [str(row[0]) for row in connection.execute(statement).fetchmany(NAMED_AT_MOST)]
                if names:
                    message = f"{', '.join(names)} {what}"
                    findings.append(fail(STORE, "campaigns", message, RESTORE, exit_code=FIX_MACHINE))
            (campaigns,) = connection.execute("SELECT count(*) FROM campaign").fetchone()
        yield from findings or [ok(STORE, "campaigns", f"the states of {campaigns} campaigns are those of their runs")]

    def _check_contents(self) -> Iterator[Finding]:
        damaged: list[int] = []
        last = looked_at = 0
        while True:
            with self._database.read() as connection:
                rows = connection.execute(
                    "SELECT id, hash, body FROM content WHERE id > ? ORDER BY id LIMIT ?", (last, CONTENTS_A_LOOK)
                ).fetchall()
            if not rows:
                break
            last, looked_at = rows[-1][0], looked_at + len(rows)
            damaged += [row[0] for row in rows if content_hash(row[2]) != row[1]]
        if not damaged:
            yield ok(STORE, "contents", f"{looked_at} texts match their checksums")
            return
        numbers = ", ".join(map(str, damaged[:NAMED_AT_MOST]))
        message = f"{len(damaged)} texts no longer match their checksums and will not be sent: content {numbers}"
        yield fail(STORE, "contents", message, RESTORE, exit_code=FIX_MACHINE)

    def _check_media(self) -> Iterator[Finding]:
        media = SqliteMedia(self._database)
        total, damaged = media.list_damaged()
        if damaged:
            message = f"{len(damaged)} of {total} files that messages carry are missing or damaged in {media.folder}"
            yield fail(STORE, "media", message, "put the folder back from a backup", exit_code=FIX_MACHINE)
        elif total:
            yield ok(STORE, "media", f"{total} files that messages carry are there")

    def _check_sending(self, is_held: Callable[[int], bool]) -> Iterator[Finding]:
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT instance_id, count(*) FROM message WHERE state = 'sending' GROUP BY instance_id"
            ).fetchall()
        left = sum(count for instance_id, count in rows if not is_held(instance_id))
        if left:
            message = f"{left} messages were being sent by a process that is gone"
            yield warn(
                STORE, "sending", message, "`wa status` turns them into unknown ones, `wa reconcile` settles those"
            )
        else:
            yield ok(
                STORE, "sending", f"{sum(row[1] for row in rows)} messages are on their way, each with a living sender"
            )

    # --- looking back ---

    def read_counters(self, instance_id: int, *, now_ms: int) -> Counters:
        """What the instance did in the last minute, hour and day."""
        since = now_ms - 86_400_000
        with self._database.read() as connection:
            row = connection.execute(
                RECENT,
                {
                    "first": first_attempt_since(connection, since),
                    "instance": instance_id,
                    "since": since,
                    "hour": now_ms - 3_600_000,
                    "minute": now_ms - 60_000,
                },
            ).fetchone()
            (disconnects,) = connection.execute(DISCONNECTS, (instance_id, now_ms - 3_600_000)).fetchone()
        return Counters(
            sent_24h=row[0], sent_1h=row[1], failures_1h=row[2], started_1m=row[3], disconnects_1h=disconnects
        )

    def read_starts(self, instance_id: int, *, since_ms: int) -> list[tuple[int, int]]:
        """(contact id, started at) of the instance's attempts since then, oldest first."""
        with self._database.read() as connection:
            return connection.execute(
                """SELECT contact_id, started_at FROM attempt
                WHERE id >= ? AND instance_id = ? AND started_at >= ? ORDER BY id""",
                (first_attempt_since(connection, since_ms), instance_id, since_ms),
            ).fetchall()

    def read_depths(self) -> dict[int, tuple[int, int]]:
        """How many messages wait and how many are on their way, by instance id."""
        with self._database.read() as connection:
            rows = connection.execute(
                """SELECT instance_id, sum(n * (state = 'queued')), sum(n * (state = 'sending'))
                FROM tally GROUP BY instance_id"""
            ).fetchall()
        return {instance_id: (waiting, sending) for instance_id, waiting, sending in rows}

    def count_undismissed(self, *, most: int) -> int:
        """Failed messages that nobody has dismissed; counting stops at `most`."""
        with self._database.read() as connection:
            row = connection.execute(
                """SELECT count(*) FROM
                    (SELECT 1 FROM message WHERE state = 'failed' AND reason IS NOT 'dismissed' LIMIT ?)""",
                (most,),
            ).fetchone()
        return int(row[0])

    def last_accepted_at_ms(self) -> int | None:
        """When a post of the last thousand was accepted last, or None."""
        with self._database.read() as connection:
            row = connection.execute(
                """SELECT max(started_at) FROM (SELECT started_at, outcome FROM attempt ORDER BY id DESC LIMIT 1000)
                WHERE outcome = 'accepted'"""
            ).fetchone()
        return None if row[0] is None else int(row[0])

    def read_doubles(self, *, since_ms: int) -> list[int]:
        """Messages that went out twice, as receipts proved since then; the newest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                """SELECT message_id FROM decision WHERE rule = 'proven_duplicate' AND at >= ?
                ORDER BY message_id DESC""",
                (since_ms,),
            ).fetchall()
        return [message_id for (message_id,) in rows]

    def read_held_templates(self, *, now_ms: int) -> list[tuple[str, str, int | None, str]]:
        """(name, language, until or None, reason) of the templates that the platform does not take now."""
        with self._database.read() as connection:
            rows: list[tuple[str, str, int | None, str]] = connection.execute(
                """SELECT name, language, until, reason FROM template_hold WHERE until IS NULL OR until > ?
                ORDER BY since DESC""",
                (now_ms,),
            ).fetchall()
        return rows

    def count_conversations(self, *, since_ms: int) -> int:
        """People who have written to one of our instances since then."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT count(DISTINCT contact_id) FROM conversation WHERE last_inbound_at > ?", (since_ms,)
            ).fetchone()
        return int(row[0])

    def newest_at_ms(self) -> int | None:
        """The latest moment at which this file was certainly written to, or None for an empty one."""
        with self._database.read() as connection:
            row = connection.execute(
                """SELECT max(
                    ifnull((SELECT started_at FROM attempt ORDER BY id DESC LIMIT 1), 0),
                    ifnull((SELECT created_at FROM batch ORDER BY id DESC LIMIT 1), 0),
                    ifnull((SELECT max(acquired_at) FROM lease), 0),
                    ifnull((SELECT max(created_at) FROM instance), 0))"""
            ).fetchone()
        return int(row[0]) or None

    def read_schema_version(self) -> int:
        with self._database.read() as connection:
            return int(connection.execute("PRAGMA user_version").fetchone()[0])


def first_attempt_since(connection: sqlite3.Connection, since_ms: int) -> int:
    """The id of the first attempt that started then or later.

    Attempts are numbered in the order they start, so a few steps of halving find it without an index on time.
    """
    # Each in a query of its own: asked for together they cost a scan of the whole table.
    low, high = connection.execute(
        "SELECT ifnull((SELECT min(id) FROM attempt), 1), ifnull((SELECT max(id) FROM attempt), 0) + 1"
    ).fetchone()
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(
            "SELECT started_at FROM attempt WHERE id >= ? ORDER BY id LIMIT 1", (middle,)
        ).fetchone()
        if row is None or row[0] >= since_ms:
            high = middle
        else:
            low = middle + 1
    return int(low)


def _adds_up(
    run_id: int,
    report: KeptReport | None,
    kept: list[tuple[int, str, str, int]],
    counted: list[tuple[int, str, str, int]],
) -> bool:
    """Whether the counts of a run whose messages were pruned are as many as it had, and no fewer than are left."""
    counts = {(state, receipt): n for run, state, receipt, n in kept if run == run_id}
    left = {(state, receipt): n for run, state, receipt, n in counted if run == run_id}
    return (
        report is not None
        and sum(counts.values()) == report.messages
        and all(0 <= n <= counts.get(place, 0) for place, n in left.items())
    )


def _count(number: int, most: int) -> str:
    return "1 message is" if number == 1 else f"{number}{' or more' if number >= most else ''} messages are"


def _count_runs(ids: list[int]) -> str:
    named = ", ".join(map(str, ids[:NAMED_AT_MOST]))
    return f"run {named}" if len(ids) == 1 else f"{len(ids)} runs, such as {named}"


def _name(ids: list[int]) -> str:
    rest = f" and {len(ids) - NAMED_AT_MOST} more" if len(ids) > NAMED_AT_MOST else ""
    return ", ".join(format_message_id(one) for one in ids[:NAMED_AT_MOST]) + rest


# --- the file from outside ---


def inspect_surroundings(path: Path, *, is_own_folder: bool) -> list[Finding]:
    """The file's size, its rights, its disk.  is_own_folder: the folder holds nothing but wa's files."""
    findings = [_check_modes(path, is_own_folder=is_own_folder), _check_disk(path), _check_wal(path)]
    with suppress(OSError):
        kind = find_file_system(path, Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace"))
        findings.append(judge_file_system(kind))
    return findings


def _check_modes(path: Path, *, is_own_folder: bool) -> Finding:
    if os.name == "nt":
        return ok(STORE, "modes", "rights are those of the folder")
    open_files = [file for file in (path, *_companions(path)) if _mode(file) & 0o077]
    if open_files:
        names = " ".join(str(file) for file in open_files)
        return warn(STORE, "modes", "others on this computer may read the database", f"chmod 600 {names}")
    if _mode(path.parent) & (0o077 if is_own_folder else 0o022):
        message = f"others may {'look into' if is_own_folder else 'put files into'} the folder {path.parent}"
        return warn(STORE, "modes", message, f"chmod {'700' if is_own_folder else 'go-w'} {path.parent}")
    return ok(STORE, "modes", "only you can read the database")


def _companions(path: Path) -> Iterator[Path]:
    yield from (path.with_name(path.name + ending) for ending in ("-wal", "-shm"))


def _mode(path: Path) -> int:
    try:
        status = path.stat()
    except OSError:
        return 0
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
        return stat.S_IMODE(status.st_mode) & ~0o022  # as in /tmp: others may add files, not replace ours
    return stat.S_IMODE(status.st_mode)


def _check_disk(path: Path) -> Finding:
    free = shutil.disk_usage(path.parent).free
    words = f"{free // (1024 * 1024)} MB are free on the disk of the database"
    if free < NO_DISK_BYTES:
        return fail(
            STORE, "disk", words, "free some space: nothing is sent that cannot be recorded", exit_code=FIX_MACHINE
        )
    if free < LOW_DISK_BYTES:
        return warn(STORE, "disk", words, "free some space before a large send")
    return ok(STORE, "disk", words)


def _check_wal(path: Path) -> Finding:
    wal = path.with_name(path.name + "-wal")
    size = wal.stat().st_size if wal.exists() else 0
    if size > LARGE_WAL_BYTES:
        message = f"the write-ahead log has grown to {size // (1024 * 1024)} MB: some program keeps reading the file"
        return warn(STORE, "wal", message, "close other programs that have the database open")
    return ok(STORE, "wal", f"the write-ahead log holds {size // 1024} KB")


def find_file_system(path: Path, mounts: str) -> str | None:
    """The type of the file system a path is on, by the lines of /proc/mounts."""
    best, kind = "", None
    target = f"{path.absolute()}/"
    for line in mounts.splitlines():
        words = line.split()
        if len(words) < 3:
            continue
        place = words[1].encode().decode("unicode_escape").rstrip("/") + "/"
        if target.startswith(place) and len(place) >= len(best):
            best, kind = place, words[2]
    return kind


def judge_file_system(kind: str | None) -> Finding:
    if kind in NETWORK_FILE_SYSTEMS or (kind or "").startswith(NETWORK_FUSE):
        message = f"the database is on a network file system ({kind}), where two machines can damage it"
        return fail(STORE, "file_system", message, "put it on a local disk: --db or WA_DB", exit_code=FIX_MACHINE)
    if kind in PASSING_FILE_SYSTEMS:
        message = f"the database is on {kind}, which vanishes with the container or the power"
        return warn(STORE, "file_system", message, "put it on a disk that stays: --db or WA_DB")
    return ok(STORE, "file_system", f"a local disk ({kind or 'of unknown kind'})")


def inspect_file(path: Path, *, is_own_folder: bool) -> list[Finding]:
    """What `wa doctor` says of a database that may be missing, damaged or fine."""
    try:
        database = Database.open(path, create=False)
    except WaError as error:
        code = FIX_CALL if isinstance(error, NotFound) else error.exit_code
        return [fail(STORE, "opens", error.message, error.hint, exit_code=code)]
    with closing(database):
        upkeep = SqliteUpkeep(database)
        megabytes = path.stat().st_size / (1024 * 1024)
        opened = ok(STORE, "opens", f"{path} opens: {megabytes:.1f} MB, schema {upkeep.read_schema_version()}")
        return [opened, *upkeep.check_pages(whole=False), *inspect_surroundings(path, is_own_folder=is_own_folder)]


def peek_version(path: Path) -> int:
    """The schema version in the file's own header, 0 for anything but a SQLite file.  Opens no database."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError:
        return 0
    return int.from_bytes(header[60:64], "big") if header.startswith(b"SQLite format 3\0") else 0


# --- copies ---


def back_up(database: Database, target: Path, *, force: bool) -> int:
    """Write a complete, checked copy of the database as it stands at this moment.  Returns its size in bytes.

    Other processes may write meanwhile.  The copy appears under its name only when it is whole and on the disk.
    force: replace a file of that name.
    Raises: UsageError when it exists, or is the database itself; StorageError when it cannot be written.
    """
    path = database.path
    _refuse_own_files(path, target)
    if target.is_dir():
        raise UsageError(f"{target} is a folder", hint=f"name the file: {target / 'wa-backup.db'}")
    if target.exists() and not force:
        raise _exists(target)
    draft = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.new")
    try:
        try:
            os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except OSError as error:
            raise _cannot_write(target, error) from error
        _copy(database, draft)
        try:
            if force:
                draft.replace(target)
            else:
                os.link(draft, target)
            _flush_name(target)
        except FileExistsError as error:
            raise _exists(target) from error
        except OSError as error:
            raise _cannot_write(target, error) from error
    finally:
        for left in (draft, *_companions(draft)):
            with suppress(OSError):
                left.unlink()
    return target.stat().st_size


def _copy(database: Database, draft: Path) -> None:
    copy = sqlite3.connect(draft, isolation_level=None)
    try:
        with closing(copy):
            # All pages in one step: one state of the file, and no writer has to wait for it.
            database.connection.backup(copy, pages=-1)
            copy.execute("PRAGMA journal_mode = DELETE").fetchone()  # one file, without companions
            result = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
            dangling = copy.execute("PRAGMA foreign_key_check").fetchone()
            version = copy.execute("PRAGMA user_version").fetchone()[0]
        if result != "ok" or dangling is not None or version != SCHEMA_VERSION:
            raise StorageBroken(
                f"the copy is not sound: {result}", hint="`wa db check` looks at the database itself; no copy was kept"
            )
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
    except sqlite3.Error as error:
        raise rename_error(error, draft if draft.exists() else database.path) from error
    except OSError as error:
        raise _cannot_write(draft, error) from error


def _refuse_own_files(path: Path, target: Path) -> None:
    for own in (path, *_companions(path)):
        same = target.absolute() == own.absolute()
        with suppress(OSError):
            same = same or target.samefile(own)
        if same:
            raise UsageError(f"{target} is the database itself, not a place for its copy", hint="name another file")


def _exists(target: Path) -> UsageError:
    return UsageError(
        f"{target} exists already", hint="name another file, or add --force to replace it", code="file_exists"
    )


def _cannot_write(target: Path, error: OSError) -> StorageError:
    return StorageError(f"the copy {target} cannot be written: {error.strerror}", hint="choose another place")


def _flush_name(target: Path) -> None:
    """Make the new name survive a power cut: it is the folder that holds it."""
    if os.name != "nt":
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
