"""`wa instance`: where each stands, and a pause that holds."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest
from stored import ACCEPTED, ADA, BEN, EVA, UNREADABLE, enqueue, finish, send, start_all, take_lease

from wa_cli.bootstrap import open_app
from wa_cli.daemon.sending import look_after_queue
from wa_cli.domain.connection import Restriction, RestrictionScope
from wa_cli.domain.outcome import ErrorClass, Rejected
from wa_cli.domain.pacing import Limits
from wa_cli.domain.retry import Restrict, Stop
from wa_cli.sandbox.runner import serve_in_thread
from wa_cli.services.instances import PAUSE_PATIENCE_SECONDS, Paused, count_limited_recipients, explain_limits, pause

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Wa

    from wa_cli.bootstrap import App
    from wa_cli.sandbox.server import Sandbox

DEAD_NUMBER = Rejected(error_class=ErrorClass.DEAD_RECIPIENT, code="131026", details="undeliverable", http_status=400)


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with serve_in_thread() as running:
        monkeypatch.setenv("WHATSAPP_API_URL", running.messages_url)
        monkeypatch.setenv("WHATSAPP_ACCESS_TOKEN", running.settings.token)
        yield running


class TurningClock:
    """Steady time moves with each wait; the wall stands at one moment of the test."""

    def __init__(self, wall_ms: int) -> None:
        self._wall_ms = wall_ms
        self.waited = 0.0

    def wall_ms(self) -> int:
        return self._wall_ms

    def steady_ms(self) -> float:
        return self.waited * 1000

    def wait(self, seconds: float) -> None:
        self.waited += seconds


# --- pause and resume ---


def test_after_a_pause_nothing_is_posted_until_it_is_resumed(wa: Wa, app: App, sandbox: Sandbox) -> None:
    """Promise P7."""
    enqueue(app, ADA, BEN)
    paused = wa("instance", "pause", "--reason", "wrong price", "--json").json()
    assert (paused["state"], paused["reason"], paused["was_paused"]) == ("paused", "wrong price", False)
    assert (paused["waiting"], paused["in_flight"]) == (2, 0)
    wa("drain")
    assert sandbox.ledger == []
    resumed = wa("instance", "resume", "--json").json()
    assert (resumed["state"], resumed["resumed"], resumed["waiting"]) == ("ready", True, 2)
    assert wa("drain", "--json").json()["sent"] == 2
    assert len(sandbox.ledger) == 2


def test_pause_returns_once_what_had_begun_has_landed(wa: Wa, app: App) -> None:
    """Promise P7."""
    enqueue(app, ADA)
    with_lease = open_app(app.settings, create=False)
    started = start_all(with_lease, take_lease(with_lease))
    clock = TurningClock(app.clock.wall_ms())

    def land(seconds: float) -> None:
        clock.wait(seconds)
        assert app.find_instance().paused_at_ms is not None  # the pause is on the disk before anybody waits
        finish(with_lease, started, ACCEPTED)

    result = pause(app.find_instance(), reason="x", instances=app.instances, leases=app.leases, clock=clock, wait=land)
    assert result == Paused(was_paused=False, in_flight=0)
    with_lease.close()


def test_pause_waits_for_so_long_and_then_says_what_is_still_in_flight(wa: Wa, app: App) -> None:
    """Promise P7."""
    enqueue(app, ADA, BEN)
    with_lease = open_app(app.settings, create=False)
    start_all(with_lease, take_lease(with_lease))
    clock = TurningClock(app.clock.wall_ms())
    result = pause(
        app.find_instance(), reason="x", instances=app.instances, leases=app.leases, clock=clock, wait=clock.wait
    )
    assert result == Paused(was_paused=False, in_flight=2)
    assert PAUSE_PATIENCE_SECONDS <= clock.waited < PAUSE_PATIENCE_SECONDS + 1
    with_lease.close()


def test_pause_does_not_wait_for_the_dead(wa: Wa, app: App) -> None:
    enqueue(app, ADA)
    other = open_app(app.settings, create=False)
    start_all(other, take_lease(other))
    other.close()
    document = wa("instance", "pause", "--json").json()
    assert (document["in_flight"], document["sending"]) == (0, 0)
    assert wa("status", "--json").json()["stats"]["unknown"] == 1


def test_a_second_pause_keeps_the_first_reason(wa: Wa, app: App) -> None:
    wa("instance", "pause", "--reason", "first")
    again = wa("instance", "pause", "--reason", "second", "--json").json()
    assert (again["was_paused"], again["reason"]) == (True, "first")
    assert "paused already" in wa("instance", "pause").out


def test_resume_of_a_platform_stop_says_that_it_may_stop_again(wa: Wa, app: App, sandbox: Sandbox) -> None:
    enqueue(app, ADA)
    instance_id = app.find_instance().id
    with app.queue.turn() as turn:
        turn.apply_effect(instance_id, Stop(code="190", reason="the token has expired"), now_ms=app.clock.wall_ms())
    result = wa("instance", "resume")
    assert result.exit == 0
    assert "the token has expired; unless that is mended it stops again" in result.err
    assert "wa run" in result.err
    assert "1 message waiting" in result.out
    assert "was not paused" in wa("instance", "resume").out


@pytest.mark.parametrize("verb", ["show", "status", "pause", "resume"])
def test_an_unknown_instance_is_named_with_those_there_are(wa: Wa, app: App, verb: str) -> None:
    result = wa("instance", verb, "shop", "--json")
    assert result.exit == 2
    assert result.error()["code"] == "no_instance"
    assert "default" in result.error()["hint"]


# --- list and show ---


def test_the_list_tells_state_depth_and_sender(wa: Wa, app: App, sandbox: Sandbox) -> None:
    enqueue(app, ADA, BEN, in_ms=60_000)
    take_lease(app, role="daemon")
    document = wa("instance", "list", "--json").json()
    (instance,) = document["instances"]
    assert (instance["name"], instance["state"], instance["waiting"]) == ("default", "ready", 2)
    assert (instance["holder"]["role"], instance["holder"]["pid"]) == ("daemon", os.getpid())
    assert wa("instance", "list").out.startswith("default\tready\t2\t0\tdaemon ")


@pytest.mark.parametrize("verb", ["show", "status"])
def test_show_counts_the_last_hour_and_day_of_this_instance(wa: Wa, app: App, sandbox: Sandbox, verb: str) -> None:
    """Row H12."""
    send(app, ADA, BEN, outcome=ACCEPTED)
    send(app, EVA, outcome=DEAD_NUMBER)
    send(app, EVA, outcome=UNREADABLE, text="again")
    counters = wa("instance", verb, "--json").json()["counters"]
    assert counters == {"sent24h": 2, "sent1h": 2, "failures1h": 2, "disconnects1h": 0, "started1m": 4}
    assert "2 sent in 24 h" in wa("instance", verb).out


def test_counters_look_back_by_time_whatever_came_before(wa: Wa, app: App) -> None:
    """Row H12: the windows move."""
    send(app, ADA, BEN, EVA, outcome=ACCEPTED)
    now_ms, hour = app.clock.wall_ms(), 3_600_000
    for later, expected in ((0, (3, 3, 3)), (hour // 2, (3, 3, 0)), (hour + 1000, (3, 0, 0)), (25 * hour, (0, 0, 0))):
        counters = app.upkeep.read_counters(1, now_ms=now_ms + later)
        assert (counters.sent_24h, counters.sent_1h, counters.started_1m) == expected
    assert app.upkeep.read_counters(2, now_ms=now_ms).sent_24h == 0


def test_each_limit_is_shown_with_where_it_comes_from(wa: Wa, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row H1."""
    monkeypatch.setenv("MAX_SENDS_PER_MINUTE_PER_INSTANCE", "6")
    limits = {limit["limit"]: limit for limit in wa("instance", "show", "--json").json()["limits"]}
    origin = "MAX_SENDS_PER_MINUTE_PER_INSTANCE"
    assert limits["per_minute"] == {"limit": "per_minute", "value": 6, "origin": origin, "used": 0, "left": 6}
    assert (limits["per_second"]["value"], limits["per_second"]["origin"]) == (80, "profile cloud")
    assert (limits["gap_ms"]["value"], limits["gap_ms"]["left"]) == (0, None)
    enqueue(app, ADA, BEN)
    start_all(app, take_lease(app))
    limits = {limit["limit"]: limit for limit in wa("instance", "show", "--json").json()["limits"]}
    assert (limits["per_minute"]["used"], limits["per_minute"]["left"]) == (2, 4)
    assert "2 used" in wa("instance", "show").out
    assert set(limits) == {limit.name for limit in explain_limits("cloud", Limits(), {})}


@pytest.mark.parametrize(
    ("limits", "waiting"),
    [
        (Limits(), 0),
        (Limits(recipient_gap_ms=2_000), 1),
        (Limits(recipient_per_minute=2), 1),
        (Limits(recipient_gap_ms=60_000), 2),
    ],
)
def test_recipients_that_have_to_wait_are_counted(limits: Limits, waiting: int) -> None:
    """Row T7: activeRateLimits."""
    starts = [(1, 970_000), (2, 980_000), (2, 999_000)]
    assert count_limited_recipients(limits, starts, now_ms=1_000_000) == waiting


# --- restrictions ---


def restrict(app: App, *, scope: RestrictionScope, ends_in_ms: int | None) -> None:
    now_ms = app.clock.wall_ms()
    until_ms = None if ends_in_ms is None else now_ms + ends_in_ms
    found = Restriction(code="463", reason="too many new chats", scope=scope, until_ms=until_ms)
    app.instances.restrict(1, Restrict(restriction=found), now_ms=now_ms)


def test_a_restriction_shows_what_waits_and_until_when(wa: Wa, app: App, sandbox: Sandbox) -> None:
    """Issue 6, points 6 and 8."""
    wa("send", "to", "+6591234567", "--text", "hi")
    restrict(app, scope=RestrictionScope.EVERYTHING, ends_in_ms=3_600_000)
    shown = wa("instance", "show", "--json").json()
    assert (shown["state"], shown["restriction"]["scope"]) == ("restricted", "everything")
    assert shown["restriction"]["until"] == shown["next_due_at"] is not None
    assert "everything waits: too many new chats (code 463)" in wa("instance", "show").out
    assert re.search(r"restricted .* for (59 min|1 h).* more: everything waits", " ".join(wa("status").out.split()))
    drained = wa("drain", "--json").json()
    assert (drained["sent"], drained["next_due_at"]) == (0, shown["next_due_at"])


def test_resume_ends_a_restriction_early(wa: Wa, app: App, sandbox: Sandbox) -> None:
    """Issue 6, point 6: where no end was stated a person has to say so."""
    wa("send", "to", "+6591234567", "--text", "hi")
    restrict(app, scope=RestrictionScope.NEW_PEOPLE, ends_in_ms=None)
    assert "until somebody resumes" in " ".join(wa("status").out.split())
    assert "wa instance resume default" in wa("status").out
    drained = wa("drain", "--json")
    assert (drained.exit, drained.json()["sent"]) == (4, 0)
    result = wa("instance", "resume")
    assert "is no longer restricted" in result.out
    assert "may still hold it back" in result.err
    assert wa("instance", "show", "--json").json()["restriction"] is None
    assert wa("drain", "--json").json()["sent"] == 1
    assert "was not paused" in wa("instance", "resume").out


def test_upkeep_pauses_a_number_that_is_never_acknowledged_and_status_says_what_to_do(
    wa: Wa, app: App, sandbox: Sandbox
) -> None:
    """Fault 66, issue 6, point 6."""
    send(app, *(f"+658123{number:04d}" for number in range(31)), outcome=ACCEPTED)
    now_ms = app.clock.wall_ms()
    with app.database.write() as connection:
        connection.execute("UPDATE attempt SET started_at = started_at - 1200000")
        connection.execute("UPDATE message SET receipt = 'delivered' WHERE id = 1")
        connection.execute("UPDATE instance SET webhooks_since = ?, last_webhook_at = ?", (now_ms - 7_200_000, now_ms))
    look_after_queue(app)
    shown = wa("instance", "show", "--json").json()
    assert (shown["state"], shown["paused_by"], shown["pause_code"]) == ("paused", "wa", "no_receipts")
    status = " ".join(wa("status").out.split())
    assert "and acknowledged only 1" in status
    assert "pair the device anew" in status
    assert wa("message", "list", "--json").json()["messages"][0]["state"] == "sent"
