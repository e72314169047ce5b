"""`wa message`: the truth about one message, and taking messages out of the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from posting import ACCEPTED, CUT, PASSING, PERMANENT, finish, post, start, take_lease

from wa_cli.domain.receipt import Standing

if TYPE_CHECKING:
    from tests.cli.conftest import Wa
    from wa_cli.bootstrap import App

ADA, BEN, EVA = "+6581230001", "+6581230002", "+6581230003"


def queue(wa: Wa, *recipients: str, text: str = "Doors open at six", flags: tuple[str, ...] = ()) -> list[str]:
    answer = wa("send", "to", *recipients, "--text", text, *flags, "--json").json()
    return [one["id"] for one in answer["messages"]]


def state(wa: Wa, name: str) -> str:
    return str(wa("message", "show", name, "--json").json()["state"])


# --- list ---


def test_the_list_is_newest_first_and_its_cursor_goes_on_where_a_page_ended(wa: Wa) -> None:
    queue(wa, ADA, BEN, EVA)
    first = wa("message", "list", "--limit", "2", "--json").json()
    assert [one["id"] for one in first["messages"]] == ["m3", "m2"]
    assert (first["count"], first["next"]) == (2, "m2")
    rest = wa("message", "list", "--limit", "2", "--after", first["next"], "--json").json()
    assert [one["id"] for one in rest["messages"]] == ["m1"]
    assert rest["next"] is None


def test_the_last_full_page_has_no_cursor(wa: Wa) -> None:
    queue(wa, ADA, BEN)
    assert wa("message", "list", "--limit", "2", "--json").json()["next"] is None


def test_the_list_is_filtered_by_state_subgroup_and_recipient(wa: Wa, app: App) -> None:
    """Row R3."""
    wa("subgroup", "create", "vip")
    wa("subgroup", "add", "vip", ADA, BEN)
    wa("send", "subgroup", "vip", "Hello")
    queue(wa, EVA)
    post(app, "m1", ACCEPTED)

    def ids(*flags: str) -> list[str]:
        return [one["id"] for one in wa("message", "list", *flags, "--json").json()["messages"]]

    assert ids("--state", "sent") == ["m1"]
    assert ids("--state", "queued") == ["m3", "m2"]
    assert ids("--state", "failed") == []
    assert ids("--subgroup", "VIP") == ["m2", "m1"]
    assert ids("--subgroup", "vip", "--state", "queued") == ["m2"]
    assert ids("--recipient", "+65 8123 0003") == ["m3"]


def test_a_deleted_subgroup_still_names_its_messages(wa: Wa) -> None:
    wa("subgroup", "create", "vip")
    wa("subgroup", "add", "vip", ADA)
    wa("send", "subgroup", "vip", "Hello")
    assert wa("subgroup", "delete", "vip", "--yes").exit == 0
    assert wa("message", "list", "--subgroup", "vip", "--json").json()["count"] == 1


def test_every_shown_state_can_be_asked_for(wa: Wa) -> None:
    queue(wa, ADA)
    for word in Standing:
        answer = wa("message", "list", "--state", word, "--json")
        assert (answer.exit, answer.json()["count"]) == (0, 1 if word == "queued" else 0)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--state", "queud"), "did you mean queued?"),
        (("--subgroup", "vpi"), "did you mean 'vip'?"),
        (("--campaign", "spring"), "no campaign named 'spring'"),
        (("--after", "7"), "'7' is not a message id"),
        (("--recipient", "hello"), "hello"),
    ],
)
def test_a_filter_that_means_nothing_is_refused_by_name(wa: Wa, flags: tuple[str, ...], said: str) -> None:
    wa("subgroup", "create", "vip")
    answer = wa("message", "list", *flags)
    assert answer.exit == 2
    assert said in answer.err


# --- show and explain ---


def test_show_has_the_documented_shape(wa: Wa, app: App) -> None:
    """Row R3; the shape is the one that scripts read."""
    wa("subgroup", "create", "vip")
    wa("subgroup", "add", "vip", ADA)
    wa("send", "subgroup", "vip", "Hello")
    post(app, "m1", ACCEPTED)
    shown = wa("message", "show", "m1", "--json").json()
    assert shown["subgroup_id"] == "1"
    expected = {
        "id": "m1",
        "state": "sent",
        "recipient": ADA,
        "subgroup": "vip",
        "campaign": None,
        "instance": "default",
        "provider_message_id": "wamid.1",
    }
    assert {name: shown[name] for name in expected} == expected
    assert shown["due_at"].endswith("Z")
    (attempt,) = shown["attempts"]
    assert (attempt["n"], attempt["outcome"], attempt["http_status"]) == (1, "accepted", 200)
    assert (attempt["error_code"], attempt["latency_ms"]) == (None, 87)
    assert attempt["started_at"].endswith("Z")


def test_a_delivered_message_is_shown_by_its_receipt_alone(wa: Wa, app: App) -> None:
    """Promise P13: in one bucket, the furthest one."""
    queue(wa, ADA)
    post(app, "m1", ACCEPTED)
    with app.database.write() as connection:
        connection.execute("UPDATE message SET receipt = 'read' WHERE id = 1")
    assert state(wa, "m1") == "read"
    assert wa("message", "list", "--state", "read", "--json").json()["count"] == 1
    assert wa("message", "list", "--state", "sent", "--json").json()["count"] == 0
    assert app.messages.read_stats() == {
        "queued": 0, "sending": 0, "sent": 0, "delivered": 0, "read": 1,
        "failed": 0, "unknown": 0, "skipped": 0, "expired": 0, "cancelled": 0,
    }  # fmt: skip


def test_a_retry_that_waits_is_counted_and_explained(wa: Wa, app: App) -> None:
    """Row T5: a failure is stored, with the time of its next attempt."""
    queue(wa, ADA, BEN)
    post(app, "m1", PASSING)
    assert app.messages.count_waiting_retries() == 1
    explained = wa("message", "explain", "m1", "--json").json()
    assert explained["state"] == "queued"
    assert explained["error_code"] == "131016"
    assert "growing waits" in explained["why_due"]
    assert [one["event"] for one in explained["history"]] == ["queued", "attempt 1", "retry"]
    assert "131016: service unavailable" in explained["history"][1]["text"]


def test_explain_says_by_which_call_and_why_then(wa: Wa) -> None:
    queue(wa, ADA, BEN, EVA, flags=("--at", "in 2h", "--delay", "3000", "--on-unknown", "resend"))
    answer = wa("message", "explain", "m3")
    assert answer.exit == 0
    assert "`wa send to`: batch b1, number 3 of 3" in answer.out
    assert "--at in 2h + 2 x 3000 ms" in answer.out
    assert "unknown outcome: resend" in answer.out
    assert "nobody sends" in answer.out
    assert "wa message cancel m3" in answer.out


def test_explain_names_what_moved_the_due_time_even_when_it_is_over(wa: Wa, app: App) -> None:
    queue(wa, ADA)
    post(app, "m1", PERMANENT)
    wa("resend", "m1", "--force")
    post(app, "m1", ACCEPTED)
    assert wa("message", "explain", "m1", "--json").json()["why_due"] == (
        "at once; then moved: queued again by `wa resend`"
    )


def test_explain_shows_the_default_key_and_the_callers_own(wa: Wa) -> None:
    queue(wa, ADA, flags=("--key", "order:7:confirm"))
    shown = wa("message", "explain", "m1", "--json").json()
    assert shown["key"] == "order:7:confirm"
    assert len(shown["idempotency_key"]) == 64
    assert "order:7:confirm (given by the caller)" in wa("message", "explain", "m1").out


def test_explain_names_the_evidence_of_each_attempt(wa: Wa, app: App) -> None:
    """Promise P4."""
    queue(wa, ADA)
    post(app, "m1", CUT)
    shown = wa("message", "explain", "m1")
    install = app.database.read_install()
    assert f"epoch 1, tag wa1.{install}.1" in shown.out
    assert "answer_cut: the answer broke off, HTTP 200, 87 ms" in shown.out
    assert "wa reconcile --mark sent m1" in shown.out


@pytest.mark.parametrize(
    ("outcome", "word", "said"),
    [
        (ACCEPTED, "sent", "not yet delivered"),
        (PERMANENT, "failed", "a resend would refuse it"),
        (CUT, "unknown", "never sent again by itself"),
    ],
)
def test_explain_says_what_happens_next(wa: Wa, app: App, outcome: Any, word: str, said: str) -> None:
    queue(wa, ADA)
    post(app, "m1", outcome)
    shown = wa("message", "explain", "m1", "--json").json()
    assert shown["state"] == word
    assert said in shown["next"]["text"]


def test_explain_says_that_a_paused_instance_is_what_it_waits_for(wa: Wa, app: App) -> None:
    queue(wa, ADA)
    app.instances.pause(1, reason="the token is no longer valid", now_ms=app.clock.wall_ms())
    step = wa("message", "explain", "m1", "--json").json()["next"]
    assert "paused (the token is no longer valid)" in step["text"]
    assert "wa instance resume default" in step["commands"]


def test_what_a_dead_process_left_is_unknown_on_every_screen(wa: Wa, app: App) -> None:
    """Promises P3, P4: never shown as on its way, nor as failed."""
    queue(wa, ADA)
    lease = take_lease(app)
    start(app, lease, 1)
    assert state(wa, "m1") == "sending"
    app.owner.close()  # the process is gone; its lock file with it
    assert wa("message", "list", "--json").json()["messages"][0]["state"] == "unknown"
    shown = wa("message", "show", "m1", "--json").json()
    assert shown["attempts"][0]["error_code"] == "worker_died"


def test_words_of_a_message_cannot_steer_the_terminal(wa: Wa) -> None:
    queue(wa, ADA, text="\x1b[2Jred \u202e evil")
    for command in (("list",), ("show", "m1"), ("explain", "m1")):
        out = wa("message", *command).out
        assert "\x1b" not in out
        assert "\u202e" not in out
        assert "\\e[2Jred" in out


def test_damaged_words_are_said_to_be_damaged(wa: Wa, app: App) -> None:
    queue(wa, ADA)
    with app.database.write() as connection:
        connection.execute("UPDATE content SET body = replace(body, 'six', 'ten')")
    assert "the stored words are damaged" in wa("message", "show", "m1").out
    assert wa("message", "show", "m1", "--json").json()["body"] is None


@pytest.mark.parametrize("command", ["show", "explain", "cancel"])
@pytest.mark.parametrize(("word", "said"), [("m99", "there is no message m99"), ("99", "'99' is not a message id")])
def test_an_id_that_means_nothing_is_refused(wa: Wa, command: str, word: str, said: str) -> None:
    queue(wa, ADA)
    answer = wa("message", command, word, "--json")
    assert answer.exit == 2
    assert said in answer.error()["message"]


def test_without_a_database_it_says_how_to_make_one(wa: Wa) -> None:
    answer = wa("message", "list", "--json")
    assert (answer.exit, answer.error()["code"]) == (2, "no_database")


# --- cancel ---


def test_a_cancelled_message_never_leaves(wa: Wa, app: App) -> None:
    """Promise P7: nothing of it is left for a turn to take."""
    queue(wa, ADA, BEN)
    answer = wa("message", "cancel", "m1", "--json")
    assert (answer.exit, answer.json()["cancelled"]) == (0, 1)
    with app.queue.turn() as turn:
        waiting = [
            row.message_id
            for lane, _due in turn.lane_heads(1)
            for row in turn.read_due(1, lane, now_ms=2**62, limit=10)
        ]
    assert waiting == [2]
    assert [one["rule"] for one in wa("message", "show", "m1", "--json").json()["decisions"]] == ["cancelled"]


def test_cancelling_twice_is_already_so(wa: Wa) -> None:
    queue(wa, ADA)
    wa("message", "cancel", "m1")
    answer = wa("message", "cancel", "m1", "--json")
    assert (answer.exit, answer.json()) == (0, {"cancelled": 0, "not_cancelled": [], "maybe_sent": []})


def test_what_is_on_its_way_or_over_is_named_and_the_rest_is_cancelled(wa: Wa, app: App) -> None:
    """Promises P3, P7."""
    queue(wa, ADA, BEN, EVA)
    post(app, "m1", ACCEPTED)
    lease = take_lease(app)
    due, attempt_id = start(app, lease, 2)
    answer = wa("message", "cancel", "m1", "m2", "m3", "--json")
    assert answer.exit == 3
    document = answer.json()
    assert document["cancelled"] == 1
    assert [(one["id"], one["state"]) for one in document["not_cancelled"]] == [("m1", "sent"), ("m2", "sending")]
    assert "it is on its way" in document["not_cancelled"][1]["reason"]
    finish(app, due, attempt_id, ACCEPTED)
    assert state(wa, "m2") == "sent"


def test_a_subgroups_waiting_messages_are_cancelled_and_nobody_elses(wa: Wa) -> None:
    """Promise P7."""
    wa("subgroup", "create", "vip")
    wa("subgroup", "add", "vip", ADA, BEN)
    wa("send", "subgroup", "vip", "Hello")
    queue(wa, EVA)
    answer = wa("message", "cancel", "--subgroup", "vip", "--yes", "--json")
    assert (answer.exit, answer.json()["cancelled"]) == (0, 2)
    assert [state(wa, name) for name in ("m1", "m2", "m3")] == ["cancelled", "cancelled", "queued"]


@pytest.mark.parametrize("flags", [("--all",), ("--subgroup", "vip")])
def test_cancelling_many_wants_a_yes(wa: Wa, flags: tuple[str, ...]) -> None:
    wa("subgroup", "create", "vip")
    wa("subgroup", "add", "vip", ADA)
    wa("send", "subgroup", "vip", "Hello")
    answer = wa("message", "cancel", *flags, "--json")
    assert (answer.exit, answer.error()["code"]) == (6, "not_confirmed")
    assert "cancel 1 waiting messages" in answer.error()["message"]
    assert state(wa, "m1") == "queued"


def test_a_batch_is_cancelled_by_its_id(wa: Wa) -> None:
    queue(wa, ADA, BEN)
    queue(wa, EVA)
    assert wa("message", "cancel", "--batch", "b1", "--json").json()["cancelled"] == 2
    assert [state(wa, name) for name in ("m1", "m2", "m3")] == ["cancelled", "cancelled", "queued"]


def test_a_resend_is_cancelled_by_its_batch(wa: Wa, app: App) -> None:
    """Row R9: the resent message keeps its own batch; the resend's batch is what it waits in."""
    queue(wa, ADA, BEN)
    post(app, "m1", PERMANENT)
    (batch_id,) = wa("resend", "m1", "--force", "--json").json()["batch_ids"]
    assert wa("message", "cancel", "--batch", batch_id, "--json").json()["cancelled"] == 1
    assert [state(wa, name) for name in ("m1", "m2")] == ["cancelled", "queued"]


def test_cancelling_all_names_what_is_in_flight(wa: Wa, app: App) -> None:
    """Promise P7."""
    queue(wa, ADA, BEN)
    start(app, take_lease(app), 1)
    answer = wa("message", "cancel", "--all", "--yes", "--json")
    assert answer.exit == 3
    assert answer.json()["cancelled"] == 1
    assert [one["id"] for one in answer.json()["not_cancelled"]] == ["m1"]


@pytest.mark.parametrize("words", [("m1",), ("--all", "--yes")])
def test_a_cancel_during_the_post_keeps_a_refused_message_from_coming_back(
    wa: Wa, app: App, words: tuple[str, ...]
) -> None:
    """Promise P7: the wish is remembered, whatever becomes of the post."""
    queue(wa, ADA)
    lease = take_lease(app)
    started = start(app, lease, 1)
    assert wa("message", "cancel", *words, "--json").exit == 3
    finish(app, *started, PASSING)
    assert state(wa, "m1") == "cancelled"
    assert "it is not tried again" in wa("message", "explain", "m1").out


def test_a_cancel_during_the_post_leaves_an_accepted_message_sent(wa: Wa, app: App) -> None:
    """Promise P3."""
    queue(wa, ADA)
    lease = take_lease(app)
    started = start(app, lease, 1)
    wa("message", "cancel", "m1")
    finish(app, *started, ACCEPTED)
    assert state(wa, "m1") == "sent"


def test_a_cancel_says_when_an_earlier_attempt_may_have_arrived(wa: Wa, app: App) -> None:
    """Promise P3: `cancelled` must not read as `never sent`."""
    queue(wa, ADA, flags=("--on-unknown", "resend"))
    post(app, "m1", CUT)
    app.queue.requeue_unknown(older_than_ms=2**62, now_ms=app.clock.wall_ms())
    answer = wa("message", "cancel", "m1", "--json")
    assert answer.json()["maybe_sent"] == ["m1"]
    assert "may have reached the person" in answer.err
    assert "may have reached the person" in wa("message", "explain", "m1").out


@pytest.mark.parametrize("flags", [(), ("m1", "--all"), ("--all", "--batch", "b1")])
def test_cancel_wants_exactly_one_way_of_naming(wa: Wa, flags: tuple[str, ...]) -> None:
    queue(wa, ADA)
    assert wa("message", "cancel", *flags, "--yes").exit == 2
    assert state(wa, "m1") == "queued"


@pytest.mark.parametrize(("word", "said"), [("b9", "there is no batch b9"), ("nine", "is not a batch id")])
def test_a_batch_that_never_was_is_refused(wa: Wa, word: str, said: str) -> None:
    queue(wa, ADA)
    answer = wa("message", "cancel", "--batch", word)
    assert answer.exit == 2
    assert said in answer.err
