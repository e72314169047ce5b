"""When a campaign pauses itself: its stop rules, judged on what has become of its messages."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wa_cli.domain.campaign import StopRules


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """What a run has come to so far.  accepted: messages that WhatsApp took and did not fail later.

    failed: refused for good, at once or later.  opted_out: people who left after the run had written to them.
    """

    accepted: int = 0
    failed: int = 0
    opted_out: int = 0

    def since(self, earlier: Outcomes) -> Outcomes:
        """What has come after an earlier look; what has changed its mind since then counts as nothing."""
        return Outcomes(
            accepted=max(self.accepted - earlier.accepted, 0),
            failed=max(self.failed - earlier.failed, 0),
            opted_out=max(self.opted_out - earlier.opted_out, 0),
        )

    def encode(self) -> str:
        return json.dumps(asdict(self))


def decode_outcomes(text: str | None) -> Outcomes:
    return Outcomes(**json.loads(text)) if text else Outcomes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """Why a campaign has to pause.  code: a word for programs."""

    code: str
    reason: str


def judge_outcomes(rules: StopRules, outcomes: Outcomes, *, is_canary: bool = False) -> Stopped | None:
    """The rule that is broken, or None.

    is_canary: of a sample that is complete: it counts however small it is.
    """
    known = outcomes.accepted + outcomes.failed
    if not known or (known < rules.after and not is_canary):
        return None
    if rules.failure_rate is not None and outcomes.failed / known > rules.failure_rate:
        return Stopped(
            code="failure_rate",
            reason=f"{outcomes.failed:,} of {known:,} failed, more than {show_rate(rules.failure_rate)}",
        )
    if (
        rules.opt_out_rate is not None
        and outcomes.accepted
        and outcomes.opted_out / outcomes.accepted > rules.opt_out_rate
    ):
        return Stopped(
            code="opt_out_rate",
            reason=f"{outcomes.opted_out:,} of {outcomes.accepted:,} people opted out, more than"
            f" {show_rate(rules.opt_out_rate)}",
        )
    return None


def show_rate(rate: float) -> str:
    return f"{rate * 100:g} %"
