"""`wa pool`: several instances behind one name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from wa_cli.cli.commands import NOUNS
from wa_cli.cli.session import clean_text, session_of
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from wa_cli.bootstrap import App
    from wa_cli.ports import Pool

app = typer.Typer(no_args_is_help=True, help=NOUNS["pool"])

Name = Annotated[str, typer.Argument(metavar="POOL", help="The pool.")]
Members = Annotated[list[str], typer.Argument(metavar="INSTANCE...", help="Instances that share the work.")]


@app.command("create")
def create(context: typer.Context, name: Name, instances: Members) -> None:
    """Put instances behind one name. Whoever one of them wrote to stays with it; new people go where there is room.

    Example: wa pool create club club-1 club-2, then: wa send subgroup vip "Hello" --instance club
    """
    from wa_cli.cli.instance_setup import check_name

    session = session_of(context)
    check_name(name, "a pool")
    opened = session.open_app()
    opened.pools.create(name, _find_ids(opened, instances), now_ms=opened.clock.wall_ms())
    pool = opened.pools.get(name)
    if session.json:
        session.show_json(_document(opened, pool))
    else:
        session.show(clean_text(f"{name}: {', '.join(pool.members)}"))
        session.hint(f"`wa send ... --instance {name}` sends through it")


@app.command("list")
def list_pools(context: typer.Context) -> None:
    """List the pools and who is in them."""
    session = session_of(context)
    opened = session.open_app()
    pools = opened.pools.list_all()
    if session.json:
        session.show_json({"pools": [_document(opened, pool) for pool in pools], "count": len(pools)})
        return
    session.show_table(("NAME", "INSTANCES"), [(pool.name, ", ".join(pool.members)) for pool in pools])
    if not pools:
        session.say("no pools")
        session.hint("`wa pool create NAME INSTANCE...` makes one")


@app.command("show")
def show(context: typer.Context, name: Name) -> None:
    """Show who is in a pool, how each stands, and whom it writes to."""
    session = session_of(context)
    opened = session.open_app()
    document = _document(opened, opened.pools.get(name))
    if session.json:
        session.show_json(document)
        return
    session.show_table(
        ("INSTANCE", "STATE", "WAITING", "PEOPLE"),
        [(one["name"], one["state"], str(one["waiting"]), str(one["people"])) for one in document["instances"]],
    )


@app.command("add")
def add(context: typer.Context, name: Name, instances: Members) -> None:
    """Add instances to a pool."""
    session = session_of(context)
    opened = session.open_app()
    pool = opened.pools.get(name)
    opened.pools.add(pool.id, _find_ids(opened, instances))
    pool = opened.pools.get(name)
    if session.json:
        session.show_json(_document(opened, pool))
    else:
        session.show(clean_text(f"{name}: {', '.join(pool.members)}"))


@app.command("remove")
def remove(
    context: typer.Context,
    name: Name,
    instance: Annotated[str, typer.Argument(metavar="INSTANCE", help="The instance to take out.")],
) -> None:
    """Take an instance out of a pool. What waits for it stays with it."""
    session = session_of(context)
    opened = session.open_app()
    pool = opened.pools.get(name)
    was_member = opened.pools.remove(pool.id, opened.instances.find(instance).id)
    pool = opened.pools.get(name)
    if session.json:
        session.show_json(_document(opened, pool) | {"removed": was_member})
    elif was_member:
        session.show(clean_text(f"{name}: {', '.join(pool.members) or 'nobody is left'}"))
    else:
        session.show(clean_text(f"{instance} was not in {name}; nothing changed"))


@app.command("delete")
def delete(context: typer.Context, name: Name) -> None:
    """Delete a pool. Its instances stay, with what waits for each."""
    session = session_of(context)
    opened = session.open_app()
    pool = opened.pools.get(name)
    session.confirm(f"delete the pool {name}?")
    opened.pools.delete(pool.id)
    if session.json:
        session.show_json({"deleted": name})
    else:
        session.show(clean_text(f"the pool {name} is deleted"))


def _find_ids(opened: App, names: list[str]) -> list[int]:
    if len(set(names)) != len(names):
        raise UsageError("an instance is named twice", hint="name each of them once")
    return [opened.instances.find(name).id for name in names]


def _document(opened: App, pool: Pool) -> dict[str, Any]:
    from wa_cli.services.instances import judge_standing

    now_ms = opened.clock.wall_ms()
    depths, people = opened.upkeep.read_depths(), opened.pools.count_seats(pool.id)
    shapes = []
    for name in pool.members:
        instance = opened.instances.find(name)
        standing, reason = judge_standing(instance, missing=opened.accounts.find_missing(instance), now_ms=now_ms)
        shapes.append(
            {
                "name": name,
                "state": standing.value,
                "reason": reason,
                "waiting": depths.get(instance.id, (0, 0))[0],
                "people": people.get(instance.id, 0),
            }
        )
    return {"name": pool.name, "instances": shapes}
