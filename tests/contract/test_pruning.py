"""Pruning: what is done with goes, what a promise rests on stays, and every sum is what it was."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ledger import NOW, Ledger, number
from tests.world import FakeClock, World, address, ambiguous, line, open_world, rejected
from wa_cli import cuts
from wa_cli.domain.consent import Change, Source, Wish
from wa_cli.domain.event import StatusEvent
from wa_cli.domain.kept_report import KeptReport, decode_report, encode_report
from wa_cli.domain.message import LocalFile, Media, MediaKind, OnUnknown, State, encode_content
from wa_cli.domain.outcome import ErrorClass
from wa_cli.domain.receipt import Receipt
from wa_cli.domain.report import find_ledger_error
from wa_cli.domain.resend import Requeue, find_refusal
from wa_cli.errors import Conflict, NotFound, WaError
from wa_cli.services.receipts import apply_status
from wa_cli.store.sqlite import pruning
from wa_cli.store.sqlite.applying import SqliteApplying
from wa_cli.store.sqlite.campaigns import SqliteCampaigns
from wa_cli.store.sqlite.database import Database
from wa_cli.store.sqlite.events import open_event_turn
from wa_cli.store.sqlite.failures import SqliteFailures
from wa_cli.store.sqlite.media import SqliteMedia
from wa_cli.store.sqlite.people import SqlitePeople
from wa_cli.store.sqlite.plans import SqlitePlans
from wa_cli.store.sqlite.pools import SqlitePools
from wa_cli.store.sqlite.pruning import SqlitePruning
from wa_cli.store.sqlite.receipts import SqliteReceipts
from wa_cli.store.sqlite.reports import SqliteReports
from wa_cli.store.sqlite.totals import SqliteTotals
from wa_cli.store.sqlite.upkeep import SqliteUpkeep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.world import Answer
    from wa_cli.domain.outcome import Outcome
    from wa_cli.domain.plan import Plan
    from wa_cli.domain.pruning import PruneSums

DAY: Final = 86_400_000
SPAN: Final = 180 * DAY
GONE_STATES: Final = (State.SENT, State.SKIPPED, State.EXPIRED, State.CANCELLED)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path, on_disk=True) as made:
        yield made


def prune(world: World, *, span_ms: int = SPAN) -> PruneSums:
    return SqlitePruning(world.database).prune(before_ms=world.now_ms - span_ms, now_ms=world.now_ms)


def survey(world: World) -> PruneSums:
    return SqlitePruning(world.database).survey(before_ms=world.now_ms - SPAN, now_ms=world.now_ms)


def send(world: World, to: int, words: str, *outcomes: Outcome | Answer, **options: Any) -> int:
    """One message that meets these outcomes now; its id."""
    world.transport.script = list(outcomes)
    message_id = world.enqueue([line(to, words)], **options)[0].message_id
    world.drain()
    return message_id


def grow_old(world: World, *, days: int = 200) -> None:
    """Time passes, and one more message keeps the highest numbers."""
    world.clock.advance(days * DAY)
    send_newest(world)


def send_newest(world: World) -> int:
    """A message that has the highest numbers of every kind."""
    message_id = send(world, 999_999, f"the newest at {world.now_ms}")
    hear_of(world, message_id, Receipt.DELIVERED)
    world.execute("INSERT INTO decision (message_id, at, rule) VALUES (?, ?, 'seen')", message_id, world.now_ms)
    return message_id


def ids(world: World) -> set[int]:
    return {message_id for (message_id,) in world.rows("SELECT id FROM message")}


def fail_for_good(world: World, to: int, words: str) -> int:
    return send(world, to, words, rejected(ErrorClass.DEAD_RECIPIENT, "131026"))


def hear_of(world: World, message_id: int, receipt: Receipt, *, participant: str = "") -> str:
    attempt = world.attempts(message_id)[-1]
    event = StatusEvent(
        number_id="1",
        provider_message_id=attempt.provider_message_id or f"wamid.late.{attempt.id}",
        receipt=receipt,
        at_ms=world.now_ms,
        participant=participant,
        tag=attempt.tag,
    )
    return settle(world, event)


def settle(world: World, event: StatusEvent) -> str:
    install = world.database.read_install()
    with open_event_turn(world.database) as turn:
        return apply_status(turn, event, install=install, policy=world.policy, now_ms=world.now_ms)[0]


# --- what goes, and what stays ---


def test_what_is_done_with_goes_with_all_that_belongs_to_it_and_the_rest_stays(world: World) -> None:
    done = send(world, 1, "Welcome")
    hear_of(world, done, Receipt.READ)
    skipped = world.enqueue([line(2, "No", skip_reason="window_closed")])[0].message_id
    cancelled = world.enqueue([line(3, "Later")], in_ms=DAY)[0].message_id
    world.messages.cancel([cancelled], now_ms=world.now_ms)
    expired = world.enqueue([line(4, "Soon")], in_ms=30_000, expires_in_ms=60_000)[0].message_id
    world.clock.advance(120_000)
    world.queue.expire(now_ms=world.now_ms)
    dismissed, failed = fail_for_good(world, 5, "A"), fail_for_good(world, 6, "B")
    SqliteFailures(world.database).dismiss([dismissed], now_ms=world.now_ms)
    unknown = send(world, 7, "C", ambiguous())
    waiting = world.enqueue([line(8, "In a year")], in_ms=400 * DAY)[0].message_id
    grow_old(world)
    young = max(ids(world))
    before = world.messages.read_stats()
    looked = survey(world)
    assert ids(world) == {done, skipped, cancelled, expired, dismissed, failed, unknown, waiting, young}
    sums = prune(world)
    assert ids(world) == {failed, unknown, waiting, young}
    assert looked.messages == sums.messages
    assert sums.messages == {"read": 1, "skipped": 1, "cancelled": 1, "expired": 1, "failed": 1}
    assert sums.kept == looked.kept == {"failed": 1, "unknown": 1, "waiting": 1}
    for name in ("attempts", "receipts", "decisions", "keys", "batches", "contents"):
        assert getattr(sums, name) == getattr(looked, name), name
    assert (sums.attempts, sums.receipts, sums.batches, sums.contents) == (2, 1, 5, 5)
    assert world.value("SELECT count(*) FROM receipt") == 1
    after, pruned = world.messages.read_stats(), world.messages.read_pruned()
    assert pruned is not None
    assert {word: before[word] - pruned.counts.get(word, 0) for word in before} == after
    assert world.find_faults() == []
    assert prune(world).message_count == 0


def test_history_that_is_young_or_had_news_of_late_stays(world: World) -> None:
    quiet, read_late, member_late, noted_late = (send(world, to, "Welcome") for to in (1, 2, 3, 5))
    world.clock.advance(100 * DAY)
    hear_of(world, read_late, Receipt.READ)
    hear_of(world, member_late, Receipt.FAILED, participant="6591112222")  # noted, and changes nothing
    world.execute("INSERT INTO decision (message_id, at, rule) VALUES (?, ?, 'seen')", noted_late, world.now_ms)
    young = send(world, 4, "Welcome")
    grow_old(world, days=100)
    prune(world)
    assert quiet not in ids(world)
    assert {read_late, member_late, noted_late, young} <= ids(world)
    assert world.find_faults() == []


def test_the_rows_with_the_highest_numbers_stay_so_that_no_number_is_given_out_twice(world: World) -> None:
    """The tag of an attempt may come back late, and somebody may look at an old id."""
    for to in range(1, 4):
        last = send(world, to, "Welcome")
    world.clock.advance(200 * DAY)
    numbers = [world.value(f"SELECT max(id) FROM {table}") for table in ("message", "attempt", "content", "batch")]
    prune(world)
    assert ids(world) == {last}
    assert [world.value(f"SELECT max(id) FROM {t}") for t in ("message", "attempt", "content", "batch")] == numbers
    assert send(world, 4, "Another") == last + 1
    assert world.find_faults() == []


def test_who_shows_that_a_failed_message_would_be_said_twice_stays(world: World) -> None:
    """Promise P2: a failure may be resent after years, unless the same words were said since."""
    failed = fail_for_good(world, 1, "Welcome")
    said_since = send(world, 1, "Welcome", again=True)
    world.execute("UPDATE live_key SET again = 0")
    assert said_since > failed
    grow_old(world)

    def refusal() -> str | None:
        with SqliteFailures(world.database).resend_turn(is_dry_run=True) as turn:
            (candidate,) = turn.read_candidates([failed])
        return find_refusal(candidate, force=True, now_ms=world.now_ms)

    before = refusal()
    assert before is not None
    prune(world)
    assert refusal() == before
    assert said_since in ids(world)


def test_the_lane_of_a_resend_stays_while_a_message_waits_in_it(world: World) -> None:
    failed = fail_for_good(world, 1, "Welcome")
    failures = SqliteFailures(world.database)
    with failures.resend_turn() as turn:
        batch_id = turn.add_batch(1, delay_ms=3_000, priority=1, now_ms=world.now_ms)
        (candidate,) = turn.read_candidates([failed])
        go = Requeue(
            candidate=candidate,
            batch_id=batch_id,
            due_at_ms=world.now_ms + 300 * DAY,
            details="",
            claims_key=True,
        )
        turn.requeue([go], duplicate_window_ms=DAY, now_ms=world.now_ms)
    grow_old(world)
    prune(world)
    assert world.rows("SELECT id FROM batch WHERE id = ?", batch_id) == [(batch_id,)]
    world.clock.advance(100 * DAY)
    world.drain()
    assert world.state(failed) is State.SENT


def test_a_call_whose_key_still_holds_stays_as_a_whole_and_another_goes_with_its_key(world: World) -> None:
    held = [one.message_id for one in world.enqueue([line(1), line(2)], key="welcome")]
    free = [one.message_id for one in world.enqueue([line(3), line(4)], key="once")]
    world.drain()
    world.execute("UPDATE caller_key SET expires_at = ? WHERE key = 'welcome'", world.now_ms + 10**12)
    single = world.enqueue([line(5, key="line-5"), line(6, key="line-6")])
    world.drain()
    world.execute("UPDATE caller_key SET expires_at = ? WHERE key = 'line-5'", world.now_ms + 10**12)
    grow_old(world)
    sums = prune(world)
    assert {*held, single[0].message_id} <= ids(world)
    assert not ids(world) & {*free, single[1].message_id}
    assert sums.kept == {"guard": 3}
    assert [key for (key,) in world.rows("SELECT key FROM caller_key ORDER BY key")] == ["line-5", "welcome"]
    again = world.enqueue([line(1), line(2)], key="welcome")
    assert [(one.message_id, one.outcome) for one in again] == [(message_id, "duplicate") for message_id in held]
    assert world.enqueue([line(3), line(4)], key="once")[0].outcome == "queued"
    assert world.find_faults() == []


def test_a_message_whose_words_are_still_taken_stays(world: World) -> None:
    """It left at once, of a call whose window ends long after: `WA_DUPLICATE_WINDOW_HOURS` was large then."""
    message_id = send(world, 1, "Welcome")
    world.execute("UPDATE live_key SET expires_at = ?", world.now_ms + 300 * DAY)
    grow_old(world)
    prune(world)
    assert message_id in ids(world)
    assert world.enqueue([line(1, "Welcome")], dry_run=True)[0].outcome == "duplicate"


def test_a_message_that_was_planned_anew_goes_with_the_key_of_its_old_words(world: World) -> None:
    message_id = send(world, 1, "Old words")
    other = send(world, 2, "New words")
    content_id = world.value("SELECT content_id FROM message WHERE id = ?", other)
    world.execute("UPDATE message SET content_id = ? WHERE id = ?", content_id, message_id)
    grow_old(world)
    prune(world)
    assert message_id not in ids(world)
    assert world.find_faults() == []


def test_words_stay_for_as_long_as_a_message_a_plan_or_a_key_refers_to_them(world: World) -> None:
    send(world, 1, "Shared")
    send(world, 2, "Alone")
    send(world, 3, "Planned")
    content_id = world.value("SELECT id FROM content WHERE body LIKE '%Planned%'")
    plans = SqlitePlans(world.database, world.owner)
    ledger = Ledger(world.database, state="draft", now_ms=world.now_ms)
    with world.database.write() as connection:
        connection.execute(
            "INSERT INTO plan (campaign_id, source, inputs, created_at, finished_at) VALUES (?, '', '{}', 0, 0)",
            (ledger.campaign_id,),
        )
        connection.execute("INSERT INTO plan_line (plan_id, contact_id, content_id) VALUES (1, 3, ?)", (content_id,))
    assert plans.read_plan(1).id == 1
    world.clock.advance(200 * DAY)
    send(world, 4, "Shared")
    send_newest(world)
    prune(world)
    bodies = " ".join(body for (body,) in world.rows("SELECT body FROM content"))
    assert "Shared" in bodies
    assert "Planned" in bodies
    assert "Alone" not in bodies
    assert world.find_faults() == []


def test_words_are_left_alone_while_others_queue_or_plan_with_them(world: World) -> None:
    """Their rows may refer to words that belong to nothing yet."""
    send(world, 1, "Alone")
    grow_old(world)
    ledger = Ledger(world.database, state="draft", now_ms=world.now_ms)
    SqlitePlans(world.database, world.owner).open_plan(
        ledger.campaign_id, occurrence="", source="", inputs={}, now_ms=world.now_ms
    )
    sums = prune(world)
    assert (sums.message_count, sums.contents, sums.has_all_contents) == (1, 0, False)
    world.execute("UPDATE plan SET finished_at = 1, owner = NULL")
    sums = prune(world)
    assert (sums.message_count, sums.contents, sums.has_all_contents) == (0, 1, True)


def test_nothing_of_pruned_words_is_left_in_the_file(world: World) -> None:
    """Free pages could not be reached by `wa contact erase` any more."""
    secret = "your appointment with the oncologist"
    for to in range(40):
        send(world, to, f"{secret} {to} " + "x" * 500)
    grow_old(world)
    prune(world)
    path = world.database.path
    world.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert secret.encode() not in path.read_bytes()


def test_files_that_no_message_needs_go_with_their_rows(world: World, tmp_path: Path) -> None:
    media = SqliteMedia(world.database)
    kept: list[LocalFile] = []
    for name in ("old", "new"):
        path = tmp_path / f"{name}.pdf"
        path.write_bytes(name.encode())
        kept.append(media.keep(path, name=path.name, mime_type="application/pdf", size=3, now_ms=world.now_ms))

    def carry(file: LocalFile, to: int) -> None:
        content = Media(kind=MediaKind.DOCUMENT, file=file)
        world.enqueue([replace_encoded(line(to), encode_content(content))])
        world.drain()

    def replace_encoded(one: Any, encoded: str) -> Any:
        one.encoded = encoded
        return one

    carry(kept[0], 1)
    world.clock.advance(200 * DAY)
    carry(kept[1], 2)
    send_newest(world)
    assert survey(world).files == prune(world).files == 1
    assert not (media.folder / kept[0].digest).exists()
    assert (media.folder / kept[1].digest).exists()
    assert world.find_faults() == []


# --- what is known afterwards ---


def test_a_pruned_message_is_said_to_be_pruned_and_one_that_never_was_is_not(world: World) -> None:
    message_id = send(world, 1, "Welcome")
    grow_old(world)
    with pytest.raises(NotFound, match=r"there is no message m77$"):
        world.messages.find(77)
    prune(world)
    with pytest.raises(NotFound, match=f"no message m{message_id} here: it was pruned with what is older than 20"):
        world.messages.find(message_id)
    with pytest.raises(NotFound, match=r"there is no message m77$"):
        world.messages.find(77)


def test_a_late_receipt_of_a_pruned_message_belongs_to_nobody(world: World) -> None:
    message_id = send(world, 1, "Welcome")
    attempt = world.attempts(message_id)[0]
    grow_old(world)
    prune(world)
    stats = world.messages.read_stats()
    event = StatusEvent(
        number_id="1", provider_message_id="wamid.1", receipt=Receipt.READ, at_ms=world.now_ms, tag=attempt.tag
    )
    assert settle(world, event) == "unmatched"
    assert world.messages.read_stats() == stats


def test_a_number_is_still_known_to_be_heard_of_and_to_have_written_to_its_people(world: World) -> None:
    """A silent number is told by the receipts it once had; nobody of a pool hears from a stranger."""
    second = world.add_instance("second")
    mine = send(world, 1, "Welcome")
    theirs = world.enqueue([line(2, "Welcome")], instance_id=second)[0].message_id
    world.drain(lease=world.take_lease(instance_id=second))
    hear_of(world, theirs, Receipt.DELIVERED)
    world.clock.advance(200 * DAY)
    world.enqueue([line(3, "Welcome")], instance_id=second)
    world.drain(lease=world.take_lease(instance_id=second))
    send_newest(world)
    pools = SqlitePools(world.database)
    before = [pools.list_known(one) for one in (1, second)]
    prune(world)
    assert not {mine, theirs} & ids(world)
    assert SqliteReceipts(world.database).has_receipts(second)
    assert [pools.list_known(one) for one in (1, second)] == before
    pools.create("both", [1, second], now_ms=world.now_ms)
    pools.refresh_seats(1)
    assert pools.count_seats(1) == {1: 2, second: 2}


# --- campaigns ---


def make_ledger(world: World, *, name: str = "spring-sale", failed: str | None = "dismissed") -> Ledger:
    """A run that ended long ago, with everything a report tells."""
    ledger = Ledger(world.database, name=name, state="finished", now_ms=world.now_ms)
    ledger.start_run(state="finished", ended_at=world.now_ms)
    batches = [ledger.add_batch(variant=variant) for variant in "ab"]
    at = world.now_ms - 60_000
    for index in range(12):
        receipt = ("read", "delivered", None)[index % 3]
        ledger.add(number(index), batches[index % 2], "sent", receipt, posted_at=at + index * 1_000)
    ledger.add(number(20), batches[0], "skipped", reason="opted_out")
    ledger.add(number(21), batches[1], "cancelled", reason="cancelled")
    if failed is not None:
        ledger.add(number(22), batches[1], "failed", error_code="131026", posted_at=at, reason=failed)
    ledger.leave_out(number(30), "opted_out")
    ledger.leave_out(None, "invalid", "row 7")
    ledger.leave_out(number(0), "opted_out")  # has a message all the same, and is counted there
    ledger.write_back(number(1), at=world.now_ms)
    ledger.opt_out(number(3), at=world.now_ms)
    ledger.click(number(2), at=world.now_ms)
    world.execute("UPDATE contact SET opted_out_at = ? WHERE address = ?", world.now_ms, number(3))
    return ledger


def tell(world: World, ledger: Ledger) -> dict[str, Any]:
    """Everything that is told of a campaign in sums."""
    reports, now_ms = SqliteReports(world.database), NOW + 10**12
    run = ledger.run()
    told: dict[str, Any] = {}
    for is_deep in (False, True):
        figures = reports.read_figures(run, now_ms=now_ms, is_deep=is_deep)
        assert find_ledger_error(figures) is None
        failures = tuple(replace(group, message_id=None) for group in figures.failures)
        told[f"figures {is_deep}"] = replace(figures, failures=failures, pruned_at_ms=None)
    campaign = SqliteCampaigns(world.database, world.owner).find(ledger.name)
    (listed,) = reports.list_runs(campaign, limit=5)
    told["listed"] = (listed.audience, listed.accepted, listed.failed, listed.waiting, listed.unknown)
    told["totals"] = SqliteTotals(world.database).read(ledger.name)
    told["tally"] = SqliteCampaigns(world.database, world.owner).count_run(run.id)
    return told


def test_the_report_of_a_run_is_the_same_after_its_messages_are_gone(world: World) -> None:
    """Promise P13, however it is asked for."""
    ledger = make_ledger(world)
    grow_old(world)
    before = tell(world, ledger)
    looked, sums = survey(world), prune(world)
    assert ids(world) == {max(ids(world))}
    assert (sums.runs, sums.left_out, sums.batches) == (looked.runs, looked.left_out, looked.batches) == (1, 3, 2)
    assert tell(world, ledger) == before
    assert SqliteCampaigns(world.database, world.owner).count_excluded(ledger.run_id) == 2
    figures = SqliteReports(world.database).read_figures(ledger.run(), now_ms=world.now_ms)
    assert figures.pruned_at_ms == world.now_ms
    with pytest.raises(NotFound, match="the 15 messages of this run were pruned"):
        SqliteReports(world.database).read_ledger(ledger.run())
    assert world.find_faults() == []


def test_a_run_stays_whole_while_one_of_its_messages_has_to(world: World) -> None:
    ledger = make_ledger(world, failed="permanent")
    grow_old(world)
    sums = prune(world)
    assert (sums.message_count, sums.runs) == (0, 0)
    assert sums.kept == {"campaign": 14, "failed": 1}
    assert SqliteFailures(world.database).dismiss([15], now_ms=world.now_ms) == [15]
    world.clock.advance(181 * DAY)
    send_newest(world)
    assert prune(world).runs == 1
    assert tell(world, ledger)["listed"][0] == 17


@pytest.mark.parametrize("change", ["state = 'running'", "ended_at = 9000000000000", "owner = 'somebody'"])
def test_a_run_that_has_not_ended_long_ago_stays(world: World, change: str) -> None:
    ledger = make_ledger(world)
    world.execute(f"UPDATE run SET {change}")
    world.execute("UPDATE campaign SET state = 'running'")
    grow_old(world)
    assert prune(world).message_count == 0
    assert world.value("SELECT count(*) FROM message WHERE run_id = ?", ledger.run_id) == 15


def test_nothing_is_added_to_a_run_whose_messages_were_pruned(world: World) -> None:
    """Promise P2: nobody knows any more whom it has written to."""
    ledger = make_ledger(world)
    grow_old(world)
    prune(world)
    world.execute("UPDATE run SET state = 'running', ended_at = NULL")
    world.execute("UPDATE campaign SET state = 'paused'")
    plan_id = world.value("SELECT id FROM plan")
    world.execute("UPDATE plan SET applied_at = NULL")
    plan: Plan = SqlitePlans(world.database, world.owner).read_plan(plan_id)
    applying = SqliteApplying(world.database, world.owner)
    with pytest.raises(Conflict, match="were pruned: nothing is added to it"):
        applying._open_run(plan, max_queue_size=0, now_ms=world.now_ms)
    assert ledger.run().state == "running"


def test_a_report_is_read_as_it_was_written(world: World) -> None:
    ledger = make_ledger(world)
    figures = SqliteReports(world.database).read_figures(ledger.run(), now_ms=world.now_ms, is_deep=True)
    assert figures.details is not None
    assert figures.details.read_times is not None
    assert figures.failures
    kept = KeptReport(at_ms=7, figures=figures, lately=figures.sends)
    failures = tuple(replace(group, message_id=None) for group in figures.failures)
    assert decode_report(encode_report(kept)) == replace(kept, figures=replace(figures, failures=failures))
    empty = replace(figures, details=replace(figures.details, read_times=None), sends=None)
    assert decode_report(encode_report(KeptReport(at_ms=7, figures=empty, lately=None))).figures.sends is None


def test_the_totals_of_a_campaign_that_is_a_name_alone_stay(world: World) -> None:
    """Rows Q6, Q7: the caller's own campaign, which may go on for years."""
    for to, words in ((1, "One"), (2, "Two"), (1, "Three"), (3, "Four")):
        hear_of(world, send(world, to, words), Receipt.DELIVERED)
    world.hear(1)
    two = world.value("SELECT id FROM contact WHERE address = ?", address(2))
    with SqlitePeople(world.database).turn() as turn:
        change = Change(wish=Wish.OPT_OUT, at_ms=world.now_ms, source=Source.MESSAGE)
        turn.record_consent(two, change)
    world.execute("UPDATE batch SET campaign = 'newsletter'")
    world.clock.advance(200 * DAY)
    send(world, 1, "Five")
    world.execute("UPDATE batch SET campaign = 'newsletter' WHERE campaign IS NULL")
    world.hear(1)
    send_newest(world)
    totals = SqliteTotals(world.database)
    before = totals.read("newsletter")
    assert (before.replied, before.opted_out) == (1, 1)
    sums = prune(world)
    assert (sums.message_count, sums.kept) == (1, {"answered": 3})
    assert totals.read("newsletter") == before
    world.execute("DELETE FROM inbound")
    world.execute("DELETE FROM consent")
    world.clock.advance(200 * DAY)
    send_newest(world)
    assert prune(world).message_count == 5
    stats = totals.read("newsletter").stats
    assert {word: n for word, n in stats.items() if n} == {"delivered": 4, "sent": 1}


# --- how it works ---


def fill(world: World, count: int) -> None:
    world.enqueue([line(to, f"words {to}") for to in range(count)], unique=True)
    world.drain()


def test_no_statement_under_the_lock_looks_through_a_table(world: World) -> None:
    """A million rows would be looked through some thousand times."""
    send(world, 1, "Welcome")
    with SqlitePruning(world.database)._lists(before_ms=1, now_ms=1):
        connection = world.database.connection
        statements = [pruning.TAKE_GONE, pruning.COUNT_NAMED, pruning.REMEMBER_PEOPLE, pruning.READ_KEYS]
        statements += [pruning.DELETE_KEY.replace("?", "1"), pruning.FIND_NEWEST, pruning.USE_NEWER.replace("?", "1")]
        statements += [pruning.COUNT_STANDINGS.format(list="gone"), *(statement for _name, statement in pruning.DELETE)]
        statements += [pruning.FIND_GOING, pruning.GUARD_BY_WORDS, pruning.COUNT_KEPT]
        values = dict.fromkeys(("before", "now", "after", "last"), 1)
        for statement in statements:
            steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
            scans = [
                step for step in steps
                if step.startswith("SCAN ") and step.split()[1] not in (*pruning.LISTS, "odd_key", "g", "o", "CONSTANT")
                and "(subquery" not in step and "batch_unreleased" not in step
            ]  # fmt: skip
            newest = "ORDER BY id DESC LIMIT 1" in statement
            assert not scans or newest, (statement, steps)


def test_many_messages_go_in_small_transactions_between_which_others_write(world: World) -> None:
    """Nobody waits longer than for some hundred rows, and nothing is locked in between."""
    fill(world, 1_300)
    grow_old(world)
    sizes: list[int] = []
    left = [world.value("SELECT count(*) FROM message")]
    other = Database.open(world.database.path, create=False)

    def write_beside() -> None:
        with other.write() as connection:
            connection.execute("INSERT INTO meta VALUES ('beside', '1') ON CONFLICT DO UPDATE SET value = value + 1")
            (now,) = connection.execute("SELECT count(*) FROM message").fetchone()
        sizes.append(left[0] - now)
        left[0] = now

    class Watched(SqlitePruning):
        def _breathe(self) -> None:
            write_beside()

    with closing(other):
        sums = Watched(world.database).prune(before_ms=world.now_ms - SPAN, now_ms=world.now_ms)
    assert sums.message_count == sum(sizes) == 1_300
    assert sizes[0] == pruning.FIRST_ROWS // 2
    assert max(sizes) <= 1_000
    assert sum(size > 0 for size in sizes) >= 2
    assert world.find_faults() == []


def test_a_message_that_is_resent_between_the_look_and_the_lock_stays(world: World) -> None:
    dismissed = fail_for_good(world, 1, "Welcome")
    SqliteFailures(world.database).dismiss([dismissed], now_ms=world.now_ms)
    grow_old(world)

    class Overtaken(SqlitePruning):
        def _delete_going(self, sums: PruneSums) -> None:
            world.execute("UPDATE message SET state = 'queued', reason = 'resent' WHERE id = ?", dismissed)
            super()._delete_going(sums)

    sums = Overtaken(world.database).prune(before_ms=world.now_ms - SPAN, now_ms=world.now_ms)
    assert sums.message_count == 0
    assert world.state(dismissed) is State.QUEUED


def test_progress_ends_at_the_whole(world: World) -> None:
    fill(world, 30)
    grow_old(world)
    told: list[tuple[str, int, int]] = []
    SqlitePruning(world.database).prune(
        before_ms=world.now_ms - SPAN, now_ms=world.now_ms, on_progress=lambda *numbers: told.append(numbers)
    )
    assert [news for news in told if news[1] == news[2]] == [("messages", 30, 30), ("texts", 30, 30)]


PRUNE_CUTS = (
    "prune_report_after_commit:1",
    "prune_before_commit:1",
    "prune_before_commit:2",
    "prune_after_commit:1",
    "prune_after_commit:2",
    "prune_calls_after_commit:1",
    "prune_words_after_commit:1",
)


@pytest.mark.parametrize("cut", PRUNE_CUTS)
def test_killed_at_any_moment_it_leaves_a_sound_file_and_the_same_command_goes_on(tmp_path: Path, cut: str) -> None:
    """Promises P2, P10, P13."""
    clock = FakeClock(NOW)
    with open_world(tmp_path, on_disk=True, clock=clock) as world:
        fill(world, 300)
        ledger = make_ledger(world)
        grow_old(world)
        before, stats = tell(world, ledger), world.messages.read_stats()
        now_ms = world.now_ms
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with closing(Database.open(tmp_path / "wa.db", create=False)) as database:
                cuts.arm(cut)
                SqlitePruning(database).prune(before_ms=now_ms - SPAN, now_ms=now_ms)
            code = 0
        finally:
            os._exit(code)
    _pid, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, f"{cut} was not reached"
    with open_world(tmp_path, on_disk=True, clock=clock) as world:
        ledger.database = world.database
        for _time in range(2):
            assert world.find_faults() == []
            assert tell(world, ledger) == before
            pruned = world.messages.read_pruned()
            gone = pruned.counts if pruned else {}
            assert {word: n + gone.get(word, 0) for word, n in world.messages.read_stats().items()} == stats
            prune(world)
        assert len(ids(world)) == 1
        tables = ("attempt", "live_key", "batch", "content", "exclusion")
        assert [world.value(f"SELECT count(*) FROM {table}") for table in tables] == [1, 1, 1, 1, 0]


# --- random histories ---

PEOPLE: Final = (1, 2, 3)
WORDS: Final = ("Welcome", "Doors open at six")

OUTCOMES: Final[dict[str, Callable[[], list[Any]]]] = {
    "sent": list,
    "refused": lambda: [rejected(ErrorClass.DEAD_RECIPIENT, "131026")],
    "unknown": lambda: [ambiguous()],
}
steps = st.one_of(
    st.tuples(
        st.just("send"),
        st.sampled_from(PEOPLE),
        st.sampled_from(WORDS),
        st.sampled_from(sorted(OUTCOMES)),
        st.sampled_from([None, "key-1", "key-2"]),
        st.booleans(),
    ),
    st.tuples(st.just("queue"), st.sampled_from(PEOPLE), st.sampled_from(WORDS), st.sampled_from([1, 150, 390])),
    st.tuples(
        st.just("receipt"), st.integers(0, 20), st.sampled_from([Receipt.DELIVERED, Receipt.READ, Receipt.FAILED])
    ),
    st.tuples(st.just("dismiss"), st.integers(0, 20)),
    st.tuples(st.just("resend"), st.integers(0, 20)),
    st.tuples(st.just("settle"), st.integers(0, 20), st.booleans()),
    st.tuples(st.just("cancel"), st.integers(0, 20)),
    st.tuples(st.just("leave"), st.sampled_from(PEOPLE)),
    st.tuples(st.just("hear"), st.sampled_from(PEOPLE)),
    st.tuples(st.just("days"), st.sampled_from([1, 8, 40, 170, 200])),
)


def live_through(world: World, history: list[tuple[Any, ...]]) -> None:
    failures = SqliteFailures(world.database)
    for kind, *rest in history:
        known = sorted(ids(world))
        chosen = known[rest[0] % len(known)] if known and isinstance(rest[0], int) else 0
        match kind:
            case "send":
                to, words, outcome, key, again = rest
                world.transport.script = OUTCOMES[outcome]()
                try:
                    world.enqueue([line(to, words)], key=key, again=again, on_unknown=OnUnknown.HOLD)
                except WaError:
                    continue  # the key was used for something else
                world.drain()
            case "queue":
                world.enqueue([line(rest[0], rest[1])], in_ms=rest[2] * DAY)
            case "receipt" if known and world.attempts(chosen):
                hear_of(world, chosen, rest[1])
            case "dismiss":
                failures.dismiss([chosen], now_ms=world.now_ms)
            case "settle":
                failures.mark_unknown([chosen], was_sent=rest[1], note=None, now_ms=world.now_ms)
            case "cancel":
                world.messages.cancel([chosen], now_ms=world.now_ms)
            case "leave":
                world.hear(rest[0])
                contact_id = world.value("SELECT id FROM contact WHERE address = ?", address(rest[0]))
                with SqlitePeople(world.database).turn() as turn:
                    change = Change(wish=Wish.OPT_OUT, at_ms=world.now_ms, source=Source.PERSON)
                    turn.record_consent(contact_id, change)
            case "hear":
                world.hear(rest[0])
            case "days":
                world.clock.advance(rest[0] * DAY)
                world.drain()


def ask(world: World) -> dict[str, Any]:
    """Every question on whose answer a promise rests."""
    answers: dict[str, Any] = {}
    for to in PEOPLE:
        for words in WORDS:
            for key in (None, "key-1", "key-2"):
                try:
                    (told,) = world.enqueue([line(to, words)], key=key, dry_run=True)
                    answers["send", to, words, key] = (told.outcome, told.reason)
                    if told.outcome == "duplicate":
                        answers["send", to, words, key] += (told.message_id,)
                except WaError as error:
                    answers["send", to, words, key] = error.code
    open_ids = [row[0] for row in world.rows("SELECT id FROM message WHERE state NOT IN ('sent', 'skipped')")]
    with SqliteFailures(world.database).resend_turn(is_dry_run=True) as turn:
        for one in turn.read_candidates(open_ids):
            if one.standing.value == "failed" and one.rule != "dismissed":
                answers["resend", one.message_id] = find_refusal(one, force=True, now_ms=world.now_ms)
    failures = SqliteFailures(world.database)
    answers["failed"] = [one.id for one in failures.list_failed(subgroup=None, campaign=None, after_id=0, limit=99)]
    answers["unknown"] = [one.message.id for one in failures.list_unknown(after_id=0, limit=99)]
    answers["waiting"] = world.rows("SELECT id, state, due_at FROM message WHERE state IN ('queued', 'sending')")
    upkeep = SqliteUpkeep(world.database)
    answers["window"] = upkeep.read_starts(1, since_ms=world.now_ms - DAY)
    answers["counters"] = upkeep.read_counters(1, now_ms=world.now_ms)
    answers["people"] = world.rows("SELECT id, address, opted_out_at FROM contact")
    answers["consent"] = world.rows("SELECT * FROM consent")
    answers["known"] = SqlitePools(world.database).list_known(1)
    answers["heard"] = SqliteReceipts(world.database).has_receipts(1)
    answers["next ids"] = world.rows(
        "SELECT (SELECT max(id) FROM message), (SELECT max(id) FROM attempt), (SELECT max(id) FROM decision)"
    )
    pruned = world.messages.read_pruned()
    gone = pruned.counts if pruned else {}
    answers["stats"] = {word: n + gone.get(word, 0) for word, n in world.messages.read_stats().items()}
    return answers


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(steps, min_size=2, max_size=14), days=st.sampled_from([0, 60, 200, 400]))
def test_every_question_that_a_promise_rests_on_has_the_same_answer_after_pruning(
    history: list[tuple[Any, ...]], days: int, tmp_path: Path
) -> None:
    """Promises P2, P4, P8, P10, P13 over random histories."""
    with open_world(tmp_path, clock=FakeClock(NOW)) as world:
        live_through(world, [("send", 1, WORDS[0], "sent", None, False), *history, ("days", max(days, 1))])
        before, faults = ask(world), world.find_faults()
        assert faults == []
        looked = survey(world)
        kept = {
            row[0]
            for row in world.rows(
                "SELECT id FROM message WHERE state NOT IN ('sent', 'skipped', 'expired', 'cancelled', 'failed')"
            )
        }
        sums = prune(world)
        assert kept <= ids(world)
        assert (sums.messages, sums.kept, sums.contents, sums.batches) == (
            looked.messages, looked.kept, looked.contents, looked.batches
        )  # fmt: skip
        after = ask(world)
        remaining = ids(world)
        gone_candidates = {key for key in before if key[0] == "resend" and key[1] not in remaining}
        assert {key: answer for key, answer in before.items() if key not in gone_candidates} == after
        assert world.find_faults() == []
