"""What a message does after its post: one decision, from the outcome and the policy alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

from wa_cli.domain.connection import ConnectionState, Restriction, RestrictionScope
from wa_cli.domain.message import OnUnknown, State
from wa_cli.domain.outcome import Accepted, Ambiguous, ErrorClass, NotSent, Outcome, Rejected

# Row T5: minutes after the first, second ... failed attempt; the last step repeats when more attempts are allowed.
LADDER_SECONDS: Final = (60.0, 300.0, 900.0, 1800.0, 3600.0)
PAIR_CAP_SECONDS: Final = 3600.0
THROTTLE_SECONDS: Final = 1.5
HOURS_SECONDS: Final = 3600.0


class RetryKind(StrEnum):
    LADDER = "ladder"
    EXPONENTIAL = "exponential"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a failed attempt is made again.

    base_seconds and cap_seconds shape the exponential kind (rows S7, H8: 5 s doubling to 120 s).
    resend_unknown_seconds: how long `--on-unknown resend` waits for evidence first.
    """

    kind: RetryKind = RetryKind.LADDER
    base_seconds: float = 5.0
    cap_seconds: float = 120.0
    resend_unknown_seconds: float = 900.0

    def wait_seconds(self, attempts: int, *, jitter: float) -> float:
        """The wait after the given number of counted attempts (from 1).

        jitter: 0.0 to 1.0, drawn by the caller; it lengthens an exponential wait by up to a tenth.
        """
        if self.kind is RetryKind.LADDER:
            return LADDER_SECONDS[min(attempts, len(LADDER_SECONDS)) - 1]
        wait: float = self.base_seconds * 2 ** min(attempts - 1, 30)
        return min(wait, self.cap_seconds) * (1.0 + 0.1 * jitter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """The instance rests: nothing leaves for so many seconds.  slow: and goes on at half the pace."""

    seconds: float
    reason: str
    slow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """The instance is paused until a person resumes it.  by: `platform`, or `wa` for a doubt of our own."""

    code: str
    reason: str
    by: str = "platform"


@dataclass(frozen=True, slots=True, kw_only=True)
class Down:
    """The linked device is not connected: nothing leaves until it is ready again.  raw: the gateway's own word."""

    state: ConnectionState
    reason: str
    raw: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restrict:
    """The platform holds the number back: the messages in its scope wait for its end."""

    restriction: Restriction


Effect = Rest | Stop | Down | Restrict


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Where a message goes after a post.

    rule: the name of the rule, for `wa message explain`.  wait_seconds: until it is due again, for QUEUED only.
    counted: whether the attempt counts towards the maximum.  refusals: rate refusals in a row so far.
    """

    state: State
    rule: str
    counted: bool = True
    wait_seconds: float = 0.0
    refusals: int = 0
    effect: Effect | None = None


ACCEPTED: Final = Verdict(state=State.SENT, rule="accepted")


def judge(
    outcome: Outcome,
    *,
    attempts: int,
    refusals: int,
    max_attempts: int,
    on_unknown: OnUnknown,
    policy: RetryPolicy,
    jitter: float,
) -> Verdict:
    """The verdict on one post.

    attempts: counted ones before this post (from 0).  refusals: rate refusals in a row before it.
    jitter: 0.0 to 1.0, drawn by the caller.
    Source: `cloud-api` error classes; rows T5, S7, Q3, H8.
    """
    match outcome:
        case Accepted():
            return ACCEPTED
        case NotSent():
            return Verdict(state=State.QUEUED, rule="not_sent", counted=False, refusals=refusals)
        case Ambiguous():
            if on_unknown is OnUnknown.SKIP:
                return Verdict(state=State.SKIPPED, rule="unknown_skipped")
            return Verdict(state=State.UNKNOWN, rule="outcome_unknown")
        case Rejected():
            return _judge_rejected(
                outcome,
                attempts=attempts + 1,
                refusals=refusals,
                max_attempts=max_attempts,
                policy=policy,
                jitter=jitter,
            )
        case _:
            assert_never(outcome)


def restriction_of(outcome: Rejected) -> Restriction:
    """What a refusal of the class RESTRICTED says; where it says no more, strangers wait for a person."""
    return outcome.restriction or Restriction(
        code=outcome.code, reason=outcome.details, scope=RestrictionScope.NEW_PEOPLE
    )


def _judge_rejected(
    outcome: Rejected, *, attempts: int, refusals: int, max_attempts: int, policy: RetryPolicy, jitter: float
) -> Verdict:
    limit = min(max_attempts, outcome.max_attempts or max_attempts)
    match outcome.error_class:
        case ErrorClass.RETRY:
            if attempts >= limit:
                return Verdict(state=State.FAILED, rule="out_of_attempts")
            wait = max(policy.wait_seconds(attempts, jitter=jitter), outcome.wait_seconds or 0.0)
            return Verdict(state=State.QUEUED, rule="retry", wait_seconds=wait)
        case ErrorClass.HOURS:
            if attempts >= limit:
                return Verdict(state=State.FAILED, rule="out_of_attempts")
            return Verdict(state=State.QUEUED, rule="hours", wait_seconds=outcome.wait_seconds or HOURS_SECONDS)
        case ErrorClass.THROTTLE:
            seconds = outcome.wait_seconds or THROTTLE_SECONDS * (1.0 + jitter / 3)
            return Verdict(
                state=State.QUEUED,
                rule="throttled",
                counted=False,
                refusals=refusals,
                effect=Rest(seconds=seconds, reason=f"{outcome.code} {outcome.details}", slow=True),
            )
        case ErrorClass.PAIR:
            wait = max(4.0 ** min(refusals, 10), outcome.wait_seconds or 0.0)
            return Verdict(
                state=State.QUEUED,
                rule="pair_limit",
                counted=False,
                wait_seconds=min(wait, PAIR_CAP_SECONDS),
                refusals=refusals + 1,
            )
        case ErrorClass.STOP:
            return Verdict(
                state=State.QUEUED,
                rule="instance_stopped",
                counted=False,
                refusals=refusals,
                effect=Stop(code=outcome.code, reason=outcome.details),
            )
        case ErrorClass.NOT_READY:
            state = outcome.connection or ConnectionState.DISCONNECTED
            return Verdict(
                state=State.QUEUED,
                rule="not_ready",
                counted=False,
                refusals=refusals,
                effect=Down(state=state, reason=outcome.details, raw=outcome.code),
            )
        case ErrorClass.RESTRICTED:
            return Verdict(
                state=State.QUEUED,
                rule="restricted",
                counted=False,
                refusals=refusals,
                effect=Restrict(restriction=restriction_of(outcome)),
            )
        case ErrorClass.DEAD_RECIPIENT | ErrorClass.DEAD_MESSAGE:
            return Verdict(state=State.FAILED, rule="permanent")
        case _:
            assert_never(outcome.error_class)
