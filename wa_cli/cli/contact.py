"""`wa contact`: people, what is known of them, what they wish, and taking them out of the file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from wa_cli.cli.checking import check
from wa_cli.cli.commands import NOUNS
from wa_cli.cli.importing import NotAllGood, Refusals, RowCounter, count_of, leave, open_list, refuse_whole
from wa_cli.cli.session import Session, clean_text, format_time, session_of
from wa_cli.errors import UsageError, WaError

if TYPE_CHECKING:
    from wa_cli.bootstrap import App
    from wa_cli.domain.contact import ConsentRow, Contact, Profile, Talk
    from wa_cli.domain.window import Window

app = typer.Typer(no_args_is_help=True, help=NOUNS["contact"])
app.command("check")(check)

Who = Annotated[str, typer.Argument(help="A number like +6581234567, or user:ID.", metavar="RECIPIENT")]
Whoever = Annotated[list[str], typer.Argument(help="Numbers like +6581234567, or user:ID.", metavar="RECIPIENT")]

# Where a change of mind came from, for people.
SOURCES: Final = {
    "message": "by a message",
    "preference": "in WhatsApp's own settings",
    "refusal": "as WhatsApp said when it refused a message",
    "person": "entered here",
    "import": "from a list",
    "api": "over the HTTP API",
}


@app.command("list")
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


@app.command("show")
def show(context: typer.Context, recipient: Who) -> None:
    """Show a person.

    Their consent with its wording and time, the 24 h window of each instance, their lists and messages.
    """
    session = session_of(context)
    opened = session.open_app()
    now_ms = opened.clock.wall_ms()
    contact = opened.people.find(_parse_person(session, recipient))
    profile = opened.people.read_profile(contact.id)
    if session.json:
        session.show_json(_profile_document(profile, now_ms=now_ms))
        return
    session.show_fields(_profile_fields(session, profile, now_ms=now_ms))
    if profile.contact.opted_out_at_ms is not None:
        session.hint(f"`wa contact opt-in {contact.address} --reason WHY`, once they have asked for it")


@app.command("opt-out")
def opt_out(
    context: typer.Context,
    recipients: Whoever,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Where and how they said so, for the ledger.")
    ] = None,
) -> None:
    """Never write to these people again, from any instance.

    Messages that wait for them are left out when their time comes. Somebody who is not known yet becomes a contact,
    so that a list that comes later finds them opted out.

    Example: wa contact opt-out +6581234567 --reason "by phone, 25 Nov"
    """
    from wa_cli.domain.consent import Wish

    session = session_of(context)
    opened = session.open_app(create=True)
    _choose(session, opened, recipients, Wish.OPT_OUT, reason=reason)


@app.command("opt-in")
def opt_in(
    context: typer.Context,
    recipients: Whoever,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Where and how they asked for it, for the ledger.")
    ] = None,
) -> None:
    """Write to these people again.

    Somebody who opted out by their own word is only brought back with a --reason and after a question; both stay in
    the ledger with your name.

    Example: wa contact opt-in +6581234567 --reason "signed up again at the counter, form 17"
    """
    from wa_cli.domain.consent import Wish

    session = session_of(context)
    opened = session.open_app()
    _choose(session, opened, recipients, Wish.OPT_IN, reason=reason)


def _choose(session: Session, opened: App, words: list[str], wish: Any, *, reason: str | None) -> None:
    from wa_cli.domain.consent import Source, Wish
    from wa_cli.domain.event import Person
    from wa_cli.services.people import choose

    good, refused = _parse_each(session, words)
    now_ms = opened.clock.wall_ms()
    if wish is Wish.OPT_IN:
        good = _confirm_returns(session, opened, good, refused, reason=reason)
    results: list[dict[str, Any]] = []
    changed = 0
    for address in good:
        person = Person(address=None, user_id=address[5:]) if address.startswith("user:") else Person(address=address)
        with opened.people.turn() as turn:
            contact_id = turn.resolve(person, now_ms=now_ms)
            is_news = choose(
                turn,
                contact_id,
                wish,
                source=Source.PERSON,
                reason=reason,
                actor=_who_types(),
                confirmed=True,
                now_ms=now_ms,
            )
        changed += is_news
        waiting = opened.people.count_waiting(contact_id) if wish is Wish.OPT_OUT else 0
        results.append({"recipient": address, "changed": is_news, "waiting": waiting})
    said = "opted_out" if wish is Wish.OPT_OUT else "opted_in"
    if session.json:
        session.show_json({said: changed, "already": len(good) - changed, "contacts": results, "rows": refused})
    else:
        for one in refused:
            session.say(f"refused: {clean_text(one['reason'])}")
        words_ = said.replace("_", " ")
        already = f", {len(good) - changed:,} already" if changed < len(good) else ""
        session.show(f"{count_of(changed, 'person', 'people')} {words_}{already}")
        waiting = sum(one["waiting"] for one in results)
        if waiting:
            session.say(f"{count_of(waiting, 'message')} waiting for them will not be sent")
    leave(refused=len(refused), taken=len(good), verb="changed")


def _confirm_returns(
    session: Session, opened: App, addresses: list[str], refused: list[dict[str, str]], *, reason: str | None
) -> list[str]:
    """Who may come back: asks about everybody who left by their own word.

    Strangers come in with a reason alone; without one they are added to the refused.
    Raises: Refused without a reason or a yes; NotFound for a single stranger.
    """
    from wa_cli.domain.consent import Wish
    from wa_cli.domain.contact import last_word
    from wa_cli.errors import NotFound, Refused

    allowed = []
    for address in addresses:
        try:
            contact = opened.people.find(address)
        except NotFound as error:
            if reason is not None:
                allowed.append(address)
            elif len(addresses) == 1 and not refused:
                raise
            else:
                refused.append({"text": address, "reason": error.message})
            continue
        allowed.append(address)
        last = last_word(opened.people.read_consent(contact.id))
        if last is None or last.wish is not Wish.OPT_OUT or not last.source.is_own:
            continue
        said = f"{address} opted out {SOURCES[last.source]}, {session.describe_time(last.at_ms)}"
        if last.wording:
            said += f": {clean_text(last.wording)}"
        if reason is None:
            raise Refused(
                said,
                hint=f"say why they may be written to again: wa contact opt-in {address} --reason WHY",
                code="opted_out",
            )
        session.confirm(f"{said}. Write to them again?")
    return allowed


@app.command("import")
def import_file(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="A CSV with a header; - reads stdin.", metavar="FILE")],
    strict: Annotated[bool, typer.Option("--strict", help="None, if any row cannot be read.")] = False,
    encoding: Annotated[
        str | None, typer.Option("--encoding", help="When it is neither UTF-8 nor UTF-16.", metavar="NAME")
    ] = None,
    errors: Annotated[
        Path | None, typer.Option("--errors", help="Write every refused row to this CSV.", metavar="FILE")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file of --errors.")] = False,
) -> None:
    """Take in people with their attributes and consent.

    Beside the recipient's column: opted_out (yes or no), consent_at (when they said so), wording (in which words, or
    where that is kept). Every other column is an attribute. A list can opt people out; it never brings back somebody
    who has opted out here.

    Example: wa contact import people.csv
    """
    from wa_cli.domain.contact import TakenIn
    from wa_cli.services.people import import_people
    from wa_cli.sources.people import read_people

    session = session_of(context)
    opened = session.open_app(create=True)
    now_ms = opened.clock.wall_ms()

    def read(source: Any) -> Any:
        return read_people(
            source,
            default_region=session.settings.default_region(),
            zone=session.settings.zone(),
            now=datetime.fromtimestamp(now_ms / 1000, UTC),
            encoding=encoding,
        )

    with (
        _reread(session, file, errors, twice=strict) as sources,
        Refusals(session, errors, force=force) as refusals,
        RowCounter(session) as counter,
    ):
        try:
            if strict:
                for _person in refusals.sort_out(read(sources()), strict=True):
                    pass
            rows = read(sources()) if strict else refusals.sort_out(read(sources()), strict=False)
            counts = import_people(opened.people, rows, actor=_who_types(), now_ms=now_ms, on_progress=counter.show)
        except NotAllGood:
            counter.stop()
            refusals.report({}, {taken.value: 0 for taken in TakenIn}, was_taken=False)
            raise refuse_whole(refusals) from None
        except (KeyboardInterrupt, WaError):
            counter.stop()
            if counter.rows:
                session.say(f"{counter.rows:,} rows are in, and the same command adds the rest")
            raise
    refusals.report({}, {taken.value: counts[taken] for taken in TakenIn}, was_taken=True)
    if counts[TakenIn.KEPT_OPTED_OUT] and not session.json:
        session.say("who has opted out here stays so, whatever a list says: `wa contact opt-in` brings back one by one")
    taken = counts[TakenIn.ADDED] + counts[TakenIn.UPDATED] + counts[TakenIn.ALREADY_THERE]
    leave(refused=refusals.count, taken=taken, verb="imported")


@app.command("export")
def export(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="The CSV to write; without it, stdout.", metavar="FILE")] = "-",
    opted_out: Annotated[bool, typer.Option("--opted-out", help="Only those whom nobody may write to.")] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Without the marks that keep spreadsheets from running cells.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Write people as CSV, with their consent and attributes.

    `wa contact import` reads it back the same. The file is readable by you alone. Cells that a spreadsheet would run
    as a formula begin with an apostrophe; --raw leaves it away.
    """
    from wa_cli.sources.people import write_people

    session = session_of(context)
    if session.json and file == "-":
        raise UsageError("the CSV and --json cannot share stdout", hint="name a file, or use `wa contact list --json`")
    people = session.open_app().people.iterate(opted_out=opted_out)
    if file == "-":
        write_people(people, sys.stdout, raw=raw)
        return
    from wa_cli.cli.private_file import new_private_file

    with new_private_file(Path(file), force=force) as out:
        count = write_people(people, out, raw=raw)
    if session.json:
        session.show_json({"file": file, "exported": count})
    else:
        session.show(f"exported {count_of(count, 'person', 'people')} to {clean_text(file)}")


@app.command("erase")
def erase(context: typer.Context, recipients: Whoever) -> None:
    """Take people out of the database for good.

    Their messages stay in the counts, without name, number and words. Waiting messages are cancelled. Of somebody who
    had opted out a digest of the number stays, so that a list that comes later cannot write to them. Copies made by
    `wa db backup` are not touched.
    """
    session = session_of(context)
    opened = session.open_app()
    now_ms = opened.clock.wall_ms()
    opened.leases.bury_dead(now_ms=now_ms)
    opened.intake.sweep_abandoned()
    good, refused = _parse_each(session, recipients)
    if refused:
        raise UsageError(refused[0]["reason"], hint="nothing was erased", code="invalid_recipient")
    others = _describe_erase(opened, good)
    session.confirm(f"erase {', '.join(good) if len(good) <= 5 else f'{len(good)} people'}? It cannot be undone")
    documents = []
    for address in good:
        erased = opened.erasure.erase(address, now_ms=now_ms)
        documents.append(
            {
                "recipient": address,
                "messages_kept_without_name": erased.messages,
                "cancelled": erased.cancelled,
                "texts": erased.contents,
                "webhooks": erased.webhooks,
                "suppressed": erased.is_suppressed,
            }
        )
        if not session.json:
            session.show(
                f"erased {address}: {count_of(erased.messages, 'message')} stay in the counts without a name,"
                f" {erased.cancelled} of them cancelled now"
            )
            if erased.is_suppressed:
                session.say("they had opted out: a list that brings the number back cannot write to it")
    if session.json:
        session.show_json({"erased": documents, "count": len(documents), "other_numbers": others})
    elif others:
        session.say(f"the same person has, or had, another number: {', '.join(others)}")
        session.hint(f"`wa contact erase {' '.join(others)}`")
    session.say("copies made by `wa db backup` still hold them")


def _describe_erase(opened: App, addresses: list[str]) -> list[str]:
    """The other numbers of the people who are erased, which stay."""
    from wa_cli.errors import NotFound

    others: dict[str, None] = {}
    for address in addresses:
        try:
            profile = opened.people.read_profile(opened.people.find(address).id)
        except NotFound:
            continue
        known = (*profile.moved_from, *profile.moved_to, *profile.aliases)
        others.update(dict.fromkeys(one for one in known if one.startswith("+") and _is_contact(opened, one, profile)))
    return [other for other in others if other not in addresses]


def _is_contact(opened: App, address: str, profile: Profile) -> bool:
    """Whether an address is that of another contact, and not just a name of this one."""
    from wa_cli.errors import NotFound

    try:
        return opened.people.find(address).id != profile.contact.id
    except NotFound:
        return False


# --- what was typed ---


def _parse_person(session: Session, word: str) -> str:
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


def _parse_each(session: Session, words: list[str]) -> tuple[list[str], list[dict[str, str]]]:
    """The addresses of what can be read, each once, and the others with their reasons."""
    from wa_cli.domain.recipient import show_text

    good: dict[str, None] = {}
    refused: list[dict[str, str]] = []
    for word in words:
        try:
            good[_parse_person(session, word)] = None
        except UsageError as error:
            if len(words) == 1:
                raise
            refused.append({"text": show_text(word), "reason": error.message})
    return list(good), refused


def _parse_cursor(text: str | None) -> int:
    if text is None:
        return 0
    digits = text.removeprefix("c")
    if text.startswith("c") and digits.isascii() and digits.isdigit() and len(digits) < 19:
        return int(digits)
    raise UsageError(f"'{text}' is no cursor", hint="a page ends with the one that goes on after it, like c50")


def _who_types() -> str:
    """Whose hands are on the keyboard, for the ledger."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


def _reread(session: Session, file: str, errors: Path | None, *, twice: bool) -> Any:
    """The list, to be opened once or, for a strict import, twice."""
    from contextlib import nullcontext

    from wa_cli.cli.spool import rewindable

    source = open_list(session, file, errors)
    if twice:
        return rewindable(file)
    once: Callable[[], Any] = lambda: source  # noqa: E731  # a function is what both give
    return nullcontext(once)


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
    fields.append(("messages", counts or "none"))
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
