"""What every store of subgroups must do, run against SQLite on a file."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import pytest

from wa_cli.domain.recipient import RecipientKind, parse_recipient
from wa_cli.domain.subgroup import Joined, NewMember
from wa_cli.errors import Conflict, NotFound
from wa_cli.services.subgroups import CHUNK_ROWS, import_as_read, import_whole
from wa_cli.store.sqlite.database import Database
from wa_cli.store.sqlite.subgroups import PAGE_ROWS, SqliteSubgroups

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOW = 1_790_000_000_000
GROUP = "120363025246125486@g.us"


def member(text: str, **attributes: str) -> NewMember:
    return NewMember(recipient=parse_recipient(text, default_region=None), attributes=attributes)


def people(count: int, **attributes: str) -> Iterator[NewMember]:
    return (member(f"+6581{number:06d}", **attributes) for number in range(count))


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[[], SqliteSubgroups]]:
    """Each call is another process's view of the same file."""
    opened: list[Database] = []

    def open_one() -> SqliteSubgroups:
        opened.append(Database.open(tmp_path / "wa.db", create=True))
        return SqliteSubgroups(opened[-1])

    yield open_one
    for database in opened:
        database.close()


@pytest.fixture
def store(open_store: Callable[[], SqliteSubgroups]) -> SqliteSubgroups:
    return open_store()


@pytest.fixture
def vip(store: SqliteSubgroups) -> int:
    return store.create("vip", now_ms=NOW)[0].id


def addresses(store: SqliteSubgroups, subgroup_id: int) -> list[str]:
    return [address for _contact_id, address, _kind, _attributes in store.iterate_members(subgroup_id)]


# The lists


def test_a_subgroup_is_found_by_any_case_of_its_name(store: SqliteSubgroups) -> None:
    made, is_new = store.create("Ärzte", now_ms=NOW)
    assert is_new
    assert (made.name, made.members, made.created_at_ms) == ("Ärzte", 0, NOW)
    assert store.find("äRZTE") == made
    assert store.create("ÄRZTE", now_ms=NOW + 1) == (made, False)


def test_a_name_of_bytes_that_are_no_text_is_not_found(store: SqliteSubgroups) -> None:
    with pytest.raises(NotFound):
        store.find("vip\udcff")


def test_the_error_for_an_unknown_name_knows_the_names_there_are(store: SqliteSubgroups, vip: int) -> None:
    with pytest.raises(NotFound, match="no subgroup named 'vpi'") as missing:
        store.find("vpi")
    assert "did you mean 'vip'?" in (missing.value.hint or "")


def test_a_subgroup_may_take_another_case_of_its_own_name_but_not_the_name_of_another(
    store: SqliteSubgroups, vip: int
) -> None:
    store.create("staff", now_ms=NOW)
    store.rename(vip, "VIP")
    assert store.find("vip").name == "VIP"
    with pytest.raises(Conflict, match="'staff'"):
        store.rename(vip, "STAFF")
    assert store.find("vip").id == vip


def test_the_id_of_a_deleted_subgroup_is_never_used_again(store: SqliteSubgroups, vip: int) -> None:
    store.delete(vip)
    assert store.create("vip", now_ms=NOW)[0].id > vip


def test_a_list_counts_people_and_groups_apart(store: SqliteSubgroups, vip: int) -> None:
    store.create("staff", now_ms=NOW)
    store.add_members(vip, [member("+6581234567"), member(GROUP), member("+6581234568")], now_ms=NOW)
    sizes = {one.subgroup.name: (one.subgroup.members, one.people, one.groups) for one in store.list_all()}
    assert sizes == {"vip": (3, 2, 1), "staff": (0, 0, 0)}
    assert store.read_sizes(vip) == store.list_all()[0]


def test_deleting_a_subgroup_leaves_its_people_in_the_others(store: SqliteSubgroups, vip: int) -> None:
    staff = store.create("staff", now_ms=NOW)[0].id
    for subgroup in (vip, staff):
        store.add_members(subgroup, [member("+6581234567")], now_ms=NOW)
    assert store.delete(vip) == 1
    assert addresses(store, staff) == ["+6581234567"]
    with pytest.raises(NotFound):
        store.read_sizes(vip)


# The members


def test_members_keep_their_order_and_each_is_there_once_however_spelled(store: SqliteSubgroups, vip: int) -> None:
    """Row S6: a spelling becomes one address when it comes in."""
    spellings = ["+6581234569", "+65 8123 4567", GROUP, "whatsapp:+6581234567", "+6581234568", "6581234567@c.us"]
    outcomes = store.add_members(vip, [member(text) for text in spellings], now_ms=NOW)
    added, there = Joined.ADDED, Joined.ALREADY_THERE
    assert outcomes == [added, added, added, there, added, there]
    assert addresses(store, vip) == ["+6581234569", "+6581234567", GROUP, "+6581234568"]


def test_somebody_who_left_and_comes_back_stands_at_the_end(store: SqliteSubgroups, vip: int) -> None:
    store.add_members(vip, [member("+6581234567"), member("+6581234568")], now_ms=NOW)
    assert store.remove_members(vip, ["+6581234567", "+6581234560"]) == {"+6581234567"}
    store.add_members(vip, [member("+6581234567")], now_ms=NOW)
    assert addresses(store, vip) == ["+6581234568", "+6581234567"]


def test_many_are_removed_at_once(store: SqliteSubgroups, vip: int) -> None:
    store.add_members(vip, list(people(1_500)), now_ms=NOW)
    leaving = [one.recipient.address for one in islice(people(1_500), 1_400)]
    assert len(store.remove_members(vip, leaving)) == 1_400
    assert store.count(vip) == 100


def test_attributes_are_merged_and_the_change_is_told(store: SqliteSubgroups, vip: int) -> None:
    store.add_members(vip, [member("+6581234567", name="Ann", city="SG")], now_ms=NOW)
    assert store.add_members(vip, [member("+6581234567", city="KL")], now_ms=NOW) == [Joined.UPDATED]
    assert store.add_members(vip, [member("+6581234567", city="KL")], now_ms=NOW) == [Joined.ALREADY_THERE]
    assert store.add_members(vip, [member("+6581234567")], now_ms=NOW) == [Joined.ALREADY_THERE]
    ((_contact_id, _address, kind, attributes),) = store.iterate_members(vip)
    assert kind is RecipientKind.PERSON
    assert attributes == '{"name":"Ann","city":"KL"}'


def test_attributes_belong_to_the_membership(store: SqliteSubgroups, vip: int) -> None:
    staff = store.create("staff", now_ms=NOW)[0].id
    store.add_members(vip, [member("+6581234567", name="Ann")], now_ms=NOW)
    store.add_members(staff, [member("+6581234567")], now_ms=NOW)
    assert [row[3] for row in store.iterate_members(staff)] == [None]


def test_every_page_of_a_long_list_is_read_once_and_in_order(store: SqliteSubgroups, vip: int) -> None:
    size = 2 * PAGE_ROWS + 7
    other = store.create("other", now_ms=NOW)[0].id
    for first in range(0, size, 1000):  # the members of two subgroups lie mixed in the table
        store.add_members(vip, list(islice(people(size), first, first + 1000)), now_ms=NOW)
        store.add_members(other, [member(f"+6591{first:06d}")], now_ms=NOW)
    assert addresses(store, vip) == [one.recipient.address for one in people(size)]


def test_a_reader_holds_no_transaction_and_does_not_meet_those_who_join_behind_it(
    open_store: Callable[[], SqliteSubgroups], store: SqliteSubgroups, vip: int
) -> None:
    """Row 42: what a send takes is the list as it was when it began."""
    store.add_members(vip, list(people(PAGE_ROWS + 5)), now_ms=NOW)
    reader = store.iterate_members(vip)
    read = [next(reader)]
    open_store().add_members(vip, [member("+6591234567")], now_ms=NOW)
    store.remove_members(vip, ["+6581000001"])  # on the reader's own connection, between two of its rows
    read.extend(reader)
    assert "+6591234567" not in [row[1] for row in read]
    assert len(read) in (PAGE_ROWS + 4, PAGE_ROWS + 5)


def test_a_subgroup_that_is_deleted_meanwhile_takes_nobody_in(
    open_store: Callable[[], SqliteSubgroups], store: SqliteSubgroups, vip: int
) -> None:
    open_store().delete(vip)
    with pytest.raises(NotFound, match="deleted while"):
        store.add_members(vip, [member("+6581234567")], now_ms=NOW)
    store.stage_members([member("+6581234567")], now_ms=NOW)
    with pytest.raises(NotFound, match="deleted while"):
        store.enter_staged(vip)


# Importing


def run_import(
    importer: Callable[..., Counter[Joined]], store: SqliteSubgroups, subgroup_id: int, joining: object
) -> dict[str, int]:
    progress: list[int] = []
    counts = importer(store, lambda: subgroup_id, joining, now_ms=NOW, on_progress=progress.append)
    assert progress == sorted(progress)
    return {joined.value: number for joined, number in counts.items() if number}


BOTH = pytest.mark.parametrize("importer", [import_as_read, import_whole])
SIZES = pytest.mark.parametrize("size", [3, CHUNK_ROWS, CHUNK_ROWS + 1, 2 * CHUNK_ROWS + 100])


@BOTH
@SIZES
def test_an_import_takes_everybody_in_in_order_and_a_second_one_nobody(
    importer: Callable[..., Counter[Joined]], size: int, store: SqliteSubgroups, vip: int
) -> None:
    """Promise P12."""
    assert run_import(importer, store, vip, people(size, city="SG")) == {"added": size}
    assert addresses(store, vip) == [one.recipient.address for one in people(size)]
    assert run_import(importer, store, vip, people(size, city="SG")) == {"already_there": size}
    assert store.count(vip) == size


@BOTH
@SIZES
def test_what_became_of_the_rows_adds_up_to_the_rows(
    importer: Callable[..., Counter[Joined]], size: int, store: SqliteSubgroups, vip: int
) -> None:
    """Promise P13, for an import: one known with other attributes, one unchanged, one named twice in the list."""
    store.add_members(vip, [member("+6581000000", name="Ann"), member("+6581000001", city="SG")], now_ms=NOW)

    def rows() -> Iterator[NewMember]:
        yield from people(size, city="SG")
        yield member("+6581000002")

    expected = {"added": size - 2, "updated": 1, "already_there": 2}
    assert run_import(importer, store, vip, rows()) == {key: count for key, count in expected.items() if count}
    assert next(store.iterate_members(vip))[3] == '{"name":"Ann","city":"SG"}'


@SIZES
def test_a_whole_import_that_fails_at_its_last_row_has_written_nothing(
    size: int, store: SqliteSubgroups, vip: int
) -> None:
    class BadRow(Exception):
        pass

    def rows() -> Iterator[NewMember]:
        yield from people(size)
        raise BadRow

    with pytest.raises(BadRow):
        run_import(import_whole, store, vip, rows())
    assert store.count(vip) == 0


def test_a_whole_import_shows_nothing_until_it_shows_all(
    open_store: Callable[[], SqliteSubgroups], store: SqliteSubgroups, vip: int
) -> None:
    """Row 42."""

    class Watched(SqliteSubgroups):
        seen: list[int]

        def stage_members(self, joining: list[NewMember], *, now_ms: int) -> None:  # type: ignore[override]  # a fake
            super().stage_members(joining, now_ms=now_ms)
            self.seen.append(other.count(vip))

    other = open_store()
    watched = Watched(store._database)
    watched.seen = []
    run_import(import_whole, watched, vip, people(3 * CHUNK_ROWS))
    assert watched.seen == [0, 0, 0]
    assert other.count(vip) == 3 * CHUNK_ROWS


def test_an_import_that_stops_half_way_keeps_its_chunks_and_a_rerun_adds_only_the_rest(
    store: SqliteSubgroups, vip: int
) -> None:
    """Row 80."""

    def rows() -> Iterator[NewMember]:
        yield from people(CHUNK_ROWS + 500)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_import(import_as_read, store, vip, rows())
    assert store.count(vip) == CHUNK_ROWS
    size = 2 * CHUNK_ROWS
    assert run_import(import_as_read, store, vip, people(size)) == {"added": CHUNK_ROWS, "already_there": CHUNK_ROWS}
    assert addresses(store, vip) == [one.recipient.address for one in people(size)]


def test_the_subgroup_is_asked_for_only_when_there_is_somebody_to_take_in(store: SqliteSubgroups) -> None:
    asked: list[int] = []

    def find() -> int:
        asked.append(1)
        return store.create("vip", now_ms=NOW)[0].id

    for importer in (import_as_read, import_whole):
        assert importer(store, find, [], now_ms=NOW, on_progress=lambda _rows: None).total() == 0
    assert asked == []
