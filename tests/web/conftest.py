"""Fixtures of the tests of the HTTP door: each test has its own server and its own database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from door import Api

from wa_cli.bootstrap import open_app
from wa_cli.config import load_settings
from wa_cli.daemon.drain import drain_in_loop
from wa_cli.web.listening import open_socket
from wa_cli.web.server import WebServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def make_api(tmp_path: Path) -> Iterator[Callable[..., Api]]:
    """`make_api(WA_DEFAULT_REGION="SG")`: settings of wa; everything is closed with the test."""
    made: list[Api] = []

    def make(**settings: str) -> Api:
        read = load_settings({"WA_TIMEZONE": "UTC", "WA_DB": str(tmp_path / "wa.db"), **settings})
        looking = open_app(read, create=True)
        server = WebServer(open_app(read, create=False), open_socket("127.0.0.1", 0), drain=drain_in_loop)
        server.start()
        client = httpx.Client(base_url=server.url, trust_env=False, timeout=60.0)
        made.append(Api(app=looking, server=server, client=client))
        return made[-1]

    yield make
    for api in made:
        api.close()


@pytest.fixture
def api(make_api: Callable[..., Api]) -> Api:
    """A server without settings."""
    return make_api()
