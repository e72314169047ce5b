"""Receipts on a real store: they move messages forward, settle the unknown, fail late, and come in any order."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import World, accepted, ambiguous, line, open_world, rejected

from wa_cli.domain.connection import Restriction, RestrictionScope
from wa_cli.domain.event import AccountEvent, InboundEvent, Person, StatusEvent, TemplateEvent
from wa_cli.domain.explanation import explain_receipt
from wa_cli.domain.message import OnUnknown, State, Template, encode_content
from wa_cli.domain.outcome import Consequence, ErrorClass, Rejected
from wa_cli.domain.receipt import Receipt, Standing, presume_not_sent
from wa_cli.domain.recipient import RecipientKind
from wa_cli.domain.retry import Stop
from wa_cli.ports import NewMessage
from wa_cli.services import receipts
from wa_cli.services.events import EventTerms, settle
from wa_cli.store.sqlite.events import open_event_turn
from wa_cli.store.sqlite.receipts import SqliteReceipts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from world import Posted

    from wa_cli.domain.event import Event
    from wa_cli.domain.outcome import Outcome

MINUTE = 60_000
HOUR = 3_600_000
DAY = 86_400_000


def tell(world: World, *events: Event) -> dict[str, int]:
    """Let events take effect, in one transaction.  How often what happened."""
    terms = EventTerms(install=world.database.read_install(), policy=world.policy, numbers={"1": 1})
    with open_event_turn(world.database) as turn:
        return dict(settle(turn, events, terms=terms, now_ms=world.now_ms))


def look_after(world: World) -> int:
    """What upkeep does between sends."""
    return receipts.look_after(
        SqliteReceipts(world.database),
        lambda: open_event_turn(world.database),
        policy=world.policy,
        now_ms=world.now_ms,
    )


def receipt(
    world: World,
    attempt_id: int,
    status: Receipt,
    *,
    refusal: Rejected | None = None,
    wamid: str | None = None,
    tag: str | None = None,
    at_ms: int | None = None,
    participant: str = "",
) -> StatusEvent:
    return StatusEvent(
        number_id="1",
        provider_message_id=wamid or f"wamid.{attempt_id}",
        receipt=status,
        at_ms=world.now_ms if at_ms is None else at_ms,
        tag=f"wa1.{world.database.read_install()}.{attempt_id}" if tag is None else tag,
        refusal=refusal,
        participant=participant,
    )


def refused(
    error_class: ErrorClass = ErrorClass.DEAD_RECIPIENT,
    code: str = "131026",
    *,
    wait_seconds: float | None = None,
    max_attempts: int | None = None,
    consequence: Consequence | None = None,
) -> Rejected:
    return Rejected(
        error_class=error_class,
        code=code,
        details="not delivered",
        http_status=0,
        wait_seconds=wait_seconds,
        max_attempts=max_attempts,
        consequence=consequence,
    )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as opened:
        yield opened
        assert opened.find_faults() == []


def sent_message(world: World, *script: Outcome, **options: object) -> int:
    world.transport.script[:0] = script
    (message_id,) = world.send_later("hello", **options)
    world.drain()
    return message_id


# --- forward only --------------------------------------------------------------------------------------------------


def test_receipts_move_a_sent_message_forward(world: World) -> None:
    """Row Q4."""
    message_id = sent_message(world)
    for status, standing in (
        (Receipt.SENT, Standing.SENT),
        (Receipt.DELIVERED, Standing.DELIVERED),
        (Receipt.READ, Standing.READ),
        (Receipt.PLAYED, Standing.READ),
    ):
        assert tell(world, receipt(world, 1, status)) == {"applied": 1}
        assert world.row(message_id).standing is standing
    assert world.row(message_id).state is State.SENT


def test_receipts_never_move_a_message_back(world: World) -> None:
    """Promise P3."""
    message_id = sent_message(world)
    tell(world, receipt(world, 1, Receipt.READ))
    assert tell(world, receipt(world, 1, Receipt.DELIVERED), receipt(world, 1, Receipt.SENT)) == {"behind": 2}
    assert world.row(message_id).standing is Standing.READ


def test_the_same_receipt_a_hundred_times_changes_nothing(world: World) -> None:
    """Faults 69 and 72."""
    sent_message(world)
    events = [receipt(world, 1, Receipt.SENT), receipt(world, 1, Receipt.FAILED, refusal=refused())]
    tell(world, *events)
    before = world.picture()
    for _ in range(100):
        assert tell(world, *events) == {"repeated": 2}
    assert world.picture() == before


ORDERS = list(permutations([Receipt.SENT, Receipt.DELIVERED, Receipt.READ, Receipt.FAILED]))


@pytest.mark.parametrize("unknown_first", [False, True], ids=["sent", "unknown"])
@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_whatever_the_order_the_same_receipts_end_in_the_same_state(
    tmp_path: Path, unknown_first: bool, length: int
) -> None:
    """Fault 70, for every order of every choice of the four."""
    with open_world(tmp_path) as world:
        ends: dict[frozenset[Receipt], set[tuple[object, ...]]] = {}
        for number, order in enumerate(ORDERS, start=1):
            world.transport.script[:0] = [ambiguous()] if unknown_first else [accepted(number)]
            (message_id,) = world.send_later(f"number {number}")
            world.drain()
            for status in order[:length]:
                refusal = refused() if status is Receipt.FAILED else None
                tell(world, receipt(world, number, status, refusal=refusal))
            row = world.row(message_id)
            ends.setdefault(frozenset(order[:length]), set()).add(
                (row.state, row.receipt, row.standing, row.attempts, row.error_code)
            )
        assert all(len(states) == 1 for states in ends.values()), ends
        assert world.find_faults() == []


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    error=st.sampled_from(
        [refused(), refused(ErrorClass.RETRY, "131000"), refused(ErrorClass.THROTTLE, "130429", wait_seconds=1.0)]
    ),
    first=st.sampled_from(["accepted", "ambiguous"]),
)
def test_any_shuffle_with_any_repetition_ends_where_the_plain_order_ends(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, error: Rejected, first: str
) -> None:
    """Faults 69 and 70: two messages, their receipts mixed, repeated and told in pieces."""
    with open_world(tmp_path_factory.mktemp("world")) as world:
        world.transport.script[:] = [accepted(1) if first == "accepted" else ambiguous() for _ in range(2)]
        ids = world.send_later("a", "b")
        world.drain()
        chosen = data.draw(
            st.lists(
                st.tuples(
                    st.sampled_from([1, 2]),
                    st.sampled_from([Receipt.SENT, Receipt.DELIVERED, Receipt.READ, Receipt.FAILED]),
                ),
                min_size=1,
                max_size=12,
            )
        )
        for attempt_id, status in chosen:
            refusal = error if status is Receipt.FAILED else None
            tell(world, receipt(world, attempt_id, status, refusal=refusal))
        for message_id, attempt_id in zip(ids, (1, 2), strict=True):
            told = {status for number, status in chosen if number == attempt_id}
            row = world.row(message_id)
            arrived = [status for status in (Receipt.READ, Receipt.DELIVERED) if status in told]
            if arrived:
                assert (row.state, row.receipt, row.attempts) == (State.SENT, arrived[0], 1)
            elif Receipt.FAILED in told:
                assert row.state is (State.FAILED if error.error_class is ErrorClass.DEAD_RECIPIENT else State.QUEUED)
            elif Receipt.SENT in told:
                assert (row.state, row.receipt) == (State.SENT, Receipt.SENT)
            else:
                assert row.state is (State.SENT if first == "accepted" else State.UNKNOWN)
        assert world.find_faults() == []


# --- failing late --------------------------------------------------------------------------------------------------


def test_a_late_failure_fails_a_sent_message_with_its_code(world: World) -> None:
    """131026 after the acceptance: it is on the list of failures, and the history knows both."""
    message_id = sent_message(world)
    tell(world, receipt(world, 1, Receipt.FAILED, refusal=refused()))
    row = world.row(message_id)
    assert (row.state, row.receipt, row.standing) == (State.FAILED, Receipt.FAILED, Standing.FAILED)
    assert (row.error_code, row.error_details) == ("131026", "not delivered")
    assert world.decisions(message_id) == ["failed_late"]
    assert [attempt.outcome for attempt in world.attempts(message_id)] == ["rejected"]


def test_the_history_of_a_message_holds_every_receipt_and_what_it_did(world: World) -> None:
    message_id = sent_message(world)
    tell(world, receipt(world, 1, Receipt.DELIVERED), receipt(world, 1, Receipt.SENT))
    tell(world, receipt(world, 1, Receipt.FAILED, refusal=refused()))
    history = world.messages.read_history(message_id)
    assert [(one.status, one.rule, one.error_code) for one in history.receipts] == [
        (Receipt.DELIVERED, "applied", None),
        (Receipt.SENT, "behind", None),
        (Receipt.FAILED, "noted", "131026"),
    ]
    assert explain_receipt(history.receipts[2]) == (
        "WhatsApp says failed, 131026: not delivered, noted and not applied, since it was delivered"
    )


def test_a_failure_after_a_delivery_is_noted_and_not_applied(world: World) -> None:
    """Fault 70."""
    message_id = sent_message(world)
    tell(world, receipt(world, 1, Receipt.DELIVERED))
    assert tell(world, receipt(world, 1, Receipt.FAILED, refusal=refused())) == {"noted": 1}
    assert world.row(message_id).standing is Standing.DELIVERED


def test_what_fails_late_for_hours_is_tried_again_after_them_and_not_before(world: World) -> None:
    """131049: not before 24 h, and only as often as its own cap allows."""
    hours = refused(ErrorClass.HOURS, "131049", wait_seconds=86_400.0, max_attempts=2)
    message_id = sent_message(world)
    tell(world, receipt(world, 1, Receipt.FAILED, refusal=hours))
    row = world.row(message_id)
    assert (row.state, row.receipt, row.reason) == (State.QUEUED, None, "hours")
    assert row.due_at_ms == world.now_ms + DAY
    world.drain(whole_schedule=True)
    assert len(world.transport.posts) == 2
    tell(world, receipt(world, 2, Receipt.FAILED, refusal=hours))
    assert (world.state(message_id), world.row(message_id).reason) == (State.FAILED, "out_of_attempts")


def test_a_late_failure_that_stops_the_number_pauses_it_and_keeps_the_message(world: World) -> None:
    """131042: a payment problem is told afterwards, and nothing more leaves until a person has acted."""
    message_id = sent_message(world)
    tell(world, receipt(world, 1, Receipt.FAILED, refusal=refused(ErrorClass.STOP, "131042")))
    assert world.state(message_id) is State.QUEUED
    assert world.row(message_id).attempts == 0
    (instance,) = world.instances.list_all()
    assert (instance.paused_by, instance.pause_code) == ("platform", "131042")


def test_old_news_does_not_pause_the_number_again(world: World) -> None:
    """Fault 72: a body of last week that comes once more."""
    message_id = sent_message(world)
    world.clock.advance(7 * DAY)
    stop = refused(ErrorClass.STOP, "131042")
    tell(world, receipt(world, 1, Receipt.FAILED, refusal=stop, at_ms=world.now_ms - 2 * HOUR))
    assert world.instances.list_all()[0].paused_at_ms is None
    assert world.state(message_id) is State.QUEUED


def test_a_message_that_arrives_after_all_is_not_sent_once_more(world: World) -> None:
    """Promise P2: the requeued message is taken back by the proof that it arrived."""
    message_id = sent_message(world)
    tell(world, receipt(world, 1, Receipt.FAILED, refusal=refused(ErrorClass.RETRY, "131000")))
    assert world.state(message_id) is State.QUEUED
    tell(world, receipt(world, 1, Receipt.DELIVERED))
    world.drain(whole_schedule=True)
    assert len(world.transport.posts) == 1
    assert world.row(message_id).standing is Standing.DELIVERED


# --- settling the unknown ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [Receipt.SENT, Receipt.DELIVERED, Receipt.READ])
def test_a_receipt_with_the_tag_settles_an_unknown_as_sent(world: World, status: Receipt) -> None:
    """Promise P5."""
    message_id = sent_message(world, ambiguous())
    assert world.state(message_id) is State.UNKNOWN
    tell(world, receipt(world, 1, status))
    row = world.row(message_id)
    assert (row.state, row.receipt, row.provider_message_id) == (State.SENT, status, "wamid.1")
    assert world.decisions(message_id) == ["settled_by_receipt"]


def test_a_failure_with_the_tag_settles_an_unknown_as_failed(world: World) -> None:
    """Promise P5, the other way."""
    message_id = sent_message(world, ambiguous())
    tell(world, receipt(world, 1, Receipt.FAILED, refusal=refused()))
    assert world.state(message_id) is State.FAILED
    assert world.row(message_id).error_code == "131026"


def test_an_unknown_that_its_policy_had_skipped_is_shown_as_sent_once_that_is_proved(world: World) -> None:
    """Promise P3."""
    message_id = sent_message(world, ambiguous(), on_unknown=OnUnknown.SKIP)
    assert world.state(message_id) is State.SKIPPED
    tell(world, receipt(world, 1, Receipt.DELIVERED))
    assert world.row(message_id).standing is Standing.DELIVERED


def test_a_persons_word_gives_way_to_a_receipt(world: World) -> None:
    message_id = sent_message(world, ambiguous())
    world.execute("UPDATE attempt SET outcome = 'marked_not_sent'")
    world.execute("UPDATE message SET state = 'failed', reason = 'marked_not_sent'")
    tell(world, receipt(world, 1, Receipt.DELIVERED))
    assert world.row(message_id).standing is Standing.DELIVERED


def test_a_second_post_that_is_unknown_too_keeps_a_message_unknown_when_the_first_failed(world: World) -> None:
    """Promise P3: one post is over, nobody knows about the other."""
    message_id = sent_message(world, ambiguous(), ambiguous(), on_unknown=OnUnknown.RESEND)
    world.clock.advance(20 * MINUTE)
    world.queue.requeue_unknown(older_than_ms=world.now_ms, now_ms=world.now_ms)
    world.drain()
    assert len(world.transport.posts) == 2
    tell(world, receipt(world, 1, Receipt.FAILED, refusal=refused()))
    assert world.state(message_id) is State.UNKNOWN
    tell(world, receipt(world, 2, Receipt.DELIVERED))
    assert world.row(message_id).standing is Standing.DELIVERED


def test_two_accepted_posts_of_one_message_are_a_proven_duplicate(world: World) -> None:
    """Point 3: shown, not hidden."""
    message_id = sent_message(world, ambiguous(), on_unknown=OnUnknown.RESEND)
    world.clock.advance(20 * MINUTE)
    world.queue.requeue_unknown(older_than_ms=world.now_ms, now_ms=world.now_ms)
    world.drain()
    for _ in range(3):
        tell(world, receipt(world, 1, Receipt.DELIVERED), receipt(world, 1, Receipt.READ))
    assert world.decisions(message_id).count("proven_duplicate") == 1
    assert world.row(message_id).standing is Standing.READ


def test_two_ids_for_one_post_are_a_proven_duplicate(world: World) -> None:
    """Fault 67: a gateway that plays its own queue again."""
    message_id = sent_message(world)
    tell(world, receipt(world, 1, Receipt.DELIVERED, wamid="wamid.other"))
    assert world.decisions(message_id) == ["proven_duplicate"]


@pytest.mark.parametrize(
    ("since", "last", "now", "presumed"),
    [
        (None, None, HOUR, False),
        (0, 20 * MINUTE, HOUR, True),
        (0, 12 * MINUTE, HOUR, False),  # the last webhook came too soon after the post to say anything
        (6 * MINUTE, 20 * MINUTE, HOUR, False),  # webhooks came only after the post
    ],
)
def test_the_absence_of_a_receipt_says_something_only_while_webhooks_come(
    since: int | None, last: int | None, now: int, presumed: bool
) -> None:
    """Point 3: presumed not sent is a label with its evidence."""
    claim = presume_not_sent(5 * MINUTE, webhooks_since_ms=since, last_webhook_at_ms=last, now_ms=now)
    assert claim is presumed
    assert not presume_not_sent(None, webhooks_since_ms=since, last_webhook_at_ms=last, now_ms=now)


# --- faster than our own record ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "status", "standing"),
    [
        (accepted(1), Receipt.DELIVERED, Standing.DELIVERED),
        (ambiguous(), Receipt.DELIVERED, Standing.DELIVERED),
        (accepted(1), Receipt.FAILED, Standing.FAILED),
        (ambiguous(), Receipt.FAILED, Standing.FAILED),
        (rejected(ErrorClass.DEAD_MESSAGE), Receipt.DELIVERED, Standing.DELIVERED),
    ],
)
def test_a_receipt_that_comes_before_our_own_record_is_parked_and_applied_with_it(
    world: World, outcome: Outcome, status: Receipt, standing: Standing
) -> None:
    """Fault 75."""
    told: list[dict[str, int]] = []

    def overtake(_posted: Posted) -> None:
        told.append(tell(world, receipt(world, 1, status, refusal=refused() if status is Receipt.FAILED else None)))

    world.transport.on_post = overtake
    message_id = sent_message(world, outcome)
    assert told == [{"parked": 1}]
    assert world.row(message_id).standing is standing
    assert world.value("SELECT count(*) FROM receipt WHERE rule = 'parked'") == 0


def test_receipts_parked_for_a_sender_that_died_settle_its_unknown(world: World) -> None:
    """Promise P4: it was killed between the post and the record."""
    message_id = sent_message(world)
    world.execute("UPDATE attempt SET outcome = NULL, provider_message_id = NULL")
    world.execute("UPDATE message SET state = 'sending', provider_message_id = NULL")
    assert tell(world, receipt(world, 1, Receipt.DELIVERED)) == {"parked": 1}
    world.leases.bury_dead(now_ms=world.now_ms)
    world.take_lease()
    assert world.state(message_id) is State.UNKNOWN
    tell(world)
    assert world.row(message_id).standing is Standing.DELIVERED


# --- what is not ours ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", ["", "wa1.00000000.1", "wa1.x.y.z", "other", "wa1..1"])
def test_a_receipt_of_somebody_elses_message_is_kept_and_changes_nothing(world: World, tag: str) -> None:
    """Fault 75."""
    message_id = sent_message(world)
    before = world.picture()
    assert tell(world, receipt(world, 1, Receipt.READ, tag=tag)) == {"unmatched": 1}
    assert tell(world, receipt(world, 1, Receipt.READ, tag=tag)) == {"repeated": 1}
    assert world.picture() == before
    assert world.row(message_id).receipt is None


@pytest.mark.parametrize("number", ["0", "2", "-1", "99999999999999999999", "1e3", "٣"])
def test_a_tag_that_names_no_attempt_is_somebody_elses(world: World, number: str) -> None:
    sent_message(world)
    tag = f"wa1.{world.database.read_install()}.{number}"
    assert tell(world, receipt(world, 1, Receipt.READ, tag=tag)) == {"unmatched": 1}


def test_one_member_of_a_group_who_cannot_be_reached_does_not_fail_the_message(world: World) -> None:
    message_id = sent_message(world)
    tell(
        world,
        receipt(world, 1, Receipt.DELIVERED, participant="15550100001"),
        receipt(world, 1, Receipt.FAILED, participant="15550100002", refusal=refused()),
    )
    assert world.row(message_id).standing is Standing.DELIVERED


def test_a_receipt_without_a_tag_is_matched_by_the_id_of_the_post(world: World) -> None:
    """Fault 75: it is kept until upkeep has held it against the posts, and applied once."""
    message_id = sent_message(world)
    tell(world, receipt(world, 1, Receipt.READ, tag=""), receipt(world, 1, Receipt.READ, tag="", wamid="wamid.foreign"))
    assert look_after(world) == 1
    assert world.row(message_id).standing is Standing.READ
    assert look_after(world) == 0
    world.clock.advance(2 * DAY)
    look_after(world)
    assert world.rows("SELECT provider_message_id, rule FROM receipt") == [("wamid.1", "applied")]


def test_a_receipt_that_came_with_the_tag_and_without_it_counts_once(world: World) -> None:
    message_id = sent_message(world)
    tell(world, receipt(world, 1, Receipt.READ, tag=""), receipt(world, 1, Receipt.READ))
    look_after(world)
    assert world.row(message_id).standing is Standing.READ
    assert world.value("SELECT count(*) FROM receipt") == 1


# --- templates and accounts ----------------------------------------------------------------------------------------


def template_line(to: int) -> NewMessage:
    content = Template(name="spring_sale", language="en_US")
    return NewMessage(address=f"+659{to:07d}", kind=RecipientKind.PERSON, encoded=encode_content(content))


HELD = TemplateEvent(account_id="9", name="spring_sale", language="en_US", at_ms=1_000, held=True, reason="paused")
LIFTED = TemplateEvent(account_id="9", name="spring_sale", language="en_US", at_ms=2_000, held=False, reason="approved")


def test_messages_of_a_paused_template_wait_and_others_leave(world: World) -> None:
    """132015 in a receipt: the template's other messages do not run into the same refusal."""
    paused = refused(ErrorClass.HOURS, "132015", wait_seconds=3 * 3600.0, consequence=Consequence.TEMPLATE_HELD)
    (first,) = world.enqueue([template_line(1)])
    world.drain()
    tell(world, receipt(world, 1, Receipt.FAILED, refusal=paused))
    answers = world.enqueue([template_line(2), line(3, "plain")])
    world.drain()
    assert [posted.post.address for posted in world.transport.posts] == ["+6590000001", "+6590000003"]
    assert world.decisions(answers[0].message_id) == ["template_held"]
    assert world.row(answers[0].message_id).due_at_ms == world.now_ms + 3 * HOUR
    world.drain(whole_schedule=True)
    assert len(world.transport.posts) == 4
    assert world.state(first.message_id) is State.SENT


@pytest.mark.parametrize("events", [(HELD, LIFTED), (LIFTED, HELD), (HELD, LIFTED, HELD)])
def test_the_latest_word_about_a_template_counts_whatever_the_order(
    world: World, events: tuple[TemplateEvent, ...]
) -> None:
    tell(world, *events)
    world.enqueue([template_line(1)])
    world.drain()
    assert len(world.transport.posts) == 1


def test_a_template_that_is_held_without_an_end_is_looked_at_again_every_hour(world: World) -> None:
    tell(world, HELD)
    (answer,) = world.enqueue([template_line(1)])
    world.drain()
    assert world.row(answer.message_id).due_at_ms == world.now_ms + HOUR
    tell(world, LIFTED)
    world.drain(whole_schedule=True)
    assert world.state(answer.message_id) is State.SENT


def test_a_restricted_account_pauses_the_number_once(world: World) -> None:
    stop = Stop(code="account_restricted", reason="restricted for spam")
    event = AccountEvent(account_id="9", at_ms=world.now_ms, stop=stop, words="ACCOUNT_RESTRICTION")
    tell(world, event)
    assert world.instances.list_all()[0].pause_code == "account_restricted"
    world.instances.resume(1, now_ms=world.clock.wall_ms())
    tell(world, event)
    assert world.instances.list_all()[0].paused_at_ms is None


@pytest.mark.parametrize("scope", RestrictionScope)
def test_an_account_that_is_restricted_for_a_time_is_held_back_until_then(
    world: World, scope: RestrictionScope
) -> None:
    """Issue 6, point 6: whenever it is heard of, until its stated end."""
    until_ms = world.now_ms + 24 * 60 * MINUTE
    found = Restriction(code="account_restricted", reason="for spam", scope=scope, until_ms=until_ms)
    at_ms = world.now_ms - 5 * 60 * MINUTE
    tell(world, AccountEvent(account_id="9", at_ms=at_ms, stop=None, words="", restriction=found))
    instance = world.instances.list_all()[0]
    assert (instance.paused_at_ms, instance.restriction) == (None, found)
    world.send_later("a")
    world.drain()
    assert world.transport.posts == []


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("is_tagged", [True, False])
def test_a_late_refusal_holds_the_number_back_until_its_end(world: World, is_known: bool, is_tagged: bool) -> None:
    """Issue 6, point 6: 463 in a receipt, of a post found by its id alone too; to somebody known it is wider."""
    until_ms = world.now_ms + 6 * 60 * MINUTE
    restriction = Restriction(code="463", reason="time-locked", scope=RestrictionScope.NEW_PEOPLE, until_ms=until_ms)
    refusal = Rejected(
        error_class=ErrorClass.RESTRICTED, code="463", details="time-locked", http_status=0, restriction=restriction
    )
    if is_known:
        world.hear(1)
    (message_id,) = world.send_later("a")
    world.drain()
    late = receipt(world, 1, Receipt.FAILED, refusal=refusal)
    tell(world, late if is_tagged else replace(late, tag=None))
    look_after(world)
    held = world.instances.find("default").restriction
    assert held is not None
    scope = RestrictionScope.EVERYTHING if is_known else RestrictionScope.NEW_PEOPLE
    assert (held.scope, held.until_ms) == (scope, until_ms)
    row = world.row(message_id)
    assert (row.state, row.due_at_ms, row.attempts) == (State.QUEUED, until_ms, 0)


# --- people ----


def test_a_refusal_for_an_opt_out_keeps_every_later_message_from_that_person(world: World) -> None:
    """131050, in the answer and in a receipt: an opt-out, with the platform's words."""
    opted_out = refused(code="131050", consequence=Consequence.OPTED_OUT)
    ids = world.send_later("a", "b", "c")
    world.transport.script[:] = [opted_out, accepted(2), accepted(3)]
    world.drain()
    tell(world, receipt(world, 2, Receipt.FAILED, refusal=opted_out))
    assert world.rows("SELECT source, change FROM consent") == [("refusal", "opt_out")] * 2
    later = world.send_later("d", "e", "f")
    world.drain()
    assert [world.row(message_id).reason for message_id in later] == ["opted_out", "opted_out", None]
    assert [world.state(message_id) for message_id in ids] == [State.FAILED, State.FAILED, State.SENT]


def test_a_refusal_for_a_closed_window_is_remembered_for_that_person(world: World) -> None:
    """131047."""
    sent_message(world)
    closed = refused(ErrorClass.DEAD_MESSAGE, "131047", consequence=Consequence.WINDOW_CLOSED)
    tell(world, receipt(world, 1, Receipt.FAILED, refusal=closed))
    assert world.value("SELECT closed_at FROM conversation") == world.now_ms


def test_a_person_who_writes_stop_is_written_to_no_more_and_start_takes_it_back(world: World) -> None:
    """Point 4, on the way from the event to the queue."""
    ada = Person(address="+6590000001", name="Ada")
    ids = world.send_later("a", "b", in_ms=HOUR)

    def says(words: str, number: int) -> InboundEvent:
        return InboundEvent(
            number_id="1",
            provider_message_id=f"wamid.in{number}",
            at_ms=world.now_ms + number,
            person=ada,
            kind="text",
            words=words,
        )

    assert tell(world, says("please stop by at six", 1), says("Stop!", 2)) == {"inbound": 1, "opt_out": 1}
    world.drain(whole_schedule=True)
    assert [world.state(message_id) for message_id in ids] == [State.SKIPPED, State.SENT]
    assert tell(world, says("START", 3), says("Stop!", 2)) == {"opt_in": 1, "opt_out": 1}
    (again,) = world.send_later("c")
    world.drain()
    assert world.state(again) is State.SENT


def test_the_way_whatsapp_spells_a_number_leads_to_the_same_person(world: World) -> None:
    """A receipt carries the number as WhatsApp has it; what that number writes later is theirs."""
    sent_message(world)
    event = receipt(world, 1, Receipt.DELIVERED)
    other = Person(address="+65900000010", user_id="SG.1")
    tell(world, replace(event, person=other))
    inbound = InboundEvent(
        number_id="1", provider_message_id="wamid.in", at_ms=world.now_ms, person=other, kind="text", words="STOP"
    )
    tell(world, inbound)
    assert world.rows("SELECT address FROM contact WHERE opted_out_at IS NOT NULL") == [("+6590000001",)]


def test_what_is_written_to_another_number_of_the_business_counts_only_as_a_stop(world: World) -> None:
    """Point 4: a wish to leave holds across all numbers, also those that this wa does not send for."""
    event = InboundEvent(
        number_id="2",
        provider_message_id="wamid.in",
        at_ms=1,
        person=Person(address="+6590000001"),
        kind="text",
        words="Hello",
    )
    assert tell(world, event, replace(event, words="START")) == {"foreign": 2}
    assert world.value("SELECT count(*) FROM contact") == 0
    assert tell(world, replace(event, words="STOP", provider_message_id="wamid.2")) == {"opt_out": 1}
    assert world.value("SELECT opted_out_at FROM contact") == 1
    assert world.value("SELECT count(*) FROM inbound") == 0


# --- people who have opted out -------------------------------------------------------------------------------------


def test_nobody_writes_to_a_person_who_opted_out_after_the_message_was_queued(world: World) -> None:
    """Fault 88: checked at the instant of the start."""
    ids = world.send_later("a", "b", in_ms=HOUR)
    world.execute("UPDATE contact SET opted_out_at = ? WHERE address = '+6590000001'", world.now_ms)
    world.drain(whole_schedule=True)
    assert [posted.post.address for posted in world.transport.posts] == ["+6590000002"]
    assert world.state(ids[0]) is State.SKIPPED
    assert world.row(ids[0]).reason == "opted_out"
