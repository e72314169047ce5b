"""How one sandbox behaves: address, token, number, limits, webhooks, chaos and clock, as one value."""

from __future__ import annotations

import ipaddress
import re
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

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
    IN_APPEAL = "IN_APPEAL"
    PENDING_DELETION = "PENDING_DELETION"
    DELETED = "DELETED"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    ARCHIVED = "ARCHIVED"


MEDIA_HEADERS = frozenset({"IMAGE", "VIDEO", "DOCUMENT", "LOCATION"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxTemplate:
    """A template the account owns.  body holds `{{1}}` or `{{first_name}}` where parameters go.

    header: a text with at most one such place, or IMAGE, VIDEO, DOCUMENT or LOCATION.  buttons: as the platform
    lists them, {"type": "URL", "text": "Shop", "url": "https://example.org/{{1}}"}.
    """

    name: str
    language: str = "en_US"
    category: str = "UTILITY"
    status: TemplateStatus = TemplateStatus.APPROVED
    body: str = ""
    header: str = ""
    footer: str = ""
    buttons: tuple[Mapping[str, Any], ...] = ()
    quality: str = "UNKNOWN"

    @property
    def placeholders(self) -> tuple[str, ...]:
        """The names between the braces of the body, each once, in order of first appearance."""
        return find_placeholders(self.body)

    @property
    def is_named(self) -> bool:
        return any(not name.isdigit() for name in self.placeholders)


def find_placeholders(text: str) -> tuple[str, ...]:
    """The names between double braces, each once, in order of first appearance."""
    return tuple(dict.fromkeys(re.findall(r"\{\{\s*(\w+)\s*\}\}", text)))


HELLO_WORLD = SandboxTemplate(
    name="hello_world", body="Welcome and congratulations!  This message shows that your number can send."
)

# What a sale is announced with: a picture, values by their names, a link of one's own, and a way out.
SUMMER_SALE = SandboxTemplate(
    name="summer_sale",
    category="MARKETING",
    header="IMAGE",
    body="Hi {{first_name}}! Our summer sale is on: {{offer}}. In the shop and online until {{last_day}}.",
    footer="Reply STOP to hear no more from us",
    buttons=(
        {"type": "URL", "text": "See what is left", "url": "https://shop.example.com/sale/{{1}}"},
        {"type": "QUICK_REPLY", "text": "No more offers"},
    ),
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
    strict_media: ids that were not uploaded here, or longer than 30 days ago, meet 100.
    magic: whether endings such as 9408 mean something.
    chaos: spelling of a fault to its probability; drawn from `seed`.
    latency_ms: every answer of the messages endpoint waits this long; a change holds for those that wait already.
    keepalive_seconds: how long an idle connection stays open.
    ledger_keep: entries held in memory, None for all.
    clock: epoch seconds; clock_offset_seconds is added to it, so that hours can pass at once.

    webhook_url: where statuses and events are posted, None for nowhere; on this machine unless allow_remote.
    app_secret: signs webhooks.  verify_token: what the receiver is asked to know.
    sent_after_seconds, delivered_after_seconds, read_after_seconds: (least, most) from one status to the next.
    read_share: of the delivered.  delivered_skipped_share: read comes with no delivered before it.
    undelivered_share: no more than sent ever comes.
    ladder_speed: so many times faster than life; 0 lifts every wait.
    strict_window: free text to somebody who has not written within 24 h fails by webhook with 131047.
    webhook_batch: most updates in one POST.  webhook_gather_ms: how long a due update waits for company.
    webhook_connections: POSTs at once.  webhook_timeout_seconds: for one POST, answer included.
    webhook_retry_seconds: a POST not answered 200 is repeated at once, then after this wait, then each time
        webhook_retry_factor times later, until webhook_give_up_seconds have passed.
    webhook_duplicates, webhook_reordering, webhook_drops, webhook_before_answer: probabilities that an update
        comes twice, that two statuses of a message change places, that a POST is lost on its way (and repeated),
        that the first status of a message arrives before the answer to its post.
    webhook_extra_delay_seconds: each update is late by up to this.
    deliveries_keep: webhook deliveries held in memory; those still under way always are.

    gateway_key: what the gateways of linked devices want to be shown, "" for nothing.
    waha_engine: whose answers the WAHA gives: GOWS, NOWEB, WEBJS or WPP.
    device_start_seconds: how long a device takes to connect.  device_scan_seconds: after so long its QR code is
        scanned by itself; None waits for somebody to do it.
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
    templates: tuple[SandboxTemplate, ...] = (HELLO_WORLD, SUMMER_SALE)
    strict_media: bool = True
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
    webhook_url: str | None = None
    app_secret: str = "sandbox-app-secret"  # noqa: S105 - signs nothing but this local server's webhooks
    verify_token: str = "sandbox-verify-token"  # noqa: S105
    sent_after_seconds: tuple[float, float] = (0.05, 0.4)
    delivered_after_seconds: tuple[float, float] = (0.3, 3.0)
    read_after_seconds: tuple[float, float] = (2.0, 60.0)
    read_share: float = 0.6
    delivered_skipped_share: float = 0.02
    undelivered_share: float = 0.01
    ladder_speed: float = 1.0
    strict_window: bool = False
    webhook_batch: int = 100
    webhook_gather_ms: float = 20.0
    webhook_connections: int = 8
    webhook_timeout_seconds: float = 10.0
    webhook_retry_seconds: float = 1.0
    webhook_retry_factor: float = 2.0
    webhook_give_up_seconds: float = 7 * 86_400.0
    webhook_duplicates: float = 0.01
    webhook_reordering: float = 0.0
    webhook_drops: float = 0.0
    webhook_before_answer: float = 0.0
    webhook_extra_delay_seconds: float = 0.0
    deliveries_keep: int = 10_000
    gateway_key: str = ""
    waha_engine: str = "GOWS"
    device_start_seconds: float = 0.0
    device_scan_seconds: float | None = None


WAHA_ENGINES = ("GOWS", "NOWEB", "WEBJS", "WPP")

# What nobody is shown.
SECRETS = frozenset({"token", "app_secret", "verify_token", "gateway_key"})

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
    _check_webhooks(settings)


def _check_webhooks(settings: SandboxSettings) -> None:
    if settings.webhook_url is not None:
        _check_webhook_url(settings.webhook_url, allow_remote=settings.allow_remote)
    if not settings.app_secret:
        raise UsageError("the app secret is empty", hint="leave it out to use the default")
    if not settings.verify_token or not settings.verify_token.isascii() or not settings.verify_token.isprintable():
        raise UsageError("the verify token must be printable ASCII", hint="leave it out to use the default")
    for name in ("sent_after_seconds", "delivered_after_seconds", "read_after_seconds"):
        least, most = getattr(settings, name)
        if not 0 <= least <= most < 1e9:
            raise UsageError(f"{name} is not a least and a most from 0", hint="[0.3, 3]")
    for name in (
        "read_share",
        "delivered_skipped_share",
        "undelivered_share",
        "webhook_duplicates",
        "webhook_reordering",
        "webhook_drops",
        "webhook_before_answer",
    ):
        if not 0 <= getattr(settings, name) <= 1:
            raise UsageError(f"{name} is not a probability", hint="0 to 1, such as 0.01")
    if settings.undelivered_share + settings.delivered_skipped_share > 1:
        raise UsageError("undelivered_share and delivered_skipped_share add up to more than 1", hint="0.01 and 0.02")
    for name, least, most in (
        ("ladder_speed", 0, 1e9),
        ("webhook_batch", 1, 1000),  # the platform's own bound
        ("webhook_gather_ms", 0, 60_000),
        ("webhook_connections", 1, 1000),
        ("webhook_timeout_seconds", 0.01, 3600),
        # Above zero: a receiver that is down must not be asked in a tight circle.
        ("webhook_retry_seconds", 0.01, 86_400),
        ("webhook_retry_factor", 1, 100),
        ("webhook_give_up_seconds", 0, 1e9),
        ("webhook_extra_delay_seconds", 0, 86_400),
        ("deliveries_keep", 0, 1e9),
        ("device_start_seconds", 0, 86_400),
    ):
        if not least <= getattr(settings, name) <= most:
            raise UsageError(f"{name} is out of reach", hint=f"{least:g} to {most:g}")
    if settings.waha_engine not in WAHA_ENGINES:
        raise UsageError(f"WAHA has no engine {settings.waha_engine}", hint=f"one of: {', '.join(WAHA_ENGINES)}")
    if settings.device_scan_seconds is not None and not 0 <= settings.device_scan_seconds <= 86_400:
        raise UsageError("device_scan_seconds is out of reach", hint="0 to 86400, or leave it out")


def _check_webhook_url(url: str, *, allow_remote: bool) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if (
        parts.scheme not in ("http", "https")
        or not host
        or parts.username is not None
        or not (url.isascii() and url.isprintable() and " " not in url)
    ):
        raise UsageError(
            "the webhook URL is not a web address", hint="http://127.0.0.1:8080/api/webhooks/whatsapp/status"
        )
    if not allow_remote and not is_loopback(host):
        raise Refused(
            f"webhooks to {host} would leave this machine", hint="use 127.0.0.1, or allow it with --allow-remote"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
