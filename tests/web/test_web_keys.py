"""Who may use the HTTP API: keys, their scopes, and what is stored of them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from door import ADA, error_of

from wa_cli.domain.explanation import explain_origin
from wa_cli.errors import Conflict, UsageError
from wa_cli.services.api_keys import make_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from door import Api

ROUTES = [
    ("GET", "/api/queue/status", "read"),
    ("POST", "/api/subgroups/vip/send", "send"),
]


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
def test_a_call_without_a_good_key_is_401_and_one_without_the_scope_403(
    api: Api, method: str, path: str, scope: str
) -> None:
    """Row Q9: a real credential is required; x-user-id is none."""
    for headers in ({}, {"Authorization": "Basic abc"}, {"Authorization": "Bearer"}, {"x-user-id": "admin"}):
        answer = api.call(method, path, key=None, headers=headers)
        assert (answer.status_code, error_of(answer)["code"]) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    for wrong in ("wak_nobodys", "x" * 5000, "wak_" + "a" * 43):
        answer = api.call(method, path, key=wrong)
        assert (answer.status_code, error_of(answer)["code"]) == (401, "unauthorized")
    other = {"read": "send", "send": "read", "worker": "read"}[scope]
    answer = api.call(method, path, key=api.key("other", other))
    assert (answer.status_code, error_of(answer)["code"]) == (403, "forbidden")
    assert f"--scope {scope}" in error_of(answer)["hint"]
    answer = api.call(method, path, key=api.key("mine", scope))
    assert answer.status_code not in (401, 403)


def test_a_key_is_looked_at_before_the_body_is_read(api: Api) -> None:
    """Fault 73: nobody without a key makes the server parse ten megabytes."""
    answer = api.call("POST", "/api/subgroups/vip/send", key=None, content=b"{" * 100)
    assert answer.status_code == 401


def test_only_the_digest_of_a_key_is_stored(api: Api) -> None:
    """Fault 84; promise P11."""
    key = api.key("shop")
    assert key.startswith("wak_")
    assert len(key) >= 47  # 256 random bits
    ((name, digest, scopes),) = api.rows("SELECT name, digest, scopes FROM api_key")
    assert (name, scopes) == ("shop", "read send worker")
    assert digest == hashlib.sha256(key.encode()).digest()
    assert key.encode() not in api.app.database.path.read_bytes()


def test_a_key_that_was_taken_back_opens_nothing_and_its_name_is_free_again(api: Api) -> None:
    first = api.key("shop")
    assert api.get("/api/queue/status").status_code == 200
    api.app.api_keys.revoke("shop", now_ms=1)
    assert api.get("/api/queue/status").status_code == 401
    second, _stored = make_key(api.app.api_keys, "shop", (), now_ms=2)
    assert second != first
    assert api.get("/api/queue/status", key=second).status_code == 200


def test_the_last_use_is_remembered_once_a_minute(api: Api) -> None:
    assert api.get("/api/queue/status").status_code == 200
    used = api.value("SELECT last_used_at FROM api_key")
    assert used is not None
    assert api.get("/api/queue/status").status_code == 200
    assert api.value("SELECT last_used_at FROM api_key") == used


def test_two_keys_cannot_share_a_name_and_an_unknown_scope_is_named(api: Api) -> None:
    api.key("shop")
    with pytest.raises(Conflict, match="a key named 'shop' already"):
        make_key(api.app.api_keys, "shop", (), now_ms=1)
    with pytest.raises(UsageError, match="no scope 'admin'"):
        make_key(api.app.api_keys, "other", ("admin",), now_ms=1)
    with pytest.raises(UsageError, match="name of a key"):
        make_key(api.app.api_keys, "two words", (), now_ms=1)


def test_whoever_asks_is_recorded_and_never_trusted(make_api: Callable[..., Api]) -> None:
    """Row Q9."""
    api = make_api()
    api.subgroup("vip", ADA)
    answer = api.post("/api/subgroups/vip/send", {"body": "hello"}, headers={"x-user-id": "user-7"})
    assert answer.status_code == 202
    history = api.app.messages.read_history(int(answer.json()["messages"][0]["id"][1:]))
    assert history.origin.actor == "key shop for 'user-7'"
    shown = explain_origin(history.origin, subgroup="vip", campaign=None)
    assert "asked for by key shop for 'user-7'" in shown  # as `wa message explain` says it
    refused = api.post("/api/subgroups/vip/send", {"body": "hi"}, headers={"x-user-id": "a" * 300})
    assert (refused.status_code, error_of(refused)["code"]) == (422, "invalid")
