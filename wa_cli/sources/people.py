"""Lists of people with what is known of them and of their consent, from CSV and back to CSV."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, BinaryIO, Final, TextIO

from wa_cli.domain.consent import Wish
from wa_cli.domain.contact import KnownPerson
from wa_cli.domain.fields import normalise_name
from wa_cli.domain.recipient import RecipientKind, show_text
from wa_cli.sources.recipients import read_recipients, write_recipients
from wa_cli.sources.tables import BadRow, bad_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import tzinfo
    from pathlib import Path

    from wa_cli.domain.contact import ConsentRow, Contact
    from wa_cli.sources.recipients import Row

__all__ = ["BadRow", "read_people", "write_people"]

OPTED_OUT: Final = "opted_out"
CONSENT_AT: Final = "consent_at"
WORDING: Final = "wording"
WHATSAPP_NAME: Final = "whatsapp_name"
OWN_COLUMNS: Final = (OPTED_OUT, CONSENT_AT, WORDING, WHATSAPP_NAME)

YES: Final = frozenset(("yes", "y", "true", "t", "1", "x", "opted out", "opted_out", "out", "stop", "unsubscribed"))
NO: Final = frozenset(("no", "n", "false", "f", "0", "-", "opted in", "opted_in", "in", "subscribed"))
LONGEST_WORDING: Final = 500
# A list from a machine whose clock is a little ahead is no list from the future.
CLOCK_TOLERANCE: Final = timedelta(minutes=10)


class _Unreadable(Exception):
    """A row that is not taken; its text says why."""


def read_people(
    source: Path | BinaryIO, *, default_region: str | None, zone: tzinfo, now: datetime, encoding: str | None = None
) -> Iterator[KnownPerson | BadRow]:
    """The people of a list in its order, good rows and bad, read as they are asked for.

    Columns beside the recipient's: `opted_out` (yes or no), `consent_at` (when they said so), `wording` (in which
    words, or where that is kept), `whatsapp_name`; all others are attributes.  A `consent_at` without `opted_out` is
    proof of a yes.  zone: of times that name none.  now: no consent is younger.
    Raises: UsageError as `read_recipients` does.
    """
    for row in read_recipients(source, default_region=default_region, encoding=encoding):
        if isinstance(row, BadRow):
            yield row
            continue
        try:
            yield _read_person(row, zone=zone, now=now)
        except _Unreadable as error:
            yield bad_row(row.line, row.recipient.address, str(error))


def _read_person(row: Row, *, zone: tzinfo, now: datetime) -> KnownPerson:
    if row.recipient.kind is RecipientKind.GROUP:
        raise _Unreadable("a group is no person; groups go into a subgroup: wa subgroup import")
    own: dict[str, str] = {}
    attributes: dict[str, str] = {}
    for name, value in row.attributes.items():
        known = normalise_name(name)
        if known in OWN_COLUMNS:
            own[known] = value
        else:
            attributes[name] = value
    wish = _read_wish(own.get(OPTED_OUT))
    said_at_ms = _read_time(own.get(CONSENT_AT), zone=zone, now=now)
    if wish is None and said_at_ms is not None:
        wish = Wish.OPT_IN
    elif wish is Wish.OPT_IN and said_at_ms is None:
        wish = None  # "not opted out" says nothing of a consent
    return KnownPerson(
        recipient=row.recipient,
        attributes=attributes,
        whatsapp_name=own.get(WHATSAPP_NAME),
        wish=wish,
        said_at_ms=said_at_ms,
        wording=own.get(WORDING, "")[:LONGEST_WORDING] or None,
    )


def _read_wish(cell: str | None) -> Wish | None:
    if cell is None:
        return None
    word = cell.strip().casefold()
    if word in YES:
        return Wish.OPT_OUT
    if word in NO:
        return Wish.OPT_IN
    raise _Unreadable(f"{OPTED_OUT} is '{show_text(cell)}'; write yes or no")


def _read_time(cell: str | None, *, zone: tzinfo, now: datetime) -> int | None:
    if cell is None:
        return None
    try:
        moment = datetime.fromisoformat(cell.strip())
    except ValueError:
        raise _Unreadable(f"{CONSENT_AT} is '{show_text(cell)}'; write 2026-11-25 or 2026-11-25T18:30:00Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    if moment.year < 1990:
        raise _Unreadable(f"{CONSENT_AT} is '{show_text(cell)}', before there was anything to consent to")
    if moment > now + CLOCK_TOLERANCE:
        raise _Unreadable(f"{CONSENT_AT} is '{show_text(cell)}', which is in the future")
    return round(moment.astimezone(UTC).timestamp() * 1000)


def write_people(people: Iterable[tuple[Contact, ConsentRow | None]], out: TextIO, *, raw: bool = False) -> int:
    """Write people as CSV that `read_people` reads back the same; returns how many rows.

    people: each with the row of the ledger that is in force.  Who shows no number has no row: nobody could read it.
    """
    return write_recipients(
        ((contact.address, _cells(contact, word)) for contact, word in people if contact.address.startswith("+")),
        out,
        raw=raw,
    )


def _cells(contact: Contact, word: ConsentRow | None) -> dict[str, str]:
    cells = dict.fromkeys(OWN_COLUMNS, "")
    if word is not None:
        cells[OPTED_OUT] = "yes" if word.wish is Wish.OPT_OUT else "no"
        cells[CONSENT_AT] = _format_time(word.at_ms)
        cells[WORDING] = word.wording or ""
    cells[WHATSAPP_NAME] = contact.whatsapp_name or ""
    # An attribute that is called like one of our columns would be read back as that.
    return {**cells, **{name: value for name, value in contact.attributes.items() if name not in cells}}


def _format_time(at_ms: int) -> str:
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds" if at_ms % 1000 else "seconds").replace("+00:00", "Z")
