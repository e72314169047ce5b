"""A bell that wakes everybody who waits for something to change, and nobody who comes later."""

from __future__ import annotations

import asyncio


class Bell:
    def __init__(self) -> None:
        self._listening: list[asyncio.Future[None]] = []

    def ring(self) -> None:
        listening, self._listening = self._listening, []
        for one in listening:
            if not one.done():
                one.set_result(None)

    async def wait(self) -> None:
        """Return at the next ring."""
        listening = asyncio.get_running_loop().create_future()
        self._listening.append(listening)
        await listening
