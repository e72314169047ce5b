"""The queue from outside: what stands where, and how far a campaign has come (rows Q6, Q7, T7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from wa_cli.services.status import read_pace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wa_cli.bootstrap import App
    from wa_cli.store.sqlite.totals import CampaignTotals
    from wa_cli.web.thrift import Thrift


def read_status(app: App, campaign: str | None, *, thrift: Thrift) -> JSONResponse:
    """Row Q7.  With a campaign the stats are those of its audience.  Raises: NotFound for one that never was."""
    now_ms = app.clock.wall_ms()
    app.bury_dead(now_ms=now_ms)
    totals = None if campaign is None else thrift.ask(("campaign", campaign), lambda: app.totals.read(campaign))
    pace = read_pace(app.upkeep, app.instances.list_all(), app.limits, now_ms=now_ms)
    return JSONResponse(
        {
            "stats": name_stats(app.messages.read_stats() if totals is None else totals.stats),
            "avgSendRate": f"{pace.per_second:.1f} msg/sec",
            "campaign": None if totals is None else campaign_document(totals),
            "throttling": {"activeRateLimits": pace.limited},
            "deliveryFailures": {"pending": app.messages.count_waiting_retries()},
            "queue": {"waiting": app.messages.read_stats()["queued"]},
        }
    )


def name_stats(stats: Mapping[str, int]) -> dict[str, int]:
    """Our words as the source systems have them: what waits is pending, what is on its way is processing."""
    renamed = {"queued": "pending", "sending": "processing"}
    return {renamed.get(word, word): n for word, n in stats.items()}


def campaign_document(totals: CampaignTotals) -> dict[str, Any]:
    """Row Q6: counters that only grow.  What was delivered was sent too, and what was read was delivered."""
    name, stats = totals.name, totals.stats
    delivered = stats["delivered"] + stats["read"]
    sent = stats["sent"] + delivered
    total = sum(stats.values())
    open_ = stats["queued"] + stats["sending"]
    return {
        "id": int(name) if name.isascii() and name.isdigit() and len(name) < 16 else name,
        "name": name,
        "state": totals.state,
        "progress": (total - open_) * 100 // total if total else 0,
        "total": total,
        "pending": open_,
        "sent": sent,
        "delivered": delivered,
        "read": stats["read"],
        "failed": stats["failed"],
        "failedCount": stats["failed"],
        "replied": totals.replied,
        "optedOut": totals.opted_out,
        "clicked": totals.clicked,
        "clickedCount": totals.clicked,
        "unknown": stats["unknown"],
        "skipped": stats["skipped"],
        "expired": stats["expired"],
        "cancelled": stats["cancelled"],
    }
