"""What failed over HTTP, and sending it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from door import ADA, BEN, EVA, error_of

from tests.cli.stored import finish, start_all, take_lease
from wa_cli.domain.outcome import ErrorClass, Rejected

if TYPE_CHECKING:
    from door import Api

TIMED_OUT = Rejected(
    error_class=ErrorClass.RETRY, code="131000", details="Request timeout", http_status=500, max_attempts=1
)
DEAD = Rejected(error_class=ErrorClass.DEAD_RECIPIENT, code="131026", details="undeliverable", http_status=400)


def fail(api: Api, outcome: Rejected = TIMED_OUT, *, body: str = "hello", name: str = "vip") -> None:
    """A subgroup whose every message has failed."""
    api.subgroup(name, ADA, BEN, EVA)
    answer = api.post(f"/api/subgroups/{name}/send", {"body": body, "rate_limit_delay": 0, "max_attempts": 1})
    assert answer.status_code == 202
    lease = take_lease(api.app)
    finish(api.app, start_all(api.app, lease), outcome)
    api.app.leases.release(lease)


def test_failed_messages_are_listed_in_the_shape_of_the_source_system(api: Api) -> None:
    """Row R6."""
    fail(api)
    document = api.get("/api/failed-messages").json()
    assert (document["count"], document["total"], document["next"]) == (3, 3, None)
    first = document["failed_messages"][0]
    assert first["index"] == 0
    assert (first["type"], first["group_id"], first["body"], first["status"]) == ("text", ADA, "hello", "failed")
    assert first["error_details"] == "Request timeout"
    assert first["send_at"].isdigit()
    assert first["scheduled_time"].endswith(" UTC")
    assert first["subgroup_id"] == "1"


def test_a_long_list_is_read_in_pages_of_one_numbering(api: Api) -> None:
    """Row R6."""
    fail(api)
    first = api.get("/api/failed-messages?limit=2").json()
    assert ([one["index"] for one in first["failed_messages"]], first["next"], first["total"]) == ([0, 1], 1, 3)
    second = api.get(f"/api/failed-messages?limit=2&after={first['next']}").json()
    assert ([one["index"] for one in second["failed_messages"]], second["next"]) == ([2], None)


def test_chosen_ones_are_sent_again_by_their_indexes(api: Api) -> None:
    """Rows R7, R9: spaced, from now on, with their history."""
    fail(api)
    assert api.get("/api/failed-messages").json()["count"] == 3
    answer = api.post("/api/resend-failed", {"message_indices": [0, 2], "rate_limit_delay": 4000})
    assert answer.status_code == 200
    document = answer.json()
    assert (document["success"], document["resend_count"], document["rate_limit_delay"]) == (True, 2, 4000)
    assert document["message"] == "2 failed messages rescheduled for resending with 4000ms delay"
    assert [one["id"] for one in document["messages"]] == ["m1", "m3"]
    rows = api.rows("SELECT state, error_code, due_at FROM message WHERE id IN (1, 3) ORDER BY id")
    assert [row[:2] for row in rows] == [("queued", None)] * 2
    assert rows[1][2] - rows[0][2] == 4000
    history = api.app.messages.read_history(1)
    assert len(history.attempts) == 1
    assert "asked for by key shop" in (history.decisions[-1].details or "")


def test_an_index_whose_message_has_changed_since_is_refused(api: Api) -> None:
    """Row R7: it would not be what the caller saw."""
    fail(api)
    api.get("/api/failed-messages")
    assert api.post("/api/resend-failed", {"message_indices": [0]}).status_code == 200
    stale = api.post("/api/resend-failed", {"message_indices": [0]})
    assert (stale.status_code, error_of(stale)["code"], error_of(stale)["exit"]) == (409, "stale_index", 7)
    missing = api.post("/api/resend-failed", {"message_indices": [99]})
    assert (missing.status_code, error_of(missing)["code"]) == (400, "no_index")


def test_chosen_ones_are_sent_again_by_their_ids(api: Api) -> None:
    """Row R7: ids do not shift."""
    fail(api)
    document = api.post("/api/resend-failed", {"message_ids": ["m2", "m2"]}).json()
    assert [one["id"] for one in document["messages"]] == ["m2"]
    unknown = api.post("/api/resend-failed", {"message_ids": ["m99"]})
    assert (unknown.status_code, error_of(unknown)["code"]) == (404, "no_message")


@pytest.mark.parametrize(
    "body",
    [{}, {"message_indices": []}, {"message_ids": ["x"]}, {"message_indices": [-1]}, {"message_indices": ["0"]}],
)
def test_a_resend_of_nothing_is_an_error(api: Api, body: dict[str, object]) -> None:
    answer = api.post("/api/resend-failed", body)
    assert (answer.status_code, error_of(answer)["code"]) == (422, "invalid")


def test_everything_of_a_subgroup_is_sent_again(api: Api) -> None:
    """Row R8: the default is 3 s; other subgroups stay."""
    fail(api)
    fail(api, name="other", body="else")
    answer = api.post("/api/subgroups/VIP/resend-failed", {})
    document = answer.json()
    assert (document["resend_count"], document["rate_limit_delay"]) == (3, 3000)
    assert document["message"] == "3 failed messages from subgroup rescheduled for resending with 3000ms delay"
    assert dict(api.rows("SELECT state, count(*) FROM message GROUP BY 1")) == {"queued": 3, "failed": 3}
    # By its id, and without a body: the defaults hold then.
    assert api.post("/api/subgroups/2/resend-failed").json()["resend_count"] == 3
    missing = api.post("/api/subgroups/nothing/resend-failed", {})
    assert (missing.status_code, error_of(missing)["code"]) == (404, "no_subgroup")


def test_permanent_errors_are_refused_by_name_unless_forced(api: Api) -> None:
    """Row R7: and a dry run changes nothing."""
    fail(api, DEAD)
    refused = api.post("/api/subgroups/vip/resend-failed", {}).json()
    assert (refused["success"], refused["resend_count"], len(refused["refused"])) == (False, 0, 3)
    tried = api.post("/api/subgroups/vip/resend-failed", {"force": True, "dry_run": True}).json()
    assert (tried["resend_count"], tried["dry_run"]) == (3, True)
    assert api.value("SELECT count(*) FROM message WHERE state = 'failed'") == 3
    assert api.post("/api/subgroups/vip/resend-failed", {"force": True}).json()["resend_count"] == 3
