"""Errors in one shape, and bounds on everything that comes from outside."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from door import ADA, error_of

from wa_cli.errors import Conflict, NotFound, Refused, StorageFull, Temporary, UsageError, WaError
from wa_cli.web import reading
from wa_cli.web.errors import status_of
from wa_cli.web.listening import open_socket

if TYPE_CHECKING:
    from door import Api

SEND = "/api/subgroups/vip/send"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("no"), 400),
        (NotFound("no"), 404),
        (Conflict("no"), 409),
        (Conflict("no", code="key_conflict"), 422),
        (Refused("no"), 422),
        (Refused("no", code="queue_full"), 429),
        (Temporary("no"), 503),
        (Temporary("no", code="key_busy"), 409),
        (StorageFull("no"), 503),
        (WaError("no"), 500),
    ],
)
def test_the_status_follows_the_family_of_the_error(error: WaError, status: int) -> None:
    assert status_of(error) == status


def test_an_unknown_address_and_a_wrong_method_have_the_shape_of_every_error(api: Api) -> None:
    assert error_of(api.get("/nothing/here"))["code"] == "not_found"
    wrong = api.call("DELETE", "/api/queue/status")
    assert (wrong.status_code, error_of(wrong)["code"], wrong.headers["Allow"]) == (405, "method", "GET")
    query = api.get(f"/api/queue/status?campaignId={'x' * 300}")
    assert (query.status_code, error_of(query)["code"]) == (422, "invalid")
    assert "campaignId" in error_of(query)["message"]


def test_the_socket_says_that_it_is_tcp() -> None:
    """asyncio sends small answers at once on such sockets alone, and 40 ms later on others."""
    with open_socket("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_a_question_that_an_address_does_not_know_is_refused(api: Api) -> None:
    """Row 87: a misspelt filter must not look like an answer to it."""
    answer = api.get("/api/queue/status?campaignid=1")
    assert (answer.status_code, error_of(answer)["code"]) == (422, "invalid")
    assert error_of(answer)["hint"] == "did you mean campaignId?"
    worker = api.post("/api/queue/worker?force=1")
    assert (worker.status_code, error_of(worker)["code"]) == (422, "invalid")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "json"),
        (b"{", 400, "json"),
        (b"\xff\xfe{}", 400, "json"),
        (b'{"body": "caf\xe9"}', 400, "json"),
        (b'{"body": "\\ud800"}', 400, "json"),
        (b'{"\\udfff": "a"}', 400, "json"),
        (b'{"body": NaN}', 400, "json"),
        (b'{"max_attempts": ' + b"9" * 5000 + b"}", 400, "json"),
        (b'{"max_attempts": 1e400}', 422, "invalid"),
        (b"[" * 40 + b"]" * 40, 400, "too_deep"),
        (b"[" * 100_000 + b"]" * 100_000, 400, "too_deep"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, 400, "too_deep"),
    ],
)
def test_a_body_that_is_no_plain_json_is_refused(api: Api, body: bytes, status: int, code: str) -> None:
    """Fault 73: depth 10,000 and more."""
    api.subgroup("vip", ADA)
    answer = api.post(SEND, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, error_of(answer)["code"]) == (status, code)


def test_a_body_of_another_kind_is_415(api: Api) -> None:
    for kind in ("application/x-www-form-urlencoded", "text/plain", ""):
        answer = api.post(SEND, content=b'{"body": "a"}', headers={"Content-Type": kind})
        assert (answer.status_code, error_of(answer)["code"]) == (415, "media_type")
    good = api.post(SEND, content=b"{}", headers={"Content-Type": "Application/JSON; charset=utf-8"})
    assert good.status_code == 404


def test_a_body_over_the_cap_is_refused_before_it_is_read(api: Api) -> None:
    """Fault 73: announced, and in chunks that announce nothing."""
    head = f"POST {SEND} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.key()}\r\nContent-Type: application/json\r\n"
    with socket.create_connection(api.server.address, timeout=60) as connection:
        connection.sendall(f"{head}Content-Length: 50000000\r\n\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")
    answer = api.post(SEND, content=iter([b"x" * 1_000_000] * 11), headers={"Content-Type": "application/json"})
    assert (answer.status_code, error_of(answer)["code"]) == (413, "too_large")


def test_a_body_that_does_not_come_is_408(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 73: a slow body holds nobody up."""
    monkeypatch.setattr(reading, "BODY_SECONDS", 0.2)
    head = f"POST {SEND} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.key()}\r\nContent-Type: application/json\r\n"
    with socket.create_connection(api.server.address, timeout=60) as connection:
        connection.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 408")


def test_an_error_nobody_expected_is_500_in_the_same_shape_and_tells_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault 84: what went wrong stands in the log alone."""

    def fail(*_given: object, **_named: object) -> None:
        raise RuntimeError("the secret is swordfish")

    monkeypatch.setattr("wa_cli.web.queue.read_status", fail)
    answer = api.get("/api/queue/status")
    assert (answer.status_code, error_of(answer)["code"]) == (500, "bug")
    assert "swordfish" not in answer.text
    assert api.get("/nothing").status_code == 404  # the server goes on
