"""`wa failed`: the list of failures in the source systems' shape, its export, and taking entries off it."""

from __future__ import annotations

import csv
import json
import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from posting import ACCEPTED, BUSY, CUT, PERMANENT, post

if TYPE_CHECKING:
    from tests.cli.conftest import Wa
    from wa_cli.bootstrap import App

ADA, BEN, EVA = "+6581230001", "+6581230002", "+6581230003"
GROUP = "120363012345678901@g.us"
NEW_YEAR_MS = 1_640_995_200_000


def fail(wa: Wa, app: App, *recipients: str, text: str = "Doors open at six", subgroup: str | None = None) -> None:
    """Messages to these recipients that failed for want of attempts."""
    if subgroup is None:
        answer = wa("send", "to", *recipients, "--text", text, "--json")
    else:
        wa("subgroup", "create", subgroup)
        wa("subgroup", "add", subgroup, *recipients)
        answer = wa("send", "subgroup", subgroup, text, "--json")
    for one in answer.json()["messages"]:
        post(app, one["id"], BUSY)


def listed(wa: Wa, *flags: str) -> list[str]:
    return [one["id"] for one in wa("failed", "list", *flags, "--json").json()["failed_messages"]]


def test_the_list_has_the_source_systems_shape(wa: Wa, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows R3, R6: type, chat, body, send_at, status, error, local scheduled time, subgroup, count."""
    monkeypatch.setenv("WA_TIMEZONE", "Asia/Kolkata")
    fail(wa, app, ADA, subgroup="vip")
    with app.database.write() as connection:
        connection.execute("UPDATE message SET scheduled_at = ?", (NEW_YEAR_MS,))
    document = wa("failed", "list", "--json").json()
    assert document["count"] == 1
    (one,) = document["failed_messages"]
    expected = {
        "index": 0,
        "id": "m1",
        "type": "text",
        "group_id": ADA,
        "recipient": ADA,
        "body": "Doors open at six",
        "send_at": "1640995200",
        "status": "failed",
        "error_code": "131000",
        "error_details": "try later",
        "scheduled_time": "2022-01-01 05:30 IST",
        "subgroup_id": "1",
        "subgroup": "vip",
        "attempts": 1,
    }
    assert {name: one[name] for name in expected} == expected


def test_the_chat_of_a_group_message_is_the_group(wa: Wa, app: App) -> None:
    """Row R6.  The Cloud API refuses groups, so the row is put in as another transport would."""
    fail(wa, app, ADA)
    with app.database.write() as connection:
        connection.execute("UPDATE contact SET address = ?, kind = 'group'", (GROUP,))
    (one,) = wa("failed", "list", "--json").json()["failed_messages"]
    assert (one["group_id"], one["recipient"], one["subgroup_id"]) == (GROUP, GROUP, None)


def test_an_empty_list_is_a_list(wa: Wa, app: App) -> None:
    assert app.messages.read_stats()["failed"] == 0
    answer = wa("failed", "list", "--json")
    assert (answer.exit, answer.json()) == (0, {"failed_messages": [], "count": 0})
    assert wa("failed", "list").err == "no failed messages\n"


def test_only_what_failed_is_on_the_list_oldest_first(wa: Wa, app: App) -> None:
    """Promises P3, P4: an unknown outcome is no failure, nor is a retry that waits."""
    wa("send", "to", ADA, BEN, EVA, "+6581230004", "--text", "Hello")
    post(app, "m1", ACCEPTED)
    post(app, "m2", CUT)
    post(app, "m3", BUSY)
    post(app, "m4", PERMANENT)
    assert listed(wa) == ["m3", "m4"]


def test_the_list_of_a_subgroup_is_its_own_and_numbered_from_zero(wa: Wa, app: App) -> None:
    """Row R8."""
    fail(wa, app, ADA)
    fail(wa, app, BEN, EVA, subgroup="vip")
    document = wa("failed", "list", "--subgroup", "vip", "--json").json()
    assert [(one["index"], one["id"]) for one in document["failed_messages"]] == [(0, "m2"), (1, "m3")]
    assert listed(wa, "--limit", "1") == ["m1"]


def test_the_table_is_tab_separated_for_pipes_and_whole(wa: Wa, app: App) -> None:
    fail(wa, app, ADA, text="x" * 300)
    answer = wa("failed", "list")
    cells = answer.out.rstrip("\n").split("\t")
    assert cells[:3] == ["0", "m1", ADA]
    assert cells[-1] == "x" * 300
    assert "wa resend 0" in answer.err


def test_ten_thousand_failures_are_one_document(wa: Wa, app: App) -> None:
    """Rows R6, R7: every one has its index, however long the list."""
    fail(wa, app, ADA)
    with app.database.write() as connection:
        connection.execute(
            """INSERT INTO message (instance_id, batch_id, contact_id, content_id, state, lane, due_at, scheduled_at,
                reason, error_code, changed_at)
            WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 9999)
            SELECT 1, 1, 1, 1, 'failed', 0, 0, 0, 'permanent', '131026', 0 FROM number"""
        )
    document = wa("failed", "list", "--json").json()
    assert document["count"] == 10_000
    assert [one["index"] for one in document["failed_messages"]] == list(range(10_000))
    assert app.failures.count_printed() == 10_000


# --- show ---


@pytest.mark.parametrize("word", ["m1", "0"])
def test_show_says_what_the_error_means_and_what_mends_it(wa: Wa, app: App, word: str) -> None:
    wa("send", "to", ADA, "--text", "Hello")
    post(app, "m1", PERMANENT)
    listed(wa)
    shown = wa("failed", "show", word, "--json").json()
    assert shown["error_code"] == "131026"
    assert shown["meaning"]
    assert shown["fix"]
    assert "failed for good" in shown["resend_refusal"]
    assert [one["outcome"] for one in shown["history"]] == ["rejected"]
    words = wa("failed", "show", word).out
    assert shown["meaning"] in words
    assert shown["fix"] in words


def test_show_of_what_did_not_fail_says_what_it_is(wa: Wa) -> None:
    wa("send", "to", ADA, "--text", "Hello")
    answer = wa("failed", "show", "m1", "--json")
    assert (answer.exit, answer.error()["code"]) == (2, "not_failed")
    assert "it is queued" in answer.error()["message"]


# --- export ---


def test_an_export_is_for_its_owner_alone_and_harmless_in_a_spreadsheet(wa: Wa, app: App) -> None:
    """Row R6; a number's plus and a text's equals sign would be run as formulas."""
    fail(wa, app, ADA, text="=1+1")
    target = wa.folder / "failed.csv"
    assert wa("failed", "export", target).exit == 0
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    (row,) = csv.DictReader(target.read_text("utf-8").splitlines())
    assert (row["id"], row["recipient"], row["body"], row["error_code"]) == ("m1", f"'{ADA}", "'=1+1", "131000")
    raw = wa("failed", "export", "--raw").out
    assert f"{ADA},=1+1," in raw


def test_an_export_is_json_where_its_name_says_so(wa: Wa, app: App) -> None:
    fail(wa, app, ADA, BEN)
    target = wa.folder / "failed.json"
    assert wa("failed", "export", target, "--json").json() == {"file": str(target), "exported": 2}
    assert json.loads(target.read_text())["count"] == 2
    assert wa("failed", "export", "--json").json()["count"] == 2


def test_an_export_never_replaces_a_file_unasked(wa: Wa, app: App) -> None:
    fail(wa, app, ADA)
    target = wa.write("mine.csv", "precious")
    assert wa("failed", "export", target).exit == 2
    assert target.read_text() == "precious"
    assert wa("failed", "export", target, "--force").exit == 0


def test_an_export_leaves_the_printed_list_alone(wa: Wa, app: App) -> None:
    """Row R7: an index means the list that was printed, not one that went into a file."""
    fail(wa, app, ADA, BEN)
    listed(wa, "--limit", "1")
    wa("failed", "export")
    assert app.failures.count_printed() == 1


def test_a_wrong_subgroup_makes_no_file(wa: Wa, app: App) -> None:
    fail(wa, app, ADA, subgroup="vip")
    target = wa.folder / "failed.csv"
    answer = wa("failed", "export", target, "--subgroup", "vpi")
    assert answer.exit == 2
    assert "did you mean 'vip'?" in answer.err
    assert not target.exists()


# --- dismiss ---


def test_a_dismissed_failure_leaves_the_list_and_stays_in_the_ledger(wa: Wa, app: App) -> None:
    """Promise P13."""
    fail(wa, app, ADA, BEN)
    listed(wa)
    answer = wa("failed", "dismiss", "0", "--json")
    assert (answer.exit, answer.json()) == (0, {"dismissed": 1, "refused": []})
    assert listed(wa) == ["m2"]
    assert app.messages.read_stats()["failed"] == 2
    assert wa("message", "show", "m1", "--json").json()["decisions"][-1]["rule"] == "dismissed"


def test_dismissing_twice_is_already_so(wa: Wa, app: App) -> None:
    fail(wa, app, ADA)
    wa("failed", "dismiss", "m1")
    assert wa("failed", "dismiss", "m1", "--json").json() == {"dismissed": 0, "refused": []}


def test_only_failures_can_be_dismissed(wa: Wa, app: App) -> None:
    fail(wa, app, ADA)
    wa("send", "to", BEN, "--text", "Hello")
    answer = wa("failed", "dismiss", "m1", "m2", "--json")
    assert (answer.exit, answer.json()["dismissed"]) == (3, 1)
    assert answer.json()["refused"][0]["id"] == "m2"


def test_dismissing_all_wants_a_yes(wa: Wa, app: App) -> None:
    fail(wa, app, ADA, BEN)
    assert wa("failed", "dismiss", "--all").exit == 6
    assert len(listed(wa)) == 2
    assert wa("failed", "dismiss", "--all", "--yes", "--json").json()["dismissed"] == 2
    assert listed(wa) == []


@pytest.mark.parametrize("flags", [(), ("m1", "--all")])
def test_dismiss_wants_to_know_which(wa: Wa, app: App, flags: tuple[str, ...]) -> None:
    fail(wa, app, ADA)
    assert wa("failed", "dismiss", *flags, "--yes").exit == 2


def test_the_time_of_a_failure_is_told_in_utc(wa: Wa, app: App) -> None:
    before = datetime.now(UTC)
    fail(wa, app, ADA)
    (one,) = wa("failed", "list", "--json").json()["failed_messages"]
    assert one["failed_at"].endswith("Z")
    assert abs((datetime.fromisoformat(one["failed_at"]) - before).total_seconds()) < 60
