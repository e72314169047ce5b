"""Steering a device of GOWA, against the played one over loopback HTTP.  Issue 6: state, pairing, groups, numbers."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import segno
from gowa_world import GROUP, OWN_NUMBER, SECRET, add_paired, gowa_account, playing_gowa
from scripted_server import Exchange, ScriptedServer

from wa_cli.domain.connection import ConnectionState, OnWhatsApp, RestartKind
from wa_cli.domain.finding import Level
from wa_cli.domain.qr_image import read_qr_matrix
from wa_cli.errors import GatewayRefused, Temporary, UsageError
from wa_cli.sandbox import SandboxSettings
from wa_cli.sandbox.devices import DeviceGroup
from wa_cli.sandbox.runner import serve_in_thread
from wa_cli.transports.gowa.gateway import EVENTS, GowaGateway
from wa_cli.transports.gowa.provider import PROVIDER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from wa_cli.provider import Account
    from wa_cli.sandbox import Sandbox
    from wa_cli.sandbox.devices import Device


@asynccontextmanager
async def steering(
    settings: SandboxSettings | None = None, *, is_paired: bool = True
) -> AsyncIterator[tuple[Sandbox, GowaGateway]]:
    async with playing_gowa(settings, is_paired=is_paired) as (sandbox, account):
        gateway = GowaGateway(account, recheck_seconds=0.0)
        try:
            yield sandbox, gateway
        finally:
            await gateway.close()


def device_of(sandbox: Sandbox) -> Device:
    device = sandbox.devices.find("shop")
    assert device is not None
    return device


def test_every_state_of_a_device_has_a_word_of_ours() -> None:
    """Rows H9 and H10."""

    async def story() -> None:
        async with steering() as (sandbox, gateway):
            device = device_of(sandbox)
            ready = await gateway.look()
            assert (ready.state, ready.address) == (ConnectionState.READY, f"+{OWN_NUMBER}")
            sandbox.devices.lose(device)
            assert (await gateway.look()).state is ConnectionState.DISCONNECTED
            await gateway.restart(RestartKind.SOFT)
            assert (await gateway.look()).state is ConnectionState.READY
            sandbox.devices.log_out(device)
            logged_out = await gateway.look()
            assert (logged_out.state, logged_out.address) == (ConnectionState.AUTH_FAILURE, None)
            assert (await gateway.look()).state is ConnectionState.AUTH_FAILURE
            await gateway.start()  # somebody begins to pair it anew
            assert (await gateway.look()).state is ConnectionState.NEEDS_QR
            sandbox.devices.remove("shop")
            assert (await gateway.look()).state is ConnectionState.DISCONNECTED

    asyncio.run(story())


def test_a_device_without_a_phone_needs_one() -> None:
    """Fault 64."""

    async def story() -> None:
        async with steering(is_paired=False) as (sandbox, gateway):
            await gateway.start()
            assert (await gateway.look()).state is ConnectionState.NEEDS_QR
            sandbox.devices.start(device_of(sandbox))
            assert (await gateway.look()).state is ConnectionState.NEEDS_QR
            assert device_of(sandbox).restarts == 0

    asyncio.run(story())


def test_a_start_makes_the_device_and_harms_nothing_that_runs() -> None:
    async def story() -> None:
        async with steering(is_paired=False) as (sandbox, gateway):
            await gateway.start()
            await gateway.start()
            assert [device.name for device in sandbox.devices.list_all()] == ["shop"]
            sandbox.devices.remove("shop")
            device = add_paired(sandbox)
            await gateway.start()
            assert device.restarts == 0
            sandbox.devices.stop(device)
            await gateway.start()
            assert (await gateway.look()).state is ConnectionState.READY

    asyncio.run(story())


def test_the_one_kind_of_restart_is_named() -> None:
    """Row H11."""

    async def story() -> None:
        async with steering() as (sandbox, gateway):
            assert PROVIDER.capabilities.restarts == {RestartKind.SOFT}
            with pytest.raises(UsageError, match="one kind"):
                await gateway.restart(RestartKind.HARD)
            assert device_of(sandbox).restarts == 0
            sandbox.devices.remove("shop")
            with pytest.raises(GatewayRefused, match="no device"):
                await gateway.restart(RestartKind.SOFT)

    asyncio.run(story())


@pytest.mark.parametrize("base", ["", "/gowa"])
def test_the_picture_of_the_code_is_fetched_from_our_own_address_with_our_own_key(base: str) -> None:
    """Its link names an address that only the gateway knows; our password goes nowhere else.  Promise P11."""

    async def story() -> None:
        settings = SandboxSettings(gateway_key="wa:hunter2-hunter2")
        async with playing_gowa(settings, is_paired=False) as (sandbox, _):
            gateway = GowaGateway(gowa_account(f"{sandbox.url}{base}", key=settings.gateway_key))
            try:
                qr = await gateway.fetch_qr()
                text = device_of(sandbox).qr_text
                drawn = [[bool(module) for module in row] for row in segno.make(text, error="m", micro=False).matrix]
                assert qr.png is not None
                assert read_qr_matrix(qr.png) == drawn
                assert (qr.text, qr.lasts_seconds) == (None, 30.0)

                sandbox.devices.scan(device_of(sandbox))
                assert (await gateway.look()).state is ConnectionState.READY
                with pytest.raises(GatewayRefused) as refused:
                    await gateway.fetch_qr()
                assert refused.value.code == "already_paired"
            finally:
                await gateway.close()

    asyncio.run(story())


def test_a_code_pairs_too_while_the_device_takes_its_time() -> None:
    async def story() -> None:
        settings = SandboxSettings(device_start_seconds=0.05)
        async with steering(settings, is_paired=False) as (_, gateway):
            code = await gateway.request_code(f"+{OWN_NUMBER}")
            assert len(code) == 9
            assert code[4] == "-"

    asyncio.run(story())


def test_groups_are_listed_and_one_is_read_with_its_members() -> None:
    async def story() -> None:
        async with steering() as (sandbox, gateway):
            device = device_of(sandbox)
            news = DeviceGroup(
                group_id="120363000000000001@g.us",
                name="News",
                participants=("15550100003",),
                is_announcement=True,
            )
            device.groups[news.group_id] = news
            listed = await gateway.list_groups()
            assert [(group.address, group.name, group.size, group.may_post) for group in listed] == [
                (GROUP.group_id, "Runners", 3, True),
                (news.group_id, "News", 2, False),
            ]
            assert all(group.participants is None for group in listed)
            read = await gateway.read_group(GROUP.group_id)
            assert read is not None
            assert set(read.participants or ()) == {f"+{number}" for number in (*GROUP.participants, OWN_NUMBER)}
            assert await gateway.read_group("120363000000000009@g.us") is None
            sandbox.devices.lose(device)
            with pytest.raises(GatewayRefused) as refused:
                await gateway.list_groups()
            assert refused.value.code == "not_ready"

    asyncio.run(story())


def test_whatsapp_hands_out_five_hundred_groups() -> None:
    async def story() -> None:
        async with steering() as (sandbox, gateway):
            device_of(sandbox).groups = {
                f"12036302598{number:07}@g.us": DeviceGroup(group_id=f"12036302598{number:07}@g.us", name=str(number))
                for number in range(501)
            }
            assert len(await gateway.list_groups()) == 500

    asyncio.run(story())


def test_a_number_is_on_whatsapp_or_is_not() -> None:
    async def story() -> None:
        async with steering() as (sandbox, gateway):
            sandbox.devices.absent = {"15550100008"}
            assert (await gateway.check_number("+15550100001")).verdict is OnWhatsApp.YES
            assert (await gateway.check_number("+15550100008")).verdict is OnWhatsApp.NO

    asyncio.run(story())


def check(*answers: tuple[int, Any]) -> tuple[OnWhatsApp, int]:
    """The verdict over these answers, and how often was asked."""
    left = list(answers)

    async def script(exchange: Exchange) -> None:
        status, shape = left.pop(0)
        await exchange.answer(json.dumps(shape).encode(), status)

    async def story() -> OnWhatsApp:
        async with ScriptedServer(script) as server:
            gateway = GowaGateway(gowa_account(f"http://127.0.0.1:{server.port}"), recheck_seconds=0.0)
            try:
                return (await gateway.check_number("+15550100001")).verdict
            finally:
                await gateway.close()

    verdict = asyncio.run(story())
    return verdict, len(answers) - len(left)


def said(is_on: Any) -> tuple[int, Any]:
    return 200, {"code": "SUCCESS", "message": "", "results": {"is_on_whatsapp": is_on}}


BROKEN = (500, {"code": "INTERNAL_SERVER_ERROR", "message": "rate-overlimit", "results": None})


@pytest.mark.parametrize(
    ("answers", "verdict", "asked"),
    [
        ([said(True)], OnWhatsApp.YES, 1),
        ([said(False), said(True)], OnWhatsApp.YES, 2),
        ([said(False), said(False)], OnWhatsApp.NO, 2),
        ([said(False), BROKEN], OnWhatsApp.UNKNOWN, 2),
        ([BROKEN], OnWhatsApp.UNKNOWN, 1),
        ([said("yes")], OnWhatsApp.UNKNOWN, 1),
    ],
)
def test_a_no_is_believed_when_it_is_said_twice(
    answers: list[tuple[int, Any]], verdict: OnWhatsApp, asked: int
) -> None:
    """GOWA says no as well when its own look-up has failed."""
    assert check(*answers) == (verdict, asked)


def test_the_gateway_is_told_where_to_post_what_and_how_to_sign() -> None:
    async def story() -> None:
        for is_paired in (True, False):
            async with steering(is_paired=is_paired) as (sandbox, gateway):
                await gateway.subscribe("http://127.0.0.1:9/hook")
                assert device_of(sandbox).config["gowa"] == {
                    "webhook_url": "http://127.0.0.1:9/hook",
                    "webhook_secret": SECRET,
                    "webhook_events": EVENTS,
                }

    asyncio.run(story())


@pytest.mark.parametrize("secret", ["", "secret", "secret,other"])
def test_nothing_is_posted_to_us_under_a_secret_that_everybody_knows(secret: str) -> None:
    async def story() -> None:
        async with playing_gowa() as (sandbox, _):
            gateway = GowaGateway(gowa_account(sandbox.url, secret=secret))
            with pytest.raises(UsageError, match="secret of its own"):
                await gateway.subscribe("http://127.0.0.1:9/hook")
            await gateway.close()

    asyncio.run(story())


def test_a_wrong_key_and_a_dead_gateway_are_two_errors() -> None:
    async def story() -> None:
        async with playing_gowa(SandboxSettings(gateway_key="wa:hunter2-hunter2")) as (sandbox, _):
            gateway = GowaGateway(gowa_account(sandbox.url, key="wa:other"))
            with pytest.raises(UsageError) as refused:
                await gateway.look()
            assert refused.value.code == "gateway_key"
            await sandbox.stop()
            with pytest.raises(Temporary) as down:
                await gateway.look()
            assert down.value.code == "gateway_down"
            assert "other" not in str(down.value)
            await gateway.close()

    asyncio.run(story())


def levels(account: Account, *, online: bool = True) -> dict[str, Level]:
    return {finding.name: finding.level for finding in PROVIDER.inspect(account, online=online)}


def test_the_doctor_looks_at_the_gateway_the_device_and_the_secret() -> None:
    with serve_in_thread(SandboxSettings(gateway_key="wa:hunter2-hunter2")) as sandbox:
        account = gowa_account(sandbox.url, key="wa:hunter2-hunter2")
        assert levels(account)["device"] is Level.FAIL
        assert levels(gowa_account(sandbox.url, key="wa:other"))["gateway_key"] is Level.FAIL
        assert levels(gowa_account(sandbox.url, secret="secret"), online=False)["webhook_secret"] is Level.WARN
        assert levels(gowa_account(sandbox.url, secret=""), online=False)["webhook_secret"] is Level.WARN
    assert levels(account)["unreachable"] is Level.FAIL
    assert levels(gowa_account(""), online=False)["settings"] is Level.FAIL
    assert levels(gowa_account("http://203.0.114.7:3000"), online=False)["settings"] is Level.FAIL


def test_the_doctor_is_content_with_a_device_that_works() -> None:
    async def story() -> None:
        async with playing_gowa() as (_, account):
            found = await asyncio.to_thread(levels, account)
            assert found == dict.fromkeys(("settings", "reachable", "device"), Level.OK)

    asyncio.run(story())


def test_the_doctor_says_when_something_else_answers() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(b"<html>Welcome</html>", content_type="text/html")

    async def story() -> None:
        async with ScriptedServer(script) as server:
            account = gowa_account(f"http://127.0.0.1:{server.port}")
            found = await asyncio.to_thread(levels, account)
            assert found["gateway_url"] is Level.FAIL

    asyncio.run(story())


@pytest.mark.parametrize(
    "values",
    [
        {"url": "localhost:3000"},
        {"url": "ftp://127.0.0.1"},
        {"url": "http://u:p@127.0.0.1:3000"},
        {"url": "http://127.0.0.1:3000/?x=1"},
        {"url": "http://127.0.0.1:x"},
        {"url": "http://gowa.example.com:3000"},
        {"session": "a b"},
        {"session": "../x"},
        {"key": "nocolon"},
        {"key": ":password"},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(values: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        PROVIDER.check(values)
