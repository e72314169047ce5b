"""Linked devices: phones that a gateway keeps connected, each with a state, a QR code, groups and what it has sent.

One model for every gateway that the sandbox plays; `waha` and `gowa` speak of it in their own words.  Nothing here
knows HTTP.  Who wants to tell the world of it listens: to changes of a state, to receipts, to people who write.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from wa_cli.errors import UsageError
from wa_cli.sandbox.ladder import draw_rungs

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

    from wa_cli.sandbox.bell import Bell
    from wa_cli.sandbox.faults import Fault
    from wa_cli.sandbox.ladder import Rung
    from wa_cli.sandbox.settings import SandboxSettings

# The reach-out time-lock: the number may write to nobody new for a time.
TIME_LOCK: Final = 463


class DeviceState(StrEnum):
    """How a device is connected, in no gateway's words."""

    STOPPED = "stopped"  # it does not run, or was taken off the net on purpose
    STARTING = "starting"  # it connects, or has lost its connection and tries again
    NEEDS_QR = "needs_qr"  # it runs and waits to be paired
    WORKING = "working"
    FAILED = "failed"  # its pairing is gone, or it cannot start


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceGroup:
    """A group that a device is in.

    group_id: `...@g.us`.  participants: digits, without the device itself.  is_announcement: only admins may write.
    """

    group_id: str
    name: str
    participants: tuple[str, ...] = ()
    is_announcement: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SentMessage:
    """A message that a device has taken on.

    message_id: the bare id.  chat: digits of a person, or the id of a group.  kind, content: as the ledger has them.
    accepted_at: epoch seconds by the sandbox's clock.  is_chosen: the caller has chosen the id.
    """

    device: str
    message_id: str
    chat: str
    kind: str
    content: str | None
    accepted_at: float
    is_chosen: bool = False

    @property
    def is_group(self) -> bool:
        return self.chat.endswith("@g.us")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReceipt:
    """How far a message has come.

    status: `sent` (the server has it), `delivered`, `read` or `failed`.  participant: digits, in a group, or None.
    code: of a failure.  at: epoch seconds.
    """

    message: SentMessage
    status: str
    at: float
    participant: str | None = None
    code: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInbound:
    """Somebody writes to a device.  group: where they wrote, None in a chat of their own."""

    device: str
    message_id: str
    sender: str
    at: float
    text: str
    group: str | None = None
    name: str | None = None


@dataclass(slots=True, kw_only=True)
class Device:
    """One linked device.

    number: digits of the phone behind it.  is_paired: the phone knows it.  qr_text: what is to be scanned now, ""
    unless it waits for that.  qr_drawn: how many codes there were.  restricted_until: epoch seconds until which it may
    write to nobody new, or None.  config: what a gateway keeps for it, by the gateway's name.
    """

    name: str
    number: str
    state: DeviceState = DeviceState.STOPPED
    is_paired: bool = False
    qr_text: str = ""
    qr_drawn: int = 0
    groups: dict[str, DeviceGroup] = field(default_factory=dict)
    sent: list[SentMessage] = field(default_factory=list)
    restricted_until: float | None = None
    config: dict[str, dict[str, Any]] = field(default_factory=dict)
    restarts: int = 0


class Listener:
    """Who is told what happens to devices.  The methods do nothing; a gateway fills in what it tells."""

    def on_state(self, device: Device) -> None: ...

    def on_receipt(self, device: Device, receipt: DeviceReceipt) -> None: ...

    def on_inbound(self, device: Device, inbound: DeviceInbound) -> None: ...


class Devices:
    """Every device of a sandbox, by name.

    absent: numbers (digits) that are not on WhatsApp.  waiting: receipts that are still to come.
    """

    def __init__(
        self,
        read_settings: Callable[[], SandboxSettings],
        read_clock: Callable[[], float],
        chance: Callable[[], random.Random],
        bell: Bell,
    ) -> None:
        """chance: the source that the fate of messages is drawn from.  bell: rung when something has happened."""
        self._read_settings = read_settings
        self._read_clock = read_clock
        self._chance = chance
        self._bell = bell
        self._listeners: list[Listener] = []
        self._timers: set[asyncio.TimerHandle] = set()
        self._held: dict[str, list[DeviceReceipt]] = {}
        self.absent: set[str] = set()
        self.waiting = 0
        self._devices: dict[str, Device] = {}

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def find(self, name: str) -> Device | None:
        return self._devices.get(name)

    def list_all(self) -> list[Device]:
        """In the order in which they were made."""
        return list(self._devices.values())

    def add(
        self,
        name: str,
        *,
        number: str | None = None,
        is_paired: bool = False,
        groups: Iterable[DeviceGroup] = (),
    ) -> Device:
        """A new device, which does not run yet.  number: digits; the settings' own unless given.

        Raises: UsageError when there is one of that name.
        """
        if not name or name in self._devices:
            raise UsageError(f"there is a device '{name}' already", hint="GET /sandbox/devices lists them")
        device = Device(
            name=name,
            number=number or self._read_settings().display_phone_number,
            is_paired=is_paired,
            groups={group.group_id: group for group in groups},
        )
        self._devices[name] = device
        return device

    def remove(self, name: str) -> None:
        device = self._devices.pop(name, None)
        if device is not None:
            device.is_paired = False
            self._turn(device, DeviceState.STOPPED)

    def clear(self) -> None:
        """Forget every device and every receipt that is still to come."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._devices.clear()
        self._held.clear()
        self.absent.clear()
        self.waiting = 0

    # What a gateway or a phone does to a device

    def start(self, device: Device) -> None:
        """Let it run: it connects, and works or waits to be paired.  Harmless when it runs."""
        if device.state in (DeviceState.STOPPED, DeviceState.FAILED):
            self._connect(device)

    def stop(self, device: Device) -> None:
        """Take it off the net; its pairing stays."""
        self._turn(device, DeviceState.STOPPED)

    def restart(self, device: Device) -> None:
        device.restarts += 1
        self._connect(device)

    def scan(self, device: Device, *, number: str | None = None) -> None:
        """The phone scans the QR code, or types the code in.  Raises: UsageError unless it waits for that."""
        if device.state is not DeviceState.NEEDS_QR:
            raise UsageError(f"'{device.name}' waits for nobody to scan it", hint="start it first, or let it log out")
        device.number = number or device.number
        device.is_paired = True
        self._turn(device, DeviceState.WORKING)

    def lose(self, device: Device, *, seconds: float | None = None) -> None:
        """Its connection breaks.  seconds: until it is back by itself; None waits for a restart."""
        self._turn(device, DeviceState.STARTING)
        if seconds is not None:
            self._later(seconds, lambda: self._come_back(device))

    def log_out(self, device: Device) -> None:
        """The phone removes the device: it runs and waits to be paired again."""
        device.is_paired = False
        self._turn(device, DeviceState.NEEDS_QR)

    def fail(self, device: Device) -> None:
        """It cannot go on by itself; a start brings it to wherever its pairing allows."""
        self._turn(device, DeviceState.FAILED)

    def renew_qr(self, device: Device) -> None:
        """Draw the next QR code, as a device does every twenty seconds."""
        if device.state is DeviceState.NEEDS_QR:
            device.qr_drawn += 1
            device.qr_text = f"2@{os.urandom(24).hex()},{os.urandom(16).hex()},{device.qr_drawn}"

    def is_on_whatsapp(self, number: str) -> bool:
        """Whether a number (digits) has WhatsApp: unless it is in `absent` or ends with 9026, all have."""
        is_magic = self._read_settings().magic and number.endswith("9026")
        return number not in self.absent and not is_magic

    def take_on(self, device: Device, message: SentMessage, fault: Fault | None = None) -> None:
        """A working device sends a message.  Its receipts follow by the settings' ladder; in a group, of each member.

        fault: `later`, `until` and `stop` change what follows.
        """
        device.sent.append(message)
        settings, chance = self._read_settings(), self._chance()
        if not message.is_group:
            for rung in draw_rungs(settings, chance, fault, only_sent=message.kind == "reaction"):
                self._promise(device, message, rung, None)
            return
        group = device.groups.get(message.chat)
        rungs = draw_rungs(settings, chance, fault)
        self._promise(device, message, rungs[0], None)
        if rungs[0].status == "sent":
            for participant in group.participants if group is not None else ():
                for rung in draw_rungs(settings, chance, fault)[1:]:
                    self._promise(device, message, rung, participant)

    def receive(
        self, device: Device, sender: str, text: str, *, group: str | None = None, name: str | None = None
    ) -> str:
        """Somebody (digits) writes to the device.  Returns the id of their message."""
        inbound = DeviceInbound(
            device=device.name,
            message_id=draw_message_id(),
            sender=sender,
            at=self._read_clock(),
            text=text,
            group=group,
            name=name,
        )
        for listener in self._listeners:
            listener.on_inbound(device, inbound)
        return inbound.message_id

    def may_write_to(self, device: Device, chat: str) -> bool:
        """Whether the device is free to write there: a restriction holds back chats that are not open yet."""
        until = device.restricted_until
        if until is None or until <= self._read_clock() or chat.endswith("@g.us"):
            return True
        return any(message.chat == chat for message in device.sent)

    # What happens in between

    def _connect(self, device: Device) -> None:
        self._turn(device, DeviceState.STARTING)
        seconds = self._read_settings().device_start_seconds
        if seconds:
            self._later(seconds, lambda: self._come_back(device))
        else:
            self._come_back(device)

    def _come_back(self, device: Device) -> None:
        if device.state is DeviceState.STARTING:
            self._turn(device, DeviceState.WORKING if device.is_paired else DeviceState.NEEDS_QR)

    def _turn(self, device: Device, state: DeviceState) -> None:
        if device.state is state:
            return
        device.state = state
        device.qr_text = ""
        if state is DeviceState.NEEDS_QR:
            self.renew_qr(device)
            seconds = self._read_settings().device_scan_seconds
            if seconds is not None:
                self._later(seconds, lambda: self._scan_by_itself(device))
        for listener in self._listeners:
            listener.on_state(device)
        if state is DeviceState.WORKING:
            for receipt in self._held.pop(device.name, []):
                self._tell(device, receipt)

    def _scan_by_itself(self, device: Device) -> None:
        if device.state is DeviceState.NEEDS_QR:
            self.scan(device)

    def _promise(self, device: Device, message: SentMessage, rung: Rung, participant: str | None) -> None:
        self.waiting += 1
        self._later(rung.after, lambda: self._come_due(device, message, rung, participant))

    def _come_due(self, device: Device, message: SentMessage, rung: Rung, participant: str | None) -> None:
        self.waiting -= 1
        if rung.status.startswith("stop"):
            self.receive(device, participant or message.chat, "STOP")
            return
        receipt = DeviceReceipt(
            message=message,
            status=rung.status,
            at=message.accepted_at + rung.after,
            participant=participant,
            code=rung.code,
        )
        if device.state is DeviceState.WORKING:
            self._tell(device, receipt)
        else:
            self._held.setdefault(device.name, []).append(receipt)  # the phone tells it once it is back

    def _tell(self, device: Device, receipt: DeviceReceipt) -> None:
        for listener in self._listeners:
            listener.on_receipt(device, receipt)

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        def due() -> None:
            self._timers.discard(timer)
            act()
            self._bell.ring()

        timer = asyncio.get_running_loop().call_later(seconds, due)
        self._timers.add(timer)

    def stop_timers(self) -> None:
        """Nothing happens by itself any more: the sandbox stops."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self.waiting = 0
        self._bell.ring()


def draw_message_id() -> str:
    """A fresh id as WhatsApp's web clients make them: `3EB0` and 18 upper-case hex digits."""
    return f"3EB0{os.urandom(9).hex().upper()}"
