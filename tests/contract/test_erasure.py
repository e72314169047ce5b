"""Erasing a person: nothing in the file says who they were, and every count stays what it was."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.world import address, ambiguous, line, open_world, rejected
from wa_cli.domain.consent import Change, Source, Wish
from wa_cli.domain.event import InboundEvent, NumberChangedEvent, Person, StatusEvent
from wa_cli.domain.finding import Level
from wa_cli.domain.message import State, Text, content_hash, encode_content
from wa_cli.domain.outcome import Accepted, ErrorClass, Rejected
from wa_cli.domain.receipt import Receipt
from wa_cli.domain.recipient import Recipient, RecipientKind
from wa_cli.domain.resend import find_refusal
from wa_cli.domain.subgroup import NewMember
from wa_cli.errors import NotFound, Temporary
from wa_cli.services.events import EventTerms, settle
from wa_cli.services.people import apply_inbound, apply_number_change
from wa_cli.store.sqlite.erasure import SqliteErasure, scrub
from wa_cli.store.sqlite.events import open_event_turn
from wa_cli.store.sqlite.failures import SqliteFailures
from wa_cli.store.sqlite.owners import Owner
from wa_cli.store.sqlite.people import SqlitePeople
from wa_cli.store.sqlite.plans import SqlitePlans
from wa_cli.store.sqlite.subgroups import SqliteSubgroups
from wa_cli.store.sqlite.upkeep import SqliteUpkeep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.world import World
    from wa_cli.ports import Post

ANN: Final = address(1)
DIGITS: Final = ANN.removeprefix("+")
USER: Final = "SG.13491208655302741918"
NAME: Final = "Annabel Lee"
WORDS: Final = "Dear Annabel, your test result is negative"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path, on_disk=True) as made:
        yield made


def wamid(digits: str) -> str:
    """As Meta makes them: the number in the middle of base64."""
    return "wamid." + base64.b64encode(b"\x1d\x18\x0b" + digits.encode() + b"\x15\x02\x00\x11").decode()


def erase(world: World, who: str = ANN) -> Any:
    return SqliteErasure(world.database).erase(who, now_ms=world.now_ms)


def say(world: World, words: str, *, who: Person | None = None) -> None:
    event = InboundEvent(
        number_id="1",
        provider_message_id=wamid(DIGITS) + words,
        at_ms=world.now_ms,
        person=who or Person(address=ANN, user_id=USER, name=NAME),
        kind="text",
        words=words,
    )
    with SqlitePeople(world.database).turn() as turn:
        apply_inbound(turn, event, instance_id=1, now_ms=world.now_ms)


def store_webhook(world: World, document: object, *, status: str = "done") -> int:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    with world.database.write() as connection:
        cursor = connection.execute(
            """INSERT INTO webhook_logs (received_at, provider, is_signed, body, status)
            VALUES (?, 'cloud_api', 1, ?, ?)""",
            (world.now_ms, body, status),
        )
    return int(cursor.lastrowid or 0)


def body_of(world: World, webhook_id: int) -> Any:
    row = world.database.connection.execute("SELECT body FROM webhook_logs WHERE id = ?", (webhook_id,)).fetchone()
    return json.loads(row[0])


def live(world: World) -> dict[str, int]:
    """A person with everything: lists, words of their own, receipts, a failure, an unknown, waiting messages."""
    vip = SqliteSubgroups(world.database).create("vip", now_ms=world.now_ms)[0].id
    member = NewMember(recipient=Recipient(kind=RecipientKind.PERSON, address=ANN), attributes={"name": NAME})
    SqliteSubgroups(world.database).add_members(vip, [member], now_ms=world.now_ms)

    def accept(post: Post) -> Accepted:
        return Accepted(provider_message_id=wamid(post.address.removeprefix("+")), http_status=200)

    world.transport.script = [
        accept,
        accept,
        rejected(ErrorClass.DEAD_RECIPIENT, "131026"),
        ambiguous(),
    ]
    ids = {}
    for name, words in (("own", WORDS), ("shared", "Doors open at six"), ("failed", "Ann?"), ("unknown", "Ann!")):
        (answer,) = world.enqueue([line(1, words)])
        ids[name] = answer.message_id
        world.drain()
    ids["other"] = world.enqueue([line(2, "Doors open at six")])[0].message_id
    world.drain()
    ids["waiting"] = world.enqueue([line(1, "See you, Annabel")], in_ms=10**9, key=f"welcome:{ANN}")[0].message_id
    connection = world.database.connection
    with world.database.write():
        connection.execute("UPDATE contact SET attributes = ? WHERE address = ?", (f'{{"name":"{NAME}"}}', ANN))
        connection.execute(
            """INSERT INTO receipt (attempt_id, status, provider_message_id, at, received_at, rule)
            SELECT id, 'delivered', ?, 0, 0, 'applied' FROM attempt WHERE message_id = ?""",
            (wamid(DIGITS), ids["own"]),
        )
        connection.execute(
            """INSERT INTO receipt (attempt_id, status, participant, provider_message_id, at, received_at, rule)
            SELECT id, 'read', ?, 'wamid.group', 0, 0, 'applied' FROM attempt WHERE message_id = ?""",
            (ANN, ids["other"]),
        )
        connection.execute(
            """INSERT INTO receipt (status, provider_message_id, at, received_at, rule)
            VALUES ('sent', ?, 0, 0, 'unmatched')""",
            (wamid(DIGITS),),
        )
    return ids


def traces(world: World) -> dict[str, list[str]]:
    """Where the file still holds something of theirs, by table and column."""
    needles = [DIGITS, USER, NAME, "Annabel", base64.b64encode(DIGITS.encode()).decode()[:12]]
    found: dict[str, list[str]] = {}
    connection = world.database.connection
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    for table in tables:
        for row in connection.execute(f"SELECT * FROM {table}"):
            for value in row:
                text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
                raw = [text]
                if text.startswith("wamid."):
                    spelled = text[6:].rstrip("=")
                    raw.append(base64.b64decode(spelled[: len(spelled) // 4 * 4]).decode("latin-1"))
                if any(needle in one for needle in needles for one in raw):
                    found.setdefault(table, []).append(text)
    return found


def check(world: World) -> None:
    """`wa db check` finds nothing wrong."""
    findings = list(SqliteUpkeep(world.database).check(is_held=lambda _id: True))
    assert [one.message for one in findings if one.level is not Level.OK] == []


def test_nothing_of_an_erased_person_is_left_and_the_counts_are_what_they_were(world: World) -> None:
    """Promises P10, P11, P13; `wa contact erase`."""
    ids = live(world)
    say(world, "thanks")
    stats = world.messages.read_stats()
    before = {name: world.row(one) for name, one in ids.items()}
    erased = erase(world)
    assert (erased.messages, erased.cancelled, erased.is_suppressed) == (5, 1, False)
    assert traces(world) == {}
    after = world.messages.read_stats()
    assert after == {**stats, "queued": stats["queued"] - 1, "cancelled": stats["cancelled"] + 1}
    assert sum(after.values()) == sum(stats.values())
    for name, row in ((name, world.row(one)) for name, one in ids.items() if name not in ("waiting", "other")):
        assert (row.state, row.receipt, row.error_code) == (
            before[name].state,
            before[name].receipt,
            before[name].error_code,
        )
        assert row.address.startswith("erased:")
        assert (row.provider_message_id, row.error_details) == (None, None)
    assert world.row(ids["waiting"]).state is State.CANCELLED
    assert world.row(ids["waiting"]).reason == "erased"
    check(world)


def test_words_that_others_got_too_stay_and_words_of_their_own_go(world: World) -> None:
    ids = live(world)
    erase(world)
    assert world.row(ids["shared"]).content == world.row(ids["other"]).content
    own = world.row(ids["own"]).content
    assert own is not None
    assert "Annabel" not in str(own)
    assert world.row(ids["other"]).provider_message_id is not None


def test_a_new_text_never_gets_the_number_of_one_that_is_gone(world: World) -> None:
    """A sender that runs remembers texts by their number."""
    live(world)
    (newest,) = world.database.connection.execute("SELECT max(id) FROM content").fetchone()
    erase(world)
    world.enqueue([line(7, "quite new")])
    assert world.database.connection.execute("SELECT max(id) FROM content").fetchone()[0] == newest + 1


def test_a_running_sender_sends_nothing_more_to_them(world: World) -> None:
    """Fault 88."""
    (answer,) = world.enqueue([line(1, WORDS)])
    erase(world)
    world.drain()
    assert world.transport.posts == []
    assert world.row(answer.message_id).state is State.CANCELLED


def test_somebody_who_had_opted_out_cannot_be_written_to_when_their_number_comes_back(world: World) -> None:
    """Fault 88."""
    say(world, "STOP")
    assert erase(world).is_suppressed
    assert traces(world) == {}
    assert [one.reason for one in world.enqueue([line(1)])] == ["opted_out"]
    world.drain()
    assert world.transport.posts == []
    erase(world)
    assert [one.reason for one in world.enqueue([line(1)])] == ["opted_out"]


def test_who_comes_back_by_their_own_word_is_no_longer_kept_out(world: World) -> None:
    say(world, "STOP")
    erase(world)
    world.clock.advance(1000)
    say(world, "unstop")
    assert [one.outcome for one in world.enqueue([line(1)])] == ["queued"]
    assert world.database.connection.execute("SELECT count(*) FROM suppressed").fetchone() == (0,)


def test_somebody_who_had_not_opted_out_may_be_added_again(world: World) -> None:
    live(world)
    erase(world)
    assert [one.outcome for one in world.enqueue([line(1, "hello again")])] == ["queued"]
    assert world.database.connection.execute("SELECT count(*) FROM suppressed").fetchone() == (0,)


def test_a_failed_message_of_theirs_is_not_sent_again(world: World) -> None:
    ids = live(world)
    erase(world)
    with SqliteFailures(world.database).resend_turn(is_dry_run=True) as turn:
        (candidate,) = turn.read_candidates([ids["failed"]])
    assert find_refusal(candidate, force=True, now_ms=world.now_ms) == "the person was erased"


def test_a_failed_message_to_somebody_who_has_opted_out_is_not_sent_again(world: World) -> None:
    """Fault 88."""
    world.transport.script = [rejected(ErrorClass.DEAD_MESSAGE)]
    (answer,) = world.enqueue([line(1)])
    world.drain()
    say(world, "stop")
    with SqliteFailures(world.database).resend_turn(is_dry_run=True) as turn:
        (candidate,) = turn.read_candidates([answer.message_id])
    assert find_refusal(candidate, force=True, now_ms=world.now_ms) == "the person has opted out"


def test_nobody_is_erased_while_a_message_to_them_is_on_its_way(world: World) -> None:
    world.enqueue([line(1)])
    lease = world.take_lease()
    with world.queue.turn() as turn:
        due = turn.read_due(1, turn.lane_heads(1)[0][0], now_ms=world.now_ms, limit=1)
        turn.start(due, lease=lease, now_ms=world.now_ms, spaced_batches=())
    with pytest.raises(Temporary, match="on its way"):
        erase(world)
    assert DIGITS in str(traces(world))


def test_what_arrives_late_for_an_erased_person_teaches_nothing(world: World) -> None:
    live(world)
    contact_id = SqlitePeople(world.database).find(ANN).id
    erase(world)
    with SqlitePeople(world.database).turn() as turn:
        turn.learn(contact_id, Person(address=ANN, user_id=USER))
        turn.note_window_closed(1, contact_id, at_ms=world.now_ms)
        stop = Change(wish=Wish.OPT_OUT, source=Source.REFUSAL, at_ms=world.now_ms, wording=NAME)
        assert not turn.record_consent(contact_id, stop)
    assert traces(world) == {}


@pytest.mark.parametrize("status", [Receipt.READ, Receipt.FAILED])
@pytest.mark.parametrize("which", ["own", "unknown"])
def test_a_receipt_that_comes_after_the_erase_moves_the_message_and_stores_nothing_of_theirs(
    which: str, status: Receipt, world: World
) -> None:
    """Issue 4, point 4: the provider's id spells the number, and an error may say whose it is."""
    message_id = live(world)[which]
    erase(world)
    connection = world.database.connection
    (attempt_id,) = connection.execute("SELECT id FROM attempt WHERE message_id = ?", (message_id,)).fetchone()
    event = StatusEvent(
        number_id="1",
        provider_message_id=wamid(DIGITS),
        receipt=status,
        at_ms=world.now_ms,
        tag=f"wa1.{world.database.read_install()}.{attempt_id}",
        person=Person(address=ANN, user_id=USER),
        refusal=Rejected(
            error_class=ErrorClass.DEAD_RECIPIENT, code="131026", details=f"{NAME} is not there", http_status=0
        )
        if status is Receipt.FAILED
        else None,
    )
    terms = EventTerms(install=world.database.read_install(), policy=world.policy, numbers={"1": 1})
    for _again in range(2):
        with open_event_turn(world.database) as turn:
            settle(turn, [event], terms=terms, now_ms=world.now_ms)
    assert traces(world) == {}
    # What was known to be delivered stays so; an unknown is settled by what comes.
    settled = "failed" if (which, status) == ("unknown", Receipt.FAILED) else "sent"
    assert connection.execute("SELECT state FROM message WHERE id = ?", (message_id,)).fetchone() == (settled,)
    (news,) = connection.execute("SELECT count(*) FROM receipt WHERE provider_message_id LIKE 'erased:a%'").fetchone()
    assert news == 1


def test_erasing_again_takes_out_what_came_in_since(world: World) -> None:
    live(world)
    erase(world)
    webhook = store_webhook(world, {"entry": [{"statuses": [{"recipient_id": DIGITS}, {"recipient_id": "1"}]}]})
    assert erase(world).webhooks == 1
    assert body_of(world, webhook) == {"entry": [{"statuses": [{"recipient_id": "1"}]}]}
    with pytest.raises(NotFound):
        erase(world)


def test_an_opt_out_outlives_the_erase_of_the_number_it_was_said_under(world: World) -> None:
    """Fault 88: they have another number now."""
    say(world, "STOP")
    new = address(9)
    event = NumberChangedEvent(number_id="1", at_ms=world.now_ms + 1, old=Person(address=ANN), new=Person(address=new))
    with SqlitePeople(world.database).turn() as turn:
        apply_number_change(turn, event, now_ms=world.now_ms)
    erase(world)
    assert [one.reason for one in world.enqueue([line(9)])] == ["opted_out"]
    profile = SqlitePeople(world.database).read_profile(SqlitePeople(world.database).find(new).id)
    assert [row.wording for row in profile.consent] == ["STOP"]
    assert profile.moved_from == ()


def plan_for(world: World, *, is_applied: bool) -> int:
    """A finished plan with a line for two people, words of their own in it, and a run that left the first one out."""
    connection = world.database.connection
    with world.database.write():
        connection.execute(
            """INSERT OR IGNORE INTO campaign (id, name, folded_name, path, source, state, created_at, changed_at)
            VALUES (1, 'sale', 'sale', 'sale.toml', '', 'running', 0, 0)"""
        )
        summary = {"audience": 2, "samples": [{"address": "+65…1", "words": WORDS}], "longest": {"words": WORDS}}
        plan_id = connection.execute(
            """INSERT INTO plan (campaign_id, source, inputs, summary, created_at, finished_at, applied_at)
            VALUES (1, '', '{}', ?, 0, 0, ?)""",
            (json.dumps(summary), 0 if is_applied else None),
        ).lastrowid
        for number, words in ((1, f"Dear {NAME}"), (2, "Dear Bob"), (1, "for all"), (2, "for all")):
            body = encode_content(Text(body=f"{words}, plan {plan_id}"))
            connection.execute(
                "INSERT INTO content (hash, body) VALUES (?, ?) ON CONFLICT DO NOTHING", (content_hash(body), body)
            )
            connection.execute(
                """INSERT INTO plan_line (plan_id, contact_id, content_id, part, due_at)
                SELECT ?, contact.id, content.id, 1, 10 FROM contact, content
                WHERE contact.address = ? AND content.hash = ?""",
                (plan_id, address(number), content_hash(body)),
            )
        connection.execute(
            """INSERT INTO plan_line (plan_id, contact_id, reason, details)
            SELECT ?, id, 'unsendable', ? FROM contact WHERE address = ?""",
            (plan_id, NAME, ANN),
        )
        run_id = connection.execute(
            "INSERT INTO run (campaign_id, occurrence, plan_id, state, created_at) VALUES (1, ?, ?, 'running', 0)",
            (str(plan_id), plan_id),
        ).lastrowid
        connection.execute(
            """INSERT INTO exclusion (run_id, contact_id, reason, details)
            SELECT ?, id, 'unsendable', ? FROM contact WHERE address = ?""",
            (run_id, NAME, ANN),
        )
    return int(plan_id or 0)


def test_nothing_of_them_is_left_in_plans_and_the_ledgers_keep_their_lines(world: World) -> None:
    """Promises P11, P13: in one that was applied, and in one that still waits for it, which leaves them out."""
    live(world)
    applied, waiting = plan_for(world, is_applied=True), plan_for(world, is_applied=False)
    erase(world)
    assert traces(world) == {}
    assert world.value("SELECT count(*) FROM plan_line") == 10
    assert world.value("SELECT count(*) FROM exclusion") == 2
    lines = "SELECT reason, content_id IS NULL FROM plan_line WHERE plan_id = ? ORDER BY id"
    assert world.rows(lines, applied) == [(None, 0), (None, 0), (None, 0), (None, 0), ("unsendable", 1)]
    assert world.rows(lines, waiting) == [("erased", 1), (None, 0), ("erased", 1), (None, 0), ("unsendable", 1)]
    bodies = {row[0] for row in world.rows("SELECT body FROM content")}
    for plan_id in (applied, waiting):
        summary = json.loads(world.value("SELECT summary FROM plan WHERE id = ?", plan_id))
        assert summary == {"audience": 2, "samples": [], "longest": None}
        for words in ("Dear Bob", "for all"):
            assert encode_content(Text(body=f"{words}, plan {plan_id}")) in bodies


def drop_plan_of(world: World, plan_id: int) -> None:
    """What planning anew does to a plan that was never let go."""
    SqlitePlans(world.database, world.owner).drop_plan(plan_id)


def test_words_of_a_plan_that_is_gone_go_too_and_what_is_in_use_stays(world: World) -> None:
    """Promise P11: nobody can tell any more whose they were."""
    live(world)
    gone, kept = plan_for(world, is_applied=False), plan_for(world, is_applied=False)
    world.execute("DELETE FROM exclusion")
    world.execute("UPDATE run SET plan_id = NULL")
    drop_plan_of(world, gone)
    erase(world)
    assert traces(world) == {}
    bodies = {row[0] for row in world.rows("SELECT body FROM content")}
    assert encode_content(Text(body=f"Dear Bob, plan {gone}")) not in bodies
    assert encode_content(Text(body=f"Dear Bob, plan {kept}")) in bodies
    before = world.rows("SELECT id, body FROM content ORDER BY id")
    with pytest.raises(NotFound):
        erase(world)
    assert world.rows("SELECT id, body FROM content ORDER BY id") == before
    check(world)


def test_a_plan_that_is_made_while_somebody_is_erased_keeps_its_words(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise P12: it says the same again that an earlier one had said, which is gone."""
    live(world)
    gone = plan_for(world, is_applied=False)
    words = encode_content(Text(body=f"Dear Bob, plan {gone}"))
    world.execute("DELETE FROM exclusion")
    world.execute("UPDATE run SET plan_id = NULL")
    drop_plan_of(world, gone)
    find = SqliteErasure._find_orphans

    def find_and_plan(self: SqliteErasure) -> Any:
        found = find(self)
        monkeypatch.setattr(SqliteErasure, "_find_orphans", find)
        world.execute(
            "INSERT INTO plan (campaign_id, source, inputs, created_at, finished_at) VALUES (1, '', '', 0, 0)"
        )
        world.execute(
            """INSERT INTO plan_line (plan_id, contact_id, content_id, part, due_at)
            SELECT plan.id, contact.id, content.id, 1, 10 FROM plan, contact, content
            WHERE contact.address = ? AND content.body = ?""",
            address(2),
            words,
        )
        return found

    monkeypatch.setattr(SqliteErasure, "_find_orphans", find_and_plan)
    erase(world)
    assert world.rows("SELECT body FROM content JOIN plan_line ON content_id = content.id") == [(words,)]
    assert traces(world) == {}


def test_nobody_is_erased_while_a_plan_is_being_made(world: World) -> None:
    """Promise P11: its words may be theirs, and belong to nothing yet."""
    live(world)
    plan_id = plan_for(world, is_applied=False)
    planner = Owner(world.database.path)
    world.execute("UPDATE plan SET finished_at = NULL, owner = ? WHERE id = ?", planner.token, plan_id)
    with pytest.raises(Temporary, match="planning"):
        erase(world)
    planner.close()  # it died
    erase(world)
    assert traces(world) == {}


# Raw webhooks

BODY: Final = {
    "object": "whatsapp_business_account",
    "entry": [
        {
            "id": "1",
            "changes": [
                {
                    "field": "messages",
                    "value": {
                        "metadata": {"phone_number_id": "2"},
                        "contacts": [
                            {"profile": {"name": NAME}, "wa_id": DIGITS, "user_id": USER},
                            {"profile": {"name": "Bob"}, "wa_id": "15550000001"},
                        ],
                        "messages": [
                            {"from": DIGITS, "id": "a", "text": {"body": "hello"}},
                            {"from": "15550000001", "id": "b", "text": {"body": "hi"}},
                            {"from_user_id": USER, "id": "c", "text": {"body": "hello"}},
                        ],
                        "statuses": [{"recipient_id": f"9{DIGITS}", "id": "d"}],
                    },
                }
            ],
        }
    ],
}


def test_a_webhook_loses_what_is_about_them_and_keeps_what_is_about_others(world: World) -> None:
    say(world, "hello")
    webhook = store_webhook(world, BODY)
    waiting = store_webhook(world, BODY, status="waiting")
    other = store_webhook(world, {"entry": []})
    broken = store_webhook(world, b"{'from': '" + DIGITS.encode() + b"'", status="failed")
    assert erase(world).webhooks == 3
    for row in (webhook, waiting):
        value = body_of(world, row)["entry"][0]["changes"][0]["value"]
        assert [one["wa_id"] for one in value["contacts"]] == ["15550000001"]
        assert [one["id"] for one in value["messages"]] == ["b"]
        assert [one["id"] for one in value["statuses"]] == ["d"]  # a longer number that holds theirs is another one
    assert body_of(world, other) == {"entry": []}
    assert body_of(world, broken) == {}
    statuses = world.database.connection.execute("SELECT status FROM webhook_logs ORDER BY id").fetchall()
    assert statuses == [("done",), ("waiting",), ("done",), ("failed",)]


@pytest.mark.parametrize(
    ("document", "left"),
    [
        ({"a": [{"b": {"c": "65"}}, {"b": {"c": "66"}}]}, {"a": [{"b": {"c": "66"}}]}),
        ({"a": [[{"n": 65}], [1]]}, {"a": [[], [1]]}),
        ({"a": "call +65 now"}, {}),
        ({"65": [1]}, {}),
        ({"a": ["165", "650", "x65"]}, {"a": ["165", "650", "x65"]}),
        ([], []),
    ],
)
def test_the_smallest_list_entry_that_mentions_them_goes(document: object, left: object) -> None:
    assert json.loads(scrub(json.dumps(document).encode(), ["65"])) == left


def test_a_body_that_is_no_json_or_too_deep_goes_as_a_whole() -> None:
    assert scrub(b"65", ["65"]) == b"{}"
    assert scrub(b"not json 65", ["65"]) == b"{}"
    assert scrub(b"[" * 100_000 + b"65", ["65"]) == b"{}"
