"""A campaign that is made of a template: held against the account's templates before anything is sent."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.campaigning import Office, open_office
from tests.world import address
from wa_cli.campaigns.validity import validate
from wa_cli.domain.template import StoredTemplate
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SALE = """
[message]
template = "sale"
parameters = ["{{ name }}", "{{ code }}"]
[fallbacks]
name = "friend"
[audience]
files = ["people.csv"]
"""
TEMPLATE = StoredTemplate(name="sale", language="en_US", status="APPROVED", body="Hi {{1}}, your code is {{2}}.")


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with open_office(tmp_path) as opened:
        rows = [{"phone": address(number), "name": "" if number == 3 else "Ada", "code": "7"} for number in range(1, 4)]
        opened.write_people("people.csv", rows)
        yield opened


def know(office: Office, *templates: StoredTemplate) -> None:
    office.app.templates.replace(office.app.find_instance().id, templates, now_ms=office.clock.wall_ms())


def test_without_a_sync_a_plan_is_made_and_warns_once(office: Office) -> None:
    """Issue 5, point 2: never a wrong refusal."""
    body = SALE.replace("[message]", '[[variant]]\nname = "a"\n') + SALE.partition("[fallbacks]")[0].replace(
        "[message]", '[[variant]]\nname = "b"\n'
    )
    _planned, summary = office.plan(office.create("sale", body))
    assert summary.queued == 3
    (warning,) = summary.warnings
    assert "wa template sync" in warning


def test_a_message_that_fits_is_planned_with_the_words_of_the_template(office: Office) -> None:
    know(office, TEMPLATE)
    _planned, summary = office.plan(office.create("sale", SALE))
    assert (summary.queued, summary.warnings, summary.fallbacks) == (3, [], {"name": 1})
    assert "sale (en_US)\nHi friend, your code is 7." in {sample.words for sample in summary.samples}


def test_a_mismatch_is_found_before_sending(office: Office) -> None:
    """Issue 5, point 2."""
    know(office, replace(TEMPLATE, body="Hi {{1}}."))
    sale = office.create("sale", SALE)
    with pytest.raises(UsageError) as caught:
        office.plan(sale)
    assert caught.value.message == "template 'sale' takes 1 value: {{1}}; 2 are given"
    know(office, replace(TEMPLATE, body="Hi {{1}}.", status="PAUSED"))
    with pytest.raises(UsageError, match="and 1 more"):
        office.plan(sale)
    found = validate(office.app, sale.path)
    assert len(found.problems) == 2
    assert office.world.value("SELECT count(*) FROM plan") == 0


def test_a_template_that_was_paused_since_the_plan_stops_its_apply(office: Office) -> None:
    """Issue 5, point 2: and nothing is queued."""
    know(office, TEMPLATE)
    sale = office.create("sale", SALE)
    planned, _summary = office.plan(sale)
    know(office, replace(TEMPLATE, status="PAUSED"))
    with pytest.raises(UsageError, match="is paused"):
        office.apply(sale, planned)
    assert office.world.value("SELECT count(*) FROM message") == 0


def test_a_template_that_is_too_long_once_it_is_filled_is_found_for_each_person(office: Office) -> None:
    """Issue 5, point 2: rendered text is checked against the platform's limits for every recipient."""
    know(office, replace(TEMPLATE, body="Hi {{1}}, your code is {{2}}." + "x" * 1_000))
    _planned, summary = office.plan(office.create("sale", SALE))
    assert (summary.queued, summary.by_reason) == (2, {"unsendable": 1})
    details = office.world.value("SELECT details FROM plan_line WHERE reason = 'unsendable'")
    assert details == "the filled template is 2 characters too long: 1,026 of 1,024"


def test_a_text_that_fails_for_somebody_leaves_out_that_one_alone(office: Office) -> None:
    """Issue 5, point 2; promise P12."""
    body = """
language = "jinja"
[message]
text = "{{ name }}: {{ (name | int) + 1 }}"
[audience]
files = ["numbers.csv"]
"""
    office.write_people("numbers.csv", [{"phone": address(1), "name": "7"}, {"phone": address(2), "name": "Ada"}])
    _planned, summary = office.plan(office.create("count", body))
    assert (summary.queued, summary.by_reason) == (1, {"unsendable": 1})


def test_an_occurrence_is_not_lost_to_what_was_read_of_a_template_long_ago(office: Office) -> None:
    """Issue 5, point 5: the platform itself says what it takes at that moment."""
    reminder = office.create("reminder", '[schedule]\nevery = "daily 09:00"\ngrace = "2 days"\n' + SALE)
    office.start(reminder)
    know(office, replace(TEMPLATE, status="PAUSED"))
    office.clock.advance(24 * 3_600_000)
    office.look_after()
    assert office.world.value("SELECT count(*) FROM message") == 3
