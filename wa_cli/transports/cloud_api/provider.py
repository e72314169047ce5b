"""Meta's Cloud API as one of the providers: what it can do and what it opens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wa_cli.domain.message import CONTENT_TYPES
from wa_cli.errors import UsageError
from wa_cli.provider import KEY, URL, WEBHOOK_SECRET, AccountSetting, Capabilities
from wa_cli.transports.cloud_api.kind_rules import MAX_FILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wa_cli.domain.finding import Finding
    from wa_cli.ports import ContentRules, Transport, WebhookReader
    from wa_cli.provider import Account, Gateway

VERIFY_TOKEN: Final = "verify_token"  # noqa: S105  # the name of a setting
BUSINESS_ACCOUNT: Final = "business_account_id"


class CloudApiProvider:
    name = "cloud_api"
    title = "Meta's Cloud API"
    settings = (
        AccountSetting(name=URL, meaning="the whole messages URL: https://graph.facebook.com/v25.0/NUMBER_ID/messages"),
        AccountSetting(name=BUSINESS_ACCOUNT, meaning="the account whose templates are read", is_optional=True),
        AccountSetting(name=KEY, meaning="the access token that sends", is_secret=True),
        AccountSetting(
            name=WEBHOOK_SECRET, meaning="the app secret that signs webhooks", is_secret=True, is_optional=True
        ),
        AccountSetting(name=VERIFY_TOKEN, meaning="answers Meta's check", is_secret=True, is_optional=True),
    )
    capabilities = Capabilities(
        kinds=frozenset(CONTENT_TYPES) - {"poll"},
        has_window=True,
        signed_webhooks=True,
        max_bytes=MAX_FILE_BYTES,
    )

    def check(self, values: Mapping[str, str]) -> None:
        from wa_cli.transports.cloud_api.account import check_token, parse_api_url

        if values.get(URL):
            parse_api_url(values[URL])
        if values.get(KEY):
            check_token(values[KEY])

    def rules(self) -> ContentRules:
        from wa_cli.transports.cloud_api.rules import CloudApiRules

        return CloudApiRules()

    def open_transport(self, account: Account) -> Transport:
        from wa_cli.transports.cloud_api.transport import CloudApiTransport

        return CloudApiTransport(
            api_url=account.value(URL),
            access_token=account.value(KEY),
            concurrency=account.concurrency,
            read_timeout_seconds=account.read_timeout_seconds,
            files=account.files,
            uploads=account.uploads,
        )

    def open_gateway(self, account: Account) -> Gateway:
        raise UsageError(
            f"'{account.instance}' is a number on {self.title}, which has no linked device",
            hint="restarting, pairing and groups are for instances of a gateway",
            code="no_gateway",
        )

    def webhook_reader(self, account: Account) -> WebhookReader:
        from wa_cli.transports.cloud_api.webhook import CloudApiWebhooks

        secrets = account.value(WEBHOOK_SECRET).split(",")
        return CloudApiWebhooks(
            secrets=tuple(secret.strip() for secret in secrets if secret.strip()),
            verify_token=account.value(VERIFY_TOKEN) or None,
        )

    def inspect(self, account: Account, *, online: bool) -> Sequence[Finding]:
        from wa_cli.transports.cloud_api.findings import inspect

        return inspect(account.value(URL), account.value(KEY), online=online)


PROVIDER: Final = CloudApiProvider()
