"""When messages leave: at once when they are due, spaced as asked, spaced again after an outage, not after a pause."""

from __future__ import annotations

import signal
import time
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from rig import Household, number, until

from wa_cli.bootstrap import open_app
from wa_cli.config import load_settings
from wa_cli.daemon.sending import LOOK_SECONDS
from wa_cli.domain.message import Text
from wa_cli.domain.recipient import RecipientKind
from wa_cli.services.enqueue import SendOrder, enqueue, hash_request, line_for
from wa_cli.services.pace import LATENESS_FORGIVEN_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from wa_cli.bootstrap import App

DELAY_MS = 300
SENDS_A_ROUND, MOST_ROUNDS = 20, 15
A_ROUNDING_MS = 10  # of the clocks, between one process and the other


def starts(home: Household) -> list[int]:
    """When each post was begun, in order, in ms: what is spaced.  The way to the sandbox takes its time, too."""
    return [at for (at,) in home.read("SELECT started_at FROM attempt ORDER BY id")]


def gaps(home: Household) -> list[int]:
    """Milliseconds between the starts."""
    return [later - earlier for earlier, later in pairwise(starts(home))]


def assert_posted_after_their_starts(home: Household) -> None:
    """What holds for the starts holds for the posts: none came before its start."""
    began = {f".{key}": at for key, at in home.read("SELECT id, started_at FROM attempt")}
    for entry in home.sandbox.entries():
        assert entry["received_at"] * 1000 > began["." + entry["tag"].rpartition(".")[2]] - A_ROUNDING_MS


def test_a_message_enqueued_by_another_process_starts_within_a_tenth_of_a_second(home: Household) -> None:
    """Issue point 5: from the commit of the enqueue to the first byte at the gateway, over 20 sends.

    A busy machine makes some rounds of 20 late, and a defect makes all of them late: the best of a few is what counts.
    """
    assert LOOK_SECONDS <= 0.05
    home.daemon()
    app = open_app(load_settings(home.settings), create=False)
    try:
        for turn in range(MOST_ROUNDS):
            lateness = measure_lateness(home, app, first=turn * SENDS_A_ROUND)
            print(f"from commit to post: median {median(lateness) * 1000:.0f} ms, worst {max(lateness) * 1000:.0f} ms")
            if median(lateness) < 0.1:
                break
    finally:
        app.close()
    assert median(lateness) < 0.1
    home.wait_for_states(sent=(turn + 1) * SENDS_A_ROUND)
    home.audit().assert_sound()


def measure_lateness(home: Household, app: App, *, first: int) -> list[float]:
    """Seconds from the commit of each of 20 sends to its post."""
    instance = app.find_instance()
    lateness = []
    for index in range(first, first + SENDS_A_ROUND):
        now_ms = app.clock.wall_ms()
        enqueue(
            app.intake,
            SendOrder(kind="to", instance_id=instance.id, start_at_ms=now_ms),
            [line_for(number(index), RecipientKind.PERSON, Text(body=f"now {index}"), app.rules(instance))],
            size=1,
            request_hash=hash_request("to", [str(index)]),
            lines_are_unique=True,
            now_ms=now_ms,
        )
        committed_at = time.time()
        entries = home.sandbox.wait_for_posts(index + 1)
        lateness.append(entries[-1]["received_at"] - committed_at)
    return lateness


def test_progressive_delay_spaces_what_leaves(home: Household) -> None:
    """Rows R1, T3.  That nothing leaves later than its place is held to in `test_dispatch`, on a clock of its own."""
    daemon = home.daemon()
    home.queue(5, "--delay", DELAY_MS)
    entries = home.sandbox.wait_for_posts(5)
    assert [entry["to"] for entry in entries] == [number(index).removeprefix("+") for index in range(5)]
    due = [at for (at,) in home.read("SELECT due_at FROM message ORDER BY id")]
    assert [later - earlier for earlier, later in pairwise(due)] == [DELAY_MS] * 4
    # One start may be a little late without moving the next one.
    assert min(gaps(home)) >= DELAY_MS - LATENESS_FORGIVEN_MS - A_ROUNDING_MS
    assert starts(home)[-1] - starts(home)[0] >= 4 * DELAY_MS - LATENESS_FORGIVEN_MS - A_ROUNDING_MS
    assert_posted_after_their_starts(home)
    home.wait_for_states(sent=5)
    assert "warning" not in "".join(daemon.err)
    home.audit().assert_sound()


def test_overdue_messages_are_spaced_again_when_they_leave(home: Household) -> None:
    """Row R5; promise P8: an outage is not made up for by a burst."""
    home.queue(5, "--delay", DELAY_MS)
    ((last_due_at_ms,),) = home.read("SELECT max(due_at) FROM message")
    until(lambda: time.time() * 1000 > last_due_at_ms, "all of them overdue")
    assert home.wa("drain").exit == 0
    assert len(home.sandbox.entries()) == 5
    assert min(gaps(home)) >= DELAY_MS - LATENESS_FORGIVEN_MS - A_ROUNDING_MS
    # On average nothing of the spacing is lost.
    assert starts(home)[-1] - starts(home)[0] >= 4 * DELAY_MS - LATENESS_FORGIVEN_MS - A_ROUNDING_MS
    assert_posted_after_their_starts(home)
    home.audit().assert_sound()


def test_the_spacing_holds_across_a_kill(home: Household) -> None:
    """Promise P8: the lane's last start is in the database, not in the process that died."""
    home.queue(4, "--delay", 3000)
    first = home.daemon()
    home.sandbox.wait_for_posts(2)
    first.kill()
    second = home.daemon()
    home.sandbox.wait_for_posts(3)
    assert min(gaps(home)) >= 3000 - LATENESS_FORGIVEN_MS - A_ROUNDING_MS
    assert_posted_after_their_starts(home)
    home.wa("message", "cancel", "--all", "--yes")
    second.signal(signal.SIGTERM)
    assert second.wait().exit == 0
    home.audit().assert_sound(unknown=None)


def test_after_pause_returns_nothing_leaves_until_resume(make_home: Callable[..., Household]) -> None:
    """Promise P7; row 40: while a daemon sends; the queue keeps its order."""
    home = make_home("--latency-ms", "40", WA_CONCURRENCY="2")
    home.queue(60, "--delay", "200")
    home.daemon()
    home.sandbox.wait_for_posts(3)
    paused = home.wa("instance", "pause", "default", "--json")
    paused_at = time.time()
    assert paused.exit == 0, paused.err
    assert paused.json()["in_flight"] == 0
    states = home.states()
    assert states["sending"] == 0
    assert states["queued"] > 0
    assert home.wa("status", "--json").json()["instances"][0]["state"] == "paused"
    assert [entry for entry in home.sandbox.entries() if entry["received_at"] > paused_at] == []
    assert home.states() == states
    assert home.wa("instance", "resume", "default").exit == 0
    home.wait_for_states(sent=60)
    home.audit().assert_sound()
    order = [message_id for (message_id,) in home.read("SELECT message_id FROM attempt ORDER BY id")]
    assert order == sorted(order)


def test_after_cancel_returns_nothing_it_named_leaves(make_home: Callable[..., Household]) -> None:
    """Promise P7; row 40: what was on its way is named, the rest stays here."""
    home = make_home("--latency-ms", "40", WA_CONCURRENCY="2")
    ids = home.queue(60, "--delay", "200")
    home.daemon()
    home.sandbox.wait_for_posts(3)
    cancelled = home.wa("message", "cancel", *ids[20:], "--json")
    cancelled_at = time.time()
    assert cancelled.exit in (0, 3), cancelled
    states = {message_id: home.state(message_id) for message_id in ids[20:]}
    assert set(states.values()) <= {"cancelled", "sent", "sending"}
    gone = {number(index).removeprefix("+") for index, name in enumerate(ids) if states.get(name) == "cancelled"}
    assert len(gone) == cancelled.json()["cancelled"] > 0
    home.wait_for_states(cancelled=len(gone), sent=60 - len(gone))
    home.audit().assert_sound()
    assert {entry["to"] for entry in home.sandbox.entries()} & gone == set()
    named = {one["id"] for one in cancelled.json()["not_cancelled"] if one["state"] == "sending"}
    on_its_way = {number(index).removeprefix("+") for index, name in enumerate(ids) if name in named}
    kept = {number(index).removeprefix("+") for index in range(20)}
    late = {entry["to"] for entry in home.sandbox.entries() if entry["received_at"] > cancelled_at}
    assert late <= kept | on_its_way


def test_cancelling_everything_stops_everything(make_home: Callable[..., Household]) -> None:
    """Promise P7: `--all` leaves nothing in the queue, whoever sends."""
    home = make_home("--latency-ms", "40", WA_CONCURRENCY="2")
    home.queue(60, "--delay", "200")
    daemon = home.daemon()
    home.sandbox.wait_for_posts(3)
    assert home.wa("message", "cancel", "--all", "--yes").exit in (0, 3)
    states = home.states()  # before the posts are counted: what is posted in between was on its way
    posts = len(home.sandbox.entries())
    assert states["queued"] == 0
    daemon.signal(signal.SIGTERM)
    assert daemon.wait().exit == 0
    assert len(home.sandbox.entries()) - posts <= states["sending"]
    home.audit().assert_sound()
