"""`GET /r/TOKEN`: from a short link to where it leads, with the click counted.

A forged token is told from a good one before the store is asked.  Where a link leads is read on a connection of its
own, which waits for no writer.  Counting comes after the answer: whatever becomes of it, the redirect was given.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote

from starlette.responses import HTMLResponse, Response

from wa_cli.domain.click import AGAIN_MS, Click, judge_fetch
from wa_cli.domain.link import PATH, may_lead_to, read_token
from wa_cli.errors import StorageError, Temporary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request

    from wa_cli.bootstrap import App
    from wa_cli.web.store import StoreThread

log = logging.getLogger("wa.web")

T = TypeVar("T")

ROUTE: Final = PATH + "{token}"
# What is sent along with every answer here: the page it leads to does not learn the token, and nobody keeps a copy.
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}
PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>No such link</title>
<body style="font-family: sans-serif; margin: 2em"><h1>No such link</h1>
<p>It may have been cut off. Please open it again from the message that it came in.</p></body></html>
"""
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
PURPOSES: Final = ("purpose", "sec-purpose", "x-purpose", "x-moz")

# In memory while the store is busy: minutes of a large campaign's clicks, in a few megabytes.
MOST_WAITING: Final = 10_000
CLICKS_A_COMMIT: Final = 500
TROUBLE_SECONDS: Final = 2.0
HINT_SECONDS: Final = 60.0
# An address that was erased is forgotten here as soon.
URL_SECONDS: Final = 60.0
URLS_REMEMBERED: Final = 10_000


class ClickDoor:
    """Answers short links for one server.  Made on its event loop.  lost: clicks that could not be written down."""

    def __init__(self, store: StoreThread, *, most_waiting: int = MOST_WAITING) -> None:
        """most_waiting: clicks in memory that are not in the store yet."""
        self._store = store
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wa-web-links")
        self._looking: App | None = None
        self._key: bytes | None = None
        self._key_turn = asyncio.Lock()
        self._urls: dict[tuple[int, int], tuple[float, str]] = {}
        self._most_waiting = most_waiting
        self._waiting: deque[Click] = deque()
        self._noted: dict[tuple[int, int, int, str], int] = {}
        self._recording: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._hinted_at = float("-inf")
        self.lost = 0

    async def follow(self, request: Request, token: str) -> Response:
        """The way to where the token leads, or the page that says that it leads nowhere.

        Raises: Temporary and StorageError when the store cannot say it.
        """
        found = await self._read_token(token)
        url = await self._find_url(found[0], found[2]) if found is not None else None
        if found is None or url is None or not may_lead_to(url):
            return HTMLResponse(PAGE, status_code=404, headers={**HEADERS, "Content-Security-Policy": POLICY})
        if request.method == "GET":
            self._note(request, *found)
        return Response(status_code=302, headers={**HEADERS, "Location": quote(url, safe="%/:=&?~#+!$,;'@()*[]")})

    async def close(self) -> None:
        """Write down what waits, if the store takes it now."""
        self._closing.set()
        if self._recording is not None:
            await asyncio.wait([self._recording])
        await asyncio.get_running_loop().run_in_executor(self._executor, self._close_reader)
        self._executor.shutdown(wait=True)

    # --- where it leads ---

    async def _read_token(self, token: str) -> tuple[int, int, int] | None:
        if self._key is None:
            async with self._key_turn:
                if self._key is None:
                    self._key = await self._look(lambda app: app.links.find_key())
        return read_token(self._key, token) if self._key is not None else None

    async def _find_url(self, plan_id: int, number: int) -> str | None:
        now = time.monotonic()
        known = self._urls.get((plan_id, number))
        if known is not None and now < known[0]:
            return known[1]
        url = await self._look(lambda app: app.links.find_url(plan_id, number))
        if len(self._urls) >= URLS_REMEMBERED:
            self._urls.clear()
        if url is None:
            self._urls.pop((plan_id, number), None)
        else:
            self._urls[plan_id, number] = now + URL_SECONDS, url
        return url

    async def _look(self, find: Callable[[App], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._run, find)

    def _run(self, find: Callable[[App], T]) -> T:
        if self._looking is None:
            self._looking = self._store.app.open_beside()
        return find(self._looking)

    def _close_reader(self) -> None:
        if self._looking is not None:
            self._looking.database.close()

    # --- who came ---

    def _note(self, request: Request, plan_id: int, contact_id: int, number: int) -> None:
        kind, agent = judge_fetch(
            request.headers.get("user-agent"), [request.headers[name] for name in PURPOSES if name in request.headers]
        )
        now_ms = self._store.app.clock.wall_ms()
        key = plan_id, contact_id, number, kind.value
        if abs(now_ms - self._noted.get(key, -AGAIN_MS)) < AGAIN_MS:
            return  # the store would count it once, too; but nobody's tapping shall crowd out others
        if len(self._waiting) >= self._most_waiting:
            self._lose(1, "too many wait for the store")
            return
        if len(self._noted) >= self._most_waiting:
            self._noted.clear()
        self._noted[key] = now_ms
        self._waiting.append(
            Click(plan_id=plan_id, contact_id=contact_id, number=number, at_ms=now_ms, kind=kind, agent=agent)
        )
        if self._recording is None or self._recording.done():
            self._recording = asyncio.create_task(self._record(), name="record-clicks")

    async def _record(self) -> None:
        """Write down what waits, one commit after the other, until nothing does."""
        while self._waiting:
            some = [self._waiting.popleft() for _one in range(min(len(self._waiting), CLICKS_A_COMMIT))]
            try:
                await self._store.run(partial(_record_some, clicks=some))
            except (Temporary, StorageError) as error:
                self._waiting.extendleft(reversed(some))
                if self._closing.is_set():
                    self._hinted_at = float("-inf")  # the last word
                    self._lose(len(self._waiting), error.message)
                    self._waiting.clear()
                    return
                self._hint(f"clicks wait to be counted, {len(self._waiting)} so far: {error.message}")
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), TROUBLE_SECONDS)
            except Exception:  # whatever it is, those behind them must be counted
                log.exception("a bug in wa, at the counting of clicks")
                self._lose(len(some), "a bug in wa")

    def _lose(self, count: int, reason: str) -> None:
        self.lost += count
        self._hint(f"clicks were not counted, {self.lost} so far, though everybody came to where they wanted: {reason}")

    def _hint(self, words: str) -> None:
        """A line about what is wrong, once a minute; the metrics have the number."""
        now = time.monotonic()
        if now - self._hinted_at >= HINT_SECONDS:
            self._hinted_at = now
            log.warning("%s", words)


def _record_some(app: App, *, clicks: Sequence[Click]) -> int:
    return app.links.record(clicks)
