"""The webhook address of each instance: judged by its own secret, read by its own provider, gone when it is removed."""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING

import pytest
from door import ADA, error_of
from test_web_webhooks import EMPTY, NUMBER_ID, body_of, sign, status, until

from tests.cli.stored import send
from wa_cli.domain.outcome import Accepted
from wa_cli.ports import NewInstance
from wa_cli.web import webhooks

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from door import Api

    from wa_cli.ports import Instance

SHOP_NUMBER = "5566778899"
SHOP_URL = f"https://graph.facebook.com/v25.0/{SHOP_NUMBER}/messages"
API_URL = f"https://graph.facebook.com/v25.0/{NUMBER_ID}/messages"
SHOP = "/api/webhooks/instances/shop"
SHARED = "/api/webhooks/whatsapp/status"


def add_shop(api: Api, name: str = "shop", **secrets: str) -> Instance:
    """Another number on the Cloud API, whose secrets have variables of their own."""
    named = secrets or {"key": "SHOP_TOKEN", "webhook_secret": "SHOP_SECRET", "verify_token": "SHOP_WORD"}
    new = NewInstance(
        name=name,
        transport="cloud_api",
        settings={"url": SHOP_URL},
        secrets=named,
        profile=None,
        limits={},
        connection=None,
    )
    return api.app.instances.add(new, now_ms=api.app.clock.wall_ms())


@pytest.fixture
def api(make_api: Callable[..., Api]) -> Api:
    return make_api(
        WHATSAPP_APP_SECRET="the default's",
        WHATSAPP_API_URL=API_URL,
        WHATSAPP_VERIFY_TOKEN="the default's word",
        SHOP_SECRET="the shop's,the shop's new one",
        SHOP_TOKEN="token",
        SHOP_WORD="the shop's word",
    )


def post(api: Api, path: str, body: bytes, secret: str | None) -> httpx.Response:
    headers = {} if secret is None else {"X-Hub-Signature-256": sign(body, secret)}
    return api.call("POST", path, key=None, content=body, headers=headers)


def test_an_instance_that_is_added_has_an_address_at_once_and_its_own_secret_opens_it(api: Api) -> None:
    """Issue 6, point 2; fault 71: neither opens the other's, and two are good while one is changed."""
    assert post(api, SHOP, EMPTY, "the shop's").status_code == 404
    add_shop(api)
    until(lambda: post(api, SHOP, EMPTY, None).status_code == 401)
    assert [post(api, SHOP, EMPTY, secret).status_code for secret in ("the shop's", "the shop's new one")] == [200, 200]
    assert post(api, SHOP, EMPTY, "the default's").status_code == 403
    assert post(api, SHARED, EMPTY, "the shop's").status_code == 403
    assert post(api, SHARED, EMPTY, "the default's").status_code == 200
    shop = api.app.instances.find("shop").id
    assert api.rows("SELECT instance_id, provider, is_signed FROM webhook_logs ORDER BY id") == [
        (shop, "cloud_api", 1),
        (shop, "cloud_api", 1),
        (None, "cloud_api", 1),
    ]


def test_metas_check_of_an_instances_address_wants_its_own_word(api: Api) -> None:
    """Row Q5."""
    add_shop(api)
    query = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": "the shop's word"}
    answer = api.call("GET", SHOP, key=None, params=query)
    assert (answer.status_code, answer.text) == (200, "1158201444")
    assert api.call("GET", SHOP, key=None, params=query | {"hub.verify_token": "the default's word"}).status_code == 403
    assert api.call("GET", SHARED, key=None, params=query).status_code == 403
    assert api.call("GET", "/api/webhooks/instances/nobody", key=None, params=query).status_code == 404


def test_an_address_of_nobody_is_404_and_the_log_names_it(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "wa.web"):
        answer = post(api, "/api/webhooks/instances/sohp", EMPTY, "the shop's")
    assert (answer.status_code, error_of(answer)["code"], error_of(answer)["hint"]) == (404, "no_instance", None)
    assert "no instance 'sohp'" in caplog.text
    assert api.value("SELECT count(*) FROM webhook_logs") == 0


def test_without_a_secret_only_this_machine_may_post_and_only_when_told_so(
    make_api: Callable[..., Api], caplog: pytest.LogCaptureFixture
) -> None:
    """Fault 71."""
    api = make_api()
    add_shop(api, key="SHOP_TOKEN")
    with caplog.at_level(logging.WARNING, "wa.web"):
        assert post(api, SHOP, EMPTY, "guessed").status_code == 403
    assert "the webhook_secret of instance 'shop'" in caplog.text
    assert api.value("SELECT count(*) FROM webhook_logs") == 0
    told = make_api(WA_UNSIGNED_WEBHOOKS="loopback")
    assert post(told, SHOP, EMPTY, None).status_code == 200
    forwarded = told.call("POST", SHOP, key=None, content=EMPTY, headers={"X-Forwarded-For": "127.0.0.1"})
    assert forwarded.status_code == 403


def test_a_body_is_bounded_at_every_address(api: Api) -> None:
    """Fault 73."""
    add_shop(api)
    assert post(api, SHOP, b"x" * (webhooks.WEBHOOK_BYTES + 1), "the shop's").status_code == 413


def receipt(tag: str, number_id: str) -> bytes:
    return body_of(status(tag, "delivered")).replace(NUMBER_ID.encode(), number_id.encode())


def test_a_webhook_of_an_instance_takes_effect_and_counts_as_heard_from_it(api: Api) -> None:
    """Row Q4."""
    shop = add_shop(api)
    (message_id,) = send(api.app, ADA, outcome=Accepted(provider_message_id="wamid.1", http_status=200))
    (attempt,) = api.app.messages.read_history(message_id).attempts
    assert post(api, SHOP, receipt(attempt.tag, SHOP_NUMBER), "the shop's").status_code == 200
    until(lambda: api.value("SELECT receipt FROM message") == "delivered")
    heard = dict(api.rows("SELECT id, last_webhook_at FROM instance"))
    assert heard.pop(shop.id) is not None
    assert set(heard.values()) == {None}


def test_what_came_for_an_instance_that_is_removed_is_ignored(api: Api) -> None:
    """Also what is read again later."""
    shop = add_shop(api)
    (message_id,) = send(api.app, ADA, outcome=Accepted(provider_message_id="wamid.1", http_status=200))
    (attempt,) = api.app.messages.read_history(message_id).attempts
    assert post(api, SHOP, EMPTY, "the shop's").status_code == 200
    until(lambda: api.value("SELECT status FROM webhook_logs") != "waiting")
    api.app.instances.remove(shop.id, move_to=None, now_ms=api.app.clock.wall_ms())
    with api.app.database.write() as connection:
        connection.execute("UPDATE webhook_logs SET body = ?, status = 'waiting'", (receipt(attempt.tag, SHOP_NUMBER),))
    api.app.read_webhooks(limit=9)
    assert api.rows("SELECT status, details FROM webhook_logs") == [("ignored", "1 ignored removed instance")]
    assert api.value("SELECT receipt FROM message") is None
    until(lambda: post(api, SHOP, EMPTY, "the shop's").status_code == 404, seconds=60)


def test_an_instance_whose_reader_cannot_be_made_leaves_the_others_alone(api: Api) -> None:
    add_shop(api)
    with api.app.database.write() as connection:
        connection.execute("INSERT INTO instance (name, transport, created_at) VALUES ('strange', 'carrier_pigeon', 0)")
    assert post(api, SHOP, EMPTY, "the shop's").status_code == 200
    assert post(api, "/api/webhooks/instances/strange", EMPTY, "the shop's").status_code == 404


def test_news_of_a_business_account_stops_its_own_numbers_alone(make_api: Callable[..., Api]) -> None:
    """Faults 62, 63: the right scope."""
    api = make_api(WHATSAPP_APP_SECRET="the default's", WHATSAPP_API_URL=API_URL, WHATSAPP_BUSINESS_ACCOUNT_ID="100")
    shop = add_shop(api)
    with api.app.database.write() as connection:
        connection.execute(
            "UPDATE instance SET settings = ? WHERE id = ?",
            (json.dumps({"url": SHOP_URL, "business_account_id": "200"}), shop.id),
        )
    change = {"field": "account_update", "value": {"event": "ACCOUNT_DELETED"}}
    entry = {"id": "200", "time": int(time.time()), "changes": [change]}
    body = json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()
    assert post(api, SHARED, body, "the default's").status_code == 200
    until(lambda: api.value("SELECT status FROM webhook_logs") != "waiting")
    assert api.rows("SELECT name FROM instance WHERE paused_at IS NOT NULL") == [("shop",)]
