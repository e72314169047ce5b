"""Pausing a campaign while its messages stream out: held against the ledger of the other side."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from rig import number, until

from wa_cli.domain.campaign import CampaignState
from wa_cli.domain.message import parse_message_id
from wa_cli.domain.pacing import PRIORITY_BULK, lane_of
from wa_cli.store.sqlite.campaigns import SqliteCampaigns, step
from wa_cli.store.sqlite.database import Database
from wa_cli.store.sqlite.owners import Owner

if TYPE_CHECKING:
    from collections.abc import Callable

    from rig import Household

COUNT = 3_000


def turn_into_campaign(database: Database, batch_id: int) -> int:
    """Let a queued batch be the run of a campaign; the campaign's id."""
    now_ms = round(time.time() * 1000)
    with database.write() as connection:
        campaign_id = connection.execute(
            """INSERT INTO campaign (name, folded_name, path, source, state, created_at, changed_at)
            VALUES ('sale', 'sale', 'campaigns/sale.toml', '', 'running', ?1, ?1)""",
            (now_ms,),
        ).lastrowid
        run_id = connection.execute(
            "INSERT INTO run (campaign_id, state, created_at) VALUES (?, 'running', ?)", (campaign_id, now_ms)
        ).lastrowid
        connection.execute(
            "UPDATE batch SET run_id = ?, stage = 'main', variant = '', zone = '', priority = ? WHERE id = ?",
            (run_id, PRIORITY_BULK, batch_id),
        )
        connection.execute(
            "UPDATE message SET run_id = ?, lane = ? WHERE batch_id = ?",
            (run_id, lane_of(PRIORITY_BULK, batch_id), batch_id),
        )
        connection.execute("INSERT INTO run_tally VALUES (?, 'queued', '', ?)", (run_id, COUNT))
    assert campaign_id is not None
    return campaign_id


def test_after_a_campaign_is_paused_nothing_of_it_is_posted_but_what_was_in_flight(
    make_home: Callable[..., Household],
) -> None:
    """Promise P7; issue 5, point 6: while hundreds leave each second, and until it is resumed."""
    home = make_home("--latency-ms", "50", MAX_SENDS_PER_SECOND_PER_INSTANCE="0")
    ids = home.queue(COUNT)
    others = home.db.parent / "pauses"
    with closing(Database.open(home.db, create=False)) as database:
        campaign_id = turn_into_campaign(database, 1)
        campaigns = SqliteCampaigns(database, Owner(others))
        home.daemon()
        home.sandbox.wait_for_posts(COUNT // 5)

        now_ms = round(time.time() * 1000)
        with database.write() as connection:  # what `wa campaign pause` does, and a look at what is on its way then
            step(connection, campaign_id, CampaignState.PAUSED, actor="test", reason="by hand", now_ms=now_ms)
            in_flight = {row[0] for row in connection.execute("SELECT id FROM message WHERE state = 'sending'")}
        paused_at = time.time()

        until(lambda: home.states()["sending"] == 0, "all that was in flight has landed")
        # The daemon goes on: it sends what is not of the campaign, and nothing that is.
        home.send("+6591234567", "not of the campaign")
        home.sandbox.wait_for(lambda entries: any(entry["to"] == "6591234567" for entry in entries), "the other one")
        entries = [entry for entry in home.sandbox.entries() if entry["to"] != "6591234567"]
        at = {number(index).removeprefix("+"): parse_message_id(name) for index, name in enumerate(ids)}
        late = [at[entry["to"]] for entry in entries if entry["received_at"] > paused_at]
        assert set(late) <= in_flight
        assert len(late) == len(set(late))
        assert COUNT // 5 <= len(entries) < COUNT
        posted = {at[entry["to"]] for entry in entries}
        assert in_flight <= posted
        ((waiting,),) = home.read("SELECT count(*) FROM message WHERE state = 'queued'")
        assert waiting == COUNT - len(posted)
        rate = sum(paused_at - 1.0 < entry["received_at"] <= paused_at for entry in entries)
        print(
            f"{rate} in the second before the pause, {len(in_flight)} in flight, {len(late)} of them arrived after it"
        )

        campaigns.step(campaign_id, CampaignState.RUNNING, actor="test", reason=None, now_ms=now_ms + 1)
    home.wait_for_states(sent=COUNT + 1)
    home.audit().assert_sound()
