"""`wa webhook subscribe`: a gateway posts to `wa serve` from then on, under the instance's own path."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

import pytest

from wa_cli.cli.webhook_subscribe import find_address
from wa_cli.errors import UsageError
from wa_cli.sandbox import SandboxSettings, serve_in_thread

if TYPE_CHECKING:
    from conftest import Wa

    from wa_cli.bootstrap import App

SECRET = "canary-hmac-0123456789abcdef"


def test_the_gateway_is_told_once_and_signs_with_the_instances_secret(
    wa: Wa, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 6, point 2; promise P11: nothing shows the secret."""
    monkeypatch.setenv("CLUB_SECRET", SECRET)
    with serve_in_thread(SandboxSettings()) as sandbox:
        order = json.dumps({"name": "shop", "paired": True, "start": True}).encode()
        with urlopen(Request(f"{sandbox.url}/sandbox/devices", data=order)) as answer:
            assert answer.status == 200
        added = wa(
            "instance", "add", "club", "--transport", "waha", "--url", sandbox.url,
            "--session", "shop", "--webhook-secret-from", "CLUB_SECRET",
        )  # fmt: skip
        assert added.exit == 0, added.err
        told = [wa("webhook", "subscribe", "club", "http://127.0.0.1:8080", "--json") for _ in range(2)]
        device = sandbox.devices.find("shop")
    address = "http://127.0.0.1:8080/api/webhooks/instances/club"
    for one in told:
        assert one.exit == 0, one.err
        assert one.json() == {"instance": "club", "url": address}
        assert SECRET not in one.out + one.err
    assert device is not None
    (hook,) = device.config["waha"]["webhooks"]
    assert (hook["url"], hook["hmac"]) == (address, {"key": SECRET})
    assert device.restarts == 1


def test_without_a_secret_nothing_is_asked_for(wa: Wa, app: App) -> None:
    """What is not signed would not be believed."""
    with serve_in_thread(SandboxSettings()) as sandbox:
        wa("instance", "add", "club", "--transport", "waha", "--url", sandbox.url)
        refused = wa("webhook", "subscribe", "club", "http://127.0.0.1:8080", "--json")
    assert refused.exit == 2
    assert refused.error()["code"] == "webhook_secret"


def test_a_number_on_the_cloud_api_has_no_gateway_to_tell(wa: Wa, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHATSAPP_API_URL", "http://127.0.0.1:9/v25.0/1/messages")
    monkeypatch.setenv("WHATSAPP_ACCESS_TOKEN", "token")
    refused = wa("webhook", "subscribe", "default", "http://127.0.0.1:8080", "--json")
    assert (refused.exit, refused.error()["code"]) == (2, "no_gateway")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://wa.example.org/", "https://wa.example.org/api/webhooks/instances/club"),
        ("http://127.0.0.1:8080/hooks/club", "http://127.0.0.1:8080/hooks/club"),
        ("http://[::1]:8080", "http://[::1]:8080/api/webhooks/instances/club"),
    ],
)
def test_the_path_of_the_instance_is_added_where_there_is_none(url: str, address: str) -> None:
    assert find_address(url, "club") == address


@pytest.mark.parametrize(
    "url", ["", "wa.example.org", "ftp://a", "http://a:b@c", "http://a?b", "http://a:x", "http:// a"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        find_address(url, "club")
