"""People who answer: STOP and START by real webhooks, beside a daemon that has their messages in its queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rig import number, until
from test_delivery import Receiver, fast_home  # noqa: F401  # a fixture

if TYPE_CHECKING:
    from rig import Household

RIO, RIO_AS_WHATSAPP_SPELLS_IT = "+5511987654321", "551187654321"


def say(home: Household, who: str, words: str) -> None:
    """They write to us; returns once it has been read here."""
    (before,) = home.read("SELECT count(*) FROM inbound")[0]
    home.sandbox._call("POST", "inbound", {"from": who.removeprefix("+"), "text": words})
    until(lambda: home.read("SELECT count(*) FROM inbound")[0][0] > before, f"'{words}' to be heard")


def test_nobody_who_has_said_stop_is_written_to_whatever_was_queued_before_and_however_they_come_back(
    fast_home: Household,  # noqa: F811
) -> None:
    """Fault 88: queued before the opt-out, added back, in another spelling; then START.  Posts to them: none."""
    Receiver(fast_home)
    fast_home.daemon()
    fast_home.wa("instance", "pause", "default")
    queued = [fast_home.send(one, "before") for one in (number(1), RIO, number(2))]
    say(fast_home, number(1), "Stop!")
    say(fast_home, RIO_AS_WHATSAPP_SPELLS_IT, "PARE")
    say(fast_home, number(2), "please stop by at six")
    fast_home.wa("instance", "resume", "default")
    fast_home.wait_for_states(skipped=2, sent=1)
    assert [fast_home.state(one) for one in queued] == ["skipped", "skipped", "sent"]
    assert "opted out" in fast_home.wa("message", "explain", queued[0]).out

    fast_home.wa("subgroup", "create", "vip")
    assert fast_home.wa("subgroup", "add", "vip", number(1), RIO, "--json").json()["opted_out"] == 2
    assert fast_home.wa("send", "subgroup", "vip", "after").exit == 6
    assert fast_home.wa("send", "to", "+55 11 8765-4321", "--text", "after").exit == 6
    assert fast_home.sandbox.posts_to(number(1)) == []
    assert fast_home.sandbox.posts_to(RIO) == []

    say(fast_home, number(1), "Start")
    back = fast_home.send(number(1), "welcome back")
    until(lambda: fast_home.state(back) == "sent", "the first message after START")
    assert len(fast_home.sandbox.posts_to(number(1))) == 1
    ledger = fast_home.wa("contact", "show", number(1), "--json").json()["consent"]
    assert [(row["change"], row["source"], row["wording"]) for row in ledger] == [
        ("opt_out", "message", "Stop!"),
        ("opt_in", "message", "Start"),
    ]
    assert fast_home.wa("db", "check").exit == 0


def test_an_erased_person_who_had_said_stop_stays_away_and_the_counts_stay_true(
    fast_home: Household,  # noqa: F811
) -> None:
    """Fault 88, promises P10, P11, P13."""
    receiver = Receiver(fast_home)
    fast_home.daemon()
    sent = fast_home.send(number(1), "hello")
    until(lambda: fast_home.state(sent) == "sent", "the message to leave")
    say(fast_home, number(1), "STOP")
    receiver.wait_until_quiet()
    before = fast_home.wa("status", "--json").json()["stats"]
    erased = fast_home.wa("contact", "erase", number(1), "--yes", "--json")
    assert erased.exit == 0, erased.err
    assert erased.json()["erased"][0]["webhooks"] > 0
    assert fast_home.wa("status", "--json").json()["stats"] == before
    digits = number(1).removeprefix("+").encode()
    assert fast_home.read("SELECT count(*) FROM webhook_logs WHERE instr(body, ?) > 0", digits) == [(0,)]
    assert fast_home.wa("send", "to", number(1), "--text", "hello again").exit == 6
    assert len(fast_home.sandbox.posts_to(number(1))) == 1
    assert fast_home.wa("db", "check").exit == 0
