"""People: what events teach us about them, and what is asked about them.

A person may be known by several names: the address we write to, WhatsApp's spelling of it (`wa:5511...`), its own id of
them (`user:BR.13...`).  All of them are aliases of one contact.  A change of number is a link between two contacts,
an alias of the new one `moved:OLD:TIME:NEW`; what was said under the old one until then is in force for the new one,
whichever of the two we heard of first.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from wa_cli.domain.consent import Wish, opted_out_since
from wa_cli.domain.recipient import InvalidRecipient, RecipientKind, parse_recipient
from wa_cli.domain.subgroup import decode_attributes, merge_attributes
from wa_cli.store.sqlite.contacts import INSERT_CONTACT, SPELLING, digest_of, read_install, suppress_again

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from wa_cli.domain.consent import Change
    from wa_cli.domain.event import InboundEvent, Person
    from wa_cli.store.sqlite.database import Database

USER: Final = "user:"
MOVED: Final = "moved:"
# Two spellings of one number differ in their beginning: a trunk digit, a mark for mobiles.
SHARED_DIGITS: Final = 7
FOREVER: Final = 2**62

INSERT_CONSENT: Final = """
    INSERT INTO consent (contact_id, at, change, source, wording, actor, evidence) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO NOTHING
"""

# What was said under a number until it changed hands, and at any time by whoever has that id of the provider's.
READ_WISHES: Final = """
    SELECT change, at FROM consent WHERE contact_id = ? AND (at <= ? OR (actor >= 'user:' AND actor < 'user;'))
"""

# When a contact last wrote, to whichever instance.  Instances are few, contacts many.
LAST_INBOUND: Final = """
    SELECT max(conversation.last_inbound_at) FROM instance CROSS JOIN conversation
        ON conversation.instance_id = instance.id AND conversation.contact_id = ?
"""

NOTE_INBOUND: Final = """
    INSERT INTO inbound (instance_id, contact_id, at, kind, provider_message_id, context_message_id)
    VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
NOTE_TALK: Final = """
    INSERT INTO conversation (instance_id, contact_id, last_inbound_at) VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET last_inbound_at = max(ifnull(last_inbound_at, excluded.last_inbound_at),
        excluded.last_inbound_at)
"""
NOTE_CLOSED: Final = """
    INSERT INTO conversation (instance_id, contact_id, closed_at) VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET closed_at = max(ifnull(closed_at, excluded.closed_at), excluded.closed_at)
"""

# What a contact that only had the provider's id has gathered goes to the one with the number.
MERGE: Final = (
    "UPDATE consent SET contact_id = :into WHERE contact_id = :gone",
    "UPDATE inbound SET contact_id = :into WHERE contact_id = :gone",
    """
    INSERT INTO conversation (instance_id, contact_id, last_inbound_at, closed_at)
    SELECT instance_id, :into, last_inbound_at, closed_at FROM instance CROSS JOIN conversation
        ON conversation.instance_id = instance.id AND conversation.contact_id = :gone
    WHERE true ON CONFLICT DO UPDATE SET
        last_inbound_at = nullif(max(ifnull(last_inbound_at, -1), ifnull(excluded.last_inbound_at, -1)), -1),
        closed_at = nullif(max(ifnull(closed_at, -1), ifnull(excluded.closed_at, -1)), -1)
    """,
    "DELETE FROM conversation WHERE instance_id IN (SELECT id FROM instance) AND contact_id = :gone",
    "UPDATE contact_alias SET contact_id = :into WHERE contact_id = :gone",
    "UPDATE OR IGNORE member SET contact_id = :into WHERE contact_id = :gone",
    "DELETE FROM member WHERE contact_id = :gone",
    "DELETE FROM contact WHERE id = :gone",
)


class Link(NamedTuple):
    """The person behind the old contact is the new one from that moment on."""

    at_ms: int
    old_id: int
    new_id: int

    @property
    def alias(self) -> str:
        return f"{MOVED}{self.old_id}:{self.at_ms}:{self.new_id}"


class SqlitePeople:
    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def turn(self) -> Iterator[SqlitePeopleTurn]:
        """One durable transaction in which people are learned about."""
        with self._database.write() as connection:
            yield SqlitePeopleTurn(connection)


class SqlitePeopleTurn:
    """Implements PeopleTurn on a transaction that its caller has opened."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    # --- who is it ---

    def resolve(self, person: Person, *, now_ms: int) -> int:
        contact_id = self._find_by_address(person.address) if person.address is not None else None
        if contact_id is not None:
            self.learn(contact_id, person)
            return contact_id
        known_id = self._find_alias(USER + person.user_id) if person.user_id is not None else None
        if person.address is None and known_id is not None:
            return known_id
        if known_id is not None and self._is_spelling(known_id, person.address):
            self.learn(known_id, person)
            return known_id
        address = _canonical(person.address) if person.address is not None else f"{USER}{person.user_id}"
        self._connection.execute(INSERT_CONTACT, (address, RecipientKind.PERSON, now_ms))
        (contact_id,) = self._connection.execute("SELECT id FROM contact WHERE address = ?", (address,)).fetchone()
        suppress_again(self._connection, {address: contact_id})
        self.learn(contact_id, person)
        return int(contact_id)

    def learn(self, contact_id: int, person: Person) -> None:
        row = self._connection.execute(
            "SELECT address FROM contact WHERE id = ? AND erased_at IS NULL", (contact_id,)
        ).fetchone()
        if row is None:
            return
        address: str = row[0]
        if person.address is not None and person.address != address:
            if address.startswith(USER):
                self._give_address(contact_id, _canonical(person.address))
            self._add_alias(SPELLING + person.address.removeprefix("+"), contact_id)
        if person.user_id is not None:
            known_id = self._add_alias(USER + person.user_id, contact_id)
            if known_id != contact_id and self._address(known_id).startswith(USER):
                self._merge(known_id, contact_id)

    def _find_by_address(self, address: str) -> int | None:
        found = self._find_contact(address) or self._find_alias(SPELLING + address.removeprefix("+"))
        if found is None and (canonical := _canonical(address)) != address:
            found = self._find_contact(canonical)
        return found

    def _find_contact(self, address: str) -> int | None:
        row = self._connection.execute("SELECT id FROM contact WHERE address = ?", (address,)).fetchone()
        return int(row[0]) if row else None

    def _find_alias(self, alias: str) -> int | None:
        row = self._connection.execute("SELECT contact_id FROM contact_alias WHERE alias = ?", (alias,)).fetchone()
        return int(row[0]) if row else None

    def _address(self, contact_id: int) -> str:
        return str(self._connection.execute("SELECT address FROM contact WHERE id = ?", (contact_id,)).fetchone()[0])

    def _add_alias(self, alias: str, contact_id: int) -> int:
        """Whose alias it is afterwards: the first contact that had it keeps it."""
        if alias.startswith(SPELLING) and (other := self._find_contact("+" + alias.removeprefix(SPELLING))):
            return other  # the address of a contact is nobody's spelling
        self._connection.execute(
            "INSERT INTO contact_alias (alias, contact_id) VALUES (?, ?) ON CONFLICT DO NOTHING", (alias, contact_id)
        )
        return self._find_alias(alias) or contact_id

    def _is_spelling(self, contact_id: int, address: str | None) -> bool:
        """Whether an address that is new can be another spelling of the contact's, or the first one it gets."""
        known = self._address(contact_id)
        return known.startswith(USER) or (address or "")[-SHARED_DIGITS:] == known[-SHARED_DIGITS:]

    def _give_address(self, contact_id: int, address: str) -> None:
        """A contact that only had the provider's id now has a number."""
        self._connection.execute("UPDATE contact SET address = ? WHERE id = ?", (address, contact_id))
        suppress_again(self._connection, {address: contact_id})
        self._weigh(contact_id)

    def _merge(self, gone_id: int, into_id: int) -> None:
        connection = self._connection
        (name,) = connection.execute("SELECT name FROM contact WHERE id = ?", (gone_id,)).fetchone()
        if name is not None:
            ((theirs,), (ours,)) = (connection.execute(LAST_INBOUND, (one,)).fetchone() for one in (gone_id, into_id))
            self._note_name(into_id, name, is_newest=(theirs or 0) > (ours or 0), is_tied=theirs == ours)
        for link in (*self._links_from(gone_id), *self._links_to(gone_id)):
            connection.execute("DELETE FROM contact_alias WHERE alias = ?", (link.alias,))
            ends = [into_id if end == gone_id else end for end in (link.old_id, link.new_id)]
            self._add_link(Link(link.at_ms, *ends))
        for statement in MERGE:
            connection.execute(statement, {"into": into_id, "gone": gone_id})
        self._weigh_all(into_id)

    # --- what they say ---

    def note_inbound(self, instance_id: int, contact_id: int, event: InboundEvent) -> bool:
        connection = self._connection
        if self._is_erased(contact_id):
            return False
        (latest,) = connection.execute(LAST_INBOUND, (contact_id,)).fetchone()
        added = connection.execute(
            NOTE_INBOUND,
            (instance_id, contact_id, event.at_ms, event.kind, event.provider_message_id, event.context_message_id),
        )
        connection.execute(NOTE_TALK, (instance_id, contact_id, event.at_ms))
        if event.person.name:
            self._note_name(
                contact_id,
                event.person.name,
                is_newest=latest is None or event.at_ms > latest,
                is_tied=event.at_ms == latest,
            )
        return added.rowcount == 1

    def _note_name(self, contact_id: int, name: str, *, is_newest: bool, is_tied: bool) -> None:
        """The name of the latest message; of two at one moment the greater, so that their order does not matter."""
        (known,) = self._connection.execute("SELECT name FROM contact WHERE id = ?", (contact_id,)).fetchone()
        if known == name or not (is_newest or known is None or (is_tied and name > known)):
            return
        self._connection.execute("UPDATE contact SET name = ? WHERE id = ?", (name, contact_id))

    def note_window_closed(self, instance_id: int, contact_id: int, *, at_ms: int) -> None:
        if not self._is_erased(contact_id):
            self._connection.execute(NOTE_CLOSED, (instance_id, contact_id, at_ms))

    def record_consent(self, contact_id: int, change: Change) -> bool:
        if self._is_erased(contact_id):
            return False
        added = self._connection.execute(
            INSERT_CONSENT,
            (
                contact_id,
                change.at_ms,
                change.wish,
                change.source,
                change.wording,
                change.actor,
                change.evidence,
            ),
        )
        if added.rowcount:
            self._weigh_all(contact_id)
        return added.rowcount == 1

    def _is_erased(self, contact_id: int) -> bool:
        row = self._connection.execute("SELECT erased_at FROM contact WHERE id = ?", (contact_id,)).fetchone()
        return row is None or row[0] is not None

    # --- one person, several numbers ---

    def link(self, old_id: int, new_id: int, *, at_ms: int) -> None:
        if self._add_link(Link(at_ms, old_id, new_id)):
            self._move_memberships(old_id, at_ms)
            self._weigh_all(new_id)

    def _add_link(self, link: Link) -> bool:
        """Whether it is a link at all, and new."""
        if link.old_id == link.new_id:
            return False
        added = self._connection.execute(
            "INSERT INTO contact_alias (alias, contact_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (link.alias, link.new_id),
        )
        return added.rowcount == 1

    def _links_from(self, contact_id: int) -> list[Link]:
        """Where the person behind a contact went, in the order of time.  Mostly nowhere."""
        rows = self._connection.execute(
            "SELECT alias FROM contact_alias WHERE alias >= ? AND alias < ?",
            (f"{MOVED}{contact_id}:", f"{MOVED}{contact_id};"),
        ).fetchall()
        return sorted(_read_link(alias) for (alias,) in rows)

    def _links_to(self, contact_id: int) -> list[Link]:
        rows = self._connection.execute(
            "SELECT alias FROM contact_alias WHERE contact_id = ? AND alias >= 'moved:' AND alias < 'moved;'",
            (contact_id,),
        ).fetchall()
        return [_read_link(alias) for (alias,) in rows]

    def _move_memberships(self, old_id: int, at_ms: int) -> None:
        """The lists a person was on go with them, as far as they have gone; so does what is known of them."""
        new_id, since = old_id, at_ms - 1
        while (link := next((link for link in self._links_from(new_id) if link.at_ms > since), None)) is not None:
            new_id, since = link.new_id, link.at_ms
        if new_id == old_id:
            return
        connection = self._connection
        connection.execute("UPDATE OR IGNORE member SET contact_id = ? WHERE contact_id = ?", (new_id, old_id))
        connection.execute("DELETE FROM member WHERE contact_id = ?", (old_id,))
        (old,) = connection.execute("SELECT attributes FROM contact WHERE id = ?", (old_id,)).fetchone()
        (new,) = connection.execute("SELECT attributes FROM contact WHERE id = ?", (new_id,)).fetchone()
        if old is not None:
            merged = merge_attributes(old, decode_attributes(new))
            connection.execute("UPDATE contact SET attributes = ? WHERE id = ?", (merged, new_id))

    def _weigh_all(self, contact_id: int) -> None:
        """Bring up to date whether a contact is opted out, and everybody who was that person later."""
        waiting, done = [contact_id], set[int]()
        while waiting:
            one = waiting.pop()
            if one not in done:
                done.add(one)
                self._weigh(one)
                waiting += [link.new_id for link in self._links_from(one)]

    def _weigh(self, contact_id: int) -> None:
        since = opted_out_since(
            (Wish(wish), at_ms)
            for source_id, until in self._earlier_selves(contact_id)
            for wish, at_ms in self._connection.execute(READ_WISHES, (source_id, until))
        )
        self._connection.execute(
            "UPDATE contact SET opted_out_at = ? WHERE id = ? AND opted_out_at IS NOT ?", (since, contact_id, since)
        )
        if since is None:
            self._forget_suppression(contact_id)

    def _earlier_selves(self, contact_id: int) -> list[tuple[int, int]]:
        """The contacts a person was known as, this one first, each with the time until which they were that one."""
        found: dict[int, int] = {}
        waiting = [(contact_id, FOREVER)]
        while waiting:
            one, until = waiting.pop()
            if found.get(one, -1) >= until:
                continue
            found[one] = until
            waiting += [(link.old_id, link.at_ms) for link in self._links_to(one) if link.at_ms < until]
        return list(found.items())

    def _forget_suppression(self, contact_id: int) -> None:
        """They are back: a later erase begins anew."""
        connection = self._connection
        if connection.execute("SELECT 1 FROM suppressed LIMIT 1").fetchone() is None:
            return
        install = read_install(connection)
        connection.executemany(
            "DELETE FROM suppressed WHERE digest = ?",
            [(digest_of(install, name),) for name in names_of(connection, contact_id)],
        )


def names_of(connection: sqlite3.Connection, contact_id: int) -> list[str]:
    """Every address a contact can come in by: its own, WhatsApp's spellings of it, the provider's ids."""
    (address,) = connection.execute("SELECT address FROM contact WHERE id = ?", (contact_id,)).fetchone()
    aliases = connection.execute("SELECT alias FROM contact_alias WHERE contact_id = ?", (contact_id,)).fetchall()
    names = [address]
    for (alias,) in aliases:
        if alias.startswith(SPELLING):
            names.append("+" + alias.removeprefix(SPELLING))
        elif alias.startswith(USER):
            names.append(alias)
    return names


def _canonical(address: str) -> str:
    """The one spelling of a number that lists of recipients are read to; the number itself where that is not known."""
    try:
        return parse_recipient(address, default_region=None).address
    except InvalidRecipient:
        return address


def _read_link(alias: str) -> Link:
    _moved, old_id, at_ms, new_id = alias.split(":")
    return Link(int(at_ms), int(old_id), int(new_id))
