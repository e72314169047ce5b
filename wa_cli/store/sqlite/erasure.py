"""Taking a person out of the file: who they were goes, what was sent stays countable.

Their messages keep their rows, states and times under a contact without a name, so every count stays true (promise
P13).  All that says who it was goes: the number, its other spellings, names, attributes, words that nobody else got,
what they wrote, the provider's ids (which hold the number), details of errors, and their part of raw webhooks.  Clicks
stay with the messages; where a link led that only they got goes.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import TYPE_CHECKING, Any, Final

from wa_cli.domain.contact import Erased
from wa_cli.domain.link import own_numbers
from wa_cli.domain.message import Text, content_hash, encode_content
from wa_cli.errors import NotFound, Temporary
from wa_cli.store.sqlite.contacts import digest_of, read_install
from wa_cli.store.sqlite.leases import fold_log
from wa_cli.store.sqlite.owners import is_alive
from wa_cli.store.sqlite.people import SqlitePeopleTurn, names_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from wa_cli.store.sqlite.database import Database

# The name of a contact that has none: unique, and no address that anything can be sent to.
NAMELESS: Final = "erased:"
WEBHOOKS_A_LOOK: Final = 500
CONTENTS_AT_ONCE: Final = 2_000

# Theirs, and those of people erased before: a receipt that came late may have brought an id back.
STAGE_MESSAGES: Final = """
    INSERT INTO temp.erased_message SELECT id FROM message
    WHERE contact_id = :contact OR contact_id IN (SELECT id FROM contact WHERE erased_at IS NOT NULL)
"""
STAGE_CONTENTS: Final = """
    INSERT INTO temp.erased_content SELECT content_id FROM message WHERE contact_id = :contact
    UNION SELECT content_id FROM plan_line WHERE contact_id = :contact AND content_id IS NOT NULL
"""
KEEP_SHARED_CONTENTS: Final = """
    DELETE FROM temp.erased_content WHERE id IN
        (SELECT content_id FROM message WHERE contact_id <> :contact AND content_id IN (SELECT id FROM erased_content)
         UNION SELECT content_id FROM plan_line
         WHERE contact_id <> :contact AND content_id IN (SELECT id FROM erased_content))
"""

# Words of plans that were never let go and are gone: nobody knows any more whose they were.
FIND_ORPHANS: Final = """
    SELECT id FROM content WHERE substr(body, 1, 18) <> '{"body":"(erased, '
    EXCEPT SELECT content_id FROM message EXCEPT SELECT content_id FROM plan_line WHERE content_id IS NOT NULL
"""
KEEP_QUEUED: Final = """
    DELETE FROM temp.erased_content WHERE id IN (SELECT content_id FROM message WHERE id > ?)
"""
LAST_PLAN: Final = "SELECT seq FROM sqlite_sequence WHERE name = 'plan'"

# In this order: what points at something goes before it.
CANCEL: Final = """
    INSERT INTO decision (message_id, at, rule)
    SELECT id, :now, 'erased' FROM message WHERE contact_id = :contact AND state = 'queued'
"""
BLANK: Final = (
    """UPDATE message SET state = 'cancelled', reason = 'erased', changed_at = :now
    WHERE contact_id = :contact AND state = 'queued'""",
    """UPDATE message SET provider_message_id = NULL, error_details = NULL
    WHERE id IN (SELECT id FROM erased_message) AND (provider_message_id IS NOT NULL OR error_details IS NOT NULL)""",
    """UPDATE receipt SET provider_message_id = 'erased:' || id, details = NULL WHERE attempt_id IN
        (SELECT attempt.id FROM erased_message JOIN attempt ON attempt.message_id = erased_message.id)""",
    """UPDATE attempt SET provider_message_id = NULL, details = NULL
    WHERE message_id IN (SELECT id FROM erased_message)""",
    # What a dismissed failure was is read from its dismissal.
    """UPDATE decision SET details = NULL
    WHERE message_id IN (SELECT id FROM erased_message) AND rule <> 'dismissed' AND details IS NOT NULL""",
    """DELETE FROM live_key WHERE contact_id = :contact
        AND content_id IN (SELECT content_id FROM message WHERE contact_id = :contact)""",
    """DELETE FROM caller_key WHERE message_id IN (SELECT id FROM erased_message)
        OR (message_id IS NULL AND batch_id IN (SELECT batch_id FROM message WHERE contact_id = :contact)
            AND batch_id NOT IN (SELECT batch_id FROM message WHERE contact_id <> :contact
                AND batch_id IN (SELECT batch_id FROM message WHERE contact_id = :contact)))""",
    # Messages as a plan shows them: whose they are is not told, but what they say may tell it.
    """UPDATE plan SET summary = json_replace(summary, '$.samples', json('[]'), '$.longest', json('null'))
    WHERE summary IS NOT NULL AND id IN (SELECT plan_id FROM plan_line WHERE contact_id = :contact)""",
    # A plan that is applied yet leaves them out, and counts them.
    """UPDATE plan_line SET reason = 'erased', content_id = NULL, part = NULL, due_at = NULL, expires_at = NULL
    WHERE contact_id = :contact AND content_id IS NOT NULL
        AND plan_id IN (SELECT id FROM plan WHERE applied_at IS NULL)""",
    "UPDATE plan_line SET details = NULL WHERE contact_id = :contact AND details IS NOT NULL",
    "UPDATE exclusion SET details = NULL WHERE contact_id = :contact AND details IS NOT NULL",
    "DELETE FROM link WHERE number BETWEEN :first_link AND :last_link",
    "UPDATE click SET agent = NULL WHERE contact_id = :contact AND agent IS NOT NULL",
    "DELETE FROM inbound WHERE contact_id = :contact",
    "DELETE FROM conversation WHERE instance_id IN (SELECT id FROM instance) AND contact_id = :contact",
    "DELETE FROM member WHERE contact_id = :contact",
    "DELETE FROM number_check WHERE contact_id = :contact",
    "DELETE FROM consent WHERE contact_id = :contact",
    "DELETE FROM contact_alias WHERE contact_id = :contact",
    # Opted out for good: nothing that is still under way for them goes out.
    """UPDATE contact SET address = 'erased:' || id, name = NULL, attributes = NULL, erased_at = :now,
        opted_out_at = ifnull(opted_out_at, :now) WHERE id = :contact""",
)


class SqliteErasure:
    def __init__(self, database: Database) -> None:
        self._database = database

    def erase(self, address: str, *, now_ms: int) -> Erased:
        """Take out whoever is behind an address; one transaction, and then the raw webhooks a few at a time.

        Doing it again finishes what was cut short.  Of somebody who had opted out a digest of the address stays, so
        that nobody adds them again by mistake.
        Raises: Temporary while a message to them is on its way or others are being queued; NotFound when nothing here
        knows of them.
        """
        connection = self._database.connection
        connection.execute("PRAGMA secure_delete = ON").fetchone()  # freed pages are overwritten, not just forgotten
        self._blank_orphans()
        with self._database.write():
            contact_id = SqlitePeopleTurn(connection).find(address)
            names = [address] if contact_id is None else names_of(connection, contact_id)
            erased = Erased(names=tuple(names))
            if contact_id is not None:
                _check_quiet(connection, contact_id)
                self._check_no_plan()
                erased = _erase_contact(connection, contact_id, names, now_ms=now_ms)
            receipts = _blank_receipts(connection, names)
        fold_log(self._database)
        webhooks = self._scrub_webhooks(names)
        if contact_id is None and not webhooks and not receipts:
            raise NotFound(
                f"nobody here has the number {address}", hint="`wa contact list` shows who there is", code="no_contact"
            )
        return erased.with_webhooks(webhooks)

    def _blank_orphans(self) -> None:
        """Other words over those of plans that are gone, whoever they were for; some in each transaction.

        Raises: Temporary while messages are being queued or a plan is being made: its words belong to nothing yet.
        """
        while (found := self._find_orphans()) is not None:
            newest, last_plan, ids = found
            for start in range(0, len(ids), CONTENTS_AT_ONCE):
                with self._database.write() as connection:
                    self._check_no_plan()
                    if connection.execute(LAST_PLAN).fetchone() != last_plan:
                        break  # a plan was made meanwhile, which may say the same again
                    _make_lists(connection)
                    connection.executemany(
                        "INSERT INTO temp.erased_content VALUES (?)", ((one,) for one in ids[start:][:CONTENTS_AT_ONCE])
                    )
                    connection.execute(KEEP_QUEUED, (newest,))
                    _blank_contents(connection)
                    _drop_lists(connection)
                fold_log(self._database)
            else:
                return

    def _find_orphans(self) -> tuple[int, tuple[int], list[int]] | None:
        """(the newest message, the last plan, contents of no message and no plan), or None where nothing was planned.

        Looked for before the file is locked, since that takes its time.
        """
        with self._database.read() as connection:
            last_plan = connection.execute(LAST_PLAN).fetchone()
            if last_plan is None:
                return None
            _check_not_queueing(connection)  # so no message that is there goes, and its number to another one
            (newest,) = connection.execute("SELECT ifnull(max(id), 0) FROM message").fetchone()
            return newest, last_plan, [row[0] for row in connection.execute(FIND_ORPHANS)]

    def _check_no_plan(self) -> None:
        """Raises: Temporary while words are being filled in for a plan, which may be theirs."""
        owners = self._database.connection.execute("SELECT owner FROM plan WHERE finished_at IS NULL").fetchall()
        if any(owner is not None and is_alive(self._database.path, owner) for (owner,) in owners):
            raise Temporary(
                "another process is planning a campaign at this moment, so nothing was erased",
                hint="run the same command again when it has ended",
                code="planning",
            )

    def _scrub_webhooks(self, names: Sequence[str]) -> int:
        """Take what is about these names out of raw webhooks.  Returns how many of them held something."""
        needles = [name.removeprefix("user:").removeprefix("+") for name in names]
        condition = " OR ".join("instr(body, CAST(? AS BLOB)) > 0" for _needle in needles)
        changed = last = 0
        while True:
            with self._database.read() as connection:
                (newest,) = connection.execute(
                    "SELECT max(id) FROM (SELECT id FROM webhook_logs WHERE id > ? ORDER BY id LIMIT ?)",
                    (last, WEBHOOKS_A_LOOK),
                ).fetchone()
                if newest is None:
                    return changed
                rows = connection.execute(
                    f"SELECT id, body FROM webhook_logs WHERE id > ? AND id <= ? AND ({condition})",  # noqa: S608  # only marks
                    (last, newest, *needles),
                ).fetchall()
            last = newest
            scrubbed = [(body, row_id) for row_id, old in rows if (body := scrub(old, needles)) != bytes(old)]
            if scrubbed:
                with self._database.write() as connection:
                    connection.executemany("UPDATE webhook_logs SET body = ? WHERE id = ?", scrubbed)
                changed += len(scrubbed)
                fold_log(self._database)


def _check_quiet(connection: sqlite3.Connection, contact_id: int) -> None:
    """Raises: Temporary while an answer is still to be written, or words that are being queued may yet be theirs."""
    if connection.execute(
        "SELECT 1 FROM message WHERE state = 'sending' AND contact_id = ? LIMIT 1", (contact_id,)
    ).fetchone():
        raise Temporary(
            "a message to them is on its way at this moment, so nothing was erased",
            hint="run the same command again in a minute",
            code="on_its_way",
        )
    _check_not_queueing(connection)


def _check_not_queueing(connection: sqlite3.Connection) -> None:
    # A new plan of a campaign that was cut short is nobody's: its messages are there, and stay.
    if connection.execute(
        """SELECT 1 FROM batch WHERE released_at IS NULL
            AND (run_id IS NULL OR run_id IN (SELECT id FROM run WHERE owner IS NOT NULL)) LIMIT 1"""
    ).fetchone():
        raise Temporary(
            "another process is queueing messages at this moment, so nothing was erased",
            hint="run the same command again when it has ended",
            code="queueing",
        )


def _make_lists(connection: sqlite3.Connection) -> None:
    for table in ("erased_message", "erased_content"):
        connection.execute(f"CREATE TEMP TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY)")
        connection.execute(f"DELETE FROM temp.{table}")  # noqa: S608  # own words


def _drop_lists(connection: sqlite3.Connection) -> None:
    for table in ("erased_message", "erased_content"):
        connection.execute(f"DROP TABLE temp.{table}")


def _erase_contact(connection: sqlite3.Connection, contact_id: int, names: Sequence[str], *, now_ms: int) -> Erased:
    first_link, last_link = own_numbers(contact_id)
    values = {"contact": contact_id, "now": now_ms, "first_link": first_link, "last_link": last_link}
    _make_lists(connection)
    connection.execute(STAGE_MESSAGES, values)
    connection.execute(STAGE_CONTENTS, values)
    connection.execute(KEEP_SHARED_CONTENTS, values)
    (messages,) = connection.execute("SELECT count(*) FROM message WHERE contact_id = ?", (contact_id,)).fetchone()
    (opted_out_at,) = connection.execute("SELECT opted_out_at FROM contact WHERE id = ?", (contact_id,)).fetchone()
    if opted_out_at is not None:
        install = read_install(connection)
        connection.executemany(
            "INSERT INTO suppressed (digest, at) VALUES (?, ?) ON CONFLICT DO UPDATE SET at = excluded.at",
            [(digest_of(install, name), opted_out_at) for name in names],
        )
    _hand_on(connection, contact_id)
    cancelled = connection.execute(CANCEL, values).rowcount
    contents = _blank_contents(connection)
    for statement in BLANK:
        connection.execute(statement, values)
    _drop_lists(connection)
    return Erased(
        names=tuple(names),
        messages=messages,
        cancelled=cancelled,
        contents=contents,
        is_suppressed=opted_out_at is not None,
    )


def _hand_on(connection: sqlite3.Connection, contact_id: int) -> None:
    """What was said under this number by somebody who has another one now stays said there."""
    turn = SqlitePeopleTurn(connection)
    for link in turn.links_from(contact_id):
        connection.execute(
            """UPDATE consent SET contact_id = ?
            WHERE contact_id = ? AND (at <= ? OR (actor >= 'user:' AND actor < 'user;'))""",
            (link.new_id, contact_id, link.at_ms),
        )
        for earlier in turn.links_to(contact_id):
            if earlier.at_ms < link.at_ms:
                turn.link(earlier.old_id, link.new_id, at_ms=earlier.at_ms)
        connection.execute("DELETE FROM contact_alias WHERE alias = ?", (link.alias,))


def _blank_contents(connection: sqlite3.Connection) -> int:
    """Other words over the ones that only they got.  The rows stay: a number that is used again could be remembered."""
    ids = [row[0] for row in connection.execute("SELECT id FROM temp.erased_content")]
    blank = [(encode_content(Text(body=f"(erased, {content_id})")), content_id) for content_id in ids]
    connection.executemany(
        "UPDATE content SET body = ?, hash = ? WHERE id = ?",
        [(body, content_hash(body), content_id) for body, content_id in blank],
    )
    return len(ids)


def _blank_receipts(connection: sqlite3.Connection, names: Sequence[str]) -> int:
    """Receipts that name them without being of a message of ours: of a group, or of somebody else's post."""
    digits = [name.removeprefix("user:").removeprefix("+") for name in names]
    own_names = [*digits, *names]
    marks = ",".join("?" * len(own_names))
    changed = connection.execute(
        f"UPDATE receipt SET participant = 'erased:' || id WHERE participant <> '' AND participant IN ({marks})",  # noqa: S608  # only marks
        own_names,
    ).rowcount
    unmatched = connection.execute("SELECT id, provider_message_id FROM receipt WHERE attempt_id IS NULL").fetchall()
    theirs = [(row_id,) for row_id, provider_id in unmatched if _holds(provider_id, digits)]
    connection.executemany(
        "UPDATE receipt SET provider_message_id = 'erased:' || id, details = NULL WHERE id = ?", theirs
    )
    return changed + len(theirs)


def _holds(provider_id: str, digits: Sequence[str]) -> bool:
    """Whether an id of the provider's spells one of these numbers inside its base64."""
    spelled = provider_id.partition(".")[2].rstrip("=")
    try:
        inside = base64.b64decode(spelled[: len(spelled) // 4 * 4])
    except (binascii.Error, ValueError):
        return False
    return any(one.encode() in inside for one in digits if one)


def scrub(body: bytes, needles: Sequence[str]) -> bytes:
    """A raw webhook without the parts that mention these numbers or ids.

    Knows no provider's shapes: of every list the smallest entries that mention them go, and what is not in a list goes
    with the whole.  What is no JSON goes as a whole, too.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return b"{}"
    pattern = re.compile("|".join(rf"(?<![0-9A-Za-z]){re.escape(needle)}(?![0-9A-Za-z])" for needle in needles))
    scrubbed, still_there = _scrub(document, pattern)
    if still_there:
        return b"{}"
    return bytes(body) if scrubbed == document else json.dumps(scrubbed, separators=(",", ":")).encode()


def _scrub(value: Any, pattern: re.Pattern[str]) -> tuple[Any, bool]:
    """The value without its list entries that mention them, and whether it mentions them still."""
    match value:
        case dict():
            parts = {name: _scrub(part, pattern) for name, part in value.items()}
            mentions = any(still for _part, still in parts.values()) or any(map(pattern.search, parts))
            return {name: part for name, (part, _still) in parts.items()}, mentions
        case list():
            return list(_keep(value, pattern)), False
        case str() | int() | float():
            return value, pattern.search(str(value)) is not None
        case _:
            return value, False


def _keep(values: list[Any], pattern: re.Pattern[str]) -> Iterator[Any]:
    for value in values:
        part, mentions = _scrub(value, pattern)
        if not mentions:
            yield part
