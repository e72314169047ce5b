"""`wa failed`: what failed and why, as a list whose indexes `wa resend` understands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from wa_cli.cli.commands import NOUNS
from wa_cli.cli.message import describe_attempt, format_listed, history_document, open_settled, show_text
from wa_cli.cli.session import clean_json, clean_text, session_of
from wa_cli.errors import UsageError
from wa_cli.services.documents import failed_document, format_local, summarize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO

    from wa_cli.bootstrap import App
    from wa_cli.domain.history import MessageRow

app = typer.Typer(no_args_is_help=True, help=NOUNS["failed"])

PAGE_ROWS: Final = 1_000
# What a terminal shows unasked: more scrolls away unread.  Everything else gets the whole list.
SHOWN_ON_TERMINAL: Final = 200

EXPORT_COLUMNS: Final = (
    "id", "type", "group_id", "recipient", "body", "send_at", "status", "error_code", "error_details",
    "scheduled_time", "subgroup_id", "subgroup", "campaign", "attempts",
    "group_name",
)  # fmt: skip

SubgroupOption = Annotated[str | None, typer.Option("--subgroup", metavar="NAME", help="Only of this subgroup.")]
CampaignOption = Annotated[str | None, typer.Option("--campaign", metavar="NAME", help="Only of this campaign.")]


@app.command("list")
def list_failed(
    context: typer.Context,
    subgroup: SubgroupOption = None,
    campaign: CampaignOption = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many.")] = None,
) -> None:
    """List the failed messages, oldest first.

    The numbers are those that `wa resend 0 1 2` and `wa failed show 0` take.
    """
    session = session_of(context)
    opened = open_settled(session)
    is_cut = limit is None and not session.json and sys.stdout.isatty()
    size = opened.failures.store_printed_list(
        subgroup=subgroup, campaign=campaign, limit=SHOWN_ON_TERMINAL if is_cut else limit
    )
    zone = session.settings.zone()
    entries = _read_entries(opened)
    if session.json:
        _stream_json("failed_messages", (failed_document(row, zone, index=index) for index, row in entries))
        return
    session.show_table(
        ("#", "ID", "TO", "SCHEDULED", "ERROR", "WHY", "TEXT"),
        (
            (
                str(index),
                f"m{row.id}",
                row.address,
                format_listed(row.scheduled_at_ms, zone),
                row.error_code or "-",
                row.error_details or row.reason or "-",
                show_text(row),
            )
            for index, row in entries
        ),
        keep=(0, 1, 2, 3, 4),
    )
    if size == 0:
        session.say("no failed messages")
        return
    total = opened.failures.count_failed(subgroup=subgroup, campaign=campaign) if is_cut else size
    if total > size:
        session.say(f"{total - size} more: --limit {total} shows all")
    session.hint("`wa resend 0` sends one again, `wa resend --all` all; `wa failed show 0` says what to do about it")


@app.command("show")
def show(
    context: typer.Context,
    word: Annotated[str, typer.Argument(metavar="INDEX|ID", help="An index of the printed list, or an id.")],
) -> None:
    """Say what one failure means and how to mend it."""
    from wa_cli.domain.explanation import explain_rule
    from wa_cli.domain.receipt import Standing
    from wa_cli.domain.resend import find_refusal
    from wa_cli.services.resend import resolve_words

    session = session_of(context)
    opened = open_settled(session)
    (message_id,) = resolve_words([word], opened.failures)
    history = opened.messages.read_history(message_id)
    row, zone = history.message, session.settings.zone()
    if row.standing is not Standing.FAILED:
        raise UsageError(
            f"m{row.id} did not fail: it is {row.standing}", hint=f"`wa message explain m{row.id}`", code="not_failed"
        )
    meaning = opened.explain_error(row.error_code) if row.error_code else None
    with opened.failures.resend_turn(is_dry_run=True) as turn:
        candidates = turn.read_candidates([message_id])
    refusal = find_refusal(candidates[0], force=False, now_ms=opened.clock.wall_ms())
    if session.json:
        session.show_json(
            {
                **failed_document(row, zone, index=None),
                "meaning": meaning.message if meaning else None,
                "fix": meaning.hint if meaning else None,
                "resend_refusal": refusal,
                "history": history_document(history)["attempts"],
            }
        )
        return
    session.show(f"m{row.id} failed: {clean_text(row.error_code or row.reason or 'no reason stored')}")
    named = f"{row.address}  {row.group_name}" if row.group_name else row.address
    session.show(f"  to        {clean_text(named)}")
    session.show(f"  says      {clean_text(summarize(row))}")
    session.show(f"  was due   {format_local(row.scheduled_at_ms, zone)}")
    session.show(f"  details   {clean_text(row.error_details or '-')}")
    if meaning is not None:
        session.show(f"  means     {meaning.message}")
        if meaning.hint:
            session.show(f"  fix       {meaning.hint}")
    if row.reason is not None:
        session.show(f"  rule      {clean_text(explain_rule(row.reason))}")
    for attempt in history.attempts:
        session.show(f"  attempt {attempt.n} {clean_text(describe_attempt(history, attempt, zone))}")
    session.hint(f"`wa resend m{row.id}` sends it again" if refusal is None else f"`wa resend` refuses it: {refusal}")


@app.command("export")
def export(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to; without it, stdout.")] = "-",
    format: Annotated[
        str | None, typer.Option("--format", metavar="csv|json", help="csv or json; by the file's name otherwise.")
    ] = None,
    subgroup: SubgroupOption = None,
    campaign: CampaignOption = None,
    raw: Annotated[bool, typer.Option("--raw", help="Without the marks against spreadsheet formulas.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Write the failed messages as CSV or JSON.

    With whole numbers; the file is readable by you alone.
    """
    session = session_of(context)
    chosen = format or ("json" if session.json or file.endswith(".json") else "csv")
    if chosen not in ("csv", "json"):
        raise UsageError(f"there is no format '{chosen}'", hint="--format csv or --format json")
    if session.json and file == "-" and chosen == "csv":
        raise UsageError("the CSV and --json cannot share stdout", hint="name a file, or leave --format csv away")
    opened = open_settled(session)
    opened.failures.count_failed(subgroup=subgroup, campaign=campaign)  # a wrong name stops before a file is made
    documents = (
        failed_document(row, session.settings.zone(), index=None)
        for row in _read_failed(opened, subgroup=subgroup, campaign=campaign)
    )
    if file == "-":
        _export(documents, chosen, sys.stdout, raw=raw)
        return
    from wa_cli.cli.private_file import new_private_file

    with new_private_file(Path(file), force=force) as out:
        count = _export(documents, chosen, out, raw=raw)
    if session.json:
        session.show_json({"file": file, "exported": count})
    else:
        session.show(f"exported {count} failed messages to {clean_text(file)}")


@app.command("dismiss")
def dismiss(
    context: typer.Context,
    words: Annotated[list[str] | None, typer.Argument(metavar="INDEX|ID", help="Which ones.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="The whole list.")] = False,
) -> None:
    """Take failures off the list. They stay failed, in every count and in their history."""
    from wa_cli.domain.message import format_message_id
    from wa_cli.services.resend import resolve_words

    session = session_of(context)
    if bool(words) == everything:
        raise UsageError("say which failures: indexes, ids, or --all", hint="`wa failed list` shows them")
    opened = open_settled(session)
    now_ms = opened.clock.wall_ms()
    refused: list[dict[str, str]] = []
    if words:
        chosen = resolve_words(words, opened.failures)
        rows = opened.messages.find_many(chosen)
        dismissed = set(opened.failures.dismiss(chosen, now_ms=now_ms))
        refused = [
            {"id": format_message_id(row.id), "reason": f"it is {row.standing}, not a failure on the list"}
            for row in rows
            if row.id not in dismissed and row.reason != "dismissed"
        ]
        count = len(dismissed)
    else:
        total = opened.failures.count_failed()
        if total:
            session.confirm(f"dismiss all {total} failures?")
        count = 0
        while page := opened.failures.list_failed(subgroup=None, campaign=None, after_id=0, limit=PAGE_ROWS):
            count += len(opened.failures.dismiss([row.id for row in page], now_ms=now_ms))
    if session.json:
        session.show_json({"dismissed": count, "refused": refused})
    else:
        session.show(f"{count} dismissed")
        for one in refused:
            session.show(f"{one['id']} not dismissed: {one['reason']}")
    if refused:
        raise typer.Exit(3)


def _read_entries(opened: App) -> Iterator[tuple[int, MessageRow]]:
    after = -1
    while page := opened.failures.read_printed_list(after=after, limit=PAGE_ROWS):
        yield from page
        after = page[-1][0]


def _read_failed(opened: App, *, subgroup: str | None, campaign: str | None) -> Iterator[MessageRow]:
    after_id = 0
    while page := opened.failures.list_failed(subgroup=subgroup, campaign=campaign, after_id=after_id, limit=PAGE_ROWS):
        yield from page
        after_id = page[-1].id


def _stream_json(key: str, documents: Iterable[dict[str, Any]], out: TextIO | None = None) -> int:
    """One JSON document with a list under `key` and its length, written as it is read.  Returns the length."""
    stream = out or sys.stdout
    count = 0
    stream.write(f'{{"{key}": [')
    for document in documents:
        stream.write(",\n  " if count else "\n  ")
        stream.write(clean_json(json.dumps(document, ensure_ascii=False)))
        count += 1
    stream.write("\n" if count else "")
    stream.write(f'], "count": {count}}}\n')
    return count


def _export(documents: Iterable[dict[str, Any]], chosen: str, out: TextIO, *, raw: bool) -> int:
    if chosen == "json":
        return _stream_json("failed_messages", documents, out)
    import csv

    from wa_cli.sources.recipients import guard

    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(EXPORT_COLUMNS)
    count = 0
    for document in documents:
        cells = ["" if document[name] is None else str(document[name]) for name in EXPORT_COLUMNS]
        writer.writerow(cells if raw else [guard(cell) for cell in cells])
        count += 1
    return count
