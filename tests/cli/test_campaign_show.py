"""`wa campaign show` and `wa campaign watch`: numbers that add up, and what to type next."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.ledger import MINUTE, Ledger, number
from tests.processes import clean_environment
from wa_cli.domain.campaign import CampaignState
from wa_cli.services.documents import format_time

if TYPE_CHECKING:
    from conftest import Wa

    from wa_cli.bootstrap import App


@pytest.fixture
def ledger(app: App) -> Ledger:
    """A campaign under way: 3 read, 1 failed, 2 waiting, 2 left out."""
    built = Ledger(app.database, now_ms=app.clock.wall_ms())
    built.start_run()
    batch = built.add_batch()
    for n in range(3):
        built.add(number(n), batch, "sent", "read")
    built.add(number(3), batch, "failed", error_code="131026", reason="permanent")
    for n in (4, 5):
        built.add(number(n), batch, due_at=built.now_ms + 10 * MINUTE)
    built.leave_out(number(6), "opted_out")
    built.leave_out(None, "invalid", "line 7")
    return built


def test_show_tells_everything_in_one_document(wa: Wa, ledger: Ledger) -> None:
    """Issue 5, point 8; rows Q6, Q7; promise P13."""
    ledger.write_back(number(0), at=ledger.now_ms)
    result = wa("campaign", "show", "spring-sale", "--json")
    assert result.exit == 0
    document = result.json()
    assert set(document) == {
        "name", "state", "path", "created_at", "started_at", "ended_at", "eta", "duration_seconds", "paused",
        "next_occurrence_at", "run", "audience", "buckets", "left_out", "ledger_error", "funnel", "replied",
        "opted_out", "clicked", "clicks", "previews", "rate", "failures", "sends", "runs", "changes", "problems",
        "pruned_at",
        "commands",
        "checked_at",
    }  # fmt: skip
    assert (document["name"], document["state"], document["audience"]) == ("spring-sale", "running", 8)
    assert document["buckets"] == {
        "queued": 2, "held": 0, "sending": 0, "sent": 0, "delivered": 0, "read": 3, "failed": 1, "skipped": 2,
        "expired": 0, "cancelled": 0, "unknown": 0,
    }  # fmt: skip
    assert sum(document["buckets"].values()) == document["audience"]
    assert document["left_out"] == {"invalid": 1, "opted_out": 1}
    assert document["ledger_error"] is None
    assert {step["step"]: step["count"] for step in document["funnel"]} == {
        "recipients": 8, "sent": 3, "delivered": 3, "read": 3, "replied": 1, "failed": 1, "opted_out": 0, "unknown": 0,
    }  # fmt: skip
    (failure,) = document["failures"]
    assert (failure["code"], failure["count"], failure["example"]) == ("131026", 1, "m4")
    assert failure["meaning"]
    assert failure["fix"]
    assert document["sends"]["counts"] == [4]
    assert document["eta"].endswith("Z")
    assert document["problems"] == [
        {"message": "nobody sends for default", "hint": "wa run   (or from cron: wa drain)"}
    ]
    assert document["commands"][:3] == [f"wa campaign {verb} spring-sale" for verb in ("watch", "pause", "cancel")]
    assert document["changes"][0]["to"] == "draft"


def test_show_is_a_screen_for_people(wa: Wa, ledger: Ledger) -> None:
    screen = wa("campaign", "show", "spring-sale").out
    for words in (
        "spring-sale  running",
        "recipients  8  100.0%",
        "ledger  2 queued + 3 read + 1 failed + 2 skipped = 8",
        "of these left out before sending: 1 invalid, 1 opted out",
        "1  131026",
        "wa resend --campaign spring-sale",
    ):
        assert words in screen
    assert max(map(len, screen.splitlines())) <= 80


def test_a_paused_campaign_says_who_paused_it_and_holds_what_waits(wa: Wa, ledger: Ledger, app: App) -> None:
    """Issue 5, point 6."""
    with app.database.write() as connection:
        connection.execute(
            """UPDATE campaign SET state = 'paused', paused_by = 'wa', pause_code = 'failure_rate',
            pause_reason = '30 % of the last 20 failed'"""
        )
    ledger.hold()
    document = wa("campaign", "show", "spring-sale", "--json").json()
    assert document["paused"] == {"by": "wa", "code": "failure_rate", "reason": "30 % of the last 20 failed"}
    assert (document["buckets"]["held"], document["buckets"]["queued"], document["eta"]) == (2, 0, None)
    assert document["commands"][0] == "wa campaign resume spring-sale"
    assert "paused   by wa: 30 % of the last 20 failed" in wa("campaign", "show", "spring-sale").out


def test_the_last_steps_are_told_with_who_took_them_and_why(wa: Wa, ledger: Ledger, app: App) -> None:
    """Issue 5, point 6: every transition is recorded with actor and reason."""
    campaign = app.campaigns.find("spring-sale")
    app.campaigns.step(campaign.id, CampaignState.PAUSED, actor="eva", reason="a wrong price", now_ms=ledger.now_ms)
    assert "paused, by eva: a wrong price" in wa("campaign", "show", "spring-sale").out
    assert wa("campaign", "show", "spring-sale", "--json").json()["changes"][-1] == {
        "at": format_time(ledger.now_ms),
        "from": "running",
        "to": "paused",
        "actor": "eva",
        "reason": "a wrong price",
    }


def test_a_draft_has_nothing_to_show_but_what_to_type(wa: Wa, app: App) -> None:
    Ledger(app.database, state="draft")
    result = wa("campaign", "show", "spring-sale")
    assert result.exit == 0
    assert "nothing of it has been let go yet" in result.out
    assert "wa campaign start spring-sale" in result.out
    watched = wa("campaign", "watch", "spring-sale")
    assert watched.exit == 0
    assert "wa campaign start spring-sale" in watched.err


def test_a_campaign_that_does_not_exist_exits_2(wa: Wa, app: App) -> None:
    error = wa("campaign", "show", "spring", "--json").error()
    assert (error["code"], error["exit"]) == ("no_campaign", 2)


def test_a_recurring_campaign_lists_its_runs_and_shows_one_by_its_occurrence(wa: Wa, app: App) -> None:
    """Issue 5, point 5."""
    ledger = Ledger(app.database, state="scheduled", now_ms=app.clock.wall_ms())
    for day in (16, 23):
        ledger.start_run(f"2026-11-{day}T09:00", state="finished", ended_at=ledger.now_ms)
        ledger.add(number(day), ledger.add_batch(), "sent", "read" if day == 16 else "delivered")
    document = wa("campaign", "show", "spring-sale", "--json").json()
    assert document["run"]["occurrence"] == "2026-11-23T09:00"
    assert [(run["occurrence"], run["accepted"]) for run in document["runs"]] == [
        ("2026-11-23T09:00", 1),
        ("2026-11-16T09:00", 1),
    ]
    earlier = wa("campaign", "show", "spring-sale", "--run", "2026-11-16T09:00", "--json").json()
    assert (earlier["run"]["occurrence"], earlier["buckets"]["read"]) == ("2026-11-16T09:00", 1)
    assert "wa campaign report spring-sale --run 2026-11-16T09:00" in earlier["commands"]
    assert "2026-11-16T09:00  finished  1 of 1 sent" in wa("campaign", "show", "spring-sale").out
    unknown = wa("campaign", "show", "spring-sale", "--run", "2020-01-01T00:00", "--json")
    assert (unknown.exit, unknown.error()["code"]) == (2, "no_run")


def test_watch_without_a_terminal_prints_a_line_per_change(
    wa: Wa, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 5, point 8."""
    monkeypatch.setattr("wa_cli.cli.campaign_show.time.sleep", lambda _seconds: None)
    result = wa("campaign", "watch", "spring-sale", "--count", "2")
    assert result.exit == 0
    (line,) = result.out.splitlines()
    assert "running: 3 of 8 sent (37.5%), 2 queued, 3 read, 1 failed, 2 skipped" in line


@pytest.mark.parametrize(("state", "code"), [("failed", 3), ("unknown", 5), ("sent", 0)])
def test_watch_ends_with_the_campaign_and_its_exit_code_says_how_it_went(
    wa: Wa, app: App, state: str, code: int
) -> None:
    """Issue 5, point 8; the exit codes of cli.md."""
    ledger = Ledger(app.database, state="finished")
    ledger.start_run(state="finished")
    ledger.add(number(1), ledger.add_batch(), state)
    ledger.leave_out(number(2), "opted_out")
    assert wa("campaign", "watch", "spring-sale").exit == code
    assert wa("campaign", "watch", "spring-sale", "--json").json()["audience"] == 2


def test_watch_follows_changes_of_other_processes_until_the_end(
    wa: Wa, ledger: Ledger, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter(
        [
            lambda: _set_waiting(app, "sent"),
            lambda: ledger.set_state("finished"),
        ]
    )
    monkeypatch.setattr("wa_cli.cli.campaign_show.time.sleep", lambda _seconds: next(steps)())
    result = wa("campaign", "watch", "spring-sale")
    assert result.exit == 3
    first, second = result.out.splitlines()
    assert "running: 3 of 8 sent" in first
    assert "5 of 8 sent" in second


def _set_waiting(app: App, state: str) -> None:
    with app.database.write() as connection:
        connection.execute("UPDATE message SET state = ? WHERE state = 'queued'", (state,))


def read_to_the_end(terminal: int) -> None:
    with suppress(OSError):  # how Linux says that nobody writes to it any more
        while os.read(terminal, 65_536):
            pass


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_watch_on_a_terminal_is_left_with_ctrl_c_and_loses_nothing(wa: Wa, ledger: Ledger) -> None:
    """Issue 5, point 8: left and rejoined at any time."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "wa_cli", "--db", str(wa.db), "campaign", "watch", "spring-sale"]
    environment = clean_environment(wa.folder) | {"TERM": "xterm", "COLUMNS": "80", "LANG": "C.UTF-8"}
    with subprocess.Popen(
        command, env=environment, cwd=wa.folder, stdout=slave, stdin=slave, stderr=subprocess.PIPE
    ) as watching:
        os.close(slave)
        try:
            seen = b""
            while b"nobody sends for default" not in seen:
                assert select.select([master], [], [], 60)[0], seen
                seen += os.read(master, 65_536)
            watching.send_signal(signal.SIGINT)
            # A terminal goes on reading: one that is full would hold the last words back for ever.
            reading = threading.Thread(target=read_to_the_end, args=(master,))
            reading.start()
            _out, err = watching.communicate(timeout=60)
            reading.join(60)
        finally:
            watching.kill()
            os.close(master)
    assert watching.returncode == 0
    assert "comes back to it" in err.decode()
    assert "recipients" in seen.decode()
    assert "what you can type" not in seen.decode()  # 24 lines have no room for it


def test_words_of_strangers_cannot_steer_the_screen(wa: Wa, ledger: Ledger, app: App) -> None:
    with app.database.write() as connection:
        connection.execute("UPDATE campaign SET state = 'paused', paused_by = 'wa', pause_reason = 'x\x1b[2J'")
        connection.execute("UPDATE message SET error_code = '\x1b]0;owned\x07' WHERE state = 'failed'")
    for words in (("show",), ("watch", "--count", "1")):
        out = wa("campaign", words[0], "spring-sale", *words[1:]).out
        assert "\x1b" not in out
        assert "\x07" not in out


def test_a_campaign_is_named_by_its_file_too(wa: Wa, ledger: Ledger) -> None:
    """A known one is not read again for a look at it, so a file that is gone hides nothing."""
    assert wa("campaign", "show", "campaigns/spring-sale.toml", "--json").json()["name"] == "spring-sale"
