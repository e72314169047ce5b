"""Steers one device of GOWA: its state, its pairing, its groups, and where its webhooks go."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from wa_cli.domain.connection import (
    Connection,
    ConnectionState,
    GroupInfo,
    NumberCheck,
    OnWhatsApp,
    PairingQr,
    RestartKind,
)
from wa_cli.errors import GatewayRefused, UsageError
from wa_cli.provider import URL
from wa_cli.transports.gateway_calls import GatewayCalls
from wa_cli.transports.gowa.account import (
    DEFAULT_WEBHOOK_SECRET,
    check_values,
    device_of,
    headers_of,
    parse_url,
    secrets_of,
    webhook_secrets_of,
)
from wa_cli.transports.gowa.answer import (
    AUTHENTICATION_ERROR,
    DEVICE_NOT_FOUND,
    INVALID_JID,
    MANAGER_UNAVAILABLE,
    SUCCESS,
    read_code,
    read_words,
)
from wa_cli.transports.gowa.connection import ENGINE, DeviceEntry, find_device, judge_device, read_flags
from wa_cli.transports.gowa.groups import read_groups, read_one
from wa_cli.transports.gowa.restrictions import read_restriction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wa_cli.provider import Account
    from wa_cli.transports.gateway_calls import Reply

EVENTS: Final = "message,message.ack,message.reaction,call.offer"
QR_SECONDS: Final = 30.0  # where the gateway does not say
LONGEST_QR_SECONDS: Final = 600.0
PAIRING_SECONDS: Final = 60.0  # the gateway itself waits for WhatsApp to draw a code
RECONNECT_SECONDS: Final = 60.0
RECHECK_SECONDS: Final = 1.0
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_NOT_IN_GROUP: Final = re.compile(
    r"item-not-found|not-authorized|forbidden|not (?:a )?(?:participa|member)|status 40[34]", re.I
)


class GowaGateway:
    """Implements Gateway for one device.  Raises: UsageError on an account that cannot be meant."""

    def __init__(self, account: Account, *, recheck_seconds: float = RECHECK_SECONDS) -> None:
        """recheck_seconds: how long a number is let alone before it is asked about again."""
        check_values(account.values)
        self._account = account
        self._device = device_of(account)
        self._recheck_seconds = recheck_seconds
        self._base_url = parse_url(account.value(URL))
        self._calls = GatewayCalls(base_url=self._base_url, headers=headers_of(account), secrets=secrets_of(account))
        # The phone it was last paired with: once that is gone, the phone has logged it out.
        self._own: str | None = None

    async def look(self) -> Connection:
        reply = await self._calls.exchange("GET", "/devices")
        if not reply.is_success or read_code(reply.shape) != SUCCESS:
            self._refuse_wrong_key(reply)
            return self._judge_failure(reply)
        entry = find_device(reply.shape, self._device)
        if entry is None:
            return Connection(
                state=ConnectionState.DISCONNECTED,
                raw="unknown",
                reason=f"the gateway has no device '{self._device}'",
                engine=ENGINE,
            )
        status = await self._calls.exchange("GET", f"/devices/{self._path}/status")
        connection = judge_device(
            entry, read_flags(status.shape) if status.is_success else None, was_paired=self._own is not None
        )
        self._own = connection.address or self._own
        return connection

    async def start(self) -> None:
        entry = await self._find()
        if entry is None:
            await self._add()
        elif not entry.jid:
            self._own = None  # whoever starts it knows that it has lost its phone: what it needs now is another
        elif not (entry.state == "logged_in" and await self._is_logged_in()):
            await self._reconnect()

    async def restart(self, kind: RestartKind) -> None:
        """GOWA has one kind of restart: it connects anew."""
        if kind is RestartKind.HARD:
            raise UsageError(
                "GOWA has one kind of restart, which connects anew",
                hint=f"leave the kind out, or restart the gateway itself; '{self._account.instance}' stays paired",
                code="restart_kind",
            )
        await self._reconnect()

    async def fetch_qr(self) -> PairingQr:
        """The picture behind the gateway's link.  The link's own host is not asked: our password goes to no other."""
        results = await self._pair("GET", f"/devices/{self._path}/login", None)
        link, lasts = results.get("qr_link"), results.get("qr_duration")
        if not isinstance(link, str) or not link:
            raise GatewayRefused("GOWA gives no QR code now", hint="ask again in a few seconds")
        picture = await self._calls.exchange("GET", self._find_own_path(link))
        if not picture.is_success or not picture.body.startswith(_PNG):
            raise GatewayRefused("GOWA's QR code is not there any more", hint="ask again: each lasts half a minute")
        if isinstance(lasts, bool) or not isinstance(lasts, int | float) or not 0 < lasts <= LONGEST_QR_SECONDS:
            lasts = QR_SECONDS
        return PairingQr(text=None, png=picture.body, lasts_seconds=float(lasts))

    async def request_code(self, phone: str) -> str:
        digits = phone.removeprefix("+")
        results = await self._pair("POST", f"/devices/{self._path}/login/code", {"phone": digits})
        code = results.get("pair_code")
        if not isinstance(code, str) or not re.fullmatch(r"[A-Za-z0-9\-]{4,20}", code):
            raise GatewayRefused("GOWA gives no code now", hint="pair with the QR code instead")
        return code

    async def list_groups(self) -> list[GroupInfo]:
        """Every group, up to the 500 that WhatsApp hands out."""
        if self._own is None:
            await self.look()
        reply = await self._ask_device("GET", "/user/my/groups", seconds=PAIRING_SECONDS)
        return read_groups(reply.shape, self._own)

    async def read_group(self, address: str) -> GroupInfo | None:
        if self._own is None:
            await self.look()
        reply = await self._calls.exchange("GET", "/group/info", query={"group_id": address})
        if not reply.is_success:
            words = read_words(reply.shape)
            if read_code(reply.shape) == INVALID_JID or _NOT_IN_GROUP.search(words):
                return None
            raise self._refusal(reply)
        group = read_one(self._results(reply), self._own)
        if group is None or group.address != address:
            return None
        if group.participants is not None:
            return group
        members = await self._ask_device("GET", "/group/participants", query={"group_id": address})
        listed = read_one({"group_id": address, **self._results(members)}, self._own)
        participants = listed.participants if listed is not None else None
        return GroupInfo(
            address=group.address,
            name=group.name,
            size=group.size if group.size is not None else len(participants or ()) or None,
            may_post=group.may_post,
            participants=participants,
        )

    async def check_number(self, phone: str) -> NumberCheck:
        """YES at once; NO only after the second no, since GOWA says no as well when its look-up has failed."""
        details: str | None = None
        for attempt in range(2):
            if attempt:
                await asyncio.sleep(self._recheck_seconds)
            reply = await self._calls.exchange("GET", "/user/check", query={"phone": phone.removeprefix("+")})
            code = read_code(reply.shape)
            if reply.is_success:
                answer = self._results(reply).get("is_on_whatsapp")
                if answer is True:
                    return NumberCheck(verdict=OnWhatsApp.YES)
                if answer is not False:
                    return NumberCheck(verdict=OnWhatsApp.UNKNOWN, details="an answer that wa cannot read")
            elif code == INVALID_JID:
                details = read_words(reply.shape, secrets_of(self._account)) or None
            else:
                self._refuse_not_ready(reply)
                return NumberCheck(
                    verdict=OnWhatsApp.UNKNOWN,
                    details=f"{code or reply.status} {read_words(reply.shape, secrets_of(self._account))}".strip(),
                )
        return NumberCheck(verdict=OnWhatsApp.NO, details=details)

    async def subscribe(self, url: str) -> None:
        secrets = webhook_secrets_of(self._account)
        if not secrets or DEFAULT_WEBHOOK_SECRET in secrets:
            raise UsageError(
                f"'{self._account.instance}' needs a webhook secret of its own before GOWA may post to it",
                hint="draw one with `openssl rand -hex 24`, and put it into the variable of its webhook_secret",
                code="webhook_secret",
            )
        settings = {"webhook_url": url, "webhook_secret": secrets[0], "webhook_events": EVENTS}
        if await self._find() is None:
            await self._add(settings)
            return
        reply = await self._calls.exchange("PATCH", f"/devices/{self._path}/webhook", body=settings)
        if read_code(reply.shape) is None and reply.status in (404, 405):
            raise UsageError(
                "this GOWA cannot be told where to post: it is older than version 8",
                hint=f"start it with WHATSAPP_WEBHOOK={url}, WHATSAPP_WEBHOOK_SECRET and "
                f"WHATSAPP_WEBHOOK_EVENTS={EVENTS}",
                code="gateway_webhook",
            )
        if not reply.is_success:
            raise self._refusal(reply)

    async def close(self) -> None:
        await self._calls.close()

    # --- behind it ---

    @property
    def _path(self) -> str:
        return quote(self._device, safe="")

    async def _find(self) -> DeviceEntry | None:
        reply = await self._calls.exchange("GET", "/devices")
        if not reply.is_success:
            raise self._refusal(reply)
        return find_device(reply.shape, self._device)

    async def _is_logged_in(self) -> bool:
        status = await self._calls.exchange("GET", f"/devices/{self._path}/status")
        return read_flags(status.shape) == (True, True)

    async def _add(self, settings: Mapping[str, str] | None = None) -> None:
        reply = await self._calls.exchange("POST", "/devices", body={"device_id": self._device, **(settings or {})})
        if not reply.is_success:
            raise self._refusal(reply)

    async def _reconnect(self) -> None:
        await self._ask_device("POST", f"/devices/{self._path}/reconnect", seconds=RECONNECT_SECONDS)

    async def _pair(self, method: str, path: str, query: Mapping[str, str] | None) -> dict[str, Any]:
        """The results of a call that pairs, for which the device is made if the gateway does not know it."""
        if await self._find() is None:
            await self._add()
        reply = await self._calls.exchange(method, path, query=query, seconds=PAIRING_SECONDS)
        if read_code(reply.shape) == "ALREADY_LOGGED_IN":
            raise GatewayRefused(
                f"'{self._account.instance}' is paired with a phone already",
                hint="`wa instance show` tells its number",
                code="already_paired",
            )
        if not reply.is_success:
            raise self._refusal(reply)
        return self._results(reply)

    async def _ask_device(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, seconds: float = 30.0
    ) -> Reply:
        reply = await self._calls.exchange(method, path, query=query, seconds=seconds)
        if not reply.is_success:
            raise self._refusal(reply)
        return reply

    def _find_own_path(self, link: str) -> str:
        """Where the link leads, on the gateway as we know it."""
        path = urlsplit(link).path
        base = urlsplit(self._base_url)
        if base.path and path.startswith(f"{base.path}/"):
            path = path[len(base.path) :]
        return path if path.startswith("/") else f"/{path}"

    def _results(self, reply: Reply) -> dict[str, Any]:
        results = reply.shape.get("results") if isinstance(reply.shape, dict) else None
        return results if isinstance(results, dict) else {}

    def _judge_failure(self, reply: Reply) -> Connection:
        code = read_code(reply.shape)
        is_starting = reply.status == 503 and code == MANAGER_UNAVAILABLE
        words = read_words(reply.shape, secrets_of(self._account))
        return Connection(
            state=ConnectionState.CONNECTING if is_starting else ConnectionState.ERROR,
            raw=code or f"HTTP {reply.status}",
            reason=words or ("the gateway is starting" if is_starting else f"the gateway answers HTTP {reply.status}"),
            engine=ENGINE,
            restriction=read_restriction(code or "", words, now=datetime.now(UTC)),
        )

    def _refuse_wrong_key(self, reply: Reply) -> None:
        if reply.status in (401, 403) and read_code(reply.shape) != AUTHENTICATION_ERROR:
            raise UsageError(
                f"GOWA at {self._base_url} refuses our user and password",
                hint="the key is user:password, as APP_BASIC_AUTH of the gateway has it",
                code="gateway_key",
            )

    def _refuse_not_ready(self, reply: Reply) -> None:
        self._refuse_wrong_key(reply)
        code = read_code(reply.shape)
        if code == AUTHENTICATION_ERROR:
            raise GatewayRefused(
                f"'{self._account.instance}' is not connected to WhatsApp",
                hint=f"`wa instance show {self._account.instance}` tells why",
                code="not_ready",
            )
        if code == DEVICE_NOT_FOUND:
            raise GatewayRefused(
                f"GOWA has no device '{self._device}'",
                hint=f"`wa instance pair {self._account.instance}` makes it, and pairs it with a phone",
                code="unknown_session",
            )

    def _refusal(self, reply: Reply) -> Exception:
        """The error that a refused call is; raises the better known ones itself."""
        self._refuse_not_ready(reply)
        words = read_words(reply.shape, secrets_of(self._account)) or f"HTTP {reply.status}"
        return GatewayRefused(f"GOWA will not: {words}", hint="`wa doctor` looks at the gateway")
