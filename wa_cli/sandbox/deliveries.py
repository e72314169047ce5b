"""The platform's post office: updates leave when they are due, several in one POST, until the receiver says 200.

One heap and one timer hold everything that waits, however many messages that is; only POSTs on their way are tasks, and
those are bounded.  Waiting goes by the monotonic clock, so that a stopped sandbox goes on where it was when it is
started again; what a body says about times goes by the sandbox's own clock.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import aiohttp

from wa_cli.sandbox.webhook_bodies import SIGNATURE_HEADER, build_body, sign_body

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wa_cli.sandbox.ladder import Rung
    from wa_cli.sandbox.settings import SandboxSettings
    from wa_cli.sandbox.webhook_bodies import AcceptedMessage, Update

# How late the second copy of a duplicate may be.
_DUPLICATE_WITHIN_SECONDS = 2.0
# More of an answer is not read: a receiver has nothing to say but its status.
_MOST_OF_AN_ANSWER = 65536


class Delivery:
    """One webhook, from its first attempt until it is answered 200 or given up.

    seq: from 1, in the order of creation.  kind: what it carries.  updates: how many.  last_status: of the last
    answer, None when there was none; last_error then says why.  created_at, delivered_at: epoch seconds by the
    sandbox's clock.  replay_of: the earlier delivery whose bytes these are.
    """

    __slots__ = (
        "attempts",
        "began_at",
        "body",
        "created_at",
        "delivered_at",
        "is_given_up",
        "kind",
        "last_error",
        "last_status",
        "replay_of",
        "seq",
        "told",
        "updates",
    )

    def __init__(
        self, *, seq: int, kind: str, updates: int, body: bytes, created_at: float, replay_of: int | None = None
    ) -> None:
        self.seq = seq
        self.kind = kind
        self.updates = updates
        self.body = body
        self.created_at = created_at
        self.replay_of = replay_of
        self.attempts = 0
        self.last_status: int | None = None
        self.last_error: str | None = None
        self.delivered_at: float | None = None
        self.is_given_up = False
        # Monotonic, of the first attempt.  told: who waits for that attempt to be over.
        self.began_at: float | None = None
        self.told: asyncio.Future[None] | None = None

    @property
    def state(self) -> Literal["waiting", "delivered", "given_up"]:
        if self.delivered_at is not None:
            return "delivered"
        return "given_up" if self.is_given_up else "waiting"

    def as_json(self, *, with_body: bool = False) -> dict[str, Any]:
        """The delivery as the admin API shows it."""
        names = (
            *("seq", "kind", "updates", "state", "attempts", "last_status", "last_error"),
            *("created_at", "delivered_at", "replay_of"),
        )
        shape: dict[str, Any] = {name: getattr(self, name) for name in names}
        if with_body:
            shape["body"] = self.body.decode()
        return shape


class _Journey:
    """A message and the rungs it still has before it, by the time they leave (which disorder may have changed)."""

    __slots__ = ("message", "steps")

    def __init__(self, message: AcceptedMessage, steps: list[tuple[float, Rung]]) -> None:
        self.message = message
        # Last one first, so that the next one is taken off the end.
        self.steps = steps


class Deliveries:
    """What is still to be told, and what became of what was told.

    waiting: updates that have neither been delivered nor given up.
    """

    def __init__(
        self,
        read_settings: Callable[[], SandboxSettings],
        read_clock: Callable[[], float],
        describe: Callable[[AcceptedMessage, Rung], Update],
    ) -> None:
        """describe: makes the update of a rung at the moment it leaves."""
        self._read_settings = read_settings
        self._read_clock = read_clock
        self._describe = describe
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: aiohttp.ClientSession | None = None
        # Each POST on its way, and the generation it was begun in: after `clear` its end means nothing.
        self._posting: dict[asyncio.Task[None], tuple[Delivery, int]] = {}
        self._listening: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._to_post: deque[Delivery] = deque()
        self._generation = 0
        self.last_seq = 0
        self.clear()

    # What waits

    def follow(
        self, message: AcceptedMessage, rungs: Sequence[Rung], *, before_answer: bool = False
    ) -> asyncio.Future[None] | None:
        """Tell the receiver each rung of a message when its time comes.

        before_answer: the first one goes now, and the future returned ends with its first attempt, well or not.
        """
        if not rungs:
            return None
        settings = self._read_settings()
        self.waiting += len(rungs)
        now = time.monotonic()
        due = [now + rung.after for rung in rungs]
        if settings.webhook_reordering:
            for index in range(len(due) - 1):
                if self._fate.random() < settings.webhook_reordering:
                    due[index], due[index + 1] = due[index + 1], due[index]
        if settings.webhook_extra_delay_seconds:
            due = [at + self._fate.random() * settings.webhook_extra_delay_seconds for at in due]
        steps = list(zip(due, rungs, strict=True))
        told = None
        if before_answer and self._loop is not None:
            delivery = self._make_delivery([self._describe(message, steps.pop(0)[1])])
            told = delivery.told = self._loop.create_future()
            self._to_post.append(delivery)
            self._post_more()
        if steps:
            steps.sort(key=lambda step: step[0])
            steps.reverse()
            self._push(steps[-1][0], _Journey(message, steps))
        return told

    def tell(self, updates: Sequence[Update]) -> None:
        """Send updates as soon as there is room, or as late as the settings make them."""
        late = self._read_settings().webhook_extra_delay_seconds
        now = time.monotonic()
        self.waiting += len(updates)
        for update in updates:
            self._push(now + self._chance.random() * late if late else now, update)

    def replay(self, delivery: Delivery, times: int = 1) -> list[Delivery]:
        """Send the same bytes again, signed with the secret of today."""
        copies = []
        for _ in range(times):
            copy = self._add(delivery.kind, delivery.updates, delivery.body, replay_of=delivery.seq)
            self.waiting += copy.updates
            self._to_post.append(copy)
            copies.append(copy)
        self._post_more()
        self._ring()
        return copies

    def find(self, seq: int) -> Delivery | None:
        return self._by_seq.get(seq)

    def list_all(self) -> list[Delivery]:
        """Every delivery still remembered, oldest first."""
        return list(self._by_seq.values())

    def clear(self) -> None:
        """Forget what waits and what was.  seq goes on; POSTs that are out there end unrecorded."""
        self.draw_anew()
        self._due: list[tuple[float, int, _Journey | Update | Delivery]] = []
        self._pushed = 0
        self._outbox: deque[Update] = deque()
        self._release()
        self._to_post.clear()
        self._by_seq: dict[int, Delivery] = {}
        self._sweep_at = 0
        self._is_turn_of_outbox = True
        self.waiting = 0
        self._generation += 1
        self._stop_timer()
        self._ring()

    def draw_anew(self) -> None:
        """Begin the chances again from the seed."""
        seed = self._read_settings().seed
        # Two of them: how fast the receiver is decides how often the second is asked, and must not change the first.
        self._fate = random.Random(seed)  # noqa: S311 - chaos has to be repeatable
        self._chance = random.Random(seed)  # noqa: S311

    def go_on(self) -> None:
        """Look again at what waits: settings have changed."""
        self._set_timer()
        self._post_more()

    async def wait_for(self, seq: int) -> None:
        """Return once the delivery numbered `seq` exists."""
        while self.last_seq < seq:
            await self._listen()

    async def wait_until_quiet(self) -> None:
        """Return once every update has been delivered or given up."""
        while self.waiting:
            await self._listen()

    # Start and stop

    def start(self) -> None:
        """Begin, or go on where `stop` broke off.  Only inside a running loop."""
        self._loop = asyncio.get_running_loop()
        self.go_on()

    async def stop(self) -> None:
        """Break off POSTs on their way and hold them for the next start."""
        self._loop = None
        self._stop_timer()
        self._release()
        posting = list(self._posting)
        for task in posting:
            task.cancel()
        await asyncio.gather(*posting, return_exceptions=True)
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def ask_challenge(self, url: str, verify_token: str, challenge: str) -> dict[str, Any]:
        """Verify the receiver as the platform does before it sends anything: what came back, and whether it fits."""
        parts = urlsplit(url)
        query = [
            *parse_qsl(parts.query, keep_blank_values=True),
            ("hub.mode", "subscribe"),
            ("hub.challenge", challenge),
            ("hub.verify_token", verify_token),
        ]
        asked = urlunsplit(parts._replace(query=urlencode(query), fragment=""))
        try:
            async with self._open_session().get(
                asked, allow_redirects=False, timeout=self._read_timeout(), headers={"Accept": "*/*"}
            ) as answer:
                said = await _read_bounded(answer)
                status = answer.status
        except (aiohttp.ClientError, OSError) as error:
            return {"verified": False, "http_status": None, "reason": f"no answer: {_name(error)}"}
        is_echoed = said == challenge.encode()
        reason = None
        if status != 200:
            reason = f"answered {status}; the right token is answered 200"
        elif not is_echoed:
            reason = "answered 200 with something else than the challenge"
        return {"verified": status == 200 and is_echoed, "http_status": status, "reason": reason}

    # What happens in between

    def _push(self, due: float, thing: _Journey | Update | Delivery) -> None:
        self._pushed += 1
        heapq.heappush(self._due, (due, self._pushed, thing))
        if self._loop is not None and (self._timer is None or due + self._gather() < self._timer.when()):
            self._set_timer()

    def _gather(self) -> float:
        return self._read_settings().webhook_gather_ms / 1000

    def _set_timer(self) -> None:
        self._stop_timer()
        if self._loop is not None and self._due:
            due = self._due[0][0]
            # A retry is one POST already; only updates wait for company.
            if not isinstance(self._due[0][2], Delivery):
                due += self._gather()
            self._timer = self._loop.call_at(due, self._wake)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        self._timer = None
        heap = self._due
        now = time.monotonic()
        duplicates = self._read_settings().webhook_duplicates
        while heap and heap[0][0] <= now:
            thing = heapq.heappop(heap)[2]
            if isinstance(thing, Delivery):
                self._to_post.append(thing)
            elif isinstance(thing, _Journey):
                update = self._describe(thing.message, thing.steps.pop()[1])
                self._outbox.append(update)
                if duplicates and self._chance.random() < duplicates:
                    self._duplicate(update, now)
                if thing.steps:
                    self._pushed += 1
                    heapq.heappush(heap, (thing.steps[-1][0], self._pushed, thing))
            else:
                self._outbox.append(thing)
        self._set_timer()
        self._post_more()

    def _duplicate(self, update: Update, now: float) -> None:
        speed = self._read_settings().ladder_speed
        late = self._chance.random() * _DUPLICATE_WITHIN_SECONDS / speed if speed else 0.0
        self.waiting += 1
        self._pushed += 1
        heapq.heappush(self._due, (now + late, self._pushed, update))

    def _post_more(self) -> None:
        if self._loop is None:
            return
        settings = self._read_settings()
        if settings.webhook_url is None:
            return
        while len(self._posting) < settings.webhook_connections:
            delivery = self._take_next()
            if delivery is None:
                return
            task = self._loop.create_task(self._post(delivery))
            self._posting[task] = delivery, self._generation
            task.add_done_callback(self._posted)

    def _posted(self, task: asyncio.Task[None]) -> None:
        delivery, generation = self._posting.pop(task)
        if delivery.told is not None and not delivery.told.done():
            delivery.told.set_result(None)
        if task.cancelled():
            # Broken off, perhaps before its first step: whether the receiver has it is not known.
            if generation == self._generation:
                self._to_post.appendleft(delivery)
            return
        error = task.exception()
        if error is not None:
            raise error
        if generation == self._generation:
            self._settle(delivery)
        self._post_more()

    def _take_next(self) -> Delivery | None:
        """The next POST: news and repeats take turns, so that neither starves behind a slow receiver."""
        self._is_turn_of_outbox = not self._is_turn_of_outbox
        if self._to_post and (not self._outbox or not self._is_turn_of_outbox):
            return self._to_post.popleft()
        if not self._outbox:
            return None
        settings = self._read_settings()
        batch = [self._outbox.popleft()]
        while (
            self._outbox
            and len(batch) < settings.webhook_batch
            and self._outbox[0].kind == batch[0].kind
            and self._outbox[0].field == batch[0].field
        ):
            batch.append(self._outbox.popleft())
        if settings.webhook_reordering and len(batch) > 1 and self._chance.random() < settings.webhook_reordering:
            self._chance.shuffle(batch)
        return self._make_delivery(batch)

    def _make_delivery(self, batch: list[Update]) -> Delivery:
        settings = self._read_settings()
        now = self._read_clock()
        body = build_body(
            batch,
            waba_id=settings.waba_id,
            display_phone_number=settings.display_phone_number,
            sent_at=now,
            # Both forms are seen; a receiver has to read either.
            apart=len(batch) > 1 and self._chance.random() < 0.5,
        )
        delivery = self._add(batch[0].kind, len(batch), body)
        self._ring()
        return delivery

    def _add(self, kind: str, updates: int, body: bytes, *, replay_of: int | None = None) -> Delivery:
        self.last_seq += 1
        delivery = Delivery(
            seq=self.last_seq,
            kind=kind,
            updates=updates,
            body=body,
            created_at=self._read_clock(),
            replay_of=replay_of,
        )
        held = self._by_seq
        held[delivery.seq] = delivery
        keep = self._read_settings().deliveries_keep
        if len(held) > max(self._sweep_at, keep + keep // 4 + 16):
            excess = len(held) - keep
            for seq in [seq for seq, one in held.items() if one.state != "waiting"][:excess]:
                del held[seq]
            # What still waits cannot go: look again only after as many have come.
            self._sweep_at = len(held) + keep // 4 + 16
        return delivery

    async def _post(self, delivery: Delivery) -> None:
        settings = self._read_settings()
        delivery.attempts += 1
        if delivery.began_at is None:
            delivery.began_at = time.monotonic()
        if settings.webhook_url is None:
            delivery.last_status, delivery.last_error = None, "no webhook URL any more"
            return
        if settings.webhook_drops and self._chance.random() < settings.webhook_drops:
            delivery.last_status, delivery.last_error = None, "lost on its way, on purpose"
            return
        headers = {
            "Content-Type": "application/json",
            SIGNATURE_HEADER: sign_body(settings.app_secret, delivery.body),
        }
        try:
            async with self._open_session().post(
                settings.webhook_url,
                data=delivery.body,
                headers=headers,
                allow_redirects=False,
                timeout=self._read_timeout(),
            ) as answer:
                await _read_bounded(answer)
                delivery.last_status, delivery.last_error = answer.status, None
        except (aiohttp.ClientError, OSError) as error:
            delivery.last_status, delivery.last_error = None, _name(error)

    def _settle(self, delivery: Delivery) -> None:
        settings = self._read_settings()
        if delivery.last_status == 200:
            delivery.delivered_at = self._read_clock()
            self.waiting -= delivery.updates
        elif delivery.attempts == 1:
            self._to_post.append(delivery)
        else:
            # Bounded before it is raised to a power: a float has an end.
            wait = settings.webhook_retry_seconds * settings.webhook_retry_factor ** min(delivery.attempts - 2, 64)
            now = time.monotonic()
            assert delivery.began_at is not None
            if now + wait > delivery.began_at + settings.webhook_give_up_seconds:
                delivery.is_given_up = True
                self.waiting -= delivery.updates
            else:
                self._push(now + wait, delivery)
        self._ring()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # The settings bound the POSTs; no proxy, no cookies: the receiver is on this machine.
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                headers={"User-Agent": "wa-sandbox"},
            )
        return self._session

    def _read_timeout(self) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=self._read_settings().webhook_timeout_seconds)

    def _release(self) -> None:
        """Nobody may wait any longer for a POST that has not begun."""
        for delivery in self._to_post:
            if delivery.told is not None and not delivery.told.done():
                delivery.told.set_result(None)

    async def _listen(self) -> None:
        listening = asyncio.get_running_loop().create_future()
        self._listening.append(listening)
        try:
            await listening
        finally:
            if listening in self._listening:
                self._listening.remove(listening)

    def _ring(self) -> None:
        if self._listening:
            for listening in self._listening:
                if not listening.done():
                    listening.set_result(None)
            self._listening.clear()


async def _read_bounded(answer: aiohttp.ClientResponse) -> bytes:
    read = b""
    while len(read) < _MOST_OF_AN_ANSWER:
        part = await answer.content.read(_MOST_OF_AN_ANSWER - len(read))
        if not part:
            break
        read += part
    return read


def _name(error: BaseException) -> str:
    """An error in a few words, without the address it may hold."""
    return "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
