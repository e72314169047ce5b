"""Numbers whose posts are taken and never acknowledged: paused with the reason, and nothing shown that is not known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import START_MS, World, accepted, ambiguous, line, open_world

from wa_cli.domain.event import StatusEvent
from wa_cli.domain.message import OnUnknown, State
from wa_cli.domain.receipt import Receipt
from wa_cli.domain.truth import JUDGED_FROM, NORMAL_DELAY_MS, Taken, find_silence
from wa_cli.provider import Capabilities
from wa_cli.services.events import EventTerms, settle
from wa_cli.services.guard import look_after_numbers
from wa_cli.services.receipts import look_after
from wa_cli.store.sqlite.events import open_event_turn
from wa_cli.store.sqlite.receipts import SqliteReceipts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MINUTE = 60_000
LINKED = Capabilities(kinds=frozenset({"text"}), is_linked_device=True)
OFFICIAL = Capabilities(kinds=frozenset({"text"}))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as opened:
        yield opened
        assert opened.find_faults() == []


def look(world: World, capabilities: Capabilities = LINKED) -> list[str]:
    return look_after_numbers(
        world.instances,
        SqliteReceipts(world.database),
        capabilities_of=lambda _instance: capabilities,
        describe_time=lambda at_ms: f"+{round((at_ms - START_MS) / MINUTE)} min",
        now_ms=world.now_ms,
    )


def hear_webhooks(world: World, *, last_ms: int | None = None) -> None:
    world.execute(
        "UPDATE instance SET webhooks_since = ?, last_webhook_at = ?",
        START_MS - MINUTE,
        world.now_ms if last_ms is None else last_ms,
    )


def send(world: World, count: int, *, first: int = 1) -> None:
    world.enqueue([line(number, f"m{number}") for number in range(first, first + count)])
    world.drain()


def acknowledge(world: World, *attempts: int) -> None:
    tell(world, *(arrival(attempt, f"wamid.{attempt}", world) for attempt in attempts))


def arrival(attempt: int, wamid: str, world: World, *, tagged: bool = True) -> StatusEvent:
    tag = f"wa1.{world.database.read_install()}.{attempt}" if tagged else None
    return StatusEvent(number_id="1", provider_message_id=wamid, receipt=Receipt.DELIVERED, at_ms=world.now_ms, tag=tag)


def tell(world: World, *events: StatusEvent) -> None:
    terms = EventTerms(install=world.database.read_install(), policy=world.policy, numbers={"1": 1})
    with open_event_turn(world.database) as turn:
        settle(turn, events, terms=terms, now_ms=world.now_ms)


def test_a_number_whose_posts_are_never_acknowledged_is_paused_and_says_so(world: World) -> None:
    """Fault 66, issue 6, point 6: it stays `sent`, which is all that is known (promise P3)."""
    hear_webhooks(world)
    send(world, 37)
    world.clock.advance(NORMAL_DELAY_MS + MINUTE)
    hear_webhooks(world)
    assert look(world) == ["default"]
    found = world.instances.find("default")
    assert (found.paused_by, found.pause_code) == ("wa", "no_receipts")
    assert found.pause_reason == "WhatsApp has taken 37 messages since +0 min and acknowledged none"
    assert set(world.states()) == {State.SENT}
    assert world.value("SELECT count(*) FROM message WHERE receipt IS NOT NULL") == 0
    send(world, 1, first=100)
    assert len(world.transport.posts) == 37


def test_it_says_when_webhooks_have_stopped_too(world: World) -> None:
    """Then it may be the way to us that is broken: both are named."""
    hear_webhooks(world)
    world.clock.advance(MINUTE)
    send(world, 30)
    world.clock.advance(NORMAL_DELAY_MS + MINUTE)
    assert look(world) == ["default"]
    assert str(world.instances.find("default").pause_reason).endswith("and no webhook has come since +0 min")


def test_a_person_who_lets_it_go_on_is_believed_until_there_is_news(world: World) -> None:
    """Fault 66: what came before the resume is not held against it again."""
    hear_webhooks(world)
    send(world, 30)
    world.clock.advance(NORMAL_DELAY_MS + MINUTE)
    assert look(world) == ["default"]
    world.instances.resume(1, now_ms=world.now_ms)
    assert look(world) == []
    send(world, 30, first=100)
    world.clock.advance(NORMAL_DELAY_MS + MINUTE)
    assert look(world) == ["default"]


def test_one_that_is_acknowledged_goes_on(world: World) -> None:
    hear_webhooks(world)
    send(world, 40)
    acknowledge(world, *range(1, 41, 4))
    world.clock.advance(NORMAL_DELAY_MS + MINUTE)
    assert look(world) == []


def test_a_receipt_for_a_young_post_shows_that_it_is_heard_again(world: World) -> None:
    hear_webhooks(world)
    send(world, 30)
    world.clock.advance(NORMAL_DELAY_MS + MINUTE)
    send(world, 1, first=100)
    acknowledge(world, 31)
    assert look(world) == []


@pytest.mark.parametrize("capabilities", [LINKED, OFFICIAL])
def test_without_webhooks_nothing_is_concluded(world: World, capabilities: Capabilities) -> None:
    send(world, 40)
    world.clock.advance(NORMAL_DELAY_MS + MINUTE)
    assert look(world, capabilities) == []


def test_an_official_number_is_doubted_only_while_other_webhooks_come(world: World) -> None:
    """Meta's acceptance is Meta's own: silence with no webhook at all is a broken way to us."""
    hear_webhooks(world)
    send(world, 1)
    acknowledge(world, 1)
    world.clock.advance(MINUTE)
    send(world, 30, first=2)
    world.clock.advance(NORMAL_DELAY_MS + MINUTE)
    assert look(world, OFFICIAL) == []
    hear_webhooks(world)
    assert look(world, OFFICIAL) == ["default"]


def test_other_numbers_go_on(world: World) -> None:
    """Fault 66: one liar is not all."""
    other = world.add_instance("second")
    hear_webhooks(world)
    send(world, 30)
    world.enqueue([line(number) for number in range(1, 31)], instance_id=other)
    world.drain(lease=world.take_lease(instance_id=other))
    acknowledge(world, *range(31, 61))
    world.clock.advance(NORMAL_DELAY_MS + MINUTE)
    assert look(world) == ["default"]


@given(st.lists(st.booleans(), max_size=60), st.integers(0, 2 * NORMAL_DELAY_MS))
def test_silence_is_never_found_in_few_posts_or_young_ones(acknowledged: list[bool], age_ms: int) -> None:
    posts = [Taken(at_ms=-age_ms - n * 1_000, is_acknowledged=fate) for n, fate in enumerate(acknowledged)]
    found = find_silence(posts, now_ms=0)
    old = [post for post in posts if post.at_ms <= -NORMAL_DELAY_MS]
    if found is not None:
        assert len(old) >= JUDGED_FROM
        assert found.acknowledged <= found.taken * 0.1
    elif len(old) >= JUDGED_FROM:
        assert any(acknowledged)


# --- a gateway that replays its own queue -----------------------------------------------------------------------------


@pytest.mark.parametrize("is_tagged", [True, False])
def test_a_post_that_its_gateway_sends_twice_is_a_proven_duplicate_where_its_id_is_ours(
    world: World, is_tagged: bool
) -> None:
    """Fault 67: two ids for one message.  With an id that we chose it is known whose the other one is; without one it
    is not, and nothing is claimed."""
    send(world, 1)
    acknowledge(world, 1)
    tell(world, arrival(1, "wamid.other", world, tagged=is_tagged))
    look_after(
        SqliteReceipts(world.database),
        lambda: open_event_turn(world.database),
        policy=world.policy,
        now_ms=world.now_ms,
    )
    doubles = world.value("SELECT count(*) FROM decision WHERE rule = 'proven_duplicate'")
    assert doubles == (1 if is_tagged else 0)
    assert world.states() == [State.SENT]
    assert len(world.transport.posts) == 1


def test_an_unknown_that_was_sent_again_and_arrives_twice_is_a_proven_duplicate(world: World) -> None:
    """Fault 67: the gateway had kept the first post and sends it after its restart, beside the second one."""
    world.transport.script[:] = [ambiguous(), accepted(2)]
    world.enqueue([line(1, "a")], on_unknown=OnUnknown.RESEND)
    world.drain()
    world.clock.advance(20 * MINUTE)
    world.queue.requeue_unknown(older_than_ms=world.now_ms - 15 * MINUTE, now_ms=world.now_ms)
    world.drain()
    acknowledge(world, 2, 1)
    assert world.decisions(1).count("proven_duplicate") == 1
    assert world.states() == [State.SENT]
