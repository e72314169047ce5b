"""Reading WHATSAPP_API_URL and the token: what cannot be meant is refused with what to type instead."""

from __future__ import annotations

import subprocess
import sys
from datetime import date

import pytest

from wa_cli.errors import UsageError
from wa_cli.transports.cloud_api.account import ApiUrl, Verdict, check_token, parse_api_url, read_account
from wa_cli.transports.posting import find_environment_proxy, is_loopback

ID = "106540352242922"


@pytest.mark.parametrize(
    ("url", "base", "version"),
    [
        (f"https://graph.facebook.com/v18.0/{ID}/messages", "https://graph.facebook.com", "v18.0"),
        (f"  https://graph.facebook.com/v25.0/{ID}/messages/ \n", "https://graph.facebook.com", "v25.0"),
        (f"https://graph.facebook.com/{ID}/messages", "https://graph.facebook.com", None),
        (f"http://127.0.0.1:9000/v25.0/{ID}/messages", "http://127.0.0.1:9000", "v25.0"),
        (f"http://localhost:9000/v25.0/{ID}/messages", "http://localhost:9000", "v25.0"),
        (f"http://[::1]:9000/v25.0/{ID}/messages", "http://[::1]:9000", "v25.0"),
        (f"https://proxy.example.org/meta/v25.0/{ID}/messages", "https://proxy.example.org/meta", "v25.0"),
        (f"https://proxy.example.org/vendor/{ID}/messages", "https://proxy.example.org/vendor", None),
    ],
)
def test_the_url_of_the_source_systems_is_understood(url: str, base: str, version: str | None) -> None:
    """The setting keeps its name and its shape: the whole messages URL."""
    api = parse_api_url(url)
    assert api == ApiUrl(base=base, version=version, phone_number_id=ID)
    assert parse_api_url(api.messages_url) == api
    assert api.messages_url == f"{api.number_url}/messages"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "is empty"),
        ("graph.facebook.com/v25.0/1/messages", "not an http or https URL"),
        (f"ftp://graph.facebook.com/v25.0/{ID}/messages", "not an http or https URL"),
        ("https:///v25.0/1/messages", "not an http or https URL"),
        ("https://graph.facebook.com/v25.0/1 2/messages", "not an http or https URL"),
        ("https://[::1/v25.0/1/messages", "not a URL"),
        ("https://graph.facebook.com:99999/v25.0/1/messages", "not a URL"),
        ("https://graph.facebook.com/v18.0/PHONE_NUMBER_ID/messages", "placeholder PHONE_NUMBER_ID"),
        ("https://graph.facebook.com/v18.0/YOUR_PHONE_NUMBER_ID/messages", "placeholder YOUR_PHONE_NUMBER_ID"),
        ("https://graph.facebook.com/v25.0/<phone-number-id>/messages", "placeholder"),
        ("https://graph.facebook.com/v25.0/messages", "no phone number id"),
        ("https://graph.facebook.com/messages", "no phone number id"),
        ("https://graph.facebook.com/", "no phone number id"),
        ("https://graph.facebook.com/v25.0/+6581234567/messages", "no phone number id"),
        (f"https://graph.facebook.com/v25/{ID}/messages", "'v25' is not a Graph version"),
        (f"https://graph.facebook.com/v25.0/{ID}", "does not end with /messages"),
        (f"https://graph.facebook.com/v25.0/{ID}/messages?access_token=x", "must end with /messages"),
        (f"https://me:pw@graph.facebook.com/v25.0/{ID}/messages", "a user or a password"),
        (f"http://graph.facebook.com/v25.0/{ID}/messages", "in clear text"),
        (f"http://192.168.1.4/v25.0/{ID}/messages", "in clear text"),
        (f"http://localhost.example.org/v25.0/{ID}/messages", "in clear text"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused_with_what_to_write(url: str, words: str) -> None:
    """Promise P11 for http: the token never travels in clear text."""
    with pytest.raises(UsageError) as caught:
        parse_api_url(url)
    assert words in caught.value.message
    assert caught.value.hint
    assert "pw" not in caught.value.message
    assert caught.value.exit_code == 2


def test_a_missing_ending_is_completed_in_the_hint() -> None:
    with pytest.raises(UsageError) as caught:
        parse_api_url(f"https://graph.facebook.com/v25.0/{ID}/")
    assert caught.value.hint == f"write https://graph.facebook.com/v25.0/{ID}/messages"


@pytest.mark.parametrize(
    ("version", "today", "has_note"),
    [
        ("v18.0", date(2026, 11, 21), True),
        ("v20.0", date(2026, 11, 21), True),
        ("v21.0", date(2026, 11, 21), False),
        ("v21.0", date(2027, 1, 22), True),
        ("v25.0", date(2026, 11, 21), False),
        ("v99.0", date(2030, 1, 1), False),
        (None, date(2026, 11, 21), False),
    ],
)
def test_an_ended_version_is_a_note_and_no_error(version: str | None, today: date, has_note: bool) -> None:
    api = ApiUrl(base="https://graph.facebook.com", version=version, phone_number_id=ID)
    assert (api.find_version_note(today) is not None) == has_note


@pytest.mark.parametrize("token", ["", "  ", "two words", "line\nbreak", "tök", "YOUR_ACCESS_TOKEN", "\x1b[31m"])
def test_what_cannot_be_a_token_is_refused_and_never_shown(token: str) -> None:
    """Promise P11."""
    with pytest.raises(UsageError) as caught:
        check_token(token)
    assert caught.value.hint
    if token.strip():
        assert token not in str(caught.value)


def test_a_token_is_taken_without_blanks_around_it() -> None:
    assert check_token(" EAAtoken\n") == "EAAtoken"


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"<html>", b"{}", b'{"error":{}}', b'{"error":{"code":true}}', b"[" * 99_999]
)
def test_an_answer_that_is_not_metas_is_unreadable(body: bytes) -> None:
    assert read_account(200, {}, body, secret="t").verdict is Verdict.UNREADABLE


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("example.org", False),
        ("127.0.0.1.example.org", False),
        ("", False),
    ],
)
def test_only_this_machine_is_loopback(host: str, answer: bool) -> None:
    assert is_loopback(host) == answer


@pytest.mark.parametrize(
    ("url", "settings", "proxy"),
    [
        ("https://graph.facebook.com/x", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://graph.facebook.com/x", {"https_proxy": "p:1"}, "http://p:1"),
        ("https://graph.facebook.com/x", {"HTTP_PROXY": "http://p:1"}, None),
        ("https://graph.facebook.com/x", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "facebook.com"}, None),
        ("https://graph.facebook.com/x", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ("https://graph.facebook.com/x", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "other.org"}, "http://p:1"),
        ("http://127.0.0.1:9/x", {"HTTP_PROXY": "http://p:1"}, None),
        ("https://graph.facebook.com/x", {}, None),
    ],
)
def test_the_proxy_is_the_one_the_environment_names(
    url: str, settings: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert find_environment_proxy(url) == proxy


def test_importing_the_transport_loads_no_http_library() -> None:
    code = (
        "import sys; import wa_cli.transports.cloud_api.transport, wa_cli.transports.cloud_api.rules; "
        "sys.exit(bool({'aiohttp', 'httpx', 'asyncio', 'ssl', 'urllib.request'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
