"""A gateway that misbehaves, met by the real client: what may have been accepted is unknown and posted once."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING

from rig import Household, magic, number

if TYPE_CHECKING:
    from collections.abc import Callable

# The ending of a number, what the sandbox does with it, whether it took the message, and the code of the evidence.
AMBIGUOUS = (
    ("9408", "accept, then hang", True, "no_answer_in_time"),
    ("9499", "accept, then reset", True, "connection_reset"),
    ("9206", "accept, then cut the JSON", True, "answer_cut"),
    ("9200", "accept, then a page of HTML with 200", True, "unreadable_success"),
    ("9204", "accept, then an empty 200", True, "unreadable_success"),
    ("9503", "accept, then 503 without a body", True, "http_503_without_verdict"),
    ("9307", "redirect to somewhere else", False, "redirect"),
)


def test_what_may_have_been_accepted_is_unknown_posted_once_and_settled_by_hand(
    make_home: Callable[..., Household],
) -> None:
    """Promises P2, P3, P4; rows 47, 48, 49, 50, 51, 55: `wa drain` exits 5 and `wa reconcile --mark` settles."""
    # Long enough for every good answer, however busy the machine is: one post alone waits for it to the end.
    home = make_home(WA_READ_TIMEOUT_MS="4000", WA_CONCURRENCY="1")
    rows = ["recipient,message"]
    for index, (ending, what, *_rest) in enumerate(AMBIGUOUS):
        # A good answer between two bad ones: three bad ones in a row would make the instance rest.
        rows += [f'{magic(ending)},"{what}"', f"{number(index)},all is well"]
    file = home.folder / "rows.csv"
    file.write_text("\n".join(rows) + "\n")
    queued = home.wa("send", "batch", file, "--delay", "0", "--json")
    assert queued.exit == 0, queued.err
    home.acknowledge(queued)
    ids = {message["recipient"]: message["id"] for message in queued.json()["messages"]}

    drained = home.wa("drain", "--json")
    assert drained.exit == 5, drained.err
    assert drained.json()["unknown"] == len(AMBIGUOUS)
    assert drained.json()["sent"] == len(AMBIGUOUS)
    home.audit().assert_sound(unknown=len(AMBIGUOUS))

    listed = home.wa("reconcile", "--json")
    assert listed.exit == 5
    evidence = {one["id"]: one["evidence_code"] for one in listed.json()["unknown_messages"]}
    assert evidence == {ids[magic(ending)]: code for ending, _what, _accepted, code in AMBIGUOUS}

    again = home.wa("drain", "--json")
    assert (again.exit, again.json()["sent"]) == (0, 0)
    for ending, *_rest in AMBIGUOUS:
        assert len(home.sandbox.posts_to(magic(ending))) == 1, ending

    for was_accepted, mark in ((True, "sent"), (False, "not-sent")):
        chosen = [ids[magic(ending)] for ending, _what, accepted, _code in AMBIGUOUS if accepted is was_accepted]
        marked = home.wa("reconcile", "--mark", mark, *chosen, "--json")
        assert (marked.exit, marked.json()["marked"]) == (0, chosen), marked.err
    assert home.wa("reconcile").exit == 0
    home.audit().assert_sound()


def test_a_storm_of_unreadable_answers_makes_three_unknowns_and_no_more(make_home: Callable[..., Household]) -> None:
    """Promise P4; row 51: the instance rests after three in a row, the rest of the queue keeps its place."""
    home = make_home(WA_CONCURRENCY="1")
    home.sandbox.fault("503_empty", times=20)
    home.queue(10)
    # It does not sit out a rest (30 s or more) that ends after its own time.
    drained = home.wa("drain", "--max-runtime", "25s", "--json")
    assert (drained.exit, drained.json()["unknown"], drained.json()["remaining"]) == (5, 3, 7)
    home.audit().assert_sound(unknown=3, open=7)
    assert len(home.sandbox.entries()) == 3


def test_a_server_error_with_a_verdict_is_retried_at_its_due_time_and_sent_once(
    make_home: Callable[..., Household],
) -> None:
    """Rows T5, S7, H8; rows 51, 53: HTTP 500 with code 131000 is a refusal, so trying again is safe."""
    home = make_home(WA_RETRY="exponential", RETRY_BASE_BACKOFF_MS="300", RATE_LIMIT_MS="0")
    flaky = home.send(magic("9002"), "third time lucky")
    hopeless = home.send(magic("9500"), "never", "--max-attempts", "2")
    drained = home.wa("drain", "--max-runtime", "50s", "--json")
    assert drained.exit == 3, drained.err
    assert (home.state(flaky), home.state(hopeless)) == ("sent", "failed")
    posts = home.sandbox.posts_to(magic("9002"))
    assert [post["verdict"] for post in posts] == ["rejected:131000", "rejected:131000", "accepted"]
    first, second = (later["received_at"] - earlier["received_at"] for earlier, later in pairwise(posts))
    assert first >= 0.28
    assert second >= 0.58
    assert len(home.sandbox.posts_to(magic("9500"))) == 2
    home.audit().assert_sound()


def test_without_a_gateway_nothing_is_sent_or_burned_and_all_of_it_goes_out_soon_after(home: Household) -> None:
    """Rows S8, 58; promise P9: the queue is kept, no attempt is counted, and no rest is longer than 10 s."""
    home.sandbox.stop()
    home.queue(3)
    daemon = home.daemon()
    daemon.wait_for_line("connect_refused")
    assert home.read("SELECT count(*) FROM message WHERE state IN ('queued', 'sending')") == [(3,)]
    assert home.read("SELECT max(attempts) FROM message") == [(0,)]
    home.sandbox.start()
    ((rests_until_ms,),) = home.read("SELECT rests_until FROM instance")
    assert (rests_until_ms or 0) / 1000 - time.time() <= 10.0
    home.sandbox.wait_for_posts(3)
    home.wait_for_states(sent=3)
    home.audit().assert_sound()
    assert home.read("SELECT max(attempts) FROM message") == [(1,)]


def test_a_drain_without_a_gateway_ends_and_says_that_it_may_be_repeated(home: Household) -> None:
    """Row 58: cron's drain does not sit there until the gateway is back; exit 8 is for trying again later."""
    home.sandbox.stop()
    home.queue(3)
    drained = home.wa("drain", "--json")
    assert drained.exit == 8, drained
    home.audit().assert_sound(open=3)
    home.sandbox.start()
    assert home.wa("drain").exit == 0
    home.audit().assert_sound()


def test_a_token_that_dies_half_way_pauses_the_instance_and_loses_nothing(make_home: Callable[..., Household]) -> None:
    """Row 61: no row failed, exit 4, and `wa instance resume` goes on where it stopped."""
    home = make_home("--token-expires-after", "4", WA_CONCURRENCY="2")
    home.queue(10)
    drained = home.wa("drain", "--json")
    assert drained.exit == 4, drained.err
    assert "190" in drained.err
    assert "wa instance resume default" in drained.err
    assert home.states() == {"sent": 4, "queued": 6}
    assert home.read("SELECT max(attempts) FROM message WHERE state = 'queued'") == [(0,)]
    (instance,) = home.wa("status", "--json").json()["instances"]
    assert instance["state"] == "paused"
    posts = len(home.sandbox.entries())
    assert posts <= 6
    assert home.wa("drain").exit == 4
    assert len(home.sandbox.entries()) == posts
    home.sandbox.set(token_expires_after=None)
    assert home.wa("instance", "resume", "default").exit == 0
    assert home.wa("drain").exit == 0
    home.audit().assert_sound()
    assert home.states() == {"sent": 10}


def test_the_pair_limit_defers_one_recipient_and_nobody_else(home: Household) -> None:
    """Row 53: 131056 costs no attempt and makes no other message wait."""
    home.sandbox.set(retry_after_seconds=6)  # longer than the usual second, so that nothing else can take as long
    home.sandbox.fault("pair", to=number(0))
    home.queue(5)
    assert home.wa("drain").exit == 0
    posts = home.sandbox.entries()
    limited = number(0).removeprefix("+")
    refused, last = (post for post in posts if post["to"] == limited)
    others = [post for post in posts if post["to"] != limited]
    assert (refused["verdict"], last["verdict"]) == ("rejected:131056", "accepted")
    assert {post["to"] for post in others} == {number(index).removeprefix("+") for index in range(1, 5)}
    assert posts[-1] == last
    assert max(post["received_at"] for post in others) - refused["received_at"] < 5.98
    assert last["received_at"] - refused["received_at"] >= 5.98
    home.audit().assert_sound()
    assert home.read("SELECT max(attempts) FROM message") == [(1,)]


def test_the_throughput_limit_rests_the_instance_and_costs_no_attempt(make_home: Callable[..., Household]) -> None:
    """Row 53: after 130429 nothing at all leaves for a while, then the rest at a slower pace."""
    home = make_home(WA_CONCURRENCY="1")
    home.queue(2)
    assert home.wa("drain").exit == 0
    home.sandbox.fault("throttle")
    home.queue(4, first=10)
    assert home.wa("drain").exit == 0
    posts = home.sandbox.entries()
    assert [post["verdict"] for post in posts[2:4]] == ["rejected:130429", "accepted"]
    assert posts[3]["received_at"] - posts[2]["received_at"] >= 1.48
    home.audit().assert_sound()
    assert home.states() == {"sent": 6}
    assert home.read("SELECT max(attempts) FROM message") == [(1,)]
