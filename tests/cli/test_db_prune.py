"""`wa db prune`: what it asks, refuses and says."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from stored import ACCEPTED, ADA, BEN, EVA, enqueue, send, take_lease

from tests.ledger import Ledger, number
from wa_cli.bootstrap import open_app
from wa_cli.domain.pruning import LEAST_DAYS, LONGEST_LOOK_BACK_DAYS, least_days

if TYPE_CHECKING:
    from conftest import Wa

    from wa_cli.bootstrap import App

DAY = 86_400_000


@pytest.fixture
def old(app: App) -> App:
    """A database with two messages of 200 days ago, and one of now."""
    send(app, ADA, BEN, outcome=ACCEPTED, text="long ago")
    with app.database.write() as connection:
        for table, column in (
            ("message", "changed_at"),
            ("attempt", "started_at"),
            ("batch", "created_at"),
            ("live_key", "expires_at"),
        ):
            connection.execute(f"UPDATE {table} SET {column} = {column} - ?", (200 * DAY,))
    send(app, EVA, outcome=ACCEPTED, text="just now")
    return app


def count(app: App) -> int:
    return sum(app.messages.read_stats().values())


def test_a_dry_run_says_what_would_go_and_writes_no_row(wa: Wa, old: App) -> None:
    before = wa.db.read_bytes(), wa.db.with_name("wa.db-wal").read_bytes()
    result = wa("db", "prune", "--older-than", "180d", "--dry-run")
    assert result.exit == 0
    lines = result.out.splitlines()
    assert lines[0].startswith("2 messages older than 20")
    assert lines[0].endswith("would go")
    assert lines[1:3] == ["  messages   2 sent", "  with them  2 attempts, 2 keys, 1 call, 1 text"]
    document = wa("db", "prune", "--older-than", "180d", "--dry-run", "--json").json()
    assert (document["dry_run"], document["messages"], document["by_state"]) == (True, 2, {"sent": 2})
    assert (wa.db.read_bytes(), wa.db.with_name("wa.db-wal").read_bytes()) == before


def test_without_a_yes_nothing_goes(wa: Wa, old: App) -> None:
    result = wa("db", "prune", "--older-than", "180d", "--json")
    assert (result.exit, result.error()["code"]) == (6, "not_confirmed")
    assert "--yes" in result.error()["hint"]
    assert count(old) == 3


def test_it_says_what_went_and_every_screen_tells_one_story(wa: Wa, old: App) -> None:
    before = wa("status", "--json").json()
    assert before["pruned"] is None
    result = wa("db", "prune", "--older-than", "180d", "--yes", "--json")
    assert result.exit == 0
    document = result.json()
    assert (document["messages"], document["attempts"], document["contents"], document["kept"]) == (2, 2, 1, {})
    assert 0 <= document["free_bytes"] < document["bytes"]
    after = wa("status", "--json").json()
    assert after["stats"]["sent"] + after["pruned"]["messages"] == before["stats"]["sent"] == 3
    assert after["pruned"]["stats"] == {"sent": 2}
    assert any(line.startswith("pruned   2 more, older than 20") for line in wa("status").out.splitlines())
    assert wa("db", "check").exit == 0
    for command in (("message", "show", "m1"), ("message", "explain", "m1")):
        shown = wa(*command, "--json")
        assert (shown.exit, shown.error()["code"]) == (2, "message_pruned")
        assert "m1 here: it was pruned with what is older than 20" in shown.error()["message"]
    assert ", which were pruned" in wa("contact", "show", ADA).out
    again = wa("db", "prune", "--older-than", "180d", "--yes")
    assert again.out.startswith("0 messages older than")


def test_what_stays_is_said_with_the_command_that_looks_at_it(wa: Wa, old: App) -> None:
    with old.database.write() as connection:
        connection.execute("UPDATE attempt SET outcome = 'rejected' WHERE message_id = 1")
        connection.execute("UPDATE message SET state = 'failed' WHERE id = 1")
    result = wa("db", "prune", "--older-than", "180d", "--yes")
    assert "  stay       1 failed and not dismissed: wa failed list" in result.out.splitlines()


@pytest.mark.parametrize(
    ("words", "least"),
    [
        ({}, LEAST_DAYS),
        ({"WA_DUPLICATE_WINDOW_HOURS": "2400"}, 101),
        ({"WA_KEY_DAYS": "365"}, 366),
        ({"WA_WEBHOOK_DAYS": "90"}, 91),
        ({"WA_WEBHOOK_DAYS": "0"}, LEAST_DAYS),
    ],
)
def test_less_than_everything_that_looks_back_is_refused(
    wa: Wa, old: App, monkeypatch: pytest.MonkeyPatch, words: dict[str, str], least: int
) -> None:
    """Promises P2, P8: what limits, keys and late receipts look back at may not be gone."""
    for name, value in words.items():
        monkeypatch.setenv(name, value)
    result = wa("db", "prune", "--older-than", f"{least - 1}d", "--yes", "--json")
    assert (result.exit, result.error()["code"]) == (2, "too_young")
    assert result.error()["hint"] == f"--older-than {least}d or more"
    assert count(old) == 3
    assert wa("db", "prune", "--older-than", f"{least}d", "--yes").exit == 0


def test_the_least_span_is_well_over_the_longest_look_back() -> None:
    assert least_days(duplicate_window_hours=24, key_days=7, webhook_days=30) == LEAST_DAYS
    assert LEAST_DAYS > 1.5 * LONGEST_LOOK_BACK_DAYS


def test_a_run_of_a_campaign_shows_its_report_and_says_that_its_messages_are_gone(wa: Wa, old: App) -> None:
    ledger = Ledger(old.database, state="finished", now_ms=old.clock.wall_ms() - 200 * DAY)
    ledger.start_run(state="finished", ended_at=ledger.now_ms)
    batch = ledger.add_batch()
    ledger.add(number(1), batch, "sent", "read")
    ledger.add(number(2), batch, "failed", error_code="131026", reason="dismissed")
    with old.database.write() as connection:
        connection.execute("UPDATE batch SET created_at = ?", (ledger.now_ms,))
    send(old, EVA, outcome=ACCEPTED, text="after it")
    with old.database.write() as connection:
        connection.execute("UPDATE receipt SET id = -id")  # the newest of them would keep its message
    before = {screen: wa("campaign", screen, ledger.name, "--json").json() for screen in ("report", "show")}
    result = wa("db", "prune", "--older-than", "180d", "--yes")
    assert "  campaigns  the report of 1 run is kept" in result.out
    for screen, told in before.items():
        now = wa("campaign", screen, ledger.name, "--json").json()
        assert now["pruned_at"] is not None
        assert now["failures"][0]["example"] is None
        for name in ("audience", "buckets", "funnel", "replied", "sends", "ledger_error"):
            assert now[name] == told[name], name
        lines = wa("campaign", screen, ledger.name).out.splitlines()
        assert any(line.startswith("pruned ") for line in lines)
        assert max(map(len, lines)) <= 80
    page = wa.folder / "report.html"
    assert wa("campaign", "report", ledger.name, "--html", page).exit == 0
    assert "Messages pruned" in page.read_text()
    exported = wa("campaign", "export", ledger.name, "--json")
    assert (exported.exit, exported.error()["code"]) == (2, "run_pruned")
    assert exported.out == ""


def test_words_that_are_no_span_are_refused(wa: Wa, old: App) -> None:
    for words in ("180x", "", "6m", "-3d"):
        result = wa("db", "prune", "--older-than", words, "--yes")
        assert (result.exit, result.err.splitlines()[0][:6]) == (2, "error:"), words
    assert wa("db", "prune", "--yes").exit == 2
    assert wa("db", "prune", "--older-than", "180d", "--dry-run", "--vacuum").exit == 2


def test_a_vacuum_gives_the_space_back(wa: Wa, app: App) -> None:
    text = "x" * 3_000
    for place in range(200):
        enqueue(app, ADA, text=f"{place} {text}")
    with app.database.write() as connection:
        connection.execute("UPDATE message SET state = 'cancelled', changed_at = 1")
        connection.execute("UPDATE batch SET created_at = 1")
        connection.execute("UPDATE live_key SET expires_at = 1")
    app.close()
    document = wa("db", "prune", "--older-than", "180d", "--yes", "--json").json()
    assert (document["messages"], document["vacuumed"]) == (199, False)
    assert document["free_bytes"] > document["bytes"] // 2
    size = wa.db.stat().st_size
    document = wa("db", "prune", "--older-than", "180d", "--vacuum", "--yes", "--json").json()
    assert (document["messages"], document["vacuumed"], document["free_bytes"]) == (0, True, 0)
    assert wa.db.stat().st_size < size // 2
    assert wa("db", "check").exit == 0


def test_a_vacuum_is_refused_while_somebody_sends_or_queues(wa: Wa, old: App) -> None:
    """It would hold the file for as long as it takes: nothing could be recorded."""
    lease = take_lease(old, role="daemon")
    result = wa("db", "prune", "--older-than", "180d", "--vacuum", "--yes", "--json")
    assert (result.exit, result.error()["code"]) == (6, "in_use")
    assert "daemon (process" in result.error()["message"]
    assert count(old) == 3
    old.leases.release(lease)
    with closing(open_app(old.settings, create=False)) as other:
        assert other.owner.token
        result = wa("db", "prune", "--older-than", "180d", "--vacuum", "--yes", "--json")
        assert (result.exit, result.error()["code"]) == (6, "in_use")
    old.owner.close()
    assert wa("db", "prune", "--older-than", "180d", "--vacuum", "--yes").exit == 0
    assert count(old) == 1


def test_it_prunes_beside_a_daemon(wa: Wa, old: App) -> None:
    take_lease(old, role="daemon")
    assert wa("db", "prune", "--older-than", "180d", "--yes").exit == 0
    assert count(old) == 1
