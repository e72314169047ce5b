"""Use case: what people tell us by WhatsApp, and what is said for them here.

They wrote, they want no more, they want it again, they have moved.  The functions for events work inside a transaction
that their caller has opened.  Events may come twice, late and in any order, and the end is the same: what was said
later, by its own time, is in force.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from wa_cli.domain.consent import Change, Source, Wish, read_wish
from wa_cli.domain.contact import last_word
from wa_cli.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from wa_cli.domain.contact import KnownPerson, TakenIn
    from wa_cli.domain.event import InboundEvent, NumberChangedEvent, Person, PreferenceEvent
    from wa_cli.ports import PeopleTurn

CHUNK_ROWS: Final = 2_000  # rows a transaction: they hold the write lock for some 10 ms
LONGEST_WORDING: Final = 200  # characters of a text that a provider writes; a wish by message is shorter


def apply_inbound(
    turn: PeopleTurn,
    event: InboundEvent,
    *,
    instance_id: int | None,
    stop_words: frozenset[str] = frozenset(),
    start_words: frozenset[str] = frozenset(),
    now_ms: int,
) -> Wish | None:
    """Somebody wrote: it opens their window, and may be a wish to leave or to come back.  Returns the wish.

    A wish holds for all instances.  instance_id: None when they wrote to another number of the same business, which
    this wa does not send for: then only a wish to leave counts.  stop_words, start_words: beside the usual ones, from
    `parse_words`.
    """
    wish = read_wish(event.words, event.payload, stop_words=stop_words, start_words=start_words)
    if instance_id is None and wish is not Wish.OPT_OUT:
        return None
    event = replace(event, at_ms=event.at_ms or now_ms)  # 0: the provider has not said when
    contact_id = turn.resolve(event.person, now_ms=now_ms)
    if instance_id is not None:
        turn.note_inbound(instance_id, contact_id, event)
    if wish is not None:
        change = Change(
            wish=wish,
            source=Source.MESSAGE,
            at_ms=event.at_ms,
            wording=_wording(event.words, event.payload),
            actor=_actor(event.person),
            evidence=event.provider_message_id,
        )
        turn.record_consent(contact_id, change)
    return wish


def apply_preference(turn: PeopleTurn, event: PreferenceEvent, *, now_ms: int) -> Wish:
    """Somebody told WhatsApp itself whether they want our marketing.  Returns the wish."""
    contact_id = turn.resolve(event.person, now_ms=now_ms)
    wish = Wish.OPT_IN if event.wants else Wish.OPT_OUT
    change = Change(
        wish=wish,
        source=Source.PREFERENCE,
        at_ms=event.at_ms or now_ms,
        wording=_wording(event.wording, None),
        actor=_actor(event.person),
        # It has no id of its own: the same person cannot say the same thing twice at one moment.
        evidence=f"preference:{_name(event.person)}:{event.at_ms}:{wish}",
    )
    turn.record_consent(contact_id, change)
    return wish


def apply_refusal(turn: PeopleTurn, contact_id: int, *, at_ms: int, wording: str, evidence: str) -> None:
    """The platform refused a message since the person wants none (code 131050): that is their word too.

    evidence: the provider's id of the refused message, or the tag of its attempt.
    """
    change = Change(
        wish=Wish.OPT_OUT,
        source=Source.REFUSAL,
        at_ms=at_ms,
        wording=_wording(wording, None),
        evidence=f"refusal:{evidence}",
    )
    turn.record_consent(contact_id, change)


def apply_number_change(turn: PeopleTurn, event: NumberChangedEvent, *, now_ms: int) -> None:
    """Somebody has another number.

    What they said under the old one is theirs under the new one: who had left stays away.  Memberships and attributes
    move along.  The old contact stays with its history, and with its opt-out until its next owner says otherwise; what
    that one writes later is not theirs.  Nothing is ever sent to another number than the one that was asked for.
    """
    old_id, new = turn.resolve(event.old, now_ms=now_ms), event.new
    if new.address is None:
        turn.learn(old_id, new)  # the number is not known to be another one: they have a new id
        return
    if new.user_id == event.old.user_id:
        new = replace(new, user_id=None)  # it would lead to the old contact
    turn.link(old_id, turn.resolve(new, now_ms=now_ms), at_ms=event.at_ms or now_ms)


def choose(
    turn: PeopleTurn,
    contact_id: int,
    wish: Wish,
    *,
    source: Source,
    reason: str | None,
    actor: str | None,
    confirmed: bool,
    now_ms: int,
) -> bool:
    """Enter what somebody here says for a person.  Returns whether that changed anything.

    confirmed: somebody was asked about bringing back a person who had left by their own word, and said yes.
    Raises: Refused where that was needed and is missing, or no reason is given for it.
    """
    last = last_word(turn.read_consent(contact_id))
    if last is not None and last.wish is wish:
        return False
    if last is None and wish is Wish.OPT_IN and reason is None:
        return False  # they may be written to already; without a reason it proves nothing
    if wish is Wish.OPT_IN and last is not None and last.source.is_own and (reason is None or not confirmed):
        raise Refused(
            f"they opted out themselves{f', in the words {last.wording!r}' if last.wording else ''}",
            hint="say why they may be written to again, and that you are sure: --reason 'asked for it by phone' --yes",
            code="opted_out",
        )
    # Their word may be younger than this clock: what is typed now comes after it.
    at_ms = max(now_ms, last.at_ms + 1) if last is not None else now_ms
    return turn.record_consent(contact_id, Change(wish=wish, source=source, at_ms=at_ms, wording=reason, actor=actor))


def import_people(
    store: PeopleStore,
    people: Iterable[KnownPerson],
    *,
    actor: str,
    now_ms: int,
    on_progress: Callable[[int], None],
) -> Counter[TakenIn]:
    """Take people in while their list is read; after a crash the same import adds only the rest.

    What has been taken in is durable whenever `on_progress` is called with its count.
    """
    counts: Counter[TakenIn] = Counter()
    rows = iter(people)
    done = 0
    while chunk := list(islice(rows, CHUNK_ROWS)):
        counts.update(store.take_in(chunk, actor=actor, now_ms=now_ms))
        done += len(chunk)
        on_progress(done)
    return counts


class PeopleStore(Protocol):
    """What an import asks of the store."""

    def take_in(self, people: Sequence[KnownPerson], *, actor: str, now_ms: int) -> Counter[TakenIn]: ...


def _actor(person: Person) -> str | None:
    """Who is heard by their id alone is that person under every number they will have."""
    return f"user:{person.user_id}" if person.address is None else None


def _name(person: Person) -> str:
    return person.address or f"user:{person.user_id}"


def _wording(words: str | None, payload: str | None) -> str | None:
    """What was said, as it is kept: the words, and of a button what it carries, where that is something else."""
    if words and payload and payload.casefold() != words.casefold():
        kept = f"{words} [{payload}]"
    else:
        kept = words or payload or ""
    return kept.strip()[:LONGEST_WORDING] or None
