"""Instances: the identities that send, whether they may, and what has happened to them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, assert_never

from wa_cli.errors import Conflict, NotFound, Refused
from wa_cli.ports import Instance, InstanceEvent

if TYPE_CHECKING:
    import sqlite3

    from wa_cli.domain.connection import Connection, Restriction
    from wa_cli.domain.message import Content
    from wa_cli.domain.recipient import RecipientKind
    from wa_cli.domain.retry import Effect, Restrict, Stop
    from wa_cli.ports import NewInstance
    from wa_cli.store.sqlite.database import Database

# In the order in which `_instance` reads them.
COLUMNS: Final = """
    id, name, transport, paused_at, paused_by, pause_code, pause_reason, rests_until, rest_reason, webhooks_since,
    last_webhook_at, settings, secrets, profile, limits, connection, connection_since, connection_raw,
    connection_reason, address, restricted_at, restricted_until, restriction_code, restriction_reason,
    restriction_scope, warm_up_since
"""


class SqliteInstances:
    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, name: str) -> Instance:
        with self._database.read() as connection:
            row = connection.execute(
                f"SELECT {COLUMNS} FROM instance WHERE name = ? AND removed_at IS NULL",  # noqa: S608  # own words
                (name,),
            ).fetchone()
        if row is None:
            known = [instance.name for instance in self.list_all()]
            raise NotFound(
                f"no instance named '{name}'",
                hint=f"there is: {', '.join(known)}" if known else "`wa init` sets one up",
                code="no_instance",
            )
        return _instance(row)

    def list_all(self) -> list[Instance]:
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {COLUMNS} FROM instance WHERE removed_at IS NULL ORDER BY id"  # noqa: S608  # own words
            ).fetchall()
        return [_instance(row) for row in rows]

    def add(self, new: NewInstance, *, now_ms: int) -> Instance:
        with self._database.write() as connection:
            taken = connection.execute(
                """SELECT 'an instance' FROM instance WHERE name = ?1
                UNION ALL SELECT 'a pool' FROM pool WHERE name = ?1""",
                (new.name,),
            ).fetchone()
            if taken is not None:
                raise Conflict(
                    f"there is {taken[0]} named '{new.name}' already",
                    hint="choose another name, or `wa instance remove NAME` first",
                    code="instance_exists",
                )
            added = connection.execute(
                """INSERT INTO instance (name, transport, created_at, settings, secrets, profile, limits, connection,
                    connection_since, warm_up_since) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
                (
                    new.name,
                    new.transport,
                    now_ms,
                    _to_json(new.settings),
                    _to_json(new.secrets),
                    new.profile,
                    _to_json(new.limits),
                    new.connection,
                    now_ms if new.connection else None,
                    new.warm_up_since_ms,
                ),
            ).lastrowid
            assert added is not None
            _note(connection, added, InstanceEvent(at_ms=now_ms, kind="added", word=new.transport, details=None))
        return self.find(new.name)

    def remove(self, instance_id: int, *, move_to: int | None, now_ms: int) -> int:
        with self._database.write() as connection:
            moved = 0
            waiting = _count(connection, instance_id, "queued")
            if _count(connection, instance_id, "sending"):
                raise Refused(
                    "messages of this instance are on their way",
                    hint="`wa instance pause NAME` first, then remove it",
                    code="instance_busy",
                )
            if waiting and move_to is None:
                raise Refused(
                    f"{waiting} waiting {'message' if waiting == 1 else 'messages'} would be left without a sender",
                    hint="name another instance with --move-to NAME, or cancel them: `wa message cancel`",
                    code="instance_has_queue",
                )
            if waiting and move_to is not None:
                moved = move_waiting(connection, instance_id, move_to, now_ms=now_ms)
                _note(connection, move_to, InstanceEvent(at_ms=now_ms, kind="moved", word=str(moved), details=None))
            connection.execute("DELETE FROM pool_member WHERE instance_id = ?", (instance_id,))
            connection.execute("DELETE FROM pool_seat WHERE instance_id = ?", (instance_id,))
            # Its name is free again; messages it has sent go on saying who sent them.
            connection.execute(
                "UPDATE instance SET removed_at = ?, name = name || ' (removed ' || id || ')' WHERE id = ?",
                (now_ms, instance_id),
            )
            _note(connection, instance_id, InstanceEvent(at_ms=now_ms, kind="removed", word="", details=None))
        return moved

    def list_waiting(self, instance_id: int) -> list[tuple[RecipientKind, Content | None]]:
        """What waits for the instance, each content once for people and once for groups; None for a damaged one."""
        from wa_cli.domain.message import decode_content
        from wa_cli.domain.recipient import RecipientKind

        with self._database.read() as connection:
            rows = connection.execute(
                """SELECT kind, body FROM (
                    SELECT DISTINCT contact.kind AS kind, message.content_id AS content_id
                    FROM message JOIN contact ON contact.id = message.contact_id
                    WHERE message.instance_id = ? AND message.state = 'queued')
                JOIN content ON content.id = content_id""",
                (instance_id,),
            ).fetchall()
        waiting: list[tuple[RecipientKind, Content | None]] = []
        for kind, body in rows:
            try:
                content = decode_content(body)
            except (KeyError, TypeError, ValueError):
                content = None
            waiting.append((RecipientKind(kind), content))
        return waiting

    def pause(self, instance_id: int, *, reason: str, now_ms: int) -> bool:
        with self._database.write() as connection:
            changed = connection.execute(
                """UPDATE instance SET paused_at = ?, paused_by = 'person', pause_code = NULL, pause_reason = ?
                WHERE id = ? AND paused_at IS NULL""",
                (now_ms, reason, instance_id),
            )
            if changed.rowcount == 1:
                event = InstanceEvent(at_ms=now_ms, kind="paused", word="person", details=reason)
                _note(connection, instance_id, event)
        return changed.rowcount == 1

    def resume(self, instance_id: int, *, now_ms: int) -> bool:
        with self._database.write() as connection:
            changed = connection.execute(
                """UPDATE instance SET paused_at = NULL, paused_by = NULL, pause_code = NULL, pause_reason = NULL,
                    rests_until = 0, rest_reason = NULL
                WHERE id = ? AND (paused_at IS NOT NULL OR rests_until > 0)""",
                (instance_id,),
            )
            if changed.rowcount == 1:
                _note(connection, instance_id, InstanceEvent(at_ms=now_ms, kind="resumed", word="", details=None))
        return changed.rowcount == 1

    def stop(self, instance_id: int, stop: Stop, *, now_ms: int) -> None:
        with self._database.write() as connection:
            apply_effect(connection, instance_id, stop, now_ms=now_ms)

    def count_sending(self, instance_id: int) -> int:
        with self._database.read() as connection:
            return _count(connection, instance_id, "sending")

    def note_connection(self, instance_id: int, connection: Connection, *, now_ms: int) -> bool:
        with self._database.read() as reader:
            before = reader.execute(
                "SELECT connection, connection_raw, connection_reason, address FROM instance WHERE id = ?",
                (instance_id,),
            ).fetchone()
        is_told = connection.restriction is not None
        seen = (connection.state, connection.raw, connection.reason, connection.address or before[3])
        if before == seen and not is_told:
            return False  # most looks find what the last one found: they cost no write
        with self._database.write() as writer:
            return note_connection(writer, instance_id, connection, now_ms=now_ms)

    def restrict(self, instance_id: int, restrict: Restrict, *, now_ms: int) -> bool:
        with self._database.write() as connection:
            return apply_restriction(connection, instance_id, restrict.restriction, now_ms=now_ms)

    def release(self, instance_id: int, *, now_ms: int) -> bool:
        with self._database.write() as connection:
            changed = connection.execute(
                """UPDATE instance SET restricted_at = NULL, restricted_until = NULL, restriction_code = NULL,
                    restriction_reason = NULL, restriction_scope = NULL
                WHERE id = ? AND restricted_at IS NOT NULL""",
                (instance_id,),
            )
            if changed.rowcount == 1:
                _note(connection, instance_id, InstanceEvent(at_ms=now_ms, kind="released", word="", details=None))
                connection.execute(
                    """UPDATE message SET due_at = min(due_at, ?) WHERE instance_id = ? AND state = 'queued'
                    AND reason = 'restricted'""",
                    (now_ms, instance_id),
                )
        return changed.rowcount == 1

    def note_event(self, instance_id: int, event: InstanceEvent) -> None:
        with self._database.write() as connection:
            _note(connection, instance_id, event)

    def take_restart(
        self, instance_id: int, *, word: str, details: str | None, at_most: int, window_ms: int, now_ms: int
    ) -> bool:
        with self._database.write() as connection:
            (taken,) = connection.execute(
                "SELECT count(*) FROM instance_event WHERE instance_id = ? AND at >= ? AND kind = 'restart'",
                (instance_id, now_ms - window_ms),
            ).fetchone()
            if taken >= at_most:
                return False
            _note(connection, instance_id, InstanceEvent(at_ms=now_ms, kind="restart", word=word, details=details))
        return True

    def read_events(self, instance_id: int, *, since_ms: int, kind: str | None = None) -> list[InstanceEvent]:
        with self._database.read() as connection:
            rows = connection.execute(
                """SELECT at, kind, word, details FROM instance_event
                WHERE instance_id = ? AND at >= ? AND (? IS NULL OR kind = ?) ORDER BY at, id""",
                (instance_id, since_ms, kind, kind),
            ).fetchall()
        return [
            InstanceEvent(at_ms=at, kind=its_kind, word=word, details=details) for at, its_kind, word, details in rows
        ]


def apply_effect(connection: sqlite3.Connection, instance_id: int, effect: Effect, *, now_ms: int) -> None:
    """Rest, pause or restrict an instance, or note that its device is gone, inside the caller's transaction."""
    from wa_cli.domain.connection import Connection  # not for those who only ask how it stands
    from wa_cli.domain.retry import Down, Rest, Restrict, Stop

    match effect:
        case Rest():
            connection.execute(
                "UPDATE instance SET rests_until = max(rests_until, ?), rest_reason = ? WHERE id = ?",
                (now_ms + round(effect.seconds * 1000), effect.reason, instance_id),
            )
        case Stop():
            # The first reason stays: it is the one a person has to act on.
            changed = connection.execute(
                """UPDATE instance SET paused_at = ?, paused_by = ?, pause_code = ?, pause_reason = ?
                WHERE id = ? AND paused_at IS NULL""",
                (now_ms, effect.by, effect.code, effect.reason, instance_id),
            )
            if changed.rowcount == 1:
                event = InstanceEvent(at_ms=now_ms, kind="paused", word=effect.by, details=effect.reason)
                _note(connection, instance_id, event)
        case Down():
            found = Connection(state=effect.state, raw=effect.raw, reason=effect.reason)
            note_connection(connection, instance_id, found, now_ms=now_ms)
        case Restrict():
            apply_restriction(connection, instance_id, effect.restriction, now_ms=now_ms)
        case _:
            assert_never(effect)


def note_connection(connection: sqlite3.Connection, instance_id: int, found: Connection, *, now_ms: int) -> bool:
    """Remember how the device is connected, inside the caller's transaction.  True: its state has changed."""
    (before,) = connection.execute("SELECT connection FROM instance WHERE id = ?", (instance_id,)).fetchone()
    has_changed: bool = before != found.state
    connection.execute(
        """UPDATE instance SET connection = ?1, connection_raw = ?2, connection_reason = ?3,
            address = ifnull(?4, address), connection_since = iif(?5, ?6, ifnull(connection_since, ?6))
        WHERE id = ?7""",
        (found.state, found.raw, found.reason, found.address, has_changed, now_ms, instance_id),
    )
    if found.restriction is not None:
        apply_restriction(connection, instance_id, found.restriction, now_ms=now_ms)
    if has_changed:
        _note(
            connection, instance_id, InstanceEvent(at_ms=now_ms, kind="state", word=found.state, details=found.reason)
        )
    return has_changed


def apply_restriction(
    connection: sqlite3.Connection, instance_id: int, restriction: Restriction, *, now_ms: int
) -> bool:
    """Put a restriction in force inside the caller's transaction.  True: it is a new one.

    One that is in force already can only be widened and drawn out; one that is over by now changes nothing.
    """
    from wa_cli.domain.restriction import combine, in_force

    if in_force(restriction, now_ms=now_ms) is None:
        return False
    row = connection.execute(
        """SELECT restricted_at, restricted_until, restriction_code, restriction_reason, restriction_scope
        FROM instance WHERE id = ?""",
        (instance_id,),
    ).fetchone()
    before = in_force(read_restriction(row), now_ms=now_ms)
    after = restriction if before is None else combine(before, restriction)
    if after == before:
        return False
    connection.execute(
        """UPDATE instance SET restricted_at = ?, restricted_until = ?, restriction_code = ?, restriction_reason = ?,
            restriction_scope = ? WHERE id = ?""",
        (now_ms if before is None else row[0], after.until_ms, after.code, after.reason, after.scope, instance_id),
    )
    _note(
        connection,
        instance_id,
        InstanceEvent(at_ms=now_ms, kind="restricted", word=after.scope, details=after.reason),
    )
    return before is None


def move_waiting(connection: sqlite3.Connection, instance_id: int, move_to: int, *, now_ms: int) -> int:
    """Give every waiting message of one instance to another, with its keys.  Returns how many."""
    connection.execute(
        """INSERT INTO decision (message_id, at, rule, details)
        SELECT message.id, ?, 'moved', instance.name || ' was removed' FROM message
        JOIN instance ON instance.id = message.instance_id
        WHERE message.instance_id = ? AND message.state = 'queued'""",
        (now_ms, instance_id),
    )
    connection.execute(
        """UPDATE OR IGNORE live_key SET instance_id = ? WHERE instance_id = ? AND message_id IN
            (SELECT id FROM message WHERE instance_id = ? AND state = 'queued')""",
        (move_to, instance_id, instance_id),
    )
    return connection.execute(
        "UPDATE message SET instance_id = ? WHERE instance_id = ? AND state = 'queued'", (move_to, instance_id)
    ).rowcount


def read_restriction(row: tuple[int | None, int | None, str | None, str | None, str | None]) -> Restriction | None:
    """The restriction in (restricted_at, restricted_until, code, reason, scope), in force or over; None for none."""
    restricted_at, until_ms, code, reason, scope = row
    if restricted_at is None:
        return None
    from wa_cli.domain.connection import Restriction, RestrictionScope

    return Restriction(
        code=code or "", reason=reason or "", scope=RestrictionScope(scope or "everything"), until_ms=until_ms
    )


def _note(connection: sqlite3.Connection, instance_id: int, event: InstanceEvent) -> None:
    connection.execute(
        "INSERT INTO instance_event (instance_id, at, kind, word, details) VALUES (?, ?, ?, ?, ?)",
        (instance_id, event.at_ms, event.kind, event.word, event.details),
    )


def _count(connection: sqlite3.Connection, instance_id: int, state: str) -> int:
    row = connection.execute(
        "SELECT ifnull(sum(n), 0) FROM tally WHERE instance_id = ? AND state = ?", (instance_id, state)
    ).fetchone()
    return int(row[0])


def _to_json(values: object) -> str:
    return json.dumps(values, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _instance(row: tuple[Any, ...]) -> Instance:
    from wa_cli.domain.connection import ConnectionState

    return Instance(
        id=row[0],
        name=row[1],
        transport=row[2],
        paused_at_ms=row[3],
        paused_by=row[4],
        pause_code=row[5],
        pause_reason=row[6],
        rests_until_ms=row[7],
        rest_reason=row[8],
        webhooks_since_ms=row[9],
        last_webhook_at_ms=row[10],
        settings=json.loads(row[11]),
        secrets=json.loads(row[12]),
        profile=row[13],
        limits=json.loads(row[14]),
        connection=ConnectionState(row[15]) if row[15] else None,
        connection_since_ms=row[16],
        connection_raw=row[17],
        connection_reason=row[18],
        address=row[19],
        restriction=read_restriction(row[20:25]),
        restricted_at_ms=row[20],
        warm_up_since_ms=row[25],
    )
