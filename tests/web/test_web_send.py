"""The calls that send: paths and bodies of the source systems, on the use cases of the command line."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from door import ADA, BEN, EVA, error_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from door import Api


def due_times(api: Api) -> list[int]:
    return [row[0] for row in api.rows("SELECT due_at FROM message ORDER BY id")]


def test_a_subgroup_send_is_spaced_by_the_given_delay(api: Api) -> None:
    """Rows R1, R3, S1: queued at once, with positions, each with its subgroup."""
    subgroup_id = api.subgroup("vip", ADA, BEN, EVA)
    answer = api.post("/api/subgroups/vip/send", {"type": "text", "body": "Doors open", "rate_limit_delay": 3000})
    assert answer.status_code == 202
    document = answer.json()
    assert (document["success"], document["queued"], document["rate_limit_delay"]) == (True, 3, 3000)
    assert document["message"] == "3 messages queued with 3000ms delay"
    assert [one["recipient"] for one in document["messages"]] == [ADA, BEN, EVA]
    assert [one["outcome"] for one in document["messages"]] == ["immediate", "queued", "queued"]
    assert [one["queue_position"] for one in document["messages"]] == [1, 2, 3]
    assert [later - earlier for earlier, later in pairwise(due_times(api))] == [3000, 3000]
    assert api.rows("SELECT DISTINCT subgroup, subgroup_id FROM batch") == [("vip", subgroup_id)]


def test_the_default_delay_is_two_seconds_and_auto_picks_by_size(api: Api) -> None:
    """Rows R1, R4."""
    api.subgroup("vip", *[f"+65812300{number:02d}" for number in range(30)])
    assert api.post("/api/subgroups/vip/send", {"body": "one"}).json()["delay_ms"] == 2000
    auto = api.post("/api/subgroups/vip/send", {"body": "two", "rate_limit_delay": "auto"}).json()
    assert 2000 <= auto["delay_ms"] <= 5000


def test_a_subgroup_is_known_by_its_name_in_any_case_and_by_its_id(api: Api) -> None:
    """Row R1: programs hold the id that `subgroup_id` shows."""
    subgroup_id = api.subgroup("Gäste 1", ADA)
    for place in ("Gäste 1", "gäste%201", str(subgroup_id)):
        assert api.post(f"/api/subgroups/{place}/send", {"body": f"to {place}"}).status_code == 202
    missing = api.post("/api/subgroups/Gaste 1/send", {"body": "hello"})
    assert (missing.status_code, error_of(missing)["code"]) == (404, "no_subgroup")
    assert "did you mean 'Gäste 1'?" in error_of(missing)["hint"]
    assert error_of(api.post("/api/subgroups/999/send", {"body": "hello"}))["code"] == "no_subgroup"


def test_a_name_may_hold_a_slash(api: Api) -> None:
    api.subgroup("vip/berlin", ADA)
    for place in ("vip/berlin", "vip%2Fberlin"):
        assert api.post(f"/api/subgroups/{place}/send", {"body": f"to {place}"}).status_code == 202
    assert api.post("/api/subgroups//send", {"body": "hello"}).status_code == 422


def test_a_name_of_digits_wins_over_an_id(api: Api) -> None:
    api.subgroup("first", ADA)
    api.subgroup("1", BEN)
    answer = api.post("/api/subgroups/1/send", {"body": "hello"}).json()
    assert answer["messages"][0]["recipient"] == BEN


def test_a_start_is_taken_in_epoch_seconds_and_send_immediately_wins(api: Api) -> None:
    """Row R2."""
    api.subgroup("vip", ADA, BEN)
    start = int(time.time()) + 3600
    later = api.post("/api/subgroups/vip/send", {"body": "later", "send_at": start, "rate_limit_delay": 1000})
    assert later.status_code == 202
    assert due_times(api) == [start * 1000, start * 1000 + 1000]
    assert {one["outcome"] for one in later.json()["messages"]} == {"queued"}
    now = api.post("/api/subgroups/vip/send", {"body": "now", "send_at": start, "send_immediately": True})
    assert now.status_code == 202
    assert due_times(api)[2] < start * 1000
    past = api.post("/api/subgroups/vip/send", {"body": "past", "send_at": 1640995200})
    assert (past.status_code, error_of(past)["code"]) == (400, "invalid_time")


def test_the_same_words_again_are_duplicates_and_say_so_with_200(api: Api) -> None:
    """Rows T2, T4."""
    api.subgroup("vip", ADA, BEN)
    assert api.post("/api/subgroups/vip/send", {"body": "hello"}).status_code == 202
    again = api.post("/api/subgroups/vip/send", {"body": "hello"})
    assert (again.status_code, again.json()["queued"], again.json()["duplicates"]) == (200, 0, 2)
    assert {one["outcome"] for one in again.json()["messages"]} == {"duplicate"}
    meant = api.post("/api/subgroups/vip/send", {"body": "hello", "again": True})
    assert (meant.status_code, meant.json()["queued"]) == (202, 2)


def test_a_repeated_idempotency_key_answers_with_the_first_result(api: Api) -> None:
    """Rows H5, H6: the same call queues nothing more; other content under the key is 422."""
    api.subgroup("vip", ADA, BEN)
    headers = {"Idempotency-Key": "order:shop:1:confirm:v1"}
    first = api.post("/api/subgroups/vip/send", {"body": "hello"}, headers=headers).json()
    second = api.post("/api/subgroups/vip/send", {"body": "hello"}, headers=headers)
    assert second.status_code == 200
    assert second.json()["batch_id"] == first["batch_id"]
    assert [one["id"] for one in second.json()["messages"]] == [one["id"] for one in first["messages"]]
    assert api.value("SELECT count(*) FROM message") == 2
    other = api.post("/api/subgroups/vip/send", {"body": "other"}, headers=headers)
    assert (other.status_code, error_of(other)["code"], error_of(other)["exit"]) == (422, "key_conflict", 7)


def test_a_key_whose_first_call_has_not_ended_is_409(api: Api) -> None:
    """Row H6: another process is still queueing under the key."""
    api.subgroup("vip", ADA)
    headers = {"Idempotency-Key": "k1"}
    assert api.post("/api/subgroups/vip/send", {"body": "hello"}, headers=headers).status_code == 202
    with api.app.database.write() as connection:
        connection.execute("UPDATE batch SET released_at = NULL, owner = ?", (api.app.owner.token,))
    busy = api.post("/api/subgroups/vip/send", {"body": "hello"}, headers=headers)
    assert (busy.status_code, error_of(busy)["code"]) == (409, "key_busy")
    assert busy.headers["Retry-After"]


def test_a_key_that_cannot_be_one_is_named_as_the_header_it_came_in(api: Api) -> None:
    api.subgroup("vip", ADA)
    for key in ("", "k" * 300):
        refused = api.post("/api/subgroups/vip/send", {"body": "hello"}, headers={"Idempotency-Key": key})
        assert refused.status_code == 400
        assert error_of(refused)["message"].startswith("Idempotency-Key must be")


def test_a_full_queue_refuses_the_call_and_loses_nothing(make_api: Callable[..., Api]) -> None:
    """Row H3: 429 with a time to wait."""
    api = make_api(MAX_QUEUE_SIZE="2")
    api.subgroup("vip", ADA, BEN, EVA)
    full = api.post("/api/subgroups/vip/send", {"body": "hello"})
    assert (full.status_code, error_of(full)["code"], error_of(full)["exit"]) == (429, "queue_full", 6)
    assert full.headers["Retry-After"]
    assert api.value("SELECT count(*) FROM message") == 0


def test_a_dry_run_writes_no_row(api: Api) -> None:
    api.subgroup("vip", ADA, BEN)
    answer = api.post("/api/subgroups/vip/send", {"body": "hello", "dry_run": True})
    assert (answer.status_code, answer.json()["queued"], answer.json()["dry_run"]) == (200, 2, True)
    assert api.value("SELECT count(*) FROM message") == 0


def test_a_template_is_filled_by_order_or_by_name(api: Api) -> None:
    api.subgroup("vip", ADA)
    for parameters in (["Ada", "6 pm"], {"first_name": "Ada"}):
        body = {"template": "doors_open", "language": "en", "parameters": parameters}
        assert api.post("/api/subgroups/vip/send", body).status_code == 202
    assert api.value("SELECT count(*) FROM content") == 2


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        ({"body": ""}, 400, "content", "the text"),
        ({"body": "x" * 5000}, 400, "content", "too long"),
        ({}, 400, "no_text", "no message"),
        ({"type": "image", "body": "hello"}, 400, "usage", "type image needs media"),
        ({"body": "a", "template": "t", "type": "template"}, 400, "usage", "body does not go"),
        ({"body": "a", "message": "b"}, 422, "invalid", "body and message"),
        ({"body": "a", "rate_limit_dealy": 1}, 422, "invalid", "rate_limit_dealy"),
        ({"body": "a", "rate_limit_delay": "3000"}, 422, "invalid", "rate_limit_delay"),
        ({"body": "a", "rate_limit_delay": -1}, 422, "invalid", "rate_limit_delay"),
        ({"body": "a", "type": "song"}, 422, "invalid", "type"),
        ({"body": "a", "send_at": "01/02/2026"}, 400, "invalid_time", "01/02/2026"),
        ({"body": "a", "send_at": "tomorrow 9am", "immediate": True}, 400, "usage", "send_at and immediate"),
        ({"body": "a", "expires": "soon"}, 400, "invalid_time", "soon"),
        ({"body": "a", "instance": "nobody"}, 404, "no_instance", "nobody"),
        ([], 422, "invalid", "the body"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_reason(
    api: Api, body: object, status: int, code: str, words: str
) -> None:
    """Row 87: in the words of the API, not of the command line."""
    api.subgroup("vip", ADA)
    answer = api.post("/api/subgroups/vip/send", body)
    error = error_of(answer)
    assert (answer.status_code, error["code"]) == (status, code)
    assert words in error["message"]
    assert "--" not in error["message"]
    assert api.value("SELECT count(*) FROM message") == 0


def test_an_empty_subgroup_is_an_error_that_says_what_to_type(api: Api) -> None:
    api.subgroup("vip")
    answer = api.post("/api/subgroups/vip/send", {"body": "hello"})
    assert (answer.status_code, error_of(answer)["code"]) == (400, "empty_subgroup")
    assert "`wa subgroup add vip" in error_of(answer)["hint"]
