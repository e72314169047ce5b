"""`wa contact check`: whether numbers are on WhatsApp."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wa_cli.cli.importing import count_of
from wa_cli.cli.session import Session, clean_text, format_time, session_of
from wa_cli.errors import UsageError
from wa_cli.services.documents import format_local

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wa_cli.bootstrap import App
    from wa_cli.domain.number import CheckedNumber
    from wa_cli.ports import Instance


def check(
    context: typer.Context,
    numbers: Annotated[list[str] | None, typer.Argument(metavar="NUMBER", help="Numbers like +6581234567.")] = None,
    subgroup: Annotated[
        str | None, typer.Option("--subgroup", metavar="NAME", help="The people of a subgroup.")
    ] = None,
    instance_name: Annotated[
        str | None, typer.Option("--instance", metavar="NAME", help="Whose gateway is asked.")
    ] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Look up those of the last 30 days, too.")] = False,
    delay: Annotated[
        int, typer.Option("--delay", metavar="MS", min=0, max=600_000, help="Milliseconds between two look-ups.")
    ] = 1_000,
) -> None:
    """Look up whether numbers are on WhatsApp. Sends them nothing.

    Each is looked up once in 30 days, through a linked device. From then on a send through one skips those that are
    not there, and writes to the others under the address that WhatsApp has for them.

    Example: wa contact check +6581234567 --instance main
    """
    session = session_of(context)
    if bool(numbers) == (subgroup is not None):
        raise UsageError("say which numbers: some of them, or --subgroup NAME", hint="`wa contact check +6581234567`")
    app_ = session.open_app()
    instance = app_.find_instance(instance_name)
    _require_look_ups(app_, instance)
    addresses = _people_of(app_, subgroup) if subgroup is not None else _parse(session, numbers or [])
    from wa_cli.services.numbers import check_numbers

    counts = {"yes": 0, "no": 0, "unknown": 0}
    looked_up = 0
    documents: list[dict[str, Any]] = []

    def report(address: str, found: CheckedNumber, is_new: bool) -> None:
        nonlocal looked_up
        counts[found.check.verdict] += 1
        looked_up += is_new
        if session.json:
            documents.append(_document(address, found, is_new=is_new))
        else:
            # One by one, as they come: a long list takes its time.
            _show(session, (address, found.check.verdict.value, _describe(session, found, is_new=is_new)))

    try:
        check_numbers(
            addresses,
            app_.numbers,
            partial(app_.ask_gateway, instance),
            instance=instance.name,
            refresh=refresh,
            gap_ms=delay,
            now_ms=app_.clock.wall_ms,
            report=report,
        )
    except BaseException:
        if looked_up:
            session.say(f"{count_of(looked_up, 'number')} looked up and stored; the same command looks up the rest")
        raise
    if session.json:
        session.show_json({"instance": instance.name, **counts, "looked_up": looked_up, "numbers": documents})
        return
    told = ", ".join(f"{n:,} {word}" for word, n in counts.items() if n)
    session.say(f"{told or 'nobody to look up'}; {looked_up:,} looked up now through {clean_text(instance.name)}")
    if counts["no"]:
        session.hint("a send through a linked device skips those with a no for 30 days")


def _require_look_ups(app_: App, instance: Instance) -> None:
    """Raises: UsageError for an instance that cannot look up numbers."""
    provider = app_.provider(instance)
    if not provider.capabilities.checks_numbers:
        raise UsageError(
            f"'{instance.name}' sends through {provider.title}, which cannot look up numbers",
            hint="name an instance of a gateway: --instance NAME; `wa instance list` shows them",
            code="no_number_check",
        )


def _people_of(app_: App, subgroup: str) -> Iterable[str]:
    from wa_cli.domain.recipient import RecipientKind

    found = app_.subgroups.find(subgroup)
    return (
        address
        for _contact_id, address, kind, _attributes in app_.subgroups.iterate_members(found.id)
        if kind is RecipientKind.PERSON
    )


def _parse(session: Session, words: list[str]) -> list[str]:
    """Raises: InvalidRecipient, before anything is looked up."""
    from wa_cli.domain.recipient import RecipientKind, parse_recipient

    region = session.settings.default_region()
    recipients = [parse_recipient(word, default_region=region) for word in words]
    for word, recipient in zip(words, recipients, strict=True):
        if recipient.kind is not RecipientKind.PERSON:
            raise UsageError(f"'{clean_text(word)}' is a group, not a number", hint="`wa instance groups` lists groups")
    return list(dict.fromkeys(recipient.address for recipient in recipients))


def _document(address: str, found: CheckedNumber, *, is_new: bool) -> dict[str, Any]:
    return {
        "recipient": address,
        "on_whatsapp": found.check.verdict.value,
        "chat": found.check.chat,
        "checked_at": format_time(found.checked_at_ms),
        "looked_up": is_new,
    }


def _show(session: Session, cells: tuple[str, str, str]) -> None:
    """One line, aligned on a terminal: a table would wait for the last look-up."""
    address, verdict, words = cells
    session.show(f"{address:<16}  {verdict:<7}  {words}" if sys.stdout.isatty() else "\t".join(cells))


def _describe(session: Session, found: CheckedNumber, *, is_new: bool) -> str:
    when = "looked up now" if is_new else f"looked up {format_local(found.checked_at_ms, session.settings.zone())[:10]}"
    return f"{when}, as {found.check.chat}" if found.check.chat else when
