"""What is posted to GOWA's send routes, read and judged as GOWA does it.  No state, no network."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from wa_cli.sandbox.gowa_words import GowaRefusal

if TYPE_CHECKING:
    from collections.abc import Mapping

PERSON_SERVER: Final = "@s.whatsapp.net"
GROUP_SERVER: Final = "@g.us"
DURATIONS: Final = (0, 86_400, 604_800, 7_776_000)
# Each route, whether its body is a form of several parts, and what the ledger calls it.
ROUTES: Final[Mapping[str, tuple[bool, str]]] = {
    "message": (False, "text"),
    "image": (True, "image"),
    "file": (True, "document"),
    "video": (True, "video"),
    "audio": (True, "audio"),
    "sticker": (True, "sticker"),
    "contact": (False, "contact"),
    "location": (False, "location"),
    "poll": (False, "poll"),
    "reaction": (False, "reaction"),
}
MAX_BYTES: Final[Mapping[str, int]] = {"image": 20_000_000, "file": 50_000_000, "video": 100_000_000}
_PHONE: Final = re.compile(r"\d{5,25}(?:-\d{1,20})?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostedFile:
    """filename, mime_type: as its part says.  digest: SHA-256 of its bytes in hex."""

    filename: str
    mime_type: str
    size: int
    digest: str


@dataclass(slots=True, kw_only=True)
class PostedForm:
    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, PostedFile] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GowaSend:
    """chat: digits of a person, or the id of a group.  kind, content: for the ledger."""

    chat: str
    kind: str
    content: str


def read_json_send(route: str, raw_body: bytes) -> GowaSend:
    """Raises: GowaRefusal as GOWA words it."""
    try:
        body = json.loads(raw_body)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise GowaRefusal.invalid("the body is not a JSON object")
    chat = read_phone(body.get("phone"))
    if "duration" in body and body["duration"] not in DURATIONS:
        raise GowaRefusal.invalid("duration: must be one of 0, 86400, 604800, 7776000.")
    match route:
        case "message":
            content = _need_text(body, "message")
        case "contact":
            content = f"{_need_text(body, 'contact_name')}, {_need_text(body, 'contact_phone')}"
        case "location":
            content = f"{_need_text(body, 'latitude')}, {_need_text(body, 'longitude')}"
            for part in content.split(", "):
                if not re.fullmatch(r"-?\d+(?:\.\d+)?", part, re.ASCII):
                    raise GowaRefusal.invalid("latitude: must be a valid latitude.")
        case "poll":
            content = _read_poll(body)
        case _:
            content = _need_text(body, "emoji")
    return GowaSend(chat=chat, kind=ROUTES[route][1], content=content)


def read_form_send(route: str, form: PostedForm) -> GowaSend:
    """Raises: GowaRefusal as GOWA words it."""
    chat = read_phone(form.fields.get("phone"))
    file, link = form.files.get(route), form.fields.get(f"{route}_url", "")
    kind = ROUTES[route][1]
    if file is None and not link:
        raise GowaRefusal.invalid(f"{route}: cannot be blank; either {route} or {route}_url must be provided.")
    if file is not None:
        if file.size > MAX_BYTES.get(route, 100_000_000):
            raise GowaRefusal.invalid(f"max {route} size is {MAX_BYTES.get(route, 100_000_000) // 1_000_000}MB")
        if route == "image" and file.mime_type not in ("image/jpeg", "image/jpg", "image/png"):
            raise GowaRefusal.invalid("your image is not allowed. please use jpg/jpeg/png")
    elif urlsplit(link).scheme not in ("http", "https") or not urlsplit(link).netloc:
        raise GowaRefusal.invalid(f"{route}_url: must be a valid URL.")
    if route == "audio" and form.fields.get("ptt") == "true":
        kind = "voice"
    shown = form.fields.get("caption") or link or (f"{file.filename} {file.digest}" if file else "")
    return GowaSend(chat=chat, kind=kind, content=shown)


def read_phone(phone: Any) -> str:
    """The chat that a phone means.  Raises: GowaRefusal."""
    if not isinstance(phone, str) or not phone:
        raise GowaRefusal.invalid("phone: cannot be blank.")
    if phone.startswith("0"):
        raise GowaRefusal.invalid("phone number must be in international format (should not start with 0)")
    local, _, server = phone.partition("@")
    if not _PHONE.fullmatch(local) or server not in ("", "s.whatsapp.net", "g.us"):
        raise GowaRefusal(status=400, code="INVALID_JID", message=f"Phone {phone} is not a valid JID")
    # A bare number of more than fifteen digits is taken for a group, right or not.
    is_group = server == "g.us" or (not server and len(local) > 15)
    return f"{local}{GROUP_SERVER}" if is_group else local


def _read_poll(body: Mapping[str, Any]) -> str:
    question = _need_text(body, "question")
    options, most = body.get("options"), body.get("max_answer")
    if not isinstance(options, list) or len(options) < 2 or not all(isinstance(one, str) and one for one in options):
        raise GowaRefusal.invalid("options: the length must be no less than 2.")
    if len(set(options)) < len(options):
        raise GowaRefusal.invalid("options should be unique")
    if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= len(options):
        raise GowaRefusal.invalid("max_answer: must be no less than 1 and no greater than the options.")
    return f"{question} ({' / '.join(options)})"


def _need_text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value.strip():
        # Numbers too: a latitude that is one cannot be read into the text it has to be.
        raise GowaRefusal.invalid(f"{name}: cannot be blank.")
    return value
