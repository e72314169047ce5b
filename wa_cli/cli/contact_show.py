"""`wa contact list` and `show`: who is known, and all that is known of one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from wa_cli.cli.importing import count_of
from wa_cli.cli.session import Session, format_time, session_of
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from wa_cli.domain.contact import ConsentRow, Contact, Profile, Talk
    from wa_cli.domain.window import Window

# Where a change of mind came from, for people.
SOURCES: Final = {
    "message": "by a message",
    "preference": "in WhatsApp's own settings",
    "refusal": "as WhatsApp said when it refused a message",
    "person": "entered here",
    "import": "from a list",
    "api": "over the HTTP API",
}


def list_people(
    context: typer.Context,
    opted_out: Annotated[bool, typer.Option("--opted-out", help="Only those whom nobody may write to.")] = False,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="At most so many.")] = 50,
    after: Annotated[str | None, typer.Option("--after", metavar="CURSOR", help="Go on after this page.")] = None,
) -> None:
    """List people in the order in which they came."""
    session = session_of(context)
    store = session.open_app().people
    rows = store.list_page(opted_out=opted_out, after_id=_parse_cursor(after), limit=limit + 1)
    page = rows[:limit]
    cursor = f"c{page[-1].id}" if len(rows) > limit else None
    if session.json:
        session.show_json(
            {"contacts": [contact_document(contact) for contact in page], "count": len(page), "next": cursor}
        )
        return
    from wa_cli.cli.message import format_listed

    zone = session.settings.zone()
    session.show_table(
        ("RECIPIENT", "MAY BE WRITTEN TO", "LAST WROTE", "NAME"),
        (
            (
                contact.address,
                "yes" if contact.opted_out_at_ms is None else "no, opted out",
                format_listed(contact.last_inbound_at_ms, zone) if contact.last_inbound_at_ms is not None else "-",
                contact.name or "",
            )
            for contact in page
        ),
        keep=(0, 1, 2),
    )
    if not page:
        session.say("nobody has opted out" if opted_out else "there is nobody yet")
    if cursor:
        session.hint(f"more: add --after {cursor}")
    elif after is None and page:
        people, gone = store.count()
        session.say(f"{count_of(people, 'person', 'people')}, {gone:,} opted out")


def show(
    context: typer.Context,
    recipient: Annotated[str, typer.Argument(help="A number like +6581234567, or user:ID.", metavar="RECIPIENT")],
) -> None:
    """Show a person.

    Their consent with its wording and time, the 24 h window of each instance, their lists and messages.
    """
    session = session_of(context)
    opened = session.open_app()
    now_ms = opened.clock.wall_ms()
    contact = opened.people.find(parse_person(session, recipient))
    profile = opened.people.read_profile(contact.id)
    if session.json:
        session.show_json(_profile_document(profile, now_ms=now_ms))
        return
    session.show_fields(_profile_fields(session, profile, now_ms=now_ms))
    if profile.contact.opted_out_at_ms is not None:
        session.hint(f"`wa contact opt-in {contact.address} --reason WHY`, once they have asked for it")


# --- what was typed ---


def parse_person(session: Session, word: str) -> str:
    """The address of one person.  Raises: UsageError for a group and for what is no number."""
    from wa_cli.domain.recipient import RecipientKind, parse_recipient, show_text

    if word.startswith("user:") and word.isprintable():
        return word
    recipient = parse_recipient(word, default_region=session.settings.default_region())
    if recipient.kind is RecipientKind.GROUP:
        raise UsageError(
            f"'{show_text(word)}' is a group", hint="`wa subgroup remove NAME GROUP` takes a group off a list"
        )
    return recipient.address


def _parse_cursor(text: str | None) -> int:
    if text is None:
        return 0
    digits = text.removeprefix("c")
    if text.startswith("c") and digits.isascii() and digits.isdigit() and len(digits) < 19:
        return int(digits)
    raise UsageError(f"'{text}' is no cursor", hint="a page ends with the one that goes on after it, like c50")


# --- words ---


def contact_document(contact: Contact) -> dict[str, Any]:
    """A person as listings show them."""
    return {
        "recipient": contact.address,
        "name": contact.name,
        "whatsapp_name": contact.whatsapp_name,
        "attributes": dict(contact.attributes),
        "opted_out": contact.opted_out_at_ms is not None,
        "opted_out_at": format_time(contact.opted_out_at_ms),
        "last_inbound_at": format_time(contact.last_inbound_at_ms),
        "created_at": format_time(contact.created_at_ms),
    }


def _profile_document(profile: Profile, *, now_ms: int) -> dict[str, Any]:
    return {
        **contact_document(profile.contact),
        "aliases": list(profile.aliases),
        "moved_from": list(profile.moved_from),
        "moved_to": list(profile.moved_to),
        "subgroups": list(profile.subgroups),
        "consent": [
            {
                "at": format_time(row.at_ms),
                "change": row.wish.value,
                "source": row.source.value,
                "wording": row.wording,
                "actor": row.actor,
                "recipient": row.address,
            }
            for row in profile.consent
        ],
        "windows": [
            {
                "instance": talk.instance,
                "window": _judge(talk, now_ms=now_ms).value,
                "last_inbound_at": format_time(talk.last_inbound_at_ms),
                "closed_at": format_time(talk.closed_at_ms),
            }
            for talk in profile.talks
            if talk.transport == "cloud_api"
        ],
        "messages": dict(profile.messages),
        "clicks": profile.clicks,
    }


def _profile_fields(session: Session, profile: Profile, *, now_ms: int) -> list[tuple[str, str]]:
    contact = profile.contact
    fields = [
        ("contact", contact.address + (f"  {contact.name}" if contact.name else "")),
        (
            "wishes",
            "may be written to"
            if contact.opted_out_at_ms is None
            else f"OPTED OUT, {session.describe_time(contact.opted_out_at_ms)}",
        ),
    ]
    if contact.whatsapp_name and contact.whatsapp_name != contact.name:
        fields.append(("on whatsapp", contact.whatsapp_name))
    fields += [(f"  {name}", value) for name, value in contact.attributes.items()]
    if profile.aliases:
        fields.append(("also", ", ".join(profile.aliases)))
    if profile.moved_from:
        fields.append(("before", f"{', '.join(profile.moved_from)}, until they changed their number"))
    if profile.moved_to:
        fields.append(("now", f"{', '.join(profile.moved_to)}: they have changed their number"))
    fields.append(("subgroups", ", ".join(profile.subgroups) or "-"))
    for talk in profile.talks:
        if talk.transport == "cloud_api":
            fields.append(("window", f"{talk.instance}: {_explain_window(session, talk, now_ms=now_ms)}"))
    counts = ", ".join(f"{count} {standing}" for standing, count in profile.messages.items())
    gone = session.open_app().messages.read_pruned()
    rest = f", without those older than {str(format_time(gone.before_ms))[:10]}, which were pruned" if gone else ""
    fields.append(("messages", f"{counts or 'none'}{rest}"))
    if profile.clicks:
        fields.append(("clicks", f"{profile.clicks:,} on short links"))
    fields += [("consent", _explain_consent(session, row, contact)) for row in profile.consent]
    if not profile.consent:
        fields.append(("consent", "nothing in the ledger"))
    return fields


def _judge(talk: Talk, *, now_ms: int) -> Window:
    from wa_cli.domain.window import judge_window

    return judge_window(
        talk.hearing, last_inbound_at_ms=talk.last_inbound_at_ms, closed_at_ms=talk.closed_at_ms, now_ms=now_ms
    )


def _explain_window(session: Session, talk: Talk, *, now_ms: int) -> str:
    from wa_cli.domain.window import WINDOW_MS, Window

    window = _judge(talk, now_ms=now_ms)
    if window is Window.OPEN and talk.last_inbound_at_ms is not None:
        return f"open until {session.describe_time(talk.last_inbound_at_ms + WINDOW_MS)}"
    if window is Window.CLOSED and talk.last_inbound_at_ms is None:
        return "closed: they have never written to it; a template reaches them"
    if window is Window.CLOSED and talk.last_inbound_at_ms is not None:
        return f"closed: they last wrote {session.describe_time(talk.last_inbound_at_ms)}; a template reaches them"
    return "not known: without webhooks nobody can tell whether they wrote"


def _explain_consent(session: Session, row: ConsentRow, contact: Contact) -> str:
    from wa_cli.domain.consent import Wish

    what = "opted out" if row.wish is Wish.OPT_OUT else "opted in"
    words = f"{what} {SOURCES[row.source]}, {session.describe_time(row.at_ms)}"
    if row.wording:
        words += f": {row.wording}"
    if row.actor and not row.actor.startswith("user:"):
        words += f" (by {row.actor})"
    if row.address != contact.address:
        words += f" (as {row.address})"
    return words
