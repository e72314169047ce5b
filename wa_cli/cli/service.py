"""`wa service`: what keeps `wa run` alive when nobody is there, as a unit of systemd or launchd, or a line for cron."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from wa_cli.cli.commands import NOUNS
from wa_cli.cli.session import Session, session_of
from wa_cli.domain.unit import SYSTEMD_MARK, Job, Kind, check_name, check_user, cron_line, launchd_plist, systemd_unit
from wa_cli.errors import StorageError, UsageError

if TYPE_CHECKING:
    from wa_cli.config import Settings

app = typer.Typer(no_args_is_help=True, help=NOUNS["service"])

SYSTEM_UNITS: Final = Path("/etc/systemd/system")
# What a shell may say beside the settings, and a service would not know.
CARRIED: Final = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "TZ")
# Beside the posts in flight, which take as long as the read time-out: recording them, giving leases back, closing.
STOP_SECONDS: Final = 30

NameOption = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="wa-NAME instead of wa: one for each database.")
]
SystemOption = Annotated[
    bool, typer.Option("--system", help="Of the whole system, from its start on, instead of your own.")
]
KindOption = Annotated[
    Kind | None, typer.Option("--kind", metavar="systemd|launchd", help="By default the one of this system.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a unit belongs, and how its keeper is steered.  systemctl: with what chooses the systemd."""

    kind: Kind
    path: Path
    systemctl: str


@app.command("install")
def install(
    context: typer.Context,
    write: Annotated[bool, typer.Option("--write", help="Write it where it belongs instead of printing it.")] = False,
    name: NameOption = None,
    system: SystemOption = False,
    user: Annotated[
        str | None, typer.Option("--user", metavar="NAME", help="With --system: whom it runs as. [default: you]")
    ] = None,
    kind: KindOption = None,
    serve: Annotated[bool, typer.Option("--serve", help="wa run --serve: webhooks and the HTTP API, too.")] = False,
    host: Annotated[str | None, typer.Option("--host", metavar="ADDRESS", help="With --serve.")] = None,
    port: Annotated[int | None, typer.Option("--port", metavar="N", min=0, max=65535, help="With --serve.")] = None,
) -> None:
    """Print the unit that keeps `wa run` alive, or write it.

    It holds the paths of this wa, its database and its .env, and no secret: those stay in the .env.

    Example: wa service install --serve --write
    """
    session = session_of(context)
    if not serve and (host is not None or port is not None):
        raise UsageError("--host and --port are about the server", hint="add --serve")
    if user is not None and not system:
        raise UsageError("a service of your own runs as you", hint="add --system to name another user")
    words = ["run", *(["--serve"] if serve else [])]
    words += ["--host", host] if host is not None else []
    words += ["--port", str(port)] if port is not None else []
    place = _find_place(kind, name, is_system=system)
    job = _describe_job(session, name, serves=serve)
    if place.kind is Kind.LAUNCHD:
        text = launchd_plist(job, words, log_file=str(Path.home() / "Library" / "Logs" / f"{job.title}.log"))
    elif system:
        runs_as = _find_user(user)
        text = systemd_unit(job, words, user=runs_as)
        _warn_of_owner(session, job, runs_as)
    else:
        text = systemd_unit(job, words, user=None)
    outcome = _write(session, place.path, text, is_system=system) if write else "printed"
    steps = _steps_after_install(place, job, outcome, is_system=system)
    lacking = _find_lacking(session)
    if session.json:
        session.show_json(
            {
                "kind": place.kind.value,
                "name": job.title,
                "path": str(place.path),
                "outcome": outcome,
                "command": list(job.command(*words)),
                "working_directory": job.folder,
                "database": job.database,
                "env_file": job.env_file,
                "lacking": lacking,
                "content": text,
                "next": steps,
            }
        )
    elif write:
        session.show(f"{outcome} {place.path}")
    else:
        sys.stdout.write(text)
    _warn_of_lacking(session, job, lacking)
    if not session.json:
        if not write:
            session.say(f"put it into {place.path}: the same line with --write does")
        session.say("then:")
        for step in steps:
            session.say(f"  {step}")


@app.command("uninstall")
def uninstall(
    context: typer.Context, name: NameOption = None, system: SystemOption = False, kind: KindOption = None
) -> None:
    """Remove what `install --write` has written.

    It stops nothing; it says how to.
    """
    session = session_of(context)
    place = _find_place(kind, name, is_system=system)
    path = place.path
    if is_there := path.is_symlink() or path.exists():
        if not _is_ours(path, place.kind):
            session.confirm(f"{path} was not written by `wa service install`; remove it all the same?")
        try:
            path.unlink()
            # What `systemctl enable` has made: it would complain of a name that leads nowhere.
            for folder in path.parent.glob("*.wants"):
                if (link := folder / path.name).is_symlink():
                    link.unlink()
        except OSError as error:
            raise _cannot(path, "removed", error) from error
    steps = []
    if is_there and place.kind is Kind.SYSTEMD:
        steps = [f"{place.systemctl} stop {path.name}", f"{place.systemctl} daemon-reload"]
    elif is_there:
        steps = [f"launchctl bootout gui/$(id -u)/{path.stem}"]
    if session.json:
        session.show_json({"kind": place.kind.value, "path": str(path), "removed": is_there, "next": steps})
        return
    session.show(f"removed {path}" if is_there else f"there is no {path}")
    if steps:
        session.say("if it runs, stop it:")
        for step in steps:
            session.say(f"  {step}")


@app.command("cron")
def cron(context: typer.Context) -> None:
    """Print the crontab line that does without a daemon.

    It drains the queue once a minute, with the paths of this wa, its database and its .env.
    It says nothing while all goes well; what a drain says when its exit code is not 0, cron sends you by mail.
    """
    session = session_of(context)
    job = _describe_job(session, None, serves=False)
    line = cron_line(job, ["drain", "--max-runtime", "50s"])
    lacking = _find_lacking(session)
    if session.json:
        session.show_json({"line": line, "lacking": lacking, "next": ["crontab -e"]})
    else:
        session.show(line)
    _warn_of_lacking(session, job, lacking)
    if not session.json:
        session.hint("`crontab -e` opens the table that this line belongs into")


# --- what is in force here ---


def _describe_job(session: Session, name: str | None, *, serves: bool) -> Job:
    """This wa, on the database that there is.  Raises: NotFound when there is none."""
    opened = session.open_app()
    settings = session.settings
    database = _fix(opened.database.path)
    folders = dict.fromkeys((database.parent, database.resolve().parent))
    in_flight = settings.count("WA_READ_TIMEOUT_MS") / 1000
    if serves:
        from wa_cli.web.server import GRACE_SECONDS

        in_flight = max(in_flight, GRACE_SECONDS)
    return Job(
        name=check_name(name) if name is not None else None,
        program=_find_program(),
        folder=str(Path.cwd()),
        database=str(database),
        env_file=str(_fix(settings.env_file)) if settings.env_file is not None else None,
        writable=tuple(map(str, folders)),
        environment=_find_environment(),
        stop_seconds=int(in_flight) + 1 + STOP_SECONDS,
    )


def _fix(path: Path) -> Path:
    """The path for whoever stands elsewhere.  Its own name stays, also where it is a link to something else."""
    return path.parent.resolve() / path.name


def _find_program() -> tuple[str, ...]:
    """What runs this wa: the script that was called, or this Python with the module."""
    script = Path(sys.argv[0])
    if script.name == "wa" and script.is_file() and os.access(script, os.X_OK):
        return (str(_fix(script)),)
    return (sys.executable, "-m", "wa_cli")


def _find_environment() -> dict[str, str]:
    """What else of this shell `wa` needs.  A proxy's password is a secret: that one is left out."""
    import wa_cli

    found = {}
    for name in (*CARRIED, *map(str.lower, CARRIED)):
        value = os.environ.get(name, "")
        if value and not _holds_password(name, value):
            found[name] = value
    root = Path(wa_cli.__file__).resolve().parents[1]
    if any(part and Path(part).resolve() == root for part in os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        found["PYTHONPATH"] = str(root)
    return found


def _holds_password(name: str, value: str) -> bool:
    return name.lower() in ("http_proxy", "https_proxy") and "@" in value


def _find_lacking(session: Session) -> list[str]:
    """Names of what this shell sets and the service would not see, and of what nobody has set and it cannot do
    without."""
    settings, opened = session.settings, session.open_app()
    bare = _read_bare_settings(session)
    there = replace(opened, settings=bare)  # the same database, with the settings that the service will have
    names = [one for one, origin in settings.origins.items() if origin.source == "environment" and one != "WA_DB"]
    instances = opened.instances.list_all()
    for instance in instances:
        names += [one for one in instance.secrets.values() if settings.variable(one) and not bare.variable(one)]
    missing = [there.accounts.find_missing(instance) for instance in instances]
    if all(missing):
        names += missing[0]
    names += [name for name in os.environ if _holds_password(name, os.environ[name])]
    return list(dict.fromkeys(names))


def _read_bare_settings(session: Session) -> Settings:
    from wa_cli.config import load_settings

    settings = session.settings
    flags = {"WA_DB": str(settings.database_path())}
    return load_settings({}, env_file=settings.env_file, flags=flags, problems=[])


def _warn_of_lacking(session: Session, job: Job, lacking: list[str]) -> None:
    if not lacking:
        return
    file = job.env_file or str(Path(job.folder) / ".env")
    session.warn(f"the service would not know {', '.join(lacking)}")
    proxies = [name for name in lacking if "proxy" in name.lower()]
    if len(proxies) < len(lacking):
        session.hint(f"set that in {file}: the service sees nothing that this shell alone sets")
    if proxies:
        session.hint(f"{' and '.join(proxies)} may hold a password, so it is not in the unit: add it there yourself")


def _find_user(name: str | None) -> str:
    """Whom a service of the system runs as.  Raises: UsageError when nobody is called so, or nobody was named."""
    import pwd

    if name is None:
        if os.getuid() == 0 and not os.environ.get("SUDO_USER"):
            raise UsageError("a service needs no root", hint="--user NAME says whom it runs as", code="no_user")
        name = os.environ.get("SUDO_USER") if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    try:
        pwd.getpwnam(check_user(name or ""))
    except KeyError:
        raise UsageError(f"there is no user '{name}' here", hint="--user NAME", code="no_user") from None
    return name or ""


def _warn_of_owner(session: Session, job: Job, user: str) -> None:
    import pwd

    uid = pwd.getpwnam(user).pw_uid
    if uid not in (0, Path(job.database).stat().st_uid):
        session.warn(f"{user} does not own {job.database}, and could write nothing to it")
        session.hint("--user names another user, --db another database")


# --- where it belongs ---


def _find_place(kind: Kind | None, name: str | None, *, is_system: bool) -> Place:
    if kind is None and sys.platform not in ("linux", "darwin"):
        raise UsageError(
            "neither systemd nor launchd runs on this system", hint="--kind systemd prints one for another"
        )
    kind = kind or (Kind.LAUNCHD if sys.platform == "darwin" else Kind.SYSTEMD)
    named = Job(
        name=check_name(name) if name else None, program=(), folder="", database="", env_file=None, writable=()
    ).file_name(kind)
    if kind is Kind.LAUNCHD:
        if is_system:
            raise UsageError("launchd runs it as you", hint="leave --system out")
        return Place(kind=kind, path=Path.home() / "Library" / "LaunchAgents" / named, systemctl="")
    if is_system:
        return Place(kind=kind, path=SYSTEM_UNITS / named, systemctl="sudo systemctl")
    return Place(kind=kind, path=Path.home() / ".config" / "systemd" / "user" / named, systemctl="systemctl --user")


def _is_ours(path: Path, kind: Kind) -> bool:
    """Whether `install --write` has written it.  What cannot be read is not ours."""
    with suppress(OSError, UnicodeDecodeError):
        text = path.read_text(encoding="utf-8")
        return text.startswith(SYSTEMD_MARK) if kind is Kind.SYSTEMD else f"<string>{path.stem}</string>" in text
    return False


def _write(session: Session, path: Path, text: str, *, is_system: bool) -> str:
    """Put the unit there.  Returns what was done: created, replaced, or kept when it was so already.

    Raises: Refused when another file is there and nobody says that it may go; StorageError.
    """
    from wa_cli.cli.private_file import new_private_file

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        old = path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
    except OSError as error:
        raise _cannot(path, "written", error) from error
    if old == text:
        return "kept"
    if old is not None:
        _show_difference(session, path, old, text)
        session.confirm(f"replace {path}?")
    if not os.access(path.parent, os.W_OK):
        raise StorageError(
            f"{path} cannot be written by you",
            hint=f"leave --write out and add `| sudo tee {path}`" if is_system else "check who owns its folder",
            code="file_not_written",
        )
    with new_private_file(path, force=old is not None) as file:
        file.write(text)
    if is_system:  # it holds no secret, and systemd's own tools want to read it
        path.chmod(0o644)
    return "created" if old is None else "replaced"


def _show_difference(session: Session, path: Path, old: str, new: str) -> None:
    import difflib

    session.say(f"there is another {path}; - is there, + would come:")
    for line in list(difflib.unified_diff(old.split("\n"), new.split("\n"), n=0, lineterm=""))[2:]:
        if not line.startswith("@@"):
            session.say(f"  {line}")


def _cannot(path: Path, done: str, error: OSError) -> StorageError:
    return StorageError(
        f"{path} cannot be {done}: {error.strerror}", hint="check its folder and who owns it", code="file_not_written"
    )


def _steps_after_install(place: Place, job: Job, outcome: str, *, is_system: bool) -> list[str]:
    """What to type, in this order."""
    if place.kind is Kind.LAUNCHD:
        again = [f"launchctl bootout gui/$(id -u)/{job.label}"] if outcome == "replaced" else []
        return [*again, f"launchctl bootstrap gui/$(id -u) {_quote(place.path)}"]
    unit = place.path.name
    steps = [f"{place.systemctl} daemon-reload", f"{place.systemctl} enable --now {unit}"]
    if outcome == "replaced":
        steps.append(f"{place.systemctl} restart {unit}")
    if not is_system:
        steps.append("loginctl enable-linger   (so that it runs while you are not logged in)")
    return steps


def _quote(path: Path) -> str:
    import shlex

    return shlex.quote(str(path))
