"""Importing members: as they are read, or all of them or none.

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
from wa_cli.errors import StorageFull

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from wa_cli.domain.subgroup import Joining

# Rows a transaction: they hold the write lock for 10 to 40 ms, so a daemon beside it hardly notices.  The next rows
# are read while the lock is free, which is all the breath that others need.
CHUNK_ROWS: Final = 2_000
SPOOL_IN_MEMORY: Final = 1024 * 1024  # bytes; what is larger goes to an unnamed temporary file


class MemberStore(Protocol):
    """What an import asks of the store."""

    def add_members(self, subgroup_id: int, joining: Sequence[Joining], *, now_ms: int) -> list[Joined]: ...

    def add_contacts(self, joining: Sequence[Joining], *, now_ms: int) -> list[int]: ...

    def add_whole_list(
        self, subgroup_id: int, chunks: Iterable[Sequence[tuple[int, Mapping[str, str]]]]
    ) -> Counter[Joined]: ...


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
    while chunk := list(islice(rows, CHUNK_ROWS)):
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
    then makes its contacts chunk by chunk, which nobody sees, and one last transaction makes them members: the lock is
    held for that alone.  on_progress: is called with how many rows have been read.
    """
    with _spool() as read, _spool() as known:
        size = 0
        for size, one in enumerate(joining, 1):
            _write(read, [one.recipient.address, one.recipient.kind, dict(one.attributes)])
            if size % CHUNK_ROWS == 0:
                on_progress(size)
        on_progress(size)
        if not size:
            return Counter()
        subgroup_id = find_subgroup()
        members = (
            NewMember(recipient=Recipient(address=address, kind=RecipientKind(kind)), attributes=attributes)
            for address, kind, attributes in _read(read)
        )
        if size <= CHUNK_ROWS:
            return Counter(store.add_members(subgroup_id, list(members), now_ms=now_ms))
        while chunk := list(islice(members, CHUNK_ROWS)):
            for contact_id, one in zip(store.add_contacts(chunk, now_ms=now_ms), chunk, strict=True):
                _write(known, [contact_id, dict(one.attributes)])
        pairs = ((contact_id, attributes) for contact_id, attributes in _read(known))
        return store.add_whole_list(subgroup_id, iter(lambda: list(islice(pairs, CHUNK_ROWS)), []))


# Rows on their way, a line of JSON each, in a file that has no name and vanishes with the process.


@contextmanager
def _spool() -> Iterator[TextIO]:
    with tempfile.SpooledTemporaryFile(SPOOL_IN_MEMORY, "w+", encoding="utf-8") as file:
        yield file  # type: ignore[misc]  # a text spool has all of TextIO that is used here


def _write(spool: TextIO, row: list[object]) -> None:
    with _disk_errors():
        spool.write(json.dumps(row, separators=(",", ":")) + "\n")


def _read(spool: TextIO) -> Iterator[Any]:
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
