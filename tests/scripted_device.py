"""A gateway with one device, steered by a test: what it says, what brings it back, and when it does not answer.

Its provider stands in `providers.MODULES` under the name `scripted` for as long as a test wants it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wa_cli.bootstrap import App
from wa_cli.config import load_settings
from wa_cli.domain.connection import Connection, ConnectionState, PairingQr, RestartKind
from wa_cli.errors import Temporary
from wa_cli.ports import Instance, NewInstance
from wa_cli.provider import AccountSetting, Capabilities
from wa_cli.store.sqlite.database import Database
from wa_cli.store.sqlite.owners import Owner
from wa_cli.transports.providers import MODULES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest
    from world import FakeClock, FakeTransport


@dataclass(slots=True)
class Device:
    """What there is behind the gateway.

    state: what a look finds.  is_up: the gateway answers.  on_act: called with `start`, `soft` or `hard`; nothing
    happens to the device unless it does it.  acts: (wall ms, word), as they came.  looks: the wall ms of each.
    """

    clock: Any
    state: ConnectionState = ConnectionState.READY
    reason: str | None = None
    raw: str = ""
    is_up: bool = True
    is_doubtful: bool = False
    latency_seconds: float = 0.0
    error: Exception | None = None
    on_act: Callable[[str], None] = lambda _word: None
    on_look: Callable[[], None] = lambda: None
    acts: list[tuple[int, str]] = field(default_factory=list)
    looks: list[int] = field(default_factory=list)
    qr_texts: list[str] = field(default_factory=lambda: ["2@abc,def,ghi=="])
    address: str | None = "+6591234567"
    codes: list[str] = field(default_factory=list)
    closed: int = 0
    transport: FakeTransport | None = None

    @property
    def words(self) -> list[str]:
        return [word for _at, word in self.acts]

    async def _answer(self) -> None:
        if self.latency_seconds:
            await asyncio.sleep(self.latency_seconds)
        if self.error is not None:
            raise self.error
        if not self.is_up:
            raise Temporary("nobody answers at the gateway's address", code="gateway_down")

    def _act(self, word: str) -> None:
        self.acts.append((self.clock.wall_ms(), word))
        self.on_act(word)

    async def look(self) -> Connection:
        self.looks.append(self.clock.wall_ms())
        self.on_look()
        await self._answer()
        is_ready = self.state is ConnectionState.READY
        return Connection(
            state=self.state,
            raw=self.raw or self.state.value.upper(),
            reason=self.reason,
            address=self.address if is_ready else None,
            is_doubtful=self.is_doubtful,
        )

    async def start(self) -> None:
        await self._answer()
        self._act("start")

    async def restart(self, kind: RestartKind) -> None:
        await self._answer()
        self._act(kind.value)

    async def fetch_qr(self) -> PairingQr:
        await self._answer()
        text = self.qr_texts.pop(0) if len(self.qr_texts) > 1 else self.qr_texts[0]
        return PairingQr(text=text, png=None, lasts_seconds=20.0)

    async def request_code(self, phone: str) -> str:
        self.codes.append(phone)
        return "ABCD-EFGH"

    async def close(self) -> None:
        self.closed += 1


class _Provider:
    name = "scripted"
    title = "a gateway of the tests"
    settings: tuple[AccountSetting, ...] = ()
    capabilities = Capabilities(
        kinds=frozenset({"text"}), is_linked_device=True, restarts=frozenset(RestartKind), pairs_by_code=True
    )
    device: Device | None = None

    def check(self, values: object) -> None:
        pass

    def open_gateway(self, account: object) -> Device:
        assert self.device is not None
        return self.device

    def open_transport(self, account: object) -> FakeTransport:
        assert self.device is not None
        assert self.device.transport is not None
        return self.device.transport


PROVIDER = _Provider()


def plug_in(monkeypatch: pytest.MonkeyPatch, device: Device) -> None:
    """Let instances of the transport `scripted` have this device."""
    monkeypatch.setitem(MODULES, "scripted", "scripted_device")  # type: ignore[arg-type]
    monkeypatch.setattr(PROVIDER, "device", device)


def add_phone(app: App, name: str = "phone", state: ConnectionState | None = ConnectionState.READY) -> Instance:
    new = NewInstance(
        name=name, transport="scripted", settings={}, secrets={}, profile=None, limits={}, connection=state
    )
    return app.instances.add(new, now_ms=app.clock.wall_ms())


def open_phone_app(folder: Path, clock: FakeClock) -> App:
    """The app on a file of its own and the clock of the test."""
    database = Database.open(folder / "wa.db", create=True)
    settings = load_settings(env_file=None, flags={"WA_DB": str(folder / "wa.db")})
    return App(settings=settings, database=database, clock=clock, owner=Owner(database.path))  # type: ignore[arg-type]
