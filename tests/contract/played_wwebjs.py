"""A small wwebjs-api for tests: one browser's worth of sessions, sends that are checked, no WhatsApp behind it.

Written from section 6 of the gateways' sheet and the gateway's own routes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scripted_server import Exchange

KEY = "canary-key-0123456789"
PAGE = b"<!DOCTYPE html><html><body><pre>SyntaxError</pre></body></html>"


class PlayedWwebjs:
    """`ScriptedServer(PlayedWwebjs())`.  sessions: state by name, None where WhatsApp Web tells none.

    sent: the bodies of accepted sends.  called: method and path of every request, in order.
    """

    def __init__(self, **sessions: str | None) -> None:
        self.sessions: dict[str, str | None] = sessions
        self.qr: dict[str, str] = {}
        self.webhooks: dict[str, str] = {}
        self.chats: list[dict[str, Any]] = []
        self.registered: dict[str, bool] = {}
        self.is_old = False
        self.sent: list[dict[str, Any]] = []
        self.called: list[str] = []

    async def __call__(self, exchange: Exchange) -> None:
        method, target, _version = exchange.request_line.split()
        self.called.append(f"{method} {target}")
        if exchange.header("x-api-key") != KEY:
            await self._answer(exchange, 403, success=False, error="Invalid API key")
            return
        try:
            body = json.loads(exchange.body) if exchange.body else {}
        except ValueError:
            await exchange.answer(PAGE, 400, "text/html; charset=utf-8")
            return
        _empty, area, call, session = target.split("/")[:4]
        if area == "session":
            await self._steer(exchange, call, session, body)
        elif self.sessions.get(session, "none") != "CONNECTED":
            word = "session_not_connected" if session in self.sessions else "session_not_found"
            await self._answer(exchange, 404, success=False, error=word)
        else:
            await self._use(exchange, call, body)

    async def _steer(self, exchange: Exchange, call: str, session: str, body: dict[str, Any]) -> None:
        is_there = session in self.sessions
        match call:
            case "status" if not is_there:
                await self._answer(exchange, 200, success=False, state=None, message="session_not_found")
            case "status":
                state = self.sessions[session]
                word = "session_connected" if state == "CONNECTED" else "session_not_connected"
                await self._answer(exchange, 200, success=state == "CONNECTED", state=state, message=word)
            case "start" if is_there:
                await self._answer(exchange, 422, success=False, error=f"Session already exists for: {session}")
            case "start":
                self.sessions[session] = "OPENING"
                await self._answer(exchange, 200, success=True, message="Session initiated successfully")
            case "stop":
                self.sessions.pop(session, None)
                await self._answer(exchange, 200, success=True, message="Session stopped successfully")
            case "restart" if not is_there:
                await self._answer(exchange, 200, success=False, state=None, message="session_not_found")
            case "restart":
                self.sessions[session] = "OPENING"
                await self._answer(exchange, 200, success=True, message="Restarted successfully")
            case "qr" if session in self.qr:
                await self._answer(exchange, 200, success=True, qr=self.qr[session])
            case "qr":
                await self._answer(exchange, 200, success=False, message="qr code not ready or already scanned")
            case "requestPairingCode" if session in self.qr:
                assert body["phoneNumber"].isdigit()
                await self._answer(exchange, 200, success=True, result="ABCD1234")
            case "requestPairingCode":
                await self._answer(exchange, 500, success=False, error="Evaluation failed")
            case "setWebhook" if not self.is_old:
                self.webhooks[session] = body["webhookUrl"]
                await self._answer(exchange, 200, success=True, webhookUrl=body["webhookUrl"])
            case _:
                await exchange.answer(b"<html>Cannot PUT</html>", 404, "text/html")

    async def _use(self, exchange: Exchange, call: str, body: dict[str, Any]) -> None:
        match call:
            case "sendMessage":
                problem = _find_problem(body)
                if problem is not None:
                    await self._answer(exchange, 400, success=False, error=problem)
                    return
                self.sent.append(body)
                bare = f"3EB0{len(self.sent):018X}"
                key = {"fromMe": True, "id": bare, "_serialized": f"true_{body['chatId']}_{bare}"}
                await self._answer(exchange, 200, success=True, message={"id": key, "ack": 1})
            case "getClassInfo":
                await self._answer(exchange, 200, success=True, sessionInfo={"wid": "6581239999@c.us"})
            case "isRegisteredUser":
                await self._answer(exchange, 200, success=True, result=self.registered[body["number"]])
            case "getChats":
                await self._answer(exchange, 200, success=True, chats=self.chats)
            case "getChatById":
                chat = next((one for one in self.chats if one["id"]["_serialized"] == body["chatId"]), None)
                if chat is None:
                    await self._answer(exchange, 500, success=False, error="Evaluation failed: chat not found")
                else:
                    await self._answer(exchange, 200, success=True, chat=chat)
            case _:
                await exchange.answer(b"<html>Cannot POST</html>", 404, "text/html")

    async def _answer(self, exchange: Exchange, status: int, **shape: Any) -> None:
        await exchange.answer(json.dumps(shape).encode(), status)


def _find_problem(body: dict[str, Any]) -> str | None:
    """What the gateway would not take of a send."""
    content = body.get("content")
    if not str(body.get("chatId")).endswith(("@c.us", "@g.us")):
        return "invalid chatId"
    match body.get("contentType"):
        case "string" | "MessageMediaFromURL":
            fits = isinstance(content, str)
        case "MessageMedia":
            fits = isinstance(content, dict) and all(content.get(name) for name in ("mimetype", "data", "filename"))
        case "Location":
            fits = isinstance(content, dict) and all(
                isinstance(content[name], float) for name in ("latitude", "longitude")
            )
        case "Poll":
            fits = isinstance(content, dict) and {"pollName", "pollOptions", "options"} == content.keys()
        case _:
            return "invalid contentType"
    return None if fits else "invalid content"
