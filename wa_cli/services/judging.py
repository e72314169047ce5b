"""What the outcomes of posts mean for messages and for the instance: states, waits, rests, pauses, a slower pace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wa_cli.domain.message import State
from wa_cli.domain.outcome import Accepted, Ambiguous, NotSent, Rejected
from wa_cli.domain.pacing import Breaker
from wa_cli.domain.restriction import put_off_until_ms
from wa_cli.domain.retry import ACCEPTED, Rest, Restrict, judge
from wa_cli.ports import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wa_cli.domain.retry import Effect, RetryPolicy, Verdict
    from wa_cli.ports import Clock, Finished
    from wa_cli.services.pace import Pace


class Judge:
    """Judges the posts of one instance and remembers how they went, for its breaker and its pace."""

    def __init__(self, *, policy: RetryPolicy, clock: Clock, jitter: Callable[[], float], pace: Pace) -> None:
        self._policy = policy
        self._clock = clock
        self._jitter = jitter
        self._pace = pace
        self._judged: dict[int, tuple[Verdict, Sequence[Effect]]] = {}
        self._slowed_at = float("-inf")
        self._opened_at = float("-inf")  # when the breaker last asked for a rest
        self.breaker = Breaker()

    def judge(self, finished: Sequence[Finished], *, now_ms: int) -> tuple[list[Record], list[Effect]]:
        """What is to be recorded of each, and what befalls the instance.

        A post whose outcome the store would not take comes by again: until `forget` its verdict stays the same, and
        nothing is counted twice; waits begin anew.
        """
        records: list[Record] = []
        effects: list[Effect] = []
        for one in finished:
            judged = self._judged.get(one.attempt_id)
            if judged is None:
                judged = self._judged[one.attempt_id] = self._judge_one(one)
            verdict, its_effects = judged
            due_at_ms = None
            if verdict is not ACCEPTED:
                effects += its_effects
                if verdict.state is State.QUEUED:
                    due_at_ms = now_ms + round(verdict.wait_seconds * 1000)
                if isinstance(verdict.effect, Restrict):
                    due_at_ms = put_off_until_ms(verdict.effect.restriction, now_ms=now_ms)
                if verdict.rule == "pair_limit":
                    now = self._clock.steady_ms()
                    self._pace.note_limited(now + verdict.wait_seconds * 1000, now=now)
            records.append(
                Record(
                    finished=one,
                    state=verdict.state,
                    rule=verdict.rule,
                    counted=verdict.counted,
                    refusals=verdict.refusals,
                    due_at_ms=due_at_ms,
                )
            )
        return records, effects

    def forget(self) -> None:
        """The verdicts are on the disk: nobody will ask about these posts again."""
        self._judged.clear()

    def _judge_one(self, one: Finished) -> tuple[Verdict, Sequence[Effect]]:
        outcome = one.outcome
        if isinstance(outcome, Accepted):  # nearly all of them
            self.breaker.note_answer()
            self._pace.windows.recover()
            return ACCEPTED, ()
        verdict = judge(
            outcome,
            attempts=one.attempts,
            refusals=one.refusals,
            max_attempts=one.max_attempts,
            on_unknown=one.on_unknown,
            policy=self._policy,
            jitter=self._jitter(),
        )
        effects = [verdict.effect] if verdict.effect else []
        if isinstance(verdict.effect, Rest) and verdict.effect.slow:
            now = self._clock.steady_ms()
            if now - one.latency_ms > self._slowed_at:  # those that were under way by then say nothing new
                self._slowed_at = now
                self._pace.windows.slow_down()
        rest = self._feel(outcome, latency_ms=one.latency_ms)
        if rest:
            effects.append(rest)
        return verdict, effects

    def _feel(self, outcome: Rejected | NotSent | Ambiguous, *, latency_ms: int) -> Rest | None:
        """Tell the breaker of a post that was not accepted; the rest it asks for, if any."""
        if isinstance(outcome, Rejected):
            self.breaker.note_answer()
            return None
        now = self._clock.steady_ms()
        if self.breaker.is_probing and now - latency_ms <= self._opened_at:
            return None  # it was under way when the breaker opened: the same trouble, and no longer rest for it
        if isinstance(outcome, NotSent):
            rest_ms = self.breaker.note_not_sent(outcome.details)
        else:
            rest_ms = self.breaker.note_unreadable(outcome.details)
        if rest_ms <= 0.0:
            return None
        self._opened_at = now
        return Rest(seconds=rest_ms / 1000, reason=self.breaker.reason or outcome.details)
