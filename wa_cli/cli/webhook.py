"""`wa webhook`: what WhatsApp has told us, as it came, and reading it again."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, assert_never

import typer

from wa_cli.cli.commands import NOUNS
from wa_cli.cli.message import format_listed
from wa_cli.cli.session import Session, clean_text, format_time, session_of, suggest
from wa_cli.cli.webhook_subscribe import subscribe
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wa_cli.bootstrap import App
    from wa_cli.domain.event import Event, Person
    from wa_cli.domain.webhook import WebhookRow, WebhookStatus

app = typer.Typer(no_args_is_help=True, help=NOUNS["webhook"])

app.command("subscribe")(subscribe)

# What is shown unasked of one webhook: one of Meta's may hold a thousand receipts.
EVENTS_SHOWN: Final = 50
WORDS_SHOWN: Final = 200
_NUMBER: Final = re.compile(r"\d(?:[ ().\-/]{0,2}\d){6,}")


# --- list ---


@app.command("list")
def list_webhooks(
    context: typer.Context,
    status: Annotated[
        str | None, typer.Option("--status", metavar="STATUS", help="Only those: waiting, done, ignored, failed.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="At most so many.")] = 50,
    after: Annotated[str | None, typer.Option("--after", metavar="CURSOR", help="Go on after this page.")] = None,
) -> None:
    """List the webhooks that are kept, newest first."""
    from wa_cli.domain.webhook import format_webhook_id, parse_webhook_id

    session = session_of(context)
    wanted = _parse_status(status)
    before_id = parse_webhook_id(after) if after is not None else None
    rows = session.open_app().webhooks.list_newest(wanted, before_id=before_id, limit=limit + 1)
    page = rows[:limit]
    cursor = format_webhook_id(page[-1].id) if len(rows) > limit else None
    if session.json:
        session.show_json({"webhooks": [webhook_document(row) for row in page], "count": len(page), "next": cursor})
        return
    zone = session.settings.zone()
    session.show_table(
        ("ID", "RECEIVED", "STATUS", "SIZE", "INSTANCE", "WHAT"),
        (
            (
                format_webhook_id(row.id),
                format_listed(row.received_at_ms, zone),
                row.status,
                f"{row.size:,}",
                row.instance or "-",
                row.details or "-",
            )
            for row in page
        ),
        keep=(0, 1, 2, 3),
    )
    if not page:
        session.say("no webhooks")
    if cursor:
        session.hint(f"more: add --after {cursor}")


def _parse_status(word: str | None) -> WebhookStatus | None:
    from wa_cli.domain.webhook import WebhookStatus

    if word is None:
        return None
    known = [status.value for status in WebhookStatus]
    if word.lower() in known:
        return WebhookStatus(word.lower())
    near = suggest(word.lower(), known)
    raise UsageError(
        f"there is no status '{word}'", hint=f"did you mean {near}?" if near else f"one of: {', '.join(known)}"
    )


# --- show ---


@app.command("show")
def show(
    context: typer.Context,
    webhook_id: Annotated[str, typer.Argument(metavar="ID", help="A webhook id like w42.")],
    raw: Annotated[bool, typer.Option("--raw", help="The body as it came, with whole numbers.")] = False,
) -> None:
    """Say what one webhook told us, numbers masked. With --raw: its body."""
    from wa_cli.domain.webhook import format_webhook_id, parse_webhook_id

    session = session_of(context)
    opened = session.open_app()
    row, body = opened.webhooks.find(parse_webhook_id(webhook_id))
    if raw and not session.json:
        _show_body(session, body)
        return
    events, failure = _read(opened, row, body)
    if session.json:
        document = {
            **webhook_document(row),
            "told": [event_document(event, is_whole=raw) for event in events],
            "unreadable": failure,
        }
        session.show_json(document | ({"body": body.decode("utf-8", "backslashreplace")} if raw else {}))
        return
    name = format_webhook_id(row.id)
    session.show(f"{name} {row.status}: {clean_text(row.details or 'nothing in it')}")
    whose = f" of instance '{row.instance}'" if row.instance is not None else ""
    fields = [
        ("received", session.describe_time(row.received_at_ms)),
        ("from", f"{row.provider}{whose}, {'signed' if row.is_signed else 'not signed'}"),
        ("size", f"{row.size:,} bytes"),
    ]
    if row.read_at_ms is not None:
        fields.append(("read", session.describe_time(row.read_at_ms)))
    if failure is not None and failure != row.details:
        fields.append(("fault", failure))
    fields += [("told", describe_event(event)) for event in events[:EVENTS_SHOWN]]
    session.show_fields(fields, indent=2)
    if len(events) > EVENTS_SHOWN:
        session.say(f"{len(events) - EVENTS_SHOWN:,} more; --json shows all")
    session.hint(f"`wa webhook show {name} --raw` prints the body, `wa webhook replay {name}` reads it again")


def _show_body(session: Session, body: bytes) -> None:
    if sys.stdout.isatty():
        session.show(clean_text(body.decode("utf-8", "backslashreplace")))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(body)
    sys.stdout.buffer.flush()


def _read(opened: App, row: WebhookRow, body: bytes) -> tuple[Sequence[Event], str | None]:
    try:
        reader = opened.find_webhook_readers()(row.instance_id)
        return (reader.read(body), None) if reader is not None else ((), "its instance has been removed")
    except UsageError as error:
        return (), error.message


# --- replay ---


@app.command("replay")
def replay(
    context: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="ID|FILE", help="Webhook ids, or files with a body; - is stdin.")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All that could not be read.")] = False,
    instance: Annotated[
        str | None, typer.Option("--instance", metavar="NAME", help="Whose webhooks the files hold.")
    ] = None,
) -> None:
    """Read webhooks again. What is known already changes nothing.

    Exits 3 when some cannot be read.
    """
    from wa_cli.domain.webhook import format_webhook_id

    session = session_of(context)
    if bool(words) == failed:
        raise UsageError(
            "say which webhooks: ids, files, or --failed", hint="`wa webhook list` shows those that are kept"
        )
    opened = session.open_app()
    is_from_file = False
    if failed:
        ids = opened.webhooks.reopen_failed()
    else:
        ids, is_from_file = _reopen(opened, words or [], instance)
    sums, changed = opened.replay_webhooks(ids, came_from_provider=not is_from_file)
    rows = [opened.webhooks.find(webhook_id)[0] for webhook_id in ids]
    if session.json:
        session.show_json(
            {
                "replayed": [webhook_document(row) for row in rows],
                "count": len(rows),
                "events": sums.events,
                "changed": changed,
            }
        )
    else:
        for row in rows:
            session.show(f"{format_webhook_id(row.id)} {row.status}: {clean_text(row.details or 'nothing in it')}")
        session.show(_describe_changes(changed, is_known=sums.failed == 0) if rows else "no webhook has failed")
    if any(row.status == "failed" for row in rows):
        raise typer.Exit(3)


def _reopen(opened: App, words: Sequence[str], instance: str | None) -> tuple[list[int], bool]:
    """Let these webhooks wait, and put the bodies of files beside them.  Returns the ids, and whether any is new.

    instance: whose the bodies of files are; None for the one that sends without being named.
    """
    from wa_cli.accounts import DEFAULT_INSTANCE
    from wa_cli.domain.webhook import is_webhook_id, parse_webhook_id
    from wa_cli.ports import NewWebhook

    names = list(dict.fromkeys(words))
    ids = [parse_webhook_id(word) for word in names if is_webhook_id(word)]
    bodies = [_read_file(word) for word in names if not is_webhook_id(word)]
    opened.webhooks.reopen(ids)
    now_ms = opened.clock.wall_ms()
    whose = opened.find_instance(instance) if bodies or instance is not None else None
    added = opened.webhooks.append(
        [
            NewWebhook(
                received_at_ms=now_ms,
                provider=whose.transport,
                is_signed=False,
                body=body,
                instance_id=None if whose.name == DEFAULT_INSTANCE else whose.id,
            )
            for body in bodies
            if whose is not None
        ]
    )
    return ids + added, bool(added)


def _read_file(word: str) -> bytes:
    from wa_cli.domain.webhook import LARGEST_BODY_BYTES

    try:
        if word == "-":
            body = sys.stdin.buffer.read(LARGEST_BODY_BYTES + 1)
        else:
            with Path(word).open("rb") as file:
                body = file.read(LARGEST_BODY_BYTES + 1)
    except FileNotFoundError as error:
        raise UsageError(
            f"'{word}' is neither a webhook id nor a file", hint="ids look like w42; `wa webhook list` shows them"
        ) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise UsageError(f"{word} cannot be read: {reason or error}", hint="give a file with one body in it") from error
    if len(body) > LARGEST_BODY_BYTES:
        raise UsageError(
            f"{word} is larger than any webhook: more than {LARGEST_BODY_BYTES:,} bytes", hint="one body a file"
        )
    return body


def _describe_changes(changed: dict[str, int], *, is_known: bool) -> str:
    if not changed:
        return f"nothing has changed{': all of it was known already' if is_known else ''}"
    counts = ", ".join(f"{name.replace('_', ' ')} {by:+,}" for name, by in changed.items())
    return f"changed: {counts}"


# --- shapes ---


def webhook_document(row: WebhookRow) -> dict[str, Any]:
    """A webhook as JSON listings show it."""
    from wa_cli.domain.webhook import format_webhook_id

    return {
        "id": format_webhook_id(row.id),
        "received_at": format_time(row.received_at_ms),
        "instance": row.instance,
        "provider": row.provider,
        "signed": row.is_signed,
        "size": row.size,
        "status": row.status.value,
        "events": row.events,
        "details": row.details,
        "read_at": format_time(row.read_at_ms),
    }


def event_document(event: Event, *, is_whole: bool) -> dict[str, Any]:
    """One event in JSON.  is_whole: with whole numbers, ids and words."""
    from wa_cli.domain.event import (
        AccountEvent,
        ConnectionEvent,
        IgnoredEvent,
        InboundEvent,
        NumberChangedEvent,
        PreferenceEvent,
        StatusEvent,
        TemplateEvent,
    )
    from wa_cli.domain.webhook import name_event

    shape: dict[str, Any] = {"event": name_event(event)}
    if isinstance(event, IgnoredEvent):
        return shape
    shape["at"] = format_time(event.at_ms or None)
    match event:
        case StatusEvent():
            return shape | {
                "person": _person(event.person, is_whole=is_whole),
                "participant": _mask(event.participant, is_whole=is_whole) or None,
                "tag": event.tag,
                "provider_message_id": _mask_id(event.provider_message_id, is_whole=is_whole),
                "error_code": event.refusal.code if event.refusal else None,
                "error_details": event.refusal.details if event.refusal else None,
            }
        case InboundEvent():
            return shape | {
                "person": _person(event.person, is_whole=is_whole),
                "kind": event.kind,
                "words": _mask_words(event.words, is_whole=is_whole),
                "payload": _mask_words(event.payload, is_whole=is_whole),
                "provider_message_id": _mask_id(event.provider_message_id, is_whole=is_whole),
                "context_message_id": _mask_id(event.context_message_id, is_whole=is_whole),
            }
        case PreferenceEvent():
            return shape | {"person": _person(event.person, is_whole=is_whole), "wording": event.wording}
        case NumberChangedEvent():
            return shape | {
                "person": _person(event.old, is_whole=is_whole),
                "new_person": _person(event.new, is_whole=is_whole),
            }
        case TemplateEvent():
            return shape | {
                "template": event.name,
                "language": event.language,
                "reason": event.reason,
                "until": format_time(event.until_ms),
            }
        case AccountEvent():
            return shape | {"reason": event.words}
        case ConnectionEvent():
            return shape | {"state": event.connection.state.value, "reason": event.connection.reason}
        case _:
            assert_never(event)


def describe_event(event: Event) -> str:
    """One event in a line, numbers masked."""
    shape = event_document(event, is_whole=False)
    words = [str(shape["event"])]
    if shape.get("template"):
        words.append(f"{shape['template']} ({shape['language']})")
    if shape.get("kind"):
        words[0] = f"{shape['kind']} from"
    if shape.get("person"):
        words.append(_name_person(shape["person"]))
    if shape.get("new_person"):
        words.append(f"-> {_name_person(shape['new_person'])}")
    if shape.get("participant"):
        words.append(f"member {shape['participant']}")
    if shape.get("tag"):
        words.append(f"tag {shape['tag']}")
    if shape.get("until"):
        words.append(f"until {shape['until']}")
    said = shape.get("words") or shape.get("wording") or shape.get("reason")
    if shape.get("error_code"):
        said = f"{shape['error_code']} {shape['error_details']}"
    return " ".join(words) + (f": {said[:WORDS_SHOWN]}" if said else "")


def _person(person: Person | None, *, is_whole: bool) -> dict[str, str | None] | None:
    if person is None:
        return None
    return {
        "address": _mask(person.address, is_whole=is_whole) if person.address else None,
        "user_id": _mask_id(person.user_id, is_whole=is_whole),
        "name": _mask_words(person.name, is_whole=is_whole),
    }


def _name_person(person: dict[str, str | None]) -> str:
    name = f" ({person['name'][:WORDS_SHOWN]})" if person["name"] else ""
    return f"{person['address'] or person['user_id']}{name}"


def _mask(address: str, *, is_whole: bool) -> str:
    from wa_cli.domain.recipient import mask_address

    if is_whole or not address:
        return address
    return mask_address(address) if address.startswith("+") else f"…{address[-4:]}"


def _mask_id(provider_id: str | None, *, is_whole: bool) -> str | None:
    """An id of Meta's holds the number of the person; its end does not."""
    return provider_id if is_whole or provider_id is None else f"…{provider_id[-4:]}"


def _mask_words(words: str | None, *, is_whole: bool) -> str | None:
    return words if is_whole or words is None else _NUMBER.sub(lambda found: f"…{found[0][-4:]}", words)
