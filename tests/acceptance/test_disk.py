"""A disk that fills up, before and after a post: nothing is posted whose result could not be recorded."""

from __future__ import annotations

import resource
import signal
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from rig import HELD, Household, Sandbox, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DISK_BYTES = 1_000_000


class SmallDisk:
    """A file system of a megabyte, mounted for one test, that can be filled to the last byte."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """No page is left, for anybody."""
        with open(self.folder / "ballast", "ab", buffering=0) as ballast, suppress(OSError):
            for size in (65_536, 4_096, 1):
                with suppress(OSError):
                    while True:
                        ballast.write(bytes(size))

    def free(self) -> None:
        (self.folder / "ballast").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    yield SmallDisk(folder)
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def make_tight(disk: SmallDisk, tmp_path: Path) -> Iterator[Callable[..., Household]]:
    """Like make_home, with the database on the small disk and the sandbox's ledger elsewhere."""
    homes: list[Household] = []

    def make(*sandbox_flags: str, **settings: str) -> Household:
        homes.append(Household(tmp_path, Sandbox(tmp_path, *sandbox_flags), db=disk.folder / "wa.db", **settings))
        return homes[-1]

    yield make
    for home in homes:
        home.end()


def test_an_enqueue_on_a_full_disk_queues_nothing_and_names_the_file(
    disk: SmallDisk, make_tight: Callable[..., Household]
) -> None:
    """Promise P1; row 14: exit 9, and the same call works once there is space."""
    home = make_tight()
    home.queue(2)
    disk.fill()
    words = ("send", "to", "+6581230100", "--text", "too much", "--json")
    refused = home.wa(*words)
    assert refused.exit == 9, refused
    assert str(home.db) in refused.error()["message"]
    assert "Traceback" not in refused.err
    disk.free()
    home.audit().assert_sound(open=2)
    home.acknowledge(home.wa(*words))
    assert home.wa("drain").exit == 0
    home.audit().assert_sound()
    assert home.states() == {"sent": 3}


def test_a_first_run_on_a_full_disk_leaves_no_database(disk: SmallDisk, make_tight: Callable[..., Household]) -> None:
    """Promise P10; row 14."""
    home = make_tight()
    disk.fill()
    refused = home.wa("send", "to", "+6581230100", "--text", "too much", "--json")
    assert refused.exit == 9, refused
    assert str(home.db) in refused.error()["message"]
    assert [path.name for path in disk.folder.iterdir()] == ["ballast"]
    disk.free()
    home.queue(1)
    home.audit().assert_sound(open=1)


def test_a_drain_on_a_full_disk_posts_nothing(disk: SmallDisk, make_tight: Callable[..., Household]) -> None:
    """Promise P6; row 14."""
    home = make_tight()
    home.queue(2)
    disk.fill()
    refused = home.wa("drain", "--json")
    assert refused.exit == 9, refused
    assert str(home.db) in refused.error()["message"]
    assert home.sandbox.entries() == []
    disk.free()
    assert home.wa("drain").exit == 0
    home.audit().assert_sound()


def test_a_daemon_on_a_disk_that_fills_up_posts_nothing_until_there_is_space(
    disk: SmallDisk, make_tight: Callable[..., Household]
) -> None:
    """Promise P6; rows 14, 20: nothing in flight, nothing posted; it goes on by itself."""
    home = make_tight()
    home.queue(3, "--delay", "5000")
    daemon = home.daemon()
    home.wait_for_states(sent=1, queued=2)
    disk.fill()
    daemon.wait_for_line("nothing is sent until it answers again")
    ((due_at_ms,),) = home.read("SELECT max(due_at) FROM message")
    until(lambda: time.time() * 1000 > due_at_ms, "both of the rest to be due")
    time.sleep(2.0)  # a negative claim: by now they would have left
    assert len(home.sandbox.entries()) == 1
    disk.free()
    daemon.wait_for_line("store: answers again")
    home.wait_for_states(sent=3)
    home.audit().assert_sound()


def test_a_result_that_finds_the_disk_full_is_kept_and_recorded_later(
    disk: SmallDisk, make_tight: Callable[..., Household]
) -> None:
    """Promises P3, P6; row 15: meanwhile nothing else is posted."""
    home = make_tight(*HELD, WA_CONCURRENCY="2", MAX_SENDS_PER_SECOND_PER_INSTANCE="0")
    home.queue(6)
    daemon = home.daemon()
    home.sandbox.wait_for_posts(2)
    disk.fill()
    home.sandbox.answer()
    daemon.wait_for_line("nothing is sent until it answers again")
    time.sleep(1.5)  # a negative claim: both slots are free, and stay so
    assert len(home.sandbox.entries()) == 2
    assert home.states() == {"sending": 2, "queued": 4}
    disk.free()
    home.wait_for_states(sent=6)
    home.audit().assert_sound()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_daemon_that_ends_with_results_it_could_not_record_leaves_them_unknown(
    end: signal.Signals, disk: SmallDisk, make_tight: Callable[..., Household]
) -> None:
    """Promises P4, P6; rows 4, 15: one unknown for each post in flight; SIGTERM waits a little, then says exit 9."""
    home = make_tight(*HELD, WA_CONCURRENCY="2")
    home.queue(5)
    daemon = home.daemon()
    home.sandbox.wait_for_posts(2)
    disk.fill()
    home.sandbox.answer()
    daemon.wait_for_line("nothing is sent until it answers again")
    daemon.signal(end)
    ran = daemon.wait()
    assert ran.exit == (9 if end is signal.SIGTERM else -end), ran.err
    disk.free()
    assert home.wa("drain").exit == 0
    report = home.audit()
    report.assert_sound(unknown=2)
    assert report.posts == 5


@pytest.mark.parametrize("kilobytes", [4, 20, 36, 64])
def test_a_limit_on_the_size_of_files_is_met_like_a_full_disk(kilobytes: int, home: Household) -> None:
    """Promises P1, P6; rows 16, 17: exit 9 with a clear text, at most what was in flight is unknown."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, kilobytes * 1024))

    home.settings["WA_CONCURRENCY"] = "1"
    home.queue(12)
    tight = home.wa("drain", "--json", preexec_fn=limit)
    assert tight.exit == 9, tight
    assert str(home.db) in tight.error()["message"]
    assert "Traceback" not in tight.err
    home.audit().assert_sound(unknown=None, open=None)
    drained = home.wa("drain", "--json")
    assert drained.exit == 0, drained.err
    report = home.audit()
    report.assert_sound(unknown=None)
    assert len(report.unknown) <= 1
    assert report.posts <= 12
