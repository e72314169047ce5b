"""`wa pool`: several numbers behind one name, from the queue to the post."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from stored import finish, start_all

from wa_cli.domain.connection import Connection, ConnectionState
from wa_cli.domain.outcome import Accepted, NotSent
from wa_cli.ports import Lease, NewInstance
from wa_cli.sandbox import serve_in_thread

if TYPE_CHECKING:
    from conftest import Wa

    from wa_cli.bootstrap import App

PEOPLE = [f"+658123{index:04}" for index in range(40)]
READY = Connection(state=ConnectionState.READY, raw="WORKING")


@pytest.fixture
def numbers(app: App) -> list[str]:
    """Three linked devices that are ready, two of them in the pool `club`."""
    for name in ("a", "b", "c"):
        added = app.instances.add(
            NewInstance(
                name=name,
                transport="waha",
                settings={"url": "http://127.0.0.1:9", "session": name},
                secrets={},
                profile=None,
                limits={},
                connection=ConnectionState.CONNECTING,
            ),
            now_ms=app.clock.wall_ms(),
        )
        app.instances.note_connection(added.id, READY, now_ms=app.clock.wall_ms())
    return ["a", "b", "c"]


@pytest.fixture
def club(wa: Wa, numbers: list[str]) -> str:
    assert wa("pool", "create", "club", "a", "b").exit == 0
    return "club"


def send(wa: Wa, *people: str, text: str = "hello", name: str = "club") -> dict[str, str]:
    """Queue for them.  Returns who writes to whom."""
    assert wa("send", "to", *people, "--text", text, "--instance", name, "--delay", "0").exit == 0
    return holders(wa, limit=len(people))


def holders(wa: Wa, *, limit: int = 1000) -> dict[str, str]:
    messages = wa("message", "list", "--json", "--limit", str(limit)).json()["messages"]
    return {one["recipient"]: one["instance"] for one in messages}


def test_a_pool_shares_new_people_and_keeps_everybody_with_their_number(wa: Wa, club: str) -> None:
    """Issue 6, point 7; row S9."""
    first = send(wa, *PEOPLE)
    assert Counter(first.values()) == {"a": 20, "b": 20}
    assert send(wa, *reversed(PEOPLE), text="again") == first
    shown = wa("pool", "show", club, "--json").json()
    assert [(one["name"], one["people"], one["waiting"]) for one in shown["instances"]] == [
        ("a", 20, 40),
        ("b", 20, 40),
    ]


def test_whom_a_member_wrote_to_under_its_own_name_stays_with_it(wa: Wa, club: str) -> None:
    """Issue 6, point 7."""
    send(wa, *PEOPLE[:10], name="b")
    assert set(send(wa, *PEOPLE[:10], text="again").values()) == {"b"}


def test_the_same_words_to_the_same_person_are_a_duplicate_across_the_pool(wa: Wa, club: str) -> None:
    """Promise P2; row T4."""
    send(wa, *PEOPLE[:4])
    again = wa("send", "to", *PEOPLE[:4], "--text", "hello", "--instance", club, "--json").json()
    assert (again["queued"], again["duplicates"]) == (0, 4)


def test_new_people_are_not_given_to_a_number_that_cannot_send(wa: Wa, club: str, app: App) -> None:
    """Issue 6, point 7."""
    assert wa("instance", "pause", "a").exit == 0
    assert set(send(wa, *PEOPLE[:10]).values()) == {"b"}


def take(app: App, name: str) -> Lease:
    lease = app.leases.acquire(app.instances.find(name).id, role="drain", now_ms=app.clock.wall_ms())
    assert isinstance(lease, Lease)
    return lease


def test_what_waits_for_a_lost_number_goes_to_another_unless_that_number_may_have_written(
    wa: Wa, club: str, app: App
) -> None:
    """Issue 6, point 7; promise P2: failover only where the first attempt is provably unsent."""
    first = send(wa, *PEOPLE[:8])
    of_a = [person for person in PEOPLE[:8] if first[person] == "a"]
    lease = take(app, "a")
    started = start_all(app, lease)
    accepted = Accepted(provider_message_id="3EB0A", http_status=201)
    refused = NotSent(code="connect_refused", details="nobody there")
    # One was accepted, one was provably not sent, the others are on their way when the process dies.
    finish(app, started[:1], accepted)
    finish(app, started[1:2], refused)
    app.leases.release(lease)
    written = {started[0][0].address, *(due.address for due, _attempt in started[2:])}
    assert send(wa, *of_a, text="later").keys() == set(of_a)
    assert wa("instance", "pause", "a").exit == 0
    app.look_after_pools()
    waiting = wa("message", "list", "--state", "queued", "--json").json()["messages"]
    now_with = {(one["recipient"], one["instance"]) for one in waiting if one["recipient"] in of_a}
    unsent = started[1][0].address
    assert {who for who, name in now_with if name == "b"} == {unsent}
    assert {who for who, name in now_with if name == "a"} == written & {who for who, _name in now_with}
    moved = next(one for one in waiting if one["recipient"] == unsent)
    assert "moved" in wa("message", "explain", moved["id"]).out
    assert wa("db", "check").exit == 0
    assert set(send(wa, unsent, text="and again").values()) == {"b"}


def test_a_pool_that_nobody_can_send_for_keeps_what_it_has(wa: Wa, club: str, app: App) -> None:
    """Nothing is lost."""
    first = send(wa, *PEOPLE[:6])
    for name in ("a", "b"):
        assert wa("instance", "pause", name).exit == 0
    assert app.look_after_pools() == 0
    assert holders(wa) == first


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (("create", "a", "b"), "pool_exists", 7),
        (("create", "club", "b"), "pool_exists", 7),
        (("create", "new", "zz"), "no_instance", 2),
        (("create", "new", "a", "a"), "usage", 2),
        (("create", "7", "a"), "usage", 2),
        (("show", "nobody"), "no_pool", 2),
    ],
)
def test_what_cannot_be_meant_is_refused(wa: Wa, club: str, words: tuple[str, ...], code: str, exit_code: int) -> None:
    refused = wa("pool", *words, "--json")
    assert (refused.exit, refused.error()["code"]) == (exit_code, code)


def test_members_come_and_go(wa: Wa, club: str) -> None:
    """Issue 6, point 7."""
    assert "a, b, c" in wa("pool", "add", club, "c").out
    first = send(wa, *PEOPLE[:9])
    assert set(first.values()) == {"a", "b", "c"}
    assert wa("pool", "remove", club, "c").exit == 0
    assert set(send(wa, *PEOPLE[:9], text="again").values()) <= {"a", "b"}
    assert wa("--yes", "pool", "delete", club).exit == 0
    assert wa("pool", "list", "--json").json() == {"pools": [], "count": 0}


def test_a_number_whose_budget_of_new_chats_is_spent_gets_nobody_new(wa: Wa, club: str, app: App) -> None:
    """Issue 6, points 6 and 7."""
    with app.database.write() as connection:
        connection.execute("UPDATE instance SET limits = '{\"new_chats_per_day\":3}' WHERE name = 'a'")
    assert Counter(send(wa, *PEOPLE[:10]).values()) == {"a": 3, "b": 7}


def write_sale(wa: Wa) -> None:
    """A campaign for the pool, and its people."""
    wa.write("people.csv", "phone\n" + "\n".join(PEOPLE) + "\n")
    wa.write(
        "sale.toml", 'instance = "club"\n[message]\ntext = "The sale begins"\n[audience]\nfiles = ["people.csv"]\n'
    )


def test_a_campaign_names_its_pool_and_says_which_numbers_send(wa: Wa, club: str) -> None:
    """Issue 5, point 1; issue 6, point 7."""
    write_sale(wa)
    assert wa("campaign", "create", "sale.toml").exit == 0
    assert wa("campaign", "validate", "sale").exit == 0
    planned = wa("campaign", "plan", "sale")
    assert planned.exit == 0, planned.err
    assert "a 20, b 20" in planned.out
    shown = wa("campaign", "plan", "sale", "--json").json()
    assert shown["by_instance"] == {"a": 20, "b": 20}
    started = wa("campaign", "apply", "sale", "--plan", shown["plan_id"])
    assert started.exit == 0, started.err
    assert Counter(holders(wa).values()) == {"a": 20, "b": 20}
    assert wa("campaign", "show", "sale").exit == 0
    report = wa("campaign", "report", "sale", "--json")
    assert report.exit == 0, report.err
    assert wa("db", "check").exit == 0


def test_a_sample_of_a_campaign_comes_from_the_number_that_its_reader_has(wa: Wa, club: str) -> None:
    """Issue 5, point 8; issue 6, point 7."""
    send(wa, PEOPLE[0], name="b")
    write_sale(wa)
    assert wa("campaign", "create", "sale.toml").exit == 0
    assert wa("campaign", "test", "sale", "--to", PEOPLE[0]).exit == 0
    sent = wa("message", "list", "--json").json()["messages"]
    assert {one["instance"] for one in sent if one["recipient"] == PEOPLE[0]} == {"b"}


@pytest.mark.timeout(120)
def test_a_wait_stays_until_every_number_of_the_pool_has_sent(
    wa: Wa, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise P7; issue 6, point 7."""
    with serve_in_thread() as sandbox:
        monkeypatch.setenv("SANDBOX_TOKEN", sandbox.settings.token)
        for name in ("x", "y"):
            new = NewInstance(
                name=name,
                transport="cloud_api",
                settings={"url": sandbox.messages_url},
                secrets={"key": "SANDBOX_TOKEN"},
                profile=None,
                limits={},
                connection=None,
            )
            app.instances.add(new, now_ms=app.clock.wall_ms())
        assert wa("pool", "create", "club", "x", "y").exit == 0
        sent = wa("send", "to", *PEOPLE[:6], "--text", "hello", "--instance", "club", "--delay", "0", "--wait")
        assert (sent.exit, sent.out.splitlines()[-1]) == (0, "6 sent"), sent.err
        assert Counter(holders(wa).values()) == {"x": 3, "y": 3}
        assert len(sandbox.ledger) == 6
