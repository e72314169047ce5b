"""How GOWA's words for a device's state are read.  Pure.

Source: the map of states in section 1 of the gateways' sheet, and its notes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from wa_cli.domain.connection import Connection, ConnectionState
from wa_cli.transports.gowa.jids import read_number

ENGINE: Final = "whatsmeow"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEntry:
    """A device as the gateway's list shows it.  jid: of its phone, "" when it is not paired."""

    state: str
    jid: str
    address: str | None


def find_device(shape: Any, device: str) -> DeviceEntry | None:
    """The entry of a device in the answer to `GET /devices`, or None when it is not listed."""
    results = shape.get("results") if isinstance(shape, dict) else None
    for one in results if isinstance(results, list) else ():
        if isinstance(one, dict) and one.get("id") == device:
            state, jid = one.get("state"), one.get("jid")
            jid = jid if isinstance(jid, str) else ""
            return DeviceEntry(
                state=state if isinstance(state, str) else "",
                jid=jid,
                address=read_number(jid) or read_number(one.get("phone_number")),
            )
    return None


def read_flags(shape: Any) -> tuple[bool, bool] | None:
    """(is connected, is logged in) of the answer to `GET /devices/{id}/status`, or None."""
    results = shape.get("results") if isinstance(shape, dict) else None
    if not isinstance(results, dict):
        return None
    flags = results.get("is_connected"), results.get("is_logged_in")
    return (flags[0], flags[1]) if isinstance(flags[0], bool) and isinstance(flags[1], bool) else None


def judge_device(entry: DeviceEntry, flags: tuple[bool, bool] | None, *, was_paired: bool) -> Connection:
    """The connection that a device has.

    flags: of its own status, which are truer than the list.  was_paired: it had a phone when it was last seen.
    """
    is_connected, is_logged_in = flags if flags is not None else (False, False)
    raw = entry.state or "unknown"
    if (is_connected and is_logged_in) or (flags is None and entry.state == "logged_in"):
        return _connection(ConnectionState.READY, raw if entry.state == "logged_in" else "logged_in", None, entry)
    if not entry.jid:
        if was_paired:
            return _connection(ConnectionState.AUTH_FAILURE, raw, "the phone has logged the device out", entry)
        if entry.state == "connecting":
            return _connection(ConnectionState.CONNECTING, raw, None, entry)
        return _connection(ConnectionState.NEEDS_QR, raw, "no phone is paired with it", entry)
    if is_connected or entry.state in ("connecting", "connected"):
        return _connection(ConnectionState.CONNECTING, raw, "it is connected, and not logged in yet", entry)
    if entry.state in ("disconnected", "logged_in"):
        return _connection(ConnectionState.DISCONNECTED, "disconnected", "the gateway has lost WhatsApp", entry)
    return _connection(ConnectionState.ERROR, raw, "a state that wa does not know", entry)


def _connection(state: ConnectionState, raw: str, reason: str | None, entry: DeviceEntry) -> Connection:
    return Connection(state=state, raw=raw[:60], reason=reason, address=entry.address, engine=ENGINE)
