"""Leases: who may send for an instance, who is dead, and what a dead sender's messages become."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from world import Worker, World, open_world

from wa_cli.domain.message import OnUnknown, State
from wa_cli.errors import Temporary
from wa_cli.ports import LEASE_MS, Holder, Lease
from wa_cli.store.sqlite.database import Database
from wa_cli.store.sqlite.leases import SqliteLeases
from wa_cli.store.sqlite.owners import Owner, is_alive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MINUTE = 60_000

# Takes the lease of instance 1, says so, and waits to be told to start the messages that are due or to die.
HOLDER = """
import sys
from pathlib import Path
from wa_cli.ports import Lease
from wa_cli.store.sqlite.database import Database
from wa_cli.store.sqlite.leases import SqliteLeases
from wa_cli.store.sqlite.owners import Owner
from wa_cli.store.sqlite.queue import SqliteQueue

path, now_ms = Path(sys.argv[1]), int(sys.argv[2])
database = Database.open(path, create=False)
owner = Owner(path)
lease = SqliteLeases(database, owner).acquire(1, role="daemon", now_ms=now_ms)
print("lease" if isinstance(lease, Lease) else "holder", flush=True)
for order in sys.stdin:
    if order.strip() == "start":
        with SqliteQueue(database).turn() as turn:
            rows = turn.read_due(1, 1 << 40, now_ms=now_ms, limit=100)
            turn.start(rows, lease=lease, now_ms=now_ms, spaced_batches=())
        print(len(rows), flush=True)
    else:
        SqliteLeases(database, owner).release(lease)
        owner.close()
        print("released", flush=True)
"""


class OtherProcess:
    """A real process that holds the lease."""

    def __init__(self, world: World) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(world.database.path), str(world.now_ms)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self.answer = self._read()

    def order(self, word: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self.wait()

    def stop_for_now(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def wait(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=60)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path, on_disk=True) as opened:
        yield opened
        assert opened.find_faults() == []


@pytest.fixture
def stranger(world: World) -> Iterator[Owner]:
    """Another process of this machine, played by this one."""
    owner = Owner(world.database.path)
    yield owner
    owner.close()


def test_the_first_to_ask_gets_the_lease_and_the_first_epoch(world: World) -> None:
    lease = world.take_lease()
    assert (lease.instance_id, lease.instance, lease.epoch) == (1, "default", 1)
    assert lease.expires_at_ms == world.now_ms + LEASE_MS


def test_the_second_is_told_who_holds_it_and_since_when(world: World, stranger: Owner) -> None:
    taken_at = world.now_ms
    world.take_lease("daemon")
    world.clock.advance(10_000)
    answer = SqliteLeases(world.database, stranger).acquire(1, role="drain", now_ms=world.now_ms)
    assert answer == Holder(role="daemon", pid=os.getpid(), host=socket.gethostname(), since_ms=taken_at)
    assert world.value("SELECT epoch FROM lease") == 1


def test_a_released_lease_is_free_at_once(world: World, stranger: Owner) -> None:
    """Promise P9."""
    world.leases.release(world.take_lease())
    assert world.leases.find_holder(1, now_ms=world.now_ms) is None
    answer = SqliteLeases(world.database, stranger).acquire(1, role="drain", now_ms=world.now_ms)
    assert isinstance(answer, Lease)
    assert answer.epoch == 2


def test_an_old_lease_cannot_be_released_over_a_newer_one(world: World, stranger: Owner) -> None:
    old = world.take_lease()
    world.clock.advance(LEASE_MS)
    new = SqliteLeases(world.database, stranger).acquire(1, role="drain", now_ms=world.now_ms)
    assert isinstance(new, Lease)
    world.leases.release(old)
    holder = world.leases.find_holder(1, now_ms=world.now_ms)
    assert holder is not None
    assert holder.role == "drain"


def test_a_lease_that_ran_out_is_free_though_its_holder_lives(world: World, stranger: Owner) -> None:
    """Fault 8: it may be frozen."""
    world.take_lease()
    world.clock.advance(LEASE_MS - 1)
    leases = SqliteLeases(world.database, stranger)
    assert isinstance(leases.acquire(1, role="drain", now_ms=world.now_ms), Holder)
    world.clock.advance(1)
    assert isinstance(leases.acquire(1, role="drain", now_ms=world.now_ms), Lease)


def test_a_killed_holder_is_replaced_at_once(world: World) -> None:
    """Promise P9: not after the lease has run out."""
    other = OtherProcess(world)
    assert other.answer == "lease"
    assert isinstance(world.leases.acquire(1, role="drain", now_ms=world.now_ms), Holder)
    other.kill()
    assert world.leases.find_holder(1, now_ms=world.now_ms) is None
    lease = world.leases.acquire(1, role="drain", now_ms=world.now_ms)
    assert isinstance(lease, Lease)
    assert lease.epoch == 2


def test_a_stopped_holder_is_no_dead_one(world: World) -> None:
    """Fault 8: SIGSTOP; only its lease may run out."""
    other = OtherProcess(world)
    other.stop_for_now()
    answer = world.leases.acquire(1, role="drain", now_ms=world.now_ms)
    assert isinstance(answer, Holder)
    assert answer.pid == other.pid
    other.kill()


def test_what_a_killed_process_was_sending_becomes_unknown_and_never_queued(world: World) -> None:
    """Promises P2, P4; fault 1."""
    ids = world.send_later("a", "b", "c")
    other = OtherProcess(world)
    assert other.order("start") == "3"
    assert world.states() == [State.SENDING] * 3
    other.kill()
    world.take_lease("drain")
    assert world.states() == [State.UNKNOWN] * 3
    (attempt,) = world.attempts(ids[0])
    assert (attempt.outcome, attempt.error_code, attempt.epoch) == ("ambiguous", "worker_died", 1)
    assert world.row(ids[0]).attempts == 1


def test_a_process_that_ended_well_leaves_no_lock_behind(world: World) -> None:
    other = OtherProcess(world)
    assert other.order("release") == "released"
    other.wait()
    assert list(world.folder.glob("*-owner-*")) == []


def test_burial_from_outside_finds_what_the_dead_left_and_leaves_the_living_alone(world: World) -> None:
    """Promise P4: `wa status` says so without sending anything."""
    world.send_later("a", "b")
    other = OtherProcess(world)
    other.order("start")
    assert world.leases.bury_dead(now_ms=world.now_ms) == 0
    assert world.states() == [State.SENDING] * 2
    other.kill()
    assert world.leases.bury_dead(now_ms=world.now_ms) == 2
    assert world.states() == [State.UNKNOWN] * 2
    assert world.leases.bury_dead(now_ms=world.now_ms) == 0


def test_after_a_burial_from_outside_the_frozen_holder_may_not_go_on(world: World, stranger: Owner) -> None:
    """Promise P2; fault 8."""
    world.transport.latency_ms = 10_000.0
    world.send_later("a", "b", delay_ms=60_000)
    worker = Worker(world)
    worker.run_for(1_000)
    world.clock.advance(2 * LEASE_MS)
    assert SqliteLeases(world.database, stranger).bury_dead(now_ms=world.now_ms) == 1
    worker.run_for(2 * MINUTE)
    worker.end()
    assert world.transport.bodies == ["a"]


@pytest.mark.parametrize(
    ("policy", "state"), [(OnUnknown.HOLD, "unknown"), (OnUnknown.RESEND, "unknown"), (OnUnknown.SKIP, "skipped")]
)
def test_a_burial_follows_the_policy_of_the_message(world: World, policy: OnUnknown, state: str) -> None:
    (message_id,) = world.send_later("a", on_unknown=policy)
    other = OtherProcess(world)
    other.order("start")
    other.kill()
    world.take_lease()
    row = world.row(message_id)
    assert (row.state, row.reason, row.error_code) == (state, "outcome_unknown", "worker_died")


def test_a_holder_on_another_machine_lives_until_its_lease_runs_out(world: World) -> None:
    """Fault 44: its lock file cannot be seen from here."""
    world.take_lease()
    world.execute("UPDATE lease SET host = 'elsewhere', owner = 'somebody'")
    assert isinstance(world.leases.acquire(1, role="drain", now_ms=world.now_ms), Holder)
    assert world.leases.bury_dead(now_ms=world.now_ms) == 0
    world.clock.advance(LEASE_MS)
    assert isinstance(world.leases.acquire(1, role="drain", now_ms=world.now_ms), Lease)


def test_one_process_may_take_its_own_lease_anew(world: World) -> None:
    first, second = world.take_lease(), world.take_lease()
    assert (first.epoch, second.epoch) == (1, 2)


def test_epochs_never_go_back(world: World) -> None:
    """Promise P2."""
    epochs = []
    for _turn in range(5):
        lease = world.take_lease()
        epochs.append(lease.epoch)
        world.leases.release(lease)
        world.leases.bury_dead(now_ms=world.now_ms)
    assert epochs == sorted(set(epochs))


def test_of_many_processes_exactly_one_gets_the_lease(world: World) -> None:
    """Faults 37, 39."""
    others = [OtherProcess(world) for _process in range(4)]
    assert sorted(other.answer for other in others) == ["holder", "holder", "holder", "lease"]
    for other in others:
        other.kill()


def test_a_clock_far_behind_the_last_message_gets_no_lease(world: World) -> None:
    """Fault 32."""
    world.send_later("a")
    world.drain()
    world.clock.jump(-3_600_000)
    with pytest.raises(Temporary) as caught:
        world.leases.acquire(1, role="daemon", now_ms=world.now_ms)
    assert caught.value.code == "clock_behind"
    world.clock.jump(3_600_000 - 60_000)
    assert isinstance(world.leases.acquire(1, role="daemon", now_ms=world.now_ms), Lease)


# --- lock files ----------------------------------------------------------------------------------------------------


def test_a_token_is_alive_from_its_first_use_until_it_is_closed(tmp_path: Path) -> None:
    owner = Owner(tmp_path / "wa.db")
    assert owner.peek() is None
    assert list(tmp_path.iterdir()) == []
    token = owner.token
    assert owner.peek() == token
    assert is_alive(tmp_path / "wa.db", token)
    owner.close()
    assert not is_alive(tmp_path / "wa.db", token)
    assert list(tmp_path.iterdir()) == []


def test_the_lock_file_of_a_dead_process_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "wa.db-owner-0123456789ab.lock").touch()
    assert not is_alive(tmp_path / "wa.db", "0123456789ab")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="modes of files are POSIX")
def test_a_lock_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    owner = Owner(tmp_path / "wa.db")
    (lock,) = tmp_path.iterdir() if owner.token else ()
    assert lock.stat().st_mode & 0o777 == 0o600
    owner.close()


def test_a_lease_is_seen_by_every_connection_once_it_is_committed(world: World, stranger: Owner) -> None:
    world.take_lease()
    other = Database.open(world.database.path, create=False)
    holder = SqliteLeases(other, stranger).find_holder(1, now_ms=world.now_ms)
    assert holder is not None
    assert holder.pid == os.getpid()
    other.close()
