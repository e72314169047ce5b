"""What keeps `wa` sending when nobody is there, in the words of systemd, of launchd and of cron.

Each of the three reads paths by rules of its own; what its rules cannot say is refused here.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
USER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,30}\$?")
# Words that systemd reads as they stand.  Others go between quotes.
PLAIN: Final = re.compile(r"[A-Za-z0-9_@:,./=+-]+")
# Exit codes of `wa run` after which a start anew would meet the same: somebody has to mend something first.
ENDS_FOR_GOOD: Final = (2, 4, 6, 7, 9)
# Whoever is killed is back within 5 s: this, and a second to start.
RESTART_SECONDS: Final = 2
# Ten times as long as a work on a busy file takes, with a little to spare for a machine that is busy itself.
WATCHDOG_SECONDS: Final = 120
SYSTEMD_MARK: Final = "# Written by `wa service install`; `wa service uninstall` removes it."


class Kind(StrEnum):
    """Who keeps the daemon alive."""

    SYSTEMD = "systemd"
    LAUNCHD = "launchd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be run, and where.  Every path is absolute.

    name: one a database.  program: the wa that runs, or a Python and what makes wa of it.  writable: folders that it
    writes to.  environment: what it needs beside its settings; no secret.  stop_seconds: what it may take to stop.
    """

    name: str | None
    program: tuple[str, ...]
    folder: str
    database: str
    env_file: str | None
    writable: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_seconds: int = 100

    @property
    def title(self) -> str:
        """`wa`, or `wa-shop`."""
        return f"wa-{self.name}" if self.name else "wa"

    @property
    def label(self) -> str:
        """Its name among launchd's jobs."""
        return f"local.{self.title}"

    def command(self, *words: str) -> tuple[str, ...]:
        """The line that runs `wa` with these words on this database."""
        env_file = () if self.env_file is None else ("--env-file", self.env_file)
        return (*self.program, "--db", self.database, *env_file, *words)

    def file_name(self, kind: Kind) -> str:
        return f"{self.title}.service" if kind is Kind.SYSTEMD else f"{self.label}.plist"


def check_name(name: str) -> str:
    """The name itself.  Raises: UsageError when it could not be part of a file's name everywhere."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' is no name for a service",
            hint="letters, digits, - and _, such as --name shop",
            code="service_name",
        )
    return name


def check_user(name: str) -> str:
    """The name itself.  Raises: UsageError when no user can be called so."""
    if not USER.fullmatch(name):
        raise UsageError(f"'{name}' is no name of a user", hint="--user NAME, as `id -un` prints it", code="no_user")
    return name


# --- systemd ---


def systemd_unit(job: Job, words: Sequence[str], *, user: str | None) -> str:
    """The unit that runs `wa` with these words: of the system and as that user, or without one of a user's own systemd.

    Raises: UsageError for a path that a unit cannot hold.
    """
    command = job.command(*words)
    for text in (*command, job.folder, *job.writable, *job.environment.values()):
        _check_signs(text, "a unit")
    if job.folder != job.folder.rstrip() or job.folder.endswith("\\"):
        raise _unspeakable(job.folder, "a unit")
    if any(sign in command[0] for sign in "\\\"'"):  # systemd runs nothing that is called so, however it is quoted
        raise _unspeakable(command[0], "a unit")
    lines = [
        SYSTEMD_MARK,
        "[Unit]",
        f"Description=wa sends WhatsApp messages ({job.title})",
    ]
    if user is not None:  # the network goes after it, so that what is in flight comes to its end
        lines.append("After=network.target")
    lines += [
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart={_exec_line(command)}",
        f"WorkingDirectory={_escape_specifiers(job.folder)}",
        *(f"Environment={quote_word(f'{name}={value}')}" for name, value in job.environment.items()),
    ]
    if user is not None:
        lines.append(f"User={user}")
    lines += [
        "Restart=on-failure",
        f"RestartSec={RESTART_SECONDS}",
        f"RestartPreventExitStatus={' '.join(map(str, ENDS_FOR_GOOD))}",
        f"WatchdogSec={WATCHDOG_SECONDS}",
        # What hangs holds a token in its memory, which is nothing for a core dump.
        "WatchdogSignal=SIGKILL",
        f"TimeoutStopSec={job.stop_seconds}",
        "UMask=0077",
        "NoNewPrivileges=yes",
        "StandardOutput=journal",
        "StandardError=journal",
        f"SyslogIdentifier={job.title}",
    ]
    if user is not None:
        # Each needs a mount namespace, which a user's own systemd is refused on many machines: some ignore the line
        # then, others do not start the service at all.
        if not any(_is_temporary(path) for path in (*command, job.folder, *job.writable)):
            lines.append("PrivateTmp=yes")
        lines += ["ProtectSystem=strict", f"ReadWritePaths={' '.join(map(quote_word, job.writable))}"]
    lines += ["", "[Install]", f"WantedBy={'multi-user.target' if user is not None else 'default.target'}"]
    return "\n".join(lines) + "\n"


def quote_word(word: str) -> str:
    """One word of a unit's line, read back as it is whether or not the line knows escapes as in C."""
    word = _escape_specifiers(word)
    if PLAIN.fullmatch(word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _exec_line(command: Sequence[str]) -> str:
    """The words of a command, in which a dollar is a dollar.

    Doubling it would do in all words but the first; the colon in front says that no variable is meant.
    """
    if any("$" in word for word in command):
        command = (f":{command[0]}", *command[1:])
    return " ".join(map(quote_word, command))


def _escape_specifiers(text: str) -> str:
    return text.replace("%", "%%")


def _is_temporary(path: str) -> bool:
    """Whether it would be out of sight behind a /tmp of the service's own."""
    return path.startswith(("/tmp/", "/var/tmp/")) or path in ("/tmp", "/var/tmp")  # noqa: S108 - nothing is put there


# --- launchd ---


def launchd_plist(job: Job, words: Sequence[str], *, log_file: str) -> str:
    """The property list of an agent of launchd's.  Raises: UsageError for a path that it cannot hold."""
    import plistlib

    command = job.command(*words)
    for text in (*command, job.folder, log_file, *job.environment.values()):
        _check_signs(text, "a property list")
    plist: dict[str, object] = {
        "Label": job.label,
        "ProgramArguments": list(command),
        "WorkingDirectory": job.folder,
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        # launchd cannot tell what would only fail again: it tries that twice a minute.
        "ThrottleInterval": 30,
        "ExitTimeOut": job.stop_seconds,
        "Umask": 0o077,
        "StandardOutPath": log_file,
        "StandardErrorPath": log_file,
    }
    if job.environment:
        plist["EnvironmentVariables"] = dict(job.environment)
    return plistlib.dumps(plist, sort_keys=False).decode()


# --- cron ---


def cron_line(job: Job, words: Sequence[str]) -> str:
    """A line for a crontab that runs `wa` with these words once a minute, and says something only when it fails.

    Raises: UsageError for a path that a crontab cannot hold.
    """
    command = job.command(*words)
    for text in (*command, job.folder, *job.environment.values()):
        _check_signs(text, "a crontab")
        if "\\" in text:  # before a percent sign some crons take it away, and others do not
            raise _unspeakable(text, "a crontab")
    setting = "".join(f"{name}={shlex.quote(value)} " for name, value in job.environment.items())
    line = f'cd {shlex.quote(job.folder)} && out=$({setting}{shlex.join(command)} 2>&1) || echo "$out"'
    return "* * * * * " + line.replace("%", r"\%")  # to a cron, a bare one ends the line


# --- what none of them can say ---


def _check_signs(text: str, place: str) -> None:
    if any(sign < " " or sign == "\x7f" or "\ud800" <= sign <= "\udfff" for sign in text):
        raise _unspeakable(text, place)


def _unspeakable(text: str, place: str) -> UsageError:
    return UsageError(
        f"{place} cannot hold the name {text!r}", hint="rename that file or folder, then try again", code="service_path"
    )
