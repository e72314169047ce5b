"""What WAHA's answers to a send mean: four engines' successes, and a table of refusals.  Issue 6, point 2."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wa_cli.domain.connection import ConnectionState, RestrictionScope
from wa_cli.domain.outcome import Accepted, Ambiguous, ErrorClass, Rejected
from wa_cli.transports.waha.answer import read_answer

BARE = "3EB0C0FFEE0123456789AB"
TAG = "wa1.4f7h2k9q.1"
UNTIL_MS = 1_793_900_000_000

SUCCESSES: dict[str, Any] = {
    "GOWS": {"id": f"true_15550100123@c.us_{BARE}", "_data": {}},
    "GOWS, in a group": {"id": f"true_120363041234567890@g.us_{BARE}_15550783881@c.us", "_data": {}},
    "GOWS, to a hidden number": {"id": f"true_123456789012345@lid_{BARE}"},
    "NOWEB": {
        "key": {"remoteJid": "15550100123@s.whatsapp.net", "fromMe": True, "id": BARE},
        "status": "PENDING",
        "messageTimestamp": "1793900000",
    },
    "WEBJS": {"id": {"id": BARE, "_serialized": f"true_15550100123@c.us_{BARE}"}, "ack": 0, "timestamp": 1},
    "WEBJS, whole id alone": {"id": {"_serialized": f"true_15550100123@c.us_{BARE}"}},
    "WEBJS, in its raw message": {"_data": {"id": {"id": BARE, "_serialized": f"true_15550100123@c.us_{BARE}"}}},
    "WPP": {"id": f"true_15550100123@c.us_{BARE}", "ack": 0},
}


def read(status: int, shape: Any, *, kind: str = "text", secrets: tuple[str, ...] = (), **headers: str) -> Any:
    body = shape if isinstance(shape, bytes) else json.dumps(shape).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_answer(status, body, kind=kind, tag=TAG, secrets=secrets, headers=named)


@pytest.mark.parametrize("engine", SUCCESSES)
def test_every_engines_success_is_known_by_the_bare_id(engine: str) -> None:
    assert read(201, SUCCESSES[engine]) == Accepted(provider_message_id=BARE, http_status=201)


@pytest.mark.parametrize("shape", [None, {}, [], "ok", {"id": None}, {"id": 7}, {"id": {}}, {"id": "a b"}, {"key": {}}])
def test_a_success_without_an_id_may_have_gone_out(shape: Any) -> None:
    """Promise P4."""
    outcome = read(201, shape)
    assert isinstance(outcome, Ambiguous)
    assert outcome.code == "no_message_id"


def test_a_success_that_holds_an_error_is_no_verdict() -> None:
    assert isinstance(read(201, {"id": BARE, "error": "but"}), Ambiguous)


def test_a_reaction_needs_no_id_of_its_own() -> None:
    assert read(200, {}, kind="reaction") == Accepted(provider_message_id=TAG, http_status=200)


@pytest.mark.parametrize(
    ("status", "shape", "error_class", "code"),
    [
        (401, {"message": "Unauthorized", "statusCode": 401}, ErrorClass.STOP, "401"),
        (403, {"message": "Forbidden resource", "error": "Forbidden", "statusCode": 403}, ErrorClass.STOP, "403"),
        (400, {"message": ["text must be a string"], "statusCode": 400}, ErrorClass.DEAD_MESSAGE, "400"),
        (413, {"message": "request entity too large", "statusCode": 413}, ErrorClass.DEAD_MESSAGE, "413"),
        (
            422,
            {"message": "The method is not implemented by the engine", "statusCode": 422},
            ErrorClass.DEAD_MESSAGE,
            "422",
        ),
        (404, {"message": "Cannot POST /api/sendText", "statusCode": 404}, ErrorClass.STOP, "404"),
        (
            404,
            {"message": "Session not found", "error": "Not Found", "statusCode": 404},
            ErrorClass.NOT_READY,
            "NOT_FOUND",
        ),
        (422, {"message": 'Session "shop" does not exist', "statusCode": 422}, ErrorClass.NOT_READY, "STOPPED"),
        (429, {"message": "rate-overlimit", "statusCode": 429}, ErrorClass.THROTTLE, "429"),
    ],
)
def test_a_refusal_is_sorted_by_what_it_says(status: int, shape: Any, error_class: ErrorClass, code: str) -> None:
    outcome = read(status, shape)
    assert isinstance(outcome, Rejected)
    assert (outcome.error_class, outcome.code, outcome.http_status) == (error_class, code, status)
    assert outcome.details


def test_an_older_waha_that_lacks_one_call_costs_that_message_alone() -> None:
    outcome = read(404, {"message": "Cannot POST /api/sendList", "statusCode": 404}, kind="list")
    assert outcome.error_class is ErrorClass.DEAD_MESSAGE


def test_a_reaction_to_a_message_that_is_gone_says_nothing_of_the_session() -> None:
    outcome = read(404, {"message": "Message not found", "statusCode": 404}, kind="reaction")
    assert outcome.error_class is ErrorClass.DEAD_MESSAGE


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("SCAN_QR_CODE", ConnectionState.NEEDS_QR),
        ("PASSKEY_REQUIRED", ConnectionState.NEEDS_QR),
        ("STARTING", ConnectionState.CONNECTING),
        ("STOPPED", ConnectionState.DISCONNECTED),
        ("FAILED", ConnectionState.AUTH_FAILURE),
        ("SOMETHING_NEW", ConnectionState.ERROR),
        ("WORKING", ConnectionState.CONNECTING),  # it was not when it was asked
    ],
)
def test_a_session_that_is_not_ready_says_how_it_stands(status: str, state: ConnectionState) -> None:
    """Row H9: nothing was sent, and the instance takes the state from the answer."""
    words = "Session status is not as expected. Try again later or restart the session"
    outcome = read(422, {"error": words, "session": "shop", "status": status, "expected": ["WORKING"]})
    assert (outcome.error_class, outcome.connection, outcome.code) == (ErrorClass.NOT_READY, state, status)


@pytest.mark.parametrize(
    "shape",
    [
        {"statusCode": 422, "error": {"code": 463, "reason": "wait", "until": UNTIL_MS}},
        {"code": "463", "until": UNTIL_MS // 1000},
        {"error": {"code": 463, "until": "2026-11-05T15:33:20+00:00"}},
        {"exception": {"name": "Error", "code": 463, "until": UNTIL_MS}},
    ],
)
def test_a_time_lock_restricts_the_number_until_the_stated_end(shape: Any) -> None:
    """Issue 6, point 6: whatever status it comes with."""
    for status in (400, 422, 500):
        outcome = read(status, shape)
        assert outcome.error_class is ErrorClass.RESTRICTED
        assert outcome.restriction.scope is RestrictionScope.NEW_PEOPLE
        assert abs(outcome.restriction.until_ms - UNTIL_MS) < 86_400_000 * 30


def test_a_time_lock_is_known_by_the_librarys_words() -> None:
    outcome = read(500, {"statusCode": 500, "exception": {"message": "server returned error 463"}})
    assert outcome.error_class is ErrorClass.RESTRICTED
    assert outcome.restriction.until_ms is None


def test_a_ban_holds_everything_back() -> None:
    outcome = read(422, {"error": {"code": 104, "blocked": True}})
    assert outcome.restriction.scope is RestrictionScope.EVERYTHING
    assert "same message" in outcome.details


@pytest.mark.parametrize("status", [200, 201, 302, 401, 403, 404, 422, 429, 500, 502, 503])
@pytest.mark.parametrize(
    "body", [b"", b"<html>Log in to the network</html>", b"[]", b'{"message":"who knows"}', b'{"id":']
)
def test_no_status_alone_is_a_verdict(status: int, body: bytes) -> None:
    """Promise P4: a proxy in front of WAHA answers with the same numbers."""
    outcome = read(status, body)
    assert isinstance(outcome, Ambiguous)


def test_a_failing_engine_echoes_nothing_of_the_request() -> None:
    """Promise P11."""
    shape = {
        "statusCode": 500,
        "exception": {"name": "ProtocolError", "message": "canary +15550100123", "stack": "canary"},
        "request": {
            "path": "/api/sendText",
            "method": "POST",
            "body": {"text": "canary", "chatId": "15550100123@c.us"},
        },
        "version": {},
    }
    outcome = read(500, shape)
    assert isinstance(outcome, Ambiguous)
    assert "ProtocolError" in outcome.details
    assert "canary" not in repr(outcome)
    assert "0123" not in repr(outcome)


def test_words_of_a_refusal_are_masked() -> None:
    """Promise P11."""
    outcome = read(400, {"message": "bad hunter2 for 15550100123", "statusCode": 400}, secrets=("hunter2",))
    assert "hunter2" not in outcome.details
    assert "15550100123" not in outcome.details


def test_how_long_to_wait_is_taken_from_the_answer() -> None:
    assert read(429, {"message": "slow", "statusCode": 429}, Retry_After="30").wait_seconds == 30
    assert read(429, {"message": "slow", "statusCode": 429}, Retry_After="soon").wait_seconds is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "key", "error", "code", "status", "statusCode", "message", "exception", "_data", "until"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(status=st.sampled_from([200, 201, 400, 401, 404, 422, 429, 500]), shape=JSON)
def test_no_answer_makes_it_fail(status: int, shape: Any) -> None:
    assert isinstance(read(status, shape), Accepted | Rejected | Ambiguous)
