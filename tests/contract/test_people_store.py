"""What every store of people must do, run against SQLite: events may come twice, late and in any order."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wa_cli.domain.consent import Change, Source, Wish
from wa_cli.domain.event import InboundEvent, NumberChangedEvent, Person, PreferenceEvent
from wa_cli.domain.recipient import RecipientKind
from wa_cli.services.people import apply_inbound, apply_number_change, apply_preference, apply_refusal
from wa_cli.store.sqlite.contacts import find_or_add_contacts
from wa_cli.store.sqlite.database import Database
from wa_cli.store.sqlite.people import SqlitePeople
from wa_cli.store.sqlite.subgroups import SqliteSubgroups

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wa_cli.domain.event import Event
    from wa_cli.store.sqlite.people import SqlitePeopleTurn

NOW: Final = 1_800_000_000_000
ANN, BOB, CAT = "+6581234567", "+6581234568", "+6581234569"
RIO, RIO_OLD = "+5511987654321", "+551187654321"
MINUTE: Final = 60_000


@pytest.fixture
def database() -> Iterator[Database]:
    with closing(Database.open_in_memory()) as opened:
        yield opened


def wrote(
    person: Person | str, words: str = "hello", *, at: int = 0, id: str | None = None, payload: str | None = None
) -> InboundEvent:
    who = Person(address=person) if isinstance(person, str) else person
    return InboundEvent(
        number_id="1",
        provider_message_id=id or f"wamid.{who.address or who.user_id}.{at}.{words}",
        at_ms=NOW + at * MINUTE,
        person=who,
        kind="text" if payload is None else "button",
        words=words,
        payload=payload,
    )


def prefers(person: Person | str, *, wants: bool, at: int = 0) -> PreferenceEvent:
    who = Person(address=person) if isinstance(person, str) else person
    return PreferenceEvent(number_id="1", at_ms=NOW + at * MINUTE, person=who, wants=wants, wording="user choice")


def moved(old: Person | str, new: Person | str, *, at: int = 0) -> NumberChangedEvent:
    return NumberChangedEvent(
        number_id="1",
        at_ms=NOW + at * MINUTE,
        old=Person(address=old) if isinstance(old, str) else old,
        new=Person(address=new) if isinstance(new, str) else new,
    )


def apply(turn: SqlitePeopleTurn, event: Event, *, now_ms: int = NOW) -> None:
    match event:
        case InboundEvent():
            apply_inbound(turn, event, instance_id=1, now_ms=now_ms)
        case PreferenceEvent():
            apply_preference(turn, event, now_ms=now_ms)
        case NumberChangedEvent():
            apply_number_change(turn, event, now_ms=now_ms)
        case _:
            raise AssertionError(event)


def hear(database: Database, *events: Event) -> None:
    """Each in a transaction of its own, as they come in."""
    for event in events:
        with SqlitePeople(database).turn() as turn:
            apply(turn, event)


def rows(database: Database, statement: str, *values: object) -> list[Any]:
    return database.connection.execute(statement, values).fetchall()


def opted_out_at(database: Database, address: str) -> int | None:
    """Minutes after NOW, or None."""
    ((at,),) = rows(database, "SELECT opted_out_at FROM contact WHERE address = ?", address)
    return None if at is None else (at - NOW) // MINUTE


def add(database: Database, *addresses: str) -> dict[str, int]:
    with database.write() as connection:
        return find_or_add_contacts(connection, [(one, RecipientKind.PERSON) for one in addresses], now_ms=NOW)


def snapshot(database: Database) -> dict[str, list[Any]]:
    """Everything that is known of people, by their addresses instead of row numbers."""
    return {
        "contacts": rows(
            database, "SELECT address, kind, opted_out_at, name, attributes FROM contact ORDER BY address"
        ),
        "consent": rows(
            database,
            """SELECT address, at, change, source, wording, actor, evidence FROM consent
            JOIN contact ON contact.id = contact_id ORDER BY 1, 2, 3, 7""",
        ),
        "inbound": rows(
            database,
            """SELECT instance_id, address, at, inbound.kind, provider_message_id FROM inbound
            JOIN contact ON contact.id = contact_id ORDER BY provider_message_id""",
        ),
        "conversation": rows(
            database,
            """SELECT instance_id, address, last_inbound_at, closed_at FROM conversation
            JOIN contact ON contact.id = contact_id ORDER BY 1, 2""",
        ),
    }


# Who it is


def test_a_person_who_is_known_by_number_is_found_and_a_stranger_becomes_a_contact(database: Database) -> None:
    ids = add(database, ANN)
    with SqlitePeople(database).turn() as turn:
        assert turn.resolve(Person(address=ANN), now_ms=NOW) == ids[ANN]
        assert turn.resolve(Person(address=BOB), now_ms=NOW) != ids[ANN]
    assert {row[0] for row in rows(database, "SELECT address FROM contact")} == {ANN, BOB}


def test_whatsapps_own_spelling_of_a_number_is_the_same_person(database: Database) -> None:
    """Fault 88; the Brazilian ninth digit of section 5 of the faults."""
    hear(database, wrote(RIO_OLD, "PARE"))
    assert opted_out_at(database, RIO) == 0
    hear(database, wrote(RIO, "unstop", at=1))
    assert opted_out_at(database, RIO) is None
    assert rows(database, "SELECT alias FROM contact_alias") == [("wa:551187654321",)]


def test_a_spelling_that_only_whatsapp_knows_is_learned_from_a_receipt_and_found_again(database: Database) -> None:
    """Fault 88: a list that holds WhatsApp's spelling adds no second contact."""
    ids = add(database, ANN)
    with SqlitePeople(database).turn() as turn:
        turn.learn(ids[ANN], Person(address="+65181234567", user_id="SG.1"))
    hear(database, wrote("+65181234567", "stop"), wrote(Person(address=None, user_id="SG.1"), "hello", at=1))
    assert opted_out_at(database, ANN) == 0
    assert add(database, "+65181234567", BOB)["+65181234567"] == ids[ANN]
    assert rows(database, "SELECT count(*) FROM contact") == [(2,)]


def test_two_contacts_that_whatsapp_calls_by_one_number_share_their_opt_outs(database: Database) -> None:
    """Fault 88: both spellings were on a list before anybody knew that they are one person."""
    ids = add(database, ANN, "+65181234567")
    hear(database, wrote("+65181234567", "stop", at=1))
    with SqlitePeople(database).turn() as turn:
        turn.learn(ids[ANN], Person(address="+65181234567"))
        turn.learn(ids[ANN], Person(address="+65181234567"))
    assert opted_out_at(database, ANN) == 1
    hear(database, wrote(ANN, "start", at=2))
    assert opted_out_at(database, "+65181234567") is None
    profile = SqlitePeople(database).read_profile(ids[ANN])
    assert (profile.aliases, profile.moved_from, profile.moved_to) == (("+65181234567",), (), ())


def test_somebody_who_shows_no_number_is_a_contact_that_nobody_can_write_to(database: Database) -> None:
    hidden = Person(address=None, user_id="US.13491208655302741918", name="Ada")
    hear(database, wrote(hidden, "STOP"))
    assert opted_out_at(database, "user:US.13491208655302741918") == 0


def test_a_number_that_shows_up_later_takes_over_what_was_known_of_the_id(database: Database) -> None:
    hidden, shown = Person(address=None, user_id="SG.1", name="Ann"), Person(address=ANN, user_id="SG.1")
    hear(database, wrote(hidden, "stop"), wrote(ANN, at=1), wrote(shown, "thanks", at=2))
    assert [row[0] for row in rows(database, "SELECT address FROM contact")] == [ANN]
    assert opted_out_at(database, ANN) == 0
    hear(database, wrote(hidden, "unstop", at=3))
    assert opted_out_at(database, ANN) is None


def test_an_id_seen_with_quite_another_number_is_not_taken_for_a_spelling(database: Database) -> None:
    hear(database, wrote(Person(address=ANN, user_id="SG.1"), "stop"), wrote(Person(address=CAT, user_id="SG.1"), at=1))
    assert opted_out_at(database, ANN) == 0
    assert opted_out_at(database, CAT) is None


# What they say


def test_a_stop_is_recorded_with_its_time_wording_and_source(database: Database) -> None:
    hear(
        database,
        wrote(ANN, "Stop promotions", payload="STOP", id="wamid.A"),
        prefers(BOB, wants=False, at=2),
    )
    assert rows(database, "SELECT at, change, source, wording, evidence FROM consent ORDER BY id") == [
        (NOW, "opt_out", "message", "Stop promotions [STOP]", "wamid.A"),
        (NOW + 2 * MINUTE, "opt_out", "preference", "user choice", f"preference:{BOB}:{NOW + 2 * MINUTE}:opt_out"),
    ]


def test_the_latest_word_by_its_own_time_is_in_force_whenever_it_comes(database: Database) -> None:
    hear(database, wrote(ANN, "start", at=5), wrote(ANN, "stop", at=3))
    assert opted_out_at(database, ANN) is None
    hear(database, wrote(ANN, "stop", at=6, id="x"), wrote(ANN, "start", at=6, id="y"))
    assert opted_out_at(database, ANN) == 6


def test_a_refusal_by_the_platform_is_the_persons_word(database: Database) -> None:
    ids = add(database, ANN)
    for _again in range(3):
        with SqlitePeople(database).turn() as turn:
            apply_refusal(turn, ids[ANN], at_ms=NOW, wording="wants no marketing", evidence="wamid.1")
    assert rows(database, "SELECT source, wording FROM consent") == [("refusal", "wants no marketing")]
    assert opted_out_at(database, ANN) == 0


def test_the_last_word_of_a_talk_only_moves_forward(database: Database) -> None:
    ids = add(database, ANN)
    hear(database, wrote(ANN, at=5), wrote(ANN, "late", at=2))
    with SqlitePeople(database).turn() as turn:
        turn.note_window_closed(1, ids[ANN], at_ms=NOW + 7 * MINUTE)
        turn.note_window_closed(1, ids[ANN], at_ms=NOW + 6 * MINUTE)
    talk = rows(database, "SELECT last_inbound_at, closed_at FROM conversation")
    assert talk == [(NOW + 5 * MINUTE, NOW + 7 * MINUTE)]


def test_what_was_typed_here_is_entered_each_time(database: Database) -> None:
    ids = add(database, ANN)
    typed = Change(wish=Wish.OPT_OUT, source=Source.PERSON, at_ms=NOW, wording="by phone", actor="ann")
    with SqlitePeople(database).turn() as turn:
        assert turn.record_consent(ids[ANN], typed)
        assert turn.record_consent(ids[ANN], typed)
    assert rows(database, "SELECT count(*) FROM consent") == [(2,)]


# Another number


def test_who_left_under_the_old_number_stays_away_under_the_new_one(database: Database) -> None:
    """Fault 88."""
    hear(database, wrote(ANN, "stop"), moved(ANN, BOB, at=1))
    assert opted_out_at(database, BOB) == 0
    hear(database, wrote(BOB, "unstop", at=2))
    assert opted_out_at(database, BOB) is None
    assert opted_out_at(database, ANN) == 0  # whoever has the old number now has not said anything


def test_what_the_next_owner_of_the_old_number_says_is_not_theirs(database: Database) -> None:
    hear(database, moved(ANN, BOB, at=5), wrote(ANN, "stop", at=6))
    assert (opted_out_at(database, ANN), opted_out_at(database, BOB)) == (6, None)
    hear(database, wrote(ANN, "stop", at=4))
    assert opted_out_at(database, BOB) == 4


def test_memberships_and_attributes_move_along_once(database: Database) -> None:
    add(database, ANN, BOB)
    vip = SqliteSubgroups(database).create("vip", now_ms=NOW)[0].id
    with database.write() as connection:
        connection.execute("INSERT INTO member (subgroup_id, contact_id) SELECT ?, id FROM contact", (vip,))
        connection.execute('UPDATE contact SET attributes = \'{"city":"Riga","name":"Ann"}\' WHERE id = 1')
        connection.execute('UPDATE contact SET attributes = \'{"name":"Anna"}\' WHERE id = 2')
    hear(database, moved(ANN, BOB))
    assert rows(database, "SELECT address FROM member JOIN contact ON contact.id = contact_id") == [(BOB,)]
    assert rows(database, "SELECT attributes FROM contact WHERE address = ?", BOB) == [
        ('{"city":"Riga","name":"Anna"}',)
    ]
    with database.write() as connection:
        connection.execute("INSERT INTO member (subgroup_id, contact_id) VALUES (?, 1)", (vip,))
    hear(database, moved(ANN, BOB))
    assert rows(database, "SELECT count(*) FROM member") == [(2,)]


def test_a_person_who_keeps_their_id_and_moves_is_followed_by_it(database: Database) -> None:
    hear(
        database,
        wrote(Person(address=ANN, user_id="SG.1")),
        moved(Person(address=ANN, user_id="SG.1"), Person(address=BOB, user_id="SG.1"), at=1),
        wrote(Person(address=None, user_id="SG.1"), "stop", at=2),
    )
    assert opted_out_at(database, BOB) == 2


def test_a_new_id_without_a_number_is_one_more_name_of_the_same_person(database: Database) -> None:
    """They stay who they are, and where they are on a list."""
    renamed = moved(Person(address=None, user_id="SG.1"), Person(address=None, user_id="SG.2"), at=1)
    hear(
        database,
        wrote(Person(address=ANN, user_id="SG.1")),
        wrote(Person(address=None, user_id="SG.2"), "stop", at=2),
        renamed,
    )
    assert rows(database, "SELECT address FROM contact") == [(ANN,)]
    assert opted_out_at(database, ANN) == 2


def test_an_event_without_a_time_of_its_own_counts_from_when_it_came(database: Database) -> None:
    timeless = InboundEvent(
        number_id="1", provider_message_id="wamid.0", at_ms=0, person=Person(address=ANN), kind="text", words="stop"
    )
    hear(database, timeless)
    assert opted_out_at(database, ANN) == 0
    assert rows(database, "SELECT last_inbound_at FROM conversation") == [(NOW,)]


# Any order, any number of times

NUMBERS: Final = {ANN: "SG.1", BOB: "SG.2", CAT: "SG.3"}
TIMES = st.integers(min_value=0, max_value=4)
PEOPLE = st.sampled_from(
    [
        Person(address=address if shown else None, user_id=user_id if identified or not shown else None, name=name)
        for address, user_id in NUMBERS.items()
        for shown in (True, False)
        for identified in (True, False)
        for name in ("Ann", "Zoe")
    ]
)
EVENTS = st.one_of(
    st.builds(wrote, PEOPLE, st.sampled_from(["stop", "unstop", "hello"]), at=TIMES),
    st.builds(prefers, PEOPLE, wants=st.booleans(), at=TIMES),
    st.builds(moved, st.sampled_from(list(NUMBERS)), st.sampled_from(list(NUMBERS)), at=TIMES),
)
# Everybody shows their number and id together at some time, so that the end does not depend on what is never told.
INTRODUCTIONS: Final = [wrote(Person(address=one, user_id=id, name="Ann"), at=0) for one, id in NUMBERS.items()]


TABLES: Final = "consent", "inbound", "conversation", "contact_alias", "contact"


def listen(database: Database, events: Iterable[Event]) -> dict[str, list[Any]]:
    """What an empty database knows after these events."""
    with database.write() as connection:
        for table in TABLES:
            connection.execute(f"DELETE FROM {table}")
    with SqlitePeople(database).turn() as turn:
        for event in events:
            apply(turn, event)
    return snapshot(database)


@pytest.fixture(scope="module")
def blank() -> Iterator[Database]:
    with closing(Database.open_in_memory()) as opened:
        yield opened


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS, max_size=8), st.data())
def test_any_order_and_any_repetition_of_the_same_events_ends_in_the_same_state(
    blank: Database, events: list[Event], data: st.DataObject
) -> None:
    """Promise P3, faults 69 to 76 and 88."""
    told = [*INTRODUCTIONS, *events]
    extra = data.draw(st.lists(st.sampled_from(told), max_size=4))
    shuffled = data.draw(st.permutations([*told, *extra]))
    assert listen(blank, shuffled) == listen(blank, told)


def test_replaying_any_event_a_hundred_times_changes_nothing(database: Database) -> None:
    events = [
        wrote(Person(address=ANN, user_id="SG.1", name="Ann"), "stop"),
        wrote(Person(address=None, user_id="SG.9"), "start", at=1),
        prefers(BOB, wants=False, at=2),
        moved(ANN, CAT, at=3),
        wrote(RIO_OLD, "hello", at=4),
    ]
    hear(database, *events)
    before = snapshot(database)
    for event in events:
        for _again in range(100):
            hear(database, event)
    assert snapshot(database) == before
