"""WAHA's words for a session, and what they mean for us.  Source: `gateways` section 1, the state map and its notes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from wa_cli.domain.connection import Connection, ConnectionState
from wa_cli.transports.waha.restrictions import read_time_lock
from wa_cli.transports.web_ids import read_address

if TYPE_CHECKING:
    from collections.abc import Mapping

WORKING: Final = "WORKING"
FAILED: Final = "FAILED"
STOPPED: Final = "STOPPED"
UNKNOWN_SESSION: Final = "NOT_FOUND"  # our own word for a session that the gateway does not have

# A dropped socket shows as STARTING and heals by itself, so that is no failure.  FAILED is one word for a lost pairing,
# a logout on the phone and an engine that cannot start: a hard stop, whichever it is.
STATES: Final[Mapping[str, ConnectionState]] = {
    WORKING: ConnectionState.READY,
    "SCAN_QR_CODE": ConnectionState.NEEDS_QR,
    "PASSKEY_REQUIRED": ConnectionState.NEEDS_QR,
    "PASSKEY_CONFIRMATION_REQUIRED": ConnectionState.NEEDS_QR,
    "STARTING": ConnectionState.CONNECTING,
    STOPPED: ConnectionState.DISCONNECTED,
    FAILED: ConnectionState.AUTH_FAILURE,
    UNKNOWN_SESSION: ConnectionState.DISCONNECTED,
}
_REASONS: Final[Mapping[str, str]] = {
    "SCAN_QR_CODE": "the phone must scan a QR code again",
    "PASSKEY_REQUIRED": "WhatsApp asks for a passkey, which only a person can give in WAHA's dashboard",
    "PASSKEY_CONFIRMATION_REQUIRED": "WhatsApp asks to confirm a passkey, which a person does in WAHA's dashboard",
    "STARTING": "the session is connecting",
    STOPPED: "the session is stopped",
    FAILED: "the session has failed: it was logged out, or cannot start",
    UNKNOWN_SESSION: "WAHA has no such session",
}


def map_state(raw: str) -> ConnectionState:
    return STATES.get(raw, ConnectionState.ERROR)


def describe_state(raw: str) -> str | None:
    """Why the session does not send, for people; None when it works."""
    return None if raw == WORKING else _REASONS.get(raw, f"WAHA calls the session {raw.lower()}")


def read_word(value: Any) -> str:
    """WAHA's own word for a state, safe to show; "unknown" for what is none."""
    fits = isinstance(value, str) and 0 < len(value) <= 40 and value.isascii() and value.replace("_", "").isalnum()
    return value if fits else "unknown"


def read_connection(status: Any, *, me: Any = None, engine: Any = None) -> Connection:
    """How a session is connected.  status, me, engine: as WAHA has them, `me` being our own number."""
    raw = read_word(status)
    own = me if isinstance(me, dict) else {}
    name = engine.get("engine") if isinstance(engine, dict) else engine
    return Connection(
        state=map_state(raw),
        raw=raw,
        reason=describe_state(raw),
        address=read_address(own.get("id")),
        engine=name if isinstance(name, str) and name.isascii() and name.isalnum() and len(name) <= 20 else None,
        restriction=read_time_lock(own.get("reachoutTimelock"), now_ms=time.time_ns() // 1_000_000),
        is_doubtful=raw == FAILED,
    )
