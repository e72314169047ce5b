"""The account behind a Cloud API address: reading WHATSAPP_API_URL, and asking Meta how the number stands.

Cold calls for set-up and `wa doctor`; nothing here is on the way of a message.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from wa_cli.errors import UsageError
from wa_cli.transports.cloud_api.error_table import classify
from wa_cli.transports.masking import mask
from wa_cli.transports.posting import is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

EXAMPLE_URL = "https://graph.facebook.com/v25.0/<phone number id>/messages"
CURRENT_VERSION = "v25.0"
_MAX_ANSWER_BYTES = 1_000_000

# The last day of each Graph version, from Meta's changelog; those before v21 are all gone.
_OLDEST_LISTED = 21
_LAST_DAYS = {
    21: date(2027, 1, 21),
    22: date(2027, 5, 20),
    23: date(2027, 10, 8),
    24: date(2028, 2, 18),
    25: date(2028, 7, 29),
}
_LIMIT_RENAMED_IN = 24  # messaging_limit_tier until v23
_LIMIT_FIELD = "whatsapp_business_manager_messaging_limit"
_FIELDS = ("id", "display_phone_number", "verified_name", "quality_rating", "code_verification_status")
_NEWER_FIELDS = ("throughput", "status", "name_status", "account_mode", "health_status")
_INVALID_PARAMETER = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiUrl:
    """base: scheme, host, port and any path before the version, without a final slash.
    version: `v25.0`, or None where the address names none (Meta then takes the app's own).
    """

    base: str
    version: str | None
    phone_number_id: str

    @property
    def number_url(self) -> str:
        return "/".join(part for part in (self.base, self.version, self.phone_number_id) if part)

    @property
    def messages_url(self) -> str:
        return f"{self.number_url}/messages"

    def object_url(self, *names: str) -> str:
        """Where another object than the number is."""
        return "/".join(part for part in (self.base, self.version, *names) if part)

    @property
    def version_number(self) -> int | None:
        return int(self.version[1:].partition(".")[0]) if self.version else None

    def find_version_note(self, today: date) -> str | None:
        """One line on a Graph version that has ended, or None.  Not an error: Meta still serves the call."""
        number = self.version_number
        if number is None or (number >= _OLDEST_LISTED and today <= _LAST_DAYS.get(number, today)):
            return None
        return (
            f"Graph {self.version} has ended; Meta answers as its oldest living version instead. "
            f"Put {CURRENT_VERSION} into WHATSAPP_API_URL"
        )


def parse_api_url(url: str) -> ApiUrl:
    """The parts of WHATSAPP_API_URL.  Raises: UsageError that says what to put there instead."""
    text = url.strip()
    if not text:
        raise _bad_url("WHATSAPP_API_URL is empty")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _bad_url("WHATSAPP_API_URL is not a URL") from None
    if parts.scheme not in ("http", "https") or not host or any(sign.isspace() for sign in text):
        raise _bad_url("WHATSAPP_API_URL is not an http or https URL")
    if parts.username is not None or parts.password is not None:
        raise _bad_url("WHATSAPP_API_URL must not hold a user or a password")
    if parts.query or parts.fragment:
        raise _bad_url("WHATSAPP_API_URL must end with /messages, without ? or #")
    if parts.scheme == "http" and not is_loopback(host):
        raise UsageError(
            f"WHATSAPP_API_URL would send the access token to {host} in clear text",
            hint="write https:// (http is allowed for this machine itself, where `wa sandbox` runs)",
            code="insecure_api_url",
        )
    steps = [step for step in parts.path.split("/") if step]
    has_ending = bool(steps) and steps[-1] == "messages"
    if has_ending:
        steps.pop()
    phone_number_id = steps.pop() if steps else ""
    if re.fullmatch(r"(?:YOUR_)?PHONE_?NUMBER_?ID|[<{\[].*", phone_number_id, re.I):
        raise _bad_url(f"WHATSAPP_API_URL still holds the placeholder {phone_number_id}")
    if not re.fullmatch(r"\d{1,32}", phone_number_id, re.ASCII):
        raise _bad_url("WHATSAPP_API_URL holds no phone number id (digits, from WhatsApp Manager)")
    if not has_ending:
        raise UsageError(
            "WHATSAPP_API_URL does not end with /messages",
            hint=f"write {text.rstrip('/')}/messages",
            code="invalid_api_url",
        )
    version = steps.pop() if steps and re.fullmatch(r"v\d{1,3}\.\d{1,2}", steps[-1], re.ASCII) else None
    if version is None and steps and re.match(r"v\d", steps[-1]):
        raise _bad_url(f"'{mask(steps[-1], limit=20)}' is not a Graph version")
    shown_host = f"[{host}]" if ":" in host else host
    authority = shown_host if port is None else f"{shown_host}:{port}"
    base = "/".join((f"{parts.scheme}://{authority}", *steps))
    return ApiUrl(base=base, version=version, phone_number_id=phone_number_id)


def _bad_url(message: str) -> UsageError:
    return UsageError(message, hint=f"it looks like {EXAMPLE_URL}", code="invalid_api_url")


def check_token(token: str) -> str:
    """The token without blanks around it.  Raises: UsageError, which never shows it."""
    text = token.strip()
    if not text:
        raise UsageError(
            "WHATSAPP_ACCESS_TOKEN is empty",
            hint="put the token of a system user there; `wa init` asks for it",
            code="invalid_access_token",
        )
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise UsageError(
            "WHATSAPP_ACCESS_TOKEN holds a blank, a line break or a letter no token has",
            hint="copy it again, in one piece and without quotes",
            code="invalid_access_token",
        )
    if text.lower() in ("your_access_token", "your_token", "access_token", "<token>", "changeme"):
        raise UsageError(
            "WHATSAPP_ACCESS_TOKEN still holds a placeholder",
            hint="put the token of a system user there",
            code="invalid_access_token",
        )
    return text


class Verdict(StrEnum):
    """What asking for the account showed."""

    OK = "ok"
    UNREACHABLE = "unreachable"  # no connection, or no answer in time
    TOKEN_DEAD = "token_dead"  # noqa: S105 - the name of a finding
    NO_PERMISSION = "no_permission"
    UNKNOWN_NUMBER = "unknown_number"  # no such phone number id, or not for this token
    RESTRICTED = "restricted"  # policy, payment or registration: a person must act
    REFUSED = "refused"  # another error of Meta's
    UNREADABLE = "unreadable"  # an answer that is not Meta's


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountReport:
    """How a business number stands.  Every field after `fix` is None where the answer did not say.

    details: one line, masked.  fix: what to do, or None.
    display_phone_number: masked to its last four digits.  messaging_limit: `TIER_250` and the like.
    throughput: `STANDARD` (80 a second) or `HIGH` (1000).  can_send: Meta's health word, AVAILABLE,
    LIMITED or BLOCKED.  clock_offset_seconds: their clock minus ours, by the Date header (whole seconds).
    """

    verdict: Verdict
    details: str
    fix: str | None = None
    error_code: int | None = None
    http_status: int | None = None
    display_phone_number: str | None = None
    verified_name: str | None = None
    quality_rating: str | None = None
    messaging_limit: str | None = None
    throughput: str | None = None
    status: str | None = None
    name_status: str | None = None
    code_verification_status: str | None = None
    account_mode: str | None = None
    can_send: str | None = None
    clock_offset_seconds: float | None = None


def check_account(api_url: str, token: str, timeout_seconds: float = 10.0) -> AccountReport:
    """Ask for the number's own record: nothing is changed and nothing is sent.

    timeout_seconds: for connecting, and again for the whole answer.
    Raises: UsageError on an address or a token that cannot be meant; all else is in the report.
    """
    import httpx

    api = parse_api_url(api_url)
    secret = check_token(token)
    headers = {"Authorization": f"Bearer {secret}", "Accept": "application/json", "User-Agent": "wa"}
    direct = is_loopback(urlsplit(api.base).hostname or "")
    limit = "messaging_limit_tier" if (api.version_number or 99) < _LIMIT_RENAMED_IN else _LIMIT_FIELD
    report = None
    try:
        # A redirect is an answer, never followed: it would carry the token along.
        with httpx.Client(timeout=timeout_seconds, follow_redirects=False, trust_env=not direct) as client:
            # An unknown field refuses the whole call, so the fewest fields are the second try.
            for fields in ((*_FIELDS, *_NEWER_FIELDS, limit), _FIELDS):
                with client.stream(
                    "GET", api.number_url, params={"fields": ",".join(fields)}, headers=headers
                ) as response:
                    body = read_capped(response, timeout_seconds)
                offset = _measure_clock(response.headers.get("Date"), datetime.now(UTC))
                report = read_account(response.status_code, response.headers, body, secret=secret)
                report = replace(report, clock_offset_seconds=offset)
                if report.error_code != _INVALID_PARAMETER or report.verdict is Verdict.UNKNOWN_NUMBER:
                    break
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return AccountReport(
            verdict=Verdict.UNREACHABLE,
            details=f"{urlsplit(api.base).netloc} cannot be reached: {name_failure(error)}",
            fix="check the network, the proxy settings and WHATSAPP_API_URL",
        )
    assert report is not None
    return report


def read_capped(response: httpx.Response, timeout_seconds: float, *, most_bytes: int = _MAX_ANSWER_BYTES) -> bytes:
    """The body, or none of it when it is too long.  Raises: TimeoutError when it drips in too slowly."""
    deadline = time.monotonic() + timeout_seconds
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > most_bytes:
            return b""
        if time.monotonic() > deadline:
            raise TimeoutError("no complete answer within the time allowed")
    return bytes(body)


def read_account(status: int, headers: Mapping[str, str], body: bytes, *, secret: str) -> AccountReport:
    """The report that an answer with the number's record gives.  secret: kept out of the details."""
    try:
        shape = json.loads(body)
    except (ValueError, RecursionError):
        shape = None
    if isinstance(shape, dict) and isinstance(error := shape.get("error"), dict):
        return read_error(error, status, headers, secret)
    if not isinstance(shape, dict) or not 200 <= status < 300 or "id" not in shape:
        return AccountReport(
            verdict=Verdict.UNREADABLE,
            details=f"the answer (HTTP {status}) is not one of Meta's",
            fix="check WHATSAPP_API_URL; a proxy or a login page may stand in between",
            http_status=status,
        )
    throughput = shape.get("throughput")
    health = shape.get("health_status")
    limit = shape.get(_LIMIT_FIELD) or shape.get("messaging_limit_tier")
    return AccountReport(
        verdict=Verdict.OK,
        details="the number answers",
        http_status=status,
        display_phone_number=_read_word(shape.get("display_phone_number")),
        verified_name=_read_word(shape.get("verified_name")),
        quality_rating=_read_word(shape.get("quality_rating")),
        messaging_limit=_read_word(limit),
        throughput=_read_word(throughput.get("level")) if isinstance(throughput, dict) else None,
        status=_read_word(shape.get("status")),
        name_status=_read_word(shape.get("name_status")),
        code_verification_status=_read_word(shape.get("code_verification_status")),
        account_mode=_read_word(shape.get("account_mode")),
        can_send=_read_word(health.get("can_send_message")) if isinstance(health, dict) else None,
    )


_TOKEN_CODES = frozenset({0, 104, 190})
_PERMISSION_CODES = frozenset({3, 10, 131005, *range(200, 300)})
_NUMBER_CODES = frozenset({(33, None), (100, 33)})
_RESTRICTION_CODES = frozenset({368, 131031, 131037, 131042, 131045, 131048, 131064, 133010, *range(141000, 142000)})


def read_error(
    error: dict[str, Any],
    http_status: int,
    headers: Mapping[str, str],
    secret: str,
) -> AccountReport:
    """The report that an error of Meta's gives.  secret: kept out of the details."""
    code, subcode = error.get("code"), error.get("error_subcode")
    if not isinstance(code, int) or isinstance(code, bool):
        return AccountReport(
            verdict=Verdict.UNREADABLE,
            details=f"an error without a code (HTTP {http_status})",
            http_status=http_status,
        )
    subcode = subcode if isinstance(subcode, int) else None
    if code in _TOKEN_CODES:
        verdict = Verdict.TOKEN_DEAD
    elif code in _PERMISSION_CODES:
        verdict = Verdict.NO_PERMISSION
    elif (code, None) in _NUMBER_CODES or (code, subcode) in _NUMBER_CODES:
        verdict = Verdict.UNKNOWN_NUMBER
    elif code in _RESTRICTION_CODES:
        verdict = Verdict.RESTRICTED
    else:
        verdict = Verdict.REFUSED
    rule = classify(code, subcode, http_status, None, headers)
    words = error.get("message")
    said = mask(words, secrets=(secret,), limit=300) if isinstance(words, str) else ""
    return AccountReport(
        verdict=verdict,
        details=f"{rule.title} (code {code}{f'/{subcode}' if subcode is not None else ''})"
        + (f": {said}" if said else ""),
        fix=rule.fix,
        error_code=code,
        http_status=http_status,
    )


def _read_word(value: Any) -> str | None:
    return (mask(value, limit=80) or None) if isinstance(value, str) else None


def name_failure(error: Exception) -> str:
    import httpx

    match error:
        case httpx.ConnectTimeout():
            return "no connection within the time allowed"
        case httpx.TimeoutException():
            return "no answer within the time allowed"
        case _:
            return mask(str(error), limit=160) or type(error).__name__


def _measure_clock(value: str | None, now: datetime) -> float | None:
    if not value:
        return None
    try:
        theirs = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    theirs = theirs if theirs.tzinfo is not None else theirs.replace(tzinfo=UTC)
    return float(round((theirs - now).total_seconds()))
