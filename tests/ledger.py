"""A run of a campaign with messages in whatever state a test wants, as applying a plan and the send loop leave them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wa_cli.domain.message import Text, content_hash, encode_content
from wa_cli.domain.pacing import PRIORITY_BULK, lane_of
from wa_cli.domain.recipient import RecipientKind
from wa_cli.store.sqlite.campaigns import read_run
from wa_cli.store.sqlite.contacts import find_or_add_contacts

if TYPE_CHECKING:
    from wa_cli.domain.campaign import Run
    from wa_cli.store.sqlite.database import Database

NOW: Final = 1_800_000_000_000
MINUTE: Final = 60_000


def number(n: int) -> str:
    """A number of Singapore for each n."""
    return f"+658{1_000_000 + n}"


class Ledger:
    """Builds one campaign with its runs; messages go in as queued and are moved on, so the triggers count them."""

    def __init__(
        self, database: Database, *, name: str = "spring-sale", state: str = "running", now_ms: int = NOW
    ) -> None:
        self.database, self.name, self.now_ms = database, name, now_ms
        with database.write() as connection:
            self.campaign_id = connection.execute(
                """INSERT INTO campaign (name, folded_name, path, source, state, created_at, changed_at, actor)
                VALUES (?, ?, ?, '', ?, ?, ?, 'ada')""",
                (name, name.casefold(), f"campaigns/{name}.toml", state, now_ms - 90 * MINUTE, now_ms - 90 * MINUTE),
            ).lastrowid
            connection.execute(
                """INSERT INTO campaign_change (campaign_id, at, to_state, actor, reason)
                VALUES (?, ?, 'draft', 'ada', NULL)""",
                (self.campaign_id, now_ms - 90 * MINUTE),
            )
            encoded = encode_content(Text(body=f"hello from {name}"))
            self.content_id = connection.execute(
                "INSERT INTO content (hash, body) VALUES (?, ?)", (content_hash(encoded), encoded)
            ).lastrowid
        self.run_id = 0
        self._lanes: dict[str, int] = {}

    def start_run(
        self,
        occurrence: str = "",
        *,
        state: str = "running",
        started_at: int | None = None,
        ended_at: int | None = None,
    ) -> int:
        """The run that batches and messages go into from now on."""
        started_at = self.now_ms - 60 * MINUTE if started_at is None else started_at
        with self.database.write() as connection:
            plan_id = connection.execute(
                """INSERT INTO plan
                    (campaign_id, occurrence, digest, source, inputs, created_at, finished_at, applied_at)
                VALUES (?, ?, '4f9a3c00', '', '{}', ?, ?, ?)""",
                (self.campaign_id, occurrence, started_at, started_at, started_at),
            ).lastrowid
            self.run_id = (
                connection.execute(
                    """INSERT INTO run (campaign_id, occurrence, plan_id, state, created_at, started_at, ended_at)
                VALUES (?, ?, ?, ?, ?, ?, ?)""",
                    (self.campaign_id, occurrence, plan_id, state, started_at, started_at, ended_at),
                ).lastrowid
                or 0
            )
        self.plan_id = plan_id or 0
        self._lanes = {}
        return self.run_id

    def add_batch(self, *, stage: str = "main", variant: str = "", zone: str = "", is_held: bool = False) -> int:
        """A part of the run; the batches of a stage share the lane of its first."""
        with self.database.write() as connection:
            batch_id = connection.execute(
                """INSERT INTO batch (kind, instance_id, campaign, created_at, released_at, start_at, delay_ms,
                    priority, max_attempts, on_unknown, run_id, stage, variant, zone, held_at)
                VALUES ('file', 1, ?, ?, ?, ?, 0, ?, 5, 'hold', ?, ?, ?, ?, ?)""",
                (self.name, self.now_ms, self.now_ms, self.now_ms, PRIORITY_BULK, self.run_id, stage, variant, zone,
                 self.now_ms if is_held else None),
            ).lastrowid or 0  # fmt: skip
        self._lanes.setdefault(stage, lane_of(PRIORITY_BULK, batch_id))
        return batch_id

    def add(
        self,
        address: str,
        batch_id: int,
        state: str = "queued",
        receipt: str | None = None,
        *,
        stage: str = "main",
        kind: RecipientKind = RecipientKind.PERSON,
        due_at: int | None = None,
        posted_at: int | None = None,
        read_after_ms: int = 5 * MINUTE,
        error_code: str | None = None,
        reason: str | None = None,
    ) -> int:
        """One message with its post and its receipts.  Returns its id."""
        due_at = self.now_ms if due_at is None else due_at
        posted_at = self.now_ms - 10 * MINUTE if posted_at is None else posted_at
        with self.database.write() as connection:
            (contact_id,) = find_or_add_contacts(connection, [(address, kind)], now_ms=self.now_ms).values()
            message_id = (
                connection.execute(
                    """INSERT INTO message (instance_id, batch_id, contact_id, content_id, state, lane, due_at,
                    scheduled_at, changed_at, run_id) VALUES (1, ?, ?, ?, 'queued', ?, ?, ?, ?, ?)""",
                    (
                        batch_id,
                        contact_id,
                        self.content_id,
                        self._lanes[stage],
                        due_at,
                        due_at,
                        self.now_ms,
                        self.run_id,
                    ),
                ).lastrowid
                or 0
            )
            connection.execute(
                """INSERT INTO run_tally VALUES (?, 'queued', '', 1) ON CONFLICT DO UPDATE SET n = n + 1""",
                (self.run_id,),
            )
            connection.execute(
                """UPDATE run SET first_message_id = ifnull(first_message_id, ?), last_message_id = ? WHERE id = ?""",
                (message_id, message_id, self.run_id),
            )
            outcome = {"sent": "accepted", "failed": "rejected", "unknown": "ambiguous", "sending": None}.get(state, "")
            attempts = 0
            if outcome != "":
                attempts = 1
                attempt_id = connection.execute(
                    """INSERT INTO attempt (message_id, instance_id, contact_id, epoch, started_at, outcome, error_code)
                    VALUES (?, 1, ?, 1, ?, ?, ?)""",
                    (message_id, contact_id, posted_at, outcome, error_code),
                ).lastrowid
                arrivals = {"delivered": ("delivered",), "read": ("delivered", "read"), "played": ("played",)}
                for status in arrivals.get(receipt or "", ()):
                    at = posted_at + (2_000 if status == "delivered" else read_after_ms)
                    connection.execute(
                        """INSERT INTO receipt (attempt_id, status, provider_message_id, at, received_at, rule)
                        VALUES (?, ?, ?, ?, ?, 'applied')""",
                        (attempt_id, status, f"wamid.{message_id}", at, at),
                    )
            connection.execute(
                "UPDATE message SET state = ?, receipt = ?, error_code = ?, reason = ?, attempts = ? WHERE id = ?",
                (state, receipt, error_code, reason, attempts, message_id),
            )
        return message_id

    def leave_out(self, address: str | None, reason: str, details: str | None = None) -> None:
        with self.database.write() as connection:
            contact_id = None
            if address is not None:
                known = [(address, RecipientKind.PERSON)]
                (contact_id,) = find_or_add_contacts(connection, known, now_ms=self.now_ms).values()
            connection.execute(
                "INSERT INTO exclusion (run_id, contact_id, reason, details) VALUES (?, ?, ?, ?)",
                (self.run_id, contact_id, reason, details),
            )

    def write_back(self, address: str, *, at: int) -> None:
        """The person writes to us."""
        with self.database.write() as connection:
            connection.execute(
                """INSERT INTO inbound (instance_id, contact_id, at, kind, provider_message_id)
                SELECT 1, id, ?, 'text', 'wamid.in.' || id || '.' || ? FROM contact WHERE address = ?""",
                (at, at, address),
            )

    def opt_out(self, address: str, *, at: int, source: str = "message") -> None:
        with self.database.write() as connection:
            connection.execute(
                """INSERT INTO consent (contact_id, at, change, source)
                SELECT id, ?, 'opt_out', ? FROM contact WHERE address = ?""",
                (at, source, address),
            )

    def click(self, address: str, *, at: int, kind: str = "person") -> None:
        with self.database.write() as connection:
            connection.execute(
                """INSERT INTO click (plan_id, contact_id, number, at, kind)
                SELECT ?, id, 1, ?, ? FROM contact WHERE address = ?""",
                (self.plan_id, at, kind, address),
            )

    def set_state(self, state: str) -> None:
        with self.database.write() as connection:
            connection.execute("UPDATE campaign SET state = ? WHERE id = ?", (state, self.campaign_id))

    def hold(self) -> None:
        """What a pause does."""
        with self.database.write() as connection:
            connection.execute("UPDATE batch SET held_at = ? WHERE run_id = ?", (self.now_ms, self.run_id))

    def run(self) -> Run:
        """The newest run as the store reads it."""
        with self.database.read() as connection:
            return read_run(connection, self.run_id)
