"""`from wa_cli import Wa`: queueing and looking from a Python script, over the same use cases as the command line.

It queues and answers at once; `wa run` or `wa drain` sends.  Its methods have the names of the source systems' service
(rows T2, T4, T7, S1, S3, S4).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, TypedDict, cast

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from types import TracebackType

    from wa_cli.bootstrap import App
    from wa_cli.domain.message import Content
    from wa_cli.domain.recipient import Recipient
    from wa_cli.ports import Enqueued, Instance
    from wa_cli.services.orders import Lines, OrderWords

Outcome = Literal["immediate", "queued", "duplicate", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """What became of one message.

    outcome: `immediate` (due now with nothing ahead of it), `queued`, `duplicate` (id is the message it repeats) or
    `skipped` (reason says why).  state: of that message now.  queue_position: from 1, None when it does not wait.
    due_at: aware UTC, None when it does not wait.
    """

    id: str
    recipient: str
    outcome: Outcome
    state: str
    queue_position: int | None
    due_at: datetime | None
    reason: str | None = None

    @property
    def is_duplicate(self) -> bool:
        return self.outcome == "duplicate"


class Stats(TypedDict):
    """Row T7, with the numbers of `wa status`: every message is in exactly one of `stats`."""

    stats: dict[str, int]
    throttling: dict[str, int]
    deliveryFailures: dict[str, int]
    queue: dict[str, int]


class Wa:
    """One database and one instance, as the settings have them.  Use it as a context manager, or close it.

    db: the database file, made when it is missing; otherwise WA_DB or the user data directory.  env_file: a `.env` to
    read; otherwise the one in the working directory.  settings: values that go before both, by setting name.
    instance: the name of the instance that sends.  Not for several threads at once: give each its own.
    Raises: UsageError for settings that do not fit; StorageError when the database cannot be used.
    """

    def __init__(
        self,
        *,
        db: str | Path | None = None,
        env_file: str | Path | None = None,
        settings: Mapping[str, str] | None = None,
        instance: str | None = None,
    ) -> None:
        from wa_cli.bootstrap import open_app
        from wa_cli.config import load_settings

        given = dict(settings or {})
        if db is not None:
            given["WA_DB"] = str(db)
        loaded = load_settings(env_file=Path(env_file) if env_file is not None else None, flags=given)
        self._app: App = open_app(loaded, create=True)
        self._instance: Instance = self._app.find_instance(instance)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._app.close()

    # --- sending ---

    def send_message(
        self,
        recipient: str,
        message: str,
        *,
        at: str | datetime | None = None,
        expires: str | None = None,
        key: str | None = None,
        again: bool = False,
        max_attempts: int | None = None,
        on_unknown: Literal["hold", "resend", "skip"] = "hold",
    ) -> Queued:
        """Queue one text.  When this returns, it survives a power cut (promise P1).

        recipient: a number in any spelling, or a group id.  at: an aware datetime, or words as `--at` takes them.
        key: the caller's own idempotency key (row H5); otherwise the same words within a day are a duplicate.
        Raises: UsageError for what cannot be sent; Conflict for a key that was used for other words; Refused when the
        queue is full.  Source: rows S1, T2.
        """
        return self._send_one(
            recipient,
            message,
            at=at,
            expires=expires,
            key=key,
            again=again,
            max_attempts=max_attempts,
            on_unknown=on_unknown,
        )

    def send_message_immediate(
        self, recipient: str, message: str, *, key: str | None = None, again: bool = False
    ) -> Queued:
        """Queue one text ahead of everything that waits; the limits of the number still hold (row S3).

        Raises: as send_message.
        """
        return self._send_one(recipient, message, key=key, again=again, immediate=True)

    def send_media(
        self,
        recipient: str,
        media: str | Path,
        *,
        caption: str | None = None,
        kind: str | None = None,
        filename: str | None = None,
        at: str | datetime | None = None,
        key: str | None = None,
        again: bool = False,
    ) -> Queued:
        """Queue one file.  Its bytes are taken in now: whatever becomes of it later, the message has them.

        media: a public https link, or the path of a file below the working directory or WA_MEDIA_ROOTS.
        kind: image, video, document, audio, voice or sticker; found from the file unless given.
        Raises: UsageError for a file that cannot be sent; also as send_message.
        """
        from wa_cli.services.content import ContentWords, build_content

        words = ContentWords(media=str(media), caption=caption, kind=kind, filename=filename)
        app = self._app
        content = build_content(app.rules(self._instance), words, files=app.local_files(Path.cwd()))
        return self._send_one(recipient, content, at=at, key=key, again=again)

    def send_content(
        self,
        recipient: str,
        content: Content,
        *,
        at: str | datetime | None = None,
        expires: str | None = None,
        key: str | None = None,
        again: bool = False,
        max_attempts: int | None = None,
        on_unknown: Literal["hold", "resend", "skip"] = "hold",
    ) -> Queued:
        """Queue a message of any kind, made from the values of `wa_cli.domain.message` such as Location or Poll.

        A Reaction may name its message by one of our ids.  Raises: UsageError for a kind that the instance cannot send,
        naming those that can; also as send_message.
        """
        from wa_cli.domain.message import Reaction
        from wa_cli.services.content import find_reaction_target
        from wa_cli.services.enqueue import check_content

        if isinstance(content, Reaction):
            address = self._read_recipient(recipient).address
            target = find_reaction_target(self._app.messages, content.message_id, (address,), self._instance)
            content = Reaction(message_id=target, emoji=content.emoji)
        check_content(content, self._app.rules(self._instance))
        return self._send_one(
            recipient,
            content,
            at=at,
            expires=expires,
            key=key,
            again=again,
            max_attempts=max_attempts,
            on_unknown=on_unknown,
        )

    def send_batch_messages(
        self,
        messages: Collection[tuple[str, str]],
        *,
        delay_ms: int | None = None,
        at: str | datetime | None = None,
        key: str | None = None,
        again: bool = False,
    ) -> list[Queued]:
        """Queue many (recipient, message) pairs in one call, spaced; all of them or none (row S4).

        delay_ms: between two messages, 2 s unless given.  Returns what became of each, in order.
        Raises: UsageError naming the first pair that cannot be sent; nothing was queued then.  Also as send_message.
        """
        from wa_cli.services.orders import OrderWords, Pair, lines_of_pairs

        if not messages:
            return []
        pairs = []
        for number, (recipient, text) in enumerate(messages, start=1):
            pairs.append(Pair(recipient=self._read_recipient(recipient, f"pair {number}"), text=self._check(text)))
        words = OrderWords(at=_spell(at), delay=None if delay_ms is None else str(delay_ms), key=key, again=again)
        return self._put_in("file", words, lines_of_pairs(pairs, self._app.rules(self._instance)))

    # --- looking ---

    def get_stats(self) -> Stats:
        """How many messages stand where, what waits, and whom a limit holds back (row T7)."""
        from wa_cli.services.instances import count_limited_recipients, recipient_look_back_ms

        app, limits = self._app, self._app.limits(self._instance)
        now_ms = app.clock.wall_ms()
        app.bury_dead(now_ms=now_ms)
        stats = app.messages.read_stats()
        starts = app.upkeep.read_starts(self._instance.id, since_ms=now_ms - recipient_look_back_ms(limits))
        return {
            "stats": stats,
            "throttling": {"activeRateLimits": count_limited_recipients(limits, starts, now_ms=now_ms)},
            "deliveryFailures": {"pending": app.messages.count_waiting_retries()},
            "queue": {"waiting": stats["queued"]},
        }

    def is_duplicate(self, recipient: str, message: str) -> bool:
        """Whether the same words to the same recipient wait, went out within the window, or cannot be known (row T4).

        Asks and writes nothing.  Raises: UsageError for a recipient or a text that cannot be sent.
        """
        return self._send_one(recipient, message, is_dry_run=True).is_duplicate

    def generate_idempotency_key(self, recipient: str, message: str) -> str:
        """The key a message has when its caller gives none: SHA-256 over instance, recipient and words, in hex.

        However the recipient is spelled.  Raises: UsageError for a recipient that is none.  Source: row T4.
        """
        from wa_cli.domain.message import Text, encode_content, generate_idempotency_key

        address = self._read_recipient(recipient).address
        return generate_idempotency_key(self._instance.name, address, encode_content(Text(body=message)))

    # --- the way in ---

    def _send_one(
        self,
        recipient: str,
        message: str | Content,
        *,
        at: str | datetime | None = None,
        expires: str | None = None,
        key: str | None = None,
        again: bool = False,
        max_attempts: int | None = None,
        on_unknown: str = "hold",
        immediate: bool = False,
        is_dry_run: bool = False,
    ) -> Queued:
        from wa_cli.domain.message import Text
        from wa_cli.services.orders import OrderWords, lines_to_recipients

        content = Text(body=self._check(message)) if isinstance(message, str) else message
        lines = lines_to_recipients([self._read_recipient(recipient)], content, self._app.rules(self._instance))
        words = OrderWords(
            at=_spell(at),
            expires=expires,
            key=key,
            again=again,
            max_attempts=max_attempts,
            on_unknown=on_unknown,
            immediate=immediate,
            is_dry_run=is_dry_run,
        )
        (queued,) = self._put_in("to", words, lines)
        return queued

    def _put_in(self, kind: str, words: OrderWords, lines: Lines) -> list[Queued]:
        from wa_cli.services.enqueue import enqueue
        from wa_cli.services.orders import judge_outcome, read_order

        app, instance = self._app, self._instance
        # What is known of groups is enough here: a function that queues waits for nobody's network.
        preflight = app.look_at_groups(instance, lines.groups, asks=False)
        if preflight is not None:
            lines = preflight.skip_unreachable(lines)
        now_ms = app.clock.wall_ms()
        order, _note = read_order(
            words,
            kind=kind,
            instance_id=instance.id,
            settings=app.settings,
            now_ms=now_ms,
            is_linked_device=app.provider(instance).capabilities.is_linked_device,
            pool=app.pool_terms(instance, now_ms=now_ms),
        )
        results: list[Enqueued] = []
        enqueue(
            app.intake,
            order,
            lines.read(),
            size=lines.size,
            request_hash=lines.request_hash,
            lines_are_unique=lines.are_unique,
            now_ms=now_ms,
            report=results.append,
        )
        return [_queued(result, judge_outcome(order, result, now_ms=now_ms)) for result in results]

    def _read_recipient(self, word: str, place: str | None = None) -> Recipient:
        from wa_cli.domain.recipient import parse_recipient
        from wa_cli.errors import UsageError

        try:
            return parse_recipient(word, default_region=self._app.settings.default_region())
        except UsageError as error:
            if place is None:
                raise
            raise UsageError(f"{place}: {error.message}", hint=error.hint, code=error.code) from error

    def _check(self, text: str) -> str:
        """The text itself.  Raises: UsageError when the platform would refuse it."""
        from wa_cli.domain.message import Text
        from wa_cli.services.enqueue import check_content

        check_content(Text(body=text), self._app.rules(self._instance))
        return text


def _spell(at: str | datetime | None) -> str | None:
    """A time in the words that `--at` takes.  Raises: UsageError for a datetime that names no zone."""
    if at is None or isinstance(at, str):
        return at
    if at.tzinfo is None:
        from wa_cli.errors import UsageError

        raise UsageError(f"the time {at.isoformat()} names no zone", hint="give an aware datetime, or words")
    return at.isoformat()


def _queued(result: Enqueued, outcome: str) -> Queued:
    from wa_cli.domain.message import format_message_id

    due_at = None if result.due_at_ms is None else datetime.fromtimestamp(result.due_at_ms / 1000, UTC)
    return Queued(
        id=format_message_id(result.message_id),
        recipient=result.address,
        outcome=cast("Outcome", outcome),
        state=result.state.value,
        queue_position=result.queue_position,
        due_at=due_at,
        reason=result.reason,
    )
