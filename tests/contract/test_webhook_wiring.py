"""The settings behind the reading of webhooks."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

import pytest

from wa_cli.bootstrap import open_app
from wa_cli.config import load_settings

if TYPE_CHECKING:
    from pathlib import Path

BODY = b"{}"


def sign(secret: str) -> str:
    return "sha256=" + hmac.new(secret.encode(), BODY, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("setting", "good", "bad"),
    [
        ("one", ["one"], ["two", ""]),
        ("one,two", ["one", "two"], ["one,two", ""]),
        (" one , two,, ", ["one", "two"], ["", " one "]),
        ("", [], ["", ","]),
        (",", [], ["", ","]),
    ],
)
def test_the_app_secret_is_one_or_the_old_and_the_new_one(
    tmp_path: Path, setting: str, good: list[str], bad: list[str]
) -> None:
    """Fault 71."""
    environment = {"WHATSAPP_APP_SECRET": setting, "WA_DB": str(tmp_path / "wa.db")}
    app = open_app(load_settings(environment), create=True)
    reader = app.webhook_reader(app.find_instance())
    app.close()
    assert [reader.is_genuine(BODY, sign(secret)) for secret in good] == [True] * len(good)
    assert [reader.is_genuine(BODY, sign(secret)) for secret in bad] == [False] * len(bad)


def test_the_verify_token_is_a_setting(tmp_path: Path) -> None:
    environment = {"WHATSAPP_VERIFY_TOKEN": "let me in", "WA_DB": str(tmp_path / "wa.db")}
    app = open_app(load_settings(environment), create=True)
    reader = app.webhook_reader(app.find_instance())
    app.close()
    query = {"hub.mode": "subscribe", "hub.challenge": "11", "hub.verify_token": "let me in"}
    assert reader.answer_challenge(query) == "11"
    assert reader.answer_challenge(query | {"hub.verify_token": "no"}) is None
