"""A whole `wa` beside a WAHA: it sends, hears what became of it, follows the device, and is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rig import Household, number, until

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "canary-hmac-0123456789abcdef"
KEY = "canary-key-0123456789abcdef"
GROUP = "120363041234567890@g.us"
ALL_READ = ("--ladder-speed", "0", "--set", "read_share=1", "--set", "undelivered_share=0")


def test_a_linked_device_is_sent_through_followed_and_believed(make_home: Callable[..., Household]) -> None:
    """Issue 6, points 2 and 5; rows H9, H10; promises P2, P5, P11; fault 61.

    A post whose answer was lost is settled by its receipt, for the id in it is ours.  A device that was logged out is
    posted nothing until somebody has scanned its code; then what waited goes out.
    """
    home = make_home(*ALL_READ, "--gateway-key", KEY, CLUB_KEY=KEY, CLUB_SECRET=SECRET)
    steer = home.sandbox.steer
    people = [number(index).removeprefix("+") for index in range(2)]
    group = {"id": GROUP, "name": "Runners", "participants": people}
    steer("devices", name="shop", paired=True, start=True, groups=[group])
    added = home.wa(
        "instance", "add", "club", "--transport", "waha", "--url", home.sandbox.url, "--session", "shop",
        "--key-from", "CLUB_KEY", "--webhook-secret-from", "CLUB_SECRET",
    )  # fmt: skip
    assert added.exit == 0, added.err
    daemon = home.daemon("--serve", "--port", "0")
    daemon.wait_for_line("'club' is ready")
    url = daemon.wait_for_line("serving on").split("serving on ")[1].split(",")[0]
    told = home.wa("webhook", "subscribe", "club", url)
    assert told.exit == 0, told.err

    home.sandbox.fault("reset", to=people[1])
    ran = home.wa(
        "send", "to", number(0), number(1), GROUP,
        "--text", "Doors open at six", "--delay", "0", "--instance", "club", "--json",
    )  # fmt: skip
    assert len(home.acknowledge(ran)) == 3
    daemon.wait_for_line("unknown")
    until(
        lambda: home.read("SELECT count(*) FROM message WHERE state = 'sent' AND receipt = 'read'") == [(3,)],
        "everything to be read, the unknown one too",
    )
    assert sorted(entry["to"] for entry in home.sandbox.accepted()) == sorted([*people, GROUP])

    steer("devices/shop", do="log_out")
    until(lambda: connection_of(home) == "needs_qr", "the daemon to see that the device is logged out")
    waiting = home.send(number(2), "Still on?", "--instance", "club")
    assert len(home.sandbox.entries()) == 3
    steer("devices/shop", do="scan")
    until(lambda: home.state(waiting) == "sent", "what waited to go out")
    assert [entry["verdict"] for entry in home.sandbox.entries()] == ["accepted"] * 4

    steer("devices/shop/inbound", **{"from": people[0], "text": "STOP"})
    until(lambda: "OPTED OUT" in home.wa("contact", "show", number(0)).out, "the STOP to be heard")
    refused = home.wa("webhook", "subscribe", "club", url, env={"CLUB_KEY": "another"})
    assert refused.exit == 2
    said = "".join((*daemon.err, *daemon.out, told.out, told.err, refused.out, refused.err))
    assert SECRET not in said
    assert KEY not in said


def connection_of(home: Household) -> str | None:
    ((state,),) = home.read("SELECT connection FROM instance WHERE name = 'club'")
    return None if state is None else str(state)
