"""What the core asks of a provider of WhatsApp: one object for each kind of transport, and what it opens.

A provider says what it can do (`Capabilities`), what an account of it needs (`AccountSetting`), and opens the four
things that talk to it: a `Transport` that posts, a `Gateway` that steers a linked device, the `ContentRules` that are
read before anything is queued, and the reader of its webhooks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wa_cli.domain.connection import Connection, GroupInfo, NumberCheck, PairingQr, RestartKind
    from wa_cli.domain.finding import Finding
    from wa_cli.domain.message import LocalFile
    from wa_cli.ports import ContentRules, Transport, WebhookReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a provider can do, so that nobody has to ask which one it is.

    kinds: of CONTENT_TYPES.  has_window: free text needs that the person wrote within 24 h.
    is_linked_device: it lives behind a gateway and has a connection that can be lost.
    custom_id_kinds: the kinds whose message id we may choose (see `domain.message_ref`).
    server_ack_on_send: an accepted post means that WhatsApp's own server has it, not only the gateway.
    receipts, state_events: come by webhook; where state_events are missing the state is asked for.
    signed_webhooks: bodies carry a signature.  takes_files: local files can be sent, by upload or inside the post.
    max_bytes: the largest file of a kind, where there is a limit.
    """

    kinds: frozenset[str]
    groups: bool = False
    has_window: bool = False
    is_linked_device: bool = False
    custom_id_kinds: frozenset[str] = frozenset()
    server_ack_on_send: bool = False
    receipts: bool = True
    state_events: bool = False
    signed_webhooks: bool = False
    takes_files: bool = True
    pairs_by_code: bool = False
    restarts: frozenset[RestartKind] = frozenset()
    checks_numbers: bool = False
    lists_group_members: bool = False
    max_bytes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSetting:
    """Something that an account of a provider needs.

    is_secret: what is stored is the name of the variable that holds it.  default: "" where it has to be given, unless
    `is_optional`.
    """

    name: str
    meaning: str
    default: str = ""
    is_secret: bool = False
    is_optional: bool = False


# What accounts of every gateway are made of, under the same names.
URL: Final = "url"
SESSION: Final = "session"
KEY: Final = "key"
WEBHOOK_SECRET: Final = "webhook_secret"  # noqa: S105  # the name of a setting


def number_id_of(instance_id: int) -> str:
    """What events of a gateway's webhooks carry as `number_id`: each of its instances has an address of its own."""
    return f"instance {instance_id}"


class Files(Protocol):
    """The local files that messages carry."""

    def read(self, file: LocalFile) -> bytes:
        """Its bytes.  Raises: UsageError (code `file_missing`) when it is gone or no longer the same."""
        ...


class Uploads(Protocol):
    """What a provider keeps of our files, remembered per instance.  Safe to call from any thread."""

    def find(self, digest: str, *, now_ms: int) -> str | None:
        """The provider's id of a file that it still keeps, or None."""
        ...

    def save(self, digest: str, media_id: str, *, now_ms: int, expires_at_ms: int | None) -> None: ...

    def forget(self, digest: str) -> None:
        """The provider does not know it any more."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One identity at a provider, ready to be used.

    values: its settings by name, secrets resolved; what is optional and not set is missing.
    install: the random name of this database, as in the tags of our posts.
    concurrency: posts in flight at most.  read_timeout_seconds: for a whole post.
    """

    instance_id: int
    instance: str
    values: Mapping[str, str] = field(repr=False)  # secrets are among them
    install: str
    concurrency: int
    read_timeout_seconds: float
    files: Files | None = None
    uploads: Uploads | None = None

    def value(self, name: str) -> str:
        """The value, or "" when it is not set."""
        return self.values.get(name, "")

    def secrets(self, provider: Provider) -> tuple[str, ...]:
        """The values that may appear nowhere."""
        return tuple(
            self.values[setting.name]
            for setting in provider.settings
            if setting.is_secret and self.values.get(setting.name)
        )


class Gateway(Protocol):
    """Steers the linked device of one instance.  Holds its connections until closed.

    Every call may raise: Temporary (code `gateway_down`) when the gateway does not answer, UsageError (code
    `gateway_key`) when it refuses our key, GatewayRefused for anything else it will not do.
    """

    async def look(self) -> Connection:
        """How the device is connected now.  A session that the gateway does not know is DISCONNECTED."""
        ...

    async def start(self) -> None:
        """Let the session run, and make it where there is none.  Harmless when it runs already."""
        ...

    async def restart(self, kind: RestartKind) -> None:
        """Ask for a restart; returns when the gateway has taken the request, not when the device is back."""
        ...

    async def fetch_qr(self) -> PairingQr: ...

    async def request_code(self, phone: str) -> str:
        """The code that pairs the device with this number (E.164), as it is to be typed into the phone."""
        ...

    async def list_groups(self) -> list[GroupInfo]:
        """Every group that the device is in, without participants."""
        ...

    async def read_group(self, address: str) -> GroupInfo | None:
        """One group with its participants where the gateway tells them; None when the device is not in it."""
        ...

    async def check_number(self, phone: str) -> NumberCheck:
        """Whether a number (E.164) is on WhatsApp.  Sends nothing to it."""
        ...

    async def subscribe(self, url: str) -> None:
        """Have the gateway post its webhooks to this address, signed with the account's webhook secret."""
        ...

    async def close(self) -> None: ...


class Provider(Protocol):
    """One kind of transport.  name: as it is stored.  title: for people."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def settings(self) -> tuple[AccountSetting, ...]: ...

    @property
    def capabilities(self) -> Capabilities: ...

    def check(self, values: Mapping[str, str]) -> None:
        """Raises: UsageError for values that cannot be meant.  Asks nobody; secrets may be missing."""
        ...

    def rules(self) -> ContentRules: ...

    def open_transport(self, account: Account) -> Transport: ...

    def open_gateway(self, account: Account) -> Gateway:
        """Raises: UsageError where `capabilities.is_linked_device` is False."""
        ...

    def webhook_reader(self, account: Account) -> WebhookReader: ...

    def inspect(self, account: Account, *, online: bool) -> Sequence[Finding]:
        """What `wa doctor` should know.  online: ask the other side too; nothing is sent."""
        ...
