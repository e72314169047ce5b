"""Price lists: what is read, and what is told of a wrong one.  Issue 5, point 4."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from wa_cli.errors import FileMistakes, UsageError
from wa_cli.sources.rates import Rates, read_rates

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "country,category,price,currency\n"


def read(folder: Path, content: str) -> Rates:
    path = folder / "rates.csv"
    path.write_text(content, encoding="utf-8")
    return read_rates(path)


def test_what_is_said_of_a_country_goes_before_what_is_said_of_all(tmp_path: Path) -> None:
    rates = read(tmp_path, HEADER + "SG,Marketing,0.0732,usd\n*,marketing,0.06,USD\nsg,*,0.03,EUR\n*,service,0,USD\n")
    assert rates.price("SG", "MARKETING") == ("USD", Decimal("0.0732"))
    assert rates.price("sg", "service") == ("EUR", Decimal("0.03"))
    assert rates.price("DE", "marketing") == ("USD", Decimal("0.06"))
    assert rates.price(None, "service") == ("USD", Decimal(0))
    assert rates.price("DE", "utility") is None


def test_columns_may_stand_in_any_order_beside_others(tmp_path: Path) -> None:
    rates = read(tmp_path, "Price;Currency;Note;Country;Category\n0.05;USD;x;IN;utility\n\n")
    assert rates.price("IN", "utility") == ("USD", Decimal("0.05"))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("Singapore,marketing,1,USD", "country: 'Singapore' is no country; write two letters such as SG, or * for any"),
        (",marketing,1,USD", "country: '' is no country"),
        ("SG,marketting,1,USD", "category: 'marketting' is none; did you mean marketing?"),
        ("SG,,1,USD", "category: '' is none; write one of marketing"),
        ("SG,marketing,free,USD", "price: 'free' is no price; write it like 0.0425, without a sign"),
        ('SG,marketing,"0,05",USD', "price: '0,05' is no price; write 0.05"),
        ("SG,marketing,-1,USD", "price: '-1' is no price"),
        ("SG,marketing,1e3,USD", "price: '1e3' is no price"),
        ("SG,marketing,1,dollars", "currency: 'dollars' is no currency; write three letters such as USD"),
        ("SG,marketing,1", "currency: '' is no currency"),
        ("DE,utility,1,USD", "this country and category stand there twice"),
    ],
)
def test_a_wrong_row_is_told_with_its_line(tmp_path: Path, row: str, told: str) -> None:
    with pytest.raises(FileMistakes) as caught:
        read(tmp_path, f"{HEADER}DE,utility,0.05,USD\n{row}\n")
    (mistake,) = caught.value.mistakes
    assert mistake.startswith(f"{tmp_path}/rates.csv:3: ")
    assert told in mistake


def test_all_wrong_rows_are_told_up_to_twenty(tmp_path: Path) -> None:
    with pytest.raises(FileMistakes) as caught:
        read(tmp_path, HEADER + "XX,utility,1,USD\n" * 23)
    assert len(caught.value.mistakes) == 21
    assert caught.value.mistakes[-1].endswith("and 3 more")


def test_a_list_without_prices_or_their_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileMistakes, match="there is no price"):
        read(tmp_path, HEADER)
    with pytest.raises(UsageError, match="no column for the currency"):
        read(tmp_path, "country,category,price\nSG,utility,1\n")
    with pytest.raises(UsageError, match="there is no file"):
        read_rates(tmp_path / "gone.csv")
