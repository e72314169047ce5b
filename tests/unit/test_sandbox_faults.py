"""How the sandbox's faults are spelled, queued, drawn by chance and tied to magic numbers."""

from __future__ import annotations

import random

import pytest

from wa_cli.errors import UsageError
from wa_cli.sandbox.faults import (
    MAGIC_NUMBERS,
    Chaos,
    Fault,
    FaultKind,
    ScriptedFaults,
    find_magic_fault,
    parse_chaos,
    parse_fault,
)
from wa_cli.sandbox.graph_errors import KNOWN_ERRORS


@pytest.mark.parametrize(
    "spelling",
    [
        "reject:131026",
        "reject:131000@200",
        "reject:100/33",
        "reject:190/463@401",
        "throttle",
        "pair",
        "500_131000",
        "flaky:3",
        "slow:2.5",
        "hang",
        "lost:hang",
        "reset",
        "lost:reset",
        "cut_headers",
        "cut_body",
        "cut_body:0",
        "lost:cut_body:17",
        "html_200",
        "empty_200",
        "503_empty",
        "lost:503_empty",
        "redirect",
        "later:131026",
        "later:131026@sent",
        "later:131026@delivered",
        "until:none",
        "until:read",
        "stop",
        "stop:button",
        "stop:preferences",
    ],
)
def test_a_fault_reads_back_as_it_was_written(spelling: str) -> None:
    assert str(parse_fault(spelling)) == spelling


@pytest.mark.parametrize(
    "spelling",
    [
        "",
        "explode",
        "reject",
        "reject:",
        "reject:abc",
        "reject:-1",
        "reject:1@99",
        "reject:1@700",
        "reject:1/x",
        "flaky",
        "flaky:0",
        "slow",
        "slow:nan",
        "slow:-1",
        "slow:1e9",
        "cut_body:-1",
        "cut_body:x",
        "hang:3",
        "lost:reject:131026",
        "lost:slow:1",
        "lost:redirect",
        "lost:lost:hang",
        "later",
        "later:",
        "later:131026@read",
        "later:131026@",
        "until",
        "until:failed",
        "stop:",
        "stop:now",
        "lost:later:131026",
        "lost:stop",
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_with_a_hint(spelling: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_fault(spelling)
    assert raised.value.hint


def test_every_kind_of_fault_has_a_spelling() -> None:
    arguments = {"reject": ":131026", "flaky": ":1", "slow": ":1", "later": ":131026", "until": ":sent"}
    for kind in FaultKind:
        assert parse_fault(kind.value + arguments.get(kind.value, "")).kind is kind


def test_magic_endings_are_four_digits_from_9001_and_each_means_one_thing() -> None:
    endings = [magic.ending for magic in MAGIC_NUMBERS]
    assert len(set(endings)) == len(endings)
    assert all(len(ending) == 4 and int(ending) > 9000 for ending in endings)
    assert all(magic.meaning for magic in MAGIC_NUMBERS)


def test_magic_numbers_reach_every_kind_of_fault_but_the_cut_head() -> None:
    assert {magic.fault.kind for magic in MAGIC_NUMBERS} == set(FaultKind) - {FaultKind.CUT_HEADERS}


def test_magic_codes_stand_in_the_table_except_the_one_nobody_knows() -> None:
    unknown = [
        magic.ending for magic in MAGIC_NUMBERS if magic.fault.code is not None and magic.fault.code not in KNOWN_ERRORS
    ]
    assert unknown == ["9999"]


def test_a_code_that_comes_later_has_the_ending_of_the_one_that_comes_at_once_behind_91() -> None:
    by_ending = {magic.ending: magic.fault for magic in MAGIC_NUMBERS}
    later = {ending: fault for ending, fault in by_ending.items() if fault.kind is FaultKind.LATER and not fault.word}
    assert len(later) == 8
    for ending, fault in later.items():
        assert ending.startswith("91")
        assert str(fault.code).endswith(ending[2:])


def test_an_ordinary_number_means_nothing() -> None:
    assert find_magic_fault("15550100123") is None
    assert find_magic_fault("") is None


def test_faults_for_a_recipient_go_before_those_for_anybody_and_each_is_used_once() -> None:
    scripted = ScriptedFaults()
    scripted.add(parse_fault("hang"), times=1, recipient=None)
    scripted.add(parse_fault("reset"), times=2, recipient="1555")
    assert len(scripted) == 3
    taken = [scripted.take("1555") for _ in range(4)]
    assert [fault and fault.kind for fault in taken] == [FaultKind.RESET, FaultKind.RESET, FaultKind.HANG, None]
    assert not scripted


def test_a_fault_for_one_recipient_leaves_others_alone() -> None:
    scripted = ScriptedFaults()
    scripted.add(parse_fault("hang"), times=1, recipient="1555")
    assert scripted.take("1666") is None
    assert len(scripted) == 1


def test_an_injected_flaky_is_as_many_refusals() -> None:
    scripted = ScriptedFaults()
    scripted.add(parse_fault("flaky:2"), times=2, recipient=None)
    assert [scripted.take("1") for _ in range(5)] == [Fault(kind=FaultKind.ERROR_500)] * 4 + [None]


def test_a_fault_that_happens_no_times_is_refused() -> None:
    with pytest.raises(UsageError):
        ScriptedFaults().add(parse_fault("hang"), times=0, recipient=None)


def test_the_same_seed_draws_the_same_chaos() -> None:
    chaos = Chaos({"hang": 0.1, "cut_body": 0.2})

    def draw(seed: int) -> list[str]:
        source = random.Random(seed)
        return [str(chaos.draw(source)) for _ in range(500)]

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)
    drawn = draw(7)
    assert 25 < drawn.count("hang") < 80
    assert 65 < drawn.count("cut_body") < 140


def test_no_chaos_draws_nothing_from_the_source() -> None:
    source = random.Random(3)
    before = source.getstate()
    assert Chaos({}).draw(source) is None
    assert Chaos({"hang": 0.0}).draw(source) is None
    assert source.getstate() == before


def test_certain_chaos_always_happens() -> None:
    chaos = Chaos({"reset": 0.5, "hang": 0.5})
    source = random.Random(1)
    assert all(chaos.draw(source) is not None for _ in range(1000))


@pytest.mark.parametrize(
    "odds", [{"hang": 1.1}, {"hang": -0.1}, {"hang": 0.6, "reset": 0.6}, {"bang": 0.1}, {"flaky:2": 0.1}]
)
def test_impossible_odds_are_refused(odds: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Chaos(odds)


def test_chaos_flags_are_a_fault_and_its_probability() -> None:
    assert parse_chaos(["cut_body:10=0.01", "lost:hang=.5"]) == {"cut_body:10": 0.01, "lost:hang": 0.5}
    for wrong in ("hang", "hang=", "hang=often", "0.5"):
        with pytest.raises(UsageError):
            parse_chaos([wrong])
