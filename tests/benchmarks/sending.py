"""Draining, pacing, waking: the send loop against bare loops on the same server."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from tests.benchmarks.measuring import Figure, cpu_seconds, percentile, run_apart, take_turns
from tests.benchmarks.server import serving
from tests.benchmarks.world import TOKEN, WORDS, address, app_for, daemon, queue_messages
from wa_cli.daemon.loops import run_in_loop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.benchmarks.measuring import Bench
    from tests.benchmarks.server import Server

IN_FLIGHT = 50
BARE = "bare aiohttp loop on uvloop"
HEADERS = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}


def payload(number: int) -> bytes:
    return json.dumps(
        {
            "messaging_product": "whatsapp",
            "recipient_type": "individual",
            "to": address(number)[1:],
            "type": "text",
            "text": {"body": WORDS},
            "biz_opaque_callback_data": f"wa1.00000000.{number}",
        }
    ).encode()


# --- drain -----------------------------------------------------------------------------------------------------------


def drain_once(path: Path, url: str, count: int, concurrency: int = IN_FLIGHT) -> dict[str, float]:
    """Queue so many, then send them with the real loop.  Seconds and processor seconds of the sending alone."""
    with closing(app_for(path, url, WA_CONCURRENCY=str(concurrency))) as app:
        queue_messages(app, count)
        return run_in_loop(_drain(app, count))


async def _drain(app: Any, count: int) -> dict[str, float]:
    from wa_cli.daemon.sending import new_writer_thread, open_sender, watch_file

    executor = new_writer_thread()
    instance = app.find_instance()
    try:
        async with open_sender(app, instance, role="drain", executor=executor) as sender:
            watcher = asyncio.create_task(watch_file(app, sender.loop, executor=executor))
            began, cpu = time.perf_counter(), time.process_time()
            await sender.loop.run(until_idle=True)
            took, cpu = time.perf_counter() - began, time.process_time() - cpu
            watcher.cancel()
            if sender.loop.sums.sent != count:
                raise RuntimeError(f"{sender.loop.sums.sent} of {count} messages were sent")
    finally:
        executor.shutdown()
    return {"seconds": took, "cpu": cpu}


def bare_once(url: str, count: int, concurrency: int = IN_FLIGHT, *, on_asyncio: bool = False) -> dict[str, float]:
    """The same posts by so many plain aiohttp coroutines that remember nothing.

    On uvloop, as wa itself; on_asyncio: on asyncio's own loop.
    """

    async def loop() -> dict[str, float]:
        import aiohttp

        numbers = iter(range(count))
        accepted = 0

        async def work(session: aiohttp.ClientSession) -> None:
            nonlocal accepted
            for number in numbers:
                async with session.post(url, data=payload(number), headers=HEADERS) as response:
                    answer = json.loads(await response.read())
                    accepted += 1 if answer["messages"][0]["id"] else 0

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:
            began, cpu = time.perf_counter(), time.process_time()
            await asyncio.gather(*(work(session) for _ in range(concurrency)))
            took, cpu = time.perf_counter() - began, time.process_time() - cpu
        if accepted != count:
            raise RuntimeError(f"{accepted} of {count} posts were accepted")
        return {"seconds": took, "cpu": cpu}

    return asyncio.run(loop()) if on_asyncio else run_in_loop(loop())


def seam_once(url: str, count: int, concurrency: int = IN_FLIGHT) -> dict[str, float]:
    """The same posts through wa's own transport, with no store behind it."""
    from wa_cli.domain.message import Text
    from wa_cli.domain.outcome import Accepted
    from wa_cli.domain.recipient import RecipientKind
    from wa_cli.ports import Post
    from wa_cli.transports.cloud_api.transport import CloudApiTransport

    async def loop() -> dict[str, float]:
        transport = CloudApiTransport(api_url=url, access_token=TOKEN, concurrency=concurrency)
        numbers = iter(range(count))
        content = Text(body=WORDS)

        async def work() -> None:
            for number in numbers:
                tag = f"wa1.00000000.{number}"
                post = Post(tag=tag, address=address(number), kind=RecipientKind.PERSON, content=content)
                outcome = await transport.send(post)
                if not isinstance(outcome, Accepted):
                    raise RuntimeError(f"not accepted: {outcome}")

        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(work() for _ in range(concurrency)))
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        await transport.close()
        return {"seconds": took, "cpu": cpu}

    return run_in_loop(loop())


def measure_drain(bench: Bench) -> Iterator[Figure]:
    """Messages a second with every start and outcome on the disk, 50 in flight."""
    count = bench.size.drained
    cpu: dict[str, list[float]] = {"wa": [], "bare": [], "asyncio": [], "seam": []}
    with serving() as server:

        def sample(name: str, taken: dict[str, float]) -> float:
            cpu[name].append(taken["cpu"] / count * 1e6)
            return count / taken["seconds"]

        wa, bare, on_asyncio, seam = take_turns(
            bench.size.repeats,
            lambda: sample("wa", run_apart(drain_once, bench.new_path(), server.url, count)),
            lambda: sample("bare", run_apart(bare_once, server.url, count)),
            lambda: sample("asyncio", run_apart(bare_once, server.url, count, on_asyncio=True)),
            lambda: sample("seam", run_apart(seam_once, server.url, count)),
        )
    used = {name: statistics.median(values) for name, values in cpu.items()}
    yield Figure(
        name="drain, 50 in flight",
        value=wa,
        unit="msg/s",
        against=BARE,
        yardstick=bare,
        bar=">= 0.75",
        note="every start and outcome on the disk, synchronous=FULL",
    )
    yield Figure(
        name="drain, 50 in flight, against asyncio's loop",
        value=wa,
        unit="msg/s",
        against="bare aiohttp loop without uvloop",
        yardstick=on_asyncio,
    )
    yield Figure(
        name="transport alone, 50 in flight",
        value=seam,
        unit="msg/s",
        against=BARE,
        yardstick=bare,
        note=f"no store; processor {used['seam']:.0f} us a post",
    )
    yield Figure(
        name="drain, processor a message",
        value=used["wa"],
        unit="us",
        against=BARE,
        yardstick=used["bare"],
        note="steadier than the rate when the machine has other work",
    )


# --- paced -----------------------------------------------------------------------------------------------------------


def paced_once(path: Path, server: Server, count: int, rate: int) -> tuple[float, list[tuple[str, int]]]:
    """Queue so many, then let a real daemon send them under a limit a second.  (core in %, arrivals)."""
    with closing(app_for(path)) as app:
        queue_messages(app, count)
    with daemon(path, server.url, MAX_SENDS_PER_SECOND_PER_INSTANCE=str(rate)) as pid:
        began, used = time.monotonic(), cpu_seconds(pid)
        arrivals = wait_for(server, count, patience=3000 * count / rate, look_seconds=0.1)
        return 100 * (cpu_seconds(pid) - used) / (time.monotonic() - began), arrivals


def bare_paced_once(url: str, count: int, rate: int) -> dict[str, float]:
    """The same rate from a plain aiohttp loop on an absolute schedule."""

    async def loop() -> dict[str, float]:
        import aiohttp

        async def post(session: aiohttp.ClientSession, number: int) -> None:
            async with session.post(url, data=payload(number), headers=HEADERS) as response:
                json.loads(await response.read())

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=256)) as session:
            loop = asyncio.get_running_loop()
            tasks = []
            began, cpu = time.perf_counter(), time.process_time()
            start = loop.time()
            for number in range(count):
                due = start + number / rate
                if due > loop.time():
                    await asyncio.sleep(due - loop.time())
                tasks.append(asyncio.create_task(post(session, number)))
            await asyncio.gather(*tasks)
            return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}

    return run_in_loop(loop())


def spacing(arrivals: list[tuple[str, int]], rate: int) -> tuple[float, float, float]:
    """(delivered a second, lateness p99 in ms, the most in any window of a second).

    Lateness is taken against the straight line through the run itself, from the earliest post seen from it; the
    first second (of a short run, the first third), in which connections are opened and slots grow, is left out.
    """
    times = [at_ns / 1e6 for _tag, at_ns in arrivals]
    times.sort()
    most = start = 0
    for end, at in enumerate(times):
        while times[start] <= at - 1000.0:
            start += 1
        most = max(most, end - start + 1)
    settled_at = times[0] + min(1000.0, (times[-1] - times[0]) / 3)
    settled = [at for at in times if at >= settled_at]
    if len(settled) < 3:
        return float(rate), 0.0, float(most)
    each = (settled[-1] - settled[0]) / (len(settled) - 1)
    beside = [at - index * each for index, at in enumerate(settled)]
    earliest = min(beside)
    return 1000.0 / each, percentile([at - earliest for at in beside], 0.99), float(most)


def measure_paced(bench: Bench) -> Iterator[Figure]:
    """A limit of 1000/s and of 80/s with 100 ms of latency: delivered, core, lateness."""
    with serving(latency_ms=100.0, records=True) as server:
        for rate, core_bar in ((1000, "< 45 %"), (80, "< 8 %")):
            # The slower one takes longer, or opening its connections would be a good part of what it is said to cost.
            count = max(round(rate * bench.size.paced_seconds * (1 if rate == 1000 else 4)), 3)
            rounds: dict[str, list[tuple[float, float, float, float]]] = {"wa": [], "bare": []}
            for _ in range(min(bench.size.repeats, 2)):
                for name in rounds:
                    server.take_arrivals()
                    if name == "wa":
                        core, arrivals = paced_once(bench.new_path(), server, count, rate)
                    else:
                        taken = run_apart(bare_paced_once, server.url, count, rate)
                        core, arrivals = 100 * taken["cpu"] / taken["seconds"], server.take_arrivals()
                    rounds[name].append((core, *spacing(arrivals, rate)))
            wa = [statistics.median(values) for values in zip(*rounds["wa"], strict=True)]
            bare = [statistics.median(values) for values in zip(*rounds["bare"], strict=True)]
            most = max(one[3] for one in rounds["wa"])
            against = "bare aiohttp on uvloop, absolute schedule"
            yield Figure(
                name=f"paced {rate}/s, delivered",
                value=wa[1],
                unit="msg/s",
                against=against,
                yardstick=bare[1],
                bar=f"{rate}/s" if rate == 1000 else "",
                note=f"never more than {most:.0f} in a moving second",
            )
            yield Figure(
                name=f"paced {rate}/s, core",
                value=wa[0],
                unit="%",
                against=against,
                yardstick=bare[0],
                bar=core_bar,
                note="a real wa run with its log lines",
            )
            yield Figure(
                name=f"paced {rate}/s, lateness p99",
                value=wa[2],
                unit="ms",
                against=against,
                yardstick=bare[2],
                bar="< 10 ms" if rate == 1000 else "",
            )


# --- lateness --------------------------------------------------------------------------------------------------------


def measure_lateness(bench: Bench) -> Iterator[Figure]:
    """A progressive delay under the real daemon: how late each start is, and its first byte at the server."""
    path = bench.new_path()
    with serving(records=True) as server, closing(app_for(path)) as app:
        install = app.database.read_install()
        with daemon(path, server.url):
            queue_messages(app, 1, is_immediate=True)
            wait_for(server, 1)  # the connection is open
            for delay_ms, count, words in (
                (2000, bench.size.spaced, "every two seconds"),
                (13, bench.size.spaced * 100, "every 13 ms"),
            ):
                queue_messages(app, count, start_in_ms=300, delay_ms=delay_ms, words=words)
                arrivals = dict(wait_for(server, count, patience=300 + count * delay_ms))
                with app.database.read() as connection:
                    rows = connection.execute(
                        """SELECT attempt.id, attempt.started_at, message.scheduled_at FROM attempt
                        JOIN message ON message.id = attempt.message_id ORDER BY attempt.id DESC LIMIT ?""",
                        (count,),
                    ).fetchall()
                started = [started_at - due_at for _id, started_at, due_at in rows]
                first_byte = [arrivals[f"wa1.{install}.{number}"] / 1e6 - due_at for number, _at, due_at in rows]
                spacing = "2 s" if delay_ms == 2000 else f"{delay_ms} ms"
                yield Figure(
                    name=f"delay of {spacing}: start, lateness p99",
                    value=percentile(started, 0.99),
                    unit="ms",
                    bar="< 15 ms" if delay_ms == 2000 else "",
                    note=f"p50 {percentile(started, 0.5):.1f}, most {max(started):.1f}, {count} messages",
                )
                yield Figure(
                    name=f"delay of {spacing}: first byte, lateness p99",
                    value=percentile(first_byte, 0.99),
                    unit="ms",
                    note=f"p50 {percentile(first_byte, 0.5):.1f}, most {max(first_byte):.1f}",
                )


def wait_for(server: Server, count: int, *, patience: float = 0.0, look_seconds: float = 0.02) -> list[tuple[str, int]]:
    """The next so many arrivals.  patience: ms that they may take beside 20 s."""
    arrivals: list[tuple[str, int]] = []
    give_up_at = time.monotonic() + 120 + patience / 1000
    while len(arrivals) < count:
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"{len(arrivals)} of {count} posts arrived")
        time.sleep(look_seconds)
        arrivals += server.take_arrivals()
    return arrivals


# --- waking ----------------------------------------------------------------------------------------------------------


def measure_wake(bench: Bench) -> Iterator[Figure]:
    """An enqueue in this process, a daemon that sleeps in another: the way to the first byte of the post."""
    path = bench.new_path()
    waits: list[float] = []
    with serving(records=True) as server, closing(app_for(path)) as app, daemon(path, server.url):
        queue_messages(app, 1, is_immediate=True)
        wait_for(server, 1)
        for number in range(bench.size.wakes):
            time.sleep(0.05 + (number * 7 % 30) / 1000)  # fall on every phase of the daemon's look
            began_ns = time.time_ns()
            queue_messages(app, 1, is_immediate=True, words=f"number {number}")
            [(_tag, at_ns)] = wait_for(server, 1)
            waits.append((at_ns - began_ns) / 1e6)
    yield Figure(
        name="enqueue to first byte, daemon idle, p99",
        value=percentile(waits, 0.99),
        unit="ms",
        bar="< 100 ms",
        note=f"p50 {percentile(waits, 0.5):.1f}, {len(waits)} messages, the enqueue's own commit included",
    )
