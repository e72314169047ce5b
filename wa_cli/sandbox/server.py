"""The local WhatsApp: a loopback server that answers as Meta's Cloud API does, and remembers every post.

One `Sandbox` is one business account.  It knows nothing of the rest of `wa`; any client written for the
Cloud API may use it, and any receiver its webhooks.  `/sandbox/...` is its own admin API, see `admin`.
Gateways of linked devices answer on the same port, each under the paths it owns, see `gateways`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import random
import socket
import struct
from collections import deque
from contextlib import suppress
from dataclasses import fields
from typing import TYPE_CHECKING, Any, assert_never
from urllib.parse import parse_qsl

from aiohttp import web

from wa_cli.errors import StorageError, UsageError
from wa_cli.sandbox.account import find_object
from wa_cli.sandbox.admin import answer_admin
from wa_cli.sandbox.bell import Bell
from wa_cli.sandbox.deliveries import Deliveries, Delivery
from wa_cli.sandbox.devices import Devices
from wa_cli.sandbox.faults import REFUSING, Chaos, Fault, FaultKind, ScriptedFaults, find_magic_fault
from wa_cli.sandbox.gateways import GatewayHooks, PlayedGateway
from wa_cli.sandbox.gowa import PlayedGowa
from wa_cli.sandbox.graph_errors import (
    THROTTLE_CODES,
    GraphError,
    draw_trace_id,
    encode_error,
    status_of,
)
from wa_cli.sandbox.inbound import Incoming, describe_answer, read_events, read_messages, read_preferences
from wa_cli.sandbox.ladder import Rung, draw_rungs
from wa_cli.sandbox.ledger import Ledger, LedgerEntry
from wa_cli.sandbox.limits import PairLimit, ThroughputWindow
from wa_cli.sandbox.media import MediaShelf, StoredMedia, describe_media
from wa_cli.sandbox.message_checks import find_body_error, read_content, read_recipient, read_type
from wa_cli.sandbox.people import People
from wa_cli.sandbox.settings import (
    FIXED_ONCE_RUNNING,
    NumberState,
    SandboxSettings,
    check_settings,
    is_loopback,
)
from wa_cli.sandbox.template_checks import find_template, find_template_error
from wa_cli.sandbox.waha import Waha
from wa_cli.sandbox.webhook_bodies import AcceptedMessage, Update, describe_pricing, describe_status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

DEFAULT_VERSION = "v25.0"
REDIRECT_PATH = "/sandbox/redirected"
_JSON = "application/json; charset=UTF-8"
_BACKLOG = 1024
_SECONDS_TO_FINISH = 2.0

_WINDOW_CLOSED = Fault(kind=FaultKind.LATER, code=131047)
_MARKETING_STOPPED = Fault(kind=FaultKind.LATER, code=131050)

_STATE_CODES: dict[NumberState, int] = {
    NumberState.UNREGISTERED: 133010,
    NumberState.LOCKED: 131031,
    NumberState.BLOCKED: 368,
    NumberState.MAINTENANCE: 131057,
}

_TOKEN_INVALID = GraphError(code=190, message="Malformed access token", subcode=467)
_TOKEN_EXPIRED = GraphError(code=190, message="Session has expired", subcode=463)
_TOKEN_MISSING = GraphError(code=104, message="An access token is required")


class _Listener(web.Server):
    """aiohttp's server, saying when a connection is gone: a hung answer must not outlive its client."""

    def __init__(self, handler: Any, **options: Any) -> None:
        super().__init__(handler, **options)
        self.gone: dict[object, asyncio.Future[None]] = {}

    def connection_lost(self, handler: Any, exc: BaseException | None = None) -> None:
        gone = self.gone.pop(handler, None)
        if gone is not None and not gone.done():
            gone.set_result(None)
        super().connection_lost(handler, exc)


class Sandbox:
    """A business account on a local port.  `async with Sandbox(settings) as sandbox:` or start and stop it.

    url, messages_url: known once started.  ledger: every post so far, live, oldest first.  deliveries: the webhooks.
    media: the uploads, which are no posts.
    devices: what the gateways keep linked, on the same port.  hooks: what the gateways tell of them.
    """

    def __init__(self, settings: SandboxSettings | None = None) -> None:
        """Raises: UsageError or Refused for settings that cannot work."""
        self._settings = settings or SandboxSettings()
        check_settings(self._settings)
        self._scripted = ScriptedFaults()
        self._book = Ledger(keep=self._settings.ledger_keep)
        self._port = self._settings.port
        self._runner: web.ServerRunner | None = None
        self.media = MediaShelf(self.now)
        self._listener: _Listener | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._held_answers: set[asyncio.Event] = set()
        self._url = ""
        self._deliveries = Deliveries(lambda: self._settings, self.now, self._describe_rung)
        self._bell = Bell()
        self.devices = Devices(lambda: self._settings, self.now, lambda: self._fate, self._bell)
        self.hooks = GatewayHooks(lambda: self._settings, self._bell)
        self._gateways: tuple[PlayedGateway, ...] = (Waha(self), PlayedGowa(self))
        self._begin()

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`.  Raises: RuntimeError before start."""
        if not self._url:
            raise RuntimeError("the sandbox has no address before it is started")
        return self._url

    @property
    def messages_url(self) -> str:
        """What WHATSAPP_API_URL wants."""
        return f"{self.url}/{DEFAULT_VERSION}/{self._settings.phone_number_id}/messages"

    @property
    def settings(self) -> SandboxSettings:
        return self._settings

    @property
    def ledger(self) -> list[LedgerEntry]:
        return self._book.entries

    @property
    def last_seq(self) -> int:
        return self._book.last_seq

    @property
    def deliveries(self) -> list[Delivery]:
        """The webhooks so far, oldest first: how often each was tried, and with what answer."""
        return self._deliveries.list_all()

    @property
    def last_delivery_seq(self) -> int:
        return self._deliveries.last_seq

    @property
    def updates_waiting(self) -> int:
        """Statuses and events that have neither been delivered nor given up, those due later included."""
        return self._deliveries.waiting

    @property
    def scripted_faults(self) -> int:
        """Faults still queued."""
        return len(self._scripted)

    def now(self) -> float:
        """Epoch seconds by the sandbox's own clock."""
        return self._settings.clock() + self._settings.clock_offset_seconds

    def inject(self, fault: Fault, *, times: int = 1, recipient: str | None = None) -> None:
        """Do `fault` to the next `times` posts that would have been accepted.

        recipient: a phone number in any spelling or a group id; None for anybody.  Scripted faults go
        before magic endings, and those before chaos.  Raises: UsageError when times is below 1.
        """
        address = None if recipient is None else read_recipient({"to": recipient})
        self._scripted.add(fault, times=times, recipient=address)

    def apply(self, settings: SandboxSettings) -> None:
        """Behave by other settings from the next post on; `replace(sandbox.settings, ...)` makes them.

        A changed limit starts from empty, a changed seed draws anew, a changed latency holds for the answers that
        wait already, too.  Raises: UsageError for a change that needs a restart.
        """
        check_settings(settings)
        before = self._settings
        for item in fields(settings):
            if item.name in FIXED_ONCE_RUNNING and getattr(settings, item.name) != getattr(before, item.name):
                raise UsageError(f"{item.name} cannot change while the sandbox runs", hint="start another sandbox")
        self._settings = settings
        if settings.seed != before.seed or settings.chaos != before.chaos:
            self._chance = random.Random(settings.seed)  # noqa: S311 - chaos has to be repeatable
        if settings.seed != before.seed:
            self._fate = random.Random(settings.seed)  # noqa: S311
            self._deliveries.draw_anew()
        limits = (
            "throughput_per_second",
            "pair_seconds",
            "pair_burst",
            "strict_pair",
            "app_calls_per_hour",
            "clock",
        )
        if any(getattr(settings, name) != getattr(before, name) for name in limits):
            self._begin_limits()
        if settings.token_expires_after != before.token_expires_after:
            self._authorised = 0
        for held in self._held_answers:
            held.set()
        self._read_settings()
        self._deliveries.go_on()

    def reset(self) -> None:
        """Forget entries, queued faults, webhooks, people and everything measured.

        Settings, ledger file and both seq go on.
        """
        self._book.forget()
        self._scripted.clear()
        self._deliveries.clear()
        self.devices.clear()
        self.hooks.clear()
        self._begin()

    def receive(self, orders: object) -> list[str]:
        """Let people write to the business; orders: see `inbound`.  Returns the ids of their messages.

        Raises: UsageError when one order cannot be understood, or nobody listens; then nothing was sent.
        """
        return [
            incoming.update.item["id"]
            for incoming in self._take_in(read_messages(orders, self._settings, now=self.now()))
        ]

    def receive_preferences(self, orders: object) -> int:
        """Let people stop or resume marketing; orders: see `inbound`.  Returns how many.  Raises: as `receive`."""
        return len(self._take_in(read_preferences(orders, self._settings, now=self.now())))

    def receive_events(self, orders: object) -> int:
        """Let the platform report events; orders: see `inbound`.  Returns how many.  Raises: as `receive`."""
        updates = read_events(orders)
        self._need_webhook_url()
        self._deliveries.tell(updates)
        return len(updates)

    def replay(self, seq: int, *, times: int = 1) -> list[Delivery]:
        """Send the bytes of an earlier webhook again.  Raises: UsageError when it is not remembered."""
        self._need_webhook_url()
        delivery = self._deliveries.find(seq)
        if delivery is None:
            raise UsageError(f"there is no delivery {seq}", hint="GET /sandbox/deliveries lists them")
        return self._deliveries.replay(delivery, times)

    async def verify_webhook(self, verify_token: str | None = None) -> dict[str, Any]:
        """Ask the receiver for the challenge: {"verified", "http_status", "reason"}.

        verify_token: another one than the settings', to see it refused.  Raises: UsageError without a webhook URL.
        """
        url = self._need_webhook_url()
        challenge = str(1_000_000_000 + int.from_bytes(os.urandom(4), "big"))
        return await self._deliveries.ask_challenge(url, verify_token or self._settings.verify_token, challenge)

    async def wait_for_deliveries(self, seq: int) -> None:
        """Return once the delivery numbered `seq` exists, delivered or not."""
        await self._deliveries.wait_for(seq)

    async def wait_until_quiet(self) -> None:
        """Return once every status and event has been delivered or given up."""
        await self._deliveries.wait_until_quiet()
        while self.devices.waiting or self.hooks.waiting:
            await self._bell.wait()

    async def wait_for_posts(self, seq: int) -> None:
        """Return once the entry numbered `seq` is in the ledger."""
        while self._book.last_seq < seq:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            try:
                await waiting
            finally:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)

    async def start(self) -> None:
        """Listen.  Raises: StorageError for the ledger file, UsageError when the address is taken or not ours."""
        settings = self._settings
        if self._runner is not None:
            raise RuntimeError("the sandbox runs already")
        if settings.ledger_path is not None:
            self._book.open(settings.ledger_path, fsync=settings.fsync_ledger)
        self._listener = _Listener(self._answer, access_log=None, keepalive_timeout=settings.keepalive_seconds)
        self._runner = web.ServerRunner(self._listener, shutdown_timeout=_SECONDS_TO_FINISH)
        try:
            await self._runner.setup()
            await web.TCPSite(self._runner, settings.host, self._port, backlog=_BACKLOG).start()
        except OSError as error:
            await self.stop()
            raise UsageError(
                f"the sandbox cannot listen on {settings.host} port {self._port}: {error.strerror or error}",
                hint="name another port, or --port 0 for a free one",
            ) from error
        host, self._port = self._runner.addresses[0][:2]
        port = self._port
        self._url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self._deliveries.start()

    async def stop(self) -> None:
        """Close every connection, also those that wait for an answer, and the ledger file.  Entries stay readable.

        Webhooks still to be sent are held, and go out when the same sandbox starts again.
        """
        runner, self._runner = self._runner, None
        self.devices.stop_timers()
        await self.hooks.stop()
        await self._deliveries.stop()
        if self._listener is not None:
            for gone in self._listener.gone.values():
                if not gone.done():
                    gone.set_result(None)
        if runner is not None:
            await runner.cleanup()
        self._book.close()

    async def __aenter__(self) -> Sandbox:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _begin(self) -> None:
        self._chance = random.Random(self._settings.seed)  # noqa: S311 - chaos has to be repeatable
        self._fate = random.Random(self._settings.seed)  # noqa: S311
        self._people = People()
        self._flaky: dict[str, int] = {}
        self._authorised = 0
        self._begin_limits()
        self._read_settings()

    def _begin_limits(self) -> None:
        settings = self._settings
        self._app_calls: deque[float] = deque()
        self._pairs = PairLimit(settings.pair_seconds, 1 if settings.strict_pair else settings.pair_burst)
        self._windows: dict[str, ThroughputWindow] = {}

    def _read_settings(self) -> None:
        settings = self._settings
        self._chaos = Chaos(settings.chaos)
        self._routes: dict[str, tuple[str, str]] = {}
        self._windows = {
            number: self._windows.get(number) or ThroughputWindow(settings.throughput_per_second)
            for number in (settings.phone_number_id, *settings.other_phone_number_ids)
        }

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        raw_path = request.raw_path
        route = self._find_route(raw_path)
        if route is not None and request.method == "POST":
            return await self._answer_message(request, *route)
        path, _, raw_query = raw_path.partition("?")
        query = dict(parse_qsl(raw_query, keep_blank_values=True))
        if path.startswith("/sandbox"):
            return await self._answer_admin(request, path, query)
        for gateway in self._gateways:
            if gateway.owns(path):
                return await gateway.answer(request, path, query)
        return await self._answer_graph(request, path, query)

    def _find_route(self, raw_path: str) -> tuple[str, str] | None:
        """(version, phone number id) of a messages path, with any version or none; None for all else."""
        try:
            return self._routes[raw_path]
        except KeyError:
            pass
        version, parts = _split_version(raw_path.partition("?")[0])
        if len(parts) != 2 or parts[1] != "messages" or parts[0] == "sandbox":
            return None
        if len(self._routes) < 256:
            self._routes[raw_path] = version, parts[0]
        return version, parts[0]

    async def _answer_message(self, request: web.BaseRequest, version: str, number: str) -> web.StreamResponse:
        try:
            raw_body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            raw_body = b""
        except ConnectionError:
            # The client left before the end of its request: nobody is there to answer, and nothing was asked.
            return web.Response()
        post = _Post(number=number, body=_parse(raw_body))
        try:
            error = self._find_error(request, post)
            fault = None if error is not None or post.is_read_mark else self.choose_fault(post.recipient or "")
            if fault is not None and fault.kind in REFUSING:
                error = self._refuse(fault, post.recipient or "")
            if error is not None:
                self._record(post, f"rejected:{error.code}", fault=fault)
                await self.wait_latency()
                return self._refusal(error, version)
            if post.is_read_mark:
                self._record(post, "noted")
                return self._json(b'{"success":true}', version)
            if fault is not None and (fault.is_lost or fault.kind is FaultKind.REDIRECT):
                self._record(post, "redirected" if fault.kind is FaultKind.REDIRECT else "lost", fault=fault)
                body = self._encode_acceptance(post, _draw_wamid(post.recipient or ""), fault)
            else:
                body = self._accept(post, fault)
        except StorageError as problem:
            # The ledger must have a message before it counts; without room for it nothing is accepted.
            return self._refusal(GraphError(code=131016, details=problem.message), version)
        await self.wait_latency()
        if post.told is not None:
            await asyncio.wait([post.told], timeout=self._settings.webhook_timeout_seconds)
        answer = self._json(body, version)
        return answer if fault is None else await self.spoil(request, fault, answer)

    def _accept(self, post: _Post, fault: Fault | None) -> bytes:
        """Take a message on: the one place where a post becomes an accepted message, with its id and its entry.

        What follows an acceptance (statuses, their webhooks) starts here, whatever becomes of the answer.
        """
        recipient = post.recipient or ""
        wamid = _draw_wamid(recipient)
        self._record(post, "accepted", wamid=wamid, fault=fault)
        self._pairs.charge((post.number, recipient), post.received_at)
        if self._settings.webhook_url is not None:
            self._follow(post, recipient, wamid, fault)
        return self._encode_acceptance(post, wamid, fault)

    def _follow(self, post: _Post, recipient: str, wamid: str, fault: Fault | None) -> None:
        settings = self._settings
        people = self._people
        body = post.body or {}
        is_group = body.get("recipient_type") == "group"
        is_window_open = people.is_window_open(post.number, recipient, post.received_at)
        category = "service"
        if post.kind == "template":
            template = find_template(body["template"], settings.templates)
            category = template.category.lower() if template is not None else "utility"
        if fault is None or fault.kind not in (FaultKind.LATER, FaultKind.UNTIL, FaultKind.STOP):
            if category == "service" and settings.strict_window and not is_window_open:
                fault = _WINDOW_CLOSED
            elif category == "marketing" and people.has_stopped(recipient):
                fault = _MARKETING_STOPPED
        message = AcceptedMessage(
            wamid=wamid,
            accepted_at=post.received_at,
            phone_number_id=post.number,
            recipient=recipient,
            tag=post.tag,
            pricing=describe_pricing(
                f"group_{category}" if is_group else category, is_window_open=is_window_open, at=post.received_at
            ),
            contact=None if is_group else people.describe(recipient),
        )
        rungs = draw_rungs(settings, self._fate, fault, only_sent=post.kind == "reaction")
        is_early = bool(settings.webhook_before_answer) and self._fate.random() < settings.webhook_before_answer
        post.told = self._deliveries.follow(message, rungs, before_answer=is_early)

    def _describe_rung(self, message: AcceptedMessage, rung: Rung) -> Update:
        """The update of a rung when its time has come; an answer of the person counts from then on."""
        if not rung.status.startswith("stop"):
            return describe_status(message, rung)
        user_id = self._people.user_id_of(message.recipient)
        if rung.status == "stop:preferences":
            self._people.note_preference(user_id, wants_marketing=False)
        else:
            self._people.note_message(message.phone_number_id, user_id, self.now())
        business = self._settings.display_phone_number
        return describe_answer(message, rung.status, at=message.accepted_at + rung.after, business=business)

    def _take_in(self, incoming: Sequence[Incoming]) -> Sequence[Incoming]:
        self._need_webhook_url()
        now = self.now()
        for one in incoming:
            sender = one.sender
            self._people.note_name(sender.number, sender.user_id, sender.name)
            if one.opens_window:
                self._people.note_message(one.update.phone_number_id or "", sender.user_id, now)
            if one.wants_marketing is not None:
                self._people.note_preference(sender.user_id, wants_marketing=one.wants_marketing)
        self._deliveries.tell([one.update for one in incoming])
        return incoming

    def _need_webhook_url(self) -> str:
        url = self._settings.webhook_url
        if url is None:
            raise UsageError(
                "nobody listens: no webhook URL is set", hint='POST /sandbox/settings {"webhook_url": "..."}'
            )
        return url

    def _record(self, post: _Post, verdict: str, *, wamid: str | None = None, fault: Fault | None = None) -> None:
        self.note(
            LedgerEntry(
                seq=self._book.last_seq + 1,
                received_at=post.received_at,
                phone_number_id=post.number,
                to=post.recipient,
                type=post.kind,
                content=post.content,
                tag=post.tag,
                verdict=verdict,
                wamid=wamid,
                fault=None if fault is None else str(fault),
            )
        )

    def note(self, entry: LedgerEntry) -> None:
        """Add an entry whose seq is `last_seq + 1` to the ledger.  Raises: StorageError."""
        self._book.append(entry)
        if self._waiting:
            for waiting in self._waiting:
                if not waiting.done():
                    waiting.set_result(None)
            self._waiting.clear()

    def _find_error(self, request: web.BaseRequest, post: _Post) -> GraphError | None:
        """Read the post and find the first reason to refuse it, or None.  Fills in what the ledger wants to know."""
        settings = self._settings
        body = post.body
        now = post.received_at = self.now()
        if body is not None:
            recipient = post.recipient = read_recipient(body)
            kind = post.kind = read_type(body)
            post.content = read_content(body, kind)
            tag = body.get("biz_opaque_callback_data")
            post.tag = tag if isinstance(tag, str) else None
            post.is_read_mark = body.get("status") == "read" and "message_id" in body
            if post.is_read_mark:
                post.kind = "read_mark"
        error = self._find_token_error(request)
        if error is not None:
            return error
        window = self._windows.get(post.number)
        if not settings.may_send:
            return GraphError(code=10, details="the app lacks whatsapp_business_messaging for this number")
        if window is None:
            return _unknown_object(post.number)
        if settings.number_state is not NumberState.CONNECTED:
            return GraphError(code=_STATE_CODES[settings.number_state])
        if settings.app_calls_per_hour and not self._admit_app_call(now):
            return GraphError(code=4, details="too many calls from this app in the last hour")
        if not window.admit(now):
            return GraphError(code=130429, details="Message failed to send: throughput of the number is reached")
        if body is None:
            return GraphError(code=100, details="the body is not a JSON object")
        if post.is_read_mark:
            return None
        error = find_body_error(body, recipient, kind)
        if error is None and settings.strict_media:
            error = self.media.find_error(body, kind, post.number)
        if error is not None:
            return error
        assert recipient is not None
        if body.get("recipient_type") == "group":
            if recipient not in settings.group_ids:
                return GraphError(code=131041, details="this number has made no such group")
        elif settings.allowed_recipients is not None and recipient not in settings.allowed_recipients:
            return GraphError(code=131030, details="add the number to the list of allowed recipients")
        if recipient == settings.display_phone_number:
            return GraphError(code=131021, details="the number cannot write to itself")
        if not self._pairs.may_send((post.number, recipient), now):
            return GraphError(code=131056, details="Message failed to send: too many messages to this person")
        if kind == "template":
            return find_template_error(body["template"], settings.templates, is_strict=settings.strict_templates)
        return None

    def _find_token_error(self, request: web.BaseRequest) -> GraphError | None:
        error = self._judge_token(request)
        if error is None and self._settings.token_expires_after is not None:
            if self._authorised >= self._settings.token_expires_after:
                return _TOKEN_EXPIRED
            self._authorised += 1
        return error

    def _judge_token(self, request: web.BaseRequest) -> GraphError | None:
        token = _read_token(request)
        if not token:
            return _TOKEN_MISSING
        return None if token == self._settings.token else _TOKEN_INVALID

    def _admit_app_call(self, now: float) -> bool:
        calls = self._app_calls
        while calls and calls[0] <= now - 3600.0:
            calls.popleft()
        if len(calls) >= self._settings.app_calls_per_hour:
            return False
        calls.append(now)
        return True

    def choose_fault(self, recipient: str) -> Fault | None:
        """What goes wrong with a post to this recipient that would be accepted: scripted, magic, or by chance."""
        fault = self._scripted.take(recipient) if self._scripted else None
        if fault is None and self._settings.magic:
            fault = find_magic_fault(recipient)
            if fault is not None and fault.kind is FaultKind.FLAKY:
                met = self._flaky.get(recipient, 0)
                if met >= (fault.times or 1):
                    fault = None
                else:
                    self._flaky[recipient] = met + 1
        return fault or self._chaos.draw(self._chance)

    def _refuse(self, fault: Fault, recipient: str) -> GraphError:
        match fault.kind:
            case FaultKind.THROTTLE:
                return GraphError(code=130429, details="throughput of the number is reached (on request)")
            case FaultKind.PAIR:
                return GraphError(code=131056, details="too many messages to this person (on request)")
            case FaultKind.ERROR_500 | FaultKind.FLAKY:
                return GraphError(code=131000, details="something went wrong (on request)")
            case _:
                return GraphError(
                    code=fault.code or 0,
                    subcode=fault.subcode,
                    http_status=fault.http_status,
                    details="refused on request",
                )

    async def spoil(self, request: web.BaseRequest, fault: Fault, answer: web.Response) -> web.StreamResponse:
        """Answer a post that was accepted (or lost) in the way the fault says.  answer: the one it would have got."""
        transport = request.transport
        body = answer.body if isinstance(answer.body, bytes) else b""
        match fault.kind:
            case FaultKind.LATER | FaultKind.UNTIL | FaultKind.STOP:
                return answer
            case FaultKind.SLOW:
                await self._wait_unless_gone(request, fault.seconds)
                return answer
            case FaultKind.HANG:
                await self._wait_unless_gone(request, None)
                return _drop(transport)
            case FaultKind.RESET:
                return _drop(transport)
            case FaultKind.CUT_HEADERS:
                if transport is not None:
                    transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: applicat")
                return _hang_up(transport)
            case FaultKind.CUT_BODY:
                cut_at = len(body) // 2 if fault.cut_at is None else min(fault.cut_at, len(body) - 1)
                if transport is not None:
                    transport.write(
                        b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=UTF-8\r\n"
                        + f"Content-Length: {len(body)}\r\n\r\n".encode()
                        + body[:cut_at]
                    )
                return _hang_up(transport)
            case FaultKind.HTML_200:
                page = (
                    b"<!DOCTYPE html><html><head><title>Hello</title></head><body>Log in to the network</body></html>"
                )
                return web.Response(body=page, content_type="text/html")
            case FaultKind.EMPTY_200:
                return web.Response(body=b"", headers={"Content-Type": _JSON})
            case FaultKind.EMPTY_503:
                return web.Response(status=503, body=b"")
            case FaultKind.REDIRECT:
                return web.Response(status=307, headers={"Location": f"{self.url}{REDIRECT_PATH}"})
            case FaultKind.REJECT | FaultKind.THROTTLE | FaultKind.PAIR | FaultKind.ERROR_500 | FaultKind.FLAKY:
                raise AssertionError(f"{fault} refuses and has no answer to spoil")
            case _:
                assert_never(fault.kind)

    async def _wait_unless_gone(self, request: web.BaseRequest, seconds: float | None) -> None:
        """Wait until the time is over (None: for ever), the client hangs up or the sandbox stops."""
        listener = self._listener
        if listener is None or self._runner is None or request.transport is None:
            return
        gone = listener.gone.setdefault(request.protocol, asyncio.get_running_loop().create_future())
        await asyncio.wait([gone], timeout=seconds)
        listener.gone.pop(request.protocol, None)

    async def wait_latency(self) -> None:
        """Wait as long as every answer to a send has to."""
        if not self._settings.latency_ms:
            return
        loop = asyncio.get_running_loop()
        began, changed = loop.time(), asyncio.Event()
        self._held_answers.add(changed)
        try:
            while (left := began + self._settings.latency_ms / 1000 - loop.time()) > 0:
                changed.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), left)
        finally:
            self._held_answers.discard(changed)

    def _json(self, body: bytes, version: str, *, status: int = 200) -> web.Response:
        trace = draw_trace_id()
        headers = {
            "Content-Type": _JSON,
            "facebook-api-version": version,
            "x-fb-trace-id": trace,
            "x-fb-request-id": trace,
            "X-App-Usage": self._encode_usage(),
        }
        return web.Response(status=status, body=body, headers=headers)

    def _encode_usage(self) -> str:
        allowed = self._settings.app_calls_per_hour
        used = min(100, 100 * len(self._app_calls) // allowed) if allowed else 0
        return f'{{"call_count":{used},"total_cputime":0,"total_time":0}}'

    def _refusal(self, error: GraphError, version: str) -> web.Response:
        settings = self._settings
        status = status_of(error, throttle_http_status=settings.throttle_http_status)
        answer = self._json(encode_error(error), version, status=status)
        if error.code in THROTTLE_CODES or error.code == 131056:
            if settings.retry_after_seconds is not None:
                answer.headers["Retry-After"] = str(settings.retry_after_seconds)
            if error.code == 80007:
                usage = {"type": "whatsapp", "call_count": 100, "total_cputime": 1, "total_time": 1}
                answer.headers["X-Business-Use-Case-Usage"] = json.dumps(
                    {settings.waba_id: [{**usage, "estimated_time_to_regain_access": 19}]},
                    separators=(",", ":"),
                )
        return answer

    def _encode_acceptance(self, post: _Post, wamid: str, fault: Fault | None) -> bytes:
        body = post.body or {}
        to = post.recipient or ""
        contact: dict[str, Any] = {"input": body.get("to") or body.get("recipient")}
        message: dict[str, Any] = {"id": wamid}
        if body.get("recipient_type") == "group":
            message["group_id"] = to
        elif to.isdigit():
            contact["wa_id"] = to
        else:
            contact["user_id"] = to
        if post.kind == "template":
            # A pacing drop begins with an answer that says so.
            is_held = fault is not None and fault.kind is FaultKind.LATER and fault.code == 132015
            message["message_status"] = "held_for_quality_assessment" if is_held else "accepted"
        return json.dumps(
            {"messaging_product": "whatsapp", "contacts": [contact], "messages": [message]},
            separators=(",", ":"),
        ).encode()

    async def _answer_admin(self, request: web.BaseRequest, path: str, query: dict[str, str]) -> web.StreamResponse:
        raw_body = await request.read()
        if path == REDIRECT_PATH:
            self._record(
                _Post(number=None, body=_parse(raw_body), received_at=self.now()),
                "redirect_followed",
            )
            return self._json(b'{"messages":[{"id":"wamid.FOLLOWED"}]}', DEFAULT_VERSION)
        if not is_loopback(self._settings.host) and _read_token(request) != self._settings.token:
            return web.json_response({"error": {"message": "the token is needed here"}}, status=401)
        status, shape = await answer_admin(self, request.method, path, query, raw_body)
        return web.json_response(shape, status=status)

    async def _answer_graph(self, request: web.BaseRequest, path: str, query: dict[str, str]) -> web.StreamResponse:
        """The reading side of the Graph API: the number, the account, its templates, the token."""
        version, parts = _split_version(path)
        error = self._judge_token(request) or (_TOKEN_EXPIRED if self._settings.token_expires_after == 0 else None)
        if request.method == "POST" and len(parts) == 2 and parts[1] == "media":
            return await self._answer_upload(request, error, version, parts[0])
        await request.read()
        if error is not None:
            return self._refusal(error, version)
        shape = None
        media = self.media.find(parts[0]) if len(parts) == 1 else None
        if request.method == "DELETE" and media is not None:
            shape = {"success": self.media.delete(media.media_id)}
        elif request.method == "GET" and media is not None:
            shape = describe_media(media, f"{self.url}{path}")
        elif request.method == "GET":
            shape = find_object(self._settings, parts, query, address=f"{self.url}{path}")
        if shape is None:
            return self._refusal(_unknown_object("/".join(parts), verb=request.method.lower()), version)
        return self._json(_encode(shape), version)

    async def _answer_upload(
        self, request: web.BaseRequest, error: GraphError | None, version: str, number: str
    ) -> web.StreamResponse:
        """`POST /{phone_number_id}/media`: nothing is sent to anybody, and nothing of it stands in the ledger."""
        if error is None and number not in self._windows:
            error = _unknown_object(number)
        if error is not None:
            with contextlib.suppress(web.HTTPRequestEntityTooLarge):
                await request.read()
            return self._refusal(error, version)
        try:
            taken = await self.media.take(request, number)
        except ConnectionError:
            return web.Response()  # the client left before the end
        if not isinstance(taken, StoredMedia):
            return self._refusal(taken, version)
        return self._json(_encode({"id": taken.media_id}), version)


class _Post:
    """One request to the messages endpoint while it is judged."""

    __slots__ = (
        "body",
        "content",
        "is_read_mark",
        "kind",
        "number",
        "received_at",
        "recipient",
        "tag",
        "told",
    )

    def __init__(self, *, number: str | None, body: dict[str, Any] | None, received_at: float = 0.0) -> None:
        self.number = number or ""
        self.body = body
        self.received_at = received_at
        self.recipient: str | None = None
        self.kind: str | None = None
        self.content: str | None = None
        self.tag: str | None = None
        self.is_read_mark = False
        # Ends when the first status has been tried at the receiver, where that comes before the answer.
        self.told: asyncio.Future[None] | None = None


_ENCODER = json.JSONEncoder(separators=(",", ":"))


def _encode(shape: dict[str, Any]) -> bytes:
    return _ENCODER.encode(shape).encode()


def _parse(raw_body: bytes) -> dict[str, Any] | None:
    """The JSON object of a body, or None when it is none."""
    try:
        body = json.loads(raw_body)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _split_version(path: str) -> tuple[str, list[str]]:
    """`/v25.0/1/messages` to ("v25.0", ["1", "messages"]); the default version when the path names none."""
    parts = [part for part in path.split("/") if part]
    if parts and parts[0][:1] == "v" and parts[0][1:].replace(".", "", 1).isdecimal():
        return parts[0], parts[1:]
    return DEFAULT_VERSION, parts


def _read_token(request: web.BaseRequest) -> str | None:
    header = request.headers.get("Authorization")
    if header is not None:
        scheme, _, token = header.partition(" ")
        return token.strip() if scheme.lower() in ("bearer", "oauth") else None
    # Graph also takes the token as a query parameter.
    return dict(parse_qsl(request.raw_path.partition("?")[2])).get("access_token")


def _unknown_object(name: str, *, verb: str = "post") -> GraphError:
    return GraphError(
        code=100,
        subcode=33,
        message=f"Unsupported {verb} request",
        details=f"object '{name}' does not exist, or the token may not see it",
    )


def _draw_wamid(recipient: str) -> str:
    """A fresh message id in the published shape: it holds the recipient's number, so it is never logged whole."""
    phone = recipient.encode()[:255]
    unique = os.urandom(9).hex().upper().encode()
    packed = b"\x1c\x18" + bytes((len(phone),)) + phone + b"\x15\x02\x00\x11\x18\x12" + unique + b"\x00"
    return "wamid." + base64.b64encode(packed).decode()


def _drop(transport: asyncio.Transport | None) -> web.StreamResponse:
    """Reset the connection: with no time to linger the kernel answers with RST instead of an orderly end."""
    if transport is not None and not transport.is_closing():
        held = transport.get_extra_info("socket")
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()


def _hang_up(transport: asyncio.Transport | None) -> web.StreamResponse:
    if transport is not None:
        transport.close()
    return web.Response()
