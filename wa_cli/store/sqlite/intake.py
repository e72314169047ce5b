"""The way in: batches of messages, their contacts and contents, and the keys that keep anything from entering twice."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Final

from wa_cli.cuts import cut
from wa_cli.domain.message import State, content_hash, format_message_id
from wa_cli.domain.number import NOT_ON_WHATSAPP
from wa_cli.domain.pacing import PRIORITY_URGENT, lane_of
from wa_cli.domain.pooling import Seating
from wa_cli.domain.recipient import RecipientKind
from wa_cli.domain.window import Hearing, Window, WindowPolicy, judge_window
from wa_cli.errors import Conflict, Refused, Temporary, WaError
from wa_cli.ports import Enqueued
from wa_cli.store.sqlite.bulk import insert_rows
from wa_cli.store.sqlite.contacts import find_opted_out, find_or_add_contacts, find_unregistered, read_talks
from wa_cli.store.sqlite.database import MOST_ROWS
from wa_cli.store.sqlite.leases import fold_log
from wa_cli.store.sqlite.owners import Owner, is_alive

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

    from wa_cli.ports import NewBatch, NewMessage
    from wa_cli.store.sqlite.database import Database

# Rows of the first transaction; how many the others take follows from how long the last one held the file.
CHUNK_ROWS: Final = MOST_ROWS
# Between two chunks the lock is free for this long, since SQLite does not queue those who wait for it.
BREATH_SECONDS: Final = 0.002
REMOVED_ROWS: Final = 5_000

INTO_MESSAGE: Final = """
    INSERT INTO message (id, instance_id, batch_id, contact_id, content_id, state, lane, due_at, scheduled_at,
        expires_at, reason, changed_at)
"""

INTO_LIVE_KEY: Final = "INSERT INTO live_key (content_id, contact_id, instance_id, message_id, expires_at, again)"
RENEW_LIVE_KEY: Final = """
    ON CONFLICT DO UPDATE SET message_id = excluded.message_id, expires_at = excluded.expires_at, again = excluded.again
"""

# A key is taken while its message waits, is on its way or cannot be known; once it was posted, until the window ends,
# which begins when the message was due or left, whichever was later.  A post without a verdict counts as one even where
# the message was skipped or cancelled afterwards.
# What another call is still queueing does not count: it may never be released.  If it is, one of the two is found to be
# a duplicate before its post.
FIND_LIVE_KEY: Final = """
    SELECT message.id, message.state, message.due_at FROM live_key
    JOIN message ON message.id = live_key.message_id
    JOIN batch ON batch.id = message.batch_id AND (batch.released_at IS NOT NULL OR batch.id = :batch)
    WHERE live_key.content_id = :content AND live_key.contact_id = :contact AND live_key.instance_id = :instance
        AND (message.state IN ('queued', 'sending', 'unknown')
            OR ((message.state = 'sent' OR (message.state IN ('skipped', 'cancelled', 'expired') AND EXISTS
                    (SELECT 1 FROM attempt WHERE attempt.message_id = message.id AND outcome = 'ambiguous')))
                AND (live_key.expires_at > :now OR :now - :window <
                    (SELECT max(started_at) FROM attempt WHERE attempt.message_id = message.id))))
"""

# The same person and words earlier in the same call, which is a slip of its list even where they are meant again.
FIND_DOUBLE: Final = """
    SELECT message.id, message.state, message.due_at FROM live_key
    JOIN message ON message.id = live_key.message_id AND message.batch_id = :batch
    WHERE live_key.content_id = :content AND live_key.contact_id = :contact AND live_key.instance_id = :instance
"""

READ_REPEATED: Final = """
    SELECT message.id, contact.address, message.state, message.due_at FROM message
    JOIN batch ON batch.id = ? JOIN contact ON contact.id = message.contact_id
    WHERE message.id BETWEEN max(batch.first_message_id, ? + 1) AND batch.last_message_id
        AND message.batch_id = batch.id
    ORDER BY message.id LIMIT ?
"""

# A caller's key holds for its days after its message was due or left, whichever was later, and while it may leave yet.
MAY_LEAVE_OR_LEFT: Final = """
    message.state IN ('queued', 'sending', 'unknown')
        OR EXISTS (SELECT 1 FROM attempt WHERE attempt.message_id = message.id AND started_at > :since)
"""
FIND_CALLER_KEY: Final = f"""
    SELECT request_hash, batch_id, batch.released_at FROM caller_key JOIN batch ON batch.id = batch_id
    WHERE key = :key AND (expires_at > :now OR EXISTS
        (SELECT 1 FROM message WHERE message.id BETWEEN batch.first_message_id AND batch.last_message_id
            AND message.batch_id = batch.id AND ({MAY_LEAVE_OR_LEFT})))
"""  # noqa: S608  # own words
FIND_LINE_KEY: Final = f"""
    SELECT caller_key.request_hash, message.id, message.state, message.due_at,
        batch.released_at IS NOT NULL OR batch.id = :batch
    FROM caller_key
    LEFT JOIN message ON message.id = caller_key.message_id
    LEFT JOIN batch ON batch.id = caller_key.batch_id
    WHERE caller_key.key = :key AND (caller_key.expires_at > :now OR {MAY_LEAVE_OR_LEFT})
"""  # noqa: S608  # own words


class SqliteIntake:
    def __init__(self, database: Database, owner: Owner) -> None:
        self._database = database
        self._owner = owner
        self._last_batch_id: int | None = None

    def last_batch_id(self) -> int | None:
        return self._last_batch_id

    def enqueue(
        self, batch: NewBatch, lines: Iterable[NewMessage], *, now_ms: int, is_dry_run: bool = False
    ) -> Iterator[Enqueued]:
        self._last_batch_id = None
        source = iter(lines)
        chunk = list(islice(source, CHUNK_ROWS))
        following = list(islice(source, CHUNK_ROWS))
        if not is_dry_run:
            self.sweep_abandoned()
        with self._transaction(is_dry_run=is_dry_run) as connection:
            earlier = _find_caller_key(connection, batch, now_ms=now_ms)
            if earlier is None:
                _check_room(connection, batch, batch.size)
                batch_id = self._insert_batch(connection, batch, now_ms=now_ms, is_whole=not following)
                entry = _Entry(batch, batch_id, position=_count_ahead(connection, batch), is_spread=bool(following))
                results = entry.add(connection, chunk, now_ms=now_ms)
                _note_range(connection, batch_id, first=entry.first_id, last=entry.last_id)
        if earlier is not None:
            self._last_batch_id = earlier
            yield from self._repeat(earlier)
            return
        cut("intake_after_commit")
        self._last_batch_id = None if is_dry_run else batch_id
        is_released = is_dry_run or not following
        try:
            yield from results
            while following:
                chunk, following = following, list(islice(source, self._database.chunk_rows))
                time.sleep(BREATH_SECONDS)
                fold_log(self._database)
                with self._transaction(is_dry_run=is_dry_run) as connection:
                    _check_room(connection, batch, len(chunk))  # another call may have taken the room meanwhile
                    results = entry.add(connection, chunk, now_ms=now_ms)
                    _note_range(connection, batch_id, first=entry.first_id, last=entry.last_id)
                    if not following:  # all of it is here: from this commit on it may leave
                        connection.execute(
                            "UPDATE batch SET released_at = ?, owner = NULL WHERE id = ?", (now_ms, batch_id)
                        )
                self._database.note_chunk(len(chunk))
                is_released = is_released or not following
                yield from results
        finally:
            if not is_released:  # the lines, the disk or the reader gave up: take back what nobody may send
                with suppress(WaError):
                    self._remove_batch(batch_id, self._owner.token)

    def count_batch(self, batch_id: int) -> dict[str, int]:
        """How many messages of a batch stand in which state."""
        with self._database.read() as connection:
            return dict(
                connection.execute(
                    """SELECT message.state, count(*) FROM batch JOIN message
                        ON message.id BETWEEN batch.first_message_id AND batch.last_message_id
                    WHERE batch.id = ? AND message.batch_id = batch.id GROUP BY message.state""",
                    (batch_id,),
                ).fetchall()
            )

    @contextmanager
    def _transaction(self, *, is_dry_run: bool) -> Iterator[sqlite3.Connection]:
        """A dry run does the very same work and takes it back: no row of it ever reaches the file."""
        with self._database.write() as connection:
            if is_dry_run:  # the batch of an earlier chunk is gone again, and its messages still point at it
                connection.execute("PRAGMA defer_foreign_keys = ON")
            yield connection
            cut("intake_before_commit")
            if is_dry_run:
                connection.execute("ROLLBACK")
                connection.execute("BEGIN")  # for the caller's COMMIT to end

    def _insert_batch(self, connection: sqlite3.Connection, batch: NewBatch, *, now_ms: int, is_whole: bool) -> int:
        cursor = connection.execute(
            """INSERT INTO batch (kind, instance_id, subgroup_id, subgroup, campaign, actor, created_at, released_at,
                owner, start_at, at_words, delay_ms, priority, max_attempts, on_unknown, pool_id)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            (
                batch.kind,
                batch.instance_id,
                batch.subgroup_id,
                batch.subgroup,
                batch.campaign,
                batch.actor,
                now_ms,
                now_ms if is_whole else None,
                None if is_whole else self._owner.token,
                batch.start_at_ms,
                batch.at_words,
                batch.delay_ms,
                batch.priority,
                batch.max_attempts,
                batch.on_unknown,
                batch.pool.pool_id if batch.pool is not None else None,
            ),
        )
        batch_id = int(cursor.lastrowid or 0)
        if batch.key is not None:
            connection.execute(
                "INSERT OR REPLACE INTO caller_key VALUES (?, ?, ?, NULL, ?)",
                (
                    batch.key,
                    batch.request_hash,
                    batch_id,
                    _key_ends_at(batch, batch.start_at_ms + batch.size * batch.delay_ms),
                ),
            )
        return batch_id

    def sweep_abandoned(self) -> None:
        """Take out what a process that died half-way through a long enqueue left: none of it could be sent yet.

        What a plan of a campaign left is swept by `SqliteApplying.sweep`, which knows its ledger.
        """
        with self._database.read() as connection:
            unreleased = connection.execute(
                "SELECT id, owner FROM batch WHERE released_at IS NULL AND run_id IS NULL"
            ).fetchall()
        for batch_id, owner in unreleased:
            if owner != self._owner.peek() and not is_alive(self._database.path, owner):
                self._remove_batch(batch_id, owner)

    def _remove_batch(self, batch_id: int, owner: str) -> None:
        """Take a batch that was never released out again, with its messages and keys.

        Some thousand messages a transaction; one that is cut short leaves less of what nobody may send.
        owner: whose it was, since the number is free for another call once the batch is gone.
        """
        while True:
            with self._database.write() as connection:
                if not _remove_some(connection, batch_id, owner):
                    return
            time.sleep(BREATH_SECONDS)

    def _repeat(self, batch_id: int) -> Iterator[Enqueued]:
        """What became of an earlier call, a page at a time."""
        after_id = 0
        while True:
            with self._database.read() as connection:
                rows = connection.execute(READ_REPEATED, (batch_id, after_id, CHUNK_ROWS)).fetchall()
            for message_id, address, state, due_at in rows:
                yield _duplicate(message_id, address, state, due_at)
            if len(rows) < CHUNK_ROWS:
                return
            after_id = rows[-1][0]


class _Entry:
    """The state of one enqueue across its chunks."""

    def __init__(self, batch: NewBatch, batch_id: int, *, position: int, is_spread: bool) -> None:
        self._batch = batch
        self._batch_id = batch_id
        self._position = position
        self._step = 0
        own_lane = batch.has_own_lane or is_spread
        self._lane = lane_of(batch.priority, batch_id if own_lane else 0)
        self._seating = Seating(batch.pool) if batch.pool is not None else None
        self._contents: dict[str, tuple[int, bool]] = {}
        self.first_id: int | None = None
        self.last_id: int | None = None

    def add(self, connection: sqlite3.Connection, lines: Sequence[NewMessage], *, now_ms: int) -> list[Enqueued]:
        batch = self._batch
        contact_ids = find_or_add_contacts(
            connection, [(line.address, line.kind) for line in lines if line.contact_id is None], now_ms=now_ms
        )
        message_id = max(connection.execute("SELECT ifnull(max(id), 0) FROM message").fetchone()[0], self.last_id or 0)
        # Words that were new with this call are nobody's duplicate, unless a later call has queued them too.
        newest_batch_id = connection.execute("SELECT max(id) FROM batch").fetchone()[0]
        skips_look_up = batch.lines_are_unique and newest_batch_id == self._batch_id
        messages: list[tuple[object, ...]] = []
        live_keys: list[tuple[object, ...]] = []
        results: list[Enqueued] = []
        entered: dict[tuple[int, int], Enqueued] = {}
        keyed: dict[str, tuple[bytes, Enqueued]] = {}
        meant = batch.again or batch.key is not None  # the caller has said what counts as the same message
        twin: Enqueued | None
        everybody = [line.contact_id or contact_ids[line.address] for line in lines]
        opted_out = find_opted_out(connection, everybody)
        unregistered = find_unregistered(connection, everybody, since_ms=batch.checked_since_ms)
        seats = self._seat(connection, everybody, lines)
        # Who may be written to freely hangs on the number, and a pool has several.
        windows = _Windows.read(connection, batch, lines, everybody, now_ms=now_ms) if seats is None else None
        for line, contact_id in zip(lines, everybody, strict=True):
            content_id, is_new = self._content_id(connection, line.encoded)
            due_at = batch.start_at_ms + self._step * batch.delay_ms
            instance_id = batch.instance_id
            if seats is not None and self._seating is not None:
                instance_id = seats[contact_id]
                due_at += self._seating.phase_ms(instance_id)
            skip_reason = "opted_out" if contact_id in opted_out else line.skip_reason
            if skip_reason is None and contact_id in unregistered:
                skip_reason = NOT_ON_WHATSAPP
            is_closed = False
            if windows is not None and skip_reason is None and line.is_free and line.kind is RecipientKind.PERSON:
                is_closed = windows.is_closed(contact_id, due_at_ms=due_at)
                if is_closed and batch.window is WindowPolicy.REFUSE:
                    skip_reason = "window_closed"
            if line.key is not None and line.key in keyed:
                line_hash, earlier = keyed[line.key]
                if line_hash != _line_hash(line):
                    raise _key_conflict(line.key)
                twin = _duplicate(earlier.message_id, line.address, State.QUEUED, earlier.due_at_ms)
            elif line.key is not None:
                twin = _find_line_key(connection, batch, self._batch_id, line, now_ms=now_ms)
            elif skip_reason is not None:
                twin = None
            elif (double := entered.get((content_id, contact_id))) is not None:
                twin = _duplicate(double.message_id, line.address, State.QUEUED, double.due_at_ms)
            elif (meant and (batch.lines_are_unique or self.first_id is None)) or (is_new and skips_look_up):
                twin = None
            else:
                row = connection.execute(
                    FIND_DOUBLE if meant else FIND_LIVE_KEY,
                    {
                        "batch": self._batch_id,
                        "content": content_id,
                        "contact": contact_id,
                        "instance": instance_id,
                        "now": now_ms,
                        "window": batch.duplicate_window_ms,
                    },
                ).fetchone()
                twin = _duplicate(row[0], line.address, row[1], row[2]) if row else None
            if twin is not None:
                results.append(twin)
                continue
            message_id += 1
            state = State.QUEUED if skip_reason is None else State.SKIPPED
            messages.append(
                (
                    message_id,
                    instance_id,
                    self._batch_id,
                    contact_id,
                    content_id,
                    state,
                    self._lane,
                    due_at,
                    due_at,
                    batch.expires_at_ms,
                    skip_reason,
                    now_ms,
                )
            )
            if state is State.SKIPPED:
                results.append(
                    Enqueued(
                        message_id=message_id,
                        address=line.address,
                        outcome="skipped",
                        state=state,
                        queue_position=None,
                        due_at_ms=None,
                        reason=skip_reason,
                    )
                )
                continue
            self._step += 1
            self._position += 1
            if line.key is not None:
                connection.execute(
                    "INSERT OR REPLACE INTO caller_key VALUES (?, ?, ?, ?, ?)",
                    (line.key, _line_hash(line), self._batch_id, message_id, _key_ends_at(batch, due_at)),
                )
            live_keys.append(
                (
                    content_id,
                    contact_id,
                    instance_id,
                    message_id,
                    due_at + batch.duplicate_window_ms,
                    1 if meant or line.key is not None else 0,
                )
            )
            result = Enqueued(
                message_id=message_id,
                address=line.address,
                outcome="queued",
                state=state,
                queue_position=self._position,
                due_at_ms=due_at,
                window_is_closed=is_closed,
            )
            entered[content_id, contact_id] = result
            if line.key is not None:
                keyed[line.key] = _line_hash(line), result
            results.append(result)
        insert_rows(connection, INTO_MESSAGE, messages)
        insert_rows(connection, INTO_LIVE_KEY, live_keys, then=RENEW_LIVE_KEY)
        if messages:
            self.first_id = self.first_id or int(str(messages[0][0]))
            self.last_id = message_id
        return results

    def _seat(
        self, connection: sqlite3.Connection, everybody: Sequence[int], lines: Sequence[NewMessage]
    ) -> dict[int, int] | None:
        """Which instance of a pool writes to whom, remembered for the next time; None where there is no pool."""
        if self._seating is None or self._batch.pool is None:
            return None
        from wa_cli.store.sqlite.pools import read_seats, save_seats

        pool_id = self._batch.pool.pool_id
        known = read_seats(connection, pool_id, set(everybody))
        barred = {one: line.barred for one, line in zip(everybody, lines, strict=True) if line.barred}
        seats = self._seating.seat(everybody, known, barred)
        save_seats(connection, pool_id, ((one, seat) for one, seat in seats.items() if one not in known))
        return seats

    def _content_id(self, connection: sqlite3.Connection, encoded: str) -> tuple[int, bool]:
        """The id of the content, and whether it is new with this batch."""
        known = self._contents.get(encoded)
        if known is not None:
            return known
        digest = content_hash(encoded)
        row = connection.execute("SELECT id FROM content WHERE hash = ?", (digest,)).fetchone()
        if row is not None:
            found = int(row[0]), False
        else:
            cursor = connection.execute("INSERT INTO content (hash, body) VALUES (?, ?)", (digest, encoded))
            found = int(cursor.lastrowid or 0), True
        if len(self._contents) >= CHUNK_ROWS:  # personal texts: each is met once, remembering them would be a leak
            self._contents.clear()
        self._contents[encoded] = found
        return found


class _Windows:
    """Who of some people cannot be sent free text, as far as the instance hears what people write."""

    def __init__(self, hearing: Hearing, talks: dict[int, tuple[int | None, int | None]], *, now_ms: int) -> None:
        self._hearing = hearing
        self._talks = talks
        self._now_ms = now_ms
        self._silence_is_closed = hearing.hears_all(now_ms=now_ms)

    @classmethod
    def read(
        cls,
        connection: sqlite3.Connection,
        batch: NewBatch,
        lines: Sequence[NewMessage],
        contact_ids: Sequence[int],
        *,
        now_ms: int,
    ) -> _Windows | None:
        """None where no window matters: by the policy, or since every line is a template."""
        if batch.window is WindowPolicy.IGNORE or not any(line.is_free for line in lines):
            return None
        since, last = connection.execute(
            "SELECT webhooks_since, last_webhook_at FROM instance WHERE id = ?", (batch.instance_id,)
        ).fetchone()
        talks = read_talks(connection, batch.instance_id, contact_ids)
        return cls(Hearing(webhooks_since_ms=since, last_webhook_at_ms=last), talks, now_ms=now_ms)

    def is_closed(self, contact_id: int, *, due_at_ms: int) -> bool:
        talk = self._talks.get(contact_id)
        if talk is None:
            return self._silence_is_closed
        window = judge_window(
            self._hearing,
            last_inbound_at_ms=talk[0],
            closed_at_ms=talk[1],
            now_ms=self._now_ms,
            due_at_ms=due_at_ms,
        )
        return window is Window.CLOSED


def _remove_some(connection: sqlite3.Connection, batch_id: int, owner: str) -> bool:
    """Remove the first messages of an unreleased batch, and with the last of them the batch.  True: some are left."""
    row = connection.execute(
        "SELECT first_message_id, last_message_id FROM batch WHERE id = ? AND owner = ? AND released_at IS NULL",
        (batch_id, owner),
    ).fetchone()
    if row is None:  # another process was faster
        return False
    connection.execute("DELETE FROM caller_key WHERE batch_id = ?", (batch_id,))  # before the messages they name
    messages = connection.execute(
        """SELECT id, content_id, contact_id, instance_id FROM message
        WHERE id BETWEEN ? AND ? AND batch_id = ? ORDER BY id LIMIT ?""",
        (*row, batch_id, REMOVED_ROWS),
    ).fetchall()
    ids = [(message[0],) for message in messages]
    connection.executemany(
        "DELETE FROM live_key WHERE message_id = ? AND content_id = ? AND contact_id = ? AND instance_id = ?", messages
    )
    connection.executemany("DELETE FROM decision WHERE message_id = ?", ids)  # a cancel may have come in meanwhile
    connection.executemany("DELETE FROM message WHERE id = ?", ids)
    if len(messages) < REMOVED_ROWS:
        connection.execute("DELETE FROM batch WHERE id = ?", (batch_id,))
        return False
    _note_range(connection, batch_id, first=messages[-1][0] + 1, last=row[1])
    return True


def _find_caller_key(connection: sqlite3.Connection, batch: NewBatch, *, now_ms: int) -> int | None:
    """The batch that this call's key already stands for, or None when the key is free."""
    if batch.key is None:
        return None
    row = connection.execute(FIND_CALLER_KEY, _key_values(batch, batch.key, now_ms=now_ms)).fetchone()
    if row is None:
        return None
    if row[0] != batch.request_hash:
        raise _key_conflict(batch.key)
    if row[2] is None:
        raise _key_is_being_used(batch.key)
    return int(row[1])


def _find_line_key(
    connection: sqlite3.Connection, batch: NewBatch, batch_id: int, line: NewMessage, *, now_ms: int
) -> Enqueued | None:
    values = {"batch": batch_id, **_key_values(batch, line.key, now_ms=now_ms)}
    row = connection.execute(FIND_LINE_KEY, values).fetchone()
    if row is None:
        return None
    if row[0] != _line_hash(line) or row[1] is None:
        raise _key_conflict(str(line.key))
    if not row[4]:
        raise _key_is_being_used(str(line.key))
    return _duplicate(row[1], line.address, row[2], row[3])


def _key_conflict(key: str) -> Conflict:
    return Conflict(
        f"the key '{key}' was already used for another message",
        hint="use a new key for new content; a key stands for one recipient list and one text",
        code="key_conflict",
    )


def _key_is_being_used(key: str) -> Temporary:
    return Temporary(
        f"another process is queueing messages under the key '{key}' at this moment",
        hint="run the same command again when it has ended",
        code="key_busy",
    )


def _line_hash(line: NewMessage) -> bytes:
    return content_hash(f"{line.address}\x1f{line.encoded}")


def _key_values(batch: NewBatch, key: str | None, *, now_ms: int) -> dict[str, object]:
    return {"key": key, "now": now_ms, "since": now_ms - batch.key_days * 86_400_000}


def _key_ends_at(batch: NewBatch, due_at_ms: int) -> int:
    return due_at_ms + batch.key_days * 86_400_000


def _check_room(connection: sqlite3.Connection, batch: NewBatch, size: int) -> None:
    if batch.max_queue_size and (waiting := _count_queued(connection)) + size > batch.max_queue_size:
        raise Refused(
            f"the queue is full: {waiting} waiting, {size} more would pass MAX_QUEUE_SIZE={batch.max_queue_size}",
            hint="nothing was queued; wait until some have left (`wa status`), or raise MAX_QUEUE_SIZE",
            code="queue_full",
        )


def _count_queued(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT ifnull(sum(n), 0) FROM tally WHERE state = 'queued'").fetchone()
    return int(row[0])


def _count_ahead(connection: sqlite3.Connection, batch: NewBatch) -> int:
    """How many messages that wait go before those of a new batch: an urgent one has only urgent ones ahead of it."""
    if batch.priority != PRIORITY_URGENT:
        return _count_queued(connection)
    row = connection.execute(
        "SELECT count(*) FROM message WHERE state = 'queued' AND instance_id = ? AND lane < ?",
        (batch.instance_id, lane_of(PRIORITY_URGENT + 1, 0)),
    ).fetchone()
    return int(row[0])


def _note_range(connection: sqlite3.Connection, batch_id: int, *, first: int | None, last: int | None) -> None:
    connection.execute(
        "UPDATE batch SET first_message_id = ?, last_message_id = ? WHERE id = ?", (first, last, batch_id)
    )


# How a message that the same words would repeat is spoken of.
_SAME_WORDS: Final = {
    State.SENDING: "is on its way as",
    State.SENT: "was sent as",
    State.UNKNOWN: "may have been sent, nobody knows, as",
}


def _duplicate(message_id: int, address: str, state: str, due_at_ms: int | None) -> Enqueued:
    return Enqueued(
        message_id=message_id,
        address=address,
        outcome="duplicate",
        state=State(state),
        queue_position=None,
        due_at_ms=due_at_ms,
        reason=f"the same message {_SAME_WORDS.get(State(state), f'is {state} as')} {format_message_id(message_id)}",
    )
