"""The campaigns that come with `wa`, sent to the sandbox by the commands that their comments name.

Issue 5: the three examples run on the sandbox.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from test_sandbox_command import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Wa

CAMPAIGNS = Path(__file__).parents[2] / "campaigns"


@pytest.fixture
def office(wa: Wa, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wa]:
    """A folder with the examples, and a sandbox to send them to."""
    shutil.copytree(CAMPAIGNS, wa.folder / "campaigns")
    with running(wa, "--ledger", "ledger.jsonl", "--no-pair-limit", "--json") as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())
        monkeypatch.setenv("WHATSAPP_API_URL", address["messages_url"])
        monkeypatch.setenv("WHATSAPP_ACCESS_TOKEN", address["token"])
        assert wa("init").exit == 0
        yield wa


def posts_of(wa: Wa) -> list[dict[str, Any]]:
    posts = [json.loads(line) for line in (wa.folder / "ledger.jsonl").read_text().splitlines()]
    assert {post["verdict"] for post in posts} <= {"accepted"}
    return posts


def change(wa: Wa, name: str, *changes: tuple[str, str]) -> None:
    path = wa.folder / "campaigns" / f"{name}.toml"
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def drain_to_its_end(wa: Wa, name: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert wa("drain", "--max-runtime", "30s").exit == 0
        listed = {row["campaign"]: row for row in wa("campaign", "list", "--json").json()["campaigns"]}
        if listed[name]["state"] == "finished":
            return
    pytest.fail(f"{name} never ended: {listed[name]}")


def test_the_order_of_events_reaches_every_guest_once(office: Wa) -> None:
    change(office, "order-of-events", ("delay = 500 ", "delay = 20 "))
    assert office("campaign", "validate", "order-of-events").exit == 0
    planned = office("campaign", "plan", "order-of-events", "--json")
    assert planned.exit == 0
    assert not (office.folder / "ledger.jsonl").exists() or not posts_of(office)
    started = office("campaign", "start", "order-of-events", "--yes")
    assert started.exit == 0, started.err
    drain_to_its_end(office, "order-of-events")
    counts = Counter(post["to"] for post in posts_of(office))
    assert len(counts) == 8
    assert set(counts.values()) == {1}
    assert "12025550104" not in counts


def test_the_sale_goes_to_a_few_first_and_then_to_the_rest(office: Wa) -> None:
    """Drains from cron alone let the rest go, though nothing is due while the sample waits for its verdict."""
    change(
        office,
        "summer-sale",
        ('hours = ["20:00", "09:00"]\ndays = ["sunday"]', 'dates = ["2020-01-01"]'),
        ('hold = "30m"', 'hold = "1s"'),
    )
    started = office("campaign", "start", "summer-sale", "--yes")
    assert started.exit == 0, started.err
    drain_to_its_end(office, "summer-sale")
    counts = Counter(post["to"] for post in posts_of(office))
    assert len(counts) == 19, "one of twenty has no code"
    assert set(counts.values()) == {1}


def test_the_reminder_waits_for_its_monday(office: Wa) -> None:
    assert office("subgroup", "create", "crew").exit == 0
    assert office("subgroup", "import", "crew", "campaigns/lists/crew.csv").exit == 0
    assert office("campaign", "validate", "weekly-reminder").exit == 0
    started = office("campaign", "start", "weekly-reminder", "--yes")
    assert started.exit == 0, started.err
    (listed,) = office("campaign", "list", "--json").json()["campaigns"]
    assert listed["state"] == "scheduled"
