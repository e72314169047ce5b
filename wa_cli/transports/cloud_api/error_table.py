"""Meta's error codes as data: what each means for the queue, and what a person can do about it.

Codes and meanings follow Meta's public error reference; the classes are ours.  One table serves both roads a
code comes by: the answer to a send, and the `failed` status of a webhook.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from wa_cli.domain.connection import RestrictionScope
from wa_cli.domain.outcome import Consequence, ErrorClass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RETRY_AFTER_CAP_SECONDS = 3600.0  # a header may slow us for an hour; longer waits are the table's to order
USAGE_WAIT_CAP_SECONDS = 86400.0  # quotas are counted over an hour or a day, so more is a damaged header
QUOTA_WAIT_SECONDS = 60.0  # for a call quota when no header says how long
_HOUR = 3600.0


class Scope(StrEnum):
    """Which road a code is seen on."""

    SEND = "send"  # the answer to a send, and perhaps a failed status
    DELIVERY = "delivery"  # only a failed status, after the send was accepted
    MANAGEMENT = "management"  # calls about templates, numbers, groups, block lists
    OUT_OF_SCOPE = "out_of_scope"  # features wa does not use


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRule:
    """What one code means.

    title: our words, one line.  fix: what the user should do, one line, or None when waiting is enough.
    wait_seconds: before the next attempt, or None for the queue's own back-off.
    max_attempts: the code's own cap, or None for the message's.  known: False for a code not in the table.
    consequence: for the recipient or the template, beside this message.  restricts: which other messages of the number
    the platform holds back, with RESTRICTED.
    """

    code: int
    title: str
    error_class: ErrorClass
    scope: Scope = Scope.SEND
    wait_seconds: float | None = None
    max_attempts: int | None = None
    fix: str | None = None
    known: bool = True
    consequence: Consequence | None = None
    restricts: RestrictionScope | None = None


_RETRY, _THROTTLE, _PAIR, _HOURS = ErrorClass.RETRY, ErrorClass.THROTTLE, ErrorClass.PAIR, ErrorClass.HOURS
_DEAD_R, _DEAD_M, _STOP = ErrorClass.DEAD_RECIPIENT, ErrorClass.DEAD_MESSAGE, ErrorClass.STOP
_RESTRICTED = ErrorClass.RESTRICTED

_LOG_IN = "create a new token in Meta Business settings and set it as WHATSAPP_ACCESS_TOKEN"
_RIGHTS = "give the system user the whatsapp_business_messaging permission on this number, then make a new token"
_MANAGER = "open WhatsApp Manager: it says what is restricted and how to appeal"
_PAY = "add or repair the payment method of the business account in Meta's billing page"
_COUNT = "compare the values with `wa template show`: their number, names and order must match"
_NUMBER_ID = "check the phone number id in WHATSAPP_API_URL and that the token may use it"


def _rules(scope: Scope, *rows: tuple[int, str, ErrorClass, dict[str, Any]]) -> Iterator[tuple[int, ErrorRule]]:
    for code, title, error_class, rest in rows:
        yield code, ErrorRule(code=code, title=title, error_class=error_class, scope=scope, **rest)


PLATFORM = dict(
    _rules(
        Scope.SEND,
        (0, "the app user could not be authenticated", _STOP, {"fix": _LOG_IN}),
        (1, "unknown fault on Meta's side, or a malformed call", _RETRY, {"max_attempts": 3}),
        (2, "Meta's service is down for a moment", _RETRY, {}),
        (3, "the app lacks a capability or permission", _STOP, {"fix": _RIGHTS}),
        (4, "the app made too many calls", _THROTTLE, {"wait_seconds": QUOTA_WAIT_SECONDS}),
        (10, "permission denied", _STOP, {"fix": _RIGHTS}),
        (17, "the user made too many calls", _THROTTLE, {"wait_seconds": QUOTA_WAIT_SECONDS}),
        (32, "too many calls for the page", _THROTTLE, {"wait_seconds": QUOTA_WAIT_SECONDS}),
        (33, "the number was deleted or its id is wrong", _STOP, {"fix": _NUMBER_ID}),
        (100, "a parameter is not valid", _DEAD_M, {"fix": "read the details: they name the parameter"}),
        (104, "a token or its proof is missing", _STOP, {"fix": _LOG_IN}),
        (190, "the access token is no longer valid", _STOP, {"fix": _LOG_IN}),
        (368, "blocked for a time for breaking a policy", _STOP, {"fix": _MANAGER}),
        (613, "a call quota is used up", _THROTTLE, {"wait_seconds": QUOTA_WAIT_SECONDS}),
        (80007, "the business account made too many calls", _THROTTLE, {"wait_seconds": QUOTA_WAIT_SECONDS}),
        (131005, "access denied", _STOP, {"fix": _RIGHTS}),
        (131031, "the account is locked", _STOP, {"fix": _MANAGER}),
    )
)

MESSAGING = dict(
    _rules(
        Scope.SEND,
        (130403, "this business has blocked the person", _DEAD_R, {"fix": "unblock the person, then resend"}),
        (130429, "the number's throughput is reached", _THROTTLE, {"wait_seconds": 2.0}),
        (
            130497,
            "this kind of business may not write to that country",
            _DEAD_R,
            {"fix": "take that country's numbers out of the audience"},
        ),
        (131000, "something went wrong on Meta's side", _RETRY, {"max_attempts": 3}),
        (
            131008,
            "a required parameter is missing",
            _DEAD_M,
            {"fix": "read the details: they name the parameter"},
        ),
        (
            131009,
            "a parameter's value is not valid",
            _DEAD_M,
            {"fix": "read the details: they name the parameter"},
        ),
        (131016, "a service is unavailable for a moment", _RETRY, {}),
        (131021, "the recipient is the sender itself", _DEAD_R, {"fix": "take your own number off the list"}),
        (
            131030,
            "a test number may only write to its list of allowed recipients",
            _DEAD_R,
            {"fix": "add the recipient in the app's WhatsApp panel, or use a real number"},
        ),
        (
            131037,
            "the number's display name is not approved",
            _STOP,
            {"fix": "get the display name approved in WhatsApp Manager"},
        ),
        (131044, "a payment problem (calls)", _STOP, {"fix": _PAY}),
        (
            131045,
            "the number's registration or certificate is wrong",
            _STOP,
            {"fix": "register the number again in WhatsApp Manager"},
        ),
        (
            131048,
            "too many people blocked or reported this number",
            _RESTRICTED,
            {
                "fix": "see its quality in WhatsApp Manager, wait some hours, then `wa instance resume`",
                "restricts": RestrictionScope.OUTSIDE_WINDOW,
            },
        ),
        (131051, "this type of message is not supported", _DEAD_M, {"fix": "send it as another type"}),
        (
            131053,
            "the media could not be taken: format, size or link",
            _DEAD_M,
            {"fix": "check the file's type and size, and that its link is public"},
        ),
        (131055, "this method is not allowed", _DEAD_M, {"fix": "check WHATSAPP_API_URL"}),
        (131056, "too many messages to this person in a short time", _PAIR, {}),
        (131057, "the number is in maintenance", _THROTTLE, {"wait_seconds": 60.0}),
        (
            131061,
            "a template with a maximum price needs the Marketing Messages API",
            _DEAD_M,
            {"fix": "use a template without a maximum price"},
        ),
        (
            131062,
            "this message cannot go to a business-scoped user id",
            _DEAD_R,
            {"fix": "send to the phone number"},
        ),
        (
            131063,
            "marketing is switched off on this API",
            _STOP,
            {"fix": "allow marketing on the Cloud API for this account, or use other templates"},
        ),
        (131064, "limited after templates of a wrong category", _STOP, {"fix": _MANAGER}),
        (133010, "the number is not registered", _STOP, {"fix": "register the number in WhatsApp Manager"}),
        (
            134011,
            "the payments terms are not accepted",
            _STOP,
            {"fix": "accept the terms in WhatsApp Manager"},
        ),
        (135000, "a fault Meta does not explain", _RETRY, {"max_attempts": 2}),
        (
            137000,
            "the recipient's identity has changed",
            _DEAD_R,
            {"fix": "make sure it is still the same person, then resend"},
        ),
        (
            139200,
            "sending without a template is not allowed here",
            _STOP,
            {"fix": "use an approved template"},
        ),
    )
) | dict(
    _rules(
        Scope.DELIVERY,
        (130472, "the person is in an experiment that gets no marketing", _DEAD_R, {}),
        (130501, "an unsupported message came in from a group", _DEAD_M, {}),
        (
            131026,
            "undeliverable: not on WhatsApp, an old app, or terms not accepted",
            _DEAD_R,
            {"fix": "check the number; one later `wa resend --force` may still work"},
        ),
        (131042, "a payment problem", _STOP, {"fix": _PAY}),
        (
            131047,
            "more than 24 hours since the person last wrote",
            _DEAD_M,
            {"fix": "send an approved template instead of free text", "consequence": Consequence.WINDOW_CLOSED},
        ),
        (
            131049,
            "held back by WhatsApp to protect the person's attention",
            _HOURS,
            {"wait_seconds": 24 * _HOUR, "max_attempts": 2},
        ),
        (
            131050,
            "the person stopped marketing from this business",
            _DEAD_R,
            {
                "fix": "nothing: they are on the list of those who opted out, and nobody writes to them",
                "consequence": Consequence.OPTED_OUT,
            },
        ),
        (
            131052,
            "the media could not be fetched",
            _RETRY,
            {"max_attempts": 2, "fix": "check that the link is public and answers with the right type"},
        ),
    )
)

TEMPLATES = dict(
    _rules(
        Scope.SEND,
        (132000, "the number of template values differs", _DEAD_M, {"fix": _COUNT}),
        (
            132001,
            "no approved template of that name and language",
            _DEAD_M,
            {"fix": "`wa template list` shows the approved names and languages"},
        ),
        (132005, "the template is too long once filled", _DEAD_M, {"fix": "shorten the values"}),
        (
            132007,
            "the template breaks a policy on characters or format",
            _DEAD_M,
            {"fix": "change the template"},
        ),
        (132008, "a template value is not valid", _DEAD_M, {"fix": _COUNT}),
        (132012, "a template value has the wrong format", _DEAD_M, {"fix": _COUNT}),
        (
            132015,
            "the template is paused for low quality",
            _HOURS,
            {
                "wait_seconds": 3 * _HOUR,
                "fix": "look at its feedback in WhatsApp Manager, or use another template",
                "consequence": Consequence.TEMPLATE_HELD,
            },
        ),
        (
            132016,
            "the template is disabled for good",
            _DEAD_M,
            {"fix": "make a new template", "consequence": Consequence.TEMPLATE_HELD},
        ),
        (132018, "a template parameter is at fault", _DEAD_M, {"fix": _COUNT}),
        (132068, "the flow is blocked", _DEAD_M, {"fix": "repair the flow in WhatsApp Manager"}),
        (132069, "the flow is throttled", _HOURS, {"wait_seconds": _HOUR}),
        (134100, "that API takes marketing templates only", _DEAD_M, {"fix": "use a marketing template"}),
        (134101, "the template is still being synchronised", _RETRY, {"wait_seconds": 600.0}),
        (134102, "the template cannot be used there", _DEAD_M, {"fix": "use another template"}),
    )
) | dict(
    _rules(
        Scope.MANAGEMENT,
        (139000, "the flow failed its integrity check", _DEAD_M, {}),
        (139001, "the flow could not be updated", _DEAD_M, {}),
        (139002, "the flow could not be published", _DEAD_M, {}),
        (139003, "the flow could not be deprecated", _DEAD_M, {}),
        (139004, "the flow could not be deleted", _DEAD_M, {}),
        (2388019, "the account has as many templates as it may", _DEAD_M, {"fix": "delete unused templates"}),
        (2388024, "a template of that name and language exists", _DEAD_M, {"fix": "choose another name"}),
        (2388039, "a template placeholder is malformed", _DEAD_M, {}),
        (2388040, "a template field is too long", _DEAD_M, {}),
        (2388047, "the template's header is malformed", _DEAD_M, {}),
        (2388072, "the template's body is malformed", _DEAD_M, {}),
        (2388073, "the template's footer is malformed", _DEAD_M, {}),
        (2388293, "the template has too many variables for its length", _DEAD_M, {}),
        (2388299, "a template variable stands at the edge", _DEAD_M, {}),
    )
)

GROUPS_AND_REGISTRATION = (
    dict(
        _rules(
            Scope.SEND,
            (131020, "nobody else is in the group", _DEAD_R, {}),
            (131041, "unknown group, or not a member of it", _DEAD_R, {}),
            (131201, "some of the group's members were not reached", _DEAD_R, {}),
            (131203, "the member has not accepted the terms", _DEAD_R, {}),
            (131207, "the group is suspended", _DEAD_R, {"fix": _MANAGER}),
            (
                131215,
                "the number may not use groups",
                _STOP,
                {"fix": "send to people, or use a gateway for groups"},
            ),
        )
    )
    | dict(
        _rules(
            Scope.MANAGEMENT,
            (131059, "a paging cursor is no longer valid", _RETRY, {"max_attempts": 2}),
            (131202, "the member is there already", _DEAD_M, {}),
            (131204, "the group is full", _DEAD_M, {}),
            (131208, "too many group operations", _THROTTLE, {"wait_seconds": QUOTA_WAIT_SECONDS}),
            (131209, "the group picture is not square", _DEAD_M, {}),
            (131210, "the group picture is too small", _DEAD_M, {}),
            (131211, "the number has too many groups", _DEAD_M, {}),
            (131212, "that person is not in the group", _DEAD_M, {}),
            (131213, "there is no such request to join", _DEAD_M, {}),
            (
                131214,
                "making groups is switched off for now",
                _HOURS,
                {"wait_seconds": 24 * _HOUR, "fix": _MANAGER},
            ),
            (133000, "an earlier deregistration is not complete", _RETRY, {}),
            (133004, "the registration server is busy", _RETRY, {}),
            (133005, "the two-step PIN is wrong", _STOP, {"fix": "set the right PIN in WhatsApp Manager"}),
            (
                133006,
                "the number must be verified again",
                _STOP,
                {"fix": "verify the number in WhatsApp Manager"},
            ),
            (133008, "too many wrong PINs", _STOP, {"fix": "wait as long as the details say"}),
            (133009, "the PIN was entered too fast", _STOP, {"fix": "wait as long as the details say"}),
            (
                133015,
                "the number was deleted a moment ago",
                _STOP,
                {"fix": "wait some minutes, then register it"},
            ),
            (133016, "registered or deregistered too often", _HOURS, {"wait_seconds": 72 * _HOUR}),
            (139100, "some people could not be blocked or unblocked", _DEAD_M, {}),
            (139101, "the block list is full", _DEAD_M, {}),
            (139102, "the block list was changed at the same time", _RETRY, {"max_attempts": 2}),
            (139103, "the block list had an internal fault", _RETRY, {}),
            (200005, "template insights are off", _DEAD_M, {}),
            (200006, "template insights cannot be switched off", _DEAD_M, {}),
            (200007, "template insights are not available", _DEAD_M, {}),
            (2388012, "the number cannot be moved", _STOP, {"fix": _MANAGER}),
            (2388091, "the number cannot be moved", _STOP, {"fix": _MANAGER}),
            (2388093, "the number cannot be moved", _STOP, {"fix": _MANAGER}),
            (2388103, "the number cannot be moved", _STOP, {"fix": _MANAGER}),
            (2494100, "the number is in maintenance", _RETRY, {"wait_seconds": 60.0}),
        )
    )
    | dict(
        _rules(
            Scope.OUT_OF_SCOPE,
            (2593107, "the history was asked for too often", _DEAD_M, {}),
            (2593108, "the time for asking for the history is over", _DEAD_M, {}),
        )
    )
)

ERROR_TABLE: Mapping[int, ErrorRule] = PLATFORM | MESSAGING | TEMPLATES | GROUPS_AND_REGISTRATION


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeRange:
    """Codes that share one meaning, first and last included; a code's own row goes before its range."""

    first: int
    last: int
    title: str
    error_class: ErrorClass
    scope: Scope
    fix: str | None = None


ERROR_RANGES = (
    CodeRange(
        first=200,
        last=299,
        title="an API permission is missing",
        error_class=_STOP,
        scope=Scope.SEND,
        fix=_RIGHTS,
    ),
    CodeRange(
        first=138000,
        last=138018,
        title="a fault of the calling API",
        error_class=_DEAD_M,
        scope=Scope.OUT_OF_SCOPE,
    ),
    CodeRange(
        first=141000,
        last=141999,
        title="Meta's health check blocks this account or number",
        error_class=_STOP,
        scope=Scope.SEND,
        fix="`wa doctor` shows the health of the account; WhatsApp Manager says how to repair it",
    ),
    CodeRange(
        first=147001,
        last=147005,
        title="a fault of business usernames",
        error_class=_DEAD_M,
        scope=Scope.MANAGEMENT,
    ),
    CodeRange(
        first=2388000,
        last=2388999,
        title="a template or number call was refused",
        error_class=_DEAD_M,
        scope=Scope.MANAGEMENT,
    ),
    CodeRange(
        first=2494164,
        last=2494179,
        title="a fault of in-app sign-up",
        error_class=_DEAD_M,
        scope=Scope.OUT_OF_SCOPE,
    ),
)

_TOKEN_SUBCODES = {
    458: "the app was removed from the user's account",
    459: "the user must log in and pass a check",
    460: "the user's password was changed",
    463: "the access token has expired",
    464: "the user is not confirmed",
    467: "the access token was withdrawn",
    492: "the token's session is not valid",
}

# (code, subcode): what the pair means, where the subcode changes it.
SUBCODE_RULES: Mapping[tuple[int, int], ErrorRule] = {
    (100, 33): replace(ERROR_TABLE[33], code=100, title="the phone number id is unknown, or this token may not use it"),
    **{(190, subcode): replace(ERROR_TABLE[190], title=title) for subcode, title in _TOKEN_SUBCODES.items()},
}

# Codes that count calls, whose wait Meta tells in X-Business-Use-Case-Usage.
_QUOTA_CODES = frozenset({4, 17, 32, 613, 80007, 131208})

# A bad number comes as a bad value of `to`; the code is that of any bad value.
_NAMES_RECIPIENT = re.compile(
    r"\b(?:param(?:eter)?s? ['\"(]?to\b|recipient|phone number is (?:not valid|invalid))", re.I
)


def classify(
    code: int,
    subcode: int | None,
    http_status: int,
    is_transient: bool | None,
    headers: Mapping[str, str],
    *,
    details: str = "",
    now: datetime | None = None,
) -> ErrorRule:
    """The rule for a parsed error, with its wait as this answer asks for it.

    Decides by code and subcode; by the HTTP status only for a code the table does not know.  http_status: 0 for an
    error that came in a webhook.
    details: Meta's free text, read for one thing: whether 131009 is about the recipient.
    now: aware UTC, for a Retry-After that is a date; the clock's when None.
    """
    rule = find_rule(code, subcode)
    if rule is None:
        rule = _guess_rule(code, http_status, is_transient)
    elif code == 131009 and _NAMES_RECIPIENT.search(details):
        rule = replace(rule, error_class=ErrorClass.DEAD_RECIPIENT, title="the recipient's number is not valid")
    wait_seconds = _find_wait(rule, headers, now)
    return rule if wait_seconds == rule.wait_seconds else replace(rule, wait_seconds=wait_seconds)


def find_rule(code: int, subcode: int | None = None) -> ErrorRule | None:
    """The table's rule, or None for a code it does not know."""
    if subcode is not None:
        if (pair := SUBCODE_RULES.get((code, subcode))) is not None:
            return pair
        # 100 only says "a parameter"; its long subcodes say what is wrong and have rows of their own.
        if code == 100 and (rule := ERROR_TABLE.get(subcode)) is not None and subcode > 100_000:
            return replace(rule, code=code)
    if (row := ERROR_TABLE.get(code)) is not None:
        return row
    for span in ERROR_RANGES:
        if span.first <= code <= span.last:
            return ErrorRule(code=code, title=span.title, error_class=span.error_class, scope=span.scope, fix=span.fix)
    return None


def _guess_rule(code: int, http_status: int, is_transient: bool | None) -> ErrorRule:
    """A code nobody told us about.  Repeats only what the answer itself calls passing."""
    if http_status == 429:
        error_class, wait_seconds, max_attempts = ErrorClass.THROTTLE, QUOTA_WAIT_SECONDS, None
    elif is_transient or http_status >= 500:
        error_class, wait_seconds, max_attempts = ErrorClass.RETRY, None, 3
    elif http_status in (401, 403):
        error_class, wait_seconds, max_attempts = ErrorClass.STOP, None, None
    else:
        error_class, wait_seconds, max_attempts = ErrorClass.DEAD_MESSAGE, None, None
    return ErrorRule(
        code=code,
        title="a code this wa does not know" + (f", judged by HTTP {http_status}" if http_status else ""),
        error_class=error_class,
        wait_seconds=wait_seconds,
        max_attempts=max_attempts,
        fix="look the code up in Meta's error reference",
        known=False,
    )


def _find_wait(rule: ErrorRule, headers: Mapping[str, str], now: datetime | None) -> float | None:
    if rule.error_class not in (ErrorClass.RETRY, ErrorClass.THROTTLE, ErrorClass.PAIR, ErrorClass.HOURS):
        return None
    asked = read_retry_after(headers.get("Retry-After"), now=now)
    if rule.code in _QUOTA_CODES:
        usage = read_usage_wait(headers.get("X-Business-Use-Case-Usage"))
        if usage is not None:
            return max(usage, asked or 0.0)
    if asked is None:
        return rule.wait_seconds
    if rule.error_class is ErrorClass.HOURS:
        return max(asked, rule.wait_seconds or 0.0)
    return asked


def read_retry_after(value: str | None, *, now: datetime | None = None) -> float | None:
    """Seconds to wait, above 0 and at most RETRY_AFTER_CAP_SECONDS, or None when absent or of no use.

    value: seconds or an HTTP date.  now: aware UTC; the clock's when None.
    """
    if not value or len(value) > 64:
        return None
    value = value.strip()
    try:
        seconds = float(int(value))
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - (now or datetime.now(UTC))).total_seconds()
    return min(seconds, RETRY_AFTER_CAP_SECONDS) if seconds > 0 else None


def read_usage_wait(value: str | None) -> float | None:
    """Seconds until calls are allowed again, at most a day, or None when the header does not say.

    value: JSON, an account id each with a list of usages; the time to regain access is in minutes.
    """
    if not value:
        return None
    try:
        usages = json.loads(value)
    except (ValueError, RecursionError):
        return None
    minutes = 0.0
    for entries in usages.values() if isinstance(usages, dict) else ():
        for entry in entries if isinstance(entries, list) else ():
            told = entry.get("estimated_time_to_regain_access") if isinstance(entry, dict) else None
            if isinstance(told, int | float) and not isinstance(told, bool) and math.isfinite(told):
                minutes = max(minutes, float(told))
    return min(minutes * 60.0, USAGE_WAIT_CAP_SECONDS) if minutes > 0 else None
