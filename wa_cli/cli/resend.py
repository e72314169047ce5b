"""`wa resend`: failed messages go back into the queue, spaced, and whoever may not is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from wa_cli.cli.message import open_settled
from wa_cli.cli.session import Session, clean_text, session_of
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from wa_cli.bootstrap import App
    from wa_cli.services.resend import ResendOrder, Resent

ASK_ABOVE: Final = 50
REFUSED_SHOWN: Final = 20
LONGEST_DELAY_MS: Final = 86_400_000


def resend(
    context: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="INDEX|ID", help="Of the list last printed, or ids like m42.")
    ] = None,
    subgroup: Annotated[str | None, typer.Option("--subgroup", metavar="NAME", help="All of this subgroup.")] = None,
    campaign: Annotated[str | None, typer.Option("--campaign", metavar="NAME", help="All of this campaign.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that failed and was not dismissed.")] = False,
    delay: Annotated[
        int,
        typer.Option("--delay", metavar="MS", min=0, max=LONGEST_DELAY_MS, help="Milliseconds between two messages."),
    ] = 3000,
    force: Annotated[bool, typer.Option("--force", help="Permanent errors too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen; change nothing.")] = False,
) -> None:
    """Send failed messages again, spaced, beginning now.

    Their earlier attempts stay in their history.

    Example: wa resend 0 1 2 --delay 3000
    """
    from wa_cli.services.resend import ResendOrder, resend, resolve_words

    session = session_of(context)
    if sum((bool(words), subgroup is not None or campaign is not None, everything)) != 1:
        raise UsageError(
            "say what to resend: indexes, ids, --subgroup, --campaign or --all",
            hint="`wa failed list` shows what failed",
        )
    opened = open_settled(session)
    chosen = resolve_words(words, opened.failures) if words else None
    order = ResendOrder(
        message_ids=chosen,
        subgroup=subgroup,
        campaign=campaign,
        delay_ms=delay,
        force=force,
        is_dry_run=dry_run,
        duplicate_window_ms=session.settings.count("WA_DUPLICATE_WINDOW_HOURS") * 3_600_000,
    )
    size = len(chosen) if chosen is not None else opened.failures.count_failed(subgroup=subgroup, campaign=campaign)
    if size > ASK_ABOVE and not dry_run:
        _ask(session, size, delay_ms=delay)
    result = resend(opened.failures, order, now_ms=opened.clock.wall_ms())
    if result.due and not dry_run and opened.campaigns.list_woken():
        from wa_cli.campaigns.upkeep import wake

        wake(opened)  # a finished campaign is under way again from here on, and can be paused
    _report(session, order, result)
    if result.due and not dry_run:
        _say_who_sends(session, opened, result)
    if result.refused:
        raise typer.Exit(3 if result.due else 6)


def _ask(session: Session, size: int, *, delay_ms: int) -> None:
    if session.yes:
        return
    if not session.can_ask():
        session.say(f"going on without a question: {size} messages, and nobody to ask here")
        return
    session.confirm(f"Resend up to {size} messages, {delay_ms} ms apart?")


def _report(session: Session, order: ResendOrder, result: Resent) -> None:
    from wa_cli.domain.message import format_message_id
    from wa_cli.services.documents import describe_resent, resent_document

    if session.json:
        session.show_json(resent_document(order, result))
        return
    count = len(result.due)
    session.show(describe_resent(order, result))
    if result.due:
        session.show(f"  first  {session.describe_time(result.due[0][1])}")
        if count > 1:
            session.show(f"  last   {session.describe_time(result.due[-1][1])}")
    if result.refused:
        session.show(f"{len(result.refused)} refused")
        for message_id, reason in result.refused[:REFUSED_SHOWN]:
            session.show(f"  {format_message_id(message_id)}: {clean_text(reason)}")
        if len(result.refused) > REFUSED_SHOWN:
            session.say(f"  and {len(result.refused) - REFUSED_SHOWN} more; --json lists all")
    if order.is_dry_run:
        session.say("dry run: nothing was changed")


def _say_who_sends(session: Session, opened: App, result: Resent) -> None:
    from wa_cli.cli.waiting import say_who_sends

    for instance in opened.instances.list_all():
        if instance.id in result.batches:
            say_who_sends(session, opened, instance, count=len(result.due))
