"""Campaign files whose messages are places, cards, polls, buttons, lists, or local files."""

from __future__ import annotations

import re
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
    ReplyButton,
    decode_content,
)

if TYPE_CHECKING:
    from tests.cli.conftest import Wa
    from wa_cli.bootstrap import App
    from wa_cli.domain.message import Content

PNG = b"\x89PNG\r\n\x1a\n" + b"picture" * 9
PEOPLE = "phone,name,city\n+6581230001,Ana,Jurong\n"
AUDIENCE = '\n[audience]\nfiles = ["few.csv"]\n'


@pytest.fixture
def folder(wa: Wa) -> Wa:
    (wa.folder / "campaigns").mkdir()
    wa.write("campaigns/few.csv", PEOPLE)
    assert wa("init").exit == 0
    return wa


def plan(wa: Wa, message: str) -> str:
    """What the plan of a campaign with this message shows."""
    wa.write("campaigns/gala.toml", f"[message]\n{message}{AUDIENCE}")
    answer = wa("campaign", "plan", "gala")
    assert answer.exit == 0, answer.err
    return answer.out


def planned(app: App) -> Content:
    with app.database.read() as connection:
        ((encoded,),) = connection.execute(
            "SELECT body FROM content WHERE id = (SELECT content_id FROM plan_line ORDER BY id DESC LIMIT 1)"
        ).fetchall()
    return decode_content(encoded)


def test_buttons_and_lists_hold_the_words_of_each_person(folder: Wa, app: App) -> None:
    """Issue 6, point 3."""
    shown = plan(
        folder,
        'text = "Coming, {{ name }}?"\nheader = { text = "Gala in {{ city }}" }\nfooter = "wa"\n'
        'reply_buttons = [{ id = "y", title = "Yes" }, { id = "n", title = "{{ name }} says no" }]',
    )
    assert planned(app) == Buttons(
        body="Coming, Ana?",
        buttons=(ReplyButton(id="y", title="Yes"), ReplyButton(id="n", title="Ana says no")),
        header="Gala in Jurong",
        footer="wa",
    )
    assert "[Ana says no]" in shown
    plan(
        folder,
        'text = "Pick"\n'
        '[message.list]\nbutton = "Open"\nsections = [{ title = "In {{ city }}", rows = [{ id = "a", title = "A" }] }]',
    )
    rows = (ListRow(id="a", title="A"),)
    assert planned(app) == ListMenu(body="Pick", button="Open", sections=(ListSection(title="In Jurong", rows=rows),))


def test_a_place_and_a_card_hold_the_words_of_each_person(folder: Wa, app: App) -> None:
    """Issue 6, point 3."""
    plan(folder, 'location = { latitude = 25.2048, longitude = "55.27", name = "{{ city }} office" }')
    assert planned(app) == Location(latitude="25.2048", longitude="55.27", name="Jurong office")
    plan(folder, 'contact = { name = "Ada for {{ name }}", phone = "+65 8123 4567" }')
    assert planned(app) == ContactCard(name="Ada for Ana", phone="+6581234567")


def test_a_file_beside_the_campaign_is_in_its_plan_whatever_becomes_of_it(folder: Wa, app: App) -> None:
    """Issue 6, point 3.  Promise P1."""
    picture = folder.write("campaigns/poster.png", PNG)
    shown = plan(folder, 'media = "poster.png"\ntext = "For {{ name }}"')
    content = planned(app)
    assert isinstance(content, Media)
    assert (content.kind, content.caption, content.file is not None) == (MediaKind.IMAGE, "For Ana", True)
    assert "a file (image)" in shown
    picture.write_bytes(PNG + b"changed")
    assert content.file is not None
    assert app.media.read(content.file) == PNG
    found = re.search(r"p\d+-[0-9a-f]{6}", shown)
    assert found is not None
    drifted = folder("campaign", "apply", "gala", "--plan", found[0], "--yes")
    assert drifted.exit == 7
    assert "media poster.png is another file now" in drifted.err


def test_validate_takes_no_file_in(folder: Wa, app: App) -> None:
    """Issue 6, point 3."""
    folder.write("campaigns/menu.pdf", b"%PDF-1.7 menu")
    folder.write("campaigns/gala.toml", f'[message]\nmedia = "menu.pdf"{AUDIENCE}')
    assert folder("campaign", "validate", "gala").exit == 0
    assert not app.media.folder.exists()


def test_a_poll_is_refused_by_name_before_anybody_is_planned(folder: Wa) -> None:
    """Issue 6, point 3.  Row H13."""
    poll = '[message.poll]\nquestion = "Coming, {{ name }}?"\noptions = ["Yes", "No"]'
    folder.write("campaigns/gala.toml", f"{poll}{AUDIENCE}")
    answer = folder("campaign", "plan", "gala")
    assert answer.exit == 2
    assert "Meta's Cloud API has no polls" in answer.err
    assert "has no polls" in folder("campaign", "validate", "gala").err


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("location = { latitude = 1 }", "has no longitude"),
        ("location = { latitude = true, longitude = 2 }", "must be degrees"),
        ('location = { latitude = 1, longitude = 2 }\ntext = "x"', "does not go with location"),
        ('contact = { name = "Ada", phone = "12" }', "international form"),
        ('poll = { question = "x", options = "Yes" }', "must be a list"),
        ('poll = { question = "{{ x", options = ["Yes"] }', "gala.toml:2"),
        ('reply_buttons = [{ id = "y", title = "Yes" }]', "needs a text"),
        ('text = "x"\nreply_buttons = [{ id = "y", titel = "Yes" }]', "did you mean 'title'?"),
        ('text = "x"\nlist = { button = "Open" }', "has no sections"),
        ('text = "x"\nfooter = "small"', "stands under buttons and lists"),
        ('media = "none.png"', "there is no file 'none.png'"),
        ('media = "http://example.org/a.png"', "must be a link that WhatsApp can fetch"),
        ('media = "../wa.db"', "in no folder that files are taken from"),
    ],
)
def test_what_is_wrong_in_a_file_is_told(folder: Wa, message: str, words: str) -> None:
    """Issue 6, point 3."""
    folder.write("campaigns/gala.toml", f"[message]\n{message}{AUDIENCE}")
    answer = folder("campaign", "validate", "gala")
    assert answer.exit == 2
    assert words in answer.err
