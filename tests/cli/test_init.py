"""`wa init`: the database and the `.env`, made once and changed with care."""

from __future__ import annotations

import io
import os
import pty
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from dotenv import dotenv_values

from wa_cli.services.upkeep import edit_env

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Wa

URL = "https://graph.facebook.com/v25.0/106540352242922/messages"
TOKEN = "EAAcanaryTOKENcanary0123456789"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def stored(wa: Wa) -> dict[str, str | None]:
    return dict(dotenv_values(wa.folder / ".env", interpolate=False))


def test_init_makes_a_private_database_and_a_private_env_whatever_the_umask(wa: Wa) -> None:
    """Fault 85."""
    before = os.umask(0)
    try:
        result = wa("init", "--json")
    finally:
        os.umask(before)
    assert result.exit == 0
    document = result.json()
    assert (document["database"], document["created"]) == (str(wa.db), True)
    assert (document["env_file"], document["env_file_created"]) == (str(wa.folder / ".env"), True)
    assert mode(wa.db) == mode(wa.folder / ".env") == 0o600
    assert [path.name for path in wa.folder.glob("*.new")] == []


def test_a_second_init_changes_nothing(wa: Wa) -> None:
    wa("init", "--region", "sg")
    before = (wa.folder / ".env").read_bytes()
    document = wa("init", "--region", "SG", "--json").json()
    assert (document["created"], document["changed"], document["kept"]) == (False, [], ["WA_DEFAULT_REGION", "WA_DB"])
    assert (wa.folder / ".env").read_bytes() == before


def test_the_database_named_on_the_call_is_the_one_later_calls_find(wa: Wa) -> None:
    wa("init")
    assert stored(wa)["WA_DB"] == str(wa.db)


def test_a_setting_is_changed_in_place_and_everything_else_stays(wa: Wa) -> None:
    wa.write(".env", "# mine\nexport OTHER='x y'  # kept\nWA_DEFAULT_REGION=DE\n\nWA_RETRY=exponential")
    result = wa("init", "--region", "SG", "--timezone", "asia/singapore")
    assert result.exit == 0
    assert (wa.folder / ".env").read_text() == (
        "# mine\nexport OTHER='x y'  # kept\nWA_DEFAULT_REGION=SG\n\nWA_RETRY=exponential\n"
        f"WA_TIMEZONE=Asia/Singapore\nWA_DB={wa.db}\n"
    )
    assert "set WA_DEFAULT_REGION" in result.out


def test_a_token_comes_from_a_file_and_is_never_shown(wa: Wa) -> None:
    """Promise P11."""
    file = wa.write("token", f"{TOKEN}\n")
    result = wa("init", "--api-url", URL, "--token-file", file)
    assert result.exit == 0
    assert stored(wa)["WHATSAPP_ACCESS_TOKEN"] == TOKEN
    assert stored(wa)["WHATSAPP_API_URL"] == URL
    assert TOKEN not in result.out + result.err


@pytest.mark.parametrize("flag", ["--token", "--access-token"])
def test_a_token_on_the_command_line_is_refused_with_the_reason_and_not_repeated(wa: Wa, flag: str) -> None:
    """Promise P11; fault 84."""
    result = wa("init", flag, TOKEN, "--json")
    assert result.exit == 2
    assert result.error()["code"] == "secret_on_line"
    assert TOKEN not in result.out + result.err
    assert f"{flag} " not in wa("init", "--help").out
    assert not (wa.folder / ".env").exists()
    assert not wa.db.exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--region", "SGP"), "SGP"),
        (("--timezone", "Asia/Singapur"), "Asia/Singapore"),
        (("--timezone", "IST"), "Asia/Kolkata"),
        (("--api-url", "https://graph.facebook.com/v25.0/PHONE_NUMBER_ID/messages"), "placeholder"),
        (("--api-url", "http://example.com/v25.0/1/messages"), "clear text"),
        (("--token-file", "nowhere"), "nowhere"),
        (("--token-file", "empty"), "empty"),
        (("--token-file", "empty", "--token-stdin"), "not from both"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_and_nothing_is_written(
    wa: Wa, flags: tuple[str, ...], words: str
) -> None:
    wa.write("empty", "\n")
    result = wa("init", *flags)
    assert result.exit == 2
    assert words in result.err
    assert not (wa.folder / ".env").exists()
    assert not wa.db.exists()


def test_an_env_that_others_could_read_is_closed(wa: Wa) -> None:
    """Fault 85."""
    path = wa.write(".env", f"WHATSAPP_ACCESS_TOKEN={TOKEN}\n")
    path.chmod(0o644)
    assert "only you can" in wa("init").out
    assert mode(path) == 0o600
    assert stored(wa)["WHATSAPP_ACCESS_TOKEN"] == TOKEN


def test_a_link_is_not_followed(wa: Wa) -> None:
    """Fault 78."""
    target = wa.write("profile", "PATH=/bin\n")
    (wa.folder / ".env").symlink_to(target)
    assert wa("init", "--region", "SG").exit == 2
    assert target.read_text() == "PATH=/bin\n"


def test_another_env_file_can_be_made(wa: Wa) -> None:
    wa("init", "--env-file", wa.folder / "other.env", "--region", "SG")
    assert dotenv_values(wa.folder / "other.env")["WA_DEFAULT_REGION"] == "SG"
    assert not (wa.folder / ".env").exists()


def test_a_value_that_the_environment_overrides_is_pointed_out(wa: Wa, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WA_DEFAULT_REGION", "DE")
    assert "WA_DEFAULT_REGION is also set in the environment" in wa("init", "--region", "SG").err


def test_what_to_type_next_depends_on_what_is_there(wa: Wa) -> None:
    assert "wa demo" in wa("init").err
    token = wa.write("token", TOKEN)
    assert "wa doctor" in wa("init", "--api-url", URL, "--token-file", token, "--region", "SG").err


def test_stdin_can_bring_the_token(wa: Wa, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WA_", "WHATSAPP_"))}
    done = subprocess.run(
        [sys.executable, "-m", "wa_cli", "--db", str(wa.db), "init", "--api-url", URL, "--token-stdin"],
        input=f"{TOKEN}\n",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=True,
    )
    assert stored(wa)["WHATSAPP_ACCESS_TOKEN"] == TOKEN
    assert TOKEN not in done.stdout + done.stderr


def test_a_terminal_is_asked_for_what_is_missing_and_the_token_is_not_echoed(wa: Wa, tmp_path: Path) -> None:
    """Promise P11."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WA_", "WHATSAPP_"))}
    outer, inner = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "wa_cli", "--db", str(wa.db), "init", "--timezone", "UTC"],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        cwd=tmp_path,
        env=environment,
        start_new_session=True,
    ) as asking:
        os.close(inner)
        screen = ""
        answers = [
            ("messages URL", "https://graph.facebook.com/v25.0/PHONE_NUMBER_ID/messages"),
            ("placeholder", URL),
            ("not shown", TOKEN),
            ("two letters", ""),
        ]
        while True:
            try:
                screen += os.read(outer, 4096).decode()
            except OSError:  # the other end has left
                break
            if answers and answers[0][0] in screen and screen.endswith(": "):
                os.write(outer, f"{answers.pop(0)[1]}\n".encode())
        assert asking.wait(60) == 0
    os.close(outer)
    assert not answers
    assert TOKEN not in screen
    values = stored(wa)
    assert (values["WHATSAPP_API_URL"], values["WHATSAPP_ACCESS_TOKEN"]) == (URL, TOKEN)
    assert "WA_DEFAULT_REGION" not in values
    assert "Time zone" not in screen  # it was given by a flag


@pytest.mark.parametrize(
    "value", ["", "plain", "two words", "it's", 'say "hi"', "back\\slash", "#hash", "a=b", "$HOME", "é"]
)
def test_every_value_is_read_back_as_it_was_written(value: str) -> None:
    text = edit_env("A=1\n", {"B": value, "A": value}).text
    values = dotenv_values(stream=io.StringIO(text), interpolate=False)
    assert values == {"A": value, "B": value}


def test_of_a_name_that_stands_twice_the_one_that_counts_is_changed() -> None:
    edit = edit_env("A=1\nB=2\nA=3\n", {"A": "4"})
    assert (edit.text, edit.changed) == ("A=1\nB=2\nA=4\n", ("A",))
