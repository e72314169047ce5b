"""Reading an account's templates: from the sandbox, and from a server that says what a test wants."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from scripted_server import Exchange, ScriptedServer

from wa_cli.domain.template import StoredButton, StoredTemplate
from wa_cli.errors import NeedsPerson, Temporary, UsageError, WaError
from wa_cli.sandbox.runner import serve_in_thread
from wa_cli.sandbox.settings import SandboxSettings, SandboxTemplate, TemplateStatus
from wa_cli.transports.cloud_api.templates import PAGE_SIZE, fetch_templates

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TOKEN = "EAAcanaryTOKENcanary0123456789"
NUMBER = "106540352242922"
ACCOUNT = "102290129340398"
ROW: dict[str, Any] = {"name": "sale", "language": "en_US", "status": "APPROVED", "category": "MARKETING"}


def test_the_sandbox_lists_its_templates_page_by_page() -> None:
    """Issue 5, point 2: approved templates are read from the account, which the number names itself."""
    many = tuple(
        SandboxTemplate(name=f"t{number:03}", body="Hi {{1}} and {{2}}", status=status)
        for number, status in enumerate(list(TemplateStatus) * 12)
    )
    rich = SandboxTemplate(
        name="sale",
        language="de",
        category="MARKETING",
        body="Hi {{first_name}}",
        header="IMAGE",
        footer="STOP to leave",
        buttons=(
            {"type": "URL", "text": "Shop", "url": "https://example.org/{{1}}"},
            {"type": "QUICK_REPLY", "text": "Stop"},
        ),
        quality="RED",
        status=TemplateStatus.PAUSED,
    )
    with serve_in_thread(SandboxSettings(templates=(*many, rich))) as sandbox:
        found = fetch_templates(sandbox.messages_url, "sandbox-token")
        named = fetch_templates(sandbox.messages_url, "sandbox-token", business_account_id=f" {ACCOUNT} ")
    assert found == named
    assert len(found) == len(many) + 1 > 2 * PAGE_SIZE
    assert {one.status for one in found} == {status.value for status in TemplateStatus}
    assert found[0] == StoredTemplate(
        name="sale",
        language="de",
        status="PAUSED",
        category="MARKETING",
        is_named=True,
        header_kind="image",
        body="Hi {{first_name}}",
        footer="STOP to leave",
        buttons=(
            StoredButton(kind="url", text="Shop", url="https://example.org/{{1}}"),
            StoredButton(kind="quick_reply", text="Stop"),
        ),
        quality="RED",
    )
    assert found[1].parameters == ("1", "2")
    assert next(one for one in found if one.status == "REJECTED").rejected_reason == "INVALID_FORMAT"


def read(
    script: Callable[[Exchange], Awaitable[None]], *, account: str = ACCOUNT, timeout_seconds: float = 5.0
) -> tuple[list[StoredTemplate] | WaError, ScriptedServer]:
    """The templates, or why there are none."""

    async def scenario() -> tuple[list[StoredTemplate] | WaError, ScriptedServer]:
        async with ScriptedServer(script) as server:
            url = f"http://127.0.0.1:{server.port}/v25.0/{NUMBER}/messages"

            def fetch() -> list[StoredTemplate] | WaError:
                try:
                    return fetch_templates(url, TOKEN, business_account_id=account, timeout_seconds=timeout_seconds)
                except WaError as error:
                    return error

            return await asyncio.to_thread(fetch), server

    return asyncio.run(scenario())


def answering(shape: Any, status: int = 200, **options: Any) -> Callable[[Exchange], Awaitable[None]]:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(json.dumps(shape).encode(), status, **options)

    return script


def query_of(exchange: Exchange) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(exchange.request_line.split()[1]).query).items()}


def test_the_next_page_is_asked_for_by_its_cursor_and_not_by_the_address_in_the_answer() -> None:
    """Promise P11: the token goes nowhere else."""

    async def script(exchange: Exchange) -> None:
        last = query_of(exchange).get("after") == "B"
        paging = {"cursors": {"after": "C" if last else "B"}, "next": None if last else "https://elsewhere.example/"}
        row = ROW | {"name": "b" if last else "a"}
        await exchange.answer(json.dumps({"data": [row], "paging": paging}).encode())

    found, server = read(script)
    assert isinstance(found, list)
    assert [one.name for one in found] == ["a", "b"]
    assert [urlsplit(one.request_line.split()[1]).path for one in server.requests] == [
        f"/v25.0/{ACCOUNT}/message_templates"
    ] * 2
    assert {one.header("Authorization") for one in server.requests} == {f"Bearer {TOKEN}"}


def test_fields_that_an_older_version_does_not_know_are_left_out() -> None:
    async def script(exchange: Exchange) -> None:
        if "parameter_format" in exchange.request_line:
            error = {"message": "(#100) Tried accessing nonexisting field", "code": 100}
            await exchange.answer(json.dumps({"error": error}).encode(), 400)
        else:
            body = {"type": "BODY", "text": "Hi {{name}}"}
            await exchange.answer(json.dumps({"data": [ROW | {"components": [body]}]}).encode())

    found, _server = read(script)
    assert isinstance(found, list)
    assert (found[0].is_named, found[0].parameters) == (True, ("name",))


def test_what_no_message_of_ours_can_fill_is_remembered_and_not_dropped() -> None:
    components = [
        {"type": "HEADER", "format": "LOCATION"},
        {"type": "BODY", "text": "Hi"},
        {"type": "CAROUSEL", "cards": []},
        {"type": "BUTTONS", "buttons": [{"type": "MPM", "text": "View"}, {"type": "COPY_CODE", "text": "Copy"}]},
    ]
    found, _server = read(answering({"data": [ROW | {"components": components}]}))
    assert isinstance(found, list)
    assert found[0].header_kind == "location"
    assert found[0].others == ("carousel", "mpm button")
    assert [button.needs_value for button in found[0].buttons] == [False, True]


@pytest.mark.parametrize(
    ("shape", "status", "kind"),
    [
        ({"error": {"message": "x", "code": 190, "error_subcode": 463}}, 401, NeedsPerson),
        ({"error": {"message": "x", "code": 200}}, 403, NeedsPerson),
        ({"error": {"message": "x", "code": 10}}, 403, NeedsPerson),
        ({"error": {"message": "x", "code": 100, "error_subcode": 33}}, 400, UsageError),
        ({"error": {"message": "x", "code": 80007}}, 429, Temporary),
        ({"error": {"message": "x", "code": 100}}, 400, Temporary),
        ({"error": {"message": "x"}}, 500, Temporary),
        ({"data": "none"}, 200, Temporary),
        ({"data": [{"name": "x"}]}, 200, Temporary),
        ({"data": [ROW], "paging": {"next": "more"}}, 200, Temporary),
        ({"data": [ROW], "paging": {"cursors": {"after": "same"}, "next": "more"}}, 200, Temporary),
        ([], 200, Temporary),
        ({"data": []}, 302, Temporary),
    ],
)
def test_a_refusal_says_whose_turn_it_is(shape: Any, status: int, kind: type[WaError]) -> None:
    """Rows 61 and 62 of the faults; promise P11."""
    told, _server = read(answering(shape, status))
    assert isinstance(told, WaError)
    assert type(told) is kind
    assert told.hint
    assert TOKEN not in f"{told.message} {told.hint}"


def test_a_number_that_does_not_name_its_account_asks_for_a_setting() -> None:
    for shape, status in (
        ({"id": NUMBER}, 200),
        ({"id": NUMBER, "health_status": {"entities": [{"entity_type": "WABA", "id": "../x"}]}}, 200),
        ({"error": {"message": "no such field", "code": 100}}, 400),
    ):
        told, server = read(answering(shape, status), account="")
        assert isinstance(told, UsageError)
        assert "WHATSAPP_BUSINESS_ACCOUNT_ID" in (told.hint or "")
        assert query_of(server.requests[0]) == {"fields": "health_status"}


def test_an_id_that_cannot_be_meant_is_refused_before_anybody_is_asked() -> None:
    told, server = read(answering({}), account="12/../34")
    assert isinstance(told, UsageError)
    assert server.connections == 0


def test_a_list_that_goes_round_in_a_circle_is_left_at_once() -> None:
    told, server = read(answering({"data": [ROW], "paging": {"cursors": {"after": "same"}, "next": "more"}}))
    assert isinstance(told, Temporary)
    assert len(server.requests) == 2


def test_a_redirect_is_not_followed() -> None:
    """Promise P11: the token goes nowhere else."""

    async def scenario() -> None:
        async with ScriptedServer(answering({"data": [ROW]})) as elsewhere:
            place = f"http://127.0.0.1:{elsewhere.port}/v25.0/{ACCOUNT}/message_templates"
            async with ScriptedServer(answering({"data": []}, 302, headers=(("Location", place),))) as server:
                url = f"http://127.0.0.1:{server.port}/v25.0/{NUMBER}/messages"
                with pytest.raises(Temporary):
                    await asyncio.to_thread(fetch_templates, url, TOKEN, business_account_id=ACCOUNT)
            assert elsewhere.connections == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["hang", "reset", "giant", "closed"])
def test_an_answer_that_does_not_come_may_come_later(how: str) -> None:
    async def script(exchange: Exchange) -> None:
        if how == "hang":
            await asyncio.Event().wait()
        elif how == "reset":
            exchange.reset()
        else:
            await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
            while True:
                await exchange.write(b" " * 1_000_000)

    if how == "closed":
        with socket.socket() as unheard:
            unheard.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unheard.getsockname()[1]}/v25.0/{NUMBER}/messages"
            with pytest.raises(Temporary):
                fetch_templates(url, TOKEN, business_account_id=ACCOUNT, timeout_seconds=2.0)
        return
    told, _server = read(script, timeout_seconds=5.0 if how == "giant" else 0.3)
    assert isinstance(told, Temporary)
