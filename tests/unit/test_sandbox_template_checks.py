"""Templates of the sandbox's account: which messages fit them, and how they are listed."""

from __future__ import annotations

from typing import Any

import pytest

from wa_cli.sandbox.settings import HELLO_WORLD, SandboxTemplate, TemplateStatus
from wa_cli.sandbox.template_checks import find_template_error, list_templates

POSITIONAL = SandboxTemplate(name="order", body="Order {{1}} of {{2}} is ready, {{1}}!")
NAMED = SandboxTemplate(
    name="spring_sale", language="de", category="MARKETING", body="Hi {{first_name}}, {{percent}} off!"
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
