"""Pausing a campaign while its messages stream out: held against the ledger of the other side."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rig import number, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from rig import Household

# At 500 a second: the pause has seven seconds to begin in, and hundreds leave each second when it does.
COUNT, FIRST = 3_600, 100
FILE = """
[message]
text = "Dear {{ name }}, the sale begins"

[audience]
any_of = [{ file = "people.csv" }]
"""
OTHER = "+6591234567"


def test_after_a_campaign_is_paused_nothing_of_it_is_posted_but_what_was_in_flight(
    make_home: Callable[..., Household],
) -> None:
    """Promise P7; issue 5, point 6: while hundreds leave each second; the pause counts them."""
    home = make_home("--latency-ms", "100", MAX_SENDS_PER_SECOND_PER_INSTANCE="500")
    (home.folder / "campaigns").mkdir()
    (home.folder / "campaigns" / "sale.toml").write_text(FILE)
    rows = [f"{number(index)},Guest {index}" for index in range(COUNT)]
    (home.folder / "campaigns" / "people.csv").write_text("recipient,name\n" + "\n".join(rows) + "\n")
    created = home.wa("campaign", "create", "campaigns/sale.toml")
    assert created.exit == 0, created.err
    started = home.wa("campaign", "start", "sale", "--confirm", "sale")
    assert started.exit == 0, started.err
    home.daemon()
    home.sandbox.wait_for_posts(FIRST)

    paused = home.wa("campaign", "pause", "sale", "--json")
    paused_at = time.time()
    assert paused.exit == 0, paused.err
    in_flight = paused.json()["in_flight"]
    home.wait_until_landed()
    # The daemon goes on meanwhile: it sends what is not of the campaign, and nothing that is.
    home.send(OTHER, "not of the campaign")
    home.sandbox.wait_for(lambda entries: any(entry["to"] == OTHER[1:] for entry in entries), "the other one")
    entries = [entry for entry in home.sandbox.entries() if entry["to"] != OTHER[1:]]
    late = [entry for entry in entries if entry["received_at"] > paused_at]
    assert len(late) <= in_flight
    assert FIRST <= len(entries) < COUNT
    until(lambda: home.states()["queued"] == COUNT - len(entries), "the rest waits")
    rate = sum(-1.5 < entry["received_at"] - paused_at <= -0.5 for entry in entries)
    print(f"{rate} a second before the pause, {in_flight} in flight then, {len(late)} of them posted after it returned")

    resumed = home.wa("campaign", "resume", "sale")
    assert resumed.exit == 0, resumed.err
    home.wait_for_states(sent=COUNT + 1)
    home.audit().assert_sound()
