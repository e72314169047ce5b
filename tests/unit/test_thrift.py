"""Answers that cost a scan are remembered: the longer they took, the longer."""

from __future__ import annotations

import pytest

from wa_cli.web.thrift import MOST, SHARE, Thrift


class Scan:
    """A question that takes so long, and a clock that goes on meanwhile."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked = 0
        self.seconds = 1.0

    def clock(self) -> float:
        return self.now

    def __call__(self) -> int:
        self.now += self.seconds
        self.asked += 1
        return self.asked


def test_a_question_gets_its_share_of_the_time_and_no_more() -> None:
    scan = Scan()
    thrift = Thrift(scan.clock)
    for _second in range(1000):
        thrift.ask("a", scan)
        scan.now += 1.0
    assert scan.asked * scan.seconds <= scan.now * SHARE * 1.1


def test_a_quick_answer_is_as_good_as_fresh() -> None:
    scan = Scan()
    scan.seconds = 0.001
    thrift = Thrift(scan.clock)
    assert thrift.ask("a", scan) == 1
    assert thrift.ask("a", scan) == 1
    scan.now += 0.05
    assert thrift.ask("a", scan) == 2


def test_questions_do_not_share_answers_and_errors_are_not_remembered() -> None:
    scan = Scan()
    thrift = Thrift(scan.clock)

    def fail() -> int:
        raise ValueError

    with pytest.raises(ValueError):
        thrift.ask("a", fail)
    assert (thrift.ask("a", scan), thrift.ask("b", scan)) == (1, 2)


def test_its_memory_is_bounded() -> None:
    """Row S11."""
    scan = Scan()
    thrift = Thrift(scan.clock)
    for number in range(10 * MOST):
        thrift.ask(number, scan)
    assert len(thrift._known) <= MOST
