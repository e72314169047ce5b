"""`wa campaign report` and `wa campaign export`: what a campaign came to, and its ledger with one row a person."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from wa_cli.cli.campaign_lines import (
    describe_nothing,
    failure_lines,
    funnel_lines,
    head_lines,
    ledger_lines,
    series_lines,
    style_of,
    wrap_line,
)
from wa_cli.cli.campaign_view import (
    NameArgument,
    RunOption,
    View,
    figures_document,
    find_campaign,
    read_view,
    run_document,
)
from wa_cli.cli.plots import Style, draw_bar, format_share
from wa_cli.cli.session import clean_text, format_time, session_of
from wa_cli.cli.status import describe_span
from wa_cli.domain.campaign import CampaignState
from wa_cli.domain.message import format_message_id
from wa_cli.domain.report import ACCEPTED, ARRIVED, Bucket, Part, ReadTimes, keep_largest, share_of
from wa_cli.errors import NotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TextIO
    from zoneinfo import ZoneInfo

    from wa_cli.cli.session import Session
    from wa_cli.domain.campaign import Campaign
    from wa_cli.domain.report import RunDetails
    from wa_cli.store.sqlite.reports import LedgerLine

LEDGER_COLUMNS: Final = (
    "recipient", "state", "reason", "details", "variant", "instance", "due_at", "sent_at", "delivered_at", "read_at",
    "error_code", "replied_at", "clicked_at", "opted_out_at", "attempts", "message_id",
    "group_name",
)  # fmt: skip
MANY: Final = 200_000  # a look at so many takes seconds
REPORT_COLUMNS: Final = ("section", "name", "measure", "value")


def report(
    context: typer.Context,
    name: NameArgument,
    run: RunOption = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write one page that needs nothing else.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="The figures as CSV on stdout.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Report what a campaign came to, here or as one HTML page.

    Funnel, sends over time, time to read, failures by reason, and by variant, country and instance.
    """
    session = session_of(context)
    if as_csv and (session.json or html is not None):
        raise UsageError("--csv stands alone", hint="choose one of --csv, --json and --html FILE")
    view = _read_deep(session, name, run)
    if html is not None:
        _write_page(session, view, html, force=force)
    elif session.json:
        session.show_json(report_document(view))
    elif as_csv:
        _write_csv(report_rows(view), sys.stdout)
    else:
        for line in report_lines(view, session.settings.zone(), style_of(session)):
            session.show(line)


def export(
    context: typer.Context,
    name: NameArgument,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to; without it, or with -, stdout.")] = "-",
    run: RunOption = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="csv|jsonl|toml", help="By the file's name otherwise; toml is the campaign's file."
        ),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Without the marks against spreadsheet formulas.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Write the ledger as CSV or JSON Lines: one row a person.

    Those who were left out are in it with their reason. With whole numbers; the file is readable by you alone.
    As toml it is the campaign file, in the words in which it was taken in or sent last.
    """
    session = session_of(context)
    is_lines = file.endswith((".jsonl", ".ndjson", ".json")) or (session.json and file == "-")
    chosen = format or ("jsonl" if is_lines else "toml" if file.endswith(".toml") else "csv")
    if chosen not in ("csv", "jsonl", "toml"):
        raise UsageError(f"there is no format '{chosen}'", hint="--format csv, jsonl or toml")
    if chosen == "toml":
        _export_file(session, find_campaign(session.open_app(), name), file, force=force)
        return
    if session.json and file == "-" and chosen == "csv":
        raise UsageError("the CSV and --json cannot share stdout", hint="name a file, or leave --format csv away")
    app = session.open_app()
    app.bury_dead(now_ms=app.clock.wall_ms())
    campaign = find_campaign(app, name)
    found = app.reports.find_run(campaign, run)
    if found is None:
        raise _nothing_sent(campaign)
    documents = map(ledger_document, app.reports.read_ledger(found))
    if file == "-":
        _export(documents, chosen, sys.stdout, raw=raw)
        return
    from wa_cli.cli.private_file import new_private_file

    with new_private_file(Path(file), force=force) as out:
        count = _export(documents, chosen, out, raw=raw)
    if session.json:
        session.show_json({"file": file, "exported": count})
    else:
        session.show(f"exported {count:,} of {clean_text(campaign.name)} to {clean_text(file)}")


def _export_file(session: Session, campaign: Campaign, file: str, *, force: bool) -> None:
    """The campaign file as it was taken in: it is kept, whatever has become of the one on the disk."""
    if file == "-":
        if session.json:
            session.show_json({"campaign": campaign.name, "file": campaign.path, "text": campaign.source})
        else:
            sys.stdout.write(campaign.source)
        return
    from wa_cli.cli.private_file import new_private_file

    with new_private_file(Path(file), force=force) as out:
        out.write(campaign.source)
    if session.json:
        session.show_json({"file": file, "campaign": campaign.name})
    else:
        session.show(f"wrote the file of campaign {clean_text(campaign.name)} to {clean_text(file)}")


def _read_deep(session: Session, name: str, run: str | None) -> View:
    app = session.open_app()
    found = app.reports.find_run(find_campaign(app, name), run)
    if found is not None and found.first_message_id is not None and found.last_message_id is not None:
        size = found.last_message_id - found.first_message_id + 1
        if size >= MANY:
            session.say(f"looking at each of {size:,} messages")
    view = read_view(session, name, run, is_deep=True)
    if view.figures is None:
        raise _nothing_sent(view.campaign)
    return view


def _nothing_sent(campaign: Campaign) -> NotFound:
    is_draft = campaign.state is CampaignState.DRAFT
    hint = (
        f"`wa campaign start {campaign.name}` sends it" if is_draft else f"`wa campaign show {campaign.name}` says more"
    )
    return NotFound(f"no report of {campaign.name}: {describe_nothing(campaign)}", hint=hint, code="no_run")


def _write_page(session: Session, view: View, path: Path, *, force: bool) -> None:
    from wa_cli.cli.private_file import new_private_file
    from wa_cli.cli.report_page import render_page

    with new_private_file(path, force=force) as out:
        out.write(render_page(view, session.settings.zone()))
    if session.json:
        session.show_json({"file": str(path), "name": view.campaign.name})
    else:
        session.show(f"wrote {clean_text(str(path))}")


# --- JSON and CSV ---


def report_document(view: View) -> dict[str, Any]:
    figures, run = view.figures, view.run
    assert figures is not None
    assert run is not None
    return {
        "name": view.campaign.name,
        "state": view.campaign.state.value,
        "run": run_document(run),
        **figures_document(figures),
        **(details_document(figures.details) if figures.details else {}),
        "checked_at": format_time(view.at_ms),
    }


def details_document(details: RunDetails) -> dict[str, Any]:
    times = details.read_times
    return {
        "variants": [
            {**_part_document(part), "replied": part.replied, "clicked": part.clicked} for part in details.variants
        ],
        "countries": [_part_document(part) for part in details.countries],
        "instances": [_part_document(part) for part in details.instances],
        "unsent": dict(details.unsent),
        "read_times": {
            "count": times.count,
            "median_seconds": times.median_ms / 1000,
            "p90_seconds": times.p90_ms / 1000,
            "histogram": [
                {"until_seconds": span.until_ms // 1000 if span.until_ms is not None else None, "count": span.count}
                for span in times.spans
            ],
        }
        if times
        else None,
    }


def _part_document(part: Part) -> dict[str, Any]:
    buckets = {bucket.value: part.buckets.get(bucket, 0) for bucket in Bucket}
    return {"name": part.name, "messages": part.total, "buckets": buckets}


def report_rows(view: View) -> Iterator[tuple[str, str, str, object]]:
    """The figures as rows of REPORT_COLUMNS, in the order of the report."""
    document = report_document(view)
    for name in ("name", "state", "audience", "replied", "opted_out", "clicked", "clicks", "previews"):
        yield "campaign", name, "", document[name]
    for moment in ("started_at", "ended_at"):
        yield "campaign", moment, "", document["run"][moment]
    for name, count in document["buckets"].items():
        yield "buckets", name, "count", count
    for reason, count in document["left_out"].items():
        yield "left_out", reason, "count", count
    for step in document["funnel"]:
        yield "funnel", step["step"], "count", step["count"]
        yield "funnel", step["step"], "share", step["share"]
    for failure in document["failures"]:
        yield "failures", failure["code"], "count", failure["count"]
        yield "failures", failure["code"], "meaning", failure["meaning"]
    for reason, count in document["unsent"].items():
        yield "unsent", reason, "count", count
    series = view.figures.sends if view.figures else None
    if series is not None:
        for place, count in enumerate(series.counts):
            yield "sends", str(format_time(series.start_ms + place * series.step_ms)), "count", count
    times = document["read_times"]
    if times:
        yield "read_times", "median", "seconds", times["median_seconds"]
        yield "read_times", "p90", "seconds", times["p90_seconds"]
        for span in times["histogram"]:
            until = "longer" if span["until_seconds"] is None else f"{span['until_seconds']} s"
            yield "read_times", until, "count", span["count"]
    for section in ("variants", "countries", "instances"):
        for part in document[section]:
            yield section, part["name"], "messages", part["messages"]
            for bucket, count in part["buckets"].items():
                if count:
                    yield section, part["name"], bucket, count
            for measure in ("replied", "clicked"):
                if measure in part:
                    yield section, part["name"], measure, part[measure]


def _write_csv(rows: Iterable[tuple[str, str, str, object]], out: TextIO) -> None:
    from wa_cli.sources.recipients import guard

    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(REPORT_COLUMNS)
    for row in rows:
        writer.writerow([guard("" if cell is None else str(cell)) for cell in row])


def ledger_document(line: LedgerLine) -> dict[str, Any]:
    """One of the audience, by the names of LEDGER_COLUMNS."""
    return {
        "recipient": line.recipient,
        "state": line.bucket.value,
        "reason": line.reason,
        "details": line.details,
        "variant": line.variant or None,
        "instance": line.instance,
        "due_at": format_time(line.due_at_ms),
        "sent_at": format_time(line.sent_at_ms),
        "delivered_at": format_time(line.delivered_at_ms),
        "read_at": format_time(line.read_at_ms),
        "error_code": line.error_code,
        "replied_at": format_time(line.replied_at_ms),
        "clicked_at": format_time(line.clicked_at_ms),
        "opted_out_at": format_time(line.opted_out_at_ms),
        "attempts": line.attempts,
        "message_id": format_message_id(line.message_id) if line.message_id is not None else None,
        "group_name": line.group_name,
    }


def _export(documents: Iterable[dict[str, Any]], chosen: str, out: TextIO, *, raw: bool) -> int:
    count = 0
    if chosen == "jsonl":
        for document in documents:
            out.write(json.dumps(document, ensure_ascii=False) + "\n")
            count += 1
        return count
    from wa_cli.sources.recipients import guard

    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(LEDGER_COLUMNS)
    for document in documents:
        cells = ["" if document[name] is None else str(document[name]) for name in LEDGER_COLUMNS]
        writer.writerow(cells if raw else [guard(cell) for cell in cells])
        count += 1
    return count


# --- lines for people ---


def report_lines(view: View, zone: ZoneInfo, style: Style) -> list[str]:
    """The report, no line wider than the style's width."""
    figures = view.figures
    assert figures is not None
    blocks = [head_lines(view, zone, style), funnel_lines(figures, style), ledger_lines(figures, style)]
    if figures.sends is not None:
        blocks.append(series_lines(figures.sends, zone, style))
    details = figures.details
    if details is not None and details.read_times is not None:
        blocks.append(_read_time_lines(details.read_times, style))
    if figures.failures:
        blocks.append(failure_lines(figures, style))
    if details is not None:
        if details.unsent:
            blocks.append(_unsent_lines(details, style))
        if len(details.variants) > 1:
            blocks.append(_part_lines("by variant", details.variants, style, has_answers=True))
        blocks.append(_part_lines("by country", keep_largest(details.countries), style))
        blocks.append(_part_lines("by instance", keep_largest(details.instances), style))
    return [line for block in blocks for line in ("", *block)][1:]


def _read_time_lines(times: ReadTimes, style: Style) -> list[str]:
    from wa_cli.cli.report_page import describe_limit

    lines = wrap_line(
        f"time to read: half within {describe_span(times.median_ms)}, nine of ten within "
        f"{describe_span(times.p90_ms)}, of {times.count:,}",
        style,
    )
    most = max(span.count for span in times.told)
    width = max(len(f"{span.count:,}") for span in times.told)
    after_ms = 0
    for span in times.told:
        name = describe_limit(span.until_ms, after_ms)
        bar = draw_bar(span.count, most, style, width=min(style.width - width - 27, 40))
        share = format_share(share_of(span.count, times.count))
        lines.append(f"  {name:<12}  {span.count:>{width},}  {share:>6}  {bar}".rstrip())
        after_ms = span.until_ms or after_ms
    return lines


def _unsent_lines(details: RunDetails, style: Style) -> list[str]:
    told = ", ".join(f"{count:,} {clean_text(reason.replace('_', ' '))}" for reason, count in details.unsent.items())
    return wrap_line(f"queued and then not sent: {told}", style)


def _part_lines(title: str, parts: Sequence[Part], style: Style, *, has_answers: bool = False) -> list[str]:
    """A table that gives its names the room that the numbers leave."""
    headers = ["MESSAGES", "SENT", "ARRIVED", "READ", "FAILED"] + (["REPLIED"] if has_answers else [])
    rows = []
    for part in parts:
        counts = [part.count(ACCEPTED), part.count(ARRIVED), part.count([Bucket.READ]), part.count([Bucket.FAILED])]
        counts += [part.replied] if has_answers else []
        rows.append([f"{part.total:,}", *(format_share(share_of(count, part.total)) for count in counts)])
    if not rows:
        return [title, "  no message yet"]
    widths = [max(len(row[place]) for row in (headers, *rows)) for place in range(len(headers))]
    room = style.width - sum(widths) - 2 * len(widths) - 2
    names = [_shorten(clean_text(part.name or "the only one"), room, style) for part in parts]
    longest = max(len(title) - 2, *map(len, names))
    lines = [
        f"{title:<{longest + 2}}" + "".join(f"  {cell:>{width}}" for cell, width in zip(headers, widths, strict=True))
    ]
    for name, row in zip(names, rows, strict=True):
        lines.append(
            f"  {name:<{longest}}" + "".join(f"  {cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        )
    return lines


def _shorten(name: str, room: int, style: Style) -> str:
    if len(name) <= room:
        return name
    mark = "..." if style.is_plain else "…"
    return name[: max(room - len(mark), 1)] + mark
