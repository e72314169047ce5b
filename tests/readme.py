"""Runs the console blocks of README.md on the sandbox: to test them, and to write their output anew.

`python -m tests.readme` rewrites README.md in place with what the commands print now.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
import urllib.request
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from wa_cli.cli.main import run
from wa_cli.config import BY_NAME
from wa_cli.sandbox import SandboxSettings, serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

# Where the page has a gateway, and the variable that says where it is while the page is played.
GATEWAY = "http://127.0.0.1:3000"
GATEWAY_VARIABLE = "README_GATEWAY"
PHONE = {
    "name": "default",
    "number": "6581239999",
    "paired": True,
    "start": True,
    "groups": [
        {"id": f"12036304000000000{number}@g.us", "name": name, "participants": people}
        for number, name, people in (
            (1, "Choir", ["6581230001", "6581230002"]),
            (2, "Choir parents", ["6581230002", "6581230003"]),
            (3, "Bakers", ["6581230004"]),
        )
    ],
}
README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


class Screen(io.StringIO):
    """Text as a terminal shows it: tables are aligned, nothing is asked."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


def blocks(text: str, language: str) -> list[str]:
    """The contents of the fenced blocks in that language, in order."""
    return [body for kind, body in BLOCK.findall(text) if kind == language]


def commands(block: str) -> list[tuple[str, str]]:
    """(command line, the output below it) of a console block."""
    pairs = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n?)*)", block, re.MULTILINE)
    return [(command, output) for command, output in pairs]


def play(line: str) -> str:
    """What one `wa ...` line prints, stdout and stderr as they come."""
    words = shlex.split(line.replace(GATEWAY, os.environ[GATEWAY_VARIABLE]))
    assert words[0] == "wa", line
    screen = Screen(is_terminal=True)
    talk = Screen(is_terminal=False)
    talk.write = screen.write  # type: ignore[method-assign]  # both streams end on one screen, in order
    with redirect_stdout(screen), redirect_stderr(talk):
        run(words[1:])
    return screen.getvalue()


def link_phone(url: str) -> None:
    """Give the sandbox's gateway a phone that is linked and in some groups."""
    request = urllib.request.Request(f"{url}/sandbox/devices", data=json.dumps(PHONE).encode())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        answer.read()


@contextmanager
def stage(people: str) -> Iterator[None]:
    """A folder with the README's file of people, and settings that point at a sandbox."""
    before = dict(os.environ)
    folder = Path.cwd()
    with tempfile.TemporaryDirectory() as name, serve_in_thread(SandboxSettings()) as sandbox:
        for variable in BY_NAME:
            os.environ.pop(variable, None)
        os.environ.update(
            WHATSAPP_API_URL=sandbox.messages_url,
            WHATSAPP_ACCESS_TOKEN=sandbox.settings.token,
            WA_DB="wa.db",
            WA_TIMEZONE="Asia/Singapore",
            WA_DEFAULT_REGION="SG",
            LOGNAME="ada",  # who takes the steps of a campaign
            COLUMNS="80",
            WAHA_KEY="any",
        )
        os.environ[GATEWAY_VARIABLE] = sandbox.url
        link_phone(sandbox.url)
        os.chdir(name)
        try:
            Path("people.csv").write_text(people, encoding="utf-8")
            shutil.copytree(README.parent / "campaigns", "campaigns")
            yield
        finally:
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(before)


def normalise(output: str) -> list[str]:
    """The words of an output without what changes from run to run: times, ids, sizes, and where a line is wrapped."""
    text = re.sub(r"\[fbtrace_id \S+\]", "[trace]", output)
    text = re.sub(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b \d+ \w+ \d+", "DAY", text)
    text = re.sub(r"\((DAY )?\d[^()]*UTC[^()]*\)", "(UTC)", text)
    text = re.sub(r"\bwamid\.\S+", "WAMID", text)
    text = re.sub(r"\bwa1\.[0-9a-f]+\.", "wa1.INSTALL.", text)
    text = re.sub(r"\b[0-9a-f]{64}\b", "HASH", text)
    text = re.sub(r"\bp\d+-[0-9a-f]{6}\b", "PLAN", text)
    text = re.sub(r"\((now|\d+ s ago)\)", "(AGO)", text)
    text = re.sub(r"^posts each minute.*?^$", "POSTS", text, flags=re.DOTALL | re.MULTILINE)  # one minute, or two
    text = re.sub(r"^  next send .*\n", "", text, flags=re.MULTILINE)  # there while a gap has not passed yet
    text = re.sub(r"/\S*/", "/", text)
    text = re.sub(r"\b\d+:\d+(:\d+)?\b", "TIME", text)  # a full minute is written without its seconds
    text = re.sub(r"\d+", "0", text)
    return text.split()


def rewrite() -> None:
    """Put the present output below every command of the README."""
    text = README.read_text(encoding="utf-8")
    with stage(blocks(text, "csv")[0]):

        def fill(match: re.Match[str]) -> str:
            if match[1] != "console":
                return match[0]
            parts = [f"$ {command}\n{play(command).rstrip()}\n" for command, _output in commands(match[2])]
            return "```console\n" + "".join(part if part.endswith("\n") else part + "\n" for part in parts) + "```"

        filled = BLOCK.sub(fill, text)
    README.write_text(re.sub(r"\n\n```\n", "\n```\n", filled), encoding="utf-8")
    sys.stdout.write("README.md written anew\n")


if __name__ == "__main__":
    rewrite()
