"""The worked examples in campaigns/, run to their end; each of their messages is one that the platform takes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.campaigning import Office, open_office
from wa_cli.campaigns import files
from wa_cli.domain.message import Template, Text
from wa_cli.sandbox import serve_in_thread
from wa_cli.sources.recipients import Row, read_recipients
from wa_cli.transports.cloud_api.payload import build_payload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wa_cli.domain.campaign import Campaign

EXAMPLES = Path(__file__).parents[2] / "campaigns"
HOUR_MS = 3_600_000
# The world begins on a Friday in January 2027, at eight in the morning UTC.


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    shutil.copytree(EXAMPLES, tmp_path / "campaigns")
    with open_office(tmp_path) as opened:
        yield opened


def take_in(office: Office, name: str) -> Campaign:
    return files.create(office.app, office.folder / "campaigns" / f"{name}.toml", actor="tester")[0]


def run_to_its_end(office: Office, campaign: Campaign) -> None:
    for _look in range(100):
        office.drain(whole_schedule=True)
        office.look_after()
        if office.state(campaign) == "finished":
            return
        office.clock.advance(HOUR_MS)
    raise AssertionError(f"the campaign is {office.state(campaign)}: {office.counts(campaign)}")


def assert_platform_takes_all(office: Office) -> None:
    """Every post again, to the sandbox, whose checks are Meta's."""
    with serve_in_thread() as sandbox, httpx.Client(trust_env=False, timeout=60) as client:
        for posted in office.world.transport.posts:
            answer = client.post(
                sandbox.messages_url,
                content=build_payload(posted.post),
                headers={"Authorization": f"Bearer {sandbox.settings.token}", "Content-Type": "application/json"},
            )
            assert answer.status_code == 200, answer.text


def test_the_order_of_events(office: Office) -> None:
    """Issue 5, point 1: variables, fallbacks, people once, those who cannot come left out."""
    campaign = take_in(office, "order-of-events")
    office.start(campaign)
    run_to_its_end(office, campaign)
    assert office.counts(campaign) == {"sent": 8}
    assert all(isinstance(posted.post.content, Text) for posted in office.world.transport.posts)
    assert "Dear Amara," in office.bodies[0]
    assert "+12025550104" not in office.addresses
    assert_platform_takes_all(office)


def test_the_summer_sale(office: Office) -> None:
    """Issue 5, points 1, 2, 5 and 6: a template with two wordings, a sample first, quiet hours, who has no code."""
    campaign = take_in(office, "summer-sale")
    _planned, summary = office.plan(campaign)
    assert summary.missing_fields
    assert set(summary.missing_fields) == {"code"}
    assert summary.canary == 4
    assert summary.cost
    office.start(campaign)
    run_to_its_end(office, campaign)
    counts = office.counts(campaign)
    assert counts == {"sent": summary.queued}
    assert sum(office.excluded(campaign).values()) == summary.audience - summary.queued
    contents = [posted.post.content for posted in office.world.transport.posts]
    assert all(isinstance(content, Template) and content.name == "summer_sale" for content in contents)
    assert len({content.parameters[1].value[:7] for content in contents if isinstance(content, Template)}) > 1
    assert_platform_takes_all(office)


def test_the_weekly_reminder(office: Office) -> None:
    """Issue 5, points 1 and 5: every Monday a run of its own."""
    crew = [
        row.recipient.address
        for row in read_recipients(office.folder / "campaigns" / "lists" / "crew.csv", default_region=None)
        if isinstance(row, Row)
    ]
    office.add_subgroup("crew", crew)
    campaign = take_in(office, "weekly-reminder")
    assert office.start(campaign) is None
    for _monday in range(2):
        due = office.app.campaigns.read(campaign.id).next_occurrence_at_ms
        assert due is not None
        office.clock.advance(due - office.clock.wall_ms() + 1_000)
        office.look_after()
        office.drain(whole_schedule=True)
        office.look_after()
    assert sorted(office.addresses) == sorted(crew * 2)
    runs = office.app.campaigns.list_runs(campaign.id)
    assert [(run.state, run.occurrence[11:]) for run in runs] == [("finished", "09:00")] * 2
    assert_platform_takes_all(office)
