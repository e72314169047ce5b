"""What failed, and sending it again (rows R6 to R9).  Indexes count in the list last printed, as in `wa resend`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from wa_cli.domain.message import parse_message_id
from wa_cli.errors import NotFound
from wa_cli.services.documents import failed_document, resent_document
from wa_cli.services.resend import ResendOrder, resend, resolve_words
from wa_cli.services.subgroups import find_by_name_or_id
from wa_cli.web.reading import invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wa_cli.bootstrap import App
    from wa_cli.domain.message import MessageId
    from wa_cli.web.models import Resend, ResendChosen
    from wa_cli.web.reading import Caller


def list_failed(app: App, *, subgroup: str | None, campaign: str | None, after: int | None, limit: int) -> JSONResponse:
    """Row R6.  Without `after` the list is numbered anew; with it, the numbered one is read on."""
    app.leases.bury_dead(now_ms=app.clock.wall_ms())
    if after is None:
        total = app.failures.store_printed_list(subgroup=subgroup, campaign=campaign, limit=None)
    else:
        total = app.failures.count_printed()
    page = app.failures.read_printed_list(after=-1 if after is None else after, limit=limit)
    zone = app.settings.zone()
    last = page[-1][0] if page else None
    return JSONResponse(
        {
            "failed_messages": [failed_document(row, zone, index=index) for index, row in page],
            "count": len(page),
            "total": total,
            "next": last if last is not None and last + 1 < total else None,
        }
    )


def resend_chosen(app: App, asked: ResendChosen, *, caller: Caller) -> JSONResponse:
    """Row R7.  Raises: Conflict when an index no longer means what was listed."""
    words = [str(index) for index in asked.message_indices or ()]
    chosen = resolve_words(words, app.failures)
    chosen += [parse_message_id(word) for word in asked.message_ids or ()]
    if not chosen:
        raise invalid([("message_indices", "name at least one message, here or in message_ids")])
    return _resend(app, asked, caller=caller, message_ids=list(dict.fromkeys(chosen)))


def resend_subgroup(app: App, word: str, asked: Resend, *, caller: Caller) -> JSONResponse:
    """Row R8.  A deleted subgroup is still known by the name that its messages were sent with."""
    try:
        name = find_by_name_or_id(app.subgroups, word).name
    except NotFound:
        name = word
    return _resend(app, asked, caller=caller, subgroup=name)


def _resend(
    app: App,
    asked: Resend,
    *,
    caller: Caller,
    message_ids: Sequence[MessageId] | None = None,
    subgroup: str | None = None,
) -> JSONResponse:
    app.leases.bury_dead(now_ms=app.clock.wall_ms())
    order = ResendOrder(
        message_ids=message_ids,
        subgroup=subgroup,
        delay_ms=asked.rate_limit_delay,
        force=asked.force,
        is_dry_run=asked.dry_run,
        duplicate_window_ms=app.settings.count("WA_DUPLICATE_WINDOW_HOURS") * 3_600_000,
        actor=caller.actor,
    )
    result = resend(app.failures, order, now_ms=app.clock.wall_ms())
    return JSONResponse(resent_document(order, result))
