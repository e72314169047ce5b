"""The ladder on which a linked device comes back: what to do next about a connection, and when to look again.

                      looks only, with growing waits
    the gateway does not answer ──────────────────────> it answers: from the bottom again
    needs_qr, auth_failure ───────────────────────────> a person pairs the device

    start ── 30 s ──> soft restart ── 180 s ──> hard restart ── 180 s, 360 s ... ──> hard restart
      └───────────────────── ready at any time: off the ladder ────────────────────────────┘

Every rung counts as a restart, also the ones that a person asks for.  Only so many may fall into a window; one more
that would be wanted pauses the instance, since a device that is lost again and again needs a person (fault 65).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from wa_cli.domain.connection import NEEDS_A_PERSON, Connection, ConnectionState, RestartKind
from wa_cli.domain.retry import Stop

if TYPE_CHECKING:
    from collections.abc import Sequence

# Row H9: sending follows the state within a second, so a connection that nobody tells us about is looked at this often.
READY_LOOK_MS: Final = 800
# And one whose gateway posts its state to us.
TOLD_LOOK_MS: Final = 5_000
# How long ago a webhook may have come for its gateway to count as one that tells.
TOLD_LATELY_MS: Final = 600_000
# Row S8: back within 10 s of the gateway's return.  Of these the wait takes 4 s at most, and a look that nobody answers
# 3 s.
FIRST_LOOK_MS: Final = 500
LONGEST_LOOK_MS: Final = 4_000
LOOK_PATIENCE_SECONDS: Final = 3.0
# A device that a person has to pair; who pairs it waits for this.
PERSON_LOOK_MS: Final = 2_000
# Gateways reconnect by themselves: how long each state is left to them before the first rung.
PATIENCE_MS: Final = {
    ConnectionState.DISCONNECTED: 1_500,
    ConnectionState.CONNECTING: 60_000,
    ConnectionState.ERROR: 10_000,
    ConnectionState.AUTH_FAILURE: 1_500,  # of a gateway that says it of lesser troubles too
}
# How long a session may take to come up after it was started, before it is restarted.
START_TIMEOUT_MS: Final = 30_000
# The least time between two rungs, doubled with every restart in the window.
SHORTEST_GAP_MS: Final = 5_000
LONGEST_WAIT_MS: Final = 1_800_000
# A gateway that says READY while it refuses posts is believed later each time.
DOUBT_MS: Final = 1_000
LONGEST_DOUBT_MS: Final = 60_000

RESTARTS_CODE: Final = "too_many_restarts"


class Rung(StrEnum):
    """What brings a device back; the word under which it is remembered.  START: let the session run."""

    START = "start"
    SOFT = "soft"
    HARD = "hard"


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderTerms:
    """Row H11: how long a restart may take, and how many may fall into a window.

    kinds: of restarts that the gateway knows.  restarts_at_most: 0 leaves the device to itself.
    """

    soft_timeout_ms: int = 180_000
    hard_timeout_ms: int = 180_000
    restarts_at_most: int = 4
    window_ms: int = 600_000
    kinds: frozenset[RestartKind] = frozenset(RestartKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRestart:
    """A rung that was taken, by `wa` or by a person."""

    at_ms: int
    rung: Rung


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What came before a look.

    looks: in a row that did not find the device ready, since the last rung.  lost_since_ms: since when it is not ready.
    answered_since_ms: and since when its gateway answers, no earlier.  state_since_ms: since when it is in the very
    state of this look.
    restarts: oldest first, those of the window at least.  resumed_at_ms: when a person last lifted a pause, or None.
    is_told: the gateway posts its state to us, and did so lately.  may_act: False for an instance that is paused.
    """

    looks: int = 0
    lost_since_ms: int
    answered_since_ms: int
    state_since_ms: int
    restarts: Sequence[PastRestart] = ()
    resumed_at_ms: int | None = None
    is_told: bool = False
    may_act: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What to do now, if anything, and in how many ms to look again."""

    look_in_ms: float
    act: Rung | Stop | None = None


def choose_step(found: Connection | None, past: Past, terms: LadderTerms, *, now_ms: int, jitter: float) -> Step:
    """What follows from one look.

    found: None when the gateway did not answer: that is no reason for a restart.  jitter: 0.0 to 1.0, drawn by the
    caller; it shortens a growing wait by up to a half.
    Source: rows S8, H9, H10, H11; faults 64 and 65.
    """
    if found is not None and found.state is ConnectionState.READY:
        return Step(look_in_ms=TOLD_LOOK_MS if past.is_told else READY_LOOK_MS)
    look_in_ms = wait_for_look_ms(past.looks, jitter=jitter)
    if found is None:
        return Step(look_in_ms=look_in_ms)
    if needs_a_person(found, past):
        return Step(look_in_ms=PERSON_LOOK_MS)
    if not past.may_act or not terms.restarts_at_most:
        return Step(look_in_ms=look_in_ms)
    rung, due_at_ms = choose_rung(found.state, past, terms, now_ms=now_ms)
    if now_ms < due_at_ms:
        return Step(look_in_ms=look_in_ms)
    free_at_ms = find_free_at_ms(past.restarts, terms, now_ms=now_ms)
    if free_at_ms <= now_ms:
        return Step(look_in_ms=wait_for_look_ms(0, jitter=jitter), act=rung)
    if past.resumed_at_ms is not None and past.resumed_at_ms >= past.restarts[-1].at_ms:
        return Step(look_in_ms=look_in_ms)  # a person has said to go on: with the next one that the window has room for
    return Step(look_in_ms=look_in_ms, act=give_up(found, terms))


def needs_a_person(found: Connection, past: Past) -> bool:
    """Whether nothing but a person brings the device back (row H10).

    A failure that its gateway also reports for lesser troubles is left to one restart first.
    """
    if found.state not in NEEDS_A_PERSON:
        return False
    return not found.is_doubtful or any(one.at_ms >= past.lost_since_ms for one in past.restarts)


def wait_for_look_ms(looks: int, *, jitter: float) -> float:
    """How long to wait after so many looks in a row that did not find the device ready."""
    wait: float = min(FIRST_LOOK_MS * 2.0 ** min(looks, 10), LONGEST_LOOK_MS)
    return wait * (1.0 - jitter / 2)


def choose_rung(state: ConnectionState, past: Past, terms: LadderTerms, *, now_ms: int) -> tuple[Rung, int]:
    """The next rung, and from when on it may be taken."""
    # A gateway that comes back has another session to offer: the climb begins again.
    climbed = [one for one in past.restarts if one.at_ms >= past.answered_since_ms]
    in_window = [one for one in past.restarts if one.at_ms >= now_ms - terms.window_ms]
    last = past.restarts[-1].at_ms if past.restarts else None
    earliest_ms = 0 if last is None or not in_window else last + SHORTEST_GAP_MS * 2 ** min(len(in_window) - 1, 10)
    if not climbed:
        # Connecting is judged by all the time without a connection, however often its state changes in between.
        since_ms = past.state_since_ms if state is ConnectionState.DISCONNECTED else past.answered_since_ms
        rung = Rung.START if state is ConnectionState.DISCONNECTED else _available(Rung.SOFT, terms)
        return rung, max(earliest_ms, since_ms + PATIENCE_MS.get(state, 0))
    taken = climbed[-1]
    match taken.rung:
        case Rung.START:
            patience_ms = max(START_TIMEOUT_MS, PATIENCE_MS[state] if state is ConnectionState.CONNECTING else 0)
            rung = Rung.SOFT
        case Rung.SOFT:
            patience_ms, rung = terms.soft_timeout_ms, Rung.HARD
        case Rung.HARD:
            patience_ms, rung = terms.hard_timeout_ms, Rung.HARD
    # From the third one on each has twice as long as the one before.
    patience_ms = min(patience_ms * 2 ** min(max(len(climbed) - 3, 0), 10), max(patience_ms, LONGEST_WAIT_MS))
    return _available(rung, terms), max(earliest_ms, taken.at_ms + patience_ms)


def _available(rung: Rung, terms: LadderTerms) -> Rung:
    """The rung itself, or the nearest that the gateway has."""
    for kind in (rung.value, *(kind.value for kind in (RestartKind.SOFT, RestartKind.HARD))):
        if kind in terms.kinds:
            return Rung(kind)
    return Rung.START


def find_free_at_ms(restarts: Sequence[PastRestart], terms: LadderTerms, *, now_ms: int) -> int:
    """From when on one more restart fits into the window: now, or later.  restarts: oldest first."""
    in_window = [one.at_ms for one in restarts if one.at_ms >= now_ms - terms.window_ms]
    if len(in_window) < terms.restarts_at_most:
        return now_ms
    return in_window[-terms.restarts_at_most] + terms.window_ms + 1


def give_up(found: Connection, terms: LadderTerms) -> Stop:
    """The pause that ends a loop of restarts."""
    minutes = round(terms.window_ms / 60_000)
    said = found.reason or found.raw or found.state.value
    return Stop(
        code=RESTARTS_CODE,
        by="wa",
        reason=f"the device was restarted {terms.restarts_at_most} times in {minutes} min and is lost again: {said}",
    )


def wait_for_belief_ms(denials: int) -> int:
    """How long a device that says it is ready has to say so, after so many times that it was not."""
    return 0 if denials <= 1 else min(DOUBT_MS * 2 ** min(denials - 1, 10), LONGEST_DOUBT_MS)
