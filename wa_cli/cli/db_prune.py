"""`wa db prune`: old history leaves the database, and no promise with it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wa_cli.cli.session import Session, format_time, parse_duration_flag, session_of
from wa_cli.errors import Refused, UsageError

if TYPE_CHECKING:
    from wa_cli.bootstrap import App
    from wa_cli.cli.progress import ProgressLine
    from wa_cli.config import Settings
    from wa_cli.domain.pruning import PruneSums


def prune(
    context: typer.Context,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="DURATION", help="How old what goes has to be, such as 180d.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and change nothing.")] = False,
    vacuum: Annotated[
        bool, typer.Option("--vacuum", help="Give the free space back to the disk; nothing may send meanwhile.")
    ] = False,
) -> None:
    """Take old messages that are done with out of the database.

    With them goes whatever belongs to them alone. What waits, what may have been sent, failures that nobody dismissed,
    whatever still keeps anything from being sent twice, people and their consent all stay. A campaign's run goes as a
    whole, and its report is kept. Can be cut short at any moment, and run beside a daemon.

    Example: wa db prune --older-than 180d --dry-run
    """
    session = session_of(context)
    if vacuum and dry_run:
        raise UsageError("--dry-run and --vacuum do not go together", hint="leave one of them away")
    app_ = session.open_app()
    now_ms = app_.clock.wall_ms()
    before_ms = now_ms - _read_age_ms(older_than, session.settings)
    if vacuum:
        _check_alone(app_, now_ms=now_ms)
    if dry_run:
        with _Progress(session, "looked at") as progress:
            sums = app_.pruning.survey(before_ms=before_ms, now_ms=now_ms, on_progress=progress.show)
        _report(session, app_, sums, before_ms, is_dry_run=True)
        return
    if not session.yes:
        _ask(session, app_, before_ms=before_ms, now_ms=now_ms)
    sums = _prune(session, app_, before_ms=before_ms, now_ms=now_ms)
    if vacuum:
        _check_alone(app_, now_ms=app_.clock.wall_ms())
        session.say("writing the file anew without its free space; whoever writes to it waits until that is done")
        app_.pruning.vacuum()
    _report(session, app_, sums, before_ms, is_vacuumed=vacuum, older_than=older_than)


def _read_age_ms(older_than: str, settings: Settings) -> int:
    """Raises: UsageError for less than everything that looks back."""
    from wa_cli.domain.pruning import LEAST_DAYS, least_days

    age_ms = round(parse_duration_flag(older_than, "--older-than") * 1000)
    hours, keys, webhooks = (
        settings.count(name) for name in ("WA_DUPLICATE_WINDOW_HOURS", "WA_KEY_DAYS", "WA_WEBHOOK_DAYS")
    )
    least = least_days(duplicate_window_hours=hours, key_days=keys, webhook_days=webhooks)
    if age_ms < least * 86_400_000:
        why = "limits, keys and late receipts look back"
        if least > LEAST_DAYS:
            why = "WA_DUPLICATE_WINDOW_HOURS, WA_KEY_DAYS or WA_WEBHOOK_DAYS look back"
        raise UsageError(
            f"--older-than {older_than} is too short: {why} further than that",
            hint=f"--older-than {least}d or more",
            code="too_young",
        )
    return age_ms


def _check_alone(app_: App, *, now_ms: int) -> None:
    """Raises: Refused while anybody sends from the database, or is writing much into it."""
    hint = "stop it first, or leave --vacuum away: free space is used again by new messages"
    for instance in app_.instances.list_all():
        holder = app_.leases.find_holder(instance.id, now_ms=now_ms)
        if holder is not None:
            raise Refused(
                f"a {holder.role} (process {holder.pid} on {holder.host}) sends for {instance.name}:"
                " it would have to wait for all of the vacuum",
                hint=hint,
                code="in_use",
            )
    if app_.pruning.is_used_by_others(app_.owner.peek()):
        raise Refused(
            "another process is at work on the database: it would have to wait for all of the vacuum",
            hint=hint,
            code="in_use",
        )


def _ask(session: Session, app_: App, *, before_ms: int, now_ms: int) -> None:
    """Raises: Refused without a yes."""
    from wa_cli.services.status import count

    day = _day(before_ms)
    if not session.can_ask():
        session.confirm(f"prune what is older than {day}?")
    with _Progress(session, "looked at") as progress:
        sums = app_.pruning.survey(before_ms=before_ms, now_ms=now_ms, on_progress=progress.show)
    if sums.message_count:
        session.confirm(f"prune {count(sums.message_count, 'message')} older than {day}? They cannot be brought back")


def _prune(session: Session, app_: App, *, before_ms: int, now_ms: int) -> PruneSums:
    try:
        with _Progress(session, "pruning") as progress:
            return app_.pruning.prune(before_ms=before_ms, now_ms=now_ms, on_progress=progress.show)
    except BaseException:
        session.say("what was pruned so far is pruned as a whole; the same command goes on with the rest")
        raise


class _Progress:
    """A bar for each of the things that are gone through."""

    def __init__(self, session: Session, verb: str) -> None:
        self._session = session
        self._verb = verb
        self._line: ProgressLine | None = None
        self._what = ""

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_raised: object) -> None:
        if self._line is not None:
            self._line.close()

    def show(self, what: str, done: int, total: int) -> None:
        if self._line is None or what != self._what:
            self.__exit__()
            self._line, self._what = self._session.progress(f"{self._verb} {what}", total), what
        self._line.set(done)


def _report(
    session: Session,
    app_: App,
    sums: PruneSums,
    before_ms: int,
    *,
    is_dry_run: bool = False,
    is_vacuumed: bool = False,
    older_than: str = "",
) -> None:
    free, size = app_.pruning.count_free_bytes()
    if session.json:
        session.show_json(
            {
                "dry_run": is_dry_run,
                "before": format_time(before_ms),
                **_sums_document(sums),
                "free_bytes": free,
                "bytes": size,
                "vacuumed": is_vacuumed,
            }
        )
        return
    from wa_cli.domain.pruning import KEPT_WORDS
    from wa_cli.services.status import count

    would = "would go" if is_dry_run else "pruned"
    session.show(f"{count(sums.message_count, 'message')} older than {_day(before_ms)} {would}")
    fields = []
    if sums.messages:
        fields.append(("messages", ", ".join(f"{n:,} {word}" for word, n in sums.messages.items())))
    others = [
        count(n, word)
        for n, word in (
            (sums.attempts, "attempt"),
            (sums.receipts, "receipt"),
            (sums.decisions, "decision"),
            (sums.keys, "key"),
            (sums.batches, "call"),
            (sums.contents, "text"),
            (sums.files, "file"),
        )
        if n
    ]
    if others:
        fields.append(("with them", ", ".join(others)))
    if sums.runs:
        lines = f", without {count(sums.left_out, 'line')} of people left out" if sums.left_out else ""
        kept = "the report of 1 run is kept" if sums.runs == 1 else f"the reports of {sums.runs:,} runs are kept"
        fields.append(("campaigns", f"{kept}{lines}"))
    for place, (reason, words) in enumerate(
        (reason, words) for reason, words in KEPT_WORDS.items() if reason in sums.kept
    ):
        fields.append(("" if place else "stay", f"{sums.kept[reason]:,} {words}"))
    fields.append(("space", f"{_megabytes(free)} of {_megabytes(size)} free for new messages"))
    session.show_fields(fields, indent=2)
    if not sums.has_all_contents:
        session.say("some texts were left for the next time: messages are being queued or planned at this moment")
    if not is_dry_run and not is_vacuumed and free > size // 4:
        session.hint(f"`wa db prune --older-than {older_than} --vacuum` gives the space back while nothing sends")


def _sums_document(sums: PruneSums) -> dict[str, Any]:
    return {
        "messages": sums.message_count,
        "by_state": dict(sums.messages),
        "attempts": sums.attempts,
        "receipts": sums.receipts,
        "decisions": sums.decisions,
        "keys": sums.keys,
        "batches": sums.batches,
        "contents": sums.contents,
        "files": sums.files,
        "runs": sums.runs,
        "left_out": sums.left_out,
        "kept": dict(sums.kept),
        "all_contents": sums.has_all_contents,
    }


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).date().isoformat()


def _megabytes(size: int) -> str:
    return f"{size / 1024**2:,.1f} MB"
