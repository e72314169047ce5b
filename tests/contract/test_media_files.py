"""Local files: which may be taken, what they are by their bytes, and how the store keeps them."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.world import line, open_world
from wa_cli.domain.message import LocalFile, Media, MediaKind, encode_content, kind_of_type
from wa_cli.errors import UsageError
from wa_cli.sources.media import look_at_file
from wa_cli.store.sqlite.media import DAY_MS, NEEDED_FOR_DAYS, SqliteMedia, hash_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.world import World

PNG = b"\x89PNG\r\n\x1a\n" + b"picture" * 9
OFFICE = "application/vnd.openxmlformats-officedocument"
NOW = 1_800_000_000_000


def look(folder: Path, word: str, *, roots: tuple[Path, ...] = (), shows_paths: bool = True) -> LocalFile:
    return look_at_file(word, base=folder, roots=(folder, *roots), shows_paths=shows_paths).file


# --- what may be taken ---


def test_a_file_is_known_by_its_bytes_and_its_size(tmp_path: Path) -> None:
    """Issue 6, point 3."""
    (tmp_path / "poster.png").write_bytes(PNG)
    assert look(tmp_path, "./poster.png") == LocalFile(digest="", mime_type="image/png", size=len(PNG))
    assert look(tmp_path, str(tmp_path / "poster.png")).mime_type == "image/png"


@pytest.mark.parametrize(
    ("name", "head", "mime_type", "kind"),
    [
        ("a.jpg", b"\xff\xd8\xff\xe0", "image/jpeg", "image"),
        ("a", b"%PDF-1.7", "application/pdf", "document"),
        (
            "a.docx",
            b"PK\x03\x04",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            "document",
        ),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/vnd.ms-excel", "document"),
        ("a.webp", b"RIFF\x00\x00\x00\x00WEBP", "image/webp", "sticker"),
        ("a.m4a", b"\x00\x00\x00\x20ftypM4A ", "audio/mp4", "audio"),
        ("a.mp4", b"\x00\x00\x00\x20ftypisom", "video/mp4", "video"),
        ("a.3gp", b"\x00\x00\x00\x20ftyp3gp4", "video/3gpp", "video"),
        ("a.ogg", b"OggS", "audio/ogg", "audio"),
        ("a.mp3", b"\xff\xfb\x90\x00", "audio/mpeg", "audio"),
        ("a.aac", b"\xff\xf1\x50\x80", "audio/aac", "audio"),
        ("a.txt", "Grüße".encode(), "text/plain", "document"),
        ("a.csv", b"phone,name\n", "text/csv", "document"),
        ("a.bin", b"\x00\x01", "application/octet-stream", "document"),
    ],
)
def test_the_type_of_a_file(tmp_path: Path, name: str, head: bytes, mime_type: str, kind: str) -> None:
    """Issue 6, point 3."""
    (tmp_path / name).write_bytes(head)
    assert look(tmp_path, name).mime_type == mime_type
    assert kind_of_type(mime_type) == kind


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.png", b"%PDF-1.7", "ends in .png, and inside it is application/pdf"),
        ("a.jpg", b"\x00\x01", "ends in .jpg, and inside it is something else"),
        ("a.pdf", b"hello", "ends in .pdf, and inside it is text/plain"),
        ("a.png", b"", "is empty"),
    ],
)
def test_a_file_that_is_not_what_it_seems_is_refused(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    """Issue 6, point 3."""
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=words):
        look(tmp_path, name)


def test_no_path_leaves_the_folders_that_files_are_taken_from(tmp_path: Path) -> None:
    """Issue 6, point 3: not by .., not by a link, not by its whole name."""
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret.png").write_bytes(PNG)
    (inside / "link.png").symlink_to(outside / "secret.png")
    (inside / "folder").symlink_to(outside)
    words = ("../out/secret.png", "link.png", "folder/secret.png", str(outside / "secret.png"), "../out/none.png")
    for word in words:
        with pytest.raises(UsageError, match="in no folder that files are taken from") as refused:
            look(inside, word)
        assert refused.value.hint is not None
        assert f"WA_MEDIA_ROOTS={outside}" in refused.value.hint
        assert look(inside, word.replace("none", "secret"), roots=(outside,)).mime_type == "image/png"
    with pytest.raises(UsageError) as told:
        look(inside, "link.png", shows_paths=False)
    assert str(outside) not in told.value.message + str(told.value.hint)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """Issue 6, point 3."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for word, words in (("folder", "a folder"), ("pipe", "a pipe or a device"), ("none.png", "there is no file")):
        with pytest.raises(UsageError, match=words):
            look(tmp_path, word)
    with pytest.raises(UsageError):
        look(tmp_path, "a\x00b")


# --- how the store keeps it ---


@contextmanager
def keeping(folder: Path) -> Iterator[tuple[World, SqliteMedia]]:
    with open_world(folder, on_disk=True) as world:
        yield world, SqliteMedia(world.database)


def keep(media: SqliteMedia, folder: Path, data: bytes = PNG, *, now_ms: int = NOW) -> LocalFile:
    path = folder / "poster.png"
    path.write_bytes(data)
    return media.keep(path, name="poster.png", mime_type="image/png", size=len(data), now_ms=now_ms)


def test_what_was_taken_in_stays_whatever_becomes_of_the_file(tmp_path: Path) -> None:
    """Issue 6, point 3.  Promise P1."""
    with keeping(tmp_path) as (_world, media):
        file = keep(media, tmp_path)
        assert hash_file(tmp_path / "poster.png", name="x", mime_type="image/png", size=len(PNG)) == file
        (tmp_path / "poster.png").write_bytes(b"another")
        (tmp_path / "poster.png").unlink()
        assert media.read(file) == PNG
        assert stat.S_IMODE(media.folder.stat().st_mode) == 0o700
        (stored,) = media.folder.iterdir()
        assert stat.S_IMODE(stored.stat().st_mode) == 0o600
        assert keep(media, tmp_path, now_ms=NOW + 1) == file  # the same bytes are kept once
        assert list(media.folder.iterdir()) == [stored]


def test_a_file_that_is_gone_or_changed_is_never_sent(tmp_path: Path) -> None:
    """Issue 6, point 3."""
    with keeping(tmp_path) as (_world, media):
        file = keep(media, tmp_path)
        assert media.list_damaged() == (1, [])
        (media.folder / file.digest).write_bytes(b"tampered")
        with pytest.raises(UsageError, match="changed on the disk") as changed:
            media.read(file)
        (media.folder / file.digest).unlink()
        with pytest.raises(UsageError, match="not there any more") as gone:
            media.read(file)
        assert changed.value.code == gone.value.code == "file_missing"
        assert media.list_damaged() == (1, [file.digest])


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path) -> None:
    """Issue 6, point 3."""
    with keeping(tmp_path) as (_world, media):
        path = tmp_path / "poster.png"
        path.write_bytes(PNG)
        for size in (len(PNG) - 1, len(PNG) + 1):
            with pytest.raises(UsageError, match="changed while it was read"):
                media.keep(path, name="poster.png", mime_type="image/png", size=size, now_ms=NOW)
        assert list(media.folder.iterdir()) == []


def test_a_file_that_becomes_a_link_after_it_was_looked_at_is_refused(tmp_path: Path) -> None:
    """Issue 6, point 3: nobody swaps it for one that may not be taken."""
    with keeping(tmp_path) as (_world, media):
        (tmp_path / "secret.png").write_bytes(PNG)
        (tmp_path / "poster.png").symlink_to(tmp_path / "secret.png")
        os.mkfifo(tmp_path / "pipe.png")
        for name in ("poster.png", "pipe.png"):
            with pytest.raises(UsageError, match="changed while it was read"):
                media.keep(tmp_path / name, name=name, mime_type="image/png", size=len(PNG), now_ms=NOW)


def test_only_files_that_no_message_needs_are_swept_away(tmp_path: Path) -> None:
    """Issue 6, point 3."""
    with keeping(tmp_path) as (world, media):
        needed = keep(media, tmp_path)
        unused = keep(media, tmp_path, PNG + b"2")
        media.uploads(1).save(unused.digest, "1013", now_ms=NOW, expires_at_ms=None)
        encoded = encode_content(Media(kind=MediaKind.IMAGE, file=needed))
        world.enqueue([replace(line(), encoded=encoded)])
        assert media.sweep(now_ms=NOW + DAY_MS) == 0  # they may just have been taken in
        assert media.sweep(now_ms=NOW + DAY_MS + 1) == 1
        assert media.read(needed) == PNG
        assert media.uploads(1).find(unused.digest, now_ms=NOW) is None
        later = NOW + (NEEDED_FOR_DAYS + 2) * DAY_MS
        with world.database.write() as connection:
            connection.execute("UPDATE message SET state = 'sent', due_at = ?", (later - DAY_MS,))
        assert media.sweep(now_ms=later) == 0  # its failure may still be reported
        with world.database.write() as connection:
            connection.execute("UPDATE message SET due_at = ?", (NOW,))
        assert media.sweep(now_ms=later + 2 * DAY_MS) == 1
        assert list(media.folder.iterdir()) == []


def test_a_backup_has_the_files_too(tmp_path: Path) -> None:
    """Issue 6, point 3."""
    with keeping(tmp_path) as (_world, media):
        target = tmp_path / "backup.db.media"
        assert media.copy_to(target) == 0
        assert not target.exists()
        file = keep(media, tmp_path)
        assert media.copy_to(target) == media.copy_to(target) == 1
        assert (target / file.digest).read_bytes() == PNG


def test_an_upload_is_remembered_for_its_instance_until_it_ends(tmp_path: Path) -> None:
    """Issue 6, point 3."""
    with keeping(tmp_path) as (_world, media):
        uploads = media.uploads(1)
        assert uploads.find("ab", now_ms=NOW) is None
        uploads.save("ab", "1013", now_ms=NOW, expires_at_ms=NOW + 10)
        assert uploads.find("ab", now_ms=NOW + 9) == "1013"
        assert uploads.find("ab", now_ms=NOW + 10) is None
        assert media.uploads(2).find("ab", now_ms=NOW) is None
        uploads.save("ab", "1014", now_ms=NOW, expires_at_ms=None)
        assert uploads.find("ab", now_ms=NOW * 2) == "1014"
        uploads.forget("ab")
        assert uploads.find("ab", now_ms=NOW) is None
