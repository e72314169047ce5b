"""Several `wa` on one file: daemons, drains and enqueues at any overlap."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rig import Household, number

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_second_daemon_says_who_runs_already_and_is_content(home: Household) -> None:
    """Row 37: pid and since when, exit 0; the first goes on."""
    first = home.daemon()
    second = home.wa("run")
    assert second.exit == 0
    assert f"pid {first.pid}" in second.out
    assert re.search(r"since .*20\d\d", second.out)
    told = home.wa("run", "--json")
    assert (told.exit, told.json()["pid"], told.json()["running"]) == (0, first.pid, True)
    home.queue(1)
    home.wait_for_states(sent=1)


def test_a_drain_that_overlaps_another_says_so_and_exits_0(make_home: Callable[..., Household]) -> None:
    """Row 39."""
    home = make_home(WA_CONCURRENCY="1")
    home.sandbox.fault("hang")
    home.queue(3)
    first = home.start("drain", "--json")
    home.sandbox.wait_for_posts(1)
    second = home.wa("drain")
    assert second.exit == 0
    assert f"another drain is sending already (pid {first.pid}" in second.err
    first.kill()
    assert home.wa("drain", "--json").json()["sent"] == 2
    home.audit().assert_sound(unknown=1)


def test_daemon_drains_and_enqueues_share_one_file(make_home: Callable[..., Household]) -> None:
    """Row 38; promises P1, P2, P3: nobody meets a lock, nothing is lost or doubled."""
    home = make_home("--latency-ms", "200", WA_CONCURRENCY="4")
    home.queue(100)
    daemon = home.daemon()
    enqueues = [
        home.start(
            "send", "batch", home.rows([f"more {i}-{line}" for line in range(10)], first=200 + 10 * i), "--delay", "0",
            "--json",
        )
        for i in range(4)
    ]  # fmt: skip
    drains = [home.start("drain") for _ in range(3)]
    for enqueue in enqueues:
        ran = enqueue.wait()
        assert (ran.exit, ran.err.count("busy")) == (0, 0), ran.err
        home.acknowledge(ran)
    for drain in drains:
        ran = drain.wait()
        assert (ran.exit, ran.err.count("busy")) == (0, 0), ran.err
    home.wait_for_states(sent=140)
    home.audit().assert_sound()
    assert home.read("SELECT epoch FROM lease") == [(1,)], "somebody took the lease from the living daemon"
    assert "busy" not in "".join(daemon.err)


def test_twenty_enqueues_at_once_on_a_file_that_is_not_there_yet(home: Household) -> None:
    """Row 38; promise P1: one of them makes the database, each is answered, no lock error reaches anybody."""
    running = [home.start("send", "to", number(index), "--text", f"hello {index}", "--json") for index in range(20)]
    for one in running:
        ran = one.wait()
        assert ran.exit == 0, ran.err
        home.acknowledge(ran)
    assert len(home.acknowledged) == 20
    assert home.wa("drain").exit == 0
    report = home.audit()
    report.assert_sound()
    assert report.states == {"sent": 20}
    assert sorted(path.name for path in home.folder.glob(".wa.db*")) == []


def test_one_key_from_thirty_processes_is_one_message(home: Household) -> None:
    """Rows H5, H6; row 41: thirty equal answers; other words under the same key are refused with exit 7."""
    words = ("send", "to", "+6581230001", "--key", "order:1", "--json", "--text")
    running = [home.start(*words, "paid") for _ in range(30)]
    answers = [one.wait() for one in running]
    assert {ran.exit for ran in answers} == {0}, [ran.err for ran in answers]
    assert {ran.json()["messages"][0]["id"] for ran in answers} == {"m1"}
    assert sum(ran.json()["queued"] for ran in answers) == 1
    assert sum(ran.json()["duplicates"] for ran in answers) == 29
    others = [home.start(*words, "not paid") for _ in range(4)]
    for other in others:
        refused = other.wait()
        assert (refused.exit, refused.error()["code"]) == (7, "key_conflict")
    assert home.wa("drain").exit == 0
    sent = home.wa(*words, "paid")
    assert (sent.exit, sent.json()["messages"][0]["state"]) == (0, "sent")
    home.audit().assert_sound()
    assert len(home.sandbox.accepted()) == 1
