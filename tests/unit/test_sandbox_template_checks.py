"""Templates of the sandbox's account: which messages fit them, and how they are listed."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from wa_cli.sandbox.settings import HELLO_WORLD, SandboxTemplate, TemplateStatus
from wa_cli.sandbox.template_checks import find_template_error, list_templates

POSITIONAL = SandboxTemplate(name="order", body="Order {{1}} of {{2}} is ready, {{1}}!")
NAMED = SandboxTemplate(
    name="spring_sale", language="de", category="MARKETING", body="Hi {{first_name}}, {{percent}} off!"
)
RICH = SandboxTemplate(
    name="rich",
    body="Hi",
    header="IMAGE",
    footer="Reply STOP to leave",
    quality="GREEN",
    buttons=(
        {"type": "QUICK_REPLY", "text": "Stop promotions"},
        {"type": "URL", "text": "Shop", "url": "https://example.org/{{1}}"},
    ),
)
OWNED = (
    HELLO_WORLD,
    POSITIONAL,
    NAMED,
    SandboxTemplate(name="paused", status=TemplateStatus.PAUSED),
    SandboxTemplate(name="disabled", status=TemplateStatus.DISABLED),
    SandboxTemplate(name="pending", status=TemplateStatus.PENDING),
)


def _code(name: str, *values: str, language: str = "en_US", is_strict: bool = False, **named: str) -> int | None:
    parameters: list[dict[str, Any]] = [{"type": "text", "text": value} for value in values]
    parameters += [{"type": "text", "parameter_name": key, "text": value} for key, value in named.items()]
    template: dict[str, Any] = {"name": name, "language": {"code": language}}
    if parameters:
        template["components"] = [{"type": "body", "parameters": parameters}]
    error = find_template_error(template, OWNED, is_strict=is_strict)
    return error.code if error else None


def test_filled_templates_are_accepted() -> None:
    assert _code("hello_world") is None
    assert _code("order", "17", "Ada") is None
    assert _code("spring_sale", language="de", percent="10%", first_name="Ada") is None


def test_an_unknown_name_is_refused_only_when_strict() -> None:
    assert _code("whatever", "x") is None
    assert _code("whatever", "x", is_strict=True) == 132001


def test_a_known_name_in_another_language_is_always_refused() -> None:
    assert _code("hello_world", language="de") == 132001


@pytest.mark.parametrize(("name", "code"), [("paused", 132015), ("disabled", 132016), ("pending", 132001)])
def test_a_template_that_may_not_be_sent_says_why(name: str, code: int) -> None:
    assert _code(name) == code


def test_a_wrong_number_of_values_is_refused() -> None:
    assert _code("order", "17") == 132000
    assert _code("hello_world", "x") == 132000


def test_names_must_fit() -> None:
    assert _code("spring_sale", "Ada", "10%", language="de") == 132012
    assert _code("spring_sale", language="de", percent="10%", last_name="Ada") == 132012
    assert _code("order", a="17", b="Ada") == 132012


def test_a_body_too_long_once_filled_is_refused() -> None:
    assert _code("order", "a" * 600, "b") == 132005
    assert _code("order", "a" * 490, "b") is None


def test_templates_are_listed_in_pages() -> None:
    first = list_templates(OWNED, {"limit": "4"})
    second = list_templates(OWNED, {"limit": "4", "after": first["paging"]["cursors"]["after"]})
    names = [row["name"] for row in first["data"] + second["data"]]
    assert names == [template.name for template in OWNED]
    assert list_templates(OWNED, {"after": "99"})["data"] == []


def test_a_page_links_to_the_next_one_and_the_last_page_to_none() -> None:
    address = "http://127.0.0.1:1/v25.0/7/message_templates"
    query = {"limit": "4", "access_token": "canary", "status": "APPROVED", "fields": "name"}
    first = list_templates((*OWNED, RICH), query, address=address)
    assert "next" not in first["paging"]
    first = list_templates((*OWNED, RICH), {**query, "limit": "3"}, address=address)
    link = urlsplit(first["paging"]["next"])
    assert link.path == "/v25.0/7/message_templates"
    following = dict(parse_qsl(link.query))
    assert following == {"limit": "3", "status": "APPROVED", "fields": "name", "after": "3"}
    second = list_templates((*OWNED, RICH), following, address=address)
    assert [row["name"] for row in second["data"]] == ["rich"]
    assert "next" not in second["paging"]


def test_a_rich_template_lists_all_its_parts() -> None:
    [row] = list_templates((RICH,), {"quality_score": "GREEN", "name_or_content": "Hi"})["data"]
    assert row["quality_score"] == {"score": "GREEN"}
    assert [part["type"] for part in row["components"]] == ["HEADER", "BODY", "FOOTER", "BUTTONS"]
    assert row["components"][0]["format"] == "IMAGE"
    assert row["components"][3]["buttons"] == list(RICH.buttons)
    assert list_templates((RICH,), {"quality_score": "RED"})["data"] == []
    assert list_templates((RICH,), {"name_or_content": "bye"})["data"] == []


IMAGE = {"type": "header", "parameters": [{"type": "image", "image": {"id": "1"}}]}
TEXT_HEADER = {"type": "header", "parameters": [{"type": "text", "text": "x"}]}
BUTTON = {"type": "button", "sub_type": "url", "index": 1, "parameters": [{"type": "text", "text": "a"}]}


@pytest.mark.parametrize(
    ("components", "code"),
    [
        ([IMAGE, BUTTON], None),
        ([BUTTON], 132012),
        ([TEXT_HEADER, BUTTON], 132012),
        ([IMAGE], 131008),
        ([IMAGE, {**BUTTON, "index": "0"}], 131008),
    ],
)
def test_header_and_buttons_are_held_against_the_template_too(
    components: list[dict[str, Any]], code: int | None
) -> None:
    template = {"name": "rich", "language": {"code": "en_US"}, "components": components}
    error = find_template_error(template, (RICH,), is_strict=True)
    assert (error.code if error else None) == code


def test_a_header_nobody_asked_for_is_refused() -> None:
    template = {"name": "hello_world", "language": {"code": "en_US"}, "components": [TEXT_HEADER]}
    error = find_template_error(template, OWNED, is_strict=True)
    assert error is not None
    assert error.code == 132000


def test_the_list_can_be_filtered_and_cut_to_fields() -> None:
    rows = list_templates(OWNED, {"status": "APPROVED", "category": "MARKETING", "fields": "name,language"})["data"]
    assert [{key: value for key, value in row.items() if key != "id"} for row in rows] == [
        {"name": "spring_sale", "language": "de"}
    ]
    assert list_templates(OWNED, {"name": "hello_world", "language": "xx"})["data"] == []


def test_each_template_says_how_its_values_are_named() -> None:
    rows = {row["name"]: row for row in list_templates(OWNED, {})["data"]}
    assert rows["spring_sale"]["parameter_format"] == "NAMED"
    assert rows["order"]["parameter_format"] == "POSITIONAL"
    assert rows["order"]["components"][0]["example"] == {"body_text": [["value 1", "value 2"]]}
    assert len({row["id"] for row in rows.values()}) == len(OWNED)
