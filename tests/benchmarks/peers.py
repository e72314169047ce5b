"""Two task queues that people would take for this, posting to the same server: huey on SQLite, dramatiq on redis.

They are no dependencies of anything here: each is measured where it is installed, elsewhere its figure says how.
Fifty threads, the same body, kept connections of urllib3 (the client under requests: what a task of theirs would post
with), each queue at its defaults but for durability: huey flushes every commit, as wa does; redis keeps its data in
memory alone, which is faster than its durable mode.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
import socket
import statistics
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.benchmarks.measuring import SERVER_CORE, Figure, pin, run_apart, take_turns
from tests.benchmarks.sending import HEADERS, IN_FLIGHT, drain_once, payload
from tests.benchmarks.server import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.benchmarks.measuring import Bench

BAR = ">= 4 (the best of them)"
PATIENCE_SECONDS = 300.0


class Posting:
    """What a task does, on whichever thread: post the message of that number and read the answer."""

    def __init__(self, url: str, count: int) -> None:
        import urllib3

        self._url = url
        self._connections = urllib3.PoolManager(maxsize=IN_FLIGHT, retries=False)
        self._lock = threading.Lock()
        self._left = count
        self.done = threading.Event()

    def post(self, number: int) -> None:
        response = self._connections.request("POST", self._url, body=payload(number), headers=HEADERS)
        answer = json.loads(response.data)
        if not answer["messages"][0]["id"]:
            raise RuntimeError("not accepted")
        with self._lock:
            self._left -= 1
            if not self._left:
                self.done.set()


def _timed(posting: Posting, start: Callable[[], None]) -> dict[str, float]:
    began, cpu = time.perf_counter(), time.process_time()
    start()
    if not posting.done.wait(PATIENCE_SECONDS):
        raise RuntimeError(f"not all was posted in {PATIENCE_SECONDS:.0f} s")
    return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}


def huey_once(path: Path, url: str, count: int) -> dict[str, float]:
    """So many tasks queued in a SQLite file, then done by fifty threads of one consumer."""
    from huey import SqliteHuey

    posting = Posting(url, count)
    queue = SqliteHuey("benchmark", filename=str(path), fsync=True)

    @queue.task()
    def post(number: int) -> None:
        posting.post(number)

    for number in range(count):
        post(number)
    consumer = queue.create_consumer(workers=IN_FLIGHT, worker_type="thread", initial_delay=0.001, max_delay=0.05)
    taken = _timed(posting, consumer.start)
    consumer.stop(graceful=True)
    return taken


def dramatiq_once(port: int, url: str, count: int) -> dict[str, float]:
    """So many messages in redis, then done by fifty threads of one worker."""
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker

    logging.getLogger("dramatiq").setLevel(logging.ERROR)
    posting = Posting(url, count)
    broker = RedisBroker(host="127.0.0.1", port=port)
    broker.flush_all()
    dramatiq.set_broker(broker)

    @dramatiq.actor(broker=broker)
    def post(number: int) -> None:
        posting.post(number)

    for number in range(count):
        post.send(number)
    worker = dramatiq.Worker(broker, worker_threads=IN_FLIGHT)
    taken = _timed(posting, worker.start)
    worker.stop()
    broker.close()
    return taken


@contextmanager
def redis_server() -> Iterator[int]:
    """A redis of our own on the server's core, which writes nothing to the disk.  Yields its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    pin(SERVER_CORE, process.pid)
    try:
        give_up_at = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def find_missing() -> dict[str, str]:
    """What is not here of each peer, and how to get it."""
    missing: dict[str, str] = {}
    if importlib.util.find_spec("urllib3") is None:
        return dict.fromkeys(("huey", "dramatiq"), "`pip install urllib3`")
    if importlib.util.find_spec("huey") is None:
        missing["huey"] = "`pip install huey`"
    lacks = [name for name in ("dramatiq", "redis") if importlib.util.find_spec(name) is None]
    if lacks:
        missing["dramatiq"] = "`pip install 'dramatiq[redis]'` and redis-server"
    elif shutil.which("redis-server") is None:
        missing["dramatiq"] = "redis-server (`apt-get install redis-server`)"
    return missing


def measure_peers(bench: Bench) -> Iterator[Figure]:
    """The durable drain against huey (SQLite) and dramatiq (redis), where they are installed."""
    count, repeats = bench.size.drained, min(bench.size.repeats, 3)
    missing = find_missing()
    against = {"huey": "huey, SqliteHuey with fsync, 50 threads", "dramatiq": "dramatiq, redis in memory, 50 threads"}
    cpu: dict[str, list[float]] = {"wa": [], **{name: [] for name in against}}

    def sample(name: str, taken: dict[str, float]) -> float:
        cpu[name].append(taken["cpu"] / count * 1e6)
        return count / taken["seconds"]

    with serving() as server:

        def drain() -> float:
            return sample("wa", run_apart(drain_once, bench.new_path(), server.url, count))

        for name, words in against.items():
            peer: float | None = None
            if name in missing:
                value = drain()
            elif name == "huey":
                value, peer = take_turns(
                    repeats, drain, lambda: sample("huey", run_apart(huey_once, bench.new_path(), server.url, count))
                )
            else:
                with redis_server() as port:
                    value, peer = take_turns(
                        repeats,
                        drain,
                        lambda port=port: sample("dramatiq", run_apart(dramatiq_once, port, server.url, count)),
                    )
            used = " and ".join(f"{statistics.median(cpu[who]):.0f} us ({who})" for who in ("wa", name) if cpu[who])
            yield Figure(
                name=f"drain against {name}",
                value=value,
                unit="msg/s",
                against="" if peer is None else words,
                yardstick=peer,
                bar=BAR,
                note=f"not measured, it needs {missing[name]}" if peer is None else f"processor a message: {used}",
            )
