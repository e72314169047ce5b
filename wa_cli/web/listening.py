"""The socket that a server listens on, and who can reach it."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

from wa_cli.errors import UsageError


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can reach an address."""
    return host == "localhost" or host == "::1" or host.startswith("127.")


def open_socket(host: str, port: int) -> socket.socket:
    """A listening socket.  Raises: UsageError when the port is taken or the address cannot be had (fault 90)."""
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise UsageError(
            f"there is no address '{host}' to listen on", hint="--host 127.0.0.1, or this machine's own", code="host"
        ) from error
    # The protocol has to be named: asyncio sends small answers at once only on a socket that says it is TCP, and 40 ms
    # later otherwise.
    listening = socket.socket(family, kind, protocol)
    try:
        if os.name != "nt":  # there it would let two servers share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise _explain_refusal(host, port, error) from error
    listening.setblocking(False)
    return listening


def _explain_refusal(host: str, port: int, error: OSError) -> UsageError:
    if error.errno == 98 or "in use" in str(error).lower():
        pid = find_listener(port)
        owner = f" by pid {pid}" if pid is not None else ""
        return UsageError(
            f"port {port} on {host} is taken{owner}",
            hint="stop that program, or choose another port: --port 8081",
            code="port_taken",
        )
    if isinstance(error, PermissionError):
        return UsageError(
            f"this user may not listen on port {port}", hint="choose one from 1024 on: --port 8080", code="port_refused"
        )
    return UsageError(
        f"{host} port {port} cannot be listened on: {error.strerror}",
        hint="--host 127.0.0.1, or an address of this machine",
        code="port_refused",
    )


def find_listener(port: int) -> int | None:
    """Who listens on a TCP port of this machine, or None where that cannot be known (not Linux, another user's)."""
    sockets: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == "0A" and int(words[1].rpartition(":")[2], 16) == port:
                    sockets.add(f"socket:[{words[9]}]")
    if not sockets:
        return None
    with suppress(OSError):
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and _holds(folder / "fd", sockets):
                return int(folder.name)
    return None


def _holds(folder: Path, sockets: set[str]) -> bool:
    with suppress(OSError):
        for descriptor in folder.iterdir():
            with suppress(OSError):
                if os.readlink(descriptor) in sockets:
                    return True
    return False
