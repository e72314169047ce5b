"""What becomes of an accepted message: shares, times and order, drawn from a seed."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wa_cli.sandbox.faults import parse_fault
from wa_cli.sandbox.ladder import Rung, draw_rungs
from wa_cli.sandbox.settings import SandboxSettings

STANDARD = SandboxSettings()


def _statuses(rungs: list[Rung]) -> list[str]:
    return [rung.status for rung in rungs]


def test_most_messages_are_delivered_and_six_in_ten_are_read() -> None:
    chance = random.Random(1)
    seen = Counter(" ".join(_statuses(draw_rungs(STANDARD, chance))) for _ in range(20_000))
    assert set(seen) == {"sent", "sent read", "sent delivered", "sent delivered read"}
    assert 100 < seen["sent"] < 320  # 1 %
    assert 280 < seen["sent read"] < 540  # 2 %
    assert 11_200 < seen["sent delivered read"] < 12_100  # 60 % of the rest


@given(st.integers())
def test_a_message_climbs_within_the_times_that_are_set(seed: int) -> None:
    rungs = draw_rungs(replace(STANDARD, delivered_skipped_share=0.0), random.Random(seed))
    assert _statuses(rungs) == ["sent", "delivered", "read"][: len(rungs)]
    bounds = [(0.05, 0.4), (0.3, 3.0), (2.0, 60.0)]
    before = 0.0
    for rung, (least, most) in zip(rungs, bounds, strict=False):
        assert least - 1e-9 <= rung.after - before <= most + 1e-9
        before = rung.after


def test_the_price_stands_on_sent_and_on_one_of_delivered_and_read() -> None:
    chance = random.Random(2)
    for _ in range(2000):
        rungs = draw_rungs(STANDARD, chance)
        priced = [rung.status for rung in rungs if rung.is_priced]
        assert priced == {1: ["sent"]}.get(len(rungs), ["sent", rungs[1].status] if len(rungs) > 1 else [])


def test_a_ladder_can_be_quick_or_wait_for_nothing() -> None:
    slow, quick, at_once = (
        draw_rungs(replace(STANDARD, ladder_speed=speed), random.Random(3)) for speed in (1.0, 100.0, 0.0)
    )
    assert _statuses(slow) == _statuses(quick) == _statuses(at_once)
    assert [rung.after for rung in quick] == pytest.approx([rung.after / 100 for rung in slow])
    assert {rung.after for rung in at_once} == {0.0}


@pytest.mark.parametrize(
    ("spelling", "statuses"),
    [
        ("later:131026", ["failed"]),
        ("later:131026@sent", ["sent", "failed"]),
        ("later:131026@delivered", ["sent", "delivered", "failed"]),
        ("until:none", []),
        ("until:sent", ["sent"]),
        ("until:delivered", ["sent", "delivered"]),
        ("until:read", ["sent", "delivered", "read"]),
        ("stop", ["sent", "delivered", "stop"]),
        ("stop:button", ["sent", "delivered", "stop:button"]),
        ("stop:preferences", ["sent", "delivered", "stop:preferences"]),
    ],
)
def test_a_fault_that_comes_later_decides_the_ladder(spelling: str, statuses: list[str]) -> None:
    for seed in range(50):
        rungs = draw_rungs(STANDARD, random.Random(seed), parse_fault(spelling))
        assert _statuses(rungs) == statuses
        assert [rung.after for rung in rungs] == sorted(rung.after for rung in rungs)
        assert [rung.code for rung in rungs if rung.status == "failed"] == [131026] * statuses.count("failed")


@pytest.mark.parametrize("spelling", [None, "hang", "cut_body", "slow:2", "later:131026", "until:none", "stop"])
def test_a_fault_leaves_the_fate_of_the_next_message_alone(spelling: str | None) -> None:
    chance, other = random.Random(4), random.Random(4)
    draw_rungs(STANDARD, chance)
    draw_rungs(STANDARD, other, parse_fault(spelling) if spelling else None)
    assert draw_rungs(STANDARD, chance) == draw_rungs(STANDARD, other)


def test_a_reaction_is_sent_and_nothing_more() -> None:
    for seed in range(50):
        assert _statuses(draw_rungs(STANDARD, random.Random(seed), only_sent=True)) == ["sent"]


def test_the_same_seed_draws_the_same_ladders() -> None:
    def draw(seed: int) -> list[list[Rung]]:
        chance = random.Random(seed)
        return [draw_rungs(STANDARD, chance) for _ in range(100)]

    assert draw(5) == draw(5)
    assert draw(5) != draw(6)
