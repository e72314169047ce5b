"""The campaigns that come with `wa`, sent to the sandbox by the commands that their comments name, as cron would.

Issue 5: the three examples run on the sandbox.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wa_cli.sandbox import serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Wa

    from wa_cli.sandbox import Sandbox

CAMPAIGNS = Path(__file__).parents[2] / "campaigns"


@pytest.fixture
def sandbox(wa: Wa, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A sandbox that `wa` sends to, and the examples in the working directory."""
    shutil.copytree(CAMPAIGNS, wa.folder / "campaigns")
    with serve_in_thread() as running:
        monkeypatch.setenv("WHATSAPP_API_URL", running.messages_url)
        monkeypatch.setenv("WHATSAPP_ACCESS_TOKEN", running.settings.token)
        assert wa("init").exit == 0
        yield running


def count_posts(sandbox: Sandbox) -> Counter[str | None]:
    """How many posts went to whom; all were taken."""
    assert {entry.verdict for entry in sandbox.ledger} <= {"accepted"}
    return Counter(entry.to for entry in sandbox.ledger)


def change(wa: Wa, name: str, *changes: tuple[str, str]) -> None:
    path = wa.folder / "campaigns" / f"{name}.toml"
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def drain_to_its_end(wa: Wa, name: str) -> None:
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        assert wa("drain", "--max-runtime", "30s").exit == 0
        listed = {row["campaign"]: row for row in wa("campaign", "list", "--json").json()["campaigns"]}
        if listed[name]["state"] == "finished":
            return
    pytest.fail(f"{name} never ended: {listed[name]}")


def test_the_order_of_events_reaches_every_guest_once(wa: Wa, sandbox: Sandbox) -> None:
    change(wa, "order-of-events", ("delay = 500 ", "delay = 20 "))
    assert wa("campaign", "validate", "order-of-events").exit == 0
    assert wa("campaign", "plan", "order-of-events").exit == 0
    assert not count_posts(sandbox)
    started = wa("campaign", "start", "order-of-events", "--yes")
    assert started.exit == 0, started.err
    drain_to_its_end(wa, "order-of-events")
    counts = count_posts(sandbox)
    assert len(counts) == 8
    assert set(counts.values()) == {1}
    assert "12025550104" not in counts


def test_the_sale_goes_to_a_few_first_and_then_to_the_rest(wa: Wa, sandbox: Sandbox) -> None:
    """Drains from cron alone let the rest go, though nothing is due while the sample waits for its verdict."""
    change(
        wa,
        "summer-sale",
        ('hours = ["20:00", "09:00"]\ndays = ["sunday"]', 'dates = ["2020-01-01"]'),
        ('hold = "30m"', 'hold = "1s"'),
    )
    valid = wa("campaign", "validate", "summer-sale")
    assert valid.exit == 0
    assert "canary         4 people first, the rest 1 s after them" in valid.out
    fields = wa("campaign", "validate", "summer-sale", "--json").json()["fields"]
    assert {"name": "time zone", "value": "everybody's own"} in fields
    started = wa("campaign", "start", "summer-sale", "--yes")
    assert started.exit == 0, started.err
    drain_to_its_end(wa, "summer-sale")
    counts = count_posts(sandbox)
    assert len(counts) == 19, "one of twenty has no code"
    assert set(counts.values()) == {1}


def test_the_reminder_waits_for_its_monday(wa: Wa, sandbox: Sandbox) -> None:
    assert wa("subgroup", "create", "crew").exit == 0
    assert wa("subgroup", "import", "crew", "campaigns/lists/crew.csv").exit == 0
    assert wa("campaign", "validate", "weekly-reminder").exit == 0
    started = wa("campaign", "start", "weekly-reminder", "--yes")
    assert started.exit == 0, started.err
    (listed,) = wa("campaign", "list", "--json").json()["campaigns"]
    assert listed["state"] == "scheduled"
    assert not count_posts(sandbox)
