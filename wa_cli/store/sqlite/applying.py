"""Letting a plan go: its lines become the messages of a run, some thousand at a time, and leave once all are there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from wa_cli.domain.campaign import CampaignState
from wa_cli.domain.pacing import PRIORITY_BULK, lane_of
from wa_cli.errors import Conflict, Refused
from wa_cli.store.sqlite.audiences import MAY_HAVE_BEEN_WRITTEN
from wa_cli.store.sqlite.campaigns import find_run, read_campaign, read_run, step
from wa_cli.store.sqlite.leases import fold_log

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from wa_cli.domain.campaign import CampaignSpec, Run
    from wa_cli.domain.plan import Plan
    from wa_cli.store.sqlite.database import Database
    from wa_cli.store.sqlite.owners import Owner

CHUNK_ROWS: Final = 2_000
BREATH_SECONDS: Final = 0.002

# The plan's lines become messages: their ids grow with their lines.
APPLY_LINES: Final = """
    INSERT INTO message (instance_id, batch_id, contact_id, content_id, state, lane, due_at, scheduled_at, expires_at,
        reason, changed_at, run_id)
    SELECT :instance, t.batch_id, l.contact_id, l.content_id,
        CASE WHEN c.opted_out_at IS NULL THEN 'queued' ELSE 'skipped' END, t.lane, l.due_at + :shift,
        l.due_at + :shift, l.expires_at + :shift, CASE WHEN c.opted_out_at IS NULL THEN NULL ELSE 'opted_out' END,
        :now, :run
    FROM plan_line AS l JOIN temp.target AS t ON t.part = l.part JOIN contact AS c ON c.id = l.contact_id
    WHERE l.plan_id = :plan AND l.id > :after AND l.id <= :last AND l.reason IS NULL
        AND NOT EXISTS (SELECT 1 FROM message AS o WHERE o.run_id = :run AND o.contact_id = l.contact_id)
    ORDER BY l.id
"""
# People whom an earlier plan of the run had in the queue, and whom nobody has written to: their message gets the new
# words and the new time.
REVIVE_LINES: Final = f"""
    UPDATE message AS m SET instance_id = :instance, batch_id = t.batch_id, content_id = l.content_id,
        state = CASE WHEN c.opted_out_at IS NULL THEN 'queued' ELSE 'skipped' END, lane = t.lane,
        due_at = l.due_at + :shift, scheduled_at = l.due_at + :shift, expires_at = l.expires_at + :shift, attempts = 0,
        refusals = 0, reason = CASE WHEN c.opted_out_at IS NULL THEN NULL ELSE 'opted_out' END, error_code = NULL,
        error_details = NULL, changed_at = :now
    FROM plan_line AS l JOIN temp.target AS t ON t.part = l.part JOIN contact AS c ON c.id = l.contact_id
    WHERE l.plan_id = :plan AND l.id > :after AND l.id <= :last AND l.reason IS NULL
        AND m.run_id = :run AND m.contact_id = l.contact_id
        AND m.state IN ('queued', 'skipped', 'expired', 'cancelled') AND NOT {MAY_HAVE_BEEN_WRITTEN}
"""  # noqa: S608  # our own words
# A campaign says once what counts as the same: its own ledger.  A later `wa send` of the same words still meets it.
KEY_LINES: Final = """
    INSERT INTO live_key (content_id, contact_id, instance_id, message_id, expires_at, again)
    SELECT content_id, contact_id, instance_id, id, due_at + :window, 1 FROM message
    WHERE id > :first AND run_id = :run AND state = 'queued'
    ON CONFLICT DO UPDATE SET message_id = excluded.message_id, expires_at = excluded.expires_at, again = excluded.again
"""


class SqliteApplying:
    def __init__(self, database: Database, owner: Owner) -> None:
        self._database = database
        self._owner = owner

    # --- letting a plan go ---

    def apply(
        self,
        plan: Plan,
        spec: CampaignSpec,
        *,
        instance_id: int,
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
        quiet_by_zone: the JSON text for `batch.quiet` by the part's zone.  shift_ms: how much later than planned.
        Raises: Conflict when the plan has been applied or the run has ended; Refused when the queue has no room.
        """
        run, is_new = self._open_run(plan, spec, max_queue_size=max_queue_size, now_ms=now_ms)
        batches = self._open_batches(
            run,
            plan,
            spec,
            instance_id=instance_id,
            quiet_by_zone=quiet_by_zone,
            delay_ms=delay_ms,
            weight=weight,
            limits=limits,
            shift_ms=shift_ms,
            now_ms=now_ms,
        )
        values: dict[str, Any] = {
            "plan": plan.id,
            "run": run.id,
            "instance": instance_id,
            "shift": shift_ms,
            "now": now_ms,
            "window": duplicate_window_ms,
        }
        queued = skipped = done = 0
        after = 0
        while True:
            with self._database.write() as connection:
                _fill_targets(connection, batches)
                last = connection.execute(
                    "SELECT max(id) FROM (SELECT id FROM plan_line WHERE plan_id = ? AND id > ? ORDER BY id LIMIT ?)",
                    (plan.id, after, self._database.chunk_rows),
                ).fetchone()[0]
                if last is None:
                    break
                span = {**values, "after": after, "last": last}
                if not is_new:
                    connection.execute(REVIVE_LINES, span)
                (newest,) = connection.execute("SELECT ifnull(max(id), 0) FROM message").fetchone()
                added = connection.execute(APPLY_LINES, span).rowcount
                connection.execute(KEY_LINES, {**values, "first": newest})
                (held_back,) = connection.execute(
                    "SELECT count(*) FROM message WHERE id > ? AND run_id = ? AND state = 'skipped'", (newest, run.id)
                ).fetchone()
                queued, skipped = queued + added - held_back, skipped + held_back
                connection.execute(
                    """INSERT INTO exclusion (run_id, contact_id, reason, details)
                    SELECT :run, l.contact_id, l.reason, l.details FROM plan_line AS l
                    WHERE l.plan_id = :plan AND l.id > :after AND l.id <= :last AND l.reason IS NOT NULL
                        AND NOT EXISTS
                            (SELECT 1 FROM message AS o WHERE o.run_id = :run AND o.contact_id = l.contact_id)""",
                    span,
                )
                (done_now,) = connection.execute(
                    "SELECT count(*) FROM plan_line WHERE plan_id = ? AND id > ? AND id <= ?", (plan.id, after, last)
                ).fetchone()
                self._note_ranges(connection, run, newest)
            self._database.note_chunk(done_now)
            after, done = last, done + done_now
            if on_progress:
                on_progress(done)
            time.sleep(BREATH_SECONDS)
            fold_log(self._database)
        return self._release(
            run,
            plan,
            queued=queued,
            skipped=skipped,
            canary_until_ms=canary_until_ms,
            actor=actor,
            now_ms=now_ms,
        )

    def _open_run(self, plan: Plan, spec: CampaignSpec, *, max_queue_size: int, now_ms: int) -> tuple[Run, bool]:
        with self._database.write() as connection:
            campaign = read_campaign(connection, plan.campaign_id)
            (applied_at,) = connection.execute("SELECT applied_at FROM plan WHERE id = ?", (plan.id,)).fetchone()
            if applied_at is not None:
                raise Conflict(
                    f"the plan {plan.word} has been applied already",
                    hint=f"`wa campaign show {campaign.name}` says how it goes",
                    code="plan_applied",
                )
            _check_room(connection, int(plan.summary.get("queued", 0)), max_queue_size)
            run = find_run(connection, plan.campaign_id, plan.occurrence)
            if run is None:
                cursor = connection.execute(
                    "INSERT INTO run (campaign_id, occurrence, plan_id, state, created_at, owner)"
                    " VALUES (?, ?, ?, 'planning', ?, ?)",
                    (plan.campaign_id, plan.occurrence, plan.id, now_ms, self._owner.token),
                )
                return read_run(connection, int(cursor.lastrowid or 0)), True
            if run.state not in ("planning", "running"):
                raise Conflict(
                    f"this run of '{campaign.name}' is {run.state}: nothing is added to it",
                    hint=f"`wa campaign clone {campaign.name} NEW-NAME` makes a new campaign of it",
                    code="run_ended",
                )
            if run.state == "running" and campaign.state is not CampaignState.PAUSED:
                raise Conflict(
                    f"the campaign '{campaign.name}' is {campaign.state}",
                    hint=f"`wa campaign pause {campaign.name}` first, then plan and apply again",
                    code="campaign_running",
                )
        if run.first_message_id is None:
            return run, True
        self._take_back(run, now_ms=now_ms)
        return run, False

    def _take_back(self, run: Run, *, now_ms: int) -> None:
        """What waits of an earlier plan is cancelled, to be revived by the new one; its exclusions are made anew.

        The run is held meanwhile, so that nothing of it leaves between two transactions.
        """
        after = (run.first_message_id or 1) - 1
        while True:
            with self._database.write() as connection:
                (last,) = connection.execute(
                    "SELECT max(id) FROM (SELECT id FROM message WHERE id > ? AND id <= ? ORDER BY id LIMIT ?)",
                    (after, run.last_message_id, CHUNK_ROWS),
                ).fetchone()
                if last is None:
                    connection.execute("DELETE FROM exclusion WHERE run_id = ?", (run.id,))
                    return
                connection.execute(
                    """UPDATE message SET state = 'cancelled', reason = 'planned_anew', changed_at = ?
                    WHERE id > ? AND id <= ? AND run_id = ? AND state = 'queued'""",
                    (now_ms, after, last, run.id),
                )
            after = last
            time.sleep(BREATH_SECONDS)

    def _open_batches(
        self,
        run: Run,
        plan: Plan,
        spec: CampaignSpec,
        *,
        instance_id: int,
        quiet_by_zone: Mapping[str, str | None],
        delay_ms: int,
        weight: int,
        limits: str | None,
        shift_ms: int,
        now_ms: int,
    ) -> list[tuple[int, int, int]]:
        """(part, batch id, lane) of each part: unreleased batches, one lane a stage."""
        made: list[tuple[int, int, int]] = []
        lanes: dict[str, int] = {}
        with self._database.write() as connection:
            campaign = read_campaign(connection, plan.campaign_id)
            start_at = int(plan.summary.get("first_at_ms") or now_ms) + shift_ms
            for part, stage, variant, zone in connection.execute(
                "SELECT part, stage, variant, zone FROM plan_part WHERE plan_id = ? ORDER BY part", (plan.id,)
            ).fetchall():
                cursor = connection.execute(
                    """INSERT INTO batch (kind, instance_id, campaign, created_at, released_at, owner, start_at,
                        delay_ms, priority, max_attempts, on_unknown, run_id, stage, variant, zone, quiet, weight,
                        limits)
                    VALUES ('file', ?, ?, ?, NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
                    (
                        instance_id,
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
                    ),
                )
                batch_id = int(cursor.lastrowid or 0)
                lane = lanes.setdefault(stage, lane_of(PRIORITY_BULK, batch_id))
                made.append((part, batch_id, lane))
        return made

    def _note_ranges(self, connection: sqlite3.Connection, run: Run, newest: int) -> None:
        """Where the new messages of a run and of its batches are, so that nobody has to look for them."""
        for batch_id, first, last in connection.execute(
            "SELECT batch_id, min(id), max(id) FROM message WHERE id > ? AND run_id = ? GROUP BY batch_id",
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
        run: Run,
        plan: Plan,
        *,
        queued: int,
        skipped: int,
        canary_until_ms: int | None,
        actor: str,
        now_ms: int,
    ) -> Run:
        """From this commit on the messages may leave."""
        with self._database.write() as connection:
            connection.executemany(
                """INSERT INTO run_tally VALUES (?, ?, '', ?)
                ON CONFLICT DO UPDATE SET n = n + excluded.n""",
                [(run.id, state, n) for state, n in (("queued", queued), ("skipped", skipped)) if n],
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
            connection.execute(
                """UPDATE run SET state = 'running', plan_id = ?, started_at = ifnull(started_at, ?), owner = NULL,
                    canary_until = ?, canary_judged_at = NULL WHERE id = ?""",
                (plan.id, now_ms, canary_until_ms, run.id),
            )
            connection.execute("UPDATE plan SET applied_at = ? WHERE id = ?", (now_ms, plan.id))
            connection.execute("UPDATE campaign SET source = ? WHERE id = ?", (plan.source, plan.campaign_id))
            first_at = plan.summary.get("first_at_ms")
            is_later = isinstance(first_at, int) and first_at > now_ms
            step(
                connection,
                plan.campaign_id,
                CampaignState.SCHEDULED if is_later else CampaignState.RUNNING,
                actor=actor,
                reason=f"plan {plan.word} applied: {queued:,} queued",
                now_ms=now_ms,
            )
            released = read_run(connection, run.id)
        self._forget_lines(plan.id)
        return released

    def _forget_lines(self, plan_id: int) -> None:
        """The lines of a plan that has been let go are messages and exclusions now."""
        while True:
            with self._database.write() as connection:
                gone = connection.execute(
                    "DELETE FROM plan_line WHERE id IN (SELECT id FROM plan_line WHERE plan_id = ? LIMIT ?)",
                    (plan_id, CHUNK_ROWS),
                ).rowcount
            if gone < CHUNK_ROWS:
                return
            time.sleep(BREATH_SECONDS)


def _fill_targets(connection: sqlite3.Connection, batches: Iterable[tuple[int, int, int]]) -> None:
    connection.execute(
        "CREATE TEMP TABLE IF NOT EXISTS target (part INTEGER PRIMARY KEY, batch_id INTEGER, lane INTEGER)"
    )
    connection.execute("DELETE FROM temp.target")
    connection.executemany("INSERT INTO temp.target VALUES (?, ?, ?)", batches)


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
