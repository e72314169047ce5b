"""What GOWA's answers to a send mean.  Issue 6: the gateway's table of answers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from wa_cli.domain.connection import ConnectionState, RestrictionScope
from wa_cli.domain.message import OnUnknown, State
from wa_cli.domain.outcome import Accepted, Ambiguous, ErrorClass, Rejected
from wa_cli.domain.retry import RetryPolicy, judge
from wa_cli.transports.gowa.answer import read_answer, read_code
from wa_cli.transports.gowa.codes import CODES

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)


def read(status: int, code: str | None, message: str = "words", results: Any = None, **headers: str) -> Any:
    shape = {"code": code, "message": message, "results": results}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_answer(status, named, json.dumps(shape).encode(), secrets=("hunter2",), now=NOW)


def test_a_success_with_an_id_is_accepted() -> None:
    outcome = read(200, "SUCCESS", results={"message_id": "3EB0AA", "status": "sent"})

    assert outcome == Accepted(provider_message_id="3EB0AA", http_status=200)


@pytest.mark.parametrize("results", [None, {}, {"message_id": ""}, {"message_id": 7}, {"message_id": "a b"}, [], "x"])
def test_a_success_without_an_id_may_have_gone_out(results: Any) -> None:
    outcome = read(200, "SUCCESS", results=results)

    assert isinstance(outcome, Ambiguous)
    assert outcome.code == "no_message_id"


@pytest.mark.parametrize(
    ("status", "code", "error_class"),
    [
        (400, "VALIDATION_ERROR", ErrorClass.DEAD_MESSAGE),
        (400, "INVALID_JID", ErrorClass.DEAD_RECIPIENT),
        (400, "DEVICE_ID_REQUIRED", ErrorClass.STOP),
        (401, "AUTHENTICATION_ERROR", ErrorClass.NOT_READY),
        (401, "UNAUTHORIZED", ErrorClass.STOP),
        (404, "DEVICE_NOT_FOUND", ErrorClass.NOT_READY),
        (429, "WA_REACHOUT_TIMELOCK", ErrorClass.RESTRICTED),
        (429, "TOO_MANY_REQUESTS", ErrorClass.THROTTLE),
        (503, "DEVICE_MANAGER_UNAVAILABLE", ErrorClass.NOT_READY),
    ],
)
def test_a_refusal_goes_by_its_code(status: int, code: str, error_class: ErrorClass) -> None:
    outcome = read(status, code)

    assert isinstance(outcome, Rejected)
    assert (outcome.error_class, outcome.http_status) == (error_class, status)


@pytest.mark.parametrize(
    ("status", "code", "state"),
    [
        (401, "AUTHENTICATION_ERROR", ConnectionState.DISCONNECTED),
        (404, "DEVICE_NOT_FOUND", ConnectionState.DISCONNECTED),
        (503, "DEVICE_MANAGER_UNAVAILABLE", ConnectionState.CONNECTING),
    ],
)
def test_a_device_that_is_not_there_says_how_it_stands(status: int, code: str, state: ConnectionState) -> None:
    """Row H9."""
    assert read(status, code).connection is state


def test_not_on_whatsapp_is_asked_once_more_before_it_is_believed() -> None:
    """GOWA says so too when its own look-up has failed."""
    outcome = read(400, "INVALID_JID", "Phone 60123456789 is not on whatsapp")

    assert isinstance(outcome, Rejected)
    assert (outcome.error_class, outcome.max_attempts) == (ErrorClass.RETRY, 2)
    assert "60123456789" not in outcome.details
    states = [
        judge(
            outcome,
            attempts=attempts,
            refusals=0,
            max_attempts=5,
            on_unknown=OnUnknown.HOLD,
            policy=RetryPolicy(),
            jitter=0.0,
        ).state
        for attempts in (0, 1)
    ]
    assert states == [State.QUEUED, State.FAILED]


@pytest.mark.parametrize(
    ("status", "code"),
    [(500, "INTERNAL_SERVER_ERROR"), (500, "UPLOAD_MEDIA_ERROR"), (500, "INVALID_WA_CLI"), (504, "GATEWAY_TIMEOUT")],
)
def test_a_server_error_says_nothing_of_the_message(status: int, code: str) -> None:
    """Promise P2: the post of a busy group may have gone out although the gateway gave up."""
    assert isinstance(read(status, code), Ambiguous)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"<html>log in</html>"),
        (200, b'{"code":"SUCCESS","results":{"message_id":"3EB0'),
        (200, b"[]"),
        (200, b'{"code":{}}'),
        (200, b'{"code":"OTHER","results":{"message_id":"3EB0"}}'),
        (302, b""),
        (500, b"oops"),
        (502, b"<html>bad gateway</html>"),
        (503, b""),
        (504, b"upstream request timeout"),
    ],
)
def test_what_cannot_be_read_is_no_verdict(status: int, body: bytes) -> None:
    assert isinstance(read_answer(status, {}, body), Ambiguous)


@pytest.mark.parametrize("code", ["SERVICE_UNAVAILABLE", "INTERNAL_SERVER_ERROR", "SUCCESS"])
def test_a_server_error_of_another_code_says_nothing_whatever_its_status(code: str) -> None:
    """Promise P2: it may have come after the message had gone out."""
    assert isinstance(read(503, code), Ambiguous)


@pytest.mark.parametrize(
    ("status", "error_class", "code"),
    [
        (401, ErrorClass.STOP, "gateway_key"),
        (404, ErrorClass.STOP, "gateway_url"),
        (413, ErrorClass.DEAD_MESSAGE, "too_large"),
        (429, ErrorClass.THROTTLE, "http_429"),
    ],
)
def test_the_front_door_refuses_in_plain_words(status: int, error_class: ErrorClass, code: str) -> None:
    outcome = read_answer(status, {"Content-Type": "text/plain"}, b"Unauthorized")

    assert isinstance(outcome, Rejected)
    assert (outcome.error_class, outcome.code) == (error_class, code)


@pytest.mark.parametrize(
    ("words", "results", "headers", "until_ms"),
    [
        ("reach-out time-lock", None, {}, None),
        ("reach-out time-lock", {"until": "2026-01-03T03:04:05Z"}, {}, NOW_MS + 86_400_000),
        ("reach-out time-lock", {"until": "2025-01-03T03:04:05Z"}, {}, None),
        ("reach-out time-lock", {"expires_at": NOW_MS // 1000 + 60}, {}, (NOW_MS // 1000 + 60) * 1000),
        ("reach-out time-lock", None, {"Retry_After": "3600"}, NOW_MS + 3_600_000),
        ("server returned error 463, expires in 1h2m3s", None, {}, NOW_MS + 3_723_000),
    ],
)
def test_a_time_lock_holds_back_new_people_until_its_end(
    words: str, results: Any, headers: dict[str, str], until_ms: int | None
) -> None:
    """Fault 62."""
    outcome = read(429, "WA_REACHOUT_TIMELOCK", words, results, **headers)

    assert outcome.restriction.scope is RestrictionScope.NEW_PEOPLE
    assert (outcome.restriction.code, outcome.restriction.until_ms) == ("463", until_ms)


def test_an_older_gateway_says_463_in_its_words() -> None:
    outcome = read(500, "INTERNAL_SERVER_ERROR", "server returned error 463")

    assert outcome.error_class is ErrorClass.RESTRICTED


@pytest.mark.parametrize("code", ["101", "102", "103", "104", "106"])
def test_a_temporary_ban_holds_back_everything(code: str) -> None:
    """Fault 62."""
    outcome = read(500, "INTERNAL_SERVER_ERROR", f"You've been temporarily banned: {code}: why, expires in 23h59m0s")

    assert outcome.error_class is ErrorClass.RESTRICTED
    assert outcome.restriction.scope is RestrictionScope.EVERYTHING
    assert (outcome.restriction.code, outcome.restriction.until_ms) == (code, NOW_MS + 86_340_000)


def test_every_code_of_the_table_is_explained() -> None:
    for code, (meaning, _) in CODES.items():
        assert meaning
        assert read_code({"code": code}) == code


def test_the_words_hold_no_number_and_no_password() -> None:
    """Promise P11."""
    outcome = read(400, "VALIDATION_ERROR", "phone 60123456789: hunter2 is wrong")

    assert outcome.details == "phone …6789: [secret] is wrong"
