"""What a server writes while strangers talk to it: one line a record, no secret, no whole number, nothing that steers a
terminal.  Real processes, real webhooks, and requests that carry what they should not in odd places."""

from __future__ import annotations

import hmac
import json
import os
import re
import signal
import socket
import stat
import unicodedata
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rig import PATIENCE_SECONDS, Household, Running, number, until

if TYPE_CHECKING:
    from collections.abc import Callable

PATH = "/api/webhooks/whatsapp/status"
SECRETS = {
    "WHATSAPP_APP_SECRET": "canary-app-old-11f3,canary-app-new-8d20",
    "WHATSAPP_VERIFY_TOKEN": "canary-verify-53ac",
    "WORKER_SECRET": "canary-worker-7e91",
    "WHATSAPP_ACCESS_TOKEN": "canary-access-2b6c",
}
APP_SECRET = "canary-app-new-8d20"
# A window title, the clipboard, a cleared screen, letters that run backwards, and lines that look like ours.
HOSTILE = (
    "\x1b]0;x\x07\x1b]52;c;aGk=\x07\x1b[2J\x9b31m\u202eevil\u202c\x85\u2028\r\n"
    '12:00:00 forged\n{"level": "info", "message": "forged"}\n'
)
STRANGER = "6581239876"


class Server:
    """`wa serve`, or `wa run --serve`, with every secret set, and whatever it has written."""

    def __init__(self, home: Household, *words: str, **options: Any) -> None:
        made = home.wa("serve", "key", "add", "test", "--scope", "send", "--scope", "read", "--scope", "worker")
        self.key = made.out.strip()
        self.running: Running = home.start(*words, "--port", "0", "--json", **options)
        address = json.loads(self.running.wait_for_line('"url"'))
        self.url, self.address = address["url"], (address["host"], address["port"])

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> str:
        """The head and the body of the answer, whatever its status."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, method=method, data=body, headers=named)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=PATIENCE_SECONDS) as answer:
                return f"{answer.status} {answer.headers} {answer.read().decode()}"
        except urllib.error.HTTPError as error:
            with error:
                return f"{error.code} {error.headers} {error.read().decode()}"

    def ask(self, path: str) -> str:
        return self.call("GET", path, Authorization=f"Bearer {self.key}")

    def tell(self, body: bytes) -> str:
        """One webhook, signed."""
        signature = f"sha256={hmac.digest(APP_SECRET.encode(), body, 'sha256').hex()}"
        return self.call("POST", PATH, body, X_Hub_Signature_256=signature)

    def send_raw(self, head: bytes) -> bytes:
        with socket.create_connection(self.address, timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(head)
            return connection.recv(65536)

    def end(self) -> str:
        """Everything it wrote."""
        self.running.signal(signal.SIGTERM)
        ran = self.running.wait()
        assert ran.exit == 0, ran.err
        return ran.err


def webhook(*changes: tuple[str, dict[str, Any]]) -> bytes:
    listed = [{"field": field, "value": {"metadata": {"phone_number_id": "55"}, **value}} for field, value in changes]
    entry = {"id": "1", "time": 1_793_900_000, "changes": listed}
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}, ensure_ascii=False).encode()


def hostile_webhooks(words: str) -> list[bytes]:
    """One of each kind, with these words wherever words can be."""
    person = {"wa_id": STRANGER, "profile": {"name": words}}
    said = {"id": f"wamid.{words}", "from": STRANGER, "timestamp": "1793900000", "type": "text"}
    error = {"code": 131000, "title": words, "message": words, "error_data": {"details": words}}
    status = {"id": "wamid.2", "status": "failed", "timestamp": "1793900000", "recipient_id": STRANGER}
    template = {"message_template_name": words, "message_template_language": words, "event": "PAUSED", "reason": words}
    return [
        webhook(("messages", {"contacts": [person], "messages": [{**said, "text": {"body": words}}]})),
        webhook(("messages", {"contacts": [person], "messages": [{**said, "type": words, "id": "wamid.3"}]})),
        webhook(("messages", {"statuses": [{**status, "errors": [error], "biz_opaque_callback_data": words}]})),
        webhook(("messages", {"statuses": [{**status, "status": words}]})),
        webhook(("message_template_status_update", template)),
        webhook((words, {words: words})),
        words.encode(),
        b'{"' + words.encode(),
    ]


def talk(server: Server, key: str) -> str:
    """Requests that carry secrets, numbers and control characters where none belong.

    Returns the answers of those that did not say the secret themselves.
    """
    for word in (*",".join(SECRETS.values()).split(","), key, f"+{STRANGER}", "%1b%5b2J%0a12:00:00%20forged"):
        server.call("GET", f"/api/messages/{word}", Authorization=f"Bearer {server.key}")
        server.call("GET", f"/{word}?token={word}", Cookie=f"token={word}", Referer=f"http://x/{word}")
        server.call("GET", f"/health/whatsapp?{word}={word}", User_Agent=word, Authorization=f"Basic {word}")
        server.call("GET", f"{PATH}?hub.mode=subscribe&hub.challenge=1&hub.verify_token={word}x")
        server.call("POST", PATH, word.encode(), X_Hub_Signature_256=word)
        server.call("GET", "/api/queue/status", Authorization=f"Bearer {server.key}", x_user_id=word)
        server.call(
            "POST",
            "/api/subgroups/vip/send",
            json.dumps({word: word, "body": word}).encode(),
            Authorization=f"Bearer {server.key}",
            Content_Type="application/json",
            Idempotency_Key=word,
        )
        server.call("POST", "/api/queue/worker", Authorization=f"Bearer {word}")
    raw = HOSTILE.encode().replace(b"\r", b"").replace(b"\n", b"")
    for head in (
        b"GET /" + raw + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nx-user-id: " + raw + b"\r\nConnection: close\r\n\r\n",
        raw + b" / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
    ):
        server.send_raw(head)
    for body in hostile_webhooks(HOSTILE):
        assert server.tell(body).startswith("200")
    return "".join(
        server.ask(path)
        for path in ("/metrics", "/openapi.json", "/health/whatsapp", "/api/queue/status", "/instances/1/status")
    )


def assert_says_nothing(written: str, *, key: str) -> None:
    """Promise P11: no secret, no whole number."""
    assert "canary" not in written
    assert key not in written
    digits = re.sub(r"[^0-9\n]", "", written.replace("\n", " \n "))
    for whole in (STRANGER, *(number(index).removeprefix("+") for index in range(4))):
        assert whole[2:] not in digits, whole


@pytest.mark.parametrize("is_json", [False, True])
def test_a_log_is_one_line_a_record_without_secrets_or_numbers_whatever_comes_in(
    make_home: Callable[..., Household], is_json: bool
) -> None:
    """Faults 82, 83, 84; promise P11: a daemon that sends, receipts that come back, and strangers."""
    home = make_home("--token", SECRETS["WHATSAPP_ACCESS_TOKEN"], "--ladder-speed", "0", **SECRETS)
    assert home.wa("subgroup", "create", "vip").exit == 0
    server = Server(home, "--verbose", "run", "--serve", *(["--log-json"] if is_json else []))
    server.running.wait_for_line("sending for")
    home.sandbox.set(webhook_url=server.url + PATH, app_secret=APP_SECRET, read_share=1.0, undelivered_share=0.0)
    home.queue(3)
    home.send("+6581249126", "fails late")
    home.sandbox._call("POST", "inbound", {"from": number(0), "text": "STOP"})
    answers = talk(server, server.key)
    until(lambda: home.read("SELECT count(*) FROM receipt WHERE status = 'read'")[0][0] >= 3, "receipts")
    until(lambda: not home.read("SELECT 1 FROM webhook_logs WHERE status = 'waiting'"), "everything read")
    command = Path(f"/proc/{server.running.pid}/cmdline")
    if command.exists():
        answers += command.read_text()
    shown = [home.wa("webhook", "list", "--limit", "100", *(["--json"] if is_json else []))]
    for webhook_id, *_rest in home.read("SELECT id FROM webhook_logs ORDER BY id DESC LIMIT 2"):
        shown.append(home.wa("webhook", "show", f"w{webhook_id}", *(["--json"] if is_json else [])))
    written = server.end()
    assert_says_nothing(written + answers + "".join(ran.out + ran.err for ran in shown), key=server.key)
    lines = written.split("\n")
    assert lines.pop() == ""
    for line in lines:
        assert not line.startswith("12:00:00 forged")
        assert all(unicodedata.category(letter) not in ("Cc", "Cf", "Zl", "Zp") for letter in line), line
        if is_json:
            assert {"time", "level", "logger", "message"} <= json.loads(line).keys()
        else:
            assert re.match(r"\d\d:\d\d:\d\d |         \| ", line), line
    assert any("forged" in line for line in lines)  # it was said, and shown as what it is


def test_whatever_a_server_makes_is_readable_by_its_user_alone(make_home: Callable[..., Household]) -> None:
    """Fault 85: with a umask that lets everybody in."""
    home = make_home("--token", SECRETS["WHATSAPP_ACCESS_TOKEN"], **SECRETS)
    folder = home.folder / "new"
    home.settings["WA_DB"] = str(folder / "wa.db")
    home.db = folder / "wa.db"
    server = Server(home, "run", "--serve", umask=0)
    server.running.wait_for_line("sending for")
    assert server.tell(webhook(("messages", {}))).startswith("200")
    for words in (
        ("contact", "export", str(folder / "people.csv")),
        ("db", "backup", str(folder / "copy.db")),
        ("webhook", "replay", "w1"),
        ("send", "to", number(0), "--text", "hello"),
    ):
        ran = home.wa(*words, umask=0)
        assert ran.exit == 0, ran.err
    home.wait_for_states(sent=1)
    made = [path for path in folder.rglob("*") if not path.is_dir()]
    assert {path.suffix for path in made} >= {".db", ".db-wal", ".db-shm", ".csv"}
    assert {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in made} == dict.fromkeys(
        (path.name for path in made), "0o600"
    )
    assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0 or os.name == "nt"
    server.end()
