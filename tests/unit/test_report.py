"""The ledger of a campaign's run: buckets that add up, a funnel, an end that is honest, plots that fit."""

from __future__ import annotations

from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from wa_cli.cli.campaign_lines import summary_line, view_lines
from wa_cli.cli.campaign_show import exit_code_of
from wa_cli.cli.campaign_view import View, find_commands
from wa_cli.cli.plots import Style, draw_bar, draw_spark, format_share, speaks_utf_8
from wa_cli.domain.campaign import Campaign, CampaignState, Reason, Run
from wa_cli.domain.message import State
from wa_cli.domain.receipt import Receipt
from wa_cli.domain.report import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    Answers,
    Bucket,
    FailureGroup,
    Part,
    RunDetails,
    RunFigures,
    Series,
    choose_step_ms,
    country_of,
    estimate_end,
    fill_buckets,
    find_ledger_error,
    gather_parts,
    gather_series,
    keep_largest,
    make_funnel,
    measure_read_times,
    nearest_rank,
)

NOW = 1_800_000_000_000
UTC = ZoneInfo("UTC")
states = st.tuples(st.sampled_from(State), st.sampled_from([None, *Receipt]), st.integers(1, 10**6))


def figures_of(tally: list[tuple[State, Receipt | None, int]], **left_out: int) -> RunFigures:
    buckets = fill_buckets(tally, left_out, held=0)
    return RunFigures(audience=sum(buckets.values()), buckets=buckets, left_out=left_out)


# --- the ledger ---


@given(
    st.lists(states), st.dictionaries(st.sampled_from([*map(str, Reason), "new_reason"]), st.integers(1, 10**6)),
    st.integers(0, 10**7),
)  # fmt: skip
def test_everybody_stands_in_one_bucket_whatever_happened_to_them(
    tally: list[tuple[State, Receipt | None, int]], left_out: dict[str, int], held: int
) -> None:
    """Promise P13; issue 5, point 9."""
    buckets = fill_buckets(tally, left_out, held=held)
    audience = sum(count for _state, _receipt, count in tally) + sum(left_out.values())
    assert set(buckets) == set(Bucket)
    assert sum(buckets.values()) == audience
    assert min(buckets.values()) >= 0
    assert find_ledger_error(RunFigures(audience=audience, buckets=buckets, left_out=left_out)) is None


def test_people_who_were_left_out_are_skipped_or_expired() -> None:
    """Promise P13."""
    buckets = fill_buckets([(State.SENT, Receipt.READ, 5)], {"opted_out": 2, "invalid": 1, "expired": 4}, held=0)
    assert {bucket: count for bucket, count in buckets.items() if count} == {
        Bucket.READ: 5,
        Bucket.SKIPPED: 3,
        Bucket.EXPIRED: 4,
    }


def test_a_late_failure_is_a_failure_and_a_played_message_was_read() -> None:
    tally = [(State.SENT, Receipt.FAILED, 1), (State.SENT, Receipt.PLAYED, 2), (State.SENT, None, 3)]
    buckets = fill_buckets(tally, {}, held=0)
    assert (buckets[Bucket.FAILED], buckets[Bucket.READ], buckets[Bucket.SENT]) == (1, 2, 3)


def test_a_ledger_that_does_not_add_up_says_so() -> None:
    """Promise P13."""
    sound = figures_of([(State.SENT, None, 5)], opted_out=2)
    assert find_ledger_error(replace(sound, audience=8)) == "the audience is 8 and the buckets hold 7"
    below = replace(sound, audience=6, buckets={**sound.buckets, Bucket.QUEUED: -1})
    assert find_ledger_error(below) == "fewer than none are queued"
    part = Part(name="a", buckets={Bucket.SENT: 5})
    details = RunDetails(variants=(part,), countries=(part,), instances=(part,), unsent={}, read_times=None)
    assert find_ledger_error(replace(sound, details=details)) is None
    short = replace(details, countries=(Part(name="SG", buckets={Bucket.SENT: 4}),))
    assert find_ledger_error(replace(sound, details=short)) == "there are 5 messages and the countries hold 4"
    moved = replace(details, variants=(Part(name="a", buckets={Bucket.READ: 5}),))
    error = find_ledger_error(replace(sound, details=moved))
    assert error == "5 messages are sent, and the variants hold another number of them"


def test_each_stage_of_the_funnel_holds_the_later_ones() -> None:
    """Issue 5, point 8; row Q6."""
    tally = [(State.SENT, Receipt.READ, 30), (State.SENT, Receipt.DELIVERED, 20), (State.SENT, None, 10)]
    figures = replace(
        figures_of([*tally, (State.FAILED, None, 20)], opted_out=20), answers=Answers(replied=5, opted_out=1)
    )
    steps = {step.name: (step.count, step.share) for step in make_funnel(figures)}
    assert steps == {
        "recipients": (100, 1.0),
        "sent": (60, 0.6),
        "delivered": (50, 0.5),
        "read": (30, 0.3),
        "replied": (5, 0.05),
        "failed": (20, 0.2),
        "opted out": (1, 0.01),
        "unknown": (0, 0.0),
    }
    with_links = replace(figures, answers=Answers(has_links=True, clicked=7))
    assert ("clicked", 7) in [(step.name, step.count) for step in make_funnel(with_links)]
    assert all(step.share == 0.0 for step in make_funnel(figures_of([])))


# --- time ---


def test_the_end_is_the_timetables_while_nothing_is_late() -> None:
    """Issue 5, point 8."""
    assert estimate_end(waiting=9, overdue=0, last_due_at_ms=NOW + 7, per_minute=0, now_ms=NOW) == NOW + 7


def test_what_is_late_leaves_at_the_present_pace() -> None:
    end = estimate_end(waiting=90, overdue=60, last_due_at_ms=NOW - 5, per_minute=20, now_ms=NOW)
    assert end == NOW + 3 * MINUTE_MS
    assert estimate_end(waiting=90, overdue=1, last_due_at_ms=NOW + DAY_MS, per_minute=20, now_ms=NOW) == NOW + DAY_MS


def test_there_is_no_end_where_nothing_waits_or_nothing_moves() -> None:
    assert estimate_end(waiting=0, overdue=0, last_due_at_ms=None, per_minute=9, now_ms=NOW) is None
    assert estimate_end(waiting=5, overdue=5, last_due_at_ms=NOW, per_minute=0, now_ms=NOW) is None


@given(st.dictionaries(st.integers(NOW // MINUTE_MS, NOW // MINUTE_MS + 10**6), st.integers(1, 999), min_size=1))
def test_a_series_keeps_every_post_and_few_bars(by_minute: dict[int, int]) -> None:
    series = gather_series(by_minute, most=60)
    assert series is not None
    assert series.total == sum(by_minute.values())
    assert len(series.counts) <= 61
    assert series.start_ms <= min(by_minute) * MINUTE_MS
    assert series.counts[0] > 0
    assert series.counts[-1] > 0


def test_the_steps_of_a_series_suit_its_length() -> None:
    assert choose_step_ms(59 * MINUTE_MS, most=60) == MINUTE_MS
    assert choose_step_ms(HOUR_MS, most=60) == 2 * MINUTE_MS
    assert choose_step_ms(3 * DAY_MS, most=60) == 2 * HOUR_MS
    assert choose_step_ms(9_000 * DAY_MS, most=60) % DAY_MS == 0
    assert gather_series({}) is None


def test_times_to_read_have_a_median_a_ninth_decile_and_a_histogram() -> None:
    """Issue 5, point 9."""
    times = measure_read_times([-400, 1_000, MINUTE_MS, 2 * MINUTE_MS, 20 * MINUTE_MS, HOUR_MS, 5 * DAY_MS])
    assert times is not None
    assert (times.count, times.median_ms, times.p90_ms) == (7, 2 * MINUTE_MS, 5 * DAY_MS)
    spans = [(span.until_ms, span.count) for span in times.spans if span.count]
    assert spans == [(MINUTE_MS, 3), (5 * MINUTE_MS, 1), (HOUR_MS, 2), (None, 1)]
    assert measure_read_times([]) is None
    assert nearest_rank([1, 2, 3, 4], 0.5) == 2


# --- parts ---


def test_the_largest_parts_are_kept_and_the_others_are_one() -> None:
    rows = [(f"c{n:02}", Bucket.SENT, n) for n in range(1, 21)] + [("c20", Bucket.FAILED, 1)]
    parts = keep_largest(gather_parts(rows), most=5)
    assert [part.name for part in parts] == ["c20", "c19", "c18", "c17", "16 others"]
    assert sum(part.total for part in parts) == 211


@pytest.mark.parametrize(
    ("address", "kind", "country"),
    [
        ("+6581230001", "person", "SG"),
        ("+14165550123", "person", "CA"),
        ("+12125550123", "person", "US"),
        ("+77011234567", "person", "KZ"),
        ("120363025246125486@g.us", "group", "groups"),
        ("erased:12", "person", "erased"),
        ("user:BR.123", "person", "unknown"),
    ],
)
def test_a_number_has_a_country(address: str, kind: str, country: str) -> None:
    assert country_of(address, kind) == country


# --- plots ---


def test_the_smallest_thing_there_is_has_a_bar() -> None:
    assert draw_bar(1, 10**6, Style(), width=40) == "▏"
    assert draw_bar(0, 10, Style(), width=40) == ""
    assert draw_bar(10, 10, Style(), width=8) == "█" * 8
    assert draw_bar(1, 1000, Style(is_plain=True), width=40) == "#"
    assert draw_bar(5, 10, Style(is_spoken=True), width=40) == ""


@given(st.lists(st.integers(0, 10**6), max_size=300), st.integers(40, 80), st.booleans())
def test_a_sparkline_fits_its_width_and_shows_nothing_as_a_blank(counts: list[int], width: int, is_plain: bool) -> None:
    spark = draw_spark(counts, Style(width=width, is_plain=is_plain))
    assert len(spark) <= width
    assert spark.isascii() or not is_plain
    if counts and len(counts) <= width:
        assert [sign == " " for sign in spark] == [count == 0 for count in counts]


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.0, "0.0%"), (0.0002, "<0.1%"), (0.612, "61.2%"), (0.99995, ">99.9%"), (1.0, "100.0%")],
)
def test_a_share_never_says_none_or_all_falsely(share: float, words: str) -> None:
    """Promise P3."""
    assert format_share(share) == words


@pytest.mark.parametrize(
    ("named", "speaks"),
    [({"LANG": "de_DE.UTF-8"}, True), ({"LC_ALL": "C", "LANG": "en_US.UTF-8"}, False), ({}, False),
     ({"LC_CTYPE": "C.utf8"}, True), ({"LANG": "en_US.ISO-8859-1"}, False)],
)  # fmt: skip
def test_plots_are_ascii_where_the_locale_is_not_utf_8(
    named: dict[str, str], speaks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    assert speaks_utf_8() is speaks


# --- the screen ---


def view_of(
    figures: RunFigures | None, *, state: CampaignState = CampaignState.RUNNING, occurrence: str = "", **changes: object
) -> View:
    campaign = Campaign(
        id=1,
        name="spring-sale",
        path="campaigns/spring-sale.toml",
        source="",
        state=state,
        created_at_ms=NOW - DAY_MS,
        changed_at_ms=NOW - DAY_MS,
    )
    run = Run(
        id=1,
        campaign_id=1,
        occurrence=occurrence,
        plan_id=1,
        state="running",
        created_at_ms=NOW - HOUR_MS,
        started_at_ms=NOW - HOUR_MS,
    )
    view = View(
        at_ms=NOW,
        campaign=campaign,
        run=run if figures else None,
        figures=figures,
        runs=(),
        changes=(),
        problems=(),
        is_run_named=False,
    )
    return replace(view, **changes)  # type: ignore[arg-type]  # fields of View by their names


FULL = replace(
    figures_of(
        [(state, receipt, 1_234_567) for state in State for receipt in (None, Receipt.DELIVERED, Receipt.READ)],
        **{reason.value: 98_765 for reason in Reason},
    ),
    answers=Answers(replied=765_432, opted_out=54_321, clicked=999_999, clicks=2_000_000, has_links=True),
    failures=(
        FailureGroup(code="131026", count=1_000_000, message_id=7, meaning="undeliverable " * 15, fix="word " * 40),
        FailureGroup(code="out_of_attempts", count=3, message_id=1_234_567),
    ),
    sends=Series(start_ms=NOW - HOUR_MS, step_ms=MINUTE_MS, counts=tuple(range(60))),
    per_minute=4_800,
    net_per_minute=4_321.5,
    ends_at_ms=NOW + DAY_MS,
)  # fmt: skip


@pytest.mark.parametrize("width", [80, 60])
@pytest.mark.parametrize("is_plain", [False, True])
def test_the_screen_of_a_campaign_fits_80_and_60_columns(width: int, is_plain: bool) -> None:
    """Issue 5, point 8; row Q6."""
    view = view_of(FULL, problems=(("nobody sends for default " * 5, "wa run"),), occurrence="2026-11-30T09:00")
    lines = view_lines(view, ZoneInfo("America/Argentina/Buenos_Aires"), Style(width=width, is_plain=is_plain))
    assert max(map(cell_len, lines)) <= width
    screen = "\n".join(lines)
    assert screen.isascii() or not is_plain
    for word in ("recipients", "opted out", "4,800 a minute now, 4,321.5 over the run", "131026", "1,000,000"):
        assert word in screen


@pytest.mark.parametrize("most", [10, 23, 35, 100])
def test_a_screen_that_is_redrawn_keeps_what_matters_most_within_its_height(most: int) -> None:
    view = view_of(FULL, problems=(("nobody sends for default", "wa run"),))
    lines = view_lines(view, UTC, Style(), most=most)
    assert len(lines) <= most
    assert lines[0] == "spring-sale  running"
    assert ("problems" in lines) is (most > 10)
    assert ("what you can type" in lines) is (most == 100)


def test_a_screen_for_the_ear_has_no_plots() -> None:
    lines = view_lines(view_of(FULL), UTC, Style(is_spoken=True))
    assert not set("\n".join(lines)) & set("█▏▁▇#@")
    assert any(line.startswith("posts each minute: 1,770 in all, most 59 at ") for line in lines)


@pytest.mark.parametrize(
    ("state", "first", "never"),
    [
        (CampaignState.DRAFT, "wa campaign plan spring-sale", "pause"),
        (CampaignState.SCHEDULED, "wa campaign watch spring-sale", "resume"),
        (CampaignState.RUNNING, "wa campaign watch spring-sale", "resume"),
        (CampaignState.PAUSED, "wa campaign resume spring-sale", "pause"),
        (CampaignState.FINISHED, "wa campaign report spring-sale", "cancel"),
        (CampaignState.CANCELLED, "wa campaign clone spring-sale NEW-NAME", "resume"),
    ],
)
def test_only_commands_that_apply_now_are_named(state: CampaignState, first: str, never: str) -> None:
    """Issue 5, point 8."""
    figures = None if state is CampaignState.DRAFT else figures_of([(State.SENT, None, 1)])
    commands = find_commands(view_of(figures, state=state))
    assert commands[0] == first
    assert not any(never in command for command in commands)
    assert not any("failed" in command for command in commands)


def test_failures_bring_their_commands() -> None:
    commands = find_commands(view_of(figures_of([(State.FAILED, None, 1)]), state=CampaignState.FINISHED))
    assert "wa resend --campaign spring-sale" in commands


def test_the_line_of_a_change_names_what_is_not_zero() -> None:
    figures = replace(figures_of([(State.SENT, Receipt.READ, 3), (State.QUEUED, None, 1)]), ends_at_ms=NOW + 59_999)
    assert summary_line(view_of(figures)) == (
        "running: 3 of 4 sent (75.0%), 1 queued, 3 read, ends 2027-01-15T08:01:00Z"
    )
    assert summary_line(view_of(None, state=CampaignState.DRAFT)) == "draft: nothing of it has been let go yet"


@pytest.mark.parametrize(
    ("tally", "left_out", "code"),
    [
        ([(State.SENT, None, 5)], {"opted_out": 2}, 0),
        ([(State.SENT, None, 5), (State.FAILED, None, 1)], {}, 3),
        ([(State.SENT, None, 5), (State.EXPIRED, None, 1)], {"expired": 1}, 3),
        ([(State.UNKNOWN, None, 1), (State.FAILED, None, 1)], {}, 5),
    ],
)
def test_how_a_campaign_went_is_an_exit_code(
    tally: list[tuple[State, Receipt | None, int]], left_out: dict[str, int], code: int
) -> None:
    assert exit_code_of(view_of(figures_of(tally, **left_out), state=CampaignState.FINISHED)) == code


def test_a_campaign_whose_last_message_is_out_has_ended_also_where_nobody_looks_after_it() -> None:
    assert view_of(figures_of([(State.SENT, None, 1)])).has_ended
    assert not view_of(figures_of([(State.SENT, None, 1), (State.SENDING, None, 1)])).has_ended
    assert not view_of(figures_of([(State.SENT, None, 1), (State.QUEUED, None, 1)])).has_ended
