"""Local files that go along with a message: whether they may be taken, and what they are by their bytes.

Nothing is copied here; the store keeps what was looked at.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from wa_cli.domain.message import LocalFile
from wa_cli.domain.recipient import show_text
from wa_cli.errors import UsageError
from wa_cli.ports import FoundFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

HEAD_BYTES: Final = 4096  # enough for every signature here, and to tell a text
UNKNOWN: Final = "application/octet-stream"
_ZIP: Final = "application/zip"
_OLE: Final = "application/x-ole-storage"  # what Word, Excel and PowerPoint wrote before 2007
_OFFICE: Final = "application/vnd.openxmlformats-officedocument"

# What an ending promises.
TYPES_OF_ENDINGS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("jpg", "jpeg", "jpe"), "image/jpeg"),
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    **dict.fromkeys(("mp4", "m4v"), "video/mp4"),
    "3gp": "video/3gpp",
    "mov": "video/quicktime",
    "mp3": "audio/mpeg",
    "m4a": "audio/mp4",
    "aac": "audio/aac",
    "amr": "audio/amr",
    **dict.fromkeys(("ogg", "oga", "opus"), "audio/ogg"),
    "wav": "audio/wav",
    "pdf": "application/pdf",
    "doc": "application/msword",
    "xls": "application/vnd.ms-excel",
    "ppt": "application/vnd.ms-powerpoint",
    "docx": f"{_OFFICE}.wordprocessingml.document",
    "xlsx": f"{_OFFICE}.spreadsheetml.sheet",
    "pptx": f"{_OFFICE}.presentationml.presentation",
    "zip": _ZIP,
    "txt": "text/plain",
    "csv": "text/csv",
    "json": "application/json",
    "ics": "text/calendar",
    "vcf": "text/vcard",
    "html": "text/html",
}
# Types whose files all begin alike on the inside; the ending says which it is.
_WRAPPED: Final[Mapping[str, frozenset[str]]] = {
    _ZIP: frozenset(one for one in TYPES_OF_ENDINGS.values() if one.startswith(_OFFICE)),
    _OLE: frozenset({"application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint"}),
    "video/mp4": frozenset({"audio/mp4", "video/3gpp"}),
    "audio/mp4": frozenset({"video/mp4"}),
    "text/plain": frozenset({"text/csv", "text/calendar", "text/vcard", "text/html", "application/json"}),
}
_SIGNATURES: Final = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", _ZIP),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _OLE),
    (b"OggS", "audio/ogg"),
    (b"#!AMR", "audio/amr"),
    (b"ID3", "audio/mpeg"),
)


def look_at_file(word: str, *, base: Path, roots: Sequence[Path], shows_paths: bool = True) -> FoundFile:
    """The file that somebody means, once it is certain that it may be taken.

    base: where relative paths begin.  roots: the folders that files are taken from, and all below them.
    shows_paths: whether the error may say where a path leads; not to callers from outside.
    Raises: UsageError for a path that leaves the roots, also by .. or a link; for what is missing, empty or no file;
    and for a file that is something else inside than its ending says.
    """
    shown = show_text(word, limit=200)
    try:
        path = (base / word).resolve()
        allowed = [root.resolve() for root in roots]
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"'{shown}' is no path", hint="a path, or a link with https:// in front") from error
    if not any(path.is_relative_to(root) for root in allowed):
        raise _refuse_place(shown, path, base, shows_paths=shows_paths)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
            raise UsageError(f"'{shown}' is {what}, not a file", hint="name a file", code="media_file")
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no file '{shown}'", hint="check the path; a link has https:// in front", code="no_media_file"
        ) from error
    except OSError as error:
        raise UsageError(
            f"'{shown}' cannot be read: {(error.strerror or 'unknown reason').lower()}",
            hint="check who may read it",
            code="media_file",
        ) from error
    if not head:
        raise UsageError(f"the file '{shown}' is empty", hint="there is nothing in it to send", code="media_file")
    mime_type = find_type(path.suffix.lstrip("."), head, shown)
    return FoundFile(path=path, name=path.name, file=LocalFile(digest="", mime_type=mime_type, size=status.st_size))


def _refuse_place(shown: str, path: Path, base: Path, *, shows_paths: bool) -> UsageError:
    if not shows_paths:
        return UsageError(
            f"'{shown}' is in no folder that files are taken from",
            hint="WA_MEDIA_ROOTS on the server names the folders",
            code="media_outside",
        )
    return UsageError(
        f"'{shown}' leads to {show_text(str(path), limit=200)}, which is in no folder that files are taken from",
        hint=f"copy it below {show_text(str(base), limit=200)}, or allow its folder:"
        f" WA_MEDIA_ROOTS={show_text(str(path.parent), limit=200)}",
        code="media_outside",
    )


def find_type(ending: str, head: bytes, shown: str) -> str:
    """The MIME type of a file by its first bytes, and by its ending where those can be several things.

    Raises: UsageError where the two contradict each other.
    """
    promised = TYPES_OF_ENDINGS.get(ending.lower())
    sniffed = sniff(head)
    if promised is None:
        return sniffed or UNKNOWN
    if promised == sniffed or promised in _WRAPPED.get(sniffed or "", ()):
        return promised
    raise UsageError(
        f"'{shown}' ends in .{ending.lower()}, and inside it is {sniffed or 'something else'}",
        hint="save it as what it is, or give it the right ending",
        code="media_type",
    )


def sniff(head: bytes) -> str | None:
    """What a file is by its first bytes, or None where they say nothing."""
    for signature, mime_type in _SIGNATURES:
        if head.startswith(signature):
            return mime_type
    if head[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(head[8:12])
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand == b"qt  ":
            return "video/quicktime"
        if brand.startswith(b"3g"):
            return "video/3gpp"
        return "audio/mp4" if brand.startswith(b"M4A") else "video/mp4"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:  # a frame of sound; without a layer it is AAC
        return "audio/mpeg" if head[1] & 0x06 else "audio/aac"
    if b"\x00" in head:
        return None
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        # The last character may be cut by the end of what was read.
        if len(head) < HEAD_BYTES or error.start < len(head) - 3:
            return None
    return "text/plain"
