"""A receiver of webhooks on loopback: keeps every byte, answers as told."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One POST as it came.  at: seconds on the loop's clock."""

    raw: bytes
    headers: dict[str, str]
    path: str
    at: float

    def is_signed_with(self, secret: str) -> bool:
        expected = "sha256=" + hmac.new(secret.encode(), self.raw, hashlib.sha256).hexdigest()
        return hmac.compare_digest(expected, self.headers["X-Hub-Signature-256"])

    def values(self) -> list[tuple[str, dict[str, Any]]]:
        """(field, value) of every change of every entry."""
        shape = json.loads(self.raw)
        assert shape["object"] == "whatsapp_business_account"
        return [(change["field"], change["value"]) for entry in shape["entry"] for change in entry["changes"]]

    def items(self, kind: str) -> list[dict[str, Any]]:
        """`statuses`, `messages` or `user_preferences`, of all changes."""
        return [item for _, value in self.values() for item in value.get(kind, ())]


class Receiver:
    """`async with Receiver() as receiver:`; answers: statuses for the next POSTs (None: never answers), then 200.

    verify_token, challenge_answer: how the GET of the verification is met; the answer is the challenge unless given.
    """

    def __init__(self, *answers: int | None, port: int = 0) -> None:
        self.answers = deque(answers)
        self.arrivals: list[Arrival] = []
        self.verify_token = "sandbox-verify-token"
        self.challenge_answer: str | None = None
        self.open_now = self.open_at_most = 0
        self.holds = asyncio.Event()
        self.holds.set()
        self._port = port
        self._waiting: list[asyncio.Future[None]] = []
        self._let_go = asyncio.Event()

    async def __aenter__(self) -> Receiver:
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_go.set()
        self.holds.set()
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/hook"

    @property
    def port(self) -> int:
        return self._port

    def items(self, kind: str = "statuses") -> list[dict[str, Any]]:
        """Everything of a kind that has come, in the order in which it came."""
        return [item for arrival in self.arrivals for item in arrival.items(kind)]

    def statuses_of(self, wamid: str) -> list[str]:
        return [item["status"] for item in self.items() if item["id"] == wamid]

    async def until(self, claim: Callable[[], bool]) -> None:
        """Return once the claim holds; it is asked at each arrival."""
        while not claim():
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "GET":
            return self._answer_challenge(request)
        raw = await request.read()
        arrival = Arrival(
            raw=raw,
            headers=dict(request.headers),
            path=request.raw_path,
            at=asyncio.get_running_loop().time(),
        )
        self.arrivals.append(arrival)
        self.open_now += 1
        self.open_at_most = max(self.open_at_most, self.open_now)
        self._ring()
        try:
            await self.holds.wait()
            status = self.answers.popleft() if self.answers else 200
            if status is None:
                await self._let_go.wait()
                status = 200
        finally:
            self.open_now -= 1
        headers = {"Location": f"http://127.0.0.1:{self._port}/elsewhere"} if 300 <= status < 400 else {}
        return web.Response(status=status, headers=headers)

    def _answer_challenge(self, request: web.BaseRequest) -> web.StreamResponse:
        query = request.query
        if query["hub.mode"] != "subscribe" or query["hub.verify_token"] != self.verify_token:
            return web.Response(status=403)
        return web.Response(text=self.challenge_answer or query["hub.challenge"])

    def _ring(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()
