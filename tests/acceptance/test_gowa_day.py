"""The real `wa` over a played GOWA: sends, receipts, an answer that never came, a connection that broke."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from rig import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from rig import Household, Running

GROUP = "120363025982934543@g.us"
MEMBERS = ["15550100001", "15550100002"]
PERSON, OTHER, LATER = "+6581234567", "+6581234568", "+6581234569"


@pytest.fixture
def shop(make_home: Callable[..., Household]) -> Household:
    """An instance `shop` whose device is paired and in a group; everybody reads at once what they get."""
    home = make_home("--ladder-speed", "0", GOWA_HOOK="a-webhook-secret-of-its-own")
    home.sandbox.set(read_share=1, undelivered_share=0)
    group = {"id": GROUP, "name": "Runners", "participants": MEMBERS}
    tell(home, "devices", {"name": "shop", "number": "15550783881", "paired": True, "start": True, "groups": [group]})
    added = home.wa(
        *("instance", "add", "shop", "--transport", "gowa", "--url", f"{home.sandbox.url}/gowa"),
        *("--session", "shop", "--webhook-secret-from", "GOWA_HOOK"),
    )
    assert added.exit == 0, added.err
    return home


def tell(home: Household, path: str, order: dict[str, Any]) -> Any:
    return home.sandbox._call("POST", path, order)


def serve(home: Household) -> Running:
    """The daemon with its web server, which the gateway has been told of."""
    daemon = home.start("run", "--serve", "--port", "0")
    line = daemon.wait_for_line("serving on")
    url = line.partition("serving on ")[2].partition(",")[0]
    told = home.wa("webhook", "subscribe", "shop", url)
    assert told.exit == 0, told.err
    daemon.wait_for_line("sending for 'shop'")
    return daemon


def send(home: Household, *words: object) -> list[str]:
    queued = home.wa("send", "to", *words, "--instance", "shop", "--json")
    assert queued.exit == 0, queued.err
    return [message["id"] for message in queued.json()["messages"]]


def standing(home: Household, message_id: str) -> str:
    shown: str = home.wa("message", "show", message_id, "--json").json()["state"]
    return shown


def test_people_and_groups_get_words_and_files_and_each_receipt_is_counted(shop: Household) -> None:
    """Issue 6, over GOWA: rows H9 and H10 for the connection, promise P3 for what is shown, fault 76's own files."""
    serve(shop)
    data = b"\xff\xd8\xff" + bytes(range(256)) * 4096
    picture = shop.folder / "picture.jpg"
    picture.write_bytes(data)
    words = send(shop, PERSON, GROUP, "--text", "Doors open at six")
    (file,) = send(shop, OTHER, "--media", picture, "--caption", "The hall")
    until(lambda: shop.read("SELECT count(*) FROM message WHERE receipt = 'read'") == [(3,)], "three to be read")
    assert [standing(shop, message_id) for message_id in (*words, file)] == ["read"] * 3

    posts = {post["to"]: post for post in shop.sandbox.accepted()}
    assert {to: post["type"] for to, post in posts.items()} == {
        PERSON[1:]: "text",
        OTHER[1:]: "image",
        GROUP: "text",
    }
    assert hashlib.sha256(data).hexdigest() in {digest for (digest,) in shop.read("SELECT digest FROM media_file")}


def test_what_gowa_gave_up_on_is_unknown_and_posted_once(shop: Household) -> None:
    """Promises P2 and P4: its 504 comes with the message on its way."""
    shop.sandbox.fault("503_empty")
    (unknown,) = send(shop, PERSON, "--text", "perhaps")
    drained = shop.wa("drain", "--json")
    assert drained.exit == 5, drained.err
    assert standing(shop, unknown) == "unknown"
    assert shop.wa("drain").exit == 0
    assert len(shop.sandbox.posts_to(PERSON)) == 1


def test_a_lost_connection_holds_the_queue_and_a_phone_that_logged_out_asks_for_a_person(shop: Household) -> None:
    """Rows H9, H10, H11; fault 64."""
    daemon = shop.daemon()
    daemon.wait_for_line("'shop' is ready")
    tell(shop, "devices/shop", {"do": "lose"})
    (later,) = send(shop, LATER, "--text", "once it is back")
    shop.wait_for_states(sent=1)
    assert standing(shop, later) == "sent"
    assert [post["verdict"] for post in shop.sandbox.posts_to(LATER) if post["verdict"] == "accepted"] == ["accepted"]

    tell(shop, "devices/shop", {"do": "log_out"})
    daemon.wait_for_line("auth_failure")
    (kept,) = send(shop, OTHER, "--text", "kept")
    drained = shop.start("drain")
    assert drained.wait().exit == 0  # the daemon is the sender, and stays it
    daemon.end()
    assert shop.wa("drain").exit == 4
    assert standing(shop, kept) == "queued"
    assert not shop.sandbox.posts_to(OTHER)
    assert tell(shop, "devices/shop", {"do": "scan"})["device"]["restarts"] <= 1  # no restart brings a phone back
    assert shop.wa("drain").exit == 0
    assert len(shop.sandbox.posts_to(OTHER)) == 1
