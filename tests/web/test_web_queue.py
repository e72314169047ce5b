"""The queue from outside: its numbers, its health, and one batch of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from door import ADA, BEN, EVA, error_of

from tests.cli.stored import ACCEPTED, UNREADABLE, enqueue, finish, send, start_all, take_lease
from tests.ledger import Ledger
from wa_cli.domain.outcome import ErrorClass, Rejected
from wa_cli.sandbox.runner import serve_in_thread
from wa_cli.sandbox.settings import SandboxSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx
    from door import Api

    from wa_cli.sandbox.server import Sandbox

DEAD = Rejected(error_class=ErrorClass.DEAD_RECIPIENT, code="131026", details="undeliverable", http_status=400)


# --- numbers ---


def test_the_stats_count_every_message_once_and_the_campaign_how_far_it_came(api: Api) -> None:
    """Rows Q6, Q7, T7; promise P13."""
    send(api.app, ADA, outcome=ACCEPTED)
    send(api.app, BEN, outcome=DEAD)
    send(api.app, EVA, outcome=UNREADABLE)
    enqueue(api.app, ADA, BEN, text="later", in_ms=3_600_000)
    with api.app.database.write() as connection:
        connection.execute("UPDATE batch SET campaign = 'summer'")
        connection.execute("UPDATE message SET receipt = 'read' WHERE state = 'sent'")
    document = api.get("/api/queue/status?campaignId=summer").json()
    assert document["stats"] == {
        "pending": 2, "processing": 0, "sent": 0, "delivered": 0, "read": 1, "failed": 1, "unknown": 1, "skipped": 0,
        "expired": 0, "cancelled": 0,
    }  # fmt: skip
    campaign = document["campaign"]
    assert (campaign["id"], campaign["total"], campaign["progress"]) == ("summer", 5, 60)
    assert (campaign["sent"], campaign["delivered"], campaign["read"], campaign["failed"]) == (1, 1, 1, 1)
    assert document["avgSendRate"] == "0.1 msg/sec"  # three posts in the last minute
    assert document["throttling"]["activeRateLimits"] == 3
    assert document["queue"] == {"waiting": 2}
    assert api.get("/api/queue/status").json()["campaign"] is None


def test_a_campaign_from_a_file_shows_its_whole_audience_and_who_answered(api: Api) -> None:
    """Issue 5, point 8; rows Q6, Q7, S4; promise P13: the keys of the source system, and what it had no keys for."""
    ledger = Ledger(api.app.database, name="gala", now_ms=api.app.clock.wall_ms())
    ledger.start_run()
    batch = ledger.add_batch()
    for address, state, receipt in ((ADA, "sent", "read"), (BEN, "sent", "delivered"), (EVA, "failed", None)):
        ledger.add(address, batch, state, receipt)
    ledger.add("+6581230009", batch)
    ledger.leave_out("+6581230010", "opted_out")
    ledger.leave_out(None, "invalid", "row 3")
    ledger.write_back(ADA, at=ledger.now_ms)
    ledger.opt_out(ADA, at=ledger.now_ms)
    ledger.click(ADA, at=ledger.now_ms)
    ledger.click(BEN, at=ledger.now_ms)
    document = api.get("/api/queue/status?campaignId=gala").json()
    assert document["campaign"] == {
        "id": "gala", "name": "gala", "state": "running", "progress": 83, "total": 6, "pending": 1, "sent": 2,
        "delivered": 2, "read": 1, "failed": 1, "failedCount": 1, "replied": 1, "optedOut": 1, "clicked": 2,
        "clickedCount": 2, "unknown": 0, "skipped": 2, "expired": 0, "cancelled": 0,
    }  # fmt: skip
    assert sum(document["stats"].values()) == 6
    assert (document["stats"]["pending"], document["stats"]["skipped"]) == (1, 2)


def test_messages_from_http_are_counted_with_the_campaign_whose_name_they_bear(api: Api) -> None:
    """Rows Q2, Q6, Q7: beside the runs of one from a file, and alone."""
    for name in ("gala", "summer"):
        words = {"text": {"body": f"welcome to {name}"}}
        asked = {"campaignId": name, "recipients": [ADA, BEN], "payload": words, "rate_limit_delay": 0}
        assert api.post("/api/campaigns/send", asked).status_code == 202
    ledger = Ledger(api.app.database, name="gala", now_ms=api.app.clock.wall_ms())
    ledger.start_run()
    ledger.add(EVA, ledger.add_batch(), "sent", "read")
    lease = take_lease(api.app)
    finish(api.app, start_all(api.app, lease), ACCEPTED)
    ledger.write_back(ADA, at=api.app.clock.wall_ms())
    both = api.get("/api/queue/status?campaignId=gala").json()["campaign"]
    assert (both["state"], both["total"], both["sent"], both["read"], both["replied"]) == ("running", 3, 3, 1, 1)
    alone = api.get("/api/queue/status?campaignId=summer").json()["campaign"]
    assert (alone["state"], alone["total"], alone["sent"], alone["replied"]) == (None, 2, 2, 1)
    assert (alone["optedOut"], alone["clicked"]) == (0, 0)
    missing = api.get("/api/queue/status?campaignId=winter")
    assert (missing.status_code, error_of(missing)["code"]) == (404, "no_campaign")


def test_what_a_dead_sender_left_is_unknown_and_not_processing(api: Api) -> None:
    """Promise P3: no number lies."""
    enqueue(api.app, ADA)
    start_all(api.app, take_lease(api.app))
    api.app.owner.close()
    stats = api.get("/api/queue/status").json()["stats"]
    assert (stats["processing"], stats["unknown"]) == (0, 1)


# --- health ---


def account(**more: str) -> dict[str, str]:
    return {
        "WHATSAPP_API_URL": "https://graph.facebook.com/v25.0/1122334455/messages",
        "WHATSAPP_ACCESS_TOKEN": "EAAtoken",
        **more,
    }


def test_health_needs_no_key_and_has_the_keys_of_the_source_system(make_api: Callable[..., Api]) -> None:
    """Row S10."""
    api = make_api(**account())
    enqueue(api.app, ADA, in_ms=3_600_000)
    answer = api.call("GET", "/health/whatsapp", key=None)
    document = answer.json()
    assert (answer.status_code, document["healthy"], document["state"]) == (200, True, "READY")
    assert document["metrics"].keys() == {"queueLength", "cacheSize", "conversationStates", "rateLimitTracking"}
    assert document["metrics"]["queueLength"] == 1
    assert document["uptime"] > 0


def test_it_is_not_healthy_when_messages_are_due_and_nobody_sends(make_api: Callable[..., Api]) -> None:
    """Row S10."""
    api = make_api(**account())
    enqueue(api.app, ADA, in_ms=-1000)
    assert api.get("/health/whatsapp").json()["healthy"] is False
    lease = take_lease(api.app, role="daemon")
    assert api.get("/health/whatsapp").json()["healthy"] is True
    api.app.leases.release(lease)
    api.app.instances.pause(1, reason="for lunch", now_ms=1)
    assert api.get("/health/whatsapp").json()["state"] == "PAUSED"


def test_it_is_not_healthy_without_an_account(api: Api) -> None:
    document = api.get("/health/whatsapp").json()
    assert (document["healthy"], document["state"]) == (False, "NO_ACCOUNT")


def test_people_who_wrote_within_a_day_are_the_conversation_states(make_api: Callable[..., Api]) -> None:
    """Row S10."""
    api = make_api(**account())
    enqueue(api.app, ADA, BEN)
    now_ms = api.app.clock.wall_ms()
    with api.app.database.write() as connection:
        connection.execute(
            "INSERT INTO conversation (instance_id, contact_id, last_inbound_at) VALUES (1, 1, ?), (1, 2, ?)",
            (now_ms - 1000, now_ms - 90_000_000),
        )
    assert api.get("/health/whatsapp").json()["metrics"]["conversationStates"] == 1


def test_an_instance_shows_its_state_its_counters_and_its_limits(make_api: Callable[..., Api]) -> None:
    """Row H12: by name and by id."""
    api = make_api(**account(MAX_SENDS_PER_MINUTE_PER_INSTANCE="6", MAX_SENDS_PER_HOUR_PER_INSTANCE="60"))
    send(api.app, ADA, outcome=ACCEPTED)
    send(api.app, BEN, outcome=DEAD)
    enqueue(api.app, EVA)
    document = api.get("/instances/default/status").json()
    assert (document["name"], document["state"], document["queueDepth"]) == ("default", "READY", 1)
    assert document["counters"] == {
        "sent24h": 1, "sent1h": 1, "failures1h": 1, "disconnects1h": 0, "started1m": 2,
    }  # fmt: skip
    assert document["rateLimits"]["perMinute"] == {"limit": 6, "used": 2, "remaining": 4}
    assert document["rateLimits"]["perHour"] == {"limit": 60, "used": 2, "remaining": 58}
    assert document["reconnection"] == {
        "isReconnecting": False, "nextAttemptAt": None, "reason": None, "attempts": 0, "restartsUsed": 0,
        "restartsAllowed": 4, "windowMinutes": 10, "nextRestart": None, "nextRestartAt": None,
    }  # fmt: skip
    assert (document["connection"], document["address"]) == (None, None)
    assert document["nextAllowedSendAt"]
    origin = "MAX_SENDS_PER_MINUTE_PER_INSTANCE"
    assert {"limit": "per_minute", "value": 6, "origin": origin, "used": 2, "left": 4} in document["limits"]
    assert api.get("/instances/1/status").json()["name"] == "default"
    missing = api.get("/instances/nobody/status")
    assert (missing.status_code, error_of(missing)["code"]) == (404, "no_instance")


# --- metrics ---


def read_metrics(api: Api) -> dict[str, float]:
    answer = api.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = [line for line in answer.text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _blank, value in (line.rpartition(" ") for line in lines)}


def test_metrics_count_what_has_happened_since_the_server_began(make_api: Callable[..., Api]) -> None:
    """Row S10: queue by state, oldest due, lateness, latency, outcomes by code, receipts, unknowns, limits left."""
    api = make_api(**account(MAX_SENDS_PER_MINUTE_PER_INSTANCE="6", MAX_NEW_PEOPLE_PER_DAY_PER_INSTANCE="250"))
    send(api.app, ADA, outcome=ACCEPTED, text="before it looked")
    before = read_metrics(api)
    assert before['wa_messages{instance="default",state="sent"}'] == 1
    assert not any(name.startswith("wa_attempts_total") for name in before)
    send(api.app, ADA, outcome=ACCEPTED)
    send(api.app, BEN, outcome=DEAD)
    send(api.app, EVA, outcome=UNREADABLE)
    enqueue(api.app, ADA, text="overdue", in_ms=-5000)
    with api.app.database.write() as connection:
        connection.execute(
            """INSERT INTO receipt (attempt_id, status, provider_message_id, at, received_at, rule)
            VALUES (2, 'delivered', 'wamid.1', 1, 1, 'moved')"""
        )
    after = read_metrics(api)
    left = 'wa_limit_left{instance="default",limit="new_people_per_day"}'
    while after[left] != 247:  # what costs a scan is remembered for a while, the longer the slower this machine is
        after = read_metrics(api)
    assert after['wa_attempts_total{code="",outcome="accepted"}'] == 1
    assert after['wa_attempts_total{code="131026",outcome="rejected"}'] == 1
    assert after["wa_post_latency_seconds_count"] == 3
    assert after["wa_lateness_seconds_count"] == 1
    assert after['wa_receipts_total{status="delivered"}'] == 1
    assert after['wa_messages{instance="default",state="queued"}'] == 1
    assert after['wa_unknown_messages{instance="default"}'] == 1
    assert after['wa_oldest_due_seconds{instance="default"}'] >= 5
    assert after['wa_instance_state{instance="default",state="ready"}'] == 1
    assert after['wa_instance_state{instance="default",state="paused"}'] == 0
    assert after['wa_instance_has_sender{instance="default"}'] == 0
    assert after["wa_webhooks_waiting"] == 0
    assert after['wa_http_requests_total{method="GET",route="/metrics",status="200"}'] >= 1
    assert read_metrics(api)["wa_post_latency_seconds_count"] == 3  # nothing is counted twice


def test_a_limit_shows_what_it_lets_out_yet(make_api: Callable[..., Api]) -> None:
    """Row S10."""
    api = make_api(**account(MAX_SENDS_PER_MINUTE_PER_INSTANCE="6", MAX_SENDS_PER_SECOND_PER_INSTANCE="0"))
    for address in (ADA, BEN, EVA):
        send(api.app, address, outcome=ACCEPTED)
    figures = read_metrics(api)
    assert figures['wa_limit_left{instance="default",limit="per_minute"}'] == 3
    assert 'wa_limit_left{instance="default",limit="per_second"}' not in figures


def test_a_post_on_its_way_is_counted_when_it_has_an_outcome(make_api: Callable[..., Api]) -> None:
    api = make_api(**account())
    read_metrics(api)
    enqueue(api.app, ADA)
    lease = take_lease(api.app)
    started = start_all(api.app, lease)
    assert not any(name.startswith("wa_attempts_total") for name in read_metrics(api))
    finish(api.app, started, ACCEPTED)
    assert read_metrics(api)['wa_attempts_total{code="",outcome="accepted"}'] == 1


def test_metrics_hold_no_number_and_no_text(make_api: Callable[..., Api]) -> None:
    """Promise P11."""
    api = make_api(**account())
    send(api.app, ADA, outcome=DEAD, text="a secret word")
    api.get(f"/api/{ADA}")
    text = api.get("/metrics").text
    assert ADA.removeprefix("+") not in text
    assert "secret" not in text


# --- the worker ---


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with serve_in_thread(SandboxSettings(port=0, pair_seconds=0.0)) as running:
        yield running


@pytest.fixture
def sending(make_api: Callable[..., Api], sandbox: Sandbox) -> Api:
    """A server whose account is the sandbox."""
    return make_api(
        WHATSAPP_API_URL=sandbox.messages_url,
        WHATSAPP_ACCESS_TOKEN=sandbox.settings.token,
        WORKER_SECRET="worker secret xyz",
        MAX_SENDS_PER_SECOND_PER_INSTANCE="0",
    )


def work(api: Api, **options: Any) -> httpx.Response:
    return api.post("/api/queue/worker", **options)


def test_the_worker_sends_one_batch_of_fifteen(sending: Api) -> None:
    """Rows Q1, Q8."""
    enqueue(sending.app, *[f"+65812{number:05d}" for number in range(20)])
    first = work(sending, key="worker secret xyz")
    assert first.status_code == 200
    document = first.json()
    assert (document["success"], document["processed"], document["sent"], document["remaining"]) == (True, 15, 15, 5)
    second = work(sending, key=sending.key("cron", "worker")).json()
    assert (second["sent"], second["remaining"], second["next_due_at"]) == (5, 0, None)
    assert work(sending).json()["message"] == "0 processed"
    assert sending.rows("SELECT DISTINCT state FROM message") == [("sent",)]


def test_the_secret_of_the_worker_opens_nothing_else(sending: Api) -> None:
    """Row Q8."""
    assert work(sending, key="worker secret xy").status_code == 401
    assert sending.get("/api/queue/status", key="worker secret xyz").status_code == 401
    assert work(sending, key=sending.key("reader", "read")).status_code == 403


def test_without_a_secret_an_empty_key_is_no_key(api: Api) -> None:
    assert api.call("POST", "/api/queue/worker", key=None, headers={"Authorization": "Bearer"}).status_code == 401


def test_while_somebody_else_sends_the_worker_says_so_and_all_is_well(sending: Api) -> None:
    """Row H4: cron calls are safe at any overlap."""
    enqueue(sending.app, ADA)
    lease = take_lease(sending.app, role="daemon")
    answer = work(sending)
    assert (answer.status_code, answer.json()["is_sending_elsewhere"]) == (200, True)
    assert answer.json()["message"].startswith("a daemon with pid")
    sending.app.leases.release(lease)
    assert work(sending).json()["sent"] == 1


def test_the_worker_takes_what_is_due_and_leaves_the_rest(sending: Api) -> None:
    """Row Q1: with a limit of the caller's, too."""
    enqueue(sending.app, ADA, BEN)
    enqueue(sending.app, EVA, in_ms=3_600_000)
    assert work(sending, params={"limit": 1}).json()["sent"] == 1
    document = work(sending).json()
    assert (document["sent"], document["remaining"]) == (1, 1)
    assert document["next_due_at"] is not None


def test_the_worker_without_an_account_says_what_is_missing(api: Api) -> None:
    answer = work(api)
    assert (answer.status_code, error_of(answer)["code"]) == (400, "no_account")
    missing = work(api, params={"instance": "nobody"})
    assert (missing.status_code, error_of(missing)["code"]) == (404, "no_instance")


def test_a_whatsapp_that_cannot_be_reached_is_503(make_api: Callable[..., Api]) -> None:
    api = make_api(WHATSAPP_API_URL="http://127.0.0.1:9/v25.0/1/messages", WHATSAPP_ACCESS_TOKEN="EAAtoken")
    enqueue(api.app, ADA)
    answer = work(api)
    assert (answer.status_code, error_of(answer)["code"]) == (503, "unreachable")
    assert api.value("SELECT state FROM message") == "queued"
