"""The groups of a linked device: `wa instance groups`, and subgroups that are filled with them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wa_cli.cli.importing import count_of, summarize
from wa_cli.cli.session import Session, clean_text, format_time, session_of
from wa_cli.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wa_cli.bootstrap import App
    from wa_cli.domain.group import KnownGroup
    from wa_cli.domain.subgroup import Subgroup
    from wa_cli.ports import Instance
    from wa_cli.services.groups import GroupList

Match = Annotated[
    str | None,
    typer.Option("--match", metavar="TEXT|GLOB", help="Only groups with this in their name, or like '*team*'."),
]
Refresh = Annotated[bool, typer.Option("--refresh", help="Ask the gateway, however young the stored list is.")]


def groups(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The instance; the default one without a name.")
    ] = None,
    match: Match = None,
    refresh: Refresh = False,
) -> None:
    """List the groups that an instance is in.

    With their size, and whether it may write there. The list is stored for an hour.

    Example: wa instance groups main --match 'choir*'
    """
    session = session_of(context)
    app_ = session.open_app()
    instance = app_.find_instance(name)
    listed = read_list(app_, instance, refresh=refresh)
    found = choose(listed, match)
    if session.json:
        session.show_json(
            {
                "instance": instance.name,
                "groups": [describe_group(group) for group in found],
                "count": len(found),
                "seen_at": format_time(listed.seen_at_ms),
                "problem": listed.problem,
            }
        )
        return
    _show(session, [(_sized(group), _may_post(group), group.info.address, group.info.name) for group in found])
    _say_age(session, listed)
    if not found:
        of_all = (
            f"none of the {count_of(len(listed.groups), 'group')} is called like that" if match else "it is in no group"
        )
        session.say(f"{clean_text(instance.name)}: {of_all}")
        return
    session.hint(f"`wa subgroup import NAME --from-instance {instance.name} --match TEXT` makes a subgroup of some")


def read_list(app_: App, instance: Instance, *, refresh: bool) -> GroupList:
    """The groups of an instance.  Raises: UsageError for one without a linked device, what its gateway does."""
    from wa_cli.services.groups import list_groups

    if not app_.provider(instance).capabilities.groups:
        app_.gateway(instance)  # says what it has instead of groups
    return list_groups(
        app_.groups,
        partial(app_.ask_gateway, instance),
        instance_id=instance.id,
        instance=instance.name,
        refresh=refresh,
        now_ms=app_.clock.wall_ms(),
    )


def choose(listed: GroupList, match: str | None) -> list[KnownGroup]:
    from wa_cli.domain.group import matches

    return [group for group in listed.groups if match is None or matches(group.info.name, match)]


def import_groups(
    session: Session, name: str, *, instance_name: str, match: str | None, refresh: bool, make: bool, is_dry_run: bool
) -> None:
    """Put the groups of an instance that match into a subgroup, each once, with their names as attributes."""
    from wa_cli.domain.recipient import Recipient, RecipientKind
    from wa_cli.domain.subgroup import Joined, NewMember

    app_ = session.open_app()
    instance = app_.find_instance(instance_name)
    subgroup = _find_subgroup(app_, name, make=make)
    listed = read_list(app_, instance, refresh=refresh)
    found = choose(listed, match)
    if not found:
        raise NotFound(
            f"none of the {count_of(len(listed.groups), 'group')} of '{instance.name}' is called like '{match}'"
            if match
            else f"'{instance.name}' is in no group",
            hint=f"`wa instance groups {instance.name}` lists them; --refresh asks the gateway again",
            code="no_match",
        )
    joining = [
        NewMember(
            recipient=Recipient(kind=RecipientKind.GROUP, address=group.info.address),
            attributes={"name": group.info.name} if group.info.name else {},
        )
        for group in found
    ]
    there = app_.subgroups.find_members(subgroup.id, [one.recipient.address for one in joining]) if subgroup else set()
    if is_dry_run:
        outcomes = [Joined.ALREADY_THERE if one.recipient.address in there else Joined.ADDED for one in joining]
    else:
        now_ms = app_.clock.wall_ms()
        subgroup_id = subgroup.id if subgroup else app_.subgroups.create(name, now_ms=now_ms)[0].id
        outcomes = app_.subgroups.add_members(subgroup_id, joining, now_ms=now_ms)
    counts = {joined.value: outcomes.count(joined) for joined in Joined}
    if session.json:
        session.show_json(
            {
                "subgroup": subgroup.name if subgroup else name,
                "instance": instance.name,
                "match": match,
                "matched": len(found),
                **counts,
                "dry_run": is_dry_run,
                "members": [
                    {**describe_group(group), "recipient": group.info.address, "outcome": outcome.value}
                    for group, outcome in zip(found, outcomes, strict=True)
                ],
                "problem": listed.problem,
            }
        )
        return
    _show_joined(session, found, outcomes)
    _say_age(session, listed)
    closed = sum(group.info.may_post is False for group in found)
    if closed:
        which = "1 of them is" if closed == 1 else f"{closed:,} of them are"
        session.warn(f"{which} open to admins alone: a send skips what this number may not write to")
    session.show(f"{'would be ' if is_dry_run else ''}{summarize(**counts)}")
    if is_dry_run:
        session.say("dry run: nothing was written")
    else:
        session.hint(f"`wa send subgroup {clean_text(name)} TEXT --delay auto` writes to them")


def _find_subgroup(app_: App, name: str, *, make: bool) -> Subgroup | None:
    """The subgroup that is meant; None where it is still to be made.  Raises: NotFound, UsageError for a bad name."""
    if not make:
        try:
            return app_.subgroups.find(name)
        except NotFound as error:
            hint = f"{error.hint}, or add --create to this command"
            raise NotFound(error.message, hint=hint, code=error.code) from error
    from wa_cli.domain.subgroup import check_subgroup_name

    checked = check_subgroup_name(name)
    try:
        return app_.subgroups.find(checked)
    except NotFound:
        return None


# --- shapes ---


def describe_group(group: KnownGroup) -> dict[str, Any]:
    info = group.info
    return {
        "group_id": info.address,
        "name": info.name,
        "size": info.size,
        "may_post": info.may_post,
        "seen_at": format_time(group.seen_at_ms),
    }


def _show(session: Session, rows: Iterable[tuple[str, str, str, str]]) -> None:
    session.show_table(("SIZE", "MAY POST", "GROUP", "NAME"), rows, keep=(0, 1, 2))


def _show_joined(session: Session, found: Sequence[KnownGroup], outcomes: Sequence[Any]) -> None:
    session.show_table(
        ("SIZE", "MAY POST", "GROUP", "OUTCOME", "NAME"),
        [
            (_sized(group), _may_post(group), group.info.address, outcome.value.replace("_", " "), group.info.name)
            for group, outcome in zip(found, outcomes, strict=True)
        ],
        keep=(0, 1, 2, 3),
    )


def _sized(group: KnownGroup) -> str:
    return "-" if group.info.size is None else str(group.info.size)


def _may_post(group: KnownGroup) -> str:
    return {None: "-", True: "yes", False: "admins only"}[group.info.may_post]


def _say_age(session: Session, listed: GroupList) -> None:
    if listed.problem is not None:
        session.warn(f"the list is of {session.describe_time(listed.seen_at_ms)}: {listed.problem}")
