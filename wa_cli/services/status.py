"""What `wa status` has to say beside its numbers: what is wrong now, and what to type about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from wa_cli.domain.message import format_message_id
from wa_cli.services.instances import Standing, count_limited_recipients, recipient_look_back_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from wa_cli.domain.campaign import Campaign
    from wa_cli.domain.pacing import Limits
    from wa_cli.ports import Instance
    from wa_cli.services.instances import InstanceReport


class StartLog(Protocol):
    """What was begun of late, (contact id, started at) each."""

    def read_starts(self, instance_id: int, *, since_ms: int) -> list[tuple[int, int]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """code: a word for scripts.  message: one line.  hint: a command, or what to do."""

    code: str
    message: str
    hint: str


# How long a message that went out twice stays among the problems.
DOUBLES_SHOWN_MS: Final = 7 * 86_400_000


def find_troubles(
    stats: Mapping[str, int],
    instances: Sequence[InstanceReport],
    *,
    undismissed: int,
    fixes: Mapping[str, str],
    now_ms: int,
    doubles: Sequence[int] = (),
    held_templates: Sequence[tuple[str, str, int | None, str]] = (),
    unreadable_webhooks: int = 0,
    campaigns: Sequence[Campaign] = (),
) -> list[Trouble]:
    """Everything a person should act on, the gravest first.

    stats: messages by the word that is shown for them.  undismissed: failed ones that are still on the list.
    fixes: what a person can do about the code for which an instance was paused.  doubles: messages that went out twice.
    held_templates: (name, language, until or None, reason) of those that the platform does not take.
    campaigns: those that have been let go and have not ended.
    """
    troubles = []
    for report in instances:
        name = report.instance.name
        if report.standing is Standing.PAUSED:
            # Stopped by a refusal of the platform's, or by wa itself when the clock leapt; paused by a person.
            was_stopped = report.instance.paused_by != "person"
            how = "stopped" if was_stopped else "paused"
            fix = fixes.get(report.instance.pause_code or "", "mend that")
            troubles.append(
                Trouble(
                    code="instance_paused",
                    message=f"{name} does not send, {how}: {report.reason}; {count(report.waiting, 'message')} waiting",
                    hint=f"{fix}, then: wa instance resume {name}" if was_stopped else f"wa instance resume {name}",
                )
            )
        elif report.standing is Standing.NO_ACCOUNT:
            # The environment's own may be left unset where others send.
            if report.waiting or name != "default" or len(instances) == 1:
                fix = "wa init" if name == "default" else "set it in .env"
                troubles.append(Trouble(code="no_account", message=f"{name} has no account: {report.reason}", hint=fix))
        elif report.standing in (Standing.NEEDS_QR, Standing.AUTH_FAILURE):
            troubles.append(
                Trouble(
                    code="instance_needs_person",
                    message=f"{name} does not send: {report.reason}; {count(report.waiting, 'message')} waiting",
                    hint=f"wa instance pair {name}",
                )
            )
        elif report.standing in (Standing.CONNECTING, Standing.DISCONNECTED, Standing.ERROR) and report.waiting:
            troubles.append(
                Trouble(
                    code="not_connected",
                    message=f"{name} does not send: {report.reason}; {count(report.waiting, 'message')} waiting",
                    hint="wa run   (it brings the device back)" if not report.holder else f"wa instance status {name}",
                )
            )
        elif report.restriction is not None and report.restriction.until_ms is None:
            troubles.append(
                Trouble(
                    code="instance_restricted",
                    message=f"{name} is restricted, no end was stated; {report.reason}",
                    hint=f"once WhatsApp has lifted that: wa instance resume {name}",
                )
            )
        elif _nobody_sends(report, now_ms):
            troubles.append(
                Trouble(
                    code="nobody_sends",
                    message=f"{count(report.waiting, 'message')} waiting, some are due, and nobody sends for {name}",
                    hint="wa run   (or from cron: wa drain --max-runtime 50s)",
                )
            )
    troubles += [
        Trouble(
            code="campaign_paused",
            message=f"campaign {one.name} paused itself: {one.pause_reason}",
            hint=f"wa campaign show {one.name}",
        )
        for one in campaigns
        if one.state == "paused" and one.paused_by == "wa"
    ]
    for name, language, until_ms, reason in held_templates:
        end = "until somebody acts" if until_ms is None else f"for another {_minutes(until_ms - now_ms)} min"
        troubles.append(
            Trouble(
                code="template_held",
                message=f"template {name} ({language}) is held {end}: {reason}",
                hint="look at it in WhatsApp Manager; its messages wait",
            )
        )
    if doubles:
        message_id = format_message_id(doubles[0])
        troubles.append(
            Trouble(
                code="proven_duplicate",
                message=f"{count(len(doubles), 'message')} went out twice, as WhatsApp's receipts prove",
                hint=f"wa message explain {message_id}",
            )
        )
    if unreadable_webhooks:
        troubles.append(
            Trouble(
                code="webhooks_failed",
                message=f"{count(unreadable_webhooks, 'webhook')} could not be read",
                hint="wa webhook list --status failed",
            )
        )
    unknown = stats.get("unknown", 0)
    if unknown:
        outcome = "1 message has" if unknown == 1 else f"{unknown:,} messages have"
        troubles.append(Trouble(code="unknown_outcomes", message=f"{outcome} an unknown outcome", hint="wa reconcile"))
    if undismissed:
        failed = f"{count(undismissed, 'message')} failed"
        troubles.append(Trouble(code="failed_messages", message=failed, hint="wa failed list"))
    return troubles


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast it goes.

    limited: recipients who have to wait now (row T7).  started: posts begun in the last minute, by instance.
    """

    limited: int
    started: dict[str, int]

    @property
    def per_second(self) -> float:
        """Posts a second over the last minute (row Q7)."""
        return sum(self.started.values()) / 60


def read_pace(
    log: StartLog, instances: Iterable[Instance], limits_of: Callable[[Instance], Limits], *, now_ms: int
) -> Pace:
    limited, started = 0, {}
    for one in instances:
        limits = limits_of(one)
        starts = log.read_starts(one.id, since_ms=now_ms - max(recipient_look_back_ms(limits), 60_000))
        started[one.name] = sum(1 for _contact, at in starts if at > now_ms - 60_000)
        limited += count_limited_recipients(limits, starts, now_ms=now_ms)
    return Pace(limited=limited, started=started)


def _minutes(milliseconds: int) -> int:
    return max(1, round(milliseconds / 60_000))


def _nobody_sends(report: InstanceReport, now_ms: int) -> bool:
    return report.holder is None and report.next_due_at_ms is not None and report.next_due_at_ms <= now_ms


def count(number: int, noun: str) -> str:
    """`1 message`, `2,310 messages`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
