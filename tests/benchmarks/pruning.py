"""Old history on its way out: `wa db prune` on a large file, and who has to wait meanwhile."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Final

from tests.benchmarks.importing import bystander, weigh
from tests.benchmarks.measuring import Figure, environment, percentile
from tests.benchmarks.world import DAY_MS, WORDS, app_for, queue_messages, settings_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.benchmarks.measuring import Bench

# What a message leaves behind that was sent and read, 300 days before now; each in words of its own.
AGE: Final = (
    """INSERT INTO content (hash, body) SELECT randomblob(32), body || id FROM message
        CROSS JOIN (SELECT body FROM content LIMIT 1) WHERE id <> (SELECT max(id) FROM message)""",
    """UPDATE message SET content_id = content_id + id, state = 'sent', receipt = 'read', changed_at = :aged
        WHERE id <> (SELECT max(id) FROM message)""",
    "UPDATE live_key SET content_id = content_id + message_id WHERE message_id <> (SELECT max(id) FROM message)",
    "UPDATE live_key SET expires_at = :aged",
    "UPDATE batch SET created_at = :aged",
    """INSERT INTO attempt (message_id, instance_id, contact_id, epoch, started_at, outcome, counted,
        provider_message_id) SELECT id, 1, contact_id, 1, :aged, 'accepted', 1, 'wamid.' || id FROM message""",
    *(
        f"""INSERT INTO receipt (attempt_id, status, provider_message_id, at, received_at, rule)
        SELECT id, '{status}', provider_message_id, :aged, :aged, 'applied' FROM attempt"""
        for status in ("sent", "delivered", "read")
    ),
)


def fill_with_history(path: Path, count: int) -> None:
    """So many messages of long ago, and one that waits."""
    with closing(app_for(path)) as app:
        queue_messages(app, count + 1, words=WORDS)
        aged_ms = app.clock.wall_ms() - 300 * DAY_MS
        with app.database.write() as connection:
            for statement in AGE:
                connection.execute(statement, {"aged": aged_ms})


def measure_prune(bench: Bench) -> Iterator[Figure]:
    """A million old messages, each with words of its own, out of the file: time, memory, and others who write."""
    count = bench.size.depths[min(2, len(bench.size.depths) - 1)]
    path = bench.new_path()
    fill_with_history(path, count)
    env = environment(**settings_for(path))
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "wa_cli", "db", "prune", "--older-than", "180d", "-q", "--yes"]
    with bystander(path) as waits:
        seconds, mib = weigh(command, env, bench.folder)
    with closing(app_for(path)) as app:
        left = sum(app.messages.read_stats().values())
    if left != 1:
        raise RuntimeError(f"{left - 1} old messages were left")
    yield Figure(
        name=f"prune of {count:,} messages",
        value=count / seconds,
        unit="messages/s",
        note=f"{seconds:.1f} s for the whole command, beside another writer",
    )
    yield Figure(name=f"prune of {count:,}, peak memory", value=mib, unit="MiB", bar="< 250 MB")
    yield Figure(
        name=f"prune of {count:,}, longest wait of another writer",
        value=max(waits, default=0.0),
        unit="ms",
        bar="<= 200 ms",
        note=f"p99 {percentile(waits, 0.99):.1f} of {len(waits):,} writes" if waits else "",
    )
