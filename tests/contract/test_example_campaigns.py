"""The campaigns that come with `wa` are right: their people, their words, and what the platform says of them.

Issue 5, point 1.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from wa_cli.domain.personal import Filler, MissingField
from wa_cli.domain.recipient import RecipientKind
from wa_cli.ports import Post
from wa_cli.sandbox.faults import MAGIC_NUMBERS
from wa_cli.sandbox.settings import SandboxSettings
from wa_cli.sandbox.template_checks import find_template_error
from wa_cli.sources.audience import Row, read_audience_file
from wa_cli.sources.campaigns import read_campaign
from wa_cli.sources.rates import read_rates
from wa_cli.transports.cloud_api.payload import build_payload
from wa_cli.transports.cloud_api.rules import CloudApiRules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wa_cli.domain.campaign import CampaignSpec
    from wa_cli.domain.message import Content

CAMPAIGNS = Path(__file__).parents[2] / "campaigns"
NAMES = sorted(path.stem for path in CAMPAIGNS.glob("*.toml"))
LISTS = sorted(path.name for path in (CAMPAIGNS / "lists").iterdir() if path.name != "rates.csv")


def read(name: str) -> CampaignSpec:
    return read_campaign(CAMPAIGNS / f"{name}.toml")[0]


def read_people(spec: CampaignSpec) -> Iterator[Row]:
    """Everybody of the campaign's files, or of the list that its subgroup is made from."""
    for source in spec.audience.any_of:
        path = CAMPAIGNS / (source.name if source.kind == "file" else f"lists/{source.name}.csv")
        for row in read_audience_file(path, columns=dict(source.columns), default_region=None):
            assert isinstance(row, Row), row
            yield row


def fill_all(spec: CampaignSpec) -> tuple[list[tuple[Row, Content]], Counter[str], list[str]]:
    """What everybody would get in each variant, which fallbacks were needed, and which fields were missing."""
    filler = Filler(spec.messages, variables=spec.variables, fallbacks=spec.fallbacks, language=spec.language)
    filled, used, missing = [], Counter[str](), []
    for row in read_people(spec):
        for variant in range(len(spec.messages)):
            try:
                filled.append((row, filler.fill(variant, row.attributes, used=used)))
            except MissingField as error:
                missing.append(error.name)
    return filled, used, missing


def test_there_are_three_examples() -> None:
    assert NAMES == ["order-of-events", "summer-sale", "weekly-reminder"]


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_read_and_every_message_of_it_may_be_sent(name: str) -> None:
    spec = read(name)
    filled, used, _missing = fill_all(spec)
    assert len(filled) >= 5
    assert used, "the fallbacks of an example are there to be seen"
    rules = CloudApiRules()
    templates = SandboxSettings().templates
    for row, content in filled:
        assert rules.find_problem(content) is None
        body: dict[str, Any] = json.loads(
            build_payload(Post(address=row.recipient.address, kind=RecipientKind.PERSON, content=content, tag="t"))
        )
        if body["type"] == "template":
            assert find_template_error(body["template"], templates, is_strict=True) is None


@pytest.mark.parametrize("name", LISTS)
def test_nobody_on_an_example_list_has_a_number_that_means_trouble_to_the_sandbox(name: str) -> None:
    endings = {magic.ending for magic in MAGIC_NUMBERS}
    for row in read_audience_file(CAMPAIGNS / "lists" / name, columns={}, default_region=None):
        assert isinstance(row, Row), row
        assert row.recipient.kind is RecipientKind.PERSON
        assert row.recipient.address[-4:] not in endings


def test_the_gala_has_one_guest_twice_and_one_who_cannot_come() -> None:
    """Issue 5, point 3."""
    spec = read("order-of-events")
    addresses = [row.recipient.address for row in read_people(spec)]
    assert len(addresses) == len(set(addresses)) + 1
    (regrets,) = spec.audience.none_of
    away = {row.recipient.address for row in _rows(CAMPAIGNS / regrets.name)}
    assert len(set(addresses) - away) == 8


def test_the_sale_leaves_out_who_has_no_code_and_prices_every_country() -> None:
    """Issue 5, points 2 and 4."""
    spec = read("summer-sale")
    _filled, _used, missing = fill_all(spec)
    assert missing == ["code", "code"]
    assert spec.rates is not None
    rates = read_rates(CAMPAIGNS / spec.rates)
    assert rates.price("SE", "MARKETING") == rates.price(None, "marketing")
    assert rates.price("DE", "MARKETING") != rates.price("US", "MARKETING")


def test_the_reminder_comes_back_every_week_to_a_subgroup() -> None:
    """Issue 5, point 5."""
    spec = read("weekly-reminder")
    assert spec.is_recurring
    assert [source.kind for source in spec.audience.any_of] == ["subgroup"]
    texts = {content.body for _row, content in fill_all(spec)[0]}  # type: ignore[union-attr]
    assert any("confirm your team" in text for text in texts)
    assert any("tell your lead" in text for text in texts)


def _rows(path: Path) -> list[Row]:
    return [row for row in read_audience_file(path, columns={}, default_region=None) if isinstance(row, Row)]
