"""The words for every rule that decides about a message, and for what happens to it next."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never

from wa_cli.domain.message import OnUnknown, format_batch_id, format_message_id
from wa_cli.domain.receipt import ARRIVALS, Receipt, Standing
from wa_cli.domain.recipient import mask_address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wa_cli.domain.history import AttemptRow, CampaignPart, History, Origin, ReceiptRow

# Rules as the store writes them, in words that say what the rule is.
RULE_WORDS: Final[Mapping[str, str]] = {
    "accepted": "WhatsApp took it",
    "not_sent": "nothing of it was written, so it is tried again and the attempt does not count",
    "outcome_unknown": "the request was written and no verdict came back: it may or may not have been accepted",
    "unknown_skipped": "its outcome is unknown, and --on-unknown skip leaves it at that",
    "unknown_resent": "no evidence came within the waiting time, and --on-unknown resend sends it again",
    "settled_late": "the answer came in after its sender had lost the lease",
    "retry": "a passing error: tried again with growing waits",
    "hours": "this error passes only after hours",
    "out_of_attempts": "every attempt that it may have was used up",
    "permanent": "the same message would be refused again, so it is not retried",
    "throttled": "WhatsApp slowed the whole instance down; the attempt does not count",
    "pair_limit": "too many messages to this recipient in a short time; the attempt does not count",
    "instance_stopped": "the error stops the whole instance until a person acts; the attempt does not count",
    "not_ready": "the linked device was not connected, so nothing went out; the attempt does not count",
    "restricted": "put off: WhatsApp holds this number back for a time; the attempt does not count",
    "recipient_limit": "put off: one recipient is written to only so often",
    "new_people_limit": "put off: only so many new people are written to in 24 hours",
    "new_chats_limit": "put off: only so many chats with strangers are opened in 24 hours",
    "unanswered": "they have not answered, and only so many messages in a row are sent to somebody who does not",
    "window_closed": "they had not written within 24 h, and WA_WINDOW=refuse keeps free text from closed windows",
    "not_on_whatsapp": "the number is not on WhatsApp, as `wa contact check` found out",
    "not_in_group": "the instance is not in this group",
    "may_not_post": "only admins may write to this group, and the instance is none",
    "erased": "the person was erased",
    "expired": "its time had run out (--expires)",
    "duplicate": "the same words for the same recipient had gone out or were waiting",
    "content_damaged": "the stored words no longer match their checksum, so they are never sent",
    "resent": "queued again by `wa resend`",
    "cancel_requested": "`wa message cancel` came while it was on its way: it is not tried again",
    "cancelled": "taken out of the queue by `wa message cancel`",
    "dismissed": "taken off the list of failures by `wa failed dismiss`",
    "settled_by_receipt": "WhatsApp's receipt shows that it was accepted",
    "failed_late": "WhatsApp took it and said later that it failed",
    "proven_duplicate": "it went out twice, as WhatsApp's receipts prove",
    "opted_out": "the person has opted out, so it is not sent",
    "template_held": "put off: WhatsApp does not take this template now",
    "campaign_paused": "put off: its campaign is paused",
    "quiet_hours": "put off: its campaign rests in these hours",
    "quiet_unknown": "put off: when its campaign rests is not understood on this machine",
    "campaign_limit": "put off: its campaign has limits of its own",
    "marked_sent": "a person said that it was sent",
    "marked_not_sent": "a person said that it was not sent",
}

# Rules that give a message another due time.
MOVING_RULES: Final = frozenset(
    {
        "not_sent",
        "unknown_resent",
        "retry",
        "hours",
        "throttled",
        "pair_limit",
        "instance_stopped",
        "not_ready",
        "restricted",
        "recipient_limit",
        "new_people_limit",
        "new_chats_limit",
        "template_held",
        "campaign_limit",
        "quiet_hours",
        "quiet_unknown",
        "failed_late",
        "resent",
    }
)

# What became of a receipt; one that was applied shows in the message itself.
RECEIPT_WORDS: Final[Mapping[str, str]] = {
    "applied": "",
    "behind": "which was known or overtaken",
    "noted": "noted and not applied, since it was delivered",
    "parked": "to be applied with the record of its post",
}

OUTCOME_WORDS: Final[Mapping[str, str]] = {
    "accepted": "accepted",
    "rejected": "rejected",
    "not_sent": "not sent",
    "ambiguous": "no verdict",
    "marked_sent": "no verdict; marked as sent by a person",
    "marked_not_sent": "no verdict; marked as not sent by a person",
}

# Codes that wa itself writes, beside the vendor's: what each means, and what to do.
OWN_CODES: Final[Mapping[str, tuple[str, str | None]]] = {
    "worker_died": ("the process that sent it ended before the answer was recorded", "`wa reconcile` settles it"),
    "not_sent": ("a person marked it as not sent", "`wa resend` sends it again"),
    "content_damaged": ("the stored words were changed on the disk", "`wa db check`, then send it anew"),
    "dns_failed": ("the name of the API could not be looked up", "check the network and WHATSAPP_API_URL"),
    "connect_refused": ("nobody listens at the API's address", "check WHATSAPP_API_URL"),
    "connect_failed": ("no connection to the API", "check the network"),
    "connect_timeout": ("no connection to the API in time", "check the network"),
    "tls_certificate": ("the API's certificate was refused", "check this machine's clock and its certificates"),
    "tls_failed": ("no secure connection to the API", "check the network, a proxy may be in the way"),
    "proxy_unreachable": ("the proxy cannot be reached", "check HTTPS_PROXY"),
    "proxy_refused": ("the proxy refused the connection", "check HTTPS_PROXY and its password"),
    "no_answer_in_time": ("it was written, and no answer came in time", "`wa reconcile` settles it"),
    "closed_without_answer": ("the connection closed after it was written", "`wa reconcile` settles it"),
    "connection_reset": ("the connection broke after it was begun", "`wa reconcile` settles it"),
    "answer_cut": ("the answer broke off", "`wa reconcile` settles it"),
    "failed": ("WhatsApp says that it failed, and not why", "`wa resend` sends it again"),
    "no_receipts": (
        "messages are taken, and WhatsApp acknowledges none of them",
        "look whether they arrive: pair the device anew if not, mend the way of the webhooks if they do",
    ),
    "account_restricted": ("Meta has restricted the account", "open WhatsApp Manager: it says why and how to appeal"),
    "account_disabled": ("Meta has disabled the account, or is about to", "open WhatsApp Manager and appeal"),
    "account_deleted": ("the business account is gone or no longer connected", "set up another account with `wa init`"),
    "lease_ran_out": ("its sender slept past its lease before the post began", None),
    "too_many_restarts": (
        "the linked device was lost again and again, and restarts did not help",
        "look at the gateway and at the phone: `wa instance status` shows what it says",
    ),
    "file_missing": ("the file that it carries is gone or was changed", "send it again with the file"),
    "unsupported_type": ("the instance's transport has no such messages", "send it through another instance"),
    "no_files": ("there was nowhere to read its file from", "send it again"),
    "upload_failed": ("its file could not be uploaded; nobody was written to", "check the network"),
    "media_expired": ("the platform no longer had its file, which is uploaded again", None),
    "overslept": ("its sender slept between the start and the post", None),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What around a message decides about its next step.

    holder: who sends for its instance (`daemon`, `drain`, `wait`), or None.  pause_reason: why the instance is paused,
    None when it is not.  rests_until_ms: 0 when it does not rest.  resend_refusal: why a resend would leave it out.
    """

    now_ms: int
    holder: str | None
    pause_reason: str | None
    rests_until_ms: int
    rest_reason: str | None
    resend_refusal: str | None
    resend_unknown_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStep:
    """What happens to a message next, and what to type to change that.  at_ms: when, if a time is known."""

    words: str
    commands: tuple[str, ...] = ()
    at_ms: int | None = None


def explain_rule(rule: str, details: str | None = None) -> str:
    """The words for a rule with what was noted beside it.  A rule without words of its own stands for itself."""
    words = RULE_WORDS.get(rule, rule)
    return f"{words} ({details})" if details else words


def explain_origin(origin: Origin, *, subgroup: str | None, campaign: str | None) -> str:
    """Which call or campaign queued a message, and as which of its messages."""
    part = origin.part
    if part is not None:
        return f"{_describe_part(part)}: batch {format_batch_id(origin.batch_id)}, {origin.position} of {origin.size}"
    match origin.kind:
        case "subgroup":
            call = f"`wa send subgroup {subgroup}`"
        case "file":
            call = "`wa send batch`"
        case _:
            call = "`wa send to`"
    where = f", campaign {campaign}" if campaign else ""
    place = f"number {origin.position} of {origin.size}" if origin.size > 1 else "a single message"
    urgent = ", --immediate" if origin.priority == 0 else ""
    asked = f", asked for by {origin.actor}" if origin.actor else ""
    return f"{call}{urgent}{where}{asked}: batch {format_batch_id(origin.batch_id)}, {place}"


def _describe_part(part: CampaignPart) -> str:
    words = [f"campaign {part.campaign}", f"run r{part.run_id}"]
    words[1] += f" ({part.occurrence})" if part.occurrence else ""
    words += [f"{name} {value}" for name, value in (("stage", part.stage), ("variant", part.variant)) if value]
    return ", ".join(words)


def explain_due(history: History) -> str:
    """Why it is, or was, due when it is: the start that was asked for, its place in the spacing, what moved it."""
    message, origin = history.message, history.origin
    start = f"--at {origin.at_words}" if origin.at_words else "at once"
    steps = (message.scheduled_at_ms - origin.start_at_ms) // origin.delay_ms if origin.delay_ms else 0
    words = f"{start} + {steps} x {origin.delay_ms} ms" if steps else start
    if origin.part is not None:
        words = "as its campaign was planned"
    if message.due_at_ms == message.scheduled_at_ms:
        return words
    movers = [*(decision.rule for decision in history.decisions), message.reason]
    mover = next((rule for rule in reversed(movers) if rule in MOVING_RULES), "retry")
    return f"{words}; then moved: {explain_rule(mover)}"


def explain_attempt(attempt: AttemptRow, refused: ReceiptRow | None, describe_time: Callable[[int], str]) -> str:
    """What became of one post, on one line.

    refused: what said later that it failed.  describe_time: how a time is shown, from milliseconds since 1970.
    """
    if attempt.outcome is None:
        return "on its way, no answer recorded yet"
    parts = [OUTCOME_WORDS.get(attempt.outcome, attempt.outcome)]
    if refused is not None:
        answered_at_ms = attempt.started_at_ms + (attempt.latency_ms or 0)
        was_accepted = attempt.http_status is not None and attempt.http_status < 300
        first = f"accepted {describe_time(answered_at_ms)}" if was_accepted else "no verdict at first"
        # WhatsApp's clock knows whole seconds only: it refused nothing before it had taken it.
        parts = [first, f"refused later {describe_time(max(refused.at_ms, answered_at_ms))}"]
    why = ": ".join(part for part in (attempt.error_code, attempt.details) if part)
    if why:
        parts.append(why)
    if attempt.provider_message_id:
        parts.append(attempt.provider_message_id)
    if attempt.http_status is not None:
        parts.append(f"HTTP {attempt.http_status}")
    if attempt.latency_ms is not None:
        parts.append(f"{attempt.latency_ms} ms")
    if not attempt.is_counted and attempt.outcome != "accepted":
        parts.append("does not count")
    return ", ".join(parts)


def explain_receipt(receipt: ReceiptRow) -> str:
    """What WhatsApp said about a post, and what that did."""
    why = ": ".join(part for part in (receipt.error_code, receipt.details) if part)
    words = RECEIPT_WORDS.get(receipt.rule, receipt.rule)
    who = f" for {show_participant(receipt.participant)}" if receipt.participant else ""
    return ", ".join(part for part in (f"WhatsApp says {receipt.status}{who}", why, words) if part)


def show_participant(participant: str) -> str:
    """A member of a group for people: the number masked, or the end of the id of somebody who hides it."""
    if participant.startswith("erased:"):
        return "somebody erased"
    return mask_address(participant) if participant.startswith("+") else f"…{participant[-4:]}"


def explain_participants(history: History) -> str | None:
    """How far a message has come in its group, counted by members, or None where no receipt has named one."""
    found = history.participants
    if not found:
        return None
    counts = Counter(receipt.status for receipt in found)
    reached = sum(counts[status] for status in ARRIVALS)
    others = f" of {history.group_size - 1}" if history.group_size and history.group_size > len(found) else ""
    parts = ", ".join(f"{counts[status]} {status}" for status in Receipt if counts[status])
    return f"reached {reached}{others}: {parts}"


def explain_next(history: History, around: Surroundings) -> NextStep:
    """What happens to the message next, and what to type."""
    message, origin = history.message, history.origin
    name = format_message_id(message.id)
    match message.standing:
        case Standing.QUEUED:
            return _explain_waiting(history, around)
        case Standing.SENDING:
            who = f"a {around.holder} is posting it" if around.holder else "its sender is gone"
            return NextStep(words=f"{who}; without a recorded answer it becomes unknown, never sent twice")
        case Standing.SENT:
            return NextStep(words="nothing: it was accepted, which is not yet delivered")
        case Standing.DELIVERED | Standing.READ:
            return NextStep(words=f"nothing: it was {message.standing}")
        case Standing.FAILED:
            if around.resend_refusal is None:
                return NextStep(words="nothing by itself", commands=(f"wa resend {name}",))
            return NextStep(words=f"nothing: a resend would refuse it, {around.resend_refusal}")
        case Standing.UNKNOWN:
            commands = (
                f"wa reconcile --mark sent {name}        # the person has it",
                f"wa reconcile --mark not-sent {name}    # they do not, so it may be sent again",
            )
            is_first = message.reason == "outcome_unknown"  # not one whose second post failed or came too late
            in_time = message.expires_at_ms is None or message.expires_at_ms > around.now_ms
            may_repeat = is_first and in_time and message.attempts < origin.max_attempts
            if origin.on_unknown is OnUnknown.RESEND and may_repeat:
                return NextStep(
                    words="its policy --on-unknown resend sends it again unless evidence comes first",
                    commands=commands,
                    at_ms=message.changed_at_ms + round(around.resend_unknown_seconds * 1000),
                )
            return NextStep(words="it is held, and never sent again by itself: ask the person, then", commands=commands)
        case Standing.SKIPPED:
            if message.address.startswith("erased:"):
                return NextStep(words="nothing: the person was erased")
            command = {
                "opted_out": f"wa contact show {message.address}",
                "window_closed": f"wa send to {message.address} --template NAME",
            }.get(message.reason or "", "wa send ... --again")
            return NextStep(words="nothing: skipped is final", commands=(command,))
        case Standing.EXPIRED | Standing.CANCELLED:
            return NextStep(words=f"nothing: {message.standing} is final", commands=("wa send ...",))
        case _:
            assert_never(message.standing)


def _explain_waiting(history: History, around: Surroundings) -> NextStep:
    message, origin = history.message, history.origin
    name = format_message_id(message.id)
    cancel = f"wa message cancel {name}"
    if not origin.is_released:
        return NextStep(words="it waits until the call that queues it has finished", commands=(cancel,))
    part = origin.part
    if part is not None and part.held_reason == "canary":
        return NextStep(
            words="it waits until its campaign's canary has been judged",
            commands=(f"wa campaign show {part.campaign}", cancel),
        )
    if part is not None and part.is_held:
        return NextStep(
            words=f"it waits: campaign {part.campaign} is paused",
            commands=(f"wa campaign resume {part.campaign}", cancel),
        )
    if around.pause_reason is not None:
        return NextStep(
            words=f"it waits: instance {message.instance} is paused ({around.pause_reason})",
            commands=(f"wa instance resume {message.instance}", cancel),
        )
    due_at_ms = max(message.due_at_ms, around.rests_until_ms)
    if message.expires_at_ms is not None and message.expires_at_ms <= max(due_at_ms, around.now_ms):
        return NextStep(words="it expires before it may leave", commands=(cancel,), at_ms=message.expires_at_ms)
    if around.holder is None:
        return NextStep(
            words="it waits, and nobody sends", commands=("wa run", "wa drain", cancel), at_ms=message.due_at_ms
        )
    if around.rests_until_ms > around.now_ms:
        return NextStep(
            words=f"it waits: instance {message.instance} rests ({around.rest_reason})",
            commands=(cancel,),
            at_ms=due_at_ms,
        )
    if message.due_at_ms <= around.now_ms:
        return NextStep(words=f"it is due: the {around.holder} sends it as the limits allow", commands=(cancel,))
    return NextStep(words=f"it is not due yet; the {around.holder} will send it", commands=(cancel,), at_ms=due_at_ms)
