"""A campaign whose links are short ones of this server, from its file to the clicks in its report."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

from tests.campaigning import Office
from tests.world import FakeClock, FakeTransport, World, address

if TYPE_CHECKING:
    from pathlib import Path

    from door import Api

PHONE = {"User-Agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Safari/604.1"}
SALE = """
short_links = "{base}"
[message]
text = "Hi {{{{ name }}}}: https://shop.example.com/for?who={{{{ name }}}}. Terms (https://shop.example.com/terms)."
[audience]
files = ["people.csv"]
"""


@pytest.fixture
def office(api: Api, tmp_path: Path) -> Office:
    """On the database of the server."""
    (tmp_path / "campaigns").mkdir()
    clock = FakeClock(api.app.clock.wall_ms())
    api.app.clock = clock  # type: ignore[assignment]
    world = World(
        folder=tmp_path,
        clock=clock,
        database=api.app.database,
        owner=api.app.owner,
        transport=FakeTransport(clock),
        limits=api.app.limits(),
    )
    return Office(folder=tmp_path, app=api.app, world=world)


def follow(api: Api, link: str) -> str:
    answer = api.client.get(link, headers=PHONE, follow_redirects=False)
    assert answer.status_code == 302
    return unquote(answer.headers["Location"])


def test_short_links_of_a_campaign_lead_where_its_words_said_and_are_counted(api: Api, office: Office) -> None:
    """Issue 5, point 10; row Q6: the same count over HTTP and in the report."""
    office.write_people(
        "people.csv", [{"name": name, "phone": address(n)} for n, name in enumerate(["Ada", "Ben", "Eva"])]
    )
    sale = office.create("sale", SALE.format(base=api.server.url))
    office.start(sale)
    office.drain(whole_schedule=True)
    links = {}
    for name, body in zip(["Ada", "Ben", "Eva"], office.bodies, strict=True):
        assert "shop.example.com" not in body
        found = re.fullmatch(rf"Hi {name}: ({api.server.url}/r/[\w-]+)\. Terms \(({api.server.url}/r/[\w-]+)\)\.", body)
        assert found is not None, body
        links[name] = found.groups()
    assert len({link for pair in links.values() for link in pair}) == 6
    for name, (own, terms) in links.items():
        assert follow(api, own) == f"https://shop.example.com/for?who={name}"
        if name != "Eva":
            assert follow(api, terms) == "https://shop.example.com/terms"
    run = office.run_of(sale)
    deadline = time.monotonic() + 60
    while api.app.links.count_clicks(run.id).clicks < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    campaign = api.get("/api/queue/status?campaignId=sale").json()["campaign"]
    assert (campaign["total"], campaign["sent"], campaign["clicked"], campaign["clickedCount"]) == (3, 3, 3, 3)
    answers = api.app.reports.read_figures(run, now_ms=office.clock.wall_ms()).answers
    assert (answers.clicked, answers.clicks, answers.has_links) == (3, 5, True)


def test_a_plan_that_is_made_anew_has_links_of_its_own_and_old_ones_lead_on(api: Api, office: Office) -> None:
    """Issue 5, point 10: what is out there stays good, and is counted into the same run."""
    office.write_people("people.csv", [{"name": "Ada", "phone": address(1)}, {"name": "Ben", "phone": address(2)}])
    sale = office.create("sale", SALE.format(base=api.server.url) + "[pacing]\ndelay = 3600000\n")
    office.start(sale)
    office.drain()
    office.pause(sale)
    office.start(sale)
    office.drain(whole_schedule=True)
    assert len(office.bodies) == 2
    for body in office.bodies:
        for link in re.findall(rf"{api.server.url}/r/[\w-]+", body):
            assert follow(api, link).startswith("https://shop.example.com/")
    run = office.run_of(sale)
    deadline = time.monotonic() + 60
    while api.app.links.count_clicks(run.id).clicks < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert api.app.links.count_clicks(run.id).people == 2
