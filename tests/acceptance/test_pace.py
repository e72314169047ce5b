"""When messages leave: at once when they are due, spaced as asked, spaced again after an outage, not after a pause."""

from __future__ import annotations

import signal
import time
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from rig import Household, number, until

from wa_cli.bootstrap import open_app
from wa_cli.config import load_settings
from wa_cli.domain.message import Text
from wa_cli.domain.recipient import RecipientKind
from wa_cli.services.enqueue import SendOrder, enqueue, hash_request, line_for

if TYPE_CHECKING:
    from collections.abc import Callable

DELAY_MS = 300


def gaps(entries: list[dict[str, Any]]) -> list[float]:
    """Seconds between the posts, in order."""
    return [later["received_at"] - earlier["received_at"] for earlier, later in pairwise(entries)]


def test_a_message_enqueued_by_another_process_starts_within_a_tenth_of_a_second(home: Household) -> None:
    """Issue point 5: from the commit of the enqueue to the first byte at the gateway, over 20 sends."""
    home.daemon()
    app = open_app(load_settings(home.settings), create=False)
    lateness = []
    try:
        instance = app.find_instance()
        for index in range(20):
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
    finally:
        app.close()
    print(f"from commit to post: median {median(lateness) * 1000:.0f} ms, worst {max(lateness) * 1000:.0f} ms")
    assert median(lateness) < 0.1
    home.wait_for_states(sent=20)
    home.audit().assert_sound()


def test_progressive_delay_spaces_what_leaves(home: Household) -> None:
    """Rows R1, T3."""
    daemon = home.daemon()
    home.queue(5, "--delay", DELAY_MS)
    entries = home.sandbox.wait_for_posts(5)
    assert [entry["to"] for entry in entries] == [number(index).removeprefix("+") for index in range(5)]
    assert min(gaps(entries)) > DELAY_MS / 1000 * 0.5
    assert 4 * 0.3 - 0.1 < entries[-1]["received_at"] - entries[0]["received_at"] < 4 * 0.3 + 1.0
    home.wait_for_states(sent=5)
    assert "warning" not in "".join(daemon.err)
    home.audit().assert_sound()


def test_overdue_messages_are_spaced_again_when_they_leave(home: Household) -> None:
    """Row R5; promise P8: an outage is not made up for by a burst."""
    home.queue(5, "--delay", DELAY_MS)
    ((last_due_at_ms,),) = home.read("SELECT max(due_at) FROM message")
    until(lambda: time.time() * 1000 > last_due_at_ms, "all of them overdue")
    assert home.wa("drain").exit == 0
    entries = home.sandbox.entries()
    assert len(entries) == 5
    # What the sandbox sees is the spacing plus or minus the way there; on average nothing of it is lost.
    assert min(gaps(entries)) > DELAY_MS / 1000 - 0.1
    assert entries[-1]["received_at"] - entries[0]["received_at"] > 4 * DELAY_MS / 1000 - 0.05
    home.audit().assert_sound()


def test_the_spacing_holds_across_a_kill(home: Household) -> None:
    """Promise P8: the lane's last start is in the database, not in the process that died."""
    home.queue(4, "--delay", 3000)
    first = home.daemon()
    home.sandbox.wait_for_posts(2)
    first.kill()
    home.daemon()
    entries = home.sandbox.wait_for_posts(3)
    assert min(gaps(entries)) > 2.8
    home.wa("message", "cancel", "--all", "--yes")
    home.audit().assert_sound(unknown=None)


def test_after_pause_returns_nothing_leaves_until_resume(make_home: Callable[..., Household]) -> None:
    """Promise P7; row 40: while a daemon sends; the queue keeps its order."""
    home = make_home("--latency-ms", "40", WA_CONCURRENCY="2")
    home.queue(60, "--delay", "100")
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
    order = [entry["to"] for entry in home.sandbox.entries()]
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
    on_its_way = {number(index).removeprefix("+") for index, name in enumerate(ids) if states.get(name) == "sending"}
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
    posts, states = len(home.sandbox.entries()), home.states()
    assert states["queued"] == 0
    daemon.signal(signal.SIGTERM)
    assert daemon.wait().exit == 0
    assert len(home.sandbox.entries()) - posts <= states["sending"]
    home.audit().assert_sound()
