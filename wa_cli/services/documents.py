"""The shapes in which every door shows what is stored: JSON of messages, failures, answers and instances."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from zoneinfo import ZoneInfo

    from wa_cli.domain.history import MessageRow
    from wa_cli.ports import Enqueued
    from wa_cli.services.connections import Reconnection
    from wa_cli.services.enqueue import SendOrder, Tally
    from wa_cli.services.groups import Preflight
    from wa_cli.services.instances import InstanceReport, LimitInForce
    from wa_cli.services.resend import ResendOrder, Resent


def format_time(at_ms: int | None) -> str | None:
    """RFC 3339 in UTC with Z and milliseconds where there are any; None for None."""
    if at_ms is None:
        return None
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds" if at_ms % 1000 else "seconds").replace("+00:00", "Z")


def format_local(at_ms: int, zone: ZoneInfo) -> str:
    """`2022-01-01 05:30 IST`: a time in the user's zone, as the source systems print it (row R6)."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M %Z")


def summarize(row: MessageRow) -> str:
    """What a message says, in one line of words."""
    from wa_cli.domain.message import content_summary

    return content_summary(row.content) if row.content is not None else "(the stored words are damaged)"


def message_document(row: MessageRow) -> dict[str, Any]:
    """A message as listings show it."""
    from wa_cli.domain.message import content_type, format_batch_id, format_message_id

    return {
        "id": format_message_id(row.id),
        "state": row.standing.value,
        "recipient": row.address,
        "group_name": row.group_name,
        "due_at": format_time(row.due_at_ms),
        "type": content_type(row.content) if row.content is not None else None,
        "body": summarize(row) if row.content is not None else None,
        "subgroup": row.subgroup,
        "subgroup_id": str(row.subgroup_id) if row.subgroup_id is not None else None,
        "campaign": row.campaign,
        "instance": row.instance,
        "batch_id": format_batch_id(row.batch_id),
        "scheduled_at": format_time(row.scheduled_at_ms),
        "expires_at": format_time(row.expires_at_ms),
        "reason": row.reason,
        "error_code": row.error_code,
        "error_details": row.error_details,
        "provider_message_id": row.provider_message_id,
        "changed_at": format_time(row.changed_at_ms),
    }


def failed_document(row: MessageRow, zone: ZoneInfo, *, index: int | None) -> dict[str, Any]:
    """A failed message in the shape of the source systems (row R6): the chat is `group_id`, also for a person."""
    document = message_document(row)
    shape = {
        "id": document["id"],
        "type": document["type"],
        "group_id": row.address,
        "recipient": row.address,
        "group_name": row.group_name,
        "body": document["body"],
        "send_at": str(row.scheduled_at_ms // 1000),
        "status": "failed",
        "error_code": row.error_code,
        "error_details": row.error_details,
        "scheduled_time": format_local(row.scheduled_at_ms, zone),
        "subgroup_id": document["subgroup_id"],
        "subgroup": row.subgroup,
        "campaign": row.campaign,
        "attempts": row.attempts,
        "reason": row.reason,
        "instance": row.instance,
        "failed_at": document["changed_at"],
    }
    return {"index": index, **shape} if index is not None else shape


def enqueued_document(result: Enqueued) -> dict[str, Any]:
    """What became of one line of a call."""
    from wa_cli.domain.message import format_message_id

    shape: dict[str, Any] = {
        "id": format_message_id(result.message_id),
        "recipient": result.address,
        "outcome": result.outcome,
        "queue_position": result.queue_position,
        "due_at": format_time(result.due_at_ms),
        "state": result.state.value,
    }
    if result.reason:
        shape["reason"] = result.reason
    if result.window_is_closed:
        shape["window"] = "closed"
    return shape


def call_document(order: SendOrder, tally: Tally, *, refused: int) -> dict[str, Any]:
    """What became of a whole call, beside its messages.  refused: lines that could not go in at all."""
    from wa_cli.domain.message import format_batch_id

    return {
        "batch_id": format_batch_id(tally.batch_id) if tally.batch_id else None,
        "subgroup": order.subgroup,
        "queued": tally.queued,
        "duplicates": tally.duplicates,
        "skipped": tally.skipped,
        "skipped_by_reason": tally.by_reason,
        "closed_windows": tally.closed_windows,
        "refused": refused,
        "delay_ms": tally.delay_ms,
        "dry_run": order.is_dry_run,
        "start_at": format_time(order.start_at_ms),
    }


def preflight_document(preflight: Preflight) -> dict[str, Any]:
    """What was known of the groups of a call before anything was queued for them.

    members: of those that can be written to, added up; null where no size is known.
    """
    return {
        "groups": preflight.groups,
        "checked": preflight.checked,
        "unreachable": len(preflight.obstacles),
        "members": preflight.people if preflight.sized else None,
        "in_several": preflight.in_several,
        "problem": preflight.problem,
    }


def describe_resent(order: ResendOrder, result: Resent) -> str:
    """One sentence on what a resend did (row R7)."""
    count = len(result.due)
    if not result.due and not result.refused:
        return "no failed messages to resend"
    noun = "message" if count == 1 else "messages"
    verb = "would be rescheduled" if order.is_dry_run else "rescheduled"
    whose = " from subgroup" if order.subgroup is not None else ""
    return f"{count} failed {noun}{whose} {verb} for resending with {order.delay_ms}ms delay"


def resent_document(order: ResendOrder, result: Resent) -> dict[str, Any]:
    """What a resend did (rows R7, R8)."""
    from wa_cli.domain.message import format_batch_id, format_message_id

    return {
        "success": bool(result.due) or not result.refused,
        "message": describe_resent(order, result),
        "resend_count": len(result.due),
        "rate_limit_delay": order.delay_ms,
        "refused": [{"id": format_message_id(message_id), "reason": reason} for message_id, reason in result.refused],
        "batch_ids": [] if order.is_dry_run else [format_batch_id(batch_id) for batch_id in result.batches.values()],
        "messages": [
            {"id": format_message_id(message_id), "due_at": format_time(due_at_ms)}
            for message_id, due_at_ms in result.due
        ],
        "dry_run": order.is_dry_run,
    }


def instance_document(report: InstanceReport) -> dict[str, Any]:
    """One instance at one moment.  restriction: of now, None where nothing is held back."""
    instance, holder = report.instance, report.holder
    restriction = report.restriction
    return {
        "name": instance.name,
        "transport": instance.transport,
        "state": report.standing.value,
        "reason": report.reason,
        "waiting": report.waiting,
        "sending": report.sending,
        "next_due_at": format_time(report.next_due_at_ms),
        "holder": {
            "role": holder.role,
            "pid": holder.pid,
            "host": holder.host,
            "since": format_time(holder.since_ms),
        }
        if holder
        else None,
        "paused_at": format_time(instance.paused_at_ms),
        "paused_by": instance.paused_by,
        "pause_code": instance.pause_code,
        "rests_until": format_time(instance.rests_until_ms or None),
        "restriction": {
            "code": restriction.code,
            "reason": restriction.reason,
            "scope": restriction.scope.value,
            "until": format_time(restriction.until_ms),
        }
        if restriction
        else None,
        "connection": {
            "state": instance.connection.value,
            "since": format_time(instance.connection_since_ms),
            "raw": instance.connection_raw,
            "reason": instance.connection_reason,
        }
        if instance.connection is not None
        else None,
        "address": instance.address,
    }


def reconnection_document(reconnection: Reconnection) -> dict[str, Any]:
    """How a lost device is being brought back (row H12)."""
    return {
        "attempts": reconnection.attempts,
        "restartsUsed": reconnection.used,
        "restartsAllowed": reconnection.at_most,
        "windowMinutes": round(reconnection.window_ms / 60_000),
        "nextRestart": reconnection.next_rung.value if reconnection.next_rung else None,
        "nextRestartAt": format_time(reconnection.next_at_ms),
    }


def limits_document(limits: Iterable[LimitInForce]) -> list[dict[str, Any]]:
    """The limits of an instance.  value: 0 when nothing limits.  used, left: null where they are not counted."""
    return [
        {
            "limit": limit.name,
            "value": limit.value,
            "origin": limit.origin,
            "used": limit.used,
            "left": limit.left,
        }
        for limit in limits
    ]
