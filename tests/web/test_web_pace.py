"""Messages that came in over HTTP leave by the same rules as all others."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from door import ADA, BEN

from tests.world import FakeClock, FakeTransport, World

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from door import Api

MINUTE_MS = 60_000


def test_thirty_a_minute_to_one_number_hold_for_messages_from_http(
    make_api: Callable[..., Api], tmp_path: Path
) -> None:
    """Row S2; promise P8; the open point of issue 4: over every route, beside each other, with the default limit.

    The least gap between two is lifted, so that the minute alone holds them back; nobody else waits for it.
    """
    api = make_api(RATE_LIMIT_MS="0")
    assert api.app.limits().recipient_per_minute == 30
    for number in range(20):
        assert api.post("/api/messages/send", {"to": ADA, "body": f"single {number}"}).status_code == 202
    batch = [{"phoneNumber": ADA, "message": f"batch {number}"} for number in range(20)]
    answer = api.post("/api/messages/batch", {"messages": batch, "rate_limit_delay": 0})
    assert (answer.status_code, answer.json()["queued"]) == (202, 20)
    for number in range(25):
        asked = {"campaignId": f"c{number}", "recipients": [ADA], "payload": {"text": {"body": f"campaign {number}"}}}
        assert api.post("/api/campaigns/send", asked).status_code == 202
    assert api.post("/api/messages/send", {"to": BEN, "body": "hello"}).status_code == 202

    clock = FakeClock(api.app.clock.wall_ms())
    world = World(
        folder=tmp_path,
        clock=clock,
        database=api.app.database,
        owner=api.app.owner,
        transport=FakeTransport(clock),
        limits=api.app.limits(),
    )
    world.drain(whole_schedule=True)

    posts = world.transport.posts
    to_ada = [posted.at_ms for posted in posts if posted.post.address == ADA]
    assert len(to_ada) == len({posted.body for posted in posts if posted.post.address == ADA}) == 65
    busiest = max(bisect_left(to_ada, start + MINUTE_MS) - index for index, start in enumerate(to_ada))
    assert busiest == 30
    assert to_ada[-1] < 2.5 * MINUTE_MS  # and not slower than it must be
    (to_ben,) = [posted.at_ms for posted in posts if posted.post.address == BEN]
    assert to_ben < 1_000
    assert api.rows("SELECT DISTINCT state FROM message") == [("sent",)]
