"""WAHA as one of the providers: what it can do and what it opens."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from wa_cli.domain.connection import RestartKind
from wa_cli.errors import UsageError
from wa_cli.provider import (
    KEY,
    SESSION,
    URL,
    WEBHOOK_SECRET,
    AccountSetting,
    Capabilities,
    number_id_of,
)
from wa_cli.transports.waha.payload import CUSTOM_ID_KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wa_cli.domain.finding import Finding
    from wa_cli.ports import ContentRules, Transport, WebhookReader
    from wa_cli.provider import Account
    from wa_cli.transports.waha.gateway import WahaGateway

EXAMPLE_URL: Final = "http://127.0.0.1:3000"
DEFAULT_SESSION: Final = "default"
_SESSION: Final = re.compile(r"[A-Za-z0-9_\-]{1,54}", re.ASCII)
_MEGABYTE: Final = 1_000_000


class WahaProvider:
    name = "waha"
    title = "WAHA"
    settings = (
        AccountSetting(name=URL, meaning=f"where WAHA listens: {EXAMPLE_URL}"),
        AccountSetting(name=SESSION, meaning="the name of the session there", default=DEFAULT_SESSION),
        AccountSetting(name=KEY, meaning="the API key that WAHA asks for", is_secret=True, is_optional=True),
        AccountSetting(
            name=WEBHOOK_SECRET, meaning="the HMAC key that signs webhooks", is_secret=True, is_optional=True
        ),
    )
    capabilities = Capabilities(
        kinds=frozenset(
            {
                *("text", "image", "video", "document", "audio", "voice"),
                *("location", "contact", "poll", "reaction", "list"),
            }
        ),
        groups=True,
        is_linked_device=True,
        custom_id_kinds=CUSTOM_ID_KINDS,
        state_events=True,
        signed_webhooks=True,
        pairs_by_code=True,
        restarts=frozenset(RestartKind),
        checks_numbers=True,
        lists_group_members=True,
        # What WhatsApp takes of a linked device; a file travels inside the request, in base64.
        max_bytes={
            "image": 16 * _MEGABYTE,
            "video": 64 * _MEGABYTE,
            "document": 100 * _MEGABYTE,
            "audio": 16 * _MEGABYTE,
            "voice": 16 * _MEGABYTE,
        },
    )

    def check(self, values: Mapping[str, str]) -> None:
        from wa_cli.transports.gateway_calls import check_key, parse_gateway_url

        if values.get(URL):
            parse_gateway_url(values[URL], example=EXAMPLE_URL)
        if values.get(SESSION) and not _SESSION.fullmatch(values[SESSION]):
            raise UsageError(
                "the session's name holds a sign that WAHA does not take", hint="letters, digits, - and _: shop-1"
            )
        if values.get(KEY):
            check_key(values[KEY])

    def rules(self) -> ContentRules:
        from wa_cli.transports.waha.rules import WahaRules

        return WahaRules()

    def open_transport(self, account: Account) -> Transport:
        from wa_cli.transports.gateway_calls import check_key, parse_gateway_url
        from wa_cli.transports.waha.transport import WahaTransport

        return WahaTransport(
            url=parse_gateway_url(account.value(URL), example=EXAMPLE_URL),
            session=account.value(SESSION) or DEFAULT_SESSION,
            key=check_key(account.value(KEY)),
            secrets=account.secrets(self),
            files=account.files,
            concurrency=account.concurrency,
            read_timeout_seconds=account.read_timeout_seconds,
        )

    def open_gateway(self, account: Account) -> WahaGateway:
        from wa_cli.transports.gateway_calls import GatewayCalls, check_key, parse_gateway_url
        from wa_cli.transports.waha.gateway import WahaGateway

        key = check_key(account.value(KEY))
        calls = GatewayCalls(
            base_url=parse_gateway_url(account.value(URL), example=EXAMPLE_URL),
            headers={"X-Api-Key": key} if key else {},
            secrets=account.secrets(self),
        )
        return WahaGateway(
            calls,
            session=account.value(SESSION) or DEFAULT_SESSION,
            webhook_secret=account.value(WEBHOOK_SECRET),
        )

    def webhook_reader(self, account: Account) -> WebhookReader:
        from wa_cli.transports.waha.webhook import WahaWebhooks

        return WahaWebhooks(
            secrets=tuple(part.strip() for part in account.value(WEBHOOK_SECRET).split(",") if part.strip()),
            session=account.value(SESSION) or DEFAULT_SESSION,
            number_id=number_id_of(account.instance_id),
            install=account.install,
        )

    def inspect(self, account: Account, *, online: bool) -> Sequence[Finding]:
        from wa_cli.domain.finding import FIX_CALL, fail, ok
        from wa_cli.transports.waha.findings import ACCOUNT, inspect

        try:
            if not account.value(URL):
                raise UsageError("no url of the gateway is set", hint=f"it looks like {EXAMPLE_URL}")
            self.check(account.values)
        except UsageError as error:
            return [fail(ACCOUNT, "settings", error.message, error.hint, exit_code=FIX_CALL)]
        findings = [ok(ACCOUNT, "settings", "the url and the session have the right shape")]
        if online:
            has_secret = bool(account.value(WEBHOOK_SECRET))
            findings += inspect(self.open_gateway(account), instance=account.instance, has_secret=has_secret)
        return findings


PROVIDER: Final = WahaProvider()
