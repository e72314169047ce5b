"""What `wa` keeps to itself and never waits for: secrets, numbers, prompts, broken pipes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
from rig import Household, Sandbox, environment, magic, number

from wa_cli.cli.main import build_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CANARY = "EAAcanaryHere9f8e7d6c5b4a3f2e1d0c9b8a7f6e5d4c"

# Every command with words that make it do its work.  Those that stay until they are stopped come with `stops`.
COMMANDS: dict[str, tuple[object, ...]] = {
    "init": (),
    "doctor": (),
    "drain": (),
    "status": (),
    "resend": ("--all",),
    "reconcile": (),
    "send subgroup": ("vip", "hello all"),
    "send to": (number(1), "--text", "hello you"),
    "send batch": ("rows.csv",),
    "subgroup create": ("new",),
    "subgroup list": (),
    "subgroup show": ("vip",),
    "subgroup add": ("vip", number(3)),
    "subgroup remove": ("vip", number(3)),
    "subgroup import": ("vip", "rows.csv"),
    "subgroup export": ("vip",),
    "subgroup rename": ("vip", "vips"),
    "subgroup delete": ("vips",),
    "message list": (),
    "message show": ("m1",),
    "message explain": ("m1",),
    "message cancel": ("--all",),
    "failed list": (),
    "failed show": ("0",),
    "failed export": ("failed.csv",),
    "failed dismiss": ("--all",),
    "template sync": (),
    "template list": (),
    "template show": ("hello_world",),
    "campaign create": ("gala.toml",),
    "campaign validate": ("gala",),
    "campaign list": (),
    "campaign plan": ("gala",),
    "campaign apply": ("gala", "--plan", "p1-000000"),
    "campaign start": ("gala",),
    "campaign pause": ("gala",),
    "campaign resume": ("gala",),
    "campaign test": ("gala", "--to", number(1)),
    "campaign show": ("gala",),
    "campaign watch": ("gala", "--count", "1"),
    "campaign report": ("gala",),
    "campaign export": ("gala",),
    "campaign clone": ("gala", "other"),
    "campaign cancel": ("gala",),
    "campaign delete": ("gala",),
    "contact list": (),
    "contact show": (number(1),),
    "contact opt-out": (number(3),),
    "contact opt-in": (number(3), "--reason", "came back"),
    "contact import": ("rows.csv",),
    "contact export": (),
    "contact check": (number(1),),
    "contact erase": (number(3),),
    "instance add": (
        "club",
        "--transport",
        "cloud",
        "--url",
        "https://example.org/v25.0/1/messages",
        "--key-from",
        "K",
    ),
    "instance remove": ("club",),
    "instance groups": ("default",),
    "pool create": ("both", "default"),
    "pool list": (),
    "pool show": ("both",),
    "pool add": ("both", "default"),
    "pool remove": ("both", "default"),
    "pool delete": ("both",),
    "instance list": (),
    "instance show": (),
    "instance status": (),
    "instance pause": (),
    "instance resume": (),
    "instance restart": ("default",),
    "instance pair": ("default",),
    "serve key add": ("ci",),
    "serve key list": (),
    "serve key revoke": ("ci",),
    "webhook list": (),
    "webhook show": ("w1",),
    "webhook replay": ("--failed",),
    "webhook subscribe": ("default", "http://127.0.0.1:8080"),
    "db path": (),
    "db migrate": (),
    "db check": (),
    "db backup": ("copy.db",),
    "db prune": ("--older-than", "180d"),
    "config show": (),
    "service install": (),
    "service cron": (),
    "service uninstall": ("--name", "one-that-nobody-has"),  # the home folder is that of whoever runs the tests
}
STAYING = {"run", "watch", "sandbox", "demo"}


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Every command that does something, by its words."""
    children = getattr(command, "commands", None)
    if children is None:
        yield " ".join(path)
        return
    for name, child in children.items():
        yield from leaves(child, (*path, name))


def test_every_command_is_tried_without_a_stdin() -> None:
    """A new command needs a line in COMMANDS."""
    assert set(leaves(typer.main.get_command(build_app()))) == set(COMMANDS) | STAYING


# Loads wa once, then runs each line it reads as a process of its own, in the order given: [words] in,
# [exit code, seconds, stderr] out.
FORKING = """
import json, os, sys, tempfile, time, traceback
import aiohttp, apscheduler, httpx, phonenumbers, wa_cli.bootstrap, wa_cli.daemon.drain, wa_cli.web.server
from wa_cli.cli.main import build_app, main
build_app()
for line in sys.stdin:
    with tempfile.TemporaryFile() as said:
        began, pid = time.monotonic(), os.fork()
        if not pid:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(said.fileno(), 2)
            os.close(0)  # really closed, as a daemon's or a careless cron's is: not even /dev/null
            sys.stdin, sys.argv, code = None, ["wa", *json.loads(line)], 1
            try:
                main()
            except SystemExit as leaving:
                code = leaving.code or 0
            except BaseException:
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        said.seek(0)
        print(json.dumps([code, time.monotonic() - began, said.read().decode()]), flush=True)
"""


def test_no_command_waits_for_an_answer_when_stdin_is_closed(home: Household) -> None:
    """Faults.md, bad CLI inputs, no TTY: each returns with an exit code of its own, and waits for nobody."""
    assert home.wa("subgroup", "create", "vip").exit == 0
    assert home.wa("subgroup", "add", "vip", number(1), number(2)).exit == 0
    home.rows(["one", "two"]).rename(home.folder / "rows.csv")
    (home.folder / "gala.toml").write_text('[message]\ntext = "Doors open at six"\n[audience]\nfiles = ["rows.csv"]\n')
    ran = subprocess.run(
        [sys.executable, "-c", FORKING],
        input="".join(json.dumps([*name.split(), *map(str, words)]) + "\n" for name, words in COMMANDS.items()),
        env=environment(**home.settings),
        cwd=home.folder,
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
    )
    answers = [json.loads(line) for line in ran.stdout.splitlines()]
    for name, (code, took, said) in zip(COMMANDS, answers, strict=True):
        assert code in (0, 2, 3, 5, 6, 7), f"wa {name}: {code}, {said}"
        assert "Traceback" not in said, f"wa {name}: {said}"
        assert took < 30.0, f"wa {name} took {took:.1f} s"  # a fifth of a second, were the machine not so busy


@pytest.mark.parametrize(
    "words", [("message", "list", "--limit", "10000", "--json"), ("message", "list", "--limit", "10000")]
)
def test_a_reader_that_leaves_early_is_no_error(words: tuple[str, ...], home: Household) -> None:
    """Row 7: `wa ... | head -1` ends quietly; the queue is untouched."""
    home.queue(1_500)
    command = " ".join([sys.executable, "-m", "wa_cli", *words])
    ran = subprocess.run(
        ["bash", "-c", f"{command} | head -c 100; exit ${{PIPESTATUS[0]}}"],
        env=environment(**home.settings),
        cwd=home.folder,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(ran.stdout) == 100
    assert home.states() == {"queued": 1_500}


@pytest.mark.parametrize("flags", [("--verbose",), ("--verbose", "--log-json")])
def test_no_secret_and_no_whole_number_reaches_a_log_or_a_command_line(flags: tuple[str, ...], tmp_path: Path) -> None:
    """Promise P11; row 84: through every kind of failure, at the daemon's most talkative."""
    home = Household(tmp_path, Sandbox(tmp_path, token=CANARY), WA_READ_TIMEOUT_MS="500", WA_MAX_ATTEMPTS="1")
    try:
        endings = ("9026", "9500", "9408", "9206", "9056")
        recipients = [magic(ending) for ending in endings] + [number(index) for index in range(len(endings))]
        for recipient in recipients:
            home.sandbox.fault("slow:0.2", to=recipient) if recipient == number(0) else None
        file = home.folder / "rows.csv"
        file.write_text("recipient,message\n" + "".join(f"{recipient},hello\n" for recipient in recipients))
        home.acknowledge(home.wa("send", "batch", file, "--delay", "0", "--json"))
        daemon = home.daemon(*flags)
        assert CANARY not in Path(f"/proc/{daemon.pid}/cmdline").read_text()
        home.sandbox.wait_for(lambda entries: len({entry["to"] for entry in entries}) == 10, "all of them tried")
        home.sandbox.set(token_expires_after=0)
        last = home.send(number(50), "the token is dead")
        recipients.append(number(50))
        daemon.wait_for_line("190 ")
        home.sandbox.stop()
        assert home.wa("instance", "resume").exit == 0
        daemon.wait_for_line("connect")
        spoken = "".join(daemon.err) + "".join(daemon.out)
        # What the others say does not hang on the daemon's flags: they are asked once.
        others = () if "--log-json" in flags else (
            ("status", "--json"), ("doctor", "--json"), ("config", "show", "--origin"), ("db", "check"),
            ("message", "explain", last), ("instance", "show"), ("drain", "--max-runtime", "1s", "--debug"),
        )  # fmt: skip
        asked = [home.wa(*words) for words in others]
        for text in (spoken, *(ran.out + ran.err for ran in asked)):
            assert CANARY not in text
        digits = [recipient.removeprefix("+") for recipient in recipients]
        assert [one for one in digits if one in re.sub(r"[^0-9a-z\n]", "", spoken)] == []
        assert all(CANARY.encode() not in path.read_bytes() for path in home.folder.glob("wa.db*"))
        daemon.kill()
    finally:
        home.end()


def test_a_report_is_made_even_where_no_stream_is_open(home: Household) -> None:
    """Row 30: stdout and stderr closed, as some service managers leave them; the work is done all the same."""
    home.queue(2)

    def close_all() -> None:
        for stream in (0, 1, 2):
            os.close(stream)

    assert home.wa("drain", preexec_fn=close_all).exit == 0
    assert home.states() == {"sent": 2}
    home.audit().assert_sound()


def test_a_backup_of_a_live_database_is_sound(make_home: Callable[..., Household]) -> None:
    """Promise P10; row 26: while a daemon writes."""
    home = make_home("--latency-ms", "20")
    home.queue(60, "--delay", "30")
    home.daemon()
    home.sandbox.wait_for_posts(3)
    for index in range(3):
        assert home.wa("db", "backup", f"copy-{index}.db").exit == 0
        checked = home.wa("db", "check", "--json", "--db", home.folder / f"copy-{index}.db")
        assert checked.exit == 0, checked
        assert (home.folder / f"copy-{index}.db").stat().st_mode & 0o077 == 0
    home.wait_for_states(sent=60)
    home.audit().assert_sound()


@pytest.mark.parametrize("manner", ["replaced", "deleted"])
def test_a_daemon_whose_database_is_gone_stops_sending(manner: str, home: Household) -> None:
    """Row 23: exit 9, no fresh empty file, nothing more is posted."""
    home.queue(20, "--delay", "400")
    daemon = home.daemon()
    home.sandbox.wait_for_posts(2)
    if manner == "replaced":
        assert home.wa("db", "backup", "copy.db").exit == 0
        (home.folder / "copy.db").replace(home.db)
    else:
        home.db.unlink()
    posts = len(home.sandbox.entries())
    ran = daemon.wait()
    assert ran.exit == 9, ran.err
    assert "was deleted or replaced" in ran.err
    assert "Traceback" not in ran.err
    # A turn that had begun may end; the next one looks first.
    assert len(home.sandbox.entries()) - posts <= 1
    assert home.db.exists() == (manner == "replaced")
