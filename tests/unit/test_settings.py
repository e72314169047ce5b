"""Settings: flag over environment over `.env` over default, each with its origin, and a wrong one named."""

from __future__ import annotations

from pathlib import Path

import pytest

from wa_cli.bootstrap import limits_of
from wa_cli.config import BY_NAME, LIMIT_SETTINGS, SETTINGS, load_settings
from wa_cli.domain.pacing import PROFILES, Limits
from wa_cli.errors import UsageError


def env_file(folder: Path, text: str) -> Path:
    path = folder / "test.env"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_flag_wins_over_the_environment_that_over_the_file_that_over_the_default(tmp_path: Path) -> None:
    file = env_file(tmp_path, "RATE_LIMIT_MS=3000\nWA_RETRY=exponential\nWA_PROFILE=gateway\n")
    settings = load_settings(
        {"RATE_LIMIT_MS": "4000", "WA_RETRY": "ladder"}, env_file=file, flags={"RATE_LIMIT_MS": "5000"}
    )
    assert [
        (settings.text(name), settings.origins[name].source)
        for name in ("RATE_LIMIT_MS", "WA_RETRY", "WA_PROFILE", "WA_KEY_DAYS")
    ] == [("5000", "flag"), ("ladder", "environment"), ("gateway", str(file)), ("7", "default")]


def test_an_empty_value_is_as_good_as_none(tmp_path: Path) -> None:
    file = env_file(tmp_path, "RATE_LIMIT_MS=3000\nWA_KEY_DAYS=\n")
    settings = load_settings({"RATE_LIMIT_MS": ""}, env_file=file)
    assert settings.text("RATE_LIMIT_MS") == "3000"
    assert settings.text("WA_KEY_DAYS") == "7"


def test_every_name_of_the_source_systems_is_known() -> None:
    """Rows T1, T6, S2, S5, H1, H3, H8, H11, Q5, Q8."""
    names = {
        "RATE_LIMIT_MS",
        "RETRY_INTERVAL_MS",
        "MAX_SENDS_PER_MINUTE_PER_INSTANCE",
        "MAX_SENDS_PER_HOUR_PER_INSTANCE",
        "MAX_QUEUE_SIZE",
        "RETRY_BASE_BACKOFF_MS",
        "RETRY_MAX_BACKOFF_MS",
        "MAX_RESTARTS_PER_WINDOW",
        "RESTART_WINDOW_MINUTES",
        "SOFT_RESTART_TIMEOUT_MS",
        "HARD_RESTART_TIMEOUT_MS",
        "WHATSAPP_API_URL",
        "WHATSAPP_ACCESS_TOKEN",
        "WHATSAPP_APP_SECRET",
        "WHATSAPP_VERIFY_TOKEN",
        "WORKER_SECRET",
    }
    assert names <= BY_NAME.keys()


def test_every_default_fits_its_own_setting() -> None:
    settings = load_settings({})
    for setting in SETTINGS:
        assert settings.text(setting.name) == setting.default
        if setting.kind in ("count", "ms", "minutes") and setting.default:
            assert settings.count(setting.name) >= 0


def test_the_defaults_are_the_documented_ones() -> None:
    """Rows T4, T5, H5, H8."""
    settings = load_settings({})
    assert {
        name: settings.text(name)
        for name in (
            "WA_DUPLICATE_WINDOW_HOURS",
            "WA_KEY_DAYS",
            "WA_RETRY",
            "WA_MAX_ATTEMPTS",
            "MAX_QUEUE_SIZE",
            "RETRY_BASE_BACKOFF_MS",
            "RETRY_MAX_BACKOFF_MS",
            "RETRY_INTERVAL_MS",
        )
    } == {
        "WA_DUPLICATE_WINDOW_HOURS": "24",
        "WA_KEY_DAYS": "7",
        "WA_RETRY": "ladder",
        "WA_MAX_ATTEMPTS": "5",
        "MAX_QUEUE_SIZE": "0",
        "RETRY_BASE_BACKOFF_MS": "5000",
        "RETRY_MAX_BACKOFF_MS": "120000",
        "RETRY_INTERVAL_MS": "120000",
    }


@pytest.mark.parametrize("name", sorted(LIMIT_SETTINGS))
def test_each_limit_setting_sets_its_limit_and_zero_lifts_it(name: str) -> None:
    """Rows T1, S2, H1, H2."""
    field = LIMIT_SETTINGS[name]
    assert getattr(limits_of(load_settings({name: "17"})), field) == 17
    assert getattr(limits_of(load_settings({name: "0", "WA_PROFILE": "gateway"})), field) == 0


def test_every_limit_can_be_set() -> None:
    assert set(LIMIT_SETTINGS.values()) == {name for name in Limits.__slots__ if not name.startswith("_")}


def test_a_profile_is_taken_as_a_whole_where_nothing_is_set() -> None:
    assert limits_of(load_settings({})) == PROFILES["cloud"]
    assert limits_of(load_settings({"WA_PROFILE": "gateway"})) == PROFILES["gateway"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RATE_LIMIT_MS", "-1"),
        ("RATE_LIMIT_MS", "2s"),
        ("RATE_LIMIT_MS", "1e3"),
        ("RATE_LIMIT_MS", "1.5"),
        ("RATE_LIMIT_MS", "٢٠"),
        ("MAX_QUEUE_SIZE", "9" * 30),
        ("MAX_QUEUE_SIZE", "unlimited"),
        ("WA_RETRY", "sometimes"),
        ("WA_PROFILE", "Cloud"),
        ("WA_DEFAULT_REGION", "SGP"),
        ("WA_DEFAULT_REGION", "65"),
        ("WHATSAPP_API_URL", "graph.facebook.com/v25.0/1/messages"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_would(name: str, value: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_settings({name: value})
    assert name in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("2_000", 2_000), (" 15 ", 15), ("007", 7)])
def test_whole_numbers_are_read_as_people_write_them(text: str, value: int) -> None:
    assert load_settings({"RATE_LIMIT_MS": text}).count("RATE_LIMIT_MS") == value


def test_a_wrong_secret_is_not_repeated_in_the_error() -> None:
    """Promise P11."""
    with pytest.raises(UsageError) as caught:
        load_settings({"WHATSAPP_API_URL": "EAAGsecret-token-pasted-here"})
    assert "secret" not in caught.value.message + str(caught.value.hint)


def test_a_named_env_file_must_exist_and_an_unnamed_one_need_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings({}).env_file is None
    with pytest.raises(UsageError) as caught:
        load_settings({}, env_file=tmp_path / "missing.env")
    assert "missing.env" in caught.value.message
    (tmp_path / ".env").write_text("WA_RETRY=exponential\n")
    settings = load_settings({})
    assert (settings.text("WA_RETRY"), settings.origins["WA_RETRY"].source) == ("exponential", str(tmp_path / ".env"))


def test_a_file_that_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "test.env"
    path.write_bytes(b"\xff\xfeW\x00A\x00")
    with pytest.raises(UsageError) as caught:
        load_settings({}, env_file=path)
    assert str(path) in caught.value.message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('WHATSAPP_ACCESS_TOKEN="EAAG$HOME#1"', "EAAG$HOME#1"),
        ("WHATSAPP_ACCESS_TOKEN=EAAG${X}", "EAAG${X}"),
        ("export WHATSAPP_ACCESS_TOKEN='a b'", "a b"),
        ("\ufeffWHATSAPP_ACCESS_TOKEN=abc", "abc"),
        ("WHATSAPP_ACCESS_TOKEN=abc\r\n", "abc"),
    ],
)
def test_a_token_is_read_from_the_file_as_it_was_meant(tmp_path: Path, text: str, value: str) -> None:
    """Nothing in it is replaced: a dollar sign is a dollar sign."""
    assert load_settings({}, env_file=env_file(tmp_path, text)).text("WHATSAPP_ACCESS_TOKEN") == value


def test_names_that_look_like_ours_and_are_not_are_kept_for_the_report(tmp_path: Path) -> None:
    file = env_file(tmp_path, "WA_RETRYY=ladder\nMAX_QUEUE=5\nPATH=/bin\nWA_RETRY=ladder\n")
    assert load_settings({}, env_file=file).unknown == ("WA_RETRYY", "MAX_QUEUE")


def test_the_database_is_where_it_was_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings({"WA_DB": "here.db"}).database_path() == tmp_path / "here.db"
    assert load_settings({"WA_DB": str(tmp_path / "x.db")}, flags={"WA_DB": "/y.db"}).database_path() == Path("/y.db")
    assert load_settings({"WA_DB": "~/x.db"}).database_path() == Path.home() / "x.db"
    assert load_settings({}).database_path().name == "wa.db"


def test_a_region_is_read_in_any_case_and_none_is_none() -> None:
    assert load_settings({"WA_DEFAULT_REGION": "sg"}).default_region() == "SG"
    assert load_settings({}).default_region() is None


def test_a_zone_that_does_not_exist_is_named() -> None:
    assert load_settings({"WA_TIMEZONE": "Asia/Singapore"}).zone().key == "Asia/Singapore"
    for wrong in ("Mars/Olympus", "../etc/passwd", "/etc/localtime"):
        with pytest.raises(UsageError) as caught:
            load_settings({"WA_TIMEZONE": wrong}).zone()
        assert "WA_TIMEZONE" in caught.value.message


def test_all_wrong_values_can_be_collected_in_one_reading() -> None:
    problems: list[UsageError] = []
    settings = load_settings({"WA_RETRY": "x", "RATE_LIMIT_MS": "y", "WA_KEY_DAYS": "3"}, problems=problems)
    assert [problem.exit_code for problem in problems] == [2, 2]
    assert (settings.text("WA_RETRY"), settings.text("WA_KEY_DAYS")) == ("ladder", "3")
