"""The units and the cron line, read back by the rules of those who read them."""

from __future__ import annotations

import os
import plistlib
import shlex
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit_files import read_command, read_crontab_line, read_unit, resolve_specifiers, split_words
from wa_cli.domain.unit import Job, check_name, check_user, cron_line, launchd_plist, quote_word, systemd_unit
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

NASTY = " %$\"'\\;#-@:+!|~{}=&<>*?`()\u00a0\u2028é中"
PATHS = st.text(
    st.one_of(
        st.sampled_from(NASTY),
        st.sampled_from("abin/."),
        st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Z")),
    ),
    min_size=1,
    max_size=20,
).map(lambda text: f"/{text}")
PROGRAMS = PATHS.filter(lambda text: not set(text) & set("\\\"'"))
SPEAKABLE_FOLDERS = PATHS.filter(lambda text: text == text.rstrip() and not text.endswith("\\"))
JOB = Job(
    name=None,
    program=("/opt/wa/bin/wa",),
    folder="/home/ada",
    database="/home/ada/wa.db",
    env_file="/home/ada/.env",
    writable=("/home/ada",),
)


@given(word=PATHS.map(lambda text: text[1:]))
@example(word="")
@example(word="a\\nb")
@example(word="%%h")
@pytest.mark.parametrize("knows_escapes", [True, False])
def test_a_quoted_word_is_read_back_as_it_is_by_both_kinds_of_lines(word: str, knows_escapes: bool) -> None:
    assert [resolve_specifiers(one) for one in split_words(quote_word(word), knows_escapes=knows_escapes)] == [word]


@given(program=PROGRAMS, folder=SPEAKABLE_FOLDERS, database=PATHS, env_file=st.none() | PATHS, host=PATHS)
@example(program="/wa", folder="/x%h", database="/a b$HOME;\\", env_file='/"', host=";")
@example(program="/$x/wa", folder="/a\\b", database="/%", env_file=None, host="'")
def test_a_unit_is_read_back_with_the_paths_that_went_in(
    program: str, folder: str, database: str, env_file: str | None, host: str
) -> None:
    job = replace(
        JOB, program=(program,), folder=folder, database=database, env_file=env_file, writable=(folder, database)
    )
    service = read_unit(systemd_unit(job, ["run", "--host", host], user="ada"))["Service"]
    (command,) = service["ExecStart"]
    expected = [program, "--db", database, *(["--env-file", env_file] if env_file else []), "run", "--host", host]
    assert read_command(command) == expected
    assert [resolve_specifiers(one) for one in service["WorkingDirectory"]] == [folder]
    (writable,) = service["ReadWritePaths"]
    assert [resolve_specifiers(one) for one in split_words(writable, knows_escapes=False)] == [folder, database]


@given(value=PATHS)
def test_an_environment_is_read_back(value: str) -> None:
    job = replace(JOB, environment={"HTTPS_PROXY": value, "TZ": "UTC"})
    lines = read_unit(systemd_unit(job, ["run"], user=None))["Service"]["Environment"]
    words = [resolve_specifiers(word) for line in lines for word in split_words(line, knows_escapes=True)]
    assert words == [f"HTTPS_PROXY={value}", "TZ=UTC"]
    assert plistlib.loads(launchd_plist(job, ["run"], log_file="/l").encode())["EnvironmentVariables"] == dict(
        job.environment
    )


@pytest.mark.parametrize("folder", ["/a\nb", "/a\x7f", "/a\ud800", "/a\x01"])
def test_what_none_of_them_can_hold_is_refused(folder: str) -> None:
    job = replace(JOB, folder=folder)
    for write in (
        lambda: systemd_unit(job, ["run"], user=None),
        lambda: launchd_plist(job, ["run"], log_file="/l"),
        lambda: cron_line(job, ["drain"]),
    ):
        with pytest.raises(UsageError) as raised:
            write()
        assert raised.value.code == "service_path"


@pytest.mark.parametrize("folder", ["/a ", "/a\\"])
def test_a_folder_whose_end_systemd_would_cut_is_refused(folder: str) -> None:
    with pytest.raises(UsageError):
        systemd_unit(replace(JOB, folder=folder), ["run"], user=None)


@pytest.mark.parametrize("sign", ["'", '"', "\\"])
def test_a_program_that_systemd_would_not_run_is_refused(sign: str) -> None:
    with pytest.raises(UsageError):
        systemd_unit(replace(JOB, program=(f"/opt/{sign}/wa",)), ["run"], user=None)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
@pytest.mark.parametrize("user", [None, "root"])
def test_systemd_itself_takes_the_unit(user: str | None, tmp_path: Path) -> None:
    """It looks for the program, so it has read at least that path as it was meant."""
    folder, hidden = tmp_path / "o d%d $x; {y} #~é", tmp_path / "q\"'\\b"
    hidden.mkdir()
    program = folder / "wa"
    folder.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    job = replace(
        JOB, program=(str(program),), folder=str(hidden), database=str(hidden / "wa.db"), writable=(str(hidden),)
    )
    unit = tmp_path / "wa.service"

    def verify() -> tuple[int, str]:
        ran = subprocess.run(
            ["systemd-analyze", "--system" if user else "--user", "verify", unit],
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        return ran.returncode, ran.stderr

    unit.write_text(systemd_unit(job, ["run"], user=user), encoding="utf-8")
    assert verify() == (0, "")
    program.unlink()
    code, said = verify()
    assert code != 0
    assert f"Command {program} is not executable" in said


def test_a_backslash_is_refused_in_a_crontab_since_crons_differ_about_it() -> None:
    with pytest.raises(UsageError):
        cron_line(replace(JOB, database="/a\\%b"), ["drain"])


@given(folder=PATHS, database=PATHS)
@example(folder="/a%b", database="/'%s'")
def test_a_cron_line_gives_the_shell_the_paths_that_went_in(folder: str, database: str) -> None:
    if "\\" in folder + database:
        return
    line = cron_line(replace(JOB, folder=folder, database=database), ["drain"])
    command = read_crontab_line(line)
    assert command.startswith("cd ")
    cd, inside = command.split(" && out=$(", 1)
    assert shlex.split(cd) == ["cd", folder]
    assert shlex.split(inside.rsplit(" 2>&1)", 1)[0]) == list(replace(JOB, database=database).command("drain"))


@pytest.mark.parametrize(("code", "said"), [(0, ""), (5, "all is told\n")])
def test_a_cron_line_says_something_only_when_it_fails(code: int, said: str) -> None:
    """ux.md, section 8: quiet on success, non-zero mailed."""
    job = replace(
        JOB, folder="/", program=("/bin/sh", "-c", f"echo all is told; exit {code}"), environment={"TZ": "UTC"}
    )
    ran = subprocess.run(
        ["/bin/sh", "-c", read_crontab_line(cron_line(job, ["drain"]))], capture_output=True, text=True, check=False
    )
    assert (ran.stdout, ran.stderr) == (said, "")


def test_a_unit_of_the_system_keeps_wa_to_its_folder_and_waits_for_it_to_stop() -> None:
    job = replace(JOB, name="shop", stop_seconds=91)
    unit = read_unit(systemd_unit(job, ["run", "--serve"], user="ada"))
    assert unit["Unit"]["After"] == ["network.target"]
    assert unit["Install"] == {"WantedBy": ["multi-user.target"]}
    service = {key: values[0] for key, values in unit["Service"].items()}
    assert service == {
        "Type": "notify",
        "NotifyAccess": "main",
        "ExecStart": "/opt/wa/bin/wa --db /home/ada/wa.db --env-file /home/ada/.env run --serve",
        "WorkingDirectory": "/home/ada",
        "User": "ada",
        "Restart": "on-failure",
        "RestartSec": "2",
        "RestartPreventExitStatus": "2 4 6 7 9",
        "WatchdogSec": "120",
        "WatchdogSignal": "SIGKILL",
        "TimeoutStopSec": "91",
        "UMask": "0077",
        "NoNewPrivileges": "yes",
        "StandardOutput": "journal",
        "StandardError": "journal",
        "SyslogIdentifier": "wa-shop",
        "PrivateTmp": "yes",
        "ProtectSystem": "strict",
        "ReadWritePaths": "/home/ada",
    }


def test_a_unit_of_a_users_own_systemd_asks_for_nothing_that_it_may_be_refused() -> None:
    unit = read_unit(systemd_unit(JOB, ["run"], user=None))
    assert unit["Install"] == {"WantedBy": ["default.target"]}
    assert "After" not in unit["Unit"]  # it has no network.target
    assert not unit["Service"].keys() & {"User", "PrivateTmp", "ProtectSystem", "ReadWritePaths"}
    assert {"NoNewPrivileges", "UMask", "WatchdogSec"} <= unit["Service"].keys()


def test_what_lies_in_tmp_is_not_hidden_behind_a_tmp_of_its_own() -> None:
    unit = read_unit(systemd_unit(replace(JOB, env_file="/tmp/x/.env"), ["run"], user="ada"))
    assert "PrivateTmp" not in unit["Service"]


def test_an_agent_of_launchd_is_started_anew_only_when_it_failed() -> None:
    plist = plistlib.loads(launchd_plist(replace(JOB, name="shop"), ["run"], log_file="/l&g").encode())
    assert plist["Label"] == "local.wa-shop"
    assert plist["ProgramArguments"] == [
        "/opt/wa/bin/wa", "--db", "/home/ada/wa.db", "--env-file", "/home/ada/.env", "run"
    ]  # fmt: skip
    assert plist["KeepAlive"] == {"SuccessfulExit": False}
    assert (plist["RunAtLoad"], plist["Umask"], plist["ExitTimeOut"]) == (True, 0o077, 100)
    assert plist["StandardErrorPath"] == "/l&g"
    assert plist["WorkingDirectory"] == "/home/ada"


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "a/b", "a%b", "é", "x" * 64])
def test_a_name_that_could_not_be_a_files_everywhere_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        check_name(name)


@pytest.mark.parametrize("name", ["", "a b", "root\nExecStart=/x", "-x", "%i"])
def test_a_user_that_nobody_can_be_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        check_user(name)
