"""Who is left out when messages are queued: people who have opted out, and free text to closed windows."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest

from tests.world import START_MS, address, open_world
from wa_cli.domain.consent import Change, Source, Wish
from wa_cli.domain.event import InboundEvent, Person
from wa_cli.domain.message import OnUnknown, State, Template, Text, encode_content
from wa_cli.domain.recipient import RecipientKind
from wa_cli.domain.window import WindowPolicy
from wa_cli.ports import NewBatch, NewMessage
from wa_cli.services.people import apply_inbound
from wa_cli.store.sqlite.contacts import digest_of
from wa_cli.store.sqlite.intake import CHUNK_ROWS, SqliteIntake
from wa_cli.store.sqlite.people import SqlitePeople

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.world import World
    from wa_cli.ports import Enqueued

HOUR: Final = 3_600_000
GROUP: Final = "120363025246125486@g.us"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as made:
        yield made


def line(to: int | str, *, key: str | None = None, template: bool = False) -> NewMessage:
    content = Template(name="sale", language="en") if template else Text(body="Doors open at six")
    where = address(to) if isinstance(to, int) else to
    return NewMessage(
        address=where,
        kind=RecipientKind.GROUP if where.endswith("@g.us") else RecipientKind.PERSON,
        encoded=encode_content(content),
        key=key,
        is_free=not template,
    )


def enqueue(
    world: World,
    lines: Iterable[NewMessage],
    *,
    size: int = 1,
    window: WindowPolicy = WindowPolicy.IGNORE,
    in_ms: int = 0,
    delay_ms: int = 0,
    key: str | None = None,
    dry_run: bool = False,
    again: bool = False,
) -> list[Enqueued]:
    batch = NewBatch(
        kind="to",
        instance_id=1,
        size=size,
        start_at_ms=world.now_ms + in_ms,
        at_words=None,
        delay_ms=delay_ms,
        priority=1,
        max_attempts=5,
        on_unknown=OnUnknown.HOLD,
        expires_at_ms=None,
        key=key,
        request_hash=b"",
        again=again,
        has_own_lane=False,
        lines_are_unique=True,
        duplicate_window_ms=86_400_000,
        key_days=7,
        max_queue_size=0,
        window=window,
    )
    intake = SqliteIntake(world.database, world.owner)
    return list(intake.enqueue(batch, lines, now_ms=world.now_ms, is_dry_run=dry_run))


def opt_out(world: World, *numbers: int | str) -> None:
    with SqlitePeople(world.database).turn() as turn:
        for number in numbers:
            where = address(number) if isinstance(number, int) else number
            contact_id = turn.resolve(Person(address=where), now_ms=world.now_ms)
            turn.record_consent(contact_id, Change(wish=Wish.OPT_OUT, source=Source.MESSAGE, at_ms=world.now_ms))


def write_in(world: World, number: int, *, ago_ms: int = 0) -> None:
    event = InboundEvent(
        number_id="1",
        provider_message_id=f"wamid.{number}.{ago_ms}",
        at_ms=world.now_ms - ago_ms,
        person=Person(address=address(number)),
        kind="text",
        words="hello",
    )
    with SqlitePeople(world.database).turn() as turn:
        apply_inbound(turn, event, instance_id=1, now_ms=world.now_ms)


def hear_webhooks(world: World, *, since_ms: int = 48 * HOUR, last_ms: int = HOUR) -> None:
    with world.database.write() as connection:
        connection.execute(
            "UPDATE instance SET webhooks_since = ?, last_webhook_at = ?",
            (world.now_ms - since_ms, world.now_ms - last_ms),
        )


# People who have opted out


def test_who_has_opted_out_is_skipped_and_counted_and_the_others_keep_their_spacing(world: World) -> None:
    """Promise P13, fault 88."""
    opt_out(world, 2)
    answers = enqueue(world, [line(1), line(2), line(3)], size=3, delay_ms=2000)
    assert [(one.outcome, one.reason) for one in answers] == [
        ("queued", None),
        ("skipped", "opted_out"),
        ("queued", None),
    ]
    assert [one.due_at_ms for one in answers] == [START_MS, None, START_MS + 2000]
    row = world.row(answers[1].message_id)
    assert (row.state, row.reason) == (State.SKIPPED, "opted_out")


def test_who_has_opted_out_is_skipped_also_where_the_same_words_went_out_before(world: World) -> None:
    (first,) = enqueue(world, [line(1)])
    opt_out(world, 1)
    for again in (False, True):
        assert [one.reason for one in enqueue(world, [line(1)], again=again)] == ["opted_out"]
    world.drain()
    assert world.transport.posts == []
    assert world.row(first.message_id).reason == "opted_out"  # queued before the opt-out: found just before the post


def test_a_repeated_key_is_answered_with_what_became_of_it(world: World) -> None:
    (queued,) = enqueue(world, [line(1, key="order:1")])
    opt_out(world, 1)
    assert [(one.outcome, one.message_id) for one in enqueue(world, [line(1, key="order:1")])] == [
        ("duplicate", queued.message_id)
    ]


def test_a_list_in_another_spelling_finds_the_same_opt_out(world: World) -> None:
    """Fault 88: WhatsApp spells the number without its ninth digit."""
    opt_out(world, "+551187654321")
    assert [one.reason for one in enqueue(world, [line("+5511987654321")])] == ["opted_out"]


def test_somebody_who_was_erased_after_an_opt_out_is_skipped_when_they_are_added_again(world: World) -> None:
    """Fault 88."""
    with world.database.write() as connection:
        digest = digest_of(_install(world), address(1))
        connection.execute("INSERT INTO suppressed VALUES (?, ?)", (digest, START_MS - HOUR))
    assert [one.reason for one in enqueue(world, [line(1), line(2)], size=2)] == ["opted_out", None]
    assert [one.reason for one in enqueue(world, [line(1)])] == ["opted_out"]


def _install(world: World) -> str:
    return str(world.database.connection.execute("SELECT value FROM meta WHERE key = 'install'").fetchone()[0])


def test_a_dry_run_says_the_same_and_writes_nothing(world: World) -> None:
    opt_out(world, 1)
    before = world.database.connection.total_changes
    assert [one.outcome for one in enqueue(world, [line(1), line(2)], size=2, dry_run=True)] == ["skipped", "queued"]
    assert world.database.connection.execute("SELECT count(*) FROM message").fetchone() == (0,)
    assert before <= world.database.connection.total_changes


def test_people_of_a_long_list_are_looked_up_in_batches(world: World) -> None:
    """No query a person: their number does not grow with the people, only with the batches."""
    size = CHUNK_ROWS + 500
    opt_out(world, *range(0, size, 100))
    statements: list[str] = []
    world.database.connection.set_trace_callback(statements.append)
    answers = enqueue(world, (line(number) for number in range(size)), size=size)
    world.database.connection.set_trace_callback(None)
    assert Counter(one.reason for one in answers) == {None: size - size // 100, "opted_out": size // 100}
    asked = [one for one in statements if "opted_out_at" in one and one.lstrip().startswith("SELECT")]
    assert len(asked) <= 2 + size / 500 + 1


# Closed windows


def test_free_text_to_a_closed_window_is_queued_and_said(world: World) -> None:
    hear_webhooks(world)
    write_in(world, 1, ago_ms=HOUR)
    write_in(world, 2, ago_ms=25 * HOUR)
    answers = enqueue(world, [line(1), line(2), line(3), line(GROUP)], size=4, window=WindowPolicy.WARN)
    assert [one.outcome for one in answers] == ["queued"] * 4
    assert [one.window_is_closed for one in answers] == [False, True, True, False]


def test_free_text_to_a_closed_window_is_skipped_where_that_is_wanted(world: World) -> None:
    hear_webhooks(world)
    write_in(world, 1, ago_ms=HOUR)
    opt_out(world, 3)
    answers = enqueue(world, [line(1), line(2), line(3)], size=3, window=WindowPolicy.REFUSE)
    assert [one.reason for one in answers] == [None, "window_closed", "opted_out"]


def test_a_template_needs_no_window(world: World) -> None:
    hear_webhooks(world)
    assert [one.outcome for one in enqueue(world, [line(1, template=True)], window=WindowPolicy.REFUSE)] == ["queued"]


@pytest.mark.parametrize("policy", WindowPolicy)
def test_without_webhooks_nothing_is_said_of_windows(world: World, policy: WindowPolicy) -> None:
    write_in(world, 1, ago_ms=30 * HOUR)
    answers = enqueue(world, [line(1), line(2)], size=2, window=policy)
    assert [(one.outcome, one.window_is_closed) for one in answers] == [("queued", False)] * 2


def test_a_window_that_ends_before_the_message_is_due_is_closed_for_it(world: World) -> None:
    hear_webhooks(world)
    write_in(world, 1)
    (now,) = enqueue(world, [line(1)], window=WindowPolicy.WARN)
    (tomorrow,) = enqueue(world, [line(1, template=False)], window=WindowPolicy.WARN, in_ms=25 * HOUR, again=True)
    assert (now.window_is_closed, tomorrow.window_is_closed) == (False, True)


def test_the_platforms_word_closes_a_window_without_other_webhooks(world: World) -> None:
    with SqlitePeople(world.database).turn() as turn:
        contact_id = turn.resolve(Person(address=address(1)), now_ms=world.now_ms)
        turn.note_window_closed(1, contact_id, at_ms=world.now_ms - HOUR)
    assert [one.reason for one in enqueue(world, [line(1)], window=WindowPolicy.REFUSE)] == ["window_closed"]
