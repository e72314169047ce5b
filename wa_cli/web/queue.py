"""The queue from outside: what stands where, and how far a campaign has come (rows Q6, Q7, T7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from wa_cli.services.status import read_pace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wa_cli.bootstrap import App
    from wa_cli.web.thrift import Thrift


def read_status(app: App, campaign: str | None, *, thrift: Thrift) -> JSONResponse:
    """Row Q7.  With a campaign the stats are those of its messages.  Raises: NotFound for one that never was."""
    now_ms = app.clock.wall_ms()
    app.bury_dead(now_ms=now_ms)
    if campaign is None:
        stats = app.messages.read_stats()
    else:
        stats = thrift.ask(("campaign", campaign), lambda: app.messages.read_campaign_stats(campaign))
    pace = read_pace(app.upkeep, app.instances.list_all(), app.limits(), now_ms=now_ms)
    return JSONResponse(
        {
            "stats": name_stats(stats),
            "avgSendRate": f"{pace.per_second:.1f} msg/sec",
            "campaign": None if campaign is None else campaign_document(campaign, stats),
            "throttling": {"activeRateLimits": pace.limited},
            "deliveryFailures": {"pending": app.messages.count_waiting_retries()},
            "queue": {"waiting": app.messages.read_stats()["queued"]},
        }
    )


def name_stats(stats: Mapping[str, int]) -> dict[str, int]:
    """Our words as the source systems have them: what waits is pending, what is on its way is processing."""
    renamed = {"queued": "pending", "sending": "processing"}
    return {renamed.get(word, word): n for word, n in stats.items()}


def campaign_document(campaign: str, stats: Mapping[str, int]) -> dict[str, Any]:
    """Row Q6: counters that only grow.  What was delivered was sent too, and what was read was delivered."""
    delivered = stats["delivered"] + stats["read"]
    sent = stats["sent"] + delivered
    total = sum(stats.values())
    open_ = stats["queued"] + stats["sending"]
    return {
        "id": int(campaign) if campaign.isascii() and campaign.isdigit() and len(campaign) < 16 else campaign,
        "name": campaign,
        "progress": (total - open_) * 100 // total if total else 0,
        "total": total,
        "pending": open_,
        "sent": sent,
        "delivered": delivered,
        "read": stats["read"],
        "failed": stats["failed"],
        "failedCount": stats["failed"],
        "unknown": stats["unknown"],
        "skipped": stats["skipped"],
        "expired": stats["expired"],
        "cancelled": stats["cancelled"],
    }
