"""What every transport must do alike, whichever platform it posts to.  Issue 6, point 2.

The question behind every answer: could the other side have accepted the message?
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted_server import Exchange, ScriptedServer, format_answer
from wires import BARE, DIGITS, FILE_BYTES, GROUP, INSTALL, KEY, NUMBER, SECRET, WIRES, Wire

from wa_cli.domain.connection import OnWhatsApp, RestartKind
from wa_cli.domain.event import StatusEvent
from wa_cli.domain.message import CONTENT_TYPES, LocalFile, Media, MediaKind, Text
from wa_cli.domain.outcome import Accepted, Ambiguous, ErrorClass, NotSent, Rejected
from wa_cli.domain.receipt import Receipt, further
from wa_cli.domain.recipient import RecipientKind
from wa_cli.errors import Temporary, UsageError, WaError
from wa_cli.ports import Post
from wa_cli.provider import number_id_of
from wa_cli.transports.posting import Answer
from wa_cli.transports.providers import MODULES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from wires import Answered

    from wa_cli.domain.message import Content
    from wa_cli.domain.outcome import Outcome
    from wa_cli.ports import Transport, WebhookReader
    from wa_cli.provider import Gateway

every_wire = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
LINKED = tuple(wire for wire in WIRES if wire.provider.capabilities.is_linked_device)
every_gateway = pytest.mark.parametrize("wire", LINKED, ids=lambda wire: wire.name)

TAG = f"wa1.{INSTALL}.42"


def bare_id(number: int) -> str:
    return f"3EB0{number:018X}"


def make_post(content: Content | None = None, *, to_group: bool = False, tag: str = TAG) -> Post:
    return Post(
        tag=tag,
        address=GROUP if to_group else NUMBER,
        kind=RecipientKind.GROUP if to_group else RecipientKind.PERSON,
        content=content or Text(body="Doors open at six"),
    )


@asynccontextmanager
async def serving(
    wire: Wire, script: Callable[[Exchange], Awaitable[None]], **values: str
) -> AsyncIterator[tuple[ScriptedServer, Transport]]:
    async with ScriptedServer(script) as server:
        transport = wire.provider.open_transport(wire.account(f"http://127.0.0.1:{server.port}", **values))
        try:
            yield server, transport
        finally:
            await transport.close()


def answering(answered: Answered, **options: Any) -> Callable[[Exchange], Awaitable[None]]:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(answered[1], answered[0], **options)

    return script


def accepting(wire: Wire) -> Callable[[Exchange], Awaitable[None]]:
    """Accept everything, each with an id of its own."""

    async def script(exchange: Exchange) -> None:
        status, body = wire.accepted(bare_id(exchange.number))
        await exchange.answer(body, status)

    return script


def post_once(
    wire: Wire, script: Callable[[Exchange], Awaitable[None]], post: Post | None = None
) -> tuple[Outcome, list[Exchange]]:
    """The outcome of one post, and the requests that the server got."""

    async def main() -> tuple[Outcome, list[Exchange]]:
        async with serving(wire, script) as (server, transport):
            outcome = await transport.send(post or make_post())
            return outcome, list(server.requests)

    return asyncio.run(main())


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def attempt(work: Callable[[], Any]) -> Any:
    """What the work returns, or the error that explains why not."""
    try:
        return work()
    except WaError as error:
        return error


def test_the_contract_covers_every_transport() -> None:
    assert {wire.name for wire in WIRES} == set(MODULES)


# --- posting -------------------------------------------------------------------------------------------------------


@every_wire
def test_accepted_gives_the_bare_id(wire: Wire) -> None:
    """Promise P3: it holds no chat and no number, and is what receipts are matched by."""
    outcome, requests = post_once(wire, answering(wire.accepted(BARE)))
    assert isinstance(outcome, Accepted)
    assert outcome.provider_message_id == BARE
    assert len(requests) == 1


@every_wire
def test_the_answer_of_an_earlier_post_proves_nothing(wire: Wire) -> None:
    """Promise P3: a cache or a crossed connection gives one message the id of another."""

    async def main() -> list[Outcome]:
        async with serving(wire, answering(wire.accepted(BARE))) as (_server, transport):
            return [await transport.send(make_post()) for _time in range(2)]

    first, second = asyncio.run(main())
    assert isinstance(first, Accepted)
    assert isinstance(second, Ambiguous)
    assert second.code == "repeated_id"


@every_wire
def test_a_refused_connection_is_not_sent(wire: Wire) -> None:
    async def main() -> Outcome:
        transport = wire.provider.open_transport(wire.account(f"http://127.0.0.1:{closed_port()}"))
        try:
            return await transport.send(make_post())
        finally:
            await transport.close()

    assert isinstance(asyncio.run(main()), NotSent)


@every_wire
def test_a_reset_after_the_request_was_written_is_ambiguous(wire: Wire) -> None:
    """Promise P2."""

    async def script(exchange: Exchange) -> None:
        exchange.reset()

    outcome, requests = post_once(wire, script)
    assert isinstance(outcome, Ambiguous)
    assert len(requests) == 1  # and it is not tried again by itself


@every_wire
def test_an_answer_that_breaks_off_is_ambiguous(wire: Wire) -> None:
    """Promise P2: also when what came of it looks whole."""
    status, body = wire.accepted(BARE)

    async def script(exchange: Exchange) -> None:
        await exchange.write(format_answer(body, status, headers=(("Content-Length", str(len(body) + 1)),)))
        exchange.close()

    assert isinstance(post_once(wire, script)[0], Ambiguous)


@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"null", b"[]", b'"3EB0"', b'{"success":true}', b'{"code":"SUCCESS"}', b"<html>ok</html>", b"\xff{"],
)
@every_wire
def test_a_success_without_an_id_is_ambiguous(wire: Wire, body: bytes, status: int) -> None:
    """Promise P3: nothing is called sent that is not proven to be."""
    assert isinstance(post_once(wire, answering((status, body)))[0], Ambiguous)


@every_wire
def test_a_success_that_was_cut_is_ambiguous(wire: Wire) -> None:
    status, body = wire.accepted(BARE)
    assert isinstance(post_once(wire, answering((status, body[:-2])))[0], Ambiguous)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520])
@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b"{}"])
@every_wire
def test_a_server_error_without_a_verdict_is_ambiguous(wire: Wire, status: int, body: bytes) -> None:
    """Promise P4."""
    outcome, _requests = post_once(wire, answering((status, body), content_type="text/html"))
    assert isinstance(outcome, Ambiguous)
    assert outcome.http_status == status


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@every_wire
def test_a_redirect_is_never_followed(wire: Wire, status: int) -> None:
    """The key and the message go to the address that was given, and nowhere else."""

    async def script(exchange: Exchange) -> None:
        if exchange.number > 1:
            await exchange.answer(wire.accepted(BARE)[1], wire.accepted(BARE)[0])
        else:
            await exchange.answer(b"", status, headers=(("Location", "/elsewhere"),))

    outcome, requests = post_once(wire, script)
    assert not isinstance(outcome, Accepted)
    assert len(requests) == 1


@every_wire
def test_a_bad_key_stops_the_instance_and_is_shown_nowhere(wire: Wire) -> None:
    """Faults 61, 84; promise P11."""
    outcome, _requests = post_once(wire, answering(wire.bad_key))
    assert isinstance(outcome, Rejected)
    assert outcome.error_class is ErrorClass.STOP
    assert "canary" not in repr(outcome)


@every_gateway
def test_a_session_that_is_not_ready_keeps_the_message(wire: Wire) -> None:
    """Row H9."""
    assert wire.not_ready is not None
    answered, state = wire.not_ready
    outcome, _requests = post_once(wire, answering(answered))
    assert isinstance(outcome, Rejected)
    assert (outcome.error_class, outcome.connection) == (ErrorClass.NOT_READY, state)


@every_wire
def test_a_refusal_tells_its_words_without_numbers_and_secrets(wire: Wire) -> None:
    """Promise P11, fault 84."""
    words = f"bad chat {DIGITS} or {NUMBER}, {wire.values['key']} and {KEY} are not it"
    outcome, _requests = post_once(wire, answering(wire.refusal(words)))
    assert isinstance(outcome, Rejected)
    assert outcome.error_class is ErrorClass.DEAD_MESSAGE
    assert "bad chat" in outcome.details
    assert DIGITS not in outcome.details
    assert "canary" not in outcome.details
    assert "\x00" not in outcome.details


@every_wire
def test_a_gateway_of_this_machine_is_reached_past_every_proxy(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands on loopback is nobody else's business: neither the key nor a message goes to a proxy."""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert isinstance(post_once(wire, answering(wire.accepted(BARE)))[0], Accepted)
    if wire in LINKED:
        _label, answers, state = wire.looks[0]
        assert steer(wire, routed(answers), lambda gateway: gateway.look())[0].state == state


@every_wire
def test_nothing_that_is_logged_on_the_way_holds_a_secret(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """Promise P11, fault 84: not even the libraries' own lines."""
    with caplog.at_level(logging.DEBUG):
        post_once(wire, answering(wire.accepted(BARE)))
        post_once(wire, answering(wire.bad_key))
        if wire in LINKED:
            steer(wire, routed(wire.looks[0][1]), lambda gateway: gateway.look())
    assert "canary" not in caplog.text


@every_wire
def test_posts_at_once_each_get_the_outcome_of_their_own(wire: Wire) -> None:
    """Fault 33: answers that overtake each other are not mixed up."""

    async def main() -> tuple[list[Outcome], dict[str, int]]:
        seen: dict[str, int] = {}
        full = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            found = re.search(rb"number (\d)", exchange.body)
            assert found is not None
            number = seen[found[1].decode()] = len(seen) + 1
            if len(seen) == 4:
                full.set()
            await full.wait()  # so that all of them are in flight
            await asyncio.sleep(0.02 * (4 - number))
            status, body = wire.accepted(bare_id(number))
            await exchange.answer(body, status)

        async with serving(wire, script) as (_server, transport):
            posts = [make_post(Text(body=f"number {n}"), tag=f"wa1.{INSTALL}.{n}") for n in range(4)]
            return list(await asyncio.gather(*(transport.send(post) for post in posts))), seen

    outcomes, seen = asyncio.run(main())
    for n, outcome in enumerate(outcomes):
        assert isinstance(outcome, Accepted)
        assert outcome.provider_message_id == bare_id(seen[str(n)])


@every_wire
def test_closing_ends_every_connection_and_may_be_done_twice(wire: Wire) -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            status, body = wire.accepted(BARE)
            await exchange.answer(body, status)

        async with serving(wire, script) as (server, transport):
            await transport.send(make_post())
            writer = server.requests[0].writer
            await transport.close()
            await transport.close()
            asyncio.get_running_loop().create_task(writer.wait_closed()).add_done_callback(lambda _task: ended.set())
            async with asyncio.timeout(30):
                await ended.wait()

    asyncio.run(main())


# --- kinds and recipients ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CONTENT_TYPES)
@every_wire
def test_what_a_transport_has_is_taken_and_posted_and_all_else_is_refused_by_name(wire: Wire, kind: str) -> None:
    """Issue 6, point 3."""
    content = wire.contents()[kind]
    problem = wire.provider.rules().find_problem(content)
    if kind in wire.provider.capabilities.kinds:
        assert problem is None
        outcome, requests = post_once(wire, accepting(wire), make_post(content))
        assert isinstance(outcome, Accepted)
        assert requests
    else:
        assert problem is not None
        assert kind in problem.message
        outcome, requests = post_once(wire, accepting(wire), make_post(content))
        assert isinstance(outcome, Rejected)
        assert (outcome.http_status, requests) == (0, [])


@every_gateway
def test_a_file_of_ours_travels_inside_the_request(wire: Wire) -> None:
    """Issue 6, point 3: and a link does not: nobody but the provider fetches it."""
    import base64

    file = LocalFile(digest="ab" * 32, mime_type="image/jpeg", size=len(FILE_BYTES))
    content = Media(kind=MediaKind.IMAGE, file=file, caption="the hall")
    assert wire.provider.capabilities.takes_files
    assert wire.provider.rules().find_problem(content) is None
    _outcome, (request,) = post_once(wire, accepting(wire), make_post(content))
    assert FILE_BYTES in request.body or base64.b64encode(FILE_BYTES) in request.body
    _outcome, (request,) = post_once(wire, accepting(wire), make_post(wire.contents()["image"]))
    assert b"https://example.com/a.jpg" in request.body


@every_wire
def test_groups_are_reached_or_refused_as_the_capabilities_say(wire: Wire) -> None:
    """Issue 6, point 4."""
    can = wire.provider.capabilities.groups
    problem = wire.provider.rules().find_recipient_problem(RecipientKind.GROUP)
    assert (problem is None) == can
    assert wire.provider.rules().find_recipient_problem(RecipientKind.PERSON) is None
    outcome, requests = post_once(wire, accepting(wire), make_post(to_group=True))
    if can:
        assert isinstance(outcome, Accepted)
        assert GROUP.encode() in requests[0].body
    else:
        assert isinstance(outcome, Rejected)
        assert requests == []


@every_gateway
def test_a_linked_device_needs_no_window(wire: Wire) -> None:
    rules = wire.provider.rules()
    assert not wire.provider.capabilities.has_window
    assert not any(rules.needs_window(content) for content in wire.contents().values())


# --- any answer at all ---------------------------------------------------------------------------------------------


class OneAnswer:
    """Stands in for the poster: whatever is posted, this comes back."""

    def __init__(self) -> None:
        self.answer = Answer(status=200, headers={}, body=b"")

    def prepare(self, url: str) -> None:
        pass

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Answer:
        return self.answer

    async def close(self) -> None:
        pass


WORDS = st.sampled_from(
    [
        *("id", "_serialized", "message", "messages", "results", "message_id", "code", "SUCCESS", "success", "error"),
        *("status", "statusCode", "expected", "key", "_data", "details", "exception", "name", "title", "type"),
        *(f"true_{DIGITS}@c.us_{BARE}", BARE, "session_not_found", "WORKING", "SCAN_QR_CODE", "190", KEY, ""),
    ]
)
SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 600) | st.sampled_from([190, 463, 131026]) | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=12,
)


def bodies(wire: Wire) -> st.SearchStrategy[bytes]:
    good = wire.accepted(BARE)[1]
    cut = st.integers(0, len(good)).map(lambda at: good[:at] + good[at + 1 :])
    return st.binary(max_size=200) | SHAPES.map(lambda shape: json.dumps(shape).encode()) | cut | st.just(good)


@every_wire
def test_any_answer_is_an_outcome_and_none_is_accepted_without_an_id(wire: Wire) -> None:
    """Promises P3, P11; fault 33."""
    transport = wire.provider.open_transport(wire.account("http://127.0.0.1:9"))
    poster = OneAnswer()
    transport._poster = poster  # type: ignore[attr-defined]  # every transport has one, and this one answers at once
    kinds = st.sampled_from(["application/json", "text/html", ""])

    with asyncio.Runner() as runner:

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(
            status=st.sampled_from([200, 201, 202, 204, 302, 400, 401, 403, 404, 409, 413, 422, 429, 500, 503]),
            kind=kinds,
            wait=st.sampled_from(["", "5", "-1", "soon", "9" * 40]),
            body=bodies(wire),
        )
        def check(status: int, kind: str, wait: str, body: bytes) -> None:
            poster.answer = Answer(status=status, headers={"Content-Type": kind, "Retry-After": wait}, body=body)
            outcome = runner.run(transport.send(make_post()))
            assert isinstance(outcome, Accepted | Rejected | Ambiguous)
            assert KEY not in repr(outcome)
            if isinstance(outcome, Accepted):
                assert 200 <= status < 300
                assert re.fullmatch(r"[\x21-\x7e]{1,512}", outcome.provider_message_id)
                assert outcome.provider_message_id.encode() in body
            else:
                assert outcome.details

        check()
        runner.run(transport.close())


# --- webhooks ------------------------------------------------------------------------------------------------------


def reader_of(wire: Wire, **values: str) -> WebhookReader:
    return wire.provider.webhook_reader(wire.account("http://127.0.0.1:9", **values))


def an_ack(wire: Wire) -> bytes:
    return wire.acks[Receipt.READ](BARE, f"{DIGITS}@c.us")


@every_wire
def test_only_what_one_of_our_secrets_vouches_for_is_genuine(wire: Wire) -> None:
    """Fault 71."""
    reader, body = reader_of(wire), an_ack(wire)
    assert reader.has_secret
    assert reader.signature_header.isascii()
    good = wire.sign(body, wire.secret)
    assert reader.is_genuine(body, good)
    for forged in (None, "", good[:-1], f"{good}0", f"{good}, {good}", wire.sign(body, "another"), wire.sign(body, "")):
        assert not reader.is_genuine(body, forged)
    if wire.provider.capabilities.signed_webhooks:
        assert not reader.is_genuine(body + b" ", good)


@every_wire
def test_while_the_secret_is_changed_both_are_good(wire: Wire) -> None:
    """Fault 71."""
    reader, body = reader_of(wire, **wire.rotated), an_ack(wire)
    (words,) = wire.rotated.values()
    assert all(reader.is_genuine(body, wire.sign(body, secret)) for secret in words.split(","))
    assert not reader.is_genuine(body, wire.sign(body, words))


@every_wire
def test_without_a_secret_nothing_is_genuine(wire: Wire) -> None:
    """Fault 71."""
    reader, body = reader_of(wire, **dict.fromkeys(wire.rotated, "")), an_ack(wire)
    assert not reader.has_secret
    assert not any(reader.is_genuine(body, one) for one in (None, "", wire.sign(body, ""), wire.sign(body, SECRET)))


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"3", b'"words"', b"\xff\xfe{}", b"[" * 100_000, b'{"a":' * 100_000, b"{}" * 2],
    ids=lambda body: repr(body[:8]),
)
@every_wire
def test_junk_is_refused_as_a_whole(wire: Wire, body: bytes) -> None:
    """Fault 75."""
    with pytest.raises(UsageError) as caught:
        reader_of(wire).read(body)
    assert caught.value.code == "webhook"


@every_wire
def test_any_object_is_read_and_none_is_a_bug(wire: Wire) -> None:
    """Faults 75, 86."""
    reader = reader_of(wire)
    known = st.sampled_from(
        [
            *("event", "payload", "session", "session_id", "sessionId", "dataType", "data", "message", "ack", "id"),
            *("ids", "chat_id", "from", "to", "status", "state", "reason", "receipt_type", "timestamp", "fromMe"),
            *("message.ack", "message", "session.status", "message_ack", "disconnected", "qr", "shop", "object"),
            *("entry", "changes", "field", "value", "messages", "statuses", "whatsapp_business_account", "_serialized"),
            *(BARE, f"true_{DIGITS}@c.us_{BARE}", f"{DIGITS}@c.us", GROUP, "\ud800", ""),
        ]
    )
    shapes = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | known,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(known, inner, max_size=6),
        max_leaves=20,
    )
    good = [json.loads(build(BARE, f"{DIGITS}@c.us")) for build in wire.acks.values()]

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(shape=st.dictionaries(known, shapes, max_size=6), start=st.sampled_from([{}, *good]), over=st.booleans())
    def check(shape: dict[str, Any], start: dict[str, Any], over: bool) -> None:
        body = json.dumps({**start, **shape} if over else {**shape, **start}).encode()
        events = attempt(lambda: reader.read(body))
        assert isinstance(events, list) or events.code == "webhook"

    check()


@every_wire
def test_receipts_carry_the_bare_id_and_only_move_forward(wire: Wire) -> None:
    """Row Q4: what a send answered with is what its receipts are known by."""
    reader = reader_of(wire)
    known: Receipt | None = None
    assert {Receipt.DELIVERED, Receipt.READ} <= wire.acks.keys()
    for word, build in wire.acks.items():
        (event,) = reader.read(build(BARE, f"{DIGITS}@c.us"))
        assert isinstance(event, StatusEvent)
        assert (event.receipt, event.provider_message_id, event.participant) == (word, BARE, "")
        assert event.person is None or event.person.address == NUMBER
        if wire.provider.capabilities.is_linked_device:
            assert event.number_id == number_id_of(7)
        if word is not Receipt.FAILED:
            known = further(known, event.receipt)
            assert known is event.receipt
        else:
            assert event.refusal is not None


@every_gateway
def test_a_receipt_of_a_group_is_of_no_person(wire: Wire) -> None:
    """Issue 6, point 4."""
    (event,) = reader_of(wire).read(wire.acks[Receipt.DELIVERED](BARE, GROUP))
    assert isinstance(event, StatusEvent)
    assert (event.person, event.provider_message_id) == (None, BARE)


@every_gateway
def test_what_another_session_of_the_gateway_says_is_ignored(wire: Wire) -> None:
    assert wire.other_session is not None
    (event,) = reader_of(wire).read(wire.other_session)
    assert type(event).__name__ == "IgnoredEvent"


@every_wire
def test_an_id_that_we_chose_gives_the_tag_of_its_post_back(wire: Wire) -> None:
    """Promise P5: so an unknown settles although its answer was never seen."""
    capabilities = wire.provider.capabilities
    assert capabilities.custom_id_kinds <= capabilities.kinds
    for kind in sorted(capabilities.custom_id_kinds):

        async def script(exchange: Exchange) -> None:
            exchange.reset()

        outcome, (request,) = post_once(wire, script, make_post(wire.contents()[kind]))
        assert isinstance(outcome, Ambiguous)
        chosen = json.loads(request.body)["id"]
        (event,) = reader_of(wire).read(wire.acks[Receipt.SENT](chosen, f"{DIGITS}@c.us"))
        assert isinstance(event, StatusEvent)
        assert event.tag == TAG
    (event,) = reader_of(wire).read(an_ack(wire))
    assert isinstance(event, StatusEvent)
    assert event.tag is None  # of somebody else's choosing


# --- gateways ------------------------------------------------------------------------------------------------------


def steer(
    wire: Wire, script: Callable[[Exchange], Awaitable[None]] | None, use: Callable[[Gateway], Awaitable[Any]]
) -> tuple[Any, list[Exchange]]:
    """What the use returns.  script: None where nothing listens."""

    async def main() -> tuple[Any, list[Exchange]]:
        if script is None:
            gateway = wire.provider.open_gateway(wire.account(f"http://127.0.0.1:{closed_port()}"))
            try:
                return await use(gateway), []
            finally:
                await gateway.close()
        async with ScriptedServer(script) as server:
            gateway = wire.provider.open_gateway(wire.account(f"http://127.0.0.1:{server.port}"))
            try:
                return await use(gateway), list(server.requests)
            finally:
                await gateway.close()

    return asyncio.run(main())


def routed(answers: Mapping[str, Answered]) -> Callable[[Exchange], Awaitable[None]]:
    async def script(exchange: Exchange) -> None:
        path = exchange.request_line.split()[1].partition("?")[0]
        status, body = answers.get(path, (404, b"<html>Cannot GET</html>"))
        await exchange.answer(body, status)

    return script


@pytest.mark.parametrize(
    ("wire", "answers", "state"),
    [
        pytest.param(wire, answers, state, id=f"{wire.name}: {label}")
        for wire in LINKED
        for label, answers, state in wire.looks
    ],
)
def test_every_state_of_a_gateway_is_known(wire: Wire, answers: Mapping[str, Answered], state: str) -> None:
    """Issue 6, point 5; row H9."""
    connection, _requests = steer(wire, routed(answers), lambda gateway: gateway.look())
    assert connection.state == state
    assert connection.raw
    assert (connection.reason is None) == (state == "ready")
    assert "canary" not in repr(connection)


CALLS: Mapping[str, Callable[[Gateway], Awaitable[Any]]] = {
    "look": lambda gateway: gateway.look(),
    "start": lambda gateway: gateway.start(),
    "restart": lambda gateway: gateway.restart(RestartKind.SOFT),
    "fetch_qr": lambda gateway: gateway.fetch_qr(),
    "request_code": lambda gateway: gateway.request_code(NUMBER),
    "list_groups": lambda gateway: gateway.list_groups(),
    "read_group": lambda gateway: gateway.read_group(GROUP),
    "check_number": lambda gateway: gateway.check_number(NUMBER),
    "subscribe": lambda gateway: gateway.subscribe("http://127.0.0.1:9/hook"),
}


@pytest.mark.parametrize("call", CALLS)
@every_gateway
def test_a_gateway_that_is_down_is_temporary(wire: Wire, call: str) -> None:
    """Row H10: that says nothing of the device."""
    with pytest.raises(Temporary) as caught:
        steer(wire, None, CALLS[call])
    assert caught.value.code == "gateway_down"
    assert "canary" not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("call", CALLS)
@every_gateway
def test_a_gateway_that_refuses_the_key_says_so_without_it(wire: Wire, call: str) -> None:
    """Fault 61, promise P11."""
    with pytest.raises(UsageError) as caught:
        steer(wire, answering(wire.bad_key), CALLS[call])
    assert caught.value.code == "gateway_key"
    assert "canary" not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("call", CALLS)
@every_gateway
def test_steering_follows_no_redirect(wire: Wire, call: str) -> None:
    """The key goes to the address that was given, and nowhere else."""
    paths: list[str] = []

    async def script(exchange: Exchange) -> None:
        paths.append(exchange.request_line.split()[1])
        await exchange.answer(b"", 307, headers=(("Location", "/elsewhere"),))

    attempt(lambda: steer(wire, script, CALLS[call]))
    assert paths
    assert "/elsewhere" not in paths


@pytest.mark.parametrize("call", CALLS)
@every_gateway
def test_no_answer_at_all_makes_a_gateway_a_bug(wire: Wire, call: str) -> None:
    """Fault 86: whoever answers at the address, it is an error that can be explained, or a plain result."""
    for answered in ((200, b""), (200, b"{}"), (200, b"[]"), (200, b"<html>"), (500, b"{}"), (418, b"null")):
        result = attempt(lambda answered=answered: steer(wire, answering(answered), CALLS[call]))
        assert "canary" not in (f"{result.message} {result.hint}" if isinstance(result, WaError) else repr(result))


@every_gateway
def test_a_look_up_that_fails_is_no_no(wire: Wire) -> None:
    """Issue 6, point 2: unknown costs nobody a message."""
    for answered in (wire.unchecked, (200, b"{}"), (200, b"<html>")):
        found, _requests = steer(wire, answering(answered), lambda gateway: gateway.check_number(NUMBER))
        assert found.verdict is OnWhatsApp.UNKNOWN
        assert DIGITS not in (found.details or "")


@every_gateway
def test_a_restart_never_logs_out(wire: Wire) -> None:
    """Row H11: and a kind that a gateway does not have is refused."""
    _label, answers, _state = wire.looks[0]
    for kind in RestartKind:
        paths: list[str] = []

        async def script(exchange: Exchange, paths: list[str] = paths) -> None:
            path = exchange.request_line.split()[1].partition("?")[0]
            paths.append(path)
            status, body = answers.get(path, (200, b'{"success":true,"code":"SUCCESS","status":"STOPPED","name":"s"}'))
            if "stop" in "".join(paths) and path in answers and wire.name == "waha":
                body = body.replace(b"WORKING", b"STOPPED")
            await exchange.answer(body, status)

        result = attempt(lambda script=script, kind=kind: steer(wire, script, lambda one: one.restart(kind)))
        assert isinstance(result, WaError) == (kind not in wire.provider.capabilities.restarts)
        assert not isinstance(result, WaError) or result.code == "restart_kind"
        assert not any(word in path for path in paths for word in ("logout", "terminate"))


@every_wire
def test_neither_the_account_nor_what_it_opens_shows_a_secret(wire: Wire) -> None:
    """Promise P11, fault 84."""
    account = wire.account("http://127.0.0.1:9")

    async def main() -> list[object]:
        transport = wire.provider.open_transport(account)
        await transport.close()
        opened: list[object] = [account, transport, wire.provider, reader_of(wire)]
        if wire.provider.capabilities.is_linked_device:
            gateway = wire.provider.open_gateway(account)
            await gateway.close()
            opened.append(gateway)
        return opened

    assert all("canary" not in repr(one) for one in asyncio.run(main()))


@every_wire
def test_an_address_that_cannot_be_meant_is_refused_before_anything_is_sent(wire: Wire) -> None:
    """Fault 86."""
    for url in ("not a url", "ftp://127.0.0.1/x", "http://user:pass@127.0.0.1:3000", "http://127.0.0.1:3000/?a=b"):
        with pytest.raises(UsageError) as caught:
            wire.provider.check({**wire.values, "url": url})
        assert "pass" not in caught.value.message.replace("password", "")


@pytest.mark.parametrize("wire", [wire for wire in WIRES if wire not in LINKED], ids=lambda wire: wire.name)
def test_what_has_no_linked_device_has_no_gateway(wire: Wire) -> None:
    with pytest.raises(UsageError) as caught:
        wire.provider.open_gateway(wire.account("http://127.0.0.1:9"))
    assert caught.value.code == "no_gateway"
