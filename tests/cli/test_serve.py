"""`wa serve`: its keys, and what keeps it from serving."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from wa_cli.web.listening import find_listener, is_loopback

if TYPE_CHECKING:
    from tests.cli.conftest import Wa

HEAVY = ("fastapi", "starlette", "uvicorn", "prometheus_client")


def test_a_key_is_printed_once_and_alone_so_that_a_script_can_take_it(wa: Wa) -> None:
    """`wa serve key add`."""
    made = wa("serve", "key", "add", "shop", "--scope", "send", "--scope", "worker")
    assert made.exit == 0
    assert made.out.strip().startswith("wak_")
    assert len(made.out.splitlines()) == 1
    assert "it is not stored" in made.err
    listed = wa("serve", "key", "list")
    assert "shop\tsend worker\t" in listed.out
    assert made.out.strip() not in listed.out


def test_keys_in_json(wa: Wa) -> None:
    made = wa("serve", "key", "add", "shop", "--json").json()
    assert (made["name"], made["scopes"], made["revoked_at"]) == ("shop", ["read", "send"], None)
    (listed,) = wa("serve", "key", "list", "--json").json()["keys"]
    assert listed.keys() == made.keys() - {"key"}
    assert wa("serve", "key", "revoke", "shop", "--json").json()["revoked_at"] is not None
    assert wa("serve", "key", "list", "--json").json() == {"keys": [], "count": 0}
    assert wa("serve", "key", "list", "--all", "--json").json()["count"] == 1


@pytest.mark.parametrize(
    ("words", "code", "exit"),
    [
        (("add", "shop"), "key_exists", 7),
        (("add", "two words"), "key_name", 2),
        (("add", "other", "--scope", "admin"), "scope", 2),
        (("revoke", "nobody"), "no_key", 2),
    ],
)
def test_what_cannot_be_done_with_keys_is_named(wa: Wa, words: tuple[str, ...], code: str, exit: int) -> None:
    assert wa("serve", "key", "add", "shop").exit == 0
    answer = wa("serve", "key", *words, "--json")
    assert (answer.exit, answer.error()["code"]) == (exit, code)


def test_a_taken_port_is_an_error_that_names_its_owner(wa: Wa) -> None:
    """Fault 90."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        answer = wa("serve", "--port", taken.getsockname()[1], "--json")
    assert (answer.exit, answer.error()["code"]) == (2, "port_taken")
    assert "--port" in answer.error()["hint"]
    if sys.platform == "linux":
        assert f"by pid {os.getpid()}" in answer.error()["message"]


@pytest.mark.parametrize(("host", "code"), [("192.0.2.1", "port_refused"), ("no such host", "host")])
def test_an_address_that_is_not_ours_is_an_error(wa: Wa, host: str, code: str) -> None:
    """Fault 90."""
    answer = wa("serve", "--host", host, "--port", "0", "--json")
    assert (answer.exit, answer.error()["code"]) == (2, code)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_nobody_listens_on_a_free_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert find_listener(port) == os.getpid()
    assert find_listener(port) is None


@pytest.mark.parametrize(
    ("host", "is_local"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)]
)
def test_an_address_that_others_reach_is_told_from_one_they_do_not(host: str, is_local: bool) -> None:
    assert is_loopback(host) is is_local


@pytest.mark.parametrize("words", ["serve --help", "serve key list", "run --help"])
def test_no_other_command_loads_the_web_server(wa: Wa, words: str) -> None:
    """FastAPI, uvicorn and the Prometheus client are loaded by a server alone; test_import_lists has more."""
    assert wa("serve", "key", "add", "shop").exit == 0
    code = (
        "import sys; from wa_cli.cli.main import run; "
        f"run(['--db', {str(wa.db)!r}, *{words.split()!r}]); "
        f"loaded = set({HEAVY!r}) & sys.modules.keys(); "
        "sys.exit(f'loaded: {loaded}' if loaded else 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
