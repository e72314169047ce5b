"""Every kind of message on Meta's side: what is built is what the sandbox takes and what is read back."""

from __future__ import annotations

import json
from dataclasses import replace
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
    content_type,
)
from wa_cli.domain.plan import show_content
from wa_cli.domain.recipient import RecipientKind
from wa_cli.errors import UsageError
from wa_cli.ports import Post
from wa_cli.sandbox.message_checks import find_body_error, read_recipient, read_type
from wa_cli.services.kinds import KindRules
from wa_cli.transports.cloud_api.payload import build_payload, read_payload
from wa_cli.transports.cloud_api.provider import PROVIDER
from wa_cli.transports.cloud_api.rules import CloudApiRules

PLACE = Location(latitude="25.2048", longitude="55.2708", name="Office", address="1 Road")
CARD = ContactCard(name="Ada Lovelace", phone="+6581234567", organization="Engines")
YES_NO = Buttons(
    body="Coming?",
    buttons=(ReplyButton(id="y", title="Yes"), ReplyButton(id="n", title="No")),
    header="Gala",
    footer="wa",
)
SLOTS = ListMenu(
    body="Pick",
    button="Open",
    sections=(
        ListSection(title="Mon", rows=(ListRow(id="m9", title="09:00", description="30 min"),)),
        ListSection(title="Tue", rows=(ListRow(id="t9", title="09:00"),)),
    ),
    footer="wa",
)
VOICE = Media(kind=MediaKind.VOICE, link="https://example.org/a.ogg")
THUMB = Reaction(message_id="wamid.AAA=", emoji="👍")
POLL = Poll(question="Coming?", options=("Yes", "No"), max_answers=2)
KINDS = [PLACE, CARD, YES_NO, SLOTS, VOICE, THUMB, replace(THUMB, emoji=""), Location(latitude="-1", longitude="0")]


def build(content: Content, **more: Any) -> dict[str, Any]:
    post = Post(tag="wa1.install.7", address="+6581234567", kind=RecipientKind.PERSON, content=content)
    body: dict[str, Any] = json.loads(build_payload(post, **more))
    return body


@pytest.mark.parametrize("content", KINDS, ids=content_type)
def test_meta_takes_every_kind_as_it_is_built_and_reads_it_back(content: Content) -> None:
    """Issue 6, point 3.  Row Q2."""
    assert CloudApiRules().find_problem(content) is None
    body = build(content)
    assert find_body_error(body, read_recipient(body), read_type(body)) is None
    kind = body["type"]
    assert read_payload(kind, {kind: body[kind]}) == content


def test_a_voice_message_is_audio_that_says_so() -> None:
    """Issue 6, point 3."""
    assert build(VOICE)["audio"] == {"link": "https://example.org/a.ogg", "voice": True}


def test_a_file_of_ours_goes_by_the_id_of_its_upload() -> None:
    """Issue 6, point 3."""
    file = LocalFile(digest="ab", mime_type="image/png", size=9)
    picture = Media(kind=MediaKind.IMAGE, caption="Poster", file=file)
    assert build(picture, media_id="1013")["image"] == {"id": "1013", "caption": "Poster"}
    with pytest.raises(ValueError, match="uploaded first"):
        build(picture)


def test_a_poll_is_refused_by_name_with_what_asks_nearly_the_same() -> None:
    """Issue 6, point 3.  Row H13."""
    problem = KindRules(PROVIDER, lambda _kind: []).find_problem(POLL)
    assert problem is not None
    assert problem.message == "Meta's Cloud API has no polls"
    assert problem.hint is not None
    assert "buttons and lists" in problem.hint


def test_a_missing_kind_names_the_instances_that_have_it() -> None:
    """Issue 6, point 3.  Row H13."""
    problem = KindRules(PROVIDER, lambda kind: ["club", "home"] if kind == "poll" else []).find_problem(POLL)
    assert problem is not None
    assert problem.hint == "these instances have them: --instance club, --instance home"


BAD = [
    (replace(PLACE, latitude="91"), "the latitude is '91'"),
    (replace(PLACE, longitude="55,27"), "the longitude is '55,27'"),
    (replace(PLACE, longitude="nan"), "the longitude is 'nan'"),
    (replace(PLACE, name=" "), "the place's name is empty"),
    (replace(CARD, phone="6581234567"), "not in international form"),
    (replace(CARD, name=""), "the contact's name is empty"),
    (replace(THUMB, emoji="yes"), "one emoji"),
    (replace(THUMB, message_id=""), "needs the id of the message"),
    (replace(YES_NO, buttons=()), "there are 0 buttons"),
    (replace(YES_NO, buttons=tuple(ReplyButton(id=str(n), title=str(n)) for n in range(4))), "there are 4 buttons"),
    (replace(YES_NO, buttons=(ReplyButton(id="a", title="x" * 21),)), "1 character too long"),
    (replace(YES_NO, buttons=(ReplyButton(id="a", title="A"), ReplyButton(id="b", title="A"))), "two button titles"),
    (replace(YES_NO, body=""), "the text is empty"),
    (replace(YES_NO, footer="x" * 61), "the footer is 1 character too long"),
    (replace(SLOTS, sections=(ListSection(title=None, rows=()),)), "0 rows"),
    (
        replace(SLOTS, sections=(*SLOTS.sections, ListSection(title="", rows=SLOTS.sections[0].rows))),
        "title of a section",
    ),
    (replace(SLOTS, sections=(replace(SLOTS.sections[0], rows=SLOTS.sections[0].rows * 2),)), "two row ids"),
    (replace(SLOTS, button="x" * 21), "the list's button"),
    (replace(VOICE, caption="hm"), "a voice message cannot have a caption"),
    (replace(VOICE, link="https://example.org/a.mp3"), "ends in .mp3"),
]


@pytest.mark.parametrize(("content", "words"), BAD, ids=[words for _content, words in BAD])
def test_what_meta_would_refuse_is_refused_before_it_is_queued(content: Content, words: str) -> None:
    """Issue 6, point 3."""
    problem = CloudApiRules().find_problem(content)
    assert problem is not None
    assert words in problem.message


@pytest.mark.parametrize(
    ("kind", "mime_type", "size", "words"),
    [
        ("image", "image/gif", 10, "WhatsApp takes an image as JPEG or PNG, and the file is image/gif"),
        ("image", "application/pdf", 10, "the file is application/pdf"),
        ("image", "image/png", 5 * 1024 * 1024 + 1, "an image may have 5 MB"),
        ("voice", "audio/mpeg", 10, "a voice message as OGG with Opus"),
        ("sticker", "image/webp", 600 * 1024, "a sticker may have 500 KB, and the file has 600 KB"),
    ],
)
def test_an_upload_is_held_to_the_types_and_sizes_that_meta_takes(
    kind: str, mime_type: str, size: int, words: str
) -> None:
    """Issue 6, point 3."""
    file = LocalFile(digest="ab", mime_type=mime_type, size=size)
    problem = CloudApiRules().find_problem(Media(kind=MediaKind(kind), file=file))
    assert problem is not None
    assert words in problem.message


@pytest.mark.parametrize(
    ("kind", "part", "words"),
    [
        ("interactive", {"type": "flow", "body": {"text": "x"}, "action": {}}, "neither button nor list"),
        ("interactive", {"type": "button", "body": {"text": "x"}, "action": {"buttons": {}}}, "buttons is no list"),
        ("contacts", [], "no list of one contact"),
        ("contacts", [{"name": {"formatted_name": "A"}, "phones": [{"phone": "+65", "type": "WORK"}]}], "'type'"),
        ("location", {"latitude": True, "longitude": 1}, "latitude is no text"),
        ("reaction", {"message_id": "wamid.A"}, "emoji is missing"),
        ("image", {"id": "1013"}, "link is missing"),
        ("poll", {}, "cannot be sent"),
    ],
)
def test_a_callers_own_payload_is_held_to_what_wa_would_send_on(kind: str, part: Any, words: str) -> None:
    """Row Q2."""
    with pytest.raises(UsageError, match=words):
        read_payload(kind, {kind: part})


def test_degrees_may_be_written_as_numbers() -> None:
    """Row Q2."""
    found = read_payload("location", {"location": {"latitude": 25.2048, "longitude": -55}})
    assert found == Location(latitude="25.2048", longitude="-55")


def test_a_plan_shows_every_kind_in_words() -> None:
    """Issue 6, point 3."""
    assert show_content(YES_NO) == "Gala\nComing?\n[Yes]\n[No]\nwa"
    assert show_content(SLOTS) == "Pick\n[Open]\nMon\n( ) 09:00 - 30 min\nTue\n( ) 09:00\nwa"
    assert show_content(POLL) == "Coming?\n( ) Yes\n( ) No\nup to 2 answers"
    assert show_content(PLACE) == "Office\n1 Road\n25.2048, 55.2708"
    assert show_content(CARD) == "Ada Lovelace\nEngines\n+6581234567"
    assert show_content(THUMB) == "👍 to wamid.AAA="
    file = LocalFile(digest="ab", mime_type="image/png", size=9)
    assert show_content(Media(kind=MediaKind.IMAGE, file=file, caption="Look")) == "a file (image)\nLook"
