"""The sandbox's linked devices: what a phone and a gateway can do to them, and who is told."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from wa_cli.errors import UsageError
from wa_cli.sandbox import SandboxSettings, parse_fault
from wa_cli.sandbox.bell import Bell
from wa_cli.sandbox.devices import (
    Device,
    DeviceGroup,
    DeviceInbound,
    DeviceReceipt,
    Devices,
    DeviceState,
    Listener,
    SentMessage,
    draw_message_id,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ADA, BOB = "15550100123", "15550100124"
GROUP = DeviceGroup(group_id="120363041234567890@g.us", name="Runners", participants=(ADA, BOB))
AT_ONCE = {"ladder_speed": 0.0, "read_share": 1.0, "undelivered_share": 0.0, "delivered_skipped_share": 0.0}


class Heard(Listener):
    def __init__(self) -> None:
        self.states: list[str] = []
        self.receipts: list[tuple[str | None, str]] = []
        self.inbound: list[DeviceInbound] = []

    def on_state(self, device: Device) -> None:
        self.states.append(device.state.value)

    def on_receipt(self, device: Device, receipt: DeviceReceipt) -> None:
        self.receipts.append((receipt.participant, receipt.status))

    def on_inbound(self, device: Device, inbound: DeviceInbound) -> None:
        self.inbound.append(inbound)


class World:
    """Devices, what was heard of them, and the bell that rings when something has happened by itself."""

    def __init__(self, **settings: Any) -> None:
        known = SandboxSettings(**{**AT_ONCE, **settings})
        self.bell = Bell()
        self.heard = Heard()
        self.devices = Devices(lambda: known, lambda: 1000.0, lambda: random.Random(1), self.bell)
        self.devices.listen(self.heard)

    def message(self, chat: str = ADA) -> SentMessage:
        return SentMessage(
            device="shop", message_id=draw_message_id(), chat=chat, kind="text", content="Hi", accepted_at=1000.0
        )

    async def until(self, claim: Callable[[], bool]) -> None:
        async with asyncio.timeout(120):
            while not claim():
                await self.bell.wait()


def test_a_device_is_paired_by_a_scan_and_never_by_itself() -> None:
    """Row H10."""
    world = World()
    device = world.devices.add("shop")
    world.devices.start(device)
    assert (device.state, bool(device.qr_text)) == (DeviceState.NEEDS_QR, True)
    first = device.qr_text
    world.devices.renew_qr(device)
    assert device.qr_text != first
    world.devices.scan(device, number=BOB)
    assert (device.state, device.number, device.qr_text) == (DeviceState.WORKING, BOB, "")
    with pytest.raises(UsageError):
        world.devices.scan(device)
    world.devices.stop(device)
    world.devices.start(device)
    world.devices.log_out(device)
    assert world.heard.states == ["starting", "needs_qr", "working", "stopped", "starting", "working", "needs_qr"]
    with pytest.raises(UsageError):
        world.devices.add("shop")


def test_it_takes_its_time_to_connect_and_can_be_scanned_by_itself() -> None:
    async def watch() -> None:
        world = World(device_start_seconds=0.01, device_scan_seconds=0.01)
        device = world.devices.add("shop")
        world.devices.start(device)
        assert device.state is DeviceState.STARTING
        await world.until(lambda: device.state is DeviceState.WORKING)
        assert world.heard.states == ["starting", "needs_qr", "working"]
        world.devices.lose(device, seconds=0.01)
        await world.until(lambda: device.state is DeviceState.WORKING)

    asyncio.run(watch())


def test_receipts_of_a_group_come_from_each_member() -> None:
    """Issue 6, point 4."""

    async def watch() -> None:
        world = World()
        device = world.devices.add("shop", is_paired=True, groups=(GROUP,))
        world.devices.start(device)
        world.devices.take_on(device, world.message(GROUP.group_id))
        await world.until(lambda: not world.devices.waiting)
        assert world.heard.receipts[0] == (None, "sent")
        assert sorted(world.heard.receipts[1:]) == [
            (person, status) for person in (ADA, BOB) for status in ("delivered", "read")
        ]

    asyncio.run(watch())


def test_what_comes_while_the_phone_is_off_the_net_is_told_afterwards() -> None:
    async def watch() -> None:
        world = World()
        device = world.devices.add("shop", is_paired=True)
        world.devices.start(device)
        world.devices.take_on(device, world.message())
        world.devices.lose(device)
        await world.until(lambda: not world.devices.waiting)
        assert world.heard.receipts == []
        world.devices.restart(device)
        assert [status for _, status in world.heard.receipts] == ["sent", "delivered", "read"]

    asyncio.run(watch())


@pytest.mark.parametrize(
    ("fault", "statuses", "words"),
    [("later:463", ["failed"], []), ("until:sent", ["sent"], []), ("stop", ["sent", "delivered"], ["STOP"])],
)
def test_a_message_meets_the_fate_that_it_was_given(fault: str, statuses: list[str], words: list[str]) -> None:
    async def watch() -> None:
        world = World()
        device = world.devices.add("shop", is_paired=True)
        world.devices.start(device)
        world.devices.take_on(device, world.message(), parse_fault(fault))
        await world.until(lambda: not world.devices.waiting)
        assert [status for _, status in world.heard.receipts] == statuses
        assert [inbound.text for inbound in world.heard.inbound] == words

    asyncio.run(watch())


def test_a_restriction_holds_back_new_chats_alone() -> None:
    """Issue 6, point 6."""
    world = World()
    device = world.devices.add("shop", is_paired=True, groups=(GROUP,))
    device.sent.append(world.message(ADA))
    device.restricted_until = 2000.0
    assert [world.devices.may_write_to(device, chat) for chat in (ADA, BOB, GROUP.group_id)] == [True, False, True]
    device.restricted_until = 500.0
    assert world.devices.may_write_to(device, BOB)


def test_a_number_is_on_whatsapp_unless_somebody_said_otherwise() -> None:
    world = World()
    world.devices.absent.add(BOB)
    assert [world.devices.is_on_whatsapp(number) for number in (ADA, BOB, "15550109026")] == [True, False, False]
    world.devices.clear()
    assert world.devices.is_on_whatsapp(BOB)
