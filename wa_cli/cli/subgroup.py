"""`wa subgroup`: named lists of people and groups, filled by hand or from files."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from wa_cli.cli.commands import NOUNS
from wa_cli.cli.groups import Match, Refresh, import_groups
from wa_cli.cli.importing import (
    NotAllGood,
    Refusals,
    RowCounter,
    count_of,
    leave,
    open_list,
    refuse_whole,
    summarize,
)
from wa_cli.cli.session import Session, clean_json, clean_text, format_time, session_of
from wa_cli.errors import UsageError, WaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wa_cli.bootstrap import App
    from wa_cli.domain.subgroup import SubgroupSizes

MEMBERS_SHOWN: Final = 50

app = typer.Typer(no_args_is_help=True, help=NOUNS["subgroup"])

Name = Annotated[str, typer.Argument(help="The subgroup.", metavar="NAME")]
Recipients = Annotated[list[str], typer.Argument(help="Numbers like +6581234567, or group ids.", metavar="RECIPIENT")]


@app.command("create")
def create(
    context: typer.Context, name: Annotated[str, typer.Argument(help="1 to 100 characters.", metavar="NAME")]
) -> None:
    """Make an empty subgroup; one that is there already stays as it is.

    Example: wa subgroup create vip
    """
    session = session_of(context)
    from wa_cli.domain.subgroup import check_subgroup_name

    checked = check_subgroup_name(name)
    wa = session.open_app(create=True)
    subgroup, is_new = wa.subgroups.create(checked, now_ms=wa.clock.wall_ms())
    if session.json:
        session.show_json(
            {"id": str(subgroup.id), "name": subgroup.name, "created": is_new, "members": subgroup.members}
        )
    elif is_new:
        session.show(f"created subgroup {clean_text(subgroup.name)}")
        typed = _typed(subgroup.name)
        session.hint(f"`wa subgroup import {typed} people.csv`, or `wa subgroup add {typed} +6581234567`")
    else:
        session.show(
            f"subgroup {clean_text(subgroup.name)} is there already, with {count_of(subgroup.members, 'member')}"
        )


@app.command("list")
def list_all(context: typer.Context) -> None:
    """Show every subgroup and how many people and groups are in it."""
    session = session_of(context)
    subgroups = session.open_app().subgroups.list_all()
    if session.json:
        session.show_json({"subgroups": [_describe(sizes) for sizes in subgroups], "count": len(subgroups)})
        return
    if not subgroups:
        session.hint("there is no subgroup yet: `wa subgroup create vip` makes one")
        return
    from wa_cli.cli.message import format_listed

    zone = session.settings.zone()
    session.show_table(
        ("NAME", "MEMBERS", "PEOPLE", "GROUPS", "CREATED"),
        [
            (
                sizes.subgroup.name,
                str(sizes.subgroup.members),
                str(sizes.people),
                str(sizes.groups),
                format_listed(sizes.subgroup.created_at_ms, zone),
            )
            for sizes in subgroups
        ],
    )


@app.command("show")
def show(
    context: typer.Context,
    name: Name,
    show_all: Annotated[bool, typer.Option("--all", help="All members, on a terminal too.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="The first N members.", metavar="N")] = None,
) -> None:
    """Show the members in their order.

    And how long a send to them would take. On a terminal the first 50; in a pipe all of them, tab-separated:
    recipient, kind, attributes as JSON.
    """
    from itertools import islice

    session = session_of(context)
    store = session.open_app().subgroups
    sizes = store.read_sizes(store.find(name).id)
    subgroup = sizes.subgroup
    if limit is None and not show_all and not session.json and sys.stdout.isatty():
        limit = MEMBERS_SHOWN
    members = islice(store.iterate_members(subgroup.id), limit)
    if session.json:
        _write_members_document(sizes, members)
        return
    session.show_table(
        ("RECIPIENT", "KIND", "ATTRIBUTES"),
        ((address, kind.value, attributes or "") for _contact_id, address, kind, attributes in members),
    )
    if limit is not None and limit < subgroup.members:
        session.say(f"… and {subgroup.members - limit:,} more; --all shows them")
    kinds = f"{count_of(sizes.people, 'person', 'people')} and {count_of(sizes.groups, 'group')}"
    session.say(f"{clean_text(subgroup.name)}: {count_of(subgroup.members, 'member')}, {kinds}")
    _say_opted_out(session, session.open_app().people.count_opted_out_members(subgroup.id))
    if subgroup.members > 1:
        session.say(_describe_pace(subgroup.members))


@app.command("add")
def add(context: typer.Context, name: Name, recipients: Recipients) -> None:
    """Add people and groups, each once however they are spelled.

    What cannot be read is named with its reason, the rest goes in (exit 3); when nothing can be read, exit 2.

    Example: wa subgroup add vip +6581234567 "+49 170 1234567" 120363025246125486@g.us
    """
    session = session_of(context)
    from wa_cli.domain.subgroup import Joined, NewMember

    wa = session.open_app()
    subgroup = wa.subgroups.find(name)
    good, refused = _parse_each(session, recipients)
    joining = [NewMember(recipient=recipient) for _text, recipient in good]
    outcomes = wa.subgroups.add_members(subgroup.id, joining, now_ms=wa.clock.wall_ms()) if joining else []
    added = outcomes.count(Joined.ADDED)
    there = len(outcomes) - added
    opted_out = wa.people.count_opted_out_members(subgroup.id)
    if session.json:
        session.show_json(
            {
                "subgroup": subgroup.name,
                "added": added,
                "already_there": there,
                "refused": len(refused),
                "opted_out": opted_out,
                "members": [
                    {"recipient": recipient.address, "text": text, "outcome": outcome.value}
                    for (text, recipient), outcome in zip(good, outcomes, strict=True)
                ],
                "rows": refused,
            }
        )
    else:
        _say_refused(session, refused)
        session.show(summarize(added=added, already_there=there, refused=len(refused)))
        _say_opted_out(session, opted_out)
    leave(refused=len(refused), taken=len(good), verb="added")


@app.command("remove")
def remove(context: typer.Context, name: Name, recipients: Recipients) -> None:
    """Take people and groups out of a subgroup.

    Messages already queued for them stay queued.
    """
    session = session_of(context)
    wa = session.open_app()
    subgroup = wa.subgroups.find(name)
    good, refused = _parse_each(session, recipients)
    addresses = list(dict.fromkeys(recipient.address for _text, recipient in good))
    removed = wa.subgroups.remove_members(subgroup.id, addresses) if addresses else set()
    missing = [address for address in addresses if address not in removed]
    if session.json:
        session.show_json(
            {
                "subgroup": subgroup.name,
                "removed": len(removed),
                "not_there": missing,
                "refused": len(refused),
                "rows": refused,
            }
        )
    else:
        _say_refused(session, refused)
        for address in missing:
            session.say(f"{address} is not in {clean_text(subgroup.name)}")
        session.show(summarize(removed=len(removed), not_there=len(missing), refused=len(refused)))
        if removed and (waiting := wa.subgroups.count_waiting(subgroup.id)):
            session.say(_describe_waiting(waiting))
            session.hint(f"`wa message list --subgroup {_typed(subgroup.name)} --state queued` shows them")
    leave(refused=len(refused), taken=len(good), verb="removed")


@app.command("import")
def import_file(
    context: typer.Context,
    name: Name,
    file: Annotated[
        str | None, typer.Argument(help="CSV, or one recipient a line; - reads stdin.", metavar="FILE")
    ] = None,
    from_instance: Annotated[
        str | None, typer.Option("--from-instance", metavar="NAME", help="The groups of this instance, not a file.")
    ] = None,
    match: Match = None,
    refresh: Refresh = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show which groups would be added.")] = False,
    make: Annotated[bool, typer.Option("--create", help="Make the subgroup if there is none of that name.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="All rows or none.")] = False,
    encoding: Annotated[
        str | None, typer.Option("--encoding", help="When it is neither UTF-8 nor UTF-16.", metavar="NAME")
    ] = None,
    errors: Annotated[
        Path | None, typer.Option("--errors", help="Write every refused row to this CSV.", metavar="FILE")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file of --errors.")] = False,
) -> None:
    """Add recipients of a file, or an instance's groups.

    A file goes in in its order; its other columns become attributes. A row that cannot be read is reported with its
    line and reason, the others go in (exit 3; exit 2 when no row can be read). An import that was interrupted keeps
    what it had read, and the same command adds the rest. Somebody who is a member already keeps their place; what
    the file says about them is merged into their attributes. With --from-instance the groups come from a linked
    device, with their names; those that are in it already are skipped.

    Example: wa subgroup import vip people.csv

    Example: wa subgroup import choirs --create --from-instance main --match 'choir*'
    """
    session = session_of(context)
    if from_instance is not None:
        if file is not None or strict or encoding is not None or errors is not None or force:
            raise UsageError(
                "--from-instance takes no file and none of its flags",
                hint=f"`wa subgroup import {_typed(name)} --from-instance {from_instance}`",
            )
        import_groups(
            session,
            name,
            instance_name=from_instance,
            match=match,
            refresh=refresh,
            make=make,
            is_dry_run=dry_run,
        )
        return
    if file is None:
        raise UsageError(
            "say where the members come from",
            hint=f"`wa subgroup import {_typed(name)} people.csv`, or --from-instance NAME for its groups",
        )
    if match is not None or refresh or dry_run:
        raise UsageError(
            "--match, --refresh and --dry-run go with --from-instance",
            hint="`wa subgroup import --help` shows both ways",
        )
    from wa_cli.domain.subgroup import Joined, check_subgroup_name
    from wa_cli.services.subgroups import import_as_read, import_whole
    from wa_cli.sources.recipients import read_recipients

    checked = check_subgroup_name(name) if make else name
    region = session.settings.default_region()
    wa = session.open_app(create=make)
    find_subgroup = _finder(wa, checked, make=make)
    source = open_list(session, file, errors)
    with Refusals(session, errors, force=force) as refusals, RowCounter(session) as counter:
        rows = refusals.sort_out(read_recipients(source, default_region=region, encoding=encoding), strict=strict)
        take_in = import_whole if strict else import_as_read
        try:
            counts = take_in(wa.subgroups, find_subgroup, rows, now_ms=wa.clock.wall_ms(), on_progress=counter.show)
        except NotAllGood:
            counts = None
        except (KeyboardInterrupt, WaError):
            counter.stop()
            if counter.rows and not strict:
                session.say(f"{counter.rows:,} rows are in, and the same command adds the rest")
            raise
    if counts is None:
        refusals.report({"subgroup": checked}, {joined.value: 0 for joined in Joined}, was_taken=False)
        raise refuse_whole(refusals)
    if counts or not refusals.count:
        subgroup_id = find_subgroup()  # an empty list makes an empty subgroup
        opted_out = wa.people.count_opted_out_members(subgroup_id)
    else:
        opted_out = 0
    refusals.report(
        {"subgroup": checked, "opted_out": opted_out},
        {joined.value: counts[joined] for joined in Joined},
        was_taken=True,
    )
    _say_opted_out(session, opted_out)
    leave(refused=refusals.count, taken=counts.total(), verb="imported")


@app.command("export")
def export(
    context: typer.Context,
    name: Name,
    file: Annotated[str, typer.Argument(help="The CSV to write; without it, stdout.", metavar="FILE")] = "-",
    raw: Annotated[
        bool, typer.Option("--raw", help="Without the marks that keep spreadsheets from running cells.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Write the members as CSV.

    `wa subgroup import` reads it back the same. The file is readable by you alone. Cells that a spreadsheet would
    run as a formula begin with an apostrophe, numbers too because of their plus; --raw leaves it away.
    """
    session = session_of(context)
    from wa_cli.domain.subgroup import decode_attributes
    from wa_cli.sources.recipients import write_recipients

    if session.json and file == "-":
        raise UsageError(
            "the CSV and --json cannot share stdout",
            hint=f"name a file, or use `wa subgroup show {_typed(name)} --json`",
        )
    store = session.open_app().subgroups
    subgroup = store.find(name)
    rows = (
        (address, decode_attributes(attributes))
        for _contact_id, address, _kind, attributes in store.iterate_members(subgroup.id)
    )
    if file == "-":
        write_recipients(rows, sys.stdout, raw=raw)
        return
    from wa_cli.cli.private_file import new_private_file

    with new_private_file(Path(file), force=force) as out:
        count = write_recipients(rows, out, raw=raw)
    if session.json:
        session.show_json({"subgroup": subgroup.name, "file": file, "exported": count})
    else:
        session.show(f"exported {count_of(count, 'member')} to {clean_text(file)}")


@app.command("rename")
def rename(
    context: typer.Context,
    name: Name,
    new_name: Annotated[str, typer.Argument(help="Its new name.", metavar="NEW_NAME")],
) -> None:
    """Give a subgroup another name. What was sent to it keeps belonging to it."""
    session = session_of(context)
    from wa_cli.domain.subgroup import check_subgroup_name

    checked = check_subgroup_name(new_name)
    store = session.open_app().subgroups
    subgroup = store.find(name)
    store.rename(subgroup.id, checked)
    if session.json:
        session.show_json({"id": str(subgroup.id), "name": checked, "old_name": subgroup.name})
    else:
        session.show(f"renamed subgroup {clean_text(subgroup.name)} to {clean_text(checked)}")


@app.command("delete")
def delete(context: typer.Context, name: Name) -> None:
    """Delete a subgroup, not its history.

    Messages already queued stay queued. Asks when it has members.
    """
    session = session_of(context)
    store = session.open_app().subgroups
    subgroup = store.find(name)
    if subgroup.members:
        session.confirm(
            f"delete the subgroup '{clean_text(subgroup.name)}' with {count_of(subgroup.members, 'member')}?"
        )
    waiting = store.count_waiting(subgroup.id)
    members = store.delete(subgroup.id)
    if session.json:
        session.show_json({"id": str(subgroup.id), "name": subgroup.name, "members": members, "still_queued": waiting})
        return
    session.show(f"deleted subgroup {clean_text(subgroup.name)} with {count_of(members, 'member')}")
    if waiting:
        session.say(_describe_waiting(waiting))
        session.hint(f"`wa message cancel --subgroup {_typed(subgroup.name)}` cancels them")


# Recipients that were typed


def _parse_each(session: Session, texts: list[str]) -> tuple[list[tuple[str, Any]], list[dict[str, str]]]:
    """(text, Recipient) of what can be read, and the others with their reasons."""
    from wa_cli.domain.recipient import InvalidRecipient, parse_recipient, show_text

    region = session.settings.default_region()
    good: list[tuple[str, Any]] = []
    refused: list[dict[str, str]] = []
    for text in texts:
        try:
            good.append((text, parse_recipient(text, default_region=region)))
        except InvalidRecipient as error:
            if len(texts) == 1:
                raise
            reason = f"{error.message}; {error.hint}" if error.hint else error.message
            refused.append({"text": show_text(text), "reason": reason})
    return good, refused


def _say_refused(session: Session, refused: list[dict[str, str]]) -> None:
    for one in refused:
        session.say(f"refused: {clean_text(one['reason'])}")


def _finder(wa: App, name: str, *, make: bool) -> Callable[[], int]:
    """The subgroup's id when it is asked for; with `make` it is made then and not before.

    Raises: NotFound at once when there is none of that name and none is to be made.
    """
    if make:
        return lambda: wa.subgroups.create(name, now_ms=wa.clock.wall_ms())[0].id
    from wa_cli.errors import NotFound

    try:
        subgroup_id = wa.subgroups.find(name).id
    except NotFound as error:
        hint = f"{error.hint}, or add --create to this command"
        raise NotFound(error.message, hint=hint, code=error.code) from error
    return lambda: subgroup_id


# Words


def _say_opted_out(session: Session, opted_out: int) -> None:
    """Members who have opted out stay on the list, and every send leaves them out."""
    if opted_out and not session.json:
        who = "1 member has" if opted_out == 1 else f"{opted_out:,} members have"
        session.say(f"{who} opted out: a send skips them")
        session.hint("`wa contact list --opted-out` shows everybody who has")


def _write_members_document(sizes: SubgroupSizes, members: Iterable[tuple[int, str, Any, str | None]]) -> None:
    """One JSON document, written member by member: a million of them take no memory."""
    described = {key: value for key, value in _describe(sizes).items() if key != "members"}
    head = clean_json(json.dumps(described, ensure_ascii=False))
    sys.stdout.write(f'{head[:-1]}, "members": [')
    count = 0
    for count, (_contact_id, address, kind, attributes) in enumerate(members, 1):
        fields = json.dumps({"recipient": address, "kind": kind.value})
        sys.stdout.write(f'{", " if count > 1 else ""}{fields[:-1]}, "attributes": {clean_json(attributes or "{}")}}}')
    sys.stdout.write(f'], "count": {count}}}\n')


def _describe(sizes: SubgroupSizes) -> dict[str, object]:
    subgroup = sizes.subgroup
    return {
        "id": str(subgroup.id),
        "name": subgroup.name,
        "members": subgroup.members,
        "people": sizes.people,
        "groups": sizes.groups,
        "created_at": format_time(subgroup.created_at_ms),
    }


def _describe_pace(members: int) -> str:
    """How long a send takes with the delay that suits the size.  Row R4."""
    from wa_cli.domain.schedule import auto_delay_ms

    delay_ms = auto_delay_ms(members)
    return (
        f"a send with --delay auto: {delay_ms / 1000:g} s apart, {_duration((members - 1) * delay_ms // 1000)} in all"
    )


def _duration(seconds: int) -> str:
    """The two largest units."""
    parts = [(seconds // 86_400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s")]
    first = next((index for index, (amount, _unit) in enumerate(parts) if amount), 3)
    return " ".join(f"{amount} {unit}" for amount, unit in parts[first : first + 2] if amount) or "0 s"


def _describe_waiting(waiting: int) -> str:
    return f"{count_of(waiting, 'message')} queued for it earlier will still be sent"


def _typed(name: str) -> str:
    """A name as it is typed in a shell."""
    return shlex.quote(clean_text(name))
