"""The main job of the source systems, for groups, through the gateways: rows R1 to R9 from import to resend."""

from __future__ import annotations

import json
import re
import urllib.request
from collections import Counter
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from wa_cli.sandbox import SandboxSettings
from wa_cli.sandbox.faults import parse_fault
from wa_cli.sandbox.runner import serve_in_thread
from wa_cli.services.pace import LATENESS_FORGIVEN_MS

if TYPE_CHECKING:
    from conftest import Result, Wa

    from wa_cli.bootstrap import App
    from wa_cli.sandbox import Sandbox

CHOIRS = {f"12036302524612{index:04d}@g.us": f"Choir {index}" for index in range(1, 5)}
FIRST, SECOND, THIRD, CLOSED = CHOIRS
BOARD = "120363025246129999@g.us"
WORDS = "Doors open at six"
DELAY_MS = 300


def add_device(sandbox: Sandbox, name: str, groups: list[dict[str, Any]]) -> None:
    device = {"name": name, "number": "15550783881", "paired": True, "start": True, "groups": groups}
    request = urllib.request.Request(
        f"{sandbox.url}/sandbox/devices",
        data=json.dumps(device).encode(),
        headers={"Content-Type": "application/json"},
    )
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60).close()


def good(ran: Result, exit: int = 0) -> Any:
    assert ran.exit == exit, f"{ran.exit}: {ran.out}{ran.err}"
    return ran.json()


def posts(sandbox: Sandbox) -> list[tuple[str | None, str]]:
    """(group, verdict) of every post so far."""
    return [(one.to, one.verdict.partition(":")[0]) for one in sandbox.ledger]


@pytest.mark.parametrize(("kind", "key"), [("gowa", "user:secret"), ("waha", "secret")])
def test_groups_are_imported_written_to_one_after_the_other_and_sent_to_again_where_it_failed(
    kind: str, key: str, wa: Wa, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows R1 to R9 for groups; issue 6, point 4; promises P2 and P13."""
    monkeypatch.setenv("WA_TIMEZONE", "Asia/Kolkata")
    monkeypatch.setenv("GATEWAY_KEY", key)
    with serve_in_thread(SandboxSettings(gateway_key=key)) as sandbox:
        groups: list[dict[str, Any]] = [
            {"id": group, "name": name, "participants": ["15550100001", f"1555010{group[14:18]}"]}
            for group, name in CHOIRS.items()
        ]
        groups[-1]["announcement"] = True
        groups.append({"id": BOARD, "name": "Board", "participants": []})
        add_device(sandbox, "club", groups)
        added = wa(
            "instance", "add", "club", "--transport", kind, "--url", sandbox.url, "--session", "club",
            "--key-from", "GATEWAY_KEY", "--limit", "per_minute=0", "--limit", "gap_ms=0",
        )  # fmt: skip
        assert added.exit == 0, added.err
        walk(wa, app, sandbox)


def walk(wa: Wa, app: App, sandbox: Sandbox) -> None:
    # The groups of the device, and a subgroup of some of them.
    listed = good(wa("instance", "groups", "club", "--json"))
    assert {one["group_id"]: one["name"] for one in listed["groups"]} == {**CHOIRS, BOARD: "Board"}
    imported = good(
        wa("subgroup", "import", "choirs", "--create", "--from-instance", "club", "--match", "choir*", "--json")
    )
    assert (imported["added"], imported["matched"]) == (4, 4)

    # R1, R3, R5: progressively delayed, in the schedule and again when they leave; one is closed to us.
    tried = good(wa("send", "subgroup", "choirs", WORDS, "--delay", DELAY_MS, "--dry-run", "--json"), exit=3)
    assert tried["skipped_by_reason"] == {"may_not_post": 1}
    assert tried["preflight"]["in_several"] == 1
    for group in (SECOND, THIRD):
        sandbox.inject(parse_fault("reject:400@400"), recipient=group)
    sent = good(wa("send", "subgroup", "choirs", WORDS, "--delay", DELAY_MS, "--json"), exit=3)
    assert (sent["queued"], sent["skipped"], sent["delay_ms"]) == (3, 1, DELAY_MS)
    due = [moment(one["due_at"]) for one in sent["messages"] if one["outcome"] == "queued"]
    assert [round(later - earlier, 3) for earlier, later in pairwise(due)] == [DELAY_MS / 1000] * 2
    # Without a time a drain ends once nothing is due, and the last of them may be due only then.
    drained = wa("drain", "--max-runtime", "20s", "--json")
    assert drained.exit in (0, 3), drained.err
    assert (drained.json()["sent"], drained.json()["failed"]) == (1, 2)
    assert posts(sandbox) == [
        (FIRST, "accepted"),
        (SECOND, "rejected"),
        (THIRD, "rejected"),
    ]
    with app.database.read() as connection:
        starts = [at for (at,) in connection.execute("SELECT started_at FROM attempt ORDER BY id")]
    assert min(later - earlier for earlier, later in pairwise(starts)) >= DELAY_MS - LATENESS_FORGIVEN_MS - 10

    # R6: what failed, with everything that the source systems show.
    failed = good(wa("failed", "list", "--json"))
    assert failed["count"] == 2
    for index, (one, group) in enumerate(zip(failed["failed_messages"], (SECOND, THIRD), strict=True)):
        assert (one["index"], one["type"], one["group_id"], one["body"]) == (index, "text", group, WORDS)
        assert (one["status"], one["subgroup"], one["group_name"]) == ("failed", "choirs", CHOIRS[group])
        assert one["error_code"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d IST", one["scheduled_time"])
        assert one["send_at"].isdigit()
    subgroup_id = failed["failed_messages"][0]["subgroup_id"]
    assert subgroup_id is not None

    # R7, R9: one again by its index, although it was refused for good; its history and what it belongs to stay.
    one_id = failed["failed_messages"][0]["id"]
    again = good(wa("resend", "0", "--force", "--delay", "3000", "--json"))
    assert (again["success"], again["resend_count"], again["rate_limit_delay"]) == (True, 1, 3000)
    assert good(wa("drain", "--json"))["sent"] == 1
    shown = good(wa("message", "show", one_id, "--json"))
    assert (shown["recipient"], shown["subgroup"], shown["subgroup_id"]) == (SECOND, "choirs", subgroup_id)
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["rejected", "accepted"]
    assert shown["error_code"] is None

    # R8: the rest by its subgroup.
    rest = good(wa("resend", "--subgroup", "choirs", "--force", "--delay", "0", "--json"))
    assert rest["resend_count"] == 1
    assert good(wa("drain", "--json"))["sent"] == 1
    assert good(wa("failed", "list", "--json"))["count"] == 0

    # Everybody has it once, and every message is accounted for.
    accepted = Counter(group for group, verdict in posts(sandbox) if verdict == "accepted")
    assert accepted == {FIRST: 1, SECOND: 1, THIRD: 1}
    stats = good(wa("status", "--json"))["stats"]
    assert stats["skipped"] == 1
    assert stats["sent"] + stats["delivered"] + stats["read"] == 3
    assert sum(stats.values()) == 4


def moment(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
