"""`wa sandbox`: the door to the local WhatsApp."""

from __future__ import annotations

import hashlib
import hmac
import json
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from wa_cli.sandbox.faults import MAGIC_NUMBERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Wa


@contextmanager
def running(wa: Wa, *flags: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "wa_cli", "sandbox", "--port", "0", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=wa.folder,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_two_lines_for_the_environment_and_leaves_on_a_signal(wa: Wa, ending: signal.Signals) -> None:
    with running(wa) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().strip()
        token = process.stdout.readline().strip()
        assert url.startswith("WHATSAPP_API_URL=http://127.0.0.1:")
        assert token == "WHATSAPP_ACCESS_TOKEN=sandbox-token"
        answer = httpx.post(
            url.partition("=")[2],
            headers={"Authorization": f"Bearer {token.partition('=')[2]}"},
            json={"messaging_product": "whatsapp", "to": "6581230001", "type": "text", "text": {"body": "hello"}},
            trust_env=False,
            timeout=60,
        )
        assert answer.json()["messages"][0]["id"].startswith("wamid.")
        process.send_signal(ending)
        assert process.wait(60) == 0
        assert "Traceback" not in process.stderr.read()


def test_with_a_webhook_url_it_prints_what_the_receiver_needs_to_know(wa: Wa) -> None:
    """Row Q5."""
    with running(wa, "--webhook-url", "http://127.0.0.1:1/hook", "--ladder-speed", "0") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline().strip() for _ in range(4)]
        assert lines[2:] == ["WHATSAPP_APP_SECRET=sandbox-app-secret", "WHATSAPP_VERIFY_TOKEN=sandbox-verify-token"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert "webhooks go to http://127.0.0.1:1/hook" in process.stderr.read()


def test_a_secret_of_ones_own_signs_and_is_shown_nowhere(wa: Wa, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 84."""
    monkeypatch.setenv("WHATSAPP_APP_SECRET", "canary-one,canary-two")
    monkeypatch.setenv("MY_TOKEN", "canary-three")
    with socket.create_server(("127.0.0.1", 0)) as receiver:
        receiver.settimeout(60)
        url = f"http://127.0.0.1:{receiver.getsockname()[1]}/hook"
        flags = ("--webhook-url", url, "--app-secret-env", "WHATSAPP_APP_SECRET", "--verify-token-env", "MY_TOKEN")
        with running(wa, *flags, "--json") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            printed = process.stdout.readline()
            address = json.loads(printed)
            assert (address["webhook_url"], address["app_secret"], address["verify_token"]) == (url, None, None)
            order = {"field": "account_update", "value": {}}
            assert (
                httpx.post(f"{address['url']}/sandbox/events", json=order, trust_env=False, timeout=60).status_code
                == 200
            )
            connection, _ = receiver.accept()
            with connection:
                connection.settimeout(60)
                raw = b""
                while not raw.endswith(b"}]}"):
                    raw += connection.recv(65536)
                head, _, body = raw.partition(b"\r\n\r\n")
                signature = hmac.new(b"canary-one", body, hashlib.sha256).hexdigest()
                assert f"X-Hub-Signature-256: sha256={signature}".encode() in head
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) == 0
            assert "canary" not in printed + process.stdout.read() + process.stderr.read()


def test_wa_itself_sends_to_it(wa: Wa, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(wa, "--ledger", "ledger.jsonl", "--json") as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())
        monkeypatch.setenv("WHATSAPP_API_URL", address["messages_url"])
        monkeypatch.setenv("WHATSAPP_ACCESS_TOKEN", address["token"])
        assert wa("init").exit == 0
        assert wa("doctor").exit == 0
        assert wa("send", "to", "+6581230001", "--text", "hello").exit == 0
        assert wa("drain", "--json").json()["sent"] == 1
    posts = [json.loads(line) for line in (wa.folder / "ledger.jsonl").read_text().splitlines()]
    assert [post["verdict"] for post in posts] == ["accepted"]


def test_the_magic_numbers_are_listed(wa: Wa) -> None:
    document = wa("sandbox", "--magic", "--json").json()
    assert document["count"] == len(MAGIC_NUMBERS)
    assert {"ending": "9408", "fault": "hang", "meaning": "accepted, but no answer ever comes"} in document["magic"]
    assert "9408\thang\t" in wa("sandbox", "--magic").out


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (("--host", "0.0.0.0"), 6),
        (("--chaos", "cut_body"), 2),
        (("--chaos", "nonsense=0.5"), 2),
        (("--port", "70000"), 2),
        (("--latency", "-1"), 2),
        (("--webhook-url", "http://example.org/hook"), 6),
        (("--webhook-url", "nonsense"), 2),
        (("--ladder-speed", "-1"), 2),
        (("--app-secret-env", "NO_SUCH_VARIABLE"), 2),
        (("--set", "read_share=2"), 2),
        (("--set", "colour=red"), 2),
        (("--set", "app_secret=inline"), 2),
    ],
)
def test_settings_that_make_no_sense_are_refused(wa: Wa, flags: tuple[str, ...], code: int) -> None:
    assert wa("sandbox", *flags).exit == code


def test_a_taken_port_is_a_usage_error_with_the_way_out(wa: Wa) -> None:
    """Fault 90."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = wa("sandbox", "--port", taken.getsockname()[1])
    assert result.exit == 2
    assert "--port 0" in result.err
