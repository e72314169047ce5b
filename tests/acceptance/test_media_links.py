"""Links of media: the platform fetches them, `wa` never does.  Every socket of the real processes is written down."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rig import Household, environment, number
from test_http_door import Door

if TYPE_CHECKING:
    from pathlib import Path

# Loaded by every Python that starts in this environment: notes each address that is looked up or connected to.
# uvloop talks to the system beneath Python's own sockets, where nothing can be noted: so it is kept away.
WATCHER = """
import os, sys
sys.modules["uvloop"] = None

def note(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        where = args[1] if event in ("socket.connect", "socket.sendto") else args[0]
        with open(os.environ["NOTED_SOCKETS"], "a") as file:
            file.write(f"{event} {where!r}\\n")

sys.addaudithook(note)
"""

PRIVATE = (
    "https://127.0.0.1/a.png", "https://127.1/a.png", "https://0177.0.0.1/a.png", "https://2130706433/a.png",
    "https://169.254.169.254/latest/meta-data", "https://10.0.0.8/a.png", "https://100.64.0.1/a.png",
    "https://[::1]/a.png", "https://[::ffff:10.0.0.8]/a.png", "https://[64:ff9b::a00:8]/a.png",
    "https://localhost/a.png", "https://metadata.google.internal/a.png",
    "file:///etc/passwd", "gopher://example.org/a.png", "http://example.org/a.png",
)  # fmt: skip


def test_no_link_of_media_is_ever_opened_and_private_ones_are_refused(home: Household, tmp_path: Path) -> None:
    """Fault 76: requests that reach a canary = 0; by the command line, by the API, by the daemon."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCHER)
    noted = tmp_path / "sockets"
    noted.touch()
    path = os.pathsep.join((str(tmp_path / "watch"), environment()["PYTHONPATH"]))
    env = {"PYTHONPATH": path, "NOTED_SOCKETS": str(noted)}
    for link in PRIVATE[:2]:
        one = home.wa("send", "to", number(50), "--media", link, "--type", "image", "--json", env=env)
        assert (one.exit, one.error()["code"]) == (2, "content"), one.err
    door = Door(home, "run", "--serve", env=env)
    for link in PRIVATE:
        asked = {"to": number(50), "media": link, "type": "image"}
        status, answer = door.call("POST", "/api/messages/send", asked)
        assert (status, answer["error"]["code"]) == (400, "content"), (link, answer)
    assert home.read("SELECT count(*) FROM message") == [(0,)]
    asked = {"to": number(60), "media": "https://canary.example/a.png", "type": "image"}
    assert door.call("POST", "/api/messages/send", asked)[0] == 202
    home.wait_for_states(sent=1)
    door.running.kill()
    lines = noted.read_text().splitlines()
    port = home.sandbox.url.rpartition(":")[2]
    assert any(port in line for line in lines), "the watcher does not work"
    assert [line for line in lines if f"'127.0.0.1', {port})" not in line and "'127.0.0.1'" not in line] == []
