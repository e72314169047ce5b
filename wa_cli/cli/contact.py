"""`wa contact`: what people wish, lists of them in and out, and erasing them.  Showing them has a room of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wa_cli.cli import contact_show
from wa_cli.cli.checking import check
from wa_cli.cli.commands import NOUNS
from wa_cli.cli.contact_show import SOURCES, parse_person
from wa_cli.cli.importing import NotAllGood, Refusals, RowCounter, count_of, leave, open_list, refuse_whole
from wa_cli.cli.session import Session, clean_text, session_of
from wa_cli.errors import UsageError, WaError

if TYPE_CHECKING:
    from wa_cli.bootstrap import App
    from wa_cli.domain.contact import Profile

app = typer.Typer(no_args_is_help=True, help=NOUNS["contact"])
app.command("check")(check)
app.command("list")(contact_show.list_people)
app.command("show")(contact_show.show)

Whoever = Annotated[list[str], typer.Argument(help="Numbers like +6581234567, or user:ID.", metavar="RECIPIENT")]


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


def _parse_each(session: Session, words: list[str]) -> tuple[list[str], list[dict[str, str]]]:
    """The addresses of what can be read, each once, and the others with their reasons."""
    from wa_cli.domain.recipient import show_text

    good: dict[str, None] = {}
    refused: list[dict[str, str]] = []
    for word in words:
        try:
            good[parse_person(session, word)] = None
        except UsageError as error:
            if len(words) == 1:
                raise
            refused.append({"text": show_text(word), "reason": error.message})
    return list(good), refused


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
