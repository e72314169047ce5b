"""What goes to GOWA for each type of message.  Issue 6: every kind, in the gateway's own spelling."""

from __future__ import annotations

import json
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

import pytest

from wa_cli.domain.message import (
    Buttons,
    ContactCard,
    Content,
    ListMenu,
    ListRow,
    ListSection,
    LocalFile,
    Location,
    Media,
    MediaKind,
    Poll,
    Reaction,
    ReplyButton,
    Template,
    Text,
)
from wa_cli.domain.recipient import RecipientKind
from wa_cli.ports import Post
from wa_cli.transports.gowa.payload import build_request
from wa_cli.transports.gowa.rules import GowaRules
from wa_cli.transports.multipart import FilePart, build_form

GROUP = "120363025982934543@g.us"


def post(content: Content, address: str = "+60123456789") -> Post:
    kind = RecipientKind.GROUP if address.endswith("@g.us") else RecipientKind.PERSON
    return Post(tag="wa1.abc.7", address=address, kind=kind, content=content)


def parts_of(content_type: str, body: bytes) -> dict[str, tuple[str | None, str, bytes]]:
    """Each part by its name: its file name, its type, its bytes; read by the standard library."""
    message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    assert message.is_multipart()
    assert not message.defects
    found = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        found[str(name)] = (part.get_filename(), part.get_content_type(), payload)
    return found


@pytest.mark.parametrize(
    ("content", "path", "shape"),
    [
        (Text(body="Hi"), "/send/message", {"message": "Hi"}),
        (
            Location(latitude="3.1390", longitude="-101.6"),
            "/send/location",
            {"latitude": "3.1390", "longitude": "-101.6"},
        ),
        (
            ContactCard(name="Ana", phone="+6581234567"),
            "/send/contact",
            {"contact_name": "Ana", "contact_phone": "6581234567"},
        ),
        (
            Poll(question="When?", options=("now", "then"), max_answers=1),
            "/send/poll",
            {"question": "When?", "options": ["now", "then"], "max_answer": 1},
        ),
        (
            Poll(question="Which?", options=("a", "b", "c"), max_answers=0),
            "/send/poll",
            {"question": "Which?", "options": ["a", "b", "c"], "max_answer": 3},
        ),
        (Reaction(message_id="3EB0/AA", emoji="👍"), "/message/3EB0%2FAA/reaction", {"emoji": "👍"}),
    ],
)
def test_what_is_no_file_goes_out_as_json_to_the_whole_id(content: Content, path: str, shape: dict[str, Any]) -> None:
    request = build_request(post(content))

    assert (request.path, request.content_type) == (path, "application/json")
    assert json.loads(request.body) == {"phone": "60123456789@s.whatsapp.net", **shape}


def test_a_group_keeps_its_id() -> None:
    assert json.loads(build_request(post(Text(body="Hi"), GROUP)).body)["phone"] == GROUP


@pytest.mark.parametrize(
    ("kind", "path", "field"),
    [
        (MediaKind.IMAGE, "/send/image", "image_url"),
        (MediaKind.VIDEO, "/send/video", "video_url"),
        (MediaKind.DOCUMENT, "/send/file", "file_url"),
        (MediaKind.AUDIO, "/send/audio", "audio_url"),
        (MediaKind.VOICE, "/send/audio", "audio_url"),
        (MediaKind.STICKER, "/send/sticker", "sticker_url"),
    ],
)
def test_a_link_goes_out_as_a_part_of_a_form(kind: MediaKind, path: str, field: str) -> None:
    request = build_request(post(Media(kind=kind, link="https://example.com/a")))
    parts = parts_of(request.content_type, request.body)

    assert request.path == path
    assert parts["phone"][2] == b"60123456789@s.whatsapp.net"
    assert parts[field] == (None, "text/plain", b"https://example.com/a")
    assert ("ptt" in parts) is (kind is MediaKind.VOICE)


def test_our_own_file_goes_out_with_its_bytes_name_and_caption() -> None:
    data = bytes(range(256)) * 40
    content = Media(
        kind=MediaKind.DOCUMENT,
        caption="Grüße\r\n--wa",
        filename='a "quoted" ünï.pdf',
        file=LocalFile(digest="d" * 64, mime_type="application/pdf", size=len(data)),
    )
    request = build_request(post(content), data)
    parts = parts_of(request.content_type, request.body)

    assert parts["file"] == ('a "quoted" ünï.pdf', "application/pdf", data)
    assert parts["caption"][2].decode() == "Grüße\r\n--wa"


def test_a_file_without_a_name_gets_one_by_its_type() -> None:
    content = Media(kind=MediaKind.IMAGE, file=LocalFile(digest="d" * 64, mime_type="image/png", size=3))
    request = build_request(post(content), b"png")

    assert parts_of(request.content_type, request.body)["image"] == ("image.png", "image/png", b"png")


def test_a_boundary_never_stands_in_what_it_divides() -> None:
    usual, _ = build_form({"phone": "1"})
    boundary = usual.partition("boundary=")[2]
    data = f"x\r\n--{boundary}--\r\ny".encode()
    content_type, body = build_form(
        {"phone": "1"}, FilePart(field="file", filename="a\r\nb.bin", mime_type="text/plain", data=data)
    )

    assert content_type != usual
    assert parts_of(content_type, body)["file"] == ("ab.bin", "text/plain", data)


def test_usual_forms_share_one_boundary() -> None:
    """So that the head of the request is made once."""
    assert build_form({"phone": "1"})[0] == build_form({"phone": "2", "caption": "x"})[0]


REFUSED: list[tuple[Content, str]] = [
    (Template(name="sale", language="en"), "template"),
    (Buttons(body="Hi", buttons=(ReplyButton(id="1", title="Yes"),)), "buttons"),
    (
        ListMenu(body="Hi", button="Choose", sections=(ListSection(title=None, rows=(ListRow(id="1", title="a"),)),)),
        "list",
    ),
    (Text(body=" "), "empty"),
    (Media(kind=MediaKind.VOICE, link="https://example.com/a.ogg", caption="c"), "caption"),
    (Media(kind=MediaKind.IMAGE, link="http://10.0.0.1/a.png"), "http"),
    (Media(kind=MediaKind.DOCUMENT, link="https://example.com/a", filename="b.pdf"), "link"),
    (Media(kind=MediaKind.IMAGE, file=LocalFile(digest="d", mime_type="image/gif", size=3)), "JPEG"),
    (Media(kind=MediaKind.IMAGE, file=LocalFile(digest="d", mime_type="image/png", size=20_000_001)), "20,000,000"),
    (Media(kind=MediaKind.VIDEO, file=LocalFile(digest="d", mime_type="video/mp4", size=100_000_001)), "100,000,000"),
    (Location(latitude="91", longitude="0"), "latitude"),
    (Location(latitude="nan", longitude="0"), "latitude"),
    (Location(latitude="1", longitude="2", name="Here"), "name"),
    (ContactCard(name="", phone="+6581234567"), "name"),
    (ContactCard(name="Ana", phone="+6581234567", organization="ACME"), "organization"),
    (Poll(question="?", options=("a",)), "2 to 12"),
    (Poll(question="?", options=("a", "a")), "twice"),
    (Poll(question="?", options=("a", "b"), max_answers=3), "3"),
    (Reaction(message_id="3EB0", emoji=""), "back"),
]


@pytest.mark.parametrize(("content", "word"), REFUSED)
def test_what_the_gateway_would_refuse_or_drop_is_named_before_it_is_queued(content: Content, word: str) -> None:
    """Promise P12."""
    problem = GowaRules().find_problem(content)

    assert problem is not None
    assert word in problem.message
    assert problem.hint


def test_what_the_gateway_has_no_route_for_is_never_built() -> None:
    for content, word in REFUSED[:3]:
        with pytest.raises(ValueError, match=word):
            build_request(post(content))


@pytest.mark.parametrize(
    "content",
    [
        Text(body="Hi"),
        Media(kind=MediaKind.IMAGE, link="https://example.com/a.png", caption="c"),
        Media(kind=MediaKind.DOCUMENT, filename="b.pdf", file=LocalFile(digest="d", mime_type="x/y", size=50_000_000)),
        Location(latitude="3.1", longitude="101.6"),
        ContactCard(name="Ana", phone="+6581234567"),
        Poll(question="?", options=("a", "b"), max_answers=0),
        Reaction(message_id="3EB0", emoji="👍"),
    ],
)
def test_what_the_gateway_takes_passes(content: Content) -> None:
    assert GowaRules().find_problem(content) is None
    assert not GowaRules().needs_window(content)
