"""Several instances in one daemon: each by its own lease and limits, on one file and one writer thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rig import Household, Sandbox, audit, number, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHOP_TOKEN = "the-shop's-own-token"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Sandbox]:
    folder = tmp_path / "shop"
    folder.mkdir()
    sandbox = Sandbox(folder, token=SHOP_TOKEN)
    yield sandbox
    sandbox.stop()


@pytest.fixture
def house(tmp_path: Path, shop: Sandbox) -> Iterator[Household]:
    folder = tmp_path / "house"
    folder.mkdir()
    home = Household(folder, Sandbox(folder), SHOP_TOKEN=SHOP_TOKEN)
    try:
        yield home
    finally:
        home.end()


def add_shop(home: Household, shop: Sandbox) -> None:
    ran = home.wa(
        "instance", "add", "shop", "--transport", "cloud", "--url", shop.messages_url,
        "--key-from", "SHOP_TOKEN",
    )  # fmt: skip
    assert ran.exit == 0, ran.err


def send(home: Household, index: int, instance: str) -> None:
    ran = home.wa("send", "to", number(index), "--text", f"hello {index}", "--instance", instance, "--json")
    home.acknowledge(ran)


def test_one_daemon_sends_for_every_instance_also_for_one_that_is_added_later(house: Household, shop: Sandbox) -> None:
    """Issue 6, point 1; row S9: each message by its own number and with its own token."""
    daemon = house.daemon()
    send(house, 0, "default")
    house.wait_for_states(sent=1)
    add_shop(house, shop)
    send(house, 1, "shop")
    house.wait_for_states(sent=2)
    assert [entry["to"] for entry in shop.accepted()] == [number(1).removeprefix("+")]
    assert [entry["to"] for entry in house.sandbox.accepted()] == [number(0).removeprefix("+")]
    daemon.wait_for_line("sending for 'shop'")


def test_one_that_is_stopped_does_not_keep_the_others_waiting(house: Household, shop: Sandbox) -> None:
    """Fault 62: the first sign stops that account; others go on."""
    add_shop(house, shop)
    shop.set(token_expires_after=0)
    house.daemon()
    send(house, 0, "shop")
    until(lambda: house.read("SELECT 1 FROM instance WHERE name = 'shop' AND paused_at IS NOT NULL"), "the shop stands")
    send(house, 1, "default")
    house.wait_for_states(sent=1, queued=1)
    assert len(shop.entries()) == 1


def test_a_removed_instance_is_sent_for_no_more(house: Household, shop: Sandbox) -> None:
    """Issue 6, point 1."""
    add_shop(house, shop)
    daemon = house.daemon()
    daemon.wait_for_line("sending for 'shop'")
    assert house.wa("--yes", "instance", "remove", "shop").exit == 0
    until(
        lambda: not house.read("SELECT 1 FROM lease WHERE instance_id = 2 AND owner IS NOT NULL"), "the lease is free"
    )
    send(house, 0, "default")
    house.wait_for_states(sent=1)


def test_a_daemon_for_one_instance_leaves_the_others_to_another(house: Household, shop: Sandbox) -> None:
    """Row 37 for several: a second daemon is content only where nothing is left to it."""
    add_shop(house, shop)
    first = house.daemon("--instance", "shop")
    first.wait_for_line("sending for 'shop'")
    second = house.daemon()
    second.wait_for_line("sending for 'default'")
    send(house, 0, "default")
    send(house, 1, "shop")
    house.wait_for_states(sent=2)
    assert "sending for 'default'" not in "".join(first.err)
    third = house.wa("run")
    assert third.exit == 0
    assert "a daemon runs already" in third.out


def test_a_stop_lets_every_instance_finish(house: Household, shop: Sandbox) -> None:
    """Row T8."""
    import signal

    add_shop(house, shop)
    shop.fault("slow:1")
    house.sandbox.fault("slow:1")
    daemon = house.daemon()
    send(house, 0, "default")
    send(house, 1, "shop")
    shop.wait_for_posts(1)
    house.sandbox.wait_for_posts(1)
    daemon.signal(signal.SIGTERM)
    assert daemon.wait().exit == 0
    assert house.states() == {"sent": 2}


def test_a_drain_sends_for_every_instance_and_a_name_narrows_it(house: Household, shop: Sandbox) -> None:
    """Issue 6, point 1; row H4."""
    add_shop(house, shop)
    for index, name in enumerate(("default", "shop", "shop")):
        send(house, index, name)
    narrow = house.wa("drain", "--instance", "default", "--json").json()
    assert (narrow["sent"], narrow["remaining"]) == (1, 2)
    assert house.wa("drain", "--json").json()["sent"] == 2
    assert len(shop.accepted()) == 2
    posts = [*house.sandbox.entries(), *shop.entries()]
    audit(house.db, posts, acknowledged=house.acknowledged).assert_sound()


def test_a_drain_counts_its_limit_over_all_instances(house: Household, shop: Sandbox) -> None:
    """Row Q1."""
    add_shop(house, shop)
    for index in range(6):
        send(house, index, "shop" if index % 2 else "default")
    report = house.wa("drain", "--limit", "4", "--json").json()
    assert (report["sent"], report["remaining"]) == (4, 2)


def test_a_drain_sends_for_those_that_can_and_says_who_cannot(house: Household, shop: Sandbox) -> None:
    """Fault 62; promise P12: one bad account stops no good one."""
    add_shop(house, shop)
    shop.set(token_expires_after=0)
    send(house, 0, "shop")
    send(house, 1, "default")
    ran = house.wa("drain", "--json")
    assert (ran.exit, ran.json()["sent"]) == (4, 1)
    assert "shop is paused" in ran.err
    del house.settings["SHOP_TOKEN"]
    assert house.wa("instance", "resume", "shop").exit == 0
    send(house, 2, "default")
    again = house.wa("drain", "--json")
    assert again.json()["sent"] == 1
    assert "shop cannot send: SHOP_TOKEN not set" in again.err
