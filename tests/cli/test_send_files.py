"""`wa send --media` with a file of this machine, from the shell to the sandbox."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from wa_cli.domain.message import Media, MediaKind
from wa_cli.sandbox import serve_in_thread

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Wa
    from wa_cli.bootstrap import App
    from wa_cli.sandbox import Sandbox

PNG = b"\x89PNG\r\n\x1a\n" + b"picture" * 9
TO = ("send", "to", "+6581230001", "+6581230002", "--delay", "0")


def set_account(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    monkeypatch.setenv("WHATSAPP_API_URL", sandbox.messages_url)
    monkeypatch.setenv("WHATSAPP_ACCESS_TOKEN", "sandbox-token")


def test_a_file_goes_out_as_it_was_when_it_was_queued(
    wa: Wa, app: App, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Issue 6, point 3.  Promise P1: once it is queued, its file may be changed or deleted."""
    with serve_in_thread() as sandbox:
        set_account(monkeypatch, sandbox)
        picture = wa.write("poster.png", PNG)
        queued = wa(*TO, "--media", "./poster.png", "--caption", "Tonight", "--json")
        assert queued.exit == 0, queued.err
        picture.unlink()
        assert wa("drain").exit == 0
        (upload,) = sandbox.media.list_all()
        assert upload.size == len(PNG)
        assert [(entry.type, entry.verdict) for entry in sandbox.ledger] == [("image", "accepted")] * 2
        first = queued.json()["messages"][0]["id"]
        content = app.messages.find(int(first[1:])).content
        assert isinstance(content, Media)
        assert (content.kind, content.file is not None) == (MediaKind.IMAGE, True)
        assert "image: Tonight" in wa("message", "show", first).out
        checked = wa("db", "check")
        assert "1 files that messages carry are there" in checked.out
        saved = wa("db", "backup", "copy.db", "--json").json()
        assert saved["media_files"] == 1
        assert (tmp_path / "copy.db.media" / upload.sha256).read_bytes() == PNG


def test_a_file_that_has_gone_from_the_store_fails_its_message_alone(
    wa: Wa, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 6, point 3."""
    with serve_in_thread() as sandbox:
        set_account(monkeypatch, sandbox)
        wa.write("poster.png", PNG)
        wa(*TO, "--media", "poster.png")
        for kept in app.media.folder.iterdir():
            kept.unlink()
        wa("send", "to", "+6581230003", "--text", "hello")
        wa("drain")
        assert [entry.type for entry in sandbox.ledger] == ["text"]
        failed = wa("failed", "list", "--json").json()["failed_messages"]
        assert [one["error_code"] for one in failed] == ["file_missing"] * 2


def test_a_dry_run_takes_no_file_in(wa: Wa, tmp_path: Path) -> None:
    """Issue 6, point 3."""
    wa("subgroup", "list")
    wa.write("menu.pdf", b"%PDF-1.7 menu")
    answer = wa(*TO, "--media", "menu.pdf", "--dry-run", "--json")
    assert answer.json()["queued"] == 2
    assert not (tmp_path / "wa.db.media").exists()


def test_a_document_has_its_name_and_the_same_file_again_is_a_duplicate(wa: Wa, app: App, tmp_path: Path) -> None:
    """Issue 6, point 3."""
    wa.write("menu.pdf", b"%PDF-1.7 menu")
    first = wa(*TO, "--media", str(tmp_path / "menu.pdf"), "--json").json()
    content = app.messages.find(int(first["messages"][0]["id"][1:])).content
    assert isinstance(content, Media)
    assert (content.kind, content.filename) == (MediaKind.DOCUMENT, "menu.pdf")
    assert wa(*TO, "--media", "menu.pdf", "--json").json()["duplicates"] == 2
    wa.write("menu.pdf", b"%PDF-1.7 another menu")
    assert wa(*TO, "--media", "menu.pdf", "--json").json()["queued"] == 2


def test_a_file_elsewhere_needs_a_folder_that_is_allowed(
    wa: Wa, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 6, point 3."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "a.png").write_bytes(PNG)
    refused = wa(*TO, "--media", str(elsewhere / "a.png"))
    assert refused.exit == 2
    assert f"WA_MEDIA_ROOTS={elsewhere}" in refused.err
    monkeypatch.setenv("WA_MEDIA_ROOTS", f"/nowhere:{elsewhere}")
    assert wa(*TO, "--media", str(elsewhere / "a.png")).exit == 0


@pytest.mark.parametrize(
    ("name", "data", "flags", "words"),
    [
        ("a.gif", b"GIF89a", (), "WhatsApp takes an image as JPEG or PNG, and the file is image/gif"),
        ("a.png", PNG, ("--type", "voice"), "a voice message as OGG with Opus"),
        ("a.png", b"x", (), "ends in .png, and inside it is text/plain"),
        ("a.png", b"", (), "the file 'a.png' is empty"),
        ("a.webp", b"RIFF....WEBP" + bytes(600 * 1024), (), "takes stickers up to 500 KB"),
    ],
)
def test_a_file_that_whatsapp_would_not_take_is_refused_and_not_kept(
    wa: Wa, tmp_path: Path, name: str, data: bytes, flags: tuple[str, ...], words: str
) -> None:
    """Issue 6, point 3."""
    wa.write(name, data)
    answer = wa(*TO, "--media", name, *flags)
    assert answer.exit == 2
    assert words in answer.err
    assert not (tmp_path / "wa.db.media").exists()


def test_nobody_but_whatsapp_fetches_a_media_link(wa: Wa, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 6, point 3: no socket is opened for it, and its name is not looked up."""

    def refuse(*_arguments: Any, **_named: Any) -> Any:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert wa(*TO, "--media", "https://example.org/poster.png").exit == 0


def test_doctor_names_a_folder_for_files_that_is_not_there(wa: Wa, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 6, point 3."""
    wa("init", "--region", "SG")
    monkeypatch.setenv("WA_MEDIA_ROOTS", f"{wa.folder}:/nowhere")
    told = wa("doctor").out
    assert "local files may be sent from" in told
    assert "WA_MEDIA_ROOTS names /nowhere, which is no folder" in " ".join(told.split())
