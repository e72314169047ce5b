"""`wa message`: the truth about single messages, why they are where they are, and taking them out of the queue."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from wa_cli.cli.commands import NOUNS
from wa_cli.cli.session import Session, clean_text, format_time, session_of, suggest
from wa_cli.errors import UsageError
from wa_cli.services.documents import format_local as format_local
from wa_cli.services.documents import message_document as message_document
from wa_cli.services.documents import summarize as summarize

if TYPE_CHECKING:
    from collections.abc import Sequence
    from zoneinfo import ZoneInfo

    from wa_cli.bootstrap import App
    from wa_cli.domain.explanation import NextStep, Surroundings
    from wa_cli.domain.history import AttemptRow, Cancelled, History, MessageRow
    from wa_cli.domain.receipt import Standing

app = typer.Typer(no_args_is_help=True, help=NOUNS["message"])

# Of a group of a thousand people.
MEMBERS_SHOWN: Final = 20

MessageIdArgument = Annotated[str, typer.Argument(metavar="ID", help="A message id like m42.")]


def open_settled(session: Session) -> App:
    """The app, after what dead processes left on its way has become unknown: no screen shows it as sending."""
    opened = session.open_app()
    opened.bury_dead(now_ms=opened.clock.wall_ms())
    return opened


# --- list ---


@app.command("list")
def list_messages(
    context: typer.Context,
    state: Annotated[
        str | None, typer.Option("--state", metavar="STATE", help="Only those: queued, sent, failed, unknown ...")
    ] = None,
    subgroup: Annotated[str | None, typer.Option("--subgroup", metavar="NAME", help="Only of this subgroup.")] = None,
    campaign: Annotated[str | None, typer.Option("--campaign", metavar="NAME", help="Only of this campaign.")] = None,
    recipient: Annotated[
        str | None, typer.Option("--recipient", metavar="NUMBER", help="Only to this number or group.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="At most so many.")] = 50,
    after: Annotated[str | None, typer.Option("--after", metavar="CURSOR", help="Go on after this page.")] = None,
) -> None:
    """List messages, newest first."""
    from wa_cli.domain.history import MessageFilter
    from wa_cli.domain.message import format_message_id, parse_message_id
    from wa_cli.domain.recipient import parse_recipient

    session = session_of(context)
    wanted = MessageFilter(
        standing=_parse_standing(state),
        subgroup=subgroup,
        campaign=campaign,
        address=parse_recipient(recipient, default_region=session.settings.default_region()).address
        if recipient is not None
        else None,
    )
    before_id = parse_message_id(after) if after is not None else None
    rows = open_settled(session).messages.list_newest(wanted, before_id=before_id, limit=limit + 1)
    page = rows[:limit]
    cursor = format_message_id(page[-1].id) if len(rows) > limit else None
    if session.json:
        session.show_json(
            {"messages": [message_document(row) for row in page], "count": len(page), "next": cursor},
        )
        return
    zone = session.settings.zone()
    session.show_table(
        ("ID", "STATE", "TO", "DUE", "TEXT"),
        (
            (
                format_message_id(row.id),
                row.standing,
                row.address,
                format_listed(row.due_at_ms, zone),
                show_text(row),
            )
            for row in page
        ),
        keep=(0, 1, 2, 3),
    )
    if not page:
        session.say("no messages")
    if cursor:
        session.hint(f"more: add --after {cursor}")


def show_text(row: MessageRow) -> str:
    """What a message says as a table shows it: to a group, after the group's name, which nobody knows by its id."""
    return f"[{row.group_name}] {summarize(row)}" if row.group_name else summarize(row)


def _parse_standing(word: str | None) -> Standing | None:
    from wa_cli.domain.receipt import Standing

    if word is None:
        return None
    known = [standing.value for standing in Standing]
    if word.lower() in known:
        return Standing(word.lower())
    near = suggest(word.lower(), known)
    raise UsageError(
        f"there is no state '{word}'", hint=f"did you mean {near}?" if near else f"one of: {', '.join(known)}"
    )


# --- show and explain ---


@app.command("show")
def show(context: typer.Context, message_id: MessageIdArgument) -> None:
    """Show one message with its attempts."""
    from wa_cli.domain.explanation import explain_participants, explain_receipt, show_participant
    from wa_cli.domain.message import parse_message_id

    session = session_of(context)
    history = open_settled(session).messages.read_history(parse_message_id(message_id))
    if session.json:
        session.show_json(history_document(history))
        return
    row, zone = history.message, session.settings.zone()
    fields = [
        *_head(history),
        ("batch", f"b{row.batch_id}"),
        ("subgroup", row.subgroup or "-"),
        ("campaign", row.campaign or "-"),
        ("instance", row.instance),
        ("due", session.describe_time(row.due_at_ms)),
    ]
    if row.expires_at_ms is not None:
        fields.append(("expires", session.describe_time(row.expires_at_ms)))
    if row.provider_message_id:
        fields.append(("whatsapp id", row.provider_message_id))
    if row.error_code:
        fields.append(("error", f"{row.error_code} {row.error_details or ''}".rstrip()))
    fields += [
        (f"attempt {attempt.n}", f"{_exact(attempt.started_at_ms, zone)}  {describe_attempt(history, attempt, zone)}")
        for attempt in history.attempts
    ]
    in_group = explain_participants(history)
    if in_group is not None:
        fields.append(("group", in_group))
        fields += [
            ("member", f"{_exact(one.at_ms, zone)[:-4]}  {show_participant(one.participant)} {one.status}")
            for one in history.participants[:MEMBERS_SHOWN]
        ]
    fields += [
        ("receipt", f"{_exact(receipt.at_ms, zone)[:-4]}  {explain_receipt(receipt)}")
        for receipt in history.receipts
        if not receipt.participant
    ]
    session.show_fields(fields)
    if len(history.participants) > MEMBERS_SHOWN:
        session.say(f"{len(history.participants) - MEMBERS_SHOWN:,} members more; --json shows all")
    session.hint(f"`wa message explain m{row.id}` says why")


@app.command("explain")
def explain(context: typer.Context, message_id: MessageIdArgument) -> None:
    """Say why a message is where it is, and what happens next.

    With the evidence, and every decision with its rule.
    """
    from wa_cli.domain.explanation import explain_due, explain_next, explain_origin
    from wa_cli.domain.message import generate_idempotency_key, parse_message_id

    session = session_of(context)
    opened = open_settled(session)
    history = opened.messages.read_history(parse_message_id(message_id))
    row, origin, zone = history.message, history.origin, session.settings.zone()
    step = explain_next(history, _look_around(session, opened, row))
    queued_by = explain_origin(origin, subgroup=row.subgroup, campaign=row.campaign)
    events = _events(history, queued_by, zone)
    if session.json:
        session.show_json(
            {
                **history_document(history),
                "queued_by": queued_by,
                "why_due": explain_due(history),
                "history": [{"at": format_time(at), "event": event, "text": text} for at, event, text in events],
                "next": {"text": step.words, "commands": list(step.commands), "at": format_time(step.at_ms)},
            }
        )
        return
    fields = [
        *_head(history),
        ("queued by", queued_by),
        ("due", f"{session.describe_time(row.due_at_ms)}: {explain_due(history)}"),
        ("policy", f"{origin.max_attempts} attempts at most; unknown outcome: {origin.on_unknown}"),
    ]
    if row.expires_at_ms is not None:
        fields.append(("expires", session.describe_time(row.expires_at_ms)))
    if origin.key is not None:
        fields.append(("key", f"{origin.key} (given by the caller)"))
    fields.append(("default key", generate_idempotency_key(row.instance, row.address, history.encoded)))
    session.show_fields(fields)
    session.show()
    session.show_fields([(_exact(at, zone), f"{event}: {text}") for at, event, text in events])
    session.show()
    _show_next(session, opened, row, step)


def _events(history: History, queued_by: str, zone: ZoneInfo) -> list[tuple[int, str, str]]:
    """(time, event, words) of everything that happened to a message, in order."""
    from wa_cli.domain.explanation import explain_receipt, explain_rule

    row = history.message
    events = [(history.origin.created_at_ms, "queued", queued_by)]
    for attempt in history.attempts:
        text = f"{describe_attempt(history, attempt, zone)} (epoch {attempt.epoch}, tag {attempt.tag})"
        events.append((attempt.started_at_ms, f"attempt {attempt.n}", text))
    for decision in history.decisions:
        events.append((decision.at_ms, decision.rule, explain_rule(decision.rule, decision.details)))
    for receipt in history.receipts:
        # WhatsApp's clock knows whole seconds only: what it says came of a post cannot have come before it.
        began = next((one.started_at_ms for one in history.attempts if one.id == receipt.attempt_id), receipt.at_ms)
        events.append((max(receipt.at_ms, began), f"receipt {receipt.status}", explain_receipt(receipt)))
    events.sort(key=lambda event: event[0])  # stable: what happened in one millisecond keeps its order
    if row.reason is not None and all(row.reason != event for _at, event, _text in events):
        events.append((row.changed_at_ms, row.reason, explain_rule(row.reason)))
    return events


def _look_around(session: Session, opened: App, row: MessageRow) -> Surroundings:
    from wa_cli.domain.explanation import Surroundings
    from wa_cli.domain.resend import find_refusal

    now_ms = opened.clock.wall_ms()
    instance = opened.instances.find(row.instance)
    holder = opened.leases.find_holder(row.instance_id, now_ms=now_ms)
    with opened.failures.resend_turn(is_dry_run=True) as turn:
        candidates = turn.read_candidates([row.id])
    return Surroundings(
        now_ms=now_ms,
        holder=holder.role if holder else None,
        pause_reason=(instance.pause_reason or "by hand") if instance.paused_at_ms is not None else None,
        rests_until_ms=instance.rests_until_ms,
        rest_reason=instance.rest_reason,
        resend_refusal=find_refusal(candidates[0], force=False, now_ms=now_ms) if candidates else None,
        resend_unknown_seconds=session.settings.count("WA_RESEND_UNKNOWN_MINUTES") * 60.0,
    )


def _show_next(session: Session, opened: App, row: MessageRow, step: NextStep) -> None:
    when = f" ({session.describe_time(step.at_ms)})" if step.at_ms is not None else ""
    fields = [("next", step.words + when)]
    if row.error_code is not None:
        meaning = opened.explain_error(row.error_code)
        if meaning is not None:
            fields.insert(0, (f"error {row.error_code}", meaning.message))
            if meaning.hint:
                fields.insert(1, ("fix", meaning.hint))
    fields += [("type", command) for command in step.commands]
    session.show_fields(fields)


# --- cancel ---


@app.command("cancel")
def cancel(
    context: typer.Context,
    message_ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Message ids like m42.")] = None,
    subgroup: Annotated[str | None, typer.Option("--subgroup", metavar="NAME", help="All of this subgroup.")] = None,
    batch: Annotated[str | None, typer.Option("--batch", metavar="bN", help="All of one send or resend.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything that waits.")] = False,
) -> None:
    """Take waiting messages out of the queue. Once it returns, none of them leaves."""
    from wa_cli.domain.message import parse_message_id

    session = session_of(context)
    if sum((bool(message_ids), subgroup is not None, batch is not None, everything)) != 1:
        raise UsageError(
            "say which messages: ids, --subgroup, --batch or --all, one of them",
            hint="`wa message list --state queued` shows what waits",
        )
    opened = open_settled(session)
    if message_ids:
        _cancel_ids(session, opened, [parse_message_id(word) for word in dict.fromkeys(message_ids)])
        return
    _cancel_scope(session, opened, subgroup=subgroup, batch=batch)


def _cancel_ids(session: Session, opened: App, message_ids: Sequence[int]) -> None:
    from wa_cli.domain.message import format_message_id
    from wa_cli.domain.receipt import Standing

    opened.messages.find_many(message_ids)  # one that does not exist stops the call before anything is changed
    result = opened.messages.cancel(message_ids, now_ms=opened.clock.wall_ms())
    rows = opened.messages.find_many(message_ids)
    others = [
        {
            "id": format_message_id(row.id),
            "state": row.standing.value,
            "reason": IN_FLIGHT if row.standing is Standing.SENDING else f"it is {row.standing} already",
        }
        for row in rows
        if row.standing is not Standing.CANCELLED
    ]
    _report_cancelled(session, result, others)


IN_FLIGHT: Final = "it is on its way; should it be refused, it will not be tried again"


def _cancel_scope(session: Session, opened: App, *, subgroup: str | None, batch: str | None) -> None:
    from wa_cli.domain.history import CancelScope
    from wa_cli.domain.message import format_message_id

    scope = CancelScope(subgroup=subgroup, batch_id=_parse_batch_id(batch) if batch is not None else None)
    count = opened.messages.count_waiting(scope)
    if count and batch is None:
        whose = f"of subgroup '{clean_text(subgroup)}'" if subgroup is not None else "of every kind"
        session.confirm(f"cancel {count} waiting messages {whose}?")
    result = opened.messages.cancel_all(scope, now_ms=opened.clock.wall_ms())
    others = [
        {
            "id": format_message_id(message_id),
            "state": "sending",
            "reason": IN_FLIGHT,
        }
        for message_id in result.in_flight
    ]
    _report_cancelled(session, result, others)


def _report_cancelled(session: Session, result: Cancelled, others: Sequence[dict[str, str]]) -> None:
    from wa_cli.domain.message import format_message_id

    maybe_sent = [format_message_id(message_id) for message_id in result.maybe_sent]
    if session.json:
        session.show_json({"cancelled": result.count, "not_cancelled": list(others), "maybe_sent": maybe_sent})
    else:
        session.show(f"{result.count} cancelled")
        for other in others:
            session.show(f"{other['id']} not cancelled: {other['reason']}")
    for name in maybe_sent:
        session.warn(f"{name} was cancelled, but an earlier attempt of it may have reached the person")
    if others:
        raise typer.Exit(3)


def _parse_batch_id(text: str) -> int:
    digits = text.strip().removeprefix("b")
    if digits.isascii() and digits.isdigit() and len(digits) < 13:
        return int(digits)
    raise UsageError(f"'{text}' is not a batch id", hint="ids of batches look like b7; `wa message show ID` names them")


# --- shapes shared with the other doors ---


def history_document(history: History) -> dict[str, Any]:
    """A message with its attempts and decisions as JSON."""
    from wa_cli.domain.message import generate_idempotency_key

    row, origin = history.message, history.origin
    return {
        **message_document(row),
        "queued_at": format_time(origin.created_at_ms),
        "receipt": row.receipt.value if row.receipt else None,
        "max_attempts": origin.max_attempts,
        "on_unknown": origin.on_unknown.value,
        "key": origin.key,
        "actor": origin.actor,
        "idempotency_key": generate_idempotency_key(row.instance, row.address, history.encoded),
        "proven_duplicate": history.is_proven_duplicate,
        "provider_message_ids": list(history.provider_message_ids),
        "attempts": [
            {
                "n": attempt.n,
                "started_at": format_time(attempt.started_at_ms),
                "outcome": attempt.outcome,
                "http_status": attempt.http_status,
                "error_code": attempt.error_code,
                "latency_ms": attempt.latency_ms,
                "details": attempt.details,
                "counted": attempt.is_counted,
                "epoch": attempt.epoch,
                "tag": attempt.tag,
                "provider_message_id": attempt.provider_message_id,
                "refused_later_at": format_time(refused.at_ms)
                if (refused := history.refused_later(attempt)) is not None
                else None,
            }
            for attempt in history.attempts
        ],
        "receipts": [
            {
                "status": receipt.status.value,
                "at": format_time(receipt.at_ms),
                "received_at": format_time(receipt.received_at_ms),
                "rule": receipt.rule,
                "participant": receipt.participant or None,
                "error_code": receipt.error_code,
                "details": receipt.details,
            }
            for receipt in history.receipts
        ],
        "group_size": history.group_size,
        "participants": [
            {
                "participant": one.participant,
                "receipt": one.status.value,
                "at": format_time(one.at_ms),
                "error_code": one.error_code,
            }
            for one in history.participants
        ],
        "decisions": [
            {"at": format_time(decision.at_ms), "rule": decision.rule, "details": decision.details}
            for decision in history.decisions
        ],
    }


def format_listed(at_ms: int, zone: ZoneInfo) -> str:
    """A time in a table: a terminal is narrow and its reader knows the zone, so it stands there without."""
    import sys

    shown = format_local(at_ms, zone)
    return shown[: len("2022-01-01 05:30")] if sys.stdout.isatty() else shown


def _exact(at_ms: int, zone: ZoneInfo) -> str:
    moment = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{at_ms % 1000:03}"


def describe_attempt(history: History, attempt: AttemptRow, zone: ZoneInfo) -> str:
    """What became of one post of a message, with the times of both verdicts where the second one came later."""
    from wa_cli.domain.explanation import explain_attempt

    return explain_attempt(attempt, history.refused_later(attempt), lambda at_ms: _exact(at_ms, zone)[:-4])


def _head(history: History) -> list[tuple[str, str]]:
    from wa_cli.domain.explanation import explain_rule
    from wa_cli.domain.message import content_type, format_message_id

    row = history.message
    kind = f"{content_type(row.content)}: " if row.content is not None else ""
    fields = [
        ("message", f"{format_message_id(row.id)}  {row.standing}"),
        ("to", f"{row.address}  {row.group_name}" if row.group_name else row.address),
        ("says", f"{kind}{summarize(row)}"),
    ]
    if history.is_proven_duplicate:
        ids = " and ".join(history.provider_message_ids)
        fields.insert(1, ("twice", f"{explain_rule('proven_duplicate')}: {ids}"))
    return fields
