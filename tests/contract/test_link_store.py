"""Short links in the store: the key, where links lead, and clicks that are counted once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.world import address, line, open_world
from wa_cli.domain.click import AGAIN_MS, Click, ClickKind, Clicks
from wa_cli.domain.link import KEY_BYTES, Shortener, own_number
from wa_cli.errors import StorageError
from wa_cli.store.sqlite.database import Database
from wa_cli.store.sqlite.erasure import SqliteErasure
from wa_cli.store.sqlite.links import SqliteLinks
from wa_cli.store.sqlite.people import SqlitePeople

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.world import World

SHOP = "https://shop.example.com/"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path, on_disk=True) as made:
        yield made


@pytest.fixture
def links(world: World) -> SqliteLinks:
    return SqliteLinks(world.database)


def add_run(world: World, *, occurrence: str = "", plans: int = 1) -> tuple[int, list[int]]:
    """A run of the one campaign, with so many plans: its id and theirs."""
    with world.database.write() as connection:
        connection.execute(
            """INSERT OR IGNORE INTO campaign (id, name, folded_name, path, source, created_at, changed_at)
            VALUES (1, 'sale', 'sale', 'sale.toml', '', 0, 0)"""
        )
        ids = [
            connection.execute(
                "INSERT INTO plan (campaign_id, occurrence, source, inputs, created_at) VALUES (1, ?, '', '', 0)",
                (occurrence,),
            ).lastrowid
            or 0
            for _plan in range(plans)
        ]
        run_id = connection.execute(
            """INSERT INTO run (campaign_id, occurrence, plan_id, state, created_at)
            VALUES (1, ?, ?, 'running', 0)""",
            (occurrence, ids[-1]),
        ).lastrowid
    return run_id or 0, ids


def click(plan: int = 1, contact: int = 1, number: int = 1, at: int = 0, kind: ClickKind = ClickKind.PERSON) -> Click:
    agent = "WhatsApp" if kind is ClickKind.PREVIEW else None
    return Click(plan_id=plan, contact_id=contact, number=number, at_ms=at, kind=kind, agent=agent)


def test_the_key_is_made_once_and_stays(world: World, links: SqliteLinks) -> None:
    """Issue 5, point 10: it lives in the database, whoever asks for it."""
    assert links.find_key() is None
    key = links.take_key()
    assert len(key) == KEY_BYTES
    assert links.take_key() == links.find_key() == key
    beside = Database.open(world.database.path, create=False)
    assert SqliteLinks(beside).take_key() == key
    beside.close()


def test_two_who_ask_for_the_key_at_once_get_the_same(world: World) -> None:
    keys: list[bytes] = []
    start = threading.Barrier(4)

    def ask() -> None:
        database = Database.open(world.database.path, create=False)
        start.wait()
        keys.append(SqliteLinks(database).take_key())
        database.close()

    threads = [threading.Thread(target=ask) for _one in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 4
    assert len(set(keys)) == 1


def test_links_lead_where_their_plan_says(links: SqliteLinks) -> None:
    links.save(1, [(1, SHOP), (2, f"{SHOP}two")])
    links.save(2, [(1, f"{SHOP}other")])
    links.save(2, [])
    assert links.find_url(1, 2) == f"{SHOP}two"
    assert links.find_url(2, 1) == f"{SHOP}other"
    assert links.find_url(2, 2) is None


def test_a_number_never_leads_elsewhere_than_before(links: SqliteLinks) -> None:
    """Issue 5, point 10: messages with it are out already."""
    links.save(1, [(1, SHOP)])
    with pytest.raises(StorageError):
        links.save(1, [(2, SHOP), (1, "https://evil.example/")])
    assert links.find_url(1, 1) == SHOP
    assert links.find_url(1, 2) is None


def test_clicks_are_counted_by_people_and_previews_apart(world: World, links: SqliteLinks) -> None:
    """Issue 5, point 10; row Q6."""
    run_id, (plan,) = add_run(world)
    links.record(
        [
            click(plan, 1),
            click(plan, 1, at=AGAIN_MS),
            click(plan, 1, number=2),
            click(plan, 2),
            click(plan, 3, kind=ClickKind.PREVIEW),
            click(plan + 1, 4),
        ]
    )
    assert links.count_clicks(run_id) == Clicks(people=2, clicks=4, previews=1)
    assert links.count_clicks(run_id + 1) == Clicks()


def test_a_run_that_was_planned_anew_keeps_the_clicks_of_its_earlier_plans(world: World, links: SqliteLinks) -> None:
    """Issue 5, point 10; and another occurrence has clicks of its own."""
    first, plans = add_run(world, occurrence="2026-11-30T09:00", plans=2)
    second, (other,) = add_run(world, occurrence="2026-12-07T09:00")
    links.record([click(plans[0], 1), click(plans[1], 1), click(plans[1], 2), click(other, 3)])
    assert links.count_clicks(first) == Clicks(people=2, clicks=3)
    assert links.count_clicks(second) == Clicks(people=1, clicks=1)


def test_what_is_repeated_within_seconds_is_one_click(links: SqliteLinks) -> None:
    """Issue 5, point 10: in one go, and across several."""
    assert links.record([click(at=0), click(at=300), click(at=AGAIN_MS - 1)]) == 1
    assert links.record([click(at=-300), click(at=10, kind=ClickKind.PREVIEW), click(at=10, contact=2)]) == 2
    assert links.record([click(at=AGAIN_MS)]) == 1


def test_new_clicks_are_counted_once_for_the_monitor(links: SqliteLinks) -> None:
    links.record([click()])
    seen = links.newest_click_id()
    links.record([click(contact=2), click(contact=3), click(contact=3, kind=ClickKind.PREVIEW)])
    seen, counts = links.count_new_clicks(after_id=seen, limit=2)
    assert counts == {ClickKind.PERSON: 2}
    seen, counts = links.count_new_clicks(after_id=seen, limit=2)
    assert counts == {ClickKind.PREVIEW: 1}
    assert links.count_new_clicks(after_id=seen, limit=2) == (seen, {})


def test_who_was_erased_is_followed_no_further_and_the_counts_stay(world: World, links: SqliteLinks) -> None:
    """Issue 5, point 10; promise P11: their own link is forgotten, what others got too stays."""
    run_id, (plan,) = add_run(world)
    world.enqueue([line(1), line(2)])
    ann = SqlitePeople(world.database).find(address(1)).id
    ben = SqlitePeople(world.database).find(address(2)).id
    shortener = Shortener("https://go.example.com", links.take_key(), plan)
    for contact in (ann, ben):
        shorten = shortener.shorten_for(contact)
        shorten(f"{SHOP}?name={contact}")
        shorten(SHOP)
    links.save(plan, shortener.take_new())
    links.record([click(plan, ann), click(plan, ben), click(plan, ann, kind=ClickKind.PREVIEW)])
    SqliteErasure(world.database).erase(address(1), now_ms=world.now_ms)
    assert links.find_url(plan, own_number(ann, 0)) is None
    assert links.find_url(plan, own_number(ann, 1)) is None
    assert links.find_url(plan, own_number(ben, 0)) == f"{SHOP}?name={ben}"
    assert links.find_url(plan, 1) == SHOP
    assert links.record([click(plan, ann, at=10**9)]) == 0
    assert links.count_clicks(run_id) == Clicks(people=2, clicks=2, previews=1)
    assert world.rows("SELECT agent FROM click WHERE contact_id = ? AND agent IS NOT NULL", ann) == []


def test_a_person_is_shown_what_is_known_of_their_clicks(world: World, links: SqliteLinks) -> None:
    """Issue 5, point 10; `wa contact show`."""
    world.enqueue([line(1)])
    people = SqlitePeople(world.database)
    ann = people.find(address(1)).id
    assert people.read_profile(ann).clicks == 0
    links.record([click(1, ann), click(2, ann), click(2, ann, kind=ClickKind.PREVIEW), click(2, ann + 1)])
    assert people.read_profile(ann).clicks == 2
