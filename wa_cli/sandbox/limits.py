"""The limits that the platform really measures: posts a second for a number, and the pace towards one person."""

from __future__ import annotations

from collections import deque


class ThroughputWindow:
    """At most `limit` posts in any second, judged over a sliding window.  0 lifts the limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._admitted: deque[float] = deque()

    def admit(self, now: float) -> bool:
        """Whether a post at `now` (seconds) fits; it is counted only if it does."""
        if not self.limit:
            return True
        admitted = self._admitted
        while admitted and admitted[0] <= now - 1.0:
            admitted.popleft()
        if len(admitted) >= self.limit:
            return False
        admitted.append(now)
        return True


class PairLimit:
    """One message per `seconds` to a person, with a burst that is paid back in silence.

    Within `seconds` of the first message of a burst up to `burst` may follow; after that nothing until
    every one of them has had its `seconds`: 20 at once mean two minutes of silence at 6 s.  burst 1 is the
    bare pace.  seconds 0 lifts it.
    """

    _SWEEP_AT_LEAST = 4096

    def __init__(self, seconds: float, burst: int) -> None:
        self.seconds = seconds
        self.burst = burst
        self._pairs: dict[tuple[str, str], tuple[float, int, float]] = {}
        self._sweep_at = self._SWEEP_AT_LEAST

    def may_send(self, pair: tuple[str, str], now: float) -> bool:
        """Whether a message at `now` (seconds) fits.  pair: (phone number id, recipient).  Counts nothing."""
        held = self._pairs.get(pair)
        if held is None or not self.seconds:
            return True
        burst_began_at, count, paid_back_at = held
        return now >= paid_back_at or (now < burst_began_at + self.seconds and count < self.burst)

    def charge(self, pair: tuple[str, str], now: float) -> None:
        """Count a message that was accepted at `now`."""
        if not self.seconds:
            return
        held = self._pairs.get(pair)
        if held is None or now >= held[2]:
            self._pairs[pair] = (now, 1, now + self.seconds)
            if len(self._pairs) >= self._sweep_at:
                self._sweep(now)
        else:
            self._pairs[pair] = (held[0], held[1] + 1, held[2] + self.seconds)

    def _sweep(self, now: float) -> None:
        self._pairs = {pair: held for pair, held in self._pairs.items() if held[2] > now}
        # Twice what is still owed: each sweep is then paid for by as many new people.
        self._sweep_at = max(self._SWEEP_AT_LEAST, 2 * len(self._pairs))
