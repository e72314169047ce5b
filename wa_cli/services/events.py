"""What the events of webhooks do: each goes to the service it concerns, all of a body inside one transaction."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, assert_never

from wa_cli.domain.event import (
    AccountEvent,
    ConnectionEvent,
    IgnoredEvent,
    InboundEvent,
    NumberChangedEvent,
    PreferenceEvent,
    StatusEvent,
    TemplateEvent,
)
from wa_cli.domain.retry import Restrict
from wa_cli.services.people import apply_inbound, apply_number_change, apply_preference
from wa_cli.services.receipts import apply_parked, apply_status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wa_cli.domain.event import Event
    from wa_cli.domain.retry import RetryPolicy
    from wa_cli.ports import PeopleTurn, ReceiptTurn

# A restriction without an end that is older says nothing any more about whether the instance may send now.
RESTRICTION_LASTS_MS = 3_600_000
# A gateway whose webhooks were not taken for a while sends them later: by then the device has been asked itself.
CONNECTION_LASTS_MS = 60_000


class EventTurn(Protocol):
    """One transaction in which events take effect."""

    @property
    def receipts(self) -> ReceiptTurn: ...

    @property
    def people(self) -> PeopleTurn: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EventTerms:
    """What events are judged by.

    numbers: the instance behind each of the provider's number ids.  stop_words, start_words: beside the usual ones.
    accounts: the business account of an instance, where it is known.  linked: the instances that belong to none.
    """

    install: str
    policy: RetryPolicy
    numbers: Mapping[str, int]
    stop_words: frozenset[str] = frozenset()
    start_words: frozenset[str] = frozenset()
    accounts: Mapping[int, str] = field(default_factory=dict)
    linked: frozenset[int] = frozenset()

    def instances_of(self, account_id: str) -> list[int]:
        """The instances that news of a business account concern: those known to be of it, or else all that may be."""
        possible = [one for one in dict.fromkeys(self.numbers.values()) if one not in self.linked]
        known = [one for one in possible if self.accounts.get(one) == account_id]
        return known or [one for one in possible if one not in self.accounts] or possible


def settle(turn: EventTurn, events: Sequence[Event], *, terms: EventTerms, now_ms: int) -> Counter[str]:
    """Let every event take its effect.  Doing so again changes nothing.  Returns how often what happened."""
    sums: Counter[str] = Counter()
    for event in events:
        sums[_settle_one(turn, event, terms=terms, now_ms=now_ms)] += 1
    if turn.receipts.has_parked():
        apply_parked(turn, policy=terms.policy, now_ms=now_ms)
    return sums


def _settle_one(turn: EventTurn, event: Event, *, terms: EventTerms, now_ms: int) -> str:
    match event:
        case StatusEvent():
            rule, posted = apply_status(turn, event, install=terms.install, policy=terms.policy, now_ms=now_ms)
            if posted is not None and posted.receipt is None and rule == "applied" and event.person is not None:
                turn.people.learn(posted.contact_id, event.person)  # WhatsApp may spell their number in its own way
            return rule
        case TemplateEvent():
            template = (event.name, event.language)
            for instance_id in terms.instances_of(event.account_id):
                until_ms = event.until_ms if event.held else event.at_ms
                turn.receipts.hold_template(
                    instance_id, template, at_ms=event.at_ms, until_ms=until_ms, reason=event.reason
                )
            return "template"
        case AccountEvent():
            is_news = turn.receipts.is_news(f"account:{event.account_id}", at_ms=event.at_ms)
            effect = event.stop or (Restrict(restriction=event.restriction) if event.restriction else None)
            has_end = event.restriction is not None and event.restriction.until_ms is not None
            if is_news and effect is not None and (has_end or now_ms - event.at_ms < RESTRICTION_LASTS_MS):
                for instance_id in terms.instances_of(event.account_id):
                    turn.receipts.apply_effect(instance_id, effect, now_ms=now_ms)
            return "account"
        case InboundEvent():
            wish = apply_inbound(
                turn.people,
                event,
                instance_id=terms.numbers.get(event.number_id),
                stop_words=terms.stop_words,
                start_words=terms.start_words,
                now_ms=now_ms,
            )
            if wish is not None:
                return wish.value
            return "inbound" if event.number_id in terms.numbers else "foreign"
        case PreferenceEvent():
            return apply_preference(turn.people, event, now_ms=now_ms).value
        case NumberChangedEvent():
            apply_number_change(turn.people, event, now_ms=now_ms)
            return "number_changed"
        case ConnectionEvent():
            if event.number_id not in terms.numbers:
                return "foreign"
            is_fresh = now_ms - event.at_ms < CONNECTION_LASTS_MS
            if turn.receipts.is_news(f"connection:{event.number_id}", at_ms=event.at_ms) and is_fresh:
                instance_id = terms.numbers[event.number_id]
                turn.receipts.note_connection(instance_id, event.connection, now_ms=now_ms)
                if event.connection.restriction is not None:
                    effect = Restrict(restriction=event.connection.restriction)
                    turn.receipts.apply_effect(instance_id, effect, now_ms=now_ms)
            return "connection"
        case IgnoredEvent():
            return "ignored"
        case _:
            assert_never(event)
