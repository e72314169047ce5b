"""A day in the life of a fleet, on a fake clock in seconds: three instances, 5,000 messages, and all that goes wrong.

Issue 6, "a day in the life".  Rows H1, H9, H10, H11, S8.  Promises P2, P8, P13.  Faults 64, 65.  What is checked is
what the far end saw and what the file says; the limits are counted here anew, by the plainest means.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from fleet_world import HOUR, MINUTE, READY, SECOND, STORM_MS, Day

from wa_cli.domain.connection import ConnectionState
from wa_cli.domain.outcome import Accepted, Ambiguous
from wa_cli.store.sqlite.upkeep import SqliteUpkeep

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from fleet_world import Phone, Sent

    from wa_cli.domain.outcome import Outcome

NEEDS_QR, DISCONNECTED, CONNECTING = (
    ConnectionState.NEEDS_QR,
    ConnectionState.DISCONNECTED,
    ConnectionState.CONNECTING,
)
DAY = 24 * HOUR
# The file keeps whole milliseconds, and a process that starts anew knows of the one before only what is in the file.
GRAIN = 1
# A gateway that is gone tells nobody: one that usually tells is looked at every 5 s, and its silence is found so late.
SILENT_GATEWAY_MS = 6 * SECOND


# --- the limits, counted anew ---


def most_in_window(times: Sequence[int], span_ms: int) -> int:
    """How many of the moments fall into the fullest stretch of that length.  times: sorted."""
    return max((index - bisect_left(times, at - span_ms + GRAIN) + 1 for index, at in enumerate(times)), default=0)


def find_breaches(phone: Phone, posts: Sequence[Sent], outcomes: dict[int, Outcome]) -> list[str]:
    """Every limit of the instance that its posts break in any sliding window."""
    limits, times = phone.limits, [post.at_ms for post in posts]
    assert times == sorted(times)
    breaches = [
        f"{name}: {most} instead of {limits[name]}"
        for name, span_ms in (("per_minute", MINUTE), ("per_hour", HOUR))
        if (most := most_in_window(times, span_ms)) > limits[name]
    ]
    narrow = min((later - earlier for earlier, later in pairwise(times)), default=DAY)
    if narrow < limits["gap_ms"] - GRAIN:
        breaches.append(f"gap_ms: {narrow}")
    to: dict[str, list[int]] = defaultdict(list)
    for post in posts:
        to[post.address].append(post.at_ms)
    for its_times in to.values():
        narrow = min((later - earlier for earlier, later in pairwise(its_times)), default=DAY)
        if narrow < limits["recipient_gap_ms"] - GRAIN:
            breaches.append(f"recipient_gap_ms: {narrow}")
        if (most := most_in_window(its_times, MINUTE)) > limits["recipient_per_minute"]:
            breaches.append(f"recipient_per_minute: {most}")
    if budget := limits.get("new_people_per_day"):
        people: Counter[str] = Counter()
        begin = most = 0
        for post in posts:
            people[post.address] += 1
            while posts[begin].at_ms <= post.at_ms - DAY:
                people[posts[begin].address] -= 1
                begin += 1
            most = max(most, len(+people))
        if most > budget:
            breaches.append(f"new_people_per_day: {most}")
    if budget := limits.get("new_chats_per_day"):
        opened: dict[str, int] = {}
        for post in posts:
            outcome = outcomes.get(post.attempt_id)
            if not post.knows and not post.is_group and (outcome is None or isinstance(outcome, Accepted | Ambiguous)):
                opened.setdefault(post.address, post.at_ms)
        if (most := most_in_window(sorted(opened.values()), DAY)) > budget:
            breaches.append(f"new_chats_per_day: {most}")
    return breaches


# --- when nothing may leave ---


def stretches(moments: Iterable[tuple[int, bool]], *, ends_ms: int) -> list[tuple[int, int]]:
    """(from, to) of every stretch in which it holds.  moments: (ms, whether it holds from now on)."""
    found: list[tuple[int, int]] = []
    since: int | None = None
    for at_ms, holds in moments:
        if holds and since is None:
            since = at_ms
        elif not holds and since is not None:
            found.append((since, at_ms))
            since = None
    return found if since is None else [*found, (since, ends_ms)]


def inside(posts: Iterable[Sent], times: Iterable[tuple[int, int]], *, grace_ms: int = 0) -> list[Sent]:
    """The posts that began in one of the stretches, later than so long after its beginning."""
    listed = list(times)
    return [post for post in posts if any(begin + grace_ms < post.at_ms < end for begin, end in listed)]


def read_moments(day: Day, phone: Phone, kinds: tuple[str, ...]) -> list[tuple[int, str, str]]:
    marks = ", ".join("?" * len(kinds))
    return [
        (row[0], row[1], row[2])
        for row in day.rows(
            f"SELECT at, kind, word FROM instance_event WHERE instance_id = ? AND kind IN ({marks}) ORDER BY at, id",
            phone.instance_id,
            *kinds,
        )
    ]


def check_states(day: Day, phone: Phone) -> None:
    """No post began that the stored state forbade, nor later than a second after the device was lost (row H9)."""
    posts = day.posts_of(phone)
    not_ready = [(at, word != READY) for at, _kind, word in read_moments(day, phone, ("state",))]
    assert inside(posts, stretches(not_ready, ends_ms=day.ends_ms)) == []
    paused = [(at, kind == "paused") for at, kind, _word in read_moments(day, phone, ("paused", "resumed"))]
    assert inside(posts, stretches(paused, ends_ms=day.ends_ms)) == []
    lost = [(at, state not in (READY, None)) for at, state in phone.turns]
    grace_ms = SECOND if phone.is_told else SECOND + 2  # a look, and the way of its answer
    assert inside(posts, stretches(lost, ends_ms=day.ends_ms), grace_ms=grace_ms) == []
    away = stretches([(at, state is None) for at, state in phone.turns], ends_ms=day.ends_ms)
    assert inside(posts, away, grace_ms=SILENT_GATEWAY_MS if phone.is_told else SECOND + 2) == []
    for post in posts:  # what the file said in the very moment: it may have changed in it, never before it
        if post.stored is not READY or post.is_paused:
            changes = read_moments(day, phone, ("state", "paused"))
            assert any(0 <= post.at_ms - at <= GRAIN for at, _kind, _word in changes), post


def check_restriction(day: Day, phone: Phone) -> list[Sent]:
    """From the moment that a restriction is known until its end no stranger is written to.

    Returns what was written meanwhile, to others.
    """
    known = [at for at, _kind, _word in read_moments(day, phone, ("restricted",))]
    posts = inside(day.posts_of(phone), [(at, phone.restricted_until_ms) for at in known[:1]])
    assert [post for post in posts if not post.knows and not post.is_group] == []
    return posts


def check_restarts(day: Day) -> None:
    """Four in any ten minutes at most, and none where only a person helps (row H11, faults 64 and 65)."""
    for phone in day.phones:
        assert most_in_window([at for at, _word, _state in phone.acts], 10 * MINUTE) <= 4
        assert {state for _at, _word, state in phone.acts}.isdisjoint({NEEDS_QR, ConnectionState.AUTH_FAILURE})


def check_storm(day: Day, phone: Phone, *, resumed_ms: int) -> None:
    """Fault 65: the flapping device is paused by wa, and the others go on."""
    (began_ms,) = [began for began, _end, why in phone.troubles if why == "storm"]
    paused = [at for at, _kind, word in read_moments(day, phone, ("paused",)) if word == "wa"]
    assert began_ms < paused[0] < began_ms + STORM_MS
    between = [(paused[0], resumed_ms)]
    assert inside(day.posts_of(phone), between) == []
    # The others may have used up their hour just before, and then wait for it as on any other day.
    goes_on = [(paused[0], max(resumed_ms, paused[0] + HOUR + 10 * MINUTE))]
    assert inside([post for post in day.posts if post.instance != phone.name], goes_on)


def check_ledger(day: Day) -> None:
    """Promises P2 and P13: each message in one state, that state true, and nobody written to twice."""
    rows = day.rows("SELECT id, instance_id, state FROM message")
    states = {message_id: state for message_id, _instance, state in rows}
    assert states.keys() == day.queued.keys()
    kept = day.rows("SELECT instance_id, state, sum(n) FROM tally GROUP BY 1, 2 HAVING sum(n) > 0")
    assert Counter({(one, state): n for one, state, n in kept}) == Counter((one, state) for _id, one, state in rows)
    assert sum(n for _one, _state, n in kept) == len(day.queued)
    assert set(states.values()) <= {"queued", "sent", "failed", "unknown"}

    assert max(day.delivered.values()) == 1
    heard = day.read_outcomes()
    last = {message_id: outcomes[-1] for message_id, outcomes in heard.items()}
    taken = {one for one, outcomes in heard.items() if any(isinstance(each, Accepted) for each in outcomes)}
    unclear = {one for one, outcome in last.items() if isinstance(outcome, Ambiguous)}
    assert {one for one, state in states.items() if state == "unknown"} == unclear | day.cut_off
    assert {one for one, state in states.items() if state == "sent"} == taken - day.cut_off
    for message_id, outcomes in heard.items():  # nothing followed an outcome that was or may have been an acceptance
        assert not any(isinstance(outcome, Accepted | Ambiguous) for outcome in outcomes[:-1]), message_id
    arrived = {one for one, (_name, to, body) in day.queued.items() if (to, body) in day.delivered}
    assert {one for one, state in states.items() if state == "sent"} <= arrived
    assert arrived <= {one for one, state in states.items() if state in ("sent", "unknown")}

    findings = SqliteUpkeep(day.app.database).check(is_held=lambda _instance: False)
    assert [finding.message for finding in findings if finding.level != "ok"] == []


def check_everything(day: Day) -> None:
    """What holds on every day."""
    for phone in day.phones:
        assert find_breaches(phone, day.posts_of(phone), day.outcomes) == [], phone.name
        check_states(day, phone)
    check_restarts(day)
    check_ledger(day)


# --- days ---


def add_small_troubles(day: Day, *, until_hour: float, each: int) -> None:
    """Short losses of every kind, away from what is planned."""
    for phone in day.phones:
        for _loss in range(each):
            hour = day.draw.uniform(0.1, until_hour)
            at_ms = day.began_ms + round(hour * HOUR)
            if any(begin - 20 * MINUTE < at_ms < end + 20 * MINUTE for begin, end, _why in phone.troubles):
                continue
            state = day.draw.choice([DISCONNECTED, CONNECTING, ConnectionState.ERROR, None])
            day.lose(phone, state, hour=hour, hours=day.draw.uniform(15, 150) / 3600, why="small")


def test_a_day_in_the_life_of_three_instances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 6, "a day in the life".  Rows H1, H9, H10, H11, S8.  Promises P2, P8, P13.  Faults 64, 65.

    5,000 messages to people and groups.  One device is restricted for two hours and loses its gateway for one, one has
    to be paired anew for three hours, one flaps for ten minutes; then the daemon is killed and started again, and it is
    stopped for the night.
    """
    day = Day(tmp_path, monkeypatch, seed=1, hours=25)
    asia, berlin, cairo = day.phones
    day.restrict(asia, hour=3, hours=2)
    day.lose(asia, None, hour=7, hours=1, why="gateway")
    day.lose(berlin, NEEDS_QR, hour=3, hours=3, why="qr")
    day.flap(cairo, hour=6.3)
    resumed_ms = day.at_hour(6.9, lambda: day.resume(cairo))
    day.at_hour(8.5, day.doom)
    day.stop_for_the_night(hour=12, until_hour=23.5)
    day.plan_messages(until_hour=6, orders=6)
    add_small_troubles(day, until_hour=10, each=6)
    day.live()

    assert len(day.queued) == 5_000
    assert len(day.delivered) > 4_500
    assert day.cut_off
    assert any(post.at_ms > day.began_ms + DAY and not post.knows for post in day.posts_of(cairo))  # budgets move on
    check_everything(day)
    meanwhile = check_restriction(day, asia)
    assert any(post.knows for post in meanwhile)
    assert any(post.is_group for post in meanwhile)
    assert [post for post in day.posts_of(asia) if post.at_ms > asia.restricted_until_ms and not post.knows]
    check_storm(day, cairo, resumed_ms=resumed_ms)
    assert [post for post in day.posts_of(cairo) if post.at_ms > resumed_ms]
    check_mended(day, berlin)
    day.app.close()


def check_mended(day: Day, phone: Phone) -> None:
    """Promise P8: what had become due meanwhile leaves at the pace of any other hour once the code is scanned."""
    ((began_ms, scanned_ms),) = [(begin, end) for begin, end, why in phone.troubles if why == "qr"]
    posts = day.posts_of(phone)
    assert inside(posts, [(began_ms + SECOND, scanned_ms)]) == []
    due = day.rows(
        """SELECT count(*) FROM message WHERE instance_id = ? AND scheduled_at <= ?
        AND NOT EXISTS (SELECT 1 FROM attempt WHERE message_id = message.id AND started_at < ?)""",
        phone.instance_id,
        scanned_ms,
        scanned_ms,
    )[0][0]
    assert due > phone.limits["per_hour"]
    first = [post.at_ms - scanned_ms for post in posts if post.at_ms >= scanned_ms]
    assert first[0] < 5 * SECOND  # it goes on by itself, and soon
    assert sum(at < MINUTE for at in first) <= phone.limits["per_minute"]
    assert sum(at < HOUR for at in first) <= phone.limits["per_hour"]


@pytest.mark.parametrize("seed", range(2, 4))
def test_on_any_bad_morning_no_limit_is_broken_and_the_ledger_adds_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Issue 6, "a day in the life".  Rows H1, H9, H11.  Promises P2, P8, P13.  Every trouble at a time of the seed."""
    day = Day(tmp_path, monkeypatch, seed=seed, hours=2.0, size=0.06, hourly=0.25)
    if seed == 2:
        day.phones[0].is_told = False  # nobody tells of its changes: it is looked at all the time
    restricted, unpaired, flapping = day.draw.sample(day.phones, 3)
    day.restrict(restricted, hour=day.draw.uniform(0.1, 0.4), hours=0.5)
    day.lose(unpaired, NEEDS_QR, hour=day.draw.uniform(0.1, 0.5), hours=0.6, why="qr")
    day.flap(flapping, hour=day.draw.uniform(0.1, 0.6))
    resumed_ms = day.at_hour(1.1, lambda: day.resume(flapping))
    day.at_hour(day.draw.uniform(0.3, 1.5), day.doom)
    day.plan_messages(until_hour=0.8, orders=3)
    add_small_troubles(day, until_hour=1.4, each=2)
    day.live()

    assert len(day.queued) == 300
    assert len(day.delivered) > 150
    check_everything(day)
    check_restriction(day, restricted)
    check_storm(day, flapping, resumed_ms=resumed_ms)
    day.app.close()
