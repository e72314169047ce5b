"""Whether a campaign's message fits the template that it names, found before anything is sent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from wa_cli.domain.campaign import MessageSpec
from wa_cli.domain.message import Template, TemplateHeader, TemplateParameter
from wa_cli.domain.template import (
    StoredButton,
    StoredTemplate,
    decode_template,
    encode_components,
    fill_template,
    find_template_problems,
    make_length_check,
)

SALE = StoredTemplate(
    name="sale",
    language="en_US",
    status="APPROVED",
    category="MARKETING",
    is_named=True,
    header_kind="image",
    body="Hi {{first_name}}, {{percent}} off, {{ first_name }}!",
    footer="Reply STOP to leave",
    buttons=(
        StoredButton(kind="url", text="Shop", url="https://example.org/{{1}}"),
        StoredButton(kind="quick_reply", text="Stop promotions"),
        StoredButton(kind="url", text="About", url="https://example.org/"),
    ),
)
ORDER = StoredTemplate(
    name="order", language="de", status="APPROVED", body="{{2}} von {{1}}", header_kind="text", header_text="Nr. {{1}}"
)
FITS_SALE = MessageSpec(
    template="sale",
    parameters=(("percent", "10%"), ("first_name", "{{ name }}")),
    header=("image", "https://example.org/a.png"),
    buttons=((0, "url", "{{ code }}"),),
)
FITS_ORDER = MessageSpec(
    template="order", language="de", parameters=(("1", "a"), ("2", "b")), header=("text", "{{ number }}")
)


def problems(message: MessageSpec, *found: StoredTemplate, **options: Any) -> list[tuple[str, str]]:
    told = find_template_problems(message, found, synced=True, **options)
    assert all(not one.is_warning for one in told)
    return [(one.message, one.hint) for one in told]


def test_a_message_that_fits_has_no_problems() -> None:
    """Issue 5, point 2."""
    assert problems(FITS_SALE, replace(SALE, language="de"), SALE) == []
    assert problems(FITS_ORDER, ORDER) == []
    assert problems(MessageSpec(text="no template")) == []
    quick = replace(FITS_SALE, buttons=(*FITS_SALE.buttons, (1, "quick_reply", "stop")))
    assert problems(quick, SALE) == []


def test_templates_that_were_never_read_refuse_nothing() -> None:
    """Issue 5, point 2: one warning, which names the command that would check them."""
    (told,) = find_template_problems(FITS_SALE, (), synced=False)
    assert told.is_warning
    assert "wa template sync" in told.hint


def test_a_template_that_is_not_there_is_told_with_the_one_that_was_meant() -> None:
    (told,) = problems(replace(FITS_SALE, template="sael"), names=["order", "sale"])
    assert told[0] == "the account has no template 'sael'"
    assert told[1].startswith("did you mean 'sale'? ")


def test_another_language_is_told_with_those_there_are() -> None:
    (told,) = problems(replace(FITS_SALE, language="en"), replace(SALE, language="de"), SALE)
    assert told == ("template 'sale' does not exist in en, only in de, en_US", 'write template_language = "en_US"')


@pytest.mark.parametrize("status", ["PAUSED", "REJECTED", "PENDING", "DISABLED", "LIMIT_EXCEEDED", "NEWS_TO_US"])
def test_a_template_that_is_not_approved_is_a_problem(status: str) -> None:
    (told,) = problems(FITS_SALE, replace(SALE, status=status, rejected_reason="INVALID_FORMAT"))
    assert told[0] == (
        f"template 'sale' (en_US) is {status.lower().replace('_', ' ')} (invalid format), and WhatsApp refuses it"
    )


def test_a_red_quality_is_a_warning() -> None:
    (told,) = find_template_problems(FITS_SALE, [replace(SALE, quality="RED")], synced=True)
    assert told.is_warning


@pytest.mark.parametrize(
    ("changes", "words", "hint"),
    [
        (
            {"parameters": ()},
            "template 'sale' takes 2 values: {{first_name}}, {{percent}}; none is given",
            'write parameters = { first_name = "...", percent = "..." }',
        ),
        (
            {"parameters": (("1", "a"), ("2", "b"))},
            "template 'sale' takes 2 values: {{first_name}}, {{percent}}, by their names, and they are given by places",
            "first_name",
        ),
        (
            {"parameters": (("first_name", "a"),)},
            "template 'sale' needs a value for 'percent', and none is given",
            "percent",
        ),
        (
            {"parameters": (("first_name", "a"), ("percent", "b"), ("name", "c"))},
            "template 'sale' takes no value named 'name': it takes first_name and percent",
            "percent",
        ),
        ({"header": None}, "the header of template 'sale' is an image, and none is given", "header = { image"),
        (
            {"header": ("video", "https://x.org/a.mp4")},
            "the header of template 'sale' is an image, and a video is given",
            "header = { image",
        ),
        ({"buttons": ()}, "button 0 ('Shop') of template 'sale' needs a value, and none is given", "index = 0"),
        (
            {"buttons": ((0, "quick_reply", "x"),)},
            "button 0 ('Shop') of template 'sale' is of the type url, not quick_reply",
            'type = "url"',
        ),
        (
            {"buttons": ((0, "url", "x"), (2, "url", "x"))},
            "button 2 ('About') of template 'sale' takes no value",
            "leave that one out",
        ),
        (
            {"buttons": ((0, "url", "x"), (3, "url", "x"))},
            "template 'sale' has no button 3: it has 3 buttons, counted from 0",
            "leave that one out",
        ),
    ],
)
def test_a_mismatch_is_told_with_what_is_expected_and_what_is_given(
    changes: dict[str, Any], words: str, hint: str
) -> None:
    """Issue 5, point 2: a mismatch is found before sending."""
    ((said, advice),) = problems(replace(FITS_SALE, **changes), SALE)
    assert said == words
    assert hint in advice


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"parameters": (("1", "a"),)}, "template 'order' takes 2 values: {{1}}, {{2}}; 1 is given"),
        (
            {"parameters": (("1", "a"), ("2", "b"), ("3", "c"))},
            "template 'order' takes 2 values: {{1}}, {{2}}; 3 are given",
        ),
        (
            {"parameters": (("name", "a"), ("x", "b"))},
            "template 'order' takes 2 values: {{1}}, {{2}}, by their places, and they are given by names",
        ),
        ({"header": None}, "the header of template 'order' takes a text, and none is given"),
        (
            {"header": ("image", "https://x.org/a.png")},
            "the header of template 'order' takes a text, and an image is given",
        ),
    ],
)
def test_values_by_place_are_counted(changes: dict[str, Any], words: str) -> None:
    ((said, _hint),) = problems(replace(FITS_ORDER, **changes), ORDER)
    assert said == words


def test_a_template_without_places_takes_nothing() -> None:
    bare = StoredTemplate(name="order", language="de", status="APPROVED", body="Hello")
    told = [said for said, _hint in problems(replace(FITS_ORDER, buttons=((0, "url", "x"),)), bare)]
    assert told == [
        "template 'order' takes no values, and 2 are given",
        "template 'order' has no header, and a text is given",
        "template 'order' has no button 0: it has no buttons",
    ]
    titled = replace(bare, header_kind="text", header_text="News")
    assert [said for said, _hint in problems(replace(FITS_ORDER, parameters=()), titled)] == [
        "the header of template 'order' takes no value, and a text is given"
    ]


def test_what_wa_cannot_fill_is_a_problem() -> None:
    odd = replace(SALE, header_kind="location", others=("carousel",))
    told = [said for said, _hint in problems(replace(FITS_SALE, header=None), odd)]
    assert told == [
        "template 'sale' has a carousel, which wa cannot fill",
        "template 'sale' has a location as header, which wa cannot fill",
    ]


def test_a_template_comes_back_from_the_store_as_it_was() -> None:
    for one in (SALE, ORDER, replace(SALE, others=("carousel",), quality="RED", rejected_reason="X")):
        assert one == decode_template(
            encode_components(one),
            name=one.name,
            language=one.language,
            status=one.status,
            category=one.category,
            is_named=one.is_named,
            synced_at_ms=0,
        )


def test_the_filled_words_are_measured_with_those_of_the_template() -> None:
    """Issue 5, point 2: the platform's limit is on the whole body."""
    check = make_length_check(SALE)
    name = TemplateParameter(name="first_name", value="😀")
    filled = Template(name="sale", language="en_US", parameters=(name, TemplateParameter(name="percent", value="1%")))
    assert fill_template(SALE, filled) == "Hi 😀, 1% off, 😀!\n\nReply STOP to leave"
    assert check(filled) is None
    room = 1024 - len("Hi , 1% off, !") - 2 * 2
    fits = replace(filled, parameters=(name, TemplateParameter(name="percent", value="1%" + "x" * room)))
    assert check(fits) is None
    over = replace(filled, parameters=(name, TemplateParameter(name="percent", value="1%" + "x" * (room + 28))))
    assert check(over) == "the filled template is 28 characters too long: 1,052 of 1,024"
    titled = Template(name="order", language="de", header=TemplateHeader(kind="text", value="9" * 60))
    assert make_length_check(ORDER)(titled) == "the filled header is 4 characters too long: 64 of 60"
    assert (
        fill_template(ORDER, replace(titled, header=TemplateHeader(kind="text", value="7")))
        == "Nr. 7\n\n{{2}} von {{1}}"
    )
