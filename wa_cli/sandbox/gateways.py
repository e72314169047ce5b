"""What every played gateway has in common: where it answers, and the post office for what it tells.

A gateway of linked devices speaks its own JSON under its own paths, beside the Cloud API on one port.  Its webhooks
leave one after the other for each receiver, so that they arrive in the order in which things happened.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp

from wa_cli.sandbox.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aiohttp import web

    from wa_cli.sandbox.bell import Bell
    from wa_cli.sandbox.settings import SandboxSettings


class PlayedGateway(Protocol):
    """One gateway, as the sandbox's port sees it."""

    def owns(self, path: str) -> bool:
        """Whether requests to this path are for it."""
        ...

    async def answer(self, request: web.BaseRequest, path: str, query: Mapping[str, str]) -> web.StreamResponse: ...


@dataclass(slots=True, kw_only=True)
class GatewayHook:
    """One webhook of a gateway.  waits: seconds before each further attempt.

    attempts, last_status: as far as it has come; last_status is None when there was no answer.
    """

    url: str
    body: bytes
    headers: Mapping[str, str]
    waits: Sequence[float] = ()
    attempts: int = 0
    last_status: int | None = None
    state: str = "waiting"  # then `delivered` or `given_up`

    def as_json(self) -> dict[str, Any]:
        return {
            "url": self.url,
            "state": self.state,
            "attempts": self.attempts,
            "last_status": self.last_status,
            "body": self.body.decode(),
        }


@dataclass(slots=True)
class _Line:
    """What is to be told to one address, in order."""

    hooks: deque[GatewayHook] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None


class GatewayHooks:
    """Posts the webhooks of gateways.  told: all of them, oldest first.  waiting: neither delivered nor given up."""

    def __init__(self, read_settings: Callable[[], SandboxSettings], bell: Bell) -> None:
        """bell: rung at every end of a webhook."""
        self._read_settings = read_settings
        self._bell = bell
        self._lines: dict[str, _Line] = {}
        self._session: aiohttp.ClientSession | None = None
        self.told: list[GatewayHook] = []

    @property
    def waiting(self) -> int:
        return sum(len(line.hooks) for line in self._lines.values())

    def post(self, hook: GatewayHook) -> None:
        """Send it when those before it to the same address are through.  An address off this machine is not told."""
        self.told.append(hook)
        if not self._read_settings().allow_remote and not is_loopback(_host_of(hook.url)):
            hook.state = "given_up"
            return
        line = self._lines.setdefault(hook.url, _Line())
        line.hooks.append(hook)
        if line.task is None or line.task.done():
            line.task = asyncio.get_running_loop().create_task(self._work(line))

    def clear(self) -> None:
        """Forget what was told and what waits."""
        for line in self._lines.values():
            if line.task is not None:
                line.task.cancel()
        self._lines.clear()
        self.told.clear()
        self._bell.ring()

    async def stop(self) -> None:
        tasks = [line.task for line in self._lines.values() if line.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._lines.clear()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _work(self, line: _Line) -> None:
        while line.hooks:
            hook = line.hooks[0]
            for wait in (0.0, *hook.waits):
                if wait:
                    await asyncio.sleep(wait)
                await self._try(hook)
                if hook.last_status is not None and 200 <= hook.last_status < 300:
                    hook.state = "delivered"
                    break
            else:
                hook.state = "given_up"
            line.hooks.popleft()
            self._bell.ring()

    async def _try(self, hook: GatewayHook) -> None:
        hook.attempts += 1
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, headers={"User-Agent": "wa-sandbox"}
            )
        try:
            async with self._session.post(
                hook.url,
                data=hook.body,
                headers={"Content-Type": "application/json", **hook.headers},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=self._read_settings().webhook_timeout_seconds),
            ) as answer:
                await answer.read()
                hook.last_status = answer.status
        except (aiohttp.ClientError, OSError):
            hook.last_status = None


def _host_of(url: str) -> str:
    from urllib.parse import urlsplit

    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
