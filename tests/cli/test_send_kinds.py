"""`wa send` with every kind of message: the flags, what is refused, and how listings say it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wa_cli.domain.message import (
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
)

if TYPE_CHECKING:
    from tests.cli.conftest import Wa
    from wa_cli.bootstrap import App
    from wa_cli.domain.message import Content

TO = ("send", "to", "+6581230001")
MENU = '{"button": "Open", "sections": [{"title": "Mon", "rows": [{"id": "m9", "title": "09:00"}]}]}'


def queue(wa: Wa, app: App, *flags: str) -> Content:
    """What a call has queued."""
    answer = wa(*TO, *flags, "--json")
    assert answer.exit == 0, answer.err
    (message,) = answer.json()["messages"]
    content = app.messages.find(int(message["id"][1:])).content
    assert content is not None
    return content


def test_a_place_a_card_buttons_and_a_list_are_queued_as_they_were_said(wa: Wa, app: App) -> None:
    """Issue 6, point 3."""
    place = queue(wa, app, "--latitude", "25.2", "--longitude", "55.27", "--name", "Office", "--address", "1 Road")
    assert place == Location(latitude="25.2", longitude="55.27", name="Office", address="1 Road")
    card = queue(wa, app, "--contact-name", "Ada", "--contact-phone", "+65 8123 4567", "--contact-org", "Engines")
    assert card == ContactCard(name="Ada", phone="+6581234567", organization="Engines")
    buttons = queue(wa, app, "--text", "Coming?", "--reply-button", "y=Yes", "--header", "text=Gala", "--footer", "wa")
    assert buttons == Buttons(body="Coming?", buttons=(ReplyButton(id="y", title="Yes"),), header="Gala", footer="wa")
    wa.write("slots.json", MENU)
    menu = queue(wa, app, "--text", "Pick", "--list", "slots.json")
    rows = (ListRow(id="m9", title="09:00"),)
    assert menu == ListMenu(body="Pick", button="Open", sections=(ListSection(title="Mon", rows=rows),))
    voice = queue(wa, app, "--type", "voice", "--media", "https://example.org/a.ogg")
    assert voice == Media(kind=MediaKind.VOICE, link="https://example.org/a.ogg")


def test_listings_say_every_kind_in_words(wa: Wa) -> None:
    """Issue 6, point 3."""
    wa(*TO, "--latitude", "25.2", "--longitude", "55.27", "--name", "Office")
    (row,) = wa("message", "list", "--json").json()["messages"]
    assert (row["type"], row["body"]) == ("location", "Office")
    assert "location: Office" in wa("message", "show", row["id"]).out


def test_a_poll_is_refused_when_it_is_queued_and_nothing_is_written(wa: Wa) -> None:
    """Issue 6, point 3.  Row H13."""
    answer = wa(*TO, "--question", "Coming?", "--option", "Yes", "--option", "No")
    assert answer.exit == 2
    assert "error: Meta's Cloud API has no polls" in answer.err
    assert wa("message", "list", "--json").json()["count"] == 0


def test_a_reaction_finds_the_platforms_id_of_our_message(wa: Wa, app: App) -> None:
    """Issue 6, point 3."""
    sent = wa(*TO, "--text", "Hello", "--json").json()["messages"][0]["id"]
    answer = wa(*TO, "--to-message", sent, "--emoji", "👍")
    assert answer.exit == 2
    assert "WhatsApp has given it no id" in answer.err
    elsewhere = wa("send", "to", "+6581230002", "--to-message", sent, "--emoji", "👍")
    assert f"error: message {sent} was sent to +6581230001" in elsewhere.err
    two = wa("send", "to", "+6581230001", "+6581230002", "--to-message", "wamid.A", "--emoji", "👍")
    assert "a reaction belongs to the chat of its message" in two.err
    assert queue(wa, app, "--to-message", "wamid.A", "--emoji", "") == Reaction(message_id="wamid.A", emoji="")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--latitude", "1"), "a location needs --longitude too"),
        (("--name", "Office"), "--name belongs to a location"),
        (("--text", "x", "--latitude", "1", "--longitude", "2"), "TEXT does not go with a message of type location"),
        (("--contact-name", "Ada"), "a contact card needs --contact-phone too"),
        (("--contact-name", "Ada", "--contact-phone", "12"), "12"),
        (("--question", "Coming?"), "--question belongs to a poll"),
        (("--type", "poll", "--text", "Coming?"), "--type poll needs --option"),
        (("--type", "reaction"), "--type reaction needs --to-message and --emoji"),
        (("--emoji", "👍"), "a reaction needs --to-message ID"),
        (("--text", "x", "--reply-button", "yes"), "--reply-button is 'yes'"),
        (("--text", "x", "--footer", "small"), "--footer does not go with a message of type text"),
        (("--text", "x", "--list", "none.json"), "--list cannot read none.json: no such file"),
        (("--text", "x", "--reply-button", "y=Yes", "--header", "image=https://example.org/a.png"), "a text alone"),
        (("--type", "voice"), "--type voice needs --media"),
        (("--type", "song"), "--type is 'song', which is no type of message"),
    ],
)
def test_flags_that_do_not_go_together_are_refused_with_a_hint(wa: Wa, flags: tuple[str, ...], words: str) -> None:
    """Issue 6, point 3."""
    answer = wa(*TO, *flags)
    assert answer.exit == 2
    assert words in answer.err
    assert "hint: " in answer.err


@pytest.mark.parametrize("shape", ["[]", "{", '{"button": "Open"}', '{"button": 1, "sections": []}', '{"rows": []}'])
def test_a_list_file_that_describes_none_is_refused(wa: Wa, shape: str) -> None:
    """Issue 6, point 3."""
    wa.write("slots.json", shape)
    answer = wa(*TO, "--text", "Pick", "--list", "slots.json")
    assert answer.exit == 2
    assert "--list slots.json" in answer.err


def test_the_help_groups_what_belongs_together(wa: Wa) -> None:
    """Issue 6, point 3."""
    for verb in ("to", "subgroup"):
        told = wa("send", verb, "--help").out
        titles = ["Options:", "A file:", "A template:", "A location:", "A contact card:", "Polls, buttons, lists:"]
        places = [told.index(f"\n{title}\n") for title in titles]
        assert places == sorted(places)


def test_a_poll_goes_to_an_instance_that_has_them_and_the_refusal_names_it(wa: Wa, app: App) -> None:
    """Issue 6, point 3.  Row H13."""
    added = wa("instance", "add", "club", "--transport", "gowa", "--url", "http://127.0.0.1:9")
    assert added.exit == 0, added.err
    poll = ("--question", "Coming?", "--option", "Yes", "--option", "No", "--max-answers", "0")
    refused = wa(*TO, *poll, "--instance", "default")
    assert "hint: these instances have them: --instance club" in refused.err
    content = queue(wa, app, *poll, "--instance", "club")
    assert content == Poll(question="Coming?", options=("Yes", "No"), max_answers=0)
    buttons = wa(*TO, "--text", "Coming?", "--reply-button", "y=Yes", "--instance", "club")
    assert "error: GOWA has no buttons" in buttons.err
    assert "--instance default" in buttons.err
