"""Finding a subgroup, and importing its members: as they are read, or all of them or none.

Either way memory is bounded and whoever reads the list decides what a bad row means: what `joining` leaves out is not
taken in, and what it raises stops the import.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO

from wa_cli.domain.recipient import Recipient, RecipientKind
from wa_cli.domain.subgroup import Joined, NewMember
from wa_cli.errors import NotFound, StorageFull

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from wa_cli.domain.subgroup import Joining, Subgroup, SubgroupSizes

# Rows of a list that is kept until all of it is read.
CHUNK_ROWS: Final = 2_000
SPOOL_IN_MEMORY: Final = 1024 * 1024  # bytes; what is larger goes to an unnamed temporary file

_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


class MemberStore(Protocol):
    """What an import asks of the store.

    chunk_rows: how many rows it takes in one transaction, so that others who write wait some 10 ms for it.  The next
    rows are read while the file is free, which is all the breath that they need.
    """

    @property
    def chunk_rows(self) -> int: ...

    def add_members(self, subgroup_id: int, joining: Sequence[Joining], *, now_ms: int) -> list[Joined]: ...

    def stage_members(self, joining: Sequence[Joining], *, now_ms: int) -> None: ...

    def enter_staged(self, subgroup_id: int) -> Counter[Joined]: ...


class SubgroupStore(Protocol):
    """What looking for a subgroup asks of the store."""

    def find(self, name: str) -> Subgroup: ...

    def read_sizes(self, subgroup_id: int) -> SubgroupSizes: ...


def find_by_name_or_id(store: SubgroupStore, word: str) -> Subgroup:
    """The subgroup of that name, else of that id: programs hold the id, people the name (row R1).

    Raises: NotFound with the name that was probably meant.
    """
    try:
        return store.find(word)
    except NotFound as missing:
        if not (word.isascii() and word.isdigit() and len(word) < 19):
            raise
        try:
            return store.read_sizes(int(word)).subgroup
        except NotFound:
            raise missing from None


def import_as_read(
    store: MemberStore,
    find_subgroup: Callable[[], int],
    joining: Iterable[Joining],
    *,
    now_ms: int,
    on_progress: Callable[[int], None],
) -> Counter[Joined]:
    """Take members in while the list is read.  Returns what became of them.

    What has been taken in is durable whenever `on_progress` is called with its count; after a crash the same import
    adds only the rest.  find_subgroup: the id of the subgroup, asked for once there is somebody to take in.
    """
    counts: Counter[Joined] = Counter()
    rows = iter(joining)
    subgroup_id: int | None = None
    while chunk := list(islice(rows, store.chunk_rows)):
        if subgroup_id is None:
            subgroup_id = find_subgroup()
        counts.update(store.add_members(subgroup_id, chunk, now_ms=now_ms))
        on_progress(counts.total())
    return counts


def import_whole(
    store: MemberStore,
    find_subgroup: Callable[[], int],
    joining: Iterable[Joining],
    *,
    now_ms: int,
    on_progress: Callable[[int], None],
) -> Counter[Joined]:
    """Take all members in at one moment, or none.  Returns what became of them.

    The list is read to its end before anything is written, so whatever `joining` raises leaves no trace.  A long list
    is then staged chunk by chunk, which nobody sees but as contacts, and one last transaction makes them members.
    on_progress: is called with how many rows have been read.
    """
    with _spool() as spool:
        size = 0
        rows = iter(joining)
        while chunk := list(islice(rows, CHUNK_ROWS)):
            _write(spool, [(one.recipient.address, one.recipient.kind, dict(one.attributes)) for one in chunk])
            size += len(chunk)
            on_progress(size)
        if not size:
            return Counter()
        subgroup_id = find_subgroup()
        for line in _read(spool):
            members = [_member(*row) for row in line]
            if size <= CHUNK_ROWS:
                return Counter(store.add_members(subgroup_id, members, now_ms=now_ms))
            store.stage_members(members, now_ms=now_ms)
        counts = store.enter_staged(subgroup_id)
        counts[Joined.ALREADY_THERE] += size - counts.total()  # who stands in the list more than once
        return counts


def _member(address: str, kind: str, attributes: dict[str, str]) -> NewMember:
    return NewMember(recipient=Recipient(address=address, kind=RecipientKind(kind)), attributes=attributes)


# Rows on their way, a chunk of them to a line of JSON, in a file that has no name and vanishes with the process.


@contextmanager
def _spool() -> Iterator[TextIO]:
    with tempfile.SpooledTemporaryFile(SPOOL_IN_MEMORY, "w+", encoding="utf-8") as file:
        yield file  # type: ignore[misc]  # a text spool has all of TextIO that is used here


def _write(spool: TextIO, rows: Sequence[object]) -> None:
    with _disk_errors():
        spool.write(_encode(rows) + "\n")


def _read(spool: TextIO) -> Iterator[list[Any]]:
    with _disk_errors():
        spool.seek(0)  # writes what is still in its buffer
    return map(json.loads, spool)


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFull(
            f"the list cannot be kept in {tempfile.gettempdir()} until all of it is read: {error.strerror}",
            hint="free some space there, or name another folder in TMPDIR; no member was added",
        ) from error
