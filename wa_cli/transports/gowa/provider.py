"""GOWA (go-whatsapp-web-multidevice) as one of the providers: what it can do and what it opens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wa_cli.domain.connection import RestartKind
from wa_cli.provider import KEY, SESSION, URL, WEBHOOK_SECRET, AccountSetting, Capabilities, number_id_of
from wa_cli.transports.gowa.rules import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wa_cli.domain.finding import Finding
    from wa_cli.ports import ContentRules, Transport, WebhookReader
    from wa_cli.provider import Account, Gateway


class GowaProvider:
    name = "gowa"
    title = "GOWA"
    settings = (
        AccountSetting(name=URL, meaning="where the gateway is, with its base path: http://127.0.0.1:3000"),
        AccountSetting(name=SESSION, meaning="the id of the device at the gateway", default="default"),
        AccountSetting(
            name=KEY, meaning="user:password, where the gateway asks for them", is_secret=True, is_optional=True
        ),
        AccountSetting(
            name=WEBHOOK_SECRET, meaning="what the gateway signs webhooks with", is_secret=True, is_optional=True
        ),
    )
    capabilities = Capabilities(
        kinds=frozenset(
            (
                *("text", "image", "video", "document", "audio", "voice", "sticker"),
                *("location", "contact", "poll", "reaction"),
            )
        ),
        groups=True,
        is_linked_device=True,
        # whatsmeow waits until WhatsApp's server has the message.
        server_ack_on_send=True,
        signed_webhooks=True,
        pairs_by_code=True,
        restarts=frozenset({RestartKind.SOFT}),
        checks_numbers=True,
        lists_group_members=True,
        max_bytes=MAX_BYTES,
    )

    def check(self, values: Mapping[str, str]) -> None:
        from wa_cli.transports.gowa.account import check_values

        check_values(values)

    def rules(self) -> ContentRules:
        from wa_cli.transports.gowa.rules import GowaRules

        return GowaRules()

    def open_transport(self, account: Account) -> Transport:
        from wa_cli.transports.gowa.transport import GowaTransport

        return GowaTransport(account)

    def open_gateway(self, account: Account) -> Gateway:
        from wa_cli.transports.gowa.gateway import GowaGateway

        return GowaGateway(account)

    def webhook_reader(self, account: Account) -> WebhookReader:
        from wa_cli.transports.gowa.account import device_of, webhook_secrets_of
        from wa_cli.transports.gowa.webhook import GowaWebhooks

        return GowaWebhooks(
            number_id=number_id_of(account.instance_id),
            device=device_of(account),
            secrets=webhook_secrets_of(account),
        )

    def inspect(self, account: Account, *, online: bool) -> Sequence[Finding]:
        from wa_cli.transports.gowa.findings import inspect

        return inspect(account, online=online)


PROVIDER: Final = GowaProvider()
