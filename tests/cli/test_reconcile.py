"""`wa reconcile`: unknown outcomes with their evidence, and settling them by a person's word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from posting import ACCEPTED, BUSY, CUT, post, start, take_lease

if TYPE_CHECKING:
    from tests.cli.conftest import Wa
    from wa_cli.bootstrap import App

ADA, BEN, EVA = "+6581230001", "+6581230002", "+6581230003"


def leave_unknown(wa: Wa, app: App, *recipients: str, flags: tuple[str, ...] = ()) -> list[str]:
    answer = wa("send", "to", *recipients, "--text", "Doors open at six", *flags, "--json").json()
    names = [one["id"] for one in answer["messages"]]
    for name in names:
        post(app, name, CUT)
    return names


def test_unknown_outcomes_are_listed_with_their_evidence_and_exit_5(wa: Wa, app: App) -> None:
    """Promise P4."""
    leave_unknown(wa, app, ADA)
    answer = wa("reconcile", "--json")
    assert answer.exit == 5
    document = answer.json()
    assert document["count"] == 1
    (one,) = document["unknown_messages"]
    expected = {
        "id": "m1",
        "state": "unknown",
        "recipient": ADA,
        "evidence": "the answer broke off",
        "evidence_code": "answer_cut",
        "http_status": 200,
        "latency_ms": 87,
        "tag": f"wa1.{app.database.read_install()}.1",
        "on_unknown": "hold",
        "attempts": 1,
    }
    assert {name: one[name] for name in expected} == expected
    assert 0 <= one["age_seconds"] < 60
    words = wa("reconcile")
    assert words.exit == 5
    assert "answer_cut, HTTP 200: the answer broke off" in words.out
    assert "never sent again by itself" in words.out
    assert "--mark sent" in words.err


def test_explained_each_unknown_says_what_could_settle_it(wa: Wa, app: App) -> None:
    """Promise P5: and `presumed` stands there only with the evidence for it."""
    leave_unknown(wa, app, ADA)
    words = wa("reconcile", "--explain")
    assert words.exit == 5
    assert "no webhook has ever come for this number" in words.out
    assert "presumed" not in words.out
    with app.database.write() as connection:
        connection.execute("UPDATE attempt SET started_at = started_at - 3600000")
        connection.execute(
            "UPDATE instance SET webhooks_since = ?, last_webhook_at = ?", (0, app.clock.wall_ms() - 60_000)
        )
    words = wa("reconcile", "--explain")
    assert "presumed  not sent" in words.out
    assert "one that carries the tag settles it by itself" in words.out
    (one,) = wa("reconcile", "--json").json()["unknown_messages"]
    assert one["presumed_not_sent"] is True
    assert wa("reconcile", "--mark", "sent", "m1", "--explain").exit == 2


def test_without_unknown_outcomes_it_exits_0(wa: Wa, app: App) -> None:
    wa("send", "to", ADA, "--text", "Hello")
    post(app, "m1", ACCEPTED)
    answer = wa("reconcile", "--json")
    assert (answer.exit, answer.json()) == (0, {"unknown_messages": [], "count": 0})
    assert wa("reconcile").err == "no unknown outcomes\n"


def test_what_a_dead_process_left_on_its_way_is_listed(wa: Wa, app: App) -> None:
    """Promises P3, P4, P9: found by the look itself, no daemon needed."""
    wa("send", "to", ADA, "--text", "Hello")
    start(app, take_lease(app), 1)
    assert wa("reconcile").exit == 0  # its sender lives: the outcome may still come
    app.owner.close()
    answer = wa("reconcile", "--json")
    assert answer.exit == 5
    assert answer.json()["unknown_messages"][0]["evidence_code"] == "worker_died"


def test_marked_as_sent_it_is_sent(wa: Wa, app: App) -> None:
    """Promise P2: and can never be posted again."""
    leave_unknown(wa, app, ADA)
    answer = wa("reconcile", "--mark", "sent", "m1", "--note", "she wrote back", "--json")
    assert answer.exit == 0
    assert answer.json() == {"marked": ["m1"], "as": "sent", "refused": [], "remaining": 0}
    shown = wa("message", "show", "m1", "--json").json()
    assert (shown["state"], shown["error_code"]) == ("sent", None)
    assert shown["attempts"][0]["outcome"] == "marked_sent"
    assert shown["attempts"][0]["error_code"] == "answer_cut"
    assert [(one["rule"], one["details"]) for one in shown["decisions"]] == [("marked_sent", "she wrote back")]
    assert wa("resend", "m1", "--force").exit == 6
    assert wa("reconcile").exit == 0


def test_marked_as_not_sent_it_is_on_the_list_of_failures_and_may_be_resent(wa: Wa, app: App) -> None:
    """Promise P2: a person said so for that unknown."""
    leave_unknown(wa, app, ADA)
    answer = wa("reconcile", "--mark", "not-sent", "m1")
    assert answer.exit == 0
    assert "wa resend m1" in answer.err
    (one,) = wa("failed", "list", "--json").json()["failed_messages"]
    assert (one["id"], one["error_code"], one["reason"]) == ("m1", "not_sent", "marked_not_sent")
    assert wa("resend", "m1").exit == 0
    shown = wa("message", "show", "m1", "--json").json()
    assert shown["state"] == "queued"
    assert shown["attempts"][0]["outcome"] == "marked_not_sent"


def test_only_unknown_outcomes_can_be_marked(wa: Wa, app: App) -> None:
    """Promise P3: no person's word turns an answer around."""
    leave_unknown(wa, app, ADA)
    wa("send", "to", BEN, EVA, "--text", "Hello")
    post(app, "m2", ACCEPTED)
    post(app, "m3", BUSY)
    answer = wa("reconcile", "--mark", "not-sent", "m1", "m2", "m3", "--json")
    assert answer.exit == 3
    assert answer.json()["marked"] == ["m1"]
    assert answer.json()["refused"] == [
        {"id": "m2", "reason": "it is sent, not unknown"},
        {"id": "m3", "reason": "it is failed, not unknown"},
    ]
    assert wa("message", "show", "m2", "--json").json()["state"] == "sent"


def test_marked_as_sent_after_two_unknown_posts_the_last_one_counts(wa: Wa, app: App) -> None:
    leave_unknown(wa, app, ADA, flags=("--on-unknown", "resend"))
    app.queue.requeue_unknown(older_than_ms=2**62, now_ms=app.clock.wall_ms())
    post(app, "m1", CUT)
    assert wa("reconcile", "--json").json()["unknown_messages"][0]["attempts"] == 2
    wa("reconcile", "--mark", "sent", "m1")
    shown = wa("message", "show", "m1", "--json").json()
    assert [one["outcome"] for one in shown["attempts"]] == ["ambiguous", "marked_sent"]


def test_an_id_that_does_not_exist_stops_the_call(wa: Wa, app: App) -> None:
    leave_unknown(wa, app, ADA)
    assert wa("reconcile", "--mark", "sent", "m1", "m99").exit == 2
    assert wa("message", "show", "m1", "--json").json()["state"] == "unknown"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("m1",), "--mark sent or --mark not-sent"),
        (("--mark", "sent"), "which messages"),
        (("--mark", "maybe", "m1"), "'maybe' is no outcome"),
        (("--mark", "sent", "1"), "'1' is not a message id"),
        (("--note", "hm"), "--mark sent or --mark not-sent"),
        (("--mark", "sent", "m1", "--note", "x" * 501), "longer than 500"),
    ],
)
def test_a_call_that_says_half_of_it_is_refused(wa: Wa, app: App, words: tuple[str, ...], said: str) -> None:
    leave_unknown(wa, app, ADA)
    answer = wa("reconcile", *words)
    assert answer.exit == 2
    assert said in answer.err
    assert wa("message", "show", "m1", "--json").json()["state"] == "unknown"


def test_the_ledger_adds_up_and_the_store_is_sound_after_settling(wa: Wa, app: App) -> None:
    """Promises P10, P13."""
    leave_unknown(wa, app, ADA, BEN, EVA)
    wa("reconcile", "--mark", "sent", "m1")
    wa("reconcile", "--mark", "not-sent", "m2")
    stats = app.messages.read_stats()
    assert (stats["sent"], stats["failed"], stats["unknown"], sum(stats.values())) == (1, 1, 1, 3)
    assert wa("db", "check").exit == 0
