"""Asking for the account behind a number, against a real server on loopback."""

from __future__ import annotations

import asyncio
import json
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from scripted_server import Exchange, ScriptedServer

from wa_cli.errors import UsageError
from wa_cli.transports.cloud_api.account import AccountReport, Verdict, check_account

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TOKEN = "EAAcanaryTOKENcanary0123456789"
ID = "106540352242922"
RECORD: dict[str, Any] = {
    "id": ID,
    "display_phone_number": "+1 555-078-3881",
    "verified_name": "Ada's\x1b[31m Shop",
    "quality_rating": "GREEN",
    "whatsapp_business_manager_messaging_limit": "TIER_2K",
    "throughput": {"level": "STANDARD"},
    "status": "CONNECTED",
    "name_status": "APPROVED",
    "code_verification_status": "VERIFIED",
    "account_mode": "LIVE",
    "health_status": {"can_send_message": "AVAILABLE", "entities": []},
}


def ask(
    script: Callable[[Exchange], Awaitable[None]], *, version: str = "v25.0", timeout_seconds: float = 5.0
) -> tuple[AccountReport, ScriptedServer]:
    async def scenario() -> tuple[AccountReport, ScriptedServer]:
        async with ScriptedServer(script) as server:
            url = f"http://127.0.0.1:{server.port}/{version}/{ID}/messages"
            return await asyncio.to_thread(check_account, url, TOKEN, timeout_seconds), server

    return asyncio.run(scenario())


def answering(shape: Any, status: int = 200, **kwargs: Any) -> Callable[[Exchange], Awaitable[None]]:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(json.dumps(shape).encode(), status, **kwargs)

    return script


def test_a_healthy_number_is_reported_with_what_it_may_do() -> None:
    report, server = ask(answering(RECORD))
    assert report.verdict is Verdict.OK
    assert report.display_phone_number == "…3881"  # promise P11
    assert report.verified_name == "Ada's [31m Shop"
    assert (report.quality_rating, report.messaging_limit, report.throughput) == ("GREEN", "TIER_2K", "STANDARD")
    assert (report.status, report.can_send, report.account_mode) == ("CONNECTED", "AVAILABLE", "LIVE")
    (request,) = server.requests
    assert urlsplit(request.request_line.split()[1]).path == f"/v25.0/{ID}"
    assert request.header("Authorization") == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    ("version", "field"),
    [
        ("v25.0", "whatsapp_business_manager_messaging_limit"),
        ("v23.0", "messaging_limit_tier"),
        ("v18.0", "messaging_limit_tier"),
    ],
)
def test_the_limit_is_asked_for_by_the_name_of_the_version(version: str, field: str) -> None:
    report, server = ask(answering({"id": ID, field: "TIER_250"}), version=version)
    assert report.messaging_limit == "TIER_250"
    query = parse_qs(urlsplit(server.requests[0].request_line.split()[1]).query)
    assert field in query["fields"][0].split(",")


def test_a_refused_field_is_left_out_in_a_second_try() -> None:
    async def script(exchange: Exchange) -> None:
        if "health_status" in exchange.request_line:
            body = {"error": {"message": "(#100) Tried accessing nonexisting field", "code": 100}}
            await exchange.answer(json.dumps(body).encode(), 400)
        else:
            await exchange.answer(json.dumps({"id": ID, "quality_rating": "RED"}).encode())

    report, server = ask(script)
    assert (report.verdict, report.quality_rating) == (Verdict.OK, "RED")
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("code", "subcode", "status", "verdict"),
    [
        (190, 463, 401, Verdict.TOKEN_DEAD),
        (190, None, 400, Verdict.TOKEN_DEAD),
        (104, None, 400, Verdict.TOKEN_DEAD),
        (10, None, 403, Verdict.NO_PERMISSION),
        (200, None, 403, Verdict.NO_PERMISSION),
        (131005, None, 403, Verdict.NO_PERMISSION),
        (100, 33, 400, Verdict.UNKNOWN_NUMBER),
        (33, None, 400, Verdict.UNKNOWN_NUMBER),
        (131031, None, 403, Verdict.RESTRICTED),
        (133010, None, 400, Verdict.RESTRICTED),
        (368, None, 403, Verdict.RESTRICTED),
        (141006, None, 400, Verdict.RESTRICTED),
        (4, None, 429, Verdict.REFUSED),
        (100, None, 400, Verdict.REFUSED),
    ],
)
def test_a_refusal_says_which_kind_it_is_and_what_to_do(
    code: int, subcode: int | None, status: int, verdict: Verdict
) -> None:
    """Rows 61 and 62 of the faults."""
    error = {"message": f"words {TOKEN}", "code": code, "error_subcode": subcode}
    report, _ = ask(answering({"error": error}, status))
    assert (report.verdict, report.error_code, report.http_status) == (verdict, code, status)
    assert TOKEN not in report.details
    if verdict is not Verdict.REFUSED:
        assert report.fix


def test_a_closed_port_is_unreachable() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}/v25.0/{ID}/messages"
        report = check_account(url, TOKEN, 2.0)
    assert report.verdict is Verdict.UNREACHABLE
    assert report.fix


@pytest.mark.parametrize("how", ["hang", "drip", "reset", "garbage", "giant"])
def test_a_broken_answer_ends_in_a_report(how: str) -> None:
    async def script(exchange: Exchange) -> None:
        if how == "hang":
            await asyncio.Event().wait()
        elif how == "reset":
            exchange.reset()
        elif how == "garbage":
            await exchange.answer(b"<html>log in</html>", 200, "text/html")
        else:
            await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
            while True:
                await exchange.write(b" " if how == "drip" else b" " * 100_000)
                if how == "drip":
                    await asyncio.sleep(0.02)

    report, _ = ask(script, timeout_seconds=0.3)
    assert report.verdict in (Verdict.UNREACHABLE, Verdict.UNREADABLE)


def test_a_redirect_is_not_followed() -> None:
    """Promise P11: the token goes nowhere else."""

    async def scenario() -> None:
        async with ScriptedServer(answering(RECORD)) as elsewhere:
            place = f"http://127.0.0.1:{elsewhere.port}/v25.0/{ID}"
            async with ScriptedServer(answering({}, 302, headers=(("Location", place),))) as server:
                url = f"http://127.0.0.1:{server.port}/v25.0/{ID}/messages"
                report = await asyncio.to_thread(check_account, url, TOKEN, 5.0)
            assert report.verdict is Verdict.UNREADABLE
            assert elsewhere.connections == 0

    asyncio.run(scenario())


def test_the_other_sides_clock_is_compared() -> None:
    ahead = format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True)
    report, _ = ask(answering(RECORD, headers=(("Date", ahead),)))
    assert report.clock_offset_seconds is not None
    assert 590 <= report.clock_offset_seconds <= 610
    assert ask(answering(RECORD))[0].clock_offset_seconds is None


def test_an_address_that_cannot_be_meant_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        check_account("https://graph.facebook.com/v18.0/PHONE_NUMBER_ID/messages", TOKEN)
