"""The server: uvicorn on a socket, in a thread and an event loop of its own: a daemon beside it keeps its pace."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from wa_cli.web.application import Web, build_application
from wa_cli.web.front import Front
from wa_cli.web.store import StoreThread

if TYPE_CHECKING:
    from wa_cli.bootstrap import App
    from wa_cli.web.worker import Drain

log = logging.getLogger("wa.web")

# How long the head of a request, or the rest of a body that was refused, may take to come.
HEAD_SECONDS: Final = 10.0
KEEP_ALIVE_SECONDS: Final = 65  # longer than the proxies in front of it, which close first then
GRACE_SECONDS: Final = 75  # longer than a post of the worker waits for its answer

MOST_CONNECTIONS: Final = 512  # Meta posts on a few dozen; each costs some 50 KB
FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def most_connections() -> int:
    """How many connections are open at most: half the files that this process may have open, or fewer.

    The rest is for the database and for a daemon in the same process, which has to post whatever happens here.
    """
    try:
        import resource
    except ImportError:  # Windows counts sockets apart
        return MOST_CONNECTIONS
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, soft // 2)


class PatientProtocol(H11Protocol):
    """HTTP/1.1 with a limit to its patience: uvicorn itself waits for ever for the end of a head (fault 73).

    And with one to its connections: uvicorn's own (`limit_concurrency`) answers 503, and leaves them open.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        if len(self.connections) > most_connections():
            self.connections.discard(self)  # it counts no more, though its end is told later
            transport.write(FULL)
            transport.close()
            return
        self._watch(has_news=True)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch(has_news=True)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch(has_news=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _watch(self, *, has_news: bool) -> None:
        """The clock runs while a head has begun and not ended, and while the rest of a refused body comes."""
        theirs = self.conn.their_state
        is_answered = self.cycle is not None and self.cycle.response_complete
        if (theirs is h11.IDLE and has_news) or (theirs is h11.SEND_BODY and is_answered):
            if self._deadline is None:
                self._deadline = self.loop.call_later(HEAD_SECONDS, self._give_up)
        else:
            self._forget()

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()


class _Uvicorn(uvicorn.Server):
    """uvicorn that says when it serves, and leaves signals to whoever started it."""

    def __init__(self, config: uvicorn.Config, ready: threading.Event) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready.set()


class WebServer:
    """A server on an app of its own.  `start`, then `stop` from any thread, then `join`."""

    def __init__(self, app: App, listening: socket.socket, *, drain: Drain | None = None) -> None:
        """drain: how POST /api/queue/worker sends; without it that answers 503."""
        self.app = app
        self._store = StoreThread(app)
        self._web = Web(self._store, drain)
        host, port = listening.getsockname()[:2]
        self.address = str(host), int(port)
        self._listening = listening
        self._ready = threading.Event()
        config = uvicorn.Config(
            Front(build_application(self._web), self._web),
            loop="auto",  # uvloop where it is installed
            http=PatientProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # who is on this machine is told by the connection, not by a header
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        self._server = _Uvicorn(config, self._ready)
        self._thread = threading.Thread(target=self._serve, name="wa-web", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.trouble: BaseException | None = None

    @property
    def url(self) -> str:
        host, port = self.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> None:
        """Serve from now on.  Returns once requests are taken; raises what kept it from that."""
        self._thread.start()
        self._ready.wait()
        if self.trouble is not None:
            self.join()
            raise self.trouble

    def stop(self) -> None:
        """Take no more requests; finish those that were begun.  Returns at once."""
        # The worker first: once no new connection is taken, none of its posts begins any more.
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._web.stop)
        self._server.should_exit = True

    def wait(self) -> None:
        """Until it has ended, by a stop or by trouble of its own, which is raised."""
        self._thread.join()
        if self.trouble is not None:
            raise self.trouble

    def join(self) -> None:
        """Wait for the end.  The store is not used any more afterwards."""
        if self._thread.ident is not None:  # it was started
            self._thread.join()
        self._store.close()
        self._listening.close()

    def _serve(self) -> None:
        try:
            with asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner:
                runner.run(self._run())
        except BaseException as error:  # for whoever waits in another thread
            self.trouble = error
            log.exception("the server has ended by itself; nothing comes in any more")
        finally:
            self._ready.set()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._server.serve(sockets=[self._listening])
