"""What gateways tell by webhook, on a real store: receipts of groups, late restrictions, and how a device stands."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from test_receipts import HOUR, look_after, receipt, sent_message
from test_webhook_reading import Desk
from world import START_MS, Worker, World, line, open_world

from wa_cli.domain.connection import Connection, ConnectionState, Restriction, RestrictionScope
from wa_cli.domain.event import ConnectionEvent, StatusEvent
from wa_cli.domain.explanation import explain_participants
from wa_cli.domain.message import State, Text, encode_content
from wa_cli.domain.outcome import ErrorClass, Rejected
from wa_cli.domain.receipt import Receipt, Standing
from wa_cli.domain.recipient import RecipientKind
from wa_cli.ports import NewMessage
from wa_cli.provider import number_id_of
from wa_cli.services.events import CONNECTION_LASTS_MS, EventTerms, settle
from wa_cli.services.webhooks import read_waiting
from wa_cli.store.sqlite.events import SqliteEventTurn, open_event_turn
from wa_cli.store.sqlite.messages import SqliteMessages
from wa_cli.store.sqlite.webhooks import SqliteWebhooks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from wa_cli.domain.event import Event
    from wa_cli.store.sqlite.webhooks import SqliteWebhookTurn

GROUP = "120363025246125486@g.us"
DEVICE = number_id_of(1)
UNTIL = 1_800_100_000_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as opened:
        yield opened
        assert opened.find_faults() == []


def terms(world: World) -> EventTerms:
    return EventTerms(
        install=world.database.read_install(), policy=world.policy, numbers={DEVICE: 1}, linked=frozenset({1})
    )


def tell(world: World, *events: Event) -> dict[str, int]:
    known = terms(world)
    with open_event_turn(world.database) as turn:
        return dict(settle(turn, events, terms=known, now_ms=world.now_ms))


def ack(world: World, word: Receipt, member: str, **options: object) -> StatusEvent:
    return receipt(world, 1, word, participant=member, **options)


def sent_to_group(world: World) -> int:
    encoded = encode_content(Text(body="hello"))
    (answer,) = world.enqueue([NewMessage(address=GROUP, kind=RecipientKind.GROUP, encoded=encoded)])
    world.drain()
    return int(answer.message_id)


# --- groups --------------------------------------------------------------------------------------------------------


def test_receipts_of_a_group_are_counted_by_member_and_overwrite_nothing(world: World) -> None:
    """Issue 6, point 4: whatever order they come in, and however often."""
    message_id = sent_to_group(world)
    with world.database.write() as connection:
        connection.execute(
            "INSERT INTO group_chat (instance_id, address, name, size, is_member, seen_at) VALUES (1, ?, 'g', 6, 1, 0)",
            (GROUP,),
        )
    news = [
        ack(world, Receipt.DELIVERED, "+6581230001"),
        ack(world, Receipt.READ, "+6581230002"),
        ack(world, Receipt.DELIVERED, "+6581230002"),
        ack(world, Receipt.DELIVERED, "99887766554433@lid"),
        ack(world, Receipt.FAILED, "+6581230004"),
    ]
    tell(world, *news)
    tell(world, *news)
    history = SqliteMessages(world.database).read_history(message_id)
    assert {one.participant: one.status for one in history.participants} == {
        "+6581230001": Receipt.DELIVERED,
        "+6581230002": Receipt.READ,
        "99887766554433@lid": Receipt.DELIVERED,
        "+6581230004": Receipt.FAILED,
    }
    assert explain_participants(history) == "reached 3 of 5: 2 delivered, 1 read, 1 failed"
    assert history.message.state is State.SENT


def test_receipts_of_a_group_without_a_tag_are_matched_for_every_member(world: World) -> None:
    """Fault 75."""
    message_id = sent_to_group(world)
    tell(world, *(ack(world, Receipt.DELIVERED, f"+658123000{n}", tag="") for n in range(3)))
    look_after(world)
    assert len(SqliteMessages(world.database).read_history(message_id).participants) == 3
    assert world.row(message_id).standing is Standing.DELIVERED


def test_a_message_to_a_person_has_no_participants(world: World) -> None:
    message_id = sent_message(world)
    tell(world, receipt(world, 1, Receipt.READ))
    history = SqliteMessages(world.database).read_history(message_id)
    assert (history.participants, explain_participants(history)) == ((), None)


# --- acks ----------------------------------------------------------------------------------------------------------


def test_the_servers_ack_moves_what_the_gateway_accepted_to_sent(world: World) -> None:
    """Fault 66: until it comes the message is accepted, and nothing more."""
    message_id = sent_message(world)
    assert world.row(message_id).receipt is None
    tell(world, receipt(world, 1, Receipt.SENT))
    assert world.row(message_id).receipt is Receipt.SENT


def restricted() -> Rejected:
    return Rejected(
        error_class=ErrorClass.RESTRICTED,
        code="463",
        details="new chats are locked",
        http_status=0,
        restriction=Restriction(
            code="463", reason="new chats are locked", scope=RestrictionScope.NEW_PEOPLE, until_ms=UNTIL
        ),
    )


@pytest.mark.parametrize("tag", [None, ""])
def test_a_late_463_restricts_the_number_and_puts_the_message_back(world: World, tag: str | None) -> None:
    """Issue 6, point 6; fault 62: with its stated end, also where the receipt had to wait for its match."""
    message_id = sent_message(world)
    tell(world, receipt(world, 1, Receipt.FAILED, refusal=restricted(), tag=tag))
    look_after(world)
    row = world.row(message_id)
    assert (row.state, row.attempts) == (State.QUEUED, 0)
    assert world.rows("SELECT restriction_code, restricted_until, restriction_scope, paused_at FROM instance") == [
        ("463", UNTIL, "new_people", None)
    ]


def test_an_old_463_restricts_until_its_stated_end_alone(world: World) -> None:
    """Without an end it says nothing of now any more."""
    sent_message(world)
    old_ms = world.now_ms - 2 * HOUR
    refusal = restricted()
    endless = replace(refusal, restriction=replace(refusal.restriction, until_ms=None))  # type: ignore[type-var]
    tell(world, receipt(world, 1, Receipt.FAILED, refusal=endless, at_ms=old_ms))
    assert world.rows("SELECT restriction_code FROM instance") == [(None,)]
    second = sent_message(world)
    tell(world, receipt(world, 2, Receipt.FAILED, refusal=refusal, at_ms=old_ms))
    assert world.rows("SELECT restricted_until FROM instance") == [(UNTIL,)]
    assert world.state(second) is State.QUEUED


# --- connections ---------------------------------------------------------------------------------------------------


def connected(state: ConnectionState, after_ms: int, number_id: str = DEVICE) -> ConnectionEvent:
    """after_ms: after the world's beginning."""
    at_ms = START_MS + after_ms
    return ConnectionEvent(number_id=number_id, at_ms=at_ms, connection=Connection(state=state, raw=state.upper()))


def state_of(world: World) -> str | None:
    (state,) = world.rows("SELECT connection FROM instance WHERE id = 1")[0]
    return str(state) if state is not None else None


def test_the_newest_news_of_a_connection_wins_whatever_order_it_comes_in(world: World) -> None:
    """Row H9."""
    tell(world, connected(ConnectionState.READY, 3_000))
    assert tell(world, connected(ConnectionState.NEEDS_QR, 2_000)) == {"connection": 1}
    assert state_of(world) == "ready"
    tell(world, connected(ConnectionState.DISCONNECTED, 4_000))
    assert state_of(world) == "disconnected"
    tell(world, connected(ConnectionState.READY, 3_000))
    assert state_of(world) == "disconnected"


def test_news_that_comes_very_late_says_nothing_of_now(world: World) -> None:
    """Row H9, fault 75: meanwhile the device has been asked itself, and may be well."""
    tell(world, connected(ConnectionState.READY, 0))
    world.clock.advance(CONNECTION_LASTS_MS + 10_000)
    assert tell(world, connected(ConnectionState.DISCONNECTED, 5_000)) == {"connection": 1}
    assert state_of(world) == "ready"
    tell(world, connected(ConnectionState.DISCONNECTED, 50_000))
    assert state_of(world) == "disconnected"


def test_a_restriction_that_comes_with_the_state_is_in_force(world: World) -> None:
    """Issue 6, point 6."""
    connection = Connection(state=ConnectionState.READY, raw="WORKING", restriction=restricted().restriction)
    tell(world, ConnectionEvent(number_id=DEVICE, at_ms=world.now_ms, connection=connection))
    assert world.rows("SELECT connection, restriction_code, restricted_until FROM instance") == [
        ("ready", "463", UNTIL)
    ]


def test_a_connection_of_a_stranger_changes_nothing(world: World) -> None:
    assert tell(world, connected(ConnectionState.AUTH_FAILURE, 5_000, number_id_of(7))) == {"foreign": 1}
    assert state_of(world) is None


class Undated:
    """Reads a body of ours, the name of a state, as a gateway tells it that does not say when."""

    def read(self, body: bytes) -> Sequence[Event]:
        return [replace(connected(ConnectionState(body.decode()), 0), at_ms=0)]


def test_news_without_a_time_is_as_old_as_its_webhook(world: World) -> None:
    """Row H9: else a second one of them would never count."""
    webhooks = SqliteWebhooks(world.database)
    desk = Desk(world=world, webhooks=webhooks)

    known = terms(world)

    def settle_now(turn: SqliteWebhookTurn, events: Sequence[Event]) -> dict[str, int]:
        return dict(settle(SqliteEventTurn(turn.connection), events, terms=known, now_ms=world.now_ms))

    for at_ms, word in ((1_000, "ready"), (2_000, "disconnected"), (3_000, "ready"), (2_500, "needs_qr")):
        desk.put(word.encode(), at_ms=START_MS + at_ms)
    read_waiting(webhooks, lambda _instance_id: Undated(), settle_now, numbers={}, now_ms=9_000, limit=9)  # type: ignore[arg-type,return-value]
    assert state_of(world) == "ready"
    kinds = [word for (word,) in world.rows("SELECT word FROM instance_event WHERE kind = 'state' ORDER BY id")]
    assert kinds == ["ready", "disconnected", "ready"]


def test_sending_follows_the_news_of_a_connection(world: World) -> None:
    """Rows H9, H10; fault 64: nothing leaves while the device is gone, and all of it once it is back."""
    tell(world, connected(ConnectionState.DISCONNECTED, 1_000))
    world.enqueue([line(1), line(2)])
    worker = Worker(world)
    worker.run_for(5_000)
    assert world.transport.posts == []
    tell(world, connected(ConnectionState.READY, 2_000))
    worker.wake()
    worker.run_for(1_000)
    assert len(world.transport.posts) == 2
    worker.stop()
