"""Steers one session of a WAHA: state, start, restart, pairing, groups, numbers, webhooks.  Never logs out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from wa_cli.domain.connection import (
    Connection,
    NumberCheck,
    OnWhatsApp,
    PairingQr,
    RestartKind,
)
from wa_cli.errors import GatewayRefused, UsageError
from wa_cli.transports.gateway_calls import find_words
from wa_cli.transports.waha.states import FAILED, STOPPED, UNKNOWN_SESSION, read_connection
from wa_cli.transports.web_groups import count_groups, read_group, read_groups
from wa_cli.transports.web_ids import read_address

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from wa_cli.domain.connection import GroupInfo
    from wa_cli.transports.gateway_calls import GatewayCalls, Reply

QR_LASTS_SECONDS: Final = 20.0  # WhatsApp shows the next one after that
GROUPS_A_PAGE: Final = 100
MOST_GROUPS: Final = 20_000
STOPS_WITHIN_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.5

EVENTS: Final = (
    "session.status",
    "message",
    "message.reaction",
    "message.ack",
    "message.ack.group",
    "call.received",
)
_RETRIES: Final = {"policy": "exponential", "delaySeconds": 2, "attempts": 15}


class WahaGateway:
    """Implements Gateway for one session.

    calls: to the WAHA.  session: its name there.  webhook_secret: signs its webhooks; of several, separated by commas,
    the first.
    """

    def __init__(
        self,
        calls: GatewayCalls,
        *,
        session: str,
        webhook_secret: str,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._calls = calls
        self._name = session
        self._session = quote(session, safe="")
        self._webhook_secret = webhook_secret.partition(",")[0].strip()
        self._sleep = sleep
        self._own: str | None = None

    async def look(self) -> Connection:
        found = await self._find_session()
        if found is None:
            return read_connection(UNKNOWN_SESSION)
        connection = read_connection(found.get("status"), me=found.get("me"), engine=found.get("engine"))
        self._own = connection.address
        return connection

    async def start(self) -> None:
        found = await self._find_session()
        if found is None:
            reply = await self._calls.call("POST", "/api/sessions", body={"name": self._name, "start": True})
            self._expect(reply, "make the session")
        elif found.get("status") == FAILED:
            await self._ask("restart")  # a failed session counts as started there
        else:
            await self._ask("start")

    async def restart(self, kind: RestartKind) -> None:
        if await self._find_session() is None:
            await self.start()
        elif kind is RestartKind.SOFT:
            await self._ask("restart")
        else:
            await self._ask("stop")
            waited = 0.0
            while waited < STOPS_WITHIN_SECONDS and (await self.look()).raw != STOPPED:
                await self._sleep(_POLL_SECONDS)
                waited += _POLL_SECONDS
            await self._ask("start")

    async def fetch_qr(self) -> PairingQr:
        path = f"/api/{self._session}/auth/qr"
        reply = await self._calls.call("GET", path, query={"format": "raw"})
        value = reply.shape.get("value") if isinstance(reply.shape, dict) else None
        if reply.is_success and isinstance(value, str) and value:
            return PairingQr(text=value, png=None, lasts_seconds=QR_LASTS_SECONDS)
        if reply.is_success:
            reply = await self._calls.call("GET", path, query={"format": "image"}, headers={"Accept": "image/png"})
            if reply.is_success and reply.body.startswith(b"\x89PNG"):
                return PairingQr(text=None, png=reply.body, lasts_seconds=QR_LASTS_SECONDS)
        raise self._no_pairing("show a QR code", reply)

    async def request_code(self, phone: str) -> str:
        path = f"/api/{self._session}/auth/request-code"
        reply = await self._calls.call("POST", path, body={"phoneNumber": phone.removeprefix("+")})
        code = reply.shape.get("code") if isinstance(reply.shape, dict) else None
        if reply.is_success and isinstance(code, str) and 0 < len(code) <= 20 and code.isprintable():
            return code
        raise self._no_pairing("give a pair code", reply)

    async def list_groups(self) -> list[GroupInfo]:
        groups: dict[str, GroupInfo] = {}
        offset = 0
        while offset < MOST_GROUPS:
            query = {"limit": str(GROUPS_A_PAGE), "offset": str(offset), "exclude": "participants"}
            reply = await self._calls.call("GET", f"/api/{self._session}/groups", query=query)
            self._expect(reply, "list the groups")
            page = read_groups(reply.shape)
            news = [group for group in page if group.address not in groups]
            groups.update((group.address, group) for group in news)
            count = count_groups(reply.shape)
            # An engine that knows no pages gives everything each time.
            if count < GROUPS_A_PAGE or count > GROUPS_A_PAGE or not news:
                break
            offset += count
        return sorted(groups.values(), key=lambda group: (group.name.casefold(), group.address))

    async def read_group(self, address: str) -> GroupInfo | None:
        if self._own is None:
            await self.look()
        path = f"/api/{self._session}/groups/{quote(address, safe='@')}"
        reply = await self._calls.call("GET", path)
        if reply.status == 404 and await self._find_session() is not None:
            return None
        self._expect(reply, "show the group")
        members = await self._calls.call("GET", f"{path}/participants/v2")
        return read_group(reply.shape, members.shape if members.is_success else None, own=self._own)

    async def check_number(self, phone: str) -> NumberCheck:
        """Anything but a plain yes or no is UNKNOWN: a failed look-up must cost nobody a message."""
        query = {"phone": phone.removeprefix("+"), "session": self._name}
        reply = await self._calls.call("GET", "/api/contacts/check-exists", query=query)
        shape = reply.shape if reply.is_success and isinstance(reply.shape, dict) else {}
        match shape.get("numberExists"):
            case True:
                chat = read_address(shape.get("chatId"))
                return NumberCheck(verdict=OnWhatsApp.YES, chat=chat if chat != phone else None)
            case False:
                return NumberCheck(verdict=OnWhatsApp.NO)
            case _:
                problem = self._calls.refused("check the number", reply)
                return NumberCheck(verdict=OnWhatsApp.UNKNOWN, details=problem.message)

    async def subscribe(self, url: str) -> None:
        """Have the session post there.  All else in its configuration stays, other receivers too.

        WAHA restarts a session whose configuration is written, so nothing is written when all stands as wanted.
        Raises: UsageError (code `webhook_secret`) without a secret: what is not signed is not believed.
        """
        if not self._webhook_secret:
            raise UsageError(
                "the instance needs a webhook secret before WAHA may post to it",
                hint="draw one with `openssl rand -hex 24`, and name its variable as the instance's webhook_secret",
                code="webhook_secret",
            )
        ours: dict[str, Any] = {
            "url": url,
            "events": list(EVENTS),
            "retries": _RETRIES,
            "hmac": {"key": self._webhook_secret},
        }
        found = await self._find_session()
        if found is None:
            body = {"name": self._name, "start": True, "config": {"webhooks": [ours]}}
            self._expect(await self._calls.call("POST", "/api/sessions", body=body), "make the session")
            return
        config = found.get("config")
        config = config if isinstance(config, dict) else {}
        hooks = config.get("webhooks")
        hooks = [hook for hook in hooks if isinstance(hook, dict)] if isinstance(hooks, list) else []
        if any(_says(hook, ours) for hook in hooks):
            return
        others = [hook for hook in hooks if hook.get("url") != url]
        body = {"name": self._name, "config": {**config, "webhooks": [*others, ours]}}
        self._expect(await self._calls.call("PUT", f"/api/sessions/{self._session}", body=body), "change its webhooks")

    async def read_version(self) -> Mapping[str, str]:
        """WAHA's `version`, `engine` and `tier`, as far as it tells."""
        reply = await self._calls.call("GET", "/api/server/version")
        shape = reply.shape if reply.is_success and isinstance(reply.shape, dict) else {}
        return {
            name: value
            for name in ("version", "engine", "tier")
            if isinstance(value := shape.get(name), str) and value.isprintable() and len(value) <= 40
        }

    async def ping(self) -> bool:
        """Whether a WAHA answers at the url."""
        reply = await self._calls.call("GET", "/ping")
        return reply.is_success and isinstance(reply.shape, dict) and reply.shape.get("message") == "pong"

    async def close(self) -> None:
        await self._calls.close()

    async def _find_session(self) -> dict[str, Any] | None:
        """The session as WAHA shows it; None when it has none of that name.

        Raises: GatewayRefused for an answer that is no session, as of somebody else who listens at the url.
        """
        reply = await self._calls.call("GET", f"/api/sessions/{self._session}")
        if reply.status == 404 and isinstance(reply.shape, dict) and "Cannot GET" not in find_words(reply.shape):
            return None
        self._expect(reply, "show the session")
        if not isinstance(reply.shape, dict) or "status" not in reply.shape:
            raise GatewayRefused(
                f"what answers at {self._calls.host} is no WAHA", hint="see the instance's url", code="gateway_answer"
            )
        return reply.shape

    async def _ask(self, what: str) -> None:
        self._expect(await self._calls.call("POST", f"/api/sessions/{self._session}/{what}"), f"{what} the session")

    def _expect(self, reply: Reply, what: str) -> None:
        if not reply.is_success:
            raise self._calls.refused(what, reply)

    def _no_pairing(self, what: str, reply: Reply) -> UsageError | GatewayRefused:
        return self._calls.refused(what, reply, hint="it does so only while the session waits to be paired")


def _says(hook: dict[str, Any], ours: dict[str, Any]) -> bool:
    """Whether a webhook of the session's does already what ours would."""
    events = hook.get("events")
    told = set(events) if isinstance(events, list) and all(isinstance(event, str) for event in events) else set()
    return hook.get("url") == ours["url"] and told >= set(ours["events"]) and hook.get("hmac") == ours.get("hmac")
