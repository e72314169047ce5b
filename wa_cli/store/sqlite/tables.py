"""The tables of a new file, all at once: what the versions in `schema` come to, without the way there.

Why each is as it is stands beside the version that brought it.  A test holds the two together.
"""

from __future__ import annotations

from typing import Final

TABLES: Final = (
    """
    CREATE TABLE "_sqlite_migrations" (
        "id" INTEGER PRIMARY KEY,
        "migration_set" TEXT,
        "name" TEXT,
        "applied_at" TEXT
    )
    """,
    """
    CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name")
    """,
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
        rest_reason TEXT,
        webhooks_since INTEGER,
        last_webhook_at INTEGER,
        settings TEXT NOT NULL DEFAULT '{}',
        secrets TEXT NOT NULL DEFAULT '{}',
        profile TEXT,
        limits TEXT NOT NULL DEFAULT '{}',
        connection TEXT CHECK (connection IN
            ('ready', 'connecting', 'needs_qr', 'disconnected', 'auth_failure', 'error')),
        connection_since INTEGER,
        connection_raw TEXT,
        connection_reason TEXT,
        address TEXT,
        restricted_at INTEGER,
        restricted_until INTEGER,
        restriction_code TEXT,
        restriction_reason TEXT,
        restriction_scope TEXT CHECK (restriction_scope IN ('new_people', 'outside_window', 'everything')),
        warm_up_since INTEGER,
        removed_at INTEGER
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
        created_at INTEGER NOT NULL,
        opted_out_at INTEGER,
        name TEXT,
        attributes TEXT,
        erased_at INTEGER
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
    "CREATE INDEX contact_group ON contact (id) WHERE kind = 'group'",
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
        last_message_id INTEGER,
        actor TEXT,
        run_id INTEGER REFERENCES run(id),
        stage TEXT,
        variant TEXT,
        zone TEXT,
        quiet TEXT,
        weight INTEGER NOT NULL DEFAULT 1,
        limits TEXT,
        held_at INTEGER,
        held_reason TEXT,
        pool_id INTEGER
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
        state TEXT NOT NULL CHECK (
            state = 'queued' OR state = 'sending' OR state = 'sent' OR state = 'failed' OR state = 'unknown' OR
            state = 'skipped' OR state = 'expired' OR state = 'cancelled'),
        receipt TEXT CHECK (
            receipt = 'sent' OR receipt = 'delivered' OR receipt = 'read' OR receipt = 'played' OR
            receipt = 'failed'),
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
        changed_at INTEGER NOT NULL,
        run_id INTEGER REFERENCES run(id)
    ) STRICT
    """,
    "CREATE INDEX message_due ON message (instance_id, lane, due_at) WHERE state = 'queued'",
    "CREATE INDEX message_expiry ON message (expires_at) WHERE state = 'queued' AND expires_at IS NOT NULL",
    "CREATE INDEX message_sending ON message (instance_id) WHERE state = 'sending'",
    "CREATE INDEX message_failed ON message (id) WHERE state = 'failed'",
    "CREATE INDEX message_unknown ON message (id) WHERE state = 'unknown'",
    "CREATE INDEX message_retrying ON message (id) WHERE state = 'queued' AND attempts > 0",
    """
    CREATE TABLE attempt (
        id INTEGER PRIMARY KEY,
        message_id INTEGER NOT NULL REFERENCES message(id),
        instance_id INTEGER NOT NULL,
        contact_id INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        started_at INTEGER NOT NULL,
        outcome TEXT CHECK (
            outcome = 'accepted' OR outcome = 'rejected' OR outcome = 'not_sent' OR outcome = 'ambiguous' OR
            outcome = 'marked_sent' OR outcome = 'marked_not_sent'),
        counted INTEGER,
        latency_ms INTEGER,
        http_status INTEGER,
        error_code TEXT,
        details TEXT,
        provider_message_id TEXT
    ) STRICT
    """,
    "CREATE INDEX attempt_message ON attempt (message_id)",
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
    """
    CREATE TABLE printed_list (
        position INTEGER PRIMARY KEY,
        message_id INTEGER NOT NULL,
        changed_at INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX contact_opted_out ON contact (id) WHERE opted_out_at IS NOT NULL",
    """
    CREATE TABLE contact_alias (
        alias TEXT PRIMARY KEY,
        contact_id INTEGER NOT NULL REFERENCES contact(id)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX contact_alias_contact ON contact_alias (contact_id)",
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
    """
    CREATE TABLE suppressed (
        digest BLOB PRIMARY KEY,
        at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE conversation (
        instance_id INTEGER NOT NULL REFERENCES instance(id),
        contact_id INTEGER NOT NULL REFERENCES contact(id),
        last_inbound_at INTEGER,
        closed_at INTEGER,
        opened_at INTEGER,
        unanswered INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (instance_id, contact_id)
    ) STRICT, WITHOUT ROWID
    """,
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
    """
    CREATE TABLE webhook_logs (
        id INTEGER PRIMARY KEY,
        received_at INTEGER NOT NULL,
        provider TEXT NOT NULL,
        is_signed INTEGER NOT NULL,
        body BLOB NOT NULL,
        status TEXT NOT NULL DEFAULT 'waiting' CHECK (
            status = 'waiting' OR status = 'done' OR status = 'ignored' OR status = 'failed'),
        events INTEGER,
        details TEXT,
        read_at INTEGER,
        instance_id INTEGER
    ) STRICT
    """,
    "CREATE INDEX webhook_logs_waiting ON webhook_logs (id) WHERE status = 'waiting'",
    "CREATE INDEX webhook_logs_failed ON webhook_logs (id) WHERE status = 'failed'",
    """
    CREATE TABLE receipt (
        id INTEGER PRIMARY KEY,
        attempt_id INTEGER,
        status TEXT NOT NULL CHECK (
            status = 'sent' OR status = 'delivered' OR status = 'read' OR status = 'played' OR
            status = 'failed'),
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
        consequence TEXT,
        restriction TEXT
    ) STRICT
    """,
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
    """
    CREATE TABLE plan_part (
        plan_id INTEGER NOT NULL,
        part INTEGER NOT NULL,
        stage TEXT NOT NULL CHECK (stage IN ('canary', 'main')),
        variant TEXT NOT NULL,
        zone TEXT NOT NULL,
        instance_id INTEGER,
        PRIMARY KEY (plan_id, part)
    ) STRICT, WITHOUT ROWID
    """,
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
    """
    CREATE TABLE run_tally (
        run_id INTEGER NOT NULL,
        state TEXT NOT NULL,
        receipt TEXT NOT NULL,
        n INTEGER NOT NULL,
        PRIMARY KEY (run_id, state, receipt)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE UNIQUE INDEX message_once_a_run ON message (run_id, contact_id) WHERE run_id IS NOT NULL",
    """
    CREATE TRIGGER run_tally_update AFTER UPDATE OF state, receipt ON message
    WHEN new.run_id IS NOT NULL AND (new.state <> old.state OR new.receipt IS NOT old.receipt) BEGIN
        UPDATE run_tally SET n = n - 1
        WHERE run_id = old.run_id AND state = old.state AND receipt = ifnull(old.receipt, '');
        INSERT INTO run_tally VALUES (new.run_id, new.state, ifnull(new.receipt, ''), 1)
        ON CONFLICT DO UPDATE SET n = n + 1;
    END
    """,
    "CREATE INDEX batch_held ON batch (id) WHERE held_at IS NOT NULL",
    "CREATE INDEX batch_run ON batch (run_id) WHERE run_id IS NOT NULL",
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
    """
    CREATE TABLE link (
        plan_id INTEGER NOT NULL,
        number INTEGER NOT NULL,
        url TEXT NOT NULL,
        PRIMARY KEY (plan_id, number)
    ) STRICT, WITHOUT ROWID
    """,
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
    """
    CREATE TABLE media_file (
        digest TEXT PRIMARY KEY,
        name TEXT,
        mime_type TEXT NOT NULL,
        size INTEGER NOT NULL,
        added_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
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
    """
    CREATE TABLE number_check (
        contact_id INTEGER PRIMARY KEY REFERENCES contact(id),
        verdict TEXT NOT NULL CHECK (verdict IN ('yes', 'no', 'unknown')),
        chat TEXT,
        checked_at INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX number_check_no ON number_check (contact_id) WHERE verdict = 'no'",
    "CREATE INDEX conversation_opened ON conversation (instance_id, opened_at) WHERE opened_at IS NOT NULL",
    """
    CREATE TRIGGER tally_move AFTER UPDATE OF instance_id ON message WHEN old.instance_id <> new.instance_id BEGIN
        UPDATE tally SET n = n - 1
        WHERE instance_id = old.instance_id AND state = new.state AND receipt = ifnull(new.receipt, '');
        INSERT INTO tally VALUES (new.instance_id, new.state, ifnull(new.receipt, ''), 1)
        ON CONFLICT DO UPDATE SET n = n + 1;
    END
    """,
)
