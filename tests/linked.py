"""A kind of transport that is a linked device in memory: its groups, its numbers, and the posts that it took.

`install(monkeypatch)` makes `wa` know it under the name `linked`; its gateway counts how often it is asked.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wa_cli.domain.connection import Connection, ConnectionState, GroupInfo, NumberCheck, OnWhatsApp
from wa_cli.domain.outcome import Accepted
from wa_cli.errors import Temporary
from wa_cli.ports import NewInstance
from wa_cli.provider import KEY, URL, Account, AccountSetting, Capabilities
from wa_cli.transports import providers

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from wa_cli.bootstrap import App
    from wa_cli.domain.finding import Finding
    from wa_cli.domain.message import Content
    from wa_cli.domain.outcome import Outcome
    from wa_cli.domain.recipient import RecipientKind
    from wa_cli.ports import Instance, Post, Problem


@dataclass(slots=True)
class Device:
    """The device behind the gateway.  asked: the calls, in order.  outcomes: by address, one after the other."""

    state: ConnectionState = ConnectionState.READY
    is_reachable: bool = True
    groups: dict[str, GroupInfo] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)  # groups that the list leaves out
    numbers: dict[str, NumberCheck] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)

    def add_group(self, number: int, name: str, *people: str, may_post: bool | None = True) -> str:
        """A group with these people; its address."""
        address = f"12036302524612{number:04d}@g.us"
        self.groups[address] = GroupInfo(
            address=address, name=name, size=len(people), may_post=may_post, participants=people
        )
        return address


class LinkedGateway:
    def __init__(self, device: Device) -> None:
        self._device = device

    def _note(self, call: str) -> None:
        self._device.asked.append(call)
        if not self._device.is_reachable:
            raise Temporary("the gateway does not answer", hint="start it", code="gateway_down")

    async def look(self) -> Connection:
        self._note("look")
        return Connection(state=self._device.state, raw=self._device.state.value.upper())

    async def list_groups(self) -> list[GroupInfo]:
        self._note("list_groups")
        return [
            GroupInfo(address=one.address, name=one.name, size=one.size, may_post=one.may_post)
            for one in self._device.groups.values()
            if one.address not in self._device.hidden
        ]

    async def read_group(self, address: str) -> GroupInfo | None:
        self._note(f"read_group {address}")
        return self._device.groups.get(address)

    async def check_number(self, phone: str) -> NumberCheck:
        self._note(f"check_number {phone}")
        return self._device.numbers.get(phone, NumberCheck(verdict=OnWhatsApp.YES))

    async def close(self) -> None:
        pass


class LinkedTransport:
    def __init__(self, device: Device) -> None:
        self._device = device

    async def send(self, post: Post) -> Outcome:
        self._device.posts.append(post)
        waiting = self._device.outcomes.get(post.address)
        if waiting:
            return waiting.pop(0)
        return Accepted(provider_message_id=f"3EB0{len(self._device.posts):04d}", http_status=201)

    async def close(self) -> None:
        pass


class LinkedRules:
    def find_problem(self, content: Content) -> Problem | None:
        return None

    def needs_window(self, content: Content) -> bool:
        return False

    def find_recipient_problem(self, kind: RecipientKind) -> Problem | None:
        return None


class LinkedProvider:
    name = "linked"
    title = "a linked device of the tests"
    settings = (
        AccountSetting(name=URL, meaning="where the gateway is"),
        AccountSetting(name=KEY, meaning="its key", is_secret=True, is_optional=True),
    )
    capabilities = Capabilities(
        kinds=frozenset({"text"}),
        groups=True,
        is_linked_device=True,
        checks_numbers=True,
        lists_group_members=True,
    )

    def __init__(self) -> None:
        self.device = Device()

    def check(self, values: Any) -> None:
        pass

    def rules(self) -> LinkedRules:
        return LinkedRules()

    def open_transport(self, account: Account) -> LinkedTransport:
        return LinkedTransport(self.device)

    def open_gateway(self, account: Account) -> Any:
        return LinkedGateway(self.device)

    def webhook_reader(self, account: Account) -> Any:
        raise NotImplementedError

    def inspect(self, account: Account, *, online: bool) -> Sequence[Finding]:
        return ()


PROVIDER = LinkedProvider()


def install(monkeypatch: pytest.MonkeyPatch) -> Device:
    """Let `wa` know this transport; the device behind it is a new one."""
    PROVIDER.device = Device()
    sys.modules.setdefault("linked", sys.modules[__name__])
    monkeypatch.setitem(providers.MODULES, "linked", "linked")  # type: ignore[arg-type]  # a dict that promises to stay
    return PROVIDER.device


def add_instance(app: App, name: str = "main") -> Instance:
    """An instance of this transport."""
    new = NewInstance(
        name=name,
        transport="linked",
        settings={URL: "http://127.0.0.1:9"},
        secrets={},
        profile=None,
        limits={},
        connection=ConnectionState.READY,
    )
    return app.instances.add(new, now_ms=app.clock.wall_ms())
