"""Sends to groups over HTTP: looked at before they are queued, without holding up the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import linked

if TYPE_CHECKING:
    import pytest
    from door import Api


def test_a_send_to_groups_looks_at_them_first_and_says_what_it_found(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 6, point 4."""
    device = linked.install(monkeypatch)
    linked.add_instance(api.app)
    choir = device.add_group(1, "Choir", "+6581230000", "+6581230001")
    news = device.add_group(2, "News", "+6581230000", may_post=False)
    gone = "120363025246129999@g.us"
    lines = [{"to": group, "message": "Doors open"} for group in (choir, news, gone)]

    sent = api.post("/api/messages/batch", {"instance": "main", "messages": lines}).json()
    assert (sent["queued"], sent["skipped_by_reason"]) == (1, {"may_not_post": 1, "not_in_group": 1})
    assert sent["preflight"] | {"members": None} == {
        "groups": 3, "checked": 3, "unreachable": 2, "members": None, "in_several": None, "problem": None,
    }  # fmt: skip
    assert device.asked == ["look", "list_groups", f"read_group {gone}"]

    device.asked.clear()
    again = api.post("/api/messages/send", {"instance": "main", "to": choir, "message": "Doors are open"})
    assert (again.status_code, again.json()["preflight"]["checked"], device.asked) == (202, 1, [])


def test_a_gateway_that_is_away_stops_no_send_over_http(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    device = linked.install(monkeypatch)
    linked.add_instance(api.app)
    choir = device.add_group(1, "Choir", "+6581230000")
    device.is_reachable = False
    sent = api.post("/api/messages/send", {"instance": "main", "to": choir, "message": "Doors open"})
    assert sent.status_code == 202
    assert any("was not checked" in warning for warning in sent.json()["warnings"])
