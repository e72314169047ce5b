"""The Cloud API account in the words of `wa doctor`: its address, its token, and how the platform sees the number."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from wa_cli.domain.finding import FIX_ACCOUNT, FIX_CALL, FIX_LATER, FIX_MACHINE, Finding, fail, ok, warn
from wa_cli.errors import UsageError
from wa_cli.transports.cloud_api.account import Verdict, check_account, check_token, parse_api_url

if TYPE_CHECKING:
    from wa_cli.transports.cloud_api.account import AccountReport

ACCOUNT: Final = "account"
# A clock this wrong sends at the wrong minute; one beyond the second bound makes times meaningless.
CLOCK_NOTED_SECONDS: Final = 5.0
CLOCK_WRONG_SECONDS: Final = 300.0

EXIT_CODES: Final = {
    Verdict.UNREACHABLE: FIX_LATER,
    Verdict.UNREADABLE: FIX_LATER,
    Verdict.REFUSED: FIX_LATER,
    Verdict.TOKEN_DEAD: FIX_ACCOUNT,
    Verdict.NO_PERMISSION: FIX_ACCOUNT,
    Verdict.RESTRICTED: FIX_ACCOUNT,
    Verdict.UNKNOWN_NUMBER: FIX_CALL,
}


def inspect(api_url: str, token: str, *, online: bool) -> list[Finding]:
    """online: also ask Meta for the number's own record, which sends and changes nothing."""
    missing = [
        name for name, value in (("WHATSAPP_API_URL", api_url), ("WHATSAPP_ACCESS_TOKEN", token)) if not value.strip()
    ]
    if missing:
        message = f"no account yet: {' and '.join(missing)} not set"
        return [fail(ACCOUNT, "settings", message, "`wa init` asks for them", exit_code=FIX_CALL)]
    try:
        api = parse_api_url(api_url)
        check_token(token)
    except UsageError as error:
        return [fail(ACCOUNT, "settings", error.message, error.hint, exit_code=FIX_CALL)]
    findings = [ok(ACCOUNT, "settings", "the address and the token have the right shape")]
    note = api.find_version_note(datetime.now(UTC).date())
    if note:
        findings.append(warn(ACCOUNT, "version", note, "change the version in WHATSAPP_API_URL"))
    if online:
        report = check_account(api_url, token)
        findings += [*_judge(report), *_judge_clock(report.clock_offset_seconds)]
    return findings


def _judge(report: AccountReport) -> list[Finding]:
    if report.verdict is not Verdict.OK:
        return [
            fail(
                ACCOUNT,
                report.verdict.value,
                report.details,
                report.fix or "`wa doctor` again later; WhatsApp Manager shows the account",
                exit_code=EXIT_CODES[report.verdict],
            )
        ]
    facts = (
        report.display_phone_number,
        report.verified_name,
        report.quality_rating and f"quality {report.quality_rating.lower()}",
        report.messaging_limit and f"limit {report.messaging_limit.removeprefix('TIER_').lower()}",
        report.throughput and f"throughput {report.throughput.lower()}",
    )
    words = ", ".join(fact for fact in facts if fact)
    findings = [ok(ACCOUNT, "reachable", f"the platform answers for {words or 'the number'}")]
    if report.can_send and report.can_send.upper() == "BLOCKED":
        message = "the platform says that this number cannot send"
        findings.append(fail(ACCOUNT, "health", message, "WhatsApp Manager says why", exit_code=FIX_ACCOUNT))
    elif report.can_send and report.can_send.upper() == "LIMITED":
        findings.append(warn(ACCOUNT, "health", "the platform limits this number", "WhatsApp Manager says why"))
    if report.quality_rating and report.quality_rating.upper() == "RED":
        message = "people block or report this number: its quality is red"
        findings.append(warn(ACCOUNT, "quality", message, "write only to people who expect it, and less often"))
    return findings


def _judge_clock(offset_seconds: float | None) -> list[Finding]:
    if offset_seconds is None:
        return []
    away = abs(offset_seconds)
    side = "behind" if offset_seconds > 0 else "ahead of"
    fix = "turn on time synchronisation (timedatectl set-ntp true)"
    message = f"this computer's clock is {away:.0f} s {side} the platform's"
    if away > CLOCK_WRONG_SECONDS:
        return [fail("clock", "offset", message, fix, exit_code=FIX_MACHINE)]
    if away > CLOCK_NOTED_SECONDS:
        return [warn("clock", "offset", message, fix)]
    return [ok("clock", "offset", "this computer's clock agrees with the platform's")]
