"""GOWA's envelope, and the words in which it refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from wa_cli.sandbox.faults import Fault

_BANS = {
    101: "you sent too many messages to people who don't have you in their address books",
    102: "too many people blocked you",
    103: "you created too many groups with people who don't have you in their address books",
    104: "you sent the same message to too many people",
    106: "you sent too many messages to a broadcast list",
}


class GowaRefusal(Exception):
    """An answer that is a no.  message: for people."""

    def __init__(self, *, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    @classmethod
    def invalid(cls, message: str) -> GowaRefusal:
        return cls(status=400, code="VALIDATION_ERROR", message=message)

    @classmethod
    def broken(cls, message: str) -> GowaRefusal:
        return cls(status=500, code="INTERNAL_SERVER_ERROR", message=message)

    @classmethod
    def not_on_whatsapp(cls, phone: str) -> GowaRefusal:
        return cls(status=400, code="INVALID_JID", message=f"Phone {phone} is not on whatsapp")

    @classmethod
    def no_device(cls) -> GowaRefusal:
        return cls(status=404, code="DEVICE_NOT_FOUND", message="device not found; create it first")

    @classmethod
    def not_connected(cls) -> GowaRefusal:
        return cls(status=401, code="AUTHENTICATION_ERROR", message="you are not connected to WhatsApp, please log in")

    @classmethod
    def time_locked(cls) -> GowaRefusal:
        return cls(
            status=429,
            code="WA_REACHOUT_TIMELOCK",
            message="WhatsApp does not let this account open new chats for now (error 463); "
            "ask the person to write first, or answer in a chat that is open",
        )

    def answer(self) -> web.Response:
        return envelope(self.code, self.message, None, status=self.status)


def refuse(fault: Fault, chat: str) -> GowaRefusal:
    """The refusal that a fault is here; its code is the network's, or one of Meta's that means the same."""
    match fault.code:
        case 463:
            return GowaRefusal.time_locked()
        case 131026:
            return GowaRefusal.not_on_whatsapp(chat)
        case 190 | 401:
            return GowaRefusal.not_connected()
        case 404:
            return GowaRefusal.no_device()
        case 503:
            return GowaRefusal(
                status=503, code="DEVICE_MANAGER_UNAVAILABLE", message="device manager is not initialized"
            )
        case code if code in _BANS:
            return GowaRefusal.broken(f"You've been temporarily banned: {code}: {_BANS[code]}, expires in 24h0m0s")
        case None:
            return GowaRefusal.broken("something went wrong (on request)")
        case code:
            return GowaRefusal.invalid(f"refused on request ({code})")


def envelope(code: str, message: str, results: Any, *, status: int = 200) -> web.Response:
    """The answer that every route gives."""
    shape = {"code": code, "message": message, "results": results}
    return web.Response(
        status=status,
        body=json.dumps(shape, ensure_ascii=False, separators=(",", ":")).encode(),
        content_type="application/json",
    )


def success(message: str, results: Any = None) -> web.Response:
    return envelope("SUCCESS", message, results)
