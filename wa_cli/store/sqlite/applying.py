"""Letting a plan go: its lines become the messages of a run, some thousand at a time, and leave once all are there."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from wa_cli.cuts import cut
from wa_cli.domain.campaign import CampaignState
from wa_cli.domain.pacing import PRIORITY_BULK, lane_of
from wa_cli.errors import Conflict, Refused, StorageBroken, WaError
from wa_cli.store.sqlite.audiences import MAY_HAVE_BEEN_WRITTEN
from wa_cli.store.sqlite.campaigns import find_run, read_campaign, read_run, step
from wa_cli.store.sqlite.database import LONGEST_WAIT_SECONDS
from wa_cli.store.sqlite.leases import fold_log
from wa_cli.store.sqlite.owners import is_alive
from wa_cli.store.sqlite.plans import SqlitePlans
from wa_cli.store.sqlite.pruned import find_report

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

    from wa_cli.domain.campaign import Campaign, CampaignSpec, Run
    from wa_cli.domain.plan import Plan
    from wa_cli.store.sqlite.database import Database
    from wa_cli.store.sqlite.owners import Owner

CHUNK_ROWS: Final = 2_000
# Longer than anybody who waits for the file lets pass between two looks: each of them gets in.
BREATH_SECONDS: Final = 1.2 * LONGEST_WAIT_SECONDS
FIRST_ROWS: Final = 500

# Who writes to somebody: the number of the pool that they have by now, or the one that the plan gave them.
SENDER: Final = """ifnull((SELECT s.instance_id FROM pool_seat AS s
        WHERE s.pool_id = :pool AND s.contact_id = l.contact_id), t.instance_id)"""
# The plan's lines become messages: their ids grow with their lines.
APPLY_LINES: Final = f"""
    INSERT INTO message (instance_id, batch_id, contact_id, content_id, state, lane, due_at, scheduled_at, expires_at,
        reason, changed_at, run_id)
    SELECT {SENDER}, t.batch_id, l.contact_id, l.content_id,
        CASE WHEN c.opted_out_at IS NULL THEN 'queued' ELSE 'skipped' END, t.lane, l.due_at + :shift,
        l.due_at + :shift, l.expires_at + :shift, CASE WHEN c.opted_out_at IS NULL THEN NULL ELSE 'opted_out' END,
        :now, :run
    FROM plan_line AS l JOIN temp.target AS t ON t.part = l.part JOIN contact AS c ON c.id = l.contact_id
    WHERE l.plan_id = :plan AND l.id > :after AND l.id <= :last AND l.reason IS NULL
        AND NOT EXISTS (SELECT 1 FROM message AS o WHERE o.run_id = :run AND o.contact_id = l.contact_id)
    ORDER BY l.id
"""  # noqa: S608  # our own words
# People whom an earlier plan of the run had in the queue, and whom nobody has written to: their message gets the new
# words and the new time.
REVIVE_LINES: Final = f"""
    UPDATE message AS m SET instance_id = {SENDER}, batch_id = t.batch_id, content_id = l.content_id,
        state = CASE WHEN c.opted_out_at IS NULL THEN 'queued' ELSE 'skipped' END, lane = t.lane,
        due_at = l.due_at + :shift, scheduled_at = l.due_at + :shift, expires_at = l.expires_at + :shift, attempts = 0,
        refusals = 0, reason = CASE WHEN c.opted_out_at IS NULL THEN NULL ELSE 'opted_out' END, error_code = NULL,
        error_details = NULL, changed_at = :now
    FROM plan_line AS l JOIN temp.target AS t ON t.part = l.part JOIN contact AS c ON c.id = l.contact_id
    WHERE l.plan_id = :plan AND l.id > :after AND l.id <= :last AND l.reason IS NULL
        AND m.run_id = :run AND m.contact_id = l.contact_id
        AND m.state IN ('queued', 'skipped', 'expired', 'cancelled') AND NOT {MAY_HAVE_BEEN_WRITTEN}
"""  # noqa: S608  # our own words
# Here and below, +run_id: the newest rows are looked at by their numbers, not all of the run by its index.
# A campaign says once what counts as the same: its own ledger.  A later `wa send` of the same words still meets it.
KEY_LINES: Final = """
    INSERT INTO live_key (content_id, contact_id, instance_id, message_id, expires_at, again)
    SELECT content_id, contact_id, instance_id, id, due_at + :window, 1 FROM message
    WHERE id > :first AND +run_id = :run AND state = 'queued'
    ON CONFLICT DO UPDATE SET message_id = excluded.message_id, expires_at = excluded.expires_at, again = excluded.again
"""
# They keep the number that writes to them.
SEAT_LINES: Final = """
    INSERT OR IGNORE INTO pool_seat (pool_id, contact_id, instance_id)
    SELECT :pool, contact_id, instance_id FROM message WHERE id > :first AND +run_id = :run AND state = 'queued'
"""
# Those who have a message of the run already, from an earlier plan of it, stay counted there.
LEFT_OUT: Final = """
    SELECT :run, l.contact_id, l.reason, l.details FROM plan_line AS l
    WHERE l.plan_id = :plan AND l.id > :after AND l.id <= :last AND l.reason IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM message AS o WHERE o.run_id = :run AND o.contact_id = l.contact_id)
"""
COUNT_LINES: Final = """
    INSERT INTO run_tally SELECT run_id, state, '', count(*) FROM message WHERE id > :first AND +run_id = :run
    GROUP BY 2
    ON CONFLICT DO UPDATE SET n = n + excluded.n
"""
RECOUNT: Final = """
    INSERT INTO run_tally SELECT run_id, state, ifnull(receipt, ''), count(*) FROM message WHERE run_id = ?
    GROUP BY 2, 3
"""


class SqliteApplying:
    def __init__(self, database: Database, owner: Owner) -> None:
        self._database = database
        self._owner = owner
        self._plans = SqlitePlans(database, owner)

    # --- letting a plan go ---

    def apply(
        self,
        plan: Plan,
        spec: CampaignSpec,
        *,
        instance_id: int,
        pool_id: int | None = None,
        quiet_by_zone: Mapping[str, str | None],
        delay_ms: int,
        weight: int,
        limits: str | None,
        shift_ms: int,
        canary_until_ms: int | None,
        duplicate_window_ms: int,
        max_queue_size: int,
        actor: str,
        now_ms: int,
        on_progress: Any = None,
    ) -> Run:
        """Turn the lines of a plan into messages of its run.  Nothing may leave before all of them are on the disk.

        A run that is there already, paused, goes on with the new plan: what waited of the old one is taken back first,
        and nobody who has been written to is written to again.
        pool_id: of the pool whose numbers send it, for which the instance stands; None when it does so alone.
        quiet_by_zone: the JSON text for `batch.quiet` by the part's zone.  shift_ms: how much later than planned.
        Raises: Conflict when the plan has been applied or the run has ended; Refused when the queue has no room.
        """
        entry = self._open_run(plan, max_queue_size=max_queue_size, now_ms=now_ms)
        run = entry.run
        cut("apply_opened")
        try:
            batches = self._open_batches(
                entry,
                plan,
                spec,
                instance_id=instance_id,
                pool_id=pool_id,
                quiet_by_zone=quiet_by_zone,
                delay_ms=delay_ms,
                weight=weight,
                limits=limits,
                shift_ms=shift_ms,
                now_ms=now_ms,
            )
            if not entry.is_new:
                self._take_back(entry, now_ms=now_ms)
            values: dict[str, Any] = {
                "plan": plan.id,
                "run": run.id,
                "pool": pool_id,
                "shift": shift_ms,
                "now": now_ms,
                "window": duplicate_window_ms,
            }
            self._add_messages(entry, plan, batches, values, on_progress=on_progress)
            if not entry.is_new:
                self._gather_exclusions(values)
            return self._release(entry, plan, canary_until_ms=canary_until_ms, actor=actor, now_ms=now_ms)
        except BaseException:
            with suppress(WaError):  # a full disk may refuse this, too: the next one who comes by sweeps it
                self._undo(entry, plan)
            raise

    def _add_messages(
        self,
        entry: _Entry,
        plan: Plan,
        batches: Sequence[tuple[int, int, int, int]],
        values: Mapping[str, Any],
        *,
        on_progress: Any,
    ) -> None:
        """The lines of a plan become messages, some thousand a transaction."""
        run = entry.run
        after = done = 0
        self._database.chunk_rows = min(self._database.chunk_rows, FIRST_ROWS)
        while True:
            with self._database.write() as connection:
                self._check_ours(connection, run, plan)
                _fill_targets(connection, batches)
                last, done_now = connection.execute(
                    """SELECT max(id), count(*) FROM
                        (SELECT id FROM plan_line WHERE plan_id = ? AND id > ? ORDER BY id LIMIT ?)""",
                    (plan.id, after, self._database.chunk_rows),
                ).fetchone()
                if last is None:
                    break
                span = {**values, "after": after, "last": last}
                if not entry.is_new:
                    connection.execute(REVIVE_LINES, span)
                (newest,) = connection.execute("SELECT ifnull(max(id), 0) FROM message").fetchone()
                connection.execute(APPLY_LINES, span)
                connection.execute(KEY_LINES, {**values, "first": newest})
                if values["pool"] is not None:
                    connection.execute(SEAT_LINES, {**values, "first": newest})
                connection.execute(COUNT_LINES, {**values, "first": newest})
                if entry.is_new:
                    connection.execute(f"INSERT INTO exclusion (run_id, contact_id, reason, details) {LEFT_OUT}", span)
                self._note_ranges(connection, run, newest)
                cut("apply_before_commit")
            entry.has_added = True
            cut("apply_after_commit")
            self._database.note_chunk(done_now)
            after, done = last, done + done_now
            if on_progress:
                on_progress(done)
            time.sleep(BREATH_SECONDS)
            fold_log(self._database)
        if done != entry.lines:
            raise StorageBroken(
                f"the plan {plan.word} lost some of its lines while it was applied",
                hint=f"`wa campaign plan` makes a new one; nothing of {plan.word} leaves",
            )

    def _gather_exclusions(self, values: Mapping[str, Any]) -> None:
        """Who a new plan of the run leaves out, aside: the ledger takes them over at once when all is there."""
        connection = self._database.connection
        with self._database.read():
            connection.execute(
                "CREATE TEMP TABLE IF NOT EXISTS left_out (contact_id INTEGER, reason TEXT, details TEXT)"
            )
            connection.execute("DELETE FROM temp.left_out")
            connection.execute(
                f"INSERT INTO temp.left_out SELECT contact_id, reason, details FROM ({LEFT_OUT})",  # noqa: S608
                {**values, "after": 0, "last": 2**62},
            )
            connection.execute("COMMIT")

    def _check_ours(self, connection: sqlite3.Connection, run: Run, plan: Plan) -> None:
        """Raises: Conflict when the campaign was cancelled meanwhile."""
        owner, state = connection.execute("SELECT owner, state FROM run WHERE id = ?", (run.id,)).fetchone()
        if owner != self._owner.token or state not in ("planning", "running"):
            raise Conflict(
                f"the campaign was {state if state == 'cancelled' else 'changed'} while {plan.word} was applied",
                hint="`wa campaign list` shows where it stands; nothing of this plan leaves",
                code="run_ended",
            )

    def _open_run(self, plan: Plan, *, max_queue_size: int, now_ms: int) -> _Entry:
        token = self._owner.token
        with self._database.write() as connection:
            campaign = read_campaign(connection, plan.campaign_id)
            found = connection.execute("SELECT applied_at FROM plan WHERE id = ?", (plan.id,)).fetchone()
            if found is None:
                raise Conflict(
                    f"the plan {plan.word} is gone: a later one took its place",
                    hint=f"`wa campaign plan {campaign.name}` makes a new one",
                    code="plan_gone",
                )
            if found[0] is not None:
                raise Conflict(
                    f"the plan {plan.word} has been applied already",
                    hint=f"`wa campaign show {campaign.name}` says how it goes",
                    code="plan_applied",
                )
            run = find_run(connection, plan.campaign_id, plan.occurrence)
            is_new = run is None or run.state == "planning"
            own = 0
            if run is None:
                _check_may_begin(campaign)
                cursor = connection.execute(
                    "INSERT INTO run (campaign_id, occurrence, plan_id, state, created_at, owner)"
                    " VALUES (?, ?, ?, 'planning', ?, ?)",
                    (plan.campaign_id, plan.occurrence, plan.id, now_ms, token),
                )
                run = read_run(connection, int(cursor.lastrowid or 0))
            else:
                self._check_open(connection, campaign, run)
                connection.execute("UPDATE run SET owner = ? WHERE id = ?", (token, run.id))
                (own,) = connection.execute(
                    "SELECT ifnull(sum(n), 0) FROM run_tally WHERE run_id = ? AND state = 'queued'", (run.id,)
                ).fetchone()
            _check_room(connection, int(plan.summary.get("queued", 0)) - own, max_queue_size)
            connection.execute("UPDATE plan SET owner = ? WHERE id = ?", (token, plan.id))
            (lines,) = connection.execute("SELECT count(*) FROM plan_line WHERE plan_id = ?", (plan.id,)).fetchone()
            return _Entry(run=run, is_new=is_new, lines=lines, last_change=_last_change(connection, plan.campaign_id))

    def _check_open(self, connection: sqlite3.Connection, campaign: Campaign, run: Run) -> None:
        """Raises: Conflict where nothing may be added to a run, or another process does so at this moment."""
        if run.state not in ("planning", "running"):
            raise Conflict(
                f"this run of '{campaign.name}' is {run.state}: nothing is added to it",
                hint=f"`wa campaign clone {campaign.name} NEW-NAME` makes a new campaign of it",
                code="run_ended",
            )
        if find_report(connection, run.id) is not None:  # who has been written to by it is not known here any more
            raise Conflict(
                f"messages of this run of '{campaign.name}' were pruned: nothing is added to it",
                hint=f"`wa campaign clone {campaign.name} NEW-NAME` makes a new campaign of it",
                code="run_pruned",
            )
        (owner,) = connection.execute("SELECT owner FROM run WHERE id = ?", (run.id,)).fetchone()
        if owner not in (None, self._owner.token) and is_alive(self._database.path, owner):
            raise Conflict(
                f"another process is letting '{campaign.name}' go at this moment",
                hint=f"`wa campaign show {campaign.name}` says how it goes",
                code="being_applied",
            )
        if run.state == "running" and campaign.state is not CampaignState.PAUSED:
            raise Conflict(
                f"the campaign '{campaign.name}' is {campaign.state}",
                hint=f"`wa campaign pause {campaign.name}` first, then plan and apply again",
                code="campaign_running",
            )

    def _take_back(self, entry: _Entry, *, now_ms: int) -> None:
        """What waits of an earlier plan is cancelled, to be revived by the new one.

        The run is held meanwhile, and cannot be resumed while its new batches are not released: nothing of it leaves
        between two transactions, and after a crash nothing leaves until a plan of it has been applied as a whole.
        """
        run = entry.run
        after = (run.first_message_id or 1) - 1
        while True:
            with self._database.write() as connection:
                (last,) = connection.execute(
                    "SELECT max(id) FROM (SELECT id FROM message WHERE id > ? AND id <= ? ORDER BY id LIMIT ?)",
                    (after, run.last_message_id, CHUNK_ROWS),
                ).fetchone()
                if last is None:
                    return
                taken = connection.execute(
                    """UPDATE message SET state = 'cancelled', reason = 'planned_anew', changed_at = ?
                    WHERE id > ? AND id <= ? AND +run_id = ? AND state = 'queued'""",
                    (now_ms, after, last, run.id),
                ).rowcount
            entry.has_taken_back = entry.has_taken_back or taken > 0
            cut("take_back_after_commit")
            after = last
            time.sleep(BREATH_SECONDS)

    # --- taking back what was begun ---

    def sweep(self) -> None:
        """Take out what processes that died while they let a plan go have left: none of it could be sent yet.

        A run that has sent already stays as it is, held, until a plan of it is applied as a whole.
        """
        with self._database.read() as connection:
            owned = connection.execute(
                "SELECT id, owner, state FROM run WHERE owner IS NOT NULL AND state IN ('planning', 'running')"
            ).fetchall()
        for run_id, owner, state in owned:
            if owner == self._owner.peek() or is_alive(self._database.path, owner):
                continue
            if state == "planning":
                self._remove_run(run_id, owner)
            else:
                with self._database.write() as connection:
                    connection.execute("UPDATE run SET owner = NULL WHERE id = ? AND owner = ?", (run_id, owner))

    def _undo(self, entry: _Entry, plan: Plan) -> None:
        """After an error: take out what was put in, as far as nobody waits for it."""
        run, token = entry.run, self._owner.token
        with self._database.write() as connection:
            connection.execute(
                "UPDATE plan SET owner = NULL WHERE id = ? AND owner = ? AND applied_at IS NULL", (plan.id, token)
            )
            if not entry.is_new:
                connection.execute("UPDATE run SET owner = NULL WHERE id = ? AND owner = ?", (run.id, token))
                if not entry.has_taken_back and not entry.has_added:
                    connection.execute("DELETE FROM batch WHERE run_id = ? AND released_at IS NULL", (run.id,))
                return
        self._remove_run(run.id, token)

    def _remove_run(self, run_id: int, owner: str) -> None:
        """Take out the messages of a run that was never released, some thousand a transaction, and then the run.

        That of an occurrence stays, for its turn has come; so does one that was cancelled meanwhile.
        """
        while True:
            with self._database.write() as connection:
                row = connection.execute(
                    """SELECT state, occurrence, first_message_id, last_message_id FROM run
                    WHERE id = ? AND (owner = ? OR state = 'cancelled')""",
                    (run_id, owner),
                ).fetchone()
                if row is None:  # another process was faster
                    return
                state, occurrence, first, last = row
                messages = connection.execute(
                    """SELECT m.id, m.content_id, m.contact_id, m.instance_id FROM message AS m
                        JOIN batch ON batch.id = m.batch_id AND batch.released_at IS NULL
                    WHERE m.id BETWEEN ? AND ? AND +m.run_id = ? ORDER BY m.id LIMIT ?""",
                    (first, last, run_id, CHUNK_ROWS),
                ).fetchall()
                ids = [(message[0],) for message in messages]
                connection.executemany(
                    "DELETE FROM live_key WHERE message_id = ? AND content_id = ? AND contact_id = ?"
                    " AND instance_id = ?",
                    messages,
                )
                connection.executemany("DELETE FROM decision WHERE message_id = ?", ids)
                connection.executemany("DELETE FROM message WHERE id = ?", ids)
                if len(messages) < CHUNK_ROWS:
                    connection.execute("DELETE FROM batch WHERE run_id = ? AND released_at IS NULL", (run_id,))
                    for table in ("exclusion", "run_tally"):
                        connection.execute(f"DELETE FROM {table} WHERE run_id = ?", (run_id,))  # noqa: S608  # own words
                    if occurrence or state == "cancelled":
                        connection.execute(
                            "UPDATE run SET owner = NULL, first_message_id = NULL, last_message_id = NULL WHERE id = ?",
                            (run_id,),
                        )
                    else:
                        connection.execute("DELETE FROM run WHERE id = ?", (run_id,))
                    return
                connection.execute("UPDATE run SET first_message_id = ? WHERE id = ?", (messages[-1][0] + 1, run_id))
                connection.execute("DELETE FROM run_tally WHERE run_id = ?", (run_id,))
                connection.execute(RECOUNT, (run_id,))
            fold_log(self._database)
            time.sleep(BREATH_SECONDS)

    def _open_batches(
        self,
        entry: _Entry,
        plan: Plan,
        spec: CampaignSpec,
        *,
        instance_id: int,
        pool_id: int | None,
        quiet_by_zone: Mapping[str, str | None],
        delay_ms: int,
        weight: int,
        limits: str | None,
        shift_ms: int,
        now_ms: int,
    ) -> list[tuple[int, int, int, int]]:
        """(part, batch id, lane, instance id) of each part: unreleased batches, one lane a stage and sender."""
        made: list[tuple[int, int, int, int]] = []
        lanes: dict[tuple[str, int], int] = {}
        run = entry.run
        with self._database.write() as connection:
            self._check_ours(connection, run, plan)
            campaign = read_campaign(connection, plan.campaign_id)
            if not entry.is_new and campaign.state is not CampaignState.PAUSED:
                raise Conflict(
                    f"the campaign '{campaign.name}' was resumed meanwhile",
                    hint=f"`wa campaign pause {campaign.name}` first, then plan and apply again",
                    code="campaign_running",
                )
            # Those that a plan which was cut short has left, and that hold nothing.
            connection.execute(
                """DELETE FROM batch WHERE run_id = ? AND released_at IS NULL
                    AND NOT EXISTS (SELECT 1 FROM message WHERE message.run_id = batch.run_id
                        AND message.batch_id = batch.id)""",
                (run.id,),
            )
            start_at = int(plan.summary.get("first_at_ms") or now_ms) + shift_ms
            for part, stage, variant, zone, sender in connection.execute(
                """SELECT part, stage, variant, zone, ifnull(instance_id, ?) FROM plan_part
                WHERE plan_id = ? ORDER BY part""",
                (instance_id, plan.id),
            ).fetchall():
                cursor = connection.execute(
                    """INSERT INTO batch (kind, instance_id, campaign, created_at, released_at, owner, start_at,
                        delay_ms, priority, max_attempts, on_unknown, run_id, stage, variant, zone, quiet, weight,
                        limits, pool_id)
                    VALUES ('file', ?, ?, ?, NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
                    (
                        sender,
                        campaign.name,
                        now_ms,
                        self._owner.token,
                        start_at,
                        delay_ms,
                        PRIORITY_BULK,
                        spec.max_attempts,
                        spec.on_unknown,
                        run.id,
                        stage,
                        variant,
                        zone,
                        quiet_by_zone.get(zone),
                        weight,
                        limits,
                        pool_id,
                    ),
                )
                batch_id = int(cursor.lastrowid or 0)
                lane = lanes.setdefault((stage, sender), lane_of(PRIORITY_BULK, batch_id))
                made.append((part, batch_id, lane, sender))
        return made

    def _note_ranges(self, connection: sqlite3.Connection, run: Run, newest: int) -> None:
        """Where the new messages of a run and of its batches are, so that nobody has to look for them."""
        for batch_id, first, last in connection.execute(
            "SELECT batch_id, min(id), max(id) FROM message WHERE id > ? AND +run_id = ? GROUP BY batch_id",
            (newest, run.id),
        ).fetchall():
            connection.execute(
                """UPDATE batch SET first_message_id = min(ifnull(first_message_id, ?1), ?1),
                    last_message_id = max(ifnull(last_message_id, ?2), ?2) WHERE id = ?3""",
                (first, last, batch_id),
            )
            connection.execute(
                """UPDATE run SET first_message_id = min(ifnull(first_message_id, ?1), ?1),
                    last_message_id = max(ifnull(last_message_id, ?2), ?2) WHERE id = ?3""",
                (first, last, run.id),
            )

    def _release(
        self,
        entry: _Entry,
        plan: Plan,
        *,
        canary_until_ms: int | None,
        actor: str,
        now_ms: int,
    ) -> Run:
        """From this commit on the messages may leave, unless somebody has paused the campaign meanwhile."""
        run = entry.run
        with self._database.write() as connection:
            self._check_ours(connection, run, plan)
            campaign = read_campaign(connection, plan.campaign_id)
            # A pause that is older than this plan is what its applying ends; a younger one holds the new messages, too.
            stays_paused = campaign.state is CampaignState.PAUSED and (
                entry.is_new or _last_change(connection, plan.campaign_id) != entry.last_change
            )
            connection.execute(
                "UPDATE batch SET released_at = ?, owner = NULL WHERE run_id = ? AND released_at IS NULL",
                (now_ms, run.id),
            )
            # Old batches of the run have no messages that wait any more: what holds them holds nothing.
            connection.execute("UPDATE batch SET held_at = NULL, held_reason = NULL WHERE run_id = ?", (run.id,))
            if canary_until_ms is not None:
                connection.execute(
                    "UPDATE batch SET held_at = ?, held_reason = 'canary' WHERE run_id = ? AND stage = 'main'",
                    (now_ms, run.id),
                )
            if stays_paused:
                connection.execute(
                    "UPDATE batch SET held_at = ?, held_reason = 'paused' WHERE run_id = ?", (now_ms, run.id)
                )
            if not entry.is_new:
                connection.execute("DELETE FROM exclusion WHERE run_id = ?", (run.id,))
                connection.execute(
                    """INSERT INTO exclusion (run_id, contact_id, reason, details)
                    SELECT ?, contact_id, reason, details FROM temp.left_out""",
                    (run.id,),
                )
            first_at = plan.summary.get("first_at_ms")
            is_later = isinstance(first_at, int) and first_at > now_ms
            # It begins with its first message, which may be days from now; one that has begun goes on.
            connection.execute(
                """UPDATE run SET state = 'running', plan_id = ?, owner = NULL,
                    started_at = CASE WHEN started_at <= ? THEN started_at ELSE ? END,
                    canary_until = ?, canary_judged_at = NULL WHERE id = ?""",
                (plan.id, now_ms, first_at if is_later else now_ms, canary_until_ms, run.id),
            )
            connection.execute("UPDATE plan SET applied_at = ?, owner = NULL WHERE id = ?", (now_ms, plan.id))
            connection.execute("UPDATE campaign SET source = ? WHERE id = ?", (plan.source, plan.campaign_id))
            if not stays_paused:
                queued = int(plan.summary.get("queued", 0))
                step(
                    connection,
                    plan.campaign_id,
                    CampaignState.SCHEDULED if is_later else CampaignState.RUNNING,
                    actor=actor,
                    reason=f"plan {plan.word} applied: {queued:,} queued",
                    now_ms=now_ms,
                )
            released = read_run(connection, run.id)
            cut("release_before_commit")
        cut("release_after_commit")
        self._plans.forget_lines()
        return released


@dataclass(slots=True, kw_only=True)
class _Entry:
    """A plan on its way into the queue.

    is_new: nothing of the run could be sent before.  lines: of the plan.  last_change: of the campaign when it began.
    has_taken_back, has_added: what waited of an earlier plan has been touched.
    """

    run: Run
    is_new: bool
    lines: int
    last_change: int
    has_taken_back: bool = False
    has_added: bool = False


def _last_change(connection: sqlite3.Connection, campaign_id: int) -> int:
    row = connection.execute(
        "SELECT ifnull(max(id), 0) FROM campaign_change WHERE campaign_id = ?", (campaign_id,)
    ).fetchone()
    return int(row[0])


def _check_may_begin(campaign: Campaign) -> None:
    """Raises: Conflict for a campaign that has ended for good."""
    if campaign.state is CampaignState.CANCELLED:
        raise Conflict(
            f"the campaign '{campaign.name}' is {campaign.state}",
            hint=f"`wa campaign clone {campaign.name} NEW-NAME` makes a new campaign of it",
            code="campaign_state",
        )


def _fill_targets(connection: sqlite3.Connection, batches: Iterable[tuple[int, int, int, int]]) -> None:
    connection.execute(
        """CREATE TEMP TABLE IF NOT EXISTS target
        (part INTEGER PRIMARY KEY, batch_id INTEGER, lane INTEGER, instance_id INTEGER)"""
    )
    connection.execute("DELETE FROM temp.target")
    connection.executemany("INSERT INTO temp.target VALUES (?, ?, ?, ?)", batches)


def _check_room(connection: sqlite3.Connection, size: int, most: int) -> None:
    if not most:
        return
    (waiting,) = connection.execute("SELECT ifnull(sum(n), 0) FROM tally WHERE state = 'queued'").fetchone()
    if waiting + size > most:
        raise Refused(
            f"the queue is full: {waiting} waiting, {size} more would pass MAX_QUEUE_SIZE={most}",
            hint="nothing was queued; raise MAX_QUEUE_SIZE, or wait until some have left",
            code="queue_full",
        )
