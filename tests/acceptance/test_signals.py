"""Signals: what is in flight is finished, or unknown; whoever slept too long neither posts nor records."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest
from rig import HELD, Household, Running, until

if TYPE_CHECKING:
    from collections.abc import Callable

LEASE_SECONDS = 3.0
LONG_LEASE = {"WA_LEASE_MS": "60000"}  # of whoever takes over: a slow disk is not to end it, too
# What a busy machine may take for some milliseconds of work; a post may take WA_READ_TIMEOUT_MS, which is a minute.
A_MOMENT_SECONDS = 20.0


@pytest.mark.parametrize(
    ("words", "number", "code"),
    [
        (("run",), signal.SIGTERM, 0),
        (("run",), signal.SIGINT, 0),
        (("drain",), signal.SIGTERM, 143),
        (("drain",), signal.SIGINT, 130),
    ],
)
def test_the_first_signal_finishes_what_is_in_flight_and_gives_the_lease_back(
    words: tuple[str, ...], number: signal.Signals, code: int, make_home: Callable[..., Household]
) -> None:
    """Row T8; row 4: no new start, no unknown, and soon gone.  A drain was cut short, so its exit names the signal."""
    home = make_home(*HELD, WA_CONCURRENCY="3")
    home.queue(6)
    running = home.start(*words)
    home.sandbox.wait_for_posts(3)
    running.signal(number)
    running.wait_until_heard(number)
    began = time.monotonic()
    home.sandbox.answer()
    assert running.wait().exit == code
    assert time.monotonic() - began < A_MOMENT_SECONDS
    assert len(home.sandbox.entries()) == 3
    home.audit().assert_sound(open=3)
    assert home.states() == {"sent": 3, "queued": 3}
    assert home.read("SELECT owner FROM lease") == [(None,)]
    assert list(home.folder.glob("*.lock")) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_second_signal_leaves_at_once(
    number: signal.Signals, code: int, make_home: Callable[..., Household]
) -> None:
    """Row 5; promise P4: unknown is what was in flight, and only that."""
    home = make_home(WA_CONCURRENCY="2")
    home.sandbox.fault("hang", times=2)
    home.queue(4)
    daemon = home.daemon()
    home.sandbox.wait_for_posts(2)
    daemon.signal(number)
    daemon.wait_for_line("finishing what is in flight")
    daemon.signal(number)
    began = time.monotonic()
    assert daemon.wait().exit == code
    assert time.monotonic() - began < A_MOMENT_SECONDS
    assert home.wa("drain").exit == 0
    home.audit().assert_sound(unknown=2)


def lease_ended(home: Household) -> bool:
    ((expires_at,),) = home.read("SELECT expires_at FROM lease")
    return bool(time.time() * 1000 > expires_at)


def is_stopped(running: Running) -> bool:
    with open(f"/proc/{running.pid}/stat") as status:
        return status.read().rpartition(")")[2].split()[0] == "T"


def test_a_daemon_frozen_for_three_leases_neither_posts_nor_records(make_home: Callable[..., Household]) -> None:
    """Row 8; promises P2, P3, P4: another worker takes over; the late answers count as evidence only."""
    home = make_home(*HELD, WA_CONCURRENCY="2", WA_LEASE_MS="3000", WA_READ_TIMEOUT_MS="600000")
    home.queue(6)
    frozen = home.daemon()
    home.sandbox.wait_for_posts(2)
    frozen.signal(signal.SIGSTOP)
    until(lambda: is_stopped(frozen), "the freeze")
    frozen_at = time.monotonic()
    until(lambda: lease_ended(home), "the end of the lease")
    home.sandbox.answer()
    assert home.wa("drain", "--json", env=LONG_LEASE).json()["sent"] == 4
    home.audit().assert_sound(unknown=2)
    until(lambda: time.monotonic() - frozen_at > 3 * LEASE_SECONDS, "three leases")
    frozen.signal(signal.SIGCONT)
    frozen.wait_for_line("lease lost: 2 outcomes refused")
    report = home.audit()
    report.assert_sound()
    assert report.states == {"sent": 6}
    assert report.posts == 6
    assert home.read("SELECT value FROM meta WHERE key = 'refused_commits'") == [("2",)]
    # Awake again, it queues up for the lease like anybody else.
    home.queue(1, first=10)
    home.wait_for_states(sent=7)
    home.audit().assert_sound()


def test_a_daemon_frozen_between_its_commit_and_its_posts_does_not_post(make_home: Callable[..., Household]) -> None:
    """Row 8; promise P2: a machine that slept over its lease must not start what it had committed before."""
    home = make_home(WA_CONCURRENCY="2", WA_LEASE_MS="3000", MAX_SENDS_PER_SECOND_PER_INSTANCE="0")
    home.queue(4)
    frozen = home.start("run", env={"WA_CUT": "turn_after_commit:1:stop"})
    frozen.wait_for_line("sending for")
    until(lambda: is_stopped(frozen), "the freeze")
    assert home.states() == {"sending": 2, "queued": 2}
    until(lambda: lease_ended(home), "the end of the lease")
    assert home.wa("drain", "--json", env=LONG_LEASE).json()["sent"] == 2
    home.audit().assert_sound(unknown=2)
    frozen.signal(signal.SIGCONT)
    # It knows that it has not posted, which settles its two unknowns: they were not sent, and may go now.
    frozen.wait_for_line("lease lost: 2 outcomes refused, 2 unknowns settled")
    home.wait_for_states(sent=4)
    report = home.audit()
    report.assert_sound()
    assert report.posts == 4
    assert home.read("SELECT count(*) FROM attempt WHERE error_code = 'lease_ran_out'") == [(2,)]


def test_a_lease_too_short_to_post_in_is_refused(home: Household) -> None:
    """Row 87: a setting that cannot work is an error that names itself."""
    refused = home.wa("status", "--json", env={"WA_LEASE_MS": "500"})
    assert (refused.exit, refused.error()["code"]) == (2, "setting")
    assert "WA_LEASE_MS" in refused.error()["message"]
