"""Reading what waits: in order, each with its effects or not at all, and no bad one keeps the others waiting."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import World, open_world

from wa_cli.domain.event import IgnoredEvent, StatusEvent
from wa_cli.domain.receipt import Receipt
from wa_cli.domain.webhook import WebhookStatus
from wa_cli.errors import StorageFull, Temporary, UsageError
from wa_cli.ports import NewWebhook
from wa_cli.services.webhooks import BODIES_A_TURN, EVENTS_A_TURN, ReadSums, prune, read_waiting
from wa_cli.store.sqlite.webhooks import SqliteWebhooks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from wa_cli.domain.event import Event
    from wa_cli.store.sqlite.webhooks import SqliteWebhookTurn

DONE, IGNORED, FAILED, WAITING = (
    WebhookStatus.DONE,
    WebhookStatus.IGNORED,
    WebhookStatus.FAILED,
    WebhookStatus.WAITING,
)


class Words:
    """Reads a body of ours: a JSON list, each word of which is the id of a message that was read."""

    def is_genuine(self, body: bytes, signature: str | None) -> bool:
        raise NotImplementedError

    def answer_challenge(self, query: Any) -> str | None:
        raise NotImplementedError

    def read(self, body: bytes) -> list[Event]:
        if body == b"bug":
            raise KeyError("+6581234567")
        try:
            words = json.loads(body)
        except ValueError as error:
            raise UsageError("the body is not JSON", code="webhook") from error
        return [
            IgnoredEvent(what="calls")
            if word == "ignored"
            else StatusEvent(number_id="55", provider_message_id=word, receipt=Receipt.READ, at_ms=1)
            for word in words
        ]


@dataclass(slots=True)
class Ledger:
    """Writes down each event once, as `settle` must.  One whose id is `bad` is a bug."""

    slices: list[int] = field(default_factory=list)
    trouble_at: int | None = None
    trouble: Exception | None = None

    def settle(self, turn: SqliteWebhookTurn, events: Sequence[Event]) -> dict[str, int]:
        self.slices.append(len(events))
        new = 0
        for event in events:
            if isinstance(event, StatusEvent):
                changed = turn.connection.execute(
                    "INSERT INTO meta (key, value) VALUES (?, 'told') ON CONFLICT DO NOTHING",
                    (f"told:{event.provider_message_id}",),
                )
                new += changed.rowcount
                if event.provider_message_id == "bad":
                    raise ZeroDivisionError
        if self.trouble is not None and self.trouble_at == len(self.slices):
            raise self.trouble
        return {"applied": new, "repeated": len(events) - new}


@dataclass(slots=True)
class Desk:
    """A store of webhooks and what reads them."""

    world: World
    webhooks: SqliteWebhooks
    ledger: Ledger = field(default_factory=Ledger)

    def put(self, *bodies: bytes | list[str], at_ms: int = 100) -> None:
        self.webhooks.append(
            [
                NewWebhook(
                    received_at_ms=at_ms,
                    provider="cloud_api",
                    is_signed=True,
                    body=body if isinstance(body, bytes) else json.dumps(body).encode(),
                )
                for body in bodies
            ]
        )

    def read(self, limit: int = 10_000, **options: Any) -> ReadSums:
        terms: dict[str, Any] = {"numbers": {"55": 1}, "now_ms": 9_000} | options
        return read_waiting(self.webhooks, lambda _instance_id: Words(), self.ledger.settle, limit=limit, **terms)

    def statuses(self) -> list[WebhookStatus]:
        return [row.status for row in reversed(self.webhooks.list_newest(None, before_id=None, limit=10_000))]

    def told(self) -> list[str]:
        rows = self.world.rows("SELECT key FROM meta WHERE key LIKE 'told:%' ORDER BY key")
        return [row[0].removeprefix("told:") for row in rows]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with open_world(tmp_path) as world:
        yield Desk(world, SqliteWebhooks(world.database))


def count_commits(world: World) -> list[str]:
    commits: list[str] = []
    world.database.connection.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    return commits


def test_what_waits_is_read_in_order_and_takes_effect(desk: Desk) -> None:
    """Row Q4."""
    desk.put(["a", "b"], ["ignored"], [], ["c", "ignored"])
    sums = desk.read()
    assert (sums.done, sums.ignored, sums.failed, sums.events, sums.webhooks) == (2, 2, 0, 5, 4)
    assert sums.effects == {"applied": 3, "repeated": 2}
    assert desk.told() == ["a", "b", "c"]
    assert desk.statuses() == [DONE, IGNORED, IGNORED, DONE]
    details = [desk.webhooks.find(number)[0].details for number in (1, 2, 3, 4)]
    assert details == ["2 read", "1 ignored calls", None, "1 read, 1 ignored calls"]
    assert desk.read() == ReadSums()


def test_a_body_read_a_hundred_times_changes_what_it_changed_once(desk: Desk) -> None:
    """Faults 69 and 72."""
    desk.put(*[["a", "b"]] * 100)
    assert desk.read().effects == {"applied": 2, "repeated": 198}
    desk.webhooks.reopen(list(range(1, 101)))
    assert desk.read().effects == {"applied": 0, "repeated": 200}


def test_small_bodies_share_a_transaction(desk: Desk) -> None:
    desk.put(*[[f"m{n}"] for n in range(BODIES_A_TURN * 2)])
    commits = count_commits(desk.world)
    desk.read()
    assert len(commits) == 2
    assert desk.ledger.slices == [BODIES_A_TURN] * 2


def test_where_one_of_them_trips_each_is_tried_by_itself_in_the_same_transaction(desk: Desk) -> None:
    """Promise P12."""
    desk.put(["a"], ["b", "bad"], b"{", ["c"])
    commits = count_commits(desk.world)
    sums = desk.read()
    assert desk.ledger.slices == [4, 1, 2, 0, 1]
    assert len(commits) == 1
    assert sums.effects == {"applied": 2, "repeated": 0}
    assert desk.statuses() == [DONE, FAILED, FAILED, DONE]
    assert desk.told() == ["a", "c"]


def test_a_large_body_takes_effect_in_slices_and_is_finished_with_the_last(desk: Desk) -> None:
    """Issue 4, point 2: a sender beside it never waits for a whole body."""
    desk.put([f"m{n:05}" for n in range(EVENTS_A_TURN * 5 + 1)], ["z"])
    commits = count_commits(desk.world)
    sums = desk.read()
    assert desk.ledger.slices == [EVENTS_A_TURN] * 5 + [1, 1]
    assert len(commits) == 7
    assert (sums.done, sums.events) == (2, EVENTS_A_TURN * 5 + 2)
    assert desk.webhooks.find(1)[0].events == EVENTS_A_TURN * 5 + 1
    assert len(desk.told()) == EVENTS_A_TURN * 5 + 2


@pytest.mark.parametrize("size", [1, EVENTS_A_TURN - 1, EVENTS_A_TURN, EVENTS_A_TURN + 1, EVENTS_A_TURN * 2])
def test_no_event_is_left_out_at_the_edge_of_a_slice(desk: Desk, size: int) -> None:
    desk.put([f"m{n:05}" for n in range(size)])
    assert desk.read().effects["applied"] == size == len(desk.told())
    assert max(desk.ledger.slices) <= EVENTS_A_TURN


def test_a_large_body_that_was_broken_off_is_read_again_from_its_beginning(desk: Desk) -> None:
    """Fault 75: every effect happens once."""
    desk.put([f"m{n:05}" for n in range(EVENTS_A_TURN * 4)])
    desk.ledger.trouble, desk.ledger.trouble_at = Temporary("busy"), 3
    with pytest.raises(Temporary):
        desk.read()
    assert desk.statuses() == [WAITING]
    assert len(desk.told()) == EVENTS_A_TURN * 2
    desk.ledger.trouble = None
    assert desk.read().effects == {"applied": EVENTS_A_TURN * 2, "repeated": EVENTS_A_TURN * 2}
    assert desk.statuses() == [DONE]


@pytest.mark.parametrize(
    ("bad", "details"),
    [
        (b"{", "the body is not JSON"),
        (b"bug", "a fault in wa: KeyError at test_webhook_reading:"),
        (b'["x", "bad", "y"]', "a fault in wa: ZeroDivisionError at test_webhook_reading:"),
    ],
)
def test_one_that_cannot_be_read_is_kept_with_its_reason_and_those_behind_it_are_read(
    desk: Desk, caplog: pytest.LogCaptureFixture, bad: bytes, details: str
) -> None:
    """Promise P12, fault 75."""
    desk.put(["a"], bad, ["b"])
    with caplog.at_level(logging.ERROR, logger="wa.webhooks"):
        sums = desk.read()
    assert (sums.done, sums.failed) == (2, 1)
    assert desk.told() == ["a", "b"]
    assert desk.statuses() == [DONE, FAILED, DONE]
    row, body = desk.webhooks.find(2)
    assert body == bad
    assert (row.details or "").startswith(details)
    assert [record.getMessage() for record in caplog.records] == [f"webhook w2 cannot be read: {row.details}"]
    assert "6581234567" not in caplog.text + (row.details or "")


def test_a_fault_in_the_middle_of_a_large_body_fails_it_and_nothing_else(desk: Desk) -> None:
    """Promise P12."""
    words = [f"m{n:05}" for n in range(EVENTS_A_TURN * 3)]
    words[EVENTS_A_TURN + 7] = "bad"
    desk.put(["a"], words, ["b"])
    desk.read()
    assert desk.statuses() == [DONE, FAILED, DONE]
    assert len(desk.told()) == EVENTS_A_TURN + 2


def test_one_that_failed_is_read_when_its_fault_is_mended(desk: Desk) -> None:
    desk.put(b"bug")
    desk.read()
    assert desk.webhooks.reopen_failed() == [1]
    desk.world.execute("UPDATE webhook_logs SET body = CAST('[\"a\"]' AS BLOB)")
    assert desk.read().done == 1
    assert desk.told() == ["a"]


@pytest.mark.parametrize("trouble", [Temporary("busy"), StorageFull("full")])
def test_trouble_with_the_store_ends_the_reading_and_loses_nothing(desk: Desk, trouble: Exception) -> None:
    """Fault 74."""
    desk.put(*[[f"m{n}"] for n in range(3)])
    desk.ledger.trouble, desk.ledger.trouble_at = trouble, 1
    with pytest.raises(type(trouble)):
        desk.read()
    assert desk.statuses() == [WAITING] * 3
    assert desk.told() == []
    desk.ledger.trouble = None
    assert desk.read().done == 3


def test_no_more_are_read_than_were_asked_for(desk: Desk) -> None:
    desk.put(*[["a"]] * 5)
    assert desk.read(limit=2).webhooks == 2
    assert desk.statuses() == [DONE, DONE, WAITING, WAITING, WAITING]
    assert desk.read(limit=0).webhooks == 0


def test_one_that_another_process_has_read_meanwhile_is_not_counted(desk: Desk) -> None:
    """Fault 69."""
    desk.put(["a"], ["b"])
    page = desk.webhooks.read_waiting

    def read_late(**options: Any) -> Any:
        found = page(**options)
        if found:
            desk.world.execute("UPDATE webhook_logs SET status = 'done' WHERE id = 1")
        return found

    desk.webhooks.read_waiting = read_late  # type: ignore[method-assign]
    sums = desk.read()
    assert (sums.done, sums.events) == (1, 1)
    assert desk.told() == ["b"]


def test_hearing_of_a_number_of_ours_is_noted_with_the_time_it_came(desk: Desk) -> None:
    """Promise P5: an old body that is read again proves nothing about now."""

    def heard() -> Any:
        return desk.world.rows("SELECT webhooks_since, last_webhook_at FROM instance WHERE id = 1")[0]

    desk.put(["ignored"], b"{", at_ms=100)
    desk.read()
    assert heard() == (None, None)
    desk.put(["a"], at_ms=200)
    desk.read(numbers={})
    assert heard() == (None, None)
    desk.put(["a"], at_ms=300)
    desk.put(["a"], at_ms=400)
    desk.read()
    assert heard() == (300, 400)
    desk.webhooks.reopen([3])
    desk.read(numbers={"another": 1})
    assert heard() == (300, 400)
    desk.webhooks.reopen([4])
    desk.read()
    assert heard() == (300, 400)


def test_forgetting_is_a_setting_and_0_keeps_everything(desk: Desk) -> None:
    """Setting WA_WEBHOOK_DAYS."""
    day = 86_400_000
    desk.put(*[["a"]] * 3, at_ms=10 * day)
    desk.read()
    assert prune(desk.webhooks, days=0, now_ms=100 * day) == 0
    assert prune(desk.webhooks, days=90, now_ms=100 * day) == 0
    assert prune(desk.webhooks, days=89, now_ms=100 * day) == 2


BODY = st.one_of(
    st.lists(st.sampled_from(["a", "b", "c", "ignored", "bad"]), max_size=5),
    st.sampled_from([b"{", b"bug", b""]),
    st.integers(1, 3).map(lambda n: [f"m{k}" for k in range(n * EVENTS_A_TURN)]),
)


@given(st.lists(BODY, max_size=8), st.integers(1, 9), st.lists(st.integers(1, 12), max_size=3))
@settings(max_examples=60, deadline=None)
def test_whatever_waits_and_wherever_the_store_stumbles_everything_is_read_in_the_end(
    bodies: list[Any], limit: int, stumbles: list[int]
) -> None:
    """Promise P12, faults 74 and 75."""
    import pathlib

    with open_world(pathlib.Path("unused")) as world:
        desk = Desk(world, SqliteWebhooks(world.database))
        desk.put(*bodies)
        for at in stumbles:
            desk.ledger.trouble, desk.ledger.trouble_at = Temporary("busy"), len(desk.ledger.slices) + at
            try:
                desk.read(limit=limit)
            except Temporary:
                continue
        desk.ledger.trouble = None
        while desk.read(limit=limit).webhooks:
            pass
        assert WAITING not in desk.statuses()
        good = [body for body in bodies if isinstance(body, list) and "bad" not in body]
        expected = {word for body in good for word in body if word != "ignored"}
        assert expected <= set(desk.told())
        assert desk.statuses().count(FAILED) == len(bodies) - len(good)
