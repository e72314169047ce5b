"""Looking after an installation: the `.env` file that holds its settings, and what `wa doctor` makes of it all."""

from __future__ import annotations

import difflib
import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dotenv.parser import Binding, parse_stream

from wa_cli.config import BY_NAME
from wa_cli.domain.finding import FIX_ACCOUNT, FIX_CALL, FIX_MACHINE, Finding, fail, ok, warn
from wa_cli.errors import StorageError, UsageError
from wa_cli.services.instances import Standing
from wa_cli.services.status import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from wa_cli.config import Settings
    from wa_cli.ports import Instance
    from wa_cli.services.instances import InstanceReport

NEW_ENV: Final = """\
# Settings of wa.  A variable of the environment wins over a line here, a flag over both.
# This file may hold a token: keep it to yourself, and out of version control.
"""
PLAIN_VALUE: Final = re.compile(r"[A-Za-z0-9_./:@%+,=~-]*")
OLDEST_PYTHON: Final = (3, 11)
CLOCK_TOLERANCE_MS: Final = 60_000
STUCK_AFTER_MS: Final = 5 * 60_000
SILENCE_MS: Final = 10 * 60_000  # receipts come within seconds


# --- the .env file ---


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvEdit:
    """A `.env` after an edit.  changed and kept: names, in the order they were given; kept ones had that value."""

    text: str
    changed: tuple[str, ...]
    kept: tuple[str, ...]


def edit_env(text: str, values: Mapping[str, str]) -> EnvEdit:
    """The text of a `.env` with these settings in it; every other line stays as it is.

    A name that stands there several times is changed where it counts, the last time.
    """
    pieces = [(binding.key, binding.value, binding.original.string) for binding in _read_bindings(text)]
    changed, kept = [], []
    for name, value in values.items():
        places = [place for place, (key, _value, _line) in enumerate(pieces) if key == name]
        line = f"{name}={_quote(value)}\n"
        if places and pieces[places[-1]][1] == value:
            kept.append(name)
            continue
        changed.append(name)
        if places:
            before = pieces[places[-1]][2]
            pieces[places[-1]] = (name, value, before[: len(before) - len(before.lstrip())] + line)
        else:
            if pieces and not pieces[-1][2].endswith("\n"):
                key, old, last = pieces[-1]
                pieces[-1] = (key, old, last + "\n")
            pieces.append((name, value, line))
    return EnvEdit(text="".join(piece for _key, _value, piece in pieces), changed=tuple(changed), kept=tuple(kept))


def _read_bindings(text: str) -> Iterable[Binding]:
    from io import StringIO

    return list(parse_stream(StringIO(text)))


def _quote(value: str) -> str:
    if PLAIN_VALUE.fullmatch(value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def read_env_text(path: Path) -> str:
    """What the file holds, or the opening lines of a new one.  Raises: UsageError for what cannot be edited."""
    if path.is_symlink():
        raise UsageError(
            f"{path} is a link to {path.readlink()}", hint="give --env-file the file itself", code="env_file"
        )
    if path.is_dir():
        raise UsageError(f"{path} is a folder", hint=f"--env-file {path / '.env'}", code="env_file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return NEW_ENV
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint="save it as UTF-8 text", code="env_file") from error


def write_env(path: Path, text: str) -> None:
    """Put the text under that name at once, readable by its owner alone.  Raises: StorageError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.new")
    try:
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror}", hint="choose another with --env-file"
        ) from error
    finally:
        with suppress(OSError):
            draft.unlink()


def find_duplicates(text: str) -> list[str]:
    """The names that a `.env` sets more than once."""
    seen: set[str] = set()
    twice: list[str] = []
    for binding in _read_bindings(text):
        if binding.key is not None:
            if binding.key in seen and binding.key not in twice:
                twice.append(binding.key)
            seen.add(binding.key)
    return twice


def find_broken_lines(text: str) -> list[int]:
    """The numbers of the lines of a `.env` that say nothing."""
    return [
        binding.original.line
        for binding in _read_bindings(text)
        if binding.error or (binding.key and binding.value is None)
    ]


def suggest_setting(name: str) -> str | None:
    """The setting that was probably meant, or None."""
    matches = difflib.get_close_matches(name.upper(), BY_NAME, n=1, cutoff=0.75)
    return matches[0] if matches else None


def mask_secret(value: str) -> str:
    """Enough of a secret to tell two apart: its last four signs if it is long, nothing of a short one."""
    return "" if not value else f"••••{value[-4:]}" if len(value) >= 16 else "••••"


# --- what the doctor finds ---


def check_versions(python: Sequence[int], sqlite: Sequence[int], *, safe_sqlite: Sequence[int]) -> list[Finding]:
    """safe_sqlite: the first version without the race between two processes that fold the log in."""
    findings = []
    words = ".".join(map(str, python[:3]))
    if tuple(python[:2]) < OLDEST_PYTHON:
        findings.append(fail("versions", "python", f"Python {words} is too old", "install 3.11", exit_code=FIX_MACHINE))
    else:
        findings.append(ok("versions", "python", f"Python {words}"))
    words, wanted = ".".join(map(str, sqlite)), ".".join(map(str, safe_sqlite))
    if tuple(sqlite) < tuple(safe_sqlite):
        message = f"SQLite {words}: before {wanted} two programs that write at once can, very rarely, damage the file"
        fix = f"use a Python with SQLite {wanted} or newer; until then let one `wa` at a time send, and keep backups"
        findings.append(warn("versions", "sqlite", message, fix))
    else:
        findings.append(ok("versions", "sqlite", f"SQLite {words}"))
    return findings


def check_settings(settings: Settings, problems: Sequence[UsageError]) -> list[Finding]:
    """problems: the values that do not fit their settings, as `load_settings` collected them."""
    findings = [fail("settings", "value", one.message, one.hint, exit_code=FIX_CALL) for one in problems]
    for name in settings.unknown:
        meant = suggest_setting(name)
        message = f"{name} in {settings.env_file} is not a setting of wa"
        if meant:  # a slip of the pen: the setting that was meant is not in force
            findings.append(fail("settings", "unknown", message, f"did you mean {meant}?", exit_code=FIX_CALL))
        else:
            findings.append(warn("settings", "unknown", message, "`wa config show` lists all settings"))
    if settings.env_file is not None:
        findings += _check_env_file(settings.env_file)
    try:
        findings.append(ok("settings", "zone", f"times are read and shown in {settings.zone()}"))
    except UsageError as error:
        findings.append(fail("settings", "zone", error.message, error.hint, exit_code=FIX_CALL))
    for folder in settings.media_roots():
        if folder.is_dir():
            findings.append(ok("settings", "media", f"local files may be sent from {folder}"))
        else:
            message = f"WA_MEDIA_ROOTS names {folder}, which is no folder"
            findings.append(warn("settings", "media", message, "correct it, or make that folder"))
    region = settings.default_region()
    if region:
        findings.append(ok("settings", "region", f"numbers without + are read as numbers of {region}"))
    else:
        message = "numbers without + are refused, since no country is set for them"
        findings.append(warn("settings", "region", message, "wa init --region SG   (your country's two letters)"))
    return findings


def _check_env_file(path: Path) -> list[Finding]:
    findings = []
    try:
        text = read_env_text(path)
        mode = path.stat().st_mode & 0o777
    except (UsageError, OSError):
        return [ok("settings", "file", f"{path} is read")]  # a link: its reader has followed it
    holds_secret = any(
        binding.value and binding.key and binding.key in BY_NAME and BY_NAME[binding.key].is_secret
        for binding in _read_bindings(text)
    )
    if os.name != "nt" and mode & 0o077 and holds_secret:
        message = f"{path} holds a secret that others on this computer can read"
        findings.append(fail("settings", "modes", message, f"chmod 600 {path}", exit_code=FIX_CALL))
    else:
        findings.append(ok("settings", "file", f"{path} is read" + (", by you alone" if not mode & 0o077 else "")))
    for name in find_duplicates(text):
        message = f"{name} stands several times in {path}; the last one counts"
        findings.append(warn("settings", "duplicate", message, "delete the others"))
    for line in find_broken_lines(text):
        message = f"line {line} of {path} says nothing"
        findings.append(fail("settings", "line", message, "write it as NAME=value", exit_code=FIX_CALL))
    return findings


def check_stored_times(newest_at_ms: int | None, *, now_ms: int) -> Finding:
    """Whether this computer's clock is behind what the file has recorded already.  Source: fault 32."""
    if newest_at_ms is not None and newest_at_ms > now_ms + CLOCK_TOLERANCE_MS:
        minutes = (newest_at_ms - now_ms) // 60_000
        message = f"this computer's clock is {minutes} min behind the newest entry of the database"
        return fail("clock", "stored", message, "set the clock before sending", exit_code=FIX_MACHINE)
    return ok("clock", "stored", "nothing in the database is from the future")


def check_queue(
    stats: Mapping[str, int], instances: Sequence[InstanceReport], *, now_ms: int, daemon_words: str | None
) -> list[Finding]:
    """daemon_words: who runs, for people; None when no daemon does."""
    waiting = sum(report.waiting for report in instances)
    findings = []
    if daemon_words:
        findings.append(ok("daemon", "running", daemon_words))
    elif waiting:
        message = f"no daemon runs, with {count(waiting, 'message')} waiting"
        findings.append(warn("daemon", "running", message, "wa run   (or from cron: wa drain --max-runtime 50s)"))
    else:
        findings.append(ok("daemon", "running", "no daemon runs, and nothing waits for one"))
    for report in instances:
        findings.append(_check_instance(report, now_ms=now_ms))
    unknown = stats.get("unknown", 0)
    if unknown:
        message = f"the outcome of {count(unknown, 'message')} cannot be known"
        findings.append(warn("queue", "unknown", message, "wa reconcile"))
    else:
        findings.append(ok("queue", "unknown", "no message has an unknown outcome"))
    return findings


def check_webhooks(
    instances: Sequence[Instance],
    settings: Settings,
    *,
    waiting: int,
    unreadable: int,
    last_sent_at_ms: int | None,
    now_ms: int,
) -> list[Finding]:
    """What can be said of the way back.  waiting: webhooks that are kept and not read yet.

    last_sent_at_ms: when a message was accepted last, or None.
    """
    last_ms = max((one.last_webhook_at_ms or 0 for one in instances), default=0)
    is_signed = bool(settings.text("WHATSAPP_APP_SECRET"))
    findings = []
    if not last_ms and not is_signed:
        message = "no webhooks come: deliveries and STOP are not seen, and unknowns do not settle by themselves"
        findings.append(ok("webhooks", "arrival", message))
    elif not last_ms:
        message = "WHATSAPP_APP_SECRET is set, and no webhook has come yet"
        fix = "wa serve, and in Meta's app settings the address https://YOUR.HOST/api/webhooks/whatsapp/status"
        findings.append(warn("webhooks", "arrival", message, fix))
    elif not is_signed and settings.text("WA_UNSIGNED_WEBHOOKS") == "refuse":
        message = "webhooks came once, and are refused now: WHATSAPP_APP_SECRET is not set"
        findings.append(warn("webhooks", "arrival", message, "set it to the app's secret, then start wa serve again"))
    elif last_sent_at_ms is not None and min(last_sent_at_ms, now_ms - SILENCE_MS) > last_ms + SILENCE_MS:
        message = f"messages were sent, and no webhook has come for {(now_ms - last_ms) // 60_000} min"
        findings.append(warn("webhooks", "arrival", message, "is wa serve running, and can Meta reach it?"))
    else:
        findings.append(ok("webhooks", "arrival", "webhooks come"))
    if waiting:
        message = f"{count(waiting, 'webhook')} kept and not read yet"
        findings.append(warn("webhooks", "reading", message, "wa serve reads them, wa run does as well"))
    if unreadable:
        message = f"{count(unreadable, 'webhook')} could not be read"
        findings.append(warn("webhooks", "reading", message, "wa webhook list --status failed"))
    return findings


def _check_instance(report: InstanceReport, *, now_ms: int) -> Finding:
    name = report.instance.name
    overdue_ms = now_ms - report.next_due_at_ms if report.next_due_at_ms is not None else 0
    if report.standing is Standing.PAUSED and report.instance.paused_by != "person":
        message = f"{name} was stopped: {report.reason}"
        return fail("queue", "paused", message, f"mend that, then: wa instance resume {name}", exit_code=FIX_ACCOUNT)
    if report.standing is Standing.PAUSED:
        return warn("queue", "paused", f"{name} is paused: {report.reason}", f"wa instance resume {name}")
    if report.standing is Standing.RESTING:
        seconds = (report.instance.rests_until_ms - now_ms) // 1000
        return warn("queue", "resting", f"{name} rests for {seconds} s more: {report.reason}", "it goes on by itself")
    if overdue_ms > STUCK_AFTER_MS and report.holder is not None:
        message = (
            f"a message of {name} is {overdue_ms // 60_000} min overdue although process {report.holder.pid} sends"
        )
        return warn("queue", "overdue", message, "wa status   (a limit or an earlier outage may explain it)")
    if overdue_ms > STUCK_AFTER_MS:
        message = f"a message of {name} is {overdue_ms // 60_000} min overdue and nobody sends"
        return warn("queue", "overdue", message, "wa run   (or from cron: wa drain --max-runtime 50s)")
    return ok("queue", "overdue", f"nothing of {name} is overdue")
