"""What a run of a campaign has come to: its counts at any size, its details by a look at each of its messages.

Everything about one run is read in one transaction, so that its numbers belong to one moment.  Counts come from
`run_tally`; what has to be counted by looking is bounded by the ids of the run's messages.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from wa_cli.domain.campaign import Reason
from wa_cli.domain.message import State
from wa_cli.domain.pacing import lane_of
from wa_cli.domain.receipt import Receipt
from wa_cli.domain.report import (
    ACCEPTED,
    ANSWER_MS,
    COUNTRY_PREFIX,
    HOUR_MS,
    MINUTE_MS,
    POSTED,
    Answers,
    Bucket,
    FailureGroup,
    Part,
    RunDetails,
    RunFigures,
    bucket_of,
    bucket_of_reason,
    country_of,
    estimate_end,
    fill_buckets,
    gather_parts,
    gather_series,
    measure_read_times,
)
from wa_cli.errors import NotFound
from wa_cli.store.sqlite.campaigns import find_run as find_occurrence
from wa_cli.store.sqlite.campaigns import read_run
from wa_cli.store.sqlite.pruned import find_report
from wa_cli.store.sqlite.upkeep import first_attempt_since

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence

    from wa_cli.domain.campaign import Campaign, Run
    from wa_cli.store.sqlite.database import Database

# So much of the end of a run is shown minute by minute.
LATELY_MS: Final = HOUR_MS
PAGE_ROWS: Final = 2_000
# The least time that a pace is measured over.
JUST_BEGUN_MS: Final = 5_000
# WhatsApp's times are whole seconds, rounded down: what happened in the second of a post may seem to come before it.
ROUNDED_MS: Final = 999

# Somebody who was left out and has a message of this run all the same, from an earlier plan of it, is counted there.
LEFT_OUT: Final = f"""
    SELECT reason, count(*) FROM exclusion AS e
    WHERE run_id = :run AND reason <> '{Reason.ALREADY_WRITTEN}' AND NOT EXISTS
        (SELECT 1 FROM message AS m WHERE m.run_id = :run AND m.contact_id = e.contact_id)
    GROUP BY reason
"""  # noqa: S608  # own words

# Attempts of a run's messages.  Other messages may have been numbered in between: then each is looked at.
OF_RUN: Final = "a.message_id BETWEEN :first AND :last"
OF_RUN_ALONE: Final = f"{OF_RUN} AND (SELECT run_id FROM message WHERE id = a.message_id) = :run"  # noqa: S608  # own words

# The plus keeps SQLite from finding a run's messages by their people: they lie side by side.
FAILURES: Final = """
    SELECT ifnull(nullif(m.error_code, ''), ifnull(m.reason, 'failed')), count(*), min(m.id) FROM message AS m
    WHERE m.state = 'failed' AND m.id BETWEEN :first AND :last AND +m.run_id = :run
    GROUP BY 1 ORDER BY 2 DESC, 1
"""
LATE_FAILURES: Final = """
    SELECT ifnull(nullif(m.error_code, ''), ifnull(m.reason, 'failed')), count(*), min(m.id) FROM message AS m
    WHERE (m.state = 'failed' OR (m.state = 'sent' AND m.receipt = 'failed'))
        AND m.id BETWEEN :first AND :last AND +m.run_id = :run
    GROUP BY 1 ORDER BY 2 DESC, 1
"""

# When the message of a run went out: its first post that was taken.
SENT_AT: Final = """
    (SELECT min(a.started_at) FROM attempt AS a
     WHERE a.message_id = m.id AND a.outcome IN ('accepted', 'marked_sent'))
"""
# A person has one message of a run, so messages count people.
REPLIES: Final = f"""
    SELECT m.batch_id, count(DISTINCT m.id) FROM inbound AS n
    CROSS JOIN message AS m ON m.run_id = :run AND m.contact_id = n.contact_id AND m.instance_id = n.instance_id
    WHERE n.at >= :began AND n.at BETWEEN {SENT_AT} - :rounded AND {SENT_AT} + :answer
    GROUP BY 1
"""  # noqa: S608  # own words
# A list that was imported after the run says nothing about it.
OPT_OUTS: Final = f"""
    SELECT count(DISTINCT m.id) FROM consent AS n
    CROSS JOIN message AS m ON m.run_id = :run AND m.contact_id = n.contact_id
    WHERE n.change = 'opt_out' AND n.source <> 'import'
        AND n.at >= :began AND n.at BETWEEN {SENT_AT} - :rounded AND {SENT_AT} + :answer
"""  # noqa: S608  # own words
PLANS: Final = """
    SELECT id FROM plan WHERE campaign_id = :campaign AND occurrence = :occurrence AND applied_at IS NOT NULL
    UNION SELECT plan_id FROM run WHERE id = :run AND plan_id IS NOT NULL
"""
CLICKED: Final = f"""
    SELECT m.batch_id, count(DISTINCT m.id) FROM click AS k
    CROSS JOIN message AS m ON m.run_id = :run AND m.contact_id = k.contact_id
    WHERE k.plan_id IN ({PLANS}) AND k.kind = 'person' GROUP BY 1
"""  # noqa: S608  # own words
CLICKS: Final = f"""
    SELECT ifnull(sum(kind = 'person'), 0), ifnull(sum(kind = 'preview'), 0),
        EXISTS (SELECT 1 FROM link WHERE plan_id IN ({PLANS}))
    FROM click WHERE plan_id IN ({PLANS})
"""  # noqa: S608  # own words

# Every message of a run, gathered by all that a report tells apart.  The beginning of a number stands for its country.
GROUPS: Final = f"""
    SELECT ifnull(b.variant, ''), i.name, c.kind, substr(c.address, 1, {COUNTRY_PREFIX}), min(c.address), m.state,
        m.receipt, CASE WHEN m.state = 'queued' THEN m.lane END,
        CASE WHEN m.state IN ('skipped', 'expired', 'cancelled') THEN ifnull(m.reason, m.state) END, count(*)
    FROM message AS m JOIN contact AS c ON c.id = m.contact_id JOIN batch AS b ON b.id = m.batch_id
    JOIN instance AS i ON i.id = m.instance_id
    WHERE m.id BETWEEN :first AND :last AND +m.run_id = :run
    GROUP BY 1, 2, 3, 4, 6, 7, 8, 9
"""  # noqa: S608  # own words

# The ledger, a page at a time.
MESSAGE_LINES: Final = f"""
    SELECT m.id, c.address, m.state, m.receipt, m.lane, m.reason, m.error_code, m.error_details, b.variant, i.name,
        m.scheduled_at, m.attempts, s.sent_at,
        (SELECT min(r.at) FROM attempt AS a JOIN receipt AS r ON r.attempt_id = a.id
         WHERE a.message_id = m.id AND r.status = 'delivered'),
        (SELECT min(r.at) FROM attempt AS a JOIN receipt AS r ON r.attempt_id = a.id
         WHERE a.message_id = m.id AND r.status IN ('read', 'played')),
        (SELECT min(n.at) FROM inbound AS n WHERE n.contact_id = m.contact_id AND n.instance_id = m.instance_id
         AND n.at BETWEEN s.sent_at - :rounded AND s.sent_at + :answer),
        (SELECT min(k.at) FROM click AS k WHERE k.contact_id = m.contact_id AND k.kind = 'person'
         AND k.plan_id IN ({PLANS})),
        (SELECT min(n.at) FROM consent AS n WHERE n.contact_id = m.contact_id AND n.change = 'opt_out'
         AND n.source <> 'import' AND n.at BETWEEN s.sent_at - :rounded AND s.sent_at + :answer),
        g.name
    FROM (SELECT m.*, {SENT_AT} AS sent_at FROM message AS m
          WHERE m.id > :after AND m.id <= :last AND +m.run_id = :run ORDER BY m.id LIMIT :limit) AS s
    JOIN message AS m ON m.id = s.id JOIN contact AS c ON c.id = m.contact_id JOIN batch AS b ON b.id = m.batch_id
    JOIN instance AS i ON i.id = m.instance_id
    LEFT JOIN group_chat AS g ON g.instance_id = m.instance_id AND g.address = c.address
    ORDER BY m.id
"""  # noqa: S608  # own words
LEFT_OUT_LINES: Final = f"""
    SELECT e.id, c.address, e.reason, e.details,
        (SELECT g.name FROM instance AS i JOIN group_chat AS g ON g.instance_id = i.id AND g.address = c.address
         WHERE c.kind = 'group' AND g.name <> '' ORDER BY g.seen_at DESC LIMIT 1)
    FROM exclusion AS e LEFT JOIN contact AS c ON c.id = e.contact_id
    WHERE e.run_id = :run AND e.id > :after AND e.reason <> '{Reason.ALREADY_WRITTEN}' AND NOT EXISTS
        (SELECT 1 FROM message AS m WHERE m.run_id = :run AND m.contact_id = e.contact_id)
    ORDER BY e.id LIMIT :limit
"""  # noqa: S608  # own words


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """A run in a list of runs.  queued: and held ones.  accepted: by WhatsApp, whatever came after."""

    run: Run
    audience: int
    waiting: int
    accepted: int
    failed: int
    unknown: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLine:
    """One of the audience.  Times are ms since 1970.

    message_id: None for one who was left out.  recipient: None for a row of a file that named nobody.
    """

    recipient: str | None
    bucket: Bucket
    reason: str | None
    details: str | None
    message_id: int | None = None
    variant: str | None = None
    instance: str | None = None
    due_at_ms: int | None = None
    attempts: int = 0
    sent_at_ms: int | None = None
    delivered_at_ms: int | None = None
    read_at_ms: int | None = None
    error_code: str | None = None
    replied_at_ms: int | None = None
    clicked_at_ms: int | None = None
    opted_out_at_ms: int | None = None
    group_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lanes:
    """Where the messages of a run wait: (instance, lane) of each batch, and which of them are stopped."""

    every: tuple[tuple[int, int], ...]
    held: tuple[tuple[int, int], ...]

    @property
    def is_all_held(self) -> bool:
        return bool(self.every) and len(self.held) == len(self.every)

    def holds(self, lane: int | None) -> bool:
        return self.is_all_held or any(lane == held for _instance, held in self.held)


class SqliteReports:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._left_out: dict[int, tuple[tuple[int, ...], dict[str, int]]] = {}
        self._messages: dict[int, tuple[tuple[int, ...], int]] = {}

    # --- which campaign, which run ---

    def find_run(self, campaign: Campaign, occurrence: str | None = None) -> Run | None:
        """The run of that occurrence; for None the newest that was not missed, or None where nothing ran yet.

        Raises: NotFound for an occurrence that never was.
        """
        with self._database.read() as connection:
            if occurrence is None:
                row = connection.execute(
                    "SELECT id FROM run WHERE campaign_id = ? ORDER BY state = 'missed', id DESC LIMIT 1",
                    (campaign.id,),
                ).fetchone()
                return None if row is None else read_run(connection, row[0])
            run = find_occurrence(connection, campaign.id, occurrence)
            if run is None:
                newest = connection.execute(
                    "SELECT occurrence FROM run WHERE campaign_id = ? ORDER BY id DESC LIMIT 3", (campaign.id,)
                ).fetchall()
                raise _no_run(campaign, occurrence, [one[0] for one in newest if one[0]])
            return run

    def list_runs(self, campaign: Campaign, *, limit: int) -> list[RunLine]:
        """The newest runs, newest first."""
        with self._database.read() as connection:
            ids = connection.execute(
                "SELECT id FROM run WHERE campaign_id = ? ORDER BY id DESC LIMIT ?", (campaign.id, limit)
            ).fetchall()
            return [self._read_line(connection, read_run(connection, run_id)) for (run_id,) in ids]

    def _read_line(self, connection: sqlite3.Connection, run: Run) -> RunLine:
        left_out = self._read_left_out(connection, run)
        buckets = fill_buckets(read_tally(connection, run), left_out, held=0)
        return RunLine(
            run=run,
            audience=sum(buckets.values()),
            waiting=buckets[Bucket.QUEUED],
            accepted=sum(buckets[bucket] for bucket in ACCEPTED),
            failed=buckets[Bucket.FAILED],
            unknown=buckets[Bucket.UNKNOWN],
        )

    def find_instances(self, run: Run) -> list[int]:
        """The instances that send a run."""
        with self._database.read() as connection:
            rows = connection.execute(
                """SELECT DISTINCT ifnull(pool_member.instance_id, batch.instance_id)
                FROM batch LEFT JOIN pool_member ON pool_member.pool_id = batch.pool_id WHERE run_id = ? ORDER BY 1""",
                (run.id,),
            )
            return [row[0] for row in rows]

    # --- its figures ---

    def read_figures(
        self, run: Run, *, now_ms: int, is_deep: bool = False, known: RunFigures | None = None
    ) -> RunFigures:
        """Everything that a run has come to.

        is_deep: look at every message, for what the counts cannot tell.  known: earlier figures of the same run, from
        which answers, failures and sends are taken over: the rest costs milliseconds whatever the size.
        Of a run whose messages were pruned: what it had come to then.
        """
        with self._database.read() as connection:
            tally = read_tally(connection, run)
            kept = find_report(connection, run.id)
            if kept is not None:
                return kept.show(tally, is_deep=is_deep)
            values = _values(run)
            left_out = self._read_left_out(connection, run)
            lanes = _read_lanes(connection, run)
            queued = sum(count for state, _receipt, count in tally if state is State.QUEUED)
            held = queued if lanes.is_all_held else _count_waiting(connection, lanes.held)
            buckets = fill_buckets(tally, left_out, held=held)
            messages = self._count_messages(connection, run)
            condition = OF_RUN if values["last"] - values["first"] + 1 == messages else OF_RUN_ALONE
            began_ms = _first_post_at(connection, condition, values, run)
            per_minute = _count_posts(connection, condition, values, since_ms=now_ms - MINUTE_MS)
            details = None
            if known is not None:
                answers, failures, sends = known.answers, known.failures, known.sends
            else:
                replies = _by_batch(connection, REPLIES, values, began_ms)
                clicked = _by_batch(connection, CLICKED, values, began_ms)
                answers = _read_answers(connection, values, began_ms, sum(replies.values()), sum(clicked.values()))
                failures = _read_failures(connection, values, tally)
                since_ms = None if is_deep else (run.ended_at_ms or now_ms) - LATELY_MS
                sends = gather_series(_posts_by_minute(connection, condition, values, run, since_ms=since_ms))
                if is_deep:
                    details = _read_details(connection, condition, values, lanes, run, replies, clicked)
            overdue = _count_waiting(connection, lanes.every, due_by_ms=now_ms)
            posted = sum(buckets[bucket] for bucket in POSTED)
            ended_ms = run.ended_at_ms or now_ms
            return RunFigures(
                audience=messages + sum(left_out.values()),
                buckets=buckets,
                left_out=left_out,
                answers=answers,
                failures=failures,
                sends=sends,
                per_minute=per_minute,
                net_per_minute=(0.0 if began_ms is None else posted / max((ended_ms - began_ms) / MINUTE_MS, 1 / 60)),
                ends_at_ms=None
                if lanes.is_all_held
                else estimate_end(
                    waiting=queued,
                    overdue=overdue,
                    last_due_at_ms=_last_due(connection, lanes.every),
                    per_minute=_pace(per_minute, began_ms=began_ms, now_ms=now_ms),
                    now_ms=now_ms,
                ),
                details=details,
            )

    def _read_left_out(self, connection: sqlite3.Connection, run: Run) -> dict[str, int]:
        """By reason; remembered for as long as nothing was added to the run."""
        kept = find_report(connection, run.id)
        if kept is not None:
            return dict(kept.left_out)
        mark = _read_mark(connection, run)
        known = self._left_out.get(run.id)
        if known is None or known[0] != mark:
            known = self._left_out[run.id] = (mark, dict(connection.execute(LEFT_OUT, {"run": run.id}).fetchall()))
        return known[1]

    def _count_messages(self, connection: sqlite3.Connection, run: Run) -> int:
        """Counted one by one, not from the tally; remembered for as long as nothing was added to the run."""
        mark = _read_mark(connection, run)
        known = self._messages.get(run.id)
        if known is None or known[0] != mark:
            (count,) = connection.execute("SELECT count(*) FROM message WHERE run_id = ?", (run.id,)).fetchone()
            known = self._messages[run.id] = (mark, count)
        return known[1]

    # --- its ledger, line by line ---

    def read_ledger(self, run: Run) -> Iterator[LedgerLine]:
        """One line for each of the audience: the messages in their order, then those who were left out.

        Read a page at a time: while the run goes on, each line is true of the moment it was read.
        Raises: NotFound when its messages were pruned.
        """
        with self._database.read() as connection:
            kept = find_report(connection, run.id)
        if kept is not None:
            raise NotFound(
                f"the {kept.messages:,} messages of this run were pruned: there are no lines of them any more",
                hint="`wa campaign report` still shows what it came to",
                code="run_pruned",
            )
        return self._read_lines(run)

    def _read_lines(self, run: Run) -> Iterator[LedgerLine]:
        values = {**_values(run), "answer": ANSWER_MS, "rounded": ROUNDED_MS, "limit": PAGE_ROWS}
        after = values["first"] - 1
        while True:
            with self._database.read() as connection:
                lanes = _read_lanes(connection, run)
                rows = connection.execute(MESSAGE_LINES, {**values, "after": after}).fetchall()
            if not rows:
                break
            yield from (_message_line(row, lanes) for row in rows)
            after = rows[-1][0]
        after = 0
        while True:
            with self._database.read() as connection:
                rows = connection.execute(LEFT_OUT_LINES, {**values, "after": after}).fetchall()
            if not rows:
                return
            yield from (
                LedgerLine(
                    recipient=address,
                    bucket=bucket_of_reason(reason),
                    reason=reason,
                    details=details,
                    group_name=group_name,
                )
                for _id, address, reason, details, group_name in rows
            )
            after = rows[-1][0]


# --- inside ---


def _no_run(campaign: Campaign, occurrence: str, newest: Sequence[str]) -> NotFound:
    hint = f"its newest are: {', '.join(newest)}" if newest else f"`wa campaign show {campaign.name}` shows what it has"
    return NotFound(f"{campaign.name} has no run '{occurrence}'", hint=hint, code="no_run")


def _values(run: Run) -> dict[str, Any]:
    """What the statements about a run are given.  A run without messages has an empty range of ids."""
    return {
        "run": run.id,
        "campaign": run.campaign_id,
        "occurrence": run.occurrence,
        "first": run.first_message_id or 1,
        "last": run.last_message_id or 0,
    }


def _read_mark(connection: sqlite3.Connection, run: Run) -> tuple[int, ...]:
    """What changes whenever somebody is added to a run: its newest exclusion and message, and the sum of its tally."""
    newest, total = connection.execute(
        """SELECT ifnull((SELECT max(id) FROM exclusion WHERE run_id = :run), 0),
            ifnull((SELECT sum(n) FROM run_tally WHERE run_id = :run), 0)""",
        {"run": run.id},
    ).fetchone()
    return newest, total, run.last_message_id or 0


def read_tally(connection: sqlite3.Connection, run: Run) -> list[tuple[State, Receipt | None, int]]:
    rows = connection.execute("SELECT state, receipt, n FROM run_tally WHERE run_id = ? AND n <> 0", (run.id,))
    return [(State(state), Receipt(receipt) if receipt else None, n) for state, receipt, n in rows]


def _read_lanes(connection: sqlite3.Connection, run: Run) -> _Lanes:
    rows = connection.execute(
        # Any number of a pool may have taken over what another had.
        """SELECT batch.id, ifnull(pool_member.instance_id, batch.instance_id), priority, held_at
        FROM batch LEFT JOIN pool_member ON pool_member.pool_id = batch.pool_id WHERE run_id = ?""",
        (run.id,),
    )
    lanes = [((instance, lane_of(priority, batch)), held_at) for batch, instance, priority, held_at in rows]
    return _Lanes(
        every=tuple(lane for lane, _held_at in lanes),
        held=tuple(lane for lane, held_at in lanes if held_at is not None),
    )


def _count_waiting(
    connection: sqlite3.Connection, lanes: Sequence[tuple[int, int]], *, due_by_ms: int | None = None
) -> int:
    """By the index of what waits, without a look at a message."""
    late = "" if due_by_ms is None else "AND due_at <= ?"
    return sum(
        connection.execute(
            f"SELECT count(*) FROM message WHERE state = 'queued' AND instance_id = ? AND lane = ? {late}",  # noqa: S608  # own words
            lane if due_by_ms is None else (*lane, due_by_ms),
        ).fetchone()[0]
        for lane in lanes
    )


def _last_due(connection: sqlite3.Connection, lanes: Sequence[tuple[int, int]]) -> int | None:
    dues = [
        connection.execute(
            "SELECT max(due_at) FROM message WHERE state = 'queued' AND instance_id = ? AND lane = ?", lane
        ).fetchone()[0]
        for lane in lanes
    ]
    return max((due for due in dues if due is not None), default=None)


def _first_post_at(connection: sqlite3.Connection, condition: str, values: Mapping[str, Any], run: Run) -> int | None:
    row = connection.execute(
        f"SELECT a.started_at FROM attempt AS a WHERE a.id >= :after AND {condition} ORDER BY a.id LIMIT 1",  # noqa: S608  # own words
        {**values, "after": first_attempt_since(connection, run.created_at_ms)},
    ).fetchone()
    return None if row is None else int(row[0])


def _pace(per_minute: int, *, began_ms: int | None, now_ms: int) -> float:
    """Posts a minute just now.  A run that has only begun is measured by the time it has had."""
    age_ms = MINUTE_MS if began_ms is None else min(max(now_ms - began_ms, JUST_BEGUN_MS), MINUTE_MS)
    return per_minute * MINUTE_MS / age_ms


def _count_posts(connection: sqlite3.Connection, condition: str, values: Mapping[str, Any], *, since_ms: int) -> int:
    row = connection.execute(
        f"SELECT count(*) FROM attempt AS a WHERE a.id >= :after AND a.started_at > :since AND {condition}",  # noqa: S608  # own words
        {**values, "after": first_attempt_since(connection, since_ms), "since": since_ms},
    ).fetchone()
    return int(row[0])


def _posts_by_minute(
    connection: sqlite3.Connection, condition: str, values: Mapping[str, Any], run: Run, *, since_ms: int | None
) -> dict[int, int]:
    since_ms = run.created_at_ms if since_ms is None else max(since_ms, run.created_at_ms)
    rows = connection.execute(
        f"""SELECT a.started_at / {MINUTE_MS}, count(*) FROM attempt AS a
        WHERE a.id >= :after AND {condition} GROUP BY 1""",  # noqa: S608  # own words
        {**values, "after": first_attempt_since(connection, since_ms)},
    ).fetchall()
    return dict(rows)


def _by_batch(
    connection: sqlite3.Connection, statement: str, values: Mapping[str, Any], began_ms: int | None
) -> dict[int, int]:
    if began_ms is None:
        return {}
    given = {**values, "began": began_ms - ROUNDED_MS, "rounded": ROUNDED_MS, "answer": ANSWER_MS}
    return dict(connection.execute(statement, given).fetchall())


def _read_answers(
    connection: sqlite3.Connection, values: Mapping[str, Any], began_ms: int | None, replied: int, clicked: int
) -> Answers:
    clicks, previews, has_links = connection.execute(CLICKS, values).fetchone()
    opted_out = 0
    if began_ms is not None:
        given = {**values, "began": began_ms - ROUNDED_MS, "rounded": ROUNDED_MS, "answer": ANSWER_MS}
        (opted_out,) = connection.execute(OPT_OUTS, given).fetchone()
    return Answers(
        replied=replied,
        opted_out=opted_out,
        clicked=clicked,
        clicks=clicks,
        previews=previews,
        has_links=bool(has_links or clicks),
    )


def _read_failures(
    connection: sqlite3.Connection, values: Mapping[str, Any], tally: Sequence[tuple[State, Receipt | None, int]]
) -> tuple[FailureGroup, ...]:
    is_late = any(state is State.SENT and receipt is Receipt.FAILED for state, receipt, _count in tally)
    if not is_late and not any(state is State.FAILED for state, _receipt, _count in tally):
        return ()
    rows = connection.execute(LATE_FAILURES if is_late else FAILURES, values)
    return tuple(FailureGroup(code=code, count=count, message_id=message_id) for code, count, message_id in rows)


def _read_details(
    connection: sqlite3.Connection,
    condition: str,
    values: Mapping[str, Any],
    lanes: _Lanes,
    run: Run,
    replies: Mapping[int, int],
    clicked: Mapping[int, int],
) -> RunDetails:
    countries: dict[tuple[str, str], str] = {}
    variants, regions, instances = [], [], []
    unsent: dict[str, int] = {}
    for variant, instance, kind, prefix, address, state, receipt, lane, reason, count in connection.execute(
        GROUPS, values
    ):
        bucket = bucket_of(State(state), Receipt(receipt) if receipt else None, is_held=lanes.holds(lane))
        key = (kind, prefix)
        if key not in countries:
            countries[key] = country_of(address, kind)
        variants.append((variant, bucket, count))
        regions.append((countries[key], bucket, count))
        instances.append((instance, bucket, count))
        if reason is not None:
            unsent[reason] = unsent.get(reason, 0) + count
    names = dict(connection.execute("SELECT id, ifnull(variant, '') FROM batch WHERE run_id = ?", (run.id,)).fetchall())
    return RunDetails(
        variants=tuple(
            Part(
                name=part.name,
                buckets=part.buckets,
                replied=sum(count for batch, count in replies.items() if names.get(batch) == part.name),
                clicked=sum(count for batch, count in clicked.items() if names.get(batch) == part.name),
            )
            for part in gather_parts(variants)
        ),
        countries=gather_parts(regions),
        instances=gather_parts(instances),
        unsent=dict(sorted(unsent.items(), key=lambda item: (-item[1], item[0]))),
        read_times=measure_read_times(_read_times(connection, condition, values, run)),
    )


def _read_times(connection: sqlite3.Connection, condition: str, values: Mapping[str, Any], run: Run) -> Sequence[int]:
    """From post to reading in ms, shortest first.  Eight bytes each: there may be a million."""
    rows = connection.execute(
        f"""SELECT (SELECT min(r.at) FROM receipt AS r WHERE r.attempt_id = a.id AND r.status IN ('read', 'played'))
            - a.started_at AS took
        FROM attempt AS a WHERE a.id >= :after AND {condition} AND took IS NOT NULL ORDER BY took""",  # noqa: S608  # own words
        {**values, "after": first_attempt_since(connection, run.created_at_ms)},
    )
    return array("q", (row[0] for row in rows))


def _message_line(row: Sequence[Any], lanes: _Lanes) -> LedgerLine:
    state, receipt = State(row[2]), Receipt(row[3]) if row[3] else None
    return LedgerLine(
        message_id=row[0],
        recipient=row[1],
        bucket=bucket_of(state, receipt, is_held=lanes.holds(row[4])),
        reason=row[5],
        error_code=row[6],
        details=row[7],
        variant=row[8],
        instance=row[9],
        due_at_ms=row[10],
        attempts=row[11],
        sent_at_ms=row[12],
        delivered_at_ms=row[13],
        read_at_ms=row[14],
        replied_at_ms=row[15],
        clicked_at_ms=row[16],
        opted_out_at_ms=row[17],
        group_name=row[18] or None,
    )
