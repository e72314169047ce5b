"""Single messages, batches and campaigns over HTTP."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from door import ADA, BEN, EVA, error_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from door import Api


# --- one message ---


def test_a_message_is_queued_and_its_place_in_the_queue_answered(api: Api) -> None:
    """Rows S1, T2: with the names that both source systems have for it."""
    first = api.post("/api/messages/send", {"phoneNumber": ADA, "message": "hello"})
    assert first.status_code == 202
    document = first.json()
    assert (document["success"], document["outcome"], document["immediate"]) == (True, "immediate", True)
    assert (document["queued"], document["duplicate"], document["queuePosition"]) == (True, False, 1)
    second = api.post("/api/messages/send", {"to": BEN, "body": "hello"}).json()
    assert (second["outcome"], second["queuePosition"], second["queue_position"]) == ("queued", 2, 2)
    again = api.post("/api/messages/send", {"recipient": ADA, "text": "hello"})
    assert again.status_code == 200
    assert (again.json()["duplicate"], again.json()["queued"], again.json()["id"]) == (True, False, document["id"])


def test_an_immediate_message_goes_ahead_of_all_that_waits(api: Api) -> None:
    """Row S3: ahead of the queue, never past the limits."""
    api.post("/api/messages/send", {"to": BEN, "body": "one"})
    urgent = api.post("/api/messages/send", {"to": ADA, "body": "two", "immediate": True}).json()
    assert (urgent["outcome"], urgent["queuePosition"]) == ("immediate", 1)
    lanes = dict(api.rows("SELECT id, lane FROM message"))
    assert lanes[2] < lanes[1]


def test_a_key_makes_a_message_once(api: Api) -> None:
    """Rows H5, H6."""
    headers = {"Idempotency-Key": "order:shop:1:confirm:v1"}
    first = api.post("/api/messages/send", {"to": ADA, "body": "hello"}, headers=headers)
    assert "Idempotency-Replayed" not in first.headers
    second = api.post("/api/messages/send", {"to": ADA, "body": "hello"}, headers=headers)
    assert (second.status_code, second.json()["id"]) == (200, first.json()["id"])
    assert second.headers["Idempotency-Replayed"] == "true"
    other = api.post("/api/messages/send", {"to": BEN, "body": "hello"}, headers=headers)
    assert (other.status_code, error_of(other)["code"]) == (422, "key_conflict")


def test_a_number_is_read_with_the_region_of_the_settings(make_api: Callable[..., Api]) -> None:
    api = make_api(WA_DEFAULT_REGION="SG")
    assert api.post("/api/messages/send", {"to": "8123 0001", "body": "hello"}).json()["recipient"] == ADA


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"body": "hello"}, 422, "invalid"),
        ({"to": ADA, "phoneNumber": BEN, "body": "hello"}, 422, "invalid"),
        ({"to": "81230001", "body": "hello"}, 400, "invalid_recipient"),
        ({"to": "nobody", "body": "hello"}, 400, "invalid_recipient"),
        ({"to": "", "body": "hello"}, 422, "invalid"),
        ({"to": ADA}, 400, "no_text"),
    ],
)
def test_a_message_without_a_good_number_or_words_is_refused(
    api: Api, body: dict[str, Any], status: int, code: str
) -> None:
    answer = api.post("/api/messages/send", body)
    assert (answer.status_code, error_of(answer)["code"]) == (status, code)


def test_a_group_is_skipped_where_the_transport_cannot_reach_it(api: Api) -> None:
    answer = api.post("/api/messages/send", {"to": "120363012345678901@g.us", "body": "hello"})
    assert (answer.status_code, answer.json()["outcome"], answer.json()["success"]) == (200, "skipped", False)
    assert "groups" in answer.json()["reason"]


# --- a batch ---


def test_a_batch_is_spaced_and_each_gets_their_own_words(api: Api) -> None:
    """Rows S4, T3: the first goes now, the rest follow 2 s apart."""
    lines = [{"phoneNumber": ADA, "message": "Hello 1"}, {"phoneNumber": BEN, "message": "Hello 2"}]
    answer = api.post("/api/messages/batch", {"messages": lines})
    assert answer.status_code == 202
    document = answer.json()
    assert (document["queued"], document["delay_ms"], document["batch_id"]) == (2, 2000, "b1")
    assert [one["outcome"] for one in document["messages"]] == ["immediate", "queued"]
    due = [row[0] for row in api.rows("SELECT due_at FROM message ORDER BY id")]
    assert [later - earlier for earlier, later in pairwise(due)] == [2000]


def test_bad_lines_of_a_batch_are_named_and_the_good_ones_go(api: Api) -> None:
    """Promise P12: by their index."""
    lines = [
        {"to": "nobody", "body": "a"},
        {"to": ADA, "body": "b"},
        {"to": BEN, "body": ""},
        {"to": EVA, "body": "c", "key": "line-3"},
        {"to": EVA},
    ]
    answer = api.post("/api/messages/batch", {"messages": lines})
    document = answer.json()
    assert (answer.status_code, document["queued"], document["refused"]) == (202, 2, 3)
    assert document["success"] is False
    assert [one["index"] for one in document["refusals"]] == [0, 2, 4]
    assert document["message"].endswith(", 3 refused")
    none = api.post("/api/messages/batch", {"messages": lines[:1]})
    assert (none.status_code, error_of(none)["code"]) == (400, "invalid_recipient")
    empty = api.post("/api/messages/batch", {"messages": []})
    assert (empty.status_code, error_of(empty)["code"]) == (422, "invalid")


def test_a_key_of_a_line_makes_that_line_once(api: Api) -> None:
    """Row H5."""
    line = {"to": ADA, "body": "hello", "key": "order:1"}
    assert api.post("/api/messages/batch", {"messages": [line]}).status_code == 202
    again = api.post("/api/messages/batch", {"messages": [line, {"to": BEN, "body": "hello"}]}).json()
    assert [one["outcome"] for one in again["messages"]] == ["duplicate", "queued"]
    conflict = api.post("/api/messages/batch", {"messages": [{**line, "body": "other"}]})
    assert (conflict.status_code, error_of(conflict)["code"]) == (422, "key_conflict")


def test_a_large_batch_goes_in_with_one_call(api: Api) -> None:
    """Row S4."""
    lines = [{"to": f"+65812{number:05d}", "body": f"hello {number}"} for number in range(5_000)]
    answer = api.post("/api/messages/batch", {"messages": lines, "rate_limit_delay": 0})
    assert (answer.status_code, answer.json()["queued"]) == (202, 5_000)
    assert api.value("SELECT count(*) FROM message WHERE state = 'queued'") == 5_000


# --- a campaign ---


def campaign(**more: Any) -> dict[str, Any]:
    return {
        "campaignId": 123,
        "recipients": [ADA, BEN],
        "messageType": "text",
        "payload": {"text": {"body": "Hello from our campaign!"}},
        **more,
    }


def test_a_campaign_is_queued_for_its_recipients_and_counted(api: Api) -> None:
    """Rows Q2, Q6, Q7, Q9: in the shape of the source system."""
    answer = api.post("/api/campaigns/send", campaign(), headers={"x-user-id": "user-7"})
    document = answer.json()
    assert (answer.status_code, document["queued"], document["campaignId"]) == (202, 2, 123)
    assert api.rows("SELECT campaign, actor FROM batch") == [("123", "key shop for 'user-7'")]
    status = api.get("/api/queue/status?campaignId=123").json()
    assert status["stats"]["pending"] == 2
    assert status["campaign"] == {
        "id": 123, "name": "123", "state": None, "progress": 0, "total": 2, "pending": 2, "sent": 0, "delivered": 0,
        "read": 0, "failed": 0, "failedCount": 0, "replied": 0, "optedOut": 0, "clicked": 0, "clickedCount": 0,
        "unknown": 0, "skipped": 0, "expired": 0, "cancelled": 0,
    }  # fmt: skip
    other = api.get("/api/queue/status?campaignId=124")
    assert (other.status_code, error_of(other)["code"]) == (404, "no_campaign")


def test_every_recipient_of_a_campaign_is_accounted_for(api: Api) -> None:
    """Promise P13: queued, skipped, refused, or the same person twice."""
    people = [ADA, "nobody", "+65 8123 0001", BEN, "120363012345678901@g.us"]
    document = api.post("/api/campaigns/send", campaign(recipients=people)).json()
    counts = [document[name] for name in ("queued", "duplicates", "skipped", "refused", "merged")]
    assert counts == [2, 0, 1, 1, 1]
    assert sum(counts) == len(people)


def test_a_campaign_key_stands_for_that_campaign_alone(api: Api) -> None:
    """Row H6."""
    headers = {"Idempotency-Key": "k1"}
    assert api.post("/api/campaigns/send", campaign(), headers=headers).status_code == 202
    assert api.post("/api/campaigns/send", campaign(), headers=headers).status_code == 200
    other = api.post("/api/campaigns/send", campaign(campaignId=124), headers=headers)
    assert (other.status_code, error_of(other)["code"]) == (422, "key_conflict")


def test_a_template_of_a_campaign_is_given_as_the_platform_has_it(api: Api) -> None:
    """Row Q2."""
    payload = {
        "template": {
            "name": "doors_open",
            "language": {"code": "en_US"},
            "components": [
                {"type": "header", "parameters": [{"type": "image", "image": {"link": "https://example.org/a.jpg"}}]},
                {"type": "body", "parameters": [{"type": "text", "text": "Ada"}]},
                {"type": "button", "sub_type": "url", "index": "0", "parameters": [{"type": "text", "text": "a"}]},
            ],
        }
    }
    answer = api.post("/api/campaigns/send", campaign(messageType="template", payload=payload))
    assert answer.status_code == 202
    assert '"name":"doors_open"' in api.value("SELECT body FROM content")


@pytest.mark.parametrize(
    ("change", "status", "code", "words"),
    [
        ({"payload": {}}, 400, "content", "text is missing"),
        ({"payload": {"text": "hello"}}, 400, "content", "text: is no object"),
        ({"payload": {"text": {"body": 5}}}, 400, "content", "body is no text"),
        ({"payload": {"text": {"body": "a", "colour": "red"}}}, 400, "content", "'colour' is nothing"),
        ({"payload": {"text": {"body": ""}}}, 400, "content", "the text"),
        ({"messageType": "poll"}, 400, "content", "type 'poll'"),
        ({"messageType": "image", "payload": {"image": {"id": "123"}}}, 400, "content", "link is missing"),
        ({"recipients": []}, 422, "invalid", "recipients"),
        ({"recipients": ["nobody"]}, 400, "invalid_recipient", "nothing to send"),
        ({"campaignId": ""}, 422, "invalid", "campaignId"),
        ({"campaignId": None}, 422, "invalid", "campaignId"),
    ],
)
def test_a_campaign_that_cannot_be_meant_is_refused(
    api: Api, change: dict[str, Any], status: int, code: str, words: str
) -> None:
    answer = api.post("/api/campaigns/send", campaign(**change))
    assert (answer.status_code, error_of(answer)["code"]) == (status, code)
    assert words in error_of(answer)["message"]
    assert api.value("SELECT count(*) FROM message") == 0


# --- people ---


def opt_out(api: Api, address: str) -> None:
    with api.app.database.write() as connection:
        connection.execute("UPDATE contact SET opted_out_at = 1 WHERE address = ?", (address,))


def test_a_person_who_has_opted_out_is_refused_and_left_out_of_a_list(api: Api) -> None:
    """Fault 88: the same rule as on the command line."""
    api.subgroup("vip", ADA, BEN)
    opt_out(api, ADA)
    alone = api.post("/api/messages/send", {"to": ADA, "body": "hello"})
    assert (alone.status_code, error_of(alone)["code"], error_of(alone)["exit"]) == (422, "opted_out", 6)
    document = api.post("/api/subgroups/vip/send", {"body": "hello"}).json()
    assert (document["queued"], document["skipped"], document["skipped_by_reason"]) == (1, 1, {"opted_out": 1})
    assert api.value("SELECT count(*) FROM message WHERE state = 'queued'") == 1


def test_free_text_to_a_closed_window_is_queued_with_a_warning(api: Api) -> None:
    """WA_WINDOW=warn: in the words of the API."""
    api.subgroup("vip", ADA)
    now_ms = api.app.clock.wall_ms()
    with api.app.database.write() as connection:
        connection.execute(
            "UPDATE instance SET webhooks_since = ?, last_webhook_at = ?", (now_ms - 2 * 86_400_000, now_ms)
        )
    document = api.post("/api/messages/send", {"to": ADA, "body": "hello"}).json()
    assert (document["outcome"], document["window"]) == ("immediate", "closed")
    assert "send an approved template, template NAME" in document["warnings"][0]
