"""Whether it works: `GET /health/whatsapp` (row S10) and `GET /instances/ID/status` (row H12)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from wa_cli.domain.recipient import count_cached
from wa_cli.domain.window import WINDOW_MS
from wa_cli.errors import NotFound
from wa_cli.services.connections import read_reconnection
from wa_cli.services.documents import format_time, instance_document, limits_document, reconnection_document
from wa_cli.services.instances import (
    Standing,
    find_next_start_ms,
    note_used,
    read_instance,
    read_limits_in_force,
    start_look_back_ms,
)
from wa_cli.services.status import read_pace

if TYPE_CHECKING:
    from wa_cli.bootstrap import App
    from wa_cli.ports import Instance
    from wa_cli.services.instances import InstanceReport
    from wa_cli.web.thrift import Thrift


def read_health(app: App, *, started_at: float, thrift: Thrift) -> dict[str, Any]:
    """Row S10.  healthy: every instance with an account may send, and somebody does it or nothing is due.

    state, sender: of the first one that is not well, else of the first.

    started_at: of the server, on time.monotonic.
    """
    now_ms = app.clock.wall_ms()
    app.leases.bury_dead(now_ms=now_ms)
    instances = app.instances.list_all()
    reports = [look_at(app, one, now_ms=now_ms) for one in instances]
    reports = [one for one in reports if one.standing is not Standing.NO_ACCOUNT] or reports[:1]
    unwell = [one for one in reports if not _is_well(one, now_ms=now_ms)]
    report = (unwell or reports)[0]
    pace = thrift.ask("pace", lambda: read_pace(app.upkeep, instances, app.limits, now_ms=now_ms))
    talking = thrift.ask("talking", lambda: app.upkeep.count_conversations(since_ms=now_ms - WINDOW_MS))
    return {
        "healthy": not unwell,
        "metrics": {
            "queueLength": app.messages.read_stats()["queued"],
            "cacheSize": count_cached(),
            "conversationStates": talking,
            "rateLimitTracking": pace.limited,
        },
        "uptime": round(time.monotonic() - started_at, 3),
        "state": report.standing.value.upper(),
        "sender": report.holder.role if report.holder else None,
    }


def _is_well(report: InstanceReport, *, now_ms: int) -> bool:
    """Whether it may send, and somebody does it or nothing is due."""
    is_overdue = report.next_due_at_ms is not None and report.next_due_at_ms < now_ms
    may_send = report.standing in (Standing.READY, Standing.RESTING, Standing.RESTRICTED)
    return may_send and (report.holder is not None or not is_overdue)


def find_instance(app: App, word: str) -> Instance:
    """The instance of that name, else of that id."""
    try:
        return app.instances.find(word)
    except NotFound:
        found = [one for one in app.instances.list_all() if str(one.id) == word]
        if not found:
            raise
        return found[0]


def look_at(app: App, instance: Instance, *, now_ms: int) -> InstanceReport:
    return read_instance(
        instance,
        missing=app.accounts.find_missing(instance),
        depths=app.upkeep,
        due_times=app.messages,
        leases=app.leases,
        now_ms=now_ms,
    )


def read_instance_status(app: App, word: str, *, thrift: Thrift) -> dict[str, Any]:
    """Row H12: state, depth, counters, limits, reconnection."""
    now_ms = app.clock.wall_ms()
    app.leases.bury_dead(now_ms=now_ms)
    report = look_at(app, find_instance(app, word), now_ms=now_ms)
    instance_id = report.instance.id
    counters = thrift.ask(("counters", instance_id), lambda: app.upkeep.read_counters(instance_id, now_ms=now_ms))
    limits = app.limits(report.instance)
    starts = app.upkeep.read_starts(instance_id, since_ms=now_ms - start_look_back_ms(limits))
    started_1h = counters.sent_1h + counters.failures_1h + report.sending
    return {
        "instanceId": str(instance_id),
        **instance_document(report),
        "state": report.standing.value.upper(),
        "queueDepth": report.waiting,
        "counters": {
            "sent24h": counters.sent_24h,
            "sent1h": counters.sent_1h,
            "failures1h": counters.failures_1h,
            "disconnects1h": counters.disconnects_1h,
            "started1m": counters.started_1m,
        },
        "rateLimits": {
            "perMinute": _window(limits.per_minute, counters.started_1m),
            "perHour": _window(limits.per_hour, started_1h),
        },
        "nextAllowedSendAt": format_time(
            find_next_start_ms(
                report,
                limits,
                starts,
                now_ms=now_ms,
            )
        ),
        "limits": limits_document(
            note_used(
                read_limits_in_force(
                    app.settings,
                    limits,
                    profile=app.profile(report.instance),
                    instance=report.instance,
                    now_ms=now_ms,
                ),
                starts,
                now_ms=now_ms,
            )
        ),
        "reconnection": _read_reconnection(app, report, now_ms=now_ms),
    }


def _read_reconnection(app: App, report: InstanceReport, *, now_ms: int) -> dict[str, Any]:
    """Of a device that is lost; and the rests of one that cannot be reached, which end by themselves."""
    is_resting = report.standing is Standing.RESTING
    lost = read_reconnection(app.instances, report.instance, app.ladder_terms(report.instance), now_ms=now_ms)
    next_at_ms = report.instance.rests_until_ms if is_resting else lost.next_at_ms
    is_reconnecting = is_resting or lost.is_reconnecting
    return {
        "isReconnecting": is_reconnecting,
        "nextAttemptAt": format_time(next_at_ms) if is_reconnecting else None,
        "reason": report.reason if is_reconnecting else None,
        **reconnection_document(lost),
    }


def _window(limit: int, used: int) -> dict[str, int | None]:
    """limit, remaining: None when nothing limits."""
    return {"limit": limit or None, "used": used, "remaining": max(limit - used, 0) if limit else None}
