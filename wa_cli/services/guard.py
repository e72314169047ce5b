"""Upkeep for the numbers themselves: one whose posts are taken and never acknowledged is paused, and says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from wa_cli.domain.retry import Stop
from wa_cli.domain.truth import JUDGED_AT_MOST, NORMAL_DELAY_MS, find_silence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wa_cli.domain.truth import Silence, Taken
    from wa_cli.ports import Instance, Instances
    from wa_cli.provider import Capabilities

# Older posts say nothing of the present.
LOOK_BACK_MS: Final = 24 * 3_600_000
CODE: Final = "no_receipts"


class Posts(Protocol):
    """What is known of the posts of a number."""

    def read_taken(self, instance_id: int, *, since_ms: int, settled_ms: int, limit: int) -> Sequence[Taken]:
        """Its last posts since then that were taken, newest first: so many before and after the settled moment."""
        ...

    def has_receipts(self, instance_id: int) -> bool:
        """Whether any receipt has ever come for it."""
        ...


def look_after_numbers(
    instances: Instances,
    posts: Posts,
    *,
    capabilities_of: Callable[[Instance], Capabilities | None],
    describe_time: Callable[[int], str],
    now_ms: int,
) -> list[str]:
    """Pause each number that WhatsApp has been silent about.  Returns their names.

    capabilities_of: of its provider, None where it cannot be used.  All webhooks that have come must have been read.
    Source: fault 66.
    """
    paused: list[str] = []
    for instance in instances.list_all():
        if instance.paused_at_ms is not None:
            continue
        capabilities = capabilities_of(instance)
        if capabilities is None or not _hears(instance, capabilities, posts):
            continue
        since_ms = max(now_ms - LOOK_BACK_MS, instance.webhooks_since_ms or 0)
        resumed = instances.read_events(instance.id, since_ms=since_ms, kind="resumed")
        since_ms = max([since_ms, *(event.at_ms for event in resumed)])  # a person has looked at what came before
        settled_ms = now_ms - NORMAL_DELAY_MS
        taken = posts.read_taken(instance.id, since_ms=since_ms, settled_ms=settled_ms, limit=JUDGED_AT_MOST)
        silence = find_silence(taken, now_ms=now_ms)
        if silence is None or not (capabilities.is_linked_device or _is_reached(instance, silence)):
            continue
        reason = describe_silence(silence, instance, describe_time)
        instances.stop(instance.id, Stop(code=CODE, reason=reason, by="wa"), now_ms=now_ms)
        paused.append(instance.name)
    return paused


def describe_silence(silence: Silence, instance: Instance, describe_time: Callable[[int], str]) -> str:
    """What a person reads who finds the number paused."""
    acknowledged = f"only {silence.acknowledged}" if silence.acknowledged else "none"
    words = (
        f"WhatsApp has taken {silence.taken} messages since {describe_time(silence.since_ms)} "
        f"and acknowledged {acknowledged}"
    )
    if not _is_reached(instance, silence) and instance.last_webhook_at_ms is not None:
        words += f", and no webhook has come since {describe_time(instance.last_webhook_at_ms)}"
    return words


def _hears(instance: Instance, capabilities: Capabilities, posts: Posts) -> bool:
    """Whether receipts of this number are known to come: some have, or its gateway posts webhooks and has receipts."""
    if instance.webhooks_since_ms is None or not capabilities.receipts:
        return False
    return capabilities.is_linked_device or posts.has_receipts(instance.id)


def _is_reached(instance: Instance, silence: Silence) -> bool:
    """Whether webhooks still come.  Where none does, an official API is not doubted: the way to us is broken."""
    return instance.last_webhook_at_ms is not None and instance.last_webhook_at_ms >= silence.until_ms
