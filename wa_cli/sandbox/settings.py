"""How one sandbox behaves: address, token, number, limits, chaos and clock, as one value."""

from __future__ import annotations

import ipaddress
import re
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from wa_cli.errors import Refused, UsageError
from wa_cli.sandbox.faults import Chaos

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


class NumberState(StrEnum):
    """What the platform thinks of the sending number."""

    CONNECTED = "connected"
    UNREGISTERED = "unregistered"  # 133010
    LOCKED = "locked"  # 131031
    BLOCKED = "blocked"  # 368
    MAINTENANCE = "maintenance"  # 131057


class TemplateStatus(StrEnum):
    APPROVED = "APPROVED"
    PENDING = "PENDING"
    REJECTED = "REJECTED"
    PAUSED = "PAUSED"
    DISABLED = "DISABLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxTemplate:
    """A template the account owns.  body holds `{{1}}` or `{{first_name}}` where parameters go."""

    name: str
    language: str = "en_US"
    category: str = "UTILITY"
    status: TemplateStatus = TemplateStatus.APPROVED
    body: str = ""

    @property
    def placeholders(self) -> tuple[str, ...]:
        """The names between the braces, each once, in order of first appearance."""
        return tuple(dict.fromkeys(re.findall(r"\{\{\s*(\w+)\s*\}\}", self.body)))

    @property
    def is_named(self) -> bool:
        return any(not name.isdigit() for name in self.placeholders)


HELLO_WORLD = SandboxTemplate(
    name="hello_world", body="Welcome and congratulations!  This message shows that your number can send."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """Everything that can be set.  The defaults let an ordinary client work.

    port: 0 takes a free one; a stopped sandbox comes back on the one it had.
    allow_remote: permits an address other machines can reach; the admin API then asks for the token too.
    other_phone_number_ids: more numbers of the same account, each with limits of its own.
    throughput_per_second, pair_seconds, app_calls_per_hour: 0 lifts the limit.
    strict_pair: no burst, so that a second message within pair_seconds meets 131056.
    throttle_http_status: 429 or 400, since published tables disagree.
    retry_after_seconds: sent with throttling answers if given; the real platform does not document it.
    may_send: whether the token holds the permission to send (10 without it).
    token_expires_after: posts with the right token until it counts as expired (190/463), None for never.
    allowed_recipients: digits; None allows everybody, a set behaves as a test number (131030).
    group_ids: groups this number made; posts to others meet 131041.
    strict_templates: names the account does not own meet 132001.
    magic: whether endings such as 9408 mean something.
    chaos: spelling of a fault to its probability; drawn from `seed`.
    latency_ms: every answer of the messages endpoint waits this long.
    keepalive_seconds: how long an idle connection stays open.
    ledger_keep: entries held in memory, None for all.
    clock: epoch seconds; clock_offset_seconds is added to it, so that hours can pass at once.
    """

    host: str = "127.0.0.1"
    port: int = 0
    allow_remote: bool = False
    token: str = "sandbox-token"  # noqa: S105 - opens nothing but this local server
    phone_number_id: str = "106540352242922"
    other_phone_number_ids: tuple[str, ...] = ()
    waba_id: str = "102290129340398"
    display_phone_number: str = "15550783881"
    verified_name: str = "Sandbox"
    throughput_per_second: int = 80
    pair_seconds: float = 6.0
    pair_burst: int = 45
    strict_pair: bool = False
    app_calls_per_hour: int = 0
    throttle_http_status: int = 429
    retry_after_seconds: int | None = None
    number_state: NumberState = NumberState.CONNECTED
    may_send: bool = True
    token_expires_after: int | None = None
    allowed_recipients: frozenset[str] | None = None
    group_ids: frozenset[str] = frozenset()
    templates: tuple[SandboxTemplate, ...] = (HELLO_WORLD,)
    strict_templates: bool = False
    magic: bool = True
    chaos: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    latency_ms: float = 0.0
    keepalive_seconds: float = 75.0
    ledger_path: Path | None = None
    fsync_ledger: bool = False
    ledger_keep: int | None = None
    clock: Callable[[], float] = time.time
    clock_offset_seconds: float = 0.0


# What a running sandbox cannot change any more: its sockets and its file are open.
FIXED_ONCE_RUNNING = frozenset(
    {"host", "port", "allow_remote", "ledger_path", "fsync_ledger", "ledger_keep", "keepalive_seconds"}
)


def check_settings(settings: SandboxSettings) -> None:
    """Raises: UsageError for a value that makes no sense, Refused for an address open to the network."""
    if not settings.allow_remote and not is_loopback(settings.host):
        raise Refused(
            f"a sandbox on {settings.host} could be reached by other machines",
            hint="use 127.0.0.1, or allow it with --allow-remote",
        )
    if not 0 <= settings.port <= 65535:
        raise UsageError(f"{settings.port} is not a port", hint="0 takes a free one")
    if not settings.token or not settings.token.isascii() or not settings.token.isprintable():
        raise UsageError("the token must be printable ASCII", hint="leave it out to use the default")
    for name in ("throughput_per_second", "pair_seconds", "app_calls_per_hour", "latency_ms"):
        if not 0 <= getattr(settings, name) < 1e9:
            raise UsageError(f"{name} is below zero or out of reach", hint="0 lifts it")
    if settings.pair_burst < 1:
        raise UsageError("pair_burst is below 1", hint="1 allows no burst")
    if settings.throttle_http_status not in (400, 429):
        raise UsageError("throttle_http_status is 429 or 400", hint="429 is the default")
    if settings.ledger_keep is not None and settings.ledger_keep < 0:
        raise UsageError("ledger_keep is below zero", hint="leave it out to keep every entry")
    Chaos(settings.chaos)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
