"""What becomes of an accepted message, and when: sent, delivered, read, or worse.  Drawn here, waited for elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wa_cli.sandbox.faults import FaultKind

if TYPE_CHECKING:
    import random

    from wa_cli.sandbox.faults import Fault
    from wa_cli.sandbox.settings import SandboxSettings


class Rung(NamedTuple):
    """One thing that happens to a message.

    after: seconds since its acceptance.  status: `sent`, `delivered`, `read`, `failed`; or `stop`, `stop:button`,
    `stop:preferences`, which is the person's answer.  code: why it failed.  is_priced: it says what the message costs.
    """

    after: float
    status: str
    code: int | None = None
    is_priced: bool = False


def draw_rungs(
    settings: SandboxSettings, chance: random.Random, fault: Fault | None = None, *, only_sent: bool = False
) -> list[Rung]:
    """The rungs of one message, in the order in which they happen.

    fault: only `later`, `until` and `stop` change anything.  only_sent: what a reaction comes to.
    Every message draws equally often, so that one fault does not change the fate of the messages after it.
    Source: the recipe of the platform's own times and shares, see the defaults of the settings.
    """
    where, is_read = chance.random(), chance.random() < settings.read_share
    pace = 1 / settings.ladder_speed if settings.ladder_speed else 0.0
    sent_at = _between(settings.sent_after_seconds, chance) * pace
    delivered_at = sent_at + _between(settings.delivered_after_seconds, chance) * pace
    read_at = delivered_at + _between(settings.read_after_seconds, chance) * pace
    sent, delivered = Rung(sent_at, "sent", None, True), Rung(delivered_at, "delivered", None, True)
    read = Rung(read_at, "read")
    if fault is not None:
        if fault.kind is FaultKind.LATER:
            match fault.word:
                case None:
                    return [Rung(sent_at, "failed", fault.code)]
                case "sent":
                    return [sent, Rung(delivered_at, "failed", fault.code)]
                case _:
                    return [sent, delivered, Rung(read_at, "failed", fault.code)]
        if fault.kind is FaultKind.UNTIL:
            return [sent, delivered, read][: ("none", "sent", "delivered", "read").index(fault.word or "none")]
        if fault.kind is FaultKind.STOP:
            return [sent, delivered, Rung(read_at, str(fault))]
    if only_sent or where < settings.undelivered_share:
        return [sent]
    if where < settings.undelivered_share + settings.delivered_skipped_share:
        return [sent, Rung(read_at, "read", None, True)]
    return [sent, delivered, read] if is_read else [sent, delivered]


def _between(bounds: tuple[float, float], chance: random.Random) -> float:
    least, most = bounds
    return least + (most - least) * chance.random()
