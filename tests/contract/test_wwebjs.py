"""wwebjs-api as a transport: the body of each kind, what steers a session, what its webhooks say.  Issue 6, point 2."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from played_wwebjs import KEY, PAGE, PlayedWwebjs
from scripted_server import ScriptedServer
from wires import BARE, CONTENTS, FILE_BYTES, GROUP, SESSION, WWEBJS

from wa_cli.domain.connection import ConnectionState, OnWhatsApp, RestartKind
from wa_cli.domain.event import ConnectionEvent, IgnoredEvent, InboundEvent
from wa_cli.domain.message import ContactCard, LocalFile, Location, Media, MediaKind, Poll, Text
from wa_cli.domain.outcome import Accepted, ErrorClass, Rejected
from wa_cli.domain.recipient import RecipientKind
from wa_cli.errors import GatewayRefused, UsageError
from wa_cli.ports import Post
from wa_cli.transports.wwebjs.answer import read_answer
from wa_cli.transports.wwebjs.provider import PROVIDER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from wa_cli.domain.event import Event
    from wa_cli.domain.message import Content
    from wa_cli.domain.outcome import Outcome
    from wa_cli.provider import Account, Gateway

NUMBER = "+6581234567"
FILE = LocalFile(digest="ab" * 32, mime_type="application/pdf", size=len(FILE_BYTES))


@asynccontextmanager
async def playing(played: PlayedWwebjs) -> AsyncIterator[Account]:
    async with ScriptedServer(played) as server:
        yield WWEBJS.account(f"http://127.0.0.1:{server.port}")


def send(played: PlayedWwebjs, content: Content, *, to: str = NUMBER) -> Outcome:
    async def main() -> Outcome:
        async with playing(played) as account:
            transport = PROVIDER.open_transport(account)
            try:
                kind = RecipientKind.GROUP if to.endswith("@g.us") else RecipientKind.PERSON
                return await transport.send(Post(tag="wa1.x.1", address=to, kind=kind, content=content))
            finally:
                await transport.close()

    return asyncio.run(main())


def steer(played: PlayedWwebjs, use: Callable[[Gateway], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with playing(played) as account:
            gateway = PROVIDER.open_gateway(account)
            try:
                return await use(gateway)
            finally:
                await gateway.close()

    return asyncio.run(main())


# --- sends ---------------------------------------------------------------------------------------------------------

TEXT_OPTIONS = {"linkPreview": False, "parseVCards": False}
BODIES: list[tuple[Content, str, Any, dict[str, Any]]] = [
    (Text(body="Doors open"), "string", "Doors open", TEXT_OPTIONS),
    (Text(body="see", preview_url=True), "string", "see", {**TEXT_OPTIONS, "linkPreview": True}),
    (CONTENTS["image"], "MessageMediaFromURL", "https://example.com/a.jpg", {"caption": "the hall"}),
    (CONTENTS["document"], "MessageMediaFromURL", "https://example.com/menu.pdf", {"sendMediaAsDocument": True}),
    (CONTENTS["voice"], "MessageMediaFromURL", "https://example.com/a.ogg", {"sendAudioAsVoice": True}),
    (CONTENTS["sticker"], "MessageMediaFromURL", "https://example.com/a.webp", {"sendMediaAsSticker": True}),
    (
        Media(kind=MediaKind.DOCUMENT, file=FILE, filename="menu.pdf"),
        "MessageMedia",
        {"mimetype": "application/pdf", "data": base64.b64encode(FILE_BYTES).decode(), "filename": "menu.pdf"},
        {"sendMediaAsDocument": True},
    ),
    (
        Location(latitude="1.2966", longitude="103.7764", name="Hall", address="Kent Ridge"),
        "Location",
        {"latitude": 1.2966, "longitude": 103.7764, "description": "Hall\nKent Ridge"},
        {},
    ),
    (
        Poll(question="When?", options=("six", "seven"), max_answers=0),
        "Poll",
        {"pollName": "When?", "pollOptions": ["six", "seven"], "options": {"allowMultipleAnswers": True}},
        {},
    ),
]


@pytest.mark.parametrize(
    ("content", "sort", "said", "options"), BODIES, ids=[f"{one[1]}-{n}" for n, one in enumerate(BODIES)]
)
def test_each_kind_has_its_content_type(content: Content, sort: str, said: Any, options: dict[str, Any]) -> None:
    """Issue 6, point 3; row H13."""
    played = PlayedWwebjs(shop="CONNECTED")
    assert isinstance(send(played, content), Accepted)
    options = {"waitUntilMsgSent": True, **options}
    assert played.sent == [{"chatId": "6581234567@c.us", "contentType": sort, "content": said, "options": options}]


def test_a_card_is_written_out_with_the_name_that_it_was_given() -> None:
    """The gateway's own contact type shows whatever the phone calls the person."""
    played = PlayedWwebjs(shop="CONNECTED")
    send(played, ContactCard(name="Ada; Lovelace", phone="+6581230001", organization="Club"))
    (sent,) = played.sent
    assert (sent["contentType"], sent["options"]) == ("string", {"waitUntilMsgSent": True, "parseVCards": True})
    assert sent["content"].startswith("BEGIN:VCARD\nVERSION:3.0\nFN:Ada\\; Lovelace\n")
    assert "waid=6581230001:+6581230001\nEND:VCARD" in sent["content"]


def test_words_that_look_like_a_card_stay_words() -> None:
    played = PlayedWwebjs(shop="CONNECTED")
    send(played, Text(body="BEGIN:VCARD\nFN:x\nEND:VCARD"))
    assert played.sent[0]["options"]["parseVCards"] is False


def test_a_group_is_written_to_by_its_whole_id() -> None:
    """Issue 6, point 4."""
    played = PlayedWwebjs(shop="CONNECTED")
    send(played, Text(body="hello"), to=GROUP)
    assert played.sent[0]["chatId"] == GROUP


@pytest.mark.parametrize(
    ("sessions", "state"), [({}, ConnectionState.DISCONNECTED), ({"shop": "OPENING"}, ConnectionState.CONNECTING)]
)
def test_a_send_to_what_is_not_connected_keeps_the_message(sessions: dict[str, str], state: ConnectionState) -> None:
    """Row H9."""
    outcome = send(PlayedWwebjs(**sessions), Text(body="hello"))
    assert isinstance(outcome, Rejected)
    assert (outcome.error_class, outcome.connection) == (ErrorClass.NOT_READY, state)


@pytest.mark.parametrize(
    ("status", "body", "error_class"),
    [
        (400, PAGE, ErrorClass.DEAD_MESSAGE),
        (422, b'{"success":false,"error":"Session should be alphanumerical or -"}', ErrorClass.DEAD_MESSAGE),
        (413, PAGE, ErrorClass.DEAD_MESSAGE),
        (403, b'{"success":false,"error":"Invalid API key"}', ErrorClass.STOP),
        (404, b"<html>Cannot POST</html>", ErrorClass.STOP),
        (429, b'{"success":false,"error":"You can only make 1000 requests"}', ErrorClass.THROTTLE),
    ],
)
def test_what_is_refused_before_the_browser_is_touched_is_certain(
    status: int, body: bytes, error_class: ErrorClass
) -> None:
    """Promise P4."""
    outcome = read_answer(status, {"Retry-After": "30"}, body)
    assert isinstance(outcome, Rejected)
    assert outcome.error_class is error_class
    assert outcome.wait_seconds == (30.0 if error_class is ErrorClass.THROTTLE else None)


# --- steering ------------------------------------------------------------------------------------------------------


def test_a_connected_session_tells_its_own_number() -> None:
    found = steer(PlayedWwebjs(shop="CONNECTED"), lambda gateway: gateway.look())
    assert (found.state, found.address) == (ConnectionState.READY, "+6581239999")


def test_a_session_is_made_once_and_starting_it_again_is_harmless() -> None:
    played = PlayedWwebjs()

    async def twice(gateway: Gateway) -> None:
        await gateway.start()
        await gateway.start()

    steer(played, twice)
    assert played.sessions == {"shop": "OPENING"}


@pytest.mark.parametrize(
    ("kind", "is_there", "called"),
    [
        (RestartKind.SOFT, True, ["GET /session/restart/shop"]),
        (RestartKind.SOFT, False, ["GET /session/restart/shop", "GET /session/start/shop"]),
        (RestartKind.HARD, True, ["GET /session/stop/shop", "GET /session/start/shop"]),
    ],
)
def test_restarts_are_the_gateways_own_or_a_stop_and_a_start(
    kind: RestartKind, is_there: bool, called: list[str]
) -> None:
    """Row H11: the pairing stays."""
    played = PlayedWwebjs(**({"shop": "CONNECTED"} if is_there else {}))
    steer(played, lambda gateway: gateway.restart(kind))
    assert played.called == called
    assert "shop" in played.sessions


def test_pairing_by_code_and_by_qr_while_the_session_waits_for_it() -> None:
    """Issue 6, point 5."""
    played = PlayedWwebjs(shop=None)
    played.qr["shop"] = "2@the,code"
    assert steer(played, lambda gateway: gateway.fetch_qr()).text == "2@the,code"
    assert steer(played, lambda gateway: gateway.request_code(NUMBER)) == "ABCD1234"
    played.qr.clear()
    for call in (lambda gateway: gateway.fetch_qr(), lambda gateway: gateway.request_code(NUMBER)):
        with pytest.raises(GatewayRefused) as caught:
            steer(played, call)
        assert caught.value.hint == "it does so only while the session waits to be paired"


def chat(number: int, name: str, **metadata: Any) -> dict[str, Any]:
    address = f"12036302524612{number:04}@g.us"
    return {"id": {"_serialized": address}, "name": name, "isGroup": True, "groupMetadata": metadata}


def test_groups_are_the_chats_that_are_groups() -> None:
    """Issue 6, point 4."""
    members = [
        {"id": {"_serialized": "6581230001@c.us"}, "isAdmin": False},
        {"id": {"_serialized": "6581239999@c.us"}, "isAdmin": False},
    ]
    played = PlayedWwebjs(shop="CONNECTED")
    played.chats = [
        chat(2, "Zumba", participants=members, announce=True),
        {"id": {"_serialized": "6581230001@c.us"}, "name": "Ada", "isGroup": False},
        chat(1, "Choir", participants=members, announce=False),
    ]
    groups = steer(played, lambda gateway: gateway.list_groups())
    assert [(group.name, group.size) for group in groups] == [("Choir", 2), ("Zumba", 2)]
    one = steer(played, lambda gateway: gateway.read_group("120363025246120002@g.us"))
    assert one.participants == ("+6581230001", "+6581239999")
    assert one.may_post is False  # only admins may, and we are none
    assert steer(played, lambda gateway: gateway.read_group("120363025246129999@g.us")) is None


def test_a_number_is_on_whatsapp_or_is_not() -> None:
    played = PlayedWwebjs(shop="CONNECTED")
    played.registered = {"6581230001": True, "6581230002": False}
    verdicts = [
        steer(played, lambda gateway, phone=phone: gateway.check_number(phone)).verdict
        for phone in ("+6581230001", "+6581230002")
    ]
    assert verdicts == [OnWhatsApp.YES, OnWhatsApp.NO]
    asked = steer(PlayedWwebjs(), lambda gateway: gateway.check_number("+6581230001"))
    assert asked.verdict is OnWhatsApp.UNKNOWN  # the session is not there


def test_a_gateway_is_told_where_to_post_or_its_person_is() -> None:
    played = PlayedWwebjs(shop="CONNECTED")
    steer(played, lambda gateway: gateway.subscribe("http://10.0.0.1:8080/hook"))
    assert played.webhooks == {"shop": "http://10.0.0.1:8080/hook"}
    played.is_old = True
    with pytest.raises(GatewayRefused) as caught:
        steer(played, lambda gateway: gateway.subscribe("http://10.0.0.1:8080/hook"))
    assert "BASE_WEBHOOK_URL=http://10.0.0.1:8080/hook" in (caught.value.hint or "")


def test_the_doctor_says_how_the_session_stands() -> None:
    """Issue 6, point 8; promise P11."""

    async def main(played: PlayedWwebjs, **values: str) -> list[tuple[str, str]]:
        async with ScriptedServer(played) as server:
            account = WWEBJS.account(f"http://127.0.0.1:{server.port}", **values)
            found = await asyncio.to_thread(PROVIDER.inspect, account, online=True)
            assert "canary" not in repr(found)
            return [(one.level.value, one.name) for one in found]

    assert asyncio.run(main(PlayedWwebjs(shop="CONNECTED")))[-1] == ("ok", "session")
    assert asyncio.run(main(PlayedWwebjs(shop="UNPAIRED")))[-1] == ("fail", "session")
    assert asyncio.run(main(PlayedWwebjs(), key="canary-wrong"))[-1] == ("fail", "key")


@pytest.mark.parametrize("session", ["a/b", "../x", "a b", "é", "x" * 55])
def test_a_session_name_that_the_gateway_does_not_take_is_refused(session: str) -> None:
    """Fault 86."""
    with pytest.raises(UsageError):
        PROVIDER.check({"url": "http://127.0.0.1:3000", "session": session})


# --- webhooks ------------------------------------------------------------------------------------------------------


def read(event: str, data: Any) -> Event:
    reader = PROVIDER.webhook_reader(WWEBJS.account("http://127.0.0.1:9"))
    (found,) = reader.read(json.dumps({"dataType": event, "data": data, "sessionId": SESSION}).encode())
    return found


@pytest.mark.parametrize(
    ("event", "data", "state"),
    [
        ("qr", {"qr": "2@x"}, "needs_qr"),
        ("authenticated", None, "connecting"),
        ("ready", None, "ready"),
        ("change_state", {"state": "CONNECTED"}, "ready"),
        ("change_state", {"state": "UNPAIRED"}, "needs_qr"),
        ("change_state", {"state": "CONFLICT"}, "error"),
        ("disconnected", {"reason": "LOGOUT"}, "auth_failure"),
        ("disconnected", {"reason": "UNPAIRED"}, "auth_failure"),
        ("disconnected", {"reason": "NAVIGATION"}, "disconnected"),
        ("status", {"msg": "Session not authenticated for +6581234567"}, "auth_failure"),
    ],
)
def test_what_is_told_of_the_session_is_its_state(event: str, data: Any, state: str) -> None:
    """Issue 6, point 5."""
    found = read(event, data)
    assert isinstance(found, ConnectionEvent)
    assert found.connection.state == state
    assert found.at_ms == 0  # it does not say when
    assert "6581234567" not in repr(found)


def message(**fields: Any) -> dict[str, Any]:
    key = {"fromMe": False, "remote": "6581230001@c.us", "id": BARE, "_serialized": f"false_6581230001@c.us_{BARE}"}
    shape = {"id": key, "fromMe": False, "from": "6581230001@c.us", "body": "STOP", "type": "chat"}
    return {"message": {**shape, "timestamp": 1793900000, "_data": {"notifyName": "Ada"}, **fields}}


def test_what_people_write_is_heard() -> None:
    """So that STOP counts on every transport."""
    found = read("message", message())
    assert isinstance(found, InboundEvent)
    assert found.person.address == "+6581230001"
    assert (found.person.name, found.kind, found.words, found.at_ms) == ("Ada", "text", "STOP", 1_793_900_000_000)


def test_a_reaction_and_a_call_are_heard() -> None:
    key = {"fromMe": False, "_serialized": f"false_6581230001@c.us_{BARE}", "remote": "6581230001@c.us"}
    target = {"_serialized": "true_6581230001@c.us_3EB0AAAAAAAAAAAAAAAAAA"}
    reaction = {"id": key, "msgId": target, "reaction": "👍", "senderId": "6581230001@c.us", "timestamp": 1793900000}
    found = read("message_reaction", {"reaction": reaction})
    assert isinstance(found, InboundEvent)
    assert (found.kind, found.words, found.context_message_id) == ("reaction", "👍", "3EB0AAAAAAAAAAAAAAAAAA")
    call = {"id": "CALL1", "from": "6581230001@c.us", "timestamp": 1793900000, "isGroup": False, "fromMe": False}
    called = read("call", {"call": call})
    assert isinstance(called, InboundEvent)
    assert called.kind == "call"


@pytest.mark.parametrize(
    ("event", "data"),
    [
        ("message", message(fromMe=True)),
        ("message", message(**{"from": GROUP, "author": "6581230001@c.us"})),
        ("message", message(**{"from": "status@broadcast"})),
        ("message_ack", {"message": message()["message"], "ack": 3}),
        ("message_ack", {"message": {}, "ack": 3}),
        ("message_ack", {"message": {"id": {"_serialized": f"true_6581230001@c.us_{BARE}"}}, "ack": True}),
        ("vote_update", {}),
        ("loading_screen", {"percent": 3}),
    ],
)
def test_what_is_nobodys_word_to_us_is_ignored(event: str, data: Any) -> None:
    """Fault 75."""
    assert isinstance(read(event, data), IgnoredEvent)


def test_the_players_key_is_the_contracts() -> None:
    assert WWEBJS.values["key"] == KEY
