"""How far a campaign has come over all of its runs: what callers of the HTTP API ask for (rows Q6, Q7, S4).

A campaign here is whatever goes by that name: one from a file, with its runs and the people they left out; messages
that were queued over HTTP for a campaign of the caller's own; or both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wa_cli.domain.campaign import Reason
from wa_cli.domain.message import State
from wa_cli.domain.receipt import Receipt, Standing, derive_standing
from wa_cli.domain.report import ANSWER_MS, bucket_of_reason
from wa_cli.store.sqlite import pruned
from wa_cli.store.sqlite.messages import batch_condition
from wa_cli.store.sqlite.reports import ROUNDED_MS, SENT_AT

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from wa_cli.store.sqlite.database import Database

# --- of a campaign from a file: the same numbers as its report has, over all runs ---

TALLY: Final = """
    SELECT t.state, nullif(t.receipt, ''), sum(t.n) FROM run CROSS JOIN run_tally AS t ON t.run_id = run.id
    WHERE run.campaign_id = :campaign GROUP BY 1, 2
"""
LEFT_OUT: Final = f"""
    SELECT e.reason, count(*) FROM run CROSS JOIN exclusion AS e ON e.run_id = run.id
    WHERE run.campaign_id = :campaign AND NOT {pruned.IS_RUN_PRUNED}
        AND e.reason <> '{Reason.ALREADY_WRITTEN}' AND NOT EXISTS
        (SELECT 1 FROM message AS m WHERE m.run_id = run.id AND m.contact_id = e.contact_id)
    GROUP BY 1
"""  # noqa: S608  # own words
# A person has one message of a run.  A run is not answered before it begins.
REPLIED: Final = f"""
    SELECT count(DISTINCT m.id) FROM inbound AS n
    CROSS JOIN run ON run.campaign_id = :campaign AND run.created_at <= n.at + :rounded
    CROSS JOIN message AS m ON m.run_id = run.id AND m.contact_id = n.contact_id AND m.instance_id = n.instance_id
    WHERE n.at BETWEEN {SENT_AT} - :rounded AND {SENT_AT} + :answer AND NOT {pruned.IS_RUN_PRUNED}
"""  # noqa: S608  # own words
OPTED_OUT: Final = f"""
    SELECT count(DISTINCT m.id) FROM consent AS n
    CROSS JOIN run ON run.campaign_id = :campaign AND run.created_at <= n.at + :rounded
    CROSS JOIN message AS m ON m.run_id = run.id AND m.contact_id = n.contact_id
    WHERE n.change = 'opt_out' AND n.source <> 'import'
        AND n.at BETWEEN {SENT_AT} - :rounded AND {SENT_AT} + :answer AND NOT {pruned.IS_RUN_PRUNED}
"""  # noqa: S608  # own words
CLICKED: Final = f"""
    SELECT count(DISTINCT m.id) FROM run
    CROSS JOIN plan ON plan.campaign_id = run.campaign_id AND plan.occurrence = run.occurrence
    CROSS JOIN click ON click.plan_id = plan.id AND click.kind = 'person'
    CROSS JOIN message AS m ON m.run_id = run.id AND m.contact_id = click.contact_id
    WHERE run.campaign_id = :campaign AND NOT {pruned.IS_RUN_PRUNED}
"""  # noqa: S608  # own words
# Of these the report is kept, as it was when their messages were pruned.
PRUNED_RUNS: Final = f"SELECT run.id FROM run WHERE run.campaign_id = ? AND {pruned.IS_RUN_PRUNED}"  # noqa: S608  # own words

# --- of messages that came in over HTTP, which belong to no run; people are told apart, whatever they got ---

REPLIED_TO_THESE: Final = f"""
    SELECT count(DISTINCT m.contact_id) FROM message AS m WHERE m.state = 'sent' AND {{condition}} AND EXISTS
        (SELECT 1 FROM inbound AS n WHERE n.contact_id = m.contact_id AND n.instance_id = m.instance_id
            AND n.at BETWEEN {SENT_AT} - ? AND {SENT_AT} + ?)
"""  # noqa: S608  # own words
LEFT_AFTER_THESE: Final = f"""
    SELECT count(DISTINCT m.contact_id) FROM message AS m WHERE m.state = 'sent' AND {{condition}} AND EXISTS
        (SELECT 1 FROM consent AS n WHERE n.contact_id = m.contact_id AND n.change = 'opt_out' AND n.source <> 'import'
            AND n.at BETWEEN {SENT_AT} - ? AND {SENT_AT} + ?)
"""  # noqa: S608  # own words


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignTotals:
    """A campaign in numbers.  state: of one from a file, or None.

    stats: where everybody of the audience stands, each in exactly one; who was left out is skipped or expired (promise
    P13).  replied, opted_out, clicked: people of each run who did so within a week of their message.
    """

    name: str
    state: str | None
    stats: Mapping[str, int]
    replied: int
    opted_out: int
    clicked: int


class SqliteTotals:
    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, name: str) -> CampaignTotals:
        """The totals of a campaign; looks at every answer that ever came.  Raises: NotFound when it never was."""
        stats = {standing.value: 0 for standing in Standing}
        answers = {"replied": 0, "opted_out": 0, "clicked": 0}
        state = None
        with self._database.read() as connection:
            campaign = connection.execute(
                "SELECT id, name, state FROM campaign WHERE folded_name = ?", (name.casefold(),)
            ).fetchone()
            if campaign is not None:
                campaign_id, shown, state = campaign
                _add_runs(connection, campaign_id, stats, answers)
            if campaign is None or _has_others(connection, name):
                shown = name if campaign is None else shown
                _add_others(connection, name, stats, answers)
        return CampaignTotals(name=shown, state=state, stats=stats, **answers)


def _add_runs(connection: sqlite3.Connection, campaign_id: int, stats: dict[str, int], answers: dict[str, int]) -> None:
    values = {"campaign": campaign_id, "rounded": ROUNDED_MS, "answer": ANSWER_MS}
    for state, receipt, n in connection.execute(TALLY, values):
        stats[derive_standing(State(state), Receipt(receipt) if receipt else None).value] += n
    for reason, n in connection.execute(LEFT_OUT, values):
        stats[bucket_of_reason(reason).value] += n
    for answer, statement in (("replied", REPLIED), ("opted_out", OPTED_OUT), ("clicked", CLICKED)):
        answers[answer] += connection.execute(statement, values).fetchone()[0]
    for (run_id,) in connection.execute(PRUNED_RUNS, (campaign_id,)).fetchall():
        kept = pruned.find_report(connection, run_id)
        assert kept is not None
        for reason, n in kept.left_out.items():
            stats[bucket_of_reason(reason).value] += n
        for answer in answers:
            answers[answer] += getattr(kept.figures.answers, answer)


def _has_others(connection: sqlite3.Connection, name: str) -> bool:
    """Whether messages were queued for a campaign of this name beside the runs of the one from the file."""
    row = connection.execute("SELECT EXISTS (SELECT 1 FROM batch WHERE campaign = ? AND run_id IS NULL)", (name,))
    return bool(row.fetchone()[0]) or pruned.read_campaign_sums(connection, name) is not None


def _add_others(connection: sqlite3.Connection, name: str, stats: dict[str, int], answers: dict[str, int]) -> None:
    """Raises: NotFound when nothing was ever queued under that name."""
    found = batch_condition(connection, subgroup=None, campaign=name)
    assert found is not None
    condition, values = f"{found[0]} AND m.run_id IS NULL", found[1]
    rows = connection.execute(
        f"SELECT m.state, m.receipt, count(*) FROM message AS m WHERE {condition} GROUP BY 1, 2",  # noqa: S608  # own words
        values,
    )
    for state, receipt, n in rows:
        stats[derive_standing(State(state), Receipt(receipt) if receipt else None).value] += n
    # Pruning leaves those here that were answered, so that the people below are counted as before.
    for standing, count in (pruned.read_campaign_sums(connection, name) or {}).items():
        stats[standing] += count
    window = (ROUNDED_MS, ANSWER_MS)
    for answer, statement in (("replied", REPLIED_TO_THESE), ("opted_out", LEFT_AFTER_THESE)):
        row = connection.execute(statement.format(condition=condition), [*values, *window]).fetchone()
        answers[answer] += row[0]
