"""The sandbox's webhooks as a receiver meets them: real POSTs on loopback, in every order the platform allows."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import logging
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from webhook_receiver import Receiver

from wa_cli.domain.event import (
    IgnoredEvent,
    InboundEvent,
    NumberChangedEvent,
    PreferenceEvent,
    StatusEvent,
    TemplateEvent,
)
from wa_cli.errors import UsageError
from wa_cli.sandbox import (
    MAGIC_NUMBERS,
    FaultKind,
    Sandbox,
    SandboxSettings,
    SandboxTemplate,
    parse_fault,
    serve_in_thread,
)
from wa_cli.transports.cloud_api.webhook import CloudApiWebhooks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

TO = "15550100123"
READ, SENT = "15550109713", "15550109711"  # always read; never more than sent
TOKEN = {"Authorization": "Bearer sandbox-token"}
BUTTON_REPLY = {"type": "button_reply", "button_reply": {"id": "y", "title": "Yes"}}
DARK = ("hang", "reset", "cut_headers", "cut_body", "html_200", "empty_200", "503_empty")


@pytest.fixture(autouse=True)
def _nothing_went_wrong_inside(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Faults are made on purpose; a logged error is one that was not."""
    yield
    assert [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.WARNING] == []


def in_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test to its end, in a loop of its own."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(_bounded(test(*arguments, **named)))

    async def _bounded(coroutine: Awaitable[None]) -> None:
        async with asyncio.timeout(120):
            await coroutine

    return run


class ScriptedClock:
    """A clock that moves only when told."""

    def __init__(self, at: float = 1_800_000_000.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


def settings_for(receiver: Receiver, **changes: Any) -> SandboxSettings:
    """Webhooks without waits, limits or duplicates, unless a test wants them."""
    quick: dict[str, Any] = {
        "webhook_url": receiver.url,
        "ladder_speed": 0.0,
        "webhook_gather_ms": 1.0,
        "webhook_duplicates": 0.0,
        "webhook_retry_seconds": 0.01,
        "webhook_retry_factor": 1.0,
        "throughput_per_second": 0,
        "pair_seconds": 0.0,
    }
    return SandboxSettings(**{**quick, **changes})


def client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=60.0, trust_env=False, headers=TOKEN)


async def send(http: httpx.AsyncClient, sandbox: Sandbox, to: str = READ, **parts: Any) -> str:
    """Post a text and give back its id."""
    body = {"messaging_product": "whatsapp", "to": to, "type": "text", "text": {"body": "Hello"}, **parts}
    answer = await http.post(sandbox.messages_url, json=body)
    wamid = answer.json()["messages"][0]["id"]
    assert isinstance(wamid, str)
    return wamid


async def send_template(http: httpx.AsyncClient, sandbox: Sandbox, name: str, to: str = READ) -> str:
    template = {"name": name, "language": {"code": "en_US"}}
    return await send(http, sandbox, to, type="template", template=template)


# Statuses


@in_a_loop
async def test_a_message_is_reported_sent_delivered_and_read_with_its_tag() -> None:
    """Rows Q5, Q6."""
    async with Receiver() as receiver, Sandbox(settings_for(receiver, webhook_batch=1)) as sandbox, client() as http:
        wamid = await send(http, sandbox, biz_opaque_callback_data="wa1.x.1")
        await sandbox.wait_until_quiet()
        statuses = receiver.items()
        assert sorted(status["status"] for status in statuses) == ["delivered", "read", "sent"]
        for status in statuses:
            assert (status["id"], status["recipient_id"]) == (wamid, READ)
            assert status["biz_opaque_callback_data"] == "wa1.x.1"
            assert abs(int(status["timestamp"]) - sandbox.now()) < 60
        priced = {status["status"] for status in statuses if "pricing" in status}
        assert priced == {"sent", "delivered"}
        for field, value in receiver.arrivals[0].values():
            assert field == "messages"
            assert value["metadata"] == {
                "display_phone_number": "15550783881",
                "phone_number_id": sandbox.settings.phone_number_id,
            }


@in_a_loop
async def test_statuses_come_in_order_when_one_connection_carries_them() -> None:
    async with Receiver() as receiver:
        settings = settings_for(receiver, webhook_batch=1, webhook_connections=1, ladder_speed=1000.0)
        async with Sandbox(settings) as sandbox, client() as http:
            wamids = [await send(http, sandbox) for _ in range(10)]
            await sandbox.wait_until_quiet()
            for wamid in wamids:
                assert receiver.statuses_of(wamid) == ["sent", "delivered", "read"]


@in_a_loop
async def test_every_body_is_signed_over_the_bytes_that_were_sent() -> None:
    """Fault 71."""
    async with (
        Receiver() as receiver,
        Sandbox(settings_for(receiver, app_secret="geheim-ü")) as sandbox,
        client() as http,
    ):
        await send(http, sandbox, biz_opaque_callback_data="naïve/👋")
        sandbox.receive({"from": TO, "text": "Grüße/👋", "name": "Zoë"})
        await sandbox.wait_until_quiet()
        assert len(receiver.arrivals) >= 2
        for arrival in receiver.arrivals:
            assert arrival.headers["Content-Type"] == "application/json"
            assert arrival.is_signed_with("geheim-ü")
            assert not arrival.is_signed_with("sandbox-app-secret")
            assert arrival.raw.isascii()
            assert b" :" not in arrival.raw
            rewritten = replace(arrival, raw=json.dumps(json.loads(arrival.raw)).encode())
            assert not rewritten.is_signed_with("geheim-ü")
        assert rb"na\u00efve\/\ud83d\udc4b" in b"".join(arrival.raw for arrival in receiver.arrivals)


@pytest.mark.parametrize("spelling", DARK)
@in_a_loop
async def test_a_message_whose_answer_was_lost_is_reported_all_the_same(spelling: str) -> None:
    """Promise P5: the tag comes back although the sender never learned the id."""
    async with Receiver() as receiver, Sandbox(settings_for(receiver)) as sandbox, client() as http:
        sandbox.inject(parse_fault(spelling))
        posting = asyncio.ensure_future(send(http, sandbox, TO, biz_opaque_callback_data="wa1.x.1"))
        await receiver.until(lambda: any(item["status"] == "sent" for item in receiver.items()))
        await sandbox.wait_until_quiet()
        posting.cancel()
        await asyncio.gather(posting, return_exceptions=True)
        assert {item["id"] for item in receiver.items()} == {sandbox.ledger[0].wamid}
        assert {item["biz_opaque_callback_data"] for item in receiver.items()} == {"wa1.x.1"}


@in_a_loop
async def test_a_message_nobody_accepted_is_never_reported() -> None:
    async with Receiver() as receiver, Sandbox(settings_for(receiver)) as sandbox, client() as http:
        for spelling in ("lost:503_empty", "reject:131026", "redirect"):
            sandbox.inject(parse_fault(spelling))
            await http.post(
                sandbox.messages_url,
                json={"messaging_product": "whatsapp", "to": TO, "type": "text", "text": {"body": "x"}},
            )
        assert [entry.verdict for entry in sandbox.ledger] == ["lost", "rejected:131026", "redirected"]
        assert sandbox.updates_waiting == 0
        await send(http, sandbox)
        await sandbox.wait_until_quiet()
        assert {item["id"] for item in receiver.items()} == {sandbox.ledger[-1].wamid}


@pytest.mark.parametrize(
    ("ending", "code", "statuses"),
    [
        ("9115", 132015, ["failed"]),
        ("9126", 131026, ["failed"]),
        ("9142", 131042, ["failed"]),
        ("9147", 131047, ["failed"]),
        ("9149", 131049, ["failed"]),
        ("9150", 131050, ["failed"]),
        ("9153", 131053, ["failed"]),
        ("9172", 130472, ["failed"]),
        ("9180", 131000, ["sent", "failed"]),
        ("9181", 131026, ["sent", "delivered", "failed"]),
        ("9710", None, []),
        ("9711", None, ["sent"]),
        ("9712", None, ["sent", "delivered"]),
        ("9713", None, ["sent", "delivered", "read"]),
    ],
)
@in_a_loop
async def test_an_ending_decides_what_is_heard_of_a_message(ending: str, code: int | None, statuses: list[str]) -> None:
    async with Receiver() as receiver:
        settings = settings_for(receiver, webhook_connections=1)
        async with Sandbox(settings) as sandbox, client() as http:
            wamid = await send(http, sandbox, f"1555010{ending}")
            await sandbox.wait_until_quiet()
            assert receiver.statuses_of(wamid) == statuses
            assert [item["errors"][0]["code"] for item in receiver.items() if "errors" in item] == [code] * bool(code)


@in_a_loop
async def test_a_template_that_is_held_for_its_quality_says_so_and_is_dropped_later() -> None:
    async with Receiver() as receiver, Sandbox(settings_for(receiver)) as sandbox, client() as http:
        template = {"name": "hello_world", "language": {"code": "en_US"}}
        body = {"messaging_product": "whatsapp", "to": "15550109115", "type": "template", "template": template}
        answer = await http.post(sandbox.messages_url, json=body)
        assert answer.json()["messages"][0]["message_status"] == "held_for_quality_assessment"
        await sandbox.wait_until_quiet()
        assert [item["errors"][0]["code"] for item in receiver.items()] == [132015]


@in_a_loop
async def test_late_failures_can_be_scripted_and_left_to_chance() -> None:
    async with Receiver() as receiver:
        settings = settings_for(receiver, chaos={"later:131049": 1.0})
        async with Sandbox(settings) as sandbox, client() as http:
            sandbox.inject(parse_fault("later:131053"), recipient=TO)
            wamids = [await send(http, sandbox, TO) for _ in range(2)]
            await sandbox.wait_until_quiet()
            codes = {item["id"]: item["errors"][0]["code"] for item in receiver.items()}
            assert [codes[wamid] for wamid in wamids] == [131053, 131049]
            assert [entry.fault for entry in sandbox.ledger] == ["later:131053", "later:131049"]


@in_a_loop
async def test_the_same_seed_gives_messages_the_same_fate() -> None:
    async def run(seed: int) -> list[list[str]]:
        async with Receiver() as receiver:
            settings = settings_for(receiver, seed=seed, webhook_connections=1)
            async with Sandbox(settings) as sandbox, client() as http:
                wamids = [await send(http, sandbox, f"1555010{index:04}") for index in range(60)]
                await sandbox.wait_until_quiet()
                return [receiver.statuses_of(wamid) for wamid in wamids]

    first = await run(5)
    assert first == await run(5)
    assert first != await run(6)


# The road: duplicates, disorder, batches, delays, losses


@in_a_loop
async def test_duplicates_are_the_same_update_again() -> None:
    """Fault 69."""
    async with Receiver() as receiver:
        settings = settings_for(receiver, webhook_duplicates=1.0)
        async with Sandbox(settings) as sandbox, client() as http:
            await send(http, sandbox)
            await sandbox.wait_until_quiet()
            seen = Counter(json.dumps(item, sort_keys=True) for item in receiver.items())
            assert sorted(seen.values()) == [2, 2, 2]


@in_a_loop
async def test_disorder_lets_a_later_status_come_first() -> None:
    """Fault 70."""
    async with Receiver() as receiver:
        settings = settings_for(
            receiver, webhook_reordering=1.0, webhook_batch=1, webhook_connections=1, ladder_speed=1000.0
        )
        async with Sandbox(settings) as sandbox, client() as http:
            wamid = await send(http, sandbox)
            await sandbox.wait_until_quiet()
            assert receiver.statuses_of(wamid) == ["read", "sent", "delivered"]


@in_a_loop
async def test_updates_that_are_due_together_travel_together_up_to_the_bound() -> None:
    async with Receiver() as receiver:
        settings = settings_for(receiver, webhook_batch=7, webhook_connections=1)
        receiver.holds.clear()
        async with Sandbox(settings) as sandbox, client() as http:
            for _ in range(30):
                await send(http, sandbox)
            receiver.holds.set()
            await sandbox.wait_until_quiet()
            sizes = [len(arrival.items("statuses")) for arrival in receiver.arrivals]
            assert sum(sizes) == 90
            assert max(sizes) == 7
            forms = {len(arrival.values()) > 1 for arrival in receiver.arrivals if len(arrival.items("statuses")) == 7}
            assert forms == {False, True}


@in_a_loop
async def test_a_post_lost_on_its_way_is_repeated_until_it_arrives() -> None:
    async with Receiver() as receiver:
        settings = settings_for(receiver, webhook_drops=0.5, webhook_batch=1)
        async with Sandbox(settings) as sandbox, client() as http:
            for _ in range(20):
                await send(http, sandbox)
            await sandbox.wait_until_quiet()
            assert Counter(item["status"] for item in receiver.items()) == {"sent": 20, "delivered": 20, "read": 20}
            assert max(delivery.attempts for delivery in sandbox.deliveries) > 1
            assert {delivery.state for delivery in sandbox.deliveries} == {"delivered"}


@in_a_loop
async def test_a_status_can_be_there_before_the_answer() -> None:
    """Fault 75."""
    async with Receiver() as receiver:
        settings = settings_for(receiver, webhook_before_answer=1.0, ladder_speed=0.001)
        async with Sandbox(settings) as sandbox, client() as http:
            for count in range(1, 6):
                wamid = await send(http, sandbox)
                assert receiver.statuses_of(wamid) == ["sent"]
                assert len(receiver.arrivals) == count
            assert sandbox.updates_waiting == 10


@in_a_loop
async def test_a_receiver_that_never_answers_does_not_hold_the_answer_for_ever() -> None:
    async with Receiver(None) as receiver:
        settings = settings_for(receiver, webhook_before_answer=1.0, webhook_timeout_seconds=0.05)
        async with Sandbox(settings) as sandbox, client() as http:
            wamid = await send(http, sandbox, SENT)
            await sandbox.wait_until_quiet()
            assert len(receiver.statuses_of(wamid)) >= 2
            assert set(receiver.statuses_of(wamid)) == {"sent"}


@in_a_loop
async def test_an_extra_delay_makes_every_update_late() -> None:
    async with Receiver() as receiver:
        settings = settings_for(receiver, webhook_extra_delay_seconds=3600.0)
        async with Sandbox(settings) as sandbox, client() as http:
            await send(http, sandbox)
            sandbox.receive({"from": TO, "text": "Hi"})
            assert sandbox.updates_waiting == 4
            assert sandbox.deliveries == []


@in_a_loop
async def test_whatever_happens_on_the_road_every_status_arrives_in_the_end() -> None:
    """Promise P5: what was accepted is told, with every kind of trouble at once."""
    async with Receiver(*(500, 200, None, 302, 200) * 8) as receiver:
        settings = settings_for(
            receiver,
            chaos={"reset": 0.1, "html_200": 0.1, "later:131026": 0.1, "stop": 0.1},
            webhook_duplicates=0.3,
            webhook_reordering=0.3,
            webhook_drops=0.2,
            webhook_before_answer=0.3,
            webhook_extra_delay_seconds=0.05,
            webhook_batch=5,
            webhook_timeout_seconds=0.2,
        )
        async with Sandbox(settings) as sandbox, client() as http:
            for index in range(60):
                body = {"to": f"1555010{index:04}", "type": "text", "text": {"body": "x"}}
                with contextlib.suppress(httpx.TransportError):
                    await http.post(sandbox.messages_url, json={"messaging_product": "whatsapp", **body})
            await sandbox.wait_until_quiet()
            seen = {entry.wamid: set(receiver.statuses_of(entry.wamid or "")) for entry in sandbox.ledger}
            assert len(seen) == 60
            for entry in sandbox.ledger:
                expected = {"failed"} if entry.fault == "later:131026" else {"sent"}
                assert expected <= seen[entry.wamid]
            assert {item["id"] for item in receiver.items()} == set(seen)
            stopped = {entry.to for entry in sandbox.ledger if entry.fault == "stop"}
            assert {item["from"] for item in receiver.items("messages")} == stopped
            assert {delivery.state for delivery in sandbox.deliveries} == {"delivered"}


# Repeating until 200


@in_a_loop
async def test_anything_but_200_is_repeated_with_the_same_bytes_and_no_redirect_is_followed() -> None:
    async with Receiver(500, 503, 302, 204, 404) as receiver, Sandbox(settings_for(receiver)) as sandbox:
        sandbox.receive_events({"field": "account_update", "value": {"event": "X"}})
        await sandbox.wait_until_quiet()
        [delivery] = sandbox.deliveries
        assert (delivery.attempts, delivery.last_status, delivery.state) == (6, 200, "delivered")
        assert delivery.delivered_at is not None
        assert {arrival.raw for arrival in receiver.arrivals} == {delivery.body}
        assert {arrival.path for arrival in receiver.arrivals} == {"/hook"}


@in_a_loop
async def test_the_first_repetition_comes_at_once_and_each_later_one_waits_longer() -> None:
    async with Receiver(500, 500, 500, 500) as receiver:
        settings = settings_for(receiver, webhook_retry_seconds=0.05, webhook_retry_factor=2.0)
        async with Sandbox(settings) as sandbox:
            sandbox.receive_events({"field": "account_update", "value": {}})
            await sandbox.wait_until_quiet()
            at = [arrival.at for arrival in receiver.arrivals]
            gaps = [later - earlier for earlier, later in itertools.pairwise(at)]
            assert len(gaps) == 4
            for gap, least in zip(gaps, (0.0, 0.05, 0.1, 0.2), strict=True):
                assert gap >= least


@in_a_loop
async def test_a_receiver_that_takes_too_long_is_asked_again() -> None:
    async with (
        Receiver(None, None) as receiver,
        Sandbox(settings_for(receiver, webhook_timeout_seconds=0.05)) as sandbox,
    ):
        sandbox.receive_events({"field": "account_update", "value": {}})
        await receiver.until(lambda: len(receiver.arrivals) == 2)
        assert sandbox.deliveries[0].last_error == "no answer in time"
        await sandbox.wait_until_quiet()
        assert sandbox.deliveries[0].attempts >= 3
        assert sandbox.deliveries[0].last_error is None


@in_a_loop
async def test_a_receiver_that_was_down_gets_everything_once_it_is_back() -> None:
    async with Receiver() as receiver:
        settings, port = settings_for(receiver), receiver.port
    async with Sandbox(settings) as sandbox, client() as http:
        wamid = await send(http, sandbox)
        await sandbox.wait_for_deliveries(1)
        async with Receiver(port=port) as receiver:
            await sandbox.wait_until_quiet()
            assert sorted(receiver.statuses_of(wamid)) == ["delivered", "read", "sent"]


@in_a_loop
async def test_after_its_time_a_webhook_is_given_up() -> None:
    async with (
        Receiver(500, 500, 500) as receiver,
        Sandbox(settings_for(receiver, webhook_give_up_seconds=0.0)) as sandbox,
    ):
        sandbox.receive_events({"field": "account_update", "value": {}})
        await sandbox.wait_until_quiet()
        [delivery] = sandbox.deliveries
        assert (delivery.state, delivery.attempts, delivery.last_status) == ("given_up", 2, 500)


@in_a_loop
async def test_no_more_posts_are_open_at_once_than_set() -> None:
    async with Receiver() as receiver:
        receiver.holds.clear()
        settings = settings_for(receiver, webhook_batch=1, webhook_connections=3)
        async with Sandbox(settings) as sandbox, client() as http:
            for _ in range(10):
                await send(http, sandbox)
            await receiver.until(lambda: receiver.open_now == 3)
            receiver.holds.set()
            await sandbox.wait_until_quiet()
            assert receiver.open_at_most == 3
            assert len(receiver.items()) == 30


# Starting, stopping, changing


@in_a_loop
async def test_stopping_breaks_off_what_is_on_its_way_and_a_start_goes_on_with_it() -> None:
    async with Receiver() as receiver:
        receiver.holds.clear()
        settings = settings_for(receiver, webhook_batch=1, webhook_connections=2, webhook_timeout_seconds=3600.0)
        sandbox = Sandbox(settings)
        async with sandbox, client() as http:
            wamid = await send(http, sandbox)
            await receiver.until(lambda: receiver.open_now == 2)
            async with asyncio.timeout(60):
                await sandbox.stop()
            assert sandbox.updates_waiting == 3
            receiver.holds.set()
            receiver.arrivals.clear()
            await sandbox.start()
            await sandbox.wait_until_quiet()
            assert sorted(receiver.statuses_of(wamid)) == ["delivered", "read", "sent"]


@in_a_loop
async def test_stopping_before_a_post_has_begun_loses_nothing() -> None:
    async with Receiver() as receiver:
        sandbox = Sandbox(settings_for(receiver))
        async with sandbox:
            sandbox.receive({"from": TO, "text": "Hi"})
            while not sandbox._deliveries._posting:
                await asyncio.sleep(0)
            await sandbox.stop()
            assert sandbox.updates_waiting == 1
            await sandbox.start()
            await sandbox.wait_until_quiet()
            assert len(receiver.items("messages")) >= 1
            assert sandbox.deliveries[0].state == "delivered"


@in_a_loop
async def test_stopping_does_not_wait_for_what_is_due_later_nor_for_a_repetition() -> None:
    async with Receiver(500, 500) as receiver:
        settings = settings_for(receiver, webhook_retry_seconds=3600.0)
        sandbox = Sandbox(settings)
        async with sandbox, client() as http:
            sandbox.receive_events({"field": "account_update", "value": {}})
            await receiver.until(lambda: len(receiver.arrivals) == 2)
            sandbox.apply(replace(settings, ladder_speed=1e-6))
            await send(http, sandbox)
            async with asyncio.timeout(60):
                await sandbox.stop()
        assert sandbox.updates_waiting == 4


@in_a_loop
async def test_without_a_webhook_url_nothing_is_kept_for_anybody() -> None:
    async with Sandbox() as sandbox, client() as http:
        await send(http, sandbox)
        assert (sandbox.updates_waiting, sandbox.deliveries) == (0, [])
        for call in (sandbox.receive, sandbox.receive_preferences):
            with pytest.raises(UsageError, match="no webhook URL"):
                call({"from": TO, "text": "Hi"} if call == sandbox.receive else {"from": TO, "value": "stop"})


@in_a_loop
async def test_url_and_secret_can_change_while_running() -> None:
    async with Receiver() as first, Receiver() as second, Sandbox() as sandbox, client() as http:
        admin = f"{sandbox.url}/sandbox/settings"
        quick = {"ladder_speed": 0, "webhook_duplicates": 0, "webhook_gather_ms": 0}
        await send(http, sandbox)
        answer = await http.post(admin, json={"webhook_url": first.url, **quick})
        assert answer.json()["settings"]["webhook_url"] == first.url
        assert "secret" not in answer.text
        await send(http, sandbox)
        await sandbox.wait_until_quiet()
        await http.post(admin, json={"webhook_url": second.url, "app_secret": "another"})
        await send(http, sandbox)
        await sandbox.wait_until_quiet()
        assert (len(first.items()), len(second.items())) == (3, 3)
        assert all(arrival.is_signed_with("sandbox-app-secret") for arrival in first.arrivals)
        assert all(arrival.is_signed_with("another") for arrival in second.arrivals)
        assert (await http.post(admin, json={"webhook_url": None})).json()["settings"]["webhook_url"] is None
        refused = await http.post(admin, json={"webhook_url": "http://example.org/"})
        assert (refused.status_code, sandbox.settings.webhook_url) == (400, None)


@in_a_loop
async def test_what_waits_while_there_is_no_url_goes_to_the_next_one() -> None:
    async with Receiver() as first, Receiver() as second:
        settings = settings_for(first, ladder_speed=1e-6)
        async with Sandbox(settings) as sandbox, client() as http:
            sandbox.apply(replace(settings, webhook_extra_delay_seconds=0.01))
            sandbox.receive({"from": TO, "text": "Hi"})
            sandbox.apply(replace(settings, webhook_url=None))
            await send(http, sandbox)
            assert sandbox.updates_waiting == 1
            sandbox.apply(replace(settings, webhook_url=second.url))
            await sandbox.wait_until_quiet()
            assert (len(first.arrivals), len(second.items("messages"))) == (0, 1)


@in_a_loop
async def test_a_reset_forgets_what_waits() -> None:
    async with Receiver() as receiver:
        settings = settings_for(receiver)
        async with Sandbox(settings) as sandbox, client() as http:
            await send(http, sandbox)
            await sandbox.wait_until_quiet()
            sandbox.apply(replace(settings, ladder_speed=1e-6))
            await send(http, sandbox)
            seq = sandbox.last_delivery_seq
            assert (await http.post(f"{sandbox.url}/sandbox/reset")).status_code == 200
            assert (sandbox.updates_waiting, sandbox.deliveries, sandbox.last_delivery_seq) == (0, [], seq)


@in_a_loop
async def test_a_post_that_was_out_there_at_a_reset_counts_no_more() -> None:
    async with Receiver() as receiver, Sandbox(settings_for(receiver)) as sandbox, client() as http:
        receiver.holds.clear()
        await send(http, sandbox)
        await receiver.until(lambda: receiver.open_now == 1)
        sandbox.reset()
        receiver.holds.set()
        await send(http, sandbox, SENT)
        await sandbox.wait_until_quiet()
        await receiver.until(lambda: receiver.open_now == 0)
        while sandbox._deliveries._posting:
            await asyncio.sleep(0)
        assert sandbox.updates_waiting == 0
        assert [delivery.updates for delivery in sandbox.deliveries] == [1]


@in_a_loop
async def test_the_memory_of_deliveries_can_be_bounded() -> None:
    async with Receiver() as receiver:
        settings = settings_for(receiver, deliveries_keep=10, webhook_batch=1)
        async with Sandbox(settings) as sandbox, client() as http:
            for _ in range(60):
                await send(http, sandbox, SENT)
            await sandbox.wait_until_quiet()
            assert 10 <= len(sandbox.deliveries) <= 10 + 10 // 4 + 16
            assert sandbox.deliveries[-1].seq == sandbox.last_delivery_seq == 60


@in_a_loop
async def test_a_receiver_that_is_down_loses_nothing_to_that_bound() -> None:
    async with Receiver() as receiver:
        settings, port = settings_for(receiver, deliveries_keep=0, webhook_batch=1), receiver.port
    async with Sandbox(settings) as sandbox, client() as http:
        for _ in range(60):
            await send(http, sandbox, SENT)
        async with Receiver(port=port) as receiver:
            await sandbox.wait_until_quiet()
            assert len({item["id"] for item in receiver.items()}) == 60


# People


@in_a_loop
async def test_free_text_outside_the_window_fails_later_until_the_person_writes() -> None:
    clock = ScriptedClock()
    async with Receiver() as receiver:
        settings = settings_for(receiver, strict_window=True, clock=clock)
        async with Sandbox(settings) as sandbox, client() as http:

            async def outcome(sending: Awaitable[str]) -> Any:
                wamid = await sending
                await sandbox.wait_until_quiet()
                [first] = [item for item in receiver.items() if item["id"] == wamid][:1]
                return first["errors"][0]["code"] if first["status"] == "failed" else "fine"

            assert await outcome(send(http, sandbox, TO)) == 131047
            assert await outcome(send_template(http, sandbox, "hello_world", TO)) == "fine"
            sandbox.receive({"from": TO, "text": "Hi"})
            assert await outcome(send(http, sandbox, TO)) == "fine"
            assert await outcome(send(http, sandbox, "15550100124")) == 131047
            clock.at += 86_399
            assert await outcome(send(http, sandbox, TO)) == "fine"
            clock.at += 1
            assert await outcome(send(http, sandbox, TO)) == 131047
            assert {entry.verdict for entry in sandbox.ledger} == {"accepted"}


@in_a_loop
async def test_who_stopped_marketing_gets_no_marketing_template_any_more() -> None:
    templates = (SandboxTemplate(name="sale", category="MARKETING"), SandboxTemplate(name="order"))
    async with (
        Receiver() as receiver,
        Sandbox(settings_for(receiver, templates=templates)) as sandbox,
        client() as http,
    ):
        sandbox.receive_preferences({"from": READ, "value": "stop"})
        magic_off = replace(sandbox.settings, magic=False)
        sandbox.apply(magic_off)
        refused = await send_template(http, sandbox, "sale")
        fine = [await send_template(http, sandbox, "order"), await send(http, sandbox)]
        sandbox.receive_preferences({"from": READ, "value": "resume"})
        fine.append(await send_template(http, sandbox, "sale"))
        await sandbox.wait_until_quiet()
        assert [item["errors"][0]["code"] for item in receiver.items() if item["id"] == refused] == [131050]
        for wamid in fine:
            assert "sent" in receiver.statuses_of(wamid)
        assert [item["value"] for item in receiver.items("user_preferences")] == ["stop", "resume"]
        category = {item["id"]: item["pricing"]["category"] for item in receiver.items() if "pricing" in item}
        assert [category[wamid] for wamid in fine] == ["utility", "service", "marketing"]


@pytest.mark.parametrize("ending", ["9700", "9701", "9702"])
@in_a_loop
async def test_a_person_can_answer_stop_once_the_message_was_delivered(ending: str) -> None:
    """Row of opt-outs: text, button and the menu of the chat."""
    async with Receiver() as receiver:
        settings = settings_for(receiver, webhook_connections=1, ladder_speed=1000.0)
        async with Sandbox(settings) as sandbox, client() as http:
            to = f"1555010{ending}"
            wamid = await send(http, sandbox, to)
            await sandbox.wait_until_quiet()
            assert receiver.statuses_of(wamid) == ["sent", "delivered"]
            last = receiver.arrivals[-1]
            match ending:
                case "9700":
                    [message] = last.items("messages")
                    assert (message["from"], message["text"]) == (to, {"body": "STOP"})
                case "9701":
                    [message] = last.items("messages")
                    assert (message["button"]["payload"], message["context"]["id"]) == ("STOP", wamid)
                case _:
                    [preference] = last.items("user_preferences")
                    assert (preference["wa_id"], preference["value"]) == (to, "stop")


# The admin API


@in_a_loop
async def test_people_and_the_platform_speak_on_request() -> None:
    async with Receiver() as receiver, Sandbox(settings_for(receiver)) as sandbox, client() as http:
        admin = f"{sandbox.url}/sandbox"
        orders = [
            {"from": TO, "text": "Hi", "name": "Ada"},
            {"from": TO, "type": "button", "button": {"text": "Stop promotions", "payload": "STOP"}},
            {"user_id": "US.7", "type": "image", "image": {"caption": "c"}},
        ]
        answer = (await http.post(f"{admin}/inbound", json=orders)).json()
        assert (await http.post(f"{admin}/preferences", json={"from": TO, "value": "stop"})).json() == {"updates": 1}
        event = {"field": "message_template_status_update", "value": {"event": "PAUSED", "message_template_name": "a"}}
        assert (await http.post(f"{admin}/events", json=event)).json() == {"updates": 1}
        await sandbox.wait_until_quiet()
        assert [item["id"] for item in receiver.items("messages")] == answer["message_ids"]
        assert [item["type"] for item in receiver.items("messages")] == ["text", "button", "image"]
        assert len(receiver.items("user_preferences")) == 1
        assert (event["field"], event["value"]) in [pair for arrival in receiver.arrivals for pair in arrival.values()]
        deliveries = (await http.get(f"{admin}/deliveries")).json()["deliveries"]
        assert [one["kind"] for one in deliveries] == ["messages", "user_preferences", "message_template_status_update"]


@in_a_loop
async def test_deliveries_can_be_read_waited_for_and_repeated() -> None:
    async with Receiver() as receiver, Sandbox(settings_for(receiver, webhook_batch=1)) as sandbox, client() as http:
        admin = f"{sandbox.url}/sandbox/deliveries"

        async def read(query: str) -> Any:
            return (await http.get(f"{admin}{query}")).json()

        waiting = asyncio.ensure_future(read("?wait=60"))
        while not sandbox._deliveries._listening:
            await asyncio.sleep(0)
        wamid = await send(http, sandbox, SENT)
        assert [one["seq"] for one in (await waiting)["deliveries"]] == [1]
        quiet = await read("?wait=60&until=quiet")
        assert (quiet["updates_waiting"], quiet["last_seq"]) == (0, 1)
        [shown] = quiet["deliveries"]
        assert (shown["kind"], shown["attempts"], shown["last_status"], shown["state"]) == (
            "statuses",
            1,
            200,
            "delivered",
        )
        assert shown["delivered_at"] >= shown["created_at"]
        assert "body" not in shown
        [shown] = (await read("?bodies=1"))["deliveries"]
        assert wamid in shown["body"]
        replayed = (await http.post(f"{admin}/replay", json={"seq": 1, "times": 2})).json()
        assert replayed == {"replayed_as": [2, 3]}
        await sandbox.wait_until_quiet()
        assert [arrival.raw for arrival in receiver.arrivals] == [receiver.arrivals[0].raw] * 3
        assert [one["replay_of"] for one in (await read(""))["deliveries"]] == [None, 1, 1]
        assert [one["seq"] for one in (await read("?after=1&limit=1"))["deliveries"]] == [2]
        assert (await read("?kind=messages"))["deliveries"] == []
        assert "error" in await read("?after=soon")
        assert "error" in await read("?wait=1&until=dawn")
        assert (await read("?after=3&wait=0.05"))["deliveries"] == []


@in_a_loop
async def test_the_receiver_can_be_verified_as_the_platform_does() -> None:
    """Row Q5."""
    async with Receiver() as receiver:
        settings = settings_for(receiver, verify_token="a&b=c/d")
        receiver.verify_token = "a&b=c/d"
        async with Sandbox(settings) as sandbox, client() as http:
            url = f"{sandbox.url}/sandbox/webhook/verify"
            assert (await http.post(url)).json() == {"verified": True, "http_status": 200, "reason": None}
            wrong = (await http.post(url, json={"verify_token": "wrong"})).json()
            assert (wrong["verified"], wrong["http_status"]) == (False, 403)
            receiver.challenge_answer = "hello"
            other = (await http.post(url)).json()
            assert (other["verified"], other["http_status"]) == (False, 200)
            assert "challenge" in other["reason"]
            sandbox.apply(replace(settings, webhook_url="http://127.0.0.1:1/"))
            nobody = (await http.post(url)).json()
            assert (nobody["verified"], nobody["http_status"]) == (False, None)
            assert (await http.post(url, json={"verify_token": 5})).status_code == 400


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("inbound", b"nonsense"),
        ("inbound", b"{}"),
        ("inbound", b'[{"from":"15550100123","text":"Hi"},{"from":"x"}]'),
        ("preferences", b'{"from":"15550100123","value":"maybe"}'),
        ("events", b'{"field":"account_update"}'),
        ("events", b"[]"),
        ("deliveries/replay", b"{}"),
        ("deliveries/replay", b'{"seq":99}'),
        ("deliveries/replay", b'{"seq":true}'),
        ("deliveries/replay", b'{"seq":1,"times":0}'),
        ("webhook/verify", b"[]"),
        ("settings", b'{"read_share":2}'),
        ("settings", b'{"webhook_url":"http://example.org/"}'),
        ("settings", b'{"app_secret":5}'),
    ],
)
@in_a_loop
async def test_an_order_that_cannot_be_understood_sends_nothing(path: str, raw: bytes) -> None:
    async with Receiver() as receiver, Sandbox(settings_for(receiver)) as sandbox, client() as http:
        before = sandbox.settings
        answer = await http.post(f"{sandbox.url}/sandbox/{path}", content=raw)
        assert answer.status_code == 400
        assert answer.json()["error"]["hint"]
        assert (sandbox.settings, sandbox.updates_waiting, sandbox.last_delivery_seq) == (before, 0, 0)


@in_a_loop
async def test_our_own_reader_knows_the_secret_and_understands_everything_that_comes() -> None:
    """Rows Q5, Q6: both sides were written from the same page, apart from each other."""
    reader = CloudApiWebhooks(secrets=("sandbox-app-secret",), verify_token="v")
    async with Receiver() as receiver, Sandbox(settings_for(receiver, webhook_batch=4)) as sandbox, client() as http:
        for magic in MAGIC_NUMBERS:
            if magic.fault.kind in (FaultKind.LATER, FaultKind.UNTIL, FaultKind.STOP):
                await send(http, sandbox, f"658124{magic.ending}", biz_opaque_callback_data="wa1.x.1")
        sandbox.receive(
            [
                {"from": TO, "text": "Grüße", "name": "Ada"},
                {"user_id": "US.7", "text": "Hi", "username": "ada"},
                {"from": TO, "type": "interactive", "interactive": BUTTON_REPLY, "context": "wamid.A"},
                {"from": TO, "type": "reaction", "reaction": {"message_id": "wamid.A", "emoji": "👍"}},
                {"from": TO, "type": "audio"},
                {"from": TO, "type": "unsupported"},
                {"from": TO, "type": "system", "system": {"type": "user_changed_number", "wa_id": "15550100999"}},
            ]
        )
        sandbox.receive_preferences([{"from": TO, "value": "stop"}, {"from": TO, "value": "resume"}])
        paused = {"event": "PAUSED", "message_template_name": "sale", "message_template_language": "en_US"}
        sandbox.receive_events({"field": "message_template_status_update", "value": paused})
        await sandbox.wait_until_quiet()
        events = []
        for arrival in receiver.arrivals:
            assert reader.is_genuine(arrival.raw, arrival.headers["X-Hub-Signature-256"])
            assert not reader.is_genuine(arrival.raw + b" ", arrival.headers["X-Hub-Signature-256"])
            events += reader.read(arrival.raw)
        ignored = [event for event in events if isinstance(event, IgnoredEvent)]
        assert ignored == []
        statuses = [event for event in events if isinstance(event, StatusEvent)]
        assert {event.tag for event in statuses} == {"wa1.x.1"}
        assert all(event.person is not None and event.person.address for event in statuses)
        refusals = {event.refusal.code for event in statuses if event.refusal is not None}
        assert refusals == {str(magic.fault.code) for magic in MAGIC_NUMBERS if magic.fault.kind is FaultKind.LATER}
        assert len([event for event in events if isinstance(event, InboundEvent)]) == 6 + 2
        assert [event.wants for event in events if isinstance(event, PreferenceEvent)].count(False) == 2
        assert len([event for event in events if isinstance(event, NumberChangedEvent)]) == 1
        assert len([event for event in events if isinstance(event, TemplateEvent)]) == 1


# Other ways to run


def test_a_sandbox_in_a_thread_delivers_too() -> None:
    async def receive(ready: Callable[[Receiver], Awaitable[None]]) -> None:
        async with Receiver() as receiver:
            await ready(receiver)

    async def use(receiver: Receiver) -> None:
        await asyncio.to_thread(_post_in_a_thread, receiver)
        assert sorted(item["status"] for item in receiver.items()) == ["delivered", "read", "sent"]

    asyncio.run(receive(use))


def _post_in_a_thread(receiver: Receiver) -> None:
    with (
        serve_in_thread(settings_for(receiver)) as sandbox,
        httpx.Client(trust_env=False, headers=TOKEN, timeout=60) as http,
    ):
        body = {"messaging_product": "whatsapp", "to": READ, "type": "text", "text": {"body": "x"}}
        assert http.post(sandbox.messages_url, json=body).status_code == 200
        seen = http.get(f"{sandbox.url}/sandbox/deliveries?wait=60&until=quiet").json()
        assert seen["updates_waiting"] == 0
        assert {delivery.state for delivery in sandbox.deliveries} == {"delivered"}


@in_a_loop
async def test_a_process_delivers_and_ends_on_a_signal_although_its_receiver_hangs() -> None:
    async with Receiver(None) as receiver:
        command = [sys.executable, "-W", "error", "-m", "wa_cli.sandbox", "--webhook-url", receiver.url]
        command += ["--ladder-speed", "0", "--verify-token", "v", "--set", "webhook_duplicates=0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            where = json.loads(await asyncio.to_thread(process.stdout.readline))
            assert (where["webhook_url"], where["verify_token"]) == (receiver.url, "v")
            async with client() as http:
                body = {"messaging_product": "whatsapp", "to": SENT, "type": "text", "text": {"body": "x"}}
                await http.post(where["messages_url"], json=body)
            await receiver.until(lambda: len(receiver.arrivals) == 1)
            assert receiver.arrivals[0].is_signed_with(where["app_secret"])
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 60) == 0
            assert process.stderr.read() == ""
