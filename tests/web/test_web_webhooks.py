"""The address that webhooks come to: what is let in, that it is kept before the answer, and that it takes effect."""

from __future__ import annotations

import hmac
import json
import logging
import socket
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from door import ADA, error_of

from tests.cli.stored import send
from wa_cli.domain.outcome import Accepted
from wa_cli.web import webhooks
from wa_cli.web.reading import WEBHOOK_BYTES, Budget

if TYPE_CHECKING:
    from collections.abc import Callable

    from door import Api

PATH = "/api/webhooks/whatsapp/status"
SECRET = "wa-test-secret"
NUMBER_ID = "1122334455"
API_URL = f"https://graph.facebook.com/v25.0/{NUMBER_ID}/messages"
EMPTY = b'{"object":"whatsapp_business_account","entry":[{"id":"0","changes":[]}]}'
EMPTY_SIGNATURE = "sha256=5333c3377859add10471f50eb06463d7a1cc07032382c38e5f1a897378607a2d"


def sign(body: bytes, secret: str = SECRET) -> str:
    return f"sha256={hmac.digest(secret.encode(), body, 'sha256').hex()}"


def sent_message(api: Api) -> tuple[int, str]:
    """A message that was accepted, and the tag that its post carried."""
    (message_id,) = send(api.app, ADA, outcome=Accepted(provider_message_id="wamid.1", http_status=200))
    (attempt,) = api.app.messages.read_history(message_id).attempts
    return message_id, attempt.tag


def status(tag: str, word: str) -> dict[str, Any]:
    return {
        "id": "wamid.1",
        "status": word,
        "timestamp": str(int(time.time())),
        "recipient_id": ADA.removeprefix("+"),
        "biz_opaque_callback_data": tag,
    }


def body_of(*statuses: dict[str, Any]) -> bytes:
    """A webhook as Meta writes it."""
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550001111", "phone_number_id": NUMBER_ID},
        "statuses": list(statuses),
    }
    change = {"field": "messages", "value": value}
    return json.dumps({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [change]}]}).encode()


@pytest.fixture
def api(make_api: Callable[..., Api]) -> Api:
    """A server that has everything for webhooks."""
    return make_api(WHATSAPP_APP_SECRET=SECRET, WHATSAPP_VERIFY_TOKEN="the token", WHATSAPP_API_URL=API_URL)


def post(api: Api, body: bytes, signature: str | None = "", **headers: str) -> httpx.Response:
    """One webhook.  signature: the right one unless given; None for none."""
    if signature is not None:
        headers["X-Hub-Signature-256"] = signature or sign(body)
    return api.call("POST", PATH, key=None, content=body, headers=headers)


def kept(api: Api) -> int:
    return int(api.value("SELECT count(*) FROM webhook_logs"))


def until(claim: Callable[[], Any], *, seconds: float = 60.0) -> Any:
    ends = time.monotonic() + seconds
    while not (answer := claim()):
        assert time.monotonic() < ends, "not in time"
        time.sleep(0.01)
    return answer


# --- Meta's check of the address ---


def test_the_challenge_is_answered_in_plain_text(api: Api) -> None:
    """Row Q5."""
    query = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": "the token"}
    answer = api.call("GET", PATH, key=None, params=query)
    assert (answer.status_code, answer.text) == (200, "1158201444")
    assert answer.headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize(
    "change",
    [
        {"hub.verify_token": "another"},
        {"hub.verify_token": ""},
        {"hub.mode": "unsubscribe"},
        {"hub.challenge": "<script>"},
        {"hub.challenge": ""},
    ],
)
def test_another_check_is_403(api: Api, change: dict[str, str]) -> None:
    """Row Q5."""
    query = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": "the token", **change}
    answer = api.call("GET", PATH, key=None, params=query)
    assert (answer.status_code, error_of(answer)["code"]) == (403, "forbidden")
    assert api.call("GET", PATH, key=None).status_code == 403


# --- signatures ---


def test_a_genuine_body_is_kept_before_it_is_answered(api: Api) -> None:
    """Rows Q4, Q5; promise P1: committed with the very bytes that came."""
    answer = post(api, EMPTY, EMPTY_SIGNATURE)
    assert (answer.status_code, answer.json()) == (200, {"received": True})
    with closing(sqlite3.connect(api.app.database.path)) as connection:
        ((body, is_signed, provider),) = connection.execute("SELECT body, is_signed, provider FROM webhook_logs")
    assert (body, is_signed, provider) == (EMPTY, 1, "cloud_api")


BODY = b'{"body":"caf\\u00e9 a\\/b"}'
EMOJI = '{"body":"😀 café a/b"}'.encode()


@pytest.mark.parametrize(
    ("body", "signature", "expected"),
    [
        (BODY, "sha256=cb99155cda80020aa168f08fe5fee232c0ce4ac7f81f9fa1d973897403b20bc7", 200),
        (
            '{"body":"café a/b"}'.encode(),
            "sha256=eea97468f2130e4f60f2c4133e3924280bb7bfcf5ad126db5f42cf1c239bb215",
            200,
        ),
        (EMOJI, sign(EMOJI), 200),
        (BODY, None, 401),
        (BODY, "sha256=", 403),
        (BODY, "sha256=" + "0" * 64, 403),
        (BODY, sign(BODY)[:-1], 403),
        (BODY, sign(BODY) + "0", 403),
        (BODY, sign(BODY).upper(), 403),
        (BODY, sign(BODY).removeprefix("sha256="), 403),
        (BODY, "sha1=" + hmac.digest(SECRET.encode(), BODY, "sha1").hex(), 403),
        (BODY, "sha512=" + hmac.digest(SECRET.encode(), BODY, "sha512").hex(), 403),
        (BODY, sign(BODY, "another secret"), 403),
        (BODY, sign(BODY, ""), 403),
        (BODY, sign(EMPTY), 403),
        (BODY + b"\n", sign(BODY), 403),
        (BODY[:-1], sign(BODY), 403),
        (json.dumps(json.loads(BODY)).encode(), sign(BODY), 403),  # the same JSON, written anew
        (json.dumps(json.loads(BODY), ensure_ascii=False).encode(), sign(BODY), 403),
        (BODY, f"{sign(BODY)}, {sign(BODY)}", 403),
        (b"", sign(BODY), 403),
    ],
)
def test_only_what_our_secret_signed_is_let_in(api: Api, body: bytes, signature: str | None, expected: int) -> None:
    """Fault 71: forged, missing, truncated, of another algorithm, re-serialised."""
    answer = post(api, body, signature)
    assert answer.status_code == expected
    assert kept(api) == (1 if expected == 200 else 0)
    if expected != 200:
        assert error_of(answer)["hint"] is None  # nothing that helps a forger


def test_while_the_secret_is_changed_both_are_good(make_api: Callable[..., Api]) -> None:
    """Fault 71."""
    api = make_api(WHATSAPP_APP_SECRET="old secret,new secret")
    assert [post(api, EMPTY, sign(EMPTY, secret)).status_code for secret in ("old secret", "new secret", SECRET)] == [
        200,
        200,
        403,
    ]


# --- without a secret ---


def test_without_a_secret_everything_is_refused_and_the_log_says_what_to_set(
    make_api: Callable[..., Api], caplog: pytest.LogCaptureFixture
) -> None:
    """Row Q5."""
    api = make_api()
    with caplog.at_level(logging.WARNING, "wa.web"):
        for signature in (None, EMPTY_SIGNATURE):
            assert post(api, EMPTY, signature).status_code == 403
    assert kept(api) == 0
    (line,) = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert "WHATSAPP_APP_SECRET" in line
    assert "WA_UNSIGNED_WEBHOOKS=loopback" in line


def test_unsigned_ones_of_this_machine_are_taken_when_told_so(make_api: Callable[..., Api]) -> None:
    api = make_api(WA_UNSIGNED_WEBHOOKS="loopback")
    assert post(api, EMPTY, None).status_code == 200
    assert api.rows("SELECT is_signed FROM webhook_logs") == [(0,)]


@pytest.mark.parametrize("header", webhooks.FORWARDED)
def test_a_proxy_on_this_machine_does_not_make_its_callers_local(make_api: Callable[..., Api], header: str) -> None:
    """Fault 71: else anybody could send them."""
    api = make_api(WA_UNSIGNED_WEBHOOKS="loopback")
    assert post(api, EMPTY, None, **{header: "127.0.0.1"}).status_code == 403
    assert kept(api) == 0


def test_a_secret_makes_the_loopback_setting_void(make_api: Callable[..., Api]) -> None:
    api = make_api(WA_UNSIGNED_WEBHOOKS="loopback", WHATSAPP_APP_SECRET=SECRET)
    assert post(api, EMPTY, None).status_code == 401


# --- bounds ---


def test_a_body_over_the_cap_is_413_and_not_kept(api: Api) -> None:
    """Fault 73: 50 MB, announced or in chunks."""
    large = b"x" * (WEBHOOK_BYTES + 1)
    assert post(api, large, sign(large)).status_code == 413
    chunks = api.call(
        "POST", PATH, key=None, content=iter([b"x" * 1_000_000] * 5), headers={"X-Hub-Signature-256": EMPTY_SIGNATURE}
    )
    assert chunks.status_code == 413
    with socket.create_connection(api.server.address, timeout=60) as connection:
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: {EMPTY_SIGNATURE}\r\n"
        connection.sendall(f"{head}Content-Length: 50000000\r\n\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")
    assert kept(api) == 0


def test_a_body_that_does_not_come_is_408(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 73: slow, while others are served."""
    monkeypatch.setattr(webhooks, "WEBHOOK_SECONDS", 2.0)
    with socket.create_connection(api.server.address, timeout=60) as connection:
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: {EMPTY_SIGNATURE}\r\n"
        connection.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        assert post(api, EMPTY).status_code == 200
        assert connection.recv(65536).startswith(b"HTTP/1.1 408")


class WatchedBudget(Budget):
    """A budget that tells how much of it is spent."""

    held = 0

    def spend(self, size: int) -> None:
        super().spend(size)
        self.held += size

    def give_back(self, size: int) -> None:
        super().give_back(size)
        self.held -= size


def test_many_half_bodies_at_once_do_not_fill_the_memory(
    make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 73: whoever has no secret can send bodies, but not hold memory with them."""
    budget = WatchedBudget(1_000_000)
    monkeypatch.setattr(webhooks, "Budget", lambda: budget)
    api = make_api(WHATSAPP_APP_SECRET=SECRET)
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: {EMPTY_SIGNATURE}\r\n"
    half = f"{head}Content-Length: 2000000\r\n\r\n".encode() + b"x" * 900_000
    with socket.create_connection(api.server.address, timeout=60) as connection:
        connection.sendall(half)
        until(lambda: budget.held >= 900_000)  # before that a whole body could still win, and the half one be refused
        assert error_of(post(api, b"y" * 200_000))["code"] == "crowded"
        assert post(api, EMPTY).status_code == 200  # a usual one is let in all the same
    until(lambda: budget.held == 0)  # what was held is free again
    assert post(api, b"y" * 200_000).status_code == 200


def test_a_head_that_does_not_end_is_cut_off(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 73: the first byte of each request starts the clock, on a new connection and on one that is kept."""
    monkeypatch.setattr("wa_cli.web.server.HEAD_SECONDS", 2.0)
    for first in (b"", f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode()):
        with socket.create_connection(api.server.address, timeout=60) as connection:
            if first:
                connection.sendall(first)
                answer = b""
                while not answer.endswith(b"}}"):
                    part = connection.recv(65536)
                    assert part, answer
                    answer += part
                assert answer.startswith(b"HTTP/1.1 403")
            connection.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
            assert connection.recv(65536) == b""


def test_nonsense_that_is_signed_is_kept_and_does_not_stop_what_comes_after(api: Api) -> None:
    """Fault 75: a depth of 10,000, another object, no JSON."""
    message_id, tag = sent_message(api)
    for nonsense in (b"[" * 10_000, b'{"object":"page","entry":[]}', b"no json", b"\xff\xfe", b""):
        assert post(api, nonsense).status_code == 200
    assert post(api, body_of(status(tag, "delivered"))).status_code == 200
    until(lambda: api.app.messages.find(message_id).standing == "delivered")
    assert api.value("SELECT count(*) FROM webhook_logs WHERE status = 'waiting'") == 0


# --- what it does ---


def test_a_receipt_moves_its_message_soon_after_the_answer(api: Api) -> None:
    """Row Q4: sent, delivered, read; the queue's status shows it."""
    message_id, tag = sent_message(api)
    for word in ("sent", "delivered", "read"):
        assert post(api, body_of(status(tag, word))).status_code == 200
        until(lambda word=word: api.app.messages.find(message_id).standing == word)  # type: ignore[misc]
    stats = api.get("/api/queue/status").json()["stats"]
    assert (stats["sent"], stats["delivered"], stats["read"]) == (0, 0, 1)


def test_the_same_event_a_hundred_times_at_once_has_one_effect(api: Api) -> None:
    """Faults 69, 70: in any order, too."""
    message_id, tag = sent_message(api)
    bodies = [body_of(status(tag, word)) for word in ("read", "delivered", "sent", "read")] * 25
    with ThreadPoolExecutor(10) as pool, httpx.Client(base_url=api.server.url, trust_env=False, timeout=60) as client:

        def one(body: bytes) -> int:
            return client.post(PATH, content=body, headers={"X-Hub-Signature-256": sign(body)}).status_code

        assert set(pool.map(one, bodies)) == {200}
    until(lambda: api.value("SELECT count(*) FROM webhook_logs WHERE status = 'waiting'") == 0)
    assert kept(api) == 100
    assert api.app.messages.find(message_id).standing == "read"
    assert api.value("SELECT count(*) FROM receipt") == 3
    # Fault 72: a genuine old body, again.
    assert post(api, bodies[1]).status_code == 200
    until(lambda: api.value("SELECT count(*) FROM webhook_logs WHERE status = 'waiting'") == 0)
    assert api.app.messages.find(message_id).standing == "read"


def test_while_the_store_takes_nothing_webhooks_are_503_and_none_is_lost(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 74; promise P6: whoever sends them comes again."""
    monkeypatch.setattr(webhooks, "TROUBLE_SECONDS", 0.05)
    message_id, tag = sent_message(api)
    assert post(api, EMPTY).status_code == 200
    monkeypatch.setattr("wa_cli.store.sqlite.database.BUSY_TIMEOUT_MS", 100)
    body = body_of(status(tag, "delivered"))
    with closing(sqlite3.connect(api.app.database.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = post(api, body)
        assert (answer.status_code, error_of(answer)["code"]) == (503, "store_busy")
        assert answer.headers["Retry-After"]
        other.execute("ROLLBACK")
    assert kept(api) == 1
    assert post(api, body).status_code == 200
    until(lambda: api.app.messages.find(message_id).standing == "delivered")


def test_a_file_that_was_replaced_takes_no_webhook_and_no_message(api: Api) -> None:
    """Fault 23: what is written to a deleted file is lost, so nothing is acknowledged."""
    api.subgroup("vip", ADA)
    key = api.key()
    path = api.app.database.path
    path.rename(path.with_name("moved.db"))
    try:
        assert post(api, EMPTY).status_code == 503
        answer = api.post("/api/subgroups/vip/send", {"body": "hello"}, key=key)
        assert (answer.status_code, error_of(answer)["code"]) == (503, "storage_replaced")
    finally:
        path.with_name("moved.db").rename(path)
    assert api.value("SELECT count(*) FROM message") == 0


def test_what_was_left_of_the_last_time_is_read_at_the_start(make_api: Callable[..., Api]) -> None:
    """Fault 75: a crash after the answer."""
    settings = {"WHATSAPP_APP_SECRET": SECRET, "WHATSAPP_API_URL": API_URL}
    first = make_api(**settings)
    message_id, tag = sent_message(first)
    first.server.stop()
    first.server.join()
    with first.app.database.write() as connection:
        connection.execute(
            "INSERT INTO webhook_logs (received_at, provider, is_signed, body) VALUES (?, 'cloud_api', 1, ?)",
            (first.app.clock.wall_ms(), body_of(status(tag, "read"))),
        )
    make_api(**settings)
    until(lambda: first.app.messages.find(message_id).standing == "read")


def test_a_fault_of_ours_while_reading_stops_neither_intake_nor_later_readings(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(webhooks, "TROUBLE_SECONDS", 0.05)
    failed = threading.Event()
    read = webhooks._read_some

    def fail_once(app: Any, *, limit: int) -> Any:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("no reason")
        return read(app, limit=limit)

    monkeypatch.setattr(webhooks, "_read_some", fail_once)
    with caplog.at_level(logging.ERROR, "wa.web"):
        assert post(api, EMPTY).status_code == 200
        until(lambda: api.value("SELECT count(*) FROM webhook_logs WHERE status = 'waiting'") == 0)
    assert failed.is_set()
    assert any("a bug in wa" in record.getMessage() for record in caplog.records)


def test_a_fault_of_ours_at_the_door_is_500_so_that_the_sender_comes_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise P1."""

    def fail(*_given: object) -> None:
        raise RuntimeError("the secret is swordfish")

    monkeypatch.setattr(webhooks._Kept, "append", fail)
    answer = post(api, EMPTY)
    assert (answer.status_code, error_of(answer)["code"]) == (500, "bug")
    assert "swordfish" not in answer.text
    monkeypatch.undo()
    assert post(api, EMPTY).status_code == 200
    figures = api.get("/metrics").text
    assert f'wa_http_requests_total{{method="POST",route="{PATH}",status="500"}} 1.0' in figures


def test_old_webhooks_are_forgotten(make_api: Callable[..., Api]) -> None:
    """Row S11: the log of events does not grow for ever."""
    settings = {"WHATSAPP_APP_SECRET": SECRET, "WA_WEBHOOK_DAYS": "1"}
    first = make_api(**settings)
    first.server.stop()
    first.server.join()
    now_ms = first.app.clock.wall_ms()
    with first.app.database.write() as connection:
        for days in (3, 0):
            connection.execute(
                """INSERT INTO webhook_logs (received_at, provider, is_signed, body, status)
                VALUES (?, 'cloud_api', 1, x'00', 'done')""",
                (now_ms - days * 86_400_000,),
            )
    make_api(**settings)
    until(lambda: kept(first) == 1)
