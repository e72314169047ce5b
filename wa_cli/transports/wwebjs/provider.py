"""wwebjs-api as one of the providers: what it can do and what it opens."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from wa_cli.domain.connection import NEEDS_A_PERSON, ConnectionState, RestartKind
from wa_cli.errors import GatewayRefused, Temporary, UsageError
from wa_cli.provider import KEY, SESSION, URL, AccountSetting, Capabilities, number_id_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wa_cli.domain.connection import Connection
    from wa_cli.domain.finding import Finding
    from wa_cli.ports import ContentRules, Transport, WebhookReader
    from wa_cli.provider import Account
    from wa_cli.transports.wwebjs.gateway import WwebjsGateway

EXAMPLE_URL: Final = "http://127.0.0.1:3000"
DEFAULT_SESSION: Final = "default"
_SESSION: Final = re.compile(r"[A-Za-z0-9-]{1,54}", re.ASCII)
_MEGABYTE: Final = 1_000_000


class WwebjsProvider:
    name = "wwebjs_api"
    title = "wwebjs-api"
    settings = (
        AccountSetting(name=URL, meaning=f"where wwebjs-api listens: {EXAMPLE_URL}"),
        AccountSetting(name=SESSION, meaning="the name of the session there", default=DEFAULT_SESSION),
        AccountSetting(
            name=KEY,
            meaning="the API key that it asks for and sends along with its webhooks; new,old while it is changed",
            is_secret=True,
            is_optional=True,
        ),
    )
    capabilities = Capabilities(
        kinds=frozenset(
            {
                *("text", "image", "video", "document", "audio", "voice", "sticker"),
                *("location", "contact", "poll"),
            }
        ),
        groups=True,
        is_linked_device=True,
        server_ack_on_send=True,
        state_events=True,
        pairs_by_code=True,
        restarts=frozenset(RestartKind),
        checks_numbers=True,
        lists_group_members=True,
        # What WhatsApp takes of a linked device; a file travels inside the request, in base64, into a browser.
        max_bytes={
            "image": 16 * _MEGABYTE,
            "video": 64 * _MEGABYTE,
            "document": 64 * _MEGABYTE,
            "audio": 16 * _MEGABYTE,
            "voice": 16 * _MEGABYTE,
            "sticker": 1 * _MEGABYTE,
        },
    )

    def check(self, values: Mapping[str, str]) -> None:
        from wa_cli.transports.gateway_calls import check_key, parse_gateway_url

        if values.get(URL):
            parse_gateway_url(values[URL], example=EXAMPLE_URL)
        if values.get(SESSION) and not _SESSION.fullmatch(values[SESSION]):
            raise UsageError(
                "the session's name holds a sign that wwebjs-api does not take",
                hint="letters, digits and -: shop-1",
                code="session",
            )
        for key in _keys(values):
            check_key(key)

    def rules(self) -> ContentRules:
        from wa_cli.transports.wwebjs.rules import WwebjsRules

        return WwebjsRules()

    def open_transport(self, account: Account) -> Transport:
        from wa_cli.transports.gateway_calls import parse_gateway_url
        from wa_cli.transports.wwebjs.transport import WwebjsTransport

        self.check(account.values)
        keys = _keys(account.values)
        return WwebjsTransport(
            url=parse_gateway_url(account.value(URL), example=EXAMPLE_URL),
            session=account.value(SESSION) or DEFAULT_SESSION,
            key=keys[0] if keys else "",
            secrets=keys,
            files=account.files,
            concurrency=account.concurrency,
            read_timeout_seconds=account.read_timeout_seconds,
        )

    def open_gateway(self, account: Account) -> WwebjsGateway:
        from wa_cli.transports.gateway_calls import GatewayCalls, parse_gateway_url
        from wa_cli.transports.wwebjs.gateway import WwebjsGateway

        self.check(account.values)
        keys = _keys(account.values)
        calls = GatewayCalls(
            base_url=parse_gateway_url(account.value(URL), example=EXAMPLE_URL),
            headers={"x-api-key": keys[0]} if keys else {},
            secrets=keys,
        )
        return WwebjsGateway(calls, session=account.value(SESSION) or DEFAULT_SESSION)

    def webhook_reader(self, account: Account) -> WebhookReader:
        from wa_cli.transports.wwebjs.webhook import WwebjsWebhooks

        return WwebjsWebhooks(
            keys=_keys(account.values),
            session=account.value(SESSION) or DEFAULT_SESSION,
            number_id=number_id_of(account.instance_id),
        )

    def inspect(self, account: Account, *, online: bool) -> Sequence[Finding]:
        from wa_cli.domain.finding import FIX_ACCOUNT, FIX_CALL, FIX_LATER, fail, ok, warn

        try:
            if not account.value(URL):
                raise UsageError("no url of the gateway is set", hint=f"it looks like {EXAMPLE_URL}")
            self.check(account.values)
        except UsageError as error:
            return [fail("account", "settings", error.message, error.hint, exit_code=FIX_CALL)]
        findings = [ok("account", "settings", "the url and the session have the right shape")]
        if not _keys(account.values):
            message = "no key: receipts of this instance are not believed"
            findings.append(warn("account", "key", message, "set API_KEY there, and name the variable that holds it"))
        if not online:
            return findings
        try:
            connection = asyncio.run(_look(self.open_gateway(account)))
        except UsageError as error:
            return [*findings, fail("account", "key", error.message, error.hint, exit_code=FIX_ACCOUNT)]
        except (Temporary, GatewayRefused) as error:
            return [*findings, fail("account", "unreachable", error.message, error.hint, exit_code=FIX_LATER)]
        if connection.state is ConnectionState.READY:
            return [*findings, ok("account", "session", "the linked device is connected")]
        message = f"the linked device is not connected: {connection.reason or connection.raw}"
        needs_person = connection.state in NEEDS_A_PERSON
        verb = "pair" if needs_person else "restart"
        exit_code = FIX_ACCOUNT if needs_person else FIX_LATER
        fix = f"`wa instance {verb} {account.instance}`"
        return [*findings, fail("account", "session", message, fix, exit_code=exit_code)]


async def _look(gateway: WwebjsGateway) -> Connection:
    try:
        return await gateway.look()
    finally:
        await gateway.close()


def _keys(values: Mapping[str, str]) -> tuple[str, ...]:
    """The key, or the new one and the old one while it is changed; the first is sent."""
    return tuple(key.strip() for key in values.get(KEY, "").split(",") if key.strip())


PROVIDER: Final = WwebjsProvider()
