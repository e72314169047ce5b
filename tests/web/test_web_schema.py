"""/openapi.json is true: a fuzzer that reads it finds no bug and no answer that it does not tell of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
import schemathesis
from door import ADA, BEN, Api
from hypothesis import HealthCheck, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from tests.cli.stored import send
from wa_cli.bootstrap import open_app
from wa_cli.config import load_settings
from wa_cli.daemon.drain import drain_in_loop
from wa_cli.domain.outcome import ErrorClass, Rejected
from wa_cli.web.listening import open_socket
from wa_cli.web.server import WebServer

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUTES = {
    "POST /api/subgroups/{subgroup}/send",
    "POST /api/subgroups/{subgroup}/resend-failed",
    "POST /api/messages/send",
    "POST /api/messages/batch",
    "POST /api/campaigns/send",
    "GET /api/failed-messages",
    "POST /api/resend-failed",
    "GET /api/queue/status",
    "POST /api/queue/worker",
    "GET /instances/{instance}/status",
    "POST /instances/{instance}/restart",
    "GET /health/whatsapp",
    "GET /metrics",
    "GET /api/webhooks/whatsapp/status",
    "POST /api/webhooks/whatsapp/status",
    "GET /api/webhooks/instances/{instance}",
    "POST /api/webhooks/instances/{instance}",
    "GET /r/{token}",
    "HEAD /r/{token}",
}
# Nothing can be wrong with these: one asks nothing, the other takes whatever is signed.
NOTHING_WRONG = {
    ("GET /health/whatsapp", GenerationMode.NEGATIVE),
    ("POST /api/webhooks/whatsapp/status", GenerationMode.NEGATIVE),
}
# What is well-formed may still be refused: a number that is none, a time in the past.
load_all_checks()
MAY_FAIL = [CHECKS.get_one("positive_data_acceptance")]
DEAD = Rejected(error_class=ErrorClass.DEAD_RECIPIENT, code="131026", details="undeliverable", http_status=400)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server with something in it, whose messages nobody sends."""
    folder = tmp_path_factory.mktemp("fuzzed")
    read = load_settings({"WA_TIMEZONE": "UTC", "WA_DB": str(folder / "wa.db"), "WA_DEFAULT_REGION": "SG"})
    looking = open_app(read, create=True)
    server = WebServer(open_app(read, create=False), open_socket("127.0.0.1", 0), drain=drain_in_loop)
    server.start()
    api = Api(app=looking, server=server, client=httpx.Client(base_url=server.url, trust_env=False, timeout=60.0))
    api.subgroup("vip", ADA, BEN)
    send(looking, ADA, outcome=DEAD)
    yield api
    api.close()


@pytest.mark.parametrize(
    ("route", "mode"),
    [(route, mode) for route in sorted(ROUTES) for mode in GenerationMode if (route, mode) not in NOTHING_WRONG],
)
def test_nothing_that_the_schema_allows_or_forbids_finds_a_bug(route: str, mode: GenerationMode, fuzzed: Api) -> None:
    """Fault 86: no 500, no undocumented answer, no answer of another shape; what does not fit is refused."""
    schema = schemathesis.openapi.from_url(f"{fuzzed.server.url}/openapi.json")
    method, path = route.split()
    strategy = schema[path][method].as_strategy(generation_mode=mode)

    @seed(1)
    @settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=strategy)
    def fuzz(case: Any) -> None:
        case.call_and_validate(headers={"Authorization": f"Bearer {fuzzed.key()}"}, excluded_checks=MAY_FAIL)

    fuzz()


def test_the_schema_lists_every_route_with_its_scope(fuzzed: Api) -> None:
    """Every path of the source systems, and who may call it."""
    document = fuzzed.client.get("/openapi.json").json()
    operations = {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert operations.keys() == ROUTES
    open_ones = {name for name, operation in operations.items() if "security" not in operation}
    assert open_ones == {
        "GET /health/whatsapp",
        "GET /api/webhooks/whatsapp/status",
        "POST /api/webhooks/whatsapp/status",
        "GET /api/webhooks/instances/{instance}",
        "POST /api/webhooks/instances/{instance}",
        "GET /r/{token}",
        "HEAD /r/{token}",
    }
    for name, operation in operations.items():
        for status, answer in operation["responses"].items():
            if int(status) >= 400 and not (status == "404" and name.endswith(" /r/{token}")):  # a page for people
                schema = answer["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorAnswer"}, (name, status)
