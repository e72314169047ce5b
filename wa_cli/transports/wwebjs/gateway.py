"""Steers one session of a wwebjs-api: state, start, restart, pairing, groups, numbers, webhooks.  Never logs out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from wa_cli.domain.connection import Connection, ConnectionState, NumberCheck, OnWhatsApp, PairingQr, RestartKind
from wa_cli.errors import GatewayRefused
from wa_cli.transports.gateway_calls import find_words
from wa_cli.transports.web_groups import read_group
from wa_cli.transports.web_ids import read_address
from wa_cli.transports.wwebjs.states import CONNECTED, NEEDS_SCAN, NOT_CONNECTED, NOT_FOUND, make_connection, read_word

if TYPE_CHECKING:
    from wa_cli.domain.connection import GroupInfo
    from wa_cli.transports.gateway_calls import GatewayCalls, Reply

QR_LASTS_SECONDS: Final = 20.0  # WhatsApp shows the next one after that


class WwebjsGateway:
    """Implements Gateway for one session.  calls: to the gateway.  session: its name there."""

    def __init__(self, calls: GatewayCalls, *, session: str) -> None:
        self._calls = calls
        self._session = quote(session, safe="")
        self._own: str | None = None

    async def look(self) -> Connection:
        reply = await self._ask("status")
        if not isinstance(reply.shape, dict) or "success" not in reply.shape:
            if reply.is_success:
                raise self._stranger()
            return make_connection(f"HTTP_{reply.status}")
        state, told = reply.shape.get("state"), find_words(reply.shape)
        raw = read_word(state if state is not None else told)
        if raw == NOT_CONNECTED and await self._find_qr() is not None:
            raw = NEEDS_SCAN  # it says no more than that it is not connected while it shows a code
        if raw == CONNECTED and reply.shape["success"] is True:
            self._own = self._own or await self._find_own()
            return make_connection(raw, address=self._own)
        self._own = None
        return make_connection("TIMEOUT" if raw == CONNECTED else raw)

    async def start(self) -> None:
        reply = await self._ask("start")
        if not reply.is_success and "already exists" not in find_words(reply.shape):
            raise self._calls.refused("start the session", reply)

    async def restart(self, kind: RestartKind) -> None:
        if kind is RestartKind.SOFT:
            reply = await self._ask("restart")
            self._expect(reply, "restart the session")
            if _says(reply, NOT_FOUND):
                await self.start()
            return
        self._expect(await self._ask("stop"), "stop the session")
        await self.start()

    async def fetch_qr(self) -> PairingQr:
        text = await self._find_qr()
        if text is None:
            raise GatewayRefused(
                "the gateway shows no QR code", hint="it does so only while the session waits to be paired"
            )
        return PairingQr(text=text, png=None, lasts_seconds=QR_LASTS_SECONDS)

    async def request_code(self, phone: str) -> str:
        body = {"phoneNumber": phone.removeprefix("+"), "showNotification": True}
        reply = await self._calls.call("POST", f"/session/requestPairingCode/{self._session}", body=body)
        code = reply.shape.get("result") if isinstance(reply.shape, dict) else None
        if reply.is_success and isinstance(code, str) and 0 < len(code) <= 20 and code.isprintable():
            return code
        hint = "it does so only while the session waits to be paired"
        raise self._calls.refused("give a pair code", reply, hint=hint)

    async def list_groups(self) -> list[GroupInfo]:
        reply = await self._calls.call("GET", f"/client/getChats/{self._session}")
        chats = reply.shape.get("chats") if isinstance(reply.shape, dict) else None
        if not reply.is_success or not isinstance(chats, list):
            raise self._calls.refused("list the groups", reply)
        groups = {
            group.address: group
            for chat in chats
            if isinstance(chat, dict) and chat.get("isGroup") is True and (group := read_group(chat)) is not None
        }
        return sorted(groups.values(), key=lambda group: (group.name.casefold(), group.address))

    async def read_group(self, address: str) -> GroupInfo | None:
        if self._own is None:
            await self.look()
        path = f"/client/getChatById/{self._session}"
        reply = await self._calls.call("POST", path, body={"chatId": address})
        chat = reply.shape.get("chat") if isinstance(reply.shape, dict) else None
        if reply.is_success and isinstance(chat, dict):
            return read_group(chat, own=self._own)
        if (await self.look()).state is ConnectionState.READY:  # so it is the group that it does not have
            return None
        raise self._calls.refused("show the group", reply)

    async def check_number(self, phone: str) -> NumberCheck:
        """Anything but a plain yes or no is UNKNOWN: a failed look-up must cost nobody a message."""
        body = {"number": phone.removeprefix("+")}
        reply = await self._calls.call("POST", f"/client/isRegisteredUser/{self._session}", body=body)
        shape = reply.shape if reply.is_success and isinstance(reply.shape, dict) else {}
        match shape.get("result") if shape.get("success") is True else None:
            case True:
                return NumberCheck(verdict=OnWhatsApp.YES)
            case False:
                return NumberCheck(verdict=OnWhatsApp.NO)
            case _:
                problem = self._calls.refused("check the number", reply)
                return NumberCheck(verdict=OnWhatsApp.UNKNOWN, details=problem.message)

    async def subscribe(self, url: str) -> None:
        """Have the session post there.  An older gateway is told only by its own settings."""
        reply = await self._calls.call("PUT", f"/session/setWebhook/{self._session}", body={"webhookUrl": url})
        if not reply.is_success or not _is_good(reply):
            hint = f"an older gateway takes it from its own settings: BASE_WEBHOOK_URL={url}"
            raise self._calls.refused("post its webhooks there", reply, hint=hint)

    async def close(self) -> None:
        await self._calls.close()

    async def _ask(self, what: str) -> Reply:
        return await self._calls.call("GET", f"/session/{what}/{self._session}")

    async def _find_qr(self) -> str | None:
        reply = await self._ask("qr")
        text = reply.shape.get("qr") if isinstance(reply.shape, dict) and _is_good(reply) else None
        return text if isinstance(text, str) and text and text.isprintable() else None

    async def _find_own(self) -> str | None:
        reply = await self._calls.call("GET", f"/client/getClassInfo/{self._session}")
        info = reply.shape.get("sessionInfo") if isinstance(reply.shape, dict) else None
        own = info.get("wid") if isinstance(info, dict) else None
        return read_address(own.get("_serialized") if isinstance(own, dict) else own)

    def _expect(self, reply: Reply, what: str) -> None:
        if not reply.is_success:
            raise self._calls.refused(what, reply)

    def _stranger(self) -> GatewayRefused:
        return GatewayRefused(
            f"what answers at {self._calls.host} is no wwebjs-api", hint="see the instance's url", code="gateway_answer"
        )


def _is_good(reply: Reply) -> bool:
    shape: Any = reply.shape
    return reply.is_success and isinstance(shape, dict) and shape.get("success") is True


def _says(reply: Reply, word: str) -> bool:
    return find_words(reply.shape) == word
