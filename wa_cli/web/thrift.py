"""Answers that cost a scan are remembered for a while: the longer one took, the longer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

T = TypeVar("T")

# At most this share of the store's time goes into one question, however often it is asked.
SHARE: Final = 0.05
MOST: Final = 200


class Thrift:
    """A memory for the thread of the store.  What cost a millisecond holds for twenty, what cost a second for 20 s."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._known: dict[Hashable, tuple[float, object]] = {}

    def ask(self, question: Hashable, find: Callable[[], T]) -> T:
        """The answer, from memory while that is good.  An error is not remembered."""
        began = self._now()
        known = self._known.get(question)
        if known is not None and began < known[0]:
            return known[1]  # type: ignore[return-value]  # of the same question
        answer = find()
        ended = self._now()
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[question] = ended + (ended - began) / SHARE, answer
        return answer
