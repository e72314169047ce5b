"""Use cases: list the groups of an instance, and look at groups before they are written to.

What a gateway said is remembered for an hour, so that most sends ask nobody.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from wa_cli.domain.group import NOT_IN_GROUP, count_in_several, find_obstacle
from wa_cli.domain.recipient import RecipientKind
from wa_cli.errors import WaError
from wa_cli.services.gateways import check_ready

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

    from wa_cli.domain.connection import GroupInfo
    from wa_cli.domain.group import KnownGroup
    from wa_cli.ports import Groups, NewMessage
    from wa_cli.provider import Gateway
    from wa_cli.services.orders import Lines

# How long a send waits for the gateway, and a command whose very question it is.
LOOK_SECONDS: Final = 5.0
LIST_SECONDS: Final = 60.0
# Groups that are read one by one; WhatsApp slows down who asks for more.
MOST_READ: Final = 20
READ_AT_ONCE: Final = 4


class Asking(Protocol):
    """Lets some calls of a gateway run.  Raises: WaError when they could not be made."""

    def __call__(self, work: Callable[[Gateway], Awaitable[Answer]], /, *, seconds: float) -> Answer: ...


@dataclass(slots=True, kw_only=True)
class Answer:
    """What a gateway told.  listed: every group of the device, or None where it was not asked for.

    read: single groups by address, None for one that the device is not in.
    """

    listed: list[GroupInfo] | None = None
    read: dict[str, GroupInfo | None] = field(default_factory=dict)


# --- the list --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupList:
    """The groups that an instance is in.  seen_at_ms: when that was so.  problem: why it is not known anew."""

    groups: tuple[KnownGroup, ...]
    seen_at_ms: int
    problem: str | None = None


def list_groups(
    store: Groups, ask: Asking, *, instance_id: int, instance: str, refresh: bool, now_ms: int
) -> GroupList:
    """The groups of an instance, from the store where that is an hour old at most.

    refresh: ask the gateway in any case.  Raises: what the gateway does, where nothing is known of any group yet.
    """
    known = store.list_all(instance_id)
    if known and not refresh and _oldest(known).is_fresh(now_ms=now_ms):
        return _group_list(known)

    async def look(gateway: Gateway) -> Answer:
        await check_ready(gateway, instance=instance)
        return Answer(listed=await gateway.list_groups())

    try:
        answer = ask(look, seconds=LIST_SECONDS)
    except WaError as error:
        if not known or refresh:
            raise
        return _group_list(known, problem=error.message)
    save_answer(store, answer, instance_id=instance_id, now_ms=now_ms)
    found = store.list_all(instance_id)
    return replace(_group_list(found), seen_at_ms=now_ms)


def _group_list(known: Sequence[KnownGroup], *, problem: str | None = None) -> GroupList:
    seen_at_ms = _oldest(known).seen_at_ms if known else 0
    return GroupList(groups=tuple(one for one in known if one.is_member), seen_at_ms=seen_at_ms, problem=problem)


def _oldest(known: Sequence[KnownGroup]) -> KnownGroup:
    """The one that tells when the whole list was read: single groups may have been looked at since."""
    return min(known, key=lambda one: one.seen_at_ms)


def save_answer(store: Groups, answer: Answer, *, instance_id: int, now_ms: int) -> None:
    if answer.listed is not None:
        store.save_list(instance_id, answer.listed, now_ms=now_ms)
    for address, info in answer.read.items():
        store.save(instance_id, address, info, now_ms=now_ms)


# --- before a send ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """What is known of the groups of a send before anything is queued for them.

    groups: how many they are.  checked: of how many it is known whether they can be written to.
    obstacles: why not, by address.  people: the sizes of the others, added up; sized: of how many they are known.
    in_several: people who are in more than one of them, or None where nobody tells.
    problem: why some were not checked.  barred: the instances of a pool that cannot write to a group, by its address.
    """

    groups: int = 0
    checked: int = 0
    obstacles: Mapping[str, str] = field(default_factory=dict)
    barred: Mapping[str, frozenset[int]] = field(default_factory=dict)
    people: int = 0
    sized: int = 0
    in_several: int | None = None
    problem: str | None = None

    @property
    def is_settled(self) -> bool:
        """Whether asking the gateway could bring nothing new."""
        return self.checked == self.groups and NOT_IN_GROUP not in self.obstacles.values()

    def find_warning(self) -> str | None:
        """What to say of groups that nobody has looked at, or None."""
        if self.checked >= self.groups:
            return None
        which = (
            "the group was" if self.groups == 1 else f"{self.groups - self.checked:,} of {self.groups:,} groups were"
        )
        return f"{which} not checked: {self.problem or 'the gateway does not tell'}"

    def describe(self) -> str | None:
        """One sentence on who will read it, or None where nothing is known of that."""
        if not self.sized:
            return None
        where = "in the group" if self.sized == 1 else f"in {self.sized:,} groups"
        words = f"{self.people:,} {'member' if self.people == 1 else 'members'} {where}"
        if self.in_several:
            who = "1 person is" if self.in_several == 1 else f"{self.in_several:,} people are"
            words += f"; {who} in more than one of these groups"
        return words

    def skip_unreachable(self, lines: Lines) -> Lines:
        """The lines, those to groups that cannot be written to with the reason."""
        if not self.obstacles and not self.barred:
            return lines
        return replace(lines, read=lambda: self._mark(lines.read()))

    def _mark(self, lines: Iterable[NewMessage]) -> Iterable[NewMessage]:
        for line in lines:
            if line.kind is RecipientKind.GROUP and line.skip_reason is None:
                line.skip_reason = self.obstacles.get(line.address)
                line.barred = self.barred.get(line.address, ())
            yield line


def join_preflights(
    by_instance: Mapping[int, Preflight], addresses: Iterable[str], *, unable: Collection[int] = ()
) -> Preflight:
    """What is known of groups that any instance of a pool may write to.  by_instance: of each; there is at least one.

    A group cannot be written to where none of them can; as checked as by the one who knows the most of them.
    unable: instances of the pool that can write to no group.
    """
    looks = list(by_instance.values())
    best = max(looks, key=lambda look: (look.checked, -len(look.obstacles)))
    reasons = {address: why for look in looks for address, why in look.obstacles.items()}
    refusing = {
        address: {one for one, look in by_instance.items() if address in look.obstacles} for address in addresses
    }
    obstacles = {address: why for address, why in reasons.items() if len(refusing[address]) == len(looks)}
    barred = {address: frozenset(ids.union(unable)) for address, ids in refusing.items() if ids or unable}
    return replace(best, obstacles=obstacles, barred=barred)


def look_at_groups(
    addresses: Collection[str],
    store: Groups,
    ask: Asking | None,
    *,
    instance_id: int,
    instance: str,
    own_address: str | None,
    reads_members: bool,
    is_dry_run: bool,
    now_ms: int,
) -> Preflight:
    """Look at groups before they are written to.  A gateway that does not answer stops nothing: they are not checked.

    ask: None to do with what is known.  reads_members: find out who is in several of them, where they are few enough.
    is_dry_run: remember nothing.
    """
    wanted = list(dict.fromkeys(addresses))
    known = store.find(instance_id, wanted)
    # That a list did not have a group is not enough to leave it out: it is asked about by itself.
    stale = [one for one in wanted if one not in known or not _is_settled(known[one], now_ms=now_ms)]
    reading = wanted if reads_members and 1 < len(wanted) <= MOST_READ else []
    answer, problem = Answer(), "nobody has looked at them within the last hour"
    if ask is not None and (stale or reading):
        try:
            answer = ask(partial(_look, instance=instance, stale=stale, reading=reading), seconds=LOOK_SECONDS)
        except WaError as error:
            problem = error.message
        else:
            problem = "the gateway did not tell"
            if not is_dry_run:
                save_answer(store, answer, instance_id=instance_id, now_ms=now_ms)
    told = _what_is_told(answer)
    obstacles: dict[str, str] = {}
    sizes: list[int] = []
    checked = 0
    for address in wanted:
        is_known, info, reason = _judge(address, told, known, now_ms=now_ms)
        checked += is_known
        if reason is not None:
            obstacles[address] = reason
        elif info is not None and info.size is not None:
            sizes.append(info.size)
    participants = [
        info.participants
        for address, info in answer.read.items()
        if info is not None and info.participants is not None and address not in obstacles
    ]
    is_whole = bool(reading) and len(participants) == len(wanted) - len(obstacles)
    return Preflight(
        groups=len(wanted),
        checked=checked,
        obstacles=obstacles,
        people=sum(sizes),
        sized=len(sizes),
        in_several=count_in_several(participants, own_address=own_address) if is_whole else None,
        problem=problem if checked < len(wanted) else None,
    )


def _is_settled(group: KnownGroup, *, now_ms: int) -> bool:
    return group.is_member and group.is_fresh(now_ms=now_ms)


def _what_is_told(answer: Answer) -> dict[str, GroupInfo | None]:
    """What the gateway said of each group; what it said of a single one is worth more than its line in the list."""
    return {**{info.address: info for info in answer.listed or ()}, **answer.read}


def _judge(
    address: str, told: Mapping[str, GroupInfo | None], known: Mapping[str, KnownGroup], *, now_ms: int
) -> tuple[bool, GroupInfo | None, str | None]:
    """(whether it is known how the group stands, what is known of it, why it cannot be written to)."""
    if address in told:
        info = told[address]
        return True, info, find_obstacle(info)
    group = known.get(address)
    if group is None or not group.is_fresh(now_ms=now_ms):
        return False, group.info if group else None, None
    return True, group.info, find_obstacle(group.info if group.is_member else None)


async def _look(gateway: Gateway, *, instance: str, stale: Sequence[str], reading: Sequence[str]) -> Answer:
    """The list where it is needed, then single groups: those that are not on it, and those whose members count.

    A list may be cut short or behind, so that a group is missing from it proves nothing.
    """
    time = asyncio.get_running_loop().time
    ends_at = time() + LOOK_SECONDS - 0.5
    answer = Answer()
    if stale:
        await check_ready(gateway, instance=instance)  # a device that is not connected may tell of no group at all
        answer.listed = await gateway.list_groups()
    listed = {info.address for info in answer.listed or ()}
    missing = [one for one in stale if one not in listed][:MOST_READ]
    gate = asyncio.Semaphore(READ_AT_ONCE)

    async def read(address: str) -> None:
        async with gate:
            answer.read[address] = await gateway.read_group(address)

    # What was told in time counts: the rest of these groups is not checked, or nobody knows who is in several.
    reads = [asyncio.create_task(read(one)) for one in dict.fromkeys((*missing, *reading))]
    if reads:
        done, late = await asyncio.wait(reads, timeout=max(ends_at - time(), 0))
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        for task in done:
            error = task.exception()
            if error is not None and not isinstance(error, WaError):
                raise error
    return answer
