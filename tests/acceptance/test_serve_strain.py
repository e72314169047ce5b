"""`wa serve` under strain, as a real process: many webhooks, hostile ones, and a disk that takes no more."""

from __future__ import annotations

import hmac
import http.client
import json
import re
import resource
import socket
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rig import PATIENCE_SECONDS, Household, Running, number, until
from test_disk import SmallDisk, disk, make_tight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["disk", "make_tight"]  # fixtures: a small disk, and a household on it

SECRET = "strain-app-secret"
PATH = "/api/webhooks/whatsapp/status"
NUMBER_ID = "55"


class Receiver:
    """A server that takes webhooks, and one connection to it."""

    def __init__(self, home: Household) -> None:
        env = {"WHATSAPP_APP_SECRET": SECRET, "WHATSAPP_VERIFY_TOKEN": "strain"}
        self._home = home
        self.running: Running = home.start("serve", "--port", "0", "--json", "--quiet", env=env)
        address = json.loads(self.running.wait_for_line('"url"'))
        self.address = (address["host"], address["port"])
        self.connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE_SECONDS)

    def post(self, body: bytes) -> int:
        """One signed webhook; the status of its answer."""
        self.connection.request("POST", PATH, body, {"X-Hub-Signature-256": sign(body)})
        answer = self.connection.getresponse()
        answer.read()
        return answer.status

    def wait_until_read(self) -> None:
        until(lambda: not self._home.read("SELECT 1 FROM webhook_logs WHERE status = 'waiting'"), "everything read")

    def memory_kib(self) -> int:
        """What the process holds now."""
        text = Path(f"/proc/{self.running.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", text)
        assert found is not None
        return int(found[1])

    def most_memory_kib(self) -> int:
        """The most it has ever held."""
        text = Path(f"/proc/{self.running.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", text)
        assert found is not None
        return int(found[1])


@pytest.fixture
def receive() -> Iterator[Callable[[Household], Receiver]]:
    """`receive(home)`: a server on its database, whose connection is closed with the test."""
    made: list[Receiver] = []

    def start(home: Household) -> Receiver:
        made.append(Receiver(home))
        return made[-1]

    yield start
    for receiver in made:
        receiver.connection.close()


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")


def sign(body: bytes) -> str:
    return f"sha256={hmac.digest(SECRET.encode(), body, 'sha256').hex()}"


def webhook(statuses: Iterable[dict[str, Any]]) -> bytes:
    value = {"metadata": {"phone_number_id": NUMBER_ID}, "statuses": list(statuses)}
    entry = {"id": "1", "changes": [{"field": "messages", "value": value}]}
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()


def status(name: str, word: str, *, tag: str | None = None) -> dict[str, Any]:
    return {"id": name, "status": word, "timestamp": "1793900000", "biz_opaque_callback_data": tag}


@needs_proc
def test_memory_stays_flat_under_twenty_thousand_receipts(
    home: Household, receive: Callable[[Household], Receiver]
) -> None:
    """Row S11; promise P13: of messages and of strangers, with repeats, in many bodies and in large ones."""
    home.settings |= {"RATE_LIMIT_MS": "0", "MAX_SENDS_PER_SECOND_PER_INSTANCE": "0"}
    home.queue(100)
    assert home.wa("drain").exit == 0
    posts = [(entry["wamid"], entry["tag"]) for entry in home.sandbox.accepted()]
    receiver = receive(home)

    def tell(first: int, count: int) -> None:
        """So many receipts, forty in a body: half about our messages, again and again, half about nobody's."""
        for start in range(first, first + count, 40):
            told = []
            for place in range(start, start + 40):
                word = ("sent", "delivered", "read")[place % 3]
                wamid, tag = posts[place // 6 % 100]
                told.append(status(wamid, word, tag=tag) if place % 2 else status(f"wamid.other.{place}", word))
            assert receiver.post(webhook(told)) == 200

    # SQLite keeps up to 16 MB of pages: fill them first, so that whatever grows afterwards is a leak.
    for place in range(220):
        assert receiver.post(webhook([status(f"wamid.large.{place}", "read"), {"id": "x" * 100_000}])) == 200
    tell(0, 6_000)
    receiver.wait_until_read()
    warm = receiver.memory_kib()
    tell(6_000, 20_000)
    receiver.wait_until_read()
    grown = receiver.memory_kib() - warm
    # An allocator may keep a few pages of 64 KiB more; 400 bytes left over of each receipt would be 8 MiB.
    assert grown < 8 * 1024, f"{grown} KiB more than {warm}"
    assert home.read("SELECT receipt, count(*) FROM message GROUP BY receipt") == [("read", 100)]
    assert home.read("SELECT count(*) FROM webhook_logs WHERE status <> 'done'") == [(0,)]
    home.audit().assert_sound()


@needs_proc
def test_bodies_that_are_large_deep_or_slow_take_no_memory_and_hold_nobody_up(
    home: Household, receive: Callable[[Household], Receiver]
) -> None:
    """Fault 73: 50 MB, a depth of ten thousand, ten thousand receipts, a hundred bodies that do not come."""
    receiver = receive(home)
    assert receiver.post(webhook([status("wamid.0", "read")])) == 200
    receiver.wait_until_read()
    before = receiver.memory_kib()
    slow = [socket.create_connection(receiver.address, timeout=PATIENCE_SECONDS) for _number in range(100)]
    try:
        for connection in slow:
            head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256=00\r\nContent-Length: 90000\r\n\r\n"
            connection.sendall(head.encode() + b"[" * 1000)
        for _number in range(5):
            with closing(socket.create_connection(receiver.address, timeout=PATIENCE_SECONDS)) as connection:
                head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: {sign(b'')}\r\n"
                connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
                with suppress(OSError):  # it is told to stop long before the end
                    for _part in range(800):
                        connection.sendall(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
                with suppress(OSError):
                    assert connection.recv(65_536).startswith(b"HTTP/1.1 413")
        for body in (b"[" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000, b'{"entry":[' * 10_000):
            assert receiver.post(body) == 200  # signed, so kept; unreadable, so set aside
        many = webhook(status(f"wamid.{place}", "read") for place in range(10_000))
        assert receiver.post(many) == 200
        receiver.wait_until_read()
    finally:
        for connection in slow:
            connection.close()
    grown = receiver.most_memory_kib() - before
    assert grown < 64 * 1024, f"{grown} KiB more than {before}"
    assert home.read("SELECT count(*) FROM receipt") == [(10_000,)]
    assert receiver.post(webhook([status("wamid.0", "read")])) == 200


def test_more_connections_than_files_are_refused_and_the_daemon_beside_them_goes_on(home: Household) -> None:
    """Fault 73: `wa run --serve` may open 128 files, and somebody opens 200 connections and says nothing."""
    env = {"WHATSAPP_APP_SECRET": SECRET, "WHATSAPP_VERIFY_TOKEN": "strain", "MAX_SENDS_PER_SECOND_PER_INSTANCE": "0"}
    home.queue(1)  # makes the database, whose files are open before the others come
    running = home.start(
        "run", "--serve", "--port", "0", "--json", env=env,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128)),
    )  # fmt: skip
    address = json.loads(running.wait_for_line('"url"'))
    home.wait_for_states(sent=1)
    body = webhook([status("wamid.0", "read")])
    with ExitStack() as held:
        others = [
            held.enter_context(
                closing(socket.create_connection((address["host"], address["port"]), timeout=PATIENCE_SECONDS))
            )
            for _number in range(200)
        ]
        last = others[-1].recv(4096)  # after all before it: connections are taken in turn
        assert last.startswith(b"HTTP/1.1 503")
        home.queue(60, first=1)
        home.wait_for_states(sent=61)
    with closing(http.client.HTTPConnection(address["host"], address["port"], timeout=PATIENCE_SECONDS)) as connection:

        def is_taken() -> bool:
            connection.close()  # begin anew: the others are given up one by one
            try:
                connection.request("POST", PATH, body, {"X-Hub-Signature-256": sign(body)})
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):  # closed before it was asked
                return False
            return answer.status == 200

        until(is_taken, "a webhook is taken again")
    assert "Too many open files" not in "".join(running.err)
    home.audit().assert_sound()


def test_on_a_full_disk_webhooks_are_503_and_none_that_was_taken_is_lost(
    disk: SmallDisk, make_tight: Callable[..., Household], receive: Callable[[Household], Receiver]
) -> None:
    """Fault 74; promises P1, P6: whoever was refused comes again, and then everything takes effect."""
    home = make_tight()
    message_id = home.send(number(0), "hello")
    assert home.wa("drain").exit == 0
    ((wamid, tag),) = [(entry["wamid"], entry["tag"]) for entry in home.sandbox.accepted()]
    receiver = receive(home)
    bodies = [webhook([status(f"wamid.{place}", "read")]) for place in range(12)]
    bodies.append(webhook([status(wamid, "read", tag=tag)]))
    disk.fill()
    answers = [receiver.post(body) for body in bodies]
    assert set(answers) <= {200, 503}
    assert answers[-1] == 503
    assert home.read("SELECT count(*) FROM webhook_logs") == [(answers.count(200),)]
    disk.free()
    for body, answer in zip(bodies, answers, strict=True):
        if answer == 503:
            assert receiver.post(body) == 200
    receiver.wait_until_read()
    assert {body for (body,) in home.read("SELECT body FROM webhook_logs")} == set(bodies)
    assert home.read("SELECT count(*) FROM webhook_logs") == [(len(bodies),)]
    assert home.read("SELECT count(*) FROM receipt") == [(len(bodies),)]
    assert home.wa("message", "show", message_id, "--json").json()["state"] == "read"
    home.audit().assert_sound()
