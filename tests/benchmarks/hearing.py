"""Webhooks: taking them in and reading them, against a bare loop that remembers the same."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import multiprocessing
import sqlite3
import statistics
import threading
import time
from contextlib import closing, contextmanager, nullcontext
from itertools import count
from typing import TYPE_CHECKING, Any

from tests.benchmarks.measuring import SENDER_CORE, SERVER_CORE, Figure, cpu_seconds, pin, run_apart, take_turns
from tests.benchmarks.sending import drain_once, spacing, wait_for
from tests.benchmarks.server import serving
from tests.benchmarks.world import WORDS, address, app_for, queue_messages, running, webhook_server
from wa_cli.daemon.loops import run_in_loop

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.benchmarks.measuring import Bench
    from tests.benchmarks.server import Server
    from wa_cli.bootstrap import App

SECRET = "the secret of an app"
NUMBER_ID = "106540352242922"
URL = f"https://graph.facebook.com/v25.0/{NUMBER_ID}/messages"
SENDERS = 32  # how many of Meta's posts wait for an answer at once
STATUSES = ("sent", "delivered", "read")
READ_AT_ONCE = 200
WEBHOOK_PATH = "/api/webhooks/whatsapp/status"
UPDATES_A_SECOND = 500.0
WEBHOOKS_A_SECOND = 300.0  # into the process that paces 80 messages a second
PACED_A_SECOND = 80


def send_all(app: App, count: int, *, words: str = WORDS) -> None:
    """So many messages that were accepted, written as the send loop writes them."""
    from wa_cli.domain.message import OnUnknown, State
    from wa_cli.domain.outcome import Accepted
    from wa_cli.ports import Finished, Lease, Record

    queue_messages(app, count, words=words)
    now_ms = app.clock.wall_ms() + 1000
    lease = app.leases.acquire(1, role="drain", now_ms=now_ms)
    assert isinstance(lease, Lease)
    left = count
    while left:
        with app.queue.turn() as turn:
            lanes = [lane for lane, _due in turn.lane_heads(1)]
            rows = turn.read_due(1, lanes[0], now_ms=now_ms, limit=1000)
            ids = turn.start(rows, lease=lease, now_ms=now_ms, spaced_batches=())
            records = [
                Record(
                    finished=Finished(
                        attempt_id=attempt_id,
                        message_id=row.message_id,
                        contact_id=row.contact_id,
                        address=row.address,
                        lane=row.lane,
                        outcome=Accepted(provider_message_id=_message_id(attempt_id), http_status=200),
                        latency_ms=80,
                        attempts=0,
                        refusals=0,
                        max_attempts=5,
                        on_unknown=OnUnknown.HOLD,
                    ),
                    state=State.SENT,
                    rule="accepted",
                    counted=True,
                    refusals=0,
                    due_at_ms=None,
                )
                for row, attempt_id in zip(rows, ids, strict=True)
            ]
            turn.record(records, now_ms=now_ms)
        left -= len(rows)
    app.leases.release(lease)


def _message_id(number: int) -> str:
    return f"wamid.HBgLMTU1NTAxMDAxMjMVAgARGBIwMDExMjIz{number:08d}A="


def bodies_for(install: str, messages: int, per_body: int) -> list[bytes]:
    """Every message sent, delivered and read, so many updates a body, as Meta writes them."""
    updates = [
        {
            "id": _message_id(number),
            "status": status,
            "timestamp": str(1_793_900_000 + step),
            "recipient_id": address(number - 1)[1:],  # message 1 goes to the first of them
            "biz_opaque_callback_data": f"wa1.{install}.{number}",
            "pricing": {"billable": True, "pricing_model": "PMP", "type": "regular", "category": "marketing"},
        }
        for step, status in enumerate(STATUSES)
        for number in range(1, messages + 1)
    ]
    bodies = []
    for start in range(0, len(updates), per_body):
        value = {
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": "15550783881", "phone_number_id": NUMBER_ID},
            "statuses": updates[start : start + per_body],
        }
        entry = {"id": "102290129340398", "changes": [{"field": "messages", "value": value}]}
        shape = {"object": "whatsapp_business_account", "entry": [entry]}
        bodies.append(json.dumps(shape, separators=(",", ":")).replace("/", "\\/").encode())
    return bodies


def sign(body: bytes) -> str:
    return "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()


def hear_once(path: Path, messages: int, per_body: int) -> dict[str, float]:
    """Take in and read three updates a message: seconds, processor seconds, and the longest transaction in ms."""
    with closing(app_for(path, URL, WHATSAPP_APP_SECRET=SECRET)) as app:
        send_all(app, messages)
        bodies = [(body, sign(body)) for body in bodies_for(app.database.read_install(), messages, per_body)]
        with _longest_transaction(app) as longest:
            began, cpu = time.perf_counter(), time.process_time()
            run_in_loop(_hear(app, bodies))
            took, cpu = time.perf_counter() - began, time.process_time() - cpu
        stats = app.messages.read_stats()
        if stats["read"] != messages:
            raise RuntimeError(f"{stats['read']} of {messages} messages are shown as read")
    return {"seconds": took, "cpu": cpu, "longest": longest[0]}


async def _hear(app: App, bodies: Sequence[tuple[bytes, str]]) -> None:
    from wa_cli.daemon.sending import new_writer_thread
    from wa_cli.services.webhooks import WebhookInbox

    executor = new_writer_thread()
    loop = asyncio.get_running_loop()
    reader = app.webhook_reader(app.find_instance())
    news = asyncio.Event()
    inbox = WebhookInbox(webhooks=app.webhooks, executor=executor, clock=app.clock, on_stored=news.set)
    waiting = iter(bodies)
    left = len(bodies)

    async def post() -> None:
        for body, signature in waiting:
            if not reader.is_genuine(body, signature):
                raise RuntimeError("refused")
            await inbox.accept(body, is_signed=True, provider="cloud_api")

    senders = [asyncio.create_task(post()) for _ in range(SENDERS)]
    try:
        while left:
            await news.wait()
            news.clear()
            while sums := (
                await loop.run_in_executor(executor, lambda: app.read_webhooks(limit=READ_AT_ONCE))
            ).webhooks:
                left -= sums
        await asyncio.gather(*senders)
    finally:
        executor.shutdown()


@contextmanager
def _longest_transaction(app: App) -> Iterator[list[float]]:
    """How long the file was locked for others at most, in ms."""
    longest = [0.0]
    write = app.database.write

    @contextmanager
    def timed() -> Iterator[Any]:
        with write() as connection:
            began = time.perf_counter()
            yield connection
        longest[0] = max(longest[0], (time.perf_counter() - began) * 1000)

    app.database.write = timed  # type: ignore[method-assign]
    try:
        yield longest
    finally:
        app.database.write = write  # type: ignore[method-assign]


def bare_once(path: Path, messages: int, per_body: int) -> dict[str, float]:
    """The least that remembers the same: each body inserted, parsed, and each update written to a table of two columns.

    On one thread, without an event loop; as many bodies a commit as there are senders.
    """
    bodies = [(body, sign(body)) for body in bodies_for("00000000", messages, per_body)]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE log (id INTEGER PRIMARY KEY, body BLOB)")
        connection.execute("CREATE TABLE message (id INTEGER PRIMARY KEY, receipt TEXT)")
        connection.executemany("INSERT INTO message VALUES (?, NULL)", [(n,) for n in range(1, messages + 1)])
        began, cpu = time.perf_counter(), time.process_time()
        for start in range(0, len(bodies), SENDERS):
            some = bodies[start : start + SENDERS]
            connection.execute("BEGIN IMMEDIATE")
            for body, signature in some:
                if not hmac.compare_digest(sign(body), signature):
                    raise RuntimeError("refused")
                connection.execute("INSERT INTO log (body) VALUES (?)", (body,))
            connection.execute("COMMIT")
            connection.execute("BEGIN IMMEDIATE")
            for body, _signature in some:
                for entry in json.loads(body)["entry"]:
                    for change in entry["changes"]:
                        connection.executemany(
                            "UPDATE message SET receipt = ? WHERE id = ?",
                            [
                                (one["status"], int(one["biz_opaque_callback_data"].rsplit(".", 1)[1]))
                                for one in change["value"]["statuses"]
                            ],
                        )
            connection.execute("COMMIT")
        return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}


def measure_webhooks(bench: Bench) -> Iterator[Figure]:
    """Status updates a second, taken in and read on one core."""
    messages = bench.size.drained
    longest: list[float] = []
    for per_body, words in ((1, "one a body"), (1_000, "1,000 a body")):
        cpu: dict[str, list[float]] = {"wa": [], "bare": []}

        def sample(name: str, taken: dict[str, float], cpu: dict[str, list[float]] = cpu) -> float:
            cpu[name].append(taken["cpu"] / (messages * len(STATUSES)) * 1e6)
            longest.append(taken.get("longest", 0.0))
            return messages * len(STATUSES) / taken["seconds"]

        wa, bare = take_turns(
            bench.size.repeats,
            lambda per_body=per_body: sample("wa", run_apart(hear_once, bench.new_path(), messages, per_body)),  # type: ignore[misc]
            lambda per_body=per_body: sample("bare", run_apart(bare_once, bench.new_path("bare"), messages, per_body)),  # type: ignore[misc]
        )
        yield Figure(
            name=f"webhook status updates, {words}",
            value=wa,
            unit="updates/s",
            against="bare sqlite3 and json, two columns",
            yardstick=bare,
            bar=">= 1000/s",
            note=f"kept raw before the answer, then read; processor {statistics.median(cpu['wa']):.0f} us an update",
        )
    yield Figure(
        name="longest transaction while webhooks are read",
        value=max(longest),
        unit="ms",
        bar="< 100",
        note="how long a sender beside it waits for the file at most",
    )


# --- while sending ---------------------------------------------------------------------------------------------------


def drain_beside(path: Path, url: str, before: int, count: int, *, hears: bool) -> dict[str, float]:
    """Send so many, while a real `wa serve` on the same file takes webhooks about earlier ones, or none.

    Messages a second, and the updates a second that came meanwhile.
    """
    with closing(app_for(path, url)) as app:
        send_all(app, before, words="an earlier message")
        install = app.database.read_install()
    if not hears:
        return {"rate": count / drain_once(path, url, count)["seconds"], "heard": 0.0}
    bodies = [(body, sign(body)) for body in bodies_for(install, before, 10)]
    with (
        webhook_server(path, url, WHATSAPP_APP_SECRET=SECRET) as address_of_server,
        feeding(address_of_server, bodies, rate=UPDATES_A_SECOND / 10) as answered,
    ):
        began, had = time.perf_counter(), answered[0]
        taken = drain_once(path, url, count)
        heard = (answered[0] - had) * 10 / (time.perf_counter() - began)
    return {"rate": count / taken["seconds"], "heard": heard}


@contextmanager
def feeding(server: str, bodies: Sequence[tuple[bytes, str]], *, rate: float) -> Iterator[list[int]]:
    """Post these bodies over and over from a process of its own, so many a second; how many were answered 200."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_feed, args=(theirs, server + WEBHOOK_PATH, list(bodies), rate), daemon=True)
    process.start()
    theirs.close()
    answered = [0]
    stopping = threading.Event()

    def keep_count() -> None:
        while not stopping.is_set():
            if ours.poll(0.05):
                answered[0] = ours.recv()

    counter = threading.Thread(target=keep_count)
    counter.start()
    while not answered[0]:
        time.sleep(0.01)
    try:
        yield answered
    finally:
        stopping.set()
        counter.join()
        process.kill()
        process.join()


def _feed(pipe: Any, url: str, bodies: list[tuple[bytes, str]], rate: float) -> None:
    import aiohttp

    pin(SERVER_CORE)
    numbers = count()
    answered = 0

    async def post(session: aiohttp.ClientSession, start: float) -> None:
        nonlocal answered
        for number in numbers:
            await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
            body, signature = bodies[number % len(bodies)]
            headers = {"X-Hub-Signature-256": signature, "Content-Type": "application/json"}
            async with session.post(url, data=body, headers=headers) as answer:
                answered += answer.status == 200
            pipe.send(answered)

    async def post_all() -> None:
        async with aiohttp.ClientSession() as session:
            start = time.monotonic()
            await asyncio.gather(*(post(session, start) for _ in range(SENDERS)))

    asyncio.run(post_all())


def measure_flow(bench: Bench) -> Iterator[Figure]:
    """A drain while webhooks come in on the same file, next to one without."""
    messages = bench.size.drained
    heard: list[float] = []
    with serving() as server:

        def sample(*, hears: bool) -> float:
            taken: dict[str, float] = run_apart(
                drain_beside, bench.new_path(), server.url, messages, messages, hears=hears
            )
            if hears:
                heard.append(taken["heard"])
            return taken["rate"]

        with_webhooks, without = take_turns(
            min(bench.size.repeats, 3), lambda: sample(hears=True), lambda: sample(hears=False)
        )
    yield Figure(
        name="drain with webhooks flowing",
        value=with_webhooks,
        unit="msg/s",
        against="the drain without",
        yardstick=without,
        note=f"a wa serve beside it takes {statistics.median(heard):.0f} updates/s, on the far end's core",
    )


def pace_beside(path: Path, server: Server, messages: int, *, hears: bool) -> dict[str, float]:
    """Let one `wa run --serve` send so many under a limit a second, while webhooks come into it, or none.

    (messages a second, lateness p99 in ms, core in %, webhooks answered a second).
    """
    settings = {"WHATSAPP_APP_SECRET": SECRET, "MAX_SENDS_PER_SECOND_PER_INSTANCE": str(PACED_A_SECOND)}
    with closing(app_for(path, server.url)) as app:
        send_all(app, messages, words="an earlier message")
        bodies = [(body, sign(body)) for body in bodies_for(app.database.read_install(), messages, 1)]
        server.take_arrivals()
        words = ("run", "--serve", "--port", "0")
        with running(*words, path, server.url, said_when_ready="serving on", core=SENDER_CORE, **settings) as (
            pid,
            line,
        ):
            url = line.partition("serving on ")[2].partition(",")[0]
            with feeding(url, bodies, rate=WEBHOOKS_A_SECOND) if hears else nullcontext([0]) as answered:
                began, used, had = time.perf_counter(), cpu_seconds(pid), answered[0]
                queue_messages(app, messages)
                arrivals = wait_for(server, messages, patience=3000 * messages / PACED_A_SECOND, look_seconds=0.1)
                took = time.perf_counter() - began
                core, heard = 100 * (cpu_seconds(pid) - used) / took, (answered[0] - had) / took
    rate, lateness, _most = spacing(arrivals, PACED_A_SECOND)
    return {"rate": rate, "lateness": lateness, "core": core, "heard": heard}


def measure_beside(bench: Bench) -> Iterator[Figure]:
    """A limit of 80/s in `wa run --serve` while 300 webhooks a second come into the same process."""
    messages = max(round(PACED_A_SECOND * bench.size.paced_seconds), 3)
    with serving(latency_ms=100.0, records=True) as server:
        rounds: dict[bool, list[dict[str, float]]] = {True: [], False: []}
        for _ in range(min(bench.size.repeats, 3)):
            for hears, taken in rounds.items():
                taken.append(pace_beside(bench.new_path(), server, messages, hears=hears))

    def median(name: str, *, hears: bool) -> float:
        return statistics.median(one[name] for one in rounds[hears])

    note = f"{median('heard', hears=True):.0f} webhooks/s come into the same process and are read"
    for name, unit in (("rate", "msg/s"), ("lateness", "ms"), ("core", "%")):
        words = {"rate": "delivered", "lateness": "lateness p99"}.get(name, name)
        yield Figure(
            name=f"paced {PACED_A_SECOND}/s with webhooks flowing, {words}",
            value=median(name, hears=True),
            unit=unit,
            against="the same without webhooks",
            yardstick=median(name, hears=False),
            note=note,
        )
