"""What the store tells of a campaign's run: counts that add up, answers that belong to it, a line for everybody."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ledger import MINUTE, NOW, Ledger, number
from wa_cli.domain.receipt import Receipt
from wa_cli.domain.recipient import RecipientKind
from wa_cli.domain.report import ANSWER_MS, Bucket, find_ledger_error
from wa_cli.errors import NotFound
from wa_cli.store.sqlite.campaigns import read_campaign
from wa_cli.store.sqlite.database import Database
from wa_cli.store.sqlite.reports import SqliteReports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wa_cli.domain.report import RunFigures

DAY = 86_400_000


@pytest.fixture
def database() -> Iterator[Database]:
    with closing(Database.open_in_memory()) as opened:
        yield opened


@pytest.fixture
def ledger(database: Database) -> Ledger:
    built = Ledger(database)
    built.start_run()
    return built


def read(ledger: Ledger, *, is_deep: bool = False, known: RunFigures | None = None) -> RunFigures:
    reports = SqliteReports(ledger.database)
    return reports.read_figures(ledger.run(), now_ms=NOW, is_deep=is_deep, known=known)


# --- the ledger adds up ---

fates = st.sampled_from(
    [
        ("queued", None),
        ("sending", None),
        ("sent", None),
        ("sent", "sent"),
        ("sent", "delivered"),
        ("sent", "read"),
        ("sent", "played"),
        ("sent", "failed"),
        ("failed", None),
        ("unknown", None),
        ("skipped", None),
        ("expired", None),
        ("cancelled", None),
    ]
)
reasons = st.sampled_from(["invalid", "opted_out", "missing_field", "expired", "erased", "already_written", None])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(fates, st.sampled_from(["canary", "main"]), st.sampled_from("ab"), reasons), max_size=25),
    st.sampled_from(["none", "main", "all"]),
    st.lists(reasons.filter(bool), max_size=6),
    st.booleans(),
)
def test_the_audience_is_the_sum_of_the_buckets_and_of_the_lines(
    people: list[tuple[tuple[str, str | None], str, str, str | None]],
    held: str,
    nobodies: list[str],
    has_strangers: bool,
) -> None:
    """Promise P13; issue 5, points 8 and 9: overlapping exclusions, holds, and messages of others in between."""
    with closing(Database.open_in_memory()) as database:
        ledger = Ledger(database)
        other = Ledger(database, name="another")
        other.start_run()
        others = other.add_batch()
        ledger.start_run()
        batches = {
            (stage, variant): ledger.add_batch(
                stage=stage, variant=variant, is_held=held == "all" or (held == "main" and stage == "main")
            )
            for stage in ("canary", "main")
            for variant in "ab"
        }
        for n, ((state, receipt), stage, variant, reason) in enumerate(people):
            ledger.add(number(n), batches[stage, variant], state, receipt, stage=stage)
            if has_strangers:
                other.add(number(n), others, "failed")
            if reason is not None:  # from an earlier or a later plan of the same run
                ledger.leave_out(number(n), reason)
        for n, reason in enumerate(nobodies):
            ledger.leave_out(number(1_000 + n) if n % 2 else None, reason)
        figures = SqliteReports(database).read_figures(ledger.run(), now_ms=NOW, is_deep=True)
        assert find_ledger_error(figures) is None
        assert figures.audience == len(people) + sum(reason != "already_written" for reason in nobodies)
        lines = list(SqliteReports(database).read_ledger(ledger.run()))
        assert Counter(line.bucket for line in lines) == Counter(
            {bucket: count for bucket, count in figures.buckets.items() if count}
        )
        named = [line.recipient for line in lines if line.recipient is not None]
        assert len(named) == len(set(named))
        expected_held = sum(
            state == "queued" and (held == "all" or (held == "main" and stage == "main"))
            for (state, _receipt), stage, _variant, _reason in people
        )
        assert figures.buckets[Bucket.HELD] == expected_held


def test_counts_are_those_of_this_run_alone(ledger: Ledger) -> None:
    batch = ledger.add_batch()
    ledger.add(number(1), batch, "sent", "read")
    ledger.start_run("2026-11-30T09:00")
    batch = ledger.add_batch()
    ledger.add(number(1), batch, "failed", error_code="131026")
    ledger.add(number(2), batch)
    figures = read(ledger)
    assert figures.audience == 2
    assert (figures.buckets[Bucket.FAILED], figures.buckets[Bucket.QUEUED], figures.buckets[Bucket.READ]) == (1, 1, 0)


def test_a_run_that_has_no_message_yet_is_empty_and_sound(ledger: Ledger) -> None:
    figures = read(ledger, is_deep=True)
    assert figures.audience == 0
    assert figures.sends is None
    assert figures.ends_at_ms is None
    assert figures.details is not None
    assert figures.details.read_times is None
    assert find_ledger_error(figures) is None
    assert list(SqliteReports(ledger.database).read_ledger(ledger.run())) == []


def test_a_tally_that_was_tampered_with_is_found(ledger: Ledger) -> None:
    """Promise P13: the audience is counted from the messages, the buckets come from the tally."""
    ledger.add(number(1), ledger.add_batch(), "sent", "read")
    with ledger.database.write() as connection:
        connection.execute("UPDATE run_tally SET n = n + 1 WHERE state = 'sent' AND receipt = 'read'")
    assert find_ledger_error(read(ledger)) == "the audience is 1 and the buckets hold 2"


# --- what people did ---


def test_a_reply_counts_when_it_comes_after_the_persons_own_message_and_within_seven_days(ledger: Ledger) -> None:
    """Issue 5, point 10."""
    ledger.start_run("long ago", started_at=NOW - 9 * DAY)
    batch = ledger.add_batch(variant="a")
    sent_at = NOW - 8 * DAY
    for n in range(1, 6):
        ledger.add(number(n), batch, "sent", "read", posted_at=sent_at)
    ledger.write_back(number(1), at=sent_at - 1_000)  # before
    ledger.write_back(number(2), at=sent_at - 500)  # in the very second: WhatsApp rounds down
    ledger.write_back(number(3), at=sent_at + ANSWER_MS)
    ledger.write_back(number(3), at=sent_at + 5_000)  # twice is one person
    ledger.write_back(number(4), at=sent_at + ANSWER_MS + 1_000)  # too late
    figures = read(ledger, is_deep=True)
    assert figures.answers.replied == 2
    assert figures.details is not None
    assert [(part.name, part.replied) for part in figures.details.variants] == [("a", 2)]


def test_somebody_who_was_not_written_to_cannot_reply(ledger: Ledger) -> None:
    batch = ledger.add_batch()
    ledger.add(number(1), batch, "sent", None)
    ledger.add(number(2), batch, "failed")
    ledger.write_back(number(2), at=NOW - MINUTE)
    assert read(ledger).answers.replied == 0


def test_opt_outs_after_the_message_count_and_an_imported_list_does_not(ledger: Ledger) -> None:
    batch = ledger.add_batch()
    for n in range(1, 5):
        ledger.add(number(n), batch, "sent", "read")
    ledger.opt_out(number(1), at=NOW)
    ledger.opt_out(number(2), at=NOW - DAY)
    ledger.opt_out(number(3), at=NOW, source="import")
    ledger.opt_out(number(4), at=NOW, source="preference")
    assert read(ledger).answers.opted_out == 2


def test_clicks_are_counted_by_person_and_previews_apart(ledger: Ledger) -> None:
    """Issue 5, point 10."""
    batch = ledger.add_batch(variant="b")
    for n in range(1, 4):
        ledger.add(number(n), batch, "sent", "read")
    ledger.click(number(1), at=NOW)
    ledger.click(number(1), at=NOW + 1)
    ledger.click(number(2), at=NOW, kind="preview")
    figures = read(ledger, is_deep=True)
    answers = figures.answers
    assert (answers.clicked, answers.clicks, answers.previews, answers.has_links) == (1, 2, 1, True)
    assert figures.details is not None
    assert figures.details.variants[0].clicked == 1


# --- why, where, when ---


def test_failures_are_grouped_by_their_code_the_most_frequent_first(ledger: Ledger) -> None:
    batch = ledger.add_batch()
    first = ledger.add(number(1), batch, "failed", error_code="131026")
    ledger.add(number(2), batch, "failed", error_code="131026")
    late = ledger.add(number(3), batch, "sent", "failed", error_code="131049")
    ruled = ledger.add(number(4), batch, "failed", reason="out_of_attempts")
    groups = [(group.code, group.count, group.message_id) for group in read(ledger).failures]
    assert groups == [("131026", 2, first), ("131049", 1, late), ("out_of_attempts", 1, ruled)]


def test_parts_tell_variants_countries_and_instances_apart(ledger: Ledger) -> None:
    """Issue 5, point 9."""
    a, b = ledger.add_batch(variant="a"), ledger.add_batch(variant="b")
    ledger.add("+14165550101", a, "sent", "read")
    ledger.add("+12125550101", a, "sent", "delivered")
    ledger.add("+12125550102", b, "expired", reason="expired")
    ledger.add("120363025246125486@g.us", b, "sent", None, kind=RecipientKind.GROUP)
    details = read(ledger, is_deep=True).details
    assert details is not None
    assert [(part.name, part.total) for part in details.variants] == [("a", 2), ("b", 2)]
    assert [(part.name, part.total) for part in details.countries] == [("US", 2), ("CA", 1), ("groups", 1)]
    assert [(part.name, part.total) for part in details.instances] == [("default", 4)]
    assert details.unsent == {"expired": 1}


def test_times_to_read_run_from_the_post_to_the_receipt(ledger: Ledger) -> None:
    batch = ledger.add_batch()
    for n, minutes in enumerate((2, 10, 30)):
        ledger.add(number(n), batch, "sent", "read", posted_at=NOW - 50 * MINUTE, read_after_ms=minutes * MINUTE)
    ledger.add(number(9), batch, "sent", "delivered")
    details = read(ledger, is_deep=True).details
    assert details is not None
    assert details.read_times is not None
    assert (details.read_times.count, details.read_times.median_ms) == (3, 10 * MINUTE)


def test_the_pace_is_that_of_the_last_minute_and_that_of_the_whole_run(ledger: Ledger) -> None:
    """Row Q7."""
    batch = ledger.add_batch()
    for n in range(20):
        ledger.add(number(n), batch, "sent", None, posted_at=NOW - 20 * MINUTE + n * 1_000)
    for n in range(20, 25):
        ledger.add(number(n), batch, "sent", None, posted_at=NOW - 30_000 + n)
    figures = read(ledger)
    assert figures.per_minute == 5
    assert figures.net_per_minute == pytest.approx(25 / 20)
    assert figures.sends is not None
    assert figures.sends.total == 25


def test_the_end_comes_from_the_timetable_and_from_the_pace_once_it_is_late(ledger: Ledger) -> None:
    batch = ledger.add_batch()
    ledger.add(number(1), batch, due_at=NOW + 5 * MINUTE)
    ledger.add(number(2), batch, due_at=NOW + 9 * MINUTE)
    assert read(ledger).ends_at_ms == NOW + 9 * MINUTE
    for n in range(10, 16):
        ledger.add(number(n), batch, due_at=NOW - MINUTE)
    assert read(ledger).ends_at_ms is None  # late, and nothing moves
    ledger.add(number(19), batch, "sent", None, posted_at=NOW - 30 * MINUTE)
    ledger.add(number(20), batch, "sent", None, posted_at=NOW - 5_000)
    ledger.add(number(21), batch, "sent", None, posted_at=NOW - 4_000)
    assert read(ledger).ends_at_ms == NOW + 9 * MINUTE
    ledger.hold()
    held = read(ledger)
    assert held.ends_at_ms is None
    assert (held.buckets[Bucket.HELD], held.buckets[Bucket.QUEUED]) == (8, 0)


def test_a_run_that_has_only_begun_is_measured_by_the_time_it_has_had(ledger: Ledger) -> None:
    """Two posts in ten seconds are twelve a minute, not two."""
    batch = ledger.add_batch()
    for n, ago_ms in ((0, 10_000), (1, 5_000)):
        ledger.add(number(n), batch, "sent", None, posted_at=NOW - ago_ms)
    for n in range(2, 26):
        ledger.add(number(n), batch, due_at=NOW - 1)
    assert read(ledger).ends_at_ms == NOW + 2 * MINUTE


def test_what_takes_long_to_count_is_taken_over_from_an_earlier_look(ledger: Ledger) -> None:
    batch = ledger.add_batch()
    ledger.add(number(1), batch, "sent", "read")
    earlier = read(ledger)
    ledger.add(number(2), batch, "failed", error_code="131026")
    later = read(ledger, known=earlier)
    assert later.failures == ()
    assert later.buckets[Bucket.FAILED] == 1
    assert find_ledger_error(later) is None


# --- lines ---


def test_a_line_tells_what_became_of_one_person(ledger: Ledger) -> None:
    """Issue 5, point 9: the ledger, one row a person."""
    batch = ledger.add_batch(variant="a")
    message_id = ledger.add(number(1), batch, "sent", "read", posted_at=NOW - 20 * MINUTE)
    ledger.write_back(number(1), at=NOW)
    ledger.click(number(1), at=NOW - MINUTE)
    ledger.leave_out(None, "invalid", "line 7: no digits")
    line, nobody = SqliteReports(ledger.database).read_ledger(ledger.run())
    assert (line.message_id, line.recipient, line.bucket, line.variant) == (message_id, number(1), Bucket.READ, "a")
    assert line.sent_at_ms == NOW - 20 * MINUTE
    assert line.delivered_at_ms == NOW - 20 * MINUTE + 2_000
    assert line.read_at_ms == NOW - 15 * MINUTE
    assert (line.replied_at_ms, line.clicked_at_ms, line.opted_out_at_ms) == (NOW, NOW - MINUTE, None)
    assert (nobody.recipient, nobody.bucket, nobody.reason) == (None, Bucket.SKIPPED, "invalid")
    assert nobody.details == "line 7: no digits"


# --- names ---


def test_the_newest_run_is_shown_unless_another_is_named(database: Database) -> None:
    """Issue 5, point 5: each occurrence has a ledger of its own."""
    ledger = Ledger(database)
    reports = SqliteReports(database)
    with database.read() as connection:
        campaign = read_campaign(connection, ledger.campaign_id)
    assert reports.find_run(campaign) is None
    ledger.start_run("2026-11-23T09:00", state="finished", ended_at=NOW)
    ledger.add(number(1), ledger.add_batch(), "sent", "read")
    newest = ledger.start_run("2026-11-30T09:00")
    ledger.start_run("2026-12-07T09:00", state="missed")
    run = reports.find_run(campaign)
    assert run is not None
    assert run.id == newest
    earlier = reports.find_run(campaign, "2026-11-23T09:00")
    assert earlier is not None
    assert reports.read_figures(earlier, now_ms=NOW).buckets[Bucket.READ] == 1
    assert [(line.run.occurrence, line.audience) for line in reports.list_runs(campaign, limit=2)] == [
        ("2026-12-07T09:00", 0),
        ("2026-11-30T09:00", 0),
    ]
    with pytest.raises(NotFound, match="no run '2020-01-01T00:00'"):
        reports.find_run(campaign, "2020-01-01T00:00")


def test_every_receipt_has_a_place(ledger: Ledger) -> None:
    batch = ledger.add_batch()
    for n, receipt in enumerate([None, *Receipt]):
        ledger.add(number(n), batch, "sent", receipt)
    buckets = read(ledger).buckets
    assert (buckets[Bucket.SENT], buckets[Bucket.DELIVERED], buckets[Bucket.READ], buckets[Bucket.FAILED]) == (
        2,
        1,
        2,
        1,
    )
