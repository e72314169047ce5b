"""Every kind of message over HTTP, with files of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from door import ADA, BEN, error_of

from wa_cli.domain.message import (
    Buttons,
    ContactCard,
    ListMenu,
    ListRow,
    ListSection,
    Location,
    Media,
    MediaKind,
    Reaction,
    ReplyButton,
    decode_content,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from door import Api

    from wa_cli.domain.message import Content

PNG = b"\x89PNG\r\n\x1a\n" + b"picture" * 9


def queue(api: Api, **body: Any) -> Content:
    """What a call has queued."""
    answer = api.post("/api/messages/send", {"phoneNumber": ADA, **body})
    assert answer.status_code == 202, answer.json()
    ((encoded,),) = api.rows("SELECT body FROM content ORDER BY id DESC LIMIT 1")
    return decode_content(encoded)


def test_every_kind_is_queued_as_it_was_said(api: Api) -> None:
    """Issue 6, point 3."""
    assert queue(api, location={"latitude": 25.2, "longitude": "55.27", "name": "Office"}) == Location(
        latitude="25.2", longitude="55.27", name="Office"
    )
    card = queue(api, contact={"name": "Ada", "phone": "+65 8123 4567"})
    assert card == ContactCard(name="Ada", phone="+6581234567")
    buttons = queue(api, body="Coming?", reply_buttons=[{"id": "y", "title": "Yes"}], footer="wa")
    assert buttons == Buttons(body="Coming?", buttons=(ReplyButton(id="y", title="Yes"),), footer="wa")
    menu = queue(
        api,
        type="list",
        body="Pick",
        list={"button": "Open", "sections": [{"rows": [{"id": "a", "title": "A", "description": "first"}]}]},
    )
    rows = (ListRow(id="a", title="A", description="first"),)
    assert menu == ListMenu(body="Pick", button="Open", sections=(ListSection(title=None, rows=rows),))
    thumb = queue(api, reaction={"to_message": "wamid.A", "emoji": "👍"})
    assert thumb == Reaction(message_id="wamid.A", emoji="👍")
    voice = queue(api, type="voice", media="https://example.org/a.ogg")
    assert voice == Media(kind=MediaKind.VOICE, link="https://example.org/a.ogg")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"poll": {"question": "Coming?", "options": ["Yes", "No"]}}, "Meta's Cloud API has no polls"),
        (
            {"body": "x", "location": {"latitude": 1, "longitude": 2}},
            "body does not go with a message of type location",
        ),
        ({"type": "reaction"}, "type reaction needs reaction.to_message and reaction.emoji"),
        ({"reaction": {"to_message": "m1", "emoji": "👍"}}, "m1"),
        ({"location": {"latitude": 100, "longitude": 2}}, "the latitude is '100'"),
    ],
)
def test_what_cannot_be_sent_is_refused_in_the_words_of_the_api(api: Api, body: dict[str, Any], words: str) -> None:
    """Issue 6, point 3.  Row H13."""
    answer = api.post("/api/messages/send", {"phoneNumber": ADA, **body})
    assert answer.status_code in (400, 404)
    assert words in error_of(answer)["message"]


def test_a_reaction_belongs_to_one_chat(api: Api) -> None:
    """Issue 6, point 3."""
    api.subgroup("vip", ADA, BEN)
    answer = api.post("/api/subgroups/vip/send", {"reaction": {"to_message": "wamid.A", "emoji": "👍"}})
    assert "a reaction belongs to the chat of its message" in error_of(answer)["message"]


def test_callers_get_at_the_files_of_named_folders_alone(
    make_api: Callable[..., Api], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Issue 6, point 3: not at the server's working directory, and errors do not tell what is where."""
    shared = tmp_path_factory.mktemp("shared")
    (shared / "a.png").write_bytes(PNG)
    (shared / "way-out.png").symlink_to(shared.parent)
    bare = make_api()
    body = {"phoneNumber": ADA, "media": str(shared / "a.png")}
    refused = bare.post("/api/messages/send", body, key=bare.key("other"))
    assert error_of(refused)["code"] == "media_outside"
    api = make_api(WA_MEDIA_ROOTS=str(shared))
    content = queue(api, media="a.png", caption="Look")
    assert isinstance(content, Media)
    assert (content.kind, content.caption, content.file is not None) == (MediaKind.IMAGE, "Look", True)
    for word in ("../x.png", "/etc/passwd", "way-out.png", "./wa.db"):
        answer = api.post("/api/messages/send", {"phoneNumber": ADA, "media": word})
        assert answer.status_code == 400
        assert str(shared.parent) not in answer.text.replace(str(shared), "")
