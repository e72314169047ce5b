"""The sandbox's own memory: every post that reached it, in order, with the verdict.  Never changed, only added to.

What `wa` claims to have sent is held against this, so an acceptance stands here before any byte of the
answer leaves.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wa_cli.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One post.

    seq: from 1, without gaps; goes on where a ledger file ended.
    received_at: epoch seconds by the sandbox's clock.
    to: digits for a person, the id for a group, None when unreadable.
    content: the text, caption, link or template name.  tag: biz_opaque_callback_data.
    verdict: `accepted`; `rejected:<code>`; `lost` (vanished before anybody accepted it); `redirected`;
        `redirect_followed` (a client came after a redirect, which none should); `noted` (a read mark).
    wamid: only when accepted.  fault: the spelling of what was done to it on purpose.
    """

    seq: int
    received_at: float
    phone_number_id: str | None
    to: str | None
    type: str | None
    content: str | None
    tag: str | None
    verdict: str
    wamid: str | None = None
    fault: str | None = None

    @property
    def is_accepted(self) -> bool:
        return self.verdict == "accepted"

    def as_json(self) -> dict[str, Any]:
        """The entry as its line in the file and the admin API show it."""
        return {name: getattr(self, name) for name in self.__slots__}


_ENCODER = json.JSONEncoder(separators=(",", ":"))


class Ledger:
    """Entries in memory and, once opened, one JSON line each in a file that only grows."""

    def __init__(self, *, keep: int | None = None) -> None:
        """keep: at least the newest `keep` entries stay in memory; None keeps all."""
        self.entries: list[LedgerEntry] = []
        self.last_seq = 0
        self._keep = keep
        self._file: int | None = None
        self._fsync = False

    def open(self, path: Path, *, fsync: bool = False) -> None:
        """Write each further entry to `path`, created 0600 if missing; seq goes on where the file ends.

        A line is in the kernel's hands (survives a kill) before `append` returns; with fsync on the disk.
        Raises: StorageError when it cannot be opened, read or written, or holds something else.
        """
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            self._fsync = fsync
            self.last_seq = max(self.last_seq, self._read_last_seq(self._file))
        except (OSError, ValueError) as error:
            self.close()
            raise StorageError(
                f"the ledger {path} cannot be used: {error}", hint="name a new file or a sandbox's ledger"
            ) from error

    def append(self, entry: LedgerEntry) -> None:
        """Add an entry whose seq is `last_seq + 1`.  Raises: StorageError; the entry then counts as never seen."""
        if self._file is not None:
            line = _ENCODER.encode(entry.as_json()).encode() + b"\n"
            try:
                if os.write(self._file, line) != len(line):
                    raise OSError("only part of the line was written")
                if self._fsync:
                    os.fsync(self._file)
            except OSError as error:
                raise StorageError(f"the ledger cannot be written: {error}", hint="make room on the disk") from error
        self.last_seq = entry.seq
        entries = self.entries
        entries.append(entry)
        keep = self._keep
        if keep is not None and len(entries) > keep + keep // 4 + 16:
            del entries[: len(entries) - keep]

    def forget(self) -> None:
        """Empty the memory.  The file and the counting of seq go on."""
        self.entries.clear()

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @staticmethod
    def _read_last_seq(file: int) -> int:
        size = os.fstat(file).st_size
        if not size:
            return 0
        tail = os.pread(file, 65536, max(0, size - 65536))
        for line in reversed(tail.splitlines()):
            try:
                last_seq = int(json.loads(line)["seq"])
            except (ValueError, KeyError, TypeError):
                continue
            if not tail.endswith(b"\n"):
                # A torn last line: close it, so that the next one stands alone.
                os.write(file, b"\n")
            return last_seq
        raise ValueError("it holds something else")


def summarise(entries: Iterable[LedgerEntry]) -> dict[str, Any]:
    """Figures that tests hold a sender against, over the entries given (oldest first).

    posts, accepted, rejected, lost, redirected: counts.  rejected_by_code: code to count.  recipients:
    people with at least one acceptance.  tags_accepted_twice: tags with more than one acceptance.
    contents_accepted_twice: (recipient, content) with more than one.  peak_accepted_per_second: most
    acceptances in any sliding second. shortest_pair_gap_seconds: least time between two acceptances for one
    person, None without a pair.
    """
    verdicts: dict[str, int] = {}
    tags: dict[str, int] = {}
    contents: dict[tuple[str | None, str | None, str | None], int] = {}
    last_at: dict[str | None, float] = {}
    times: list[float] = []
    shortest: float | None = None
    posts = 0
    for entry in entries:
        posts += 1
        verdicts[entry.verdict] = verdicts.get(entry.verdict, 0) + 1
        if not entry.is_accepted:
            continue
        times.append(entry.received_at)
        if entry.tag is not None:
            tags[entry.tag] = tags.get(entry.tag, 0) + 1
        said = (entry.to, entry.type, entry.content)
        contents[said] = contents.get(said, 0) + 1
        before = last_at.get(entry.to)
        if before is not None:
            gap = entry.received_at - before
            shortest = gap if shortest is None else min(shortest, gap)
        last_at[entry.to] = entry.received_at
    rejected = {
        verdict.removeprefix("rejected:"): count
        for verdict, count in sorted(verdicts.items())
        if verdict.startswith("rejected:")
    }
    return {
        "posts": posts,
        "accepted": len(times),
        "rejected": sum(rejected.values()),
        "rejected_by_code": rejected,
        "lost": verdicts.get("lost", 0),
        "redirected": verdicts.get("redirected", 0),
        "redirects_followed": verdicts.get("redirect_followed", 0),
        "recipients": len(last_at),
        "tags_accepted_twice": sorted(tag for tag, count in tags.items() if count > 1),
        "contents_accepted_twice": sum(1 for count in contents.values() if count > 1),
        "peak_accepted_per_second": _peak_in_a_second(times),
        "shortest_pair_gap_seconds": shortest,
    }


def _peak_in_a_second(times: list[float]) -> int:
    ordered = sorted(times)
    peak = start = 0
    for end, at in enumerate(ordered):
        while ordered[start] <= at - 1.0:
            start += 1
        peak = max(peak, end - start + 1)
    return peak
