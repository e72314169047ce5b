"""The way in for webhooks: on the disk before it is answered, many in one commit, refused aloud in trouble."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from world import FakeClock

from wa_cli.errors import StorageFull, Temporary
from wa_cli.services.webhooks import COMMIT_BYTES, WebhookInbox

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from wa_cli.ports import NewWebhook


class Shelf:
    """Keeps webhooks in a list.  Each commit waits for the gate; the next trouble is raised instead."""

    def __init__(self) -> None:
        self.kept: list[NewWebhook] = []
        self.commits: list[int] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.troubles: list[Exception] = []

    def append(self, arrived: Sequence[NewWebhook]) -> list[int]:
        self.threads.add(threading.get_ident())
        self.entered.release()
        assert self.gate.wait(120)
        if self.troubles:
            raise self.troubles.pop(0)
        first = len(self.kept) + 1
        self.kept += arrived
        self.commits.append(len(arrived))
        return list(range(first, first + len(arrived)))


def run(test: Callable[[Shelf, WebhookInbox], Coroutine[Any, Any, None]], **options: Any) -> Shelf:
    shelf = Shelf()

    async def main(executor: ThreadPoolExecutor) -> None:
        await test(shelf, WebhookInbox(webhooks=shelf, executor=executor, clock=FakeClock(7_000), **options))  # type: ignore[arg-type]  # it is asked to append alone

    with ThreadPoolExecutor(max_workers=1) as executor:
        asyncio.run(main(executor))
    return shelf


def accept(inbox: WebhookInbox, body: bytes = b"{}") -> Coroutine[Any, Any, int]:
    return inbox.accept(body, is_signed=True, provider="cloud_api")


async def until_inside(shelf: Shelf) -> None:
    """Wait for a commit to have begun."""
    assert await asyncio.to_thread(shelf.entered.acquire, timeout=120)


def test_an_answer_names_the_row_and_comes_after_the_commit() -> None:
    """Promise P1, fault 75."""

    async def test(shelf: Shelf, inbox: WebhookInbox) -> None:
        shelf.gate.clear()
        answer = asyncio.create_task(accept(inbox, b"[1]"))
        await until_inside(shelf)
        assert not answer.done()
        shelf.gate.set()
        assert await answer == 1
        assert [(one.body, one.received_at_ms, one.is_signed) for one in shelf.kept] == [(b"[1]", 7_000, True)]

    run(test)


def test_those_that_come_at_once_share_a_commit() -> None:
    """Fault 69: two at the same instant."""

    async def test(shelf: Shelf, inbox: WebhookInbox) -> None:
        assert await asyncio.gather(*[accept(inbox, b"%d" % n) for n in range(100)]) == list(range(1, 101))

    shelf = run(test)
    assert shelf.commits == [100]
    assert [one.body for one in shelf.kept] == [b"%d" % n for n in range(100)]


def test_those_that_come_during_a_commit_share_the_next_one() -> None:
    async def test(shelf: Shelf, inbox: WebhookInbox) -> None:
        shelf.gate.clear()
        first = asyncio.create_task(accept(inbox))
        await until_inside(shelf)
        rest = [asyncio.create_task(accept(inbox)) for _ in range(50)]
        await asyncio.sleep(0)
        shelf.gate.set()
        assert [await first, *await asyncio.gather(*rest)] == list(range(1, 52))

    shelf = run(test)
    assert shelf.commits == [1, 50]
    assert len(shelf.threads) == 1


def test_one_commit_takes_no_more_than_it_can_in_a_moment() -> None:
    async def test(shelf: Shelf, inbox: WebhookInbox) -> None:
        await asyncio.gather(*[accept(inbox, bytes(COMMIT_BYTES // 2)) for _ in range(5)])

    assert run(test).commits == [2, 2, 1]


@pytest.mark.parametrize("trouble", [Temporary("busy"), StorageFull("full")])
def test_a_store_that_takes_nothing_is_said_to_everyone_who_waits_and_forgotten_when_it_recovers(
    trouble: Exception,
) -> None:
    """Fault 74: nothing is answered with 200 that is not kept."""

    async def test(shelf: Shelf, inbox: WebhookInbox) -> None:
        shelf.troubles = [trouble]
        answers = await asyncio.gather(*[accept(inbox) for _ in range(3)], return_exceptions=True)
        assert answers == [trouble] * 3
        assert shelf.kept == []
        assert await accept(inbox) == 1

    run(test)


def test_too_much_that_waits_is_refused_and_room_comes_back() -> None:
    """Fault 73: memory stays bounded."""

    async def test(shelf: Shelf, inbox: WebhookInbox) -> None:
        shelf.gate.clear()
        first = [asyncio.create_task(accept(inbox, bytes(400))) for _ in range(2)]
        await until_inside(shelf)
        with pytest.raises(Temporary) as caught:
            await accept(inbox, bytes(201))
        assert caught.value.code == "webhooks_waiting"
        fits = asyncio.create_task(accept(inbox, bytes(200)))
        await asyncio.sleep(0)
        shelf.gate.set()
        assert await asyncio.gather(*first, fits) == [1, 2, 3]
        assert await accept(inbox, bytes(1_000)) == 4

    run(test, most_waiting_bytes=1_000)


def test_room_comes_back_after_trouble_too() -> None:
    """Fault 74."""

    async def test(shelf: Shelf, inbox: WebhookInbox) -> None:
        shelf.troubles = [Temporary("busy")] * 3
        for _ in range(3):
            with pytest.raises(Temporary, match="busy"):
                await accept(inbox, bytes(1_000))
        assert await accept(inbox, bytes(1_000)) == 1

    run(test, most_waiting_bytes=1_000)


def test_a_sender_that_goes_away_does_not_disturb_the_others() -> None:
    async def test(shelf: Shelf, inbox: WebhookInbox) -> None:
        shelf.gate.clear()
        gone, stays = asyncio.create_task(accept(inbox)), asyncio.create_task(accept(inbox))
        await until_inside(shelf)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        shelf.gate.set()
        assert await stays == 2
        assert len(shelf.kept) == 2

    run(test)


def test_each_commit_is_told_so_that_somebody_reads() -> None:
    told: list[int] = []

    async def test(shelf: Shelf, inbox: WebhookInbox) -> None:
        shelf.troubles = [Temporary("busy")]
        await asyncio.gather(accept(inbox), return_exceptions=True)
        assert told == []
        await accept(inbox)
        await accept(inbox)

    run(test, on_stored=lambda: told.append(1))
    assert len(told) == 2


def test_closing_waits_for_what_has_come() -> None:
    """Promise P1."""

    async def test(shelf: Shelf, inbox: WebhookInbox) -> None:
        await inbox.close()
        shelf.gate.clear()
        answers = [asyncio.create_task(accept(inbox)) for _ in range(3)]
        await until_inside(shelf)
        answers.append(asyncio.create_task(accept(inbox)))
        await asyncio.sleep(0)
        closing = asyncio.create_task(inbox.close())
        await asyncio.sleep(0)
        assert not closing.done()
        shelf.gate.set()
        await closing
        assert len(shelf.kept) == 4
        assert await asyncio.gather(*answers) == [1, 2, 3, 4]

    run(test)


def test_an_inbox_whose_loop_is_torn_down_answers_nobody_with_success() -> None:
    """Fault 75."""

    async def test(shelf: Shelf, inbox: WebhookInbox) -> None:
        shelf.gate.clear()
        answers = [asyncio.create_task(accept(inbox))]
        await until_inside(shelf)
        answers.append(asyncio.create_task(accept(inbox)))
        await asyncio.sleep(0)
        assert inbox._storing is not None
        inbox._storing.cancel()
        for answer in await asyncio.gather(*answers, return_exceptions=True):
            assert isinstance(answer, Temporary)
        shelf.gate.set()

    run(test)
