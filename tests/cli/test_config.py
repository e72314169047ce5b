"""`wa config` and `.env.example`: every setting, its value, its source, and no secret."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from wa_cli.config import BY_NAME, SETTINGS, load_settings
from wa_cli.services.upkeep import mask_secret

if TYPE_CHECKING:
    from conftest import Wa

    from wa_cli.errors import UsageError

EXAMPLE = Path(__file__).parents[2] / ".env.example"
TOKEN = "EAAcanaryTOKENcanary0123456789"


def shown(wa: Wa) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in wa("config", "show", "--json").json()["settings"]}


def test_every_setting_is_shown_with_its_source(wa: Wa, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file = wa.write(".env", "WA_RETRY=exponential\nWA_MAX_ATTEMPTS=9\n")
    monkeypatch.setenv("WA_MAX_ATTEMPTS", "7")
    settings = shown(wa)
    assert list(settings) == [setting.name for setting in SETTINGS]
    assert (settings["WA_DB"]["value"], settings["WA_DB"]["source"]) == (str(wa.db), "flag")
    assert (settings["WA_MAX_ATTEMPTS"]["value"], settings["WA_MAX_ATTEMPTS"]["source"]) == ("7", "environment")
    assert (settings["WA_RETRY"]["value"], settings["WA_RETRY"]["source"]) == ("exponential", str(env_file))
    assert (settings["WA_KEY_DAYS"]["value"], settings["WA_KEY_DAYS"]["source"]) == ("7", "default")
    lines = dict(line.split("\t", 1) for line in wa("config", "show", "--origin").out.splitlines())
    assert lines["WA_MAX_ATTEMPTS"] == "7\tenvironment"
    assert dict(line.split("\t") for line in wa("config", "show").out.splitlines())["WA_RETRY"] == "exponential"


def test_a_limit_that_is_not_set_shows_what_its_profile_says(wa: Wa, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WA_PROFILE", "gateway")
    monkeypatch.setenv("MAX_SENDS_PER_HOUR_PER_INSTANCE", "0")
    settings = shown(wa)
    minute, hour = settings["MAX_SENDS_PER_MINUTE_PER_INSTANCE"], settings["MAX_SENDS_PER_HOUR_PER_INSTANCE"]
    assert (minute["value"], minute["source"]) == ("6", "profile gateway")
    assert (hour["value"], hour["source"]) == ("0", "environment")


@pytest.mark.parametrize("secret", [TOKEN, "sesame", "exactly16letters"], ids=["long", "brief", "middling"])
def test_secrets_are_masked(wa: Wa, monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    """Promise P11."""
    for setting in SETTINGS:
        if setting.is_secret:
            monkeypatch.setenv(setting.name, secret)
    monkeypatch.setenv("WHATSAPP_API_URL", f"https://user:{secret}@example.com/1/messages?access_token={secret}")
    for flags in ((), ("--origin",), ("--json",)):
        result = wa("config", "show", *flags)
        assert secret not in result.out + result.err
        assert "••••" in result.out
        assert "example.com/1/messages" in result.out


def test_only_a_long_secret_shows_its_end() -> None:
    """Promise P11."""
    assert mask_secret(TOKEN) == "••••6789"
    assert (mask_secret("sesame"), mask_secret("")) == ("••••", "")


def test_an_unknown_name_in_the_file_is_pointed_out(wa: Wa) -> None:
    """Fault 87."""
    wa.write(".env", "WA_TIMEZON=UTC\n")
    result = wa("config", "show", "--json")
    assert result.json()["unknown"] == ["WA_TIMEZON"]
    assert "did you mean WA_TIMEZONE?" in result.err


def test_a_wrong_value_is_named(wa: Wa) -> None:
    """Fault 87."""
    wa.write(".env", "WA_MAX_ATTEMPTS=many\n")
    result = wa("config", "show")
    assert result.exit == 2
    assert "WA_MAX_ATTEMPTS is 'many'" in result.err


def test_several_wrong_values_can_be_collected_and_their_defaults_stand_in() -> None:
    problems: list[UsageError] = []
    settings = load_settings({"WA_MAX_ATTEMPTS": "many", "WA_RETRY": "never", "WA_KEY_DAYS": "3"}, problems=problems)
    assert [problem.message.split()[0] for problem in problems] == ["WA_RETRY", "WA_MAX_ATTEMPTS"]
    assert (settings.text("WA_RETRY"), settings.count("WA_KEY_DAYS")) == ("ladder", 3)


def test_the_example_holds_every_setting_once_at_its_default() -> None:
    """`.env.example` and the settings cannot drift apart."""
    found = re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=(.*)$", EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(name for name, _value in found) == sorted(BY_NAME)
    assert {name: value for name, value in found if value != BY_NAME[name].default} == {}


def test_the_example_can_be_used_as_it_is(wa: Wa) -> None:
    settings = load_settings({}, env_file=EXAMPLE)
    assert settings.unknown == ()
    assert {origin.source for origin in settings.origins.values()} == {"default"}
