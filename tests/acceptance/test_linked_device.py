"""A daemon beside a gateway that goes away and comes back, and a session that has to be started again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rig import Household, number, until

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def club(make_home: Callable[..., Household]) -> Household:
    home = make_home()
    home.sandbox.steer("devices", name="shop", paired=True, start=True)
    added = home.wa(
        "instance", "add", "club", "--transport", "waha", "--url", home.sandbox.url, "--session", "shop",
    )  # fmt: skip
    assert added.exit == 0, added.err
    return home


def connection_of(home: Household) -> tuple[str, str]:
    ((state, raw),) = home.read("SELECT connection, connection_raw FROM instance WHERE name = 'club'")
    return state, raw


def restarts_of(home: Household) -> list[str]:
    return [word for (word,) in home.read("SELECT word FROM instance_event WHERE kind = 'restart' ORDER BY id")]


def test_a_gateway_that_is_killed_stops_the_sending_and_what_waits_leaves_when_it_is_back(club: Household) -> None:
    """Issue 6, point 5.  Rows S8, H9; promise P3."""
    daemon = club.daemon()
    daemon.wait_for_line("'club' is ready")
    club.sandbox.stop()
    until(lambda: connection_of(club) == ("disconnected", "unreachable"), "the daemon to see that the gateway is gone")
    waiting = club.send(number(1), "Still on?", "--instance", "club")
    short = club.wa("drain", "--instance", "club")  # the daemon has it: that is no trouble
    assert short.exit == 0, short.err
    assert club.state(waiting) == "queued"
    club.sandbox.start()
    club.sandbox.steer("devices", name="shop", paired=True, start=True)
    until(lambda: club.state(waiting) == "sent", "what waited to go out")
    assert [entry["verdict"] for entry in club.sandbox.entries()] == ["accepted"]


def test_a_session_that_was_stopped_is_started_again_and_counted(club: Household) -> None:
    """Issue 6, point 5.  Rows S8, H11."""
    daemon = club.daemon()
    daemon.wait_for_line("'club' is ready")
    club.sandbox.steer("devices/shop", do="stop")
    daemon.wait_for_line("'club' is disconnected")
    until(lambda: connection_of(club)[0] == "ready", "the session to be started")
    assert restarts_of(club) == ["start"]
    document = club.wa("instance", "status", "club", "--json").json()
    assert (document["reconnection"]["restartsUsed"], document["counters"]["disconnects1h"]) == (1, 1)


def test_a_drain_beside_a_device_without_a_phone_says_who_has_to_act(club: Household) -> None:
    """Issue 6, point 5.  Row H10: exit 4, and nothing is posted nor restarted."""
    club.sandbox.steer("devices/shop", do="log_out")
    waiting = club.send(number(1), "Still on?", "--instance", "club")
    drained = club.wa("drain", "--instance", "club")
    assert drained.exit == 4, drained.err
    assert "wa instance pair club" in drained.err
    assert club.state(waiting) == "queued"
    assert (club.sandbox.entries(), restarts_of(club)) == ([], [])
