"""The application: every route, what it needs to be allowed, and what it may answer."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, Response

from wa_cli import __version__
from wa_cli.domain.api_key import Scope
from wa_cli.domain.connection import RestartKind
from wa_cli.errors import Temporary, WaError
from wa_cli.web import clicks, failed, health, models, queue, send, webhooks
from wa_cli.web.errors import answer_bug, answer_error, describe
from wa_cli.web.metrics import Metrics
from wa_cli.web.reading import identify, invalid, read_idempotency_key, read_model
from wa_cli.web.restarts import Restarts
from wa_cli.web.store import StoreThread
from wa_cli.web.thrift import Thrift
from wa_cli.web.worker import BATCH_SIZE, Drain, Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

STATUS_CODES: Final[Mapping[int, tuple[str, str]]] = {
    404: ("not_found", "there is nothing at this address"),
    405: ("method", "this address does not take that method"),
}
MEANINGS: Final[Mapping[int, str]] = {
    400: "The call cannot be meant: a time, a number, a text that the platform would refuse",
    401: "No key, or one that is not this server's",
    403: "The key has not the scope",
    404: "There is no such thing",
    408: "The body came too slowly",
    409: "A list has moved on, or the first call with this Idempotency-Key is still running",
    413: "The body is too large",
    415: "The body is not JSON",
    422: "The body or the query does not have the shape, or the Idempotency-Key stands for other content",
    429: "The queue is full",
    500: "A bug in wa",
    503: "The store is busy or cannot be written; the same call may work later",
}
KEY_WORDS: Final = "A key of `wa serve key add NAME`, with the scope that x-scope names."
BODIES: Final[tuple[type[BaseModel], ...]] = (
    models.SendToSubgroup,
    models.SendMessage,
    models.SendBatch,
    models.SendCampaign,
    models.Resend,
    models.ResendChosen,
    models.Restart,
)
PAGE: Final = 10_000
READS: Final = (401, 403, 422, 500, 503)
WRITES: Final = (400, 401, 403, 408, 409, 413, 415, 422, 500, 503)
SENDS: Final = (*WRITES, 404, 429)

SubgroupWord = Annotated[str, Path(description="The name of a subgroup, or its id.", min_length=1, max_length=200)]
InstanceWord = Annotated[str, Path(description="The name of an instance.", min_length=1, max_length=200)]
# Anything else is answered the same as a forged one, with the page for people.
TokenWord = Annotated[
    str,
    Path(
        description="Made for one recipient and link, and signed.",
        json_schema_extra={"pattern": "^[A-Za-z0-9_-]{15,54}$"},
    ),
]


class Web:
    """What the routes of one server share.

    drain: how `POST /api/queue/worker` sends.  requests: how often each (method,
    route, status) was answered.  webhooks, clicks, worker, metrics: there once it serves, since they belong to its
    event loop.
    """

    def __init__(self, store: StoreThread, drain: Drain | None) -> None:
        self.store = store
        self.drain = drain
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.started_at = time.monotonic()
        self.thrift = Thrift()
        self.webhooks: webhooks.WebhookDoor | None = None
        self.clicks: clicks.ClickDoor | None = None
        self.worker: Worker | None = None
        self.restarts: Restarts | None = None
        self.metrics: Metrics | None = None

    def stop(self) -> None:
        """Let whatever would go on for long come to its end."""
        if self.worker is not None:
            self.worker.stopping.set()


def build_application(web: Web) -> FastAPI:
    """The ASGI application."""

    @asynccontextmanager
    async def lifespan(_application: FastAPI) -> AsyncIterator[None]:
        web.webhooks = webhooks.WebhookDoor(web.store)
        web.worker = Worker(web.store, web.drain) if web.drain is not None else None
        web.clicks = clicks.ClickDoor(web.store)
        web.restarts = Restarts(web.store)
        web.metrics = Metrics(web.store, web.requests, web.thrift, web.clicks)
        reading = asyncio.create_task(web.webhooks.read(), name="read-webhooks")
        try:
            yield
        finally:
            await web.webhooks.close()
            await web.clicks.close()
            await web.restarts.close()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    application = FastAPI(
        title="wa",
        version=__version__,
        description="Queue WhatsApp messages, follow them, and send again what failed.",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        openapi_url="/openapi.json",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    _add_error_handlers(application)
    _add_sending(application, web)
    _add_failed(application, web)
    _add_queue(application, web)
    _add_health(application, web)
    _add_webhooks(application, web)
    _add_links(application, web)
    application.openapi = lambda: _describe(application)  # type: ignore[method-assign]  # the way FastAPI has for it
    return application


def _describe(application: FastAPI) -> dict[str, Any]:
    """What /openapi.json says: FastAPI's own, with the bodies that we read ourselves, and the keys."""
    if application.openapi_schema is None:
        schema = get_openapi(
            title=application.title,
            version=application.version,
            description=application.description,
            routes=application.routes,
        )
        components = schema.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        for model in BODIES:
            described = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(described.pop("$defs", {}))
            schemas[model.__name__] = described
        for answers in (one["responses"] for path in schema["paths"].values() for one in path.values()):
            for status, answer in answers.items():
                # An error is JSON also where the answer is plain text; but people open short links in a browser.
                if status >= "400" and "text/html" not in answer.get("content", {}):
                    answer["content"] = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": KEY_WORDS}}
        application.openapi_schema = schema
    return application.openapi_schema


# --- errors ---


def _add_error_handlers(application: FastAPI) -> None:
    @application.exception_handler(WaError)
    async def explain(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, WaError)
        return answer_error(error)

    @application.exception_handler(RequestValidationError)
    async def name_fields(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return answer_error(invalid([(".".join(map(str, one["loc"][1:])), one["msg"]) for one in error.errors()]))

    @application.exception_handler(Exception)
    async def admit(_request: Request, _error: Exception) -> JSONResponse:
        return answer_bug()

    @application.exception_handler(ClientDisconnect)
    async def shrug(_request: Request, _error: Exception) -> Response:
        return Response(status_code=400)  # nobody is there to read it

    @application.exception_handler(HTTPException)
    async def reshape(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code, message = STATUS_CODES.get(error.status_code, ("http", str(error.detail)))
        return JSONResponse(
            describe(code, message, hint="/openapi.json lists what there is"),
            status_code=error.status_code,
            headers=error.headers,
        )


def _answers(model: type[BaseModel] | None, *statuses: int, good: int = 200) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: what it answers when it works, and the one error shape for everything else."""
    answers: dict[int | str, dict[str, Any]] = {
        status: {"model": models.ErrorAnswer, "description": MEANINGS[status]} for status in sorted(set(statuses))
    }
    if model is not None:
        answers[good] = {"model": model}
    return answers


def _body(model: type[BaseModel], *, takes_key: bool = False, is_required: bool = True) -> dict[str, Any]:
    """The `openapi_extra` of a route whose body is read after the caller was identified."""
    assert model in BODIES
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    parameters: list[dict[str, Any]] = [
        {
            "name": "x-user-id",
            "in": "header",
            "required": False,
            "description": "For whom the call is made: recorded, never trusted.",
            "schema": {"type": "string", "maxLength": 200},
        }
    ]
    if takes_key:
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "A name for this call: the same call with it queues nothing more.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            }
        )
    return {
        "requestBody": {"required": is_required, "content": {"application/json": {"schema": schema}}},
        "parameters": parameters,
    }


def _secured(scope: Scope, extra: dict[str, Any] | None = None) -> dict[str, Any]:
    return {**(extra or {}), "security": [{"key": []}], "x-scope": scope.value}


# --- routes ---


def _add_sending(application: FastAPI, web: Web) -> None:
    @application.post(
        "/api/subgroups/{subgroup:path}/send",
        status_code=202,
        summary="Queue one message for every member of a subgroup, spaced",
        responses={**_answers(models.SendAnswer, *SENDS, good=202), 200: {"model": models.SendAnswer}},
        openapi_extra=_secured(Scope.SEND, _body(models.SendToSubgroup, takes_key=True)),
    )
    async def send_to_subgroup(request: Request, subgroup: SubgroupWord) -> Response:
        caller = await identify(request, web.store, Scope.SEND)
        key = read_idempotency_key(request)
        asked = await read_model(request, models.SendToSubgroup)
        return await send.queue_after_a_look(
            web.store,
            lambda app, looked: send.send_to_subgroup(app, subgroup, asked, caller=caller, key=key, looked=looked),
        )

    @application.post(
        "/api/messages/send",
        status_code=202,
        summary="Queue one message for one recipient",
        responses={**_answers(models.MessageAnswer, *SENDS, good=202), 200: {"model": models.MessageAnswer}},
        openapi_extra=_secured(Scope.SEND, _body(models.SendMessage, takes_key=True)),
    )
    async def send_message(request: Request) -> Response:
        caller = await identify(request, web.store, Scope.SEND)
        key = read_idempotency_key(request)
        asked = await read_model(request, models.SendMessage)
        return await send.queue_after_a_look(
            web.store, lambda app, looked: send.send_message(app, asked, caller=caller, key=key, looked=looked)
        )

    @application.post(
        "/api/messages/batch",
        status_code=202,
        summary="Queue a message of their own for each of many recipients",
        responses={**_answers(models.SendAnswer, *SENDS, good=202), 200: {"model": models.SendAnswer}},
        openapi_extra=_secured(Scope.SEND, _body(models.SendBatch, takes_key=True)),
    )
    async def send_batch(request: Request) -> Response:
        caller = await identify(request, web.store, Scope.SEND)
        key = read_idempotency_key(request)
        asked = await read_model(request, models.SendBatch)
        return await send.queue_after_a_look(
            web.store, lambda app, looked: send.send_batch(app, asked, caller=caller, key=key, looked=looked)
        )

    @application.post(
        "/api/campaigns/send",
        status_code=202,
        summary="Queue one message for the recipients of a campaign",
        responses={**_answers(models.CampaignAnswer, *SENDS, good=202), 200: {"model": models.CampaignAnswer}},
        openapi_extra=_secured(Scope.SEND, _body(models.SendCampaign, takes_key=True)),
    )
    async def send_campaign(request: Request) -> Response:
        caller = await identify(request, web.store, Scope.SEND)
        key = read_idempotency_key(request)
        asked = await read_model(request, models.SendCampaign)
        return await send.queue_after_a_look(
            web.store, lambda app, looked: send.send_campaign(app, asked, caller=caller, key=key, looked=looked)
        )


def _add_failed(application: FastAPI, web: Web) -> None:
    @application.get(
        "/api/failed-messages",
        summary="What failed and why, numbered for a resend",
        responses=_answers(models.FailedAnswer, *READS, 404),
        openapi_extra=_secured(Scope.READ),
    )
    async def list_failed(
        request: Request,
        subgroup: Annotated[str | None, Query(max_length=200, description="Only of this subgroup.")] = None,
        campaign: Annotated[str | None, Query(max_length=200, description="Only of this campaign.")] = None,
        limit: Annotated[int, Query(ge=1, le=PAGE, description="At most so many.")] = PAGE,
        after: Annotated[
            int | None, Query(ge=0, le=999_999_999, description="Go on after this index of the same list.")
        ] = None,
    ) -> Response:
        await identify(request, web.store, Scope.READ)
        return await web.store.run(
            lambda app: failed.list_failed(app, subgroup=subgroup, campaign=campaign, after=after, limit=limit)
        )

    @application.post(
        "/api/resend-failed",
        summary="Send chosen failed messages again, spaced, beginning now",
        responses=_answers(models.ResendAnswer, *WRITES, 404),
        openapi_extra=_secured(Scope.SEND, _body(models.ResendChosen)),
    )
    async def resend_chosen(request: Request) -> Response:
        caller = await identify(request, web.store, Scope.SEND)
        asked = await read_model(request, models.ResendChosen)
        return await web.store.run(lambda app: failed.resend_chosen(app, asked, caller=caller))

    @application.post(
        "/api/subgroups/{subgroup:path}/resend-failed",
        summary="Send everything again that failed of one subgroup, spaced, beginning now",
        responses=_answers(models.ResendAnswer, *WRITES, 404),
        openapi_extra=_secured(Scope.SEND, _body(models.Resend, is_required=False)),
    )
    async def resend_subgroup(request: Request, subgroup: SubgroupWord) -> Response:
        caller = await identify(request, web.store, Scope.SEND)
        asked = await read_model(request, models.Resend, may_be_empty=True)
        return await web.store.run(lambda app: failed.resend_subgroup(app, subgroup, asked, caller=caller))


def _add_queue(application: FastAPI, web: Web) -> None:
    @application.get(
        "/api/queue/status",
        summary="How many messages stand where, how fast they leave, and how far a campaign has come",
        responses=_answers(models.QueueAnswer, *READS, 404),
        openapi_extra=_secured(Scope.READ),
    )
    async def queue_status(
        request: Request,
        campaignId: Annotated[str | None, Query(max_length=200, description="Of one campaign.")] = None,
    ) -> Response:
        await identify(request, web.store, Scope.READ)
        return await web.store.run(lambda app: queue.read_status(app, campaignId, thrift=web.thrift))

    @application.post(
        "/api/queue/worker",
        summary="Send what is due now, one batch of it; the secret of the settings opens this, too",
        responses=_answers(models.WorkerAnswer, 400, *READS, 404),
        openapi_extra=_secured(Scope.WORKER),
    )
    async def run_worker(
        request: Request,
        instance: Annotated[
            str | None, Query(min_length=1, max_length=200, description="The instance; all of them without.")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=1000, description="At most so many messages.")] = BATCH_SIZE,
    ) -> Response:
        await identify(request, web.store, Scope.WORKER)
        if web.worker is None:
            raise Temporary("this server does not send", hint="`wa run` or `wa drain` does", code="no_worker")
        return await web.worker.run(instance, limit=limit)


def _add_health(application: FastAPI, web: Web) -> None:
    @application.get(
        "/health/whatsapp",
        summary="Whether messages get out",
        responses=_answers(models.HealthAnswer, 500, 503),
    )
    async def read_health() -> Response:
        return await web.store.run(
            lambda app: JSONResponse(health.read_health(app, started_at=web.started_at, thrift=web.thrift))
        )

    @application.get(
        "/instances/{instance}/status",
        summary="One instance: its state, its queue, its counters, its limits",
        responses=_answers(models.InstanceAnswer, *READS, 404),
        openapi_extra=_secured(Scope.READ),
    )
    async def instance_status(
        request: Request,
        instance: Annotated[str, Path(description="The name of an instance, or its id.", min_length=1, max_length=200)],
    ) -> Response:
        await identify(request, web.store, Scope.READ)
        return await web.store.run(
            lambda app: JSONResponse(health.read_instance_status(app, instance, thrift=web.thrift))
        )

    @application.post(
        "/instances/{instance}/restart",
        status_code=202,
        summary="Ask for a restart of the linked device behind an instance; answers before it has happened",
        responses=_answers(models.RestartAnswer, *WRITES, 404, 429, good=202),
        openapi_extra=_secured(Scope.SEND, _body(models.Restart, is_required=False)),
    )
    async def restart_instance(
        request: Request,
        instance: Annotated[str, Path(description="The name of an instance, or its id.", min_length=1, max_length=200)],
    ) -> Response:
        await identify(request, web.store, Scope.SEND, Scope.WORKER)
        asked = await read_model(request, models.Restart, may_be_empty=True)
        assert web.restarts is not None
        return JSONResponse(await web.restarts.begin(instance, RestartKind(asked.type)), status_code=202)

    @application.get(
        "/metrics",
        summary="The same for Prometheus",
        response_class=PlainTextResponse,
        responses={200: {"description": "The text format of Prometheus"}, **_answers(None, *READS)},
        openapi_extra=_secured(Scope.READ),
    )
    async def read_metrics(request: Request) -> Response:
        await identify(request, web.store, Scope.READ)
        assert web.metrics is not None
        return await web.metrics.answer()


def _add_webhooks(application: FastAPI, web: Web) -> None:
    challenge = {
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
            for name in ("hub.mode", "hub.challenge", "hub.verify_token")
        ]
    }
    any_body = {"requestBody": {"required": False, "content": {"application/json": {"schema": {}}}}}

    @application.get(
        webhooks.PATH,
        summary="Meta's check of the address",
        response_class=PlainTextResponse,
        responses={200: {"description": "The challenge"}, **_answers(None, 403, 404, 500, 503)},
        openapi_extra=challenge,
    )
    async def check_address(request: Request) -> Response:
        assert web.webhooks is not None
        return await web.webhooks.answer_challenge(request)

    @application.post(
        webhooks.PATH,
        summary="A webhook: kept before it is answered, read afterwards",
        responses={**_answers(models.ReceivedAnswer, 401, 403, 404, 408, 413, 500, 503)},
        openapi_extra={
            "parameters": [
                {"name": "X-Hub-Signature-256", "in": "header", "required": False, "schema": {"type": "string"}}
            ],
            **any_body,
        },
    )
    async def take_webhook(request: Request) -> Response:
        assert web.webhooks is not None
        return await web.webhooks.take(request)

    @application.get(
        webhooks.INSTANCE_PATH,
        summary="Meta's check of the address of one instance",
        response_class=PlainTextResponse,
        responses={200: {"description": "The challenge"}, **_answers(None, 403, 404, 422, 500, 503)},
        openapi_extra=challenge,
    )
    async def check_instance_address(request: Request, instance: InstanceWord) -> Response:
        assert web.webhooks is not None
        return await web.webhooks.answer_challenge(request, instance)

    @application.post(
        webhooks.INSTANCE_PATH,
        summary="A webhook of one instance, from its gateway or from Meta: kept before it is answered, read afterwards",
        description="Which header has to vouch for the body depends on the transport of the instance.",
        responses={**_answers(models.ReceivedAnswer, 401, 403, 404, 408, 413, 422, 500, 503)},
        openapi_extra=any_body,
    )
    async def take_instance_webhook(request: Request, instance: InstanceWord) -> Response:
        assert web.webhooks is not None
        return await web.webhooks.take(request, instance)


def _add_links(application: FastAPI, web: Web) -> None:
    leads = {
        "description": "Where the link leads",
        "headers": {"Location": {"description": "A page of the web", "schema": {"type": "string"}}},
    }
    nowhere = {
        "description": "No such link, for people to read",
        "content": {"text/html": {"schema": {"type": "string"}}},
    }

    @application.get(
        clicks.ROUTE,
        summary="A short link of a message: counts the click and leads on",
        status_code=302,
        response_class=Response,
        responses={302: leads, 404: nowhere, **_answers(None, 500, 503)},
    )
    async def follow_link(request: Request, token: TokenWord) -> Response:
        assert web.clicks is not None
        return await web.clicks.follow(request, token)

    @application.head(
        clicks.ROUTE,
        summary="Where a short link leads; counts nothing",
        status_code=302,
        response_class=Response,
        responses={302: leads, 404: nowhere, **_answers(None, 500, 503)},
    )
    async def look_at_link(request: Request, token: TokenWord) -> Response:
        assert web.clicks is not None
        return await web.clicks.follow(request, token)
