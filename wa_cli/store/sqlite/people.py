"""People: what events teach us about them, and what is asked about them.

A person may be known by several names: the address we write to, WhatsApp's spelling of it (`wa:5511...`), its own id of
them (`user:BR.13...`).  All of them are aliases of one contact.  A change of number is a link between two contacts,
an alias of the new one `moved:OLD:TIME:NEW`; what was said under the old one until then is in force for the new one,
whichever of the two we heard of first.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wa_cli.domain.consent import Change, Source, Wish, opted_out_since
from wa_cli.domain.contact import ConsentRow, Contact, Profile, TakenIn, Talk, last_word
from wa_cli.domain.message import State
from wa_cli.domain.receipt import Receipt, derive_standing
from wa_cli.domain.recipient import InvalidRecipient, RecipientKind, parse_recipient
from wa_cli.domain.subgroup import decode_attributes, merge_attributes
from wa_cli.domain.window import Hearing
from wa_cli.errors import NotFound
from wa_cli.store.sqlite.contacts import (
    INSERT_CONTACT,
    SPELLING,
    digest_of,
    find_contacts,
    find_or_add_contacts,
    read_install,
    suppress_again,
)
from wa_cli.store.sqlite.leases import fold_log
from wa_cli.store.sqlite.links import count_clicks_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from wa_cli.domain.contact import KnownPerson
    from wa_cli.domain.event import InboundEvent, Person
    from wa_cli.store.sqlite.database import Database

USER: Final = "user:"
MOVED: Final = "moved:"
# Two spellings of one number differ in their beginning: a trunk digit, a mark for mobiles.
SHARED_DIGITS: Final = 7
FOREVER: Final = 2**62
# The time of a link between two contacts that are one person all the time, under two spellings of one number.
ALWAYS: Final = FOREVER - 1
PAGE_ROWS: Final = 2_000

INSERT_CONSENT: Final = """
    INSERT INTO consent (contact_id, at, change, source, wording, actor, evidence) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO NOTHING
"""

# What was said under a number until it changed hands, and at any time by whoever has that id of the provider's.
READ_WISHES: Final = """
    SELECT change, at FROM consent WHERE contact_id = ? AND (at <= ? OR (actor >= 'user:' AND actor < 'user;'))
"""

READ_LEDGER: Final = """
    SELECT consent.id, at, change, source, wording, actor, address FROM consent JOIN contact ON contact.id = contact_id
    WHERE contact_id = ? AND (at <= ? OR (actor >= 'user:' AND actor < 'user;'))
"""

# A contact in the order of `_contact`.
READ_CONTACTS: Final = """
    SELECT c.id, c.address, c.kind, c.created_at, c.name, c.attributes, c.opted_out_at,
        (SELECT max(conversation.last_inbound_at) FROM instance CROSS JOIN conversation
            ON conversation.instance_id = instance.id AND conversation.contact_id = c.id)
    FROM contact AS c
"""
# Those of some contacts about whom the ledger has anything: most people never say a word about it.
HAVE_SPOKEN: Final = """
    SELECT contact_id FROM consent WHERE contact_id BETWEEN :first AND :last
    UNION SELECT contact_id FROM contact_alias
        WHERE alias >= 'moved:' AND alias < 'moved;' AND contact_id BETWEEN :first AND :last
"""
READ_SUBGROUPS: Final = """
    SELECT subgroup.name FROM subgroup JOIN member ON member.subgroup_id = subgroup.id
    WHERE member.contact_id = ? ORDER BY subgroup.id
"""
READ_TALKS: Final = """
    SELECT instance.name, transport, webhooks_since, last_webhook_at, last_inbound_at, closed_at
    FROM instance LEFT JOIN conversation ON instance_id = instance.id AND contact_id = ? ORDER BY instance.id
"""
COUNT_OPTED_OUT_MEMBERS: Final = """
    SELECT count(*) FROM contact CROSS JOIN member
        ON member.subgroup_id = ? AND member.contact_id = contact.id
    WHERE contact.opted_out_at IS NOT NULL
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
# A group is never a stranger: nobody opens a chat by writing to it.
KNOWS: Final = """
    SELECT kind = 'group' OR EXISTS (SELECT 1 FROM conversation
        WHERE instance_id = ?1 AND contact_id = contact.id AND last_inbound_at > ?3)
    FROM contact WHERE id = ?2
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
    INSERT INTO conversation (instance_id, contact_id, last_inbound_at, closed_at, unanswered, opened_at)
    SELECT instance_id, :into, last_inbound_at, closed_at, unanswered, opened_at FROM instance CROSS JOIN conversation
        ON conversation.instance_id = instance.id AND conversation.contact_id = :gone
    WHERE true ON CONFLICT DO UPDATE SET
        last_inbound_at = nullif(max(ifnull(last_inbound_at, -1), ifnull(excluded.last_inbound_at, -1)), -1),
        closed_at = nullif(max(ifnull(closed_at, -1), ifnull(excluded.closed_at, -1)), -1),
        unanswered = min(unanswered, excluded.unanswered),
        opened_at = nullif(max(ifnull(opened_at, -1), ifnull(excluded.opened_at, -1)), -1)
    """,
    "DELETE FROM conversation WHERE instance_id IN (SELECT id FROM instance) AND contact_id = :gone",
    "UPDATE contact_alias SET contact_id = :into WHERE contact_id = :gone",
    "UPDATE OR IGNORE number_check SET contact_id = :into WHERE contact_id = :gone",
    "DELETE FROM number_check WHERE contact_id = :gone",
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

    def take_in(self, people: Sequence[KnownPerson], *, actor: str, now_ms: int) -> Counter[TakenIn]:
        """Add people of a list with their attributes and what it says of their consent; one transaction.

        A list never brings back somebody who has opted out here: it may be older than their word.
        """
        with self._database.write() as connection:
            counts = _Arrivals(connection, actor=actor, now_ms=now_ms).take_in(people)
        fold_log(self._database)
        return counts

    # --- looking ---

    def find(self, address: str) -> Contact:
        """The person behind an address, an id of the provider's or any spelling of it.  Raises: NotFound."""
        with self._database.read() as connection:
            contact_id = SqlitePeopleTurn(connection).find(address)
            if contact_id is None:
                raise NotFound(
                    f"nobody here has the number {address}",
                    hint="`wa contact list` shows who there is",
                    code="no_contact",
                )
            return _contact(connection.execute(f"{READ_CONTACTS} WHERE c.id = ?", (contact_id,)).fetchone())

    def list_page(self, *, opted_out: bool = False, after_id: int = 0, limit: int) -> list[Contact]:
        """The next people in the order in which they came.  opted_out: those alone."""
        which = "AND c.opted_out_at IS NOT NULL" if opted_out else ""
        with self._database.read() as connection:
            rows = connection.execute(
                f"""{READ_CONTACTS} WHERE c.id > ? AND c.kind = 'person' AND c.erased_at IS NULL {which}
                ORDER BY c.id LIMIT ?""",
                (after_id, limit),
            ).fetchall()
        return [_contact(row) for row in rows]

    def iterate(self, *, opted_out: bool = False) -> Iterator[tuple[Contact, ConsentRow | None]]:
        """Everybody with the row of the ledger that is in force for them, read a page at a time."""
        after_id = 0
        while page := self.list_page(opted_out=opted_out, after_id=after_id, limit=PAGE_ROWS):
            after_id = page[-1].id
            words: dict[int, ConsentRow | None] = {}
            with self._database.read() as connection:
                turn = SqlitePeopleTurn(connection)
                for (contact_id,) in connection.execute(
                    HAVE_SPOKEN, {"first": page[0].id, "last": after_id}
                ).fetchall():
                    words[contact_id] = last_word(turn.read_consent(contact_id))
            for contact in page:
                yield contact, words.get(contact.id)

    def count(self) -> tuple[int, int]:
        """How many people there are, and how many of them have opted out."""
        with self._database.read() as connection:
            row = connection.execute(
                """SELECT (SELECT count(*) FROM contact WHERE kind = 'person' AND erased_at IS NULL),
                    (SELECT count(*) FROM contact WHERE opted_out_at IS NOT NULL AND erased_at IS NULL)"""
            ).fetchone()
        return int(row[0]), int(row[1])

    def count_opted_out_members(self, subgroup_id: int) -> int:
        """How many members of a subgroup have opted out.  They are few among the contacts: each is looked up."""
        with self._database.read() as connection:
            row = connection.execute(COUNT_OPTED_OUT_MEMBERS, (subgroup_id,)).fetchone()
        return int(row[0])

    def read_profile(self, contact_id: int) -> Profile:
        """Everything that is known of a person; looks through all messages.  Raises: NotFound when they are gone."""
        with self._database.read() as connection:
            turn = SqlitePeopleTurn(connection)
            row = connection.execute(f"{READ_CONTACTS} WHERE c.id = ?", (contact_id,)).fetchone()
            if row is None:
                raise NotFound("they were erased meanwhile", code="no_contact")
            return Profile(
                contact=_contact(row),
                aliases=(
                    *(name for name in names_of(connection, contact_id) if name != row[1]),
                    *(turn.address_of(link.new_id) for link in turn.links_from(contact_id) if link.at_ms == ALWAYS),
                ),
                subgroups=tuple(one for (one,) in connection.execute(READ_SUBGROUPS, (contact_id,))),
                consent=tuple(turn.read_consent(contact_id)),
                talks=tuple(_talk(one) for one in connection.execute(READ_TALKS, (contact_id,))),
                messages=_count_messages(connection, contact_id),
                clicks=count_clicks_of(connection, contact_id),
                moved_from=tuple(
                    turn.address_of(link.old_id) for link in turn.links_to(contact_id) if link.at_ms < ALWAYS
                ),
                moved_to=tuple(
                    turn.address_of(link.new_id) for link in turn.links_from(contact_id) if link.at_ms < ALWAYS
                ),
            )

    def read_consent(self, contact_id: int) -> list[ConsentRow]:
        """What is in the ledger for a person, under earlier numbers too, in the order of time."""
        with self._database.read() as connection:
            return SqlitePeopleTurn(connection).read_consent(contact_id)

    def count_waiting(self, contact_id: int) -> int:
        """How many messages to them wait in the queue."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT count(*) FROM message WHERE state = 'queued' AND contact_id = ?", (contact_id,)
            ).fetchone()
        return int(row[0])


class _Arrivals:
    """People of a list on their way in."""

    def __init__(self, connection: sqlite3.Connection, *, actor: str, now_ms: int) -> None:
        self._connection = connection
        self._turn = SqlitePeopleTurn(connection)
        self._actor = actor
        self._now_ms = now_ms

    def take_in(self, people: Sequence[KnownPerson]) -> Counter[TakenIn]:
        counts: Counter[TakenIn] = Counter()
        addresses = list(dict.fromkeys(person.recipient.address for person in people))
        known = set(find_contacts(self._connection, addresses).values())
        kinds = {person.recipient.address: person.recipient.kind for person in people}
        ids = find_or_add_contacts(self._connection, list(kinds.items()), now_ms=self._now_ms)
        for person in people:
            contact_id = ids[person.recipient.address]
            has_changed = self._merge(contact_id, person)
            if contact_id not in known:
                counts[TakenIn.ADDED] += 1
                known.add(contact_id)
            else:
                counts[TakenIn.UPDATED if has_changed else TakenIn.ALREADY_THERE] += 1
            if person.wish is not None:
                counts.update(self._note_wish(contact_id, person))
        return counts

    def _merge(self, contact_id: int, person: KnownPerson) -> bool:
        attributes, name = self._connection.execute(
            "SELECT attributes, name FROM contact WHERE id = ?", (contact_id,)
        ).fetchone()
        merged = merge_attributes(attributes, person.attributes)
        if merged == attributes and (name is not None or person.whatsapp_name is None):
            return False
        self._connection.execute(
            "UPDATE contact SET attributes = ?, name = ifnull(name, ?) WHERE id = ?",
            (merged, person.whatsapp_name, contact_id),
        )
        return True

    def _note_wish(self, contact_id: int, person: KnownPerson) -> list[TakenIn]:
        (opted_out_at,) = self._connection.execute(
            "SELECT opted_out_at FROM contact WHERE id = ?", (contact_id,)
        ).fetchone()
        if person.wish is Wish.OPT_IN and opted_out_at is not None:
            return [TakenIn.KEPT_OPTED_OUT]
        if opted_out_at is not None and person.said_at_ms is None:
            return []
        at_ms = self._now_ms if person.said_at_ms is None else person.said_at_ms
        known = self._connection.execute(
            "SELECT 1 FROM consent WHERE contact_id = ? AND at = ? AND change = ?", (contact_id, at_ms, person.wish)
        ).fetchone()
        if known is not None:
            return []
        assert person.wish is not None
        change = Change(wish=person.wish, source=Source.IMPORT, at_ms=at_ms, wording=person.wording, actor=self._actor)
        self._turn.record_consent(contact_id, change)
        return [TakenIn.OPTED_OUT if person.wish is Wish.OPT_OUT else TakenIn.OPTED_IN]


class SqlitePeopleTurn:
    """Implements PeopleTurn on a transaction that its caller has opened."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    # --- who is it ---

    def knows(self, instance_id: int, contact_id: int, *, since_ms: int) -> bool:
        row = self._connection.execute(KNOWS, (instance_id, contact_id, since_ms)).fetchone()
        return row is not None and row[0] == 1

    def resolve(self, person: Person, *, now_ms: int) -> int:
        contact_id = self._find_by_address(person.address) if person.address is not None else None
        if contact_id is not None:
            self.learn(contact_id, person)
            return contact_id
        known_id = self._find_alias(USER + person.user_id) if person.user_id is not None else None
        if person.address is None and known_id is not None:
            return known_id
        if known_id is not None and self.is_spelling(known_id, person.address):
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
            owner_id = self._add_alias(SPELLING + person.address.removeprefix("+"), contact_id)
            # A receipt that names quite another number proves nothing about who is who.
            if owner_id != contact_id and self.is_spelling(contact_id, person.address):
                self._unite(contact_id, owner_id)
        if person.user_id is not None:
            known_id = self._add_alias(USER + person.user_id, contact_id)
            if known_id != contact_id and self.address_of(known_id).startswith(USER):
                self._merge(known_id, contact_id)

    def find(self, address: str) -> int | None:
        """Whom an address stands for that somebody typed."""
        return self._find_alias(address) if address.startswith(USER) else self._find_by_address(address)

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

    def address_of(self, contact_id: int) -> str:
        return str(self._connection.execute("SELECT address FROM contact WHERE id = ?", (contact_id,)).fetchone()[0])

    def _add_alias(self, alias: str, contact_id: int) -> int:
        """Whose alias it is afterwards: the first contact that had it keeps it."""
        if alias.startswith(SPELLING) and (other := self._find_contact("+" + alias.removeprefix(SPELLING))):
            return other  # the address of a contact is nobody's spelling
        self._connection.execute(
            "INSERT INTO contact_alias (alias, contact_id) VALUES (?, ?) ON CONFLICT DO NOTHING", (alias, contact_id)
        )
        return self._find_alias(alias) or contact_id

    def is_spelling(self, contact_id: int, address: str | None) -> bool:
        """Whether an address that is new can be another spelling of the contact's, or the first one it gets."""
        known = self.address_of(contact_id)
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
        for link in (*self.links_from(gone_id), *self.links_to(gone_id)):
            connection.execute("DELETE FROM contact_alias WHERE alias = ?", (link.alias,))
            ends = [into_id if end == gone_id else end for end in (link.old_id, link.new_id)]
            self._add_link(Link(link.at_ms, *ends))
        for statement in MERGE:
            connection.execute(statement, {"into": into_id, "gone": gone_id})
        self._weigh_all(into_id)

    def _unite(self, one_id: int, other_id: int) -> None:
        """Two contacts turn out to be one person: what is said under one spelling holds for the other."""
        added = [self._add_link(Link(ALWAYS, *ends)) for ends in ((one_id, other_id), (other_id, one_id))]
        if any(added):
            self._weigh_all(one_id)

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
        if added.rowcount == 1:
            connection.execute(
                "UPDATE conversation SET unanswered = 0 WHERE instance_id = ? AND contact_id = ? AND unanswered > 0",
                (instance_id, contact_id),
            )
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

    def read_consent(self, contact_id: int) -> list[ConsentRow]:
        """What is in the ledger for a person, under earlier numbers too, in the order of time."""
        rows = [
            (
                at,
                row_id,
                ConsentRow(
                    at_ms=at, wish=Wish(wish), source=Source(source), wording=wording, actor=actor, address=address
                ),
            )
            for source_id, until in self._earlier_selves(contact_id)
            for row_id, at, wish, source, wording, actor, address in self._connection.execute(
                READ_LEDGER, (source_id, until)
            )
        ]
        return [row for _at, _row_id, row in sorted(rows, key=lambda one: one[:2])]

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

    def links_from(self, contact_id: int) -> list[Link]:
        """Where the person behind a contact went, in the order of time.  Mostly nowhere."""
        rows = self._connection.execute(
            "SELECT alias FROM contact_alias WHERE alias >= ? AND alias < ?",
            (f"{MOVED}{contact_id}:", f"{MOVED}{contact_id};"),
        ).fetchall()
        return sorted(_read_link(alias) for (alias,) in rows)

    def links_to(self, contact_id: int) -> list[Link]:
        rows = self._connection.execute(
            "SELECT alias FROM contact_alias WHERE contact_id = ? AND alias >= 'moved:' AND alias < 'moved;'",
            (contact_id,),
        ).fetchall()
        return [_read_link(alias) for (alias,) in rows]

    def _move_memberships(self, old_id: int, at_ms: int) -> None:
        """The lists a person was on go with them, as far as they have gone; so does what is known of them."""
        new_id, since = old_id, at_ms - 1
        while (
            link := next((link for link in self.links_from(new_id) if since < link.at_ms < ALWAYS), None)
        ) is not None:
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
                waiting += [link.new_id for link in self.links_from(one)]

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
            waiting += [(link.old_id, link.at_ms) for link in self.links_to(one) if link.at_ms < until]
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


def _contact(row: tuple[Any, ...]) -> Contact:
    return Contact(
        id=row[0],
        address=row[1],
        kind=RecipientKind(row[2]),
        created_at_ms=row[3],
        whatsapp_name=row[4],
        attributes=decode_attributes(row[5]),
        opted_out_at_ms=row[6],
        last_inbound_at_ms=row[7],
    )


def _talk(row: tuple[Any, ...]) -> Talk:
    return Talk(
        instance=row[0],
        transport=row[1],
        hearing=Hearing(webhooks_since_ms=row[2], last_webhook_at_ms=row[3]),
        last_inbound_at_ms=row[4],
        closed_at_ms=row[5],
    )


def _count_messages(connection: sqlite3.Connection, contact_id: int) -> dict[str, int]:
    counts: dict[str, int] = {}
    for state, receipt, n in connection.execute(
        "SELECT state, receipt, count(*) FROM message WHERE contact_id = ? GROUP BY 1, 2", (contact_id,)
    ):
        standing = derive_standing(State(state), Receipt(receipt) if receipt else None)
        counts[standing.value] = counts.get(standing.value, 0) + n
    return counts


def _canonical(address: str) -> str:
    """The one spelling of a number that lists of recipients are read to; the number itself where that is not known."""
    try:
        return parse_recipient(address, default_region=None).address
    except InvalidRecipient:
        return address


def _read_link(alias: str) -> Link:
    _moved, old_id, at_ms, new_id = alias.split(":")
    return Link(int(at_ms), int(old_id), int(new_id))
