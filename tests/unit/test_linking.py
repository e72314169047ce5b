"""The connection of a linked device, followed on a clock that takes no time, with a real store and a real loop."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted_device import PROVIDER, Device, add_phone, open_phone_app, plug_in
from world import FakeClock, FakeTransport, InlineExecutor, line, rejected, run

from wa_cli.daemon.linking import await_ready, connection_followed
from wa_cli.domain.connection import ConnectionState
from wa_cli.domain.outcome import ErrorClass
from wa_cli.domain.pacing import Limits
from wa_cli.domain.retry import RetryPolicy
from wa_cli.errors import GatewayRefused, NeedsPerson, Temporary, UsageError
from wa_cli.ports import Instance, Lease
from wa_cli.services.connections import take_restart
from wa_cli.services.dispatch import SendLoop
from wa_cli.services.enqueue import SendOrder, enqueue, hash_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from pathlib import Path

    from wa_cli.bootstrap import App

READY, DISCONNECTED, CONNECTING = ConnectionState.READY, ConnectionState.DISCONNECTED, ConnectionState.CONNECTING
NEEDS_QR, AUTH_FAILURE, ERROR = ConnectionState.NEEDS_QR, ConnectionState.AUTH_FAILURE, ConnectionState.ERROR
WINDOW_MS = 600_000


class House:
    """An app with one instance behind a scripted gateway."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.device = Device(clock=self.clock, transport=FakeTransport(self.clock))
        self.app: App = open_phone_app(folder, self.clock)
        self.woken = 0
        self.phone = add_phone(self.app)

    @property
    def now(self) -> Instance:
        return self.app.find_instance(self.phone.name)

    def wake(self) -> None:
        self.woken += 1

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return run(self.clock, coroutine)

    @asynccontextmanager
    async def followed(self, wake: Callable[[], None] | None = None) -> AsyncIterator[None]:
        async with connection_followed(
            self.app,
            self.phone,
            wake=wake or self.wake,
            executor=InlineExecutor(),
            jitter=random.Random(1).random,
        ):
            yield

    async def wait_for(self, state: ConnectionState, *, most_seconds: float) -> float:
        """How many ms it took until the store says so."""
        began = self.clock.steady_ms()
        while self.now.connection is not state:
            assert self.clock.steady_ms() - began <= most_seconds * 1000, f"still {self.now.connection}"
            await asyncio.sleep(0.05)
        return self.clock.steady_ms() - began

    def come_up(self, seconds: float, *, state: ConnectionState = READY) -> Callable[[str], None]:
        """What a device does that is brought back by whatever is done to it."""

        def act(_word: str) -> None:
            self.device.state = CONNECTING
            asyncio.get_running_loop().call_later(seconds, lambda: setattr(self.device, "state", state))

        return act

    def restarts(self) -> list[tuple[int, str]]:
        events = self.app.instances.read_events(self.phone.id, since_ms=0, kind="restart")
        return [(one.at_ms, one.word) for one in events]

    def states(self) -> list[str]:
        return [one.word for one in self.app.instances.read_events(self.phone.id, since_ms=0, kind="state")]


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    made = House(tmp_path)
    plug_in(monkeypatch, made.device)
    yield made
    made.app.close()


# --- the state is true within a second ---


@pytest.mark.parametrize("state", [DISCONNECTED, CONNECTING, NEEDS_QR, AUTH_FAILURE, ERROR])
def test_what_becomes_of_the_device_is_known_within_a_second(house: House, state: ConnectionState) -> None:
    """Issue 6, point 5.  Row H9."""

    async def main() -> None:
        async with house.followed():
            await asyncio.sleep(10)
            house.device.state = state
            assert await house.wait_for(state, most_seconds=1) < 1_000
            house.device.state = READY
            await house.wait_for(READY, most_seconds=10)
            await asyncio.sleep(1)

    house.run(main())
    assert house.woken == 2
    assert house.device.closed == 1
    assert house.now.address == "+6591234567"


def test_a_gateway_that_is_gone_stops_the_sending_and_its_return_is_seen_within_ten_seconds(house: House) -> None:
    """Row S8.  However long it was away; and a look is no restart."""

    async def main() -> None:
        async with house.followed():
            for hours in (0.001, 0.1, 3):
                house.device.is_up = False
                await house.wait_for(DISCONNECTED, most_seconds=1)
                assert house.now.connection_reason == "nobody answers at the gateway's address"
                await asyncio.sleep(hours * 3600)
                house.device.is_up = True
                await house.wait_for(READY, most_seconds=10)

    house.run(main())
    assert house.restarts() == []


def test_a_gateway_that_answers_nothing_for_ever_is_found_out_in_seconds(house: House) -> None:
    """Row S8: a look has an end, whatever the network does to it."""

    async def main() -> None:
        async with house.followed():
            house.device.latency_seconds = 10_000
            await house.wait_for(DISCONNECTED, most_seconds=5)
            house.device.latency_seconds = 0
            await house.wait_for(READY, most_seconds=10)

    house.run(main())


def test_a_session_that_the_gateway_forgot_to_start_is_started_within_ten_seconds_of_its_return(house: House) -> None:
    """Row S8: a gateway that came back without its sessions."""
    house.device.on_act = house.come_up(2)

    async def main() -> None:
        async with house.followed():
            house.device.is_up = False
            await asyncio.sleep(600)
            house.device.is_up, house.device.state = True, DISCONNECTED
            await house.wait_for(READY, most_seconds=10)

    house.run(main())
    assert house.device.words == ["start"]
    assert [word for _at, word in house.restarts()] == ["start"]


# --- the ladder ---


def test_a_device_that_stays_away_is_started_then_restarted_softly_then_hard(house: House) -> None:
    """Issue 6, point 5.  Row H11: 180 s each."""
    house.device.state = DISCONNECTED

    async def main() -> None:
        async with house.followed():
            await asyncio.sleep(3_600)

    house.run(main())
    words = [word for _at, word in house.restarts()]
    times = [at - house.restarts()[0][0] for at, _word in house.restarts()]
    assert words == ["start", "soft", "hard", "hard", "hard", "hard", "hard"]
    waits = [later - earlier for earlier, later in pairwise(times)]
    for waited, least_s in zip(waits, (30, 180, 180, 360, 720, 1440), strict=True):
        assert least_s * 1000 <= waited <= least_s * 1000 + 4_001
    assert house.now.paused_at_ms is None  # it is no loop: it is tried ever more seldom


@pytest.mark.parametrize("state", [NEEDS_QR, AUTH_FAILURE])
def test_a_device_without_a_phone_is_left_alone_and_goes_on_by_itself_once_paired(
    house: House, state: ConnectionState
) -> None:
    """Issue 6, point 5.  Row H10.  Fault 64: restarts = 0."""

    async def main() -> None:
        async with house.followed():
            house.device.state = state
            await asyncio.sleep(10_800)
            house.device.state = READY
            await house.wait_for(READY, most_seconds=3)

    house.run(main())
    assert house.device.acts == []
    assert house.restarts() == []


def test_a_failure_that_may_mean_less_is_restarted_once(house: House) -> None:
    """gateways.md section 1: WAHA's FAILED."""
    house.device.is_doubtful = True

    async def main() -> None:
        async with house.followed():
            house.device.state = AUTH_FAILURE
            await asyncio.sleep(10_800)

    house.run(main())
    assert house.device.words == ["soft"]


def test_a_device_that_is_lost_every_20_seconds_is_restarted_four_times_and_then_paused(house: House) -> None:
    """Issue 6, point 5.  Row H11.  Fault 65."""
    house.device.on_act = house.come_up(1)

    async def main() -> None:
        async with house.followed():
            while house.now.paused_at_ms is None:
                await asyncio.sleep(20)
                house.device.state = DISCONNECTED
            await asyncio.sleep(3_600)

    house.run(main())
    assert len(house.device.acts) == 4
    assert (house.now.paused_by, house.now.pause_code) == ("wa", "too_many_restarts")
    assert "restarted 4 times in 10 min" in (house.now.pause_reason or "")
    explained = house.app.explain_error("too_many_restarts")
    assert explained is not None
    assert explained.hint


def test_restarts_are_counted_over_our_own_restarts(house: House) -> None:
    """Fault 65: a daemon that is started anew each time does not start the count anew."""
    house.device.on_act = house.come_up(1)

    async def one_daemon() -> None:
        async with house.followed():
            house.device.state = DISCONNECTED
            await asyncio.sleep(25)

    for _daemon in range(6):
        house.run(one_daemon())
    assert len(house.device.acts) == 4
    assert house.now.pause_code == "too_many_restarts"


def test_a_resumed_instance_is_restarted_when_the_window_has_room(house: House) -> None:
    """Fault 65."""
    house.device.on_act = house.come_up(1)

    async def main() -> None:
        async with house.followed():
            while house.now.paused_at_ms is None:
                house.device.state = DISCONNECTED
                await asyncio.sleep(20)
            house.app.instances.resume(house.phone.id, now_ms=house.clock.wall_ms())
            await house.wait_for(READY, most_seconds=700)

    house.run(main())
    times = [at for at, _word in house.restarts()]
    assert times[4] - times[0] > WINDOW_MS


def test_a_paused_instance_is_looked_at_and_not_restarted(house: House) -> None:
    """Issue 6, point 5."""

    async def main() -> None:
        async with house.followed():
            house.app.instances.pause(house.phone.id, reason="moving", now_ms=house.clock.wall_ms())
            house.device.state = DISCONNECTED
            await house.wait_for(DISCONNECTED, most_seconds=1)
            await asyncio.sleep(3_600)

    house.run(main())
    assert house.device.acts == []


def test_an_instance_that_is_removed_is_no_longer_followed(house: House) -> None:
    async def main() -> None:
        async with house.followed():
            await asyncio.sleep(10)
            house.app.instances.remove(house.phone.id, move_to=None, now_ms=house.clock.wall_ms())
            await asyncio.sleep(2)
            seen = len(house.device.looks)
            await asyncio.sleep(60)
            assert len(house.device.looks) == seen

    house.run(main())


def test_a_restart_that_fails_is_counted_and_the_next_look_goes_on(house: House) -> None:
    """What is on the disk before it is asked for stays there, whatever the gateway makes of it."""

    def refuse(_word: str) -> None:
        raise GatewayRefused("it will not")

    house.device.on_act, house.device.state = refuse, DISCONNECTED

    async def main() -> None:
        async with house.followed():
            await asyncio.sleep(60)
            house.device.state = READY
            await house.wait_for(READY, most_seconds=5)

    house.run(main())
    assert [word for _at, word in house.restarts()] == ["start", "soft"]


@pytest.mark.parametrize(
    "error",
    [
        UsageError("the gateway refuses the key in PHONE_KEY", code="gateway_key"),
        KeyError("status"),
    ],
)
def test_a_gateway_that_cannot_be_understood_is_in_error_and_never_restarted(house: House, error: Exception) -> None:
    house.device.error = error

    async def main() -> None:
        async with house.followed():
            await house.wait_for(ERROR, most_seconds=1)
            await asyncio.sleep(3_600)
            house.device.error = None
            await house.wait_for(READY, most_seconds=10)

    house.run(main())
    assert house.device.acts == []


def test_news_that_came_while_we_looked_are_not_undone_by_what_we_saw(house: House) -> None:
    """Row H9: a webhook tells of a loss while an older answer is still on its way."""
    house.device.latency_seconds = 0.3

    def lose(*_args: object) -> None:
        house.device.on_look = lambda: None
        asyncio.get_running_loop().call_later(0.1, note_loss)

    def note_loss() -> None:
        from wa_cli.domain.connection import Connection

        lost = Connection(state=DISCONNECTED, raw="webhook")
        house.app.instances.note_connection(house.phone.id, lost, now_ms=house.clock.wall_ms())
        house.device.latency_seconds = 10_000  # what is on its way arrives; nothing else does

    async def main() -> None:
        async with house.followed():
            await asyncio.sleep(5)
            house.device.on_look = lose
            await asyncio.sleep(2)
            assert house.now.connection_raw == "webhook"

    house.run(main())


# --- and the loop beside it ---


def enqueue_for(house: House, count: int) -> None:
    order = SendOrder(kind="file", instance_id=house.phone.id, start_at_ms=house.clock.wall_ms(), delay_ms=0)
    lines = [line(number, f"note {number}") for number in range(count)]
    enqueue(
        house.app.intake,
        order,
        lines,
        size=count,
        request_hash=hash_request("file", [str(count)]),
        lines_are_unique=False,
        now_ms=house.clock.wall_ms(),
        report=lambda _answer: None,
    )


def new_loop(house: House, limits: Limits) -> SendLoop:
    lease = house.app.leases.acquire(house.phone.id, role="daemon", now_ms=house.clock.wall_ms())
    assert isinstance(lease, Lease)
    assert house.device.transport is not None
    return SendLoop(
        queue=house.app.queue,
        transport=house.device.transport,
        clock=house.clock,
        executor=InlineExecutor(),
        lease=lease,
        limits=limits,
        policy=RetryPolicy(),
        install=house.app.database.read_install(),
        jitter=lambda: 0.0,
        concurrency=1,
    )


def test_overdue_messages_leave_with_their_spacing_after_a_reconnect(house: House) -> None:
    """Issue 6, point 5.  Rows H2, H9.  Promise P8: none while it is gone, no burst when it is back."""
    enqueue_for(house, 60)
    loop = new_loop(house, Limits(gap_ms=500, per_minute=30))
    gone: list[float] = []

    async def main() -> None:
        async with house.followed(wake=loop.wake):
            sending = asyncio.create_task(loop.run(until_idle=False))
            await asyncio.sleep(10)
            house.device.state = CONNECTING
            await asyncio.sleep(1)
            gone.append(house.clock.steady_ms())
            await asyncio.sleep(50)
            gone.append(house.clock.steady_ms())
            house.device.state = READY
            await asyncio.sleep(300)
            loop.stop()
            await sending

    house.run(main())
    assert house.device.transport is not None
    posts = house.device.transport.posts
    assert len(posts) == 60
    assert not [one for one in posts if gone[0] <= one.at_ms <= gone[1]]
    first_back = next(one.at_ms for one in posts if one.at_ms > gone[1])
    assert first_back - gone[1] <= 5_000
    assert min(house.device.transport.gaps_ms) >= 500
    for post in posts:
        assert sum(post.at_ms <= other.at_ms < post.at_ms + 60_000 for other in posts) <= 30


def test_a_device_that_says_ready_and_refuses_every_post_is_not_asked_ever_faster(house: House) -> None:
    """gateways.md section 1: READY can lie.  A refusal counts no attempt, so it must cost time."""
    enqueue_for(house, 1)
    assert house.device.transport is not None
    house.device.transport.script = [rejected(ErrorClass.NOT_READY, "STARTING") for _post in range(1_000)]
    loop = new_loop(house, Limits())

    async def main() -> None:
        async with house.followed(wake=loop.wake):
            sending = asyncio.create_task(loop.run(until_idle=False))
            await asyncio.sleep(600)
            loop.stop()
            await sending

    house.run(main())
    assert 5 <= len(house.device.transport.posts) <= 20


# --- a drain asks first ---


def await_phone(house: House) -> Coroutine[Any, Any, None]:
    return await_ready(house.app, house.now, executor=InlineExecutor(), patience_seconds=8, jitter=lambda: 0.5)


def test_a_drain_waits_for_a_device_that_is_about_to_be_ready(house: House) -> None:
    """Issue 6, point 5."""
    house.device.state, house.device.on_act = DISCONNECTED, house.come_up(3)
    house.run(await_phone(house))
    assert house.now.connection is READY
    assert house.device.words == ["start"]
    assert house.device.closed == 1


@pytest.mark.parametrize(
    ("state", "is_up", "kind", "code", "waits"),
    [
        (NEEDS_QR, True, NeedsPerson, "needs_qr", False),
        (AUTH_FAILURE, True, NeedsPerson, "auth_failure", False),
        (CONNECTING, True, Temporary, "not_ready", True),
        (READY, False, Temporary, "not_ready", True),
    ],
)
def test_a_drain_without_a_device_says_who_has_to_act(
    house: House, state: ConnectionState, is_up: bool, kind: type[Exception], code: str, waits: bool
) -> None:
    """Issue 6, point 5: exit 4 for a person, 8 for what passes."""
    house.device.state, house.device.is_up = state, is_up
    with pytest.raises(kind) as caught:
        house.run(await_phone(house))
    assert caught.value.code == code  # type: ignore[attr-defined]
    assert house.clock.steady_ms() == (8_000 if waits else 0)


def test_a_drain_does_not_wait_for_what_has_no_device_or_is_paused(house: House) -> None:
    house.device.state = NEEDS_QR
    house.app.instances.pause(house.phone.id, reason="moving", now_ms=house.clock.wall_ms())
    house.run(await_phone(house))
    cloud = house.app.instances.find("default")
    house.run(await_ready(house.app, cloud, executor=InlineExecutor()))
    assert house.device.looks == []


# --- anything that can happen ---


class Fate:
    """A device with a life of its own, drawn before it begins."""

    def __init__(
        self, house: House, moves: list[tuple[float, ConnectionState, bool]], cures: list[float | None]
    ) -> None:
        self.house, self.moves, self.cures = house, moves, cures
        self.forbidden: list[str] = []
        house.device.on_act = self.act

    def act(self, word: str) -> None:
        device = self.house.device
        if device.state in (NEEDS_QR, AUTH_FAILURE, READY) or self.house.now.paused_at_ms is not None:
            self.forbidden.append(f"{word} while {device.state}")
        cure = self.cures[len(device.acts) % len(self.cures)]
        if cure is not None:
            self.house.come_up(cure)(word)

    async def live(self) -> None:
        for seconds, state, is_up in self.moves:
            self.house.device.state, self.house.device.is_up = state, is_up
            await asyncio.sleep(seconds)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    moves=st.lists(
        st.tuples(
            st.floats(0.2, 240), st.sampled_from(list(ConnectionState)), st.sampled_from([True, True, True, False])
        ),
        min_size=1,
        max_size=25,
    ),
    cures=st.lists(st.one_of(st.none(), st.floats(0.1, 20)), min_size=1, max_size=6),
    resumes=st.booleans(),
)
def test_whatever_happens_no_window_holds_more_than_four_restarts_and_a_return_is_seen_in_time(
    tmp_path_factory: pytest.TempPathFactory,
    moves: list[tuple[float, ConnectionState, bool]],
    cures: list[float | None],
    resumes: bool,
) -> None:
    """Issue 6, point 5.  Rows S8, H10, H11.  Faults 64 and 65."""
    house = House(tmp_path_factory.mktemp("fate"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        plug_in(monkeypatch, house.device)
        fate = Fate(house, moves, cures)

        async def main() -> None:
            async with house.followed():
                living = asyncio.create_task(fate.live())
                while not living.done():
                    await asyncio.sleep(7)
                    if resumes and house.now.paused_at_ms is not None:
                        house.app.instances.resume(house.phone.id, now_ms=house.clock.wall_ms())
                house.device.on_act = lambda _word: None
                house.device.is_up = False
                await asyncio.sleep(30)
                house.device.state, house.device.is_up = READY, True
                await house.wait_for(READY, most_seconds=10)

        house.run(main())
    times = [at for at, _word in house.restarts()]
    assert all(later - earlier > WINDOW_MS for earlier, later in zip(times, times[4:], strict=False))
    assert fate.forbidden == []
    house.app.close()


def test_a_person_and_the_ladder_share_one_count(house: House) -> None:
    """Row H11: the fifth is refused, whoever asks for it."""
    from wa_cli.domain.connection import RestartKind
    from wa_cli.errors import Refused

    terms = house.app.ladder_terms(house.phone)
    left = [
        take_restart(house.app.instances, house.now, RestartKind.SOFT, terms, now_ms=house.clock.wall_ms() + n * 60_000)
        for n in range(4)
    ]
    assert left == [3, 2, 1, 0]
    house.clock.advance(240_000)
    with pytest.raises(Refused, match="restarted 4 times in 10 min: no more for 6 min 1 s"):
        take_restart(house.app.instances, house.now, RestartKind.HARD, terms, now_ms=house.clock.wall_ms())
    house.device.state = DISCONNECTED

    async def main() -> None:
        async with house.followed():
            await asyncio.sleep(60)

    house.run(main())
    assert house.device.acts == []
    assert house.now.pause_code == "too_many_restarts"
    assert PROVIDER.device is house.device
