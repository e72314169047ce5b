"""`wa doctor`: everything that can be checked, each finding with its fix, and an exit code that says what to do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from wa_cli.cli.session import Session, clean_text, session_of

if TYPE_CHECKING:
    from wa_cli.config import Settings
    from wa_cli.domain.finding import Finding


def doctor(
    context: typer.Context,
    offline: Annotated[bool, typer.Option("--offline", help="Ask nobody on the network.")] = False,
) -> None:
    """Check everything and say how to mend what is wrong.

    Exits 0 when nothing failed; else 9 (this machine), 2 (settings), 4 (the account) or 8 (try again later), the
    gravest of them.
    """
    from wa_cli.cli.db import finding_document
    from wa_cli.domain.finding import Level, gravest_exit_code

    session = session_of(context)
    findings = _examine(session, online=not offline)
    code = gravest_exit_code(findings)
    if session.json:
        session.show_json(
            {"ok": code == 0, "exit": code, "checks": [finding_document(finding) for finding in findings]}
        )
    else:
        _show_people(session, findings)
        failed = sum(finding.level is Level.FAIL for finding in findings)
        warned = sum(finding.level is Level.WARN for finding in findings)
        session.show()
        session.show(f"{len(findings)} checks: {failed} failed, {warned} warned")
    if code:
        raise typer.Exit(code)


def _examine(session: Session, *, online: bool) -> list[Finding]:
    from wa_cli.accounts import inspect_account
    from wa_cli.bootstrap import inspect_store, sqlite_versions
    from wa_cli.config import load_settings
    from wa_cli.domain.finding import FIX_CALL, Level, fail
    from wa_cli.errors import UsageError
    from wa_cli.services.upkeep import check_settings, check_versions

    present, safe = sqlite_versions()
    findings = check_versions(sys.version_info[:3], present, safe_sqlite=safe)
    problems: list[UsageError] = []
    try:
        settings = load_settings(
            env_file=session.env_file, flags={"WA_DB": session.db} if session.db else None, problems=problems
        )
    except UsageError as error:  # a file that cannot be read is a finding like any other here
        return [*findings, fail("settings", "file", error.message, error.hint, exit_code=FIX_CALL)]
    findings += check_settings(settings, problems)
    stored = inspect_store(settings)
    findings += stored
    is_stored = stored[0].level is not Level.FAIL
    added = _examine_instances(settings, online=online) if is_stored else []
    # Whoever sends through other instances alone lacks nothing without one of the environment's.
    if not added or settings.text("WHATSAPP_API_URL") or settings.text("WHATSAPP_ACCESS_TOKEN"):
        findings += inspect_account(settings, online=online)
    findings += added
    if is_stored:
        findings += _examine_queue(settings)
    return findings


def _examine_instances(settings: Settings, *, online: bool) -> list[Finding]:
    from contextlib import closing

    from wa_cli.bootstrap import open_app
    from wa_cli.domain.finding import fail
    from wa_cli.errors import WaError

    try:
        with closing(open_app(settings, create=False)) as app:
            return app.accounts.inspect(online=online)
    except WaError as error:  # as below
        return [fail("instances", "readable", error.message, error.hint, exit_code=error.exit_code)]


def _examine_queue(settings: Settings) -> list[Finding]:
    from contextlib import closing

    from wa_cli.bootstrap import open_app
    from wa_cli.cli.status import describe_span, read_instance
    from wa_cli.domain.finding import fail
    from wa_cli.errors import WaError
    from wa_cli.services.upkeep import check_queue, check_stored_times, check_webhooks

    try:
        with closing(open_app(settings, create=False)) as app:
            now_ms = app.clock.wall_ms()
            app.bury_dead(now_ms=now_ms)
            instances = [read_instance(app, instance, now_ms=now_ms) for instance in app.instances.list_all()]
            daemon = next((one.holder for one in instances if one.holder and one.holder.role == "daemon"), None)
            words = f"a daemon runs: pid {daemon.pid} on {daemon.host}" if daemon else None
            if daemon and words:
                words += f", for {describe_span(now_ms - daemon.since_ms)}"
            return [
                check_stored_times(app.upkeep.newest_at_ms(), now_ms=now_ms),
                *check_queue(app.messages.read_stats(), instances, now_ms=now_ms, daemon_words=words),
                *check_webhooks(
                    [one.instance for one in instances],
                    settings,
                    waiting=app.webhooks.count_waiting(),
                    unreadable=app.webhooks.count_failed(),
                    last_sent_at_ms=app.upkeep.last_accepted_at_ms(),
                    now_ms=now_ms,
                ),
            ]
    except WaError as error:  # a damaged or busy file: the report goes on
        return [fail("store", "readable", error.message, error.hint, exit_code=error.exit_code)]


def _show_people(session: Session, findings: list[Finding]) -> None:
    import shutil
    import textwrap

    room = min(max(shutil.get_terminal_size((80, 24)).columns, 40), 80) - 8
    group = ""
    for finding in sorted(findings, key=lambda one: [each.group for each in findings].index(one.group)):
        if finding.group != group:
            group = finding.group
            session.show(group)
        lines = textwrap.wrap(clean_text(finding.message), room, break_long_words=False, break_on_hyphens=False)
        session.show(f"  {finding.level:<4}  {lines[0]}")
        for line in lines[1:]:
            session.show(f"        {line}")
        if finding.fix:
            fix = textwrap.wrap(clean_text(finding.fix), room - 3, break_long_words=False, break_on_hyphens=False)
            session.show(f"        -> {fix[0]}")
            for line in fix[1:]:
                session.show(f"           {line}")
