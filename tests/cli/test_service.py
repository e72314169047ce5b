"""`wa service`: what it prints and writes, what it leaves alone, and what it says to type next."""

from __future__ import annotations

import os
import plistlib
import pwd
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import wa_cli
from tests.unit_files import read_command, read_crontab_line, read_unit
from wa_cli.cli import service as command

if TYPE_CHECKING:
    from tests.cli.conftest import Wa

ROOT = str(Path(wa_cli.__file__).parents[1])
SECRET = "EAAcanaryHere9f8e7d6c5b4a3f2e1d0c9b8a7f6e5d4c"
ACCOUNT = f"WHATSAPP_API_URL=http://127.0.0.1:9/v25.0/1/messages\nWHATSAPP_ACCESS_TOKEN={SECRET}\n"


@pytest.fixture
def home(wa: Wa, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of somebody with a database, and an account in `.env`."""
    folder = wa.folder / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setattr(sys, "platform", "linux")
    for name in (*command.CARRIED, *map(str.lower, command.CARRIED)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("WA_TIMEZONE")
    wa.write(".env", ACCOUNT)
    assert wa("init").exit == 0
    return folder


def unit_of(home: Path, name: str = "wa") -> Path:
    return home / ".config" / "systemd" / "user" / f"{name}.service"


def test_the_unit_runs_this_wa_on_what_is_in_force_here(wa: Wa, home: Path) -> None:
    printed = wa("service", "install")
    assert printed.exit == 0
    service = read_unit(printed.out)["Service"]
    assert read_command(service["ExecStart"][0]) == [
        sys.executable, "-m", "wa_cli", "--db", str(wa.db), "--env-file", str(wa.folder / ".env"), "run"
    ]  # fmt: skip
    assert service["WorkingDirectory"] == [str(wa.folder)]
    assert service["TimeoutStopSec"] == ["91"]  # a minute for the answer to a post, and what comes after it
    assert not unit_of(home).exists()
    assert printed.err == (
        f"put it into {unit_of(home)}: the same line with --write does\n"
        "then:\n"
        "  systemctl --user daemon-reload\n"
        "  systemctl --user enable --now wa.service\n"
        "  loginctl enable-linger   (so that it runs while you are not logged in)\n"
    )


def test_no_secret_is_in_what_it_prints_and_writes(wa: Wa, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise P11, also where the secrets stand in the environment and in the address of a proxy."""
    monkeypatch.setenv("WHATSAPP_ACCESS_TOKEN", SECRET)
    monkeypatch.setenv("https_proxy", f"http://ada:{SECRET}@proxy:3128")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    for words in (("install",), ("install", "--json"), ("install", "--kind", "launchd"), ("cron",), ("cron", "--json")):
        answer = wa("service", *words)
        assert answer.exit == 0, answer.err
        assert SECRET not in answer.out + answer.err
        assert "HTTP_PROXY" in answer.out  # what holds no password comes along
    assert wa("service", "install", "--write").exit == 0
    assert SECRET not in unit_of(home).read_text()
    assert "warning: the service would not know WHATSAPP_ACCESS_TOKEN, https_proxy" in answer.err


def test_it_says_what_the_service_would_not_see(wa: Wa, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        wa(
            "instance", "add", "club", "--transport", "waha", "--url", "http://127.0.0.1:3000", "--key-from", "MY_KEY"
        ).exit
        == 0
    )
    monkeypatch.setenv("MY_KEY", "abc")
    monkeypatch.setenv("WA_DEFAULT_REGION", "SG")
    answer = wa("service", "install")
    assert "warning: the service would not know WA_DEFAULT_REGION, MY_KEY\n" in answer.err
    assert f"hint: set that in {wa.folder / '.env'}: " in answer.err
    assert wa("service", "install", "--json").json()["lacking"] == ["WA_DEFAULT_REGION", "MY_KEY"]
    wa.write(".env", ACCOUNT + "MY_KEY=abc\n")
    monkeypatch.delenv("WA_DEFAULT_REGION")
    assert "warning" not in wa("service", "install").err


def test_it_says_when_the_service_could_send_for_nobody(wa: Wa, home: Path) -> None:
    wa.write(".env", "")
    answer = wa("service", "install", "--json").json()
    assert answer["lacking"] == ["WHATSAPP_API_URL", "WHATSAPP_ACCESS_TOKEN"]


def test_without_a_database_there_is_nothing_to_keep_alive(wa: Wa, home: Path) -> None:
    wa.db.unlink()
    for words in (("install",), ("install", "--write"), ("cron",)):
        answer = wa("service", *words, "--json")
        assert (answer.exit, answer.error()["code"]) == (2, "no_database")
    assert not unit_of(home).exists()


def test_write_puts_it_where_systemd_looks_and_says_what_to_type(wa: Wa, home: Path) -> None:
    unit = unit_of(home)
    answer = wa("service", "install", "--write")
    assert (answer.exit, answer.out) == (0, f"created {unit}\n")
    assert unit.stat().st_mode & 0o777 == 0o600
    assert unit.read_text() == wa("service", "install").out
    again = wa("service", "install", "--write")
    assert (again.exit, again.out) == (0, f"kept {unit}\n")
    assert list(unit.parent.iterdir()) == [unit]


def test_another_file_is_shown_and_stays_until_somebody_says_yes(wa: Wa, home: Path) -> None:
    unit = unit_of(home)
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/usr/bin/true\n")
    refused = wa("service", "install", "--write")
    assert refused.exit == 6
    assert "  -ExecStart=/usr/bin/true\n" in refused.err
    assert unit.read_text() == "[Service]\nExecStart=/usr/bin/true\n"
    replaced = wa("service", "install", "--write", "--yes")
    assert (replaced.exit, replaced.out) == (0, f"replaced {unit}\n")
    assert "  systemctl --user restart wa.service\n" in replaced.err
    assert unit.read_text() == wa("service", "install").out


def test_flags_of_the_server_come_along(wa: Wa, home: Path) -> None:
    printed = wa("service", "install", "--serve", "--host", "::1", "--port", "8081")
    service = read_unit(printed.out)["Service"]
    assert read_command(service["ExecStart"][0])[-6:] == ["run", "--serve", "--host", "::1", "--port", "8081"]
    assert service["TimeoutStopSec"] == ["106"]  # the server lets those finish who have begun
    assert wa("service", "install", "--port", "8081").exit == 2


def test_a_longer_time_out_gives_it_longer_to_stop(wa: Wa, home: Path) -> None:
    wa.write(".env", ACCOUNT + "WA_READ_TIMEOUT_MS=120000\n")
    assert read_unit(wa("service", "install").out)["Service"]["TimeoutStopSec"] == ["151"]


def test_each_database_has_a_service_of_its_own(wa: Wa, home: Path) -> None:
    assert wa("service", "install", "--write").exit == 0
    answer = wa("service", "install", "--write", "--name", "shop", "--json").json()
    assert (answer["name"], answer["path"]) == ("wa-shop", str(unit_of(home, "wa-shop")))
    assert answer["next"][1] == "systemctl --user enable --now wa-shop.service"
    assert unit_of(home).exists()
    assert unit_of(home, "wa-shop").exists()
    assert wa("service", "install", "--name", "../shop").exit == 2


def test_a_service_of_the_system_runs_as_somebody_and_says_how_it_is_written_by_others(
    wa: Wa, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    monkeypatch.setattr(command, "SYSTEM_UNITS", wa.folder / "system")
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)  # as that folder is root's
    printed = wa("service", "install", "--system", "--user", me)
    assert read_unit(printed.out)["Service"]["User"] == [me]
    assert "  sudo systemctl enable --now wa.service\n" in printed.err
    refused = wa("service", "install", "--system", "--user", me, "--write")
    assert (refused.exit, refused.out) == (9, "")
    assert f"| sudo tee {wa.folder / 'system' / 'wa.service'}`" in refused.err
    assert wa("service", "install", "--system", "--user", "nobody-is-called-so").exit == 2
    assert wa("service", "install", "--user", me).exit == 2


def test_root_writes_a_service_of_the_system_which_everybody_may_read(
    wa: Wa, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "SYSTEM_UNITS", wa.folder / "system")
    me = pwd.getpwuid(os.getuid()).pw_name
    assert wa("service", "install", "--system", "--user", me, "--write").exit == 0
    unit = wa.folder / "system" / "wa.service"
    assert unit.stat().st_mode & 0o777 == 0o644
    removed = wa("service", "uninstall", "--system")
    assert removed.exit == 0
    assert "  sudo systemctl stop wa.service\n" in removed.err
    assert not unit.exists()


def test_it_says_when_that_user_could_not_write_the_database(wa: Wa, home: Path) -> None:
    other = next(one for one in pwd.getpwall() if one.pw_uid not in (0, os.getuid()))
    answer = wa("service", "install", "--system", "--user", other.pw_name)
    assert f"warning: {other.pw_name} does not own {wa.db}, and could write nothing to it\n" in answer.err


def test_root_has_to_say_whom_it_runs_as(wa: Wa, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.delenv("SUDO_USER", raising=False)
    answer = wa("service", "install", "--system", "--json")
    assert (answer.exit, answer.error()["message"]) == (2, "a service needs no root")
    monkeypatch.setenv("SUDO_USER", "root")
    assert read_unit(wa("service", "install", "--system").out)["Service"]["User"] == ["root"]


def test_on_macos_it_is_an_agent_of_launchd(wa: Wa, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    answer = wa("service", "install", "--write", "--name", "shop")
    path = home / "Library" / "LaunchAgents" / "local.wa-shop.plist"
    assert (answer.exit, answer.out) == (0, f"created {path}\n")
    assert f"  launchctl bootstrap gui/$(id -u) {path}\n" in answer.err
    plist = plistlib.loads(path.read_bytes())
    assert plist["ProgramArguments"][:3] == [sys.executable, "-m", "wa_cli"]
    assert plist["StandardErrorPath"] == str(home / "Library" / "Logs" / "wa-shop.log")
    assert path.read_text() == wa("service", "install", "--name", "shop").out
    removed = wa("service", "uninstall", "--name", "shop")
    assert removed.exit == 0
    assert "  launchctl bootout gui/$(id -u)/local.wa-shop\n" in removed.err
    assert not path.exists()
    assert wa("service", "install", "--system").exit == 2


def test_elsewhere_it_asks_whose_words_are_meant(wa: Wa, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert wa("service", "install").exit == 2
    assert wa("service", "install", "--kind", "systemd").exit == 0


def test_uninstall_removes_what_write_has_written_and_nothing_else(wa: Wa, home: Path) -> None:
    unit = unit_of(home)
    assert wa("service", "install", "--write").exit == 0
    wants = unit.parent / "default.target.wants"
    wants.mkdir()
    (wants / unit.name).symlink_to(unit)  # as `systemctl --user enable` does
    (wants / "other.service").symlink_to(unit.parent / "other.service")
    answer = wa("service", "uninstall")
    assert (answer.exit, answer.out) == (0, f"removed {unit}\n")
    assert answer.err == (
        "if it runs, stop it:\n  systemctl --user stop wa.service\n  systemctl --user daemon-reload\n"
    )
    assert [path.name for path in wants.iterdir()] == ["other.service"]
    again = wa("service", "uninstall", "--json")
    assert again.json() == {"kind": "systemd", "path": str(unit), "removed": False, "next": []}


def test_uninstall_asks_before_it_removes_what_others_have_written(wa: Wa, home: Path) -> None:
    unit = unit_of(home)
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/usr/bin/true\n")
    assert wa("service", "uninstall").exit == 6
    assert unit.exists()
    assert wa("service", "uninstall", "--yes").exit == 0
    assert not unit.exists()


def test_the_script_that_was_called_is_the_one_that_runs(wa: Wa, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own name, also where that is a link: what it leads to changes with the next upgrade."""
    (wa.folder / "versions").mkdir()
    real = wa.write("versions/wa-1", "#!/bin/sh\n")
    real.chmod(0o755)
    (wa.folder / "bin").mkdir()
    (wa.folder / "bin" / "wa").symlink_to(real)
    monkeypatch.setattr(sys, "argv", ["./bin/../bin/wa", "service"])
    assert wa("service", "install", "--json").json()["command"][0] == str(wa.folder / "bin" / "wa")


def test_a_python_path_that_finds_wa_comes_along(wa: Wa, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"/elsewhere{os.pathsep}{ROOT}")
    assert f"\nEnvironment=PYTHONPATH={ROOT}\n" in wa("service", "install").out
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    assert "PYTHONPATH" not in wa("service", "install").out


def test_the_folder_of_a_linked_database_may_be_written_to(wa: Wa, home: Path) -> None:
    """SQLite writes beside the file itself, `wa` beside the name that it was given."""
    (wa.folder / "disk").mkdir()
    wa.db.rename(wa.folder / "disk" / "real.db")
    wa.db.symlink_to(wa.folder / "disk" / "real.db")
    me = pwd.getpwuid(os.getuid()).pw_name
    (writable,) = read_unit(wa("service", "install", "--system", "--user", me).out)["Service"]["ReadWritePaths"]
    assert writable.split() == [str(wa.folder), str(wa.folder / "disk")]


def test_the_cron_line_drains_this_database_and_mails_only_trouble(
    wa: Wa, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", ROOT)  # where the tests have wa from
    answer = wa("service", "cron")
    assert answer.exit == 0
    (line,) = answer.out.splitlines()
    assert line.startswith("* * * * * ")
    assert wa("service", "cron", "--json").json()["line"] == line
    assert answer.err == "hint: `crontab -e` opens the table that this line belongs into\n"

    def run() -> tuple[str, str]:
        ran = subprocess.run(
            ["/bin/sh", "-c", read_crontab_line(line)],
            env={"HOME": "/", "PATH": "/usr/bin:/bin"},  # all that a cron gives
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        return ran.stdout, ran.stderr

    assert run() == ("", "")
    wa.db.unlink()
    said, _err = run()
    assert said.startswith(f"error: there is no database at {wa.db}\n")
