"""What every store of templates must do, run against SQLite on a file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from wa_cli.domain.template import StoredButton, StoredTemplate
from wa_cli.store.sqlite.database import Database
from wa_cli.store.sqlite.events import open_event_turn
from wa_cli.store.sqlite.templates import SqliteTemplates

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = 1_790_000_000_000
SALE = StoredTemplate(
    name="sale",
    language="en_US",
    status="APPROVED",
    category="MARKETING",
    is_named=True,
    header_kind="image",
    body="Hi {{first_name}} 😀",
    footer="STOP to leave",
    buttons=(StoredButton(kind="url", text="Shop", url="https://example.org/{{1}}"),),
    others=("carousel",),
    quality="GREEN",
    synced_at_ms=NOW,
)
ORDER = StoredTemplate(name="order", language="de", status="REJECTED", rejected_reason="X", synced_at_ms=NOW)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "wa.db", create=True)
    yield opened
    opened.close()


@pytest.fixture
def store(database: Database) -> SqliteTemplates:
    return SqliteTemplates(database)


def hold(database: Database, template: StoredTemplate, *, at_ms: int, until_ms: int | None = None) -> None:
    with open_event_turn(database) as turn:
        turn.receipts.hold_template(
            1, (template.name, template.language), at_ms=at_ms, until_ms=until_ms, reason="132015 paused"
        )


def test_templates_come_back_as_they_were_in_the_order_of_their_names(store: SqliteTemplates) -> None:
    german = replace(SALE, language="de", body="Hallo {{first_name}}")
    changes = store.replace(1, [SALE, german, ORDER], now_ms=NOW)
    assert store.list_all(1, now_ms=NOW) == [ORDER, german, SALE]
    assert store.find(1, "sale", now_ms=NOW) == [german, SALE]
    assert store.find(1, "Sale", now_ms=NOW) == []
    assert changes.added == (("order", "de"), ("sale", "de"), ("sale", "en_US"))


def test_a_new_reading_takes_the_place_of_the_old_one_and_says_what_it_changed(store: SqliteTemplates) -> None:
    store.replace(1, [SALE, ORDER], now_ms=NOW)
    german = replace(SALE, language="de")
    changes = store.replace(1, [replace(SALE, status="PAUSED"), german], now_ms=NOW + 1)
    assert (changes.added, changes.changed, changes.removed) == (
        (("sale", "de"),),
        (("sale", "en_US"),),
        (("order", "de"),),
    )
    assert [one.status for one in store.list_all(1, now_ms=NOW)] == ["APPROVED", "PAUSED"]
    again = store.replace(1, [replace(SALE, status="PAUSED"), german], now_ms=NOW + 2)
    assert (again.added, again.changed, again.removed) == ((), (), ())


def test_an_account_without_templates_is_known_from_one_that_was_never_read(store: SqliteTemplates) -> None:
    assert store.last_synced_at_ms(1) is None
    store.replace(1, [], now_ms=NOW)
    assert store.last_synced_at_ms(1) == NOW


def test_a_reading_that_fails_half_way_changes_nothing(store: SqliteTemplates, database: Database) -> None:
    """Promise P10."""
    store.replace(1, [SALE], now_ms=NOW)
    with database.write() as connection:
        connection.execute(
            """CREATE TEMP TRIGGER no BEFORE INSERT ON template WHEN new.name = 'order'
            BEGIN SELECT raise(ABORT, 'no'); END"""
        )
    with pytest.raises(Exception, match="no"):
        store.replace(1, [SALE, ORDER], now_ms=NOW + 1)
    assert store.list_all(1, now_ms=NOW) == [SALE]
    assert store.last_synced_at_ms(1) == NOW


def test_a_template_is_held_until_the_platform_calls_it_approved_again(
    store: SqliteTemplates, database: Database
) -> None:
    store.replace(1, [SALE, ORDER], now_ms=NOW)
    hold(database, SALE, at_ms=NOW + 1_000)
    hold(database, ORDER, at_ms=NOW + 1_000, until_ms=NOW + 9_000)
    reasons = {one.name: (one.held_reason, one.held_until_ms) for one in store.list_all(1, now_ms=NOW + 2_000)}
    assert reasons == {"sale": ("132015 paused", None), "order": ("132015 paused", NOW + 9_000)}
    assert store.find(1, "order", now_ms=NOW + 9_000)[0].held_reason is None

    changes = store.replace(1, [SALE, ORDER], now_ms=NOW + 3_000)
    assert changes.lifted == (("sale", "en_US"),)
    assert store.find(1, "sale", now_ms=NOW + 3_000)[0].held_reason is None
    assert store.find(1, "order", now_ms=NOW + 3_000)[0].held_reason == "132015 paused"


def test_what_came_back_after_the_reading_began_is_younger_than_the_reading(
    store: SqliteTemplates, database: Database
) -> None:
    hold(database, SALE, at_ms=NOW + 5)
    assert store.replace(1, [SALE], now_ms=NOW).lifted == ()
    assert store.find(1, "sale", now_ms=NOW + 5)[0].held_reason == "132015 paused"


def test_each_instance_has_templates_of_its_own(store: SqliteTemplates, database: Database) -> None:
    with database.write() as connection:
        connection.execute("INSERT INTO instance (id, name, transport, created_at) VALUES (2, 'b', 'cloud_api', 0)")
    store.replace(1, [SALE], now_ms=NOW)
    store.replace(2, [ORDER], now_ms=NOW)
    assert store.list_all(1, now_ms=NOW) == [SALE]
    assert store.find(2, "sale", now_ms=NOW) == []
    store.replace(1, [], now_ms=NOW)
    assert store.list_all(2, now_ms=NOW) == [ORDER]
