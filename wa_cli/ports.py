"""What the core asks of the world: a transport that posts, a store that remembers, a clock.

Times that cross the store's ports are whole milliseconds since 1970 in UTC and end in `_at_ms`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from wa_cli.domain.window import WindowPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from wa_cli.domain.connection import Connection, ConnectionState, GroupInfo, NumberCheck, Restriction
    from wa_cli.domain.consent import Change
    from wa_cli.domain.contact import ConsentRow
    from wa_cli.domain.event import Event, InboundEvent, Person, StatusEvent
    from wa_cli.domain.group import KnownGroup
    from wa_cli.domain.message import Content, LocalFile, OnUnknown, State
    from wa_cli.domain.number import CheckedNumber
    from wa_cli.domain.outcome import Outcome
    from wa_cli.domain.pacing import Limits
    from wa_cli.domain.pooling import PoolTerms
    from wa_cli.domain.receipt import Receipt
    from wa_cli.domain.recipient import RecipientKind
    from wa_cli.domain.retry import Effect, Restrict, Stop
    from wa_cli.domain.webhook import WebhookStatus


class Clock(Protocol):
    """Two clocks: the wall tells when a message is due, the other never jumps and measures spacing."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970 in UTC."""
        ...

    def steady_ms(self) -> float:
        """Milliseconds on a clock that only moves forward, from any starting point."""
        ...


# --- transports ----------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)  # not frozen: one is made a post, and freezing costs five times the making
class Post:
    """One message, ready to leave.

    tag: `wa1.<install>.<attempt id>`, ASCII, holds no personal data; comes back in receipts where the
    provider echoes it.  address: E.164 with its plus for a person, the group id for a group.
    """

    tag: str
    address: str
    kind: RecipientKind
    content: Content


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a message cannot be sent by a transport: what is wrong, and what to type instead."""

    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A local file that may be taken.  path: without links and dots.  file: without its digest, not known yet."""

    path: Path
    name: str
    file: LocalFile


class ContentRules(Protocol):
    """What a transport accepts, judged without a network: read before anything is queued."""

    def find_problem(self, content: Content) -> Problem | None:
        """The first thing the platform would refuse in this content, or None."""
        ...

    def needs_window(self, content: Content) -> bool:
        """Whether a person must have written within 24 h to be sent this."""
        ...

    def find_recipient_problem(self, kind: RecipientKind) -> Problem | None:
        """Why this transport cannot reach such recipients, or None."""
        ...


class SendRules(ContentRules, Protocol):
    """What an instance or a pool of them accepts: those rules, and which kinds of messages there are at all."""

    def find_lack(self, kind: str) -> Problem | None:
        """Why no message of this kind can be sent at all, or None.  kind: of CONTENT_TYPES."""
        ...


class Transport(Protocol):
    """Posts messages for one instance.  Holds its connections until closed."""

    async def send(self, post: Post) -> Outcome:
        """Post once.  Never raises for what the other side or the network does: that is the Outcome."""
        ...

    async def close(self) -> None: ...


class WebhookReader(Protocol):
    """Reads one provider's webhooks: whether a body is genuine, and what it says.

    signature_header: the name of the header that vouches for a body.  has_secret: there is something to check it by.
    """

    @property
    def signature_header(self) -> str: ...

    @property
    def has_secret(self) -> bool: ...

    def is_genuine(self, body: bytes, signature: str | None) -> bool:
        """Whether the signature header fits these very bytes and one of our secrets.  Takes the same time either way.

        Without any secret nothing is genuine.
        """
        ...

    def answer_challenge(self, query: Mapping[str, str]) -> str | None:
        """What the provider's check of our address wants to hear, or None to refuse it."""
        ...

    def read(self, body: bytes) -> list[Event]:
        """Every event of a body, in order; what cannot be read or changes nothing is an IgnoredEvent.

        Raises: UsageError (code `webhook`) when the body as a whole is not one of the provider's.
        """
        ...


# --- leases --------------------------------------------------------------------------------------------------------


LEASE_MS: Final = 30_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to send for one instance.  It holds while no higher epoch exists.

    length_ms: how long it lasts from each renewal.
    """

    instance_id: int
    instance: str
    epoch: int
    expires_at_ms: int
    length_ms: int = LEASE_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who sends for an instance at present.  role is `daemon`, `drain` or `wait`."""

    role: str
    pid: int
    host: str
    since_ms: int


class Leases(Protocol):
    def acquire(self, instance_id: int, *, role: str, now_ms: int) -> Lease | Holder:
        """Take the lease, or say who has it.

        A holder on this machine whose process is gone is replaced at once; one elsewhere when its lease has run out.
        Whatever a dead epoch left `sending` becomes `unknown` in the same transaction.
        """
        ...

    def release(self, lease: Lease) -> None: ...

    def find_holder(self, instance_id: int, *, now_ms: int) -> Holder | None:
        """Who sends for the instance now, or None; the living only."""
        ...

    def bury_dead(self, *, now_ms: int) -> int:
        """Turn what dead holders left `sending` into `unknown`.  Returns how many messages that were."""
        ...


@dataclass(slots=True, kw_only=True)
class Sums:
    """Counts of one run of the loop."""

    started: int = 0
    sent: int = 0
    failed: int = 0
    retrying: int = 0
    unknown: int = 0
    skipped: int = 0

    def add(self, other: Sums) -> None:
        """Count what another run did as well."""
        for name in ("started", "sent", "failed", "retrying", "unknown", "skipped"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


# --- webhooks --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWebhook:
    """A body as it came.  is_signed: it bore the signature of one of our secrets.

    instance_id: whose address it was posted to, or None for the one that a whole account shares.
    """

    received_at_ms: int
    provider: str
    is_signed: bool
    body: bytes
    instance_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWebhook:
    """A webhook that waits to be read.  instance_id: as in NewWebhook."""

    id: int
    received_at_ms: int
    body: bytes
    instance_id: int | None = None


class WebhookTurn(Protocol):
    """One transaction in which webhooks take effect: what they did and that they were read, together or not at all."""

    def keep_waiting(self, webhook_ids: Sequence[int]) -> set[int]:
        """Those of them that still wait: another process may have read them meanwhile."""
        ...

    def attempt(self, work: Callable[[], object]) -> Exception | None:
        """Do the work; what fails by its own fault is undone and returned, and the transaction goes on.

        Raises: what says that the store is in trouble.
        """
        ...

    def read_marks(self) -> dict[str, int]:
        """How many messages stand where and how much is known of other things: what a webhook can change."""
        ...

    def note_arrival(self, instance_id: int, *, at_ms: int) -> None:
        """Webhooks come for this instance: one did at that moment."""
        ...

    def finish(
        self, webhook_id: int, *, status: WebhookStatus, events: int | None, details: str | None, now_ms: int
    ) -> None: ...


AnyWebhookTurn = TypeVar("AnyWebhookTurn", bound=WebhookTurn, covariant=True)


class Webhooks(Protocol[AnyWebhookTurn]):
    def append(self, arrived: Sequence[NewWebhook]) -> list[int]:
        """Keep these bodies; all of them are on the disk when this returns their ids."""
        ...

    def read_waiting(
        self, *, after_id: int, limit: int, most_bytes: int, only: Collection[int] | None
    ) -> list[StoredWebhook]:
        """The next ones that wait, in the order they came, at least one of them if there is any.

        only: look at these alone.
        """
        ...

    def turn(self) -> AbstractContextManager[AnyWebhookTurn]: ...

    def prune(self, *, before_ms: int, most: int) -> int:
        """Forget those that were read and came before that, at most so many.  Returns how many."""
        ...


# --- receipts --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """One post and the message it was for, as they stand when a receipt comes.

    outcome, error_code: as in the attempt's row, None while the post is on its way.  is_counted: it used up one of the
    message's attempts.  attempts, refusals: of the message.  is_only: the message was posted this once.
    is_erased: whoever it went to has been taken out of the file.
    """

    attempt_id: int
    message_id: int
    instance_id: int
    contact_id: int
    outcome: str | None
    error_code: str | None
    is_counted: bool
    provider_message_id: str | None
    state: State
    receipt: Receipt | None
    reason: str | None
    attempts: int
    refusals: int
    max_attempts: int
    on_unknown: OnUnknown
    is_only: bool
    is_erased: bool = False


class ReceiptTurn(Protocol):
    """Receipts and what they do to messages, inside one transaction."""

    def find_post(self, attempt_id: int) -> Posted | None: ...

    def add_receipt(self, event: StatusEvent, *, attempt_id: int | None, rule: str, now_ms: int) -> int | None:
        """Remember a receipt.  Returns its row, or None when it is known already."""
        ...

    def set_rule(self, receipt_id: int, rule: str) -> None: ...

    def has_arrived(self, attempt_id: int) -> bool:
        """Whether the message of this post was delivered, by any receipt so far."""
        ...

    def has_failed(self, attempt_id: int) -> bool:
        """Whether a receipt has said that this post failed."""
        ...

    def find_other_outcomes(self, posted: Posted) -> frozenset[str]:
        """The outcomes of the message's other posts."""
        ...

    def settle_attempt(
        self,
        posted: Posted,
        *,
        outcome: str,
        is_counted: bool,
        provider_message_id: str,
        code: str | None,
        details: str | None,
    ) -> None:
        """Write what a receipt proved over what was known of a post."""
        ...

    def advance(self, message_id: int, receipt: Receipt, *, now_ms: int) -> None:
        """Move a sent message on."""
        ...

    def place(
        self,
        posted: Posted,
        *,
        state: State,
        receipt: Receipt | None,
        rule: str | None,
        due_at_ms: int | None,
        attempts: int,
        refusals: int,
        provider_message_id: str | None,
        code: str | None,
        details: str | None,
        now_ms: int,
    ) -> None:
        """Put a message where a receipt shows that it belongs."""
        ...

    def note(self, message_id: int, rule: str, details: str | None, *, now_ms: int, once: bool = False) -> None:
        """Write a decision into the message's history.  once: unless the same rule stands there already."""
        ...

    def apply_effect(self, instance_id: int, effect: Effect, *, now_ms: int) -> None: ...

    def note_connection(self, instance_id: int, connection: Connection, *, now_ms: int) -> bool:
        """Remember how a linked device is connected.  True: its state has changed."""
        ...

    def read_template(self, message_id: int) -> tuple[str, str] | None:
        """(name, language) of the template that a message is made of, or None."""
        ...

    def hold_template(
        self, instance_id: int, template: tuple[str, str], *, at_ms: int, until_ms: int | None, reason: str
    ) -> None:
        """Hold a template from `at_ms` until it is lifted or, where that is known, until `until_ms`.

        What is known of a later moment stays; an `until_ms` that is not after `at_ms` lifts it.
        """
        ...

    def is_news(self, topic: str, *, at_ms: int) -> bool:
        """Whether nothing as late was heard about the topic; remembered from now on."""
        ...

    def has_parked(self) -> bool:
        """Whether any receipt waits for the record of its own post."""
        ...

    def read_parked(self, *, limit: int) -> list[tuple[int, StatusEvent, Posted]]:
        """(receipt row, event, post) of those whose post has been recorded by now, oldest first."""
        ...


class Receipts(Protocol):
    def has_parked(self) -> bool: ...

    def match_by_id(self, *, since_ms: int) -> int:
        """Park the receipts whose post is known by its id alone, among posts since then.  Returns how many."""
        ...

    def forget_unmatched(self, *, before_ms: int) -> int:
        """Drop the receipts of other people's messages that came before.  Returns how many."""
        ...


# --- the queue, as the send loop sees it ---------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)  # not frozen: one is made a message, and freezing costs five times the making
class Due:
    """A waiting message that may leave now, as far as its due time goes.

    twin_id: another message that holds the same idempotency key, or None.  has_opted_out: nobody writes to them.
    run_id: the sending of a campaign that it belongs to, or None.
    """

    message_id: int
    contact_id: int
    address: str
    kind: RecipientKind
    content_id: int
    batch_id: int
    lane: int
    due_at_ms: int
    expires_at_ms: int | None
    attempts: int
    refusals: int
    reason: str | None
    twin_id: int | None
    has_opted_out: bool
    run_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTerms:
    """What all messages of a batch share.  last_started_at_ms: of the batch as a lane, or None.

    run_id: the sending of a campaign that it is part of, or None.  weight: its share beside other campaigns.
    quiet: when nothing of it leaves, as `timetable.encode_quiet` wrote it, or None.
    limits: of its run, beside those of the instance, or None.
    """

    delay_ms: int
    max_attempts: int
    on_unknown: OnUnknown
    is_released: bool
    last_started_at_ms: int | None
    run_id: int | None = None
    weight: int = 1
    quiet: str | None = None
    limits: Limits | None = None


@dataclass(slots=True, kw_only=True)
class Finished:
    """A post that has an outcome, on its way into the store.

    attempts, refusals: as they stood before this post.
    """

    attempt_id: int
    message_id: int
    contact_id: int
    address: str
    lane: int
    outcome: Outcome
    latency_ms: int
    attempts: int
    refusals: int
    max_attempts: int
    on_unknown: OnUnknown


@dataclass(slots=True, kw_only=True)  # not frozen, for the same reason as Due
class Record:
    """What the store writes for one finished post."""

    finished: Finished
    state: State
    rule: str
    counted: bool
    refusals: int
    due_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceStanding:
    """May this holder send for the instance at this moment?

    connection: None for one that has none to lose.  restriction: in force now, or None.
    """

    epoch: int
    expires_at_ms: int
    is_paused: bool
    rests_until_ms: int
    connection: ConnectionState | None = None
    restriction: Restriction | None = None

    @property
    def lost(self) -> ConnectionState | None:
        """How its device is connected, where that lets nothing leave."""
        return None if self.connection is None or self.connection == "ready" else self.connection


class QueueTurn(Protocol):
    """One transaction of the send loop: everything in it becomes durable together, or none of it."""

    def read_standing(self, instance_id: int) -> InstanceStanding: ...

    def renew_lease(self, lease: Lease, *, expires_at_ms: int) -> None: ...

    def record(self, records: Sequence[Record], *, now_ms: int) -> None: ...

    def apply_effect(self, instance_id: int, effect: Effect, *, now_ms: int) -> None: ...

    @property
    def receipts(self) -> ReceiptTurn:
        """Receipts, in this same transaction."""
        ...

    @property
    def people(self) -> PeopleTurn:
        """What is learned about people, in this same transaction."""
        ...

    def read_held_templates(self, instance_id: int, *, now_ms: int) -> dict[tuple[str, str], int | None]:
        """The templates that the platform does not take now, with the end of that where it is known."""
        ...

    def lane_heads(self, instance_id: int) -> list[tuple[int, int]]:
        """(lane, due time of its first waiting message), in the order of lanes.

        Lanes are left out whose batch is held, or still being queued.
        """
        ...

    def is_run_held(self, run_id: int) -> bool:
        """Whether nothing of a campaign's run may start, in whatever lane; not so while its canary is being judged."""
        ...

    def read_head(self, instance_id: int, lane: int) -> int | None:
        """When the first waiting message of one lane is due, or None when none waits."""
        ...

    def read_due(self, instance_id: int, lane: int, *, now_ms: int, limit: int) -> list[Due]: ...

    def read_terms(self, batch_id: int) -> BatchTerms: ...

    def read_state(self, message_id: int) -> State | None: ...

    def opens_chat(self, instance_id: int, contact_id: int) -> bool:
        """Whether this person has never written to the instance and was never written to by it.

        The latter is known since the limit on new chats is in force.
        """
        ...

    def note_chats(self, instance_id: int, contact_ids: Iterable[int], *, now_ms: int) -> None:
        """Chats are opened with these people, at the moment at which their posts start."""
        ...

    def forget_chats(self, instance_id: int, records: Sequence[Record]) -> None:
        """These posts did not go out: the chats that they would have opened are not there."""
        ...

    def read_chats(self, instance_id: int, *, since_ms: int) -> list[int]:
        """When chats were opened since then, oldest first."""
        ...

    def count_unanswered(self, instance_id: int, contact_id: int) -> tuple[int, int]:
        """(messages in a row without an answer, messages on their way) to a person."""
        ...

    def note_unanswered(self, instance_id: int, contact_ids: Iterable[int]) -> None:
        """One more message to each of these people; groups among them do not count."""
        ...

    def start(self, rows: Sequence[Due], *, lease: Lease, now_ms: int, spaced_batches: Iterable[int]) -> list[int]:
        """Mark as sending, with one attempt row each.  Returns the attempt ids, in order."""
        ...

    def defer(self, row: Due, *, until_ms: int, rule: str, now_ms: int) -> None: ...

    def defer_strangers(
        self, instance_id: int, lane: int, *, known_since_ms: int, until_ms: int, rule: str, now_ms: int, limit: int
    ) -> int:
        """Put off, among the first `limit` due messages of a lane, those to people who have not written since then.

        Groups are no strangers.  Returns how many were put off.
        """
        ...

    def recall(self, instance_id: int, rules: Sequence[str], *, now_ms: int) -> None:
        """Make due again what was put off by these rules, which say something else now."""
        ...

    def drop(self, row: Due, *, state: State, rule: str, details: str | None, now_ms: int) -> None: ...

    def park(self, row: Due, *, rule: str, now_ms: int) -> None:
        """Take a message out of its lane, due time and place untouched, until `unpark` puts it back."""
        ...

    def list_parked_runs(self, instance_id: int) -> list[int]:
        """The runs that have parked messages."""
        ...

    def unpark(self, instance_id: int, run_id: int, *, limit: int) -> int:
        """Put back so many parked messages of a run.  Returns how many."""
        ...

    def read_starts(self, instance_id: int, *, since_ms: int, run_id: int | None = None) -> list[tuple[int, int]]:
        """(contact id, started at) of the instance's attempts since then, oldest first; of one run alone if given."""
        ...

    def read_unreadable(self, instance_id: int) -> list[int]:
        """When the instance's last attempts in a row began whose answers could not be read, newest first."""
        ...


class Queue(Protocol):
    def turn(self) -> AbstractContextManager[QueueTurn]: ...

    def read_content(self, content_id: int) -> Content | None:
        """What a message says, or None when the stored bytes no longer match their hash or cannot be read."""
        ...

    def settle_late(self, records: Sequence[Record], *, now_ms: int) -> int:
        """Take outcomes from a holder whose lease is gone, as evidence: a refusal settles what is unknown and nothing
        else, an acceptance shows whatever is not on its way as sent.

        Returns how many messages they settled.
        """
        ...

    def requeue_unknown(self, *, older_than_ms: int, now_ms: int) -> int:
        """Queue again the unknowns whose policy is `resend` and whose waiting time is over."""
        ...

    def expire(self, *, now_ms: int) -> int:
        """Expire waiting messages that are past their time.  Returns how many."""
        ...

    def data_version(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A WhatsApp identity that sends.  paused_by is `person`, `platform`, `wa` itself or None.

    webhooks_since_ms, last_webhook_at_ms: since when webhooks come for it and when the last did, or None.
    settings: of its account, by the provider's names.  secrets: the names of the variables that hold the others; both
    are empty for `default`, which reads the environment.  profile, limits: the named set of limits and what replaces
    some of them; the general settings where they are None or empty.
    connection: of a linked device, as it was last seen, since connection_since_ms; raw: the gateway's own word.
    address: of the paired number.  restriction: in force or over, see its end.  warm_up_since_ms: when a young number
    began to be warmed up, or None.  pool: set when it was asked for by the name of a pool, for which it stands then.
    """

    id: int
    name: str
    transport: str
    paused_at_ms: int | None = None
    paused_by: str | None = None
    pause_code: str | None = None
    pause_reason: str | None = None
    rests_until_ms: int = 0
    rest_reason: str | None = None
    webhooks_since_ms: int | None = None
    last_webhook_at_ms: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    profile: str | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    connection: ConnectionState | None = None
    connection_since_ms: int | None = None
    connection_raw: str | None = None
    connection_reason: str | None = None
    address: str | None = None
    restriction: Restriction | None = None
    restricted_at_ms: int | None = None
    warm_up_since_ms: int | None = None
    pool: Pool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Several instances behind one name.  members: their names."""

    id: int
    name: str
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInstance:
    """An instance to be added; the fields as in Instance."""

    name: str
    transport: str
    settings: Mapping[str, str]
    secrets: Mapping[str, str]
    profile: str | None
    limits: Mapping[str, int]
    connection: ConnectionState | None
    warm_up_since_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceEvent:
    """Something in the life of an instance.

    kind: `state` (its word is a ConnectionState), `restart` (`start`, `soft` or `hard`), `restricted`, `released`,
    `paused`, `resumed`, `added`, `removed`, `moved`.
    """

    at_ms: int
    kind: str
    word: str
    details: str | None


class Instances(Protocol):
    def find(self, name: str) -> Instance:
        """Raises: NotFound."""
        ...

    def list_all(self) -> list[Instance]:
        """Those that have not been removed, in the order they were added."""
        ...

    def add(self, new: NewInstance, *, now_ms: int) -> Instance:
        """Raises: Conflict (code `instance_exists`) when an instance or a pool has the name."""
        ...

    def remove(self, instance_id: int, *, move_to: int | None, now_ms: int) -> int:
        """Take it out of use; its history stays.  Returns how many waiting messages were moved to another one.

        Raises: Refused when messages wait and there is nowhere to move them, or some are on their way.
        """
        ...

    def pause(self, instance_id: int, *, reason: str, now_ms: int) -> bool:
        """Pause by hand.  From the moment this returns no new start is committed.  False: it was paused already."""
        ...

    def resume(self, instance_id: int, *, now_ms: int) -> bool:
        """Lift a pause and a rest.  False: it was not paused."""
        ...

    def stop(self, instance_id: int, stop: Stop, *, now_ms: int) -> None:
        """Pause it for the platform's or our own reason; an earlier pause keeps its reason."""
        ...

    def count_sending(self, instance_id: int) -> int: ...

    def note_connection(self, instance_id: int, connection: Connection, *, now_ms: int) -> bool:
        """Remember how the device is connected.  True: its state has changed, which is an event of its own."""
        ...

    def restrict(self, instance_id: int, restrict: Restrict, *, now_ms: int) -> bool:
        """Put a restriction in force, or draw out the one that is.  True: it is a new one."""
        ...

    def release(self, instance_id: int, *, now_ms: int) -> bool:
        """End a restriction: what waits for its end is due again.  False: there was none."""
        ...

    def note_event(self, instance_id: int, event: InstanceEvent) -> None: ...

    def take_restart(
        self, instance_id: int, *, word: str, details: str | None, at_most: int, window_ms: int, now_ms: int
    ) -> bool:
        """Note a restart that is about to be asked for.  False: as many fell into the window that ends now.

        word: `start`, `soft` or `hard`.  On the disk before the restart: a crash in between costs one too few.
        """
        ...

    def read_events(self, instance_id: int, *, since_ms: int, kind: str | None = None) -> list[InstanceEvent]:
        """Its events since then, oldest first."""
        ...


# --- groups ----------------------------------------------------------------------------------------------------------


class Groups(Protocol):
    """The groups of each instance, as they were seen last."""

    def list_all(self, instance_id: int) -> list[KnownGroup]:
        """By name; those that the instance is no longer in, too."""
        ...

    def find(self, instance_id: int, addresses: Sequence[str]) -> dict[str, KnownGroup]: ...

    def save_list(self, instance_id: int, groups: Sequence[GroupInfo], *, now_ms: int) -> None:
        """Remember the whole list of an instance: it is in none of the others."""
        ...

    def save(self, instance_id: int, address: str, info: GroupInfo | None, *, now_ms: int) -> None:
        """Remember one group; None: the instance is not in it."""
        ...


class Numbers(Protocol):
    """Whether numbers are on WhatsApp, as they were last looked up."""

    def find(self, addresses: Sequence[str]) -> dict[str, CheckedNumber]: ...

    def save(self, address: str, check: NumberCheck, *, now_ms: int) -> CheckedNumber:
        """Remember a look-up; what is known from then on.

        Its `chat` is kept where it is another spelling of the number and nobody else's address.
        """
        ...


# --- the way in ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBatch:
    """What one call of the send family asks for, beside its lines.

    size: how many lines will come.  request_hash: over target and content, so that a caller's key can be held to it.
    has_own_lane: spaced by itself, or waited for by its caller.  lines_are_unique: no person and content twice.
    actor: who asked for it over the HTTP API, for the record alone.
    window: what becomes of free text to people who have not written within 24 h.
    pool: which instances share the work, or None when `instance_id` does it alone.
    checked_since_ms: numbers that a look-up since then has not found on WhatsApp are skipped; None: they are not.
    """

    kind: str
    instance_id: int
    subgroup_id: int | None = None
    subgroup: str | None = None
    campaign: str | None = None
    actor: str | None = None
    size: int
    start_at_ms: int
    at_words: str | None
    delay_ms: int
    priority: int
    max_attempts: int
    on_unknown: OnUnknown
    expires_at_ms: int | None
    key: str | None
    request_hash: bytes
    again: bool
    has_own_lane: bool
    lines_are_unique: bool
    duplicate_window_ms: int
    key_days: int
    max_queue_size: int
    window: WindowPolicy = WindowPolicy.IGNORE
    pool: PoolTerms | None = None
    checked_since_ms: int | None = None


@dataclass(slots=True, kw_only=True)  # not frozen, for the same reason as Due
class NewMessage:
    """One line of a batch.

    contact_id: known for members of a subgroup.  encoded: the canonical content.  skip_reason: why it cannot be sent,
    or None.  key: the caller's key of this line alone, or None.  is_free: it needs an open window.
    barred: the instances of a pool that cannot write to this group.
    """

    address: str
    kind: RecipientKind
    encoded: str
    contact_id: int | None = None
    skip_reason: str | None = None
    key: str | None = None
    is_free: bool = False
    barred: Collection[int] = ()


@dataclass(slots=True, kw_only=True)  # not frozen, for the same reason as Due
class Enqueued:
    """What became of one line.  outcome is `queued`, `duplicate` or `skipped`; state is the message's present one.

    reason: of a skipped one `opted_out`, `window_closed`, `not_on_whatsapp`, `not_in_group`, `may_not_post` or the
    words of its transport.  window_is_closed: the platform refuses it unless the person writes before it leaves.
    """

    message_id: int
    address: str
    outcome: str
    state: State
    queue_position: int | None
    due_at_ms: int | None
    reason: str | None = None
    window_is_closed: bool = False


class Intake(Protocol):
    def enqueue(
        self, batch: NewBatch, lines: Iterable[NewMessage], *, now_ms: int, is_dry_run: bool = False
    ) -> Iterator[Enqueued]:
        """Queue the lines; nothing may leave before all of them are on the disk.

        The first thing the iterator does is to check the key and the room in the queue; a call that is refused has
        written nothing.  It must be read to its end.  is_dry_run: answer the same and write no row.
        Raises: Conflict for a key that was used for something else; Refused when the queue has no room.
        """
        ...

    def last_batch_id(self) -> int | None:
        """The batch of the last `enqueue`, or the earlier one that a repeated key stands for."""
        ...


# --- people --------------------------------------------------------------------------------------------------------


class PeopleTurn(Protocol):
    """What is learned about people, inside one transaction.  All of it may come again, late, and in any order."""

    def resolve(self, person: Person, *, now_ms: int) -> int:
        """The contact that an event is about; unknown people become contacts.

        Found by the address, by another spelling of it that WhatsApp uses, then by the provider's id of the person.
        """
        ...

    def knows(self, instance_id: int, contact_id: int, *, since_ms: int) -> bool:
        """Whether they have written to the instance since then, or are a group: writing to them opens no new chat."""
        ...

    def learn(self, contact_id: int, person: Person) -> None:
        """Remember the names that a provider has for somebody who is known here already."""
        ...

    def note_inbound(self, instance_id: int, contact_id: int, event: InboundEvent) -> bool:
        """They wrote: once by the provider's message id, their last word only forward.  False: it was known."""
        ...

    def note_window_closed(self, instance_id: int, contact_id: int, *, at_ms: int) -> None:
        """The platform refused free text since they had not written for a day (code 131047)."""
        ...

    def read_consent(self, contact_id: int) -> list[ConsentRow]:
        """What is in the ledger for a person, under earlier numbers too, in the order of time."""
        ...

    def record_consent(self, contact_id: int, change: Change) -> bool:
        """Enter a change of mind; the latest one by its own time is in force.  False: its evidence was known."""
        ...

    def link(self, old_id: int, new_id: int, *, at_ms: int) -> None:
        """The person behind the old contact is the new one from that moment on."""
        ...
