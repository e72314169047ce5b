"""Single messages: what is stored about each, how many stand where, and taking waiting ones out of the queue."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

from wa_cli.domain.message import OnUnknown, State, content_hash, decode_content
from wa_cli.domain.pacing import PARKED, PRIORITY_BULK, PRIORITY_NORMAL, PRIORITY_URGENT, lane_of
from wa_cli.domain.receipt import Receipt, Standing, derive_standing, pairs_of
from wa_cli.domain.recipient import RecipientKind
from wa_cli.domain.subgroup import fold_name, no_such_subgroup
from wa_cli.errors import NotFound
from wa_cli.store.sqlite import pruned
from wa_cli.store.sqlite.queue import read_heads

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

    from wa_cli.domain.history import AttemptRow, Cancelled, CancelScope, History, MessageFilter, MessageRow, Origin
    from wa_cli.domain.message import Content
    from wa_cli.store.sqlite.database import Database
    from wa_cli.store.sqlite.pruned import Pruned

# One transaction each: long enough to be quick, short enough that a daemon beside it keeps its lease.
CANCELLED_ROWS: Final = 20_000
BREATH_SECONDS: Final = 0.002

# A message with everything a listing says about it, in the order of `message_row`.
MESSAGE_COLUMNS: Final = """
    m.id, m.state, m.receipt, c.address, c.kind, t.hash, t.body, m.instance_id, i.name, m.batch_id, b.subgroup_id,
    b.subgroup, b.campaign, m.scheduled_at, m.due_at, m.expires_at, m.attempts, m.refusals, m.reason, m.error_code,
    m.error_details, m.provider_message_id, m.changed_at, g.name
"""
MESSAGE_JOINS: Final = """
    JOIN contact AS c ON c.id = m.contact_id
    JOIN content AS t ON t.id = m.content_id
    JOIN instance AS i ON i.id = m.instance_id
    JOIN batch AS b ON b.id = m.batch_id
    LEFT JOIN group_chat AS g ON g.instance_id = m.instance_id AND g.address = c.address
"""

READ_ATTEMPTS: Final = """
    SELECT id, started_at, epoch, outcome, counted, latency_ms, http_status, error_code, details, provider_message_id
    FROM attempt WHERE message_id = ? ORDER BY id
"""

READ_RECEIPTS: Final = """
    SELECT attempt_id, status, at, received_at, rule, provider_message_id, error_code, details, participant FROM receipt
    WHERE attempt_id IN (SELECT id FROM attempt WHERE message_id = ?) ORDER BY at, id
"""

READ_ORIGIN: Final = """
    SELECT kind, created_at, released_at, start_at, at_words, delay_ms, priority, max_attempts, on_unknown,
        first_message_id, last_message_id, actor
    FROM batch WHERE id = ?
"""
READ_PART: Final = """
    SELECT c.name, r.id, r.occurrence, b.stage, b.variant, b.held_at IS NOT NULL, b.held_reason
    FROM batch AS b JOIN run AS r ON r.id = b.run_id JOIN campaign AS c ON c.id = r.campaign_id WHERE b.id = ?
"""

# Where a message stands among those of its call; other calls may have numbered theirs in between.
READ_POSITION: Final = """
    SELECT ifnull(sum(id <= ?), 0), count(*) FROM message WHERE id BETWEEN ? AND ? AND batch_id = ?
"""

# An attempt whose outcome is ambiguous may have reached the person, whatever happened to the message afterwards.
MAYBE_SENT: Final = """
    SELECT DISTINCT message_id FROM attempt
    WHERE outcome = 'ambiguous' AND message_id IN (SELECT value FROM json_each(?))
"""


class SqliteMessages:
    def __init__(self, database: Database) -> None:
        self._database = database

    # --- counts: a few rows each, however many messages there are ---

    def read_stats(self) -> dict[str, int]:
        """How many messages stand where, every word present, each message in exactly one (promise P13)."""
        with self._database.read() as connection:
            return count_standings(connection)

    def read_pruned(self) -> Pruned | None:
        """How many messages were pruned, by the word they were shown with; None while none ever was."""
        with self._database.read() as connection:
            return pruned.read_sums(connection)

    def count_waiting_retries(self) -> int:
        """Messages that failed at least once and wait for their next attempt."""
        with self._database.read() as connection:
            row = connection.execute("SELECT count(*) FROM message WHERE state = 'queued' AND attempts > 0").fetchone()
        return int(row[0])

    def next_due_at_ms(self, instance_id: int) -> int | None:
        """When the first waiting message of the instance is due, or None when none waits.

        Held ones do not count.  Where a restriction keeps everything back, its end; None where none is stated.
        """
        with self._database.read() as connection:
            due_at = min((due_at for _lane, due_at in read_heads(connection, instance_id)), default=None)
            restricted_until = connection.execute(
                """SELECT restricted_until FROM instance
                WHERE id = ? AND restricted_at IS NOT NULL AND restriction_scope = 'everything'""",
                (instance_id,),
            ).fetchone()
        if due_at is None or restricted_until is None:
            return due_at
        return None if restricted_until[0] is None else max(due_at, restricted_until[0])

    def find_next_due_at_ms(self, instance_ids: Iterable[int]) -> int | None:
        """The same over several instances."""
        found = [self.next_due_at_ms(instance_id) for instance_id in instance_ids]
        return min((due_at_ms for due_at_ms in found if due_at_ms is not None), default=None)

    # --- reading ---

    def find(self, message_id: int) -> MessageRow:
        """Raises: NotFound."""
        with self._database.read() as connection:
            return _find(connection, message_id)

    def find_many(self, message_ids: Sequence[int]) -> list[MessageRow]:
        """These messages in this order.  Raises: NotFound for the first that does not exist."""
        with self._database.read() as connection:
            return [_find(connection, message_id) for message_id in message_ids]

    def list_newest(self, filter: MessageFilter, *, before_id: int | None, limit: int) -> list[MessageRow]:
        """At most `limit` messages, newest first.  before_id: the last one of the page before.

        Raises: NotFound for a subgroup or campaign that never was.
        """
        conditions = ["1"]
        values: list[object] = []
        with self._database.read() as connection:
            if before_id is not None:
                conditions.append("m.id < ?")
                values.append(before_id)
            if filter.standing is not None:
                conditions.append(_standing_condition(filter.standing, values))
            if filter.address is not None:
                conditions.append("m.contact_id = (SELECT id FROM contact WHERE address = ?)")
                values.append(filter.address)
            batches = batch_condition(connection, subgroup=filter.subgroup, campaign=filter.campaign)
            if batches is not None:
                conditions.append(batches[0])
                values.extend(batches[1])
            rows = connection.execute(
                f"""SELECT {MESSAGE_COLUMNS} FROM message AS m {MESSAGE_JOINS}
                WHERE {" AND ".join(conditions)} ORDER BY m.id DESC LIMIT ?""",  # noqa: S608  # own words, bound values
                [*values, limit],
            ).fetchall()
        return [message_row(row) for row in rows]

    def read_history(self, message_id: int) -> History:
        """Raises: NotFound."""
        from wa_cli.domain.history import DecisionRow, History, ReceiptRow

        with self._database.read() as connection:
            message = _find(connection, message_id)
            (install,) = connection.execute("SELECT value FROM meta WHERE key = 'install'").fetchone()
            (encoded,) = connection.execute(
                "SELECT body FROM content WHERE id = (SELECT content_id FROM message WHERE id = ?)", (message_id,)
            ).fetchone()
            return History(
                message=message,
                encoded=encoded,
                origin=_read_origin(connection, message),
                attempts=tuple(_read_attempts(connection, message_id, install=install)),
                decisions=tuple(
                    DecisionRow(at_ms=at, rule=rule, details=details)
                    for at, rule, details in connection.execute(
                        "SELECT at, rule, details FROM decision WHERE message_id = ? ORDER BY id", (message_id,)
                    )
                ),
                receipts=tuple(
                    ReceiptRow(
                        attempt_id=row[0],
                        status=Receipt(row[1]),
                        at_ms=row[2],
                        received_at_ms=row[3],
                        rule=row[4],
                        provider_message_id=row[5],
                        error_code=row[6],
                        details=row[7],
                        participant=row[8],
                    )
                    for row in connection.execute(READ_RECEIPTS, (message_id,))
                ),
                group_size=_read_group_size(connection, message),
            )

    # --- taking out of the queue ---

    def cancel(self, message_ids: Sequence[int], *, now_ms: int) -> Cancelled:
        """Cancel those of these messages that wait; one transaction.  Once it returns none of them leaves (P7)."""
        from wa_cli.domain.history import Cancelled

        with self._database.write() as connection:
            waiting = connection.execute(
                "SELECT id FROM message WHERE state = 'queued' AND id IN (SELECT value FROM json_each(?))",
                (json.dumps(list(message_ids)),),
            ).fetchall()
            maybe_sent = _cancel_rows(connection, [row[0] for row in waiting], now_ms=now_ms)
            in_flight = [
                row[0]
                for row in connection.execute(
                    """SELECT id FROM message WHERE state = 'sending' AND id IN (SELECT value FROM json_each(?))
                    ORDER BY id""",
                    (json.dumps(list(message_ids)),),
                )
            ]
            _remember_wish(connection, in_flight, now_ms=now_ms)
        return Cancelled(count=len(waiting), maybe_sent=maybe_sent, in_flight=tuple(in_flight))

    def count_waiting(self, scope: CancelScope) -> int:
        """How many messages `cancel_all` would take out now.  Raises: NotFound for a scope that never was."""
        with self._database.read() as connection:
            return sum(
                int(
                    connection.execute(
                        f"SELECT count(*) FROM message AS m WHERE m.state = 'queued' AND {condition}",  # noqa: S608  # own words
                        values,
                    ).fetchone()[0]
                )
                for condition, values in _scope_conditions(connection, scope)
            )

    def cancel_all(self, scope: CancelScope, *, now_ms: int) -> Cancelled:
        """Cancel every waiting message of the scope.  Once it returns none that waited leaves (promise P7).

        One transaction for up to 20,000 messages; more take several, and what has left in between is not counted.
        Raises: NotFound for a scope that never was.
        """
        from wa_cli.domain.history import Cancelled

        count = 0
        maybe_sent: list[int] = []
        with self._database.read() as connection:
            conditions = _scope_conditions(connection, scope)
        for condition, values in conditions:
            while True:
                with self._database.write() as connection:
                    rows = connection.execute(
                        f"SELECT m.id FROM message AS m WHERE m.state = 'queued' AND {condition} LIMIT ?",  # noqa: S608  # own words
                        [*values, CANCELLED_ROWS],
                    ).fetchall()
                    maybe_sent += _cancel_rows(connection, [row[0] for row in rows], now_ms=now_ms)
                count += len(rows)
                if len(rows) < CANCELLED_ROWS:
                    break
                time.sleep(BREATH_SECONDS)
        in_flight: list[int] = []
        with self._database.write() as connection:
            for condition, values in conditions:
                in_flight += [
                    row[0]
                    for row in connection.execute(
                        f"SELECT m.id FROM message AS m WHERE m.state = 'sending' AND {condition} ORDER BY m.id",  # noqa: S608  # own words
                        values,
                    )
                ]
            _remember_wish(connection, in_flight, now_ms=now_ms)
        return Cancelled(count=count, maybe_sent=tuple(maybe_sent), in_flight=tuple(in_flight))


# --- shared with the other rooms of this store ---


def message_row(row: tuple[Any, ...]) -> MessageRow:
    """A row of MESSAGE_COLUMNS as a value."""
    from wa_cli.domain.history import MessageRow

    return MessageRow(
        id=row[0],
        state=State(row[1]),
        receipt=Receipt(row[2]) if row[2] is not None else None,
        address=row[3],
        kind=RecipientKind(row[4]),
        content=_read_content(row[5], row[6]),
        instance_id=row[7],
        instance=row[8],
        batch_id=row[9],
        subgroup_id=row[10],
        subgroup=row[11],
        campaign=row[12],
        scheduled_at_ms=row[13],
        due_at_ms=row[14],
        expires_at_ms=row[15],
        attempts=row[16],
        refusals=row[17],
        reason=row[18],
        error_code=row[19],
        error_details=row[20],
        provider_message_id=row[21],
        changed_at_ms=row[22],
        group_name=row[23] or None,
    )


def batch_condition(
    connection: sqlite3.Connection, *, subgroup: str | None, campaign: str | None
) -> tuple[str, list[object]] | None:
    """The SQL condition on message `m` for the calls that a subgroup and a campaign stand for, with its values.

    None when neither is given.  A deleted subgroup is still known by the name its calls were made with.
    Raises: NotFound with the nearest name.
    """
    conditions: list[str] = []
    values: list[object] = []
    if subgroup is not None:
        ids = _find_subgroup_ids(connection, subgroup)
        conditions.append(f"subgroup_id IN ({', '.join('?' * len(ids))})")
        values.extend(ids)
    if campaign is not None:
        conditions.append("campaign = ?")
        values.append(_find_campaign_name(connection, campaign))
    if not conditions:
        return None
    where = " AND ".join(conditions)
    first, last = connection.execute(
        f"SELECT min(first_message_id), max(last_message_id) FROM batch WHERE {where}",  # noqa: S608  # own words
        values,
    ).fetchone()
    return (
        f"m.id BETWEEN ? AND ? AND m.batch_id IN (SELECT id FROM batch WHERE {where})",  # noqa: S608  # own words
        [first or 0, last or 0, *values],
    )


# --- inside ---


def _find_campaign_name(connection: sqlite3.Connection, word: str) -> str:
    """A campaign's name as calls are kept under it: of one from a file, or of calls made with a name alone."""
    from difflib import get_close_matches

    row = connection.execute("SELECT name FROM campaign WHERE folded_name = ?", (word.casefold(),)).fetchone()
    if row is not None:
        return str(row[0])
    used = [name for (name,) in connection.execute("SELECT DISTINCT campaign FROM batch WHERE campaign IS NOT NULL")]
    used += [name for name in pruned.list_campaigns(connection) if name not in used]
    if word in used:
        return word
    files = [name for (name,) in connection.execute("SELECT name FROM campaign ORDER BY id DESC LIMIT 1000")]
    known = list(dict.fromkeys([*files, *used]))
    near = get_close_matches(word, known, n=1)
    if near:
        hint = f"did you mean '{near[0]}'?"
    else:
        hint = f"there is: {', '.join(known[:5])}" if known else "no message belongs to a campaign yet"
    raise NotFound(f"no campaign named '{word}'", hint=hint, code="no_campaign")


def _find_subgroup_ids(connection: sqlite3.Connection, name: str) -> list[int]:
    """The living subgroup of that name, else the deleted ones that calls were made with."""
    folded = fold_name(name.encode("utf-8", "replace").decode())  # what is not text has never been a name
    row = connection.execute("SELECT id FROM subgroup WHERE folded_name = ?", (folded,)).fetchone()
    if row is not None:
        return [row[0]]
    known = connection.execute(
        "SELECT DISTINCT subgroup_id, subgroup FROM batch WHERE subgroup_id IS NOT NULL"
    ).fetchall()
    ids = [subgroup_id for subgroup_id, subgroup in known if fold_name(subgroup) == folded]
    if not ids:
        raise no_such_subgroup(name, [known for (known,) in connection.execute("SELECT name FROM subgroup")])
    return ids


def count_standings(connection: sqlite3.Connection) -> dict[str, int]:
    """How many messages stand where, inside the caller's transaction."""
    stats = {standing.value: 0 for standing in Standing}
    for state, receipt, n in connection.execute("SELECT state, receipt, sum(n) FROM tally GROUP BY 1, 2"):
        standing = derive_standing(State(state), Receipt(receipt) if receipt else None)
        stats[standing.value] += n
    return stats


def _find(connection: sqlite3.Connection, message_id: int) -> MessageRow:
    row = connection.execute(
        f"SELECT {MESSAGE_COLUMNS} FROM message AS m {MESSAGE_JOINS} WHERE m.id = ?",  # noqa: S608  # own words
        (message_id,),
    ).fetchone()
    if row is None:
        raise _no_such_message(connection, message_id)
    return message_row(row)


def _no_such_message(connection: sqlite3.Connection, message_id: int) -> NotFound:
    """What to say of an id that no message has: it may have had one, that was pruned."""
    hint = "`wa message list` shows the newest"
    gone = pruned.read_sums(connection)
    if gone is None or not 0 < message_id <= gone.last_message_id:
        return NotFound(f"there is no message m{message_id}", hint=hint, code="no_message")
    from datetime import UTC, datetime

    day = datetime.fromtimestamp(gone.before_ms / 1000, UTC).date()
    return NotFound(
        f"there is no message m{message_id} here: it was pruned with what is older than {day}, or never was",
        hint=hint,
        code="message_pruned",
    )


def _read_attempts(connection: sqlite3.Connection, message_id: int, *, install: str) -> Iterator[AttemptRow]:
    from wa_cli.domain.history import AttemptRow

    for n, row in enumerate(connection.execute(READ_ATTEMPTS, (message_id,)), start=1):
        yield AttemptRow(
            n=n,
            id=row[0],
            started_at_ms=row[1],
            epoch=row[2],
            tag=f"wa1.{install}.{row[0]}",
            outcome=row[3],
            is_counted=bool(row[4]),
            latency_ms=row[5],
            http_status=row[6],
            error_code=row[7],
            details=row[8],
            provider_message_id=row[9],
        )


def _read_group_size(connection: sqlite3.Connection, message: MessageRow) -> int | None:
    row = connection.execute(
        "SELECT size FROM group_chat WHERE instance_id = ? AND address = ?", (message.instance_id, message.address)
    ).fetchone()
    return row[0] if row is not None else None


def _read_origin(connection: sqlite3.Connection, message: MessageRow) -> Origin:
    from wa_cli.domain.history import CampaignPart, Origin

    part = connection.execute(READ_PART, (message.batch_id,)).fetchone()
    row = connection.execute(READ_ORIGIN, (message.batch_id,)).fetchone()
    position, size = connection.execute(
        READ_POSITION, (message.id, row[9] or 0, row[10] or 0, message.batch_id)
    ).fetchone()
    key = connection.execute(
        "SELECT key FROM caller_key WHERE message_id = ? OR (message_id IS NULL AND batch_id = ?) LIMIT 1",
        (message.id, message.batch_id),
    ).fetchone()
    return Origin(
        batch_id=message.batch_id,
        kind=row[0],
        created_at_ms=row[1],
        is_released=row[2] is not None,
        start_at_ms=row[3],
        at_words=row[4],
        delay_ms=row[5],
        priority=row[6],
        max_attempts=row[7],
        on_unknown=OnUnknown(row[8]),
        position=position,
        size=size,
        key=key[0] if key else None,
        actor=row[11],
        part=None
        if part is None
        else CampaignPart(
            campaign=part[0],
            run_id=part[1],
            occurrence=part[2],
            stage=part[3] or "",
            variant=part[4] or "",
            is_held=bool(part[5]),
            held_reason=part[6],
        ),
    )


def _scope_conditions(connection: sqlite3.Connection, scope: CancelScope) -> list[tuple[str, list[object]]]:
    """The SQL conditions on message `m` that together are the scope; no message meets two of them while it waits."""
    if scope.subgroup is not None:
        condition = batch_condition(connection, subgroup=scope.subgroup, campaign=None)
        return [condition] if condition else []
    if scope.batch_id is None:
        return [("1", [])]
    row = connection.execute(
        "SELECT kind, instance_id, first_message_id, last_message_id FROM batch WHERE id = ?", (scope.batch_id,)
    ).fetchone()
    if row is None:
        raise NotFound(
            f"there is no batch b{scope.batch_id}",
            hint="`wa message show ID` says of which batch a message is",
            code="no_batch",
        )
    kind, instance_id, first, last = row
    if kind == "resend":  # its messages keep the batch they were first queued by; the lane is what they share
        lanes = [lane_of(priority, scope.batch_id) for priority in (PRIORITY_URGENT, PRIORITY_NORMAL, PRIORITY_BULK)]
        lanes += [lane | PARKED for lane in lanes]
        return [("m.instance_id = ? AND m.lane IN (?, ?, ?, ?, ?, ?)", [instance_id, *lanes])]
    return [("m.id BETWEEN ? AND ? AND m.batch_id = ?", [first or 0, last or 0, scope.batch_id])]


def _remember_wish(connection: sqlite3.Connection, message_ids: Sequence[int], *, now_ms: int) -> None:
    """These are on their way and cannot be called back; but if they would have to be tried again, they will not be."""
    if not message_ids:
        return
    chosen = json.dumps(list(message_ids))
    connection.execute(
        "UPDATE message SET reason = 'cancel_requested' WHERE id IN (SELECT value FROM json_each(?))", (chosen,)
    )
    connection.execute(
        "INSERT INTO decision (message_id, at, rule) SELECT value, ?, 'cancel_requested' FROM json_each(?)",
        (now_ms, chosen),
    )


def _cancel_rows(connection: sqlite3.Connection, message_ids: Sequence[int], *, now_ms: int) -> tuple[int, ...]:
    """Cancel messages that wait.  Returns those that an earlier attempt may have delivered."""
    if not message_ids:
        return ()
    chosen = json.dumps(list(message_ids))
    maybe_sent = tuple(sorted(row[0] for row in connection.execute(MAYBE_SENT, (chosen,))))
    connection.execute(
        """UPDATE message SET state = 'cancelled', reason = 'cancelled', changed_at = ?
        WHERE state = 'queued' AND id IN (SELECT value FROM json_each(?))""",
        (now_ms, chosen),
    )
    connection.execute(
        "INSERT INTO decision (message_id, at, rule) SELECT value, ?, 'cancelled' FROM json_each(?)", (now_ms, chosen)
    )
    connection.executemany(
        "UPDATE decision SET details = ? WHERE message_id = ? AND at = ? AND rule = 'cancelled'",
        [("an earlier attempt may have reached the person", message_id, now_ms) for message_id in maybe_sent],
    )
    return maybe_sent


def _standing_condition(standing: Standing, values: list[object]) -> str:
    """The SQL condition for what is shown as this word; its values are appended."""
    by_state: dict[State, list[Receipt | None]] = {}
    for state, receipt in pairs_of(standing):
        by_state.setdefault(state, []).append(receipt)
    choices = []
    for state, receipts in by_state.items():
        values.append(state.value)
        if len(receipts) > len(Receipt):  # whatever the receipt says
            choices.append("m.state = ?")
            continue
        words = [receipt.value for receipt in receipts if receipt is not None]
        values.extend(words)
        in_words = f"m.receipt IN ({', '.join('?' * len(words))})"
        choices.append(f"(m.state = ? AND {f'(m.receipt IS NULL OR {in_words})' if None in receipts else in_words})")
    return f"({' OR '.join(choices)})"


def _read_content(digest: bytes, body: str) -> Content | None:
    if content_hash(body) != digest:
        return None
    try:
        return decode_content(body)
    except (KeyError, ValueError, TypeError):
        return None
