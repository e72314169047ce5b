"""`wa db`: where the database is, whether it is sound, a copy of it, and less of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wa_cli.cli.commands import NOUNS
from wa_cli.cli.db_prune import prune
from wa_cli.cli.session import Session, clean_text, format_time, session_of

if TYPE_CHECKING:
    from wa_cli.domain.finding import Finding

app = typer.Typer(no_args_is_help=True, help=NOUNS["db"])


@app.command("path")
def show_path(context: typer.Context) -> None:
    """Print where the database is, or would be."""
    session = session_of(context)
    path = session.settings.database_path()
    if session.json:
        session.show_json({"path": str(path), "exists": path.exists()})
    else:
        session.show(str(path))


@app.command("migrate")
def migrate(context: typer.Context) -> None:
    """Bring the database to the schema of this wa. Any other command does it too."""
    from wa_cli.bootstrap import read_schema_version

    session = session_of(context)
    path = session.settings.database_path()
    before = read_schema_version(path)
    after = session.open_app().upkeep.read_schema_version()
    if session.json:
        session.show_json({"path": str(path), "from": before, "to": after, "migrated": before != after})
    elif before == after:
        session.show(f"{path} is at schema {after} already")
    else:
        session.show(f"{path} went from schema {before} to {after}")


@app.command("check")
def check(context: typer.Context) -> None:
    """Look at every page, every reference and every state. Exits 9 when something is wrong."""
    from wa_cli.domain.finding import gravest_exit_code

    session = session_of(context)
    app_ = session.open_app()
    now_ms = app_.clock.wall_ms()
    findings = []
    for finding in app_.upkeep.check(
        is_held=lambda instance_id: app_.leases.find_holder(instance_id, now_ms=now_ms) is not None
    ):
        findings.append(finding)
        if not session.json:
            _show_finding(session, finding)
    code = gravest_exit_code(findings)
    if session.json:
        session.show_json(
            {
                "ok": code == 0,
                "path": str(app_.database.path),
                "checks": [finding_document(finding) for finding in findings],
            }
        )
    if code:
        raise typer.Exit(code)


def _show_finding(session: Session, finding: Finding) -> None:
    session.show(f"{finding.level:<4}  {clean_text(finding.message)}")
    if finding.fix:
        session.show(f"      -> {clean_text(finding.fix)}")


def finding_document(finding: Finding) -> dict[str, str | None]:
    """One finding in JSON, as `wa db check` and `wa doctor` show it."""
    return {
        "group": finding.group,
        "name": finding.name,
        "level": finding.level.value,
        "message": finding.message,
        "fix": finding.fix,
    }


@app.command("backup")
def backup(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The copy; default: wa-backup-DATE.db beside the database.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file of that name.")] = False,
) -> None:
    """Copy the database to FILE, whole and checked, while wa goes on. Never copy it with cp.

    Local files that its messages carry are copied into FILE.media beside it.
    """
    from datetime import datetime

    from wa_cli.bootstrap import back_up
    from wa_cli.services.status import count

    session = session_of(context)
    app_ = session.open_app()
    at_ms = app_.clock.wall_ms()
    if file is None:
        moment = datetime.fromtimestamp(at_ms / 1000, session.settings.zone())
        file = app_.database.path.with_name(f"wa-backup-{moment:%Y%m%d-%H%M%S}.db")
    size = back_up(app_.database, file, force=force)
    folder = file.absolute().with_name(f"{file.name}.media")
    files = app_.media.copy_to(folder)
    if session.json:
        document = {"path": str(file.absolute()), "bytes": size, "taken_at": format_time(at_ms)}
        session.show_json({**document, "media_folder": str(folder) if files else None, "media_files": files})
        return
    session.show(str(file.absolute()))
    session.say(f"{size / 1024**2:.1f} MB, complete and checked")
    if files:
        session.say(f"{count(files, 'file')} of its messages in {folder}; the two belong together")
    waiting = app_.messages.read_stats()["queued"]
    if waiting:
        session.say(
            f"{count(waiting, 'message')} waiting in the copy too: before sending from it, cancel what has left since"
        )


app.command("prune")(prune)
