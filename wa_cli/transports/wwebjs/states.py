"""wwebjs-api's words for a session, and what they mean for us.  Source: `gateways` section 1, the state map."""

from __future__ import annotations

from typing import Any, Final

from wa_cli.domain.connection import Connection, ConnectionState

CONNECTED: Final = "CONNECTED"
NOT_CONNECTED: Final = "session_not_connected"
NOT_FOUND: Final = "session_not_found"
NEEDS_SCAN: Final = "UNPAIRED"

# The states of WhatsApp Web, and below them the words that the gateway has where there is no state.
STATES: Final = {
    CONNECTED: ConnectionState.READY,
    "OPENING": ConnectionState.CONNECTING,
    "PAIRING": ConnectionState.CONNECTING,
    NEEDS_SCAN: ConnectionState.NEEDS_QR,
    "UNPAIRED_IDLE": ConnectionState.NEEDS_QR,
    "CONFLICT": ConnectionState.ERROR,
    "TOS_BLOCK": ConnectionState.ERROR,
    "SMB_TOS_BLOCK": ConnectionState.ERROR,
    "PROXYBLOCK": ConnectionState.ERROR,
    "TIMEOUT": ConnectionState.ERROR,
    "DEPRECATED_VERSION": ConnectionState.ERROR,
    NOT_CONNECTED: ConnectionState.CONNECTING,
    NOT_FOUND: ConnectionState.DISCONNECTED,
    "session closed": ConnectionState.DISCONNECTED,
    "browser tab closed": ConnectionState.DISCONNECTED,
}
# Why WhatsApp Web says that it was disconnected, when that means that the phone has let go of it.
LOGOUTS: Final = frozenset(("LOGOUT", NEEDS_SCAN, "UNPAIRED_IDLE"))
_REASONS: Final = {
    "OPENING": "the session is connecting",
    "PAIRING": "the session is being paired",
    NEEDS_SCAN: "the phone must scan a QR code again",
    "UNPAIRED_IDLE": "the phone must scan a QR code again",
    "CONFLICT": "WhatsApp Web was opened somewhere else",
    "TOS_BLOCK": "WhatsApp has blocked the session for a breach of its terms",
    "SMB_TOS_BLOCK": "WhatsApp has blocked the session for a breach of its terms",
    "PROXYBLOCK": "WhatsApp refuses the address that the gateway connects from",
    "TIMEOUT": "the session has lost the phone or the network",
    "DEPRECATED_VERSION": "the gateway's version of WhatsApp Web is too old",
    NOT_CONNECTED: "the session is connecting",
    NOT_FOUND: "the gateway has no such session",
    "session closed": "the gateway's browser does not answer",
    "browser tab closed": "the gateway's browser tab was closed",
}


def map_state(raw: str) -> ConnectionState:
    return STATES.get(raw, ConnectionState.ERROR)


def read_word(value: Any) -> str:
    """The gateway's own word for a state, safe to show; "unknown" for what is none."""
    return value if isinstance(value, str) and (value in STATES or _is_plain(value)) else "unknown"


def make_connection(raw: str, *, address: str | None = None) -> Connection:
    """raw: from `read_word`."""
    reason = None if raw == CONNECTED else _REASONS.get(raw, f"the gateway calls the session {raw.lower()}")
    return Connection(state=map_state(raw), raw=raw, reason=reason, address=address)


def _is_plain(word: str) -> bool:
    return 0 < len(word) <= 40 and word.isascii() and word.replace("_", "").isalnum() and not word.isdigit()
