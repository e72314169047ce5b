"""Apps, filled queues and daemons, for the benchmarks to measure: all made through wa's own code."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.benchmarks.measuring import ROOT, SENDER_CORE, SERVER_CORE, environment, pin
from wa_cli.bootstrap import open_app
from wa_cli.config import load_settings
from wa_cli.domain.message import Text, encode_content
from wa_cli.domain.recipient import RecipientKind
from wa_cli.ports import NewMessage
from wa_cli.services.enqueue import SendOrder, enqueue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wa_cli.bootstrap import App

TOKEN: Final = "EAAbenchmark0000000000000000000000"
WORDS: Final = "Your table for two at the Harbour Kitchen is booked for this evening at half past seven. See you soon!"
DAY_MS: Final = 86_400_000
NO_LIMITS: Final = {
    "RATE_LIMIT_MS": "0",
    "MAX_SENDS_PER_MINUTE_PER_RECIPIENT": "0",
    "MAX_SENDS_PER_SECOND_PER_INSTANCE": "0",
}


def settings_for(path: Path, url: str = "", **settings: str) -> dict[str, str]:
    """The settings of a wa that sends to this URL, without limits unless they are given."""
    account = {"WHATSAPP_API_URL": url, "WHATSAPP_ACCESS_TOKEN": TOKEN} if url else {}
    return {"WA_DB": str(path), "WA_TIMEZONE": "UTC", **NO_LIMITS, **account, **settings}


def app_for(path: Path, url: str = "", **settings: str) -> App:
    return open_app(load_settings(settings_for(path, url, **settings)), create=True)


def address(number: int) -> str:
    return f"+1555{number:08d}"


def lines(count: int, *, words: str = WORDS, first: int = 0) -> Iterator[NewMessage]:
    """The same words to so many people."""
    encoded = encode_content(Text(body=words))
    for number in range(first, first + count):
        yield NewMessage(address=address(number), kind=RecipientKind.PERSON, encoded=encoded)


def queue_messages(
    app: App,
    count: int,
    *,
    start_in_ms: int = 0,
    delay_ms: int = 0,
    is_immediate: bool = False,
    words: str = WORDS,
    first: int = 0,
    instance_id: int = 1,
) -> int:
    """Queue the words for so many people through the use case.  Returns the due time of the first, in ms since 1970."""
    now_ms = time.time_ns() // 1_000_000
    order = SendOrder(
        kind="to",
        instance_id=instance_id,
        start_at_ms=now_ms + start_in_ms,
        delay_ms=delay_ms,
        is_immediate=is_immediate,
    )
    tally = enqueue(
        app.intake,
        order,
        lines(count, words=words, first=first),
        size=count,
        request_hash=b"benchmark",
        lines_are_unique=True,
        now_ms=now_ms,
    )
    if tally.queued != count:
        raise RuntimeError(f"{tally.queued} of {count} messages were queued")
    return now_ms + start_in_ms


def fill(path: Path, count: int, *, start_in_ms: int = 0, delay_ms: int = 0) -> None:
    """A database with so many messages queued."""
    with closing(app_for(path)) as app:
        queue_messages(app, count, start_in_ms=start_in_ms, delay_ms=delay_ms)


@contextmanager
def daemon(path: Path, url: str, **settings: str) -> Iterator[int]:
    """A real `wa run` on the sender's core, once it has its lease.  Yields its pid."""
    with running("run", path, url, said_when_ready="sending for", core=SENDER_CORE, **settings) as (pid, _line):
        yield pid


@contextmanager
def webhook_server(path: Path, url: str, **settings: str) -> Iterator[str]:
    """A real `wa serve` on the other core, once it takes requests.  Yields its URL."""
    words = ("serve", "--port", "0")
    with running(*words, path, url, said_when_ready="serving on", core=SERVER_CORE, **settings) as (_pid, line):
        yield line.partition("serving on ")[2].partition(",")[0]


@contextmanager
def running(*words: str | Path, said_when_ready: str, core: int | None, **settings: str) -> Iterator[tuple[int, str]]:
    """A real `wa` that stays, once it has said so.  The last two words are its database and the URL it sends to.

    Yields its pid and the line that said so.
    """
    *command, path, url = words
    process = subprocess.Popen(
        [sys.executable, "-m", "wa_cli", *map(str, command)],
        env=environment(**settings_for(Path(path), str(url), **settings)),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    pin(core, process.pid)
    try:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if said_when_ready in line:
                break
        else:
            raise RuntimeError(f"wa {command[0]} ended early: {''.join(said)}")
        # Its log lines have to go somewhere: a full pipe would stop it.
        import threading

        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield process.pid, line
    finally:
        process.terminate()
        process.wait(timeout=90)
