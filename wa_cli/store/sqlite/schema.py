"""The tables, and how a file gets from one version of them to the next.

Migrations run through sqlite-utils inside one immediate transaction, so an interrupted one leaves the old schema, and
two processes that migrate at once take turns.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from wa_cli.cuts import cut

if TYPE_CHECKING:
    import sqlite3

APPLICATION_ID: Final = 0x57414342  # "WACB": tells a wa database from any other SQLite file
SCHEMA_VERSION: Final = 5

# Times are milliseconds since 1970 in UTC.  A state is a word, so that the file can be read without wa.
# The id of a subgroup is never used again (AUTOINCREMENT), since batches remember it after the subgroup is gone; its
# folded name is what all cases of its letters share, which NOCASE knows for ASCII only.
# A lane is `priority << 40 | batch`: the send loop spaces each lane by itself and serves urgent ones first.
VERSION_1: Final = (
    """
    CREATE TABLE meta (
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE instance (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        transport TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        paused_at INTEGER,
        paused_by TEXT CHECK (paused_by IN ('person', 'platform', 'wa')),
        pause_code TEXT,
        pause_reason TEXT,
        rests_until INTEGER NOT NULL DEFAULT 0,
        rest_reason TEXT
    ) STRICT
    """,
    """
    CREATE TABLE lease (
        instance_id INTEGER PRIMARY KEY REFERENCES instance(id),
        epoch INTEGER NOT NULL,
        owner TEXT,
        role TEXT,
        pid INTEGER,
        host TEXT,
        acquired_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE contact (
        id INTEGER PRIMARY KEY,
        address TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL CHECK (kind IN ('person', 'group')),
        created_at INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE subgroup (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        folded_name TEXT NOT NULL UNIQUE,
        created_at INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE member (
        id INTEGER PRIMARY KEY,
        subgroup_id INTEGER NOT NULL REFERENCES subgroup(id) ON DELETE CASCADE,
        contact_id INTEGER NOT NULL REFERENCES contact(id),
        attributes TEXT,
        UNIQUE (subgroup_id, contact_id)
    ) STRICT
    """,
    # Groups are few among the contacts: counting a subgroup's kinds reads these alone.
    "CREATE INDEX contact_group ON contact (id) WHERE kind = 'group'",
    # Members in the order they were added: the row id is the hidden last column of this index.
    "CREATE INDEX member_order ON member (subgroup_id)",
    """
    CREATE TABLE content (
        id INTEGER PRIMARY KEY,
        hash BLOB NOT NULL UNIQUE,
        body TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE batch (
        id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL CHECK (kind IN ('subgroup', 'to', 'file', 'resend')),
        instance_id INTEGER NOT NULL REFERENCES instance(id),
        subgroup_id INTEGER,
        subgroup TEXT,
        campaign TEXT,
        created_at INTEGER NOT NULL,
        released_at INTEGER,
        owner TEXT,
        start_at INTEGER NOT NULL,
        at_words TEXT,
        delay_ms INTEGER NOT NULL,
        priority INTEGER NOT NULL,
        max_attempts INTEGER NOT NULL,
        on_unknown TEXT NOT NULL CHECK (on_unknown IN ('hold', 'resend', 'skip')),
        last_started_at INTEGER,
        first_message_id INTEGER,
        last_message_id INTEGER
    ) STRICT
    """,
    "CREATE INDEX batch_unreleased ON batch (id) WHERE released_at IS NULL",
    "CREATE INDEX batch_subgroup ON batch (subgroup_id) WHERE subgroup_id IS NOT NULL",
    """
    CREATE TABLE message (
        id INTEGER PRIMARY KEY,
        instance_id INTEGER NOT NULL REFERENCES instance(id),
        batch_id INTEGER NOT NULL REFERENCES batch(id),
        contact_id INTEGER NOT NULL REFERENCES contact(id),
        content_id INTEGER NOT NULL REFERENCES content(id),
        state TEXT NOT NULL CHECK (state IN
            ('queued', 'sending', 'sent', 'failed', 'unknown', 'skipped', 'expired', 'cancelled')),
        receipt TEXT CHECK (receipt IN ('sent', 'delivered', 'read', 'played', 'failed')),
        lane INTEGER NOT NULL,
        due_at INTEGER NOT NULL,
        scheduled_at INTEGER NOT NULL,
        expires_at INTEGER,
        attempts INTEGER NOT NULL DEFAULT 0,
        refusals INTEGER NOT NULL DEFAULT 0,
        reason TEXT,
        error_code TEXT,
        error_details TEXT,
        provider_message_id TEXT,
        changed_at INTEGER NOT NULL
    ) STRICT
    """,
    # The only index the hot path reads: it holds waiting rows alone, so history costs it nothing.
    "CREATE INDEX message_due ON message (instance_id, lane, due_at) WHERE state = 'queued'",
    "CREATE INDEX message_expiry ON message (expires_at) WHERE state = 'queued' AND expires_at IS NOT NULL",
    "CREATE INDEX message_sending ON message (instance_id) WHERE state = 'sending'",
    "CREATE INDEX message_failed ON message (id) WHERE state = 'failed'",
    "CREATE INDEX message_unknown ON message (id) WHERE state = 'unknown'",
    # Retries that wait: counted by status, and touched only when an attempt failed.
    "CREATE INDEX message_retrying ON message (id) WHERE state = 'queued' AND attempts > 0",
    """
    CREATE TABLE attempt (
        id INTEGER PRIMARY KEY,
        message_id INTEGER NOT NULL REFERENCES message(id),
        instance_id INTEGER NOT NULL,
        contact_id INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        started_at INTEGER NOT NULL,
        outcome TEXT CHECK (outcome IN
            ('accepted', 'rejected', 'not_sent', 'ambiguous', 'marked_sent', 'marked_not_sent')),
        counted INTEGER,
        latency_ms INTEGER,
        http_status INTEGER,
        error_code TEXT,
        details TEXT,
        provider_message_id TEXT
    ) STRICT
    """,
    "CREATE INDEX attempt_message ON attempt (message_id)",
    # What was decided about a message beside its attempts.  The plain path (queued, sent) writes nothing here.
    """
    CREATE TABLE decision (
        id INTEGER PRIMARY KEY,
        message_id INTEGER NOT NULL REFERENCES message(id),
        at INTEGER NOT NULL,
        rule TEXT NOT NULL,
        details TEXT
    ) STRICT
    """,
    "CREATE INDEX decision_message ON decision (message_id)",
    # The default idempotency key, taken apart: its SHA-256 would be a random key, and a random unique index doubles
    # the price of an insert.  These three numbers stand for the same thing, since equal content has one id.
    """
    CREATE TABLE live_key (
        content_id INTEGER NOT NULL,
        contact_id INTEGER NOT NULL,
        instance_id INTEGER NOT NULL,
        message_id INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        again INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (content_id, contact_id, instance_id)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE caller_key (
        key TEXT PRIMARY KEY,
        request_hash BLOB NOT NULL,
        batch_id INTEGER NOT NULL,
        message_id INTEGER,
        expires_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    # How many messages stand where, kept by the triggers below: status reads a few rows, never a million.
    """
    CREATE TABLE tally (
        instance_id INTEGER NOT NULL,
        state TEXT NOT NULL,
        receipt TEXT NOT NULL,
        n INTEGER NOT NULL,
        PRIMARY KEY (instance_id, state, receipt)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TRIGGER tally_insert AFTER INSERT ON message BEGIN
        INSERT INTO tally VALUES (new.instance_id, new.state, ifnull(new.receipt, ''), 1)
        ON CONFLICT DO UPDATE SET n = n + 1;
    END
    """,
    """
    CREATE TRIGGER tally_update AFTER UPDATE OF state, receipt ON message
    WHEN new.state <> old.state OR new.receipt IS NOT old.receipt BEGIN
        UPDATE tally SET n = n - 1
        WHERE instance_id = old.instance_id AND state = old.state AND receipt = ifnull(old.receipt, '');
        INSERT INTO tally VALUES (new.instance_id, new.state, ifnull(new.receipt, ''), 1)
        ON CONFLICT DO UPDATE SET n = n + 1;
    END
    """,
    """
    CREATE TRIGGER tally_delete AFTER DELETE ON message BEGIN
        UPDATE tally SET n = n - 1
        WHERE instance_id = old.instance_id AND state = old.state AND receipt = ifnull(old.receipt, '');
    END
    """,
    # The failed list as it was last printed, so that an index means what the reader saw.
    """
    CREATE TABLE printed_list (
        position INTEGER PRIMARY KEY,
        message_id INTEGER NOT NULL,
        changed_at INTEGER NOT NULL
    ) STRICT
    """,
)

# What WhatsApp tells us afterwards: webhooks, receipts, people who write, people who leave; and who may use the API.
VERSION_2: Final = (
    # Nobody writes to a person who has opted out, whatever the instance; read with the address just before a post.
    "ALTER TABLE contact ADD COLUMN opted_out_at INTEGER",
    "ALTER TABLE contact ADD COLUMN name TEXT",
    "ALTER TABLE contact ADD COLUMN attributes TEXT",
    "ALTER TABLE contact ADD COLUMN erased_at INTEGER",
    "CREATE INDEX contact_opted_out ON contact (id) WHERE opted_out_at IS NOT NULL",
    # The other names one person has: the number as WhatsApp spells it (`wa:5511...`), its own id (`user:BR.13...`).
    """
    CREATE TABLE contact_alias (
        alias TEXT PRIMARY KEY,
        contact_id INTEGER NOT NULL REFERENCES contact(id)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX contact_alias_contact ON contact_alias (contact_id)",
    # Each change of mind, in the words it came in.  evidence names the event, so that a replay changes nothing.
    """
    CREATE TABLE consent (
        id INTEGER PRIMARY KEY,
        contact_id INTEGER NOT NULL REFERENCES contact(id),
        at INTEGER NOT NULL,
        change TEXT NOT NULL CHECK (change IN ('opt_out', 'opt_in')),
        source TEXT NOT NULL CHECK (source IN ('message', 'preference', 'refusal', 'person', 'import', 'api')),
        wording TEXT,
        actor TEXT,
        evidence TEXT
    ) STRICT
    """,
    "CREATE INDEX consent_contact ON consent (contact_id)",
    "CREATE UNIQUE INDEX consent_evidence ON consent (evidence) WHERE evidence IS NOT NULL",
    # Digests of the addresses of people who had opted out when they were erased: nobody adds them again by mistake.
    """
    CREATE TABLE suppressed (
        digest BLOB PRIMARY KEY,
        at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    # Who wrote to which instance last; closed_at is when the platform said that the 24 h window was shut.
    """
    CREATE TABLE conversation (
        instance_id INTEGER NOT NULL REFERENCES instance(id),
        contact_id INTEGER NOT NULL REFERENCES contact(id),
        last_inbound_at INTEGER,
        closed_at INTEGER,
        PRIMARY KEY (instance_id, contact_id)
    ) STRICT, WITHOUT ROWID
    """,
    # What people wrote, without the words: those are in the raw event, for as long as it is kept.
    """
    CREATE TABLE inbound (
        id INTEGER PRIMARY KEY,
        instance_id INTEGER NOT NULL REFERENCES instance(id),
        contact_id INTEGER NOT NULL REFERENCES contact(id),
        at INTEGER NOT NULL,
        kind TEXT NOT NULL,
        provider_message_id TEXT NOT NULL UNIQUE,
        context_message_id TEXT
    ) STRICT
    """,
    "CREATE INDEX inbound_contact ON inbound (contact_id)",
    # Row Q4: each event as it came.  It is committed before it is answered, and read afterwards.
    """
    CREATE TABLE webhook_logs (
        id INTEGER PRIMARY KEY,
        received_at INTEGER NOT NULL,
        provider TEXT NOT NULL,
        is_signed INTEGER NOT NULL,
        body BLOB NOT NULL,
        status TEXT NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'done', 'ignored', 'failed')),
        events INTEGER,
        details TEXT,
        read_at INTEGER
    ) STRICT
    """,
    "CREATE INDEX webhook_logs_waiting ON webhook_logs (id) WHERE status = 'waiting'",
    "CREATE INDEX webhook_logs_failed ON webhook_logs (id) WHERE status = 'failed'",
    # Each receipt once, however often it comes.  parked: it is about a post that is still on its way, or that nobody
    # here knows (attempt_id is NULL then).
    """
    CREATE TABLE receipt (
        id INTEGER PRIMARY KEY,
        attempt_id INTEGER,
        status TEXT NOT NULL CHECK (status IN ('sent', 'delivered', 'read', 'played', 'failed')),
        participant TEXT NOT NULL DEFAULT '',
        provider_message_id TEXT NOT NULL,
        at INTEGER NOT NULL,
        received_at INTEGER NOT NULL,
        rule TEXT NOT NULL,
        error_class TEXT,
        error_code TEXT,
        details TEXT,
        wait_seconds REAL,
        max_attempts INTEGER,
        consequence TEXT
    ) STRICT
    """,
    # The attempt leads, so that new receipts fall near each other in the index.
    """
    CREATE UNIQUE INDEX receipt_once ON receipt (attempt_id, status, participant, provider_message_id)
    WHERE attempt_id IS NOT NULL
    """,
    """
    CREATE UNIQUE INDEX receipt_unmatched ON receipt (provider_message_id, status, participant)
    WHERE attempt_id IS NULL
    """,
    "CREATE INDEX receipt_parked ON receipt (id) WHERE rule = 'parked'",
    "CREATE INDEX decision_double ON decision (message_id) WHERE rule = 'proven_duplicate'",
    # Templates that the platform has paused or disabled: their messages wait.  until is NULL until somebody acts.
    """
    CREATE TABLE template_hold (
        instance_id INTEGER NOT NULL REFERENCES instance(id),
        name TEXT NOT NULL,
        language TEXT NOT NULL,
        since INTEGER NOT NULL,
        until INTEGER,
        reason TEXT NOT NULL,
        PRIMARY KEY (instance_id, name, language)
    ) STRICT, WITHOUT ROWID
    """,
    # Since when webhooks come for an instance, and when the last one did: without them a closed window is not known.
    "ALTER TABLE instance ADD COLUMN webhooks_since INTEGER",
    "ALTER TABLE instance ADD COLUMN last_webhook_at INTEGER",
    """
    CREATE TABLE api_key (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        digest BLOB NOT NULL UNIQUE,
        scopes TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        last_used_at INTEGER,
        revoked_at INTEGER
    ) STRICT
    """,
    "CREATE UNIQUE INDEX api_key_name ON api_key (name) WHERE revoked_at IS NULL",
    # Who asked for a batch, as the caller of the API says: recorded, never trusted.
    "ALTER TABLE batch ADD COLUMN actor TEXT",
)

# Campaigns: what the file said, what was planned, what was let go, and who clicked.
VERSION_3: Final = (
    """
    CREATE TABLE campaign (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        folded_name TEXT NOT NULL UNIQUE,
        path TEXT NOT NULL,
        source TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'draft' CHECK (state IN
            ('draft', 'scheduled', 'running', 'paused', 'finished', 'cancelled')),
        created_at INTEGER NOT NULL,
        changed_at INTEGER NOT NULL,
        paused_by TEXT CHECK (paused_by IN ('person', 'wa')),
        pause_code TEXT,
        pause_reason TEXT,
        next_occurrence_at INTEGER,
        actor TEXT
    ) STRICT
    """,
    # Each step of its life, with who took it and why.
    """
    CREATE TABLE campaign_change (
        id INTEGER PRIMARY KEY,
        campaign_id INTEGER NOT NULL REFERENCES campaign(id) ON DELETE CASCADE,
        at INTEGER NOT NULL,
        from_state TEXT,
        to_state TEXT NOT NULL,
        actor TEXT NOT NULL,
        reason TEXT
    ) STRICT
    """,
    "CREATE INDEX campaign_change_campaign ON campaign_change (campaign_id)",
    # A timetable: lines with a content leave at their time, lines with a reason do not.  occurrence is the local time
    # of a recurring campaign's turn, '' otherwise.  finished_at: all lines are there.
    """
    CREATE TABLE plan (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        campaign_id INTEGER NOT NULL REFERENCES campaign(id) ON DELETE CASCADE,
        occurrence TEXT NOT NULL DEFAULT '',
        digest TEXT,
        source TEXT NOT NULL,
        inputs TEXT NOT NULL,
        summary TEXT,
        created_at INTEGER NOT NULL,
        finished_at INTEGER,
        applied_at INTEGER,
        owner TEXT
    ) STRICT
    """,
    "CREATE INDEX plan_campaign ON plan (campaign_id)",
    # part: the number of the line's batch within the plan, see plan_part.  contact_id is NULL for a row of a file that
    # names nobody.
    """
    CREATE TABLE plan_line (
        id INTEGER PRIMARY KEY,
        plan_id INTEGER NOT NULL,
        contact_id INTEGER,
        content_id INTEGER,
        part INTEGER,
        due_at INTEGER,
        expires_at INTEGER,
        reason TEXT,
        details TEXT
    ) STRICT
    """,
    "CREATE INDEX plan_line_plan ON plan_line (plan_id)",
    # What the lines of one stage, variant and zone share; each becomes a batch.
    """
    CREATE TABLE plan_part (
        plan_id INTEGER NOT NULL,
        part INTEGER NOT NULL,
        stage TEXT NOT NULL CHECK (stage IN ('canary', 'main')),
        variant TEXT NOT NULL,
        zone TEXT NOT NULL,
        PRIMARY KEY (plan_id, part)
    ) STRICT, WITHOUT ROWID
    """,
    # One ledger: a campaign that is sent once has one run, a recurring one has a run for each occurrence.  baseline:
    # the outcomes that a person has accepted by resuming, as JSON; stop rules look at what came after.
    """
    CREATE TABLE run (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        campaign_id INTEGER NOT NULL REFERENCES campaign(id),
        occurrence TEXT NOT NULL DEFAULT '',
        plan_id INTEGER,
        state TEXT NOT NULL CHECK (state IN ('planning', 'running', 'finished', 'cancelled', 'missed')),
        created_at INTEGER NOT NULL,
        started_at INTEGER,
        ended_at INTEGER,
        canary_until INTEGER,
        canary_judged_at INTEGER,
        baseline TEXT,
        first_message_id INTEGER,
        last_message_id INTEGER,
        owner TEXT,
        UNIQUE (campaign_id, occurrence)
    ) STRICT
    """,
    # People and rows that a run left out, each with its reason; they are in its ledger and get no message.
    """
    CREATE TABLE exclusion (
        id INTEGER PRIMARY KEY,
        run_id INTEGER NOT NULL REFERENCES run(id),
        contact_id INTEGER,
        reason TEXT NOT NULL,
        details TEXT
    ) STRICT
    """,
    "CREATE INDEX exclusion_run ON exclusion (run_id)",
    # How many messages of a run stand where; kept for campaigns alone, the plain path pays nothing for it.
    """
    CREATE TABLE run_tally (
        run_id INTEGER NOT NULL,
        state TEXT NOT NULL,
        receipt TEXT NOT NULL,
        n INTEGER NOT NULL,
        PRIMARY KEY (run_id, state, receipt)
    ) STRICT, WITHOUT ROWID
    """,
    "ALTER TABLE message ADD COLUMN run_id INTEGER REFERENCES run(id)",
    # Nobody is written to twice by one run, whatever is edited and applied again.
    "CREATE UNIQUE INDEX message_once_a_run ON message (run_id, contact_id) WHERE run_id IS NOT NULL",
    # The rows that go in are counted by whoever puts them in, many at once.
    """
    CREATE TRIGGER run_tally_update AFTER UPDATE OF state, receipt ON message
    WHEN new.run_id IS NOT NULL AND (new.state <> old.state OR new.receipt IS NOT old.receipt) BEGIN
        UPDATE run_tally SET n = n - 1
        WHERE run_id = old.run_id AND state = old.state AND receipt = ifnull(old.receipt, '');
        INSERT INTO run_tally VALUES (new.run_id, new.state, ifnull(new.receipt, ''), 1)
        ON CONFLICT DO UPDATE SET n = n + 1;
    END
    """,
    # A batch of a campaign: its run, its stage, variant and zone; quiet is the hours and days in which it rests, as
    # JSON; weight is its share of the instance beside other campaigns; held_at: nothing of its lane starts.
    "ALTER TABLE batch ADD COLUMN run_id INTEGER REFERENCES run(id)",
    "ALTER TABLE batch ADD COLUMN stage TEXT",
    "ALTER TABLE batch ADD COLUMN variant TEXT",
    "ALTER TABLE batch ADD COLUMN zone TEXT",
    "ALTER TABLE batch ADD COLUMN quiet TEXT",
    "ALTER TABLE batch ADD COLUMN weight INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE batch ADD COLUMN limits TEXT",
    "ALTER TABLE batch ADD COLUMN held_at INTEGER",
    "ALTER TABLE batch ADD COLUMN held_reason TEXT",
    "CREATE INDEX batch_held ON batch (id) WHERE held_at IS NOT NULL",
    "CREATE INDEX batch_run ON batch (run_id) WHERE run_id IS NOT NULL",
    # The approved templates of an account, as they were last read from it.
    """
    CREATE TABLE template (
        instance_id INTEGER NOT NULL REFERENCES instance(id),
        name TEXT NOT NULL,
        language TEXT NOT NULL,
        category TEXT,
        status TEXT NOT NULL,
        parameter_format TEXT,
        components TEXT NOT NULL,
        synced_at INTEGER NOT NULL,
        PRIMARY KEY (instance_id, name, language)
    ) STRICT, WITHOUT ROWID
    """,
    # The links that a plan's messages carry in short; a token names plan, person and link, and is signed.
    """
    CREATE TABLE link (
        plan_id INTEGER NOT NULL,
        number INTEGER NOT NULL,
        url TEXT NOT NULL,
        PRIMARY KEY (plan_id, number)
    ) STRICT, WITHOUT ROWID
    """,
    # kind: `person`, or `preview` for what fetched the page to draw a preview of it.
    """
    CREATE TABLE click (
        id INTEGER PRIMARY KEY,
        plan_id INTEGER NOT NULL,
        contact_id INTEGER NOT NULL,
        number INTEGER NOT NULL,
        at INTEGER NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('person', 'preview')),
        agent TEXT
    ) STRICT
    """,
    "CREATE INDEX click_plan ON click (plan_id, contact_id)",
)

# Several instances: what each is made of, how its device is connected, what holds it back, and what happened to it.
VERSION_4: Final = (
    # JSON objects: settings by name, the names of variables that hold secrets, limits by name.
    "ALTER TABLE instance ADD COLUMN settings TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE instance ADD COLUMN secrets TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE instance ADD COLUMN profile TEXT",
    "ALTER TABLE instance ADD COLUMN limits TEXT NOT NULL DEFAULT '{}'",
    """
    ALTER TABLE instance ADD COLUMN connection TEXT CHECK (connection IN
        ('ready', 'connecting', 'needs_qr', 'disconnected', 'auth_failure', 'error'))
    """,
    "ALTER TABLE instance ADD COLUMN connection_since INTEGER",
    "ALTER TABLE instance ADD COLUMN connection_raw TEXT",
    "ALTER TABLE instance ADD COLUMN connection_reason TEXT",
    "ALTER TABLE instance ADD COLUMN address TEXT",
    "ALTER TABLE instance ADD COLUMN restricted_at INTEGER",
    "ALTER TABLE instance ADD COLUMN restricted_until INTEGER",  # NULL beside restricted_at: no end was stated
    "ALTER TABLE instance ADD COLUMN restriction_code TEXT",
    "ALTER TABLE instance ADD COLUMN restriction_reason TEXT",
    """
    ALTER TABLE instance ADD COLUMN restriction_scope TEXT CHECK (restriction_scope IN
        ('new_people', 'outside_window', 'everything'))
    """,
    "ALTER TABLE instance ADD COLUMN warm_up_since INTEGER",
    "ALTER TABLE instance ADD COLUMN removed_at INTEGER",
    """
    CREATE TABLE instance_event (
        id INTEGER PRIMARY KEY,
        instance_id INTEGER NOT NULL REFERENCES instance(id),
        at INTEGER NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN
            ('state', 'restart', 'restricted', 'released', 'paused', 'resumed', 'added', 'removed', 'moved')),
        word TEXT NOT NULL,
        details TEXT
    ) STRICT
    """,
    "CREATE INDEX instance_event_at ON instance_event (instance_id, at)",
    # Several instances behind one name.  A seat is who writes to a person: it stays with whoever wrote first.
    """
    CREATE TABLE pool (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        created_at INTEGER NOT NULL,
        seen_message_id INTEGER NOT NULL DEFAULT 0
    ) STRICT
    """,
    """
    CREATE TABLE pool_member (
        pool_id INTEGER NOT NULL REFERENCES pool(id) ON DELETE CASCADE,
        instance_id INTEGER NOT NULL REFERENCES instance(id),
        PRIMARY KEY (pool_id, instance_id)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE pool_seat (
        pool_id INTEGER NOT NULL REFERENCES pool(id) ON DELETE CASCADE,
        contact_id INTEGER NOT NULL REFERENCES contact(id),
        instance_id INTEGER NOT NULL REFERENCES instance(id),
        PRIMARY KEY (pool_id, contact_id)
    ) STRICT, WITHOUT ROWID
    """,
    "ALTER TABLE batch ADD COLUMN pool_id INTEGER",
    # Which member of a pool writes to the people of these lines; NULL where the campaign has one instance.
    "ALTER TABLE plan_part ADD COLUMN instance_id INTEGER",
    # Our own files: kept under their digest beside the database for as long as a message may need them.
    """
    CREATE TABLE media_file (
        digest TEXT PRIMARY KEY,
        name TEXT,
        mime_type TEXT NOT NULL,
        size INTEGER NOT NULL,
        added_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    # What a provider keeps of them: a file is uploaded once per instance.
    """
    CREATE TABLE media_upload (
        instance_id INTEGER NOT NULL REFERENCES instance(id),
        digest TEXT NOT NULL,
        media_id TEXT NOT NULL,
        uploaded_at INTEGER NOT NULL,
        expires_at INTEGER,
        PRIMARY KEY (instance_id, digest)
    ) STRICT, WITHOUT ROWID
    """,
    # Groups as an instance last saw them.  may_post: NULL where the gateway does not tell.
    """
    CREATE TABLE group_chat (
        instance_id INTEGER NOT NULL REFERENCES instance(id),
        address TEXT NOT NULL,
        name TEXT NOT NULL,
        size INTEGER,
        may_post INTEGER,
        is_member INTEGER NOT NULL,
        seen_at INTEGER NOT NULL,
        PRIMARY KEY (instance_id, address)
    ) STRICT, WITHOUT ROWID
    """,
    # Whether a number is on WhatsApp, as it was last looked up.  chat: the address that WhatsApp has for it.
    """
    CREATE TABLE number_check (
        contact_id INTEGER PRIMARY KEY REFERENCES contact(id),
        verdict TEXT NOT NULL CHECK (verdict IN ('yes', 'no', 'unknown')),
        chat TEXT,
        checked_at INTEGER NOT NULL
    ) STRICT
    """,
    # Most sends find out here that nobody was looked up in vain.
    "CREATE INDEX number_check_no ON number_check (contact_id) WHERE verdict = 'no'",
    # When the instance first wrote to a person who had never written, where a limit asks for it.
    "ALTER TABLE conversation ADD COLUMN opened_at INTEGER",
    "CREATE INDEX conversation_opened ON conversation (instance_id, opened_at) WHERE opened_at IS NOT NULL",
    # How many messages in a row a person has been sent without an answer, where a limit asks for it.
    "ALTER TABLE conversation ADD COLUMN unanswered INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE webhook_logs ADD COLUMN instance_id INTEGER",
    # With a receipt that says so: (reason, scope, until) as JSON, for one that waits for the record of its post.
    "ALTER TABLE receipt ADD COLUMN restriction TEXT",
    # A waiting message may be given to another instance: the counts go with it.
    """
    CREATE TRIGGER tally_move AFTER UPDATE OF instance_id ON message WHEN old.instance_id <> new.instance_id BEGIN
        UPDATE tally SET n = n - 1
        WHERE instance_id = old.instance_id AND state = new.state AND receipt = ifnull(new.receipt, '');
        INSERT INTO tally VALUES (new.instance_id, new.state, ifnull(new.receipt, ''), 1)
        ON CONFLICT DO UPDATE SET n = n + 1;
    END
    """,
)

# SQLite builds a table in memory for a list of three words and more, each time it checks a row against it: written out,
# the same checks take a third off the writing of a message's whole life.  Only the words of the definitions change, so
# that no row is touched.  (table, the check as it was)
VERSION_5: Final = (
    (
        "message",
        """state IN
            ('queued', 'sending', 'sent', 'failed', 'unknown', 'skipped', 'expired', 'cancelled')""",
    ),
    ("message", "receipt IN ('sent', 'delivered', 'read', 'played', 'failed')"),
    (
        "attempt",
        """outcome IN
            ('accepted', 'rejected', 'not_sent', 'ambiguous', 'marked_sent', 'marked_not_sent')""",
    ),
    ("receipt", "status IN ('sent', 'delivered', 'read', 'played', 'failed')"),
    ("webhook_logs", "status IN ('waiting', 'done', 'ignored', 'failed')"),
)


def read_version(connection: sqlite3.Connection) -> int:
    """The schema version of the file, 0 when it holds none."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, *, install: str) -> None:
    """Bring the schema to SCHEMA_VERSION, all of it or nothing.  The caller holds no transaction.

    install: the random name of this database, stored once; it marks the tags of our posts.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        if read_version(connection) < SCHEMA_VERSION:  # another process may have been faster
            if connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None:
                _make(connection, install=install)
            else:
                _upgrade(connection, install=install)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        cut("migrate_before_commit")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    cut("migrate_after_commit")


def _make(connection: sqlite3.Connection, *, install: str) -> None:
    """Fill an empty file at once, as if it had come through every version: a sixth of the time."""
    from datetime import UTC, datetime

    from wa_cli.store.sqlite.tables import TABLES

    for statement in TABLES:
        connection.execute(statement)
    _add_first_rows(connection, install=install)
    connection.executemany(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('wa', ?, ?)",
        [(f"version_{number}", str(datetime.now(UTC))) for number in range(1, SCHEMA_VERSION + 1)],
    )


def _add_first_rows(connection: sqlite3.Connection, *, install: str) -> None:
    connection.execute("INSERT INTO instance (id, name, transport, created_at) VALUES (1, 'default', 'cloud_api', 0)")
    connection.execute("INSERT INTO meta (key, value) VALUES ('install', ?)", (install,))


def _upgrade(connection: sqlite3.Connection, *, install: str) -> None:
    from sqlite_utils import Database, Migrations  # heavy, and needed once in the life of a file

    migrations = Migrations("wa")

    @migrations()
    def version_1(database: Database) -> None:
        for statement in VERSION_1:
            database.conn.execute(statement)
        _add_first_rows(database.conn, install=install)

    @migrations()
    def version_2(database: Database) -> None:
        for statement in VERSION_2:
            database.conn.execute(statement)

    @migrations()
    def version_3(database: Database) -> None:
        for statement in VERSION_3:
            database.conn.execute(statement)

    @migrations()
    def version_4(database: Database) -> None:
        for statement in VERSION_4:
            database.conn.execute(statement)

    @migrations()
    def version_5(database: Database) -> None:
        _write_out_checks(database.conn)

    migrations.apply(Database(connection, execute_plugins=False))


def _write_out_checks(connection: sqlite3.Connection) -> None:
    """Replace checks against a list by comparisons that come to the same, see VERSION_5."""
    connection.execute("PRAGMA writable_schema = ON")
    for table, check in VERSION_5:
        column, _in, words = check.partition(" IN")
        written_out = " OR ".join(f"{column} = {word}" for word in re.findall("'[a-z_]+'", words))
        connection.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE type = 'table' AND name = ?",
            (f"({check})", f"({written_out})", table),
        )
    (number,) = connection.execute("PRAGMA schema_version").fetchone()
    connection.execute(f"PRAGMA schema_version = {number + 1}")  # so that whoever has the file open reads them anew
    connection.execute("PRAGMA writable_schema = RESET")
