"""`wa serve` and `wa run --serve` as real processes: beside a daemon, in one with it, stopped, kept from starting."""

from __future__ import annotations

import json
import signal
import socket
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from rig import HELD, Household, Running, number, until

from wa_cli.web.server import GRACE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable


class Door:
    """The HTTP door of a household: a process that serves, and a key."""

    def __init__(self, home: Household, *words: str, env: dict[str, str] | None = None) -> None:
        made = home.wa("serve", "key", "add", "test", "--scope", "send", "--scope", "read", "--scope", "worker")
        assert made.exit == 0, made.err
        self.key = made.out.strip()
        self.running: Running = home.start(*(words or ("serve",)), "--port", "0", "--json", env=env)
        self.address = json.loads(self.running.wait_for_line('"url"'))

    def call(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> tuple[int, Any]:
        request = urllib.request.Request(
            self.address["url"] + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {key or self.key}"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as answer:
                text = answer.read()
            return answer.status, json.loads(text) if text.startswith((b"{", b"[")) else text.decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())


def fill(home: Household, count: int) -> None:
    assert home.wa("subgroup", "create", "vip").exit == 0
    assert home.wa("subgroup", "add", "vip", *(number(index) for index in range(count))).exit == 0


@pytest.mark.parametrize("is_one_process", [False, True])
def test_what_is_queued_over_http_leaves_by_the_daemon(home: Household, is_one_process: bool) -> None:
    """Rows R1, S1: in a process of its own, and in one with the daemon."""
    fill(home, 3)
    if is_one_process:
        door = Door(home, "run", "--serve")
        door.running.wait_for_line("sending for")
    else:
        home.daemon()
        door = Door(home)
    status, answer = door.call("POST", "/api/subgroups/vip/send", {"body": "hello", "rate_limit_delay": 0})
    assert (status, answer["queued"]) == (202, 3)
    home.acknowledged.update(message["id"] for message in answer["messages"])
    home.wait_for_states(sent=3)
    assert door.call("GET", "/api/queue/status")[1]["stats"]["sent"] == 3
    home.audit().assert_sound()


@pytest.mark.parametrize("is_one_process", [False, True])
def test_receipts_come_in_by_signed_webhooks(home: Household, is_one_process: bool) -> None:
    """Rows Q4, Q5; promise P5: read messages are shown as read, and an unknown is settled by its tag."""
    env = {"WHATSAPP_APP_SECRET": "acceptance-secret", "WHATSAPP_VERIFY_TOKEN": "acceptance-token"}
    home.settings.update(env)
    if is_one_process:
        door = Door(home, "run", "--serve")
        door.running.wait_for_line("sending for")
    else:
        home.daemon()
        door = Door(home)
    home.sandbox.set(
        webhook_url=door.address["url"] + "/api/webhooks/whatsapp/status",
        app_secret=env["WHATSAPP_APP_SECRET"],
        read_share=1.0,
        undelivered_share=0.0,
        ladder_speed=50.0,
    )
    home.sandbox.fault("reset", to=number(0))
    home.queue(4)
    until(lambda: home.read("SELECT count(*) FROM message WHERE receipt = 'read'") == [(4,)], "four read messages")
    stats = door.call("GET", "/api/queue/status")[1]["stats"]
    assert (stats["read"], stats["unknown"], stats["sent"]) == (4, 0, 0)
    home.audit().assert_sound()


@pytest.mark.parametrize("words", [("serve",), ("run", "--serve")])
@pytest.mark.parametrize("number_", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_and_leaves_nothing_behind(
    home: Household, words: tuple[str, ...], number_: signal.Signals
) -> None:
    """Row T8."""
    door = Door(home, *words)
    assert door.call("GET", "/api/queue/status")[0] == 200
    door.running.signal(number_)
    began = time.monotonic()
    ran = door.running.wait()
    assert ran.exit == 0, ran.err
    assert time.monotonic() - began < GRACE_SECONDS / 2  # it does not wait for connections that ask for nothing
    assert "Traceback" not in ran.err
    assert list(home.folder.glob("*.lock")) == []


def test_a_request_that_was_begun_is_finished_and_a_second_signal_leaves_at_once(home: Household) -> None:
    """Row T8: the body of the first request is half here when the signal comes."""
    fill(home, 1)
    door = Door(home)
    body = b'{"body": "hello"}'
    head = (
        f"POST /api/subgroups/vip/send HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {door.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    with socket.create_connection((door.address["host"], door.address["port"]), timeout=60) as connection:
        connection.sendall(head + body[:5])
        until(lambda: home.read("SELECT last_used_at FROM api_key")[0][0], "the request to be begun")
        door.running.signal(signal.SIGTERM)
        door.running.wait_for_line("finishing what is in flight")
        connection.sendall(body[5:])
        assert connection.recv(65536).startswith(b"HTTP/1.1 202")
    assert door.running.wait().exit == 0
    assert home.states() == {"queued": 1}

    stuck = home.start("serve", "--port", "0", "--json")
    address = json.loads(stuck.wait_for_line('"url"'))
    made = home.wa("serve", "key", "add", "stuck")  # one that nobody has used yet: its use shows that this was begun
    head = head.replace(door.key.encode(), made.out.strip().encode())
    with socket.create_connection((address["host"], address["port"]), timeout=60) as connection:
        connection.sendall(head + body[:5])
        until(lambda: home.read("SELECT min(last_used_at IS NOT NULL) FROM api_key") == [(1,)], "it to be begun")
        stuck.signal(signal.SIGTERM)
        stuck.wait_for_line("finishing what is in flight")
        stuck.signal(signal.SIGTERM)
        began = time.monotonic()
        assert stuck.wait().exit == 143
        assert time.monotonic() - began < GRACE_SECONDS / 2  # which it would be given otherwise


def test_a_batch_of_the_worker_is_finished_when_the_server_is_stopped(make_home: Callable[..., Household]) -> None:
    """Rows Q8, T8: what is in flight lands and is answered for, the rest stays; promise P4: no unknown."""
    home = make_home(*HELD, WA_CONCURRENCY="3")
    home.queue(6)
    door = Door(home)

    def is_shut() -> bool:
        with socket.socket() as one_more:
            return one_more.connect_ex((door.address["host"], door.address["port"])) != 0

    with ThreadPoolExecutor(1) as pool:
        called = pool.submit(door.call, "POST", "/api/queue/worker")
        home.sandbox.wait_for_posts(3)
        door.running.signal(signal.SIGTERM)
        until(is_shut, "no new connection to be taken")
        home.sandbox.answer()
        status, answer = called.result()
    assert (status, answer["sent"], answer["remaining"]) == (200, 3, 3)
    assert door.running.wait().exit == 0
    home.audit().assert_sound(open=3)
    assert home.states() == {"sent": 3, "queued": 3}
    assert home.read("SELECT owner FROM lease") == [(None,)]
    assert list(home.folder.glob("*.lock")) == []


def test_what_is_not_set_is_said_at_the_start_with_what_it_switches_off(home: Household) -> None:
    """Rows Q5, Q8."""
    running = home.start("serve", "--port", "0")
    running.wait_for_line("serving on http://127.0.0.1:")
    lines = "".join(running.err)
    for words in (
        "WHATSAPP_APP_SECRET is not set: every webhook is refused",
        "WHATSAPP_VERIFY_TOKEN is not set: Meta's check",
        "WORKER_SECRET is not set: POST /api/queue/worker",
        "no API key yet",
    ):
        assert words in lines


@pytest.mark.parametrize("flags", [(), ("--log-json",)])
def test_no_secret_and_no_whole_number_reaches_the_log_of_a_server(home: Household, flags: tuple[str, ...]) -> None:
    """Promise P11; fault 84: at its most talkative, with good calls and refused ones."""
    env = {"WHATSAPP_APP_SECRET": "canary-a", "WHATSAPP_VERIFY_TOKEN": "canary-b", "WORKER_SECRET": "canary-c"}
    door = Door(home, "serve", "--verbose", *flags, env=env)
    assert door.call("POST", "/api/messages/send", {"to": number(1), "body": "a secret word"})[0] == 202
    assert door.call("POST", "/api/queue/worker", key="canary-c")[1]["sent"] == 1
    assert door.call("POST", "/api/queue/worker", key="canary-d")[0] == 401
    assert door.call("POST", f"/api/subgroups/{number(2)}/send", {"body": "a secret word"})[0] == 404
    query = "hub.mode=subscribe&hub.challenge=1&hub.verify_token=canary-b"
    assert door.call("GET", f"/api/webhooks/whatsapp/status?{query}")[0] == 200
    door.running.signal(signal.SIGTERM)
    ran = door.running.wait()
    assert ran.exit == 0
    assert "warning" not in ran.err
    for secret in ("canary", door.key, home.sandbox.token, "secret word", number(1)[1:], number(2)[1:]):
        assert secret not in ran.err + ran.out


def test_a_taken_port_keeps_both_kinds_of_server_from_starting(home: Household) -> None:
    """Fault 90: the daemon does not start by halves."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for words in (("serve",), ("run", "--serve")):
            ran = home.wa(*words, "--port", port, "--json")
            assert (ran.exit, ran.error()["code"]) == (2, "port_taken")
    assert list(home.folder.glob("*.lock")) == []


def test_a_second_daemon_with_a_server_says_that_the_first_one_runs(home: Household) -> None:
    """Row 37: not that the port is taken."""
    door = Door(home, "run", "--serve")
    door.running.wait_for_line("sending for")
    second = home.wa("run", "--serve", "--port", str(door.address["port"]))
    assert second.exit == 0
    assert "a daemon runs already" in second.out


def test_other_machines_are_let_in_with_a_warning_only(home: Household) -> None:
    running = home.start("serve", "--host", "0.0.0.0", "--port", "0")
    running.wait_for_line("can be reached by other machines, in plain HTTP")
    running.wait_for_line("serving on")


def test_the_log_of_a_server_can_be_read_by_machines(make_home: Callable[..., Household]) -> None:
    """Fault 83; promise P11: one JSON object a line, no number in a path."""
    home = make_home()
    running = home.start("serve", "--port", "0", "--json", "--log-json")
    address = json.loads(running.wait_for_line('"url"'))
    path = "/api/nobody/%2B6581230001%0A12:00:00%20forged"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address["url"] + path, timeout=60)
    caught.value.close()
    running.wait_for_line("/api/nobody")
    running.signal(signal.SIGTERM)
    lines = [json.loads(line) for line in running.wait().err.splitlines()]
    (shown,) = [line["message"] for line in lines if "/api/nobody" in line["message"]]
    assert "6581230001" not in shown
    assert "\\n" in shown
