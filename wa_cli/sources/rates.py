"""Price lists as CSV, which a campaign names to have its cost estimated."""

from __future__ import annotations

import re
from decimal import Decimal
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from wa_cli.domain.fields import normalise_name
from wa_cli.domain.rates import ANY, Rates
from wa_cli.domain.recipient import parse_region, show_text
from wa_cli.errors import FileMistakes, UsageError
from wa_cli.sources.recipients import Headless, read_header
from wa_cli.sources.tables import BadRow, open_lines, read_records

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Rates", "read_rates"]

COLUMNS: Final = ("country", "category", "price", "currency")
# What WhatsApp charges by; `service` is what is free text within the 24 hours.
CATEGORIES: Final = ("marketing", "utility", "authentication", "authentication_international", "service")
MOST_TOLD: Final = 20
MOST_ROWS: Final = 10_000

_PRICE = re.compile(r"\d{1,4}(?:\.\d{1,8})?")


def read_rates(path: Path) -> Rates:
    """The prices of a CSV with the columns country, category, price and currency; others are passed over.

    country: two letters, or `*` for every other.  category: what WhatsApp calls it, or `*`.
    Raises: UsageError where there is no such file or it has other columns; FileMistakes with every row that is wrong.
    """
    shown = show_text(str(path), limit=200)
    prices: dict[tuple[str, str], tuple[str, Decimal]] = {}
    mistakes: list[str] = []
    with open_lines(path, None) as (lines, name):
        header = read_header(lines, name, wanted=COLUMNS)
        titles = [] if isinstance(header, Headless) else [normalise_name(title) for title in header.names]
        missing = [column for column in COLUMNS if column not in titles]
        if missing or isinstance(header, Headless):
            raise UsageError(
                f"{name} has no column for the {missing[0]}",
                hint=f"begin the file with a line: {','.join(COLUMNS)}",
                code="rates",
            )
        places = [titles.index(column) for column in COLUMNS]
        for count, record in enumerate(read_records(lines, header.delimiter, single_line_column=places[0])):
            if count >= MOST_ROWS:
                raise UsageError(f"{name} has over {MOST_ROWS:,} rows", hint="one for each country and category")
            if isinstance(record, BadRow):
                mistakes.append(f"{shown}:{record.line}: {record.reason}")
                continue
            cells = [record.cells[place].strip() if place < len(record.cells) else "" for place in places]
            try:
                country, category = _read_country(cells[0]), _read_category(cells[1])
                if (country, category) in prices:
                    raise UsageError("country: this country and category stand there twice")
                prices[country, category] = _read_currency(cells[3]), _read_price(cells[2])
            except UsageError as error:
                mistakes.append(f"{shown}:{record.line}: {error.message}")
    if not prices and not mistakes:
        mistakes.append(f"{shown}:{header.line + 1}: there is no price; write a line such as SG,marketing,0.05,USD")
    if mistakes:
        more = [f"{shown}: and {len(mistakes) - MOST_TOLD:,} more"] if len(mistakes) > MOST_TOLD else []
        raise FileMistakes([*mistakes[:MOST_TOLD], *more], hint=f"correct {shown}", code="rates")
    return Rates(prices=prices)


def _read_country(cell: str) -> str:
    if cell == ANY:
        return ANY
    try:
        region = parse_region(cell)
    except UsageError:
        region = None
    if region is None:
        raise UsageError(f"country: '{show_text(cell)}' is no country; write two letters such as SG, or * for any")
    return region


def _read_category(cell: str) -> str:
    word = normalise_name(cell)
    if word == ANY or word in CATEGORIES:
        return word
    near = get_close_matches(word, CATEGORIES, n=1, cutoff=0.6)
    advice = f"did you mean {near[0]}?" if near else f"write one of {', '.join(CATEGORIES)}, or * for any"
    raise UsageError(f"category: '{show_text(cell)}' is none; {advice}")


def _read_price(cell: str) -> Decimal:
    if _PRICE.fullmatch(cell):
        return Decimal(cell)
    advice = cell.replace(",", ".") if _PRICE.fullmatch(cell.replace(",", ".")) else "it like 0.0425, without a sign"
    raise UsageError(f"price: '{show_text(cell)}' is no price; write {advice}")


def _read_currency(cell: str) -> str:
    if re.fullmatch(r"[A-Za-z]{3}", cell):
        return cell.upper()
    raise UsageError(f"currency: '{show_text(cell)}' is no currency; write three letters such as USD")
