"""Webhooks in the store: kept in one commit, read in order, finished with their effects or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from world import World, open_world

from wa_cli.domain.webhook import WebhookStatus
from wa_cli.errors import NotFound, StorageBroken, StorageFull, Temporary
from wa_cli.ports import NewWebhook
from wa_cli.store.sqlite.database import Database
from wa_cli.store.sqlite.webhooks import SqliteWebhooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ROOMY = 10**9
DAY_MS = 86_400_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as opened:
        yield opened
        assert opened.find_faults() == []


@pytest.fixture
def webhooks(world: World) -> SqliteWebhooks:
    return SqliteWebhooks(world.database)


def arrived(body: bytes = b"{}", *, at_ms: int = 1_000, is_signed: bool = True) -> NewWebhook:
    return NewWebhook(received_at_ms=at_ms, provider="cloud_api", is_signed=is_signed, body=body)


def waiting(webhooks: SqliteWebhooks) -> list[int]:
    return [one.id for one in webhooks.read_waiting(after_id=0, limit=1_000, most_bytes=ROOMY)]


def finish(webhooks: SqliteWebhooks, *ids: int, status: WebhookStatus = WebhookStatus.DONE) -> None:
    with webhooks.turn() as turn:
        for webhook_id in ids:
            turn.finish(webhook_id, status=status, events=2, details="1 read", now_ms=5_000)


def test_bodies_are_kept_byte_for_byte_in_the_order_they_came(webhooks: SqliteWebhooks) -> None:
    """Row Q4."""
    bodies = [b"", b"{}", "caf\u00e9 \U0001f44d".encode(), rb"\u00e9\/", bytes(range(256)), b"x" * 3_000_000]
    assert webhooks.append([arrived(body, at_ms=7) for body in bodies[:2]]) == [1, 2]
    assert webhooks.append([arrived(body, at_ms=8) for body in bodies[2:]]) == [3, 4, 5, 6]
    stored = webhooks.read_waiting(after_id=0, limit=10, most_bytes=ROOMY)
    assert [one.body for one in stored] == bodies
    assert [one.received_at_ms for one in stored] == [7, 7, 8, 8, 8, 8]


def test_bodies_of_one_call_are_kept_together_or_not_at_all(webhooks: SqliteWebhooks, world: World) -> None:
    """Fault 74."""
    world.database.connection.execute(
        "CREATE TEMP TRIGGER no BEFORE INSERT ON main.webhook_logs WHEN new.id = 3 BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    with pytest.raises(StorageBroken, match="refused a row"):
        webhooks.append([arrived(), arrived(), arrived()])
    assert waiting(webhooks) == []
    assert webhooks.append([arrived(), arrived()]) == [1, 2]


def test_a_look_takes_no_more_bytes_than_asked_for_and_at_least_one_body(webhooks: SqliteWebhooks) -> None:
    """Fault 73: memory stays flat."""
    webhooks.append([arrived(b"x" * 1_000) for _ in range(5)])

    def look(after_id: int, limit: int, most_bytes: int) -> list[int]:
        return [one.id for one in webhooks.read_waiting(after_id=after_id, limit=limit, most_bytes=most_bytes)]

    assert look(0, 10, 2_500) == [1, 2]
    assert look(2, 10, 10) == [3]
    assert look(3, 1, ROOMY) == [4]
    assert look(5, 10, ROOMY) == []


def test_what_is_finished_waits_no_more_and_says_what_it_was(webhooks: SqliteWebhooks) -> None:
    webhooks.append([arrived(at_ms=10), arrived(b"{ }", at_ms=20, is_signed=False)])
    finish(webhooks, 1)
    assert waiting(webhooks) == [2]
    row, body = webhooks.find(1)
    assert body == b"{}"
    assert (row.status, row.events, row.details, row.read_at_ms) == (WebhookStatus.DONE, 2, "1 read", 5_000)
    row, body = webhooks.find(2)
    assert (row.status, row.events, row.details, row.read_at_ms) == (WebhookStatus.WAITING, None, None, None)
    assert (row.is_signed, row.size, row.received_at_ms, row.provider) == (False, 3, 20, "cloud_api")
    with pytest.raises(NotFound, match="no webhook w3"):
        webhooks.find(3)


def test_effects_and_the_end_of_reading_are_one_transaction(webhooks: SqliteWebhooks, world: World) -> None:
    """Fault 75."""
    webhooks.append([arrived()])

    def interrupt() -> None:
        with webhooks.turn() as turn:
            insert(turn, "effect")
            turn.finish(1, status=WebhookStatus.DONE, events=1, details=None, now_ms=1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert waiting(webhooks) == [1]
    assert world.rows("SELECT * FROM meta WHERE key = 'effect'") == []


def test_a_turn_sees_which_still_wait(webhooks: SqliteWebhooks) -> None:
    webhooks.append([arrived()] * 3)
    finish(webhooks, 2)
    with webhooks.turn() as turn:
        assert turn.keep_waiting([1, 2, 3, 99]) == {1, 3}


def insert(turn: Any, key: str, value: object = "1") -> None:
    turn.connection.execute("INSERT INTO meta (key, value) VALUES (?, ?)", (key, value))


def fail_by_key(turn: Any) -> None:
    insert(turn, "bad")
    insert(turn, "bad")


def fail_by_type(turn: Any) -> None:
    insert(turn, "bad")
    insert(turn, "worse", object())


def fail_by_size(turn: Any) -> None:
    insert(turn, "bad")
    insert(turn, "worse", 2**70)


def fail_by_letters(turn: Any) -> None:
    insert(turn, "bad")
    insert(turn, "worse", "\ud83d")


def fail_by_statement(turn: Any) -> None:
    insert(turn, "bad")
    turn.connection.execute("SELECT no_such_column FROM meta")


def fail_by_reference(turn: Any) -> None:
    insert(turn, "bad")
    turn.connection.execute("INSERT INTO contact_alias VALUES ('wa:1', 999)")


def fail_by_logic(turn: Any) -> None:
    insert(turn, "bad")
    raise KeyError("+6581234567")


@pytest.mark.parametrize(
    "work",
    [
        fail_by_key,
        fail_by_type,
        fail_by_size,
        fail_by_letters,
        fail_by_statement,
        fail_by_reference,
        fail_by_logic,
    ],
)
def test_a_fault_undoes_its_own_work_and_not_that_of_its_neighbours(
    webhooks: SqliteWebhooks, world: World, work: Callable[[Any], None]
) -> None:
    """Promise P12."""
    with webhooks.turn() as turn:
        assert turn.attempt(lambda: insert(turn, "before")) is None
        assert turn.attempt(lambda: work(turn)) is not None
        assert turn.attempt(lambda: insert(turn, "after")) is None
    assert world.rows("SELECT key FROM meta WHERE key IN ('before', 'bad', 'after') ORDER BY key") == [
        ("after",),
        ("before",),
    ]


@pytest.mark.parametrize("trouble", [StorageFull("full"), Temporary("busy")])
def test_trouble_with_the_store_is_nobodys_fault_and_ends_the_turn(
    webhooks: SqliteWebhooks, world: World, trouble: Exception
) -> None:
    """Fault 74."""

    def work() -> None:
        raise trouble

    def run() -> None:
        with webhooks.turn() as turn:
            insert(turn, "before")
            turn.attempt(work)

    with pytest.raises(type(trouble)):
        run()
    assert world.rows("SELECT key FROM meta WHERE key = 'before'") == []


def test_a_full_disk_inside_a_turn_is_said_by_its_name_and_everything_still_waits(tmp_path: Path) -> None:
    """Fault 74."""
    with open_world(tmp_path, on_disk=True) as world:
        webhooks = SqliteWebhooks(world.database)
        webhooks.append([arrived()])
        pages = world.value("PRAGMA page_count")
        world.database.connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(StorageFull), webhooks.turn() as turn:
            turn.attempt(lambda: insert(turn, "big", "x" * 100_000))
        with pytest.raises(StorageFull):
            webhooks.append([arrived(b"x" * 100_000)])
        assert waiting(webhooks) == [1]
        world.database.connection.execute(f"PRAGMA max_page_count = {pages + 1_000}")
        assert webhooks.append([arrived(b"x" * 100_000)]) == [2]


def test_a_second_process_sees_what_the_first_one_kept(tmp_path: Path) -> None:
    """Promise P1."""
    with open_world(tmp_path, on_disk=True) as world:
        SqliteWebhooks(world.database).append([arrived(b"[1]")])
        other = Database.open(tmp_path / "wa.db", create=False)
        assert [one.body for one in SqliteWebhooks(other).read_waiting(after_id=0, limit=9, most_bytes=9)] == [b"[1]"]
        finish(SqliteWebhooks(other), 1)
        other.close()
        assert waiting(SqliteWebhooks(world.database)) == []


# --- hearing from the provider ---


def test_an_instance_knows_since_when_and_until_when_webhooks_come(webhooks: SqliteWebhooks, world: World) -> None:
    """Promise P5: without webhooks silence says nothing."""

    def heard() -> tuple[Any, ...]:
        return world.rows("SELECT webhooks_since, last_webhook_at FROM instance WHERE id = 1")[0]

    assert heard() == (None, None)
    for at_ms, expected in ((500, (500, 500)), (900, (500, 900)), (700, (500, 900)), (100, (100, 900))):
        with webhooks.turn() as turn:
            turn.note_arrival(1, at_ms=at_ms)
            turn.note_arrival(99, at_ms=at_ms)
        assert heard() == expected


# --- again ---


def test_those_that_are_reopened_wait_again_as_they_came(webhooks: SqliteWebhooks) -> None:
    """Fault 72."""
    webhooks.append([arrived(at_ms=10), arrived(), arrived()])
    finish(webhooks, 1, 2)
    assert webhooks.reopen([1, 3]) == 2
    assert waiting(webhooks) == [1, 3]
    row, _body = webhooks.find(1)
    assert (row.received_at_ms, row.events, row.details, row.read_at_ms) == (10, None, None, None)


def test_a_name_that_does_not_exist_reopens_nothing(webhooks: SqliteWebhooks) -> None:
    webhooks.append([arrived()])
    finish(webhooks, 1)
    with pytest.raises(NotFound, match="w7"):
        webhooks.reopen([1, 7])
    assert waiting(webhooks) == []


def test_the_failed_ones_are_reopened_and_no_others(webhooks: SqliteWebhooks) -> None:
    webhooks.append([arrived()] * 4)
    finish(webhooks, 1, 3, status=WebhookStatus.FAILED)
    finish(webhooks, 2)
    assert webhooks.reopen_failed() == [1, 3]
    assert waiting(webhooks) == [1, 3, 4]
    assert webhooks.reopen_failed() == []


# --- looking ---


def test_a_list_is_newest_first_of_one_status_and_goes_on_after_a_page(webhooks: SqliteWebhooks) -> None:
    webhooks.append([arrived()] * 5)
    finish(webhooks, 1, 4)
    finish(webhooks, 2, status=WebhookStatus.IGNORED)

    def ids(status: WebhookStatus | None = None, before_id: int | None = None, limit: int = 10) -> list[int]:
        return [row.id for row in webhooks.list_newest(status, before_id=before_id, limit=limit)]

    assert ids() == [5, 4, 3, 2, 1]
    assert ids(limit=2) == [5, 4]
    assert ids(before_id=4, limit=2) == [3, 2]
    assert ids(WebhookStatus.DONE) == [4, 1]
    assert ids(WebhookStatus.WAITING, before_id=5) == [3]
    assert ids(WebhookStatus.FAILED) == []
    assert webhooks.count_waiting() == 2
    assert webhooks.count_by_status() == {
        WebhookStatus.WAITING: 2,
        WebhookStatus.DONE: 2,
        WebhookStatus.IGNORED: 1,
        WebhookStatus.FAILED: 0,
    }


# --- forgetting ---


def test_only_what_was_read_and_is_old_enough_is_forgotten(webhooks: SqliteWebhooks, world: World) -> None:
    """Setting WA_WEBHOOK_DAYS."""
    webhooks.append([arrived(at_ms=day * DAY_MS) for day in range(10)])
    finish(webhooks, *range(1, 11))
    webhooks.reopen([2])
    assert webhooks.prune(before_ms=5 * DAY_MS, most=1_000) == 4
    assert [row.id for row in webhooks.list_newest(None, before_id=None, limit=99)] == [10, 9, 8, 7, 6, 2]
    assert webhooks.prune(before_ms=5 * DAY_MS, most=1_000) == 0


def test_no_number_is_given_to_two_webhooks(webhooks: SqliteWebhooks) -> None:
    webhooks.append([arrived()] * 3)
    finish(webhooks, 1, 2, 3)
    assert webhooks.prune(before_ms=10**12, most=1_000) == 2
    assert webhooks.append([arrived()]) == [4]


def test_forgetting_much_is_done_in_pieces_and_stops_where_it_was_told_to(
    webhooks: SqliteWebhooks, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhooks.append([arrived()] * 1_300)
    finish(webhooks, *range(1, 1_301))
    turns: list[int] = []
    world.database.connection.set_trace_callback(lambda statement: turns.append(1) if "COMMIT" in statement else None)
    assert webhooks.prune(before_ms=10**12, most=1_200) == 1_200
    assert len(turns) == 3
    assert webhooks.prune(before_ms=10**12, most=1_200) == 99
    world.database.connection.set_trace_callback(None)


def test_a_clock_that_was_wrong_for_a_while_makes_nothing_young_forgotten(webhooks: SqliteWebhooks) -> None:
    """Fault 31."""
    times = [1, 2, 900, 901, 3, 4, 50, 51, 5, 60]
    webhooks.append([arrived(at_ms=at) for at in times])
    finish(webhooks, *range(1, 11))
    webhooks.prune(before_ms=50, most=1_000)
    left = [row.received_at_ms for row in webhooks.list_newest(None, before_id=None, limit=99)]
    assert {at for at in times if at >= 50} <= set(left)
