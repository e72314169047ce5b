"""Whether numbers are on WhatsApp, as they were last looked up, and the address that WhatsApp has for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wa_cli.domain.connection import NumberCheck, OnWhatsApp
from wa_cli.domain.event import Person
from wa_cli.domain.number import CheckedNumber
from wa_cli.domain.recipient import RecipientKind
from wa_cli.store.sqlite.contacts import find_or_add_contacts
from wa_cli.store.sqlite.people import SqlitePeopleTurn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wa_cli.store.sqlite.database import Database

ADDRESSES_PER_QUERY: Final = 500

SAVE: Final = """
    INSERT INTO number_check (contact_id, verdict, chat, checked_at) VALUES (?, ?, ?, ?)
    ON CONFLICT (contact_id) DO UPDATE SET verdict = excluded.verdict, chat = excluded.chat,
        checked_at = excluded.checked_at
"""


class SqliteNumbers:
    """Implements Numbers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, addresses: Sequence[str]) -> dict[str, CheckedNumber]:
        found = {}
        with self._database.read() as connection:
            for start in range(0, len(addresses), ADDRESSES_PER_QUERY):
                some = addresses[start : start + ADDRESSES_PER_QUERY]
                marks = ",".join("?" * len(some))
                for address, verdict, chat, checked_at in connection.execute(
                    f"""SELECT address, verdict, chat, checked_at FROM contact
                    JOIN number_check ON number_check.contact_id = contact.id WHERE address IN ({marks})""",  # noqa: S608  # only marks
                    tuple(some),
                ):
                    check = NumberCheck(verdict=OnWhatsApp(verdict), chat=chat)
                    found[address] = CheckedNumber(check=check, checked_at_ms=checked_at)
        return found

    def save(self, address: str, check: NumberCheck, *, now_ms: int) -> CheckedNumber:
        with self._database.write() as connection:
            (contact_id,) = find_or_add_contacts(connection, [(address, RecipientKind.PERSON)], now_ms=now_ms).values()
            chat = check.chat if check.verdict is OnWhatsApp.YES and check.chat != address else None
            if chat is not None:
                # From here on the other spelling is this contact too, in lists, receipts and answers.  Where it is a
                # contact of its own or quite another number, it is not written to in this one's place.
                turn = SqlitePeopleTurn(connection)
                turn.learn(contact_id, Person(address=chat))
                chat = chat if turn.find(chat) == contact_id and turn.is_spelling(contact_id, chat) else None
            connection.execute(SAVE, (contact_id, check.verdict, chat, now_ms))
        return CheckedNumber(check=NumberCheck(verdict=check.verdict, chat=chat), checked_at_ms=now_ms)
