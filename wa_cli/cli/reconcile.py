"""`wa reconcile`: the messages whose outcome nobody knows, what is known about them, and settling them by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from wa_cli.cli.message import format_local, message_document, open_settled, summarize
from wa_cli.cli.session import Session, clean_text, format_time, session_of
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

    from wa_cli.bootstrap import App
    from wa_cli.services.reconcile import Settled
    from wa_cli.store.sqlite.failures import Evidence

PAGE_ROWS: Final = 1_000
LONGEST_NOTE: Final = 500


def reconcile(
    context: typer.Context,
    message_ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Which to mark.")] = None,
    mark: Annotated[
        str | None, typer.Option("--mark", metavar="sent|not-sent", help="What a person found out.")
    ] = None,
    note: Annotated[
        str | None, typer.Option("--note", metavar="TEXT", help="How it was found out, for the history.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what could still settle each, and what each choice risks.")
    ] = False,
) -> None:
    """List the unknown outcomes with their evidence, or settle them.

    Example: wa reconcile --mark sent m5

    Exits 5 while unknown outcomes exist.
    """
    session = session_of(context)
    if mark is None:
        if message_ids or note is not None:
            raise UsageError(
                "say what these messages are: --mark sent or --mark not-sent",
                hint="without arguments `wa reconcile` lists the unknown outcomes",
            )
        _list(session, open_settled(session), is_explained=explain)
        return
    if explain:
        raise UsageError("--explain goes with the list, not with --mark", hint="wa reconcile --explain")
    if mark not in ("sent", "not-sent"):
        raise UsageError(f"'{mark}' is no outcome", hint="--mark sent, or --mark not-sent")
    if not message_ids:
        raise UsageError("say which messages to mark", hint=f"wa reconcile --mark {mark} m5; `wa reconcile` lists them")
    if note is not None and len(note) > LONGEST_NOTE:
        raise UsageError(f"the note is longer than {LONGEST_NOTE} characters", hint="shorten it")
    _mark(session, message_ids, was_sent=mark == "sent", note=note)


def _list(session: Session, opened: App, *, is_explained: bool) -> None:
    from wa_cli.domain.message import format_message_id

    entries = _read_unknown(opened)
    if session.json:
        documents = [evidence_document(one, now_ms=opened.clock.wall_ms()) for one in entries]
        session.show_json({"unknown_messages": documents, "count": len(documents)})
        if documents:
            raise typer.Exit(5)
        return
    zone = session.settings.zone()
    count = 0
    for one in entries:
        count += 1
        row = one.message
        name = format_message_id(row.id)
        session.show(f"{name}  to {clean_text(row.address)}: {clean_text(summarize(row))[:200]}")
        session.show_fields(_describe(one, zone, now_ms=opened.clock.wall_ms(), is_explained=is_explained), indent=2)
    if count == 0:
        session.say("no unknown outcomes")
        return
    noun = "outcome" if count == 1 else "outcomes"
    session.say(f"{count} unknown {noun}: look into the chat, or ask the person, then")
    session.hint("`wa reconcile --mark sent ID...` or `wa reconcile --mark not-sent ID...`")
    raise typer.Exit(5)


def _describe(one: Evidence, zone: ZoneInfo, *, now_ms: int, is_explained: bool) -> list[tuple[str, str]]:
    """What is known of an unknown outcome, as names and words."""
    fields = []
    if one.started_at_ms is not None:
        age = _describe_age(now_ms - one.started_at_ms)
        fields.append(("posted", f"{format_local(one.started_at_ms, zone)}, {age} ago, attempt {one.attempts}"))
    http = f", HTTP {one.http_status}" if one.http_status is not None else ""
    fields += [
        ("evidence", f"{one.code or '-'}{http}: {one.details or '-'}"),
        ("tag", one.tag or "-"),
        ("policy", f"--on-unknown {one.on_unknown}: {_POLICIES[one.on_unknown.value]}"),
    ]
    if _is_presumed_not_sent(one, now_ms=now_ms):
        fields.append(("presumed", "not sent: webhooks came before the post and after it, and none of them is of it"))
    if is_explained:
        fields += _explain(one, zone)
    return fields


def _is_presumed_not_sent(one: Evidence, *, now_ms: int) -> bool:
    from wa_cli.domain.receipt import presume_not_sent

    return presume_not_sent(
        one.started_at_ms,
        webhooks_since_ms=one.webhooks_since_ms,
        last_webhook_at_ms=one.last_webhook_at_ms,
        now_ms=now_ms,
    )


def _explain(one: Evidence, zone: ZoneInfo) -> Iterator[tuple[str, str]]:
    """What could still settle an unknown outcome, and what a person's choice risks."""
    if one.webhooks_since_ms is None:
        yield "receipts", "none can come: no webhook has ever come for this number; `wa serve` takes them"
    else:
        since = format_local(one.webhooks_since_ms, zone)
        last = format_local(one.last_webhook_at_ms or one.webhooks_since_ms, zone)
        yield (
            "receipts",
            f"webhooks have come since {since}, the last {last}; one that carries the tag settles it by itself, "
            "either way",
        )
    yield "sent", "marks it done; if it never left, the person misses the message"
    yield "not-sent", "makes it a failure you can resend; if it did leave, a resend is the second one"


_POLICIES: Final = {
    "hold": "never sent again by itself",
    "resend": "sent again unless evidence comes first",
    "skip": "left as it is",
}


def _mark(session: Session, words: list[str], *, was_sent: bool, note: str | None) -> None:
    from wa_cli.domain.message import format_message_id, parse_message_id
    from wa_cli.services.reconcile import settle

    opened = open_settled(session)
    result = settle(
        opened.messages,
        opened.failures,
        [parse_message_id(word) for word in words],
        was_sent=was_sent,
        note=note,
        now_ms=opened.clock.wall_ms(),
    )
    names = [format_message_id(message_id) for message_id in result.marked]
    if session.json:
        session.show_json(
            {
                "marked": names,
                "as": "sent" if was_sent else "not-sent",
                "refused": [
                    {"id": format_message_id(message_id), "reason": reason} for message_id, reason in result.refused
                ],
                "remaining": opened.messages.read_stats()["unknown"],
            }
        )
    else:
        _show_settled(session, result, names, was_sent=was_sent)
    if result.refused:
        raise typer.Exit(3)


def _show_settled(session: Session, result: Settled, names: list[str], *, was_sent: bool) -> None:
    from wa_cli.domain.message import format_message_id

    for name in names:
        session.show(f"{name} marked as {'sent' if was_sent else 'not sent'}")
    for message_id, reason in result.refused:
        session.show(f"{format_message_id(message_id)} not marked: {reason}")
    if names and not was_sent:
        session.hint(f"`wa resend {' '.join(names[:5])}` sends {'it' if len(names) == 1 else 'them'} again")


def evidence_document(one: Evidence, *, now_ms: int) -> dict[str, Any]:
    """An unknown outcome as JSON shows it."""
    return {
        **message_document(one.message),
        "started_at": format_time(one.started_at_ms),
        "age_seconds": max(now_ms - one.started_at_ms, 0) // 1000 if one.started_at_ms is not None else None,
        "evidence": one.details,
        "evidence_code": one.code,
        "http_status": one.http_status,
        "latency_ms": one.latency_ms,
        "tag": one.tag,
        "on_unknown": one.on_unknown.value,
        "attempts": one.attempts,
        "presumed_not_sent": _is_presumed_not_sent(one, now_ms=now_ms),
        "webhooks_since": format_time(one.webhooks_since_ms),
        "last_webhook_at": format_time(one.last_webhook_at_ms),
    }


def _read_unknown(opened: App) -> Iterator[Evidence]:
    after_id = 0
    while page := opened.failures.list_unknown(after_id=after_id, limit=PAGE_ROWS):
        yield from page
        after_id = page[-1].message.id


def _describe_age(age_ms: int) -> str:
    seconds = max(age_ms, 0) // 1000
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
