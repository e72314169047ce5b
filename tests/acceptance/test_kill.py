"""kill -9 at every named cut point, and at random moments: nothing lost, nobody written to twice, no false state."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from rig import CAMPAIGN_CUTS, KILLED, Household

from wa_cli import cuts

if TYPE_CHECKING:
    from collections.abc import Callable

CONCURRENCY = 4
# name:n means death at the n-th passage.  Later passages die with other posts in flight.
SENDING_CUTS = (
    "lease_before_commit:1",
    "lease_after_commit:1",
    "turn_before_commit:1",
    "turn_before_commit:2",
    "turn_after_commit:1",
    "turn_after_commit:3",
    "post_before:1",
    "post_before:3",
    "post_after:1",
    "post_after:6",
    "record_before:1",
    "record_before:2",
)
ENQUEUE_CUTS = ("intake_before_commit:1", "intake_before_commit:2", "intake_after_commit:1")
RESEND_CUTS = ("resend_before_commit:1", "resend_after_commit:1")
FIRST_RUN_CUTS = ("migrate_before_commit:1", "migrate_after_commit:1")
# Visited by tests/contract/test_pruning.py.
PRUNE_CUTS = (
    "prune_report_after_commit",
    "prune_before_commit",
    "prune_after_commit",
    "prune_calls_after_commit",
    "prune_words_after_commit",
)


def test_every_cut_point_is_visited() -> None:
    """faults.md row 1: 100 % of the named points."""
    visited = {cut.partition(":")[0] for cut in SENDING_CUTS + ENQUEUE_CUTS + RESEND_CUTS + FIRST_RUN_CUTS}
    assert visited | set(CAMPAIGN_CUTS) | set(PRUNE_CUTS) == set(cuts.NAMES)


@pytest.mark.parametrize("role", ["drain", "daemon", "wait"])
def test_a_sender_killed_at_any_cut_point_loses_nothing_and_repeats_nothing(
    role: str, make_home: Callable[..., Household]
) -> None:
    """Promises P1, P2, P3, P4, P10; row 1.  Each death is found by the next process, which goes on with the rest."""
    home = make_home(WA_CONCURRENCY=str(CONCURRENCY))
    if role != "wait":
        home.queue(110)
    doubtful = 0
    for index, cut in enumerate(SENDING_CUTS):
        match role:
            case "wait":
                rows = home.rows([f"hello {index} {line}" for line in range(9)], first=index * 10)
                words = ("send", "batch", rows, "--delay", "0", "--wait", "--json")
            case "daemon":
                words = ("run",)
            case _:
                words = ("drain",)
        ran = home.wa(*words, env={"WA_CUT": cut})
        assert ran.exit == KILLED, f"{cut} was not reached: {ran}"
        report = home.audit()
        report.assert_sound(unknown=None, open=None)
        now_doubtful = len(report.unknown) + report.states["sending"]
        most = 0 if cut.startswith("lease") or cut == "turn_before_commit:1" else CONCURRENCY
        assert now_doubtful - doubtful <= most, cut
        doubtful = now_doubtful
    final = home.wa("drain", "--json")
    assert final.exit == 0, final.err
    assert final.json()["remaining"] == 0
    report = home.audit()
    report.assert_sound(unknown=doubtful)
    if role == "wait":
        assert sum(report.states.values()) == 9 * len(SENDING_CUTS)


@pytest.mark.parametrize("cut", ENQUEUE_CUTS)
def test_an_enqueue_killed_at_any_cut_point_is_there_whole_or_not_at_all(cut: str, home: Household) -> None:
    """Promise P1; row 1.  2,100 rows are two transactions; the same call again queues what is missing, once."""
    texts = [f"hello {line}" for line in range(2_100)]
    words = ("send", "batch", home.rows(texts), "--delay", "0", "--key", "spring", "--json")
    assert home.wa(*words, env={"WA_CUT": cut}).exit == KILLED
    drained = home.wa("drain", "--json")
    assert (drained.exit, drained.json()["sent"], home.sandbox.entries()) == (0, 0, [])
    again = home.wa(*words)
    assert (again.exit, again.json()["queued"]) == (0, 2_100), again.err
    home.acknowledge(again)
    report = home.audit()
    report.assert_sound(open=2_100)
    drained = home.wa("drain", "--limit", "200", "--json", env={"MAX_SENDS_PER_SECOND_PER_INSTANCE": "0"})
    assert drained.json()["sent"] == 200
    home.audit().assert_sound(open=1_900)


@pytest.mark.parametrize("cut", ["intake_before_commit:1", "intake_after_commit:1"])
def test_a_small_enqueue_killed_and_repeated_leaves_one_message(cut: str, home: Household) -> None:
    """Promise P1, row H5: without a key of the caller's, the same words to the same person are one message."""
    words = ("send", "to", "+6581230001", "--text", "once", "--json")
    assert home.wa(*words, env={"WA_CUT": cut}).exit == KILLED
    again = home.wa(*words).json()
    assert (again["queued"], again["duplicates"]) == ((1, 0) if "before" in cut else (0, 1))
    assert home.wa("drain").exit == 0
    report = home.audit()
    report.assert_sound()
    assert report.states == {"sent": 1}


@pytest.mark.parametrize("cut", FIRST_RUN_CUTS)
def test_a_first_run_killed_while_it_makes_the_database_leaves_none(cut: str, home: Household) -> None:
    """Promise P10; row 28: the next run finds no file, or a whole one."""
    words = ("send", "to", "+6581230001", "--text", "first", "--json")
    assert home.wa(*words, env={"WA_CUT": cut}).exit == KILLED
    assert not home.db.exists()
    assert all(file.stat().st_mode & 0o077 == 0 for file in home.folder.glob(".wa.db*"))
    home.acknowledge(home.wa(*words))
    home.audit().assert_sound(open=1)


@pytest.mark.parametrize("cut", RESEND_CUTS)
def test_a_resend_killed_at_any_cut_point_sends_each_failure_once(
    cut: str, make_home: Callable[..., Household]
) -> None:
    """Promises P1, P2; row 1: the failures are queued again all together or not at all."""
    home = make_home(WA_MAX_ATTEMPTS="1")
    home.sandbox.fault("500_131000", times=3)
    home.queue(4)
    assert home.wa("drain").exit == 3
    assert home.states() == {"failed": 3, "sent": 1}
    words = ("resend", "--all", "--delay", "0", "--json")
    assert home.wa(*words, env={"WA_CUT": cut}).exit == KILLED
    assert home.states() == ({"failed": 3, "sent": 1} if "before" in cut else {"queued": 3, "sent": 1})
    again = home.wa(*words)
    assert (again.exit, again.json()["resend_count"]) == (0, 3 if "before" in cut else 0), again.err
    home.audit().assert_sound(open=3)
    assert home.wa("drain").exit == 0
    home.audit().assert_sound()
    assert home.states() == {"sent": 4}


def test_a_daemon_killed_again_and_again_at_random_loses_nothing_and_repeats_nothing(
    make_home: Callable[..., Household],
) -> None:
    """Promises P1, P2, P3, P4, P10; row 3.  WA_KILL_CYCLES and WA_KILL_SEED reach further."""
    cycles, seed = int(os.environ.get("WA_KILL_CYCLES", "15")), int(os.environ.get("WA_KILL_SEED", "1"))
    print(f"WA_KILL_SEED={seed}")
    chance = random.Random(seed)
    home = make_home("--latency-ms", "30", WA_CONCURRENCY=str(CONCURRENCY), MAX_SENDS_PER_SECOND_PER_INSTANCE="0")
    home.queue(40)
    queued = 40
    for _cycle in range(cycles):
        daemon = home.start("run")
        # Enqueues go on while it starts, sends and dies.
        more = home.start(
            "send",
            "batch",
            home.rows([f"more {queued + i}" for i in range(10)], first=queued),
            "--delay",
            "0",
            "--json",
        )
        queued += 10
        if chance.random() < 0.8:
            daemon.wait_for_line("sending for")
        time.sleep(chance.uniform(0.0, 0.4))  # the moment of death is the fault itself
        daemon.kill()
        ran = more.wait()
        assert ran.exit == 0, ran.err
        home.acknowledge(ran)
    final = home.wa("drain", "--json")
    assert final.exit == 0, final.err
    report = home.audit()
    report.assert_sound(unknown=None)
    assert len(report.unknown) <= cycles * CONCURRENCY
    assert sum(report.states.values()) == queued


@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
def test_a_drain_killed_at_a_write_or_a_sync_of_its_file_repeats_nothing(
    call: str, make_home: Callable[..., Household]
) -> None:
    """Promises P1, P2, P10; row 2: the n-th call dies.  WA_SYSCALL_POINTS=200 visits every one of them."""
    if (
        shutil.which("strace") is None
        or subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], check=False).returncode
    ):
        pytest.skip("strace is not there, or may not trace")
    points = range(1, int(os.environ["WA_SYSCALL_POINTS"]) + 1) if "WA_SYSCALL_POINTS" in os.environ else (1, 3, 7)
    home = make_home(WA_CONCURRENCY="2")
    home.queue(10)
    queued, doubtful = 10, 0
    for point in points:
        strace = ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={call}"]
        strace += ["-e", f"inject={call}:signal=SIGKILL:when={point}"]
        ran = home.wa("drain", under=strace)
        report = home.audit()
        report.assert_sound(unknown=None, open=None)
        now_doubtful = len(report.unknown) + report.states["sending"]
        assert now_doubtful - doubtful <= 2, point
        doubtful = now_doubtful
        if ran.exit == 0:
            break  # it made fewer calls than that: every point has been visited
        home.queue(4, first=queued)
        queued += 4
    assert home.wa("drain").exit == 0
    report = home.audit()
    report.assert_sound(unknown=doubtful)
    assert sum(report.states.values()) == queued


def test_a_new_daemon_sends_within_five_seconds_of_a_kill(make_home: Callable[..., Household]) -> None:
    """Promises P9, P4; row 1: on one machine the dead holder's lease is not waited for.

    A busy machine makes some starts late, and a defect makes all of them late: the best of a few is what counts.
    """
    home = make_home(WA_CONCURRENCY="2")
    for turn in range(1, 6):
        home.sandbox.fault("hang", times=2)
        home.queue(4, first=10 * turn)
        daemon = home.daemon()
        home.sandbox.wait_for_posts(4 * turn - 2)
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        ((lease_ends_at_ms,),) = home.read("SELECT expires_at FROM lease")
        began = time.time()
        daemon = home.daemon()
        back_at = home.sandbox.wait_for_posts(4 * turn - 1)[4 * turn - 2]["received_at"]
        home.wait_for_states(sent=2 * turn, unknown=2 * turn)
        daemon.signal(signal.SIGTERM)
        assert daemon.wait().exit == 0
        if back_at - began < 5.0:
            break
    assert back_at - began < 5.0
    assert back_at < lease_ends_at_ms / 1000
    home.audit().assert_sound(unknown=2 * turn)
