"""Campaigns and their runs in the store: what they are, the steps of their lives, and what those do to what waits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from wa_cli.cuts import cut
from wa_cli.domain.campaign import Campaign, CampaignChange, CampaignState, Run, may_step
from wa_cli.domain.plan import format_plan_id
from wa_cli.errors import Conflict, NotFound, Refused
from wa_cli.store.sqlite.plans import forget_plan
from wa_cli.store.sqlite.pruned import find_report

if TYPE_CHECKING:
    import sqlite3

    from wa_cli.store.sqlite.database import Database
    from wa_cli.store.sqlite.owners import Owner

CHUNK_ROWS: Final = 2_000
BREATH_SECONDS: Final = 0.002

CAMPAIGN_COLUMNS: Final = """
    id, name, path, source, state, created_at, changed_at, paused_by, pause_code, pause_reason, next_occurrence_at
"""
RUN_COLUMNS: Final = """
    id, campaign_id, occurrence, plan_id, state, created_at, started_at, ended_at, canary_until, canary_judged_at,
    baseline, first_message_id, last_message_id
"""
# A run that had ended, and of which a resend has put something back into the queue.
WAITS_AGAIN: Final = """run.state = 'finished' AND EXISTS
    (SELECT 1 FROM run_tally AS t WHERE t.run_id = run.id AND t.state IN ('queued', 'sending') AND t.n > 0)
"""


class SqliteCampaigns:
    def __init__(self, database: Database, owner: Owner) -> None:
        self._database = database
        self._owner = owner

    # --- campaigns ---

    def create(self, name: str, *, path: str, source: str, actor: str, now_ms: int) -> tuple[Campaign, bool]:
        """The campaign of that name, and whether it is new.  The text of one that is there is brought up to date."""
        with self._database.write() as connection:
            row = connection.execute("SELECT id FROM campaign WHERE folded_name = ?", (name.casefold(),)).fetchone()
            if row is not None:
                connection.execute("UPDATE campaign SET path = ?, source = ? WHERE id = ?", (path, source, int(row[0])))
                return _find(connection, name), False
            cursor = connection.execute(
                """INSERT INTO campaign (name, folded_name, path, source, created_at, changed_at, actor)
                VALUES (?, ?, ?, ?, ?, ?, ?)""",
                (name, name.casefold(), path, source, now_ms, now_ms, actor),
            )
            _note_change(
                connection,
                int(cursor.lastrowid or 0),
                None,
                CampaignState.DRAFT,
                actor=actor,
                reason=None,
                now_ms=now_ms,
            )
            return _find(connection, name), True

    def find(self, name: str) -> Campaign:
        """Raises: NotFound with the nearest name."""
        with self._database.read() as connection:
            return _find(connection, name)

    def read(self, campaign_id: int) -> Campaign:
        with self._database.read() as connection:
            return read_campaign(connection, campaign_id)

    def list_all(self) -> list[Campaign]:
        """The newest first."""
        with self._database.read() as connection:
            rows = connection.execute(f"SELECT {CAMPAIGN_COLUMNS} FROM campaign ORDER BY id DESC")  # noqa: S608
            return [_campaign(row) for row in rows]

    def list_active(self) -> list[Campaign]:
        """Those that upkeep looks after: let go and not ended."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {CAMPAIGN_COLUMNS} FROM campaign WHERE state IN ('scheduled', 'running', 'paused')"  # noqa: S608
            )
            return [_campaign(row) for row in rows]

    def has_work(self) -> bool:
        """Whether upkeep has anything to look at, beginnings that somebody gave up included."""
        with self._database.read() as connection:
            row = connection.execute(
                """SELECT EXISTS (SELECT 1 FROM campaign WHERE state IN ('scheduled', 'running', 'paused'))
                    OR EXISTS (SELECT 1 FROM run WHERE owner IS NOT NULL)
                    OR EXISTS (SELECT 1 FROM run
                        JOIN run_tally AS t ON t.run_id = run.id AND t.state = 'queued' AND t.n > 0
                        WHERE run.state = 'finished')
                    OR EXISTS (SELECT 1 FROM run
                        JOIN run_tally AS t ON t.run_id = run.id AND t.state IN ('queued', 'sending') AND t.n > 0
                        WHERE run.state = 'finished')
                    OR EXISTS (SELECT 1 FROM run
                        JOIN run_tally AS t ON t.run_id = run.id AND t.state = 'queued' AND t.n > 0
                        WHERE run.state = 'cancelled')"""
            ).fetchone()
        return bool(row[0])

    def list_woken(self) -> list[tuple[int, int]]:
        """(campaign, run) of each that had ended and of which messages wait again, after a resend."""
        with self._database.read() as connection:
            return [
                (int(campaign_id), int(run_id))
                for campaign_id, run_id in connection.execute(
                    """SELECT campaign.id, run.id FROM run JOIN campaign ON campaign.id = run.campaign_id
                    WHERE run.state = 'finished' AND run.owner IS NULL AND campaign.state <> 'cancelled'
                        AND EXISTS (SELECT 1 FROM run_tally AS t
                            WHERE t.run_id = run.id AND t.state IN ('queued', 'sending') AND t.n > 0)"""
                )
            ]

    def reopen_run(self, run_id: int) -> bool:
        """A run that had ended goes on.  False: somebody else has seen to it."""
        with self._database.write() as connection:
            return bool(
                connection.execute(
                    "UPDATE run SET state = 'running', ended_at = NULL WHERE id = ? AND state = 'finished'", (run_id,)
                ).rowcount
            )

    def read_changes(self, campaign_id: int) -> list[CampaignChange]:
        """Every step of its life, oldest first."""
        with self._database.read() as connection:
            return [
                CampaignChange(
                    at_ms=row[0],
                    from_state=CampaignState(row[1]) if row[1] else None,
                    to_state=CampaignState(row[2]),
                    actor=row[3],
                    reason=row[4],
                )
                for row in connection.execute(
                    """SELECT at, from_state, to_state, actor, reason FROM campaign_change
                    WHERE campaign_id = ? ORDER BY id""",
                    (campaign_id,),
                )
            ]

    def delete(self, campaign_id: int) -> None:
        """Forget a campaign of which nothing has been sent.  Raises: Refused for one that has a ledger."""
        with self._database.write() as connection:
            campaign = read_campaign(connection, campaign_id)
            if connection.execute("SELECT 1 FROM run WHERE campaign_id = ? LIMIT 1", (campaign_id,)).fetchone():
                raise Refused(
                    f"the campaign '{campaign.name}' has been sent: its ledger is kept",
                    hint=f"`wa campaign show {campaign.name}` shows it, and how to stop what still waits",
                    code="campaign_sent",
                )
            for (plan_id,) in connection.execute(
                "SELECT id FROM plan WHERE campaign_id = ?", (campaign_id,)
            ).fetchall():
                forget_plan(connection, plan_id)
            connection.execute("DELETE FROM campaign WHERE id = ?", (campaign_id,))

    def step(
        self,
        campaign_id: int,
        to: CampaignState,
        *,
        actor: str,
        reason: str | None,
        now_ms: int,
        code: str | None = None,
    ) -> bool:
        """Take one step of its life, with whatever it means for what waits.  False: it stands there already.

        From the moment a pause or a cancel returns no new post of the campaign starts (promise P7).
        Raises: Conflict for a step that there is not.
        """
        with self._database.write() as connection:
            if to in (CampaignState.RUNNING, CampaignState.SCHEDULED):
                _check_whole(connection, campaign_id)
            is_changed = step(connection, campaign_id, to, actor=actor, reason=reason, now_ms=now_ms, code=code)
        if to is CampaignState.CANCELLED:
            cut("cancel_after_step")
        return is_changed

    def set_next_occurrence(self, campaign_id: int, at_ms: int | None) -> None:
        with self._database.write() as connection:
            connection.execute("UPDATE campaign SET next_occurrence_at = ? WHERE id = ?", (at_ms, campaign_id))

    # --- runs ---

    def list_runs(self, campaign_id: int) -> list[Run]:
        """The newest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {RUN_COLUMNS} FROM run WHERE campaign_id = ? ORDER BY id DESC",  # noqa: S608
                (campaign_id,),
            )
            return [_run(row) for row in rows]

    def find_run(self, campaign_id: int, occurrence: str = "") -> Run | None:
        with self._database.read() as connection:
            return find_run(connection, campaign_id, occurrence)

    def count_run(self, run_id: int) -> dict[tuple[str, str], int]:
        """How many messages of a run stand where, by (state, receipt or "")."""
        with self._database.read() as connection:
            return {
                (state, receipt): n
                for state, receipt, n in connection.execute(
                    "SELECT state, receipt, n FROM run_tally WHERE run_id = ? AND n <> 0", (run_id,)
                )
            }

    def count_newest_run(self, campaign_id: int) -> dict[tuple[str, str], int]:
        """The same of a campaign's newest run; empty before the first."""
        with self._database.read() as connection:
            row = connection.execute("SELECT max(id) FROM run WHERE campaign_id = ?", (campaign_id,)).fetchone()
        return {} if row[0] is None else self.count_run(row[0])

    def count_sending(self, run_id: int) -> int:
        """How many posts of a run are on their way at this moment."""
        return sum(n for (state, _receipt), n in self.count_run(run_id).items() if state == "sending")

    def read_first_due_ms(self, run_id: int) -> int | None:
        """When the first message of a run was to leave, by its timetable."""
        with self._database.read() as connection:
            (first,) = connection.execute("SELECT min(start_at) FROM batch WHERE run_id = ?", (run_id,)).fetchone()
        return first if first is None else int(first)

    def count_opted_out(self, run_id: int) -> int:
        """People who have opted out after the run had written to them, for as long as it runs."""
        with self._database.read() as connection:
            (count,) = connection.execute(
                """SELECT count(DISTINCT m.contact_id) FROM run
                    JOIN consent AS w ON w.change = 'opt_out' AND w.at >= run.started_at
                    JOIN message AS m ON m.run_id = run.id AND m.contact_id = w.contact_id AND m.state = 'sent'
                WHERE run.id = ?""",
                (run_id,),
            ).fetchone()
        return int(count)

    def count_stage_waiting(self, run_id: int, stage: str) -> int:
        """How many messages of a stage have no outcome yet; a retry that waits is one."""
        with self._database.read() as connection:
            (count,) = connection.execute(
                """SELECT count(*) FROM batch JOIN message AS m
                    ON m.id BETWEEN batch.first_message_id AND batch.last_message_id AND m.batch_id = batch.id
                WHERE batch.run_id = ? AND batch.stage = ? AND m.state IN ('queued', 'sending')""",
                (run_id, stage),
            ).fetchone()
        return int(count)

    def count_excluded(self, run_id: int) -> int:
        """How many people and rows a run has left out."""
        with self._database.read() as connection:
            kept = find_report(connection, run_id)
            if kept is not None:
                return sum(kept.left_out.values())
            (count,) = connection.execute("SELECT count(*) FROM exclusion WHERE run_id = ?", (run_id,)).fetchone()
        return int(count)

    def wake(self, *, actor: str, now_ms: int) -> int:
        """Finished campaigns of which something waits again, since it was resent, go on.  Returns how many."""
        with self._database.read() as connection:
            ids = [
                campaign_id
                for (campaign_id,) in connection.execute(
                    f"""SELECT DISTINCT run.campaign_id FROM run JOIN campaign ON campaign.id = run.campaign_id
                    WHERE {WAITS_AGAIN} AND campaign.state IN ('finished', 'scheduled', 'running')"""  # noqa: S608
                )
            ]
        for campaign_id in ids:
            with self._database.write() as connection:
                _wake(connection, campaign_id, actor=actor, now_ms=now_ms)
        return len(ids)

    def find_left_over(self) -> list[int]:
        """Cancelled runs in which something waits all the same: a late failure has put it back into the queue."""
        with self._database.read() as connection:
            return [
                run_id
                for (run_id,) in connection.execute(
                    """SELECT run.id FROM run
                        JOIN run_tally AS t ON t.run_id = run.id AND t.state = 'queued' AND t.n > 0
                    WHERE run.state = 'cancelled'"""
                )
            ]

    def cancel_waiting(self, run_id: int, *, now_ms: int) -> int:
        """Cancel what waits of a run, some thousand a transaction.  Returns how many; its batches are held.

        What is on its way does not come back into the queue, and no unknown is sent again by its policy.
        """
        count = 0
        with self._database.write() as connection:
            run = read_run(connection, run_id)
            connection.execute("UPDATE batch SET on_unknown = 'hold' WHERE run_id = ?", (run_id,))
        after = (run.first_message_id or 1) - 1
        while run.last_message_id is not None:
            with self._database.write() as connection:
                (last,) = connection.execute(
                    "SELECT max(id) FROM (SELECT id FROM message WHERE id > ? AND id <= ? ORDER BY id LIMIT ?)",
                    (after, run.last_message_id, CHUNK_ROWS),
                ).fetchone()
                if last is None:
                    break
                connection.execute(
                    """UPDATE message SET reason = 'cancel_requested'
                    WHERE id > ? AND id <= ? AND +run_id = ? AND state = 'sending'""",
                    (after, last, run_id),
                )
                count += connection.execute(
                    """UPDATE message SET state = 'cancelled', reason = 'cancelled', changed_at = ?
                    WHERE id > ? AND id <= ? AND +run_id = ? AND state = 'queued'""",
                    (now_ms, after, last, run_id),
                ).rowcount
            cut("cancel_after_commit")
            after = last
            time.sleep(BREATH_SECONDS)
        return count

    def set_baseline(self, run_id: int, baseline: str) -> None:
        with self._database.write() as connection:
            connection.execute("UPDATE run SET baseline = ? WHERE id = ?", (baseline, run_id))

    def note_run_ended(self, run_id: int, *, state: str, now_ms: int) -> None:
        """Write down that a run has ended.  One that is being planned anew has not."""
        with self._database.write() as connection:
            connection.execute(
                """UPDATE run SET state = ?, ended_at = ?, owner = NULL WHERE id = ? AND ended_at IS NULL
                    AND NOT EXISTS (SELECT 1 FROM batch WHERE batch.run_id = run.id AND batch.released_at IS NULL)""",
                (state, now_ms, run_id),
            )

    def claim_occurrence(self, campaign_id: int, occurrence: str, *, state: str, now_ms: int) -> Run | None:
        """Make the run of an occurrence; None when it is there already, so that only one process starts it."""
        with self._database.write() as connection:
            added = connection.execute(
                "INSERT INTO run (campaign_id, occurrence, state, created_at, owner) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                (campaign_id, occurrence, state, now_ms, self._owner.token if state == "planning" else None),
            )
            run = find_run(connection, campaign_id, occurrence) if added.rowcount else None
        cut("occurrence_claimed")
        return run

    def claim_again(self, run_id: int) -> bool:
        """Take over an occurrence whose beginning was given up.  False: another process was faster."""
        with self._database.write() as connection:
            return bool(
                connection.execute(
                    "UPDATE run SET owner = ? WHERE id = ? AND state = 'planning' AND owner IS NULL",
                    (self._owner.token, run_id),
                ).rowcount
            )

    def give_up(self, run_id: int) -> None:
        """Leave the beginning of an occurrence to whoever looks next."""
        with self._database.write() as connection:
            connection.execute(
                "UPDATE run SET owner = NULL WHERE id = ? AND state = 'planning' AND owner = ?",
                (run_id, self._owner.token),
            )

    def find_given_up(self, campaign_id: int) -> list[Run]:
        """Occurrences that somebody began to start and nobody is starting."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {RUN_COLUMNS} FROM run WHERE campaign_id = ? AND state = 'planning' AND owner IS NULL"  # noqa: S608
                " ORDER BY id",
                (campaign_id,),
            )
            return [_run(row) for row in rows]

    def note_canary_judged(self, run_id: int, *, now_ms: int) -> int:
        """Let the rest of a run go after its sample.  Returns how many batches were held for that."""
        with self._database.write() as connection:
            connection.execute("UPDATE run SET canary_judged_at = ? WHERE id = ?", (now_ms, run_id))
            released = connection.execute(
                """UPDATE batch SET held_at = NULL, held_reason = NULL
                WHERE run_id = ? AND held_at IS NOT NULL AND held_reason = 'canary'""",
                (run_id,),
            ).rowcount
            cut("canary_before_commit")
        cut("canary_after_commit")
        return released


def step(
    connection: sqlite3.Connection,
    campaign_id: int,
    to: CampaignState,
    *,
    actor: str,
    reason: str | None,
    now_ms: int,
    code: str | None = None,
) -> bool:
    """See `SqliteCampaigns.step`; inside the caller's transaction."""
    campaign = read_campaign(connection, campaign_id)
    if campaign.state is CampaignState.FINISHED and to in (CampaignState.PAUSED, CampaignState.CANCELLED):
        _wake(connection, campaign_id, actor=actor, now_ms=now_ms)
        campaign = read_campaign(connection, campaign_id)
    if campaign.state is to:
        return False
    if not may_step(campaign.state, to):
        raise Conflict(
            f"the campaign '{campaign.name}' is {campaign.state} and cannot become {to}",
            hint=f"`wa campaign show {campaign.name}` lists what can be done now",
            code="campaign_state",
        )
    is_paused = to is CampaignState.PAUSED
    if campaign.state is CampaignState.PAUSED and to is not CampaignState.CANCELLED:
        _let_go(connection, campaign_id, now_ms=now_ms)
    connection.execute(
        """UPDATE campaign SET state = ?, changed_at = ?, paused_by = ?, pause_code = ?, pause_reason = ?
        WHERE id = ?""",
        (
            to,
            now_ms,
            ("wa" if code else "person") if is_paused else None,
            code if is_paused else None,
            reason if is_paused else None,
            campaign_id,
        ),
    )
    if to is CampaignState.CANCELLED:  # what of it still waits is cancelled in steps, by whoever comes by
        connection.execute(
            """UPDATE run SET state = 'cancelled', ended_at = ?
            WHERE campaign_id = ? AND state IN ('planning', 'running')""",
            (now_ms, campaign_id),
        )
    if is_paused or to is CampaignState.CANCELLED:
        connection.execute(
            """UPDATE batch SET held_at = ?, held_reason = ? WHERE run_id IN
                (SELECT id FROM run WHERE campaign_id = ?) AND (held_at IS NULL OR held_reason = 'canary')""",
            (now_ms, to, campaign_id),
        )
    _note_change(connection, campaign_id, campaign.state, to, actor=actor, reason=reason, now_ms=now_ms)
    return True


def _wake(connection: sqlite3.Connection, campaign_id: int, *, actor: str, now_ms: int) -> None:
    """Let a finished campaign go on if something of it waits again."""
    woken = connection.execute(
        f"UPDATE run SET state = 'running', ended_at = NULL WHERE campaign_id = ? AND {WAITS_AGAIN}",  # noqa: S608
        (campaign_id,),
    ).rowcount
    campaign = read_campaign(connection, campaign_id)
    if woken and campaign.state is CampaignState.FINISHED:
        connection.execute("UPDATE campaign SET state = 'running', changed_at = ? WHERE id = ?", (now_ms, campaign_id))
        _note_change(
            connection,
            campaign_id,
            campaign.state,
            CampaignState.RUNNING,
            actor=actor,
            reason="messages of it are sent again",
            now_ms=now_ms,
        )


def _check_whole(connection: sqlite3.Connection, campaign_id: int) -> None:
    """Raises: Conflict while a new plan has replaced a part of what waits: nothing of it may leave like that."""
    row = connection.execute(
        """SELECT campaign.name, plan.id, plan.digest FROM run JOIN campaign ON campaign.id = run.campaign_id
            LEFT JOIN plan ON plan.campaign_id = campaign.id AND plan.occurrence = run.occurrence
                AND plan.applied_at IS NULL AND plan.finished_at IS NOT NULL
        WHERE run.campaign_id = ? AND run.state = 'running'
            AND EXISTS (SELECT 1 FROM batch WHERE batch.run_id = run.id AND batch.released_at IS NULL)
        ORDER BY plan.id DESC LIMIT 1""",
        (campaign_id,),
    ).fetchone()
    if row is not None:
        name, plan_id, digest = row
        again = "" if plan_id is None else f"`wa campaign apply {name} --plan {format_plan_id(plan_id, digest)}`, or "
        raise Conflict(
            f"a new plan of '{name}' has replaced only a part of what waits",
            hint=f"{again}`wa campaign plan {name}` and apply that",
            code="half_planned",
        )


def _let_go(connection: sqlite3.Connection, campaign_id: int, *, now_ms: int) -> None:
    """End a pause.  What waits for the verdict on its sample goes on waiting for it, unless that was the pause."""
    connection.execute(
        """UPDATE run SET canary_judged_at = ? WHERE canary_judged_at IS NULL AND canary_until IS NOT NULL
            AND campaign_id = (SELECT id FROM campaign WHERE id = ? AND pause_code LIKE 'canary%')""",
        (now_ms, campaign_id),
    )
    connection.execute(
        """UPDATE batch SET held_at = NULL, held_reason = NULL
        WHERE run_id IN (SELECT id FROM run WHERE campaign_id = ?)""",
        (campaign_id,),
    )
    connection.execute(
        """UPDATE batch SET held_at = ?, held_reason = 'canary' WHERE stage = 'main' AND run_id IN
            (SELECT id FROM run WHERE campaign_id = ? AND canary_until IS NOT NULL AND canary_judged_at IS NULL)""",
        (now_ms, campaign_id),
    )


def _note_change(
    connection: sqlite3.Connection,
    campaign_id: int,
    old: CampaignState | None,
    new: CampaignState,
    *,
    actor: str,
    reason: str | None,
    now_ms: int,
) -> None:
    connection.execute(
        "INSERT INTO campaign_change (campaign_id, at, from_state, to_state, actor, reason) VALUES (?, ?, ?, ?, ?, ?)",
        (campaign_id, now_ms, old, new, actor, reason),
    )


def _find(connection: sqlite3.Connection, name: str) -> Campaign:
    row = connection.execute(
        f"SELECT {CAMPAIGN_COLUMNS} FROM campaign WHERE folded_name = ?",  # noqa: S608
        (name.casefold(),),
    ).fetchone()
    if row is None:
        from difflib import get_close_matches

        names = [one for (one,) in connection.execute("SELECT name FROM campaign ORDER BY id DESC LIMIT 1000")]
        near = get_close_matches(name, names, n=1)
        raise NotFound(
            f"there is no campaign '{name}'",
            hint=f"did you mean '{near[0]}'?" if near else "`wa campaign create campaigns/NAME.toml` makes one",
            code="no_campaign",
        )
    return _campaign(row)


def read_campaign(connection: sqlite3.Connection, campaign_id: int) -> Campaign:
    row = connection.execute(
        f"SELECT {CAMPAIGN_COLUMNS} FROM campaign WHERE id = ?",  # noqa: S608
        (campaign_id,),
    ).fetchone()
    if row is None:
        raise NotFound("that campaign is not there any more", hint="`wa campaign list`", code="no_campaign")
    return _campaign(row)


def _campaign(row: tuple[Any, ...]) -> Campaign:
    return Campaign(
        id=row[0],
        name=row[1],
        path=row[2],
        source=row[3],
        state=CampaignState(row[4]),
        created_at_ms=row[5],
        changed_at_ms=row[6],
        paused_by=row[7],
        pause_code=row[8],
        pause_reason=row[9],
        next_occurrence_at_ms=row[10],
    )


def find_run(connection: sqlite3.Connection, campaign_id: int, occurrence: str) -> Run | None:
    row = connection.execute(
        f"SELECT {RUN_COLUMNS} FROM run WHERE campaign_id = ? AND occurrence = ?",  # noqa: S608
        (campaign_id, occurrence),
    ).fetchone()
    return _run(row) if row else None


def read_run(connection: sqlite3.Connection, run_id: int) -> Run:
    return _run(connection.execute(f"SELECT {RUN_COLUMNS} FROM run WHERE id = ?", (run_id,)).fetchone())  # noqa: S608


def _run(row: tuple[Any, ...]) -> Run:
    return Run(
        id=row[0],
        campaign_id=row[1],
        occurrence=row[2],
        plan_id=row[3],
        state=row[4],
        created_at_ms=row[5],
        started_at_ms=row[6],
        ended_at_ms=row[7],
        canary_until_ms=row[8],
        canary_judged_at_ms=row[9],
        baseline=row[10],
        first_message_id=row[11],
        last_message_id=row[12],
    )
