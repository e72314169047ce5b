"""`wa status` and `wa watch`: numbers that add up, and what to type about what is wrong."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from stored import ACCEPTED, ADA, BEN, EVA, UNREADABLE, enqueue, finish, send, start_all, take_lease

from tests.processes import clean_environment
from wa_cli.cli.status import describe_span
from wa_cli.domain.outcome import ErrorClass, Rejected
from wa_cli.domain.retry import Rest, Stop

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Wa

    from wa_cli.bootstrap import App

ACCOUNT = {
    "WHATSAPP_API_URL": "http://127.0.0.1:9/v25.0/106540352242922/messages",
    "WHATSAPP_ACCESS_TOKEN": "EAAcanaryTOKENcanary0123456789",
}
DEAD_NUMBER = Rejected(error_class=ErrorClass.DEAD_RECIPIENT, code="131026", details="undeliverable", http_status=400)
BUSY = Rejected(error_class=ErrorClass.RETRY, code="131000", details="try again", http_status=500)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ACCOUNT.items():
        monkeypatch.setenv(name, value)


def problem_codes(wa: Wa) -> list[str]:
    return [problem["code"] for problem in wa("status", "--json").json()["problems"]]


def test_without_a_database_status_says_what_to_type_and_exits_0(wa: Wa) -> None:
    result = wa("status", "--json")
    assert result.exit == 0
    assert result.json()["problems"][0]["hint"] == "wa init"
    assert not wa.db.exists()
    assert "wa init" in wa("status").out


def test_every_message_is_in_exactly_one_bucket(wa: Wa, app: App, account: None) -> None:
    """Promise P13; rows T7, S10."""
    send(app, ADA, outcome=ACCEPTED)
    send(app, BEN, outcome=UNREADABLE)
    send(app, EVA, outcome=DEAD_NUMBER)
    send(app, ADA, text="retry me", outcome=BUSY)
    enqueue(app, ADA, BEN, text="later", in_ms=3_600_000)
    document = wa("status", "--json").json()
    assert document["stats"] == {
        "queued": 3,
        "sending": 0,
        "sent": 1,
        "delivered": 0,
        "read": 0,
        "failed": 1,
        "unknown": 1,
        "skipped": 0,
        "expired": 0,
        "cancelled": 0,
    }
    assert document["queue"] == {"waiting": 3}
    assert document["deliveryFailures"] == {"pending": 1}
    assert document["throttling"] == {"activeRateLimits": 3}  # each was written to within the last 6 s
    assert document["daemon"]["running"] is False
    assert document["daemon"]["pid"] is None
    instance = document["instances"][0]
    assert (instance["name"], instance["state"], instance["waiting"]) == ("default", "ready", 3)
    assert (instance["holder"], instance["started_last_minute"]) == (None, 4)
    assert instance["limits"]["per_second"] == 80


def test_each_trouble_comes_with_the_command_that_ends_it(wa: Wa, app: App, account: None) -> None:
    """Promise P4."""
    send(app, ADA, outcome=UNREADABLE)
    send(app, BEN, outcome=DEAD_NUMBER)
    enqueue(app, EVA)
    problems = {problem["code"]: problem["hint"] for problem in wa("status", "--json").json()["problems"]}
    assert problems["unknown_outcomes"] == "wa reconcile"
    assert problems["failed_messages"] == "wa failed list"
    assert problems["nobody_sends"].startswith("wa run")


def test_nothing_wrong_is_no_problem(wa: Wa, app: App, account: None) -> None:
    send(app, ADA, outcome=ACCEPTED)
    enqueue(app, BEN, in_ms=3_600_000)
    assert problem_codes(wa) == []
    assert "problems" not in wa("status").out


def test_a_missing_account_is_a_problem(wa: Wa, app: App) -> None:
    assert problem_codes(wa) == ["no_account"]
    assert wa("status", "--json").json()["instances"][0]["state"] == "no_account"


def test_a_platform_stop_is_shown_with_its_reason_and_the_way_on(wa: Wa, app: App, account: None) -> None:
    enqueue(app, ADA)
    instance_id = app.find_instance().id
    with app.queue.turn() as turn:
        turn.apply_effect(instance_id, Stop(code="190", reason="the token has expired"), now_ms=app.clock.wall_ms())
    document = wa("status", "--json").json()
    assert document["instances"][0]["state"] == "paused"
    (problem,) = document["problems"]
    assert problem["code"] == "instance_paused"
    assert "the token has expired (code 190)" in problem["message"]
    assert "1 message waiting" in problem["message"]
    assert problem["hint"].endswith("wa instance resume default")
    screen = wa("status").out
    assert "the token has expired" in screen
    assert "wa instance resume default" in screen


def test_a_resting_instance_says_until_when_and_why(wa: Wa, app: App, account: None) -> None:
    instance_id = app.find_instance().id
    with app.queue.turn() as turn:
        turn.apply_effect(instance_id, Rest(seconds=60, reason="too fast"), now_ms=app.clock.wall_ms())
    instance = wa("status", "--json").json()["instances"][0]
    assert (instance["state"], instance["reason"]) == ("resting", "too fast")
    assert instance["rests_until"].endswith("Z")


def test_a_dismissed_failure_is_counted_and_is_no_problem_any_more(wa: Wa, app: App, account: None) -> None:
    """Promise P13."""
    (message_id,) = send(app, ADA, outcome=DEAD_NUMBER)
    assert wa("failed", "dismiss", f"m{message_id}").exit == 0
    document = wa("status", "--json").json()
    assert document["stats"]["failed"] == 1
    assert document["problems"] == []


def test_what_a_dead_process_left_is_unknown_before_it_is_counted(wa: Wa, app: App, account: None) -> None:
    """Promises P3, P4."""
    from wa_cli.bootstrap import open_app

    enqueue(app, ADA)
    other = open_app(app.settings, create=False)
    start_all(other, take_lease(other))
    assert wa("status", "--json").json()["stats"]["sending"] == 1  # its process lives
    other.close()  # as when it dies: the lock is gone, nothing was recorded
    stats = wa("status", "--json").json()["stats"]
    assert (stats["sending"], stats["unknown"]) == (0, 1)


def test_a_daemon_is_known_by_its_lease(wa: Wa, app: App, account: None) -> None:
    take_lease(app, role="daemon")
    document = wa("status", "--json").json()
    assert document["daemon"]["running"] is True
    assert document["daemon"]["pid"] == os.getpid()
    assert document["instances"][0]["holder"]["role"] == "daemon"
    assert f"running (pid {os.getpid()}" in wa("status").out


def test_the_screen_fits_80_columns_and_shows_no_control_characters(wa: Wa, app: App, account: None) -> None:
    send(app, ADA, outcome=UNREADABLE)
    reason = "mended \x1b]0;title\x07 tomorrow, " + "because the invoice has not been paid yet " * 4
    assert wa("instance", "pause", "--reason", reason).exit == 0
    screen = wa("status").out
    assert max(map(len, screen.splitlines())) <= 80
    assert "\x1b" not in screen
    assert "\x07" not in screen


def test_watch_without_a_terminal_writes_one_line_for_each_change(wa: Wa, app: App, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WA_", "WHATSAPP_"))}
    with subprocess.Popen(
        [sys.executable, "-m", "wa_cli", "--db", str(wa.db), "watch"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment | ACCOUNT,
    ) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert "nothing queued, no daemon" in watching.stdout.readline()
        enqueue(app, ADA, BEN, in_ms=60_000)
        assert "2 queued, no daemon" in watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        assert watching.wait(60) == 0
        assert watching.stderr.read() == ""
        assert watching.stdout.read() == ""


def test_watch_stops_after_so_many_looks(wa: Wa, app: App) -> None:
    assert wa("watch", "--count", "1", "--json").json()["queue"] == {"waiting": 0}
    assert wa("watch", "--count", "1", "--every", "soon").exit == 2


@pytest.mark.parametrize(
    ("ms", "words"), [(0, "0 s"), (59_999, "59 s"), (3_720_000, "1 h 2 min"), (90_000_000, "1 d 1 h"), (-5, "0 s")]
)
def test_a_length_of_time_is_told_in_two_units(ms: int, words: str) -> None:
    assert describe_span(ms) == words


def test_counting_does_not_grow_with_what_was_sent(wa: Wa, app: App) -> None:
    """Status reads the tally and the last minute, however many messages there are."""
    lease = take_lease(app)
    for start in range(0, 20_000, 1_000):
        enqueue(app, *(f"+6581{start + number:06d}" for number in range(1_000)), text=f"t{start}")
        finish(app, start_all(app, lease), ACCEPTED)
    assert _count_steps(app) < 5_000


def _count_steps(app: App) -> int:
    """How many hundreds of virtual machine steps the counts of a status take."""
    steps = 0

    def tick() -> int:
        nonlocal steps
        steps += 1
        return 0

    now_ms = app.clock.wall_ms() + 3_600_000
    app.database.connection.set_progress_handler(tick, 100)
    try:
        app.messages.read_stats()
        app.upkeep.read_depths()
        app.upkeep.read_starts(1, since_ms=now_ms - 60_000)
        app.messages.next_due_at_ms(1)
    finally:
        app.database.connection.set_progress_handler(None, 100)
    return steps * 100


def test_the_time_of_a_report_is_utc(wa: Wa, app: App) -> None:
    before = time.gmtime()
    at = wa("status", "--json").json()["checked_at"]
    assert at.endswith("Z")
    assert time.strftime("%Y-%m-%dT%H:%M", before) <= at <= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def test_what_the_platform_told_us_afterwards_is_among_the_problems(wa: Wa, app: App) -> None:
    """Issue 4, point 3: a double, a held template and a webhook that could not be read, each with its way out."""
    wa("send", "to", "+6581230001", "--text", "Hello")
    now_ms = app.clock.wall_ms()
    with app.database.write() as connection:
        connection.execute(
            "INSERT INTO decision (message_id, at, rule) VALUES (1, ?, 'proven_duplicate')", (now_ms - 60_000,)
        )
        connection.execute(
            "INSERT INTO template_hold VALUES (1, 'spring_sale', 'en_US', ?, ?, '132015 paused')",
            (now_ms, now_ms + 3 * 3_600_000),
        )
        connection.execute(
            """INSERT INTO webhook_logs (received_at, provider, is_signed, body, status)
            VALUES (?, 'cloud_api', 1, x'7b', 'failed')""",
            (now_ms,),
        )
    problems = {one["code"]: one for one in wa("status", "--json").json()["problems"]}
    assert problems["proven_duplicate"]["hint"] == "wa message explain m1"
    assert "spring_sale (en_US) is held for another 180 min" in problems["template_held"]["message"]
    assert problems["webhooks_failed"]["hint"] == "wa webhook list --status failed"
    assert "went out twice" in wa("status").out


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("columns", [60, 80])
def test_nothing_is_cut_on_a_terminal_however_narrow(wa: Wa, app: App, columns: int) -> None:
    """Issue 4: `next send in 59 m...` was no answer at 60 columns."""
    wa("send", "to", "+6581230001", "--text", "Hello", "--at", "in 2h")
    with app.database.write() as connection:
        connection.execute("UPDATE instance SET name = 'singapore-reception'")
        connection.execute("UPDATE tally SET n = 123456789")
        connection.execute("INSERT INTO tally SELECT id, 'failed', 'failed', 123456789 FROM instance")
    environment = clean_environment(wa.folder) | {"TERM": "xterm", "LANG": "C.UTF-8", "WA_DB": str(wa.db)}
    environment.pop("COLUMNS", None)  # the terminal is asked
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-m", "wa_cli", "status"], env=environment, cwd=wa.folder, stdin=slave, stdout=slave
    ) as process:
        os.close(slave)
        seen = b""
        with suppress(OSError):  # the way a terminal says that the last writer has gone
            while part := os.read(master, 65_536):
                seen += part
    os.close(master)
    assert process.returncode == 0
    screen = seen.decode().replace("\r", "")
    assert max(map(len, screen.splitlines())) <= columns
    assert "…" not in screen
    words = " ".join(screen.split())
    for told in ("0/1 ready", "next send in 1 h 59 min", "123,456,789 waiting", "123,456,789 failed", "0 cancelled"):
        assert told in words
