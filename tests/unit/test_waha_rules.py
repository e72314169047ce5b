"""What WAHA takes, told before anything is queued, and what may be said of an account of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from wa_cli.domain.connection import ConnectionState
from wa_cli.domain.message import (
    CONTENT_TYPES,
    Buttons,
    ContactCard,
    ListMenu,
    ListRow,
    ListSection,
    Location,
    Media,
    MediaKind,
    Poll,
    Reaction,
    ReplyButton,
    Template,
    Text,
    content_type,
)
from wa_cli.domain.recipient import RecipientKind
from wa_cli.errors import UsageError
from wa_cli.ports import Post
from wa_cli.transports.vcard import write_card
from wa_cli.transports.waha.payload import build_request
from wa_cli.transports.waha.provider import PROVIDER
from wa_cli.transports.waha.rules import WahaRules
from wa_cli.transports.waha.states import read_connection
from wa_cli.transports.web_groups import read_group, read_groups

LINK = "https://example.org/a.png"
POLL = Poll(question="When?", options=("Six", "Seven", "Eight"))
MENU = ListMenu(body="Choose", button="Open", sections=(ListSection(title="A", rows=(ListRow(id="1", title="One"),)),))
CARD = ContactCard(name="Ada", phone="+15550100123")
PLACE = Location(latitude="1.2966", longitude="103.7764")

CONTENTS: dict[str, Any] = {
    "text": Text(body="Hi"),
    **{kind.value: Media(kind=kind, link=LINK) for kind in MediaKind},
    "location": PLACE,
    "contact": CARD,
    "poll": POLL,
    "reaction": Reaction(message_id="3EB0", emoji="👍"),
    "template": Template(name="hello", language="en"),
    "buttons": Buttons(body="Yes?", buttons=(ReplyButton(id="y", title="Yes"),)),
    "list": MENU,
}


@pytest.mark.parametrize("kind", CONTENT_TYPES)
def test_a_kind_that_it_lacks_is_refused_by_name_and_every_other_is_taken(kind: str) -> None:
    """Issue 6, point 3."""
    problem = WahaRules().find_problem(CONTENTS[kind])
    if kind in PROVIDER.capabilities.kinds:
        assert problem is None
    else:
        assert problem is not None
        assert content_type(CONTENTS[kind]) in problem.message
    assert not WahaRules().needs_window(CONTENTS[kind])


def test_it_reaches_people_and_groups() -> None:
    assert [WahaRules().find_recipient_problem(kind) for kind in RecipientKind] == [None, None]


@pytest.mark.parametrize(
    "content",
    [
        Text(body=" "),
        Text(body="x" * 65_537),
        Text(body="a\x00"),
        Media(kind=MediaKind.IMAGE, link="http://example.org/a.png"),
        Media(kind=MediaKind.IMAGE, link="https://192.168.0.1/a.png"),
        Media(kind=MediaKind.IMAGE, link=LINK, caption="x" * 1025),
        Media(kind=MediaKind.VOICE, link=LINK, caption="words"),
        Media(kind=MediaKind.DOCUMENT, link=LINK, filename="../a.pdf"),
        Location(latitude="91", longitude="0"),
        Location(latitude="0", longitude="nan"),
        Location(latitude="north", longitude="0"),
        replace(CARD, phone="15550100123"),
        replace(CARD, name=""),
        replace(POLL, options=("Six",)),
        replace(POLL, options=tuple(map(str, range(13)))),
        replace(POLL, options=("Six", "Six")),
        replace(POLL, options=("Six", " ")),
        replace(POLL, max_answers=2),
        replace(MENU, sections=()),
        replace(MENU, button=""),
        replace(MENU, sections=(*MENU.sections, *MENU.sections)),
    ],
)
def test_what_waha_would_not_take_is_refused_before_it_is_queued(content: Any) -> None:
    """Row T7: with what to write instead."""
    problem = WahaRules().find_problem(content)
    assert problem is not None
    assert problem.message
    assert problem.hint


@pytest.mark.parametrize(("answers", "several"), [(0, True), (1, False), (3, True)])
def test_a_poll_allows_one_answer_or_any(answers: int, several: bool) -> None:
    """Row H13."""
    content = replace(POLL, max_answers=answers)
    assert WahaRules().find_problem(content) is None
    post = Post(tag="wa1.install.1", address="+15550100123", kind=RecipientKind.PERSON, content=content)
    assert json.loads(build_request(post, "shop").body)["poll"]["multipleAnswers"] is several


def test_a_card_cannot_be_broken_out_of() -> None:
    card = write_card(ContactCard(name="Ada\nTEL:+1999", phone="+15550100123", organization="A;B,C\\D"))
    assert card.splitlines()[2] == "FN:Ada\\nTEL:+1999"
    assert "ORG:A\\;B\\,C\\\\D;" in card
    assert card.splitlines()[-1] == "END:VCARD"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:3000", "http://localhost:3000/", "http://waha:3000", "http://10.0.0.5:3000",
        "http://[::1]:3000", "https://waha.example.org/prefix",
    ],
)  # fmt: skip
def test_a_url_that_keeps_the_key_within_the_house_is_taken(url: str) -> None:
    PROVIDER.check({"url": url, "session": "shop-1", "key": "abc"})


@pytest.mark.parametrize(
    "values",
    [
        {"url": "http://waha.example.org:3000"},  # in clear text over the internet
        {"url": "waha:3000"},
        {"url": "ftp://waha"},
        {"url": "http://user:pass@waha:3000"},
        {"url": "http://waha:3000/?x-api-key=1"},
        {"url": "http://waha:port"},
        {"session": "a/b"},
        {"session": "a b"},
        {"key": "a b"},
        {"key": "schlüssel"},
    ],
)
def test_an_account_that_cannot_be_meant_is_refused(values: dict[str, str]) -> None:
    """Promise P11: and the key is not shown."""
    with pytest.raises(UsageError) as refused:
        PROVIDER.check(values)
    if "key" in values:
        assert values["key"] not in f"{refused.value} {refused.value.hint}"


def test_a_connection_is_read_from_the_session() -> None:
    connection = read_connection("WORKING", me={"id": "15550783881:3@s.whatsapp.net"}, engine={"engine": "NOWEB"})
    assert (connection.state, connection.address, connection.engine) == (
        ConnectionState.READY,
        "+15550783881",
        "NOWEB",
    )
    assert read_connection("WORKING", me={"id": 7}, engine={"engine": "<b>"}).engine is None
    lock = {"isActive": True, "until": "2099-01-01T00:00:00Z"}
    assert read_connection("WORKING", me={"reachoutTimelock": lock}).restriction is not None
    assert read_connection("WORKING", me={"reachoutTimelock": lock | {"isActive": False}}).restriction is None
    assert read_connection("WORKING", me={"reachoutTimelock": {"until": 1}}).restriction is None


@pytest.mark.parametrize("shape", [None, "x", [], {}, [None], [{"id": "6012@c.us"}], {"a": {"id": 7}}])
def test_what_is_no_group_is_left_out(shape: Any) -> None:
    assert read_groups(shape) == []


def test_members_are_known_by_number_before_the_hidden_id_and_those_who_left_are_none() -> None:
    """Issue 6, point 4."""
    members = [
        {"id": "1@lid", "pn": "15550100123@c.us", "role": "admin"},
        {"id": "2@lid", "role": "participant"},
        {"id": "3@lid", "pn": "15550100125@c.us", "role": "left"},
        "noise",
    ]
    group = read_group({"JID": "120363041234567890@g.us", "Name": "Run\u202eners", "IsAnnounce": True}, members)
    assert group is not None
    assert (group.participants, group.size, group.may_post) == (("+15550100123", "2@lid"), 2, None)
    assert group.name == "Run ners"
    ours = read_group({"JID": "120363041234567890@g.us", "IsAnnounce": True}, members, own="+15550100123")
    assert ours is not None
    assert ours.may_post is True
