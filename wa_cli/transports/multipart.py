"""A form of several parts, as browsers post files: fields and at most one file.  Pure."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

# The same for nearly every post, so that its head is made only once.
_BOUNDARY: Final = "wa-5d1f0a6b2c9e48f7a3"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePart:
    """field: the name of its part.  filename: without a path."""

    field: str
    filename: str
    mime_type: str
    data: bytes


def build_form(fields: Mapping[str, str], file: FilePart | None = None) -> tuple[str, bytes]:
    """The content type and the body."""
    boundary = _BOUNDARY
    texts = [value.encode("utf-8", "replace") for value in fields.values()]
    while any(boundary.encode() in part for part in (*texts, file.data if file else b"")):
        boundary = f"wa-{os.urandom(12).hex()}"
    line = f"--{boundary}\r\n".encode()
    parts: list[bytes] = []
    for name, text in zip(fields, texts, strict=True):
        parts += [line, f'Content-Disposition: form-data; name="{name}"\r\n\r\n'.encode(), text, b"\r\n"]
    if file is not None:
        head = (
            f'Content-Disposition: form-data; name="{file.field}"; filename="{_quote(file.filename)}"\r\n'
            f"Content-Type: {file.mime_type}\r\n\r\n"
        )
        parts += [line, head.encode("utf-8", "replace"), file.data, b"\r\n"]
    parts.append(f"--{boundary}--\r\n".encode())
    return f"multipart/form-data; boundary={boundary}", b"".join(parts)


def _quote(name: str) -> str:
    """A file name inside its quotes; what would break the line is gone."""
    plain = "".join(sign for sign in name if sign.isprintable())
    return plain.replace("\\", "\\\\").replace('"', '\\"')
