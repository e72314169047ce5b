"""`from wa_cli import Wa`: the Python door, on a real database file."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

import wa_cli
from tests.processes import clean_environment
from wa_cli import Wa
from wa_cli.domain.message import Location, Poll, Reaction
from wa_cli.errors import Conflict, Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ADA, BEN = "+6581230001", "+6581230002"


@pytest.fixture
def wa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wa]:
    monkeypatch.chdir(tmp_path)
    with Wa(db=tmp_path / "wa.db", settings={"WA_DEFAULT_REGION": "SG", "WA_TIMEZONE": "UTC"}) as opened:
        yield opened


def test_a_message_is_immediate_then_queued_then_a_duplicate(wa: Wa) -> None:
    """Row T2: the three outcomes; row S1: with its position."""
    first = wa.send_message(ADA, "Hello")
    assert (first.outcome, first.id, first.recipient, first.queue_position) == ("immediate", "m1", ADA, 1)
    second = wa.send_message(BEN, "Hello", at=datetime.now(UTC) + timedelta(hours=1))
    assert (second.outcome, second.state) == ("queued", "queued")
    assert second.due_at is not None
    assert second.due_at > datetime.now(UTC) + timedelta(minutes=59)
    again = wa.send_message("8123 0001", "Hello")
    assert (again.outcome, again.id, again.is_duplicate) == ("duplicate", "m1", True)


def test_an_urgent_message_goes_ahead_of_what_waits(wa: Wa) -> None:
    """Row S3."""
    wa.send_batch_messages([(ADA, "one"), (BEN, "two")])
    assert wa.send_message_immediate(ADA, "Alarm").queue_position == 1


def test_a_batch_is_spaced_and_answers_in_order(wa: Wa) -> None:
    """Rows S4, T3."""
    results = wa.send_batch_messages([(ADA, "one"), (BEN, "two"), (ADA, "one")], delay_ms=3_000)
    assert [one.outcome for one in results] == ["immediate", "queued", "duplicate"]
    first, second = results[0].due_at, results[1].due_at
    assert first is not None
    assert second is not None
    assert second - first == timedelta(seconds=3)
    assert wa.send_batch_messages([]) == []


def test_a_batch_with_one_bad_pair_queues_nothing_and_names_it(wa: Wa) -> None:
    """Promise P12: said, and nothing half done."""
    with pytest.raises(UsageError, match="pair 2"):
        wa.send_batch_messages([(ADA, "one"), ("12", "two")])
    assert wa.get_stats()["queue"] == {"waiting": 0}


def test_a_callers_key_means_once_and_the_same_words(wa: Wa) -> None:
    """Rows H5, H6."""
    assert wa.send_message(ADA, "Hello", key="order:1").outcome == "immediate"
    assert wa.send_message(ADA, "Hello", key="order:1").id == "m1"
    with pytest.raises(Conflict):
        wa.send_message(ADA, "Other words", key="order:1")


def test_a_duplicate_can_be_asked_for_without_queueing_anything(wa: Wa) -> None:
    """Row T4."""
    assert not wa.is_duplicate(ADA, "Hello")
    assert wa.get_stats()["queue"] == {"waiting": 0}
    wa.send_message(ADA, "Hello")
    assert wa.is_duplicate("8123 0001", "Hello")
    assert not wa.is_duplicate(ADA, "Hello!")


def test_the_key_is_the_same_for_every_spelling_of_a_recipient(wa: Wa) -> None:
    """Row T4."""
    key = wa.generate_idempotency_key(ADA, "Hello")
    assert key == wa.generate_idempotency_key("8123 0001", "Hello")
    assert key != wa.generate_idempotency_key(ADA, "hello")
    assert len(key) == 64


def test_the_stats_hold_every_message_once(wa: Wa) -> None:
    """Row T7, promise P13."""
    wa.send_batch_messages([(ADA, "one"), (BEN, "two")])
    stats = wa.get_stats()
    assert sum(stats["stats"].values()) == 2
    assert stats["queue"] == {"waiting": 2}
    assert stats["throttling"] == {"activeRateLimits": 0}
    assert stats["deliveryFailures"] == {"pending": 0}


def test_a_full_queue_refuses_and_writes_nothing(tmp_path: Path) -> None:
    """Row H3."""
    with Wa(db=tmp_path / "wa.db", settings={"MAX_QUEUE_SIZE": "1"}) as wa:
        wa.send_message(ADA, "one")
        with pytest.raises(Refused):
            wa.send_message(BEN, "two")
        assert wa.get_stats()["queue"] == {"waiting": 1}


@pytest.mark.parametrize("at", [datetime(2030, 1, 1), "the day after never"])
def test_a_time_that_cannot_be_meant_is_refused(wa: Wa, at: datetime | str) -> None:
    with pytest.raises(UsageError):
        wa.send_message(ADA, "Hello", at=at)


def test_importing_wa_cli_loads_nothing_of_the_door(tmp_path: Path) -> None:
    script = "import sys, wa_cli; print(sorted(name for name in sys.modules if name.startswith('wa_cli')))"
    done = subprocess.run(
        [sys.executable, "-c", script], env=clean_environment(tmp_path), capture_output=True, text=True, check=True
    )
    assert done.stdout == "['wa_cli']\n"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        _ = wa_cli.Nothing  # type: ignore[attr-defined]


def test_files_and_every_other_kind_go_through_the_python_door(wa: Wa, tmp_path: Path) -> None:
    """Issue 6, point 3.  Row H13: what the instance cannot send is refused by name."""
    (tmp_path / "menu.pdf").write_bytes(b"%PDF-1.7 menu")
    assert wa.send_media(ADA, "menu.pdf").outcome == "immediate"
    assert wa.send_media(ADA, tmp_path / "menu.pdf", caption="Menu").outcome == "queued"
    assert wa.send_media(ADA, "https://example.org/a.ogg", kind="voice").outcome == "queued"
    assert wa.send_content(ADA, Location(latitude="25.2", longitude="55.27")).outcome == "queued"
    with pytest.raises(UsageError, match="has no polls"):
        wa.send_content(ADA, Poll(question="Coming?", options=("Yes", "No")))
    with pytest.raises(UsageError, match="WhatsApp has given it no id"):
        wa.send_content(ADA, Reaction(message_id="m1", emoji="👍"))
    with pytest.raises(UsageError, match="in no folder that files are taken from"):
        wa.send_media(ADA, "../secret.pdf")
